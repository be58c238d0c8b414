/*
 * i8042.c: the keyboard controller at ports 0x60 and 0x64, with nothing plugged in: it passes its self-test and
 * answers for itself, and whatever is sent on to a device times out at once.  Source: IBM PS/2 Hardware Interface
 * Technical Reference, keyboard and auxiliary device controller.
 */
#include "devices.h"

#define KBD_IRQ 1u

#define ST_OUTPUT_FULL 0x01u
#define ST_SYSTEM 0x04u
#define ST_COMMAND 0x08u
#define ST_UNLOCKED 0x10u
#define ST_TIMEOUT 0x40u
#define CONFIG_KBD_INT 0x01u
#define CONFIG_SYSTEM 0x04u
#define CONFIG_KBD_OFF 0x10u
#define CONFIG_AUX_OFF 0x20u
#define CONFIG_XLATE 0x40u
#define P2_NOT_RESET 0x01u
#define P2_A20 0x02u

#define SELF_TEST_OK 0x55u
#define PORT_TEST_CLOCK_LOW 0x01u   /* what the interface test gives with no device pulling the clock up */
#define ANSWER_RESEND 0xFEu         /* with the time-out status: no device */

static void update_irq(cc_machine *m)
{
    const struct cc_i8042 *k = &m->dev.i8042;
    cc_irq_set(m, KBD_IRQ, (k->status & ST_OUTPUT_FULL) && (k->config & CONFIG_KBD_INT));
}

static void answer(cc_machine *m, uint8_t byte, uint8_t status)
{
    struct cc_i8042 *k = &m->dev.i8042;
    k->output = byte;
    k->status = (uint8_t)((k->status & ~ST_TIMEOUT) | ST_OUTPUT_FULL | status);
    update_irq(m);
}

static void write_output_port(cc_machine *m, uint8_t v)
{
    m->dev.i8042.ports = v | P2_A20;
    if (!(v & P2_NOT_RESET))
        cc_request_stop(m, CC_STOP_RESET, 0x64);
}

static void write_command(cc_machine *m, uint8_t v)
{
    struct cc_i8042 *k = &m->dev.i8042;
    k->status |= ST_COMMAND;
    k->command = 0;
    switch (v) {
    case 0x20: answer(m, k->config, 0); break;
    case 0xA7: k->config |= CONFIG_AUX_OFF; break;
    case 0xA8: k->config &= (uint8_t)~CONFIG_AUX_OFF; break;
    case 0xA9: case 0xAB: answer(m, PORT_TEST_CLOCK_LOW, 0); break;
    case 0xAA: k->status |= ST_SYSTEM; answer(m, SELF_TEST_OK, 0); break;
    case 0xAD: k->config |= CONFIG_KBD_OFF; break;
    case 0xAE: k->config &= (uint8_t)~CONFIG_KBD_OFF; break;
    case 0xC0: answer(m, 0x80, 0); break;       /* input port: not locked */
    case 0xD0: answer(m, (uint8_t)(k->ports | (k->status & ST_OUTPUT_FULL) << 4), 0); break;
    /* Write config, write output port, loop back, auxiliary loop back, write to the auxiliary device. */
    case 0x60: case 0xD1: case 0xD2: case 0xD3: case 0xD4: k->command = v; break;
    default:
        if (v >= 0xF0 && !(v & P2_NOT_RESET))   /* pulse output bits low; 0xFE is the usual reset */
            cc_request_stop(m, CC_STOP_RESET, 0x64);
        break;
    }
}

static void write_data(cc_machine *m, uint8_t v)
{
    struct cc_i8042 *k = &m->dev.i8042;
    uint8_t command = k->command;
    k->status &= (uint8_t)~ST_COMMAND;
    k->command = 0;
    switch (command) {
    case 0x60: k->config = v; update_irq(m); break;
    case 0xD1: write_output_port(m, v); break;
    /* There is no auxiliary port, so what is looped back does not count as coming from one. */
    case 0xD2: case 0xD3: answer(m, v, 0); break;
    default: answer(m, ANSWER_RESEND, ST_TIMEOUT); break;
    }
}

uint8_t cc_i8042_read(cc_machine *m, uint16_t port)
{
    struct cc_i8042 *k = &m->dev.i8042;
    if (port == 0x64)
        return k->status;
    k->status &= (uint8_t)~(ST_OUTPUT_FULL | ST_TIMEOUT);
    update_irq(m);
    return k->output;
}

void cc_i8042_write(cc_machine *m, uint16_t port, uint8_t value)
{
    if (port == 0x64)
        write_command(m, value);
    else
        write_data(m, value);
}

void cc_i8042_reset(cc_machine *m)
{
    struct cc_i8042 *k = &m->dev.i8042;
    memset(k, 0, sizeof *k);
    k->status = ST_SYSTEM | ST_UNLOCKED;
    k->config = CONFIG_XLATE | CONFIG_AUX_OFF | CONFIG_SYSTEM | CONFIG_KBD_INT;
    k->ports = P2_A20 | P2_NOT_RESET;
}
