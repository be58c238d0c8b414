/*
 * soft/sse_range.c: unmasked SIMD underflow and overflow.  Inexactness is then that of the result rounded to the
 * format's precision with unbounded exponent (SDM vol. 1, 4.9.1.4 and 4.9.1.5), but the host, where they are masked,
 * reports that of the denormalised or infinite result.  So such lanes are worked out in integers, and the host's flags
 * are taken from the others.
 */
#include "sse.h"

typedef unsigned __int128 u128;

static inline uint32_t host_get(void)
{
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v) : : "memory");
    return v;
}
static inline void host_set(uint32_t v) { __asm__ volatile("ldmxcsr %0" : : "m"(v) : "memory"); }

/* |x| = *m * 2^*e.  false: infinity or NaN. */
static bool unpack(uint64_t x, bool single, bool daz, uint64_t *m, int *e)
{
    unsigned frac = single ? 23 : 52, exp_max = single ? 0xff : 0x7ff;
    int bias = (int)(exp_max >> 1);
    unsigned exp = (unsigned)(x >> frac) & exp_max;
    *m = x & (((uint64_t)1 << frac) - 1);
    if (exp == exp_max)
        return false;
    if (exp)
        *m |= (uint64_t)1 << frac;
    else if (daz)
        *m = 0;
    *e = (exp ? (int)exp : 1) - bias - (int)frac;
    return true;
}

static unsigned bit_length(u128 v)
{
    uint64_t high = (uint64_t)(v >> 64), low = (uint64_t)v;
    return high ? 128 - (unsigned)__builtin_clzll(high) : low ? 64 - (unsigned)__builtin_clzll(low) : 0;
}

/* Exact flags of one lane: 0 if it neither underflows nor overflows.  b is negated already for differences. */
static uint32_t lane_flags(unsigned kind, bool single, uint64_t a, uint64_t b, uint32_t mxcsr)
{
    unsigned p = single ? 24 : 53, sign_bit = single ? 31 : 63;
    bool daz = mxcsr & MX_DAZ, sticky = false, negative = (a >> sign_bit) & 1;
    uint64_t ma, mb;
    int ea, eb, e;
    u128 m;

    if (kind == SSE_OP_CVT) {
        if (!unpack(b, false, daz, &mb, &eb))
            return 0;
        m = mb;
        e = eb;
        negative = b >> 63;
    } else if (!unpack(a, single, daz, &ma, &ea) || !unpack(b, single, daz, &mb, &eb)) {
        return 0;
    } else if (kind == SSE_OP_MUL) {
        m = (u128)ma * mb;
        e = ea + eb;
        negative ^= (b >> sign_bit) & 1;
    } else if (kind == SSE_OP_DIV) {
        if (!ma || !mb)
            return 0;
        unsigned shift = (unsigned)__builtin_clzll(ma);     /* at least 64 bits of quotient */
        m = ((u128)(ma << shift) << 64) / mb;
        sticky = ((u128)(ma << shift) << 64) % mb != 0;
        e = ea - (int)shift - 64 - eb;
        negative ^= (b >> sign_bit) & 1;
    } else if (!ma || !mb) {
        m = ma | mb;
        e = ma ? ea : eb;
        negative = ((ma ? a : b) >> sign_bit) & 1;
    } else {
        bool opposite = ((a ^ b) >> sign_bit) & 1;
        int apart = ea > eb ? ea - eb : eb - ea;
        u128 high = ea > eb ? ma : mb, low = ea > eb ? mb : ma;
        if (apart > 64) {                                   /* normal, and of the larger one's size */
            if (opposite)
                return 0;
            sticky = true;
            apart = 64;
            low = 0;
        }
        high <<= apart;
        e = (ea > eb ? ea : eb) - apart;
        m = !opposite ? high + low : high > low ? high - low : low - high;
        if (opposite && (high > low) != (ea > eb))
            negative = !negative;
    }
    if (m == 0)
        return 0;
    int drop = (int)bit_length(m) - (int)p, top;
    bool inexact = sticky;
    if (drop > 0) {
        u128 rest = m & (((u128)1 << drop) - 1), half = (u128)1 << (drop - 1);
        uint32_t rc = mxcsr & MX_RC;
        m >>= drop;
        inexact |= rest != 0;
        if (rc == 0 ? rest > half || (rest == half && (sticky || (m & 1)))
                    : inexact && rc == (negative ? MX_RC_DOWN : MX_RC_UP))
            m++;
        e += drop;
    }
    top = e + (int)bit_length(m) - 1;
    if (top < (single ? -126 : -1022))
        return MX_UE | (inexact ? MX_PE : 0);
    if (top > (single ? 127 : 1023))
        return MX_OE | (inexact ? MX_PE : 0);
    return 0;
}

/* Flip the signs of the lanes that are subtracted: all of them, or for ADDSUBPx the even ones. */
static cc_xmm negated(cc_xmm v, unsigned kind, bool single)
{
    for (unsigned i = 0; i < 4; i++)
        if (single && (kind == SSE_OP_SUB || !(i & 1)))
            v.d[i] ^= 0x80000000;
    for (unsigned i = 0; i < 2; i++)
        if (!single && (kind == SSE_OP_SUB || !i))
            v.q[i] ^= 0x8000000000000000;
    return v;
}

uint32_t cc_sse_range_flags(uint32_t flags, unsigned spec, uint32_t mxcsr, __m128i d, __m128i s)
{
    unsigned kind = spec & SSE_OP, shape = spec & SSE_LANES;
    bool single = shape == SSE_PS || shape == SSE_SS, wide = !single || kind == SSE_OP_CVT;
    unsigned lanes = shape == SSE_PS ? (wide ? 2 : 4) : shape == SSE_PD ? 2 : 1;
    cc_xmm a = sse_split(d), b = sse_split(s);

    if (!kind || !(~mxcsr & (MX_UM | MX_OM)))
        return flags;
    if (kind == SSE_OP_SUB || kind == SSE_OP_ADDSUB)
        b = negated(b, kind, single);
    /* The other lanes are done once more, with 0 op 1, which is exact, in these. */
    cc_xmm x = {.q = {0, 0}}, y;
    for (unsigned i = 0; i < 4; i++)
        y.d[i] = wide ? (i & 1 ? 0x3ff00000 : 0) : 0x3f800000;
    uint32_t found = 0;
    for (unsigned i = 0; i < lanes; i++) {
        uint32_t f = lane_flags(kind, single, wide ? a.q[i] : a.d[i], wide ? b.q[i] : b.d[i], mxcsr);
        if ((f & MX_UE && !(mxcsr & MX_UM)) || (f & MX_OE && !(mxcsr & MX_OM)))
            found |= f;
        else if (wide)
            x.q[i] = a.q[i], y.q[i] = b.q[i];
        else
            x.d[i] = a.d[i], y.d[i] = b.d[i];
    }
    if (!found)
        return flags;
    uint32_t host = host_get();
    __m128i u = sse_of(&x), v = sse_of(&y);
    host_set(host & ~MX_FLAGS);
    if (kind == SSE_OP_CVT)
        __asm__ volatile("cvtpd2ps %1, %0" : "+x"(u) : "x"(v));
    else if (kind == SSE_OP_MUL && single)
        __asm__ volatile("mulps %1, %0" : "+x"(u) : "x"(v));
    else if (kind == SSE_OP_MUL)
        __asm__ volatile("mulpd %1, %0" : "+x"(u) : "x"(v));
    else if (kind == SSE_OP_DIV && single)
        __asm__ volatile("divps %1, %0" : "+x"(u) : "x"(v));
    else if (kind == SSE_OP_DIV)
        __asm__ volatile("divpd %1, %0" : "+x"(u) : "x"(v));
    else if (single)
        __asm__ volatile("addps %1, %0" : "+x"(u) : "x"(v));
    else
        __asm__ volatile("addpd %1, %0" : "+x"(u) : "x"(v));
    uint32_t others = host_get();
    host_set(host);
    return (flags & ~(MX_PE | MX_UE | MX_OE)) | (others & (MX_PE | MX_UE | MX_OE)) | found;
}

bool cc_sse_stage(cc_cpu *cpu, unsigned spec, __m128i d, __m128i s)
{
    uint32_t host = host_get(), flags = host & MX_FLAGS, unmasked = ~(cpu->mxcsr >> 7) & MX_FLAGS;
    flags = cc_sse_range_flags(flags, spec, cpu->mxcsr, d, s);
    if (flags & unmasked & MX_PRE)
        flags &= MX_PRE;
    host_set(host & ~MX_FLAGS);
    cpu->mxcsr |= flags;
    return flags & unmasked;
}
