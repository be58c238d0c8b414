/*
 * test_hostile_guest.c: a guest that does its worst, beside two that work, in one cluster.  Its garbage is real guest code
 * on the soft CPU: virtio rings and registers, the SDK page with requests that are nearly right, the coverage port, every
 * port in every size, model specific registers, and bytes that are no program at all.  The others exchange frames and use
 * their disks; after every 4 ms they must be what they are in a cluster whose first machine does nothing.
 *
 * CC_FUZZ_SECONDS: how long (default 5).  CC_FUZZ_SEED: where to start, and with CC_FUZZ_ROUNDS=1 to repeat one round.
 */
#include "script_guest.h"

#include "../net/net.h"
#include "../pages.h"

#include <time.h>

#define VERSION_1 (UINT64_C(1) << 32)
#define EVENT_IDX (UINT64_C(1) << 29)
#define INDIRECT (UINT64_C(1) << 28)
#define BLK_FLUSH (UINT64_C(1) << 9)
#define DISK_BYTES (8u << 20)
#define TICK UINT64_C(100000)
#define HYPERCALL_GPA 0xFE000u
#define N 3u

/* ==== the two that work ============================================================================================ */
#define RX_BUFFERS 8u
#define FRAME_GPA (BUFFERS_GPA + 0x10000u)
#define RX_GPA BUFFERS_GPA
#define REQUEST_GPA (BUFFERS_GPA + 0x20000u)

/* For ever: send a frame to the other, look at what has come, write to the disk, read, flush. */
static void write_work(struct script *s, uint8_t me, uint8_t other)
{
    script_device(s, CC_VIRTIO_NET, VERSION_1, 2, 16);
    for (uint16_t i = 0; i < 16; i++) {
        script_desc(s, CC_VIRTIO_NET, 0, i, (struct vdesc){RX_GPA + i * 0x800u, 0x800, V_WRITE, 0});
        script_write(s, ring_avail(CC_VIRTIO_NET, 0) + 4 + 2u * i, 2, i);
        script_desc(s, CC_VIRTIO_NET, 1, i, (struct vdesc){FRAME_GPA, 12 + 100, 0, 0});
        script_write(s, ring_avail(CC_VIRTIO_NET, 1) + 4 + 2u * i, 2, i);
    }
    script_write(s, ring_avail(CC_VIRTIO_NET, 0) + 2, 2, RX_BUFFERS);
    uint8_t frame[12 + 100] = {0};
    static const uint8_t mac[5] = {0x52, 0x54, 0x00, 0x12, 0x34};
    memcpy(frame + 12, mac, 5);
    frame[17] = other;
    memcpy(frame + 18, mac, 5);
    frame[23] = me;
    script_poke(s, FRAME_GPA, frame, sizeof frame);

    script_device(s, CC_VIRTIO_BLK, VERSION_1 | BLK_FLUSH, 1, 16);
    static const uint32_t types[3] = {1, 0, 4};
    for (uint16_t i = 0; i < 3; i++) {
        const struct { uint32_t type, reserved; uint64_t sector; } header = {types[i], 0, 16};
        const uint64_t at = REQUEST_GPA + 0x1000u * i, data = i == 1 ? REQUEST_GPA + 0x8000u : FRAME_GPA;
        script_poke(s, at, &header, sizeof header);
        const uint16_t d = (uint16_t)(3 * i);
        script_desc(s, CC_VIRTIO_BLK, 0, d, (struct vdesc){at, 16, V_NEXT, (uint16_t)(types[i] == 4 ? d + 2 : d + 1)});
        script_desc(s, CC_VIRTIO_BLK, 0, (uint16_t)(d + 1),
                    (struct vdesc){data, 512, (uint16_t)(V_NEXT | (i == 1 ? V_WRITE : 0)), (uint16_t)(d + 2)});
        script_desc(s, CC_VIRTIO_BLK, 0, (uint16_t)(d + 2), (struct vdesc){at + 16, 1, V_WRITE, 0});
        for (uint16_t j = i; j < 16; j = (uint16_t)(j + 3))
            script_write(s, ring_avail(CC_VIRTIO_BLK, 0) + 4 + 2u * j, 2, d);
    }
    const uint64_t loop = script_here(s);
    for (uint16_t i = 0; i < 3; i++) {
        script_step(s, (struct step){.op = ST_ADD, .size = 4, .addr = FRAME_GPA + 12 + 14, .value = 0x01000193u + me});
        script_step(s, (struct step){.op = ST_ADD, .size = 2, .addr = ring_avail(CC_VIRTIO_NET, 1) + 2, .value = 1});
        script_reg(s, CC_VIRTIO_NET, 0x050, 1);
        script_step(s, (struct step){.op = ST_ADD, .size = 2, .addr = ring_avail(CC_VIRTIO_BLK, 0) + 2, .value = 1});
        script_reg(s, CC_VIRTIO_BLK, 0x050, 0);
        script_spin(s, 60000);
        script_step(s, (struct step){.op = ST_FOLLOW, .count = RX_BUFFERS, .addr = ring_avail(CC_VIRTIO_NET, 0) + 2,
                                     .value = ring_used(CC_VIRTIO_NET, 0) + 2});
        script_reg(s, CC_VIRTIO_NET, 0x050, 0);
        for (unsigned j = 0; j < 16; j++)
            script_step(s, (struct step){.op = ST_SUM, .count = 64, .addr = RX_GPA + j * 0x800u});
        script_step(s, (struct step){.op = ST_SUM, .count = 128, .addr = ring_used(CC_VIRTIO_NET, 0)});
        script_step(s, (struct step){.op = ST_SUM, .count = 32, .addr = REQUEST_GPA + 0x8000u});
        for (unsigned d = 0; d < 2; d++) {
            script_step(s, (struct step){.op = ST_READ, .size = 4, .addr = CC_VIRTIO_GPA + d * CC_VIRTIO_WINDOW + 0x060});
            script_reg(s, d, 0x064, 3);
        }
    }
    script_step(s, (struct step){.op = ST_GOTO, .addr = loop});
}

/* ==== clusters ====================================================================================================== */
static cc_store *store;

struct world {
    cc_machine *m[N];
    cc_cluster *cluster;
    cc_snapshot *boot;             /* of the hostile machine */
};

static cc_machine *new_vm(uint32_t id, uint64_t seed)
{
    cc_config cfg;
    char err[256];
    cc_machine *m;
    cc_config_default(&cfg);
    cfg.ram_bytes = RAM_BYTES;
    cfg.seed = seed + id;
    cfg.machine_id = id;
    cfg.devices = CC_DEV_ALL;
    cfg.disk_bytes = DISK_BYTES;
    if (cc_machine_new(&cfg, store, &m, err, sizeof err)) {
        fprintf(stderr, "%s\n", err);
        abort();
    }
    return m;
}

static void new_world(struct world *w, uint32_t threads)
{
    char err[256];
    struct script *s = calloc(1, sizeof *s);
    CHECK(s);
    for (uint32_t i = 0; i < N; i++) {
        w->m[i] = new_vm(i, 40);
        memset(s, 0, sizeof *s);
        if (i)
            write_work(s, (uint8_t)i, (uint8_t)(N - i));
        script_start(w->m[i], s);
    }
    free(s);
    CHECK_EQ(cc_cluster_new(w->m, N, TICK, 7, threads, &w->cluster, err, sizeof err), 0);
    /* What it sends to the others is theirs to hear; here they must not. */
    cc_link_params p;
    cc_link_params_default(&p);
    p.down = 1;
    for (uint32_t i = 1; i < N; i++)
        CHECK_EQ(cc_link_set(w->cluster, 0, i, &p), 0);
    CHECK_EQ(cc_snapshot_take(w->m[0], &w->boot), 0);
}

static void free_world(struct world *w)
{
    cc_snapshot_free(w->boot);
    cc_cluster_free(w->cluster);
    for (uint32_t i = 0; i < N; i++)
        cc_machine_free(w->m[i]);
}

static void run_to(struct world *w, uint64_t vns)
{
    const cc_cluster_until until = {vns, UINT64_MAX, -1, 0};
    cc_cluster_stop stop;
    do
        CHECK_EQ(cc_cluster_run(w->cluster, &until, &stop), 0);
    while (stop.kind == CC_STOP_NONE);
    CHECK_EQ(stop.kind, CC_STOP_VNS);
}

static cc_digest digest_of(cc_machine *m)
{
    cc_digest d;
    cc_digest_now(m, &d);
    return d;
}

static bool same(cc_digest a, cc_digest b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* ==== the one that does its worst ==================================================================================== */
struct fuzz { struct script *s; uint64_t seed, round; };

static uint64_t draw(struct fuzz *f, uint64_t n)
{
    return rnd(&f->seed) % n;
}

static bool one_in(struct fuzz *f, unsigned n)
{
    return draw(f, n) == 0;
}

static uint64_t some_value(struct fuzz *f)
{
    switch (draw(f, 5)) {
    case 0: return rnd(&f->seed);
    case 1: return draw(f, 256);
    case 2: return UINT64_MAX - draw(f, 16);
    case 3: return UINT64_C(1) << draw(f, 64);
    default: return draw(f, 65536);
    }
}

static uint8_t some_size(struct fuzz *f)
{
    return (uint8_t)(1u << draw(f, 4));
}

/* An address that a device may be given: mostly a buffer, sometimes anything. */
static uint64_t some_address(struct fuzz *f)
{
    switch (draw(f, 14)) {
    case 0: return rnd(&f->seed);
    case 1: return RAM_BYTES - draw(f, 4096);
    case 2: return RAM_BYTES + draw(f, 1u << 24);
    case 3: return UINT64_MAX - draw(f, 4096);
    case 4: return CC_VIRTIO_GPA + draw(f, 0x6000);
    case 5: return ring_desc((unsigned)draw(f, CC_VIRTIO_COUNT), (unsigned)draw(f, 2)) + draw(f, 0x9000);
    case 6: return draw(f, 0x10000);
    case 7: return HYPERCALL_GPA + draw(f, 4096);
    case 8: return one_in(f, 4) ? SCRIPT_GPA + draw(f, 0x1000) : 0xE0000u + draw(f, 0x10000);
    default: return BUFFERS_GPA + draw(f, 64) * 0x1000 + (one_in(f, 4) ? draw(f, 4096) : 0);
    }
}

static uint32_t some_length(struct fuzz *f)
{
    switch (draw(f, 8)) {
    case 0: return (uint32_t)rnd(&f->seed);
    case 1: return (uint32_t)draw(f, 1u << 20);
    case 2: return (uint32_t)draw(f, 3);
    case 3: return 16;
    default: return 512u * (1 + (uint32_t)draw(f, 8));
    }
}

#define HEADS 5u                       /* of disk requests, three descriptors each */

static void set_up_device(struct fuzz *f, unsigned d)
{
    const uint64_t optional = EVENT_IDX | INDIRECT | (d == CC_VIRTIO_BLK ? BLK_FLUSH : 0);
    const unsigned queues = d == CC_VIRTIO_BLK || d == CC_VIRTIO_RNG ? 1 : 2;
    script_device(f->s, d, one_in(f, 10) ? rnd(&f->seed) : VERSION_1 | (rnd(&f->seed) & optional), queues,
                  one_in(f, 10) ? (uint16_t)draw(f, 300) : 16);
    for (uint16_t i = 0; d == CC_VIRTIO_BLK && i < 16; i++)
        script_write(f->s, ring_avail(d, 0) + 4 + 2u * i, 2, i % HEADS * 3);
}

static void offer_descriptors(struct fuzz *f)
{
    static const uint16_t usual[8] = {0, V_NEXT, V_WRITE, V_NEXT | V_WRITE, V_NEXT, V_WRITE, V_WRITE, V_INDIRECT};
    const unsigned d = (unsigned)draw(f, CC_VIRTIO_COUNT), q = (unsigned)draw(f, 2);
    for (unsigned i = 0; i < 1 + draw(f, 5); i++)
        script_desc(f->s, d, q, (uint16_t)draw(f, 16), (struct vdesc){
            some_address(f), some_length(f), one_in(f, 12) ? (uint16_t)rnd(&f->seed) : usual[draw(f, 8)],
            one_in(f, 20) ? (uint16_t)rnd(&f->seed) : (uint16_t)draw(f, 16)});
    for (unsigned i = 0; i < 1 + draw(f, 3); i++)
        script_write(f->s, ring_avail(d, q) + 4 + 2 * draw(f, 16), 2, one_in(f, 20) ? rnd(&f->seed) : draw(f, 16));
    script_step(f->s, (struct step){.op = ST_ADD, .size = 2, .addr = ring_avail(d, q) + 2,
                                    .value = one_in(f, 20) ? rnd(&f->seed) : draw(f, 4)});
    script_reg(f->s, d, 0x050, (uint32_t)(one_in(f, 10) ? some_value(f) : q));
}

static void disk_request(struct fuzz *f)
{
    if (one_in(f, 3))
        set_up_device(f, CC_VIRTIO_BLK);       /* it may have been broken */
    static const uint32_t types[9] = {0, 1, 0, 1, 4, 8, 11, 13, 99};
    const uint16_t head = (uint16_t)(draw(f, HEADS) * 3);
    const uint64_t at = BUFFERS_GPA + 0x80000u + head * 0x1000u, data = BUFFERS_GPA + draw(f, 64) * 0x1000;
    const struct { uint32_t type, reserved; uint64_t sector; } header = {
        types[draw(f, 9)], 0, one_in(f, 8) ? rnd(&f->seed) : draw(f, DISK_BYTES / 512),
    };
    const bool to_memory = header.type == 0 || header.type == 8;
    script_poke(f->s, at, &header, sizeof header);
    script_desc(f->s, CC_VIRTIO_BLK, 0, head, (struct vdesc){at, 16, V_NEXT, (uint16_t)(head + 1)});
    script_desc(f->s, CC_VIRTIO_BLK, 0, (uint16_t)(head + 1), (struct vdesc){
        data, one_in(f, 4) ? some_length(f) : 512u * (1 + (uint32_t)draw(f, 64)),
        (uint16_t)(V_NEXT | (to_memory ? V_WRITE : 0)), (uint16_t)(head + 2)});
    script_desc(f->s, CC_VIRTIO_BLK, 0, (uint16_t)(head + 2), (struct vdesc){at + 16, 1, V_WRITE, 0});
    script_step(f->s, (struct step){.op = ST_ADD, .size = 2, .addr = ring_avail(CC_VIRTIO_BLK, 0) + 2, .value = 1});
    script_reg(f->s, CC_VIRTIO_BLK, 0x050, 0);
    if (!one_in(f, 4))
        script_spin(f->s, 20000 + (uint32_t)draw(f, 40000));       /* 40 us and more: it is answered meanwhile */
}

static void send_frame(struct fuzz *f)
{
    uint8_t frame[12 + 64] = {0};
    for (unsigned i = 12; i < sizeof frame; i++)
        frame[i] = (uint8_t)rnd(&f->seed);
    static const uint8_t mac[5] = {0x52, 0x54, 0x00, 0x12, 0x34};
    memset(frame + 12, 0xFF, 6);
    if (one_in(f, 2)) {
        memcpy(frame + 12, mac, 5);
        frame[17] = (uint8_t)draw(f, 4);
    }
    script_poke(f->s, BUFFERS_GPA, frame, sizeof frame);
    script_desc(f->s, CC_VIRTIO_NET, 1, 0, (struct vdesc){BUFFERS_GPA, one_in(f, 4) ? some_length(f) : 76, 0, 0});
    script_step(f->s, (struct step){.op = ST_ADD, .size = 2, .addr = ring_avail(CC_VIRTIO_NET, 1) + 2,
                                    .value = 1 + draw(f, 16)});
    script_reg(f->s, CC_VIRTIO_NET, 0x050, 1);
}

static void touch_registers(struct fuzz *f)
{
    const uint64_t gpa = one_in(f, 3) ? CC_VIRTIO_GPA + draw(f, 0x6000)
                       : CC_VIRTIO_GPA + draw(f, CC_VIRTIO_COUNT) * CC_VIRTIO_WINDOW + draw(f, 0x50) * 4;
    script_step(f->s, (struct step){.op = one_in(f, 3) ? ST_READ : ST_WRITE, .size = one_in(f, 2) ? 4 : some_size(f),
                                    .addr = gpa, .value = some_value(f)});
}

/* A request that is right, but for what is drawn to be wrong. */
static void sdk_request(struct fuzz *f)
{
    static const uint8_t commands[12] = {1, 2, 3, 4, 5, 7, 0x10, 0x11, 0x20, 0x21, 0x30, 0x77};
    static const char *const json[4] = {"{}", "{\"kind\":\"always\"}", "{\"a\":[[[[", "\xff\xfe{"};
    uint8_t page[4096];
    for (unsigned i = 0; i < sizeof page; i++)
        page[i] = (uint8_t)rnd(&f->seed);
    const char *text = json[draw(f, 4)];
    uint16_t message = one_in(f, 4) ? (uint16_t)draw(f, 4065) : (uint16_t)draw(f, 20);
    uint16_t size = (uint16_t)strlen(text), payload = (uint16_t)(4 + message + size);
    const uint32_t id = one_in(f, 2) ? (uint32_t)draw(f, 64) : (uint32_t)some_value(f);
    page[0] = one_in(f, 10) ? (uint8_t)rnd(&f->seed) : commands[draw(f, 12)];
    page[1] = (uint8_t)draw(f, 3);
    memcpy(page + 4, &id, 4);
    if (payload <= 4064)
        memcpy(page + 0x22 + message + 2, text, size);
    if (one_in(f, 4))
        size = (uint16_t)some_value(f);
    if (payload <= 4064)
        memcpy(page + 0x22 + message, &size, 2);
    if (one_in(f, 8))
        message = (uint16_t)some_value(f);
    memcpy(page + 0x20, &message, 2);
    if (one_in(f, 4))
        payload = (uint16_t)(one_in(f, 2) ? some_value(f) : 4060 + draw(f, 10));
    memcpy(page + 8, &payload, 2);
    script_poke(f->s, HYPERCALL_GPA, page, one_in(f, 3) ? sizeof page : 256);
    script_out(f->s, 0x510, (uint8_t)(1u << draw(f, 3)), (uint32_t)some_value(f));
    if (one_in(f, 4))
        script_out(f->s, 0x511, (uint8_t)(1u << draw(f, 3)), (uint32_t)some_value(f));
}

static void touch_ports(struct fuzz *f)
{
    static const uint16_t known[] = {0x3F8, 0x20, 0xA0, 0x40, 0x43, 0x61, 0x70, 0x60, 0x64, 0x4D0, 0x510, 0x511, 0x92, 0xF4};
    const uint16_t port = one_in(f, 2) ? (uint16_t)rnd(&f->seed) : (uint16_t)(known[draw(f, 14)] + draw(f, 8));
    const uint8_t size = (uint8_t)(1u << draw(f, 3)), op = (uint8_t)(ST_OUT + draw(f, 2));
    script_step(f->s, (struct step){.op = op, .size = size, .port = port, .value = some_value(f)});
    if (one_in(f, 4))
        script_step(f->s, (struct step){.op = one_in(f, 2) ? ST_OUTS : ST_INS, .size = size, .port = port,
                                        .count = (uint32_t)draw(f, 300), .addr = some_address(f) & 0xFFFFFFFF,
                                        .value = some_address(f) & 0xFFFFFFFF});
}

/* A piece of all 65 536 ports, in and out in every size: 256 rounds are all of them. */
static void sweep_ports(struct fuzz *f)
{
    for (unsigned i = 0; i < 256; i++) {
        const uint16_t port = (uint16_t)(f->round % 256 * 256 + i);
        const uint8_t size = (uint8_t)(1u << draw(f, 3));
        script_step(f->s, (struct step){.op = ST_IN, .size = size, .port = port});
        script_out(f->s, port, (uint8_t)(1u << draw(f, 3)), (uint32_t)some_value(f));
    }
}

static void write_anywhere(struct fuzz *f)
{
    script_step(f->s, (struct step){.op = one_in(f, 3) ? ST_READ : ST_WRITE, .size = some_size(f),
                                    .addr = some_address(f) & (one_in(f, 8) ? UINT64_MAX : 0xFFFFFFFF),
                                    .value = some_value(f)});
}

static void touch_msrs(struct fuzz *f)
{
    static const uint32_t known[] = {0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000100, 0xC0000101, 0xC0000102,
                                     0x10, 0x174, 0x175, 0x176, 0x277, 0x1A0, 0x8B, 0x1B, 0xC0000103};
    const uint32_t msr = one_in(f, 4) ? (uint32_t)some_value(f) : known[draw(f, 16)];
    /* Writing EFER ends most guests at once; that is left to the wild code. */
    script_step(f->s, (struct step){.op = one_in(f, 2) && msr != 0xC0000080 ? ST_WRMSR : ST_RDMSR, .count = msr,
                                    .value = some_value(f)});
}

/* Bytes that are no program: after prefixes and escapes that lead to every corner of the decoder. */
static void run_wild(struct fuzz *f)
{
    static const uint8_t lead[] = {0x0F, 0x66, 0xF2, 0xF3, 0x48, 0xF0, 0x67, 0x64, 0xD8, 0xDF, 0xFF, 0xC7, 0xC8, 0xCF};
    uint8_t code[64];
    for (unsigned i = 0; i < sizeof code; i++)
        code[i] = one_in(f, 4) ? lead[draw(f, sizeof lead)] : (uint8_t)rnd(&f->seed);
    code[62] = 0x0F;
    code[63] = 0x0B;               /* UD2 */
    const uint64_t at = BUFFERS_GPA + 0x100000u + draw(f, 16) * 0x1000 + 4096 - 32 * draw(f, 3);
    script_poke(f->s, at, code, sizeof code);
    script_step(f->s, (struct step){.op = ST_EXEC, .count = (uint32_t)rnd(&f->seed), .addr = at,
                                    .value = some_address(f)});
}

static void write_garbage(struct fuzz *f)
{
    for (unsigned d = 0; d < CC_VIRTIO_COUNT; d++)
        set_up_device(f, d);
    if (one_in(f, 2))
        sweep_ports(f);
    const bool wild = one_in(f, 3);
    for (unsigned i = 0; i < 300 && script_room(f->s, 0x10000); i++)
        switch (draw(f, 20)) {
        case 0: case 1: set_up_device(f, one_in(f, 2) ? CC_VIRTIO_BLK : (unsigned)draw(f, CC_VIRTIO_COUNT)); break;
        case 2: case 3: offer_descriptors(f); break;
        case 4: case 5: case 6: disk_request(f); break;
        case 7: case 8: send_frame(f); break;
        case 9: case 10: touch_registers(f); break;
        case 11: case 12: case 13: sdk_request(f); break;
        case 14: case 15: touch_ports(f); break;
        case 16: write_anywhere(f); break;
        case 17: touch_msrs(f); break;
        case 18: if (wild) run_wild(f); break;
        default:
            script_step(f->s, (struct step){.op = one_in(f, 3) ? ST_STI : ST_CLI});
            script_spin(f->s, (uint32_t)draw(f, 3000));
        }
}

/* What the host does to it meanwhile. */
static void be_the_host(struct fuzz *f, cc_machine *m)
{
    uint8_t data[600];
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)rnd(&f->seed);
    switch (draw(f, 12)) {
    case 0: cc_agent_send(m, data, draw(f, sizeof data)); break;
    case 1: cc_balloon_set(m, (uint32_t)draw(f, 5000)); break;
    case 2: cc_net_set_link(m, !one_in(f, 3)); break;
    case 3: cc_disk_crash(m, (uint32_t)draw(f, 5), rnd(&f->seed)); break;
    case 4: cc_inject_irq(m, (uint32_t)draw(f, 16)); break;
    case 5: cc_inject_nmi(m); break;
    case 6: cc_set_tsc_skew(m, (int64_t)draw(f, 900000) - 400000); break;
    case 7: cc_set_timer_jitter(m, draw(f, 1000000)); break;
    case 8: cc_shift_rtc(m, (int64_t)draw(f, 1u << 30) - (1 << 29)); break;
    case 9: cc_console_input(m, data, draw(f, sizeof data)); break;
    case 10: cc_power_off(m); break;
    default: break;
    }
}

/* ==== rounds ========================================================================================================= */
static struct { uint64_t requests, frames, sdk, broken, dead; } reached;

static void count_reached(const cc_machine *m, const struct cc_devstate *before)
{
    const cc_disk_stats *a = &before->disk.stats, *b = &m->dev.disk.stats;
    reached.requests += b->reads + b->writes + b->flushes + b->discards - a->reads - a->writes - a->flushes - a->discards;
    reached.frames += m->dev.net.counters.tx_frames;
    cc_property known[64];
    reached.sdk += cc_properties(m, 0, known, 64);
    reached.dead += m->dev.dead_kind != CC_STOP_NONE;
    for (unsigned d = 0; d < CC_VIRTIO_COUNT; d++)
        reached.broken += m->dev.virtio[d].status >> 6 & 1;
}

#define ROUND_NS UINT64_C(4000000)

/* The same again from the same state, in another number of pieces, must end the same. */
static void run_twice(struct world *w, uint64_t end, cc_digest *out)
{
    cc_snapshot *before[N];
    const size_t size = cc_cluster_state_size(w->cluster);
    uint8_t *network = malloc(size);
    CHECK(network);
    for (unsigned i = 0; i < N; i++)
        CHECK_EQ(cc_snapshot_take(w->m[i], &before[i]), 0);
    cc_cluster_state_save(w->cluster, network);
    run_to(w, end);
    cc_digest first, scratch;
    cc_cluster_digest(w->cluster, &first);
    *out = digest_of(w->m[0]);
    cc_digest_from_scratch(w->m[0], &scratch);
    CHECK(same(*out, scratch));
    for (unsigned i = 0; i < N; i++)
        CHECK_EQ(cc_snapshot_restore(w->m[i], before[i]), 0);
    CHECK_EQ(cc_cluster_state_load(w->cluster, network, size), 0);
    run_to(w, end - ROUND_NS + ROUND_NS / 3 + 7);
    run_to(w, end);
    cc_digest again;
    cc_cluster_digest(w->cluster, &again);
    CHECK(same(first, again));
    for (unsigned i = 0; i < N; i++)
        cc_snapshot_free(before[i]);
    free(network);
}

static void fuzz_round(struct world *w, struct script *s, uint64_t seed, uint64_t round, uint64_t end)
{
    struct fuzz f = {s, seed, round};
    cc_machine *m = w->m[0];
    memset(s, 0, sizeof *s);
    write_garbage(&f);
    if (m->dev.dead_kind != CC_STOP_NONE || one_in(&f, 4))
        CHECK_EQ(cc_reboot(m, w->boot, 0), 0);
    script_start(m, s);
    be_the_host(&f, m);
    const struct cc_devstate *before = malloc(sizeof *before);
    CHECK(before);
    memcpy((void *)(uintptr_t)before, &m->dev, sizeof *before);
    cc_digest d;
    if (round % 4 == 0)
        run_twice(w, end, &d);
    else
        run_to(w, end);
    count_reached(m, before);
    if (getenv("CC_FUZZ_VERBOSE")) {
        uint64_t at;
        cc_regs r;
        CHECK_EQ(cc_read_phys(m, STATE_GPA, &at, 8), 0);
        m->ops->get_regs(m, &r);
        printf("step %lld of %u, rip 0x%llx, dead %u, instret %llu, status %x\n", (long long)(at - SCRIPT_GPA) / 32, s->steps,
               (unsigned long long)r.rip, m->dev.dead_kind, (unsigned long long)m->instret, m->dev.virtio[0].status);
    }
    free((void *)(uintptr_t)before);
    static uint8_t sink[1 << 16];
    uint64_t lost;
    while (cc_console_take(m, sink, sizeof sink, &lost))
        ;
    while (cc_events_take(m, sink, sizeof sink, &lost))
        ;
    while (cc_log_take(m, (char *)sink, sizeof sink))
        ;
}

static uint64_t option(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void a_hostile_guest_harms_nobody(void)
{
    const uint64_t first = option("CC_FUZZ_SEED", 1), rounds = option("CC_FUZZ_ROUNDS", UINT64_MAX);
    const time_t end = time(NULL) + (time_t)option("CC_FUZZ_SECONDS", 5);
    struct world with, without;
    new_world(&with, 2);
    new_world(&without, 1);
    struct script *s = malloc(sizeof *s);
    CHECK(s);
    uint64_t n = 0, vns = 0;
    for (; n < rounds && time(NULL) < end; n++) {
        vns += ROUND_NS;
        if (rounds < 10)
            printf("seed %llu\n", (unsigned long long)(first + n));
        fuzz_round(&with, s, first + n, n, vns);
        run_to(&without, vns);
        for (unsigned i = 1; i < N; i++)
            if (!same(digest_of(with.m[i]), digest_of(without.m[i]))) {
                fprintf(stderr, "seed %llu: machine %u noticed\n", (unsigned long long)(first + n), i);
                abort();
            }
    }
    cc_link_counters between;
    CHECK_EQ(cc_link_count(with.cluster, 1, 2, &between), 0);
    printf("%llu rounds: %llu disk requests, %llu frames, %llu properties, %llu broken devices, %llu deaths; "
           "%llu frames between the others\n", (unsigned long long)n, (unsigned long long)reached.requests,
           (unsigned long long)reached.frames, (unsigned long long)reached.sdk, (unsigned long long)reached.broken,
           (unsigned long long)reached.dead, (unsigned long long)between.delivered);
    fflush(stdout);
    CHECK(between.delivered > 10 * n && with.m[1]->dev.disk.stats.flushes > 3 * n && !with.m[1]->dev.disk.stats.errors);
    CHECK(n < 10 || (reached.requests > n / 2 && reached.frames > n / 2 && reached.sdk > n
                     && reached.broken > n / 4 && reached.dead));
    free(s);
    free_world(&with);
    free_world(&without);
}

int main(void)
{
    store = cc_store_new(0);
    RUN(a_hostile_guest_harms_nobody);
    cc_store_free(store);
    return 0;
}
