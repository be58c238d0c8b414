/*
 * devices.h: what the devices offer to the bus, to each other and to the run loop.  Internal to native/.
 *
 * The *_fire functions handle a due event slot.  They use the time the slot was armed for, not the present, so that
 * it makes no difference at which instruction boundary after that time the event is handled.
 */
#ifndef CC_DEVICES_H
#define CC_DEVICES_H

#include "../machine.h"

/* pic.c: set the level of an ISA interrupt line, 0..15. */
void cc_irq_set(cc_machine *m, unsigned irq, bool level);
/* Whether a request on this line would reach the vCPU as the PICs are programmed now. */
bool cc_pic_would_deliver(const cc_machine *m, unsigned irq);
void cc_pic_inject(cc_machine *m, unsigned irq);     /* a request that stays until it is acknowledged */
void cc_pic_reset(cc_machine *m);
uint8_t cc_pic_read(cc_machine *m, uint16_t port);
void cc_pic_write(cc_machine *m, uint16_t port, uint8_t value);
uint8_t cc_elcr_read(cc_machine *m, uint16_t port);
void cc_elcr_write(cc_machine *m, uint16_t port, uint8_t value);

/* pit.c */
void cc_pit_reset(cc_machine *m);
void cc_pit_fire(cc_machine *m);
uint8_t cc_pit_read(cc_machine *m, uint16_t port);
void cc_pit_write(cc_machine *m, uint16_t port, uint8_t value);
void cc_pit_set_gate2(cc_machine *m, bool gate);
bool cc_pit_out2(cc_machine *m);
uint64_t cc_pit_tick(const cc_machine *m);           /* CLK pulses since virtual time 0 */

/* uart.c */
void cc_uart_reset(cc_machine *m);
void cc_uart_rx_fire(cc_machine *m);
void cc_uart_timeout_fire(cc_machine *m);
uint8_t cc_uart_read(cc_machine *m, uint16_t port);
void cc_uart_write(cc_machine *m, uint16_t port, uint8_t value);

/* cmos.c */
void cc_cmos_reset(cc_machine *m);
void cc_cmos_fire(cc_machine *m);
uint8_t cc_cmos_read(cc_machine *m, uint16_t port);
void cc_cmos_write(cc_machine *m, uint16_t port, uint8_t value);

/* i8042.c */
void cc_i8042_reset(cc_machine *m);
uint8_t cc_i8042_read(cc_machine *m, uint16_t port);
void cc_i8042_write(cc_machine *m, uint16_t port, uint8_t value);

/* misc.c */
void cc_sysctl_reset(cc_machine *m);
uint8_t cc_sysctl_read(cc_machine *m, uint16_t port);
void cc_sysctl_write(cc_machine *m, uint16_t port, uint8_t value);
void cc_host_port_write(cc_machine *m, uint16_t port, uint32_t value);   /* debug exit, SDK, coverage */

/* power.c */
void cc_pace_reset(cc_machine *m);
void cc_streams_reset(cc_machine *m);                  /* every random stream at its start, by the seed alone */
void cc_timer_line(cc_machine *m, bool level);       /* the level of the PIT's OUT, channel 0 */
void cc_timer_fire(cc_machine *m);

/* bus.c: whether any armed event can raise a line that would reach the vCPU. */
bool cc_event_may_interrupt(const cc_machine *m);

#endif
