/*
 * x87_random.h: random operands and FPU states, biased towards boundaries.  Draws are sequenced, so that every compiler
 * gives the same tests.  For test_x87.c only.
 */
#ifndef CC_X87_RANDOM_H
#define CC_X87_RANDOM_H

#include "x87_native.h"

static uint64_t seed = 0x5eed;

static inline uint64_t rnd(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline unsigned below(unsigned n) { return (unsigned)(rnd() >> 32) % n; }
static inline bool one_in(unsigned n) { return below(n) == 0; }

/* ---- operands ---------------------------------------------------------------------------------------------------- */
typedef struct val { uint64_t mant; uint16_t sexp; } val;

static inline uint64_t random_bits(void)
{
    switch (below(8)) {
    case 0: return one_in(2) ? 0 : below(4);
    case 1: return one_in(2) ? ~0ull : ~(uint64_t)below(4);
    case 2: return 1ull << below(64);
    case 3: return ~(1ull << below(64));
    case 4: return ~0ull << below(64);
    case 5: return ~0ull >> below(64);
    case 6: {
        uint64_t low = rnd() << below(64);
        return one_in(2) ? ~low : low;
    }
    default: return rnd();
    }
}

static inline unsigned random_exponent(void)
{
    static const uint16_t special[] = {
        0, 1, 2, 0x7ffe, 0x7ffd, 0x7fff, 0x3fff, 0x3ffe, 0x4000,
        16383 - 126, 16383 - 127, 16383 - 149, 16383 - 150, 16383 + 127, 16383 + 128,
        16383 - 1022, 16383 - 1023, 16383 - 1074, 16383 - 1075, 16383 + 1023, 16383 + 1024,
        16383 + 15, 16383 + 16, 16383 + 31, 16383 + 32, 16383 + 62, 16383 + 63, 16383 + 64, 16383 + 59, 16383 + 60,
        64, 65, 0x7ffe - 64, 16383 + 24576 - 16384, 8191, 24575,
    };
    switch (below(5)) {
    case 0: return special[below(sizeof special / sizeof special[0])];
    case 1: return 16383 - 70 + below(140);
    case 2: return below(140);
    case 3: return 0x7fff - below(20);
    default: return below(0x8000);
    }
}

static inline val random_val(void)
{
    val v;
    unsigned e;
    switch (below(12)) {
    case 0: e = 0; v.mant = 0; break;
    case 1: e = 0x7fff; v.mant = 1ull << 63; break;
    case 2: e = 0x7fff; v.mant = 1ull << 63 | random_bits(); break;
    case 3: e = 0; v.mant = random_bits(); break;
    case 4: e = random_exponent(); v.mant = random_bits(); break;     /* often unsupported */
    case 5:         /* an integer or half of one */
        e = 16383 + below(66);
        v.mant = 1ull << 63 | random_bits();
        v.mant &= ~0ull << below(64);
        break;
    default: e = random_exponent(); v.mant = 1ull << 63 | random_bits(); break;
    }
    v.sexp = (uint16_t)(e | (one_in(2) ? 0x8000 : 0));
    return v;
}

/* Something whose sum, difference or quotient with v is interesting. */
static inline val related_val(val v)
{
    switch (below(6)) {
    case 0: v.sexp ^= 0x8000; break;
    case 1: v.mant += below(5); v.mant -= 2; break;
    case 2: v.mant ^= 1ull << below(64); v.sexp ^= (uint16_t)(one_in(2) << 15); break;
    case 3: v.sexp = (uint16_t)((v.sexp & 0x8000) | ((v.sexp + below(135) - 67) & 0x7fff)); break;
    case 4:
        v.sexp = (uint16_t)((v.sexp & 0x8000) | ((v.sexp + below(5) - 2) & 0x7fff));
        v.mant = random_bits() | 1ull << 63;
        break;
    default: break;
    }
    return v;
}

static inline uint32_t random_f32(void)
{
    static const uint8_t exps[] = {0, 0, 1, 0xfe, 0xff, 0xff, 0x7f};
    uint32_t v = (uint32_t)random_bits() & 0x7fffff;
    v |= (one_in(2) ? exps[below(sizeof exps)] : below(256)) << 23;
    return v | (uint32_t)(rnd() & 0x80000000u);
}

static inline uint64_t random_f64(void)
{
    static const uint16_t exps[] = {0, 0, 1, 0x7fe, 0x7ff, 0x7ff, 0x3ff};
    uint64_t v = random_bits() & 0xfffffffffffffull;
    v |= (uint64_t)(one_in(2) ? exps[below(sizeof exps / 2)] : below(2048)) << 52;
    return v | (rnd() & 1ull << 63);
}

/* bytes of an operand of this kind; integer with 10 bytes is packed decimal */
static inline void random_operand(unsigned bytes, bool integer, uint8_t *p)
{
    uint64_t q;
    uint32_t d;
    if (bytes == 10) {
        val v = random_val();
        memcpy(p, &v.mant, 8);
        memcpy(p + 8, &v.sexp, 2);
        if (!integer || one_in(8))
            return;
        for (int i = 0; i < 9; i++) {       /* proper digits */
            p[i] = (uint8_t)below(10);
            p[i] |= (uint8_t)(below(10) << 4);
        }
    } else if (bytes == 8) {
        q = integer ? random_bits() : random_f64();
        memcpy(p, &q, 8);
    } else if (bytes == 4) {
        d = integer ? (uint32_t)random_bits() : random_f32();
        memcpy(p, &d, 4);
    } else {
        for (unsigned i = 0; i < bytes; i++)
            p[i] = (uint8_t)random_bits();
    }
}

/* ---- states ------------------------------------------------------------------------------------------------------ */
static inline unsigned random_fcw(void)
{
    unsigned v = (unsigned)rnd() & 0x0f00;
    if (one_in(3))
        v = (v & 0x0c00) | 0x0300;
    v |= one_in(3) ? below(64) : 0x3f;
    if (one_in(50))
        v = (unsigned)rnd() & 0xffff;
    return v;
}

static inline unsigned random_fsw(unsigned fcw)
{
    unsigned v = (unsigned)rnd() & 0x7f00;
    if (one_in(3)) {
        unsigned e = below(128);
        v |= one_in(20) ? e : e & (fcw | 0x40u);
    }
    return v;
}

static inline void random_state(fpu_image *m)
{
    memset(m, 0, sizeof *m);
    m->fcw = (uint16_t)random_fcw();
    m->fsw = (uint16_t)random_fsw(m->fcw);
    val prev = random_val();
    unsigned top = m->fsw >> 11 & 7, tags = 0;
    bool few_empty = !one_in(6);
    for (unsigned i = 0; i < 8; i++) {
        val v = one_in(3) ? related_val(prev) : random_val();
        m->st[i].mant = v.mant;
        m->st[i].sexp = v.sexp;
        prev = v;
        if (few_empty ? (i == 7 && !one_in(4)) : one_in(3))
            tags |= 3u << 2 * ((top + i) & 7);
    }
    m->ftw = (uint16_t)tags;
    m->fip = (uint32_t)rnd();
    m->fop = (uint16_t)(rnd() & 0x7ff);
    m->fdp = (uint32_t)rnd();
}

#endif
