/*
 * The self-checks: each exercises one thing that programs need of the machine and the kernel, and compares what came
 * out with values known beforehand. They are cheap, since every boot pays for them.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hello.h"

/* Where a check writes its one line of detail. */
struct report {
    char detail[DETAIL_BYTES];
};

__attribute__((format(printf, 3, 4)))
static bool say(struct report *report, bool passed, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->detail, sizeof report->detail, format, arguments);
    va_end(arguments);
    return passed;
}

/* --- compute ---------------------------------------------------------------------------------- */

enum { COMPUTE_ROUNDS = 100000 };
#define COMPUTE_SEED UINT64_C(0x9e3779b97f4a7c15)
#define COMPUTE_RESULT UINT64_C(0x17f3f8198fe8c715)

/* xorshift64* by Vigna: shifts, xors and a 64-bit multiplication that nothing can shorten. */
uint64_t compute(uint64_t state, uint64_t rounds)
{
    uint64_t sum = 0;
    for (uint64_t round = 0; round < rounds; round++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        sum += state * UINT64_C(0x2545f4914f6cdd1d);
    }
    return sum ^ state;
}

static bool check_compute(struct report *report)
{
    uint64_t result = compute(COMPUTE_SEED, COMPUTE_ROUNDS);
    return say(report, result == COMPUTE_RESULT, "%d rounds of xorshift64*: %016llx", COMPUTE_ROUNDS,
               (unsigned long long)result);
}

/* --- time ------------------------------------------------------------------------------------- */

enum {
    SLEEP_NS = 20 * 1000 * 1000,
    PERIOD_NS = 5 * 1000 * 1000,
    PERIODS = 4,
    /* Generous, for emulators whose time is the host's: a timer may be late there, but never early or lost. */
    LATE_NS_MAX = 200 * 1000 * 1000,
};

static bool in_time(int64_t elapsed_ns, int64_t asked_ns)
{
    return elapsed_ns >= asked_ns && elapsed_ns < asked_ns + LATE_NS_MAX;
}

static bool check_sleep(struct report *report)
{
    struct timespec wanted = {.tv_nsec = SLEEP_NS};
    int64_t before_ns = monotonic_ns();
    bool slept = nanosleep(&wanted, NULL) == 0;
    bool passed = slept && in_time(monotonic_ns() - before_ns, SLEEP_NS);
    return say(report, passed, "nanosleep of %d ms, measured by CLOCK_MONOTONIC", SLEEP_NS / 1000000);
}

static bool check_timerfd(struct report *report)
{
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct itimerspec every = {.it_interval.tv_nsec = PERIOD_NS, .it_value.tv_nsec = PERIOD_NS};
    int64_t before_ns = monotonic_ns();
    timerfd_settime(timer, 0, &every, NULL);
    uint64_t expirations = 0;
    while (expirations < PERIODS) {
        uint64_t count;
        if (read(timer, &count, sizeof count) != sizeof count)
            break;
        expirations += count;
    }
    bool passed = in_time(monotonic_ns() - before_ns, (int64_t)PERIODS * PERIOD_NS);
    close(timer);
    return say(report, passed, "%d expirations of a %d ms timerfd", PERIODS, PERIOD_NS / 1000000);
}

static volatile sig_atomic_t alarms;

static void count_alarm(int signal_number)
{
    (void)signal_number;
    alarms++;
}

static bool check_itimer(struct report *report)
{
    sigset_t blocked, before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    struct sigaction action = {.sa_handler = count_alarm}, previous;
    sigaction(SIGALRM, &action, &previous);

    alarms = 0;
    struct itimerval every = {.it_interval.tv_usec = PERIOD_NS / 1000, .it_value.tv_usec = PERIOD_NS / 1000};
    struct itimerval never = {0};
    int64_t before_ns = monotonic_ns();
    setitimer(ITIMER_REAL, &every, NULL);
    while (alarms < PERIODS)
        sigsuspend(&before);
    setitimer(ITIMER_REAL, &never, NULL);
    bool passed = in_time(monotonic_ns() - before_ns, (int64_t)PERIODS * PERIOD_NS);

    sigaction(SIGALRM, &previous, NULL);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return say(report, passed, "%d SIGALRM from a %d ms itimer", PERIODS, PERIOD_NS / 1000000);
}

/* --- processes -------------------------------------------------------------------------------- */

static bool check_fork(struct report *report)
{
    volatile int shared_by_mistake = 1;
    pid_t child = fork();
    if (child == 0) {
        shared_by_mistake = 2;
        _exit(40 + shared_by_mistake);
    }
    int status = 0;
    bool waited = waitpid(child, &status, 0) == child;
    bool passed = waited && WIFEXITED(status) && WEXITSTATUS(status) == 42 && shared_by_mistake == 1;
    return say(report, passed, "child left with 42, its memory was its own");
}

static bool check_exec(struct report *report)
{
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "init", EXEC_CHECK_ARGUMENT, (char *)NULL);
        _exit(1);
    }
    int status = 0;
    bool waited = waitpid(child, &status, 0) == child;
    bool passed = waited && WIFEXITED(status) && WEXITSTATUS(status) == EXEC_CHECK_STATUS;
    return say(report, passed, "execve of /proc/self/exe left with %d", EXEC_CHECK_STATUS);
}

enum { PIPE_BYTES = 96 * 1024 };  /* more than a pipe holds, so both sides block and wake */

/* Child: answer every byte with its complement until the end of input. */
static void complement(int input, int output)
{
    unsigned char buffer[4096];
    ssize_t got;
    while ((got = read(input, buffer, sizeof buffer)) > 0) {
        for (ssize_t index = 0; index < got; index++)
            buffer[index] = (unsigned char)~buffer[index];
        if (write(output, buffer, (size_t)got) != got)
            _exit(1);
    }
    _exit(0);
}

static bool check_pipes(struct report *report)
{
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0)
        return say(report, false, "pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child == 0) {
        close(down[1]);
        close(up[0]);
        complement(down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    pid_t writer = fork();
    if (writer == 0) {
        unsigned char block[1024];
        for (size_t index = 0; index < sizeof block; index++)
            block[index] = (unsigned char)index;
        for (size_t sent = 0; sent < PIPE_BYTES; sent += sizeof block)
            if (write(down[1], block, sizeof block) != (ssize_t)sizeof block)
                _exit(1);
        _exit(0);
    }
    close(down[1]);

    size_t total = 0, wrong = 0;
    unsigned char buffer[4096];
    ssize_t got;
    while ((got = read(up[0], buffer, sizeof buffer)) > 0) {
        for (ssize_t index = 0; index < got; index++, total++)
            wrong += buffer[index] != (unsigned char)~total;
    }
    close(up[0]);
    waitpid(child, NULL, 0);
    waitpid(writer, NULL, 0);
    return say(report, total == PIPE_BYTES && wrong == 0, "%zu bytes through two pipes and two processes, %zu wrong",
               total, wrong);
}

/* --- signals ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t usr1_seen, usr2_seen;

static void on_user_signal(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_pid != getpid())
        return;
    if (signal_number == SIGUSR1)
        usr1_seen++;
    else
        usr2_seen++;
}

static bool check_signals(struct report *report)
{
    struct sigaction action = {.sa_sigaction = on_user_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    usr1_seen = usr2_seen = 0;

    kill(getpid(), SIGUSR1);
    bool delivered = usr1_seen == 1;

    sigset_t blocked, pending;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGUSR2);
    sigpending(&pending);
    bool held = usr2_seen == 0 && sigismember(&pending, SIGUSR2) == 1;
    sigprocmask(SIG_UNBLOCK, &blocked, NULL);
    bool merged = usr2_seen == 1;

    pid_t child = fork();
    if (child == 0) {
        signal(SIGTERM, SIG_DFL);
        for (;;)
            pause();
    }
    int status = 0;
    kill(child, SIGTERM);
    waitpid(child, &status, 0);
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM;
    return say(report, delivered && held && merged && killed,
               "one delivered, one held while blocked, one child killed by SIGTERM");
}

/* --- threads ---------------------------------------------------------------------------------- */

enum { THREADS = 4, TURNS = 50 };

/* Threads take turns in order: each waits for its number, so the mutex, the condition and their futexes all work. */
struct relay {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    int turn;
    uint64_t trace;
};

struct runner {
    struct relay *relay;
    int number;
};

static _Thread_local int laps_here;

static void *run_relay(void *argument)
{
    struct runner *runner = argument;
    struct relay *relay = runner->relay;
    for (int lap = 0; lap < TURNS; lap++) {
        pthread_mutex_lock(&relay->lock);
        while (relay->turn % THREADS != runner->number)
            pthread_cond_wait(&relay->moved, &relay->lock);
        relay->trace = relay->trace * 31 + (uint64_t)runner->number + 1;
        relay->turn++;
        pthread_cond_broadcast(&relay->moved);
        pthread_mutex_unlock(&relay->lock);
        laps_here++;
    }
    return laps_here == TURNS ? runner : NULL;
}

static bool check_threads(struct report *report)
{
    struct relay relay = {.turn = 0};
    pthread_mutex_init(&relay.lock, NULL);
    pthread_cond_init(&relay.moved, NULL);
    pthread_t threads[THREADS];
    struct runner runners[THREADS];
    bool passed = true;
    for (int number = 0; number < THREADS; number++) {
        runners[number] = (struct runner){.relay = &relay, .number = number};
        if (pthread_create(&threads[number], NULL, run_relay, &runners[number]) != 0)
            return say(report, false, "pthread_create failed");
    }
    for (int number = 0; number < THREADS; number++) {
        void *result = NULL;
        pthread_join(threads[number], &result);
        passed = passed && result == &runners[number];
    }
    uint64_t expected = 0;
    for (int turn = 0; turn < THREADS * TURNS; turn++)
        expected = expected * 31 + (uint64_t)(turn % THREADS) + 1;
    passed = passed && relay.trace == expected && laps_here == 0;
    return say(report, passed, "%d threads took %d turns in order: %016llx", THREADS, relay.turn,
               (unsigned long long)relay.trace);
}

/* --- floating point --------------------------------------------------------------------------- */

/* Operands the compiler cannot see through, so that the arithmetic happens in the guest. */
static volatile double one = 1.0, two = 2.0, ten = 10.0;
static volatile long double one_long = 1.0L, three_long = 3.0L, seven_long = 7.0L;

#define DOUBLE_DETAIL                                                                                                  \
    "sqrt(2)=1.4142135623730951 basel=1.6439345666815597 sin(1)=0.8414709848078965 1/10=0x1.999999999999ap-4"
#define LONG_DOUBLE_DETAIL                                                                                             \
    "1/3=0.333333333333333333342 25!=15511210043330985984000000 sqrt(7)=0x1.52a7fa9d2f8e9b78p+1 eps=1.0842e-19"

static bool check_double(struct report *report)
{
    double basel = 0.0;
    for (int n = 1000; n >= 1; n--)
        basel += one / ((double)n * n);
    snprintf(report->detail, sizeof report->detail, "sqrt(2)=%.17g basel=%.17g sin(1)=%.17g 1/10=%a", sqrt(two),
             basel, sin(one), one / ten);
    return strcmp(report->detail, DOUBLE_DETAIL) == 0;
}

static bool check_long_double(struct report *report)
{
    long double factorial = one_long;
    for (int n = 2; n <= 25; n++)
        factorial *= n;
    snprintf(report->detail, sizeof report->detail, "1/3=%.21Lg 25!=%.0Lf sqrt(7)=%La eps=%Lg", one_long / three_long,
             factorial, sqrtl(seven_long), (long double)LDBL_EPSILON);
    return strcmp(report->detail, LONG_DOUBLE_DETAIL) == 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

enum { MAPPED_BYTES = 1024 * 1024, PAGE_BYTES = 4096 };

static bool check_anonymous(struct report *report)
{
    unsigned char *memory = mmap(NULL, MAPPED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return say(report, false, "mmap: %s", strerror(errno));
    size_t dirty = 0, sum = 0;
    for (size_t at = 0; at < MAPPED_BYTES; at += PAGE_BYTES) {
        dirty += memory[at] != 0;
        memory[at] = (unsigned char)(at / PAGE_BYTES);
    }
    for (size_t at = 0; at < MAPPED_BYTES; at += PAGE_BYTES)
        sum += memory[at];
    bool unmapped = munmap(memory, MAPPED_BYTES) == 0;
    return say(report, unmapped && dirty == 0 && sum == 255 * 256 / 2, "%d pages were zero, then held their numbers",
               MAPPED_BYTES / PAGE_BYTES);
}

static bool check_file(struct report *report)
{
    static const char text[] = "written through a mapping";
    char back[sizeof text] = {0};
    int file = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, 2 * PAGE_BYTES) != 0)
        return say(report, false, "/tmp/mapped: %s", strerror(errno));
    char *memory = mmap(NULL, 2 * PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED)
        return say(report, false, "mmap: %s", strerror(errno));
    /* Across the page boundary, so that both pages of the file are dirtied. */
    off_t at = PAGE_BYTES - 8;
    memcpy(memory + at, text, sizeof text);
    bool read_back = pread(file, back, sizeof back, at) == (ssize_t)sizeof back;
    munmap(memory, 2 * PAGE_BYTES);
    close(file);
    unlink("/tmp/mapped");
    return say(report, read_back && memcmp(text, back, sizeof text) == 0, "tmpfs file %s", text);
}

static sigjmp_buf fault_return;
static volatile int fault_code;
static void *volatile fault_address;

static void on_fault(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    fault_code = info->si_code;
    fault_address = info->si_addr;
    siglongjmp(fault_return, 1);
}

/* Write one byte there; the code of the fault, or 0 if the write went through. */
static int write_faults(volatile unsigned char *where)
{
    fault_code = 0;
    if (sigsetjmp(fault_return, 1) == 0)
        *where = 1;
    return fault_address == (void *)(uintptr_t)where ? fault_code : 0;
}

/* In a child: the kernel logs a fault of PID 1, addresses and all, even when a handler is installed. */
static bool protection_holds(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    unsigned char *memory = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    memory[17] = 42;
    mprotect(memory, PAGE_BYTES, PROT_READ);
    sigaction(SIGSEGV, &action, NULL);
    bool refused = write_faults(memory + 17) == SEGV_ACCERR && memory[17] == 42;
    munmap(memory, PAGE_BYTES);
    bool gone = write_faults(memory + 17) == SEGV_MAPERR;
    return refused && gone;
}

static bool check_protection(struct report *report)
{
    pid_t child = fork();
    if (child == 0)
        _exit(protection_holds() ? 0 : 1);
    int status = 0;
    bool waited = waitpid(child, &status, 0) == child;
    return say(report, waited && WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "SIGSEGV caught: SEGV_ACCERR after mprotect, SEGV_MAPERR after munmap");
}

/* --- the list --------------------------------------------------------------------------------- */

static const struct check {
    const char *name;
    bool (*run)(struct report *report);
} checks[] = {
    {"compute", check_compute},
    {"sleep", check_sleep},
    {"timerfd", check_timerfd},
    {"itimer", check_itimer},
    {"fork", check_fork},
    {"exec", check_exec},
    {"pipes", check_pipes},
    {"signals", check_signals},
    {"threads", check_threads},
    {"double", check_double},
    {"long double", check_long_double},
    {"mmap", check_anonymous},
    {"mmap file", check_file},
    {"mprotect", check_protection},
};

int checks_run(void)
{
    int count = (int)(sizeof checks / sizeof checks[0]);
    int failed = 0;
    for (int index = 0; index < count; index++) {
        struct report report = {.detail = ""};
        bool passed = checks[index].run(&report);
        failed += !passed;
        printf("check %-12s%s  %s\n", checks[index].name, passed ? "ok" : "FAILED", report.detail);
    }
    if (failed == 0)
        printf("all %d checks passed\n", count);
    else
        printf("%d of %d checks FAILED\n", failed, count);
    return failed;
}
