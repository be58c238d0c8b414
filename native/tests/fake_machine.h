/*
 * fake_machine.h: a machine without devices whose vCPU only writes memory, for the tests and the benchmark of the page
 * store.  Its write tracking is strict: what a real vCPU may skip, it skips, so a missing call shows as wrong contents.
 */
#ifndef CC_FAKE_MACHINE_H
#define CC_FAKE_MACHINE_H

#include "../pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CHECK(x)                                                                                                \
    do {                                                                                                        \
        if (!(x)) {                                                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x);                                   \
            abort();                                                                                            \
        }                                                                                                       \
    } while (0)

/* splitmix64: every run of a test is the same. */
static inline uint64_t rnd(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

struct fake_cpu {
    cc_regs regs;
    bool logged;           /* writes are found by sync_dirty, as KVM's are; otherwise by a write tag, as soft's are */
    uint8_t *writable;     /* write tags: the page may be written without telling anybody */
    uint8_t *log;          /* pages written, not yet collected */
    uint8_t **watch;       /* what was decoded from a watched page: its contents then */
    uint64_t changed;      /* calls of page_changed */
    int set_regs_error;
};

static void fake_get_regs(cc_machine *m, cc_regs *r)
{
    *r = ((struct fake_cpu *)m->vcpu)->regs;
}

static int fake_set_regs(cc_machine *m, const cc_regs *r)
{
    struct fake_cpu *c = m->vcpu;
    if (c->set_regs_error)
        return cc_fail(m, c->set_regs_error, "refused");
    c->regs = *r;
    return CC_OK;
}

static void fake_protect_writes(cc_machine *m)
{
    memset(((struct fake_cpu *)m->vcpu)->writable, 0, m->npages);
}

static void fake_sync_dirty(cc_machine *m)
{
    struct fake_cpu *c = m->vcpu;
    if (!c->logged)
        return;
    for (uint64_t p = 0; p < m->npages; p++)
        if (c->log[p])
            cc_page_dirty(m, p);
    memset(c->log, 0, m->npages);
}

static inline void fake_unwatch(cc_machine *m, uint64_t page)
{
    struct fake_cpu *c = m->vcpu;
    free(c->watch[page]);
    c->watch[page] = NULL;
    m->page_flags[page] &= (uint8_t)~CC_PF_WATCHED;
}

static void fake_page_changed(cc_machine *m, uint64_t page)
{
    struct fake_cpu *c = m->vcpu;
    CHECK(m->page_flags[page] & CC_PF_WATCHED);
    c->changed++;
    fake_unwatch(m, page);
}

static const struct cc_vcpu_ops fake_ops = {
    .name = "fake", .get_regs = fake_get_regs, .set_regs = fake_set_regs, .protect_writes = fake_protect_writes,
    .sync_dirty = fake_sync_dirty, .page_changed = fake_page_changed, .tells_before_write = true,
};

static const struct cc_vcpu_ops fake_logged_ops = {
    .name = "fake, logged", .get_regs = fake_get_regs, .set_regs = fake_set_regs,
    .protect_writes = fake_protect_writes, .sync_dirty = fake_sync_dirty, .page_changed = fake_page_changed,
};

static inline cc_machine *fake_new(cc_store *store, uint64_t npages, bool logged)
{
    cc_machine *m = calloc(1, sizeof *m);
    struct fake_cpu *c = calloc(1, sizeof *c);
    CHECK(m && c);
    m->cfg = (cc_config){.ram_bytes = npages * CC_PAGE_SIZE, .ns_per_insn = 1, .tsc_khz = 1000000, .cpu_profile = 1};
    m->ops = logged ? &fake_logged_ops : &fake_ops;
    m->vcpu = c;
    m->store = store;
    m->npages = npages;
    m->ram = mmap(NULL, m->cfg.ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(m->ram != MAP_FAILED);
    m->page_flags = calloc(npages, 1);
    m->dirty_snap.page = calloc(npages, sizeof(uint32_t));
    m->dirty_digest.page = calloc(npages, sizeof(uint32_t));
    c->logged = logged;
    c->writable = calloc(npages, 1);
    c->log = calloc(npages, 1);
    c->watch = calloc(npages, sizeof *c->watch);
    CHECK(m->page_flags && m->dirty_snap.page && m->dirty_digest.page && c->writable && c->log && c->watch);
    CHECK(cc_pagemap_new(m) == CC_OK);
    return m;
}

static inline void fake_free(cc_machine *m)
{
    struct fake_cpu *c = m->vcpu;
    cc_pagemap_free(m);
    for (uint64_t p = 0; p < m->npages; p++)
        free(c->watch[p]);
    free(c->watch);
    free(c->writable);
    free(c->log);
    free(c);
    free(m->page_flags);
    free(m->dirty_snap.page);
    free(m->dirty_digest.page);
    munmap(m->ram, m->cfg.ram_bytes);
    free(m);
}

/* The page, about to be written by the guest. */
static inline uint8_t *fake_write(cc_machine *m, uint64_t page)
{
    struct fake_cpu *c = m->vcpu;
    if (m->page_flags[page] & CC_PF_WATCHED)
        fake_unwatch(m, page);
    if (c->logged) {
        c->log[page] = 1;
    } else if (!c->writable[page]) {
        cc_page_dirty(m, page);
        c->writable[page] = 1;
    }
    return m->ram + (page << CC_PAGE_SHIFT);
}

/* The guest executes from the page, or uses it as a page table. */
static inline void fake_watch(cc_machine *m, uint64_t page, uint8_t flag)
{
    struct fake_cpu *c = m->vcpu;
    if (c->watch[page])
        return;
    c->watch[page] = malloc(CC_PAGE_SIZE);
    CHECK(c->watch[page]);
    memcpy(c->watch[page], m->ram + (page << CC_PAGE_SHIFT), CC_PAGE_SIZE);
    m->page_flags[page] |= flag;
    c->writable[page] = 0;
}

/* Nothing decoded may be stale. */
static inline void fake_check_watches(const cc_machine *m)
{
    const struct fake_cpu *c = m->vcpu;
    for (uint64_t p = 0; p < m->npages; p++) {
        CHECK(!c->watch[p] == !(m->page_flags[p] & CC_PF_WATCHED));
        CHECK(!c->watch[p] || !memcmp(c->watch[p], m->ram + (p << CC_PAGE_SHIFT), CC_PAGE_SIZE));
    }
}

#endif
