/*
 * soft/sse_fp.c: SSE and SSE2 floating-point arithmetic and comparisons: each is the host's own instruction.
 */
#include "sse.h"

/* Four forms each: packed and scalar, single and double; X(opcode, name, SSE_OP if the result can leave the range). */
#define FP_ARITH(X)                                                                                                    \
    X(0x51, sqrt, 0) X(0x58, add, SSE_OP_ADD) X(0x59, mul, SSE_OP_MUL) X(0x5c, sub, SSE_OP_SUB) X(0x5d, min, 0)        \
    X(0x5e, div, SSE_OP_DIV) X(0x5f, max, 0)

#define DEFINE_ARITH(opcode, name, range)                                                                              \
    SSE_ASM(name##ps, #name "ps") SSE_FP_RM(name##ps, 16, true, (range) | SSE_PS)                                      \
    SSE_ASM(name##pd, #name "pd") SSE_FP_RM(name##pd, 16, true, (range) | SSE_PD)                                      \
    SSE_ASM(name##ss, #name "ss") SSE_FP_RM(name##ss, 4, false, (range) | SSE_SS)                                      \
    SSE_ASM(name##sd, #name "sd") SSE_FP_RM(name##sd, 8, false, (range) | SSE_SD)
FP_ARITH(DEFINE_ARITH)

/* CMPccxx: the predicate is imm8 bits 2:0, constant in the host's instruction too; so one handler for each. */
#define CMP_PREDICATES(X, ...) X(0, __VA_ARGS__) X(1, __VA_ARGS__) X(2, __VA_ARGS__) X(3, __VA_ARGS__)                 \
    X(4, __VA_ARGS__) X(5, __VA_ARGS__) X(6, __VA_ARGS__) X(7, __VA_ARGS__)
#define DEFINE_CMP(pred, name, size, align)                                                                            \
    SSE_ASM(name##_##pred, #name " $" #pred ",") SSE_FP_RM(name##_##pred, size, align, 0)
CMP_PREDICATES(DEFINE_CMP, cmpps, 16, true)
CMP_PREDICATES(DEFINE_CMP, cmppd, 16, true)
CMP_PREDICATES(DEFINE_CMP, cmpss, 4, false)
CMP_PREDICATES(DEFINE_CMP, cmpsd, 8, false)

#define CMP_TABLE_R(pred, name) r_##name##_##pred,
#define CMP_TABLE_M(pred, name) m_##name##_##pred,
#define CMP_TABLE_B(pred, name) b_##name##_##pred,
#define CMP_TABLE(name)                                                                                                \
    {{CMP_PREDICATES(CMP_TABLE_R, name)}, {CMP_PREDICATES(CMP_TABLE_M, name)}, {CMP_PREDICATES(CMP_TABLE_B, name)}}
static const cc_opfn cmp_table[4][3][8] = {
    [SSE_NP] = CMP_TABLE(cmpps), [SSE_66] = CMP_TABLE(cmppd), [SSE_F3] = CMP_TABLE(cmpss), [SSE_F2] = CMP_TABLE(cmpsd),
};

/* UCOMISx and COMISx: ZF, PF, CF from the comparison, OF, SF, AF = 0. */
#define DEFINE_COMI(name, size)                                                                                        \
    static inline uint32_t name(__m128i d, __m128i s)                                                                  \
    {                                                                                                                  \
        bool c, p, z;                                                                                                  \
        __asm__ volatile(#name " %4, %3" : "=@ccc"(c), "=@ccp"(p), "=@ccz"(z) : "x"(d), "x"(s));                       \
        return (uint32_t)c * FL_CF | (uint32_t)p * FL_PF | (uint32_t)z * FL_ZF;                                        \
    }                                                                                                                  \
    SSE_EXPR(name, _mm_cvtsi32_si128((int)name(d, s)))                                                                 \
    SSE_TWIN(rs_##name, k_##name, SSE_FP | SSE_DST_FLAGS)                                                              \
    SSE_TWIN(ms_##name, k_##name, (size) | SSE_MEM | SSE_FP | SSE_DST_FLAGS)                                           \
    SSE_R_FAST(name, SSE_FP_UNREADY, rs_##name,                                                                        \
               cc_set_arith_flags(cpu, name(sse_get(cpu, op->r), sse_get(cpu, op->b))))                                \
    SSE_LOAD(name, SSE_FP_UNREADY, size, false, cc_set_arith_flags(cpu, name(sse_get(cpu, op->r), s)))
DEFINE_COMI(ucomiss, 4)
DEFINE_COMI(ucomisd, 8)
DEFINE_COMI(comiss, 4)
DEFINE_COMI(comisd, 8)

cc_opfn cc_sse_select_fp(const cc_dec *d, const cc_op *op, unsigned key)
{
    switch (key) {
#define CASE_ARITH(opcode, name, t)                                                                                    \
    SSE_CASE_RM(1, SSE_NP, opcode, name##ps) SSE_CASE_RM(1, SSE_66, opcode, name##pd)                                  \
    SSE_CASE_RM(1, SSE_F3, opcode, name##ss) SSE_CASE_RM(1, SSE_F2, opcode, name##sd)
        FP_ARITH(CASE_ARITH)
        SSE_CASE_RM(1, SSE_NP, 0x2e, ucomiss)
        SSE_CASE_RM(1, SSE_66, 0x2e, ucomisd)
        SSE_CASE_RM(1, SSE_NP, 0x2f, comiss)
        SSE_CASE_RM(1, SSE_66, 0x2f, comisd)
    case SSE_KEY(1, SSE_NP, 0xc2):
    case SSE_KEY(1, SSE_66, 0xc2):
    case SSE_KEY(1, SSE_F3, 0xc2):
    case SSE_KEY(1, SSE_F2, 0xc2):
        return cmp_table[key >> 8 & 3][!d->mem ? 0 : sse_base_only(op) ? 2 : 1][sse_imm(op) & 7];
    }
    return NULL;
}
