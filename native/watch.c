/*
 * watch.c: breakpoints and watchpoints of the host: what is watched, what was met, and the stop that it asks for.
 *
 * An access is met in the middle of an instruction, which may still fault, and its date is known at the boundary after
 * it.  So it is staged first, and logged when the instruction has retired.
 */
#include "watch.h"

#include <stdlib.h>

#define KINDS_DATA (CC_WATCH_WRITE | CC_WATCH_READ)
#define KINDS_FRAME (CC_WATCH_SENT | CC_WATCH_RECEIVED)
#define KINDS (CC_WATCH_EXECUTE | KINDS_DATA | KINDS_FRAME)
#define FLAGS (CC_WATCH_PHYSICAL | CC_WATCH_OUTSIDE | CC_WATCH_USER)

/* ---- the list ------------------------------------------------------------------------------------------------------- */
static int check(cc_machine *m, const cc_watch *w, uint32_t i)
{
    if (!w->kinds || (w->kinds & ~KINDS))
        return cc_fail(m, CC_EINVAL, "watch %u: kinds 0x%x; known are 0x%x", i, w->kinds, KINDS);
    if (w->flags & ~FLAGS)
        return cc_fail(m, CC_EINVAL, "watch %u: flags 0x%x; known are 0x%x", i, w->flags, FLAGS);
    if ((w->kinds & KINDS_FRAME) && (w->kinds & ~KINDS_FRAME))
        return cc_fail(m, CC_EINVAL, "watch %u: frames and memory in one; make two of it", i);
    if ((w->flags & CC_WATCH_OUTSIDE) && (w->kinds != CC_WATCH_EXECUTE || (w->flags & CC_WATCH_PHYSICAL)))
        return cc_fail(m, CC_EINVAL, "watch %u: only execution at virtual addresses can be watched outside a range", i);
    if (w->code_bytes && (w->kinds != CC_WATCH_EXECUTE || (w->flags & CC_WATCH_OUTSIDE)))
        return cc_fail(m, CC_EINVAL, "watch %u: only instructions are known by their code", i);
    if (w->code_bytes > CC_WATCH_CODE_MAX)
        return cc_fail(m, CC_EINVAL, "watch %u: %u bytes of code: at most %u", i, w->code_bytes, CC_WATCH_CODE_MAX);
    if (!(w->kinds & KINDS_FRAME) && !w->size)
        return cc_fail(m, CC_EINVAL, "watch %u: no bytes", i);
    return CC_OK;
}

int cc_watches_set(cc_machine *m, const cc_watch *list, uint32_t count)
{
    if (count && !m->ops->watches_changed)
        return cc_fail(m, CC_ENOTSUP, "breakpoints and watchpoints are the soft vCPU's: start the machine on it");
    if (count > CC_WATCHES_MAX)
        return cc_fail(m, CC_EINVAL, "%u watches: at most %u", count, CC_WATCHES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        const int rc = check(m, &list[i], i);
        if (rc)
            return rc;
    }
    const uint32_t before = m->watches ? m->watches->kinds : 0;
    struct cc_watches *w = NULL;
    if (count) {
        w = calloc(1, sizeof *w);
        if (!w)
            return cc_fail(m, CC_ENOMEM, "the host refused memory for a list of watches");
        w->n = count;
        for (uint32_t i = 0; i < count; i++) {
            w->watch[i] = list[i];
            w->kinds |= list[i].kinds;
        }
    }
    cc_watches_free(m);
    m->watches = w;
    if (w)
        cc_watches_moved(m);
    if (before || w)
        m->ops->watches_changed(m, before, w ? w->kinds : 0);
    return CC_OK;
}

void cc_watches_free(cc_machine *m)
{
    free(m->watches);
    m->watches = NULL;
}

void cc_watches_moved(cc_machine *m)
{
    struct cc_watches *w = m->watches;
    if (!w)
        return;
    w->nstaged = 0;
    w->stop_vns = CC_NEVER;
    w->passed_instret = w->resumed_at = w->interrupted_at = CC_NEVER;
    w->stopped_before = w->has_frame = w->executing = false;
}

void cc_watch_pass(cc_machine *m)
{
    cc_regs r;
    if (!m->watches)
        return;
    m->ops->get_regs(m, &r);
    m->watches->passed_instret = m->instret;
    m->watches->passed_rip = r.rip;
}

/* ---- what was met ----------------------------------------------------------------------------------------------------- */
void cc_watch_log(cc_machine *m, const cc_watch_hit *h)
{
    struct cc_watches *w = m->watches;
    const uint64_t at = w->total++;
    if (at < CC_WATCH_LOG_HALF)
        w->first[at] = *h;
    else
        w->last[(at - CC_WATCH_LOG_HALF) % CC_WATCH_LOG_HALF] = *h;
}

size_t cc_watch_take(cc_machine *m, cc_watch_hit *dst, uint64_t *lost)
{
    struct cc_watches *w = m->watches;
    *lost = 0;
    if (!w)
        return 0;
    const uint64_t total = w->total, newer = total > CC_WATCH_LOG_HALF ? total - CC_WATCH_LOG_HALF : 0;
    const uint64_t kept = newer < CC_WATCH_LOG_HALF ? newer : CC_WATCH_LOG_HALF;
    memcpy(dst, w->first, (size_t)(total - newer) * sizeof *dst);
    for (uint64_t i = 0; i < kept; i++)
        dst[total - newer + i] = w->last[(newer - kept + i) % CC_WATCH_LOG_HALF];
    *lost = newer - kept;
    w->total = 0;
    return (size_t)(total - *lost);
}

int cc_watch_hit_get(const cc_machine *m, cc_watch_hit *out)
{
    if (!m->watches || m->watches->stop_hit.kind == 0)
        return CC_EINVAL;
    *out = m->watches->stop_hit;
    return CC_OK;
}

void cc_watch_stage(cc_machine *m, uint32_t i, const cc_watch_hit *h, bool kept)
{
    struct cc_watches *w = m->watches;
    /* One instruction meets a handful; what a device does in one event may be more, and then its end is not logged. */
    if (w->nstaged == CC_WATCH_STAGED_MAX)
        return;
    w->staged[w->nstaged] = *h;
    w->staged[w->nstaged].watch = i;
    w->kept[w->nstaged++] = kept;
}

void cc_watches_executed(cc_machine *m, bool faulted)
{
    struct cc_watches *w = m->watches;
    uint32_t n = 0;
    w->executing = false;
    if (!faulted)
        return;
    for (uint32_t i = 0; i < w->nstaged; i++)
        if (w->kept[i]) {
            w->staged[n] = w->staged[i];
            w->kept[n++] = 1;
        }
    w->nstaged = n;
}

void cc_watches_commit(cc_machine *m, bool event)
{
    struct cc_watches *w = m->watches;
    cc_regs r;
    const uint32_t n = w->nstaged;
    w->nstaged = 0;
    m->ops->get_regs(m, &r);
    for (uint32_t i = 0; i < n; i++) {
        cc_watch_hit *h = &w->staged[i];
        h->instret = m->instret;
        h->vns = cc_now(m) + event;
        h->cr3 = r.cr3;
        h->rsp = r.gpr[4];
        cc_watch_log(m, h);
        if ((m->stop_at & CC_AT_WATCH) && w->stop_vns == CC_NEVER) {
            w->stop_hit = *h;
            w->stop_vns = h->vns;
            m->kick |= CC_KICK_RESCHED;
        }
    }
}

/* ---- devices ------------------------------------------------------------------------------------------------------------ */
static void note_value(const cc_machine *m, cc_watch_hit *h, uint64_t gpa, uint64_t size)
{
    memcpy(h->value, m->ram + gpa, size < sizeof h->value ? size : sizeof h->value);
}

/* A virtual range is looked at through the page tables in use, page by page: a device knows physical addresses only. */
static bool virtual_touched(cc_machine *m, const cc_watch *w, const cc_regs *r, uint64_t gpa, uint64_t size,
                            cc_watch_hit *h)
{
    if (w->cr3 != CC_ANY_CR3 && ((w->cr3 ^ r->cr3) & ~UINT64_C(0xfff)))
        return false;
    for (uint64_t at = 0, left; at < w->size; at += left) {
        uint64_t va = w->address + at, to;
        left = CC_PAGE_SIZE - (va & (CC_PAGE_SIZE - 1));
        if (left > w->size - at)
            left = w->size - at;
        if (m->ops->translate(m, va, &to) == CC_OK && (gpa - to < left || to - gpa < size)) {
            h->gpa = gpa - to < left ? gpa : to;
            h->address = va + (h->gpa - to);
            return true;
        }
    }
    return false;
}

#define DMA_PAGES_MAX 64u      /* of a virtual range that is looked at for devices */

void cc_watch_dma_slow(cc_machine *m, uint64_t gpa, uint64_t size, uint32_t kind, uint32_t chain_offset)
{
    struct cc_watches *w = m->watches;
    cc_regs r;
    if (!(w->kinds & kind))
        return;
    m->ops->get_regs(m, &r);
    for (uint32_t i = 0; i < w->n; i++) {
        const cc_watch *x = &w->watch[i];
        cc_watch_hit h = {.kind = kind, .who = CC_BY_DEVICE, .device = w->device, .size = (uint32_t)size,
                          .va = gpa, .frame_offset = CC_NO_OFFSET};
        if (!(x->kinds & kind))
            continue;
        if (x->flags & CC_WATCH_PHYSICAL) {
            if (!cc_watch_overlaps(x, gpa, size))
                continue;
            h.gpa = h.address = gpa - x->address < x->size ? gpa : x->address;
        } else if (x->size > DMA_PAGES_MAX * CC_PAGE_SIZE || !virtual_touched(m, x, &r, gpa, size, &h)) {
            continue;
        }
        if (w->has_frame) {
            const uint64_t at = chain_offset + (h.gpa - gpa);
            h.peer = w->frame_src;
            h.serial = w->frame_serial;
            h.flags |= CC_HIT_FRAME;
            if (at >= w->header_bytes)
                h.frame_offset = (uint32_t)(at - w->header_bytes);
        }
        note_value(m, &h, gpa, size);
        cc_watch_stage(m, i, &h, true);
        m->kick |= CC_KICK_RESCHED;
    }
}

void cc_watch_frame(cc_machine *m, uint32_t src, uint64_t serial, uint32_t header_bytes)
{
    struct cc_watches *w = m->watches;
    if (!w)
        return;
    w->has_frame = true;
    w->frame_src = src;
    w->frame_serial = serial;
    w->header_bytes = header_bytes;
}

void cc_watch_frame_done(cc_machine *m)
{
    if (m->watches)
        m->watches->has_frame = false;
}

/* Where byte `at` of the pieces lies; 0 if they end before it. */
static uint64_t piece_gpa(const struct cc_watch_piece *piece, unsigned n, uint64_t at)
{
    for (unsigned i = 0; i < n; i++) {
        if (at < piece[i].size)
            return piece[i].gpa + at;
        at -= piece[i].size;
    }
    return 0;
}

void cc_watch_frame_passed(cc_machine *m, uint32_t kind, uint64_t serial, uint32_t peer, bool to_all,
                           const struct cc_watch_piece *piece, unsigned n, uint32_t header_bytes, uint32_t size)
{
    struct cc_watches *w = m->watches;
    if (!w || !(w->kinds & kind))
        return;
    for (uint32_t i = 0; i < w->n; i++) {
        const cc_watch *x = &w->watch[i];
        if (!(x->kinds & kind) || (x->address != CC_ANY_FRAME && x->address != serial)
            || (x->peer != CC_ANY_PEER && x->peer != peer && !to_all) || x->size >= size)
            continue;
        const cc_watch_hit h = {.kind = kind, .who = CC_BY_DEVICE, .device = w->device, .size = size,
                                .gpa = piece_gpa(piece, n, header_bytes + x->size), .peer = to_all ? CC_ANY_PEER : peer,
                                .serial = serial, .frame_offset = (uint32_t)x->size, .flags = CC_HIT_FRAME};
        cc_watch_stage(m, i, &h, true);
        m->kick |= CC_KICK_RESCHED;
    }
}
