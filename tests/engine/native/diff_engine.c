/*
 * diff_engine.c: see diff_engine.h.
 *
 * The guest is user code at CPL 3 in the layout of diff.h, with page tables, GDT, TSS and IDT in supervisor memory of
 * the upper half.  Every exception is delivered through the IDT to a HLT of its own, so that the vector, the error code
 * and the interrupted state are what a kernel would see.
 */
#include "diff_engine.h"

#include "cc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAM (2u << 20)
#define GPA_IMAGE 0x100000u     /* the regions, one after another */
#define GPA_TABLES 0x10000u
#define GPA_SYSTEM 0x8000u      /* GDT, TSS, IDT, stubs, stack: five pages */
#define SYSTEM_VA 0xffff888000000000ull
#define GDT_OFF 0x000u
#define TSS_OFF 0x800u
#define IDT_OFF 0x1000u
#define STUB_OFF 0x2000u        /* vector * 16 */
#define STACK_OFF 0x4000u       /* top of the kernel stack; grows down into page 3 */
#define BUDGET 2000000u

struct engine {
    cc_store *store;
    cc_machine *m;
    cc_regs base;               /* the system part of every case's registers */
    uint8_t image[IMAGE_SIZE];
    uint8_t scratch[IMAGE_SIZE];
    uint32_t next_table;
    uint64_t retired;
    uint32_t stepping;
    cc_config cfg;
    uint16_t cs, ss;
};

static void start(struct engine *e);

static void fatal(const char *what, const char *detail)
{
    fprintf(stderr, "engine: %s: %s\n", what, detail);
    exit(1);
}

static void phys_write(struct engine *e, uint64_t gpa, const void *src, size_t size)
{
    if (cc_write_phys(e->m, gpa, src, size) != CC_OK)
        fatal("cc_write_phys", cc_error(e->m));
}

static void phys_read(struct engine *e, uint64_t gpa, void *dst, size_t size)
{
    if (cc_read_phys(e->m, gpa, dst, size) != CC_OK)
        fatal("cc_read_phys", cc_error(e->m));
}

static void map(struct engine *e, uint64_t va, uint64_t gpa, bool user, bool write, bool exec)
{
    uint64_t table = GPA_TABLES;
    for (int level = 3; level > 0; level--) {
        uint64_t at = table + ((va >> (12 + 9 * level)) & 511) * 8, entry;
        phys_read(e, at, &entry, 8);
        if (!(entry & 1)) {
            entry = (GPA_TABLES + 4096 * ++e->next_table) | 7;
            phys_write(e, at, &entry, 8);
        }
        table = entry & 0xffffffffff000;
    }
    /* accessed and dirty are preset, as they are natively by the time a case runs */
    uint64_t pte = gpa | 0x61 | (write ? 2 : 0) | (user ? 4 : 0) | (exec ? 0 : 1ull << 63);
    phys_write(e, table + ((va >> 12) & 511) * 8, &pte, 8);
}

static cc_segment segment(uint16_t selector, uint32_t attr)
{
    return (cc_segment){ .base = 0, .limit = 0xffffffff, .attr = attr, .selector = selector };
}

struct engine *engine_new(uint32_t flags, uint32_t tlb_bits, uint32_t code_cache_kib, uint16_t cs, uint16_t ss)
{
    struct engine *e = calloc(1, sizeof *e);
    cc_config_default(&e->cfg);
    e->cfg.ram_bytes = RAM;
    e->cfg.flags |= flags;
    if (tlb_bits)
        e->cfg.tlb_bits = tlb_bits;
    if (code_cache_kib)
        e->cfg.code_cache_kib = code_cache_kib;
    e->cs = cs;
    e->ss = ss;
    e->store = cc_store_new(0);
    start(e);
    return e;
}

static void start(struct engine *e)
{
    char err[512] = "";
    if (cc_machine_new(&e->cfg, e->store, &e->m, err, sizeof err) != CC_OK)
        fatal("cc_machine_new", err);
    e->next_table = 0;
    uint32_t page = 0;
    for (unsigned r = 0; r < NREGIONS; r++)
        for (uint32_t k = 0; k < regions[r].pages; k++, page++)
            map(e, regions[r].va + k * 4096, GPA_IMAGE + page * 4096, true, regions[r].write, regions[r].exec);
    for (uint32_t k = 0; k < 5; k++)
        map(e, SYSTEM_VA + k * 4096, GPA_SYSTEM + k * 4096, false, true, true);

    /* Linux's layout of the GDT, which LAR, LSL, VERR and VERW see natively */
    uint64_t tss = SYSTEM_VA + TSS_OFF;
    uint64_t gdt[16] = { 0 };
    gdt[1] = 0x00cf9b000000ffff;                /* kernel code 32 */
    gdt[2] = 0x00af9b000000ffff;                /* kernel code 64 */
    gdt[3] = 0x00cf93000000ffff;                /* kernel data */
    gdt[4] = 0x00cffb000000ffff;                /* user code 32 */
    gdt[5] = 0x00cff3000000ffff;                /* user data */
    gdt[6] = 0x00affb000000ffff;                /* user code 64 */
    gdt[8] = 0x0000890000000000 | 0x67 | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56;
    gdt[9] = tss >> 32;
    phys_write(e, GPA_SYSTEM + GDT_OFF, gdt, sizeof gdt);
    uint8_t tss_image[104] = { 0 };
    uint64_t rsp0 = SYSTEM_VA + STACK_OFF;
    memcpy(tss_image + 4, &rsp0, 8);
    tss_image[102] = 104;                       /* no I/O bitmap */
    phys_write(e, GPA_SYSTEM + TSS_OFF, tss_image, sizeof tss_image);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t handler = SYSTEM_VA + STUB_OFF + v * 16;
        unsigned dpl = v == 3 || v == 4 ? 3 : 0;
        uint64_t gate[2] = { (handler & 0xffff) | 0x10ull << 16 | (0x8eull | dpl << 5) << 40 | (handler >> 16 & 0xffff) << 48,
                             handler >> 32 };
        uint8_t stub[16];
        memset(stub, 0xf4, sizeof stub);
        phys_write(e, GPA_SYSTEM + IDT_OFF + v * 16, gate, 16);
        phys_write(e, GPA_SYSTEM + STUB_OFF + v * 16, stub, 16);
    }

    cc_get_regs(e->m, &e->base);
    cc_regs *b = &e->base;
    b->cr0 = 0x80050033;                        /* PG AM WP NE ET MP PE */
    b->cr3 = GPA_TABLES;
    b->cr4 = 0x106a0 | 0x100000 | 0x200000;     /* PAE PGE OSFXSR OSXMMEXCPT FSGSBASE SMEP SMAP */
    b->efer = 0xd01;                            /* SCE LME LMA NXE */
    b->seg[0] = b->seg[3] = b->seg[4] = b->seg[5] = segment(0, 0x10000);
    b->seg[1] = segment(e->cs, 0xa0fb);
    b->seg[2] = segment(e->ss, 0xc0f3);
    b->ldtr = segment(0, 0x10082);
    b->tr = (cc_segment){ .base = tss, .limit = 0x67, .attr = 0x8b, .selector = 0x40 };
    b->gdtr = (cc_dtable){ .base = SYSTEM_VA + GDT_OFF, .limit = sizeof gdt - 1 };
    b->idtr = (cc_dtable){ .base = SYSTEM_VA + IDT_OFF, .limit = 4095 };
}

void engine_free(struct engine *e)
{
    cc_machine_free(e->m);
    cc_store_free(e->store);
    free(e);
}

void engine_image(struct engine *e, const uint8_t *image)
{
    memcpy(e->image, image, IMAGE_SIZE);
    phys_write(e, GPA_IMAGE, image, IMAGE_SIZE);
}

void engine_stepping(struct engine *e, uint32_t n) { e->stepping = n; }
uint64_t engine_retired(const struct engine *e) { return e->retired; }

static void load_fx(cc_regs *r, const uint8_t *fx)
{
    memcpy(&r->fcw, fx, 2);
    memcpy(&r->fsw, fx + 2, 2);
    unsigned top = (r->fsw >> 11) & 7;
    uint16_t ftw = 0;
    for (unsigned i = 0; i < 8; i++) {          /* physical register i is ST((i - top) mod 8) */
        const uint8_t *st = fx + 32 + ((i - top) & 7) * 16;
        memset(&r->st[i], 0, sizeof r->st[i]);
        memcpy(&r->st[i].mant, st, 8);
        memcpy(&r->st[i].sexp, st + 8, 2);
        unsigned tag = 3;
        if (fx[4] >> i & 1) {
            unsigned exp = r->st[i].sexp & 0x7fff;
            tag = exp == 0x7fff ? 2 : exp == 0 ? (r->st[i].mant ? 2 : 1) : r->st[i].mant >> 63 ? 0 : 2;
        }
        ftw |= (uint16_t)(tag << (i * 2));
    }
    r->ftw = ftw;
    memcpy(&r->mxcsr, fx + 24, 4);
    memcpy(r->xmm, fx + 160, 256);
}

static void save_fx(const cc_regs *r, uint8_t *fx)
{
    memset(fx, 0, 512);
    memcpy(fx, &r->fcw, 2);
    memcpy(fx + 2, &r->fsw, 2);
    unsigned top = (r->fsw >> 11) & 7;
    for (unsigned i = 0; i < 8; i++) {
        if ((r->ftw >> (i * 2) & 3) != 3)
            fx[4] |= (uint8_t)(1u << i);
        uint8_t *st = fx + 32 + ((i - top) & 7) * 16;
        memcpy(st, &r->st[i].mant, 8);
        memcpy(st + 8, &r->st[i].sexp, 2);
    }
    memcpy(fx + 24, &r->mxcsr, 4);
    memcpy(fx + 160, r->xmm, 256);
}

static void collect_memory(struct engine *e, struct case_out *out)
{
    phys_read(e, GPA_IMAGE, e->scratch, IMAGE_SIZE);
    if (memcmp(e->scratch, e->image, IMAGE_SIZE) == 0)
        return;
    for (uint32_t i = 0; i < IMAGE_SIZE / 8; i++) {
        uint64_t now, was;
        memcpy(&now, e->scratch + i * 8, 8);
        memcpy(&was, e->image + i * 8, 8);
        if (now == was)
            continue;
        note_granule(out, i, now);
        phys_write(e, GPA_IMAGE + i * 8, &was, 8);
    }
}

void engine_run(struct engine *e, const struct case_in *in, struct case_out *out)
{
    static const uint8_t filler[MAX_CODE] = { [0 ... MAX_CODE - 1] = 0xcc };
    phys_write(e, GPA_IMAGE + in->code_off, in->code, in->code_len);
    memcpy(e->image + in->code_off, in->code, in->code_len);
    cc_regs r = e->base;
    memcpy(r.gpr, in->gpr, sizeof r.gpr);
    r.rip = in->rip;
    r.rflags = in->rflags;
    r.seg[4].base = in->fs_base;
    r.seg[5].base = in->gs_base;
    load_fx(&r, in->fx);
    if (cc_set_regs(e->m, &r) != CC_OK)
        fatal("cc_set_regs", cc_error(e->m));
    uint64_t began = cc_instret(e->m);
    cc_until until = { .instret = began + BUDGET, .vns = UINT64_MAX, .exits = UINT64_MAX };
    cc_stop stop;
    do {
        if (e->stepping)
            until.instret = cc_instret(e->m) + e->stepping;
        if (cc_run(e->m, &until, &stop) != CC_OK)
            fatal("cc_run", cc_error(e->m));
    } while (stop.kind == CC_STOP_INSTRET && cc_instret(e->m) < began + BUDGET);
    e->retired = cc_instret(e->m) - began - (stop.kind == CC_STOP_HALTED);  /* not the HLT */
    cc_get_regs(e->m, &r);
    memcpy(out->gpr, r.gpr, sizeof out->gpr);
    if (stop.kind == CC_STOP_HALTED) {
        uint64_t stub = r.rip - 1 - (SYSTEM_VA + STUB_OFF), frame[6];
        out->vector = (uint32_t)(stub / 16);
        bool code = out->vector == 8 || (out->vector >= 10 && out->vector <= 14) || out->vector == 17 || out->vector == 21;
        memset(frame, 0, sizeof frame);
        phys_read(e, GPA_SYSTEM + (r.gpr[4] - SYSTEM_VA), frame + !code, code ? 48 : 40);
        out->error = (uint32_t)frame[0];
        out->rip = frame[1];
        out->sel[1] = (uint16_t)frame[2];
        out->rflags = frame[3];
        out->gpr[4] = frame[4];
        out->sel[2] = (uint16_t)frame[5];
        out->cr2 = r.cr2;
    } else {
        out->vector = stop.kind == CC_STOP_INSTRET ? VECTOR_BUDGET : 0x200u + (uint32_t)stop.kind;
        out->error = 0;
        out->rip = r.rip;
        out->rflags = r.rflags;
        out->sel[1] = r.seg[1].selector;
        out->sel[2] = r.seg[2].selector;
        out->cr2 = r.cr2;
    }
    bool dead = stop.kind != CC_STOP_HALTED && stop.kind != CC_STOP_INSTRET;
    out->sel[0] = r.seg[0].selector;
    for (int i = 3; i < 6; i++)
        out->sel[i] = r.seg[i].selector;
    out->fs_base = r.seg[4].base;
    out->gs_base = r.seg[5].base;
    save_fx(&r, out->fx);
    collect_memory(e, out);
    phys_write(e, GPA_IMAGE + in->code_off, filler, in->code_len);
    memcpy(e->image + in->code_off, filler, in->code_len);
    if (dead) {                 /* triple fault or worse: it would be the result of every later case */
        cc_machine_free(e->m);
        start(e);
        phys_write(e, GPA_IMAGE, e->image, IMAGE_SIZE);
    }
}
