/*
 * soft/sse_approx.c: RCPPS, RCPSS, RSQRTPS, RSQRTSS.  The SDM allows a relative error of 1.5 * 2^-12, and Intel's and
 * AMD's results differ, so these are ours: the exact function of the middle of the operand's interval, where an
 * interval is given by the leading fraction bits; truncated to 23 fraction bits.  Integers only; no flags, no MXCSR.
 */
#include "sse.h"

#define F32_SIGN 0x80000000u
#define F32_INF 0x7f800000u
#define F32_QUIET 0x00400000u
#define F32_INDEFINITE 0xffc00000u

/* Relative error: half of an interval of 2^-11, at most 2^-12. */
static uint32_t rcp(uint32_t x)
{
    uint32_t sign = x & F32_SIGN, mag = x & ~F32_SIGN, exp = mag >> 23;
    if (mag > F32_INF)
        return x | F32_QUIET;
    if (mag == F32_INF)
        return sign;
    if (exp == 0)                      /* denormals count as zero */
        return sign | F32_INF;
    if (exp > 252)                     /* the result would be tiny: flushed */
        return sign;
    uint32_t middle = 0x1000 | (mag >> 11 & 0xffe) | 1;                  /* 1.m * 2^12 */
    uint32_t quotient = (uint32_t)(((uint64_t)1 << 36) / middle);        /* 1/1.m * 2^24, in (2^23, 2^24) */
    return sign | ((253 - exp) << 23) | (quotient & 0x7fffff);
}

/* Floor of the square root. */
static uint32_t isqrt(uint64_t v)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 31; bit; bit >>= 1)
        if ((root | bit) * (root | bit) <= v)
            root |= bit;
    return (uint32_t)root;
}

/* Relative error: half of that of the operand, whose interval is 2^-10: at most 2^-12. */
static uint32_t rsqrt(uint32_t x)
{
    uint32_t sign = x & F32_SIGN, mag = x & ~F32_SIGN, exp = mag >> 23;
    if (mag > F32_INF)
        return x | F32_QUIET;
    if (exp == 0)
        return sign | F32_INF;
    if (sign)
        return F32_INDEFINITE;
    if (mag == F32_INF)
        return 0;
    uint64_t middle = 0x800 | (mag >> 12 & 0x7fe) | 1;                   /* 1.m * 2^11 */
    unsigned odd = ~exp & 1;                                             /* x = 1.m * 2^odd * 4^n */
    int n = ((int)exp - 127 - (int)odd) / 2;
    uint32_t root = isqrt(((uint64_t)1 << 59) / (middle << odd));        /* 1/sqrt(1.m * 2^odd) * 2^24 */
    return (uint32_t)(126 - n) << 23 | (root & 0x7fffff);
}

#define APPROX(name, fn)                                                                                               \
    SSE_FN(name##ps)                                                                                                   \
    {                                                                                                                  \
        cc_xmm v = sse_split(s);                                                                                       \
        return sse_qq(fn(v.d[0]) | (uint64_t)fn(v.d[1]) << 32, fn(v.d[2]) | (uint64_t)fn(v.d[3]) << 32);               \
    }                                                                                                                  \
    SSE_RM(name##ps)                                                                                                   \
    SSE_FN(name##ss)                                                                                                   \
    {                                                                                                                  \
        uint64_t low = (sse_low(d) & ~(uint64_t)0xffffffff) | fn((uint32_t)sse_low(s));                                \
        return _mm_unpacklo_epi64(sse_q(low), _mm_unpackhi_epi64(d, d));                                               \
    }                                                                                                                  \
    SSE_R(name##ss)                                                                                                    \
    SSE_M(name##ss, 4, false)
APPROX(rcp, rcp)
APPROX(rsqrt, rsqrt)

cc_opfn cc_sse_select_approx(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
        SSE_CASE_RM(1, SSE_NP, 0x52, rsqrtps)
        SSE_CASE_RM(1, SSE_F3, 0x52, rsqrtss)
        SSE_CASE_RM(1, SSE_NP, 0x53, rcpps)
        SSE_CASE_RM(1, SSE_F3, 0x53, rcpss)
    }
    return NULL;
}
