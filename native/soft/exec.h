/*
 * soft/exec.h: blocks, their cache, control transfer between them, and the parts of the soft CPU that the handler
 * files share.
 */
#ifndef CC_SOFT_EXEC_H
#define CC_SOFT_EXEC_H

#include "cpu.h"
#include "flags.h"

#define CC_BLOCK_INSNS_MAX 48

/*
 * A block: consecutive instructions of one page, decoded.  Its key is (physical address, virtual page, privilege), so
 * virtual addresses inside it are constants.  The record after a branch op holds its links.
 *
 * An instruction that continues on the next page has a block of its own, whose first op sees to it that the second page
 * is still the one that it was decoded from (block.c); a second, empty block stands for it in that page's list.
 */
enum { CC_BLOCK_WHOLE, CC_BLOCK_CROSSING, CC_BLOCK_REST };

struct cc_block {
    uint64_t vbase;          /* virtual address of the page */
    uint32_t n;              /* instructions */
    uint32_t phys_page;
    uint16_t off, end;       /* byte range in the page */
    uint8_t user;
    uint8_t valid;
    uint8_t nops;
    uint8_t kind;
    struct cc_block *hash_next, *page_next;
    cc_op ops[];
};

typedef struct cc_link {
    cc_block *taken, *fall;
    uint32_t taken_gen, fall_gen;    /* for targets outside the page: valid while equal to cpu->jgen[half] */
} cc_link;
_Static_assert(sizeof(cc_link) == sizeof(cc_op), "a link record takes one op's place");
_Static_assert(sizeof(cc_op) == 24, "ops are 24 bytes");

/* op->disp of a direct branch is its target's offset from the start of the code page. */
static inline uint64_t cc_op_pc(const cc_cpu *cpu, const cc_op *op) { return cpu->r[CC_R_PAGE] + op->off; }
static inline uint64_t cc_op_next_pc(const cc_cpu *cpu, const cc_op *op) { return cpu->r[CC_R_PAGE] + op->off + op->len; }

static inline uint64_t cc_branch_target(const cc_cpu *cpu, const cc_op *op)
{
    return cpu->r[CC_R_PAGE] + (uint64_t)(int64_t)op->disp + (op->ss & CC_SS_WRAP ? (uint64_t)1 << 32 : 0);
}

static inline unsigned cc_half(uint64_t va) { return (unsigned)(va >> 63); }

/* ---- leaving the block loop ------------------------------------------------------------------------------------------- */
/* All block execution ends here: the state is exact, rip is the next instruction, m->instret counts what retired. */
static inline const cc_op *cc_exit(cc_cpu *cpu, uint64_t rip, int64_t budget)
{
    cpu->rip = rip;
    cpu->m->instret = cpu->limit - (uint64_t)budget;
    return NULL;
}

/* ---- entering a block -------------------------------------------------------------------------------------------------- */
const cc_op *cc_block_short(cc_cpu *cpu, cc_block *b, int64_t budget);

#define CC_ENTER_BLOCK(b)                                                                                              \
    do {                                                                                                               \
        cc_block *b_ = (b);                                                                                            \
        budget -= b_->n;                                                                                               \
        if (cc_unlikely(budget < 0))                                                                                   \
            return cc_block_short(cpu, b_, budget);                                                                    \
        op = b_->ops;                                                                                                  \
        CC_DISPATCH(op);                                                                                               \
    } while (0)

/* Slow transfer: find or decode the block at pc, enter it.  A fetch fault is delivered with RIP = pc. */
const cc_op *cc_goto_slow(cc_cpu *cpu, uint64_t pc, int64_t budget);
/* Resolve a direct branch's link, enter its target. */
const cc_op *cc_link_taken(cc_cpu *cpu, const cc_op *op, int64_t budget);
const cc_op *cc_link_fall(cc_cpu *cpu, const cc_op *op, int64_t budget);

static inline cc_block *cc_jcache_find(const cc_cpu *cpu, uint64_t pc)
{
    const cc_jentry *e = &cpu->jcache[(pc ^ (pc >> 10)) & ((1u << CC_JCACHE_BITS) - 1)];
    return e->key == (pc ^ cpu->jkey[cc_half(pc)]) ? e->block : NULL;
}

/* Computed transfer within the current privilege level: RET, indirect JMP and CALL. */
#define CC_GOTO(pc)                                                                                                    \
    do {                                                                                                               \
        uint64_t pc_ = (pc);                                                                                           \
        cc_block *t_ = cc_jcache_find(cpu, pc_);                                                                       \
        if (cc_unlikely(t_ == NULL))                                                                                   \
            return cc_goto_slow(cpu, pc_, budget);                                                                     \
        cpu->r[CC_R_PAGE] = t_->vbase;                                                                                 \
        CC_ENTER_BLOCK(t_);                                                                                            \
    } while (0)

/* Direct transfers by the link record in op[1].  _IN: the target is in the same page. */
#define CC_TAKE_IN()                                                                                                   \
    do {                                                                                                               \
        cc_block *t_ = ((const cc_link *)(op + 1))->taken;                                                             \
        if (cc_unlikely(t_ == NULL))                                                                                   \
            return cc_link_taken(cpu, op, budget);                                                                     \
        CC_ENTER_BLOCK(t_);                                                                                            \
    } while (0)
#define CC_FALL_IN()                                                                                                   \
    do {                                                                                                               \
        cc_block *t_ = ((const cc_link *)(op + 1))->fall;                                                              \
        if (cc_unlikely(t_ == NULL))                                                                                   \
            return cc_link_fall(cpu, op, budget);                                                                      \
        CC_ENTER_BLOCK(t_);                                                                                            \
    } while (0)
/* op->x of a direct branch: cc_half of its page. */
#define CC_TAKE_OUT()                                                                                                  \
    do {                                                                                                               \
        const cc_link *l_ = (const cc_link *)(op + 1);                                                                 \
        cc_block *t_ = l_->taken;                                                                                      \
        if (cc_unlikely(t_ == NULL || l_->taken_gen != (uint32_t)cpu->jgen[op->x]))                                    \
            return cc_link_taken(cpu, op, budget);                                                                     \
        cpu->r[CC_R_PAGE] = t_->vbase;                                                                                 \
        CC_ENTER_BLOCK(t_);                                                                                            \
    } while (0)
#define CC_FALL_OUT()                                                                                                  \
    do {                                                                                                               \
        const cc_link *l_ = (const cc_link *)(op + 1);                                                                 \
        cc_block *t_ = l_->fall;                                                                                       \
        if (cc_unlikely(t_ == NULL || l_->fall_gen != (uint32_t)cpu->jgen[op->x]))                                     \
            return cc_link_fall(cpu, op, budget);                                                                      \
        cpu->r[CC_R_PAGE] = t_->vbase;                                                                                 \
        CC_ENTER_BLOCK(t_);                                                                                            \
    } while (0)

/* ---- code cache (block.c) ------------------------------------------------------------------------------------------------ */
int cc_code_new(cc_cpu *cpu, uint32_t kib);
void cc_code_free(cc_cpu *cpu);
void cc_code_flush(cc_cpu *cpu);                              /* drop every block */
/* Find or decode.  NULL: a fault was recorded (fetch fault). */
cc_block *cc_block_at(cc_cpu *cpu, uint64_t pc);
/* A one-off block of at most max instructions at pc; overwritten by the next call. */
cc_block *cc_block_scratch(cc_cpu *cpu, uint64_t pc, uint32_t max);
/* Bytes [gpa, gpa+size) of a page with CC_PF_CODE change: drop the blocks decoded from them. */
void cc_code_written(cc_cpu *cpu, uint64_t gpa, uint64_t size);
void cc_jcache_bump(cc_cpu *cpu, unsigned half);
void cc_jcache_add(cc_cpu *cpu, uint64_t pc, cc_block *b);

/* ---- branch edges (edges.c) -------------------------------------------------------------------------------------------- */
/*
 * While edges are recorded, the link of a conditional branch leads to a pad: a block without instructions of its own that
 * counts the edge and goes on to the target's ops.  It repeats the target's n, so entering it deducts the target's
 * instructions.  Without recording there are no pads, and handlers are the same either way.
 */
typedef struct cc_pad_op {
    cc_opfn fn;
    union { uint8_t *counter; uint64_t index; };    /* kernel; user: in cpu->edge_user */
    const cc_op *to;
} cc_pad_op;
_Static_assert(sizeof(cc_pad_op) == sizeof(cc_op), "a pad's only op");

static inline bool cc_edges_on(const cc_cpu *cpu, bool user)
{
    return (cpu->edges & (user ? CC_EDGES_USER : CC_EDGES_KERNEL)) != 0;
}

/* Does this op, which has links, have edges to record? */
static inline bool cc_edge_op(const cc_cpu *cpu, const cc_op *op)
{
    return (op->ss & CC_SS_EDGES) && cc_edges_on(cpu, cpu->cpl == 3);
}
/* The branch op, which has retired, went to pc. */
void cc_edge_count(cc_cpu *cpu, const cc_op *op, uint64_t pc);
void cc_edge_pad_set(cc_cpu *cpu, cc_block *pad, const cc_block *to, const cc_op *op, uint64_t pc);
void cc_edge_pad_count(cc_cpu *cpu, const cc_block *pad);
/* User code is about to run: find out whose it is. */
void cc_edges_enter_user(cc_cpu *cpu);
void cc_edges_free(cc_cpu *cpu);

/* ---- decoder (decode.c) ------------------------------------------------------------------------------------------------ */
/*
 * Decode instructions from code (avail bytes, at page offset off) into b until a terminator, the page's end, `max`
 * instructions or an instruction that does not fit in avail.  Returns false if the first one does not fit (it crosses
 * the page).  b->ops has room for CC_BLOCK_OPS_MAX ops.
 */
#define CC_BLOCK_OPS_MAX (CC_BLOCK_INSNS_MAX + 5)
bool cc_decode_block(cc_cpu *cpu, cc_block *b, const uint8_t *code, unsigned avail, unsigned off, uint32_t max);

/* ---- MMU (mmu.c) --------------------------------------------------------------------------------------------------------- */
int cc_mmu_new(cc_cpu *cpu, uint32_t tlb_bits);
void cc_mmu_free(cc_cpu *cpu);
void cc_tlb_flush(cc_cpu *cpu);                                /* everything, and both halves' jump cache */
void cc_tlb_switch_root(cc_cpu *cpu, uint64_t old_cr3);
void cc_tlb_protect_writes(cc_cpu *cpu);
void cc_tlb_drop_writes_to(cc_cpu *cpu, uint64_t page);       /* physical page: no write tag may refer to it */
void cc_mmu_mode_changed(cc_cpu *cpu);                         /* CPL, AC or CR4.SMAP changed */
void cc_table_page_changed(cc_cpu *cpu);                       /* a page with CC_PF_TABLE was replaced */
/* Host address of the instruction bytes at va, or NULL with the fault recorded. */
const uint8_t *cc_fetch_ptr(cc_cpu *cpu, uint64_t va, uint64_t *gpa);
/* Implicit supervisor accesses to descriptor tables and stacks: privilege 0, SMAP ignores AC. */
bool cc_sys_read(cc_cpu *cpu, uint64_t va, void *dst, unsigned size);
bool cc_sys_write(cc_cpu *cpu, uint64_t va, const void *src, unsigned size);
int cc_soft_translate(cc_machine *m, uint64_t va, uint64_t *gpa);
/* Host pointer for a run of `bytes` bytes at va within its page, for bulk string operations; NULL if it has to go
 * element by element (fault, MMIO, page tables, the code being executed). */
void *cc_bulk_ptr(cc_cpu *cpu, uint64_t va, bool write, uint64_t bytes);

static inline bool cc_canonical(uint64_t va) { return (uint64_t)((int64_t)(va << 16) >> 16) == va; }

/* ---- breakpoints (mmu.c) ------------------------------------------------------------------------------------------------- */
enum { CC_BP_EXECUTE, CC_BP_WRITE, CC_BP_IO, CC_BP_ACCESS, CC_BP_NONE };     /* DR7.R/W; NONE: neither L nor G is set */
static inline unsigned cc_breakpoint_kind(const cc_cpu *cpu, unsigned i)
{
    return cpu->dr[7] >> (2 * i) & 3 ? cpu->dr[7] >> (16 + 4 * i) & 3 : CC_BP_NONE;
}
/* An I/O instruction has accessed [port, port + size). */
void cc_io_accessed(cc_cpu *cpu, uint16_t port, unsigned size);

/* ---- the host's breakpoints and watchpoints (watch.c) ------------------------------------------------------------------- */
/* One access to memory: in one page, or in two. */
typedef struct cc_watch_span { uint64_t gpa[2]; unsigned len[2], n; } cc_watch_span;
/* The following are for when cpu->m->watches is not NULL.  CC_WATCH_READ and WRITE that are watched in a page: */
uint32_t cc_watched_data(const cc_machine *m, uint64_t vpage, uint64_t gpage);
void cc_watch_access(cc_cpu *cpu, const cc_op *op, uint64_t va, const cc_watch_span *s, uint32_t kind);
/* Bits were set in the page-table entry at entry_gpa. */
void cc_watch_walk(cc_cpu *cpu, uint64_t entry_gpa);
/* An instruction (or more) is about to be executed from cpu->rip, RF still being as it was. */
void cc_watches_begin(cc_cpu *cpu);
/* cc_decode_block(), for what is watched: blocks end before it, and begin with an op that looks. */
bool cc_decode_watched(cc_cpu *cpu, cc_block *b, const uint8_t *code, unsigned avail, unsigned off, uint32_t max);
/* If the first instruction of b is watched: put that op at ops[at]. */
void cc_watch_code(cc_cpu *cpu, cc_block *b, unsigned at);
void cc_soft_watches_changed(cc_machine *m, uint32_t old_kinds, uint32_t kinds);

/* ---- exceptions and interrupts (exception.c) ------------------------------------------------------------------------------- */
/* Deliver the recorded fault (with #DF promotion) at cpu->rip; false: triple fault. */
bool cc_deliver_fault(cc_cpu *cpu);
bool cc_deliver_interrupt(cc_cpu *cpu, uint8_t vector, bool external);

/* ---- segments (segment.c) --------------------------------------------------------------------------------------------------- */
#define ATTR_P 0x80u
#define ATTR_S 0x10u
#define ATTR_DPL(a) (((a) >> 5) & 3)
#define ATTR_L 0x2000u
#define ATTR_DB 0x4000u
#define ATTR_G 0x8000u
#define ATTR_UNUSABLE 0x10000u
bool cc_read_descriptor(cc_cpu *cpu, uint16_t sel, uint64_t d[2], bool wide, uint8_t vec_on_limit);
void cc_segment_from_descriptor(cc_segment *s, uint16_t sel, uint64_t lo, uint64_t hi);
/* MOV/POP to ES SS DS FS GS. */
bool cc_load_segment(cc_cpu *cpu, unsigned reg, uint16_t sel);
void cc_set_segment(cc_cpu *cpu, unsigned reg, const cc_segment *s);
void cc_set_cpl(cc_cpu *cpu, unsigned cpl);

/* ---- system state (system.c) -------------------------------------------------------------------------------------------------- */
void cc_update_modes(cc_cpu *cpu);                              /* after CR0/CR4/EFER changes */
void cc_set_rflags(cc_cpu *cpu, uint64_t rflags);               /* all bits; mode changes applied */
/* May this privilege level access [port, port+size)?  Records #GP(0) (or the TSS read's fault) if not. */
bool cc_io_allowed(cc_cpu *cpu, uint16_t port, unsigned size);
uint64_t cc_guest_tsc(const cc_cpu *cpu, uint64_t instret);

#endif
