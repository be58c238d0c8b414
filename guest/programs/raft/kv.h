/*
 * The replicated state machine: a few registers with put, compare-and-set and get, and one session per client so that
 * a command that was sent twice is applied once.
 */
#ifndef RAFT_KV_H
#define RAFT_KV_H

#include "raft_core.h"

enum { KV_KEYS = 32 };

enum kv_status { KV_OK, KV_MISMATCH };

struct kv_result {
    uint8_t status;    /* enum kv_status */
    uint32_t index;    /* where in the log the command took effect */
    uint64_t value;    /* of the key, afterwards */
    uint32_t modified; /* log index of the write that set it, 0 if none */
};

struct kv {
    struct { uint64_t value; uint32_t modified; } registers[KV_KEYS];
    /* A client id is boot << 8 | node: only the newest boot of a node sends, so one session per node is enough. */
    struct { uint32_t client, seq; struct kv_result result; } sessions[RAFT_NODES_MAX];
};

void kv_init(struct kv *kv);

/* Apply the entry at `index`: the result, or that of the first time if it is a retry. */
struct kv_result kv_apply(struct kv *kv, uint32_t index, const struct raft_entry *entry);

struct kv_result kv_get(const struct kv *kv, uint16_t key);

uint32_t kv_client(uint8_t node, uint32_t boot);

#endif
