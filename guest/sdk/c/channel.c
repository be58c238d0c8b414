/*
 * How a Linux process reaches the hypercall page: /dev/mem for the page, ioperm(2) for the port.
 *
 * One page serves every process and thread of the guest, so its `owner` word is a lock that holds the thread's id.
 * It is in the page and not a file or a mutex because that is the one thing all of them share, whatever their root
 * directory, language or C library, and because taking it costs one system call (gettid).  Somebody who dies holding
 * it is noticed and relieved; a signal handler that interrupts its own thread's call saves what it overwrites and puts
 * it back, so calls nest.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "wire.h"

enum {
    SPINS = 64,                 /* yields before somebody who waits looks whether the owner lives, and sleeps */
    SLEEP_NS = 100000,
};

static struct hypercall_page *page;
static enum channel channel;
static bool settled;            /* the channel will not change any more */
static bool announced;
static int port_file = -1;      /* /dev/port, only where ioperm() is refused */
static _Thread_local bool port_open;

/* The linker makes these for a section whose name is a C identifier; weak, since a program may assert nothing. */
extern struct cc_site *const __start_cc_sites[] __attribute__((weak));
extern struct cc_site *const __stop_cc_sites[] __attribute__((weak));

void cc_sites(struct cc_site *const **begin, struct cc_site *const **end)
{
    *begin = __start_cc_sites;
    *end = __stop_cc_sites;
}

/* ---- is this a machine of ours? ---- */

/* The brand string of CPUID says so.  Elsewhere 0xFE000 is a PC's firmware, and the port whatever it may be. */
static bool is_machine(void)
{
    unsigned regs[4] = {0};
    return __get_cpuid(0x80000002, &regs[0], &regs[1], &regs[2], &regs[3]) && memcmp(regs, "cc-tui determini", 16) == 0;
}

/* PID 1 may come here before it has mounted /dev: a node of its own does as well. */
static int open_mem(const char *path, unsigned minor_number)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    char temporary[] = "/.cc-sdk-node";
    if (mknod(temporary, S_IFCHR | 0600, makedev(1, minor_number)) != 0)
        return -1;
    fd = open(temporary, O_RDWR | O_CLOEXEC);
    unlink(temporary);
    return fd;
}

static void *map(off_t gpa, size_t bytes)
{
    int fd = open_mem("/dev/mem", 1);
    if (fd < 0)
        return NULL;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, gpa);
    close(fd);
    return at == MAP_FAILED ? NULL : at;
}

static bool open_port(void)
{
    if (port_open || port_file >= 0)
        return true;
    /* Per thread: those made before this call do not have it. */
    port_open = ioperm(SDK_PORT, 2, 1) == 0;
    if (!port_open)
        port_file = open_mem("/dev/port", 4);
    return port_open || port_file >= 0;
}

static void out(uint16_t port)
{
    if (!open_port())
        return;
    if (port_open)
        __asm__ volatile("outb %%al, %%dx" : : "a"(0), "d"(port) : "memory");
    else
        while (pwrite(port_file, "", 1, port) < 0 && errno == EINTR)
            ;
}

enum channel cc_channel(void)
{
    if (settled)
        return channel;
    if (is_machine()) {
        errno = 0;
        if (open_port())
            page = map(HYPERCALL_GPA, PAGE_BYTES);
        channel = page != NULL ? CHANNEL_MACHINE : CHANNEL_NONE;
        settled = page != NULL || errno == EACCES || errno == EPERM;   /* otherwise /dev may still come */
    } else {
        channel = cc_local_open() ? CHANNEL_LOCAL : CHANNEL_NONE;
        settled = true;
    }
    if (channel != CHANNEL_NONE && !announced) {
        announced = true;
        cc_first_use();
    }
    return channel;
}

bool cc_unreachable_machine(void)
{
    return cc_channel() == CHANNEL_NONE && is_machine();
}

/* Before main(): what a program asserts is known even if it never gets there. */
__attribute__((constructor)) static void at_start(void)
{
    cc_channel();
}

/* ---- the lock ---- */

/* A zombie still takes signals, but has no memory to read. */
static bool is_dead(uint32_t tid)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {NULL, 1};
    return process_vm_readv((pid_t)tid, &here, 1, &there, 1, 0) < 0 && errno == ESRCH;
}

/* True if the page was free; false if this very thread holds it, and so was interrupted. */
static bool take(uint32_t tid)
{
    for (unsigned tries = 1;; tries++) {
        uint32_t owner = 0;
        if (__atomic_compare_exchange_n(&page->owner, &owner, tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
        if (owner == tid)
            return false;
        if (tries % SPINS != 0) {
            sched_yield();
            continue;
        }
        if (is_dead(owner) &&
            __atomic_compare_exchange_n(&page->owner, &owner, tid, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
        nanosleep(&(struct timespec){0, SLEEP_NS}, NULL);
    }
}

static uint64_t trigger(const struct call *call, size_t message_len, const char *json, size_t json_len)
{
    cc_fill(page, call, message_len, json_len, json);
    out(SDK_PORT);
    return *(volatile uint64_t *)&page->result;
}

/* Not inlined: only an interrupted call pays for this stack. */
__attribute__((noinline)) static uint64_t nested(const struct call *call, size_t message_len, const char *json,
                                                 size_t json_len)
{
    uint8_t saved[PAGE_BYTES];
    size_t header = offsetof(struct hypercall_page, owner), payload = message_len + json_len + 4;
    memcpy(saved, page, header);
    memcpy(saved + header, page->payload, payload);
    uint64_t result = trigger(call, message_len, json, json_len);
    memcpy(page, saved, header);
    memcpy(page->payload, saved + header, payload);
    return result;
}

uint64_t cc_transact(const struct call *call)
{
    switch (cc_channel()) {
    case CHANNEL_NONE:
        return 0;
    case CHANNEL_LOCAL:
        cc_local_write(call);
        return 0;
    case CHANNEL_MACHINE:
        break;
    }
    int before = errno;
    char note[32];
    const char *json;
    size_t message_len, json_len;
    cc_fit(call, &message_len, &json, &json_len, note);
    open_port();                /* not while holding the page */
    uint64_t result;
    if (take((uint32_t)syscall(SYS_gettid))) {
        result = trigger(call, message_len, json, json_len);
        __atomic_store_n(&page->owner, 0, __ATOMIC_RELEASE);
    } else {
        result = nested(call, message_len, json, json_len);
    }
    errno = before;
    return result;
}

uint8_t *cc_coverage_map(void)
{
    if (cc_channel() != CHANNEL_MACHINE)
        return NULL;
    uint8_t *coverage = map(COVERAGE_GPA, COVERAGE_BYTES);
    if (coverage != NULL)
        out(COVERAGE_PORT);
    return coverage;
}

uint64_t cc_own_random(void)
{
    uint64_t value = 0;
    while (getrandom(&value, sizeof value, 0) < 0 && errno == EINTR)
        ;
    return value;
}
