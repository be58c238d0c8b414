/* hello, PID 1: say so first, mount what the checks and commands read, check the machine, then serve the console. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "hello.h"

int64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void machine_stop(int how)
{
    fflush(stdout);
    sync();
    reboot(how);
}

static void mount_at(const char *type, const char *where)
{
    mkdir(where, 0755);
    if (mount(type, where, type, 0, NULL) != 0)
        printf("mount %s on %s: %s\n", type, where, strerror(errno));
}

/* The kernel opens /dev/console for PID 1 only if the initramfs has that node; without it, there is devtmpfs. */
static void open_console(void)
{
    if (fcntl(STDIN_FILENO, F_GETFD) >= 0)
        return;
    mkdir("/dev", 0755);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    dup2(console, STDOUT_FILENO);
    dup2(console, STDERR_FILENO);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], EXEC_CHECK_ARGUMENT) == 0)
        return EXEC_CHECK_STATUS;

    open_console();
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    printf("hello from cc-tui guest\n");

    /* A console with a session of its own; signals to it would otherwise find no process group. */
    setsid();
    signal(SIGPIPE, SIG_IGN);

    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    mount_at("devtmpfs", "/dev");
    mount_at("tmpfs", "/tmp");

    checks_run();
    console_run();
    return 0;
}
