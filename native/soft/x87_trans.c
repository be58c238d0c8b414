/*
 * soft/x87_trans.c: handlers of the transcendental instructions: stack, special operands (the instructions' tables in
 * SDM vol. 2), condition codes.  The functions are in x87_func.c.
 *
 * Where the SDM calls the result undefined: F2XM1 beyond 1 in magnitude and FYL2XP1 with a finite ST0 <= -1 leave the
 * value of ST0 in the result register and raise inexact; FYL2XP1 above its domain gives the logarithm.
 */
#include "x87.h"

typedef cc_f80 (*unary_fn)(cc_f80 a, unsigned fcw);
typedef cc_f80 (*binary_fn)(cc_f80 x, cc_f80 y, unsigned fcw);      /* x = ST0, y = ST1 */

static bool ends(unsigned ex, unsigned fcw) { return (ex & ~fcw & X87_PRE) != 0; }

static cc_f80 infinity(bool sign, unsigned ex) { return f80((sign ? F80_SIGN : 0) | F80_EMAX, F80_INT, ex); }
static cc_f80 zero(bool sign, unsigned ex) { return f80(sign ? F80_SIGN : 0, 0, ex); }

static cc_f80 with(cc_f80 r, unsigned ex)
{
    r.ex |= ex;
    return r;
}

/* ---- functions of special operands ------------------------------------------------------------------------------- */
static cc_f80 exp2m1(cc_f80 a, unsigned fcw)
{
    unsigned ex = f80_denormal(a);
    if (f80_nan_or_bad(a))
        return cc_f80_nan1(a);
    if (f80_inf(a))
        return f80_sign(a) ? f80(F80_SIGN | F80_BIAS, F80_INT, 0) : a;
    if (f80_zero(a) || ends(ex, fcw))
        return with(a, ex);
    if (f80_exp(a) > F80_BIAS || (f80_exp(a) == F80_BIAS && a.mant > F80_INT))
        return with(a, X87_PE);
    return with(cc_f80_exp2m1(a, fcw), ex);
}

/* x > 1, x < 1 (both without sign) or x = 1 */
static int against_one(cc_f80 x)
{
    if (f80_exp(x) == F80_BIAS && x.mant == F80_INT)
        return 0;
    return f80_exp(x) >= F80_BIAS ? 1 : -1;
}

static cc_f80 ylog2(cc_f80 x, cc_f80 y, unsigned fcw)
{
    unsigned ex = f80_denormal(x) | f80_denormal(y);
    bool sx = f80_sign(x) != 0, sy = f80_sign(y) != 0;
    if (f80_nan_or_bad(x) || f80_nan_or_bad(y))
        return cc_f80_nan2(y, x);
    if (f80_zero(x)) {
        if (f80_zero(y))
            return f80_indefinite(X87_IE);
        if (!f80_inf(y))
            ex = X87_ZE;
        return infinity(!sy, ex);
    }
    if (sx)
        return f80_indefinite(X87_IE);
    int side = f80_inf(x) ? 1 : against_one(x);
    if ((f80_inf(x) && f80_zero(y)) || (side == 0 && f80_inf(y)))
        return f80_indefinite(X87_IE);
    if (ends(ex, fcw))
        return zero(0, ex);
    if (f80_inf(x) || f80_inf(y))
        return infinity(sy != (side < 0), ex);
    if (side == 0 || f80_zero(y))
        return zero(sy != (side < 0), ex);
    return with(cc_f80_ylog2(x, y, fcw), ex);
}

static cc_f80 ylog2p1(cc_f80 x, cc_f80 y, unsigned fcw)
{
    unsigned ex = f80_denormal(x) | f80_denormal(y);
    bool sx = f80_sign(x) != 0, sy = f80_sign(y) != 0;
    if (f80_nan_or_bad(x) || f80_nan_or_bad(y))
        return cc_f80_nan2(y, x);
    if ((f80_inf(x) && (sx || f80_zero(y))) || (f80_zero(x) && f80_inf(y)))
        return f80_indefinite(X87_IE);
    if (ends(ex, fcw))
        return zero(0, ex);
    if (f80_inf(x) || f80_inf(y))
        return infinity(sx != sy, ex);
    if (f80_zero(x) || f80_zero(y))
        return zero(sx != sy, ex);
    if (sx && against_one(x) >= 0)
        return with(x, ex | X87_PE);
    return with(cc_f80_ylog2p1(x, y, fcw), ex);
}

static cc_f80 patan(cc_f80 x, cc_f80 y, unsigned fcw)
{
    unsigned ex = f80_denormal(x) | f80_denormal(y);
    bool sx = f80_sign(x) != 0, sy = f80_sign(y) != 0;
    if (f80_nan_or_bad(x) || f80_nan_or_bad(y))
        return cc_f80_nan2(y, x);
    if (ends(ex, fcw))
        return zero(0, ex);
    if (f80_inf(y))
        return with(cc_f80_quarter_pi(!f80_inf(x) ? 2 : sx ? 3 : 1, sy, fcw), ex);
    if (f80_zero(y) || f80_inf(x))
        return sx ? with(cc_f80_quarter_pi(4, sy, fcw), ex) : zero(sy, ex);
    if (f80_zero(x))
        return with(cc_f80_quarter_pi(2, sy, fcw), ex);
    return with(cc_f80_atan2(y, x, fcw), ex);
}

/* ---- F2XM1, FYL2X, FYL2XP1, FPATAN ------------------------------------------------------------------------------- */
CC_OP(cc_x87_f2xm1)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    x87_pointers(cpu, op);
    cc_f80 r = x87_empty(f, f->top) ? f80_indefinite(X87_IE | X87_SF) : exp2m1(x87_read(f, f->top), f->fcw);
    if (x87_flags(f, r.ex))
        x87_write(f, f->top, r);
    CC_NEXT();
}

/* The result replaces ST1, and ST0 is popped. */
static inline void binary_pop(cc_cpu *cpu, const cc_op *op, binary_fn fn)
{
    cc_x87 *f = &cpu->fpu;
    unsigned st1 = x87_index(f, 1);
    cc_f80 r;
    x87_pointers(cpu, op);
    if (x87_empty(f, f->top) || x87_empty(f, st1))
        r = f80_indefinite(X87_IE | X87_SF);
    else
        r = fn(x87_read(f, f->top), x87_read(f, st1), f->fcw);
    if (x87_flags(f, r.ex)) {
        x87_write(f, st1, r);
        x87_pop(f);
    }
}

#define BINARY(name, fn)                                                                                               \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        binary_pop(cpu, op, fn);                                                                                       \
        CC_NEXT();                                                                                                     \
    }
BINARY(yl2x, ylog2)
BINARY(yl2xp1, ylog2p1)
BINARY(patan, patan)

/* ---- FSIN, FCOS, FSINCOS, FPTAN ---------------------------------------------------------------------------------- */
/* Operands that need no series: true with the result of an odd function, whose value at 0 is 0. */
static bool trig_special(cc_f80 a, unsigned fcw, cc_f80 *r)
{
    *r = with(a, f80_denormal(a));
    if (f80_nan_or_bad(a))
        *r = cc_f80_nan1(a);
    else if (f80_inf(a))
        *r = f80_indefinite(X87_IE);
    else if (!f80_zero(a) && !ends(r->ex, fcw))
        return false;
    return true;
}

/* C2: the operand is out of range and stays (SDM vol. 2, FSIN). */
static bool out_of_range(cc_x87 *f, cc_f80 a)
{
    bool out = f80_exp(a) >= F80_BIAS + 63 && f80_exp(a) < F80_EMAX && a.mant >> 63;
    if (out)
        x87_flags(f, X87_C2);
    return out;
}

static inline void trig(cc_cpu *cpu, const cc_op *op, unary_fn fn, bool one_at_zero)
{
    cc_x87 *f = &cpu->fpu;
    cc_f80 r;
    x87_pointers(cpu, op);
    f->fsw &= (uint16_t)~X87_C2;
    if (x87_empty(f, f->top)) {
        r = f80_indefinite(X87_IE | X87_SF);
    } else {
        cc_f80 a = x87_read(f, f->top);
        if (out_of_range(f, a))
            return;
        if (!trig_special(a, f->fcw, &r))
            r = with(fn(a, f->fcw), f80_denormal(a));
        else if (one_at_zero && f80_zero(a))
            r = f80(F80_BIAS, F80_INT, 0);
    }
    if (x87_flags(f, r.ex))
        x87_write(f, f->top, r);
}

CC_OP(cc_x87_sin)
{
    X87_ENTER();
    trig(cpu, op, cc_f80_sin, false);
    CC_NEXT();
}

CC_OP(cc_x87_cos)
{
    X87_ENTER();
    trig(cpu, op, cc_f80_cos, true);
    CC_NEXT();
}

static cc_f80 one(cc_f80 a, unsigned fcw) { (void)a; (void)fcw; return f80(F80_BIAS, F80_INT, 0); }

/* fn(ST0) replaces ST0 and push(ST0) is pushed: FSINCOS, and FPTAN, whose second result is 1. */
static inline void trig_push(cc_cpu *cpu, const cc_op *op, unary_fn fn, unary_fn push)
{
    cc_x87 *f = &cpu->fpu;
    cc_f80 r, second;
    x87_pointers(cpu, op);
    f->fsw &= (uint16_t)~X87_C2;
    if (x87_empty(f, f->top)) {
        r = second = f80_indefinite(X87_IE | X87_SF);
    } else if (!x87_empty(f, x87_below(f))) {
        r = second = f80_indefinite(X87_IE | X87_SF | X87_C1);
    } else {
        cc_f80 a = x87_read(f, f->top);
        if (out_of_range(f, a))
            return;
        if (trig_special(a, f->fcw, &r)) {
            second = f80_zero(a) ? one(a, 0) : r;
        } else {
            r = with(fn(a, f->fcw), f80_denormal(a));
            second = push(a, f->fcw);
        }
    }
    if (x87_flags(f, r.ex | second.ex)) {
        x87_write(f, f->top, r);
        x87_push(f, second);
    }
}

CC_OP(cc_x87_sincos)
{
    X87_ENTER();
    trig_push(cpu, op, cc_f80_sin, cc_f80_cos);
    CC_NEXT();
}

CC_OP(cc_x87_ptan)
{
    X87_ENTER();
    trig_push(cpu, op, cc_f80_tan, one);
    CC_NEXT();
}
