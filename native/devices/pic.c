/*
 * pic.c: a pair of 8259A interrupt controllers, the slave on the master's IR2, as in every PC.  Source: Intel 8259A
 * datasheet (order 231468); edge/level control registers: 82371AB (PIIX4) datasheet, section 4.2.5.
 *
 * A request is the input's level, gated in edge mode by a latch that a rise sets and that an acknowledge or a fall
 * clears (the datasheet's priority cell): an input that falls before it is acknowledged takes its request back.
 * The chipset wires the cascade, so ICW3 is kept but decides nothing, and MCS-80/85 mode does not exist.
 */
#include "devices.h"

#define CASCADE 2u             /* the master's input that the slave's INT drives */
#define SPURIOUS 7u

#define ICW1_IC4 0x01u         /* ICW4 will follow */
#define ICW1_SNGL 0x02u        /* no ICW3 */
#define ICW1_LTIM 0x08u        /* all inputs level-triggered */
#define ICW1_SELECT 0x10u
#define OCW3_SELECT 0x08u
#define ICW4_AEOI 0x02u
#define ICW4_SFNM 0x10u        /* special fully nested mode */

/* IRQ 0, 1, 2, 8 and 13 are edge-triggered for good. */
static const uint8_t elcr_writable[2] = {0xF8, 0xDE};

static uint8_t requests(const struct cc_pic_chip *p)
{
    uint8_t level = (p->icw1 & ICW1_LTIM) ? 0xFF : p->elcr;
    return (uint8_t)(p->lines & (p->edge | level)) | p->injected;
}

/* 0 is the highest priority. */
static unsigned priority_of(const struct cc_pic_chip *p, unsigned level)
{
    return (level - p->lowest - 1u) & 7u;
}

/* The level with the highest priority among those set; 8 if none. */
static unsigned highest(const struct cc_pic_chip *p, uint8_t set)
{
    if (!set)
        return 8;
    unsigned level = (p->lowest + 1u) & 7u;
    while (!(set >> level & 1))
        level = (level + 1) & 7u;
    return level;
}

/* The level that the given requests make INT signal; 8 if none gets through. */
static unsigned winner(const struct cc_pic_chip *p, uint8_t irr, bool master)
{
    unsigned level = highest(p, irr & (uint8_t)~p->imr);
    if (level == 8 || p->icw_next)
        return 8;
    unsigned serving = highest(p, p->special_mask ? p->isr & (uint8_t)~p->imr : p->isr);
    if (serving == 8 || priority_of(p, level) < priority_of(p, serving))
        return level;
    /* The slave in service is not locked out, so that its higher levels can interrupt its lower ones. */
    if (level == serving && master && level == CASCADE && (p->icw4 & ICW4_SFNM))
        return level;
    return 8;
}

static unsigned pending(const cc_machine *m, unsigned chip)
{
    const struct cc_pic_chip *p = &m->dev.pic[chip];
    return winner(p, requests(p), chip == 0);
}

static void set_line(struct cc_pic_chip *p, unsigned level, bool high)
{
    uint8_t bit = (uint8_t)(1u << level);
    if (!high) {
        p->lines &= (uint8_t)~bit;
        p->edge &= (uint8_t)~bit;
    } else if (!(p->lines & bit)) {
        p->lines |= bit;
        p->edge |= bit;
    }
}

/* After any change: the slave's INT follows, and the vCPU hears of a pending interrupt. */
static void update(cc_machine *m)
{
    set_line(&m->dev.pic[0], CASCADE, pending(m, 1) != 8);
    if (pending(m, 0) != 8)
        m->kick |= CC_KICK_RESCHED;
}

void cc_irq_set(cc_machine *m, unsigned irq, bool level)
{
    set_line(&m->dev.pic[irq >> 3], irq & 7, level);
    update(m);
}

void cc_pic_inject(cc_machine *m, unsigned irq)
{
    m->dev.pic[irq >> 3].injected |= (uint8_t)(1u << (irq & 7));
    update(m);
}

bool cc_pic_pending(const cc_machine *m)
{
    return pending(m, 0) != 8;
}

bool cc_pic_would_deliver(const cc_machine *m, unsigned irq)
{
    unsigned master_level = irq < 8 ? irq : CASCADE;
    if (irq >= 8 && winner(&m->dev.pic[1], (uint8_t)(1u << (irq & 7)), false) == 8)
        return false;
    return winner(&m->dev.pic[0], (uint8_t)(1u << master_level), true) != 8;
}

/* One chip's part of an acknowledge; the level, or 8 if there is no request any more. */
static unsigned acknowledge(cc_machine *m, unsigned chip)
{
    struct cc_pic_chip *p = &m->dev.pic[chip];
    unsigned level = pending(m, chip);
    if (level == 8)
        return 8;
    p->edge &= (uint8_t)~(1u << level);
    p->injected &= (uint8_t)~(1u << level);
    if (!(p->icw4 & ICW4_AEOI))
        p->isr |= (uint8_t)(1u << level);
    else if (p->rotate_aeoi)
        p->lowest = (uint8_t)level;
    return level;
}

/* INT goes low when the slave is acknowledged; if it has another request, the master sees a new edge. */
static unsigned acknowledge_slave(cc_machine *m)
{
    unsigned level = acknowledge(m, 1);
    set_line(&m->dev.pic[0], CASCADE, false);
    return level;
}

uint8_t cc_pic_ack(cc_machine *m)
{
    unsigned chip = 0, level = acknowledge(m, 0);
    if (level == CASCADE) {
        chip = 1;
        level = acknowledge_slave(m);
    }
    if (level == 8)
        level = SPURIOUS;      /* no in-service bit is set for it */
    update(m);
    return (uint8_t)(m->dev.pic[chip].vector_base | level);
}

/* Power-up state: what firmware leaves behind, vectors 0x08 and 0x70, everything masked. */
void cc_pic_reset(cc_machine *m)
{
    for (unsigned i = 0; i < 2; i++) {
        struct cc_pic_chip *p = &m->dev.pic[i];
        memset(p, 0, sizeof *p);
        p->imr = 0xFF;
        p->vector_base = i ? 0x70 : 0x08;
        p->icw1 = ICW1_SELECT | ICW1_IC4;
        p->icw3 = i ? CASCADE : 1u << CASCADE;
        p->icw4 = 1;
        p->lowest = 7;
    }
}

static void write_icw1(struct cc_pic_chip *p, uint8_t v)
{
    p->icw1 = v;
    p->icw_next = 2;
    p->edge = 0;
    p->imr = 0;
    p->isr = 0;
    p->lowest = 7;
    p->special_mask = 0;
    p->read_isr = 0;
    p->poll = 0;
    p->rotate_aeoi = 0;
    if (!(v & ICW1_IC4))
        p->icw4 = 0;
}

/* OCW2, by its bits R SL EOI. */
static void write_ocw2(struct cc_pic_chip *p, uint8_t v)
{
    unsigned command = v >> 5, level = v & 7;
    bool specific = command & 2, rotate = command & 4;
    switch (command) {
    case 0: case 4:                              /* rotate in automatic EOI mode: clear, set */
        p->rotate_aeoi = rotate;
        break;
    case 1: case 3: case 5: case 7:              /* EOI: non-specific, specific, either with rotation */
        if (!specific)
            level = highest(p, p->special_mask ? p->isr & (uint8_t)~p->imr : p->isr);
        if (level == 8)
            break;
        p->isr &= (uint8_t)~(1u << level);
        if (rotate)
            p->lowest = (uint8_t)level;
        break;
    case 6:                                      /* set priority */
        p->lowest = (uint8_t)level;
        break;
    default:                                     /* 2: no operation */
        break;
    }
}

static void write_ocw3(struct cc_pic_chip *p, uint8_t v)
{
    if (v & 0x40)
        p->special_mask = v >> 5 & 1;
    if (v & 0x04)
        p->poll = 1;
    else if (v & 0x02)
        p->read_isr = v & 1;
}

static void write_data(struct cc_pic_chip *p, uint8_t v)
{
    switch (p->icw_next) {
    case 2:
        p->vector_base = v & 0xF8;
        p->icw_next = !(p->icw1 & ICW1_SNGL) ? 3 : (p->icw1 & ICW1_IC4) ? 4 : 0;
        break;
    case 3:
        p->icw3 = v;
        p->icw_next = (p->icw1 & ICW1_IC4) ? 4 : 0;
        break;
    case 4:
        p->icw4 = v & 0x1F;
        p->icw_next = 0;
        break;
    default:
        p->imr = v;
        break;
    }
}

void cc_pic_write(cc_machine *m, uint16_t port, uint8_t value)
{
    struct cc_pic_chip *p = &m->dev.pic[port >> 7 & 1];
    if (port & 1)
        write_data(p, value);
    else if (value & ICW1_SELECT)
        write_icw1(p, value);
    else if (value & OCW3_SELECT)
        write_ocw3(p, value);
    else
        write_ocw2(p, value);
    update(m);
}

/* A poll acknowledges like INTA and gives the level with bit 7 set, or 0 if nothing is pending. */
static uint8_t read_poll(cc_machine *m, unsigned chip)
{
    m->dev.pic[chip].poll = 0;
    unsigned level = chip ? acknowledge_slave(m) : acknowledge(m, 0);
    update(m);
    return level == 8 ? 0 : (uint8_t)(0x80u | level);
}

uint8_t cc_pic_read(cc_machine *m, uint16_t port)
{
    unsigned chip = port >> 7 & 1;
    const struct cc_pic_chip *p = &m->dev.pic[chip];
    if (p->poll)
        return read_poll(m, chip);
    if (port & 1)
        return p->imr;
    return p->read_isr ? p->isr : requests(p);
}

uint8_t cc_elcr_read(cc_machine *m, uint16_t port)
{
    return m->dev.pic[port & 1].elcr;
}

void cc_elcr_write(cc_machine *m, uint16_t port, uint8_t value)
{
    m->dev.pic[port & 1].elcr = value & elcr_writable[port & 1];
    update(m);
}
