/*
 * PID 1 of a guest in which everybody makes calls at once: three processes of three threads each, interrupted by a timer
 * whose handler makes calls too, while others are killed in the middle of theirs.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chaoscontrol.h"

enum { PROCESSES = 3, THREADS = 2, CALLS = 500, VICTIMS = 30 };

static void on_alarm(int number)
{
    (void)number;
    cc_sometimes(true, "alarm", NULL);
}

static void *thread(void *argument)
{
    for (int i = 0; i < CALLS; i++)
        CC_ALWAYS(i != 7, "thread", NULL);
    return argument;
}

static void process(void)
{
    struct itimerval every = {{0, 100}, {0, 100}};
    pthread_t threads[THREADS];
    setitimer(ITIMER_REAL, &every, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, thread, NULL);
    for (int i = 0; i < CALLS; i++)
        CC_ALWAYS(i != 3, "process", "{\"long\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}");
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

int main(void)
{
    int status, failed = 0;
    signal(SIGALRM, on_alarm);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0)
            process();
    for (int i = 0; i < VICTIMS; i++) {
        pid_t victim = fork();
        while (victim == 0)
            CC_SOMETIMES(false, "victim", NULL);
        usleep(200 + 37 * (unsigned)i);
        kill(victim, SIGKILL);
        waitpid(victim, &status, 0);
    }
    while (wait(&status) > 0)
        failed += status != 0;
    CC_REACHABLE("at last", NULL);   /* the last victim may have died with the page in its hands */
    printf("finished, %d failed\n", failed);
    for (;;)
        pause();
}
