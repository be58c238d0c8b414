#include "raft_core.h"

#include <assert.h>
#include <string.h>

static const char *const bug_names[RAFT_BUG_COUNT] = {
    [RAFT_BUG_NONE] = "none",
    [RAFT_BUG_FIG8_COMMIT] = "fig8_commit",
    [RAFT_BUG_SKIP_TRUNCATE] = "skip_truncate",
    [RAFT_BUG_ACCEPT_STALE_TERM] = "accept_stale_term",
    [RAFT_BUG_LEADER_NO_STEPDOWN] = "leader_no_stepdown",
    [RAFT_BUG_DOUBLE_VOTE] = "double_vote",
    [RAFT_BUG_PREMATURE_COMMIT] = "premature_commit",
};

static const char *const check_names[RAFT_CHECK_COUNT] = {
    [RAFT_CHECK_ELECTION] = "raft: at most one leader per term",
    [RAFT_CHECK_LOG_MATCHING] = "raft: logs that agree on an entry agree on all before it",
    [RAFT_CHECK_COMPLETENESS] = "raft: a leader has every committed entry",
    [RAFT_CHECK_STATE] = "raft: nodes apply the same entries in the same order",
    [RAFT_CHECK_COMMITTED] = "raft: a committed entry is never overwritten",
    [RAFT_CHECK_MONOTONIC] = "raft: the commit index never goes back",
};

const char *raft_bug_name(enum raft_bug bug)
{
    return bug < RAFT_BUG_COUNT ? bug_names[bug] : "?";
}

enum raft_bug raft_bug_from_name(const char *name)
{
    int bug = 0;
    while (bug < RAFT_BUG_COUNT && strcmp(bug_names[bug], name) != 0)
        bug++;
    return (enum raft_bug)bug;
}

const char *raft_check_name(enum raft_check check)
{
    return check < RAFT_CHECK_COUNT ? check_names[check] : "?";
}

/* --- small helpers ------------------------------------------------------------------------------------------------ */

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014): mixes well and is short. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t raft_hash(uint64_t previous, const struct raft_entry *entry)
{
    uint64_t hash = mix(previous + 0x9e3779b97f4a7c15u);
    hash = mix(hash ^ ((uint64_t)entry->term << 32 | (uint32_t)entry->op << 16 | entry->key));
    hash = mix(hash ^ ((uint64_t)entry->client << 32 | entry->seq));
    hash = mix(hash ^ entry->value);
    return mix(hash ^ entry->expect);
}

static uint32_t majority(const struct raft *raft)
{
    return raft->config.nodes / 2u + 1;
}

static uint32_t term_at(const struct raft *raft, uint32_t index)
{
    return raft->log[index].term;
}

static void check(struct raft *raft, enum raft_check which, bool holds, uint32_t a, uint32_t b)
{
    struct raft_verdict *verdict = &raft->verdicts[which];
    if (holds) {
        verdict->passes++;
        return;
    }
    verdict->fails++;
    verdict->a = a;
    verdict->b = b;
}

/* What happened (message kind, own event), how it ended, in which role and how far apart the terms were. */
enum { EVENT_ROLE = 8, EVENT_COMMIT, EVENT_TIMEOUT, EVENT_PROPOSE, EVENT_READ };

static void cover(struct raft *raft, uint32_t event, uint32_t outcome, uint32_t their_term)
{
    uint32_t order = their_term < raft->term ? 0 : their_term == raft->term ? 1 : 2;
    assert(event < 16 && outcome < 16);
    if (raft->out.edge_count < RAFT_EDGES_MAX)
        raft->out.edges[raft->out.edge_count++] = (uint16_t)(((event * 16 + outcome) * 4 + raft->role) * 4 + order);
}

static void arm_election(struct raft *raft, uint64_t now_ms)
{
    uint32_t span = raft->config.election_max_ms - raft->config.election_min_ms + 1;
    raft->random += 0x9e3779b97f4a7c15u;
    raft->deadline_ms = now_ms + raft->config.election_min_ms + mix(raft->random) % span;
}

/* --- log ---------------------------------------------------------------------------------------------------------- */

static void log_changed(struct raft *raft, uint32_t from)
{
    if (raft->out.log_from == 0 || from < raft->out.log_from)
        raft->out.log_from = from;
}

static void log_append(struct raft *raft, const struct raft_entry *entry)
{
    assert(raft->last < raft->config.log_max);
    uint32_t index = ++raft->last;
    raft->log[index] = *entry;
    raft->hashes[index] = raft_hash(raft->hashes[index - 1], entry);
    log_changed(raft, index);
}

/* Drop every entry after `index`. */
static void log_truncate(struct raft *raft, uint32_t index)
{
    check(raft, RAFT_CHECK_COMMITTED, index >= raft->commit, index + 1, raft->commit);
    raft->last = index;
    log_changed(raft, index + 1);
}

static void commit_to(struct raft *raft, uint32_t index)
{
    check(raft, RAFT_CHECK_MONOTONIC, index >= raft->commit, index, raft->commit);
    if (index > raft->commit)
        raft->commit = index;
}

const struct raft_entry *raft_next_apply(struct raft *raft, uint32_t *index)
{
    /* A seeded bug may have cut the log below the commit index. */
    if (raft->applied >= raft->commit || raft->applied >= raft->last)
        return NULL;
    *index = ++raft->applied;
    const struct raft_entry *entry = &raft->log[*index];
    raft->applied_hash = raft_hash(raft->applied_hash, entry);
    if (*index == raft->ahead)
        check(raft, RAFT_CHECK_STATE, raft->applied_hash == raft->ahead_hash, *index, RAFT_NOBODY);
    return entry;
}

/* --- observation -------------------------------------------------------------------------------------------------- */

static void learn_leader(struct raft *raft, uint32_t term, uint8_t node)
{
    if (term == 0 || node >= raft->config.nodes)
        return;
    uint32_t slot = term % RAFT_LEADERS_MAX;
    if (raft->leaders[slot].term == term) {
        check(raft, RAFT_CHECK_ELECTION, raft->leaders[slot].node == node, term, node);
    } else if (raft->leaders[slot].term < term) {
        raft->leaders[slot].term = term;
        raft->leaders[slot].node = node;
    }
    if (term > raft->lead_term) {
        raft->lead_term = term;
        raft->lead_node = node;
    }
}

void raft_acked(struct raft *raft, uint32_t index, uint32_t term)
{
    if (index > raft->acked) {
        raft->acked = index;
        raft->acked_term = term;
    }
}

static void observe(struct raft *raft, const struct raft_message *message)
{
    const struct raft_facts *facts = &message->facts;
    learn_leader(raft, facts->lead_term, facts->lead_node);
    raft_acked(raft, facts->acked, facts->acked_term);
    if (facts->applied == 0)
        return;
    if (facts->applied > raft->applied) {
        if (raft->ahead <= raft->applied) {
            raft->ahead = facts->applied;
            raft->ahead_hash = facts->applied_hash;
        }
    } else if (facts->applied == raft->applied) {
        check(raft, RAFT_CHECK_STATE, facts->applied_hash == raft->applied_hash, facts->applied, message->from);
    } else if (facts->applied <= raft->last) {
        bool same = facts->applied_hash == raft->hashes[facts->applied];
        check(raft, RAFT_CHECK_STATE, same, facts->applied, message->from);
    }
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static struct raft_message *message_new(struct raft *raft, enum raft_kind kind, uint8_t to)
{
    if (raft->out.message_count == RAFT_OUT_MAX)
        return NULL;
    struct raft_message *message = &raft->out.messages[raft->out.message_count++];
    memset(message, 0, offsetof(struct raft_message, entries));
    message->kind = (uint8_t)kind;
    message->from = raft->config.node;
    message->to = to;
    message->term = raft->term;
    message->facts = (struct raft_facts){
        .lead_term = raft->lead_term,
        .lead_node = raft->lead_node,
        .applied = raft->applied,
        .applied_hash = raft->applied_hash,
        .acked = raft->acked,
        .acked_term = raft->acked_term,
    };
    return message;
}

static void send_append(struct raft *raft, uint8_t to, bool with_entries)
{
    struct raft_message *message = message_new(raft, RAFT_APPEND, to);
    if (message == NULL)
        return;
    uint32_t previous = raft->next[to] - 1;
    message->index = previous;
    message->index_term = term_at(raft, previous);
    message->index_hash = raft->hashes[previous];
    message->commit = raft->commit;
    message->last = raft->last;
    message->round = raft->round;
    uint32_t count = with_entries ? raft->last - previous : 0;
    message->count = count < raft->config.batch ? count : raft->config.batch;
    memcpy(message->entries, &raft->log[previous + 1], message->count * sizeof message->entries[0]);
    raft->busy[to] |= message->count > 0;
}

/* --- roles -------------------------------------------------------------------------------------------------------- */

static void set_role(struct raft *raft, enum raft_role role)
{
    if (raft->role == RAFT_LEADER && role != RAFT_LEADER) {
        raft->out.reads_failed = true;
        raft->read_waiting = 0;
        raft->out.read_count = 0;
    }
    cover(raft, EVENT_ROLE, role, raft->term);
    raft->out.role_changed |= raft->role != role;
    raft->role = role;
}

static void become_follower(struct raft *raft, uint64_t now_ms, uint32_t term, uint8_t leader)
{
    assert(term >= raft->term);
    if (term > raft->term) {
        raft->term = term;
        raft->vote = RAFT_NOBODY;
        raft->leader = RAFT_NOBODY;
        raft->out.persist_meta = true;
    }
    if (leader != RAFT_NOBODY && raft->leader != leader) {
        raft->leader = leader;
        raft->out.role_changed = true;
    }
    if (raft->role != RAFT_FOLLOWER) {
        set_role(raft, RAFT_FOLLOWER);
        arm_election(raft, now_ms);
    }
}

static void become_leader(struct raft *raft, uint64_t now_ms)
{
    set_role(raft, RAFT_LEADER);
    raft->leader = raft->config.node;
    learn_leader(raft, raft->term, raft->config.node);
    if (raft->acked_term < raft->term)
        check(raft, RAFT_CHECK_COMPLETENESS, raft->last >= raft->acked, raft->acked, raft->config.node);
    for (uint8_t node = 0; node < raft->config.nodes; node++) {
        raft->next[node] = raft->last + 1;
        raft->match[node] = 0;
        raft->acked_round[node] = raft->round;
        raft->busy[node] = false;
        raft->refused[node] = 0;
    }
    /* An entry of its own term is the only way for a leader to learn what is committed (section 8). */
    if (raft->last < raft->config.log_max)
        log_append(raft, &(struct raft_entry){.term = raft->term, .op = RAFT_OP_NOOP});
    raft->deadline_ms = now_ms;
    raft->want_round = true;
}

static void start_election(struct raft *raft, uint64_t now_ms)
{
    raft->term++;
    raft->vote = raft->config.node;
    raft->votes = 1u << raft->config.node;
    raft->leader = RAFT_NOBODY;
    raft->out.persist_meta = true;
    set_role(raft, RAFT_CANDIDATE);
    arm_election(raft, now_ms);
    if (majority(raft) == 1) {
        become_leader(raft, now_ms);
        return;
    }
    for (uint8_t node = 0; node < raft->config.nodes; node++) {
        struct raft_message *message =
            node == raft->config.node ? NULL : message_new(raft, RAFT_VOTE_REQUEST, node);
        if (message != NULL) {
            message->index = raft->last;
            message->index_term = term_at(raft, raft->last);
        }
    }
}

/* --- leader ------------------------------------------------------------------------------------------------------- */

/* The highest index that `replicas` nodes have. */
static uint32_t replicated_on(const struct raft *raft, uint32_t replicas)
{
    uint32_t best = 0;
    for (uint8_t node = 0; node < raft->config.nodes; node++) {
        uint32_t candidate = raft->match[node];
        uint32_t count = 0;
        for (uint8_t other = 0; other < raft->config.nodes; other++)
            count += raft->match[other] >= candidate;
        if (count >= replicas && candidate > best)
            best = candidate;
    }
    return best;
}

static void advance_commit(struct raft *raft)
{
    uint32_t replicas = majority(raft);
    if (raft->config.bug == RAFT_BUG_PREMATURE_COMMIT && replicas > 1)
        replicas--; /* SEEDED BUG premature_commit: one replica less than a majority is taken as enough */

    raft->match[raft->config.node] = raft->last;
    uint32_t index = replicated_on(raft, replicas);
    if (index <= raft->commit)
        return;
    bool own_term = term_at(raft, index) == raft->term;
    if (raft->config.bug == RAFT_BUG_FIG8_COMMIT)
        own_term = true; /* SEEDED BUG fig8_commit: replicas are counted for entries of older terms too */
    cover(raft, EVENT_COMMIT, own_term, term_at(raft, index));
    if (own_term)
        commit_to(raft, index);
}

static void release_reads(struct raft *raft)
{
    uint32_t confirmed[RAFT_NODES_MAX];
    memcpy(confirmed, raft->acked_round, sizeof confirmed);
    confirmed[raft->config.node] = raft->round;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < raft->read_waiting; i++) {
        uint32_t count = 0;
        for (uint8_t node = 0; node < raft->config.nodes; node++)
            count += confirmed[node] >= raft->reads[i].round;
        if (count >= majority(raft) && raft->out.read_count < RAFT_READS_MAX) {
            struct raft_ready_read ready = {raft->reads[i].token, raft->reads[i].index};
            raft->out.reads[raft->out.read_count++] = ready;
        } else {
            raft->reads[kept++] = raft->reads[i];
        }
    }
    raft->read_waiting = kept;
}

uint32_t raft_propose(struct raft *raft, const struct raft_entry *command)
{
    bool full = raft->last + 1 >= raft->config.log_max; /* the last place is for a new leader's own entry */
    cover(raft, EVENT_PROPOSE, full, raft->term);
    if (raft->role != RAFT_LEADER || full)
        return 0;
    struct raft_entry entry = *command;
    entry.term = raft->term;
    log_append(raft, &entry);
    advance_commit(raft);
    return raft->last;
}

bool raft_read(struct raft *raft, uint64_t token)
{
    bool ready = raft->role == RAFT_LEADER && term_at(raft, raft->commit) == raft->term;
    cover(raft, EVENT_READ, ready, raft->term);
    if (!ready || raft->read_waiting + raft->out.read_count >= RAFT_READS_MAX)
        return false;
    /* Only a round that starts after now proves that this node still leads: raft_pump() starts it. */
    raft->reads[raft->read_waiting].token = token;
    raft->reads[raft->read_waiting].index = raft->commit;
    raft->reads[raft->read_waiting].round = raft->round + 1;
    raft->read_waiting++;
    raft->want_round = true;
    return true;
}

void raft_pump(struct raft *raft, uint64_t now_ms)
{
    if (raft->role != RAFT_LEADER)
        return;
    advance_commit(raft);
    bool heartbeat = now_ms >= raft->deadline_ms;
    bool round = heartbeat || raft->want_round;
    if (round)
        raft->round++;
    raft->want_round = false;
    bool all_hear = true;
    for (uint8_t node = 0; node < raft->config.nodes; node++) {
        if (node == raft->config.node)
            continue;
        if (heartbeat)
            raft->busy[node] = false; /* no answer for so long: it may be lost */
        bool behind = raft->next[node] <= raft->last && !raft->busy[node];
        all_hear &= (round || behind) && !raft->busy[node];
        if (round || behind)
            send_append(raft, node, behind);
    }
    /* Any message to everyone is a heartbeat. Not where an answer is due: what was sent may have to be sent again. */
    if (heartbeat || all_hear)
        raft->deadline_ms = now_ms + raft->config.heartbeat_ms;
    release_reads(raft);
}

static void on_append_reply(struct raft *raft, const struct raft_message *message)
{
    uint8_t node = message->from;
    if (raft->role != RAFT_LEADER || message->term != raft->term) {
        cover(raft, RAFT_APPEND_REPLY, 0, message->term);
        return;
    }
    if (message->round > raft->acked_round[node] && message->round <= raft->round)
        raft->acked_round[node] = message->round;
    if (message->yes) {
        bool news = message->index > raft->match[node] && message->index <= raft->last;
        cover(raft, RAFT_APPEND_REPLY, 1 + news, message->term);
        if (news) {
            raft->match[node] = message->index;
            raft->refused[node] = 0;
            advance_commit(raft);
        }
        if (message->index >= raft->next[node] && message->index <= raft->last) {
            raft->next[node] = message->index + 1;
            raft->busy[node] = false;
        }
    } else if (message->last + 1 == raft->next[node] && message->index < raft->next[node]) {
        cover(raft, RAFT_APPEND_REPLY, 3, message->term);
        raft->next[node] = message->index > raft->match[node] ? message->index : raft->match[node] + 1;
        /* A refusal that leads nowhere new is not answered at once: the two would go on at the network's speed. */
        raft->busy[node] = raft->refused[node] != 0 && message->index >= raft->refused[node];
        if (!raft->busy[node])
            raft->refused[node] = message->index;
    } else {
        cover(raft, RAFT_APPEND_REPLY, 4, message->term); /* of an earlier try */
    }
    release_reads(raft);
}

/* --- follower ----------------------------------------------------------------------------------------------------- */

/* After a refusal: the first entry of the term that stands at `index`, or the end of the log, whichever is first. */
static uint32_t retry_at(const struct raft *raft, uint32_t index)
{
    if (index > raft->last)
        return raft->last + 1;
    uint32_t at = index;
    while (at > 1 && at > raft->commit + 1 && term_at(raft, at - 1) == term_at(raft, index))
        at--;
    return at > 0 ? at : 1;
}

/* Take in the entries after message->index. Returns false if the log is full. */
static bool take_entries(struct raft *raft, const struct raft_message *message)
{
    for (uint32_t i = 0; i < message->count; i++) {
        uint32_t index = message->index + 1 + i;
        if (index <= raft->last) {
            if (term_at(raft, index) == message->entries[i].term)
                continue;
            cover(raft, RAFT_APPEND, 4, message->term);
            if (raft->config.bug == RAFT_BUG_SKIP_TRUNCATE)
                continue; /* SEEDED BUG skip_truncate: what conflicts with the leader's log stays */
            log_truncate(raft, index - 1);
        }
        if (raft->last >= raft->config.log_max)
            return false;
        log_append(raft, &message->entries[i]);
    }
    return true;
}

static void on_append(struct raft *raft, uint64_t now_ms, const struct raft_message *message)
{
    bool stale = message->term < raft->term;
    if (raft->config.bug == RAFT_BUG_ACCEPT_STALE_TERM && raft->role != RAFT_LEADER)
        stale = false; /* SEEDED BUG accept_stale_term: the leader of an older term is obeyed */
    struct raft_message *reply = message_new(raft, RAFT_APPEND_REPLY, message->from);
    if (reply == NULL)
        return;
    reply->round = message->round;
    reply->last = message->index;
    if (stale) {
        cover(raft, RAFT_APPEND, 0, message->term);
        return;
    }
    reply->term = message->term;
    learn_leader(raft, message->term, message->from);
    if (raft->role == RAFT_LEADER)
        return; /* a second leader of the same term: already a finding; neither gives way */
    become_follower(raft, now_ms, raft->term, message->from);
    arm_election(raft, now_ms);
    if (message->term >= raft->term && raft->commit <= raft->last && term_at(raft, raft->commit) < message->term)
        check(raft, RAFT_CHECK_COMPLETENESS, message->last >= raft->commit, raft->commit, message->from);

    if (message->index > raft->last || term_at(raft, message->index) != message->index_term) {
        cover(raft, RAFT_APPEND, 1 + (message->index > raft->last), message->term);
        reply->index = retry_at(raft, message->index);
        return;
    }
    bool same = raft->hashes[message->index] == message->index_hash;
    check(raft, RAFT_CHECK_LOG_MATCHING, same, message->index, message->from);
    if (!take_entries(raft, message)) {
        reply->index = raft->last + 1;
        return;
    }
    uint32_t known = message->index + message->count;
    reply->yes = true;
    reply->index = known;
    uint32_t commit = message->commit < known ? message->commit : known;
    cover(raft, RAFT_APPEND, message->count == 0 ? 5 : commit > raft->commit ? 6 : 7, message->term);
    if (commit > raft->commit)
        commit_to(raft, commit);
}

static void on_vote_request(struct raft *raft, uint64_t now_ms, const struct raft_message *message)
{
    struct raft_message *reply = message_new(raft, RAFT_VOTE_REPLY, message->from);
    if (reply == NULL)
        return;
    uint32_t last_term = term_at(raft, raft->last);
    bool current = message->term >= raft->term;
    bool fresh = message->index_term > last_term || (message->index_term == last_term && message->index >= raft->last);
    bool free_to = raft->vote == RAFT_NOBODY || raft->vote == message->from;
    if (raft->config.bug == RAFT_BUG_DOUBLE_VOTE)
        free_to = true; /* SEEDED BUG double_vote: an earlier vote in this term is forgotten */
    reply->yes = current && fresh && free_to && raft->role != RAFT_LEADER;
    cover(raft, RAFT_VOTE_REQUEST, !current ? 0 : !fresh ? 1 : !free_to ? 2 : 3, message->term);
    if (!reply->yes)
        return;
    if (raft->vote != message->from) {
        raft->vote = message->from;
        raft->out.persist_meta = true;
    }
    arm_election(raft, now_ms);
}

static void on_vote_reply(struct raft *raft, uint64_t now_ms, const struct raft_message *message)
{
    bool counts = raft->role == RAFT_CANDIDATE && message->term == raft->term;
    cover(raft, RAFT_VOTE_REPLY, counts * 2u + (message->yes != 0), message->term);
    if (!counts || !message->yes)
        return;
    raft->votes |= 1u << message->from;
    if ((uint32_t)__builtin_popcount(raft->votes) >= majority(raft))
        become_leader(raft, now_ms);
}

static bool sound(const struct raft *raft, const struct raft_message *message)
{
    return message->from < raft->config.nodes && message->from != raft->config.node &&
           message->to == raft->config.node && message->count <= RAFT_BATCH_MAX && message->term > 0 &&
           message->index < UINT32_MAX - RAFT_BATCH_MAX;
}

void raft_receive(struct raft *raft, uint64_t now_ms, const struct raft_message *message)
{
    if (!sound(raft, message))
        return;
    observe(raft, message);
    if (message->term > raft->term) {
        if (raft->config.bug == RAFT_BUG_LEADER_NO_STEPDOWN && raft->role == RAFT_LEADER) {
            cover(raft, message->kind, 15, message->term);
            return; /* SEEDED BUG leader_no_stepdown: a leader stays one whatever it hears */
        }
        become_follower(raft, now_ms, message->term, RAFT_NOBODY);
    }
    switch (message->kind) {
    case RAFT_VOTE_REQUEST:
        on_vote_request(raft, now_ms, message);
        break;
    case RAFT_VOTE_REPLY:
        on_vote_reply(raft, now_ms, message);
        break;
    case RAFT_APPEND:
        on_append(raft, now_ms, message);
        break;
    case RAFT_APPEND_REPLY:
        on_append_reply(raft, message);
        break;
    default:
        break;
    }
}

/* --- start and time ----------------------------------------------------------------------------------------------- */

void raft_init(struct raft *raft, const struct raft_config *config, struct raft_entry *log, uint64_t *hashes,
               uint32_t term, uint8_t vote, uint32_t last, uint64_t now_ms)
{
    assert(config->nodes >= 1 && config->nodes <= RAFT_NODES_MAX && config->node < config->nodes);
    assert(config->batch >= 1 && config->batch <= RAFT_BATCH_MAX);
    assert(config->election_min_ms <= config->election_max_ms && last <= config->log_max);
    memset(raft, 0, offsetof(struct raft, out));
    raft_clear_out(raft);
    raft->config = *config;
    raft->term = term;
    raft->vote = vote;
    raft->last = last;
    raft->log = log;
    raft->hashes = hashes;
    raft->leader = RAFT_NOBODY;
    raft->lead_node = RAFT_NOBODY;
    raft->random = mix(config->seed ^ mix(config->node + 1u));
    log[0] = (struct raft_entry){0};
    hashes[0] = 0;
    for (uint32_t index = 1; index <= last; index++)
        hashes[index] = raft_hash(hashes[index - 1], &log[index]);
    arm_election(raft, now_ms);
}

void raft_tick(struct raft *raft, uint64_t now_ms)
{
    if (raft->role == RAFT_LEADER || now_ms < raft->deadline_ms)
        return; /* a leader's heartbeat is sent by raft_pump() */
    cover(raft, EVENT_TIMEOUT, raft->leader == RAFT_NOBODY, raft->term);
    start_election(raft, now_ms);
}

void raft_clear_out(struct raft *raft)
{
    raft->out.persist_meta = false;
    raft->out.log_from = 0;
    raft->out.reads_failed = false;
    raft->out.role_changed = false;
    raft->out.message_count = 0;
    raft->out.read_count = 0;
    raft->out.edge_count = 0;
}
