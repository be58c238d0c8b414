/*
 * snapshot.c: taking, restoring and freeing snapshots of a machine.
 *
 * A snapshot is a page table and a few pages with the rest of the state (registers, devices, time, counters).  The
 * machine remembers the ones that it was last equal to and which pages were written since, so both taking and
 * restoring cost what differs.
 */
#include "pages.h"
#include "watch.h"

#include <stdlib.h>

/* ---- the state besides RAM --------------------------------------------------------------------------------------- */
/* The counters that are the same in every run; the others are about this host and stay with the machine. */
static void stats_copy(cc_stats *to, const cc_stats *from)
{
    to->exits = from->exits;
    to->io_reads = from->io_reads;
    to->io_writes = from->io_writes;
    to->mmio_accesses = from->mmio_accesses;
    to->halts = from->halts;
    to->interrupts = from->interrupts;
    to->exceptions = from->exceptions;
}

void cc_state_save(cc_machine *m, struct cc_state *st)
{
    memset(&st->regs, 0, sizeof st->regs);
    m->ops->get_regs(m, &st->regs);
    st->instret = m->instret;
    st->instret_base = m->instret_base;
    st->vns_base = m->vns_base;
    memset(&st->stats, 0, sizeof st->stats);
    stats_copy(&st->stats, &m->stats);
    memcpy(&st->dev, &m->dev, sizeof st->dev);
}

static int state_load(cc_machine *m, const struct cc_state *st)
{
    m->instret = st->instret;
    m->instret_base = st->instret_base;
    m->vns_base = st->vns_base;
    stats_copy(&m->stats, &st->stats);
    memcpy(&m->dev, &st->dev, sizeof m->dev);
    m->stop_kind = CC_STOP_NONE;
    m->stop_detail = 0;
    m->kick |= CC_KICK_RESCHED;
    cc_watches_moved(m);
    return m->ops->set_regs(m, &st->regs);
}

/* ---- dirty pages ------------------------------------------------------------------------------------------------- */
/* RAM is equal to the machine's page table again.  Hashes are not known for that: dirty_digest stays. */
static void set_clean(cc_machine *m)
{
    const uint32_t n = m->dirty_snap.n;
    for (uint32_t i = 0; i < n; i++)
        m->page_flags[m->dirty_snap.page[i]] &= (uint8_t)~CC_PF_DIRTY_SNAP;
    m->dirty_snap.n = 0;
    if (n)
        m->ops->protect_writes(m);
}

uint64_t cc_dirty_pages(cc_machine *m)
{
    m->ops->sync_dirty(m);
    return m->dirty_snap.n;
}

/* ---- take -------------------------------------------------------------------------------------------------------- */
static int state_keep(cc_machine *m, struct cc_batch *b, cc_snapshot *s)
{
    struct cc_pagemap *pm = m->pagemap;
    cc_state_save(m, &pm->image.state);
    for (unsigned i = 0; i < CC_STATE_PAGES; i++) {
        const uint8_t *src = pm->image.page[i];
        if (cc_page_equal(b->store, pm->state[i], src)) {
            s->state[i] = pm->state[i];
            cc_ref(b->store, CC_SLAB_PAGE, s->state[i]);
            continue;
        }
        const int err = cc_page_new(b, pm->state[i], src, &s->state[i]);
        if (err)
            return err;
    }
    return CC_OK;
}

static void snapshot_drop(struct cc_batch *b, cc_snapshot *s)
{
    cc_tree_drop(b, s->root, s->levels);
    for (unsigned i = 0; i < CC_STATE_PAGES; i++)
        cc_page_drop(b, s->state[i]);
    cc_uncharge(b, sizeof *s);
    free(s);
}

static int take(cc_machine *m, struct cc_batch *b, cc_snapshot **out)
{
    struct cc_pagemap *pm = m->pagemap;
    int err = cc_charge(b, sizeof(cc_snapshot));
    if (err)
        return err;
    cc_snapshot *s = calloc(1, sizeof *s);
    if (!s) {
        cc_uncharge(b, sizeof *s);
        return CC_ENOMEM;
    }
    s->store = m->store;
    s->levels = pm->levels;
    err = cc_tree_update(m, b, pm->root, &m->dirty_snap, &s->root);
    if (err)
        s->root = 0;
    else
        err = state_keep(m, b, s);
    if (err) {
        snapshot_drop(b, s);
        return err;
    }
    s->instret = m->instret;
    s->vns = cc_now(m);
    s->npages = m->npages;
    s->cfg = m->cfg;
    *out = s;
    return CC_OK;
}

/* The machine is now equal to s: refer to its pages instead of the previous ones'. */
static void rebase(cc_machine *m, struct cc_batch *b, const cc_snapshot *s)
{
    struct cc_pagemap *pm = m->pagemap;
    cc_ref(b->store, CC_SLAB_NODE, s->root);
    cc_tree_drop(b, pm->root, pm->levels);
    pm->root = s->root;
    for (unsigned i = 0; i < CC_STATE_PAGES; i++) {
        cc_ref(b->store, CC_SLAB_PAGE, s->state[i]);
        cc_page_drop(b, pm->state[i]);
        pm->state[i] = s->state[i];
    }
}

static double mib(uint64_t bytes)
{
    return (double)bytes / 1048576;
}

static int fail_take(cc_machine *m, int err)
{
    const cc_store *s = m->store;
    const double held = mib(cc_store_bytes(s));
    const unsigned long long n = atomic_load_explicit(&s->snapshots, memory_order_relaxed);
    if (err == CC_EBUDGET)
        return cc_fail(m, err, "no room for the snapshot in the page store's budget of %.1f MiB: %.1f MiB are held for "
                       "%llu snapshots; free some of them or raise the budget", mib(cc_store_budget(s)), held, n);
    return cc_fail(m, err, "no host memory for the snapshot: the page store holds %.1f MiB for %llu snapshots; free "
                   "some of them", held, n);
}

int cc_snapshot_take(cc_machine *m, cc_snapshot **out)
{
    *out = NULL;
    m->ops->sync_dirty(m);
    cc_pagelist_sort(m, &m->dirty_snap);
    struct cc_batch b;
    cc_batch_begin(&b, m->store, m->dirty_snap.n);
    const int err = take(m, &b, out);
    if (!err)
        rebase(m, &b, *out);
    cc_batch_end(&b);
    if (!err) {
        atomic_fetch_add_explicit(&m->store->snapshots, 1, memory_order_relaxed);
        set_clean(m);
        return CC_OK;
    }
    return fail_take(m, err);          /* nothing has changed */
}

/* ---- restore ----------------------------------------------------------------------------------------------------- */
/* Bring a page of RAM to the contents of `to`. */
static void page_restore(cc_machine *m, uint64_t page, cc_pageh to)
{
    cc_store *s = m->store;
    uint8_t *ram = m->ram + (page << CC_PAGE_SHIFT);
    if (m->page_flags[page] & CC_PF_LENT)
        cc_page_unlend(m, page);
    cc_digest_restored(m, page, to);
    if (!(m->page_flags[page] & CC_PF_WATCHED)) {
        cc_page_read(s, to, ram);
        return;
    }
    /* Telling the vCPU costs it decoded code or translations: look first. */
    if (cc_page_equal(s, to, ram))
        return;
    cc_page_read(s, to, ram);
    m->ops->page_changed(m, page);
}

/* For pages that differ between the trees: those also written since are restored with the dirty ones. */
static void clean_page_restore(cc_machine *m, uint64_t page, cc_pageh to)
{
    if (!(m->page_flags[page] & CC_PF_DIRTY_SNAP))
        page_restore(m, page, to);
}

/* Looking up waits for memory: for several pages together, before the first is restored. */
#define AHEAD 16u
static void dirty_pages_restore(cc_machine *m, const cc_snapshot *s)
{
    const uint32_t *page = m->dirty_snap.page;
    cc_pageh to[AHEAD];
    for (uint32_t i = 0, n; i < m->dirty_snap.n; i += n) {
        n = m->dirty_snap.n - i < AHEAD ? m->dirty_snap.n - i : AHEAD;
        for (uint32_t j = 0; j < n; j++) {
            __builtin_prefetch(&m->pagemap->hash[page[i + j]], 1);
            to[j] = cc_tree_find(s->store, s->root, s->levels, page[i + j]);
            __builtin_prefetch(cc_page(s->store, to[j]));
        }
        for (uint32_t j = 0; j < n; j++)
            page_restore(m, page[i + j], to[j]);
    }
}

/* What makes a machine another one; NULL if nothing does.  Host-side cache sizes do not matter. */
static const char *config_differs(const cc_config *a, const cc_config *b)
{
    return a->ram_bytes != b->ram_bytes ? "memory size"
         : a->seed != b->seed ? "seed"
         : a->ns_per_insn != b->ns_per_insn ? "nanoseconds per instruction"
         : a->tsc_khz != b->tsc_khz ? "TSC frequency"
         : a->rtc_epoch_s != b->rtc_epoch_s ? "clock date"
         : a->cpu_profile != b->cpu_profile ? "CPU profile"
         : a->vcpu != b->vcpu ? "vCPU kind"
         : a->machine_id != b->machine_id ? "machine number"
         : a->devices != b->devices ? "set of devices"
         : a->disk_bytes != b->disk_bytes ? "disk size"
         : NULL;
}

int cc_snapshot_check(cc_machine *m, const cc_snapshot *s)
{
    if (s->store != m->store)
        return cc_fail(m, CC_EINVAL, "the snapshot is in another page store than the machine");
    const char *differs = config_differs(&m->cfg, &s->cfg);
    if (differs)
        return cc_fail(m, CC_EINVAL, "the snapshot is of a machine with another %s; restore it on one with the same "
                       "configuration", differs);
    return CC_OK;
}

int cc_snapshot_restore(cc_machine *m, cc_snapshot *s)
{
    struct cc_pagemap *pm = m->pagemap;
    const int rc = cc_snapshot_check(m, s);
    if (rc)
        return rc;
    m->ops->sync_dirty(m);
    dirty_pages_restore(m, s);
    cc_tree_diff(m, pm->root, s->root, clean_page_restore);
    cc_digest_compact(m);
    set_clean(m);
    struct cc_batch b;
    cc_batch_begin(&b, s->store, 0);
    rebase(m, &b, s);
    cc_batch_end(&b);
    for (unsigned i = 0; i < CC_STATE_PAGES; i++)
        cc_page_read(s->store, s->state[i], pm->image.page[i]);
    /* Nothing above needs memory, so nothing can fail until here; a vCPU takes back the registers that it gave. */
    return state_load(m, &pm->image.state);
}

/* A page of RAM as a device would write it: it stays dirty, and the rest of the machine is not the snapshot's. */
static void ram_page_write(cc_machine *m, uint64_t page, cc_pageh to)
{
    uint8_t *ram = m->ram + (page << CC_PAGE_SHIFT);
    if (page >= m->cfg.ram_bytes >> CC_PAGE_SHIFT || cc_page_equal(m->store, to, ram))
        return;
    cc_ram_will_change(m, page << CC_PAGE_SHIFT, CC_PAGE_SIZE);
    cc_page_read(m->store, to, ram);
    cc_watch_device(m, CC_DEVICE_RESTART);
    cc_watch_dma(m, page << CC_PAGE_SHIFT, CC_PAGE_SIZE, CC_WATCH_WRITE, 0);
}

static void clean_ram_page_write(cc_machine *m, uint64_t page, cc_pageh to)
{
    if (!(m->page_flags[page] & CC_PF_DIRTY_SNAP))
        ram_page_write(m, page, to);
}

void cc_snapshot_restore_ram(cc_machine *m, const cc_snapshot *s, cc_regs *regs)
{
    struct cc_pagemap *pm = m->pagemap;
    m->ops->sync_dirty(m);
    const uint32_t dirty = m->dirty_snap.n;
    cc_tree_diff(m, pm->root, s->root, clean_ram_page_write);
    for (uint32_t i = 0; i < dirty; i++) {
        const uint32_t page = m->dirty_snap.page[i];
        ram_page_write(m, page, cc_tree_find(s->store, s->root, s->levels, page));
    }
    for (unsigned i = 0; i < CC_STATE_PAGES; i++)
        cc_page_read(s->store, s->state[i], pm->image.page[i]);
    *regs = pm->image.state.regs;
}

void cc_snapshot_free(cc_snapshot *s)
{
    if (!s)
        return;
    struct cc_batch b;
    cc_batch_begin(&b, s->store, 0);
    atomic_fetch_sub_explicit(&s->store->snapshots, 1, memory_order_relaxed);
    cc_store *store = s->store;
    snapshot_drop(&b, s);
    cc_batch_end(&b);
    atomic_fetch_add_explicit(&store->freed, 1, memory_order_release);
}

/* ---- what a snapshot says of itself ------------------------------------------------------------------------------ */
uint64_t cc_snapshot_instret(const cc_snapshot *s)
{
    return s->instret;
}

uint64_t cc_snapshot_vns(const cc_snapshot *s)
{
    return s->vns;
}

uint64_t cc_snapshot_exclusive_bytes(const cc_snapshot *s)
{
    uint64_t bytes = sizeof *s + cc_tree_exclusive(s->store, s->root, s->levels);
    for (unsigned i = 0; i < CC_STATE_PAGES; i++)
        bytes += cc_page_exclusive(s->store, s->state[i]);
    return bytes;
}

void cc_snapshot_digest(const cc_snapshot *s, cc_digest *out)
{
    union cc_state_image image;
    for (unsigned i = 0; i < CC_STATE_PAGES; i++)
        cc_page_read(s->store, s->state[i], image.page[i]);
    *out = cc_digest_combine(cc_tree_sum(s->store, s->root, s->levels), s->npages, s->vns, &image.state);
}
