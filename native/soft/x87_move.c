/*
 * soft/x87_move.c: loads, stores, constants, exchanges, conditional moves and the instructions that move the stack.
 */
#include "x87.h"

/* ---- loads ------------------------------------------------------------------------------------------------------- */
/* An unmasked denormal is loaded: only an invalid operation keeps the stack. */
static inline void push_value(cc_x87 *f, cc_f80 v)
{
    if (cc_unlikely(!x87_empty(f, x87_below(f))))
        v = f80_indefinite(X87_IE | X87_SF | X87_C1);
    x87_flags(f, v.ex);
    if (cc_likely(!(v.ex & ~(unsigned)f->fcw & X87_IE)))
        x87_push(f, v);
}

/* A load converts: signalling NaNs are invalid. */
static inline cc_f80 loaded(cc_f80 v)
{
    return cc_unlikely(f80_nan(v)) ? cc_f80_nan1(v) : v;
}

#define LOAD(name, bits, convert)                                                                                      \
    static bool name(cc_cpu *cpu, const cc_op *op, int64_t budget)                                                     \
    {                                                                                                                  \
        uint64_t va = cc_ea(cpu, op);                                                                                  \
        uint##bits##_t v;                                                                                              \
        if (!cc_ld##bits(cpu, op, budget, va, &v))                                                                     \
            return false;                                                                                              \
        x87_pointers_mem(cpu, op, va);                                                                                 \
        push_value(&cpu->fpu, convert);                                                                                \
        return true;                                                                                                   \
    }                                                                                                                  \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (!name(cpu, op, budget))                                                                                    \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
LOAD(ld_f32, 32, loaded(cc_f80_from_f32(v)))
LOAD(ld_f64, 64, loaded(cc_f80_from_f64(v)))
LOAD(ild_16, 16, cc_f80_from_int((int16_t)v))
LOAD(ild_32, 32, cc_f80_from_int((int32_t)v))
LOAD(ild_64, 64, cc_f80_from_int((int64_t)v))

static bool ld_f80(cc_cpu *cpu, const cc_op *op, int64_t budget, bool bcd)
{
    uint64_t va = cc_ea(cpu, op);
    uint8_t b[10];
    if (!CC_MEM_READ(cpu, op, budget, va, b, 10))
        return false;
    x87_pointers_mem(cpu, op, va);
    if (bcd) {
        push_value(&cpu->fpu, cc_f80_from_bcd(b));
    } else {
        uint64_t m;
        uint16_t se;
        memcpy(&m, b, 8);
        memcpy(&se, b + 8, 2);
        push_value(&cpu->fpu, f80(se, m, 0));
    }
    return true;
}

CC_OP(cc_x87_ld_f80)
{
    X87_ENTER();
    if (!ld_f80(cpu, op, budget, false))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

CC_OP(cc_x87_bld)
{
    X87_ENTER();
    if (!ld_f80(cpu, op, budget, true))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

CC_OP(cc_x87_ld_st)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    unsigned src = x87_index(f, op->b);
    x87_pointers(cpu, op);
    if (cc_unlikely(x87_empty(f, src))) {
        /* underflow, even if the push would overflow */
        if (x87_flags(f, X87_IE | X87_SF))
            x87_push(f, f80_indefinite(0));
    } else {
        push_value(f, x87_read(f, src));
    }
    CC_NEXT();
}

/* Constants: truncated significand; `nearest` says that it rounds up to nearest.  Inexact is not signalled. */
#define CONSTANT(name, exp, mant, nearest)                                                                             \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        x87_pointers(cpu, op);                                                                                         \
        unsigned rc = cpu->fpu.fcw & X87_RC_MASK;                                                                      \
        push_value(&cpu->fpu, f80(exp, mant + (rc == X87_RC_UP || (rc == 0 && (nearest))), 0));                        \
        CC_NEXT();                                                                                                     \
    }
#define EXACT_CONSTANT(name, exp, mant)                                                                                \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        x87_pointers(cpu, op);                                                                                         \
        push_value(&cpu->fpu, f80(exp, mant, 0));                                                                      \
        CC_NEXT();                                                                                                     \
    }
EXACT_CONSTANT(ld1, 0x3fff, F80_INT)
EXACT_CONSTANT(ldz, 0, 0)
CONSTANT(ldl2t, 0x4000, 0xd49a784bcd1b8afeull, 0)
CONSTANT(ldl2e, 0x3fff, 0xb8aa3b295c17f0bbull, 1)
CONSTANT(ldpi, 0x4000, 0xc90fdaa22168c234ull, 1)
CONSTANT(ldlg2, 0x3ffd, 0x9a209a84fbcff798ull, 1)
CONSTANT(ldln2, 0x3ffe, 0xb17217f7d1cf79abull, 1)

/* ---- stores ------------------------------------------------------------------------------------------------------ */
/* Whether memory is written.  An unmasked overflow or underflow keeps it, too; then nothing pops (SDM vol. 1, 8.5), and
 * the operand is not accessed at all, as on Intel's processors: there is no page fault (AMD's look at it first). */
static inline bool stores(const cc_x87 *f, unsigned ex)
{
    return !(ex & ~(unsigned)f->fcw & (X87_PRE | X87_OE | X87_UE));
}

static inline void stored(cc_cpu *cpu, const cc_op *op, uint64_t va, unsigned ex, bool pop)
{
    x87_pointers_mem(cpu, op, va);
    bool pops = stores(&cpu->fpu, ex) && pop;
    x87_flags(&cpu->fpu, ex);
    if (pops)
        x87_pop(&cpu->fpu);
}

#define STORE(name, width, convert, empty_value, pop)                                                                  \
    static bool name(cc_cpu *cpu, const cc_op *op, int64_t budget)                                                     \
    {                                                                                                                  \
        cc_x87 *f = &cpu->fpu;                                                                                         \
        uint64_t va = cc_ea(cpu, op);                                                                                  \
        cc_narrow r;                                                                                                   \
        if (cc_unlikely(x87_empty(f, f->top)))                                                                         \
            r = (cc_narrow){empty_value, X87_IE | X87_SF};                                                             \
        else                                                                                                           \
            r = convert;                                                                                               \
        if (stores(f, r.ex) && !cc_st##width(cpu, op, budget, va, (uint##width##_t)r.bits))                            \
            return false;                                                                                              \
        stored(cpu, op, va, r.ex, pop);                                                                                \
        return true;                                                                                                   \
    }                                                                                                                  \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (!name(cpu, op, budget))                                                                                    \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
#define ST0 x87_read(f, f->top)
STORE(st_f32, 32, cc_f80_to_f32(ST0, f->fcw), 0xffc00000u, false)
STORE(stp_f32, 32, cc_f80_to_f32(ST0, f->fcw), 0xffc00000u, true)
STORE(st_f64, 64, cc_f80_to_f64(ST0, f->fcw), 0xfffull << 52 | 1ull << 51, false)
STORE(stp_f64, 64, cc_f80_to_f64(ST0, f->fcw), 0xfffull << 52 | 1ull << 51, true)
STORE(ist_16, 16, cc_f80_to_int(ST0, 16, f->fcw), 0x8000u, false)
STORE(istp_16, 16, cc_f80_to_int(ST0, 16, f->fcw), 0x8000u, true)
STORE(isttp_16, 16, cc_f80_to_int(ST0, 16, f->fcw | X87_RC_ZERO), 0x8000u, true)
STORE(ist_32, 32, cc_f80_to_int(ST0, 32, f->fcw), 0x80000000u, false)
STORE(istp_32, 32, cc_f80_to_int(ST0, 32, f->fcw), 0x80000000u, true)
STORE(isttp_32, 32, cc_f80_to_int(ST0, 32, f->fcw | X87_RC_ZERO), 0x80000000u, true)
STORE(istp_64, 64, cc_f80_to_int(ST0, 64, f->fcw), 1ull << 63, true)
STORE(isttp_64, 64, cc_f80_to_int(ST0, 64, f->fcw | X87_RC_ZERO), 1ull << 63, true)

/* FSTP m80 stores any content as it is; FBSTP converts. */
static bool stp_10(cc_cpu *cpu, const cc_op *op, int64_t budget, bool bcd)
{
    static const uint8_t no_number[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};     /* in both formats */
    cc_x87 *f = &cpu->fpu;
    uint64_t va = cc_ea(cpu, op);
    uint8_t b[10];
    unsigned ex = 0;
    if (cc_unlikely(x87_empty(f, f->top))) {
        memcpy(b, no_number, 10);
        ex = X87_IE | X87_SF;
    } else if (bcd) {
        ex = cc_f80_to_bcd(ST0, f->fcw, b);
    } else {
        memcpy(b, &f->st[f->top].mant, 8);
        memcpy(b + 8, &f->st[f->top].sexp, 2);
    }
    if (stores(f, ex) && !CC_MEM_WRITE(cpu, op, budget, va, b, 10))
        return false;
    stored(cpu, op, va, ex, true);
    return true;
}

CC_OP(cc_x87_stp_f80)
{
    X87_ENTER();
    if (!stp_10(cpu, op, budget, false))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

CC_OP(cc_x87_bstp)
{
    X87_ENTER();
    if (!stp_10(cpu, op, budget, true))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

static inline bool copy_to(cc_x87 *f, unsigned dst)
{
    cc_f80 v = x87_empty(f, f->top) ? f80_indefinite(X87_IE | X87_SF) : ST0;
    if (!x87_flags(f, v.ex))
        return false;
    x87_write(f, dst, v);
    return true;
}

CC_OP(cc_x87_st_st)
{
    X87_ENTER();
    x87_pointers(cpu, op);
    copy_to(&cpu->fpu, x87_index(&cpu->fpu, op->b));
    CC_NEXT();
}

CC_OP(cc_x87_stp_st)
{
    X87_ENTER();
    x87_pointers(cpu, op);
    if (copy_to(&cpu->fpu, x87_index(&cpu->fpu, op->b)))
        x87_pop(&cpu->fpu);
    CC_NEXT();
}

/* FSTP of an empty ST0 that neither faults nor writes. */
CC_OP(cc_x87_stpnce)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    x87_pointers(cpu, op);
    x87_flags(f, 0);
    if (!x87_empty(f, f->top))
        x87_write(f, x87_index(f, op->b), ST0);
    x87_pop(f);
    CC_NEXT();
}

/* ---- exchanges and conditional moves ----------------------------------------------------------------------------- */
CC_OP(cc_x87_xch)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    unsigned other = x87_index(f, op->b), ex = 0;
    cc_f80 a = ST0, b = x87_read(f, other);
    x87_pointers(cpu, op);
    if (cc_unlikely(x87_empty(f, f->top) || x87_empty(f, other))) {
        ex = X87_IE | X87_SF;
        if (x87_empty(f, f->top))
            a = f80_indefinite(0);
        if (x87_empty(f, other))
            b = f80_indefinite(0);
    }
    if (x87_flags(f, ex)) {
        x87_write(f, f->top, b);
        x87_write(f, other, a);
    }
    CC_NEXT();
}

/* op->x: bits 0-1 CF, ZF, CF|ZF, PF; bit 2: moves if the condition is false. */
static inline bool condition(uint32_t flags, unsigned which)
{
    static const uint8_t mask[4] = {FL_CF, FL_ZF, FL_CF | FL_ZF, FL_PF};
    return ((flags & mask[which & 3]) != 0) == !(which & 4);
}

CC_OP(cc_x87_cmov)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    unsigned src = x87_index(f, op->b);
    x87_pointers(cpu, op);
    if (cc_unlikely(x87_empty(f, f->top) || x87_empty(f, src))) {
        if (x87_flags(f, X87_IE | X87_SF))
            x87_write(f, f->top, f80_indefinite(0));
    } else if (condition(cc_arith_flags(cpu), op->x)) {
        x87_write(f, f->top, x87_read(f, src));
    }
    CC_NEXT();
}

/* ---- the stack --------------------------------------------------------------------------------------------------- */
CC_OP(cc_x87_decstp)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    x87_pointers(cpu, op);
    x87_flags(f, 0);
    f->top = (uint8_t)x87_below(f);
    CC_NEXT();
}

CC_OP(cc_x87_incstp)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    x87_pointers(cpu, op);
    x87_flags(f, 0);
    f->top = (uint8_t)x87_index(f, 1);
    CC_NEXT();
}

CC_OP(cc_x87_free)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    x87_pointers(cpu, op);
    x87_flags(f, 0);
    f->empty |= (uint8_t)(1u << x87_index(f, op->b));
    CC_NEXT();
}

CC_OP(cc_x87_freep)
{
    X87_ENTER();
    cc_x87 *f = &cpu->fpu;
    x87_pointers(cpu, op);
    x87_flags(f, 0);
    f->empty |= (uint8_t)(1u << x87_index(f, op->b));
    x87_pop(f);
    CC_NEXT();
}

CC_OP(cc_x87_nop)
{
    X87_ENTER();
    x87_pointers(cpu, op);
    CC_NEXT();
}
