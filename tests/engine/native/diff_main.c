/*
 * diff_main.c: the differential test's driver.
 *
 *   diff FORMS RUNNER run SEED FIRST COUNT [options]    compare cases; report at most --failures, minimised
 *   diff FORMS RUNNER show SEED INDEX MASK [options]    run one case with the instructions in MASK and print it
 *   options: --native-only  compare the native runner with itself
 *            --approx       sequences of one approximating instruction, compared with a tolerance
 *            --step N       stop the engine every N instructions; --tlb BITS, --cache KIB, --no-fuse: engine settings
 *            --failures N   (default 5)
 * Output is lines of "key value..."; differential.py reads them.
 */
#define _GNU_SOURCE
#include "diff.h"
#include "diff_compare.h"
#include "diff_engine.h"
#include "diff_gen.h"
#include "diff_rules.h"
#include "diff_unroll.h"

#include "cc.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define NATIVE_TIMEOUT_MS 20000

static struct shared *shared;
static const char *runner_path;
static int shared_fd, to_child, from_child;
static pid_t child;

static void fatal(const char *what)
{
    fprintf(stderr, "diff: %s: %s\n", what, strerror(errno));
    exit(2);
}

/* ---- the native child --------------------------------------------------------------------------------------------------- */
static bool child_answers(void)
{
    struct pollfd p = { .fd = from_child, .events = POLLIN };
    uint8_t byte;
    return poll(&p, 1, NATIVE_TIMEOUT_MS) == 1 && read(from_child, &byte, 1) == 1;
}

static void start_child(void)
{
    int down[2], up[2];
    if (pipe2(down, O_CLOEXEC) != 0 || pipe2(up, O_CLOEXEC) != 0)
        fatal("pipe");
    child = fork();
    if (child < 0)
        fatal("fork");
    if (child == 0) {
        /* to descriptors 3, 4 and 5, through high ones so that none is overwritten on the way */
        int fds[3] = { shared_fd, down[0], up[1] };
        for (int i = 0; i < 3; i++)
            fds[i] = fcntl(fds[i], F_DUPFD, 100);
        for (int i = 0; i < 3; i++)
            dup2(fds[i], 3 + i);
        for (int i = 0; i < 3; i++)
            close(fds[i]);
        execl(runner_path, runner_path, (char *)NULL);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
    to_child = down[1];
    from_child = up[0];
    if (!child_answers()) {
        fprintf(stderr, "diff: the native runner %s does not start\n", runner_path);
        exit(2);
    }
}

static void stop_child(void)
{
    close(to_child);
    close(from_child);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* Run the shared batch; false if the child died or hung in case shared->current. */
static bool run_native(void)
{
    uint8_t byte = 0;
    memset(shared->out, 0, sizeof(struct case_out) * shared->count);
    if (shared->count == 0)
        return true;
    if (write(to_child, &byte, 1) == 1 && child_answers())
        return true;
    stop_child();
    start_child();
    return false;
}

/* ---- printing ------------------------------------------------------------------------------------------------------------------- */
static void print_state(const char *who, const uint64_t *gpr, uint64_t rip, uint64_t rflags, uint64_t fs, uint64_t gs,
                        const uint8_t *fx)
{
    printf("state %s rip %#" PRIx64 " rflags %#" PRIx64 " fs_base %#" PRIx64 " gs_base %#" PRIx64 "\n", who, rip, rflags, fs, gs);
    for (int i = 0; i < 16; i++)
        printf("reg %s %s %016" PRIx64 "\n", who, gpr_names[i], gpr[i]);
    uint16_t fcw, fsw;
    uint32_t mxcsr;
    memcpy(&fcw, fx, 2);
    memcpy(&fsw, fx + 2, 2);
    memcpy(&mxcsr, fx + 24, 4);
    printf("fpu %s fcw %04x fsw %04x valid %02x mxcsr %08x\n", who, fcw, fsw, fx[4], mxcsr);
    for (int i = 0; i < 8; i++) {
        uint64_t m;
        memcpy(&m, fx + 32 + i * 16, 8);
        printf("reg %s st%d %02x%02x:%016" PRIx64 "\n", who, i, fx[32 + i * 16 + 9], fx[32 + i * 16 + 8], m);
    }
    for (int i = 0; i < 16; i++) {
        uint64_t q[2];
        memcpy(q, fx + 160 + i * 16, 16);
        printf("reg %s xmm%d %016" PRIx64 "_%016" PRIx64 "\n", who, i, q[1], q[0]);
    }
}

static void print_out(const char *who, const struct case_out *o)
{
    print_state(who, o->gpr, o->rip, o->rflags, o->fs_base, o->gs_base, o->fx);
    printf("end %s vector %u error %#x cr2 %#" PRIx64 " sel %04x %04x %04x %04x %04x %04x\n", who, o->vector, o->error, o->cr2,
           o->sel[0], o->sel[1], o->sel[2], o->sel[3], o->sel[4], o->sel[5]);
    for (uint32_t i = 0; i < o->ngranules && i < MAX_GRANULES; i++)
        printf("mem %s %#" PRIx64 " %016" PRIx64 "\n", who, granule_va(o->granule[i].index), o->granule[i].value);
    for (uint32_t i = 0; i < o->nenv; i++)
        printf("mem %s %#" PRIx64 " %016" PRIx64 "\n", who, granule_va(o->env[i].index), o->env[i].value);
}

static void print_case(const struct context *c, uint64_t keep, const struct case_in *in, const struct case_out *a,
                       const struct case_out *b, const struct report *r)
{
    print_state("in", in->gpr, in->rip, in->rflags, in->fs_base, in->gs_base, in->fx);
    for (uint32_t i = 0; i < c->seq->n; i++) {
        if (!(keep >> i & 1))
            continue;
        printf("insn %u %u %#" PRIx64 " undef %02x ", i, c->seq->insn[i].form, (uint64_t)CODE_VA + c->layout.addr[i], c->layout.undef[i]);
        for (uint32_t k = 0; k < c->seq->insn[i].len; k++)
            printf("%02x", in->code[c->layout.addr[i] - in->code_off + k]);
        printf("\n");
    }
    print_out("native", a);
    print_out("engine", b);
    for (unsigned i = 0; i < r->n; i++)
        printf("differs %s\n", r->d[i].text);
}

/* ---- running ------------------------------------------------------------------------------------------------------------------------ */
static struct engine *engine;
static uint64_t *hits;
static struct sequence sequences[BATCH];
static struct layout layouts[BATCH];
static struct case_out engine_out[BATCH];
static uint8_t image[IMAGE_SIZE];

static uint64_t all_of(const struct sequence *s) { return s->n >= 64 ? ~0ull : (1ull << s->n) - 1; }

/* Run one case on both sides. */
static bool run_one(struct context *c, uint64_t keep, struct report *r, struct case_out *a, struct case_out *b)
{
    if (!gen_layout(c->seq, keep, &shared->in[0], &c->layout))
        return false;
    shared->count = 1;
    if (!run_native()) {
        r->n = 0;
        DIFFER(r, "the native runner died or hung");
        memset(a, 0, sizeof *a);
        memset(b, 0, sizeof *b);
        return true;
    }
    *a = shared->out[0];
    struct case_in in = shared->in[0];
    if (c->native_only) {
        if (!run_native())
            return false;
        *b = shared->out[0];
    } else {
        memset(b, 0, sizeof *b);
        engine_run(engine, &in, b);
    }
    compare(r, c, keep, &in, a, b, image);
    return true;
}

static uint64_t minimise(struct context *c, uint64_t keep)
{
    struct report r;
    struct case_out a, b;
    for (bool progress = true; progress;) {
        progress = false;
        for (int size = 8; size >= 1; size /= 2) {
            for (int i = (int)c->seq->n - size; i >= 0; i--) {
                uint64_t candidate = keep & ~(((1ull << size) - 1) << i);
                if (candidate == keep)
                    continue;
                if (run_one(c, candidate, &r, &a, &b) && r.n) {
                    keep = candidate;
                    progress = true;
                }
            }
        }
    }
    return keep;
}

/* What the table says about undefined and privileged opcodes must be true of the host, or the table is wrong. */
static bool table_wrong(const struct context *c, const struct case_out *o)
{
    int end = end_index(c, all_of(c->seq), o);
    if (end < 0 || end >= (int)c->seq->n)
        return false;
    unsigned attrs = c->forms->form[c->seq->insn[end].form].attrs;
    return (attrs & A_UD && o->vector != 6) || (attrs & A_GP && o->vector != 13 && o->vector != 6);
}

/* Which instructions were executed: all before the end but those that a branch may have skipped. */
static void count_hits(const struct context *c, const struct case_out *o)
{
    int end = end_index(c, all_of(c->seq), o);
    if (end < 0)
        return;
    bool maybe_skipped[MAX_INSNS + 1] = { 0 };
    for (uint32_t i = 0; i < c->seq->n; i++) {
        int to = c->seq->insn[i].jump;
        for (int k = (int)i + 1; k < to && k <= (int)c->seq->n; k++)
            maybe_skipped[k] = true;
    }
    for (int i = 0; i <= end && i < (int)c->seq->n; i++)
        if (!maybe_skipped[i] || i == end)
            hits[c->seq->insn[i].form]++;
}

static bool explained(struct context *c, uint64_t *least);

/*
 * A minimised case that ends with a loop: the instruction to blame is in its body, a round before.  Written out, with
 * the same results on both sides, it can be minimised on.
 */
static bool explained_unrolled(struct context *c, uint64_t keep)
{
    const struct sequence *looped = c->seq;
    struct sequence flat;
    struct report r;
    struct case_out a, b, flat_a, flat_b;
    uint64_t least;
    bool found = false;
    if (!ends_with_loop(looped, keep))
        return false;
    c->strict = true;
    bool differs = run_one(c, keep, &r, &a, &b) && r.n;
    for (unsigned rounds = 1; differs && !found && unroll(looped, keep, rounds, &flat); rounds++) {
        c->seq = &flat;
        found = run_one(c, all_of(&flat), &r, &flat_a, &flat_b) && r.n && same_results(&a, &flat_a) && same_results(&b, &flat_b);
    }
    c->strict = false;
    found = found && explained(c, &least);
    c->seq = looped;
    return found;
}

/*
 * A case differs.  A rule (diff_rules.h) applies where a case ends, but what it allows for may have come earlier, with
 * consequences for all that follows.  So the case is minimised, with no rules: the last instruction left makes a
 * difference.  If a rule explains it, the case is run without that instruction, until nothing differs (true) or
 * something does that no rule explains (false, with the minimised case).
 */
static bool explained(struct context *c, uint64_t *least)
{
    struct report r;
    struct case_out a, b;
    uint64_t keep = all_of(c->seq);
    while (run_one(c, keep, &r, &a, &b) && r.n) {
        c->strict = true;
        *least = minimise(c, keep);
        c->strict = false;
        if (!*least || ((!run_one(c, *least, &r, &a, &b) || r.n) && !explained_unrolled(c, *least)))
            return false;
        keep &= ~(1ull << (63 - __builtin_clzll(*least)));
    }
    return true;
}

static void print_rules(void)
{
    for (unsigned i = 0; i < rules_count(); i++)
        printf("rule %s %" PRIu64 "\n", rules_name(i), rules_applied(i));
}

/* False: rules explain it. */
static bool report_failure(struct context *c, uint64_t seed, uint64_t index)
{
    struct report r;
    struct case_out a, b;
    uint64_t keep = all_of(c->seq);
    bool again = run_one(c, keep, &r, &a, &b) && r.n;
    if (again && explained(c, &keep))
        return false;
    run_one(c, keep, &r, &a, &b);
    printf("failure seed %" PRIu64 " index %" PRIu64 " mask %#" PRIx64 "%s\n", seed, index, keep,
           again ? "" : " (not reproduced alone)");
    print_case(c, keep, &shared->in[0], &a, &b, &r);
    printf("failure-end\n");
    fflush(stdout);
    return true;
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t v = strtoull(text, &end, 0);
    if (*end || end == text) {
        fprintf(stderr, "diff: '%s' is not a number\n", text);
        exit(2);
    }
    return v;
}

/* ---- written cases (test_corners.py) --------------------------------------------------------------------------------------------------- */
/* rules: bit i for rule i of diff_rules.c that may apply */
struct written { struct case_in in; uint8_t undef, x87_undef, pad[2]; uint32_t rules; };

static int run_written(struct context *c, const char *path)
{
    static struct sequence none;        /* without instructions: a case ends where it ends */
    static struct written batch[BATCH];
    uint64_t done = 0, failures = 0;
    uint32_t n;
    FILE *f = fopen(path, "rb");
    if (!f)
        fatal(path);
    gen_image(1, 0, image);
    c->seq = &none;
    while ((n = (uint32_t)fread(batch, sizeof *batch, BATCH, f)) > 0) {
        memcpy(shared->image, image, IMAGE_SIZE);
        shared->count = n;
        for (uint32_t i = 0; i < n; i++)
            shared->in[i] = batch[i].in;
        if (!run_native()) {
            printf("native runner died or hung in case %" PRIu64 "\n", done + shared->current);
            failures++;
            break;
        }
        engine_image(engine, image);
        for (uint32_t i = 0; i < n; i++, done++) {
            struct case_out out = { 0 };
            struct report r;
            engine_run(engine, &batch[i].in, &out);
            c->layout.addr[0] = batch[i].in.code_off + batch[i].in.code_len - 1;
            c->layout.undef[0] = batch[i].undef;
            c->layout.x87_undef[0] = batch[i].x87_undef;
            c->rules = batch[i].rules;
            compare(&r, c, 0, &batch[i].in, &shared->out[i], &out, image);
            if (!r.n)
                continue;
            failures++;
            printf("failure case %" PRIu64 "\n", done);
            for (unsigned k = 0; k < r.n; k++)
                printf("differs %s\n", r.d[k].text);
            printf("failure-end\n");
        }
    }
    fclose(f);
    print_rules();
    printf("done %" PRIu64 " invalid 0 failures %" PRIu64 " retired 0\n", done, failures);
    return failures ? 1 : 0;
}

static struct forms load_forms(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct { char magic[4]; uint32_t size, count; } head;
    if (!f || fread(&head, sizeof head, 1, f) != 1 || memcmp(head.magic, "CCF1", 4) != 0 || head.size != sizeof(struct form))
        fatal(path);
    struct form *form = calloc(head.count, sizeof *form);
    if (fread(form, sizeof *form, head.count, f) != head.count)
        fatal(path);
    fclose(f);
    return (struct forms){ head.count, form };
}

int main(int argc, char **argv)
{
    bool written = argc == 5 && strcmp(argv[3], "cases") == 0;
    if (argc < 7 && !written) {
        fprintf(stderr, "usage: diff FORMS RUNNER run SEED FIRST COUNT | show SEED INDEX MASK | cases FILE\n");
        return 2;
    }
    struct forms forms = load_forms(argv[1]);
    runner_path = argv[2];
    bool show = strcmp(argv[3], "show") == 0;
    uint64_t seed = written ? 0 : number(argv[4]), first = written ? 0 : number(argv[5]), count = written ? 0 : number(argv[6]);
    struct context c = { .forms = &forms };
    unsigned max_failures = 5;
    uint32_t step = 0, tlb = 0, cache = 0, flags = 0;
    for (int i = 7; i < argc; i++) {
        if (strcmp(argv[i], "--native-only") == 0)
            c.native_only = true;
        else if (strcmp(argv[i], "--approx") == 0)
            c.mode = GEN_APPROX;
        else if (strcmp(argv[i], "--no-fuse") == 0)
            flags |= CC_CFG_NO_FUSE;
        else if (strcmp(argv[i], "--step") == 0 && i + 1 < argc)
            step = (uint32_t)number(argv[++i]);
        else if (strcmp(argv[i], "--tlb") == 0 && i + 1 < argc)
            tlb = (uint32_t)number(argv[++i]);
        else if (strcmp(argv[i], "--cache") == 0 && i + 1 < argc)
            cache = (uint32_t)number(argv[++i]);
        else if (strcmp(argv[i], "--failures") == 0 && i + 1 < argc)
            max_failures = (unsigned)number(argv[++i]);
        else {
            fprintf(stderr, "diff: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    shared_fd = memfd_create("cc-diff", MFD_CLOEXEC);
    if (shared_fd < 0 || ftruncate(shared_fd, sizeof *shared) != 0)
        fatal("memfd");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, shared_fd, 0);
    if (shared == MAP_FAILED)
        fatal("mmap");
    start_child();
    if (!c.native_only) {
        engine = engine_new(flags, tlb, cache, shared->cs, shared->ss);
        engine_stepping(engine, step);
    }
    if (written) {
        int status = run_written(&c, argv[4]);
        stop_child();
        engine_free(engine);
        free((void *)forms.form);
        return status;
    }
    hits = calloc(forms.n, sizeof *hits);
    if (show) {
        gen_image(seed, first / BATCH, image);
        memcpy(shared->image, image, IMAGE_SIZE);
        if (engine)
            engine_image(engine, image);
        gen_sequence(&forms, c.mode, seed, first, &sequences[0]);
        c.seq = &sequences[0];
        struct report r;
        struct case_out a, b;
        uint64_t keep = count & all_of(c.seq);
        if (!run_one(&c, keep, &r, &a, &b)) {
            fprintf(stderr, "diff: that mask is not a valid case\n");
            return 2;
        }
        print_case(&c, keep, &shared->in[0], &a, &b, &r);
        stop_child();
        return r.n ? 1 : 0;
    }
    uint64_t done = 0, invalid = 0, failures = 0, retired = 0;
    for (uint64_t index = first; index < first + count && failures < max_failures;) {
        gen_image(seed, index / BATCH, image);
        memcpy(shared->image, image, IMAGE_SIZE);
        uint64_t base = index;
        uint32_t n = 0;
        uint64_t numbers[BATCH];
        for (; index < first + count && index / BATCH == base / BATCH; index++) {
            gen_sequence(&forms, c.mode, seed, index, &sequences[n]);
            if (!gen_layout(&sequences[n], all_of(&sequences[n]), &shared->in[n], &layouts[n])) {
                invalid++;
                continue;
            }
            numbers[n++] = index;
        }
        shared->count = n;
        if (!run_native()) {
            printf("native runner died or hung at seed %" PRIu64 " index %" PRIu64 "\n", seed, numbers[shared->current]);
            failures++;
            continue;
        }
        if (c.native_only) {
            memcpy(engine_out, shared->out, sizeof engine_out);
            if (!run_native()) {
                failures++;
                continue;
            }
        } else {
            engine_image(engine, image);
            memset(engine_out, 0, sizeof(struct case_out) * n);
            for (uint32_t i = 0; i < n; i++) {
                engine_run(engine, &shared->in[i], &engine_out[i]);
                retired += engine_retired(engine);
            }
        }
        uint32_t bad[BATCH], nbad = 0;
        for (uint32_t i = 0; i < n; i++) {
            c.seq = &sequences[i];
            c.layout = layouts[i];
            struct report r;
            compare(&r, &c, all_of(c.seq), &shared->in[i], &shared->out[i], &engine_out[i], image);
            count_hits(&c, &shared->out[i]);
            if (table_wrong(&c, &shared->out[i])) {
                int end = end_index(&c, all_of(c.seq), &shared->out[i]);
                printf("table form %u vector %u index %" PRIu64 "\n", c.seq->insn[end].form, shared->out[i].vector, numbers[i]);
            }
            if (r.n)
                bad[nbad++] = i;
            done++;
        }
        for (uint32_t i = 0; i < nbad && failures < max_failures; i++) {
            c.seq = &sequences[bad[i]];
            failures += report_failure(&c, seed, numbers[bad[i]]);
        }
    }
    stop_child();
    print_rules();
    printf("done %" PRIu64 " invalid %" PRIu64 " failures %" PRIu64 " retired %" PRIu64 "\n", done, invalid, failures, retired);
    for (uint32_t i = 0; i < forms.n; i++)
        printf("hits %u %" PRIu64 "\n", i, hits[i]);
    if (engine)
        engine_free(engine);
    free(hits);
    free((void *)forms.form);
    fflush(stdout);
    return failures ? 1 : 0;
}
