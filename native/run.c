/*
 * run.c: the run loop, for any vCPU.  Owns the order of things at an instruction boundary:
 *
 *   1. stop conditions: a stop has no side effect, and asking again with the same limits changes nothing;
 *   2. events that are due, by time, then by slot;
 *   3. the vCPU runs to the horizon, the nearest of limits and next event.  It delivers interrupts itself.
 *
 * What a device or the vCPU asked to stop for comes before the caller's limits, and is reported at the boundary where
 * it was asked for: nothing is pending between two runs, so a snapshot taken between them is complete.
 */
#include "devices/devices.h"
#include "watch.h"

/* A cancel is noticed between slices; where they end has no effect on the guest. */
#define SLICE_INSNS UINT64_C(200000)
/* 146 years.  Far below 2^64, so that no sum of times can overflow. */
#define VNS_MAX (UINT64_C(1) << 62)

static int report(const cc_machine *m, cc_stop *stop, uint32_t kind, uint32_t detail)
{
    stop->kind = (int32_t)kind;
    stop->detail = detail;
    stop->instret = m->instret;
    stop->vns = cc_now(m);
    return CC_OK;
}

/* Consume a stop asked for by a device or the vCPU. */
static int report_requested(cc_machine *m, cc_stop *stop)
{
    uint32_t kind = m->stop_kind, detail = m->stop_detail;
    m->stop_kind = CC_STOP_NONE;
    m->stop_detail = 0;
    report(m, stop, kind, detail);
    return kind == CC_STOP_ERROR ? CC_EHOST : CC_OK;
}

/* When the stop is due that something watched asked for; CC_NEVER: none was. */
static uint64_t watch_vns(const cc_machine *m)
{
    return cc_likely(!m->watches) ? CC_NEVER : m->watches->stop_vns;
}

static void report_watch(cc_machine *m, cc_stop *stop)
{
    m->watches->stop_vns = CC_NEVER;
    report(m, stop, CC_STOP_WATCH, m->watches->stop_hit.watch);
}

static bool take_cancel(cc_machine *m)
{
    return __atomic_load_n(&m->cancel, __ATOMIC_RELAXED) && __atomic_exchange_n(&m->cancel, 0, __ATOMIC_ACQ_REL);
}

/* The first report of an end is when it came about; who runs a dead machine on gets the others. */
static void report_end(cc_machine *m, cc_stop *stop)
{
    const uint32_t end[] = {m->dev.dead_kind, m->dev.dead_detail};
    if (m->stop_kind != CC_STOP_NONE)
        cc_event_log(m, CC_EVENT_END, end, sizeof end);
    m->stop_kind = CC_STOP_NONE;
    report(m, stop, m->dev.dead_kind, m->dev.dead_detail);
}

/* True if the run ends here, with *rc and *stop set. */
static bool stops_here(cc_machine *m, const cc_until *until, cc_stop *stop, int *rc)
{
    *rc = CC_OK;
    if (m->dev.dead_kind != CC_STOP_NONE)
        report_end(m, stop);
    else if (m->stop_kind != CC_STOP_NONE)
        *rc = report_requested(m, stop);
    else if (cc_now(m) >= watch_vns(m))
        report_watch(m, stop);
    else if (m->instret >= until->instret)
        report(m, stop, CC_STOP_INSTRET, 0);
    else if (cc_now(m) >= until->vns)
        report(m, stop, CC_STOP_VNS, 0);
    else if (m->stats.exits >= until->exits)
        report(m, stop, CC_STOP_EXITS, 0);
    else if (take_cancel(m))
        report(m, stop, CC_STOP_CANCELLED, 0);
    else if (cc_now(m) >= VNS_MAX) {
        report(m, stop, CC_STOP_ERROR, 0);
        *rc = cc_fail(m, CC_EINVAL, "virtual time has reached its end, 2^62 ns; start a new machine");
    } else
        return false;
    return true;
}

/* The earliest armed slot, the lowest of those at the same time. */
static unsigned earliest_slot(const cc_machine *m)
{
    unsigned slot = 0;
    for (unsigned i = 1; i < CC_EV_COUNT; i++)
        if (m->dev.ev_at[i] < m->dev.ev_at[slot])
            slot = i;
    return slot;
}

static void fire_due_events(cc_machine *m)
{
    uint64_t now = cc_now(m);
    for (;;) {
        unsigned slot = earliest_slot(m);
        if (m->dev.ev_at[slot] > now)
            return;
        m->dev.ev_at[slot] = CC_NEVER;
        cc_event_fire(m, slot);
    }
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Instructions after which virtual time is at or past `at`, which lies ahead. */
static uint64_t insns_until(const cc_machine *m, uint64_t at)
{
    uint64_t span = at - cc_now(m), ns = cc_insn_ns(m);
    return span / ns + (span % ns != 0);
}

static uint64_t horizon(const cc_machine *m, const cc_until *until)
{
    uint64_t insns = min_u64(until->instret - m->instret, SLICE_INSNS);
    uint64_t at = min_u64(min_u64(until->vns, watch_vns(m)), m->dev.ev_at[earliest_slot(m)]);
    return m->instret + min_u64(insns, insns_until(m, min_u64(at, VNS_MAX)));
}

/* Skip halted time to the next event or the limit.  False if no event can end the halt and no limit is set. */
static bool skip_halted(cc_machine *m, const cc_until *until)
{
    const uint64_t limit = min_u64(until->vns, watch_vns(m));
    if (limit == CC_NEVER && !(m->ops->interruptible(m) && cc_event_may_interrupt(m)))
        return false;
    uint64_t at = min_u64(limit, m->dev.ev_at[earliest_slot(m)]);
    m->vns_base = min_u64(at, VNS_MAX);
    m->instret_base = m->instret;
    return true;
}

/* Let time pass up to the limit, with everything standing still.  False if there is none. */
static bool skip_paused(cc_machine *m, const cc_until *until)
{
    const uint64_t limit = min_u64(until->vns, watch_vns(m));
    if (limit == CC_NEVER)
        return false;
    m->vns_base = min_u64(limit, VNS_MAX);
    m->instret_base = m->instret;
    return true;
}

/* Whether the vCPU is halted and has no reason to look at anything now. */
static bool idles(cc_machine *m)
{
    return m->ops->halted(m) && !(cc_pic_pending(m) && m->ops->interruptible(m));
}

static int run_loop(cc_machine *m, const cc_until *until, cc_stop *stop)
{
    /* A halted vCPU is given one chance per run: the host may have queued an NMI, of which only it knows.  And if it
     * stays halted with an interrupt pending (registers set so by the host), time goes on all the same. */
    bool try_halted = true, refused = false;
    for (;;) {
        int rc;
        if (stops_here(m, until, stop, &rc))
            return rc;
        if (cc_unlikely(m->dev.pace.paused)) {
            if (!skip_paused(m, until))
                return report(m, stop, CC_STOP_HALTED, 0);
            continue;
        }
        fire_due_events(m);
        if (cc_unlikely(m->watches != NULL) && m->watches->nstaged)
            cc_watches_commit(m, true);
        if (m->stop_kind != CC_STOP_NONE)
            continue;
        if (refused || (!try_halted && idles(m))) {
            if (!skip_halted(m, until))
                return report(m, stop, CC_STOP_HALTED, 0);
            refused = false;
            continue;
        }
        try_halted = false;
        uint64_t before = m->instret, end = horizon(m, until);
        m->kick = 0;
        rc = m->ops->run(m, end);
        if (rc) {
            m->stop_kind = CC_STOP_NONE;
            report(m, stop, CC_STOP_ERROR, 0);
            return rc;
        }
        refused = m->instret == before && m->ops->halted(m);
    }
}

int cc_run(cc_machine *m, const cc_until *until, cc_stop *stop)
{
    cc_pagemap_reclaim(m);
    m->stop_at = until->stop_at;
    m->exits_max = until->exits;
    if (cc_unlikely(m->watches != NULL) && !(until->stop_at & CC_AT_WATCH))
        m->watches->stop_vns = CC_NEVER;
    int rc = run_loop(m, until, stop);
    m->stop_at = 0;
    m->exits_max = CC_NEVER;
    return rc;
}

uint64_t cc_quiet_until(cc_machine *m)
{
    if (m->dev.dead_kind != CC_STOP_NONE || m->dev.pace.paused)
        return CC_NEVER;
    return idles(m) ? m->dev.ev_at[earliest_slot(m)] : 0;
}

void cc_cancel(cc_machine *m)
{
    __atomic_store_n(&m->cancel, 1, __ATOMIC_RELEASE);
}
