/* cc-agent: the parts of the guest agent.  The protocol is specified in docs/guest-agent.md. */
#ifndef CC_AGENT_H
#define CC_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    PROTOCOL_VERSION = 1,
    LENGTH_BYTES = 4,
    HEADER_BYTES = 5,           /* id, op: what the length counts besides the payload */
    LENGTH_MAX = 65536,         /* the largest value of the length field */
    PAYLOAD_MAX = LENGTH_MAX - HEADER_BYTES,
    COMMANDS_MAX = 8,           /* running at a time */
    ARGUMENTS_MAX = 256,
    OUTPUT_MAX = PAYLOAD_MAX - 16,
};

enum op {
    OP_HELLO = 0x01,
    OP_LIST = 0x02,
    OP_SIGNAL_PID = 0x03,
    OP_SIGNAL_NAME = 0x04,
    OP_RUN = 0x05,
    OP_ADJUST_CLOCK = 0x06,
    OP_PING = 0x07,
    OP_ANSWER = 0x80,           /* added to the request's */
    OP_ERROR = 0xFF,
};

/* A request, being read from the front.  Reading past the end marks it as short and gives zeros. */
struct request {
    uint32_t id;
    uint8_t op;
    const uint8_t *at;
    size_t left;
    bool is_short;
};

/* An answer, being written.  What does not fit is left out and marks the answer as full. */
struct answer {
    uint8_t bytes[LENGTH_BYTES + LENGTH_MAX];
    size_t length;
    bool full;
};

uint64_t get(struct request *request, size_t bytes);
const char *get_text(struct request *request, size_t *length);   /* u16 length, bytes */
bool is_done(const struct request *request);                     /* everything was there, and nothing else */

void answer_start(struct answer *answer, uint32_t id, uint8_t op);
void put(struct answer *answer, uint64_t value, size_t bytes);
void put_at(struct answer *answer, size_t offset, uint64_t value, size_t bytes);
void put_raw(struct answer *answer, const void *bytes, size_t length);
void put_text(struct answer *answer, const char *text, size_t length);
void answer_error(struct answer *answer, uint32_t id, int error, const char *what);
bool answer_send(struct answer *answer, int channel);

/* processes.c */
int list_processes(struct answer *answer);
int signal_by_name(struct answer *answer, const char *name, size_t length, int signal_number);

/* commands.c: programs that were started and have not been answered for */
struct command {
    bool used, timed_out, truncated;
    uint32_t id;
    pid_t pid;
    int output;                 /* pipe, -1 when closed */
    int64_t deadline_ns;        /* of the monotonic clock; INT64_MAX: none */
    uint32_t output_max;
    uint32_t length;
    uint8_t *bytes;
};
extern struct command commands[COMMANDS_MAX];
int command_start(struct request *request);          /* 0, or an errno */
void command_read(struct command *command);
void commands_reap(int channel);
void commands_expire(int64_t now_ns);
int64_t commands_deadline_ns(void);
int64_t now_ns(void);

#endif
