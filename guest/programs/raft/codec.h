/*
 * Messages as bytes: little-endian, fixed fields, a type byte first. A frame on the wire is u32 length of the payload,
 * u32 checksum of the payload, payload. Decoding checks every length and range; what does not fit is refused.
 */
#ifndef RAFT_CODEC_H
#define RAFT_CODEC_H

#include "raft_core.h"

enum { FRAME_HEADER_BYTES = 8, PAYLOAD_BYTES_MAX = 1024 };

enum payload_type { PAYLOAD_HELLO = 1, PAYLOAD_RAFT, PAYLOAD_REQUEST, PAYLOAD_REPLY };

/* The first frame of a connection: who calls, and as what. */
struct hello {
    uint8_t node;
    bool is_client;
};

struct client_request {
    uint32_t client, seq;
    uint16_t op; /* enum raft_op */
    uint16_t key;
    uint64_t value, expect;
};

enum reply_status {
    REPLY_OK,
    REPLY_MISMATCH, /* a CAS that changed nothing */
    REPLY_REDIRECT, /* ask `leader` */
    REPLY_RETRY,    /* not now: no leader known, not ready, lost leadership */
    REPLY_FULL,     /* the log is full; nothing is written any more */
    REPLY_STATUSES,
};

struct client_reply {
    uint32_t client, seq;
    uint8_t status; /* enum reply_status */
    uint8_t leader; /* RAFT_NOBODY if not known */
    uint32_t term;
    uint32_t index;    /* writes: where in the log; reads: everything up to here is in the answer */
    uint32_t modified; /* of the key: log index of the write that set it */
    uint64_t value;
};

/* Of what is sent and what is stored. A CRC by table was a twenty-fifth of all that a leader does; this is a tenth of it. */
uint32_t checksum32(const void *data, size_t bytes);

/* Each returns the frame's length; `frame` has room for FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX. */
size_t encode_hello(uint8_t *frame, const struct hello *hello);
size_t encode_raft(uint8_t *frame, const struct raft_message *message);
size_t encode_request(uint8_t *frame, const struct client_request *request);
size_t encode_reply(uint8_t *frame, const struct client_reply *reply);

/* The payload of a frame that starts at `data`: its length, 0 if more bytes are needed, -1 if it is damaged. */
int frame_payload(const uint8_t *data, size_t bytes);

/* Each takes a payload whole, its type byte included, and returns false if it is not one of its type. */
bool decode_hello(const uint8_t *payload, size_t bytes, struct hello *hello);
bool decode_raft(const uint8_t *payload, size_t bytes, struct raft_message *message);
bool decode_request(const uint8_t *payload, size_t bytes, struct client_request *request);
bool decode_reply(const uint8_t *payload, size_t bytes, struct client_reply *reply);

#endif
