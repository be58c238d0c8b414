/*
 * test_digest.c: the hash behind the state digest: its values, fixed for ever by CC_DIGEST_VERSION, and how well it
 * mixes, on inputs as regular as guests' pages are.
 */
#include "fake_machine.h"

#define BITS 128

static uint8_t page[CC_PAGE_SIZE + 16];

static bool same(cc_digest a, cc_digest b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static cc_u128 wide(cc_digest d)
{
    return (cc_u128)d.hi << 64 | d.lo;
}

static void expect(const char *what, cc_digest d, uint64_t lo, uint64_t hi)
{
    if (d.lo == lo && d.hi == hi)
        return;
    fprintf(stderr, "%s: is 0x%016llx, 0x%016llx\n", what, (unsigned long long)d.lo, (unsigned long long)d.hi);
    abort();
}

/* Other compilers, hosts and optimisations give the same; a change of these needs a new CC_DIGEST_VERSION. */
static void test_values(void)
{
    CHECK(CC_DIGEST_VERSION == 1);
    memset(page, 0, sizeof page);
    expect("page of zeros", cc_hash_page(page), 0, 0);
    page[CC_PAGE_SIZE - 1] = 0x80;
    expect("page with its last bit set", cc_hash_page(page), 0x2bc628601fd45cb4, 0x00dcc30615545918);
    for (unsigned i = 0; i < CC_PAGE_SIZE; i++)
        page[i] = (uint8_t)(i * 7 + i / 256);
    expect("page of a pattern", cc_hash_page(page), 0xf97035d4275b4cb0, 0x71c17de833736dae);
    expect("no bytes", cc_hash_bytes(page, 0), 0x1c15542d69e1edd6, 0x84bffdd863d22b45);
    expect("13 bytes", cc_hash_bytes(page, 13), 0xd9ec4bfc45e51797, 0xe3cb91f186e2cceb);
    expect("1000 bytes", cc_hash_bytes(page, 1000), 0x9c9b38360c4c2638, 0x7134e0df1eb72dc7);
    const cc_u128 k = cc_hash_keyed(cc_hash_page(page), 77);
    expect("keyed", (cc_digest){(uint64_t)k, (uint64_t)(k >> 64)}, 0x1ae9438e90fc5391, 0xe701c184ce6f8bc3);
}

static void test_alignment_and_length(void)
{
    static uint8_t copy[CC_PAGE_SIZE + 16];
    uint64_t r = 3;
    for (unsigned i = 0; i < CC_PAGE_SIZE; i++)
        page[i] = (uint8_t)rnd(&r);
    for (unsigned at = 0; at < 16; at++) {
        memcpy(copy + at, page, CC_PAGE_SIZE);
        CHECK(same(cc_hash_page(copy + at), cc_hash_page(page)));
        CHECK(same(cc_hash_bytes(copy + at, 999), cc_hash_bytes(page, 999)));
    }
    CHECK(same(cc_hash_page(page), cc_hash_bytes(page, CC_PAGE_SIZE)));
    /* Zeros at the end count: every length of zeros has its own hash. */
    static cc_digest d[600];
    memset(copy, 0, sizeof copy);
    for (unsigned n = 0; n < 600; n++) {
        d[n] = cc_hash_bytes(copy, n);
        for (unsigned k = 0; k < n; k++)
            CHECK(!same(d[k], d[n]));
    }
}

/* One bit of the input changes each bit of the output with probability 1/2: counted over many inputs. */
struct avalanche { uint32_t flips[BITS]; uint32_t n; };

static void avalanche_add(struct avalanche *a, cc_u128 x)
{
    for (unsigned b = 0; b < BITS; b++)
        a->flips[b] += (uint32_t)(x >> b) & 1;
    a->n++;
}

static void avalanche_check(const struct avalanche *a, const char *what, unsigned bit)
{
    for (unsigned b = 0; b < BITS; b++) {
        /* Within 6 standard deviations, each of which is sqrt(n) / 2. */
        const int64_t off = 2 * (int64_t)a->flips[b] - a->n;
        if (off * off > 36 * (int64_t)a->n) {
            fprintf(stderr, "%s: input bit %u, output bit %u: %u of %u\n", what, bit, b, a->flips[b], a->n);
            abort();
        }
    }
}

static void test_avalanche(void)
{
    uint64_t r = 17;
    /* The first, last and some other words: each lane, and few or many steps before the end. */
    static const unsigned words[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 255, 504, 505, 506, 507, 508, 509, 510, 511};
    for (unsigned w = 0; w < sizeof words / sizeof *words; w++)
        for (unsigned bit = 0; bit < 64; bit++) {
            struct avalanche a = {{0}, 0};
            for (unsigned k = 0; k < 256; k++) {
                /* Sparse pages: most words zero, as in guests. */
                memset(page, 0, CC_PAGE_SIZE);
                for (unsigned i = 0; i < 8; i++)
                    memcpy(page + rnd(&r) % 512 * 8, &(uint64_t){rnd(&r) & 0xFFFF}, 8);
                page[2048] |= 1;
                const cc_u128 was = wide(cc_hash_page(page));
                page[words[w] * 8 + bit / 8] ^= (uint8_t)(1u << bit % 8);
                avalanche_add(&a, was ^ wide(cc_hash_page(page)));
            }
            avalanche_check(&a, "page", words[w] * 64 + bit);
        }
    for (unsigned bit = 0; bit < BITS + 32; bit++) {
        struct avalanche a = {{0}, 0};
        for (unsigned k = 0; k < 1024; k++) {
            cc_digest h = {rnd(&r), rnd(&r)};
            uint64_t number = rnd(&r) & 0xFFFFF;
            const cc_u128 was = cc_hash_keyed(h, number);
            if (bit < 64)
                h.lo ^= UINT64_C(1) << bit;
            else if (bit < BITS)
                h.hi ^= UINT64_C(1) << (bit - 64);
            else
                number ^= UINT64_C(1) << (bit - BITS);
            avalanche_add(&a, was ^ cc_hash_keyed(h, number));
        }
        avalanche_check(&a, "keyed", bit);
    }
}

/* ---- regular inputs: no collisions in 64 bits, and as many in 32 as chance gives --------------------------------- */
#define INPUTS 32768u

static uint64_t lo[INPUTS], hi[INPUTS];

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Pairs that agree in the 32 bits from `shift` on. */
static unsigned pairs(const uint64_t *v, unsigned shift, uint64_t mask)
{
    static uint64_t s[INPUTS];
    unsigned n = 0;
    for (unsigned i = 0; i < INPUTS; i++)
        s[i] = v[i] >> shift & mask;
    qsort(s, INPUTS, sizeof *s, compare);
    for (unsigned i = 1; i < INPUTS; i++)
        n += s[i] == s[i - 1];
    return n;
}

static void collisions_check(const char *what)
{
    /* 2^15 inputs, 2^29 pairs: 0.125 expected to agree in 32 bits, 32 in 24. */
    for (unsigned half = 0; half < 2; half++) {
        const uint64_t *v = half ? hi : lo;
        CHECK(pairs(v, 0, UINT64_MAX) == 0);
        for (unsigned shift = 0; shift <= 40; shift += 8) {
            const unsigned n24 = pairs(v, shift, 0xFFFFFF), n32 = shift <= 32 ? pairs(v, shift, 0xFFFFFFFF) : 0;
            if (n24 > 70 || n24 < 5 || n32 > 5) {
                fprintf(stderr, "%s: bits from %u of half %u: %u pairs agree in 24, %u in 32\n", what, shift, half,
                        n24, n32);
                abort();
            }
        }
    }
}

static void hashed(unsigned i)
{
    const cc_digest h = cc_hash_page(page);
    lo[i] = h.lo;
    hi[i] = h.hi;
}

static void test_regular_pages(void)
{
    /* One bit set. */
    for (unsigned i = 0; i < INPUTS; i++) {
        memset(page, 0, CC_PAGE_SIZE);
        page[i / 8] = (uint8_t)(1u << i % 8);
        hashed(i);
    }
    collisions_check("one bit");
    /* One bit clear. */
    for (unsigned i = 0; i < INPUTS; i++) {
        memset(page, 0xFF, CC_PAGE_SIZE);
        page[i / 8] = (uint8_t) ~(1u << i % 8);
        hashed(i);
    }
    collisions_check("one bit clear");
    /* The same bit in two words 8, 16 .. 128 bytes apart: differences that could cancel from step to step. */
    for (unsigned i = 0; i < INPUTS; i++) {
        const unsigned bit = i % 64, apart = 1 + i / 64 % 16, word = i / 1024 * 15;
        memset(page, 0, CC_PAGE_SIZE);
        page[word * 8 + bit / 8] = page[(word + apart) * 8 + bit / 8] = (uint8_t)(1u << bit % 8);
        hashed(i);
    }
    collisions_check("two bits");
    /* A counter, in the first word and in all words. */
    for (unsigned i = 0; i < INPUTS; i++) {
        memset(page, 0, CC_PAGE_SIZE);
        memcpy(page, &(uint32_t){i + 1}, 4);
        hashed(i);
    }
    collisions_check("counter");
    for (unsigned i = 0; i < INPUTS; i++) {
        for (unsigned k = 0; k < CC_PAGE_SIZE; k += 8)
            memcpy(page + k, &(uint64_t){i + 1}, 8);
        hashed(i);
    }
    collisions_check("counter everywhere");
    /* Page tables: entries of consecutive frames with flags, from different starts. */
    for (unsigned i = 0; i < INPUTS; i++) {
        for (unsigned k = 0; k < 512; k++)
            memcpy(page + k * 8, &(uint64_t){((uint64_t)(i + k) << 12) | 0x63}, 8);
        hashed(i);
    }
    collisions_check("page tables");
    /* Two words exchanged, anywhere. */
    for (unsigned i = 0; i < INPUTS; i++) {
        const unsigned a = i / 181 * 2, b = i % 181 * 2 + 1;
        for (unsigned k = 0; k < 512; k++)
            memcpy(page + k * 8, &(uint64_t){k == a ? b : k == b ? a : k}, 8);
        hashed(i);
    }
    collisions_check("words exchanged");
    /* The same page at every number, as it enters the sum. */
    for (unsigned i = 0; i < INPUTS; i++) {
        const cc_u128 k = cc_hash_keyed((cc_digest){1, 0}, i);
        lo[i] = (uint64_t)k;
        hi[i] = (uint64_t)(k >> 64);
    }
    collisions_check("keyed");
}

int main(void)
{
    test_values();
    test_alignment_and_length();
    test_avalanche();
    test_regular_pages();
    puts("digest: ok");
    return 0;
}
