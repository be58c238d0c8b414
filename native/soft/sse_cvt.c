/*
 * soft/sse_cvt.c: conversions between floating-point formats and integers in XMM and general registers.  The ones with
 * MMX registers are in mmx_cvt.c.
 */
#include "sse.h"

/* xmm, xmm/m: X(prefix, opcode, name, size, align, range) */
#define CVT_RM(X)                                                                                                      \
    X(SSE_NP, 0x5a, cvtps2pd, 8, false, 0) X(SSE_66, 0x5a, cvtpd2ps, 16, true, SSE_PS | SSE_OP_CVT)                    \
    X(SSE_F3, 0x5a, cvtss2sd, 4, false, 0) X(SSE_F2, 0x5a, cvtsd2ss, 8, false, SSE_SS | SSE_OP_CVT)                    \
    X(SSE_NP, 0x5b, cvtdq2ps, 16, true, 0) X(SSE_66, 0x5b, cvtps2dq, 16, true, 0)                                      \
    X(SSE_F3, 0x5b, cvttps2dq, 16, true, 0)                                                                            \
    X(SSE_66, 0xe6, cvttpd2dq, 16, true, 0) X(SSE_F3, 0xe6, cvtdq2pd, 8, false, 0)                                     \
    X(SSE_F2, 0xe6, cvtpd2dq, 16, true, 0)
#define DEFINE_CVT(prefix, opcode, name, size, align, range) SSE_ASM(name, #name) SSE_FP_RM(name, size, align, range)
CVT_RM(DEFINE_CVT)

/* General register or memory to the low lane: X(prefix, name, text, type) */
#define CVT_FROM_GPR(X)                                                                                                \
    X(SSE_F3, cvtsi2ss32, "cvtsi2ssl", uint32_t) X(SSE_F3, cvtsi2ss64, "cvtsi2ssq", uint64_t)                          \
    X(SSE_F2, cvtsi2sd32, "cvtsi2sdl", uint32_t) X(SSE_F2, cvtsi2sd64, "cvtsi2sdq", uint64_t)
#define DEFINE_FROM_GPR(prefix, name, text, type)                                                                      \
    static inline __m128i name(__m128i d, type v)                                                                      \
    {                                                                                                                  \
        __asm__ volatile(text " %1, %0" : "+x"(d) : "r"(v));                                                           \
        return d;                                                                                                      \
    }                                                                                                                  \
    SSE_EXPR(name, name(d, (type)sse_low(s)))                                                                          \
    SSE_TWIN(rs_##name, k_##name, SSE_SRC_GPR | SSE_FP)                                                                \
    SSE_TWIN(ms_##name, k_##name, sizeof(type) | SSE_MEM | SSE_FP)                                                     \
    SSE_R_FAST(name, SSE_FP_UNREADY, rs_##name,                                                                        \
               sse_put(cpu, op->r, name(sse_get(cpu, op->r), (type)cpu->r[op->b])))                                    \
    SSE_LOAD(name, SSE_FP_UNREADY, sizeof(type), false, SSE_FROM_MEM(name))
CVT_FROM_GPR(DEFINE_FROM_GPR)

/* Low lane to general register: X(name, text, bytes of source, result type).  The operand size is spelled out (%k0,
 * %q0): functions whose assembly differed only in its operand's type would be merged by GCC 12's -fipa-icf. */
#define CVT_TO_GPR(X)                                                                                                  \
    X(cvtss2si32, "cvtss2si %1, %k0", 4, uint32_t) X(cvtss2si64, "cvtss2si %1, %q0", 4, uint64_t)                      \
    X(cvttss2si32, "cvttss2si %1, %k0", 4, uint32_t) X(cvttss2si64, "cvttss2si %1, %q0", 4, uint64_t)                  \
    X(cvtsd2si32, "cvtsd2si %1, %k0", 8, uint32_t) X(cvtsd2si64, "cvtsd2si %1, %q0", 8, uint64_t)                      \
    X(cvttsd2si32, "cvttsd2si %1, %k0", 8, uint32_t) X(cvttsd2si64, "cvttsd2si %1, %q0", 8, uint64_t)
#define DEFINE_TO_GPR(name, text, size, type)                                                                          \
    static inline uint64_t name(__m128i s)                                                                             \
    {                                                                                                                  \
        type v;                                                                                                        \
        __asm__ volatile(text : "=r"(v) : "x"(s));                                                                     \
        return v;                                                                                                      \
    }                                                                                                                  \
    SSE_EXPR(name, sse_q(name(s)))                                                                                     \
    SSE_TWIN(rs_##name, k_##name, SSE_FP | SSE_DST_GPR)                                                                \
    SSE_TWIN(ms_##name, k_##name, (size) | SSE_MEM | SSE_FP | SSE_DST_GPR)                                             \
    SSE_R_FAST(name, SSE_FP_UNREADY, rs_##name, cpu->r[op->r] = name(sse_get(cpu, op->b)))                             \
    SSE_LOAD(name, SSE_FP_UNREADY, size, false, cpu->r[op->r] = name(s))
CVT_TO_GPR(DEFINE_TO_GPR)

cc_opfn cc_sse_select_cvt(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
#define CASE_CVT(prefix, opcode, name, size, align, range) SSE_CASE_RM(1, prefix, opcode, name)
        CVT_RM(CASE_CVT)
#define CASE_GPR(prefix, opcode, name)                                                                                 \
    SSE_CASE(1, prefix, opcode, d->rexw ? r_##name##64 : r_##name##32,                                                 \
             d->rexw ? SSE_MEM_FORM(name##64) : SSE_MEM_FORM(name##32))
        CASE_GPR(SSE_F3, 0x2a, cvtsi2ss)
        CASE_GPR(SSE_F2, 0x2a, cvtsi2sd)
        CASE_GPR(SSE_F3, 0x2c, cvttss2si)
        CASE_GPR(SSE_F2, 0x2c, cvttsd2si)
        CASE_GPR(SSE_F3, 0x2d, cvtss2si)
        CASE_GPR(SSE_F2, 0x2d, cvtsd2si)
    }
    return NULL;
}
