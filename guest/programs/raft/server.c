#include "server.h"

#include <string.h>

void server_init(struct server *server, struct raft *raft, struct kv *kv, struct net *net)
{
    memset(server, 0, sizeof *server);
    server->raft = raft;
    server->kv = kv;
    server->net = net;
}

static void answer(struct server *server, uint64_t handle, const struct client_request *request,
                   enum reply_status status, const struct kv_result *result)
{
    struct client_reply reply = {
        .client = request->client,
        .seq = request->seq,
        .status = (uint8_t)status,
        .leader = server->raft->leader,
        .term = server->raft->term,
        .index = result->index,
        .modified = result->modified,
        .value = result->value,
    };
    net_reply(server->net, handle, &reply);
}

static void refuse(struct server *server, uint64_t handle, const struct client_request *request)
{
    const struct raft *raft = server->raft;
    bool elsewhere = raft->role != RAFT_LEADER && raft->leader != RAFT_NOBODY;
    answer(server, handle, request, elsewhere ? REPLY_REDIRECT : REPLY_RETRY, &(struct kv_result){0});
}

static struct server_pending *pending_new(struct server *server, uint64_t handle,
                                          const struct client_request *request)
{
    for (uint32_t i = 0; i < SERVER_PENDING_MAX; i++) {
        struct server_pending *pending = &server->pending[i];
        if (pending->used)
            continue;
        *pending = (struct server_pending){.serial = ++server->serial, .handle = handle, .request = *request};
        return pending;
    }
    return NULL;
}

void server_request(struct server *server, uint64_t handle, const struct client_request *request)
{
    struct server_pending *pending = pending_new(server, handle, request);
    if (pending == NULL || server->raft->role != RAFT_LEADER) {
        refuse(server, handle, request);
        return;
    }
    if (request->op == RAFT_OP_GET) {
        uint64_t token = (uint64_t)pending->serial << 32 | (uint32_t)(pending - server->pending);
        pending->used = raft_read(server->raft, token);
    } else {
        struct raft_entry command = {
            .op = request->op,
            .key = request->key,
            .client = request->client,
            .seq = request->seq,
            .value = request->value,
            .expect = request->expect,
        };
        pending->index = raft_propose(server->raft, &command);
        pending->term = server->raft->term;
        pending->used = pending->index != 0;
        if (!pending->used) {
            answer(server, handle, request, REPLY_FULL, &(struct kv_result){0});
            return;
        }
    }
    if (!pending->used)
        refuse(server, handle, request);
}

void server_applied(struct server *server, uint32_t index, const struct raft_entry *entry,
                    const struct kv_result *result)
{
    for (uint32_t i = 0; i < SERVER_PENDING_MAX; i++) {
        struct server_pending *pending = &server->pending[i];
        if (!pending->used || pending->index != index)
            continue;
        pending->used = false;
        if (entry->term == pending->term)
            answer(server, pending->handle, &pending->request, result->status == KV_OK ? REPLY_OK : REPLY_MISMATCH,
                   result);
        else
            refuse(server, pending->handle, &pending->request); /* another entry took its place */
    }
}

void server_read_ready(struct server *server, const struct raft_ready_read *read)
{
    struct server_pending *pending = &server->pending[read->token % SERVER_PENDING_MAX];
    if (!pending->used || pending->serial != read->token >> 32)
        return;
    pending->used = false;
    struct kv_result result = kv_get(server->kv, pending->request.key);
    result.index = read->index;
    answer(server, pending->handle, &pending->request, REPLY_OK, &result);
}

void server_fail_all(struct server *server)
{
    for (uint32_t i = 0; i < SERVER_PENDING_MAX; i++) {
        struct server_pending *pending = &server->pending[i];
        if (pending->used)
            refuse(server, pending->handle, &pending->request);
        pending->used = false;
    }
}
