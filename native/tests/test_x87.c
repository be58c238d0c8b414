/*
 * test_x87.c: the x87 handlers against the host's FPU, instruction by instruction.
 *
 * Every encoding of D8..DF (all register forms, all memory forms, prefixes) is executed on boundary-biased random
 * states by the handler and by the host; registers, tags, control and status words, pointers, memory, RAX and the
 * arithmetic flags must agree.  The transcendental functions may differ from the host's in the value (they are compared
 * with x87_vectors.h, computed to more bits by x87_vectors.py) and in C1, which belongs to the value.
 *
 * What depends on the host's vendor is in the section of that name.
 *
 *     test_x87            about 5 seconds
 *     test_x87 N          N times as many cases
 *     test_x87 dump N     N random evaluations of each transcendental function, for x87_vectors.py
 *     test_x87 bench      nanoseconds per instruction
 */
#include "host_vendor.h"
#include "x87_forms.h"
#include "x87_random.h"
#include "x87_vectors.h"

#include <inttypes.h>
#include <time.h>

static enum host_vendor vendor;

/* ---- one case ---------------------------------------------------------------------------------------------------- */
typedef struct outcome {
    fpu_image image;
    native_regs regs;
    uint8_t memory[SCRATCH];
    unsigned vector;
} outcome;

enum { ARITH_FLAGS = 0x8d5 };

static unsigned vector_of(int sig)
{
    return sig == 0 ? NO_FAULT : sig == SIGFPE ? EXC_MF : sig == SIGILL ? EXC_UD : EXC_PF;
}

static uint64_t operand_address(const form *f)
{
    if (one_in(32))
        return (uintptr_t)scratch + SCRATCH - below(f->operand + 2);      /* inaccessible, partly, or just not */
    if (one_in(16))
        return (uintptr_t)scratch + PAGE - below(f->operand + 2);         /* crosses, or the second page */
    return (uintptr_t)scratch + 64 + below(64);
}

/* Selectors are not kept: they read as 0. */
static void drop_selectors(const form *f, uint8_t *p)
{
    if (f->operand == 28 || f->operand == 108)
        p[16] = p[17] = p[24] = p[25] = 0;
    else
        p[8] = p[9] = p[12] = p[13] = 0;
}

static void print_image(const char *who, const fpu_image *m)
{
    printf("%s fcw %04x fsw %04x ftw %04x fip %08x fop %03x fdp %08x\n", who, m->fcw, m->fsw, m->ftw, m->fip, m->fop,
           m->fdp);
    for (unsigned i = 0; i < 8; i++)
        printf("    st%u %04x %016llx\n", i, m->st[i].sexp, (unsigned long long)m->st[i].mant);
}

static void print_bytes(const char *who, const uint8_t *p, unsigned n)
{
    printf("%s", who);
    for (unsigned i = 0; i < n; i++)
        printf(" %02x", p[i]);
    printf("\n");
}

static void report(const form *f, const char *what, const fpu_image *in, uint64_t va, const uint8_t *operand,
                   const outcome *host, const outcome *ours)
{
    if (failures++ >= 10)
        return;
    unsigned at = (unsigned)(va - (uintptr_t)scratch);
    unsigned n = f->operand < SCRATCH - at ? f->operand : SCRATCH - at;
    printf("\nDIFFERS: %s: %s\n", f->name, what);
    print_bytes("  code", f->bytes, f->len);
    print_image("  before", in);
    print_image("  host", &host->image);
    print_image("  ours", &ours->image);
    printf("  vector host %u ours %u, rax %llx %llx, flags %llx %llx\n", host->vector, ours->vector,
           (unsigned long long)host->regs.rax, (unsigned long long)ours->regs.rax,
           (unsigned long long)host->regs.rflags, (unsigned long long)ours->regs.rflags);
    if (f->d.mem && at <= SCRATCH) {
        print_bytes("  memory before", operand, n);
        print_bytes("  memory host  ", host->memory + at, n);
        print_bytes("  memory ours  ", ours->memory + at, n);
    }
}

/* Finite values of the same sign in the order of their distance from 0: neighbours are 1 apart. */
static unsigned __int128 rank(uint64_t mant, uint16_t sexp)
{
    return ((unsigned __int128)(sexp & 0x7fff) << 63) + (mant & ~(1ull << 63));
}

/* Distance in units of the last place, large if the values are not comparable so. */
static uint64_t ulps_apart(uint64_t ma, uint16_t sa, uint64_t mb, uint16_t sb)
{
    if ((sa ^ sb) & 0x8000 || (sa & 0x7fff) == 0x7fff || (sb & 0x7fff) == 0x7fff)
        return ma == mb && sa == sb ? 0 : UINT64_MAX;
    unsigned __int128 a = rank(ma, sa), b = rank(mb, sb), d = a > b ? a - b : b - a;
    return d > UINT64_MAX ? UINT64_MAX : (uint64_t)d;
}

static bool is_empty(const fpu_image *m, unsigned i) { return (m->ftw >> 2 * (((m->fsw >> 11) + i) & 7) & 3) == 3; }

/* The host's value of a transcendental function may be another one; how far is bounded where the host is accurate. */
static void accept_value(form *f, const fpu_image *in, outcome *host, outcome *ours)
{
    bool pushes = f->d.modrm == 0xf2 || f->d.modrm == 0xfb, trig = pushes || f->d.modrm >= 0xfe;
    bool two = !trig && f->d.modrm != 0xf0;
    bool stack_fault = is_empty(in, 0) || (two && is_empty(in, 1)) || (pushes && !is_empty(in, 7));
    if (!stack_fault)
        host->image.fsw = (uint16_t)((host->image.fsw & ~0x200) | (ours->image.fsw & 0x200));
    bool loose = (in->st[0].sexp & 0x7fff) >= 0x3ffe && trig;     /* the host reduces with a short pi */
    for (unsigned i = 0; i <= pushes; i++) {
        fpu_image *h = &host->image, *o = &ours->image;
        uint64_t d = ulps_apart(h->st[i].mant, h->st[i].sexp, o->st[i].mant, o->st[i].sexp);
        if (d == 0)
            continue;
        bool finite = (h->st[i].sexp & 0x7fff) != 0x7fff && (o->st[i].sexp & 0x7fff) != 0x7fff;
        if (d <= 2 || (loose && finite)) {
            f->value_differs++;
            h->st[i] = o->st[i];
        }
    }
    host->image.ftw = ours->image.ftw;      /* follows the values; emptiness is compared apart */
}

static unsigned empties(unsigned ftw)
{
    unsigned e = 0;
    for (unsigned i = 0; i < 8; i++)
        e |= (unsigned)((ftw >> 2 * i & 3) == 3) << i;
    return e;
}

typedef struct test_case {
    fpu_image in;
    native_regs regs;
    uint64_t va;
    unsigned at, lo, hi;            /* the operand, and what is compared around it: offsets in scratch */
    uint8_t before[SCRATCH];
} test_case;

static void make_case(const form *f, test_case *c)
{
    c->regs.rflags = (rnd() & ARITH_FLAGS) | 2;
    c->regs.rax = rnd();
    random_state(&c->in);
    c->va = f->d.mem ? operand_address(f) : (uintptr_t)scratch + 64;
    c->at = (unsigned)(c->va - (uintptr_t)scratch);
    c->lo = c->at - 64;
    c->hi = c->at + 192 < SCRATCH ? c->at + 192 : SCRATCH;
    for (unsigned i = c->lo; i < c->hi; i++)
        c->before[i] = (uint8_t)i;
    if (!f->d.mem)
        return;
    uint8_t operand[128] = {0};
    if (f->operand == 28 || f->operand == 108) {
        fpu_image m;
        random_state(&m);
        if (one_in(4))
            m.ftw = (uint16_t)rnd();
        memcpy(operand, &m, f->operand);
    } else if (is_state(f)) {
        for (unsigned i = 0; i < f->operand; i++)
            operand[i] = (uint8_t)rnd();
    } else {
        random_operand(f->operand, f->integer, operand);
    }
    memcpy(c->before + c->at, operand, f->operand < c->hi - c->at ? f->operand : c->hi - c->at);
}

static void run_host(const form *f, const test_case *c, outcome *o)
{
    memcpy(scratch + c->lo, c->before + c->lo, c->hi - c->lo);
    o->regs = c->regs;
    o->vector = vector_of(native_run(&f->s, &c->in, &o->image, (void *)(uintptr_t)c->va, &o->regs));
    memcpy(o->memory + c->lo, scratch + c->lo, c->hi - c->lo);
    o->image.fcs = o->image.fds = 0;
    o->image.r0 = o->image.r1 = o->image.r2 = o->image.r3 = 0;
}

static void run_ours(cc_cpu *cpu, const form *f, const test_case *c, outcome *o)
{
    o->vector = EXC_UD;
    if (!f->op.fn)
        return;
    memcpy(scratch + c->lo, c->before + c->lo, c->hi - c->lo);
    cpu_load(cpu, &c->in);
    cpu->r[CC_RAX] = c->regs.rax;
    cpu->r[CC_RDX] = c->va;
    cpu->r[CC_R_PAGE] = (uintptr_t)f->s.insn & ~(uint64_t)(PAGE - 1);
    cpu->cc_src = c->regs.rflags & ARITH_FLAGS;
    o->vector = run_op(cpu, &f->op);
    memcpy(o->memory + c->lo, scratch + c->lo, c->hi - c->lo);
    cpu_store(cpu, &o->image);
    o->regs = (native_regs){.rflags = cpu->cc_src, .rax = cpu->r[CC_RAX]};
}

/* ---- what depends on the vendor ---------------------------------------------------------------------------------- */
/* CPUID.7.0:EBX[6]: FDP is updated only by an instruction that raises an unmasked exception. */
static bool fdp_only_by_exceptions(void)
{
    uint32_t a = 7, b, c = 0, d;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return b >> 6 & 1;
}

/* Here the pointers are always updated (x87.h); on Intel's processors FOP only by an unmasked exception, and FDP
 * perhaps likewise. */
static void accept_pointers(const form *f, const test_case *c, const outcome *host, outcome *ours)
{
    bool raised = host->image.fsw & 0x80;
    if (vendor != HOST_INTEL || host->vector != NO_FAULT || raised || is_control(f))
        return;
    ours->image.fop = c->in.fop;
    if (fdp_only_by_exceptions())
        ours->image.fdp = c->in.fdp;
}

static bool is_store(const form *f)
{
    uint8_t reg = f->d.reg;
    if (!f->d.mem)
        return false;
    switch (f->d.opcode) {
    case 0xd9: return reg == 2 || reg == 3;
    case 0xdb: return (reg >= 1 && reg <= 3) || reg == 7;
    case 0xdd: return reg >= 1 && reg <= 3;
    case 0xdf: return (reg >= 1 && reg <= 3) || reg >= 6;
    }
    return false;
}

/* A store that an unmasked exception suppresses does not access memory; on AMD's processors it may fault there. */
static bool faults_first(const form *f, const outcome *host, const outcome *ours)
{
    return vendor == HOST_AMD && is_store(f) && host->vector == EXC_PF && ours->vector == NO_FAULT &&
           (ours->image.fsw & 0x80);
}

/* Intel's processors store 8 of 10 bytes before the other 2, in a page that cannot be accessed, fault. */
static void accept_low_part(const form *f, const test_case *c, outcome *host)
{
    if (vendor == HOST_INTEL && is_store(f) && f->operand == 10 && host->vector == EXC_PF && c->at + 8 <= SCRATCH)
        memcpy(host->memory + c->at, c->before + c->at, 8);
}

/* FSCALE by 0 and FPREM by infinity leave a denormal as it is; on AMD's processors that is an underflow. */
static void accept_underflow(const form *f, outcome *host, const outcome *ours)
{
    uint8_t m = f->d.modrm;
    uint64_t mant = ours->image.st[0].mant;
    bool denormal = !(ours->image.st[0].sexp & 0x7fff) && mant && !(mant >> 63);
    if (vendor != HOST_AMD || f->d.mem || f->d.opcode != 0xd9 || (m != 0xfd && m != 0xf8 && m != 0xf5) || !denormal)
        return;
    unsigned shift = (unsigned)__builtin_clzll(mant);
    if ((host->image.fsw ^ ours->image.fsw) != 0x8090 || host->image.st[0].mant != mant << shift ||
        host->image.st[0].sexp != (ours->image.st[0].sexp | (24577 - shift)))
        return;
    host->image.fsw = ours->image.fsw;
    host->image.ftw = ours->image.ftw;
    host->image.st[0] = ours->image.st[0];
}

/* The sine or tangent of the least normal number, rounded towards 0, is tiny; Intel's processors raise no underflow. */
static void accept_least_normal(const form *f, const test_case *c, outcome *host, const outcome *ours)
{
    uint8_t m = f->d.modrm;
    bool sine = m == 0xfe || m == 0xfb || m == 0xf2;
    bool least = c->in.st[0].mant == 1ull << 63 && (c->in.st[0].sexp & 0x7fff) <= 1;
    unsigned i = m != 0xfe;             /* FSINCOS and FPTAN push another result */
    if (vendor != HOST_INTEL || !sine || !least || (host->image.fsw & 0x10) || !(ours->image.fsw & 0x10))
        return;
    if (!(c->in.fcw & 0x10)) {          /* unmasked: the exponent is wrapped */
        if (host->image.st[i].mant != 1ull << 63 || ours->image.st[i].mant != ~0ull ||
            (ours->image.st[i].sexp & 0x7fff) != 24576)
            return;
        host->image.st[i] = ours->image.st[i];
    }
    host->image.fsw = (uint16_t)((host->image.fsw & ~0x80b0) | (ours->image.fsw & 0x80b0));
}

/* What differs, or NULL. */
static const char *compare(form *f, const test_case *c, outcome *host, outcome *ours)
{
    if (faults_first(f, host, ours))
        return NULL;
    if (ours->vector != host->vector)
        return "outcome";
    accept_pointers(f, c, host, ours);
    if (!f->op.fn)
        return NULL;
    if (host->vector != NO_FAULT) {
        /* the kernel's signal frame does not keep the pointers */
        ours->image.fip = host->image.fip;
        ours->image.fop = host->image.fop;
        ours->image.fdp = host->image.fdp;
        accept_low_part(f, c, host);
    } else if (is_trans(f)) {
        accept_least_normal(f, c, host, ours);
        if (empties(ours->image.ftw) != empties(host->image.ftw))
            return "empty registers";
        accept_value(f, &c->in, host, ours);
    } else if (is_state(f) && f->d.reg == 6) {
        drop_selectors(f, host->memory + c->at);
        drop_selectors(f, ours->memory + c->at);
    }
    accept_underflow(f, host, ours);
    if (memcmp(&ours->image, &host->image, offsetof(fpu_image, fip)))
        return "FCW, FSW or tags";
    if (memcmp(ours->image.st, host->image.st, sizeof host->image.st))
        return "registers";
    if (memcmp(ours->memory + c->lo, host->memory + c->lo, c->hi - c->lo))
        return "memory";
    if (ours->regs.rax != host->regs.rax)
        return "RAX";
    if ((ours->regs.rflags ^ host->regs.rflags) & ARITH_FLAGS)
        return "flags";
    if (ours->image.fip != host->image.fip || ours->image.fop != host->image.fop || ours->image.fdp != host->image.fdp)
        return "pointers";
    return NULL;
}

static void one_case(cc_cpu *cpu, form *f)
{
    static outcome host, ours;
    static test_case c;
    const char *what = NULL;
    make_case(f, &c);
    f->cases++;
    run_ours(cpu, f, &c, &ours);
    /* The host's kernel drops the pointers when it switches tasks (AMD's FXSAVE keeps them only while ES is set). */
    for (int attempt = 0; attempt < 3; attempt++) {
        run_host(f, &c, &host);
        what = compare(f, &c, &host, &ours);
        if (!what)
            return;
    }
    report(f, what, &c.in, c.va, c.before + c.at, &host, &ours);
}

static void differential(cc_cpu *cpu, uint64_t scale)
{
    for (unsigned i = 0; i < form_count; i++) {
        form *f = &forms[i];
        uint64_t n = !f->op.fn ? 20 : f->d.mem ? 8000 : f->d.opcode == 0xd9 && f->d.modrm >= 0xe0 ? 12000 : 3000;
        for (uint64_t k = 0; k < n * scale; k++)
            one_case(cpu, f);
    }
}

/* Cases of every instruction; the eight registers of one form count together. */
static void print_coverage(void)
{
    uint64_t total = 0, undefined = 0;
    unsigned undefined_forms = 0, column = 0;
    printf("cases by instruction (all encodings of it; values that differ from the host's in brackets):\n");
    for (unsigned i = 0; i < form_count; i++) {
        uint64_t cases = 0, differs = 0;
        bool first = true;
        total += forms[i].cases;
        if (!forms[i].op.fn) {
            undefined_forms++;
            undefined += forms[i].cases;
            continue;
        }
        for (unsigned k = 0; k < form_count; k++) {
            if (strcmp(forms[k].name, forms[i].name))
                continue;
            first = first && k >= i;
            cases += forms[k].cases;
            differs += forms[k].value_differs;
        }
        if (!first)
            continue;
        printf("  %-16s %7llu", forms[i].name, (unsigned long long)cases);
        printf(differs ? " [%5llu]" : "        ", (unsigned long long)differs);
        if (++column % 4 == 0)
            printf("\n");
    }
    printf("\n  undefined: %u encodings, %llu cases; %llu cases of %u encodings in all\n", undefined_forms,
           (unsigned long long)undefined, (unsigned long long)total, form_count);
}

/* ---- accuracy of the transcendental functions -------------------------------------------------------------------- */
static form *find_form(uint8_t opcode, uint8_t modrm)
{
    for (unsigned i = 0; i < form_count; i++)
        if (forms[i].d.opcode == opcode && forms[i].d.modrm == modrm && forms[i].len == 2)
            return &forms[i];
    abort();
}

/* ST0 = x, ST1 = y, all masked, to nearest; the result, of FSINCOS the cosine. */
static val evaluate(cc_cpu *cpu, uint8_t modrm, val x, val y)
{
    fpu_image m = {.fcw = 0x37f, .fsw = 6 << 11, .ftw = 0x0fff};
    m.st[0].mant = x.mant;
    m.st[0].sexp = x.sexp;
    m.st[1].mant = y.mant;
    m.st[1].sexp = y.sexp;
    cpu_load(cpu, &m);
    CHECK(run_op(cpu, &find_form(0xd9, modrm)->op) == NO_FAULT);
    cpu_store(cpu, &m);
    unsigned i = modrm == 0xf2;     /* FPTAN pushes 1 */
    return (val){m.st[i].mant, m.st[i].sexp};
}

/* Error in units of the last place of the true value, whose significand is mant + frac / 2^32. */
static double vector_error(val got, const x87_vector *v)
{
    int de = (got.sexp & 0x7fff) - (v->sexp & 0x7fff);
    if ((got.sexp ^ v->sexp) & 0x8000 || de < -1 || de > 1)
        return 1e9;
    __int128 d = (__int128)got.mant << (33 + de);       /* twice the significand with 32 more bits */
    d -= ((__int128)v->mant << 32 | v->frac) << 1;
    return (double)(d < 0 ? -d : d) / 8589934592.0;
}

static void test_vectors(cc_cpu *cpu)
{
    static const uint8_t modrm[] = {0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff};
    printf("largest error of the transcendental functions in ulp:");
    for (unsigned i = 0; i < sizeof modrm; i++) {
        double worst = 0;
        unsigned n = 0;
        for (unsigned k = 0; k < sizeof x87_vectors / sizeof x87_vectors[0]; k++) {
            const x87_vector *v = &x87_vectors[k];
            if (v->modrm != modrm[i])
                continue;
            n++;
            double e = vector_error(evaluate(cpu, v->modrm, (val){v->x, v->xe}, (val){v->y, v->ye}), v);
            if (e > worst)
                worst = e;
        }
        printf(" %s %.6f (%u)", find_form(0xd9, modrm[i])->name, worst, n);
        CHECK(n > 20 && worst < 0.50001);
    }
    printf("\n");
}

static val with_exponent(int e)
{
    val v = {.mant = 1ull << 63 | random_bits()};
    v.sexp = (uint16_t)((16383 + e) | (one_in(2) ? 0x8000 : 0));
    return v;
}

/* 1 plus or minus little */
static val near_one(void)
{
    uint64_t little = rnd() >> 1;
    little >>= below(63);
    return one_in(2) ? (val){1ull << 63 | little, 16383} : (val){~little, 16382};
}

/* the 64 bits from the top of a multiple of pi/2, or the next or next but one number */
static val near_half_pi_multiple(void)
{
    uint64_t n = rnd() >> 1;
    n = 1 + (n >> below(63));
    unsigned __int128 p = (unsigned __int128)0xc90fdaa22168c234ull * n;        /* n pi/2 2^63 */
    unsigned lead = (unsigned)__builtin_clzll((uint64_t)(p >> 64) | 1);
    val v = {.mant = (uint64_t)(p >> (64 - lead)) + below(3), .sexp = (uint16_t)(16383 + 64 - lead)};
    return v.mant >> 63 && 64 - lead < 63 ? v : with_exponent((int)below(63));
}

/* Arguments inside the domain, dense where the functions are difficult. */
static void random_arguments(uint8_t modrm, val *x, val *y)
{
    *y = with_exponent((int)below(120) - 60);
    switch (modrm) {
    case 0xf0:
        *x = with_exponent(-1 - (int)below(70));
        break;
    case 0xf1:
        *x = one_in(2) ? near_one() : with_exponent(one_in(4) ? (int)below(32000) - 16000 : (int)below(8) - 4);
        x->sexp &= 0x7fff;
        break;
    case 0xf3:
        *x = with_exponent((int)below(120) - 60);
        break;
    case 0xf9:
        *x = with_exponent(-2 - (int)below(70));
        if ((x->sexp & 0x7fff) == 16381)
            x->mant = 1ull << 63 | rnd() >> 4;      /* below 1 - sqrt(1/2) */
        break;
    default:
        *x = one_in(3) ? near_half_pi_multiple() : with_exponent((int)below(133) - 70);
    }
}

static void dump(cc_cpu *cpu, uint64_t n)
{
    static const uint8_t modrm[] = {0xf0, 0xf1, 0xf2, 0xf3, 0xf9, 0xfb, 0xfe, 0xff};
    for (unsigned i = 0; i < sizeof modrm; i++) {
        for (uint64_t k = 0; k < n; k++) {
            val x, y;
            random_arguments(modrm[i], &x, &y);
            val r = evaluate(cpu, modrm[i], x, y);
            printf("%02x %04x %016" PRIx64 " %04x %016" PRIx64 " %04x %016" PRIx64 "\n", modrm[i], x.sexp, x.mant,
                   y.sexp, y.mant, r.sexp, r.mant);
        }
    }
}

/* ---- time per instruction ---------------------------------------------------------------------------------------- */
static void bench(cc_cpu *cpu)
{
    static const struct { uint8_t opcode, modrm; const char *name; } what[] = {
        {0xd9, 0xd0, "FNOP"}, {0xd9, 0xc9, "FXCH"}, {0xd8, 0xc1, "FADD"}, {0xd8, 0xc9, "FMUL"}, {0xd8, 0xf1, "FDIV"},
        {0xd9, 0xfa, "FSQRT"}, {0xd9, 0xfc, "FRNDINT"}, {0xdb, 0xf1, "FCOMI"}, {0xd9, 0xe0, "FCHS"},
        {0xdd, 0x12, "FST m64"},
        {0xd9, 0xfe, "FSIN"}, {0xd9, 0xff, "FCOS"}, {0xd9, 0xf0, "F2XM1"},
    };
    enum { RUN = 64, TURNS = 20000 };
    for (unsigned i = 0; i < sizeof what / sizeof what[0]; i++) {
        form *f = find_form(what[i].opcode, what[i].modrm);
        cc_op ops[RUN + 1];
        for (unsigned k = 0; k < RUN; k++)
            ops[k] = f->op;
        ops[RUN] = (cc_op){.fn = retired};
        fpu_image m = {.fcw = 0x37f, .ftw = 0};
        for (unsigned k = 0; k < 8; k++) {
            m.st[k].mant = 0xc90fdaa22168c235ull;
            m.st[k].sexp = 0x3ffe;
        }
        cpu_load(cpu, &m);
        cpu->r[CC_RDX] = (uintptr_t)scratch;
        struct timespec a, b;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        for (unsigned t = 0; t < TURNS; t++) {
            cpu->fpu.st[0].mant = 0xc90fdaa22168c235ull;
            cpu->fpu.st[0].sexp = 0x3ffe;
            for (const cc_op *op = ops; op; )
                op = op->fn(cpu, op, cpu->tramp_budget);
        }
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double ns = ((double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec)) / ((double)RUN * TURNS);
        printf("  %-8s %6.1f ns\n", what[i].name, ns);
    }
}

int main(int argc, char **argv)
{
    scratch_init();
    native_init();
    make_forms();
    cc_cpu *cpu = new_cpu();
    if (argc > 2 && !strcmp(argv[1], "dump")) {
        dump(cpu, strtoull(argv[2], NULL, 0));
    } else if (argc > 1 && !strcmp(argv[1], "bench")) {
        bench(cpu);
    } else {
        uint64_t scale = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
        vendor = host_vendor();
        test_vectors(cpu);
        differential(cpu, scale);
        print_coverage();
        printf("%u differences\n", failures);
    }
    free(cpu->tlb);
    free(cpu);
    return failures != 0;
}
