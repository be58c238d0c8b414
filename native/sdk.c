/*
 * sdk.c: what the guest says through the SDK port, and the table of its properties.
 *
 * A request lies in the page at 0xFE000 and is answered before the OUT retires: status and result are in the page when
 * the guest goes on.  Counting is done here, because a busy program evaluates its assertions many thousand times in a
 * virtual second; only what is worth reading becomes an event: the first pass and the first fails of a property,
 * announcements, lifecycle and guidance.
 *
 * The table is state (CC_AUX_PROPS): going back in time takes back what was counted since.
 */
#include "sdk.h"
#include "watch.h"

#define PAGE_GPA 0xFE000u
#define PAYLOAD_AT 0x20u
#define PAYLOAD_BYTES (CC_PAGE_SIZE - PAYLOAD_AT)

enum {
    CMD_ALWAYS = 0x01, CMD_SOMETIMES = 0x02, CMD_REACHABLE = 0x03, CMD_UNREACHABLE = 0x04, CMD_CATALOG = 0x05,
    CMD_GUIDANCE = 0x07, CMD_SETUP = 0x10, CMD_EVENT = 0x11, CMD_RANDOM = 0x20, CMD_CHOICE = 0x21, CMD_COVERAGE = 0x30,
};
enum { STATUS_OK, STATUS_ERROR, STATUS_ALWAYS_FAILED, STATUS_UNREACHABLE };
#define FLAG_CONDITION 1u

/* Events of failing evaluations: the first ones, then those whose number is a power of two. */
#define FAILS_TOLD 64u

/* ---- the table --------------------------------------------------------------------------------------------------- */
#define PROPERTIES_MAX 4096u
#define INDEX_SIZE 8192u                     /* open addressing, at most half full */
#define INDEX_AT 64u
#define ENTRIES_AT (INDEX_AT + INDEX_SIZE * 2)
#define TEXT_AT (ENTRIES_AT + PROPERTIES_MAX * (uint32_t)sizeof(cc_property))
#define TEXT_BYTES (CC_AUX_PROPS_BYTES - TEXT_AT)

struct table { uint32_t count, text_used; uint64_t lost; };

_Static_assert(sizeof(cc_property) == 64 && TEXT_AT < CC_AUX_PROPS_BYTES / 2, "layout");
_Static_assert(sizeof(cc_sdk_event) == 24, "layout");

static const struct table *table(const cc_machine *m)
{
    return cc_aux(m, CC_AUX_PROPS, 0);
}

static struct table *table_change(cc_machine *m)
{
    return cc_aux_will_change(m, CC_AUX_PROPS, 0, sizeof(struct table));
}

static cc_property *entry_change(cc_machine *m, uint32_t i)
{
    return cc_aux_will_change(m, CC_AUX_PROPS, ENTRIES_AT + i * (uint32_t)sizeof(cc_property), sizeof(cc_property));
}

static const cc_property *entry(const cc_machine *m, uint32_t i)
{
    return cc_aux(m, CC_AUX_PROPS, ENTRIES_AT + i * (uint32_t)sizeof(cc_property));
}

/* Where the index names the property, or would name it. */
static uint32_t index_find(const cc_machine *m, uint32_t id, uint8_t command)
{
    const uint16_t *index = cc_aux(m, CC_AUX_PROPS, INDEX_AT);
    uint32_t at = (id * 0x9E3779B1u + command) % INDEX_SIZE;
    while (index[at]) {
        const cc_property *p = entry(m, index[at] - 1u);
        if (p->id == id && p->command == command)
            break;
        at = (at + 1) % INDEX_SIZE;
    }
    return at;
}

static uint32_t text_keep(cc_machine *m, const uint8_t *text, uint32_t size)
{
    struct table *t = table_change(m);
    const uint32_t at = t->text_used;
    t->text_used += size;
    if (size)                      /* a request without a message has no text */
        memcpy(cc_aux_will_change(m, CC_AUX_PROPS, TEXT_AT + at, size), text, size);
    return at;
}

/* The property's entry, made if need be; NULL if there is no room. */
static cc_property *property(cc_machine *m, uint32_t id, uint8_t command, const uint8_t *message, uint32_t size)
{
    const uint32_t at = index_find(m, id, command);
    const uint16_t known = *(const uint16_t *)cc_aux(m, CC_AUX_PROPS, INDEX_AT + at * 2);
    if (known)
        return entry_change(m, known - 1u);
    if (table(m)->count == PROPERTIES_MAX || size > TEXT_BYTES - table(m)->text_used) {
        table_change(m)->lost++;
        return NULL;
    }
    const uint32_t i = table_change(m)->count++;
    *(uint16_t *)cc_aux_will_change(m, CC_AUX_PROPS, INDEX_AT + at * 2, 2) = (uint16_t)(i + 1);
    const uint32_t text_at = text_keep(m, message, size);
    cc_property *p = entry_change(m, i);
    *p = (cc_property){
        .id = id, .command = command, .text_at = text_at, .text_size = size,
        .first_pass_vns = CC_NO_TIME, .first_pass_instret = CC_NO_TIME,
        .first_fail_vns = CC_NO_TIME, .first_fail_instret = CC_NO_TIME,
    };
    return p;
}

size_t cc_properties(const cc_machine *m, size_t first, cc_property *dst, size_t n)
{
    const uint32_t count = table(m)->count;
    size_t written = 0;
    for (; written < n && first + written < count; written++)
        dst[written] = *entry(m, (uint32_t)(first + written));
    return written;
}

size_t cc_properties_text(const cc_machine *m, uint32_t at, char *dst, size_t size)
{
    const uint32_t used = table(m)->text_used;
    if (at >= used)
        return 0;
    const size_t n = size < used - at ? size : used - at;
    memcpy(dst, cc_aux(m, CC_AUX_PROPS, TEXT_AT + at), n);
    return n;
}

uint64_t cc_properties_lost(const cc_machine *m)
{
    return table(m)->lost;
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */
struct request {
    uint8_t command, flags, transport;
    uint32_t id;
    const uint8_t *message, *json;
    uint16_t message_size, json_size;
};

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

/* False if the lengths in the page contradict each other.  A payload may end after the message, or be empty. */
static bool parse(const uint8_t *page, struct request *r)
{
    *r = (struct request){.command = page[0], .flags = page[1], .transport = page[0x19]};
    memcpy(&r->id, page + 4, sizeof r->id);
    uint32_t left = u16_at(page + 8);
    const uint8_t *p = page + PAYLOAD_AT;
    if (left > PAYLOAD_BYTES)
        return false;
    if (!left)
        return true;
    if (left < 2 || u16_at(p) > left - 2)
        return false;
    r->message_size = u16_at(p);
    r->message = p + 2;
    left -= 2u + r->message_size;
    p = r->message + r->message_size;
    if (!left)
        return true;
    if (left < 2 || u16_at(p) > left - 2)
        return false;
    r->json_size = u16_at(p);
    r->json = p + 2;
    return true;
}

static void tell(cc_machine *m, const struct request *r, uint8_t status, uint64_t evaluations)
{
    uint8_t record[sizeof(cc_sdk_event) + PAYLOAD_BYTES];
    const cc_sdk_event e = {
        .command = r->command, .flags = r->flags, .status = status, .transport = r->transport, .id = r->id,
        .evaluations = evaluations, .message_size = r->message_size, .json_size = r->json_size,
    };
    memcpy(record, &e, sizeof e);
    uint8_t *to = record + sizeof e;
    if (r->message_size)
        memcpy(to, r->message, r->message_size);
    if (r->json_size)
        memcpy(to + r->message_size, r->json, r->json_size);
    cc_event_log(m, CC_EVENT_SDK, record, sizeof e + r->message_size + r->json_size);
}

static void stop_at(cc_machine *m, uint32_t which, uint8_t command)
{
    if (m->stop_at & which)
        cc_request_stop(m, CC_STOP_HYPERCALL, command);
}

/* An assertion was evaluated. */
static uint8_t evaluate(cc_machine *m, const struct request *r)
{
    const bool pass = r->command == CMD_REACHABLE || (r->command != CMD_UNREACHABLE && (r->flags & FLAG_CONDITION));
    const uint8_t status = pass || r->command == CMD_SOMETIMES ? STATUS_OK
                         : r->command == CMD_ALWAYS ? STATUS_ALWAYS_FAILED : STATUS_UNREACHABLE;
    cc_property *p = property(m, r->id, r->command, r->message, r->message_size);
    uint64_t nth = 1, evaluations = 0;
    if (p) {
        nth = pass ? ++p->passes : ++p->fails;
        if (nth == 1) {
            *(pass ? &p->first_pass_vns : &p->first_fail_vns) = cc_now(m);
            *(pass ? &p->first_pass_instret : &p->first_fail_instret) = m->instret;
        }
        evaluations = p->passes + p->fails;
    }
    const bool told = nth == 1 || (status != STATUS_OK && (nth <= FAILS_TOLD || !(nth & (nth - 1))));
    if (told)
        tell(m, r, status, evaluations);
    if (status != STATUS_OK)
        stop_at(m, CC_AT_FAILURE, r->command);
    return status;
}

static void catalog(cc_machine *m, const struct request *r)
{
    const uint64_t count = table(m)->count, lost = table(m)->lost;
    property(m, r->id, CMD_CATALOG, r->message, r->message_size);
    if (table(m)->count != count || table(m)->lost != lost)
        tell(m, r, STATUS_OK, 0);
}

static void setup_complete(cc_machine *m)
{
    if (m->dev.sdk.setup_vns == CC_NO_TIME)
        m->dev.sdk.setup_vns = cc_now(m);
    stop_at(m, CC_AT_SETUP, CMD_SETUP);
}

static uint8_t answer(cc_machine *m, const struct request *r, uint64_t *result)
{
    struct cc_sdk *s = &m->dev.sdk;
    switch (r->command) {
    case CMD_ALWAYS:
    case CMD_SOMETIMES:
    case CMD_REACHABLE:
    case CMD_UNREACHABLE:
        return evaluate(m, r);
    case CMD_CATALOG:
        catalog(m, r);
        return STATUS_OK;
    case CMD_SETUP:
        tell(m, r, STATUS_OK, 0);
        setup_complete(m);
        return STATUS_OK;
    case CMD_GUIDANCE:
    case CMD_EVENT:
        tell(m, r, STATUS_OK, 0);
        return STATUS_OK;
    case CMD_RANDOM:
        *result = cc_stream_u64(&s->random);
        return STATUS_OK;
    case CMD_CHOICE:
        if (!r->id)
            return STATUS_ERROR;
        *result = cc_stream_below(&s->random, r->id);
        return STATUS_OK;
    case CMD_COVERAGE:
        s->coverage = 1;
        tell(m, r, STATUS_OK, 0);
        return STATUS_OK;
    default:
        return STATUS_ERROR;
    }
}

void cc_sdk_request(cc_machine *m, uint32_t value)
{
    uint8_t *page = m->ram + PAGE_GPA;
    uint8_t copy[CC_PAGE_SIZE];
    memcpy(copy, page, sizeof copy);
    struct request r;
    uint64_t result = 0;
    const uint8_t status = parse(copy, &r) ? answer(m, &r, &result) : STATUS_ERROR;
    cc_ram_will_change(m, PAGE_GPA, CC_PAGE_SIZE);
    memcpy(page + 0x10, &result, sizeof result);
    page[0x18] = status;
    cc_watch_device(m, CC_DEVICE_SDK);
    cc_watch_dma(m, PAGE_GPA + 0x10, 9, CC_WATCH_WRITE, 0);
    if (m->stop_kind == CC_STOP_NONE && (m->stop_at & CC_AT_HYPERCALL))
        cc_request_stop(m, CC_STOP_HYPERCALL, value);
}

void cc_sdk_coverage(cc_machine *m, uint32_t value)
{
    m->dev.sdk.coverage = 1;
    if (m->stop_at & CC_AT_COVERAGE)
        cc_request_stop(m, CC_STOP_COVERAGE, value);
}

/* ---- the host's side --------------------------------------------------------------------------------------------- */
uint64_t cc_setup_vns(const cc_machine *m)
{
    return m->dev.sdk.setup_vns;
}

void cc_force_setup_complete(cc_machine *m)
{
    setup_complete(m);
}

bool cc_coverage_active(const cc_machine *m)
{
    return m->dev.sdk.coverage;
}

void cc_sdk_reset(cc_machine *m)
{
    struct cc_sdk *s = &m->dev.sdk;
    s->setup_vns = CC_NO_TIME;
    s->coverage = 0;
}
