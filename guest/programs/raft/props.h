/*
 * What the program tells the machine: properties, events and coverage through the SDK, and lines on the console.
 * An evaluation that passes is told the first time and then now and then: a hypercall per message would cost more than
 * the message. A failure is always told.
 */
#ifndef RAFT_PROPS_H
#define RAFT_PROPS_H

#include "raft_core.h"

enum {
    PROPS_PASSES_PER_CALL = 4096,
    PROPS_COMMIT_STRIDE = 8,       /* applied entries between two raft_commit events */
    PROPS_CATCH_UP_STRIDE = 64,    /* ... of a node that has many to apply */
};

/* For the console and the events: who speaks. */
void props_init(uint8_t node, uint32_t boot);

/* "raft: a write takes effect after those acknowledged before it began" and the like, evaluated once. */
enum props_client { PROPS_READ_SEES_WRITES, PROPS_WRITE_AFTER_WRITES, PROPS_CLIENT_COUNT };
void props_client(enum props_client which, bool holds, uint32_t index, uint32_t floor, uint16_t key);

/* The node has recovered and starts. */
void props_started(const struct raft *raft, uint32_t cut);

/* First write of this boot acknowledged: the cluster serves. */
void props_serving(void);

/* After every flush: verdicts, role changes, coverage. */
void props_flush(const struct raft *raft);

/* An entry was applied. */
void props_applied(const struct raft *raft, uint32_t index);

/* One line on the console: "raft: node 1: ...". */
void props_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
