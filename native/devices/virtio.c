/*
 * virtio.c: the virtio-mmio transport, version 2 (virtio 1.2, section 4.2.2), and split virtqueues (section 2.7).
 *
 * Everything that the driver has put into memory is checked each time it is read, and nothing is done beyond what was
 * checked: a chain is walked to its end before its first byte is used.  A driver that breaks a rule gets
 * DEVICE_NEEDS_RESET and a configuration interrupt.
 */
#include "virtio.h"
#include "../watch.h"

/* 4.2.2: registers */
#define REG_MAGIC 0x000u
#define REG_VERSION 0x004u
#define REG_DEVICE_ID 0x008u
#define REG_VENDOR_ID 0x00Cu
#define REG_DEVICE_FEATURES 0x010u
#define REG_DEVICE_FEATURES_SEL 0x014u
#define REG_DRIVER_FEATURES 0x020u
#define REG_DRIVER_FEATURES_SEL 0x024u
#define REG_QUEUE_SEL 0x030u
#define REG_QUEUE_NUM_MAX 0x034u
#define REG_QUEUE_NUM 0x038u
#define REG_QUEUE_READY 0x044u
#define REG_QUEUE_NOTIFY 0x050u
#define REG_INTERRUPT_STATUS 0x060u
#define REG_INTERRUPT_ACK 0x064u
#define REG_STATUS 0x070u
#define REG_QUEUE_DESC 0x080u
#define REG_QUEUE_DRIVER 0x090u
#define REG_QUEUE_DEVICE 0x0A0u
#define REG_SHM_FIRST 0x0B0u           /* SHMLen and SHMBase: all ones where there is no shared memory */
#define REG_SHM_LAST 0x0BCu
#define REG_GENERATION 0x0FCu
#define REG_CONFIG 0x100u

#define MAGIC 0x74726976u              /* "virt" */
#define VENDOR 0x4343u

/* 2.1: device status */
#define ACKNOWLEDGE 1u
#define DRIVER 2u
#define DRIVER_OK 4u
#define FEATURES_OK 8u
#define NEEDS_RESET 64u
#define FAILED 128u

#define INT_USED 1u
#define INT_CONFIG 2u

/* 6: reserved feature bits */
#define F_INDIRECT_DESC (UINT64_C(1) << 28)
#define F_EVENT_IDX (UINT64_C(1) << 29)
#define F_VERSION_1 (UINT64_C(1) << 32)
#define F_TRANSPORT (F_INDIRECT_DESC | F_EVENT_IDX | F_VERSION_1)

/* 2.7.5: descriptors */
#define DESC_NEXT 1u
#define DESC_WRITE 2u
#define DESC_INDIRECT 4u
#define DESC_BYTES 16u

#define AVAIL_NO_INTERRUPT 1u          /* 2.7.6 */
#define USED_NO_NOTIFY 1u              /* 2.7.8 */

struct desc { uint64_t addr; uint32_t len; uint16_t flags, next; };
_Static_assert(sizeof(struct desc) == DESC_BYTES, "as in memory");
struct used { uint32_t id, len; };

static const struct cc_virtio_class *const classes[CC_VIRTIO_COUNT] = {
    [CC_VIRTIO_BLK] = &cc_virtio_blk,
    [CC_VIRTIO_NET] = &cc_virtio_net,
    [CC_VIRTIO_RNG] = &cc_virtio_rng,
    [CC_VIRTIO_BALLOON] = &cc_virtio_balloon,
    [CC_VIRTIO_CONSOLE] = &cc_virtio_console,
};

/* ---- interrupts ------------------------------------------------------------------------------------------------- */
/* The line falls on its way even if it ends up high: on an edge-triggered input, what comes up while another cause is
 * being acknowledged would otherwise never be noticed. */
static void acknowledge(cc_machine *m, unsigned d, uint32_t causes)
{
    struct cc_virtio *v = &m->dev.virtio[d];
    v->interrupt &= ~causes;
    cc_irq_set(m, classes[d]->irq, false);
    if (v->interrupt)
        cc_irq_set(m, classes[d]->irq, true);
}

static void interrupt(cc_machine *m, unsigned d, uint32_t cause)
{
    m->dev.virtio[d].interrupt |= cause;
    cc_irq_set(m, classes[d]->irq, true);
}

bool cc_virtio_live(const cc_machine *m, unsigned d)
{
    return (m->dev.virtio[d].status & (DRIVER_OK | NEEDS_RESET)) == DRIVER_OK;
}

bool cc_virtio_has(const cc_machine *m, unsigned d, uint64_t feature)
{
    return (m->dev.virtio[d].driver_features & feature) != 0;
}

void cc_virtio_break(cc_machine *m, unsigned d, const char *why)
{
    struct cc_virtio *v = &m->dev.virtio[d];
    if (v->status & NEEDS_RESET)
        return;
    cc_logf(m, "virtio %s: %s; the device needs a reset", classes[d]->name, why);
    v->status |= NEEDS_RESET;
    if (v->status & DRIVER_OK)
        interrupt(m, d, INT_CONFIG);
}

void cc_virtio_config_changed(cc_machine *m, unsigned d)
{
    m->dev.virtio[d].generation++;
    if (cc_virtio_live(m, d))
        interrupt(m, d, INT_CONFIG);
}

/* ---- rings; their addresses were checked when the queue was made ready ------------------------------------------ */
static uint16_t load16(const cc_machine *m, uint64_t gpa)
{
    uint16_t v;
    memcpy(&v, m->ram + gpa, sizeof v);
    return v;
}

static void store16(cc_machine *m, uint64_t gpa, uint16_t v)
{
    cc_ram_will_change(m, gpa, sizeof v);
    memcpy(m->ram + gpa, &v, sizeof v);
    cc_watch_dma(m, gpa, sizeof v, CC_WATCH_WRITE, 0);
}

static uint64_t desc_bytes(unsigned num) { return (uint64_t)DESC_BYTES * num; }
static uint64_t avail_bytes(unsigned num) { return 6 + 2u * (uint64_t)num; }
static uint64_t used_bytes(unsigned num) { return 6 + 8u * (uint64_t)num; }
static uint64_t used_event_gpa(const struct cc_vq *q) { return q->driver + 4 + 2u * q->num; }
static uint64_t avail_event_gpa(const struct cc_vq *q) { return q->device + 4 + 8u * q->num; }

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* Why a queue cannot be used as it was set up; NULL if it can. */
static const char *queue_fault(const cc_machine *m, const struct cc_vq *q, unsigned num_max)
{
    if (!q->num || q->num > num_max || (q->num & (q->num - 1)))
        return "a queue's size is not a power of two that it can have";
    if (q->desc % 16 || q->driver % 2 || q->device % 4)
        return "a ring is not aligned";
    if (!cc_in_ram(m, q->desc, desc_bytes(q->num)) || !cc_in_ram(m, q->driver, avail_bytes(q->num))
        || !cc_in_ram(m, q->device, used_bytes(q->num)))
        return "a ring is not in memory";
    if (overlap(q->device, used_bytes(q->num), q->desc, desc_bytes(q->num))
        || overlap(q->device, used_bytes(q->num), q->driver, avail_bytes(q->num)))
        return "the used ring overlaps another";
    return NULL;
}

/* ---- descriptor chains ------------------------------------------------------------------------------------------- */
/* All faults of a chain are the driver's.  The text says which rule it broke. */
static const char *add_segment(const cc_machine *m, struct cc_chain *c, const struct desc *s)
{
    if (c->count == CC_CHAIN_MAX)
        return "a chain is too long";
    if (!s->len)
        return "a descriptor has no length";
    if (!cc_in_ram(m, s->addr, s->len))
        return "a buffer is not in memory";
    uint32_t *total = s->flags & DESC_WRITE ? &c->write_bytes : &c->read_bytes;
    if (s->len > UINT32_MAX - *total)
        return "a chain is too large";
    if (!(s->flags & DESC_WRITE)) {
        if (c->readable != c->count)
            return "a readable descriptor follows a writable one";
        c->readable++;
    }
    *total += s->len;
    c->segment[c->count++] = (struct cc_segment_gpa){s->addr, s->len};
    return NULL;
}

static const char *collect(const cc_machine *m, unsigned d, const struct cc_vq *q, struct cc_chain *c)
{
    uint64_t table = q->desc;
    uint32_t entries = q->num, i = c->head, steps = 0;
    bool indirect = false;
    for (;;) {
        if (i >= entries)
            return "a descriptor's number is outside its table";
        if (steps++ == entries)
            return "a chain runs in a circle";
        struct desc s;
        memcpy(&s, m->ram + table + (uint64_t)i * DESC_BYTES, sizeof s);
        if (s.flags & ~(DESC_NEXT | DESC_WRITE | DESC_INDIRECT))
            return "a descriptor has unknown flags";
        if (!(s.flags & DESC_INDIRECT)) {
            const char *fault = add_segment(m, c, &s);
            if (fault || !(s.flags & DESC_NEXT))
                return fault;
            i = s.next;
            continue;
        }
        /* 2.7.5.3: not nested, the last of its chain. */
        if (indirect || (s.flags & DESC_NEXT) || !cc_virtio_has(m, d, F_INDIRECT_DESC))
            return "an indirect descriptor where there may be none";
        if (!s.len || s.len % DESC_BYTES || !cc_in_ram(m, s.addr, s.len))
            return "an indirect table is not in memory";
        indirect = true;
        table = s.addr;
        entries = s.len / DESC_BYTES;
        i = steps = 0;
    }
}

/* What the device writes may be neither a part of the queue nor of the same request. */
static const char *find_overlap(const struct cc_vq *q, const struct cc_chain *c)
{
    for (unsigned i = c->readable; i < c->count; i++) {
        const uint64_t at = c->segment[i].gpa, size = c->segment[i].size;
        if (overlap(at, size, q->desc, desc_bytes(q->num)) || overlap(at, size, q->driver, avail_bytes(q->num))
            || overlap(at, size, q->device, used_bytes(q->num)))
            return "a buffer overlaps the queue";
        for (unsigned j = 0; j < i; j++)
            if (overlap(at, size, c->segment[j].gpa, c->segment[j].size))
                return "buffers of a chain overlap";
    }
    return NULL;
}

bool cc_vq_walk(cc_machine *m, unsigned d, unsigned queue, uint16_t head, struct cc_chain *c)
{
    const struct cc_vq *q = &m->dev.virtio[d].vq[queue];
    cc_watch_device(m, d);
    c->head = head;
    c->count = c->readable = 0;
    c->read_bytes = c->write_bytes = 0;
    const char *fault = collect(m, d, q, c);
    if (!fault)
        fault = find_overlap(q, c);
    if (fault)
        cc_virtio_break(m, d, fault);
    return !fault;
}

/* ---- queues ------------------------------------------------------------------------------------------------------ */
/* With VIRTIO_F_EVENT_IDX (2.7.10): the driver notifies when it fills the entry named here. */
static void want_notification(cc_machine *m, unsigned d, unsigned queue)
{
    const struct cc_vq *q = &m->dev.virtio[d].vq[queue];
    if (!cc_virtio_has(m, d, F_EVENT_IDX) || (classes[d]->quiet >> queue & 1))
        return;
    if (load16(m, avail_event_gpa(q)) != q->avail_idx)
        store16(m, avail_event_gpa(q), q->avail_idx);
}

bool cc_vq_next(cc_machine *m, unsigned d, unsigned queue, struct cc_chain *c)
{
    struct cc_vq *q = &m->dev.virtio[d].vq[queue];
    if (!cc_virtio_live(m, d) || !q->ready)
        return false;
    const uint16_t ahead = (uint16_t)(load16(m, q->driver + 2) - q->avail_idx);
    if (ahead > q->num) {
        cc_virtio_break(m, d, "the available index has jumped");
        return false;
    }
    if (!ahead) {
        want_notification(m, d, queue);
        return false;
    }
    const uint16_t head = load16(m, q->driver + 4 + 2u * (q->avail_idx & (q->num - 1u)));
    if (!cc_vq_walk(m, d, queue, head, c))
        return false;
    q->avail_idx++;
    return true;
}

void cc_vq_put_back(cc_machine *m, unsigned d, unsigned queue)
{
    m->dev.virtio[d].vq[queue].avail_idx--;
}

void cc_vq_use(cc_machine *m, unsigned d, unsigned queue, uint16_t head, uint32_t written)
{
    struct cc_vq *q = &m->dev.virtio[d].vq[queue];
    const struct used u = {head, written};
    const uint64_t at = q->device + 4 + 8u * (q->used_idx & (q->num - 1u));
    cc_ram_will_change(m, at, sizeof u);
    memcpy(m->ram + at, &u, sizeof u);
    cc_watch_device(m, d);
    cc_watch_dma(m, at, sizeof u, CC_WATCH_WRITE, 0);
    store16(m, q->device + 2, ++q->used_idx);
}

void cc_vq_interrupt(cc_machine *m, unsigned d, unsigned queue)
{
    struct cc_vq *q = &m->dev.virtio[d].vq[queue];
    if (!cc_virtio_live(m, d) || !q->ready)
        return;
    bool wanted;
    if (cc_virtio_has(m, d, F_EVENT_IDX)) {
        /* 2.7.7.2: if used_event was passed since the last decision. */
        const uint16_t event = load16(m, used_event_gpa(q));
        wanted = !q->signalled
                 || (uint16_t)(q->used_idx - event - 1) < (uint16_t)(q->used_idx - q->signalled_idx);
        q->signalled = 1;
        q->signalled_idx = q->used_idx;
    } else {
        wanted = !(load16(m, q->driver) & AVAIL_NO_INTERRUPT);
    }
    if (wanted)
        interrupt(m, d, INT_USED);
}

uint32_t cc_chain_read(cc_machine *m, const struct cc_chain *c, uint32_t at, void *dst, uint32_t size)
{
    const uint32_t from = at;
    uint8_t *to = dst;
    uint32_t done = 0;
    for (unsigned i = 0; i < c->readable && done < size; i++) {
        const struct cc_segment_gpa s = c->segment[i];
        if (at >= s.size) {
            at -= s.size;
            continue;
        }
        const uint32_t n = size - done < s.size - at ? size - done : s.size - at;
        memcpy(to + done, m->ram + s.gpa + at, n);
        cc_watch_dma(m, s.gpa + at, n, CC_WATCH_READ, from + done);
        done += n;
        at = 0;
    }
    return done;
}

uint32_t cc_chain_write(cc_machine *m, const struct cc_chain *c, uint32_t at, const void *src, uint32_t size)
{
    const uint32_t start = at;
    const uint8_t *from = src;
    uint32_t done = 0;
    for (unsigned i = c->readable; i < c->count && done < size; i++) {
        const struct cc_segment_gpa s = c->segment[i];
        if (at >= s.size) {
            at -= s.size;
            continue;
        }
        const uint32_t n = size - done < s.size - at ? size - done : s.size - at;
        cc_ram_will_change(m, s.gpa + at, n);
        memcpy(m->ram + s.gpa + at, from + done, n);
        cc_watch_dma(m, s.gpa + at, n, CC_WATCH_WRITE, start + done);
        done += n;
        at = 0;
    }
    return done;
}

/* ---- registers --------------------------------------------------------------------------------------------------- */
static uint64_t features(unsigned d)
{
    return classes[d]->features | F_TRANSPORT;
}

static struct cc_vq *selected(cc_machine *m, unsigned d)
{
    struct cc_virtio *v = &m->dev.virtio[d];
    return v->queue_sel < classes[d]->queues ? &v->vq[v->queue_sel] : NULL;
}

static uint32_t register_read(cc_machine *m, unsigned d, uint32_t offset)
{
    const struct cc_virtio *v = &m->dev.virtio[d];
    const struct cc_vq *q = selected(m, d);
    switch (offset) {
    case REG_MAGIC: return MAGIC;
    case REG_VERSION: return 2;
    case REG_DEVICE_ID: return classes[d]->id;
    case REG_VENDOR_ID: return VENDOR;
    case REG_DEVICE_FEATURES:
        return v->device_features_sel < 2 ? (uint32_t)(features(d) >> 32 * v->device_features_sel) : 0;
    case REG_QUEUE_NUM_MAX: return q ? classes[d]->num_max : 0;
    case REG_QUEUE_READY: return q ? q->ready : 0;
    case REG_INTERRUPT_STATUS: return v->interrupt;
    case REG_STATUS: return v->status;
    case REG_GENERATION: return v->generation;
    default: return offset >= REG_SHM_FIRST && offset <= REG_SHM_LAST ? UINT32_MAX : 0;
    }
}

/* Everything as after power-up, but for the configuration. */
static void reset(cc_machine *m, unsigned d)
{
    struct cc_virtio *v = &m->dev.virtio[d];
    const uint32_t generation = v->generation;
    if (classes[d]->stop)
        classes[d]->stop(m);
    memset(v, 0, sizeof *v);
    v->generation = generation;
    cc_irq_set(m, classes[d]->irq, false);
}

/* Tell the driver which queues need no notifications, and look at what is in the others. */
static void start(cc_machine *m, unsigned d)
{
    for (unsigned i = 0; i < classes[d]->queues; i++) {
        const struct cc_vq *q = &m->dev.virtio[d].vq[i];
        if (q->ready && (classes[d]->quiet >> i & 1) && !cc_virtio_has(m, d, F_EVENT_IDX))
            store16(m, q->device, USED_NO_NOTIFY);
    }
}

static void write_status(cc_machine *m, unsigned d, uint32_t value)
{
    struct cc_virtio *v = &m->dev.virtio[d];
    if (!value) {
        reset(m, d);
        return;
    }
    const uint32_t was = v->status;
    value &= ACKNOWLEDGE | DRIVER | DRIVER_OK | FEATURES_OK | FAILED;
    /* 2.2.2: the device does not accept features that it did not offer, nor (6.2) a driver of before 1.0. */
    if (!(was & FEATURES_OK) && ((v->driver_features & ~features(d)) || !(v->driver_features & F_VERSION_1)))
        value &= ~FEATURES_OK;
    if (!(value & FEATURES_OK))
        value &= ~DRIVER_OK;
    v->status = value | (was & NEEDS_RESET);
    if (!(was & DRIVER_OK) && cc_virtio_live(m, d))
        start(m, d);
}

static void write_ready(cc_machine *m, unsigned d, struct cc_vq *q, uint32_t value)
{
    if (!(value & 1)) {
        if (q->ready && classes[d]->stop)
            classes[d]->stop(m);
        q->ready = 0;
        return;
    }
    if (q->ready)
        return;
    const char *fault = queue_fault(m, q, classes[d]->num_max);
    if (fault) {
        cc_virtio_break(m, d, fault);
        return;
    }
    q->ready = 1;
    q->avail_idx = q->used_idx = q->signalled_idx = q->signalled = 0;
}

static void set_half(uint64_t *to, bool high, uint32_t value)
{
    *to = high ? (*to & UINT32_MAX) | (uint64_t)value << 32 : (*to & ~(uint64_t)UINT32_MAX) | value;
}

/* Registers of the selected queue; its addresses and size can be set while it is not ready. */
static void queue_write(cc_machine *m, unsigned d, struct cc_vq *q, uint32_t offset, uint32_t value)
{
    if (offset == REG_QUEUE_READY) {
        write_ready(m, d, q, value);
        return;
    }
    if (q->ready)
        return;
    switch (offset) {
    case REG_QUEUE_NUM: q->num = value <= UINT16_MAX ? (uint16_t)value : 0; break;
    case REG_QUEUE_DESC: case REG_QUEUE_DESC + 4: set_half(&q->desc, offset & 4, value); break;
    case REG_QUEUE_DRIVER: case REG_QUEUE_DRIVER + 4: set_half(&q->driver, offset & 4, value); break;
    case REG_QUEUE_DEVICE: case REG_QUEUE_DEVICE + 4: set_half(&q->device, offset & 4, value); break;
    default: break;
    }
}

static void register_write(cc_machine *m, unsigned d, uint32_t offset, uint32_t value)
{
    struct cc_virtio *v = &m->dev.virtio[d];
    struct cc_vq *q = selected(m, d);
    switch (offset) {
    case REG_DEVICE_FEATURES_SEL: v->device_features_sel = value; break;
    case REG_DRIVER_FEATURES_SEL: v->driver_features_sel = value; break;
    case REG_DRIVER_FEATURES:
        if (!(v->status & FEATURES_OK) && v->driver_features_sel < 2)
            set_half(&v->driver_features, v->driver_features_sel, value);
        break;
    case REG_QUEUE_SEL: v->queue_sel = value; break;
    case REG_QUEUE_NOTIFY:
        if (cc_virtio_live(m, d) && value < classes[d]->queues && v->vq[value].ready)
            classes[d]->notify(m, value);
        break;
    case REG_INTERRUPT_ACK: acknowledge(m, d, value); break;
    case REG_STATUS: write_status(m, d, value); break;
    default:
        if (q)
            queue_write(m, d, q, offset, value);
        break;
    }
}

/* ---- the window -------------------------------------------------------------------------------------------------- */
/* 4.2.2.2: registers are accessed as aligned 32-bit words; anything else reads 0 and has no effect. */
uint64_t cc_virtio_mmio_read(cc_machine *m, unsigned d, uint32_t offset, unsigned size)
{
    if (offset < REG_CONFIG)
        return size == 4 && !(offset & 3) ? register_read(m, d, offset) : 0;
    uint8_t config[CC_VIRTIO_CONFIG_MAX + 8] = {0};
    const uint32_t at = offset - REG_CONFIG;
    uint64_t value = 0;
    if (!classes[d]->config || at >= classes[d]->config_bytes)
        return 0;
    classes[d]->config(m, config);
    memcpy(&value, config + at, size);
    return value;
}

void cc_virtio_mmio_write(cc_machine *m, unsigned d, uint32_t offset, unsigned size, uint64_t value)
{
    if (offset < REG_CONFIG) {
        if (size == 4 && !(offset & 3))
            register_write(m, d, offset, (uint32_t)value);
        return;
    }
    for (unsigned i = 0; i < size && classes[d]->config_write; i++)
        if (offset - REG_CONFIG + i < classes[d]->config_bytes)
            classes[d]->config_write(m, offset - REG_CONFIG + i, (uint8_t)(value >> 8 * i));
}

void cc_virtio_reset(cc_machine *m)
{
    for (unsigned d = 0; d < CC_VIRTIO_COUNT; d++)
        if (m->cfg.devices >> d & 1)
            reset(m, d);
}
