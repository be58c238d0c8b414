/*
 * virtio.h: between the virtio transport (virtio.c) and the devices on it.  Sections are those of virtio 1.2.
 *
 * A device describes itself by a cc_virtio_class; the transport has the registers and the virtqueues.  What a driver
 * may not do makes the device need a reset (2.1.2) and has no other effect: cc_vq_next() then gives nothing any more.
 */
#ifndef CC_VIRTIO_H
#define CC_VIRTIO_H

#include "devices.h"

#define CC_VIRTIO_GPA UINT64_C(0xD0000000)     /* of the first window */
#define CC_VIRTIO_WINDOW 0x1000u

/* A device's number: of its window, of its bit in cc_config.devices and of its place in cc_devstate.virtio. */
enum { CC_VIRTIO_BLK, CC_VIRTIO_NET, CC_VIRTIO_RNG, CC_VIRTIO_BALLOON, CC_VIRTIO_CONSOLE };
_Static_assert(CC_VIRTIO_CONSOLE + 1 == CC_VIRTIO_COUNT, "devices");

#define CC_VQ_NUM_MAX 256u
#define CC_VIRTIO_CONFIG_MAX 64u

struct cc_virtio_class {
    const char *name;
    uint64_t features;              /* those of the device type; the transport adds its own */
    uint32_t id;                    /* device type, section 5 */
    uint8_t irq;
    uint8_t queues;
    uint8_t quiet;                  /* bit q: the device looks at queue q by itself and wants no notifications */
    uint8_t config_bytes;
    uint16_t num_max;               /* of each queue */
    void (*config)(const cc_machine *m, uint8_t *dst);
    void (*config_write)(cc_machine *m, uint32_t offset, uint8_t value);   /* NULL: nothing in it can be written */
    void (*notify)(cc_machine *m, unsigned queue);       /* there may be something in a queue; the device is live */
    void (*stop)(cc_machine *m);    /* what is on its way is forgotten: reset, or a queue was taken away */
};

extern const struct cc_virtio_class cc_virtio_blk, cc_virtio_net, cc_virtio_rng, cc_virtio_balloon, cc_virtio_console;

/* Parts of a descriptor chain: those that the device reads come first. */
#define CC_CHAIN_MAX 256u
struct cc_segment_gpa { uint64_t gpa; uint32_t size; };
struct cc_chain {
    uint16_t head;
    uint16_t count;
    uint16_t readable;              /* how many of the segments */
    uint32_t read_bytes, write_bytes;
    struct cc_segment_gpa segment[CC_CHAIN_MAX];
};

/* The driver has started the device, and it needs no reset. */
bool cc_virtio_live(const cc_machine *m, unsigned device);
bool cc_virtio_has(const cc_machine *m, unsigned device, uint64_t feature);
/* The driver has broken the rules. */
void cc_virtio_break(cc_machine *m, unsigned device, const char *why);
void cc_virtio_config_changed(cc_machine *m, unsigned device);

/* Take the next available chain; false if there is none, or the device is not live, or it breaks over it. */
bool cc_vq_next(cc_machine *m, unsigned device, unsigned queue, struct cc_chain *c);
/* The chain taken last was not used after all: it is the next one again. */
void cc_vq_put_back(cc_machine *m, unsigned device, unsigned queue);
/* Look at a chain taken before once more. */
bool cc_vq_walk(cc_machine *m, unsigned device, unsigned queue, uint16_t head, struct cc_chain *c);
/* Give a chain back with `written` bytes in it, and interrupt if the driver wants to know. */
void cc_vq_use(cc_machine *m, unsigned device, unsigned queue, uint16_t head, uint32_t written);
void cc_vq_interrupt(cc_machine *m, unsigned device, unsigned queue);

/* Copy from the readable part, or to the writable one, from offset `at` on; the bytes that there were. */
uint32_t cc_chain_read(cc_machine *m, const struct cc_chain *c, uint32_t at, void *dst, uint32_t size);
uint32_t cc_chain_write(cc_machine *m, const struct cc_chain *c, uint32_t at, const void *src, uint32_t size);

/* Transport, for the bus. */
void cc_virtio_reset(cc_machine *m);
uint64_t cc_virtio_mmio_read(cc_machine *m, unsigned device, uint32_t offset, unsigned size);
void cc_virtio_mmio_write(cc_machine *m, unsigned device, uint32_t offset, unsigned size, uint64_t value);

/* Event slots. */
void cc_blk_fire(cc_machine *m);
void cc_netdev_fire(cc_machine *m);

/* ---- disk.c: the medium and its volatile cache ------------------------------------------------------------------- */
#define CC_SECTOR_BYTES 512u
/* Sectors as they are now, for reading. */
const uint8_t *cc_disk_at(const cc_machine *m, uint64_t sector);
/* The same for writing: what is there is kept in the undo log first. */
uint8_t *cc_disk_change(cc_machine *m, uint64_t sector, uint64_t sectors);
void cc_disk_zero(cc_machine *m, uint64_t sector, uint64_t sectors);
/* A block, at multiples of itself: what a write has in one reaches the medium as a whole or not at all. */
#define CC_BLOCK_SECTORS 8u
/* Of a write of `sectors`, those before a random end of a block; never all. */
uint64_t cc_disk_tear(cc_machine *m, uint64_t sector, uint64_t sectors);
void cc_disk_next_write(cc_machine *m);        /* what follows belongs to another request */
void cc_disk_flush(cc_machine *m);             /* everything is durable */

#endif
