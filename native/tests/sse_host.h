/*
 * tests/sse_host.h: executes one instruction natively: a snippet of host code loads general, x87/MMX, XMM registers,
 * MXCSR and flags from a structure, runs the instruction, and stores everything back, also when it faults.
 */
#ifndef CC_TESTS_SSE_HOST_H
#define CC_TESTS_SSE_HOST_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE first"
#endif
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* FXSAVE's layout (SDM vol. 2, FXSAVE, 64-bit mode with REX.W). */
typedef struct fxstate {
    uint16_t fcw, fsw;
    uint8_t ftw, pad0;       /* abridged: bit i set = physical register i is not empty */
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    struct { uint64_t mant; uint16_t sexp; uint16_t pad[3]; } st[8];     /* stack order */
    uint64_t xmm[16][2];
    uint8_t rest[96];
} fxstate;

typedef struct hoststate {
    fxstate fx;
    uint64_t r[16];          /* RSP and R15 are not loaded */
    uint64_t flags;
    uint32_t default_mxcsr, pad;
} __attribute__((aligned(16))) hoststate;

#define HOST_INSN_MAX 15
static struct {
    uint8_t *code;
    unsigned slot, resume;              /* offsets of the instruction and of what follows it */
    volatile int vector;                /* exception, or -1 */
    volatile uint64_t cr2;
} host;

static void host_signal(int sig, siginfo_t *si, void *context)
{
    ucontext_t *uc = context;
    uint64_t rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP], slot = (uint64_t)host.code + host.slot;
    (void)si;
    if (rip < slot || rip >= slot + HOST_INSN_MAX) {
        signal(sig, SIG_DFL);           /* not ours: crash as usual */
        return;
    }
    host.vector = (int)uc->uc_mcontext.gregs[REG_TRAPNO];
    host.cr2 = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)((uint64_t)host.code + host.resume);
}

static void host_init(void)
{
    uint8_t *c = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *p = c;
    if (c == MAP_FAILED) {
        perror("mmap of an executable page");
        exit(2);
    }
#define EMIT(...) do { const uint8_t b_[] = {__VA_ARGS__}; memcpy(p, b_, sizeof b_); p += sizeof b_; } while (0)
#define EMIT_DISP(field) do { uint32_t d_ = (uint32_t)(field); memcpy(p, &d_, 4); p += 4; } while (0)
    EMIT(0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);      /* push rbx rbp r12..r15 */
    EMIT(0x49, 0x89, 0xff);                                                /* mov r15, rdi */
    EMIT(0x49, 0x0f, 0xae, 0x0f);                                          /* fxrstor64 [r15] */
    EMIT(0x41, 0xff, 0xb7);                                                /* push [r15 + flags] */
    EMIT_DISP(offsetof(hoststate, flags));
    EMIT(0x9d);                                                            /* popfq */
    for (unsigned i = 0; i < 15; i++)
        if (i != 4) {
            EMIT((uint8_t)(0x49 | (i >> 3) << 2), 0x8b, (uint8_t)(0x87 | (i & 7) << 3));     /* mov r, [r15 + ...] */
            EMIT_DISP(offsetof(hoststate, r) + 8 * i);
        }
    host.slot = (unsigned)(p - c);
    memset(p, 0x90, HOST_INSN_MAX);
    p += HOST_INSN_MAX;
    host.resume = (unsigned)(p - c);
    for (unsigned i = 0; i < 15; i++)
        if (i != 4) {
            EMIT((uint8_t)(0x49 | (i >> 3) << 2), 0x89, (uint8_t)(0x87 | (i & 7) << 3));     /* mov [r15 + ...], r */
            EMIT_DISP(offsetof(hoststate, r) + 8 * i);
        }
    EMIT(0x9c, 0x41, 0x8f, 0x87);                                          /* pushfq; pop [r15 + flags] */
    EMIT_DISP(offsetof(hoststate, flags));
    EMIT(0x49, 0x0f, 0xae, 0x07);                                          /* fxsave64 [r15] */
    EMIT(0xdb, 0xe3, 0x41, 0x0f, 0xae, 0x97);                              /* fninit; ldmxcsr [r15 + ...] */
    EMIT_DISP(offsetof(hoststate, default_mxcsr));
    EMIT(0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3);    /* cld; pops; ret */
    host.code = c;

    struct sigaction sa = {.sa_sigaction = host_signal, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
    sigaction(SIGFPE, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
}

static void host_load(const uint8_t *insn, unsigned len)
{
    memset(host.code + host.slot, 0x90, HOST_INSN_MAX);
    memcpy(host.code + host.slot, insn, len);
}

/* Returns the exception vector or -1. */
static int host_run(hoststate *s)
{
    s->default_mxcsr = 0x1f80;
    host.vector = -1;
    void (*fn)(hoststate *);
    memcpy(&fn, &host.code, sizeof fn);
    fn(s);
    return host.vector;
}

#endif
