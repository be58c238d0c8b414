/*
 * The library without an operating system, with pages of its own.  OUT is refused to a user program: the signal is
 * where the host would look at the page, so there it is printed.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "chaoscontrol.h"

static uint8_t page[4096], coverage[65536];

static void on_out(int number, siginfo_t *info, void *context)
{
    (void)info;
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *rip = (const uint8_t *)regs[REG_RIP];
    if (*rip != 0xEE) {         /* OUT DX, AL */
        signal(number, SIG_DFL);
        return;
    }
    regs[REG_RIP]++;
    printf("%x ", (unsigned)(regs[REG_RDX] & 0xFFFF));
    size_t length = 0x20 + page[8] + 256u * page[9];
    for (size_t i = 0; i < length; i++)
        printf("%02x", page[i]);
    printf("\n");
    page[0x10] = 41;            /* the answer */
}

extern struct cc_site *const __start_cc_sites[], *const __stop_cc_sites[];

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_out, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    cc_always(true, "before anything", NULL);   /* no page yet: nothing happens */
    cc_bare_init(page, coverage, __start_cc_sites, __stop_cc_sites);
    CC_ALWAYS(1, "m", "{\"a\":1}");
    CC_SOMETIMES(0, "n", NULL);
    cc_setup_complete(NULL);
    int any = (int)cc_random(), one_of_forty = (int)cc_random_choice(40);
    printf("random %d %d\n", any, one_of_forty);
    cc_coverage_init("p", 9);
    cc_record_edge(0x1234);
    cc_record_edge(0x1234);
    for (int i = 0; i < 600; i++) {
        cc_record_edge(0x8000);
        cc_record_edge(0);
    }
    for (size_t i = 0; i < sizeof coverage; i++)
        if (coverage[i] != 0)
            printf("edge %zx %d\n", i, coverage[i]);
    return 0;
}
