/*
 * soft/int_alu.c: ADD OR ADC SBB AND SUB XOR CMP TEST, NOT NEG INC DEC in every size and form.
 */
#include "int.h"

/* Carries (or borrows) out of every bit position; bit N-1 is CF, N-1 xor N-2 is OF, 3 is AF. */
static inline uint32_t carry_flags(uint64_t carries, unsigned bits, uint64_t res)
{
    uint64_t top = carries >> (bits - 2);
    return cc_zsp(res) | (uint32_t)(top >> 1 & 1) | (((top >> 1) ^ top) & 1 ? FL_OF : 0) | (carries & 8 ? FL_AF : 0);
}

/* Each computes `out` and the flags from `a` and `b` of type cc_uN. */
#define DO_ADD(N) cc_u##N out = (cc_u##N)(a + b); cc_flags_lazy(cpu, CC_FLAGS_ADD##N, SX(N, out), SX(N, b))
#define DO_SUB(N) cc_u##N out = (cc_u##N)(a - b); cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, out), SX(N, b))
#define DO_LOGIC(N, OPR) cc_u##N out = (cc_u##N)(a OPR b); cpu->cc_op = CC_FLAGS_LOGIC##N; cpu->cc_res = SX(N, out)
#define DO_OR(N) DO_LOGIC(N, |)
#define DO_AND(N) DO_LOGIC(N, &)
#define DO_XOR(N) DO_LOGIC(N, ^)
#define DO_ADC(N)                                                                                                      \
    cc_u##N out = (cc_u##N)(a + b + cc_flag_c(cpu));                                                                   \
    cc_set_arith_flags(cpu, carry_flags((cc_u##N)((a & b) | ((a | b) & ~out)), N, SX(N, out)))
#define DO_SBB(N)                                                                                                      \
    cc_u##N out = (cc_u##N)(a - b - cc_flag_c(cpu));                                                                   \
    cc_set_arith_flags(cpu, carry_flags((cc_u##N)((~a & b) | ((~a | b) & out)), N, SX(N, out)))
#define DO_CMP(N) DO_SUB(N)
#define DO_TEST(N) DO_AND(N)

#define KEEP(x) (void)(x)

/* Two-operand forms of one operation and size.  WB: write-back to a register. */
#define FORMS_RW(NAME, OP, N)                                                                                          \
    static CC_OP(NAME##_rr##N)                                                                                         \
    { cc_u##N a = cc_get##N(cpu, op->b), b = cc_get##N(cpu, op->r); OP(N); cc_set##N(cpu, op->b, out); CC_NEXT(); }   \
    static CC_OP(NAME##_ri##N)                                                                                         \
    { cc_u##N a = cc_get##N(cpu, op->b), b = (cc_u##N)op->imm; OP(N); cc_set##N(cpu, op->b, out); CC_NEXT(); }        \
    LOAD_HANDLER(NAME##_rm##N, N, EA_FULL,                                                                             \
                 cc_u##N a = cc_get##N(cpu, op->r), b = m; OP(N); cc_set##N(cpu, op->r, out))                          \
    RMW_HANDLER(NAME##_mr##N, N, EA_FULL, cc_u##N a = m, b = cc_get##N(cpu, op->r); OP(N); st = out)                  \
    RMW_HANDLER(NAME##_mi##N, N, EA_FULL, cc_u##N a = m, b = (cc_u##N)op->imm; OP(N); st = out)
#define FORMS_RO(NAME, OP, N)                                                                                          \
    static CC_OP(NAME##_rr##N)                                                                                         \
    { cc_u##N a = cc_get##N(cpu, op->b), b = cc_get##N(cpu, op->r); OP(N); KEEP(out); CC_NEXT(); }                    \
    static CC_OP(NAME##_ri##N)                                                                                         \
    { cc_u##N a = cc_get##N(cpu, op->b), b = (cc_u##N)op->imm; OP(N); KEEP(out); CC_NEXT(); }                         \
    LOAD_HANDLER(NAME##_rm##N, N, EA_FULL, cc_u##N a = cc_get##N(cpu, op->r), b = m; OP(N); KEEP(out))                \
    LOAD_HANDLER(NAME##_mr##N, N, EA_FULL, cc_u##N a = m, b = cc_get##N(cpu, op->r); OP(N); KEEP(out))                \
    LOAD_HANDLER(NAME##_mi##N, N, EA_FULL, cc_u##N a = m, b = (cc_u##N)op->imm; OP(N); KEEP(out))                     \
    LOAD_HANDLER(NAME##_mib##N, N, EA_BASE, cc_u##N a = m, b = (cc_u##N)op->imm; OP(N); KEEP(out))
#define FORMS_RMB(NAME, OP, N)                                                                                         \
    LOAD_HANDLER(NAME##_rmb##N, N, EA_BASE,                                                                            \
                 cc_u##N a = cc_get##N(cpu, op->r), b = m; OP(N); cc_set##N(cpu, op->r, out))
#define FORMS_RMB_RO(NAME, OP, N)                                                                                      \
    LOAD_HANDLER(NAME##_rmb##N, N, EA_BASE, cc_u##N a = cc_get##N(cpu, op->r), b = m; OP(N); KEEP(out))
#define SIZES(F, NAME, OP) F(NAME, OP, 8) F(NAME, OP, 16) F(NAME, OP, 32) F(NAME, OP, 64)

SIZES(FORMS_RW, add, DO_ADD)
SIZES(FORMS_RW, or, DO_OR)
SIZES(FORMS_RW, adc, DO_ADC)
SIZES(FORMS_RW, sbb, DO_SBB)
SIZES(FORMS_RW, and, DO_AND)
SIZES(FORMS_RW, sub, DO_SUB)
SIZES(FORMS_RW, xor, DO_XOR)
SIZES(FORMS_RO, cmp, DO_CMP)
SIZES(FORMS_RO, test, DO_TEST)
FORMS_RMB(add, DO_ADD, 32) FORMS_RMB(add, DO_ADD, 64)
FORMS_RMB(sub, DO_SUB, 32) FORMS_RMB(sub, DO_SUB, 64)
FORMS_RMB(and, DO_AND, 32) FORMS_RMB(and, DO_AND, 64)
FORMS_RMB(or, DO_OR, 32) FORMS_RMB(or, DO_OR, 64)
FORMS_RMB(xor, DO_XOR, 32) FORMS_RMB(xor, DO_XOR, 64)
SIZES(FORMS_RMB_RO, cmp, DO_CMP)

#define ROW(NAME, F) {NAME##_##F##8, NAME##_##F##16, NAME##_##F##32, NAME##_##F##64}
#define TABLE(F)                                                                                                       \
    {[ALU_ADD] = ROW(add, F), [ALU_OR] = ROW(or, F), [ALU_ADC] = ROW(adc, F), [ALU_SBB] = ROW(sbb, F),                 \
     [ALU_AND] = ROW(and, F), [ALU_SUB] = ROW(sub, F), [ALU_XOR] = ROW(xor, F), [ALU_CMP] = ROW(cmp, F),               \
     [ALU_TEST] = ROW(test, F)}
const cc_opfn cc_alu_rr[ALU_COUNT][4] = TABLE(rr);
const cc_opfn cc_alu_ri[ALU_COUNT][4] = TABLE(ri);
const cc_opfn cc_alu_rm[ALU_COUNT][4] = TABLE(rm);
const cc_opfn cc_alu_mr[ALU_COUNT][4] = TABLE(mr);
const cc_opfn cc_alu_mi[ALU_COUNT][4] = TABLE(mi);
const cc_opfn cc_alu_rm_base[ALU_COUNT][4] = {
    [ALU_ADD] = {0, 0, add_rmb32, add_rmb64}, [ALU_SUB] = {0, 0, sub_rmb32, sub_rmb64},
    [ALU_AND] = {0, 0, and_rmb32, and_rmb64}, [ALU_OR] = {0, 0, or_rmb32, or_rmb64},
    [ALU_XOR] = {0, 0, xor_rmb32, xor_rmb64}, [ALU_CMP] = ROW(cmp, rmb),
};
const cc_opfn cc_alu_mi_base[ALU_COUNT][4] = {[ALU_CMP] = ROW(cmp, mib), [ALU_TEST] = ROW(test, mib)};

/* Flags that nobody reads before they are overwritten are not computed. */
#define NO_FLAGS(NAME, OPR, N)                                                                                         \
    static CC_OP(NAME##_rrn##N)                                                                                        \
    { cc_set##N(cpu, op->b, (cc_u##N)(cc_get##N(cpu, op->b) OPR cc_get##N(cpu, op->r))); CC_NEXT(); }                 \
    static CC_OP(NAME##_rin##N)                                                                                        \
    { cc_set##N(cpu, op->b, (cc_u##N)(cc_get##N(cpu, op->b) OPR (cc_u##N)op->imm)); CC_NEXT(); }
NO_FLAGS(add, +, 32) NO_FLAGS(add, +, 64)
NO_FLAGS(sub, -, 32) NO_FLAGS(sub, -, 64)
NO_FLAGS(and, &, 32) NO_FLAGS(and, &, 64)
NO_FLAGS(or, |, 32) NO_FLAGS(or, |, 64)
NO_FLAGS(xor, ^, 32) NO_FLAGS(xor, ^, 64)
#define TABLE_NF(F)                                                                                                    \
    {[ALU_ADD] = {0, 0, add_##F##32, add_##F##64}, [ALU_OR] = {0, 0, or_##F##32, or_##F##64},                          \
     [ALU_AND] = {0, 0, and_##F##32, and_##F##64}, [ALU_SUB] = {0, 0, sub_##F##32, sub_##F##64},                       \
     [ALU_XOR] = {0, 0, xor_##F##32, xor_##F##64}}
const cc_opfn cc_alu_rr_nf[ALU_COUNT][4] = TABLE_NF(rrn);
const cc_opfn cc_alu_ri_nf[ALU_COUNT][4] = TABLE_NF(rin);

/* ---- one operand ------------------------------------------------------------------------------------------------------ */
#define DO_NOT(N) st = (cc_u##N)~m
#define DO_NEG(N) st = (cc_u##N)(0 - m); cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, st), SX(N, m))
#define DO_INC(N) bool c = cc_flag_c(cpu); st = (cc_u##N)(m + 1); cc_flags_lazy(cpu, CC_FLAGS_INC##N, SX(N, st), c)
#define DO_DEC(N) bool c = cc_flag_c(cpu); st = (cc_u##N)(m - 1); cc_flags_lazy(cpu, CC_FLAGS_DEC##N, SX(N, st), c)
#define UNARY(NAME, OP, N)                                                                                             \
    static CC_OP(NAME##_r##N)                                                                                          \
    { cc_u##N m = cc_get##N(cpu, op->b), st; OP(N); cc_set##N(cpu, op->b, st); CC_NEXT(); }                         \
    RMW_HANDLER(NAME##_m##N, N, EA_FULL, OP(N))
SIZES(UNARY, not, DO_NOT)
SIZES(UNARY, neg, DO_NEG)
SIZES(UNARY, inc, DO_INC)
SIZES(UNARY, dec, DO_DEC)
const cc_opfn cc_un_r[UN_COUNT][4] = {ROW(not, r), ROW(neg, r), ROW(inc, r), ROW(dec, r)};
const cc_opfn cc_un_m[UN_COUNT][4] = {ROW(not, m), ROW(neg, m), ROW(inc, m), ROW(dec, m)};

#define INCDEC_NF(NAME, OPR, N)                                                                                        \
    static CC_OP(NAME##_rn##N)                                                                                         \
    { cc_set##N(cpu, op->b, (cc_u##N)(cc_get##N(cpu, op->b) OPR 1)); CC_NEXT(); }
SIZES(INCDEC_NF, inc, +)
SIZES(INCDEC_NF, dec, -)
const cc_opfn cc_incdec_nf[2][4] = {ROW(inc, rn), ROW(dec, rn)};
