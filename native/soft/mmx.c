/*
 * soft/mmx.c: MMX instructions and their SSE to SSSE3 extensions on MMX registers.  The operations are those of
 * sse_kernels.h on the low halves of host vector registers; what crosses lanes gets both operands in one register.
 *
 * MMX register i is the significand of physical x87 register i.  Every MMX instruction but EMMS does the transition
 * (SDM vol. 3, 12.2): TOP = 0, all tags valid; a write sets sign and exponent to ones.  #UD (CR0.EM), #NM (CR0.TS) and
 * #MF (pending x87 exception) come first, and CR4.OSFXSR does not matter unless an XMM register is involved.
 */
#include "sse_kernels.h"

#define FSW_ES 0x80u

/* The transition would change and raise nothing. */
static inline bool mmx_ready(const cc_cpu *cpu)
{
    return cpu->fpu_ok && cpu->fpu.top == 0 && cpu->fpu.empty == 0 && !(cpu->fpu.fsw & FSW_ES);
}
/* For instructions in which nothing else can fail. */
static inline bool mmx_enter(cc_cpu *cpu) { return cc_likely(mmx_ready(cpu)) || cc_mmx_enter(cpu); }

static inline __m128i mmx_get(const cc_cpu *cpu, unsigned i) { return sse_q(cpu->fpu.st[i & 7].mant); }
static inline void mmx_put(cc_cpu *cpu, unsigned i, __m128i v)
{
    cpu->fpu.st[i & 7].mant = sse_low(v);
    cpu->fpu.st[i & 7].sexp = 0xffff;
}

#define MMX_R(name)                                                                                                    \
    static CC_OP(r_##name)                                                                                             \
    {                                                                                                                  \
        if (!mmx_enter(cpu))                                                                                           \
            return cc_op_fault(cpu, op, budget);                                                                       \
        mmx_put(cpu, op->r, k_##name(cpu, op, mmx_get(cpu, op->r), mmx_get(cpu, op->b)));                              \
        CC_NEXT();                                                                                                     \
    }
/* Memory forms are rare enough to take the slow path always. */
#define MMX_M(name, size)                                                                                              \
    static CC_OP(m_##name)                                                                                             \
    {                                                                                                                  \
        if (!cc_sse_slow(cpu, op, budget, k_##name, (size) | SSE_MEM | SSE_MMX | SSE_DST_MM))                          \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }

/* ---- mm, mm/m64: X(map, opcode, name) -------------------------------------------------------------------------- */
/* Lane by lane: the low half of the XMM operation. */
#define MMX_LANES(X)                                                                                                   \
    X(1, 0x64, pcmpgtb) X(1, 0x65, pcmpgtw) X(1, 0x66, pcmpgtd) X(1, 0x74, pcmpeqb) X(1, 0x75, pcmpeqw)                \
    X(1, 0x76, pcmpeqd)                                                                                                \
    X(1, 0xd1, psrlw) X(1, 0xd2, psrld) X(1, 0xd3, psrlq) X(1, 0xd4, paddq) X(1, 0xd5, pmullw) X(1, 0xd8, psubusb)     \
    X(1, 0xd9, psubusw) X(1, 0xda, pminub) X(1, 0xdb, pand) X(1, 0xdc, paddusb) X(1, 0xdd, paddusw)                    \
    X(1, 0xde, pmaxub) X(1, 0xdf, pandn)                                                                               \
    X(1, 0xe0, pavgb) X(1, 0xe1, psraw) X(1, 0xe2, psrad) X(1, 0xe3, pavgw) X(1, 0xe4, pmulhuw) X(1, 0xe5, pmulhw)     \
    X(1, 0xe8, psubsb) X(1, 0xe9, psubsw) X(1, 0xea, pminsw) X(1, 0xeb, por) X(1, 0xec, paddsb) X(1, 0xed, paddsw)     \
    X(1, 0xee, pmaxsw) X(1, 0xef, pxor)                                                                                \
    X(1, 0xf1, psllw) X(1, 0xf2, pslld) X(1, 0xf3, psllq) X(1, 0xf4, pmuludq) X(1, 0xf5, pmaddwd) X(1, 0xf6, psadbw)   \
    X(1, 0xf8, psubb) X(1, 0xf9, psubw) X(1, 0xfa, psubd) X(1, 0xfb, psubq) X(1, 0xfc, paddb) X(1, 0xfd, paddw)        \
    X(1, 0xfe, paddd)                                                                                                  \
    X(2, 0x04, pmaddubsw) X(2, 0x08, psignb) X(2, 0x09, psignw) X(2, 0x0a, psignd) X(2, 0x0b, pmulhrsw)                \
    X(2, 0x1c, pabsb) X(2, 0x1d, pabsw) X(2, 0x1e, pabsd)
#define DEFINE_LANES(map, opcode, name)                                                                                \
    SSE_EXPR(mm_##name, k_##name(cpu, op, d, s)) MMX_R(mm_##name) MMX_M(mm_##name, 8)
MMX_LANES(DEFINE_LANES)

/* Lanes of d then of s: the low half of the XMM operation on both joined. */
#define MMX_JOINED(X)                                                                                                  \
    X(1, 0x63, packsswb) X(1, 0x67, packuswb) X(1, 0x6b, packssdw)                                                     \
    X(2, 0x01, phaddw) X(2, 0x02, phaddd) X(2, 0x03, phaddsw) X(2, 0x05, phsubw) X(2, 0x06, phsubd) X(2, 0x07, phsubsw)
#define DEFINE_JOINED(map, opcode, name)                                                                               \
    SSE_EXPR(mm_##name, k_##name(cpu, op, _mm_unpacklo_epi64(d, s), _mm_unpacklo_epi64(d, s)))                         \
    MMX_R(mm_##name) MMX_M(mm_##name, 8)
MMX_JOINED(DEFINE_JOINED)

/* PUNPCKH: the high half of the low-half interleave; PUNPCKL from memory reads 4 bytes. */
SSE_EXPR(mm_punpckhbw, _mm_srli_si128(_mm_unpacklo_epi8(d, s), 8))
SSE_EXPR(mm_punpckhwd, _mm_srli_si128(_mm_unpacklo_epi16(d, s), 8))
SSE_EXPR(mm_punpckhdq, _mm_srli_si128(_mm_unpacklo_epi32(d, s), 8))
SSE_EXPR(mm_punpcklbw, _mm_unpacklo_epi8(d, s))
SSE_EXPR(mm_punpcklwd, _mm_unpacklo_epi16(d, s))
SSE_EXPR(mm_punpckldq, _mm_unpacklo_epi32(d, s))
MMX_R(mm_punpckhbw)
MMX_M(mm_punpckhbw, 8)
MMX_R(mm_punpckhwd)
MMX_M(mm_punpckhwd, 8)
MMX_R(mm_punpckhdq)
MMX_M(mm_punpckhdq, 8)
MMX_R(mm_punpcklbw)
MMX_M(mm_punpcklbw, 4)
MMX_R(mm_punpcklwd)
MMX_M(mm_punpcklwd, 4)
MMX_R(mm_punpckldq)
MMX_M(mm_punpckldq, 4)

/* Indices are 3 bits wide: those of the XMM operation on a table repeated twice. */
SSE_EXPR(mm_pshufb, k_pshufb(cpu, op, _mm_unpacklo_epi64(d, d), s))
MMX_R(mm_pshufb)
MMX_M(mm_pshufb, 8)
SSE_EXPR(mm_pshufw, sse_q(sse_shuffle4w(sse_low(s), sse_imm(op))))
MMX_R(mm_pshufw)
MMX_M(mm_pshufw, 8)
SSE_FN(mm_palignr)
{
    unsigned n = sse_imm(op);
    return n > 15 ? sse_zero() : sse_from_u128(sse_to_u128(_mm_unpacklo_epi64(s, d)) >> 8 * n);
}
MMX_R(mm_palignr)
MMX_M(mm_palignr, 8)

/* mm, imm8: ModRM.rm is source and destination */
#define MMX_SHIFT(X)                                                                                                   \
    X(0x71, 2, psrlw_i) X(0x71, 4, psraw_i) X(0x71, 6, psllw_i) X(0x72, 2, psrld_i) X(0x72, 4, psrad_i)                \
    X(0x72, 6, pslld_i) X(0x73, 2, psrlq_i) X(0x73, 6, psllq_i)
#define DEFINE_SHIFT(opcode, ext, name)                                                                                \
    static CC_OP(r_mm_##name)                                                                                          \
    {                                                                                                                  \
        if (!mmx_enter(cpu))                                                                                           \
            return cc_op_fault(cpu, op, budget);                                                                       \
        __m128i v = mmx_get(cpu, op->b);                                                                               \
        mmx_put(cpu, op->b, k_##name(cpu, op, v, v));                                                                  \
        CC_NEXT();                                                                                                     \
    }
MMX_SHIFT(DEFINE_SHIFT)

/* ---- moves ----------------------------------------------------------------------------------------------------- */
SSE_EXPR(mm_movq, s)
MMX_R(mm_movq)
MMX_M(mm_movq, 8)
SSE_EXPR(mm_movd, s)
MMX_M(mm_movd, 4)
SSE_EXPR(mm_pinsrw, sse_select(sse_lane16(sse_imm(op) & 3), _mm_set1_epi16((short)sse_low(s)), d))
MMX_M(mm_pinsrw, 2)

#define MMX_SIMPLE(name, statement)                                                                                    \
    static CC_OP(r_##name)                                                                                             \
    {                                                                                                                  \
        if (!mmx_enter(cpu))                                                                                           \
            return cc_op_fault(cpu, op, budget);                                                                       \
        statement;                                                                                                     \
        CC_NEXT();                                                                                                     \
    }
MMX_SIMPLE(mm_pinsrw, mmx_put(cpu, op->r, k_mm_pinsrw(cpu, op, mmx_get(cpu, op->r), sse_q(cpu->r[op->b]))))
MMX_SIMPLE(mm_pextrw, cpu->r[op->r] = (uint16_t)(cpu->fpu.st[op->b & 7].mant >> 16 * (sse_imm(op) & 3)))
MMX_SIMPLE(mm_pmovmskb, cpu->r[op->r] = (uint32_t)_mm_movemask_epi8(mmx_get(cpu, op->b)))
MMX_SIMPLE(mm_movd_load, mmx_put(cpu, op->r, sse_q((uint32_t)cpu->r[op->b])))
MMX_SIMPLE(mm_movq_load, mmx_put(cpu, op->r, sse_q(cpu->r[op->b])))
MMX_SIMPLE(mm_movd_store, cpu->r[op->b] = (uint32_t)cpu->fpu.st[op->r & 7].mant)
MMX_SIMPLE(mm_movq_store, cpu->r[op->b] = cpu->fpu.st[op->r & 7].mant)
MMX_SIMPLE(mm_rev_movq, mmx_put(cpu, op->b, mmx_get(cpu, op->r)))
/* EMMS: checks as the others do, then all registers are empty. */
MMX_SIMPLE(mm_emms, cpu->fpu.empty = 0xff)

/* Between MMX and XMM registers. */
static CC_OP(r_movq2dq)
{
    if (cc_unlikely(!cpu->sse_ok))
        return cc_op_sse_unavailable(cpu, op, budget);
    if (!mmx_enter(cpu))
        return cc_op_fault(cpu, op, budget);
    sse_put(cpu, op->r, mmx_get(cpu, op->b));
    CC_NEXT();
}
static CC_OP(r_movdq2q)
{
    if (cc_unlikely(!cpu->sse_ok))
        return cc_op_sse_unavailable(cpu, op, budget);
    if (!mmx_enter(cpu))
        return cc_op_fault(cpu, op, budget);
    mmx_put(cpu, op->r, sse_get(cpu, op->b));
    CC_NEXT();
}

/* ---- stores ---------------------------------------------------------------------------------------------------- */
/* The transition and a store of size bytes, or neither; size 0: MASKMOVQ, whose transition takes place even if it
 * faults, as processors do it. */
static bool store(cc_cpu *cpu, const cc_op *op, int64_t budget, unsigned size)
{
    uint8_t top = cpu->fpu.top, empty = cpu->fpu.empty;
    if (!mmx_enter(cpu))
        return false;
    const uint64_t *src = &cpu->fpu.st[op->r & 7].mant;
    bool ok = size ? CC_MEM_WRITE(cpu, op, budget, cc_ea(cpu, op), src, size)
                   : cc_sse_masked_store(cpu, op, budget, (const uint8_t *)src,
                                         (unsigned)_mm_movemask_epi8(mmx_get(cpu, op->b)), 8);
    if (!ok && size) {
        cpu->fpu.top = top;
        cpu->fpu.empty = empty;
    }
    return ok;
}
#define MMX_STORE(name, size)                                                                                          \
    static CC_OP(name)                                                                                                 \
    {                                                                                                                  \
        if (!store(cpu, op, budget, size))                                                                             \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }
MMX_STORE(m_mm_st4, 4)
MMX_STORE(m_mm_st8, 8)
MMX_STORE(r_maskmovq, 0)

/* ---- selection ------------------------------------------------------------------------------------------------- */
cc_opfn cc_mmx_select(const cc_dec *d, const cc_op *op CC_UNUSED, unsigned key)
{
#define CASE_MM(map, opcode, name) case SSE_KEY(map, SSE_NP, opcode): return d->mem ? m_mm_##name : r_mm_##name;
#define CASE2(map, prefix, opcode, reg, memory)                                                                        \
    case SSE_KEY(map, prefix, opcode): return d->mem ? memory : reg;
#define CASE_SHIFT(opcode, ext, name) case (opcode) << 3 | (ext): return r_mm_##name;
    switch (key) {
        MMX_LANES(CASE_MM)
        MMX_JOINED(CASE_MM)
        CASE_MM(1, 0x60, punpcklbw)
        CASE_MM(1, 0x61, punpcklwd)
        CASE_MM(1, 0x62, punpckldq)
        CASE_MM(1, 0x68, punpckhbw)
        CASE_MM(1, 0x69, punpckhwd)
        CASE_MM(1, 0x6a, punpckhdq)
        CASE_MM(1, 0x70, pshufw)
        CASE_MM(2, 0x00, pshufb)
        CASE_MM(3, 0x0f, palignr)
        CASE2(1, SSE_NP, 0x6e, d->rexw ? r_mm_movq_load : r_mm_movd_load, d->rexw ? m_mm_movq : m_mm_movd)
        CASE2(1, SSE_NP, 0x6f, r_mm_movq, m_mm_movq)
        CASE2(1, SSE_NP, 0x7e, d->rexw ? r_mm_movq_store : r_mm_movd_store, d->rexw ? m_mm_st8 : m_mm_st4)
        CASE2(1, SSE_NP, 0x7f, r_mm_rev_movq, m_mm_st8)
        CASE2(1, SSE_NP, 0xc4, r_mm_pinsrw, m_mm_pinsrw)
        CASE2(1, SSE_NP, 0xc5, r_mm_pextrw, NULL)
        CASE2(1, SSE_F3, 0xd6, r_movq2dq, NULL)
        CASE2(1, SSE_F2, 0xd6, r_movdq2q, NULL)
        CASE2(1, SSE_NP, 0xd7, r_mm_pmovmskb, NULL)
        CASE2(1, SSE_NP, 0xe7, NULL, m_mm_st8)                  /* MOVNTQ */
        CASE2(1, SSE_NP, 0xf7, r_maskmovq, NULL)
    case SSE_KEY(1, SSE_NP, 0x77):
        return r_mm_emms;
    case SSE_KEY(1, SSE_NP, 0x71):
    case SSE_KEY(1, SSE_NP, 0x72):
    case SSE_KEY(1, SSE_NP, 0x73):
        if (!d->mem)
            switch (d->opcode << 3 | d->reg) { MMX_SHIFT(CASE_SHIFT) }
        return NULL;
    }
    return NULL;
}
