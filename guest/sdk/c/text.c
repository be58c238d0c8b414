/* Text without a C library: numbers, JSON strings, lengths.  A text that does not fit is marked, never overrun. */

#include "wire.h"

size_t cc_length(const char *string)
{
    size_t length = 0;
    while (string != NULL && string[length] != '\0')
        length++;
    return length;
}

void cc_text_raw(struct text *text, const char *bytes, size_t length)
{
    if (length > text->room - text->length) {
        text->cut = true;
        return;
    }
    for (size_t i = 0; i < length; i++)
        text->at[text->length++] = bytes[i];
}

void cc_text_put(struct text *text, const char *string)
{
    cc_text_raw(text, string, cc_length(string));
}

void cc_text_u64(struct text *text, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while ((value /= 10) != 0);
    cc_text_raw(text, digits + at, sizeof digits - at);
}

void cc_text_i64(struct text *text, int64_t value)
{
    if (value < 0)
        cc_text_put(text, "-");
    cc_text_u64(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

/* Bytes of the well-formed UTF-8 sequence at `bytes` (Unicode, table 3-7), 0 if there is none. */
static size_t sequence_length(const unsigned char *bytes, size_t length)
{
    unsigned char lead = bytes[0];
    if (lead < 0x80)
        return 1;
    size_t wanted = lead >= 0xF0 && lead <= 0xF4 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || wanted > length)
        return 0;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < wanted; i++)
        if ((bytes[i] & 0xC0) != 0x80)
            return 0;
    return wanted;
}

/* At most `limit` bytes, without cutting a character in two. */
size_t cc_utf8_cut(const char *bytes, size_t length, size_t limit)
{
    if (length <= limit)
        return length;
    while (limit > 0 && ((unsigned char)bytes[limit] & 0xC0) == 0x80)
        limit--;
    return limit;
}

void cc_text_json(struct text *text, const char *string, size_t length)
{
    static const char hex[] = "0123456789abcdef";
    cc_text_raw(text, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)string[i];
        size_t span = sequence_length((const unsigned char *)string + i, length - i);
        if (c == '"' || c == '\\') {
            char escaped[2] = {'\\', (char)c};
            cc_text_raw(text, escaped, 2);
        } else if (c < 0x20) {
            char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
            cc_text_raw(text, escaped, 6);
        } else if (span == 0) {
            cc_text_put(text, "\\ufffd");
            span = 1;
        } else {
            cc_text_raw(text, string + i, span);
        }
        i += span;
    }
    cc_text_raw(text, "\"", 1);
}
