/*
 * soft/watch.c: how the soft CPU meets the host's breakpoints and watchpoints (watch.h).
 *
 * A page with watched data has no TLB tags, as one with a data breakpoint of the guest's, so accesses to it take the slow
 * path and are compared here, by the addresses that they have then.  Of code, blocks end before a watched instruction, and
 * the block that begins with it has an op in front that looks.  All else runs as if nothing was watched.
 */
#include "exec.h"
#include "../watch.h"

/* Is it what the CPU executes now that is meant? */
static bool concerns(const cc_watch *x, const cc_cpu *cpu)
{
    return (x->cr3 == CC_ANY_CR3 || !((x->cr3 ^ cpu->cr3) & ~UINT64_C(0xfff))) && cpu->r[CC_RSP] >= x->rsp_min
           && (cpu->cpl == 3 || !(x->flags & CC_WATCH_USER));
}

/* ---- data ------------------------------------------------------------------------------------------------------------ */
uint32_t cc_watched_data(const cc_machine *m, uint64_t vpage, uint64_t gpage)
{
    const struct cc_watches *w = m->watches;
    uint32_t kinds = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        const cc_watch *x = &w->watch[i];
        if (cc_watch_overlaps(x, x->flags & CC_WATCH_PHYSICAL ? gpage : vpage, CC_PAGE_SIZE))
            kinds |= x->kinds & (CC_WATCH_READ | CC_WATCH_WRITE);
    }
    return kinds;
}

/* The access is one of the CPU's own where there is no op. */
static void stage(cc_cpu *cpu, const cc_op *op, uint32_t i, cc_watch_hit *h, const cc_watch_span *s)
{
    cc_machine *m = cpu->m;
    h->rip = op ? cc_op_pc(cpu, op) : m->watches->executing ? 0 : cpu->rip;
    h->cpl = cpu->cpl;
    h->frame_offset = CC_NO_OFFSET;
    uint8_t *to = (uint8_t *)h->value;
    unsigned room = sizeof h->value;
    for (unsigned k = 0; k < s->n && room; k++) {
        const unsigned n = s->len[k] < room ? s->len[k] : room;
        if (cc_in_ram(m, s->gpa[k], n))
            memcpy(to, m->ram + s->gpa[k], n);
        to += n;
        room -= n;
    }
    cc_watch_stage(m, i, h, !op);
    cpu->leave = 1;
}

void cc_watch_access(cc_cpu *cpu, const cc_op *op, uint64_t va, const cc_watch_span *s, uint32_t kind)
{
    const struct cc_watches *w = cpu->m->watches;
    if (!(w->kinds & kind))
        return;
    const unsigned size = s->n == 2 ? s->len[0] + s->len[1] : s->len[0];
    for (uint32_t i = 0; i < w->n; i++) {
        const cc_watch *x = &w->watch[i];
        if (!(x->kinds & kind) || !concerns(x, cpu))
            continue;
        for (unsigned k = 0; k < s->n; k++) {
            const uint64_t part_va = k ? va + s->len[0] : va;
            const uint64_t at = x->flags & CC_WATCH_PHYSICAL ? s->gpa[k] : part_va;
            if (!cc_watch_overlaps(x, at, s->len[k]))
                continue;
            cc_watch_hit h = {.kind = kind, .who = op ? CC_BY_INSTRUCTION : CC_BY_CPU, .va = va, .size = size};
            h.address = at - x->address < x->size ? at : x->address;
            h.gpa = s->gpa[k] + (h.address - at);
            stage(cpu, op, i, &h, s);
            break;
        }
    }
}

void cc_watch_walk(cc_cpu *cpu, uint64_t entry_gpa)
{
    cc_machine *m = cpu->m;
    const struct cc_watches *w = m->watches;
    for (uint32_t i = 0; i < w->n; i++) {
        const cc_watch *x = &w->watch[i];
        if (!(x->kinds & CC_WATCH_WRITE) || !(x->flags & CC_WATCH_PHYSICAL) || !concerns(x, cpu)
            || !cc_watch_overlaps(x, entry_gpa, 8))
            continue;
        cc_watch_hit h = {.kind = CC_WATCH_WRITE, .who = CC_BY_WALK, .va = entry_gpa, .size = 8, .cpl = cpu->cpl,
                          .frame_offset = CC_NO_OFFSET};
        h.address = h.gpa = entry_gpa - x->address < x->size ? entry_gpa : x->address;
        memcpy(h.value, m->ram + entry_gpa, 8);
        cc_watch_stage(m, i, &h, true);
        cpu->leave = 1;
    }
}

/* ---- code -------------------------------------------------------------------------------------------------------------- */
static bool code_watched(const cc_watch *x, uint64_t va, uint64_t gpa)
{
    if (!(x->kinds & CC_WATCH_EXECUTE))
        return false;
    if (x->flags & CC_WATCH_OUTSIDE)
        return va - x->address >= x->size;
    return (x->flags & CC_WATCH_PHYSICAL ? gpa : va) - x->address < x->size;
}

static bool any_code_watched(const struct cc_watches *w, uint64_t va, uint64_t gpa)
{
    for (uint32_t i = 0; i < w->n; i++)
        if (code_watched(&w->watch[i], va, gpa))
            return true;
    return false;
}

/* Bytes from va that can be decoded before a watched one comes, of `avail`; the first byte does not matter. */
static unsigned unwatched(const struct cc_watches *w, uint64_t va, uint64_t gpa, unsigned avail)
{
    for (uint32_t i = 0; i < w->n && avail > 1; i++) {
        const cc_watch *x = &w->watch[i];
        if (!(x->kinds & CC_WATCH_EXECUTE))
            continue;
        const uint64_t from = (x->flags & CC_WATCH_PHYSICAL ? gpa : va) + 1;
        uint64_t ahead;
        if (x->flags & CC_WATCH_OUTSIDE)
            ahead = from - x->address < x->size ? x->address + x->size - from : 0;
        else
            ahead = from - x->address < x->size ? 0 : x->address - from;
        if (ahead + 1 < avail)
            avail = (unsigned)ahead + 1;
    }
    return avail;
}

/* A program is known by its code, whatever process it is in. */
static bool is_code(const cc_watch *x, const cc_machine *m, uint64_t gpa)
{
    const uint64_t room = CC_PAGE_SIZE - (gpa & (CC_PAGE_SIZE - 1)), n = x->code_bytes < room ? x->code_bytes : room;
    return !n || (cc_in_ram(m, gpa, n) && !memcmp(m->ram + gpa, x->code, n));
}

/* The op in front of a watched instruction: log that it is about to be executed, or leave before it. */
static __attribute__((noinline)) bool arrive(cc_cpu *cpu, uint64_t pc, uint64_t instret)
{
    cc_machine *m = cpu->m;
    struct cc_watches *w = m->watches;
    uint64_t gpa = 0;
    if (!w || instret == w->resumed_at)
        return true;
    const bool stops = (m->stop_at & CC_AT_WATCH) && w->stop_vns == CC_NEVER
                       && !(instret == w->passed_instret && pc == w->passed_rip);
    (void)cc_soft_translate(m, pc, &gpa);
    for (uint32_t i = 0; i < w->n; i++) {
        const cc_watch *x = &w->watch[i];
        if (!code_watched(x, pc, gpa) || !concerns(x, cpu) || !is_code(x, m, gpa))
            continue;
        const cc_watch_hit h = {
            .instret = instret, .vns = cc_vns_at(m, instret), .rip = pc, .address = pc, .gpa = gpa, .va = pc,
            .cr3 = cpu->cr3, .rsp = cpu->r[CC_RSP], .watch = i, .kind = CC_WATCH_EXECUTE, .who = CC_BY_INSTRUCTION,
            .frame_offset = CC_NO_OFFSET, .flags = instret == w->interrupted_at ? CC_HIT_AFTER_INTERRUPT : 0,
            .cpl = cpu->cpl,
        };
        if (stops) {
            w->stop_hit = h;
            w->stop_vns = h.vns;
            w->stopped_before = true;
            w->passed_instret = instret;
            w->passed_rip = pc;
            m->kick |= CC_KICK_RESCHED;
            return false;
        }
        cc_watch_log(m, &h);
    }
    return true;
}

static CC_OP(watch_here)
{
    const uint64_t pc = cc_op_pc(cpu, op);
    if (cc_unlikely(!arrive(cpu, pc, cc_op_instret(cpu, op, budget))))
        return cc_exit(cpu, pc, budget + op->rem);
    CC_NEXT();
}

void cc_watch_code(cc_cpu *cpu, cc_block *b, unsigned at)
{
    const struct cc_watches *w = cpu->m->watches;
    if (cc_likely(!w) || !any_code_watched(w, b->vbase + b->off, ((uint64_t)b->phys_page << CC_PAGE_SHIFT) + b->off))
        return;
    cc_op *op = &b->ops[at];
    memmove(op + 1, op, (b->nops - at) * sizeof *op);
    memset(op, 0, sizeof *op);
    op->fn = watch_here;
    op->off = b->off;
    op->rem = (uint8_t)b->n;
    b->nops++;
}

bool cc_decode_watched(cc_cpu *cpu, cc_block *b, const uint8_t *code, unsigned avail, unsigned off, uint32_t max)
{
    const struct cc_watches *w = cpu->m->watches;
    if (cc_likely(!w || !(w->kinds & CC_WATCH_EXECUTE)))
        return cc_decode_block(cpu, b, code, avail, off, max);
    const uint64_t va = b->vbase + off, gpa = ((uint64_t)b->phys_page << CC_PAGE_SHIFT) + off;
    const unsigned free_bytes = unwatched(w, va, gpa, avail);
    /* An instruction that a watch lies in the middle of is one like others: alone. */
    if (!cc_decode_block(cpu, b, code, free_bytes, off, max)
        && (free_bytes == avail || !cc_decode_block(cpu, b, code, avail, off, 1)))
        return false;
    cc_watch_code(cpu, b, 0);
    return true;
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------ */
void cc_watches_begin(cc_cpu *cpu)
{
    struct cc_watches *w = cpu->m->watches;
    w->resumed_at = cpu->rflags & FL_RF ? cpu->m->instret : CC_NEVER;
    w->stopped_before = false;
    w->executing = true;
}

void cc_soft_watches_changed(cc_machine *m, uint32_t old_kinds, uint32_t kinds)
{
    cc_cpu *cpu = m->vcpu;
    if ((old_kinds | kinds) & CC_WATCH_EXECUTE)
        cc_code_flush(cpu);
    if ((old_kinds | kinds) & (CC_WATCH_READ | CC_WATCH_WRITE))
        cc_tlb_flush(cpu);
}
