/*
 * soft/block.c: the code cache.  Blocks live in one arena that is dropped whole when full; a block whose bytes change
 * is unlinked and its first op replaced, so that stale links and jump-cache entries that still lead to it fall back to
 * a look-up.
 */
#include "exec.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HASH_BITS 15
#define HUGE_PAGE ((size_t)2 << 20)

struct cc_codecache {
    uint8_t *arena;
    size_t size, used;
    uint64_t epoch;              /* changes whenever memory of ops may have been reused */
    cc_block **hash;
    cc_block **pages;            /* by physical page: its blocks */
    uint32_t *page_list, npages; /* pages with CC_PF_CODE */
    cc_block *scratch;
};

#define BLOCK_BYTES_MAX (sizeof(cc_block) + CC_BLOCK_OPS_MAX * sizeof(cc_op))
#define PAD_BYTES ((sizeof(cc_block) + sizeof(cc_pad_op) + 63) & ~(size_t)63)

static unsigned block_hash(uint64_t gpa, uint64_t vbase, unsigned user)
{
    uint64_t h = (gpa ^ vbase << 3 ^ (uint64_t)user << 40) * 0x9e3779b97f4a7c15ull;
    return (unsigned)(h >> (64 - HASH_BITS));
}

void cc_jcache_bump(cc_cpu *cpu, unsigned half)
{
    cpu->jgen[half]++;
    if ((cpu->jgen[half] & 0x3fff) == 0) {
        memset(cpu->jcache, 0, sizeof(cc_jentry) << CC_JCACHE_BITS);
        cpu->jgen[half]++;
    }
    /* Bits 47 and up of a canonical address are equal, so 16 of them can carry generation and privilege. */
    cpu->jkey[half] = (cpu->jgen[half] & 0x3fff) << 48 | (uint64_t)(cpu->cpl == 3) << 62;
}

void cc_jcache_add(cc_cpu *cpu, uint64_t pc, cc_block *b)
{
    cc_jentry *e = &cpu->jcache[(pc ^ (pc >> 10)) & ((1u << CC_JCACHE_BITS) - 1)];
    e->key = pc ^ cpu->jkey[cc_half(pc)];
    e->block = b;
}

/* What the first op of a dropped block does. */
static CC_OP(block_gone)
{
    const cc_block *b = (const cc_block *)((const char *)op - offsetof(cc_block, ops));
    return cc_goto_slow(cpu, b->vbase + b->off, budget + b->n);
}

static void drop(cc_block *b)
{
    b->valid = 0;
    b->ops[0].fn = block_gone;
}

static void unlink_hash(struct cc_codecache *c, cc_block *b)
{
    cc_block **h = &c->hash[block_hash(((uint64_t)b->phys_page << CC_PAGE_SHIFT) + b->off, b->vbase, b->user)];
    while (*h != b)
        h = &(*h)->hash_next;
    *h = b->hash_next;
}

/* ---- instructions that cross a page ------------------------------------------------------------------------------ */
/*
 * The first op of such a block: disp is cpu->jgen of its half when the second page's translation was last looked up,
 * imm the physical page found.  The block that stands for it in that page's list (kind CC_BLOCK_REST) is in no hash
 * chain: its hash_next is the block itself.
 */
static void drop_crossing(struct cc_codecache *c, cc_block *b)
{
    cc_block **p = &c->pages[b->phys_page];
    unlink_hash(c, b);
    while (*p != b)
        p = &(*p)->page_next;
    *p = b->page_next;
    p = &c->pages[(uint32_t)b->ops[0].imm];
    while ((*p)->kind != CC_BLOCK_REST || (*p)->hash_next != b)
        p = &(*p)->page_next;
    *p = (*p)->page_next;
    drop(b);
}

enum crossing { CROSSING_SAME, CROSSING_MOVED, CROSSING_FAULT };

/* Some translation has changed since the last look. */
static enum crossing look_again(cc_cpu *cpu, cc_block *b)
{
    uint64_t gpa2;
    if (!cc_fetch_ptr(cpu, b->vbase + CC_PAGE_SIZE, &gpa2))
        return CROSSING_FAULT;
    if (gpa2 >> CC_PAGE_SHIFT != (uint32_t)b->ops[0].imm) {
        drop_crossing(cpu->code, b);
        return CROSSING_MOVED;
    }
    b->ops[0].disp = (int32_t)(uint32_t)cpu->jgen[b->ops[0].x];
    return CROSSING_SAME;
}

static const cc_op *fetch_fault(cc_cpu *cpu, uint64_t pc, int64_t budget)
{
    cpu->fault_pending = 1;
    return cc_exit(cpu, pc, budget - 1);      /* the attempt counts as one instruction */
}

static __attribute__((noinline, cold)) CC_OP(crossing_slow)
{
    cc_block *b = (cc_block *)((uintptr_t)op - offsetof(cc_block, ops));
    uint64_t pc = b->vbase + b->off;
    enum crossing found = look_again(cpu, b);
    if (found == CROSSING_FAULT)
        return fetch_fault(cpu, pc, budget + b->n);
    if (found == CROSSING_MOVED)
        return cc_goto_slow(cpu, pc, budget + b->n);
    CC_NEXT();
}
static CC_OP(crossing)
{
    if (cc_unlikely((uint32_t)op->disp != (uint32_t)cpu->jgen[op->x]))
        return crossing_slow(cpu, op, budget);
    CC_NEXT();
}

void cc_code_flush(cc_cpu *cpu)
{
    struct cc_codecache *c = cpu->code;
    memset(c->hash, 0, sizeof(cc_block *) << HASH_BITS);
    for (uint32_t i = 0; i < c->npages; i++) {
        c->pages[c->page_list[i]] = NULL;
        cpu->m->page_flags[c->page_list[i]] &= (uint8_t)~CC_PF_CODE;
    }
    c->npages = 0;
    c->used = 0;
    c->epoch++;
    memset(cpu->jcache, 0, sizeof(cc_jentry) << CC_JCACHE_BITS);
    cc_jcache_bump(cpu, 0);
    cc_jcache_bump(cpu, 1);
    cpu->m->stats.code_flushes++;
}

void cc_code_written(cc_cpu *cpu, uint64_t gpa, uint64_t size)
{
    struct cc_codecache *c = cpu->code;
    uint64_t page = gpa >> CC_PAGE_SHIFT;
    unsigned lo = gpa & 0xfff, hi = lo + (unsigned)size;
    for (cc_block **p = &c->pages[page], *b; (b = *p) != NULL;) {
        if (b->end <= lo || b->off >= hi) {
            p = &b->page_next;
            continue;
        }
        if (b->kind == CC_BLOCK_WHOLE) {
            *p = b->page_next;
            unlink_hash(c, b);
            drop(b);
        } else {
            drop_crossing(c, b->kind == CC_BLOCK_REST ? b->hash_next : b);
            p = &c->pages[page];      /* both halves may have been in this list */
        }
        cpu->leave = 1;
        cpu->m->stats.smc_hits++;
    }
    if (!c->pages[page]) {
        cpu->m->page_flags[page] &= (uint8_t)~CC_PF_CODE;
        for (uint32_t i = 0; i < c->npages; i++)
            if (c->page_list[i] == page) {
                c->page_list[i] = c->page_list[--c->npages];
                break;
            }
    }
}

static void watch_page(cc_cpu *cpu, uint64_t page)
{
    struct cc_codecache *c = cpu->code;
    if (cpu->m->page_flags[page] & CC_PF_CODE)
        return;
    cpu->m->page_flags[page] |= CC_PF_CODE;
    c->page_list[c->npages++] = (uint32_t)page;
    cc_tlb_drop_writes_to(cpu, page);
}

/* ---- finding and making blocks ------------------------------------------------------------------------------------------ */
/* An instruction that continues on the next page: gather its bytes; false with the fault recorded. */
static bool decode_across(cc_cpu *cpu, cc_block *b, uint64_t pc, const uint8_t *code, uint64_t *gpa2)
{
    uint8_t bytes[32] = {0};
    unsigned first = 4096 - (pc & 0xfff);
    memcpy(bytes, code, first);
    const uint8_t *rest = cc_fetch_ptr(cpu, (pc & ~0xfffull) + 4096, gpa2);
    if (!rest)
        return false;
    memcpy(bytes + first, rest, 15);
    cc_decode_block(cpu, b, bytes, 15, pc & 0xfff, 1);
    return true;
}

cc_block *cc_block_scratch(cc_cpu *cpu, uint64_t pc, uint32_t max)
{
    struct cc_codecache *c = cpu->code;
    cc_block *b = c->scratch;
    uint64_t gpa, gpa2;
    const uint8_t *code = cc_fetch_ptr(cpu, pc, &gpa);
    if (!code)
        return NULL;
    c->epoch++;
    b->vbase = pc & ~0xfffull;
    b->user = cpu->cpl == 3;
    b->phys_page = (uint32_t)(gpa >> CC_PAGE_SHIFT);
    if (!cc_decode_watched(cpu, b, code, 4096 - (pc & 0xfff), pc & 0xfff, max)) {
        if (!decode_across(cpu, b, pc, code, &gpa2))
            return NULL;
        cc_watch_code(cpu, b, 0);
    }
    b->valid = 1;
    return b;
}

static void reserve(struct cc_codecache *c, const cc_block *b)
{
    c->used += (sizeof *b + b->nops * sizeof(cc_op) + 63) & ~(size_t)63;
}

static void add_to_page(cc_cpu *cpu, cc_block *b)
{
    struct cc_codecache *c = cpu->code;
    watch_page(cpu, b->phys_page);
    b->page_next = c->pages[b->phys_page];
    c->pages[b->phys_page] = b;
}

/* Make b, at the arena's end, the block of the page-crossing instruction at pc.  False: the fault was recorded. */
static bool make_crossing(cc_cpu *cpu, cc_block *b, uint64_t pc, const uint8_t *code)
{
    struct cc_codecache *c = cpu->code;
    unsigned half = cc_half(pc);
    uint64_t gpa2;
    if (!decode_across(cpu, b, pc, code, &gpa2))
        return false;
    memmove(&b->ops[1], &b->ops[0], b->nops * sizeof(cc_op));
    memset(&b->ops[0], 0, sizeof(cc_op));
    b->ops[0].fn = crossing;
    b->ops[0].off = b->off;
    b->ops[0].x = (uint8_t)half;
    b->ops[0].disp = (int32_t)(uint32_t)cpu->jgen[half];
    b->ops[0].imm = (int32_t)(uint32_t)(gpa2 >> CC_PAGE_SHIFT);
    b->nops++;
    b->kind = CC_BLOCK_CROSSING;
    const unsigned end = b->off + b->ops[1].len - CC_PAGE_SIZE;
    cc_watch_code(cpu, b, 1);
    reserve(c, b);
    cc_block *rest = (cc_block *)(c->arena + c->used);
    memset(rest, 0, sizeof *rest);
    rest->phys_page = (uint32_t)(gpa2 >> CC_PAGE_SHIFT);
    rest->end = (uint16_t)end;
    rest->kind = CC_BLOCK_REST;
    rest->hash_next = b;
    reserve(c, rest);
    add_to_page(cpu, rest);
    return true;
}

cc_block *cc_block_at(cc_cpu *cpu, uint64_t pc)
{
    struct cc_codecache *c = cpu->code;
    cc_block *b = cc_jcache_find(cpu, pc);
    if (b && b->valid)
        return b;
    uint64_t gpa;
    const uint8_t *code = cc_fetch_ptr(cpu, pc, &gpa);
    if (!code)
        return NULL;
    uint64_t vbase = pc & ~0xfffull;
    uint8_t user = cpu->cpl == 3;
    unsigned h = block_hash(gpa, vbase, user);
    for (b = c->hash[h]; b; b = b->hash_next)
        if (b->phys_page == gpa >> CC_PAGE_SHIFT && b->off == (gpa & 0xfff) && b->vbase == vbase && b->user == user) {
            cc_jcache_add(cpu, pc, b);
            return b;
        }
    if (c->size - c->used < BLOCK_BYTES_MAX + 128)      /* alignment, and the second block of a crossing */
        cc_code_flush(cpu);
    b = (cc_block *)(c->arena + c->used);
    b->vbase = vbase;
    b->user = user;
    b->phys_page = (uint32_t)(gpa >> CC_PAGE_SHIFT);
    if (cc_decode_watched(cpu, b, code, 4096 - (pc & 0xfff), pc & 0xfff, CC_BLOCK_INSNS_MAX))
        reserve(c, b);
    else if (cc_half(pc) != cc_half(vbase + CC_PAGE_SIZE))      /* from the last page to the first: two generations */
        return cc_block_scratch(cpu, pc, 1);
    else if (!make_crossing(cpu, b, pc, code))
        return NULL;
    b->valid = 1;
    b->hash_next = c->hash[h];
    c->hash[h] = b;
    add_to_page(cpu, b);
    cc_jcache_add(cpu, pc, b);
    cpu->m->stats.blocks_decoded++;
    cpu->m->stats.insns_decoded += b->n;
    return b;
}

/* ---- transfers ------------------------------------------------------------------------------------------------------------ */
static const cc_op *enter(cc_cpu *cpu, cc_block *b, int64_t budget)
{
    const cc_op *op;
    cpu->r[CC_R_PAGE] = b->vbase;
    CC_ENTER_BLOCK(b);
}

const cc_op *cc_goto_slow(cc_cpu *cpu, uint64_t pc, int64_t budget)
{
    if (budget <= 0 || cpu->leave)
        return cc_exit(cpu, pc, budget);
    cc_block *b = cc_block_at(cpu, pc);
    if (!b)
        return fetch_fault(cpu, pc, budget);
    return enter(cpu, b, budget);
}

/* Fewer instructions are left than the block has: execute exactly those. */
const cc_op *cc_block_short(cc_cpu *cpu, cc_block *b, int64_t budget)
{
    uint64_t pc = b->vbase + b->off;
    if (cc_unlikely(!b->nops))
        cc_edge_pad_count(cpu, b);
    budget += b->n;
    if (budget == 0)
        return cc_exit(cpu, pc, 0);
    /* A write to what is executed is noticed by the block that is registered for it; what led here may be dropped. */
    if (!b->valid && (b = cc_block_at(cpu, pc)) == NULL)
        return fetch_fault(cpu, pc, budget);
    if (b->n <= budget)
        return enter(cpu, b, budget);
    cc_block *s = cc_block_scratch(cpu, pc, (uint32_t)budget);
    if (!s)
        return fetch_fault(cpu, pc, budget);
    return enter(cpu, s, budget);
}

/* What a link to b has to hold.  There is room for a pad. */
static cc_block *counted(cc_cpu *cpu, cc_block *b, const cc_op *op, uint64_t pc)
{
    struct cc_codecache *c = cpu->code;
    cc_block *pad = (cc_block *)(c->arena + c->used);
    c->used += PAD_BYTES;
    cc_edge_pad_set(cpu, pad, b, op, pc);
    return pad;
}

static const cc_op *link_to(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t pc, bool taken)
{
    struct cc_codecache *c = cpu->code;
    const bool edge = cc_edge_op(cpu, op);
    if (edge)
        cc_edge_count(cpu, op, pc);
    if (budget <= 0 || cpu->leave)
        return cc_exit(cpu, pc, budget);
    uint64_t epoch = c->epoch;
    bool in_page = ((pc ^ cpu->r[CC_R_PAGE]) & ~0xfffull) == 0;
    unsigned half = op->x;
    cc_link *l = (cc_link *)(uintptr_t)(op + 1);
    if (edge && c->size - c->used < BLOCK_BYTES_MAX + 64 + PAD_BYTES)
        cc_code_flush(cpu);
    cc_block *b = cc_block_at(cpu, pc);
    if (!b)
        return fetch_fault(cpu, pc, budget);
    if (c->epoch == epoch && (in_page || half == cc_half(pc))) {
        uint32_t gen = (uint32_t)cpu->jgen[cc_half(pc)];
        cc_block *to = edge ? counted(cpu, b, op, pc) : b;
        if (taken) {
            l->taken = to;
            l->taken_gen = gen;
        } else {
            l->fall = to;
            l->fall_gen = gen;
        }
    }
    return enter(cpu, b, budget);
}

const cc_op *cc_link_taken(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    return link_to(cpu, op, budget, cc_branch_target(cpu, op), true);
}

const cc_op *cc_link_fall(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    return link_to(cpu, op, budget, cc_op_next_pc(cpu, op), false);
}

/* ---- construction ----------------------------------------------------------------------------------------------------------- */
int cc_code_new(cc_cpu *cpu, uint32_t kib)
{
    struct cc_codecache *c = cpu->code;
    if (!c) {
        c = cpu->code = calloc(1, sizeof *c);
        if (!c)
            return CC_ENOMEM;
        c->hash = calloc((size_t)1 << HASH_BITS, sizeof *c->hash);
        c->pages = calloc(cpu->m->npages, sizeof *c->pages);
        c->page_list = calloc(cpu->m->npages, sizeof *c->page_list);
        c->scratch = calloc(1, BLOCK_BYTES_MAX);
        cpu->jcache = calloc((size_t)1 << CC_JCACHE_BITS, sizeof(cc_jentry));
        if (!c->hash || !c->pages || !c->page_list || !c->scratch || !cpu->jcache)
            return CC_ENOMEM;
    } else {
        cc_code_flush(cpu);
    }
    free(c->arena);
    c->size = (size_t)kib * 1024 < 3 * BLOCK_BYTES_MAX ? 3 * BLOCK_BYTES_MAX : (size_t)kib * 1024;
    c->arena = aligned_alloc(HUGE_PAGE, (c->size + HUGE_PAGE - 1) & ~(size_t)(HUGE_PAGE - 1));
    /* Only a hint: a booting kernel fills megabytes with decoded code, and faults them in one by one otherwise. */
    if (c->arena)
        (void)madvise(c->arena, c->size, MADV_HUGEPAGE);
    c->used = 0;
    c->epoch++;
    cc_jcache_bump(cpu, 0);
    cc_jcache_bump(cpu, 1);
    return c->arena ? CC_OK : CC_ENOMEM;
}

void cc_code_free(cc_cpu *cpu)
{
    struct cc_codecache *c = cpu->code;
    if (c) {
        free(c->arena);
        free(c->hash);
        free(c->pages);
        free(c->page_list);
        free(c->scratch);
        free(c);
    }
    free(cpu->jcache);
}
