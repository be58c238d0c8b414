/*
 * uart.c: COM1, a 16550A at 0x3F8 with IRQ 4.  Source: National Semiconductor PC16550D datasheet, section 8.
 *
 * Transmission takes no virtual time: a byte written to THR is on the console at once and THR is empty again.  The
 * interrupt line still falls and rises for it, as the edge-triggered PIC needs.  Received bytes arrive one character
 * time apart.  The other end honours a hardware handshake: it holds its bytes back while the receiver has no room and
 * while the UART is in loopback, so nothing typed is lost; only loopback can overrun.  The word length sets the
 * character time but truncates nothing.
 */
#include "devices.h"
#include "../console.h"

#define UART_IRQ 4u
#define CLOCK_HZ 1843200u      /* 16 clocks per bit at divisor 1: 115200 baud */
#define NS_PER_S 1000000000u

#define IER_RDA 0x01u          /* received data, and time-out */
#define IER_THRE 0x02u
#define IER_RLS 0x04u
#define IER_MSI 0x08u
#define IIR_NONE 0x01u
#define IIR_MSI 0x00u
#define IIR_THRE 0x02u
#define IIR_RDA 0x04u
#define IIR_RLS 0x06u
#define IIR_TIMEOUT 0x0Cu
#define IIR_FIFOS 0xC0u
#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define LCR_STOP 0x04u
#define LCR_PARITY 0x08u
#define LCR_DLAB 0x80u
#define MCR_DTR 0x01u
#define MCR_RTS 0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define LSR_DR 0x01u
#define LSR_OE 0x02u
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u
#define MSR_DELTAS 0x0Fu
#define MSR_TERI 0x04u
#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI 0x40u
#define MSR_DCD 0x80u

static const uint8_t triggers[4] = {1, 4, 8, 14};

static bool fifos_on(const struct cc_uart *u)
{
    return u->fcr & FCR_ENABLE;
}

static unsigned capacity(const struct cc_uart *u)
{
    return fifos_on(u) ? CC_UART_FIFO : 1;
}

/* Start, data, parity and stop bits; 1.5 stop bits with 5 data bits. */
static uint64_t character_ns(const struct cc_uart *u)
{
    uint64_t data = 5u + (u->lcr & 3u);
    uint64_t half_bits = 2 * (1 + data) + ((u->lcr & LCR_PARITY) ? 2 : 0);
    half_bits += !(u->lcr & LCR_STOP) ? 2 : data == 5 ? 3 : 4;
    uint64_t divisor = u->divisor ? u->divisor : 1;
    return (half_bits * 8 * divisor * NS_PER_S + CLOCK_HZ - 1) / CLOCK_HZ;
}

/* ---- interrupts ------------------------------------------------------------------------------------------------ */
static bool rx_triggered(const struct cc_uart *u)
{
    return u->fifo_count >= (fifos_on(u) ? triggers[u->fcr >> 6] : 1);
}

/* The highest pending interrupt, by the datasheet's table of priorities. */
static uint8_t identify(const struct cc_uart *u)
{
    if ((u->ier & IER_RLS) && u->lsr_errors)
        return IIR_RLS;
    if ((u->ier & IER_RDA) && rx_triggered(u))
        return IIR_RDA;
    if ((u->ier & IER_RDA) && u->timeout)
        return IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thri)
        return IIR_THRE;
    if ((u->ier & IER_MSI) && (u->msr & MSR_DELTAS))
        return IIR_MSI;
    return IIR_NONE;
}

/* On a PC the output OUT2 enables the interrupt line; loopback disconnects the outputs. */
static void update_irq(cc_machine *m)
{
    const struct cc_uart *u = &m->dev.uart;
    bool connected = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
    cc_irq_set(m, UART_IRQ, connected && identify(u) != IIR_NONE);
}

/* ---- receiver -------------------------------------------------------------------------------------------------- */
/* The time-out runs for four character times from the last byte in or out, while the FIFO is not empty. */
static void restart_timeout(cc_machine *m, uint64_t now)
{
    struct cc_uart *u = &m->dev.uart;
    if (!fifos_on(u) || !u->fifo_count) {
        cc_event_set(m, CC_EV_UART_IRQ, CC_NEVER);
        return;
    }
    u->timeout_due = now + 4 * character_ns(u);
    cc_event_set(m, CC_EV_UART_IRQ, u->timeout_due);
}

static void receive(cc_machine *m, uint8_t byte, uint64_t now)
{
    struct cc_uart *u = &m->dev.uart;
    if (u->fifo_count == capacity(u)) {
        u->lsr_errors |= LSR_OE;
        if (!fifos_on(u))
            u->fifo[u->fifo_head] = byte;       /* without FIFOs the new byte replaces the old one */
        return;
    }
    u->fifo[(u->fifo_head + u->fifo_count) % CC_UART_FIFO] = byte;
    u->fifo_count++;
    restart_timeout(m, now);
}

/* Arm the next arrival if the other end has something to send and may; a byte held back is sent anew. */
static void schedule_rx(cc_machine *m, uint64_t now)
{
    struct cc_uart *u = &m->dev.uart;
    bool may_send = u->ring_count && !(u->mcr & MCR_LOOP) && u->fifo_count < capacity(u);
    bool sending = m->dev.ev_at[CC_EV_UART_RX] != CC_NEVER;
    if (may_send && !sending) {
        u->rx_due = now + character_ns(u);
        cc_event_set(m, CC_EV_UART_RX, u->rx_due);
    } else if (!may_send && sending)
        cc_event_set(m, CC_EV_UART_RX, CC_NEVER);
}

void cc_uart_rx_fire(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    uint8_t byte = u->ring[u->ring_head];
    u->ring_head = (u->ring_head + 1) % CC_UART_RING;
    u->ring_count--;
    receive(m, byte, u->rx_due);
    schedule_rx(m, u->rx_due);
    update_irq(m);
}

void cc_uart_timeout_fire(cc_machine *m)
{
    m->dev.uart.timeout = 1;
    update_irq(m);
}

size_t cc_console_input(cc_machine *m, const uint8_t *src, size_t size)
{
    struct cc_uart *u = &m->dev.uart;
    size_t room = CC_UART_RING - u->ring_count;
    size_t n = size < room ? size : room;
    for (size_t i = 0; i < n; i++)
        u->ring[(u->ring_head + u->ring_count + i) % CC_UART_RING] = src[i];
    u->ring_count += (uint32_t)n;
    schedule_rx(m, cc_now(m));
    return n;
}

static void clear_rx(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    u->fifo_head = 0;
    u->fifo_count = 0;
    u->timeout = 0;
    restart_timeout(m, cc_now(m));
}

static uint8_t read_rbr(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    uint8_t byte = u->fifo[u->fifo_head];
    u->timeout = 0;
    if (u->fifo_count) {
        u->fifo_count--;
        if (u->fifo_count)                      /* else the byte stays readable, as RBR keeps it */
            u->fifo_head = (uint8_t)((u->fifo_head + 1) % CC_UART_FIFO);
    }
    restart_timeout(m, cc_now(m));
    schedule_rx(m, cc_now(m));
    update_irq(m);
    return byte;
}

/* ---- transmitter ----------------------------------------------------------------------------------------------- */
static void write_thr(cc_machine *m, uint8_t byte)
{
    struct cc_uart *u = &m->dev.uart;
    u->thri = 0;
    update_irq(m);
    if (u->mcr & MCR_LOOP)
        receive(m, byte, cc_now(m));
    else
        cc_console_put(m, byte);
    u->thri = 1;
    update_irq(m);
}

/* ---- modem lines ----------------------------------------------------------------------------------------------- */
/* In loopback the outputs RTS, DTR, OUT1, OUT2 drive CTS, DSR, RI, DCD; otherwise a terminal is connected and ready. */
static uint8_t modem_inputs(const struct cc_uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)(((u->mcr & MCR_RTS) ? MSR_CTS : 0) | ((u->mcr & MCR_DTR) ? MSR_DSR : 0)
                     | ((u->mcr & MCR_OUT1) ? MSR_RI : 0) | ((u->mcr & MCR_OUT2) ? MSR_DCD : 0));
}

static void write_mcr(cc_machine *m, uint8_t v)
{
    struct cc_uart *u = &m->dev.uart;
    u->mcr = v & 0x1F;
    uint8_t old = u->msr & 0xF0, now = modem_inputs(u);
    uint8_t deltas = (uint8_t)((old ^ now) >> 4) & (uint8_t)~MSR_TERI;
    if ((old & MSR_RI) && !(now & MSR_RI))
        deltas |= MSR_TERI;                     /* only the end of a ring counts */
    u->msr = now | (u->msr & MSR_DELTAS) | deltas;
    schedule_rx(m, cc_now(m));
    update_irq(m);
}

/* ---- registers ------------------------------------------------------------------------------------------------- */
static void write_ier(cc_machine *m, uint8_t v)
{
    struct cc_uart *u = &m->dev.uart;
    v &= 0x0F;
    if ((v & IER_THRE) && !(u->ier & IER_THRE))
        u->thri = 1;                            /* THR is always empty: enabling raises it */
    u->ier = v;
    update_irq(m);
}

static void write_fcr(cc_machine *m, uint8_t v)
{
    struct cc_uart *u = &m->dev.uart;
    bool switched = (v ^ u->fcr) & FCR_ENABLE;
    u->fcr = (v & FCR_ENABLE) ? v & 0xC9 : 0;   /* the other bits take effect only together with ENABLE */
    if (switched || (u->fcr && (v & FCR_CLEAR_RX)))
        clear_rx(m);
    schedule_rx(m, cc_now(m));
    update_irq(m);
}

static uint8_t read_iir(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    uint8_t id = identify(u);
    if (id == IIR_THRE) {
        u->thri = 0;
        update_irq(m);
    }
    return id | (fifos_on(u) ? IIR_FIFOS : 0);
}

static uint8_t read_lsr(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    uint8_t v = LSR_THRE | LSR_TEMT | u->lsr_errors | (u->fifo_count ? LSR_DR : 0);
    u->lsr_errors = 0;
    update_irq(m);
    return v;
}

static uint8_t read_msr(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    uint8_t v = u->msr;
    u->msr &= (uint8_t)~MSR_DELTAS;
    update_irq(m);
    return v;
}

uint8_t cc_uart_read(cc_machine *m, uint16_t port)
{
    struct cc_uart *u = &m->dev.uart;
    bool dlab = u->lcr & LCR_DLAB;
    switch (port & 7) {
    case 0: return dlab ? (uint8_t)u->divisor : read_rbr(m);
    case 1: return dlab ? (uint8_t)(u->divisor >> 8) : u->ier;
    case 2: return read_iir(m);
    case 3: return u->lcr;
    case 4: return u->mcr;
    case 5: return read_lsr(m);
    case 6: return read_msr(m);
    default: return u->scr;
    }
}

void cc_uart_write(cc_machine *m, uint16_t port, uint8_t value)
{
    struct cc_uart *u = &m->dev.uart;
    bool dlab = u->lcr & LCR_DLAB;
    switch (port & 7) {
    case 0:
        if (dlab)
            u->divisor = (uint16_t)((u->divisor & 0xFF00) | value);
        else
            write_thr(m, value);
        break;
    case 1:
        if (dlab)
            u->divisor = (uint16_t)((u->divisor & 0x00FF) | value << 8);
        else
            write_ier(m, value);
        break;
    case 2:
        write_fcr(m, value);
        break;
    case 3:
        u->lcr = value;
        break;
    case 4:
        write_mcr(m, value);
        break;
    case 7:
        u->scr = value;
        break;
    default:                                    /* LSR and MSR: factory test only */
        break;
    }
}

/* As after MR (datasheet, table I), but with the line set to 115200 8N1 as firmware leaves it. */
void cc_uart_reset(cc_machine *m)
{
    struct cc_uart *u = &m->dev.uart;
    memset(u, 0, sizeof *u);
    u->divisor = 1;
    u->lcr = 3;
    u->msr = modem_inputs(u);
    cc_event_set(m, CC_EV_UART_RX, CC_NEVER);
    cc_event_set(m, CC_EV_UART_IRQ, CC_NEVER);
}
