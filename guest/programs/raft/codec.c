#include "codec.h"

#include <assert.h>
#include <string.h>

/* One to one for each word: a change within one word always makes another state. */
static uint64_t stir(uint64_t state, uint64_t word)
{
    state = (state ^ word) * 0x9e3779b97f4a7c15u;
    return state ^ state >> 32;
}

uint32_t checksum32(const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint64_t state = bytes, word;
    for (; bytes >= sizeof word; at += sizeof word, bytes -= sizeof word) {
        memcpy(&word, at, sizeof word);
        state = stir(state, word);
    }
    word = 0;
    memcpy(&word, at, bytes);
    return (uint32_t)stir(state, word);
}

/* --- fields: one description of a message serves both directions ------------------------------------------------- */

struct cursor {
    uint8_t *at;
    const uint8_t *end;
    bool writing, bad;
};

static void field(struct cursor *cursor, void *value, size_t bytes)
{
    if ((size_t)(cursor->end - cursor->at) < bytes) {
        cursor->bad = true;
        return;
    }
    /* Guest and hosts are little-endian, so a field's bytes are its encoding. */
    if (cursor->writing)
        memcpy(cursor->at, value, bytes);
    else
        memcpy(value, cursor->at, bytes);
    cursor->at += bytes;
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they are");

#define FIELD(cursor, lvalue) field(cursor, &(lvalue), sizeof(lvalue))

static void type_field(struct cursor *cursor, uint8_t type)
{
    uint8_t found = type;
    FIELD(cursor, found);
    cursor->bad |= found != type;
}

static void bool_field(struct cursor *cursor, bool *value)
{
    uint8_t byte = *value;
    FIELD(cursor, byte);
    cursor->bad |= byte > 1;
    *value = byte == 1;
}

static void hello_fields(struct cursor *cursor, struct hello *hello)
{
    type_field(cursor, PAYLOAD_HELLO);
    FIELD(cursor, hello->node);
    bool_field(cursor, &hello->is_client);
}

static void entry_fields(struct cursor *cursor, struct raft_entry *entry)
{
    FIELD(cursor, entry->term);
    FIELD(cursor, entry->op);
    FIELD(cursor, entry->key);
    FIELD(cursor, entry->client);
    FIELD(cursor, entry->seq);
    FIELD(cursor, entry->value);
    FIELD(cursor, entry->expect);
}

static void raft_fields(struct cursor *cursor, struct raft_message *message)
{
    type_field(cursor, PAYLOAD_RAFT);
    FIELD(cursor, message->kind);
    FIELD(cursor, message->from);
    FIELD(cursor, message->to);
    FIELD(cursor, message->yes);
    FIELD(cursor, message->term);
    FIELD(cursor, message->index);
    FIELD(cursor, message->index_term);
    FIELD(cursor, message->index_hash);
    FIELD(cursor, message->commit);
    FIELD(cursor, message->last);
    FIELD(cursor, message->round);
    FIELD(cursor, message->facts.lead_term);
    FIELD(cursor, message->facts.lead_node);
    FIELD(cursor, message->facts.applied);
    FIELD(cursor, message->facts.applied_hash);
    FIELD(cursor, message->facts.acked);
    FIELD(cursor, message->facts.acked_term);
    FIELD(cursor, message->count);
    if (cursor->bad || message->count > RAFT_BATCH_MAX) {
        cursor->bad = true;
        return;
    }
    for (uint32_t i = 0; i < message->count; i++)
        entry_fields(cursor, &message->entries[i]);
}

static void request_fields(struct cursor *cursor, struct client_request *request)
{
    type_field(cursor, PAYLOAD_REQUEST);
    FIELD(cursor, request->client);
    FIELD(cursor, request->seq);
    FIELD(cursor, request->op);
    FIELD(cursor, request->key);
    FIELD(cursor, request->value);
    FIELD(cursor, request->expect);
    cursor->bad |= request->op != RAFT_OP_PUT && request->op != RAFT_OP_CAS && request->op != RAFT_OP_GET;
}

static void reply_fields(struct cursor *cursor, struct client_reply *reply)
{
    type_field(cursor, PAYLOAD_REPLY);
    FIELD(cursor, reply->client);
    FIELD(cursor, reply->seq);
    FIELD(cursor, reply->status);
    FIELD(cursor, reply->leader);
    FIELD(cursor, reply->term);
    FIELD(cursor, reply->index);
    FIELD(cursor, reply->modified);
    FIELD(cursor, reply->value);
    cursor->bad |= reply->status >= REPLY_STATUSES;
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

static struct cursor begin(uint8_t *frame)
{
    uint8_t *payload = frame + FRAME_HEADER_BYTES;
    return (struct cursor){.at = payload, .end = payload + PAYLOAD_BYTES_MAX, .writing = true};
}

static size_t finish(uint8_t *frame, const struct cursor *cursor)
{
    assert(!cursor->bad);
    uint32_t bytes = (uint32_t)(cursor->at - frame) - FRAME_HEADER_BYTES;
    uint32_t checksum = checksum32(frame + FRAME_HEADER_BYTES, bytes);
    memcpy(frame, &bytes, 4);
    memcpy(frame + 4, &checksum, 4);
    return FRAME_HEADER_BYTES + bytes;
}

int frame_payload(const uint8_t *data, size_t bytes)
{
    if (bytes < FRAME_HEADER_BYTES)
        return 0;
    uint32_t length, checksum;
    memcpy(&length, data, 4);
    memcpy(&checksum, data + 4, 4);
    if (length == 0 || length > PAYLOAD_BYTES_MAX)
        return -1;
    if (bytes < FRAME_HEADER_BYTES + length)
        return 0;
    return checksum32(data + FRAME_HEADER_BYTES, length) == checksum ? (int)length : -1;
}

/* Reading never writes through the cursor: the cast only lets both directions share the field lists. */
static struct cursor reading(const uint8_t *payload, size_t bytes)
{
    return (struct cursor){.at = (uint8_t *)(uintptr_t)payload, .end = payload + bytes};
}

static bool complete(const struct cursor *cursor)
{
    return !cursor->bad && cursor->at == cursor->end;
}

#define ENCODE_DECODE(name, type)                                                                                      \
    size_t encode_##name(uint8_t *frame, const struct type *message)                                                   \
    {                                                                                                                  \
        struct type copy = *message;                                                                                   \
        struct cursor cursor = begin(frame);                                                                           \
        name##_fields(&cursor, &copy);                                                                                 \
        return finish(frame, &cursor);                                                                                 \
    }                                                                                                                  \
    bool decode_##name(const uint8_t *payload, size_t bytes, struct type *message)                                     \
    {                                                                                                                  \
        struct cursor cursor = reading(payload, bytes);                                                                \
        memset(message, 0, sizeof *message);                                                                           \
        name##_fields(&cursor, message);                                                                               \
        return complete(&cursor);                                                                                      \
    }

ENCODE_DECODE(hello, hello)
ENCODE_DECODE(raft, raft_message)
ENCODE_DECODE(request, client_request)
ENCODE_DECODE(reply, client_reply)
