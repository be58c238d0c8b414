/*
 * diff_compare.h: is what the host and the engine made of a case the same?
 */
#ifndef CC_DIFF_COMPARE_H
#define CC_DIFF_COMPARE_H

#include "diff.h"
#include "diff_gen.h"

struct difference { char text[160]; };
struct report { unsigned n; struct difference d[40]; };

#define DIFFER(r, ...)                                                                                                 \
    do {                                                                                                               \
        if ((r)->n < 40)                                                                                               \
            snprintf((r)->d[(r)->n++].text, sizeof(struct difference), __VA_ARGS__);                                   \
    } while (0)

struct context {
    const struct forms *forms;
    const struct sequence *seq;
    struct layout layout;
    enum gen_mode mode;
    uint64_t rules;             /* of a written case: those that may apply */
    bool native_only;
    bool strict;                /* apply no rules */
};

extern const char *const gpr_names[16];
uint64_t granule_va(uint32_t index);

/* The instruction in `keep` that the case ended at (seq->n: behind the last one), or -1 if it ended elsewhere. */
int end_index(const struct context *c, uint64_t keep, const struct case_out *o);
/* Fills r.  keep: the instructions of c->seq that were run; c->layout: theirs. */
void compare(struct report *r, const struct context *c, uint64_t keep, const struct case_in *in,
             const struct case_out *native, const struct case_out *engine, const uint8_t *image);

#endif
