/*
 * raft: one node of a replicated key-value store, with a client of its own. In a guest it is started by init, takes its
 * settings from the kernel's command line and keeps its log on the disk; anywhere else:
 *
 *     raft cc.node=0 cc.nodes=3 raft.data=FILE raft.local_port=7100 [raft.bug=fig8_commit ...]     (config.h)
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS, strdup, nanosleep */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "chaoscontrol.h"
#include "config.h"
#include "kv.h"
#include "net.h"
#include "props.h"
#include "server.h"
#include "storage.h"
#include "workload.h"

enum { GUEST_ADDRESS = 10 << 24 | 1, GUEST_PORT = 7000, LOCAL_ADDRESS = 127 << 24 | 1, RETRY_START_MS = 500 };
enum { OUT_NEARLY_FULL = RAFT_OUT_MAX - 2 * RAFT_NODES_MAX };

struct node {
    struct config config;
    struct storage storage;
    struct storage_state state;
    struct raft raft;
    struct kv kv;
    struct net net;
    struct server server;
    struct workload workload;
    char **argv;
};

static struct node the_node; /* of this process: too large for the stack */

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void *pages(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory; /* touched as the log grows, not before */
}

/*
 * The disk failed. Nobody knows what it holds now, so nothing may go on from this process's memory: start over from the
 * disk, as after a crash.
 */
static void start_over(struct node *node)
{
    props_say("%s; starting over", node->storage.error);
    nanosleep(&(struct timespec){.tv_nsec = RETRY_START_MS * 1000000L}, NULL);
    storage_close(&node->storage);
    execv("/proc/self/exe", node->argv);
    props_say("exec: %s", strerror(errno));
    exit(1);
}

static void require(struct node *node, enum storage_result result)
{
    if (result == STORAGE_OK)
        return;
    if (result == STORAGE_ERROR)
        start_over(node);
    props_say("%s; this node stays down", node->storage.error);
    cc_send_event("raft_damaged", NULL);
    for (;;)
        pause();
}

/* Durable first; only then sent, applied and answered. */
static void flush(struct node *node, uint64_t now_ms)
{
    struct raft *raft = &node->raft;
    struct raft_out *out = &raft->out;
    raft_pump(raft, now_ms);
    if (out->persist_meta)
        require(node, storage_meta(&node->storage, raft->term, raft->vote, node->state.boot));
    if (out->log_from != 0)
        require(node, storage_log(&node->storage, raft->log, out->log_from, raft->last));
    if (out->reads_failed)
        server_fail_all(&node->server);
    for (uint32_t i = 0; i < out->message_count; i++)
        net_send(&node->net, &out->messages[i]);
    uint32_t index;
    const struct raft_entry *entry;
    while ((entry = raft_next_apply(raft, &index)) != NULL) {
        struct kv_result result = kv_apply(&node->kv, index, entry);
        server_applied(&node->server, index, entry, &result);
        props_applied(raft, index);
    }
    for (uint32_t i = 0; i < out->read_count; i++)
        server_read_ready(&node->server, &out->reads[i]);
    props_flush(raft);
    raft_clear_out(raft);
}

/* --- what the transport hands up ---------------------------------------------------------------------------------- */

static void on_message(void *context, const struct raft_message *message)
{
    struct node *node = context;
    uint64_t now_ms = clock_ms();
    raft_receive(&node->raft, now_ms, message);
    if (node->raft.out.message_count >= OUT_NEARLY_FULL)
        flush(node, now_ms);
}

static void on_request(void *context, uint64_t handle, const struct client_request *request)
{
    struct node *node = context;
    server_request(&node->server, handle, request);
}

static void on_reply(void *context, const struct client_reply *reply)
{
    struct node *node = context;
    workload_reply(&node->workload, reply, clock_ms());
}

static void on_client_open(void *context)
{
    struct node *node = context;
    workload_open(&node->workload);
}

static void on_client_closed(void *context)
{
    struct node *node = context;
    workload_closed(&node->workload, clock_ms());
}

/* --- start -------------------------------------------------------------------------------------------------------- */

static bool start(struct node *node)
{
    struct config *config = &node->config;
    size_t room = config->log_max + 1;
    struct raft_entry *log = pages(room * sizeof *log);
    uint64_t *hashes = pages(room * sizeof *hashes);
    if (log == NULL || hashes == NULL) {
        props_say("no memory for a log of %u entries", config->log_max);
        return false;
    }
    require(node, storage_open(&node->storage, config->data, log, config->log_max, &node->state));
    props_init((uint8_t)config->node, node->state.boot);

    uint64_t now_ms = clock_ms();
    uint64_t seed = config->seed != 0 ? config->seed + node->state.boot * 0x9e3779b9u : cc_random();
    struct raft_config raft_config = {
        .node = (uint8_t)config->node,
        .nodes = (uint8_t)config->nodes,
        .bug = config->bug,
        .election_min_ms = config->election_min_ms,
        .election_max_ms = config->election_max_ms,
        .heartbeat_ms = config->heartbeat_ms,
        .batch = config->batch,
        .log_max = config->log_max,
        .seed = seed,
    };
    raft_init(&node->raft, &raft_config, log, hashes, node->state.term, node->state.vote, node->state.last, now_ms);
    kv_init(&node->kv);

    bool local = config->local_port != 0;
    struct net_config net_config = {
        .node = (uint8_t)config->node,
        .nodes = (uint8_t)config->nodes,
        .first_address = local ? (uint32_t)LOCAL_ADDRESS : (uint32_t)GUEST_ADDRESS,
        .address_step = !local,
        .first_port = (uint16_t)(local ? config->local_port : GUEST_PORT),
        .port_step = local,
    };
    struct net_handlers handlers = {node, on_message, on_request, on_reply, on_client_open, on_client_closed};
    if (!net_open(&node->net, &net_config, &handlers, now_ms)) {
        props_say("%s", node->net.error);
        return false;
    }
    server_init(&node->server, &node->raft, &node->kv, &node->net);
    workload_init(&node->workload, config, &node->net, &node->raft, node->state.boot, seed, now_ms);
    props_started(&node->raft, node->storage.dropped);
    return true;
}

static void run(struct node *node)
{
    for (;;) {
        uint64_t now_ms = clock_ms();
        raft_tick(&node->raft, now_ms);
        uint64_t next_ms = workload_tick(&node->workload, now_ms);
        flush(node, now_ms);
        net_flush(&node->net, now_ms);
        uint64_t upkeep_ms = net_upkeep(&node->net, now_ms);
        if (upkeep_ms < next_ms)
            next_ms = upkeep_ms;
        if (node->raft.deadline_ms < next_ms)
            next_ms = node->raft.deadline_ms;
        now_ms = clock_ms();
        net_wait(&node->net, next_ms > now_ms ? (int)(next_ms - now_ms) : 0, now_ms);
    }
}

int main(int argc, char **argv)
{
    struct node *node = &the_node;
    node->argv = argv;
    signal(SIGPIPE, SIG_IGN);
    /* The words are taken apart in place, and argv is needed again for starting over. */
    static char *words[64];
    int count = argc - 1 < 64 ? argc - 1 : 64;
    for (int i = 0; i < count; i++)
        words[i] = strdup(argv[i + 1]);
    bool good = argc > 1 ? config_from_words(&node->config, count, words)
                         : config_from_cmdline(&node->config, "/proc/cmdline");
    if (!good) {
        fprintf(stderr, "raft: %s\n", node->config.error);
        return 2;
    }
    props_init((uint8_t)node->config.node, 0);
    if (!start(node))
        return 1;
    run(node);
    return 0;
}
