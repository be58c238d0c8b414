/*
 * log.c: the machine's log, host-side: what a person should know of that is no error.  A bounded number of lines
 * waits to be taken; a line that is already waiting is counted, not kept again; when there is no room the oldest goes,
 * and a line says how many went.
 */
#include "console.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LINES_MAX 256u
#define TEXT_BYTES 200u
#define LINE_BYTES_MAX (TEXT_BYTES + 100u)      /* with its date and count */

struct log_line {
    uint64_t vns, instret;      /* of the first time */
    uint64_t times;
    uint32_t hash;              /* of the text: most comparisons end here */
    char text[TEXT_BYTES];
};

struct cc_log {
    uint32_t first, count;      /* ring */
    uint64_t dropped;
    struct log_line line[LINES_MAX];
};

int cc_log_new(cc_machine *m)
{
    m->log = calloc(1, sizeof *m->log);
    return m->log ? CC_OK : cc_fail(m, CC_ENOMEM, "the host refused memory for the machine's log");
}

void cc_log_free(cc_machine *m)
{
    free(m->log);
}

static uint32_t hash_text(const char *s)
{
    uint32_t h = 0x811C9DC5u;
    while (*s)
        h = (h ^ (uint8_t)*s++) * 0x01000193u;
    return h;
}

static struct log_line *find_line(struct cc_log *log, const char *text, uint32_t hash)
{
    for (uint32_t i = 0; i < log->count; i++) {
        struct log_line *l = &log->line[(log->first + i) % LINES_MAX];
        if (l->hash == hash && !strcmp(l->text, text))
            return l;
    }
    return NULL;
}

void cc_logf(cc_machine *m, const char *fmt, ...)
{
    struct cc_log *log = m->log;
    char text[TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    uint32_t hash = hash_text(text);
    struct log_line *l = find_line(log, text, hash);
    if (l) {
        l->times++;
        return;
    }
    if (log->count == LINES_MAX) {
        log->first = (log->first + 1) % LINES_MAX;
        log->count--;
        log->dropped++;
    }
    l = &log->line[(log->first + log->count++) % LINES_MAX];
    l->vns = cc_now(m);
    l->instret = m->instret;
    l->times = 1;
    l->hash = hash;
    memcpy(l->text, text, sizeof text);
}

static size_t format_line(const struct log_line *l, char dst[LINE_BYTES_MAX])
{
    int n = snprintf(dst, LINE_BYTES_MAX, "[%llu.%09llu s, instruction %llu] %s",
                     (unsigned long long)(l->vns / 1000000000u), (unsigned long long)(l->vns % 1000000000u),
                     (unsigned long long)l->instret, l->text);
    size_t used = (size_t)n;
    if (l->times > 1)
        used += (size_t)snprintf(dst + used, LINE_BYTES_MAX - used, " (%llu times)", (unsigned long long)l->times);
    dst[used++] = '\n';
    return used;
}

static size_t format_dropped(const struct cc_log *log, char dst[LINE_BYTES_MAX])
{
    return (size_t)snprintf(dst, LINE_BYTES_MAX, "(%llu earlier lines were not taken in time and are lost)\n",
                            (unsigned long long)log->dropped);
}

/* Whole lines only, as many as fit: nothing is lost to a small buffer. */
size_t cc_log_take(cc_machine *m, char *dst, size_t cap)
{
    struct cc_log *log = m->log;
    size_t used = 0;
    char line[LINE_BYTES_MAX];
    while (log->dropped || log->count) {
        size_t n = log->dropped ? format_dropped(log, line) : format_line(&log->line[log->first], line);
        if (n > cap - used)
            break;
        memcpy(dst + used, line, n);
        used += n;
        if (log->dropped) {
            log->dropped = 0;
            continue;
        }
        log->first = (log->first + 1) % LINES_MAX;
        log->count--;
    }
    return used;
}
