/*
 * libvoidstar.so: the library that the public Antithesis SDKs look for in /usr/lib.  Programs built with them talk to
 * this machine unmodified: their JSON messages become the calls of wire.h.
 */

#include <stdlib.h>
#include <string.h>

#include "wire.h"

#define EXPORTED __attribute__((visibility("default")))

EXPORTED uint64_t fuzz_get_random(void);
EXPORTED void fuzz_json_data(const char *data, size_t size);
EXPORTED void fuzz_flush(void);
EXPORTED size_t init_coverage_module(size_t edge_count, const char *symbol_file);
EXPORTED bool notify_coverage(size_t edge);

/* ---- reading JSON that is known to be valid ---- */

struct span {
    const char *at;             /* NULL: not there */
    size_t length;
};

static const char *after_space(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')
        at++;
    return at;
}

static const char *after_string(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

static const char *after_value(const char *at, const char *end)
{
    unsigned depth = 0;
    do {
        if (*at == '"') {
            at = after_string(at);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            depth--;
            at++;
        } else if (depth > 0) {
            at++;               /* a comma, a colon, part of a word or a number */
        } else {
            while (at < end && strchr(",}] \t\n\r", *at) == NULL)
                at++;
        }
    } while (depth > 0);
    return at;
}

/* The next member of an object, *at being behind its brace or behind the last member. */
static bool next_member(const char **at, const char *end, struct span *name, struct span *value)
{
    const char *here = after_space(*at);
    if (*here == ',')
        here = after_space(here + 1);
    if (*here != '"')
        return false;
    name->at = here;
    here = after_string(here);
    name->length = (size_t)(here - name->at);
    here = after_space(after_space(here) + 1);
    value->at = here;
    *at = after_value(here, end);
    value->length = (size_t)(*at - here);
    return true;
}

static struct span member(struct span object, const char *wanted)
{
    struct span name, value;
    if (object.at == NULL || *object.at != '{')
        return (struct span){NULL, 0};
    const char *at = object.at + 1;
    while (next_member(&at, object.at + object.length, &name, &value))
        if (name.length == strlen(wanted) + 2 && memcmp(name.at + 1, wanted, name.length - 2) == 0)
            return value;
    return (struct span){NULL, 0};
}

static bool is_text(struct span value, const char *text)
{
    return value.at != NULL && value.length == strlen(text) && memcmp(value.at, text, value.length) == 0;
}

static unsigned hex4(const char *at)
{
    unsigned value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 4 | (unsigned)(at[i] <= '9' ? at[i] - '0' : (at[i] | 0x20) - 'a' + 10);
    return value;
}

static char *put_utf8(char *out, unsigned c)
{
    if (c < 0x80) {
        *out++ = (char)c;
    } else if (c < 0x800) {
        *out++ = (char)(0xC0 | c >> 6);
        *out++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *out++ = (char)(0xE0 | c >> 12);
        *out++ = (char)(0x80 | (c >> 6 & 0x3F));
        *out++ = (char)(0x80 | (c & 0x3F));
    } else {
        *out++ = (char)(0xF0 | c >> 18);
        *out++ = (char)(0x80 | (c >> 12 & 0x3F));
        *out++ = (char)(0x80 | (c >> 6 & 0x3F));
        *out++ = (char)(0x80 | (c & 0x3F));
    }
    return out;
}

/* A string without its quotes and escapes, which is never longer than with them.  To be freed. */
static char *unescaped(struct span string, size_t *length)
{
    char *text = malloc(string.length + 1), *out = text;
    *length = 0;
    if (text == NULL || string.at == NULL || *string.at != '"') {
        free(text);
        return NULL;
    }
    for (const char *at = string.at + 1; at < string.at + string.length - 1; at++) {
        if (*at != '\\') {
            *out++ = *at;
            continue;
        }
        static const char from[] = "bfnrt", to[] = "\b\f\n\r\t";
        const char *known = strchr(from, *++at);
        if (*at != 'u') {
            *out++ = known != NULL ? to[known - from] : *at;
            continue;
        }
        unsigned c = hex4(at + 1);
        at += 4;
        if (c >= 0xD800 && c < 0xDC00 && at[1] == '\\' && at[2] == 'u' && hex4(at + 3) >= 0xDC00 &&
            hex4(at + 3) < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (hex4(at + 3) - 0xDC00);
            at += 6;
        }
        out = put_utf8(out, c >= 0xD800 && c < 0xE000 ? 0xFFFD : c);
    }
    *length = (size_t)(out - text);
    return text;
}

/* ---- messages ---- */

static void send(enum command command, bool condition, uint32_t id, struct span message, struct span json)
{
    struct call call = {command, condition, id, message.at, message.length, json.at, json.length};
    cc_transact(&call);
}

static enum cc_kind kind_of(struct span assertion)
{
    static const char *const names[] = {"\"Always\"", "\"AlwaysOrUnreachable\"", "\"Sometimes\"", "\"Reachable\"",
                                        "\"Unreachable\""};
    struct span shown = member(assertion, "display_type"), type = member(assertion, "assert_type");
    bool must_hit = is_text(member(assertion, "must_hit"), "true");
    for (int kind = CC_KIND_ALWAYS; kind <= CC_KIND_UNREACHABLE; kind++)
        if (is_text(shown, names[kind]))
            return (enum cc_kind)kind;
    if (is_text(type, "\"sometimes\""))
        return CC_KIND_SOMETIMES;
    if (is_text(type, "\"reachability\""))
        return must_hit ? CC_KIND_REACHABLE : CC_KIND_UNREACHABLE;
    return must_hit ? CC_KIND_ALWAYS : CC_KIND_ALWAYS_OR_UNREACHABLE;
}

static void put_member(struct text *json, const char *name, struct span value)
{
    size_t before = json->length;
    if (value.at == NULL)
        return;
    cc_text_put(json, ",\"");
    cc_text_put(json, name);
    cc_text_put(json, "\":");
    cc_text_raw(json, value.at, value.length);
    if (json->cut) {            /* this member alone is left out */
        json->length = before;
        json->cut = false;
    }
}

static void announce(enum cc_kind kind, uint32_t id, struct span message, struct span assertion)
{
    static const char *const starts[] = {
        "{\"kind\":\"always\",\"must_hit\":true",       "{\"kind\":\"always_or_unreachable\",\"must_hit\":false",
        "{\"kind\":\"sometimes\",\"must_hit\":true",    "{\"kind\":\"reachable\",\"must_hit\":true",
        "{\"kind\":\"unreachable\",\"must_hit\":false",
    };
    struct span location = member(assertion, "location");
    char bytes[1024];
    struct text json = {bytes, sizeof bytes - 1, 0, false};   /* room for the brace */
    cc_text_put(&json, starts[kind]);
    put_member(&json, "file", member(location, "file"));
    put_member(&json, "line", member(location, "begin_line"));
    put_member(&json, "function", member(location, "function"));
    bytes[json.length++] = '}';
    send(COMMAND_CATALOG, false, id, message, (struct span){bytes, json.length});
}

static void assertion(struct span value, struct span message)
{
    static const uint8_t commands[] = {COMMAND_ALWAYS, COMMAND_ALWAYS, COMMAND_SOMETIMES, COMMAND_REACHABLE,
                                       COMMAND_UNREACHABLE};
    enum cc_kind kind = kind_of(value);
    uint32_t id = cc_fnv1a(message.at, message.length);
    /* The SDKs send an assertion at most twice, so announcing it each time costs nothing and needs no memory. */
    announce(kind, id, message, value);
    if (is_text(member(value, "hit"), "true"))
        send((enum command)commands[kind], is_text(member(value, "condition"), "true"), id, message,
             member(value, "details"));
}

static void guidance(struct span value, struct span message)
{
    struct span type = member(value, "guidance_type"), data = member(value, "guidance_data");
    char bytes[2048];
    struct text json = {bytes, sizeof bytes, 0, false};
    if (!is_text(member(value, "hit"), "true") || type.at == NULL || data.at == NULL)
        return;
    cc_text_put(&json, "{\"type\":");
    cc_text_raw(&json, type.at, type.length);
    cc_text_put(&json, is_text(member(value, "maximize"), "true") ? ",\"maximize\":true" : ",\"maximize\":false");
    cc_text_put(&json, ",\"data\":");
    cc_text_raw(&json, data.at, data.length);
    cc_text_put(&json, "}");
    if (!json.cut)
        send(COMMAND_GUIDANCE, true, cc_fnv1a(message.at, message.length), message, (struct span){bytes, json.length});
}

static void one_message(struct span name, struct span value)
{
    size_t length;
    bool is_assertion = is_text(name, "\"antithesis_assert\""), is_guidance = is_text(name, "\"antithesis_guidance\"");
    if (is_text(name, "\"antithesis_setup\"")) {
        if (is_text(member(value, "status"), "\"complete\""))
            send(COMMAND_SETUP_COMPLETE, true, 0, (struct span){"", 0}, member(value, "details"));
        return;
    }
    char *text = unescaped(is_assertion || is_guidance ? member(value, "message") : name, &length);
    if (text == NULL)
        return;                 /* an assertion without a message names no property */
    struct span message = {text, length};
    if (is_assertion)
        assertion(value, message);
    else if (is_guidance)
        guidance(value, message);
    else
        send(COMMAND_SEND_EVENT, true, cc_fnv1a(text, length), message, value);
    free(text);
}

/* ---- the five functions ---- */

void fuzz_json_data(const char *data, size_t size)
{
    if (data == NULL || cc_channel() == CHANNEL_NONE)
        return;
    if (!cc_json_object(data, size)) {
        cc_send_event("voidstar: not a JSON object", NULL);
        return;
    }
    /* Zero-terminated, so that looking one byte ahead is always allowed. */
    char *copy = malloc(size + 1);
    if (copy == NULL)
        return;
    memcpy(copy, data, size);
    copy[size] = '\0';
    const char *at = after_space(copy) + 1;
    struct span name, value;
    while (next_member(&at, copy + size, &name, &value))
        one_message(name, value);
    free(copy);
}

uint64_t fuzz_get_random(void)
{
    return cc_random();
}

/* Nothing is ever held back. */
void fuzz_flush(void)
{
}

static size_t edges_of_modules;

/* The offset that the module adds to the numbers of its edges. */
size_t init_coverage_module(size_t edge_count, const char *symbol_file)
{
    size_t offset = __atomic_fetch_add(&edges_of_modules, edge_count, __ATOMIC_RELAXED);
    cc_coverage_init(symbol_file != NULL ? symbol_file : "", edge_count < UINT32_MAX ? (uint32_t)edge_count : UINT32_MAX);
    return offset;
}

/* True: tell me again next time; counts matter, not only the first visit. */
bool notify_coverage(size_t edge)
{
    cc_record_edge((uint32_t)edge * 0x9E3779B1u >> 16);
    return true;
}
