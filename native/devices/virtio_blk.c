/*
 * virtio_blk.c: the block device (virtio 1.2, section 5.2) on the disk of disk.c.
 *
 * A request is taken when the driver notifies and answered after its latency; only then does it read or change the
 * disk, and its descriptors are looked at anew.  Any number may be on their way; they do not wait for each other.  A
 * driver that has not negotiated VIRTIO_BLK_F_FLUSH gets a disk without a volatile cache (5.2.6.2).
 */
#include "virtio.h"

#define F_SIZE_MAX (UINT64_C(1) << 1)
#define F_SEG_MAX (UINT64_C(1) << 2)
#define F_BLK_SIZE (UINT64_C(1) << 6)
#define F_FLUSH (UINT64_C(1) << 9)
#define F_DISCARD (UINT64_C(1) << 13)
#define F_WRITE_ZEROES (UINT64_C(1) << 14)

/* 5.2.6: request types and status */
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK, S_IOERR, S_UNSUPP };

struct header { uint32_t type, reserved; uint64_t sector; };
struct range { uint64_t sector; uint32_t sectors, flags; };

#define ID_BYTES 20u
#define SEGMENTS_MAX 126u              /* with header and status: half of CC_CHAIN_MAX */
#define SEGMENT_BYTES_MAX (128u << 10)
#define DATA_BYTES_MAX (SEGMENTS_MAX * SEGMENT_BYTES_MAX)
#define RANGES_MAX 16u
#define RANGE_SECTORS_MAX 65536u       /* 32 MiB */
#define WRITE_ZEROES_UNMAP 1u

/* What a fast SSD needs. */
#define REQUEST_NS 30000u
#define FLUSH_NS 100000u
#define BYTES_PER_NS 2u

/* ---- faults ------------------------------------------------------------------------------------------------------ */
static void report(cc_machine *m, uint32_t what, uint64_t sector, uint64_t sectors)
{
    const cc_disk_event e = {what, (uint32_t)sectors, sector};
    m->dev.disk.stats.faults++;
    cc_event_log(m, CC_EVENT_DISK, &e, sizeof e);
}

/* Whether a fault with this chance befalls the request; what has no chance takes no random number. */
static bool befalls(cc_machine *m, uint32_t ppm, uint64_t sector, uint64_t sectors)
{
    const cc_disk_faults *f = &m->dev.disk.faults;
    if (f->sectors && (sector >= f->first_sector + f->sectors || sector + sectors <= f->first_sector))
        return false;
    return cc_stream_chance(&m->dev.disk.random, ppm);
}

static bool is_full(cc_machine *m, uint64_t sector, uint64_t sectors)
{
    cc_disk_faults *f = &m->dev.disk.faults;
    if ((f->flags & CC_DISK_FULL_AT) && sector + sectors > f->full_sector)
        return true;
    if (!(f->flags & CC_DISK_FULL_AFTER))
        return false;
    if (sectors * CC_SECTOR_BYTES > f->full_bytes)
        return true;
    f->full_bytes -= sectors * CC_SECTOR_BYTES;
    return false;
}

static uint64_t random_bit(cc_machine *m, uint64_t bytes)
{
    return cc_stream_below(&m->dev.disk.random, bytes * 8);
}

/* ---- requests, when they are answered ---------------------------------------------------------------------------- */
static bool on_disk(const cc_machine *m, uint64_t sector, uint64_t sectors)
{
    const uint64_t all = m->cfg.disk_bytes / CC_SECTOR_BYTES;
    return sector <= all && sectors <= all - sector;
}

static unsigned read_data(cc_machine *m, const struct cc_blk_request *r, const struct cc_chain *c)
{
    const uint64_t sectors = r->bytes / CC_SECTOR_BYTES;
    if (!sectors)
        return S_OK;
    if (befalls(m, m->dev.disk.faults.read_error_ppm, r->sector, sectors)) {
        report(m, CC_DISK_READ_ERROR, r->sector, sectors);
        return S_IOERR;
    }
    cc_chain_write(m, c, 0, cc_disk_at(m, r->sector), r->bytes);
    if (befalls(m, m->dev.disk.faults.corrupt_read_ppm, r->sector, sectors)) {
        const uint64_t bit = random_bit(m, r->bytes);
        const uint8_t byte = cc_disk_at(m, r->sector)[bit / 8] ^ (uint8_t)(1u << bit % 8);
        cc_chain_write(m, c, (uint32_t)(bit / 8), &byte, 1);
        report(m, CC_DISK_CORRUPT_READ, r->sector + bit / 8 / CC_SECTOR_BYTES, 1);
    }
    return S_OK;
}

static unsigned write_data(cc_machine *m, const struct cc_blk_request *r, const struct cc_chain *c)
{
    const cc_disk_faults *f = &m->dev.disk.faults;
    const uint64_t sectors = r->bytes / CC_SECTOR_BYTES;
    uint64_t done = sectors;
    unsigned status = S_OK;
    if (!sectors)
        return S_OK;
    if (befalls(m, f->write_error_ppm, r->sector, sectors)) {
        report(m, CC_DISK_WRITE_ERROR, r->sector, sectors);
        return S_IOERR;
    }
    if (is_full(m, r->sector, sectors)) {
        report(m, CC_DISK_FULL, r->sector, sectors);
        return S_IOERR;
    }
    if (befalls(m, f->torn_ppm, r->sector, sectors)) {
        done = cc_disk_tear(m, r->sector, sectors);
        status = f->flags & CC_DISK_TORN_FAILS ? S_IOERR : S_OK;
        report(m, CC_DISK_TORN, r->sector + done, sectors - done);
    }
    if (!done)
        return status;
    cc_disk_next_write(m);
    uint8_t *to = cc_disk_change(m, r->sector, done);
    cc_chain_read(m, c, sizeof(struct header), to, (uint32_t)(done * CC_SECTOR_BYTES));
    if (befalls(m, f->corrupt_write_ppm, r->sector, sectors)) {
        const uint64_t bit = random_bit(m, done * CC_SECTOR_BYTES);
        to[bit / 8] ^= (uint8_t)(1u << bit % 8);
        report(m, CC_DISK_CORRUPT_WRITE, r->sector + bit / 8 / CC_SECTOR_BYTES, 1);
    }
    return status;
}

static unsigned flush(cc_machine *m)
{
    if (cc_stream_chance(&m->dev.disk.random, m->dev.disk.faults.lost_flush_ppm))
        report(m, CC_DISK_LOST_FLUSH, 0, 0);
    else
        cc_disk_flush(m);
    return S_OK;
}

/* 5.2.6.2: discard and write zeroes, which here are the same: all ranges are checked, then zeroed. */
static unsigned zero_ranges(cc_machine *m, const struct cc_blk_request *r, const struct cc_chain *c)
{
    struct range range[RANGES_MAX];
    const unsigned n = r->bytes / (unsigned)sizeof *range;
    if (!n || n > RANGES_MAX || r->bytes % sizeof *range)
        return S_IOERR;
    cc_chain_read(m, c, sizeof(struct header), range, r->bytes);
    for (unsigned i = 0; i < n; i++) {
        if (range[i].flags & ~(r->type == T_WRITE_ZEROES ? WRITE_ZEROES_UNMAP : 0))
            return S_UNSUPP;
        if (range[i].sectors > RANGE_SECTORS_MAX || !on_disk(m, range[i].sector, range[i].sectors))
            return S_IOERR;
    }
    cc_disk_next_write(m);
    for (unsigned i = 0; i < n; i++) {
        if (befalls(m, m->dev.disk.faults.write_error_ppm, range[i].sector, range[i].sectors)) {
            report(m, CC_DISK_WRITE_ERROR, range[i].sector, range[i].sectors);
            return S_IOERR;
        }
        if (r->type == T_WRITE_ZEROES && is_full(m, range[i].sector, range[i].sectors)) {
            report(m, CC_DISK_FULL, range[i].sector, range[i].sectors);
            return S_IOERR;
        }
        cc_disk_zero(m, range[i].sector, range[i].sectors);
    }
    return S_OK;
}

static unsigned get_id(cc_machine *m, const struct cc_blk_request *r, const struct cc_chain *c)
{
    char id[ID_BYTES + 1] = "cc-disk-";
    unsigned at = 8, digit = 1000000000;
    for (; digit > 1 && m->cfg.machine_id / digit == 0; digit /= 10)
        ;
    for (; digit; digit /= 10)
        id[at++] = (char)('0' + m->cfg.machine_id / digit % 10);
    cc_chain_write(m, c, 0, id, r->bytes < ID_BYTES ? r->bytes : ID_BYTES);
    return S_OK;
}

static unsigned perform(cc_machine *m, const struct cc_blk_request *r, const struct cc_chain *c)
{
    struct cc_disk *k = &m->dev.disk;
    switch (r->type) {
    case T_IN:
    case T_OUT:
        if (r->bytes % CC_SECTOR_BYTES || r->bytes > DATA_BYTES_MAX
            || !on_disk(m, r->sector, r->bytes / CC_SECTOR_BYTES))
            return S_IOERR;
        if (r->type == T_IN) {
            k->stats.reads++;
            return read_data(m, r, c);
        }
        k->stats.writes++;
        return write_data(m, r, c);
    case T_FLUSH:
        k->stats.flushes++;
        return flush(m);
    case T_GET_ID:
        return get_id(m, r, c);
    case T_DISCARD:
    case T_WRITE_ZEROES:
        k->stats.discards++;
        return zero_ranges(m, r, c);
    default:
        return S_UNSUPP;
    }
}

/* ---- in flight --------------------------------------------------------------------------------------------------- */
static struct cc_blk_request *next_due(cc_machine *m)
{
    struct cc_blk *b = &m->dev.blk;
    struct cc_blk_request *first = NULL;
    for (uint32_t i = 0; i < b->count; i++) {
        struct cc_blk_request *r = &b->request[i];
        if (!first || r->due_vns < first->due_vns || (r->due_vns == first->due_vns && r->serial < first->serial))
            first = r;
    }
    return first;
}

static void arm(cc_machine *m)
{
    const struct cc_blk_request *r = next_due(m);
    cc_event_set(m, CC_EV_BLK, r ? r->due_vns : CC_NEVER);
}

static void stop(cc_machine *m)
{
    m->dev.blk.count = 0;
    arm(m);
}

static uint64_t latency_ns(cc_machine *m, const struct cc_blk_request *r)
{
    const cc_disk_faults *f = &m->dev.disk.faults;
    uint64_t ns = (r->type == T_FLUSH ? FLUSH_NS : REQUEST_NS) + r->bytes / BYTES_PER_NS;
    if (f->slow_milli)
        ns = (uint64_t)((unsigned __int128)ns * f->slow_milli / 1000);
    if (cc_stream_chance(&m->dev.disk.random, f->spike_ppm)) {
        report(m, CC_DISK_SPIKE, r->sector, r->bytes / CC_SECTOR_BYTES);
        ns += f->spike_ns;
    }
    return ns;
}

/* The readable part is a header and data, the writable one data and a status byte (5.2.6); NULL, or what is wrong. */
static const char *parse(cc_machine *m, const struct cc_chain *c, struct cc_blk_request *r)
{
    struct header h;
    if (c->read_bytes < sizeof h)
        return "a request without a header";
    if (!c->write_bytes)
        return "a request without room for its status";
    cc_chain_read(m, c, 0, &h, sizeof h);
    r->type = h.type;
    r->sector = h.sector;
    r->head = c->head;
    const bool to_driver = h.type == T_IN || h.type == T_GET_ID;
    r->bytes = to_driver ? c->write_bytes - 1 : c->read_bytes - (uint32_t)sizeof h;
    return NULL;
}

static bool is_in_flight(const struct cc_blk *b, uint16_t head)
{
    for (uint32_t i = 0; i < b->count; i++)
        if (b->request[i].head == head)
            return true;
    return false;
}

static void notify(cc_machine *m, unsigned queue)
{
    struct cc_blk *b = &m->dev.blk;
    struct cc_chain c;
    while (cc_vq_next(m, CC_VIRTIO_BLK, queue, &c)) {
        struct cc_blk_request r = {.serial = b->serial};
        const char *fault = is_in_flight(b, c.head) ? "a request that is in flight already" : parse(m, &c, &r);
        if (fault) {
            cc_virtio_break(m, CC_VIRTIO_BLK, fault);
            break;
        }
        r.due_vns = cc_now(m) + latency_ns(m, &r);
        b->serial++;
        b->request[b->count++] = r;     /* heads differ and are below the queue's size: there is room */
    }
    arm(m);
}

static void answer(cc_machine *m, const struct cc_blk_request *r)
{
    struct cc_chain c;
    struct cc_blk_request now;
    if (!cc_vq_walk(m, CC_VIRTIO_BLK, 0, r->head, &c))
        return;
    if (parse(m, &c, &now) || now.type != r->type || now.sector != r->sector || now.bytes != r->bytes) {
        cc_virtio_break(m, CC_VIRTIO_BLK, "a request was changed in flight");
        return;
    }
    const uint8_t status = (uint8_t)perform(m, r, &c);
    if (status != S_OK)
        m->dev.disk.stats.errors++;
    if (!cc_virtio_has(m, CC_VIRTIO_BLK, F_FLUSH))
        cc_disk_flush(m);
    cc_chain_write(m, &c, c.write_bytes - 1, &status, 1);
    const bool data = status == S_OK && (r->type == T_IN || r->type == T_GET_ID);
    cc_vq_use(m, CC_VIRTIO_BLK, 0, r->head, data ? c.write_bytes : 1);
    cc_vq_interrupt(m, CC_VIRTIO_BLK, 0);
}

void cc_blk_fire(cc_machine *m)
{
    struct cc_blk *b = &m->dev.blk;
    if (!cc_virtio_live(m, CC_VIRTIO_BLK)) {
        stop(m);
        return;
    }
    struct cc_blk_request *at = next_due(m);
    if (!at)
        return;
    const struct cc_blk_request r = *at;
    *at = b->request[--b->count];
    memset(&b->request[b->count], 0, sizeof r);
    answer(m, &r);
    arm(m);
}

/* 5.2.4 */
static void config(const cc_machine *m, uint8_t *dst)
{
    const struct {
        uint64_t capacity;
        uint32_t size_max, seg_max, geometry, blk_size, topology[2];
        uint8_t writeback, unused;
        uint16_t num_queues;
        uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
        uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
        uint8_t write_zeroes_may_unmap, unused1[3];
    } c = {
        .capacity = m->cfg.disk_bytes / CC_SECTOR_BYTES,
        .size_max = SEGMENT_BYTES_MAX, .seg_max = SEGMENTS_MAX, .blk_size = CC_SECTOR_BYTES, .num_queues = 1,
        .max_discard_sectors = RANGE_SECTORS_MAX, .max_discard_seg = RANGES_MAX, .discard_sector_alignment = 8,
        .max_write_zeroes_sectors = RANGE_SECTORS_MAX, .max_write_zeroes_seg = RANGES_MAX,
        .write_zeroes_may_unmap = 1,
    };
    _Static_assert(sizeof c <= CC_VIRTIO_CONFIG_MAX, "config");
    memcpy(dst, &c, sizeof c);
}

const struct cc_virtio_class cc_virtio_blk = {
    .name = "blk", .id = 2, .irq = 5, .queues = 1, .num_max = CC_BLK_REQUESTS, .config_bytes = 60,
    .features = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_DISCARD | F_WRITE_ZEROES,
    .config = config, .notify = notify, .stop = stop,
};
