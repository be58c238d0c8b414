/*
 * device_machine.h: a real machine with real devices and a vCPU made of C functions, for the tests of the devices and
 * of the run loop.  The fake vCPU keeps the contract of machine.h to the letter and no more: it looks for interrupts
 * only when run() begins and when its guest sets IF, so a kick that a device forgets shows as a late interrupt.
 */
#ifndef CC_DEVICE_MACHINE_H
#define CC_DEVICE_MACHINE_H

#include "../console.h"
#include "../devices/devices.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(x)                                                                                                \
    do {                                                                                                        \
        if (!(x)) {                                                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x);                                   \
            abort();                                                                                            \
        }                                                                                                       \
    } while (0)

/* As CHECK, and says what it got. */
#define CHECK_EQ(got, wanted)                                                                                   \
    do {                                                                                                        \
        unsigned long long got_ = (unsigned long long)(got), wanted_ = (unsigned long long)(wanted);            \
        if (got_ != wanted_) {                                                                                  \
            fprintf(stderr, "%s:%d: %s is %llu (0x%llx), not %llu (0x%llx)\n", __FILE__, __LINE__, #got,        \
                    got_, got_, wanted_, wanted_);                                                              \
            abort();                                                                                            \
        }                                                                                                       \
    } while (0)

#define RUN(test)                                                                                               \
    do {                                                                                                        \
        test();                                                                                                 \
        printf("ok %s\n", #test);                                                                               \
        fflush(stdout);                                                                                         \
    } while (0)

#define MS UINT64_C(1000000)
#define SECOND UINT64_C(1000000000)

struct guest {
    void (*insn)(cc_machine *m, struct guest *g);                    /* one instruction; NULL: NOP */
    void (*handler)(cc_machine *m, struct guest *g, uint8_t vector);   /* runs at once, as part of the delivery */
    bool iflag, halted, nmi;
    uint64_t delivered;
    uint8_t vector;              /* of the last interrupt */
    uint64_t last_vns, last_instret;
    uint64_t runs;               /* calls of run() */
    uint64_t slice_max;          /* longest span asked of run() */
    uint64_t pages_changed;
    uint64_t value;              /* for the instructions' own use */
};

static inline struct guest *guest_of(cc_machine *m)
{
    return m->vcpu;
}

static inline uint64_t rnd(uint64_t *state)      /* splitmix64 */
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

static inline int guest_create(cc_machine *m)
{
    m->vcpu = calloc(1, sizeof(struct guest));
    return m->vcpu ? 0 : CC_ENOMEM;
}

static inline void guest_destroy(cc_machine *m)
{
    free(m->vcpu);
}

/* True if an interrupt was delivered. */
static inline bool guest_deliver(cc_machine *m)
{
    struct guest *g = guest_of(m);
    if (g->nmi) {
        g->nmi = false;
        g->halted = false;
    }
    if (!g->iflag || !cc_pic_pending(m))
        return false;
    g->halted = false;
    g->vector = cc_pic_ack(m);
    g->delivered++;
    g->last_vns = cc_now(m);
    g->last_instret = m->instret;
    m->stats.interrupts++;
    cc_count_exit(m);
    if (g->handler)
        g->handler(m, g, g->vector);
    return true;
}

static inline int guest_run(cc_machine *m, uint64_t horizon)
{
    struct guest *g = guest_of(m);
    g->runs++;
    if (horizon - m->instret > g->slice_max)
        g->slice_max = horizon - m->instret;
    /* A delivery clears IF, so that one instruction follows it whatever is pending. */
    bool first = guest_deliver(m);
    for (; m->instret < horizon && (first || !m->kick) && !g->halted; first = false) {
        bool before = g->iflag;
        if (g->insn)
            g->insn(m, g);
        m->instret++;
        if (g->iflag && !before)
            break;
    }
    return 0;
}

static inline void guest_hlt(cc_machine *m, struct guest *g)
{
    g->halted = true;
    m->stats.halts++;
    cc_count_exit(m);
}

/* An instruction for machines that only serve interrupts. */
static inline void hlt_always(cc_machine *m, struct guest *g)
{
    guest_hlt(m, g);
}

static inline void guest_get_regs(cc_machine *m, cc_regs *r)
{
    (void)m;
    memset(r, 0, sizeof *r);
}

static inline int guest_set_regs(cc_machine *m, const cc_regs *r)
{
    guest_of(m)->halted = r->halted;
    guest_of(m)->value = r->rip;
    return 0;
}

static inline bool guest_halted(cc_machine *m)
{
    return guest_of(m)->halted;
}

static inline bool guest_interruptible(cc_machine *m)
{
    return guest_of(m)->iflag;
}

static inline void guest_nothing(cc_machine *m)
{
    (void)m;
}

static inline void guest_page_changed(cc_machine *m, uint64_t page)
{
    guest_of(m)->pages_changed++;
    m->page_flags[page] &= (uint8_t)~CC_PF_WATCHED;
}

static inline int guest_cache_sizes(cc_machine *m, uint32_t tlb_bits, uint32_t code_cache_kib)
{
    (void)m;
    (void)tlb_bits;
    (void)code_cache_kib;
    return 0;
}

/* Identity, with the page at 0x5000 missing and 0x80000000 outside memory; pages 0x6000 and 0x7000 are swapped. */
static inline int guest_translate(cc_machine *m, uint64_t va, uint64_t *gpa)
{
    uint64_t page = va >> 12;
    if (page == 5 || (va >= m->cfg.ram_bytes && page != 0x80000))
        return CC_EFAULT;
    *gpa = page == 6 || page == 7 ? va ^ 0x1000 : va;
    return 0;
}

static const struct cc_vcpu_ops guest_ops = {
    .name = "test",
    .create = guest_create,
    .destroy = guest_destroy,
    .run = guest_run,
    .get_regs = guest_get_regs,
    .set_regs = guest_set_regs,
    .halted = guest_halted,
    .interruptible = guest_interruptible,
    .protect_writes = guest_nothing,
    .sync_dirty = guest_nothing,
    .page_changed = guest_page_changed,
    .set_cache_sizes = guest_cache_sizes,
    .translate = guest_translate,
};

static cc_store *the_store;

static inline cc_machine *new_machine_of(const cc_config *cfg)
{
    char err[256];
    cc_machine *m;
    if (!the_store)
        the_store = cc_store_new(0);
    if (cc_machine_new(cfg, the_store, &m, err, sizeof err)) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    m->ops->destroy(m);
    m->ops = &guest_ops;
    CHECK(guest_create(m) == 0);
    return m;
}

static inline cc_machine *new_machine(void)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = 16u << 20;
    return new_machine_of(&cfg);
}

static inline uint64_t no_limit(void)
{
    return UINT64_MAX;
}

static inline cc_stop run_for(cc_machine *m, uint64_t instret, uint64_t vns, uint64_t exits, uint32_t stop_at)
{
    cc_until until = {instret, vns, exits, stop_at, 0};
    cc_stop stop;
    CHECK_EQ(cc_run(m, &until, &stop), 0);
    CHECK_EQ(stop.instret, cc_instret(m));
    CHECK_EQ(stop.vns, cc_vns(m));
    return stop;
}

static inline cc_stop run_to_instret(cc_machine *m, uint64_t instret)
{
    return run_for(m, instret, no_limit(), no_limit(), 0);
}

static inline cc_stop run_to_vns(cc_machine *m, uint64_t vns)
{
    return run_for(m, no_limit(), vns, no_limit(), 0);
}

/* Let time pass with the guest halted, so that events happen and nothing else. */
static inline void pass_to(cc_machine *m, uint64_t vns)
{
    guest_of(m)->halted = true;
    CHECK_EQ(run_to_vns(m, vns).kind, CC_STOP_VNS);
    CHECK_EQ(cc_now(m), vns);
}

/* As pass_to(), and the events at that very moment have happened: a run that stops there leaves them to the next. */
static inline void pass_over(cc_machine *m, uint64_t vns)
{
    pass_to(m, vns + 1);
}

static inline void out8(cc_machine *m, uint16_t port, uint8_t v)
{
    cc_io_write(m, port, 1, v);
}

static inline uint8_t in8(cc_machine *m, uint16_t port)
{
    return (uint8_t)cc_io_read(m, port, 1);
}

/* As Linux initialises the pair: vectors 0x30 and 0x38, then the masks. */
static inline void init_pics(cc_machine *m, uint8_t icw4, uint8_t master_mask, uint8_t slave_mask)
{
    out8(m, 0x21, 0xFF);
    out8(m, 0x20, 0x11);
    out8(m, 0x21, 0x30);
    out8(m, 0x21, 0x04);
    out8(m, 0x21, icw4);
    out8(m, 0xA0, 0x11);
    out8(m, 0xA1, 0x38);
    out8(m, 0xA1, 0x02);
    out8(m, 0xA1, 0x01);
    out8(m, 0x21, master_mask);
    out8(m, 0xA1, slave_mask);
}

#endif
