/* Edge coverage in the map at 0xE0000: one byte for every pair of locations, saturating, never reset by the guest. */

#include "wire.h"

static uint8_t *map;
/* Unused until somebody can be told of it: a write to NULL would be the program's end. */

#ifdef CC_SDK_FREESTANDING
static uint32_t previous;
#else
static _Thread_local uint32_t previous;
#endif

static bool open_map(void)
{
    if (map == NULL)
        map = cc_coverage_map();
    return map != NULL;
}

bool cc_coverage_init(const char *name, uint32_t edge_count)
{
    if (!open_map())
        return false;
    char json[32];
    struct text text = {json, sizeof json, 0, false};
    cc_text_put(&text, "{\"edges\":");
    cc_text_u64(&text, edge_count);
    cc_text_put(&text, "}");
    struct call call = {COMMAND_COVERAGE_INIT, false, edge_count, name, cc_length(name), json, text.length};
    cc_transact(&call);
    return true;
}

void cc_record_edge(uint32_t location)
{
    if (map == NULL)
        return;
    uint8_t *count = &map[(previous ^ location) & (COVERAGE_BYTES - 1)];
    if (*count != UINT8_MAX)
        (*count)++;
    previous = (location & (COVERAGE_BYTES - 1)) >> 1;
}

/* Consecutive numbers would make prev ^ cur collide: a multiplicative hash (Knuth, TAOCP 6.4) spreads them. */
static uint32_t spread(uint32_t number)
{
    return number * 0x9E3779B1u >> 16;
}

void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop);
void __sanitizer_cov_trace_pc_guard(uint32_t *guard);
void __sanitizer_cov_trace_pc(void);

static uint32_t guards;

/* Called by the compiler once for every object or library, before its code runs. */
void __sanitizer_cov_trace_pc_guard_init(uint32_t *start, uint32_t *stop)
{
    if (start == stop || *start != 0)
        return;
    for (uint32_t *guard = start; guard < stop; guard++)
        *guard = ++guards;
    cc_coverage_init("trace-pc-guard", (uint32_t)(stop - start));
}

void __sanitizer_cov_trace_pc_guard(uint32_t *guard)
{
    cc_record_edge(spread(*guard));
}

/* gcc's -fsanitize-coverage=trace-pc has no guards: the address serves, as programs are not loaded at random ones. */
void __sanitizer_cov_trace_pc(void)
{
    static bool asked;
    if (map == NULL) {
        if (asked)
            return;
        asked = true;
        cc_coverage_init("trace-pc", 0);
    }
    cc_record_edge(spread((uint32_t)(uintptr_t)__builtin_return_address(0)));
}
