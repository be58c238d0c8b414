/*
 * diff_gen.h: the generator: random instruction sequences over the opcode forms, with what must be known about each
 * instruction to compare its results (undefined flags) and to drop it when a failing case is minimised.
 */
#ifndef CC_GEN_H
#define CC_GEN_H

#include "diff.h"

#define MAX_INSNS 56

enum fix_type { FIX_NONE, FIX_REL, FIX_ABS, FIX_RIP };

/* A field of an instruction that depends on the layout.  Where the referenced instruction (`target`) is dropped, its
 * address is that of the next one kept. */
struct fix {
    uint8_t type, off, size;
    int8_t target;          /* instruction, or -1: the absolute address in `value` */
    uint64_t value;         /* address, or added to the target's */
};

struct insn {
    uint16_t form;
    uint8_t len;
    uint8_t bytes[24];
    struct fix fix[2];
    int8_t jump;            /* the instruction that a taken branch leads to, or -1 */
    bool always;            /* ... and it is always taken */
    bool ends;              /* always faults or traps */
    uint64_t lands;         /* where a transfer with a 16-bit offset leads, 0: none */
    uint8_t tested, modified, undefined;
    uint8_t x87_tested, x87_modified, x87_undefined;
    int8_t needs[4];        /* instructions whose results this one relies on, or -1 */
};

struct sequence {
    uint32_t n;
    struct insn insn[MAX_INSNS];
    struct case_in start;   /* registers; code is filled by layout() */
    int8_t focus;           /* the instruction of the form that this index is to cover */
};

struct forms { uint32_t n; const struct form *form; };

/* Memory contents shared by the cases of one batch. */
void gen_image(uint64_t seed, uint64_t batch, uint8_t *image);

enum gen_mode { GEN_NORMAL, GEN_APPROX };
void gen_sequence(const struct forms *forms, enum gen_mode mode, uint64_t seed, uint64_t index, struct sequence *s);

/* What may be compared where the case ended. */
struct layout {
    uint32_t addr[MAX_INSNS + 1];       /* offset from CODE_VA; equal to the next one's where dropped */
    uint8_t undef[MAX_INSNS + 1];       /* flags undefined before the instruction */
    uint8_t x87_undef[MAX_INSNS + 1];
};
/* Encode the instructions in `keep` (a bit set).  False if they are not a valid case: one relies on a dropped one, or
 * uses a flag that has become undefined. */
bool gen_layout(const struct sequence *s, uint64_t keep, struct case_in *in, struct layout *l);

#endif
