/*
 * capture.c: what became of frames, kept until somebody takes it.  No part of the state: the guests cannot tell.
 */
#include "../cluster.h"

#include <stdlib.h>

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static bool room(struct cc_capture *t, size_t need)
{
    if (t->size + need <= t->cap)
        return true;
    const size_t wanted = (t->cap ? 2 * t->cap : 65536) + need, cap = wanted < t->max ? wanted : t->max;
    uint8_t *data = t->size + need <= cap ? realloc(t->data, cap) : NULL;
    if (!data)
        return false;
    t->data = data;
    t->cap = cap;
    return true;
}

void cc_capture_frame(void *arg, const struct cc_frame *f, uint32_t dst, uint64_t arrival, uint32_t fate)
{
    cc_cluster *c = arg;
    struct cc_capture *t = &c->capture;
    const cc_tap_record r = {.switched_vns = c->vns, .sent_vns = f->vns, .arrival_vns = arrival, .serial = f->serial,
                             .src = f->src, .dst = dst, .size = f->size, .fate = fate};
    const size_t need = sizeof r + padded(f->size);
    if (!room(t, need)) {
        t->lost++;
        return;
    }
    memset(t->data + t->size, 0, need);
    memcpy(t->data + t->size, &r, sizeof r);
    memcpy(t->data + t->size + sizeof r, f->data, f->size);
    t->size += need;
}

void cc_tap_set(cc_cluster *c, size_t bytes_max)
{
    struct cc_capture *t = &c->capture;
    free(t->data);
    memset(t, 0, sizeof *t);
    t->max = bytes_max;
}

size_t cc_tap_take(cc_cluster *c, uint8_t *dst, size_t cap, uint64_t *lost)
{
    struct cc_capture *t = &c->capture;
    size_t size = 0;
    while (size < t->size) {
        cc_tap_record r;
        memcpy(&r, t->data + size, sizeof r);
        if (size + sizeof r + padded(r.size) > cap)
            break;
        size += sizeof r + padded(r.size);
    }
    if (size) {
        memcpy(dst, t->data, size);
        memmove(t->data, t->data + size, t->size - size);
        t->size -= size;
    }
    *lost = t->lost;
    t->lost = 0;
    return size;
}
