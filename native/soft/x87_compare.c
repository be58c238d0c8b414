/*
 * soft/x87_compare.c: FCOM, FUCOM, FCOMI, FUCOMI with their popping and memory forms, FTST, FXAM.
 */
#include "x87.h"

/* Set C0, C2, C3 from a comparison; false if an unmasked exception forbids to pop. */
static inline bool set_codes(cc_x87 *f, unsigned result)
{
    f->fsw &= (uint16_t)~X87_CC;
    return x87_flags(f, result);
}

static inline unsigned compare_with(const cc_x87 *f, cc_f80 b, bool quiet)
{
    if (cc_unlikely(x87_empty(f, f->top)))
        return X87_CC | X87_IE | X87_SF;
    return cc_f80_compare(x87_read(f, f->top), b, quiet);
}

static inline unsigned compare_sti(const cc_x87 *f, unsigned i, bool quiet)
{
    unsigned src = x87_index(f, i);
    if (cc_unlikely(x87_empty(f, src)))
        return X87_CC | X87_IE | X87_SF;
    return compare_with(f, x87_read(f, src), quiet);
}

#define COMPARE(name, quiet, pops)                                                                                     \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        cc_x87 *f = &cpu->fpu;                                                                                         \
        x87_pointers(cpu, op);                                                                                         \
        if (set_codes(f, compare_sti(f, op->b, quiet)))                                                                \
            for (int i = 0; i < (pops); i++)                                                                           \
                x87_pop(f);                                                                                            \
        CC_NEXT();                                                                                                     \
    }
COMPARE(com, false, 0)
COMPARE(comp, false, 1)
COMPARE(compp, false, 2)        /* the encoding's rm is 1 */
COMPARE(ucom, true, 0)
COMPARE(ucomp, true, 1)
COMPARE(ucompp, true, 2)

/* C0, C2, C3 have the places of CF, PF, ZF in AH; OF, SF and AF are cleared.  C1 is kept but after a stack fault. */
static inline bool set_eflags(cc_cpu *cpu, unsigned result)
{
    unsigned c1 = result & X87_SF ? 0 : cpu->fpu.fsw & X87_C1;
    cc_set_arith_flags(cpu, result >> 8 & (FL_CF | FL_PF | FL_ZF));
    return x87_flags(&cpu->fpu, (result & ~X87_CC) | c1);
}

#define COMPARE_I(name, quiet, pop)                                                                                    \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        cc_x87 *f = &cpu->fpu;                                                                                         \
        x87_pointers(cpu, op);                                                                                         \
        if (set_eflags(cpu, compare_sti(f, op->b, quiet)) && (pop))                                                    \
            x87_pop(f);                                                                                                \
        CC_NEXT();                                                                                                     \
    }
COMPARE_I(comi, false, false)
COMPARE_I(comip, false, true)
COMPARE_I(ucomi, true, false)
COMPARE_I(ucomip, true, true)

#define COMPARE_MEM(form, bits, type, convert)                                                                         \
    static bool com_##form(cc_cpu *cpu, const cc_op *op, int64_t budget, bool pop)                                     \
    {                                                                                                                  \
        uint64_t va = cc_ea(cpu, op);                                                                                  \
        uint##bits##_t v;                                                                                              \
        if (!cc_ld##bits(cpu, op, budget, va, &v))                                                                     \
            return false;                                                                                              \
        x87_pointers_mem(cpu, op, va);                                                                                 \
        if (set_codes(&cpu->fpu, compare_with(&cpu->fpu, convert((type)v), false)) && pop)                             \
            x87_pop(&cpu->fpu);                                                                                        \
        return true;                                                                                                   \
    }                                                                                                                  \
    CC_OP(cc_x87_com_##form)                                                                                           \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (!com_##form(cpu, op, budget, false))                                                                       \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    CC_OP(cc_x87_comp_##form)                                                                                          \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (!com_##form(cpu, op, budget, true))                                                                        \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
COMPARE_MEM(f32, 32, uint32_t, cc_f80_from_f32)
COMPARE_MEM(f64, 64, uint64_t, cc_f80_from_f64)
COMPARE_MEM(i32, 32, int32_t, cc_f80_from_int)
COMPARE_MEM(i16, 16, int16_t, cc_f80_from_int)

CC_OP(cc_x87_tst)
{
    X87_ENTER();
    x87_pointers(cpu, op);
    set_codes(&cpu->fpu, compare_with(&cpu->fpu, f80(0, 0, 0), false));
    CC_NEXT();
}

/* SDM vol. 2, FXAM.  C3 C2 C0: unsupported 000, NaN 001, normal 010, infinity 011, zero 100, empty 101,
 * denormal 110. */
static inline unsigned classify(const cc_x87 *f)
{
    cc_f80 a = x87_read(f, f->top);
    unsigned class;
    if (x87_empty(f, f->top))
        class = X87_C3 | X87_C0;
    else if (f80_unsupported(a))
        class = 0;
    else if (f80_nan(a))
        class = X87_C0;
    else if (f80_inf(a))
        class = X87_C2 | X87_C0;
    else if (f80_zero(a))
        class = X87_C3;
    else
        class = f80_denormal(a) ? X87_C3 | X87_C2 : X87_C2;
    return class | (f80_sign(a) ? X87_C1 : 0);
}

CC_OP(cc_x87_xam)
{
    X87_ENTER();
    x87_pointers(cpu, op);
    cpu->fpu.fsw = (uint16_t)((cpu->fpu.fsw & ~(X87_CC | X87_C1)) | classify(&cpu->fpu));
    CC_NEXT();
}
