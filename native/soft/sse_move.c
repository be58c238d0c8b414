/*
 * soft/sse_move.c: moves between XMM registers, memory and general registers: whole registers, halves, low lanes,
 * duplicating moves, non-temporal and masked stores.  Streaming hints have no effect on results.
 */
#include "sse_kernels.h"

/* ---- loads and register moves ---------------------------------------------------------------------------------- */
SSE_EXPR(mov, s)
SSE_R(mov)
SSE_EXPR(movu, s)
SSE_M(movu, 16, false)
SSE_EXPR(mova, s)
SSE_M(mova, 16, true)
/* A load of one lane clears the rest; a register move keeps it. */
SSE_EXPR(ldss, s)
SSE_M(ldss, 4, false)
SSE_EXPR(ldsd, s)
SSE_M(ldsd, 8, false)
SSE_EXPR(movss, _mm_castps_si128(_mm_move_ss(_mm_castsi128_ps(d), _mm_castsi128_ps(s))))
SSE_R(movss)
SSE_EXPR(movsd, _mm_castpd_si128(_mm_move_sd(_mm_castsi128_pd(d), _mm_castsi128_pd(s))))
SSE_R(movsd)
SSE_EXPR(movq, _mm_move_epi64(s))
SSE_R(movq)
/* Halves. */
SSE_EXPR(movlps, k_movsd(cpu, op, d, s))
SSE_M(movlps, 8, false)
SSE_EXPR(movhlps, _mm_unpackhi_epi64(s, d))
SSE_R(movhlps)
SSE_EXPR(movhps, _mm_unpacklo_epi64(d, s))
SSE_M(movhps, 8, false)
SSE_EXPR(movlhps, _mm_unpacklo_epi64(d, s))
SSE_R(movlhps)
/* Duplicating moves. */
SSE_EXPR(movddup, _mm_unpacklo_epi64(s, s))
SSE_R(movddup)
SSE_M(movddup, 8, false)
SSE_EXPR(movsldup, _mm_shuffle_epi32(s, 0xa0))
SSE_RM(movsldup)
SSE_EXPR(movshdup, _mm_shuffle_epi32(s, 0xf5))
SSE_RM(movshdup)

/* Register forms of the store opcodes: ModRM.rm is the destination. */
#define MOVE_REVERSED(name, fn)                                                                                        \
    SSE_SIMPLE(name, sse_put(cpu, op->b, fn(cpu, op, sse_get(cpu, op->b), sse_get(cpu, op->r))))
MOVE_REVERSED(rev_mov, k_mov)
MOVE_REVERSED(rev_movss, k_movss)
MOVE_REVERSED(rev_movsd, k_movsd)
MOVE_REVERSED(rev_movq, k_movq)

/* ---- stores ---------------------------------------------------------------------------------------------------- */
SSE_STORE(stu, 16, false, true, &cpu->xmm[op->r])
SSE_STORE(sta, 16, true, true, &cpu->xmm[op->r])
SSE_STORE(st4, 4, false, true, &cpu->xmm[op->r])
SSE_STORE(st8, 8, false, true, &cpu->xmm[op->r])
SSE_STORE(sth, 8, false, true, &cpu->xmm[op->r].q[1])
/* MOVNTI stores a general register and does not depend on the vector unit being enabled. */
SSE_STORE(movnti32, 4, false, false, &cpu->r[op->r])
SSE_STORE(movnti64, 8, false, false, &cpu->r[op->r])

/* ---- general registers ----------------------------------------------------------------------------------------- */
SSE_SIMPLE(movd_load, sse_put(cpu, op->r, sse_q((uint32_t)cpu->r[op->b])))
SSE_SIMPLE(movq_load, sse_put(cpu, op->r, sse_q(cpu->r[op->b])))
SSE_SIMPLE(movd_store, cpu->r[op->b] = cpu->xmm[op->r].d[0])
SSE_SIMPLE(movq_store, cpu->r[op->b] = cpu->xmm[op->r].q[0])

/* ---- masked stores --------------------------------------------------------------------------------------------- */
/*
 * Bytes whose mask bit is set go to DS:RDI (or another segment, or EDI).  The whole operand is checked for writing,
 * whatever the mask, the upper half of MASKMOVDQU's first, as Intel's processors do (the SDM leaves it open); the other
 * bytes are not written.
 */
bool cc_sse_masked_store(cc_cpu *cpu, const cc_op *op, int64_t budget, const uint8_t *data, unsigned mask,
                         unsigned size)
{
    uint64_t va = cpu->r[CC_RDI];
    if (op->ss & CC_SS_A32)
        va = (uint32_t)va;
    va += cpu->segbase[CC_SS_SEG(op->ss)];
    if ((size > 8 && !cc_mem_probe_write(cpu, op, budget, va + 8, size - 8)) ||
        !cc_mem_probe_write(cpu, op, budget, va, 8))
        return false;
    for (unsigned i = 0; i < size; i++)
        if ((mask >> i & 1) && !CC_MEM_WRITE(cpu, op, budget, va + i, data + i, 1))
            return false;
    return true;
}

static CC_OP(r_maskmovdqu)
{
    if (cc_unlikely(!cpu->sse_ok))
        return cc_op_sse_unavailable(cpu, op, budget);
    unsigned mask = (unsigned)_mm_movemask_epi8(sse_get(cpu, op->b));
    if (!cc_sse_masked_store(cpu, op, budget, cpu->xmm[op->r].b, mask, 16))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}

/* ---- selection ------------------------------------------------------------------------------------------------- */
cc_opfn cc_sse_select_move(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
        SSE_CASE(1, SSE_NP, 0x10, r_mov, SSE_MEM_FORM(movu))
        SSE_CASE(1, SSE_66, 0x10, r_mov, SSE_MEM_FORM(movu))
        SSE_CASE(1, SSE_F3, 0x10, r_movss, SSE_MEM_FORM(ldss))
        SSE_CASE(1, SSE_F2, 0x10, r_movsd, SSE_MEM_FORM(ldsd))
        SSE_CASE(1, SSE_NP, 0x11, r_rev_mov, SSE_MEM_FORM(stu))
        SSE_CASE(1, SSE_66, 0x11, r_rev_mov, SSE_MEM_FORM(stu))
        SSE_CASE(1, SSE_F3, 0x11, r_rev_movss, SSE_MEM_FORM(st4))
        SSE_CASE(1, SSE_F2, 0x11, r_rev_movsd, SSE_MEM_FORM(st8))
        SSE_CASE(1, SSE_NP, 0x12, r_movhlps, SSE_MEM_FORM(movlps))
        SSE_CASE(1, SSE_66, 0x12, NULL, SSE_MEM_FORM(movlps))
        SSE_CASE(1, SSE_F3, 0x12, r_movsldup, SSE_MEM_FORM(movsldup))
        SSE_CASE(1, SSE_F2, 0x12, r_movddup, SSE_MEM_FORM(movddup))
        SSE_CASE(1, SSE_NP, 0x13, NULL, SSE_MEM_FORM(st8))
        SSE_CASE(1, SSE_66, 0x13, NULL, SSE_MEM_FORM(st8))
        SSE_CASE(1, SSE_NP, 0x16, r_movlhps, SSE_MEM_FORM(movhps))
        SSE_CASE(1, SSE_66, 0x16, NULL, SSE_MEM_FORM(movhps))
        SSE_CASE(1, SSE_F3, 0x16, r_movshdup, SSE_MEM_FORM(movshdup))
        SSE_CASE(1, SSE_NP, 0x17, NULL, SSE_MEM_FORM(sth))
        SSE_CASE(1, SSE_66, 0x17, NULL, SSE_MEM_FORM(sth))
        SSE_CASE(1, SSE_NP, 0x28, r_mov, SSE_MEM_FORM(mova))
        SSE_CASE(1, SSE_66, 0x28, r_mov, SSE_MEM_FORM(mova))
        SSE_CASE(1, SSE_NP, 0x29, r_rev_mov, SSE_MEM_FORM(sta))
        SSE_CASE(1, SSE_66, 0x29, r_rev_mov, SSE_MEM_FORM(sta))
        SSE_CASE(1, SSE_NP, 0x2b, NULL, SSE_MEM_FORM(sta))    /* MOVNTPS */
        SSE_CASE(1, SSE_66, 0x2b, NULL, SSE_MEM_FORM(sta))    /* MOVNTPD */
        SSE_CASE(1, SSE_66, 0x6e, d->rexw ? r_movq_load : r_movd_load,
                 d->rexw ? SSE_MEM_FORM(ldsd) : SSE_MEM_FORM(ldss))
        SSE_CASE(1, SSE_66, 0x6f, r_mov, SSE_MEM_FORM(mova))
        SSE_CASE(1, SSE_F3, 0x6f, r_mov, SSE_MEM_FORM(movu))
        SSE_CASE(1, SSE_66, 0x7e, d->rexw ? r_movq_store : r_movd_store,
                 d->rexw ? SSE_MEM_FORM(st8) : SSE_MEM_FORM(st4))
        SSE_CASE(1, SSE_F3, 0x7e, r_movq, SSE_MEM_FORM(ldsd))
        SSE_CASE(1, SSE_66, 0x7f, r_rev_mov, SSE_MEM_FORM(sta))
        SSE_CASE(1, SSE_F3, 0x7f, r_rev_mov, SSE_MEM_FORM(stu))
        SSE_CASE(1, SSE_NP, 0xc3, NULL, d->rexw ? SSE_MEM_FORM(movnti64) : SSE_MEM_FORM(movnti32))
        SSE_CASE(1, SSE_66, 0xd6, r_rev_movq, SSE_MEM_FORM(st8))
        SSE_CASE(1, SSE_66, 0xe7, NULL, SSE_MEM_FORM(sta))    /* MOVNTDQ */
        SSE_CASE(1, SSE_F2, 0xf0, NULL, SSE_MEM_FORM(movu))   /* LDDQU */
        SSE_CASE(1, SSE_66, 0xf7, r_maskmovdqu, NULL)
        SSE_CASE(2, SSE_66, 0x2a, NULL, SSE_MEM_FORM(mova))   /* MOVNTDQA */
    }
    return NULL;
}
