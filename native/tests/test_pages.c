/*
 * test_pages.c: the page store, snapshots and the incremental digest against a model that copies everything.
 *
 * With no argument: the default run.  With a number: that many times as many random steps.
 */
#include "fake_machine.h"

#define SNAPSHOTS 24
#define MACHINES 2

static uint64_t scale = 1;

/* ---- the model: full copies -------------------------------------------------------------------------------------- */
struct model {
    uint8_t *ram;
    cc_regs regs;
    struct cc_devstate dev;
    uint64_t instret, instret_base, vns_base;
    cc_stats stats;
};

struct saved {
    cc_snapshot *snap;
    struct model model;
    cc_digest digest;
};

static void model_save(const cc_machine *m, struct model *c)
{
    c->ram = malloc(m->cfg.ram_bytes);
    CHECK(c->ram);
    memcpy(c->ram, m->ram, m->cfg.ram_bytes);
    c->regs = ((struct fake_cpu *)m->vcpu)->regs;
    c->dev = m->dev;
    c->instret = m->instret;
    c->instret_base = m->instret_base;
    c->vns_base = m->vns_base;
    c->stats = m->stats;
}

static void model_check(const cc_machine *m, const struct model *c)
{
    CHECK(!memcmp(m->ram, c->ram, m->cfg.ram_bytes));
    CHECK(!memcmp(&((struct fake_cpu *)m->vcpu)->regs, &c->regs, sizeof c->regs));
    CHECK(!memcmp(&m->dev, &c->dev, sizeof c->dev));
    CHECK(m->instret == c->instret && m->instret_base == c->instret_base && m->vns_base == c->vns_base);
    CHECK(m->stats.exits == c->stats.exits && m->stats.io_reads == c->stats.io_reads);
    CHECK(m->stats.io_writes == c->stats.io_writes && m->stats.mmio_accesses == c->stats.mmio_accesses);
    CHECK(m->stats.halts == c->stats.halts && m->stats.interrupts == c->stats.interrupts);
    CHECK(m->stats.exceptions == c->stats.exceptions);
}

static bool same(cc_digest a, cc_digest b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static cc_digest digest_checked(cc_machine *m)
{
    cc_digest now, scratch;
    cc_digest_now(m, &now);
    cc_digest_from_scratch(m, &scratch);
    CHECK(same(now, scratch) && m->dirty_digest.n == 0);
    return now;
}

/* The pages whose hash is not known are listed, once each. */
static void unhashed_check(const cc_machine *m)
{
    uint64_t marked = 0;
    for (uint64_t page = 0; page < m->npages; page++)
        marked += (m->page_flags[page] & CC_PF_DIRTY_DIGEST) != 0;
    CHECK(marked == m->dirty_digest.n);
    for (uint32_t i = 0; i < m->dirty_digest.n; i++)
        CHECK(m->page_flags[m->dirty_digest.page[i]] & CC_PF_DIRTY_DIGEST);
}

/* ---- the store, looked at from outside: what the roots reach, how often, and what that costs --------------------- */
struct census {
    const cc_store *s;
    uint32_t *node, *page;             /* references found, by handle */
    uint64_t bytes;
};

#define CENSUS_MAX (1u << 20)

static void census_page(struct census *c, cc_pageh h)
{
    CHECK(h < CENSUS_MAX);
    if (!h || c->page[h]++)
        return;
    const struct cc_page *p = cc_page(c->s, h);
    c->bytes += cc_object_bytes(c->s, CC_SLAB_PAGE) + cc_object_bytes(c->s, cc_page_slab(p));
    if (cc_page_slab(p) == CC_SLAB_FRAME)
        return;
    if (cc_page_slab(p) == CC_SLAB_LENT) {     /* with a frame in reserve, and a reference to what it replaced */
        const struct cc_lent *l = cc_item(c->s, CC_SLAB_LENT, p->loc);
        c->bytes += cc_object_bytes(c->s, CC_SLAB_FRAME);
        CHECK(!l->like || cc_page_slab(cc_page(c->s, l->like)) != CC_SLAB_LENT);
        census_page(c, l->like);
        return;
    }
    cc_pageh base;                     /* a difference begins with its base, which is kept whole */
    memcpy(&base, cc_item(c->s, cc_page_slab(p), p->loc), sizeof base);
    CHECK(!base || cc_page_slab(cc_page(c->s, base)) == CC_SLAB_FRAME);
    census_page(c, base);
}

/* pruned: an empty subtree has no node; in a machine's own tree there may be some until the next snapshot. */
static void census_tree(struct census *c, cc_nodeh h, uint32_t levels, bool pruned)
{
    CHECK(h < CENSUS_MAX);
    if (!h || c->node[h]++)
        return;
    c->bytes += cc_object_bytes(c->s, CC_SLAB_NODE);
    uint32_t any = 0;
    for (unsigned i = 0; i < CC_NODE_FAN; i++) {
        const uint32_t child = cc_node(c->s, h)[i];
        any |= child;
        if (levels > 1)
            census_tree(c, child, levels - 1, pruned);
        else
            census_page(c, child);
    }
    CHECK(any || !pruned);
}

/* Every count is the number of references, and the bytes held are those of what is reached: nothing leaks. */
static void census_check(const cc_store *s, cc_machine *const *m, unsigned machines, const struct saved *v, unsigned n)
{
    struct census c = {s, calloc(CENSUS_MAX, sizeof(uint32_t)), calloc(CENSUS_MAX, sizeof(uint32_t)), 0};
    CHECK(c.node && c.page);
    for (unsigned i = 0; i < n; i++) {
        if (!v[i].snap)
            continue;
        c.bytes += sizeof *v[i].snap;
        census_tree(&c, v[i].snap->root, v[i].snap->levels, true);
        for (unsigned k = 0; k < CC_STATE_PAGES; k++)
            census_page(&c, v[i].snap->state[k]);
    }
    for (unsigned i = 0; i < machines; i++) {
        census_tree(&c, m[i]->pagemap->root, m[i]->pagemap->levels, false);
        for (unsigned k = 0; k < CC_STATE_PAGES; k++)
            census_page(&c, m[i]->pagemap->state[k]);
    }
    CHECK(c.bytes == cc_store_bytes(s));
    for (uint32_t h = 0; h < CENSUS_MAX; h++) {
        CHECK(!c.node[h] || c.node[h] == *cc_refs(s, CC_SLAB_NODE, h));
        CHECK(!c.page[h] || c.page[h] == *cc_refs(s, CC_SLAB_PAGE, h));
    }
    free(c.node);
    free(c.page);
}

/* ---- a guest that does everything -------------------------------------------------------------------------------- */
/* Where guests write: spread, clustered, and one of few pages again and again. */
static uint64_t pick_page(const cc_machine *m, uint64_t *r)
{
    switch (rnd(r) % 4) {
    case 0: return rnd(r) % m->npages;
    case 1: return (m->npages - 1 - rnd(r) % 20) % m->npages;
    case 2: return (64 + rnd(r) % 40) % m->npages;
    default: return rnd(r) % 7;
    }
}

static void scribble(cc_machine *m, uint64_t *r)
{
    const uint64_t page = pick_page(m, r);
    uint8_t *p = fake_write(m, page), old;
    switch (rnd(r) % 8) {
    case 0:                            /* all of it */
        for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8)
            memcpy(p + i, &(uint64_t){rnd(r)}, 8);
        break;
    case 1:                            /* back to zeros */
        memset(p, 0, CC_PAGE_SIZE);
        break;
    case 2:                            /* written, but the same in the end */
        old = *p;
        *p = (uint8_t)~old;
        *p = old;
        break;
    case 3:                            /* about as many words as are still kept as a difference */
        for (unsigned n = 100 + (unsigned)(rnd(r) % 30); n; n--)
            memcpy(p + rnd(r) % 512 * 8, &(uint64_t){rnd(r)}, 8);
        break;
    case 4:                            /* what another page has */
        memcpy(p, m->ram + (pick_page(m, r) << CC_PAGE_SHIFT), CC_PAGE_SIZE);
        break;
    default:                           /* a few bytes */
        for (unsigned n = 1 + (unsigned)(rnd(r) % 6); n; n--)
            p[rnd(r) % CC_PAGE_SIZE] = (uint8_t)rnd(r);
    }
}

static void live(cc_machine *m, uint64_t *r)
{
    for (unsigned n = (unsigned)(rnd(r) % 24); n; n--) {
        scribble(m, r);
        if (rnd(r) % 4 == 0)
            fake_watch(m, pick_page(m, r), rnd(r) % 2 ? CC_PF_CODE : CC_PF_TABLE);
    }
    if (rnd(r) % 16 == 0)
        for (unsigned n = 600; n; n--)
            scribble(m, r);
    cc_regs *g = &((struct fake_cpu *)m->vcpu)->regs;
    g->gpr[rnd(r) % 16] = rnd(r);
    g->rip += rnd(r) % 64;
    m->dev.console_tail[rnd(r) % CC_CONSOLE_TAIL] = (uint8_t)rnd(r);
    m->instret += rnd(r) % 1000;
    if (rnd(r) % 8 == 0) {
        m->vns_base = cc_now(m) + rnd(r) % 1000;
        m->instret_base = m->instret;
    }
    m->stats.exits += rnd(r) % 3;
    m->stats.exceptions += rnd(r) % 2;
    m->stats.tlb_misses++;
}

static void saved_free(struct saved *v)
{
    const uint64_t before = cc_store_bytes(v->snap->store);
    cc_digest d;
    cc_snapshot_digest(v->snap, &d);
    CHECK(same(d, v->digest));
    const uint64_t exclusive = cc_snapshot_exclusive_bytes(v->snap);
    cc_store *s = v->snap->store;
    cc_snapshot_free(v->snap);
    CHECK(before - cc_store_bytes(s) == exclusive);
    free(v->model.ram);
    *v = (struct saved){0};
}

/* Nobody need ask for a digest: hashes are computed when one does, of the machine before or after, or of the snapshot. */
static void saved_take(cc_machine *m, struct saved *v, uint64_t *r)
{
    const uint64_t asked = rnd(r) % 8;
    cc_digest d;
    if (asked & 1)
        digest_checked(m);
    CHECK(cc_snapshot_take(m, &v->snap) == CC_OK);
    CHECK(cc_dirty_pages(m) == 0);
    unhashed_check(m);
    model_save(m, &v->model);
    cc_digest_from_scratch(m, &v->digest);
    if (asked & 2) {
        cc_snapshot_digest(v->snap, &d);
        CHECK(same(d, v->digest));
    }
    if (asked & 4)
        CHECK(same(digest_checked(m), v->digest));
    CHECK(cc_snapshot_instret(v->snap) == m->instret && cc_snapshot_vns(v->snap) == cc_now(m));
}

static void saved_restore(cc_machine *m, const struct saved *v, uint64_t *r)
{
    CHECK(cc_snapshot_restore(m, v->snap) == CC_OK);
    model_check(m, &v->model);
    fake_check_watches(m);
    CHECK(cc_dirty_pages(m) == 0);
    unhashed_check(m);
    if (rnd(r) % 2)
        CHECK(same(digest_checked(m), v->digest));
}

/* Two machines of the same configuration sharing a store: snapshots of one are restored on the other. */
static void test_random(uint64_t npages, bool logged, uint64_t seed, unsigned steps)
{
    cc_store *s = cc_store_new(0);
    CHECK(s);
    cc_machine *m[MACHINES] = {fake_new(s, npages, logged), fake_new(s, npages, !logged)};
    struct saved v[SNAPSHOTS] = {{0}};
    uint64_t r = seed;
    for (unsigned i = 0; i < steps; i++) {
        cc_machine *k = m[rnd(&r) % MACHINES];
        struct saved *w = &v[rnd(&r) % SNAPSHOTS];
        live(k, &r);
        switch (rnd(&r) % 8) {
        case 0: case 1: case 2:
            if (!w->snap)
                saved_take(k, w, &r);
            else
                saved_restore(k, w, &r);
            break;
        case 3:
            if (w->snap)
                saved_free(w);
            break;
        case 4:
            digest_checked(k);
            break;
        case 5:
            cc_pagemap_reclaim(k);
            break;
        default:
            break;
        }
        if (i % 512 == 0)
            census_check(s, m, MACHINES, v, SNAPSHOTS);
    }
    census_check(s, m, MACHINES, v, SNAPSHOTS);
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        if (v[i].snap)
            saved_restore(m[i % MACHINES], &v[i], &r);
    fake_free(m[0]);
    for (unsigned i = 0; i < SNAPSHOTS; i++)
        if (v[i].snap)
            saved_free(&v[i]);
    fake_free(m[1]);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

/* ---- single properties ------------------------------------------------------------------------------------------- */
static void test_costs(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 65536, true);
    cc_snapshot *a, *b, *c;
    CHECK(cc_snapshot_take(m, &a) == CC_OK);
    const uint64_t empty = cc_store_bytes(s);
    CHECK(empty <= 1024);                              /* zero pages and zero registers cost nothing */
    for (uint64_t p = 0; p < 65536; p += 3)
        fake_write(m, p)[5] = 0;
    CHECK(cc_dirty_pages(m) == 21846);
    CHECK(cc_snapshot_take(m, &b) == CC_OK);
    CHECK(cc_store_bytes(s) == 2 * empty);
    CHECK(b->root == 0);
    memset(fake_write(m, 77), 1, CC_PAGE_SIZE);
    cc_snapshot_free(b);
    CHECK(cc_snapshot_take(m, &b) == CC_OK);           /* one page, its path of 4 nodes */
    CHECK(cc_store_bytes(s) == 2 * empty + 4096 + 28 + 4 * 68);
    memset(fake_write(m, 77), 2, CC_PAGE_SIZE);
    memset(fake_write(m, 77), 1, CC_PAGE_SIZE);
    CHECK(cc_snapshot_take(m, &c) == CC_OK);           /* the same again: the tree is shared */
    CHECK(c->root == b->root && cc_store_bytes(s) == 3 * empty + 4096 + 28 + 4 * 68);
    cc_snapshot_free(c);
    fake_write(m, 77)[9] = 7;
    CHECK(cc_snapshot_take(m, &c) == CC_OK);           /* one word of a page */
    CHECK(cc_store_bytes(s) == 3 * empty + 4096 + 128 + 2 * 28 + 8 * 68);
    cc_snapshot_free(a);
    cc_snapshot_free(b);
    cc_snapshot_free(c);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

/* What a machine that lends its pages costs, and when contents are copied. */
static void test_lending(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 4096, false), *other = fake_new(s, 4096, false);
    cc_snapshot *empty, *a, *b;
    CHECK(cc_snapshot_take(m, &empty) == CC_OK);
    for (uint64_t p = 10; p < 14; p++)
        memset(fake_write(m, p), (int)p, CC_PAGE_SIZE);
    CHECK(cc_snapshot_take(m, &a) == CC_OK);
    cc_pageh h[4];
    for (unsigned i = 0; i < 4; i++) {
        h[i] = cc_tree_find(s, a->root, a->levels, 10 + i);
        CHECK(cc_page_slab(cc_page(s, h[i])) == CC_SLAB_LENT && (m->page_flags[10 + i] & CC_PF_LENT));
    }
    /* Charged as if it were whole, then as what it is. */
    const uint64_t held = cc_store_bytes(s);
    fake_write(m, 10)[7] = 1;
    CHECK(cc_page_slab(cc_page(s, h[0])) == CC_SLAB_FRAME && !(m->page_flags[10] & CC_PF_LENT));
    CHECK(cc_store_bytes(s) == held - sizeof(struct cc_lent));
    CHECK(cc_snapshot_take(m, &b) == CC_OK);
    const cc_pageh word = cc_tree_find(s, b->root, b->levels, 10);
    CHECK(word != h[0] && cc_page_slab(cc_page(s, word)) == CC_SLAB_LENT);
    CHECK(cc_tree_find(s, b->root, b->levels, 11) == h[1] && cc_page_slab(cc_page(s, h[1])) == CC_SLAB_LENT);
    const uint64_t lent = cc_store_bytes(s);
    fake_write(m, 10)[8] = 1;
    CHECK(cc_page_slab(cc_page(s, word)) == CC_SLAB_DIFF);
    CHECK(cc_store_bytes(s) == lent - sizeof(struct cc_lent) - CC_PAGE_SIZE + 128);
    /* Another machine reads it while it is lent, and the lender writes afterwards. */
    CHECK(cc_snapshot_restore(other, a) == CC_OK);
    CHECK(cc_page_slab(cc_page(s, h[1])) == CC_SLAB_FRAME && (m->page_flags[11] & CC_PF_LENT));
    fake_write(m, 11)[0] = 99;
    CHECK(other->ram[10 * CC_PAGE_SIZE + 7] == 10 && other->ram[11 * CC_PAGE_SIZE] == 11);
    /* The lender goes back over pages that it has lent. */
    memset(fake_write(m, 20), 20, CC_PAGE_SIZE);
    cc_snapshot *c;
    CHECK(cc_snapshot_take(m, &c) == CC_OK);
    CHECK(cc_snapshot_restore(m, empty) == CC_OK && m->ram[20 * CC_PAGE_SIZE] == 0);
    CHECK(cc_snapshot_restore(m, c) == CC_OK && m->ram[20 * CC_PAGE_SIZE] == 20 && m->ram[11 * CC_PAGE_SIZE] == 99);
    /* The lender ends before its snapshot; what no snapshot has is not copied. */
    memset(fake_write(m, 30), 30, CC_PAGE_SIZE);
    cc_snapshot *d;
    CHECK(cc_snapshot_take(m, &d) == CC_OK);
    const cc_pageh last = cc_tree_find(s, d->root, d->levels, 30);
    CHECK(cc_page_slab(cc_page(s, last)) == CC_SLAB_LENT);
    fake_free(m);
    CHECK(cc_page_slab(cc_page(s, last)) == CC_SLAB_FRAME);
    CHECK(cc_snapshot_restore(other, d) == CC_OK && other->ram[30 * CC_PAGE_SIZE + 4095] == 30);
    cc_snapshot *all[] = {empty, a, b, c, d};
    for (unsigned i = 0; i < 5; i++)
        cc_snapshot_free(all[i]);
    memset(fake_write(other, 31), 31, CC_PAGE_SIZE);
    CHECK(cc_snapshot_take(other, &a) == CC_OK);
    cc_snapshot_free(a);
    fake_free(other);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

static void test_digest_sees(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 300, false);
    cc_digest d[16];
    unsigned n = 0;
    d[n++] = digest_checked(m);
    fake_write(m, 1)[0] = 1;
    d[n++] = digest_checked(m);
    memset(fake_write(m, 1), 0, 1);                    /* the same page elsewhere */
    fake_write(m, 2)[0] = 1;
    d[n++] = digest_checked(m);
    fake_write(m, 3)[0] = 2;
    d[n++] = digest_checked(m);
    fake_write(m, 2)[0] = 2;                           /* two pages exchanged */
    fake_write(m, 3)[0] = 1;
    d[n++] = digest_checked(m);
    m->dev.sysctl.port80 ^= 1;
    d[n++] = digest_checked(m);
    ((struct fake_cpu *)m->vcpu)->regs.xmm[15].q[1] ^= 1;
    d[n++] = digest_checked(m);
    m->instret++;
    d[n++] = digest_checked(m);
    m->vns_base++;
    d[n++] = digest_checked(m);
    m->stats.exits++;
    d[n++] = digest_checked(m);
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < i; j++)
            CHECK(!same(d[i], d[j]));
    /* The same moment with another base, and host-side figures: the same state. */
    m->vns_base += 10;
    m->instret_base += 10;
    m->stats.tlb_misses += 5;
    m->stats.blocks_decoded += 5;
    CHECK(same(digest_checked(m), d[n - 1]));
    /* Parts. */
    cc_digest page, cpu, dev, h;
    fake_write(m, 2)[4000] = 9;
    cc_digest_page(m, 2, &page);
    h = cc_hash_page(m->ram + 2 * CC_PAGE_SIZE);
    CHECK(same(page, h) && m->dirty_digest.n == 1);
    cc_digest_page(m, 299, &page);
    CHECK(same(page, (cc_digest){0, 0}));
    cc_digest_page(m, 300, &page);
    CHECK(same(page, (cc_digest){0, 0}));
    cc_digest_cpu(m, &cpu);
    cc_digest_devices(m, &dev);
    CHECK(!same(cpu, dev));
    fake_free(m);
    cc_store_free(s);
}

static void test_restore_refuses(void)
{
    cc_store *s = cc_store_new(0), *other = cc_store_new(0);
    cc_machine *m = fake_new(s, 256, false), *in_other = fake_new(other, 256, false);
    cc_machine *larger = fake_new(s, 300, false);
    cc_snapshot *a;
    CHECK(cc_snapshot_take(m, &a) == CC_OK);
    CHECK(cc_snapshot_restore(in_other, a) == CC_EINVAL && strstr(in_other->error, "another page store"));
    CHECK(cc_snapshot_restore(larger, a) == CC_EINVAL && strstr(larger->error, "memory size"));
    m->cfg.seed++;
    CHECK(cc_snapshot_restore(m, a) == CC_EINVAL && strstr(m->error, "seed"));
    m->cfg.seed--;
    m->cfg.tlb_bits++;                                 /* a host-side matter */
    m->cfg.flags ^= CC_CFG_NO_FUSE;
    CHECK(cc_snapshot_restore(m, a) == CC_OK);
    /* The vCPU's own failure is handed on, and the next restore puts everything right. */
    ((struct fake_cpu *)m->vcpu)->set_regs_error = CC_EHOST;
    CHECK(cc_snapshot_restore(m, a) == CC_EHOST);
    ((struct fake_cpu *)m->vcpu)->set_regs_error = 0;
    CHECK(cc_snapshot_restore(m, a) == CC_OK);
    cc_snapshot_free(a);
    fake_free(m);
    fake_free(larger);
    fake_free(in_other);
    cc_store_free(s);
    cc_store_free(other);
}

/* A decoded page that comes out of a restore unchanged is not reported as changed. */
static void test_watch_kept(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 256, false);
    struct fake_cpu *c = m->vcpu;
    cc_snapshot *a;
    memset(fake_write(m, 9), 0x90, CC_PAGE_SIZE);
    CHECK(cc_snapshot_take(m, &a) == CC_OK);
    digest_checked(m);
    fake_write(m, 9)[0] = 1;
    fake_write(m, 9)[0] = 0x90;
    fake_write(m, 10)[0] = 1;
    fake_watch(m, 9, CC_PF_CODE);
    fake_watch(m, 10, CC_PF_TABLE);
    CHECK(cc_snapshot_restore(m, a) == CC_OK);
    CHECK(c->changed == 1 && m->page_flags[9] == CC_PF_CODE && m->page_flags[10] == 0);
    fake_check_watches(m);
    cc_snapshot_free(a);
    fake_free(m);
    cc_store_free(s);
}

/* Two contents with one hash: forged, by giving the stored page the hash of the new one. */
static void test_hash_collision(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 256, false);
    cc_snapshot *a, *b;
    memset(fake_write(m, 7), 1, CC_PAGE_SIZE);
    CHECK(cc_snapshot_take(m, &a) == CC_OK);
    digest_checked(m);
    memset(fake_write(m, 7), 2, CC_PAGE_SIZE);
    digest_checked(m);                                 /* only a known hash is ever compared */
    const cc_pageh old = cc_tree_find(s, a->root, a->levels, 7);
    ((struct cc_page *)cc_item(s, CC_SLAB_PAGE, old))->hash = cc_hash_page(m->ram + 7 * CC_PAGE_SIZE);
    CHECK(cc_snapshot_take(m, &b) == CC_OK);
    CHECK(b->root != a->root);
    CHECK(cc_snapshot_restore(m, a) == CC_OK && m->ram[7 * CC_PAGE_SIZE] == 1);
    CHECK(cc_snapshot_restore(m, b) == CC_OK && m->ram[7 * CC_PAGE_SIZE] == 2);
    cc_snapshot_free(a);
    cc_snapshot_free(b);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */
static void scribble_some(cc_machine *m, uint64_t *r, unsigned n)
{
    while (n--)
        scribble(m, r);
}

/* Every budget from too small to just enough: the take fails at every object that it needs. */
static void test_budget(bool logged)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 1200, logged);
    struct saved first = {0};
    cc_snapshot *second = NULL;
    uint64_t r = 5;
    scribble_some(m, &r, 300);
    saved_take(m, &first, &r);
    scribble_some(m, &r, 200);
    struct model now;
    model_save(m, &now);
    const uint64_t dirty = cc_dirty_pages(m), held = cc_store_bytes(s);
    uint64_t room = 0;
    for (;; room += 700) {
        cc_store_set_budget(s, held + room);
        CHECK(cc_store_budget(s) == held + room);
        second = (cc_snapshot *)(uintptr_t)1;
        const int err = cc_snapshot_take(m, &second);
        if (!err)
            break;
        CHECK(err == CC_EBUDGET && !second);
        CHECK(strstr(m->error, "budget of") && strstr(m->error, "for 1 snapshots"));
        model_check(m, &now);
        CHECK(cc_dirty_pages(m) == dirty && cc_store_bytes(s) == held);
        if (room % 4900 == 0)
            digest_checked(m);
        /* Writes are still noticed: every written page is hashed again. */
        const uint64_t page = m->dirty_snap.page[rnd(&r) % m->dirty_snap.n];
        now.ram[page * CC_PAGE_SIZE + 8] = fake_write(m, page)[8] ^= 1;
    }
    CHECK(room > 50 * 700);
    CHECK(cc_store_bytes(s) <= held + room && cc_store_bytes(s) > held + room - 700 - 4096);
    model_check(m, &now);
    digest_checked(m);
    cc_snapshot_free(second);
    CHECK(cc_snapshot_take(m, &second) == CC_OK);      /* nothing dirty: always possible, but for its own size */
    cc_snapshot_free(second);
    free(now.ram);
    saved_restore(m, &first, &r);
    saved_free(&first);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

/* The host refuses memory: no slab may get another chunk. */
static void test_no_memory(void)
{
    cc_store *s = cc_store_new(0);
    cc_machine *m = fake_new(s, 4096, false);
    struct saved first = {0};
    uint64_t r = 11;
    scribble_some(m, &r, 20);
    saved_take(m, &first, &r);
    uint32_t was[CC_SLAB_COUNT];
    for (unsigned k = 0; k < CC_SLAB_COUNT; k++) {
        was[k] = s->slab[k].chunks_max;
        s->slab[k].chunks_max = s->slab[k].chunks;
    }
    for (uint64_t p = 0; p < 4096; p++)
        for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8)
            memcpy(fake_write(m, p) + i, &(uint64_t){rnd(&r)}, 8);
    struct model now;
    model_save(m, &now);
    const uint64_t held = cc_store_bytes(s);
    cc_snapshot *out;
    CHECK(cc_snapshot_take(m, &out) == CC_ENOMEM && !out);
    CHECK(strstr(m->error, "no host memory"));
    model_check(m, &now);
    CHECK(cc_dirty_pages(m) == 4096 && cc_store_bytes(s) == held);
    digest_checked(m);
    for (unsigned k = 0; k < CC_SLAB_COUNT; k++)
        s->slab[k].chunks_max = was[k];
    struct saved second = {0};
    saved_take(m, &second, &r);
    saved_restore(m, &first, &r);
    saved_restore(m, &second, &r);
    saved_free(&first);
    /* Memory goes back to the host: only one spare chunk of a kind is kept. */
    fake_write(m, 0)[0]++;
    for (uint64_t p = 0; p < 4096; p++)
        memset(fake_write(m, p), 0, CC_PAGE_SIZE);
    saved_take(m, &first, &r);
    saved_free(&second);
    unsigned mapped = 0;
    for (uint32_t c = 0; c < s->slab[CC_SLAB_FRAME].chunks; c++)
        mapped += s->slab[CC_SLAB_FRAME].items[c] != NULL;
    CHECK(mapped == 1);
    saved_free(&first);
    free(now.ram);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

/* ---- threads ----------------------------------------------------------------------------------------------------- */
#define THREADS 3
#define MAILBOX 8

/* Snapshots that threads hand to each other. */
static struct { pthread_mutex_t lock; struct saved v[MAILBOX]; } mailbox = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct worker {
    cc_store *store;
    uint64_t seed;
    unsigned steps;
};

static void *work(void *arg)
{
    const struct worker *w = arg;
    cc_machine *m = fake_new(w->store, 700, w->seed % 2);
    struct saved own = {0};
    uint64_t r = w->seed;
    for (unsigned i = 0; i < w->steps; i++) {
        live(m, &r);
        if (!own.snap)
            saved_take(m, &own, &r);
        pthread_mutex_lock(&mailbox.lock);
        struct saved *slot = &mailbox.v[rnd(&r) % MAILBOX], other = *slot;
        *slot = own;
        pthread_mutex_unlock(&mailbox.lock);
        own = other;
        if (own.snap)
            saved_restore(m, &own, &r);
        if (own.snap && rnd(&r) % 3 == 0) {
            cc_snapshot_exclusive_bytes(own.snap);
            cc_snapshot_free(own.snap);
            free(own.model.ram);
            own = (struct saved){0};
        }
    }
    if (own.snap) {
        cc_snapshot_free(own.snap);
        free(own.model.ram);
    }
    fake_free(m);
    return NULL;
}

static void test_threads(unsigned steps)
{
    cc_store *s = cc_store_new(0);
    pthread_t t[THREADS];
    struct worker w[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){s, 100 + i, steps};
        CHECK(!pthread_create(&t[i], NULL, work, &w[i]));
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(!pthread_join(t[i], NULL));
    for (unsigned i = 0; i < MAILBOX; i++)
        if (mailbox.v[i].snap)
            saved_free(&mailbox.v[i]);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        scale = strtoull(argv[1], NULL, 0);
    test_costs();
    test_lending();
    test_digest_sees();
    test_restore_refuses();
    test_watch_kept();
    test_hash_collision();
    test_budget(false);
    test_budget(true);
    test_no_memory();
    /* Trees of 3 levels not quite full, of 2 exactly full, and of 3 with one page in the last subtree. */
    for (uint64_t i = 0; i < scale; i++) {
        test_random(1037, false, 3 * i + 1, 2000);
        test_random(256, true, 3 * i + 2, 2000);
        test_random(4097, false, 3 * i + 3, 500);
    }
    test_threads((unsigned)(300 * scale));
    puts("pages: ok");
    return 0;
}
