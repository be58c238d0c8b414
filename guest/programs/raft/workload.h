/*
 * The client of a node: one operation at a time against whichever node leads, with unique values, and what must be true
 * of the answers. It knows of acknowledged writes of other clients by what nodes tell each other (struct raft_facts).
 */
#ifndef RAFT_WORKLOAD_H
#define RAFT_WORKLOAD_H

#include "config.h"
#include "kv.h"
#include "net.h"

enum {
    WORKLOAD_ANSWER_MS = 300,  /* patience with one node */
    WORKLOAD_RETRY_MS = 20,    /* pause before asking again */
    WORKLOAD_FULL_MS = 5000,   /* ... a cluster whose log is full */
    WORKLOAD_SLOWER_EACH = 50000, /* log entries after which the pause has grown by once itself: the log stays small */
};

struct workload {
    struct net *net;
    struct raft *raft; /* of the same node: the prefix of acknowledged writes that it knows, and whom it follows */
    uint32_t op_ms, reads_percent;
    uint8_t node;
    uint32_t client_id;
    uint64_t random;
    bool busy;         /* `request` is under way */
    bool connected, calling; /* calling: a connection to `target` was asked for, and nothing has come of it yet */
    uint8_t target;
    uint64_t next_ms;  /* start the next operation, or send again */
    uint64_t give_up_ms;
    bool sent;
    struct client_request request;
    uint32_t seq;        /* of writes */
    uint32_t floor;      /* index that the answer may not lie before: acknowledged when the operation began */
    struct { uint64_t value; uint32_t index; } own[KV_KEYS]; /* last acknowledged own write */
    uint64_t seen[KV_KEYS];                                  /* last value read or written: what a CAS expects */
    uint64_t writes_done, reads_done;
};

void workload_init(struct workload *workload, const struct config *config, struct net *net, struct raft *raft,
                   uint32_t boot, uint64_t seed, uint64_t now_ms);

/* Start or repeat what is due; the time to call again. */
uint64_t workload_tick(struct workload *workload, uint64_t now_ms);

void workload_reply(struct workload *workload, const struct client_reply *reply, uint64_t now_ms);
void workload_open(struct workload *workload);
void workload_closed(struct workload *workload, uint64_t now_ms);

#endif
