/*
 * soft/int_mul.c: multiplication and division.  After MUL and IMUL the undefined flags are set from the low half of the
 * result (AF = 0); DIV and IDIV leave the flags alone.
 */
#include "int.h"

typedef unsigned __int128 u128;
typedef __int128 s128;

static inline void mul_flags(cc_cpu *cpu, bool overflow, uint64_t low_sext)
{
    cc_set_arith_flags(cpu, (overflow ? FL_CF | FL_OF : 0) | (cc_zsp(low_sext) & (FL_SF | FL_PF)));
}

/* ---- one-operand MUL, IMUL: AX, DX:AX, EDX:EAX, RDX:RAX ------------------------------------------------------------------ */
static inline void mul8(cc_cpu *cpu, cc_u8 m)
{
    unsigned p = (cc_u8)cpu->r[CC_RAX] * m;
    cc_set16(cpu, CC_RAX, (cc_u16)p);
    mul_flags(cpu, p >> 8, SX(8, p));
}
static inline void imul1_8(cc_cpu *cpu, cc_u8 m)
{
    int p = (int8_t)cpu->r[CC_RAX] * (int8_t)m;
    cc_set16(cpu, CC_RAX, (cc_u16)p);
    mul_flags(cpu, p != (int8_t)p, SX(8, p));
}
#define MUL(N, U2, S2)                                                                                                 \
    static inline void mul##N(cc_cpu *cpu, cc_u##N m)                                                                 \
    {                                                                                                                  \
        U2 p = (U2)(cc_u##N)cpu->r[CC_RAX] * m;                                                                        \
        cc_set##N(cpu, CC_RAX, (cc_u##N)p);                                                                            \
        cc_set##N(cpu, CC_RDX, (cc_u##N)(p >> N));                                                                     \
        mul_flags(cpu, (p >> N) != 0, SX(N, p));                                                                       \
    }                                                                                                                  \
    static inline void imul1_##N(cc_cpu *cpu, cc_u##N m)                                                              \
    {                                                                                                                  \
        S2 p = (S2)(cc_s##N)cpu->r[CC_RAX] * (cc_s##N)m;                                                               \
        cc_set##N(cpu, CC_RAX, (cc_u##N)p);                                                                            \
        cc_set##N(cpu, CC_RDX, (cc_u##N)((U2)p >> N));                                                                 \
        mul_flags(cpu, p != (cc_s##N)p, SX(N, p));                                                                     \
    }
MUL(16, uint32_t, int32_t) MUL(32, uint64_t, int64_t) MUL(64, u128, s128)

/* ---- DIV, IDIV: false is #DE ------------------------------------------------------------------------------------------------ */
static inline bool div8(cc_cpu *cpu, cc_u8 m)
{
    unsigned a = (cc_u16)cpu->r[CC_RAX];
    if (m == 0 || a / m > 0xff)
        return false;
    cc_set16(cpu, CC_RAX, (cc_u16)((a / m) | (a % m) << 8));
    return true;
}
static inline bool idiv8(cc_cpu *cpu, cc_u8 m8)
{
    int a = (int16_t)cpu->r[CC_RAX], m = (int8_t)m8;
    if (m == 0 || a / m != (int8_t)(a / m))
        return false;
    cc_set16(cpu, CC_RAX, (cc_u16)((cc_u8)(a / m) | (cc_u8)(a % m) << 8));
    return true;
}
#define DIV(N, U2, S2)                                                                                                 \
    static inline bool div##N(cc_cpu *cpu, cc_u##N m)                                                                 \
    {                                                                                                                  \
        U2 a = (U2)(cc_u##N)cpu->r[CC_RDX] << N | (cc_u##N)cpu->r[CC_RAX];                                             \
        if ((cc_u##N)cpu->r[CC_RDX] >= m)      /* also m == 0 */                                                       \
            return false;                                                                                              \
        cc_set##N(cpu, CC_RAX, (cc_u##N)(a / m));                                                                      \
        cc_set##N(cpu, CC_RDX, (cc_u##N)(a % m));                                                                      \
        return true;                                                                                                   \
    }                                                                                                                  \
    static inline bool idiv##N(cc_cpu *cpu, cc_u##N m)                                                                \
    {                                                                                                                  \
        S2 a = (S2)((U2)(cc_u##N)cpu->r[CC_RDX] << N | (cc_u##N)cpu->r[CC_RAX]), d = (cc_s##N)m;                       \
        if (d == 0 || (d == -1 && a == (S2)((U2)1 << (2 * N - 1))))                                                    \
            return false;                                                                                              \
        S2 q = a / d, r = a % d;                                                                                       \
        if (q != (cc_s##N)q)                                                                                           \
            return false;                                                                                              \
        cc_set##N(cpu, CC_RAX, (cc_u##N)q);                                                                            \
        cc_set##N(cpu, CC_RDX, (cc_u##N)r);                                                                            \
        return true;                                                                                                   \
    }
DIV(16, uint32_t, int32_t) DIV(32, uint64_t, int64_t) DIV(64, u128, s128)

#define ONE_OPERAND(N)                                                                                                 \
    static CC_OP(mul_r##N) { mul##N(cpu, cc_get##N(cpu, op->b)); CC_NEXT(); }                                         \
    LOAD_HANDLER(mul_m##N, N, EA_FULL, mul##N(cpu, m))                                                                 \
    static CC_OP(imul1_r##N) { imul1_##N(cpu, cc_get##N(cpu, op->b)); CC_NEXT(); }                                    \
    LOAD_HANDLER(imul1_m##N, N, EA_FULL, imul1_##N(cpu, m))                                                            \
    static CC_OP(div_r##N)                                                                                             \
    { if (!div##N(cpu, cc_get##N(cpu, op->b))) { cc_raise(cpu, EXC_DE); return cc_op_fault(cpu, op, budget); } CC_NEXT(); } \
    LOAD_HANDLER(div_m##N, N, EA_FULL,                                                                                 \
                 if (!div##N(cpu, m)) { cc_raise(cpu, EXC_DE); return cc_op_fault(cpu, op, budget); })                 \
    static CC_OP(idiv_r##N)                                                                                            \
    { if (!idiv##N(cpu, cc_get##N(cpu, op->b))) { cc_raise(cpu, EXC_DE); return cc_op_fault(cpu, op, budget); } CC_NEXT(); } \
    LOAD_HANDLER(idiv_m##N, N, EA_FULL,                                                                                \
                 if (!idiv##N(cpu, m)) { cc_raise(cpu, EXC_DE); return cc_op_fault(cpu, op, budget); })
ONE_OPERAND(8) ONE_OPERAND(16) ONE_OPERAND(32) ONE_OPERAND(64)
#define ROW(NAME) {NAME##8, NAME##16, NAME##32, NAME##64}
const cc_opfn cc_mul_r[4] = ROW(mul_r), cc_mul_m[4] = ROW(mul_m), cc_imul1_r[4] = ROW(imul1_r), cc_imul1_m[4] = ROW(imul1_m);
const cc_opfn cc_div_r[4] = ROW(div_r), cc_div_m[4] = ROW(div_m), cc_idiv_r[4] = ROW(idiv_r), cc_idiv_m[4] = ROW(idiv_m);

/* ---- two and three operands: op->r <- source * (op->r or imm) ------------------------------------------------------------- */
#define IMUL(N, S2)                                                                                                    \
    static inline cc_u##N imul_##N(cc_cpu *cpu, cc_u##N a, cc_u##N b)                                                 \
    {                                                                                                                  \
        S2 p = (S2)(cc_s##N)a * (cc_s##N)b;                                                                            \
        mul_flags(cpu, p != (cc_s##N)p, SX(N, p));                                                                     \
        return (cc_u##N)p;                                                                                             \
    }                                                                                                                  \
    static CC_OP(imul_rr##N)                                                                                           \
    { cc_set##N(cpu, op->r, imul_##N(cpu, cc_get##N(cpu, op->r), cc_get##N(cpu, op->b))); CC_NEXT(); }                \
    LOAD_HANDLER(imul_rm##N, N, EA_FULL, cc_set##N(cpu, op->r, imul_##N(cpu, cc_get##N(cpu, op->r), m)))               \
    static CC_OP(imul_rri##N)                                                                                          \
    { cc_set##N(cpu, op->r, imul_##N(cpu, cc_get##N(cpu, op->b), (cc_u##N)(cc_s64)op->imm)); CC_NEXT(); }             \
    LOAD_HANDLER(imul_rmi##N, N, EA_FULL, cc_set##N(cpu, op->r, imul_##N(cpu, m, (cc_u##N)(cc_s64)op->imm)))
IMUL(16, int32_t) IMUL(32, int64_t) IMUL(64, s128)
#define WROW(NAME) {0, NAME##16, NAME##32, NAME##64}
const cc_opfn cc_imul_rr[4] = WROW(imul_rr), cc_imul_rm[4] = WROW(imul_rm);
const cc_opfn cc_imul_rri[4] = WROW(imul_rri), cc_imul_rmi[4] = WROW(imul_rmi);
