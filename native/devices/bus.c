/*
 * bus.c: who answers at which port or address, and which device owns which event slot.
 *
 * Most devices are 8 bits wide, as on ISA: a wider access is split into bytes at successive ports.  Nobody home reads
 * as all ones and swallows writes.  Each access of the guest counts as one exit, however it is split.
 */
#include "virtio.h"
#include "../console.h"
#include "../net/net.h"
#include "../sdk.h"

/* How a device takes part in accesses wider than a byte. */
enum { SPLIT, BYTE_ONLY, WHOLE };

struct port_range {
    uint16_t first, last;
    uint8_t width;
    uint8_t (*read)(cc_machine *m, uint16_t port);
    void (*write)(cc_machine *m, uint16_t port, uint8_t value);
    void (*write_whole)(cc_machine *m, uint16_t port, uint32_t value);
};

/* In the order of how often they are used. */
static const struct port_range ports[] = {
    {0x3F8, 0x3FF, SPLIT, cc_uart_read, cc_uart_write, NULL},
    {0x020, 0x021, SPLIT, cc_pic_read, cc_pic_write, NULL},
    {0x0A0, 0x0A1, SPLIT, cc_pic_read, cc_pic_write, NULL},
    {0x040, 0x043, SPLIT, cc_pit_read, cc_pit_write, NULL},
    {0x061, 0x061, SPLIT, cc_sysctl_read, cc_sysctl_write, NULL},
    {0x080, 0x080, SPLIT, cc_sysctl_read, cc_sysctl_write, NULL},
    {0x070, 0x071, SPLIT, cc_cmos_read, cc_cmos_write, NULL},
    {0x060, 0x060, SPLIT, cc_i8042_read, cc_i8042_write, NULL},
    {0x064, 0x064, SPLIT, cc_i8042_read, cc_i8042_write, NULL},
    {0x0ED, 0x0ED, SPLIT, cc_sysctl_read, cc_sysctl_write, NULL},
    {0x092, 0x092, SPLIT, cc_sysctl_read, cc_sysctl_write, NULL},
    {0x4D0, 0x4D1, SPLIT, cc_elcr_read, cc_elcr_write, NULL},
    /* In the middle of the PCI address register, which is 32 bits wide and takes wide accesses for itself. */
    {0xCF9, 0xCF9, BYTE_ONLY, cc_sysctl_read, cc_sysctl_write, NULL},
    {0x501, 0x501, WHOLE, NULL, NULL, cc_host_port_write},
    {0x510, 0x511, WHOLE, NULL, NULL, cc_host_port_write},
};

static const struct port_range *find(uint16_t port)
{
    for (size_t i = 0; i < sizeof ports / sizeof *ports; i++)
        if (port >= ports[i].first && port <= ports[i].last)
            return &ports[i];
    return NULL;
}

/* The device that takes the byte at this port of an access of `size` bytes; a port number does not wrap around. */
static const struct port_range *find_byte(uint32_t port, unsigned size)
{
    const struct port_range *r = port <= 0xFFFF ? find((uint16_t)port) : NULL;
    if (!r || r->width == WHOLE || (r->width == BYTE_ONLY && size != 1))
        return NULL;
    return r;
}

uint32_t cc_io_read(cc_machine *m, uint16_t port, unsigned size)
{
    m->stats.io_reads++;
    cc_count_exit(m);
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        const struct port_range *r = find_byte((uint32_t)port + i, size);
        uint32_t byte = r ? r->read(m, (uint16_t)(port + i)) : 0xFF;
        value |= byte << (8 * i);
    }
    return value;
}

void cc_io_write(cc_machine *m, uint16_t port, unsigned size, uint32_t value)
{
    m->stats.io_writes++;
    cc_count_exit(m);
    const struct port_range *whole = find(port);
    if (whole && whole->width == WHOLE) {
        whole->write_whole(m, port, size == 4 ? value : value & ((1u << (8 * size)) - 1));
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        const struct port_range *r = find_byte((uint32_t)port + i, size);
        if (r)
            r->write(m, (uint16_t)(port + i), (uint8_t)(value >> (8 * i)));
    }
}

/* The virtio device whose window holds the whole access; -1 if there is none. */
static int find_window(const cc_machine *m, uint64_t gpa, unsigned size)
{
    const uint64_t offset = gpa - CC_VIRTIO_GPA, device = offset / CC_VIRTIO_WINDOW;
    if (gpa < CC_VIRTIO_GPA || device >= CC_VIRTIO_COUNT || offset % CC_VIRTIO_WINDOW + size > CC_VIRTIO_WINDOW)
        return -1;
    return m->cfg.devices >> device & 1 ? (int)device : -1;
}

uint64_t cc_mmio_read(cc_machine *m, uint64_t gpa, unsigned size)
{
    m->stats.mmio_accesses++;
    cc_count_exit(m);
    const uint64_t ones = UINT64_MAX >> (64 - 8 * size);
    const int device = find_window(m, gpa, size);
    if (device < 0)
        return ones;
    return cc_virtio_mmio_read(m, (unsigned)device, (uint32_t)(gpa % CC_VIRTIO_WINDOW), size) & ones;
}

void cc_mmio_write(cc_machine *m, uint64_t gpa, unsigned size, uint64_t value)
{
    m->stats.mmio_accesses++;
    cc_count_exit(m);
    const int device = find_window(m, gpa, size);
    if (device >= 0)
        cc_virtio_mmio_write(m, (unsigned)device, (uint32_t)(gpa % CC_VIRTIO_WINDOW), size, value);
}

/* ---- events ---------------------------------------------------------------------------------------------------- */
static const struct slot_owner {
    void (*fire)(cc_machine *m);
    uint8_t irq;                /* the line that the event can raise */
} slots[CC_EV_COUNT] = {
    [CC_EV_PIT0] = {cc_pit_fire, 0},
    [CC_EV_UART_RX] = {cc_uart_rx_fire, 4},
    [CC_EV_UART_IRQ] = {cc_uart_timeout_fire, 4},
    [CC_EV_RTC] = {cc_cmos_fire, 8},
    [CC_EV_BLK] = {cc_blk_fire, 5},
    [CC_EV_NET] = {cc_netdev_fire, 6},
    [CC_EV_TIMER] = {cc_timer_fire, 0},
};

void cc_event_fire(cc_machine *m, unsigned slot)
{
    if (slots[slot].fire)
        slots[slot].fire(m);
}

bool cc_event_may_interrupt(const cc_machine *m)
{
    for (unsigned i = 0; i < CC_EV_COUNT; i++)
        if (m->dev.ev_at[i] != CC_NEVER && cc_pic_would_deliver(m, slots[i].irq))
            return true;
    return false;
}

/* The disk is no part of what a reset resets, and random streams go on. */
void cc_devices_reset(cc_machine *m)
{
    const struct cc_disk disk = m->dev.disk;
    const struct cc_stream rng = m->dev.rng, sdk = m->dev.sdk.random, jitter = m->dev.pace.jitter;
    memset(&m->dev, 0, sizeof m->dev);
    m->dev.disk = disk;
    m->dev.rng = rng;
    m->dev.sdk.random = sdk;
    m->dev.pace.jitter = jitter;
    for (unsigned i = 0; i < CC_EV_COUNT; i++)
        m->dev.ev_at[i] = CC_NEVER;
    m->dev.console_hash = CC_CONSOLE_HASH_START;
    cc_pace_reset(m);
    cc_pic_reset(m);
    cc_pit_reset(m);
    cc_uart_reset(m);
    cc_cmos_reset(m);
    cc_i8042_reset(m);
    cc_sysctl_reset(m);
    cc_sdk_reset(m);
    cc_virtio_reset(m);
    cc_net_reset(m);
}
