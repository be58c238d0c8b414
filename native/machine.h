/*
 * machine.h: what the parts of the engine share: the machine, its RAM and page flags, virtual time, the event
 * slots, the port and MMIO buses, and the vCPU interface.  Internal to native/.
 *
 * Rules that keep a run a pure function of its inputs:
 *  - guest-visible state lives in RAM, in cc_regs and in struct cc_devstate, and nowhere else.  cc_devstate is plain
 *    data: no pointers, no host addresses, zeroed at creation so that its padding is zero for ever; a snapshot copies
 *    it and the digest hashes it byte for byte.
 *  - the host clock, host randomness and thread identity are never consulted.
 */
#ifndef CC_MACHINE_H
#define CC_MACHINE_H

#include "include/cc.h"

#include <string.h>

#define CC_PAGE_SHIFT 12
#define CC_PAGE_SIZE 4096u
#define CC_NEVER UINT64_MAX

#define cc_likely(x) __builtin_expect(!!(x), 1)
#define cc_unlikely(x) __builtin_expect(!!(x), 0)

/* ---- page flags ------------------------------------------------------------------------------------------------- */
/* A page may be written without telling anybody only while both dirty bits are set and neither CODE nor TABLE is. */
#define CC_PF_DIRTY_SNAP 1u     /* written since the last snapshot or restore; on m->dirty_snap */
#define CC_PF_DIRTY_DIGEST 2u   /* written since its hash was last computed; on m->dirty_digest */
#define CC_PF_CODE 4u           /* the vCPU holds decoded code from it */
#define CC_PF_TABLE 8u          /* the vCPU holds translations read from it */
#define CC_PF_WTAG 16u          /* the vCPU may hold a write translation to it (soft/mmu.c) */
#define CC_PF_LENT 32u          /* clean, and RAM may be where a snapshot keeps its contents (store.c) */
#define CC_PF_DIRTY (CC_PF_DIRTY_SNAP | CC_PF_DIRTY_DIGEST)
#define CC_PF_WATCHED (CC_PF_CODE | CC_PF_TABLE)

typedef struct cc_pagelist { uint32_t *page; uint32_t n; } cc_pagelist;   /* capacity: the machine's page count */

/* ---- event slots: one per timed activity; the order is the order of firing at equal times --------------------- */
enum {
    CC_EV_PIT0,          /* PIT channel 0 output edge */
    CC_EV_UART_RX,       /* next received character */
    CC_EV_UART_IRQ,      /* receive time-out and other delayed UART interrupts */
    CC_EV_RTC,           /* CMOS periodic/update interrupt */
    CC_EV_BLK,           /* completion of the disk request that is due next */
    CC_EV_NET,           /* arrival of the packet that is due next */
    CC_EV_CONSOLE,       /* virtio console: input for the agent */
    CC_EV_BALLOON,
    CC_EV_TIMER,         /* a timer interrupt that was made late (power.c) */
    CC_EV_COUNT = 16     /* room for more; the number is part of the state's format */
};

/* ---- device state: plain data only ------------------------------------------------------------------------------- */
#include "devices/state.h"

/* ---- vCPU interface ------------------------------------------------------------------------------------------------ */
struct cc_vcpu_ops {
    const char *name;
    int (*create)(cc_machine *m);              /* sets m->vcpu; on failure uses cc_fail() */
    void (*destroy)(cc_machine *m);
    /* Execute until m->instret >= horizon, or m->kick is set, or the vCPU halts or is shut down (m->regs_halted /
     * m->stop_kind tell).  Delivers interrupts offered by cc_pic_pending() at boundaries.  instret advances by
     * exactly one per instruction (per iteration for REP; an instruction that faults counts one). */
    int (*run)(cc_machine *m, uint64_t horizon);
    void (*get_regs)(cc_machine *m, cc_regs *r);
    int (*set_regs)(cc_machine *m, const cc_regs *r);
    bool (*halted)(cc_machine *m);
    bool (*interruptible)(cc_machine *m);      /* IF set: a maskable interrupt would end a halt */
    /* The dirty bits of some pages were cleared: the next write to any page must be noticed again. */
    void (*protect_writes)(cc_machine *m);
    /* Collect dirty pages known only to the vCPU (KVM's dirty log) through cc_page_dirty(). */
    void (*sync_dirty)(cc_machine *m);
    /* cc_page_dirty() is always called before a page is written: so snapshots may leave contents in RAM until then. */
    bool tells_before_write;
    /* A page with CC_PF_CODE or CC_PF_TABLE was changed by somebody else than the vCPU (DMA, host, restore). */
    void (*page_changed)(cc_machine *m, uint64_t page);
    int (*set_cache_sizes)(cc_machine *m, uint32_t tlb_bits, uint32_t code_cache_kib);
    int (*translate)(cc_machine *m, uint64_t va, uint64_t *gpa);   /* no permission checks, no side effects */
    /* m->watches is another list; the kinds in the old one and in the new one.  NULL: nothing can be watched. */
    void (*watches_changed)(cc_machine *m, uint32_t old_kinds, uint32_t kinds);
};
extern const struct cc_vcpu_ops cc_soft_vcpu, cc_kvm_vcpu;

/* ---- aux memory --------------------------------------------------------------------------------------------------- */
/* State that is too large for cc_devstate lives behind RAM in the same mapping, as pages of the same page map: so
 * snapshots, digests and restores hold it like RAM and cost what changed.  The CPU cannot address it.  Plain data only, as
 * in cc_devstate; whoever writes it calls cc_aux_will_change() first. */
enum { CC_AUX_PROPS, CC_AUX_NET, CC_AUX_DISK_LOG, CC_AUX_DISK, CC_AUX_COUNT };

#define CC_AUX_PROPS_BYTES (1u << 20)        /* sdk.c: the property table */
#define CC_AUX_NET_BYTES (8u << 20)          /* net/queue.c: packets on their way in and out; with CC_DEV_NET */
#define CC_AUX_DISK_LOG_BYTES (64u << 20)    /* devices/disk.c: writes not flushed yet; with CC_DEV_BLK */

struct cc_aux { uint64_t at, size; };        /* in bytes from the start of m->ram; multiples of the page size */

struct cc_page_table;      /* pages.c: the snapshot that RAM was last equal to, as a tree of shared pages */

struct cc_machine {
    cc_config cfg;
    const struct cc_vcpu_ops *ops;
    void *vcpu;                    /* the vCPU's own structure */

    uint8_t *ram;                  /* ram_bytes, page-aligned, one mapping; the aux memory follows in it */
    struct cc_aux aux[CC_AUX_COUNT];
    uint64_t npages;               /* of RAM and aux memory */
    uint8_t *page_flags;           /* npages of CC_PF_* */
    cc_pagelist dirty_snap, dirty_digest;

    /* virtual time: vns = vns_base + (instret - instret_base) * cc_insn_ns() */
    uint64_t instret, instret_base, vns_base;

    /* set inside run() by devices to make the vCPU return at the next boundary */
    volatile uint32_t kick;        /* CC_KICK_* */
    uint32_t stop_kind;            /* a CC_STOP_* that a device or vCPU asks for; CC_STOP_NONE otherwise */
    uint32_t stop_detail;
    uint32_t stop_at;              /* CC_AT_* of the run in progress */
    uint64_t exits_max;
    uint32_t cancel;               /* written by other threads: __atomic_* only */

    struct cc_devstate dev;        /* guest-visible device state */
    cc_stats stats;                /* exits and counters */

    struct cc_console *console;    /* host-side: undrained output, marks, pattern matcher (console.c) */
    struct cc_log *log;            /* host-side (log.c) */
    struct cc_eventlog *events;    /* host-side (eventlog.c) */
    struct cc_watches *watches;    /* host-side: breakpoints and watchpoints (watch.c); NULL: none */

    cc_store *store;
    struct cc_pagemap *pagemap;    /* pages.c: snapshot and digest bookkeeping */
    char error[512];
};

#define CC_KICK_RESCHED 1u         /* an event deadline or an interrupt line changed */
#define CC_KICK_STOP 2u            /* stop_kind was set */
#define CC_KICK_CANCEL 4u

/* ---- time ------------------------------------------------------------------------------------------------------------ */
static inline uint64_t cc_insn_ns(const cc_machine *m)
{
    return m->cfg.ns_per_insn * (1 + m->dev.pace.slower);
}

static inline uint64_t cc_vns_at(const cc_machine *m, uint64_t instret)
{
    return m->vns_base + (instret - m->instret_base) * cc_insn_ns(m);
}

static inline uint64_t cc_now(const cc_machine *m)
{
    return cc_vns_at(m, m->instret);
}

/* Without overflow; the vCPU's offset is the caller's to add.  One division, so that it never goes back. */
static inline uint64_t cc_tsc_of_vns(const cc_machine *m, uint64_t vns)
{
    const struct cc_pace *p = &m->dev.pace;
    const unsigned __int128 ticks = (unsigned __int128)(vns - p->tsc_vns) * m->cfg.tsc_khz;
    if (cc_likely(!p->tsc_ppm))
        return p->tsc_base + (uint64_t)(ticks / 1000000u);
    return p->tsc_base + (uint64_t)(ticks * (uint64_t)(1000000 + p->tsc_ppm) / UINT64_C(1000000000000));
}

/* Arm (or with CC_NEVER disarm) an event slot. */
static inline void cc_event_set(cc_machine *m, unsigned slot, uint64_t at_vns)
{
    m->dev.ev_at[slot] = at_vns;
    m->kick |= CC_KICK_RESCHED;
}

/* ---- RAM ------------------------------------------------------------------------------------------------------------- */
static inline bool cc_in_ram(const cc_machine *m, uint64_t gpa, uint64_t size)
{
    return gpa < m->cfg.ram_bytes && size <= m->cfg.ram_bytes - gpa;
}

/* Snapshots that keep this page's contents in RAM get their own copy (pages.c). */
void cc_page_unlend(cc_machine *m, uint64_t page);

/* Before a page is written, if the vCPU promises that (tells_before_write); otherwise before anybody asks. */
static inline void cc_page_dirty(cc_machine *m, uint64_t page)
{
    if (m->page_flags[page] & CC_PF_LENT)
        cc_page_unlend(m, page);
    uint8_t f = m->page_flags[page];
    if ((f & CC_PF_DIRTY) == CC_PF_DIRTY)
        return;
    if (!(f & CC_PF_DIRTY_SNAP))
        m->dirty_snap.page[m->dirty_snap.n++] = (uint32_t)page;
    if (!(f & CC_PF_DIRTY_DIGEST))
        m->dirty_digest.page[m->dirty_digest.n++] = (uint32_t)page;
    m->page_flags[page] = f | CC_PF_DIRTY;
}

/* Before the host or a device writes [gpa, gpa+size) in RAM: marks pages dirty and drops what the vCPU cached. */
void cc_ram_will_change(cc_machine *m, uint64_t gpa, uint64_t size);

/* The same for [offset, offset+size) of an aux area; returns its address. */
static inline void *cc_aux(const cc_machine *m, unsigned area, uint64_t offset)
{
    return m->ram + m->aux[area].at + offset;
}

void *cc_aux_will_change(cc_machine *m, unsigned area, uint64_t offset, uint64_t size);

/* ---- buses (devices/bus.c) ---------------------------------------------------------------------------------------- */
/* size: 1, 2 or 4.  m->instret must be the count of instructions retired before the accessing one. */
uint32_t cc_io_read(cc_machine *m, uint16_t port, unsigned size);
void cc_io_write(cc_machine *m, uint16_t port, unsigned size, uint32_t value);
/* Physical accesses outside RAM; size 1, 2, 4 or 8.  Unclaimed reads give all ones. */
uint64_t cc_mmio_read(cc_machine *m, uint64_t gpa, unsigned size);
void cc_mmio_write(cc_machine *m, uint64_t gpa, unsigned size, uint64_t value);

void cc_devices_reset(cc_machine *m);
void cc_event_fire(cc_machine *m, unsigned slot);     /* the slot has been disarmed by the caller */
bool cc_pic_pending(const cc_machine *m);             /* INTR line of the PIC pair */
uint8_t cc_pic_ack(cc_machine *m);                    /* INTA: the vector, with the PIC's state advanced */

/* The machine has ended, and can only be started anew. */
static inline bool cc_stop_is_final(uint32_t kind)
{
    return kind == CC_STOP_SHUTDOWN || kind == CC_STOP_TRIPLE_FAULT || kind == CC_STOP_RESET;
}

/* Ask the vCPU to return at the next boundary with this stop.  An end is part of the state at once: it is in every
 * snapshot and digest, also where a host did the port access that asked for it, outside of any run. */
static inline void cc_request_stop(cc_machine *m, uint32_t kind, uint32_t detail)
{
    if (cc_stop_is_final(kind)) {
        m->dev.dead_kind = kind;
        m->dev.dead_detail = detail;
    }
    m->stop_kind = kind;
    m->stop_detail = detail;
    m->kick |= CC_KICK_STOP;
}

/* Count one exit (port or MMIO access, halt entered, interrupt delivered); a run may be limited to a number of them. */
static inline void cc_count_exit(cc_machine *m)
{
    if (++m->stats.exits >= m->exits_max)
        m->kick |= CC_KICK_RESCHED;
}

/* ---- run.c ------------------------------------------------------------------------------------------------------------- */
/* Nothing happens in the machine before this virtual time, whoever runs it: the next event of a halted one, CC_NEVER for
 * one that is paused or has ended, 0 for one that executes. */
uint64_t cc_quiet_until(cc_machine *m);

/* ---- cpuid.c ------------------------------------------------------------------------------------------------------------ */
/* out: EAX EBX ECX EDX. */
void cc_cpuid(uint64_t tsc_khz, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* ---- diagnostics ------------------------------------------------------------------------------------------------------ */
int cc_fail(cc_machine *m, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* One line in the machine's log, dated with its moment; bounded, and repeated lines are counted, not kept. */
void cc_logf(cc_machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Queue an event, dated with this moment (eventlog.c).  At most CC_EVENT_BYTES_MAX of payload. */
#define CC_EVENT_BYTES_MAX 8192u
void cc_event_log(cc_machine *m, uint32_t kind, const void *payload, size_t size);
int cc_eventlog_new(cc_machine *m);
void cc_eventlog_free(cc_machine *m);

/* ---- pages.c ------------------------------------------------------------------------------------------------------------ */
int cc_pagemap_new(cc_machine *m);
/* If snapshots were freed since the last time: what only the machine's page table keeps now, and RAM has, is let go. */
void cc_pagemap_reclaim(cc_machine *m);
void cc_pagemap_free(cc_machine *m);

#endif
