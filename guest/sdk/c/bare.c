/* The channel of a program without an operating system: the caller says where the pages are, and nobody shares them. */

#include "wire.h"

static struct hypercall_page *page;
static uint8_t *coverage;
static struct cc_site *const *first_site, *const *last_site;

void cc_bare_init(void *hypercall_page, void *coverage_map, struct cc_site *const *sites,
                  struct cc_site *const *sites_end)
{
    page = hypercall_page;
    coverage = coverage_map;
    first_site = sites;
    last_site = sites_end;
    if (page != NULL)
        cc_first_use();
}

enum channel cc_channel(void)
{
    return page != NULL ? CHANNEL_MACHINE : CHANNEL_NONE;
}

void cc_sites(struct cc_site *const **begin, struct cc_site *const **end)
{
    *begin = first_site;
    *end = last_site;
}

static void out(uint16_t port)
{
    __asm__ volatile("outb %%al, %%dx" : : "a"(0), "d"(port) : "memory");
}

uint64_t cc_transact(const struct call *call)
{
    if (page == NULL)
        return 0;
    char note[32];
    const char *json;
    size_t message_len, json_len;
    cc_fit(call, &message_len, &json, &json_len, note);
    cc_fill(page, call, message_len, json_len, json);
    out(SDK_PORT);
    return page->result;
}

uint8_t *cc_coverage_map(void)
{
    if (page != NULL && coverage != NULL)
        out(COVERAGE_PORT);
    return page != NULL ? coverage : NULL;
}

uint64_t cc_own_random(void)
{
    return 0;                   /* without a host there is none to be had */
}
