/*
 * power.c: what can be done to one machine from outside: pausing it, cutting its power and starting it again, slowing its
 * CPU, bending its clock, injecting interrupts, making its timer unpunctual.  Owns struct cc_pace.
 *
 * All of it is state, in snapshots and digest.  An all-zero cc_pace is a machine to which nothing was done.
 */
#include "devices/devices.h"
#include "net/net.h"
#include "pages.h"

#define SLOWDOWN_MAX 1000u
#define TSC_PPM_MIN INT64_C(-900000)
#define TSC_PPM_MAX INT64_C(9000000)
#define JITTER_NS_MAX UINT64_C(1000000000)

/* ---- time ---------------------------------------------------------------------------------------------------------- */
/* Count on from here, so that a change of pace does not change the past. */
static void rebase(cc_machine *m, uint64_t vns)
{
    m->vns_base = vns;
    m->instret_base = m->instret;
}

int cc_set_slowdown(cc_machine *m, uint32_t factor)
{
    if (factor < 1 || factor > SLOWDOWN_MAX)
        return cc_fail(m, CC_EINVAL, "a slow-down by %u: must be 1 to %u", factor, SLOWDOWN_MAX);
    if (factor == cc_slowdown(m))
        return CC_OK;
    rebase(m, cc_now(m));
    m->dev.pace.slower = factor - 1;
    m->kick |= CC_KICK_RESCHED;
    return CC_OK;
}

uint32_t cc_slowdown(const cc_machine *m)
{
    return (uint32_t)m->dev.pace.slower + 1;
}

int cc_set_tsc_skew(cc_machine *m, int64_t ppm)
{
    struct cc_pace *p = &m->dev.pace;
    if (m->cfg.vcpu != CC_VCPU_SOFT)
        return cc_fail(m, CC_ENOTSUP, "only the soft vCPU's TSC can be skewed");
    if (ppm < TSC_PPM_MIN || ppm > TSC_PPM_MAX)
        return cc_fail(m, CC_EINVAL, "a clock skew of %lld ppm: must be %lld to %lld", (long long)ppm,
                       (long long)TSC_PPM_MIN, (long long)TSC_PPM_MAX);
    if (ppm == p->tsc_ppm)
        return CC_OK;
    const uint64_t now = cc_now(m), tsc = cc_tsc_of_vns(m, now);
    p->tsc_base = tsc;
    p->tsc_vns = now;
    p->tsc_ppm = ppm;
    return CC_OK;
}

int64_t cc_tsc_skew(const cc_machine *m)
{
    return m->dev.pace.tsc_ppm;
}

/* ---- the timer ----------------------------------------------------------------------------------------------------- */
int cc_set_timer_jitter(cc_machine *m, uint64_t max_ns)
{
    if (max_ns > JITTER_NS_MAX)
        return cc_fail(m, CC_EINVAL, "a timer jitter of %llu ns: must be at most a second", (unsigned long long)max_ns);
    m->dev.pace.jitter_ns = max_ns;
    return CC_OK;
}

uint64_t cc_timer_jitter(const cc_machine *m)
{
    return m->dev.pace.jitter_ns;
}

/* Without jitter the line is what OUT is.  With it a rise comes late; one that another overtakes is lost, as an
 * interrupt is that comes while the one before it still waits. */
void cc_timer_line(cc_machine *m, bool level)
{
    struct cc_pace *p = &m->dev.pace;
    const bool rises = level && !p->timer_out;
    p->timer_out = level;
    if (!rises || !p->jitter_ns) {
        if (!level || !p->timer_late)
            cc_irq_set(m, 0, level);
        return;
    }
    if (p->timer_late)
        return;
    p->timer_late = 1;
    cc_event_set(m, CC_EV_TIMER, cc_now(m) + cc_stream_below(&p->jitter, p->jitter_ns + 1));
}

void cc_timer_fire(cc_machine *m)
{
    m->dev.pace.timer_late = 0;
    cc_irq_set(m, 0, false);
    cc_irq_set(m, 0, true);
}

/* ---- interrupts ---------------------------------------------------------------------------------------------------- */
int cc_inject_irq(cc_machine *m, uint32_t irq)
{
    if (irq > 15 || irq == 2)
        return cc_fail(m, CC_EINVAL, "interrupt line %u: must be 0 to 15, and not 2, which is the second chip's", irq);
    cc_pic_inject(m, irq);
    return CC_OK;
}

int cc_inject_nmi(cc_machine *m)
{
    cc_regs r;
    m->ops->get_regs(m, &r);
    r.nmi_pending = 1;
    return m->ops->set_regs(m, &r);
}

/* ---- power --------------------------------------------------------------------------------------------------------- */
static void tell(cc_machine *m, uint32_t what)
{
    cc_event_log(m, CC_EVENT_POWER, &what, sizeof what);
}

int cc_pause(cc_machine *m, bool paused)
{
    if (m->dev.pace.paused == paused)
        return CC_OK;
    m->dev.pace.paused = paused;
    m->kick |= CC_KICK_RESCHED;
    tell(m, paused ? CC_POWER_PAUSED : CC_POWER_RESUMED);
    return CC_OK;
}

bool cc_paused(const cc_machine *m)
{
    return m->dev.pace.paused;
}

int cc_power_off(cc_machine *m)
{
    if (m->dev.dead_kind == CC_STOP_POWER_OFF)
        return CC_OK;
    m->dev.dead_kind = CC_STOP_POWER_OFF;
    m->dev.dead_detail = 0;
    cc_net_reset(m);
    tell(m, CC_POWER_OFF);
    return CC_OK;
}

/* What survives a power cycle: the clock chip runs on its battery, the rest is the observer's. */
static void reset_devices(cc_machine *m)
{
    const struct cc_pace pace = m->dev.pace;
    const struct cc_cmos cmos = m->dev.cmos;
    const struct cc_sdk sdk = m->dev.sdk;
    const uint32_t balloon_pages = m->dev.balloon.target_pages, link_down = m->dev.net.link_down;
    const uint64_t rtc_at = m->dev.ev_at[CC_EV_RTC], total = m->dev.console_total, hash = m->dev.console_hash;
    uint8_t tail[CC_CONSOLE_TAIL];
    memcpy(tail, m->dev.console_tail, sizeof tail);
    cc_devices_reset(m);
    m->dev.cmos = cmos;
    cc_event_set(m, CC_EV_RTC, rtc_at);
    m->dev.console_total = total;
    m->dev.console_hash = hash;
    memcpy(m->dev.console_tail, tail, sizeof tail);
    m->dev.sdk = sdk;
    m->dev.sdk.coverage = 0;       /* until the guest says again where its map is */
    m->dev.balloon.target_pages = balloon_pages;
    m->dev.net.link_down = link_down;
    m->dev.pace = pace;
    m->dev.pace.timer_late = m->dev.pace.timer_out = 0;
}

int cc_reboot(cc_machine *m, const cc_snapshot *boot, uint64_t vns)
{
    int rc = cc_snapshot_check(m, boot);
    if (rc)
        return rc;
    rebase(m, vns > cc_now(m) ? vns : cc_now(m));
    cc_regs regs;
    cc_snapshot_restore_ram(m, boot, &regs);
    reset_devices(m);
    m->stop_kind = CC_STOP_NONE;
    m->stop_detail = 0;
    rc = m->ops->set_regs(m, &regs);
    tell(m, CC_POWER_RESTARTED);
    return rc;
}

/* ---- random streams ------------------------------------------------------------------------------------------------ */
static void start_stream(const cc_machine *m, struct cc_stream *s, const char *label, const uint64_t *branch)
{
    cc_stream_seed(s, m->cfg.seed);
    cc_stream_text(s, label);
    if (branch)
        cc_stream_number(s, *branch);
}

static void start_streams(cc_machine *m, const uint64_t *branch)
{
    start_stream(m, &m->dev.pace.jitter, "timer-jitter", branch);
    start_stream(m, &m->dev.sdk.random, "sdk", branch);
    start_stream(m, &m->dev.disk.random, "disk", branch);
    start_stream(m, &m->dev.rng, "rng", branch);
}

void cc_streams_reset(cc_machine *m)
{
    start_streams(m, NULL);
}

void cc_reseed(cc_machine *m, uint64_t branch)
{
    start_streams(m, &branch);
}

void cc_pace_reset(cc_machine *m)
{
    const struct cc_stream jitter = m->dev.pace.jitter;
    memset(&m->dev.pace, 0, sizeof m->dev.pace);
    m->dev.pace.jitter = jitter;
}
