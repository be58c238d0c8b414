/*
 * x87_soft.h: as much of the soft CPU as the x87 handlers see: a cc_cpu with two pages of memory, stand-ins for the
 * functions of other units (weak, so that the real ones win where they are linked), and its FPU as an FNSAVE image.
 * For test_x87*.c only.
 */
#ifndef CC_X87_SOFT_H
#define CC_X87_SOFT_H

#include "../soft/cpu.h"
#include "x87_native.h"

#define CHECK(x)                                                                                                       \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x);                                          \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static unsigned failures;

enum { PAGE = 4096, SCRATCH = 2 * PAGE, TLB_ENTRIES = 16 };

#define STAND_IN __attribute__((weak))

static uint8_t *scratch;        /* two pages; a third one is inaccessible */

static inline void scratch_init(void)
{
    scratch = mmap(NULL, SCRATCH + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(scratch != MAP_FAILED && !mprotect(scratch + SCRATCH, PAGE, PROT_NONE));
}

static inline bool accessible(uint64_t va, unsigned size)
{
    return va >= (uintptr_t)scratch && va + size <= (uintptr_t)scratch + SCRATCH;
}

STAND_IN CC_OP(cc_op_fault) { (void)cpu; (void)op; (void)budget; return NULL; }
STAND_IN CC_OP(cc_op_leave) { (void)cpu; (void)op; (void)budget; return NULL; }
STAND_IN CC_OP(cc_op_fpu_unavailable) { cc_raise(cpu, EXC_NM); return cc_op_fault(cpu, op, budget); }

STAND_IN bool cc_mem_read_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, void *dst, unsigned size)
{
    (void)op; (void)budget;
    if (!accessible(va, size)) {
        cc_raise_code(cpu, EXC_PF, 0);
        return false;
    }
    memcpy(dst, (void *)(uintptr_t)va, size);
    return true;
}

STAND_IN bool cc_mem_probe_write(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, unsigned size)
{
    (void)op; (void)budget;
    if (!accessible(va, size))
        cc_raise_code(cpu, EXC_PF, 2);
    return accessible(va, size);
}

STAND_IN bool cc_mem_write_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, const void *src,
                                unsigned size)
{
    if (!cc_mem_probe_write(cpu, op, budget, va, size))
        return false;
    memcpy((void *)(uintptr_t)va, src, size);
    return true;
}

STAND_IN uint32_t cc_arith_flags(const cc_cpu *cpu) { return (uint32_t)cpu->cc_src; }
STAND_IN void cc_mxcsr_sync(cc_cpu *cpu) { (void)cpu; }
STAND_IN void cc_mxcsr_set(cc_cpu *cpu, uint32_t value) { cpu->mxcsr = value; }

enum { NOT_RETIRED = 0xfe, NO_FAULT = 0xff };

static CC_OP(retired)
{
    (void)op; (void)budget;
    cpu->fault.vector = NO_FAULT;
    return NULL;
}

/* One page of the scratch buffer is in the TLB; the other one takes the slow path. */
static inline cc_cpu *new_cpu(void)
{
    cc_cpu *cpu = aligned_alloc(64, (sizeof *cpu + 63) / 64 * 64);
    CHECK(cpu);
    memset(cpu, 0, sizeof *cpu);
    cpu->tlb = calloc(TLB_ENTRIES, sizeof *cpu->tlb);
    CHECK(cpu->tlb);
    cpu->tlb_mask = (uint64_t)(TLB_ENTRIES - 1) << 5;
    for (unsigned i = 0; i < TLB_ENTRIES; i++)
        cpu->tlb[i] = (cc_tlbe){1, 1, 1, 0};
    cc_tlbe *e = (cc_tlbe *)((char *)cpu->tlb + ((uintptr_t)scratch >> 7 & cpu->tlb_mask));
    e->rtag = e->wtag = (uintptr_t)scratch;
    cpu->fpu_ok = cpu->sse_ok = 1;
    cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_MP | CR0_ET;
    cpu->mxcsr = 0x1f80;
    cpu->cc_op = CC_FLAGS_EXPLICIT;
    return cpu;
}

/* Returns the vector, or NO_FAULT. */
static inline unsigned run_op(cc_cpu *cpu, const cc_op *first)
{
    cc_op ops[2] = {*first, {.fn = retired}};
    cpu->fault.vector = NOT_RETIRED;
    for (const cc_op *op = ops; op; )
        op = op->fn(cpu, op, cpu->tramp_budget);
    return cpu->fault.vector;
}

/* ---- the FPU's state as an image --------------------------------------------------------------------------------- */
static inline void cpu_load(cc_cpu *cpu, const fpu_image *m)
{
    cc_x87 *f = &cpu->fpu;
    memset(f, 0, sizeof *f);
    f->fcw = (uint16_t)((m->fcw & 0x1f3f) | 0x40);
    f->fsw = m->fsw & 0x477f;
    if (f->fsw & ~f->fcw & 0x3f)
        f->fsw |= 0x8080;
    f->top = m->fsw >> 11 & 7;
    for (unsigned i = 0; i < 8; i++) {
        f->empty |= (uint8_t)((m->ftw >> 2 * i & 3) == 3) << i;
        f->st[(f->top + i) & 7].mant = m->st[i].mant;
        f->st[(f->top + i) & 7].sexp = m->st[i].sexp;
    }
    f->fip = m->fip;
    f->fop = m->fop & 0x7ff;
    f->fdp = m->fdp;
}

static inline void cpu_store(const cc_cpu *cpu, fpu_image *m)
{
    const cc_x87 *f = &cpu->fpu;
    memset(m, 0, sizeof *m);
    m->fcw = f->fcw;
    m->fsw = (uint16_t)(f->fsw | f->top << 11);
    m->ftw = cc_x87_full_tags(f);
    m->fip = (uint32_t)f->fip;
    m->fop = f->fop;
    m->fdp = (uint32_t)f->fdp;
    for (unsigned i = 0; i < 8; i++) {
        m->st[i].mant = f->st[(f->top + i) & 7].mant;
        m->st[i].sexp = f->st[(f->top + i) & 7].sexp;
        CHECK(!(f->st[i].pad[0] | f->st[i].pad[1] | f->st[i].pad[2]));
    }
}

#endif
