/*
 * soft/x87_func.c: the transcendental functions on finite nonzero numbers, to about 120 bits, then rounded once.
 *
 * Processors differ in the last place here, so the algorithms are our own: power series in 128-bit fixed point after an
 * exact or 120-bit argument reduction, with a fixed order of operations.  Results are within 0.5 + 2^-50 units in the
 * last place of the true value, better than the 1 ulp that the SDM promises (vol. 1, 8.3.10), also for large arguments
 * of the trigonometric functions, which are reduced with all the bits of pi that they need.
 *
 * Inexact is always raised, as processors do, even for the few exact results.
 */
#include "x87.h"
#include "x87_tables.h"

#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

/* (-1)^sign * m * 2^(e - 127), bit 127 of m set; m = 0 is zero. */
typedef struct wide { u128 m; int32_t e; bool sign; } wide;

/* ---- arithmetic on wide numbers; truncates ----------------------------------------------------------------------- */
static u128 mul_high(u128 a, u128 b)
{
    uint64_t ah = (uint64_t)(a >> 64), al = (uint64_t)a, bh = (uint64_t)(b >> 64), bl = (uint64_t)b;
    u128 low = (u128)al * bl, m1 = (u128)ah * bl, m2 = (u128)al * bh;
    u128 mid = (low >> 64) + (uint64_t)m1 + (uint64_t)m2;
    return (u128)ah * bh + (m1 >> 64) + (m2 >> 64) + (mid >> 64);
}

static wide normalised(u128 m, int32_t e, bool sign)
{
    if (!m)
        return (wide){0, 0, sign};
    unsigned n = (uint64_t)(m >> 64) ? (unsigned)__builtin_clzll((uint64_t)(m >> 64))
                                     : 64 + (unsigned)__builtin_clzll((uint64_t)m);
    return (wide){m << n, e - (int32_t)n, sign};
}

static wide from_f80(cc_f80 a)
{
    int32_t e = (int32_t)f80_exp(a);
    e += !e;
    return normalised((u128)a.mant << 64, e - F80_BIAS, f80_sign(a) != 0);
}

static wide mul(wide a, wide b) { return normalised(mul_high(a.m, b.m), a.e + b.e + 1, a.sign != b.sign); }

/* 64 quotient bits of *r / b (*r < b, b normalised), and the next remainder. */
static uint64_t div_step(u128 *r, u128 b)
{
    uint64_t bh = (uint64_t)(b >> 64), bl = (uint64_t)b, rh = (uint64_t)(*r >> 64);
    uint64_t q = rh >= bh ? ~0ull : (uint64_t)(*r / bh);
    u128 rest = *r - (u128)q * bh;
    /* the estimate ignores bl: it is at most 2 too large */
    while (!(rest >> 64) && (u128)q * bl > rest << 64) {
        q--;
        rest += bh;
    }
    *r = (rest << 64) - (u128)q * bl;
    return q;
}

static wide divide(wide a, wide b)
{
    int32_t e = a.e - b.e;
    u128 r = a.m;
    uint64_t hi, lo;
    if (r >= b.m) {
        r -= b.m;
        hi = div_step(&r, b.m);
        lo = div_step(&r, b.m);
        return (wide){Q_ONE | (u128)hi << 63 | lo >> 1, e, a.sign != b.sign};
    }
    hi = div_step(&r, b.m);
    lo = div_step(&r, b.m);
    return normalised((u128)hi << 64 | lo, e - 1, a.sign != b.sign);
}

static wide add(wide a, wide b)
{
    if (!a.m)
        return b;
    if (!b.m)
        return a;
    if (a.e < b.e || (a.e == b.e && a.m < b.m)) {
        wide t = a; a = b; b = t;
    }
    int32_t d = a.e - b.e;
    u128 s = d < 128 ? b.m >> d : 0;
    if (a.sign != b.sign)
        return normalised(a.m - s, a.e, a.sign);
    s += a.m;
    if (s < a.m)
        return (wide){s >> 1 | Q_ONE, a.e + 1, a.sign};
    return (wide){s, a.e, a.sign};
}

static wide negated(wide a) { a.sign = !a.sign; return a; }

/* |a| < 1 as a fraction of 2^128; never so small that a series would give exactly 1: directed rounding needs to know
 * on which side of it the true value lies. */
static u128 fraction(u128 m, int32_t e)
{
    int32_t shift = -1 - e;
    u128 f = shift < 128 ? m >> shift : 0;
    return f < 16 ? 16 : f;
}

static u128 square_fraction(wide a) { return fraction(mul_high(a.m, a.m), 2 * a.e + 1); }

/* c[first] -+ z (c[first + step] -+ z (...)), Q127, for z in Q128. */
static u128 series(const u128 *c, int first, int step, int count, u128 z, bool alternate)
{
    int i = first + (count - first - 1) / step * step;
    u128 acc = c[i];
    for (i -= step; i >= first; i -= step) {
        u128 t = mul_high(acc, z);
        acc = alternate ? c[i] - t : c[i] + t;
    }
    return acc;
}

/* a times a Q127 factor */
static wide times(wide a, u128 factor) { return mul(a, normalised(factor, 0, false)); }

static cc_f80 rounded(wide v, unsigned fcw)
{
    return cc_f80_round(v.sign ? F80_SIGN : 0, v.e + F80_BIAS, (uint64_t)(v.m >> 64), (uint64_t)v.m | 1,
                        fcw | X87_PC64);
}

/* ---- exponential and logarithms ---------------------------------------------------------------------------------- */
/* 2^a - 1, |a| <= 1: y = a ln 2, then y (1 + y/2! + y^2/3! + ...). */
cc_f80 cc_f80_exp2m1(cc_f80 a, unsigned fcw)
{
    if (f80_exp(a) == F80_BIAS)         /* 1 gives 1, -1 gives -1/2: the series would only come close */
        return f80_sign(a) ? f80(F80_SIGN | (F80_BIAS - 1), F80_INT, X87_PE) : f80(F80_BIAS, F80_INT, X87_PE);
    wide y = mul(from_f80(a), (wide){Q128_LN2, -1, false});
    u128 sum = series(inv_factorial, 1, 1, COUNT(inv_factorial), fraction(y.m, y.e), y.sign);
    return rounded(times(y, sum), fcw);
}

/* log2((1 + s) / (1 - s)) = 2 log2(e) atanh(s), |s| <= 3 - 2 sqrt(2) */
static wide log2_ratio(wide s)
{
    if (!s.m)
        return s;
    u128 sum = series(inv_odd, 0, 1, COUNT(inv_odd), square_fraction(s), false);
    wide r = mul(times(s, sum), (wide){Q_LOG2_E, 0, false});
    r.e++;
    return r;
}

static wide from_int(int32_t n)
{
    return normalised((u128)(n < 0 ? -(int64_t)n : (int64_t)n), 127, n < 0);
}

/* log2(x), x > 0: the exponent, plus the logarithm of a significand in [sqrt(1/2), sqrt(2)]. */
static wide log2_of(wide x)
{
    int32_t e = x.e;
    u128 m = x.m >> 1;          /* 126 fraction bits */
    if (x.m > Q_SQRT2) {
        e++;
        m >>= 1;
    }
    const u128 one = Q_ONE >> 1;
    wide numerator = m >= one ? normalised(m - one, 1, false) : normalised(one - m, 1, true);
    if (!numerator.m)
        return from_int(e);
    return add(from_int(e), log2_ratio(divide(numerator, normalised(m + one, 1, false))));
}

/* y log2(x), x > 0 and not 1 */
cc_f80 cc_f80_ylog2(cc_f80 x, cc_f80 y, unsigned fcw)
{
    wide l = log2_of(from_f80(x)), p = mul(l, from_f80(y));
    if (x.mant & (x.mant - 1))
        return rounded(p, fcw);
    /* a power of two: the product of y and an integer of 15 bits, which fits */
    uint64_t hi = (uint64_t)(p.m >> 64), lo = (uint64_t)p.m;
    cc_f80 r = cc_f80_round(p.sign ? F80_SIGN : 0, p.e + F80_BIAS, hi, lo, fcw | X87_PC64);
    r.ex |= f80_exp(r) ? X87_PE : X87_PE | X87_UE;
    return r;
}

/* y log2(1 + x), x > -1 */
cc_f80 cc_f80_ylog2p1(cc_f80 x, cc_f80 y, unsigned fcw)
{
    const wide one = {Q_ONE, 0, false}, two = {Q_ONE, 1, false};
    wide w = from_f80(x), l;
    if (w.e < -2)
        l = log2_ratio(divide(w, add(two, w)));
    else
        l = log2_of(add(one, w));
    return rounded(mul(l, from_f80(y)), fcw);
}

/* ---- arc tangent ------------------------------------------------------------------------------------------------- */
/* atan(t), 0 < t <= 1: the nearest k/32 is taken off, atan(t) = atan(k/32) + atan((t - k/32) / (1 + t k/32)). */
static wide atan_of(wide t)
{
    unsigned k = 0;
    if (t.e >= -6) {
        u128 fixed = t.m >> -t.e;               /* Q127 */
        k = (unsigned)((fixed + (Q_ONE >> 6)) >> 122);
        if (k) {
            u128 c = (u128)k << 122;
            bool below = fixed < c;
            u128 product = (fixed >> 5) * k;    /* t k/32 <= 1 */
            t = divide(normalised(below ? c - fixed : fixed - c, 0, below),
                       normalised((Q_ONE >> 1) + (product >> 1), 1, false));
        }
    }
    wide r = t.m ? times(t, series(inv_odd, 0, 1, 14, square_fraction(t), true)) : t;
    return k ? add(normalised(atan_32nds[k], 0, false), r) : r;
}

/* The angle of the point (x, y); both finite and nonzero. */
cc_f80 cc_f80_atan2(cc_f80 y, cc_f80 x, unsigned fcw)
{
    const wide half_pi = {Q_HALF_PI, 0, false}, pi = {Q_HALF_PI, 1, false};
    wide wy = from_f80(y), wx = from_f80(x), a;
    bool negative = wy.sign, left = wx.sign;
    wy.sign = wx.sign = false;
    if (wy.e < wx.e || (wy.e == wx.e && wy.m <= wx.m)) {
        a = atan_of(divide(wy, wx));
        if (left)
            a = add(pi, negated(a));
    } else {
        a = atan_of(divide(wx, wy));
        a = add(half_pi, left ? a : negated(a));
    }
    a.sign = negative;
    return rounded(a, fcw);
}

/* k pi/4, k = 1..4, for the special cases of FPATAN */
cc_f80 cc_f80_quarter_pi(unsigned k, bool sign, unsigned fcw)
{
    wide a = mul(from_int((int32_t)k), (wide){Q_HALF_PI, -1, false});
    a.sign = sign;
    return rounded(a, fcw);
}

/* ---- sine, cosine, tangent --------------------------------------------------------------------------------------- */
/* a = n pi/2 + r with |r| <= pi/4; returns n mod 4.  |a| < 2^63. */
static unsigned reduce(wide a, wide *r)
{
    if (a.e < -1) {
        *r = a;
        return 0;
    }
    /* |a| 2/pi with 384 fraction bits: the significand is an integer scaled by 2^(e - 63) */
    uint64_t p[7] = {0}, m = (uint64_t)(a.m >> 64);
    u128 carry = 0;
    for (int i = 0; i < 5; i++) {
        carry += (u128)two_over_pi[i] * m;
        p[i] = (uint64_t)carry;
        carry >>= 64;
    }
    p[5] = (uint64_t)carry;
    unsigned shift = (unsigned)(a.e + 1);
    if (shift) {
        for (int i = 6; i > 0; i--)
            p[i] = p[i] << shift | p[i - 1] >> (64 - shift);
        p[0] <<= shift;
    }
    uint64_t n = p[6];
    bool negative = false;
    if (p[5] >> 63) {
        n++;
        negative = true;
        for (int i = 0; i < 6; i++)
            p[i] = ~p[i];               /* one unit of 2^-384 is far below the precision */
    }
    int top = 5;
    int32_t e = 0;
    while (!p[top]) {
        top--;
        e -= 64;
    }
    unsigned lead = (unsigned)__builtin_clzll(p[top]);
    u128 f = (u128)p[top] << 64 | p[top - 1];
    if (lead)
        f = f << lead | p[top - 2] >> (64 - lead);
    *r = mul((wide){f, e - 1 - (int32_t)lead, negative != a.sign}, (wide){Q_HALF_PI, 0, false});
    return a.sign ? (unsigned)-n & 3 : (unsigned)n & 3;
}

static wide sin_series(wide r)
{
    return times(r, series(inv_factorial, 1, 2, COUNT(inv_factorial), square_fraction(r), true));
}

static wide cos_series(wide r)
{
    return normalised(series(inv_factorial, 0, 2, COUNT(inv_factorial), square_fraction(r), true), 0, false);
}

cc_f80 cc_f80_sin(cc_f80 a, unsigned fcw)
{
    wide r;
    unsigned n = reduce(from_f80(a), &r);
    wide s = n & 1 ? cos_series(r) : sin_series(r);
    return rounded(n & 2 ? negated(s) : s, fcw);
}

cc_f80 cc_f80_cos(cc_f80 a, unsigned fcw)
{
    wide r;
    unsigned n = reduce(from_f80(a), &r);
    wide c = n & 1 ? sin_series(r) : cos_series(r);
    return rounded(n == 1 || n == 2 ? negated(c) : c, fcw);
}

cc_f80 cc_f80_tan(cc_f80 a, unsigned fcw)
{
    wide r;
    unsigned n = reduce(from_f80(a), &r);
    wide s = sin_series(r), c = cos_series(r);
    return rounded(n & 1 ? negated(divide(c, s)) : divide(s, c), fcw);
}
