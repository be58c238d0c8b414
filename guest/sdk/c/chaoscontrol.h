/*
 * chaoscontrol.h: what a program under test says to the machine it runs in.
 *
 * Assertions that must hold always or must become true sometimes, the moment the set-up is done, random numbers that
 * the host chooses, and coverage.  docs/guest-programs.md says what each call means and how it travels.
 *
 * Inside a machine every call is one store into a shared page and one OUT instruction: a few hundred instructions, no
 * allocation, callable from any thread, process or signal handler.  Anywhere else the same messages go to the file
 * named by CHAOSCONTROL_SDK_LOCAL_OUTPUT, one line of JSON each, or nowhere.
 *
 * `details` is the text of a JSON object, or NULL.  `message` names a property and should never change or be reused.
 */
#ifndef CHAOSCONTROL_H
#define CHAOSCONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- assertions ---- */

enum cc_kind {
    CC_KIND_ALWAYS,               /* true whenever it is evaluated, and evaluated at least once */
    CC_KIND_ALWAYS_OR_UNREACHABLE,
    CC_KIND_SOMETIMES,            /* true at least once */
    CC_KIND_REACHABLE,
    CC_KIND_UNREACHABLE,
};

enum cc_compare { CC_LESS, CC_LESS_OR_EQUAL, CC_GREATER, CC_GREATER_OR_EQUAL };

/* One place in the source that asserts something.  The macros make them; all are announced when the program starts. */
struct cc_site {
    const char *message, *file, *function;
    uint32_t line;
    uint32_t id;              /* FNV-1a of "file:line:message"; 0 until it is first needed */
    uint8_t kind;
    uint8_t guided;           /* whether `best` holds anything */
    double best;              /* the gap (left - right) or the number of true values that guidance has reached */
};

struct cc_named_bool {
    const char *name;
    bool value;
};

#define CC_ALWAYS(condition, message, details) CC_ASSERT_(CC_KIND_ALWAYS, condition, message, details)
#define CC_ALWAYS_OR_UNREACHABLE(condition, message, details) \
    CC_ASSERT_(CC_KIND_ALWAYS_OR_UNREACHABLE, condition, message, details)
#define CC_SOMETIMES(condition, message, details) CC_ASSERT_(CC_KIND_SOMETIMES, condition, message, details)
#define CC_REACHABLE(message, details) CC_ASSERT_(CC_KIND_REACHABLE, true, message, details)
#define CC_UNREACHABLE(message, details) CC_ASSERT_(CC_KIND_UNREACHABLE, false, message, details)

/* Comparisons that tell the host both values, so that a search can steer towards the edge.  Integers are compared as
 * int64_t, anything with a floating-point operand as double. */
#define CC_ALWAYS_LESS_THAN(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_ALWAYS, CC_LESS, left, right, message, details)
#define CC_ALWAYS_LESS_THAN_OR_EQUAL_TO(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_ALWAYS, CC_LESS_OR_EQUAL, left, right, message, details)
#define CC_ALWAYS_GREATER_THAN(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_ALWAYS, CC_GREATER, left, right, message, details)
#define CC_ALWAYS_GREATER_THAN_OR_EQUAL_TO(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_ALWAYS, CC_GREATER_OR_EQUAL, left, right, message, details)
#define CC_SOMETIMES_LESS_THAN(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_SOMETIMES, CC_LESS, left, right, message, details)
#define CC_SOMETIMES_LESS_THAN_OR_EQUAL_TO(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_SOMETIMES, CC_LESS_OR_EQUAL, left, right, message, details)
#define CC_SOMETIMES_GREATER_THAN(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_SOMETIMES, CC_GREATER, left, right, message, details)
#define CC_SOMETIMES_GREATER_THAN_OR_EQUAL_TO(left, right, message, details) \
    CC_NUMERIC_(CC_KIND_SOMETIMES, CC_GREATER_OR_EQUAL, left, right, message, details)

/* Groups: CC_ALWAYS_SOME("one role", NULL, {"leader", leads}, {"follower", follows}). */
#define CC_ALWAYS_SOME(message, details, ...) CC_GROUP_(CC_KIND_ALWAYS, message, details, __VA_ARGS__)
#define CC_SOMETIMES_ALL(message, details, ...) CC_GROUP_(CC_KIND_SOMETIMES, message, details, __VA_ARGS__)

/* The same without a macro, for callers that make messages as they run: the id is FNV-1a of the message alone, and
 * nothing announces the property before its first evaluation but cc_announce(). */
void cc_always(bool condition, const char *message, const char *details);
void cc_sometimes(bool condition, const char *message, const char *details);
void cc_reachable(const char *message, const char *details);
void cc_unreachable(const char *message, const char *details);
void cc_announce(enum cc_kind kind, const char *message);

/* ---- lifecycle ---- */

void cc_setup_complete(const char *details);
void cc_send_event(const char *name, const char *details);

/* ---- randomness: inside a machine the host's, a function of its seed and branch ---- */

uint64_t cc_random(void);
uint64_t cc_random_choice(uint32_t n);   /* 0..n-1; 0 if n is 0 */

/* ---- coverage ---- */

/* Say that this program will record edges; `name` and `edge_count` (0: unknown) are for reports.  False where there is
 * nobody to record for.  Programs compiled with -fsanitize-coverage=trace-pc-guard (or trace-pc) need no call. */
bool cc_coverage_init(const char *name, uint32_t edge_count);
void cc_record_edge(uint32_t location);

/* ---- the channel ---- */

/* Whether the program runs inside a machine and reaches its hypercall page. */
bool cc_inside_machine(void);

/* FNV-1a, 32 bits: how ids are made from text. */
uint32_t cc_fnv1a(const char *text, size_t length);

#ifdef CC_SDK_FREESTANDING
/* Without an operating system the caller maps the page (guest physical 0xFE000) and the coverage map (0xE0000, 64 KiB)
 * and may execute OUT; `sites` and `sites_end` are __start_cc_sites and __stop_cc_sites, or NULL. */
void cc_bare_init(void *hypercall_page, void *coverage_map, struct cc_site *const *sites,
                  struct cc_site *const *sites_end);
#endif

/* ---- behind the macros ---- */

void cc_assert_at(struct cc_site *site, bool condition, const char *details);
void cc_compare_i64(struct cc_site *site, enum cc_compare how, int64_t left, int64_t right, const char *details);
#ifndef CC_SDK_FREESTANDING
void cc_compare_f64(struct cc_site *site, enum cc_compare how, double left, double right, const char *details);
#endif
void cc_group_at(struct cc_site *site, const struct cc_named_bool *values, size_t count, const char *details);

/* Pointers in a section of their own: whatever the size of a site, they are packed without gaps. */
#define CC_SITE_(site_kind, site_message)                                                                            \
    static struct cc_site cc_site_ = {.message = (site_message), .file = __FILE__, .function = __func__,             \
                                      .line = __LINE__, .kind = (site_kind)};                                        \
    static struct cc_site *const cc_site_pointer_ __attribute__((section("cc_sites"), used)) = &cc_site_

#define CC_ASSERT_(kind, condition, message, details)                                                                \
    do {                                                                                                             \
        CC_SITE_(kind, message);                                                                                     \
        cc_assert_at(&cc_site_, (condition), (details));                                                             \
    } while (0)

#ifdef CC_SDK_FREESTANDING
#define CC_COMPARE_(left, right) cc_compare_i64
#else
#define CC_COMPARE_(left, right) \
    _Generic((left) + (right), float: cc_compare_f64, double: cc_compare_f64, long double: cc_compare_f64, \
             default: cc_compare_i64)
#endif

#define CC_NUMERIC_(kind, how, left, right, message, details)                                                        \
    do {                                                                                                             \
        CC_SITE_(kind, message);                                                                                     \
        CC_COMPARE_(left, right)(&cc_site_, (how), (left), (right), (details));                                      \
    } while (0)

#define CC_GROUP_(kind, message, details, ...)                                                                       \
    do {                                                                                                             \
        CC_SITE_(kind, message);                                                                                     \
        const struct cc_named_bool cc_values_[] = {__VA_ARGS__};                                                     \
        cc_group_at(&cc_site_, cc_values_, sizeof cc_values_ / sizeof *cc_values_, (details));                       \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
