/*
 * chacha.h: random streams, the same as core/chaoscontrol/random.py's: ChaCha20 keyed per purpose from one 64-bit seed and
 * a path of labels.  A stream is plain data, so it can be part of a machine's state.  Internal to native/.
 */
#ifndef CC_CHACHA_H
#define CC_CHACHA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cc_stream {
    uint32_t key[8];
    uint64_t at;               /* bytes taken so far */
};

/* The stream of a seed; then each label leads to another stream, at its start. */
void cc_stream_seed(struct cc_stream *s, uint64_t seed);
void cc_stream_text(struct cc_stream *s, const char *label);
void cc_stream_number(struct cc_stream *s, uint64_t label);

void cc_stream_read(struct cc_stream *s, void *dst, size_t size);
uint64_t cc_stream_u64(struct cc_stream *s);
/* Uniform in 0..n-1, without modulo bias; n > 0. */
uint64_t cc_stream_below(struct cc_stream *s, uint64_t n);
/* True with a probability of `ppm` in a million.  Takes nothing from the stream if it is 0. */
bool cc_stream_chance(struct cc_stream *s, uint32_t ppm);

#endif
