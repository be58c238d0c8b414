/*
 * cmos.c: MC146818 real-time clock and CMOS RAM at ports 0x70 and 0x71, IRQ 8.  Source: Motorola MC146818
 * datasheet (ADI-856), with the PC's century byte at 0x32.
 *
 * The date is the configured epoch plus virtual time, computed when read.  While updates are inhibited (SET, or the
 * divider not at 32.768 kHz) it stands still.  A divider released from reset makes its first update half a second
 * later.  UIP is set for the last 2228 us of each second (244 us notice and 1984 us update), and the registers change
 * when it ends.  The flags of status C are accounted lazily; CC_EV_RTC is armed only while one that is enabled may
 * come and no interrupt is pending, so an idle guest pays nothing.  Daylight saving and the square wave do nothing.
 */
#include "devices.h"

#define RTC_IRQ 8u
#define NS_PER_S INT64_C(1000000000)
#define UIP_NS INT64_C(2228000)
#define DIVIDER_RESTART_NS (NS_PER_S / 2)
#define DIVIDER_HZ 32768
#define DAY_S INT64_C(86400)
#define SHIFT_NS_MAX INT64_C(10000000000000000)

/* Registers. */
enum {
    R_SEC = 0, R_SEC_ALARM = 1, R_MIN = 2, R_MIN_ALARM = 3, R_HOUR = 4, R_HOUR_ALARM = 5,
    R_WDAY = 6, R_MDAY = 7, R_MONTH = 8, R_YEAR = 9, R_A = 10, R_B = 11, R_C = 12, R_D = 13, R_CENTURY = 0x32
};
#define A_UIP 0x80u
#define A_DV(a) ((a) >> 4 & 7u)
#define A_DV_32KHZ 2u
#define A_RS(a) ((a) & 15u)
#define B_SET 0x80u
#define B_PIE 0x40u
#define B_AIE 0x20u
#define B_UIE 0x10u
#define B_BINARY 0x04u
#define B_24H 0x02u
#define C_PF 0x40u             /* the flags of C are at the enables' bits of B */
#define C_AF 0x20u
#define C_UF 0x10u
#define C_IRQF 0x80u
#define C_FLAGS 0x70u
#define D_VRT 0x80u
#define ALARM_ANY 0xC0u
#define HOUR_PM 0x80u

/* Indices of staged[]. */
enum { T_SEC, T_MIN, T_HOUR, T_WDAY, T_MDAY, T_MONTH, T_YEAR, T_CENTURY };

/* ---- calendar -------------------------------------------------------------------------------------------------- */
static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int64_t floor_mod(int64_t a, int64_t b)
{
    return a - floor_div(a, b) * b;
}

/* Days from 1970-01-01 to the first of March of a year of the Gregorian calendar. */
static int64_t days_to_march(int64_t year)
{
    return year * 365 + floor_div(year, 4) - floor_div(year, 100) + floor_div(year, 400) - 719468;
}

/* Days from the first of March to the first of the m-th month after it, 0 = March. */
static int64_t days_to_month(int64_t m)
{
    return (153 * m + 2) / 5;
}

/* Any month and day number is taken and carried over. */
static int64_t days_of_date(int64_t year, int64_t month, int64_t mday)
{
    int64_t m = month - 3;
    return days_to_march(year + floor_div(m, 12)) + days_to_month(floor_mod(m, 12)) + mday - 1;
}

static int64_t weekday_of(int64_t days)
{
    return floor_mod(days + 4, 7);              /* 1970-01-01 was a Thursday; 0 = Sunday */
}

static void split_time(const struct cc_cmos *c, int64_t s, uint8_t t[8])
{
    int64_t days = floor_div(s, DAY_S), in_day = floor_mod(s, DAY_S);
    int64_t year = floor_div((days + 719468) * 400, 146097);
    while (days < days_to_march(year))
        year--;
    while (days >= days_to_march(year + 1))
        year++;
    int64_t in_year = days - days_to_march(year), month = (5 * in_year + 2) / 153;
    t[T_MDAY] = (uint8_t)(in_year - days_to_month(month) + 1);
    t[T_MONTH] = (uint8_t)(month < 10 ? month + 3 : month - 9);
    year += month >= 10;
    t[T_YEAR] = (uint8_t)floor_mod(year, 100);
    t[T_CENTURY] = (uint8_t)floor_mod(floor_div(year, 100), 100);
    t[T_WDAY] = (uint8_t)((weekday_of(days) + c->weekday_shift) % 7 + 1);
    t[T_HOUR] = (uint8_t)(in_day / 3600);
    t[T_MIN] = (uint8_t)(in_day / 60 % 60);
    t[T_SEC] = (uint8_t)(in_day % 60);
}

/* The clock shows t from the current update boundary on. */
static void set_time(struct cc_cmos *c, const uint8_t t[8])
{
    int64_t days = days_of_date(t[T_CENTURY] * 100 + t[T_YEAR], t[T_MONTH], t[T_MDAY]);
    c->time_s = days * DAY_S + t[T_HOUR] * 3600 + t[T_MIN] * 60 + t[T_SEC];
    int64_t true_weekday = weekday_of(floor_div(c->time_s, DAY_S));
    c->weekday_shift = (uint8_t)floor_mod(t[T_WDAY] - 1 - true_weekday, 7);
}

/* ---- running clock --------------------------------------------------------------------------------------------- */
static bool divider_runs(const struct cc_cmos *c)
{
    return A_DV(c->ram[R_A]) == A_DV_32KHZ;
}

static bool updates(const struct cc_cmos *c)
{
    return divider_runs(c) && !(c->ram[R_B] & B_SET);
}

/* Whole seconds since time_vns. */
static int64_t seconds_since(const struct cc_cmos *c, uint64_t vns)
{
    return ((int64_t)vns - c->time_vns) / NS_PER_S;
}

/* Periods of the periodic interrupt's rate since time_vns, and the virtual time at which the n-th begins. */
static unsigned period_ticks(const struct cc_cmos *c)
{
    unsigned rs = A_RS(c->ram[R_A]);
    return rs == 0 ? 0 : rs < 3 ? 64u << rs : 1u << (rs - 1);
}

static int64_t periods_since(const struct cc_cmos *c, uint64_t vns)
{
    __int128 ns = (int64_t)vns - c->time_vns;
    return (int64_t)(ns * DIVIDER_HZ / NS_PER_S / period_ticks(c));
}

static uint64_t period_start(const struct cc_cmos *c, int64_t n)
{
    __int128 ns = ((__int128)n * period_ticks(c) * NS_PER_S + DIVIDER_HZ - 1) / DIVIDER_HZ;
    return (uint64_t)(c->time_vns + (int64_t)ns);
}

/* ---- alarm ----------------------------------------------------------------------------------------------------- */
static unsigned from_register(const struct cc_cmos *c, unsigned v)
{
    return (c->ram[R_B] & B_BINARY) ? v : (v >> 4) * 10 + (v & 15);
}

static unsigned hour_from_register(const struct cc_cmos *c, unsigned v)
{
    if (c->ram[R_B] & B_24H)
        return from_register(c, v);
    return from_register(c, v & (HOUR_PM - 1)) % 12 + ((v & HOUR_PM) ? 12 : 0);
}

static bool alarm_any(uint8_t v)
{
    return (v & ALARM_ANY) == ALARM_ANY;
}

/* The first second after s at which the alarm matches; INT64_MAX if it never does. */
static int64_t next_alarm(const struct cc_cmos *c, int64_t s)
{
    const uint8_t *r = c->ram;
    bool any_s = alarm_any(r[R_SEC_ALARM]), any_m = alarm_any(r[R_MIN_ALARM]), any_h = alarm_any(r[R_HOUR_ALARM]);
    int64_t want_s = from_register(c, r[R_SEC_ALARM]), want_m = from_register(c, r[R_MIN_ALARM]);
    int64_t want_h = hour_from_register(c, r[R_HOUR_ALARM]);
    if ((!any_s && want_s > 59) || (!any_m && want_m > 59) || (!any_h && want_h > 23))
        return INT64_MAX;
    for (int64_t t = s + 1;;) {
        int64_t in_day = floor_mod(t, DAY_S);
        if (!any_h && in_day / 3600 != want_h)
            t += 3600 - in_day % 3600;
        else if (!any_m && in_day / 60 % 60 != want_m)
            t += 60 - in_day % 60;
        else if (!any_s && in_day % 60 != want_s)
            t++;
        else
            return t;
    }
}

/* ---- flags and interrupts -------------------------------------------------------------------------------------- */
/* Set the flags for what happened since they were last accounted. */
static void catch_up(struct cc_cmos *c, uint64_t now)
{
    if (divider_runs(c) && period_ticks(c) && periods_since(c, now) > periods_since(c, c->flags_vns))
        c->ram[R_C] |= C_PF;
    if (updates(c)) {
        int64_t before = seconds_since(c, c->flags_vns), after = seconds_since(c, now);
        if (after > before)
            c->ram[R_C] |= C_UF;
        if (after > before && next_alarm(c, c->time_s + before) <= c->time_s + after)
            c->ram[R_C] |= C_AF;
    }
    c->flags_vns = now;
}

static bool interrupting(const struct cc_cmos *c)
{
    return c->ram[R_C] & c->ram[R_B] & C_FLAGS;
}

/* When the next flag that is enabled will be set; CC_NEVER if none. */
static uint64_t next_flag(const struct cc_cmos *c)
{
    uint8_t b = c->ram[R_B];
    uint64_t due = CC_NEVER;
    if ((b & B_PIE) && divider_runs(c) && period_ticks(c))
        due = period_start(c, periods_since(c, c->flags_vns) + 1);
    int64_t second = INT64_MAX;
    if (updates(c) && (b & B_UIE))
        second = c->time_s + seconds_since(c, c->flags_vns) + 1;
    else if (updates(c) && (b & B_AIE))
        second = next_alarm(c, c->time_s + seconds_since(c, c->flags_vns));
    if (second != INT64_MAX) {
        uint64_t at = (uint64_t)(c->time_vns + (second - c->time_s) * NS_PER_S);
        if (at < due)
            due = at;
    }
    return due;
}

/* The line and the event after anything changed; the flags are accounted up to now. */
static void update_irq(cc_machine *m)
{
    struct cc_cmos *c = &m->dev.cmos;
    bool raised = interrupting(c);
    uint64_t due = raised ? CC_NEVER : next_flag(c);
    c->due_vns = due == CC_NEVER ? 0 : due;
    cc_irq_set(m, RTC_IRQ, raised);
    cc_event_set(m, CC_EV_RTC, due);
}

void cc_cmos_fire(cc_machine *m)
{
    catch_up(&m->dev.cmos, m->dev.cmos.due_vns);
    update_irq(m);
}

/* ---- registers ------------------------------------------------------------------------------------------------- */
static int time_field(unsigned index)
{
    switch (index) {
    case R_SEC: return T_SEC;
    case R_MIN: return T_MIN;
    case R_HOUR: return T_HOUR;
    case R_WDAY: return T_WDAY;
    case R_MDAY: return T_MDAY;
    case R_MONTH: return T_MONTH;
    case R_YEAR: return T_YEAR;
    case R_CENTURY: return T_CENTURY;
    default: return -1;
    }
}

static uint8_t to_register(const struct cc_cmos *c, unsigned v)
{
    return (uint8_t)((c->ram[R_B] & B_BINARY) ? v : v / 10 % 16 * 16 + v % 10);
}

static uint8_t hour_to_register(const struct cc_cmos *c, unsigned hour)
{
    if (c->ram[R_B] & B_24H)
        return to_register(c, hour);
    return (uint8_t)(to_register(c, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

/* Move time_vns to the last update boundary, so that what is set from here on is set from then on. */
static void rebase(struct cc_cmos *c, uint64_t now)
{
    if (!divider_runs(c))
        return;
    int64_t s = seconds_since(c, now);
    if (updates(c))
        c->time_s += s;
    c->time_vns += s * NS_PER_S;
}

static uint8_t read_time(cc_machine *m, int field)
{
    struct cc_cmos *c = &m->dev.cmos;
    uint8_t now[8];
    const uint8_t *t = c->staged;
    if (!(c->ram[R_B] & B_SET)) {
        split_time(c, c->time_s + (updates(c) ? seconds_since(c, cc_now(m)) : 0), now);
        t = now;
    }
    return field == T_HOUR ? hour_to_register(c, t[T_HOUR]) : to_register(c, t[field]);
}

static void write_time(cc_machine *m, int field, uint8_t v)
{
    struct cc_cmos *c = &m->dev.cmos;
    uint8_t value = (uint8_t)(field == T_HOUR ? hour_from_register(c, v) : from_register(c, v));
    if (c->ram[R_B] & B_SET) {
        c->staged[field] = value;
        return;
    }
    uint8_t t[8];
    rebase(c, cc_now(m));
    split_time(c, c->time_s, t);
    t[field] = value;
    set_time(c, t);
}

static uint8_t read_a(cc_machine *m)
{
    const struct cc_cmos *c = &m->dev.cmos;
    int64_t in_second = ((int64_t)cc_now(m) - c->time_vns) % NS_PER_S;
    bool uip = updates(c) && in_second >= NS_PER_S - UIP_NS;
    return (uint8_t)(c->ram[R_A] | (uip ? A_UIP : 0));
}

static uint8_t read_c(cc_machine *m)
{
    struct cc_cmos *c = &m->dev.cmos;
    uint8_t v = (uint8_t)(c->ram[R_C] | (interrupting(c) ? C_IRQF : 0));
    c->ram[R_C] = 0;
    return v;
}

static void write_a(cc_machine *m, uint8_t v)
{
    struct cc_cmos *c = &m->dev.cmos;
    bool ran = divider_runs(c);
    rebase(c, cc_now(m));
    c->ram[R_A] = v & (uint8_t)~A_UIP;
    if (!ran && divider_runs(c))
        c->time_vns = (int64_t)cc_now(m) - DIVIDER_RESTART_NS;
}

static void write_b(cc_machine *m, uint8_t v)
{
    struct cc_cmos *c = &m->dev.cmos;
    bool was_set = c->ram[R_B] & B_SET, set = v & B_SET;
    rebase(c, cc_now(m));
    if (set && !was_set)
        split_time(c, c->time_s, c->staged);
    if (set)
        v &= (uint8_t)~B_UIE;                   /* "the SET bit going high clears the UIE bit" */
    c->ram[R_B] = v;
    if (was_set && !set) {
        set_time(c, c->staged);
        memset(c->staged, 0, sizeof c->staged);
    }
}

static uint8_t read_register(cc_machine *m)
{
    struct cc_cmos *c = &m->dev.cmos;
    int field = time_field(c->index);
    if (field >= 0)
        return read_time(m, field);
    uint8_t v = c->ram[c->index];
    if (c->index == R_A)
        v = read_a(m);
    else if (c->index == R_C) {
        catch_up(c, cc_now(m));
        v = read_c(m);
        update_irq(m);
    } else if (c->index == R_D)
        v = D_VRT;
    return v;
}

static void write_register(cc_machine *m, uint8_t v)
{
    struct cc_cmos *c = &m->dev.cmos;
    int field = time_field(c->index);
    bool clock = field >= 0 || c->index <= R_B;
    if (clock)
        catch_up(c, cc_now(m));
    if (field >= 0)
        write_time(m, field, v);
    else if (c->index == R_A)
        write_a(m, v);
    else if (c->index == R_B)
        write_b(m, v);
    else if (c->index != R_C && c->index != R_D)
        c->ram[c->index] = v;
    if (clock)
        update_irq(m);
}

uint8_t cc_cmos_read(cc_machine *m, uint16_t port)
{
    return (port & 1) ? read_register(m) : 0xFF;    /* the index cannot be read back */
}

void cc_cmos_write(cc_machine *m, uint16_t port, uint8_t value)
{
    if (port & 1) {
        write_register(m, value);
        return;
    }
    m->dev.cmos.index = value & 0x7F;
    m->dev.cmos.nmi_disabled = value >> 7;
}

/* ---- the host's side ------------------------------------------------------------------------------------------- */
int cc_shift_rtc(cc_machine *m, int64_t ns)
{
    struct cc_cmos *c = &m->dev.cmos;
    if (ns < -SHIFT_NS_MAX || ns > SHIFT_NS_MAX)
        return cc_fail(m, CC_EINVAL, "a shift of the clock chip by %lld ns: must be at most 10^16 either way",
                       (long long)ns);
    catch_up(c, cc_now(m));
    c->time_s += floor_div(ns, NS_PER_S);
    if (divider_runs(c))
        c->time_vns -= floor_mod(ns, NS_PER_S);
    update_irq(m);
    return CC_OK;
}

/* ---- power-up -------------------------------------------------------------------------------------------------- */
static void put_u16(struct cc_cmos *c, unsigned index, uint64_t v)
{
    uint16_t clipped = (uint16_t)(v > 0xFFFF ? 0xFFFF : v);
    c->ram[index] = (uint8_t)clipped;
    c->ram[index + 1] = (uint8_t)(clipped >> 8);
}

/* What firmware's set-up would have stored, at the PC/AT's places. */
void cc_cmos_reset(cc_machine *m)
{
    struct cc_cmos *c = &m->dev.cmos;
    memset(c, 0, sizeof *c);
    c->time_s = m->cfg.rtc_epoch_s;
    c->time_vns = (int64_t)cc_now(m);
    c->flags_vns = cc_now(m);
    c->ram[R_A] = A_DV_32KHZ << 4 | 6;
    c->ram[R_B] = B_24H;
    c->ram[0x14] = 0x02;                        /* equipment: x87 */
    uint64_t above_1m_kib = (m->cfg.ram_bytes >> 10) - 1024;
    uint64_t above_16m = m->cfg.ram_bytes > (16u << 20) ? (m->cfg.ram_bytes >> 16) - 256 : 0;
    put_u16(c, 0x15, 640);                      /* base memory, KiB */
    put_u16(c, 0x17, above_1m_kib);
    put_u16(c, 0x30, above_1m_kib);
    put_u16(c, 0x34, above_16m);                /* units of 64 KiB */
    uint16_t sum = 0;
    for (unsigned i = 0x10; i <= 0x2D; i++)
        sum = (uint16_t)(sum + c->ram[i]);
    c->ram[0x2E] = (uint8_t)(sum >> 8);
    c->ram[0x2F] = (uint8_t)sum;
    cc_event_set(m, CC_EV_RTC, CC_NEVER);
}
