/*
 * soft/system.c: control and debug registers, MSRs, flags, ports, HLT, software interrupts, RDTSC, CPUID.
 */
#include "int.h"
#include "system.h"
#include "../watch.h"

#include <stdio.h>

const uint8_t cc_parity[256] = {
#define P1(n) FL_PF * !((((n) ^ (n) >> 4) & 15) == 1 || (((n) ^ (n) >> 4) & 15) == 2 || (((n) ^ (n) >> 4) & 15) == 4 || \
                        (((n) ^ (n) >> 4) & 15) == 7 || (((n) ^ (n) >> 4) & 15) == 8 || (((n) ^ (n) >> 4) & 15) == 11 || \
                        (((n) ^ (n) >> 4) & 15) == 13 || (((n) ^ (n) >> 4) & 15) == 14)
#define P4(n) P1(n), P1(n + 1), P1(n + 2), P1(n + 3)
#define P16(n) P4(n), P4(n + 4), P4(n + 8), P4(n + 12)
#define P64(n) P16(n), P16(n + 16), P16(n + 32), P16(n + 48)
    P64(0), P64(64), P64(128), P64(192),
};

uint32_t cc_arith_flags(const cc_cpu *c)
{
    if (c->cc_op == CC_FLAGS_EXPLICIT)
        return (uint32_t)c->cc_src;
    uint32_t f = cc_zsp(c->cc_res) | (cc_flag_c(c) ? FL_CF : 0) | (cc_flag_o(c) ? FL_OF : 0);
    if (c->cc_op <= CC_FLAGS_ADD64)
        return f | (((c->cc_res - c->cc_src) ^ c->cc_src ^ c->cc_res) & FL_AF);
    if (c->cc_op <= CC_FLAGS_SUB64)
        return f | (((c->cc_res + c->cc_src) ^ c->cc_src ^ c->cc_res) & FL_AF);
    if (c->cc_op <= CC_FLAGS_LOGIC64)
        return f;
    if (c->cc_op <= CC_FLAGS_INC64)
        return f | ((c->cc_res & 15) == 0 ? FL_AF : 0);
    return f | ((c->cc_res & 15) == 15 ? FL_AF : 0);
}

/* ---- faults and leaving ------------------------------------------------------------------------------------------------------ */
const cc_op *cc_op_fault(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cpu->fault_pending = 1;
    return cc_exit(cpu, cc_op_pc(cpu, op), budget + op->rem - 1);      /* the attempt counts as one */
}
const cc_op *cc_op_leave(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    return cc_exit(cpu, cc_op_next_pc(cpu, op), budget + op->rem - 1);
}
const cc_op *cc_op_ud(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cc_raise(cpu, EXC_UD);
    return cc_op_fault(cpu, op, budget);
}
const cc_op *cc_op_gp0(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cc_raise_code(cpu, EXC_GP, 0);
    return cc_op_fault(cpu, op, budget);
}
/* SDM vol. 3, table 2-5: #UD before #NM. */
const cc_op *cc_op_sse_unavailable(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cc_raise(cpu, (cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR) ? EXC_UD : EXC_NM);
    return cc_op_fault(cpu, op, budget);
}
const cc_op *cc_op_fpu_unavailable(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    cc_raise(cpu, EXC_NM);
    return cc_op_fault(cpu, op, budget);
}

bool cc_interrupt_due(const cc_cpu *cpu)
{
    return (cpu->nmi_pending && !cpu->nmi_blocked) || ((cpu->rflags & FL_IF) && cc_pic_pending(cpu->m));
}

const cc_op *cc_transfer(cc_cpu *cpu, uint64_t pc, int64_t budget)
{
    const cc_op *op;
    if (cc_unlikely(cpu->leave || (cpu->rflags & FL_TF) || budget <= 0 || cc_interrupt_due(cpu)))
        return cc_exit(cpu, pc, budget);
    if (cc_unlikely(cpu->m->watches != NULL) && (cpu->rflags & FL_RF))
        cpu->m->watches->resumed_at = cpu->limit - (uint64_t)budget;
    cpu->rflags &= ~(uint64_t)FL_RF;          /* IRET may have set it for the instruction that starts now */
    CC_GOTO(pc);
}

void cc_begin_shadow(cc_cpu *cpu, const cc_op *op, int64_t budget, unsigned kind)
{
    if (cc_interrupt_due(cpu) || (kind == 2 && cpu->trap_db)) {
        cpu->shadow = (uint8_t)kind;
        cpu->leave = 1;
    } else if (op->rem == 1 && budget <= 0) {
        cpu->shadow = (uint8_t)kind;      /* nobody could tell before the horizon */
    }
}

/* ---- modes ---------------------------------------------------------------------------------------------------------------------- */
void cc_update_modes(cc_cpu *cpu)
{
    cpu->fpu_ok = !(cpu->cr0 & (CR0_EM | CR0_TS));
    cpu->sse_ok = cpu->fpu_ok && (cpu->cr4 & CR4_OSFXSR);
    cc_mmu_mode_changed(cpu);
}

void cc_set_rflags(cc_cpu *cpu, uint64_t v)
{
    uint64_t old = cpu->rflags;
    cc_set_arith_flags(cpu, (uint32_t)v & FL_ARITH);
    cpu->rflags = (v & (FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_AC | FL_VIF | FL_VIP | FL_ID)) | 2;
    if ((old ^ cpu->rflags) & FL_AC)
        cc_mmu_mode_changed(cpu);
    if (cc_unlikely(cpu->rflags & FL_TF) || ((cpu->rflags & ~old & FL_IF) && cc_interrupt_due(cpu)))
        cpu->leave = 1;
}

static CC_OP(cli)
{
    if (cpu->cpl > (cpu->rflags & FL_IOPL) >> 12)
        return cc_op_gp0(cpu, op, budget);
    cpu->rflags &= ~(uint64_t)FL_IF;
    CC_NEXT();
}
static CC_OP(sti)
{
    if (cpu->cpl > (cpu->rflags & FL_IOPL) >> 12)
        return cc_op_gp0(cpu, op, budget);
    if (!(cpu->rflags & FL_IF)) {
        cpu->rflags |= FL_IF;
        cc_begin_shadow(cpu, op, budget, 1);
    }
    CC_NEXT_STORE();
}
static const cc_op *set_ac(cc_cpu *cpu, const cc_op *op, int64_t budget, bool on)
{
    if (cpu->cpl)
        return cc_op_ud(cpu, op, budget);
    cpu->rflags = (cpu->rflags & ~(uint64_t)FL_AC) | (on ? FL_AC : 0);
    cc_mmu_mode_changed(cpu);
    CC_NEXT();
}
static CC_OP(clac) { return set_ac(cpu, op, budget, false); }
static CC_OP(stac) { return set_ac(cpu, op, budget, true); }

static CC_OP(hlt)
{
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    cpu->halted = 1;
    cpu->m->stats.halts++;
    cc_count_exit(cpu->m);
    return cc_exit(cpu, cc_op_next_pc(cpu, op), budget + op->rem - 1);
}

/* ---- software interrupts: op->imm is the vector ----------------------------------------------------------------------------- */
static CC_OP(int_n)
{
    cc_raise(cpu, (uint8_t)op->imm);
    cpu->fault.soft = op->len;
    return cc_op_fault(cpu, op, budget);
}
/* INT1: a #DB trap, without the DPL check. */
static CC_OP(int1)
{
    cc_raise(cpu, EXC_DB);
    cpu->fault.dr6 = 0;
    cpu->fault_pending = 1;
    return cc_exit(cpu, cc_op_next_pc(cpu, op), budget + op->rem - 1);
}

/* ---- ports ------------------------------------------------------------------------------------------------------------------------ */
bool cc_io_allowed(cc_cpu *cpu, uint16_t port, unsigned size)
{
    uint16_t base, bits;
    if (cpu->cpl <= (cpu->rflags & FL_IOPL) >> 12)
        return true;
    if ((cpu->tr.attr & ATTR_UNUSABLE) || cpu->tr.limit < 0x67)
        goto refuse;
    if (!cc_sys_read(cpu, cpu->tr.base + 0x66, &base, 2))
        return false;
    if ((uint32_t)base + port / 8 + 1 > cpu->tr.limit)
        goto refuse;
    if (!cc_sys_read(cpu, cpu->tr.base + base + port / 8, &bits, 2))
        return false;
    if ((bits >> (port & 7) & ((1u << size) - 1)) == 0)
        return true;
refuse:
    cc_raise_code(cpu, EXC_GP, 0);
    return false;
}

#define IN(NAME, N, PORT)                                                                                              \
    static CC_OP(NAME##N)                                                                                              \
    {                                                                                                                  \
        uint16_t port = (uint16_t)(PORT);                                                                              \
        if (!cc_io_allowed(cpu, port, N / 8))                                                                          \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->m->instret = cc_op_instret(cpu, op, budget);                                                              \
        cc_set##N(cpu, N == 8 ? 0 : CC_RAX, (cc_u##N)cc_io_read(cpu->m, port, N / 8));                                 \
        if (cpu->m->kick)                                                                                              \
            cpu->leave = 1;                                                                                            \
        cc_io_accessed(cpu, port, N / 8);                                                                              \
        CC_NEXT_STORE();                                                                                               \
    }
#define OUT(NAME, N, PORT)                                                                                             \
    static CC_OP(NAME##N)                                                                                              \
    {                                                                                                                  \
        uint16_t port = (uint16_t)(PORT);                                                                              \
        if (!cc_io_allowed(cpu, port, N / 8))                                                                          \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cpu->m->instret = cc_op_instret(cpu, op, budget);                                                              \
        cc_io_write(cpu->m, port, N / 8, cc_get##N(cpu, N == 8 ? 0 : CC_RAX));                                         \
        if (cpu->m->kick)                                                                                              \
            cpu->leave = 1;                                                                                            \
        cc_io_accessed(cpu, port, N / 8);                                                                              \
        CC_NEXT_STORE();                                                                                               \
    }
IN(in_imm, 8, op->imm) IN(in_imm, 16, op->imm) IN(in_imm, 32, op->imm)
IN(in_dx, 8, cpu->r[CC_RDX]) IN(in_dx, 16, cpu->r[CC_RDX]) IN(in_dx, 32, cpu->r[CC_RDX])
OUT(out_imm, 8, op->imm) OUT(out_imm, 16, op->imm) OUT(out_imm, 32, op->imm)
OUT(out_dx, 8, cpu->r[CC_RDX]) OUT(out_dx, 16, cpu->r[CC_RDX]) OUT(out_dx, 32, cpu->r[CC_RDX])
const cc_opfn cc_in_imm[4] = {in_imm8, in_imm16, in_imm32, 0}, cc_in_dx[4] = {in_dx8, in_dx16, in_dx32, 0};
const cc_opfn cc_out_imm[4] = {out_imm8, out_imm16, out_imm32, 0}, cc_out_dx[4] = {out_dx8, out_dx16, out_dx32, 0};

/* ---- time and identification ---------------------------------------------------------------------------------------------------- */
uint64_t cc_guest_tsc(const cc_cpu *cpu, uint64_t instret)
{
    const cc_machine *m = cpu->m;
    return cc_tsc_of_vns(m, cc_vns_at(m, instret)) + (uint64_t)cpu->tsc_offset;
}
static CC_OP(rdtsc)
{
    if ((cpu->cr4 & CR4_TSD) && cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    uint64_t t = cc_guest_tsc(cpu, cc_op_instret(cpu, op, budget));
    cpu->r[CC_RAX] = (uint32_t)t;
    cpu->r[CC_RDX] = t >> 32;
    CC_NEXT();
}
static CC_OP(cpuid)
{
    uint32_t o[4];
    cc_cpuid(cpu->m->cfg.tsc_khz, (uint32_t)cpu->r[CC_RAX], (uint32_t)cpu->r[CC_RCX], o);
    cpu->r[CC_RAX] = o[0];
    cpu->r[CC_RBX] = o[1];
    cpu->r[CC_RCX] = o[2];
    cpu->r[CC_RDX] = o[3];
    return cc_op_leave(cpu, op, budget);      /* o escaped: a dispatch would be a call */
}

/* ---- control registers ------------------------------------------------------------------------------------------------------------ */
#define CR4_KNOWN                                                                                                      \
    (0x1u | 0x2u | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP |   \
     CR4_FSGSBASE | CR4_SMEP | CR4_SMAP)
#define CR0_KNOWN (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG | 0x60000000u)

static bool write_cr0(cc_cpu *cpu, uint64_t v)
{
    if (v >> 32 || !(v & CR0_PG) || !(v & CR0_PE) || ((v & 0x20000000u) && !(v & 0x40000000u)))      /* NW needs CD */
        return false;
    v = (v & CR0_KNOWN) | CR0_ET;
    uint64_t changed = cpu->cr0 ^ v;
    cpu->cr0 = v;
    if (changed & CR0_WP)
        cc_tlb_flush(cpu);
    cc_update_modes(cpu);
    return true;
}

static CC_OP(mov_from_cr)
{
    uint64_t v;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    switch (op->r) {
    case 0: v = cpu->cr0; break;
    case 2: v = cpu->cr2; break;
    case 3: v = cpu->cr3; break;
    case 4: v = cpu->cr4; break;
    case 8: v = cpu->cr8; break;
    default: return cc_op_ud(cpu, op, budget);
    }
    cpu->r[op->b] = v;
    CC_NEXT();
}

static CC_OP(mov_to_cr)
{
    uint64_t v = cpu->r[op->b], old;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    switch (op->r) {
    case 0:
        if (!write_cr0(cpu, v))
            return cc_op_gp0(cpu, op, budget);
        break;
    case 2: cpu->cr2 = v; break;
    case 3:
        if (v >> 40)                       /* beyond MAXPHYADDR; bit 63 needs PCID */
            return cc_op_gp0(cpu, op, budget);
        old = cpu->cr3;
        cpu->cr3 = v;
        cc_tlb_switch_root(cpu, old);
        break;
    case 4:
        if ((v & ~(uint64_t)CR4_KNOWN) || !(v & CR4_PAE))
            return cc_op_gp0(cpu, op, budget);
        old = cpu->cr4;
        cpu->cr4 = v;
        if ((old ^ v) & (CR4_SMEP | CR4_SMAP | CR4_PGE | CR4_PSE))
            cc_tlb_flush(cpu);
        cc_update_modes(cpu);
        break;
    case 8:
        if (v > 15)
            return cc_op_gp0(cpu, op, budget);
        cpu->cr8 = v;
        break;
    default: return cc_op_ud(cpu, op, budget);
    }
    cpu->leave = 1;
    CC_NEXT_STORE();
}

static CC_OP(lmsw)
{
    uint16_t v;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (op->imm) {
        if (!cc_ld16(cpu, op, budget, cc_ea(cpu, op), &v))
            return cc_op_fault(cpu, op, budget);
    } else {
        v = (uint16_t)cpu->r[op->b];
    }
    /* PE can be set but not cleared */
    cpu->cr0 = (cpu->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (v & (CR0_MP | CR0_EM | CR0_TS));
    cc_update_modes(cpu);
    CC_NEXT_STORE();
}
static CC_OP(clts)
{
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    cc_update_modes(cpu);
    CC_NEXT();
}
/* Caches and TLB are coherent here: INVD, WBINVD and INVLPG only check privilege. */
static CC_OP(privileged_nop)
{
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    CC_NEXT();
}

/* ---- debug registers --------------------------------------------------------------------------------------------------------------- */
static const cc_op *debug_register(cc_cpu *cpu, const cc_op *op, int64_t budget, bool write)
{
    unsigned n = op->r;
    if (n > 7 || ((n == 4 || n == 5) && (cpu->cr4 & CR4_DE)))
        return cc_op_ud(cpu, op, budget);
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (cpu->dr[7] & DR7_GD) {            /* general detect */
        cc_raise(cpu, EXC_DB);
        cpu->fault.dr6 = DR6_BD;
        return cc_op_fault(cpu, op, budget);
    }
    if (n == 4 || n == 5)
        n += 2;
    if (!write) {
        cpu->r[op->b] = cpu->dr[n];
        CC_NEXT();
    }
    uint64_t v = cpu->r[op->b];
    if (n >= 6 && v >> 32)
        return cc_op_gp0(cpu, op, budget);
    cpu->dr[n] = n == 6 ? (v & DR6_WRITABLE) | DR6_FIXED : n == 7 ? (v & DR7_WRITABLE) | DR7_FIXED : v;
    cc_tlb_flush(cpu);          /* pages with breakpoints take the slow path */
    cpu->leave = 1;
    CC_NEXT_STORE();
}
static CC_OP(mov_from_dr) { return debug_register(cpu, op, budget, false); }
static CC_OP(mov_to_dr) { return debug_register(cpu, op, budget, true); }

/* ---- MSRs ----------------------------------------------------------------------------------------------------------------------------- */
static bool pat_valid(uint64_t v)
{
    for (unsigned i = 0; i < 8; i++) {
        unsigned t = v >> (8 * i) & 0xff;
        if (t > 7 || t == 2 || t == 3)
            return false;
    }
    return true;
}

static bool read_msr(cc_cpu *cpu, uint32_t msr, uint64_t *v, uint64_t instret)
{
    switch (msr) {
    case 0x10: *v = cc_guest_tsc(cpu, instret); return true;
    case 0x8b: *v = 0; return true;                       /* IA32_BIOS_SIGN_ID: no microcode update */
    case 0x174: *v = cpu->sysenter_cs; return true;
    case 0x175: *v = cpu->sysenter_esp; return true;
    case 0x176: *v = cpu->sysenter_eip; return true;
    case 0x1a0: *v = cpu->misc_enable; return true;
    case 0x277: *v = cpu->pat; return true;
    case 0xc0000080: *v = cpu->efer; return true;
    case 0xc0000081: *v = cpu->star; return true;
    case 0xc0000082: *v = cpu->lstar; return true;
    case 0xc0000083: *v = cpu->cstar; return true;
    case 0xc0000084: *v = cpu->sfmask; return true;
    case 0xc0000100: *v = cpu->segbase[1]; return true;
    case 0xc0000101: *v = cpu->segbase[2]; return true;
    case 0xc0000102: *v = cpu->kernel_gs_base; return true;
    case 0xc0000103: *v = cpu->tsc_aux; return true;
    default: return false;
    }
}

static bool write_msr(cc_cpu *cpu, uint32_t msr, uint64_t v, uint64_t instret)
{
    switch (msr) {
    case 0x10: cpu->tsc_offset = (int64_t)(v - (cc_guest_tsc(cpu, instret) - (uint64_t)cpu->tsc_offset)); return true;
    case 0x8b: return true;
    case 0x174: cpu->sysenter_cs = v & 0xffff; return true;
    case 0x175: case 0x176:
        if (!cc_canonical(v))
            return false;
        *(msr == 0x175 ? &cpu->sysenter_esp : &cpu->sysenter_eip) = v;
        return true;
    case 0x1a0: cpu->misc_enable = v; return true;
    case 0x277:
        if (!pat_valid(v))
            return false;
        cpu->pat = v;
        return true;
    case 0xc0000080:
        if ((v & ~(uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)) || !(v & EFER_LME))
            return false;
        if ((cpu->efer ^ v) & EFER_NXE)
            cc_tlb_flush(cpu);
        cpu->efer = v | EFER_LMA;
        cpu->leave = 1;
        return true;
    case 0xc0000081: cpu->star = v; return true;
    case 0xc0000082: case 0xc0000083:
        if (!cc_canonical(v))
            return false;
        *(msr == 0xc0000082 ? &cpu->lstar : &cpu->cstar) = v;
        return true;
    case 0xc0000084: cpu->sfmask = (uint32_t)v; return true;
    case 0xc0000100: case 0xc0000101:
        if (!cc_canonical(v))
            return false;
        cpu->segbase[msr - 0xc0000100 + 1] = v;
        cpu->seg[4 + (msr & 1)].base = v;
        return true;
    case 0xc0000102:
        if (!cc_canonical(v))
            return false;
        cpu->kernel_gs_base = v;
        return true;
    case 0xc0000103:
        if (v >> 32)
            return false;
        cpu->tsc_aux = v;
        return true;
    default: return false;
    }
}

static const cc_op *msr_refused(cc_cpu *cpu, const cc_op *op, int64_t budget, const char *what)
{
    cpu->m->instret = cc_op_instret(cpu, op, budget);
    cc_logf(cpu->m, "%s of MSR 0x%x refused: #GP", what, (uint32_t)cpu->r[CC_RCX]);
    return cc_op_gp0(cpu, op, budget);
}
static CC_OP(rdmsr)
{
    uint64_t v;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (!read_msr(cpu, (uint32_t)cpu->r[CC_RCX], &v, cc_op_instret(cpu, op, budget)))
        return msr_refused(cpu, op, budget, "read");
    cpu->r[CC_RAX] = (uint32_t)v;
    cpu->r[CC_RDX] = v >> 32;
    CC_NEXT();
}
static CC_OP(wrmsr)
{
    uint64_t v = cpu->r[CC_RDX] << 32 | (uint32_t)cpu->r[CC_RAX];
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (!write_msr(cpu, (uint32_t)cpu->r[CC_RCX], v, cc_op_instret(cpu, op, budget)))
        return msr_refused(cpu, op, budget, "write");
    CC_NEXT_STORE();
}

static CC_OP(swapgs)
{
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    uint64_t t = cpu->segbase[2];
    cpu->segbase[2] = cpu->seg[5].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = t;
    CC_NEXT();
}

/* RD/WR FS/GS BASE: op->r = 0..3 (rdfs rdgs wrfs wrgs), op->imm = operand bytes */
static CC_OP(fsgsbase)
{
    unsigned i = (op->r & 1) + 1;
    if (!(cpu->cr4 & CR4_FSGSBASE))
        return cc_op_ud(cpu, op, budget);
    if (op->r < 2) {
        cpu->r[op->b] = op->imm == 8 ? cpu->segbase[i] : (uint32_t)cpu->segbase[i];
        CC_NEXT();
    }
    uint64_t v = op->imm == 8 ? cpu->r[op->b] : (uint32_t)cpu->r[op->b];
    if (!cc_canonical(v))
        return cc_op_gp0(cpu, op, budget);
    cpu->segbase[i] = cpu->seg[3 + i].base = v;
    CC_NEXT();
}

/* ---- LGDT, LIDT, SGDT, SIDT -------------------------------------------------------------------------------------------------------------- */
static const cc_op *load_table(cc_cpu *cpu, const cc_op *op, int64_t budget, cc_dtable *t)
{
    uint8_t m[10];
    uint64_t base;
    if (cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    if (!CC_MEM_READ(cpu, op, budget, cc_ea(cpu, op), m, 10))
        return cc_op_fault(cpu, op, budget);
    memcpy(&base, m + 2, 8);
    if (!cc_canonical(base))
        return cc_op_gp0(cpu, op, budget);
    memcpy(&t->limit, m, 2);
    t->base = base;
    CC_NEXT_STORE();
}
static const cc_op *store_table(cc_cpu *cpu, const cc_op *op, int64_t budget, const cc_dtable *t)
{
    uint8_t m[10];
    if ((cpu->cr4 & CR4_UMIP) && cpu->cpl)
        return cc_op_gp0(cpu, op, budget);
    memcpy(m, &t->limit, 2);
    memcpy(m + 2, &t->base, 8);
    if (!CC_MEM_WRITE(cpu, op, budget, cc_ea(cpu, op), m, 10))
        return cc_op_fault(cpu, op, budget);
    CC_NEXT_STORE();
}
static CC_OP(lgdt) { return load_table(cpu, op, budget, &cpu->gdtr); }
static CC_OP(lidt) { return load_table(cpu, op, budget, &cpu->idtr); }
static CC_OP(sgdt) { return store_table(cpu, op, budget, &cpu->gdtr); }
static CC_OP(sidt) { return store_table(cpu, op, budget, &cpu->idtr); }

/* ---- selection ------------------------------------------------------------------------------------------------------------------------------ */
static cc_opfn group_0f01(const cc_dec *d, cc_op *op)
{
    if (d->mem) {
        switch (d->reg) {
        case 0: return sgdt;
        case 1: return sidt;
        case 2: return lgdt;
        case 3: return lidt;
        case 6: op->imm = 1; return lmsw;
        case 7: return privileged_nop;         /* INVLPG */
        default: return NULL;
        }
    }
    switch (d->modrm) {
    case 0xca: return d->rep || d->opsize ? NULL : clac;
    case 0xcb: return d->rep || d->opsize ? NULL : stac;
    case 0xf8: return swapgs;
    default: break;
    }
    if (d->reg == 6) {
        op->imm = 0;
        return lmsw;
    }
    return NULL;
}

cc_opfn cc_system_select(const cc_dec *d, cc_op *op)
{
    cc_opfn f = cc_segment_select(d, op);
    if (f)
        return f;
    if (d->map == 0) {
        switch (d->opcode) {
        case 0xcc: op->imm = 3; return int_n;
        case 0xcd: op->imm &= 0xff; return int_n;
        case 0xf1: return int1;
        case 0xf4: return hlt;
        case 0xfa: return cli;
        case 0xfb: return sti;
        default: return NULL;
        }
    }
    if (d->map != 1)
        return NULL;
    switch (d->opcode) {
    case 0x01: return group_0f01(d, op);
    case 0x06: return clts;
    case 0x08: case 0x09: return privileged_nop;
    case 0x20: return mov_from_cr;
    case 0x21: return mov_from_dr;
    case 0x22: return mov_to_cr;
    case 0x23: return mov_to_dr;
    case 0x30: return wrmsr;
    case 0x31: return rdtsc;
    case 0x32: return rdmsr;
    case 0x33: return cc_op_gp0;               /* RDPMC: there are no counters */
    case 0xa2: return cpuid;
    case 0xae:
        if (d->rep == 0xf3 && !d->mem && d->reg < 4) {
            op->r = d->reg;
            op->imm = d->opbytes;
            return fsgsbase;
        }
        return NULL;
    default: return NULL;
    }
}
