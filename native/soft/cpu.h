/*
 * soft/cpu.h: the software CPU's own structures: registers, decoded ops, blocks, the software TLB, memory accessors and
 * the conventions that every instruction handler follows.
 *
 * A handler executes one decoded op and tail-calls the next one's.  Three values travel in registers: the CPU, the op
 * and the budget: instructions left until the horizon after the whole current block has been deducted.  A handler ends
 * with exactly one of
 *     CC_NEXT();                     the instruction retired; go to op + 1
 *     CC_NEXT_STORE();               the same after anything that may have written memory
 *     return cc_op_fault(cpu, op, budget);   nothing was committed; cc_raise*() recorded the exception
 *     a control-transfer helper of exec.h.
 * Faults are precise: a handler does everything that can fail before it changes any register or memory.
 *
 * Coherence: the CPU behaves as if it had neither TLB nor code cache.  A store to a page that holds page tables or
 * decoded code takes the slow path, drops what was cached and sets cpu->leave, so that the block is left after the
 * storing instruction.  That is why cache sizes cannot influence the guest: accessed and dirty bits are set exactly
 * as if every access walked the tables.
 */
#ifndef CC_SOFT_CPU_H
#define CC_SOFT_CPU_H

#include "../machine.h"

typedef struct cc_cpu cc_cpu;
typedef struct cc_op cc_op;
typedef struct cc_block cc_block;
typedef const cc_op *(*cc_opfn)(cc_cpu *cpu, const cc_op *op, int64_t budget);

/* Register numbers in ops: 0-15 general registers, then three that only address generation uses: 0, the start of the
 * code page, and 8192 (for a RIP-relative displacement that would overflow when rebased to the page's start). */
enum { CC_RAX, CC_RCX, CC_RDX, CC_RBX, CC_RSP, CC_RBP, CC_RSI, CC_RDI, CC_R_ZERO = 16, CC_R_PAGE = 17, CC_R_8K = 18 };

/*
 * A decoded op, 24 bytes.  For 8-bit operands r and b are byte offsets into cpu->r (AH is 1), see cc_reg8(); otherwise
 * register numbers.  RIP-relative operands have base CC_R_PAGE and a displacement from the start of the code page.
 */
struct cc_op {
    cc_opfn fn;
    uint8_t r;          /* ModRM.reg (with REX.R), or the opcode's register */
    uint8_t b;          /* register form: ModRM.rm (with REX.B); memory form: base register or CC_R_ZERO */
    uint8_t x;          /* memory form: index register or CC_R_ZERO */
    uint8_t ss;         /* memory form: scale (bits 0-1), segment (bits 2-3: 0 none, 1 FS, 2 GS), bit 7: 32-bit address */
    uint8_t len;        /* instruction length */
    uint8_t rem;        /* instructions from this one to the end of the block, this one included */
    uint16_t off;       /* offset of the instruction in its page */
    union {
        struct { int32_t disp, imm; };
        uint64_t imm64;
    };
};

#define CC_SS_SEG(ss) (((ss) >> 2) & 3)
#define CC_SS_A32 0x80u

/* A memory-form access whose default or overriding segment is SS (base RSP or RBP) faults with #SS, not #GP, when
 * non-canonical. */
#define CC_SS_STACK 0x40u
/* Direct branch: the displacement from the page's start wrapped and lacks 2^32. */
#define CC_SS_WRAP 0x20u
/* Conditional branch: where it goes is worth recording (edges.c). */
#define CC_SS_EDGES 0x10u

typedef union cc_xmm {
    uint64_t q[2]; uint32_t d[4]; uint16_t w[8]; uint8_t b[16];
    int64_t sq[2]; int32_t sd[4]; int16_t sw[8]; int8_t sb[16];
} __attribute__((aligned(16))) cc_xmm;

typedef struct cc_st { uint64_t mant; uint16_t sexp; uint16_t pad[3]; } __attribute__((aligned(16))) cc_st;

/* Software TLB entry: page-aligned virtual tags for the three kinds of access, and host minus guest. */
typedef struct cc_tlbe { uint64_t rtag, wtag, xtag; uintptr_t addend; } cc_tlbe;

enum { CC_MMU_USER, CC_MMU_KERNEL, CC_MMU_KERNEL_AC, CC_MMU_COUNT };

/* Lazy flags: CF, PF, AF, ZF, SF, OF as a function of (cc_op, cc_res, cc_src); see flags.h. */
enum {
    CC_FLAGS_EXPLICIT,  /* cc_src holds the six bits at their RFLAGS positions */
    CC_FLAGS_ADD8, CC_FLAGS_ADD16, CC_FLAGS_ADD32, CC_FLAGS_ADD64,      /* res = dst + src */
    CC_FLAGS_SUB8, CC_FLAGS_SUB16, CC_FLAGS_SUB32, CC_FLAGS_SUB64,      /* res = dst - src */
    CC_FLAGS_LOGIC8, CC_FLAGS_LOGIC16, CC_FLAGS_LOGIC32, CC_FLAGS_LOGIC64,
    CC_FLAGS_INC8, CC_FLAGS_INC16, CC_FLAGS_INC32, CC_FLAGS_INC64,      /* cc_src = CF kept */
    CC_FLAGS_DEC8, CC_FLAGS_DEC16, CC_FLAGS_DEC32, CC_FLAGS_DEC64,
};

/* RFLAGS */
#define FL_CF 0x1u
#define FL_PF 0x4u
#define FL_AF 0x10u
#define FL_ZF 0x40u
#define FL_SF 0x80u
#define FL_TF 0x100u
#define FL_IF 0x200u
#define FL_DF 0x400u
#define FL_OF 0x800u
#define FL_IOPL 0x3000u
#define FL_NT 0x4000u
#define FL_RF 0x10000u
#define FL_VM 0x20000u
#define FL_AC 0x40000u
#define FL_VIF 0x80000u
#define FL_VIP 0x100000u
#define FL_ID 0x200000u
#define FL_ARITH (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

/* Exceptions (SDM vol. 3, table 6-1) */
enum { EXC_DE, EXC_DB, EXC_NMI, EXC_BP, EXC_OF, EXC_BR, EXC_UD, EXC_NM, EXC_DF, EXC_TS = 10, EXC_NP, EXC_SS, EXC_GP,
       EXC_PF, EXC_MF = 16, EXC_AC, EXC_MC, EXC_XM };

#define CR0_PE 0x1u
#define CR0_MP 0x2u
#define CR0_EM 0x4u
#define CR0_TS 0x8u
#define CR0_ET 0x10u
#define CR0_NE 0x20u
#define CR0_WP 0x10000u
#define CR0_AM 0x40000u
#define CR0_PG 0x80000000u
#define CR4_TSD 0x4u
#define CR4_DE 0x8u
#define CR4_PSE 0x10u
#define CR4_PAE 0x20u
#define CR4_PGE 0x80u
#define CR4_PCE 0x100u
#define CR4_OSFXSR 0x200u
#define CR4_OSXMMEXCPT 0x400u
#define CR4_UMIP 0x800u
#define CR4_FSGSBASE 0x10000u
#define CR4_SMEP 0x100000u
#define CR4_SMAP 0x200000u
/* Debug registers (SDM vol. 3, 17.2) */
#define DR6_BD 0x2000u
#define DR6_BS 0x4000u
#define DR6_FIXED 0xffff0ff0u
#define DR6_WRITABLE 0xe00fu
#define DR7_GD 0x2000u
#define DR7_FIXED 0x400u
#define DR7_WRITABLE 0xffff23ffu
#define EFER_SCE 0x1u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u
#define EFER_NXE 0x800u

/* x87: tags as FXSAVE's abridged byte would need more than 2 bits, so only empty/non-empty is kept; the full tag
 * word is derived from the registers' contents. */
typedef struct cc_x87 {
    cc_st st[8];            /* physical registers; MMX register i is the significand of physical register i */
    uint16_t fcw;
    uint16_t fsw;           /* without TOP, which is in `top` */
    uint8_t top;
    uint8_t empty;          /* bit i: physical register i is empty */
    uint16_t fop;
    uint64_t fip, fdp;      /* last non-control instruction's address and operand address */
} cc_x87;

typedef struct cc_jentry { uint64_t key; cc_block *block; } cc_jentry;

#define CC_JCACHE_BITS 12

struct cc_cpu {
    uint64_t r[20];         /* general registers, then CC_R_ZERO, CC_R_PAGE and CC_R_8K */
    uint64_t cc_res, cc_src;/* lazy flags */
    uint32_t cc_op;
    uint32_t leave;         /* nonzero: leave the block at the next boundary (set by slow-path stores and others) */
    uint64_t limit;         /* m->instret at which the budget reaches 0 */
    cc_tlbe *tlb;           /* entries of the current mode */
    uint64_t tlb_mask;      /* (entries - 1) << 5 */
    uint64_t segbase[4];    /* by CC_SS_SEG: 0, FS base, GS base, unused */
    uint64_t jkey[2];       /* by address half: generation and privilege bits mixed into jump-cache keys */
    uint64_t jgen[2];       /* by address half: changes whenever some virtual code address may map elsewhere */
    uint8_t cpl;
    uint8_t mmu_mode;       /* CC_MMU_* that data accesses use */
    uint8_t sse_ok;         /* CR0.EM = 0, CR0.TS = 0, CR4.OSFXSR = 1 */
    uint8_t fpu_ok;         /* CR0.EM = 0, CR0.TS = 0 */
    uint8_t mxcsr_unmasked; /* some SIMD FP exception is unmasked in MXCSR */
    uint8_t halted, shadow, nmi_blocked, nmi_pending;
    uint32_t mxcsr;         /* the sticky flags are in the host's MXCSR while the CPU runs: see cc_mxcsr_sync() */
    uint32_t host_mxcsr;    /* what cc_mxcsr_leave() gives back to the caller */
    uint8_t mxcsr_live;     /* between enter and leave: the host's MXCSR is the guest's */
    uint64_t rip;           /* valid outside blocks only */
    uint64_t rflags;        /* without the six arithmetic flags */
    cc_machine *m;

    cc_xmm xmm[16];
    cc_x87 fpu;

    cc_segment seg[6];      /* ES CS SS DS FS GS; FS and GS bases are also in segbase[] and kept equal */
    cc_segment ldtr, tr;
    cc_dtable gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, dr[8];
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat, tsc_aux, misc_enable;
    int64_t tsc_offset;

    /* the exception recorded by cc_raise*() */
    struct { uint8_t vector; uint8_t has_code; uint8_t soft; uint32_t code; uint64_t cr2; uint64_t dr6; } fault;

    struct cc_codecache *code;       /* block.c */
    cc_tlbe *tlbs[CC_MMU_COUNT];
    uint8_t tlb_used[CC_MMU_COUNT];
    uint32_t tlb_bits;
    struct cc_tables *tables;        /* mmu.c: which pages hold page tables that were walked */
    cc_jentry *jcache;
    uint8_t fault_pending;           /* a fault was recorded by a block that then exited */
    uint8_t edges;                   /* CC_EDGES_*: what is recorded (edges.c) */
    uint8_t *edge_user;              /* the counters of the program that runs; valid while user edges are recorded */
    struct cc_edges *edge_maps;      /* edges.c; NULL until something is recorded */
    uint64_t trap_db;                /* pending single-step / data breakpoint bits for DR6, delivered at the boundary */
    uint8_t tf_checked;              /* SYSCALL and SYSRET: the single-step trap was decided by the new TF */
    int64_t tramp_budget;            /* CC_TRAMPOLINE builds: the budget between two handlers */
    cc_op stack_op;                  /* PUSH and POP of memory: the op as its stack access sees it */
    uint8_t bounce[512];             /* a slow access's data on its way: see cc_mem_read_bounced() */
};

/* ---- operands --------------------------------------------------------------------------------------------------- */
static inline uint64_t cc_ea(const cc_cpu *cpu, const cc_op *op)
{
    uint64_t a = cpu->r[op->b] + (cpu->r[op->x] << (op->ss & 3)) + (uint64_t)(int64_t)op->disp;
    if (cc_unlikely(op->ss & CC_SS_A32))
        a = (uint32_t)a;
    return a + cpu->segbase[CC_SS_SEG(op->ss)];
}

static inline uint8_t *cc_reg8(cc_cpu *cpu, uint8_t byte_offset) { return (uint8_t *)cpu->r + byte_offset; }

/* Instructions retired before op (op itself not counted). */
static inline uint64_t cc_op_instret(const cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    return cpu->limit - (uint64_t)budget - op->rem;
}

/* ---- exceptions ------------------------------------------------------------------------------------------------- */
static inline void cc_raise(cc_cpu *cpu, uint8_t vector)
{
    cpu->fault.vector = vector;
    cpu->fault.has_code = 0;
    cpu->fault.soft = 0;
    cpu->fault.code = 0;
}
static inline void cc_raise_code(cc_cpu *cpu, uint8_t vector, uint32_t code)
{
    cpu->fault.vector = vector;
    cpu->fault.has_code = 1;
    cpu->fault.soft = 0;
    cpu->fault.code = code;
}
const cc_op *cc_op_fault(cc_cpu *cpu, const cc_op *op, int64_t budget);
/* #UD / #NM for a vector or x87 instruction that CR0 and CR4 forbid now. */
const cc_op *cc_op_ud(cc_cpu *cpu, const cc_op *op, int64_t budget);
const cc_op *cc_op_gp0(cc_cpu *cpu, const cc_op *op, int64_t budget);
const cc_op *cc_op_sse_unavailable(cc_cpu *cpu, const cc_op *op, int64_t budget);
const cc_op *cc_op_fpu_unavailable(cc_cpu *cpu, const cc_op *op, int64_t budget);
/* The instruction retired and the block must be left (cpu->leave). */
const cc_op *cc_op_leave(cc_cpu *cpu, const cc_op *op, int64_t budget);

/* ---- dispatch ---------------------------------------------------------------------------------------------------- */
/* CC_TRAMPOLINE: return to a loop instead of tail-calling (sanitizer and -O0 builds would exhaust the stack). */
#if defined(CC_TRAMPOLINE)
#define CC_DISPATCH(o) return ((void)(cpu->tramp_budget = budget), (o))
#elif defined(__clang__) && __has_attribute(musttail)
#define CC_DISPATCH(o) __attribute__((musttail)) return (o)->fn(cpu, (o), budget)
#else
#define CC_DISPATCH(o) return (o)->fn(cpu, (o), budget)
#endif
#define CC_NEXT() do { op++; CC_DISPATCH(op); } while (0)
#define CC_NEXT_STORE() do { if (cc_unlikely(cpu->leave)) return cc_op_leave(cpu, op, budget); CC_NEXT(); } while (0)
#define CC_OP(name) const cc_op *name(cc_cpu *cpu, const cc_op *op, int64_t budget)

/* ---- memory -------------------------------------------------------------------------------------------------------- */
/*
 * Slow paths (mmu.c).  They translate, set A and D bits, handle page-crossing, MMIO, code and table pages.  On false
 * the exception has been recorded, nothing was written, and the handler returns cc_op_fault().  Sizes 1..512.
 */
bool cc_mem_read_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, void *dst, unsigned size);
bool cc_mem_write_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, const void *src, unsigned size);
#define CC_ALWAYS_INLINE inline __attribute__((always_inline))   /* also in cold functions, which are built for size */
/*
 * The same for a handler's own variables.  A local whose address has escaped may be used by whatever is called later,
 * so the compiler makes the next dispatch a call and not a jump, and a guest could exhaust the stack: slow paths see
 * cpu->bounce instead.  tests/engine/test_tail_calls.py looks for such calls in the object code.
 */
static CC_ALWAYS_INLINE bool cc_mem_read_bounced(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, void *dst,
                                                 unsigned size)
{
    if (!cc_mem_read_slow(cpu, op, budget, va, cpu->bounce, size))
        return false;
    memcpy(dst, cpu->bounce, size);
    return true;
}
static CC_ALWAYS_INLINE bool cc_mem_write_bounced(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va,
                                                  const void *src, unsigned size)
{
    memcpy(cpu->bounce, src, size);
    return cc_mem_write_slow(cpu, op, budget, va, cpu->bounce, size);
}
/* Check that [va, va+size) may be written, as a write would, without writing. */
bool cc_mem_probe_write(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, unsigned size);

static inline const cc_tlbe *cc_tlb_entry(const cc_cpu *cpu, uint64_t va)
{
    return (const cc_tlbe *)((const char *)cpu->tlb + ((va >> 7) & cpu->tlb_mask));
}
/* Does the access lie in one page that entry e maps?  (va's page chose the entry; its last byte's page is compared.) */
#define CC_TLB_HIT(e, tag, va, size) cc_likely((e)->tag == (((va) + (size) - 1) & ~(uint64_t)0xfff))

static inline void *cc_tlb_read(const cc_cpu *cpu, uint64_t va, unsigned size)
{
    const cc_tlbe *e = cc_tlb_entry(cpu, va);
    return CC_TLB_HIT(e, rtag, va, size) ? (void *)(va + e->addend) : NULL;
}
static inline void *cc_tlb_write(const cc_cpu *cpu, uint64_t va, unsigned size)
{
    const cc_tlbe *e = cc_tlb_entry(cpu, va);
    return CC_TLB_HIT(e, wtag, va, size) ? (void *)(va + e->addend) : NULL;
}

#define CC_MEM_READ(cpu, op, budget, va, dst, size)                                                                    \
    ({                                                                                                                 \
        const cc_tlbe *e_ = cc_tlb_entry(cpu, va);                                                                     \
        CC_TLB_HIT(e_, rtag, va, size) ? (memcpy(dst, (const void *)((va) + e_->addend), size), true)                  \
                              : cc_mem_read_bounced(cpu, op, budget, va, dst, size);                                   \
    })
#define CC_MEM_WRITE(cpu, op, budget, va, src, size)                                                                   \
    ({                                                                                                                 \
        const cc_tlbe *e_ = cc_tlb_entry(cpu, va);                                                                     \
        CC_TLB_HIT(e_, wtag, va, size) ? (memcpy((void *)((va) + e_->addend), src, size), true)                        \
                              : cc_mem_write_bounced(cpu, op, budget, va, src, size);                                  \
    })
#define CC_LDST(bits)                                                                                                  \
    static CC_ALWAYS_INLINE bool cc_ld##bits(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va,               \
                                             uint##bits##_t *v)                                                        \
    { return CC_MEM_READ(cpu, op, budget, va, v, bits / 8); }                                                          \
    static CC_ALWAYS_INLINE bool cc_st##bits(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va,               \
                                             uint##bits##_t v)                                                         \
    { return CC_MEM_WRITE(cpu, op, budget, va, &v, bits / 8); }
CC_LDST(8)
CC_LDST(16)
CC_LDST(32)
CC_LDST(64)
static CC_ALWAYS_INLINE bool cc_ld128(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, cc_xmm *v)
{ return CC_MEM_READ(cpu, op, budget, va, v, 16); }
static CC_ALWAYS_INLINE bool cc_st128(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, const cc_xmm *v)
{ return CC_MEM_WRITE(cpu, op, budget, va, v, 16); }

/* ---- flags for handlers that define them outright (COMISS, PTEST, FCOMI, ...) -------------------------------------- */
static inline void cc_set_arith_flags(cc_cpu *cpu, uint32_t flags)   /* FL_* bits within FL_ARITH */
{
    cpu->cc_op = CC_FLAGS_EXPLICIT;
    cpu->cc_src = flags;
}
uint32_t cc_arith_flags(const cc_cpu *cpu);      /* the six flags, materialised */

/* ---- MXCSR ------------------------------------------------------------------------------------------------------------ */
/* While blocks execute, the host's MXCSR holds the guest's rounding, FTZ, DAZ and sticky flags with all exceptions
 * masked; so C code that runs inside must not use float or double.  enter: load it; leave: sync, and give the host's
 * own back; sync: fold the sticky flags into cpu->mxcsr (no-op outside); set: LDMXCSR, FXRSTOR, or from outside. */
void cc_mxcsr_enter(cc_cpu *cpu);
void cc_mxcsr_leave(cc_cpu *cpu);
void cc_mxcsr_sync(cc_cpu *cpu);
void cc_mxcsr_set(cc_cpu *cpu, uint32_t value);  /* also updates mxcsr_unmasked; value has no reserved bits */

/* ---- decoding --------------------------------------------------------------------------------------------------------- */
/* What the decoder knows of an instruction when it chooses the handler; op's operand fields are filled in already. */
typedef struct cc_dec {
    uint8_t map;            /* 0: one-byte, 1: 0F, 2: 0F 38, 3: 0F 3A */
    uint8_t opcode;
    uint8_t modrm;          /* 0 where the opcode has none */
    uint8_t reg, rm;        /* ModRM fields without REX */
    uint8_t rex;            /* 0 if none */
    bool rexw, opsize, a32, lock, mem;
    uint8_t rep;            /* 0, 0xF2 or 0xF3: the last one */
    uint8_t seg;            /* CC_SS_SEG encoding */
    uint8_t opbytes;        /* 2, 4 or 8: the operand size that REX.W and 66 select */
} cc_dec;

/* Handler for an MMX/SSE opcode of maps 1 to 3, or NULL (#UD).  op->r/b hold register numbers 0-15 (xmm); MMX
 * handlers mask with 7.  imm8, where the opcode has one, is op->imm & 0xff.  (sse*.c, mmx.c) */
cc_opfn cc_sse_select(const cc_dec *d, cc_op *op);
/* Handler for opcodes D8..DF, or NULL (#UD); FXSAVE/FXRSTOR, FWAIT too.  May rewrite op->r/b/imm. (x87.c) */
cc_opfn cc_x87_select(const cc_dec *d, cc_op *op);

/* x87.c */
void cc_x87_reset(cc_cpu *cpu);                       /* FNINIT */
uint16_t cc_x87_full_tags(const cc_x87 *f);
/* FCW, FSW and TOP as a load from memory sets them: FCW's fixed bits forced, ES and B derived from flags and masks. */
void cc_x87_set_words(cc_x87 *f, uint16_t fcw, uint16_t fsw);
/* MMX: check CR0, pending x87 exceptions; then TOP = 0 and all tags valid.  false: the exception was recorded. */
bool cc_mmx_enter(cc_cpu *cpu);

#endif
