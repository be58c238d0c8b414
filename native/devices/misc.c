/*
 * misc.c: single ports.
 *
 *   0x61    system control port B: bit 0 gate of PIT channel 2, 1 speaker, 2-3 check enables, 4 refresh toggle,
 *           5 output of PIT channel 2 (IBM PC AT Technical Reference)
 *   0x80    power-on self-test code; a scratch register
 *   0xED    where Linux and firmware write to let time pass; nothing is there
 *   0x92    system control port A: a rise of bit 0 resets the machine, bit 1 (A20) is always set
 *   0xCF9   reset control (82371AB datasheet, section 4.2.2): a rise of bit 2 resets the machine
 *   0x501   debug exit: a write of 1, 2 or 4 bytes powers the machine off; the value is the stop's detail
 *   0x510   SDK: a write is a hypercall; the request is in guest memory
 *   0x511   coverage: a write activates the map
 *
 * A reset stops the machine with CC_STOP_RESET; the detail is the port that asked.
 */
#include "devices.h"
#include "../sdk.h"

#define REFRESH_PULSES 18u      /* 15.1 us, as PIT channel 1 is programmed on a PC */

static uint8_t read_port61(cc_machine *m)
{
    uint8_t v = m->dev.sysctl.port61;
    if (cc_pit_tick(m) / REFRESH_PULSES & 1)
        v |= 0x10;
    if (cc_pit_out2(m))
        v |= 0x20;
    return v;
}

static void write_reset_bit(cc_machine *m, uint8_t *reg, uint8_t v, uint8_t bit, uint16_t port)
{
    bool rises = (v & bit) && !(*reg & bit);
    *reg = v;
    if (rises)
        cc_request_stop(m, CC_STOP_RESET, port);
}

uint8_t cc_sysctl_read(cc_machine *m, uint16_t port)
{
    const struct cc_sysctl *s = &m->dev.sysctl;
    switch (port) {
    case 0x61: return read_port61(m);
    case 0x80: return s->port80;
    case 0x92: return s->port92;
    case 0xCF9: return s->portcf9;
    default: return 0xFF;
    }
}

void cc_sysctl_write(cc_machine *m, uint16_t port, uint8_t value)
{
    struct cc_sysctl *s = &m->dev.sysctl;
    switch (port) {
    case 0x61:
        s->port61 = value & 0x0F;
        cc_pit_set_gate2(m, value & 1);
        break;
    case 0x80:
        s->port80 = value;
        break;
    case 0x92:
        write_reset_bit(m, &s->port92, (uint8_t)((value & 0x03) | 0x02), 0x01, port);
        break;
    case 0xCF9:
        write_reset_bit(m, &s->portcf9, value & 0x0E, 0x04, port);
        break;
    default:
        break;
    }
}

void cc_host_port_write(cc_machine *m, uint16_t port, uint32_t value)
{
    if (port == 0x501)
        cc_request_stop(m, CC_STOP_SHUTDOWN, value);
    else if (port == 0x510)
        cc_sdk_request(m, value);
    else if (port == 0x511)
        cc_sdk_coverage(m, value);
}

void cc_sysctl_reset(cc_machine *m)
{
    memset(&m->dev.sysctl, 0, sizeof m->dev.sysctl);
    m->dev.sysctl.port92 = 0x02;
}
