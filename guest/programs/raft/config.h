/*
 * Settings are words NAME=VALUE: those of the program's arguments, or, without any, those of the kernel's command line,
 * of which only names that begin with "raft." and cc.node and cc.nodes are ours.
 */
#ifndef RAFT_CONFIG_H
#define RAFT_CONFIG_H

#include "raft_core.h"

struct config {
    uint32_t node, nodes;
    enum raft_bug bug;
    uint32_t election_min_ms, election_max_ms, heartbeat_ms;
    uint32_t batch, log_max;
    uint32_t op_ms;         /* a client's pause between two operations while the log is short; 0: no client */
    uint32_t reads_percent; /* of the operations */
    uint32_t local_port;    /* 0: 10.0.0.(1 + node) port 7000; else 127.0.0.1 port local_port + node */
    uint32_t seed;          /* 0: ask the machine */
    char data[128];         /* the disk, or a file that stands for one */
    char error[160];
};

/* False: one line in config->error. */
bool config_from_words(struct config *config, int count, char **words);
bool config_from_cmdline(struct config *config, const char *path);

#endif
