/*
 * random_schedules BUG RUNS FIRST_SEED MODE [-v] [-x]: runs of the simulated cluster under random faults.
 * MODE is "partition" (partitions, slow nodes, crashes) or "drop" (5 % loss only). -v tells what happens; -x ends with the first run that fails. Prints one line of JSON.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

static struct sim sim;

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: random_schedules BUG RUNS FIRST_SEED partition|drop [-v] [-x]\n");
        return 2;
    }
    enum raft_bug bug = raft_bug_from_name(argv[1]);
    if (bug == RAFT_BUG_COUNT) {
        fprintf(stderr, "random_schedules: no bug is called %s\n", argv[1]);
        return 2;
    }
    bool verbose = false, stop = false;
    for (int i = 5; i < argc; i++) {
        verbose |= strcmp(argv[i], "-v") == 0;
        stop |= strcmp(argv[i], "-x") == 0;
    }
    long runs = atol(argv[2]);
    uint64_t first = strtoull(argv[3], NULL, 10);
    bool partition = strcmp(argv[4], "partition") == 0;
    long failed = 0, unsafe = 0, first_failed = 0, self_found = 0;
    long by_finding[SIM_FINDINGS] = {0}, by_check[RAFT_CHECK_COUNT] = {0};
    unsigned long long acks = 0, reads = 0;
    for (long run = 1; run <= runs && !(stop && failed > 0); run++) {
        struct sim_options options = {
            .seed = first + (uint64_t)run,
            .bug = bug,
            .nodes = 3,
            .chaos_ms = 6000,
            .settle_ms = 2000,
            .drop_ppm = partition ? 5000 : 50000,
            .duplicate_ppm = partition ? 2000 : 0,
            .partitions = partition,
            .crashes = partition,
            .slow_nodes = partition,
            .verbose = verbose,
        };
        sim_init(&sim, &options);
        sim_run(&sim);
        acks += sim.acks;
        reads += sim.reads;
        unsafe += sim_safety_violated(&sim);
        if (sim_violated(&sim) && failed++ == 0)
            first_failed = run;
        bool self = false;
        for (int i = 0; i < SIM_FINDINGS; i++)
            by_finding[i] += sim.found[i] > 0;
        for (int i = 0; i < RAFT_CHECK_COUNT; i++) {
            by_check[i] += sim.self_found[i] > 0;
            self |= sim.self_found[i] > 0;
        }
        self_found += self;
    }
    printf("{\"bug\": \"%s\", \"runs\": %ld, \"failed\": %ld, \"unsafe\": %ld, \"first\": %ld, \"by_nodes\": %ld, "
           "\"acks\": %llu, \"reads\": %llu",
           argv[1], runs, failed, unsafe, first_failed, self_found, acks, reads);
    for (int i = 0; i < SIM_FINDINGS; i++)
        printf(", \"%s\": %ld", sim_finding_names[i], by_finding[i]);
    for (int i = 0; i < RAFT_CHECK_COUNT; i++)
        printf(", \"%s\": %ld", raft_check_name((enum raft_check)i), by_check[i]);
    printf("}\n");
    return 0;
}
