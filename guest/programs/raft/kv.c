#include "kv.h"

#include <string.h>

void kv_init(struct kv *kv)
{
    memset(kv, 0, sizeof *kv);
}

uint32_t kv_client(uint8_t node, uint32_t boot)
{
    return boot << 8 | node;
}

struct kv_result kv_get(const struct kv *kv, uint16_t key)
{
    uint16_t slot = key % KV_KEYS;
    return (struct kv_result){.value = kv->registers[slot].value, .modified = kv->registers[slot].modified};
}

struct kv_result kv_apply(struct kv *kv, uint32_t index, const struct raft_entry *entry)
{
    struct kv_result result = {.index = index};
    uint8_t node = entry->client & 0xff;
    if (entry->op == RAFT_OP_NOOP || node >= RAFT_NODES_MAX)
        return result;
    bool earlier_boot = entry->client < kv->sessions[node].client;
    bool repeated = entry->client == kv->sessions[node].client && entry->seq <= kv->sessions[node].seq;
    if (earlier_boot || repeated)
        return kv->sessions[node].result;
    uint16_t slot = entry->key % KV_KEYS;
    if (entry->op == RAFT_OP_CAS && kv->registers[slot].value != entry->expect) {
        result.status = KV_MISMATCH;
    } else {
        kv->registers[slot].value = entry->value;
        kv->registers[slot].modified = index;
    }
    result.value = kv->registers[slot].value;
    result.modified = kv->registers[slot].modified;
    kv->sessions[node].client = entry->client;
    kv->sessions[node].seq = entry->seq;
    kv->sessions[node].result = result;
    return result;
}
