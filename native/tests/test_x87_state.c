/*
 * test_x87_state.c: FXSAVE and FXRSTOR against the host's, their faults, device-not-available and pending exceptions
 * for every x87 encoding, and the way into MMX.
 *
 *     test_x87_state [N]      N times as many images
 */
#include "x87_forms.h"
#include "x87_random.h"

/* ---- FXSAVE and FXRSTOR ------------------------------------------------------------------------------------------ */
typedef struct fx { uint8_t b[512]; } __attribute__((aligned(64))) fx;

static void native_fx(const fx *in, fx *out, bool wide)
{
    static const uint32_t mxcsr = 0x1f80;
    if (wide)
        __asm__ volatile("fxrstor64 %1\n\tfxsave64 %0\n\tfninit\n\tldmxcsr %2" : "+m"(*out) : "m"(*in), "m"(mxcsr)
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                           "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    else
        __asm__ volatile("fxrstor %1\n\tfxsave %0\n\tfninit\n\tldmxcsr %2" : "+m"(*out) : "m"(*in), "m"(mxcsr)
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                           "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static cc_op fx_op(unsigned reg, bool wide)
{
    cc_dec d = {.map = 1, .opcode = 0xae, .modrm = (uint8_t)(reg << 3 | 2), .reg = (uint8_t)reg, .rm = 2, .mem = true,
                .rexw = wide, .rex = wide ? 0x48 : 0, .opbytes = wide ? 8 : 4};
    cc_op op = {.b = CC_RDX, .x = CC_R_ZERO, .len = 3, .rem = 1};
    op.fn = cc_x87_select(&d, &op);
    CHECK(op.fn);
    return op;
}

static void test_fxsave(cc_cpu *cpu, uint64_t n)
{
    fx *image = (fx *)(scratch + 1024);
    for (uint64_t k = 0; k < n; k++) {
        bool wide = one_in(2);
        fx in, host, ours;
        fpu_image m;
        for (unsigned i = 0; i < 512; i++)
            in.b[i] = (uint8_t)rnd();
        random_state(&m);
        memcpy(in.b, &m.fcw, 2);
        memcpy(in.b + 2, &m.fsw, 2);
        memset(in.b + 26, 0, 2);
        uint64_t canonical = rnd() >> 17;       /* hosts sign-extend FIP and FDP from 48 bits */
        memcpy(in.b + 8, &canonical, 8);
        memcpy(in.b + 16, &canonical, 8);
        memset(&host, 0xcc, sizeof host);
        native_fx(&in, &host, wide);

        memcpy(image, &in, 512);
        cpu->r[CC_RDX] = (uintptr_t)image;
        cc_op restore = fx_op(1, wide), save = fx_op(0, wide);
        CHECK(run_op(cpu, &restore) == NO_FAULT);
        memset(image, 0xcc, 512);
        CHECK(run_op(cpu, &save) == NO_FAULT);
        memcpy(&ours, image, 512);
        CHECK(!memcmp(&ours.b[28], &(uint32_t){0xffff}, 4));
        memset(host.b + 28, 0, 4);
        memset(ours.b + 28, 0, 4);
        if (!wide)
            memset(host.b + 12, 0, 2), memset(host.b + 20, 0, 2);     /* selectors */
        if (!(host.b[2] & 0x80)) {              /* AMD saves the pointers only with ES; the others as we do */
            CHECK(!memcmp(ours.b + 6, &(uint16_t){(uint16_t)((in.b[6] | in.b[7] << 8) & 0x7ff)}, 2));
            CHECK(!memcmp(ours.b + 8, in.b + 8, wide ? 8 : 4) && !memcmp(ours.b + 16, in.b + 16, wide ? 8 : 4));
            memcpy(host.b + 6, ours.b + 6, 18);
        }
        if (memcmp(&host, &ours, 512)) {
            failures++;
            printf("DIFFERS: FXSAVE%s at", wide ? "64" : "");
            for (unsigned i = 0; i < 512; i++)
                if (host.b[i] != ours.b[i])
                    printf(" %u:%02x/%02x", i, host.b[i], ours.b[i]);
            printf("\n");
            return;
        }
    }
    /* general protection: alignment, reserved MXCSR bits; page faults; nothing changes */
    cc_cpu saved;
    for (unsigned reg = 0; reg < 2; reg++) {
        cc_op op = fx_op(reg, true);
        for (unsigned shift = 1; shift < 16; shift++) {
            cpu->r[CC_RDX] = (uintptr_t)image + shift;
            saved = *cpu;
            CHECK(run_op(cpu, &op) == EXC_GP && cpu->fault.has_code && cpu->fault.code == 0);
            CHECK(!memcmp(&saved.fpu, &cpu->fpu, sizeof saved.fpu));
        }
        cpu->r[CC_RDX] = (uintptr_t)scratch + SCRATCH - 256;
        CHECK(run_op(cpu, &op) == EXC_PF);
        CHECK(!memcmp(&saved.fpu, &cpu->fpu, sizeof saved.fpu));
        cpu->r[CC_RDX] = (uintptr_t)scratch + PAGE - 256;       /* crosses a page */
        memset(scratch + PAGE - 256 + 24, 0, 4);
        CHECK(run_op(cpu, &op) == NO_FAULT);
    }
    cc_op op = fx_op(1, false);
    cpu->r[CC_RDX] = (uintptr_t)image;
    for (unsigned bit = 16; bit < 32; bit++) {
        uint32_t mxcsr = 0x1f80 | 1u << bit;
        memcpy(image->b + 24, &mxcsr, 4);
        saved = *cpu;
        CHECK(run_op(cpu, &op) == EXC_GP && !memcmp(&saved.fpu, &cpu->fpu, sizeof saved.fpu));
        CHECK(!memcmp(saved.xmm, cpu->xmm, sizeof saved.xmm) && saved.mxcsr == cpu->mxcsr);
    }
    for (unsigned i = 0; i < 3; i++) {          /* 66, F2, F3, LOCK: undefined */
        cc_dec d = {.map = 1, .opcode = 0xae, .modrm = 2, .rm = 2, .mem = true, .opsize = i == 0,
                    .rep = i == 1 ? 0xf2 : 0, .lock = i == 2};
        CHECK(!cc_x87_select(&d, &op));
    }
}

/* ---- device not available, pending exceptions, MMX --------------------------------------------------------------- */
static void test_unavailable(cc_cpu *cpu)
{
    fpu_image m;
    do
        random_state(&m);
    while (m.fsw & 0x3f & ~m.fcw);
    for (unsigned i = 0; i < form_count; i++) {
        form *f = &forms[i];
        if (!f->op.fn)
            continue;
        cpu_load(cpu, &m);
        cpu->r[CC_RDX] = 0x10;      /* would fault: the FPU is checked first */
        cc_x87 before = cpu->fpu;
        cpu->fpu_ok = 0;
        cpu->cr0 |= CR0_TS;
        CHECK(run_op(cpu, &f->op) == EXC_NM && !memcmp(&before, &cpu->fpu, sizeof before));
        cpu->cr0 = (cpu->cr0 & ~(uint64_t)CR0_TS) | CR0_EM;
        CHECK(run_op(cpu, &f->op) == (f->d.opcode == 0x9b ? NO_FAULT : EXC_NM));
        cpu->cr0 = (cpu->cr0 & ~(uint64_t)(CR0_EM | CR0_MP)) | CR0_TS;
        CHECK(run_op(cpu, &f->op) == (f->d.opcode == 0x9b ? NO_FAULT : EXC_NM));
        cpu->fpu_ok = 1;
        cpu->cr0 = (cpu->cr0 & ~(uint64_t)CR0_TS) | CR0_MP;
        cpu->fpu.fcw &= 0xffc0;
        cpu->fpu.fsw |= 0x8081;
        bool waits = !is_control(f) || f->d.opcode == 0x9b || (f->d.mem && f->d.reg < 6);
        CHECK((run_op(cpu, &f->op) == EXC_MF) == waits);
    }
}

static void test_mmx_enter(cc_cpu *cpu)
{
    cpu->fpu.fsw = 0x4700;
    cpu->fpu.top = 5;
    cpu->fpu.empty = 0xa5;
    cpu->cr0 |= CR0_EM | CR0_TS;
    CHECK(!cc_mmx_enter(cpu) && cpu->fault.vector == EXC_UD);
    cpu->cr0 &= ~(uint64_t)CR0_EM;
    CHECK(!cc_mmx_enter(cpu) && cpu->fault.vector == EXC_NM);
    cpu->cr0 &= ~(uint64_t)CR0_TS;
    cpu->fpu.fsw |= 0x8081;
    CHECK(!cc_mmx_enter(cpu) && cpu->fault.vector == EXC_MF && cpu->fpu.top == 5 && cpu->fpu.empty == 0xa5);
    cpu->fpu.fsw = 0x4700;
    CHECK(cc_mmx_enter(cpu) && cpu->fpu.top == 0 && cpu->fpu.empty == 0 && cpu->fpu.fsw == 0x4700);
    cc_x87_reset(cpu);
    CHECK(cpu->fpu.fcw == 0x37f && cpu->fpu.empty == 0xff && cc_x87_full_tags(&cpu->fpu) == 0xffff);
}

int main(int argc, char **argv)
{
    scratch_init();
    native_init();
    make_forms();
    cc_cpu *cpu = new_cpu();
    test_fxsave(cpu, 20000 * (argc > 1 ? strtoull(argv[1], NULL, 0) : 1));
    test_unavailable(cpu);
    test_mmx_enter(cpu);
    printf("%u differences\n", failures);
    free(cpu->tlb);
    free(cpu);
    return failures != 0;
}
