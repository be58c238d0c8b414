/*
 * diff_rules.h: where the host's processor may differ from the engine.  Every exception from "all is equal" that
 * depends on the processor is a named rule for one vendor or both; it covers certain instructions, and changes the
 * host's outcome into the engine's in the fields, and in the circumstances, that it is about.  The comparison that
 * follows knows no exceptions.
 */
#ifndef CC_DIFF_RULES_H
#define CC_DIFF_RULES_H

#include "diff.h"

/* The instruction that a case ended with: at its end the rules are applied. */
struct subject {
    const struct form *form;    /* NULL in a written case: then `rules` says which rules may apply */
    const uint8_t *code;
    uint32_t len;
    uint64_t rules;
};

unsigned rules_count(void);
const char *rules_name(unsigned i);
/* How often rule i has made a difference. */
uint64_t rules_applied(unsigned i);

/* Change native, the outcome on the host, where a rule of the host's vendor allows it to differ from engine's. */
void rules_apply(const struct subject *s, const uint8_t *image, struct case_out *native, const struct case_out *engine);

#endif
