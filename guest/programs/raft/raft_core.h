/*
 * The Raft algorithm (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", section 5) as a pure
 * state machine: no clock, no I/O, no allocation. Inputs are calls; outputs are what the caller finds in the structure
 * afterwards. The same inputs in the same order give the same outputs.
 *
 * The caller's duty, after any number of inputs: raft_pump(), then write what `out` says must be durable, and only then
 * send `out.messages`, apply committed entries (raft_next_apply) and answer clients; then raft_clear_out().
 */
#ifndef RAFT_CORE_H
#define RAFT_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RAFT_NODES_MAX = 7,
    RAFT_BATCH_MAX = 16,  /* entries in one message: one Ethernet frame */
    RAFT_OUT_MAX = 128,   /* messages between two flushes; more are dropped, as a network might */
    RAFT_READS_MAX = 64,  /* reads waiting for a quorum */
    RAFT_EDGES_MAX = 256, /* coverage ids between two flushes; more are dropped */
    RAFT_LEADERS_MAX = 64, /* terms whose leader a node remembers */
    RAFT_NOBODY = 0xff,
};

enum raft_role { RAFT_FOLLOWER, RAFT_CANDIDATE, RAFT_LEADER };

/* The seeded bugs. Each is one marked deviation in raft_core.c. */
enum raft_bug {
    RAFT_BUG_NONE,
    RAFT_BUG_FIG8_COMMIT,        /* commits an entry of an older term by counting replicas (section 5.4.2) */
    RAFT_BUG_SKIP_TRUNCATE,      /* keeps a log suffix that conflicts with the leader's */
    RAFT_BUG_ACCEPT_STALE_TERM,  /* accepts entries from the leader of an older term */
    RAFT_BUG_LEADER_NO_STEPDOWN, /* a leader ignores messages of a higher term */
    RAFT_BUG_DOUBLE_VOTE,        /* votes more than once in a term */
    RAFT_BUG_PREMATURE_COMMIT,   /* commits with one replica less than a majority */
    RAFT_BUG_COUNT,
};

const char *raft_bug_name(enum raft_bug bug);

/* The bug of that name, or RAFT_BUG_COUNT. */
enum raft_bug raft_bug_from_name(const char *name);

enum raft_op { RAFT_OP_NOOP, RAFT_OP_PUT, RAFT_OP_CAS, RAFT_OP_GET };

struct raft_entry {
    uint32_t term;
    uint16_t op; /* enum raft_op; never GET: reads are not logged */
    uint16_t key;
    uint32_t client;
    uint32_t seq; /* of the client's writes, from 1: a retry is applied once */
    uint64_t value;
    uint64_t expect; /* CAS: the value that must be there */
};

/*
 * What a node tells every other with each message so that a receiver can notice what neither of them could alone.
 * The algorithm itself never reads it.
 */
struct raft_facts {
    uint32_t lead_term; /* the last term whose leader the sender knows, and who */
    uint8_t lead_node;
    uint32_t applied; /* the sender's applied prefix and the hash over its entries */
    uint64_t applied_hash;
    uint32_t acked; /* highest log index of a write that some client was told is done, and the term it was in */
    uint32_t acked_term;
};

enum raft_kind { RAFT_VOTE_REQUEST = 1, RAFT_VOTE_REPLY, RAFT_APPEND, RAFT_APPEND_REPLY };

struct raft_message {
    uint8_t kind; /* enum raft_kind */
    uint8_t from;
    uint8_t to;
    uint8_t yes; /* replies: vote granted, entries accepted */
    uint32_t term;
    uint32_t index;      /* VOTE_REQUEST: last entry; APPEND: the one before `entries`; APPEND_REPLY: replicated up to
                            here, or, if refused, where to try next */
    uint32_t index_term; /* of the entry at `index`; not in replies */
    uint64_t index_hash; /* APPEND: over all entries up to `index` */
    uint32_t commit;     /* APPEND: the leader's commit index */
    uint32_t last;       /* APPEND: the leader's last entry; APPEND_REPLY: `index` of the message that this answers */
    uint32_t round;      /* APPEND: number of the heartbeat round; APPEND_REPLY: the same back */
    struct raft_facts facts;
    uint32_t count;
    struct raft_entry entries[RAFT_BATCH_MAX];
};

/* What a node can check by itself or when a message arrives. */
enum raft_check {
    RAFT_CHECK_ELECTION,     /* at most one leader per term */
    RAFT_CHECK_LOG_MATCHING, /* same index and term: same prefix */
    RAFT_CHECK_COMPLETENESS, /* a leader has every entry that was committed before */
    RAFT_CHECK_STATE,        /* same applied prefix at the same index on every node */
    RAFT_CHECK_COMMITTED,    /* a committed entry is never overwritten */
    RAFT_CHECK_MONOTONIC,    /* the commit index never goes back */
    RAFT_CHECK_COUNT,
};

const char *raft_check_name(enum raft_check check);

struct raft_verdict {
    uint32_t passes, fails;
    uint32_t a, b; /* of the last failure: the index or term, and the other node */
};

struct raft_ready_read {
    uint64_t token;
    uint32_t index; /* everything up to here is in the answer */
};

struct raft_out {
    bool persist_meta;    /* term and vote changed */
    uint32_t log_from;    /* entries from this index on changed, older ones after it are gone; 0: none */
    bool reads_failed;    /* leadership was lost: all waiting reads and writes must be told */
    bool role_changed;
    uint32_t message_count;
    struct raft_message messages[RAFT_OUT_MAX];
    uint32_t read_count;
    struct raft_ready_read reads[RAFT_READS_MAX];
    uint32_t edge_count;
    uint16_t edges[RAFT_EDGES_MAX];
};

struct raft_config {
    uint8_t node, nodes;
    enum raft_bug bug;
    uint32_t election_min_ms, election_max_ms, heartbeat_ms;
    uint32_t batch;    /* entries per message, at most RAFT_BATCH_MAX */
    uint32_t log_max;  /* entries; the buffers below hold one more */
    uint64_t seed;     /* of the election timeouts */
};

struct raft {
    struct raft_config config;
    /* durable */
    uint32_t term;
    uint8_t vote;
    uint32_t last;             /* index of the last entry; entries are 1..last, [0] is a sentinel */
    struct raft_entry *log;
    uint64_t *hashes;          /* [i]: over entries 1..i */
    /* volatile */
    enum raft_role role;
    uint8_t leader;            /* of this term, RAFT_NOBODY if not known */
    uint32_t commit, applied;
    uint64_t applied_hash;
    uint64_t deadline_ms;      /* election, or the next heartbeat of a leader */
    uint64_t random;
    uint32_t votes;            /* bit per node */
    uint32_t next[RAFT_NODES_MAX], match[RAFT_NODES_MAX], acked_round[RAFT_NODES_MAX];
    bool busy[RAFT_NODES_MAX]; /* entries were sent and not yet answered */
    uint32_t refused[RAFT_NODES_MAX]; /* the earliest place that a refusal sent us to since it last took entries; 0 none */
    uint32_t round;
    bool want_round;
    uint32_t read_waiting;
    struct { uint64_t token; uint32_t index, round; } reads[RAFT_READS_MAX];
    /* observation */
    struct { uint32_t term; uint8_t node; } leaders[RAFT_LEADERS_MAX];
    uint32_t lead_term;
    uint8_t lead_node;
    uint32_t acked, acked_term;
    uint32_t ahead;            /* a prefix that another node has applied and this one has not yet */
    uint64_t ahead_hash;
    struct raft_verdict verdicts[RAFT_CHECK_COUNT];
    struct raft_out out;
};

/*
 * Start a node, first time or from what it had made durable: `term`, `vote` (RAFT_NOBODY if none) and `last` entries in
 * `log`, which with `hashes` holds config.log_max + 1 elements and belongs to the node from now on.
 */
void raft_init(struct raft *raft, const struct raft_config *config, struct raft_entry *log, uint64_t *hashes,
               uint32_t term, uint8_t vote, uint32_t last, uint64_t now_ms);

/* Time has passed. Call at raft->deadline_ms, or at any other time. */
void raft_tick(struct raft *raft, uint64_t now_ms);

/* A message arrived. What is not from a member or not sound is ignored. */
void raft_receive(struct raft *raft, uint64_t now_ms, const struct raft_message *message);

/* Append a command; its index, or 0 if this node is not the leader or its log is full. */
uint32_t raft_propose(struct raft *raft, const struct raft_entry *command);

/* Ask for a linearizable read; it comes back in out.reads. False: not the leader, or not ready; try later. */
bool raft_read(struct raft *raft, uint64_t token);

/* Send what the inputs since the last call made worth sending. */
void raft_pump(struct raft *raft, uint64_t now_ms);

/* The next committed entry to apply and its index; NULL if there is none. */
const struct raft_entry *raft_next_apply(struct raft *raft, uint32_t *index);

void raft_clear_out(struct raft *raft);

/* A client of this node was told that its write at `index` is done, while the node was in `term`. */
void raft_acked(struct raft *raft, uint32_t index, uint32_t term);

uint64_t raft_hash(uint64_t previous, const struct raft_entry *entry);

#endif
