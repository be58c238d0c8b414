/*
 * cc-agent: what the host can do inside a guest besides typing at its console.
 *
 *     cc-agent [CHANNEL]        CHANNEL is /dev/hvc0 unless a test says otherwise
 *
 * It says hello and then answers requests: list processes, signal them, run a program, adjust the clock.  It does
 * nothing of its own accord and sleeps in poll() between requests, so a guest with an agent halts like one without.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timex.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { NO_CHANNEL = 3, LOST_CHANNEL = 4 };

static struct answer answer;

/* ---- the channel ---- */

static int open_channel(const char *path)
{
    int channel = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    struct termios settings;
    if (channel < 0 || tcgetattr(channel, &settings) != 0)
        return channel;
    cfmakeraw(&settings);
    settings.c_cc[VMIN] = 1;
    settings.c_cc[VTIME] = 0;
    tcsetattr(channel, TCSAFLUSH, &settings);
    return channel;
}

/* 16 bytes that differ between two boots; the kernel prints them in hexadecimal with dashes. */
static void put_boot_id(void)
{
    char text[64] = "";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file != NULL) {
        if (fgets(text, sizeof text, file) == NULL)
            text[0] = '\0';
        fclose(file);
    }
    const char *at = text;
    for (int i = 0; i < 16; i++) {
        unsigned byte = 0;
        while (*at == '-')
            at++;
        if (sscanf(at, "%2x", &byte) == 1)
            at += 2;
        put(&answer, byte, 1);
    }
}

static bool say_hello(int channel)
{
    answer_start(&answer, 0, OP_HELLO);
    put(&answer, PROTOCOL_VERSION, 2);
    put_boot_id();
    put(&answer, (uint32_t)getpid(), 4);
    return answer_send(&answer, channel);
}

/* ---- requests ---- */

static int signal_pid(struct request *request)
{
    int32_t pid = (int32_t)get(request, 4);
    int number = (int)get(request, 1);
    if (!is_done(request) || pid <= 0)
        return EINVAL;
    if (kill(pid, number) != 0)
        return errno;
    put(&answer, 1, 4);
    put(&answer, (uint32_t)pid, 4);
    return 0;
}

/* The kernel adds the offset in one step, so nothing is lost between reading the clock and setting it. */
static int adjust_clock(struct request *request)
{
    int64_t delta_ns = (int64_t)get(request, 8);
    if (!is_done(request))
        return EINVAL;
    int64_t seconds = delta_ns / 1000000000, rest_ns = delta_ns % 1000000000;
    if (rest_ns < 0) {
        seconds--;
        rest_ns += 1000000000;
    }
    struct timex change = {.modes = ADJ_SETOFFSET | ADJ_NANO, .time = {seconds, rest_ns}};
    if (clock_adjtime(CLOCK_REALTIME, &change) < 0)
        return errno;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    put(&answer, (uint64_t)((int64_t)now.tv_sec * 1000000000 + now.tv_nsec), 8);
    return 0;
}

static int handle(struct request *request)
{
    size_t length;
    switch (request->op) {
    case OP_LIST:
        return is_done(request) ? list_processes(&answer) : EINVAL;
    case OP_SIGNAL_PID:
        return signal_pid(request);
    case OP_SIGNAL_NAME: {
        int number = (int)get(request, 1);
        const char *name = get_text(request, &length);
        return is_done(request) ? signal_by_name(&answer, name, length, number) : EINVAL;
    }
    case OP_ADJUST_CLOCK:
        return adjust_clock(request);
    case OP_PING:
        put_raw(&answer, request->at, request->left);
        return 0;
    default:
        return ENOSYS;
    }
}

static bool serve(struct request *request, int channel)
{
    int error;
    if (request->op == OP_RUN) {
        error = command_start(request);
        if (error == 0)
            return true;        /* answered when it ends */
    } else {
        answer_start(&answer, request->id, request->op | OP_ANSWER);
        error = handle(request);
    }
    if (error != 0)
        answer_error(&answer, request->id, error, strerror(error));
    return answer_send(&answer, channel);
}

/* ---- input ---- */

static uint8_t input[LENGTH_BYTES + LENGTH_MAX];
static size_t input_length;

/* Whole frames from the front of the input.  A length that cannot be means that the place in the stream is lost: all
 * that has come is dropped, and a new hello says so. */
static bool take_frames(int channel)
{
    size_t at = 0;
    while (input_length - at >= LENGTH_BYTES) {
        struct request head = {.at = input + at, .left = LENGTH_BYTES};
        size_t length = get(&head, LENGTH_BYTES);
        if (length < HEADER_BYTES || length > LENGTH_MAX) {
            tcflush(channel, TCIFLUSH);
            input_length = 0;
            answer_error(&answer, 0, EBADMSG, "not a frame");
            return answer_send(&answer, channel) && say_hello(channel);
        }
        if (input_length - at - LENGTH_BYTES < length)
            break;
        struct request request = {.at = input + at + LENGTH_BYTES, .left = length};
        request.id = (uint32_t)get(&request, 4);
        request.op = (uint8_t)get(&request, 1);
        if (!serve(&request, channel))
            return false;
        at += LENGTH_BYTES + length;
    }
    memmove(input, input + at, input_length - at);
    input_length -= at;
    return true;
}

static bool receive(int channel)
{
    ssize_t count = read(channel, input + input_length, sizeof input - input_length);
    if (count < 0)
        return errno == EINTR || errno == EAGAIN;
    if (count == 0)
        return false;
    input_length += (size_t)count;
    return take_frames(channel);
}

/* ---- the loop ---- */

static int timeout_ms(void)
{
    int64_t deadline = commands_deadline_ns(), now = now_ns();
    if (deadline == INT64_MAX)
        return -1;
    int64_t left_ms = deadline > now ? (deadline - now + 999999) / 1000000 : 0;
    return left_ms < INT32_MAX ? (int)left_ms : INT32_MAX;
}

static void loop(int channel, int children)
{
    enum { CHANNEL, CHILDREN, FIXED };
    struct pollfd polled[FIXED + COMMANDS_MAX];
    for (;;) {
        polled[CHANNEL] = (struct pollfd){channel, POLLIN, 0};
        polled[CHILDREN] = (struct pollfd){children, POLLIN, 0};
        for (size_t i = 0; i < COMMANDS_MAX; i++)
            polled[FIXED + i] = (struct pollfd){commands[i].used ? commands[i].output : -1, POLLIN, 0};
        if (poll(polled, FIXED + COMMANDS_MAX, timeout_ms()) < 0 && errno != EINTR)
            return;
        for (size_t i = 0; i < COMMANDS_MAX; i++)
            if (polled[FIXED + i].revents != 0)
                command_read(&commands[i]);
        struct signalfd_siginfo drained;
        if (polled[CHILDREN].revents != 0)
            while (read(children, &drained, sizeof drained) > 0)
                ;
        commands_reap(channel);
        commands_expire(now_ns());
        if (polled[CHANNEL].revents != 0 && !receive(channel))
            return;
    }
}

/* Memory pressure must not take the host's hand away. */
static void survive_oom(void)
{
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file >= 0) {
        if (write(file, "-1000", 5) != 5)
            fprintf(stderr, "cc-agent: oom_score_adj: %s\n", strerror(errno));
        close(file);
    }
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "/dev/hvc0";
    signal(SIGPIPE, SIG_IGN);
    int channel = open_channel(path);
    if (channel < 0) {
        fprintf(stderr, "cc-agent: %s: %s\n", path, strerror(errno));
        return NO_CHANNEL;
    }
    if (geteuid() == 0)
        survive_oom();
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    sigprocmask(SIG_BLOCK, &watched, NULL);
    int children = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (children < 0) {
        fprintf(stderr, "cc-agent: signalfd: %s\n", strerror(errno));
        return LOST_CHANNEL;
    }
    if (say_hello(channel))
        loop(channel, children);
    return LOST_CHANNEL;
}
