/*
 * soft/sse_lane.c: single lanes between XMM registers, general registers and memory: PINSRx, PEXTRx, INSERTPS,
 * EXTRACTPS, and the sign-mask extractions MOVMSKPx and PMOVMSKB.
 */
#include "sse_kernels.h"

/* ---- sign masks to a general register -------------------------------------------------------------------------- */
SSE_SIMPLE(movmskps, cpu->r[op->r] = (uint32_t)_mm_movemask_ps(_mm_castsi128_ps(sse_get(cpu, op->b))))
SSE_SIMPLE(movmskpd, cpu->r[op->r] = (uint32_t)_mm_movemask_pd(_mm_castsi128_pd(sse_get(cpu, op->b))))
SSE_SIMPLE(pmovmskb, cpu->r[op->r] = (uint32_t)_mm_movemask_epi8(sse_get(cpu, op->b)))

/* ---- insertion: the lane comes from the low bits of s ---------------------------------------------------------- */
SSE_EXPR(pinsrb, sse_select(sse_lane8(sse_imm(op) & 15), _mm_set1_epi8((char)sse_low(s)), d))
SSE_EXPR(pinsrw, sse_select(sse_lane16(sse_imm(op) & 7), _mm_set1_epi16((short)sse_low(s)), d))
SSE_EXPR(pinsrd, sse_select(sse_lane32(sse_imm(op) & 3), _mm_set1_epi32((int)sse_low(s)), d))
SSE_EXPR(pinsrq, sse_imm(op) & 1 ? _mm_unpacklo_epi64(d, s) : _mm_unpacklo_epi64(s, _mm_unpackhi_epi64(d, d)))
#define INSERT(name, size)                                                                                             \
    SSE_SIMPLE(name, sse_put(cpu, op->r, k_##name(cpu, op, sse_get(cpu, op->r), sse_q(cpu->r[op->b]))))                \
    SSE_M(name, size, false)
INSERT(pinsrb, 1)
INSERT(pinsrw, 2)
INSERT(pinsrd, 4)
INSERT(pinsrq, 8)

/* INSERTPS: imm8 7:6 source lane (0 for memory), 5:4 destination lane, 3:0 lanes to clear. */
static inline __m128i insertps(__m128i d, __m128i s, unsigned lane, unsigned imm)
{
    cc_xmm v = sse_split(s);
    __m128i r = sse_select(sse_lane32(imm >> 4 & 3), _mm_set1_epi32(v.sd[lane]), d);
    return _mm_andnot_si128(sse_bits32(imm), r);
}
SSE_EXPR(insertps_r, insertps(d, s, sse_imm(op) >> 6, sse_imm(op)))
SSE_R(insertps_r)
SSE_EXPR(insertps_m, insertps(d, s, 0, sse_imm(op)))
SSE_M(insertps_m, 4, false)

/* ---- extraction: zero-extended to the general register, exact size to memory ----------------------------------- */
#define EXTRACT(name, lanes, size, field)                                                                              \
    SSE_SIMPLE(name, cpu->r[op->b] = cpu->xmm[op->r].field[sse_imm(op) & ((lanes) - 1)])                               \
    SSE_STORE(name, size, false, true, &cpu->xmm[op->r].field[sse_imm(op) & ((lanes) - 1)])
EXTRACT(pextrb, 16u, 1, b)
EXTRACT(pextrw, 8u, 2, w)
EXTRACT(pextrd, 4u, 4, d)        /* EXTRACTPS too */
EXTRACT(pextrq, 2u, 8, q)

/* 0F C5: the general register is ModRM.reg here. */
SSE_SIMPLE(pextrw_c5, cpu->r[op->r] = cpu->xmm[op->b].w[sse_imm(op) & 7])

cc_opfn cc_sse_select_lane(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
        SSE_CASE_R(1, SSE_NP, 0x50, movmskps)
        SSE_CASE_R(1, SSE_66, 0x50, movmskpd)
        SSE_CASE_R(1, SSE_66, 0xd7, pmovmskb)
        SSE_CASE_RM(1, SSE_66, 0xc4, pinsrw)
        SSE_CASE_R(1, SSE_66, 0xc5, pextrw_c5)
        SSE_CASE_RM(3, SSE_66, 0x14, pextrb)
        SSE_CASE_RM(3, SSE_66, 0x15, pextrw)
        SSE_CASE(3, SSE_66, 0x16, d->rexw ? r_pextrq : r_pextrd, d->rexw ? SSE_MEM_FORM(pextrq) : SSE_MEM_FORM(pextrd))
        SSE_CASE_RM(3, SSE_66, 0x17, pextrd)
        SSE_CASE_RM(3, SSE_66, 0x20, pinsrb)
        SSE_CASE(3, SSE_66, 0x21, r_insertps_r, SSE_MEM_FORM(insertps_m))
        SSE_CASE(3, SSE_66, 0x22, d->rexw ? r_pinsrq : r_pinsrd, d->rexw ? SSE_MEM_FORM(pinsrq) : SSE_MEM_FORM(pinsrd))
    }
    return NULL;
}
