/*
 * net_guests.h: a cluster of guests that are C functions whose whole state is in their RAM: they compute, send frames, look
 * at what arrives, and halt, as a random stream of their own says.
 */
#ifndef CC_NET_GUESTS_H
#define CC_NET_GUESTS_H

#include "device_machine.h"
#include "../devices/virtio.h"
#include "../net/fabric.h"

#define TICK UINT64_C(100000)
#define N 4u

/* Instead of virtio_net.c: frames wait in the inbox until the guests take them. */
const struct cc_virtio_class cc_virtio_net = {.name = "net", .id = 1, .irq = 6, .queues = 2, .num_max = 256};

void cc_netdev_fire(cc_machine *m)
{
    (void)m;
}

/* ---- guests ---------------------------------------------------------------------------------------------------------- */
struct program {
    uint64_t random;
    uint64_t hash;             /* of everything that it has received, with the times */
    uint64_t sent, received;
    uint64_t wake;
    uint64_t halted;
    uint64_t lazy;             /* how long it halts, ns; 0: it never does */
    uint64_t busy;             /* instructions between two decisions */
    uint64_t next;             /* instruction of the next decision */
};

static inline struct program *program_of(const cc_machine *m)
{
    return (struct program *)(void *)m->ram;
}

static inline bool frame_due(const cc_machine *m, struct cc_frame *f)
{
    return cc_inbox_first(m, f) && f->vns <= cc_now(m);
}

static inline bool program_halted(cc_machine *m)
{
    struct cc_frame f;
    const struct program *p = program_of(m);
    return p->halted && cc_now(m) < p->wake && !frame_due(m, &f);
}

static inline void mix(struct program *p, uint64_t v)
{
    uint64_t s = p->hash ^ v;
    p->hash = rnd(&s);
}

static inline void receive_all(cc_machine *m)
{
    struct program *p = program_of(m);
    struct cc_frame f;
    while (frame_due(m, &f)) {
        p->received++;
        mix(p, cc_now(m));
        mix(p, f.vns);
        for (uint32_t i = 0; i < f.size; i++)
            mix(p, f.data[i]);
        cc_inbox_pop(m);
    }
}

static inline void send_one(cc_machine *m)
{
    struct program *p = program_of(m);
    uint8_t data[200] = {0x52, 0x54, 0x00, 0x12, 0x34};
    const uint64_t r = rnd(&p->random);
    const uint32_t size = 14 + (uint32_t)(r % 180);
    data[5] = (uint8_t)(r >> 8) % (N + 1);     /* sometimes itself, sometimes nobody */
    if (r >> 16 & 8)
        memset(data, 0xFF, 6);
    for (uint32_t i = 6; i < size; i++)
        data[i] = (uint8_t)(r >> i % 56) ^ (uint8_t)i;
    p->sent += cc_outbox_push(m, data, size);
}

static inline void decide(cc_machine *m)
{
    struct program *p = program_of(m);
    const uint64_t r = rnd(&p->random);
    receive_all(m);
    p->next = m->instret + 1 + r % p->busy;
    if (r >> 40 & 1)
        send_one(m);
    else if (p->lazy && r >> 41 & 1) {
        p->halted = 1;
        p->wake = cc_now(m) + 1 + (r >> 42) % p->lazy;
        cc_event_set(m, CC_EV_TIMER, p->wake);
        m->stats.halts++;
    }
}

static inline int program_run(cc_machine *m, uint64_t horizon)
{
    struct program *p = program_of(m);
    cc_ram_will_change(m, 0, sizeof *p);
    while (m->instret < horizon && !m->kick) {
        if (program_halted(m))
            return 0;
        p->halted = 0;
        if (m->instret < p->next) {
            m->instret = p->next < horizon ? p->next : horizon;
            continue;
        }
        decide(m);
        m->instret++;
    }
    return 0;
}

static inline void program_get_regs(cc_machine *m, cc_regs *r)
{
    memset(r, 0, sizeof *r);
    r->halted = (uint8_t)program_of(m)->halted;
}

static inline int program_set_regs(cc_machine *m, const cc_regs *r)
{
    (void)m;
    (void)r;
    return 0;
}

static struct cc_vcpu_ops program_ops;

struct cluster {
    cc_machine *m[N];
    cc_cluster *c;
};

static inline struct cluster new_cluster(uint32_t threads, uint64_t lazy)
{
    struct cluster k;
    char err[256];
    program_ops = guest_ops;
    program_ops.run = program_run;
    program_ops.halted = program_halted;
    program_ops.get_regs = program_get_regs;
    program_ops.set_regs = program_set_regs;
    for (uint32_t i = 0; i < N; i++) {
        cc_config cfg;
        cc_config_default(&cfg);
        cfg.ram_bytes = 1u << 20;
        cfg.devices = CC_DEV_NET;
        cfg.machine_id = i;
        cfg.ns_per_insn = 1 + i % 2;
        cfg.seed = 100 + i;
        k.m[i] = new_machine_of(&cfg);
        k.m[i]->ops = &program_ops;
        cc_ram_will_change(k.m[i], 0, sizeof(struct program));
        *program_of(k.m[i]) = (struct program){.random = i, .lazy = lazy, .busy = 4000};
    }
    CHECK_EQ(cc_cluster_new(k.m, N, TICK, 42, threads, &k.c, err, sizeof err), 0);
    return k;
}

static inline void free_cluster(struct cluster *k)
{
    cc_cluster_free(k->c);
    for (uint32_t i = 0; i < N; i++)
        cc_machine_free(k->m[i]);
}

static inline cc_cluster_stop run_until(struct cluster *k, const cc_cluster_until *until)
{
    cc_cluster_stop stop;
    do {
        CHECK_EQ(cc_cluster_run(k->c, until, &stop), 0);
    } while (stop.kind == CC_STOP_NONE);
    return stop;
}

static inline void run_cluster(struct cluster *k, uint64_t vns)
{
    const cc_cluster_until until = {.vns = vns, .instret = UINT64_MAX, .machine = -1};
    CHECK_EQ(run_until(k, &until).kind, CC_STOP_VNS);
    CHECK_EQ(cc_cluster_vns(k->c), vns);
    for (uint32_t i = 0; i < N; i++)
        CHECK(cc_vns(k->m[i]) >= vns && cc_vns(k->m[i]) < vns + 2);
}

static inline cc_digest digest_of(struct cluster *k)
{
    cc_digest d;
    cc_cluster_digest(k->c, &d);
    return d;
}

static inline void expect(cc_digest got, cc_digest wanted)
{
    CHECK_EQ(got.lo, wanted.lo);
    CHECK_EQ(got.hi, wanted.hi);
}

static inline cc_link_params rough(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    p.latency_ns = 130000;
    p.jitter_ns = 250000;
    p.bandwidth_bps = 20000000;
    p.queue_bytes = 600;
    p.reorder_ns = 900000;
    p.reorder_ppm = 100000;
    p.loss_ppm = 200000;
    p.duplicate_ppm = 150000;
    p.corrupt_ppm = 100000;
    return p;
}

/* Change links at fixed moments, most of them in the middle of a tick, on the way to `end`; stop at more places. */
static inline void adventure(struct cluster *k, uint64_t from, uint64_t end, uint64_t *stops)
{
    for (uint64_t at = from; at < end;) {
        uint64_t next = (at / 1234567 + 1) * 1234567;
        if (next > end)
            next = end;
        while (stops && rnd(stops) % 3) {
            at += rnd(stops) % (next - at) + 1;
            run_cluster(k, at);
            if (at == next)
                break;
            for (uint32_t src = 0; src < N; src++) {       /* setting what is set already changes nothing */
                cc_link_params p;
                CHECK_EQ(cc_link_get(k->c, src, (src + 1) % N, &p), 0);
                CHECK_EQ(cc_link_set(k->c, src, (src + 1) % N, &p), 0);
            }
        }
        run_cluster(k, next);
        at = next;
        if (at == end)
            break;
        cc_link_params p = rough(), calm;
        cc_link_params_default(&calm);
        const uint32_t src = (uint32_t)(at / 1234567 % N), dst = (src + 1 + (uint32_t)(at / 1234567 / N % (N - 1))) % N;
        p.down = at / 1234567 % 5 == 0;
        CHECK_EQ(cc_link_set(k->c, src, dst, at / 1234567 % 3 == 2 ? &calm : &p), 0);
        CHECK_EQ(cc_link_set(k->c, src, dst, &p), 0);
    }
}

#endif
