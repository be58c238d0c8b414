/*
 * test_virtio_hostile.c: drivers that break the rules.  Each violation alone makes its device need a reset and changes
 * nothing else; then a fuzzer drives every device, every register and every port with garbage that knows the formats.
 * CC_FUZZ_SECONDS: how long (default 10).  CC_FUZZ_SEED: where to start, and with CC_FUZZ_ROUNDS=1 to repeat one round.
 */
#include "virtio_driver.h"

#include "../pages.h"

#include <time.h>

#define BUFFER (DATA_GPA + 0x200000u)
#define BLK CC_VIRTIO_BLK

/* ==== single violations =========================================================================================== */
static void desc(cc_machine *m, uint16_t i, uint64_t addr, uint32_t len, unsigned flags, uint16_t next)
{
    set_desc(m, BLK, 0, i, (struct vdesc){addr, len, (uint16_t)flags, next});
}

static void table(cc_machine *m, uint64_t gpa, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
    const struct vdesc s = {addr, len, (uint16_t)flags, (uint16_t)next};
    poke(m, gpa + 16u * i, &s, sizeof s);
}

static void loop(cc_machine *m) { desc(m, 1, BUFFER, 512, NEXT, 0); }
static void self_loop(cc_machine *m) { desc(m, 0, request_at(0), 16, NEXT, 0); }
static void wild(cc_machine *m) { desc(m, 1, UINT64_C(1) << 40, 512, NEXT, 2); }
static void past_the_end(cc_machine *m) { desc(m, 1, m->cfg.ram_bytes - 511, 512, NEXT, 2); }
static void address_overflow(cc_machine *m) { desc(m, 1, UINT64_MAX - 100, 512, NEXT, 2); }
static void device_memory(cc_machine *m) { desc(m, 1, CC_VIRTIO_GPA, 512, NEXT, 2); }
static void aux_memory(cc_machine *m) { desc(m, 1, m->aux[CC_AUX_DISK].at, 512, NEXT, 2); }
static void no_length(cc_machine *m) { desc(m, 1, BUFFER, 0, NEXT, 2); }
static void next_outside(cc_machine *m) { desc(m, 0, request_at(0), 16, NEXT, 64); }

static void readable_after_writable(cc_machine *m)
{
    desc(m, 2, request_at(0) + 16, 1, NEXT | WRITE, 3);
    desc(m, 3, BUFFER, 1, 0, 0);
}

static void overlapping(cc_machine *m) { desc(m, 1, request_at(0) + 16, 512, NEXT | WRITE, 2); }
static void overlapping_header(cc_machine *m) { desc(m, 1, request_at(0) + 8, 8, NEXT | WRITE, 2); }
static void over_the_used_ring(cc_machine *m) { desc(m, 1, used_at(BLK, 0), 512, NEXT | WRITE, 2); }
static void over_the_descriptors(cc_machine *m) { desc(m, 1, desc_at(BLK, 0), 512, NEXT | WRITE, 2); }
static void over_the_available_ring(cc_machine *m) { desc(m, 1, avail_at(BLK, 0) - 511, 512, NEXT | WRITE, 2); }
static void unknown_flags(cc_machine *m) { desc(m, 1, BUFFER, 512, NEXT | 8, 2); }
static void short_header(cc_machine *m) { desc(m, 0, request_at(0), 15, NEXT, 2); }
static void no_status(cc_machine *m) { desc(m, 1, BUFFER, 512, 0, 0); }
static void index_jump(cc_machine *m) { poke16(m, avail_at(BLK, 0) + 2, 65); }
static void head_outside(cc_machine *m) { poke16(m, avail_at(BLK, 0) + 4, 64); }
static void twice(cc_machine *m) { offer(m, BLK, 0, 0); }

static void indirect(cc_machine *m, uint64_t addr, uint32_t len, unsigned flags)
{
    desc(m, 0, addr, len, INDIRECT_TABLE | flags, 1);
}

static void indirect_with_next(cc_machine *m) { indirect(m, BUFFER, 16, NEXT); }
static void indirect_empty(cc_machine *m) { indirect(m, BUFFER, 0, 0); }
static void indirect_odd(cc_machine *m) { indirect(m, BUFFER, 40, 0); }
static void indirect_wild(cc_machine *m) { indirect(m, m->cfg.ram_bytes - 16, 32, 0); }

static void indirect_nested(cc_machine *m)
{
    table(m, BUFFER, 0, BUFFER + 64, 16, INDIRECT_TABLE, 0);
    indirect(m, BUFFER, 16, 0);
}

static void indirect_loop(cc_machine *m)
{
    table(m, BUFFER, 0, BUFFER, 8, NEXT, 0);
    indirect(m, BUFFER, 32, 0);
}

static void too_long(cc_machine *m)
{
    for (unsigned i = 0; i < 300; i++)
        table(m, BUFFER, i, BUFFER + 0x10000 + i, 1, i < 299 ? NEXT : 0, i + 1);
    indirect(m, BUFFER, 300 * 16, 0);
}

static void too_large(cc_machine *m)
{
    for (unsigned i = 0; i < 256; i++)
        table(m, BUFFER, i, 0, (uint32_t)m->cfg.ram_bytes, i < 255 ? NEXT : 0, i + 1);
    indirect(m, BUFFER, 256 * 16, 0);
}

static void each_violation_only_breaks_its_device(void)
{
    static const struct { const char *name; void (*break_it)(cc_machine *m); } all[] = {
#define V(f) {#f, f}
        V(loop), V(self_loop), V(wild), V(past_the_end), V(address_overflow), V(device_memory), V(aux_memory),
        V(no_length), V(next_outside), V(readable_after_writable), V(overlapping), V(overlapping_header),
        V(over_the_used_ring), V(over_the_descriptors), V(over_the_available_ring), V(unknown_flags), V(short_header),
        V(no_status), V(index_jump), V(head_outside), V(twice), V(indirect_with_next), V(indirect_empty),
        V(indirect_odd), V(indirect_wild), V(indirect_nested), V(indirect_loop), V(too_long), V(too_large),
#undef V
    };
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    static struct cc_devstate dev;
    uint8_t *before = malloc(m->npages << CC_PAGE_SHIFT);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        CHECK(start_device(m, BLK, VERSION_1 | INDIRECT, 1, 64));
        blk_prepare(m, 0, OUT, 0, BUFFER, 512);
        offer(m, BLK, 0, 0);
        all[i].break_it(m);
        const bool begun = all[i].break_it == twice;         /* the first of them is well */
        memcpy(before, m->ram, m->npages << CC_PAGE_SHIFT);
        dev = m->dev;
        kick(m, BLK, 0);
        if (reg_read(m, BLK, 0x070) != (15 | 64)) {
            fprintf(stderr, "%s does not break the device\n", all[i].name);
            abort();
        }
        CHECK_EQ(reg_read(m, BLK, 0x060), 2);
        pass_to(m, cc_now(m) + MS);
        kick(m, BLK, 0);
        CHECK(!memcmp(before, m->ram, m->npages << CC_PAGE_SHIFT));
        CHECK_EQ(m->dev.blk.count, 0);
        if (!begun)
            CHECK(!memcmp(&dev.blk, &m->dev.blk, sizeof dev.blk));
        CHECK(!memcmp(&dev.disk, &m->dev.disk, sizeof dev.disk));
        CHECK(!memcmp(&dev.virtio[1], &m->dev.virtio[1], 4 * sizeof dev.virtio[1]));
        char line[65536];
        CHECK(cc_log_take(m, line, sizeof line) > 0);
    }
    free(before);
    cc_machine_free(m);
}

static void a_request_changed_in_flight_breaks_the_device(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    for (unsigned i = 0; i < 3; i++) {
        CHECK(start_device(m, BLK, VERSION_1, 1, 64));
        fill(m, BUFFER, 512, 3);
        blk_submit(m, 0, OUT, 8, BUFFER, 512);
        const uint64_t sector = 9;
        if (i == 0)
            poke(m, request_at(0) + 8, &sector, 8);
        if (i == 1)
            desc(m, 1, BUFFER, 1024, NEXT, 2);
        if (i == 2)
            desc(m, 1, UINT64_MAX, 512, NEXT, 2);
        pass_over(m, cc_now(m) + MS);
        CHECK_EQ(reg_read(m, BLK, 0x070), 15 | 64);
        CHECK_EQ(used_idx(m, BLK, 0), 0);
        CHECK_EQ(cc_disk_at(m, 8)[0] | cc_disk_at(m, 9)[0], 0);
    }
    cc_machine_free(m);
}

/* ==== fuzzing ===================================================================================================== */
struct fuzz { cc_machine *m; uint64_t seed; };

static uint64_t draw(struct fuzz *f, uint64_t n)
{
    return rnd(&f->seed) % n;
}

static bool one_in(struct fuzz *f, unsigned n)
{
    return draw(f, n) == 0;
}

static uint64_t some_address(struct fuzz *f)
{
    const uint64_t ram = f->m->cfg.ram_bytes;
    const unsigned d = (unsigned)draw(f, CC_VIRTIO_COUNT);
    switch (draw(f, 16)) {
    case 0: return rnd(&f->seed);
    case 1: return ram - draw(f, 4096);
    case 2: return ram + draw(f, 1u << 24);
    case 3: return UINT64_MAX - draw(f, 4096);
    case 4: return CC_VIRTIO_GPA + draw(f, 0x6000);
    case 5: return desc_at(d, (unsigned)draw(f, 2)) + draw(f, 0x9000);
    case 6: return draw(f, 0x1000);
    default: return BUFFER + draw(f, 64) * 0x1000 + (one_in(f, 4) ? draw(f, 4096) : 0);
    }
}

static uint32_t some_length(struct fuzz *f)
{
    switch (draw(f, 12)) {
    case 0: return 0;
    case 1: return (uint32_t)rnd(&f->seed);
    case 2: return (uint32_t)draw(f, 1u << 20);
    case 3: return 1;
    case 4: return 16;
    case 5: return 12;
    default: return 512u * (1 + (uint32_t)draw(f, 8));
    }
}

static uint32_t some_word(struct fuzz *f)
{
    return one_in(f, 3) ? (uint32_t)rnd(&f->seed) : one_in(f, 2) ? (uint32_t)draw(f, 256) : 1u << draw(f, 32);
}

static void wild_descriptor(struct fuzz *f, uint64_t gpa)
{
    static const uint16_t usual[] = {0, NEXT, WRITE, NEXT | WRITE, NEXT, NEXT | WRITE, WRITE, INDIRECT_TABLE};
    const struct vdesc s = {
        some_address(f), some_length(f),
        one_in(f, 12) ? (uint16_t)rnd(&f->seed) : usual[draw(f, 8)],
        one_in(f, 20) ? (uint16_t)rnd(&f->seed) : (uint16_t)draw(f, 16),
    };
    poke(f->m, gpa, &s, sizeof s);
}

static unsigned queues_of(unsigned d)
{
    return d == BLK || d == CC_VIRTIO_RNG ? 1 : 2;
}

/* A broken device does nothing more: most of the time it is well again soon. */
static void revive(struct fuzz *f, unsigned d)
{
    if (!cc_virtio_live(f->m, d) && one_in(f, 3))
        start_device(f->m, d, VERSION_1 | (rnd(&f->seed) & (EVENT_IDX | INDIRECT)), queues_of(d), 16);
}

static void wild_request(struct fuzz *f)
{
    revive(f, BLK);
    static const uint32_t types[] = {IN, OUT, IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES, 99};
    const uint16_t head = (uint16_t)(3 * draw(f, 5));
    const uint32_t size = one_in(f, 4) ? some_length(f) : 512u * (uint32_t)draw(f, 32);
    const uint64_t sector = one_in(f, 8) ? rnd(&f->seed) : draw(f, DISK_BYTES / 512);
    blk_prepare(f->m, head, types[draw(f, 9)], sector, BUFFER + draw(f, 64) * 0x1000, size);
    if (one_in(f, 8))
        wild_descriptor(f, desc_at(BLK, 0) + 16u * draw(f, 16));
    offer(f->m, BLK, 0, head);
}

static void offer_something(struct fuzz *f)
{
    const unsigned d = (unsigned)draw(f, CC_VIRTIO_COUNT), q = (unsigned)draw(f, 2);
    revive(f, d);
    if (!f->m->dev.virtio[d].vq[q].num)
        return;
    uint16_t head = (uint16_t)(one_in(f, 20) ? rnd(&f->seed) : draw(f, 3));
    for (unsigned i = 0; i < draw(f, 6); i++)
        wild_descriptor(f, desc_at(d, q) + 16u * draw(f, 16));
    /* One of two parts that the devices take: to be read, and to be written. */
    if (!one_in(f, 3)) {
        const uint32_t size = one_in(f, 4) ? some_length(f) : 100;
        static const uint8_t no_header[12];
        poke(f->m, BUFFER, no_header, sizeof no_header);
        set_desc(f->m, d, q, 0, (struct vdesc){BUFFER, size, 0, 0});
        set_desc(f->m, d, q, 1, (struct vdesc){BUFFER + 0x1000, 2048, WRITE, 0});
        head = d == CC_VIRTIO_RNG || ((d == CC_VIRTIO_NET || d == CC_VIRTIO_CONSOLE) && q == 0);
    }
    offer(f->m, d, q, head);
    if (one_in(f, 40))
        poke16(f->m, avail_at(d, q) + 2, (uint16_t)rnd(&f->seed));
    if (one_in(f, 8))
        poke16(f->m, avail_at(d, q), (uint16_t)draw(f, 3));
    if (!one_in(f, 4))
        kick(f->m, d, q);
}

static void set_up_something(struct fuzz *f)
{
    const unsigned d = (unsigned)draw(f, CC_VIRTIO_COUNT);
    const uint64_t features = VERSION_1 | (rnd(&f->seed) & (EVENT_IDX | INDIRECT | BLK_FLUSH));
    const uint64_t offered = d == BLK ? features : features & ~BLK_FLUSH;
    start_device(f->m, d, one_in(f, 10) ? rnd(&f->seed) : offered, 2, one_in(f, 10) ? (uint16_t)draw(f, 300) : 16);
}

static void touch_registers(struct fuzz *f)
{
    const uint64_t gpa = CC_VIRTIO_GPA + draw(f, 0x6000) / (one_in(f, 4) ? 1 : 4) * (one_in(f, 4) ? 1 : 4);
    const uint64_t low = CC_VIRTIO_GPA + draw(f, CC_VIRTIO_COUNT) * CC_VIRTIO_WINDOW + draw(f, 0x50) * 4;
    const unsigned size = 1u << draw(f, 4);
    if (one_in(f, 3))
        cc_mmio_read(f->m, one_in(f, 2) ? gpa : low, size);
    else if (one_in(f, 2))
        cc_mmio_write(f->m, gpa, size, rnd(&f->seed));
    else
        cc_mmio_write(f->m, low, 4, some_word(f));
}

static void touch_ports(struct fuzz *f)
{
    static const uint16_t known[] = {0x3F8, 0x20, 0xA0, 0x40, 0x43, 0x61, 0x70, 0x60, 0x64, 0x4D0, 0x510, 0x511, 0x92};
    const uint16_t port = one_in(f, 2) ? (uint16_t)rnd(&f->seed) : (uint16_t)(known[draw(f, 13)] + draw(f, 4));
    const unsigned size = 1u << draw(f, 3);
    if (port == 0x510)
        fill(f->m, 0xFE000, 4096, rnd(&f->seed));
    if (one_in(f, 2))
        cc_io_read(f->m, port, size);
    else
        cc_io_write(f->m, port, size, some_word(f));
}

/* What the host may do at any moment. */
static void be_the_host(struct fuzz *f)
{
    cc_machine *m = f->m;
    uint8_t data[CC_FRAME_BYTES_MAX] = {0};
    const struct cc_frame frame = {
        .vns = cc_now(m) + draw(f, 100000), .size = 14 + (uint32_t)draw(f, 1500), .data = data,
    };
    const cc_disk_faults faults = {
        .flags = (uint32_t)draw(f, 8),
        .read_error_ppm = (uint32_t)draw(f, 400000), .torn_ppm = (uint32_t)draw(f, 400000),
        .corrupt_write_ppm = (uint32_t)draw(f, 400000), .corrupt_read_ppm = (uint32_t)draw(f, 400000),
        .lost_flush_ppm = (uint32_t)draw(f, 1000000),
        .spike_ppm = (uint32_t)draw(f, 1000000), .spike_ns = draw(f, 1000000),
        .full_sector = draw(f, 20000), .full_bytes = draw(f, 1u << 20), .slow_milli = (uint32_t)draw(f, 3000),
    };
    switch (draw(f, 8)) {
    case 0: case 1: case 2: (void)cc_inbox_push(m, &frame); break;
    case 3: cc_agent_send(m, data, draw(f, sizeof data)); break;
    case 4: cc_balloon_set(m, (uint32_t)draw(f, 5000)); break;
    case 5: cc_net_set_link(m, !one_in(f, 3)); break;
    case 6: cc_disk_set_faults(m, &faults); break;
    default: cc_disk_crash(m, (uint32_t)draw(f, 5), rnd(&f->seed)); break;
    }
}

static void let_time_pass(struct fuzz *f)
{
    cc_machine *m = f->m;
    const cc_until until = {no_limit(), cc_now(m) + draw(f, 200000), no_limit(), (uint32_t)draw(f, 8), 0};
    cc_stop stop;
    guest_of(m)->halted = true;
    CHECK_EQ(cc_run(m, &until, &stop), 0);
    if (m->dev.dead_kind != CC_STOP_NONE)
        cc_devices_reset(m);
}

static void step(struct fuzz *f)
{
    switch (draw(f, 16)) {
    case 0: set_up_something(f); break;
    case 1: case 2: case 3: wild_request(f); kick(f->m, BLK, 0); break;
    case 4: case 5: case 6: case 7: case 8: offer_something(f); break;
    case 9: case 10: touch_registers(f); break;
    case 11: case 12: touch_ports(f); break;
    case 13: be_the_host(f); break;
    default: let_time_pass(f); break;
    }
}

/* That the garbage gets deep enough: requests that were answered, frames that went through, devices that broke. */
static struct { uint64_t disk, frames, broken; } reached;

static void count_reached(const cc_machine *m)
{
    const cc_disk_stats *k = &m->dev.disk.stats;
    const cc_net_counters *c = &m->dev.net.counters;
    reached.disk += k->reads + k->writes + k->flushes + k->discards;
    reached.frames += c->tx_frames + c->rx_frames;
    for (unsigned d = 0; d < CC_VIRTIO_COUNT; d++)
        reached.broken += m->dev.virtio[d].status >> 6 & 1;
}

/* A round on a machine of its own.  Changes that did not go through the dirty lists would show in the digest. */
static cc_digest fuzz_round(uint64_t seed, unsigned steps, bool snapshots)
{
    struct fuzz f = {new_virtio_machine(CC_DEV_ALL, seed), seed};
    cc_snapshot *s = NULL;
    for (unsigned d = 0; d < CC_VIRTIO_COUNT; d++)
        CHECK(start_device(f.m, d, VERSION_1 | INDIRECT | (seed & 1 ? EVENT_IDX : 0), queues_of(d), 16));
    for (unsigned i = 0; i < steps; i++) {
        step(&f);
        if (i == steps / 2 && snapshots) {
            CHECK_EQ(cc_snapshot_take(f.m, &s), 0);
            cc_machine_free(f.m);
            f.m = new_virtio_machine(CC_DEV_ALL, seed);
            CHECK_EQ(cc_snapshot_restore(f.m, s), 0);
        }
    }
    const cc_digest d = digest_of(f.m);
    count_reached(f.m);
    if (snapshots) {
        cc_digest scratch;
        cc_digest_from_scratch(f.m, &scratch);
        CHECK(same_digest(d, scratch));
        cc_snapshot_free(s);
    }
    cc_machine_free(f.m);
    return d;
}

/* The well-behaved machine beside them: an innocent load, a bit more of it each time. */
static void live_on(cc_machine *m, unsigned round)
{
    fill(m, BUFFER, 4096, round);
    CHECK_EQ(blk_do(m, OUT, round * 8 % 8000, BUFFER, 4096), 0);
    CHECK_EQ(blk_do(m, IN, round * 8 % 8000, BUFFER + 0x1000, 4096), 0);
    CHECK(!memcmp(m->ram + BUFFER, m->ram + BUFFER + 0x1000, 4096));
}

static cc_machine *innocent(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 77);
    CHECK(start_device(m, BLK, VERSION_1 | BLK_FLUSH, 1, 16));
    return m;
}

static uint64_t option(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void garbage_harms_nobody(void)
{
    const uint64_t first = option("CC_FUZZ_SEED", 1), rounds = option("CC_FUZZ_ROUNDS", UINT64_MAX);
    const time_t end = time(NULL) + (time_t)option("CC_FUZZ_SECONDS", 10);
    cc_machine *beside = innocent(), *alone = innocent();
    uint64_t n = 0;
    for (; n < rounds && time(NULL) < end; n++) {
        const uint64_t seed = first + n;
        if (rounds == 1)
            printf("seed %llu\n", (unsigned long long)seed);
        const cc_digest d = fuzz_round(seed, 600, false);
        if (n % 8 == 0 && !same_digest(d, fuzz_round(seed, 600, true))) {
            fprintf(stderr, "seed %llu: another digest with a snapshot\n", (unsigned long long)seed);
            abort();
        }
        live_on(beside, (unsigned)n);
    }
    for (unsigned i = 0; i < n; i++)
        live_on(alone, i);
    CHECK(same_digest(digest_of(beside), digest_of(alone)));
    printf("%llu rounds of 600 steps: %llu disk requests, %llu frames, %llu broken devices\n", (unsigned long long)n,
           (unsigned long long)reached.disk, (unsigned long long)reached.frames, (unsigned long long)reached.broken);
    CHECK(rounds == 1 || (reached.disk > 4 * n && reached.frames > 2 * n && reached.broken > n / 4));
    cc_machine_free(beside);
    cc_machine_free(alone);
}

int main(void)
{
    RUN(each_violation_only_breaks_its_device);
    RUN(a_request_changed_in_flight_breaks_the_device);
    RUN(garbage_harms_nobody);
    cc_store_free(the_store);
    return 0;
}
