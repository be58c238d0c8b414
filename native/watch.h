/*
 * watch.h: between watch.c, which keeps what is watched and what was met, and those who meet it: the soft CPU
 * (soft/watch.c), devices that write to memory, and the run loop.
 *
 * All of it is the host's: no snapshot, no digest and no guest can tell.  m->watches is NULL while nothing is watched.
 */
#ifndef CC_WATCH_H
#define CC_WATCH_H

#include "machine.h"

#define CC_WATCH_STAGED_MAX 256u
#define CC_WATCH_LOG_HALF (CC_WATCH_LOG_MAX / 2)

struct cc_watches {
    uint32_t n;
    uint32_t kinds;                     /* of all of them together */
    cc_watch watch[CC_WATCHES_MAX];

    /* met by the instruction (or event) that is under way; logged at the boundary, when it is certain and dated */
    uint32_t nstaged;
    cc_watch_hit staged[CC_WATCH_STAGED_MAX];
    uint8_t kept[CC_WATCH_STAGED_MAX];  /* also if the instruction faults */

    /* the log: the oldest and the newest */
    uint64_t total;
    cc_watch_hit first[CC_WATCH_LOG_HALF], last[CC_WATCH_LOG_HALF];

    /* a stop that is due once virtual time is there; CC_NEVER: none */
    uint64_t stop_vns;
    cc_watch_hit stop_hit;
    uint64_t passed_instret, passed_rip;    /* the instruction that a run begins at does not stop it */
    uint64_t resumed_at;                /* instret at which an instruction goes on: RF was set, it is no new arrival */
    uint64_t interrupted_at;            /* instret at which the last interrupt was taken */
    bool stopped_before;                /* the instruction was stopped at, and has not begun */
    bool executing;                     /* in a block: cpu->rip is not the instruction's */

    /* what a device is doing */
    uint32_t device;
    bool has_frame;
    uint32_t frame_src;
    uint64_t frame_serial;
    uint32_t header_bytes;              /* before the frame in its buffer */
};

/* Note a hit of watch i by whoever h says; kept: also if the instruction under way faults. */
void cc_watch_stage(cc_machine *m, uint32_t i, const cc_watch_hit *h, bool kept);
/* The block has been left.  If its last instruction faulted, what that met does not count. */
void cc_watches_executed(cc_machine *m, bool faulted);
/* The boundary after it, or after an event: log it, and stop the run if it was asked to.  event: nothing has retired
 * since, so that the first position behind it is a nanosecond later. */
void cc_watches_commit(cc_machine *m, bool event);
void cc_watch_log(cc_machine *m, const cc_watch_hit *h);
/* The machine is elsewhere: nothing is under way. */
void cc_watches_moved(cc_machine *m);
void cc_watches_free(cc_machine *m);

static inline bool cc_watch_overlaps(const cc_watch *w, uint64_t at, uint64_t size)
{
    return at - w->address < w->size || w->address - at < size;
}

/* ---- devices ------------------------------------------------------------------------------------------------------- */
/* [gpa, gpa+size) was written or read by a device; chain_offset: where in its buffer. */
void cc_watch_dma_slow(cc_machine *m, uint64_t gpa, uint64_t size, uint32_t kind, uint32_t chain_offset);

static inline void cc_watch_dma(cc_machine *m, uint64_t gpa, uint64_t size, uint32_t kind, uint32_t chain_offset)
{
    if (cc_unlikely(m->watches != NULL))
        cc_watch_dma_slow(m, gpa, size, kind, chain_offset);
}

static inline void cc_watch_device(cc_machine *m, uint32_t device)
{
    if (cc_unlikely(m->watches != NULL))
        m->watches->device = device;
}

/* Writes to memory are of this frame until cc_watch_frame_done(). */
void cc_watch_frame(cc_machine *m, uint32_t src, uint64_t serial, uint32_t header_bytes);
void cc_watch_frame_done(cc_machine *m);
/* A frame was sent to or received from another machine; gpa[i] and size[i]: where its n pieces lie. */
struct cc_watch_piece { uint64_t gpa; uint32_t size; };
void cc_watch_frame_passed(cc_machine *m, uint32_t kind, uint64_t serial, uint32_t peer, bool to_all,
                           const struct cc_watch_piece *piece, unsigned n, uint32_t header_bytes, uint32_t size);

#endif
