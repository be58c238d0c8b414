/* diff_engine.h: runs test cases on the soft CPU through the engine's public API. */
#ifndef CC_DIFF_ENGINE_H
#define CC_DIFF_ENGINE_H

#include "diff.h"

struct engine;

/* flags: CC_CFG_*; tlb_bits and code_cache_kib 0: the defaults.  cs, ss: the native runner's selectors. */
struct engine *engine_new(uint32_t flags, uint32_t tlb_bits, uint32_t code_cache_kib, uint16_t cs, uint16_t ss);
void engine_free(struct engine *e);
/* Memory contents for the cases that follow. */
void engine_image(struct engine *e, const uint8_t *image);
void engine_run(struct engine *e, const struct case_in *in, struct case_out *out);
/* Instructions retired by the last case, the ending one included. */
uint64_t engine_retired(const struct engine *e);
/* Stop after every `n` instructions and go on (0: run through). */
void engine_stepping(struct engine *e, uint32_t n);

#endif
