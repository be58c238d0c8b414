/* test_run.c: the run loop's order and its stops, a machine's configuration and memory, start state, console, log. */
#include "device_machine.h"

#include <pthread.h>

/* ==== limits ====================================================================================================== */
static void stops_at_exactly_the_asked_instruction(void)
{
    cc_machine *m = new_machine();
    uint64_t seed = 1, at = 0;
    for (unsigned i = 0; i < 1000; i++) {
        at += rnd(&seed) % 1000;
        cc_stop s = run_to_instret(m, at);
        CHECK_EQ(s.kind, CC_STOP_INSTRET);
        CHECK_EQ(s.instret, at);
        CHECK_EQ(s.vns, at);
    }
    cc_stop s = run_to_instret(m, at / 2);       /* in the past: at once, and nothing moves */
    CHECK_EQ(s.kind, CC_STOP_INSTRET);
    CHECK_EQ(s.instret, at);
    s = run_to_vns(m, 0);
    CHECK_EQ(s.kind, CC_STOP_VNS);
    CHECK_EQ(s.instret, at);
    cc_machine_free(m);
}

static void stops_at_the_first_boundary_after_a_time(void)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = 1 << 20;
    cfg.ns_per_insn = 7;
    cc_machine *m = new_machine_of(&cfg);
    CHECK_EQ(run_to_vns(m, 1).instret, 1);
    CHECK_EQ(run_to_vns(m, 7).instret, 1);
    CHECK_EQ(run_to_vns(m, 8).instret, 2);
    CHECK_EQ(run_to_vns(m, 700).instret, 100);
    CHECK_EQ(run_to_vns(m, 1000000).vns, 1000006);
    CHECK_EQ(cc_instret(m), 142858);
    /* The instruction limit first, if both are reached. */
    CHECK_EQ(run_for(m, 142858, 1000006, no_limit(), 0).kind, CC_STOP_INSTRET);
    cc_machine_free(m);
}

static void out_0x80(cc_machine *m, struct guest *g)
{
    (void)g;
    out8(m, 0x80, (uint8_t)m->instret);
}

static void stops_at_a_number_of_exits(void)
{
    cc_machine *m = new_machine();
    guest_of(m)->insn = out_0x80;
    for (uint64_t n = 1; n < 100; n += 7) {
        cc_stop s = run_for(m, no_limit(), no_limit(), n, 0);
        CHECK_EQ(s.kind, CC_STOP_EXITS);
        CHECK_EQ(s.instret, n);
        CHECK_EQ(m->stats.exits, n);
    }
    CHECK_EQ(run_to_instret(m, 200).kind, CC_STOP_INSTRET);
    cc_stats stats;
    cc_get_stats(m, &stats);
    CHECK_EQ(stats.exits, 200);
    CHECK_EQ(stats.instret, 200);
    CHECK_EQ(stats.vns, 200);
    cc_machine_free(m);
}

/* ==== events and interrupts ======================================================================================= */
static void note(cc_machine *m, struct guest *g, uint8_t vector)
{
    (void)g;
    if (vector >= 0x38)
        out8(m, 0xA0, 0x20);
    out8(m, 0x20, 0x20);
}

/* A machine whose PIT interrupts once, `pulses` pulses after now. */
static cc_machine *machine_with_timer(unsigned pulses)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0xFE, 0xFF);
    out8(m, 0x43, 0x30);
    out8(m, 0x40, (uint8_t)(pulses - 1));
    out8(m, 0x40, (uint8_t)((pulses - 1) >> 8));
    guest_of(m)->handler = note;
    return m;
}

#define AT_100 83810u           /* ceil(100 pulses), ns */

static void interrupts_at_the_first_boundary_after_the_event(void)
{
    for (uint64_t ns = 1; ns < 100000; ns = ns * 3 + 1) {
        cc_config cfg;
        cc_config_default(&cfg);
        cfg.ram_bytes = 1 << 20;
        cfg.ns_per_insn = ns;
        cc_machine *m = new_machine_of(&cfg);
        init_pics(m, 1, 0xFE, 0xFF);
        out8(m, 0x43, 0x30);
        out8(m, 0x40, 99);
        out8(m, 0x40, 0);
        guest_of(m)->iflag = true;
        run_to_vns(m, 1000000);
        CHECK_EQ(guest_of(m)->delivered, 1);
        CHECK_EQ(guest_of(m)->last_instret, (AT_100 + ns - 1) / ns);
        cc_machine_free(m);
    }
}

/* A stop comes before what is due at the same boundary, and repeating it changes nothing. */
static void a_stop_has_no_side_effect(void)
{
    cc_machine *m = machine_with_timer(100);
    guest_of(m)->iflag = true;
    CHECK_EQ(run_to_instret(m, AT_100).kind, CC_STOP_INSTRET);
    static struct cc_devstate before;
    before = m->dev;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(run_to_instret(m, AT_100).kind, CC_STOP_INSTRET);
        CHECK_EQ(run_to_vns(m, AT_100).kind, CC_STOP_VNS);
        CHECK(!memcmp(&before, &m->dev, sizeof before));
    }
    CHECK_EQ(m->dev.ev_at[CC_EV_PIT0], AT_100);
    CHECK_EQ(guest_of(m)->delivered, 0);
    run_to_instret(m, AT_100 + 1);
    CHECK_EQ(guest_of(m)->delivered, 1);
    CHECK_EQ(guest_of(m)->last_instret, AT_100);
    cc_machine_free(m);
}

static void unmask_at_50(cc_machine *m, struct guest *g)
{
    (void)g;
    if (m->instret == 50)
        out8(m, 0x21, 0xEF);
}

/* A device that makes an interrupt pending ends the vCPU's slice at that instruction. */
static void an_unmasked_interrupt_comes_at_the_next_boundary(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0xFF, 0xFF);
    out8(m, 0x3FC, 8);
    out8(m, 0x3F9, 2);
    guest_of(m)->iflag = true;
    guest_of(m)->insn = unmask_at_50;
    run_to_instret(m, 1000);
    CHECK_EQ(guest_of(m)->delivered, 1);
    CHECK_EQ(guest_of(m)->last_instret, 51);
    cc_machine_free(m);
}

/* Several events pass within one long instruction: all of them happen, in order of time. */
static void events_happen_in_order_of_time(void)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = 1 << 20;
    cfg.ns_per_insn = 1000000;
    cc_machine *m = new_machine_of(&cfg);
    init_pics(m, 3, 0xEE, 0xFF);
    out8(m, 0x3FA, 1);
    out8(m, 0x3FC, 8);
    out8(m, 0x3F9, 1);
    out8(m, 0x43, 0x30);
    out8(m, 0x40, 63);
    out8(m, 0x40, 0);
    cc_console_input(m, (const uint8_t *)"abc", 3);
    run_to_instret(m, 1);
    CHECK_EQ(m->dev.ev_at[CC_EV_PIT0], 53639);   /* pulse 64; not handled: the stop came first */
    guest_of(m)->handler = note;
    guest_of(m)->iflag = true;
    run_to_instret(m, 2);
    CHECK_EQ(m->dev.uart.fifo_count, 3);
    CHECK_EQ(m->dev.uart.rx_due, 3 * 86806);     /* from when each was due, not from when it was handled */
    CHECK_EQ(m->dev.uart.timeout, 1);            /* four character times after the third */
    CHECK_EQ(guest_of(m)->vector, 0x30);
    run_to_instret(m, 3);
    CHECK_EQ(guest_of(m)->vector, 0x34);
    cc_machine_free(m);
}

static void cutting_a_run_changes_nothing(void)
{
    cc_machine *whole = machine_with_timer(3000), *cut = machine_with_timer(3000);
    uint64_t seed = 5;
    cc_machine *both[2] = {whole, cut};
    for (unsigned i = 0; i < 2; i++) {
        guest_of(both[i])->iflag = true;
        guest_of(both[i])->insn = out_0x80;
        out8(both[i], 0x43, 0x34);
        out8(both[i], 0x40, 77);
        out8(both[i], 0x40, 0);
    }
    run_to_instret(whole, 3000000);
    while (cc_instret(cut) < 3000000) {
        uint64_t to = cc_instret(cut) + rnd(&seed) % 9999;
        if (rnd(&seed) & 1)
            run_to_instret(cut, to < 3000000 ? to : 3000000);
        else
            run_to_vns(cut, to < 3000000 ? to : 3000000);
    }
    CHECK(guest_of(whole)->delivered > 40);
    CHECK_EQ(guest_of(whole)->delivered, guest_of(cut)->delivered);
    CHECK_EQ(guest_of(whole)->last_instret, guest_of(cut)->last_instret);
    CHECK(!memcmp(&whole->dev, &cut->dev, sizeof whole->dev));
    CHECK(guest_of(whole)->slice_max <= 200000);
    cc_machine_free(whole);
    cc_machine_free(cut);
}

static void long_slices_are_capped(void)
{
    cc_machine *m = new_machine();
    run_to_instret(m, 10000000);
    CHECK_EQ(guest_of(m)->slice_max, 200000);
    CHECK_EQ(guest_of(m)->runs, 50);
    cc_machine_free(m);
}

/* ==== halting ===================================================================================================== */
static void halt_skips_to_the_waking_event(void)
{
    cc_machine *m = machine_with_timer(100);
    guest_of(m)->iflag = true;
    guest_of(m)->halted = true;
    cc_stop s = run_for(m, 10, no_limit(), no_limit(), 0);
    CHECK_EQ(s.kind, CC_STOP_INSTRET);
    CHECK_EQ(guest_of(m)->last_vns, AT_100);
    CHECK_EQ(guest_of(m)->last_instret, 0);      /* no instruction was retired while halted */
    CHECK_EQ(s.vns, AT_100 + 10);
    cc_machine_free(m);
}

static void halt_stops_at_the_time_limit(void)
{
    cc_machine *m = machine_with_timer(100);
    guest_of(m)->iflag = true;
    guest_of(m)->halted = true;
    for (uint64_t t = 1000; t <= 83000; t += 1000) {
        cc_stop s = run_to_vns(m, t);
        CHECK_EQ(s.kind, CC_STOP_VNS);
        CHECK_EQ(s.vns, t);
        CHECK_EQ(s.instret, 0);
    }
    run_to_vns(m, 100000);
    CHECK_EQ(guest_of(m)->last_vns, AT_100);
    cc_machine_free(m);
}

static void halt_without_wake_up_is_reported(void)
{
    cc_machine *m = new_machine();
    run_to_instret(m, 5);
    guest_of(m)->halted = true;
    guest_of(m)->iflag = true;
    for (unsigned i = 0; i < 2; i++) {
        cc_stop s = run_to_instret(m, 1000);
        CHECK_EQ(s.kind, CC_STOP_HALTED);
        CHECK_EQ(s.instret, 5);
        CHECK_EQ(s.vns, 5);
    }
    CHECK_EQ(run_for(m, no_limit(), no_limit(), 1000, 0).kind, CC_STOP_HALTED);
    cc_stop s = run_to_vns(m, 7000);             /* a time limit can be reached all the same */
    CHECK_EQ(s.kind, CC_STOP_VNS);
    CHECK_EQ(s.vns, 7000);
    /* Input from the host is a way to wake up. */
    init_pics(m, 1, 0xEF, 0xFF);
    out8(m, 0x3FC, 8);
    out8(m, 0x3F9, 1);
    guest_of(m)->handler = note;
    cc_console_input(m, (const uint8_t *)"x", 1);
    CHECK_EQ(run_to_instret(m, 1000).kind, CC_STOP_INSTRET);
    CHECK_EQ(guest_of(m)->last_vns, 7000 + 86806);
    cc_machine_free(m);
}

/* Halted for good although a timer ticks on: interrupts off, the line masked, or in service. */
static void halt_with_useless_events_is_reported(void)
{
    for (unsigned why = 0; why < 4; why++) {
        cc_machine *m = new_machine();
        init_pics(m, 1, why == 1 ? 0xFF : 0xFE, 0xFF);
        out8(m, 0x43, 0x34);
        out8(m, 0x40, 0);
        out8(m, 0x40, 0);
        guest_of(m)->iflag = why != 0;
        if (why == 2) {
            CHECK_EQ(cc_pic_ack(m), 0x30);
        } else
            m->dev.pic[0].edge = 0;
        guest_of(m)->halted = true;
        CHECK_EQ(run_to_instret(m, 100).kind, why == 3 ? CC_STOP_INSTRET : CC_STOP_HALTED);
        uint64_t later = cc_now(m) + SECOND;
        if (why != 3)
            CHECK_EQ(run_to_vns(m, later).vns, later);   /* with a time limit the timer is served on the way */
        CHECK_EQ(guest_of(m)->delivered, why == 3);
        cc_machine_free(m);
    }
}

static void a_pending_interrupt_wakes_only_if_interruptible(void)
{
    cc_machine *m = machine_with_timer(100);
    guest_of(m)->halted = true;
    CHECK_EQ(run_to_vns(m, 2 * AT_100).kind, CC_STOP_VNS);
    CHECK(cc_pic_pending(m));
    CHECK_EQ(guest_of(m)->delivered, 0);
    CHECK_EQ(run_to_instret(m, 5).kind, CC_STOP_HALTED);
    guest_of(m)->iflag = true;
    CHECK_EQ(run_to_instret(m, 5).kind, CC_STOP_INSTRET);
    CHECK_EQ(guest_of(m)->last_vns, 2 * AT_100);
    cc_machine_free(m);
}

static void an_nmi_from_the_host_wakes(void)
{
    cc_machine *m = new_machine();
    guest_of(m)->halted = true;
    CHECK_EQ(run_to_instret(m, 5).kind, CC_STOP_HALTED);
    guest_of(m)->nmi = true;
    CHECK_EQ(run_to_instret(m, 5).kind, CC_STOP_INSTRET);
    cc_machine_free(m);
}

static int run_refuses(cc_machine *m, uint64_t horizon)
{
    (void)m;
    (void)horizon;
    return 0;
}

/* A vCPU that stays halted though an interrupt is pending: time goes on, and the run ends. */
static void a_refused_interrupt_hangs_nothing(void)
{
    cc_machine *m = machine_with_timer(100);
    struct cc_vcpu_ops ops = guest_ops;
    ops.run = run_refuses;
    m->ops = &ops;
    guest_of(m)->halted = true;
    guest_of(m)->iflag = true;
    CHECK_EQ(run_to_vns(m, SECOND).vns, SECOND);
    CHECK(cc_pic_pending(m));
    CHECK_EQ(run_to_instret(m, 5).kind, CC_STOP_HALTED);
    m->ops = &guest_ops;
    cc_machine_free(m);
}

static void a_halted_machine_serves_its_timer_for_ever(void)
{
    cc_machine *m = machine_with_timer(100);
    out8(m, 0x43, 0x34);
    out8(m, 0x40, 0xA9);
    out8(m, 0x40, 0x04);                         /* 1193 pulses: 1 kHz */
    m->dev.pic[0].edge = 0;
    guest_of(m)->insn = hlt_always;
    guest_of(m)->iflag = true;
    cc_stop s = run_to_instret(m, 5000);
    CHECK_EQ(s.kind, CC_STOP_INSTRET);
    CHECK_EQ(guest_of(m)->delivered, 4999);
    CHECK(s.vns > 4998 * MS && s.vns < 5000 * MS);
    CHECK_EQ(m->stats.halts, 5000);
    cc_machine_free(m);
}

/* ==== requested stops ============================================================================================= */
static void dies_at_10(cc_machine *m, struct guest *g)
{
    if (m->instret != 10)
        return;
    if (g->value == CC_STOP_TRIPLE_FAULT)
        cc_request_stop(m, CC_STOP_TRIPLE_FAULT, 0);
    else if (g->value == CC_STOP_RESET)
        out8(m, 0x64, 0xFE);
    else
        out8(m, 0x501, 3);
}

static void a_dead_machine_stays_dead(void)
{
    static const struct { uint32_t kind, detail; } ends[] = {
        {CC_STOP_TRIPLE_FAULT, 0}, {CC_STOP_RESET, 0x64}, {CC_STOP_SHUTDOWN, 3},
    };
    for (unsigned i = 0; i < 3; i++) {
        cc_machine *m = new_machine();
        cc_snapshot *snap;
        guest_of(m)->insn = dies_at_10;
        guest_of(m)->value = ends[i].kind;
        for (unsigned again = 0; again < 3; again++) {
            /* Also when the limit is reached by the same instruction. */
            cc_stop s = run_for(m, 11, again * 1000, no_limit(), 0);
            if (again == 0) {
                CHECK_EQ(s.kind, CC_STOP_VNS);
                CHECK_EQ(cc_snapshot_take(m, &snap), 0);
                continue;
            }
            CHECK_EQ(s.kind, ends[i].kind);
            CHECK_EQ(s.detail, ends[i].detail);
            CHECK_EQ(s.instret, 11);
            CHECK_EQ(s.vns, 11);
        }
        CHECK_EQ(run_to_vns(m, 50000).kind, ends[i].kind);
        CHECK_EQ(cc_snapshot_restore(m, snap), 0);   /* death is state */
        guest_of(m)->value = ends[i].kind;
        CHECK_EQ(run_to_instret(m, 5).kind, CC_STOP_INSTRET);
        CHECK_EQ(run_to_instret(m, 50).kind, ends[i].kind);
        CHECK_EQ(cc_enter_long_mode(m, 0x1000, 0, 0, 0x9000), 0);
        guest_of(m)->insn = NULL;
        CHECK_EQ(run_to_instret(m, 100).kind, CC_STOP_INSTRET);
        cc_snapshot_free(snap);
        cc_machine_free(m);
    }
}

static void hypercalls(cc_machine *m, struct guest *g)
{
    (void)g;
    if (m->instret % 10 == 9)
        out8(m, m->instret % 20 == 9 ? 0x510 : 0x511, 0);
}

/* An end asked for outside of any run, as a test or a debugger does port accesses, is in the next snapshot. */
static void an_end_between_runs_is_state(void)
{
    cc_machine *m = new_machine(), *other = new_machine();
    cc_snapshot *snap;
    guest_of(m)->halted = true;
    out8(m, 0xCF9, 0x02);
    out8(m, 0xCF9, 0x06);
    CHECK_EQ(cc_snapshot_take(m, &snap), 0);
    CHECK_EQ(cc_snapshot_restore(other, snap), 0);
    cc_digest one, two;
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(run_to_vns(m, MS).kind, CC_STOP_RESET);
        CHECK_EQ(run_to_vns(other, MS).kind, CC_STOP_RESET);
        cc_digest_now(m, &one);
        cc_digest_now(other, &two);
        CHECK(one.lo == two.lo && one.hi == two.hi);
    }
    cc_snapshot_free(snap);
    cc_machine_free(m);
    cc_machine_free(other);
}

static void hypercalls_stop_after_the_writing_instruction(void)
{
    cc_machine *m = new_machine();
    guest_of(m)->insn = hypercalls;
    for (unsigned i = 0; i < 5; i++) {
        cc_stop s = run_for(m, 1000, no_limit(), no_limit(), CC_AT_HYPERCALL);
        CHECK_EQ(s.kind, CC_STOP_HYPERCALL);
        CHECK_EQ(s.instret, 20 * i + 10);
    }
    CHECK_EQ(run_for(m, 1000, no_limit(), no_limit(), CC_AT_COVERAGE).kind, CC_STOP_COVERAGE);
    CHECK_EQ(cc_instret(m), 100);
    /* At the very limit the event is reported first; the limit is then reached at once. */
    CHECK_EQ(run_for(m, 110, no_limit(), no_limit(), CC_AT_HYPERCALL).kind, CC_STOP_HYPERCALL);
    CHECK_EQ(run_for(m, 110, no_limit(), no_limit(), CC_AT_HYPERCALL).kind, CC_STOP_INSTRET);
    CHECK_EQ(cc_instret(m), 110);
    CHECK_EQ(run_to_instret(m, 1000).kind, CC_STOP_INSTRET);
    cc_machine_free(m);
}

static void *canceller(void *arg)
{
    cc_machine *m = arg;
    struct timespec ms = {0, 20000000};
    nanosleep(&ms, NULL);
    cc_cancel(m);
    return NULL;
}

static void cancel_ends_a_run_and_is_no_state(void)
{
    cc_machine *m = machine_with_timer(100);
    pthread_t t;
    CHECK(!pthread_create(&t, NULL, canceller, m));
    CHECK_EQ(run_for(m, no_limit(), no_limit(), no_limit(), 0).kind, CC_STOP_CANCELLED);
    CHECK(!pthread_join(t, NULL));
    uint64_t at = cc_instret(m);
    CHECK(at > 0);
    CHECK_EQ(run_to_instret(m, at + 1).kind, CC_STOP_INSTRET);
    CHECK_EQ(cc_instret(m), at + 1);
    /* Before a run: the next one returns at once.  Limits that are reached come first. */
    cc_cancel(m);
    CHECK_EQ(run_to_instret(m, at + 1).kind, CC_STOP_INSTRET);
    CHECK_EQ(run_to_instret(m, at + 2).kind, CC_STOP_CANCELLED);
    CHECK_EQ(cc_instret(m), at + 1);
    /* Halted with a timer that fires for ever. */
    out8(m, 0x43, 0x34);
    out8(m, 0x40, 2);
    out8(m, 0x40, 0);
    guest_of(m)->halted = true;
    CHECK(!pthread_create(&t, NULL, canceller, m));
    CHECK_EQ(run_to_vns(m, UINT64_C(1) << 60).kind, CC_STOP_CANCELLED);
    CHECK(!pthread_join(t, NULL));
    cc_machine_free(m);
}

static int run_fails(cc_machine *m, uint64_t horizon)
{
    (void)horizon;
    return cc_fail(m, CC_EHOST, "the test's vCPU failed");
}

static void a_failing_vcpu_is_an_error(void)
{
    cc_machine *m = new_machine();
    struct cc_vcpu_ops ops = guest_ops;
    ops.run = run_fails;
    m->ops = &ops;
    cc_until until = {100, no_limit(), no_limit(), 0, 0};
    cc_stop stop;
    CHECK(cc_run(m, &until, &stop) == CC_EHOST);
    CHECK_EQ(stop.kind, CC_STOP_ERROR);
    CHECK(!strcmp(cc_error(m), "the test's vCPU failed"));
    m->ops = &guest_ops;
    CHECK_EQ(run_to_instret(m, 100).kind, CC_STOP_INSTRET);
    cc_machine_free(m);
}

static void time_ends_with_a_clear_line(void)
{
    cc_machine *m = new_machine();
    guest_of(m)->halted = true;
    CHECK_EQ(run_to_vns(m, (UINT64_C(1) << 62) - 5).kind, CC_STOP_VNS);
    out8(m, 0x40, 0);
    in8(m, 0x61);
    out8(m, 0x70, 9);
    in8(m, 0x71);
    guest_of(m)->halted = false;
    cc_until until = {no_limit(), no_limit(), no_limit(), 0, 0};
    cc_stop stop;
    for (unsigned i = 0; i < 2; i++) {
        CHECK(cc_run(m, &until, &stop) == CC_EINVAL);
        CHECK_EQ(stop.kind, CC_STOP_ERROR);
        CHECK_EQ(stop.vns, UINT64_C(1) << 62);
        CHECK(strstr(cc_error(m), "virtual time"));
    }
    cc_machine_free(m);
}

/* ==== configuration and memory ==================================================================================== */
static void every_bad_configuration_has_its_line(void)
{
    cc_config good, c;
    cc_config_default(&good);
    static const struct { const char *word; size_t offset, size; uint64_t value; } bad[] = {
        {"memory", offsetof(cc_config, ram_bytes), 8, 0},
        {"memory", offsetof(cc_config, ram_bytes), 8, 4096},
        {"memory", offsetof(cc_config, ram_bytes), 8, (1 << 20) + 1},
        {"memory", offsetof(cc_config, ram_bytes), 8, UINT64_C(1) << 40},
        {"memory", offsetof(cc_config, ram_bytes), 8, (UINT64_C(3) << 30) + 4096},
        {"per instruction", offsetof(cc_config, ns_per_insn), 8, 0},
        {"per instruction", offsetof(cc_config, ns_per_insn), 8, 1000001},
        {"TSC", offsetof(cc_config, tsc_khz), 8, 0},
        {"TSC", offsetof(cc_config, tsc_khz), 8, UINT64_MAX},
        {"clock start", offsetof(cc_config, rtc_epoch_s), 8, UINT64_MAX},
        {"clock start", offsetof(cc_config, rtc_epoch_s), 8, 4102444800},
        {"profile", offsetof(cc_config, cpu_profile), 4, 0},
        {"profile", offsetof(cc_config, cpu_profile), 4, 99},
        {"vCPU", offsetof(cc_config, vcpu), 4, 2},
        {"TLB", offsetof(cc_config, tlb_bits), 4, 3},
        {"TLB", offsetof(cc_config, tlb_bits), 4, 13},
        {"code cache", offsetof(cc_config, code_cache_kib), 4, 1},
        {"code cache", offsetof(cc_config, code_cache_kib), 4, UINT32_MAX},
        {"flags", offsetof(cc_config, flags), 4, 0x80000000u},
    };
    cc_store *store = cc_store_new(0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char err[200] = "";
        cc_machine *m = (cc_machine *)1;
        c = good;
        memcpy((char *)&c + bad[i].offset, &bad[i].value, bad[i].size);
        CHECK(cc_machine_new(&c, store, &m, err, sizeof err) == CC_EINVAL);
        CHECK(m == NULL);
        CHECK(strstr(err, bad[i].word) && !strchr(err, '\n'));
    }
    char err[200];
    cc_machine *m;
    CHECK(cc_machine_new(&good, NULL, &m, err, sizeof err) == CC_EINVAL && strstr(err, "store"));
    m = new_machine();
    CHECK(cc_set_cache_sizes(m, 3, 1024) == CC_EINVAL && strstr(cc_error(m), "TLB"));
    CHECK(cc_set_cache_sizes(m, 5, 1024) == 0);
    CHECK_EQ(m->cfg.tlb_bits, 5);
    cc_machine_free(m);
    cc_store_free(store);
}

static void a_large_machine_costs_nothing(void)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = UINT64_C(3) << 30;
    cc_machine *m[8];
    for (unsigned i = 0; i < 8; i++) {
        m[i] = new_machine_of(&cfg);
        uint8_t b = 0xA5, r = 0;
        CHECK_EQ(cc_write_phys(m[i], cfg.ram_bytes - 1, &b, 1), 0);
        CHECK_EQ(cc_read_phys(m[i], cfg.ram_bytes - 1, &r, 1), 0);
        CHECK_EQ(r, 0xA5);
    }
    for (unsigned i = 0; i < 8; i++)
        cc_machine_free(m[i]);
}

static void physical_accesses_are_checked_and_mark_pages(void)
{
    cc_machine *m = new_machine();
    uint8_t data[10000], back[10000];
    memset(data, 0x5A, sizeof data);
    uint64_t dirty = cc_dirty_pages(m);
    m->page_flags[3] |= CC_PF_CODE;
    CHECK_EQ(cc_write_phys(m, 0x1FFF, data, 4098), 0);
    CHECK_EQ(cc_dirty_pages(m), dirty + 3);
    CHECK_EQ(guest_of(m)->pages_changed, 1);
    CHECK_EQ(cc_read_phys(m, 0x1FFF, back, 4098), 0);
    CHECK(!memcmp(data, back, 4098));
    CHECK(cc_write_phys(m, (16 << 20) - 9999, data, 10000) == CC_EFAULT);
    CHECK_EQ(cc_dirty_pages(m), dirty + 3);
    CHECK(cc_read_phys(m, UINT64_MAX, back, 1) == CC_EFAULT);
    CHECK(cc_read_phys(m, 0, back, SIZE_MAX) == CC_EFAULT);
    CHECK(strstr(cc_error(m), "outside"));
    CHECK_EQ(cc_read_phys(m, UINT64_MAX, back, 0), 0);
    cc_machine_free(m);
}

static void virtual_accesses_are_all_or_nothing(void)
{
    cc_machine *m = new_machine();
    uint8_t data[0x3000], back[0x3000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    CHECK_EQ(cc_write_virt(m, 0x6800, data, 0x1800), 0);   /* pages 6 and 7 are swapped by the tables */
    CHECK(!memcmp(m->ram + 0x7800, data, 0x800));
    CHECK(!memcmp(m->ram + 0x6000, data + 0x800, 0x1000));
    CHECK_EQ(cc_read_virt(m, 0x6800, back, 0x1800), 0);
    CHECK(!memcmp(back, data, 0x1800));
    CHECK(cc_write_virt(m, 0x4000, data, 0x1001) == CC_EFAULT);   /* page 5 is missing */
    CHECK_EQ(m->ram[0x4000], 0);
    CHECK(strstr(cc_error(m), "0x5000") && strstr(cc_error(m), "not mapped"));
    CHECK(cc_read_virt(m, 0x80000000, back, 1) == CC_EFAULT);
    CHECK(strstr(cc_error(m), "not memory"));
    CHECK(cc_read_virt(m, UINT64_MAX, back, 2) == CC_EFAULT);
    uint64_t gpa;
    CHECK_EQ(cc_translate(m, 0x6123, &gpa), 0);
    CHECK_EQ(gpa, 0x7123);
    CHECK(cc_translate(m, 0x5123, &gpa) == CC_EFAULT);
    cc_machine_free(m);
}

static cc_regs entered;

static int keep_regs(cc_machine *m, const cc_regs *r)
{
    (void)m;
    entered = *r;
    return 0;
}

static uint64_t u64_at(cc_machine *m, uint64_t gpa)
{
    uint64_t v;
    CHECK_EQ(cc_read_phys(m, gpa, &v, sizeof v), 0);
    return v;
}

static void long_mode_is_entered_with_4_gib_mapped(void)
{
    cc_machine *m = new_machine();
    struct cc_vcpu_ops ops = guest_ops;
    ops.set_regs = keep_regs;
    m->ops = &ops;
    memset(m->ram + 0x9000, 0xFF, 0x6000);
    CHECK_EQ(cc_enter_long_mode(m, 0x1000000, 0x7000, 0x8FF0, 0x9000), 0);
    for (uint64_t gib = 0; gib < 4; gib++) {
        CHECK_EQ(u64_at(m, 0x9000), 0xA027);
        CHECK_EQ(u64_at(m, 0xA000 + 8 * gib), 0xB027 + 0x1000 * gib);
        for (uint64_t i = 0; i < 512; i++)
            CHECK_EQ(u64_at(m, 0xB000 + 0x1000 * gib + 8 * i), (gib << 30 | i << 21) + 0xE7);
    }
    CHECK_EQ(u64_at(m, 0x9008), 0);
    CHECK_EQ(u64_at(m, 0xA020), 0);
    CHECK_EQ(u64_at(m, 0x500), 0);
    CHECK_EQ(u64_at(m, 0x510), 0x00AF9B000000FFFF);
    CHECK_EQ(u64_at(m, 0x518), 0x00CF93000000FFFF);
    CHECK_EQ(entered.rip, 0x1000000);
    CHECK_EQ(entered.gpr[6], 0x7000);
    CHECK_EQ(entered.gpr[4], 0x8FF0);
    CHECK_EQ(entered.rflags, 2);
    CHECK_EQ(entered.cr3, 0x9000);
    CHECK_EQ(entered.cr0, 0x80010033);
    CHECK_EQ(entered.cr4, 0x620);
    CHECK_EQ(entered.efer, 0x500);
    CHECK_EQ(entered.seg[1].selector, 0x10);
    CHECK_EQ(entered.seg[1].attr, 0xA09B);
    CHECK_EQ(entered.seg[0].selector, 0x18);
    CHECK_EQ(entered.seg[2].attr, 0xC093);
    CHECK_EQ(entered.gdtr.base, 0x500);
    CHECK_EQ(entered.gdtr.limit, 31);
    CHECK_EQ(entered.fcw, 0x37F);
    CHECK_EQ(entered.mxcsr, 0x1F80);
    CHECK(cc_enter_long_mode(m, 0, 0, 0, 0) == CC_EINVAL);
    CHECK(cc_enter_long_mode(m, 0, 0, 0, 0x9001) == CC_EINVAL);
    CHECK(cc_enter_long_mode(m, 0, 0, 0, (16 << 20) - 0x5000) == CC_EINVAL);
    m->ops = &guest_ops;
    cc_machine_free(m);
}

/* ==== console and log ============================================================================================= */
static const char *text;

static void type_text(cc_machine *m, struct guest *g)
{
    (void)g;
    if (m->instret % 10 == 9)
        out8(m, 0x3F8, (uint8_t)text[m->instret / 10 % strlen(text)]);
}

static uint64_t take(cc_machine *m, char *dst, size_t cap)
{
    uint64_t first;
    size_t n = cc_console_take(m, (uint8_t *)dst, cap - 1, &first);
    dst[n] = 0;
    return first;
}

static int set_pattern(cc_machine *m, const char *s)
{
    return cc_console_pattern(m, (const uint8_t *)s, strlen(s));
}

static void pattern_stops_after_its_last_byte(void)
{
    cc_machine *m = new_machine();
    guest_of(m)->insn = type_text;
    text = "aabaabaaab|";
    CHECK_EQ(set_pattern(m, "aabaaab"), 0);
    cc_stop s = run_for(m, 10000, no_limit(), no_limit(), CC_AT_CONSOLE);
    CHECK_EQ(s.kind, CC_STOP_CONSOLE);
    CHECK_EQ(s.instret, 100);                    /* the tenth byte, written by instruction 99 */
    s = run_for(m, 10000, no_limit(), no_limit(), CC_AT_CONSOLE);
    CHECK_EQ(s.instret, 210);
    CHECK_EQ(run_to_instret(m, 330).kind, CC_STOP_INSTRET);   /* seen, not asked for */
    set_pattern(m, "|aa");
    CHECK_EQ(run_for(m, 10000, no_limit(), no_limit(), CC_AT_CONSOLE).instret, 460);   /* '|' at 33 came before */
    set_pattern(m, "");
    CHECK_EQ(run_for(m, 1000, no_limit(), no_limit(), CC_AT_CONSOLE).kind, CC_STOP_INSTRET);
    static uint8_t longest[256];
    CHECK_EQ(cc_console_pattern(m, longest, 255), 0);
    CHECK(cc_console_pattern(m, longest, 256) == CC_EINVAL);
    cc_machine_free(m);
}

/* The same instruction is found with runs cut anywhere and with snapshots restored in the middle of the pattern. */
static void pattern_survives_cuts_and_restores(void)
{
    uint64_t seed = 9;
    text = "abcabdabcabcabd.";
    for (unsigned i = 0; i < 200; i++) {
        cc_machine *m = new_machine();
        cc_snapshot *snap;
        char buf[64];
        guest_of(m)->insn = type_text;
        set_pattern(m, "abcabcabd.a");
        run_for(m, rnd(&seed) % 160, no_limit(), no_limit(), CC_AT_CONSOLE);
        CHECK_EQ(cc_snapshot_take(m, &snap), 0);
        if (i & 1)
            take(m, buf, 1 + rnd(&seed) % 20);   /* what has been taken does not matter */
        run_for(m, cc_instret(m) + rnd(&seed) % 400, no_limit(), no_limit(), 0);
        if (i & 2)
            take(m, buf, sizeof buf);
        CHECK_EQ(cc_snapshot_restore(m, snap), 0);
        CHECK_EQ(run_for(m, 1000, no_limit(), no_limit(), CC_AT_CONSOLE).instret, 170);
        cc_snapshot_free(snap);
        cc_machine_free(m);
    }
}

static void output_follows_a_restore(void)
{
    cc_machine *m = new_machine();
    cc_snapshot *early, *late;
    cc_console_mark marks[8];
    char buf[64];
    guest_of(m)->insn = type_text;
    text = "one\ntwo\n";
    run_to_instret(m, 60);                       /* "one\ntw" */
    CHECK_EQ(cc_snapshot_take(m, &early), 0);
    run_to_instret(m, 80);
    CHECK_EQ(cc_snapshot_take(m, &late), 0);
    run_to_instret(m, 200);
    CHECK_EQ(cc_snapshot_restore(m, early), 0);
    CHECK_EQ(cc_console_total(m), 6);
    text = "ONE\nTWO\n";                         /* another history from here */
    run_to_instret(m, 90);
    CHECK_EQ(take(m, buf, sizeof buf), 0);
    CHECK(!strcmp(buf, "one\ntwO\nO"));
    CHECK_EQ(cc_console_take_marks(m, marks, 8), 3);
    CHECK_EQ(marks[0].offset, 0);
    CHECK_EQ(marks[0].instret, 9);
    CHECK_EQ(marks[1].offset, 4);
    CHECK_EQ(marks[1].vns, 49);
    CHECK_EQ(marks[2].offset, 8);
    /* Forward into the other history: its bytes are not here, and what is here is not its. */
    run_to_instret(m, 100);
    CHECK_EQ(cc_snapshot_restore(m, late), 0);
    CHECK_EQ(take(m, buf, sizeof buf), 8);
    CHECK(!strcmp(buf, ""));
    run_to_instret(m, 120);
    CHECK_EQ(take(m, buf, sizeof buf), 8);
    CHECK(!strcmp(buf, "ONE\n"));
    /* Back to before what was taken: the next bytes say where they belong. */
    CHECK_EQ(cc_snapshot_restore(m, early), 0);
    run_to_instret(m, 70);
    CHECK_EQ(take(m, buf, sizeof buf), 6);
    CHECK(!strcmp(buf, "O"));
    cc_snapshot_free(early);
    cc_snapshot_free(late);
    cc_machine_free(m);
}

static void output_is_bounded_and_says_so(void)
{
    cc_machine *m = new_machine();
    static uint8_t buf[2 << 20];
    char log[1000];
    uint64_t first, total = 3000000;
    for (uint64_t i = 0; i < total; i++)
        out8(m, 0x3F8, i % 64 == 63 ? '\n' : (uint8_t)(i % 64 + 32));
    CHECK_EQ(cc_console_total(m), total);
    size_t n = cc_console_take(m, buf, sizeof buf, &first);
    CHECK_EQ(first + n, total);
    CHECK(n <= 1 << 20 && n >= 15 << 16);
    for (size_t i = 0; i < n; i++)
        CHECK_EQ(buf[i], (first + i) % 64 == 63 ? '\n' : (first + i) % 64 + 32);
    static cc_console_mark marks[50000];
    size_t k = cc_console_take_marks(m, marks, 50000);
    CHECK_EQ(k, 16384);
    CHECK_EQ(marks[k - 1].offset, (total - 1) / 64 * 64);
    size_t used = cc_log_take(m, log, sizeof log);
    CHECK(used && used < sizeof log);
    log[used] = 0;
    CHECK(strstr(log, "dropped") && strstr(log, "times)"));
    cc_machine_free(m);
}

static void log_counts_repeats_and_is_bounded(void)
{
    cc_machine *m = new_machine();
    char buf[100000];
    CHECK_EQ(cc_log_take(m, buf, sizeof buf), 0);
    run_to_instret(m, 1500000000 % 100000);
    cc_logf(m, "first %d", 1);
    for (unsigned i = 0; i < 3; i++)
        cc_logf(m, "again");
    size_t n = cc_log_take(m, buf, sizeof buf);
    buf[n] = 0;
    CHECK(!strcmp(buf, "[0.000000000 s, instruction 0] first 1\n[0.000000000 s, instruction 0] again (3 times)\n"));
    for (unsigned i = 0; i < 1000; i++)
        cc_logf(m, "line %u %0*d", i, i == 999 ? 500 : 1, 0);
    CHECK_EQ(cc_log_take(m, buf, 10), 0);        /* too small for a line: nothing is lost */
    n = 0;
    size_t part;
    while ((part = cc_log_take(m, buf + n, 400)))
        n += part;
    buf[n] = 0;
    CHECK(strstr(buf, "(744 earlier lines") == buf);
    CHECK(strstr(buf, "line 744 0\n") && !strstr(buf, "line 743 "));
    CHECK(strstr(buf, "line 999 000"));
    CHECK_EQ(buf[n - 1], '\n');
    cc_machine_free(m);
}

int main(void)
{
    RUN(stops_at_exactly_the_asked_instruction);
    RUN(stops_at_the_first_boundary_after_a_time);
    RUN(stops_at_a_number_of_exits);
    RUN(interrupts_at_the_first_boundary_after_the_event);
    RUN(a_stop_has_no_side_effect);
    RUN(an_unmasked_interrupt_comes_at_the_next_boundary);
    RUN(events_happen_in_order_of_time);
    RUN(cutting_a_run_changes_nothing);
    RUN(long_slices_are_capped);
    RUN(halt_skips_to_the_waking_event);
    RUN(halt_stops_at_the_time_limit);
    RUN(halt_without_wake_up_is_reported);
    RUN(halt_with_useless_events_is_reported);
    RUN(a_pending_interrupt_wakes_only_if_interruptible);
    RUN(an_nmi_from_the_host_wakes);
    RUN(a_refused_interrupt_hangs_nothing);
    RUN(a_halted_machine_serves_its_timer_for_ever);
    RUN(a_dead_machine_stays_dead);
    RUN(an_end_between_runs_is_state);
    RUN(hypercalls_stop_after_the_writing_instruction);
    RUN(cancel_ends_a_run_and_is_no_state);
    RUN(a_failing_vcpu_is_an_error);
    RUN(time_ends_with_a_clear_line);
    RUN(every_bad_configuration_has_its_line);
    RUN(a_large_machine_costs_nothing);
    RUN(physical_accesses_are_checked_and_mark_pages);
    RUN(virtual_accesses_are_all_or_nothing);
    RUN(long_mode_is_entered_with_4_gib_mapped);
    RUN(pattern_stops_after_its_last_byte);
    RUN(pattern_survives_cuts_and_restores);
    RUN(output_follows_a_restore);
    RUN(output_is_bounded_and_says_so);
    RUN(log_counts_repeats_and_is_bounded);
    cc_store_free(the_store);
    return 0;
}
