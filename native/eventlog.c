/*
 * eventlog.c: the queue of events that a machine offers to whoever watches it.  Host-side only: it is neither state nor
 * seen by the guest, and when nobody takes what is in it, the oldest records give way.
 */
#include "machine.h"

#include <stdlib.h>

#define QUEUE_BYTES_MAX (16u << 20)

struct cc_eventlog {
    uint8_t *data;             /* records from `first` to `end`, in one piece */
    size_t first, end, cap;
    uint64_t lost;
};

int cc_eventlog_new(cc_machine *m)
{
    m->events = calloc(1, sizeof *m->events);
    return m->events ? CC_OK : cc_fail(m, CC_ENOMEM, "the host refused memory for the event queue");
}

void cc_eventlog_free(cc_machine *m)
{
    if (m->events)
        free(m->events->data);
    free(m->events);
    m->events = NULL;
}

static size_t padded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static size_t record_at(const struct cc_eventlog *q, size_t at)
{
    cc_event e;
    memcpy(&e, q->data + at, sizeof e);
    return sizeof e + padded(e.size);
}

static void drop_oldest(struct cc_eventlog *q)
{
    q->first += record_at(q, q->first);
    q->lost++;
}

/* Room for `need` more bytes at the end; false if the host has no memory for it. */
static bool make_room(struct cc_eventlog *q, size_t need)
{
    while (q->first < q->end && q->end - q->first + need > QUEUE_BYTES_MAX)
        drop_oldest(q);
    if (q->end + need <= q->cap)
        return true;
    if (q->first)              /* never so while there is no memory yet */
        memmove(q->data, q->data + q->first, q->end - q->first);
    q->end -= q->first;
    q->first = 0;
    if (q->end + need <= q->cap / 2)
        return true;           /* growing only when half would not do keeps the moves rare */
    const size_t cap = q->cap ? q->cap * 2 : 16384;
    uint8_t *data = realloc(q->data, cap);
    if (data) {
        q->data = data;
        q->cap = cap;
    }
    return q->end + need <= q->cap;
}

void cc_event_log(cc_machine *m, uint32_t kind, const void *payload, size_t size)
{
    struct cc_eventlog *q = m->events;
    if (size > CC_EVENT_BYTES_MAX)
        size = CC_EVENT_BYTES_MAX;
    const size_t need = sizeof(cc_event) + padded(size);
    if (!make_room(q, need)) {
        q->lost++;
        return;
    }
    const cc_event e = {.vns = cc_now(m), .instret = m->instret, .kind = kind, .size = (uint32_t)size};
    memset(q->data + q->end, 0, need);
    memcpy(q->data + q->end, &e, sizeof e);
    if (size)
        memcpy(q->data + q->end + sizeof e, payload, size);
    q->end += need;
}

size_t cc_events_take(cc_machine *m, uint8_t *dst, size_t cap, uint64_t *lost)
{
    struct cc_eventlog *q = m->events;
    size_t size = 0;
    while (q->first + size < q->end && size + record_at(q, q->first + size) <= cap)
        size += record_at(q, q->first + size);
    if (size)
        memcpy(dst, q->data + q->first, size);
    q->first += size;
    if (q->first == q->end)
        q->first = q->end = 0;
    *lost = q->lost;
    q->lost = 0;
    return size;
}
