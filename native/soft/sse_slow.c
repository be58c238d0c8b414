/*
 * soft/sse_slow.c: MXCSR, and the complete but slow execution of one SSE or MMX instruction, for what the fast handlers
 * leave out: TLB misses, misalignment, unmasked SIMD floating-point exceptions.
 */
#include "sse.h"

static inline uint32_t host_get(void)
{
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v) : : "memory");
    return v;
}
static inline void host_set(uint32_t v) { __asm__ volatile("ldmxcsr %0" : : "m"(v) : "memory"); }

/* What the host's MXCSR is while blocks execute.  Flush-to-zero works only while underflow is masked (SDM vol. 1,
 * 10.2.3.3), so it must not reach the host, where everything is masked, otherwise. */
static uint32_t host_image(uint32_t mxcsr)
{
    uint32_t keep = MX_FLAGS | MX_DAZ | MX_RC | (mxcsr & MX_UM ? MX_FTZ : 0);
    return (mxcsr & keep) | MX_MASKS;
}

void cc_mxcsr_enter(cc_cpu *cpu)
{
    if (!cpu->mxcsr_live) {
        cpu->host_mxcsr = host_get();
        cpu->mxcsr_live = 1;
    }
    cpu->mxcsr_unmasked = (~cpu->mxcsr & MX_MASKS) != 0;
    host_set(host_image(cpu->mxcsr));
}

void cc_mxcsr_sync(cc_cpu *cpu)
{
    if (cpu->mxcsr_live)
        cpu->mxcsr |= host_get() & MX_FLAGS;
}

void cc_mxcsr_leave(cc_cpu *cpu)
{
    if (!cpu->mxcsr_live)
        return;
    cc_mxcsr_sync(cpu);
    cpu->mxcsr_live = 0;
    host_set(cpu->host_mxcsr);
}

void cc_mxcsr_set(cc_cpu *cpu, uint32_t value)
{
    cpu->mxcsr = value & MX_VALID;
    cpu->mxcsr_unmasked = (~value & MX_MASKS) != 0;
    if (cpu->mxcsr_live)
        host_set(host_image(cpu->mxcsr));
}

/* ---- unmasked exceptions --------------------------------------------------------------------------------------- */
/*
 * Execute fn with the sticky flags cleared and see which it sets (SDM vol. 1, 11.5.2 and 11.5.3): if an unmasked
 * exception is among those detected before the operation, those detected after it are not reported.  Flags are set
 * in either case; the result is delivered only if no unmasked exception occurred.
 */
static bool execute_guarded(cc_cpu *cpu, const cc_op *op, cc_sse_fn *fn, unsigned spec, __m128i *d, __m128i s)
{
    uint32_t before = cpu->mxcsr, host = host_get(), unmasked = ~(before >> 7) & MX_FLAGS;
    cpu->mxcsr &= ~MX_FLAGS;
    host_set(host & ~MX_FLAGS);
    __m128i result = fn(cpu, op, *d, s);
    uint32_t flags = (host_get() | cpu->mxcsr) & MX_FLAGS;
    host_set(host);
    flags = cc_sse_range_flags(flags, spec, before, *d, s);
    if ((flags & unmasked & MX_PRE) && !(spec & SSE_STAGED))
        flags &= MX_PRE;
    cpu->mxcsr = before | flags;
    if (flags & unmasked) {
        cc_raise(cpu, cpu->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
        return false;
    }
    *d = result;
    return true;
}

/* ---- one instruction ------------------------------------------------------------------------------------------- */
bool cc_sse_aligned(cc_cpu *cpu, uint64_t va)
{
    if (!(va & 15))
        return true;
    cc_raise_code(cpu, EXC_GP, 0);      /* also where a non-canonical address of the stack's would be #SS */
    return false;
}

static bool execute(cc_cpu *cpu, const cc_op *op, int64_t budget, cc_sse_fn *fn, unsigned spec)
{
    cc_xmm src = {.q = {0, 0}};
    if (spec & SSE_MEM) {
        uint64_t va = cc_ea(cpu, op);
        if ((spec & SSE_ALIGN) && !cc_sse_aligned(cpu, va))
            return false;
        if (!CC_MEM_READ(cpu, op, budget, va, &src, SSE_SIZE(spec)))
            return false;
    } else if (spec & SSE_SRC_GPR) {
        src.q[0] = cpu->r[op->b];
    } else if (spec & SSE_SRC_MM) {
        src.q[0] = cpu->fpu.st[op->b & 7].mant;
    } else {
        src = cpu->xmm[op->b];
    }
    __m128i s = sse_of(&src);
    __m128i d = spec & SSE_DST_MM ? sse_q(cpu->fpu.st[op->r & 7].mant) : sse_get(cpu, op->r);
    if ((spec & SSE_FP) && cpu->mxcsr_unmasked) {
        if (!execute_guarded(cpu, op, fn, spec, &d, s))
            return false;
    } else {
        d = fn(cpu, op, d, s);
    }
    if (spec & SSE_DST_GPR) {
        cpu->r[op->r] = sse_low(d);
    } else if (spec & SSE_DST_FLAGS) {
        cc_set_arith_flags(cpu, (uint32_t)sse_low(d));
    } else if (spec & SSE_DST_MM) {
        cpu->fpu.st[op->r & 7].mant = sse_low(d);
        cpu->fpu.st[op->r & 7].sexp = 0xffff;
    } else {
        sse_put(cpu, op->r, d);
    }
    return true;
}

bool cc_sse_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, cc_sse_fn *fn, unsigned spec)
{
    if (!(spec & SSE_MMX))
        return execute(cpu, op, budget, fn, spec);
    /* #UD, #NM and #MF come before anything else, then memory faults, which change nothing; the transition takes place
     * also where an unmasked SIMD exception keeps the result back, as processors do it. */
    uint8_t top = cpu->fpu.top, empty = cpu->fpu.empty;
    if (!cc_mmx_enter(cpu))
        return false;
    if (execute(cpu, op, budget, fn, spec))
        return true;
    if (cpu->fault.vector != EXC_XM && cpu->fault.vector != EXC_UD) {
        cpu->fpu.top = top;
        cpu->fpu.empty = empty;
    }
    return false;
}
