/*
 * test_cluster.c: machines that run together, and the network between them.
 */
#include "net_guests.h"

/* ---- tests ------------------------------------------------------------------------------------------------------------- */
static void the_result_depends_on_nothing_but_the_inputs(void)
{
    for (uint64_t lazy = 0; lazy <= 3000000; lazy += 1500000) {
        const uint64_t end = 20 * MS + 34567;
        struct cluster k = new_cluster(1, lazy);
        adventure(&k, 0, end, NULL);
        const cc_digest wanted = digest_of(&k);
        uint64_t received = 0;
        for (uint32_t i = 0; i < N; i++)
            received += program_of(k.m[i])->received;
        CHECK(received > (lazy ? 20u : 1000u));
        free_cluster(&k);
        for (uint32_t threads = 1; threads <= 4; threads++)
            for (uint64_t seed = 0; seed < 6; seed++) {
                uint64_t stops = 10 * seed + threads;
                k = new_cluster(threads, lazy);
                adventure(&k, 0, end, seed ? &stops : NULL);
                expect(digest_of(&k), wanted);
                free_cluster(&k);
            }
    }
}

static void a_restored_cluster_has_the_same_future(void)
{
    struct cluster k = new_cluster(2, 400000);
    cc_snapshot *s[N];
    const uint64_t middle = 7 * 1234567, end = 15 * 1234567 + 777;
    adventure(&k, 0, middle, NULL);
    for (uint32_t i = 0; i < N; i++)
        CHECK_EQ(cc_snapshot_take(k.m[i], &s[i]), 0);
    const size_t size = cc_cluster_state_size(k.c);
    uint8_t *state = malloc(size);
    CHECK(state != NULL);
    cc_cluster_state_save(k.c, state);
    const cc_digest then = digest_of(&k);
    adventure(&k, middle, end, NULL);
    const cc_digest wanted = digest_of(&k);
    CHECK(wanted.lo != then.lo);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < N; i++)
            CHECK_EQ(cc_snapshot_restore(k.m[i], s[i]), 0);
        CHECK_EQ(cc_cluster_state_load(k.c, state, size), 0);
        expect(digest_of(&k), then);
        if (round == 2)
            cc_cluster_reseed(k.c, 1);
        adventure(&k, middle, end, NULL);
        CHECK_EQ(digest_of(&k).lo == wanted.lo, round < 2);    /* another branch, another future */
    }
    CHECK_EQ(cc_cluster_state_load(k.c, state, size - 1), CC_EINVAL);
    for (uint32_t i = 0; i < N; i++)
        cc_snapshot_free(s[i]);
    free(state);
    free_cluster(&k);
}

static void frames_are_conserved(void)
{
    struct cluster k = new_cluster(2, 0);
    adventure(&k, 0, 60 * MS, NULL);
    uint64_t queued = 0, offered = 0, received = 0, waiting = 0, sent = 0;
    for (uint32_t i = 0; i < N; i++) {
        cc_port_counters port;
        CHECK_EQ(cc_port_count(k.c, i, &port), 0);
        CHECK(port.unknown > 0);
        sent += program_of(k.m[i])->sent;
        received += program_of(k.m[i])->received;
        waiting += cc_inbox_count(k.m[i]);
        for (uint32_t j = 0; j < N; j++) {
            cc_link_counters n;
            if (i == j)
                continue;
            CHECK_EQ(cc_link_count(k.c, i, j, &n), 0);
            CHECK_EQ(n.sent + n.duplicated,
                     n.delivered + n.lost_down + n.lost_random + n.lost_queue + n.lost_receiver);
            offered += n.sent;
            queued += n.delivered;
            CHECK(n.lost_random && n.duplicated && n.corrupted && n.reordered && n.delivered);
        }
    }
    CHECK_EQ(queued, received + waiting);
    CHECK(offered > sent);                     /* a broadcast is offered to three links */
    free_cluster(&k);
}

static void machines_that_wait_cost_nothing(void)
{
    struct cluster k = new_cluster(4, 0);
    for (uint32_t i = 0; i < N; i++)
        program_of(k.m[i])->busy = UINT64_C(1) << 60;
    for (uint32_t i = 0; i < N; i++) {
        program_of(k.m[i])->halted = 1;
        program_of(k.m[i])->wake = 86400 * SECOND;
    }
    run_cluster(&k, 3600 * SECOND);            /* 36 million ticks */
    CHECK_EQ(program_of(k.m[0])->received, 0);
    free_cluster(&k);
}

static void a_stop_for_one_machine_is_exact(void)
{
    struct cluster k = new_cluster(2, 300000), straight = new_cluster(1, 300000);
    for (uint64_t at = 5000; at < 400000; at += 37777) {
        const cc_cluster_until until = {.vns = SECOND, .instret = at, .machine = 2};
        const cc_cluster_stop stop = run_until(&k, &until);
        CHECK_EQ(stop.kind, CC_STOP_INSTRET);
        CHECK_EQ(stop.machine, 2);
        CHECK_EQ(cc_instret(k.m[2]), at);
        CHECK_EQ(cc_cluster_vns(k.c), cc_vns(k.m[2]));
        run_cluster(&straight, cc_cluster_vns(k.c));
        expect(digest_of(&k), digest_of(&straight));
    }
    free_cluster(&k);
    free_cluster(&straight);
}

static void ended_machines_stay(void)
{
    struct cluster k = new_cluster(2, 0);
    run_cluster(&k, 3 * TICK + 5);
    CHECK_EQ(cc_power_off(k.m[1]), 0);
    CHECK_EQ(cc_power_off(k.m[1]), 0);
    const uint64_t instret = cc_instret(k.m[1]);
    const cc_cluster_until until = {.vns = 9 * TICK, .instret = UINT64_MAX, .machine = -1, .stop_at = CC_AT_END};
    const cc_cluster_stop stop = run_until(&k, &until);
    CHECK_EQ(stop.kind, CC_STOP_POWER_OFF);
    CHECK_EQ(stop.machine, 1);
    const cc_cluster_until rest = {.vns = 9 * TICK, .instret = UINT64_MAX, .machine = -1};
    CHECK_EQ(run_until(&k, &rest).kind, CC_STOP_VNS);
    cc_stop end;
    cc_cluster_stop_of(k.c, 1, &end);
    CHECK_EQ(end.kind, CC_STOP_POWER_OFF);
    CHECK_EQ(end.instret, instret);
    cc_link_counters n;
    CHECK_EQ(cc_link_count(k.c, 0, 1, &n), 0);
    CHECK(n.lost_receiver > 0);
    CHECK_EQ(cc_inbox_count(k.m[1]), 0);
    free_cluster(&k);
}

/* ---- the link itself --------------------------------------------------------------------------------------------- */
struct bench { struct cluster k; struct cc_fabric *f; };

static struct bench new_bench(const cc_link_params *p)
{
    struct bench b = {.k = new_cluster(1, 0), .f = malloc(cc_fabric_size(N))};
    CHECK(b.f != NULL);
    cc_fabric_init(b.f, N, TICK, 7);
    CHECK(cc_link_params_check(p) == NULL);
    CHECK(cc_fabric_set(b.f, 0 * N + 1, 0, p));
    return b;
}

static void free_bench(struct bench *b)
{
    free(b->f);
    free_cluster(&b->k);
}

/* A frame of `size` bytes from machine 0 to `to`, sent at vns. */
static void send_at(struct bench *b, uint32_t to, uint64_t vns, uint32_t size)
{
    uint8_t data[CC_FRAME_BYTES_MAX] = {0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)to};
    if (to == 0xFF)
        memset(data, 0xFF, 6);
    b->k.m[0]->vns_base = vns;
    b->k.m[0]->instret_base = b->k.m[0]->instret;
    CHECK(cc_outbox_push(b->k.m[0], data, size));
}

/* Switch everything sent so far; it arrives when the link lets it. */
static void deliver(struct bench *b)
{
    cc_fabric_switch(b->f, b->k.m, UINT64_MAX, 0, NULL, NULL);
}

/* When the next frame arrives at machine 1, which takes it. */
static uint64_t arrival(struct bench *b)
{
    struct cc_frame f;
    CHECK(cc_inbox_first(b->k.m[1], &f));
    cc_inbox_pop(b->k.m[1]);
    return f.vns;
}

static const cc_link_counters *count(const struct bench *b)
{
    return &b->f->link[1].count;
}

static void bandwidth_delays_and_drops_by_the_numbers(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    p.latency_ns = 10000;
    p.bandwidth_bps = 8000000;                 /* a byte per microsecond */
    p.queue_bytes = 3000;
    struct bench b = new_bench(&p);
    for (unsigned i = 0; i < 5; i++)
        send_at(&b, 1, 500, 1000);             /* the first goes out at once; 3000 bytes may be before or with the others */
    send_at(&b, 1, 500 + 1000000, 1000);       /* one has left */
    send_at(&b, 1, 500 + 1000001, 1000);       /* a byte of the next one as well, not enough for another */
    deliver(&b);
    CHECK_EQ(count(&b)->delivered, 4);
    CHECK_EQ(count(&b)->lost_queue, 3);
    for (uint64_t i = 1; i <= 4; i++)
        CHECK_EQ(arrival(&b), 500 + i * 1000000 + 10000);
    send_at(&b, 1, 20 * MS, 1500);             /* an idle transmitter takes what is longer than the queue */
    deliver(&b);
    CHECK_EQ(arrival(&b), 20 * MS + 1500000 + 10000);
    free_bench(&b);
}

static void frames_arrive_in_the_next_tick_at_the_earliest(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    p.latency_ns = 1;
    struct bench b = new_bench(&p);
    send_at(&b, 1, TICK + 5, 60);
    send_at(&b, 1, 2 * TICK - 1, 60);
    cc_fabric_switch(b.f, b.k.m, 2 * TICK, 2 * TICK, NULL, NULL);
    CHECK_EQ(arrival(&b), 2 * TICK);
    CHECK_EQ(arrival(&b), 2 * TICK);
    free_bench(&b);
}

static void jitter_keeps_order_and_reordering_does_not(void)
{
    for (unsigned reorder = 0; reorder < 2; reorder++) {
        cc_link_params p;
        cc_link_params_default(&p);
        p.jitter_ns = 70000;
        p.reorder_ppm = reorder ? 300000 : 0;
        p.reorder_ns = 400000;
        struct bench b = new_bench(&p);
        for (uint64_t i = 0; i < 900; i++)
            send_at(&b, 1, 1000 * i, 60);
        deliver(&b);
        uint64_t last = 0, swaps = 0, late = 0;
        struct cc_frame f;
        for (uint64_t i = 0; i < 900; i++) {
            CHECK(cc_inbox_first(b.k.m[1], &f));
            const uint64_t delay = f.vns - 1000 * f.serial;
            CHECK(delay >= 50000 && delay <= 50000 + 70000 + (reorder ? 400000 : 0));
            late += delay > 50000 + 70000;
            swaps += f.serial < last;
            last = f.serial;
            cc_inbox_pop(b.k.m[1]);
        }
        CHECK_EQ(swaps != 0, reorder);
        CHECK_EQ(late != 0, reorder);
        CHECK(!reorder || (count(&b)->reordered > 200 && count(&b)->reordered < 340));
        free_bench(&b);
    }
}

static void corruption_flips_one_bit_behind_the_header(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    p.corrupt_ppm = 1000000;
    struct bench b = new_bench(&p);
    uint64_t places = 0;
    for (uint64_t i = 0; i < 300; i++)
        send_at(&b, 1, i, 18);
    deliver(&b);
    for (uint64_t i = 0; i < 300; i++) {
        struct cc_frame f;
        unsigned flipped = 0;
        CHECK(cc_inbox_first(b.k.m[1], &f));
        CHECK(f.data[0] == 0x52 && f.data[5] == 1);
        for (unsigned bit = 0; bit < 18 * 8; bit++)
            if (bit >= 6 * 8 && f.data[bit / 8] >> bit % 8 & 1) {
                flipped++;
                CHECK(bit >= 14 * 8);
                places |= UINT64_C(1) << (bit - 14 * 8);
            }
        CHECK_EQ(flipped, 1);
        cc_inbox_pop(b.k.m[1]);
    }
    CHECK_EQ(places, UINT32_MAX);              /* each of the 32 bits at some time */
    CHECK_EQ(count(&b)->corrupted, 300);
    free_bench(&b);
}

static void chances_are_what_was_asked_for(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    p.loss_ppm = 250000;
    p.duplicate_ppm = 100000;
    struct bench b = new_bench(&p);
    for (unsigned round = 0; round < 40; round++) {
        for (unsigned i = 0; i < 500; i++)
            send_at(&b, 1, round, 60);
        deliver(&b);
        while (cc_inbox_count(b.k.m[1]))
            cc_inbox_pop(b.k.m[1]);
    }
    CHECK_EQ(count(&b)->sent, 20000);
    CHECK(count(&b)->lost_random > 4700 && count(&b)->lost_random < 5300);
    CHECK(count(&b)->duplicated > 1350 && count(&b)->duplicated < 1650);
    CHECK_EQ(count(&b)->delivered, 20000 - count(&b)->lost_random + count(&b)->duplicated);
    free_bench(&b);
}

static void one_way_down_and_unknown_addresses(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    p.down = 1;
    struct bench b = new_bench(&p);
    send_at(&b, 1, 5, 60);
    send_at(&b, 0xFF, 6, 60);                  /* broadcast: two of three */
    send_at(&b, 0, 7, 60);                     /* itself */
    send_at(&b, N, 8, 60);                     /* nobody */
    send_at(&b, 2, 9, 13);                     /* no Ethernet frame */
    deliver(&b);
    CHECK_EQ(count(&b)->lost_down, 2);
    CHECK_EQ(cc_inbox_count(b.k.m[1]), 0);
    CHECK_EQ(cc_inbox_count(b.k.m[2]), 1);
    CHECK_EQ(cc_inbox_count(b.k.m[3]), 1);
    CHECK_EQ(b.f->port[0].unknown, 2);
    CHECK_EQ(b.f->port[0].runts, 1);
    free_bench(&b);
}

static void a_change_holds_for_what_is_sent_from_then_on(void)
{
    cc_link_params p;
    cc_link_params_default(&p);
    struct bench b = new_bench(&p);
    send_at(&b, 1, TICK + 10, 60);
    p.latency_ns = 7 * MS;
    CHECK(cc_fabric_set(b.f, 1, TICK + 20, &p));
    CHECK_EQ(cc_fabric_get(b.f, 1)->latency_ns, 7 * MS);
    send_at(&b, 1, TICK + 20, 60);
    p.latency_ns = 1 * MS;
    CHECK(cc_fabric_set(b.f, 1, TICK + 30, &p));
    send_at(&b, 1, TICK + 30, 60);
    deliver(&b);
    CHECK_EQ(arrival(&b), TICK + 10 + 50000);
    CHECK_EQ(arrival(&b), TICK + 30 + 1 * MS); /* the slow one before does not hold it up */
    CHECK_EQ(arrival(&b), TICK + 20 + 7 * MS);
    CHECK_EQ(b.f->changes, 0);
    uint32_t n = 0;
    for (p.latency_ns = 1; cc_fabric_set(b.f, 1, 2 * TICK + 1, &p); p.latency_ns++)
        n++;
    CHECK_EQ(n, b.f->changes_max);
    free_bench(&b);
}

static void impossible_links_are_refused(void)
{
    struct cluster k = new_cluster(1, 0);
    cc_link_params p;
    cc_link_params_default(&p);
    CHECK_EQ(cc_link_set(k.c, 0, 0, &p), CC_EINVAL);
    CHECK_EQ(cc_link_set(k.c, 0, N, &p), CC_EINVAL);
    p.bandwidth_bps = 7;
    CHECK_EQ(cc_link_set(k.c, 0, 1, &p), CC_EINVAL);
    CHECK(strstr(cc_cluster_error(k.c), "link 0 to 1: the bandwidth"));
    cc_link_params_default(&p);
    p.loss_ppm = 1000001;
    CHECK_EQ(cc_link_set(k.c, 0, 1, &p), CC_EINVAL);
    cc_link_params_default(&p);
    p.latency_ns = UINT64_C(10000000000000001);
    CHECK_EQ(cc_link_set(k.c, 0, 1, &p), CC_EINVAL);
    free_cluster(&k);
}

static void a_capture_has_every_fate(void)
{
    struct cluster k = new_cluster(1, 0);
    static uint8_t data[16 << 20];
    uint64_t lost, records = 0, fates = 0;
    cc_tap_set(k.c, sizeof data);
    adventure(&k, 0, 20 * MS, NULL);
    const size_t size = cc_tap_take(k.c, data, sizeof data, &lost);
    CHECK_EQ(lost, 0);
    for (size_t at = 0; at < size;) {
        cc_tap_record r;
        memcpy(&r, data + at, sizeof r);
        CHECK(r.src < N && r.dst < N && r.src != r.dst && r.size >= 14 && r.size < 200);
        CHECK_EQ(r.arrival_vns != 0, (r.fate & CC_TAP_DELIVERED) != 0);
        CHECK(!r.arrival_vns || r.arrival_vns > r.sent_vns);
        fates |= r.fate;
        records++;
        at += sizeof r + (r.size + 7) / 8 * 8;
    }
    uint64_t expected = 0;
    for (uint32_t i = 0; i < N * N; i++) {
        cc_link_counters n = {0};
        if (i / N != i % N)
            CHECK_EQ(cc_link_count(k.c, i / N, i % N, &n), 0);
        expected += n.sent + n.duplicated;
    }
    CHECK_EQ(records, expected);
    CHECK_EQ(fates, 255 & ~CC_TAP_LOST_RECEIVER);
    CHECK_EQ(cc_tap_take(k.c, data, sizeof data, &lost), 0);
    free_cluster(&k);
}

int main(void)
{
    RUN(the_result_depends_on_nothing_but_the_inputs);
    RUN(a_restored_cluster_has_the_same_future);
    RUN(frames_are_conserved);
    RUN(machines_that_wait_cost_nothing);
    RUN(a_stop_for_one_machine_is_exact);
    RUN(ended_machines_stay);
    RUN(bandwidth_delays_and_drops_by_the_numbers);
    RUN(frames_arrive_in_the_next_tick_at_the_earliest);
    RUN(jitter_keeps_order_and_reordering_does_not);
    RUN(corruption_flips_one_bit_behind_the_header);
    RUN(chances_are_what_was_asked_for);
    RUN(one_way_down_and_unknown_addresses);
    RUN(a_change_holds_for_what_is_sent_from_then_on);
    RUN(impossible_links_are_refused);
    RUN(a_capture_has_every_fate);
    cc_store_free(the_store);
    return 0;
}
