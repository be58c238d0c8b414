/*
 * The side of a node that clients talk to: takes requests, waits until Raft has committed or confirmed them, answers.
 */
#ifndef RAFT_SERVER_H
#define RAFT_SERVER_H

#include "kv.h"
#include "net.h"

enum { SERVER_PENDING_MAX = RAFT_READS_MAX };

struct server {
    struct raft *raft;
    struct kv *kv;
    struct net *net;
    uint32_t serial;
    struct server_pending {
        bool used;
        uint32_t serial;
        uint64_t handle;
        struct client_request request;
        uint32_t index, term; /* of the entry; 0 for reads */
    } pending[SERVER_PENDING_MAX];
};

void server_init(struct server *server, struct raft *raft, struct kv *kv, struct net *net);

void server_request(struct server *server, uint64_t handle, const struct client_request *request);

/* The entry at `index` took effect. */
void server_applied(struct server *server, uint32_t index, const struct raft_entry *entry,
                    const struct kv_result *result);

void server_read_ready(struct server *server, const struct raft_ready_read *read);

/* Leadership was lost: nobody knows what becomes of what is pending. */
void server_fail_all(struct server *server);

#endif
