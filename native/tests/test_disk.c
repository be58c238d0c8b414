/* test_disk.c: the disk's volatile cache, what a power loss leaves of it, its undo log when full, and its faults. */
#include "virtio_driver.h"

#define BUFFER (DATA_GPA + 0x200000u)
#define SECTORS (DISK_BYTES / 512)

static cc_machine *disk_machine(uint64_t features)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 7);
    CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1 | features, 1, 64));
    return m;
}

/* Write sectors full of one byte. */
static uint8_t put(cc_machine *m, uint64_t sector, uint32_t sectors, uint8_t value)
{
    cc_ram_will_change(m, BUFFER, sectors * 512u);
    memset(m->ram + BUFFER, value, sectors * 512u);
    return blk_do(m, OUT, sector, BUFFER, sectors * 512u);
}

/* The byte that a sector is full of; 256 if it is not. */
static unsigned get(const cc_machine *m, uint64_t sector)
{
    const uint8_t *p = cc_disk_at(m, sector);
    for (unsigned i = 1; i < 512; i++)
        if (p[i] != p[0])
            return 256;
    return p[0];
}

static cc_disk_stats stats(const cc_machine *m)
{
    cc_disk_stats s;
    cc_disk_get_stats(m, &s);
    return s;
}

/* ==== power loss ================================================================================================== */
static void a_flush_makes_writes_durable(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    put(m, 10, 4, 1);
    CHECK_EQ(blk_do(m, FLUSH, 0, 0, 0), 0);
    put(m, 11, 2, 2);
    put(m, 12, 2, 3);
    CHECK_EQ(stats(m).unflushed_writes, 2);
    CHECK_EQ(stats(m).unflushed_sectors, 4);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);
    for (unsigned i = 10; i < 14; i++)
        CHECK_EQ(get(m, i), 1);
    CHECK_EQ(stats(m).unflushed_writes, 0);
    cc_machine_free(m);
}

static void a_driver_without_flush_gets_no_cache(void)
{
    cc_machine *m = disk_machine(0);
    put(m, 10, 4, 1);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);
    CHECK_EQ(get(m, 10), 1);
    cc_machine_free(m);
}

static void keeping_all_keeps_all(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    put(m, 10, 4, 1);
    put(m, 12, 4, 2);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_KEEP_ALL, 0), 0);
    CHECK_EQ(get(m, 11), 1);
    CHECK_EQ(get(m, 12), 2);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);
    CHECK_EQ(get(m, 12), 2);
    CHECK_EQ(cc_disk_crash(m, 4, 0), CC_EINVAL);
    cc_machine_free(m);
}

/* Writes 1, 2, 3 of the same two sectors: each ends as any of the four versions, independently, and all happen. */
static void a_random_crash_gives_any_version_of_any_block(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    for (uint8_t v = 1; v <= 3; v++)
        put(m, 20, 8, v);                                    /* half of one block and half of the next */
    cc_snapshot *s;
    CHECK_EQ(cc_snapshot_take(m, &s), 0);
    unsigned seen[4][4] = {{0}};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        CHECK_EQ(cc_snapshot_restore(m, s), 0);
        CHECK_EQ(cc_disk_crash(m, CC_CRASH_RANDOM, seed), 0);
        const unsigned a = get(m, 20), b = get(m, 24);
        CHECK(a < 4 && b < 4);
        for (unsigned i = 1; i < 4; i++)
            CHECK(get(m, 20 + i) == a && get(m, 24 + i) == b);
        seen[a][b]++;
        CHECK_EQ(cc_snapshot_restore(m, s), 0);                 /* the same seed: the same crash */
        CHECK_EQ(cc_disk_crash(m, CC_CRASH_RANDOM, seed), 0);
        CHECK(get(m, 20) == a && get(m, 24) == b);
    }
    for (unsigned a = 0; a < 4; a++)
        for (unsigned b = 0; b < 4; b++)
            CHECK(seen[a][b] > 5);
    CHECK(seen[3][3] > 400 && seen[3][3] < 600);             /* a half of a half */
    cc_snapshot_free(s);
    cc_machine_free(m);
}

/* What all sectors of a block hold. */
static unsigned get_block(const cc_machine *m, unsigned block)
{
    const unsigned v = get(m, 8 * block);
    for (unsigned i = 1; i < 8; i++)
        CHECK_EQ(get(m, 8 * block + i), v);
    return v;
}

/* Writes of 4 blocks each, one after the other: a prefix is kept. */
static void a_torn_crash_keeps_a_prefix(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    for (unsigned i = 0; i < 4; i++)
        put(m, 32 * i, 32, (uint8_t)(1 + i));
    put(m, 0, 128, 9);
    cc_snapshot *s;
    CHECK_EQ(cc_snapshot_take(m, &s), 0);
    unsigned kept_seen[33] = {0};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        CHECK_EQ(cc_snapshot_restore(m, s), 0);
        CHECK_EQ(cc_disk_crash(m, CC_CRASH_TORN, seed), 0);
        unsigned nines = 0, kept = 0;
        while (nines < 16 && get_block(m, nines) == 9)
            nines++;
        for (unsigned i = nines; i < 16; i++) {
            const unsigned v = get_block(m, i);
            CHECK(v == 0 || v == 1 + i / 4);
            CHECK(!(nines && !v));                           /* the last one began: the others were whole */
            kept += v != 0;
            CHECK(v || i + 1 == 16 || get_block(m, i + 1) == 0);     /* nothing after the cut */
        }
        kept_seen[nines ? 16 + nines : kept]++;
    }
    for (unsigned i = 0; i < 33; i++)
        CHECK(kept_seen[i]);
    cc_snapshot_free(s);
    cc_machine_free(m);
}

/* A write that begins and ends inside blocks, of several records, is cut where a block ends. */
static void a_torn_crash_cuts_between_blocks(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    cc_disk_next_write(m);
    memset(cc_disk_change(m, 5, 5000), 7, 5000 * 512);
    cc_snapshot *s;
    CHECK_EQ(cc_snapshot_take(m, &s), 0);
    for (uint64_t seed = 0; seed < 200; seed++) {
        CHECK_EQ(cc_snapshot_restore(m, s), 0);
        CHECK_EQ(cc_disk_crash(m, CC_CRASH_TORN, seed), 0);
        unsigned end = 5;
        while (end < 5005 && get(m, end) == 7)
            end++;
        CHECK(end == 5 || end == 5005 || end % 8 == 0);
        for (unsigned i = end; i < 5005; i++)
            CHECK_EQ(get(m, i), 0);
        CHECK_EQ(cc_snapshot_restore(m, s), 0);
        CHECK_EQ(cc_disk_crash(m, CC_CRASH_RANDOM, seed), 0);
        for (unsigned i = 0; i < 5016 / 8; i++)
            for (unsigned j = i ? 8 * i : 5; j < 8 * i + 8 && j < 5005; j++)
                CHECK_EQ(get(m, j), get(m, i ? 8 * i : 5));
    }
    cc_snapshot_free(s);
    cc_machine_free(m);
}

/* The log holds a bounded number of writes; older ones have become durable, the newest can still be lost. */
static void a_full_log_makes_the_oldest_durable(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    const uint32_t each = 4096;                              /* sectors: 2 MiB, two records */
    cc_ram_will_change(m, BUFFER, each * 512u);
    for (unsigned i = 1; i <= 40; i++) {                      /* 80 MiB in a log of 62 */
        memset(m->ram + BUFFER, (int)i, each * 512u);
        for (uint32_t at = 0; at < each; at += 1024)
            cc_chain_read(m, &(struct cc_chain){.count = 1, .readable = 1, .read_bytes = 1024 * 512,
                          .segment = {{BUFFER, 1024 * 512}}}, 0, cc_disk_change(m, at, 1024), 1024 * 512);
        cc_disk_next_write(m);
    }
    const cc_disk_stats s = stats(m);
    CHECK(s.unflushed_writes >= 30 && s.unflushed_writes < 40);
    CHECK(s.unflushed_sectors <= (62u << 20) / 512);
    CHECK_EQ(get(m, 0), 40);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);
    const unsigned left = get(m, each - 1);
    CHECK(left >= 1 && left <= 10);
    CHECK(get(m, 0) == left || get(m, 0) == left + 1);
    cc_machine_free(m);
}

/* Against a model: a list of versions per sector, for random writes, flushes and crashes. */
static void crashes_lose_exactly_what_was_not_flushed(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    static uint8_t now[64], durable[64];
    uint64_t seed = 99;
    memset(now, 0, sizeof now);
    memset(durable, 0, sizeof durable);
    for (unsigned i = 1; i < 3000; i++) {
        const uint64_t at = rnd(&seed) % 60, n = 1 + rnd(&seed) % 4;
        switch (rnd(&seed) % 8) {
        case 0:
            CHECK_EQ(blk_do(m, FLUSH, 0, 0, 0), 0);
            memcpy(durable, now, sizeof now);
            break;
        case 1:
            CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, i), 0);
            memcpy(now, durable, sizeof now);
            break;
        default:
            CHECK_EQ(put(m, at, (uint32_t)n, (uint8_t)i), 0);
            memset(now + at, (uint8_t)i, n);
        }
        for (unsigned j = 0; j < 64; j++)
            CHECK_EQ(get(m, j), now[j]);
    }
    cc_machine_free(m);
}

/* ==== faults ====================================================================================================== */
static void set(cc_machine *m, cc_disk_faults f)
{
    CHECK_EQ(cc_disk_set_faults(m, &f), 0);
}

static void errors_befall_their_sectors(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    put(m, 100, 1, 1);
    set(m, (cc_disk_faults){.read_error_ppm = 1000000, .write_error_ppm = 1000000, .first_sector = 100, .sectors = 2});
    CHECK_EQ(put(m, 99, 1, 2), 0);
    CHECK_EQ(put(m, 99, 2, 3), 1);
    CHECK_EQ(put(m, 101, 1, 3), 1);
    CHECK_EQ(put(m, 102, 1, 4), 0);
    CHECK_EQ(get(m, 99), 2);
    CHECK_EQ(get(m, 100), 1);
    CHECK_EQ(blk_do(m, IN, 100, BUFFER, 512), 1);
    CHECK_EQ(blk_do(m, IN, 102, BUFFER, 512), 0);
    set(m, (cc_disk_faults){0});
    CHECK_EQ(blk_do(m, IN, 100, BUFFER, 512), 0);
    CHECK_EQ(m->ram[BUFFER], 1);
    cc_machine_free(m);
}

static void chances_are_per_million(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    unsigned failed = 0;
    set(m, (cc_disk_faults){.read_error_ppm = 250000});
    for (unsigned i = 0; i < 2000; i++)
        failed += blk_do(m, IN, i, BUFFER, 512);
    CHECK(failed > 420 && failed < 580);
    CHECK_EQ(stats(m).faults, failed);
    cc_machine_free(m);
}

/* Sectors 4 to 27: the blocks that begin at 0, 8, 16 and 24 have parts of it. */
static void torn_writes_stop_between_blocks(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    for (unsigned fails = 0; fails < 2; fails++) {
        unsigned seen = 0;
        for (unsigned i = 0; i < 200; i++) {
            set(m, (cc_disk_faults){0});
            put(m, 4, 24, 1);
            set(m, (cc_disk_faults){.torn_ppm = 1000000, .flags = fails ? CC_DISK_TORN_FAILS : 0});
            CHECK_EQ(put(m, 4, 24, 2), fails);
            unsigned end = 4;
            while (end < 28 && get(m, end) == 2)
                end++;
            CHECK(end == 4 || (end % 8 == 0 && end < 28));
            seen |= 1u << end / 8;
            for (unsigned n = end; n < 28; n++)
                CHECK_EQ(get(m, n), 1);
        }
        CHECK_EQ(seen, 0xF);
    }
    cc_machine_free(m);
}

static void a_torn_write_within_a_block_changes_nothing(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    put(m, 8, 8, 1);
    set(m, (cc_disk_faults){.torn_ppm = 1000000, .flags = CC_DISK_TORN_FAILS});
    for (unsigned i = 0; i < 50; i++)
        CHECK_EQ(put(m, 8 + i % 8, 8 - i % 8, 2), 1);
    for (unsigned n = 8; n < 16; n++)
        CHECK_EQ(get(m, n), 1);
    CHECK_EQ(stats(m).faults, 50);
    cc_machine_free(m);
}

static unsigned bits_set(const uint8_t *p, size_t size)
{
    unsigned n = 0;
    for (size_t i = 0; i < size; i++)
        n += (unsigned)__builtin_popcount(p[i]);
    return n;
}

static void bits_are_flipped(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    set(m, (cc_disk_faults){.corrupt_read_ppm = 1000000});
    CHECK_EQ(blk_do(m, IN, 0, BUFFER, 4096), 0);
    CHECK_EQ(bits_set(m->ram + BUFFER, 4096), 1);
    CHECK_EQ(bits_set(cc_disk_at(m, 0), 4096), 0);
    set(m, (cc_disk_faults){.corrupt_write_ppm = 1000000});
    CHECK_EQ(put(m, 0, 8, 0), 0);
    CHECK_EQ(bits_set(cc_disk_at(m, 0), 4096), 1);
    set(m, (cc_disk_faults){0});
    CHECK_EQ(cc_disk_corrupt(m, 100, 2, 1), 0);
    CHECK_EQ(bits_set(cc_disk_at(m, 100), 1024), 1);
    CHECK_EQ(cc_disk_corrupt(m, SECTORS - 1, 2, 1), CC_EFAULT);
    CHECK_EQ(cc_disk_corrupt(m, 0, 0, 1), CC_EFAULT);
    cc_machine_free(m);
}

static void a_full_disk_takes_no_writes(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    set(m, (cc_disk_faults){.flags = CC_DISK_FULL_AT, .full_sector = 100});
    CHECK_EQ(put(m, 99, 1, 1), 0);
    CHECK_EQ(put(m, 99, 2, 2), 1);
    CHECK_EQ(put(m, 5000, 1, 2), 1);
    CHECK_EQ(get(m, 99), 1);
    set(m, (cc_disk_faults){.flags = CC_DISK_FULL_AFTER, .full_bytes = 1024});
    CHECK_EQ(put(m, 5000, 1, 1), 0);
    CHECK_EQ(put(m, 5001, 1, 1), 0);
    CHECK_EQ(put(m, 5002, 1, 1), 1);
    CHECK_EQ(blk_do(m, IN, 5002, BUFFER, 512), 0);
    cc_machine_free(m);
}

static void a_lying_disk_loses_what_it_said_it_kept(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    set(m, (cc_disk_faults){.lost_flush_ppm = 1000000});
    put(m, 0, 1, 1);
    CHECK_EQ(blk_do(m, FLUSH, 0, 0, 0), 0);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);
    CHECK_EQ(get(m, 0), 0);
    cc_machine_free(m);
}

/* Virtual time from submitting a write of a sector to its being answered. */
static uint64_t time_of_write(cc_machine *m)
{
    const uint16_t before = used_idx(m, CC_VIRTIO_BLK, 0);
    blk_submit(m, 0, OUT, 0, BUFFER, 512);
    const uint64_t from = cc_now(m), due = m->dev.ev_at[CC_EV_BLK];
    pass_over(m, due);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), (uint16_t)(before + 1));
    return due - from;
}

static void slow_disks_take_longer(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    CHECK_EQ(time_of_write(m), 30256);
    set(m, (cc_disk_faults){.slow_milli = 2500});
    CHECK_EQ(time_of_write(m), 75640);
    set(m, (cc_disk_faults){.spike_ppm = 1000000, .spike_ns = 5000000});
    CHECK_EQ(time_of_write(m), 5030256);
    set(m, (cc_disk_faults){0});
    CHECK_EQ(time_of_write(m), 30256);
    cc_machine_free(m);
}

static void wrong_faults_are_refused(void)
{
    const cc_disk_faults bad[] = {
        {.read_error_ppm = 1000001}, {.spike_ppm = UINT32_MAX}, {.flags = 8}, {.spike_ns = UINT64_MAX},
        {.slow_milli = UINT32_MAX}, {.first_sector = SECTORS + 1}, {.first_sector = 1, .sectors = SECTORS},
        {.first_sector = UINT64_MAX, .sectors = 2},
    };
    cc_machine *m = disk_machine(BLK_FLUSH);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(cc_disk_set_faults(m, &bad[i]) < 0);
        CHECK(strlen(cc_error(m)) > 10);
    }
    cc_disk_faults f;
    cc_disk_get_faults(m, &f);
    CHECK(!memcmp(&f, &(cc_disk_faults){0}, sizeof f));
    cc_machine_free(m);
}

/* Faults are drawn from the machine's stream: the same seed, the same faults; another seed, others. */
static void faults_follow_the_seed(void)
{
    cc_digest d[3];
    for (unsigned i = 0; i < 3; i++) {
        cc_machine *m = disk_machine(BLK_FLUSH);
        cc_reseed(m, i == 2 ? 6 : 5);
        set(m, (cc_disk_faults){.torn_ppm = 500000, .corrupt_write_ppm = 500000, .spike_ppm = 500000, .spike_ns = 9});
        for (unsigned j = 0; j < 40; j++)
            put(m, j, 4, (uint8_t)j);
        cc_digest_devices(m, &d[i]);
        cc_machine_free(m);
    }
    CHECK(same_digest(d[0], d[1]));
    CHECK(!same_digest(d[0], d[2]));
}

static void host_access_is_checked(void)
{
    cc_machine *m = disk_machine(BLK_FLUSH);
    uint8_t data[8192];
    memset(data, 5, sizeof data);
    CHECK_EQ(cc_disk_write(m, 4000, data, sizeof data), 0);
    memset(data, 0, sizeof data);
    CHECK_EQ(cc_disk_read(m, 4000, data, sizeof data), 0);
    CHECK(data[0] == 5 && data[8191] == 5);
    CHECK_EQ(cc_disk_read(m, DISK_BYTES - 8191, data, sizeof data), CC_EFAULT);
    CHECK_EQ(cc_disk_write(m, UINT64_MAX, data, 1), CC_EFAULT);
    CHECK_EQ(cc_disk_write(m, DISK_BYTES, data, 0), 0);
    CHECK_EQ(cc_disk_size(m), DISK_BYTES);
    cc_machine_free(m);
}

int main(void)
{
    RUN(a_flush_makes_writes_durable);
    RUN(a_driver_without_flush_gets_no_cache);
    RUN(keeping_all_keeps_all);
    RUN(a_random_crash_gives_any_version_of_any_block);
    RUN(a_torn_crash_keeps_a_prefix);
    RUN(a_torn_crash_cuts_between_blocks);
    RUN(a_full_log_makes_the_oldest_durable);
    RUN(crashes_lose_exactly_what_was_not_flushed);
    RUN(errors_befall_their_sectors);
    RUN(chances_are_per_million);
    RUN(torn_writes_stop_between_blocks);
    RUN(a_torn_write_within_a_block_changes_nothing);
    RUN(bits_are_flipped);
    RUN(a_full_disk_takes_no_writes);
    RUN(a_lying_disk_loses_what_it_said_it_kept);
    RUN(slow_disks_take_longer);
    RUN(wrong_faults_are_refused);
    RUN(faults_follow_the_seed);
    RUN(host_access_is_checked);
    cc_store_free(the_store);
    return 0;
}
