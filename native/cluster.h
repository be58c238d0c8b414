/*
 * cluster.h: a cluster, as its own parts see it.  Internal to native/.
 *
 * cluster.c runs it and owns the order of things, net/capture.c keeps what became of frames, net/flight.c is about those
 * on their way.
 */
#ifndef CC_CLUSTER_H
#define CC_CLUSTER_H

#include "net/fabric.h"

#include <pthread.h>

#define CC_CLUSTER_THREADS_MAX 256u
#define CC_CLUSTER_VNS_MAX (UINT64_C(1) << 62)

struct cc_node {
    cc_machine *m;
    uint64_t wake;             /* nothing happens in it before; 0: unknown */
    uint64_t last_insns;       /* that it ran when it ran last */
    cc_stop stop;              /* why it stopped last */
    cc_stop hit;               /* the first event asked for; kind CC_STOP_NONE: none */
    int rc;
    bool cancelled;
};

struct cc_job {
    uint64_t vns, instret;
    uint32_t stop_at;
    bool exact;                /* end at the first event */
};

struct cc_pool {
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    pthread_t thread[CC_CLUSTER_THREADS_MAX];
    uint32_t threads;          /* started */
    struct cc_job job;
    uint32_t next, count;      /* of due[] */
    uint32_t busy;
    bool quit;
};

/* Records that nobody has taken. */
struct cc_capture {
    uint8_t *data;
    size_t size, cap, max;     /* max 0: off */
    uint64_t lost;
};

struct cc_cluster {
    uint32_t n, threads;
    uint64_t vns, quantum;
    uint32_t cancel;           /* written by other threads: __atomic_* only */
    struct cc_fabric *fabric;
    struct cc_node *node;
    cc_machine **machines;
    uint32_t *due;             /* nodes to run in this tick */
    struct cc_pool pool;
    struct cc_capture capture;
    char error[512];
};

/* Keep the message for cc_cluster_error(); returns the code. */
__attribute__((format(printf, 3, 4)))
int cc_cluster_fail(cc_cluster *c, int code, const char *fmt, ...);
/* CC_OK if there is a link from src to dst. */
int cc_cluster_check_link(cc_cluster *c, uint32_t src, uint32_t dst);
uint64_t cc_cluster_tick_end(const cc_cluster *c);
/* Switch the frames sent before `end`, all of which have been sent; none arrives before `arrive_min`. */
void cc_cluster_switch(cc_cluster *c, uint64_t end, uint64_t arrive_min);

/* net/capture.c, a cc_tap_fn: arg is the cluster, and its time when it was decided. */
void cc_capture_frame(void *arg, const struct cc_frame *f, uint32_t dst, uint64_t arrival, uint32_t fate);

#endif
