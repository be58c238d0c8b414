/*
 * x87_native.h: runs one x87 instruction on the host: loads a full FPU image, executes, stores the image.  A signal is
 * an outcome like any other.  For test_x87.c only.
 */
#ifndef CC_X87_NATIVE_H
#define CC_X87_NATIVE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* The 32-bit protected-mode FNSAVE image, registers in stack order (SDM vol. 1, figure 8-9). */
typedef struct fpu_image {
    uint16_t fcw, r0, fsw, r1, ftw, r2;
    uint32_t fip;
    uint16_t fcs, fop;
    uint32_t fdp;
    uint16_t fds, r3;
    struct { uint64_t mant; uint16_t sexp; } __attribute__((packed)) st[8];
} __attribute__((packed)) fpu_image;

typedef struct native_regs { uint64_t rflags, rax; } native_regs;

typedef struct snippet {
    uint8_t *code, *insn, *landing;
} snippet;

static struct {
    uint8_t *page, *next, *end;
    uint8_t *landing;
    volatile int signal;
} native;

static inline void native_signal(int sig, siginfo_t *info, void *context)
{
    ucontext_t *c = context;
    (void)info;
    if (!native.landing)
        abort();
    native.signal = sig;
    c->uc_mcontext.gregs[REG_RIP] = (greg_t)native.landing;
}

static inline void native_init(void)
{
    size_t size = 1 << 20;
    native.page = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (native.page == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    native.next = native.page;
    native.end = native.page + size;
    static uint8_t stack[1 << 16];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction sa = {.sa_sigaction = native_signal, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    if (sigaltstack(&ss, NULL) || sigaction(SIGFPE, &sa, NULL) || sigaction(SIGILL, &sa, NULL) ||
        sigaction(SIGSEGV, &sa, NULL) || sigaction(SIGBUS, &sa, NULL)) {
        perror("signals");
        exit(1);
    }
}

/* RDI image in, RSI image out, RDX memory operand, RCX native_regs */
static inline snippet native_snippet(const uint8_t *insn, unsigned len)
{
    static const uint8_t head[] = {
        0xdd, 0x27,                     /* frstor [rdi] */
        0xff, 0x31, 0x9d,               /* push qword [rcx]; popfq */
        0x48, 0x8b, 0x41, 0x08,         /* mov rax, [rcx + 8] */
    };
    static const uint8_t tail[] = {
        0x9c, 0x8f, 0x01,               /* pushfq; pop qword [rcx] */
        0x48, 0x89, 0x41, 0x08,         /* mov [rcx + 8], rax */
        0xdd, 0x36,                     /* fnsave [rsi] */
        0xc3,
    };
    snippet s = {.code = native.next};
    if (native.next + 128 > native.end)
        abort();
    memcpy(native.next, head, sizeof head);
    s.insn = native.next + sizeof head;
    memcpy(s.insn, insn, len);
    s.landing = s.insn + len;
    memcpy(s.landing, tail, sizeof tail);
    native.next += 64;
    return s;
}

/* Returns 0 or the signal. */
static inline int native_run(const snippet *s, const fpu_image *in, fpu_image *out, void *memory, native_regs *regs)
{
    typedef void (*entry)(const fpu_image *, fpu_image *, void *, native_regs *);
    native.signal = 0;
    native.landing = s->landing;
    ((entry)(uintptr_t)s->code)(in, out, memory, regs);
    native.landing = NULL;
    return native.signal;
}

#endif
