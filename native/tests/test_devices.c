/* test_devices.c: the other ports, accesses wider than a port, and all devices under random accesses. */
#include "device_machine.h"

static void i8042_answers_and_its_devices_do_not(void)
{
    cc_machine *m = new_machine();
    init_pics(m, 1, 0xFD, 0xFF);
    CHECK_EQ(in8(m, 0x64), 0x14);                /* both buffers empty: no wait ends in a time-out */
    out8(m, 0x64, 0xAA);
    CHECK_EQ(in8(m, 0x64) & 1, 1);
    CHECK_EQ(in8(m, 0x60), 0x55);
    CHECK_EQ(in8(m, 0x64) & 1, 0);
    out8(m, 0x64, 0x20);
    uint8_t config = in8(m, 0x60);
    out8(m, 0x64, 0x60);
    out8(m, 0x60, config ^ 0x40);
    out8(m, 0x64, 0x20);
    CHECK_EQ(in8(m, 0x60), config ^ 0x40);
    out8(m, 0x64, 0xD3);
    out8(m, 0x60, 0x5A);
    CHECK_EQ(in8(m, 0x64) & 0x20, 0);            /* not from an auxiliary device */
    CHECK_EQ(in8(m, 0x60), 0x5A);
    out8(m, 0x64, 0xA9);
    CHECK_EQ(cc_pic_ack(m), 0x31);
    CHECK_EQ(in8(m, 0x60), 1);
    out8(m, 0x60, 0xF2);                         /* to the keyboard: there is none */
    CHECK_EQ(in8(m, 0x64) & 0x41, 0x41);
    CHECK_EQ(in8(m, 0x60), 0xFE);
    CHECK_EQ(m->stop_kind, CC_STOP_NONE);
    cc_machine_free(m);
}

static void reset_and_exit_ports_stop_the_machine(void)
{
    static const struct { uint16_t port; uint8_t before, value; uint32_t kind, detail; } cases[] = {
        {0x64, 0xAD, 0xFE, CC_STOP_RESET, 0x64},
        {0x60, 0, 0xFE, CC_STOP_RESET, 0x64},
        {0x92, 0, 1, CC_STOP_RESET, 0x92},
        {0xCF9, 2, 6, CC_STOP_RESET, 0xCF9},
        {0x501, 0, 0x2A, CC_STOP_SHUTDOWN, 0x2A},
    };
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        cc_machine *m = new_machine();
        if (cases[i].port == 0x60)
            out8(m, 0x64, 0xD1);
        else if (cases[i].before)
            out8(m, cases[i].port, cases[i].before);
        CHECK_EQ(m->stop_kind, CC_STOP_NONE);
        out8(m, cases[i].port, cases[i].value);
        CHECK_EQ(m->stop_kind, cases[i].kind);
        CHECK_EQ(m->stop_detail, cases[i].detail);
        cc_machine_free(m);
    }
    cc_machine *m = new_machine();
    cc_io_write(m, 0x501, 4, 0x12345678);
    CHECK_EQ(m->stop_detail, 0x12345678);
    cc_machine_free(m);
}

static void wide_accesses_split_into_bytes(void)
{
    cc_machine *m = new_machine();
    cc_io_write(m, 0x70, 2, 0x7E35);             /* index and data in one */
    out8(m, 0x70, 0x35);
    CHECK_EQ(in8(m, 0x71), 0x7E);
    cc_io_write(m, 0x3FF, 2, 0x1234);
    CHECK_EQ(in8(m, 0x3FF), 0x34);
    CHECK_EQ(cc_io_read(m, 0x3FF, 2), 0xFF34);
    CHECK_EQ(cc_io_read(m, 0x3FC, 4), 0x34B06000u);
    cc_io_write(m, 0xCF8, 4, 0x80000600);        /* PCI's address register is not the reset port */
    CHECK_EQ(m->stop_kind, CC_STOP_NONE);
    CHECK_EQ(cc_io_read(m, 0xCF8, 4), 0xFFFFFFFFu);
    CHECK_EQ(cc_io_read(m, 0xFFFF, 4), 0xFFFFFFFFu);
    cc_io_write(m, 0xFFFF, 4, 0);
    CHECK_EQ(cc_io_read(m, 0xED, 1), 0xFF);
    out8(m, 0x80, 0x5A);
    CHECK_EQ(in8(m, 0x80), 0x5A);
    CHECK_EQ(cc_mmio_read(m, 0xD0000000, 8), UINT64_MAX);
    CHECK_EQ(cc_mmio_read(m, 0xFEE00020, 4), UINT32_MAX);
    CHECK_EQ(cc_mmio_read(m, 0xD0000000, 1), 0xFF);
    cc_mmio_write(m, 0xD0000000, 4, 1);
    CHECK_EQ(m->stats.io_writes, 6);
    CHECK_EQ(m->stats.io_reads, 8);
    CHECK_EQ(m->stats.mmio_accesses, 4);
    CHECK_EQ(m->stats.exits, 18);                /* one per access, however it is split */
    cc_machine_free(m);
}

static void sdk_ports_stop_only_on_request(void)
{
    cc_machine *m = new_machine();
    out8(m, 0x510, 0);
    out8(m, 0x511, 0);
    CHECK_EQ(m->stop_kind, CC_STOP_NONE);
    m->stop_at = CC_AT_HYPERCALL;
    out8(m, 0x511, 0);
    CHECK_EQ(m->stop_kind, CC_STOP_NONE);
    cc_io_write(m, 0x510, 2, 7);
    CHECK_EQ(m->stop_kind, CC_STOP_HYPERCALL);
    CHECK_EQ(m->stop_detail, 7);
    m->stop_kind = CC_STOP_NONE;
    m->stop_at = CC_AT_COVERAGE;
    out8(m, 0x511, 1);
    CHECK_EQ(m->stop_kind, CC_STOP_COVERAGE);
    cc_machine_free(m);
}

static void refresh_bit_toggles(void)
{
    cc_machine *m = new_machine();
    unsigned changes = 0;
    uint8_t last = in8(m, 0x61) & 0x10;
    for (unsigned i = 1; i <= 1000; i++) {
        pass_to(m, i * 1000);
        uint8_t now = in8(m, 0x61) & 0x10;
        changes += now != last;
        last = now;
    }
    CHECK_EQ(changes, 66);                       /* 1 ms of 15.09 us each */
    cc_machine_free(m);
}

#define FUZZ_STEPS 1000000u

static const uint16_t known_ports[] = {
    0x20, 0x21, 0xA0, 0xA1, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xED, 0x3F8, 0x3F9,
    0x3FA, 0x3FB, 0x3FC, 0x3FD, 0x3FE, 0x3FF, 0x4D0, 0x4D1, 0x501, 0x510, 0x511, 0xCF8, 0xCF9, 0xFFFE,
};

/* A machine that has stopped for good is brought back: what is fuzzed is the devices. */
static void fuzz_pass(cc_machine *m, uint64_t vns, uint64_t stops)
{
    for (uint64_t at = cc_now(m); at < vns;) {
        at = vns - at > (vns - at) / stops && stops > 1 ? at + 1 + (vns - at) / stops : vns;
        guest_of(m)->halted = true;
        cc_stop stop;
        do {
            stop = run_to_vns(m, at);
            m->dev.dead_kind = CC_STOP_NONE;
            m->dev.dead_detail = 0;
        } while (stop.kind != CC_STOP_VNS);
    }
}

static uint64_t fuzz(cc_machine *m, uint64_t seed, uint64_t stops)
{
    uint64_t sum = 0;
    struct guest *g = guest_of(m);
    for (unsigned i = 0; i < FUZZ_STEPS; i++) {
        uint64_t r = rnd(&seed);
        uint16_t port = r & 15 ? known_ports[(r >> 8) % (sizeof known_ports / sizeof *known_ports)]
                               : (uint16_t)(r >> 8);
        unsigned size = 1u << ((r >> 32 & 31) < 29 ? 0 : (r >> 32) % 3);
        uint32_t value = (uint32_t)rnd(&seed);
        if (r >> 40 & 1)
            cc_io_write(m, port, size, value);
        else
            sum = sum * 31 + cc_io_read(m, port, size);
        if (!(r >> 41 & 15)) {
            uint64_t span = r >> 45 & 255 ? rnd(&seed) % 3000 : rnd(&seed) % (2 * MS);
            fuzz_pass(m, cc_now(m) + span, stops);
        }
        if (!(r >> 53 & 63))
            cc_console_input(m, (const uint8_t *)&seed, rnd(&seed) % 9);
        if (!(r >> 59)) {
            g->iflag = !g->iflag;
            if (cc_pic_pending(m))
                sum = sum * 31 + cc_pic_ack(m);
        }
    }
    return sum;
}

/* The same accesses at the same times give the same state, however time is cut into runs. */
static void random_accesses_are_deterministic(void)
{
    cc_machine *a = new_machine(), *b = new_machine();
    uint64_t sum_a = fuzz(a, 4, 1), sum_b = fuzz(b, 4, 3);
    CHECK_EQ(sum_a, sum_b);
    CHECK_EQ(cc_now(a), cc_now(b));
    CHECK(!memcmp(&a->dev, &b->dev, sizeof a->dev));
    CHECK_EQ(a->stats.exits, b->stats.exits);
    cc_machine_free(a);
    cc_machine_free(b);
}

int main(void)
{
    RUN(i8042_answers_and_its_devices_do_not);
    RUN(reset_and_exit_ports_stop_the_machine);
    RUN(wide_accesses_split_into_bytes);
    RUN(sdk_ports_stop_only_on_request);
    RUN(refresh_bit_toggles);
    RUN(random_accesses_are_deterministic);
    cc_store_free(the_store);
    return 0;
}
