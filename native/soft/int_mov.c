/*
 * soft/int_mov.c: data movement: MOV, MOVZX/SX, LEA, XCHG, XADD, CMPXCHG, the stack, SETcc, CMOVcc and conversions.
 */
#include "int.h"

#define SIZES(F) F(8) F(16) F(32) F(64)
#define WIDE(F) F(16) F(32) F(64)
#define ROW(NAME) {NAME##8, NAME##16, NAME##32, NAME##64}
#define WROW(NAME) {0, NAME##16, NAME##32, NAME##64}

/* ---- MOV ------------------------------------------------------------------------------------------------------------ */
#define MOV(N)                                                                                                         \
    static CC_OP(mov_rr##N) { cc_set##N(cpu, op->b, cc_get##N(cpu, op->r)); CC_NEXT(); }                              \
    static CC_OP(mov_ri##N) { cc_set##N(cpu, op->b, (cc_u##N)(cc_s64)op->imm); CC_NEXT(); }                           \
    LOAD_HANDLER(mov_rm##N, N, EA_FULL, cc_set##N(cpu, op->r, m))                                                      \
    LOAD_HANDLER(mov_rmb##N, N, EA_BASE, cc_set##N(cpu, op->r, m))                                                     \
    STORE_HANDLER(mov_mr##N, N, EA_FULL, cc_get##N(cpu, op->r), )                                                      \
    STORE_HANDLER(mov_mrb##N, N, EA_BASE, cc_get##N(cpu, op->r), )                                                     \
    STORE_HANDLER(mov_mi##N, N, EA_FULL, (cc_s64)op->imm, )                                                            \
    STORE_HANDLER(mov_mib##N, N, EA_BASE, (cc_s64)op->imm, )                                                           \
    LOAD_HANDLER(moffs_load##N, N, op->imm64 + cpu->segbase[CC_SS_SEG(op->ss)], cc_set##N(cpu, CC_RAX, m))             \
    STORE_HANDLER(moffs_store##N, N, op->imm64 + cpu->segbase[CC_SS_SEG(op->ss)], cc_get##N(cpu, CC_RAX), )
SIZES(MOV)
static CC_OP(mov_ri64_full) { cpu->r[op->b] = op->imm64; CC_NEXT(); }
const cc_opfn cc_mov_rr[4] = ROW(mov_rr), cc_mov_ri[4] = ROW(mov_ri), cc_mov_rm[4] = ROW(mov_rm);
const cc_opfn cc_mov_mr[4] = ROW(mov_mr), cc_mov_mi[4] = ROW(mov_mi);
const cc_opfn cc_mov_rm_base[4] = ROW(mov_rmb), cc_mov_mr_base[4] = ROW(mov_mrb), cc_mov_mi_base[4] = ROW(mov_mib);
const cc_opfn cc_mov_ri64 = mov_ri64_full;
const cc_opfn cc_moffs_load[4] = ROW(moffs_load), cc_moffs_store[4] = ROW(moffs_store);

/* ---- MOVZX, MOVSX ----------------------------------------------------------------------------------------------------- */
#define MOVX(D, S)                                                                                                     \
    static CC_OP(movzx_r##D##_##S) { cc_set##D(cpu, op->r, cc_get##S(cpu, op->b)); CC_NEXT(); }                       \
    LOAD_HANDLER(movzx_m##D##_##S, S, EA_FULL, cc_set##D(cpu, op->r, m))                                               \
    LOAD_HANDLER(movzx_mb##D##_##S, S, EA_BASE, cc_set##D(cpu, op->r, m))                                              \
    static CC_OP(movsx_r##D##_##S) { cc_set##D(cpu, op->r, (cc_u##D)(cc_s##S)cc_get##S(cpu, op->b)); CC_NEXT(); }     \
    LOAD_HANDLER(movsx_m##D##_##S, S, EA_FULL, cc_set##D(cpu, op->r, (cc_u##D)(cc_s##S)m))
MOVX(16, 8) MOVX(32, 8) MOVX(64, 8) MOVX(16, 16) MOVX(32, 16) MOVX(64, 16) MOVX(32, 32) MOVX(64, 32)
#define MOVX_TABLE(F) {{0, 0, 0}, {F##16_8, F##16_16, 0}, {F##32_8, F##32_16, F##32_32}, {F##64_8, F##64_16, F##64_32}}
const cc_opfn cc_movzx_r[4][3] = MOVX_TABLE(movzx_r), cc_movzx_m[4][3] = MOVX_TABLE(movzx_m);
const cc_opfn cc_movzx_m_base[4][3] = MOVX_TABLE(movzx_mb);
const cc_opfn cc_movsx_r[4][3] = MOVX_TABLE(movsx_r), cc_movsx_m[4][3] = MOVX_TABLE(movsx_m);

/* ---- LEA (the decoder has removed the segment) --------------------------------------------------------------------- */
#define LEA(N) static CC_OP(lea##N) { cc_set##N(cpu, op->r, (cc_u##N)cc_ea(cpu, op)); CC_NEXT(); }
WIDE(LEA)
static CC_OP(lea64_base) { cpu->r[op->r] = EA_BASE; CC_NEXT(); }
const cc_opfn cc_lea[4] = WROW(lea), cc_lea64_base = lea64_base;

/* ---- exchange ----------------------------------------------------------------------------------------------------------- */
#define XCHG(N)                                                                                                        \
    static CC_OP(xchg_rr##N)                                                                                           \
    {                                                                                                                  \
        cc_u##N a = cc_get##N(cpu, op->b), b = cc_get##N(cpu, op->r);                                                  \
        cc_set##N(cpu, op->b, b);                                                                                      \
        cc_set##N(cpu, op->r, a);                                                                                      \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    RMW_HANDLER(xchg_mr##N, N, EA_FULL, st = cc_get##N(cpu, op->r); cc_set##N(cpu, op->r, m))                          \
    static CC_OP(xadd_rr##N)                                                                                           \
    {                                                                                                                  \
        cc_u##N a = cc_get##N(cpu, op->b), b = cc_get##N(cpu, op->r), sum = (cc_u##N)(a + b);                          \
        cc_set##N(cpu, op->r, a);                                                                                      \
        cc_set##N(cpu, op->b, sum);                                                                                    \
        cc_flags_lazy(cpu, CC_FLAGS_ADD##N, SX(N, sum), SX(N, b));                                                     \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    RMW_HANDLER(xadd_mr##N, N, EA_FULL, cc_u##N b = cc_get##N(cpu, op->r); st = (cc_u##N)(m + b);                      \
                cc_flags_lazy(cpu, CC_FLAGS_ADD##N, SX(N, st), SX(N, b)); cc_set##N(cpu, op->r, m))                    \
    static CC_OP(cmpxchg_rr##N)                                                                                        \
    {                                                                                                                  \
        cc_u##N m = cc_get##N(cpu, op->b), a = cc_get##N(cpu, CC_RAX), src = cc_get##N(cpu, op->r);                    \
        cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, (cc_u##N)(a - m)), SX(N, m));                                        \
        /* a 32-bit register that is not written keeps its upper half */                                               \
        if (a == m)                                                                                                    \
            cc_set##N(cpu, op->b, src);                                                                                \
        else                                                                                                           \
            cc_set##N(cpu, CC_RAX, m);                                                                                 \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    RMW_HANDLER(cmpxchg_mr##N, N, EA_FULL, cc_u##N a = cc_get##N(cpu, CC_RAX);                                         \
                cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, (cc_u##N)(a - m)), SX(N, m));                                \
                st = a == m ? cc_get##N(cpu, op->r) : m; if (a != m) cc_set##N(cpu, CC_RAX, m))
SIZES(XCHG)
const cc_opfn cc_xchg_rr[4] = ROW(xchg_rr), cc_xchg_mr[4] = ROW(xchg_mr), cc_xadd_rr[4] = ROW(xadd_rr);
const cc_opfn cc_xadd_mr[4] = ROW(xadd_mr), cc_cmpxchg_rr[4] = ROW(cmpxchg_rr), cc_cmpxchg_mr[4] = ROW(cmpxchg_mr);

static inline void set_zf(cc_cpu *cpu, bool z)
{
    cc_set_arith_flags(cpu, (cc_arith_flags(cpu) & ~FL_ZF) | (z ? FL_ZF : 0));
}

static CC_OP(cmpxchg8b)
{
    uint64_t va = cc_ea(cpu, op), m;
    if (!cc_mem_probe_write(cpu, op, budget, va, 8) || !cc_mem_read_bounced(cpu, op, budget, va, &m, 8))
        return cc_op_fault(cpu, op, budget);
    uint64_t want = (uint64_t)cc_get32(cpu, CC_RDX) << 32 | cc_get32(cpu, CC_RAX);
    uint64_t src = (uint64_t)cc_get32(cpu, CC_RCX) << 32 | cc_get32(cpu, CC_RBX);
    bool equal = m == want;
    uint64_t st = equal ? src : m;
    if (!cc_mem_write_bounced(cpu, op, budget, va, &st, 8))
        return cc_op_fault(cpu, op, budget);
    if (!equal) {
        cc_set32(cpu, CC_RAX, (uint32_t)m);
        cc_set32(cpu, CC_RDX, (uint32_t)(m >> 32));
    }
    set_zf(cpu, equal);
    CC_NEXT_STORE();
}

static CC_OP(cmpxchg16b)
{
    uint64_t va = cc_ea(cpu, op), m[2], st[2];
    if (va & 15)
        return cc_op_gp0(cpu, op, budget);
    void *p = cc_tlb_write(cpu, va, 16);
    if (p) {
        memcpy(m, p, 16);
    } else if (!cc_mem_probe_write(cpu, op, budget, va, 16) || !cc_mem_read_bounced(cpu, op, budget, va, m, 16)) {
        return cc_op_fault(cpu, op, budget);
    }
    bool equal = m[0] == cpu->r[CC_RAX] && m[1] == cpu->r[CC_RDX];
    st[0] = equal ? cpu->r[CC_RBX] : m[0];
    st[1] = equal ? cpu->r[CC_RCX] : m[1];
    if (p)
        memcpy(p, st, 16);
    else if (!cc_mem_write_bounced(cpu, op, budget, va, st, 16))
        return cc_op_fault(cpu, op, budget);
    if (!equal) {
        cpu->r[CC_RAX] = m[0];
        cpu->r[CC_RDX] = m[1];
    }
    set_zf(cpu, equal);
    CC_NEXT_STORE();
}
const cc_opfn cc_cmpxchg8b = cmpxchg8b, cc_cmpxchg16b = cmpxchg16b;

/* ---- the stack (operand size 16 or 64) --------------------------------------------------------------------------------- */
#define PUSHPOP(N)                                                                                                     \
    STORE_HANDLER(push_r##N, N, cpu->r[CC_RSP] - N / 8, cc_get##N(cpu, op->b), cpu->r[CC_RSP] -= N / 8)                \
    STORE_HANDLER(push_i##N, N, cpu->r[CC_RSP] - N / 8, (cc_s64)op->imm, cpu->r[CC_RSP] -= N / 8)                      \
    LOAD_HANDLER(pop_r##N, N, cpu->r[CC_RSP], cpu->r[CC_RSP] += N / 8; cc_set##N(cpu, op->b, m))                       \
    static CC_OP(push_m##N)                                                                                            \
    {                                                                                                                  \
        cc_u##N v;                                                                                                     \
        if (!cc_ld##N(cpu, op, budget, cc_ea(cpu, op), &v))                                                            \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cc_op *stack = &cpu->stack_op;                                                                                 \
        *stack = *op;      /* a bad RSP is #SS whatever the operand's segment */                                       \
        stack->ss |= CC_SS_STACK;                                                                                      \
        if (!cc_st##N(cpu, stack, budget, cpu->r[CC_RSP] - N / 8, v))                                                  \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->r[CC_RSP] -= N / 8;                                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(pop_m##N)                                                                                             \
    {                                                                                                                  \
        cc_u##N v;                                                                                                     \
        cc_op *stack = &cpu->stack_op;                                                                                 \
        *stack = *op;                                                                                                  \
        stack->ss |= CC_SS_STACK;                                                                                      \
        if (!cc_ld##N(cpu, stack, budget, cpu->r[CC_RSP], &v))                                                         \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->r[CC_RSP] += N / 8;       /* the address of POP [RSP+d] uses the new RSP */                               \
        if (!cc_st##N(cpu, op, budget, cc_ea(cpu, op), v)) {                                                           \
            cpu->r[CC_RSP] -= N / 8;                                                                                   \
            return cc_op_fault(cpu, op, budget);                                                                       \
        }                                                                                                              \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(pushf##N)                                                                                             \
    {                                                                                                                  \
        if (!cc_st##N(cpu, op, budget, cpu->r[CC_RSP] - N / 8, (cc_u##N)(cc_rflags(cpu) & ~(uint64_t)(FL_RF | FL_VM)))) \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->r[CC_RSP] -= N / 8;                                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(popf##N)                                                                                              \
    {                                                                                                                  \
        cc_u##N v;                                                                                                     \
        if (!cc_ld##N(cpu, op, budget, cpu->r[CC_RSP], &v))                                                            \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->r[CC_RSP] += N / 8;                                                                                       \
        uint64_t writable = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_AC | FL_ID;                                          \
        if (cpu->cpl == 0)                                                                                             \
            writable |= FL_IOPL;                                                                                       \
        if (cpu->cpl <= (cpu->rflags & FL_IOPL) >> 12)                                                                 \
            writable |= FL_IF;                                                                                         \
        if (N == 16)                                                                                                   \
            writable &= 0xffff;                                                                                        \
        cc_set_rflags(cpu, ((cc_rflags(cpu) & ~writable) | (v & writable)) & ~(uint64_t)FL_RF);                        \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    LOAD_HANDLER(leave##N, N, cpu->r[CC_RBP], cpu->r[CC_RSP] = cpu->r[CC_RBP] + N / 8; cc_set##N(cpu, CC_RBP, m))      \
    /* ENTER: imm = size | level << 16.  Copies frame pointers through the display of the enclosing frames.  If it */  \
    /* faults, what was pushed stays in memory, as on a CPU (SDM vol. 2, ENTER: one push after the other). */          \
    static CC_OP(enter##N)                                                                                             \
    {                                                                                                                  \
        uint64_t rsp = cpu->r[CC_RSP] - N / 8, frame = rsp, rbp = cpu->r[CC_RBP];                                      \
        unsigned level = (unsigned)op->imm >> 16 & 31;                                                                 \
        if (!cc_st##N(cpu, op, budget, rsp, (cc_u##N)rbp))                                                             \
            return cc_op_fault(cpu, op, budget);                                                                       \
        for (unsigned i = 1; i < level; i++) {                                                                         \
            cc_u##N v;                                                                                                 \
            rbp -= N / 8;                                                                                              \
            rsp -= N / 8;                                                                                              \
            if (!cc_ld##N(cpu, op, budget, rbp, &v) || !cc_st##N(cpu, op, budget, rsp, v))                             \
                return cc_op_fault(cpu, op, budget);                                                                   \
        }                                                                                                              \
        if (level) {                                                                                                   \
            rsp -= N / 8;                                                                                              \
            if (!cc_st##N(cpu, op, budget, rsp, (cc_u##N)frame))                                                       \
                return cc_op_fault(cpu, op, budget);                                                                   \
        }                                                                                                              \
        rsp -= (uint16_t)op->imm;                                                                                      \
        /* SDM: faults as a write to the new top of stack would */                                                     \
        if (!cc_mem_probe_write(cpu, op, budget, rsp, N / 8))                                                          \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->r[CC_RSP] = rsp;                                                                                          \
        cc_set##N(cpu, CC_RBP, (cc_u##N)frame);                                                                        \
        CC_NEXT_STORE();                                                                                               \
    }
PUSHPOP(16) PUSHPOP(64)
#define SROW(NAME) {0, NAME##16, 0, NAME##64}
const cc_opfn cc_push_r[4] = SROW(push_r), cc_push_i[4] = SROW(push_i), cc_push_m[4] = SROW(push_m);
const cc_opfn cc_pop_r[4] = SROW(pop_r), cc_pop_m[4] = SROW(pop_m), cc_pushf[4] = SROW(pushf), cc_popf[4] = SROW(popf);
const cc_opfn cc_leave[4] = SROW(leave), cc_enter[4] = SROW(enter);

/* ---- SETcc, CMOVcc ------------------------------------------------------------------------------------------------------- */
#define CMOV(K, N)                                                                                                     \
    static CC_OP(cmov_rr##K##_##N)                                                                                     \
    { cc_set##N(cpu, op->r, cc_cond(cpu, K) ? cc_get##N(cpu, op->b) : cc_get##N(cpu, op->r)); CC_NEXT(); }            \
    LOAD_HANDLER(cmov_rm##K##_##N, N, EA_FULL, cc_set##N(cpu, op->r, cc_cond(cpu, K) ? m : cc_get##N(cpu, op->r)))
#define COND(K)                                                                                                        \
    static CC_OP(setcc_r##K) { cc_set8(cpu, op->b, cc_cond(cpu, K)); CC_NEXT(); }                                     \
    STORE_HANDLER(setcc_m##K, 8, EA_FULL, cc_cond(cpu, K), )                                                           \
    CMOV(K, 16) CMOV(K, 32) CMOV(K, 64)
#define CONDS(F) F(0) F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15)
CONDS(COND)
#define SETCC_R(K) setcc_r##K,
#define SETCC_M(K) setcc_m##K,
#define CMOV_RR(K) {0, cmov_rr##K##_16, cmov_rr##K##_32, cmov_rr##K##_64},
#define CMOV_RM(K) {0, cmov_rm##K##_16, cmov_rm##K##_32, cmov_rm##K##_64},
const cc_opfn cc_setcc_r[16] = {CONDS(SETCC_R)}, cc_setcc_m[16] = {CONDS(SETCC_M)};
const cc_opfn cc_cmov_rr[16][4] = {CONDS(CMOV_RR)}, cc_cmov_rm[16][4] = {CONDS(CMOV_RM)};

/* ---- conversions ---------------------------------------------------------------------------------------------------------- */
static CC_OP(cbw16) { cc_set16(cpu, CC_RAX, (cc_u16)(int8_t)cpu->r[CC_RAX]); CC_NEXT(); }
static CC_OP(cbw32) { cc_set32(cpu, CC_RAX, (cc_u32)(int16_t)cpu->r[CC_RAX]); CC_NEXT(); }
static CC_OP(cbw64) { cc_set64(cpu, CC_RAX, (cc_u64)(int32_t)cpu->r[CC_RAX]); CC_NEXT(); }
#define CWD(N) static CC_OP(cwd##N) { cc_set##N(cpu, CC_RDX, (cc_u##N)((cc_s##N)cpu->r[CC_RAX] >> (N - 1))); CC_NEXT(); }
WIDE(CWD)
const cc_opfn cc_cbw[4] = WROW(cbw), cc_cwd[4] = WROW(cwd);

/* BSWAP of a 16-bit register is undefined; CPUs clear it. */
static CC_OP(bswap16) { cc_set16(cpu, op->b, 0); CC_NEXT(); }
static CC_OP(bswap32) { cc_set32(cpu, op->b, __builtin_bswap32((cc_u32)cpu->r[op->b])); CC_NEXT(); }
static CC_OP(bswap64) { cc_set64(cpu, op->b, __builtin_bswap64(cpu->r[op->b])); CC_NEXT(); }
const cc_opfn cc_bswap[4] = WROW(bswap);
#define MOVBE(N)                                                                                                       \
    LOAD_HANDLER(movbe_rm##N, N, EA_FULL, cc_set##N(cpu, op->r, __builtin_bswap##N(m)))                                \
    STORE_HANDLER(movbe_mr##N, N, EA_FULL, __builtin_bswap##N(cc_get##N(cpu, op->r)), )
WIDE(MOVBE)
const cc_opfn cc_movbe_rm[4] = WROW(movbe_rm), cc_movbe_mr[4] = WROW(movbe_mr);

/* ---- flags and the rest ---------------------------------------------------------------------------------------------------- */
static CC_OP(lahf) { cc_set8(cpu, 1, (cc_u8)((cc_arith_flags(cpu) & 0xd5) | 2)); CC_NEXT(); }
static CC_OP(sahf)
{
    cc_set_arith_flags(cpu, (cc_arith_flags(cpu) & FL_OF) | (cc_get8(cpu, 1) & 0xd5));
    CC_NEXT();
}
static CC_OP(clc) { cc_set_arith_flags(cpu, cc_arith_flags(cpu) & ~FL_CF); CC_NEXT(); }
static CC_OP(stc) { cc_set_arith_flags(cpu, cc_arith_flags(cpu) | FL_CF); CC_NEXT(); }
static CC_OP(cmc) { cc_set_arith_flags(cpu, cc_arith_flags(cpu) ^ FL_CF); CC_NEXT(); }
static CC_OP(cld) { cpu->rflags &= ~(uint64_t)FL_DF; CC_NEXT(); }
static CC_OP(std_) { cpu->rflags |= FL_DF; CC_NEXT(); }
static inline uint64_t xlat_ea(const cc_cpu *cpu, const cc_op *op)
{
    uint64_t a = cpu->r[CC_RBX] + (cc_u8)cpu->r[CC_RAX];
    return (op->ss & CC_SS_A32 ? (uint32_t)a : a) + cpu->segbase[CC_SS_SEG(op->ss)];
}
LOAD_HANDLER(xlat, 8, xlat_ea(cpu, op), cc_set8(cpu, 0, m))
static CC_OP(nop) { CC_NEXT(); }
const cc_opfn cc_lahf = lahf, cc_sahf = sahf, cc_clc = clc, cc_stc = stc, cc_cmc = cmc, cc_cld = cld, cc_std = std_;
const cc_opfn cc_xlat = xlat, cc_nop = nop;
