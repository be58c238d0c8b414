/*
 * schedules SCHEDULE BUG [-v]: one hand-written schedule per seeded bug. Each message is delivered or lost on purpose,
 * and no time passes but what the schedule says. Prints one line of JSON: what was found.
 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

static struct sim sim;

/* --- moves -------------------------------------------------------------------------------------------------------- */

/* Every message on its way from one node to another arrives, in order. */
static void deliver(uint8_t from, uint8_t to)
{
    for (;;) {
        uint32_t first = sim.flight_count;
        for (uint32_t i = 0; i < sim.flight_count; i++)
            if (sim.flights[i].message.from == from && sim.flights[i].message.to == to &&
                (first == sim.flight_count || sim.flights[i].order < sim.flights[first].order))
                first = i;
        if (first == sim.flight_count)
            return;
        struct raft_message message = sim.flights[first].message;
        sim.flights[first] = sim.flights[--sim.flight_count];
        raft_receive(&sim.nodes[to].raft, sim.now_ms, &message);
        sim_flush(&sim, to);
    }
}

/* Every message on its way from a node is lost. */
static void lose(uint8_t from)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < sim.flight_count; i++)
        if (sim.flights[i].message.from != from)
            sim.flights[kept++] = sim.flights[i];
    sim.flight_count = kept;
}

/* Both ways, until neither has anything to say. */
static void talk(uint8_t a, uint8_t b)
{
    for (int i = 0; i < 8; i++) {
        deliver(a, b);
        deliver(b, a);
    }
}

/* A node loses patience. */
static void elect(uint8_t node)
{
    if (sim.now_ms < sim.nodes[node].raft.deadline_ms)
        sim.now_ms = sim.nodes[node].raft.deadline_ms;
    raft_tick(&sim.nodes[node].raft, sim.now_ms);
    sim_flush(&sim, node);
}

/* A leader's heartbeat is due. */
static void beat(uint8_t node)
{
    sim.now_ms += 40;
    sim_flush(&sim, node);
}

static void write_on(uint8_t node)
{
    sim_write(&sim, node);
    sim_flush(&sim, node);
}

/* Node 0 leads term 1; its first entry is on every node and committed. */
static void common_start(void)
{
    elect(0);
    talk(0, 1);
    talk(0, 2);
    beat(0);
    talk(0, 1);
    talk(0, 2);
}

/* --- schedules ---------------------------------------------------------------------------------------------------- */

/* Figure 8 of the paper with three nodes: entries of term 1 reach a majority only in term 3, and are then overwritten. */
static void fig8_commit(void)
{
    common_start();
    for (int i = 0; i < 8; i++) /* as many as one message carries: the new leader's own entry does not fit in */
        write_on(0);
    lose(0);
    elect(2); /* leads term 2 by the vote of node 1; its entry goes nowhere */
    deliver(2, 1);
    deliver(1, 2);
    lose(2);
    beat(0);
    talk(0, 1); /* node 0 hears of term 2 */
    lose(0);
    elect(0); /* term 3 */
    deliver(0, 1);
    deliver(1, 0); /* leads */
    deliver(0, 1); /* does not fit: too far ahead */
    deliver(1, 0);
    deliver(0, 1); /* the eight entries */
    deliver(1, 0); /* counted */
    lose(0);
    beat(2);
    talk(2, 1); /* node 2 hears of term 3 */
    elect(2);   /* term 4: its last entry is newer than those of node 1 */
    talk(2, 1);
    write_on(2);
    talk(2, 1);
    beat(2);
    talk(2, 1);
    beat(2);
    talk(2, 0);
}

/* Node 0 holds an entry that nobody else has; the others go on without it, and it comes back. */
static void skip_truncate(void)
{
    common_start();
    write_on(0);
    lose(0);
    elect(1);
    talk(1, 2);
    write_on(1);
    talk(1, 2);
    beat(1);
    talk(1, 2);
    talk(1, 0);
    beat(1);
    talk(1, 0);
}

/* Node 0 does not know that node 1 leads by now, and still talks to node 2. */
static void accept_stale_term(void)
{
    common_start();
    elect(1);
    talk(1, 2);
    write_on(1);
    talk(1, 2);
    beat(1);
    talk(1, 2);
    lose(1);
    write_on(0);
    talk(0, 2);
}

/* Node 0 is cut off, node 1 takes over, and the cut is healed. Time passes as it does. */
static void leader_no_stepdown(void)
{
    common_start();
    sim.cut[0][1] = sim.cut[1][0] = sim.cut[0][2] = sim.cut[2][0] = true;
    sim_step_ms(&sim, 1500, true);
    memset(sim.cut, 0, sizeof sim.cut);
    uint32_t before[SIM_NODES_MAX];
    for (uint8_t node = 0; node < 3; node++)
        before[node] = sim.nodes[node].raft.commit;
    for (int i = 0; i < 1500; i++) {
        for (uint8_t node = 0; node < 3; node++)
            if (i % 20 == 0)
                sim_write(&sim, node);
        sim_step_ms(&sim, 1, true);
    }
    sim_check_settled(&sim, before);
}

/* Nodes 0 and 1 ask node 2 for its vote in the same term. */
static void double_vote(void)
{
    elect(0);
    elect(1);
    deliver(0, 2);
    deliver(1, 2);
    deliver(2, 0);
    deliver(2, 1);
    write_on(0);
    write_on(1);
}

/* Node 0 tells a client that its write is done although no other node has it. */
static void premature_commit(void)
{
    common_start();
    lose(0);
    write_on(0);
    lose(0);
    elect(1);
    talk(1, 2);
    beat(1);
    talk(1, 2);
    sim_read(&sim, 1);
    sim_flush(&sim, 1);
    talk(1, 2);
    write_on(1);
    talk(1, 2);
    beat(1);
    talk(1, 0);
}

static const struct {
    const char *name;
    void (*run)(void);
} schedules[] = {
    {"fig8_commit", fig8_commit},
    {"skip_truncate", skip_truncate},
    {"accept_stale_term", accept_stale_term},
    {"leader_no_stepdown", leader_no_stepdown},
    {"double_vote", double_vote},
    {"premature_commit", premature_commit},
};

int main(int argc, char **argv)
{
    enum raft_bug bug = argc >= 3 ? raft_bug_from_name(argv[2]) : RAFT_BUG_COUNT;
    size_t which = 0;
    while (which < 6 && (argc < 2 || strcmp(schedules[which].name, argv[1]) != 0))
        which++;
    if (bug == RAFT_BUG_COUNT || which == 6) {
        fprintf(stderr, "usage: schedules SCHEDULE BUG [-v]\n");
        return 2;
    }
    struct sim_options options = {.seed = 1, .bug = bug, .nodes = 3, .verbose = argc > 3};
    sim_init(&sim, &options);
    schedules[which].run();
    printf("{\"schedule\": \"%s\", \"bug\": \"%s\", \"violated\": %s", argv[1], argv[2],
           sim_violated(&sim) ? "true" : "false");
    for (int i = 0; i < SIM_FINDINGS; i++)
        printf(", \"%s\": %u", sim_finding_names[i], sim.found[i]);
    for (int i = 0; i < RAFT_CHECK_COUNT; i++)
        printf(", \"%s\": %u", raft_check_name((enum raft_check)i), sim.self_found[i]);
    uint32_t commit = 0;
    for (uint8_t node = 0; node < 3; node++)
        commit = sim.nodes[node].raft.commit > commit ? sim.nodes[node].raft.commit : commit;
    printf(", \"acks\": %llu, \"reads\": %llu, \"commit\": %u}\n", (unsigned long long)sim.acks,
           (unsigned long long)sim.reads, commit);
    return 0;
}
