/*
 * soft/sse_str.c: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SSE4.2; SDM vol. 2, 4.1).
 *
 * Results are computed as bit masks over the elements of the second operand, one comparison of the whole register for
 * each element of the first.
 */
#include "sse_kernels.h"

#define FMT_WORDS 1u           /* imm8 0: 8 words instead of 16 bytes */
#define FMT_SIGNED 2u          /* imm8 1 */
#define NEGATE 0x10u           /* imm8 5:4: 01 negate all, 11 negate valid elements only */
#define NEGATE_VALID 0x20u
#define HIGHEST 0x40u          /* imm8 6: index of the highest bit; element mask instead of bit mask */

/* Bit per element from a comparison's lanes. */
static inline unsigned lanes_to_bits(__m128i lanes, bool words)
{
    return (unsigned)_mm_movemask_epi8(words ? _mm_packs_epi16(lanes, sse_zero()) : lanes);
}
static inline __m128i broadcast(const cc_xmm *v, unsigned i, bool words)
{
    return words ? _mm_set1_epi16(v->sw[i]) : _mm_set1_epi8(v->sb[i]);
}
static inline unsigned equal_bits(__m128i a, __m128i b, bool words)
{
    return lanes_to_bits(words ? _mm_cmpeq_epi16(a, b) : _mm_cmpeq_epi8(a, b), words);
}
/* Elements of b that are signed-greater than those of a. */
static inline unsigned greater_bits(__m128i b, __m128i a, bool words)
{
    return lanes_to_bits(words ? _mm_cmpgt_epi16(b, a) : _mm_cmpgt_epi8(b, a), words);
}

/* IntRes2: s1 with n1 valid elements is the set, the ranges or the substring; s2 with n2 is searched. */
static unsigned compare(__m128i s1, __m128i s2, unsigned n1, unsigned n2, unsigned imm)
{
    bool words = imm & FMT_WORDS;
    unsigned lanes = words ? 8 : 16, all = (1u << lanes) - 1, valid2 = (1u << n2) - 1, res = 0;
    cc_xmm a = sse_split(s1);
    switch (imm >> 2 & 3) {
    case 0:                                                      /* equal any */
        for (unsigned i = 0; i < n1; i++)
            res |= equal_bits(broadcast(&a, i, words), s2, words);
        res &= valid2;
        break;
    case 1: {                                                    /* ranges: pairs of lower and upper bounds */
        __m128i bias = imm & FMT_SIGNED ? sse_zero() : words ? _mm_set1_epi16(INT16_MIN) : _mm_set1_epi8(INT8_MIN);
        __m128i v = _mm_xor_si128(s2, bias);
        for (unsigned i = 0; i + 1 < n1; i += 2) {
            unsigned below = greater_bits(_mm_xor_si128(broadcast(&a, i, words), bias), v, words);
            unsigned above = greater_bits(v, _mm_xor_si128(broadcast(&a, i + 1, words), bias), words);
            res |= ~(below | above);
        }
        res &= valid2;
        break;
    }
    case 2: {                                                    /* equal each: both invalid counts as equal */
        unsigned valid1 = (1u << n1) - 1;
        res = (equal_bits(s1, s2, words) & valid1 & valid2) | (all & ~(valid1 | valid2));
        break;
    }
    default:                                                     /* equal ordered: a prefix at the end matches */
        res = all;
        for (unsigned i = 0; i < n1; i++) {
            unsigned match = equal_bits(broadcast(&a, i, words), s2, words) & valid2;
            res &= match >> i | (all & ~(all >> i));
        }
        break;
    }
    if (imm & NEGATE)
        res ^= imm & NEGATE_VALID ? valid2 : all;
    return res;
}

/* Elements before the first zero. */
static inline unsigned implicit_length(__m128i v, bool words)
{
    unsigned zero = equal_bits(v, sse_zero(), words) | 1u << (words ? 8 : 16);
    return (unsigned)__builtin_ctz(zero);
}
/* |EAX| or |RAX|, at most the number of lanes. */
static inline unsigned explicit_length(uint64_t reg, bool wide, bool words)
{
    int64_t v = wide ? (int64_t)reg : (int32_t)reg;
    uint64_t n = v < 0 ? -(uint64_t)v : (uint64_t)v;
    unsigned lanes = words ? 8 : 16;
    return n < lanes ? (unsigned)n : lanes;
}

enum { STR_EXPLICIT = 1, STR_MASK = 2, STR_WIDE = 4 };

static void execute(cc_cpu *cpu, const cc_op *op, __m128i s2, unsigned kind)
{
    unsigned imm = sse_imm(op);
    bool words = imm & FMT_WORDS;
    unsigned lanes = words ? 8 : 16, n1, n2;
    __m128i s1 = sse_get(cpu, op->r);
    if (kind & STR_EXPLICIT) {
        n1 = explicit_length(cpu->r[CC_RAX], kind & STR_WIDE, words);
        n2 = explicit_length(cpu->r[CC_RDX], kind & STR_WIDE, words);
    } else {
        n1 = implicit_length(s1, words);
        n2 = implicit_length(s2, words);
    }
    unsigned res = compare(s1, s2, n1, n2, imm);
    if (kind & STR_MASK) {
        __m128i bits = _mm_cvtsi32_si128((int)res);
        if (imm & HIGHEST) {
            __m128i lo = sse_bits16(res), hi = sse_bits16(res >> 8);
            bits = words ? lo : _mm_packs_epi16(lo, hi);
        }
        sse_put(cpu, 0, bits);
    } else if (!res) {
        cpu->r[CC_RCX] = lanes;
    } else {
        cpu->r[CC_RCX] = imm & HIGHEST ? 31u - (unsigned)__builtin_clz(res) : (unsigned)__builtin_ctz(res);
    }
    cc_set_arith_flags(cpu, (res ? FL_CF : 0) | (n2 < lanes ? FL_ZF : 0) | (n1 < lanes ? FL_SF : 0) |
                                (res & 1 ? FL_OF : 0));
}

static CC_COLD bool execute_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, unsigned kind)
{
    cc_xmm s2;
    if (!cc_ld128(cpu, op, budget, cc_ea(cpu, op), &s2))
        return false;
    execute(cpu, op, sse_of(&s2), kind);
    return true;
}

#define STRING(name, kind)                                                                                             \
    SSE_SIMPLE(name, execute(cpu, op, sse_get(cpu, op->b), kind))                                                      \
    static CC_COLD CC_OP(ms_##name)                                                                                    \
    {                                                                                                                  \
        if (!cpu->sse_ok)                                                                                              \
            return cc_op_sse_unavailable(cpu, op, budget);                                                             \
        if (!execute_slow(cpu, op, budget, kind))                                                                      \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    SSE_LOAD(name, !cpu->sse_ok, 16, false, execute(cpu, op, s, kind))
STRING(pcmpestrm, STR_EXPLICIT | STR_MASK)
STRING(pcmpestri, STR_EXPLICIT)
STRING(pcmpestrm64, STR_EXPLICIT | STR_MASK | STR_WIDE)
STRING(pcmpestri64, STR_EXPLICIT | STR_WIDE)
STRING(pcmpistrm, STR_MASK)
STRING(pcmpistri, 0)

cc_opfn cc_sse_select_str(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
        SSE_CASE(3, SSE_66, 0x60, d->rexw ? r_pcmpestrm64 : r_pcmpestrm,
                 d->rexw ? SSE_MEM_FORM(pcmpestrm64) : SSE_MEM_FORM(pcmpestrm))
        SSE_CASE(3, SSE_66, 0x61, d->rexw ? r_pcmpestri64 : r_pcmpestri,
                 d->rexw ? SSE_MEM_FORM(pcmpestri64) : SSE_MEM_FORM(pcmpestri))
        SSE_CASE_RM(3, SSE_66, 0x62, pcmpistrm)
        SSE_CASE_RM(3, SSE_66, 0x63, pcmpistri)
    }
    return NULL;
}
