/* The processes of the guest, read from /proc in the order of their numbers, which is the order /proc gives. */

#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CMDLINE_BYTES = 256 };

struct process {
    pid_t pid, parent;
    char state;
    uint64_t start_ticks;       /* since boot, 1/100 s */
    char name[32];
    char cmdline[CMDLINE_BYTES];   /* arguments, each ended by a zero */
    size_t cmdline_length;
};

static ssize_t read_file(pid_t pid, const char *what, char *bytes, size_t room)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, what);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    ssize_t count = read(file, bytes, room);
    close(file);
    return count;
}

/* proc(5), /proc/PID/stat: "pid (name) state ppid ... starttime"; the name may hold anything, so the last ')' ends it. */
static bool read_process(pid_t pid, struct process *process)
{
    char stat[1024];
    ssize_t count = read_file(pid, "stat", stat, sizeof stat - 1);
    if (count <= 0)
        return false;           /* it ended since the directory was read */
    stat[count] = '\0';
    char *name = strchr(stat, '('), *end = strrchr(stat, ')');
    int parent;
    unsigned long long start;
    if (name == NULL || end == NULL || end < name ||
        sscanf(end + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &process->state, &parent, &start) != 3)
        return false;
    process->pid = pid;
    process->parent = parent;
    process->start_ticks = start;
    snprintf(process->name, sizeof process->name, "%.*s", (int)(end - name - 1), name + 1);
    count = read_file(pid, "cmdline", process->cmdline, sizeof process->cmdline - 1);
    process->cmdline_length = count > 0 ? (size_t)count : 0;
    process->cmdline[process->cmdline_length] = '\0';
    return true;
}

/* The next process of a directory stream on /proc. */
static bool next_process(DIR *proc, struct process *process)
{
    const struct dirent *entry;
    while ((entry = readdir(proc)) != NULL)
        if (isdigit((unsigned char)entry->d_name[0]) && read_process(atoi(entry->d_name), process))
            return true;
    return false;
}

int list_processes(struct answer *answer)
{
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return errno;
    size_t count_at = answer->length;
    uint32_t count = 0;
    put(answer, 0, 4);
    struct process process;
    while (next_process(proc, &process)) {
        size_t before = answer->length;
        put(answer, (uint32_t)process.pid, 4);
        put(answer, (uint32_t)process.parent, 4);
        put(answer, (uint8_t)process.state, 1);
        put(answer, process.start_ticks, 8);
        put_text(answer, process.name, strlen(process.name));
        put_text(answer, process.cmdline, process.cmdline_length);
        if (answer->full) {     /* a list that ends early is better than none */
            answer->length = before;
            break;
        }
        count++;
    }
    closedir(proc);
    put_at(answer, count_at, count, 4);
    return 0;
}

static bool has_name(const struct process *process, const char *name, size_t length)
{
    const char *program = strrchr(process->cmdline, '/');
    program = program != NULL ? program + 1 : process->cmdline;
    return (strlen(process->name) == length && memcmp(process->name, name, length) == 0) ||
           (strlen(program) == length && memcmp(program, name, length) == 0);
}

int signal_by_name(struct answer *answer, const char *name, size_t length, int signal_number)
{
    if (length == 0)
        return EINVAL;
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return errno;
    size_t count_at = answer->length;
    uint32_t count = 0;
    int error = ESRCH;
    put(answer, 0, 4);
    struct process process;
    while (next_process(proc, &process)) {
        if (process.pid == getpid() || process.state == 'Z' || !has_name(&process, name, length))
            continue;
        if (kill(process.pid, signal_number) != 0) {
            error = errno;
            continue;
        }
        put(answer, (uint32_t)process.pid, 4);
        count += !answer->full;
    }
    closedir(proc);
    put_at(answer, count_at, count, 4);
    return count > 0 ? 0 : error;
}
