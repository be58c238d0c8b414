/* How a call becomes bytes in the page: u16 length, message, u16 length, JSON. */

#include "wire.h"

uint32_t cc_fnv1a(const char *text, size_t length)
{
    uint32_t hash = 0x811c9dc5;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)text[i]) * 0x01000193;
    return hash;
}

/* What of the call fits: a long message is cut, a JSON text that is too long is replaced by a note of its length, since
 * half of it would be no JSON.  Returns the payload's length. */
size_t cc_fit(const struct call *call, size_t *message_len, const char **json, size_t *json_len, char note[32])
{
    *message_len = cc_utf8_cut(call->message, call->message_len, MESSAGE_BYTES_MAX);
    *json = call->json;
    *json_len = call->json_len;
    if (*message_len + *json_len + 4 > PAYLOAD_BYTES) {
        struct text text = {note, 32, 0, false};
        cc_text_put(&text, "{\"too_long\":");
        cc_text_u64(&text, call->json_len);
        cc_text_put(&text, "}");
        *json = note;
        *json_len = text.length;
    }
    return *message_len + *json_len + 4;
}

static uint8_t *put(uint8_t *at, const char *bytes, size_t length)
{
    *at++ = (uint8_t)length;
    *at++ = (uint8_t)(length >> 8);
    if (length > 0)             /* nothing may be said with a null pointer */
        __builtin_memcpy(at, bytes, length);
    return at + length;
}

void cc_fill(struct hypercall_page *page, const struct call *call, size_t message_len, size_t json_len,
             const char *json)
{
    page->command = (uint8_t)call->command;
    page->flags = call->condition ? FLAG_CONDITION : 0;
    page->id = call->id;
    page->payload_len = (uint16_t)(message_len + json_len + 4);
    page->result = 0;
    page->status = 0;
    page->transport = TRANSPORT_PORT;
    put(put(page->payload, call->message, message_len), json, json_len);
}
