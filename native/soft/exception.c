/*
 * soft/exception.c: delivery of exceptions and interrupts through the 64-bit IDT (SDM vol. 3, 6.14), with #DF promotion.
 */
#include "exec.h"

static bool contributory(uint8_t v) { return v == EXC_DE || (v >= EXC_TS && v <= EXC_GP); }

/*
 * RF is set in the image pushed by faults, so that an instruction breakpoint does not fire again on return; the fault
 * of the breakpoint itself leaves that to its handler.  Everything else pushes RF as it is: 1 between the iterations of
 * a string instruction (SDM vol. 3, 17.3.1.1).
 */
static bool pushes_rf(const cc_cpu *cpu, uint8_t vector, bool external, bool soft)
{
    if (vector == EXC_DB)
        return !soft && (cpu->fault.dr6 & DR6_BD);
    return !external && !soft && vector != EXC_NMI && vector != EXC_BP && vector != EXC_OF;
}

/* Deliver one vector.  False: a new fault was recorded while doing so; no state but A/D bits has changed. */
static bool deliver(cc_cpu *cpu, uint8_t vector, bool has_code, uint32_t code, uint8_t soft_len, bool external)
{
    uint32_t ext = external || !soft_len ? 1 : 0, where = (uint32_t)vector * 8 + 2;
    uint64_t gate[2], desc[2];

    if ((uint32_t)vector * 16 + 15 > cpu->idtr.limit) {
        cc_raise_code(cpu, EXC_GP, where | ext);
        return false;
    }
    if (!cc_sys_read(cpu, cpu->idtr.base + (uint64_t)vector * 16, gate, 16))
        return false;
    unsigned attr = (uint8_t)(gate[0] >> 40), type = attr & 0x1f;
    if (type != 0xe && type != 0xf) {
        cc_raise_code(cpu, EXC_GP, where | ext);
        return false;
    }
    if (soft_len && ATTR_DPL(attr) < cpu->cpl) {
        cc_raise_code(cpu, EXC_GP, where);
        return false;
    }
    if (!(attr & ATTR_P)) {
        cc_raise_code(cpu, EXC_NP, where | ext);
        return false;
    }
    uint16_t sel = (uint16_t)(gate[0] >> 16);
    uint64_t target = (gate[0] & 0xffff) | (gate[0] >> 48) << 16 | gate[1] << 32;
    if (!(sel & ~3)) {
        cc_raise_code(cpu, EXC_GP, ext);
        return false;
    }
    if (!cc_read_descriptor(cpu, sel, desc, false, EXC_GP)) {
        if (cpu->fault.vector == EXC_GP && cpu->fault.has_code)
            cpu->fault.code |= ext;
        return false;
    }
    cc_segment cs;
    cc_segment_from_descriptor(&cs, sel, desc[0], 0);
    unsigned dpl = ATTR_DPL(cs.attr);
    if ((cs.attr & 0x18) != 0x18 || dpl > cpu->cpl || !(cs.attr & ATTR_L) || (cs.attr & ATTR_DB)) {
        cc_raise_code(cpu, EXC_GP, (sel & ~3u) | ext);
        return false;
    }
    if (!(cs.attr & ATTR_P)) {
        cc_raise_code(cpu, EXC_NP, (sel & ~3u) | ext);
        return false;
    }
    if (!cc_canonical(target)) {
        cc_raise_code(cpu, EXC_GP, ext);
        return false;
    }
    unsigned cpl = cs.attr & 4 ? cpu->cpl : dpl;      /* conforming code keeps the level */
    unsigned ist = (unsigned)(gate[0] >> 32) & 7;
    uint64_t rsp = cpu->r[CC_RSP];
    if (ist || cpl < cpu->cpl) {
        unsigned at = ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl;
        if ((cpu->tr.attr & ATTR_UNUSABLE) || at + 7 > cpu->tr.limit) {
            cc_raise_code(cpu, EXC_TS, (cpu->tr.selector & ~3u) | ext);
            return false;
        }
        if (!cc_sys_read(cpu, cpu->tr.base + at, &rsp, 8))
            return false;
    }
    if (!cc_canonical(rsp)) {
        cc_raise_code(cpu, EXC_SS, ext);
        return false;
    }
    rsp &= ~15ull;

    uint64_t frame[6];
    unsigned n = 0;
    if (has_code)
        frame[n++] = code;
    frame[n++] = cpu->rip + soft_len;
    frame[n++] = cpu->seg[1].selector;
    frame[n++] = cc_rflags(cpu) | (pushes_rf(cpu, vector, external, soft_len != 0) ? FL_RF : 0);
    frame[n++] = cpu->r[CC_RSP];
    frame[n++] = cpu->seg[2].selector;
    rsp -= 8ull * n;
    /* Written with the privilege of the handler.  Data breakpoints do not see it: a stack of #DB would never end. */
    if (cpl == 3) {
        uint64_t pending = cpu->trap_db;
        bool written = cc_mem_write_slow(cpu, NULL, 0, rsp, frame, 8 * n);
        cpu->trap_db = pending;
        if (!written)
            return false;
    } else if (!cc_sys_write(cpu, rsp, frame, 8 * n)) {
        return false;
    }

    bool changed = cpl != cpu->cpl;
    cs.selector = (uint16_t)((sel & ~3u) | cpl);
    cs.attr |= 1;
    cpu->r[CC_RSP] = rsp;
    cc_set_rflags(cpu, cc_rflags(cpu) & ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM | (type == 0xe ? FL_IF : 0)));
    cc_set_segment(cpu, 1, &cs);
    if (changed) {
        cc_set_cpl(cpu, cpl);
        cc_segment ss = {.attr = ATTR_UNUSABLE | cpl << 5, .selector = (uint16_t)cpl};
        cc_set_segment(cpu, 2, &ss);
    }
    cpu->rip = target;
    cpu->shadow = 0;
    cpu->halted = 0;          /* the single-step trap of HLT */
    return true;
}

static bool deliver_with_promotion(cc_cpu *cpu, uint8_t vector, bool has_code, uint32_t code, uint8_t soft_len, bool external)
{
    /* Each nested fault is delivered in the place of the first, or becomes #DF, then shutdown. */
    for (;;) {
        if (deliver(cpu, vector, has_code, code, soft_len, external))
            return true;
        uint8_t second = cpu->fault.vector;
        if (second == EXC_PF)
            cpu->cr2 = cpu->fault.cr2;
        bool second_counts = contributory(second) || second == EXC_PF;
        if (vector == EXC_DF && !external && !soft_len && second_counts)
            return false;
        if (!external && !soft_len && ((contributory(vector) && contributory(second)) || (vector == EXC_PF && second_counts))) {
            vector = EXC_DF;
            has_code = true;
            code = 0;
        } else {
            vector = second;
            has_code = cpu->fault.has_code;
            code = cpu->fault.code;
        }
        soft_len = 0;
        external = false;
    }
}

bool cc_deliver_fault(cc_cpu *cpu)
{
    cpu->fault_pending = 0;
    if (cpu->fault.vector == EXC_PF)
        cpu->cr2 = cpu->fault.cr2;
    if (cpu->fault.vector == EXC_DB) {
        if (cpu->fault.dr6)               /* INT1 has none */
            cpu->dr[6] = (cpu->dr[6] & ~0xfull) | cpu->fault.dr6;
        cpu->dr[7] &= ~(uint64_t)DR7_GD;
    }
    cpu->m->stats.exceptions++;
    return deliver_with_promotion(cpu, cpu->fault.vector, cpu->fault.has_code, cpu->fault.code, cpu->fault.soft, false);
}

bool cc_deliver_interrupt(cc_cpu *cpu, uint8_t vector, bool external)
{
    return deliver_with_promotion(cpu, vector, false, 0, 0, external);
}
