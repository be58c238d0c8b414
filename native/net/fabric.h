/*
 * fabric.h: the switched Ethernet between a cluster's machines.  Internal to native/.
 *
 * A fabric is one block of plain data of cc_fabric_size() bytes: copied into the cluster's snapshots and hashed into its
 * digest as it is.
 */
#ifndef CC_FABRIC_H
#define CC_FABRIC_H

#include "net.h"
#include "../chacha.h"

struct cc_link {
    cc_link_params params;
    cc_link_counters count;
    struct cc_stream random;
    uint64_t free_vns;         /* when what was queued has been put on the wire, with a bandwidth */
    uint64_t last_vns;         /* latest arrival so far, which later frames do not overtake */
};

/* Parameters that hold for frames sent at `at` and later; the frames of that tick have not been switched yet. */
struct cc_link_change {
    uint64_t at;
    uint64_t link;
    cc_link_params params;
};

struct cc_fabric {
    uint64_t quantum_ns, seed;
    uint32_t n;                /* machines */
    uint32_t changes, changes_max;
    uint32_t pad;
    cc_port_counters port[CC_CLUSTER_MACHINES_MAX];
    /* n * n links, by sender, then receiver; then changes_max changes in the order of their times */
    struct cc_link link[];
};

/* Told about every copy of a frame that was delivered or lost; fate: CC_TAP_*. */
typedef void cc_tap_fn(void *arg, const struct cc_frame *f, uint32_t dst, uint64_t arrival, uint32_t fate);

size_t cc_fabric_size(uint32_t n);
void cc_fabric_init(struct cc_fabric *f, uint32_t n, uint64_t quantum_ns, uint64_t seed);
/* Derive every link's stream anew. */
void cc_fabric_reseed(struct cc_fabric *f, uint64_t branch);
/* Switch the frames sent before `end`, all of which have been sent; none arrives before `arrive_min`. */
void cc_fabric_switch(struct cc_fabric *f, cc_machine *const *machines, uint64_t end, uint64_t arrive_min,
                      cc_tap_fn *tap, void *arg);
/* Tell what that would do, as things stand, and do nothing; scratch: of the same size, is overwritten. */
void cc_fabric_foresee(const struct cc_fabric *f, struct cc_fabric *scratch, cc_machine *const *machines, uint64_t end,
                       uint64_t arrive_min, cc_tap_fn *tap, void *arg);
/* From `at` on.  False if the list of changes is full: then the frames sent before must be switched first. */
bool cc_fabric_set(struct cc_fabric *f, uint32_t link, uint64_t at, const cc_link_params *p);
/* The parameters that hold for frames sent from now on. */
const cc_link_params *cc_fabric_get(const struct cc_fabric *f, uint32_t link);
/* NULL, or what is wrong with them. */
const char *cc_link_params_check(const cc_link_params *p);

#endif
