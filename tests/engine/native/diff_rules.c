/*
 * diff_rules.c: see diff_rules.h.  The table at the end has a reason for each rule.
 */
#include "diff_rules.h"
#include "diff_compare.h"

#include "host_vendor.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
enum { PAGE_MASK = 0xfff };

#define ARITH 0x8d5ull
#define FSW_TOP 0x3800u
#define FSW_ES_B 0x8080u
#define FSW_UE 0x10u
#define FSW_RAISED 0x82ffu      /* flags, ES, B, C1 */

/* ---- encodings ---------------------------------------------------------------------------------------------------------- */
static bool has_prefix(const struct subject *s, uint8_t a, uint8_t b)
{
    static const char prefixes[] = "\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65";
    for (uint32_t i = 0; i < s->len && memchr(prefixes, s->code[i], sizeof prefixes - 1); i++)
        if (s->code[i] == a || s->code[i] == b)
            return true;
    return false;
}
static bool is(const struct form *f, unsigned map, unsigned opcode) { return f->map == map && f->opcode == opcode; }
static bool is_string(const struct subject *s, unsigned first)       /* and the opcode after it */
{
    return s->form->special == SP_STRING && (s->form->opcode & 0xfeu) == first;
}
static bool is_rep(const struct subject *s) { return has_prefix(s, 0xf2, 0xf3); }

static bool two_operands(const struct subject *s) { return is_string(s, 0xa4) || is_string(s, 0xa6); }
static bool rep_compare(const struct subject *s) { return is_rep(s) && (is_string(s, 0xa6) || is_string(s, 0xae)); }
static bool rep_address32(const struct subject *s)
{
    return s->form->special == SP_STRING && is_rep(s) && has_prefix(s, 0x67, 0x67);
}
static bool based(const struct subject *s) { return has_prefix(s, 0x64, 0x65); }
static bool far_return(const struct subject *s) { return is(s->form, 0, 0xca) || is(s->form, 0, 0xcb); }
static bool dot_product(const struct subject *s) { return is(s->form, 3, 0x40) || is(s->form, 3, 0x41); }
static bool mask_move(const struct subject *s) { return s->form->special == SP_MASKMOV; }
static bool store_mmx(const struct subject *s)
{
    const struct form *f = s->form;
    return f->cls == CLS_MMX && f->map == 1 && f->mod == MOD_MEM && (f->opcode == 0x7e || f->opcode == 0x7f || f->opcode == 0xe7);
}
static bool call_indirect(const struct subject *s) { return s->form->special == SP_CALLI; }
static bool int1(const struct subject *s) { return s->form->special == SP_INT1; }
static bool fx_image(const struct subject *s) { return s->form->special == SP_FX; }
static bool state_image(const struct subject *s) { return s->form->special == SP_FX || s->form->special == SP_FENV; }
static bool x87_store(const struct subject *s)
{
    const struct form *f = s->form;
    if (f->cls != CLS_X87 || f->map != 0 || f->mod != MOD_MEM)
        return false;
    switch (f->opcode) {
    case 0xd9: return f->digit == 2 || f->digit == 3;
    case 0xdb: return (f->digit >= 1 && f->digit <= 3) || f->digit == 7;
    case 0xdd: return f->digit >= 1 && f->digit <= 3;
    case 0xdf: return (f->digit >= 1 && f->digit <= 3) || f->digit >= 6;
    }
    return false;
}
static bool x87_store_10(const struct subject *s)
{
    return x87_store(s) && (is(s->form, 0, 0xdb) ? s->form->digit == 7 : is(s->form, 0, 0xdf) && s->form->digit == 6);
}
static bool scale_or_remainder(const struct subject *s)
{
    int m = s->form->fixed_modrm;
    return is(s->form, 0, 0xd9) && (m == 0xfd || m == 0xf8 || m == 0xf5);
}
static bool never(const struct subject *s) { (void)s; return false; }

/* ---- outcomes ------------------------------------------------------------------------------------------------------------ */
static bool memory_fault(const struct case_out *o) { return o->vector >= 12 && o->vector <= 14; }
static uint16_t fsw_of(const struct case_out *o) { uint16_t v; memcpy(&v, o->fx + 2, 2); return v; }
static void set_fsw(struct case_out *o, uint16_t v) { memcpy(o->fx + 2, &v, 2); }

/* Both fault at one place: take the engine's fault. */
static void same_fault(struct case_out *a, const struct case_out *b)
{
    if (a->rip != b->rip || !memory_fault(a) || !memory_fault(b))
        return;
    a->vector = b->vector;
    a->error = b->error;
    a->cr2 = b->cr2;
}

/* Renumber the stack, whose registers stay where they are, by the engine's TOP; the host's is 0. */
static void turn_stack(struct case_out *a, const struct case_out *b)
{
    unsigned top = fsw_of(b) >> 11 & 7;
    uint8_t st[8][16];
    if (fsw_of(a) & FSW_TOP)
        return;
    memcpy(st, a->fx + 32, sizeof st);
    for (unsigned i = 0; i < 8; i++)
        memcpy(a->fx + 32 + 16 * i, st[(top + i) & 7], 16);
    set_fsw(a, (uint16_t)(fsw_of(a) | top << 11));
}

/* ---- rules ---------------------------------------------------------------------------------------------------------------- */
#define RULE(name) static void name(const struct subject *s, const uint8_t *image, struct case_out *a, const struct case_out *b)
#define UNUSED (void)s, (void)image

RULE(either_operand) { UNUSED; same_fault(a, b); }
RULE(any_part) { UNUSED; if (a->vector == 14 && b->vector == 14 && a->rip == b->rip) a->cr2 = b->cr2; }
RULE(trap_at_int1)
{
    (void)image;
    if (a->vector == 1 && b->vector == 1 && b->rip == a->rip + s->len)
        a->rip = b->rip;
}
RULE(push_before_target)
{
    UNUSED;
    if (a->vector == 14 && b->vector == 13)
        same_fault(a, b);
}
RULE(align_before_stack)
{
    UNUSED;
    if (a->vector == 13 && b->vector == 12)
        same_fault(a, b);
}
RULE(top_kept)
{
    UNUSED;
    if (memory_fault(a))
        turn_stack(a, b);
}
RULE(low_part_stored)
{
    (void)s;
    if (a->vector != 14)
        return;
    uint64_t end = a->cr2 & ~(uint64_t)PAGE_MASK, begin = end - 9;      /* 8 of these 9 bytes */
    for (uint32_t i = 0; i < a->ngranules && i < MAX_GRANULES; i++) {
        uint64_t va = granule_va(a->granule[i].index), was;
        if (va + 8 <= begin || va >= end)
            continue;
        memcpy(&was, image + a->granule[i].index * 8, 8);
        for (uint32_t k = 0; k < b->ngranules && k < MAX_GRANULES; k++)
            if (b->granule[k].index == a->granule[i].index)
                was = b->granule[k].value;
        uint64_t keep = va >= begin ? 0 : ~0ull >> 8 * (va + 8 - begin);
        a->granule[i].value = (a->granule[i].value & keep) | (was & ~keep);
    }
}
RULE(flags_of_last_iteration)
{
    UNUSED;
    if (a->rip == b->rip && memory_fault(a) && memory_fault(b))
        a->rflags = (a->rflags & ~ARITH) | (b->rflags & ARITH);
}
RULE(upper_halves_kept)
{
    bool movs = !s->form || is_string(s, 0xa4), stos = !s->form || is_string(s, 0xaa);
    bool may[16] = { [RCX] = true, [RSI] = movs, [RDI] = movs || stos };
    (void)image;
    for (unsigned i = 0; i < 16; i++)
        if (may[i] && (uint32_t)a->gpr[i] == b->gpr[i])
            a->gpr[i] = b->gpr[i];
}
RULE(exchange)
{
    UNUSED;
    static const uint64_t masks[3] = { 0xffff, 0xffffffff, UINT64_MAX };
    for (unsigned i = 0; i < 3; i++) {
        uint64_t m = masks[i], keep = i == 0 ? ~m : 0;
        if (a->gpr[RAX] == ((b->gpr[RAX] & keep) | (b->gpr[8] & m)) && a->gpr[8] == ((b->gpr[8] & keep) | (b->gpr[RAX] & m))) {
            a->gpr[RAX] = b->gpr[RAX];
            a->gpr[8] = b->gpr[8];
            return;
        }
    }
}
static bool quiet32(uint32_t v) { return (v & 0x7fc00000) == 0x7fc00000; }
static bool quiet64(uint64_t v) { return (v & 0x7ff8000000000000) == 0x7ff8000000000000; }
RULE(another_nan)
{
    (void)image;
    bool both = !s->form, single = both || is(s->form, 3, 0x40);
    for (unsigned at = 160; at < 416; at += 8) {
        uint64_t x, y;
        uint32_t d[2], e[2];
        memcpy(&x, a->fx + at, 8);
        memcpy(&y, b->fx + at, 8);
        memcpy(d, &x, 8);
        memcpy(e, &y, 8);
        if ((both || !single) && quiet64(x) && quiet64(y))
            memcpy(a->fx + at, &y, 8);
        for (unsigned i = 0; single && i < 2; i++)
            if (quiet32(d[i]) && quiet32(e[i]))
                memcpy(a->fx + at + 4 * i, &e[i], 4);
    }
}
RULE(low_half_first)
{
    UNUSED;
    if (a->vector != 14 || b->vector != 14 || a->rip != b->rip)
        return;
    bool within = (b->cr2 & PAGE_MASK) < 8 && a->cr2 == (b->cr2 & ~(uint64_t)PAGE_MASK);
    if (!within && a->cr2 + 8 != b->cr2)
        return;
    if (a->cr2 >> 63)           /* Linux sets P for kernel addresses so as not to tell their layout */
        a->error = (a->error & ~1u) | (b->error & 1);
    a->cr2 = b->cr2;
}
RULE(access_before_exception)
{
    UNUSED;
    uint16_t fa = fsw_of(a), fb = fsw_of(b);
    if (!memory_fault(a) || a->rip == b->rip || !(fb & FSW_ES_B) || (fa & FSW_ES_B) || ((fa ^ fb) & ~FSW_RAISED))
        return;
    a->vector = b->vector;
    a->error = b->error;
    a->cr2 = b->cr2;
    a->rip = b->rip;
    a->rflags = b->rflags;
    set_fsw(a, fb);
}
RULE(denormal_underflows)
{
    UNUSED;
    uint64_t ma, mb;
    uint16_t ea, eb, fa = fsw_of(a), fb = fsw_of(b);
    memcpy(&ma, a->fx + 32, 8);
    memcpy(&mb, b->fx + 32, 8);
    memcpy(&ea, a->fx + 40, 2);
    memcpy(&eb, b->fx + 40, 2);
    /* a denormal, times 2^24576 on the host */
    if (!(fa & FSW_UE) || !(fa & FSW_ES_B) || (eb & 0x7fff) || !mb || mb >> 63)
        return;
    unsigned shift = (unsigned)__builtin_clzll(mb);
    if (ma != mb << shift || ea != (eb | (24577 - shift)) || ((fa ^ fb) & ~(FSW_UE | FSW_ES_B)))
        return;
    memcpy(a->fx + 32, b->fx + 32, 10);
    set_fsw(a, fb);
}

static bool canonical(uint64_t va) { return (uint64_t)((int64_t)(va << 16) >> 16) == va; }
RULE(offset_canonical)
{
    UNUSED;
    /* CR2 may be at the operand's second page; the operand has up to 16 bytes. */
    uint64_t offset = b->cr2 - (has_prefix(s, 0x65, 0x65) ? b->gs_base : b->fs_base);
    if (a->vector != 13 || b->vector != 14 || a->error || a->rip != b->rip
        || (canonical(offset - 15) && canonical(offset + 15)))
        return;
    a->vector = b->vector;
    a->error = b->error;
    a->cr2 = b->cr2;
}

RULE(returns_read_ahead)
{
    UNUSED;
    if (a->vector != 14 || b->vector != 13 || a->rip != b->rip || (a->cr2 & PAGE_MASK) || a->cr2 - a->gpr[RSP] >= 32)
        return;
    a->vector = b->vector;
    a->error = b->error;
    a->cr2 = b->cr2;
}

static const struct rule {
    const char *name;
    unsigned vendors;
    bool (*covers)(const struct subject *s);
    void (*apply)(const struct subject *s, const uint8_t *image, struct case_out *native, const struct case_out *engine);
} rules[] = {
    /* The order of names is known to corners.py (VENDOR_RULES). */
    /* CMPS and MOVS: which operand is looked at first is not specified; both may fault. */
    { "either-operand", HOST_AMD, two_operands, either_operand },
    /* Operands of many words may be probed in any order. */
    { "any-part", HOST_AMD, state_image, any_part },
    /* INT1 is a trap (SDM vol. 2), but a host that is a virtual machine may report it at the instruction. */
    { "trap-at-int1", HOST_AMD, int1, trap_at_int1 },
    /* AMD pushes the return address before it looks at an indirect call's target. */
    { "push-before-target", HOST_AMD, call_indirect, push_before_target },
    /* FXSAVE, FXRSTOR with a misaligned and non-canonical stack operand: AMD may look at the alignment first. */
    { "align-before-stack", HOST_AMD, fx_image, align_before_stack },
    /* AMD leaves the flags of the last iteration where CMPS or SCAS with REP faults; the SDM wants the first's. */
    { "flags-of-last-iteration", HOST_AMD, rep_compare, flags_of_last_iteration },
    /* AMD does not zero-extend RCX, RSI, RDI before the first iteration of REP with 32-bit addresses. */
    { "upper-halves-kept", HOST_AMD, rep_address32, upper_halves_kept },
    /* AMD takes F3 with REX.B and 90 for XCHG R8, not PAUSE.  (The generator does not produce it.) */
    { "exchange", HOST_AMD, never, exchange },
    /* DPPS, DPPD: which of several NaNs wins. */
    { "another-nan", HOST_AMD, dot_product, another_nan },
    /* MASKMOVDQU: AMD reports the lowest address that faults. */
    { "low-half-first", HOST_AMD, mask_move, low_half_first },
    /* x87 stores that an unmasked exception suppresses: AMD looks at the operand first. */
    { "access-before-exception", HOST_AMD, x87_store, access_before_exception },
    /* FSCALE by 0, FPREM by infinity: a denormal underflows on AMD. */
    { "denormal-underflows", HOST_AMD, scale_or_remainder, denormal_underflows },
    /* Intel clears TOP, but not the tags, when an MMX register's store faults; the SDM has faults change nothing. */
    { "top-kept", HOST_INTEL, store_mmx, top_kept },
    /* Intel stores 8 of an x87 operand's 10 bytes before the other 2, in another page, fault. */
    { "low-part-stored", HOST_INTEL, x87_store_10, low_part_stored },
    /* The SDM (vol. 1, 3.3.7.1) wants the linear address to be canonical; AMD's newer ones want the offset to FS or GS
     * to be, too. */
    { "offset-canonical", HOST_AMD, based, offset_canonical },
    /* RETF to an outer level reads the outer RSP and SS last (SDM vol. 2); AMD may fault there before it looks at CS. */
    { "returns-read-ahead", HOST_AMD, far_return, returns_read_ahead },
};
#define RULES (sizeof rules / sizeof *rules)
static uint64_t applied[RULES];

unsigned rules_count(void) { return RULES; }
const char *rules_name(unsigned i) { return rules[i].name; }
uint64_t rules_applied(unsigned i) { return applied[i]; }

void rules_apply(const struct subject *s, const uint8_t *image, struct case_out *native, const struct case_out *engine)
{
    static struct case_out before;
    static enum host_vendor vendor;
    if (!vendor)
        vendor = host_vendor();
    for (unsigned i = 0; i < RULES; i++) {
        if (!(rules[i].vendors & vendor) || !(s->form ? rules[i].covers(s) : s->rules >> i & 1))
            continue;
        before = *native;
        rules[i].apply(s, image, native, engine);
        applied[i] += memcmp(&before, native, sizeof before) != 0;
    }
}
