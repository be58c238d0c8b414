/*
 * soft/sse_fp4.c: floating-point instructions newer than SSE2, built from SSE2 ones: ADDSUB, HADD, HSUB (SSE3), DPPS,
 * DPPD (SSE4.1); and ROUND (SSE4.1) in integers.
 */
#include "sse_kernels.h"

#define HOST2(name)                                                                                                    \
    static inline __m128i name(__m128i d, __m128i s)                                                                   \
    {                                                                                                                  \
        __asm__ volatile(#name " %1, %0" : "+x"(d) : "x"(s));                                                          \
        return d;                                                                                                      \
    }
HOST2(addps)
HOST2(addpd)
HOST2(subps)
HOST2(subpd)
HOST2(mulps)
HOST2(mulpd)

/* ---- SSE3 ------------------------------------------------------------------------------------------------------ */
#define SHUF64(d, s, imm) _mm_castpd_si128(_mm_shuffle_pd(_mm_castsi128_pd(d), _mm_castsi128_pd(s), imm))

/* A stage's exceptions, where some are unmasked. */
#define STAGE(spec, a, b)                                                                                              \
    if (cc_unlikely(cpu->mxcsr_unmasked) && cc_sse_stage(cpu, spec, a, b))                                             \
        return d
#define HORIZONTAL(name, op, low, high, range)                                                                         \
    SSE_FN(name)                                                                                                       \
    {                                                                                                                  \
        __m128i a = low, b = high, result = op(a, b);                                                                  \
        STAGE(range, a, b);                                                                                            \
        return result;                                                                                                 \
    }                                                                                                                  \
    SSE_FP_RM(name, 16, true, SSE_STAGED)
HORIZONTAL(haddps, addps, SSE_SHUF32(d, s, 0x88), SSE_SHUF32(d, s, 0xdd), SSE_PS | SSE_OP_ADD)
HORIZONTAL(hsubps, subps, SSE_SHUF32(d, s, 0x88), SSE_SHUF32(d, s, 0xdd), SSE_PS | SSE_OP_SUB)
HORIZONTAL(haddpd, addpd, SHUF64(d, s, 0), SHUF64(d, s, 3), SSE_PD | SSE_OP_ADD)
HORIZONTAL(hsubpd, subpd, SHUF64(d, s, 0), SHUF64(d, s, 3), SSE_PD | SSE_OP_SUB)

/* Even lanes are subtracted, odd ones added; the other half of each operation works on zeros and raises nothing. */
SSE_FN(addsubps)
{
    __m128i odd = sse_bits32(0xa);
    __m128i sum = addps(_mm_and_si128(odd, d), _mm_and_si128(odd, s));
    __m128i difference = subps(_mm_andnot_si128(odd, d), _mm_andnot_si128(odd, s));
    return sse_select(odd, sum, difference);
}
SSE_FN(addsubpd)
{
    __m128i odd = sse_bits64(2);
    __m128i sum = addpd(_mm_and_si128(odd, d), _mm_and_si128(odd, s));
    __m128i difference = subpd(_mm_andnot_si128(odd, d), _mm_andnot_si128(odd, s));
    return sse_select(odd, sum, difference);
}
SSE_FP_RM(addsubps, 16, true, SSE_PS | SSE_OP_ADDSUB)
SSE_FP_RM(addsubpd, 16, true, SSE_PD | SSE_OP_ADDSUB)

/* ---- dot products: imm8 7:4 which products count, 3:0 where the sum goes --------------------------------------- */
/*
 * The products, and each sum, are stages with exceptions of their own.  The SDM does not say which of several NaNs wins;
 * on Intel's processors every lane adds for itself, in the order shown here: (p1 + p0) + (p3 + p2) in lane 0,
 * (p0 + p1) + (p2 + p3) in lane 1, (p3 + p2) + (p1 + p0) in lane 2, and so on.
 */
SSE_FN(dpps)
{
    __m128i use = sse_bits32(sse_imm(op) >> 4);
    __m128i x = _mm_and_si128(use, d), y = _mm_and_si128(use, s), p = mulps(x, y);
    STAGE(SSE_PS | SSE_OP_MUL, x, y);
    __m128i neighbour = _mm_shuffle_epi32(p, 0xb1), pair = addps(neighbour, p);
    STAGE(SSE_PS | SSE_OP_ADD, neighbour, p);
    __m128i other = _mm_shuffle_epi32(pair, 0x4e), sum = addps(pair, other);
    STAGE(SSE_PS | SSE_OP_ADD, pair, other);
    return _mm_and_si128(sse_bits32(sse_imm(op)), sum);
}
SSE_FN(dppd)
{
    __m128i use = sse_bits64(sse_imm(op) >> 4);
    __m128i x = _mm_and_si128(use, d), y = _mm_and_si128(use, s), p = mulpd(x, y);
    STAGE(SSE_PD | SSE_OP_MUL, x, y);
    __m128i other = SHUF64(p, p, 1), sum = addpd(p, other);
    STAGE(SSE_PD | SSE_OP_ADD, p, other);
    return _mm_and_si128(sse_bits64(sse_imm(op)), sum);
}
SSE_FP_RM(dpps, 16, true, SSE_STAGED)
SSE_FP_RM(dppd, 16, true, SSE_STAGED)

/* ---- ROUND: imm8 1:0 rounding, 2 use MXCSR's instead, 3 no precision exception --------------------------------- */
static inline unsigned rounding(const cc_cpu *cpu, unsigned imm)
{
    return imm & 4 ? cpu->mxcsr >> 13 & 3 : imm & 3;
}

/*
 * One IEEE number with frac fraction bits and exp_max as its all-ones exponent.  The part below the binary point is
 * dropped or, by adding one unit to the encoding, carried upward: a carry into the exponent is then the right result.
 */
static inline uint64_t round_one(cc_cpu *cpu, uint64_t x, unsigned imm, unsigned frac, unsigned exp_max)
{
    uint64_t sign_bit = (uint64_t)(exp_max + 1) << frac, sign = x & sign_bit, mag = x & (sign_bit - 1);
    unsigned exp = (unsigned)(mag >> frac), bias = exp_max >> 1, rc = rounding(cpu, imm);
    if (exp == exp_max) {
        uint64_t quiet = (uint64_t)1 << (frac - 1);
        if (!(mag & (((uint64_t)1 << frac) - 1)) || (mag & quiet))
            return x;
        cpu->mxcsr |= MX_IE;
        return x | quiet;
    }
    if (exp >= bias + frac || !mag)
        return x;
    if (!exp && (cpu->mxcsr & MX_DAZ))
        return sign;
    bool up = rc == 2 ? !sign : rc == 1 ? sign != 0 : false;
    if (exp < bias) {
        if (!(imm & 8))
            cpu->mxcsr |= MX_PE;
        uint64_t half = (uint64_t)(bias - 1) << frac, one = (uint64_t)bias << frac;
        return sign | (rc == 0 ? (mag > half ? one : 0) : up ? one : 0);
    }
    uint64_t unit = (uint64_t)1 << (bias + frac - exp), rest = mag & (unit - 1);
    if (!rest)
        return x;
    if (!(imm & 8))
        cpu->mxcsr |= MX_PE;
    mag -= rest;
    if (rc == 0)
        up = rest > unit / 2 || (rest == unit / 2 && (mag & unit));
    return sign | (mag + (up ? unit : 0));
}
static inline uint64_t round32(cc_cpu *cpu, uint32_t x, unsigned imm) { return round_one(cpu, x, imm, 23, 0xff); }
static inline uint64_t round64(cc_cpu *cpu, uint64_t x, unsigned imm) { return round_one(cpu, x, imm, 52, 0x7ff); }

SSE_FN(roundps)
{
    cc_xmm v = sse_split(s);
    unsigned i = sse_imm(op);
    return sse_qq(round32(cpu, v.d[0], i) | round32(cpu, v.d[1], i) << 32,
                  round32(cpu, v.d[2], i) | round32(cpu, v.d[3], i) << 32);
}
SSE_FN(roundpd)
{
    cc_xmm v = sse_split(s);
    return sse_qq(round64(cpu, v.q[0], sse_imm(op)), round64(cpu, v.q[1], sse_imm(op)));
}
SSE_FN(roundss)
{
    uint64_t low = sse_low(d);
    low = (low & ~(uint64_t)0xffffffff) | round32(cpu, (uint32_t)sse_low(s), sse_imm(op));
    return _mm_unpacklo_epi64(sse_q(low), _mm_unpackhi_epi64(d, d));
}
SSE_FN(roundsd)
{
    return _mm_unpacklo_epi64(sse_q(round64(cpu, sse_low(s), sse_imm(op))), _mm_unpackhi_epi64(d, d));
}
SSE_FP_RM(roundps, 16, true, 0)
SSE_FP_RM(roundpd, 16, true, 0)
SSE_FP_RM(roundss, 4, false, 0)
SSE_FP_RM(roundsd, 8, false, 0)

cc_opfn cc_sse_select_fp4(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
        SSE_CASE_RM(1, SSE_66, 0x7c, haddpd)
        SSE_CASE_RM(1, SSE_F2, 0x7c, haddps)
        SSE_CASE_RM(1, SSE_66, 0x7d, hsubpd)
        SSE_CASE_RM(1, SSE_F2, 0x7d, hsubps)
        SSE_CASE_RM(1, SSE_66, 0xd0, addsubpd)
        SSE_CASE_RM(1, SSE_F2, 0xd0, addsubps)
        SSE_CASE_RM(3, SSE_66, 0x08, roundps)
        SSE_CASE_RM(3, SSE_66, 0x09, roundpd)
        SSE_CASE_RM(3, SSE_66, 0x0a, roundss)
        SSE_CASE_RM(3, SSE_66, 0x0b, roundsd)
        SSE_CASE_RM(3, SSE_66, 0x40, dpps)
        SSE_CASE_RM(3, SSE_66, 0x41, dppd)
    }
    return NULL;
}
