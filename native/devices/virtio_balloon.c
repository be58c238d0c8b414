/*
 * virtio_balloon.c: the memory balloon (virtio 1.2, section 5.5): pages that the guest gives up are zeroed at once, so
 * a driver that goes on using one finds out.  VIRTIO_BALLOON_F_DEFLATE_ON_OOM is not offered: the pressure is real.
 */
#include "virtio.h"
#include "../watch.h"

enum { INFLATE, DEFLATE };

#define PFNS_AT_A_TIME 256u

static bool is_zero(const uint8_t *page)
{
    for (unsigned i = 0; i < CC_PAGE_SIZE; i += 8) {
        uint64_t v;
        memcpy(&v, page + i, sizeof v);
        if (v)
            return false;
    }
    return true;
}

static void discard(cc_machine *m, uint64_t gpa)
{
    if (is_zero(m->ram + gpa))
        return;
    cc_ram_will_change(m, gpa, CC_PAGE_SIZE);
    memset(m->ram + gpa, 0, CC_PAGE_SIZE);
    cc_watch_dma(m, gpa, CC_PAGE_SIZE, CC_WATCH_WRITE, 0);
}

/* 5.5.6: an array of 32-bit page numbers.  False if it is none. */
static bool give_up(cc_machine *m, const struct cc_chain *c, bool inflate)
{
    uint32_t pfn[PFNS_AT_A_TIME];
    if (c->readable != c->count || c->read_bytes % sizeof *pfn)
        return false;
    for (uint32_t at = 0; at < c->read_bytes; at += sizeof pfn) {
        const uint32_t n = cc_chain_read(m, c, at, pfn, sizeof pfn) / (uint32_t)sizeof *pfn;
        for (uint32_t i = 0; i < n; i++) {
            const uint64_t gpa = (uint64_t)pfn[i] << CC_PAGE_SHIFT;
            if (!cc_in_ram(m, gpa, CC_PAGE_SIZE))
                return false;
            if (inflate)
                discard(m, gpa);
        }
    }
    return true;
}

static void notify(cc_machine *m, unsigned queue)
{
    struct cc_chain c;
    while (cc_vq_next(m, CC_VIRTIO_BALLOON, queue, &c)) {
        if (!give_up(m, &c, queue == INFLATE)) {
            cc_virtio_break(m, CC_VIRTIO_BALLOON, "a request without a list of pages in memory");
            return;
        }
        cc_vq_use(m, CC_VIRTIO_BALLOON, queue, c.head, 0);
        cc_vq_interrupt(m, CC_VIRTIO_BALLOON, queue);
    }
}

/* 5.5.4: num_pages, actual */
static void config(const cc_machine *m, uint8_t *dst)
{
    memcpy(dst, &m->dev.balloon.target_pages, 4);
    memcpy(dst + 4, &m->dev.balloon.actual_pages, 4);
}

static void config_write(cc_machine *m, uint32_t offset, uint8_t value)
{
    if (offset < 4)
        return;
    const unsigned shift = 8 * (offset - 4);
    uint32_t *actual = &m->dev.balloon.actual_pages;
    *actual = (*actual & ~(0xFFu << shift)) | (uint32_t)value << shift;
}

const struct cc_virtio_class cc_virtio_balloon = {
    .name = "balloon", .id = 5, .irq = 9, .queues = 2, .num_max = 64, .config_bytes = 8,
    .config = config, .config_write = config_write, .notify = notify,
};

int cc_balloon_set(cc_machine *m, uint32_t pages)
{
    if (!(m->cfg.devices & CC_DEV_BALLOON))
        return cc_fail(m, CC_EINVAL, "the machine has no memory balloon; add it to its devices");
    if (pages > m->cfg.ram_bytes >> CC_PAGE_SHIFT)
        return cc_fail(m, CC_EINVAL, "a balloon of %u pages: the machine has %llu", pages,
                       (unsigned long long)(m->cfg.ram_bytes >> CC_PAGE_SHIFT));
    m->dev.balloon.target_pages = pages;
    cc_virtio_config_changed(m, CC_VIRTIO_BALLOON);
    return CC_OK;
}

uint32_t cc_balloon_pages(const cc_machine *m)
{
    return m->dev.balloon.actual_pages;
}
