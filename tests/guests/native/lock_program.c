/*
 * The lock of the hypercall page, under everything that may happen to its holder: other processes and threads, signal
 * handlers that make calls themselves, and being killed.  channel.c is compiled into this file with the machine
 * replaced: the page is a shared file, and OUT (which the processor refuses) is a signal in which every byte of the
 * request is checked against the id, the hash of its message.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

static int page_file = -1;

static int fake_cpuid(unsigned leaf, unsigned *a, unsigned *b, unsigned *c, unsigned *d)
{
    (void)leaf;
    memcpy(a, "cc-t", 4);
    memcpy(b, "ui d", 4);
    memcpy(c, "eter", 4);
    memcpy(d, "mini", 4);
    return page_file >= 0;
}
#undef __get_cpuid
#define __get_cpuid fake_cpuid
#define ioperm(from, count, on) 0
#define open(path, flags) ((void)(path), dup(page_file))
#undef mmap
#define mmap(at, bytes, protection, flags, fd, offset) ((void)(offset), mmap(at, bytes, protection, flags, fd, 0))
#include "../../../guest/sdk/c/channel.c"
#undef open
#undef mmap

enum { PROCESSES = 3, THREADS = 2, CALLS = 3000 };

struct shared {
    uint32_t served, torn, nested;
};
static struct shared *shared;

static void on_out(int number, siginfo_t *info, void *context)
{
    (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    if (*(const uint8_t *)regs[REG_RIP] != 0xEE) {
        signal(number, SIG_DFL);
        return;
    }
    regs[REG_RIP]++;
    size_t length = page->payload[0] + 256u * page->payload[1];
    bool whole = length <= MESSAGE_BYTES_MAX && cc_fnv1a((const char *)page->payload + 2, length) == page->id;
    __atomic_fetch_add(whole ? &shared->served : &shared->torn, 1, __ATOMIC_RELAXED);
    page->result = page->id ^ 0x55u;
}

/* Fails if the answer is not the one to this question. */
static void call(uint32_t number, size_t length)
{
    char message[600];
    memset(message, 'a' + number % 26, length);
    struct call request = {COMMAND_SEND_EVENT, true, cc_fnv1a(message, length), message, length, "{}", 2};
    if (cc_transact(&request) != (request.id ^ 0x55u))
        __atomic_fetch_add(&shared->torn, 1, __ATOMIC_RELAXED);
}

static void on_alarm(int number)
{
    (void)number;
    call(7, 33);
    __atomic_fetch_add(&shared->nested, 1, __ATOMIC_RELAXED);
}

static void *work(void *argument)
{
    uint32_t number = (uint32_t)(uintptr_t)argument;
    for (uint32_t i = 0; i < CALLS; i++)
        call(number + i, 1 + (number * 131 + i * 7) % 500);
    return NULL;
}

static void process(uint32_t number)
{
    struct itimerval every = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &every, NULL);
    pthread_t threads[THREADS];
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)(number * 10 + i));
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    _exit(0);
}

int main(void)
{
    page_file = memfd_create("page", 0);
    if (page_file < 0 || ftruncate(page_file, PAGE_BYTES) != 0)
        return 1;
    settled = false;            /* the constructor found no machine */
    shared = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sigaction out_action = {.sa_sigaction = on_out, .sa_flags = SA_SIGINFO};
    sigaddset(&out_action.sa_mask, SIGALRM);
    sigaction(SIGSEGV, &out_action, NULL);
    struct sigaction alarm_action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &alarm_action, NULL);
    call(1, 10);
    printf("inside %d\n", cc_channel() == CHANNEL_MACHINE);

    /* Somebody dies with the page in its hands, and lies there unburied. */
    pid_t victim = fork();
    if (victim == 0) {
        page->owner = (uint32_t)syscall(SYS_gettid);
        raise(SIGKILL);
    }
    siginfo_t info;
    waitid(P_PID, (id_t)victim, &info, WEXITED | WNOWAIT);
    call(2, 20);
    printf("after a zombie's %d\n", page->owner == 0);
    waitpid(victim, NULL, 0);
    page->owner = (uint32_t)victim;   /* and now it is gone altogether */
    call(3, 20);
    printf("after a dead one's %d\n", page->owner == 0);

    pid_t children[PROCESSES];
    fflush(stdout);
    for (uint32_t i = 0; i < PROCESSES; i++)
        if ((children[i] = fork()) == 0)
            process(i + 1);
    for (uint32_t i = 0; i < PROCESSES; i++)
        waitpid(children[i], NULL, 0);
    printf("torn %u served as called %d nested %d free %d\n", shared->torn,
           shared->served == 3 + PROCESSES * THREADS * CALLS + shared->nested, shared->nested > 0, page->owner == 0);
    return 0;
}
