/*
 * console.c: what the guest has transmitted and nobody has taken yet, where its lines begin, and the search for a
 * pattern in it.  All of this is host-side; the state holds the total, a hash and the last bytes (devices/state.h).
 *
 * A restored snapshot puts the total back or forward behind this module's back.  Every entry point therefore first
 * compares totals and hashes (sync): undrained bytes that also precede the restored moment are kept, others
 * belong to another history and are dropped, and the matcher is rebuilt from the last bytes.  So a pattern is found at
 * the same instruction with or without a restore in its middle.
 *
 * Undrained output is bounded.  The oldest goes first; the gap shows in the next first_offset, and in the log.
 */
#include "console.h"

#include <stdlib.h>

#define BUFFER_BYTES_MIN 4096u
#define BUFFER_BYTES_MAX (1u << 20)     /* powers of two */
#define DROP_BYTES (BUFFER_BYTES_MAX / 16)
#define MARKS_MIN 64u
#define MARKS_MAX 16384u
#define PATTERN_MAX 255u

_Static_assert(CC_CONSOLE_TAIL > PATTERN_MAX, "the tail can rebuild the matcher");
_Static_assert((CC_CONSOLE_TAIL & (CC_CONSOLE_TAIL - 1)) == 0, "offsets are reduced by a mask");

struct cc_console {
    uint8_t *bytes;                 /* ring: the byte at offset o is at o % capacity */
    uint64_t capacity;
    uint64_t start, end;            /* offsets held */
    uint64_t start_hash, end_hash;  /* of everything before them */
    cc_console_mark *marks;         /* ring: mark number i is at i % marks_capacity */
    uint64_t marks_capacity;
    uint64_t marks_start, marks_end;
    uint64_t pattern_from;          /* matches begin at or after this offset */
    uint32_t pattern_size;          /* 0: none */
    uint32_t matched;               /* length of the pattern's prefix that the output ends with */
    uint8_t pattern[PATTERN_MAX];
    uint8_t border[PATTERN_MAX];    /* of each prefix: its longest proper border (Knuth, Morris, Pratt) */
};

static uint64_t hash_byte(uint64_t hash, uint8_t byte)
{
    return (hash ^ byte) * UINT64_C(0x100000001B3);
}

int cc_console_new(cc_machine *m)
{
    struct cc_console *c = calloc(1, sizeof *c);
    if (!c)
        return cc_fail(m, CC_ENOMEM, "the host refused memory for the console");
    m->console = c;
    c->bytes = malloc(BUFFER_BYTES_MIN);
    c->marks = malloc(MARKS_MIN * sizeof *c->marks);
    if (!c->bytes || !c->marks)
        return cc_fail(m, CC_ENOMEM, "the host refused memory for the console's buffers");
    c->capacity = BUFFER_BYTES_MIN;
    c->marks_capacity = MARKS_MIN;
    c->start_hash = CC_CONSOLE_HASH_START;
    c->end_hash = CC_CONSOLE_HASH_START;
    return CC_OK;
}

void cc_console_free(cc_machine *m)
{
    if (!m->console)
        return;
    free(m->console->bytes);
    free(m->console->marks);
    free(m->console);
}

/* ---- pattern --------------------------------------------------------------------------------------------------- */
/* True if this byte completes the pattern. */
static bool match_byte(struct cc_console *c, uint8_t byte)
{
    if (!c->pattern_size)
        return false;
    while (c->matched && c->pattern[c->matched] != byte)
        c->matched = c->border[c->matched - 1];
    if (c->pattern[c->matched] == byte)
        c->matched++;
    if (c->matched < c->pattern_size)
        return false;
    c->matched = c->border[c->matched - 1];
    return true;
}

/* The matcher's state follows from the last bytes alone. */
static void rebuild_matcher(cc_machine *m)
{
    struct cc_console *c = m->console;
    uint64_t total = m->dev.console_total;
    uint64_t from = total > PATTERN_MAX ? total - PATTERN_MAX : 0;
    if (c->pattern_from > total)
        c->pattern_from = total;        /* wound back: what comes is sent after the pattern was set */
    if (from < c->pattern_from)
        from = c->pattern_from;
    c->matched = 0;
    for (uint64_t o = from; o < total; o++)
        match_byte(c, m->dev.console_tail[o % CC_CONSOLE_TAIL]);
}

static void compute_borders(struct cc_console *c)
{
    uint32_t k = 0;
    c->border[0] = 0;
    for (uint32_t i = 1; i < c->pattern_size; i++) {
        while (k && c->pattern[i] != c->pattern[k])
            k = c->border[k - 1];
        if (c->pattern[i] == c->pattern[k])
            k++;
        c->border[i] = (uint8_t)k;
    }
}

/* ---- following the state --------------------------------------------------------------------------------------- */
static uint64_t hash_from_start(const struct cc_console *c, uint64_t end)
{
    uint64_t hash = c->start_hash;
    for (uint64_t o = c->start; o < end; o++)
        hash = hash_byte(hash, c->bytes[o % c->capacity]);
    return hash;
}

static void sync(cc_machine *m)
{
    struct cc_console *c = m->console;
    uint64_t total = m->dev.console_total, hash = m->dev.console_hash;
    if (c->end == total && c->end_hash == hash)
        return;
    bool same_history = total >= c->start && total <= c->end && hash_from_start(c, total) == hash;
    if (!same_history) {
        c->start = total;
        c->start_hash = hash;
        c->marks_start = c->marks_end;
    }
    c->end = total;
    c->end_hash = hash;
    while (c->marks_end > c->marks_start && c->marks[(c->marks_end - 1) % c->marks_capacity].offset >= total)
        c->marks_end--;
    rebuild_matcher(m);
}

/* ---- buffer ---------------------------------------------------------------------------------------------------- */
/* Double a ring's storage; items keep their places modulo the new capacity.  False if the host refuses memory. */
static bool grow(void **items, uint64_t *capacity, size_t item_size, uint64_t start, uint64_t end)
{
    uint64_t larger = *capacity * 2;
    uint8_t *to = malloc(larger * item_size), *from = *items;
    if (!to)
        return false;
    for (uint64_t i = start; i < end; i++)
        memcpy(to + i % larger * item_size, from + i % *capacity * item_size, item_size);
    free(from);
    *items = to;
    *capacity = larger;
    return true;
}

static void advance_start(struct cc_console *c, uint64_t to)
{
    c->start_hash = hash_from_start(c, to);
    c->start = to;
}

static void push_byte(cc_machine *m, uint8_t byte)
{
    struct cc_console *c = m->console;
    if (c->end - c->start == c->capacity) {
        void *items = c->bytes;
        if (c->capacity < BUFFER_BYTES_MAX && grow(&items, &c->capacity, 1, c->start, c->end))
            c->bytes = items;
        else {
            uint64_t n = c->capacity < DROP_BYTES ? c->capacity : DROP_BYTES;
            advance_start(c, c->start + n);
            cc_logf(m, "console: output not taken in time, the oldest %llu bytes dropped", (unsigned long long)n);
        }
    }
    c->bytes[c->end % c->capacity] = byte;
    c->end++;
    c->end_hash = hash_byte(c->end_hash, byte);
}

static void push_mark(cc_machine *m)
{
    struct cc_console *c = m->console;
    if (c->marks_end - c->marks_start == c->marks_capacity) {
        void *items = c->marks;
        if (c->marks_capacity < MARKS_MAX
            && grow(&items, &c->marks_capacity, sizeof *c->marks, c->marks_start, c->marks_end))
            c->marks = items;
        else
            c->marks_start++;
    }
    c->marks[c->marks_end % c->marks_capacity] = (cc_console_mark){c->end, cc_now(m), m->instret};
    c->marks_end++;
}

void cc_console_put(cc_machine *m, uint8_t byte)
{
    struct cc_console *c = m->console;
    struct cc_devstate *d = &m->dev;
    sync(m);
    uint8_t before = d->console_total ? d->console_tail[(d->console_total - 1) % CC_CONSOLE_TAIL] : '\n';
    if (before == '\n' || (before == '\r' && byte != '\n'))
        push_mark(m);
    push_byte(m, byte);
    d->console_tail[d->console_total % CC_CONSOLE_TAIL] = byte;
    d->console_total = c->end;
    d->console_hash = c->end_hash;
    if (match_byte(c, byte) && (m->stop_at & CC_AT_CONSOLE))
        cc_request_stop(m, CC_STOP_CONSOLE, 0);
}

/* ---- the host's view ------------------------------------------------------------------------------------------- */
uint64_t cc_console_total(const cc_machine *m)
{
    return m->dev.console_total;
}

size_t cc_console_take(cc_machine *m, uint8_t *dst, size_t cap, uint64_t *first_offset)
{
    struct cc_console *c = m->console;
    sync(m);
    uint64_t held = c->end - c->start;
    size_t n = held < cap ? (size_t)held : cap;
    for (size_t i = 0; i < n; i++)
        dst[i] = c->bytes[(c->start + i) % c->capacity];
    if (first_offset)
        *first_offset = c->start;
    advance_start(c, c->start + n);
    return n;
}

size_t cc_console_take_marks(cc_machine *m, cc_console_mark *dst, size_t cap)
{
    struct cc_console *c = m->console;
    sync(m);
    size_t n = 0;
    while (n < cap && c->marks_start < c->marks_end)
        dst[n++] = c->marks[c->marks_start++ % c->marks_capacity];
    return n;
}

int cc_console_pattern(cc_machine *m, const uint8_t *pattern, size_t size)
{
    struct cc_console *c = m->console;
    if (size > PATTERN_MAX)
        return cc_fail(m, CC_EINVAL, "console pattern of %zu bytes: at most %u", size, PATTERN_MAX);
    sync(m);
    if (size)
        memcpy(c->pattern, pattern, size);
    c->pattern_size = (uint32_t)size;
    c->pattern_from = m->dev.console_total;
    c->matched = 0;
    compute_borders(c);
    return CC_OK;
}
