/*
 * soft/int.h: what the integer handler files share: operand access by size, and the tables from which the decoder
 * chooses.  Size indexes 0..3 mean 8, 16, 32, 64 bits.
 */
#ifndef CC_SOFT_INT_H
#define CC_SOFT_INT_H

#include "exec.h"

typedef int8_t cc_s8;
typedef int16_t cc_s16;
typedef int32_t cc_s32;
typedef int64_t cc_s64;
typedef uint8_t cc_u8;
typedef uint16_t cc_u16;
typedef uint32_t cc_u32;
typedef uint64_t cc_u64;

static inline cc_u8 cc_get8(const cc_cpu *c, unsigned i) { return ((const uint8_t *)c->r)[i]; }
static inline cc_u16 cc_get16(const cc_cpu *c, unsigned i) { return (cc_u16)c->r[i]; }
static inline cc_u32 cc_get32(const cc_cpu *c, unsigned i) { return (cc_u32)c->r[i]; }
static inline cc_u64 cc_get64(const cc_cpu *c, unsigned i) { return c->r[i]; }
static inline void cc_set8(cc_cpu *c, unsigned i, cc_u8 v) { ((uint8_t *)c->r)[i] = v; }
static inline void cc_set16(cc_cpu *c, unsigned i, cc_u16 v) { memcpy(&c->r[i], &v, 2); }
static inline void cc_set32(cc_cpu *c, unsigned i, cc_u32 v) { c->r[i] = v; }
static inline void cc_set64(cc_cpu *c, unsigned i, cc_u64 v) { c->r[i] = v; }

#define SX(N, v) ((uint64_t)(int64_t)(cc_s##N)(v))

/* EA without index, segment or 32-bit addressing: most memory operands. */
#define EA_FULL cc_ea(cpu, op)
#define EA_BASE (cpu->r[op->b] + (uint64_t)(int64_t)op->disp)

/*
 * Handlers with a memory operand come in pairs: the fast one hits the TLB and is straight-line code; on a miss it
 * tail-calls its twin, which has the calls (and so the prologue) of the slow path.
 */
#define LOAD_HANDLER(name, N, EA, ...)                                                                                 \
    static __attribute__((noinline, cold)) CC_OP(name##_slow)                                                         \
    {                                                                                                                  \
        cc_u##N m;                                                                                                     \
        if (!cc_mem_read_bounced(cpu, op, budget, EA, &m, sizeof m))                                                   \
            return cc_op_fault(cpu, op, budget);                                                                       \
        __VA_ARGS__;                                                                                                   \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(name)                                                                                                 \
    {                                                                                                                  \
        uint64_t va = EA;                                                                                              \
        cc_u##N m;                                                                                                     \
        const cc_tlbe *e = cc_tlb_entry(cpu, va);                                                                      \
        if (!CC_TLB_HIT(e, rtag, va, sizeof m))                                                                        \
            return name##_slow(cpu, op, budget);                                                                       \
        memcpy(&m, (const void *)(va + e->addend), sizeof m);                                                          \
        __VA_ARGS__;                                                                                                   \
        CC_NEXT();                                                                                                     \
    }

/* VALUE is evaluated once, before the store; COMMIT runs after it. */
#define STORE_HANDLER(name, N, EA, VALUE, COMMIT)                                                                      \
    static __attribute__((noinline, cold)) CC_OP(name##_slow)                                                         \
    {                                                                                                                  \
        cc_u##N m = (cc_u##N)(VALUE);                                                                                  \
        if (!cc_mem_write_bounced(cpu, op, budget, EA, &m, sizeof m))                                                  \
            return cc_op_fault(cpu, op, budget);                                                                       \
        COMMIT;                                                                                                        \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(name)                                                                                                 \
    {                                                                                                                  \
        uint64_t va = EA;                                                                                              \
        cc_u##N m = (cc_u##N)(VALUE);                                                                                  \
        const cc_tlbe *e = cc_tlb_entry(cpu, va);                                                                      \
        if (!CC_TLB_HIT(e, wtag, va, sizeof m))                                                                        \
            return name##_slow(cpu, op, budget);                                                                       \
        memcpy((void *)(va + e->addend), &m, sizeof m);                                                                \
        COMMIT;                                                                                                        \
        CC_NEXT();                                                                                                     \
    }

/* The body computes `st` (what is stored) from `m` and sets flags and registers; it runs only when the store is certain. */
#define RMW_HANDLER(name, N, EA, ...)                                                                                  \
    static __attribute__((noinline, cold)) CC_OP(name##_slow)                                                         \
    {                                                                                                                  \
        uint64_t va = EA;                                                                                              \
        cc_u##N m, st;                                                                                                 \
        if (!cc_mem_probe_write(cpu, op, budget, va, sizeof m) ||                                                      \
            !cc_mem_read_bounced(cpu, op, budget, va, &m, sizeof m))                                                   \
            return cc_op_fault(cpu, op, budget);                                                                       \
        __VA_ARGS__;                                                                                                   \
        if (!cc_mem_write_bounced(cpu, op, budget, va, &st, sizeof st))                                              \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(name)                                                                                                 \
    {                                                                                                                  \
        uint64_t va = EA;                                                                                              \
        cc_u##N m, st;                                                                                                 \
        const cc_tlbe *e = cc_tlb_entry(cpu, va);                                                                      \
        if (!CC_TLB_HIT(e, wtag, va, sizeof m))                                                                        \
            return name##_slow(cpu, op, budget);                                                                       \
        void *p = (void *)(va + e->addend);                                                                            \
        memcpy(&m, p, sizeof m);                                                                                       \
        __VA_ARGS__;                                                                                                   \
        memcpy(p, &st, sizeof st);                                                                                     \
        CC_NEXT();                                                                                                     \
    }

enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST, ALU_COUNT };

/* int_alu.c.  Register forms: destination op->b, source op->r or op->imm. */
extern const cc_opfn cc_alu_rr[ALU_COUNT][4], cc_alu_ri[ALU_COUNT][4];
extern const cc_opfn cc_alu_rr_nf[ALU_COUNT][4], cc_alu_ri_nf[ALU_COUNT][4];   /* without flags; NULL where none */
extern const cc_opfn cc_alu_rm[ALU_COUNT][4];                                  /* op->r <- op->r OP memory */
extern const cc_opfn cc_alu_mr[ALU_COUNT][4], cc_alu_mi[ALU_COUNT][4];         /* memory <- memory OP op->r / imm */
extern const cc_opfn cc_alu_rm_base[ALU_COUNT][4], cc_alu_mi_base[ALU_COUNT][4];  /* EA_BASE; NULL where none */
enum { UN_NOT, UN_NEG, UN_INC, UN_DEC, UN_COUNT };
extern const cc_opfn cc_un_r[UN_COUNT][4], cc_un_m[UN_COUNT][4];
extern const cc_opfn cc_incdec_nf[2][4];

/* int_shift.c.  kind: ROL ROR RCL RCR SHL SHR SAL SAR (ModRM.reg).  Counts: op->imm, or CL. */
extern const cc_opfn cc_shift_ri[8][4], cc_shift_ri_nf[8][4], cc_shift_rc[8][4], cc_shift_mi[8][4], cc_shift_mc[8][4];
extern const cc_opfn cc_shxd_r[2][2][4], cc_shxd_m[2][2][4];     /* [SHRD][CL][size] */
extern const cc_opfn cc_bt_rr[4][4], cc_bt_ri[4][4], cc_bt_mr[4][4], cc_bt_mi[4][4];   /* BT BTS BTR BTC */
extern const cc_opfn cc_bsf_r[4], cc_bsf_m[4], cc_bsr_r[4], cc_bsr_m[4], cc_popcnt_r[4], cc_popcnt_m[4];
extern const cc_opfn cc_crc32_r[4], cc_crc32_m[4];

/* int_mul.c */
extern const cc_opfn cc_mul_r[4], cc_mul_m[4], cc_imul1_r[4], cc_imul1_m[4];
extern const cc_opfn cc_div_r[4], cc_div_m[4], cc_idiv_r[4], cc_idiv_m[4];
extern const cc_opfn cc_imul_rr[4], cc_imul_rm[4], cc_imul_rri[4], cc_imul_rmi[4];

/* int_mov.c */
extern const cc_opfn cc_mov_rr[4], cc_mov_ri[4], cc_mov_rm[4], cc_mov_mr[4], cc_mov_mi[4];
extern const cc_opfn cc_mov_rm_base[4], cc_mov_mr_base[4], cc_mov_mi_base[4];
extern const cc_opfn cc_mov_ri64;
/* [destination size][source size]; source 8 or 16 (MOVSXD: source 32) */
extern const cc_opfn cc_movzx_r[4][3], cc_movzx_m[4][3], cc_movsx_r[4][3], cc_movsx_m[4][3];
extern const cc_opfn cc_movzx_m_base[4][3];
extern const cc_opfn cc_lea[4], cc_lea64_base;
extern const cc_opfn cc_xchg_rr[4], cc_xchg_mr[4], cc_xadd_rr[4], cc_xadd_mr[4], cc_cmpxchg_rr[4], cc_cmpxchg_mr[4];
extern const cc_opfn cc_cmpxchg8b, cc_cmpxchg16b;
extern const cc_opfn cc_push_r[4], cc_push_i[4], cc_push_m[4], cc_pop_r[4], cc_pop_m[4], cc_pushf[4], cc_popf[4];
extern const cc_opfn cc_leave[4], cc_enter[4];
extern const cc_opfn cc_setcc_r[16], cc_setcc_m[16], cc_cmov_rr[16][4], cc_cmov_rm[16][4];
extern const cc_opfn cc_cbw[4], cc_cwd[4], cc_bswap[4], cc_movbe_rm[4], cc_movbe_mr[4];
extern const cc_opfn cc_lahf, cc_sahf, cc_clc, cc_stc, cc_cmc, cc_cld, cc_std, cc_xlat, cc_nop;
extern const cc_opfn cc_moffs_load[4], cc_moffs_store[4];   /* imm64 = address without segment base */

/* branch.c */
extern const cc_opfn cc_jmp_in, cc_jmp_out, cc_call_in, cc_call_out, cc_ret, cc_ret_imm;
extern const cc_opfn cc_jmp_r[2], cc_jmp_m[2], cc_call_r[2], cc_call_m[2];     /* [edges are recorded] */
extern const cc_opfn cc_block_end_in, cc_block_end_out;
/* flag source known to the decoder: 0 unknown, 1..4 SUB of that size, 5 logic, 6 any lazy kind */
#define CC_JCC_KINDS 7
extern const cc_opfn cc_jcc_in[CC_JCC_KINDS][16], cc_jcc_out[16];
extern const cc_opfn cc_loop_in[4], cc_loop_out[4];          /* LOOPNE LOOPE LOOP JRCXZ; op->r: 1 = ECX */
/* compare and branch in one op, NULL where not made; [cond][size] */
extern const cc_opfn cc_cmp_rr_jcc[16][4], cc_cmp_ri_jcc[16][4], cc_test_rr_jcc[16][4], cc_test_ri_jcc[16][4];

/* string.c: [size]; op->r: 0 no prefix, 1 REP/REPE, 2 REPNE; op->ss has the source segment and address size */
extern const cc_opfn cc_movs[4], cc_stos[4], cc_lods[4], cc_cmps[4], cc_scas[4], cc_ins[4], cc_outs[4];
extern const cc_opfn cc_rep_movs[4], cc_rep_stos[4], cc_rep_lods[4], cc_rep_cmps[4], cc_rep_scas[4], cc_rep_ins[4], cc_rep_outs[4];

/* system.c and segment.c: chosen by the decoder for the system opcodes */
cc_opfn cc_system_select(const cc_dec *d, cc_op *op);
extern const cc_opfn cc_in_imm[4], cc_in_dx[4], cc_out_imm[4], cc_out_dx[4];

#endif
