/*
 * soft/x87_state.c: control and status words, environment and state images: FLDCW to FRSTOR, FXSAVE, FXRSTOR, FWAIT.
 *
 * 64-bit mode knows two environment formats (SDM vol. 1, figures 8-9 and 8-11): the 32-bit protected-mode one, 28
 * bytes, whose upper halves of the control, status and tag words and of the data segment are written as ones, and with
 * a 66 prefix that REX.W does not override the 16-bit one, 14 bytes.
 */
#include "x87.h"

enum { ENV32_BYTES = 28, ENV16_BYTES = 14, REGS_BYTES = 80, FX_BYTES = 512, FX_WRITTEN = 416 };

/* ---- little-endian fields ---------------------------------------------------------------------------------------- */
static void put16(uint8_t *p, unsigned v) { uint16_t w = (uint16_t)v; memcpy(p, &w, 2); }
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }
static void put64(uint8_t *p, uint64_t v) { memcpy(p, &v, 8); }
static unsigned get16(const uint8_t *p) { uint16_t w; memcpy(&w, p, 2); return w; }
static uint32_t get32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t get64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

/* ---- tags, reset ------------------------------------------------------------------------------------------------- */
/* SDM vol. 1, 8.1.7: two bits a register; 0 valid, 1 zero, 2 special (NaN, infinity, denormal, unsupported),
 * 3 empty. */
uint16_t cc_x87_full_tags(const cc_x87 *f)
{
    unsigned tags = 0;
    for (unsigned i = 0; i < 8; i++) {
        cc_f80 v = x87_read(f, i);
        unsigned tag = x87_empty(f, i) ? 3 : f80_zero(v) ? 1 : f80_normal(v) ? 0 : 2;
        tags |= tag << (2 * i);
    }
    return (uint16_t)tags;
}

static void set_tags(cc_x87 *f, unsigned tags)
{
    f->empty = 0;
    for (unsigned i = 0; i < 8; i++)
        if ((tags >> (2 * i) & 3) == 3)
            f->empty |= (uint8_t)(1u << i);
}

static void init(cc_x87 *f)
{
    f->fcw = X87_FCW_INIT;
    f->fsw = 0;
    f->top = 0;
    f->empty = 0xff;
    f->fop = 0;
    f->fip = f->fdp = 0;
}

void cc_x87_reset(cc_cpu *cpu) { init(&cpu->fpu); }

void cc_x87_set_words(cc_x87 *f, uint16_t fcw, uint16_t fsw)
{
    x87_set_fcw(f, fcw);
    f->fsw = fsw & (X87_EXC | X87_SF | X87_CC | X87_C1);
    f->top = fsw >> 11 & 7;
    x87_update_es(f);
}

/* ---- control and status words ------------------------------------------------------------------------------------ */
static bool ldcw(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    uint16_t v;
    if (!cc_ld16(cpu, op, budget, cc_ea(cpu, op), &v))
        return false;
    x87_set_fcw(&cpu->fpu, v);
    x87_update_es(&cpu->fpu);
    return true;
}

CC_OP(cc_x87_ldcw)
{
    X87_ENTER();
    if (!ldcw(cpu, op, budget))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

CC_OP(cc_x87_stcw)
{
    X87_AVAILABLE();
    if (!cc_st16(cpu, op, budget, cc_ea(cpu, op), cpu->fpu.fcw))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

CC_OP(cc_x87_stsw_mem)
{
    X87_AVAILABLE();
    if (!cc_st16(cpu, op, budget, cc_ea(cpu, op), x87_fsw(&cpu->fpu)))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

CC_OP(cc_x87_stsw_ax)
{
    X87_AVAILABLE();
    cpu->r[CC_RAX] = (cpu->r[CC_RAX] & ~0xffffull) | x87_fsw(&cpu->fpu);
    CC_NEXT();
}

CC_OP(cc_x87_clex)
{
    X87_AVAILABLE();
    cpu->fpu.fsw &= (uint16_t)~(X87_EXC | X87_SF | X87_ES | X87_B);
    CC_NEXT();
}

CC_OP(cc_x87_init)
{
    X87_AVAILABLE();
    init(&cpu->fpu);
    CC_NEXT();
}

/* FNENI, FNDISI, FNSETPM of the 8087 and 287: no operation, and not waiting. */
CC_OP(cc_x87_nop_control)
{
    X87_AVAILABLE();
    CC_NEXT();
}

/* FWAIT is trapped only by TS with MP set; EM does not matter to it. */
CC_OP(cc_x87_wait)
{
    if (cc_unlikely((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))) {
        cc_raise(cpu, EXC_NM);
        return cc_op_fault(cpu, op, budget);
    }
    if (cc_unlikely(cpu->fpu.fsw & X87_ES))
        return cc_x87_pending(cpu, op, budget);
    CC_NEXT();
}

/* ---- environment ------------------------------------------------------------------------------------------------- */
static unsigned pack_env(const cc_x87 *f, uint8_t *p, bool wide)
{
    if (!wide) {
        put16(p, f->fcw);
        put16(p + 2, x87_fsw(f));
        put16(p + 4, cc_x87_full_tags(f));
        put16(p + 6, (unsigned)f->fip & 0xffff);
        put16(p + 8, 0);
        put16(p + 10, (unsigned)f->fdp & 0xffff);
        put16(p + 12, 0);
        return ENV16_BYTES;
    }
    put32(p, 0xffff0000u | f->fcw);
    put32(p + 4, 0xffff0000u | x87_fsw(f));
    put32(p + 8, 0xffff0000u | cc_x87_full_tags(f));
    put32(p + 12, (uint32_t)f->fip);
    put32(p + 16, (uint32_t)(f->fop & 0x7ff) << 16);
    put32(p + 20, (uint32_t)f->fdp);
    put32(p + 24, 0xffff0000u);
    return ENV32_BYTES;
}

/* The 16-bit format has no opcode. */
static void unpack_env(cc_x87 *f, const uint8_t *p, bool wide)
{
    unsigned step = wide ? 4 : 2;
    cc_x87_set_words(f, (uint16_t)get16(p), (uint16_t)get16(p + step));
    set_tags(f, get16(p + 2 * step));
    if (wide) {
        f->fip = get32(p + 12);
        f->fop = get16(p + 18) & 0x7ff;
        f->fdp = get32(p + 20);
    } else {
        f->fip = get16(p + 6);
        f->fop = 0;
        f->fdp = get16(p + 10);
    }
}

static void pack_regs(const cc_x87 *f, uint8_t *p, unsigned stride)
{
    for (unsigned i = 0; i < 8; i++, p += stride) {
        const cc_st *r = &f->st[x87_index(f, i)];
        put64(p, r->mant);
        put16(p + 8, r->sexp);
    }
}

static void unpack_regs(cc_x87 *f, const uint8_t *p, unsigned stride)
{
    for (unsigned i = 0; i < 8; i++, p += stride) {
        cc_st *r = &f->st[x87_index(f, i)];
        r->mant = get64(p);
        r->sexp = (uint16_t)get16(p + 8);
    }
}

static bool ldenv(cc_cpu *cpu, const cc_op *op, int64_t budget, bool wide, bool regs)
{
    uint8_t b[ENV32_BYTES + REGS_BYTES];
    unsigned env = wide ? ENV32_BYTES : ENV16_BYTES, size = env + (regs ? REGS_BYTES : 0);
    uint64_t va = cc_ea(cpu, op);
    if (!CC_MEM_READ(cpu, op, budget, va, b, size))
        return false;
    unpack_env(&cpu->fpu, b, wide);
    if (regs)
        unpack_regs(&cpu->fpu, b + env, 10);
    return true;
}

/* FNSTENV masks all exceptions after storing; FNSAVE initialises the FPU. */
static bool stenv(cc_cpu *cpu, const cc_op *op, int64_t budget, bool wide, bool regs)
{
    uint8_t b[ENV32_BYTES + REGS_BYTES];
    uint64_t va = cc_ea(cpu, op);
    unsigned size = pack_env(&cpu->fpu, b, wide);
    if (regs) {
        pack_regs(&cpu->fpu, b + size, 10);
        size += REGS_BYTES;
    }
    if (!CC_MEM_WRITE(cpu, op, budget, va, b, size))
        return false;
    if (regs) {
        init(&cpu->fpu);
    } else {
        cpu->fpu.fcw |= X87_EXC;
        x87_update_es(&cpu->fpu);
    }
    return true;
}

#define ENV_LOAD(name, wide, regs)                                                                                     \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_ENTER();                                                                                                   \
        if (!ldenv(cpu, op, budget, wide, regs))                                                                       \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
#define ENV_STORE(name, wide, regs)                                                                                    \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_AVAILABLE();                                                                                               \
        if (!stenv(cpu, op, budget, wide, regs))                                                                       \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
ENV_LOAD(ldenv, true, false)
ENV_LOAD(ldenv_16, false, false)
ENV_LOAD(rstor, true, true)
ENV_LOAD(rstor_16, false, true)
ENV_STORE(stenv, true, false)
ENV_STORE(stenv_16, false, false)
ENV_STORE(save, true, true)
ENV_STORE(save_16, false, true)

/* ---- FXSAVE, FXRSTOR (SDM vol. 1, 10.5; the layout is table 10-2 and vol. 2, FXSAVE) ----------------------------- */
/*
 * XMM registers are saved and restored whatever CR4.OSFXSR says, which the SDM leaves open.  Bytes 416 to 511 are not
 * written.  AMD's rule that FOP, FIP and FDP are saved and restored only while ES is set is not followed.
 */
static bool fx_aligned(cc_cpu *cpu, uint64_t va)
{
    /* a non-canonical address goes before that, as on Intel's processors: it may be #SS */
    if (!(va & 15) || (uint64_t)((int64_t)(va << 16) >> 16) != va)
        return true;
    cc_raise_code(cpu, EXC_GP, 0);
    return false;
}

static bool fxsave(cc_cpu *cpu, const cc_op *op, int64_t budget, bool wide)
{
    const cc_x87 *f = &cpu->fpu;
    uint64_t va = cc_ea(cpu, op);
    uint8_t b[FX_WRITTEN];
    if (!fx_aligned(cpu, va))
        return false;
    cc_mxcsr_sync(cpu);
    memset(b, 0, sizeof b);
    put16(b, f->fcw);
    put16(b + 2, x87_fsw(f));
    b[4] = (uint8_t)~f->empty;
    put16(b + 6, f->fop & 0x7ff);
    if (wide) {
        put64(b + 8, f->fip);
        put64(b + 16, f->fdp);
    } else {
        put32(b + 8, (uint32_t)f->fip);
        put32(b + 16, (uint32_t)f->fdp);
    }
    put32(b + 24, cpu->mxcsr);
    put32(b + 28, 0xffff);
    pack_regs(f, b + 32, 16);
    memcpy(b + 160, cpu->xmm, sizeof cpu->xmm);
    return CC_MEM_WRITE(cpu, op, budget, va, b, FX_WRITTEN);
}

static bool fxrstor(cc_cpu *cpu, const cc_op *op, int64_t budget, bool wide)
{
    cc_x87 *f = &cpu->fpu;
    uint64_t va = cc_ea(cpu, op);
    uint8_t b[FX_BYTES];
    if (!fx_aligned(cpu, va))
        return false;
    if (!CC_MEM_READ(cpu, op, budget, va, b, FX_BYTES))
        return false;
    if (get32(b + 24) & ~0xffffu) {
        cc_raise_code(cpu, EXC_GP, 0);
        return false;
    }
    cc_x87_set_words(f, (uint16_t)get16(b), (uint16_t)get16(b + 2));
    f->empty = (uint8_t)~b[4];
    f->fop = get16(b + 6) & 0x7ff;
    f->fip = wide ? get64(b + 8) : get32(b + 8);
    f->fdp = wide ? get64(b + 16) : get32(b + 16);
    unpack_regs(f, b + 32, 16);
    memcpy(cpu->xmm, b + 160, sizeof cpu->xmm);
    cc_mxcsr_set(cpu, get32(b + 24));
    return true;
}

#define FX(name, fn, wide)                                                                                             \
    CC_OP(cc_x87_##name)                                                                                               \
    {                                                                                                                  \
        X87_AVAILABLE();                                                                                               \
        if (!fn(cpu, op, budget, wide))                                                                                \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
FX(fxsave, fxsave, false)
FX(fxsave64, fxsave, true)
FX(fxrstor, fxrstor, false)
FX(fxrstor64, fxrstor, true)
