/*
 * diff.h: what the parts of the differential test share: the opcode forms, one test case as the native runner and the
 * engine see it, and the memory layout, which is the same in both.
 *
 * A case starts at CPL 3 with a complete register state and ends at the first exception (the sequence is followed by
 * INT3).  Memory is restored from one image per batch; what a case changed is reported as a list of 8-byte granules.
 */
#ifndef CC_DIFF_H
#define CC_DIFF_H

#include <stdbool.h>
#include <stdint.h>

/* ---- memory layout -------------------------------------------------------------------------------------------------- */
/* Guard pages (unmapped) lie on both sides of every region.  DATA straddles 4 GiB, so that 32-bit address wrap-around
 * and truncated addresses show; STACK needs more than 32 bits; NEAR and ENV are within reach of RIP and disp32. */
#define CODE_VA 0x10000000ull
#define NEAR_VA 0x10100000ull
#define ENV_VA 0x10200000ull       /* only FXSAVE, FNSAVE, FNSTENV images: parts of them are not compared */
#define DATA_VA 0xffffe000ull
#define STACK_VA 0x200000000000ull

/* ENV's slots.  Environments and states alternate between the 32-bit and the 16-bit layout. */
#define ENV_FX 0x000u              /* four FXSAVE images */
#define ENV_ENV 0x800u             /* sixteen environments of 28 or 14 bytes, 32 apart */
#define ENV_STATE 0xa00u           /* eight FNSAVE states of 108 or 94 bytes, 128 apart */
#define ENV_END 0xe00u

struct region { uint64_t va; uint32_t pages; bool write, exec; };
/* The last page of DATA is read-only. */
static const struct region regions[] = {
    { CODE_VA, 2, true, true },
    { NEAR_VA, 1, true, false },
    { ENV_VA, 1, true, false },
    { DATA_VA, 3, true, false },
    { DATA_VA + 0x3000, 1, false, false },
    { STACK_VA, 2, true, false },
};
#define NREGIONS (sizeof regions / sizeof *regions)
#define IMAGE_PAGES 10
#define IMAGE_SIZE (IMAGE_PAGES * 4096)
#define CODE_SIZE 8192

/* ---- opcode forms (forms.py writes them) ----------------------------------------------------------------------------- */
enum kind { K_NONE, K_GPR8, K_GPR, K_MMX, K_XMM, K_SREG, K_CREG, K_DREG, K_ST };
enum mclass { M_INT, M_F32, M_F64, M_F80, M_BCD, M_ENV, M_STATE, M_FX, M_PTR, M_I16, M_I32, M_I64 };
enum mod { MOD_NONE, MOD_REG, MOD_MEM, MOD_FIXED, MOD_OPREG };
enum special {
    SP_NONE, SP_STACK, SP_JCC, SP_RDSEG, SP_WRSEG, SP_PUSHF, SP_POPF, SP_STRING, SP_SHIFT, SP_RET, SP_ENTER, SP_LEAVE,
    SP_RETF, SP_INT3, SP_INT, SP_IRET, SP_XLAT, SP_LOOP, SP_CALL, SP_JMP, SP_INT1, SP_DIV, SP_CALLI, SP_JMPI,
    SP_FARPTR, SP_SELECTOR, SP_HINT, SP_CMOV, SP_SETCC, SP_POPSEG, SP_BITMEM, SP_SHLD, SP_WRBASE, SP_LSEL, SP_STI,
    SP_FENV, SP_FLDCW, SP_APPROX, SP_FNINIT, SP_FSTSW, SP_MASKMOV, SP_FX, SP_LDMXCSR, SP_NOWILD,
};
enum { A_LOCK = 1, A_UD = 2, A_GP = 4, A_NOREP = 8 };
enum { CLS_INT, CLS_X87, CLS_MMX, CLS_SSE };
enum { F_C = 1, F_P = 2, F_A = 4, F_Z = 8, F_S = 16, F_O = 32, F_D = 64, F_ALL = 63 };

struct form {
    uint8_t map;            /* 0 one-byte, 1 0F, 2 0F 38, 3 0F 3A */
    uint8_t prefix;         /* 66, F2, F3; 0 any; FF none allowed */
    uint8_t opcode;
    int8_t digit;           /* ModRM.reg, or -1 */
    int16_t fixed_modrm;    /* or -1 */
    uint8_t mod, size;      /* enum mod; operand size in bytes, 0: none */
    uint8_t d64, rexw, imm, special;
    uint8_t cls, reg_kind, reg_size, reg_acc;   /* acc: bit 0 read, bit 1 written */
    uint8_t rm_kind, rm_size, rm_acc, align;
    uint16_t mem_size;
    uint8_t mem_class, moffs;
    uint8_t tested, modified, undefined, x87_undefined;
    uint16_t implicit;
    uint16_t attrs;
    uint32_t pad;
};
_Static_assert(sizeof(struct form) == 36, "forms.py: RECORD");

/* ---- a case ------------------------------------------------------------------------------------------------------------ */
#define MAX_CODE 1024
#define MAX_GRANULES 160
#define MAX_ENV 128
#define ENV_FIRST ((CODE_SIZE + 4096) / 8)

struct case_in {
    uint64_t gpr[16], rip, rflags, fs_base, gs_base;
    uint8_t fx[512];        /* FXSAVE64 image */
    uint32_t code_off, code_len;
    uint8_t code[MAX_CODE];
};

struct granule { uint32_t index; uint64_t value; };

struct case_out {
    uint64_t gpr[16], rip, rflags, fs_base, gs_base, cr2;
    uint32_t vector, error;
    uint16_t sel[6];        /* ES CS SS DS FS GS */
    uint16_t pad[2];
    uint8_t fx[512];
    /* changed 8-byte words of the image; beyond MAX_GRANULES only counted and hashed; ENV's apart and not hashed */
    uint32_t ngranules, nenv;
    uint64_t granule_hash;
    struct granule granule[MAX_GRANULES], env[MAX_ENV];
};

/* Note that word `index` of the image was changed to `value`. */
static inline void note_granule(struct case_out *out, uint32_t index, uint64_t value)
{
    if (index >= ENV_FIRST && index < ENV_FIRST + 512) {
        if (out->nenv < MAX_ENV)
            out->env[out->nenv++] = (struct granule){ index, value };
        return;
    }
    if (out->ngranules < MAX_GRANULES)
        out->granule[out->ngranules] = (struct granule){ index, value };
    out->ngranules++;
    out->granule_hash = (out->granule_hash ^ index) * 0x100000001b3ull;
    out->granule_hash = (out->granule_hash ^ value) * 0x100000001b3ull;
}

#define VECTOR_SYSCALL 0x100u   /* a system call was attempted (stopped by seccomp) */
#define VECTOR_BUDGET 0x101u    /* the engine's instruction budget ran out */

/* Shared with the native runner. */
#define BATCH 128
struct shared {
    uint32_t count;
    volatile uint32_t current;
    uint16_t cs, ss;        /* the runner's selectors */
    uint32_t fsgsbase;      /* RDFSBASE and friends work */
    uint8_t image[IMAGE_SIZE] __attribute__((aligned(64)));
    struct case_in in[BATCH];
    struct case_out out[BATCH];
};

#endif
