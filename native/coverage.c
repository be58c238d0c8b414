/*
 * coverage.c: arithmetic on coverage maps, which Python would take milliseconds for.  Knows no machine.
 */
#include "machine.h"

/* 128-255, 32-127, 16-31, 8-15, 4-7, 3, 2, 1: the classes of AFL, one bit each. */
static uint8_t class_of(unsigned n)
{
    return n == 0 ? 0 : n <= 3 ? (uint8_t)(1u << (n - 1)) : n < 8 ? 8 : n < 16 ? 16 : n < 32 ? 32 : n < 128 ? 64 : 128;
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

void cc_coverage_classify(const uint8_t *counters, uint8_t *bits, size_t size)
{
    uint8_t class[256];
    for (unsigned n = 0; n < 256; n++)
        class[n] = class_of(n);
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        if (!word_at(counters + i)) {
            memset(bits + i, 0, 8);
            continue;
        }
        for (unsigned k = 0; k < 8; k++)
            bits[i + k] = class[counters[i + k]];
    }
    for (; i < size; i++)
        bits[i] = class[counters[i]];
}

uint64_t cc_coverage_new(const uint8_t *known, const uint8_t *bits, size_t size, uint64_t *cells)
{
    uint64_t found = 0, fresh_cells = 0;
    size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        /* Most maps say what is known already. */
        if (cc_likely(!(word_at(bits + i) & ~word_at(known + i))))
            continue;
        for (size_t k = i; k < i + 8; k++) {
            found += (uint64_t)__builtin_popcount((unsigned)bits[k] & ~(unsigned)known[k]);
            fresh_cells += !known[k] && bits[k];
        }
    }
    for (; i < size; i++) {
        found += (uint64_t)__builtin_popcount((unsigned)bits[i] & ~(unsigned)known[i]);
        fresh_cells += !known[i] && bits[i];
    }
    *cells = fresh_cells;
    return found;
}

uint64_t cc_coverage_merge(uint8_t *into, const uint8_t *bits, size_t size, uint64_t *cells)
{
    const uint64_t found = cc_coverage_new(into, bits, size, cells);
    if (found)
        for (size_t i = 0; i < size; i++)
            into[i] |= bits[i];
    return found;
}
