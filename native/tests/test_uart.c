/* test_uart.c: the serial port: Linux's probes, both directions, interrupts. */
#include "device_machine.h"

#define COM 0x3F8
enum { RBR = COM, THR = COM, IER = COM + 1, IIR = COM + 2, FCR = COM + 2, LCR, MCR, LSR, MSR, SCR };
#define CHAR_115200_NS 86806u                    /* 10 bits, rounded up */

static size_t type(cc_machine *m, const char *s)
{
    return cc_console_input(m, (const uint8_t *)s, strlen(s));
}

static void uart_passes_linux_autoconfig(void)
{
    cc_machine *m = new_machine();
    uint8_t ier = in8(m, IER);
    out8(m, IER, 0);
    CHECK_EQ(in8(m, IER) & 0x0F, 0);
    out8(m, IER, 0x0F);
    CHECK_EQ(in8(m, IER), 0x0F);
    out8(m, IER, ier);
    uint8_t mcr = in8(m, MCR), lcr = in8(m, LCR);
    out8(m, MCR, 0x1A);                          /* loopback, OUT2, RTS */
    CHECK_EQ(in8(m, MSR) & 0xF0, 0x90);          /* DCD, CTS */
    out8(m, MCR, mcr);
    out8(m, LCR, 0xBF);
    out8(m, FCR, 0);
    out8(m, LCR, 0);
    out8(m, FCR, 1);
    CHECK_EQ(in8(m, IIR) >> 6, 3);               /* 16550A or better */
    /* The variants, if the kernel looks for them: no EFR, no bank switching, no 64-byte FIFO, no UUE. */
    out8(m, LCR, 0x80);
    CHECK(in8(m, IIR) != 0);
    out8(m, LCR, 0xBF);
    CHECK(in8(m, IIR) != 0);
    out8(m, LCR, 0);
    uint8_t status1 = in8(m, MCR);
    out8(m, LCR, 0xE0);
    uint8_t status2 = in8(m, IIR);
    if (!((status1 ^ status2) & 0x10)) {
        out8(m, LCR, 0);
        out8(m, MCR, status1 ^ 0x10);
        out8(m, LCR, 0xE0);
        status2 = in8(m, IIR);
        out8(m, LCR, 0);
        out8(m, MCR, status1);
        CHECK(!((status1 ^ status2) & 0x10));
    }
    out8(m, LCR, 0);
    out8(m, FCR, 0x21);
    CHECK_EQ(in8(m, IIR) >> 5, 6);
    out8(m, FCR, 1);
    out8(m, LCR, 0x80);
    out8(m, FCR, 0x21);
    CHECK_EQ(in8(m, IIR) >> 5, 6);
    out8(m, FCR, 1);
    out8(m, LCR, 0);
    out8(m, IER, 0x40);
    CHECK_EQ(in8(m, IER), 0);
    out8(m, LCR, lcr);
    out8(m, MCR, mcr);
    out8(m, FCR, 1);
    out8(m, FCR, 7);
    out8(m, FCR, 0);
    in8(m, RBR);
    CHECK_EQ(in8(m, IIR), 1);                    /* FIFOs off, nothing pending */
    cc_machine_free(m);
}

static void uart_passes_linux_startup(void)
{
    cc_machine *m = new_machine();
    out8(m, FCR, 1);
    out8(m, FCR, 7);
    out8(m, FCR, 0);
    in8(m, LSR);
    in8(m, RBR);
    in8(m, IIR);
    in8(m, MSR);
    CHECK_EQ(in8(m, LSR), 0x60);
    out8(m, IER, 2);
    CHECK_EQ(in8(m, IIR), 2);                    /* THRE */
    out8(m, IER, 0);
    out8(m, IER, 2);
    CHECK_EQ(in8(m, IIR), 2);                    /* reasserted: no UART_BUG_THRE */
    CHECK_EQ(in8(m, IIR), 1);                    /* and cleared by the read */
    out8(m, IER, 0);
    out8(m, LCR, 3);
    out8(m, MCR, 8);
    out8(m, IER, 2);
    CHECK(in8(m, LSR) & 0x40);
    CHECK(!(in8(m, IIR) & 1));                   /* no UART_BUG_TXEN */
    out8(m, IER, 0);
    cc_machine_free(m);
}

static void uart_has_scratch_and_divisor_registers(void)
{
    cc_machine *m = new_machine();
    out8(m, SCR, 0xA5);
    CHECK_EQ(in8(m, SCR), 0xA5);
    out8(m, LCR, 0x83);
    out8(m, COM, 0x34);
    out8(m, COM + 1, 0x12);
    CHECK_EQ(in8(m, COM), 0x34);
    CHECK_EQ(in8(m, COM + 1), 0x12);
    out8(m, LCR, 0x03);
    CHECK_EQ(in8(m, IER), 0);
    CHECK_EQ(m->dev.uart.divisor, 0x1234);
    CHECK_EQ(cc_console_total(m), 0);            /* the divisor was not transmitted */
    CHECK_EQ(in8(m, 0x2F8), 0xFF);               /* no COM2 */
    CHECK_EQ(cc_io_read(m, 0x2F9, 4), 0xFFFFFFFFu);
    cc_machine_free(m);
}

static void uart_transmits_at_once_with_an_edge_per_byte(void)
{
    cc_machine *m = new_machine();
    uint8_t got[8];
    uint64_t first;
    init_pics(m, 1, 0xEF, 0xFF);
    out8(m, MCR, 8);
    out8(m, IER, 2);
    CHECK(cc_pic_pending(m));
    CHECK_EQ(cc_pic_ack(m), 0x34);
    out8(m, 0x20, 0x20);
    CHECK_EQ(in8(m, IIR), 2);
    CHECK(!cc_pic_pending(m));
    for (unsigned i = 0; i < 3; i++) {           /* each byte raises it anew, even if IIR was not read in between */
        out8(m, THR, (uint8_t)('a' + i));
        CHECK_EQ(in8(m, LSR), 0x60);
        CHECK(cc_pic_pending(m));
        CHECK_EQ(cc_pic_ack(m), 0x34);
        out8(m, 0x20, 0x20);
        CHECK(!cc_pic_pending(m));
    }
    CHECK_EQ(cc_console_take(m, got, sizeof got, &first), 3);
    CHECK(first == 0 && !memcmp(got, "abc", 3));
    out8(m, MCR, 0);                             /* without OUT2 nothing reaches the PIC */
    out8(m, THR, 'd');
    CHECK(!cc_pic_pending(m));
    CHECK_EQ(in8(m, IIR), 2);
    cc_machine_free(m);
}

static void uart_receives_a_character_time_apart(void)
{
    cc_machine *m = new_machine();
    out8(m, FCR, 1);
    pass_to(m, 1000);
    CHECK_EQ(type(m, "hello"), 5);
    pass_to(m, 1000 + CHAR_115200_NS);
    CHECK_EQ(in8(m, LSR) & 1, 0);
    for (unsigned i = 1; i <= 5; i++) {
        pass_over(m, 1000 + i * CHAR_115200_NS);
        CHECK_EQ(m->dev.uart.fifo_count, i);
    }
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(in8(m, LSR) & 1, 1);
        CHECK_EQ(in8(m, RBR), "hello"[i]);
    }
    CHECK_EQ(in8(m, LSR) & 1, 0);
    CHECK_EQ(m->dev.ev_at[CC_EV_UART_RX], CC_NEVER);
    /* 9600 baud, 7 bits, parity, 2 stop bits: 11 bits of 12 times the length. */
    out8(m, LCR, 0x80);
    out8(m, COM, 12);
    out8(m, LCR, 0x0E);
    uint64_t start = cc_now(m);
    type(m, "x");
    pass_to(m, start + 1145834);
    CHECK_EQ(in8(m, LSR) & 1, 0);
    pass_over(m, start + 1145834);
    CHECK_EQ(in8(m, LSR) & 1, 1);
    cc_machine_free(m);
}

static void uart_fifo_triggers_then_times_out(void)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};
    for (unsigned i = 0; i < 4; i++) {
        cc_machine *m = new_machine();
        init_pics(m, 1, 0xEF, 0xFF);
        out8(m, FCR, (uint8_t)(i << 6 | 7));
        out8(m, MCR, 8);
        out8(m, IER, 1);
        type(m, "0123456789ABCDEFGHIJ");
        for (unsigned k = 1; k <= levels[i]; k++) {
            CHECK(!cc_pic_pending(m));
            CHECK_EQ(in8(m, IIR), 0xC1);
            pass_over(m, k * CHAR_115200_NS);
        }
        CHECK(cc_pic_pending(m));
        CHECK_EQ(in8(m, IIR), 0xC4);
        CHECK_EQ(in8(m, IIR), 0xC4);             /* reading IIR does not clear it */
        in8(m, RBR);
        CHECK_EQ(in8(m, IIR), 0xC1);             /* below the trigger level */
        /* All of it comes in, held back while the FIFO is full; nothing is lost. */
        pass_to(m, SECOND);
        CHECK_EQ(m->dev.uart.fifo_count, 16);
        CHECK_EQ(m->dev.uart.ring_count, 3);
        for (unsigned k = 1; k < 17; k++)
            CHECK_EQ(in8(m, RBR), "0123456789ABCDEFGHIJ"[k]);
        pass_to(m, 2 * SECOND);
        CHECK_EQ(m->dev.uart.fifo_count, 3);
        CHECK_EQ(in8(m, IIR), levels[i] <= 3 ? 0xC4 : 0xCC);   /* the time-out, unless the level was reached */
        CHECK_EQ(in8(m, RBR), 'H');
        if (levels[i] > 3)
            CHECK_EQ(in8(m, IIR), 0xC1);         /* any read of RBR ends a time-out */
        uint64_t read_at = cc_now(m);
        pass_to(m, read_at + 4 * CHAR_115200_NS);
        CHECK_EQ(m->dev.uart.timeout, 0);
        pass_over(m, read_at + 4 * CHAR_115200_NS);
        CHECK_EQ(m->dev.uart.timeout, 1);
        in8(m, RBR);
        in8(m, RBR);
        CHECK_EQ(in8(m, IIR), 0xC1);
        CHECK_EQ(in8(m, LSR), 0x60);
        CHECK_EQ(m->dev.ev_at[CC_EV_UART_IRQ], CC_NEVER);
        cc_machine_free(m);
    }
}

static void uart_interrupts_have_their_priorities(void)
{
    cc_machine *m = new_machine();
    out8(m, IER, 0x0F);
    out8(m, MCR, 0x10);
    in8(m, MSR);
    out8(m, THR, 'a');                           /* loops back; without FIFOs the second overruns */
    out8(m, THR, 'b');
    out8(m, MCR, 0x12);
    CHECK_EQ(in8(m, IIR), 0x06);                 /* line status */
    CHECK_EQ(in8(m, IIR), 0x06);
    CHECK_EQ(in8(m, LSR), 0x63);
    CHECK_EQ(in8(m, IIR), 0x04);                 /* received data */
    CHECK_EQ(in8(m, RBR), 'b');
    CHECK_EQ(in8(m, IIR), 0x02);                 /* transmitter empty */
    CHECK_EQ(in8(m, IIR), 0x00);                 /* modem status: CTS changed */
    CHECK_EQ(in8(m, MSR), 0x11);
    CHECK_EQ(in8(m, IIR), 0x01);
    CHECK_EQ(cc_console_total(m), 0);            /* loopback transmits nothing */
    out8(m, MCR, 0x14);
    CHECK_EQ(in8(m, MSR), 0x41);                 /* RI began: no TERI; CTS changed */
    out8(m, MCR, 0x10);
    CHECK_EQ(in8(m, MSR), 0x04);                 /* RI ended */
    cc_machine_free(m);
}

static void uart_loopback_fills_the_fifo(void)
{
    cc_machine *m = new_machine();
    out8(m, FCR, 7);
    out8(m, MCR, 0x10);
    type(m, "z");                                /* held back meanwhile */
    for (unsigned i = 0; i < 20; i++)
        out8(m, THR, (uint8_t)i);
    pass_to(m, SECOND);
    CHECK_EQ(in8(m, LSR), 0x63);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(in8(m, RBR), i);
    CHECK_EQ(in8(m, LSR), 0x60);
    out8(m, MCR, 0);
    pass_to(m, 2 * SECOND);
    CHECK_EQ(in8(m, RBR), 'z');
    type(m, "abc");
    pass_to(m, 3 * SECOND);
    CHECK_EQ(m->dev.uart.fifo_count, 3);
    out8(m, FCR, 3);                             /* clear the receive FIFO */
    CHECK_EQ(in8(m, LSR), 0x60);
    cc_machine_free(m);
}

static void uart_input_queue_is_bounded(void)
{
    cc_machine *m = new_machine();
    static uint8_t many[5000];
    CHECK_EQ(cc_console_input(m, many, sizeof many), 4096);
    CHECK_EQ(cc_console_input(m, many, sizeof many), 0);
    pass_to(m, SECOND);
    CHECK_EQ(cc_console_input(m, many, sizeof many), 1);   /* one is in the receiver, which has no FIFO enabled */
    cc_machine_free(m);
}

int main(void)
{
    RUN(uart_passes_linux_autoconfig);
    RUN(uart_passes_linux_startup);
    RUN(uart_has_scratch_and_divisor_registers);
    RUN(uart_transmits_at_once_with_an_edge_per_byte);
    RUN(uart_receives_a_character_time_apart);
    RUN(uart_fifo_triggers_then_times_out);
    RUN(uart_interrupts_have_their_priorities);
    RUN(uart_loopback_fills_the_fifo);
    RUN(uart_input_queue_is_bounded);
    cc_store_free(the_store);
    return 0;
}
