/*
 * soft/x87_num.c: 80-bit addition, multiplication, division, square root, scaling, rounding and the choice among NaNs,
 * in integer arithmetic.  What an operation does with special operands follows SDM vol. 1, tables 4-7 and 8-10, and
 * the instructions' own tables in vol. 2.
 *
 * Order of detection: unsupported operand or NaN, other invalid operation, division by zero, denormal operand; an
 * unmasked one of these ends the operation (8.6 gives this precedence), so no result is rounded and no later flag is
 * raised.
 */
#include "x87.h"

typedef unsigned __int128 u128;

/* ---- rounding ---------------------------------------------------------------------------------------------------- */
/* Bits of the 64-bit significand that precision control drops; the reserved setting 1 acts as extended. */
static unsigned dropped_bits(unsigned fcw)
{
    static const uint8_t drop[4] = {40, 0, 11, 0};
    return drop[fcw >> 8 & 3];
}

/* Round hi:lo to hi without its low `drop` bits.  Returns X87_PE if inexact, with X87_C1 if rounded up; on a carry out
 * *hi becomes 0. */
static unsigned round_significand(uint64_t *hi, uint64_t lo, unsigned drop, unsigned sign, unsigned fcw)
{
    uint64_t unit = 1ull << drop, rest = *hi & (unit - 1), kept = *hi - rest;
    bool up, above, tie;
    if (drop) {
        uint64_t half = unit >> 1;
        above = rest > half || (rest == half && lo);
        tie = rest == half && !lo;
    } else {
        above = lo > F80_INT;
        tie = lo == F80_INT;
    }
    *hi = kept;
    if (!(rest | lo))
        return 0;
    switch (fcw & X87_RC_MASK) {
    case 0: up = above || (tie && (kept & unit)); break;
    case X87_RC_DOWN: up = sign != 0; break;
    case X87_RC_UP: up = sign == 0; break;
    default: up = false;
    }
    if (!up)
        return X87_PE;
    *hi = kept + unit;
    return X87_PE | X87_C1;
}

static void shift_right_jam(uint64_t *hi, uint64_t *lo, unsigned n)
{
    if (n == 0)
        return;
    if (n < 64) {
        *lo = *hi << (64 - n) | *lo >> n | ((*lo << (64 - n)) != 0);
        *hi >>= n;
    } else if (n < 128) {
        uint64_t lost = *lo | (n == 64 ? 0 : *hi << (128 - n));
        *lo = (n == 64 ? *hi : *hi >> (n - 64)) | (lost != 0);
        *hi = 0;
    } else {
        *lo = (*hi | *lo) != 0;
        *hi = 0;
    }
}

static cc_f80 overflow(unsigned sign, int32_t exp, uint64_t hi, unsigned ex, unsigned fcw)
{
    if (!(fcw & X87_OE)) {
        exp -= F80_WRAP;
        if (exp > (int32_t)F80_EMAX - 1)      /* massive overflow, which only scaling can give */
            return f80(sign | F80_EMAX, F80_INT, X87_OE | X87_PE | X87_C1);
        return f80(sign | (unsigned)exp, hi, ex | X87_OE);
    }
    unsigned rc = fcw & X87_RC_MASK;
    if (rc == 0 || rc == (sign ? X87_RC_DOWN : X87_RC_UP))
        return f80(sign | F80_EMAX, F80_INT, X87_OE | X87_PE | X87_C1);
    return f80(sign | (F80_EMAX - 1), ~0ull << dropped_bits(fcw), X87_OE | X87_PE);
}

static cc_f80 underflow(unsigned sign, int32_t exp, uint64_t hi, uint64_t lo, unsigned fcw)
{
    unsigned drop = dropped_bits(fcw);
    /* Tiny is judged after rounding with an unbounded exponent. */
    uint64_t h = hi;
    unsigned ex = round_significand(&h, lo, drop, sign, fcw);
    int32_t e = exp;
    if (!h) {
        h = F80_INT;
        e++;
    }
    if (e > 0)
        return f80(sign | (unsigned)e, h, ex);
    if (!(fcw & X87_UE)) {
        e += F80_WRAP;
        if (e < 1)      /* massive underflow, which only scaling can give */
            return f80(sign, 0, X87_UE | X87_PE);
        return f80(sign | (unsigned)e, h, ex | X87_UE);
    }
    shift_right_jam(&hi, &lo, 1u - (unsigned)exp > 128 ? 128 : 1u - (unsigned)exp);
    ex = round_significand(&hi, lo, drop, sign, fcw);
    if (ex)
        ex |= X87_UE;
    return f80(sign | (unsigned)(hi >> 63), hi, ex);
}

static cc_f80 round_slow(unsigned sign, int32_t exp, uint64_t hi, uint64_t lo, unsigned fcw)
{
    if (exp <= 0)
        return underflow(sign, exp, hi, lo, fcw);
    unsigned ex = round_significand(&hi, lo, dropped_bits(fcw), sign, fcw);
    if (!hi) {
        hi = F80_INT;
        exp++;
    }
    if (exp > (int32_t)F80_EMAX - 1)
        return overflow(sign, exp, hi, ex, fcw);
    return f80(sign | (unsigned)exp, hi, ex);
}

static inline cc_f80 round_pack(unsigned sign, int32_t exp, uint64_t hi, uint64_t lo, unsigned fcw)
{
    if (cc_unlikely((fcw & (X87_PC64 | X87_RC_MASK)) != X87_PC64 || (uint32_t)exp - 1 >= F80_EMAX - 2))
        return round_slow(sign, exp, hi, lo, fcw);
    uint64_t up = lo >> 63 & ((lo << 1 != 0) | (hi & 1));
    unsigned ex = (lo ? X87_PE : 0) | (up ? X87_C1 : 0);
    hi += up;
    if (cc_unlikely(!hi)) {
        hi = F80_INT;
        exp++;
    }
    return f80(sign | (unsigned)exp, hi, ex);
}

cc_f80 cc_f80_round(unsigned sign, int32_t exp, uint64_t hi, uint64_t lo, unsigned fcw)
{
    return round_slow(sign, exp, hi, lo, fcw);
}

/* ---- NaNs -------------------------------------------------------------------------------------------------------- */
cc_f80 cc_f80_nan1(cc_f80 a)
{
    if (f80_unsupported(a))
        return f80_indefinite(X87_IE);
    return f80(a.sexp, a.mant | F80_QUIET, f80_snan(a) ? X87_IE : 0);
}

/* A quiet NaN wins over a signalling one; of two alike the larger significand, then the positive one. */
cc_f80 cc_f80_nan2(cc_f80 a, cc_f80 b)
{
    if (f80_unsupported(a) || f80_unsupported(b))
        return f80_indefinite(X87_IE);
    unsigned ex = f80_snan(a) || f80_snan(b) ? X87_IE : 0;
    bool take_a;
    if (!f80_nan(a) || !f80_nan(b))
        take_a = f80_nan(a);
    else if (f80_snan(a) != f80_snan(b))
        take_a = f80_snan(b);
    else
        take_a = a.mant != b.mant ? a.mant > b.mant : !f80_sign(a);
    cc_f80 r = take_a ? a : b;
    return f80(r.sexp, r.mant | F80_QUIET, ex);
}

static inline bool ends(unsigned ex, unsigned fcw) { return (ex & ~fcw & X87_PRE) != 0; }

/* Denormals and pseudo-denormals have the exponent 1. */
static inline int32_t exp_of(cc_f80 a)
{
    unsigned e = f80_exp(a);
    return (int32_t)(e ? e : 1);
}

/* ---- addition ---------------------------------------------------------------------------------------------------- */
static inline cc_f80 add_magnitudes(cc_f80 a, cc_f80 b, unsigned sb, unsigned ex, unsigned fcw)
{
    unsigned sa = f80_sign(a);
    int32_t ea = exp_of(a), eb = exp_of(b);
    uint64_t ma = a.mant, mb = b.mant;
    if (ea < eb || (ea == eb && ma < mb)) {
        int32_t te = ea; ea = eb; eb = te;
        uint64_t tm = ma; ma = mb; mb = tm;
        unsigned ts = sa; sa = sb; sb = ts;
    }
    uint64_t hi = mb, lo = 0;
    unsigned d = (unsigned)(ea - eb);
    shift_right_jam(&hi, &lo, d);
    if (sa == sb) {
        hi += ma;
        if (hi < ma) {
            lo = hi << 63 | lo >> 1 | (lo & 1);
            hi = hi >> 1 | F80_INT;
            ea++;
        }
    } else {
        hi = ma - hi - (lo != 0);
        lo = -lo;
    }
    if (cc_unlikely(!(hi >> 63))) {
        if (!(hi | lo))
            return f80(sa == sb ? sa : (fcw & X87_RC_MASK) == X87_RC_DOWN ? F80_SIGN : 0, 0, ex);
        if (!hi) {
            hi = lo;
            lo = 0;
            ea -= 64;
        }
        unsigned n = (unsigned)__builtin_clzll(hi);
        if (n) {
            hi = hi << n | lo >> (64 - n);
            lo <<= n;
            ea -= (int32_t)n;
        }
    }
    cc_f80 r = round_pack(sa, ea, hi, lo, fcw);
    r.ex |= ex;
    return r;
}

static cc_f80 add_special(cc_f80 a, cc_f80 b, unsigned flip, unsigned fcw)
{
    if (f80_nan_or_bad(a) || f80_nan_or_bad(b))
        return cc_f80_nan2(a, b);
    unsigned sb = f80_sign(b) ^ flip;
    unsigned ex = f80_denormal(a) | f80_denormal(b);
    if (f80_inf(a) && f80_inf(b) && f80_sign(a) != sb)
        return f80_indefinite(X87_IE);
    if (ends(ex, fcw))
        return f80(0, 0, ex);
    if (f80_inf(a))
        return f80(a.sexp, a.mant, ex);
    if (f80_inf(b))
        return f80(sb | F80_EMAX, b.mant, ex);
    return add_magnitudes(a, b, sb, ex, fcw);
}

static inline cc_f80 add_or_sub(cc_f80 a, cc_f80 b, unsigned flip, unsigned fcw)
{
    if (cc_likely(f80_normal(a) && f80_normal(b) && !b.ex))
        return add_magnitudes(a, b, f80_sign(b) ^ flip, 0, fcw);
    return add_special(a, b, flip, fcw);
}

cc_f80 cc_f80_add(cc_f80 a, cc_f80 b, unsigned fcw) { return add_or_sub(a, b, 0, fcw); }

/* Either operand of the reversed form may be the one from memory, so both ex fields count. */
cc_f80 cc_f80_sub(cc_f80 a, cc_f80 b, unsigned fcw)
{
    if (cc_unlikely(a.ex))
        return add_special(a, b, F80_SIGN, fcw);
    return add_or_sub(a, b, F80_SIGN, fcw);
}

/* ---- multiplication ---------------------------------------------------------------------------------------------- */
static inline cc_f80 mul_finite(cc_f80 a, cc_f80 b, int32_t ea, int32_t eb, unsigned ex, unsigned fcw)
{
    u128 p = (u128)a.mant * b.mant;
    int32_t e = ea + eb - F80_BIAS + 1;
    uint64_t hi = (uint64_t)(p >> 64), lo = (uint64_t)p;
    if (!(hi >> 63)) {
        hi = hi << 1 | lo >> 63;
        lo <<= 1;
        e--;
    }
    cc_f80 r = round_pack(f80_sign(a) ^ f80_sign(b), e, hi, lo, fcw);
    r.ex |= ex;
    return r;
}

static cc_f80 mul_special(cc_f80 a, cc_f80 b, unsigned fcw)
{
    if (f80_nan_or_bad(a) || f80_nan_or_bad(b))
        return cc_f80_nan2(a, b);
    unsigned sign = f80_sign(a) ^ f80_sign(b), ex = f80_denormal(a) | f80_denormal(b);
    bool inf = f80_inf(a) || f80_inf(b), zero = f80_zero(a) || f80_zero(b);
    if (inf && zero)
        return f80_indefinite(X87_IE);
    if (ends(ex, fcw))
        return f80(0, 0, ex);
    if (inf)
        return f80(sign | F80_EMAX, F80_INT, ex);
    if (zero)
        return f80(sign, 0, ex);
    int32_t ea = exp_of(a), eb = exp_of(b);
    f80_normalise(&a.mant, &ea);
    f80_normalise(&b.mant, &eb);
    return mul_finite(a, b, ea, eb, ex, fcw);
}

cc_f80 cc_f80_mul(cc_f80 a, cc_f80 b, unsigned fcw)
{
    if (cc_likely(f80_normal(a) && f80_normal(b) && !b.ex))
        return mul_finite(a, b, (int32_t)f80_exp(a), (int32_t)f80_exp(b), 0, fcw);
    return mul_special(a, b, fcw);
}

/* ---- division ---------------------------------------------------------------------------------------------------- */
static inline cc_f80 div_finite(cc_f80 a, cc_f80 b, int32_t ea, int32_t eb, unsigned ex, unsigned fcw)
{
    int32_t e = ea - eb + F80_BIAS;
    u128 n = (u128)a.mant << 63;        /* the quotient of normalised significands is in [2^63, 2^64) if a >= b */
    if (a.mant < b.mant) {
        n <<= 1;
        e--;
    }
    uint64_t q = (uint64_t)(n / b.mant), r = (uint64_t)(n - (u128)q * b.mant);
    bool half = r >= b.mant - r;
    uint64_t rest = half ? r - (b.mant - r) : r;
    cc_f80 v = round_pack(f80_sign(a) ^ f80_sign(b), e, q, (half ? F80_INT : 0) | (rest != 0), fcw);
    v.ex |= ex;
    return v;
}

static cc_f80 div_special(cc_f80 a, cc_f80 b, unsigned fcw)
{
    if (f80_nan_or_bad(a) || f80_nan_or_bad(b))
        return cc_f80_nan2(a, b);
    unsigned sign = f80_sign(a) ^ f80_sign(b), ex = f80_denormal(a) | f80_denormal(b);
    if ((f80_inf(a) && f80_inf(b)) || (f80_zero(a) && f80_zero(b)))
        return f80_indefinite(X87_IE);
    if (f80_zero(b) && !f80_inf(a))
        ex = X87_ZE;        /* before a denormal dividend, which is not reported */
    if (ends(ex, fcw))
        return f80(0, 0, ex);
    if (f80_inf(a) || f80_zero(b))
        return f80(sign | F80_EMAX, F80_INT, ex);
    if (f80_zero(a) || f80_inf(b))
        return f80(sign, 0, ex);
    int32_t ea = exp_of(a), eb = exp_of(b);
    f80_normalise(&a.mant, &ea);
    f80_normalise(&b.mant, &eb);
    return div_finite(a, b, ea, eb, ex, fcw);
}

cc_f80 cc_f80_div(cc_f80 a, cc_f80 b, unsigned fcw)
{
    if (cc_likely(f80_normal(a) && f80_normal(b) && !(a.ex | b.ex)))
        return div_finite(a, b, (int32_t)f80_exp(a), (int32_t)f80_exp(b), 0, fcw);
    return div_special(a, b, fcw);
}

/* ---- square root ------------------------------------------------------------------------------------------------- */
/* Root and remainder of n >= 2^62: one step of the recursive method (root of the upper half, then one division). */
static uint32_t root64(uint64_t n, uint64_t *rem)
{
    uint32_t hi = (uint32_t)(n >> 32), s = 0, r = 0;
    for (int i = 30; i >= 0; i -= 2) {
        r = r << 2 | (hi >> i & 3);
        uint32_t t = s << 2 | 1;
        s <<= 1;
        if (r >= t) {
            r -= t;
            s |= 1;
        }
    }
    uint64_t u = (uint64_t)r << 16 | (uint32_t)(n >> 16 & 0xffff);
    uint64_t q = u / (2 * s);
    int64_t rest = (int64_t)((u % (2 * s)) << 16 | (n & 0xffff)) - (int64_t)(q * q);
    uint64_t root = ((uint64_t)s << 16) + q;
    while (rest < 0) {
        rest += (int64_t)(2 * root - 1);
        root--;
    }
    *rem = (uint64_t)rest;
    return (uint32_t)root;
}

/* Root and whether inexact, and whether the remainder is above half a unit, of hi:0 with hi >= 2^62. */
static uint64_t root128(uint64_t hi, bool *inexact, bool *above)
{
    uint64_t r, s = root64(hi, &r);
    u128 u = (u128)r << 32;
    uint64_t q = (uint64_t)(u / (2 * s));
    __int128 rest = (__int128)((u128)(uint64_t)(u % (2 * s)) << 32) - (__int128)((u128)q * q);
    u128 root = ((u128)s << 32) + q;
    while (rest < 0) {
        rest += (__int128)(2 * root - 1);
        root--;
    }
    *inexact = rest != 0;
    *above = (u128)rest > root;         /* (root + 1/2)^2 = root^2 + root + 1/4, and the remainder is an integer */
    return (uint64_t)root;
}

cc_f80 cc_f80_sqrt(cc_f80 a, unsigned fcw)
{
    if (f80_nan_or_bad(a))
        return cc_f80_nan1(a);
    if (f80_zero(a))
        return f80(a.sexp, 0, 0);
    if (f80_sign(a))
        return f80_indefinite(X87_IE);
    if (f80_inf(a))
        return f80(a.sexp, a.mant, 0);
    unsigned ex = f80_denormal(a);
    if (ends(ex, fcw))
        return f80(0, 0, ex);
    int32_t e = exp_of(a);
    f80_normalise(&a.mant, &e);
    e -= F80_BIAS;
    bool inexact, above;
    /* The root of m 2^64 or, with an even exponent, m 2^63 has 64 bits. */
    uint64_t root = root128(e & 1 ? a.mant : a.mant >> 1, &inexact, &above);
    if (!(e & 1) && (a.mant & 1)) {
        /* the bit shifted out adds 2^63, less than the distance to the next square but one */
        u128 n = (u128)a.mant << 63, s = root;
        u128 rest = n - s * s;
        if (rest > 2 * s) {
            rest -= 2 * s + 1;
            s++;
        }
        inexact = rest != 0;
        above = rest > s;
        root = (uint64_t)s;
    }
    cc_f80 r = round_pack(0, (e >> 1) + F80_BIAS, root, (above ? F80_INT : 0) | inexact, fcw);
    r.ex |= ex;
    return r;
}

/* ---- rounding to integer, scaling -------------------------------------------------------------------------------- */
cc_f80 cc_f80_rint(cc_f80 a, unsigned fcw)
{
    if (f80_nan_or_bad(a))
        return cc_f80_nan1(a);
    unsigned ex = f80_denormal(a), sign = f80_sign(a);
    if (ends(ex, fcw))
        return f80(0, 0, ex);
    int32_t e = exp_of(a) - F80_BIAS;
    if (f80_zero(a) || e >= 63)
        return f80(a.sexp, a.mant, ex);
    if (e < 0) {
        /* below 1: nothing of the significand stays, the result is 0 or 1 */
        uint64_t hi = 0, lo = e == -1 ? a.mant : 1;
        ex |= round_significand(&hi, lo, 0, sign, fcw);
        return hi ? f80(sign | F80_BIAS, F80_INT, ex) : f80(sign, 0, ex);
    }
    uint64_t hi = a.mant;
    ex |= round_significand(&hi, 0, 63u - (unsigned)e, sign, fcw);
    if (!hi) {
        hi = F80_INT;
        e++;
    }
    return f80(sign | (unsigned)(e + F80_BIAS), hi, ex);
}

cc_f80 cc_f80_scale(cc_f80 a, cc_f80 b, unsigned fcw)
{
    if (f80_nan_or_bad(a) || f80_nan_or_bad(b))
        return cc_f80_nan2(a, b);
    unsigned ex = f80_denormal(a) | f80_denormal(b), sign = f80_sign(a);
    if (f80_inf(b) && (f80_sign(b) ? f80_inf(a) : f80_zero(a)))
        return f80_indefinite(X87_IE);
    if (ends(ex, fcw))
        return f80(0, 0, ex);
    if (f80_inf(b) && !f80_inf(a))
        return f80_sign(b) ? f80(sign, 0, ex) : f80(sign | F80_EMAX, F80_INT, ex);
    /* a denormal scaled by 0 is not looked at: no underflow (as on Intel's processors) */
    if (f80_inf(a) || f80_zero(a) || (f80_zero(b) && f80_true_denormal(a)))
        return f80(a.sexp, a.mant, ex);
    /* the scale, truncated; beyond 2^16 every result is past both ends even after the exponent adjustment */
    int32_t eb = exp_of(b) - F80_BIAS, n = 0;
    if (eb > 16)
        n = 1 << 17;
    else if (eb >= 0)
        n = (int32_t)(b.mant >> (63 - eb));
    if (f80_sign(b))
        n = -n;
    int32_t e = exp_of(a);
    f80_normalise(&a.mant, &e);
    cc_f80 r = round_slow(sign, e + n, a.mant, 0, fcw | X87_PC64);
    r.ex |= ex;
    return r;
}
