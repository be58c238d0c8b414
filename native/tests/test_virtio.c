/* test_virtio.c: the virtio-mmio transport, and each device as a proper driver sees it. */
#include "virtio_driver.h"

#define BUFFER (DATA_GPA + 0x200000u)

/* ==== registers =================================================================================================== */
static void devices_say_what_they_are(void)
{
    static const uint32_t ids[CC_VIRTIO_COUNT] = {2, 1, 4, 5, 3};
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    for (unsigned d = 0; d < CC_VIRTIO_COUNT; d++) {
        CHECK_EQ(reg_read(m, d, 0x000), 0x74726976);
        CHECK_EQ(reg_read(m, d, 0x004), 2);
        CHECK_EQ(reg_read(m, d, 0x008), ids[d]);
        reg_write(m, d, 0x014, 1);
        CHECK_EQ(reg_read(m, d, 0x010), 1);          /* VIRTIO_F_VERSION_1 */
        reg_write(m, d, 0x014, 2);
        CHECK_EQ(reg_read(m, d, 0x010), 0);
        CHECK_EQ(reg_read(m, d, 0x0B0), UINT32_MAX);  /* no shared memory */
        reg_write(m, d, 0x030, 2);
        CHECK_EQ(reg_read(m, d, 0x034), 0);          /* no third queue */
        reg_write(m, d, 0x030, 0);
        CHECK(reg_read(m, d, 0x034) >= 64);
        CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + d * CC_VIRTIO_WINDOW, 2), 0);   /* registers are words */
        CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + d * CC_VIRTIO_WINDOW, 8), 0);
    }
    CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + 5 * CC_VIRTIO_WINDOW, 4), UINT32_MAX);
    CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + CC_VIRTIO_WINDOW - 4, 8), UINT64_MAX);   /* half outside */
    cc_machine_free(m);
}

static void absent_devices_are_not_there(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_RNG, 1);
    CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0), UINT32_MAX);
    reg_write(m, CC_VIRTIO_BLK, 0x070, 1);
    CHECK_EQ(m->dev.virtio[CC_VIRTIO_BLK].status, 0);
    CHECK_EQ(reg_read(m, CC_VIRTIO_RNG, 0), 0x74726976);
    CHECK_EQ(cc_disk_size(m), 0);
    uint8_t byte = 0;
    cc_disk_faults faults = {0};
    CHECK_EQ(cc_disk_read(m, 0, &byte, 1), CC_EINVAL);
    CHECK_EQ(cc_disk_set_faults(m, &faults), CC_EINVAL);
    CHECK_EQ(cc_disk_crash(m, 0, 0), CC_EINVAL);
    CHECK_EQ(cc_disk_corrupt(m, 0, 1, 1), CC_EINVAL);
    CHECK_EQ(cc_net_set_link(m, false), CC_EINVAL);
    CHECK_EQ(cc_balloon_set(m, 1), CC_EINVAL);
    CHECK_EQ(cc_agent_send(m, &byte, 1), 0);
    cc_machine_free(m);
}

static void only_offered_features_are_accepted(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1, 1, 8));
    CHECK(!start_device(m, CC_VIRTIO_BLK, 0, 1, 8));
    CHECK(!start_device(m, CC_VIRTIO_BLK, VERSION_1 | UINT64_C(1) << 34, 1, 8));
    reg_write(m, CC_VIRTIO_BLK, 0x070, 15);                  /* DRIVER_OK in spite of it */
    CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x070), 3);
    CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1, 1, 8));
    reg_write(m, CC_VIRTIO_BLK, 0x020, UINT32_MAX);          /* too late */
    CHECK_EQ(m->dev.virtio[CC_VIRTIO_BLK].driver_features, VERSION_1);
    cc_machine_free(m);
}

static void queues_are_checked_when_made_ready(void)
{
    static const struct { uint32_t reg, value; } bad[] = {
        {0x038, 0}, {0x038, 3}, {0x038, 4096}, {0x038, 0x10000}, {0x080, RING_GPA + 8}, {0x090, RING_GPA + 0x4001},
        {0x0A0, RING_GPA + 0x8002}, {0x080, 0xFFFFF0}, {0x084, 1}, {0x094, 0xFFFFFFFF}, {0x0A0, 0xFFFFFC},
        {0x0A0, RING_GPA}, {0x0A0, RING_GPA + 0x4000},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cc_machine *m = new_virtio_machine(CC_DEV_BLK, 1);
        CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1, 1, 8));
        reg_write(m, CC_VIRTIO_BLK, 0x044, 0);
        CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x044), 0);
        reg_write(m, CC_VIRTIO_BLK, bad[i].reg, bad[i].value);
        reg_write(m, CC_VIRTIO_BLK, 0x044, 1);
        CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x044), 0);
        CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x070), 15 | 64);
        CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x060), 2);
        CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1, 1, 8));      /* a reset makes it well again */
        CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x060), 0);
        cc_machine_free(m);
    }
}

/* ==== interrupts ================================================================================================== */
static unsigned line(const cc_machine *m, unsigned irq)
{
    return m->dev.pic[irq >> 3].lines >> (irq & 7) & 1;
}

static void the_line_follows_the_status(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    CHECK(start_device(m, CC_VIRTIO_RNG, VERSION_1, 1, 8));
    set_desc(m, CC_VIRTIO_RNG, 0, 0, (struct vdesc){BUFFER, 16, WRITE, 0});
    offer(m, CC_VIRTIO_RNG, 0, 0);
    kick(m, CC_VIRTIO_RNG, 0);
    CHECK_EQ(reg_read(m, CC_VIRTIO_RNG, 0x060), 1);
    CHECK_EQ(line(m, 7), 1);
    reg_write(m, CC_VIRTIO_RNG, 0x064, 1);
    CHECK_EQ(reg_read(m, CC_VIRTIO_RNG, 0x060), 0);
    CHECK_EQ(line(m, 7), 0);
    cc_machine_free(m);
}

/* On an edge-triggered input, a second cause that comes up while the first is being handled. */
static void no_interrupt_is_lost_between_two_causes(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    CHECK(start_device(m, CC_VIRTIO_BALLOON, VERSION_1, 2, 8));
    uint32_t pfn = BUFFER >> 12;
    poke(m, DATA_GPA, &pfn, 4);
    set_desc(m, CC_VIRTIO_BALLOON, 0, 0, (struct vdesc){DATA_GPA, 4, 0, 0});
    offer(m, CC_VIRTIO_BALLOON, 0, 0);
    kick(m, CC_VIRTIO_BALLOON, 0);
    CHECK(cc_pic_pending(m));
    CHECK_EQ(cc_pic_ack(m), 0x38 + 1);
    const uint32_t seen = reg_read(m, CC_VIRTIO_BALLOON, 0x060);
    CHECK_EQ(seen, 1);
    CHECK_EQ(cc_balloon_set(m, 5), 0);
    reg_write(m, CC_VIRTIO_BALLOON, 0x064, seen);
    out8(m, 0xA0, 0x20);
    out8(m, 0x20, 0x20);
    CHECK(cc_pic_pending(m));
    CHECK_EQ(reg_read(m, CC_VIRTIO_BALLOON, 0x060), 2);
    cc_machine_free(m);
}

static void rng_once(cc_machine *m)
{
    set_desc(m, CC_VIRTIO_RNG, 0, 0, (struct vdesc){BUFFER, 16, WRITE, 0});
    offer(m, CC_VIRTIO_RNG, 0, 0);
    kick(m, CC_VIRTIO_RNG, 0);
}

static void interrupts_are_suppressed_on_request(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 1);
    CHECK(start_device(m, CC_VIRTIO_RNG, VERSION_1, 1, 8));
    poke16(m, avail_at(CC_VIRTIO_RNG, 0), 1);                /* VIRTQ_AVAIL_F_NO_INTERRUPT */
    rng_once(m);
    CHECK_EQ(used_idx(m, CC_VIRTIO_RNG, 0), 1);
    CHECK_EQ(reg_read(m, CC_VIRTIO_RNG, 0x060), 0);
    CHECK(start_device(m, CC_VIRTIO_RNG, VERSION_1 | EVENT_IDX, 1, 8));
    const uint64_t used_event = avail_at(CC_VIRTIO_RNG, 0) + 4 + 2 * 8;
    const uint64_t avail_event = used_at(CC_VIRTIO_RNG, 0) + 4 + 8 * 8;
    poke16(m, used_event, 2);                                /* after the third */
    rng_once(m);                                             /* the first decision is always to interrupt */
    reg_write(m, CC_VIRTIO_RNG, 0x064, 1);
    CHECK_EQ(mem16(m, avail_event), 1);
    rng_once(m);
    CHECK_EQ(reg_read(m, CC_VIRTIO_RNG, 0x060), 0);
    rng_once(m);
    CHECK_EQ(reg_read(m, CC_VIRTIO_RNG, 0x060), 1);
    CHECK_EQ(mem16(m, avail_event), 3);
    cc_machine_free(m);
}

static void the_indices_wrap_around(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_RNG, 1);
    CHECK(start_device(m, CC_VIRTIO_RNG, VERSION_1 | EVENT_IDX, 1, 2));
    for (unsigned i = 1; i <= 70000; i++) {
        poke16(m, avail_at(CC_VIRTIO_RNG, 0) + 4 + 2 * 2, (uint16_t)(i - 1));
        rng_once(m);
        CHECK_EQ(used_idx(m, CC_VIRTIO_RNG, 0), (uint16_t)i);
        CHECK_EQ(m->dev.virtio[CC_VIRTIO_RNG].interrupt, 1);
        reg_write(m, CC_VIRTIO_RNG, 0x064, 1);
    }
    cc_machine_free(m);
}

/* ==== disk ======================================================================================================== */
static cc_machine *disk_machine(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_ALL, 7);
    CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1 | BLK_FLUSH | INDIRECT, 1, 64));
    return m;
}

static void a_write_takes_effect_when_it_is_done(void)
{
    cc_machine *m = disk_machine();
    static uint8_t got[4096], zeros[4096];
    fill(m, BUFFER, 4096, 1);
    const uint64_t at = cc_now(m);
    blk_submit(m, 0, OUT, 100, BUFFER, 4096);
    pass_to(m, at + 30000 + 2048);
    CHECK_EQ(cc_disk_read(m, 51200, got, 4096), 0);
    CHECK(!memcmp(got, zeros, 4096));
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), 0);
    pass_over(m, at + 30000 + 2048);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), 1);
    CHECK_EQ(mem32(m, used_at(CC_VIRTIO_BLK, 0) + 8), 1);
    CHECK_EQ(blk_status(m, 0), 0);
    CHECK_EQ(cc_disk_read(m, 51200, got, 4096), 0);
    CHECK(!memcmp(got, m->ram + BUFFER, 4096));
    CHECK_EQ(blk_do(m, IN, 100, BUFFER + 0x10000, 4096), 0);
    CHECK(!memcmp(got, m->ram + BUFFER + 0x10000, 4096));
    CHECK_EQ(mem32(m, used_at(CC_VIRTIO_BLK, 0) + 4 + 8 + 4), 4097);
    cc_machine_free(m);
}

static void several_requests_are_in_flight(void)
{
    cc_machine *m = disk_machine();
    fill(m, BUFFER, 65536, 2);
    const uint64_t at = cc_now(m);
    blk_submit(m, 0, OUT, 0, BUFFER, 65536);                 /* the slow one first */
    blk_submit(m, 3, OUT, 1000, BUFFER, 512);
    blk_submit(m, 6, OUT, 2000, BUFFER, 512);
    CHECK_EQ(m->dev.blk.count, 3);
    pass_over(m, at + 30256);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), 2);
    CHECK_EQ(mem32(m, used_at(CC_VIRTIO_BLK, 0) + 4), 3);    /* equal times: in order */
    CHECK_EQ(mem32(m, used_at(CC_VIRTIO_BLK, 0) + 12), 6);
    pass_over(m, at + 30000 + 32768);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), 3);
    CHECK_EQ(m->dev.blk.count, 0);
    CHECK_EQ(m->dev.ev_at[CC_EV_BLK], CC_NEVER);
    cc_machine_free(m);
}

static void errors_are_reported_by_status(void)
{
    cc_machine *m = disk_machine();
    const uint64_t last = DISK_BYTES / 512 - 1;
    CHECK_EQ(blk_do(m, IN, last, BUFFER, 512), 0);
    CHECK_EQ(blk_do(m, IN, last, BUFFER, 1024), 1);
    CHECK_EQ(blk_do(m, OUT, last + 1, BUFFER, 512), 1);
    CHECK_EQ(blk_do(m, OUT, UINT64_MAX, BUFFER, 512), 1);
    CHECK_EQ(blk_do(m, IN, 0, BUFFER, 511), 1);
    CHECK_EQ(blk_do(m, 99, 0, BUFFER, 512), 2);
    CHECK_EQ(blk_do(m, FLUSH, 0, 0, 0), 0);
    CHECK_EQ(blk_do(m, GET_ID, 0, BUFFER, 20), 0);
    CHECK(!strcmp((const char *)m->ram + BUFFER, "cc-disk-3"));
    CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x070), 15);
    cc_disk_stats s;
    cc_disk_get_stats(m, &s);
    CHECK_EQ(s.errors, 5);
    CHECK_EQ(s.flushes, 1);
    cc_machine_free(m);
}

static void discarded_sectors_are_zero(void)
{
    const struct { uint64_t sector; uint32_t sectors, flags; } r[2] = {{3, 10, 0}, {100, 8, 0}}, bad = {0, 8, 2};
    for (unsigned type = DISCARD; type <= ZEROES; type += 2) {
        cc_machine *m = disk_machine();
        static uint8_t all[65536], got[65536];
        memset(all, 0xAB, sizeof all);
        CHECK_EQ(cc_disk_write(m, 0, all, sizeof all), 0);
        poke(m, BUFFER, r, sizeof r);
        CHECK_EQ(blk_do(m, type, 0, BUFFER, sizeof r), 0);
        memset(all + 3 * 512, 0, 10 * 512);
        memset(all + 100 * 512, 0, 8 * 512);
        CHECK_EQ(cc_disk_read(m, 0, got, sizeof got), 0);
        CHECK(!memcmp(all, got, sizeof all));
        poke(m, BUFFER, &bad, sizeof bad);
        CHECK_EQ(blk_do(m, type, 0, BUFFER, 16), 2);
        CHECK_EQ(blk_do(m, type, 0, BUFFER, 8), 1);
        CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);          /* a discard can be lost as well */
        memset(all, 0xAB, sizeof all);
        CHECK_EQ(cc_disk_read(m, 0, got, sizeof got), 0);
        CHECK(!memcmp(all, got, sizeof all));
        cc_machine_free(m);
    }
}

static void indirect_tables_work(void)
{
    cc_machine *m = disk_machine();
    fill(m, BUFFER, 1024, 5);
    blk_prepare(m, 0, OUT, 8, BUFFER, 1024);
    static struct vdesc table[3];
    memcpy(table, m->ram + desc_at(CC_VIRTIO_BLK, 0), sizeof table);
    poke(m, BUFFER + 0x8000, table, sizeof table);
    set_desc(m, CC_VIRTIO_BLK, 0, 9, (struct vdesc){BUFFER + 0x8000, sizeof table, INDIRECT_TABLE, 0});
    offer(m, CC_VIRTIO_BLK, 0, 9);
    kick(m, CC_VIRTIO_BLK, 0);
    pass_over(m, cc_now(m) + MS);
    CHECK_EQ(blk_status(m, 0), 0);
    CHECK(!memcmp(cc_disk_at(m, 8), m->ram + BUFFER, 1024));
    /* And without the feature they do not. */
    CHECK(start_device(m, CC_VIRTIO_BLK, VERSION_1, 1, 64));
    set_desc(m, CC_VIRTIO_BLK, 0, 9, (struct vdesc){BUFFER + 0x8000, sizeof table, INDIRECT_TABLE, 0});
    offer(m, CC_VIRTIO_BLK, 0, 9);
    kick(m, CC_VIRTIO_BLK, 0);
    CHECK_EQ(reg_read(m, CC_VIRTIO_BLK, 0x070) & 64, 64);
    cc_machine_free(m);
}

static void a_reset_forgets_requests_in_flight(void)
{
    cc_machine *m = disk_machine();
    fill(m, BUFFER, 512, 5);
    blk_submit(m, 0, OUT, 8, BUFFER, 512);
    reg_write(m, CC_VIRTIO_BLK, 0x070, 0);
    CHECK_EQ(m->dev.blk.count, 0);
    pass_over(m, cc_now(m) + MS);
    CHECK_EQ(cc_disk_at(m, 8)[0], 0);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BLK, 0), 0);
    cc_machine_free(m);
}

/* ==== snapshots =================================================================================================== */
/* Back to a snapshot with requests, frames and input on their way, and on again: always the same, on any machine. */
static void what_is_in_flight_is_part_of_snapshots(void)
{
    cc_machine *m = disk_machine(), *other = disk_machine();
    CHECK(start_device(m, CC_VIRTIO_NET, VERSION_1, 2, 16));
    CHECK(start_device(m, CC_VIRTIO_CONSOLE, VERSION_1, 2, 16));
    set_desc(m, CC_VIRTIO_NET, 0, 0, (struct vdesc){BUFFER + 0x20000, 2048, WRITE, 0});
    offer(m, CC_VIRTIO_NET, 0, 0);
    fill(m, BUFFER, 65536, 9);
    const cc_disk_faults faults = {
        .corrupt_write_ppm = 500000, .torn_ppm = 300000, .spike_ppm = 500000, .spike_ns = 7777,
    };
    CHECK_EQ(cc_disk_set_faults(m, &faults), 0);
    for (uint16_t i = 0; i < 16; i++)
        blk_submit(m, (uint16_t)(3 * i), i % 3 ? OUT : IN, 8u * i, BUFFER + 0x1000u * i, 512u * (1 + i % 8));
    const struct cc_frame f = {.vns = cc_now(m) + 40000, .src = 1, .size = 64, .data = m->ram + BUFFER};
    CHECK(cc_inbox_push(m, &f));
    CHECK_EQ(cc_agent_send(m, m->ram + BUFFER, 100), 100);
    pass_to(m, cc_now(m) + 30500);
    CHECK(m->dev.blk.count > 4 && m->dev.blk.count < 16);
    cc_snapshot *s;
    CHECK_EQ(cc_snapshot_take(m, &s), 0);
    const uint64_t end = cc_now(m) + MS;
    pass_to(m, end);
    const cc_digest first = digest_of(m);
    CHECK_EQ(m->dev.blk.count, 0);
    CHECK_EQ(m->dev.net.counters.rx_frames, 1);
    for (unsigned i = 0; i < 4; i++) {
        cc_machine *on = i % 2 ? other : m;
        CHECK_EQ(cc_snapshot_restore(on, s), 0);
        if (i > 1)
            pass_to(on, cc_now(on) + 700);
        pass_to(on, end);
        CHECK(same_digest(digest_of(on), first));
    }
    cc_snapshot_free(s);
    cc_machine_free(other);
    cc_machine_free(m);
}

static void a_machine_reset_leaves_the_disk_alone(void)
{
    cc_machine *m = disk_machine();
    fill(m, BUFFER, 512, 5);
    CHECK_EQ(blk_do(m, OUT, 8, BUFFER, 512), 0);
    blk_submit(m, 0, OUT, 16, BUFFER, 512);
    cc_devices_reset(m);
    CHECK_EQ(m->dev.blk.count, 0);
    CHECK_EQ(m->dev.virtio[CC_VIRTIO_BLK].status, 0);
    CHECK(!memcmp(cc_disk_at(m, 8), m->ram + BUFFER, 512));
    cc_disk_stats s;
    cc_disk_get_stats(m, &s);
    CHECK_EQ(s.unflushed_writes, 1);
    CHECK_EQ(cc_disk_crash(m, CC_CRASH_LOSE_ALL, 0), 0);
    CHECK_EQ(cc_disk_at(m, 8)[0], 0);
    cc_machine_free(m);
}

/* ==== entropy ===================================================================================================== */
static void entropy_is_the_machines_stream(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_RNG, 42);
    CHECK(start_device(m, CC_VIRTIO_RNG, VERSION_1, 1, 8));
    struct cc_stream s;
    cc_stream_seed(&s, 42);
    cc_stream_text(&s, "rng");
    for (unsigned i = 0; i < 20; i++) {
        uint8_t wanted[100];
        cc_stream_read(&s, wanted, sizeof wanted);
        set_desc(m, CC_VIRTIO_RNG, 0, 0, (struct vdesc){BUFFER, 60, WRITE | NEXT, 1});
        set_desc(m, CC_VIRTIO_RNG, 0, 1, (struct vdesc){BUFFER + 60, 40, WRITE, 0});
        offer(m, CC_VIRTIO_RNG, 0, 0);
        kick(m, CC_VIRTIO_RNG, 0);
        CHECK(!memcmp(m->ram + BUFFER, wanted, sizeof wanted));
    }
    cc_reseed(m, 43);
    cc_stream_seed(&s, 42);
    cc_stream_text(&s, "rng");
    cc_stream_number(&s, 43);
    uint8_t wanted[16];
    cc_stream_read(&s, wanted, sizeof wanted);
    rng_once(m);
    CHECK(!memcmp(m->ram + BUFFER, wanted, sizeof wanted));
    cc_machine_free(m);
}

/* ==== network ===================================================================================================== */
static void send_frame(cc_machine *m, uint32_t size)
{
    set_desc(m, CC_VIRTIO_NET, 1, 0, (struct vdesc){BUFFER, 12, NEXT, 1});
    set_desc(m, CC_VIRTIO_NET, 1, 1, (struct vdesc){BUFFER + 0x1000, size, 0, 0});
    offer(m, CC_VIRTIO_NET, 1, 0);
    kick(m, CC_VIRTIO_NET, 1);
}

static void frames_go_out(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_NET, 1);
    struct cc_frame f;
    CHECK(start_device(m, CC_VIRTIO_NET, VERSION_1, 2, 16));
    fill(m, BUFFER + 0x1000, 1600, 3);
    pass_to(m, 12345);
    send_frame(m, 1514);
    CHECK_EQ(used_idx(m, CC_VIRTIO_NET, 1), 1);
    CHECK(cc_outbox_first(m, &f));
    CHECK_EQ(f.vns, 12345);
    CHECK_EQ(f.src, 3);
    CHECK_EQ(f.size, 1514);
    CHECK(!memcmp(f.data, m->ram + BUFFER + 0x1000, 1514));
    cc_outbox_pop(m);
    send_frame(m, 13);                                       /* too short, too long, asking for an offload */
    send_frame(m, 1519);
    m->ram[BUFFER] = 1;
    send_frame(m, 100);
    m->ram[BUFFER] = 0;
    CHECK_EQ(cc_net_set_link(m, false), 0);
    CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + CC_VIRTIO_WINDOW + 0x106, 2), 0);
    send_frame(m, 100);
    CHECK_EQ(cc_net_set_link(m, true), 0);
    CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + CC_VIRTIO_WINDOW + 0x106, 2), 1);
    CHECK(!cc_outbox_first(m, &f));
    cc_net_counters c;
    cc_net_get_counters(m, &c);
    CHECK_EQ(c.tx_frames, 1);
    CHECK_EQ(c.tx_bytes, 1514);
    CHECK_EQ(c.tx_dropped, 4);
    CHECK_EQ(used_idx(m, CC_VIRTIO_NET, 1), 5);
    CHECK_EQ(reg_read(m, CC_VIRTIO_NET, 0x060), 3);          /* used, and the link's changes */
    CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + CC_VIRTIO_WINDOW + 0x100, 8) & 0xFFFFFFFFFFFFu, 0x033412005452u);
    CHECK_EQ(cc_mmio_read(m, CC_VIRTIO_GPA + CC_VIRTIO_WINDOW + 0x10A, 2), 1500);
    cc_machine_free(m);
}

static void frames_arrive_at_their_time(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_NET, 1);
    CHECK(start_device(m, CC_VIRTIO_NET, VERSION_1, 2, 16));
    CHECK_EQ(mem16(m, used_at(CC_VIRTIO_NET, 0)), 1);        /* VIRTQ_USED_F_NO_NOTIFY */
    uint8_t data[100];
    memset(data, 0x77, sizeof data);
    const uint64_t at[4] = {1000, 2000, 2000, 3000};
    for (unsigned i = 0; i < 4; i++) {
        const struct cc_frame f = {.vns = at[i], .src = 1, .serial = i, .size = 100, .data = data};
        data[0] = (uint8_t)i;
        CHECK(cc_inbox_push(m, &f));
    }
    pass_over(m, 1000);                                      /* no buffer: dropped */
    for (uint16_t i = 0; i < 2; i++) {
        set_desc(m, CC_VIRTIO_NET, 0, i, (struct vdesc){BUFFER + 0x1000u * i, 2000, WRITE, 0});
        offer(m, CC_VIRTIO_NET, 0, i);
    }
    pass_to(m, 2000);
    CHECK_EQ(used_idx(m, CC_VIRTIO_NET, 0), 0);
    pass_over(m, 2000);
    CHECK_EQ(used_idx(m, CC_VIRTIO_NET, 0), 2);
    CHECK_EQ(line(m, 6), 1);
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(mem16(m, BUFFER + 0x1000u * i + 10), 1);    /* num_buffers */
        CHECK_EQ(m->ram[BUFFER + 0x1000u * i + 12], i + 1);
        CHECK_EQ(mem32(m, used_at(CC_VIRTIO_NET, 0) + 8 + 8 * i), 112);
    }
    set_desc(m, CC_VIRTIO_NET, 0, 2, (struct vdesc){BUFFER, 111, WRITE, 0});     /* too small: it stays where it is */
    offer(m, CC_VIRTIO_NET, 0, 2);
    pass_over(m, 3000);
    CHECK_EQ(used_idx(m, CC_VIRTIO_NET, 0), 2);
    CHECK_EQ(m->dev.net.counters.rx_frames, 2);
    CHECK_EQ(m->dev.net.counters.rx_dropped, 2);
    CHECK_EQ(reg_read(m, CC_VIRTIO_NET, 0x070), 15);
    cc_machine_free(m);
}

/* ==== balloon and console ========================================================================================= */
static void the_balloon_takes_pages(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_BALLOON, 1);
    CHECK(start_device(m, CC_VIRTIO_BALLOON, VERSION_1, 2, 16));
    CHECK_EQ(cc_balloon_set(m, (uint32_t)(m->cfg.ram_bytes >> 12) + 1), CC_EINVAL);
    CHECK_EQ(cc_balloon_set(m, 2), 0);
    CHECK_EQ(reg_read(m, CC_VIRTIO_BALLOON, 0x060), 2);
    CHECK_EQ(reg_read(m, CC_VIRTIO_BALLOON, 0x100), 2);
    CHECK_EQ(reg_read(m, CC_VIRTIO_BALLOON, 0x0FC), 1);
    fill(m, BUFFER, 0x3000, 4);
    const uint32_t pfn[2] = {BUFFER >> 12, (BUFFER >> 12) + 2};
    poke(m, DATA_GPA, pfn, sizeof pfn);
    set_desc(m, CC_VIRTIO_BALLOON, 0, 0, (struct vdesc){DATA_GPA, 8, 0, 0});
    set_desc(m, CC_VIRTIO_BALLOON, 1, 0, (struct vdesc){DATA_GPA, 8, 0, 0});
    offer(m, CC_VIRTIO_BALLOON, 0, 0);
    kick(m, CC_VIRTIO_BALLOON, 0);
    reg_write(m, CC_VIRTIO_BALLOON, 0x104, 2);
    CHECK_EQ(cc_balloon_pages(m), 2);
    unsigned zeros = 0, others = 0;
    for (unsigned i = 0; i < 0x1000; i++) {
        zeros += !m->ram[BUFFER + i] + !m->ram[BUFFER + 0x2000 + i];
        others += !m->ram[BUFFER + 0x1000 + i];
    }
    CHECK_EQ(zeros, 0x2000);
    CHECK(others < 100);
    fill(m, BUFFER, 0x1000, 4);
    offer(m, CC_VIRTIO_BALLOON, 1, 0);                       /* deflate: nothing happens to them */
    kick(m, CC_VIRTIO_BALLOON, 1);
    CHECK_EQ(used_idx(m, CC_VIRTIO_BALLOON, 1), 1);
    CHECK(m->ram[BUFFER] || m->ram[BUFFER + 1]);
    const uint32_t wild = (uint32_t)(m->cfg.ram_bytes >> 12);
    poke(m, DATA_GPA, &wild, sizeof wild);
    offer(m, CC_VIRTIO_BALLOON, 0, 0);
    kick(m, CC_VIRTIO_BALLOON, 0);
    CHECK_EQ(reg_read(m, CC_VIRTIO_BALLOON, 0x070), 15 | 64);
    cc_machine_free(m);
}

static void the_agents_channel_carries_bytes(void)
{
    cc_machine *m = new_virtio_machine(CC_DEV_CONSOLE, 1);
    static uint8_t much[CC_AGENT_RING + 10], got[65536];
    uint64_t seed = 5, lost;
    for (size_t i = 0; i < sizeof much; i++)
        much[i] = (uint8_t)rnd(&seed);
    CHECK_EQ(cc_agent_send(m, much, 10), 10);                /* before there is a driver */
    CHECK(start_device(m, CC_VIRTIO_CONSOLE, VERSION_1, 2, 16));
    set_desc(m, CC_VIRTIO_CONSOLE, 0, 0, (struct vdesc){BUFFER, 6000, WRITE, 0});
    offer(m, CC_VIRTIO_CONSOLE, 0, 0);
    kick(m, CC_VIRTIO_CONSOLE, 0);
    CHECK_EQ(mem32(m, used_at(CC_VIRTIO_CONSOLE, 0) + 8), 10);
    CHECK(!memcmp(m->ram + BUFFER, much, 10));
    CHECK_EQ(cc_agent_send(m, much, sizeof much), CC_AGENT_RING);
    CHECK_EQ(cc_agent_send(m, much, 1), 0);
    uint32_t have = 0;
    for (unsigned i = 0; i < 3; i++) {
        offer(m, CC_VIRTIO_CONSOLE, 0, 0);
        kick(m, CC_VIRTIO_CONSOLE, 0);
        const uint32_t n = mem32(m, used_at(CC_VIRTIO_CONSOLE, 0) + 8 + 8 * (1 + i));
        memcpy(got + have, m->ram + BUFFER, n);
        have += n;
    }
    CHECK_EQ(have, CC_AGENT_RING);
    CHECK(!memcmp(got, much, have));
    poke(m, BUFFER, much, 10000);
    CHECK_EQ(cc_events_take(m, got, sizeof got, &lost), 0);
    set_desc(m, CC_VIRTIO_CONSOLE, 1, 0, (struct vdesc){BUFFER, 10000, 0, 0});
    offer(m, CC_VIRTIO_CONSOLE, 1, 0);
    kick(m, CC_VIRTIO_CONSOLE, 1);
    const size_t size = cc_events_take(m, got, sizeof got, &lost);
    cc_event e;
    have = 0;
    for (size_t at = 0; at < size; at += sizeof e + ((e.size + 7) & ~7u)) {
        memcpy(&e, got + at, sizeof e);
        CHECK_EQ(e.kind, CC_EVENT_AGENT);
        CHECK(!memcmp(got + at + sizeof e, much + have, e.size));
        have += e.size;
    }
    CHECK_EQ(have, 10000);
    cc_machine_free(m);
}

int main(void)
{
    RUN(devices_say_what_they_are);
    RUN(absent_devices_are_not_there);
    RUN(only_offered_features_are_accepted);
    RUN(queues_are_checked_when_made_ready);
    RUN(the_line_follows_the_status);
    RUN(no_interrupt_is_lost_between_two_causes);
    RUN(interrupts_are_suppressed_on_request);
    RUN(the_indices_wrap_around);
    RUN(a_write_takes_effect_when_it_is_done);
    RUN(several_requests_are_in_flight);
    RUN(errors_are_reported_by_status);
    RUN(discarded_sectors_are_zero);
    RUN(indirect_tables_work);
    RUN(a_reset_forgets_requests_in_flight);
    RUN(what_is_in_flight_is_part_of_snapshots);
    RUN(a_machine_reset_leaves_the_disk_alone);
    RUN(entropy_is_the_machines_stream);
    RUN(frames_go_out);
    RUN(frames_arrive_at_their_time);
    RUN(the_balloon_takes_pages);
    RUN(the_agents_channel_carries_bytes);
    cc_store_free(the_store);
    return 0;
}
