/*
 * pages.c: page tables: radix trees of 4 KiB pages whose nodes are shared between snapshots, and the machine's
 * bookkeeping of which tree its RAM was last equal to.
 *
 * A tree is never changed once it is made: an update copies the nodes on the paths to what differs and refers to the
 * rest.  So two trees that share history share nodes, and comparing them skips whatever has the same handle.
 */
#include "pages.h"

#include <stdlib.h>

/* The digits of a page number, lowest level (0: children are pages) first. */
static unsigned digit(uint64_t page, uint32_t level)
{
    return (unsigned)(page >> (CC_NODE_BITS * level)) & (CC_NODE_FAN - 1);
}

/* ---- the machine's part ------------------------------------------------------------------------------------------ */
int cc_pagemap_new(cc_machine *m)
{
    struct cc_pagemap *pm = calloc(1, sizeof *pm);
    if (pm) {
        /* All zero: RAM is, the hash of a zero page is 0, and root 0 is the tree of zero pages. */
        pm->hash = calloc(m->npages, sizeof *pm->hash);
        pm->scratch = malloc(m->npages * sizeof *pm->scratch);
        for (pm->levels = 1; m->npages > (uint64_t)1 << (CC_NODE_BITS * pm->levels); pm->levels++)
            ;
    }
    if (!pm || !pm->hash || !pm->scratch) {
        if (pm) {
            free(pm->hash);
            free(pm->scratch);
        }
        free(pm);
        return cc_fail(m, CC_ENOMEM, "no host memory for the page tables of %llu MiB of guest memory",
                       (unsigned long long)(m->cfg.ram_bytes >> 20));
    }
    m->pagemap = pm;
    return CC_OK;
}

/* The pages that were lent by this machine, with a reference to each, in pm->scratch: how many. */
static uint32_t lent_pages(cc_machine *m)
{
    struct cc_pagemap *pm = m->pagemap;
    uint32_t n = 0;
    for (uint64_t page = 0; page < m->npages; page++) {
        if (!(m->page_flags[page] & CC_PF_LENT))
            continue;
        const cc_pageh h = cc_tree_find(m->store, pm->root, pm->levels, page);
        if (!h)
            continue;
        cc_ref(m->store, CC_SLAB_PAGE, h);
        pm->scratch[n++] = h;
    }
    return n;
}

/* Where the machine's own tree has a page, if nobody shares it: then nobody else can ask for its contents.  Or NULL. */
static cc_pageh *own_page(const cc_machine *m, uint64_t page)
{
    const cc_store *s = m->store;
    uint32_t *at = &m->pagemap->root;
    for (uint32_t level = m->pagemap->levels; level-- > 0;) {
        if (!*at || !cc_alone(s, CC_SLAB_NODE, *at))
            return NULL;
        at = &cc_node(s, *at)[digit(page, level)];
    }
    return *at && cc_alone(s, CC_SLAB_PAGE, *at) ? at : NULL;
}

void cc_page_unlend(cc_machine *m, uint64_t page)
{
    /* A page that is lent is in the tree that RAM was last equal to; one that another reader settled stays marked. */
    m->page_flags[page] &= (uint8_t)~CC_PF_LENT;
    cc_pageh *own = own_page(m, page);
    if (!own) {
        cc_page_settle(m->store, cc_tree_find(m->store, m->pagemap->root, m->pagemap->levels, page));
        return;
    }
    struct cc_batch b;
    cc_batch_begin(&b, m->store, 0);
    cc_page_drop(&b, *own);
    cc_batch_end(&b);
    *own = 0;
}

/* What the tree has instead of h, which is the machine's alone: RAM's contents if they are those, nothing otherwise. */
static cc_pageh page_reclaim(cc_machine *m, struct cc_batch *b, uint64_t page, cc_pageh h)
{
    cc_store *s = m->store;
    cc_pageh lent = 0;
    cc_digest hash;
    if (cc_page_is_just_lent(s, h))
        return h;
    if (!(m->page_flags[page] & CC_PF_DIRTY_SNAP)) {
        if (cc_page_lend(b, 0, m->ram + (page << CC_PAGE_SHIFT), &lent))
            return h;                  /* no room for doing better */
        if (cc_page_hashed(s, h, &hash))
            cc_page_set_hash(s, lent, hash);
        m->page_flags[page] |= CC_PF_LENT;
    }
    cc_page_drop(b, h);
    return lent;
}

static cc_nodeh subtree_reclaim(cc_machine *m, struct cc_batch *b, cc_nodeh node, uint32_t levels, uint64_t base)
{
    if (!node || !cc_alone(m->store, CC_SLAB_NODE, node))
        return node;
    uint32_t *child = cc_node(m->store, node), any = 0;
    const uint32_t level = levels - 1;
    for (unsigned i = 0; i < CC_NODE_FAN; i++) {
        const uint64_t at = base | (uint64_t)i << (CC_NODE_BITS * level);
        if (level)
            child[i] = subtree_reclaim(m, b, child[i], level, at);
        else if (child[i] && cc_alone(m->store, CC_SLAB_PAGE, child[i]))
            child[i] = page_reclaim(m, b, at, child[i]);
        any |= child[i];
    }
    if (any)
        return node;
    cc_object_free(b, CC_SLAB_NODE, node);
    return 0;
}

void cc_pagemap_reclaim(cc_machine *m)
{
    struct cc_pagemap *pm = m->pagemap;
    const uint64_t freed = atomic_load_explicit(&m->store->freed, memory_order_acquire);
    if (cc_likely(freed == pm->freed))
        return;
    pm->freed = freed;
    if (!m->ops->tells_before_write)
        return;                        /* it lends nothing */
    struct cc_batch b;
    cc_batch_begin(&b, m->store, CC_BATCH);
    pm->root = subtree_reclaim(m, &b, pm->root, pm->levels, 0);
    cc_batch_end(&b);
}

void cc_pagemap_free(cc_machine *m)
{
    struct cc_pagemap *pm = m->pagemap;
    if (!pm)
        return;
    if (m->store) {
        struct cc_batch b;
        const uint32_t lent = lent_pages(m);
        cc_batch_begin(&b, m->store, 0);
        cc_tree_drop(&b, pm->root, pm->levels);
        for (unsigned i = 0; i < CC_STATE_PAGES; i++)
            cc_page_drop(&b, pm->state[i]);
        /* What only this machine knew needs no copy. */
        for (uint32_t i = 0; i < lent; i++) {
            if (atomic_load_explicit(cc_refs(m->store, CC_SLAB_PAGE, pm->scratch[i]), memory_order_acquire) != 1)
                cc_page_settle(m->store, pm->scratch[i]);
            cc_page_drop(&b, pm->scratch[i]);
        }
        cc_batch_end(&b);
        atomic_fetch_add_explicit(&m->store->freed, 1, memory_order_release);
    }
    free(pm->hash);
    free(pm->scratch);
    free(pm);
    m->pagemap = NULL;
}

/* ---- sorting dirty lists ----------------------------------------------------------------------------------------- */
#define DIGIT_BITS 10u
#define DIGITS (1u << DIGIT_BITS)

static void sort_few(uint32_t *a, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        const uint32_t x = a[i];
        uint32_t j = i;
        for (; j > 0 && a[j - 1] > x; j--)
            a[j] = a[j - 1];
        a[j] = x;
    }
}

/* One pass of a radix sort, stable, by the digit at shift. */
static void sort_pass(const uint32_t *src, uint32_t *dst, uint32_t n, unsigned shift)
{
    uint32_t at[DIGITS] = {0};
    for (uint32_t i = 0; i < n; i++)
        at[src[i] >> shift & (DIGITS - 1)]++;
    for (uint32_t d = 0, sum = 0; d < DIGITS; d++) {
        const uint32_t count = at[d];
        at[d] = sum;
        sum += count;
    }
    for (uint32_t i = 0; i < n; i++)
        dst[at[src[i] >> shift & (DIGITS - 1)]++] = src[i];
}

void cc_pagelist_sort(cc_machine *m, cc_pagelist *list)
{
    if (list->n <= 64) {
        sort_few(list->page, list->n);
        return;
    }
    /* Two passes of 10 bits are enough for 4 GiB of pages; a machine with a large disk has more. */
    uint32_t *from = list->page, *to = m->pagemap->scratch;
    for (unsigned shift = 0; (m->npages - 1) >> shift || shift < 2 * DIGIT_BITS; shift += DIGIT_BITS) {
        sort_pass(from, to, list->n, shift);
        uint32_t *const last = from;
        from = to;
        to = last;
    }
    if (from != list->page)
        memcpy(list->page, from, list->n * sizeof *from);
}

/* ---- trees ------------------------------------------------------------------------------------------------------- */
/* Drop a child of a node of this level. */
static void child_drop(struct cc_batch *b, uint32_t child, uint32_t level)
{
    if (level)
        cc_tree_drop(b, child, level);
    else
        cc_page_drop(b, child);
}

void cc_tree_drop(struct cc_batch *b, cc_nodeh root, uint32_t levels)
{
    if (!root || !cc_unref(b->store, CC_SLAB_NODE, root))
        return;
    const uint32_t *child = cc_node(b->store, root);
    const unsigned slab = levels > 1 ? CC_SLAB_NODE : CC_SLAB_PAGE;
    for (unsigned i = 0; i < CC_NODE_FAN; i++)
        if (child[i])
            __builtin_prefetch(cc_refs(b->store, slab, child[i]), 1);
    for (unsigned i = 0; i < CC_NODE_FAN; i++)
        child_drop(b, child[i], levels - 1);
    cc_object_free(b, CC_SLAB_NODE, root);
}

cc_pageh cc_tree_find(const cc_store *s, cc_nodeh root, uint32_t levels, uint64_t page)
{
    uint32_t h = root;
    for (uint32_t level = levels; level-- > 0;)
        h = cc_node(s, h)[digit(page, level)];
    return h;
}

/* Pages whose places in the tree are looked up before the first of them is worked on: the look-ups wait for memory, and
 * do so together. */
#define AHEAD 32u

/* Whether RAM still has the contents of `old`.  Where it would be kept by lending, which looks at nothing, finding out
 * would cost more than all the rest: it has not, unless somebody hashed both. */
static bool unchanged(cc_machine *m, uint64_t page, cc_pageh old, const uint8_t *ram)
{
    cc_digest now = m->pagemap->hash[page], was;
    if (m->ops->tells_before_write && (m->page_flags[page] & CC_PF_DIRTY_DIGEST ||
                                       !cc_page_hashed(m->store, old, &was) || now.lo != was.lo || now.hi != was.hi))
        return false;
    return cc_page_equal(m->store, old, ram);
}

/* The page that RAM holds now, where the tree has `old`: `old` itself, borrowed, if that is it. */
static int page_update(cc_machine *m, struct cc_batch *b, uint32_t page, cc_pageh old, cc_pageh *out)
{
    const uint8_t *ram = m->ram + ((uint64_t)page << CC_PAGE_SHIFT);
    *out = 0;
    if (cc_page_is_zero(ram))
        return CC_OK;
    *out = old;
    if (unchanged(m, page, old, ram))
        return CC_OK;
    const bool lends = m->ops->tells_before_write;
    if (lends)
        m->page_flags[page] |= CC_PF_LENT;     /* if this take fails, a mark without meaning */
    const int err = lends ? cc_page_lend(b, old, ram, out) : cc_page_new(b, old, ram, out);
    if (!err && !(m->page_flags[page] & CC_PF_DIRTY_DIGEST))
        cc_page_set_hash(b->store, *out, m->pagemap->hash[page]);
    return err;
}

/* now[i]: the page for list->page[i], borrowed from the tree if that has it already.  *done: how many there are. */
static int pages_update(cc_machine *m, struct cc_batch *b, cc_nodeh root, const cc_pagelist *list, cc_pageh *now,
                        uint32_t *done)
{
    cc_store *s = b->store;
    const bool lends = m->ops->tells_before_write;
    cc_pageh old[AHEAD];
    const uint8_t *base[AHEAD];
    int err = CC_OK;
    for (*done = 0; *done < list->n && !err; *done += !err) {
        const uint32_t i = *done, k = i % AHEAD, left = list->n - i < AHEAD ? list->n - i : AHEAD;
        if (k == 0) {
            for (uint32_t j = 0; j < left; j++)
                old[j] = cc_tree_find(s, root, m->pagemap->levels, list->page[i + j]);
            for (uint32_t j = 0; j < left; j++) {
                const cc_pageh reread = lends ? old[j] : cc_page_base(s, old[j], &base[j]);
                __builtin_prefetch(m->ram + ((uint64_t)list->page[i + j] << CC_PAGE_SHIFT));
                __builtin_prefetch(cc_page(s, old[j]));
                __builtin_prefetch(cc_refs(s, CC_SLAB_PAGE, reread), 1);
            }
        }
        err = page_update(m, b, list->page[i], old[k], &now[i]);
    }
    return err;
}

/* The subtree `old` of this many levels with n pages, all of them in it, replaced.  *out is `old` itself, borrowed, or
 * a subtree of which the caller has a reference.  References to now[] that are not `old`'s pass to the new tree, also
 * if this fails: then they are dropped. */
static int subtree_update(struct cc_batch *b, cc_nodeh old, uint32_t levels, const uint32_t *page, const cc_pageh *now,
                          uint32_t n, cc_nodeh *out)
{
    const cc_store *s = b->store;
    const uint32_t level = levels - 1;
    const unsigned slab = level ? CC_SLAB_NODE : CC_SLAB_PAGE;
    const uint32_t *was = cc_node(s, old);
    uint32_t child[CC_NODE_FAN], changed = 0, any = 0;
    int err = CC_OK;
    memcpy(child, was, sizeof child);
    for (unsigned i = 0; i < CC_NODE_FAN; i++)
        if (was[i])
            __builtin_prefetch(cc_refs(s, slab, was[i]), 1);
    for (uint32_t i = 0, end; i < n; i = end) {
        const unsigned d = digit(page[i], level);
        for (end = i + 1; end < n && digit(page[end], level) == d; end++)
            ;
        uint32_t new_child = now[i];
        int child_err = CC_OK;
        if (level)
            child_err = subtree_update(b, was[d], level, page + i, now + i, end - i, &new_child);
        if (child_err) {
            err = child_err;
        } else if (new_child != was[d]) {
            child[d] = new_child;
            changed |= 1u << d;
        }
    }
    for (unsigned i = 0; i < CC_NODE_FAN; i++)
        any |= child[i];
    *out = changed || !any ? 0 : old;
    if (!err && changed && any)
        err = cc_object_new(b, CC_SLAB_NODE, out);
    for (unsigned i = 0; i < CC_NODE_FAN; i++) {
        if (err && changed >> i & 1)
            child_drop(b, child[i], level);
        else if (!err && changed && !(changed >> i & 1))
            cc_ref(s, slab, child[i]);
    }
    if (!err && changed && any)
        memcpy(cc_node(s, *out), child, sizeof child);
    return err;
}

int cc_tree_update(cc_machine *m, struct cc_batch *b, cc_nodeh root, const cc_pagelist *list, cc_nodeh *out)
{
    const struct cc_pagemap *pm = m->pagemap;
    *out = root;
    if (list->n) {
        uint32_t done;
        int err = pages_update(m, b, root, list, pm->scratch, &done);
        for (uint32_t i = 0; err && i < done; i++)
            if (pm->scratch[i] != cc_tree_find(b->store, root, pm->levels, list->page[i]))
                cc_page_drop(b, pm->scratch[i]);
        if (!err)
            err = subtree_update(b, root, pm->levels, list->page, pm->scratch, list->n, out);
        if (err)
            return err;
    }
    if (*out == root)
        cc_ref(b->store, CC_SLAB_NODE, root);
    return CC_OK;
}

static void subtree_diff(cc_machine *m, cc_nodeh from, cc_nodeh to, uint32_t levels, uint64_t base,
                         cc_tree_diff_fn *fn)
{
    const uint32_t *a = cc_node(m->store, from), *b = cc_node(m->store, to);
    const uint32_t level = levels - 1;
    for (unsigned i = 0; i < CC_NODE_FAN; i++) {
        if (a[i] == b[i])
            continue;
        const uint64_t at = base | (uint64_t)i << (CC_NODE_BITS * level);
        if (level)
            subtree_diff(m, a[i], b[i], level, at, fn);
        else
            fn(m, at, b[i]);
    }
}

void cc_tree_diff(cc_machine *m, cc_nodeh from, cc_nodeh to, cc_tree_diff_fn *fn)
{
    if (from != to)
        subtree_diff(m, from, to, m->pagemap->levels, 0, fn);
}

uint64_t cc_tree_exclusive(cc_store *s, cc_nodeh root, uint32_t levels)
{
    if (!root || atomic_load_explicit(cc_refs(s, CC_SLAB_NODE, root), memory_order_relaxed) != 1)
        return 0;
    const uint32_t *child = cc_node(s, root);
    uint64_t bytes = cc_object_bytes(s, CC_SLAB_NODE);
    for (unsigned i = 0; i < CC_NODE_FAN; i++)
        bytes += levels > 1 ? cc_tree_exclusive(s, child[i], levels - 1) : cc_page_exclusive(s, child[i]);
    return bytes;
}

static cc_u128 subtree_sum(cc_store *s, cc_nodeh node, uint32_t levels, uint64_t base)
{
    cc_u128 sum = 0;
    const uint32_t level = levels - 1;
    for (unsigned i = 0; node && i < CC_NODE_FAN; i++) {
        const uint32_t child = cc_node(s, node)[i];
        const uint64_t at = base | (uint64_t)i << (CC_NODE_BITS * level);
        sum += level ? subtree_sum(s, child, level, at) : cc_hash_keyed(cc_page_hash(s, child), at);
    }
    return sum;
}

cc_u128 cc_tree_sum(cc_store *s, cc_nodeh root, uint32_t levels)
{
    return subtree_sum(s, root, levels, 0);
}
