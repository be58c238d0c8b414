/*
 * units FILE: messages as bytes, settings, the key-value store. FILE is written. Says what failed and exits 1, or prints
 * how much was checked.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../codec.h"
#include "../config.h"
#include "../kv.h"

enum { LOG_MAX = 400 };

static unsigned long checks;

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        checks++;                                                                                                      \
        if (!(condition)) {                                                                                            \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                             \
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
    static struct raft_entry log[LOG_MAX + 1];
    static uint64_t hashes[LOG_MAX + 1];
    struct raft_config config = {.node = 0, .nodes = 3, .election_min_ms = 150, .election_max_ms = 300,
                                 .heartbeat_ms = 40, .batch = 8, .log_max = LOG_MAX, .seed = 1};
    unsigned long taken = 0;
    raft_init(&raft, &config, log, hashes, 0, RAFT_NOBODY, 0, 0);
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

static void settings_are_checked(const char *path)
{
    struct config config;
    CHECK(configured(&config, "cc.node=2 cc.nodes=3 raft.bug=double_vote raft.op_ms=7 raft.data=/x"));
    CHECK(config.node == 2 && config.bug == RAFT_BUG_DOUBLE_VOTE && config.op_ms == 7 && strcmp(config.data, "/x") == 0);
    CHECK(!configured(&config, "cc.node=3 cc.nodes=3") && strstr(config.error, "cc.node=3") != NULL);
    CHECK(!configured(&config, "raft.bug=typo") && strstr(config.error, "premature_commit") != NULL);
    CHECK(!configured(&config, "raft.op_ms=-1") && strstr(config.error, "raft.op_ms") != NULL);
    CHECK(!configured(&config, "raft.what=1") && strstr(config.error, "raft.what") != NULL);
    CHECK(!configured(&config, "raft.election_min_ms=500") && !configured(&config, "cc.nodes"));
    FILE *file = fopen(path, "w");
    CHECK(file != NULL && fputs("quiet cc.node=1 root=x cc.nodes=5 cc.run=y raft.bug=none\n", file) > 0);
    CHECK(fclose(file) == 0 && config_from_cmdline(&config, path) && config.node == 1 && config.nodes == 5);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: units FILE\n");
        return 2;
    }
    messages_survive_the_wire();
    garbage_is_harmless();
    a_retry_is_applied_once();
    settings_are_checked(argv[1]);
    printf("%lu checks passed\n", checks);
    return 0;
}
