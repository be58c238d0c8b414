/*
 * soft/soft.c: the soft vCPU: its construction, its register file as cc_regs, and the loop that executes blocks,
 * single steps where a trap or an interrupt shadow asks for it, and delivers what is due at boundaries.
 */
#include "exec.h"
#include "system.h"
#include "../watch.h"

#include <stdlib.h>

static const cc_op *execute(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
#ifdef CC_TRAMPOLINE
    cpu->tramp_budget = budget;
    while (op)
        op = op->fn(cpu, op, cpu->tramp_budget);
    return op;
#else
    return op->fn(cpu, op, budget);
#endif
}

/* Run the block (or part of it) at rip with `budget` instructions to spare. */
static void run_block(cc_cpu *cpu, cc_block *b, int64_t budget)
{
    cpu->limit = cpu->m->instret + (uint64_t)budget;
    cpu->r[CC_R_PAGE] = b->vbase;
    execute(cpu, b->ops, budget - b->n);
}

/* A fetch fault at rip: the attempt counts as one instruction. */
static void note_fetch_fault(cc_cpu *cpu)
{
    cpu->m->instret++;
    cpu->fault_pending = 1;
}

/* DR7 has an instruction breakpoint at rip: a fault, before the instruction, unless RF is set. */
static bool instruction_breakpoint(cc_cpu *cpu)
{
    if (cc_likely(!(cpu->dr[7] & 0xff)) || (cpu->rflags & FL_RF))
        return false;
    uint64_t hit = 0;
    for (unsigned i = 0; i < 4; i++)
        if (cc_breakpoint_kind(cpu, i) == CC_BP_EXECUTE && cpu->dr[i] == cpu->rip)
            hit |= 1u << i;
    if (!hit)
        return false;
    cc_raise(cpu, EXC_DB);
    cpu->fault.dr6 = hit;
    cpu->fault_pending = 1;
    cpu->m->instret++;
    return true;
}

static bool has_instruction_breakpoints(const cc_cpu *cpu)
{
    if (cc_likely(!(cpu->dr[7] & 0xff)))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if (cc_breakpoint_kind(cpu, i) == CC_BP_EXECUTE)
            return true;
    return false;
}

/*
 * Exactly one instruction (or one REP iteration, or one faulting attempt), with its single-step trap.  The instruction
 * after MOV SS meets no instruction breakpoint, and MOV SS itself no trap (SDM vol. 3, 6.8.3 and 17.3.1.1).
 */
static void step_one(cc_cpu *cpu)
{
    const bool trap = cpu->rflags & FL_TF;
    const uint8_t shadow = cpu->shadow;

    if (cpu->shadow != 2 && instruction_breakpoint(cpu))
        return;
    cpu->shadow = 0;
    cpu->tf_checked = 0;
    cc_block *b = cc_block_scratch(cpu, cpu->rip, 1);
    if (!b) {
        note_fetch_fault(cpu);
        return;
    }
    cpu->rflags &= ~(uint64_t)FL_RF;
    run_block(cpu, b, 1);
    if (cc_unlikely(cpu->m->watches != NULL) && cpu->m->watches->stopped_before)
        cpu->shadow = shadow;                    /* it has not begun, and could not have if RF was set */
    else if (trap && !cpu->fault_pending && !cpu->tf_checked && cpu->shadow != 2)
        cpu->trap_db |= DR6_BS;
}

static void shut_down(cc_cpu *cpu)
{
    cc_logf(cpu->m, "triple fault at rip 0x%llx", (unsigned long long)cpu->rip);
    cc_request_stop(cpu->m, CC_STOP_TRIPLE_FAULT, 0);
}

/*
 * Faults and traps belong to the instruction that caused them: deliver them before the boundary.  Data breakpoints that
 * MOV SS has met wait for the end of the next instruction, also where that is INT n: then its handler is interrupted.
 * False: triple fault.
 */
static bool settle(cc_cpu *cpu)
{
    while (cpu->fault_pending || (cpu->trap_db && cpu->shadow != 2)) {
        if (!cpu->fault_pending) {
            cc_raise(cpu, EXC_DB);
            cpu->fault.dr6 = cpu->trap_db;
            cpu->trap_db = 0;
        }
        if (!cc_deliver_fault(cpu)) {
            shut_down(cpu);
            return false;
        }
    }
    return true;
}

/* Take a pending NMI or interrupt.  False: triple fault. */
static bool take_interrupt(cc_cpu *cpu)
{
    cc_machine *m = cpu->m;
    m->stats.interrupts++;
    cc_count_exit(m);
    cpu->halted = 0;
    if (cpu->nmi_pending && !cpu->nmi_blocked) {
        cpu->nmi_pending = 0;
        cpu->nmi_blocked = 1;
        return cc_deliver_interrupt(cpu, EXC_NMI, true);
    }
    return cc_deliver_interrupt(cpu, cc_pic_ack(m), true);
}

static int soft_run(cc_machine *m, uint64_t horizon)
{
    cc_cpu *cpu = m->vcpu;
    cc_mxcsr_enter(cpu);
    while (m->instret < horizon && !m->kick) {
        cpu->leave = 0;
        if (!cpu->shadow && cc_interrupt_due(cpu)) {
            if (cc_unlikely(m->watches != NULL))
                m->watches->interrupted_at = m->instret;
            if (!take_interrupt(cpu)) {
                shut_down(cpu);
                break;
            }
            continue;
        }
        if (cpu->halted)
            break;
        uint64_t pending = cpu->trap_db;
        if (cc_unlikely(m->watches != NULL))
            cc_watches_begin(cpu);
        /* What an interrupt has pushed is dated by the first position behind it: after its handler's first instruction. */
        const bool staged = cc_unlikely(m->watches != NULL) && m->watches->nstaged;
        if (cc_unlikely(cpu->shadow || (cpu->rflags & FL_TF) || has_instruction_breakpoints(cpu) || staged)) {
            step_one(cpu);
        } else {
            cpu->rflags &= ~(uint64_t)FL_RF;         /* as every instruction does when it starts */
            cc_block *b = cc_block_at(cpu, cpu->rip);
            if (!b) {
                note_fetch_fault(cpu);
            } else {
                int64_t budget = horizon - m->instret > INT64_MAX ? INT64_MAX : (int64_t)(horizon - m->instret);
                if (b->n > budget)
                    b = cc_block_scratch(cpu, cpu->rip, (uint32_t)budget);
                if (b)
                    run_block(cpu, b, budget);
                else
                    note_fetch_fault(cpu);
            }
        }
        if (cc_unlikely(cpu->fault_pending))
            cpu->trap_db = pending;                  /* what the instruction met before it faulted, it will meet again */
        if (cc_unlikely(m->watches != NULL))
            cc_watches_executed(m, cpu->fault_pending);
        if (cc_unlikely(cpu->fault_pending || cpu->trap_db) && !settle(cpu))
            break;
        if (cc_unlikely(m->watches != NULL) && m->watches->nstaged)
            cc_watches_commit(m, false);
    }
    cpu->leave = 0;
    cc_mxcsr_leave(cpu);
    return CC_OK;
}

/* ---- registers ------------------------------------------------------------------------------------------------------------ */
static void soft_get_regs(cc_machine *m, cc_regs *r)
{
    cc_cpu *c = m->vcpu;
    memset(r, 0, sizeof *r);
    memcpy(r->gpr, c->r, sizeof r->gpr);
    r->rip = c->rip;
    r->rflags = cc_rflags(c);
    memcpy(r->seg, c->seg, sizeof r->seg);
    r->ldtr = c->ldtr;
    r->tr = c->tr;
    r->gdtr = c->gdtr;
    r->idtr = c->idtr;
    r->cr0 = c->cr0, r->cr2 = c->cr2, r->cr3 = c->cr3, r->cr4 = c->cr4, r->cr8 = c->cr8;
    memcpy(r->dr, c->dr, sizeof r->dr);
    r->efer = c->efer;
    r->star = c->star, r->lstar = c->lstar, r->cstar = c->cstar, r->sfmask = c->sfmask;
    r->kernel_gs_base = c->kernel_gs_base;
    r->sysenter_cs = c->sysenter_cs, r->sysenter_esp = c->sysenter_esp, r->sysenter_eip = c->sysenter_eip;
    r->pat = c->pat, r->tsc_aux = c->tsc_aux, r->misc_enable = c->misc_enable;
    r->tsc_offset = c->tsc_offset;
    for (unsigned i = 0; i < 8; i++) {
        r->st[i].mant = c->fpu.st[i].mant;
        r->st[i].sexp = c->fpu.st[i].sexp;
    }
    r->fcw = c->fpu.fcw;
    r->fsw = (uint16_t)((c->fpu.fsw & ~0x3800u) | (unsigned)c->fpu.top << 11);
    r->ftw = cc_x87_full_tags(&c->fpu);
    r->fop = c->fpu.fop;
    r->fip = c->fpu.fip, r->fdp = c->fpu.fdp;
    for (unsigned i = 0; i < 16; i++)
        memcpy(&r->xmm[i], &c->xmm[i], 16);
    r->mxcsr = c->mxcsr;
    r->halted = c->halted;
    r->shadow = (uint8_t)(c->shadow | (c->trap_db & 0xf) << 4);
    r->nmi_blocked = c->nmi_blocked;
    r->nmi_pending = c->nmi_pending;
}

/* A selector and attributes as a clean copy: padding stays zero for the digest. */
static cc_segment clean_segment(const cc_segment *s)
{
    cc_segment o;
    memset(&o, 0, sizeof o);
    o.base = s->base;
    o.limit = s->limit;
    o.attr = s->attr;
    o.selector = s->selector;
    return o;
}

static int soft_set_regs(cc_machine *m, const cc_regs *r)
{
    cc_cpu *c = m->vcpu;
    if (!(r->cr0 & CR0_PG) || !(r->cr0 & CR0_PE) || !(r->cr4 & CR4_PAE) || !(r->efer & EFER_LMA) || !(r->efer & EFER_LME))
        return cc_fail(m, CC_EINVAL, "registers: the soft vCPU runs in long mode only: set CR0.PE and PG, CR4.PAE, EFER.LME and LMA");
    if (!(r->seg[1].attr & ATTR_L))
        return cc_fail(m, CC_EINVAL, "registers: CS is not a 64-bit code segment: set its L attribute");
    if (r->mxcsr & 0xffff0000u)
        return cc_fail(m, CC_EINVAL, "registers: MXCSR 0x%x has reserved bits set", r->mxcsr);
    if (!cc_canonical(r->rip))
        return cc_fail(m, CC_EINVAL, "registers: RIP 0x%llx is not canonical", (unsigned long long)r->rip);
    memcpy(c->r, r->gpr, sizeof r->gpr);
    c->r[CC_R_ZERO] = 0;
    c->r[CC_R_8K] = 8192;
    c->rip = r->rip;
    for (unsigned i = 0; i < 6; i++) {
        cc_segment s = clean_segment(&r->seg[i]);
        cc_set_segment(c, i, &s);
    }
    c->ldtr = clean_segment(&r->ldtr);
    c->tr = clean_segment(&r->tr);
    memset(&c->gdtr, 0, sizeof c->gdtr);
    memset(&c->idtr, 0, sizeof c->idtr);
    c->gdtr.base = r->gdtr.base, c->gdtr.limit = r->gdtr.limit;
    c->idtr.base = r->idtr.base, c->idtr.limit = r->idtr.limit;
    bool same_space = c->cr3 == r->cr3 && c->cr0 == r->cr0 && c->cr4 == r->cr4 && c->efer == r->efer &&
                      memcmp(c->dr, r->dr, sizeof c->dr) == 0;
    c->cr0 = r->cr0, c->cr2 = r->cr2, c->cr3 = r->cr3, c->cr4 = r->cr4, c->cr8 = r->cr8;
    memcpy(c->dr, r->dr, sizeof c->dr);
    c->efer = r->efer;
    c->star = r->star, c->lstar = r->lstar, c->cstar = r->cstar, c->sfmask = r->sfmask;
    c->kernel_gs_base = r->kernel_gs_base;
    c->sysenter_cs = r->sysenter_cs, c->sysenter_esp = r->sysenter_esp, c->sysenter_eip = r->sysenter_eip;
    c->pat = r->pat, c->tsc_aux = r->tsc_aux, c->misc_enable = r->misc_enable;
    c->tsc_offset = r->tsc_offset;
    c->fpu.empty = 0;
    for (unsigned i = 0; i < 8; i++) {
        c->fpu.st[i].mant = r->st[i].mant;
        c->fpu.st[i].sexp = r->st[i].sexp;
        if ((r->ftw >> (2 * i) & 3) == 3)
            c->fpu.empty |= (uint8_t)(1u << i);
    }
    cc_x87_set_words(&c->fpu, r->fcw, r->fsw & 0xc7ff);
    c->fpu.top = (r->fsw >> 11) & 7;
    c->fpu.fop = r->fop & 0x7ff;
    c->fpu.fip = r->fip, c->fpu.fdp = r->fdp;
    for (unsigned i = 0; i < 16; i++)
        memcpy(&c->xmm[i], &r->xmm[i], 16);
    cc_mxcsr_set(c, r->mxcsr);
    c->halted = r->halted;
    c->shadow = r->shadow & 0xf;
    c->nmi_blocked = r->nmi_blocked;
    c->nmi_pending = r->nmi_pending;
    c->fault_pending = 0;
    c->trap_db = c->shadow == 2 ? r->shadow >> 4 : 0;
    if (!same_space)
        cc_tlb_flush(c);
    cc_set_rflags(c, r->rflags);
    cc_set_cpl(c, r->seg[2].attr & ATTR_UNUSABLE ? r->seg[1].selector & 3u : ATTR_DPL(r->seg[2].attr));
    cc_update_modes(c);
    return CC_OK;
}

static bool soft_halted(cc_machine *m) { return ((cc_cpu *)m->vcpu)->halted; }
static bool soft_interruptible(cc_machine *m) { return (((cc_cpu *)m->vcpu)->rflags & FL_IF) != 0; }
static void soft_protect_writes(cc_machine *m) { cc_tlb_protect_writes(m->vcpu); }
static void soft_sync_dirty(cc_machine *m) { (void)m; }

static void soft_page_changed(cc_machine *m, uint64_t page)
{
    cc_cpu *cpu = m->vcpu;
    if (m->page_flags[page] & CC_PF_CODE)
        cc_code_written(cpu, page << CC_PAGE_SHIFT, CC_PAGE_SIZE);
    if (m->page_flags[page] & CC_PF_TABLE)
        cc_table_page_changed(cpu);
}

static int soft_set_cache_sizes(cc_machine *m, uint32_t tlb_bits, uint32_t kib)
{
    cc_cpu *cpu = m->vcpu;
    cc_tlb_flush(cpu);
    int r = cc_mmu_new(cpu, tlb_bits);
    return r ? r : cc_code_new(cpu, kib);
}

/* ---- construction ----------------------------------------------------------------------------------------------------------- */
static void soft_destroy(cc_machine *m)
{
    cc_cpu *cpu = m->vcpu;
    if (!cpu)
        return;
    cc_code_free(cpu);
    cc_edges_free(cpu);
    cc_mmu_free(cpu);
    free(cpu);
    m->vcpu = NULL;
}

static int soft_create(cc_machine *m)
{
    cc_cpu *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);
    if (!c)
        return cc_fail(m, CC_ENOMEM, "no memory for the soft vCPU");
    memset(c, 0, sizeof *c);
    m->vcpu = c;
    c->m = m;
    c->r[CC_R_8K] = 8192;
    c->rflags = 2;
    c->pat = 0x0007040600070406ull;
    c->misc_enable = 1;                       /* fast strings */
    c->dr[6] = 0xffff0ff0u;
    c->dr[7] = 0x400;
    c->mxcsr = 0x1f80;
    cc_x87_reset(c);
    if (cc_code_new(c, m->cfg.code_cache_kib) || cc_mmu_new(c, m->cfg.tlb_bits)) {
        soft_destroy(m);
        return cc_fail(m, CC_ENOMEM, "no memory for the soft vCPU's caches");
    }
    return CC_OK;
}

const struct cc_vcpu_ops cc_soft_vcpu = {
    .name = "soft",
    .create = soft_create,
    .destroy = soft_destroy,
    .run = soft_run,
    .get_regs = soft_get_regs,
    .set_regs = soft_set_regs,
    .halted = soft_halted,
    .interruptible = soft_interruptible,
    .protect_writes = soft_protect_writes,
    .sync_dirty = soft_sync_dirty,
    .tells_before_write = true,
    .page_changed = soft_page_changed,
    .set_cache_sizes = soft_set_cache_sizes,
    .translate = cc_soft_translate,
    .watches_changed = cc_soft_watches_changed,
};
