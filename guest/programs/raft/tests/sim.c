#include "sim.h"

#include <stdio.h>
#include <string.h>

const char *const sim_finding_names[SIM_FINDINGS] = {
    "election safety", "log matching",   "leader completeness", "state machine safety",
    "stale read",      "lost write",     "two leaders",         "stuck",
};

static uint64_t draw(struct sim *sim)
{
    uint64_t x = sim->random += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint32_t below(struct sim *sim, uint32_t limit)
{
    return (uint32_t)(draw(sim) % limit);
}

static bool chance(struct sim *sim, uint32_t ppm)
{
    return below(sim, 1000000) < ppm;
}

static void found(struct sim *sim, enum sim_finding finding, uint32_t a, uint32_t b)
{
    if (sim->found[finding]++ == 0) {
        sim->first_ms[finding] = sim->now_ms;
        if (sim->options.verbose)
            printf("%6llu ms: %s (%u, %u)\n", (unsigned long long)sim->now_ms, sim_finding_names[finding], a, b);
    }
}

/* --- the checker -------------------------------------------------------------------------------------------------- */

static void check_leader(struct sim *sim, uint8_t id)
{
    struct raft *raft = &sim->nodes[id].raft;
    if (raft->role != RAFT_LEADER || raft->term >= 65536)
        return;
    if (!sim->leaders[raft->term].known) {
        sim->leaders[raft->term].known = true;
        sim->leaders[raft->term].node = id;
        if (sim->options.verbose)
            printf("%6llu ms: node %u leads term %u, log %u, commit %u\n", (unsigned long long)sim->now_ms, id,
                   raft->term, raft->last, raft->commit);
        if (sim->committed_last > 0 && sim->committed_term < raft->term) {
            uint32_t index = sim->committed_last;
            bool has = raft->last >= index && raft->hashes[index] == sim->committed[index].hash;
            if (!has)
                found(sim, SIM_COMPLETENESS, id, index);
        }
    } else if (sim->leaders[raft->term].node != id) {
        found(sim, SIM_ELECTION, raft->term, id);
    }
}

static void check_logs(struct sim *sim, uint8_t id)
{
    const struct raft *a = &sim->nodes[id].raft;
    for (uint8_t other = 0; other < sim->options.nodes; other++) {
        const struct raft *b = &sim->nodes[other].raft;
        for (uint32_t index = a->last < b->last ? a->last : b->last; index > 0 && other != id; index--) {
            if (a->log[index].term != b->log[index].term)
                continue;
            if (a->hashes[index] != b->hashes[index])
                found(sim, SIM_LOG_MATCHING, index, other);
            break;
        }
    }
}

static void applied(struct sim *sim, uint8_t id, uint32_t index, const struct raft_entry *entry)
{
    struct sim_node *node = &sim->nodes[id];
    struct kv_result result = kv_apply(&node->kv, index, entry);
    if (!sim->committed[index].known) {
        sim->committed[index].known = true;
        sim->committed[index].hash = node->raft.applied_hash;
        sim->committed[index].term = entry->term;
    } else if (sim->committed[index].hash != node->raft.applied_hash) {
        found(sim, SIM_STATE, id, index);
    }
    if (index > sim->committed_last) {
        sim->committed_last = index;
        sim->committed_term = node->raft.term;
    }
    /* The client is told by the leader that took the command. */
    if (node->raft.role != RAFT_LEADER)
        return;
    for (uint32_t i = 0; i < SIM_WRITES; i++) {
        if (!sim->writes[i].used || sim->writes[i].index != index || sim->writes[i].term != entry->term)
            continue;
        sim->writes[i].used = false;
        sim->acks++;
        if (result.index <= sim->writes[i].acked_before)
            found(sim, SIM_LOST_WRITE, result.index, sim->writes[i].acked_before);
        if (index > sim->acked)
            sim->acked = index;
        raft_acked(&node->raft, index, node->raft.term);
    }
}

/* --- nodes -------------------------------------------------------------------------------------------------------- */

void sim_boot(struct sim *sim, uint8_t id)
{
    struct sim_node *node = &sim->nodes[id];
    struct raft_config config = {
        .node = id,
        .nodes = sim->options.nodes,
        .bug = sim->options.bug,
        .election_min_ms = 150,
        .election_max_ms = 300,
        .heartbeat_ms = 40,
        .batch = 8,
        .log_max = SIM_LOG_MAX,
        .seed = draw(sim),
    };
    memcpy(node->log, node->disk, (node->disk_last + 1) * sizeof node->log[0]);
    kv_init(&node->kv);
    raft_init(&node->raft, &config, node->log, node->hashes, node->disk_term, node->disk_vote, node->disk_last,
              sim->now_ms);
    node->up = true;
    node->commit_seen = 0;
}

void sim_init(struct sim *sim, const struct sim_options *options)
{
    memset(sim, 0, sizeof *sim);
    sim->options = *options;
    sim->random = options->seed * 0x9e3779b97f4a7c15u;
    for (uint8_t id = 0; id < options->nodes; id++) {
        sim->nodes[id].disk_vote = RAFT_NOBODY;
        sim_boot(sim, id);
    }
}

void sim_crash(struct sim *sim, uint8_t id)
{
    struct sim_node *node = &sim->nodes[id];
    node->up = false;
    node->raft.role = RAFT_FOLLOWER;
    raft_clear_out(&node->raft);
    /* Its log as others may find it again is what the disk has. */
    memcpy(node->log, node->disk, (node->disk_last + 1) * sizeof node->log[0]);
    node->raft.last = node->disk_last;
    for (uint32_t index = 1; index <= node->disk_last; index++)
        node->hashes[index] = raft_hash(node->hashes[index - 1], &node->log[index]);
    if (sim->options.verbose)
        printf("%6llu ms: node %u crashes\n", (unsigned long long)sim->now_ms, id);
}

static void send_out(struct sim *sim, const struct raft_message *message)
{
    uint32_t copies = chance(sim, sim->options.duplicate_ppm) ? 2 : 1;
    for (uint32_t i = 0; i < copies; i++) {
        if (sim->cut[message->from][message->to] || chance(sim, sim->options.drop_ppm) ||
            sim->flight_count == SIM_FLIGHT_MAX)
            continue;
        struct sim_flight *flight = &sim->flights[sim->flight_count++];
        flight->at_ms = sim->now_ms + 1 + below(sim, 5) + sim->slow_ms[message->from];
        flight->order = sim->order++;
        flight->message = *message;
    }
}

/* The caller's duty that raft_core.h describes: durable first, then sent, applied and answered. */
void sim_flush(struct sim *sim, uint8_t id)
{
    struct sim_node *node = &sim->nodes[id];
    struct raft *raft = &node->raft;
    raft_pump(raft, sim->now_ms);
    struct raft_out *out = &raft->out;
    if (out->persist_meta) {
        node->disk_term = raft->term;
        node->disk_vote = raft->vote;
    }
    if (out->log_from != 0) {
        if (raft->last >= out->log_from)
            memcpy(&node->disk[out->log_from], &raft->log[out->log_from],
                   (raft->last - out->log_from + 1) * sizeof raft->log[0]);
        node->disk_last = raft->last;
        check_logs(sim, id);
    }
    check_leader(sim, id);
    for (uint32_t i = 0; i < out->message_count; i++)
        send_out(sim, &out->messages[i]);
    uint32_t index;
    const struct raft_entry *entry;
    while ((entry = raft_next_apply(raft, &index)) != NULL)
        applied(sim, id, index, entry);
    for (uint32_t i = 0; i < out->read_count; i++) {
        sim->reads++;
        if (out->reads[i].index < sim->read_floor[out->reads[i].token % 65536])
            found(sim, SIM_STALE_READ, out->reads[i].index, sim->read_floor[out->reads[i].token % 65536]);
    }
    sim->edges += out->edge_count;
    for (uint32_t i = 0; i < RAFT_CHECK_COUNT; i++)
        if (raft->verdicts[i].fails > 0) {
            if (sim->self_found[i]++ == 0 && sim->options.verbose)
                printf("%6llu ms: node %u says: not so: %s (%u, %u)\n", (unsigned long long)sim->now_ms, id,
                       raft_check_name((enum raft_check)i), raft->verdicts[i].a, raft->verdicts[i].b);
            raft->verdicts[i].fails = 0;
        }
    raft_clear_out(raft);
}

bool sim_write(struct sim *sim, uint8_t id)
{
    struct sim_node *node = &sim->nodes[id];
    struct raft_entry command = {
        .op = below(sim, 4) == 0 ? RAFT_OP_CAS : RAFT_OP_PUT,
        .key = (uint16_t)below(sim, KV_KEYS),
        .client = kv_client(id, 1),
        .seq = ++sim->seq,
        .value = sim->seq,
        .expect = below(sim, 2),
    };
    /* A session is of one client that waits for its answer; here many are on their way, so each has its own. */
    command.client = sim->seq << 8 | id;
    command.seq = 1;
    uint32_t index = node->up ? raft_propose(&node->raft, &command) : 0;
    if (index == 0)
        return false;
    uint32_t slot = sim->seq % SIM_WRITES;
    sim->writes[slot].used = true;
    sim->writes[slot].index = index;
    sim->writes[slot].term = node->raft.term;
    sim->writes[slot].acked_before = sim->acked;
    return true;
}

bool sim_read(struct sim *sim, uint8_t id)
{
    uint64_t token = ++sim->seq;
    sim->read_floor[token % 65536] = sim->acked;
    return sim->nodes[id].up && raft_read(&sim->nodes[id].raft, token);
}

uint32_t sim_leader_count(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint8_t id = 0; id < sim->options.nodes; id++)
        count += sim->nodes[id].up && sim->nodes[id].raft.role == RAFT_LEADER;
    return count;
}

/* --- time --------------------------------------------------------------------------------------------------------- */

static void deliver_due(struct sim *sim)
{
    uint32_t kept = 0;
    uint32_t count = sim->flight_count;
    for (uint32_t i = 0; i < count; i++) {
        struct sim_flight *flight = &sim->flights[i];
        if (flight->at_ms > sim->now_ms)
            continue;
        uint8_t to = flight->message.to;
        flight->at_ms = 0; /* done */
        if (!sim->nodes[to].up || sim->cut[flight->message.from][to])
            continue;
        raft_receive(&sim->nodes[to].raft, sim->now_ms, &flight->message);
        if (below(sim, 4) != 0) /* sometimes several messages share one flush */
            sim_flush(sim, to);
    }
    for (uint32_t i = 0; i < sim->flight_count; i++)
        if (sim->flights[i].at_ms != 0)
            sim->flights[kept++] = sim->flights[i];
    sim->flight_count = kept;
}

void sim_step_ms(struct sim *sim, uint32_t ms, bool deliver)
{
    for (uint32_t i = 0; i < ms; i++) {
        sim->now_ms++;
        if (deliver)
            deliver_due(sim);
        for (uint8_t id = 0; id < sim->options.nodes; id++)
            if (sim->nodes[id].up) {
                raft_tick(&sim->nodes[id].raft, sim->now_ms);
                sim_flush(sim, id);
            }
    }
}

static void change_partition(struct sim *sim)
{
    memset(sim->cut, 0, sizeof sim->cut);
    memset(sim->slow_ms, 0, sizeof sim->slow_ms);
    uint8_t nodes = sim->options.nodes;
    uint32_t kind = below(sim, 4);
    if (sim->options.partitions && kind >= 1) {
        uint8_t lonely = (uint8_t)below(sim, nodes);
        for (uint8_t other = 0; other < nodes; other++) {
            if (other == lonely)
                continue;
            bool one_way = kind == 3;
            sim->cut[lonely][other] = true;
            sim->cut[other][lonely] = !one_way;
        }
        if (kind == 2) /* one link only: the third node still reaches both */
            for (uint8_t other = 0; other < nodes; other++)
                if (other != (lonely + 1) % nodes)
                    sim->cut[lonely][other] = sim->cut[other][lonely] = false;
    }
    if (sim->options.slow_nodes && below(sim, 2) == 0)
        sim->slow_ms[below(sim, nodes)] = 20 + below(sim, 400);
}

static void chaos_ms(struct sim *sim)
{
    uint8_t nodes = sim->options.nodes;
    if (sim->now_ms % 40 == 0 && below(sim, 12) == 0)
        change_partition(sim);
    if (sim->options.crashes && below(sim, 1200) == 0) {
        uint8_t id = (uint8_t)below(sim, nodes);
        if (sim->nodes[id].up)
            sim_crash(sim, id);
    }
    for (uint8_t id = 0; id < nodes; id++)
        if (!sim->nodes[id].up && below(sim, 150) == 0)
            sim_boot(sim, id);
}

static void clients_ms(struct sim *sim)
{
    for (uint8_t id = 0; id < sim->options.nodes; id++) {
        if (!sim->nodes[id].up || sim->nodes[id].raft.role != RAFT_LEADER)
            continue;
        if (below(sim, 12) == 0)
            sim_write(sim, id);
        if (below(sim, 24) == 0)
            sim_read(sim, id);
    }
}

void sim_check_settled(struct sim *sim, const uint32_t *commit_before)
{
    if (sim_leader_count(sim) != 1)
        found(sim, SIM_TWO_LEADERS, sim_leader_count(sim), 0);
    uint32_t highest = 0;
    for (uint8_t id = 0; id < sim->options.nodes; id++)
        if (sim->nodes[id].raft.commit > highest)
            highest = sim->nodes[id].raft.commit;
    for (uint8_t id = 0; id < sim->options.nodes; id++) {
        uint32_t commit = sim->nodes[id].raft.commit;
        if (commit <= commit_before[id] || commit + 50 < highest)
            found(sim, SIM_STUCK, id, commit);
    }
}

void sim_run(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->options.chaos_ms; i++) {
        chaos_ms(sim);
        clients_ms(sim);
        sim_step_ms(sim, 1, true);
    }
    memset(sim->cut, 0, sizeof sim->cut);
    memset(sim->slow_ms, 0, sizeof sim->slow_ms);
    sim->options.drop_ppm = 0;
    sim->options.duplicate_ppm = 0;
    uint32_t commit_before[SIM_NODES_MAX];
    for (uint8_t id = 0; id < sim->options.nodes; id++) {
        if (!sim->nodes[id].up)
            sim_boot(sim, id);
        commit_before[id] = sim->nodes[id].raft.commit;
    }
    for (uint32_t i = 0; i < sim->options.settle_ms; i++) {
        clients_ms(sim);
        sim_step_ms(sim, 1, true);
    }
    if (sim->options.settle_ms > 0)
        sim_check_settled(sim, commit_before);
}

bool sim_safety_violated(const struct sim *sim)
{
    for (int i = 0; i < SIM_TWO_LEADERS; i++)
        if (sim->found[i] > 0)
            return true;
    for (int i = 0; i < RAFT_CHECK_COUNT; i++)
        if (sim->self_found[i] > 0)
            return true;
    return false;
}

bool sim_violated(const struct sim *sim)
{
    return sim_safety_violated(sim) || sim->found[SIM_TWO_LEADERS] > 0 || sim->found[SIM_STUCK] > 0;
}
