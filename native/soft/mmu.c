/*
 * soft/mmu.c: 4-level paging (SDM vol. 3, 4.5), the software TLB, and the slow paths of memory accesses.
 *
 * The TLB is coherent with the page tables: a page from which a table entry was read carries CC_PF_TABLE, writes to it
 * come here, and a change of a present entry drops what was derived from it.  So INVLPG and reloading CR3 have nothing
 * to do, and the guest sees a CPU without a TLB, whatever the TLB's size.
 */
#include "exec.h"

#include <stdlib.h>

#define PTE_P 0x1u
#define PTE_W 0x2u
#define PTE_U 0x4u
#define PTE_A 0x20u
#define PTE_D 0x40u
#define PTE_PS 0x80u
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull
#define PHYS_BITS 40      /* CPUID 80000008 */
#define PTE_RESERVED (PTE_ADDR & ~((1ull << PHYS_BITS) - 1))

#define PF_P 1u
#define PF_W 2u
#define PF_U 4u
#define PF_RSVD 8u
#define PF_I 16u

enum { ACC_READ, ACC_WRITE, ACC_EXEC };
#define TAG_INVALID 0x800u      /* equal to no address that CC_TLB_HIT or SSE_HIT has masked */
#define EXEC_MAP_BITS 12

#define TABLE_MANY 1u                 /* a leaf table reached through several addresses */
#define BULK_CODE_BYTES_MIN 64
#define WRITE_LOG_MAX 1024u
#define TABLE_WRITES_MAX 48           /* stores to one table page before all marks are dropped (host cost only) */

struct cc_tables {
    uint32_t *list;                   /* pages marked CC_PF_TABLE */
    uint32_t n;
    uint64_t *leaf;                   /* by page: 0 not a leaf table, TABLE_MANY, or base address | 2 */
    uint8_t *writes;                  /* by page: slow stores since it was marked */
    uint64_t exec_map[1u << (EXEC_MAP_BITS - 6)];   /* hashed virtual pages that have jump-cache entries */
    cc_tlbe *wlog[WRITE_LOG_MAX];     /* entries that were given a write tag; perhaps several times */
    uint32_t wlog_n;                  /* more than there is room for: look everywhere */
    cc_tlbe *none;                    /* one entry that never hits, for modes that must take the slow path always */
};

/* ---- TLB ------------------------------------------------------------------------------------------------------------ */
static inline cc_tlbe *tlb_slot(cc_cpu *cpu, unsigned mode, uint64_t va)
{
    return &cpu->tlbs[mode][(va >> CC_PAGE_SHIFT) & ((1u << cpu->tlb_bits) - 1)];
}

static void tlb_clear(cc_tlbe *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        t[i].rtag = t[i].wtag = t[i].xtag = TAG_INVALID;
}

static bool entry_holds(const cc_tlbe *e, uint64_t vpage)
{
    return e->rtag == vpage || e->wtag == vpage || e->xtag == vpage;
}

static void unmark_tables(cc_cpu *cpu)
{
    struct cc_tables *t = cpu->tables;
    for (uint32_t i = 0; i < t->n; i++) {
        cpu->m->page_flags[t->list[i]] &= (uint8_t)~CC_PF_TABLE;
        t->leaf[t->list[i]] = 0;
        t->writes[t->list[i]] = 0;
    }
    t->n = 0;
}

void cc_tlb_flush(cc_cpu *cpu)
{
    for (unsigned i = 0; i < CC_MMU_COUNT; i++)
        if (cpu->tlb_used[i]) {
            tlb_clear(cpu->tlbs[i], (size_t)1 << cpu->tlb_bits);
            cpu->tlb_used[i] = 0;
        }
    unmark_tables(cpu);
    cpu->tables->wlog_n = 0;
    memset(cpu->tables->exec_map, 0, sizeof cpu->tables->exec_map);
    cc_jcache_bump(cpu, 0);
    cc_jcache_bump(cpu, 1);
    cpu->m->stats.tlb_flushes++;
}

static unsigned exec_hash(uint64_t va)
{
    uint64_t p = va >> CC_PAGE_SHIFT;
    return (unsigned)((p ^ (p >> 11) ^ (p >> 23)) & ((1u << EXEC_MAP_BITS) - 1));
}

static void flush_page(cc_cpu *cpu, uint64_t va)
{
    uint64_t vpage = va & ~(uint64_t)0xfff;
    for (unsigned i = 0; i < CC_MMU_COUNT; i++) {
        cc_tlbe *e = tlb_slot(cpu, i, vpage);
        if (entry_holds(e, vpage))
            e->rtag = e->wtag = e->xtag = TAG_INVALID;
    }
    unsigned h = exec_hash(vpage);
    if (cpu->tables->exec_map[h >> 6] >> (h & 63) & 1)
        cc_jcache_bump(cpu, cc_half(vpage));
}

/* A snapshot after a short run would take longer to look through the whole TLB than for all else. */
static void log_write_tag(struct cc_tables *t, cc_tlbe *e)
{
    if (t->wlog_n < WRITE_LOG_MAX)
        t->wlog[t->wlog_n] = e;
    t->wlog_n += t->wlog_n <= WRITE_LOG_MAX;
}

void cc_tlb_protect_writes(cc_cpu *cpu)
{
    struct cc_tables *t = cpu->tables;
    if (t->wlog_n <= WRITE_LOG_MAX) {
        for (uint32_t k = 0; k < t->wlog_n; k++)
            t->wlog[k]->wtag = TAG_INVALID;
    } else {
        for (unsigned i = 0; i < CC_MMU_COUNT; i++)
            if (cpu->tlb_used[i])
                for (size_t k = 0; k < (size_t)1 << cpu->tlb_bits; k++)
                    cpu->tlbs[i][k].wtag = TAG_INVALID;
    }
    t->wlog_n = 0;
}

void cc_tlb_drop_writes_to(cc_cpu *cpu, uint64_t page)
{
    uint8_t *flags = &cpu->m->page_flags[page];
    if (!(*flags & CC_PF_WTAG))
        return;
    *flags &= (uint8_t)~CC_PF_WTAG;
    uintptr_t host = (uintptr_t)cpu->m->ram + (page << CC_PAGE_SHIFT);
    for (unsigned i = 0; i < CC_MMU_COUNT; i++)
        if (cpu->tlb_used[i])
            for (size_t k = 0; k < (size_t)1 << cpu->tlb_bits; k++) {
                cc_tlbe *e = &cpu->tlbs[i][k];
                if (e->wtag != TAG_INVALID && e->wtag + e->addend == host)
                    e->wtag = TAG_INVALID;
            }
}

void cc_mmu_mode_changed(cc_cpu *cpu)
{
    unsigned mode = cpu->cpl == 3 ? CC_MMU_USER
                    : (cpu->rflags & FL_AC) || !(cpu->cr4 & CR4_SMAP) ? CC_MMU_KERNEL_AC
                                                                      : CC_MMU_KERNEL;
    cpu->mmu_mode = (uint8_t)mode;
    if (cc_unlikely(mode == CC_MMU_USER && (cpu->cr0 & CR0_AM) && (cpu->rflags & FL_AC))) {
        cpu->tlb = cpu->tables->none;      /* every access is checked for alignment */
        cpu->tlb_mask = 0;
        return;
    }
    cpu->tlb = cpu->tlbs[mode];
    cpu->tlb_mask = (((uint64_t)1 << cpu->tlb_bits) - 1) << 5;
}

/* ---- tables ------------------------------------------------------------------------------------------------------------ */
static void mark_table(cc_cpu *cpu, uint64_t page, unsigned level, uint64_t va)
{
    struct cc_tables *t = cpu->tables;
    uint8_t *flags = &cpu->m->page_flags[page];
    if (!(*flags & CC_PF_TABLE)) {
        *flags |= CC_PF_TABLE;
        t->list[t->n++] = (uint32_t)page;
        t->leaf[page] = level == 0 ? ((va & ~(uint64_t)0x1fffff) | 2) : TABLE_MANY;
        t->writes[page] = 0;
        cc_tlb_drop_writes_to(cpu, page);
    } else if (t->leaf[page] != TABLE_MANY && (level != 0 || t->leaf[page] != ((va & ~(uint64_t)0x1fffff) | 2))) {
        t->leaf[page] = TABLE_MANY;
    }
}

void cc_table_page_changed(cc_cpu *cpu) { cc_tlb_flush(cpu); }

/* Bytes [gpa, gpa+size) within one page of tables are about to change. */
static void table_written(cc_cpu *cpu, uint64_t gpa, unsigned size)
{
    struct cc_tables *t = cpu->tables;
    uint64_t page = gpa >> CC_PAGE_SHIFT;
    if (size > 64 || ++t->writes[page] > TABLE_WRITES_MAX) {
        /* Probably no table any more: forget everything that was derived from tables. */
        cc_tlb_flush(cpu);
        cpu->leave = 1;
        return;
    }
    for (uint64_t a = gpa & ~7ull; a < gpa + size; a += 8) {
        uint64_t old;
        memcpy(&old, cpu->m->ram + a, 8);
        if (!(old & PTE_P))
            continue;                 /* absent entries are never cached */
        cpu->leave = 1;               /* the next instruction is fetched through the new tables */
        if (t->leaf[page] == TABLE_MANY) {
            cc_tlb_flush(cpu);
            return;
        }
        flush_page(cpu, (t->leaf[page] & ~0xfffull) + ((a & 0xfff) >> 3 << CC_PAGE_SHIFT));
    }
}

/* CR3 was loaded.  The upper half's translations stay if both roots agree about it. */
void cc_tlb_switch_root(cc_cpu *cpu, uint64_t old_cr3)
{
    uint64_t a = old_cr3 & PTE_ADDR, b = cpu->cr3 & PTE_ADDR;
    cc_machine *m = cpu->m;
    if (a == b)
        return;
    if (!cc_in_ram(m, a, 4096) || !cc_in_ram(m, b, 4096) || memcmp(m->ram + a + 2048, m->ram + b + 2048, 2048) != 0) {
        cc_tlb_flush(cpu);
        return;
    }
    if (cpu->tlb_used[CC_MMU_USER]) {
        tlb_clear(cpu->tlbs[CC_MMU_USER], (size_t)1 << cpu->tlb_bits);
        cpu->tlb_used[CC_MMU_USER] = 0;
    }
    for (unsigned i = CC_MMU_KERNEL; i < CC_MMU_COUNT; i++)
        if (cpu->tlb_used[i])
            for (size_t k = 0; k < (size_t)1 << cpu->tlb_bits; k++) {
                cc_tlbe *e = &cpu->tlbs[i][k];
                if (!((e->rtag | e->wtag | e->xtag) >> 63))
                    e->rtag = e->wtag = e->xtag = TAG_INVALID;
            }
    cc_jcache_bump(cpu, 0);
    /* Upper-half translations now also depend on the new root. */
    mark_table(cpu, b >> CC_PAGE_SHIFT, 3, 0);
}

/* ---- the walk ------------------------------------------------------------------------------------------------------------ */
struct walk { uint64_t gpa; bool writable, dirty; };

static bool page_fault(cc_cpu *cpu, uint64_t va, unsigned acc, bool user, uint32_t code)
{
    if (acc == ACC_WRITE)
        code |= PF_W;
    if (user)
        code |= PF_U;
    if (acc == ACC_EXEC && ((cpu->efer & EFER_NXE) || (cpu->cr4 & CR4_SMEP)))
        code |= PF_I;
    cc_raise_code(cpu, EXC_PF, code);
    cpu->fault.cr2 = va;
    return false;
}

static void set_entry_bits(cc_cpu *cpu, uint64_t at, uint64_t bits, unsigned acc)
{
    uint64_t e;
    cc_page_dirty(cpu->m, at >> CC_PAGE_SHIFT);
    memcpy(&e, cpu->m->ram + at, 8);
    e |= bits;
    memcpy(cpu->m->ram + at, &e, 8);
    /* Not of fetches: where code is looked up ahead of its execution is the cache's affair. */
    if (cc_unlikely(cpu->m->watches != NULL) && acc != ACC_EXEC)
        cc_watch_walk(cpu, at);
}

/*
 * Translate va for an access by `mode`.  Sets A in each entry as it goes and D on writes, as QEMU and most CPUs do:
 * upper-level A bits stay set when a lower level faults.
 */
static bool walk(cc_cpu *cpu, uint64_t va, unsigned acc, unsigned mode, struct walk *w)
{
    cc_machine *m = cpu->m;
    bool user = mode == CC_MMU_USER;
    uint64_t table = cpu->cr3 & PTE_ADDR, all = PTE_W | PTE_U, nx = 0;

    for (int level = 3;; level--) {
        uint64_t at = table + ((va >> (12 + 9 * level)) & 511) * 8, e;
        if (!cc_in_ram(m, at, 8))      /* reads all ones: reserved bits */
            return page_fault(cpu, va, acc, user, PF_P | PF_RSVD);
        mark_table(cpu, table >> CC_PAGE_SHIFT, (unsigned)level, va);
        memcpy(&e, m->ram + at, 8);
        if (!(e & PTE_P))
            return page_fault(cpu, va, acc, user, 0);
        if ((e & PTE_RESERVED) || (level == 3 && (e & PTE_PS)) || ((e & PTE_NX) && !(cpu->efer & EFER_NXE)))
            return page_fault(cpu, va, acc, user, PF_P | PF_RSVD);
        all &= e;
        nx |= e & PTE_NX;
        bool leaf = level == 0 || (level < 3 && (e & PTE_PS));
        if (!leaf) {
            if (!(e & PTE_A))
                set_entry_bits(cpu, at, PTE_A, acc);
            table = e & PTE_ADDR;
            continue;
        }
        uint64_t span = (uint64_t)1 << (12 + 9 * level);
        if (level > 0 && (e & PTE_ADDR & (span - 1) & ~0x1000ull))     /* bit 12 of a large page is PAT */
            return page_fault(cpu, va, acc, user, PF_P | PF_RSVD);
        bool writable = (all & PTE_W) != 0;
        if (user) {
            if (!(all & PTE_U) || (acc == ACC_EXEC && nx))
                return page_fault(cpu, va, acc, user, PF_P);
            if (acc == ACC_WRITE && !writable)
                return page_fault(cpu, va, acc, user, PF_P);
        } else {
            if (!(cpu->cr0 & CR0_WP))
                writable = true;
            if (acc == ACC_EXEC && (nx || ((all & PTE_U) && (cpu->cr4 & CR4_SMEP))))
                return page_fault(cpu, va, acc, user, PF_P);
            if (acc != ACC_EXEC && mode == CC_MMU_KERNEL && (all & PTE_U))      /* SMAP */
                return page_fault(cpu, va, acc, user, PF_P);
            if (acc == ACC_WRITE && !writable)
                return page_fault(cpu, va, acc, user, PF_P);
        }
        uint64_t bits = PTE_A | (acc == ACC_WRITE ? PTE_D : 0);
        if ((e & bits) != bits)
            set_entry_bits(cpu, at, bits, acc);
        w->gpa = (e & PTE_ADDR & ~(span - 1)) | (va & (span - 1));
        w->writable = writable;
        w->dirty = acc == ACC_WRITE || (e & PTE_D);
        return true;
    }
}

/* ---- debug registers: data breakpoints ------------------------------------------------------------------------------------ */
static bool page_has_breakpoint(const cc_cpu *cpu, uint64_t vpage)
{
    if (cc_likely(!(cpu->dr[7] & 0xff)))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if ((cc_breakpoint_kind(cpu, i) & 1) && (cpu->dr[i] & ~0xfffull) == vpage)
            return true;
    return false;
}

/* LEN and the alignment it implies: SDM vol. 3, 17.2.5.  A range may end at the top of the address space. */
static void check_breakpoints(cc_cpu *cpu, uint64_t va, unsigned size, unsigned kind, unsigned kind2)
{
    static const uint8_t lengths[4] = {1, 2, 8, 4};
    for (unsigned i = 0; i < 4; i++) {
        unsigned k = cc_breakpoint_kind(cpu, i);
        uint64_t len = lengths[cpu->dr[7] >> (18 + 4 * i) & 3], at = cpu->dr[i] & ~(len - 1);
        if ((k == kind || k == kind2) && (va - at < len || at - va < size)) {
            cpu->trap_db |= (uint64_t)1 << i;
            cpu->leave = 1;
        }
    }
}

void cc_io_accessed(cc_cpu *cpu, uint16_t port, unsigned size)
{
    if (cc_unlikely((cpu->dr[7] & 0xff) && (cpu->cr4 & CR4_DE)))
        check_breakpoints(cpu, port, size, CC_BP_IO, CC_BP_IO);
}

/* ---- translation with TLB fill ---------------------------------------------------------------------------------------------- */
static bool translate(cc_cpu *cpu, uint64_t va, unsigned acc, unsigned mode, uint64_t *gpa)
{
    cc_machine *m = cpu->m;
    struct walk w;
    uint64_t vpage = va & ~0xfffull;

    if (!walk(cpu, va, acc, mode, &w))
        return false;
    *gpa = w.gpa;
    if (!cc_in_ram(m, w.gpa & ~0xfffull, 4096))
        return true;
    m->stats.tlb_misses++;
    uint64_t page = w.gpa >> CC_PAGE_SHIFT;
    if (acc == ACC_WRITE)
        cc_page_dirty(m, page);
    cc_tlbe *e = tlb_slot(cpu, mode, vpage);
    cpu->tlb_used[mode] = 1;
    if (!entry_holds(e, vpage))
        e->rtag = e->wtag = e->xtag = TAG_INVALID;
    e->addend = (uintptr_t)m->ram + (w.gpa & ~0xfffull) - vpage;
    if (acc == ACC_EXEC) {
        e->xtag = vpage;
        return true;
    }
    if (cc_unlikely(page_has_breakpoint(cpu, vpage))) {
        e->rtag = e->wtag = TAG_INVALID;
        return true;
    }
    uint32_t watched = cc_unlikely(m->watches != NULL) ? cc_watched_data(m, vpage, page << CC_PAGE_SHIFT) : 0;
    if (cc_unlikely(watched & CC_WATCH_READ)) {
        e->rtag = e->wtag = TAG_INVALID;      /* what is read and written at once uses the write tag */
        return true;
    }
    e->rtag = vpage;
    if (cc_unlikely(watched)) {
        e->wtag = TAG_INVALID;
        return true;
    }
    uint8_t flags = m->page_flags[page];
    if (w.writable && w.dirty && (flags & (CC_PF_DIRTY | CC_PF_WATCHED)) == CC_PF_DIRTY) {
        e->wtag = vpage;
        log_write_tag(cpu->tables, e);
        m->page_flags[page] = flags | CC_PF_WTAG;
    }
    return true;
}

static bool check_canonical(cc_cpu *cpu, const cc_op *op, uint64_t va)
{
    if (cc_likely(cc_canonical(va)))
        return true;
    cc_raise_code(cpu, op && (op->ss & CC_SS_STACK) ? EXC_SS : EXC_GP, 0);
    return false;
}

/* SDM vol. 3, table 6-2: a non-canonical address is #GP or #SS, however it is aligned. */
static bool check_alignment(cc_cpu *cpu, const cc_op *op, uint64_t va, unsigned size)
{
    if (cc_likely(cpu->tlb != cpu->tables->none || cpu->mmu_mode != CC_MMU_USER))
        return true;
    unsigned align = size == 10 ? 8 : size <= 8 ? size : 1;
    if ((align & (align - 1)) == 0 && (va & (align - 1))) {
        if (check_canonical(cpu, op, va) && check_canonical(cpu, op, va + align - 1))
            cc_raise_code(cpu, EXC_AC, 0);
        return false;
    }
    return true;
}

/* One access, split at page boundaries into at most two parts. */

static bool translate_span(cc_cpu *cpu, const cc_op *op, uint64_t va, unsigned size, unsigned acc, unsigned mode,
                           cc_watch_span *s)
{
    unsigned first = 4096 - (va & 0xfff);
    s->n = size > first ? 2 : 1;
    s->len[0] = s->n == 2 ? first : size;
    s->len[1] = size - s->len[0];
    if (!check_canonical(cpu, op, va) || (s->n == 2 && !check_canonical(cpu, op, va + first)))
        return false;
    if (!translate(cpu, va, acc, mode, &s->gpa[0]))
        return false;
    return s->n == 1 || translate(cpu, va + first, acc, mode, &s->gpa[1]);
}

static void sync_time(cc_cpu *cpu, const cc_op *op, int64_t budget)
{
    if (op)
        cpu->m->instret = cc_op_instret(cpu, op, budget);
}

/* Device registers are accessed in naturally aligned pieces. */
static void mmio(cc_cpu *cpu, uint64_t gpa, uint8_t *data, unsigned len, bool write)
{
    while (len) {
        unsigned k = len >= 8 && !(gpa & 7) ? 8 : len >= 4 && !(gpa & 3) ? 4 : len >= 2 && !(gpa & 1) ? 2 : 1;
        uint64_t v = 0;
        if (write) {
            memcpy(&v, data, k);
            cc_mmio_write(cpu->m, gpa, k, v);
        } else {
            v = cc_mmio_read(cpu->m, gpa, k);
            memcpy(data, &v, k);
        }
        gpa += k, data += k, len -= k;
    }
    if (cpu->m->kick)
        cpu->leave = 1;
}

static void read_span(cc_cpu *cpu, const cc_op *op, int64_t budget, const cc_watch_span *s, uint8_t *dst)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (cc_in_ram(cpu->m, s->gpa[i], s->len[i])) {
            memcpy(dst, cpu->m->ram + s->gpa[i], s->len[i]);
        } else {
            sync_time(cpu, op, budget);
            mmio(cpu, s->gpa[i], dst, s->len[i], false);
        }
        dst += s->len[i];
    }
}

static void write_span(cc_cpu *cpu, const cc_op *op, int64_t budget, const cc_watch_span *s, const uint8_t *src)
{
    cc_machine *m = cpu->m;
    for (unsigned i = 0; i < s->n; i++) {
        if (cc_in_ram(m, s->gpa[i], s->len[i])) {
            uint8_t flags = m->page_flags[s->gpa[i] >> CC_PAGE_SHIFT];
            if (flags & CC_PF_TABLE)
                table_written(cpu, s->gpa[i], s->len[i]);
            if (flags & CC_PF_CODE)
                cc_code_written(cpu, s->gpa[i], s->len[i]);
            cc_page_dirty(m, s->gpa[i] >> CC_PAGE_SHIFT);
            memcpy(m->ram + s->gpa[i], src, s->len[i]);
        } else {
            uint8_t copy[512];
            sync_time(cpu, op, budget);
            memcpy(copy, src, s->len[i]);
            mmio(cpu, s->gpa[i], copy, s->len[i], true);
        }
        src += s->len[i];
    }
}

bool cc_mem_read_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, void *dst, unsigned size)
{
    cc_watch_span s;
    if (!check_alignment(cpu, op, va, size) || !translate_span(cpu, op, va, size, ACC_READ, cpu->mmu_mode, &s))
        return false;
    read_span(cpu, op, budget, &s, dst);
    if (cc_unlikely(cpu->m->watches != NULL))
        cc_watch_access(cpu, op, va, &s, CC_WATCH_READ);
    if (cc_unlikely(cpu->dr[7] & 0xff))
        check_breakpoints(cpu, va, size, CC_BP_ACCESS, CC_BP_ACCESS);
    return true;
}

bool cc_mem_write_slow(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, const void *src, unsigned size)
{
    cc_watch_span s;
    if (!check_alignment(cpu, op, va, size) || !translate_span(cpu, op, va, size, ACC_WRITE, cpu->mmu_mode, &s))
        return false;
    write_span(cpu, op, budget, &s, src);
    if (cc_unlikely(cpu->m->watches != NULL))
        cc_watch_access(cpu, op, va, &s, CC_WATCH_WRITE);
    if (cc_unlikely(cpu->dr[7] & 0xff))
        check_breakpoints(cpu, va, size, CC_BP_WRITE, CC_BP_ACCESS);
    return true;
}

bool cc_mem_probe_write(cc_cpu *cpu, const cc_op *op, int64_t budget, uint64_t va, unsigned size)
{
    cc_watch_span s;
    (void)budget;
    return check_alignment(cpu, op, va, size) && translate_span(cpu, op, va, size, ACC_WRITE, cpu->mmu_mode, &s);
}

bool cc_sys_read(cc_cpu *cpu, uint64_t va, void *dst, unsigned size)
{
    cc_watch_span s;
    unsigned mode = cpu->cr4 & CR4_SMAP ? CC_MMU_KERNEL : CC_MMU_KERNEL_AC;
    if (!translate_span(cpu, NULL, va, size, ACC_READ, mode, &s))
        return false;
    read_span(cpu, NULL, 0, &s, dst);
    if (cc_unlikely(cpu->m->watches != NULL))
        cc_watch_access(cpu, NULL, va, &s, CC_WATCH_READ);
    return true;
}

bool cc_sys_write(cc_cpu *cpu, uint64_t va, const void *src, unsigned size)
{
    cc_watch_span s;
    unsigned mode = cpu->cr4 & CR4_SMAP ? CC_MMU_KERNEL : CC_MMU_KERNEL_AC;
    if (!translate_span(cpu, NULL, va, size, ACC_WRITE, mode, &s))
        return false;
    write_span(cpu, NULL, 0, &s, src);
    if (cc_unlikely(cpu->m->watches != NULL))
        cc_watch_access(cpu, NULL, va, &s, CC_WATCH_WRITE);
    return true;
}

/* Is [page of code being executed, and the one after it] backed by this physical page?  Unknown counts as yes. */
static bool executing_from(cc_cpu *cpu, uint64_t page)
{
    for (unsigned i = 0; i < 2; i++) {
        uint64_t va = cpu->r[CC_R_PAGE] + i * CC_PAGE_SIZE, gpa;
        if (cc_soft_translate(cpu->m, va, &gpa) != CC_OK ? i == 0 : gpa >> CC_PAGE_SHIFT == page)
            return true;
    }
    return false;
}

void *cc_bulk_ptr(cc_cpu *cpu, uint64_t va, bool write, uint64_t bytes)
{
    void *p = write ? cc_tlb_write(cpu, va, 1) : cc_tlb_read(cpu, va, 1);
    if (cc_likely(p != NULL))
        return p;
    cc_machine *m = cpu->m;
    uint64_t gpa;
    if (!cc_canonical(va) || cpu->tlb == cpu->tables->none || page_has_breakpoint(cpu, va & ~0xfffull) ||
        !translate(cpu, va, write ? ACC_WRITE : ACC_READ, cpu->mmu_mode, &gpa))
        return NULL;
    if (cc_unlikely(m->watches != NULL) && cc_watched_data(m, va & ~0xfffull, gpa & ~0xfffull))
        return NULL;
    p = write ? cc_tlb_write(cpu, va, 1) : cc_tlb_read(cpu, va, 1);
    if (p || !write || !cc_in_ram(m, gpa, bytes) || bytes < BULK_CODE_BYTES_MIN)
        return p;
    /* Old code is overwritten at once (a freed page being cleared), unless the string instruction itself might be. */
    uint64_t page = gpa >> CC_PAGE_SHIFT;
    if ((m->page_flags[page] & CC_PF_WATCHED) != CC_PF_CODE || executing_from(cpu, page))
        return NULL;
    cc_code_written(cpu, gpa, bytes);
    return m->ram + gpa;
}

const uint8_t *cc_fetch_ptr(cc_cpu *cpu, uint64_t va, uint64_t *gpa)
{
    cc_machine *m = cpu->m;
    unsigned mode = cpu->cpl == 3 ? CC_MMU_USER : cpu->mmu_mode;
    cc_tlbe *e = tlb_slot(cpu, mode, va);
    if (e->xtag == (va & ~0xfffull)) {
        *gpa = va + e->addend - (uintptr_t)m->ram;
    } else {
        if (!cc_canonical(va)) {
            cc_raise_code(cpu, EXC_GP, 0);
            return NULL;
        }
        if (!translate(cpu, va, ACC_EXEC, mode, gpa))
            return NULL;
        if (!cc_in_ram(m, *gpa & ~0xfffull, 4096)) {
            cc_logf(m, "instruction fetch from 0x%llx, which is not RAM", (unsigned long long)*gpa);
            cc_raise(cpu, EXC_UD);
            return NULL;
        }
    }
    unsigned h = exec_hash(va);
    cpu->tables->exec_map[h >> 6] |= 1ull << (h & 63);
    return m->ram + *gpa;
}

int cc_soft_translate(cc_machine *m, uint64_t va, uint64_t *gpa)
{
    cc_cpu *cpu = m->vcpu;
    uint64_t table = cpu->cr3 & PTE_ADDR;
    if (!cc_canonical(va))
        return CC_EFAULT;
    for (int level = 3;; level--) {
        uint64_t at = table + ((va >> (12 + 9 * level)) & 511) * 8, e;
        if (!cc_in_ram(m, at, 8))
            return CC_EFAULT;
        memcpy(&e, m->ram + at, 8);
        if (!(e & PTE_P))
            return CC_EFAULT;
        if (level == 0 || (level < 3 && (e & PTE_PS))) {
            uint64_t span = (uint64_t)1 << (12 + 9 * level);
            *gpa = (e & PTE_ADDR & ~(span - 1)) | (va & (span - 1));
            return CC_OK;
        }
        table = e & PTE_ADDR;
    }
}

/* ---- construction ---------------------------------------------------------------------------------------------------------- */
int cc_mmu_new(cc_cpu *cpu, uint32_t tlb_bits)
{
    cpu->tlb_bits = tlb_bits;
    if (!cpu->tables) {
        struct cc_tables *t = calloc(1, sizeof *t);
        cpu->tables = t;
        if (!t)
            return CC_ENOMEM;
        t->list = calloc(cpu->m->npages, sizeof *t->list);
        t->leaf = calloc(cpu->m->npages, sizeof *t->leaf);
        t->writes = calloc(cpu->m->npages, 1);
        t->none = calloc(1, sizeof *t->none);
        if (!t->list || !t->leaf || !t->writes || !t->none)
            return CC_ENOMEM;
        tlb_clear(t->none, 1);
    }
    cpu->tables->wlog_n = 0;
    for (unsigned i = 0; i < CC_MMU_COUNT; i++) {
        free(cpu->tlbs[i]);
        cpu->tlbs[i] = calloc((size_t)1 << tlb_bits, sizeof(cc_tlbe));
        if (!cpu->tlbs[i])
            return CC_ENOMEM;
        tlb_clear(cpu->tlbs[i], (size_t)1 << tlb_bits);
        cpu->tlb_used[i] = 0;
    }
    cc_mmu_mode_changed(cpu);
    return CC_OK;
}

void cc_mmu_free(cc_cpu *cpu)
{
    for (unsigned i = 0; i < CC_MMU_COUNT; i++)
        free(cpu->tlbs[i]);
    if (cpu->tables) {
        free(cpu->tables->list);
        free(cpu->tables->leaf);
        free(cpu->tables->writes);
        free(cpu->tables->none);
        free(cpu->tables);
    }
}
