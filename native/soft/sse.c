/*
 * soft/sse.c: from an SSE or MMX opcode to its handler; and the instructions that access no vector register: LDMXCSR,
 * STMXCSR, fences, CLFLUSH, prefetches.
 */
#include "sse.h"

/* Hints and fences: memory is coherent and instructions are executed in order anyway. */
static CC_OP(r_nothing)
{
    CC_NEXT();
}

/* ---- MXCSR ----------------------------------------------------------------------------------------------------- */
static CC_COLD bool load_mxcsr(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    uint32_t v;
    if (!cc_ld32(cpu, op, budget, cc_ea(cpu, op), &v))
        return false;
    if (v & ~MX_VALID) {
        cc_raise_code(cpu, EXC_GP, 0);
        return false;
    }
    cc_mxcsr_set(cpu, v);
    return true;
}
static CC_OP(m_ldmxcsr)
{
    if (cc_unlikely(!cpu->sse_ok))
        return cc_op_sse_unavailable(cpu, op, budget);
    if (!load_mxcsr(cpu, op, budget))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

static CC_COLD bool store_mxcsr(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cc_mxcsr_sync(cpu);
    return cc_st32(cpu, op, budget, cc_ea(cpu, op), cpu->mxcsr);
}
static CC_OP(m_stmxcsr)
{
    if (cc_unlikely(!cpu->sse_ok))
        return cc_op_sse_unavailable(cpu, op, budget);
    if (!store_mxcsr(cpu, op, budget))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

/* ---- CLFLUSH: the address is checked as for a load of one byte ------------------------------------------------- */
static CC_COLD bool touch(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    uint8_t v;
    return cc_ld8(cpu, op, budget, cc_ea(cpu, op), &v);
}
static CC_OP(m_clflush)
{
    if (!touch(cpu, op, budget))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

/* 0F AE without a mandatory prefix, except /0 and /1 (FXSAVE, FXRSTOR); XSAVE and its kin are not offered. */
static cc_opfn select_group15(const cc_dec *d)
{
    switch (d->reg) {
    case 2: return d->mem ? m_ldmxcsr : NULL;
    case 3: return d->mem ? m_stmxcsr : NULL;
    case 5: return d->mem ? NULL : r_nothing;                /* LFENCE */
    case 6: return d->mem ? NULL : r_nothing;                /* MFENCE */
    case 7: return d->mem ? m_clflush : r_nothing;           /* SFENCE */
    }
    return NULL;
}

cc_opfn cc_sse_select(const cc_dec *d, cc_op *op)
{
    unsigned prefix = d->rep == 0xf3 ? SSE_F3 : d->rep == 0xf2 ? SSE_F2 : d->opsize ? SSE_66 : SSE_NP;
    unsigned key = SSE_KEY((unsigned)d->map, prefix, (unsigned)d->opcode);
    static cc_opfn (*const select[])(const cc_dec *, const cc_op *, unsigned) = {
        cc_sse_select_move, cc_sse_select_int, cc_sse_select_fp, cc_sse_select_cvt, cc_sse_select_lane,
        cc_sse_select_fp4, cc_sse_select_approx, cc_sse_select_str, cc_mmx_select, cc_mmx_select_cvt,
    };
    cc_opfn fn;

    if (d->map == 1 && (d->opcode == 0x18 || d->opcode == 0x0d))      /* prefetches; other forms are reserved NOPs */
        return r_nothing;
    if (key == SSE_KEY(1, SSE_NP, 0xae))
        return select_group15(d);
    if (key == SSE_KEY(1, SSE_66, 0xf7) || key == SSE_KEY(1, SSE_NP, 0xf7))      /* MASKMOVx: DS:rDI is implied */
        op->ss = (uint8_t)(d->seg << 2 | (d->a32 ? CC_SS_A32 : 0));
    for (unsigned i = 0; i < sizeof select / sizeof *select; i++)
        if ((fn = select[i](d, op, key)) != NULL)
            return fn;
    return NULL;
}
