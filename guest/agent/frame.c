/* Frames: little-endian numbers and texts, read and written with every length checked. */

#include "agent.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

uint64_t get(struct request *request, size_t bytes)
{
    if (request->left < bytes) {
        request->is_short = true;
        request->left = 0;
        return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)request->at[i] << 8 * i;
    request->at += bytes;
    request->left -= bytes;
    return value;
}

const char *get_text(struct request *request, size_t *length)
{
    *length = get(request, 2);
    const char *text = (const char *)request->at;
    if (request->left < *length) {
        request->is_short = true;
        request->left = *length = 0;
        return text;
    }
    request->at += *length;
    request->left -= *length;
    return text;
}

bool is_done(const struct request *request)
{
    return !request->is_short && request->left == 0;
}

void put_raw(struct answer *answer, const void *bytes, size_t length)
{
    if (length > sizeof answer->bytes - answer->length) {
        answer->full = true;
        return;
    }
    memcpy(answer->bytes + answer->length, bytes, length);
    answer->length += length;
}

void put(struct answer *answer, uint64_t value, size_t bytes)
{
    uint8_t little[8];
    for (size_t i = 0; i < bytes; i++)
        little[i] = (uint8_t)(value >> 8 * i);
    put_raw(answer, little, bytes);
}

void put_at(struct answer *answer, size_t offset, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        answer->bytes[offset + i] = (uint8_t)(value >> 8 * i);
}

void put_text(struct answer *answer, const char *text, size_t length)
{
    put(answer, length, 2);
    put_raw(answer, text, length);
}

void answer_start(struct answer *answer, uint32_t id, uint8_t op)
{
    answer->length = 0;
    answer->full = false;
    put(answer, 0, LENGTH_BYTES);   /* known when it is sent */
    put(answer, id, 4);
    put(answer, op, 1);
}

void answer_error(struct answer *answer, uint32_t id, int error, const char *what)
{
    answer_start(answer, id, OP_ERROR);
    put(answer, (uint64_t)error, 2);
    put_text(answer, what, strlen(what));
}

bool answer_send(struct answer *answer, int channel)
{
    put_at(answer, 0, answer->length - LENGTH_BYTES, LENGTH_BYTES);
    for (size_t sent = 0; sent < answer->length;) {
        ssize_t count = write(channel, answer->bytes + sent, answer->length - sent);
        if (count < 0 && errno != EINTR && errno != EAGAIN)
            return false;
        sent += count > 0 ? (size_t)count : 0;
    }
    return true;
}
