/*
 * diff_unroll.c: see diff_unroll.h.
 */
#include "diff_unroll.h"

#include <string.h>

enum { RCX = 1 };

static int last_of(uint64_t keep) { return keep ? 63 - __builtin_clzll(keep) : -1; }

bool ends_with_loop(const struct sequence *s, uint64_t keep)
{
    int last = last_of(keep);
    return last >= 0 && s->insn[last].jump >= 0 && s->insn[last].jump <= last;
}

/* Copy one instruction; where[] says where those that it refers to are now. */
static bool append(struct sequence *out, const struct insn *insn, const int8_t *where)
{
    if (out->n == MAX_INSNS)
        return false;
    struct insn *copy = &out->insn[out->n++];
    *copy = *insn;
    for (int k = 0; k < 4; k++)
        if (insn->needs[k] >= 0)
            copy->needs[k] = where[insn->needs[k]];
    for (int k = 0; k < 2; k++)
        if (insn->fix[k].type != FIX_NONE && insn->fix[k].target >= 0)
            copy->fix[k].target = where[insn->fix[k].target];
    if (insn->jump >= 0)
        copy->jump = where[insn->jump];
    return true;
}

bool unroll(const struct sequence *s, uint64_t keep, unsigned rounds, struct sequence *out)
{
    int last = last_of(keep), head = s->insn[last].jump;
    int8_t where[MAX_INSNS + 2];
    out->n = 0;
    out->start = s->start;
    out->focus = -1;
    memset(where, MAX_INSNS + 1, sizeof where);     /* behind the loop: the end */
    for (unsigned round = 0; round < rounds; round++) {
        int from = round ? head : 0;
        /* A reference may be to one further on, or to one dropped, which stands for the next one kept. */
        unsigned at = out->n;
        for (int i = from; i <= last; i++) {
            where[i] = (int8_t)at;
            at += i < last && (keep >> i & 1);
        }
        for (int i = from; i < last; i++)
            if ((keep >> i & 1) && !append(out, &s->insn[i], where))
                return false;
    }
    return true;
}

bool same_results(const struct case_out *looped, const struct case_out *unrolled)
{
    for (unsigned i = 0; i < 16; i++)
        if (i != RCX && looped->gpr[i] != unrolled->gpr[i])
            return false;
    return !memcmp(looped->fx + 32, unrolled->fx + 32, 416 - 32) && looped->ngranules == unrolled->ngranules
           && looped->granule_hash == unrolled->granule_hash;
}
