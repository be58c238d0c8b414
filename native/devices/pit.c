/*
 * pit.c: 8254 interval timer.  Source: Intel 8254 datasheet (order 231164), sections "Mode definitions", "Read
 * operations", "Gate"; 1193182 Hz is the PC's CLK.
 *
 * Time is counted in CLK pulses since virtual time 0: pulse k is at ceil(k * 10^9 / 1193182) ns, computed afresh in
 * 128 bits, so nothing drifts.  A counter is advanced only when somebody looks, over any span: step() is one pulse as
 * the datasheet describes it, and quiet() says how many pulses from here only decrement.  What is written between
 * two pulses acts at the next one, or at once where the datasheet says so.
 *
 * Channel 0's OUT is IRQ 0, and CC_EV_PIT0 is armed for its next change, rise or fall.  Channels 0 and 1 have their
 * gates tied high; channel 2's is bit 0 of port 0x61.
 *
 * Left open by the datasheet and decided here: a count of 1, illegal in modes 2 and 3, leaves OUT high; a BCD digit
 * above 9 has its arithmetic value.
 */
#include "devices.h"

#define CLK_HZ 1193182u
#define NS_PER_S 1000000000u
#define FOREVER UINT64_MAX

enum { RW_LATCH, RW_LOW, RW_HIGH, RW_BOTH };

static uint64_t tick_at(uint64_t vns)
{
    return (uint64_t)((unsigned __int128)vns * CLK_HZ / NS_PER_S);
}

static uint64_t vns_of_tick(uint64_t tick)
{
    return (uint64_t)(((unsigned __int128)tick * NS_PER_S + CLK_HZ - 1) / CLK_HZ);
}

uint64_t cc_pit_tick(const cc_machine *m)
{
    return tick_at(cc_now(m));
}

/* ---- the counter ----------------------------------------------------------------------------------------------- */
static uint32_t modulus(const struct cc_pit_channel *c)
{
    return c->bcd ? 10000 : 65536;
}

static bool is_periodic(const struct cc_pit_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Modes 1 and 5 are triggered by the gate and count on whatever its level. */
static bool gate_stops(const struct cc_pit_channel *c)
{
    return !c->gate && c->mode != 1 && c->mode != 5;
}

/* Pulses until CE, which counts down by `by`, shows `target`; CE = 0 stands for the modulus. */
static uint32_t pulses_to(const struct cc_pit_channel *c, uint32_t target, uint32_t by)
{
    return ((c->ce ? c->ce : modulus(c)) - target) / by;
}

/* Mode 3: what CE is at the pulse before the half period ends.  An odd count's high half is one pulse longer. */
static uint32_t half_end(const struct cc_pit_channel *c)
{
    return (c->loaded & 1) && c->out ? 0 : 2;
}

/* How many of the next pulses do nothing but decrement. */
static uint64_t quiet(const struct cc_pit_channel *c)
{
    if (c->load)
        return 0;
    if ((c->mode == 4 || c->mode == 5) && !c->out)
        return 0;                               /* the strobe ends */
    if (!c->counting || c->inhibit || gate_stops(c))
        return FOREVER;
    if (is_periodic(c) && c->loaded == 1)
        return c->null_count ? 0 : FOREVER;
    if (c->mode == 2)
        return c->ce == 1 ? 0 : pulses_to(c, 2, 1);
    if (c->mode == 3)
        return c->ce == half_end(c) ? 0 : pulses_to(c, half_end(c), 2);
    return c->armed ? pulses_to(c, 1, 1) : FOREVER;
}

/* n pulses that only decrement, if the counter counts at all. */
static void decrement(struct cc_pit_channel *c, uint64_t n)
{
    if (!c->counting || c->inhibit || gate_stops(c) || (is_periodic(c) && c->loaded == 1))
        return;
    uint32_t mod = modulus(c), by = c->mode == 3 ? 2 : 1;
    uint32_t down = (uint32_t)(n % mod) * by % mod;
    c->ce = (c->ce + mod - down) % mod;
}

static void load_ce(struct cc_pit_channel *c)
{
    c->loaded = c->cr;
    c->ce = (c->mode == 3 ? c->cr & ~1u : c->cr) % modulus(c);
    c->null_count = 0;
    c->load = 0;
    c->counting = 1;
    c->armed = 1;
}

/* A pulse at which CE is loaded because of a written count or a trigger. */
static void step_load(struct cc_pit_channel *c)
{
    load_ce(c);
    c->out = c->mode != 0 && c->mode != 1;      /* mode 1: the one-shot begins; 0: low since the count was written */
}

/* One pulse. */
static void step(struct cc_pit_channel *c)
{
    if (c->load) {
        step_load(c);
        return;
    }
    if (c->mode == 4 || c->mode == 5)
        c->out = 1;
    if (!c->counting || c->inhibit || gate_stops(c))
        return;
    bool illegal = is_periodic(c) && c->loaded == 1;
    if (c->mode == 3 && (illegal || c->ce == half_end(c))) {
        c->out = illegal || !c->out;
        load_ce(c);
        return;
    }
    if (c->mode == 2 && c->ce == 1) {
        c->out = 1;
        load_ce(c);
        return;
    }
    decrement(c, 1);
    if (c->mode == 2)
        c->out = c->ce != 1;
    else if (c->mode != 3 && c->ce == 0 && c->armed) {
        c->armed = 0;
        c->out = c->mode < 4;                   /* 0, 1: high from now on; 4, 5: low for one pulse */
    }
}

static void advance(struct cc_pit_channel *c, uint64_t tick)
{
    uint64_t n = tick - c->tick;
    c->tick = tick;
    while (n) {
        uint64_t q = quiet(c);
        if (q >= n) {
            decrement(c, n);
            return;
        }
        decrement(c, q);
        step(c);
        n -= q + 1;
        /* From any phase, a whole period later the state is the same again, unless a new count waits. */
        if (is_periodic(c) && c->counting && c->gate && !c->load && !c->null_count)
            n %= c->loaded;
    }
}

/* Pulses until OUT changes; FOREVER if it does not by itself. */
static uint64_t pulses_to_edge(const struct cc_pit_channel *now)
{
    struct cc_pit_channel c = *now;
    uint64_t total = 0;
    while (c.out == now->out) {
        uint64_t q = quiet(&c);
        if (q == FOREVER)
            return FOREVER;
        decrement(&c, q);
        step(&c);
        total += q + 1;
    }
    return total;
}

/* ---- channels in the machine ----------------------------------------------------------------------------------- */
/* After channel 0's state changed: its line, and the event for the next change. */
static void channel0_changed(cc_machine *m)
{
    struct cc_pit_channel *c = &m->dev.pit[0];
    cc_timer_line(m, c->out);
    uint64_t pulses = pulses_to_edge(c);
    if (pulses == FOREVER) {
        c->edge_tick = 0;
        cc_event_set(m, CC_EV_PIT0, CC_NEVER);
        return;
    }
    c->edge_tick = c->tick + pulses;
    cc_event_set(m, CC_EV_PIT0, vns_of_tick(c->edge_tick));
}

void cc_pit_fire(cc_machine *m)
{
    advance(&m->dev.pit[0], m->dev.pit[0].edge_tick);
    channel0_changed(m);
}

/* The channel, advanced to now.  Every change of channel 0's OUT up to now has been handled by its event. */
static struct cc_pit_channel *channel_now(cc_machine *m, unsigned i)
{
    struct cc_pit_channel *c = &m->dev.pit[i];
    advance(c, tick_at(cc_now(m)));
    return c;
}

static void changed(cc_machine *m, unsigned i)
{
    if (i == 0)
        channel0_changed(m);
}

void cc_pit_set_gate2(cc_machine *m, bool gate)
{
    struct cc_pit_channel *c = channel_now(m, 2);
    if (gate == c->gate)
        return;
    c->gate = gate;
    if (gate && c->cr && c->mode != 0 && c->mode != 4)
        c->load = 1;                            /* trigger */
    if (!gate && is_periodic(c))
        c->out = 1;
}

bool cc_pit_out2(cc_machine *m)
{
    return channel_now(m, 2)->out;
}

/* Power-up is undefined in the datasheet; here no counter runs until it is programmed. */
void cc_pit_reset(cc_machine *m)
{
    for (unsigned i = 0; i < 3; i++) {
        struct cc_pit_channel *c = &m->dev.pit[i];
        memset(c, 0, sizeof *c);
        c->tick = tick_at(cc_now(m));
        c->rw = RW_BOTH;
        c->gate = i != 2;
        c->null_count = 1;
    }
    cc_event_set(m, CC_EV_PIT0, CC_NEVER);
}

/* ---- writing --------------------------------------------------------------------------------------------------- */
static uint16_t count_as_read(const struct cc_pit_channel *c)
{
    uint32_t v = c->ce;
    if (!c->bcd)
        return (uint16_t)v;
    return (uint16_t)((v / 1000) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | v % 10);
}

static void latch_count(struct cc_pit_channel *c)
{
    if (c->latched)
        return;                                 /* the first of two latch commands counts */
    c->latch = count_as_read(c);
    c->latched = c->rw == RW_BOTH ? 2 : 1;
}

static void latch_status(struct cc_pit_channel *c)
{
    if (c->status_latched)
        return;
    c->status = (uint8_t)(c->out << 7 | c->null_count << 6 | c->rw << 4 | c->mode << 1 | c->bcd);
    c->status_latched = 1;
}

static void program(struct cc_pit_channel *c, uint8_t v)
{
    uint64_t tick = c->tick;
    uint8_t gate = c->gate;
    uint32_t ce = c->ce;
    memset(c, 0, sizeof *c);
    c->tick = tick;
    c->gate = gate;
    c->ce = ce % ((v & 1) ? 10000 : 65536);     /* stands still until a count is loaded */
    c->rw = v >> 4 & 3;
    c->mode = v >> 1 & 7;
    if (c->mode > 5)
        c->mode -= 4;                           /* X10 and X11: modes 2 and 3 */
    c->bcd = v & 1;
    c->null_count = 1;
    c->out = c->mode != 0;
}

static void write_control(cc_machine *m, uint8_t v)
{
    unsigned select = v >> 6;
    if (select == 3) {                          /* read-back */
        for (unsigned i = 0; i < 3; i++) {
            if (!(v >> (i + 1) & 1))
                continue;
            struct cc_pit_channel *c = channel_now(m, i);
            if (!(v & 0x20))
                latch_count(c);
            if (!(v & 0x10))
                latch_status(c);
        }
        return;
    }
    struct cc_pit_channel *c = channel_now(m, select);
    if ((v >> 4 & 3) == RW_LATCH) {
        latch_count(c);
        return;
    }
    program(c, v);
    changed(m, select);
}

static uint32_t count_of_bytes(const struct cc_pit_channel *c, uint32_t v)
{
    if (c->bcd)
        v = ((v >> 12) * 1000 + (v >> 8 & 15) * 100 + (v >> 4 & 15) * 10 + (v & 15)) % 10000;
    return v ? v : modulus(c);
}

static void write_count(struct cc_pit_channel *c, uint32_t v)
{
    c->cr = count_of_bytes(c, v);
    c->null_count = 1;
    c->inhibit = 0;
    if (c->mode == 0)
        c->out = 0;
    /* Modes 1 and 5 wait for a trigger; 2 and 3 take a new count at the end of the period or half period. */
    if (c->mode == 0 || c->mode == 4 || (is_periodic(c) && !c->counting))
        c->load = 1;
}

static void write_counter(struct cc_pit_channel *c, uint8_t v)
{
    if (c->rw == RW_LOW)
        write_count(c, v);
    else if (c->rw == RW_HIGH)
        write_count(c, (uint32_t)v << 8);
    else if (c->write_high) {
        c->write_high = 0;
        write_count(c, (uint32_t)v << 8 | c->low_byte);
    } else {
        c->write_high = 1;
        c->low_byte = v;
        if (c->mode == 0) {                     /* the first byte stops the counter and OUT goes low at once */
            c->inhibit = 1;
            c->load = 0;
            c->out = 0;
        }
    }
}

void cc_pit_write(cc_machine *m, uint16_t port, uint8_t value)
{
    unsigned i = port & 3;
    if (i == 3) {
        write_control(m, value);
        return;
    }
    write_counter(channel_now(m, i), value);
    changed(m, i);
}

/* ---- reading --------------------------------------------------------------------------------------------------- */
/* Which half of the count the next read gives, by the read/write mode's own sequence. */
static uint8_t half(struct cc_pit_channel *c, uint16_t count)
{
    bool high = c->rw == RW_HIGH || (c->rw == RW_BOTH && c->read_high);
    if (c->rw == RW_BOTH)
        c->read_high ^= 1;
    return (uint8_t)(high ? count >> 8 : count);
}

uint8_t cc_pit_read(cc_machine *m, uint16_t port)
{
    unsigned i = port & 3;
    if (i == 3)
        return 0xFF;                            /* the control register cannot be read */
    struct cc_pit_channel *c = channel_now(m, i);
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    if (c->latched) {
        c->latched--;
        return half(c, c->latch);
    }
    return half(c, count_as_read(c));
}
