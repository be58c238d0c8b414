/* test_watch.c: breakpoints and watchpoints of the host, on a guest whose accesses are known. */
#include "../watch.h"
#include "../include/cc.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(x)                                                                                                \
    do {                                                                                                        \
        if (!(x)) {                                                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #x);                                   \
            abort();                                                                                            \
        }                                                                                                       \
    } while (0)

#define CODE 0x100000u
#define DATA 0x200000u
#define INSNS 4000u

extern const uint8_t guest_begin[], guest_store[], guest_fill[], guest_end[];
__asm__(
    ".pushsection .rodata\n"
    ".globl guest_begin, guest_store, guest_fill, guest_end\n"
    "guest_begin:\n"
    "    movq $0x200000, %rbx\n    xorl %eax, %eax\n"
    "1:  incq %rax\n"
    "guest_store: movq %rax, (%rbx)\n"
    "    cmpq $0, 8(%rbx)\n    jne 1b\n"
    "    leaq 0x100(%rbx), %rdi\n    movl $7, %ecx\n"
    "guest_fill: rep stosb\n"
    "    pushq %rax\n    popq %rdx\n"
    "    addl %edx, 16(%rbx)\n"
    "    movups (%rbx), %xmm0\n    movups %xmm0, 0xff8(%rbx)\n"
    "    jmp 1b\n"
    "guest_end:\n"
    ".popsection\n");

static cc_store *store;

static cc_machine *new_guest(uint32_t tlb_bits)
{
    cc_config cfg;
    cc_machine *m;
    char err[256];
    cc_config_default(&cfg);
    cfg.ram_bytes = 4u << 20;
    cfg.tlb_bits = tlb_bits;
    CHECK(cc_machine_new(&cfg, store, &m, err, sizeof err) == CC_OK);
    CHECK(cc_write_phys(m, CODE, guest_begin, (size_t)(guest_end - guest_begin)) == CC_OK);
    CHECK(cc_enter_long_mode(m, CODE, 0, 0x8ff0, 0x9000) == CC_OK);
    return m;
}

static cc_stop run(cc_machine *m, uint64_t instret, uint32_t stop_at)
{
    const cc_until until = {.instret = instret, .vns = UINT64_MAX, .exits = UINT64_MAX, .stop_at = stop_at};
    cc_stop stop;
    CHECK(cc_run(m, &until, &stop) == CC_OK);
    return stop;
}

static cc_watch watch(uint32_t kinds, uint64_t address, uint64_t size)
{
    return (cc_watch){.address = address, .size = size, .cr3 = CC_ANY_CR3, .kinds = kinds, .peer = CC_ANY_PEER};
}

static bool same_state(cc_machine *a, cc_machine *b)
{
    cc_digest x, y;
    cc_digest_now(a, &x);
    cc_digest_now(b, &y);
    return x.lo == y.lo && x.hi == y.hi;
}

static uint64_t rip_of(cc_machine *m)
{
    cc_regs r;
    cc_get_regs(m, &r);
    return r.rip;
}

/* Every stop is where single-stepping changes the watched word, and the guest is none the wiser. */
static void stores_are_met_one_by_one(void)
{
    cc_machine *m = new_guest(8), *plain = new_guest(8);
    const cc_watch w = watch(CC_WATCH_WRITE, DATA + 3, 2), store_at = watch(CC_WATCH_WRITE, DATA, 8);
    CHECK(cc_watches_set(m, &w, 1) == CC_OK);
    CHECK(cc_watches_set(m, &store_at, 1) == CC_OK);
    uint64_t before = 0;
    for (uint64_t i = 1; i <= INSNS; i++) {
        uint64_t now;
        run(plain, i, 0);
        CHECK(cc_read_phys(plain, DATA, &now, 8) == CC_OK);
        if (now == before)
            continue;
        before = now;
        const cc_stop stop = run(m, INSNS, CC_AT_WATCH);
        cc_watch_hit hit;
        CHECK(stop.kind == CC_STOP_WATCH && stop.instret == i && cc_watch_hit_get(m, &hit) == CC_OK);
        CHECK(hit.rip == CODE + (uint64_t)(guest_store - guest_begin) && hit.value[0] == now);
        CHECK(hit.who == CC_BY_INSTRUCTION && hit.address == DATA && hit.gpa == DATA && hit.size == 8);
        CHECK(same_state(m, plain));
    }
    CHECK(run(m, INSNS, CC_AT_WATCH).kind == CC_STOP_INSTRET);
    CHECK(same_state(m, plain));
    cc_machine_free(m);
    cc_machine_free(plain);
}

static void iterations_of_rep_are_met_one_by_one_and_arrived_at_once(void)
{
    cc_machine *m = new_guest(8);
    const uint64_t fill = CODE + (uint64_t)(guest_fill - guest_begin);
    const cc_watch list[] = {watch(CC_WATCH_WRITE, DATA + 0x100, 7), watch(CC_WATCH_EXECUTE, fill, 1)};
    CHECK(cc_watches_set(m, list, 2) == CC_OK);
    cc_stop stop = run(m, INSNS, CC_AT_WATCH);
    CHECK(stop.kind == CC_STOP_WATCH && stop.detail == 1 && rip_of(m) == fill);
    for (uint64_t i = 1; i <= 7; i++) {
        cc_watch_hit hit;
        const cc_stop next = run(m, INSNS, CC_AT_WATCH);
        CHECK(next.kind == CC_STOP_WATCH && next.detail == 0 && next.instret == stop.instret + i);
        CHECK(cc_watch_hit_get(m, &hit) == CC_OK && hit.address == DATA + 0xff + i && hit.rip == fill);
    }
    stop = run(m, INSNS, CC_AT_WATCH);
    CHECK(stop.detail == 1 && rip_of(m) == fill);
    cc_machine_free(m);
}

/* What is logged depends neither on how the run is cut, nor on the caches, nor on stops. */
static size_t log_of(uint32_t tlb_bits, uint64_t cut, uint32_t stop_at, cc_watch_hit *dst)
{
    cc_machine *m = new_guest(tlb_bits);
    const uint64_t fill = CODE + (uint64_t)(guest_fill - guest_begin);
    const cc_watch list[] = {watch(CC_WATCH_EXECUTE, fill - 9, 64), watch(CC_WATCH_READ | CC_WATCH_WRITE, DATA, 0x1008),
                             watch(CC_WATCH_WRITE, 0x8fe0, 16)};
    uint64_t lost;
    CHECK(cc_watches_set(m, list, 3) == CC_OK);
    for (uint64_t at = cut; at < 700; at += cut)
        while (run(m, at, stop_at).kind == CC_STOP_WATCH)
            ;
    while (run(m, 700, stop_at).kind == CC_STOP_WATCH)
        ;
    const size_t n = cc_watch_take(m, dst, &lost);
    CHECK(lost == 0);
    cc_machine_free(m);
    return n;
}

static void the_log_depends_on_the_guest_alone(void)
{
    static cc_watch_hit a[CC_WATCH_LOG_MAX], b[CC_WATCH_LOG_MAX];
    const size_t n = log_of(8, 1, 0, a);
    CHECK(n > 300);
    static const struct { uint32_t tlb_bits; uint64_t cut; uint32_t stop_at; } ways[] = {
        {8, 700, 0}, {4, 13, 0}, {12, 700, CC_AT_WATCH}, {4, 1, CC_AT_WATCH}, {8, 29, CC_AT_WATCH}};
    for (unsigned i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        CHECK(log_of(ways[i].tlb_bits, ways[i].cut, ways[i].stop_at, b) == n);
        CHECK(memcmp(a, b, n * sizeof *a) == 0);
    }
}

static void a_full_log_keeps_the_oldest_and_the_newest(void)
{
    static cc_watch_hit hits[CC_WATCH_LOG_MAX];
    cc_machine *m = new_guest(8);
    const cc_watch all = watch(CC_WATCH_EXECUTE, CODE, 4096);
    uint64_t lost;
    CHECK(cc_watches_set(m, &all, 1) == CC_OK);
    run(m, 5000, 0);
    CHECK(cc_watch_take(m, hits, &lost) == CC_WATCH_LOG_MAX && lost > 1000);
    CHECK(hits[0].instret == 0 && hits[CC_WATCH_LOG_MAX - 1].instret == 4999);
    for (unsigned i = 1; i < CC_WATCH_LOG_MAX; i++)
        CHECK(hits[i].instret > hits[i - 1].instret);
    CHECK(cc_watch_take(m, hits, &lost) == 0 && lost == 0);
    cc_machine_free(m);
}

static void a_run_that_begins_at_a_breakpoint_executes_it(void)
{
    cc_machine *m = new_guest(8);
    const uint64_t at = CODE + (uint64_t)(guest_store - guest_begin);
    const cc_watch w = watch(CC_WATCH_EXECUTE, at, 1);
    run(m, 3, 0);
    CHECK(rip_of(m) == at && cc_watches_set(m, &w, 1) == CC_OK);
    cc_watch_pass(m);
    CHECK(run(m, 4, CC_AT_WATCH).kind == CC_STOP_INSTRET);
    const cc_stop stop = run(m, INSNS, CC_AT_WATCH);
    CHECK(stop.kind == CC_STOP_WATCH && rip_of(m) == at);
    CHECK(run(m, stop.instret + 1, CC_AT_WATCH).kind == CC_STOP_INSTRET);
    CHECK(cc_watches_set(m, NULL, 0) == CC_OK);
    CHECK(run(m, INSNS, CC_AT_WATCH).kind == CC_STOP_INSTRET);
    cc_machine_free(m);
}

/* A breakpoint that knows the code there stops at it and at no other code. */
static void a_breakpoint_may_know_its_code(void)
{
    cc_machine *m = new_guest(8);
    const uint64_t at = CODE + (uint64_t)(guest_store - guest_begin);
    cc_watch w = watch(CC_WATCH_EXECUTE, at, 1);
    w.code_bytes = CC_WATCH_CODE_MAX;
    memcpy(w.code, guest_store, CC_WATCH_CODE_MAX);
    CHECK(cc_watches_set(m, &w, 1) == CC_OK);
    const cc_stop stop = run(m, INSNS, CC_AT_WATCH);
    CHECK(stop.kind == CC_STOP_WATCH && rip_of(m) == at);
    w.code[CC_WATCH_CODE_MAX - 1] ^= 1;
    CHECK(cc_watches_set(m, &w, 1) == CC_OK);
    CHECK(run(m, INSNS, CC_AT_WATCH).kind == CC_STOP_INSTRET);
    w.code_bytes--;
    CHECK(cc_watches_set(m, &w, 1) == CC_OK);
    CHECK(run(m, 2 * INSNS, CC_AT_WATCH).kind == CC_STOP_WATCH);
    /* Of an instruction at the end of a page what is in the page is compared. */
    static const uint8_t nops[CC_WATCH_CODE_MAX] = {[0 ... CC_WATCH_CODE_MAX - 1] = 0x90};
    cc_regs r;
    CHECK(cc_write_phys(m, CODE + 0x1ff8, nops, sizeof nops) == CC_OK);
    cc_get_regs(m, &r);
    r.rip = CODE + 0x1ff8;
    CHECK(cc_set_regs(m, &r) == CC_OK);
    w = watch(CC_WATCH_EXECUTE, CODE + 0x1ffa, 1);
    w.code_bytes = CC_WATCH_CODE_MAX;
    memset(w.code, 0x90, 6);
    CHECK(cc_watches_set(m, &w, 1) == CC_OK);
    CHECK(run(m, cc_instret(m) + 8, CC_AT_WATCH).kind == CC_STOP_WATCH && rip_of(m) == CODE + 0x1ffa);
    cc_machine_free(m);
}

static void bad_lists_change_nothing(void)
{
    cc_machine *m = new_guest(8);
    const cc_watch good = watch(CC_WATCH_WRITE, DATA, 8);
    cc_watch bad[] = {watch(0, DATA, 8), watch(64, DATA, 8), watch(CC_WATCH_WRITE, DATA, 0),
                      watch(CC_WATCH_WRITE | CC_WATCH_SENT, DATA, 8), watch(CC_WATCH_WRITE, DATA, 8),
                      watch(CC_WATCH_WRITE, DATA, 8), watch(CC_WATCH_EXECUTE, DATA, 8)};
    bad[4].flags = CC_WATCH_OUTSIDE;
    bad[5].code_bytes = 1;
    bad[6].code_bytes = CC_WATCH_CODE_MAX + 1;
    CHECK(cc_watches_set(m, &good, 1) == CC_OK);
    for (unsigned i = 0; i < 7; i++)
        CHECK(cc_watches_set(m, &bad[i], 1) == CC_EINVAL);
    CHECK(cc_watches_set(m, &good, CC_WATCHES_MAX + 1) == CC_EINVAL);
    CHECK(run(m, INSNS, CC_AT_WATCH).kind == CC_STOP_WATCH);
    cc_machine_free(m);
}

#define RUN(test) (test(), printf("ok %s\n", #test))

int main(void)
{
    store = cc_store_new(0);
    RUN(stores_are_met_one_by_one);
    RUN(iterations_of_rep_are_met_one_by_one_and_arrived_at_once);
    RUN(the_log_depends_on_the_guest_alone);
    RUN(a_full_log_keeps_the_oldest_and_the_newest);
    RUN(a_run_that_begins_at_a_breakpoint_executes_it);
    RUN(a_breakpoint_may_know_its_code);
    RUN(bad_lists_change_nothing);
    cc_store_free(store);
    return 0;
}
