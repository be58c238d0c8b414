/*
 * host_vendor.h: who made the host's processor.  The guest's CPU behaves like Intel's where the SDM leaves a choice
 * (docs/determinism.md); tests that compare with the host make allowance for the host's vendor, and each says for what.
 */
#ifndef CC_HOST_VENDOR_H
#define CC_HOST_VENDOR_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum host_vendor { HOST_INTEL = 1, HOST_AMD = 2, HOST_ANY = HOST_INTEL | HOST_AMD };

/* Another vendor's processor is not known to do as either: nothing can be compared there, and that is an error. */
static inline enum host_vendor host_vendor(void)
{
    uint32_t a = 0, b, c = 0, d;
    char name[13] = "";
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    memcpy(name, &b, 4);
    memcpy(name + 4, &d, 4);
    memcpy(name + 8, &c, 4);
    if (!strcmp(name, "GenuineIntel"))
        return HOST_INTEL;
    if (!strcmp(name, "AuthenticAMD") || !strcmp(name, "HygonGenuine"))       /* the latter are AMD's Zen */
        return HOST_AMD;
    fprintf(stderr, "no rules for comparing with processors of \"%s\": tests/host_vendor.h knows Intel's and AMD's\n", name);
    exit(2);
}

#endif
