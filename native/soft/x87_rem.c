/*
 * soft/x87_rem.c: partial remainder (FPREM, FPREM1) and comparison.
 */
#include "x87.h"

typedef unsigned __int128 u128;

/* C0, C3, C1 are the quotient's bits 2, 1, 0 (SDM vol. 2, FPREM). */
static unsigned quotient_bits(uint64_t q)
{
    return (q & 4 ? X87_C0 : 0) | (q & 2 ? X87_C3 : 0) | (q & 1 ? X87_C1 : 0);
}

/* The exact value m * 2^(exp - bias - 63), which never rounds but may be denormal. */
static cc_f80 exact(unsigned sign, int32_t exp, uint64_t m, unsigned ex, unsigned fcw)
{
    if (!m)
        return f80(sign, 0, ex);
    f80_normalise(&m, &exp);
    cc_f80 r = cc_f80_round(sign, exp, m, 0, fcw | X87_PC64);
    r.ex |= ex;
    return r;
}

cc_f80 cc_f80_rem(cc_f80 a, cc_f80 b, unsigned fcw, bool nearest)
{
    if (f80_nan_or_bad(a) || f80_nan_or_bad(b))
        return cc_f80_nan2(a, b);
    unsigned ex = f80_denormal(a) | f80_denormal(b), sign = f80_sign(a);
    if (f80_inf(a) || f80_zero(b))
        return f80_indefinite(X87_IE);
    if (ex & ~fcw)
        return f80(0, 0, ex);
    /* a denormal with an infinite divisor is not looked at: no underflow (as on Intel's processors) */
    if (f80_zero(a) || (f80_inf(b) && f80_true_denormal(a)))
        return f80(a.sexp, a.mant, ex);
    int32_t ea = (int32_t)f80_exp(a), eb = (int32_t)f80_exp(b);
    ea += !ea;
    eb += !eb;
    f80_normalise(&a.mant, &ea);
    if (f80_inf(b))
        return exact(sign, ea, a.mant, ex, fcw);
    f80_normalise(&b.mant, &eb);
    int32_t d = ea - eb;
    if (d >= 64) {
        /* Partial: the quotient's bits from d down to d - n are taken off.  The choice of n in 32..63 is the
         * implementation's. */
        uint32_t n = 32 + (uint32_t)d % 32;
        uint64_t r = (uint64_t)(((u128)a.mant << n) % b.mant);
        return exact(sign, eb + d - (int32_t)n, r, ex | X87_C2, fcw);
    }
    if (d < -1 || (d == -1 && !nearest))
        return exact(sign, ea, a.mant, ex, fcw);
    uint64_t q = 0, r = a.mant;
    if (d >= 0) {
        u128 n = (u128)a.mant << d;
        q = (uint64_t)(n / b.mant);
        r = (uint64_t)(n - (u128)q * b.mant);
    }
    if (nearest) {
        /* with d = -1 r is in half units of b's last place */
        u128 twice = d < 0 ? (u128)r : (u128)r << 1;
        if (twice > b.mant || (twice == b.mant && (q & 1))) {
            q++;
            sign ^= F80_SIGN;
            if (d < 0) {
                u128 rest = ((u128)b.mant << 1) - r;        /* in half units; below 2^64 because r > b */
                r = (uint64_t)rest;
            } else {
                r = b.mant - r;
            }
        }
    }
    ex |= quotient_bits(q);
    if (!r)
        return f80(f80_sign(a), 0, ex);
    return exact(sign, d < 0 ? ea : eb, r, ex, fcw);
}

unsigned cc_f80_compare(cc_f80 a, cc_f80 b, bool quiet)
{
    if (f80_nan_or_bad(a) || f80_nan_or_bad(b)) {
        bool invalid = !quiet || f80_unsupported(a) || f80_unsupported(b) || f80_snan(a) || f80_snan(b);
        return X87_CC | (invalid ? X87_IE : 0);
    }
    unsigned ex = f80_denormal(a) | f80_denormal(b);
    if (f80_zero(a) && f80_zero(b))
        return ex | X87_C3;
    if (f80_sign(a) != f80_sign(b))
        return ex | (f80_sign(a) ? X87_C0 : 0);
    unsigned ea = f80_exp(a), eb = f80_exp(b);
    ea += !ea;
    eb += !eb;
    if (ea == eb && a.mant == b.mant)
        return ex | X87_C3;
    bool less = ea != eb ? ea < eb : a.mant < b.mant;
    /* a zero has the exponent of the denormals and compares by its significand; no normal has a smaller exponent */
    return ex | (less != (f80_sign(a) != 0) ? X87_C0 : 0);
}
