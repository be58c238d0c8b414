/*
 * test_reclaim.c: host memory that snapshots no longer need is given back: a run of any length, with any number of
 * snapshots taken and freed, is as large as what it holds at the moment.
 */
#include "fake_machine.h"

#define PAGES 8192u
#define KEPT_EVERY 64u
/* What slab.c may keep for later of what is free, in pages: 2 MiB and a sixteenth of what is in use. */
#define WARM_PAGES (512u + PAGES / 16)

static uint64_t resident_frames(const cc_store *s)
{
    const struct cc_slab *l = &s->slab[CC_SLAB_FRAME];
    static uint8_t there[4096];
    uint64_t n = 0;
    for (uint32_t c = 0; c < l->chunks; c++) {
        const size_t frames = (size_t)1 << l->shift;
        if (!l->items[c])
            continue;
        CHECK(frames <= sizeof there && !mincore(l->items[c], frames * CC_PAGE_SIZE, there));
        for (size_t i = 0; i < frames; i++)
            n += there[i] & 1;
    }
    return n;
}

static uint64_t used_frames(const cc_store *s)
{
    return s->slab[CC_SLAB_FRAME].used;
}

/* Whole contents that no difference could stand for. */
static void fill(cc_machine *m, uint64_t page, uint64_t seed)
{
    uint8_t *p = fake_write(m, page);
    for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8)
        memcpy(p + i, &(uint64_t){rnd(&seed)}, 8);
}

static void check_filled(const cc_machine *m, uint64_t page, uint64_t seed)
{
    const uint8_t *p = m->ram + page * CC_PAGE_SIZE;
    for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8) {
        const uint64_t word = rnd(&seed);
        CHECK(!memcmp(p + i, &word, 8));
    }
}

static void fill_all(cc_machine *m, uint64_t seed)
{
    for (uint64_t page = 0; page < m->npages; page++)
        fill(m, page, seed + page);
}

static cc_snapshot *take(cc_machine *m)
{
    cc_snapshot *v;
    CHECK(cc_snapshot_take(m, &v) == CC_OK);
    return v;
}

/* One frame that is kept, in each chunk, does not keep the chunk's memory; nor does a promise of frames. */
static void test_freed_frames(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, PAGES, false);
    fill_all(m, 1);
    cc_snapshot *kept = take(m);
    fill_all(m, 2);
    CHECK(used_frames(s) == PAGES && resident_frames(s) >= PAGES);
    CHECK(cc_snapshot_restore(m, kept) == CC_OK);
    for (unsigned round = 0; round < 4; round++) {
        /* By way of zeros: what replaces contents keeps them, to become a difference of them. */
        for (uint64_t page = 0; page < PAGES; page++)
            if (page % KEPT_EVERY)
                memset(fake_write(m, page), 0, CC_PAGE_SIZE);
        cc_snapshot *zeros = take(m);
        for (uint64_t page = 0; page < PAGES; page++)
            if (page % KEPT_EVERY)
                fill(m, page, 10 + round);
        cc_snapshot *next = take(m);
        cc_snapshot_free(zeros);
        cc_snapshot_free(kept);
        kept = next;
        CHECK(used_frames(s) == PAGES / KEPT_EVERY);
        CHECK(resident_frames(s) <= PAGES / KEPT_EVERY + WARM_PAGES);
        CHECK(cc_store_lent_bytes(s) == (uint64_t)(PAGES - PAGES / KEPT_EVERY) * CC_PAGE_SIZE);
        fill_all(m, 3);                /* all that was promised is needed now */
        CHECK(used_frames(s) == PAGES && cc_store_lent_bytes(s) == 0);
        CHECK(cc_snapshot_restore(m, kept) == CC_OK);
        for (uint64_t page = 0; page < PAGES; page++)
            check_filled(m, page, page % KEPT_EVERY ? 10 + round : 1 + page);
    }
    cc_snapshot_free(kept);
    fake_free(m);
    CHECK(used_frames(s) == 0 && cc_store_bytes(s) == 0 && resident_frames(s) <= WARM_PAGES);
    cc_store_free(s);
}

/* What no snapshot has is not copied before the machine writes there. */
static void test_written_after_the_last_snapshot(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, PAGES, false);
    fill_all(m, 1);
    cc_snapshot *first = take(m);
    for (uint64_t page = 0; page < PAGES; page += 2)
        fill(m, page, 2);
    cc_snapshot *second = take(m);
    cc_snapshot_free(second);
    fill_all(m, 3);                    /* half of it is in the first, and only the machine knew the other half */
    CHECK(used_frames(s) == PAGES);
    CHECK(cc_snapshot_restore(m, first) == CC_OK);
    for (uint64_t page = 0; page < PAGES; page++)
        check_filled(m, page, 1 + page);
    cc_snapshot_free(first);
    first = take(m);
    cc_snapshot_free(first);
    cc_pagemap_reclaim(m);
    CHECK(used_frames(s) == 0);
    fill_all(m, 4);
    CHECK(used_frames(s) == 0 && cc_store_lent_bytes(s) == 0);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

/* Copies made for a snapshot go when it goes, and what the machine still has in RAM is lent again. */
static void test_copies_of_a_freed_snapshot(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, PAGES, false);
    fill_all(m, 1);
    cc_snapshot *base = take(m);
    for (uint64_t page = 0; page < PAGES / 2; page++)
        fill(m, page, 2 + page);
    cc_snapshot *v = take(m);
    fill_all(m, 3);
    CHECK(used_frames(s) == PAGES + PAGES / 2);
    CHECK(cc_snapshot_restore(m, v) == CC_OK);
    for (uint64_t page = 0; page < PAGES / 4; page++)
        fill(m, page, 4);
    cc_digest before, after;
    cc_digest_now(m, &before);
    cc_pagemap_reclaim(m);             /* nothing was freed */
    CHECK(used_frames(s) == PAGES + PAGES / 2);
    cc_snapshot_free(v);
    cc_pagemap_reclaim(m);
    CHECK(used_frames(s) == PAGES);    /* the other snapshot's */
    CHECK(cc_store_lent_bytes(s) == (uint64_t)PAGES / 4 * CC_PAGE_SIZE && cc_dirty_pages(m) == PAGES / 4);
    cc_digest_now(m, &after);
    CHECK(before.lo == after.lo && before.hi == after.hi);
    v = take(m);
    fill_all(m, 5);
    CHECK(cc_snapshot_restore(m, v) == CC_OK);
    for (uint64_t page = 0; page < PAGES; page++)
        check_filled(m, page, page < PAGES / 4 ? 4 : page < PAGES / 2 ? 2 + page : 1 + page);
    CHECK(cc_snapshot_restore(m, base) == CC_OK);
    cc_snapshot_free(v);
    cc_snapshot_free(base);
    cc_pagemap_reclaim(m);
    CHECK(used_frames(s) == 0 && resident_frames(s) <= WARM_PAGES);
    for (uint64_t page = 0; page < PAGES; page++)
        check_filled(m, page, 1 + page);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

int main(void)
{
    test_freed_frames();
    test_written_after_the_last_snapshot();
    test_copies_of_a_freed_snapshot();
    puts("reclaim: ok");
    return 0;
}
