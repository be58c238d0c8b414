/*
 * chacha.c: ChaCha20 (RFC 8439, section 2.3) as a source of random streams, and the derivation of their keys.
 *
 * A key is derived from the one before it by the cipher alone: a label's bytes go, 12 at a time, into the nonce, and the
 * start of the block is the next key.  core/chaoscontrol/random.py does the same and says why labels cannot collide.
 */
#include "chacha.h"

#include <string.h>

#define BLOCK_BYTES 64u

static uint32_t rotate(uint32_t x, unsigned by)
{
    return x << by | x >> (32 - by);
}

static void quarter_round(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    *a += *b; *d = rotate(*d ^ *a, 16);
    *c += *d; *b = rotate(*b ^ *c, 12);
    *a += *b; *d = rotate(*d ^ *a, 8);
    *c += *d; *b = rotate(*b ^ *c, 7);
}

static void block(const uint32_t key[8], uint32_t counter, const uint32_t nonce[3], uint32_t out[16])
{
    const uint32_t start[16] = {
        0x61707865, 0x3320646E, 0x79622D32, 0x6B206574,
        key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7],
        counter, nonce[0], nonce[1], nonce[2],
    };
    uint32_t x[16];
    memcpy(x, start, sizeof x);
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned j = 0; j < 4; j++)
            quarter_round(&x[j], &x[4 + j], &x[8 + j], &x[12 + j]);
        for (unsigned j = 0; j < 4; j++)
            quarter_round(&x[j], &x[4 + (j + 1) % 4], &x[8 + (j + 2) % 4], &x[12 + (j + 3) % 4]);
    }
    for (unsigned i = 0; i < 16; i++)
        out[i] = x[i] + start[i];
}

void cc_stream_seed(struct cc_stream *s, uint64_t seed)
{
    *s = (struct cc_stream){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)}};
}

/* code: kind, length and bytes of the label, with zeros up to a multiple of 12. */
static void follow(struct cc_stream *s, const uint8_t *code, size_t size)
{
    for (size_t i = 0; i < size; i += 12) {
        uint32_t nonce[3], out[16];
        memcpy(nonce, code + i, sizeof nonce);
        block(s->key, 0, nonce, out);
        memcpy(s->key, out, sizeof s->key);
    }
    s->at = 0;
}

static void follow_label(struct cc_stream *s, char kind, const void *data, size_t size)
{
    uint8_t code[264] = {(uint8_t)kind, (uint8_t)size};
    memcpy(code + 2, data, size);
    follow(s, code, 2 + size);
}

void cc_stream_text(struct cc_stream *s, const char *label)
{
    const size_t size = strlen(label);
    follow_label(s, 's', label, size < 255 ? size : 255);
}

void cc_stream_number(struct cc_stream *s, uint64_t label)
{
    follow_label(s, 'i', &label, sizeof label);     /* little-endian, as every host is */
}

void cc_stream_read(struct cc_stream *s, void *dst, size_t size)
{
    uint8_t *to = dst;
    while (size) {
        const uint64_t number = s->at / BLOCK_BYTES, skip = s->at % BLOCK_BYTES;
        /* The nonce continues the 32-bit block counter. */
        const uint32_t nonce[3] = {(uint32_t)(number >> 32)};
        uint32_t out[16];
        block(s->key, (uint32_t)number, nonce, out);
        const size_t n = size < BLOCK_BYTES - skip ? size : BLOCK_BYTES - skip;
        memcpy(to, (const uint8_t *)out + skip, n);
        s->at += n;
        to += n;
        size -= n;
    }
}

uint64_t cc_stream_u64(struct cc_stream *s)
{
    uint64_t v;
    cc_stream_read(s, &v, sizeof v);
    return v;
}

uint64_t cc_stream_below(struct cc_stream *s, uint64_t n)
{
    const uint64_t excess = -n % n;                 /* 2^64 mod n */
    for (;;) {
        const uint64_t v = cc_stream_u64(s);
        if (v < -excess || !excess)
            return v % n;
    }
}

bool cc_stream_chance(struct cc_stream *s, uint32_t ppm)
{
    return ppm && cc_stream_below(s, 1000000) < ppm;
}
