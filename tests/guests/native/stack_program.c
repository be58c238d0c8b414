// A program whose stacks are known: nested calls, recursion, calls out of the C library, a signal handler on a stack of
// its own, system calls. Lines with a name in their comment are looked up by it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

volatile long counter;
static char handler_stack[64 * 1024];

NOINLINE static void leaf(long n) {
    counter += n; // in leaf
}

NOINLINE static void inner(long n) {
    leaf(n + 1); // inner calls leaf
    counter++;   // after leaf
}

NOINLINE static void outer(long n) {
    counter++;
    inner(n * 2); // outer calls inner
    counter++;    // after inner
}

NOINLINE static long recurse(long depth) {
    long below = 0;
    if (depth == 0)
        leaf(100); // the deepest
    else
        below = recurse(depth - 1); // goes deeper
    counter++;                      // after going deeper
    return below + depth;
}

NOINLINE static int compare(const void *a, const void *b) {
    leaf(3); // compare calls leaf
    return *(const int *)a - *(const int *)b;
}

NOINLINE static void handler(int signal) {
    leaf(signal); // handler calls leaf
    counter++;
}

NOINLINE static void sleep_a_little(void) {
    struct timespec time = {0, 1000000};
    nanosleep(&time, NULL); // sleeps
    counter++;
}

NOINLINE static void say(const char *text) {
    if (write(1, text, strlen(text)) < 0) // says
        counter++;
}

NOINLINE static void round_of_calls(void) {
    int numbers[] = {3, 1, 2};
    outer(1);                                               // calls outer
    counter += recurse(5);                                  // calls recurse
    qsort(numbers, 3, sizeof numbers[0], compare);          // calls qsort
    raise(SIGUSR1);                                         // raises
    say("round\n");                                         // calls say
    sleep_a_little();                                       // calls sleep
}

int main(void) {
    stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    for (;;)
        round_of_calls(); // goes round
}
