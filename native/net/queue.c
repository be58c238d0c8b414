/*
 * queue.c: a machine's outbox and inbox, in CC_AUX_NET.
 *
 * The area is a header page, the inbox's index (a binary heap by arrival, then by the order of queueing) and slots of
 * 2 KiB, one per frame.  The outbox fills its slots from the first one on and starts anew whenever it is empty; the
 * inbox takes the lowest free slot.  So a machine with little traffic touches the same few pages all the time, and
 * where a frame lies follows from what was queued and taken, nothing else.
 */
#include "net.h"

#define OUT_SLOTS 1024u
#define IN_SLOTS 3008u
#define SLOT_BYTES 2048u
#define HEAP_AT 4096u
#define SLOTS_AT 131072u

struct head {
    uint64_t serial;           /* frames sent so far */
    uint64_t order;            /* frames queued for arrival so far */
    uint64_t out_dropped, in_dropped;
    uint32_t out_first, out_count;
    uint32_t in_count;
    uint32_t pad;
    uint64_t used[IN_SLOTS / 64];
};

struct entry {
    uint64_t vns, order;
    uint32_t slot;
    uint32_t pad;
};

struct slot {
    uint64_t vns, serial;
    uint32_t src, size;
    uint8_t data[SLOT_BYTES - 24];
};

_Static_assert(IN_SLOTS % 64 == 0 && sizeof(struct head) <= HEAP_AT, "layout");
_Static_assert(HEAP_AT + IN_SLOTS * sizeof(struct entry) <= SLOTS_AT, "layout");
_Static_assert(sizeof(struct slot) == SLOT_BYTES && CC_FRAME_BYTES_MAX <= SLOT_BYTES - 24, "layout");
_Static_assert(SLOTS_AT + (OUT_SLOTS + IN_SLOTS) * SLOT_BYTES <= CC_AUX_NET_BYTES, "layout");

static bool has_boxes(const cc_machine *m)
{
    return m->aux[CC_AUX_NET].size != 0;
}

static const struct head *head_of(const cc_machine *m)
{
    return cc_aux(m, CC_AUX_NET, 0);
}

static struct head *head_to_write(cc_machine *m)
{
    return cc_aux_will_change(m, CC_AUX_NET, 0, sizeof(struct head));
}

/* Slots of the outbox come first, then those of the inbox. */
static uint64_t slot_at(uint32_t slot)
{
    return SLOTS_AT + (uint64_t)slot * SLOT_BYTES;
}

static void slot_read(const cc_machine *m, uint32_t slot, struct cc_frame *out)
{
    const struct slot *s = cc_aux(m, CC_AUX_NET, slot_at(slot));
    out->vns = s->vns;
    out->serial = s->serial;
    out->src = s->src;
    out->size = s->size;
    out->data = s->data;
}

/* The bytes behind the frame stay what they were: no more is marked as changed than is written. */
static void slot_write(cc_machine *m, uint32_t slot, const struct cc_frame *f)
{
    struct slot *s = cc_aux_will_change(m, CC_AUX_NET, slot_at(slot), offsetof(struct slot, data) + f->size);
    s->vns = f->vns;
    s->serial = f->serial;
    s->src = f->src;
    s->size = f->size;
    memcpy(s->data, f->data, f->size);
}

bool cc_has_network(const cc_machine *m)
{
    return has_boxes(m);
}

void cc_net_reset(cc_machine *m)
{
    if (!has_boxes(m))
        return;
    /* What it has sent is on the wire.  A machine that is new has nothing to change. */
    if (head_of(m)->in_count) {
        struct head *h = head_to_write(m);
        h->in_count = 0;
        memset(h->used, 0, sizeof h->used);
    }
    cc_event_set(m, CC_EV_NET, CC_NEVER);
}

/* ---- outbox ------------------------------------------------------------------------------------------------------ */
bool cc_outbox_push(cc_machine *m, const uint8_t *data, uint32_t size)
{
    if (!has_boxes(m) || size > CC_FRAME_BYTES_MAX)
        return false;
    struct head *h = head_to_write(m);
    if (h->out_count == OUT_SLOTS) {
        h->out_dropped++;
        return false;
    }
    const struct cc_frame f = {
        .vns = cc_now(m), .serial = h->serial++, .src = m->cfg.machine_id, .size = size, .data = data,
    };
    slot_write(m, (h->out_first + h->out_count++) % OUT_SLOTS, &f);
    return true;
}

uint64_t cc_outbox_serial(const cc_machine *m)
{
    return has_boxes(m) ? head_of(m)->serial : 0;
}

bool cc_outbox_at(const cc_machine *m, uint32_t i, struct cc_frame *out)
{
    if (!has_boxes(m) || i >= head_of(m)->out_count)
        return false;
    slot_read(m, (head_of(m)->out_first + i) % OUT_SLOTS, out);
    return true;
}

bool cc_outbox_first(const cc_machine *m, struct cc_frame *out)
{
    return cc_outbox_at(m, 0, out);
}

void cc_outbox_pop(cc_machine *m)
{
    struct head *h = head_to_write(m);
    h->out_first = --h->out_count ? (h->out_first + 1) % OUT_SLOTS : 0;
}

uint64_t cc_outbox_dropped(const cc_machine *m)
{
    return has_boxes(m) ? head_of(m)->out_dropped : 0;
}

/* ---- inbox ------------------------------------------------------------------------------------------------------- */
static struct entry entry_read(const cc_machine *m, uint32_t i)
{
    return *(const struct entry *)cc_aux(m, CC_AUX_NET, HEAP_AT + i * sizeof(struct entry));
}

static void entry_write(cc_machine *m, uint32_t i, const struct entry *e)
{
    *(struct entry *)cc_aux_will_change(m, CC_AUX_NET, HEAP_AT + i * sizeof *e, sizeof *e) = *e;
}

static bool is_before(const struct entry *a, const struct entry *b)
{
    return a->vns != b->vns ? a->vns < b->vns : a->order < b->order;
}

/* Put e where a hole at i may move towards the root. */
static void sift_up(cc_machine *m, uint32_t i, const struct entry *e)
{
    while (i) {
        const struct entry parent = entry_read(m, (i - 1) / 2);
        if (!is_before(e, &parent))
            break;
        entry_write(m, i, &parent);
        i = (i - 1) / 2;
    }
    entry_write(m, i, e);
}

/* Put e where a hole at i may move down among the first n. */
static void sift_down(cc_machine *m, uint32_t i, uint32_t n, const struct entry *e)
{
    for (uint32_t child = 2 * i + 1; child < n; child = 2 * i + 1) {
        struct entry c = entry_read(m, child);
        if (child + 1 < n) {
            const struct entry right = entry_read(m, child + 1);
            if (is_before(&right, &c)) {
                c = right;
                child++;
            }
        }
        if (!is_before(&c, e))
            break;
        entry_write(m, i, &c);
        i = child;
    }
    entry_write(m, i, e);
}

/* Put e into a hole at i of an index of n. */
static void sift(cc_machine *m, uint32_t i, uint32_t n, const struct entry *e)
{
    if (i) {
        const struct entry parent = entry_read(m, (i - 1) / 2);
        if (is_before(e, &parent)) {
            sift_up(m, i, e);
            return;
        }
    }
    sift_down(m, i, n, e);
}

static void arm(cc_machine *m)
{
    const uint64_t at = head_of(m)->in_count ? entry_read(m, 0).vns : CC_NEVER;
    if (m->dev.ev_at[CC_EV_NET] != at)
        cc_event_set(m, CC_EV_NET, at);
}

static uint32_t lowest_free(const struct head *h)
{
    uint32_t word = 0;
    while (h->used[word] == UINT64_MAX)
        word++;
    return 64 * word + (uint32_t)__builtin_ctzll(~h->used[word]);
}

bool cc_inbox_push(cc_machine *m, const struct cc_frame *f)
{
    if (!has_boxes(m) || f->size > CC_FRAME_BYTES_MAX)
        return false;
    struct head *h = head_to_write(m);
    if (h->in_count == IN_SLOTS) {
        h->in_dropped++;
        return false;
    }
    const struct entry e = {.vns = f->vns, .order = h->order++, .slot = lowest_free(h)};
    h->used[e.slot / 64] |= UINT64_C(1) << e.slot % 64;
    slot_write(m, OUT_SLOTS + e.slot, f);
    sift_up(m, h->in_count++, &e);
    arm(m);
    return true;
}

bool cc_inbox_first(const cc_machine *m, struct cc_frame *out)
{
    if (!has_boxes(m) || head_of(m)->in_count == 0)
        return false;
    slot_read(m, OUT_SLOTS + entry_read(m, 0).slot, out);
    return true;
}

void cc_inbox_remove(cc_machine *m, uint32_t place)
{
    struct head *h = head_to_write(m);
    const uint32_t slot = entry_read(m, place).slot, n = --h->in_count;
    h->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    if (place < n) {
        const struct entry last = entry_read(m, n);
        sift(m, place, n, &last);
    }
    arm(m);
}

void cc_inbox_pop(cc_machine *m)
{
    cc_inbox_remove(m, 0);
}

uint32_t cc_inbox_count(const cc_machine *m)
{
    return has_boxes(m) ? head_of(m)->in_count : 0;
}

uint32_t cc_inbox_room(const cc_machine *m)
{
    return has_boxes(m) ? IN_SLOTS - head_of(m)->in_count : 0;
}

/* ---- frames in the inbox that are not the first -------------------------------------------------------------------- */
uint64_t cc_inbox_at(const cc_machine *m, uint32_t place, struct cc_frame *out)
{
    const struct entry e = entry_read(m, place);
    slot_read(m, OUT_SLOTS + e.slot, out);
    return e.order;
}

void cc_inbox_move(cc_machine *m, uint32_t place, uint64_t vns)
{
    struct entry e = entry_read(m, place);
    struct slot *s = cc_aux_will_change(m, CC_AUX_NET, slot_at(OUT_SLOTS + e.slot), offsetof(struct slot, serial));
    s->vns = e.vns = vns;
    sift(m, place, head_of(m)->in_count, &e);
    arm(m);
}

void cc_inbox_write(cc_machine *m, uint32_t place, const uint8_t *data)
{
    const uint32_t slot = OUT_SLOTS + entry_read(m, place).slot;
    struct cc_frame f;
    slot_read(m, slot, &f);
    f.data = data;
    slot_write(m, slot, &f);
}
