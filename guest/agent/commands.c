/* Programs that the host asked for: started, their output collected, answered for when they end or their time is up. */

#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXITED, SIGNALLED, TIMED_OUT };

struct command commands[COMMANDS_MAX];

int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Start it with both outputs in one pipe, no input, a process group of its own (so that a time-out ends all of it), and
 * nothing of the agent's signal mask. */
static int spawn(struct command *command, char **argv)
{
    static char *environment[] = {"PATH=/sbin:/bin:/usr/sbin:/usr/bin", "HOME=/", NULL};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    setenv("PATH", "/sbin:/bin:/usr/sbin:/usr/bin", 0);   /* where posix_spawnp looks */
    int error = posix_spawnp(&command->pid, argv[0], &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        return error;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    command->output = ends[0];
    return 0;
}

/* The arguments as C strings, in one allocation at *storage. */
static int read_arguments(struct request *request, char **argv, char **storage)
{
    size_t count = get(request, 2), used = 0;
    *storage = NULL;
    if (count == 0 || count > ARGUMENTS_MAX)
        return EINVAL;
    char *at = *storage = malloc(request->left + count);
    if (at == NULL)
        return ENOMEM;
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *text = get_text(request, &length);
        if (memchr(text, '\0', length) != NULL)
            return EINVAL;
        memcpy(at + used, text, length);
        at[used + length] = '\0';
        argv[i] = at + used;
        used += length + 1;
    }
    argv[count] = NULL;
    return is_done(request) ? 0 : EINVAL;
}

int command_start(struct request *request)
{
    struct command *command = NULL;
    for (size_t i = 0; i < COMMANDS_MAX && command == NULL; i++)
        command = commands[i].used ? NULL : &commands[i];
    if (command == NULL)
        return EBUSY;
    char *argv[ARGUMENTS_MAX + 1], *storage = NULL;
    uint64_t timeout_ms = get(request, 4), output_max = get(request, 4);
    memset(command, 0, sizeof *command);
    command->id = request->id;
    command->output_max = output_max < OUTPUT_MAX ? (uint32_t)output_max : OUTPUT_MAX;
    command->deadline_ns = timeout_ms > 0 ? now_ns() + (int64_t)timeout_ms * 1000000 : INT64_MAX;
    int error = read_arguments(request, argv, &storage);
    command->bytes = malloc(command->output_max + 1);
    if (error == 0 && command->bytes == NULL)
        error = ENOMEM;
    if (error == 0)
        error = spawn(command, argv);
    free(storage);
    if (error != 0)
        free(command->bytes);
    command->used = error == 0;
    return error;
}

/* Whatever is in the pipe.  Beyond what was asked for it is read and dropped, so that the program never blocks. */
void command_read(struct command *command)
{
    uint8_t bytes[4096];
    for (;;) {
        ssize_t count = read(command->output, bytes, sizeof bytes);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            if (count == 0 || errno != EAGAIN) {
                close(command->output);
                command->output = -1;
            }
            return;
        }
        size_t room = command->output_max - command->length;
        size_t kept = (size_t)count < room ? (size_t)count : room;
        memcpy(command->bytes + command->length, bytes, kept);
        command->length += (uint32_t)kept;
        command->truncated |= kept < (size_t)count;
    }
}

static void finish(struct command *command, int status, int channel)
{
    static struct answer answer;
    if (command->output >= 0)
        command_read(command);  /* what it wrote last; a child that it left behind may keep the pipe open */
    if (command->output >= 0)
        close(command->output);
    answer_start(&answer, command->id, OP_RUN | OP_ANSWER);
    put(&answer, command->timed_out ? TIMED_OUT : WIFEXITED(status) ? EXITED : SIGNALLED, 1);
    put(&answer, (uint64_t)(WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status)), 1);
    put(&answer, command->truncated, 1);
    put(&answer, command->length, 4);
    put_raw(&answer, command->bytes, command->length);
    answer_send(&answer, channel);
    free(command->bytes);
    command->used = false;
}

void commands_reap(int channel)
{
    for (struct command *command = commands; command < commands + COMMANDS_MAX; command++) {
        int status;
        if (command->used && waitpid(command->pid, &status, WNOHANG) == command->pid)
            finish(command, status, channel);
    }
}

void commands_expire(int64_t now)
{
    for (struct command *command = commands; command < commands + COMMANDS_MAX; command++)
        if (command->used && now >= command->deadline_ns) {
            command->timed_out = true;
            command->deadline_ns = INT64_MAX;
            kill(-command->pid, SIGKILL);
        }
}

int64_t commands_deadline_ns(void)
{
    int64_t first = INT64_MAX;
    for (const struct command *command = commands; command < commands + COMMANDS_MAX; command++)
        if (command->used && command->deadline_ns < first)
            first = command->deadline_ns;
    return first;
}
