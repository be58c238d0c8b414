/*
 * storage FILE [RUNS]: what storage.h promises, on a disk that loses power at any request, fails requests and is damaged.
 * FILE is of the size of the disk; only its size is looked at. Says what failed and exits 1, or how much was checked.
 */
#include "../storage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_disk.h"

enum {
    LOG_MAX = 3000,
    BLOCK_RECORDS = STORAGE_BLOCK_BYTES / STORAGE_RECORD_BYTES,
    LOG_AT = STORAGE_LOG_BLOCK * STORAGE_BLOCK_BYTES,
    SLOT_AT = STORAGE_SLOT_BLOCK * STORAGE_BLOCK_BYTES,
};

static unsigned long checks;
static uint64_t seed;
static const char *path;
static struct storage storage;
static struct storage_state state;
static struct raft_entry found[LOG_MAX + 1];

/*
 * What the disk must hold: entries 1..last of `log`, or, while a change of them is under way, a part of either log that
 * has all before `from`; and term and vote, or the next ones.
 */
static struct {
    struct raft_entry log[LOG_MAX + 1], next[LOG_MAX + 1];
    uint32_t batch[LOG_MAX + 1]; /* where the change that wrote the entry began */
    uint32_t last, from, next_last; /* from: 0 if nothing is under way */
    uint32_t term, next_term;
    uint8_t vote, next_vote;
    uint32_t boot;
} model;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        checks++;                                                                                                      \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: not so: %s (%s) in run %" PRIu64 "\n", __FILE__, __LINE__, #condition, storage.error, seed); \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static bool same(const struct raft_entry *a, const struct raft_entry *b, uint32_t from, uint32_t last)
{
    return last < from || memcmp(&a[from], &b[from], (last - from + 1) * sizeof *a) == 0;
}

static enum storage_result reopen(void)
{
    storage_close(&storage);
    memset(found, 0, sizeof found);
    return storage_open(&storage, path, found, LOG_MAX, &state);
}

/* --- the model ---------------------------------------------------------------------------------------------------- */

static bool log_is_allowed(void)
{
    if (model.from == 0)
        return state.last == model.last && same(found, model.log, 1, state.last);
    bool old = state.last <= model.last && same(found, model.log, 1, state.last);
    bool new = state.last <= model.next_last && same(found, model.next, model.from, state.last);
    return state.last + 1 >= model.from && same(found, model.log, 1, model.from - 1) && (old || new);
}

/* The disk opens, and holds what it may hold; that is so from now on. */
static void recover(void)
{
    CHECK(log_is_allowed());
    bool old_meta = state.term == model.term && state.vote == model.vote;
    CHECK(old_meta || (state.term == model.next_term && state.vote == model.next_vote));
    CHECK(state.boot > model.boot);
    for (uint32_t i = model.last + 1; i <= state.last; i++)
        model.batch[i] = model.from;
    for (uint32_t i = 1; i <= state.last && model.from != 0; i++)
        if (!same(found, model.log, i, i))
            model.batch[i] = model.from;
    memcpy(model.log, found, sizeof found);
    model.last = state.last;
    model.from = 0;
    model.term = model.next_term = state.term;
    model.vote = model.next_vote = state.vote;
    model.boot = state.boot;
}

static void change_meta(void)
{
    model.next_term = model.term + 1 + (uint32_t)(disk_draw() % 3);
    model.next_vote = (uint8_t)(disk_draw() % 3);
}

/* Entries from..last of the model's term, other ones than were there. */
static void change_log(uint32_t from, uint32_t last)
{
    memcpy(model.next, model.log, sizeof model.log);
    for (uint32_t i = from; i <= last; i++)
        model.next[i] = (struct raft_entry){.term = model.term, .op = 1, .key = (uint16_t)i, .client = 7, .seq = i,
                                            .value = disk_draw(), .expect = disk_draw()};
    model.next_last = last;
    model.from = from;
}

static enum storage_result write_meta(void)
{
    enum storage_result result = storage_meta(&storage, model.next_term, model.next_vote, state.boot);
    if (result == STORAGE_OK) {
        model.term = model.next_term;
        model.vote = model.next_vote;
    }
    return result;
}

static enum storage_result write_log(void)
{
    enum storage_result result = storage_log(&storage, model.next, model.from, model.next_last);
    if (result == STORAGE_OK) {
        memcpy(model.log, model.next, sizeof model.log);
        for (uint32_t i = model.from; i <= model.next_last; i++)
            model.batch[i] = model.from;
        model.last = model.next_last;
        model.from = 0;
    }
    return result;
}

/* A blank disk, opened, in term 1. */
static void start(void)
{
    disk_new();
    memset(&model, 0, sizeof model);
    model.vote = model.next_vote = RAFT_NOBODY;
    CHECK(reopen() == STORAGE_OK && state.boot == 1);
    recover();
    change_meta();
    CHECK(write_meta() == STORAGE_OK);
}

static void extend(uint32_t from, uint32_t last)
{
    change_log(from, last);
    CHECK(write_log() == STORAGE_OK);
}

static void comes_back(void)
{
    CHECK(reopen() == STORAGE_OK);
    recover();
}

/* --- without faults ----------------------------------------------------------------------------------------------- */

static void what_was_written_is_read(void)
{
    start();
    comes_back();
    extend(1, 1);
    for (uint32_t i = 2; i <= 100; i++)
        extend(i, i);
    comes_back();
    extend(101, 125);
    extend(90, 95); /* a suffix is replaced by a shorter one */
    comes_back();
    CHECK(storage.dropped == 0); /* what was cut is not told as lost */
    extend(1, 1);
    comes_back();
    extend(2, LOG_MAX); /* to the last place there is */
    comes_back();
    extend(LOG_MAX, LOG_MAX);
    comes_back();
    change_meta();
    CHECK(write_meta() == STORAGE_OK);
    comes_back();
    CHECK(state.boot == 8);
}

static void one_request_per_change(void)
{
    start();
    extend(1, 60);
    uint32_t reads = the_disk.requests[DISK_READ], writes = the_disk.requests[DISK_WRITE];
    for (uint32_t i = 61; i <= 160; i++)
        extend(i, i);
    CHECK(the_disk.requests[DISK_READ] == reads && the_disk.requests[DISK_WRITE] == writes + 100);
    CHECK(the_disk.requests[DISK_FLUSH] == the_disk.requests[DISK_WRITE]);
}

/* --- power loss --------------------------------------------------------------------------------------------------- */

/* The change of the log that is under way. False: the power failed at the n-th request. */
static bool log_until_power_fails(uint32_t requests)
{
    the_disk.power_left = requests;
    if (setjmp(the_disk.power_lost) != 0)
        return false;
    enum storage_result result = write_log();
    the_disk.power_left = 0;
    CHECK(result == STORAGE_OK);
    return true;
}

/*
 * Entries 1..100, then the change from..last; the power fails at any of its requests, and of a write that was not
 * flushed any of its sectors are there. What goes on then must not meet what is left behind it.
 */
static void any_part_of_a_change_recovers(uint32_t from, uint32_t last)
{
    for (uint32_t request = 1;; request++)
        for (uint32_t kept = 0, sectors = 0; kept < 1u << sectors; kept++) {
            start();
            extend(1, 80);
            extend(81, 100);
            change_log(from, last);
            if (log_until_power_fails(request))
                return;
            sectors = the_disk.unflushed_count > 0 ? the_disk.unflushed[0].sectors : 0;
            if (sectors > 0)
                disk_keep_of_newest(kept);
            comes_back();
            CHECK(state.last + 1 >= from);
            extend(model.last + 1, model.last + 1);
            comes_back();
            extend(model.last - 5, model.last - 2);
            comes_back();
        }
}

static bool open_until_power_fails(uint32_t requests)
{
    the_disk.power_left = requests;
    if (setjmp(the_disk.power_lost) != 0)
        return false;
    CHECK(reopen() == STORAGE_OK);
    the_disk.power_left = 0;
    return true;
}

static void the_first_start_may_be_interrupted(void)
{
    for (uint32_t request = 1, opened = 0; !opened; request++)
        for (uint32_t kept = 0; kept < 2; kept++) {
            disk_new();
            memset(&model, 0, sizeof model);
            model.vote = model.next_vote = RAFT_NOBODY;
            opened = open_until_power_fails(request);
            if (the_disk.unflushed_count > 0)
                disk_keep_of_newest(kept);
            comes_back();
            change_meta();
            CHECK(write_meta() == STORAGE_OK);
            extend(1, 10);
            comes_back();
        }
}

/* --- any history -------------------------------------------------------------------------------------------------- */

static void draw_change(void)
{
    uint32_t from = model.last + 1, count = 1;
    if (disk_draw() % 4 == 0 || from + 300 > LOG_MAX)
        from = 1 + (uint32_t)(disk_draw() % from);
    if (disk_draw() % 8 == 0)
        count += (uint32_t)(disk_draw() % 200);
    else if (disk_draw() % 2 == 0)
        count += (uint32_t)(disk_draw() % 16);
    change_log(from, from + count - 1);
}

/* From opening to a power loss or a request that fails. Nothing of it may ever be taken for damage. */
static void live(uint32_t requests)
{
    the_disk.power_left = requests;
    if (setjmp(the_disk.power_lost) != 0)
        return;
    enum storage_result result = reopen();
    if (result == STORAGE_OK)
        recover();
    while (result == STORAGE_OK) {
        bool meta = disk_draw() % 6 == 0;
        if (meta)
            change_meta();
        else
            draw_change();
        result = meta ? write_meta() : write_log();
    }
    the_disk.power_left = 0;
    CHECK(result == STORAGE_ERROR);
}

static void live_many_lives(uint32_t lives)
{
    while (lives-- > 0) {
        for (int request = 0; request < DISK_REQUESTS; request++)
            the_disk.fail_percent[request] = disk_draw() % 4 == 0 ? (uint32_t)(disk_draw() % 50) : 0;
        the_disk.tear_percent = (uint32_t)(disk_draw() % 101);
        live(1 + (uint32_t)(disk_draw() % 60));
        if (disk_draw() % 2 == 0)
            disk_lose_power(disk_draw() % 2 == 0 ? 1 : STORAGE_BLOCK_BYTES / STORAGE_SECTOR_BYTES);
    }
    memset(the_disk.fail_percent, 0, sizeof the_disk.fail_percent);
    comes_back();
}

/* --- damage ------------------------------------------------------------------------------------------------------- */

static void is_damaged(const char *says)
{
    CHECK(reopen() == STORAGE_DAMAGED && strstr(storage.error, says) != NULL);
}

static uint8_t *record(uint32_t index)
{
    return the_disk.now + LOG_AT + (index - 1) * STORAGE_RECORD_BYTES;
}

static void zero(uint8_t *at, size_t bytes, const char *says)
{
    static uint8_t kept[DISK_BYTES];
    memcpy(kept, at, bytes);
    memset(at, 0, bytes);
    is_damaged(says);
    memcpy(at, kept, bytes);
}

static void flip(uint8_t *at, const char *says)
{
    uint8_t mask = (uint8_t)(1u << disk_draw() % 8);
    *at ^= mask;
    is_damaged(says);
    *at ^= mask;
}

/* A node that forgot its promises must not come back: what had been flushed, and was followed by something, is missed. */
static void damage_is_not_a_torn_tail(void)
{
    while (model.last < 80)
        extend(model.last + 1, model.last + 10);
    extend(model.last + 1, model.last + 1);
    for (int i = 0; i < 20; i++) {
        uint32_t bad = 1 + (uint32_t)(disk_draw() % (model.batch[model.last] - 1));
        flip(record(bad) + disk_draw() % STORAGE_RECORD_BYTES, "damaged, and it had been flushed");
        uint32_t block = bad - (bad - 1) % BLOCK_RECORDS;
        if (block + BLOCK_RECORDS <= model.last && block < model.batch[model.last])
            zero(record(block), STORAGE_BLOCK_BYTES, "damaged, and it had been flushed");
    }
    comes_back();
}

static void metadata_is_told_from_garbage(void)
{
    start();
    extend(1, 20);
    uint8_t *older = the_disk.now + SLOT_AT + (storage.sequence + 1) % 2 * STORAGE_BLOCK_BYTES;
    uint8_t *newer = the_disk.now + SLOT_AT + storage.sequence % 2 * STORAGE_BLOCK_BYTES;
    flip(newer + 8, "the log is of term"); /* the older slot, of term 0, has forgotten something */
    older[8] ^= 1;
    CHECK(reopen() == STORAGE_OK); /* it is written anew */
    recover();
    older[9] ^= 1;
    newer[9] ^= 1;
    is_damaged("both copies of term and vote");
    start();
    extend(1, 20);
    zero(the_disk.now, LOG_AT, "the log is of term"); /* as if never formatted */
    start();
    flip(the_disk.now + 5, "format mark");
    zero(the_disk.now, DISK_SECTOR_BYTES, "format mark");
    disk_new();
    the_disk.now[1024] = 1; /* as ext4 has it: somebody else's */
    is_damaged("format mark");
}

static void errors_are_said(void)
{
    static const struct { enum disk_request request; const char *opening, *logging, *voting; } said[] = {
        {DISK_READ, "reading the format mark: Input/output error", NULL, NULL},
        {DISK_WRITE, "writing term and vote: Input/output error", "writing the log: Input/output error",
         "writing term and vote: Input/output error"},
        {DISK_FLUSH, "writing term and vote: Input/output error", "writing the log: Input/output error",
         "writing term and vote: Input/output error"},
    };
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        start();
        the_disk.fail_percent[said[i].request] = 100;
        if (said[i].logging != NULL) {
            change_log(1, 1);
            CHECK(write_log() == STORAGE_ERROR && strcmp(storage.error, said[i].logging) == 0);
            change_meta();
            CHECK(write_meta() == STORAGE_ERROR && strcmp(storage.error, said[i].voting) == 0);
        }
        CHECK(reopen() == STORAGE_ERROR && strcmp(storage.error, said[i].opening) == 0);
        the_disk.fail_percent[said[i].request] = 0;
        comes_back();
    }
    CHECK(storage_open(&storage, "/nowhere", found, LOG_MAX, &state) == STORAGE_ERROR);
    CHECK(strcmp(storage.error, "/nowhere: No such file or directory") == 0);
    storage_close(&storage);
    CHECK(storage_open(&storage, path, found, 100000, &state) == STORAGE_ERROR);
    CHECK(strstr(storage.error, "has 262144 bytes, but a log of 100000 entries takes 6416384") != NULL);
}

int main(int argc, char **argv)
{
    FILE *file = argc == 2 || argc == 3 ? fopen(argv[1], "wb") : NULL;
    if (file == NULL || fseek(file, DISK_BYTES - 1, SEEK_SET) != 0 || fputc(0, file) != 0 || fclose(file) != 0) {
        fprintf(stderr, "usage: storage FILE [RUNS]\n");
        return 2;
    }
    path = argv[1];
    storage.fd = -1;
    what_was_written_is_read();
    one_request_per_change();
    any_part_of_a_change_recovers(101, 101);
    any_part_of_a_change_recovers(101, 160);  /* appends, over the edge of a block */
    any_part_of_a_change_recovers(40, 40);    /* cuts: what is left behind them is long, */
    any_part_of_a_change_recovers(60, 80);    /* ... on both sides of the edge of a block, */
    any_part_of_a_change_recovers(97, 260);   /* ... short, and several writes are to come, */
    any_part_of_a_change_recovers(1, 30);     /* ... all there was */
    the_first_start_may_be_interrupted();
    metadata_is_told_from_garbage();
    errors_are_said();
    uint64_t runs = argc == 3 ? strtoull(argv[2], NULL, 10) : 200;
    for (seed = 1; seed <= runs; seed++) {
        the_disk.random = seed * 0x9e3779b97f4a7c15u;
        start();
        for (int stage = 0; stage < 5; stage++) {
            live_many_lives(8);
            damage_is_not_a_torn_tail();
        }
    }
    printf("%lu checks passed\n", checks);
    return 0;
}
