/*
 * soft/sse_int.c: packed-integer instructions on XMM registers, SSE2 to SSE4.2, and the floating-point shuffles and
 * logical instructions, which are the same operations on bits.  The operations are in sse_kernels.h.
 */
#include "sse_kernels.h"

/* xmm, xmm/m128 (aligned) */
#define INT_RM(X)                                                                                                      \
    X(1, SSE_66, 0x60, punpcklbw) X(1, SSE_66, 0x61, punpcklwd) X(1, SSE_66, 0x62, punpckldq)                          \
    X(1, SSE_66, 0x63, packsswb) X(1, SSE_66, 0x64, pcmpgtb) X(1, SSE_66, 0x65, pcmpgtw) X(1, SSE_66, 0x66, pcmpgtd)   \
    X(1, SSE_66, 0x67, packuswb) X(1, SSE_66, 0x68, punpckhbw) X(1, SSE_66, 0x69, punpckhwd)                           \
    X(1, SSE_66, 0x6a, punpckhdq) X(1, SSE_66, 0x6b, packssdw) X(1, SSE_66, 0x6c, punpcklqdq)                          \
    X(1, SSE_66, 0x6d, punpckhqdq)                                                                                     \
    X(1, SSE_66, 0x70, pshufd) X(1, SSE_F3, 0x70, pshufhw) X(1, SSE_F2, 0x70, pshuflw)                                 \
    X(1, SSE_66, 0x74, pcmpeqb) X(1, SSE_66, 0x75, pcmpeqw) X(1, SSE_66, 0x76, pcmpeqd)                                \
    X(1, SSE_NP, 0xc6, shufps) X(1, SSE_66, 0xc6, shufpd)                                                              \
    X(1, SSE_66, 0xd1, psrlw) X(1, SSE_66, 0xd2, psrld) X(1, SSE_66, 0xd3, psrlq) X(1, SSE_66, 0xd4, paddq)            \
    X(1, SSE_66, 0xd5, pmullw) X(1, SSE_66, 0xd8, psubusb) X(1, SSE_66, 0xd9, psubusw) X(1, SSE_66, 0xda, pminub)      \
    X(1, SSE_66, 0xdb, pand) X(1, SSE_66, 0xdc, paddusb) X(1, SSE_66, 0xdd, paddusw) X(1, SSE_66, 0xde, pmaxub)        \
    X(1, SSE_66, 0xdf, pandn)                                                                                          \
    X(1, SSE_66, 0xe0, pavgb) X(1, SSE_66, 0xe1, psraw) X(1, SSE_66, 0xe2, psrad) X(1, SSE_66, 0xe3, pavgw)            \
    X(1, SSE_66, 0xe4, pmulhuw) X(1, SSE_66, 0xe5, pmulhw) X(1, SSE_66, 0xe8, psubsb) X(1, SSE_66, 0xe9, psubsw)       \
    X(1, SSE_66, 0xea, pminsw) X(1, SSE_66, 0xeb, por) X(1, SSE_66, 0xec, paddsb) X(1, SSE_66, 0xed, paddsw)           \
    X(1, SSE_66, 0xee, pmaxsw) X(1, SSE_66, 0xef, pxor)                                                                \
    X(1, SSE_66, 0xf1, psllw) X(1, SSE_66, 0xf2, pslld) X(1, SSE_66, 0xf3, psllq) X(1, SSE_66, 0xf4, pmuludq)          \
    X(1, SSE_66, 0xf5, pmaddwd) X(1, SSE_66, 0xf6, psadbw) X(1, SSE_66, 0xf8, psubb) X(1, SSE_66, 0xf9, psubw)         \
    X(1, SSE_66, 0xfa, psubd) X(1, SSE_66, 0xfb, psubq) X(1, SSE_66, 0xfc, paddb) X(1, SSE_66, 0xfd, paddw)            \
    X(1, SSE_66, 0xfe, paddd)                                                                                          \
    X(2, SSE_66, 0x00, pshufb) X(2, SSE_66, 0x01, phaddw) X(2, SSE_66, 0x02, phaddd) X(2, SSE_66, 0x03, phaddsw)       \
    X(2, SSE_66, 0x04, pmaddubsw) X(2, SSE_66, 0x05, phsubw) X(2, SSE_66, 0x06, phsubd) X(2, SSE_66, 0x07, phsubsw)    \
    X(2, SSE_66, 0x08, psignb) X(2, SSE_66, 0x09, psignw) X(2, SSE_66, 0x0a, psignd) X(2, SSE_66, 0x0b, pmulhrsw)      \
    X(2, SSE_66, 0x10, pblendvb) X(2, SSE_66, 0x14, blendvps) X(2, SSE_66, 0x15, blendvpd)                             \
    X(2, SSE_66, 0x1c, pabsb) X(2, SSE_66, 0x1d, pabsw) X(2, SSE_66, 0x1e, pabsd)                                      \
    X(2, SSE_66, 0x28, pmuldq) X(2, SSE_66, 0x29, pcmpeqq) X(2, SSE_66, 0x2b, packusdw) X(2, SSE_66, 0x37, pcmpgtq)    \
    X(2, SSE_66, 0x38, pminsb) X(2, SSE_66, 0x39, pminsd) X(2, SSE_66, 0x3a, pminuw) X(2, SSE_66, 0x3b, pminud)        \
    X(2, SSE_66, 0x3c, pmaxsb) X(2, SSE_66, 0x3d, pmaxsd) X(2, SSE_66, 0x3e, pmaxuw) X(2, SSE_66, 0x3f, pmaxud)        \
    X(2, SSE_66, 0x40, pmulld) X(2, SSE_66, 0x41, phminposuw)                                                          \
    X(3, SSE_66, 0x0c, blendps) X(3, SSE_66, 0x0d, blendpd) X(3, SSE_66, 0x0e, pblendw) X(3, SSE_66, 0x0f, palignr)    \
    X(3, SSE_66, 0x42, mpsadbw)

/* The same handlers under a second opcode: UNPCKx, ANDx, ORx, XORx. */
#define INT_ALIAS(X)                                                                                                   \
    X(1, SSE_NP, 0x14, punpckldq) X(1, SSE_66, 0x14, punpcklqdq)                                                       \
    X(1, SSE_NP, 0x15, punpckhdq) X(1, SSE_66, 0x15, punpckhqdq)                                                       \
    X(1, SSE_NP, 0x54, pand) X(1, SSE_66, 0x54, pand) X(1, SSE_NP, 0x55, pandn) X(1, SSE_66, 0x55, pandn)              \
    X(1, SSE_NP, 0x56, por) X(1, SSE_66, 0x56, por) X(1, SSE_NP, 0x57, pxor) X(1, SSE_66, 0x57, pxor)

/* xmm, xmm/m64, m32, m16 (no alignment) */
#define INT_EXTEND(X)                                                                                                  \
    X(0x20, pmovsxbw, 8) X(0x21, pmovsxbd, 4) X(0x22, pmovsxbq, 2) X(0x23, pmovsxwd, 8) X(0x24, pmovsxwq, 4)           \
    X(0x25, pmovsxdq, 8) X(0x30, pmovzxbw, 8) X(0x31, pmovzxbd, 4) X(0x32, pmovzxbq, 2) X(0x33, pmovzxwd, 8)           \
    X(0x34, pmovzxwq, 4) X(0x35, pmovzxdq, 8)

/* xmm, imm8: ModRM.rm is source and destination */
#define INT_SHIFT(X)                                                                                                   \
    X(0x71, 2, psrlw_i) X(0x71, 4, psraw_i) X(0x71, 6, psllw_i) X(0x72, 2, psrld_i) X(0x72, 4, psrad_i)                \
    X(0x72, 6, pslld_i) X(0x73, 2, psrlq_i) X(0x73, 3, psrldq) X(0x73, 6, psllq_i) X(0x73, 7, pslldq)

/* PSHUFD constants that compilers emit most get a handler each: broadcasts, swaps, rotations, reversal. */
#define INT_PSHUFD(X)                                                                                                  \
    X(0x00) X(0x1b) X(0x39) X(0x44) X(0x4e) X(0x55) X(0x93) X(0xaa) X(0xb1) X(0xe0) X(0xe5) X(0xee) X(0xf5) X(0xff)

#define DEFINE_RM(map, prefix, opcode, name) SSE_RM(name)
INT_RM(DEFINE_RM)

#define DEFINE_EXTEND(opcode, name, size) SSE_R(name) SSE_M(name, size, false)
INT_EXTEND(DEFINE_EXTEND)

#define DEFINE_SHIFT(opcode, ext, name)                                                                                \
    SSE_SIMPLE(name, sse_put(cpu, op->b, k_##name(cpu, op, sse_get(cpu, op->b), sse_zero())))
INT_SHIFT(DEFINE_SHIFT)

#define DEFINE_PSHUFD(imm)                                                                                             \
    SSE_EXPR(pshufd_##imm, _mm_shuffle_epi32(s, imm))                                                                  \
    SSE_R(pshufd_##imm)
INT_PSHUFD(DEFINE_PSHUFD)

/* PXOR and PCMPEQ of a register with itself: the value does not depend on it. */
SSE_EXPR(zero, sse_zero())
SSE_R(zero)
SSE_EXPR(ones, _mm_set1_epi32(-1))
SSE_R(ones)

/* PTEST: ZF = no bit of s in d, CF = every bit of s in d. */
static inline uint32_t ptest(__m128i d, __m128i s)
{
    unsigned z = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(d, s), sse_zero()));
    unsigned c = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_andnot_si128(d, s), sse_zero()));
    return (z == 0xffff ? FL_ZF : 0) | (c == 0xffff ? FL_CF : 0);
}
SSE_EXPR(ptest, _mm_cvtsi32_si128((int)ptest(d, s)))
SSE_TWIN(ms_ptest, k_ptest, 16 | SSE_MEM | SSE_ALIGN | SSE_DST_FLAGS)
SSE_SIMPLE(ptest, cc_set_arith_flags(cpu, ptest(sse_get(cpu, op->r), sse_get(cpu, op->b))))
SSE_LOAD(ptest, !cpu->sse_ok, 16, true, cc_set_arith_flags(cpu, ptest(sse_get(cpu, op->r), s)))

/* ---- selection ------------------------------------------------------------------------------------------------- */
static cc_opfn select_shift(const cc_dec *d)
{
    if (d->mem)
        return NULL;
#define CASE_SHIFT(opcode, ext, name) case (opcode) << 3 | (ext): return r_##name;
    switch (d->opcode << 3 | d->reg) { INT_SHIFT(CASE_SHIFT) }
    return NULL;
}

/* Register forms whose operands or immediate allow a shorter handler. */
static cc_opfn select_special(const cc_op *op, unsigned key)
{
#define CASE_PSHUFD(imm) case imm: return r_pshufd_##imm;
    switch (key) {
    case SSE_KEY(1, SSE_66, 0x70):
        switch (sse_imm(op)) { INT_PSHUFD(CASE_PSHUFD) }
        return NULL;
    case SSE_KEY(1, SSE_66, 0xef):
    case SSE_KEY(1, SSE_NP, 0x57):
    case SSE_KEY(1, SSE_66, 0x57):
        return op->r == op->b ? r_zero : NULL;
    case SSE_KEY(1, SSE_66, 0x74):
    case SSE_KEY(1, SSE_66, 0x75):
    case SSE_KEY(1, SSE_66, 0x76):
        return op->r == op->b ? r_ones : NULL;
    }
    return NULL;
}

cc_opfn cc_sse_select_int(const cc_dec *d, const cc_op *op, unsigned key)
{
    cc_opfn special = d->mem ? NULL : select_special(op, key);
    if (special)
        return special;
    switch (key) {
        INT_RM(SSE_CASE_RM)
        INT_ALIAS(SSE_CASE_RM)
#define CASE_EXTEND(opcode, name, size) SSE_CASE_RM(2, SSE_66, opcode, name)
        INT_EXTEND(CASE_EXTEND)
        SSE_CASE_RM(2, SSE_66, 0x17, ptest)
    case SSE_KEY(1, SSE_66, 0x71):
    case SSE_KEY(1, SSE_66, 0x72):
    case SSE_KEY(1, SSE_66, 0x73):
        return select_shift(d);
    }
    return NULL;
}
