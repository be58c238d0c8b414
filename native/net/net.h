/*
 * net.h: packets between a machine's network device and the fabric.  Internal to native/.
 *
 * A machine has an outbox (frames that its device has sent, dated, in order) and an inbox (frames on their way to it,
 * ordered by arrival time, then by the order in which they were queued).  Both live in CC_AUX_NET, so they are part of
 * its snapshots and digest.  While a machine runs, only it touches them; between runs the fabric moves frames
 * from outboxes to inboxes.
 */
#ifndef CC_NET_H
#define CC_NET_H

#include "../machine.h"

struct cc_frame {
    uint64_t vns;                  /* sent (outbox), or arrives (inbox) */
    uint64_t serial;               /* of the machine that sent it: counts its frames from 0 */
    uint32_t src;                  /* machine that sent it */
    uint32_t size;
    const uint8_t *data;           /* in the aux memory: valid until the next change of the box */
};

/* queue.c */
void cc_net_reset(cc_machine *m);                       /* forgets what is on its way to it */
/* The device sends a frame now; false if the outbox is full, and then it is dropped and counted. */
bool cc_outbox_push(cc_machine *m, const uint8_t *data, uint32_t size);
uint64_t cc_outbox_serial(const cc_machine *m);          /* of the frame that is sent next */
bool cc_outbox_first(const cc_machine *m, struct cc_frame *out);
bool cc_outbox_at(const cc_machine *m, uint32_t i, struct cc_frame *out);    /* the i-th from the first */
void cc_outbox_pop(cc_machine *m);
uint64_t cc_outbox_dropped(const cc_machine *m);        /* frames that found no room */
/* The fabric queues a frame for arrival at f->vns and arms CC_EV_NET; false if the inbox is full. */
bool cc_inbox_push(cc_machine *m, const struct cc_frame *f);
/* The frame that arrives first, whether or not its time has come. */
bool cc_inbox_first(const cc_machine *m, struct cc_frame *out);
void cc_inbox_pop(cc_machine *m);                       /* arms CC_EV_NET for the next one */
uint32_t cc_inbox_count(const cc_machine *m);
uint32_t cc_inbox_room(const cc_machine *m);            /* frames that it can still take */
/* The inbox by place, 0 to count - 1, in an order that any change of it changes.  Returns the frame's number: frames are
 * numbered as they are queued. */
uint64_t cc_inbox_at(const cc_machine *m, uint32_t place, struct cc_frame *out);
void cc_inbox_remove(cc_machine *m, uint32_t place);
void cc_inbox_move(cc_machine *m, uint32_t place, uint64_t vns);             /* it arrives then */
void cc_inbox_write(cc_machine *m, uint32_t place, const uint8_t *data);     /* as many bytes as it has */

#endif
