/*
 * flight.c: frames on their way between machines, one by one: what there is, and edits of it.
 *
 * They wait in the inbox of their receiver.  What was sent in the present tick is still with its sender; what becomes of it
 * at the end of the tick is foreseen by switching with a copy of the fabric.  It cannot be edited before that, and need
 * not be: it arrives no earlier.
 */
#include "../cluster.h"

#include <stdlib.h>

/* ---- what there is ------------------------------------------------------------------------------------------------- */
struct list {
    uint8_t *dst;
    size_t cap, size;          /* of what fits, and of all */
    bool full;
};

static void add(struct list *l, const struct cc_frame *f, uint32_t dst, uint32_t copy, bool foreseen)
{
    const cc_flight r = {.serial = f->serial, .src = f->src, .dst = dst, .copy = copy, .size = f->size,
                         .arrival_vns = f->vns, .foreseen = foreseen};
    const size_t padded = (f->size + 7u) & ~(size_t)7, need = sizeof r + padded;
    l->full |= l->size + need > l->cap;
    if (!l->full) {
        memset(l->dst + l->size, 0, need);
        memcpy(l->dst + l->size, &r, sizeof r);
        memcpy(l->dst + l->size + sizeof r, f->data, f->size);
    }
    l->size += need;
}

/* A queued frame, by what names it. */
struct queued {
    uint64_t serial, number;
    uint32_t src, place;
};

static int by_name(const void *a, const void *b)
{
    const struct queued *x = a, *y = b;
    if (x->src != y->src)
        return x->src < y->src ? -1 : 1;
    if (x->serial != y->serial)
        return x->serial < y->serial ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

static bool same_frame(const struct queued *a, const struct queued *b)
{
    return a->src == b->src && a->serial == b->serial;
}

static int add_inbox(cc_cluster *c, struct list *l, uint32_t dst)
{
    const cc_machine *m = c->machines[dst];
    const uint32_t n = cc_inbox_count(m);
    struct queued *q = n ? malloc(n * sizeof *q) : NULL;
    struct cc_frame f;
    if (n && !q)
        return cc_cluster_fail(c, CC_ENOMEM, "the host refused memory to list %u frames", n);
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t number = cc_inbox_at(m, i, &f);
        q[i] = (struct queued){.serial = f.serial, .number = number, .src = f.src, .place = i};
    }
    if (n)
        qsort(q, n, sizeof *q, by_name);
    uint32_t copy = 0;
    for (uint32_t i = 0; i < n; i++) {
        copy = i && same_frame(&q[i], &q[i - 1]) ? copy + 1 : 0;
        cc_inbox_at(m, q[i].place, &f);
        add(l, &f, dst, copy, false);
    }
    free(q);
    return CC_OK;
}

/* Of a frame that was not switched yet there are two copies at most. */
static void add_foreseen(void *arg, const struct cc_frame *f, uint32_t dst, uint64_t arrival, uint32_t fate)
{
    if (!(fate & CC_TAP_DELIVERED))
        return;
    struct cc_frame arriving = *f;
    arriving.vns = arrival;
    add(arg, &arriving, dst, fate & CC_TAP_DUPLICATE ? 1 : 0, true);
}

/* Tell what becomes of the frames that were sent in this tick. */
static int foresee(cc_cluster *c, cc_tap_fn *tap, void *arg)
{
    struct cc_frame f;
    bool any = false;
    for (uint32_t i = 0; i < c->n && !any; i++)
        any = cc_outbox_first(c->machines[i], &f);
    if (!any)
        return CC_OK;
    struct cc_fabric *scratch = malloc(cc_fabric_size(c->n));
    if (!scratch)
        return cc_cluster_fail(c, CC_ENOMEM, "the host refused memory to foresee what becomes of frames");
    cc_fabric_foresee(c->fabric, scratch, c->machines, c->vns, cc_cluster_tick_end(c), tap, arg);
    free(scratch);
    return CC_OK;
}

int cc_flights(cc_cluster *c, uint8_t *dst, size_t cap, size_t *size)
{
    struct list l = {.dst = dst, .cap = cap};
    int rc = CC_OK;
    for (uint32_t i = 0; i < c->n && !rc; i++)
        rc = add_inbox(c, &l, i);
    if (!rc)
        rc = foresee(c, add_foreseen, &l);
    *size = l.size;
    return rc;
}

/* ---- one of them --------------------------------------------------------------------------------------------------- */
static bool is_of(const struct cc_frame *f, uint32_t src, uint64_t serial)
{
    return f->serial == serial && f->src == src;
}

/* How many copies of a frame are on their way that were queued before number `number`. */
static uint32_t copies_before(const cc_machine *m, const cc_flight *name, uint64_t number)
{
    const uint32_t n = cc_inbox_count(m);
    uint32_t copies = 0;
    struct cc_frame f;
    for (uint32_t i = 0; i < n; i++)
        copies += cc_inbox_at(m, i, &f) < number && is_of(&f, name->src, name->serial);
    return copies;
}

static bool find_queued(const cc_cluster *c, const cc_flight *name, uint32_t *place)
{
    const cc_machine *m = c->machines[name->dst];
    const uint32_t n = cc_inbox_count(m);
    struct cc_frame f;
    for (*place = 0; *place < n; ++*place) {
        const uint64_t number = cc_inbox_at(m, *place, &f);
        if (is_of(&f, name->src, name->serial) && copies_before(m, name, number) == name->copy)
            return true;
    }
    return false;
}

struct wanted {
    const cc_flight *name;
    bool found;
};

static void look_for(void *arg, const struct cc_frame *f, uint32_t dst, uint64_t arrival, uint32_t fate)
{
    struct wanted *w = arg;
    (void)arrival;
    w->found |= fate & CC_TAP_DELIVERED && dst == w->name->dst && is_of(f, w->name->src, w->name->serial)
                && w->name->copy == (fate & CC_TAP_DUPLICATE ? 1u : 0u);
}

/* Its place in the receiver's inbox. */
static int find(cc_cluster *c, const cc_flight *name, uint32_t *place)
{
    struct wanted w = {.name = name};
    int rc = cc_cluster_check_link(c, name->src, name->dst);
    if (rc || find_queued(c, name, place))
        return rc;
    rc = foresee(c, look_for, &w);
    if (rc)
        return rc;
    if (w.found)
        return cc_cluster_fail(c, CC_EINVAL, "frame %llu of machine %u is still with its sender: go to %llu ns, the end of "
                               "the tick", (unsigned long long)name->serial, name->src,
                               (unsigned long long)cc_cluster_tick_end(c));
    return cc_cluster_fail(c, CC_EINVAL, "frame %llu of machine %u is not on its way to machine %u",
                           (unsigned long long)name->serial, name->src, name->dst);
}

static int check_time(cc_cluster *c, uint64_t vns)
{
    if (vns < c->vns || vns > CC_CLUSTER_VNS_MAX)
        return cc_cluster_fail(c, CC_EINVAL, "a frame cannot arrive at %llu ns: the cluster is at %llu ns",
                               (unsigned long long)vns, (unsigned long long)c->vns);
    return CC_OK;
}

/* For a capture: what is at that place now was taken from there, or put there. */
static void tell(cc_cluster *c, uint32_t dst, uint32_t place, uint32_t fate)
{
    struct cc_frame f;
    if (!c->capture.max)
        return;
    cc_inbox_at(c->machines[dst], place, &f);
    const uint64_t arrival = f.vns;
    f.vns = c->vns;
    cc_capture_frame(c, &f, dst, arrival, fate);
}

int cc_flight_drop(cc_cluster *c, const cc_flight *name)
{
    uint32_t place;
    const int rc = find(c, name, &place);
    if (rc)
        return rc;
    tell(c, name->dst, place, CC_TAP_TAKEN);
    cc_inbox_remove(c->machines[name->dst], place);
    return CC_OK;
}

int cc_flight_move(cc_cluster *c, const cc_flight *name, uint64_t arrival_vns)
{
    uint32_t place;
    int rc = check_time(c, arrival_vns);
    if (!rc)
        rc = find(c, name, &place);
    if (rc)
        return rc;
    tell(c, name->dst, place, CC_TAP_TAKEN);
    cc_inbox_move(c->machines[name->dst], place, arrival_vns);
    find_queued(c, name, &place);              /* it has kept its number, not its place */
    tell(c, name->dst, place, CC_TAP_DELIVERED | CC_TAP_EDITED);
    return CC_OK;
}

int cc_flight_copy(cc_cluster *c, const cc_flight *name, uint64_t arrival_vns)
{
    uint8_t data[CC_FRAME_BYTES_MAX];
    struct cc_frame f;
    uint32_t place;
    int rc = check_time(c, arrival_vns);
    if (!rc)
        rc = find(c, name, &place);
    if (rc)
        return rc;
    cc_machine *m = c->machines[name->dst];
    cc_inbox_at(m, place, &f);
    memcpy(data, f.data, f.size);
    f.data = data;
    f.vns = arrival_vns;
    if (!cc_inbox_room(m))
        return cc_cluster_fail(c, CC_EINVAL, "machine %u has thousands of frames waiting and takes no more", name->dst);
    cc_inbox_push(m, &f);
    if (c->capture.max) {
        f.vns = c->vns;
        cc_capture_frame(c, &f, name->dst, arrival_vns, CC_TAP_DELIVERED | CC_TAP_DUPLICATE | CC_TAP_EDITED);
    }
    return CC_OK;
}

int cc_flight_write(cc_cluster *c, const cc_flight *name, const uint8_t *data, uint32_t size)
{
    struct cc_frame f;
    uint32_t place;
    const int rc = find(c, name, &place);
    if (rc)
        return rc;
    cc_inbox_at(c->machines[name->dst], place, &f);
    if (size != f.size)
        return cc_cluster_fail(c, CC_EINVAL, "frame %llu of machine %u has %u bytes, not %u",
                               (unsigned long long)name->serial, name->src, f.size, size);
    tell(c, name->dst, place, CC_TAP_TAKEN);
    cc_inbox_write(c->machines[name->dst], place, data);
    tell(c, name->dst, place, CC_TAP_DELIVERED | CC_TAP_EDITED);
    return CC_OK;
}
