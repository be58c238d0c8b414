/* diff_gen.c: see diff_gen.h. */
#include "diff_gen.h"

#include "host_vendor.h"

#include <assert.h>
#include <string.h>

/* ---- random numbers: a splitmix64 stream per case --------------------------------------------------------------------- */
struct rng { uint64_t s; };

/* What AMD's processors and Intel's do differently without a rule (diff_rules.h) is not generated on the former. */
static bool host_is_amd(void)
{
    static enum host_vendor vendor;
    if (!vendor)
        vendor = host_vendor();
    return vendor == HOST_AMD;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}
static uint64_t rnd(struct rng *r) { return mix(r->s += 0x9e3779b97f4a7c15ull); }
static uint32_t below(struct rng *r, uint32_t n) { return (uint32_t)(((rnd(r) >> 32) * n) >> 32); }
static bool chance(struct rng *r, uint32_t percent) { return below(r, 100) < percent; }
static bool permille(struct rng *r, uint32_t k) { return below(r, 1000) < k; }

#define PICK(r, array) ((array)[below(r, sizeof(array) / sizeof *(array))])

/* ---- boundary-biased values ---------------------------------------------------------------------------------------------- */
static uint64_t int_value(struct rng *r)
{
    static const uint64_t edges[] = {
        0, 0, 1, 2, 3, 0x7f, 0x80, 0x81, 0xff, 0x100, 0x7ffe, 0x7fff, 0x8000, 0x8001, 0xffff, 0x10000, 0x7fffffff,
        0x80000000, 0x80000001, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, 0x8000000000000001,
        0xffffffffffffffff, 0xffffffffffffffff, 0xfffffffffffffffe, 0xffffffff80000000, 0xffffffff7fffffff,
        0xffffffffffff8000, 0xffffffffffffff80, 0xffffffffffffff7f, 0x0f0f0f0f0f0f0f0f, 0x5555555555555555,
        0xaaaaaaaaaaaaaaaa, 0x0101010101010101, 0x8080808080808080, 0x7f7f7f7f7f7f7f7f, 0x00ff00ff00ff00ff,
        0x8000800080008000, 0x7fff7fff7fff7fff, 0x123456789abcdef0,
    };
    switch (below(r, 8)) {
    case 0: case 1: case 2:
        return PICK(r, edges);
    case 3:
        return 1ull << below(r, 64);
    case 4:
        return below(r, 256);
    case 5:
        return PICK(r, edges) + (uint64_t)(int64_t)((int)below(r, 7) - 3);
    default:
        return rnd(r) >> below(r, 2) * below(r, 64);
    }
}

static uint32_t f32_value(struct rng *r)
{
    static const uint32_t edges[] = {
        0, 0x80000000, 0x3f800000, 0xbf800000, 1, 0x80000001, 0x7fffff, 0x807fffff, 0x800000, 0x80800000, 0x7f7fffff,
        0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7fc12345, 0xffd54321, 0x7f800001, 0xff812345,
        0x7fbfffff, 0x3f000000, 0x3fc00000, 0xbfc00000, 0x40200000, 0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000,
        0xdf000000, 0x5effffff, 0x4b000001, 0x4affffff, 0x46fffe00, 0x47000000, 0xc7000100, 0x34000000, 0x33800000,
        0x3f7fffff, 0x3f800001, 0x3eaaaaab, 0x0d800000, 0x72800000,
    };
    switch (below(r, 6)) {
    case 0: case 1: case 2:
        return PICK(r, edges);
    case 3:                                     /* moderate exponents: results in range */
        return (uint32_t)(rnd(r) & 0x807fffff) | (uint32_t)(0x7f + below(r, 24) - 12) << 23;
    case 4:                                     /* few significant bits: exact and half-way cases */
        return (uint32_t)(rnd(r) & 0x80780000) | (uint32_t)(0x7f + below(r, 70) - 35) << 23;
    default:
        return (uint32_t)rnd(r);
    }
}

static uint64_t f64_value(struct rng *r)
{
    static const uint64_t edges[] = {
        0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, 1, 0x8000000000000001, 0xfffffffffffff,
        0x10000000000000, 0x8010000000000000, 0x7fefffffffffffff, 0xffefffffffffffff, 0x7ff0000000000000,
        0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000, 0x7ff8123456789abc, 0x7ff0000000000001,
        0xfff4123456789abc, 0x3fe0000000000000, 0x3ff8000000000000, 0xbff8000000000000, 0x4004000000000000,
        0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000100000, 0x41dfffffffc00000, 0x41dfffffffe00000,
        0x43e0000000000000, 0xc3e0000000000000, 0x43dfffffffffffff, 0x47efffffe0000000, 0x47effffff0000000,
        0x3810000000000000, 0x380fffffffffffff, 0x36a0000000000000, 0x3690000000000000, 0x3fefffffffffffff,
        0x3ff0000000000001, 0x3cb0000000000000, 0x3fd5555555555555, 0x3ff0000010000000, 0x3ff0000030000000,
    };
    switch (below(r, 6)) {
    case 0: case 1: case 2:
        return PICK(r, edges);
    case 3:
        return (rnd(r) & 0x800fffffffffffff) | (uint64_t)(0x3ff + below(r, 80) - 40) << 52;
    case 4:
        return (rnd(r) & 0x800f000000000000) | (uint64_t)(0x3ff + below(r, 140) - 70) << 52;
    default:
        return rnd(r);
    }
}

static void f80_value(struct rng *r, uint8_t *out)
{
    static const struct { uint16_t se; uint64_t m; } edges[] = {
        { 0, 0 }, { 0x8000, 0 }, { 0x3fff, 1ull << 63 }, { 0xbfff, 1ull << 63 }, { 0, 1 }, { 0x8000, 1 },
        { 0, ~0ull >> 1 }, { 0, 1ull << 63 } /* pseudo-denormal */, { 1, 1ull << 63 }, { 0x7ffe, ~0ull },
        { 0xfffe, ~0ull }, { 0x7fff, 1ull << 63 }, { 0xffff, 1ull << 63 }, { 0x7fff, 3ull << 62 },
        { 0xffff, 3ull << 62 }, { 0x7fff, 0xc123456789abcdef }, { 0x7fff, 0x8000000000000001 },
        { 0xffff, 0xa123456789abcdef }, { 0x7fff, 0 } /* pseudo-infinity */, { 0x7fff, 1 } /* pseudo-NaN */,
        { 0x3fff, 0x4000000000000000 } /* unnormal */, { 0x3ffe, 1ull << 63 }, { 0x4000, 0xa000000000000000 },
        { 0x401e, 1ull << 63 }, { 0xc01e, 1ull << 63 }, { 0x403e, 1ull << 63 }, { 0xc03e, 1ull << 63 },
        { 0x403d, ~0ull }, { 0x400e, 1ull << 63 }, { 0x400d, 0xfffe000000000000 }, { 0x4000, 0xc90fdaa22168c235 },
        { 0x3fff, ~0ull }, { 0x3fff, 0x8000000000000001 }, { 0x3f80, 0xffffff0000000000 }, { 0x407e, 0xffffff8000000000 },
        { 0x3c00, 0xfffffffffffff800 }, { 0x43fe, 0xfffffffffffffc00 }, { 0x3f6a, 1ull << 63 }, { 0x3bcd, 1ull << 63 },
        { 0x4035, 0x8000000000000001 }, { 0x403a, 0xde0b6b3a763ffff8 } /* 10^18 */, { 0x3ffd, 0xaaaaaaaaaaaaaaab },
    };
    uint16_t se;
    uint64_t m;
    switch (below(r, 6)) {
    case 0: case 1: case 2: {
        unsigned i = below(r, sizeof edges / sizeof *edges);
        se = edges[i].se;
        m = edges[i].m;
        break;
    }
    case 3:
        se = (uint16_t)((rnd(r) & 0x8000) | (0x3fff + below(r, 140) - 70));
        m = rnd(r) | 1ull << 63;
        break;
    case 4:
        se = (uint16_t)((rnd(r) & 0x8000) | (0x3fff + below(r, 40) - 20));
        m = (rnd(r) & (0xfffull << 52)) | 1ull << 63;
        break;
    default:
        se = (uint16_t)rnd(r);
        m = rnd(r) | (chance(r, 90) ? 1ull << 63 : 0);
        break;
    }
    memcpy(out, &m, 8);
    memcpy(out + 8, &se, 2);
}

static void bcd_value(struct rng *r, uint8_t *out)
{
    for (int i = 0; i < 9; i++)
        out[i] = (uint8_t)(below(r, 10) | below(r, 10) << 4);
    out[9] = chance(r, 50) ? 0x80 : 0;
}

/* ---- x87 state -------------------------------------------------------------------------------------------------------------- */
static uint16_t fcw_value(struct rng *r)
{
    static const uint16_t precision[] = { 0, 0x200, 0x300, 0x300, 0x300 };
    uint16_t v = (uint16_t)(0x40 | PICK(r, precision) | below(r, 4) << 10);
    return v | (chance(r, 85) ? 0x3f : (uint16_t)below(r, 64));
}

static uint32_t mxcsr_value(struct rng *r)
{
    uint32_t v = below(r, 4) << 13;
    v |= chance(r, 80) ? 0x1f80 : below(r, 64) << 7;
    if (chance(r, 25))
        v |= 0x8000;            /* FTZ */
    if (chance(r, 25))
        v |= 0x40;              /* DAZ */
    if (chance(r, 50))
        v |= below(r, 64);
    return v;
}

/* ES and B summarise the unmasked exceptions; hardware computes them when the state is loaded. */
static uint16_t fsw_consistent(uint16_t fsw, uint16_t fcw)
{
    fsw &= 0x7f7f;
    return fsw & ~fcw & 0x3f ? (uint16_t)(fsw | 0x8080) : fsw;
}

static void fx_image(struct rng *r, uint8_t *fx)
{
    memset(fx, 0, 512);
    uint16_t fcw = fcw_value(r), fsw = (uint16_t)(below(r, 8) << 11);
    if (chance(r, 60))
        fsw |= (uint16_t)(rnd(r) & 0x4700);
    if (chance(r, 40))
        fsw |= (uint16_t)(chance(r, 90) ? rnd(r) & 0x7f & fcw : rnd(r) & 0x7f);
    fsw = fsw_consistent(fsw, fcw);
    /* mostly a few valid registers on top of the stack; sometimes any tags */
    uint8_t tag = 0;
    unsigned top = (fsw >> 11) & 7, depth = below(r, 9);
    for (unsigned i = 0; i < depth; i++)
        tag |= (uint8_t)(1u << ((top + i) & 7));
    if (chance(r, 15))
        tag = (uint8_t)rnd(r);
    memcpy(fx, &fcw, 2);
    memcpy(fx + 2, &fsw, 2);
    fx[4] = tag;
    uint32_t mxcsr = mxcsr_value(r), mask = 0xffff;
    memcpy(fx + 24, &mxcsr, 4);
    memcpy(fx + 28, &mask, 4);
    for (int i = 0; i < 8; i++)
        f80_value(r, fx + 32 + i * 16);
    for (int i = 0; i < 16; i++) {
        uint64_t q[2] = { 0, 0 };
        switch (below(r, 4)) {
        case 0:
            q[0] = int_value(r);
            q[1] = int_value(r);
            break;
        case 1:
            q[0] = f64_value(r);
            q[1] = f64_value(r);
            break;
        case 2:
            for (int k = 0; k < 4; k++)
                q[k / 2] |= (uint64_t)f32_value(r) << (k & 1) * 32;
            break;
        default:
            for (int k = 0; k < 16; k++)        /* bytes: text-like, for PCMPxSTRx */
                q[k / 8] |= (uint64_t)(chance(r, 10) ? 0 : below(r, 6) + (chance(r, 20) ? 0x7e : 'a')) << (k & 7) * 8;
            break;
        }
        memcpy(fx + 160 + i * 16, q, 16);
    }
}

/* ---- memory contents ---------------------------------------------------------------------------------------------------------- */
/* Every data page has four kilobyte-sized zones, by class of contents. */
static uint32_t zone_of(unsigned mclass)
{
    switch (mclass) {
    case M_F32: return 0x400;
    case M_F64: return 0x800;
    case M_F80: case M_BCD: return 0xc00;
    default: return 0;
    }
}

static void gen_env_page(struct rng *r, uint8_t *page)
{
    for (int i = 0; i < 4; i++)
        fx_image(r, page + ENV_FX + i * 512);
    bool wide = true;
    for (uint32_t at = ENV_ENV; at < ENV_END; at += at < ENV_STATE ? 32 : 128, wide = !wide) {
        uint16_t fcw = fcw_value(r), ftw = (uint16_t)rnd(r);
        uint16_t fsw = (uint16_t)rnd(r) & (chance(r, 85) ? 0x7f40 | (fcw & 0x3f) : 0x7fff);
        fsw = fsw_consistent(fsw, fcw);
        uint16_t env32[6] = { fcw, 0xffff, fsw, 0xffff, ftw, 0xffff }, env16[3] = { fcw, fsw, ftw };
        memcpy(page + at, wide ? env32 : env16, wide ? sizeof env32 : sizeof env16);
        for (int i = 0; at >= ENV_STATE && i < 8; i++)
            f80_value(r, page + at + (wide ? 28 : 14) + i * 10);
    }
}

void gen_image(uint64_t seed, uint64_t batch, uint8_t *image)
{
    struct rng r = { mix(seed ^ mix(batch + 0x51ed270b)) };
    uint8_t *p = image;
    for (unsigned g = 0; g < NREGIONS; g++) {
        for (unsigned k = 0; k < regions[g].pages; k++, p += 4096) {
            if (regions[g].va == CODE_VA) {
                memset(p, 0xcc, 4096);
            } else if (regions[g].va == ENV_VA) {
                gen_env_page(&r, p);
            } else {
                for (int i = 0; i < 0x400; i += 8) {
                    uint64_t v = int_value(&r), w = f64_value(&r), u = f32_value(&r) | (uint64_t)f32_value(&r) << 32;
                    memcpy(p + i, &v, 8);
                    memcpy(p + 0x400 + i, &u, 8);
                    memcpy(p + 0x800 + i, &w, 8);
                }
                for (int i = 0xc00; i < 0x1000; i += 16) {
                    f80_value(&r, p + i);
                    if (i & 0x10)
                        bcd_value(&r, p + i);
                }
            }
        }
    }
}

/* ---- generator state ------------------------------------------------------------------------------------------------------------- */
struct pending {
    int8_t target, branch, holder;      /* holder: the instruction with the target's absolute address, or -1 */
    uint16_t known;
    uint64_t value[16];
    int8_t known_by[16];
    uint8_t undef, x87_undef;
    int8_t df;
};

struct gen {
    struct rng r;
    const struct forms *forms;
    struct sequence *s;
    uint16_t known;             /* registers whose value is known here */
    uint64_t value[16];
    int8_t known_by[16];        /* the instruction that established it, -1: the initial state */
    uint8_t undef, x87_undef;
    int8_t df;                  /* 0, 1, -1 unknown */
    bool fs_known, gs_known;
    uint64_t fs, gs;
    int8_t fs_by, gs_by;
    struct pending pend[8];
    int npend;
    uint32_t wild_permille;     /* how often operands are meant to fault */
    bool no_wild;               /* this operand must not fault: which bytes are touched differs between vendors */
    uint16_t frozen;            /* registers that must not be written (a loop's counter) */
    int gadget;                 /* first instruction of the group being generated, which no branch may enter */
    uint16_t hold;              /* registers that address generation must not overwrite now */
    int8_t last_needs[4];       /* collected while an instruction is being built */
    int nneeds;
};

/* Forms that helpers emit, found once by opcode. */
struct helper_forms { int mov32, mov64, push32, mov_mem8, add8, ftst; };
static struct helper_forms helpers;

static int find_form(const struct forms *f, uint8_t map, uint8_t opcode, uint8_t mod, uint8_t size, int digit)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->form[i].map == map && f->form[i].opcode == opcode && f->form[i].mod == mod && f->form[i].size == size
            && f->form[i].digit == digit && !(f->form[i].attrs & A_UD))
            return (int)i;
    assert(!"helper form missing from the table");
    return -1;
}

static void need(struct gen *g, int by)
{
    if (by < 0)
        return;
    for (int i = 0; i < g->nneeds; i++)
        if (g->last_needs[i] == by)
            return;
    assert(g->nneeds < 4);
    g->last_needs[g->nneeds++] = (int8_t)by;
}

static void forget(struct gen *g, unsigned reg) { g->known &= (uint16_t)~(1u << reg); }
static bool knows(const struct gen *g, unsigned reg) { return g->known >> reg & 1; }

static void learn(struct gen *g, unsigned reg, uint64_t value, int by)
{
    g->known |= (uint16_t)(1u << reg);
    g->value[reg] = value;
    g->known_by[reg] = (int8_t)by;
}

static void resolve_pending(struct gen *g);

static struct insn *new_insn(struct gen *g, int form)
{
    resolve_pending(g);
    assert(g->s->n < MAX_INSNS);
    struct insn *in = &g->s->insn[g->s->n];
    memset(in, 0, sizeof *in);
    in->form = (uint16_t)form;
    in->jump = -1;
    memset(in->needs, -1, sizeof in->needs);
    return in;
}

static void put(struct insn *in, uint64_t v, unsigned size)
{
    assert(in->len + size <= sizeof in->bytes);
    memcpy(in->bytes + in->len, &v, size);
    in->len = (uint8_t)(in->len + size);
}

static void add_fix(struct insn *in, unsigned type, unsigned off, unsigned size, int target, uint64_t value)
{
    struct fix *f = in->fix[0].type == FIX_NONE ? &in->fix[0] : &in->fix[1];
    assert(f->type == FIX_NONE);
    *f = (struct fix){ (uint8_t)type, (uint8_t)off, (uint8_t)size, (int8_t)target, value };
}

/* The instruction is complete: apply its effect on what is known. */
static void commit(struct gen *g, struct insn *in)
{
    for (int i = 0; i < g->nneeds; i++)
        in->needs[i] = g->last_needs[i];
    g->nneeds = 0;
    uint8_t defined = (uint8_t)(in->modified | in->undefined);
    g->undef = (uint8_t)((g->undef & ~defined) | in->undefined);
    g->x87_undef = (uint8_t)((g->x87_undef & ~in->x87_modified) | in->x87_undefined);
    g->s->n++;
}

static void retarget(struct gen *g, int index, int from, int to)
{
    struct insn *in = &g->s->insn[index];
    if (in->jump == from)
        in->jump = (int8_t)to;
    for (int k = 0; k < 2; k++)
        if (in->fix[k].type != FIX_NONE && in->fix[k].target == from)
            in->fix[k].target = (int8_t)to;
}

/* Branch targets reached at the current position: what is known is what both ways agree on. */
static void resolve_pending(struct gen *g)
{
    for (int i = 0; i < g->npend;) {
        struct pending *p = &g->pend[i];
        if (p->target != (int)g->s->n) {
            i++;
            continue;
        }
        if (g->gadget >= 0 && g->gadget != (int)g->s->n) {
            /* not into the middle of a group: behind this instruction instead */
            retarget(g, p->branch, p->target, p->target + 1);
            if (p->holder >= 0)
                retarget(g, p->holder, p->target, p->target + 1);
            p->target++;
            i++;
            continue;
        }
        for (unsigned reg = 0; reg < 16; reg++)
            if (!(p->known >> reg & 1) || p->value[reg] != g->value[reg] || p->known_by[reg] != g->known_by[reg])
                forget(g, reg);
        g->undef |= p->undef;
        g->x87_undef |= p->x87_undef;
        if (g->df != p->df)
            g->df = -1;
        *p = g->pend[--g->npend];
    }
}

/* The branch just committed leads to `target`. */
static void add_pending(struct gen *g, int target, int holder)
{
    assert(g->npend < 8);
    struct pending *p = &g->pend[g->npend++];
    p->target = (int8_t)target;
    p->branch = (int8_t)(g->s->n - 1);
    p->holder = (int8_t)holder;
    p->known = g->known;
    memcpy(p->value, g->value, sizeof p->value);
    memcpy(p->known_by, g->known_by, sizeof p->known_by);
    p->undef = g->undef;
    p->x87_undef = g->x87_undef;
    p->df = g->df;
}

static void form_effects(struct gen *g, struct insn *in, const struct form *f)
{
    in->tested = f->tested & F_ALL;
    in->modified = f->modified & F_ALL;
    in->undefined = f->undefined;
    if (f->x87_undefined & 0x80) {
        in->x87_undefined = f->x87_undefined & 15;
        in->x87_modified = 15;
    }
    for (unsigned reg = 0; reg < 8; reg++)
        if (f->implicit >> reg & 1)
            forget(g, reg);
}

/* mov reg, value */
static int emit_mov_sized(struct gen *g, unsigned reg, uint64_t value, bool wide)
{
    resolve_pending(g);
    struct insn *in = new_insn(g, wide ? helpers.mov64 : helpers.mov32);
    uint8_t rex = (uint8_t)((wide ? 0x48 : 0) | (reg >= 8 ? 0x41 : 0));
    if (rex)
        put(in, rex, 1);
    put(in, 0xb8 + (reg & 7), 1);
    put(in, value, wide ? 8 : 4);
    int index = (int)g->s->n;
    commit(g, in);
    learn(g, reg, value, index);
    return index;
}

static int emit_mov(struct gen *g, unsigned reg, uint64_t value)
{
    return emit_mov_sized(g, reg, value, value >> 32 != 0);
}

/* push imm32 */
static void emit_push(struct gen *g, uint32_t value, int target)
{
    resolve_pending(g);
    struct insn *in = new_insn(g, helpers.push32);
    put(in, 0x68, 1);
    if (target >= 0)
        add_fix(in, FIX_ABS, 1, 4, target, 0);
    put(in, value, 4);
    int index = (int)g->s->n;
    commit(g, in);
    if (knows(g, 4))
        learn(g, 4, g->value[4] - 8, index);
}

static void emit_push_reg(struct gen *g, unsigned reg)
{
    resolve_pending(g);
    struct insn *in = new_insn(g, find_form(g->forms, 0, 0x50, MOD_OPREG, 8, -1));
    if (reg >= 8)
        put(in, 0x41, 1);
    put(in, 0x50 + (reg & 7), 1);
    int index = (int)g->s->n;
    commit(g, in);
    if (knows(g, 4))
        learn(g, 4, g->value[4] - 8, index);
}

static void ensure(struct gen *g, unsigned reg, uint64_t value)
{
    if (!knows(g, reg) || g->value[reg] != value)
        emit_mov(g, reg, value);
}

static unsigned free_reg(struct gen *g)
{
    for (;;) {
        unsigned reg = below(&g->r, 16);
        if (reg != 4 && !((g->frozen | g->hold) >> reg & 1))
            return reg;
    }
}

/* ---- memory operands ------------------------------------------------------------------------------------------------------------------ */
static uint64_t pick_address(struct gen *g, unsigned mclass, unsigned size, unsigned align, bool written)
{
    struct rng *r = &g->r;
    if (mclass == M_FX)
        return ENV_VA + ENV_FX + below(r, 4) * 512u;
    if (mclass == M_ENV)
        return ENV_VA + ENV_ENV + (below(r, 8) * 2u + (size == 14)) * 32u;
    if (mclass == M_STATE)
        return ENV_VA + ENV_STATE + (below(r, 4) * 2u + (size == 94)) * 128u;
    if (!g->no_wild && permille(r, g->wild_permille)) {
        static const uint64_t wild[] = {
            DATA_VA + 0x3000,                   /* read-only */
            DATA_VA + 0x3800, DATA_VA + 0x2ffc, DATA_VA + 0x2ff9,
            DATA_VA + 0x3ffc,                   /* into the guard page */
            DATA_VA - 4, DATA_VA - 0x800, NEAR_VA + 0xffd, STACK_VA + 0x1ffa, STACK_VA - 8,
            0, 8, 0x7ffffffffffc, 0x800000000000, 0x7fffffffffff, 0xffff7ffffffffffc, 0xffff800000000000,
            0xfffffffffffffffc, 0xffffffffffffffff, 0x8000000000000000,
        };
        uint64_t at = PICK(r, wild);
        return align > 1 && chance(r, 50) ? at & ~(uint64_t)(align - 1) : at;
    }
    uint64_t page;
    switch (below(r, 8)) {
    case 0: case 1:
        page = NEAR_VA;
        break;
    case 2:
        page = STACK_VA + below(r, 2) * 4096u;
        break;
    case 3:
        page = written ? DATA_VA : DATA_VA + 0x3000;
        break;
    default:
        page = DATA_VA + below(r, 3) * 4096u;
        break;
    }
    if (align == 1 && page >= DATA_VA && page < DATA_VA + 0x2000 && size > 1 && chance(r, 15))
        return page + 4096 - 1 - below(r, size - 1);            /* crosses a page (or 4 GiB) */
    uint32_t zone = zone_of(mclass);
    uint32_t step = mclass == M_F32 ? 4 : mclass == M_F80 || mclass == M_BCD ? 16 : 8;
    if (align > step)
        step = align;
    uint32_t at = zone + below(r, 0x400 / step) * step;
    if (mclass == M_BCD)
        at |= 0x10;
    if (mclass == M_F80 && chance(r, 95))
        at &= ~0x10u;
    if (align == 1 && chance(r, 20))
        at += below(r, 16);
    if (align > 1 && !g->no_wild && permille(r, g->wild_permille))
        at += 1 + below(r, 15);
    if (at + size > 4096 && page != DATA_VA && page != DATA_VA + 0x1000)
        at = 4096 - size;
    return page + at;
}

struct mem {
    uint8_t modrm, sib, seg;
    bool has_sib, a32, rip;
    uint8_t disp_size;
    uint8_t rexbits;            /* X and B */
    uint64_t disp;              /* or the RIP-relative target */
};

static bool canonical(uint64_t v) { return (int64_t)(v << 16) >> 16 == (int64_t)v; }
static bool fits32(uint64_t v) { return (int64_t)v == (int64_t)(int32_t)v; }

/* Find an encoding that addresses `at`; emits a MOV if no known register helps. */
static struct mem encode_address(struct gen *g, uint64_t at, unsigned size, int force_base)
{
    struct rng *r = &g->r;
    struct mem m = { 0 };
    /* segment override: FS or GS shift the address; others have no effect */
    if (chance(r, 12)) {
        static const uint8_t segs[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x64, 0x64, 0x65, 0x65, 0x65 };
        m.seg = PICK(r, segs);
        if ((m.seg == 0x64 && !g->fs_known) || (m.seg == 0x65 && !g->gs_known))
            m.seg = 0;
        uint64_t base = m.seg == 0x64 ? g->fs : m.seg == 0x65 ? g->gs : 0;
        /* AMD also wants the offset canonical, before the base is added; Intel only the sum. */
        if (host_is_amd() && canonical(at) && !(canonical(at - base) && canonical(at - base + size)))
            m.seg = 0, base = 0;
        if (m.seg == 0x64)
            need(g, g->fs_by);
        if (m.seg == 0x65)
            need(g, g->gs_by);
        at -= base;
    }
    /* Processors compute the address of an 80-bit operand's second part apart, and so wrap it at 4 GiB; the engine does
     * not. */
    if (at >> 32 == 0 && chance(r, 15) && (at + size) >> 32 == 0)
        m.a32 = true;
    if (force_base < 0 && at + 0x60000000 >= CODE_VA && at < CODE_VA + 0x60000000 && !m.a32 && chance(r, 40)) {
        m.rip = true;
        m.modrm = 5;
        m.disp = at;
        m.disp_size = 4;
        return m;
    }
    if (force_base < 0 && (m.a32 || fits32(at)) && chance(r, 25)) {
        m.modrm = 4;                            /* SIB without base or index */
        m.has_sib = true;
        m.sib = (uint8_t)(0x25 | below(r, 4) << 6);
        m.disp = at;
        m.disp_size = 4;
        return m;
    }
    int base = force_base;
    if (base < 0) {
        for (int k = 0; k < 6 && base < 0; k++) {
            unsigned c = below(r, 16);
            if (knows(g, c) && (m.a32 || fits32(at - g->value[c])))
                base = (int)c;
        }
        if (base < 0) {
            unsigned c = free_reg(g);
            uint64_t near = at + (uint64_t)(int64_t)(below(r, 512)) - 256;
            /* The MOV is committed at once, so the needs collected so far (segment bases) must survive it. */
            int8_t saved[4];
            int nsaved = g->nneeds;
            memcpy(saved, g->last_needs, sizeof saved);
            g->nneeds = 0;
            emit_mov(g, c, m.a32 ? (uint32_t)near : near);
            memcpy(g->last_needs, saved, sizeof saved);
            g->nneeds = nsaved;
            base = (int)c;
        }
    }
    need(g, g->known_by[base]);
    uint64_t disp = at - g->value[base];
    int index = -1;
    unsigned scale = below(r, 4);
    if (chance(r, 30)) {
        unsigned c = below(r, 16);
        if (c != 4 && knows(g, c) && (m.a32 || fits32(disp - (g->value[c] << scale))) && g->nneeds < 4) {
            index = (int)c;
            disp -= g->value[c] << scale;
            need(g, g->known_by[c]);
        }
    }
    if (m.a32)
        disp = (uint64_t)(int64_t)(int32_t)disp;
    m.disp = disp;
    m.disp_size = disp == 0 && (base & 7) != 5 && chance(r, 80) ? 0
                  : (int64_t)disp == (int8_t)disp && chance(r, 80) ? 1 : 4;
    unsigned mod = m.disp_size == 0 ? 0 : m.disp_size == 1 ? 0x40 : 0x80;
    if (index >= 0 || (base & 7) == 4 || chance(r, 10)) {
        m.has_sib = true;
        m.modrm = (uint8_t)(mod | 4);
        m.sib = (uint8_t)(scale << 6 | (index >= 0 ? index & 7 : 4) << 3 | (base & 7));
        m.rexbits = (uint8_t)((index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0));
    } else {
        m.modrm = (uint8_t)(mod | (base & 7));
        m.rexbits = base >= 8 ? 1 : 0;
    }
    return m;
}

/* ---- encoding an instruction ------------------------------------------------------------------------------------------------------------ */
struct build {
    unsigned reg, rm;           /* operands */
    bool have_mem;
    struct mem mem;
    uint64_t imm;
    uint8_t rep, seg, lock;
    bool a32;
    bool no_junk;
};

/* F2 and F3 have no meaning before these. */
static bool rep_ignored(const struct form *f)
{
    if (f->attrs)
        return false;
    if (f->map == 0)
        return f->opcode < 0x40 || f->opcode == 0x63 || (f->opcode >= 0x69 && f->opcode <= 0x6b) || (f->opcode >= 0x80 && f->opcode < 0x90)
               || f->opcode == 0xc0 || f->opcode == 0xc1 || (f->opcode >= 0xd0 && f->opcode < 0xd4) || f->opcode == 0xf6
               || f->opcode == 0xf7;
    return f->map == 1 && ((f->opcode & 0xf0) == 0x40 || (f->opcode & 0xf0) == 0x90 || f->opcode == 0xa3 || f->opcode == 0xaf
                           || f->opcode == 0xb6 || f->opcode == 0xb7 || f->opcode == 0xbe || f->opcode == 0xbf);
}

static void encode(struct gen *g, struct insn *in, const struct form *f, struct build *b)
{
    struct rng *r = &g->r;
    uint8_t prefix[8];
    unsigned np = 0;
    bool w = f->rexw == 1 || (f->size == 8 && !f->d64 && f->rexw != 2);
    bool opsize = f->size == 2 && !(f->map && f->prefix == 0x66);
    if (f->size == 0 && f->rexw == 0 && (f->map || f->cls != CLS_INT) && !b->no_junk && permille(r, 60))
        w = true;               /* REX.W without meaning */
    if (opsize)
        prefix[np++] = 0x66;
    if (f->prefix == 0x66)
        prefix[np++] = 0x66;
    if (b->mem.a32 || b->a32)
        prefix[np++] = 0x67;
    if (b->have_mem && b->mem.seg)
        prefix[np++] = b->mem.seg;
    if (b->seg)
        prefix[np++] = b->seg;
    if (b->lock)
        prefix[np++] = 0xf0;
    if (f->prefix == 0xf2 || f->prefix == 0xf3)
        prefix[np++] = f->prefix;
    if (b->rep)
        prefix[np++] = b->rep;
    if (!b->no_junk && permille(r, 30)) {
        /* prefixes without meaning here */
        static const uint8_t segs[] = { 0x26, 0x2e, 0x36, 0x3e };
        if (!b->have_mem || !b->mem.seg)
            prefix[np++] = PICK(r, segs);
    }
    if (!b->no_junk && permille(r, 20) && f->size == 1 && f->map == 0 && f->cls == CLS_INT)
        prefix[np++] = 0x66;
    if (!b->no_junk && permille(r, 20) && f->cls == CLS_INT && f->mod != MOD_OPREG && !b->rep && rep_ignored(f))
        prefix[np++] = chance(r, 50) ? 0xf2 : 0xf3;
    for (unsigned i = np; i > 1; i--) {         /* any order */
        unsigned j = below(r, i);
        uint8_t t = prefix[i - 1];
        prefix[i - 1] = prefix[j];
        prefix[j] = t;
    }
    for (unsigned i = 0; i < np; i++)
        put(in, prefix[i], 1);
    /* REX */
    bool byte_low = false, byte_high = false;
    uint8_t rex = (uint8_t)(w ? 8 : 0);
    unsigned reg = b->reg, rm = b->rm;
    if (f->reg_kind == K_GPR8) {
        if (reg >= 16)
            byte_high = true, reg -= 12;        /* AH CH DH BH are numbered 16-19 here, 4-7 in the encoding */
        else if (reg >= 4 && reg < 8)
            byte_low = true;
    }
    if (f->rm_kind == K_GPR8 && !b->have_mem) {
        if (rm >= 16)
            byte_high = true, rm -= 12;
        else if (rm >= 4 && rm < 8)
            byte_low = true;
    }
    assert(!(byte_high && (byte_low || reg >= 8 || rm >= 8)));
    if (f->reg_kind != K_NONE && reg >= 8)
        rex |= 4;
    if (b->have_mem)
        rex |= b->mem.rexbits;
    else if (rm >= 8)
        rex |= 1;
    bool any_rex = rex || byte_low || (!byte_high && !b->no_junk && permille(r, 30));
    if (byte_high)
        assert(!rex);
    if (any_rex)
        put(in, 0x40 | rex, 1);
    if (f->map >= 1)
        put(in, 0x0f, 1);
    if (f->map == 2)
        put(in, 0x38, 1);
    if (f->map == 3)
        put(in, 0x3a, 1);
    put(in, f->mod == MOD_OPREG ? f->opcode | (rm & 7) : f->opcode, 1);
    if (f->mod == MOD_REG) {
        put(in, 0xc0 | ((f->digit >= 0 ? (unsigned)f->digit : reg) & 7) << 3 | (rm & 7), 1);
    } else if (f->mod == MOD_FIXED) {
        put(in, (uint64_t)f->fixed_modrm, 1);
    } else if (f->mod == MOD_MEM) {
        put(in, b->mem.modrm | ((f->digit >= 0 ? (unsigned)f->digit : reg) & 7) << 3, 1);
        if (b->mem.has_sib)
            put(in, b->mem.sib, 1);
        if (b->mem.rip)
            add_fix(in, FIX_RIP, in->len, 4, -1, b->mem.disp);
        if (b->mem.disp_size)
            put(in, b->mem.disp, b->mem.disp_size);
    }
    if (f->moffs)
        put(in, b->mem.disp, b->mem.a32 ? 4 : 8);
    if (f->imm)
        put(in, b->imm, f->imm);
}

static unsigned pick_gpr(struct gen *g, bool written)
{
    for (;;) {
        unsigned reg = below(&g->r, 16);
        if (written && (g->frozen >> reg & 1))
            continue;
        if (written && reg == 4 && !chance(&g->r, 5))
            continue;
        return reg;
    }
}

/* 8-bit registers: 0-15 with REX naming, 16-19 = AH CH DH BH. */
static unsigned pick_gpr8(struct gen *g, bool written, bool allow_high)
{
    for (;;) {
        unsigned reg = below(&g->r, allow_high ? 20 : 16);
        unsigned whole = reg >= 16 ? reg - 16 : reg;
        if (written && (g->frozen >> whole & 1))
            continue;
        if (written && whole == 4 && !chance(&g->r, 5))
            continue;
        return reg;
    }
}

static unsigned whole_reg(unsigned kind, unsigned reg) { return kind == K_GPR8 && reg >= 16 ? reg - 16 : reg; }

static void clobber(struct gen *g, unsigned kind, unsigned reg, unsigned acc)
{
    if ((acc & 2) && (kind == K_GPR || kind == K_GPR8))
        forget(g, whole_reg(kind, reg));
}

static uint64_t imm_value(struct gen *g, unsigned size)
{
    (void)size;
    return chance(&g->r, 60) ? int_value(&g->r) : rnd(&g->r);
}

/* Registers and memory of a form without particular needs.  at: the memory address wanted, or 0 for any. */
static void operands(struct gen *g, const struct form *f, struct build *b, uint64_t at, int base)
{
    bool reg8 = f->reg_kind == K_GPR8, rm8 = f->rm_kind == K_GPR8;
    bool memory = f->mod == MOD_MEM;
    if (memory && !b->have_mem) {
        if (!at)
            at = pick_address(g, f->mem_class, f->mem_size ? f->mem_size : 1, f->align, (f->rm_acc & 2) != 0);
        b->mem = encode_address(g, at, f->mem_size, base);
        b->have_mem = true;
    }
    /* AH..BH need an instruction without REX */
    bool high = (!memory || !b->mem.rexbits) && f->size != 8 && chance(&g->r, 40);
    for (;;) {
        switch (f->reg_kind) {
        case K_GPR: b->reg = pick_gpr(g, f->reg_acc & 2); break;
        case K_GPR8: b->reg = pick_gpr8(g, f->reg_acc & 2, high); break;
        case K_MMX: b->reg = below(&g->r, 8); break;
        case K_XMM: b->reg = below(&g->r, 16); break;
        case K_SREG: b->reg = below(&g->r, 6); break;
        case K_CREG: b->reg = chance(&g->r, 80) ? 0 : 3; break;
        case K_DREG: b->reg = below(&g->r, 4); break;
        default: b->reg = 0; break;
        }
        if (!memory) {
            switch (f->rm_kind) {
            case K_GPR: b->rm = pick_gpr(g, f->rm_acc & 2); break;
            case K_GPR8: b->rm = pick_gpr8(g, f->rm_acc & 2, high && (f->mod == MOD_REG || f->mod == MOD_OPREG)); break;
            case K_MMX: case K_ST: b->rm = below(&g->r, 8); break;
            case K_XMM: b->rm = below(&g->r, 16); break;
            default: b->rm = 0; break;
            }
        }
        bool any_high = (reg8 && b->reg >= 16) || (!memory && rm8 && b->rm >= 16);
        bool any_rex = (f->reg_kind != K_NONE && b->reg >= 8 && !(reg8 && b->reg >= 16)) || (reg8 && b->reg >= 4 && b->reg < 8)
                       || (!memory && b->rm >= 8 && !(rm8 && b->rm >= 16)) || (!memory && rm8 && b->rm >= 4 && b->rm < 8)
                       || f->size == 8;
        if (!(any_high && any_rex))
            break;
        if (chance(&g->r, 30))
            high = false;
    }
}

static void finish(struct gen *g, struct insn *in, const struct form *f, struct build *b)
{
    encode(g, in, f, b);
    form_effects(g, in, f);
    clobber(g, f->reg_kind, b->reg, f->reg_acc);
    if (f->mod == MOD_REG || f->mod == MOD_OPREG)
        clobber(g, f->rm_kind, b->rm, f->rm_acc);
}

/* ---- flags of the shifts (SDM vol. 2: RCL/RCR/ROL/ROR, SAL/SAR/SHL/SHR, SHLD, SHRD) --------------------------------------------------- */
static void shift_flags(struct insn *in, unsigned digit, unsigned bits, int count)
{
    unsigned rotate = digit < 4, carry = digit == 2 || digit == 3;
    in->tested = carry ? F_C : 0;
    in->modified = in->undefined = 0;
    if (count < 0) {            /* unknown: anything may remain or become undefined */
        in->undefined = (uint8_t)(rotate ? F_O : F_O | F_A | (bits < 32 && digit != 7 ? F_C : 0));
        return;
    }
    unsigned c = (unsigned)count & (bits == 64 ? 63 : 31);
    if (c == 0)
        return;
    if (rotate) {
        in->modified = F_C;
        if (c == 1)
            in->modified |= F_O;
        else
            in->undefined = F_O;
        if (carry && c % (bits + 1) == 0 && bits < 32)
            in->modified &= (uint8_t)~F_C;
        return;
    }
    in->modified = F_S | F_Z | F_P | F_C;
    in->undefined = F_A;
    if (c == 1)
        in->modified |= F_O;
    else
        in->undefined |= F_O;
    if (c >= bits && digit != 7) {
        in->modified &= (uint8_t)~F_C;
        in->undefined |= F_C;
    }
}

/* A partial definition (count unknown) must not clear older undefinedness: express it as "undefined stays". */
static unsigned cc_flags(unsigned cc)
{
    static const uint8_t by_pair[8] = { F_O, F_C, F_Z, F_C | F_Z, F_S, F_P, F_S | F_O, F_Z | F_S | F_O };
    return by_pair[cc >> 1];
}

/* ---- one instruction ------------------------------------------------------------------------------------------------------------------------ */
#define END_TARGET -2

static int skip_target(struct gen *g, int extra)
{
    return (int)g->s->n + extra + (int)below(&g->r, 4);
}

static const uint16_t selectors[] = { 0, 0, 0, 1, 2, 3, 0x2b, 0x2b, 0x2b, 0x28, 0x29 };
/* for LAR and friends: the kernel's segments (invisible at CPL 3), code, the LDT (null), beyond the limit */
static const uint16_t probe_selectors[] = { 0, 3, 0x2b, 0x2b, 0x33, 0x33, 0x23, 0x10, 0x13, 0x18, 0x1b, 0x40, 4, 0xfff8,
                                            0xffff, 0x28, 0x30 };

static void define_flags(struct gen *g)
{
    resolve_pending(g);
    struct insn *in = new_insn(g, helpers.add8);
    const struct form *f = &g->forms->form[helpers.add8];
    struct build b = { .reg = free_reg(g) & 3, .rm = free_reg(g) & 3, .no_junk = true };
    while (g->frozen >> b.rm & 1)
        b.rm = below(&g->r, 4);
    finish(g, in, f, &b);
    commit(g, in);
}

/* Memory operand [rsp] after pushing a value, for instructions that need particular contents. */
static void pushed_operand(struct gen *g, const struct form *f, struct build *b, uint64_t value)
{
    if (!knows(g, 4) || (f->mem_size > 4 && value >> 31)) {
        unsigned reg = free_reg(g);
        if (!knows(g, 4))
            emit_mov(g, 4, STACK_VA + 0x1000 + below(&g->r, 64) * 8);
        emit_mov(g, reg, value);
        emit_push_reg(g, reg);
    } else {
        emit_push(g, (uint32_t)value, -1);
    }
    resolve_pending(g);
    b->mem = encode_address(g, g->value[4], 8, 4);
    /* encode_address may have chosen a segment or index: still the same linear address */
    b->have_mem = true;
    need(g, (int)g->s->n - 1);
    operands(g, f, b, 0, -1);
}

/* Selector operand with a value from the list. */
static void selector_operand(struct gen *g, const struct form *f, struct build *b, uint16_t sel)
{
    if (f->mod == MOD_MEM) {
        pushed_operand(g, f, b, sel);
        return;
    }
    unsigned reg = free_reg(g);
    emit_mov(g, reg, sel | (chance(&g->r, 50) ? 0x12340000u : 0));
    resolve_pending(g);
    operands(g, f, b, 0, -1);
    b->rm = reg;
    need(g, g->known_by[reg]);
}

static void gen_string(struct gen *g, const struct form *f)
{
    struct rng *r = &g->r;
    unsigned op = f->opcode & 0xfe, size = f->size;
    bool src = op == 0xa4 || op == 0xa6 || op == 0xac;
    bool dst = op == 0xa4 || op == 0xa6 || op == 0xaa || op == 0xae;
    bool compares = op == 0xa6 || op == 0xae;
    struct build b = { .no_junk = true };
    b.rep = chance(r, 70) ? (chance(r, 50) ? 0xf3 : 0xf2) : 0;
    bool a32 = chance(r, 20);
    uint64_t from = pick_address(g, M_INT, size, 1, false), to = pick_address(g, M_INT, size, 1, true);
    if (chance(r, 25))
        from = to + (uint64_t)(int64_t)((int)below(r, 33) - 16);        /* overlapping */
    uint32_t count = below(r, 8) == 0 ? 0 : chance(r, 90) ? below(r, 24) : below(r, 700);
    if (permille(r, g->wild_permille))
        count = 0x80000000u;
    if (a32 && (from >> 32 || to >> 32)) {
        from = DATA_VA + 0x1000 + below(r, 0x800);
        to = NEAR_VA + 0x400 + below(r, 0x800);
    }
    uint64_t high = a32 && chance(r, 50) ? 0x1234567800000000ull : 0;
    if (src && !chance(r, 3))
        ensure(g, 6, from | high);
    if (dst)                                    /* never left to chance: it might overwrite this code */
        ensure(g, 7, to | high);
    if (b.rep)
        ensure(g, 1, count | high);
    if (src && chance(r, 15)) {
        static const uint8_t segs[] = { 0x26, 0x2e, 0x36, 0x3e };
        b.seg = PICK(r, segs);
        if (chance(r, 40) && g->fs_known && g->fs + 0x1000 < 0x2000)
            b.seg = 0x64, need(g, g->fs_by);
    }
    resolve_pending(g);
    b.a32 = a32;
    if (b.rep)
        need(g, g->known_by[1]);
    struct insn *in = new_insn(g, (int)(f - g->forms->form));
    finish(g, in, f, &b);
    if (compares && b.rep && count == 0)
        in->modified = 0;
    if (src)
        forget(g, 6);
    if (dst)
        forget(g, 7);
    if (op == 0xac)
        forget(g, 0);
    if (b.rep)
        forget(g, 1);
    commit(g, in);
}

/* Branch displacement: the last imm bytes become a fix-up. */
static void branch_to(struct gen *g, struct insn *in, const struct form *f, int target, bool always)
{
    (void)g;
    add_fix(in, FIX_REL, in->len - f->imm, f->imm, target, 0);
    in->jump = (int8_t)target;
    in->always = always;
}

static void gen_branch(struct gen *g, const struct form *f)
{
    struct rng *r = &g->r;
    int form = (int)(f - g->forms->form);
    struct build b = { .no_junk = true };
    if (g->npend >= 6)
        return;
    switch (f->special) {
    case SP_JCC: {
        resolve_pending(g);
        struct insn *in = new_insn(g, form);
        if (chance(r, 5))
            b.seg = chance(r, 50) ? 0x2e : 0x3e;        /* branch hints */
        finish(g, in, f, &b);
        in->tested = (uint8_t)cc_flags(f->opcode & 15);
        int target = skip_target(g, 1);
        branch_to(g, in, f, target, false);
        commit(g, in);
        add_pending(g, target, -1);
        return;
    }
    case SP_LOOP: {
        b.a32 = chance(r, 25);
        if (chance(r, 60))
            ensure(g, 1, chance(r, 40) ? below(r, 3) : int_value(r));
        resolve_pending(g);
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        int target = skip_target(g, 1);
        branch_to(g, in, f, target, false);
        commit(g, in);
        add_pending(g, target, -1);
        return;
    }
    case SP_CALL:
    case SP_JMP: {
        resolve_pending(g);
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        int target = skip_target(g, 1);
        branch_to(g, in, f, target, true);
        int index = (int)g->s->n;
        commit(g, in);
        if (f->special == SP_CALL && knows(g, 4))
            learn(g, 4, g->value[4] - 8, index);
        add_pending(g, target, -1);
        return;
    }
    case SP_CALLI:
    case SP_JMPI: {
        int gap = f->mod == MOD_MEM ? 2 : 2, target;
        if (f->mod == MOD_MEM) {
            if (!knows(g, 4))
                emit_mov(g, 4, STACK_VA + 0x1000 + below(r, 64) * 8);
            target = skip_target(g, gap);
            emit_push(g, 0, target);
            b.mem = encode_address(g, g->value[4], 8, 4);
            b.have_mem = true;
        } else {
            unsigned reg = free_reg(g);
            target = skip_target(g, gap);
            emit_mov(g, reg, 0);
            struct insn *mov = &g->s->insn[g->s->n - 1];
            add_fix(mov, FIX_ABS, mov->len - 4u, 4, target, 0);
            forget(g, reg);
            b.rm = reg;
        }
        need(g, (int)g->s->n - 1);
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        in->jump = (int8_t)target;
        in->always = true;
        int index = (int)g->s->n;
        commit(g, in);
        if (f->special == SP_CALLI && knows(g, 4))
            learn(g, 4, g->value[4] - 8, index);
        add_pending(g, target, index - 1);
        return;
    }
    case SP_RET: {
        int target = skip_target(g, 2);
        if (!knows(g, 4))
            emit_mov(g, 4, STACK_VA + 0x1000 + below(r, 64) * 8), target++;
        emit_push(g, 0, target);
        need(g, (int)g->s->n - 1);
        b.imm = below(r, 5) * 8;
        if (chance(r, 10))
            b.rep = 0xf3;
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        in->jump = (int8_t)target;
        in->always = true;
        int index = (int)g->s->n;
        commit(g, in);
        if (knows(g, 4))
            learn(g, 4, g->value[4] + 8 + (f->imm ? b.imm : 0), index);
        add_pending(g, target, index - 1);
        return;
    }
    default:
        assert(0);
    }
}

/* Far transfers and IRET to the same privilege level, with the frame built on the stack first. */
static void gen_far(struct gen *g, const struct form *f)
{
    struct rng *r = &g->r;
    int form = (int)(f - g->forms->form);
    struct build b = { .no_junk = true };
    uint16_t cs = chance(r, 95) ? 0x33 : PICK(r, probe_selectors);
    if (g->npend >= 6 || g->s->n > MAX_INSNS - 12)
        return;
    if (!knows(g, 4) || g->value[4] < STACK_VA + 0x100 || g->value[4] >= STACK_VA + 0x2000)
        emit_mov(g, 4, STACK_VA + 0x1000 + below(r, 64) * 8);
    if (cs == 0x23)
        cs = 0x33;              /* compatibility mode is not ours */
    unsigned reg = free_reg(g);
    if (f->special == SP_FARPTR || (f->special == SP_RETF && f->size != 8)) {
        /* offset and selector in one quadword; a 16-bit offset leads nowhere */
        int target = (int)g->s->n + 3 + (int)below(r, 3);
        emit_mov_sized(g, reg, f->size == 2 ? 0x2345 | (uint64_t)cs << 16 : (uint64_t)cs << 32, true);
        struct insn *mov = &g->s->insn[g->s->n - 1];
        if (f->size != 2)
            add_fix(mov, FIX_ABS, mov->len - 8u, 4, target, 0);
        int movi = (int)g->s->n - 1;
        forget(g, reg);
        need(g, movi);
        emit_push_reg(g, reg);
        need(g, (int)g->s->n - 1);
        if (f->special == SP_FARPTR) {
            b.mem = encode_address(g, g->value[4], 8, 4);
            b.have_mem = true;
        }
        b.imm = below(r, 4) * 8;
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        in->lands = f->size == 2 ? 0x2345 : 0;
        in->jump = f->size == 2 ? -1 : (int8_t)target;
        in->always = true;
        commit(g, in);
        forget(g, 4);
        if (f->size != 2)
            add_pending(g, target, movi);
        return;
    }
    if (f->special == SP_RETF) {
        int target = (int)g->s->n + 3 + (int)below(r, 3);
        emit_push(g, cs, -1);
        int first = (int)g->s->n - 1;
        need(g, first);
        emit_push(g, 0, target);
        need(g, (int)g->s->n - 1);
        b.imm = below(r, 4) * 8;
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        in->jump = (int8_t)target;
        in->always = true;
        commit(g, in);
        forget(g, 4);
        add_pending(g, target, (int)g->s->n - 2);
        return;
    }
    /* IRET: SS, RSP, RFLAGS, CS, RIP; for 32-bit operands as dwords (RSP is truncated, so nothing may use it after) */
    uint32_t flags = 0x202 | ((uint32_t)rnd(r) & 0xcd5);
    if (f->size == 8) {
        int target = (int)g->s->n + 7 + (int)below(r, 2);
        uint64_t rsp = g->value[4];
        emit_push(g, chance(r, 95) ? 0x2b : PICK(r, selectors), -1);
        need(g, (int)g->s->n - 1);
        emit_mov(g, reg, rsp);
        need(g, (int)g->s->n - 1);
        emit_push_reg(g, reg);
        need(g, (int)g->s->n - 1);
        emit_push(g, flags, -1);
        need(g, (int)g->s->n - 1);
        emit_push(g, cs, -1);
        need(g, (int)g->s->n - 1);
        emit_push(g, 0, target);
        need(g, (int)g->s->n - 1);
        need(g, (int)g->s->n - 2);
        need(g, (int)g->s->n - 3);
        need(g, (int)g->s->n - 4);
        struct insn *in = new_insn(g, form);
        finish(g, in, f, &b);
        in->modified = F_ALL;
        in->jump = (int8_t)target;
        in->always = true;
        commit(g, in);
        forget(g, 4);
        g->df = -1;
        add_pending(g, target, (int)g->s->n - 2);
        return;
    }
    int target = (int)g->s->n + 7 + (int)below(r, 2);
    if (f->size == 4) {
        emit_push(g, 0x2b, -1);                 /* [SS | pad] at +16 */
        need(g, (int)g->s->n - 1);
        emit_mov(g, reg, (uint64_t)(uint32_t)DATA_VA << 32 | flags);
        need(g, (int)g->s->n - 1);
        emit_push_reg(g, reg);                  /* RFLAGS, RSP */
        need(g, (int)g->s->n - 1);
        emit_mov_sized(g, reg, (uint64_t)cs << 32, true);
        struct insn *mov = &g->s->insn[g->s->n - 1];
        add_fix(mov, FIX_ABS, mov->len - 8u, 4, target, 0);
        forget(g, reg);
        need(g, (int)g->s->n - 1);
        emit_push_reg(g, reg);                  /* RIP, CS */
        need(g, (int)g->s->n - 1);
    } else {
        emit_push(g, 0x2b, -1);                 /* SS at +8 */
        need(g, (int)g->s->n - 1);
        emit_mov(g, reg, 0x4567ull << 48 | (uint64_t)(flags & 0xffff) << 32 | (uint64_t)cs << 16 | 0x3456);
        need(g, (int)g->s->n - 1);
        emit_push_reg(g, reg);
        need(g, (int)g->s->n - 1);
    }
    struct insn *in = new_insn(g, form);
    finish(g, in, f, &b);
    in->modified = F_ALL;
    in->jump = f->size == 4 ? (int8_t)target : -1;
    in->lands = f->size == 2 ? 0x3456 : 0;
    in->always = true;
    commit(g, in);
    forget(g, 4);
    g->df = -1;
    if (f->size == 4)
        add_pending(g, target, (int)g->s->n - 3);
}

static void gen_one(struct gen *g, int index);

static void gen_form(struct gen *g, int index)
{
    int outer = g->gadget;
    if (outer < 0)
        g->gadget = (int)g->s->n;
    resolve_pending(g);
    gen_one(g, index);
    g->gadget = outer;
}

static void gen_one(struct gen *g, int index)
{
    struct rng *r = &g->r;
    const struct form *f = &g->forms->form[index];
    struct build b = { 0 };
    uint8_t tested = f->tested;
    if (f->special == SP_JCC || f->special == SP_CMOV || f->special == SP_SETCC)
        tested = (uint8_t)cc_flags(f->opcode & 15);
    if (f->special == SP_SHIFT && (f->digit == 2 || f->digit == 3))
        tested = F_C;
    if (tested & g->undef & F_ALL)
        define_flags(g);
    if ((f->special == SP_FSTSW || f->special == SP_FENV || f->special == SP_FX) && g->x87_undef)
        gen_form(g, helpers.ftst);
    if (g->s->n > MAX_INSNS - 12)
        return;
    switch (f->special) {
    case SP_JCC: case SP_LOOP: case SP_CALL: case SP_JMP: case SP_CALLI: case SP_JMPI: case SP_RET:
        gen_branch(g, f);
        return;
    case SP_RETF: case SP_FARPTR: case SP_IRET:
        gen_far(g, f);
        return;
    case SP_STRING:
        gen_string(g, f);
        return;
    default:
        break;
    }
    int count = -2;                             /* of shifts */
    unsigned bits = f->size * 8u;
    resolve_pending(g);
    g->no_wild = f->special == SP_MASKMOV || f->special == SP_NOWILD;
    switch (f->special) {
    case SP_STACK: case SP_POPSEG: case SP_PUSHF:
        if ((!knows(g, 4) || g->value[4] < STACK_VA + 0x40 || g->value[4] > STACK_VA + 0x1fc0) && chance(r, 90))
            emit_mov(g, 4, STACK_VA + 0x800 + below(r, 256) * 8 + (chance(r, 10) ? below(r, 8) : 0));
        if (f->special == SP_POPSEG) {
            emit_push(g, PICK(r, selectors), -1);
            need(g, (int)g->s->n - 1);
        }
        break;
    case SP_LEAVE: case SP_ENTER:
        if (f->special == SP_ENTER && !knows(g, 4))
            emit_mov(g, 4, STACK_VA + 0x1000 + below(r, 64) * 8);
        if (!knows(g, 5) || g->value[5] < STACK_VA + 0x100 || g->value[5] > STACK_VA + 0x1fc0)
            emit_mov(g, 5, STACK_VA + 0x1000 + below(r, 256) * 8);
        break;
    case SP_POPF: {
        uint32_t flags = (uint32_t)rnd(r) & (0xcd5 | 0x200 | 0x3000 | 0x10000);
        if (!knows(g, 4) || g->value[4] < STACK_VA + 0x40 || g->value[4] > STACK_VA + 0x1fc0)
            emit_mov(g, 4, STACK_VA + 0x800 + below(r, 256) * 8);
        emit_push(g, flags, -1);
        need(g, (int)g->s->n - 1);
        break;
    }
    case SP_WRSEG: case SP_SELECTOR: {
        uint16_t sel = f->special == SP_WRSEG ? PICK(r, selectors) : PICK(r, probe_selectors);
        if (f->special == SP_WRSEG && permille(r, g->wild_permille))
            sel = PICK(r, probe_selectors);
        selector_operand(g, f, &b, sel);
        break;
    }
    case SP_LSEL: {
        uint64_t sel = PICK(r, selectors);
        if (f->opcode == 0xb2)
            sel = 0x2b;
        pushed_operand(g, f, &b, f->size == 2 ? (sel << 16 | (rnd(r) & 0xffff)) : sel << 32 | (uint32_t)rnd(r));
        break;
    }
    case SP_FLDCW:
        pushed_operand(g, f, &b, fcw_value(r));
        break;
    case SP_LDMXCSR:
        pushed_operand(g, f, &b, mxcsr_value(r) | (permille(r, g->wild_permille) ? 1u << (18 + below(r, 13)) : 0));
        break;
    case SP_XLAT:
        g->hold |= 1u << 3;
        ensure(g, 3, pick_address(g, M_INT, 1, 1, false) - below(r, 128));
        break;
    case SP_MASKMOV:
        g->hold |= 1u << 7;
        ensure(g, 7, pick_address(g, M_INT, 16, 16, true));
        break;
    case SP_DIV:
        g->hold |= 1u << 0 | 1u << 2;
        if (chance(r, 80)) {                    /* mostly a quotient that fits */
            if (f->size == 1)
                ensure(g, 0, below(r, f->digit == 6 ? 255 : 127));
            else
                ensure(g, 2, chance(r, 70) ? 0 : ~0ull);
        }
        break;
    case SP_WRBASE: {
        unsigned reg = free_reg(g);
        static const uint64_t bases[] = { 0, 0x10, 0x1000, DATA_VA, 0x7fffffffffff, 0xffffffffffff0000, 0xffff800000000000, 123 };
        uint64_t v = PICK(r, bases);
        if (permille(r, g->wild_permille))
            v = 0x800000000000;
        emit_mov(g, reg, v);
        b.rm = reg;
        need(g, (int)g->s->n - 1);
        break;
    }
    case SP_SHIFT:
        if (f->opcode == 0xd2 || f->opcode == 0xd3) {
            g->hold |= 1u << 1;
            if (chance(r, 75))
                ensure(g, 1, chance(r, 80) ? below(r, 70) : int_value(r));
            count = knows(g, 1) ? (int)(g->value[1] & 0xff) : -1;
            if (count >= 0)
                need(g, g->known_by[1]);
        } else {
            b.imm = chance(r, 80) ? below(r, 70) : below(r, 256);
            count = f->imm ? (int)b.imm : 1;
        }
        break;
    case SP_SHLD: {
        unsigned limit = bits == 16 ? 17 : bits;
        count = (int)(chance(r, 80) ? below(r, limit) : (below(r, 8) * 32 * (bits == 64 ? 2 : 1) + below(r, limit))) & 0xff;
        if (f->imm)
            b.imm = (uint64_t)count;
        else {
            g->hold |= 1u << 1;
            ensure(g, 1, (uint64_t)count);
            need(g, g->known_by[1]);
        }
        break;
    }
    default:
        break;
    }
    resolve_pending(g);
    if (f->attrs & A_GP)
        b.imm = int_value(r);
    if (f->special == SP_BITMEM && f->mod == MOD_MEM) {
        unsigned reg = free_reg(g);
        uint64_t bit = (uint64_t)(int64_t)((int)below(r, 2300) - 300);
        emit_mov(g, reg, bit);
        int by = (int)g->s->n - 1;
        uint64_t at = DATA_VA + 0x100 + below(r, 0x2000);
        if (permille(r, g->wild_permille))
            at = pick_address(g, M_INT, 8, 1, true);
        g->hold |= (uint16_t)(1u << reg);
        b.mem = encode_address(g, at, 8, -1);
        need(g, by);
        b.have_mem = true;
        b.reg = reg;
    } else if (f->moffs) {
        uint64_t at = pick_address(g, M_INT, f->mem_size, 1, f->rm_acc & 2);
        b.mem.a32 = at >> 32 == 0 && chance(r, 40);
        b.mem.disp = at;
    } else if (f->special == SP_WRBASE) {
        /* operands chosen above */
    } else if (f->special == SP_STACK && f->mod == MOD_MEM) {
        operands(g, f, &b, 0, -1);
    } else if (!b.have_mem && f->special != SP_SELECTOR && f->special != SP_WRSEG) {
        operands(g, f, &b, 0, -1);
    }
    resolve_pending(g);
    if (f->special == SP_RDSEG || f->special == SP_WRSEG) {
        static const uint8_t sregs[] = { 0, 3, 3, 4, 5, 2 };
        b.reg = PICK(r, sregs);
        if (f->special == SP_RDSEG)
            b.reg = below(r, 6);
        if (permille(r, 20))
            b.reg = f->special == SP_WRSEG ? 1 : 6 + below(r, 2);
    }
    if (f->imm && f->special != SP_SHIFT && f->special != SP_SHLD)
        b.imm = f->special == SP_ENTER ? below(r, 16) * 8 | (uint64_t)(chance(r, 70) ? 0 : below(r, 6)) << 16 : imm_value(g, f->imm);
    if (f->special == SP_INT) {
        static const uint8_t vectors[] = { 0, 1, 2, 3, 4, 5, 6, 8, 13, 14, 0x20, 0x81, 0xff };
        b.imm = PICK(r, vectors);
    }
    if ((f->attrs & A_LOCK) && f->mod == MOD_MEM && chance(r, 15))
        b.lock = 1;
    else if (permille(r, g->wild_permille) && chance(r, 10)
             /* AMD: LOCK VERW works, LOCK MOV CR0 is CR8 */
             && !(host_is_amd() && (f->special == SP_SELECTOR || f->reg_kind == K_CREG)))
        b.lock = 1;                             /* #UD */
    g->hold = 0;
    g->no_wild = false;
    struct insn *in = new_insn(g, index);
    if (f->special == SP_FENV || f->special == SP_FX)
        b.no_junk = true;
    finish(g, in, f, &b);
    if (b.lock && !(f->attrs & A_LOCK && f->mod == MOD_MEM))
        in->ends = true;
    switch (f->special) {
    case SP_SHIFT:
        shift_flags(in, (unsigned)f->digit, bits, count);
        break;
    case SP_SHLD: {
        unsigned c = (unsigned)count & (bits == 64 ? 63 : 31);
        if (c) {
            in->modified = F_C | F_S | F_Z | F_P | (c == 1 ? F_O : 0);
            in->undefined = F_A | (c == 1 ? 0 : F_O);
        }
        break;
    }
    case SP_CMOV: case SP_SETCC:
        in->tested = (uint8_t)cc_flags(f->opcode & 15);
        break;
    case SP_POPF:
        in->modified = F_ALL;
        g->df = -1;
        break;
    case SP_FNINIT:
        in->x87_modified = 15;
        break;
    case SP_FSTSW:
        in->x87_tested = 15;
        break;
    case SP_FENV: case SP_FX:
        if (f->rm_acc & 2)
            in->x87_tested = 15;
        if (f->special == SP_FENV && (f->digit == 6))
            in->x87_modified = 15;              /* FNSAVE initialises; FNSTENV leaves the condition bits */
        if (!(f->rm_acc & 2))
            in->x87_modified = 15;
        break;
    case SP_WRBASE: {
        uint64_t v = g->value[b.rm];
        if (f->digit == 2)
            g->fs_known = (v + 0x800000000000 < 0x1000000000000), g->fs = f->size == 4 ? (uint32_t)v : v, g->fs_by = (int8_t)g->s->n;
        else
            g->gs_known = (v + 0x800000000000 < 0x1000000000000), g->gs = f->size == 4 ? (uint32_t)v : v, g->gs_by = (int8_t)g->s->n;
        break;
    }
    case SP_WRSEG: case SP_POPSEG: case SP_LSEL:
        g->fs_known = g->gs_known = false;
        break;
    case SP_INT3: case SP_INT: case SP_INT1:
        in->ends = true;
        break;
    default:
        break;
    }
    if (f->special == SP_STACK) {
        bool push = f->opcode == 0x68 || f->opcode == 0x6a || f->opcode == 0xff || (f->opcode & 0xf8) == 0x50
                    || (f->map == 1 && (f->opcode == 0xa0 || f->opcode == 0xa8));
        uint64_t delta = push ? (uint64_t)-(int64_t)f->size : f->size;
        bool wrote_rsp = !push && (f->mod == MOD_OPREG || f->mod == MOD_REG) && b.rm == 4;
        if (knows(g, 4) && !wrote_rsp)
            learn(g, 4, g->value[4] + delta, (int)g->s->n);
    } else if (f->special == SP_POPSEG || f->special == SP_POPF || f->special == SP_PUSHF || f->special == SP_ENTER) {
        forget(g, 4);
        if (f->special == SP_ENTER)
            forget(g, 5);
    }
    if (f->attrs & (A_UD | A_GP))
        in->ends = true;
    if (f->opcode == 0xfc && f->map == 0)
        g->df = 0;
    if (f->opcode == 0xfd && f->map == 0)
        g->df = 1;
    commit(g, in);
}

/* Patch the immediate of a MOV that follows, perhaps at once: self-modifying code within a block. */
static void gen_smc(struct gen *g)
{
    struct rng *r = &g->r;
    if (g->s->n > MAX_INSNS - 12)
        return;
    resolve_pending(g);
    struct insn *in = new_insn(g, helpers.mov_mem8);
    int target = (int)g->s->n + 1 + (int)below(r, 3), filler = target - (int)g->s->n - 1;
    put(in, 0xc6, 1);
    put(in, 0x05, 1);
    add_fix(in, FIX_RIP, in->len, 4, target, 1 + below(r, 4));
    put(in, 0, 4);
    put(in, rnd(r), 1);
    commit(g, in);
    int self = (int)g->s->n - 1;
    for (int i = 0; i < filler; i++)
        emit_mov(g, free_reg(g), int_value(r));
    resolve_pending(g);
    unsigned reg;
    do
        reg = free_reg(g);
    while (reg >= 8);
    emit_mov(g, reg, rnd(r) >> 32);
    forget(g, reg);
    /* Without its target the store would hit another instruction. */
    g->s->insn[self].needs[0] = (int8_t)target;
}

static bool rare(const struct form *f)
{
    return (f->attrs & (A_UD | A_GP)) || f->special == SP_INT || f->special == SP_INT3 || f->special == SP_INT1
           || ((f->special == SP_RETF || f->special == SP_FARPTR || f->special == SP_IRET) && f->size == 2);
}

static int pick_form(struct gen *g)
{
    for (;;) {
        int i = (int)below(&g->r, g->forms->n);
        const struct form *f = &g->forms->form[i];
        if (f->special == SP_APPROX)
            continue;
        if (rare(f) && !permille(&g->r, 20))
            continue;
        if (f->cls == CLS_MMX && chance(&g->r, 40))
            continue;
        return i;
    }
}

/* A counted loop around a few instructions that leave RCX alone. */
static void gen_loop(struct gen *g)
{
    struct rng *r = &g->r;
    if (g->s->n > MAX_INSNS - 24 || g->frozen || g->npend)
        return;
    emit_mov(g, 1, 1 + below(r, 5));
    /* The body is entered from its end as well: nothing is known there, and every flag may be undefined. */
    g->known = 0;
    g->fs_known = g->gs_known = false;
    g->df = -1;
    g->undef = F_ALL;
    g->x87_undef = 15;
    g->frozen = 1u << 1;
    int head = (int)g->s->n;
    int body = 1 + (int)below(r, 3);
    for (int i = 0; i < body; i++) {
        int form;
        const struct form *f;
        do {
            form = pick_form(g);
            f = &g->forms->form[form];
        } while (rare(f) || (f->implicit & 2) || f->special == SP_STRING || f->special == SP_LOOP || f->special == SP_SHIFT
                 || f->special == SP_SHLD || f->special == SP_FENV || f->special == SP_FX || f->special == SP_FSTSW
                 || f->special == SP_JCC || f->special == SP_CALL || f->special == SP_JMP || f->special == SP_CALLI
                 || f->special == SP_JMPI || f->special == SP_RET || f->special == SP_RETF || f->special == SP_FARPTR
                 || f->special == SP_IRET || f->special == SP_POPF);
        gen_form(g, form);
    }
    int loop_form = find_form(g->forms, 0, 0xe2, MOD_NONE, 0, -1);
    const struct form *f = &g->forms->form[loop_form];
    struct insn *in = new_insn(g, loop_form);
    struct build b = { .no_junk = true };
    finish(g, in, f, &b);
    branch_to(g, in, f, head, false);
    need(g, head - 1);
    commit(g, in);
    g->frozen = 0;
    g->undef = F_ALL;
    g->x87_undef = 15;
}

static void start_state(struct gen *g)
{
    struct rng *r = &g->r;
    struct case_in *in = &g->s->start;
    memset(in, 0, sizeof *in);
    for (unsigned i = 0; i < 16; i++) {
        uint64_t v = chance(r, 35) ? pick_address(g, M_INT, 16, 16, true) : int_value(r);
        if (i == 4)
            v = STACK_VA + (chance(r, 90) ? 0x800 + below(r, 0x100) * 8 : chance(r, 50) ? 0x1000 : below(r, 0x2000));
        if (i == 1 && chance(r, 50))
            v = below(r, 70);
        in->gpr[i] = v;
        learn(g, i, v, -1);
    }
    in->rflags = 0x202 | (rnd(r) & 0x8d5) | (chance(r, 25) ? 0x400 : 0);
    g->df = in->rflags >> 10 & 1;
    static const uint64_t bases[] = { 0, 0x40, 0x1000, 0x7fffff000000, DATA_VA, 0xffffffffffffff00, 0xffff800000000000 };
    in->fs_base = g->fs = PICK(r, bases);
    in->gs_base = g->gs = PICK(r, bases);
    g->fs_known = g->gs_known = true;
    g->fs_by = g->gs_by = -1;
    fx_image(r, in->fx);
    /* near the end of the first code page often enough that instructions cross it */
    in->code_off = chance(r, 30) ? 4096 - below(r, 120) : below(r, 4096);
}

void gen_sequence(const struct forms *forms, enum gen_mode mode, uint64_t seed, uint64_t index, struct sequence *s)
{
    if (!helpers.mov32) {
        helpers.mov32 = find_form(forms, 0, 0xb8, MOD_OPREG, 4, -1);
        helpers.mov64 = find_form(forms, 0, 0xb8, MOD_OPREG, 8, -1);
        helpers.push32 = find_form(forms, 0, 0x68, MOD_NONE, 8, -1);
        helpers.mov_mem8 = find_form(forms, 0, 0xc6, MOD_MEM, 1, 0);
        helpers.add8 = find_form(forms, 0, 0x00, MOD_REG, 1, -1);
        for (uint32_t i = 0; i < forms->n; i++)
            if (forms->form[i].opcode == 0xd9 && forms->form[i].fixed_modrm == 0xe4)
                helpers.ftst = (int)i;
    }
    struct gen g = { .r = { mix(mix(seed) + index * 0xd1342543de82ef95ull) }, .forms = forms, .s = s, .gadget = -1 };
    s->n = 0;
    s->focus = -1;
    g.wild_permille = 0;
    start_state(&g);
    g.wild_permille = chance(&g.r, 80) ? 3 : 60;
    int focus_form = (int)(index % forms->n);
    unsigned length = 1 + below(&g.r, chance(&g.r, 30) ? 3 : 20);
    unsigned focus_at = below(&g.r, length);
    if (mode == GEN_NORMAL && forms->form[focus_form].special == SP_APPROX)
        focus_form = pick_form(&g);
    if (mode == GEN_APPROX) {
        length = 1;
        focus_at = 0;
        for (uint64_t k = index; forms->form[focus_form].special != SP_APPROX; k = mix(k + 1))
            focus_form = (int)(mix(k) % forms->n);
    }
    for (unsigned i = 0; i < length && s->n < 32; i++) {
        if (i == focus_at) {
            gen_form(&g, focus_form);
            s->focus = (int8_t)(s->n - 1);
            if (rare(&forms->form[focus_form]))
                break;
            continue;
        }
        if (permille(&g.r, 20))
            gen_smc(&g);
        else if (permille(&g.r, 25))
            gen_loop(&g);
        else
            gen_form(&g, pick_form(&g));
    }
}

bool gen_layout(const struct sequence *s, uint64_t keep, struct case_in *in, struct layout *l)
{
    *in = s->start;
    uint32_t at = s->start.code_off;
    for (uint32_t i = 0; i < s->n; i++) {
        l->addr[i] = at;
        if (keep >> i & 1)
            at += s->insn[i].len;
    }
    l->addr[s->n] = at;
    in->rip = CODE_VA + in->code_off;
    in->code_len = at + 1 - in->code_off;
    assert(in->code_len <= MAX_CODE);
    for (uint32_t i = 0; i < s->n; i++) {
        if (!(keep >> i & 1))
            continue;
        const struct insn *insn = &s->insn[i];
        uint8_t *p = in->code + (l->addr[i] - in->code_off);
        memcpy(p, insn->bytes, insn->len);
        for (int k = 0; k < 4; k++)
            if (insn->needs[k] >= 0 && !(keep >> insn->needs[k] & 1))
                return false;
        for (int k = 0; k < 2; k++) {
            const struct fix *f = &insn->fix[k];
            if (f->type == FIX_NONE)
                continue;
            uint64_t end = CODE_VA + l->addr[i] + insn->len, v;
            int target = f->target > (int)s->n ? (int)s->n : f->target;
            v = f->target >= 0 ? CODE_VA + l->addr[target] + f->value : f->value;
            if (f->type != FIX_ABS)
                v -= end;
            if (f->size == 1 && (int64_t)v != (int8_t)v)
                return false;
            assert(f->type != FIX_RIP || fits32(v));
            memcpy(p + f->off, &v, f->size);
        }
    }
    in->code[at - in->code_off] = 0xcc;
    /* undefined flags: one forward pass; backward branches were generated so that their heads assume the worst */
    uint8_t undef[MAX_INSNS + 1] = { 0 }, x87[MAX_INSNS + 1] = { 0 };
    uint8_t u = 0, x = 0;
    for (uint32_t i = 0; i <= s->n; i++) {
        u |= undef[i];
        x |= x87[i];
        for (uint32_t k = i; k < s->n; k++)     /* the target of a kept backward branch */
            if ((keep >> k & 1) && s->insn[k].jump == (int)i && k >= i)
                u = F_ALL, x = 15;
        l->undef[i] = u;
        l->x87_undef[i] = x;
        if (i == s->n)
            break;
        if (!(keep >> i & 1))
            continue;
        const struct insn *insn = &s->insn[i];
        if ((insn->tested & u) || (insn->x87_tested & x))
            return false;
        u = (uint8_t)((u & ~(insn->modified | insn->undefined)) | insn->undefined);
        x = (uint8_t)((x & ~insn->x87_modified) | insn->x87_undefined);
        if (insn->jump >= 0) {
            int t = insn->jump > (int)s->n ? (int)s->n : insn->jump;
            if (t > (int)i) {
                undef[t] |= u;
                x87[t] |= x;
            }
        }
    }
    return true;
}
