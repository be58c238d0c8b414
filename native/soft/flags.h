/*
 * soft/flags.h: lazy arithmetic flags.
 *
 * cc_res and cc_src are kept sign-extended from the operand size to 64 bits, so that ZF and SF read the same for every
 * size, and unsigned comparison of sign-extended values orders like the originals.  Flags that the SDM leaves undefined
 * are defined here once: AF is 0 after logic, shifts and rotates keep it 0; see each handler.
 */
#ifndef CC_SOFT_FLAGS_H
#define CC_SOFT_FLAGS_H

#include "cpu.h"

extern const uint8_t cc_parity[256];     /* FL_PF or 0 */

static inline unsigned cc_flags_bits(uint32_t op) { return 8u << ((op - 1) & 3); }
static inline uint64_t cc_sext(uint64_t v, unsigned bits)
{
    return (uint64_t)((int64_t)(v << (64 - bits)) >> (64 - bits));
}

static inline bool cc_flag_z(const cc_cpu *c)
{
    return c->cc_op == CC_FLAGS_EXPLICIT ? (c->cc_src & FL_ZF) != 0 : c->cc_res == 0;
}
static inline bool cc_flag_s(const cc_cpu *c)
{
    return c->cc_op == CC_FLAGS_EXPLICIT ? (c->cc_src & FL_SF) != 0 : (int64_t)c->cc_res < 0;
}
static inline bool cc_flag_p(const cc_cpu *c)
{
    return c->cc_op == CC_FLAGS_EXPLICIT ? (c->cc_src & FL_PF) != 0 : cc_parity[(uint8_t)c->cc_res] != 0;
}
static inline bool cc_flag_c(const cc_cpu *c)
{
    uint32_t op = c->cc_op;
    if (op == CC_FLAGS_EXPLICIT)
        return c->cc_src & FL_CF;
    if (op <= CC_FLAGS_ADD64)
        return c->cc_res < c->cc_src;
    if (op <= CC_FLAGS_SUB64)
        return cc_sext(c->cc_res + c->cc_src, cc_flags_bits(op)) < c->cc_src;
    if (op <= CC_FLAGS_LOGIC64)
        return false;
    return c->cc_src & 1;      /* INC, DEC */
}
static inline bool cc_flag_o(const cc_cpu *c)
{
    uint32_t op = c->cc_op;
    if (op == CC_FLAGS_EXPLICIT)
        return c->cc_src & FL_OF;
    uint64_t res = c->cc_res, src = c->cc_src;
    unsigned top = cc_flags_bits(op) - 1;
    if (op <= CC_FLAGS_ADD64)
        return ((((res - src) ^ res) & (src ^ res)) >> top) & 1;
    if (op <= CC_FLAGS_SUB64)
        return ((((res + src) ^ src) & ((res + src) ^ res)) >> top) & 1;
    if (op <= CC_FLAGS_LOGIC64)
        return false;
    if (op <= CC_FLAGS_INC64)
        return res == (uint64_t)-1 << top;
    return res == ((uint64_t)1 << top) - 1;
}

/* Condition code 0..15 of Jcc, SETcc, CMOVcc. */
static inline bool cc_cond(const cc_cpu *c, unsigned cond)
{
    bool v;
    switch (cond >> 1) {
    case 0: v = cc_flag_o(c); break;
    case 1: v = cc_flag_c(c); break;
    case 2: v = cc_flag_z(c); break;
    case 3: v = cc_flag_c(c) || cc_flag_z(c); break;
    case 4: v = cc_flag_s(c); break;
    case 5: v = cc_flag_p(c); break;
    case 6: v = cc_flag_s(c) != cc_flag_o(c); break;
    default: v = cc_flag_z(c) || cc_flag_s(c) != cc_flag_o(c); break;
    }
    return v != (cond & 1);
}

static inline void cc_flags_lazy(cc_cpu *c, uint32_t op, uint64_t res, uint64_t src)
{
    c->cc_op = op;
    c->cc_res = res;
    c->cc_src = src;
}

/* ZF, SF, PF of a sign-extended result, as FL_* bits. */
static inline uint32_t cc_zsp(uint64_t res)
{
    return (res == 0 ? FL_ZF : 0) | ((int64_t)res < 0 ? FL_SF : 0) | cc_parity[(uint8_t)res];
}

static inline uint64_t cc_rflags(const cc_cpu *c) { return c->rflags | cc_arith_flags(c); }

#endif
