/*
 * bench_pages.c: what snapshots cost: the figures that the page store is held to, and what they are made of.  Times are
 * the thread's CPU time, so that other work on the host shows less.
 *
 *     cc -std=gnu11 -O2 -pthread -Inative native/tests/bench_pages.c <the library's objects> -o bench_pages
 */
#include "fake_machine.h"

#include <time.h>

#define PAGES_256_MIB 65536u
#define RUNS 200u

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *what, double *us, unsigned n, double target_us)
{
    qsort(us, n, sizeof *us, compare);
    printf("%-58s p50 %8.1f us   p95 %8.1f us   best %8.1f us", what, us[n / 2], us[n * 95 / 100], us[0]);
    printf(target_us > 0 ? "   target p50 %.0f us\n" : "\n", target_us);
}

/* A machine whose memory is all in use, which is the worst case for the page tables. */
static cc_machine *full_machine(cc_store *s, uint64_t *r)
{
    cc_machine *m = fake_new(s, PAGES_256_MIB, false);
    for (uint64_t p = 0; p < m->npages; p++) {
        uint8_t *page = fake_write(m, p);
        for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8)
            memcpy(page + i, &(uint64_t){rnd(r)}, 8);
    }
    return m;
}

/* Where the pages are that a guest has written: one run, runs of 8 (how guests mostly write), or all apart. */
enum where { RUN, RUNS_OF_8, APART };

/* Dirty n different pages; change all of each, or the given number of words.  The same pages each time: a guest writes
 * to its working set. */
static void dirty(cc_machine *m, uint64_t *r, unsigned n, unsigned words, enum where where)
{
    for (unsigned k = 0; k < n; k++) {
        uint64_t p = 5 + k;
        if (where == RUNS_OF_8)
            p = (k / 8 * 40503u & ~7u) + k % 8;
        else if (where == APART)
            p = k * 40503u;            /* odd, so that no page comes twice */
        uint8_t *page = fake_write(m, p % m->npages);
        if (words == 0)
            for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8)
                memcpy(page + i, &(uint64_t){rnd(r)}, 8);
        for (unsigned i = 0; i < words; i++)
            memcpy(page + rnd(r) % 512 * 8, &(uint64_t){rnd(r)}, 8);
    }
}

/* Keep the last few snapshots, as a debugger's keyframes are thinned, or all. */
static void bench_take(cc_machine *m, uint64_t *r, const char *what, unsigned n, unsigned words, enum where where,
                       unsigned keep, double target_us)
{
    static cc_snapshot *kept[RUNS];
    static double us[RUNS];
    for (unsigned i = 0; i < RUNS; i++) {
        dirty(m, r, n, words, where);
        const double t = now_us();
        CHECK(cc_snapshot_take(m, &kept[i]) == CC_OK);
        us[i] = now_us() - t;
        if (i >= keep) {
            cc_snapshot_free(kept[i - keep]);
            kept[i - keep] = NULL;
        }
    }
    report(what, us, RUNS, target_us);
    for (unsigned i = 0; i < RUNS; i++) {
        cc_snapshot_free(kept[i]);
        kept[i] = NULL;
    }
}

static void bench_takes(cc_machine *m, uint64_t *r)
{
    bench_take(m, r, "take, 1000 pages, 10 words each, runs of 8, all kept", 1000, 10, RUNS_OF_8, RUNS, 1000);
    bench_take(m, r, "take, 1000 pages, 10 words each, one run, all kept", 1000, 10, RUN, RUNS, 1000);
    bench_take(m, r, "take, 1000 pages, 10 words each, all apart, all kept", 1000, 10, APART, RUNS, 1000);
    bench_take(m, r, "take, 1000 pages rewritten, runs of 8, last 4 kept", 1000, 0, RUNS_OF_8, 4, 1000);
    bench_take(m, r, "take, 1000 pages rewritten, one run, last 4 kept", 1000, 0, RUN, 4, 1000);
    bench_take(m, r, "take, 1000 pages rewritten, all apart, last 4 kept", 1000, 0, APART, 4, 1000);
    bench_take(m, r, "take, 1000 pages rewritten, all apart, all kept", 1000, 0, APART, RUNS, 1000);
    bench_take(m, r, "take, 16 pages, 10 words each, all kept", 16, 10, RUNS_OF_8, RUNS, 0);
    bench_take(m, r, "take, nothing changed", 0, 0, RUN, RUNS, 0);
}

static void bench_restores(cc_machine *m, uint64_t *r)
{
    static double us[RUNS];
    cc_snapshot *a, *b;
    CHECK(cc_snapshot_take(m, &a) == CC_OK);
    for (unsigned words = 0; words <= 10; words += 10) {
        for (unsigned i = 0; i < RUNS; i++) {
            dirty(m, r, 16, words, APART);
            const double t = now_us();
            CHECK(cc_snapshot_restore(m, a) == CC_OK);
            us[i] = now_us() - t;
        }
        report(words ? "restore, 16 pages written since, 10 words each" : "restore, 16 pages rewritten since", us, RUNS,
               50);
        dirty(m, r, 16, words, APART);
        CHECK(cc_snapshot_take(m, &b) == CC_OK);
        for (unsigned i = 0; i < RUNS; i++) {
            const double t = now_us();
            CHECK(cc_snapshot_restore(m, i % 2 ? b : a) == CC_OK);
            us[i] = now_us() - t;
        }
        report(words ? "restore of another snapshot, 16 pages, 10 words each" : "restore of another snapshot, 16 pages",
               us, RUNS, 50);
        CHECK(cc_snapshot_restore(m, a) == CC_OK);
        cc_snapshot_free(b);
    }
    cc_snapshot_free(a);
}

/* A thousand snapshots with 10 to 20 pages dirtied in between; few words are what idle guests change. */
static void bench_idle(cc_machine *m, uint64_t *r, const char *what, unsigned words)
{
    enum { N = 1000 };
    static cc_snapshot *kept[N];
    static double us[N];
    struct fake_cpu *c = m->vcpu;
    cc_snapshot *first;
    CHECK(cc_snapshot_take(m, &first) == CC_OK);
    const uint64_t before = cc_store_bytes(m->store);
    for (unsigned i = 0; i < N; i++) {
        dirty(m, r, 10 + (unsigned)(rnd(r) % 11), words, RUNS_OF_8);
        for (unsigned k = 0; k < 16; k++)
            c->regs.gpr[k] = rnd(r);
        m->instret += 100000;
        CHECK(cc_snapshot_take(m, &kept[i]) == CC_OK);
    }
    printf("%-58s %.1f MiB   target 100 MiB\n", what, (double)(cc_store_bytes(m->store) - before) / 1048576);
    for (unsigned i = 0; i < N; i++) {
        const double t = now_us();
        CHECK(cc_snapshot_restore(m, kept[rnd(r) % N]) == CC_OK);
        us[i] = now_us() - t;
    }
    report("  restore of any of them", us, N, 0);
    for (unsigned i = 0; i < N; i++) {
        const double t = now_us();
        cc_snapshot_free(kept[i]);
        us[i] = now_us() - t;
    }
    report("  freeing one", us, N, 0);
    cc_snapshot_free(first);
}

static void bench_digest(cc_machine *m, uint64_t *r)
{
    static double us[RUNS];
    cc_digest d;
    uint64_t sink = 0;
    double t = now_us();
    for (unsigned i = 0; i < 200000; i++)
        sink += cc_hash_page(m->ram + i % 4 * CC_PAGE_SIZE).lo;
    printf("%-58s %.1f GB/s   target 8 GB/s\n", "hash of pages, in cache", 200000.0 * 4096 / 1e3 / (now_us() - t));
    t = now_us();
    for (uint64_t p = 0; p < m->npages; p++)
        sink += cc_hash_page(m->ram + p * CC_PAGE_SIZE).lo;
    const double us_all = now_us() - t;
    printf("%-58s %.1f GB/s (%llx)\n", "hash of pages, 256 MiB in order", (double)m->npages * 4096 / 1e3 / us_all,
           (unsigned long long)sink);
    for (unsigned i = 0; i < RUNS; i++) {
        dirty(m, r, 1000, 10, RUNS_OF_8);
        t = now_us();
        cc_digest_now(m, &d);
        us[i] = now_us() - t;
    }
    report("digest, 1000 pages written since", us, RUNS, 0);
}

int main(void)
{
    uint64_t r = 1;
    cc_store *s = cc_store_new(0);
    cc_machine *m = full_machine(s, &r);
    cc_snapshot *base;
    const double t = now_us();
    CHECK(cc_snapshot_take(m, &base) == CC_OK);
    printf("%-58s %.1f ms\n", "first take, all 65536 pages in use", (now_us() - t) / 1e3);
    bench_takes(m, &r);
    bench_restores(m, &r);
    bench_idle(m, &r, "1000 snapshots, 10 to 20 pages rewritten between", 0);
    bench_idle(m, &r, "1000 snapshots, 10 to 20 pages with 10 words changed", 10);
    bench_digest(m, &r);
    cc_snapshot_free(base);
    fake_free(m);
    CHECK(cc_store_bytes(s) == 0);
    cc_store_free(s);
    return 0;
}
