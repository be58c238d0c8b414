/* virtio_rng.c: the entropy device (virtio 1.2, section 5.4): the machine's random stream "rng". */
#include "virtio.h"

#define BYTES_MAX 4096u        /* per request; a driver must cope with less than it asked for */

static void notify(cc_machine *m, unsigned queue)
{
    struct cc_chain c;
    while (cc_vq_next(m, CC_VIRTIO_RNG, queue, &c)) {
        if (c.readable || !c.write_bytes) {
            cc_virtio_break(m, CC_VIRTIO_RNG, "a request for entropy with something to read");
            return;
        }
        uint8_t data[BYTES_MAX];
        const uint32_t size = c.write_bytes < BYTES_MAX ? c.write_bytes : BYTES_MAX;
        cc_stream_read(&m->dev.rng, data, size);
        cc_chain_write(m, &c, 0, data, size);
        cc_vq_use(m, CC_VIRTIO_RNG, queue, c.head, size);
        cc_vq_interrupt(m, CC_VIRTIO_RNG, queue);
    }
}

const struct cc_virtio_class cc_virtio_rng = {
    .name = "rng", .id = 4, .irq = 7, .queues = 1, .num_max = 64, .notify = notify,
};
