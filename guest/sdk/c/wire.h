/* What a guest and its host agree on: the hypercall page, the commands, the ports.  Shared by the parts of the SDK. */
#ifndef CC_SDK_WIRE_H
#define CC_SDK_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chaoscontrol.h"

enum {
    HYPERCALL_GPA = 0xFE000,
    COVERAGE_GPA = 0xE0000,
    COVERAGE_BYTES = 0x10000,
    SDK_PORT = 0x510,           /* OUT: handle the request in the page */
    COVERAGE_PORT = 0x511,      /* OUT: the coverage map is in use */
    PAGE_BYTES = 4096,
    PAYLOAD_BYTES = PAGE_BYTES - 0x20,
    MESSAGE_BYTES_MAX = 1024,   /* longer ones are cut; the id is still that of the whole */
    TRANSPORT_PORT = 2,
    FLAG_CONDITION = 1,
};

enum command {
    COMMAND_ALWAYS = 0x01,
    COMMAND_SOMETIMES = 0x02,
    COMMAND_REACHABLE = 0x03,
    COMMAND_UNREACHABLE = 0x04,
    COMMAND_CATALOG = 0x05,
    COMMAND_GUIDANCE = 0x07,
    COMMAND_SETUP_COMPLETE = 0x10,
    COMMAND_SEND_EVENT = 0x11,
    COMMAND_RANDOM_GET = 0x20,
    COMMAND_RANDOM_CHOICE = 0x21,
    COMMAND_COVERAGE_INIT = 0x30,
};

/* Little-endian, as the machine is. */
struct hypercall_page {
    uint8_t command, flags, reserved_02[2];
    uint32_t id;
    uint16_t payload_len;
    uint8_t reserved_0a[6];
    uint64_t result;
    uint8_t status, transport, reserved_1a[2];
    uint32_t owner;             /* the lock of the guest's own processes; the host neither reads nor writes it */
    uint8_t payload[PAYLOAD_BYTES];
};

_Static_assert(offsetof(struct hypercall_page, id) == 0x04, "layout");
_Static_assert(offsetof(struct hypercall_page, payload_len) == 0x08, "layout");
_Static_assert(offsetof(struct hypercall_page, result) == 0x10, "layout");
_Static_assert(offsetof(struct hypercall_page, status) == 0x18, "layout");
_Static_assert(offsetof(struct hypercall_page, owner) == 0x1C, "layout");
_Static_assert(offsetof(struct hypercall_page, payload) == 0x20, "layout");
_Static_assert(sizeof(struct hypercall_page) == PAGE_BYTES, "layout");

/* One call: what goes into the page. */
struct call {
    enum command command;
    bool condition;
    uint32_t id;
    const char *message;
    size_t message_len;
    const char *json;
    size_t json_len;
};

enum channel { CHANNEL_NONE, CHANNEL_LOCAL, CHANNEL_MACHINE };

/* channel.c (with an operating system), bare.c (without) */
enum channel cc_channel(void);
uint64_t cc_transact(const struct call *call);
uint8_t *cc_coverage_map(void);         /* NULL where there is none; marks it as used */
void cc_first_use(void);                /* announces every site, once, as soon as there is a channel */
void cc_sites(struct cc_site *const **begin, struct cc_site *const **end);
bool cc_unreachable_machine(void);       /* it is a machine, and yet there is no channel; not in bare.c */
uint64_t cc_own_random(void);           /* where no host gives any */

/* local.c */
bool cc_local_open(void);
void cc_local_write(const struct call *call);

/* request.c */
void cc_fill(struct hypercall_page *page, const struct call *call, size_t message_len, size_t json_len,
             const char *json);
size_t cc_fit(const struct call *call, size_t *message_len, const char **json, size_t *json_len, char note[32]);

/* text.c */
struct text {
    char *at;
    size_t room, length;
    bool cut;                   /* something did not fit: the text is not to be used */
};
void cc_text_raw(struct text *text, const char *bytes, size_t length);
void cc_text_put(struct text *text, const char *string);
void cc_text_u64(struct text *text, uint64_t value);
void cc_text_i64(struct text *text, int64_t value);
void cc_text_json(struct text *text, const char *string, size_t length);   /* a JSON string, with its quotes */
size_t cc_length(const char *string);
size_t cc_utf8_cut(const char *bytes, size_t length, size_t limit);

/* json.c */
bool cc_json_valid(const char *bytes, size_t length);
bool cc_json_object(const char *bytes, size_t length);

#endif
