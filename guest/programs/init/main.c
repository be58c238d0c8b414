/*
 * init: PID 1 of the images that are more than one program.
 *
 * Mounts what Linux programs expect, and /dev/vda on /data if the image has that directory; brings the loopback device
 * up, starts the guest agent, and then runs one program with the console as its terminal.  Which one, in this order:
 *
 *     cc.run="dd if=/dev/zero of=/data/x; sync"    on the kernel command line: a line for /bin/sh
 *     /etc/cc-run                                   in the image: the path of a program, on one line
 *     /bin/sh                                       started again whenever it ends
 *
 * When the program exits the machine resets, which the host sees.  A program that a signal ended is started again
 * after cc.respawn=MS milliseconds if the command line (or a second line of /etc/cc-run) says so: a crash of a process
 * is not the end of its machine.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CMDLINE_BYTES = 4096 };

static char cmdline[CMDLINE_BYTES];
static char image_run[256], image_respawn[32];

static void say(const char *what, const char *detail)
{
    printf("init: %s: %s\n", what, detail);
}

/* ---- the machine ---- */

static bool mount_at(const char *device, const char *type, const char *where)
{
    mkdir(where, 0755);
    if (mount(device, where, type, 0, NULL) == 0)
        return true;
    /* The kernel may have mounted devtmpfs itself. */
    if (errno != EBUSY)
        say(where, strerror(errno));
    return false;
}

static void raise_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) != 0)
        say("lo", strerror(errno));
    if (sock >= 0)
        close(sock);
}

static void set_up(void)
{
    mount_at("devtmpfs", "devtmpfs", "/dev");
    /* The kernel's console is opened for PID 1 only if the initramfs has that node. */
    if (fcntl(STDIN_FILENO, F_GETFD) < 0) {
        int console = open("/dev/console", O_RDWR);
        dup2(console, STDOUT_FILENO);
        dup2(console, STDERR_FILENO);
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    mount_at("proc", "proc", "/proc");
    mount_at("sysfs", "sysfs", "/sys");
    mount_at("tmpfs", "tmpfs", "/tmp");
    mkdir("/dev/shm", 0777);
    raise_loopback();
    if (access("/data", F_OK) == 0 && access("/dev/vda", F_OK) == 0 && mount_at("/dev/vda", "ext4", "/data"))
        say("/dev/vda", "mounted on /data");
}

/* ---- what to run ---- */

static void read_line(FILE *file, char *line, size_t room)
{
    if (fgets(line, (int)room, file) == NULL)
        line[0] = '\0';
    line[strcspn(line, "\n")] = '\0';
}

static void read_settings(void)
{
    FILE *file = fopen("/proc/cmdline", "re");
    if (file != NULL) {
        read_line(file, cmdline, sizeof cmdline);
        fclose(file);
    }
    file = fopen("/etc/cc-run", "re");
    if (file != NULL) {
        read_line(file, image_run, sizeof image_run);
        read_line(file, image_respawn, sizeof image_respawn);
        fclose(file);
    }
}

/* The value of NAME=value or NAME="a value" in the kernel command line, which quotes as the kernel does. */
static bool setting(const char *name, char *value, size_t room)
{
    size_t length = strlen(name);
    bool quoted = false, word_start = true;
    for (const char *at = cmdline; *at != '\0'; at++) {
        if (word_start && strncmp(at, name, length) == 0 && at[length] == '=') {
            at += length + 1;
            char end = *at == '"' ? '"' : ' ';
            at += end == '"';
            size_t count = 0;
            while (at[count] != '\0' && at[count] != end && count < room - 1)
                count++;
            memcpy(value, at, count);
            value[count] = '\0';
            return true;
        }
        quoted ^= *at == '"';
        word_start = !quoted && isspace((unsigned char)*at);
    }
    return false;
}

static long respawn_ms(void)
{
    char value[32];
    const char *text = setting("cc.respawn", value, sizeof value) ? value : image_respawn;
    char *end;
    long ms = strtol(text, &end, 10);
    return end != text && *end == '\0' && ms >= 0 ? ms : -1;
}

/* ---- processes ---- */

static void child_environment(void)
{
    char value[32];
    setenv("PATH", "/sbin:/bin:/usr/sbin:/usr/bin", 1);
    setenv("HOME", "/", 1);
    setenv("TERM", "vt100", 1);
    if (setting("cc.node", value, sizeof value))
        setenv("CC_NODE", value, 1);
    if (setting("cc.nodes", value, sizeof value))
        setenv("CC_NODES", value, 1);
}

/* A session of its own on the serial line: /dev/console cannot be a controlling terminal, and ^C needs one. */
static void own_terminal(void)
{
    setsid();
    int terminal = open("/dev/ttyS0", O_RDWR);
    if (terminal < 0)
        return;
    ioctl(terminal, TIOCSCTTY, 0);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        dup2(terminal, fd);
    if (terminal > STDERR_FILENO)
        close(terminal);
}

static pid_t start(const char *const *argv, bool terminal)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    signal(SIGINT, SIG_DFL);
    if (terminal)
        own_terminal();
    execv(argv[0], (char *const *)argv);
    say(argv[0], strerror(errno));
    _exit(127);
}

static void start_agent(void)
{
    static const char *const agent[] = {"/sbin/cc-agent", NULL};
    if (access(agent[0], X_OK) == 0 && access("/dev/hvc0", F_OK) == 0)
        start(agent, false);
}

/* Reap whatever ends until this one does. */
static int wait_for(pid_t pid)
{
    int status;
    for (;;) {
        pid_t ended = wait(&status);
        if (ended == pid)
            return status;
        if (ended < 0 && errno != EINTR)
            return 127 << 8;
    }
}

static void stop_machine(void)
{
    fflush(stdout);
    sync();
    reboot(RB_AUTOBOOT);
}

int main(void)
{
    static char run[CMDLINE_BYTES];
    set_up();
    read_settings();
    child_environment();
    start_agent();

    const char *line[] = {"/bin/sh", "-c", run, NULL}, *program[] = {image_run, NULL}, *shell[] = {"/bin/sh", NULL};
    const char **argv = setting("cc.run", run, sizeof run) ? line : image_run[0] != '\0' ? program : shell;
    const char *name = argv == line ? run : argv[0];
    for (;;) {
        pid_t pid = start(argv, true);
        if (pid < 0) {
            say("fork", strerror(errno));
            break;
        }
        int status = wait_for(pid);
        if (WIFSIGNALED(status))
            printf("init: %s: killed by signal %d (%s)\n", name, WTERMSIG(status), strsignal(WTERMSIG(status)));
        else
            printf("init: %s: exited with status %d\n", name, WEXITSTATUS(status));
        long ms = WIFSIGNALED(status) ? respawn_ms() : -1;
        if (argv == shell)
            continue;
        if (ms < 0)
            break;
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
    }
    stop_machine();
    return 1;
}
