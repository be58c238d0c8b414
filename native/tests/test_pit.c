/* test_pit.c: the interval timer, in virtual time. */
#include "device_machine.h"

#define PIT_HZ 1193182u

static uint64_t tick_ns(uint64_t tick)
{
    return (uint64_t)(((unsigned __int128)tick * SECOND + PIT_HZ - 1) / PIT_HZ);
}

static uint64_t now_tick(cc_machine *m)
{
    return (uint64_t)((unsigned __int128)cc_now(m) * PIT_HZ / SECOND);
}

static void pass_to_tick(cc_machine *m, uint64_t tick)
{
    pass_to(m, tick_ns(tick));
    CHECK_EQ(now_tick(m), tick);
}

static void program(cc_machine *m, unsigned channel, unsigned mode, unsigned count)
{
    out8(m, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    out8(m, (uint16_t)(0x40 + channel), (uint8_t)count);
    out8(m, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static unsigned read_count(cc_machine *m, unsigned channel)
{
    out8(m, 0x43, (uint8_t)(channel << 6));
    unsigned low = in8(m, (uint16_t)(0x40 + channel));
    return low | (unsigned)in8(m, (uint16_t)(0x40 + channel)) << 8;
}

static uint8_t read_status(cc_machine *m, unsigned channel)
{
    out8(m, 0x43, (uint8_t)(0xE0 | 2u << channel));
    return in8(m, (uint16_t)(0x40 + channel));
}

static bool out2(cc_machine *m)
{
    return in8(m, 0x61) & 0x20;
}

static void gate2(cc_machine *m, bool on)
{
    out8(m, 0x61, on);
}

/* Each mode's OUT and count as closed formulas of the pulses since CE was loaded (datasheet, figures 15 to 20). */
static bool expected_out(unsigned mode, uint64_t n, uint64_t since)
{
    switch (mode) {
    case 0: case 1: return since >= n;
    case 2: return since % n != n - 1;
    case 3: return since % n < (n + 1) / 2;
    default: return since != n;
    }
}

static unsigned expected_count(unsigned mode, uint64_t n, uint64_t since)
{
    uint64_t phase = since % n, half = (n + 1) / 2;
    if (mode == 2)
        return (unsigned)(n - phase) & 0xFFFF;
    if (mode == 3) {
        uint64_t in_half = phase < half ? phase : phase - half;
        return (unsigned)((n & ~UINT64_C(1)) - 2 * in_half) & 0xFFFF;
    }
    return (unsigned)(n - since) & 0xFFFF;       /* wraps and goes on */
}

static void pit_modes_follow_the_datasheet(void)
{
    static const unsigned counts[] = {2, 3, 4, 5, 7, 100, 1001, 4772, 65535, 0};
    uint64_t seed = 1;
    cc_machine *m = new_machine();
    for (unsigned mode = 0; mode < 6; mode++) {
        for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
            uint64_t n = counts[i] ? counts[i] : 65536;
            gate2(m, mode != 1 && mode != 5);
            program(m, 2, mode, counts[i]);
            CHECK_EQ(out2(m), mode != 0);
            uint64_t loaded = now_tick(m) + 1;
            if (mode == 1 || mode == 5) {
                pass_to_tick(m, now_tick(m) + 1000);
                CHECK(out2(m));                  /* armed, not triggered */
                CHECK_EQ(read_status(m, 2) & 0x40, 0x40);
                gate2(m, true);
                loaded = now_tick(m) + 1;
            }
            /* Every pulse at first, then ever longer jumps. */
            for (uint64_t t = loaded; t < loaded + 40 * n; t += t < loaded + 20 ? 1 : 1 + rnd(&seed) % (1 + n)) {
                pass_to_tick(m, t);
                CHECK_EQ(out2(m), expected_out(mode, n, t - loaded));
                CHECK_EQ(read_count(m, 2), expected_count(mode, n, t - loaded));
                CHECK_EQ(read_status(m, 2) & 0x7F, 0x30 | mode << 1);
            }
        }
    }
    cc_machine_free(m);
}

/* A jump of any length and a walk in small steps end in the same state. */
static void pit_long_spans_equal_short_steps(void)
{
    uint64_t seed = 2;
    for (unsigned i = 0; i < 200; i++) {
        cc_machine *walk = new_machine(), *jump = new_machine();
        cc_machine *both[2] = {walk, jump};
        unsigned mode = (unsigned)(rnd(&seed) % 8), count = (unsigned)(rnd(&seed) % (i % 4 ? 40 : 65536));
        unsigned second = (unsigned)(rnd(&seed) % 50), bcd = (unsigned)(rnd(&seed) & 1);
        for (unsigned k = 0; k < 2; k++) {
            out8(both[k], 0x43, (uint8_t)(0xB0 | mode << 1 | bcd));
            out8(both[k], 0x42, (uint8_t)count);
            out8(both[k], 0x42, (uint8_t)(count >> 8));
            gate2(both[k], true);
            pass_to_tick(both[k], 7 + i);
            if (i & 1) {
                out8(both[k], 0x42, (uint8_t)second);
                out8(both[k], 0x42, 0);
            }
        }
        for (uint64_t t = 8 + i; t < 3000; t += 1 + rnd(&seed) % 5) {
            pass_to_tick(walk, t);
            out2(walk);
        }
        for (unsigned k = 0; k < 2; k++) {
            pass_to_tick(both[k], 3100);
            out2(both[k]);
        }
        CHECK(!memcmp(&walk->dev.pit[2], &jump->dev.pit[2], sizeof walk->dev.pit[2]));
        cc_machine_free(walk);
        cc_machine_free(jump);
    }
}

static void pit_new_count_waits_for_the_end_of_the_period(void)
{
    cc_machine *m = new_machine();
    gate2(m, true);
    program(m, 2, 2, 100);
    uint64_t loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 50);
    CHECK_EQ(read_status(m, 2), 0x80 | 0x30 | 2 << 1);
    out8(m, 0x42, 10);
    out8(m, 0x42, 0);
    CHECK_EQ(read_status(m, 2) & 0x40, 0x40);    /* null count: not in effect yet */
    pass_to_tick(m, loaded + 99);
    CHECK(!out2(m));
    CHECK_EQ(read_count(m, 2), 1);
    pass_to_tick(m, loaded + 100);
    CHECK(out2(m));
    CHECK_EQ(read_count(m, 2), 10);
    CHECK_EQ(read_status(m, 2) & 0x40, 0);
    pass_to_tick(m, loaded + 109);
    CHECK(!out2(m));
    program(m, 2, 3, 100);                       /* mode 3: at the end of the half period */
    loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 10);
    out8(m, 0x42, 20);
    out8(m, 0x42, 0);
    pass_to_tick(m, loaded + 49);
    CHECK(out2(m));
    pass_to_tick(m, loaded + 50);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 59);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 60);
    CHECK(out2(m));
    cc_machine_free(m);
}

static void pit_gate_pauses_triggers_and_forces_out_high(void)
{
    cc_machine *m = new_machine();
    gate2(m, true);
    program(m, 2, 0, 100);
    uint64_t loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 40);
    gate2(m, false);
    pass_to_tick(m, loaded + 5000);
    CHECK_EQ(read_count(m, 2), 60);
    gate2(m, true);
    pass_to_tick(m, loaded + 5059);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 5060);
    CHECK(out2(m));

    program(m, 2, 2, 100);
    loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 99);
    CHECK(!out2(m));
    gate2(m, false);
    CHECK(out2(m));                              /* at once */
    pass_to_tick(m, loaded + 700);
    CHECK(out2(m));
    gate2(m, true);
    loaded = now_tick(m) + 1;                    /* reloads */
    pass_to_tick(m, loaded + 98);
    CHECK(out2(m));
    pass_to_tick(m, loaded + 99);
    CHECK(!out2(m));

    gate2(m, false);
    program(m, 2, 1, 50);
    gate2(m, true);
    loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 30);
    CHECK(!out2(m));
    gate2(m, false);                             /* has no effect on the one-shot */
    gate2(m, true);                              /* retriggers it */
    loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 49);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 50);
    CHECK(out2(m));
    cc_machine_free(m);
}

static void pit_mode_0_stops_between_two_bytes(void)
{
    cc_machine *m = new_machine();
    gate2(m, true);
    program(m, 2, 0, 10);
    uint64_t loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 10);
    CHECK(out2(m));
    out8(m, 0x42, 20);
    CHECK(!out2(m));                             /* low at once, with the first byte */
    unsigned stopped = read_count(m, 2);
    pass_to_tick(m, loaded + 500);
    CHECK_EQ(read_count(m, 2), stopped);
    out8(m, 0x42, 0);
    loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 19);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 20);
    CHECK(out2(m));
    cc_machine_free(m);
}

static void pit_latches_and_reads_back(void)
{
    cc_machine *m = new_machine();
    gate2(m, true);
    program(m, 2, 2, 0x1234);
    uint64_t loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 0x34);
    out8(m, 0x43, 0x80);                         /* latch channel 2 */
    pass_to_tick(m, loaded + 0x100);
    out8(m, 0x43, 0x80);                         /* ignored: still latched */
    CHECK_EQ(in8(m, 0x42), 0x00);
    CHECK_EQ(in8(m, 0x42), 0x12);
    CHECK_EQ(in8(m, 0x42), 0x34);                /* live again: 0x1134 */
    CHECK_EQ(in8(m, 0x42), 0x11);
    out8(m, 0x43, 0xC8);                         /* read back: status and count of channel 2 */
    pass_to_tick(m, loaded + 0x200);
    CHECK_EQ(in8(m, 0x42), 0xB4);                /* OUT high, both bytes, mode 2 */
    CHECK_EQ(in8(m, 0x42), 0x34);
    CHECK_EQ(in8(m, 0x42), 0x11);
    CHECK_EQ(in8(m, 0x43), 0xFF);
    /* One-byte modes read one byte. */
    out8(m, 0x43, 0x94);
    out8(m, 0x42, 200);
    pass_to_tick(m, now_tick(m) + 11);
    out8(m, 0x43, 0x80);
    CHECK_EQ(in8(m, 0x42), 190);
    out8(m, 0x43, 0xA4);
    out8(m, 0x42, 0x40);
    pass_to_tick(m, now_tick(m) + 2);
    CHECK_EQ(in8(m, 0x42), 0x3F);                /* the high byte of 0x3FFF */
    /* A new control word drops what was latched. */
    out8(m, 0x43, 0x80);
    program(m, 2, 2, 0x5678);
    pass_to_tick(m, now_tick(m) + 1);
    CHECK_EQ(in8(m, 0x42), 0x78);
    cc_machine_free(m);
}

static void pit_counts_in_bcd(void)
{
    cc_machine *m = new_machine();
    gate2(m, true);
    out8(m, 0x43, 0xB1);                         /* mode 0, BCD */
    out8(m, 0x42, 0x00);
    out8(m, 0x42, 0x10);
    uint64_t loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 1);
    CHECK_EQ(read_count(m, 2), 0x0999);
    pass_to_tick(m, loaded + 999);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 1000);
    CHECK(out2(m));
    pass_to_tick(m, loaded + 1001);
    CHECK_EQ(read_count(m, 2), 0x9999);
    out8(m, 0x43, 0xB5);                         /* mode 2, BCD, 0 = 10000 */
    out8(m, 0x42, 0);
    out8(m, 0x42, 0);
    loaded = now_tick(m) + 1;
    pass_to_tick(m, loaded + 9999);
    CHECK(!out2(m));
    pass_to_tick(m, loaded + 10000);
    CHECK(out2(m));
    CHECK_EQ(read_count(m, 2), 0);
    cc_machine_free(m);
}

struct beat { uint64_t first, period, seen; };
static struct beat beat;

static void on_timer(cc_machine *m, struct guest *g, uint8_t vector)
{
    (void)g;
    CHECK_EQ(vector, 0x30);
    CHECK_EQ(cc_now(m), tick_ns(beat.first + beat.seen * beat.period));
    beat.seen++;
    out8(m, 0x20, 0x20);
}

/* The n-th interrupt comes at the n-th period's pulse, to the nanosecond, however long the machine runs. */
static void check_beat(unsigned mode, unsigned count, uint64_t seconds)
{
    cc_machine *m = new_machine();
    struct guest *g = guest_of(m);
    init_pics(m, 1, 0xFE, 0xFF);
    pass_to(m, 12345);
    program(m, 0, mode, count);
    uint64_t n = count ? count : 65536, loaded = now_tick(m) + 1;
    m->dev.pic[0].edge = 0;                      /* OUT's rise at the control word */
    beat = (struct beat){loaded + n, n, 0};
    g->handler = on_timer;
    g->insn = hlt_always;
    g->iflag = true;
    CHECK_EQ(run_to_vns(m, seconds * SECOND).kind, CC_STOP_VNS);
    CHECK_EQ(beat.seen, (now_tick(m) - loaded) / n);
    cc_machine_free(m);
}

static void pit_interrupts_do_not_drift(void)
{
    check_beat(2, 4773, 1800);                   /* 250 Hz for half an hour */
    check_beat(2, 11932, 3600);
    check_beat(3, 0, 86400);                     /* 18.2 Hz for a day */
    check_beat(3, 1193, 60);
    check_beat(2, 2, 1);
}

static void on_one_shot(cc_machine *m, struct guest *g, uint8_t vector)
{
    (void)vector;
    g->value = cc_now(m);
    g->halted = true;
    out8(m, 0x20, 0x20);
}

/* Linux's one-shot timer: mode 4, reprogrammed by its count alone. */
static void pit_mode_4_gives_one_interrupt_per_count(void)
{
    cc_machine *m = new_machine();
    struct guest *g = guest_of(m);
    init_pics(m, 1, 0xFE, 0xFF);
    out8(m, 0x43, 0x38);
    m->dev.pic[0].edge = 0;
    g->handler = on_one_shot;
    g->iflag = true;
    for (unsigned count = 1; count < 60000; count += 7001) {
        uint64_t delivered = g->delivered, loaded = now_tick(m) + 1;
        out8(m, 0x40, (uint8_t)count);
        out8(m, 0x40, (uint8_t)(count >> 8));
        pass_to(m, cc_now(m) + SECOND);
        CHECK_EQ(g->delivered, delivered + 1);
        CHECK_EQ(g->value, tick_ns(loaded + count + 1));   /* the strobe is low for one pulse; its end is the edge */
        CHECK_EQ(m->dev.ev_at[CC_EV_PIT0], CC_NEVER);
    }
    /* Linux's shutdown: a control word alone stops everything. */
    program(m, 0, 0, 0);
    out8(m, 0x43, 0x30);
    CHECK_EQ(m->dev.ev_at[CC_EV_PIT0], CC_NEVER);
    cc_machine_free(m);
}

static void pit_count_of_one_in_periodic_modes_is_silent(void)
{
    cc_machine *m = new_machine();
    for (unsigned mode = 2; mode < 4; mode++) {
        program(m, 0, mode, 1);
        pass_to(m, cc_now(m) + SECOND);
        CHECK_EQ(m->dev.ev_at[CC_EV_PIT0], CC_NEVER);
        CHECK_EQ(read_status(m, 0) & 0x80, 0x80);
        out8(m, 0x40, 100);
        out8(m, 0x40, 0);
        CHECK(m->dev.ev_at[CC_EV_PIT0] != CC_NEVER);
    }
    cc_machine_free(m);
}

int main(void)
{
    RUN(pit_modes_follow_the_datasheet);
    RUN(pit_long_spans_equal_short_steps);
    RUN(pit_new_count_waits_for_the_end_of_the_period);
    RUN(pit_gate_pauses_triggers_and_forces_out_high);
    RUN(pit_mode_0_stops_between_two_bytes);
    RUN(pit_latches_and_reads_back);
    RUN(pit_counts_in_bcd);
    RUN(pit_interrupts_do_not_drift);
    RUN(pit_mode_4_gives_one_interrupt_per_count);
    RUN(pit_count_of_one_in_periodic_modes_is_silent);
    cc_store_free(the_store);
    return 0;
}
