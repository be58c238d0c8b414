/*
 * virtio_net.c: the network device (virtio 1.2, section 5.1), one pair of queues, no offloads.  A frame sent goes to
 * the outbox at once; a frame arrives when its time in the inbox has come, and is dropped if there is no buffer for it.
 */
#include "virtio.h"
#include "../net/net.h"
#include "../watch.h"

#define F_MTU (UINT64_C(1) << 3)
#define F_MAC (UINT64_C(1) << 5)
#define F_STATUS (UINT64_C(1) << 16)

enum { RECEIVE, TRANSMIT };

/* 5.1.6: with VIRTIO_F_VERSION_1 num_buffers is always there. */
struct header {
    uint8_t flags, gso_type;
    uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
_Static_assert(sizeof(struct header) == 12, "5.1.6");

#define FRAME_BYTES_MIN 14u            /* the Ethernet header */
#define MTU 1500u
#define LINK_UP 1u

static cc_net_counters *counters(cc_machine *m)
{
    return &m->dev.net.counters;
}

/* For whoever watches frames; the addresses are those of the guest's buffer. */
static void frame_passed(cc_machine *m, const struct cc_chain *c, const struct cc_frame *f, uint32_t kind)
{
    struct cc_watch_piece piece[CC_CHAIN_MAX];
    unsigned n = 0;
    if (cc_likely(!m->watches))
        return;
    for (unsigned i = kind == CC_WATCH_SENT ? 0 : c->readable; i < c->count; i++)
        piece[n++] = (struct cc_watch_piece){c->segment[i].gpa, c->segment[i].size};
    const bool sent = kind == CC_WATCH_SENT;
    cc_watch_frame_passed(m, kind, f->serial, sent ? f->data[5] : f->src, sent && (f->data[0] & 1), piece, n,
                          sizeof(struct header), f->size);
}

static void send(cc_machine *m, const struct cc_chain *c)
{
    struct header h;
    uint8_t frame[CC_FRAME_BYTES_MAX];
    const uint32_t size = c->read_bytes - (uint32_t)sizeof h;
    cc_chain_read(m, c, 0, &h, sizeof h);
    /* Work for an offload that was not negotiated: such a frame is not fit to be sent. */
    const bool whole = !h.flags && !h.gso_type && size >= FRAME_BYTES_MIN && size <= sizeof frame;
    if (whole)
        cc_chain_read(m, c, sizeof h, frame, size);
    if (!whole || m->dev.net.link_down || !cc_outbox_push(m, frame, size)) {
        counters(m)->tx_dropped++;
        return;
    }
    counters(m)->tx_frames++;
    counters(m)->tx_bytes += size;
    const struct cc_frame sent = {.serial = cc_outbox_serial(m) - 1, .size = size, .data = frame};
    frame_passed(m, c, &sent, CC_WATCH_SENT);
}

static void notify(cc_machine *m, unsigned queue)
{
    struct cc_chain c;
    while (queue == TRANSMIT && cc_vq_next(m, CC_VIRTIO_NET, TRANSMIT, &c)) {
        if (c.readable != c.count || c.read_bytes < sizeof(struct header)) {
            cc_virtio_break(m, CC_VIRTIO_NET, "a frame without a header, or with something to write");
            return;
        }
        send(m, &c);
        cc_vq_use(m, CC_VIRTIO_NET, TRANSMIT, c.head, 0);
        cc_vq_interrupt(m, CC_VIRTIO_NET, TRANSMIT);
    }
}

/* False if the guest cannot take it. */
static bool receive(cc_machine *m, const struct cc_frame *f)
{
    const struct header h = {.num_buffers = 1};
    struct cc_chain c;
    if (m->dev.net.link_down || !cc_vq_next(m, CC_VIRTIO_NET, RECEIVE, &c))
        return false;
    if (c.readable) {
        cc_virtio_break(m, CC_VIRTIO_NET, "a receive buffer that cannot be written");
        return false;
    }
    if (c.write_bytes < sizeof h + f->size) {
        cc_vq_put_back(m, CC_VIRTIO_NET, RECEIVE);
        return false;
    }
    cc_watch_frame(m, f->src, f->serial, sizeof h);
    cc_chain_write(m, &c, 0, &h, sizeof h);
    cc_chain_write(m, &c, sizeof h, f->data, f->size);
    cc_watch_frame_done(m);
    frame_passed(m, &c, f, CC_WATCH_RECEIVED);
    cc_vq_use(m, CC_VIRTIO_NET, RECEIVE, c.head, (uint32_t)sizeof h + f->size);
    cc_vq_interrupt(m, CC_VIRTIO_NET, RECEIVE);
    return true;
}

/* One frame; taking it out of the inbox arms the event for the next one. */
void cc_netdev_fire(cc_machine *m)
{
    struct cc_frame f;
    if (!cc_inbox_first(m, &f))
        return;
    if (receive(m, &f)) {
        counters(m)->rx_frames++;
        counters(m)->rx_bytes += f.size;
    } else {
        counters(m)->rx_dropped++;
    }
    cc_inbox_pop(m);
}

/* 5.1.4; the address is from the range that QEMU uses, locally administered. */
static void config(const cc_machine *m, uint8_t *dst)
{
    const uint8_t mac[6] = {0x52, 0x54, 0x00, 0x12, 0x34, (uint8_t)m->cfg.machine_id};
    const uint16_t rest[] = {m->dev.net.link_down ? 0 : LINK_UP, 1, MTU};    /* status, max_virtqueue_pairs, mtu */
    memcpy(dst, mac, sizeof mac);
    memcpy(dst + sizeof mac, rest, sizeof rest);
}

const struct cc_virtio_class cc_virtio_net = {
    .name = "net", .id = 1, .irq = 6, .queues = 2, .num_max = 256, .quiet = 1u << RECEIVE, .config_bytes = 12,
    .features = F_MTU | F_MAC | F_STATUS,
    .config = config, .notify = notify,
};

void cc_net_get_counters(const cc_machine *m, cc_net_counters *out)
{
    *out = m->dev.net.counters;
}

int cc_net_set_link(cc_machine *m, bool up)
{
    if (!(m->cfg.devices & CC_DEV_NET))
        return cc_fail(m, CC_EINVAL, "the machine has no network device; add it to its devices");
    if (up != !m->dev.net.link_down) {
        m->dev.net.link_down = !up;
        cc_virtio_config_changed(m, CC_VIRTIO_NET);
    }
    return CC_OK;
}
