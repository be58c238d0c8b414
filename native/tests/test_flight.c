/*
 * test_flight.c: frames on their way, one by one: what is listed is what comes, looking changes nothing, and each edit
 * does what it says to one copy of one frame.
 */
#include "net_guests.h"

#define LIST_BYTES (4u << 20)
#define FRAMES_MAX 4096u

/* A list, in the order of arrival, then by name. */
struct flights {
    uint32_t n;
    const cc_flight *at[FRAMES_MAX];
    uint8_t *bytes;
};

static const uint8_t *data_of(const cc_flight *f)
{
    return (const uint8_t *)(f + 1);
}

static int by_arrival(const void *a, const void *b)
{
    const cc_flight *x = *(const cc_flight *const *)a, *y = *(const cc_flight *const *)b;
    if (x->arrival_vns != y->arrival_vns)
        return x->arrival_vns < y->arrival_vns ? -1 : 1;
    return memcmp(x, y, offsetof(cc_flight, size));
}

static struct flights list(struct cluster *k)
{
    struct flights l = {.bytes = malloc(LIST_BYTES)};
    size_t size, whole;
    CHECK(l.bytes != NULL);
    CHECK_EQ(cc_flights(k->c, NULL, 0, &size), 0);
    CHECK_EQ(cc_flights(k->c, l.bytes, LIST_BYTES, &whole), 0);
    CHECK_EQ(size, whole);
    for (size_t at = 0; at < size;) {
        const cc_flight *f = (const cc_flight *)(void *)(l.bytes + at);
        CHECK(l.n < FRAMES_MAX && f->src < N && f->dst < N && f->size >= 14);
        l.at[l.n++] = f;
        at += sizeof *f + (f->size + 7) / 8 * 8;
    }
    qsort(l.at, l.n, sizeof l.at[0], by_arrival);
    return l;
}

static void free_list(struct flights *l)
{
    free(l->bytes);
}

static bool same(const cc_flight *a, const cc_flight *b)
{
    return memcmp(a, b, sizeof *a) == 0 && memcmp(data_of(a), data_of(b), a->size) == 0;
}

static void expect_list(const struct flights *got, const struct flights *wanted)
{
    CHECK_EQ(got->n, wanted->n);
    for (uint32_t i = 0; i < got->n; i++)
        CHECK(same(got->at[i], wanted->at[i]));
}

static const cc_flight *find(const struct flights *l, const cc_flight *name)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (memcmp(l->at[i], name, offsetof(cc_flight, size)) == 0)
            return l->at[i];
    return NULL;
}

struct state {
    cc_snapshot *s[N];
    uint8_t *network;
};

static struct state save(struct cluster *k)
{
    struct state t = {.network = malloc(cc_cluster_state_size(k->c))};
    CHECK(t.network != NULL);
    for (uint32_t i = 0; i < N; i++)
        CHECK_EQ(cc_snapshot_take(k->m[i], &t.s[i]), 0);
    cc_cluster_state_save(k->c, t.network);
    return t;
}

static void restore(struct cluster *k, const struct state *t)
{
    for (uint32_t i = 0; i < N; i++)
        CHECK_EQ(cc_snapshot_restore(k->m[i], t->s[i]), 0);
    CHECK_EQ(cc_cluster_state_load(k->c, t->network, cc_cluster_state_size(k->c)), 0);
}

static void drop_state(struct state *t)
{
    for (uint32_t i = 0; i < N; i++)
        cc_snapshot_free(t->s[i]);
    free(t->network);
}

static struct cluster rough_cluster(uint64_t until)
{
    struct cluster k = new_cluster(1, 300000);
    cc_link_params p = rough();
    p.queue_bytes = 100000;
    for (uint32_t src = 0; src < N; src++)
        for (uint32_t dst = 0; dst < N; dst++)
            if (src != dst)
                CHECK_EQ(cc_link_set(k.c, src, dst, &p), 0);
    run_cluster(&k, until);
    return k;
}

/* ---- tests ------------------------------------------------------------------------------------------------------------- */
static void looking_changes_nothing(void)
{
    struct cluster k = rough_cluster(0), other = rough_cluster(0);
    uint64_t seen = 0;
    for (uint64_t at = 0; at < 10 * MS; at += 34567) {
        run_cluster(&k, at);
        struct flights l = list(&k);
        seen += l.n;
        free_list(&l);
    }
    run_cluster(&k, 10 * MS);
    run_cluster(&other, 10 * MS);
    expect(digest_of(&k), digest_of(&other));
    CHECK(seen > 1000);
    free_cluster(&k);
    free_cluster(&other);
}

static void what_is_foreseen_is_what_comes(void)
{
    struct cluster k = rough_cluster(0);
    static uint8_t bytes[4 << 20];
    uint64_t foreseen = 0, lost;
    for (uint64_t at = 1 * MS; at < 40 * MS; at += 134567) {
        run_cluster(&k, at);
        struct flights before = list(&k);
        cc_tap_set(k.c, sizeof bytes);
        run_cluster(&k, (at / TICK + 1) * TICK);
        uint32_t expected = 0;
        for (uint32_t i = 0; i < before.n; i++)
            expected += before.at[i]->foreseen;
        foreseen += expected;
        const size_t size = cc_tap_take(k.c, bytes, sizeof bytes, &lost);
        for (size_t next = 0; next < size;) {
            cc_tap_record r;
            memcpy(&r, bytes + next, sizeof r);
            if (r.sent_vns < at && r.fate & CC_TAP_DELIVERED) {
                const cc_flight name = {.serial = r.serial, .src = r.src, .dst = r.dst,
                                        .copy = r.fate & CC_TAP_DUPLICATE ? 1 : 0};
                const cc_flight *f = find(&before, &name);
                CHECK(f != NULL && f->foreseen && f->arrival_vns == r.arrival_vns && f->size == r.size);
                CHECK(memcmp(data_of(f), bytes + next + sizeof r, r.size) == 0);
                expected--;
            }
            next += sizeof r + (r.size + 7) / 8 * 8;
        }
        CHECK_EQ(expected, 0);
        cc_tap_set(k.c, 0);
        struct flights after = list(&k);
        for (uint32_t i = 0; i < after.n; i++)
            CHECK_EQ(after.at[i]->foreseen, 0);
        free_list(&before);
        free_list(&after);
    }
    CHECK(foreseen > 200);
    free_cluster(&k);
}

static void each_edit_changes_one_copy(void)
{
    struct cluster k = rough_cluster(3 * MS + 50001);
    struct state then = save(&k);
    struct flights before = list(&k);
    const uint64_t now = cc_cluster_vns(k.c);
    uint32_t copies = 0, foreseen = 0;
    CHECK(before.n > 30);
    for (uint32_t i = 0; i < before.n; i++) {
        const cc_flight *f = before.at[i];
        uint8_t data[CC_FRAME_BYTES_MAX];
        if (f->foreseen) {
            foreseen++;
            continue;
        }
        copies += f->copy;
        for (unsigned edit = 0; edit < 4; edit++) {
            const uint64_t arrival = now + i * 12345;
            memcpy(data, data_of(f), f->size);
            data[f->size - 1] ^= 0x5A;
            if (edit == 0)
                CHECK_EQ(cc_flight_drop(k.c, f), 0);
            else if (edit == 1)
                CHECK_EQ(cc_flight_move(k.c, f, arrival), 0);
            else if (edit == 2)
                CHECK_EQ(cc_flight_copy(k.c, f, arrival), 0);
            else
                CHECK_EQ(cc_flight_write(k.c, f, data, f->size), 0);
            struct flights after = list(&k);
            CHECK_EQ(after.n, before.n + (edit == 2) - (edit == 0));
            for (uint32_t j = 0; j < before.n; j++) {
                cc_flight name = *before.at[j];
                /* A copy that follows a dropped one is the next to have its number. */
                if (edit == 0 && name.src == f->src && name.serial == f->serial && name.dst == f->dst) {
                    if (name.copy == f->copy)
                        continue;
                    name.copy -= name.copy > f->copy;
                }
                const cc_flight *found = find(&after, &name);
                CHECK(found != NULL);
                CHECK_EQ(found->arrival_vns, i == j && edit == 1 ? arrival : name.arrival_vns);
                const uint8_t *wanted = i == j && edit == 3 ? data : data_of(before.at[j]);
                CHECK(found->size == name.size && memcmp(data_of(found), wanted, name.size) == 0);
            }
            for (uint32_t j = 0; edit == 2 && j < after.n; j++)
                if (!find(&before, after.at[j])) {
                    CHECK_EQ(after.at[j]->arrival_vns, arrival);
                    CHECK(after.at[j]->serial == f->serial && after.at[j]->src == f->src && after.at[j]->dst == f->dst);
                    CHECK(memcmp(data_of(after.at[j]), data_of(f), f->size) == 0);
                }
            free_list(&after);
            restore(&k, &then);
            struct flights again = list(&k);
            expect_list(&again, &before);      /* undone */
            free_list(&again);
        }
    }
    CHECK(copies > 0 && foreseen > 0);
    drop_state(&then);
    free_list(&before);
    free_cluster(&k);
}

static void what_is_not_on_its_way_is_refused(void)
{
    struct cluster k = rough_cluster(3 * MS + 50001);
    struct flights l = list(&k);
    const uint64_t now = cc_cluster_vns(k.c);
    const cc_digest before = digest_of(&k);
    const cc_flight *last = l.at[l.n - 1];
    for (unsigned wrong = 0; wrong < 5; wrong++) {
        cc_flight name = *last;
        name.serial += wrong == 0 ? 100000 : 0;
        name.copy += wrong == 1 ? 2 : 0;
        name.dst = wrong == 2 ? name.src : wrong == 3 ? N : name.dst;
        name.src = wrong == 4 ? UINT32_MAX : name.src;
        CHECK_EQ(cc_flight_drop(k.c, &name), CC_EINVAL);
        CHECK_EQ(cc_flight_move(k.c, &name, now), CC_EINVAL);
        CHECK_EQ(cc_flight_copy(k.c, &name, now), CC_EINVAL);
        CHECK_EQ(cc_flight_write(k.c, &name, data_of(last), last->size), CC_EINVAL);
        CHECK(strstr(cc_cluster_error(k.c), wrong < 2 ? "is not on its way to machine" : "machine") != NULL);
    }
    for (uint32_t i = 0; i < l.n; i++) {
        if (l.at[i]->foreseen) {
            CHECK_EQ(cc_flight_drop(k.c, l.at[i]), CC_EINVAL);
            CHECK(strstr(cc_cluster_error(k.c), "is still with its sender: go to 3100000 ns") != NULL);
        }
        CHECK_EQ(cc_flight_move(k.c, l.at[i], now - 1), CC_EINVAL);
        CHECK_EQ(cc_flight_copy(k.c, l.at[i], UINT64_MAX), CC_EINVAL);
        CHECK_EQ(cc_flight_write(k.c, l.at[i], data_of(l.at[i]), l.at[i]->size - 1), CC_EINVAL);
    }
    expect(digest_of(&k), before);
    free_list(&l);
    free_cluster(&k);
}

static void a_full_inbox_takes_no_copy(void)
{
    struct cluster k = rough_cluster(0);
    uint8_t data[60] = {0x52};
    struct cc_frame f = {.vns = SECOND, .serial = 7, .src = 1, .size = sizeof data, .data = data};
    while (cc_inbox_room(k.m[0]) > 1)
        CHECK(cc_inbox_push(k.m[0], &f));
    cc_flight name = {.serial = 7, .src = 1, .dst = 0, .copy = 3006};
    CHECK_EQ(cc_flight_copy(k.c, &name, 5), 0);
    CHECK_EQ(cc_flight_copy(k.c, &name, 5), CC_EINVAL);
    CHECK(strstr(cc_cluster_error(k.c), "takes no more") != NULL);
    CHECK_EQ(cc_flight_drop(k.c, &name), 0);
    CHECK_EQ(cc_inbox_room(k.m[0]), 1);
    free_cluster(&k);
}

static void a_capture_tells_of_edits(void)
{
    struct cluster k = rough_cluster(3 * MS);
    static uint8_t bytes[1 << 20];
    uint64_t lost;
    cc_tap_set(k.c, sizeof bytes);
    struct flights l = list(&k);
    const cc_flight *f = l.at[l.n / 2];
    uint8_t data[CC_FRAME_BYTES_MAX] = {0};
    CHECK_EQ(cc_flight_move(k.c, f, f->arrival_vns + 5), 0);
    CHECK_EQ(cc_flight_write(k.c, f, data, f->size), 0);
    CHECK_EQ(cc_flight_copy(k.c, f, f->arrival_vns + 9), 0);
    CHECK_EQ(cc_flight_drop(k.c, f), 0);
    const uint32_t put = CC_TAP_DELIVERED | CC_TAP_EDITED;
    const struct { uint32_t fate; uint64_t later; bool zeros; } wanted[] = {
        {CC_TAP_TAKEN, 0, false}, {put, 5, false}, {CC_TAP_TAKEN, 5, false}, {put, 5, true},
        {put | CC_TAP_DUPLICATE, 9, true}, {CC_TAP_TAKEN, 5, true},
    };
    const size_t size = cc_tap_take(k.c, bytes, sizeof bytes, &lost);
    size_t at = 0;
    for (unsigned i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        cc_tap_record r;
        CHECK(at < size);
        memcpy(&r, bytes + at, sizeof r);
        CHECK_EQ(r.fate, wanted[i].fate);
        CHECK_EQ(r.arrival_vns, f->arrival_vns + wanted[i].later);
        CHECK(r.switched_vns == 3 * MS && r.sent_vns == 3 * MS);
        CHECK(r.src == f->src && r.dst == f->dst && r.serial == f->serial && r.size == f->size);
        CHECK(memcmp(bytes + at + sizeof r, wanted[i].zeros ? data : data_of(f), f->size) == 0);
        at += sizeof r + (r.size + 7) / 8 * 8;
    }
    CHECK_EQ(at, size);
    free_list(&l);
    free_cluster(&k);
}

int main(void)
{
    RUN(looking_changes_nothing);
    RUN(what_is_foreseen_is_what_comes);
    RUN(each_edit_changes_one_copy);
    RUN(what_is_not_on_its_way_is_refused);
    RUN(a_full_inbox_takes_no_copy);
    RUN(a_capture_tells_of_edits);
    cc_store_free(the_store);
    return 0;
}
