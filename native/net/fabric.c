/*
 * fabric.c: a switch with a link from every machine to every other one, each direction by itself.
 *
 * Frames are switched in the order of the times at which they were sent, then by sender, then by the sender's count; each
 * link direction has its own random stream.  So what happens to a frame depends on the frames of its link that came before
 * it and on nothing else: not on threads, not on how a run is divided.  A frame arrives no earlier than at the beginning of
 * the tick after the one in which it was sent, which is why machines can run a tick without looking at each other.
 *
 * A link is, in this order: a wire that may be down, random loss, a queue in front of a transmitter of limited speed, a
 * delay, and corruption and duplication of what comes out.  Frames do not overtake each other, except those chosen for
 * reordering.  (The delay includes the sender's and the receiver's hardware: there are no other delays.)
 */
#include "fabric.h"

#define ETHER_HEADER_BYTES 14u
#define NS_PER_S UINT64_C(1000000000)
#define DELAY_NS_MAX UINT64_C(10000000000000000)     /* far below what virtual time can be: sums do not overflow */
#define BANDWIDTH_BPS_MIN UINT64_C(8)
#define BANDWIDTH_BPS_MAX UINT64_C(10000000000000)
#define QUEUE_BYTES_MAX (UINT64_C(1) << 30)
#define PPM 1000000u

static const uint8_t mac_prefix[5] = {0x52, 0x54, 0x00, 0x12, 0x34};   /* the sixth byte is the machine's number */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------- */
void cc_link_params_default(cc_link_params *p)
{
    memset(p, 0, sizeof *p);
    p->latency_ns = 50000;
    p->queue_bytes = 262144;
}

const char *cc_link_params_check(const cc_link_params *p)
{
    if (p->latency_ns > DELAY_NS_MAX || p->jitter_ns > DELAY_NS_MAX || p->reorder_ns > DELAY_NS_MAX)
        return "a delay is more than 10^16 ns";
    if (p->loss_ppm > PPM || p->duplicate_ppm > PPM || p->corrupt_ppm > PPM || p->reorder_ppm > PPM)
        return "a probability is more than 1000000 in a million";
    if (p->bandwidth_bps && (p->bandwidth_bps < BANDWIDTH_BPS_MIN || p->bandwidth_bps > BANDWIDTH_BPS_MAX))
        return "the bandwidth must be 0 (unlimited) or 8 to 10^13 bits per second";
    if (p->queue_bytes > QUEUE_BYTES_MAX)
        return "the queue is more than 1 GiB";
    if (p->reorder_ppm && !p->reorder_ns)
        return "reordering needs a window of at least 1 ns";
    if (p->down > 1 || p->pad)
        return "down must be 0 or 1";
    return NULL;
}

static struct cc_link_change *changes_of(const struct cc_fabric *f)
{
    return (struct cc_link_change *)(uintptr_t)&f->link[(size_t)f->n * f->n];
}

/* A change of a link: what is on its way arrives as it would have, and does not hold up what comes later. */
static void apply(struct cc_fabric *f, const struct cc_link_change *c)
{
    f->link[c->link].params = c->params;
    f->link[c->link].last_vns = 0;
}

static void apply_up_to(struct cc_fabric *f, uint64_t vns)
{
    struct cc_link_change *c = changes_of(f);
    uint32_t n = 0;
    while (n < f->changes && c[n].at <= vns)
        apply(f, &c[n++]);
    if (!n)
        return;
    const uint32_t left = f->changes - n;
    memmove(c, c + n, left * sizeof *c);
    memset(c + left, 0, n * sizeof *c);        /* so that equal fabrics are equal bytes */
    f->changes = left;
}

const cc_link_params *cc_fabric_get(const struct cc_fabric *f, uint32_t link)
{
    const struct cc_link_change *c = changes_of(f);
    for (uint32_t i = f->changes; i-- > 0;)
        if (c[i].link == link)
            return &c[i].params;
    return &f->link[link].params;
}

bool cc_fabric_set(struct cc_fabric *f, uint32_t link, uint64_t at, const cc_link_params *p)
{
    if (memcmp(cc_fabric_get(f, link), p, sizeof *p) == 0)
        return true;
    const struct cc_link_change change = {.at = at, .link = link, .params = *p};
    if (at % f->quantum_ns == 0 && !f->changes) {
        apply(f, &change);                     /* everything sent before has been switched */
        return true;
    }
    if (f->changes == f->changes_max)
        return false;
    changes_of(f)[f->changes++] = change;
    return true;
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */
static uint32_t changes_max(uint32_t n)
{
    const uint32_t links = n * n;
    return links < 256 ? 16 + 2 * links : 512;
}

size_t cc_fabric_size(uint32_t n)
{
    return sizeof(struct cc_fabric) + (size_t)n * n * sizeof(struct cc_link)
           + changes_max(n) * sizeof(struct cc_link_change);
}

static void seed_links(struct cc_fabric *f, bool branched, uint64_t branch)
{
    for (uint32_t src = 0; src < f->n; src++)
        for (uint32_t dst = 0; dst < f->n; dst++) {
            struct cc_stream *s = &f->link[src * f->n + dst].random;
            cc_stream_seed(s, f->seed);
            cc_stream_text(s, "net");
            cc_stream_number(s, src);
            cc_stream_number(s, dst);
            if (branched)
                cc_stream_number(s, branch);
        }
}

void cc_fabric_init(struct cc_fabric *f, uint32_t n, uint64_t quantum_ns, uint64_t seed)
{
    memset(f, 0, cc_fabric_size(n));
    f->quantum_ns = quantum_ns;
    f->seed = seed;
    f->n = n;
    f->changes_max = changes_max(n);
    for (uint32_t i = 0; i < n * n; i++)
        cc_link_params_default(&f->link[i].params);
    seed_links(f, false, 0);
}

void cc_fabric_reseed(struct cc_fabric *f, uint64_t branch)
{
    seed_links(f, true, branch);
}

/* ---- a frame's way ------------------------------------------------------------------------------------------------- */
/* Switching that is only foreseen: frames of each outbox that were switched, and that each inbox took. */
struct foresight { uint32_t switched[CC_CLUSTER_MACHINES_MAX], queued[CC_CLUSTER_MACHINES_MAX]; };

struct switching {
    struct cc_fabric *f;
    cc_machine *const *machines;
    uint64_t arrive_min;
    cc_tap_fn *tap;
    void *arg;
    struct foresight *foresight;   /* NULL: it is done */
};

static void tell(const struct switching *s, const struct cc_frame *f, uint32_t dst, uint64_t arrival, uint32_t fate)
{
    if (cc_unlikely(s->tap != NULL))
        s->tap(s->arg, f, dst, arrival, fate);
}

/* Bytes that take `ns` at that speed, rounded up: what is left of a frame is still there. */
static uint64_t bytes_of_ns(uint64_t ns, uint64_t bps)
{
    return (uint64_t)(((unsigned __int128)ns * bps + 8 * NS_PER_S - 1) / (8 * NS_PER_S));
}

/* When the frame has been put on the wire; false if the queue in front of it has no room. */
static bool serialise(struct cc_link *l, const struct cc_frame *f, uint64_t *vns)
{
    const uint64_t bps = l->params.bandwidth_bps;
    *vns = f->vns;
    if (!bps)
        return true;
    if (l->free_vns > f->vns) {
        if (bytes_of_ns(l->free_vns - f->vns, bps) + f->size > l->params.queue_bytes)
            return false;
        *vns = l->free_vns;
    }
    *vns += (f->size * 8 * NS_PER_S + bps - 1) / bps;
    l->free_vns = *vns;
    return true;
}

static uint64_t arrival_of(struct cc_link *l, uint64_t vns, uint32_t *fate)
{
    const cc_link_params *p = &l->params;
    vns += p->latency_ns;
    if (p->jitter_ns)
        vns += cc_stream_below(&l->random, p->jitter_ns + 1);
    if (cc_stream_chance(&l->random, p->reorder_ppm)) {
        l->count.reordered++;
        *fate |= CC_TAP_REORDERED;
        return vns + 1 + cc_stream_below(&l->random, p->reorder_ns);
    }
    l->last_vns = max_u64(l->last_vns, vns);
    return l->last_vns;
}

/* The receiver's inbox takes the frame, unless it is off or full. */
static bool takes(const struct switching *s, uint32_t dst, const struct cc_frame *f)
{
    cc_machine *m = s->machines[dst];
    if (m->dev.dead_kind != CC_STOP_NONE)
        return false;
    if (cc_likely(!s->foresight))
        return cc_inbox_push(m, f);
    return s->foresight->queued[dst]++ < cc_inbox_room(m);
}

static void put(const struct switching *s, struct cc_link *l, uint32_t dst, const struct cc_frame *f, uint64_t arrival,
                uint32_t fate)
{
    struct cc_frame arriving = *f;
    arriving.vns = arrival;
    if (takes(s, dst, &arriving)) {
        l->count.delivered++;
        l->count.delivered_bytes += f->size;
        tell(s, f, dst, arrival, fate | CC_TAP_DELIVERED);
    } else {
        l->count.lost_receiver++;
        tell(s, f, dst, 0, fate | CC_TAP_LOST_RECEIVER);
    }
}

static void flip_a_bit(struct cc_link *l, struct cc_frame *f, uint8_t *copy)
{
    memcpy(copy, f->data, f->size);
    const uint64_t bit = cc_stream_below(&l->random, (uint64_t)(f->size - ETHER_HEADER_BYTES) * 8);
    copy[ETHER_HEADER_BYTES + bit / 8] ^= (uint8_t)(1u << bit % 8);
    f->data = copy;
}

static void transmit(const struct switching *s, uint32_t dst, const struct cc_frame *sent)
{
    struct cc_link *l = &s->f->link[(size_t)sent->src * s->f->n + dst];
    const cc_link_params *p = &l->params;
    struct cc_frame f = *sent;
    uint8_t copy[CC_FRAME_BYTES_MAX];
    uint32_t fate = 0;
    uint64_t vns;
    l->count.sent++;
    l->count.sent_bytes += f.size;
    if (p->down) {
        l->count.lost_down++;
        tell(s, &f, dst, 0, CC_TAP_LOST_DOWN);
        return;
    }
    if (cc_stream_chance(&l->random, p->loss_ppm)) {
        l->count.lost_random++;
        tell(s, &f, dst, 0, CC_TAP_LOST_RANDOM);
        return;
    }
    if (!serialise(l, &f, &vns)) {
        l->count.lost_queue++;
        tell(s, &f, dst, 0, CC_TAP_LOST_QUEUE);
        return;
    }
    const uint64_t arrival = max_u64(arrival_of(l, vns, &fate), s->arrive_min);
    if (f.size > ETHER_HEADER_BYTES && cc_stream_chance(&l->random, p->corrupt_ppm)) {
        l->count.corrupted++;
        fate |= CC_TAP_CORRUPTED;
        flip_a_bit(l, &f, copy);
    }
    put(s, l, dst, &f, arrival, fate);
    if (cc_stream_chance(&l->random, p->duplicate_ppm)) {
        l->count.duplicated++;
        put(s, l, dst, &f, arrival, fate | CC_TAP_DUPLICATE);
    }
}

static void forward(const struct switching *s, const struct cc_frame *f)
{
    cc_port_counters *port = &s->f->port[f->src];
    if (f->size < ETHER_HEADER_BYTES) {
        port->runts++;
        return;
    }
    if (f->data[0] & 1) {                      /* a group address: broadcast, multicast */
        for (uint32_t dst = 0; dst < s->f->n; dst++)
            if (dst != f->src)
                transmit(s, dst, f);
        return;
    }
    const uint32_t dst = f->data[5];
    if (memcmp(f->data, mac_prefix, sizeof mac_prefix) == 0 && dst < s->f->n && dst != f->src)
        transmit(s, dst, f);
    else
        port->unknown++;
}

/* The sender of the frame to be switched next; false if none was sent before `end`. */
static bool next_frame(const struct switching *s, uint64_t end, uint32_t *src, struct cc_frame *first)
{
    bool found = false;
    struct cc_frame f;
    for (uint32_t i = 0; i < s->f->n; i++)
        if (cc_outbox_at(s->machines[i], s->foresight ? s->foresight->switched[i] : 0, &f) && f.vns < end
            && (!found || f.vns < first->vns)) {
            *src = i;
            *first = f;
            found = true;
        }
    return found;
}

static void switch_all(const struct switching *s, uint64_t end)
{
    struct cc_fabric *f = s->f;
    struct cc_frame frame;
    uint32_t src = 0;
    while (next_frame(s, end, &src, &frame)) {
        frame.src = src;                       /* its place in this cluster */
        if (cc_unlikely(f->changes))
            apply_up_to(f, frame.vns);
        forward(s, &frame);
        if (cc_unlikely(s->foresight != NULL))
            s->foresight->switched[src]++;
        else
            cc_outbox_pop(s->machines[src]);
    }
    if (cc_unlikely(f->changes))
        apply_up_to(f, end);
}

void cc_fabric_switch(struct cc_fabric *f, cc_machine *const *machines, uint64_t end, uint64_t arrive_min,
                      cc_tap_fn *tap, void *arg)
{
    const struct switching s = {.f = f, .machines = machines, .arrive_min = arrive_min, .tap = tap, .arg = arg};
    switch_all(&s, end);
}

void cc_fabric_foresee(const struct cc_fabric *f, struct cc_fabric *scratch, cc_machine *const *machines, uint64_t end,
                       uint64_t arrive_min, cc_tap_fn *tap, void *arg)
{
    struct foresight foresight = {.switched = {0}};
    const struct switching s = {.f = scratch, .machines = machines, .arrive_min = arrive_min, .tap = tap, .arg = arg,
                                .foresight = &foresight};
    memcpy(scratch, f, cc_fabric_size(f->n));
    switch_all(&s, end);
}
