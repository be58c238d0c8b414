#include "props.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "chaoscontrol.h"

enum { DETAIL_BYTES = 256 };

static uint8_t self;
static uint32_t self_boot;
static struct raft_verdict told[RAFT_CHECK_COUNT];
static uint32_t client_passes[PROPS_CLIENT_COUNT];
static enum raft_role told_role;
static uint8_t told_leader = RAFT_NOBODY;

static const char *const client_properties[PROPS_CLIENT_COUNT] = {
    [PROPS_READ_SEES_WRITES] = "raft: a read sees every write acknowledged before it began",
    [PROPS_WRITE_AFTER_WRITES] = "raft: a write takes effect after every write acknowledged before it began",
};

void props_say(const char *format, ...)
{
    char line[DETAIL_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    printf("raft: node %u: %s\n", self, line);
    fflush(stdout);
}

void props_init(uint8_t node, uint32_t boot)
{
    self = node;
    self_boot = boot;
}

static void event(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void event(const char *name, const char *format, ...)
{
    char details[DETAIL_BYTES];
    int used = snprintf(details, sizeof details, "{\"node\":%u,\"boot\":%" PRIu32 ",", self, self_boot);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(details + used, sizeof details - (size_t)used, format, arguments);
    va_end(arguments);
    cc_send_event(name, details);
}

/* --- properties --------------------------------------------------------------------------------------------------- */

void props_client(enum props_client which, bool holds, uint32_t index, uint32_t floor, uint16_t key)
{
    if (holds && client_passes[which]++ % PROPS_PASSES_PER_CALL != 0)
        return;
    char details[DETAIL_BYTES];
    snprintf(details, sizeof details, "{\"node\":%u,\"index\":%" PRIu32 ",\"acknowledged\":%" PRIu32 ",\"key\":%u}",
             self, index, floor, key);
    cc_always(holds, client_properties[which], details);
    if (!holds)
        props_say("%s of key %u at %" PRIu32 ", but %" PRIu32 " was acknowledged before",
                  which == PROPS_READ_SEES_WRITES ? "a read" : "a write", key, index, floor);
}

static void tell_verdict(enum raft_check check, const struct raft_verdict *now, uint32_t term)
{
    const char *message = raft_check_name(check);
    struct raft_verdict *before = &told[check];
    if (now->fails != before->fails) {
        char details[DETAIL_BYTES];
        snprintf(details, sizeof details,
                 "{\"node\":%u,\"term\":%" PRIu32 ",\"at\":%" PRIu32 ",\"with\":%" PRIu32 "}", self, term, now->a,
                 now->b);
        cc_always(false, message, details);
        if (before->fails == 0)
            props_say("not so: %s (at %" PRIu32 ", with %" PRIu32 ")", message, now->a, now->b);
    } else if (now->passes / PROPS_PASSES_PER_CALL != before->passes / PROPS_PASSES_PER_CALL ||
               (before->passes == 0 && now->passes > 0)) {
        cc_always(true, message, NULL);
    }
    *before = *now;
}

/* --- events ------------------------------------------------------------------------------------------------------- */

void props_started(const struct raft *raft, uint32_t cut)
{
    cc_coverage_init("raft", 0);
    if (cut > 0)
        props_say("dropped %" PRIu32 " log records that were not flushed", cut);
    if (raft->config.bug == RAFT_BUG_NONE)
        props_say("start %" PRIu32 ", term %" PRIu32 ", %" PRIu32 " entries", self_boot, raft->term, raft->last);
    else
        props_say("start %" PRIu32 ", term %" PRIu32 ", %" PRIu32 " entries, bug %s", self_boot, raft->term, raft->last,
                  raft_bug_name(raft->config.bug));
    event("raft_start", "\"term\":%" PRIu32 ",\"last\":%" PRIu32 ",\"nodes\":%u}", raft->term, raft->last,
          raft->config.nodes);
}

void props_serving(void)
{
    char details[DETAIL_BYTES];
    snprintf(details, sizeof details, "{\"node\":%u,\"boot\":%" PRIu32 "}", self, self_boot);
    cc_setup_complete(details);
    cc_reachable("raft: a write is acknowledged", details);
}

static void tell_role(const struct raft *raft)
{
    if (raft->role == RAFT_LEADER && told_role != RAFT_LEADER) {
        props_say("leader of term %" PRIu32, raft->term);
        event("raft_leader", "\"term\":%" PRIu32 ",\"last\":%" PRIu32 ",\"commit\":%" PRIu32 "}", raft->term,
              raft->last - (raft->log[raft->last].term == raft->term), raft->commit);
    } else if (raft->role != RAFT_LEADER && told_role == RAFT_LEADER) {
        props_say("no longer leader, term %" PRIu32, raft->term);
        event("raft_stepdown", "\"term\":%" PRIu32 "}", raft->term);
    }
    if (raft->role == RAFT_FOLLOWER && raft->leader != RAFT_NOBODY && raft->leader != told_leader)
        props_say("follows node %u in term %" PRIu32, raft->leader, raft->term);
    if (raft->leader != RAFT_NOBODY)
        told_leader = raft->leader;
    told_role = raft->role;
}

void props_flush(const struct raft *raft)
{
    for (int check = 0; check < RAFT_CHECK_COUNT; check++)
        if (raft->verdicts[check].passes != told[check].passes || raft->verdicts[check].fails != told[check].fails)
            tell_verdict((enum raft_check)check, &raft->verdicts[check], raft->term);
    if (raft->out.role_changed)
        tell_role(raft);
    for (uint32_t i = 0; i < raft->out.edge_count; i++)
        cc_record_edge(raft->out.edges[i]);
}

void props_applied(const struct raft *raft, uint32_t index)
{
    uint32_t stride = raft->commit - index > PROPS_CATCH_UP_STRIDE ? PROPS_CATCH_UP_STRIDE : PROPS_COMMIT_STRIDE;
    if (index % stride != 0)
        return;
    uint8_t leader = raft->leader;
    event("raft_commit",
          "\"term\":%" PRIu32 ",\"index\":%" PRIu32 ",\"hash\":\"%016" PRIx64 "\",\"leader\":%d,\"acked\":%" PRIu32
          ",\"acked_term\":%" PRIu32 "}",
          raft->term, index, raft->applied_hash, leader == RAFT_NOBODY ? -1 : leader, raft->acked, raft->acked_term);
}
