/*
 * soft/int_shift.c: shifts, rotates, double shifts, bit tests and scans, POPCNT, CRC32.
 *
 * Flags the SDM leaves undefined: OF for counts other than 1 follows the 1-bit rule applied to the result; AF is 0.
 */
#include "int.h"

enum { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAL, SH_SAR };

/*
 * One shift of an N-bit value by a count that is masked to 5 or 6 bits already.  A count of 0 changes no flags.
 */
#define SHIFTS(N)                                                                                                      \
    static inline __attribute__((always_inline)) cc_u##N shift##N(cc_cpu *cpu, unsigned kind, cc_u##N a, unsigned n)  \
    {                                                                                                                  \
        cc_u##N out = a;                                                                                               \
        uint32_t cf, of;                                                                                               \
        if (n == 0)                                                                                                    \
            return a;                                                                                                  \
        switch (kind) {                                                                                                \
        case SH_SHL:                                                                                                   \
        case SH_SAL:                                                                                                   \
            out = n < N ? (cc_u##N)(a << n) : 0;                                                                       \
            cf = n <= N ? (uint32_t)(a >> (N - n)) & 1 : 0;                                                            \
            of = (uint32_t)(out >> (N - 1) & 1) ^ cf;                                                                  \
            break;                                                                                                     \
        case SH_SHR:                                                                                                   \
            out = n < N ? (cc_u##N)(a >> n) : 0;                                                                       \
            cf = n <= N ? (uint32_t)(a >> (n - 1)) & 1 : 0;                                                            \
            of = (uint32_t)(out >> (N - 2)) & 1;                                                                       \
            break;                                                                                                     \
        case SH_SAR: {                                                                                                 \
            cc_s64 s = (cc_s##N)a;                                                                                     \
            out = (cc_u##N)(s >> (n < N ? n : N - 1));                                                                 \
            cf = (uint32_t)(s >> (n <= N ? n - 1 : N - 1)) & 1;                                                        \
            of = 0;                                                                                                    \
            break;                                                                                                     \
        }                                                                                                              \
        case SH_ROL: {                                                                                                 \
            unsigned k = n & (N - 1);                                                                                  \
            out = k ? (cc_u##N)(a << k | a >> (N - k)) : a;                                                            \
            cf = out & 1;                                                                                              \
            of = (uint32_t)(out >> (N - 1) & 1) ^ cf;                                                                  \
            goto rotated;                                                                                              \
        }                                                                                                              \
        case SH_ROR: {                                                                                                 \
            unsigned k = n & (N - 1);                                                                                  \
            out = k ? (cc_u##N)(a >> k | a << (N - k)) : a;                                                            \
            cf = (uint32_t)(out >> (N - 1)) & 1;                                                                       \
            of = cf ^ ((uint32_t)(out >> (N - 2)) & 1);                                                                \
            goto rotated;                                                                                              \
        }                                                                                                              \
        case SH_RCL: {                                                                                                 \
            unsigned k = N < 32 ? n % (N + 1) : n;                                                                     \
            cf = cc_flag_c(cpu);                                                                                       \
            for (; k; k--) {                                                                                           \
                uint32_t top = (uint32_t)(out >> (N - 1)) & 1;                                                         \
                out = (cc_u##N)(out << 1 | cf);                                                                        \
                cf = top;                                                                                              \
            }                                                                                                          \
            of = (uint32_t)(out >> (N - 1) & 1) ^ cf;                                                                  \
            goto rotated;                                                                                              \
        }                                                                                                              \
        default: {                                                                                                     \
            unsigned k = N < 32 ? n % (N + 1) : n;                                                                     \
            cf = cc_flag_c(cpu);                                                                                       \
            for (; k; k--) {                                                                                           \
                uint32_t low = out & 1;                                                                                \
                out = (cc_u##N)(out >> 1 | (cc_u##N)cf << (N - 1));                                                    \
                cf = low;                                                                                              \
            }                                                                                                          \
            of = (uint32_t)((out >> (N - 1)) ^ (out >> (N - 2))) & 1;                                                  \
            goto rotated;                                                                                              \
        }                                                                                                              \
        }                                                                                                              \
        cc_set_arith_flags(cpu, cc_zsp(SX(N, out)) | cf | (of ? FL_OF : 0));                                           \
        return out;                                                                                                    \
    rotated:                                                                                                           \
        cc_set_arith_flags(cpu, (cc_arith_flags(cpu) & ~(FL_CF | FL_OF)) | cf | (of ? FL_OF : 0));                     \
        return out;                                                                                                    \
    }
SHIFTS(8) SHIFTS(16) SHIFTS(32) SHIFTS(64)
#define MASK(N) ((N) == 64 ? 63u : 31u)
#define CL(N) ((unsigned)cpu->r[CC_RCX] & MASK(N))

#define SHIFT_FORMS(K, N)                                                                                              \
    static CC_OP(sh##K##_ri##N)                                                                                        \
    { cc_set##N(cpu, op->b, shift##N(cpu, K, cc_get##N(cpu, op->b), (unsigned)op->imm & MASK(N))); CC_NEXT(); }       \
    static CC_OP(sh##K##_rc##N)                                                                                        \
    { cc_set##N(cpu, op->b, shift##N(cpu, K, cc_get##N(cpu, op->b), CL(N))); CC_NEXT(); }                             \
    RMW_HANDLER(sh##K##_mi##N, N, EA_FULL, st = shift##N(cpu, K, m, (unsigned)op->imm & MASK(N)))                      \
    RMW_HANDLER(sh##K##_mc##N, N, EA_FULL, st = shift##N(cpu, K, m, CL(N)))
#define SHIFT_KINDS(N)                                                                                                 \
    SHIFT_FORMS(0, N) SHIFT_FORMS(1, N) SHIFT_FORMS(2, N) SHIFT_FORMS(3, N) SHIFT_FORMS(4, N) SHIFT_FORMS(5, N)        \
    SHIFT_FORMS(7, N)
SHIFT_KINDS(8) SHIFT_KINDS(16) SHIFT_KINDS(32) SHIFT_KINDS(64)
#define ROW(NAME) {NAME##8, NAME##16, NAME##32, NAME##64}
#define WROW(NAME) {0, NAME##16, NAME##32, NAME##64}
#define SHIFT_TABLE(F) {ROW(sh0_##F), ROW(sh1_##F), ROW(sh2_##F), ROW(sh3_##F), ROW(sh4_##F), ROW(sh5_##F), ROW(sh4_##F), ROW(sh7_##F)}
const cc_opfn cc_shift_ri[8][4] = SHIFT_TABLE(ri), cc_shift_rc[8][4] = SHIFT_TABLE(rc);
const cc_opfn cc_shift_mi[8][4] = SHIFT_TABLE(mi), cc_shift_mc[8][4] = SHIFT_TABLE(mc);

/* Without flags: the decoder has masked the count and made sure it is not 0. */
#define SHIFT_NF(N)                                                                                                    \
    static CC_OP(shln##N) { cc_set##N(cpu, op->b, (cc_u##N)(cc_get##N(cpu, op->b) << op->imm)); CC_NEXT(); }          \
    static CC_OP(shrn##N) { cc_set##N(cpu, op->b, (cc_u##N)(cc_get##N(cpu, op->b) >> op->imm)); CC_NEXT(); }          \
    static CC_OP(sarn##N) { cc_set##N(cpu, op->b, (cc_u##N)((cc_s##N)cc_get##N(cpu, op->b) >> op->imm)); CC_NEXT(); }
SHIFT_NF(32) SHIFT_NF(64)
#define NROW(NAME) {0, 0, NAME##32, NAME##64}
const cc_opfn cc_shift_ri_nf[8][4] = {[SH_SHL] = NROW(shln), [SH_SHR] = NROW(shrn), [SH_SAL] = NROW(shln), [SH_SAR] = NROW(sarn)};

/* ---- SHLD, SHRD ------------------------------------------------------------------------------------------------------ */
/* A 16-bit double shift by more than 16 is undefined; here as if the source followed the destination once more. */
#define SHXD(N, U2)                                                                                                    \
    static inline cc_u##N shld##N(cc_cpu *cpu, cc_u##N a, cc_u##N b, unsigned n)                                      \
    {                                                                                                                  \
        if (n == 0)                                                                                                    \
            return a;                                                                                                  \
        cc_u##N out;                                                                                                   \
        uint32_t cf;                                                                                                   \
        if (n <= N) {                                                                                                  \
            out = n == N ? b : (cc_u##N)(a << n | b >> (N - n));                                                       \
            cf = (uint32_t)(a >> (N - n)) & 1;                                                                         \
        } else {                                                                                                       \
            out = (cc_u##N)(b << (n - N) | a >> (2 * N - n));                                                          \
            cf = (uint32_t)(b >> (2 * N - n)) & 1;                                                                     \
        }                                                                                                              \
        cc_set_arith_flags(cpu, cc_zsp(SX(N, out)) | cf | (((out ^ a) >> (N - 1)) & 1 ? FL_OF : 0));                   \
        return out;                                                                                                    \
    }                                                                                                                  \
    static inline cc_u##N shrd##N(cc_cpu *cpu, cc_u##N a, cc_u##N b, unsigned n)                                      \
    {                                                                                                                  \
        if (n == 0)                                                                                                    \
            return a;                                                                                                  \
        cc_u##N out;                                                                                                   \
        uint32_t cf;                                                                                                   \
        if (n <= N) {                                                                                                  \
            out = n == N ? b : (cc_u##N)(a >> n | b << (N - n));                                                       \
            cf = (uint32_t)(a >> (n - 1)) & 1;                                                                         \
        } else {                                                                                                       \
            out = (cc_u##N)(b >> (n - N) | a << (2 * N - n));                                                          \
            cf = (uint32_t)(b >> (n - N - 1)) & 1;                                                                     \
        }                                                                                                              \
        cc_set_arith_flags(cpu, cc_zsp(SX(N, out)) | cf | (((out ^ a) >> (N - 1)) & 1 ? FL_OF : 0));                   \
        return out;                                                                                                    \
    }                                                                                                                  \
    SHXD_FORMS(shld, N) SHXD_FORMS(shrd, N)
#define SHXD_FORMS(NAME, N)                                                                                            \
    static CC_OP(NAME##_i##N)                                                                                          \
    { cc_set##N(cpu, op->b, NAME##N(cpu, cc_get##N(cpu, op->b), cc_get##N(cpu, op->r), (unsigned)op->imm & MASK(N)));  \
      CC_NEXT(); }                                                                                                     \
    static CC_OP(NAME##_c##N)                                                                                          \
    { cc_set##N(cpu, op->b, NAME##N(cpu, cc_get##N(cpu, op->b), cc_get##N(cpu, op->r), CL(N))); CC_NEXT(); }          \
    RMW_HANDLER(NAME##_mi##N, N, EA_FULL, st = NAME##N(cpu, m, cc_get##N(cpu, op->r), (unsigned)op->imm & MASK(N)))    \
    RMW_HANDLER(NAME##_mc##N, N, EA_FULL, st = NAME##N(cpu, m, cc_get##N(cpu, op->r), CL(N)))
SHXD(16, uint32_t) SHXD(32, uint64_t) SHXD(64, unsigned __int128)
const cc_opfn cc_shxd_r[2][2][4] = {{WROW(shld_i), WROW(shld_c)}, {WROW(shrd_i), WROW(shrd_c)}};
const cc_opfn cc_shxd_m[2][2][4] = {{WROW(shld_mi), WROW(shld_mc)}, {WROW(shrd_mi), WROW(shrd_mc)}};

/* ---- BT, BTS, BTR, BTC: only CF changes -------------------------------------------------------------------------------- */
static inline void set_cf(cc_cpu *cpu, unsigned cf)
{
    cc_set_arith_flags(cpu, (cc_arith_flags(cpu) & ~FL_CF) | (cf & 1));
}
/* A register bit offset addresses memory beyond the operand, as a signed bit string index. */
#define BT_EA(N)                                                                                                       \
    ({                                                                                                                 \
        uint64_t a_ = cpu->r[op->b] + (cpu->r[op->x] << (op->ss & 3)) + (uint64_t)(int64_t)op->disp +                  \
                      (uint64_t)((cc_s64)(cc_s##N)cc_get##N(cpu, op->r) >> (N == 16 ? 4 : N == 32 ? 5 : 6)) * (N / 8); \
        (op->ss & CC_SS_A32 ? (uint32_t)a_ : a_) + cpu->segbase[CC_SS_SEG(op->ss)];                                    \
    })
#define BIT(N, v) ((cc_u##N)((cc_u##N)1 << ((v) & (N - 1))))
#define BT0(N, v, bit) (v)
#define BT1(N, v, bit) ((cc_u##N)((v) | (bit)))
#define BT2(N, v, bit) ((cc_u##N)((v) & ~(bit)))
#define BT3(N, v, bit) ((cc_u##N)((v) ^ (bit)))
#define BT_REG(K, N)                                                                                                   \
    static CC_OP(bt##K##_rr##N)                                                                                        \
    {                                                                                                                  \
        cc_u##N v = cc_get##N(cpu, op->b), bit = BIT(N, cc_get##N(cpu, op->r));                                        \
        if (K)                                                                                                         \
            cc_set##N(cpu, op->b, BT##K(N, v, bit));                                                                   \
        set_cf(cpu, (v & bit) != 0);                                                                                   \
        CC_NEXT();                                                                                                     \
    }                                                                                                                  \
    static CC_OP(bt##K##_ri##N)                                                                                        \
    {                                                                                                                  \
        cc_u##N v = cc_get##N(cpu, op->b), bit = BIT(N, op->imm);                                                      \
        if (K)                                                                                                         \
            cc_set##N(cpu, op->b, BT##K(N, v, bit));                                                                   \
        set_cf(cpu, (v & bit) != 0);                                                                                   \
        CC_NEXT();                                                                                                     \
    }
#define BT_MEM(K, N)                                                                                                   \
    RMW_HANDLER(bt##K##_mr##N, N, BT_EA(N), cc_u##N bit = BIT(N, cc_get##N(cpu, op->r)); st = BT##K(N, m, bit);        \
                set_cf(cpu, (m & bit) != 0))                                                                           \
    RMW_HANDLER(bt##K##_mi##N, N, EA_FULL, cc_u##N bit = BIT(N, op->imm); st = BT##K(N, m, bit);                       \
                set_cf(cpu, (m & bit) != 0))
#define BT(N)                                                                                                          \
    BT_REG(0, N) BT_REG(1, N) BT_REG(2, N) BT_REG(3, N) BT_MEM(1, N) BT_MEM(2, N) BT_MEM(3, N)                         \
    LOAD_HANDLER(bt0_mr##N, N, BT_EA(N), set_cf(cpu, (m & BIT(N, cc_get##N(cpu, op->r))) != 0))                        \
    LOAD_HANDLER(bt0_mi##N, N, EA_FULL, set_cf(cpu, (m & BIT(N, op->imm)) != 0))
BT(16) BT(32) BT(64)
#define BT_TABLE(F) {WROW(bt0_##F), WROW(bt1_##F), WROW(bt2_##F), WROW(bt3_##F)}
const cc_opfn cc_bt_rr[4][4] = BT_TABLE(rr), cc_bt_ri[4][4] = BT_TABLE(ri);
const cc_opfn cc_bt_mr[4][4] = BT_TABLE(mr), cc_bt_mi[4][4] = BT_TABLE(mi);

/* ---- BSF, BSR, POPCNT, CRC32 ---------------------------------------------------------------------------------------------- */
/* With a source of 0 the destination keeps its value (all 64 bits), as CPUs do; the other flags are cleared. */
#define SCAN(N)                                                                                                        \
    static inline void bsf##N(cc_cpu *cpu, unsigned r, cc_u##N m)                                                     \
    {                                                                                                                  \
        if (m)                                                                                                         \
            cc_set##N(cpu, r, (cc_u##N)__builtin_ctzll(m));                                                            \
        cc_set_arith_flags(cpu, m ? 0 : FL_ZF | FL_PF);                                                                \
    }                                                                                                                  \
    static inline void bsr##N(cc_cpu *cpu, unsigned r, cc_u##N m)                                                     \
    {                                                                                                                  \
        if (m)                                                                                                         \
            cc_set##N(cpu, r, (cc_u##N)(63 - __builtin_clzll(m)));                                                     \
        cc_set_arith_flags(cpu, m ? 0 : FL_ZF | FL_PF);                                                                \
    }                                                                                                                  \
    static inline void popcnt##N(cc_cpu *cpu, unsigned r, cc_u##N m)                                                  \
    {                                                                                                                  \
        cc_set##N(cpu, r, (cc_u##N)__builtin_popcountll(m));                                                           \
        cc_set_arith_flags(cpu, m ? 0 : FL_ZF);                                                                        \
    }                                                                                                                  \
    SCAN_FORMS(bsf, N) SCAN_FORMS(bsr, N) SCAN_FORMS(popcnt, N)
#define SCAN_FORMS(NAME, N)                                                                                            \
    static CC_OP(NAME##_r##N) { NAME##N(cpu, op->r, cc_get##N(cpu, op->b)); CC_NEXT(); }                              \
    LOAD_HANDLER(NAME##_m##N, N, EA_FULL, NAME##N(cpu, op->r, m))
SCAN(16) SCAN(32) SCAN(64)
const cc_opfn cc_bsf_r[4] = WROW(bsf_r), cc_bsf_m[4] = WROW(bsf_m), cc_bsr_r[4] = WROW(bsr_r), cc_bsr_m[4] = WROW(bsr_m);
const cc_opfn cc_popcnt_r[4] = WROW(popcnt_r), cc_popcnt_m[4] = WROW(popcnt_m);

/* CRC-32C, reflected polynomial 0x82F63B78 (SDM vol. 2, CRC32). */
static uint32_t crc32c(uint32_t crc, uint64_t v, unsigned bits)
{
    static const uint32_t nibble[16] = {
        0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
        0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
    };
    for (unsigned i = 0; i < bits; i += 4, v >>= 4)
        crc = crc >> 4 ^ nibble[(crc ^ v) & 15];
    return crc;
}
#define CRC(N)                                                                                                         \
    static CC_OP(crc32_r##N)                                                                                           \
    { cpu->r[op->r] = crc32c((uint32_t)cpu->r[op->r], cc_get##N(cpu, op->b), N); CC_NEXT(); }                         \
    LOAD_HANDLER(crc32_m##N, N, EA_FULL, cpu->r[op->r] = crc32c((uint32_t)cpu->r[op->r], m, N))
CRC(8) CRC(16) CRC(32) CRC(64)
const cc_opfn cc_crc32_r[4] = ROW(crc32_r), cc_crc32_m[4] = ROW(crc32_m);
