/*
 * soft/x87_arith.c: handlers of the basic arithmetic instructions.  The arithmetic itself is in x87_num.c.
 *
 * What can fault (memory) happens first and out of line, in functions that return whether the instruction retired:
 * a handler proper has no local whose address escapes, so that the dispatch at its end stays a tail call.
 */
#include "x87.h"

typedef cc_f80 (*binary_fn)(cc_f80 a, cc_f80 b, unsigned fcw);

static cc_f80 subr(cc_f80 a, cc_f80 b, unsigned fcw) { return cc_f80_sub(b, a, fcw); }
static cc_f80 divr(cc_f80 a, cc_f80 b, unsigned fcw) { return cc_f80_div(b, a, fcw); }

/* dst = fn(dst, src), both physical registers. */
static inline bool binary(cc_cpu *cpu, const cc_op *op, unsigned dst, unsigned src, binary_fn fn)
{
    cc_x87 *f = &cpu->fpu;
    cc_f80 r;
    x87_pointers(cpu, op);
    if (cc_unlikely(x87_empty(f, dst) || x87_empty(f, src)))
        r = f80_indefinite(X87_IE | X87_SF);
    else
        r = fn(x87_read(f, dst), x87_read(f, src), f->fcw);
    if (!x87_flags(f, r.ex))
        return false;
    x87_write(f, dst, r);
    return true;
}

static inline void binary_mem(cc_cpu *cpu, const cc_op *op, uint64_t va, cc_f80 b, binary_fn fn)
{
    cc_x87 *f = &cpu->fpu;
    cc_f80 r;
    x87_pointers_mem(cpu, op, va);
    if (cc_unlikely(x87_empty(f, f->top)))
        r = f80_indefinite(X87_IE | X87_SF);
    else
        r = fn(x87_read(f, f->top), b, f->fcw);
    if (x87_flags(f, r.ex))
        x87_write(f, f->top, r);
}

#define LOAD_OPERAND(bits, type, convert)                                                                              \
    uint64_t va = cc_ea(cpu, op);                                                                                      \
    uint##bits##_t v;                                                                                                  \
    if (!cc_ld##bits(cpu, op, budget, va, &v))                                                                         \
        return false;                                                                                                  \
    cc_f80 b = convert((type)v)

#define ARITH_MEM(name, fn, form, bits, type, convert)                                                                 \
    static bool name##_##form(cc_cpu *cpu, const cc_op *op, int64_t budget)                                            \
    {                                                                                                                  \
        LOAD_OPERAND(bits, type, convert);                                                                             \
        binary_mem(cpu, op, va, b, fn);                                                                                \
        return true;                                                                                                   \
    }                                                                                                                  \
    CC_OP(cc_x87_##name##_##form)                                                                                      \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (!name##_##form(cpu, op, budget))                                                                           \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }

/* fn computes ST0 op source.  DC and DE write ST(i): there the opcode map exchanges the reversed and the plain form, so
 * the names here follow the operation on the destination (fn(dst, src)). */
#define ARITH(name, fn)                                                                                                \
    CC_OP(cc_x87_##name##_st0)                                                                                         \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        binary(cpu, op, cpu->fpu.top, x87_index(&cpu->fpu, op->b), fn);                                                \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    CC_OP(cc_x87_##name##_sti)                                                                                         \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        binary(cpu, op, x87_index(&cpu->fpu, op->b), cpu->fpu.top, fn);                                                \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    CC_OP(cc_x87_##name##_stip)                                                                                        \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (binary(cpu, op, x87_index(&cpu->fpu, op->b), cpu->fpu.top, fn))                                            \
            x87_pop(&cpu->fpu);                                                                                        \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    ARITH_MEM(name, fn, f32, 32, uint32_t, cc_f80_from_f32)                                                            \
    ARITH_MEM(name, fn, f64, 64, uint64_t, cc_f80_from_f64)                                                            \
    ARITH_MEM(name, fn, i32, 32, int32_t, cc_f80_from_int)                                                             \
    ARITH_MEM(name, fn, i16, 16, int16_t, cc_f80_from_int)

ARITH(add, cc_f80_add)
ARITH(mul, cc_f80_mul)
ARITH(sub, cc_f80_sub)
ARITH(subr, subr)
ARITH(div, cc_f80_div)
ARITH(divr, divr)

/* ---- one operand: ST0 -------------------------------------------------------------------------------------------- */
static cc_f80 prem(cc_f80 a, cc_f80 b, unsigned fcw) { return cc_f80_rem(a, b, fcw, false); }
static cc_f80 prem1(cc_f80 a, cc_f80 b, unsigned fcw) { return cc_f80_rem(a, b, fcw, true); }
static cc_f80 chs(cc_f80 a, unsigned fcw) { (void)fcw; return f80(a.sexp ^ F80_SIGN, a.mant, 0); }
static cc_f80 absolute(cc_f80 a, unsigned fcw) { (void)fcw; return f80(a.sexp & F80_EMAX, a.mant, 0); }

#define UNARY(name, fn)                                                                                                \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        cc_x87 *f = &cpu->fpu;                                                                                         \
        cc_f80 r;                                                                                                      \
        x87_pointers(cpu, op);                                                                                         \
        if (cc_unlikely(x87_empty(f, f->top)))                                                                         \
            r = f80_indefinite(X87_IE | X87_SF);                                                                       \
        else                                                                                                           \
            r = fn(x87_read(f, f->top), f->fcw);                                                                       \
        if (x87_flags(f, r.ex))                                                                                        \
            x87_write(f, f->top, r);                                                                                   \
        CC_NEXT();                                                                                                     \
    }
UNARY(sqrt, cc_f80_sqrt)
UNARY(rndint, cc_f80_rint)
UNARY(chs, chs)
UNARY(abs, absolute)

CC_OP(cc_x87_scale)
{
    X87_ENTER();
    binary(cpu, op, cpu->fpu.top, x87_index(&cpu->fpu, 1), cc_f80_scale);
    CC_NEXT();
}

/* C0 and C3 are written with a remainder, C2 always. */
static inline void remainder_op(cc_cpu *cpu, const cc_op *op, binary_fn fn)
{
    cc_x87 *f = &cpu->fpu;
    unsigned before = f->fsw & (X87_C0 | X87_C3);
    f->fsw &= (uint16_t)~X87_CC;
    if (!binary(cpu, op, f->top, x87_index(f, 1), fn) || f80_nan_or_bad(x87_read(f, f->top)))
        f->fsw |= (uint16_t)before;
}

CC_OP(cc_x87_prem)
{
    X87_ENTER();
    remainder_op(cpu, op, prem);
    CC_NEXT();
}

CC_OP(cc_x87_prem1)
{
    X87_ENTER();
    remainder_op(cpu, op, prem1);
    CC_NEXT();
}

/* ST0 becomes its exponent as a number, then its significand is pushed. */
static inline void extract(cc_x87 *f)
{
    unsigned below = x87_below(f);
    if (x87_empty(f, f->top) || !x87_empty(f, below)) {
        unsigned ex = X87_IE | X87_SF | (x87_empty(f, f->top) ? 0 : X87_C1);
        if (x87_flags(f, ex)) {
            x87_write(f, f->top, f80_indefinite(0));
            x87_push(f, f80_indefinite(0));
        }
        return;
    }
    cc_f80 a = x87_read(f, f->top), exponent, significand;
    unsigned ex = f80_denormal(a), sign = f80_sign(a);
    if (f80_nan_or_bad(a)) {
        exponent = significand = cc_f80_nan1(a);
        ex = exponent.ex;
    } else if (f80_inf(a)) {
        exponent = f80(F80_EMAX, F80_INT, 0);
        significand = a;
    } else if (f80_zero(a)) {
        ex = X87_ZE;
        exponent = f80(F80_SIGN | F80_EMAX, F80_INT, 0);
        significand = a;
    } else {
        int32_t e = (int32_t)f80_exp(a);
        e += !e;
        f80_normalise(&a.mant, &e);
        exponent = cc_f80_from_int(e - F80_BIAS);
        significand = f80(sign | F80_BIAS, a.mant, 0);
    }
    if (x87_flags(f, ex)) {
        x87_write(f, f->top, exponent);
        x87_push(f, significand);
    }
}

CC_OP(cc_x87_xtract)
{
    X87_ENTER();
    x87_pointers(cpu, op);
    extract(&cpu->fpu);
    CC_NEXT();
}
