/*
 * hello: the first guest. PID 1 of a machine that has nothing else.
 *
 * Promise: apart from the virtual times in square brackets, what it prints without being typed at is the same on
 * every machine that is a correct x86-64, so a transcript can be compared word for word between vCPUs. No address,
 * no process id and no date reaches the console.
 */
#ifndef HELLO_H
#define HELLO_H

#include <stddef.h>
#include <stdint.h>

/* main.c */

/* Nanoseconds of CLOCK_MONOTONIC: virtual time since the kernel started keeping it. */
int64_t monotonic_ns(void);

/* Stop the machine: `how` is a RB_* constant of <sys/reboot.h>. Returns only if the kernel refuses. */
void machine_stop(int how);

/* checks.c */

enum { DETAIL_BYTES = 120 };

/* Argument with which /init executes itself: the second half of the exec check. */
#define EXEC_CHECK_ARGUMENT "--exec-check"
enum { EXEC_CHECK_STATUS = 7 };

/* Run every self-check, one line each and a closing line. Returns the number that failed. */
int checks_run(void);

/* One step of the compute loop, also used by the `spin` command: `rounds` rounds from `state`. */
uint64_t compute(uint64_t state, uint64_t rounds);

/* console.c */

enum { LINE_BYTES = 256 };

/* Read lines from the console and run them, for ever. */
void console_run(void);

/*
 * Has Ctrl-C been typed? Long commands ask this between slices of work. What else was typed meanwhile is kept for the
 * prompt; with Ctrl-C it is dropped.
 */
int console_interrupted(void);

/* commands.c */

enum { HEARTBEAT_DEFAULT_S = 10, HEARTBEAT_MAX_S = 86400 };

/* Seconds between heartbeat lines; 0 turns them off. Owned by commands.c, armed by console.c. */
unsigned heartbeat_s(void);

/* Run one line. The line is taken apart in place. */
void command_run(char *line);

#endif
