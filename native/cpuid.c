/*
 * cpuid.c: what CPUID says, for any vCPU.
 *
 * An Intel-like x86-64-v2 CPU with one core and no APIC, MCE, MTRR, PCID, XSAVE, AVX, RDRAND or hypervisor bit.  The
 * numbers of a profile never change: recordings name it.
 */
#include "machine.h"

#define LAST_LEAF 0x16u

void cc_cpuid(uint64_t tsc_khz, uint32_t leaf, uint32_t subleaf, uint32_t o[4])
{
    static const char brand[48] = "cc-tui deterministic CPU, profile 1";
    memset(o, 0, 16);
    /* Beyond the last leaf: what the last basic one says (SDM volume 2, CPUID). */
    if (leaf > 0x80000008 || (leaf > LAST_LEAF && leaf < 0x80000000))
        leaf = LAST_LEAF;
    switch (leaf) {
    case 0:
        o[0] = LAST_LEAF;
        memcpy(&o[1], "Genu", 4);
        memcpy(&o[3], "ineI", 4);
        memcpy(&o[2], "ntel", 4);
        break;
    case 1:
        o[0] = 0x000306a9;                 /* family 6, model 0x3a, stepping 9 */
        o[1] = 8 << 8;                     /* CLFLUSH line: 64 bytes */
        /* SSE3 SSSE3 CX16 SSE4.1 SSE4.2 MOVBE POPCNT */
        o[2] = 1u << 0 | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23;
        /* FPU DE PSE TSC MSR PAE CX8 PGE CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
        o[3] = 1u << 0 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 8 | 1u << 13 | 1u << 15 | 1u << 16 |
               1u << 17 | 1u << 19 | 1u << 23 | 1u << 24 | 1u << 25 | 1u << 26;
        break;
    case 4: {
        static const uint32_t cache[3][4] = {
            {0x00000121, 0x01c0003f, 0x0000003f, 0},       /* L1 data: 32 KiB, 8 ways, 64-byte lines */
            {0x00000122, 0x01c0003f, 0x0000003f, 0},       /* L1 instruction */
            {0x00000143, 0x01c0003f, 0x000003ff, 0},       /* L2: 512 KiB */
        };
        if (subleaf < 3)
            memcpy(o, cache[subleaf], 16);
        break;
    }
    case 7:
        if (subleaf == 0) {
            o[1] = 1u << 0 | 1u << 7 | 1u << 20;       /* FSGSBASE, SMEP, SMAP */
            o[2] = 1u << 2;                            /* UMIP */
        }
        break;
    case 0x15:      /* TSC frequency = ECX * EBX / EAX */
        o[0] = 1000;
        o[1] = (uint32_t)tsc_khz;
        o[2] = 1000000;
        break;
    case LAST_LEAF:
        o[0] = o[1] = (uint32_t)(tsc_khz / 1000);
        o[2] = 100;
        break;
    case 0x80000000: o[0] = 0x80000008; break;
    case 0x80000001:
        o[2] = 1;                                          /* LAHF/SAHF */
        o[3] = 1u << 11 | 1u << 20 | 1u << 26 | 1u << 29;  /* SYSCALL, NX, 1 GiB pages, long mode */
        break;
    case 0x80000002: case 0x80000003: case 0x80000004:
        memcpy(o, brand + 16 * (leaf - 0x80000002), 16);
        break;
    case 0x80000006: o[2] = 512 << 16 | 6 << 12 | 64; break;      /* L2 */
    case 0x80000007: o[3] = 1u << 8; break;                       /* invariant TSC */
    case 0x80000008: o[0] = 48 << 8 | 40; break;                  /* address bits */
    default: break;
    }
}
