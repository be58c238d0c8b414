/*
 * state.h: everything the devices remember.  Plain data only: no pointers, no host addresses, all padding explicit
 * (and checked below), so that a snapshot copies it and the digest hashes it byte for byte.
 * Included by machine.h, which defines CC_EV_COUNT.  Meaning and sources are in the file of each device.
 */
#ifndef CC_DEVICES_STATE_H
#define CC_DEVICES_STATE_H

#include "../chacha.h"

#include <stdint.h>

#define CC_UART_RING 4096u      /* bytes queued by the host, waiting for the line */
#define CC_UART_FIFO 16u
#define CC_CONSOLE_TAIL 256u    /* last bytes transmitted; a power of two above the longest pattern */
#define CC_CMOS_BYTES 128u
#define CC_VQ_COUNT 2u          /* virtqueues of a device, at most */
#define CC_VIRTIO_COUNT 5u      /* virtio devices; a device's number is that of its window and of its CC_DEV_* bit */
#define CC_BLK_REQUESTS 128u    /* on their way at a time; the size of the disk's virtqueue */
#define CC_AGENT_RING 16384u    /* bytes from the host, waiting for the guest agent */

/* One 8259A (pic.c). */
struct cc_pic_chip {
    uint8_t lines;              /* levels of the IR inputs */
    uint8_t edge;               /* edge-sense latches: a rise not yet acknowledged */
    uint8_t imr;
    uint8_t isr;
    uint8_t elcr;               /* 1: level-triggered input (82371 ELCR) */
    uint8_t vector_base;        /* ICW2 & 0xF8 */
    uint8_t icw_next;           /* initialisation word expected next at A0 = 1: 2, 3 or 4; 0: initialised */
    uint8_t icw1;
    uint8_t icw3;
    uint8_t icw4;
    uint8_t lowest;             /* the level that has the lowest priority */
    uint8_t special_mask;
    uint8_t read_isr;           /* what a read at A0 = 0 gives: 0 IRR, 1 ISR */
    uint8_t poll;               /* the next read is a poll */
    uint8_t rotate_aeoi;
    uint8_t injected;           /* requests put in from outside, until they are acknowledged (power.c) */
};

/* One counter of the 8254 (pit.c).  Times are in CLK pulses since virtual time 0. */
struct cc_pit_channel {
    uint64_t tick;              /* the counter has been advanced to this pulse */
    uint64_t edge_tick;         /* channel 0: the OUT change for which CC_EV_PIT0 is armed */
    uint32_t ce;                /* counting element, 0 .. modulus-1 */
    uint32_t cr;                /* count register, 1 .. modulus; 0: none since the control word */
    uint32_t loaded;            /* what CE was last loaded from, 1 .. modulus */
    uint16_t latch;             /* output latch */
    uint8_t low_byte;           /* first byte of a two-byte count */
    uint8_t mode;               /* 0..5 */
    uint8_t rw;                 /* 1 low byte, 2 high byte, 3 low then high */
    uint8_t bcd;
    uint8_t gate;
    uint8_t out;
    uint8_t null_count;         /* CR holds a count that CE has not been loaded with */
    uint8_t load;               /* CE is loaded at the next pulse */
    uint8_t counting;           /* CE has been loaded since the control word */
    uint8_t armed;              /* modes 0, 1, 4, 5: the count has not expired yet */
    uint8_t inhibit;            /* mode 0: one of two bytes written, counting disabled */
    uint8_t write_high;         /* rw 3: the next byte written is the high one */
    uint8_t read_high;          /* rw 3: the next byte read is the high one */
    uint8_t latched;            /* bytes of the latched count still to be read */
    uint8_t status;
    uint8_t status_latched;
    uint8_t pad[10];
};

/* 16550A (uart.c). */
struct cc_uart {
    uint64_t rx_due;            /* virtual time of the arrival that CC_EV_UART_RX is armed for */
    uint64_t timeout_due;       /* the same for the receive time-out, CC_EV_UART_IRQ */
    uint32_t ring_head;
    uint32_t ring_count;
    uint16_t divisor;
    uint8_t fifo_head;
    uint8_t fifo_count;
    uint8_t ier;
    uint8_t fcr;
    uint8_t lcr;
    uint8_t mcr;
    uint8_t lsr_errors;         /* OE; the other LSR bits are computed */
    uint8_t msr;
    uint8_t scr;
    uint8_t thri;               /* transmitter-empty interrupt pending */
    uint8_t timeout;            /* receive time-out pending */
    uint8_t pad[3];
    uint8_t fifo[CC_UART_FIFO];
    uint8_t ring[CC_UART_RING];
};

/* MC146818 (cmos.c). */
struct cc_cmos {
    int64_t time_s;             /* what the clock shows, Unix seconds, from time_vns on */
    int64_t time_vns;           /* an update boundary; may lie before virtual time 0 */
    uint64_t flags_vns;         /* the flags of status C are accounted up to here */
    uint64_t due_vns;           /* what CC_EV_RTC is armed for */
    uint8_t staged[8];          /* sec min hour wday mday month year century, decoded, while updates are inhibited */
    uint8_t index;
    uint8_t nmi_disabled;
    uint8_t weekday_shift;      /* added to the true day of the week, which the guest may set freely */
    uint8_t pad[5];
    uint8_t ram[CC_CMOS_BYTES]; /* registers A to D and the alarms included; time registers are computed */
};

/* Keyboard controller with nothing plugged in (i8042.c). */
struct cc_i8042 {
    uint8_t status;
    uint8_t output;             /* output buffer */
    uint8_t config;             /* command byte */
    uint8_t command;            /* command waiting for its data byte; 0: none */
    uint8_t ports;              /* output port P2 */
    uint8_t pad[3];
};

/* System control ports (misc.c). */
struct cc_sysctl {
    uint8_t port61;             /* bits 0-3 as written */
    uint8_t port80;
    uint8_t port92;
    uint8_t portcf9;
    uint8_t pad[4];
};

/* Guest SDK (sdk.c); the property table is in CC_AUX_PROPS. */
struct cc_sdk {
    struct cc_stream random;          /* what random_get and random_choice give */
    uint64_t setup_vns;               /* when setup_complete was said; CC_NO_TIME: not yet */
    uint8_t coverage;                 /* the map is in use */
    uint8_t pad[7];
};

/* One split virtqueue (virtio.c).  Addresses are guest-physical and were checked when it was made ready. */
struct cc_vq {
    uint64_t desc;
    uint64_t driver;            /* available ring */
    uint64_t device;            /* used ring */
    uint16_t num;
    uint16_t ready;
    uint16_t avail_idx;         /* the next entry to take */
    uint16_t used_idx;          /* the next entry to fill in */
    uint16_t signalled_idx;     /* used_idx when it was last decided whether to interrupt ... */
    uint16_t signalled;         /* ... if it ever was */
    uint16_t pad[2];
};

/* The registers of a virtio-mmio device (virtio.c). */
struct cc_virtio {
    uint64_t driver_features;
    uint32_t device_features_sel;
    uint32_t driver_features_sel;
    uint32_t queue_sel;
    uint32_t status;
    uint32_t interrupt;         /* InterruptStatus; the line is high while it is not 0 */
    uint32_t generation;        /* of the configuration space */
    struct cc_vq vq[CC_VQ_COUNT];
};

/* A disk request that has been taken and not been answered (virtio_blk.c). */
struct cc_blk_request {
    uint64_t due_vns;
    uint64_t serial;            /* of those due at the same time the one taken first is answered first */
    uint64_t sector;
    uint32_t type;
    uint32_t bytes;             /* of data */
    uint16_t head;              /* of its descriptor chain */
    uint16_t pad[3];
};

struct cc_blk {
    uint64_t serial;            /* of the next request */
    uint32_t count;
    uint32_t pad;
    struct cc_blk_request request[CC_BLK_REQUESTS];
};

/* The disk behind it (disk.c).  A reset of the machine leaves it alone. */
struct cc_disk {
    struct cc_stream random;    /* label "disk" */
    uint64_t write_serial;      /* of the next write */
    uint32_t log_first;         /* oldest record */
    uint32_t log_count;
    uint32_t block_first;       /* oldest saved sector */
    uint32_t block_count;
    cc_disk_faults faults;
    cc_disk_stats stats;
};

/* virtio_net.c; the packets themselves are in CC_AUX_NET. */
struct cc_netdev {
    cc_net_counters counters;
    uint32_t link_down;
    uint32_t pad;
};

struct cc_balloon {
    uint32_t target_pages;
    uint32_t actual_pages;      /* as the driver says */
};

/* virtio_console.c */
struct cc_vconsole {
    uint32_t head;
    uint32_t count;
    uint8_t ring[CC_AGENT_RING];
};

/* What was done to the machine from outside (power.c).  All zero: nothing. */
struct cc_pace {
    uint64_t slower;            /* an instruction takes 1 + this many times as long */
    uint64_t tsc_base;          /* the TSC at virtual time tsc_vns, since when it runs at this rate */
    uint64_t tsc_vns;
    int64_t tsc_ppm;
    uint64_t jitter_ns;         /* timer interrupts are late by up to this */
    struct cc_stream jitter;
    uint8_t timer_out;          /* the timer's OUT */
    uint8_t timer_late;         /* a rise is waiting for CC_EV_TIMER */
    uint8_t paused;
    uint8_t pad[5];
};

struct cc_devstate {
    uint64_t ev_at[CC_EV_COUNT];      /* virtual time of each event slot; CC_NEVER: disarmed */
    uint32_t dead_kind;               /* CC_STOP_* after which the machine cannot run on; CC_STOP_NONE while alive */
    uint32_t dead_detail;
    uint64_t console_total;           /* bytes transmitted since boot */
    uint64_t console_hash;            /* 64-bit FNV-1a of them */
    uint8_t console_tail[CC_CONSOLE_TAIL];   /* the byte at offset o is at o % CC_CONSOLE_TAIL */
    struct cc_pic_chip pic[2];        /* master, slave */
    struct cc_pit_channel pit[3];
    struct cc_uart uart;
    struct cc_cmos cmos;
    struct cc_i8042 i8042;
    struct cc_sysctl sysctl;
    struct cc_pace pace;
    struct cc_sdk sdk;
    struct cc_virtio virtio[CC_VIRTIO_COUNT];
    struct cc_blk blk;
    struct cc_disk disk;
    struct cc_netdev net;
    struct cc_stream rng;             /* what the entropy device gives; label "rng" */
    struct cc_balloon balloon;
    struct cc_vconsole vconsole;
};

/* No implicit padding: each structure is exactly the sum of its members. */
_Static_assert(sizeof(struct cc_pic_chip) == 16, "padding");
_Static_assert(sizeof(struct cc_pit_channel) == 2 * 8 + 3 * 4 + 2 + 16 + 10, "padding");
_Static_assert(sizeof(struct cc_uart) == 2 * 8 + 2 * 4 + 2 + 14 + CC_UART_FIFO + CC_UART_RING, "padding");
_Static_assert(sizeof(struct cc_cmos) == 4 * 8 + 16 + CC_CMOS_BYTES, "padding");
_Static_assert(sizeof(struct cc_i8042) == 8 && sizeof(struct cc_sysctl) == 8, "padding");
_Static_assert(sizeof(struct cc_stream) == 40 && sizeof(struct cc_sdk) == 40 + 8 + 8, "padding");
_Static_assert(sizeof(struct cc_pace) == 5 * 8 + 40 + 8, "padding");
_Static_assert(sizeof(struct cc_vq) == 3 * 8 + 8 * 2, "padding");
_Static_assert(sizeof(struct cc_virtio) == 8 + 6 * 4 + CC_VQ_COUNT * sizeof(struct cc_vq), "padding");
_Static_assert(sizeof(struct cc_blk_request) == 3 * 8 + 2 * 4 + 4 * 2, "padding");
_Static_assert(sizeof(struct cc_blk) == 8 + 8 + CC_BLK_REQUESTS * sizeof(struct cc_blk_request), "padding");
_Static_assert(sizeof(cc_disk_faults) == 10 * 4 + 5 * 8, "padding");
_Static_assert(sizeof(cc_disk_stats) == 8 * 8, "padding");
_Static_assert(sizeof(struct cc_disk) == sizeof(struct cc_stream) + 8 + 4 * 4 + sizeof(cc_disk_faults)
               + sizeof(cc_disk_stats), "padding");
_Static_assert(sizeof(struct cc_netdev) == 6 * 8 + 8 && sizeof(struct cc_balloon) == 8, "padding");
_Static_assert(sizeof(struct cc_vconsole) == 8 + CC_AGENT_RING, "padding");
_Static_assert(sizeof(struct cc_devstate) == CC_EV_COUNT * 8 + 2 * 4 + 2 * 8 + CC_CONSOLE_TAIL
               + 2 * sizeof(struct cc_pic_chip) + 3 * sizeof(struct cc_pit_channel) + sizeof(struct cc_uart)
               + sizeof(struct cc_cmos) + sizeof(struct cc_i8042) + sizeof(struct cc_sysctl)
               + sizeof(struct cc_pace) + sizeof(struct cc_sdk)
               + CC_VIRTIO_COUNT * sizeof(struct cc_virtio) + sizeof(struct cc_blk) + sizeof(struct cc_disk)
               + sizeof(struct cc_netdev) + sizeof(struct cc_stream) + sizeof(struct cc_balloon)
               + sizeof(struct cc_vconsole), "padding");

#endif
