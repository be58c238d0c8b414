/*
 * x87_forms.h: every encoding that test_x87.c runs: all register and memory forms of D8..DF, FWAIT, some with prefixes;
 * with its name, the size of its memory operand and what kind of instruction it is.
 */
#ifndef CC_X87_FORMS_H
#define CC_X87_FORMS_H

#include "x87_soft.h"

typedef struct form {
    uint8_t bytes[8], len;
    cc_dec d;
    cc_op op;
    snippet s;
    const char *name;
    unsigned operand;       /* bytes of memory */
    bool integer, load;
    uint64_t cases, value_differs;
} form;

static const char *const memory_names[8][8] = {
    {"FADD m32", "FMUL m32", "FCOM m32", "FCOMP m32", "FSUB m32", "FSUBR m32", "FDIV m32", "FDIVR m32"},
    {"FLD m32", "", "FST m32", "FSTP m32", "FLDENV", "FLDCW", "FNSTENV", "FNSTCW"},
    {"FIADD m32", "FIMUL m32", "FICOM m32", "FICOMP m32", "FISUB m32", "FISUBR m32", "FIDIV m32", "FIDIVR m32"},
    {"FILD m32", "FISTTP m32", "FIST m32", "FISTP m32", "", "FLD m80", "", "FSTP m80"},
    {"FADD m64", "FMUL m64", "FCOM m64", "FCOMP m64", "FSUB m64", "FSUBR m64", "FDIV m64", "FDIVR m64"},
    {"FLD m64", "FISTTP m64", "FST m64", "FSTP m64", "FRSTOR", "", "FNSAVE", "FNSTSW m16"},
    {"FIADD m16", "FIMUL m16", "FICOM m16", "FICOMP m16", "FISUB m16", "FISUBR m16", "FIDIV m16", "FIDIVR m16"},
    {"FILD m16", "FISTTP m16", "FIST m16", "FISTP m16", "FBLD", "FILD m64", "FBSTP", "FISTP m64"},
};
static const uint8_t memory_bytes[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4}, {4, 0, 4, 4, 28, 2, 28, 2}, {4, 4, 4, 4, 4, 4, 4, 4}, {4, 4, 4, 4, 0, 10, 0, 10},
    {8, 8, 8, 8, 8, 8, 8, 8}, {8, 8, 8, 8, 108, 0, 108, 2}, {2, 2, 2, 2, 2, 2, 2, 2}, {2, 2, 2, 2, 10, 8, 10, 8},
};
static const char *const sti_names[8][8] = {
    {"FADD ST0,STi", "FMUL ST0,STi", "FCOM STi", "FCOMP STi", "FSUB ST0,STi", "FSUBR ST0,STi", "FDIV ST0,STi",
     "FDIVR ST0,STi"},
    {"FLD STi", "FXCH", NULL, "FSTPNCE (D9 D8)", NULL, NULL, NULL, NULL},
    {"FCMOVB", "FCMOVE", "FCMOVBE", "FCMOVU", NULL, NULL, NULL, NULL},
    {"FCMOVNB", "FCMOVNE", "FCMOVNBE", "FCMOVNU", NULL, "FUCOMI", "FCOMI", NULL},
    {"FADD STi,ST0", "FMUL STi,ST0", "FCOM (DC D0)", "FCOMP (DC D8)", "FSUBR STi,ST0", "FSUB STi,ST0",
     "FDIVR STi,ST0", "FDIV STi,ST0"},
    {"FFREE", "FXCH (DD C8)", "FST STi", "FSTP STi", "FUCOM", "FUCOMP", NULL, NULL},
    {"FADDP", "FMULP", "FCOMP (DE D0)", NULL, "FSUBRP", "FSUBP", "FDIVRP", "FDIVP"},
    {"FFREEP (DF C0)", "FXCH (DF C8)", "FSTP (DF D0)", "FSTP (DF D8)", NULL, "FUCOMIP", "FCOMIP", NULL},
};
static const struct { uint8_t opcode, modrm; const char *name; } fixed_names[] = {
    {0xd9, 0xd0, "FNOP"}, {0xd9, 0xe0, "FCHS"}, {0xd9, 0xe1, "FABS"}, {0xd9, 0xe4, "FTST"}, {0xd9, 0xe5, "FXAM"},
    {0xd9, 0xe8, "FLD1"}, {0xd9, 0xe9, "FLDL2T"}, {0xd9, 0xea, "FLDL2E"}, {0xd9, 0xeb, "FLDPI"},
    {0xd9, 0xec, "FLDLG2"}, {0xd9, 0xed, "FLDLN2"}, {0xd9, 0xee, "FLDZ"}, {0xd9, 0xf0, "F2XM1"},
    {0xd9, 0xf1, "FYL2X"}, {0xd9, 0xf2, "FPTAN"}, {0xd9, 0xf3, "FPATAN"}, {0xd9, 0xf4, "FXTRACT"},
    {0xd9, 0xf5, "FPREM1"}, {0xd9, 0xf6, "FDECSTP"}, {0xd9, 0xf7, "FINCSTP"}, {0xd9, 0xf8, "FPREM"},
    {0xd9, 0xf9, "FYL2XP1"}, {0xd9, 0xfa, "FSQRT"}, {0xd9, 0xfb, "FSINCOS"}, {0xd9, 0xfc, "FRNDINT"},
    {0xd9, 0xfd, "FSCALE"}, {0xd9, 0xfe, "FSIN"}, {0xd9, 0xff, "FCOS"}, {0xda, 0xe9, "FUCOMPP"},
    {0xdb, 0xe0, "FNENI"}, {0xdb, 0xe1, "FNDISI"}, {0xdb, 0xe2, "FNCLEX"}, {0xdb, 0xe3, "FNINIT"},
    {0xdb, 0xe4, "FNSETPM"}, {0xde, 0xd9, "FCOMPP"}, {0xdf, 0xe0, "FNSTSW AX"},
};

enum { FORMS_MAX = 700 };
static form forms[FORMS_MAX];
static unsigned form_count;

static inline bool is_state(const form *f)
{
    return f->d.map == 0 && f->d.mem && f->operand >= 14;
}

static inline bool is_trans(const form *f)
{
    uint8_t m = f->d.modrm;
    return !f->d.mem && f->d.opcode == 0xd9 && ((m >= 0xf0 && m <= 0xf3) || m == 0xf9 || m == 0xfb || m >= 0xfe);
}

/* Control instructions (SDM vol. 1, 8.1.8) leave the pointers alone. */
static inline bool is_control(const form *f)
{
    uint8_t o = f->d.opcode, m = f->d.modrm;
    if (f->d.mem)
        return (o == 0xd9 && f->d.reg >= 4) || (o == 0xdd && (f->d.reg == 4 || f->d.reg >= 6));
    return o == 0x9b || (o == 0xdb && m >= 0xe0 && m <= 0xe4) || (o == 0xdf && m == 0xe0);
}

/* prefix: 0, 66, REX or F3 */
static inline void add_form(uint8_t prefix, uint8_t prefix2, uint8_t opcode, bool has_modrm, uint8_t modrm)
{
    form *f = &forms[form_count];
    CHECK(form_count < FORMS_MAX);
    memset(f, 0, sizeof *f);
    if (prefix)
        f->bytes[f->len++] = prefix;
    if (prefix2)
        f->bytes[f->len++] = prefix2;
    f->bytes[f->len++] = opcode;
    if (has_modrm)
        f->bytes[f->len++] = modrm;
    uint8_t rex = (prefix & 0xf0) == 0x40 ? prefix : (prefix2 & 0xf0) == 0x40 ? prefix2 : 0;
    f->d = (cc_dec){.opcode = opcode, .modrm = modrm, .reg = modrm >> 3 & 7, .rm = modrm & 7, .rex = rex,
                    .rexw = rex & 8, .opsize = prefix == 0x66, .mem = has_modrm && modrm < 0xc0,
                    .rep = prefix == 0xf3 ? 0xf3 : 0,
                    .opbytes = rex & 8 ? 8 : prefix == 0x66 ? 2 : 4};
    f->op = (cc_op){.r = f->d.reg, .b = f->d.mem ? CC_RDX : (uint8_t)(f->d.rm | (rex & 1) << 3), .x = CC_R_ZERO,
                    .len = f->len, .rem = 1};
    f->op.fn = cc_x87_select(&f->d, &f->op);
    f->s = native_snippet(f->bytes, f->len);
    f->op.off = (uintptr_t)f->s.insn & (PAGE - 1);
    unsigned row = opcode & 7;
    f->name = "";
    if (!has_modrm) {
        f->name = "FWAIT";
    } else if (f->d.mem) {
        f->name = memory_names[row][f->d.reg];
        f->operand = memory_bytes[row][f->d.reg];
        if (f->operand >= 28 && f->d.opsize && !f->d.rexw)
            f->operand -= 14;
        f->integer = row == 2 || row >= 6 || (row == 3 && f->d.reg < 4) || (row == 5 && f->d.reg == 1);
    } else {
        if (sti_names[row][f->d.reg])
            f->name = sti_names[row][f->d.reg];
        for (unsigned i = 0; i < sizeof fixed_names / sizeof fixed_names[0]; i++)
            if (fixed_names[i].opcode == opcode && fixed_names[i].modrm == modrm)
                f->name = fixed_names[i].name;
    }
    CHECK((f->op.fn != NULL) == (*f->name != 0));
    form_count++;
}

static inline void make_forms(void)
{
    add_form(0, 0, 0x9b, false, 0);
    for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++) {
        for (unsigned reg = 0; reg < 8; reg++)
            add_form(0, 0, (uint8_t)opcode, true, (uint8_t)(reg << 3 | 2));       /* [rdx] */
        for (unsigned modrm = 0xc0; modrm < 0x100; modrm++)
            add_form(0, 0, (uint8_t)opcode, true, (uint8_t)modrm);
    }
    static const uint8_t env[4][2] = {{0xd9, 0x22}, {0xd9, 0x32}, {0xdd, 0x22}, {0xdd, 0x32}};
    for (unsigned i = 0; i < 4; i++) {
        add_form(0x66, 0, env[i][0], true, env[i][1]);
        add_form(0x48, 0, env[i][0], true, env[i][1]);
        add_form(0x66, 0x48, env[i][0], true, env[i][1]);
    }
    static const uint8_t prefixes[4] = {0x66, 0x41, 0x48, 0xf3};
    for (unsigned i = 0; i < 4; i++) {
        add_form(prefixes[i], 0, 0xd8, true, 0xc3);
        add_form(prefixes[i], 0, 0xdc, true, 0xf6);
        add_form(prefixes[i], 0, 0xdf, true, 0xe0);
        if (prefixes[i] != 0x41)
            add_form(prefixes[i], 0, 0xdd, true, 0x1a);
    }
}

#endif
