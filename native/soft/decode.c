/*
 * soft/decode.c: instruction bytes to ops.  64-bit mode only (SDM vol. 2, chapter 2 and appendix A).
 *
 * Operand fields and immediates are filled in here for every instruction; integer handlers are chosen here, the others
 * by cc_system_select, cc_x87_select and cc_sse_select.  While a block is decoded two facts are tracked: which kind of
 * operation last set the flags (conditional branches are specialised by it), and whether flags are overwritten before
 * anything can see them (then they are not computed).
 */
#include "int.h"

/* ---- what follows the opcode ------------------------------------------------------------------------------------------- */
enum {
    M = 1,          /* ModRM */
    IB = 2, IZ = 4, IV = 8, IW = 16, IWB = 32, MO = 64, GRP3 = 128,
};

static const uint8_t form0[256] = {
#define ALU8 M, M, M, M, IB, IZ, 0, 0
    ALU8, ALU8, ALU8, ALU8, ALU8, ALU8, ALU8, ALU8,                              /* 00-3F */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                              /* 40: REX */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                              /* 50 */
    0, 0, 0, M, 0, 0, 0, 0, IZ, M | IZ, IB, M | IB, 0, 0, 0, 0,                  /* 60 */
    IB, IB, IB, IB, IB, IB, IB, IB, IB, IB, IB, IB, IB, IB, IB, IB,              /* 70 */
    M | IB, M | IZ, 0, M | IB, M, M, M, M, M, M, M, M, M, M, M, M,               /* 80 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                              /* 90 */
    MO, MO, MO, MO, 0, 0, 0, 0, IB, IZ, 0, 0, 0, 0, 0, 0,                        /* A0 */
    IB, IB, IB, IB, IB, IB, IB, IB, IV, IV, IV, IV, IV, IV, IV, IV,              /* B0 */
    M | IB, M | IB, IW, 0, 0, 0, M | IB, M | IZ, IWB, 0, IW, 0, 0, IB, 0, 0,     /* C0 */
    M, M, M, M, 0, 0, 0, 0, M, M, M, M, M, M, M, M,                              /* D0 */
    IB, IB, IB, IB, IB, IB, IB, IB, IZ, IZ, 0, IB, 0, 0, 0, 0,                   /* E0 */
    0, 0, 0, 0, 0, 0, M | GRP3, M | GRP3, 0, 0, 0, 0, 0, 0, M, M,                /* F0 */
};

static const uint8_t form1[256] = {
    M, M, M, M, 0, 0, 0, 0, 0, 0, 0, 0, 0, M, 0, M | IB,                         /* 00 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* 10 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* 20 */
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                              /* 30 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* 40 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* 50 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* 60 */
    M | IB, M | IB, M | IB, M | IB, M, M, M, 0, M, M, M, M, M, M, M, M,          /* 70 */
    IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ, IZ,              /* 80 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* 90 */
    0, 0, 0, M, M | IB, M, 0, 0, 0, 0, 0, M, M | IB, M, M, M,                    /* A0 */
    M, M, M, M, M, M, M, M, M, M, M | IB, M, M, M, M, M,                         /* B0 */
    M, M, M | IB, M, M | IB, M | IB, M | IB, M, 0, 0, 0, 0, 0, 0, 0, 0,          /* C0 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* D0 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* E0 */
    M, M, M, M, M, M, M, M, M, M, M, M, M, M, M, M,                              /* F0 */
};

/* ---- one instruction, syntactically ---------------------------------------------------------------------------------------- */
typedef struct insn {
    cc_dec d;
    uint32_t len;
    bool base_only;         /* memory operand is base + displacement: EA_BASE will do */
    bool rip_relative;
    int64_t disp;           /* as encoded */
    int64_t imm;            /* sign-extended; IWB: size | level << 16 */
} insn;

enum { SYN_OK, SYN_SHORT, SYN_TOO_LONG, SYN_UNDEFINED };

#define NEED(k) do { if (p + (k) > end) return p + (k) > code + 15 ? SYN_TOO_LONG : SYN_SHORT; } while (0)

static int64_t read_signed(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return (int64_t)cc_sext(v, 8 * n);
}

/* Parse one instruction; op gets the operand fields (b, x, ss, disp) of a memory operand, or b of a register one. */
static int parse(const uint8_t *code, unsigned avail, insn *in, cc_op *op)
{
    const uint8_t *p = code, *end = code + (avail < 15 ? avail : 15);
    cc_dec *d = &in->d;
    uint8_t form, seg = 0;

    memset(in, 0, sizeof *in);
    memset(op, 0, sizeof *op);
    for (;; p++) {
        NEED(1);
        uint8_t c = *p;
        if ((c & 0xf0) == 0x40) {
            d->rex = c;
            continue;
        }
        bool prefix = true;
        switch (c) {
        case 0x66: d->opsize = true; break;
        case 0x67: d->a32 = true; break;
        case 0xf0: d->lock = true; break;
        case 0xf2: case 0xf3: d->rep = c; break;
        case 0x26: case 0x2e: case 0x36: case 0x3e: break;      /* ES CS SS DS have no effect */
        case 0x64: seg = 1; break;
        case 0x65: seg = 2; break;
        default: prefix = false;
        }
        if (!prefix)
            break;
        d->rex = 0;        /* REX counts only right before the opcode */
    }
    d->seg = seg;
    d->rexw = d->rex & 8;
    d->opcode = *p++;
    if (d->opcode != 0x0f) {
        form = form0[d->opcode];
    } else {
        NEED(1);
        d->map = 1;
        d->opcode = *p++;
        form = form1[d->opcode];
        if (d->opcode == 0x38 || d->opcode == 0x3a) {
            d->map = d->opcode == 0x38 ? 2 : 3;
            form = d->map == 2 ? M : M | IB;
            NEED(1);
            d->opcode = *p++;
        }
    }
    d->opbytes = d->rexw ? 8 : d->opsize ? 2 : 4;
    if (d->map == 0 && (d->opcode == 0xc4 || d->opcode == 0xc5 || d->opcode == 0x62)) {     /* VEX, EVEX */
        in->len = (uint32_t)(p - code);
        return SYN_UNDEFINED;
    }
    if (form & M) {
        NEED(1);
        d->modrm = *p++;
        d->reg = (d->modrm >> 3) & 7;
        d->rm = d->modrm & 7;
        unsigned mod = d->modrm >> 6;
        /* MOV to and from control and debug registers ignore mod */
        if (d->map == 1 && d->opcode >= 0x20 && d->opcode <= 0x23)
            mod = 3;
        d->mem = mod != 3;
        unsigned rexb = d->rex & 1 ? 8 : 0, rexx = d->rex & 2 ? 8 : 0;
        op->x = CC_R_ZERO;
        if (!d->mem) {
            op->b = (uint8_t)(d->rm | rexb);
        } else {
            uint8_t stack = 0;
            op->b = (uint8_t)(d->rm | rexb);
            if (d->rm == 4) {
                NEED(1);
                uint8_t sib = *p++;
                unsigned index = ((sib >> 3) & 7) | rexx;
                if (index != 4) {
                    op->x = (uint8_t)index;
                    op->ss = sib >> 6;
                }
                op->b = (uint8_t)((sib & 7) | rexb);
                if ((sib & 7) == 5 && mod == 0) {
                    op->b = CC_R_ZERO;
                    NEED(4);
                    in->disp = read_signed(p, 4);
                    p += 4;
                }
            } else if (d->rm == 5 && mod == 0) {
                NEED(4);
                in->disp = read_signed(p, 4);
                p += 4;
                in->rip_relative = true;
                op->b = CC_R_PAGE;
            }
            if (op->b == CC_RSP || op->b == CC_RBP)
                stack = seg ? 0 : CC_SS_STACK;
            if (mod == 1) {
                NEED(1);
                in->disp = read_signed(p, 1);
                p += 1;
            } else if (mod == 2) {
                NEED(4);
                in->disp = read_signed(p, 4);
                p += 4;
            }
            op->ss |= (uint8_t)(seg << 2) | stack | (d->a32 ? CC_SS_A32 : 0);
            op->disp = (int32_t)in->disp;
            in->base_only = op->x == CC_R_ZERO && !seg && !d->a32;
        }
        if ((form & GRP3) && d->reg < 2)
            form = d->opcode == 0xf6 ? IB : IZ;
    }
    unsigned n = 0;
    if (form & IB)
        n = 1;
    else if (form & IZ)
        n = d->map == 1 || d->opcode == 0xe8 || d->opcode == 0xe9 || d->opbytes != 2 ? 4 : 2;
    else if (form & IV)
        n = d->opbytes;
    else if (form & IW)
        n = 2;
    else if (form & IWB)
        n = 3;
    else if (form & MO)
        n = d->a32 ? 4 : 8;
    if (n) {
        NEED(n);
        in->imm = read_signed(p, n);
        if (form & (IW | IWB))
            in->imm &= 0xffffff >> (form & IW ? 8 : 0);
        if ((form & MO) && d->a32)
            in->imm = (uint32_t)in->imm;
        p += n;
    }
    in->len = (uint32_t)(p - code);
    return SYN_OK;
}

/* ---- handlers for what cannot be executed ------------------------------------------------------------------------------- */
static CC_OP(undefined)
{
    const uint8_t *b = (const uint8_t *)&op->imm64;
    cpu->m->stats.undefined_opcodes++;
    cpu->m->instret = cc_op_instret(cpu, op, budget);
    cc_logf(cpu->m, "undefined or unimplemented opcode %02x %02x %02x %02x %02x %02x %02x %02x at rip 0x%llx: #UD", b[0],
            b[1], b[2], b[3], b[4], b[5], b[6], b[7], (unsigned long long)cc_op_pc(cpu, op));
    return cc_op_ud(cpu, op, budget);
}
static CC_OP(too_long) { return cc_op_gp0(cpu, op, budget); }

/* ---- blocks --------------------------------------------------------------------------------------------------------------- */
enum {
    FX_BARRIER = 0,   /* may fault, read flags or do anything else: flags must be right before it */
    FX_NEUTRAL,       /* touches neither flags nor memory */
    FX_WRITES,        /* overwrites all six flags, reads none, cannot fault */
    FX_PARTIAL,       /* INC, DEC: keeps CF */
};
enum { K_UNKNOWN = 0, K_SUB = 1 /* + size */, K_LOGIC = 5, K_LAZY = 6, K_KEEP = 0xff };

typedef struct build {
    cc_cpu *cpu;
    cc_block *b;
    unsigned nops, ninsns, linked;
    bool done, edges;          /* edges: they are recorded of this code */
    uint8_t fx[CC_BLOCK_OPS_MAX];
    cc_opfn nf[CC_BLOCK_OPS_MAX];
    uint8_t kind;              /* flag source at this point: index into cc_jcc_in */
    /* the current instruction */
    uint8_t cur_fx, cur_kind;
    bool link, fused;          /* a link record follows it; it was merged into the previous op */
    cc_opfn cur_nf;
} build;

static uint8_t r8(const cc_dec *d, unsigned n)
{
    return d->rex == 0 && n >= 4 && n < 8 ? (uint8_t)((n - 4) * 8 + 1) : (uint8_t)(n * 8);
}
static unsigned size_index(const cc_dec *d) { return d->opbytes == 8 ? 3 : d->opbytes == 4 ? 2 : 1; }

static void flags_of_alu(build *w, unsigned alu, unsigned s, bool reg_form)
{
    w->cur_kind = alu == ALU_SUB || alu == ALU_CMP ? (uint8_t)(K_SUB + s)
                  : alu == ALU_AND || alu == ALU_OR || alu == ALU_XOR || alu == ALU_TEST ? K_LOGIC
                  : alu == ALU_ADD ? K_LAZY : K_UNKNOWN;
    if (reg_form && alu != ALU_ADC && alu != ALU_SBB)
        w->cur_fx = FX_WRITES;
}

/* Put the register operands into op->r / op->b for size s: reg field r, rm register b. */
static void operands(const insn *in, cc_op *op, unsigned s)
{
    const cc_dec *d = &in->d;
    unsigned reg = d->reg | (d->rex & 4 ? 8u : 0);
    if (s == 0) {
        op->r = r8(d, reg);
        if (!d->mem)
            op->b = r8(d, op->b);
    } else {
        op->r = (uint8_t)reg;
    }
}

static void alu_modrm(build *w, const insn *in, cc_op *op, unsigned alu, unsigned s, bool to_reg)
{
    operands(in, op, s);
    if (in->d.mem) {
        op->fn = to_reg ? cc_alu_rm[alu][s] : cc_alu_mr[alu][s];
        if (to_reg && in->base_only && cc_alu_rm_base[alu][s])
            op->fn = cc_alu_rm_base[alu][s];
        flags_of_alu(w, alu, s, false);
        return;
    }
    if (to_reg) {
        uint8_t t = op->r;
        op->r = op->b;
        op->b = t;
    }
    op->fn = cc_alu_rr[alu][s];
    w->cur_nf = cc_alu_rr_nf[alu][s];
    flags_of_alu(w, alu, s, true);
}

static void alu_imm(build *w, const insn *in, cc_op *op, unsigned alu, unsigned s)
{
    operands(in, op, s);
    op->imm = (int32_t)in->imm;
    if (in->d.mem) {
        op->fn = in->base_only && cc_alu_mi_base[alu][s] ? cc_alu_mi_base[alu][s] : cc_alu_mi[alu][s];
        flags_of_alu(w, alu, s, false);
        return;
    }
    op->fn = cc_alu_ri[alu][s];
    w->cur_nf = cc_alu_ri_nf[alu][s];
    flags_of_alu(w, alu, s, true);
}

static cc_opfn pick(const insn *in, const cc_opfn reg[4], const cc_opfn mem[4], unsigned s)
{
    return in->d.mem ? mem[s] : reg[s];
}

static void shift_imm(build *w, const insn *in, cc_op *op, unsigned s, unsigned count)
{
    unsigned kind = in->d.reg;
    operands(in, op, s);
    op->imm = (int32_t)(count & (s == 3 ? 63 : 31));
    op->fn = pick(in, cc_shift_ri[kind], cc_shift_mi[kind], s);
    if (!in->d.mem && op->imm == 0)
        op->fn = s == 2 ? cc_mov_rr[2] : cc_nop;     /* a 32-bit register is still zero-extended */
    if (!in->d.mem && op->imm == 0) {
        op->r = op->b;
        w->cur_fx = FX_NEUTRAL;
        w->cur_kind = K_KEEP;
    } else if (!in->d.mem && kind >= 4) {
        w->cur_fx = FX_WRITES;
        w->cur_nf = cc_shift_ri_nf[kind][s];
    }
}

static void neutral(build *w) { w->cur_fx = FX_NEUTRAL; w->cur_kind = K_KEEP; }

/* ---- branches --------------------------------------------------------------------------------------------------------------- */
static void add_link(build *w)
{
    memset(&w->b->ops[w->nops], 0, sizeof(cc_op));
    w->nops++;
    w->linked = 1;
    w->done = true;
}

/* Set up a direct branch at op; true if target (and with `falls` the next instruction) lie in this page. */
static bool direct(build *w, const insn *in, cc_op *op, bool falls)
{
    int64_t t = (int64_t)op->off + in->len + in->imm;
    op->disp = (int32_t)t;
    op->ss = (uint8_t)((t > INT32_MAX ? CC_SS_WRAP : 0) | (falls ? CC_SS_EDGES : 0));
    op->x = (uint8_t)cc_half(w->b->vbase + (uint64_t)t);
    return t >= 0 && t < 4096 && (!falls || op->off + in->len < 4096);
}

static void jcc(build *w, const insn *in, cc_op *op, unsigned cond)
{
    bool inside = direct(w, in, op, true);
    op->fn = inside ? cc_jcc_in[w->kind][cond] : cc_jcc_out[cond];
    if (!inside)
        op->x = (uint8_t)cc_half(w->b->vbase);
    if (inside && w->nops > 0 && !(w->cpu->m->cfg.flags & CC_CFG_NO_FUSE)) {
        cc_op *prev = op - 1;
        cc_opfn fused = NULL;
        for (unsigned s = 0; s < 4 && !fused; s++) {
            if (prev->fn == cc_alu_rr[ALU_CMP][s])
                fused = cc_cmp_rr_jcc[cond][s];
            else if (prev->fn == cc_alu_ri[ALU_CMP][s])
                fused = cc_cmp_ri_jcc[cond][s];
            else if (prev->fn == cc_alu_rr[ALU_TEST][s])
                fused = cc_test_rr_jcc[cond][s];
            else if (prev->fn == cc_alu_ri[ALU_TEST][s])
                fused = cc_test_ri_jcc[cond][s];
        }
        if (fused) {
            prev->fn = fused;
            prev->disp = op->disp;
            prev->x = op->x;
            prev->ss = CC_SS_EDGES;
            prev->len = (uint8_t)(prev->len + in->len);
            w->fx[w->nops - 1] = FX_BARRIER;
            w->nf[w->nops - 1] = NULL;
            w->fused = true;     /* the branch has no op of its own; its link follows the fused one */
        }
    }
    w->link = true;
}

/* ---- integer opcodes --------------------------------------------------------------------------------------------------------- */
static bool lock_allowed(const insn *in)
{
    const cc_dec *d = &in->d;
    if (!d->mem)
        return false;
    if (d->map == 0) {
        uint8_t o = d->opcode;
        if (o < 0x38)
            return (o & 7) < 2;
        if (o == 0x80 || o == 0x81 || o == 0x83)
            return d->reg != 7;
        return o == 0x86 || o == 0x87 || ((o == 0xf6 || o == 0xf7) && (d->reg == 2 || d->reg == 3)) ||
               ((o == 0xfe || o == 0xff) && d->reg < 2);
    }
    if (d->map != 1)
        return false;
    switch (d->opcode) {
    case 0xab: case 0xb3: case 0xbb: case 0xb0: case 0xb1: case 0xc0: case 0xc1: return true;
    case 0xba: return d->reg >= 5;
    case 0xc7: return d->reg == 1;
    default: return false;
    }
}

/* Control, debug and segment registers that do not exist, and CS as a destination. */
static bool reserved_register(const insn *in)
{
    const cc_dec *d = &in->d;
    if (d->map == 0 && (d->opcode == 0x8c || d->opcode == 0x8e))        /* REX.R is ignored */
        return d->reg > 5 || (d->opcode == 0x8e && d->reg == 1);
    if (d->map == 1 && (d->opcode == 0x20 || d->opcode == 0x22))
        return d->rex & 4 ? d->reg != 0 : d->reg == 1 || d->reg > 4;
    return d->map == 1 && (d->opcode == 0x21 || d->opcode == 0x23) && d->rex & 4;
}

static void string_op(build *w, const insn *in, cc_op *op, const cc_opfn plain[4], const cc_opfn rep[4], unsigned s)
{
    const cc_dec *d = &in->d;
    op->ss = (uint8_t)(d->seg << 2) | (d->a32 ? CC_SS_A32 : 0);
    op->r = d->rep == 0 ? 0 : d->rep == 0xf3 ? 1 : 2;
    op->fn = d->rep ? rep[s] : plain[s];
    if (d->rep) {
        op->x = (uint8_t)cc_half(w->b->vbase);
        w->link = true;
    }
}

/* One-byte opcodes; leaves op->fn NULL for what it does not know. */
static void decode_map0(build *w, const insn *in, cc_op *op)
{
    const cc_dec *d = &in->d;
    uint8_t o = d->opcode;
    unsigned s = (o & 1) ? size_index(d) : 0;      /* most opcodes: bit 0 is "not byte" */
    unsigned stack_size = d->opbytes == 2 ? 1 : 3;      /* REX.W overrides 66 */
    unsigned low = (o & 7) | (d->rex & 1 ? 8u : 0);

    if (o < 0x40) {
        switch (o & 7) {
        case 0: case 1: alu_modrm(w, in, op, o >> 3, s, false); break;
        case 2: case 3: alu_modrm(w, in, op, o >> 3, s, true); break;
        case 4: case 5: {
            op->b = 0;
            op->x = CC_R_ZERO;
            op->imm = (int32_t)in->imm;
            op->fn = cc_alu_ri[o >> 3][s];
            w->cur_nf = cc_alu_ri_nf[o >> 3][s];
            flags_of_alu(w, o >> 3, s, true);
            break;
        }
        default: break;
        }
        return;
    }
    switch (o) {
    case 0x50: case 0x51: case 0x52: case 0x53: case 0x54: case 0x55: case 0x56: case 0x57:
        op->b = (uint8_t)low;
        op->ss = CC_SS_STACK;
        op->fn = cc_push_r[stack_size];
        w->cur_kind = K_KEEP;
        break;
    case 0x58: case 0x59: case 0x5a: case 0x5b: case 0x5c: case 0x5d: case 0x5e: case 0x5f:
        op->b = (uint8_t)low;
        op->ss = CC_SS_STACK;
        op->fn = cc_pop_r[stack_size];
        w->cur_kind = K_KEEP;
        break;
    case 0x63: {
        unsigned ds = size_index(d), src = ds == 1 ? 1 : 2;
        operands(in, op, 2);
        op->fn = d->mem ? cc_movsx_m[ds][src] : cc_movsx_r[ds][src];
        w->cur_kind = K_KEEP;
        break;
    }
    case 0x68: case 0x6a:
        op->imm = (int32_t)in->imm;
        op->ss = CC_SS_STACK;
        op->fn = cc_push_i[stack_size];
        w->cur_kind = K_KEEP;
        break;
    case 0x69: case 0x6b:
        s = size_index(d);
        operands(in, op, s);
        op->imm = (int32_t)in->imm;
        op->fn = pick(in, cc_imul_rri, cc_imul_rmi, s);
        break;
    case 0x6c: case 0x6d: string_op(w, in, op, cc_ins, cc_rep_ins, s > 2 ? 2 : s); break;
    case 0x6e: case 0x6f: string_op(w, in, op, cc_outs, cc_rep_outs, s > 2 ? 2 : s); break;
    case 0x70: case 0x71: case 0x72: case 0x73: case 0x74: case 0x75: case 0x76: case 0x77:
    case 0x78: case 0x79: case 0x7a: case 0x7b: case 0x7c: case 0x7d: case 0x7e: case 0x7f:
        jcc(w, in, op, o & 15);
        break;
    case 0x80: case 0x81: case 0x83: alu_imm(w, in, op, d->reg, s); break;
    case 0x84: case 0x85: alu_modrm(w, in, op, ALU_TEST, s, false); break;
    case 0x86: case 0x87:
        operands(in, op, s);
        op->fn = pick(in, cc_xchg_rr, cc_xchg_mr, s);
        w->cur_kind = K_KEEP;
        break;
    case 0x88: case 0x89:
        operands(in, op, s);
        op->fn = d->mem ? (in->base_only ? cc_mov_mr_base : cc_mov_mr)[s] : cc_mov_rr[s];
        w->cur_kind = K_KEEP;
        if (!d->mem)
            neutral(w);
        break;
    case 0x8a: case 0x8b:
        operands(in, op, s);
        w->cur_kind = K_KEEP;
        if (d->mem) {
            op->fn = (in->base_only ? cc_mov_rm_base : cc_mov_rm)[s];
        } else {
            uint8_t t = op->r;
            op->r = op->b;
            op->b = t;
            op->fn = cc_mov_rr[s];
            neutral(w);
        }
        break;
    case 0x8d:
        if (!d->mem)
            break;
        s = size_index(d);
        operands(in, op, s);
        op->ss &= (uint8_t)~0x0c;
        op->fn = s == 3 && op->x == CC_R_ZERO && !d->a32 ? cc_lea64_base : cc_lea[s];
        neutral(w);
        break;
    case 0x8f:
        if (d->reg == 0) {
            op->fn = d->mem ? cc_pop_m[stack_size] : cc_pop_r[stack_size];
            if (!d->mem)
                op->ss = CC_SS_STACK;
            w->cur_kind = K_KEEP;
        }
        break;
    case 0x90: case 0x91: case 0x92: case 0x93: case 0x94: case 0x95: case 0x96: case 0x97:
        s = size_index(d);
        op->b = (uint8_t)low;
        op->r = CC_RAX;
        /* F3 90 is PAUSE whatever REX.B says, as on Intel's processors (AMD's exchange with R8). */
        op->fn = low == 0 || (o == 0x90 && d->rep == 0xf3) ? cc_nop : cc_xchg_rr[s];
        neutral(w);
        break;
    case 0x98: op->fn = cc_cbw[size_index(d)]; neutral(w); break;
    case 0x99: op->fn = cc_cwd[size_index(d)]; neutral(w); break;
    case 0x9c: op->ss = CC_SS_STACK; op->fn = cc_pushf[stack_size]; w->cur_kind = K_KEEP; break;
    case 0x9d: op->ss = CC_SS_STACK; op->fn = cc_popf[stack_size]; break;
    case 0x9e: op->fn = cc_sahf; break;
    case 0x9f: op->fn = cc_lahf; w->cur_kind = K_KEEP; break;
    case 0xa0: case 0xa1: case 0xa2: case 0xa3:
        op->ss = (uint8_t)(d->seg << 2);
        op->imm64 = (uint64_t)in->imm;
        op->fn = (o < 0xa2 ? cc_moffs_load : cc_moffs_store)[s];
        w->cur_kind = K_KEEP;
        break;
    case 0xa4: case 0xa5: string_op(w, in, op, cc_movs, cc_rep_movs, s); w->cur_kind = K_KEEP; break;
    case 0xa6: case 0xa7: string_op(w, in, op, cc_cmps, cc_rep_cmps, s); break;
    case 0xa8: case 0xa9:
        op->b = 0;
        op->x = CC_R_ZERO;
        op->imm = (int32_t)in->imm;
        op->fn = cc_alu_ri[ALU_TEST][s];
        flags_of_alu(w, ALU_TEST, s, true);
        break;
    case 0xaa: case 0xab: string_op(w, in, op, cc_stos, cc_rep_stos, s); w->cur_kind = K_KEEP; break;
    case 0xac: case 0xad: string_op(w, in, op, cc_lods, cc_rep_lods, s); w->cur_kind = K_KEEP; break;
    case 0xae: case 0xaf: string_op(w, in, op, cc_scas, cc_rep_scas, s); break;
    case 0xb0: case 0xb1: case 0xb2: case 0xb3: case 0xb4: case 0xb5: case 0xb6: case 0xb7:
        op->b = r8(d, low);
        op->imm = (int32_t)in->imm;
        op->fn = cc_mov_ri[0];
        neutral(w);
        break;
    case 0xb8: case 0xb9: case 0xba: case 0xbb: case 0xbc: case 0xbd: case 0xbe: case 0xbf:
        s = size_index(d);
        op->b = (uint8_t)low;
        if (s == 3) {
            op->imm64 = (uint64_t)in->imm;
            op->fn = cc_mov_ri64;
        } else {
            op->imm = (int32_t)in->imm;
            op->fn = cc_mov_ri[s];
        }
        neutral(w);
        break;
    case 0xc0: case 0xc1: shift_imm(w, in, op, s, (unsigned)in->imm); break;
    case 0xd0: case 0xd1: shift_imm(w, in, op, s, 1); break;
    case 0xd2: case 0xd3:
        operands(in, op, s);
        op->fn = pick(in, cc_shift_rc[d->reg], cc_shift_mc[d->reg], s);
        break;
    case 0xc2: case 0xc3:
        op->ss = CC_SS_STACK;
        op->imm = o == 0xc2 ? (int32_t)in->imm : 0;
        op->fn = cc_ret;
        w->done = true;
        break;
    case 0xc6: case 0xc7:
        if (d->reg != 0)
            break;
        operands(in, op, s);
        op->imm = (int32_t)in->imm;
        op->fn = d->mem ? (in->base_only ? cc_mov_mi_base : cc_mov_mi)[s] : cc_mov_ri[s];
        w->cur_kind = K_KEEP;
        if (!d->mem)
            neutral(w);
        break;
    case 0xc8: op->ss = CC_SS_STACK; op->imm = (int32_t)in->imm; op->fn = cc_enter[stack_size]; w->cur_kind = K_KEEP; break;
    case 0xc9: op->ss = CC_SS_STACK; op->fn = cc_leave[stack_size]; w->cur_kind = K_KEEP; break;
    case 0xd7:
        op->ss = (uint8_t)(d->seg << 2) | (d->a32 ? CC_SS_A32 : 0);
        op->fn = cc_xlat;
        w->cur_kind = K_KEEP;
        break;
    case 0xe0: case 0xe1: case 0xe2: case 0xe3: {
        bool inside = direct(w, in, op, true);
        op->r = d->a32;
        op->fn = inside ? cc_loop_in[o & 3] : cc_loop_out[o & 3];
        if (!inside)
            op->x = (uint8_t)cc_half(w->b->vbase);
        w->link = true;
        break;
    }
    case 0xe4: case 0xe5: op->imm = (uint8_t)in->imm; op->fn = cc_in_imm[s > 2 ? 2 : s]; w->cur_kind = K_KEEP; break;
    case 0xe6: case 0xe7: op->imm = (uint8_t)in->imm; op->fn = cc_out_imm[s > 2 ? 2 : s]; w->cur_kind = K_KEEP; break;
    case 0xec: case 0xed: op->fn = cc_in_dx[s > 2 ? 2 : s]; w->cur_kind = K_KEEP; break;
    case 0xee: case 0xef: op->fn = cc_out_dx[s > 2 ? 2 : s]; w->cur_kind = K_KEEP; break;
    case 0xe8: case 0xe9: case 0xeb: {
        bool inside = direct(w, in, op, false);
        op->fn = o == 0xe8 ? (inside ? cc_call_in : cc_call_out) : inside ? cc_jmp_in : cc_jmp_out;
        w->link = true;
        break;
    }
    case 0xf5: op->fn = cc_cmc; break;
    case 0xf8: op->fn = cc_clc; break;
    case 0xf9: op->fn = cc_stc; break;
    case 0xfc: op->fn = cc_cld; w->cur_kind = K_KEEP; break;
    case 0xfd: op->fn = cc_std; w->cur_kind = K_KEEP; break;
    case 0xf6: case 0xf7:
        if (d->reg >= 2)
            operands(in, op, s);
        switch (d->reg) {
        case 0: case 1: alu_imm(w, in, op, ALU_TEST, s); break;
        case 2: op->fn = pick(in, cc_un_r[UN_NOT], cc_un_m[UN_NOT], s); w->cur_kind = K_KEEP; break;
        case 3: op->fn = pick(in, cc_un_r[UN_NEG], cc_un_m[UN_NEG], s); w->cur_kind = (uint8_t)(K_SUB + s); break;
        case 4: op->fn = pick(in, cc_mul_r, cc_mul_m, s); break;
        case 5: op->fn = pick(in, cc_imul1_r, cc_imul1_m, s); break;
        case 6: op->fn = pick(in, cc_div_r, cc_div_m, s); w->cur_kind = K_KEEP; break;
        default: op->fn = pick(in, cc_idiv_r, cc_idiv_m, s); w->cur_kind = K_KEEP; break;
        }
        break;
    case 0xfe: case 0xff:
        if (d->reg < 2) {
            operands(in, op, s);
            op->fn = pick(in, cc_un_r[UN_INC + d->reg], cc_un_m[UN_INC + d->reg], s);
            w->cur_kind = K_LAZY;
            if (!d->mem) {
                w->cur_fx = FX_PARTIAL;
                w->cur_nf = cc_incdec_nf[d->reg][s];
            }
            break;
        }
        if (o == 0xfe)
            break;
        if (d->reg == 2) {
            op->fn = (d->mem ? cc_call_m : cc_call_r)[w->edges];
            w->done = true;
        } else if (d->reg == 4) {
            op->fn = (d->mem ? cc_jmp_m : cc_jmp_r)[w->edges];
            w->done = true;
        } else if (d->reg == 6) {
            if (!d->mem)
                op->ss = CC_SS_STACK;
            op->fn = d->mem ? cc_push_m[stack_size] : cc_push_r[stack_size];
            w->cur_kind = K_KEEP;
        }
        break;
    default:
        break;
    }
}

static void decode_map1(build *w, const insn *in, cc_op *op)
{
    const cc_dec *d = &in->d;
    uint8_t o = d->opcode;
    unsigned s = size_index(d), sb = (o & 1) ? s : 0;

    switch (o) {
    case 0x0d: case 0x18: case 0x19: case 0x1a: case 0x1b: case 0x1c: case 0x1d: case 0x1e: case 0x1f:
        /* PREFETCH*, hint NOPs, ENDBR */
        op->fn = cc_nop;
        neutral(w);
        break;
    case 0x40: case 0x41: case 0x42: case 0x43: case 0x44: case 0x45: case 0x46: case 0x47:
    case 0x48: case 0x49: case 0x4a: case 0x4b: case 0x4c: case 0x4d: case 0x4e: case 0x4f:
        operands(in, op, s);
        op->fn = pick(in, cc_cmov_rr[o & 15], cc_cmov_rm[o & 15], s);
        w->cur_kind = K_KEEP;
        break;
    case 0x80: case 0x81: case 0x82: case 0x83: case 0x84: case 0x85: case 0x86: case 0x87:
    case 0x88: case 0x89: case 0x8a: case 0x8b: case 0x8c: case 0x8d: case 0x8e: case 0x8f:
        jcc(w, in, op, o & 15);
        break;
    case 0x90: case 0x91: case 0x92: case 0x93: case 0x94: case 0x95: case 0x96: case 0x97:
    case 0x98: case 0x99: case 0x9a: case 0x9b: case 0x9c: case 0x9d: case 0x9e: case 0x9f:
        operands(in, op, 0);
        op->fn = d->mem ? cc_setcc_m[o & 15] : cc_setcc_r[o & 15];
        w->cur_kind = K_KEEP;
        break;
    case 0xa3: case 0xab: case 0xb3: case 0xbb: {
        unsigned kind = (o >> 3) & 3;
        operands(in, op, s);
        op->fn = pick(in, cc_bt_rr[kind], cc_bt_mr[kind], s);
        break;
    }
    case 0xba:
        if (d->reg < 4)
            break;
        operands(in, op, s);
        op->imm = (int32_t)in->imm;
        op->fn = pick(in, cc_bt_ri[d->reg & 3], cc_bt_mi[d->reg & 3], s);
        break;
    case 0xa4: case 0xa5: case 0xac: case 0xad:
        operands(in, op, s);
        op->imm = (int32_t)in->imm;
        op->fn = (d->mem ? cc_shxd_m : cc_shxd_r)[o >> 3 & 1][o & 1][s];
        break;
    case 0xaf:
        operands(in, op, s);
        op->fn = pick(in, cc_imul_rr, cc_imul_rm, s);
        break;
    case 0xb0: case 0xb1:
        operands(in, op, sb);
        op->fn = pick(in, cc_cmpxchg_rr, cc_cmpxchg_mr, sb);
        w->cur_kind = (uint8_t)(K_SUB + sb);
        break;
    case 0xb6: case 0xb7: case 0xbe: case 0xbf: {
        unsigned src = o & 1;
        operands(in, op, s);
        if (src == 0 && !d->mem)
            op->b = r8(d, op->b);
        if (o < 0xb8)
            op->fn = !d->mem ? cc_movzx_r[s][src] : in->base_only ? cc_movzx_m_base[s][src] : cc_movzx_m[s][src];
        else
            op->fn = d->mem ? cc_movsx_m[s][src] : cc_movsx_r[s][src];
        w->cur_kind = K_KEEP;
        if (!d->mem)
            neutral(w);
        break;
    }
    case 0xb8:
        if (d->rep != 0xf3)
            break;
        operands(in, op, s);
        op->fn = pick(in, cc_popcnt_r, cc_popcnt_m, s);
        break;
    case 0xbc: case 0xbd:      /* TZCNT and LZCNT are not offered, so F3 has no meaning */
        operands(in, op, s);
        op->fn = o == 0xbc ? pick(in, cc_bsf_r, cc_bsf_m, s) : pick(in, cc_bsr_r, cc_bsr_m, s);
        break;
    case 0xc0: case 0xc1:
        operands(in, op, sb);
        op->fn = pick(in, cc_xadd_rr, cc_xadd_mr, sb);
        w->cur_kind = K_LAZY;
        break;
    case 0xc7:
        if (d->reg == 1 && d->mem)
            op->fn = d->rexw ? cc_cmpxchg16b : cc_cmpxchg8b;
        break;
    case 0xc8: case 0xc9: case 0xca: case 0xcb: case 0xcc: case 0xcd: case 0xce: case 0xcf:
        op->b = (uint8_t)((o & 7) | (d->rex & 1 ? 8 : 0));
        op->fn = cc_bswap[s];
        neutral(w);
        break;
    default:
        break;
    }
}

static void decode_map2_int(build *w, const insn *in, cc_op *op)
{
    const cc_dec *d = &in->d;
    if ((d->opcode & 0xfe) != 0xf0)
        return;
    if (d->rep == 0xf2) {
        unsigned s = d->opcode & 1 ? size_index(d) : 0;
        operands(in, op, s);
        op->r = (uint8_t)(d->reg | (d->rex & 4 ? 8 : 0));
        op->fn = pick(in, cc_crc32_r, cc_crc32_m, s);
        w->cur_kind = K_KEEP;
    } else if (d->rep == 0 && d->mem) {
        unsigned s = size_index(d);
        operands(in, op, s);
        op->fn = d->opcode == 0xf0 ? cc_movbe_rm[s] : cc_movbe_mr[s];
        w->cur_kind = K_KEEP;
    }
}

/* Opcodes after which the next bytes need not be code of this block. */
static bool ends_block(const cc_dec *d)
{
    if (d->map == 0)
        switch (d->opcode) {
        case 0xca: case 0xcb: case 0xcc: case 0xcd: case 0xcf: case 0xf1: case 0xf4: return true;
        case 0xff: return d->reg == 3 || d->reg == 5;
        default: return false;
        }
    if (d->map == 1)
        switch (d->opcode) {
        case 0x05: case 0x07: case 0x0b: case 0x34: case 0x35: case 0xff: case 0xb9: return true;
        default: return false;
        }
    return false;
}

static void decode_one(build *w, const insn *in, int syntax, const uint8_t *code, unsigned avail, unsigned off)
{
    cc_op *op = &w->b->ops[w->nops];
    const cc_dec *d = &in->d;

    w->cur_fx = FX_BARRIER;
    w->cur_kind = K_UNKNOWN;
    w->cur_nf = NULL;
    w->link = w->fused = false;
    op->off = (uint16_t)off;
    op->len = (uint8_t)in->len;
    if (syntax == SYN_OK) {
        if (d->mem && in->rip_relative) {
            int64_t t = in->disp + (int64_t)off + in->len;
            if (t > INT32_MAX) {
                op->x = CC_R_8K;
                t -= 8192;
            }
            op->disp = (int32_t)t;
        }
        if ((!d->lock || lock_allowed(in)) && !reserved_register(in)) {
            if (d->map == 0)
                decode_map0(w, in, op);
            else if (d->map == 1)
                decode_map1(w, in, op);
            else if (d->map == 2)
                decode_map2_int(w, in, op);
            if (!op->fn) {
                op->r = (uint8_t)(d->reg | (d->rex & 4 ? 8 : 0));
                if (in->d.map != 0 || !(form0[d->opcode] & MO))
                    op->imm = (int32_t)in->imm;
                op->fn = cc_system_select(d, op);
                if (!op->fn && d->map == 0 && ((d->opcode & 0xf8) == 0xd8 || d->opcode == 0x9b))
                    op->fn = cc_x87_select(d, op);
                else if (!op->fn && d->map == 1 && d->opcode == 0xae && d->mem && d->reg < 2 && !d->rep && !d->opsize)
                    op->fn = cc_x87_select(d, op);
                else if (!op->fn && d->map != 0)
                    op->fn = cc_sse_select(d, op);
            }
        }
    }
    if (!op->fn) {
        memset(op, 0, sizeof *op);
        op->off = (uint16_t)off;
        op->len = (uint8_t)in->len;
        w->link = false;
        memcpy(&op->imm64, code, avail < 8 ? avail : 8);
        bool ud = !d->lock && d->map == 1 && (d->opcode == 0x0b || d->opcode == 0xff || d->opcode == 0xb9);
        op->fn = syntax == SYN_TOO_LONG ? too_long : ud ? cc_op_ud : undefined;
        w->done = true;
    } else if (ends_block(d)) {
        w->done = true;
    }
    if (w->cur_kind != K_KEEP)
        w->kind = w->cur_kind;
    if (!w->fused) {
        op->rem = (uint8_t)w->ninsns;       /* its index for now */
        w->fx[w->nops] = w->cur_fx;
        w->nf[w->nops] = w->cur_nf;
        w->nops++;
    }
    w->ninsns++;
    if (w->link)
        add_link(w);
}

/* Replace ops whose flags are overwritten unseen by their flagless variants. */
static void drop_dead_flags(build *w, unsigned n)
{
    bool live = true;
    for (unsigned i = n; i-- > 0;) {
        switch (w->fx[i]) {
        case FX_BARRIER: live = true; break;
        case FX_NEUTRAL: break;
        default:
            if (!live && w->nf[i])
                w->b->ops[i].fn = w->nf[i];
            if (w->fx[i] == FX_WRITES)
                live = false;
        }
    }
}

bool cc_decode_block(cc_cpu *cpu, cc_block *b, const uint8_t *code, unsigned avail, unsigned off, uint32_t max)
{
    build w = {.cpu = cpu, .b = b, .kind = K_UNKNOWN, .edges = cc_edges_on(cpu, b->user)};
    unsigned at = 0;

    if (max > CC_BLOCK_INSNS_MAX)
        max = CC_BLOCK_INSNS_MAX;
    b->off = (uint16_t)off;
    while (!w.done && w.ninsns < max && at < avail) {
        insn in;
        int syntax = parse(code + at, avail - at, &in, &b->ops[w.nops]);
        if (syntax == SYN_SHORT)
            break;
        if (syntax == SYN_TOO_LONG)
            in.len = 15;
        decode_one(&w, &in, syntax, code + at, avail - at, off + at);
        at += in.len;
    }
    if (w.ninsns == 0)
        return false;
    unsigned n = w.nops - w.linked;
    for (unsigned i = 0; i < n; i++)
        b->ops[i].rem = (uint8_t)(w.ninsns - b->ops[i].rem);
    if (!w.done) {
        cc_op *op = &b->ops[w.nops++];
        memset(op, 0, sizeof *op);
        op->off = (uint16_t)(off + at);
        op->x = (uint8_t)cc_half(b->vbase);
        op->fn = off + at < 4096 ? cc_block_end_in : cc_block_end_out;
        add_link(&w);
    }
    drop_dead_flags(&w, n);
    b->end = (uint16_t)(off + at > 4096 ? 4096 : off + at);
    b->n = w.ninsns;
    b->nops = (uint8_t)w.nops;
    b->kind = CC_BLOCK_WHOLE;
    return true;
}

/* ---- for tests and messages ------------------------------------------------------------------------------------------------ */
uint32_t cc_decode_length(const uint8_t *code, uint32_t size)
{
    _Alignas(cc_block) uint8_t room[sizeof(cc_block) + 4 * sizeof(cc_op)] = {0};
    build w = {.b = (cc_block *)room};
    insn in;
    if (parse(code, size, &in, &w.b->ops[0]) != SYN_OK)
        return 0;
    decode_one(&w, &in, SYN_OK, code, size, 0);
    return w.b->ops[0].fn == undefined ? 0 : in.len;
}

void cc_decode_lengths(const uint8_t *code, uint32_t size, uint32_t stride, uint8_t *lengths)
{
    for (uint32_t at = 0; at < size; at += stride)
        *lengths++ = (uint8_t)cc_decode_length(code + at, size - at);
}
