/*
 * soft/branch.c: control transfer within a privilege level.  Near branches ignore the operand-size prefix, as Intel
 * CPUs do in 64-bit mode (SDM vol. 2, "Jcc", "CALL").
 *
 * Every direct branch ends its block; op[1] is its link record.  _in: target and fall-through lie in the same page.
 */
#include "int.h"

/* ---- conditions with the flag source known when decoding ----------------------------------------------------------- */
static inline __attribute__((always_inline)) bool cond_compare(cc_s64 a, cc_s64 b, cc_s64 res, unsigned cond, unsigned top)
{
    bool v;
    switch (cond >> 1) {
    case 0: v = (((a ^ b) & (a ^ res)) >> top) & 1; break;
    case 1: v = (cc_u64)a < (cc_u64)b; break;
    case 2: v = res == 0; break;
    case 3: v = (cc_u64)a <= (cc_u64)b; break;
    case 4: v = res < 0; break;
    case 5: v = cc_parity[(cc_u8)res] != 0; break;
    case 6: v = a < b; break;
    default: v = a <= b; break;
    }
    return v != (cond & 1);
}
static inline __attribute__((always_inline)) bool cond_logic(cc_s64 res, unsigned cond)
{
    bool v;
    switch (cond >> 1) {
    case 0: case 1: v = false; break;
    case 2: case 3: v = res == 0; break;
    case 4: case 6: v = res < 0; break;
    case 5: v = cc_parity[(cc_u8)res] != 0; break;
    default: v = res <= 0; break;
    }
    return v != (cond & 1);
}
#define SUB_COND(N, K)                                                                                                 \
    cond_compare((cc_s64)cc_sext(cpu->cc_res + cpu->cc_src, N), (cc_s64)cpu->cc_src, (cc_s64)cpu->cc_res, K, N - 1)
#define LAZY_COND(K)                                                                                                   \
    ((K) >> 1 == 2 || (K) >> 1 == 4 || (K) >> 1 == 5 ? cond_logic((cc_s64)cpu->cc_res, K) : cc_cond(cpu, K))

#define JCC(K)                                                                                                         \
    static CC_OP(jcc0_##K) { if (cc_cond(cpu, K)) CC_TAKE_IN(); CC_FALL_IN(); }                                       \
    static CC_OP(jcc1_##K) { if (SUB_COND(8, K)) CC_TAKE_IN(); CC_FALL_IN(); }                                        \
    static CC_OP(jcc2_##K) { if (SUB_COND(16, K)) CC_TAKE_IN(); CC_FALL_IN(); }                                       \
    static CC_OP(jcc3_##K) { if (SUB_COND(32, K)) CC_TAKE_IN(); CC_FALL_IN(); }                                       \
    static CC_OP(jcc4_##K) { if (SUB_COND(64, K)) CC_TAKE_IN(); CC_FALL_IN(); }                                       \
    static CC_OP(jcc5_##K) { if (cond_logic((cc_s64)cpu->cc_res, K)) CC_TAKE_IN(); CC_FALL_IN(); }                    \
    static CC_OP(jcc6_##K) { if (LAZY_COND(K)) CC_TAKE_IN(); CC_FALL_IN(); }                                          \
    static CC_OP(jcc_out_##K) { if (cc_cond(cpu, K)) CC_TAKE_OUT(); CC_FALL_OUT(); }
#define CONDS(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
CONDS(JCC)
#define E0(K) jcc0_##K,
#define E1(K) jcc1_##K,
#define E2(K) jcc2_##K,
#define E3(K) jcc3_##K,
#define E4(K) jcc4_##K,
#define E5(K) jcc5_##K,
#define E6(K) jcc6_##K,
#define EO(K) jcc_out_##K,
const cc_opfn cc_jcc_in[CC_JCC_KINDS][16] = {{CONDS(E0)}, {CONDS(E1)}, {CONDS(E2)}, {CONDS(E3)}, {CONDS(E4)}, {CONDS(E5)}, {CONDS(E6)}};
const cc_opfn cc_jcc_out[16] = {CONDS(EO)};

/* ---- CMP/TEST fused with the branch that follows ---------------------------------------------------------------------- */
#define FUSED_CMP(K, N)                                                                                                \
    static CC_OP(cmp_rr_j##K##_##N)                                                                                    \
    {                                                                                                                  \
        cc_u##N a = cc_get##N(cpu, op->b), b = cc_get##N(cpu, op->r), res = (cc_u##N)(a - b);                          \
        cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, res), SX(N, b));                                                     \
        if (cond_compare((cc_s##N)a, (cc_s##N)b, (cc_s##N)res, K, N - 1)) CC_TAKE_IN();                                \
        CC_FALL_IN();                                                                                                  \
    }                                                                                                                  \
    static CC_OP(cmp_ri_j##K##_##N)                                                                                    \
    {                                                                                                                  \
        cc_u##N a = cc_get##N(cpu, op->b), b = (cc_u##N)(cc_s64)op->imm, res = (cc_u##N)(a - b);                       \
        cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, res), SX(N, b));                                                     \
        if (cond_compare((cc_s##N)a, (cc_s##N)b, (cc_s##N)res, K, N - 1)) CC_TAKE_IN();                                \
        CC_FALL_IN();                                                                                                  \
    }
#define FUSED_TEST(K, N)                                                                                               \
    static CC_OP(test_rr_j##K##_##N)                                                                                   \
    {                                                                                                                  \
        cc_u##N res = cc_get##N(cpu, op->b) & cc_get##N(cpu, op->r);                                                   \
        cpu->cc_op = CC_FLAGS_LOGIC##N;                                                                                \
        cpu->cc_res = SX(N, res);                                                                                      \
        if (cond_logic((cc_s##N)res, K)) CC_TAKE_IN();                                                                 \
        CC_FALL_IN();                                                                                                  \
    }                                                                                                                  \
    static CC_OP(test_ri_j##K##_##N)                                                                                   \
    {                                                                                                                  \
        cc_u##N res = cc_get##N(cpu, op->b) & (cc_u##N)(cc_s64)op->imm;                                                \
        cpu->cc_op = CC_FLAGS_LOGIC##N;                                                                                \
        cpu->cc_res = SX(N, res);                                                                                      \
        if (cond_logic((cc_s##N)res, K)) CC_TAKE_IN();                                                                 \
        CC_FALL_IN();                                                                                                  \
    }
#define FUSED_C(K) FUSED_CMP(K, 8) FUSED_CMP(K, 32) FUSED_CMP(K, 64)
#define FUSED_T(K) FUSED_TEST(K, 8) FUSED_TEST(K, 32) FUSED_TEST(K, 64)
#define CMP_CONDS(F) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(12) F(13) F(14) F(15)
#define TEST_CONDS(F) F(4) F(5) F(8) F(9) F(14) F(15)
CMP_CONDS(FUSED_C)
TEST_CONDS(FUSED_T)
#define CR(K) [K] = {cmp_rr_j##K##_8, 0, cmp_rr_j##K##_32, cmp_rr_j##K##_64},
#define CI(K) [K] = {cmp_ri_j##K##_8, 0, cmp_ri_j##K##_32, cmp_ri_j##K##_64},
#define TR(K) [K] = {test_rr_j##K##_8, 0, test_rr_j##K##_32, test_rr_j##K##_64},
#define TI(K) [K] = {test_ri_j##K##_8, 0, test_ri_j##K##_32, test_ri_j##K##_64},
const cc_opfn cc_cmp_rr_jcc[16][4] = {CMP_CONDS(CR)}, cc_cmp_ri_jcc[16][4] = {CMP_CONDS(CI)};
const cc_opfn cc_test_rr_jcc[16][4] = {TEST_CONDS(TR)}, cc_test_ri_jcc[16][4] = {TEST_CONDS(TI)};

/* ---- JMP, CALL, RET ------------------------------------------------------------------------------------------------------ */
static CC_OP(jmp_in) { CC_TAKE_IN(); }
static CC_OP(jmp_out) { CC_TAKE_OUT(); }
static CC_OP(block_end_in) { CC_FALL_IN(); }
static CC_OP(block_end_out) { CC_FALL_OUT(); }
const cc_opfn cc_jmp_in = jmp_in, cc_jmp_out = jmp_out, cc_block_end_in = block_end_in, cc_block_end_out = block_end_out;

/* Pushes the return address out of line; on true RSP is updated. */
static __attribute__((noinline, cold)) bool push_return_slow(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cc_op stack = *op;
    stack.ss = CC_SS_STACK;
    if (!cc_st64(cpu, &stack, budget, cpu->r[CC_RSP] - 8, cc_op_next_pc(cpu, op)))
        return false;
    cpu->r[CC_RSP] -= 8;
    return true;
}
static __attribute__((noinline, cold)) CC_OP(call_slow)
{
    uint64_t target = cc_branch_target(cpu, op);
    if (!push_return_slow(cpu, op, budget))
        return cc_op_fault(cpu, op, budget);
    return cpu->leave ? cc_exit(cpu, target, budget) : cc_goto_slow(cpu, target, budget);
}
#define PUSH_RETURN(SLOW)                                                                                              \
    do {                                                                                                               \
        uint64_t va_ = cpu->r[CC_RSP] - 8;                                                                             \
        const cc_tlbe *e_ = cc_tlb_entry(cpu, va_);                                                                    \
        if (!CC_TLB_HIT(e_, wtag, va_, 8))                                                                             \
            return SLOW(cpu, op, budget);                                                                              \
        uint64_t ret_ = cc_op_next_pc(cpu, op);                                                                        \
        memcpy((void *)(va_ + e_->addend), &ret_, 8);                                                                  \
        cpu->r[CC_RSP] = va_;                                                                                          \
    } while (0)
static CC_OP(call_in) { PUSH_RETURN(call_slow); CC_TAKE_IN(); }
static CC_OP(call_out) { PUSH_RETURN(call_slow); CC_TAKE_OUT(); }
const cc_opfn cc_call_in = call_in, cc_call_out = call_out;

/* A computed transfer whose target is not in the jump cache: #GP at the branch if it is not canonical. */
static __attribute__((noinline, cold)) CC_OP(ret_slow)
{
    uint64_t target;
    if (!cc_ld64(cpu, op, budget, cpu->r[CC_RSP], &target))
        return cc_op_fault(cpu, op, budget);
    if (!cc_canonical(target))
        return cc_op_gp0(cpu, op, budget);
    cpu->r[CC_RSP] += 8 + (uint64_t)(uint32_t)op->imm;
    return cpu->leave ? cc_exit(cpu, target, budget) : cc_goto_slow(cpu, target, budget);
}
static CC_OP(ret)
{
    uint64_t va = cpu->r[CC_RSP], target;
    const cc_tlbe *e = cc_tlb_entry(cpu, va);
    if (!CC_TLB_HIT(e, rtag, va, 8))
        return ret_slow(cpu, op, budget);
    memcpy(&target, (const void *)(va + e->addend), 8);
    cc_block *t = cc_jcache_find(cpu, target);
    if (cc_unlikely(!t))
        return ret_slow(cpu, op, budget);
    cpu->r[CC_RSP] = va + 8 + (uint64_t)(uint32_t)op->imm;
    cpu->r[CC_R_PAGE] = t->vbase;
    CC_ENTER_BLOCK(t);
}
const cc_opfn cc_ret = ret, cc_ret_imm = ret;

static __attribute__((noinline, cold)) const cc_op *jump_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t target)
{
    if (!cc_canonical(target))
        return cc_op_gp0(cpu, op, budget);
    if (cc_edges_on(cpu, cpu->cpl == 3))
        cc_edge_count(cpu, op, target);
    return cpu->leave ? cc_exit(cpu, target, budget) : cc_goto_slow(cpu, target, budget);
}
static __attribute__((noinline, cold)) const cc_op *call_to_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t target)
{
    if (!cc_canonical(target))
        return cc_op_gp0(cpu, op, budget);
    if (!push_return_slow(cpu, op, budget))
        return cc_op_fault(cpu, op, budget);
    if (cc_edges_on(cpu, cpu->cpl == 3))
        cc_edge_count(cpu, op, target);
    return cpu->leave ? cc_exit(cpu, target, budget) : cc_goto_slow(cpu, target, budget);
}
/* edges: a constant; the decoder chooses the handlers that count while edges are recorded. */
static inline __attribute__((always_inline)) const cc_op *jump_to(cc_cpu *cpu, const cc_op *op, int64_t budget,
                                                                  uint64_t target, bool edges)
{
    cc_block *t = cc_jcache_find(cpu, target);
    if (cc_unlikely(!t || cpu->leave))
        return jump_slow(cpu, op, budget, target);
    if (edges)
        cc_edge_count(cpu, op, target);
    cpu->r[CC_R_PAGE] = t->vbase;
    CC_ENTER_BLOCK(t);
}
static inline __attribute__((always_inline)) const cc_op *call_to(cc_cpu *cpu, const cc_op *op, int64_t budget,
                                                                  uint64_t target, bool edges)
{
    uint64_t va = cpu->r[CC_RSP] - 8, ret_pc = cc_op_next_pc(cpu, op);
    cc_block *t = cc_jcache_find(cpu, target);
    const cc_tlbe *e = cc_tlb_entry(cpu, va);
    if (cc_unlikely(!t || cpu->leave) || !CC_TLB_HIT(e, wtag, va, 8))
        return call_to_slow(cpu, op, budget, target);
    memcpy((void *)(va + e->addend), &ret_pc, 8);
    cpu->r[CC_RSP] = va;
    if (edges)
        cc_edge_count(cpu, op, target);
    cpu->r[CC_R_PAGE] = t->vbase;
    CC_ENTER_BLOCK(t);
}
#define INDIRECT(NAME, EDGES)                                                                                          \
    static CC_OP(jmp_r_##NAME) { return jump_to(cpu, op, budget, cpu->r[op->b], EDGES); }                              \
    static CC_OP(call_r_##NAME) { return call_to(cpu, op, budget, cpu->r[op->b], EDGES); }                             \
    static CC_OP(jmp_m_##NAME)                                                                                         \
    {                                                                                                                  \
        uint64_t target;                                                                                               \
        if (!cc_ld64(cpu, op, budget, cc_ea(cpu, op), &target))                                                        \
            return cc_op_fault(cpu, op, budget);                                                                       \
        return jump_to(cpu, op, budget, target, EDGES);                                                                \
    }                                                                                                                  \
    static CC_OP(call_m_##NAME)                                                                                        \
    {                                                                                                                  \
        uint64_t target;                                                                                               \
        if (!cc_ld64(cpu, op, budget, cc_ea(cpu, op), &target))                                                        \
            return cc_op_fault(cpu, op, budget);                                                                       \
        return call_to(cpu, op, budget, target, EDGES);                                                                \
    }
INDIRECT(plain, false)
INDIRECT(edge, true)
const cc_opfn cc_jmp_r[2] = {jmp_r_plain, jmp_r_edge}, cc_jmp_m[2] = {jmp_m_plain, jmp_m_edge};
const cc_opfn cc_call_r[2] = {call_r_plain, call_r_edge}, cc_call_m[2] = {call_m_plain, call_m_edge};

/* ---- LOOPNE, LOOPE, LOOP, JRCXZ (op->r: the counter is ECX) --------------------------------------------------------------- */
static inline bool loop_taken(cc_cpu *cpu, const cc_op *op, unsigned kind)
{
    if (kind == 3)
        return op->r ? (uint32_t)cpu->r[CC_RCX] == 0 : cpu->r[CC_RCX] == 0;
    uint64_t n = cpu->r[CC_RCX] - 1;
    if (op->r)
        n = (uint32_t)n;
    cpu->r[CC_RCX] = n;
    return n != 0 && (kind == 2 || cc_flag_z(cpu) == (kind == 1));
}
#define LOOP(K)                                                                                                        \
    static CC_OP(loop##K##_in) { if (loop_taken(cpu, op, K)) CC_TAKE_IN(); CC_FALL_IN(); }                            \
    static CC_OP(loop##K##_out) { if (loop_taken(cpu, op, K)) CC_TAKE_OUT(); CC_FALL_OUT(); }
LOOP(0) LOOP(1) LOOP(2) LOOP(3)
const cc_opfn cc_loop_in[4] = {loop0_in, loop1_in, loop2_in, loop3_in};
const cc_opfn cc_loop_out[4] = {loop0_out, loop1_out, loop2_out, loop3_out};
