/* The commands of the console. Each gets its words and prints; nothing here reads input. */

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hello.h"

enum {
    WORDS_MAX = 16,
    NAMES_MAX = 1024,
    /* A million rounds of compute(), the unit of `spin`, in slices between which Ctrl-C is looked for. */
    SPIN_UNIT_ROUNDS = 1000000,
    SPIN_UNITS_MAX = 1000000,
    SLEEP_MAX_S = 1000000,
    SLEEP_SLICE_MS = 100,
};

static unsigned heartbeat_period_s = HEARTBEAT_DEFAULT_S;

unsigned heartbeat_s(void)
{
    return heartbeat_period_s;
}

static void complain(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
}

/* A whole number of 0..max, or -1 after a line that says what was wrong. */
static long number_from(const char *word, long max)
{
    char *end;
    errno = 0;
    long value = strtol(word, &end, 10);
    if (errno == 0 && end != word && *end == '\0' && value >= 0 && value <= max)
        return value;
    printf("%s: not a number from 0 to %ld\n", word, max);
    return -1;
}

/* --- looking around --------------------------------------------------------------------------- */

static void command_uptime(int count, char **words)
{
    (void)count, (void)words;
    int64_t now_ns = monotonic_ns();
    printf("up %lld.%09lld s\n", (long long)(now_ns / 1000000000), (long long)(now_ns % 1000000000));
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(char *const *)left, *(char *const *)right);
}

/* The names in a directory without . and .., sorted: the order of readdir is the file system's secret. */
static size_t list_names(const char *path, char **names)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        complain(path);
        return 0;
    }
    size_t count = 0;
    const struct dirent *entry;
    while (count < NAMES_MAX && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        names[count] = strdup(entry->d_name);
        count += names[count] != NULL;
    }
    closedir(directory);
    qsort(names, count, sizeof *names, compare_names);
    return count;
}

static char type_letter(mode_t mode)
{
    return S_ISDIR(mode) ? 'd' : S_ISLNK(mode) ? 'l' : S_ISCHR(mode) ? 'c' : S_ISBLK(mode) ? 'b' : '-';
}

static void command_ls(int count, char **words)
{
    static char *names[NAMES_MAX];
    const char *path = count > 1 ? words[1] : "/";
    size_t found = list_names(path, names);
    for (size_t index = 0; index < found; index++) {
        char full[2 * LINE_BYTES + 2];
        struct stat status;
        snprintf(full, sizeof full, "%s/%s", path, names[index]);
        if (lstat(full, &status) == 0)
            printf("%c%03o %10lld  %s\n", type_letter(status.st_mode), (unsigned)status.st_mode & 0777,
                   (long long)status.st_size, names[index]);
        free(names[index]);
    }
}

static void command_cat(int count, char **words)
{
    for (int index = 1; index < count; index++) {
        int file = open(words[index], O_RDONLY | O_NONBLOCK);
        char buffer[4096];
        ssize_t got = -1;
        while (file >= 0 && !console_interrupted() && (got = read(file, buffer, sizeof buffer)) > 0)
            fwrite(buffer, 1, (size_t)got, stdout);
        if (file < 0 || got < 0)
            complain(words[index]);
        if (file >= 0)
            close(file);
    }
}

static void command_echo(int count, char **words)
{
    for (int index = 1; index < count; index++)
        printf("%s%s", index > 1 ? " " : "", words[index]);
    printf("\n");
}

static void command_mem(int count, char **words)
{
    (void)count, (void)words;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file == NULL) {
        complain("/proc/meminfo");
        return;
    }
    char line[LINE_BYTES];
    for (int shown = 0; shown < 3 && fgets(line, sizeof line, file) != NULL; shown++)
        fputs(line, stdout);
    fclose(file);
}

/* One process from /proc/PID/stat (proc(5)): the name in parentheses may hold anything, so the last ')' ends it. */
static void print_process(const char *pid)
{
    char path[LINE_BYTES], text[1024];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = '\0';
    const char *name = strchr(text, '(');
    char *end = strrchr(text, ')');
    char state;
    unsigned long user_ticks, system_ticks;
    if (name == NULL || end == NULL ||
        sscanf(end + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state, &user_ticks, &system_ticks) != 3)
        return;
    *end = '\0';
    double cpu_s = (double)(user_ticks + system_ticks) / (double)sysconf(_SC_CLK_TCK);
    printf("%5s %c %8.2f s  %s\n", pid, state, cpu_s, name + 1);
}

static int compare_pids(const void *left, const void *right)
{
    int difference = atoi(*(char *const *)left) - atoi(*(char *const *)right);
    return difference;
}

static void command_ps(int count, char **words)
{
    (void)count, (void)words;
    static char *names[NAMES_MAX];
    size_t found = list_names("/proc", names), pids = 0;
    for (size_t index = 0; index < found; index++) {
        if (isdigit((unsigned char)names[index][0]))
            names[pids++] = names[index];
        else
            free(names[index]);
    }
    qsort(names, pids, sizeof *names, compare_pids);
    printf("  PID S      CPU    NAME\n");
    for (size_t index = 0; index < pids; index++) {
        print_process(names[index]);
        free(names[index]);
    }
}

/* --- spending time ---------------------------------------------------------------------------- */

static void command_spin(int count, char **words)
{
    long units = count > 1 ? number_from(words[1], SPIN_UNITS_MAX) : 10;
    int64_t before_ns = monotonic_ns();
    uint64_t state = 1;
    for (long unit = 0; unit < units; unit++) {
        state = compute(state | 1, SPIN_UNIT_ROUNDS);
        if (console_interrupted()) {
            printf("^C after %ld of %ld million rounds\n", unit + 1, units);
            return;
        }
    }
    if (units >= 0)
        printf("%ld million rounds: %016llx in %lld us\n", units, (unsigned long long)state,
               (long long)((monotonic_ns() - before_ns) / 1000));
}

static void command_sleep(int count, char **words)
{
    long seconds = count > 1 ? number_from(words[1], SLEEP_MAX_S) : 1;
    int64_t until_ns = monotonic_ns() + seconds * 1000000000;
    while (monotonic_ns() < until_ns && !console_interrupted()) {
        struct timespec slice = {.tv_nsec = SLEEP_SLICE_MS * 1000000};
        nanosleep(&slice, NULL);
    }
}

static void command_heartbeat(int count, char **words)
{
    if (count > 1) {
        long period_s = strcmp(words[1], "off") == 0  ? 0
                        : strcmp(words[1], "on") == 0 ? HEARTBEAT_DEFAULT_S
                                                      : number_from(words[1], HEARTBEAT_MAX_S);
        if (period_s < 0)
            return;
        heartbeat_period_s = (unsigned)period_s;
    }
    if (heartbeat_period_s == 0)
        printf("heartbeat off\n");
    else
        printf("heartbeat every %u s\n", heartbeat_period_s);
}

static void command_random(int count, char **words)
{
    (void)count, (void)words;
    uint64_t value;
    int file = open("/dev/urandom", O_RDONLY);
    if (file < 0 || read(file, &value, sizeof value) != sizeof value)
        complain("/dev/urandom");
    else
        printf("%016llx\n", (unsigned long long)value);
    if (file >= 0)
        close(file);
}

static void command_checks(int count, char **words)
{
    (void)count, (void)words;
    checks_run();
}

/* --- ending ----------------------------------------------------------------------------------- */

static void command_poweroff(int count, char **words)
{
    (void)count, (void)words;
    machine_stop(RB_POWER_OFF);
    complain("poweroff");
}

static void command_reboot(int count, char **words)
{
    (void)count, (void)words;
    machine_stop(RB_AUTOBOOT);
    complain("reboot");
}

static void command_panic(int count, char **words)
{
    (void)count, (void)words;
    int trigger = open("/proc/sysrq-trigger", O_WRONLY);
    if (trigger < 0 || write(trigger, "c", 1) != 1)
        complain("/proc/sysrq-trigger");
}

/* --- the list --------------------------------------------------------------------------------- */

static void command_help(int count, char **words);

static const struct command {
    const char *name;
    const char *arguments;
    const char *does;
    void (*run)(int count, char **words);
} commands[] = {
    {"help", "", "this list", command_help},
    {"uptime", "", "virtual time since boot", command_uptime},
    {"ls", "[DIR]", "names, sorted", command_ls},
    {"cat", "FILE...", "print files", command_cat},
    {"echo", "[WORD...]", "print words", command_echo},
    {"mem", "", "memory, from /proc/meminfo", command_mem},
    {"ps", "", "processes and their CPU time", command_ps},
    {"spin", "[N]", "compute N million rounds (10); Ctrl-C stops", command_spin},
    {"sleep", "[N]", "sleep N seconds (1); Ctrl-C stops", command_sleep},
    {"heartbeat", "[on|off|N]", "a line every N seconds", command_heartbeat},
    {"random", "", "64 bits from /dev/urandom", command_random},
    {"checks", "", "run the self-checks again", command_checks},
    {"poweroff", "", "halt the machine", command_poweroff},
    {"reboot", "", "reset the machine", command_reboot},
    {"panic", "", "crash the kernel", command_panic},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void command_help(int count, char **words)
{
    (void)count, (void)words;
    for (int index = 0; index < COMMANDS; index++)
        printf("%-10s%-12s%s\n", commands[index].name, commands[index].arguments, commands[index].does);
}

void command_run(char *line)
{
    char *words[WORDS_MAX];
    int count = 0;
    char *rest = line;
    for (char *word; count < WORDS_MAX && (word = strtok_r(rest, " \t", &rest)) != NULL;)
        words[count++] = word;
    if (count == 0)
        return;
    for (int index = 0; index < COMMANDS; index++) {
        if (strcmp(words[0], commands[index].name) == 0) {
            commands[index].run(count, words);
            return;
        }
    }
    printf("%s: no such command; try help\n", words[0]);
}
