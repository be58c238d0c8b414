/*
 * boot.c: the state in which a 64-bit entry point is started, Linux's (Documentation/x86/boot.rst, "64-bit boot
 * protocol") or a flat guest's.
 *
 * Choices, and who needs them:
 *   CR0  PE PG        long mode.  ET reads as one on every CPU.
 *        WP           Linux sets it anyway; no page mapped here is read-only.
 *        NE MP        x87 errors as #MF; with EM and TS clear, x87 and SSE work at once in a flat guest.
 *   CR4  PAE          long mode.
 *        OSFXSR OSXMMEXCPT   SSE and #XM in a flat guest; Linux writes CR4 itself.
 *   EFER LME LMA      SCE and NXE stay off: the guest that wants them sets them.
 *   IDT  0x520, limit 0: until the guest loads its own, any exception is a triple fault, not a walk through memory.
 *   TR, LDTR: as after reset (SDM volume 3, table 9-1); an entry point must load TR before it uses it.
 */
#include "machine.h"

#define GDT_GPA 0x500u
#define IDT_GPA 0x520u
#define CS_SELECTOR 0x10u
#define DS_SELECTOR 0x18u
#define TABLE_PAGES 6u          /* PML4, PDPT, four page directories of 1 GiB each */

/* Page-table entry bits: SDM volume 3, section 4.5. */
#define PTE_TABLE 0x27u         /* P, R/W, U/S, A */
#define PTE_2M 0xE7u            /* P, R/W, U/S, A, D, PS */

/* Descriptors: SDM volume 3, figure 5-1; accessed already, so that loading them writes nothing. */
#define DESC_CODE64 UINT64_C(0x00AF9B000000FFFF)
#define DESC_DATA UINT64_C(0x00CF93000000FFFF)
#define ATTR_CODE64 0xA09Bu
#define ATTR_DATA 0xC093u
#define ATTR_TSS_BUSY 0x008Bu
#define ATTR_LDT 0x0082u

#define CR0_START 0x80010033u   /* PG WP NE ET MP PE */
#define CR4_START 0x620u        /* OSXMMEXCPT OSFXSR PAE */
#define EFER_START 0x500u       /* LMA LME */

#define SEG_CS 1

static void put_u64(uint8_t *p, uint64_t v)
{
    for (unsigned i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void write_tables(cc_machine *m, uint64_t gpa)
{
    cc_ram_will_change(m, gpa, TABLE_PAGES * CC_PAGE_SIZE);
    uint8_t *pml4 = m->ram + gpa, *pdpt = pml4 + CC_PAGE_SIZE, *pd = pdpt + CC_PAGE_SIZE;
    memset(pml4, 0, TABLE_PAGES * CC_PAGE_SIZE);
    put_u64(pml4, (gpa + CC_PAGE_SIZE) | PTE_TABLE);
    for (uint64_t i = 0; i < 4; i++)
        put_u64(pdpt + 8 * i, (gpa + (2 + i) * CC_PAGE_SIZE) | PTE_TABLE);
    for (uint64_t i = 0; i < 4 * 512; i++)
        put_u64(pd + 8 * i, (i << 21) | PTE_2M);
}

static void write_gdt(cc_machine *m)
{
    static const uint64_t gdt[4] = {0, 0, DESC_CODE64, DESC_DATA};
    cc_ram_will_change(m, GDT_GPA, sizeof gdt);
    for (unsigned i = 0; i < 4; i++)
        put_u64(m->ram + GDT_GPA + 8 * i, gdt[i]);
}

static cc_segment segment(uint16_t selector, uint32_t limit, uint32_t attr)
{
    cc_segment s;
    memset(&s, 0, sizeof s);
    s.selector = selector;
    s.limit = limit;
    s.attr = attr;
    return s;
}

static void start_regs(cc_regs *r, uint64_t entry, uint64_t rsi, uint64_t rsp, uint64_t tables_gpa)
{
    memset(r, 0, sizeof *r);
    r->gpr[4] = rsp;
    r->gpr[6] = rsi;
    r->rip = entry;
    r->rflags = 2;
    for (unsigned i = 0; i < 6; i++)
        r->seg[i] = segment(DS_SELECTOR, UINT32_MAX, ATTR_DATA);
    r->seg[SEG_CS] = segment(CS_SELECTOR, UINT32_MAX, ATTR_CODE64);
    r->ldtr = segment(0, 0xFFFF, ATTR_LDT);
    r->tr = segment(0, 0xFFFF, ATTR_TSS_BUSY);
    r->gdtr.base = GDT_GPA;
    r->gdtr.limit = 4 * 8 - 1;
    r->idtr.base = IDT_GPA;
    r->cr0 = CR0_START;
    r->cr3 = tables_gpa;
    r->cr4 = CR4_START;
    r->efer = EFER_START;
    r->dr[6] = 0xFFFF0FF0u;
    r->dr[7] = 0x400;
    r->pat = UINT64_C(0x0007040600070406);
    r->misc_enable = 1;          /* fast strings, as after reset */
    r->fcw = 0x37F;
    r->ftw = 0xFFFF;
    r->mxcsr = 0x1F80;
}

int cc_enter_long_mode(cc_machine *m, uint64_t entry, uint64_t rsi, uint64_t rsp, uint64_t tables_gpa)
{
    if (tables_gpa % CC_PAGE_SIZE || tables_gpa == 0 || !cc_in_ram(m, tables_gpa, TABLE_PAGES * CC_PAGE_SIZE))
        return cc_fail(m, CC_EINVAL, "page tables at 0x%llx: must be 6 pages in memory, page-aligned, not page 0",
                       (unsigned long long)tables_gpa);
    cc_regs r;
    start_regs(&r, entry, rsi, rsp, tables_gpa);
    write_tables(m, tables_gpa);
    write_gdt(m);
    int rc = m->ops->set_regs(m, &r);
    if (rc)
        return rc;
    /* A machine that had died starts again. */
    m->dev.dead_kind = CC_STOP_NONE;
    m->dev.dead_detail = 0;
    return CC_OK;
}
