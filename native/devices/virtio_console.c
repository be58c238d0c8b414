/*
 * virtio_console.c: a console device with one port (virtio 1.2, section 5.3): the guest agent's channel.  What the
 * guest writes is queued as CC_EVENT_AGENT events; what the host sends waits in a ring until the guest has room.
 */
#include "virtio.h"

enum { RECEIVE, TRANSMIT };

/* Fill the guest's buffers from the ring. */
static void receive(cc_machine *m)
{
    struct cc_vconsole *v = &m->dev.vconsole;
    bool any = false;
    struct cc_chain c;
    while (v->count && cc_vq_next(m, CC_VIRTIO_CONSOLE, RECEIVE, &c)) {
        if (c.readable) {
            cc_virtio_break(m, CC_VIRTIO_CONSOLE, "a receive buffer that cannot be written");
            return;
        }
        uint32_t done = 0;
        while (done < c.write_bytes && v->count) {
            uint32_t n = CC_AGENT_RING - v->head;
            n = n < v->count ? n : v->count;
            n = n < c.write_bytes - done ? n : c.write_bytes - done;
            cc_chain_write(m, &c, done, v->ring + v->head, n);
            v->head = (v->head + n) % CC_AGENT_RING;
            v->count -= n;
            done += n;
        }
        cc_vq_use(m, CC_VIRTIO_CONSOLE, RECEIVE, c.head, done);
        any = true;
    }
    if (any)
        cc_vq_interrupt(m, CC_VIRTIO_CONSOLE, RECEIVE);
}

#define TRANSMIT_BYTES_MAX (1u << 20)          /* of a request; the rest of an absurd one is dropped */

static void transmit(cc_machine *m)
{
    struct cc_chain c;
    while (cc_vq_next(m, CC_VIRTIO_CONSOLE, TRANSMIT, &c)) {
        if (c.readable != c.count) {
            cc_virtio_break(m, CC_VIRTIO_CONSOLE, "output that cannot be read");
            return;
        }
        uint8_t data[CC_EVENT_BYTES_MAX];
        for (uint32_t at = 0; at < c.read_bytes && at < TRANSMIT_BYTES_MAX; at += sizeof data)
            cc_event_log(m, CC_EVENT_AGENT, data, cc_chain_read(m, &c, at, data, sizeof data));
        cc_vq_use(m, CC_VIRTIO_CONSOLE, TRANSMIT, c.head, 0);
        cc_vq_interrupt(m, CC_VIRTIO_CONSOLE, TRANSMIT);
    }
}

static void notify(cc_machine *m, unsigned queue)
{
    if (queue == RECEIVE)
        receive(m);
    else
        transmit(m);
}

const struct cc_virtio_class cc_virtio_console = {
    .name = "console", .id = 3, .irq = 10, .queues = 2, .num_max = 64, .notify = notify,
};

size_t cc_agent_send(cc_machine *m, const uint8_t *src, size_t size)
{
    struct cc_vconsole *v = &m->dev.vconsole;
    if (!(m->cfg.devices & CC_DEV_CONSOLE))
        return 0;
    if (size > CC_AGENT_RING - v->count)
        size = CC_AGENT_RING - v->count;
    for (size_t i = 0; i < size; i++)
        v->ring[(v->head + v->count++) % CC_AGENT_RING] = src[i];
    receive(m);
    return size;
}
