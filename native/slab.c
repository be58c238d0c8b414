/*
 * slab.c: items of one size, in chunks of host memory that is asked for when it is needed and given back when it is not.
 * Knows nothing of what the items are; the caller has the lock.
 *
 * An item is handed out, or promised first: a promise is a number, not a place, so that memory that was written before is
 * used again before memory that never was.  What is free and was written goes back to the host as whole chunks, and
 * where a chunk still holds something, page by page once there is enough of it to be worth it: one item that is kept
 * must not keep a chunk.
 */
#define _GNU_SOURCE
#include "pages.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Free memory that may stay, besides a sixteenth of what is in use: then taking a snapshot soon after freeing one asks the
 * host for nothing. */
#define WARM_BYTES (UINT64_C(2) << 20)
#define PER_CHUNK_MAX 4096u

struct cc_chunk {
    uint32_t used;                     /* items handed out */
    uint32_t fresh;                    /* items from here on were never handed out */
    uint32_t cold;                     /* so many at the bottom of `free` have no memory any more */
    uint32_t prev, next;               /* chunk number + 1, in the list of those with room */
    uint16_t *free;                    /* a stack of the fresh - used items given back; not kept in the items */
};

bool cc_slab_init(struct cc_slab *l, uint32_t item_bytes, uint32_t shift, uint32_t chunks_max, bool counted)
{
    *l = (struct cc_slab){.item_bytes = item_bytes, .shift = shift, .chunks_max = chunks_max, .counted = counted};
    /* Large and mostly never touched: the host gives memory for what is. */
    l->items = calloc(chunks_max, sizeof *l->items);
    l->chunk = calloc(chunks_max, sizeof *l->chunk);
    l->refs = counted ? calloc(chunks_max, sizeof *l->refs) : NULL;
    return l->items && l->chunk && (!counted || l->refs) && 1u << shift <= PER_CHUNK_MAX;
}

static size_t chunk_bytes(const struct cc_slab *l)
{
    return ((size_t)l->item_bytes + (l->counted ? sizeof(uint32_t) : 0)) << l->shift;
}

void cc_slab_destroy(struct cc_slab *l)
{
    for (uint32_t c = 0; c < l->chunks; c++) {
        free(l->chunk[c].free);
        if (l->items[c])
            munmap(l->items[c], chunk_bytes(l));
    }
    free(l->items);
    free(l->chunk);
    free(l->refs);
}

/* ---- chunks ------------------------------------------------------------------------------------------------------ */
/* Memory for a chunk, zero.  Huge pages are not asked for: clearing one takes longer than a whole snapshot. */
static uint8_t *chunk_map(size_t size)
{
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Chunks with room: those that hold something first, the empty ones last. */
static void partial_insert(struct cc_slab *l, uint32_t c, bool first)
{
    struct cc_chunk *k = &l->chunk[c];
    k->prev = first ? 0 : l->partial_last;
    k->next = first ? l->partial : 0;
    *(k->prev ? &l->chunk[k->prev - 1].next : &l->partial) = c + 1;
    *(k->next ? &l->chunk[k->next - 1].prev : &l->partial_last) = c + 1;
}

static void partial_remove(struct cc_slab *l, uint32_t c)
{
    const struct cc_chunk *k = &l->chunk[c];
    *(k->prev ? &l->chunk[k->prev - 1].next : &l->partial) = k->next;
    *(k->next ? &l->chunk[k->next - 1].prev : &l->partial_last) = k->prev;
}

static uint32_t warm(const struct cc_chunk *k)
{
    return k->fresh - k->used - k->cold;
}

static bool chunk_new(struct cc_slab *l)
{
    if (!l->unmapped && l->chunks == l->chunks_max)
        return false;
    uint8_t *p = chunk_map(chunk_bytes(l));
    uint16_t *stack = malloc(sizeof *stack << l->shift);
    if (!p || !stack) {
        if (p)
            munmap(p, chunk_bytes(l));
        free(stack);
        return false;
    }
    uint32_t c = l->chunks;
    if (l->unmapped) {
        c = l->unmapped - 1;
        l->unmapped = l->chunk[c].next;
    } else {
        l->chunks++;
    }
    l->items[c] = p;
    if (l->counted)
        l->refs[c] = (_Atomic uint32_t *)(void *)(p + ((size_t)l->item_bytes << l->shift));
    l->chunk[c] = (struct cc_chunk){.free = stack};
    l->empty++;
    l->room += UINT64_C(1) << l->shift;
    partial_insert(l, c, false);
    return true;
}

static void chunk_unmap(struct cc_slab *l, uint32_t c)
{
    partial_remove(l, c);
    munmap(l->items[c], chunk_bytes(l));
    l->warm -= warm(&l->chunk[c]);
    l->room -= UINT64_C(1) << l->shift;
    free(l->chunk[c].free);
    l->chunk[c].free = NULL;
    l->items[c] = NULL;
    if (l->counted)
        l->refs[c] = NULL;
    l->chunk[c].next = l->unmapped;
    l->unmapped = c + 1;
    l->empty--;
}

/* ---- memory back to the host ------------------------------------------------------------------------------------- */
/* The host pages that hold nothing but free items, also those that went before: it makes fewer calls. */
static void chunk_cool(struct cc_slab *l, uint32_t c)
{
    struct cc_chunk *k = &l->chunk[c];
    const uint32_t per_chunk = 1u << l->shift;
    bool held[PER_CHUNK_MAX + 1] = {false};
    memset(held, true, k->fresh);
    for (uint32_t i = 0; i < k->fresh - k->used; i++)
        held[k->free[i]] = false;
    held[per_chunk] = true;
    const uint64_t page_mask = CC_PAGE_SIZE - 1;
    for (uint64_t i = 0, end; i < per_chunk; i = end + 1) {
        for (end = i; !held[end]; end++)
            ;
        const uint64_t from = (i * l->item_bytes + page_mask) & ~page_mask, to = end * l->item_bytes & ~page_mask;
        if (from < to)
            (void)madvise(l->items[c] + from, to - from, MADV_DONTNEED);
    }
    l->warm -= warm(k);
    k->cold = k->fresh - k->used;
}

/* After this, no more is free and warm than was said above.  A walk of the list is paid for by what was freed since. */
static void give_back(struct cc_slab *l)
{
    const uint64_t per_chunk = UINT64_C(1) << l->shift;
    while (l->empty > 1 && l->room - per_chunk >= l->promised)
        chunk_unmap(l, l->partial_last - 1);
    if (l->warm * l->item_bytes <= WARM_BYTES + l->used * l->item_bytes / 16)
        return;
    for (uint32_t c = l->partial; c; c = l->chunk[c - 1].next)
        if (warm(&l->chunk[c - 1]))
            chunk_cool(l, c - 1);
}

/* ---- items ------------------------------------------------------------------------------------------------------- */
/* For how many items, at most n, there is room besides those promised. */
static uint32_t make_room(struct cc_slab *l, uint32_t n)
{
    while (l->room - l->promised < n && chunk_new(l))
        ;
    const uint64_t room = l->room - l->promised;
    return room < n ? (uint32_t)room : n;
}

/* There is room. */
static uint32_t hand_out(struct cc_slab *l)
{
    const uint32_t c = l->partial - 1;
    struct cc_chunk *k = &l->chunk[c];
    const uint32_t given_back = k->fresh - k->used;
    const uint32_t i = given_back ? k->free[given_back - 1] : k->fresh++;
    if (given_back > k->cold)
        l->warm--;
    else if (given_back)
        k->cold--;
    l->empty -= k->used == 0;
    l->used++;
    l->room--;
    if (++k->used == 1u << l->shift)
        partial_remove(l, c);
    return c << l->shift | i;
}

uint32_t cc_slab_get(struct cc_slab *l, uint32_t *out, uint32_t n)
{
    n = make_room(l, n);
    for (uint32_t i = 0; i < n; i++)
        out[i] = hand_out(l);
    return n;
}

void cc_slab_put(struct cc_slab *l, const uint32_t *item, uint32_t n)
{
    const uint32_t per_chunk = 1u << l->shift;
    for (uint32_t j = 0; j < n; j++) {
        const uint32_t c = item[j] >> l->shift;
        struct cc_chunk *k = &l->chunk[c];
        k->free[k->fresh - k->used] = (uint16_t)(item[j] & (per_chunk - 1));
        if (k->used-- == per_chunk)
            partial_insert(l, c, true);
        if (k->used)
            continue;
        partial_remove(l, c);
        partial_insert(l, c, false);
        l->empty++;
    }
    l->used -= n;
    l->room += n;
    l->warm += n;
    give_back(l);
}

uint32_t cc_slab_promise(struct cc_slab *l, uint32_t n)
{
    n = make_room(l, n);
    l->promised += n;
    return n;
}

void cc_slab_release(struct cc_slab *l, uint32_t n)
{
    l->promised -= n;
    give_back(l);
}

uint32_t cc_slab_redeem(struct cc_slab *l)
{
    l->promised--;
    return hand_out(l);
}
