/*
 * diff_compare.c: see diff_compare.h.  What the SDM leaves undefined is not compared; what depends on the host's
 * processor is in diff_rules.c.
 */
#include "diff_compare.h"
#include "diff_rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *const gpr_names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };
static const char *const sel_names[6] = { "es", "cs", "ss", "ds", "fs", "gs" };

static uint64_t arith_mask(uint8_t undef)
{
    return ~(uint64_t)((undef & F_C ? 1 : 0) | (undef & F_P ? 4 : 0) | (undef & F_A ? 0x10 : 0) | (undef & F_Z ? 0x40 : 0)
                       | (undef & F_S ? 0x80 : 0) | (undef & F_O ? 0x800 : 0));
}

static uint16_t fsw_mask(uint8_t x)
{
    return (uint16_t)~((x & 1) << 8 | (x & 2) << 8 | (x & 4) << 8 | (x & 8) << 11);
}

/* Bytes of ENV's slots that are not architecturally fixed: instruction and operand pointers, opcode, reserved bytes,
 * MXCSR_MASK. */
static uint64_t env_mask(uint32_t granule)
{
    uint8_t keep[8];
    for (unsigned i = 0; i < 8; i++) {
        uint32_t off = granule * 8 + i, k;
        if (off < ENV_ENV) {
            k = off & 511;
            bool st_pad = k >= 32 && k < 160 && (k & 15) >= 10;
            keep[i] = k < 5 || (k >= 24 && k < 28) || (k >= 32 && !st_pad);
        } else if (off < ENV_STATE) {
            k = off & 31;
            keep[i] = off & 32 ? k < 6 || k >= 14 : k < 12 || k >= 28;
        } else if (off < ENV_END) {
            k = off & 127;
            keep[i] = off & 128 ? k < 6 || k >= 14 : k < 12 || k >= 28;
        } else {
            keep[i] = 1;
        }
    }
    uint64_t mask = 0;
    for (unsigned i = 0; i < 8; i++)
        mask |= (uint64_t)(keep[i] ? 0xff : 0) << i * 8;
    return mask;
}

enum { FSW_OE = 8, FSW_UE = 16, FSW_PE = 32, FSW_ES_B = 0x8080 };
/* What an unmasked underflow adds to the exponent, and an unmasked overflow takes off (SDM vol. 1, 8.5.4). */
#define F80_WRAP ((unsigned __int128)24576 << 63)

static uint64_t granule_at(const struct granule *list, uint32_t n, const uint8_t *image, uint32_t index)
{
    for (uint32_t i = 0; i < n; i++)
        if (list[i].index == index)
            return list[i].value;
    uint64_t v;
    memcpy(&v, image + index * 8, 8);
    return v;
}

uint64_t granule_va(uint32_t index)
{
    for (unsigned r = 0; r < NREGIONS; r++) {
        if (index < regions[r].pages * 512)
            return regions[r].va + index * 8ull;
        index -= regions[r].pages * 512;
    }
    return 0;
}

static bool compare_granules(struct report *r, const struct granule *a, uint32_t na, const struct granule *b, uint32_t nb,
                             const uint8_t *image)
{
    bool found = false;
    for (uint32_t i = 0; i < na + nb; i++) {
        uint32_t index = i < na ? a[i].index : b[i - na].index;
        uint64_t va = granule_at(a, na, image, index), vb = granule_at(b, nb, image, index);
        uint64_t mask = index >= ENV_FIRST && index < ENV_FIRST + 512 ? env_mask(index - ENV_FIRST) : ~0ull;
        if ((va ^ vb) & mask) {
            found = true;
            DIFFER(r, "mem[%#" PRIx64 "] native %016" PRIx64 " engine %016" PRIx64, granule_va(index), va, vb);
        }
    }
    return found;
}

static void compare_memory(struct report *r, const struct case_out *a, const struct case_out *b, const uint8_t *image)
{
    if (a->nenv || b->nenv)
        compare_granules(r, a->env, a->nenv, b->env, b->nenv, image);
    if (a->ngranules == b->ngranules && a->granule_hash == b->granule_hash)
        return;
    uint32_t na = a->ngranules < MAX_GRANULES ? a->ngranules : MAX_GRANULES;
    uint32_t nb = b->ngranules < MAX_GRANULES ? b->ngranules : MAX_GRANULES;
    if (!compare_granules(r, a->granule, na, b->granule, nb, image) && (na < a->ngranules || nb < b->ngranules))
        DIFFER(r, "mem beyond the first %d changed words: native %u engine %u", MAX_GRANULES, a->ngranules, b->ngranules);
}

int end_index(const struct context *c, uint64_t keep, const struct case_out *o)
{
    uint64_t rip = o->rip;
    for (uint32_t i = 0; i <= c->seq->n; i++) {
        if (i < c->seq->n && !(keep >> i & 1))
            continue;
        uint64_t at = CODE_VA + c->layout.addr[i];
        if (rip == at)
            return (int)i;
        if (i < c->seq->n && c->seq->insn[i].lands && rip == c->seq->insn[i].lands)
            return (int)i;
        /* traps (INT3, INT n, ICEBP) point behind */
        if (i == c->seq->n && rip == at + 1 && o->vector == 3)
            return (int)i;
        if (i < c->seq->n && rip == at + c->seq->insn[i].len && (o->vector == 3 || o->vector == 4 || o->vector == 1)
            && c->seq->insn[i].ends)
            return (int)i;
    }
    return -1;
}

/* Distance of two floating-point numbers of the same sign in units of the last place, saturating. */
static double f32_error(uint32_t a, uint32_t b)
{
    float x, y;
    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    if (a == b)
        return 0;
    if (x != x || y != y || (a ^ b) >> 31)
        return 1;
    double d = (double)x - (double)y, m = x > 0 ? (double)x : -(double)x;
    return (d < 0 ? -d : d) / m;
}

/* Finite values of one sign are as far apart as their ranks. */
static unsigned __int128 f80_rank(const uint8_t *v)
{
    uint64_t mant;
    uint16_t sexp;
    memcpy(&mant, v, 8);
    memcpy(&sexp, v + 8, 2);
    return ((unsigned __int128)(sexp & 0x7fff) << 63) + (mant & ~(1ull << 63));
}

/*
 * The transcendental functions: an error of at most 1 unit in the last place when rounding to nearest and 1.5 otherwise
 * (SDM vol. 1, 8.3.10); the engine's is about 0.5 and 1.
 */
static bool f80_close(const uint8_t *a, const uint8_t *b, uint16_t fcw, int wrap)
{
    const unsigned __int128 infinity = (unsigned __int128)0x7fff << 63;
    unsigned __int128 x = f80_rank(a), y = f80_rank(b);
    if ((a[9] ^ b[9]) & 0x80 || x >= infinity || y >= infinity)
        return false;
    x += wrap < 0 ? F80_WRAP : 0;
    y += wrap > 0 ? F80_WRAP : 0;
    return (x > y ? x - y : y - x) <= (fcw & 0xc00 ? 2 : 1);
}

/*
 * Where such a value is the least normal or the greatest number on one side, the other side's may be out of range: its
 * exponent wrapped if that is unmasked, and flags set accordingly.  Returns the bits of FSW that may differ.
 */
static uint16_t close_at_the_end(const uint8_t *a, const uint8_t *b, uint16_t fcw, uint16_t fsw_a, uint16_t fsw_b)
{
    const unsigned __int128 least = (unsigned __int128)1 << 63, most = ((unsigned __int128)0x7fff << 63) - 1;
    unsigned __int128 x = f80_rank(a), y = f80_rank(b);
    unsigned a_only = fsw_a & ~fsw_b, b_only = fsw_b & ~fsw_a;
    if (f80_close(a, b, fcw, 0))
        return x + 2 >= least && x <= least + 2 ? FSW_UE | FSW_PE : 0;
    if ((b_only & FSW_UE && x <= least + 2 && f80_close(a, b, fcw, -1)) || (a_only & FSW_UE && y <= least + 2 && f80_close(a, b, fcw, 1)))
        return FSW_UE | FSW_PE | FSW_ES_B;
    if ((b_only & FSW_OE && x + 2 >= most && f80_close(a, b, fcw, 1)) || (a_only & FSW_OE && y + 2 >= most && f80_close(a, b, fcw, -1)))
        return FSW_OE | FSW_PE | FSW_ES_B;
    return 0;
}

static void compare_fx(struct report *r, const struct context *c, const struct case_out *a, const struct case_out *b,
                       uint8_t x87_undef, bool skip_values)
{
    bool approx = c->mode == GEN_APPROX;
    uint16_t fa, fb;
    memcpy(&fa, a->fx, 2);
    memcpy(&fb, b->fx, 2);
    uint16_t fcw = fa;
    if (fa != fb)
        DIFFER(r, "fcw native %04x engine %04x", fa, fb);
    memcpy(&fa, a->fx + 2, 2);
    memcpy(&fb, b->fx + 2, 2);
    uint16_t mask = fsw_mask(x87_undef);
    uint16_t ends[2] = { 0 };
    for (int i = 0; approx && i < 2; i++) {
        ends[i] = close_at_the_end(a->fx + 32 + 16 * i, b->fx + 32 + 16 * i, fcw, fa, fb);
        mask &= (uint16_t)~(0x200 | ends[i]);   /* C1 depends on the last digit */
    }
    if ((fa ^ fb) & mask)
        DIFFER(r, "fsw native %04x engine %04x (compared %04x)", fa, fb, mask);
    if (a->fx[4] != b->fx[4])
        DIFFER(r, "ftw (valid) native %02x engine %02x", a->fx[4], b->fx[4]);
    if (memcmp(a->fx + 24, b->fx + 24, 4) != 0) {
        uint32_t ma, mb;
        memcpy(&ma, a->fx + 24, 4);
        memcpy(&mb, b->fx + 24, 4);
        DIFFER(r, "mxcsr native %08x engine %08x", ma, mb);
    }
    for (int i = 0; i < 8; i++) {
        const uint8_t *sa = a->fx + 32 + i * 16, *sb = b->fx + 32 + i * 16;
        if (memcmp(sa, sb, 10) == 0 || (approx && (f80_close(sa, sb, fcw, 0) || (i < 2 && ends[i]))) || (skip_values && i < 2))
            continue;
        uint64_t ma, mb;
        memcpy(&ma, sa, 8);
        memcpy(&mb, sb, 8);
        DIFFER(r, "st%d native %02x%02x:%016" PRIx64 " engine %02x%02x:%016" PRIx64, i, sa[9], sa[8], ma, sb[9], sb[8], mb);
    }
    for (int i = 0; i < 16; i++) {
        const uint8_t *xa = a->fx + 160 + i * 16, *xb = b->fx + 160 + i * 16;
        if (memcmp(xa, xb, 16) == 0)
            continue;
        uint32_t da[4], db[4];
        memcpy(da, xa, 16);
        memcpy(db, xb, 16);
        bool close = approx;                    /* RCP, RSQRT: relative error at most 1.5 * 2^-12 each (SDM) */
        for (int k = 0; k < 4; k++)
            close &= f32_error(da[k], db[k]) <= 3.0 / 4096;
        if (!close)
            DIFFER(r, "xmm%d native %08x_%08x_%08x_%08x engine %08x_%08x_%08x_%08x", i, da[3], da[2], da[1], da[0], db[3],
                   db[2], db[1], db[0]);
    }
}

/* FSIN, FCOS, FSINCOS or FPTAN of an operand that needs range reduction: processors do it with a pi of 66 bits (SDM
 * vol. 1, 8.3.8), the engine exactly; native/tests/x87_vectors.py checks those results. */
static bool reduces(const struct context *c, const struct case_in *in)
{
    const struct form *f = &c->forms->form[c->seq->insn[0].form];
    bool trig = f->opcode == 0xd9 && (f->fixed_modrm == 0xfe || f->fixed_modrm == 0xff || f->fixed_modrm == 0xfb || f->fixed_modrm == 0xf2);
    uint16_t exponent;
    memcpy(&exponent, in->fx + 32 + 8, 2);
    return trig && (exponent & 0x7fff) >= 0x3ffe;
}

/* The last instruction that was executed: where the case ended, or before the end of the sequence. */
static struct subject subject(const struct context *c, uint64_t keep, int end, const struct case_in *in)
{
    struct subject s = { .rules = c->rules };
    int i = end >= 0 && end < (int)c->seq->n ? end : (int)c->seq->n - 1;
    while (i >= 0 && !(keep >> i & 1))
        i--;
    if (i < 0)
        return s;
    s.form = &c->forms->form[c->seq->insn[i].form];
    s.code = in->code + (c->layout.addr[i] - in->code_off);
    s.len = c->seq->insn[i].len;
    return s;
}

void compare(struct report *r, const struct context *c, uint64_t keep, const struct case_in *in,
             const struct case_out *native, const struct case_out *b, const uint8_t *image)
{
    static struct case_out settled;
    struct case_out *a = &settled;
    r->n = 0;
    settled = *native;
    int end = end_index(c, keep, native);
    struct subject last = subject(c, keep, end, in);
    if (!c->native_only && !c->strict && (last.form || last.rules))
        rules_apply(&last, image, a, b);
    if (a->vector != b->vector || a->rip != b->rip)
        DIFFER(r, "end native vector %u rip %#" PRIx64 " engine vector %u rip %#" PRIx64, a->vector, a->rip, b->vector,
               b->rip);
    if (a->vector == b->vector && (a->vector == 13 || a->vector == 12 || a->vector == 11 || a->vector == 14 || a->vector == 17)) {
        uint32_t mask = ~0u;
        if (a->vector == 14 && a->cr2 >= 0x7ffffffff000)
            mask = ~1u;         /* Linux sets P for kernel addresses so as not to tell their layout */
        if ((a->error ^ b->error) & mask)
            DIFFER(r, "error code native %#x engine %#x", a->error, b->error);
        if (a->vector == 14 && a->cr2 != b->cr2)
            DIFFER(r, "cr2 native %#" PRIx64 " engine %#" PRIx64, a->cr2, b->cr2);
    }
    for (int i = 0; i < 16; i++)
        if (a->gpr[i] != b->gpr[i])
            DIFFER(r, "%s native %016" PRIx64 " engine %016" PRIx64, gpr_names[i], a->gpr[i], b->gpr[i]);
    uint8_t undef = 0, x87 = 0;
    for (uint32_t i = 0; i <= c->seq->n; i++)
        if (end < 0 || end == (int)i) {
            undef |= c->layout.undef[i];
            x87 |= c->layout.x87_undef[i];
        }
    uint64_t fmask = arith_mask(undef);
    if ((a->rflags ^ b->rflags) & fmask)
        DIFFER(r, "rflags native %08" PRIx64 " engine %08" PRIx64 " (compared %08" PRIx64 ")", a->rflags, b->rflags,
               fmask & 0x3fffff);
    /* A return to an outer level clears the RPL of null data selectors (SDM vol. 2, IRET), and natively the signal
     * handler was entered by one. */
    for (int i = 0; i < 6; i++)
        if (a->sel[i] != b->sel[i] && !(i != 1 && i != 2 && a->sel[i] < 4 && b->sel[i] < 4))
            DIFFER(r, "%s native %04x engine %04x", sel_names[i], a->sel[i], b->sel[i]);
    if (a->fs_base != b->fs_base)
        DIFFER(r, "fs_base native %016" PRIx64 " engine %016" PRIx64, a->fs_base, b->fs_base);
    if (a->gs_base != b->gs_base)
        DIFFER(r, "gs_base native %016" PRIx64 " engine %016" PRIx64, a->gs_base, b->gs_base);
    compare_fx(r, c, a, b, x87, c->mode == GEN_APPROX && reduces(c, in));
    /* code is part of the image while the case runs */
    static uint8_t with_code[IMAGE_SIZE];
    memcpy(with_code, image, IMAGE_SIZE);
    memcpy(with_code + in->code_off, in->code, in->code_len);
    compare_memory(r, a, b, with_code);
}
