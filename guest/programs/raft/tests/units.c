/*
 * units DIRECTORY: storage recovery, messages as bytes, settings, the key-value store. DIRECTORY is empty and ours.
 * Says what failed and exits 1, or prints how much was checked.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../codec.h"
#include "../config.h"
#include "../kv.h"
#include "../storage.h"

enum { LOG_MAX = 400, FLUSHED = 100, TAIL = 25, FILE_BYTES_MAX = 1 << 20 };

static unsigned long checks;
static char directory[256];
static struct raft_entry entries[LOG_MAX + 1], found[LOG_MAX + 1];
static uint32_t chains[LOG_MAX + 1];
static struct storage storage;
static struct storage_state state;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        checks++;                                                                                                      \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, storage.error);                         \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static uint64_t random_state = 1;

static uint64_t draw(void)
{
    uint64_t x = random_state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    return x ^ (x >> 29);
}

/* --- files -------------------------------------------------------------------------------------------------------- */

static const char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static size_t slurp(const char *name, uint8_t *data)
{
    FILE *file = fopen(path_of(name), "rb");
    CHECK(file != NULL);
    size_t bytes = fread(data, 1, FILE_BYTES_MAX, file);
    fclose(file);
    return bytes;
}

static void spill(const char *name, const uint8_t *data, size_t bytes)
{
    FILE *file = fopen(path_of(name), "wb");
    CHECK(file != NULL && fwrite(data, 1, bytes, file) == bytes);
    fclose(file);
}

static enum storage_result reopen(void)
{
    memset(found, 0, sizeof found);
    enum storage_result result = storage_open(&storage, directory, found, chains, LOG_MAX, &state);
    return result;
}

static void forget(void)
{
    unlink(path_of("log"));
    unlink(path_of("meta"));
}

static bool same_entries(uint32_t last)
{
    return state.last == last && memcmp(&found[1], &entries[1], last * sizeof entries[0]) == 0;
}

static void make_entries(uint32_t from, uint32_t last, uint32_t term)
{
    for (uint32_t i = from; i <= last; i++)
        entries[i] = (struct raft_entry){.term = term, .op = 1, .key = (uint16_t)i, .client = 7, .seq = i,
                                         .value = draw(), .expect = draw()};
}

/* FLUSHED entries one flush each, then TAIL more in one. Closed afterwards. */
static void make_log(void)
{
    forget();
    CHECK(reopen() == STORAGE_OK && state.last == 0 && state.boot == 1 && state.vote == RAFT_NOBODY);
    make_entries(1, FLUSHED + TAIL, 3);
    CHECK(storage_meta(&storage, 3, 1, state.boot) == STORAGE_OK);
    for (uint32_t i = 1; i <= FLUSHED; i++)
        CHECK(storage_log(&storage, entries, i, i) == STORAGE_OK);
    CHECK(storage_log(&storage, entries, FLUSHED + 1, FLUSHED + TAIL) == STORAGE_OK);
    storage_close(&storage);
}

/* --- storage ------------------------------------------------------------------------------------------------------ */

static void what_was_written_is_read(void)
{
    make_log();
    CHECK(reopen() == STORAGE_OK);
    CHECK(same_entries(FLUSHED + TAIL) && state.term == 3 && state.vote == 1 && state.boot == 2);
    make_entries(90, 95, 4); /* a suffix is replaced by a shorter one */
    CHECK(storage_log(&storage, entries, 90, 95) == STORAGE_OK);
    storage_close(&storage);
    CHECK(reopen() == STORAGE_OK);
    CHECK(same_entries(95) && state.boot == 3);
    CHECK(storage_log(&storage, entries, 50, 49) == STORAGE_OK); /* cut, and nothing after it */
    storage_close(&storage);
    CHECK(reopen() == STORAGE_OK);
    CHECK(same_entries(49));
    make_entries(50, LOG_MAX, 5); /* to the last place there is */
    CHECK(storage_log(&storage, entries, 50, LOG_MAX) == STORAGE_OK);
    storage_close(&storage);
    CHECK(reopen() == STORAGE_OK);
    CHECK(same_entries(LOG_MAX));
    storage_close(&storage);
}

/* A power loss may leave any prefix of the last write. */
static void every_torn_length_recovers(void)
{
    static uint8_t image[FILE_BYTES_MAX];
    make_log();
    slurp("log", image);
    for (size_t bytes = FLUSHED * STORAGE_RECORD_BYTES; bytes <= (FLUSHED + TAIL) * STORAGE_RECORD_BYTES; bytes++) {
        spill("log", image, bytes);
        CHECK(reopen() == STORAGE_OK);
        CHECK(same_entries((uint32_t)(bytes / STORAGE_RECORD_BYTES)));
        storage_close(&storage);
    }
}

/* ... or any of its sectors without the others. What had been flushed before is there in any case. */
static void any_sectors_of_the_tail_recover(void)
{
    static uint8_t image[FILE_BYTES_MAX], torn[FILE_BYTES_MAX];
    make_log();
    size_t bytes = slurp("log", image);
    size_t first = FLUSHED * STORAGE_RECORD_BYTES / 512, last = (FLUSHED + TAIL) * STORAGE_RECORD_BYTES / 512;
    CHECK(last - first >= 2 && last - first < 8);
    for (uint32_t kept = 0; kept < 1u << (last - first + 1); kept++) {
        memcpy(torn, image, bytes);
        for (size_t sector = first; sector <= last; sector++) {
            size_t at = sector * 512;
            size_t from = at < FLUSHED * STORAGE_RECORD_BYTES ? FLUSHED * STORAGE_RECORD_BYTES : at;
            if ((kept >> (sector - first) & 1) == 0)
                memset(torn + from, 0, at + 512 - from); /* as preallocated */
        }
        spill("log", torn, bytes);
        CHECK(reopen() == STORAGE_OK);
        CHECK(state.last >= FLUSHED && same_entries(state.last));
        /* What is appended now must not meet what was left behind it. */
        uint32_t from = state.last + 1;
        make_entries(from, from, 9);
        CHECK(storage_log(&storage, entries, from, from) == STORAGE_OK);
        storage_close(&storage);
        CHECK(reopen() == STORAGE_OK);
        CHECK(same_entries(from));
        storage_close(&storage);
        make_entries(from, from, 3);
        memcpy(&entries[1], &found[1], (from - 1) * sizeof entries[0]);
        make_log();
        slurp("log", image);
    }
}

/* Damage to what had been flushed is not a torn tail: a node that forgot its promises must not come back. */
static void damage_is_not_a_torn_tail(void)
{
    static uint8_t image[FILE_BYTES_MAX];
    make_log();
    size_t bytes = slurp("log", image);
    for (uint32_t index = 1; index < FLUSHED; index += 7)
        for (size_t offset = 0; offset < STORAGE_RECORD_BYTES; offset += 5) {
            size_t at = (index - 1) * STORAGE_RECORD_BYTES + offset;
            image[at] ^= 0x10;
            spill("log", image, bytes);
            CHECK(reopen() == STORAGE_DAMAGED);
            CHECK(strstr(storage.error, "damaged") != NULL);
            storage_close(&storage);
            image[at] ^= 0x10;
        }
}

static void one_slot_is_enough(void)
{
    static uint8_t image[FILE_BYTES_MAX];
    make_log(); /* slot 1: the boot; slot 0: term 3, vote 1 */
    size_t bytes = slurp("meta", image);
    CHECK(bytes == STORAGE_SLOT_BYTES + STORAGE_SLOT_DISTANCE);
    for (size_t offset = 0; offset < STORAGE_SLOT_BYTES; offset++) {
        image[offset] ^= 1;
        spill("meta", image, bytes);
        CHECK(reopen() == STORAGE_OK);
        CHECK(state.term == 0 && state.boot == 2);
        storage_close(&storage);
        image[offset] ^= 1;
    }
    image[8] ^= 1;
    image[STORAGE_SLOT_DISTANCE + 8] ^= 1;
    spill("meta", image, bytes);
    CHECK(reopen() == STORAGE_DAMAGED);
    storage_close(&storage);
}

static void errors_are_said(void)
{
    char good[sizeof directory];
    strcpy(good, directory);
    strcat(directory, "/nowhere");
    CHECK(reopen() == STORAGE_ERROR && strstr(storage.error, "No such file") != NULL);
    storage_close(&storage);
    strcpy(directory, good);

    make_log();
    CHECK(reopen() == STORAGE_OK);
    struct rlimit limit = {4096, RLIM_INFINITY}, unlimited = {RLIM_INFINITY, RLIM_INFINITY};
    signal(SIGXFSZ, SIG_IGN);
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    make_entries(FLUSHED + TAIL + 1, FLUSHED + TAIL + 1, 3);
    CHECK(storage_log(&storage, entries, FLUSHED + TAIL + 1, FLUSHED + TAIL + 1) == STORAGE_ERROR);
    CHECK(strstr(storage.error, "writing the log: File too large") != NULL);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    storage_close(&storage);
    CHECK(reopen() == STORAGE_OK);
    CHECK(same_entries(FLUSHED + TAIL));
    storage_close(&storage);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static void fill(void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((uint8_t *)data)[i] = (uint8_t)draw();
}

static void messages_survive_the_wire(void)
{
    static uint8_t frame[FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX];
    for (int round = 0; round < 2000; round++) {
        struct raft_message sent, got;
        memset(&sent, 0, sizeof sent);
        sent.kind = RAFT_APPEND;
        sent.from = (uint8_t)draw();
        sent.term = (uint32_t)draw();
        sent.index_hash = draw();
        sent.facts.applied_hash = draw();
        sent.facts.acked = (uint32_t)draw();
        sent.count = (uint32_t)(draw() % (RAFT_BATCH_MAX + 1));
        fill(sent.entries, sent.count * sizeof sent.entries[0]);
        size_t bytes = encode_raft(frame, &sent);
        CHECK(frame_payload(frame, bytes) == (int)(bytes - FRAME_HEADER_BYTES));
        CHECK(frame_payload(frame, bytes - 1) == 0);
        CHECK(decode_raft(frame + FRAME_HEADER_BYTES, bytes - FRAME_HEADER_BYTES, &got));
        CHECK(got.term == sent.term && got.index_hash == sent.index_hash && got.count == sent.count);
        CHECK(got.facts.applied_hash == sent.facts.applied_hash && got.facts.acked == sent.facts.acked);
        CHECK(memcmp(got.entries, sent.entries, sent.count * sizeof sent.entries[0]) == 0);
        CHECK(!decode_raft(frame + FRAME_HEADER_BYTES, bytes - FRAME_HEADER_BYTES - 1, &got));
        frame[draw() % (bytes - 4) + 4] ^= (uint8_t)(1u << draw() % 8);
        CHECK(frame_payload(frame, bytes) == -1);
    }
    struct client_request request = {.client = 5, .seq = 6, .op = RAFT_OP_CAS, .key = 7, .value = 8, .expect = 9}, asked;
    size_t bytes = encode_request(frame, &request);
    CHECK(decode_request(frame + 8, bytes - 8, &asked) && asked.op == RAFT_OP_CAS && asked.expect == 9);
    struct client_reply reply = {.client = 1, .seq = 2, .status = REPLY_RETRY, .leader = 3, .term = 4, .value = 5}, told;
    bytes = encode_reply(frame, &reply);
    CHECK(decode_reply(frame + 8, bytes - 8, &told) && told.value == 5 && told.status == REPLY_RETRY);
    struct hello hello = {2, true}, heard;
    bytes = encode_hello(frame, &hello);
    CHECK(decode_hello(frame + 8, bytes - 8, &heard) && heard.node == 2 && heard.is_client);
    CHECK(!decode_reply(frame + 8, bytes - 8, &told) && !decode_raft(frame + 8, bytes - 8, &(struct raft_message){0}));
}

/* Whatever bytes come, a node neither crashes nor reads past them, and what decodes may be fed to the core. */
static void garbage_is_harmless(void)
{
    static struct raft raft;
    static uint64_t hashes[LOG_MAX + 1];
    struct raft_config config = {.node = 0, .nodes = 3, .election_min_ms = 150, .election_max_ms = 300,
                                 .heartbeat_ms = 40, .batch = 8, .log_max = LOG_MAX, .seed = 1};
    unsigned long taken = 0;
    raft_init(&raft, &config, found, hashes, 0, RAFT_NOBODY, 0, 0);
    for (int round = 0; round < 60000; round++) {
        size_t bytes = draw() % 200;
        uint8_t *data = malloc(bytes + 1); /* exact size, for the sanitizer */
        fill(data, bytes);
        if (bytes > 90 && round % 2 == 0) {
            /* Almost a message: right type, small numbers, no entries or one. */
            memset(data, 0, bytes);
            struct raft_message message = {.kind = (uint8_t)(1 + draw() % 4), .from = (uint8_t)(1 + draw() % 2),
                                           .yes = draw() % 2, .term = (uint32_t)(1 + draw() % 40),
                                           .index = (uint32_t)(draw() % 8), .index_term = (uint32_t)(draw() % 4),
                                           .commit = (uint32_t)(draw() % 9), .last = (uint32_t)draw(),
                                           .round = (uint32_t)(draw() % 99), .count = (uint32_t)(draw() % 3)};
            message.entries[0].term = message.entries[1].term = (uint32_t)(1 + draw() % 40);
            if (draw() % 16 == 0)
                message.index = (uint32_t)draw();
            message.facts.applied = (uint32_t)(draw() % 8);
            message.facts.lead_term = (uint32_t)(draw() % 9);
            message.facts.lead_node = (uint8_t)draw();
            raft_receive(&raft, (uint64_t)round, &message);
            taken++;
        }
        struct raft_message message;
        struct client_request request;
        struct client_reply reply;
        frame_payload(data, bytes);
        decode_request(data, bytes, &request);
        decode_reply(data, bytes, &reply);
        if (decode_raft(data, bytes, &message))
            raft_receive(&raft, (uint64_t)round, &message);
        raft_tick(&raft, (uint64_t)round);
        raft_pump(&raft, (uint64_t)round);
        uint32_t index;
        while (raft_next_apply(&raft, &index) != NULL)
            CHECK(index <= LOG_MAX);
        CHECK(raft.last <= LOG_MAX);
        raft_clear_out(&raft);
        free(data);
    }
    CHECK(taken > 10000);
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

static void a_retry_is_applied_once(void)
{
    struct kv kv;
    kv_init(&kv);
    struct raft_entry put = {.op = RAFT_OP_PUT, .key = 3, .client = kv_client(1, 1), .seq = 1, .value = 10};
    CHECK(kv_apply(&kv, 1, &put).modified == 1);
    struct raft_entry cas = {.op = RAFT_OP_CAS, .key = 3, .client = kv_client(2, 1), .seq = 1, .value = 20, .expect = 10};
    CHECK(kv_apply(&kv, 2, &cas).status == KV_OK);
    struct kv_result again = kv_apply(&kv, 3, &put);
    CHECK(again.index == 1 && kv_get(&kv, 3).value == 20);
    cas.seq = 2;
    CHECK(kv_apply(&kv, 4, &cas).status == KV_MISMATCH && kv_get(&kv, 3).modified == 2);
    put.client = kv_client(1, 2); /* after a restart the client counts anew */
    CHECK(kv_apply(&kv, 5, &put).index == 5 && kv_get(&kv, 3).value == 10);
    put.client = kv_client(1, 1); /* a late duplicate from before */
    put.seq = 9;
    put.value = 99;
    CHECK(kv_apply(&kv, 6, &put).index == 5 && kv_get(&kv, 3).value == 10);
}

static bool configured(struct config *config, const char *text)
{
    char copy[200], *words[8];
    int count = 0;
    strcpy(copy, text);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    return config_from_words(config, count, words);
}

static void settings_are_checked(void)
{
    struct config config;
    CHECK(configured(&config, "cc.node=2 cc.nodes=3 raft.bug=double_vote raft.op_ms=7 raft.data=/x"));
    CHECK(config.node == 2 && config.bug == RAFT_BUG_DOUBLE_VOTE && config.op_ms == 7 && strcmp(config.data, "/x") == 0);
    CHECK(!configured(&config, "cc.node=3 cc.nodes=3") && strstr(config.error, "cc.node=3") != NULL);
    CHECK(!configured(&config, "raft.bug=typo") && strstr(config.error, "premature_commit") != NULL);
    CHECK(!configured(&config, "raft.op_ms=-1") && strstr(config.error, "raft.op_ms") != NULL);
    CHECK(!configured(&config, "raft.what=1") && strstr(config.error, "raft.what") != NULL);
    CHECK(!configured(&config, "raft.election_min_ms=500") && !configured(&config, "cc.nodes"));
    spill("cmdline", (const uint8_t *)"quiet cc.node=1 root=x cc.nodes=5 cc.run=y raft.bug=none\n", 57);
    CHECK(config_from_cmdline(&config, path_of("cmdline")) && config.node == 1 && config.nodes == 5);
}

int main(int argc, char **argv)
{
    if (argc != 2 || strlen(argv[1]) > 200) {
        fprintf(stderr, "usage: units DIRECTORY\n");
        return 2;
    }
    strcpy(directory, argv[1]);
    what_was_written_is_read();
    every_torn_length_recovers();
    any_sectors_of_the_tail_recover();
    damage_is_not_a_torn_tail();
    one_slot_is_enough();
    errors_are_said();
    messages_survive_the_wire();
    garbage_is_harmless();
    a_retry_is_applied_once();
    settings_are_checked();
    printf("%lu checks passed\n", checks);
    return 0;
}
