/* test_pic.c: the interrupt controllers, through their ports, lines and acknowledges. */
#include "device_machine.h"

#define AEOI 3
#define SFNM 0x11

static void pulse(cc_machine *m, unsigned irq)
{
    cc_irq_set(m, irq, false);
    cc_irq_set(m, irq, true);
}

static uint8_t irr(cc_machine *m, uint16_t chip)
{
    out8(m, chip, 0x0A);
    return in8(m, chip);
}

static uint8_t isr(cc_machine *m, uint16_t chip)
{
    out8(m, chip, 0x0B);
    return in8(m, chip);
}

static void pic_mask_reads_back(void)
{
    cc_machine *m = new_machine();
    CHECK_EQ(in8(m, 0x21), 0xFF);
    out8(m, 0xA1, 0xFF);
    out8(m, 0x21, 0xFB);        /* Linux: "check to see if we have a PIC" */
    CHECK_EQ(in8(m, 0x21), 0xFB);
    out8(m, 0xA1, 0x5A);
    CHECK_EQ(in8(m, 0xA1), 0x5A);
    init_pics(m, 1, 0xFB, 0xFE);
    CHECK_EQ(in8(m, 0x21), 0xFB);
    CHECK_EQ(in8(m, 0xA1), 0xFE);
    cc_machine_free(m);
}

static void pic_gives_priority_to_the_lowest_number(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    pulse(m, 5);
    pulse(m, 3);
    pulse(m, 12);
    CHECK(cc_pic_pending(m));
    CHECK_EQ(irr(m, 0x20), 1 << 5 | 1 << 3 | 1 << 2);
    CHECK_EQ(cc_pic_ack(m), 0x38 + 4);           /* IRQ 12 comes in on level 2 */
    CHECK_EQ(isr(m, 0x20), 1 << 2);
    CHECK_EQ(isr(m, 0xA0), 1 << 4);
    CHECK(!cc_pic_pending(m));                   /* 3 and 5 wait for the end of 12 */
    pulse(m, 8);
    CHECK(!cc_pic_pending(m));                   /* the slave has level 2 in service, whatever its own level */
    pulse(m, 1);
    CHECK_EQ(cc_pic_ack(m), 0x31);               /* nested */
    out8(m, 0x20, 0x20);
    CHECK_EQ(isr(m, 0x20), 1 << 2);
    out8(m, 0xA0, 0x20);
    out8(m, 0x20, 0x20);
    CHECK_EQ(cc_pic_ack(m), 0x38);               /* IRQ 8, whose edge came while 12 was served */
    out8(m, 0xA0, 0x20);
    out8(m, 0x20, 0x20);
    CHECK_EQ(cc_pic_ack(m), 0x33);
    out8(m, 0x20, 0x63);                         /* specific EOI */
    CHECK_EQ(isr(m, 0x20), 0);
    CHECK_EQ(cc_pic_ack(m), 0x35);
    CHECK(!cc_pic_pending(m));
    cc_machine_free(m);
}

static void pic_masks_without_losing_the_request(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0xFF, 0xFF);
    pulse(m, 4);
    CHECK(!cc_pic_pending(m));
    m->kick = 0;
    out8(m, 0x21, 0xEF);
    CHECK(cc_pic_pending(m));
    CHECK(m->kick & CC_KICK_RESCHED);            /* the vCPU must hear of it */
    CHECK_EQ(cc_pic_ack(m), 0x34);
    cc_machine_free(m);
}

static void pic_takes_one_interrupt_per_edge(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    pulse(m, 4);
    CHECK_EQ(cc_pic_ack(m), 0x34);
    out8(m, 0x20, 0x20);
    CHECK(!cc_pic_pending(m));                   /* still high, no new edge */
    cc_irq_set(m, 4, true);
    CHECK(!cc_pic_pending(m));
    cc_irq_set(m, 4, false);
    cc_irq_set(m, 4, true);
    CHECK(cc_pic_pending(m));
    cc_machine_free(m);
}

static void pic_repeats_while_a_level_input_is_high(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    out8(m, 0x4D0, 0xFF);
    out8(m, 0x4D1, 0xFF);
    CHECK_EQ(in8(m, 0x4D0), 0xF8);
    CHECK_EQ(in8(m, 0x4D1), 0xDE);
    cc_irq_set(m, 5, true);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(cc_pic_ack(m), 0x35);
        CHECK(!cc_pic_pending(m));
        out8(m, 0x20, 0x20);
        CHECK(cc_pic_pending(m));
    }
    cc_irq_set(m, 5, false);
    CHECK(!cc_pic_pending(m));
    cc_irq_set(m, 10, true);
    CHECK_EQ(cc_pic_ack(m), 0x3A);
    out8(m, 0xA0, 0x20);
    out8(m, 0x20, 0x20);
    CHECK_EQ(cc_pic_ack(m), 0x3A);
    cc_machine_free(m);
}

static void pic_default_vector_7_when_the_request_went_away(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    pulse(m, 4);
    cc_irq_set(m, 4, false);
    CHECK(!cc_pic_pending(m));
    CHECK_EQ(cc_pic_ack(m), 0x37);
    CHECK_EQ(isr(m, 0x20), 0);                   /* so the handler sends no EOI */
    /* The slave's default: its request goes between INT and INTA, seen here by freezing the master's latch. */
    pulse(m, 10);
    m->dev.pic[1].lines = 0;
    CHECK_EQ(cc_pic_ack(m), 0x3F);
    CHECK_EQ(isr(m, 0xA0), 0);
    CHECK_EQ(isr(m, 0x20), 1 << 2);              /* the master did have a request: it needs its EOI */
    cc_machine_free(m);
}

static void pic_auto_eoi_and_rotation(void)
{
    cc_machine *m = new_machine();
    init_pics(m, AEOI, 0, 0);
    pulse(m, 3);
    CHECK_EQ(cc_pic_ack(m), 0x33);
    CHECK_EQ(isr(m, 0x20), 0);
    out8(m, 0x20, 0x80);                         /* rotate in automatic EOI mode */
    pulse(m, 3);
    CHECK_EQ(cc_pic_ack(m), 0x33);
    pulse(m, 3);
    pulse(m, 4);
    CHECK_EQ(cc_pic_ack(m), 0x34);               /* 3 is the lowest now */
    CHECK_EQ(cc_pic_ack(m), 0x33);
    out8(m, 0x20, 0x00);
    pulse(m, 6);
    CHECK_EQ(cc_pic_ack(m), 0x36);
    pulse(m, 6);
    pulse(m, 4);
    CHECK_EQ(cc_pic_ack(m), 0x34);               /* no longer rotating: 3 is still the lowest, 4 the highest */
    cc_machine_free(m);
}

static void pic_slave_in_auto_eoi_gives_the_master_new_edges(void)
{
    cc_machine *m = new_machine();
    init_pics(m, AEOI, 0, 0);
    out8(m, 0xA0, 0x11);
    out8(m, 0xA1, 0x38);
    out8(m, 0xA1, 0x02);
    out8(m, 0xA1, AEOI);
    pulse(m, 9);
    pulse(m, 14);
    CHECK_EQ(cc_pic_ack(m), 0x39);
    CHECK_EQ(cc_pic_ack(m), 0x3E);
    CHECK(!cc_pic_pending(m));
    cc_machine_free(m);
}

static void pic_rotates_on_eoi_and_sets_priority(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    pulse(m, 3);
    CHECK_EQ(cc_pic_ack(m), 0x33);
    out8(m, 0x20, 0xA0);                         /* rotate on non-specific EOI */
    CHECK_EQ(isr(m, 0x20), 0);
    pulse(m, 3);
    pulse(m, 7);
    CHECK_EQ(cc_pic_ack(m), 0x37);
    out8(m, 0x20, 0xE7);                         /* rotate on specific EOI: 7 is the lowest again */
    CHECK_EQ(cc_pic_ack(m), 0x33);
    out8(m, 0x20, 0x63);
    out8(m, 0x20, 0xC4);                         /* set priority: 4 is the lowest, 5 the highest */
    pulse(m, 0);
    pulse(m, 5);
    CHECK_EQ(cc_pic_ack(m), 0x35);
    CHECK(!cc_pic_pending(m));
    out8(m, 0x20, 0x20);
    CHECK_EQ(cc_pic_ack(m), 0x30);
    cc_machine_free(m);
}

static void pic_special_mask_lets_lower_levels_in(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    pulse(m, 1);
    CHECK_EQ(cc_pic_ack(m), 0x31);
    pulse(m, 6);
    CHECK(!cc_pic_pending(m));
    out8(m, 0x21, 0x02);
    CHECK(!cc_pic_pending(m));
    out8(m, 0x20, 0x68);                         /* set special mask */
    CHECK_EQ(cc_pic_ack(m), 0x36);
    out8(m, 0x20, 0x20);                         /* clears 6, not the masked 1 */
    CHECK_EQ(isr(m, 0x20), 1 << 1);
    out8(m, 0x20, 0x20);
    CHECK_EQ(isr(m, 0x20), 1 << 1);
    out8(m, 0x20, 0x48);                         /* reset special mask */
    out8(m, 0x20, 0x20);
    CHECK_EQ(isr(m, 0x20), 0);
    cc_machine_free(m);
}

static void pic_special_fully_nested_mode(void)
{
    cc_machine *m = new_machine();
    init_pics(m, SFNM, 0, 0);
    pulse(m, 12);
    CHECK_EQ(cc_pic_ack(m), 0x3C);
    pulse(m, 5);
    pulse(m, 14);
    CHECK(!cc_pic_pending(m));
    pulse(m, 9);
    CHECK_EQ(cc_pic_ack(m), 0x39);               /* a higher level of the same slave is let through */
    CHECK(!cc_pic_pending(m));                   /* the master's lower levels are not */
    cc_machine_free(m);
}

static void pic_poll_acknowledges(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0, 0);
    out8(m, 0x20, 0x0C);
    CHECK_EQ(in8(m, 0x20), 0);
    CHECK_EQ(in8(m, 0x21), 0);                   /* back to the mask */
    pulse(m, 6);
    out8(m, 0x20, 0x0C);
    CHECK_EQ(in8(m, 0x20), 0x86);
    CHECK_EQ(isr(m, 0x20), 1 << 6);
    pulse(m, 13);
    out8(m, 0x20, 0x0C);
    CHECK_EQ(in8(m, 0x20), 0x82);
    out8(m, 0xA0, 0x0C);
    CHECK_EQ(in8(m, 0xA0), 0x85);
    CHECK(!cc_pic_pending(m));
    cc_machine_free(m);
}

static void pic_icw1_forgets_edges_masks_and_services(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0x80, 0);
    pulse(m, 3);
    CHECK_EQ(cc_pic_ack(m), 0x33);
    pulse(m, 1);
    out8(m, 0x20, 0x11);
    CHECK(!cc_pic_pending(m));
    CHECK_EQ(in8(m, 0x21), 0);
    out8(m, 0x21, 0x40);
    out8(m, 0x21, 0x04);
    out8(m, 0x21, 0x01);
    CHECK(!cc_pic_pending(m));                   /* the lines are high, but an edge is needed */
    CHECK_EQ(isr(m, 0x20), 0);
    pulse(m, 1);
    CHECK_EQ(cc_pic_ack(m), 0x41);
    out8(m, 0x20, 0x20);
    out8(m, 0x20, 0x12);                         /* single, no ICW4: only ICW2 follows */
    out8(m, 0x21, 0x50);
    out8(m, 0x21, 0xAA);
    CHECK_EQ(in8(m, 0x21), 0xAA);
    cc_machine_free(m);
}

/* What the run loop asks when the vCPU is halted. */
static void pic_knows_what_could_be_delivered(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0xEB, 0xFE);                 /* 2, 4, 8 */
    CHECK(!cc_pic_would_deliver(m, 0));
    CHECK(cc_pic_would_deliver(m, 4));
    CHECK(cc_pic_would_deliver(m, 8));
    CHECK(!cc_pic_would_deliver(m, 9));
    pulse(m, 4);
    CHECK_EQ(cc_pic_ack(m), 0x34);
    CHECK(!cc_pic_would_deliver(m, 4));
    CHECK(cc_pic_would_deliver(m, 8));           /* comes in above 4 */
    out8(m, 0x21, 0xEF);
    CHECK(!cc_pic_would_deliver(m, 8));          /* the cascade is masked */
    cc_machine_free(m);
}

int main(void)
{
    RUN(pic_mask_reads_back);
    RUN(pic_gives_priority_to_the_lowest_number);
    RUN(pic_masks_without_losing_the_request);
    RUN(pic_takes_one_interrupt_per_edge);
    RUN(pic_repeats_while_a_level_input_is_high);
    RUN(pic_default_vector_7_when_the_request_went_away);
    RUN(pic_auto_eoi_and_rotation);
    RUN(pic_slave_in_auto_eoi_gives_the_master_new_edges);
    RUN(pic_rotates_on_eoi_and_sets_priority);
    RUN(pic_special_mask_lets_lower_levels_in);
    RUN(pic_special_fully_nested_mode);
    RUN(pic_poll_acknowledges);
    RUN(pic_icw1_forgets_edges_masks_and_services);
    RUN(pic_knows_what_could_be_delivered);
    cc_store_free(the_store);
    return 0;
}
