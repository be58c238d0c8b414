/* The calls that programs make, each turned into one struct call. */

#include "wire.h"

static uint64_t send(enum command command, bool condition, uint32_t id, const char *message, const char *json)
{
    struct call call = {command, condition, id, message, cc_length(message), json, cc_length(json)};
    return cc_transact(&call);
}

static uint32_t id_of(const char *message)
{
    return cc_fnv1a(message, cc_length(message));
}

static const char *or_empty(const char *details)
{
    return details != NULL ? details : "";
}

static enum command command_of(uint8_t kind)
{
    switch (kind) {
    case CC_KIND_SOMETIMES: return COMMAND_SOMETIMES;
    case CC_KIND_REACHABLE: return COMMAND_REACHABLE;
    case CC_KIND_UNREACHABLE: return COMMAND_UNREACHABLE;
    default: return COMMAND_ALWAYS;
    }
}

/* ---- assertions ---- */

/* "file:line:message", hashed piece by piece: FNV-1a goes on from where it was. */
static uint32_t more(uint32_t hash, const char *text)
{
    for (; *text != '\0'; text++)
        hash = (hash ^ (uint8_t)*text) * 0x01000193;
    return hash;
}

static uint32_t site_id(struct cc_site *site)
{
    if (site->id == 0) {
        char line[24];
        struct text text = {line, sizeof line - 1, 0, false};
        cc_text_put(&text, ":");
        cc_text_u64(&text, site->line);
        cc_text_put(&text, ":");
        line[text.length] = '\0';
        site->id = more(more(more(cc_fnv1a("", 0), site->file), line), site->message);
    }
    return site->id;
}

void cc_assert_at(struct cc_site *site, bool condition, const char *details)
{
    if (cc_channel() == CHANNEL_NONE)
        return;
    send(command_of(site->kind), condition, site_id(site), site->message, or_empty(details));
}

void cc_always(bool condition, const char *message, const char *details)
{
    send(COMMAND_ALWAYS, condition, id_of(message), message, or_empty(details));
}

void cc_sometimes(bool condition, const char *message, const char *details)
{
    send(COMMAND_SOMETIMES, condition, id_of(message), message, or_empty(details));
}

void cc_reachable(const char *message, const char *details)
{
    send(COMMAND_REACHABLE, true, id_of(message), message, or_empty(details));
}

void cc_unreachable(const char *message, const char *details)
{
    send(COMMAND_UNREACHABLE, false, id_of(message), message, or_empty(details));
}

/* ---- the catalog ---- */

static const char *kind_name(uint8_t kind)
{
    static const char *const names[] = {"always", "always_or_unreachable", "sometimes", "reachable", "unreachable"};
    return names[kind];
}

static void announce(uint8_t kind, uint32_t id, const char *message, const struct cc_site *site)
{
    char json[768];
    struct text text = {json, sizeof json, 0, false};
    cc_text_put(&text, "{\"kind\":\"");
    cc_text_put(&text, kind_name(kind));
    cc_text_put(&text, kind == CC_KIND_ALWAYS_OR_UNREACHABLE || kind == CC_KIND_UNREACHABLE
                           ? "\",\"must_hit\":false" : "\",\"must_hit\":true");
    if (site != NULL) {
        cc_text_put(&text, ",\"file\":");
        cc_text_json(&text, site->file, cc_length(site->file));
        cc_text_put(&text, ",\"line\":");
        cc_text_u64(&text, site->line);
        cc_text_put(&text, ",\"function\":");
        cc_text_json(&text, site->function, cc_length(site->function));
    }
    cc_text_put(&text, "}");
    if (text.cut)               /* a file name longer than half a page: the kind alone still matters */
        announce(kind, id, message, NULL);
    else {
        struct call call = {COMMAND_CATALOG, false, id, message, cc_length(message), json, text.length};
        cc_transact(&call);
    }
}

void cc_announce(enum cc_kind kind, const char *message)
{
    announce((uint8_t)kind, id_of(message), message, NULL);
}

void cc_first_use(void)
{
    struct cc_site *const *at, *const *end;
    for (cc_sites(&at, &end); at != end; at++)
        announce((*at)->kind, site_id(*at), (*at)->message, *at);
}

/* ---- comparisons and groups: the assertion, then guidance where it improves ---- */

enum { GUIDANCE_JSON_BYTES = 1024 };

/* What the values are, as members of an object, followed by the caller's own details where they are an object that
 * fits. */
static void close_with_details(struct text *text, const char *details)
{
    size_t length = cc_length(details), brace = 0;
    while (brace < length && details[brace] != '{')
        brace++;
    size_t member = brace + 1;
    while (member < length && (details[member] == ' ' || details[member] == '\n' || details[member] == '\t'))
        member++;
    if (member < length && details[member] != '}' && length - brace + 1 <= text->room - text->length) {
        cc_text_put(text, ",");
        cc_text_raw(text, details + brace + 1, length - brace - 1);
    } else {
        cc_text_put(text, "}");
    }
}

/* The assertion at once; the guidance only if this value is nearer the edge than any before it in this process. */
static void report(struct cc_site *site, bool condition, const char *type, bool maximize, double value,
                   const struct text *members, const char *details)
{
    char json[GUIDANCE_JSON_BYTES];
    struct text text = {json, sizeof json - 1, 0, false};
    cc_text_put(&text, "{");
    cc_text_raw(&text, members->at, members->length);
    close_with_details(&text, details);
    json[text.length] = '\0';
    struct call call = {command_of(site->kind), condition, site_id(site), site->message, cc_length(site->message),
                        json, text.length};
    if (text.cut || members->cut) {
        call.json = or_empty(details);
        call.json_len = cc_length(details);
    }
    cc_transact(&call);

    if (site->guided && !(maximize ? value > site->best : value < site->best))
        return;
    site->best = value;
    site->guided = 1;
    if (members->cut)
        return;
    text.length = 0;
    text.cut = false;
    cc_text_put(&text, "{\"type\":\"");
    cc_text_put(&text, type);
    cc_text_put(&text, maximize ? "\",\"maximize\":true,\"data\":{" : "\",\"maximize\":false,\"data\":{");
    cc_text_raw(&text, members->at, members->length);
    cc_text_put(&text, "}}");
    if (text.cut)
        return;
    call = (struct call){COMMAND_GUIDANCE, condition, site_id(site), site->message, cc_length(site->message), json,
                         text.length};
    cc_transact(&call);
}

/* An always is searched for its violation, a sometimes for its fulfilment: which way should left - right go? */
static bool seeks_larger_gap(uint8_t kind, enum cc_compare how)
{
    bool less = how == CC_LESS || how == CC_LESS_OR_EQUAL;
    return kind == CC_KIND_ALWAYS ? less : !less;
}

#define COMPARED(how, left, right)                                                                                   \
    ((how) == CC_LESS ? (left) < (right) : (how) == CC_LESS_OR_EQUAL ? (left) <= (right)                             \
     : (how) == CC_GREATER ? (left) > (right) : (left) >= (right))

void cc_compare_i64(struct cc_site *site, enum cc_compare how, int64_t left, int64_t right, const char *details)
{
    if (cc_channel() == CHANNEL_NONE)
        return;
    char bytes[64];
    struct text members = {bytes, sizeof bytes, 0, false};
    cc_text_put(&members, "\"left\":");
    cc_text_i64(&members, left);
    cc_text_put(&members, ",\"right\":");
    cc_text_i64(&members, right);
    report(site, COMPARED(how, left, right), "numeric", seeks_larger_gap(site->kind, how),
           (double)left - (double)right, &members, details);
}

#ifndef CC_SDK_FREESTANDING
#include <math.h>
#include <stdio.h>

static void put_f64(struct text *text, const char *name, double value)
{
    char number[40];
    int length = isfinite(value) ? snprintf(number, sizeof number, "%.17g", value)
                                 : snprintf(number, sizeof number, "null");   /* JSON has no infinity */
    cc_text_put(text, name);
    cc_text_raw(text, number, (size_t)length);
}

void cc_compare_f64(struct cc_site *site, enum cc_compare how, double left, double right, const char *details)
{
    if (cc_channel() == CHANNEL_NONE)
        return;
    char bytes[96];
    struct text members = {bytes, sizeof bytes, 0, false};
    put_f64(&members, "\"left\":", left);
    put_f64(&members, ",\"right\":", right);
    report(site, COMPARED(how, left, right), "numeric", seeks_larger_gap(site->kind, how), left - right, &members,
           details);
}
#endif

void cc_group_at(struct cc_site *site, const struct cc_named_bool *values, size_t count, const char *details)
{
    if (cc_channel() == CHANNEL_NONE)
        return;
    char bytes[GUIDANCE_JSON_BYTES - 64];
    struct text members = {bytes, sizeof bytes, 0, false};
    size_t trues = 0;
    for (size_t i = 0; i < count; i++) {
        cc_text_put(&members, i > 0 ? "," : "");
        cc_text_json(&members, values[i].name, cc_length(values[i].name));
        cc_text_put(&members, values[i].value ? ":true" : ":false");
        trues += values[i].value;
    }
    bool all = site->kind == CC_KIND_SOMETIMES;
    report(site, all ? trues == count : trues > 0, "boolean", all, (double)trues, &members, details);
}

/* ---- lifecycle ---- */

void cc_setup_complete(const char *details)
{
    send(COMMAND_SETUP_COMPLETE, true, 0, "", or_empty(details));
}

void cc_send_event(const char *name, const char *details)
{
    send(COMMAND_SEND_EVENT, true, id_of(name), name, or_empty(details));
}

/* ---- randomness ---- */

uint64_t cc_random(void)
{
    return cc_channel() == CHANNEL_MACHINE ? send(COMMAND_RANDOM_GET, false, 0, "", "") : cc_own_random();
}

uint64_t cc_random_choice(uint32_t n)
{
    if (n == 0)
        return 0;
    return cc_channel() == CHANNEL_MACHINE ? send(COMMAND_RANDOM_CHOICE, false, n, "", "") % n : cc_own_random() % n;
}

bool cc_inside_machine(void)
{
    return cc_channel() == CHANNEL_MACHINE;
}
