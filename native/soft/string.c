/*
 * soft/string.c: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS and their REP forms.
 *
 * The rule for REP: every iteration counts as one retired instruction, and a REP with a count of 0 as one.  An
 * instruction can be stopped, faulted and interrupted between any two iterations; RIP then points at it and RCX, RSI
 * and RDI say what is left.  Runs of RAM go by whole pages, with the result of going one by one.
 *
 * CMPS and SCAS with REP write the flags when the loop ends and not before: a fault finds those from before the
 * instruction (SDM vol. 2, REP), and so does, as on Intel's processors, whatever else comes between two iterations.
 * With 32-bit addresses, RCX and the pointers of MOVS and STOS are zero-extended when the instruction starts, be the
 * count 0 or the first iteration a fault: Intel's processors again; the SDM leaves it open.  So is, and does, which
 * operand of CMPS is read first: the one at RDI.
 */
#include "int.h"

typedef struct rep_state {
    uint64_t count, done;       /* iterations left to do; made so far */
    uint64_t mask;              /* address-size mask */
    int64_t step;
    uint64_t seg;               /* base of the source's segment */
} rep_state;

static inline rep_state rep_begin(const cc_cpu *cpu, const cc_op *op, unsigned bytes)
{
    rep_state s;
    s.mask = op->ss & CC_SS_A32 ? 0xffffffffu : UINT64_MAX;
    s.count = cpu->r[CC_RCX] & s.mask;
    s.done = 0;
    s.step = cpu->rflags & FL_DF ? -(int64_t)bytes : (int64_t)bytes;
    s.seg = cpu->segbase[CC_SS_SEG(op->ss)];
    return s;
}

/* The same for a REP form; pointers: the registers that it zero-extends with RCX. */
enum { REP_RSI = 1, REP_RDI = 2 };
static inline rep_state rep_start(cc_cpu *cpu, const cc_op *op, unsigned bytes, unsigned pointers)
{
    rep_state s = rep_begin(cpu, op, bytes);
    if (cc_unlikely(s.mask != UINT64_MAX)) {
        cpu->r[CC_RCX] = s.count;
        if (pointers & REP_RSI)
            cpu->r[CC_RSI] &= s.mask;
        if (pointers & REP_RDI)
            cpu->r[CC_RDI] &= s.mask;
    }
    return s;
}

static inline void advance(cc_cpu *cpu, unsigned reg, uint64_t mask, int64_t by)
{
    cpu->r[reg] = (cpu->r[reg] + (uint64_t)by) & mask;
}

static inline void iterated(cc_cpu *cpu, rep_state *s, uint64_t n)
{
    s->count -= n;
    s->done += n;
    cpu->r[CC_RCX] = s->count;
}

/* After the loop: go on behind the instruction, or stop at it with iterations left. */
static inline __attribute__((always_inline)) const cc_op *rep_end(cc_cpu *cpu, const cc_op *op, int64_t budget,
                                                                  const rep_state *s, bool finished)
{
    if (s->done)
        budget -= (int64_t)(s->done - 1);
    if (!finished) {
        cpu->rflags |= FL_RF;         /* no instruction breakpoint between iterations (SDM vol. 3, 17.3.1.1) */
        return cc_exit(cpu, cc_op_pc(cpu, op), budget);
    }
    if (cc_unlikely(cpu->leave))
        return cc_exit(cpu, cc_op_next_pc(cpu, op), budget);
    if (op->off + op->len < 4096)
        CC_FALL_IN();
    CC_FALL_OUT();
}

/* The faulting iteration is the attempt that counts as one. */
static inline const cc_op *rep_fault(cc_cpu *cpu, const cc_op *op, int64_t budget, const rep_state *s)
{
    return cc_op_fault(cpu, op, budget - (int64_t)s->done);
}

#define ROOM(s) ((uint64_t)budget + 1 - (s).done)      /* iterations that still fit before the horizon */
#define NOW(s) (budget - (int64_t)(s).done)

static inline uint64_t min64(uint64_t a, uint64_t b) { return a < b ? a : b; }
/* Elements from va to the end of its page. */
static inline uint64_t in_page(uint64_t va, unsigned bytes) { return (4096 - (va & 0xfff)) / bytes; }

#define STRINGS(N)                                                                                                     \
    static CC_OP(movs##N)                                                                                              \
    {                                                                                                                  \
        rep_state s = rep_begin(cpu, op, N / 8);                                                                       \
        cc_u##N v;                                                                                                     \
        if (!cc_ld##N(cpu, op, budget, (cpu->r[CC_RSI] & s.mask) + s.seg, &v) ||                                       \
            !cc_st##N(cpu, op, budget, cpu->r[CC_RDI] & s.mask, v))                                                    \
            return cc_op_fault(cpu, op, budget);                                                                       \
        advance(cpu, CC_RSI, s.mask, s.step);                                                                          \
        advance(cpu, CC_RDI, s.mask, s.step);                                                                          \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(rep_movs##N)                                                                                          \
    {                                                                                                                  \
        rep_state s = rep_start(cpu, op, N / 8, REP_RSI | REP_RDI);                                                    \
        while (s.count && ROOM(s) && !cpu->leave) {                                                                    \
            uint64_t from = (cpu->r[CC_RSI] & s.mask) + s.seg, to = cpu->r[CC_RDI] & s.mask;                           \
            uint64_t n = min64(min64(s.count, ROOM(s)), min64(in_page(from, N / 8), in_page(to, N / 8)));              \
            const uint8_t *a;                                                                                          \
            uint8_t *b;                                                                                                \
            if (n && s.step > 0 && s.mask == UINT64_MAX && (a = cc_bulk_ptr(cpu, from, false, n * (N / 8))) != NULL && \
                (b = cc_bulk_ptr(cpu, to, true, n * (N / 8))) != NULL) {     /* last: the walk for a may watch b */     \
                if (b > a && b < a + n * (N / 8))          /* the destination is read back: one by one */              \
                    for (uint64_t i = 0; i < n; i++)                                                                   \
                        memmove(b + i * (N / 8), a + i * (N / 8), N / 8);                                              \
                else                                                                                                   \
                    memmove(b, a, n * (N / 8));                                                                        \
                cpu->r[CC_RSI] += n * (N / 8);                                                                         \
                cpu->r[CC_RDI] += n * (N / 8);                                                                         \
                iterated(cpu, &s, n);                                                                                  \
                continue;                                                                                              \
            }                                                                                                          \
            cc_u##N v;                                                                                                 \
            if (!cc_ld##N(cpu, op, NOW(s), from, &v) || !cc_st##N(cpu, op, NOW(s), to, v))                             \
                return rep_fault(cpu, op, budget, &s);                                                                 \
            advance(cpu, CC_RSI, s.mask, s.step);                                                                      \
            advance(cpu, CC_RDI, s.mask, s.step);                                                                      \
            iterated(cpu, &s, 1);                                                                                      \
        }                                                                                                              \
        return rep_end(cpu, op, budget, &s, s.count == 0);                                                             \
    }                                                                                                                  \
    static CC_OP(stos##N)                                                                                              \
    {                                                                                                                  \
        rep_state s = rep_begin(cpu, op, N / 8);                                                                       \
        if (!cc_st##N(cpu, op, budget, cpu->r[CC_RDI] & s.mask, cc_get##N(cpu, CC_RAX)))                               \
            return cc_op_fault(cpu, op, budget);                                                                       \
        advance(cpu, CC_RDI, s.mask, s.step);                                                                          \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(rep_stos##N)                                                                                          \
    {                                                                                                                  \
        rep_state s = rep_start(cpu, op, N / 8, REP_RDI);                                                              \
        cc_u##N v = cc_get##N(cpu, CC_RAX);                                                                            \
        while (s.count && ROOM(s) && !cpu->leave) {                                                                    \
            uint64_t to = cpu->r[CC_RDI] & s.mask;                                                                     \
            uint64_t n = min64(min64(s.count, ROOM(s)), in_page(to, N / 8));                                           \
            uint8_t *b;                                                                                                \
            if (n && s.step > 0 && s.mask == UINT64_MAX && (b = cc_bulk_ptr(cpu, to, true, n * (N / 8))) != NULL) {    \
                if (v == 0)                                                                                            \
                    memset(b, 0, n * (N / 8));                                                                         \
                else                                                                                                   \
                    for (uint64_t i = 0; i < n; i++)                                                                   \
                        memcpy(b + i * (N / 8), &v, N / 8);                                                            \
                cpu->r[CC_RDI] += n * (N / 8);                                                                         \
                iterated(cpu, &s, n);                                                                                  \
                continue;                                                                                              \
            }                                                                                                          \
            if (!cc_st##N(cpu, op, NOW(s), to, v))                                                                     \
                return rep_fault(cpu, op, budget, &s);                                                                 \
            advance(cpu, CC_RDI, s.mask, s.step);                                                                      \
            iterated(cpu, &s, 1);                                                                                      \
        }                                                                                                              \
        return rep_end(cpu, op, budget, &s, s.count == 0);                                                             \
    }                                                                                                                  \
    static CC_OP(lods##N)                                                                                              \
    {                                                                                                                  \
        rep_state s = rep_begin(cpu, op, N / 8);                                                                       \
        cc_u##N v;                                                                                                     \
        if (!cc_ld##N(cpu, op, budget, (cpu->r[CC_RSI] & s.mask) + s.seg, &v))                                         \
            return cc_op_fault(cpu, op, budget);                                                                       \
        cc_set##N(cpu, N == 8 ? 0 : CC_RAX, v);                                                                        \
        advance(cpu, CC_RSI, s.mask, s.step);                                                                          \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(rep_lods##N)                                                                                          \
    {                                                                                                                  \
        rep_state s = rep_start(cpu, op, N / 8, 0);                                                                    \
        while (s.count && ROOM(s) && !cpu->leave) {                                                                    \
            cc_u##N v;                                                                                                 \
            if (!cc_ld##N(cpu, op, NOW(s), (cpu->r[CC_RSI] & s.mask) + s.seg, &v))                                     \
                return rep_fault(cpu, op, budget, &s);                                                                 \
            cc_set##N(cpu, N == 8 ? 0 : CC_RAX, v);                                                                    \
            advance(cpu, CC_RSI, s.mask, s.step);                                                                      \
            iterated(cpu, &s, 1);                                                                                      \
        }                                                                                                              \
        return rep_end(cpu, op, budget, &s, s.count == 0);                                                             \
    }                                                                                                                  \
    static inline void compare##N(cc_cpu *cpu, cc_u##N a, cc_u##N b)                                                  \
    { cc_flags_lazy(cpu, CC_FLAGS_SUB##N, SX(N, (cc_u##N)(a - b)), SX(N, b)); }                                       \
    static CC_OP(cmps##N)                                                                                              \
    {                                                                                                                  \
        rep_state s = rep_begin(cpu, op, N / 8);                                                                       \
        cc_u##N a, b;                                                                                                  \
        if (!cc_ld##N(cpu, op, budget, cpu->r[CC_RDI] & s.mask, &b) ||                                                 \
            !cc_ld##N(cpu, op, budget, (cpu->r[CC_RSI] & s.mask) + s.seg, &a))                                         \
            return cc_op_fault(cpu, op, budget);                                                                       \
        advance(cpu, CC_RSI, s.mask, s.step);                                                                          \
        advance(cpu, CC_RDI, s.mask, s.step);                                                                          \
        compare##N(cpu, a, b);                                                                                         \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(rep_cmps##N)                                                                                          \
    {                                                                                                                  \
        rep_state s = rep_start(cpu, op, N / 8, 0);                                                                    \
        bool more = s.count != 0;                                                                                      \
        while (more && ROOM(s) && !cpu->leave) {                                                                       \
            cc_u##N a, b;                                                                                              \
            if (!cc_ld##N(cpu, op, NOW(s), cpu->r[CC_RDI] & s.mask, &b) ||                                             \
                !cc_ld##N(cpu, op, NOW(s), (cpu->r[CC_RSI] & s.mask) + s.seg, &a))                                     \
                return rep_fault(cpu, op, budget, &s);                                                                 \
            advance(cpu, CC_RSI, s.mask, s.step);                                                                      \
            advance(cpu, CC_RDI, s.mask, s.step);                                                                      \
            iterated(cpu, &s, 1);                                                                                      \
            more = s.count != 0 && (a == b) == (op->r == 1);                                                           \
            if (!more)                                                                                                 \
                compare##N(cpu, a, b);                                                                                 \
        }                                                                                                              \
        return rep_end(cpu, op, budget, &s, !more);                                                                    \
    }                                                                                                                  \
    static CC_OP(scas##N)                                                                                              \
    {                                                                                                                  \
        rep_state s = rep_begin(cpu, op, N / 8);                                                                       \
        cc_u##N b;                                                                                                     \
        if (!cc_ld##N(cpu, op, budget, cpu->r[CC_RDI] & s.mask, &b))                                                   \
            return cc_op_fault(cpu, op, budget);                                                                       \
        advance(cpu, CC_RDI, s.mask, s.step);                                                                          \
        compare##N(cpu, (cc_u##N)cpu->r[CC_RAX], b);                                                                   \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(rep_scas##N)                                                                                          \
    {                                                                                                                  \
        rep_state s = rep_start(cpu, op, N / 8, 0);                                                                    \
        bool more = s.count != 0;                                                                                      \
        cc_u##N a = (cc_u##N)cpu->r[CC_RAX], b;                                                                        \
        while (more && ROOM(s) && !cpu->leave) {                                                                       \
            if (!cc_ld##N(cpu, op, NOW(s), cpu->r[CC_RDI] & s.mask, &b))                                               \
                return rep_fault(cpu, op, budget, &s);                                                                 \
            advance(cpu, CC_RDI, s.mask, s.step);                                                                      \
            iterated(cpu, &s, 1);                                                                                      \
            more = s.count != 0 && (a == b) == (op->r == 1);                                                           \
            if (!more)                                                                                                 \
                compare##N(cpu, a, b);                                                                                 \
        }                                                                                                              \
        return rep_end(cpu, op, budget, &s, !more);                                                                    \
    }
STRINGS(8) STRINGS(16) STRINGS(32) STRINGS(64)

/* ---- port strings: the port's width is the element's; element size 8, 16 or 32 ------------------------------------------- */
#define PORT_STRINGS(N)                                                                                                \
    static bool ins_once##N(cc_cpu *cpu, const cc_op *op, int64_t budget, const rep_state *s)                         \
    {                                                                                                                  \
        uint16_t port = (uint16_t)cpu->r[CC_RDX];                                                                      \
        uint64_t to = cpu->r[CC_RDI] & s->mask;                                                                        \
        if (!cc_io_allowed(cpu, port, N / 8) || !cc_mem_probe_write(cpu, op, budget, to, N / 8))                       \
            return false;                                                                                              \
        cpu->m->instret = cc_op_instret(cpu, op, budget);                                                              \
        cc_u##N v = (cc_u##N)cc_io_read(cpu->m, port, N / 8);                                                          \
        if (cpu->m->kick)                                                                                              \
            cpu->leave = 1;                                                                                            \
        cc_io_accessed(cpu, port, N / 8);                                                                              \
        if (!cc_st##N(cpu, op, budget, to, v))                                                                         \
            return false;                                                                                              \
        advance(cpu, CC_RDI, s->mask, s->step);                                                                        \
        return true;                                                                                                   \
    }                                                                                                                  \
    static bool outs_once##N(cc_cpu *cpu, const cc_op *op, int64_t budget, const rep_state *s)                        \
    {                                                                                                                  \
        uint16_t port = (uint16_t)cpu->r[CC_RDX];                                                                      \
        cc_u##N v;                                                                                                     \
        if (!cc_io_allowed(cpu, port, N / 8) ||                                                                        \
            !cc_ld##N(cpu, op, budget, (cpu->r[CC_RSI] & s->mask) + s->seg, &v))                                       \
            return false;                                                                                              \
        cpu->m->instret = cc_op_instret(cpu, op, budget);                                                              \
        cc_io_write(cpu->m, port, N / 8, v);                                                                           \
        if (cpu->m->kick)                                                                                              \
            cpu->leave = 1;                                                                                            \
        cc_io_accessed(cpu, port, N / 8);                                                                              \
        advance(cpu, CC_RSI, s->mask, s->step);                                                                        \
        return true;                                                                                                   \
    }                                                                                                                  \
    PORT_FORMS(ins, N) PORT_FORMS(outs, N)
#define PORT_FORMS(NAME, N)                                                                                            \
    static CC_OP(NAME##N)                                                                                              \
    {                                                                                                                  \
        rep_state s = rep_begin(cpu, op, N / 8);                                                                       \
        if (!NAME##_once##N(cpu, op, budget, &s))                                                                      \
            return cc_op_fault(cpu, op, budget);                                                                       \
        CC_NEXT_STORE();                                                                                               \
    }                                                                                                                  \
    static CC_OP(rep_##NAME##N)                                                                                        \
    {                                                                                                                  \
        rep_state s = rep_start(cpu, op, N / 8, 0);                                                                    \
        while (s.count && ROOM(s) && !cpu->leave) {                                                                    \
            if (!NAME##_once##N(cpu, op, NOW(s), &s))                                                                  \
                return rep_fault(cpu, op, budget, &s);                                                                 \
            iterated(cpu, &s, 1);                                                                                      \
        }                                                                                                              \
        return rep_end(cpu, op, budget, &s, s.count == 0);                                                             \
    }
PORT_STRINGS(8) PORT_STRINGS(16) PORT_STRINGS(32)

#define ROW(NAME) {NAME##8, NAME##16, NAME##32, NAME##64}
#define PROW(NAME) {NAME##8, NAME##16, NAME##32, 0}
const cc_opfn cc_movs[4] = ROW(movs), cc_stos[4] = ROW(stos), cc_lods[4] = ROW(lods), cc_cmps[4] = ROW(cmps);
const cc_opfn cc_scas[4] = ROW(scas), cc_ins[4] = PROW(ins), cc_outs[4] = PROW(outs);
const cc_opfn cc_rep_movs[4] = ROW(rep_movs), cc_rep_stos[4] = ROW(rep_stos), cc_rep_lods[4] = ROW(rep_lods);
const cc_opfn cc_rep_cmps[4] = ROW(rep_cmps), cc_rep_scas[4] = ROW(rep_scas), cc_rep_ins[4] = PROW(rep_ins);
const cc_opfn cc_rep_outs[4] = PROW(rep_outs);
