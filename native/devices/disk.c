/*
 * disk.c: the medium behind virtio_blk.c, with a volatile cache as real disks have one.
 *
 * CC_AUX_DISK holds what a read gives, the newest writes included.  CC_AUX_DISK_LOG holds an undo log of the writes
 * that no flush has followed: records of (serial, sector, count), and in a second ring the sectors as they were.  A flush
 * empties the log; when it is full its oldest writes become durable, as in a cache that writes back what it must;
 * a power loss goes back from the newest write to the oldest and decides for each block of 4 KiB: the medium writes such
 * a block whole or not at all, as disks do and file systems need (ext4 has one superblock to mount by).  A write that
 * tears while the power is on tears between blocks as well.
 */
#include "virtio.h"

#include <stdlib.h>

#define RECORD_SECTORS_MAX 2048u       /* a larger write has several records */

struct record { uint64_t serial, sector; uint32_t count, pad[3]; };

#define RECORDS_BYTES (2u << 20)
#define RECORDS (RECORDS_BYTES / (uint32_t)sizeof(struct record))
#define BLOCKS ((CC_AUX_DISK_LOG_BYTES - RECORDS_BYTES) / CC_SECTOR_BYTES)
_Static_assert(BLOCKS >= 2 * RECORD_SECTORS_MAX, "any record fits");
_Static_assert(RECORD_SECTORS_MAX % CC_BLOCK_SECTORS == 0, "records end where blocks end");

static uint64_t sectors_of(const cc_machine *m)
{
    return m->cfg.disk_bytes / CC_SECTOR_BYTES;
}

/* ---- the undo log ------------------------------------------------------------------------------------------------ */
/* The i-th oldest record. */
static struct record record_get(const cc_machine *m, uint32_t i)
{
    struct record r;
    const uint32_t at = (m->dev.disk.log_first + i) % RECORDS;
    memcpy(&r, cc_aux(m, CC_AUX_DISK_LOG, (uint64_t)at * sizeof r), sizeof r);
    return r;
}

static uint64_t block_offset(uint32_t block)
{
    return RECORDS_BYTES + (uint64_t)(block % BLOCKS) * CC_SECTOR_BYTES;
}

static void drop_oldest(struct cc_disk *k, uint32_t count)
{
    k->log_first = (k->log_first + 1) % RECORDS;
    k->log_count--;
    k->block_first = (k->block_first + count) % BLOCKS;
    k->block_count -= count;
}

static void keep(cc_machine *m, uint64_t sector, uint32_t count)
{
    struct cc_disk *k = &m->dev.disk;
    while (k->log_count == RECORDS || BLOCKS - k->block_count < count)
        drop_oldest(k, record_get(m, 0).count);
    const struct record r = {.serial = k->write_serial, .sector = sector, .count = count};
    const uint32_t at = (k->log_first + k->log_count) % RECORDS;
    memcpy(cc_aux_will_change(m, CC_AUX_DISK_LOG, (uint64_t)at * sizeof r, sizeof r), &r, sizeof r);
    for (uint32_t done = 0; done < count;) {
        const uint32_t block = (k->block_first + k->block_count) % BLOCKS;
        const uint32_t n = count - done < BLOCKS - block ? count - done : BLOCKS - block;
        const size_t bytes = (size_t)n * CC_SECTOR_BYTES;
        memcpy(cc_aux_will_change(m, CC_AUX_DISK_LOG, block_offset(block), bytes), cc_disk_at(m, sector + done), bytes);
        k->block_count += n;
        done += n;
    }
    k->log_count++;
}

void cc_disk_next_write(cc_machine *m)
{
    m->dev.disk.write_serial++;
}

/* Starting at the front again, so that the log touches as few pages as it can. */
void cc_disk_flush(cc_machine *m)
{
    struct cc_disk *k = &m->dev.disk;
    k->log_first = k->log_count = k->block_first = k->block_count = 0;
}

/* ---- contents ---------------------------------------------------------------------------------------------------- */
const uint8_t *cc_disk_at(const cc_machine *m, uint64_t sector)
{
    return cc_aux(m, CC_AUX_DISK, sector * CC_SECTOR_BYTES);
}

uint8_t *cc_disk_change(cc_machine *m, uint64_t sector, uint64_t sectors)
{
    for (uint64_t at = 0; at < sectors;) {
        const uint32_t room = RECORD_SECTORS_MAX - (uint32_t)((sector + at) % CC_BLOCK_SECTORS);
        const uint32_t n = sectors - at < room ? (uint32_t)(sectors - at) : room;
        keep(m, sector + at, n);
        at += n;
    }
    return cc_aux_will_change(m, CC_AUX_DISK, sector * CC_SECTOR_BYTES, sectors * CC_SECTOR_BYTES);
}

uint64_t cc_disk_tear(cc_machine *m, uint64_t sector, uint64_t sectors)
{
    const uint64_t first = sector / CC_BLOCK_SECTORS, blocks = (sector + sectors - 1) / CC_BLOCK_SECTORS - first + 1;
    const uint64_t whole = cc_stream_below(&m->dev.disk.random, blocks);
    return whole ? (first + whole) * CC_BLOCK_SECTORS - sector : 0;
}

static bool is_zero(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t v;
        memcpy(&v, p + i, sizeof v);
        if (v)
            return false;
    }
    return true;
}

#define ZERO_SECTORS 8u        /* a page */

/* Only what is not zero yet, page by page: most of what is discarded never held anything. */
void cc_disk_zero(cc_machine *m, uint64_t sector, uint64_t sectors)
{
    while (sectors) {
        const uint64_t in_page = ZERO_SECTORS - sector % ZERO_SECTORS, n = sectors < in_page ? sectors : in_page;
        if (!is_zero(cc_disk_at(m, sector), n * CC_SECTOR_BYTES))
            memset(cc_disk_change(m, sector, n), 0, n * CC_SECTOR_BYTES);
        sector += n;
        sectors -= n;
    }
}

/* ---- power loss -------------------------------------------------------------------------------------------------- */
static void revert(cc_machine *m, const struct record *r, uint32_t first_block, uint32_t i)
{
    const uint64_t at = (r->sector + i) * CC_SECTOR_BYTES;
    memcpy(cc_aux_will_change(m, CC_AUX_DISK, at, CC_SECTOR_BYTES),
           cc_aux(m, CC_AUX_DISK_LOG, block_offset(first_block + i)), CC_SECTOR_BYTES);
}

/* Calls fn for every record, the newest first; block: where its old sectors begin. */
typedef void record_fn(cc_machine *m, const struct record *r, uint32_t block, void *context);
static void go_back(cc_machine *m, record_fn *fn, void *context)
{
    const struct cc_disk *k = &m->dev.disk;
    uint32_t block = (k->block_first + k->block_count) % BLOCKS;
    for (uint32_t i = k->log_count; i-- > 0;) {
        const struct record r = record_get(m, i);
        block = (block + BLOCKS - r.count) % BLOCKS;
        fn(m, &r, block, context);
    }
}

static void lose(cc_machine *m, const struct record *r, uint32_t block, void *context)
{
    (void)context;
    for (uint32_t i = 0; i < r->count; i++)
        revert(m, r, block, i);
}

/* A sector of which a newer write was kept has its contents; older writes do not matter to it any more. */
struct coin { struct cc_stream stream; uint8_t *settled; };

static void toss(cc_machine *m, const struct record *r, uint32_t block, void *context)
{
    struct coin *c = context;
    uint8_t bits[RECORD_SECTORS_MAX / CC_BLOCK_SECTORS / 8];
    const uint64_t first = r->sector / CC_BLOCK_SECTORS, last = (r->sector + r->count - 1) / CC_BLOCK_SECTORS;
    cc_stream_read(&c->stream, bits, (size_t)(last - first) / 8 + 1);
    for (uint32_t i = 0; i < r->count; i++) {
        const uint64_t sector = r->sector + i, at = sector / CC_BLOCK_SECTORS - first;
        const uint8_t mask = (uint8_t)(1u << (sector & 7));
        if (c->settled[sector >> 3] & mask)
            continue;
        if (bits[at / 8] >> (at % 8) & 1)
            c->settled[sector >> 3] |= mask;
        else
            revert(m, r, block, i);
    }
}

/* The writes before `serial` are kept, and `sectors` of that one, down to the end of a block. */
struct cut { uint64_t serial; uint64_t sectors, before; };

static uint32_t kept_of(const struct cut *c, const struct record *r)
{
    if (r->serial > c->serial || c->sectors <= c->before)
        return 0;
    if (c->sectors - c->before >= r->count)
        return r->count;
    const uint64_t end = (r->sector + c->sectors - c->before) / CC_BLOCK_SECTORS * CC_BLOCK_SECTORS;
    return end > r->sector ? (uint32_t)(end - r->sector) : 0;
}

static void cut_off(cc_machine *m, const struct record *r, uint32_t block, void *context)
{
    struct cut *c = context;
    if (r->serial < c->serial)
        return;
    if (r->serial == c->serial)
        c->before -= r->count;         /* sectors of the same write in older records */
    for (uint32_t i = kept_of(c, r); i < r->count; i++)
        revert(m, r, block, i);
}

/* Writes in the log, counted by their serials, and the sectors of the n-th oldest. */
static uint64_t count_writes(const cc_machine *m, uint64_t nth, struct cut *c)
{
    uint64_t writes = 0, last = 0;
    for (uint32_t i = 0; i < m->dev.disk.log_count; i++) {
        const struct record r = record_get(m, i);
        if (!writes || r.serial != last)
            writes++;
        last = r.serial;
        if (writes != nth + 1)
            continue;
        c->serial = r.serial;
        c->before += r.count;
    }
    return writes;
}

static void tear(cc_machine *m, struct cc_stream *s)
{
    struct cut c = {0};
    const uint64_t writes = count_writes(m, CC_NEVER - 1, &c);
    if (!writes)
        return;
    count_writes(m, cc_stream_below(s, writes), &c);
    c.sectors = cc_stream_below(s, c.before + 1);
    go_back(m, cut_off, &c);
}

static int no_disk(cc_machine *m)
{
    return cc_fail(m, CC_EINVAL, "the machine has no disk; give it a disk size");
}

int cc_disk_crash(cc_machine *m, uint32_t mode, uint64_t seed)
{
    if (!sectors_of(m))
        return no_disk(m);
    if (mode > CC_CRASH_KEEP_ALL)
        return cc_fail(m, CC_EINVAL, "crash mode %u: must be 0 (lose all), 1 (random), 2 (torn) or 3 (keep all)", mode);
    struct coin c = {.settled = NULL};
    cc_stream_seed(&c.stream, seed);
    cc_stream_text(&c.stream, "disk-crash");
    if (mode == CC_CRASH_LOSE_ALL)
        go_back(m, lose, NULL);
    if (mode == CC_CRASH_TORN)
        tear(m, &c.stream);
    if (mode == CC_CRASH_RANDOM) {
        c.settled = calloc(sectors_of(m) / 8, 1);
        if (!c.settled)
            return cc_fail(m, CC_ENOMEM, "the host refused memory for the disk's crash");
        go_back(m, toss, &c);
        free(c.settled);
    }
    cc_disk_flush(m);
    m->dev.blk.count = 0;
    cc_event_set(m, CC_EV_BLK, CC_NEVER);
    return CC_OK;
}

/* ---- the host's side --------------------------------------------------------------------------------------------- */
uint64_t cc_disk_size(const cc_machine *m)
{
    return m->cfg.disk_bytes;
}

static int check_range(cc_machine *m, uint64_t offset, uint64_t size)
{
    if (!sectors_of(m))
        return no_disk(m);
    if (offset > m->cfg.disk_bytes || size > m->cfg.disk_bytes - offset)
        return cc_fail(m, CC_EFAULT, "%llu bytes at %llu of the disk: it has %llu", (unsigned long long)size,
                       (unsigned long long)offset, (unsigned long long)m->cfg.disk_bytes);
    return CC_OK;
}

int cc_disk_read(cc_machine *m, uint64_t offset, void *dst, size_t size)
{
    const int rc = check_range(m, offset, size);
    if (!rc && size)
        memcpy(dst, cc_aux(m, CC_AUX_DISK, offset), size);
    return rc;
}

/* Page by page, so that the zeros of a sparse image cost nothing. */
int cc_disk_write(cc_machine *m, uint64_t offset, const void *src, size_t size)
{
    const int rc = check_range(m, offset, size);
    const uint8_t *from = src;
    while (!rc && size) {
        const size_t in_page = CC_PAGE_SIZE - (size_t)(offset % CC_PAGE_SIZE), n = size < in_page ? size : in_page;
        if (memcmp(cc_aux(m, CC_AUX_DISK, offset), from, n))
            memcpy(cc_aux_will_change(m, CC_AUX_DISK, offset, n), from, n);
        offset += n;
        from += n;
        size -= n;
    }
    return rc;
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */
int cc_disk_set_faults(cc_machine *m, const cc_disk_faults *f)
{
    if (!sectors_of(m))
        return no_disk(m);
    const struct { const char *name; uint32_t ppm; } chances[] = {
        {"read_error_ppm", f->read_error_ppm}, {"write_error_ppm", f->write_error_ppm}, {"torn_ppm", f->torn_ppm},
        {"corrupt_read_ppm", f->corrupt_read_ppm}, {"corrupt_write_ppm", f->corrupt_write_ppm},
        {"lost_flush_ppm", f->lost_flush_ppm}, {"spike_ppm", f->spike_ppm},
    };
    for (size_t i = 0; i < sizeof chances / sizeof *chances; i++)
        if (chances[i].ppm > 1000000)
            return cc_fail(m, CC_EINVAL, "%s of %u: must be 0 to 1000000", chances[i].name, chances[i].ppm);
    if (f->flags & ~(uint32_t)(CC_DISK_FULL_AT | CC_DISK_FULL_AFTER | CC_DISK_TORN_FAILS))
        return cc_fail(m, CC_EINVAL, "disk fault flags 0x%x: only 0x7 are known", f->flags);
    if (f->spike_ns > UINT64_C(3600000000000) || f->slow_milli > 1000000000)
        return cc_fail(m, CC_EINVAL, "a disk that slow: spike_ns must be at most an hour, slow_milli 10^9");
    if (f->first_sector > sectors_of(m) || f->sectors > sectors_of(m) - f->first_sector)
        return cc_fail(m, CC_EFAULT, "disk faults at %llu sectors from %llu on: the disk has %llu",
                       (unsigned long long)f->sectors, (unsigned long long)f->first_sector,
                       (unsigned long long)sectors_of(m));
    m->dev.disk.faults = *f;
    m->dev.disk.faults.pad = 0;
    return CC_OK;
}

void cc_disk_get_faults(const cc_machine *m, cc_disk_faults *out)
{
    *out = m->dev.disk.faults;
}

int cc_disk_corrupt(cc_machine *m, uint64_t sector, uint64_t sectors, uint32_t bits)
{
    if (!sectors_of(m))
        return no_disk(m);
    if (!sectors || sector >= sectors_of(m) || sectors > sectors_of(m) - sector)
        return cc_fail(m, CC_EFAULT, "%llu sectors from %llu on to corrupt: the disk has %llu",
                       (unsigned long long)sectors, (unsigned long long)sector, (unsigned long long)sectors_of(m));
    if (bits > 1000000)
        return cc_fail(m, CC_EINVAL, "%u bits to flip: must be 0 to 1000000", bits);
    for (uint32_t i = 0; i < bits; i++) {
        const uint64_t bit = cc_stream_below(&m->dev.disk.random, sectors * CC_SECTOR_BYTES * 8);
        uint8_t *at = cc_aux_will_change(m, CC_AUX_DISK, sector * CC_SECTOR_BYTES + bit / 8, 1);
        *at ^= (uint8_t)(1u << bit % 8);
    }
    return CC_OK;
}

void cc_disk_get_stats(const cc_machine *m, cc_disk_stats *out)
{
    struct cut unused = {0};
    *out = m->dev.disk.stats;
    out->unflushed_sectors = m->dev.disk.block_count;
    out->unflushed_writes = count_writes(m, CC_NEVER - 1, &unused);
}
