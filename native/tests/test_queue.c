/* test_queue.c: the outbox and the inbox against a plain model; what survives snapshots; which pages are touched. */
#include "device_machine.h"
#include "../net/net.h"

static cc_machine *with_boxes(uint32_t id)
{
    cc_config cfg;
    cc_config_default(&cfg);
    cfg.ram_bytes = 1u << 20;
    cfg.devices = CC_DEV_NET;
    cfg.machine_id = id;
    return new_machine_of(&cfg);
}

static void fill(uint8_t *data, uint32_t size, uint64_t salt)
{
    for (uint32_t i = 0; i < size; i++)
        data[i] = (uint8_t)rnd(&salt);
}

static void outbox_is_a_queue(void)
{
    cc_machine *m = with_boxes(3);
    uint64_t seed = 1, sent = 0, taken = 0;
    uint8_t data[CC_FRAME_BYTES_MAX];
    struct cc_frame f;
    CHECK(!cc_outbox_first(m, &f));
    for (unsigned step = 0; step < 20000; step++) {
        m->instret += rnd(&seed) % 3;
        if (rnd(&seed) % 3) {
            const uint32_t size = 14 + (uint32_t)(rnd(&seed) % (CC_FRAME_BYTES_MAX - 13));
            fill(data, size, sent);
            CHECK_EQ(cc_outbox_push(m, data, size), sent - taken < 1024);
            sent += sent - taken < 1024;
        } else if (taken < sent) {
            CHECK(cc_outbox_first(m, &f));
            CHECK_EQ(f.serial, taken);
            CHECK_EQ(f.src, 3);
            fill(data, f.size, taken++);
            CHECK(memcmp(data, f.data, f.size) == 0);
            cc_outbox_pop(m);
        }
    }
    CHECK(cc_outbox_dropped(m) > 0);
    CHECK(!cc_outbox_push(m, data, CC_FRAME_BYTES_MAX + 1));
    cc_machine_free(m);
}

struct sent { uint64_t vns, order, salt; uint32_t size; };

static void inbox_is_ordered_by_arrival_then_queueing(void)
{
    static struct sent model[3008];
    cc_machine *m = with_boxes(0);
    uint64_t seed = 2, order = 0;
    uint32_t n = 0;
    uint8_t data[CC_FRAME_BYTES_MAX];
    struct cc_frame f;
    for (unsigned step = 0; step < 60000; step++) {
        /* First more in than out, then more out than in. */
        if (rnd(&seed) % 8 < (step < 30000 ? 5u : 3u)) {
            struct sent s = {.vns = rnd(&seed) % 500, .order = order, .salt = step, .size = 14 + step % 60};
            fill(data, s.size, s.salt);
            f = (struct cc_frame){.vns = s.vns, .serial = step, .src = 7, .size = s.size, .data = data};
            CHECK_EQ(cc_inbox_push(m, &f), n < 3008);
            if (n < 3008) {
                model[n++] = s;
                order++;
            }
        } else if (n) {
            uint32_t first = 0;
            for (uint32_t i = 1; i < n; i++)
                if (model[i].vns < model[first].vns
                    || (model[i].vns == model[first].vns && model[i].order < model[first].order))
                    first = i;
            CHECK(cc_inbox_first(m, &f));
            CHECK_EQ(f.vns, model[first].vns);
            CHECK_EQ(f.serial, model[first].salt);
            CHECK_EQ(m->dev.ev_at[CC_EV_NET], f.vns);
            fill(data, f.size, model[first].salt);
            CHECK(memcmp(data, f.data, f.size) == 0);
            model[first] = model[--n];
            cc_inbox_pop(m);
        }
        CHECK_EQ(cc_inbox_count(m), n);
    }
    while (cc_inbox_first(m, &f))
        cc_inbox_pop(m);
    CHECK_EQ(m->dev.ev_at[CC_EV_NET], CC_NEVER);
    cc_machine_free(m);
}

static uint32_t place_of(const cc_machine *m, uint64_t number)
{
    struct cc_frame f;
    for (uint32_t i = 0; i < cc_inbox_count(m); i++)
        if (cc_inbox_at(m, i, &f) == number)
            return i;
    CHECK(!"it is there");
    return 0;
}

static void any_frame_of_the_inbox_can_be_moved_changed_and_removed(void)
{
    static struct sent model[200];
    cc_machine *m = with_boxes(0);
    uint64_t seed = 3, order = 0;
    uint32_t n = 0;
    uint8_t data[CC_FRAME_BYTES_MAX];
    struct cc_frame f;
    for (unsigned step = 0; step < 40000; step++) {
        const uint64_t r = rnd(&seed);
        struct sent *s = &model[n ? (r >> 8) % n : 0];
        if (n < 200 && r % 4 == 0) {
            s = &model[n++];
            *s = (struct sent){.vns = r >> 8 & 255, .order = order++, .salt = step, .size = 14 + step % 60};
            fill(data, s->size, s->salt);
            f = (struct cc_frame){.vns = s->vns, .serial = s->salt, .src = 7, .size = s->size, .data = data};
            CHECK(cc_inbox_push(m, &f));
        } else if (n && r % 4 == 1) {
            s->vns = r >> 20 & 255;
            cc_inbox_move(m, place_of(m, s->order), s->vns);
        } else if (n && r % 4 == 2) {
            s->salt = step + 1000000;
            fill(data, s->size, s->salt);
            cc_inbox_write(m, place_of(m, s->order), data);
        } else if (n) {
            cc_inbox_remove(m, place_of(m, s->order));
            *s = model[--n];
        }
        uint32_t first = 0;
        for (uint32_t i = 1; i < n; i++)
            if (model[i].vns < model[first].vns
                || (model[i].vns == model[first].vns && model[i].order < model[first].order))
                first = i;
        CHECK_EQ(cc_inbox_count(m), n);
        CHECK_EQ(cc_inbox_first(m, &f), n != 0);
        CHECK_EQ(m->dev.ev_at[CC_EV_NET], n ? model[first].vns : CC_NEVER);
        if (n) {
            CHECK_EQ(f.vns, model[first].vns);
            fill(data, f.size, model[first].salt);
            CHECK(f.size == model[first].size && memcmp(data, f.data, f.size) == 0);
        }
    }
    CHECK_EQ(cc_inbox_room(m), 3008 - n);
    cc_machine_free(m);
}

static void boxes_are_part_of_snapshots_and_digest(void)
{
    cc_machine *m = with_boxes(0);
    uint8_t data[60] = {1, 2, 3};
    struct cc_frame f = {.vns = 77, .serial = 5, .src = 1, .size = sizeof data, .data = data}, got;
    cc_digest empty, full, again;
    cc_digest_now(m, &empty);
    CHECK(cc_outbox_push(m, data, sizeof data) && cc_inbox_push(m, &f));
    cc_digest_now(m, &full);
    CHECK(full.lo != empty.lo);
    cc_snapshot *s;
    CHECK_EQ(cc_snapshot_take(m, &s), 0);
    cc_outbox_pop(m);
    cc_inbox_pop(m);
    CHECK(!cc_inbox_first(m, &got) && !cc_outbox_first(m, &got));
    CHECK_EQ(cc_snapshot_restore(m, s), 0);
    cc_digest_now(m, &again);
    CHECK(again.lo == full.lo && again.hi == full.hi);
    CHECK(cc_inbox_first(m, &got) && got.vns == 77 && got.serial == 5 && memcmp(got.data, data, sizeof data) == 0);
    CHECK(cc_outbox_first(m, &got) && got.size == sizeof data);
    cc_net_reset(m);
    CHECK(!cc_inbox_first(m, &got) && cc_outbox_first(m, &got));
    CHECK_EQ(m->dev.ev_at[CC_EV_NET], CC_NEVER);
    cc_snapshot_free(s);
    cc_machine_free(m);
}

static void little_traffic_touches_few_pages(void)
{
    cc_machine *m = with_boxes(0);
    cc_snapshot *s;
    CHECK_EQ(cc_snapshot_take(m, &s), 0);
    uint8_t data[1514] = {0};
    for (unsigned i = 0; i < 10000; i++) {
        struct cc_frame f = {.vns = i, .serial = i, .size = sizeof data, .data = data};
        CHECK(cc_outbox_push(m, data, sizeof data) && cc_inbox_push(m, &f));
        cc_outbox_pop(m);
        cc_inbox_pop(m);
    }
    CHECK(cc_dirty_pages(m) <= 4);
    cc_snapshot_free(s);
    cc_machine_free(m);
}

static void without_a_network_device_there_are_no_boxes(void)
{
    cc_machine *m = new_machine();
    struct cc_frame f = {.size = 14, .data = (const uint8_t *)"01234567890123"};
    CHECK(!cc_outbox_push(m, f.data, f.size) && !cc_inbox_push(m, &f));
    CHECK(!cc_outbox_first(m, &f) && !cc_inbox_first(m, &f));
    CHECK_EQ(cc_inbox_count(m) + cc_inbox_room(m) + cc_outbox_dropped(m), 0);
    cc_net_reset(m);
    cc_machine_free(m);
}

int main(void)
{
    RUN(outbox_is_a_queue);
    RUN(inbox_is_ordered_by_arrival_then_queueing);
    RUN(any_frame_of_the_inbox_can_be_moved_changed_and_removed);
    RUN(boxes_are_part_of_snapshots_and_digest);
    RUN(little_traffic_touches_few_pages);
    RUN(without_a_network_device_there_are_no_boxes);
    cc_store_free(the_store);
    return 0;
}
