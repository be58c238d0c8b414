/*
 * kvm/kvm_regs.c: cc_regs to and from KVM's structures.
 *
 * What KVM does not hold (halted, a host's NMI, the TSC's offset, an MSR that a host's KVM lacks) is in struct cc_kvm.
 */
#include "kvm.h"

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

#define ATTR_L 0x2000u
#define ATTR_UNUSABLE 0x10000u

#define CR0_PE 1u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

/* SDM volume 4, table 2-2. */
static const struct { uint32_t index; size_t offset; } msrs[CC_KVM_MSRS] = {
    {0xC0000081, offsetof(cc_regs, star)},           {0xC0000082, offsetof(cc_regs, lstar)},
    {0xC0000083, offsetof(cc_regs, cstar)},          {0xC0000084, offsetof(cc_regs, sfmask)},
    {0xC0000102, offsetof(cc_regs, kernel_gs_base)}, {0x174, offsetof(cc_regs, sysenter_cs)},
    {0x175, offsetof(cc_regs, sysenter_esp)},        {0x176, offsetof(cc_regs, sysenter_eip)},
    {0x277, offsetof(cc_regs, pat)},                 {0xC0000103, offsetof(cc_regs, tsc_aux)},
    {0x1A0, offsetof(cc_regs, misc_enable)},
};

union msr_list {
    struct kvm_msrs list;
    uint8_t room[sizeof(struct kvm_msrs) + CC_KVM_MSRS * sizeof(struct kvm_msr_entry)];
};

/* The XSAVE area's legacy region and header: SDM volume 1, sections 10.5.1 and 13.4.2. */
struct fxsave {
    uint16_t fcw, fsw;
    uint8_t ftw, pad;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    struct { uint64_t mant; uint16_t sexp, pad[3]; } st[8];     /* stack order */
    struct { uint64_t q[2]; } xmm[16];
    uint8_t rest[96];
    uint64_t xstate_bv;
};
_Static_assert(offsetof(struct fxsave, xmm) == 160 && offsetof(struct fxsave, xstate_bv) == 512, "XSAVE area");
#define XSTATE_X87 1u
#define XSTATE_SSE 2u

/* ---- segments ------------------------------------------------------------------------------------------------------ */
static void segment_out(struct kvm_segment *k, const cc_segment *s)
{
    memset(k, 0, sizeof *k);
    k->base = s->base;
    k->limit = s->limit;
    k->selector = s->selector;
    k->type = s->attr & 15;
    k->s = s->attr >> 4 & 1;
    k->dpl = s->attr >> 5 & 3;
    k->present = s->attr >> 7 & 1;
    k->avl = s->attr >> 12 & 1;
    k->l = s->attr >> 13 & 1;
    k->db = s->attr >> 14 & 1;
    k->g = s->attr >> 15 & 1;
    k->unusable = s->attr & ATTR_UNUSABLE ? 1 : 0;
}

static void segment_in(cc_segment *s, const struct kvm_segment *k)
{
    s->base = k->base;
    s->limit = k->limit;
    s->selector = k->selector;
    s->attr = (k->type & 15u) | (k->s & 1u) << 4 | (k->dpl & 3u) << 5 | (k->present & 1u) << 7 | (k->avl & 1u) << 12 |
              (k->l & 1u) << 13 | (k->db & 1u) << 14 | (k->g & 1u) << 15 | (k->unusable ? ATTR_UNUSABLE : 0);
}

static void tables_in(cc_regs *r, const struct kvm_sregs *s)
{
    const struct kvm_segment *seg[6] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs};
    for (unsigned i = 0; i < 6; i++)
        segment_in(&r->seg[i], seg[i]);
    segment_in(&r->ldtr, &s->ldt);
    segment_in(&r->tr, &s->tr);
    r->gdtr.base = s->gdt.base, r->gdtr.limit = s->gdt.limit;
    r->idtr.base = s->idt.base, r->idtr.limit = s->idt.limit;
    r->cr0 = s->cr0, r->cr2 = s->cr2, r->cr3 = s->cr3, r->cr4 = s->cr4, r->cr8 = s->cr8;
    r->efer = s->efer;
}

static void tables_out(struct kvm_sregs *s, const cc_regs *r)
{
    struct kvm_segment *seg[6] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs};
    for (unsigned i = 0; i < 6; i++)
        segment_out(seg[i], &r->seg[i]);
    segment_out(&s->ldt, &r->ldtr);
    segment_out(&s->tr, &r->tr);
    s->gdt.base = r->gdtr.base, s->gdt.limit = r->gdtr.limit;
    s->idt.base = r->idtr.base, s->idt.limit = r->idtr.limit;
    s->cr0 = r->cr0, s->cr2 = r->cr2, s->cr3 = r->cr3, s->cr4 = r->cr4, s->cr8 = r->cr8;
    s->efer = r->efer;
    memset(s->interrupt_bitmap, 0, sizeof s->interrupt_bitmap);
}

/* ---- general registers --------------------------------------------------------------------------------------------- */
static void general_in(cc_regs *r, const struct kvm_regs *k)
{
    const uint64_t gpr[16] = {k->rax, k->rcx, k->rdx, k->rbx, k->rsp, k->rbp, k->rsi, k->rdi,
                              k->r8,  k->r9,  k->r10, k->r11, k->r12, k->r13, k->r14, k->r15};
    memcpy(r->gpr, gpr, sizeof gpr);
    r->rip = k->rip;
    r->rflags = k->rflags;
}

static void general_out(struct kvm_regs *k, const cc_regs *r)
{
    const uint64_t *g = r->gpr;
    k->rax = g[0], k->rcx = g[1], k->rdx = g[2], k->rbx = g[3], k->rsp = g[4], k->rbp = g[5], k->rsi = g[6];
    k->rdi = g[7], k->r8 = g[8], k->r9 = g[9], k->r10 = g[10], k->r11 = g[11], k->r12 = g[12], k->r13 = g[13];
    k->r14 = g[14], k->r15 = g[15];
    k->rip = r->rip;
    k->rflags = r->rflags | 2;
}

/* ---- x87 and SSE ----------------------------------------------------------------------------------------------------- */
/* The full tag of a register that is not empty: SDM volume 1, section 8.1.7. */
static unsigned full_tag(const cc_x87reg *st)
{
    const unsigned exponent = st->sexp & 0x7FFFu;
    if (exponent == 0 && st->mant == 0)
        return 1;
    return exponent == 0 || exponent == 0x7FFF || !(st->mant >> 63) ? 2 : 0;
}

static void fpu_in(cc_regs *r, const struct fxsave *f)
{
    const bool x87 = f->xstate_bv & XSTATE_X87, sse = f->xstate_bv & XSTATE_SSE;
    r->fcw = x87 ? f->fcw : 0x37F;
    r->fsw = x87 ? f->fsw : 0;
    r->fop = x87 ? f->fop & 0x7FF : 0;
    r->fip = x87 ? f->fip : 0;
    r->fdp = x87 ? f->fdp : 0;
    r->mxcsr = f->mxcsr;
    const unsigned top = r->fsw >> 11 & 7;
    for (unsigned i = 0; x87 && i < 8; i++) {
        r->st[(top + i) & 7].mant = f->st[i].mant;
        r->st[(top + i) & 7].sexp = f->st[i].sexp;
    }
    unsigned tags = 0;
    for (unsigned i = 0; i < 8; i++)
        tags |= (x87 && (f->ftw >> i & 1) ? full_tag(&r->st[i]) : 3u) << (2 * i);
    r->ftw = (uint16_t)tags;
    if (sse)
        memcpy(r->xmm, f->xmm, sizeof r->xmm);
}

static void fpu_out(struct fxsave *f, const cc_regs *r)
{
    f->fcw = r->fcw;
    f->fsw = r->fsw;
    f->fop = r->fop & 0x7FF;
    f->fip = r->fip;
    f->fdp = r->fdp;
    f->mxcsr = r->mxcsr;
    const unsigned top = r->fsw >> 11 & 7;
    for (unsigned i = 0; i < 8; i++) {
        f->st[i].mant = r->st[(top + i) & 7].mant;
        f->st[i].sexp = r->st[(top + i) & 7].sexp;
        if ((r->ftw >> (2 * i) & 3) != 3)
            f->ftw |= (uint8_t)(1u << i);
    }
    memcpy(f->xmm, r->xmm, sizeof f->xmm);
    f->xstate_bv = XSTATE_X87 | XSTATE_SSE;
}

/* ---- MSRs ------------------------------------------------------------------------------------------------------------ */
static void list_msrs(const struct cc_kvm *v, union msr_list *l)
{
    memset(l, 0, sizeof *l);
    for (unsigned i = 0; i < CC_KVM_MSRS; i++)
        if (!v->msr_missing[i])
            l->list.entries[l->list.nmsrs++].index = msrs[i].index;
}

static bool get_msrs(struct cc_kvm *v, cc_regs *r)
{
    union msr_list l;
    list_msrs(v, &l);
    if (ioctl(v->fd, KVM_GET_MSRS, &l.list) != (int)l.list.nmsrs)
        return false;
    for (unsigned i = 0, n = 0; i < CC_KVM_MSRS; i++) {
        const uint64_t value = v->msr_missing[i] ? v->msr[i] : l.list.entries[n++].data;
        memcpy((uint8_t *)r + msrs[i].offset, &value, sizeof value);
    }
    return true;
}

static bool set_msrs(struct cc_kvm *v, const cc_regs *r)
{
    union msr_list l;
    list_msrs(v, &l);
    for (unsigned i = 0, n = 0; i < CC_KVM_MSRS; i++) {
        memcpy(&v->msr[i], (const uint8_t *)r + msrs[i].offset, sizeof v->msr[i]);
        if (!v->msr_missing[i])
            l.list.entries[n++].data = v->msr[i];
    }
    return ioctl(v->fd, KVM_SET_MSRS, &l.list) == (int)l.list.nmsrs;
}

/* ---- events ---------------------------------------------------------------------------------------------------------- */
static void events_in(cc_regs *r, const struct cc_kvm *v, const struct kvm_vcpu_events *e)
{
    r->halted = v->halted;
    r->nmi_pending = e->nmi.pending || v->nmi_pending;
    r->nmi_blocked = e->nmi.masked;
    r->shadow = e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? 2
              : e->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? 1 : 0;
}

static void events_out(struct kvm_vcpu_events *e, const cc_regs *r)
{
    e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    e->nmi.masked = r->nmi_blocked;
    e->interrupt.shadow = (r->shadow & 3) == 2 ? KVM_X86_SHADOW_INT_MOV_SS : (r->shadow & 3) == 1 ? KVM_X86_SHADOW_INT_STI : 0;
}

/* ---- all of them ------------------------------------------------------------------------------------------------------- */
/* The name of what KVM refused to give, or NULL. */
static const char *read_all(struct cc_kvm *v, cc_regs *r)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debug;
    struct kvm_vcpu_events events;
    union { struct kvm_xsave raw; struct fxsave f; } x;
    if (ioctl(v->fd, KVM_GET_REGS, &regs) < 0)
        return "general registers";
    if (ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
        return "control registers";
    if (ioctl(v->fd, KVM_GET_XSAVE, &x.raw) < 0)
        return "x87 and SSE registers";
    if (!get_msrs(v, r))
        return "MSRs";
    if (ioctl(v->fd, KVM_GET_DEBUGREGS, &debug) < 0)
        return "debug registers";
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
        return "events";
    general_in(r, &regs);
    tables_in(r, &sregs);
    fpu_in(r, &x.f);
    memcpy(r->dr, debug.db, sizeof debug.db);
    r->dr[6] = debug.dr6;
    r->dr[7] = debug.dr7;
    events_in(r, v, &events);
    r->tsc_offset = v->tsc_offset;
    return NULL;
}

/* The name of what KVM refused to take, or NULL. */
static const char *write_all(struct cc_kvm *v, const cc_regs *r)
{
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debug;
    struct kvm_vcpu_events events;
    union { struct kvm_xsave raw; struct fxsave f; } x;
    memset(&regs, 0, sizeof regs);
    memset(&debug, 0, sizeof debug);
    memset(&events, 0, sizeof events);
    memset(&x, 0, sizeof x);
    if (ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)        /* for the APIC's base */
        return "control registers";
    general_out(&regs, r);
    tables_out(&sregs, r);
    fpu_out(&x.f, r);
    memcpy(debug.db, r->dr, sizeof debug.db);
    debug.dr6 = r->dr[6];
    debug.dr7 = r->dr[7];
    events_out(&events, r);
    if (ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0)
        return "control or segment registers";
    if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
        return "general registers";
    if (ioctl(v->fd, KVM_SET_XSAVE, &x.raw) < 0)
        return "x87 and SSE registers";
    if (!set_msrs(v, r))
        return "MSRs";
    if (ioctl(v->fd, KVM_SET_DEBUGREGS, &debug) < 0)
        return "debug registers";
    if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) < 0)
        return "events";
    v->run->cr8 = r->cr8;                               /* KVM_RUN takes it from there */
    v->halted = r->halted;
    v->nmi_pending = r->nmi_pending;
    v->tsc_offset = r->tsc_offset;
    v->incomplete = true;
    return NULL;
}

void cc_kvm_get_regs(cc_machine *m, cc_regs *r)
{
    struct cc_kvm *v = m->vcpu;
    memset(r, 0, sizeof *r);
    const char *refused = read_all(v, r);
    if (!refused)
        return;
    v->failed = true;
    cc_fail(m, CC_EHOST, "this host's KVM did not give the %s: %s", refused, strerror(errno));
}

int cc_kvm_set_regs(cc_machine *m, const cc_regs *r)
{
    struct cc_kvm *v = m->vcpu;
    if (!(r->cr0 & CR0_PG) || !(r->cr0 & CR0_PE) || !(r->cr4 & CR4_PAE) || !(r->efer & EFER_LMA) ||
        !(r->efer & EFER_LME))
        return cc_fail(m, CC_EINVAL, "registers: a machine runs in long mode only: set CR0.PE and PG, CR4.PAE, "
                       "EFER.LME and LMA");
    if (!(r->seg[1].attr & ATTR_L))
        return cc_fail(m, CC_EINVAL, "registers: CS is not a 64-bit code segment: set its L attribute");
    cc_regs old;
    cc_kvm_get_regs(m, &old);
    const char *refused = write_all(v, r);
    if (!refused)
        return CC_OK;
    const int err = errno;
    write_all(v, &old);
    return cc_fail(m, CC_EINVAL, "registers: this host's KVM refused the %s: %s", refused, strerror(err));
}

int cc_kvm_regs_init(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    for (unsigned i = 0; i < CC_KVM_MSRS; i++) {
        union msr_list one;
        memset(&one, 0, sizeof one);
        one.list.nmsrs = 1;
        one.list.entries[0].index = msrs[i].index;
        v->msr_missing[i] = ioctl(v->fd, KVM_GET_MSRS, &one.list) != 1;
    }
    cc_regs r;
    cc_kvm_get_regs(m, &r);
    return v->failed ? CC_EHOST : CC_OK;
}
