/*
 * virtio_driver.h: a virtio driver made of C functions, for tests that use the devices properly or break their rules.
 * Rings and buffers are at fixed places in the machine's memory.
 */
#ifndef CC_VIRTIO_DRIVER_H
#define CC_VIRTIO_DRIVER_H

#include "device_machine.h"
#include "../devices/virtio.h"
#include "../net/net.h"

#define VERSION_1 (UINT64_C(1) << 32)
#define EVENT_IDX (UINT64_C(1) << 29)
#define INDIRECT (UINT64_C(1) << 28)
#define BLK_FLUSH (UINT64_C(1) << 9)

#define NEXT 1u
#define WRITE 2u
#define INDIRECT_TABLE 4u

#define RING_GPA 0x100000u
#define DATA_GPA 0x400000u             /* free for buffers from here on */
#define DISK_BYTES (8u << 20)

struct vdesc { uint64_t addr; uint32_t len; uint16_t flags, next; };
struct blk_header { uint32_t type, reserved; uint64_t sector; };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

static inline cc_machine *new_virtio_machine(uint32_t devices, uint64_t seed)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = 16u << 20;
    cfg.seed = seed;
    cfg.machine_id = 3;
    cfg.devices = devices;
    cfg.disk_bytes = devices & CC_DEV_BLK ? DISK_BYTES : 0;
    cc_machine *m = new_machine_of(&cfg);
    init_pics(m, 1, 0, 0);
    return m;
}

static inline void reg_write(cc_machine *m, unsigned d, uint32_t reg, uint32_t v)
{
    cc_mmio_write(m, CC_VIRTIO_GPA + d * CC_VIRTIO_WINDOW + reg, 4, v);
}

static inline uint32_t reg_read(cc_machine *m, unsigned d, uint32_t reg)
{
    return (uint32_t)cc_mmio_read(m, CC_VIRTIO_GPA + d * CC_VIRTIO_WINDOW + reg, 4);
}

static inline uint16_t mem16(const cc_machine *m, uint64_t gpa)
{
    uint16_t v;
    memcpy(&v, m->ram + gpa, 2);
    return v;
}

static inline uint32_t mem32(const cc_machine *m, uint64_t gpa)
{
    uint32_t v;
    memcpy(&v, m->ram + gpa, 4);
    return v;
}

static inline void poke(cc_machine *m, uint64_t gpa, const void *src, size_t size)
{
    CHECK_EQ(cc_write_phys(m, gpa, src, size), 0);
}

static inline void poke16(cc_machine *m, uint64_t gpa, uint16_t v)
{
    poke(m, gpa, &v, 2);
}

static inline uint64_t desc_at(unsigned d, unsigned q) { return RING_GPA + d * 0x20000u + q * 0x10000u; }
static inline uint64_t avail_at(unsigned d, unsigned q) { return desc_at(d, q) + 0x4000; }
static inline uint64_t used_at(unsigned d, unsigned q) { return desc_at(d, q) + 0x8000; }
static inline uint16_t used_idx(const cc_machine *m, unsigned d, unsigned q) { return mem16(m, used_at(d, q) + 2); }

static inline void set_queue(cc_machine *m, unsigned d, unsigned q, uint16_t num)
{
    reg_write(m, d, 0x030, q);
    reg_write(m, d, 0x038, num);
    reg_write(m, d, 0x080, (uint32_t)desc_at(d, q));
    reg_write(m, d, 0x084, 0);
    reg_write(m, d, 0x090, (uint32_t)avail_at(d, q));
    reg_write(m, d, 0x094, 0);
    reg_write(m, d, 0x0A0, (uint32_t)used_at(d, q));
    reg_write(m, d, 0x0A4, 0);
    static const uint8_t zeros[0x10000];
    poke(m, desc_at(d, q), zeros, sizeof zeros);
    reg_write(m, d, 0x044, 1);
}

/* Reset and start with queues of `num` entries; true if the device took the features. */
static inline bool start_device(cc_machine *m, unsigned d, uint64_t features, unsigned queues, uint16_t num)
{
    reg_write(m, d, 0x070, 0);
    reg_write(m, d, 0x070, 1);
    reg_write(m, d, 0x070, 3);
    for (unsigned i = 0; i < 2; i++) {
        reg_write(m, d, 0x024, i);
        reg_write(m, d, 0x020, (uint32_t)(features >> 32 * i));
    }
    reg_write(m, d, 0x070, 11);
    if (!(reg_read(m, d, 0x070) & 8))
        return false;
    for (unsigned q = 0; q < queues; q++)
        set_queue(m, d, q, num);
    reg_write(m, d, 0x070, 15);
    return true;
}

static inline void set_desc(cc_machine *m, unsigned d, unsigned q, uint16_t i, struct vdesc s)
{
    poke(m, desc_at(d, q) + 16u * i, &s, sizeof s);
}

/* Make a chain available, without a notification. */
static inline void offer(cc_machine *m, unsigned d, unsigned q, uint16_t head)
{
    const uint16_t size = m->dev.virtio[d].vq[q].num, num = size ? size : 1, idx = mem16(m, avail_at(d, q) + 2);
    poke16(m, avail_at(d, q) + 4 + 2u * (idx % num), head);
    poke16(m, avail_at(d, q) + 2, (uint16_t)(idx + 1));
}

static inline void kick(cc_machine *m, unsigned d, unsigned q)
{
    reg_write(m, d, 0x050, q);
}

/* ---- the disk ---------------------------------------------------------------------------------------------------- */
/* A request in descriptors head .. head+2: header and status beside each other in one page, data elsewhere. */
static inline uint64_t request_at(uint16_t head) { return DATA_GPA + 0x1000u * head; }

static inline void blk_prepare(cc_machine *m, uint16_t head, uint32_t type, uint64_t sector, uint64_t data,
                               uint32_t size)
{
    const struct blk_header h = {type, 0, sector};
    const uint64_t at = request_at(head);
    const uint8_t unset = 0xEE;
    const bool to_memory = type == IN || type == GET_ID;
    poke(m, at, &h, sizeof h);
    poke(m, at + 16, &unset, 1);
    set_desc(m, CC_VIRTIO_BLK, 0, head, (struct vdesc){at, 16, NEXT, (uint16_t)(size ? head + 1 : head + 2)});
    set_desc(m, CC_VIRTIO_BLK, 0, (uint16_t)(head + 1),
             (struct vdesc){data, size, (uint16_t)(NEXT | (to_memory ? WRITE : 0)), (uint16_t)(head + 2)});
    set_desc(m, CC_VIRTIO_BLK, 0, (uint16_t)(head + 2), (struct vdesc){at + 16, 1, WRITE, 0});
}

static inline void blk_submit(cc_machine *m, uint16_t head, uint32_t type, uint64_t sector, uint64_t data,
                              uint32_t size)
{
    blk_prepare(m, head, type, sector, data, size);
    offer(m, CC_VIRTIO_BLK, 0, head);
    kick(m, CC_VIRTIO_BLK, 0);
}

static inline uint8_t blk_status(const cc_machine *m, uint16_t head)
{
    return m->ram[request_at(head) + 16];
}

/* Submit, wait, and give the status. */
static inline uint8_t blk_do(cc_machine *m, uint32_t type, uint64_t sector, uint64_t data, uint32_t size)
{
    const uint16_t before = used_idx(m, CC_VIRTIO_BLK, 0);
    blk_submit(m, 0, type, sector, data, size);
    pass_to(m, cc_now(m) + 50 * MS);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), (uint16_t)(before + 1));
    reg_write(m, CC_VIRTIO_BLK, 0x064, 3);
    return blk_status(m, 0);
}

static inline void fill(cc_machine *m, uint64_t gpa, uint32_t size, uint64_t seed)
{
    cc_ram_will_change(m, gpa, size);
    for (uint32_t i = 0; i < size; i++)
        m->ram[gpa + i] = (uint8_t)(rnd(&seed) >> 24);
}

static inline cc_digest digest_of(cc_machine *m)
{
    cc_digest d;
    cc_digest_now(m, &d);
    return d;
}

static inline bool same_digest(cc_digest a, cc_digest b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

#endif
