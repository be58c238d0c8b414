/*
 * coverage.c: arithmetic on coverage maps, which Python would take milliseconds for.  Knows no machine.
 */
#include "machine.h"

/* AFL's classes, one bit each: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128-255. */
static uint8_t class_of(unsigned n)
{
    return n == 0 ? 0 : n <= 3 ? (uint8_t)(1u << (n - 1)) : n < 8 ? 8 : n < 16 ? 16 : n < 32 ? 32 : n < 128 ? 64 : 128;
}

void cc_coverage_classify(const uint8_t *counters, uint8_t *bits, size_t size)
{
    uint8_t class[256];
    for (unsigned n = 0; n < 256; n++)
        class[n] = class_of(n);
    for (size_t i = 0; i < size; i++)
        bits[i] = class[counters[i]];
}

/* 16 cells at a time: every compiler makes the baseline's vector instructions of these. */
typedef uint64_t words __attribute__((vector_size(16)));
typedef uint8_t bytes __attribute__((vector_size(16)));
#define CELLS 16u

static uint64_t sum(bytes v)
{
    uint64_t s = 0;
    for (unsigned i = 0; i < CELLS; i++)
        s += v[i];
    return s;
}

/* Number of bits set in each byte (Warren, Hacker's Delight, 5-1). */
static inline bytes bit_counts(words v)
{
    v -= v >> 1 & 0x5555555555555555u;
    v = (v & 0x3333333333333333u) + (v >> 2 & 0x3333333333333333u);
    return (bytes)((v + (v >> 4)) & 0x0f0f0f0f0f0f0f0fu);
}

/* What `bits` adds to `known`; with `into`, written there. */
static inline uint64_t compare(const uint8_t *known, const uint8_t *bits, uint8_t *into, size_t size, uint64_t *cells)
{
    uint64_t found = 0, fresh = 0;
    size_t i = 0;
    while (i + CELLS <= size) {
        bytes nbits = {0}, ncells = {0};                 /* 8 a turn and byte: 31 turns fit */
        for (unsigned turn = 0; turn < 31 && i + CELLS <= size; turn++, i += CELLS) {
            words k, b;
            memcpy(&k, known + i, CELLS);
            memcpy(&b, bits + i, CELLS);
            nbits += bit_counts(b & ~k);
            ncells -= (bytes)(((bytes)k == 0) & ((bytes)b != 0));
            k |= b;
            if (into)
                memcpy(into + i, &k, CELLS);
        }
        found += sum(nbits);
        fresh += sum(ncells);
    }
    for (; i < size; i++) {
        found += (uint64_t)__builtin_popcount((unsigned)bits[i] & ~(unsigned)known[i]);
        fresh += !known[i] && bits[i];
        if (into)
            into[i] = known[i] | bits[i];
    }
    *cells = fresh;
    return found;
}

uint64_t cc_coverage_new(const uint8_t *known, const uint8_t *bits, size_t size, uint64_t *cells)
{
    return compare(known, bits, NULL, size, cells);
}

uint64_t cc_coverage_merge(uint8_t *into, const uint8_t *bits, size_t size, uint64_t *cells)
{
    return compare(into, bits, into, size, cells);
}
