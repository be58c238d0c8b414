/* test_cmos.c: the clock's date, updates and interrupts, and CMOS memory. */
#include "device_machine.h"

#include <time.h>

static uint8_t cmos(cc_machine *m, uint8_t index)
{
    out8(m, 0x70, index);
    return in8(m, 0x71);
}

static void set_cmos(cc_machine *m, uint8_t index, uint8_t v)
{
    out8(m, 0x70, index);
    out8(m, 0x71, v);
}

static cc_machine *machine_at(int64_t epoch_s)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = 16u << 20;
    cfg.rtc_epoch_s = epoch_s;
    return new_machine_of(&cfg);
}

static unsigned bcd(unsigned v)
{
    return (v >> 4) * 10 + (v & 15);
}

static void check_date(cc_machine *m, int64_t unix_s)
{
    time_t t = (time_t)unix_s;
    struct tm tm;
    gmtime_r(&t, &tm);
    CHECK_EQ(bcd(cmos(m, 0)), tm.tm_sec);
    CHECK_EQ(bcd(cmos(m, 2)), tm.tm_min);
    CHECK_EQ(bcd(cmos(m, 4)), tm.tm_hour);
    CHECK_EQ(cmos(m, 6), tm.tm_wday + 1);
    CHECK_EQ(bcd(cmos(m, 7)), tm.tm_mday);
    CHECK_EQ(bcd(cmos(m, 8)), tm.tm_mon + 1);
    CHECK_EQ(bcd(cmos(m, 9)), tm.tm_year % 100);
    CHECK_EQ(bcd(cmos(m, 0x32)), 19 + tm.tm_year / 100);
}

static void cmos_shows_epoch_plus_virtual_time(void)
{
    /* Ends of days, months, years, leap Februaries and the century. */
    static const int64_t at[] = {0, 68169599, 951782399, 951868799, 946684799, 1709164799, 1709251199, 1735689599,
                                 2147483647, 4102444799};
    for (unsigned i = 0; i < sizeof at / sizeof *at; i++) {
        cc_machine *m = machine_at(at[i]);
        check_date(m, at[i]);
        pass_to(m, SECOND - 1);
        check_date(m, at[i]);
        pass_to(m, SECOND);
        check_date(m, at[i] + 1);
        for (int64_t days = 1; days < 800; days += 37) {
            pass_to(m, (uint64_t)days * 86400 * SECOND);
            check_date(m, at[i] + days * 86400);
        }
        cc_machine_free(m);
    }
    uint64_t seed = 3;
    for (unsigned i = 0; i < 300; i++) {
        int64_t t = (int64_t)(rnd(&seed) % 4102444800u);
        cc_machine *m = machine_at(t);
        check_date(m, t);
        cc_machine_free(m);
    }
}

static void cmos_reads_in_binary_and_12_hours(void)
{
    cc_machine *m = machine_at(1735689600 + 13 * 3600 + 45 * 60 + 59);
    CHECK_EQ(cmos(m, 11), 0x02);
    CHECK_EQ(cmos(m, 4), 0x13);
    set_cmos(m, 11, 0x00);
    CHECK_EQ(cmos(m, 4), 0x81);                  /* 1 PM */
    set_cmos(m, 11, 0x04);
    CHECK_EQ(cmos(m, 4), 0x81);
    CHECK_EQ(cmos(m, 0), 59);
    CHECK_EQ(cmos(m, 0x32), 20);
    set_cmos(m, 11, 0x06);
    CHECK_EQ(cmos(m, 4), 13);
    set_cmos(m, 11, 0x00);
    pass_to(m, 11 * 3600 * SECOND);
    CHECK_EQ(cmos(m, 4), 0x12);                  /* 00:45 is 12 AM */
    set_cmos(m, 4, 0x92);                        /* 12 PM */
    set_cmos(m, 11, 0x02);
    CHECK_EQ(cmos(m, 4), 0x12);
    CHECK_EQ(cmos(m, 2), 0x45);
    cc_machine_free(m);
}

static void cmos_stands_still_while_set(void)
{
    cc_machine *m = machine_at(1735689600);
    pass_to(m, 300 * MS);
    set_cmos(m, 11, 0x82);
    pass_to(m, 10 * SECOND);
    CHECK_EQ(cmos(m, 0), 0);
    CHECK_EQ(cmos(m, 10) & 0x80, 0);
    set_cmos(m, 0, 0x58);
    set_cmos(m, 2, 0x59);
    set_cmos(m, 4, 0x23);
    set_cmos(m, 7, 0x28);
    set_cmos(m, 8, 0x02);
    set_cmos(m, 9, 0x24);
    set_cmos(m, 6, 4);
    CHECK_EQ(cmos(m, 0), 0x58);
    set_cmos(m, 11, 0x02);
    check_date(m, 1709164798);                   /* 2024-02-28 23:59:58, a Wednesday */
    pass_to(m, 12 * SECOND - 1);
    check_date(m, 1709164799);                   /* the divider kept its phase: one update, at the full second */
    pass_to(m, 12 * SECOND);
    check_date(m, 1709164800);
    set_cmos(m, 6, 1);                           /* the weekday is whatever it was set to */
    CHECK_EQ(cmos(m, 6), 1);
    pass_to(m, 12 * SECOND + 86400 * SECOND);
    CHECK_EQ(cmos(m, 6), 2);
    cc_machine_free(m);
}

/* What Linux does to set the clock: divider held in reset, so that the next update is half a second away. */
static void cmos_divider_restarts_half_a_second_early(void)
{
    cc_machine *m = machine_at(1735689600);
    pass_to(m, 100 * MS);
    set_cmos(m, 11, 0x82);
    set_cmos(m, 10, 0x76);
    set_cmos(m, 0, 0x30);
    pass_to(m, 200 * MS);
    set_cmos(m, 11, 0x02);
    pass_to(m, 7 * SECOND);
    CHECK_EQ(cmos(m, 0), 0x30);
    set_cmos(m, 10, 0x26);
    pass_to(m, 7500 * MS - 1);
    CHECK_EQ(cmos(m, 0), 0x30);
    CHECK_EQ(cmos(m, 10), 0xA6);
    pass_to(m, 7500 * MS);
    CHECK_EQ(cmos(m, 0), 0x31);
    CHECK_EQ(cmos(m, 10), 0x26);
    cc_machine_free(m);
}

static void cmos_announces_updates(void)
{
    cc_machine *m = machine_at(0);
    for (unsigned s = 1; s < 4; s++) {
        CHECK_EQ(cmos(m, 10), 0x26);
        pass_to(m, s * SECOND - 2228001);
        CHECK_EQ(cmos(m, 10), 0x26);
        pass_to(m, s * SECOND - 2228000);
        CHECK_EQ(cmos(m, 10), 0xA6);
        CHECK_EQ(cmos(m, 0), s - 1);
        pass_to(m, s * SECOND);
        CHECK_EQ(cmos(m, 0), s);
    }
    CHECK_EQ(cmos(m, 12), 0x50);                 /* UF and PF, no interrupt enabled */
    CHECK_EQ(cmos(m, 12), 0x00);
    CHECK_EQ(cmos(m, 13), 0x80);
    CHECK_EQ(in8(m, 0x70), 0xFF);
    cc_machine_free(m);
}

static void on_rtc(cc_machine *m, struct guest *g, uint8_t vector)
{
    CHECK_EQ(vector, 0x38);
    g->value |= (uint64_t)cmos(m, 12) << 8;
    g->value &= ~UINT64_C(0xFF);
    out8(m, 0xA0, 0x20);
    out8(m, 0x20, 0x20);
}

static cc_machine *machine_with_rtc_handler(void)
{
    cc_machine *m = machine_at(1735689600 + 86395);
    init_pics(m, 1, 0xFB, 0xFE);
    guest_of(m)->handler = on_rtc;
    guest_of(m)->insn = hlt_always;
    guest_of(m)->iflag = true;
    return m;
}

static void cmos_interrupts_periodically(void)
{
    for (unsigned rs = 1; rs < 16; rs++) {
        cc_machine *m = machine_with_rtc_handler();
        unsigned hz = rs == 1 ? 256 : rs == 2 ? 128 : 32768u >> (rs - 1);
        set_cmos(m, 10, (uint8_t)(0x20 | rs));
        set_cmos(m, 11, 0x42);
        pass_to(m, 3 * SECOND + SECOND / hz - 2);
        CHECK_EQ(guest_of(m)->delivered, 3 * hz);
        CHECK(guest_of(m)->value & 0xC000);
        uint64_t delivered = guest_of(m)->delivered;
        set_cmos(m, 11, 0x02);
        pass_to(m, 5 * SECOND);
        CHECK_EQ(guest_of(m)->delivered, delivered);
        CHECK_EQ(m->dev.ev_at[CC_EV_RTC], CC_NEVER);
        cc_machine_free(m);
    }
}

static void cmos_interrupts_at_updates_and_alarms(void)
{
    cc_machine *m = machine_with_rtc_handler();
    set_cmos(m, 11, 0x12);
    pass_over(m, 4 * SECOND);
    CHECK_EQ(guest_of(m)->delivered, 4);
    CHECK_EQ(guest_of(m)->last_vns, 4 * SECOND);
    CHECK(guest_of(m)->value & 0x9000);
    set_cmos(m, 11, 0x02);
    set_cmos(m, 1, 0x07);                        /* 00:00:07, across midnight */
    set_cmos(m, 3, 0x00);
    set_cmos(m, 5, 0x00);
    set_cmos(m, 11, 0x22);
    pass_to(m, 86400 * SECOND);
    CHECK_EQ(guest_of(m)->delivered, 5);
    CHECK_EQ(guest_of(m)->last_vns, 12 * SECOND);
    CHECK(guest_of(m)->value & 0x2000);
    set_cmos(m, 5, 0xC0);                        /* any hour */
    uint64_t start = cc_now(m);
    pass_to(m, start + 2 * 3600 * SECOND);
    CHECK_EQ(guest_of(m)->delivered, 7);
    set_cmos(m, 5, 0x77);                        /* an hour that never comes */
    CHECK_EQ(m->dev.ev_at[CC_EV_RTC], CC_NEVER);
    cc_machine_free(m);
}

static void cmos_unread_interrupt_costs_no_events(void)
{
    cc_machine *m = machine_at(0);
    set_cmos(m, 11, 0x42);
    pass_over(m, SECOND);
    CHECK_EQ(m->dev.ev_at[CC_EV_RTC], CC_NEVER);
    CHECK_EQ(cmos(m, 12), 0xD0);
    CHECK(m->dev.ev_at[CC_EV_RTC] != CC_NEVER);
    cc_machine_free(m);
}

static void cmos_holds_memory_and_the_nmi_bit(void)
{
    cc_machine *m = new_machine();
    CHECK_EQ(cmos(m, 0x15), 0x80);               /* 640 KiB */
    CHECK_EQ(cmos(m, 0x16), 0x02);
    CHECK_EQ(cmos(m, 0x17) | cmos(m, 0x18) << 8, 15 * 1024);
    for (uint8_t i = 0x33; i < 0x80; i++)
        set_cmos(m, i, (uint8_t)(i * 3));
    for (uint8_t i = 0x33; i < 0x80; i++)
        CHECK_EQ(cmos(m, i), (uint8_t)(i * 3));
    out8(m, 0x70, 0x8F);
    CHECK_EQ(m->dev.cmos.nmi_disabled, 1);
    CHECK_EQ(in8(m, 0x71), 0);
    out8(m, 0x70, 0x0F);
    CHECK_EQ(m->dev.cmos.nmi_disabled, 0);
    set_cmos(m, 13, 0);
    CHECK_EQ(cmos(m, 13), 0x80);
    cc_machine_free(m);
}

int main(void)
{
    RUN(cmos_shows_epoch_plus_virtual_time);
    RUN(cmos_reads_in_binary_and_12_hours);
    RUN(cmos_stands_still_while_set);
    RUN(cmos_divider_restarts_half_a_second_early);
    RUN(cmos_announces_updates);
    RUN(cmos_interrupts_periodically);
    RUN(cmos_interrupts_at_updates_and_alarms);
    RUN(cmos_unread_interrupt_costs_no_events);
    RUN(cmos_holds_memory_and_the_nmi_bit);
    cc_store_free(the_store);
    return 0;
}
