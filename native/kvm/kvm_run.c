/*
 * kvm/kvm_run.c: running: entering the guest, answering its exits, delivering interrupts, and stopping.
 *
 * A run ends only at an exit that the guest caused, with that instruction completed and nothing queued in KVM, so that
 * cc_regs is the whole state; the exception is a cancel, which is not part of a run's inputs.  A periodic timer signal
 * takes KVM_RUN back to look for one; the guest is then entered again and cannot tell.
 */
#include "kvm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CANCEL_POLL_NS 1000000
#define TICKS_MAX 50
#define INSN_BYTES_MAX 15

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* ---- the timer ------------------------------------------------------------------------------------------------------ */
/* Signal dispositions belong to the process, so this is the process's as well. */
static int tick_signal;            /* 0: no signal was free */
static pthread_once_t tick_once = PTHREAD_ONCE_INIT;
/* Since the run began. */
static _Thread_local volatile sig_atomic_t ticks;

static void on_tick(int sig)
{
    (void)sig;
    ticks = ticks + 1;
}

/* Take a real-time signal that nobody handles; system calls that it interrupts elsewhere go on. */
static void install_tick(void)
{
    for (int sig = SIGRTMAX; sig >= SIGRTMIN && !tick_signal; sig--) {
        struct sigaction old, mine;
        memset(&mine, 0, sizeof mine);
        mine.sa_handler = on_tick;
        mine.sa_flags = SA_RESTART;
        if (sigaction(sig, NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL &&
            sigaction(sig, &mine, NULL) == 0)
            tick_signal = sig;
    }
}

void cc_kvm_timer_free(struct cc_kvm *v)
{
    if (v->timer_tid)
        timer_delete(v->timer);
    v->timer_tid = 0;
}

static int arm_timer(cc_machine *m, long period_ns)
{
    struct cc_kvm *v = m->vcpu;
    struct itimerspec t = {{0, period_ns}, {0, period_ns}};
    if (timer_settime(v->timer, 0, &t, NULL) < 0)
        return cc_fail(m, CC_EHOST, "the host's timer failed: %s", strerror(errno));
    return CC_OK;
}

/* Start interrupting this thread; *blocked: the signal was blocked in it. */
static int begin_ticks(cc_machine *m, bool *blocked)
{
    struct cc_kvm *v = m->vcpu;
    const pid_t tid = gettid();
    ticks = 0;                     /* also makes the thread's copy exist before the handler runs */
    pthread_once(&tick_once, install_tick);
    if (!tick_signal)
        return cc_fail(m, CC_EHOST, "the kvm vCPU needs one real-time signal and this process uses all of them");
    if (v->timer_tid != tid) {
        cc_kvm_timer_free(v);
        struct sigevent ev;
        memset(&ev, 0, sizeof ev);
        ev.sigev_notify = SIGEV_THREAD_ID;
        ev.sigev_signo = tick_signal;
        ev.sigev_notify_thread_id = tid;
        if (timer_create(CLOCK_MONOTONIC, &ev, &v->timer) < 0)
            return cc_fail(m, CC_EHOST, "the host refused a timer: %s", strerror(errno));
        v->timer_tid = tid;
    }
    int rc = arm_timer(m, CANCEL_POLL_NS);
    if (rc)
        return rc;
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, tick_signal);
    pthread_sigmask(SIG_UNBLOCK, &set, &old);
    *blocked = sigismember(&old, tick_signal) == 1;
    return CC_OK;
}

static void end_ticks(cc_machine *m, bool blocked)
{
    arm_timer(m, 0);
    if (!blocked)
        return;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, tick_signal);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* ---- exits ---------------------------------------------------------------------------------------------------------- */
static void pass_time(cc_machine *m)
{
    m->instret += CC_KVM_EXIT_INSNS;
}

static void handle_io(cc_machine *m, struct kvm_run *run)
{
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        uint32_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_IN) {
            value = cc_io_read(m, run->io.port, run->io.size);
            memcpy(data, &value, run->io.size);
        } else {
            memcpy(&value, data, run->io.size);
            cc_io_write(m, run->io.port, run->io.size, value);
        }
        pass_time(m);
    }
}

static void handle_mmio(cc_machine *m, struct kvm_run *run)
{
    const unsigned len = run->mmio.len;
    /* An access across a page's end comes in parts of any length. */
    const unsigned size = len == 1 || len == 2 || len == 4 || len == 8 ? len : 1;
    for (unsigned at = 0; at + size <= len; at += size) {
        uint64_t value = 0;
        if (run->mmio.is_write) {
            memcpy(&value, run->mmio.data + at, size);
            cc_mmio_write(m, run->mmio.phys_addr + at, size, value);
        } else {
            value = cc_mmio_read(m, run->mmio.phys_addr + at, size);
            memcpy(run->mmio.data + at, &value, size);
        }
    }
    pass_time(m);
}

static uint64_t guest_rip(const struct cc_kvm *v)
{
    struct kvm_regs r;
    return ioctl(v->fd, KVM_GET_REGS, &r) < 0 ? 0 : r.rip;
}

/* The instruction's bytes as text, from guest memory. */
static const char *insn_text(cc_machine *m, uint64_t rip, char *text, size_t size)
{
    uint8_t code[INSN_BYTES_MAX];
    size_t have = 0, at = 0;
    while (have < sizeof code && cc_read_virt(m, rip + have, code + have, 1) == CC_OK)
        have++;
    uint32_t length = cc_decode_length(code, (uint32_t)have);
    *text = 0;
    for (size_t i = 0; i < (length ? length : have) && at + 4 < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%02x", i ? " " : "", code[i]);
    return *text ? text : "unreadable";
}

static int fail_internal(cc_machine *m, const struct kvm_run *run)
{
    char text[64];
    const uint64_t rip = guest_rip(m->vcpu);
    insn_text(m, rip, text, sizeof text);
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
        return cc_fail(m, CC_EHOST, "this host's KVM cannot run the instruction at 0x%llx (%s): it emulates it and does "
                       "not know it; use --vcpu soft", (unsigned long long)rip, text);
    return cc_fail(m, CC_EHOST, "this host's KVM failed at 0x%llx (%s) with internal error %u; use --vcpu soft",
                   (unsigned long long)rip, text, run->internal.suberror);
}

static int handle_exit(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    struct kvm_run *run = v->run;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        v->incomplete = true;
        handle_io(m, run);
        return CC_OK;
    case KVM_EXIT_MMIO:
        v->incomplete = true;
        handle_mmio(m, run);
        return CC_OK;
    case KVM_EXIT_HLT:
        v->halted = 1;
        m->stats.halts++;
        cc_count_exit(m);
        pass_time(m);
        return CC_OK;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_INTR:
    case KVM_EXIT_SET_TPR:
        return CC_OK;
    case KVM_EXIT_SHUTDOWN:
        cc_logf(m, "triple fault at rip 0x%llx", (unsigned long long)guest_rip(v));
        cc_request_stop(m, CC_STOP_TRIPLE_FAULT, 0);
        return CC_OK;
    case KVM_EXIT_INTERNAL_ERROR:
        return fail_internal(m, run);
    case KVM_EXIT_FAIL_ENTRY:
        return cc_fail(m, CC_EHOST, "this host's KVM could not enter the guest at 0x%llx (hardware reason 0x%llx); use "
                       "--vcpu soft", (unsigned long long)guest_rip(v),
                       (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    default:
        return cc_fail(m, CC_EHOST, "this host's KVM stopped at 0x%llx for the unknown reason %u; use --vcpu soft",
                       (unsigned long long)guest_rip(v), run->exit_reason);
    }
}

/* ---- entering --------------------------------------------------------------------------------------------------------- */
static bool cancelled(const cc_machine *m)
{
    return __atomic_load_n(&m->cancel, __ATOMIC_RELAXED) != 0;
}

static int fail_run(cc_machine *m)
{
    return cc_fail(m, CC_EHOST, "this host's KVM failed to run the guest: %s; use --vcpu soft", strerror(errno));
}

/* Execute until the next exit or tick. */
static int enter(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    v->ran = true;
    v->incomplete = false;
    if (ioctl(v->fd, KVM_RUN, 0) == 0)
        return handle_exit(m);
    if (errno == EAGAIN)
        return CC_OK;
    if (errno != EINTR)
        return fail_run(m);
    /* The guest has not exited for long: the caller may have signals to handle, such as ctrl+c. */
    if (ticks >= TICKS_MAX) {
        ticks = 0;
        cc_cancel(m);
    }
    return CC_OK;
}

/* Complete the instruction that caused the last exit, without executing another one.  It may cause further exits. */
static int complete(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    int rc = CC_OK, err = 0;
    v->run->immediate_exit = 1;
    while (!rc && !err) {
        if (ioctl(v->fd, KVM_RUN, 0) == 0)
            rc = handle_exit(m);
        else
            err = errno;
    }
    v->run->immediate_exit = 0;
    v->ran = true;
    v->incomplete = false;
    errno = err;
    return rc || err == EINTR ? rc : fail_run(m);
}

/* KVM holds an event that the guest's registers do not show yet. */
static bool event_queued(const struct cc_kvm *v)
{
    struct kvm_vcpu_events e;
    return ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e) == 0 &&
           (e.exception.injected || e.interrupt.injected || e.nmi.injected);
}

static bool nmi_blocked(const struct cc_kvm *v)
{
    struct kvm_vcpu_events e;
    return ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e) == 0 && e.nmi.masked;
}

static void wake(cc_machine *m)
{
    ((struct cc_kvm *)m->vcpu)->halted = 0;
    m->stats.interrupts++;
    m->stats.exits++;
}

/* Hand KVM an NMI or interrupt that is due, or ask it to come back when it can take one. */
static int offer_interrupt(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    bool taken = false;
    v->run->request_interrupt_window = 0;
    if (v->nmi_pending && !(v->halted && nmi_blocked(v))) {
        if (ioctl(v->fd, KVM_NMI, 0) < 0)
            return cc_fail(m, CC_EHOST, "this host's KVM refused an NMI: %s", strerror(errno));
        v->nmi_pending = 0;
        taken = true;
        wake(m);
    }
    if (!cc_pic_pending(m))
        return CC_OK;
    /* KVM would deliver an interrupt before the NMI. */
    if (taken || !v->run->ready_for_interrupt_injection || !v->run->if_flag) {
        v->run->request_interrupt_window = 1;
        return CC_OK;
    }
    struct kvm_interrupt irq = {cc_pic_ack(m)};
    if (ioctl(v->fd, KVM_INTERRUPT, &irq) < 0)
        return cc_fail(m, CC_EHOST, "this host's KVM refused interrupt 0x%x: %s", irq.irq, strerror(errno));
    wake(m);
    return CC_OK;
}

static int loop(cc_machine *m, uint64_t horizon)
{
    struct cc_kvm *v = m->vcpu;
    int rc = v->incomplete ? complete(m) : CC_OK;
    while (!rc) {
        if (m->instret >= horizon || m->kick || cancelled(m)) {
            if (v->incomplete)
                rc = complete(m);
            if (rc || m->stop_kind == CC_STOP_TRIPLE_FAULT || !event_queued(v))
                break;
            v->run->request_interrupt_window = 0;
        } else {
            rc = offer_interrupt(m);
            if (rc || v->halted)
                break;
        }
        rc = enter(m);
    }
    return rc;
}

int cc_kvm_run(cc_machine *m, uint64_t horizon)
{
    struct cc_kvm *v = m->vcpu;
    bool blocked = false;
    int rc = v->failed ? CC_EHOST : cc_kvm_prepare_memory(m);
    if (!rc)
        rc = begin_ticks(m, &blocked);
    if (rc)
        return rc;
    rc = loop(m, horizon);
    end_ticks(m, blocked);
    return rc;
}
