#include "workload.h"

#include <string.h>

#include "props.h"

static uint64_t draw(struct workload *workload)
{
    uint64_t x = workload->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void workload_init(struct workload *workload, const struct config *config, struct net *net, struct raft *raft,
                   uint32_t boot, uint64_t seed, uint64_t now_ms)
{
    memset(workload, 0, sizeof *workload);
    workload->net = net;
    workload->raft = raft;
    workload->op_ms = config->op_ms;
    workload->reads_percent = config->reads_percent;
    workload->node = (uint8_t)config->node;
    workload->client_id = kv_client(workload->node, boot);
    workload->random = seed ^ 0x636c69656e74u ^ (uint64_t)boot << 32; /* another stream than the election timeouts' */
    workload->target = workload->node;
    workload->next_ms = now_ms + config->op_ms;
}

static void begin(struct workload *workload)
{
    struct client_request *request = &workload->request;
    uint16_t key = (uint16_t)(draw(workload) % KV_KEYS);
    *request = (struct client_request){.client = workload->client_id, .key = key, .op = RAFT_OP_GET};
    if (draw(workload) % 100 >= workload->reads_percent) {
        request->op = draw(workload) % 4 == 0 ? RAFT_OP_CAS : RAFT_OP_PUT;
        request->expect = request->op == RAFT_OP_CAS ? workload->seen[key] : 0;
        request->value = (uint64_t)workload->client_id << 32 | (workload->seq + 1);
        workload->seq++;
    }
    request->seq = workload->seq;
    workload->floor = workload->raft->acked;
    workload->busy = true;
    workload->sent = false;
}

/* The next operation is due one pause after this one began, and the pause grows with the log. */
static void finish(struct workload *workload, uint64_t now_ms)
{
    uint64_t pause_ms = workload->op_ms + (uint64_t)workload->op_ms * workload->raft->last / WORKLOAD_SLOWER_EACH;
    workload->busy = false;
    workload->next_ms = now_ms + pause_ms / 2 + draw(workload) % (pause_ms + 1);
}

static void try_again(struct workload *workload, uint8_t target, uint64_t at_ms)
{
    workload->sent = false;
    workload->next_ms = at_ms;
    if (target != RAFT_NOBODY && target != workload->target) {
        workload->target = target;
        workload->connected = false;
        workload->calling = false;
    }
}

static uint8_t other_target(const struct workload *workload)
{
    uint8_t leader = workload->raft->leader;
    uint8_t next = (uint8_t)((workload->target + 1) % workload->raft->config.nodes);
    return leader != RAFT_NOBODY && leader != workload->target ? leader : next;
}

uint64_t workload_tick(struct workload *workload, uint64_t now_ms)
{
    if (workload->op_ms == 0)
        return UINT64_MAX;
    if (workload->sent && now_ms >= workload->give_up_ms) {
        try_again(workload, other_target(workload), now_ms);
        workload->connected = workload->calling = false; /* a late answer would be taken for a newer one's */
    }
    if (workload->sent)
        return workload->give_up_ms;
    if (now_ms < workload->next_ms)
        return workload->next_ms;
    if (!workload->busy)
        begin(workload);
    if (!workload->connected) {
        if (workload->calling)
            workload->target = other_target(workload); /* it does not answer */
        workload->calling = true;
        workload->next_ms = now_ms + WORKLOAD_ANSWER_MS;
        net_client_connect(workload->net, workload->target, now_ms);
        return workload->next_ms;
    }
    if (!net_client_send(workload->net, &workload->request)) {
        workload->next_ms = now_ms + WORKLOAD_RETRY_MS;
        return workload->next_ms;
    }
    workload->sent = true;
    workload->give_up_ms = now_ms + WORKLOAD_ANSWER_MS;
    return workload->give_up_ms;
}

void workload_open(struct workload *workload)
{
    workload->connected = true;
    workload->calling = false;
    workload->next_ms = 0; /* send at once */
}

void workload_closed(struct workload *workload, uint64_t now_ms)
{
    workload->connected = workload->calling = false;
    if (workload->busy)
        try_again(workload, other_target(workload), now_ms + WORKLOAD_RETRY_MS);
}

static void check_read(struct workload *workload, const struct client_reply *reply)
{
    uint16_t key = workload->request.key;
    bool own_seen = reply->modified > workload->own[key].index ||
                    (reply->modified == workload->own[key].index && reply->value == workload->own[key].value);
    bool sees = reply->index >= workload->floor && own_seen;
    props_client(PROPS_READ_SEES_WRITES, sees, own_seen ? reply->index : reply->modified,
                 own_seen ? workload->floor : workload->own[key].index, key);
    workload->seen[key] = reply->value;
    workload->reads_done++;
}

static void check_write(struct workload *workload, const struct client_reply *reply)
{
    uint16_t key = workload->request.key;
    props_client(PROPS_WRITE_AFTER_WRITES, reply->index > workload->floor, reply->index, workload->floor, key);
    raft_acked(workload->raft, reply->index, reply->term);
    if (reply->status == REPLY_OK) {
        workload->own[key].value = workload->request.value;
        workload->own[key].index = reply->index;
    }
    workload->seen[key] = reply->value;
    if (workload->writes_done++ == 0)
        props_serving();
}

void workload_reply(struct workload *workload, const struct client_reply *reply, uint64_t now_ms)
{
    if (!workload->busy || !workload->sent || reply->client != workload->client_id ||
        reply->seq != workload->request.seq)
        return;
    switch (reply->status) {
    case REPLY_REDIRECT:
        try_again(workload, reply->leader < workload->raft->config.nodes ? reply->leader : RAFT_NOBODY, now_ms);
        break;
    case REPLY_RETRY:
        try_again(workload, reply->leader < workload->raft->config.nodes ? reply->leader : RAFT_NOBODY,
                  now_ms + WORKLOAD_RETRY_MS);
        break;
    case REPLY_FULL:
        workload->reads_percent = 100;
        workload->busy = false;
        workload->sent = false;
        workload->next_ms = now_ms + WORKLOAD_FULL_MS;
        break;
    default:
        if (workload->request.op == RAFT_OP_GET)
            check_read(workload, reply);
        else
            check_write(workload, reply);
        workload->sent = false;
        finish(workload, now_ms);
        break;
    }
}
