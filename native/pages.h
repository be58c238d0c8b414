/*
 * pages.h: the page store, page tables, snapshots and digests, as store.c, pages.c, snapshot.c and digest.c share
 * them.  Nothing else includes it, apart from their tests.
 *
 *  slab.c      host memory for objects of one size
 *  store.c     who owns what: reference counts, the memory budget, and how one page's contents are kept
 *  pages.c     page tables: radix trees of pages whose nodes are shared between snapshots
 *  snapshot.c  taking, restoring and freeing
 *  digest.c    the hash and the state digest
 *
 * Pages and nodes are named by 32-bit handles, not by addresses: half the size in a node, and a page may be kept in
 * any form (whole, as a difference, or still in the machine's RAM; later compressed, or in a file) without its users knowing.
 */
#ifndef CC_PAGES_H
#define CC_PAGES_H

#include "machine.h"

#include <pthread.h>
#include <stdatomic.h>

typedef unsigned __int128 cc_u128;

typedef uint32_t cc_pageh;     /* 0: the page of zeros, which costs nothing */
typedef uint32_t cc_nodeh;     /* 0: a subtree of zero pages only */

/* Node fan-out.  A node is one cache line of 16 handles; 256 MiB of RAM is 4 levels, 3 GiB is 5. */
#define CC_NODE_BITS 4u
#define CC_NODE_FAN (1u << CC_NODE_BITS)

/* ---- slab.c ------------------------------------------------------------------------------------------------------ */
struct cc_slab {
    uint32_t item_bytes;
    uint32_t shift;                    /* log2 of items per chunk */
    uint32_t chunks_max;
    bool counted;                      /* each item has a reference count */
    uint32_t chunks;                   /* chunk numbers given out so far */
    uint32_t partial, partial_last;    /* chunks with room: number + 1, chained through chunk.next; empty ones last */
    uint32_t unmapped;                 /* chunk numbers whose memory was given back, likewise */
    uint32_t empty;                    /* mapped chunks holding nothing: at most one that is not needed for a promise */
    uint64_t used, room;               /* items handed out; those of mapped chunks that are not */
    uint64_t promised;                 /* of the room */
    uint64_t warm;                     /* items given back that may still have memory */
    uint8_t **items;                   /* by chunk number */
    _Atomic uint32_t **refs;           /* by chunk number; only if counted */
    struct cc_chunk *chunk;
};

bool cc_slab_init(struct cc_slab *l, uint32_t item_bytes, uint32_t shift, uint32_t chunks_max, bool counted);
void cc_slab_destroy(struct cc_slab *l);
/* Up to n items; fewer only if the host refuses memory. */
uint32_t cc_slab_get(struct cc_slab *l, uint32_t *out, uint32_t n);
void cc_slab_put(struct cc_slab *l, const uint32_t *item, uint32_t n);
/* Promise up to n items, fewer only if the host refuses memory; take promises back; keep one, which cannot fail. */
uint32_t cc_slab_promise(struct cc_slab *l, uint32_t n);
void cc_slab_release(struct cc_slab *l, uint32_t n);
uint32_t cc_slab_redeem(struct cc_slab *l);

/* ---- store.c: objects -------------------------------------------------------------------------------------------- */
/* One slab per kind of object.  The difference slabs hold pages kept as the 64-bit words that differ from a base. */
enum { CC_SLAB_NODE, CC_SLAB_PAGE, CC_SLAB_FRAME, CC_SLAB_LENT, CC_SLAB_DIFF, CC_SLAB_COUNT = CC_SLAB_DIFF + 7 };

/* What a page handle stands for. */
#define CC_PAGE_HASHED 0x100u
struct cc_page {
    cc_digest hash;                    /* cc_hash_page() of its contents, once somebody has asked for it */
    uint32_t loc;                      /* item in the slab */
    _Atomic uint32_t slab;             /* CC_SLAB_FRAME, CC_SLAB_LENT, or one of the difference slabs; CC_PAGE_HASHED */
};

/* A page whose contents are still in a machine's RAM, which lends it until the page is written.  It is promised a frame,
 * so that settling cannot fail. */
struct cc_lent {
    const uint8_t *ram;
    cc_pageh like;                     /* what it may become a difference of; never lent; this holds a reference */
};
#define CC_LEND_LOCKS 32u

/* Objects taken from the slabs, or on their way back, so that the lock is taken once for many; one thread's. */
#define CC_BATCH 64u
struct cc_batch {
    cc_store *store;
    uint64_t credit;                   /* bytes charged to the budget and not used (yet, or any more) */
    uint32_t fetch;                    /* objects to get at a time */
    uint32_t frames;                   /* promised */
    uint32_t n[CC_SLAB_COUNT];
    uint32_t item[CC_SLAB_COUNT][CC_BATCH];
};

struct cc_store {
    struct cc_slab slab[CC_SLAB_COUNT];
    _Atomic uint64_t bytes, budget;    /* budget 0: no limit */
    _Atomic uint64_t snapshots, freed; /* that there are; that there were, and machines */
    pthread_mutex_t lock;              /* over the slabs' chunk lists; never held while contents are copied */
    pthread_mutex_t lend[CC_LEND_LOCKS];   /* by handle: over settling a page; taken before `lock` */
};

static inline void *cc_item(const cc_store *s, unsigned slab, uint32_t i)
{
    const struct cc_slab *l = &s->slab[slab];
    return l->items[i >> l->shift] + (size_t)(i & ((1u << l->shift) - 1)) * l->item_bytes;
}

static inline _Atomic uint32_t *cc_refs(const cc_store *s, unsigned slab, uint32_t i)
{
    const struct cc_slab *l = &s->slab[slab];
    return &l->refs[i >> l->shift][i & ((1u << l->shift) - 1)];
}

static inline uint32_t *cc_node(const cc_store *s, cc_nodeh h)
{
    return cc_item(s, CC_SLAB_NODE, h);
}

static inline const struct cc_page *cc_page(const cc_store *s, cc_pageh h)
{
    return cc_item(s, CC_SLAB_PAGE, h);
}

static inline unsigned cc_page_slab(const struct cc_page *p)
{
    /* Pairs with settling, after which `loc` is another. */
    return atomic_load_explicit(&p->slab, memory_order_acquire) & ~CC_PAGE_HASHED;
}

static inline void cc_ref(const cc_store *s, unsigned slab, uint32_t h)
{
    if (h)
        atomic_fetch_add_explicit(cc_refs(s, slab, h), 1, memory_order_relaxed);
}

/* Whether there is one reference, the caller's: nobody else can add another then. */
static inline bool cc_alone(const cc_store *s, unsigned slab, uint32_t h)
{
    return atomic_load_explicit(cc_refs(s, slab, h), memory_order_acquire) == 1;
}

/* Drop one reference; true if it was the last, and the caller now owns the object alone. */
static inline bool cc_unref(const cc_store *s, unsigned slab, uint32_t h)
{
    /* Of an object that is the caller's alone: no need to lock the line. */
    return cc_alone(s, slab, h) || atomic_fetch_sub_explicit(cc_refs(s, slab, h), 1, memory_order_acq_rel) == 1;
}

void cc_batch_begin(struct cc_batch *b, cc_store *s, uint64_t expected);
void cc_batch_end(struct cc_batch *b);
/* Charge bytes to the budget: CC_OK or CC_EBUDGET.  cc_uncharge gives them back. */
int cc_charge(struct cc_batch *b, uint64_t bytes);
void cc_uncharge(struct cc_batch *b, uint64_t bytes);
/* A new object with one reference: CC_OK, CC_EBUDGET or CC_ENOMEM. */
int cc_object_new(struct cc_batch *b, unsigned slab, uint32_t *out);
void cc_object_free(struct cc_batch *b, unsigned slab, uint32_t h);
uint64_t cc_object_bytes(const cc_store *s, unsigned slab);

/* ---- store.c: page contents -------------------------------------------------------------------------------------- */
/* Keep contents; `like` is the page they replaced, against which they may be kept. */
int cc_page_new(struct cc_batch *b, cc_pageh like, const uint8_t *src, cc_pageh *out);
/* The page kept whole on which h is based (h itself, or that of which it is a difference), and its contents: what
 * reading h, or keeping something like it, will read. */
cc_pageh cc_page_base(cc_store *s, cc_pageh h, const uint8_t **contents);
/* The same, but the contents stay in the machine's RAM: whoever is about to change them calls cc_page_settle() first. */
int cc_page_lend(struct cc_batch *b, cc_pageh like, const uint8_t *ram, cc_pageh *out);
/* Copy the contents of a lent page into the store; does nothing to another.  Any thread with a reference may. */
void cc_page_settle(cc_store *s, cc_pageh h);
void cc_page_drop(struct cc_batch *b, cc_pageh h);
void cc_page_read(cc_store *s, cc_pageh h, uint8_t *dst);
bool cc_page_equal(cc_store *s, cc_pageh h, const uint8_t *contents);
/* The contents' hash, if it is known; computed, if not; told by somebody who computed it. */
bool cc_page_hashed(const cc_store *s, cc_pageh h, cc_digest *hash);
cc_digest cc_page_hash(cc_store *s, cc_pageh h);
void cc_page_set_hash(cc_store *s, cc_pageh h, cc_digest hash);
/* Whether dropping a page that only the caller has would give back no contents. */
bool cc_page_is_just_lent(const cc_store *s, cc_pageh h);
/* What cc_page_drop() would give back, in bytes. */
uint64_t cc_page_exclusive(cc_store *s, cc_pageh h);

/* ---- pages.c: page tables ---------------------------------------------------------------------------------------- */
/* What a snapshot holds besides RAM, kept as pages too, so that it costs what changed as well. */
struct cc_state {
    cc_regs regs;
    uint64_t instret, instret_base, vns_base;
    cc_stats stats;                    /* the host-side figures are 0 */
    struct cc_devstate dev;
};
#define CC_STATE_PAGES ((sizeof(struct cc_state) + CC_PAGE_SIZE - 1) / CC_PAGE_SIZE)
union cc_state_image {
    struct cc_state state;
    uint8_t page[CC_STATE_PAGES][CC_PAGE_SIZE];
};

struct cc_pagemap {
    /* The snapshot that RAM was last equal to; this machine holds a reference to each. */
    cc_nodeh root;
    cc_pageh state[CC_STATE_PAGES];
    uint32_t levels;
    uint64_t freed;                    /* the store's, when cc_pagemap_reclaim() last looked */
    cc_digest *hash;                   /* per page: its hash, of old if it is on dirty_digest */
    cc_u128 sum;                       /* of cc_hash_keyed() over all of hash[] */
    cc_sketch sketch;                  /* of the same */
    uint32_t *scratch;                 /* room for npages page numbers or handles */
    union cc_state_image image;        /* scratch; its padding stays 0 */
};

void cc_pagelist_sort(cc_machine *m, cc_pagelist *list);
/* A tree with `root`'s pages, except those listed (sorted), which are taken from RAM. */
int cc_tree_update(cc_machine *m, struct cc_batch *b, cc_nodeh root, const cc_pagelist *list, cc_nodeh *out);
void cc_tree_drop(struct cc_batch *b, cc_nodeh root, uint32_t levels);
cc_pageh cc_tree_find(const cc_store *s, cc_nodeh root, uint32_t levels, uint64_t page);
/* Calls fn for every page in which two trees of the same number of levels may differ, in order. */
typedef void cc_tree_diff_fn(cc_machine *m, uint64_t page, cc_pageh to);
void cc_tree_diff(cc_machine *m, cc_nodeh from, cc_nodeh to, cc_tree_diff_fn *fn);
uint64_t cc_tree_exclusive(cc_store *s, cc_nodeh root, uint32_t levels);
/* The sum of cc_hash_keyed() over all pages of a tree. */
cc_u128 cc_tree_sum(cc_store *s, cc_nodeh root, uint32_t levels);

/* ---- snapshot.c -------------------------------------------------------------------------------------------------- */
struct cc_snapshot {
    cc_store *store;
    cc_nodeh root;
    cc_pageh state[CC_STATE_PAGES];
    uint32_t levels;
    uint64_t instret, vns, npages;
    cc_config cfg;
};

/* CC_OK if the machine can be brought to this snapshot; otherwise cc_error() says why not. */
int cc_snapshot_check(cc_machine *m, const cc_snapshot *s);
/* Write RAM, and nothing else, as it is in the snapshot, which has been checked; *regs: the registers that go with it. */
void cc_snapshot_restore_ram(cc_machine *m, const cc_snapshot *s, cc_regs *regs);

/* The state besides RAM, as it is now. */
void cc_state_save(cc_machine *m, struct cc_state *st);

/* ---- digest.c ---------------------------------------------------------------------------------------------------- */
/* Changing what any digest comes out as means changing this number, which every digest depends on. */
#define CC_DIGEST_VERSION 1u

cc_digest cc_hash_bytes(const void *src, size_t size);
cc_digest cc_hash_page(const uint8_t *page);               /* of zeros: 0 */
cc_u128 cc_hash_keyed(cc_digest hash, uint64_t page);      /* a page's share in the sum; a zero page's is 0 */

/* RAM at page has become what the store keeps as h, whose hash may be known or not. */
void cc_digest_restored(cc_machine *m, uint64_t page, cc_pageh h);
/* Drop pages from the list whose bit is cleared. */
void cc_digest_compact(cc_machine *m);
bool cc_page_is_zero(const uint8_t *page);

/* The digest of a machine whose pages' sum is `pages` and which is otherwise in the state given. */
cc_digest cc_digest_combine(cc_u128 pages, uint64_t npages, uint64_t vns, const struct cc_state *st);
/* For tests: the digest computed from RAM, with nothing remembered. */
void cc_digest_from_scratch(cc_machine *m, cc_digest *out);

#endif
