/*
 * soft/x87.h: what the parts of the x87 FPU share: FSW and FCW bits, the 80-bit value, the stack, and the declarations
 * of the arithmetic (x87_num.c) and of every handler, which x87.c arranges as the opcode map.  Internal to soft/x87*.c.
 *
 * The arithmetic is integer code throughout: neither the host's x87 nor its SSE is used.  So results cannot depend on
 * the host's vendor, and the host's MXCSR, which holds the guest's flags while blocks execute, is never touched.
 *
 * Exceptions (SDM vol. 1, 8.4 and 8.5).  An operation returns its result and the FSW bits that it raises.  x87_flags()
 * folds them into FSW and tells whether the destination may be written: an unmasked stack fault, invalid operation,
 * denormal operand or division by zero leaves destination and stack as they were.  The instruction retires in any case;
 * #MF is reported by the next waiting instruction.  CR0.NE is taken as 1: the external way of reporting (FERR#, IRQ 13)
 * does not exist, NE = 0 behaves the same.
 *
 * Instruction and data pointers: every non-control instruction (all but FNINIT, FNCLEX, FLDCW, FNSTCW, FNSTSW, FLDENV,
 * FNSTENV, FRSTOR, FNSAVE, FWAIT, FXSAVE, FXRSTOR) sets FIP and FOP; one with a memory operand also sets FDP, the
 * others keep it.  Processors differ (FOP or FDP only after unmasked exceptions; AMD's FXSAVE only while ES is set):
 * here they are always updated and always saved.  Selectors are always 0 (CPUID.7.0:EBX[13], FCS/FDS deprecation).
 * FIP is the instruction's linear address and FDP the operand's effective address without the segment base.
 *
 * Where the SDM is silent or says something else, what the processors of both vendors do is done here (test_x87.c was
 * run on AMD family 19h and Intel's Ice Lake):
 *  - compares set C0, C2, C3, or EFLAGS, also when an unmasked exception keeps the stack (FCOM: "not set");
 *  - an unmasked denormal m32 or m64 is loaded by FLD nevertheless;
 *  - an unmasked overflow or underflow of FST m32/m64 raises neither PE nor C1;
 *  - x/0 with a denormal x raises ZE only;
 *  - FLD ST(i) of an empty register is an underflow also if the stack is full;
 *  - FCMOVcc and FCOMI keep C1 unless there is a stack fault, FFREE clears it;
 *  - FPREM's partial steps, and inexact after every transcendental function of a finite nonzero operand.
 */
#ifndef CC_SOFT_X87_H
#define CC_SOFT_X87_H

#include "cpu.h"

/* ---- status and control word (SDM vol. 1, 8.1.3 and 8.1.5) ------------------------------------------------------- */
#define X87_IE 0x0001u
#define X87_DE 0x0002u
#define X87_ZE 0x0004u
#define X87_OE 0x0008u
#define X87_UE 0x0010u
#define X87_PE 0x0020u
#define X87_SF 0x0040u
#define X87_ES 0x0080u
#define X87_C0 0x0100u
#define X87_C1 0x0200u
#define X87_C2 0x0400u
#define X87_C3 0x4000u
#define X87_B 0x8000u
#define X87_EXC 0x003fu                         /* the six exceptions, and their masks in FCW */
#define X87_PRE (X87_IE | X87_DE | X87_ZE)      /* detected before the operation */
#define X87_CC (X87_C0 | X87_C2 | X87_C3)

#define X87_PC64 0x0300u
#define X87_RC_MASK 0x0c00u
#define X87_RC_DOWN 0x0400u
#define X87_RC_UP 0x0800u
#define X87_RC_ZERO 0x0c00u
#define X87_FCW_INIT 0x037fu
#define X87_FCW_VALID 0x1f3fu                   /* bit 12 (infinity control) is kept, bit 6 reads as 1 */
#define X87_FCW_ONE 0x0040u

/* ---- values ------------------------------------------------------------------------------------------------------ */
#define F80_SIGN 0x8000u
#define F80_EMAX 0x7fffu
#define F80_BIAS 16383
#define F80_INT (1ull << 63)
#define F80_QUIET (1ull << 62)
#define F80_WRAP 24576          /* exponent adjustment of unmasked overflow and underflow (SDM vol. 1, 8.5.4) */

/* An operand or a result.  ex: as an operand, X87_DE if it was loaded from a denormal of a narrower format;
 * as a result, the FSW bits that the operation raises (exceptions, C1 = rounded up, where it says so C0, C2, C3). */
typedef struct cc_f80 { uint64_t mant; uint32_t sexp; uint32_t ex; } cc_f80;

typedef struct cc_narrow { uint64_t bits; uint32_t ex; } cc_narrow;

static inline cc_f80 f80(unsigned sexp, uint64_t mant, unsigned ex) { return (cc_f80){mant, sexp, ex}; }
static inline cc_f80 f80_indefinite(unsigned ex) { return f80(0xffff, 3ull << 62, ex); }
static inline unsigned f80_exp(cc_f80 a) { return a.sexp & F80_EMAX; }
static inline unsigned f80_sign(cc_f80 a) { return a.sexp & F80_SIGN; }
static inline bool f80_normal(cc_f80 a) { return f80_exp(a) - 1 < F80_EMAX - 1 && a.mant >> 63; }
static inline bool f80_zero(cc_f80 a) { return !a.mant && !f80_exp(a); }
static inline bool f80_inf(cc_f80 a) { return f80_exp(a) == F80_EMAX && a.mant == F80_INT; }
/* Unnormals, pseudo-infinities and pseudo-NaNs: invalid operands since the 387 (SDM vol. 1, 8.2.2). */
static inline bool f80_unsupported(cc_f80 a) { return f80_exp(a) && !(a.mant >> 63); }
static inline bool f80_nan(cc_f80 a) { return f80_exp(a) == F80_EMAX && a.mant > F80_INT; }
static inline bool f80_snan(cc_f80 a) { return f80_nan(a) && !(a.mant & F80_QUIET); }
static inline bool f80_nan_or_bad(cc_f80 a) { return f80_unsupported(a) || f80_nan(a); }
static inline bool f80_true_denormal(cc_f80 a) { return !f80_exp(a) && a.mant && !(a.mant >> 63); }
/* Denormals and pseudo-denormals, also those that a narrower format held. */
static inline unsigned f80_denormal(cc_f80 a) { return (!f80_exp(a) && a.mant) ? X87_DE : a.ex & X87_DE; }

/* ---- arithmetic (x87_num.c, x87_rem.c, x87_conv.c); fcw gives rounding, precision and masks ---------------------- */
/* Round sign, biased exponent and significand hi:lo (bit 63 of hi set, bit 0 of lo sticky). */
cc_f80 cc_f80_round(unsigned sign, int32_t exp, uint64_t hi, uint64_t lo, unsigned fcw);
/* The result where some operand is a NaN or unsupported. */
cc_f80 cc_f80_nan1(cc_f80 a);
cc_f80 cc_f80_nan2(cc_f80 a, cc_f80 b);
cc_f80 cc_f80_add(cc_f80 a, cc_f80 b, unsigned fcw);
cc_f80 cc_f80_sub(cc_f80 a, cc_f80 b, unsigned fcw);
cc_f80 cc_f80_mul(cc_f80 a, cc_f80 b, unsigned fcw);
cc_f80 cc_f80_div(cc_f80 a, cc_f80 b, unsigned fcw);
cc_f80 cc_f80_sqrt(cc_f80 a, unsigned fcw);
cc_f80 cc_f80_rint(cc_f80 a, unsigned fcw);
cc_f80 cc_f80_scale(cc_f80 a, cc_f80 b, unsigned fcw);
/* FPREM, or with nearest FPREM1; ex carries C0, C1, C2, C3. */
cc_f80 cc_f80_rem(cc_f80 a, cc_f80 b, unsigned fcw, bool nearest);
/* C0, C2, C3 as FCOM sets them, and exceptions; quiet: only signalling NaNs are invalid (FUCOM). */
unsigned cc_f80_compare(cc_f80 a, cc_f80 b, bool quiet);

cc_f80 cc_f80_from_f32(uint32_t v);
cc_f80 cc_f80_from_f64(uint64_t v);
cc_f80 cc_f80_from_int(int64_t v);
cc_f80 cc_f80_from_bcd(const uint8_t v[10]);
cc_narrow cc_f80_to_f32(cc_f80 a, unsigned fcw);
cc_narrow cc_f80_to_f64(cc_f80 a, unsigned fcw);
/* bits: 16, 32 or 64; out of range is invalid and gives the integer indefinite. */
cc_narrow cc_f80_to_int(cc_f80 a, unsigned bits, unsigned fcw);
unsigned cc_f80_to_bcd(cc_f80 a, unsigned fcw, uint8_t out[10]);

/* x87_func.c: finite nonzero operands within the architecture's domains; ex includes X87_PE always. */
cc_f80 cc_f80_exp2m1(cc_f80 a, unsigned fcw);                   /* |a| <= 1 */
cc_f80 cc_f80_ylog2(cc_f80 x, cc_f80 y, unsigned fcw);          /* x > 0, x != 1 */
cc_f80 cc_f80_ylog2p1(cc_f80 x, cc_f80 y, unsigned fcw);        /* x > -1 */
cc_f80 cc_f80_atan2(cc_f80 y, cc_f80 x, unsigned fcw);
cc_f80 cc_f80_quarter_pi(unsigned k, bool sign, unsigned fcw);  /* k pi/4, k = 1..4 */
cc_f80 cc_f80_sin(cc_f80 a, unsigned fcw);                      /* |a| < 2^63, also the next two */
cc_f80 cc_f80_cos(cc_f80 a, unsigned fcw);
cc_f80 cc_f80_tan(cc_f80 a, unsigned fcw);

static inline void f80_normalise(uint64_t *m, int32_t *e)
{
    unsigned n = (unsigned)__builtin_clzll(*m);
    *m <<= n;
    *e -= (int32_t)n;
}

/* ---- registers --------------------------------------------------------------------------------------------------- */
static inline unsigned x87_index(const cc_x87 *f, unsigned i) { return (f->top + i) & 7; }
static inline bool x87_empty(const cc_x87 *f, unsigned phys) { return f->empty >> phys & 1; }
static inline cc_f80 x87_read(const cc_x87 *f, unsigned phys) { return f80(f->st[phys].sexp, f->st[phys].mant, 0); }

static inline void x87_write(cc_x87 *f, unsigned phys, cc_f80 v)
{
    f->st[phys].mant = v.mant;
    f->st[phys].sexp = (uint16_t)v.sexp;
    f->empty &= (uint8_t)~(1u << phys);
}

static inline void x87_pop(cc_x87 *f)
{
    f->empty |= (uint8_t)(1u << f->top);
    f->top = (f->top + 1) & 7;
}

/* The register below the top, which a push would fill. */
static inline unsigned x87_below(const cc_x87 *f) { return (f->top - 1) & 7; }

static inline void x87_push(cc_x87 *f, cc_f80 v)
{
    f->top = (uint8_t)x87_below(f);
    x87_write(f, f->top, v);
}

/* Raise ex (C1 is replaced); true if the destination may be written. */
static inline bool x87_flags(cc_x87 *f, unsigned ex)
{
    unsigned unmasked = ex & ~(unsigned)f->fcw & X87_EXC;
    f->fsw = (uint16_t)((f->fsw & ~X87_C1) | ex);
    if (cc_likely(!unmasked))
        return true;
    f->fsw |= X87_ES | X87_B;
    return !(unmasked & X87_PRE);
}

/* ES and B are functions of the flags and masks. */
static inline void x87_update_es(cc_x87 *f)
{
    f->fsw &= (uint16_t)~(X87_ES | X87_B);
    if (f->fsw & ~f->fcw & X87_EXC)
        f->fsw |= X87_ES | X87_B;
}

static inline uint16_t x87_fsw(const cc_x87 *f) { return (uint16_t)(f->fsw | f->top << 11); }

static inline void x87_set_fcw(cc_x87 *f, unsigned v)
{
    f->fcw = (uint16_t)((v & X87_FCW_VALID) | X87_FCW_ONE);
}

/* ---- handlers ---------------------------------------------------------------------------------------------------- */
/* The selector leaves in op->imm the 11 bits that FOP takes. */
static inline void x87_pointers(cc_cpu *cpu, const cc_op *op)
{
    cpu->fpu.fip = cpu->r[CC_R_PAGE] + op->off;
    cpu->fpu.fop = (uint16_t)op->imm;
}

static inline void x87_pointers_mem(cc_cpu *cpu, const cc_op *op, uint64_t va)
{
    x87_pointers(cpu, op);
    cpu->fpu.fdp = va - cpu->segbase[CC_SS_SEG(op->ss)];
}

CC_OP(cc_x87_pending);          /* report #MF */

#define X87_AVAILABLE()                                                                                                \
    do {                                                                                                               \
        if (cc_unlikely(!cpu->fpu_ok))                                                                                 \
            return cc_op_fpu_unavailable(cpu, op, budget);                                                             \
    } while (0)
/* What a waiting instruction checks first. */
#define X87_ENTER()                                                                                                    \
    do {                                                                                                               \
        X87_AVAILABLE();                                                                                               \
        if (cc_unlikely(cpu->fpu.fsw & X87_ES))                                                                        \
            return cc_x87_pending(cpu, op, budget);                                                                    \
    } while (0)

/* x87_arith.c: op with ST0 and ST(i), ST(i) and ST0 (popping or not), and memory */
#define X87_ARITH_FORMS(M, name)                                                                                       \
    M(name##_st0) M(name##_sti) M(name##_stip) M(name##_f32) M(name##_f64) M(name##_i32) M(name##_i16)
#define X87_ARITH_HANDLERS(M)                                                                                          \
    X87_ARITH_FORMS(M, add) X87_ARITH_FORMS(M, mul) X87_ARITH_FORMS(M, sub) X87_ARITH_FORMS(M, subr)                   \
    X87_ARITH_FORMS(M, div) X87_ARITH_FORMS(M, divr)                                                                   \
    M(sqrt) M(rndint) M(scale) M(prem) M(prem1) M(xtract) M(chs) M(abs)
/* x87_compare.c */
#define X87_COMPARE_HANDLERS(M)                                                                                        \
    M(com) M(comp) M(compp) M(ucom) M(ucomp) M(ucompp) M(comi) M(comip) M(ucomi) M(ucomip)                             \
    M(com_f32) M(com_f64) M(com_i32) M(com_i16) M(comp_f32) M(comp_f64) M(comp_i32) M(comp_i16) M(tst) M(xam)
/* x87_move.c */
#define X87_MOVE_HANDLERS(M)                                                                                           \
    M(ld_f32) M(ld_f64) M(ld_f80) M(ild_16) M(ild_32) M(ild_64) M(bld) M(ld_st)                                        \
    M(st_f32) M(st_f64) M(stp_f32) M(stp_f64) M(stp_f80) M(st_st) M(stp_st) M(stpnce)                                  \
    M(ist_16) M(ist_32) M(istp_16) M(istp_32) M(istp_64) M(isttp_16) M(isttp_32) M(isttp_64) M(bstp)                   \
    M(xch) M(ld1) M(ldl2t) M(ldl2e) M(ldpi) M(ldlg2) M(ldln2) M(ldz) M(cmov)                                           \
    M(decstp) M(incstp) M(free) M(freep) M(nop)
/* x87_trans.c */
#define X87_TRANS_HANDLERS(M) M(f2xm1) M(yl2x) M(ptan) M(patan) M(yl2xp1) M(sincos) M(sin) M(cos)
/* x87_state.c */
#define X87_STATE_HANDLERS(M)                                                                                          \
    M(ldcw) M(stcw) M(stsw_mem) M(stsw_ax) M(clex) M(init) M(wait) M(nop_control)                                      \
    M(ldenv) M(stenv) M(rstor) M(save) M(ldenv_16) M(stenv_16) M(rstor_16) M(save_16)                                  \
    M(fxsave) M(fxsave64) M(fxrstor) M(fxrstor64)

#define X87_DECLARE(name) CC_OP(cc_x87_##name);
X87_ARITH_HANDLERS(X87_DECLARE)
X87_COMPARE_HANDLERS(X87_DECLARE)
X87_MOVE_HANDLERS(X87_DECLARE)
X87_TRANS_HANDLERS(X87_DECLARE)
X87_STATE_HANDLERS(X87_DECLARE)

#endif
