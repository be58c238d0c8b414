/*
 * soft/x87_conv.c: conversions between the 80-bit format and single, double, integers and packed decimal.
 */
#include "x87.h"

/* ---- to 80 bits: exact ------------------------------------------------------------------------------------------- */
static cc_f80 widen(unsigned sign, unsigned exp, uint64_t frac, unsigned frac_bits, unsigned exp_max, int32_t bias)
{
    uint64_t m = frac << (63 - frac_bits);
    if (exp == exp_max)
        return f80(sign | F80_EMAX, F80_INT | m, 0);
    if (exp)
        return f80(sign | (unsigned)((int32_t)exp - bias + F80_BIAS), F80_INT | m, 0);
    if (!m)
        return f80(sign, 0, 0);
    int32_t e = 1 - bias + F80_BIAS;
    f80_normalise(&m, &e);
    return f80(sign | (unsigned)e, m, X87_DE);
}

cc_f80 cc_f80_from_f32(uint32_t v)
{
    return widen(v >> 16 & F80_SIGN, v >> 23 & 0xff, v & 0x7fffff, 23, 0xff, 127);
}

cc_f80 cc_f80_from_f64(uint64_t v)
{
    return widen((unsigned)(v >> 48) & F80_SIGN, v >> 52 & 0x7ff, v & 0xfffffffffffffull, 52, 0x7ff, 1023);
}

cc_f80 cc_f80_from_int(int64_t v)
{
    if (!v)
        return f80(0, 0, 0);
    uint64_t m = v < 0 ? -(uint64_t)v : (uint64_t)v;
    int32_t e = F80_BIAS + 63;
    f80_normalise(&m, &e);
    return f80((v < 0 ? F80_SIGN : 0) | (unsigned)e, m, 0);
}

/* Digits above 9, which the SDM leaves undefined, count with their weight. */
cc_f80 cc_f80_from_bcd(const uint8_t v[10])
{
    uint64_t n = 0;
    for (int i = 8; i >= 0; i--)
        n = n * 100 + (v[i] >> 4) * 10u + (v[i] & 15u);
    cc_f80 r = cc_f80_from_int((int64_t)n);
    r.sexp |= v[9] & 0x80 ? F80_SIGN : 0;
    return r;
}

/* ---- from 80 bits ------------------------------------------------------------------------------------------------ */
/* Whether a value with this rest below its last place (as a fraction of 2^64, low bit sticky) rounds up. */
static bool rounds_up(unsigned sign, bool odd, uint64_t rest, unsigned fcw)
{
    switch (fcw & X87_RC_MASK) {
    case 0: return rest > F80_INT || (rest == F80_INT && odd);
    case X87_RC_DOWN: return rest && sign;
    case X87_RC_UP: return rest && !sign;
    default: return false;
    }
}

/* m >> n, and the bits lost as a fraction of the last place kept. */
static uint64_t shift_out(uint64_t m, unsigned n, uint64_t *rest)
{
    if (n == 0) {
        *rest = 0;
        return m;
    }
    if (n < 64) {
        *rest = m << (64 - n);
        return m >> n;
    }
    *rest = n == 64 ? m : (m != 0);
    return 0;
}

static cc_narrow narrow(cc_f80 a, unsigned frac_bits, unsigned exp_bits, unsigned fcw)
{
    unsigned exp_max = (1u << exp_bits) - 1, sign = f80_sign(a);
    uint64_t s = sign ? 1ull << (frac_bits + exp_bits) : 0, inf = (uint64_t)exp_max << frac_bits;
    if (f80_nan_or_bad(a)) {
        cc_f80 q = cc_f80_nan1(a);
        s = q.sexp & F80_SIGN ? 1ull << (frac_bits + exp_bits) : 0;
        return (cc_narrow){s | inf | q.mant << 1 >> (64 - frac_bits), q.ex};
    }
    if (f80_inf(a))
        return (cc_narrow){s | inf, 0};
    if (!a.mant)
        return (cc_narrow){s, 0};
    int32_t e = (int32_t)f80_exp(a);
    e += !e;
    f80_normalise(&a.mant, &e);
    e += (int32_t)(exp_max >> 1) - F80_BIAS;
    unsigned drop = 63 - frac_bits;
    uint64_t rest, m = shift_out(a.mant, drop, &rest);
    bool up = rounds_up(sign, m & 1, rest, fcw);
    /* after rounding with an unbounded exponent */
    int32_t e_after = e + ((m + up) >> (frac_bits + 1) ? 1 : 0);
    if (e_after <= 0) {
        if (!(fcw & X87_UE))
            return (cc_narrow){0, X87_UE};
        m = shift_out(a.mant, e < -64 ? 128 : drop + (unsigned)(1 - e), &rest);
        up = rounds_up(sign, m & 1, rest, fcw);
        return (cc_narrow){s | (m + up), (rest ? X87_UE | X87_PE : 0) | (up ? X87_C1 : 0)};
    }
    unsigned ex = (rest ? X87_PE : 0) | (up ? X87_C1 : 0);
    if (e_after >= (int32_t)exp_max) {
        unsigned rc = fcw & X87_RC_MASK;
        if (!(fcw & X87_OE))
            return (cc_narrow){0, X87_OE};
        if (rc == 0 || rc == (sign ? X87_RC_DOWN : X87_RC_UP))
            return (cc_narrow){s | inf, X87_OE | X87_PE | X87_C1};
        return (cc_narrow){s | (inf - 1), X87_OE | X87_PE};
    }
    /* the integer bit adds the last 1 of the exponent, and a carry goes into it */
    return (cc_narrow){s | (((uint64_t)(unsigned)(e - 1) << frac_bits) + m + up), ex};
}

cc_narrow cc_f80_to_f32(cc_f80 a, unsigned fcw) { return narrow(a, 23, 8, fcw); }
cc_narrow cc_f80_to_f64(cc_f80 a, unsigned fcw) { return narrow(a, 52, 11, fcw); }

/* The magnitude rounded to an integer, ~0 with X87_IE if it has more than 64 bits or a is no number. */
static uint64_t magnitude(cc_f80 a, unsigned fcw, unsigned *ex)
{
    int32_t e = (int32_t)f80_exp(a) - F80_BIAS;
    if (f80_nan_or_bad(a) || e > 63) {
        *ex = X87_IE;
        return ~0ull;
    }
    uint64_t rest, m = shift_out(a.mant, e < -1 ? 65u : (unsigned)(63 - e), &rest);
    bool up = rounds_up(f80_sign(a), m & 1, rest, fcw);
    *ex = (rest ? X87_PE : 0) | (up ? X87_C1 : 0);
    return m + up;        /* e = 63 has no rest, so no carry out */
}

cc_narrow cc_f80_to_int(cc_f80 a, unsigned bits, unsigned fcw)
{
    unsigned ex;
    uint64_t m = magnitude(a, fcw, &ex), limit = 1ull << (bits - 1);
    bool negative = f80_sign(a) != 0;
    if ((ex & X87_IE) || m > limit - !negative)
        return (cc_narrow){limit, X87_IE};
    return (cc_narrow){negative ? -m : m, ex};
}

unsigned cc_f80_to_bcd(cc_f80 a, unsigned fcw, uint8_t out[10])
{
    unsigned ex;
    uint64_t m = magnitude(a, fcw, &ex);
    if ((ex & X87_IE) || m > 999999999999999999ull) {
        static const uint8_t indefinite[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};
        memcpy(out, indefinite, 10);
        return X87_IE;
    }
    for (int i = 0; i < 9; i++, m /= 100)
        out[i] = (uint8_t)(m % 10 | m / 10 % 10 << 4);
    out[9] = f80_sign(a) ? 0x80 : 0;
    return ex;
}
