/*
 * diff_runner.c: runs test cases natively.  A child process of the differential test: cases arrive in shared memory (file
 * descriptor 3), one byte on descriptor 4 starts a batch, one byte on descriptor 5 answers.
 *
 * A case's end is a signal.  Its handler saves the interrupted state as the result, puts the next case's state into
 * the signal frame and returns: one signal per case and no other system call.  A seccomp filter stops any system call
 * that a case might reach by accident.
 */
#define _GNU_SOURCE
#include "diff.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARITH_AND_DF 0xcd5ull

static struct shared *shared;
static uint64_t own_fs, own_gs;
static uint32_t next_case;
static ucontext_t home;
static uint8_t home_fx[512];
static uint8_t alt_stack[65536] __attribute__((aligned(64)));

static const int reg_of_gpr[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static inline uint64_t rd_fs(void) { uint64_t v; __asm__ volatile("rdfsbase %0" : "=r"(v)); return v; }
static inline uint64_t rd_gs(void) { uint64_t v; __asm__ volatile("rdgsbase %0" : "=r"(v)); return v; }
static inline void wr_fs(uint64_t v) { __asm__ volatile("wrfsbase %0" : : "r"(v)); }
static inline void wr_gs(uint64_t v) { __asm__ volatile("wrgsbase %0" : : "r"(v)); }

/* Compare memory with the image, report the differences and undo them. */
static void collect_memory(struct case_out *out)
{
    uint32_t base = 0;
    for (unsigned r = 0; r < NREGIONS; r++) {
        uint64_t *mem = (uint64_t *)regions[r].va;
        uint32_t words = regions[r].pages * 512;
        const uint64_t *image = (const uint64_t *)shared->image + base;
        if (regions[r].write && memcmp(mem, image, words * 8) != 0) {
            for (uint32_t i = 0; i < words; i++) {
                if (mem[i] == image[i])
                    continue;
                note_granule(out, base + i, mem[i]);
                mem[i] = image[i];
            }
        }
        base += words;
    }
}

static void load_case(ucontext_t *uc, const struct case_in *in)
{
    greg_t *g = uc->uc_mcontext.gregs;
    for (int i = 0; i < 16; i++)
        g[reg_of_gpr[i]] = (greg_t)in->gpr[i];
    g[REG_RIP] = (greg_t)in->rip;
    g[REG_EFL] = (greg_t)((((uint64_t)g[REG_EFL]) & ~(ARITH_AND_DF | 0x10100)) | (in->rflags & ARITH_AND_DF));
    uint8_t *fx = (uint8_t *)uc->uc_mcontext.fpregs;
    memcpy(fx, in->fx, 416);
    *(uint32_t *)(fx + 28) = 0xffff;
    uint64_t xstate_bv;                         /* XSAVE header: x87 and SSE state are present */
    memcpy(&xstate_bv, fx + 512, 8);
    xstate_bv |= 3;
    memcpy(fx + 512, &xstate_bv, 8);
    /* the signal frame does not carry the data segment selectors */
    __asm__ volatile("movw %w0, %%ds; movw %w0, %%es; movw %w0, %%fs; movw %w0, %%gs" : : "r"(0));
    memcpy((void *)(CODE_VA + in->code_off), in->code, in->code_len);
    memcpy(shared->image + in->code_off, in->code, in->code_len);
}

/* A case's flags that neither the kernel nor the signal frame resets: NT, AC, ID. */
static inline void clear_flags(void)
{
    __asm__ volatile("pushfq; andq $~0x244000, (%%rsp); popfq" : : : "memory", "cc");
}

static void handler(int sig, siginfo_t *info, void *context)
{
    uint64_t fs = rd_fs(), gs = rd_gs();
    wr_fs(own_fs);
    uint16_t sel[6];
    __asm__ volatile("movw %%es, %0; movw %%cs, %1; movw %%ss, %2" : "=m"(sel[0]), "=m"(sel[1]), "=m"(sel[2]));
    __asm__ volatile("movw %%ds, %0; movw %%fs, %1; movw %%gs, %2" : "=m"(sel[3]), "=m"(sel[4]), "=m"(sel[5]));
    clear_flags();
    (void)info;
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    if (sig == SIGUSR1) {
        home = *uc;
        memcpy(home_fx, uc->uc_mcontext.fpregs, 512);
    } else {
        struct case_in *in = &shared->in[next_case - 1];
        struct case_out *out = &shared->out[next_case - 1];
        for (int i = 0; i < 16; i++)
            out->gpr[i] = (uint64_t)g[reg_of_gpr[i]];
        out->rip = (uint64_t)g[REG_RIP];
        out->rflags = (uint64_t)g[REG_EFL];
        out->fs_base = fs;
        out->gs_base = gs;
        out->vector = sig == SIGSYS ? VECTOR_SYSCALL : (uint32_t)g[REG_TRAPNO];
        out->error = (uint32_t)g[REG_ERR];
        out->cr2 = (uint64_t)g[REG_CR2];
        sel[1] = (uint16_t)g[REG_CSGSFS];
        sel[2] = (uint16_t)((uint64_t)g[REG_CSGSFS] >> 48);
        memcpy(out->sel, sel, sizeof sel);
        memcpy(out->fx, uc->uc_mcontext.fpregs, 512);
        collect_memory(out);
        memset((void *)(CODE_VA + in->code_off), 0xcc, in->code_len);
        memset(shared->image + in->code_off, 0xcc, in->code_len);
    }
    if (next_case == shared->count) {
        for (int i = 0; i < 16; i++)
            g[reg_of_gpr[i]] = home.uc_mcontext.gregs[reg_of_gpr[i]];
        g[REG_RIP] = home.uc_mcontext.gregs[REG_RIP];
        g[REG_EFL] = home.uc_mcontext.gregs[REG_EFL];
        g[REG_CSGSFS] = home.uc_mcontext.gregs[REG_CSGSFS];
        memcpy(uc->uc_mcontext.fpregs, home_fx, 416);
        __asm__ volatile("movw %w0, %%ds; movw %w0, %%es; movw %w0, %%fs; movw %w0, %%gs" : : "r"(0));
        wr_gs(own_gs);
        wr_fs(own_fs);
        return;
    }
    const struct case_in *in = &shared->in[next_case];
    shared->current = next_case++;
    g[REG_CSGSFS] = home.uc_mcontext.gregs[REG_CSGSFS];
    load_case(uc, in);
    wr_gs(in->gs_base);
    wr_fs(in->fs_base);
}

static void die(const char *what)
{
    fprintf(stderr, "runner: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void install_filter(void)
{
#define ALLOW(nr) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (nr), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(__NR_rt_sigreturn),
        ALLOW(__NR_read),
        ALLOW(__NR_write),
        ALLOW(__NR_tgkill),
        ALLOW(__NR_getpid),
        ALLOW(__NR_gettid),
        ALLOW(__NR_rt_sigprocmask),
        ALLOW(__NR_mprotect),
        ALLOW(__NR_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog prog = { sizeof filter / sizeof *filter, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) != 0)
        die("seccomp");
}

int main(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, 3, 0);
    if (shared == MAP_FAILED)
        die("mmap of the shared batch");
    uint32_t base = 0;
    for (unsigned r = 0; r < NREGIONS; r++) {
        int prot = PROT_READ | PROT_WRITE | (regions[r].exec ? PROT_EXEC : 0);
        void *at = (void *)regions[r].va;
        size_t size = regions[r].pages * 4096u;
        if (mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0) != at)
            die("mmap of a region");
        base += (uint32_t)size;
    }
    if (base != IMAGE_SIZE || !(getauxval(AT_HWCAP2) & 2)) {
        fprintf(stderr, "runner: this host does not let user code use RDFSBASE\n");
        return 1;
    }
    own_fs = rd_fs();
    own_gs = rd_gs();
    __asm__("movw %%cs, %0; movw %%ss, %1" : "=m"(shared->cs), "=m"(shared->ss));
    stack_t ss = { .ss_sp = alt_stack, .ss_size = sizeof alt_stack };
    if (sigaltstack(&ss, NULL) != 0)
        die("sigaltstack");
    static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGUSR1 };
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
        if (sigaction(signals[i], &sa, NULL) != 0)
            die("sigaction");
    }
    install_filter();
    uint8_t byte = 0;
    if (write(5, &byte, 1) != 1)
        return 1;
    while (read(4, &byte, 1) == 1) {
        base = 0;
        for (unsigned r = 0; r < NREGIONS; r++) {
            size_t size = regions[r].pages * 4096u;
            if (!regions[r].write)
                mprotect((void *)regions[r].va, size, PROT_READ | PROT_WRITE);
            memcpy((void *)regions[r].va, shared->image + base, size);
            if (!regions[r].write)
                mprotect((void *)regions[r].va, size, PROT_READ);
            base += (uint32_t)size;
        }
        next_case = 0;
        raise(SIGUSR1);
        if (write(5, &byte, 1) != 1)
            return 1;
    }
    return 0;
}
