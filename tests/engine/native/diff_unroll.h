/*
 * diff_unroll.h: a counted loop written out, so that a case that needs two rounds to differ has a last instruction.
 */
#ifndef CC_DIFF_UNROLL_H
#define CC_DIFF_UNROLL_H

#include "diff_gen.h"

/* The loop in `keep` that is closed by its last instruction: is there one? */
bool ends_with_loop(const struct sequence *s, uint64_t keep);
/* Fill `out` with the instructions in `keep`, the body of that loop `rounds` times and no branch.  False if they are
 * too many. */
bool unroll(const struct sequence *s, uint64_t keep, unsigned rounds, struct sequence *out);
/* Did both end with the same numbers?  The loop's own counter, RCX, and where the code ends are not looked at. */
bool same_results(const struct case_out *looped, const struct case_out *unrolled);

#endif
