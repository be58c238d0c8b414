/*
 * tests/test_sse.c: every MMX and SSE instruction form of the soft CPU against the host CPU.
 *
 * The list of forms is not written down here: every opcode, prefix, ModRM kind and REX.W is offered to
 * cc_sse_select(), and whether it gives a handler must agree with whether the host raises #UD.  Each form is then run
 * on random registers, flags, MXCSR and memory placements (page ends, page crossings, misalignment, unmapped pages)
 * by the handler and by the host, and the complete state and the exception are compared.  RCP and RSQRT are compared
 * with exact values instead.
 *
 *     test_sse [ROUNDS [SEED [-v]]]      default 40 rounds, about 10 s; -v prints the coverage table
 *
 * Links with soft/sse*.c and soft/mmx*.c only; the rest of the soft CPU is imitated below.
 */
#define _GNU_SOURCE
#include "../soft/sse.h"
#include "host_vendor.h"
#include "sse_host.h"

#include <asm/prctl.h>
#include <math.h>
#include <sys/syscall.h>
#include <unistd.h>

static enum host_vendor vendor;

/* ---- guest memory: two pages, then an unmapped one; the host runs in place, the soft CPU on a copy ------------- */
#define GUEST_BYTES 8192u
#define GS_BASE 0x2345678u
static uint8_t *native_mem, *soft_mem;
static cc_tlbe tlb[16];

/* ---- the rest of the soft CPU ---------------------------------------------------------------------------------- */
static cc_cpu *soft;
static enum { END_RUNNING, END_NEXT, END_FAULT, END_LEAVE, END_SSE_UNAVAILABLE } ended;
static unsigned slow_accesses;
static bool leave_on_slow;

static bool slow_range(uint64_t va, unsigned size, bool write)
{
    uint64_t base = (uint64_t)(uintptr_t)native_mem;
    slow_accesses++;
    if (va >= base && va + size <= base + GUEST_BYTES) {
        soft->leave |= leave_on_slow;
        return true;
    }
    if (!((uint64_t)((int64_t)(va << 16) >> 16) == va)) {
        cc_raise_code(soft, EXC_GP, 0);
        return false;
    }
    cc_raise_code(soft, EXC_PF, write ? 6 : 4);
    soft->fault.cr2 = va < base || va >= base + GUEST_BYTES ? va : base + GUEST_BYTES;
    return false;
}
bool cc_mem_read_slow(cc_cpu *c, const cc_op *op, int64_t budget, uint64_t va, void *dst, unsigned size)
{
    (void)c, (void)op, (void)budget;
    if (!slow_range(va, size, false))
        return false;
    memcpy(dst, soft_mem + (va - (uint64_t)(uintptr_t)native_mem), size);
    return true;
}
bool cc_mem_write_slow(cc_cpu *c, const cc_op *op, int64_t budget, uint64_t va, const void *src, unsigned size)
{
    (void)c, (void)op, (void)budget;
    if (!slow_range(va, size, true))
        return false;
    memcpy(soft_mem + (va - (uint64_t)(uintptr_t)native_mem), src, size);
    return true;
}
bool cc_mem_probe_write(cc_cpu *c, const cc_op *op, int64_t budget, uint64_t va, unsigned size)
{
    (void)c, (void)op, (void)budget;
    return slow_range(va, size, true);
}
const cc_op *cc_op_fault(cc_cpu *c, const cc_op *op, int64_t budget)
{
    (void)c, (void)op, (void)budget;
    ended = END_FAULT;
    return NULL;
}
const cc_op *cc_op_leave(cc_cpu *c, const cc_op *op, int64_t budget)
{
    (void)c, (void)op, (void)budget;
    ended = END_LEAVE;
    return NULL;
}
const cc_op *cc_op_sse_unavailable(cc_cpu *c, const cc_op *op, int64_t budget)
{
    (void)c, (void)op, (void)budget;
    ended = END_SSE_UNAVAILABLE;
    return NULL;
}
/* As x87_state.c does it. */
bool cc_mmx_enter(cc_cpu *c)
{
    if (!c->fpu_ok) {
        cc_raise(c, EXC_NM);
        return false;
    }
    if (c->fpu.fsw & 0x80) {
        cc_raise(c, EXC_MF);
        return false;
    }
    c->fpu.top = 0;
    c->fpu.empty = 0;
    return true;
}
static CC_OP(op_end)
{
    (void)cpu, (void)op, (void)budget;
    ended = END_NEXT;
    return NULL;
}

/* ---- random values biased to boundaries ------------------------------------------------------------------------ */
static uint64_t rng_state;
static uint64_t rnd(void)      /* splitmix64 */
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
static unsigned below(unsigned n) { return (unsigned)((rnd() >> 32) * n >> 32); }
static bool chance(unsigned one_in) { return below(one_in) == 0; }

static uint64_t int_value(unsigned bits)
{
    uint64_t v;
    switch (below(6)) {
    case 0: v = (uint64_t)below(5) - 2; break;
    case 1: v = ((uint64_t)1 << (bits - 1)) + below(5) - 2; break;
    case 2: v = ((uint64_t)1 << below(bits)) + below(3) - 1; break;
    case 3: v = 0x80 * below(5) + below(3) - 1; break;
    default: v = rnd(); break;
    }
    return bits == 64 ? v : v & (((uint64_t)1 << bits) - 1);
}
static uint64_t float_value(unsigned frac, unsigned exp_max)
{
    unsigned bias = exp_max >> 1;
    uint64_t mant_mask = ((uint64_t)1 << frac) - 1, mant, exp, sign = rnd() & 1;
    switch (below(5)) {
    case 0: mant = 0; break;
    case 1: mant = (uint64_t)1 << below(frac); break;
    case 2: mant = mant_mask ^ (rnd() & 3); break;
    case 3: mant = rnd() & rnd() & rnd(); break;
    default: mant = rnd(); break;
    }
    switch (below(10)) {
    case 0: exp = 0; break;
    case 1: exp = exp_max; break;
    case 2: exp = exp_max - 1 - below(3); break;
    case 3: exp = 1 + below(frac + 2); break;
    case 4: exp = bias - 2 + below(4); break;
    case 5: exp = bias + below(70); break;
    case 6: exp = bias - below(frac + 3); break;
    case 7: exp = frac == 52 ? bias - 150 + below(300) : below(exp_max); break;     /* where single precision ends */
    case 8: exp = bias + (frac == 52 ? (rnd() & 1 ? 30 : 62) : 30) + below(3); break;
    default: exp = below(exp_max + 1); break;
    }
    return sign << (frac == 52 ? 63 : 31) | (exp & exp_max) << frac | (mant & mant_mask);
}
enum { KIND_F32, KIND_F64, KIND_I8, KIND_I16, KIND_I32, KIND_I64, KIND_TEXT, KIND_COUNT };
static cc_xmm vector_value(unsigned kind)
{
    cc_xmm v;
    switch (kind) {
    case KIND_F32: for (unsigned i = 0; i < 4; i++) v.d[i] = (uint32_t)float_value(23, 0xff); break;
    case KIND_F64: for (unsigned i = 0; i < 2; i++) v.q[i] = float_value(52, 0x7ff); break;
    case KIND_I8: for (unsigned i = 0; i < 16; i++) v.b[i] = (uint8_t)int_value(8); break;
    case KIND_I16: for (unsigned i = 0; i < 8; i++) v.w[i] = (uint16_t)int_value(16); break;
    case KIND_I32: for (unsigned i = 0; i < 4; i++) v.d[i] = (uint32_t)int_value(32); break;
    case KIND_I64: for (unsigned i = 0; i < 2; i++) v.q[i] = int_value(64); break;
    default: {
        bool words = rnd() & 1;
        unsigned zeros = 2 + below(20);
        for (unsigned i = 0; i < 16; i++)
            v.b[i] = chance(zeros) ? 0 : (uint8_t)("abcz\x80\xff"[below(6)]);
        for (unsigned i = 0; words && i < 8; i++)
            v.w[i] = chance(zeros) ? 0 : (uint16_t)("abc\xff"[below(4)]) * 0x101;
        break;
    }
    }
    return v;
}

/* ---- forms ----------------------------------------------------------------------------------------------------- */
typedef struct form {
    cc_dec d;                /* reg: opcode extension where the opcode has one */
    bool group;
    uint64_t cases, faults;
} form;
static form forms[4096];
static unsigned nforms;

static const uint8_t prefix_bytes[4] = {0, 0x66, 0xf3, 0xf2};

static bool is_group(unsigned map, unsigned opcode)
{
    return map == 1 && ((opcode >= 0x71 && opcode <= 0x73) || opcode == 0xae || opcode == 0x18 || opcode == 0x0d);
}
static bool has_imm8(unsigned map, unsigned opcode)
{
    return map == 3 || (map == 1 && ((opcode >= 0x70 && opcode <= 0x73) || opcode == 0xc2 ||
                                     (opcode >= 0xc4 && opcode <= 0xc6)));
}
/* Opcodes this part is responsible for, with the gaps between them. */
static bool is_ours(unsigned map, unsigned prefix, unsigned opcode)
{
    if (map == 1)
        return opcode == 0x0d || (opcode >= 0x10 && opcode <= 0x18) || (opcode >= 0x28 && opcode <= 0x2f) ||
               (opcode >= 0x50 && opcode <= 0x77) || (opcode >= 0x7c && opcode <= 0x7f) ||
               (opcode == 0xae && prefix == SSE_NP) || (opcode >= 0xc2 && opcode <= 0xc6) ||
               (opcode >= 0xd0 && opcode <= 0xfe);
    if (map == 2)
        return opcode <= 0x41;
    return opcode <= 0x43 || (opcode >= 0x45 && opcode <= 0x63);
}
static bool gpr_in_reg(unsigned map, unsigned prefix, unsigned opcode)
{
    return map == 1 && (opcode == 0x50 || opcode == 0xd7 || opcode == 0xc3 || opcode == 0xc5 ||
                        ((opcode == 0x2c || opcode == 0x2d) && prefix >= SSE_F3));
}
static bool gpr_in_rm(unsigned map, unsigned prefix, unsigned opcode)
{
    if (map == 1)
        return opcode == 0x6e || (opcode == 0x7e && prefix <= SSE_66) || opcode == 0xc4 ||
               (opcode == 0x2a && prefix >= SSE_F3);
    return map == 3 && ((opcode >= 0x14 && opcode <= 0x17) || opcode == 0x20 || opcode == 0x22);
}
static unsigned form_prefix(const form *f) { return f->d.rep == 0xf3 ? SSE_F3 : f->d.rep ? SSE_F2 : f->d.opsize; }
/* Without XMM registers: CR4.OSFXSR, and so sse_ok, does not matter. */
static bool is_mmx_only(const form *f)
{
    unsigned o = f->d.opcode;
    if (form_prefix(f) != SSE_NP)
        return false;
    if (f->d.map == 1)
        return (o >= 0x60 && o <= 0x7f) || o == 0xc4 || o == 0xc5 || o >= 0xd0;
    return f->d.map == 2 || (f->d.map == 3 && o == 0x0f);
}
/* Neither the vector unit nor MMX has to be enabled. */
static bool is_free(const form *f)
{
    unsigned o = f->d.opcode;
    return f->d.map == 1 && (o == 0x18 || o == 0x0d || o == 0xc3 || (o == 0xae && f->d.reg >= 5));
}
static const char *form_name(const form *f)
{
    static char s[64];
    static const char *const maps[] = {"", "0F", "0F 38", "0F 3A"};
    static const char *const prefixes[] = {"  ", "66", "F3", "F2"};
    int n = snprintf(s, sizeof s, "%s %s%s %02X", prefixes[form_prefix(f)], f->d.rexw ? "W " : "", maps[f->d.map],
                     f->d.opcode);
    if (f->group)
        n += snprintf(s + n, sizeof s - (size_t)n, " /%u", f->d.reg);
    snprintf(s + n, sizeof s - (size_t)n, " %s", f->d.mem ? "mem" : "reg");
    return s;
}

/* ---- one batch: an instruction and its op ---------------------------------------------------------------------- */
static struct {
    uint8_t bytes[16];
    unsigned len;
    cc_op ops[2];
    bool mem, gs, a32, index, masked_store, ldmxcsr;
    int32_t disp;
    unsigned scale, kind;    /* kind: of the operands that say most about the instruction */
} insn;

static unsigned telling_kind(const form *f)
{
    unsigned o = f->d.opcode, prefix = form_prefix(f);
    if (f->d.map == 1 && ((o >= 0x51 && o <= 0x53) || (o >= 0x58 && o <= 0x5f) || o == 0xc2 || (o | 1) == 0x2f))
        return prefix == SSE_NP || prefix == SSE_F3 ? KIND_F32 : KIND_F64;
    if (f->d.map == 1 && (o == 0x2c || o == 0x2d || o == 0x7c || o == 0x7d || o == 0xd0 || o == 0xe6))
        return below(2) ? KIND_F32 : KIND_F64;
    if (f->d.map == 3 && ((o >= 0x08 && o <= 0x0b) || o == 0x40 || o == 0x41))
        return o == 0x08 || o == 0x0a || o == 0x40 ? KIND_F32 : KIND_F64;
    return f->d.map == 3 && o >= 0x60 ? KIND_TEXT : below(KIND_COUNT);
}

static unsigned pick_gpr(void)
{
    static const uint8_t usable[] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12};
    return usable[below(sizeof usable)];
}

/* false: the form has no handler.  R14 is the base, R13 the index of memory operands. */
static bool build(const form *f)
{
    cc_dec d = f->d;
    uint8_t *p = insn.bytes;
    unsigned prefix = form_prefix(f);
    cc_op *op = &insn.ops[0];
    memset(&insn, 0, sizeof insn);

    unsigned r = gpr_in_reg(d.map, prefix, d.opcode) ? pick_gpr() : below(16);
    unsigned b = gpr_in_rm(d.map, prefix, d.opcode) ? pick_gpr() : below(16), imm = (unsigned)rnd() & 0xff;
    if (f->group)
        r = d.reg | (d.opcode == 0xae ? 0 : below(2) << 3);
    else if (!chance(4) && !gpr_in_reg(d.map, prefix, d.opcode) && !gpr_in_rm(d.map, prefix, d.opcode) && chance(4))
        b = r;
    if (d.opcode == 0xae && !d.mem)
        b &= 7;
    if (chance(3))
        imm &= 0x1f;
    insn.kind = telling_kind(f);
    insn.mem = d.mem;
    insn.masked_store = d.map == 1 && d.opcode == 0xf7;
    insn.ldmxcsr = d.map == 1 && d.opcode == 0xae && d.reg == 2;
    if (insn.mem || insn.masked_store) {
        insn.gs = chance(8);
        insn.a32 = chance(8);
    }
    insn.index = insn.mem && chance(4);
    insn.scale = insn.index ? below(4) : 0;
    insn.disp = insn.mem ? (int32_t)below(1 << 20) - (1 << 19) : 0;

    d.opsize = prefix == SSE_66 || (prefix >= SSE_F3 && chance(8));
    if (insn.a32)
        *p++ = 0x67;
    if (insn.gs)
        *p++ = 0x65;
    if (d.opsize && prefix != SSE_66)
        *p++ = 0x66;
    if (prefix)
        *p++ = prefix_bytes[prefix];
    unsigned rm = insn.mem ? 14 : b;
    *p++ = (uint8_t)(0x40 | d.rexw << 3 | (r >> 3) << 2 | (insn.index ? 1u << 1 : 0) | rm >> 3);
    *p++ = 0x0f;
    if (d.map == 2)
        *p++ = 0x38;
    if (d.map == 3)
        *p++ = 0x3a;
    *p++ = d.opcode;
    if (d.opcode != 0x77 || d.map != 1) {
        *p++ = (uint8_t)((insn.mem ? 0x80 : 0xc0) | (r & 7) << 3 | (insn.index ? 4 : rm & 7));
        if (insn.index)
            *p++ = (uint8_t)(insn.scale << 6 | (13 & 7) << 3 | (14 & 7));
        if (insn.mem) {
            memcpy(p, &insn.disp, 4);
            p += 4;
        }
        if (has_imm8(d.map, d.opcode))
            *p++ = (uint8_t)imm;
    }
    insn.len = (unsigned)(p - insn.bytes);

    d.modrm = (uint8_t)((insn.mem ? 0x80 : 0xc0) | (r & 7) << 3 | (rm & 7));
    d.reg = r & 7;
    d.rm = rm & 7;
    d.rex = insn.bytes[(insn.a32 != 0) + (insn.gs != 0)];
    d.a32 = insn.a32;
    d.seg = insn.gs ? 2 : 0;
    d.opbytes = d.rexw ? 8 : d.opsize ? 2 : 4;
    op->r = (uint8_t)r;
    op->b = (uint8_t)rm;
    op->x = insn.index ? 13 : CC_R_ZERO;
    op->ss = insn.mem ? (uint8_t)(insn.scale | (insn.gs ? 2 << 2 : 0) | (insn.a32 ? CC_SS_A32 : 0)) : 0;
    op->disp = insn.disp;
    op->imm = (int8_t)imm;
    op->len = (uint8_t)insn.len;
    op->rem = 1;
    op->fn = cc_sse_select(&d, op);
    insn.ops[1].fn = op_end;
    return op->fn != NULL;
}

/* ---- states ---------------------------------------------------------------------------------------------------- */
static hoststate before, after;
static uint64_t operand;         /* address of the memory operand */

enum { WITH_UNMASKED = 1, WITH_X87_PENDING = 2, PLAIN = 4 };

static void make_state(unsigned flags)
{
    hoststate *s = &before;
    unsigned kind = chance(4) ? below(KIND_COUNT) : insn.kind;
    bool mixed = chance(6);
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < 16; i++) {
        cc_xmm v = vector_value(mixed ? below(KIND_COUNT) : kind);
        memcpy(s->fx.xmm[i], &v, 16);
        s->r[i] = int_value(chance(3) ? 64 : 32);
        if (chance(6))
            s->r[i] = below(20);
    }
    if (chance(8)) {             /* equal or nearly equal operands */
        for (unsigned i = 1; i < 16; i++) {
            memcpy(s->fx.xmm[i], s->fx.xmm[0], 16);
            s->fx.xmm[i][0] ^= rnd() & rnd() & rnd() & rnd() & 0x1000000010000000ull;
            s->fx.xmm[i][1] += below(3) - 1u;
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        cc_xmm v = vector_value(mixed ? below(KIND_COUNT) : kind == KIND_F64 ? KIND_I32 : kind);
        s->fx.st[i].mant = v.q[0];
        s->fx.st[i].sexp = chance(3) ? 0xffff : (uint16_t)rnd();
    }
    if (chance(4))               /* shift counts */
        for (unsigned i = 0; i < 16; i++) {
            s->fx.xmm[i][0] = below(70);
            s->fx.st[i & 7].mant = below(70);
        }
    s->fx.fcw = 0x37f;
    if (chance(2)) {
        s->fx.fsw = (uint16_t)((rnd() & 0x7) << 11 | (rnd() & 0x477f));
        s->fx.ftw = (uint8_t)rnd();
    } else {
        s->fx.ftw = 0xff;
    }
    if (flags & WITH_X87_PENDING) {
        s->fx.fcw = (uint16_t)(0x340 | (rnd() & 0x3f));
        if (s->fx.fsw & ~s->fx.fcw & 0x3f)
            s->fx.fsw |= 0x8080;
    }
    s->fx.mxcsr = 0x1f80 | below(4) << 13 | (chance(4) ? 0x40 : 0) | (chance(4) ? 0x8000 : 0) |
                  (chance(3) ? (uint32_t)rnd() & 0x3f : 0);
    if (flags & WITH_UNMASKED)
        s->fx.mxcsr &= ~((uint32_t)(rnd() & (chance(2) ? rnd() : ~(uint64_t)0)) & 0x1f80);
    s->flags = 0x202 | (rnd() & FL_ARITH);

    /* memory, and where in it the operand lies */
    for (unsigned i = 0; i < 64; i += 16) {
        cc_xmm v = vector_value(mixed ? below(KIND_COUNT) : kind);
        memcpy(native_mem + 4096 - 32 + i, &v, 16);
        v = vector_value(mixed ? below(KIND_COUNT) : kind);
        memcpy(native_mem + GUEST_BYTES - 64 + i, &v, 16);
    }
    unsigned at;
    switch (below(16)) {
    case 0: at = 4096 - 16 + below(32); break;             /* misaligned, crossing pages */
    case 1: at = GUEST_BYTES - 16 + below(24); break;      /* crossing into the unmapped page */
    case 2: at = GUEST_BYTES - (1u << below(5)); break;    /* exact sizes */
    case 3: at = GUEST_BYTES - 64 + below(48); break;
    case 4: at = GUEST_BYTES + 16 * below(4); break;
    default: at = 4096 - 32 + 16 * below(4); break;
    }
    if (flags & PLAIN)
        at = 4096;
    if (insn.ldmxcsr && at + 4 <= GUEST_BYTES) {
        uint32_t v = chance(3) ? (uint32_t)rnd() : (uint32_t)rnd() & 0xffff;
        if (vendor == HOST_AMD)         /* where bit 17 is valid */
            v &= ~0x20000u;
        memcpy(native_mem + at, &v, 4);
    }
    operand = (uint64_t)(uintptr_t)native_mem + at;
    uint64_t ea = operand - (insn.gs ? GS_BASE : 0);
    if (insn.mem) {
        if (insn.index) {
            s->r[13] = chance(2) ? rnd() : below(100);
            ea -= s->r[13] << insn.scale;
        }
        s->r[14] = ea - (uint64_t)(int64_t)insn.disp;
        if (insn.a32 && chance(2))
            s->r[14] ^= rnd() << 32;
    }
    if (insn.masked_store) {
        s->r[CC_RDI] = ea;
        if (insn.a32 && chance(2))
            s->r[CC_RDI] ^= rnd() << 32;
    }
}

static void load_soft(void)
{
    const hoststate *s = &before;
    memset(soft, 0, sizeof *soft);
    memcpy(soft->r, s->r, sizeof s->r);
    soft->r[CC_R_ZERO] = 0;
    soft->segbase[2] = GS_BASE;
    memcpy(soft->xmm, s->fx.xmm, sizeof soft->xmm);
    soft->fpu.fcw = s->fx.fcw;
    soft->fpu.fsw = s->fx.fsw & 0xc7ff;
    soft->fpu.top = s->fx.fsw >> 11 & 7;
    soft->fpu.empty = (uint8_t)~s->fx.ftw;
    for (unsigned i = 0; i < 8; i++) {
        cc_st *st = &soft->fpu.st[(soft->fpu.top + i) & 7];
        st->mant = s->fx.st[i].mant;
        st->sexp = s->fx.st[i].sexp;
    }
    soft->mxcsr = s->fx.mxcsr;
    soft->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    soft->sse_ok = soft->fpu_ok = 1;
    cc_set_arith_flags(soft, s->flags & FL_ARITH);
    soft->tlb = tlb;
    soft->tlb_mask = (sizeof tlb / sizeof *tlb - 1) << 5;
    unsigned present = chance(3) ? below(4) : 3;
    for (unsigned i = 0; i < 16; i++)
        tlb[i] = (cc_tlbe){1, 1, 1, 0};
    for (unsigned i = 0; i < 2; i++) {
        uint64_t page = (uint64_t)(uintptr_t)native_mem + i * 4096;
        if (present >> i & 1)
            tlb[page >> 12 & 15] =
                (cc_tlbe){page, chance(4) ? 1 : page, 1, (uintptr_t)soft_mem - (uintptr_t)native_mem};
    }
}

static uint32_t test_mxcsr(void)
{
    uint32_t v;
    __asm__ volatile("stmxcsr %0" : "=m"(v) : : "memory");
    return v;
}

/* Returns the exception vector or -1. */
static int run_soft(void)
{
    uint32_t own = test_mxcsr() & ~MX_FLAGS;
    ended = END_RUNNING;
    slow_accesses = 0;
    cc_mxcsr_enter(soft);
    const cc_op *op = insn.ops;
    int64_t budget = 0;
#ifdef CC_TRAMPOLINE
    while (op) {
        op = op->fn(soft, op, budget);
        budget = soft->tramp_budget;
    }
#else
    op->fn(soft, op, budget);
#endif
    cc_mxcsr_leave(soft);
    if ((test_mxcsr() & ~MX_FLAGS) != own) {
        printf("the host's MXCSR was not given back\n");
        exit(1);
    }
    return ended == END_FAULT ? soft->fault.vector : ended == END_SSE_UNAVAILABLE ? 1000 : -1;
}

/* ---- comparison ------------------------------------------------------------------------------------------------ */
static unsigned failures;
static double rcp_error_max, rsqrt_error_max;

static void complain(const form *f, const char *what, uint64_t got, uint64_t want)
{
    failures++;
    if (failures > 40)
        exit(1);
    printf("DIFFERENT %s: %s: soft %016llx host %016llx\n  code", form_name(f), what, (unsigned long long)got,
           (unsigned long long)want);
    for (unsigned i = 0; i < insn.len; i++)
        printf(" %02x", insn.bytes[i]);
    printf("  mxcsr %04x top %u\n", before.fx.mxcsr, before.fx.fsw >> 11 & 7);
    if (!insn.mem || insn.ops[0].r < 16) {
        unsigned r = insn.ops[0].r & 15, b = insn.ops[0].b & 15;
        printf("  xmm%-2u %016llx %016llx\n  xmm%-2u %016llx %016llx\n", r, (unsigned long long)before.fx.xmm[r][1],
               (unsigned long long)before.fx.xmm[r][0], b, (unsigned long long)before.fx.xmm[b][1],
               (unsigned long long)before.fx.xmm[b][0]);
    }
    if (insn.mem) {
        uint64_t at = operand - (uint64_t)(uintptr_t)native_mem;
        printf("  mem+%04llx", (unsigned long long)at);
        for (unsigned i = 16; i-- > 0;)
            printf("%02x", at + i < GUEST_BYTES ? soft_mem[at + i] : 0);
        printf("\n");
    }
}

static bool is_approx(const form *f)
{
    return f->d.map == 1 && (f->d.opcode == 0x52 || f->d.opcode == 0x53);
}
/* SDM vol. 2, RCPPS and RSQRTPS: relative error at most 1.5 * 2^-12; special operands. */
static bool approx_ok(const form *f, uint32_t x, uint32_t got, uint32_t want)
{
    bool root = f->d.opcode == 0x52;
    float fx, fs;
    memcpy(&fx, &x, 4);
    memcpy(&fs, &got, 4);
    uint32_t mag = x & 0x7fffffff;
    if (mag >= 0x7f800000 || mag < 0x00800000 || (root && x >> 31))
        return got == want;
    double exact = root ? 1 / sqrt((double)fx) : 1 / (double)fx;
    if (fabs(exact) < 0x1p-126)
        return got == (x & 0x80000000);
    if (fabs(exact) < 0x1.002p-126 && got == (x & 0x80000000))       /* may be flushed */
        return true;
    double error = fabs((double)fs / exact - 1);
    double *max = root ? &rsqrt_error_max : &rcp_error_max;
    if (error > *max)
        *max = error;
    return error <= 1.5 * 0x1p-12;
}

/* ---- what depends on the vendor -------------------------------------------------------------------------------- */
static bool is_memory_fault(int vector) { return vector >= EXC_SS && vector <= EXC_PF; }

/* A memory fault changes nothing here, as the SDM has it.  Intel's processors leave TOP = 0, but not the tags, where an
 * MMX register's store faults. */
static void accept_top(const form *f, unsigned host_top)
{
    unsigned o = f->d.opcode;
    bool store = f->d.map == 1 && form_prefix(f) == SSE_NP && f->d.mem && (o == 0x7e || o == 0x7f || o == 0xe7);
    if (vendor == HOST_INTEL && store && host_top == 0)
        soft->fpu.top = 0;
}

/* MASKMOVDQU: AMD's processors report the lowest address that faults, here the upper half is checked first. */
static uint64_t accepted_cr2(const form *f)
{
    bool maskmovdqu = f->d.map == 1 && f->d.opcode == 0xf7 && form_prefix(f) == SSE_66;
    uint64_t ours = soft->fault.cr2, page = ours & ~(uint64_t)0xfff;
    if (vendor == HOST_AMD && maskmovdqu && (host.cr2 + 8 == ours || (host.cr2 == page && ours - page < 8)))
        return host.cr2;
    return ours;
}

/* DPPS, DPPD: another NaN may win on AMD's processors. */
static bool is_other_nan(const form *f, uint64_t x, uint64_t y)
{
    if (vendor != HOST_AMD || f->d.map != 3 || (f->d.opcode != 0x40 && f->d.opcode != 0x41))
        return false;
    const uint64_t single = 0x7fc00000, wide = 0x7ff8000000000000;
    if (f->d.opcode == 0x41)
        return (x & wide) == wide && (y & wide) == wide;
    for (unsigned i = 0; i < 64; i += 32)
        if ((uint32_t)(x >> i) != (uint32_t)(y >> i) && ((x >> i & single) != single || (y >> i & single) != single))
            return false;
    return true;
}

static void compare(form *f, int soft_vector, int host_vector)
{
    fxstate *n = &after.fx;
    if (soft_vector != host_vector) {
        complain(f, "exception", (uint64_t)(int64_t)soft_vector, (uint64_t)(int64_t)host_vector);
        return;
    }
    f->cases++;
    if (soft_vector >= 0)
        f->faults++;
    if (soft_vector == EXC_PF && accepted_cr2(f) != host.cr2)
        complain(f, "cr2", soft->fault.cr2, host.cr2);
    unsigned top = n->fsw >> 11 & 7, dst = insn.ops[0].r & 15;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t *x = soft->xmm[i].q;
        if (is_approx(f) && i == dst && soft_vector < 0) {
            uint32_t src[4], got[4], want[4];
            unsigned lanes = f->d.rep ? 1 : 4;
            memcpy(src, before.fx.xmm[insn.ops[0].b & 15], 16);
            if (insn.mem)
                memcpy(src, soft_mem + (operand - (uint64_t)(uintptr_t)native_mem), 4 * lanes);
            memcpy(got, x, 16);
            memcpy(want, n->xmm[i], 16);
            for (unsigned k = 0; k < 4; k++)
                if (k < lanes ? !approx_ok(f, src[k], got[k], want[k]) : got[k] != want[k])
                    complain(f, "approximation", got[k], want[k]);
            continue;
        }
        for (unsigned k = 0; k < 2; k++)
            if (x[k] != n->xmm[i][k] && !(i == dst && is_other_nan(f, x[k], n->xmm[i][k])))
                complain(f, i == dst ? (k ? "dst high" : "dst low") : (k ? "other xmm high" : "other xmm low"), x[k],
                         n->xmm[i][k]);
    }
    for (unsigned i = 0; i < 15; i++)
        if (i != 4 && soft->r[i] != after.r[i])
            complain(f, "general register", soft->r[i], after.r[i]);
    uint32_t flags = (uint32_t)after.flags & FL_ARITH;
    if (soft->cc_op != CC_FLAGS_EXPLICIT || (uint32_t)soft->cc_src != flags)
        complain(f, "flags", soft->cc_src, flags);
    if (soft->mxcsr != n->mxcsr)
        complain(f, "mxcsr", soft->mxcsr, n->mxcsr);
    if (is_memory_fault(soft_vector))
        accept_top(f, top);
    uint8_t tags = (uint8_t)~soft->fpu.empty;
    uint64_t x87 = (uint64_t)soft->fpu.top << 48 | (uint64_t)tags << 32 | (uint32_t)soft->fpu.fsw << 16 | soft->fpu.fcw;
    uint64_t n87 = (uint64_t)top << 48 | (uint64_t)n->ftw << 32 | (uint32_t)(n->fsw & 0xc7ff) << 16 | n->fcw;
    if (x87 != n87)
        complain(f, "x87 top, tags, fsw, fcw", x87, n87);
    for (unsigned i = 0; i < 8; i++) {
        const cc_st *st = &soft->fpu.st[(top + i) & 7];
        if (st->mant != n->st[i].mant)
            complain(f, "mm", st->mant, n->st[i].mant);
        if (st->sexp != n->st[i].sexp)
            complain(f, "mm exponent", st->sexp, n->st[i].sexp);
    }
    if (memcmp(native_mem, soft_mem, GUEST_BYTES) != 0)
        complain(f, "memory", 0, 0);
}

static void one_case(form *f, unsigned flags)
{
    make_state(flags);
    memcpy(soft_mem + 4096 - 64, native_mem + 4096 - 64, 128);
    memcpy(soft_mem + GUEST_BYTES - 64, native_mem + GUEST_BYTES - 64, 64);
    load_soft();
    int soft_vector = run_soft();
    after = before;
    int host_vector = host_run(&after);
    compare(f, soft_vector, host_vector);
    if (ended == END_RUNNING)
        complain(f, "the handler did not end", 0, 0);
}

/* ---- which forms exist ----------------------------------------------------------------------------------------- */
/* Where the host and the SDM or the offered CPUID features differ. */
static bool legality_differs(const form *f)
{
    unsigned o = f->d.opcode, prefix = form_prefix(f);
    if (f->d.map != 1)
        return false;
    if (o == 0xae && f->d.mem && (f->d.reg < 2 || (f->d.reg >= 4 && f->d.reg <= 6)))        /* FXSAVE, XSAVE family */
        return true;
    return vendor == HOST_AMD && ((o == 0x2b && prefix >= SSE_F3) ||                       /* SSE4A MOVNTSS, MOVNTSD */
                                  (o == 0x0d && !f->d.mem));       /* a reserved NOP on Intel's processors, #UD */
}

static void find_forms(void)
{
    unsigned legal = 0, undefined = 0, skipped = 0;
    for (unsigned map = 1; map <= 3; map++)
        for (unsigned prefix = 0; prefix < 4; prefix++)
            for (unsigned opcode = 0; opcode < 256; opcode++)
                for (unsigned k = 0; is_ours(map, prefix, opcode) && k < 32; k++) {
                    form f = {.group = is_group(map, opcode)};
                    f.d.map = (uint8_t)map;
                    f.d.opcode = (uint8_t)opcode;
                    f.d.rep = prefix >= SSE_F3 ? prefix_bytes[prefix] : 0;
                    f.d.opsize = prefix == SSE_66;
                    f.d.rexw = k & 1;
                    f.d.mem = k >> 1 & 1;
                    f.d.reg = (uint8_t)(k >> 2);
                    if ((!f.group && f.d.reg) || (opcode == 0x77 && map == 1 && f.d.mem))
                        continue;
                    bool ours = build(&f);
                    if (legality_differs(&f)) {
                        skipped++;
                    } else {
                        make_state(PLAIN);
                        if (f.d.map == 1 && opcode == 0xae)
                            memset(native_mem + 4096, 0, 4);          /* a valid MXCSR, all unmasked */
                        after = before;
                        host_load(insn.bytes, insn.len);
                        bool native = host_run(&after) != EXC_UD;
                        if (native != ours) {
                            failures++;
                            printf("LEGALITY %s: soft %d host %d\n", form_name(&f), ours, native);
                        }
                    }
                    ours ? legal++ : undefined++;
                    if (ours && nforms < sizeof forms / sizeof *forms && !legality_differs(&f))
                        forms[nforms++] = f;
                }
    printf("forms (with REX.W variants): %u defined, %u undefined, of which %u not asked of the host\n", legal,
           undefined, skipped);
}

/* ---- what the host cannot be asked ----------------------------------------------------------------------------- */
static void check_disabled(void)
{
    for (unsigned i = 0; i < nforms; i++)
        for (unsigned mode = 0; mode < 2; mode++) {
            form *f = &forms[i];
            if (!build(f))
                continue;
            make_state(PLAIN);
            before.fx.fsw = 0;
            load_soft();
            soft->sse_ok = 0;
            soft->fpu_ok = mode == 0;         /* 0: OSFXSR clear; 1: TS set */
            cc_cpu saved = *soft;
            memcpy(soft_mem, native_mem, GUEST_BYTES);
            bool faulted = run_soft() >= 0;
            bool expected = is_free(f) ? false : is_mmx_only(f) ? mode == 1 : true;
            if (faulted != expected)
                complain(f, "disabled unit: fault", faulted, expected);
            bool changed = memcmp(saved.r, soft->r, sizeof saved.r) || memcmp(saved.xmm, soft->xmm, sizeof saved.xmm) ||
                           memcmp(&saved.fpu, &soft->fpu, sizeof saved.fpu) || saved.mxcsr != soft->mxcsr ||
                           saved.cc_src != soft->cc_src || memcmp(soft_mem, native_mem, GUEST_BYTES);
            if (faulted && changed)
                complain(f, "disabled unit: state changed", 0, 0);
        }
}

/* After a slow access the block is left if it asked for that. */
static void check_leave(void)
{
    unsigned left = 0;
    for (unsigned i = 0; i < nforms; i++) {
        form *f = &forms[i];
        if (!f->d.mem || !build(f))
            continue;
        make_state(PLAIN);
        memset(native_mem + 4096, 0, 4);
        memcpy(soft_mem, native_mem, GUEST_BYTES);
        load_soft();
        for (unsigned k = 0; k < 16; k++)
            tlb[k] = (cc_tlbe){1, 1, 1, 0};
        soft->fpu.fsw = 0;
        leave_on_slow = true;
        run_soft();
        leave_on_slow = false;
        left += ended == END_LEAVE;
        if (ended != (slow_accesses ? END_LEAVE : END_NEXT))
            complain(f, "leave", ended, slow_accesses);
    }
    printf("memory forms that left the block after a slow access: %u\n", left);
}

/* An unmasked exception is #UD without CR4.OSXMMEXCPT. */
static void check_osxmmexcpt(void)
{
    form f = {.d = {.map = 1, .opcode = 0x5e, .rep = 0xf2}};
    build(&f);
    make_state(PLAIN);
    memset(before.fx.xmm, 0, sizeof before.fx.xmm);
    before.fx.mxcsr = 0x1f80 & ~0x80u;
    load_soft();
    soft->cr4 = CR4_OSFXSR;
    int v = run_soft();
    if (v != EXC_UD || soft->mxcsr != (before.fx.mxcsr | MX_IE))
        complain(&f, "OSXMMEXCPT", (uint64_t)v, EXC_UD);
}

/* All of RCP's and RSQRT's intervals, and the specials. */
static void check_approx_exhaustively(void)
{
    for (unsigned opcode = 0x52; opcode <= 0x53; opcode++) {
        form f = {.d = {.map = 1, .opcode = (uint8_t)opcode, .rep = 0xf3}};
        build(&f);
        insn.ops[0].b = 1, insn.ops[0].r = 0;
        make_state(PLAIN);
        load_soft();
        for (uint64_t x = 0; x < (uint64_t)1 << 32; x += x & 0xfff ? 1 : 0xffe) {
            soft->xmm[1].q[0] = (uint32_t)x;
            insn.ops[0].fn(soft, insn.ops, 0);
            uint32_t got = soft->xmm[0].d[0], mag = (uint32_t)x & 0x7fffffff, want = 0;
            if (mag > 0x7f800000)
                want = (uint32_t)x | 0x400000;
            else if (mag < 0x800000)
                want = ((uint32_t)x & 0x80000000) | 0x7f800000;
            else if (opcode == 0x52 && x >> 31)
                want = 0xffc00000;
            else if (mag == 0x7f800000)
                want = (uint32_t)x & 0x80000000;
            if (!approx_ok(&f, (uint32_t)x, got, want))
                complain(&f, "approximation", got, (uint32_t)x);
        }
    }
    printf("RCP: largest relative error %.3f * 2^-12; RSQRT: %.3f * 2^-12 (allowed 1.5)\n", rcp_error_max * 4096,
           rsqrt_error_max * 4096);
}

static void print_table(void)
{
    for (unsigned i = 0; i < nforms; i++)
        printf("%-24s cases %8llu exceptions %8llu\n", form_name(&forms[i]), (unsigned long long)forms[i].cases,
               (unsigned long long)forms[i].faults);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 40;
    rng_state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    vendor = host_vendor();
    printf("test_sse: %u rounds, seed %llu\n", rounds, (unsigned long long)rng_state);
    native_mem = mmap(NULL, GUEST_BYTES + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    soft_mem = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (native_mem == MAP_FAILED || soft_mem == MAP_FAILED || mprotect(native_mem + GUEST_BYTES, 4096, PROT_NONE) ||
        syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)GS_BASE)) {
        perror("test_sse");
        return 2;
    }
    soft = aligned_alloc(64, (sizeof *soft + 63) & ~(size_t)63);
    host_init();
    find_forms();
    check_disabled();
    check_leave();
    check_osxmmexcpt();
    check_approx_exhaustively();
    memcpy(soft_mem, native_mem, GUEST_BYTES);
    for (unsigned round = 0; round < rounds; round++)
        for (unsigned i = 0; i < nforms; i++) {
            if (!build(&forms[i]))
                continue;
            host_load(insn.bytes, insn.len);
            for (unsigned k = 0; k < 24; k++)
                one_case(&forms[i], k == 0 ? WITH_X87_PENDING : k < 6 ? WITH_UNMASKED : 0);
        }
    uint64_t cases = 0, faults = 0, untested = 0;
    for (unsigned i = 0; i < nforms; i++) {
        cases += forms[i].cases;
        faults += forms[i].faults;
        untested += forms[i].cases == 0;
    }
    if (argc > 3)
        print_table();
    printf("%u forms, %llu never compared; %llu cases, of which %llu raised an exception; %u differences\n", nforms,
           (unsigned long long)untested, (unsigned long long)cases, (unsigned long long)faults, failures);
    return failures || untested ? 1 : 0;
}
