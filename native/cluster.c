/*
 * cluster.c: machines that advance together in ticks, on any number of threads, with the network between them.
 *
 * In a tick every machine runs to the same virtual time, and none can notice another: frames are switched at the end of
 * the tick in which they were sent and arrive in a later one.  So the order in which machines run, and on which threads,
 * has no effect.  A machine that is halted is not run before its next event; its virtual time is brought up when the
 * call ends.  When all are halted, the ticks until the first event are skipped: nothing is sent in them.
 */
#include "cluster.h"
#include "pages.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define QUANTUM_NS_MIN UINT64_C(1000)
#define QUANTUM_NS_MAX UINT64_C(1000000000000)
/* A call returns about ten times a second, for the caller to look around.  No effect on the guests. */
#define CALL_INSNS (UINT64_C(1) << 24)
#define CALL_TICKS 50000u
/* Waking a thread costs some 10 us; a machine with less to do in a tick is not worth it. */
#define SHARE_INSNS 20000u

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int cc_cluster_fail(cc_cluster *c, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->error, sizeof c->error, fmt, ap);
    va_end(ap);
    return code;
}

const char *cc_cluster_error(const cc_cluster *c)
{
    return c->error;
}

/* ---- one machine in one tick ----------------------------------------------------------------------------------------- */
static bool is_final(int32_t kind)
{
    return kind == CC_STOP_SHUTDOWN || kind == CC_STOP_TRIPLE_FAULT || kind == CC_STOP_RESET
           || kind == CC_STOP_POWER_OFF;
}

static void node_run(cc_cluster *c, struct cc_node *nd, const struct cc_job *job)
{
    cc_machine *m = nd->m;
    const uint64_t before = m->instret;
    const cc_until until = {.instret = job->instret, .vns = job->vns, .exits = CC_NEVER,
                            .stop_at = job->stop_at & ~(uint32_t)CC_AT_END};
    for (;;) {
        nd->rc = cc_run(m, &until, &nd->stop);
        const int32_t kind = nd->stop.kind;
        if (nd->rc || kind == CC_STOP_VNS)
            break;
        if (kind == CC_STOP_CANCELLED) {
            nd->cancelled = __atomic_load_n(&c->cancel, __ATOMIC_ACQUIRE) != 0;
            if (nd->cancelled)
                break;
            continue;          /* an old one, or KVM letting go of a guest that does not exit */
        }
        const bool final = is_final(kind);
        if (nd->hit.kind == CC_STOP_NONE && (!final || (job->stop_at & CC_AT_END)))
            nd->hit = nd->stop;
        if (final || job->exact)
            break;
    }
    nd->last_insns = m->instret - before;
    nd->wake = cc_quiet_until(m);
}

/* ---- threads ----------------------------------------------------------------------------------------------------------- */
/* Take machines until none is left; called and returns with the lock held. */
static void work_off(cc_cluster *c)
{
    struct cc_pool *p = &c->pool;
    p->busy++;
    while (p->next < p->count) {
        struct cc_node *nd = &c->node[c->due[p->next++]];
        const struct cc_job job = p->job;
        pthread_mutex_unlock(&p->lock);
        node_run(c, nd, &job);
        pthread_mutex_lock(&p->lock);
    }
    if (--p->busy == 0)
        pthread_cond_broadcast(&p->done);
}

static void *worker(void *arg)
{
    cc_cluster *c = arg;
    struct cc_pool *p = &c->pool;
    pthread_mutex_lock(&p->lock);
    while (!p->quit) {
        if (p->next < p->count)
            work_off(c);
        else
            pthread_cond_wait(&p->work, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static bool pays(const cc_cluster *c, uint32_t count)
{
    uint32_t busy = 0;
    for (uint32_t i = 0; i < count && busy < 2; i++)
        busy += c->node[c->due[i]].last_insns >= SHARE_INSNS;
    return busy > 1;
}

/* Run the nodes of due[].  With fewer threads than asked for, if the host refuses them, it takes longer. */
static void run_due(cc_cluster *c, uint32_t count, const struct cc_job *job)
{
    struct cc_pool *p = &c->pool;
    if (c->threads == 1 || count < 2 || !pays(c, count)) {
        for (uint32_t i = 0; i < count; i++)
            node_run(c, &c->node[c->due[i]], job);
        return;
    }
    pthread_mutex_lock(&p->lock);
    while (p->threads < c->threads - 1 && !pthread_create(&p->thread[p->threads], NULL, worker, c))
        p->threads++;
    p->job = *job;
    p->next = 0;
    p->count = count;
    if (count == 2)
        pthread_cond_signal(&p->work);
    else
        pthread_cond_broadcast(&p->work);
    work_off(c);
    while (p->busy)
        pthread_cond_wait(&p->done, &p->lock);
    p->count = 0;
    pthread_mutex_unlock(&p->lock);
}

/* ---- ticks ------------------------------------------------------------------------------------------------------------- */
void cc_cluster_switch(cc_cluster *c, uint64_t end, uint64_t arrive_min)
{
    cc_fabric_switch(c->fabric, c->machines, end, arrive_min, c->capture.max ? cc_capture_frame : NULL, c);
    for (uint32_t i = 0; i < c->n; i++)
        c->node[i].wake = min_u64(c->node[i].wake, cc_quiet_until(c->machines[i]));
}

uint64_t cc_cluster_tick_end(const cc_cluster *c)
{
    return (c->vns / c->quantum + 1) * c->quantum;
}

/* When something happens next: not before now, and exact enough to say in which tick. */
static uint64_t next_vns(const cc_cluster *c)
{
    uint64_t next = CC_NEVER;
    for (uint32_t i = 0; i < c->n && next > c->vns; i++)
        next = min_u64(next, c->node[i].wake);
    if (next < cc_cluster_tick_end(c))
        return next;
    /* A machine that was run alone may have sent something later than now. */
    struct cc_frame f;
    for (uint32_t i = 0; i < c->n; i++)
        if (cc_outbox_first(c->machines[i], &f))
            next = min_u64(next, f.vns);
    return next;
}

/* Skip the ticks in which nothing happens, if there are any.  False if nothing will ever happen and there is no limit. */
static bool skip_ticks(cc_cluster *c, uint64_t horizon)
{
    if (c->vns % c->quantum || c->fabric->changes)
        return true;
    const uint64_t next = next_vns(c);
    if (next == CC_NEVER && horizon == CC_NEVER)
        return false;
    if (next >= cc_cluster_tick_end(c))
        c->vns = min_u64(horizon, next / c->quantum * c->quantum);
    return true;
}

static uint32_t collect_due(cc_cluster *c, uint64_t vns, int32_t except)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->node[i].wake < vns && (int32_t)i != except)
            c->due[count++] = i;
    return count;
}

/* One tick, or the part of it up to the horizon or the exact stop.  False if it was left unfinished: cancelled, failed. */
static bool run_tick(cc_cluster *c, const cc_cluster_until *until, uint64_t *insns)
{
    uint64_t end = min_u64(cc_cluster_tick_end(c), until->vns);
    const bool exact = until->machine >= 0;
    if (exact) {
        struct cc_node *nd = &c->node[until->machine];
        const struct cc_job job = {.vns = end, .instret = until->instret, .stop_at = until->stop_at, .exact = true};
        if (nd->wake < end || nd->m->instret >= until->instret)
            node_run(c, nd, &job);
        if (nd->rc || nd->cancelled)
            return false;
        *insns += nd->last_insns;
        /* What it did after this moment is not known, so nobody may get there before it. */
        if (nd->hit.kind != CC_STOP_NONE && !is_final(nd->hit.kind))
            end = min_u64(end, nd->hit.vns > c->vns ? nd->hit.vns : c->vns);
    }
    const struct cc_job job = {.vns = end, .instret = CC_NEVER, .stop_at = exact ? 0 : until->stop_at};
    const uint32_t count = collect_due(c, end, exact ? until->machine : -1);
    run_due(c, count, &job);
    for (uint32_t i = 0; i < count; i++) {
        const struct cc_node *nd = &c->node[c->due[i]];
        if (nd->rc || nd->cancelled)
            return false;
        *insns += nd->last_insns;
    }
    const bool whole = end == cc_cluster_tick_end(c);
    c->vns = end;
    if (whole)
        cc_cluster_switch(c, end, end);
    return true;
}

/* The first of the events that were hit, by time, then by machine; NULL if none. */
static const struct cc_node *first_hit(const cc_cluster *c)
{
    const struct cc_node *first = NULL;
    for (uint32_t i = 0; i < c->n; i++)
        if (c->node[i].hit.kind != CC_STOP_NONE && (!first || c->node[i].hit.vns < first->hit.vns))
            first = &c->node[i];
    return first;
}

static void report(const cc_cluster *c, const struct cc_node *nd, int32_t kind, cc_cluster_stop *stop)
{
    memset(stop, 0, sizeof *stop);
    stop->kind = kind;
    stop->machine = -1;
    stop->vns = c->vns;
    if (!nd)
        return;
    stop->kind = nd->hit.kind;
    stop->machine = (int32_t)(nd - c->node);
    stop->detail = nd->hit.detail;
    stop->instret = nd->hit.instret;
    stop->vns = nd->hit.vns;
}

/* Machines that were not run because nothing happened in them: their time is the cluster's as well. */
static void catch_up(cc_cluster *c)
{
    for (uint32_t i = 0; i < c->n; i++) {
        struct cc_node *nd = &c->node[i];
        if (nd->m->dev.dead_kind != CC_STOP_NONE || nd->rc)
            continue;
        const cc_until until = {.instret = CC_NEVER, .vns = c->vns, .exits = CC_NEVER};
        while (cc_now(nd->m) < c->vns && nd->wake >= c->vns)
            if (cc_run(nd->m, &until, &nd->stop))
                break;
    }
}

static int run_ticks(cc_cluster *c, const cc_cluster_until *until, cc_cluster_stop *stop)
{
    uint64_t insns = 0;
    uint32_t ticks = 0;
    while (c->vns < until->vns) {
        if (__atomic_load_n(&c->cancel, __ATOMIC_ACQUIRE)) {
            report(c, NULL, CC_STOP_CANCELLED, stop);
            return CC_OK;
        }
        if (insns >= CALL_INSNS || ticks >= CALL_TICKS) {
            report(c, NULL, CC_STOP_NONE, stop);
            return CC_OK;
        }
        if (!skip_ticks(c, until->vns)) {
            report(c, NULL, CC_STOP_HALTED, stop);
            return CC_OK;
        }
        if (c->vns == until->vns)
            break;
        ticks++;
        if (!run_tick(c, until, &insns)) {
            report(c, NULL, CC_STOP_CANCELLED, stop);
            for (uint32_t i = 0; i < c->n; i++)
                if (c->node[i].rc) {
                    stop->kind = CC_STOP_ERROR;
                    stop->machine = (int32_t)i;
                    return cc_cluster_fail(c, c->node[i].rc, "machine %u: %s", i, cc_error(c->node[i].m));
                }
            return CC_OK;
        }
        const struct cc_node *hit = first_hit(c);
        if (hit) {
            report(c, hit, 0, stop);
            return CC_OK;
        }
    }
    report(c, NULL, CC_STOP_VNS, stop);
    return CC_OK;
}

int cc_cluster_run(cc_cluster *c, const cc_cluster_until *until, cc_cluster_stop *stop)
{
    memset(stop, 0, sizeof *stop);
    stop->kind = CC_STOP_ERROR;
    stop->machine = -1;
    if (until->machine >= 0 && (uint32_t)until->machine >= c->n)
        return cc_cluster_fail(c, CC_EINVAL, "there is no machine %d; the cluster has 0 to %u", until->machine, c->n - 1);
    if (until->vns < c->vns || (until->vns > CC_CLUSTER_VNS_MAX && until->vns != CC_NEVER))
        return cc_cluster_fail(c, CC_EINVAL, "the cluster is at %llu ns and cannot be run to %llu ns", (unsigned long long)c->vns,
                    (unsigned long long)until->vns);
    for (uint32_t i = 0; i < c->n; i++) {
        struct cc_node *nd = &c->node[i];
        nd->wake = 0;              /* the host may have changed anything */
        nd->hit.kind = CC_STOP_NONE;
        nd->rc = CC_OK;
        nd->cancelled = false;
    }
    const int rc = run_ticks(c, until, stop);
    catch_up(c);
    __atomic_store_n(&c->cancel, 0, __ATOMIC_RELEASE);
    return rc;
}

void cc_cluster_cancel(cc_cluster *c)
{
    __atomic_store_n(&c->cancel, 1, __ATOMIC_RELEASE);
    for (uint32_t i = 0; i < c->n; i++)
        cc_cancel(c->machines[i]);
}

/* ---- state --------------------------------------------------------------------------------------------------------------- */
uint64_t cc_cluster_vns(const cc_cluster *c)
{
    return c->vns;
}

void cc_cluster_stop_of(const cc_cluster *c, uint32_t i, cc_stop *stop)
{
    const cc_machine *m = c->machines[i];
    memset(stop, 0, sizeof *stop);
    stop->kind = m->dev.dead_kind ? (int32_t)m->dev.dead_kind : CC_STOP_VNS;
    stop->detail = m->dev.dead_detail;
    stop->instret = m->instret;
    stop->vns = cc_now(m);
}

void cc_cluster_digest_network(const cc_cluster *c, cc_digest *out)
{
    const cc_digest fabric = cc_hash_bytes(c->fabric, cc_fabric_size(c->n));
    const uint64_t record[] = {c->vns, fabric.lo, fabric.hi};
    *out = cc_hash_bytes(record, sizeof record);
}

void cc_cluster_digest(cc_cluster *c, cc_digest *out)
{
    cc_digest part[2];
    cc_cluster_digest_network(c, &part[0]);
    for (uint32_t i = 0; i < c->n; i++) {
        cc_digest_now(c->machines[i], &part[1]);
        part[0] = cc_hash_bytes(part, sizeof part);
    }
    *out = part[0];
}

size_t cc_cluster_state_size(const cc_cluster *c)
{
    return sizeof(uint64_t) + cc_fabric_size(c->n);
}

void cc_cluster_state_save(const cc_cluster *c, uint8_t *dst)
{
    memcpy(dst, &c->vns, sizeof c->vns);
    memcpy(dst + sizeof c->vns, c->fabric, cc_fabric_size(c->n));
}

int cc_cluster_state_load(cc_cluster *c, const uint8_t *src, size_t size)
{
    struct cc_fabric head;
    if (size != cc_cluster_state_size(c))
        return cc_cluster_fail(c, CC_EINVAL, "a cluster's state of %zu bytes: this one's has %zu", size, cc_cluster_state_size(c));
    memcpy(&head, src + sizeof c->vns, offsetof(struct cc_fabric, link));
    if (head.n != c->n || head.quantum_ns != c->quantum || head.changes_max != c->fabric->changes_max
        || head.changes > head.changes_max)
        return cc_cluster_fail(c, CC_EINVAL, "the state is of another cluster: machines or ticks differ");
    const uint8_t *changes = src + size - head.changes_max * sizeof(struct cc_link_change);
    for (uint32_t i = 0; i < head.changes; i++) {
        struct cc_link_change change;
        memcpy(&change, changes + i * sizeof change, sizeof change);
        if (change.link >= (uint64_t)c->n * c->n)
            return cc_cluster_fail(c, CC_EINVAL, "the state is damaged: it changes link %llu", (unsigned long long)change.link);
    }
    memcpy(&c->vns, src, sizeof c->vns);
    memcpy(c->fabric, src + sizeof c->vns, cc_fabric_size(c->n));
    return CC_OK;
}

void cc_cluster_reseed(cc_cluster *c, uint64_t branch)
{
    cc_fabric_reseed(c->fabric, branch);
}

/* ---- links --------------------------------------------------------------------------------------------------------------- */
int cc_cluster_check_link(cc_cluster *c, uint32_t src, uint32_t dst)
{
    if (src >= c->n || dst >= c->n)
        return cc_cluster_fail(c, CC_EINVAL, "there is no machine %u; the cluster has 0 to %u", src >= c->n ? src : dst, c->n - 1);
    if (src == dst)
        return cc_cluster_fail(c, CC_EINVAL, "machine %u has no link to itself", src);
    return CC_OK;
}

int cc_link_set(cc_cluster *c, uint32_t src, uint32_t dst, const cc_link_params *p)
{
    const char *wrong = cc_link_params_check(p);
    if (cc_cluster_check_link(c, src, dst))
        return CC_EINVAL;
    if (wrong)
        return cc_cluster_fail(c, CC_EINVAL, "link %u to %u: %s", src, dst, wrong);
    if (cc_fabric_set(c->fabric, src * c->n + dst, c->vns, p))
        return CC_OK;
    cc_cluster_switch(c, c->vns, cc_cluster_tick_end(c));
    cc_fabric_set(c->fabric, src * c->n + dst, c->vns, p);
    return CC_OK;
}

int cc_link_get(cc_cluster *c, uint32_t src, uint32_t dst, cc_link_params *p)
{
    if (cc_cluster_check_link(c, src, dst))
        return CC_EINVAL;
    *p = *cc_fabric_get(c->fabric, src * c->n + dst);
    return CC_OK;
}

int cc_link_count(cc_cluster *c, uint32_t src, uint32_t dst, cc_link_counters *out)
{
    if (cc_cluster_check_link(c, src, dst))
        return CC_EINVAL;
    *out = c->fabric->link[src * c->n + dst].count;
    return CC_OK;
}

int cc_port_count(cc_cluster *c, uint32_t i, cc_port_counters *out)
{
    if (i >= c->n)
        return cc_cluster_fail(c, CC_EINVAL, "there is no machine %u; the cluster has 0 to %u", i, c->n - 1);
    *out = c->fabric->port[i];
    return CC_OK;
}

/* ---- life ---------------------------------------------------------------------------------------------------------------- */
static int check_new(cc_machine *const *machines, uint32_t n, uint64_t quantum, uint32_t threads, char *err, size_t size)
{
    if (n < 1 || n > CC_CLUSTER_MACHINES_MAX)
        return snprintf(err, size, "a cluster of %u machines: must be 1 to %d", n, CC_CLUSTER_MACHINES_MAX);
    if (quantum < QUANTUM_NS_MIN || quantum > QUANTUM_NS_MAX)
        return snprintf(err, size, "a tick of %llu ns: must be %llu to %llu", (unsigned long long)quantum,
                        (unsigned long long)QUANTUM_NS_MIN, (unsigned long long)QUANTUM_NS_MAX);
    if (threads < 1 || threads > CC_CLUSTER_THREADS_MAX)
        return snprintf(err, size, "%u threads: must be 1 to %u", threads, CC_CLUSTER_THREADS_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (machines[i]->cfg.machine_id != i)
            return snprintf(err, size, "machine %u of the cluster says that it is machine %u", i,
                            machines[i]->cfg.machine_id);
    return 0;
}

int cc_cluster_new(cc_machine *const *machines, uint32_t n, uint64_t quantum_ns, uint64_t seed, uint32_t threads,
                   cc_cluster **out, char *err, size_t err_size)
{
    *out = NULL;
    if (check_new(machines, n, quantum_ns, threads, err, err_size))
        return CC_EINVAL;
    cc_cluster *c = calloc(1, sizeof *c);
    if (c) {
        c->n = n;
        c->threads = threads < n ? threads : n;
        c->quantum = quantum_ns;
        c->fabric = malloc(cc_fabric_size(n));
        c->node = calloc(n, sizeof *c->node);
        c->machines = calloc(n, sizeof *c->machines);
        c->due = calloc(n, sizeof *c->due);
        pthread_mutex_init(&c->pool.lock, NULL);
        pthread_cond_init(&c->pool.work, NULL);
        pthread_cond_init(&c->pool.done, NULL);
    }
    if (!c || !c->fabric || !c->node || !c->machines || !c->due) {
        snprintf(err, err_size, "the host refused memory for a cluster of %u machines", n);
        cc_cluster_free(c);
        return CC_ENOMEM;
    }
    cc_fabric_init(c->fabric, n, quantum_ns, seed);
    for (uint32_t i = 0; i < n; i++)
        c->node[i].m = c->machines[i] = machines[i];
    *out = c;
    return CC_OK;
}

void cc_cluster_free(cc_cluster *c)
{
    if (!c)
        return;
    struct cc_pool *p = &c->pool;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->threads; i++)
        pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    free(c->capture.data);
    free(c->due);
    free(c->machines);
    free(c->node);
    free(c->fabric);
    free(c);
}
