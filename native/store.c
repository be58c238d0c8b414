/*
 * store.c: the page store: nodes, pages and page contents with their reference counts and memory budget, and how the
 * contents of one page are kept.  Knows nothing of machines or page tables.
 *
 * Threads: any number may use one store.  A reference count is an atomic; an object is written only by the thread
 * that made it, before anybody else has its handle; the lock covers the slabs' chunk lists and is taken for a batch
 * of objects at a time.
 *
 * A page is kept whole, or as the 64-bit words in which it differs from another page kept whole (its base).  Between
 * two snapshots a guest mostly changes few words of a page: of an idle Linux, 10 ms apart, half of the changed pages
 * differ in 8 words or less, and this form takes an eighth of the memory.
 *
 * Or it is lent: the contents are still in the RAM of the machine that took the snapshot, which settles the page (copies
 * it here) before it writes there, restores over it or ends.  Others settle it when they read it, because they cannot
 * stop the machine's next write.  So taking a snapshot copies nothing, and what is not written again before the
 * snapshot goes is never copied.  The budget is charged and a frame promised when lending: settling cannot fail.
 */
#include "pages.h"

#include <emmintrin.h>
#include <stdlib.h>

/* Charges to the budget are made in advance in this unit, to touch the shared counter seldom. */
#define CREDIT_BYTES 65536u

#define WORDS (CC_PAGE_SIZE / 8)

/* A page as a difference: which words of the base are replaced, and by what. */
struct diff {
    cc_pageh base;                     /* kept whole, or 0; this difference holds a reference */
    uint32_t frame;                    /* where the base is kept: reading goes straight there */
    uint64_t map[WORDS / 64];
    uint64_t word[];
};

/* Sizes of the difference slabs: up to 7, 15, 23, 39, 55, 87 and 119 words.  With more, half of the page would not
 * be saved once the base is only kept for this. */
static const uint32_t diff_bytes[CC_SLAB_COUNT - CC_SLAB_DIFF] = {128, 192, 256, 384, 512, 768, 1024};
#define DIFF_WORDS_MAX ((1024 - sizeof(struct diff)) / 8)

static const uint8_t zero_page[CC_PAGE_SIZE] __attribute__((aligned(64)));

/* ---- store ------------------------------------------------------------------------------------------------------- */
cc_store *cc_store_new(uint64_t budget_bytes)
{
    cc_store *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->budget, budget_bytes);
    bool ok = cc_slab_init(&s->slab[CC_SLAB_NODE], CC_NODE_FAN * sizeof(uint32_t), 12, 1u << 16, true);
    ok = cc_slab_init(&s->slab[CC_SLAB_PAGE], sizeof(struct cc_page), 12, 1u << 16, true) && ok;
    ok = cc_slab_init(&s->slab[CC_SLAB_FRAME], CC_PAGE_SIZE, 9, 1u << 18, false) && ok;
    ok = cc_slab_init(&s->slab[CC_SLAB_LENT], sizeof(struct cc_lent), 12, 1u << 16, false) && ok;
    for (unsigned k = 0; k < CC_SLAB_COUNT - CC_SLAB_DIFF; k++)
        ok = cc_slab_init(&s->slab[CC_SLAB_DIFF + k], diff_bytes[k], 10, 1u << 16, false) && ok;
    /* Item 0 of these two is the handle that stands for zeros: fresh memory is. */
    uint32_t zero_node = 1, zero_page_item = 1;
    ok = ok && cc_slab_get(&s->slab[CC_SLAB_NODE], &zero_node, 1)
         && cc_slab_get(&s->slab[CC_SLAB_PAGE], &zero_page_item, 1);
    if (!ok || zero_node || zero_page_item || pthread_mutex_init(&s->lock, NULL)) {
        for (unsigned k = 0; k < CC_SLAB_COUNT; k++)
            cc_slab_destroy(&s->slab[k]);
        free(s);
        return NULL;
    }
    for (unsigned k = 0; k < CC_LEND_LOCKS; k++)
        s->lend[k] = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    return s;
}

void cc_store_free(cc_store *s)
{
    if (!s)
        return;
    for (unsigned k = 0; k < CC_SLAB_COUNT; k++)
        cc_slab_destroy(&s->slab[k]);
    for (unsigned k = 0; k < CC_LEND_LOCKS; k++)
        pthread_mutex_destroy(&s->lend[k]);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint64_t cc_store_bytes(const cc_store *s)
{
    return atomic_load_explicit(&s->bytes, memory_order_relaxed);
}

uint64_t cc_store_lent_bytes(cc_store *s)
{
    pthread_mutex_lock(&s->lock);
    const uint64_t frames = s->slab[CC_SLAB_FRAME].promised;
    pthread_mutex_unlock(&s->lock);
    return frames * CC_PAGE_SIZE;
}

uint64_t cc_store_budget(const cc_store *s)
{
    return atomic_load_explicit(&s->budget, memory_order_relaxed);
}

void cc_store_set_budget(cc_store *s, uint64_t budget_bytes)
{
    atomic_store_explicit(&s->budget, budget_bytes, memory_order_relaxed);
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */
void cc_batch_begin(struct cc_batch *b, cc_store *s, uint64_t expected)
{
    b->store = s;
    b->credit = 0;
    b->fetch = expected < 8 ? 8 : expected > CC_BATCH ? CC_BATCH : (uint32_t)expected;
    b->frames = 0;
    memset(b->n, 0, sizeof b->n);
}

static void credit_return(struct cc_batch *b)
{
    atomic_fetch_sub_explicit(&b->store->bytes, b->credit, memory_order_relaxed);
    b->credit = 0;
}

void cc_batch_end(struct cc_batch *b)
{
    cc_store *s = b->store;
    pthread_mutex_lock(&s->lock);
    for (unsigned k = 0; k < CC_SLAB_COUNT; k++)
        if (b->n[k])
            cc_slab_put(&s->slab[k], b->item[k], b->n[k]);
    if (b->frames)
        cc_slab_release(&s->slab[CC_SLAB_FRAME], b->frames);
    pthread_mutex_unlock(&s->lock);
    b->frames = 0;
    memset(b->n, 0, sizeof b->n);
    credit_return(b);
}

static bool reserve(cc_store *s, uint64_t bytes)
{
    const uint64_t budget = cc_store_budget(s);
    uint64_t held = cc_store_bytes(s);
    do {
        if (budget && (held > budget || bytes > budget - held))
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&s->bytes, &held, held + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

int cc_charge(struct cc_batch *b, uint64_t bytes)
{
    if (bytes > b->credit) {
        const uint64_t need = bytes - b->credit;
        if (need < CREDIT_BYTES && reserve(b->store, CREDIT_BYTES))
            b->credit += CREDIT_BYTES;
        else if (reserve(b->store, need))
            b->credit += need;
        else
            return CC_EBUDGET;
    }
    b->credit -= bytes;
    return CC_OK;
}

void cc_uncharge(struct cc_batch *b, uint64_t bytes)
{
    b->credit += bytes;
    if (b->credit > 2 * CREDIT_BYTES)
        credit_return(b);
}

uint64_t cc_object_bytes(const cc_store *s, unsigned slab)
{
    return s->slab[slab].item_bytes + (s->slab[slab].counted ? sizeof(uint32_t) : 0);
}

int cc_object_new(struct cc_batch *b, unsigned slab, uint32_t *out)
{
    cc_store *s = b->store;
    const int err = cc_charge(b, cc_object_bytes(s, slab));
    if (err)
        return err;
    if (!b->n[slab]) {
        pthread_mutex_lock(&s->lock);
        b->n[slab] = cc_slab_get(&s->slab[slab], b->item[slab], b->fetch);
        pthread_mutex_unlock(&s->lock);
        if (!b->n[slab]) {
            cc_uncharge(b, cc_object_bytes(s, slab));
            return CC_ENOMEM;
        }
    }
    *out = b->item[slab][--b->n[slab]];
    if (s->slab[slab].counted)
        atomic_store_explicit(cc_refs(s, slab, *out), 1, memory_order_relaxed);
    /* The next one's memory is cold as well, and counting references waits until what was written is in the cache. */
    const uint8_t *next = cc_item(s, slab, b->item[slab][b->n[slab] ? b->n[slab] - 1 : 0]);
    for (unsigned i = 0; i < s->slab[slab].item_bytes && i < 256; i += 64)
        __builtin_prefetch(next + i, 1);
    return CC_OK;
}

void cc_object_free(struct cc_batch *b, unsigned slab, uint32_t h)
{
    if (b->n[slab] == CC_BATCH) {
        pthread_mutex_lock(&b->store->lock);
        cc_slab_put(&b->store->slab[slab], b->item[slab], CC_BATCH);
        pthread_mutex_unlock(&b->store->lock);
        b->n[slab] = 0;
    }
    b->item[slab][b->n[slab]++] = h;
    cc_uncharge(b, cc_object_bytes(b->store, slab));
}

/* A frame for later: CC_OK, CC_EBUDGET or CC_ENOMEM. */
static int frame_promise(struct cc_batch *b)
{
    const int err = cc_charge(b, CC_PAGE_SIZE);
    if (err)
        return err;
    if (!b->frames) {
        pthread_mutex_lock(&b->store->lock);
        b->frames = cc_slab_promise(&b->store->slab[CC_SLAB_FRAME], b->fetch);
        pthread_mutex_unlock(&b->store->lock);
        if (!b->frames) {
            cc_uncharge(b, CC_PAGE_SIZE);
            return CC_ENOMEM;
        }
    }
    b->frames--;
    return CC_OK;
}

static void frame_release(struct cc_batch *b)
{
    b->frames++;
    cc_uncharge(b, CC_PAGE_SIZE);
}

/* ---- page contents ----------------------------------------------------------------------------------------------- */
/* Of a page that is not lent. */
static const struct diff *diff_of(const cc_store *s, const struct cc_page *p)
{
    const unsigned slab = cc_page_slab(p);
    return slab == CC_SLAB_FRAME ? NULL : cc_item(s, slab, p->loc);
}

/* The page kept whole on which h is based: itself, or that of which it is a difference. */
static const uint8_t *whole(const cc_store *s, cc_pageh h)
{
    if (!h)
        return zero_page;
    const struct cc_page *p = cc_page(s, h);
    const struct diff *d = diff_of(s, p);
    if (!d)
        return cc_item(s, CC_SLAB_FRAME, p->loc);
    return d->base ? cc_item(s, CC_SLAB_FRAME, d->frame) : zero_page;
}

static __m128i equal32(const uint8_t *a, const uint8_t *b)
{
    return _mm_cmpeq_epi32(_mm_loadu_si128((const __m128i *)(const void *)a),
                           _mm_loadu_si128((const __m128i *)(const void *)b));
}

/* Which of 8 words differ, as bits. */
static uint64_t words_differ(const uint8_t *a, const uint8_t *b)
{
    const __m128i ones = _mm_set1_epi8(-1);
    /* 32-bit results narrowed to 16: both halves of a word next to each other, and then to one bit. */
    const __m128i lo = _mm_packs_epi32(equal32(a, b), equal32(a + 16, b + 16));
    const __m128i hi = _mm_packs_epi32(equal32(a + 32, b + 32), equal32(a + 48, b + 48));
    const __m128i words = _mm_packs_epi32(_mm_cmpeq_epi32(lo, ones), _mm_cmpeq_epi32(hi, ones));
    return (uint64_t)(_mm_movemask_epi8(_mm_packs_epi16(words, words)) & 0xFF) ^ 0xFF;
}

/* Put what differs between base and src in d: the number of words, or -1 if it is too much to be worth keeping so. */
static int diff_make(const uint8_t *base, const uint8_t *src, struct diff *d)
{
    unsigned words = 0;
    for (unsigned i = 0; i < WORDS / 64; i++) {
        uint64_t map = 0;
        for (unsigned j = 0; j < 64; j += 8)
            map |= words_differ(base + (i * 64 + j) * 8, src + (i * 64 + j) * 8) << j;
        d->map[i] = map;
        words += (unsigned)__builtin_popcountll(map);
        if (words > DIFF_WORDS_MAX)
            return -1;
    }
    uint64_t *word = d->word;
    for (unsigned i = 0; i < WORDS / 64; i++)
        for (uint64_t map = d->map[i]; map; map &= map - 1)
            memcpy(word++, src + (i * 64 + (unsigned)__builtin_ctzll(map)) * 8, 8);
    return (int)words;
}

union kept { struct diff diff; uint8_t bytes[1024]; };

/* How to keep contents which replaced `like`: the slab and the size there.  A difference is made in k, without a
 * reference to its base yet. */
static unsigned kept_as(cc_store *s, cc_pageh like, const uint8_t *src, union kept *k, size_t *size)
{
    /* Differences are never of differences: reading stays one step, and what a base costs is bounded. */
    const uint8_t *contents;
    const cc_pageh base = cc_page_base(s, like, &contents);
    const int words = diff_make(contents, src, &k->diff);
    unsigned slab = CC_SLAB_DIFF;
    *size = CC_PAGE_SIZE;
    if (words < 0)
        return CC_SLAB_FRAME;
    k->diff.base = base;
    k->diff.frame = base ? cc_page(s, base)->loc : 0;
    *size = sizeof(struct diff) + (unsigned)words * sizeof(uint64_t);
    while (diff_bytes[slab - CC_SLAB_DIFF] < *size)
        slab++;
    return slab;
}

/* A new page handle for contents that are in place. */
static int page_handle(struct cc_batch *b, unsigned slab, uint32_t loc, cc_pageh *out)
{
    const int err = cc_object_new(b, CC_SLAB_PAGE, out);
    if (err) {
        cc_object_free(b, slab, loc);
        return err;
    }
    struct cc_page *p = cc_item(b->store, CC_SLAB_PAGE, *out);
    *p = (struct cc_page){.loc = loc, .slab = slab};
    return CC_OK;
}

cc_pageh cc_page_base(cc_store *s, cc_pageh h, const uint8_t **contents)
{
    cc_page_settle(s, h);
    const struct diff *d = h ? diff_of(s, cc_page(s, h)) : NULL;
    *contents = whole(s, h);
    return d ? d->base : h;
}

int cc_page_new(struct cc_batch *b, cc_pageh like, const uint8_t *src, cc_pageh *out)
{
    cc_store *s = b->store;
    union kept k;
    size_t size;
    uint32_t loc;
    const unsigned slab = kept_as(s, like, src, &k, &size);
    int err = cc_object_new(b, slab, &loc);
    if (err)
        return err;
    memcpy(cc_item(s, slab, loc), slab == CC_SLAB_FRAME ? src : k.bytes, size);
    err = page_handle(b, slab, loc, out);
    if (!err && slab != CC_SLAB_FRAME)
        cc_ref(s, CC_SLAB_PAGE, k.diff.base);
    return err;
}

int cc_page_lend(struct cc_batch *b, cc_pageh like, const uint8_t *ram, cc_pageh *out)
{
    cc_store *s = b->store;
    uint32_t loc;
    cc_page_settle(s, like);
    int err = frame_promise(b);
    if (err)
        return err;
    err = cc_object_new(b, CC_SLAB_LENT, &loc);
    if (!err) {
        *(struct cc_lent *)cc_item(s, CC_SLAB_LENT, loc) = (struct cc_lent){.ram = ram, .like = like};
        err = page_handle(b, CC_SLAB_LENT, loc, out);
    }
    if (err)
        frame_release(b);
    else
        cc_ref(s, CC_SLAB_PAGE, like);
    return err;
}

/* The page is lent and this thread has its lock. */
static void settle(cc_store *s, struct cc_page *p)
{
    const uint32_t lent = p->loc;
    const struct cc_lent l = *(const struct cc_lent *)cc_item(s, CC_SLAB_LENT, lent);
    union kept k;
    size_t size;
    uint32_t loc;
    unsigned slab = kept_as(s, l.like, l.ram, &k, &size);
    uint64_t unused = cc_object_bytes(s, CC_SLAB_LENT);
    pthread_mutex_lock(&s->lock);
    cc_slab_put(&s->slab[CC_SLAB_LENT], &lent, 1);
    if (slab != CC_SLAB_FRAME && cc_slab_get(&s->slab[slab], &loc, 1)) {
        cc_slab_release(&s->slab[CC_SLAB_FRAME], 1);
        unused += CC_PAGE_SIZE - cc_object_bytes(s, slab);
    } else {
        slab = CC_SLAB_FRAME;          /* also if the host refuses memory for less */
        loc = cc_slab_redeem(&s->slab[CC_SLAB_FRAME]);
    }
    pthread_mutex_unlock(&s->lock);
    atomic_fetch_sub_explicit(&s->bytes, unused, memory_order_relaxed);
    if (slab == CC_SLAB_FRAME)
        memcpy(cc_item(s, slab, loc), l.ram, CC_PAGE_SIZE);
    else
        memcpy(cc_item(s, slab, loc), k.bytes, size);
    p->loc = loc;
    const uint32_t hashed = atomic_load_explicit(&p->slab, memory_order_relaxed) & CC_PAGE_HASHED;
    atomic_store_explicit(&p->slab, slab | hashed, memory_order_release);
    if (slab != CC_SLAB_FRAME && k.diff.base == l.like)
        return;                        /* the reference has passed to the difference */
    if (slab != CC_SLAB_FRAME)
        cc_ref(s, CC_SLAB_PAGE, k.diff.base);
    if (l.like) {
        struct cc_batch b;
        cc_batch_begin(&b, s, 0);
        cc_page_drop(&b, l.like);
        cc_batch_end(&b);
    }
}

void cc_page_settle(cc_store *s, cc_pageh h)
{
    struct cc_page *p = cc_item(s, CC_SLAB_PAGE, h);
    if (cc_likely(!h || cc_page_slab(p) != CC_SLAB_LENT))
        return;
    pthread_mutex_t *lock = &s->lend[h % CC_LEND_LOCKS];
    pthread_mutex_lock(lock);
    if (cc_page_slab(p) == CC_SLAB_LENT)
        settle(s, p);
    pthread_mutex_unlock(lock);
}

bool cc_page_hashed(const cc_store *s, cc_pageh h, cc_digest *hash)
{
    const struct cc_page *p = cc_page(s, h);
    if (h && !(atomic_load_explicit(&p->slab, memory_order_acquire) & CC_PAGE_HASHED))
        return false;
    *hash = p->hash;                   /* of the page of zeros: 0 */
    return true;
}

/* The page's lock is held. */
static void hash_note(struct cc_page *p, cc_digest hash)
{
    const uint32_t slab = atomic_load_explicit(&p->slab, memory_order_relaxed);
    if (slab & CC_PAGE_HASHED)
        return;
    p->hash = hash;
    atomic_store_explicit(&p->slab, slab | CC_PAGE_HASHED, memory_order_release);
}

void cc_page_set_hash(cc_store *s, cc_pageh h, cc_digest hash)
{
    if (!h)
        return;
    pthread_mutex_t *lock = &s->lend[h % CC_LEND_LOCKS];
    pthread_mutex_lock(lock);
    hash_note(cc_item(s, CC_SLAB_PAGE, h), hash);
    pthread_mutex_unlock(lock);
}

cc_digest cc_page_hash(cc_store *s, cc_pageh h)
{
    cc_digest hash;
    if (cc_page_hashed(s, h, &hash))
        return hash;
    struct cc_page *p = cc_item(s, CC_SLAB_PAGE, h);
    pthread_mutex_t *lock = &s->lend[h % CC_LEND_LOCKS];
    pthread_mutex_lock(lock);
    if (cc_page_slab(p) == CC_SLAB_LENT) {
        hash = cc_hash_page(((const struct cc_lent *)cc_item(s, CC_SLAB_LENT, p->loc))->ram);
    } else {
        uint8_t page[CC_PAGE_SIZE];
        cc_page_read(s, h, page);
        hash = cc_hash_page(page);
    }
    hash_note(p, hash);
    pthread_mutex_unlock(lock);
    return hash;
}

void cc_page_drop(struct cc_batch *b, cc_pageh h)
{
    cc_store *s = b->store;
    while (h && cc_unref(s, CC_SLAB_PAGE, h)) {
        const struct cc_page *p = cc_page(s, h);
        const unsigned slab = cc_page_slab(p);
        cc_pageh next;
        if (slab == CC_SLAB_LENT) {    /* nobody else knows it any more, also not its machine */
            const struct cc_lent *l = cc_item(s, slab, p->loc);
            next = l->like;
            frame_release(b);
        } else {
            const struct diff *d = diff_of(s, p);
            next = d ? d->base : 0;
        }
        cc_object_free(b, slab, p->loc);
        cc_object_free(b, CC_SLAB_PAGE, h);
        h = next;
    }
}

void cc_page_read(cc_store *s, cc_pageh h, uint8_t *dst)
{
    cc_page_settle(s, h);
    const struct diff *d = h ? diff_of(s, cc_page(s, h)) : NULL;
    memcpy(dst, whole(s, h), CC_PAGE_SIZE);
    if (!d)
        return;
    const uint64_t *word = d->word;
    for (unsigned i = 0; i < WORDS / 64; i++)
        for (uint64_t map = d->map[i]; map; map &= map - 1)
            memcpy(dst + (i * 64 + (unsigned)__builtin_ctzll(map)) * 8, word++, 8);
}

bool cc_page_equal(cc_store *s, cc_pageh h, const uint8_t *contents)
{
    cc_page_settle(s, h);
    if (!h || !diff_of(s, cc_page(s, h)))
        return memcmp(whole(s, h), contents, CC_PAGE_SIZE) == 0;
    uint8_t page[CC_PAGE_SIZE];
    cc_page_read(s, h, page);
    return memcmp(page, contents, CC_PAGE_SIZE) == 0;
}

/* Of a page of which the caller has the only reference. */
bool cc_page_is_just_lent(const cc_store *s, cc_pageh h)
{
    const struct cc_page *p = cc_page(s, h);
    if (cc_page_slab(p) != CC_SLAB_LENT)
        return false;
    const cc_pageh like = ((const struct cc_lent *)cc_item(s, CC_SLAB_LENT, p->loc))->like;
    return !like || !cc_alone(s, CC_SLAB_PAGE, like);
}

uint64_t cc_page_exclusive(cc_store *s, cc_pageh h)
{
    uint64_t bytes = 0;
    while (h && atomic_load_explicit(cc_refs(s, CC_SLAB_PAGE, h), memory_order_relaxed) == 1) {
        cc_page_settle(s, h);
        const struct cc_page *p = cc_page(s, h);
        const struct diff *d = diff_of(s, p);
        bytes += cc_object_bytes(s, CC_SLAB_PAGE) + cc_object_bytes(s, cc_page_slab(p));
        h = d ? d->base : 0;
    }
    return bytes;
}
