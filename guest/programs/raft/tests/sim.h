/*
 * A whole cluster in one process: nodes of raft_core over a simulated network and disks, one millisecond at a time, and
 * a checker that sees everything. Everything that happens is drawn from one seed.
 */
#ifndef RAFT_SIM_H
#define RAFT_SIM_H

#include "../kv.h"
#include "../raft_core.h"

enum { SIM_NODES_MAX = 5, SIM_LOG_MAX = 4000, SIM_FLIGHT_MAX = 4096, SIM_WRITES = 256 };

/* What the checker, which sees all nodes, or the nodes' own checks found. */
enum sim_finding {
    SIM_ELECTION,     /* two leaders in a term */
    SIM_LOG_MATCHING, /* logs agree on an entry and not on what is before it */
    SIM_COMPLETENESS, /* a leader without a committed entry */
    SIM_STATE,        /* different entries applied at one index */
    SIM_STALE_READ,   /* a read misses a write that was acknowledged before it began */
    SIM_LOST_WRITE,   /* a write took effect before one that had been acknowledged when it was sent */
    SIM_TWO_LEADERS,  /* after healing: not exactly one leader */
    SIM_STUCK,        /* after healing: a node does not commit, or nodes do not converge */
    SIM_FINDINGS,
};

extern const char *const sim_finding_names[SIM_FINDINGS];

struct sim_options {
    uint64_t seed;
    enum raft_bug bug;
    uint8_t nodes;
    uint32_t chaos_ms, settle_ms;
    uint32_t drop_ppm, duplicate_ppm;
    bool partitions, crashes, slow_nodes;
    bool verbose;
};

struct sim_node {
    struct raft raft;
    struct kv kv;
    struct raft_entry log[SIM_LOG_MAX + 1];
    uint64_t hashes[SIM_LOG_MAX + 1];
    /* the disk */
    uint32_t disk_term, disk_last;
    uint8_t disk_vote;
    struct raft_entry disk[SIM_LOG_MAX + 1];
    bool up;
    uint32_t commit_seen;
    uint32_t checked_last; /* of the log at the last look */
};

struct sim_flight {
    uint64_t at_ms;
    uint64_t order;
    struct raft_message message;
};

struct sim {
    struct sim_options options;
    uint64_t now_ms;
    uint64_t random;
    uint64_t order;
    struct sim_node nodes[SIM_NODES_MAX];
    bool cut[SIM_NODES_MAX][SIM_NODES_MAX]; /* [from][to] */
    uint32_t slow_ms[SIM_NODES_MAX];        /* added to what a node sends */
    uint32_t flight_count;
    struct sim_flight flights[SIM_FLIGHT_MAX];
    /* the checker */
    struct { uint8_t node; bool known; } leaders[65536];
    struct { uint64_t hash; uint32_t term; bool known; } committed[SIM_LOG_MAX + 1];
    uint32_t committed_last, committed_term;
    uint32_t acked;           /* highest index that a client was told of */
    struct { uint32_t index, term, acked_before; bool used; } writes[SIM_WRITES];
    uint32_t read_floor[65536]; /* per read token: what was acknowledged when it began */
    uint32_t seq;
    uint32_t found[SIM_FINDINGS];         /* by the checker that sees everything */
    uint64_t first_ms[SIM_FINDINGS];
    uint32_t self_found[RAFT_CHECK_COUNT]; /* by the nodes' own checks */
    uint64_t reads, acks, edges;
};

/* Prepare a cluster whose nodes have just booted. */
void sim_init(struct sim *sim, const struct sim_options *options);

/* Run chaos and then quiet, and check throughout. */
void sim_run(struct sim *sim);

/* Anything found at all? */
bool sim_violated(const struct sim *sim);
bool sim_safety_violated(const struct sim *sim);

/* For hand-written schedules: the pieces. */
void sim_step_ms(struct sim *sim, uint32_t ms, bool deliver);
void sim_flush(struct sim *sim, uint8_t node);
void sim_crash(struct sim *sim, uint8_t node);
void sim_boot(struct sim *sim, uint8_t node);
bool sim_write(struct sim *sim, uint8_t node);
bool sim_read(struct sim *sim, uint8_t node);
/* One leader, and every node further than `commit_before` and close to the furthest? */
void sim_check_settled(struct sim *sim, const uint32_t *commit_before);
uint32_t sim_leader_count(const struct sim *sim);

#endif
