/*
 * digest.c: the hash of a page and the 128-bit digest of a machine's whole state, kept up to date from dirty pages.
 *
 * The digest is the hash of a short record: the registers' hash, the devices' hash, the time and counters, and the sum
 * mod 2^128 over all pages of the page's hash mixed with its number.  The sum does not depend on the order of
 * updates, so a page that changed costs one subtraction and one addition, whatever came before.
 *
 * The hash is fast and mixes well, but it is no cryptographic one: it tells states apart, not forgeries.
 */
#include "pages.h"

/* ---- the hash ---------------------------------------------------------------------------------------------------- */
/* Fractional parts of the square roots of the first eight primes, 64 bits of each (also SHA-512's initial values). */
static const uint64_t K[8] = {
    0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
    0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
};

struct lane { uint64_t x, y; };

/* Take in 128 bits.  The product of both halves spreads each over all 128 bits; adding the halves to it keeps what a
 * factor of 0 would lose.  The product's low bits are mostly 0, so its high half goes into both. */
static inline struct lane absorb(struct lane l, uint64_t a, uint64_t b)
{
    const uint64_t x = l.x ^ a, y = l.y ^ b;
    const cc_u128 p = (cc_u128)x * y;
    const uint64_t hi = (uint64_t)(p >> 64);
    return (struct lane){((uint64_t)p ^ hi) + y, hi + x};
}

static inline uint64_t load(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);           /* any alignment; every host that this runs on is little-endian */
    return v;
}

static inline struct lane absorb_at(struct lane l, const uint8_t *p)
{
    return absorb(l, load(p), load(p + 8));
}

static inline struct lane finish(struct lane l)
{
    l = absorb(l, K[2], K[5]);
    l = absorb(l, K[6], K[1]);
    l = absorb(l, K[4], K[7]);
    return absorb(l, K[3], K[0]);
}

/* Four independent lanes of 16 bytes, because a multiplication takes several cycles but one can be started in each.
 * next: what the caller will read next, brought into the cache line by line on the way: hashing waits for memory,
 * mostly, and more so if it asks for one thing at a time. */
static inline cc_digest hash_all(const uint8_t *p, size_t size, const uint8_t *next)
{
    struct lane l0 = {K[0], K[1]}, l1 = {K[2], K[3]}, l2 = {K[4], K[5]}, l3 = {K[6], K[7]};
    size_t at = 0;
    for (; size - at >= 64; at += 64) {
        if (next)
            __builtin_prefetch(next + at);
        l0 = absorb_at(l0, p + at);
        l1 = absorb_at(l1, p + at + 16);
        l2 = absorb_at(l2, p + at + 32);
        l3 = absorb_at(l3, p + at + 48);
    }
    if (at < size) {
        uint8_t tail[64] = {0};
        memcpy(tail, p + at, size - at);
        l0 = absorb_at(l0, tail);
        l1 = absorb_at(l1, tail + 16);
        l2 = absorb_at(l2, tail + 32);
        l3 = absorb_at(l3, tail + 48);
    }
    l0 = absorb(l0, l1.x, l1.y);
    l0 = absorb(l0, l2.x, l2.y);
    l0 = absorb(l0, l3.x, l3.y);
    l0 = finish(absorb(l0, size, CC_DIGEST_VERSION));
    return (cc_digest){l0.x, l0.y};
}

cc_digest cc_hash_bytes(const void *src, size_t size)
{
    return hash_all(src, size, NULL);
}

void cc_hash(const void *data, uint64_t size, cc_digest *out)
{
    *out = cc_hash_bytes(data, size);
}

bool cc_page_is_zero(const uint8_t *p)
{
    for (size_t i = 0; i < CC_PAGE_SIZE; i += 64) {
        uint64_t any = 0;
        for (size_t j = 0; j < 64; j += 8)
            any |= load(p + i + j);
        if (any)
            return false;
    }
    return true;
}

static cc_digest page_hash(const uint8_t *page, const uint8_t *next)
{
    if (cc_page_is_zero(page))
        return (cc_digest){0, 0};
    cc_digest h = hash_all(page, CC_PAGE_SIZE, next);
    if (cc_unlikely(!(h.lo | h.hi)))
        h.lo = 1;                      /* 0 is what zero pages have, and only they */
    return h;
}

cc_digest cc_hash_page(const uint8_t *page)
{
    return page_hash(page, NULL);
}

cc_u128 cc_hash_keyed(cc_digest hash, uint64_t page)
{
    if (!(hash.lo | hash.hi))
        return 0;
    struct lane l = {K[0], K[1]};
    l = absorb(l, hash.lo, hash.hi);
    l = finish(absorb(l, page, CC_DIGEST_VERSION));
    return (cc_u128)l.y << 64 | l.x;
}

/* ---- the sketch -------------------------------------------------------------------------------------------------- */
/* Each page has a cell in each table: cell `level` with probability 2^-(level + 1).  A cell adds up what its pages
 * contribute, once plain and once times the page's number + 1.  So the differences of a cell in which one page differs
 * tell which, by a division; taking it out of its other cells may leave one page in those.  Of many pages that differ,
 * some are alone in the cells of the high levels. */
_Static_assert(sizeof(cc_sketch) == sizeof(uint32_t) * CC_SKETCH_TABLES * CC_SKETCH_LEVELS * 2, "two sums in each cell");

static unsigned sketch_level(uint64_t page, unsigned table)
{
    /* The finaliser of SplitMix64 (Steele, Lea, Flood 2014). */
    uint64_t x = (page * CC_SKETCH_TABLES + table + 1) * 0x9E3779B97F4A7C15;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    x ^= x >> 31;
    return (unsigned)__builtin_ctzll(x | UINT64_C(1) << (CC_SKETCH_LEVELS - 1));
}

static void sketch_add(cc_sketch *s, uint64_t page, uint32_t change)
{
    for (unsigned table = 0; table < CC_SKETCH_TABLES; table++) {
        uint32_t *cell = s->sum + 2 * (table * CC_SKETCH_LEVELS + sketch_level(page, table));
        cell[0] += change;
        cell[1] += change * (uint32_t)(page + 1);
    }
}

/* ---- keeping it up to date --------------------------------------------------------------------------------------- */
static void hash_is(cc_machine *m, uint64_t page, cc_digest now)
{
    struct cc_pagemap *pm = m->pagemap;
    const cc_digest was = pm->hash[page];
    m->page_flags[page] &= (uint8_t)~CC_PF_DIRTY_DIGEST;
    if (now.lo != was.lo || now.hi != was.hi) {
        const cc_u128 change = cc_hash_keyed(now, page) - cc_hash_keyed(was, page);
        pm->sum += change;
        sketch_add(&pm->sketch, page, (uint32_t)change);
        pm->hash[page] = now;
    }
}

/* Hash a page of the list.  next: the 4 KiB that will be hashed after. */
static void refresh(cc_machine *m, uint64_t page, const uint8_t *next)
{
    const struct cc_pagemap *pm = m->pagemap;
    hash_is(m, page, page_hash(m->ram + (page << CC_PAGE_SHIFT), next));
    /* Whoever restores the snapshot that has this page need not hash it again. */
    if (!(m->page_flags[page] & CC_PF_DIRTY_SNAP))
        cc_page_set_hash(m->store, cc_tree_find(m->store, pm->root, pm->levels, page), pm->hash[page]);
}

void cc_digest_restored(cc_machine *m, uint64_t page, cc_pageh h)
{
    cc_digest hash;
    if (cc_page_hashed(m->store, h, &hash)) {
        hash_is(m, page, hash);
    } else if (!(m->page_flags[page] & CC_PF_DIRTY_DIGEST)) {
        m->page_flags[page] |= CC_PF_DIRTY_DIGEST;
        m->dirty_digest.page[m->dirty_digest.n++] = (uint32_t)page;
    }
}

void cc_digest_compact(cc_machine *m)
{
    cc_pagelist *list = &m->dirty_digest;
    uint32_t n = 0;
    for (uint32_t i = 0; i < list->n; i++)
        if (m->page_flags[list->page[i]] & CC_PF_DIRTY_DIGEST)
            list->page[n++] = list->page[i];
    list->n = n;
}

cc_digest cc_digest_combine(cc_u128 pages, uint64_t npages, uint64_t vns, const struct cc_state *st)
{
    const cc_digest cpu = cc_hash_bytes(&st->regs, sizeof st->regs);
    const cc_digest devices = cc_hash_bytes(&st->dev, sizeof st->dev);
    /* Time as (instret, vns): how vns is divided into a base and instructions since is not part of the state. */
    const uint64_t record[] = {
        npages, (uint64_t)pages, (uint64_t)(pages >> 64), cpu.lo, cpu.hi, devices.lo, devices.hi,
        st->instret, vns,
        st->stats.exits, st->stats.io_reads, st->stats.io_writes, st->stats.mmio_accesses,
        st->stats.halts, st->stats.interrupts, st->stats.exceptions,
    };
    return cc_hash_bytes(record, sizeof record);
}

/* Every page's hash is known, and with them their sums. */
static void refresh_all(cc_machine *m)
{
    m->ops->sync_dirty(m);
    const cc_pagelist list = m->dirty_digest;
    for (uint32_t i = 0; i < list.n; i++) {
        const uint8_t *next = m->ram + ((uint64_t)list.page[i + 1 < list.n ? i + 1 : i] << CC_PAGE_SHIFT);
        refresh(m, list.page[i], next);
    }
    m->dirty_digest.n = 0;
    if (list.n)
        m->ops->protect_writes(m);
}

void cc_digest_now(cc_machine *m, cc_digest *out)
{
    refresh_all(m);
    cc_state_save(m, &m->pagemap->image.state);
    *out = cc_digest_combine(m->pagemap->sum, m->npages, cc_now(m), &m->pagemap->image.state);
}

void cc_digest_page(cc_machine *m, uint64_t page, cc_digest *out)
{
    *out = (cc_digest){0, 0};
    if (page >= m->npages)
        return;
    m->ops->sync_dirty(m);
    *out = m->page_flags[page] & CC_PF_DIRTY_DIGEST ? cc_hash_page(m->ram + (page << CC_PAGE_SHIFT))
                                                    : m->pagemap->hash[page];
}

void cc_digest_pages(cc_machine *m, cc_digest *out)
{
    refresh_all(m);
    memcpy(out, m->pagemap->hash, m->npages * sizeof *out);
}

void cc_sketch_now(cc_machine *m, cc_sketch *out)
{
    refresh_all(m);
    *out = m->pagemap->sketch;
}

/* ---- pages by number --------------------------------------------------------------------------------------------- */
uint64_t cc_page_count(const cc_machine *m)
{
    return m->npages;
}

int cc_page_area(const cc_machine *m, uint64_t page, uint64_t *at)
{
    _Static_assert(CC_AREA_PROPERTIES == CC_AUX_PROPS + 1 && CC_AREA_NETWORK == CC_AUX_NET + 1 &&
                   CC_AREA_DISK_CACHE == CC_AUX_DISK_LOG + 1 && CC_AREA_DISK == CC_AUX_DISK + 1, "areas are in this order");
    const uint64_t byte = page << CC_PAGE_SHIFT;
    *at = page;
    if (page >= m->npages)
        return CC_EINVAL;
    if (byte < m->cfg.ram_bytes)
        return CC_AREA_MEMORY;
    int area = 0;
    while (byte >= m->aux[area].at + m->aux[area].size)
        area++;
    *at = (byte - m->aux[area].at) >> CC_PAGE_SHIFT;
    return area + 1;
}

int cc_page_bytes(cc_machine *m, uint64_t page, uint8_t *dst)
{
    if (page >= m->npages)
        return cc_fail(m, CC_EINVAL, "there is no page %llu", (unsigned long long)page);
    memcpy(dst, m->ram + (page << CC_PAGE_SHIFT), CC_PAGE_SIZE);
    return CC_OK;
}

void cc_digest_cpu(cc_machine *m, cc_digest *out)
{
    cc_regs r;
    memset(&r, 0, sizeof r);
    m->ops->get_regs(m, &r);
    *out = cc_hash_bytes(&r, sizeof r);
}

void cc_digest_devices(cc_machine *m, cc_digest *out)
{
    *out = cc_hash_bytes(&m->dev, sizeof m->dev);
}

void cc_digest_from_scratch(cc_machine *m, cc_digest *out)
{
    cc_u128 sum = 0;
    for (uint64_t page = 0; page < m->npages; page++)
        sum += cc_hash_keyed(cc_hash_page(m->ram + (page << CC_PAGE_SHIFT)), page);
    cc_state_save(m, &m->pagemap->image.state);
    *out = cc_digest_combine(sum, m->npages, cc_now(m), &m->pagemap->image.state);
}
