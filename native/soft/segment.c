/*
 * soft/segment.c: descriptor tables, segment loads, far transfers, SYSCALL and SYSRET, IRET.
 *
 * Only 64-bit code segments can be entered: compatibility mode is refused with #GP and a line in the log.
 */
#include "int.h"
#include "system.h"

/* ---- descriptors ----------------------------------------------------------------------------------------------------------- */
static bool table_address(cc_cpu *cpu, uint16_t sel, unsigned size, uint64_t *va)
{
    uint64_t base = cpu->gdtr.base;
    uint32_t limit = cpu->gdtr.limit;
    if (sel & 4) {
        if (cpu->ldtr.attr & ATTR_UNUSABLE)
            return false;
        base = cpu->ldtr.base;
        limit = cpu->ldtr.limit;
    }
    if ((sel & ~7u) + size - 1 > limit)
        return false;
    *va = base + (sel & ~7u);
    return true;
}

bool cc_read_descriptor(cc_cpu *cpu, uint16_t sel, uint64_t d[2], bool wide, uint8_t vec_on_limit)
{
    uint64_t va;
    d[1] = 0;
    if (!table_address(cpu, sel, wide ? 16 : 8, &va)) {
        cc_raise_code(cpu, vec_on_limit, sel & ~3u);
        return false;
    }
    return cc_sys_read(cpu, va, d, wide ? 16 : 8);
}

void cc_segment_from_descriptor(cc_segment *s, uint16_t sel, uint64_t lo, uint64_t hi)
{
    memset(s, 0, sizeof *s);
    s->base = (lo >> 16 & 0xffffff) | (lo >> 56) << 24 | hi << 32;
    s->attr = (uint32_t)(lo >> 40 & 0xff) | (uint32_t)(lo >> 52 & 0xf) << 12;
    uint32_t limit = (uint32_t)(lo & 0xffff) | (uint32_t)(lo >> 32 & 0xf0000);
    s->limit = s->attr & ATTR_G ? limit << 12 | 0xfff : limit;
    s->selector = sel;
}

void cc_set_segment(cc_cpu *cpu, unsigned reg, const cc_segment *s)
{
    cpu->seg[reg] = *s;
    if (reg >= 4)
        cpu->segbase[reg - 3] = s->base;
}

static bool mark_accessed(cc_cpu *cpu, uint16_t sel, cc_segment *s)
{
    uint64_t va, d;
    if (s->attr & 1)
        return true;
    s->attr |= 1;
    if (!table_address(cpu, sel, 8, &va) || !cc_sys_read(cpu, va, &d, 8))
        return false;
    d |= 1ull << 40;
    return cc_sys_write(cpu, va, &d, 8);
}

void cc_set_cpl(cc_cpu *cpu, unsigned cpl)
{
    cpu->cpl = (uint8_t)cpl;
    for (unsigned h = 0; h < 2; h++)
        cpu->jkey[h] = (cpu->jkey[h] & ~(1ull << 62)) | (uint64_t)(cpl == 3) << 62;
    cc_mmu_mode_changed(cpu);
    if (cpl == 3 && cpu->edges)
        cc_edges_enter_user(cpu);
}

static bool gp(cc_cpu *cpu, uint32_t code) { cc_raise_code(cpu, EXC_GP, code); return false; }

bool cc_load_segment(cc_cpu *cpu, unsigned reg, uint16_t sel)
{
    cc_segment s;
    unsigned rpl = sel & 3;
    uint64_t d[2];
    bool stack = reg == 2;

    if (!(sel & ~3u)) {
        if (stack && (cpu->cpl == 3 || rpl != cpu->cpl))
            return gp(cpu, 0);
        memset(&s, 0, sizeof s);
        s.attr = ATTR_UNUSABLE | (stack ? (uint32_t)cpu->cpl << 5 : 0);
        s.selector = sel;
        cc_set_segment(cpu, reg, &s);
        return true;
    }
    if (!cc_read_descriptor(cpu, sel, d, false, EXC_GP))
        return false;
    cc_segment_from_descriptor(&s, sel, d[0], 0);
    unsigned dpl = ATTR_DPL(s.attr);
    bool code = s.attr & 8;
    if (!(s.attr & ATTR_S))
        return gp(cpu, sel & ~3u);
    if (stack) {
        if (rpl != cpu->cpl || dpl != cpu->cpl || code || !(s.attr & 2))
            return gp(cpu, sel & ~3u);
    } else {
        if (code && !(s.attr & 2))
            return gp(cpu, sel & ~3u);
        if (!(code && (s.attr & 4)) && (rpl > dpl || cpu->cpl > dpl))
            return gp(cpu, sel & ~3u);
    }
    if (!(s.attr & ATTR_P)) {
        cc_raise_code(cpu, stack ? EXC_SS : EXC_NP, sel & ~3u);
        return false;
    }
    if (!mark_accessed(cpu, sel, &s))
        return false;
    cc_set_segment(cpu, reg, &s);
    return true;
}

/* MOV Sreg, POP FS/GS, LSS/LFS/LGS ------------------------------------------------------------------------------------------ */
static CC_OP(mov_to_sreg)
{
    uint16_t sel;
    if (op->r > 5 || op->r == 1)
        return cc_op_ud(cpu, op, budget);
    if (op->imm) {
        if (!cc_ld16(cpu, op, budget, cc_ea(cpu, op), &sel))
            return cc_op_fault(cpu, op, budget);
    } else {
        sel = (uint16_t)cpu->r[op->b];
    }
    if (!cc_load_segment(cpu, op->r, sel))
        return cc_op_fault(cpu, op, budget);
    if (op->r == 2)
        cc_begin_shadow(cpu, op, budget, 2);
    CC_NEXT_STORE();
}
static CC_OP(mov_from_sreg)
{
    if (op->r > 5)
        return cc_op_ud(cpu, op, budget);
    uint16_t sel = cpu->seg[op->r].selector;
    if (op->imm == 16) {          /* memory is always 16 bits */
        if (!cc_st16(cpu, op, budget, cc_ea(cpu, op), sel))
            return cc_op_fault(cpu, op, budget);
    } else if (op->imm == 2) {
        cc_set16(cpu, op->b, sel);
    } else {
        cpu->r[op->b] = sel;
    }
    CC_NEXT_STORE();
}
static CC_OP(push_sreg)
{
    unsigned n = op->imm ? 2 : 8;
    uint64_t v = cpu->seg[op->r].selector;
    if (!CC_MEM_WRITE(cpu, op, budget, cpu->r[CC_RSP] - n, &v, n))
        return cc_op_fault(cpu, op, budget);
    cpu->r[CC_RSP] -= n;
    CC_NEXT_STORE();
}
static CC_OP(pop_sreg)
{
    unsigned n = op->imm ? 2 : 8;
    uint64_t v = 0;
    if (!CC_MEM_READ(cpu, op, budget, cpu->r[CC_RSP], &v, n) || !cc_load_segment(cpu, op->r, (uint16_t)v))
        return cc_op_fault(cpu, op, budget);
    cpu->r[CC_RSP] += n;
    CC_NEXT_STORE();
}
/* op->disp is the address; op->imm = operand bytes | segment register << 8 */
static CC_OP(load_far_pointer)
{
    unsigned n = (unsigned)op->imm & 0xff, reg = (unsigned)op->imm >> 8;
    uint8_t m[10];
    uint64_t off = 0;
    uint16_t sel;
    if (!cc_mem_read_bounced(cpu, op, budget, cc_ea(cpu, op), m, n + 2))
        return cc_op_fault(cpu, op, budget);
    memcpy(&off, m, n);
    memcpy(&sel, m + n, 2);
    if (!cc_load_segment(cpu, reg, sel))
        return cc_op_fault(cpu, op, budget);
    if (n == 2)
        cc_set16(cpu, op->r, (uint16_t)off);
    else
        cpu->r[op->r] = off;
    CC_NEXT_STORE();
}

/* ---- far transfers ----------------------------------------------------------------------------------------------------------- */
/* Check a code segment for a transfer to privilege `cpl`; `ret`: RETF/IRET rules (RPL decides), else JMP/CALL rules. */
static bool check_code_segment(cc_cpu *cpu, uint16_t sel, bool ret, cc_segment *cs)
{
    uint64_t d[2];
    unsigned rpl = sel & 3;
    if (!(sel & ~3u))
        return gp(cpu, 0);
    if (!cc_read_descriptor(cpu, sel, d, false, EXC_GP))
        return false;
    cc_segment_from_descriptor(cs, sel, d[0], 0);
    unsigned dpl = ATTR_DPL(cs->attr);
    bool conforming = cs->attr & 4;
    if ((cs->attr & 0x18) != 0x18)
        return gp(cpu, sel & ~3u);
    if (ret) {
        if (rpl < cpu->cpl || (conforming ? dpl > rpl : dpl != rpl))
            return gp(cpu, sel & ~3u);
    } else if (conforming ? dpl > cpu->cpl : rpl > cpu->cpl || dpl != cpu->cpl) {
        return gp(cpu, sel & ~3u);
    }
    if (!(cs->attr & ATTR_P)) {
        cc_raise_code(cpu, EXC_NP, sel & ~3u);
        return false;
    }
    if (!(cs->attr & ATTR_L) || (cs->attr & ATTR_DB)) {
        if (!(cs->attr & ATTR_L))
            cc_logf(cpu->m, "transfer to selector 0x%x: compatibility mode (32-bit code) is not supported: #GP", sel);
        return gp(cpu, sel & ~3u);
    }
    return mark_accessed(cpu, sel, cs);
}

/* Call gates in long mode are 16 bytes and lead to 64-bit code. */
static bool call_gate(cc_cpu *cpu, uint16_t sel, uint64_t *target, cc_segment *cs, bool call)
{
    uint64_t d[2], c[2];
    if (!cc_read_descriptor(cpu, sel, d, true, EXC_GP))
        return false;
    unsigned attr = (uint8_t)(d[0] >> 40), dpl = ATTR_DPL(attr);
    if ((attr & 0x1f) != 0xc || dpl < cpu->cpl || dpl < (sel & 3u) || (d[1] >> 40 & 0x1f))
        return gp(cpu, sel & ~3u);
    if (!(attr & ATTR_P)) {
        cc_raise_code(cpu, EXC_NP, sel & ~3u);
        return false;
    }
    uint16_t csel = (uint16_t)(d[0] >> 16);
    if (!(csel & ~3u))
        return gp(cpu, 0);
    if (!cc_read_descriptor(cpu, csel, c, false, EXC_GP))
        return false;
    cc_segment_from_descriptor(cs, csel, c[0], 0);
    unsigned cdpl = ATTR_DPL(cs->attr);
    bool conforming = cs->attr & 4;
    if ((cs->attr & 0x18) != 0x18 || cdpl > cpu->cpl || (!call && !conforming && cdpl != cpu->cpl) ||
        !(cs->attr & ATTR_L) || (cs->attr & ATTR_DB))
        return gp(cpu, csel & ~3u);
    if (!(cs->attr & ATTR_P)) {
        cc_raise_code(cpu, EXC_NP, csel & ~3u);
        return false;
    }
    *target = (d[0] & 0xffff) | (d[0] >> 48) << 16 | d[1] << 32;
    return mark_accessed(cpu, csel, cs);
}

/* op->imm: operand bytes | 0x100 for CALL */
static CC_OP(far_jump)
{
    unsigned n = (unsigned)op->imm & 0xff;
    bool call = op->imm & 0x100;
    uint8_t m[10];
    uint64_t target = 0, d[2], rsp = cpu->r[CC_RSP];
    uint16_t sel;
    cc_segment cs;
    unsigned cpl = cpu->cpl;

    if (!cc_mem_read_bounced(cpu, op, budget, cc_ea(cpu, op), m, n + 2))
        return cc_op_fault(cpu, op, budget);
    memcpy(&target, m, n);
    memcpy(&sel, m + n, 2);
    if (!(sel & ~3u))
        return cc_op_gp0(cpu, op, budget);
    if (!cc_read_descriptor(cpu, sel, d, false, EXC_GP))
        return cc_op_fault(cpu, op, budget);
    bool gate = !(d[0] >> 44 & 1);
    if (gate ? !call_gate(cpu, sel, &target, &cs, call) : !check_code_segment(cpu, sel, false, &cs))
        return cc_op_fault(cpu, op, budget);
    if (!cc_canonical(target))
        return cc_op_gp0(cpu, op, budget);
    if (gate && call && !(cs.attr & 4))
        cpl = ATTR_DPL(cs.attr);
    if (call) {
        uint64_t old_ss = cpu->seg[2].selector;
        unsigned w = gate ? 8 : n;
        uint64_t frame[4] = {cc_op_next_pc(cpu, op), cpu->seg[1].selector, rsp, old_ss};
        unsigned words = cpl < cpu->cpl ? 4 : 2;
        if (cpl < cpu->cpl) {
            if ((cpu->tr.attr & ATTR_UNUSABLE) || 4 + 8 * cpl + 7 > cpu->tr.limit) {
                cc_raise_code(cpu, EXC_TS, cpu->tr.selector & ~3u);
                return cc_op_fault(cpu, op, budget);
            }
            if (!cc_sys_read(cpu, cpu->tr.base + 4 + 8 * cpl, &rsp, 8))
                return cc_op_fault(cpu, op, budget);
        }
        uint8_t bytes[32];
        for (unsigned i = 0; i < words; i++)
            memcpy(bytes + i * w, &frame[i], w);
        rsp -= words * w;
        if (cpl < cpu->cpl ? !cc_sys_write(cpu, rsp, bytes, words * w)
                           : !cc_mem_write_bounced(cpu, op, budget, rsp, bytes, words * w))
            return cc_op_fault(cpu, op, budget);
        cpu->r[CC_RSP] = rsp;
    }
    cs.selector = (uint16_t)((cs.selector & ~3u) | cpl);
    cc_set_segment(cpu, 1, &cs);
    if (cpl != cpu->cpl) {
        cc_set_cpl(cpu, cpl);
        cc_segment ss = {.attr = ATTR_UNUSABLE | cpl << 5, .selector = (uint16_t)cpl};
        cc_set_segment(cpu, 2, &ss);
    }
    return cc_exit(cpu, target, budget);       /* locals escaped: see cc_mem_read_bounced() */
}

/* Check the SS of a return to privilege cpl. */
static bool check_return_stack(cc_cpu *cpu, uint16_t sel, unsigned cpl, cc_segment *ss)
{
    uint64_t d[2];
    if (!(sel & ~3u)) {
        if (cpl == 3 || (sel & 3u) != cpl)
            return gp(cpu, 0);
        memset(ss, 0, sizeof *ss);
        ss->attr = ATTR_UNUSABLE | cpl << 5;
        ss->selector = sel;
        return true;
    }
    if (!cc_read_descriptor(cpu, sel, d, false, EXC_GP))
        return false;
    cc_segment_from_descriptor(ss, sel, d[0], 0);
    if ((sel & 3u) != cpl || ATTR_DPL(ss->attr) != cpl || (ss->attr & 0x1a) != 0x12)
        return gp(cpu, sel & ~3u);
    if (!(ss->attr & ATTR_P)) {
        cc_raise_code(cpu, EXC_SS, sel & ~3u);
        return false;
    }
    return mark_accessed(cpu, sel, ss);
}

/* Returning outward must not leave the inner level's data segments loaded. */
static void drop_inner_segments(cc_cpu *cpu)
{
    static const uint8_t data[4] = {0, 3, 4, 5};
    for (unsigned i = 0; i < 4; i++) {
        cc_segment *s = &cpu->seg[data[i]];
        if (!(s->attr & ATTR_UNUSABLE) && (s->attr & 0x1c) != 0x1c && ATTR_DPL(s->attr) < cpu->cpl) {
            uint64_t base = s->base;
            memset(s, 0, sizeof *s);
            s->attr = ATTR_UNUSABLE;
            s->base = data[i] >= 4 ? base : 0;
        }
    }
}

static void enter_level(cc_cpu *cpu, const cc_segment *cs, const cc_segment *ss, unsigned cpl, bool outward)
{
    cc_segment c = *cs;
    c.selector = (uint16_t)((c.selector & ~3u) | cpl);
    cc_set_segment(cpu, 1, &c);
    cc_set_segment(cpu, 2, ss);
    cc_set_cpl(cpu, cpl);
    if (outward)
        drop_inner_segments(cpu);
}

/* RETF: op->imm = bytes to release | operand bytes << 16 */
static CC_OP(retf)
{
    unsigned n = (unsigned)op->imm >> 16, release = (uint16_t)op->imm;
    uint8_t m[32];
    uint64_t rip = 0, rsp = cpu->r[CC_RSP], cs_word = 0, ss_word = 0;
    cc_segment cs, ss;
    if (!cc_mem_read_bounced(cpu, op, budget, rsp, m, 2 * n))
        return cc_op_fault(cpu, op, budget);
    memcpy(&rip, m, n);
    memcpy(&cs_word, m + n, n);
    uint16_t sel = (uint16_t)cs_word;
    if (!check_code_segment(cpu, sel, true, &cs))
        return cc_op_fault(cpu, op, budget);
    if (!cc_canonical(rip))
        return cc_op_gp0(cpu, op, budget);
    rsp += 2 * n + release;
    if ((sel & 3u) == cpu->cpl) {
        cpu->r[CC_RSP] = rsp;
        cc_set_segment(cpu, 1, &cs);
        return cc_transfer(cpu, rip, budget);
    }
    if (!cc_mem_read_bounced(cpu, op, budget, rsp, m, 2 * n))
        return cc_op_fault(cpu, op, budget);
    uint64_t new_rsp = 0;
    memcpy(&new_rsp, m, n);
    memcpy(&ss_word, m + n, n);
    if (!check_return_stack(cpu, (uint16_t)ss_word, sel & 3u, &ss))
        return cc_op_fault(cpu, op, budget);
    enter_level(cpu, &cs, &ss, sel & 3u, true);
    cpu->r[CC_RSP] = new_rsp + release;
    return cc_transfer(cpu, rip, budget);
}

/* IRET in 64-bit mode always pops SS:RSP.  op->imm: operand bytes. */
static CC_OP(iret)
{
    unsigned n = (unsigned)op->imm;
    uint8_t m[40];
    uint64_t v[5] = {0};
    cc_segment cs, ss;
    if (cpu->rflags & FL_NT)
        return cc_op_gp0(cpu, op, budget);
    if (!CC_MEM_READ(cpu, op, budget, cpu->r[CC_RSP], m, 5 * n))
        return cc_op_fault(cpu, op, budget);
    for (unsigned i = 0; i < 5; i++)
        memcpy(&v[i], m + i * n, n);
    uint16_t sel = (uint16_t)v[1];
    unsigned cpl = sel & 3, old = cpu->cpl;
    if (!check_code_segment(cpu, sel, true, &cs) || !check_return_stack(cpu, (uint16_t)v[4], cpl, &ss))
        return cc_op_fault(cpu, op, budget);
    if (!cc_canonical(v[0]))
        return cc_op_gp0(cpu, op, budget);
    uint64_t writable = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
    if (old == 0)
        writable |= FL_IOPL;
    if (old <= (cpu->rflags & FL_IOPL) >> 12)
        writable |= FL_IF;
    if (n == 2)
        writable &= 0xffff;
    enter_level(cpu, &cs, &ss, cpl, cpl > old);
    cpu->r[CC_RSP] = v[3];
    cpu->nmi_blocked = 0;
    cc_set_rflags(cpu, (cc_rflags(cpu) & ~writable) | (v[2] & writable));
    return cc_transfer(cpu, v[0], budget);
}

/* ---- SYSCALL, SYSRET ------------------------------------------------------------------------------------------------------- */
static void flat(cc_segment *s, uint16_t sel, uint32_t attr)
{
    memset(s, 0, sizeof *s);
    s->limit = 0xffffffff;
    s->attr = attr;
    s->selector = sel;
}

/* SYSCALL and SYSRET trap by the TF that they load: a kernel that masks TF is never stepped, and the step over SYSCALL
 * ends when SYSRET is done. */
static void step_by_new_tf(cc_cpu *cpu)
{
    cpu->tf_checked = 1;
    if (cc_unlikely(cpu->rflags & FL_TF)) {
        cpu->trap_db |= DR6_BS;
        cpu->leave = 1;
    }
}

static CC_OP(syscall_)
{
    cc_segment s;
    if (!(cpu->efer & EFER_SCE))
        return cc_op_ud(cpu, op, budget);
    cpu->r[CC_RCX] = cc_op_next_pc(cpu, op);
    cpu->r[11] = cc_rflags(cpu) & ~(uint64_t)FL_RF;
    uint16_t sel = (uint16_t)(cpu->star >> 32) & 0xfffc;
    flat(&s, sel, 0xa09b);
    cc_set_segment(cpu, 1, &s);
    flat(&s, (uint16_t)(sel + 8), 0xc093);
    cc_set_segment(cpu, 2, &s);
    cpu->cpl = 0;
    cc_set_rflags(cpu, cpu->r[11] & ~cpu->sfmask & ~(uint64_t)FL_RF);
    cc_set_cpl(cpu, 0);
    step_by_new_tf(cpu);
    return cc_transfer(cpu, cpu->lstar, budget);
}

static CC_OP(sysret)
{
    cc_segment s;
    if (!(cpu->efer & EFER_SCE))
        return cc_op_ud(cpu, op, budget);
    if (cpu->cpl != 0)
        return cc_op_gp0(cpu, op, budget);
    if (!op->imm) {
        cc_logf(cpu->m, "SYSRET to compatibility mode is not supported: #GP");
        return cc_op_gp0(cpu, op, budget);
    }
    if (!cc_canonical(cpu->r[CC_RCX]))
        return cc_op_gp0(cpu, op, budget);
    uint16_t sel = (uint16_t)(cpu->star >> 48);
    flat(&s, (uint16_t)((sel + 16) | 3), 0xa0fb);
    cc_set_segment(cpu, 1, &s);
    flat(&s, (uint16_t)((sel + 8) | 3), 0xc0f3);
    cc_set_segment(cpu, 2, &s);
    cpu->cpl = 3;
    cc_set_rflags(cpu, (cpu->r[11] & 0x3c7fd7) | 2);
    cc_set_cpl(cpu, 3);
    step_by_new_tf(cpu);
    return cc_transfer(cpu, cpu->r[CC_RCX], budget);
}

/* ---- LLDT, LTR, SLDT, STR, LAR, LSL, VERR, VERW --------------------------------------------------------------------------- */
static bool operand16(cc_cpu *cpu, const cc_op *op, int64_t budget, uint16_t *v)
{
    if (!op->imm) {
        *v = (uint16_t)cpu->r[op->b];
        return true;
    }
    return cc_ld16(cpu, op, budget, cc_ea(cpu, op), v);
}

static CC_OP(lldt)
{
    uint16_t sel;
    uint64_t d[2];
    cc_segment s;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (!operand16(cpu, op, budget, &sel))
        return cc_op_fault(cpu, op, budget);
    if (!(sel & ~3u)) {
        memset(&s, 0, sizeof s);
        s.attr = ATTR_UNUSABLE;
        s.selector = sel;
    } else {
        if (sel & 4) {
            cc_raise_code(cpu, EXC_GP, sel & ~3u);
            return cc_op_fault(cpu, op, budget);
        }
        if (!cc_read_descriptor(cpu, sel, d, true, EXC_GP))
            return cc_op_fault(cpu, op, budget);
        cc_segment_from_descriptor(&s, sel, d[0], d[1]);
        if ((s.attr & 0x1f) != 2 || (d[1] >> 40 & 0x1f) || !(s.attr & ATTR_P)) {
            cc_raise_code(cpu, (s.attr & 0x1f) == 2 && !(s.attr & ATTR_P) ? EXC_NP : EXC_GP, sel & ~3u);
            return cc_op_fault(cpu, op, budget);
        }
    }
    cpu->ldtr = s;
    return cc_op_leave(cpu, op, budget);      /* locals escaped: a dispatch would be a call */
}

static CC_OP(ltr)
{
    uint16_t sel;
    uint64_t d[2], va;
    cc_segment s;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (!operand16(cpu, op, budget, &sel))
        return cc_op_fault(cpu, op, budget);
    if (!(sel & ~3u))
        return cc_op_gp0(cpu, op, budget);
    if (sel & 4) {
        cc_raise_code(cpu, EXC_GP, sel & ~3u);
        return cc_op_fault(cpu, op, budget);
    }
    if (!cc_read_descriptor(cpu, sel, d, true, EXC_GP))
        return cc_op_fault(cpu, op, budget);
    cc_segment_from_descriptor(&s, sel, d[0], d[1]);
    if ((s.attr & 0x1f) != 9 || (d[1] >> 40 & 0x1f) || !(s.attr & ATTR_P)) {
        cc_raise_code(cpu, (s.attr & 0x1f) == 9 && !(s.attr & ATTR_P) ? EXC_NP : EXC_GP, sel & ~3u);
        return cc_op_fault(cpu, op, budget);
    }
    d[0] |= 2ull << 40;          /* busy */
    s.attr |= 2;
    if (!table_address(cpu, sel, 16, &va) || !cc_sys_write(cpu, va, d, 8))
        return cc_op_fault(cpu, op, budget);
    cpu->tr = s;
    return cc_op_leave(cpu, op, budget);      /* locals escaped: a dispatch would be a call */
}

/* op->imm: 16 memory, else operand bytes of a register */
static const cc_op *store_word(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t v)
{
    if ((cpu->cr4 & CR4_UMIP) && cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (op->imm == 16) {
        if (!cc_st16(cpu, op, budget, cc_ea(cpu, op), (uint16_t)v))
            return cc_op_fault(cpu, op, budget);
    } else if (op->imm == 2) {
        cc_set16(cpu, op->b, (uint16_t)v);
    } else {
        cpu->r[op->b] = op->imm == 4 ? (uint32_t)v : v;
    }
    CC_NEXT_STORE();
}
static CC_OP(sldt) { return store_word(cpu, op, budget, cpu->ldtr.selector); }
static CC_OP(str) { return store_word(cpu, op, budget, cpu->tr.selector); }
static CC_OP(smsw) { return store_word(cpu, op, budget, cpu->cr0); }

static void set_zf(cc_cpu *cpu, bool z)
{
    cc_set_arith_flags(cpu, (cc_arith_flags(cpu) & ~FL_ZF) | (z ? FL_ZF : 0));
}

/* Is the descriptor visible to LAR (or LSL) from here?  -1: fault recorded. */
static int probe_descriptor(cc_cpu *cpu, uint16_t sel, bool lsl, cc_segment *s, uint64_t *raw)
{
    uint64_t d[2], va;
    if (!(sel & ~3u) || !table_address(cpu, sel, 8, &va))
        return 0;
    if (!cc_sys_read(cpu, va, d, 8))
        return -1;
    cc_segment_from_descriptor(s, sel, d[0], 0);
    *raw = d[0];
    unsigned type = s->attr & 0x1f, dpl = ATTR_DPL(s->attr);
    if (!(type & 0x10) && !(type == 2 || type == 9 || type == 0xb || (!lsl && type == 0xc)))
        return 0;
    if ((type & 0x1c) != 0x1c && (dpl < cpu->cpl || dpl < (sel & 3u)))
        return 0;
    return 1;
}
/* op->x carries nothing here: op->imm bit 0: memory form, bits 8..: operand bytes */
static const cc_op *lar_lsl(cc_cpu *cpu, const cc_op *op, int64_t budget, bool lsl)
{
    uint16_t sel;
    cc_segment s;
    uint64_t raw;
    cc_op o = *op;
    o.imm &= 1;
    if (!operand16(cpu, &o, budget, &sel))
        return cc_op_fault(cpu, op, budget);
    int ok = probe_descriptor(cpu, sel, lsl, &s, &raw);
    if (ok < 0)
        return cc_op_fault(cpu, op, budget);
    if (ok) {
        uint32_t v = lsl ? s.limit : (uint32_t)(raw >> 32) & 0x00ffff00;    /* 19:16 are undefined: as AMD */
        if (op->imm >> 8 == 2)
            cc_set16(cpu, op->r, (uint16_t)v);
        else
            cpu->r[op->r] = v;
    }
    set_zf(cpu, ok);
    return cc_op_leave(cpu, op, budget);      /* locals escaped: a dispatch would be a call */
}
static CC_OP(lar) { return lar_lsl(cpu, op, budget, false); }
static CC_OP(lsl) { return lar_lsl(cpu, op, budget, true); }

static const cc_op *verify(cc_cpu *cpu, const cc_op *op, int64_t budget, bool write)
{
    uint16_t sel;
    cc_segment s;
    uint64_t raw;
    if (!operand16(cpu, op, budget, &sel))
        return cc_op_fault(cpu, op, budget);
    int ok = probe_descriptor(cpu, sel, true, &s, &raw);
    if (ok < 0)
        return cc_op_fault(cpu, op, budget);
    bool code = s.attr & 8;
    set_zf(cpu, ok && (s.attr & ATTR_S) && (write ? !code && (s.attr & 2) : !code || (s.attr & 2)));
    return cc_op_leave(cpu, op, budget);      /* locals escaped: a dispatch would be a call */
}
static CC_OP(verr) { return verify(cpu, op, budget, false); }
static CC_OP(verw) { return verify(cpu, op, budget, true); }

/* ---- selection ------------------------------------------------------------------------------------------------------------- */
cc_opfn cc_segment_select(const cc_dec *d, cc_op *op)
{
    if (d->map == 0) {
        switch (d->opcode) {
        case 0x8c: op->r = d->reg; op->imm = d->mem ? 16 : d->opbytes; return mov_from_sreg;
        case 0x8e: op->r = d->reg; op->imm = d->mem; return mov_to_sreg;
        case 0xca: op->ss = CC_SS_STACK; op->imm = (op->imm & 0xffff) | d->opbytes << 16; return retf;
        case 0xcb: op->ss = CC_SS_STACK; op->imm = d->opbytes << 16; return retf;
        case 0xcf: op->ss = CC_SS_STACK; op->imm = d->opbytes; return iret;
        case 0xff:
            if (d->mem && (d->reg == 3 || d->reg == 5)) {
                op->imm = d->opbytes | (d->reg == 3 ? 0x100 : 0);
                return far_jump;
            }
            return NULL;
        default: return NULL;
        }
    }
    if (d->map != 1)
        return NULL;
    switch (d->opcode) {
    case 0x00:
        op->imm = d->mem;
        switch (d->reg) {
        case 0: op->imm = d->mem ? 16 : d->opbytes; return sldt;
        case 1: op->imm = d->mem ? 16 : d->opbytes; return str;
        case 2: return lldt;
        case 3: return ltr;
        case 4: return verr;
        case 5: return verw;
        default: return NULL;
        }
    case 0x01:
        if (d->reg != 4)
            return NULL;
        op->imm = d->mem ? 16 : d->opbytes;
        return smsw;
    case 0x02: op->imm = d->mem | d->opbytes << 8; return lar;
    case 0x03: op->imm = d->mem | d->opbytes << 8; return lsl;
    case 0x05: return syscall_;
    case 0x07: op->imm = d->rexw; return sysret;
    case 0xa0: case 0xa8: op->r = d->opcode == 0xa0 ? 4 : 5; op->ss = CC_SS_STACK; op->imm = d->opbytes == 2; return push_sreg;
    case 0xa1: case 0xa9: op->r = d->opcode == 0xa1 ? 4 : 5; op->ss = CC_SS_STACK; op->imm = d->opbytes == 2; return pop_sreg;
    case 0xb2: case 0xb4: case 0xb5:
        if (!d->mem)
            return NULL;
        op->imm = d->opbytes | (d->opcode == 0xb2 ? 2 : d->opcode) << 8;
        if (d->opcode != 0xb2)
            op->imm = d->opbytes | (d->opcode == 0xb4 ? 4 : 5) << 8;
        return load_far_pointer;
    default: return NULL;
    }
}
