/*
 * soft/x87.c: the x87 opcode map (SDM vol. 2, appendix A.5), the report of pending exceptions, and the way into MMX.
 */
#include "x87.h"

#define H(name) cc_x87_##name

/* Memory forms, by opcode D8..DF and ModRM.reg. */
static const cc_opfn memory_form[8][8] = {
    /* D8 */ {H(add_f32), H(mul_f32), H(com_f32), H(comp_f32), H(sub_f32), H(subr_f32), H(div_f32), H(divr_f32)},
    /* D9 */ {H(ld_f32), NULL, H(st_f32), H(stp_f32), H(ldenv), H(ldcw), H(stenv), H(stcw)},
    /* DA */ {H(add_i32), H(mul_i32), H(com_i32), H(comp_i32), H(sub_i32), H(subr_i32), H(div_i32), H(divr_i32)},
    /* DB */ {H(ild_32), H(isttp_32), H(ist_32), H(istp_32), NULL, H(ld_f80), NULL, H(stp_f80)},
    /* DC */ {H(add_f64), H(mul_f64), H(com_f64), H(comp_f64), H(sub_f64), H(subr_f64), H(div_f64), H(divr_f64)},
    /* DD */ {H(ld_f64), H(isttp_64), H(st_f64), H(stp_f64), H(rstor), NULL, H(save), H(stsw_mem)},
    /* DE */ {H(add_i16), H(mul_i16), H(com_i16), H(comp_i16), H(sub_i16), H(subr_i16), H(div_i16), H(divr_i16)},
    /* DF */ {H(ild_16), H(isttp_16), H(ist_16), H(istp_16), H(bld), H(ild_64), H(bstp), H(istp_64)},
};

/*
 * Register forms that take ST(i).  Rows without one are in register_row below.  Undocumented but executed by every
 * processor, as aliases: DC D0 FCOM, DC D8 FCOMP, DE D0 FCOMP, DD C8 and DF C8 FXCH, D9 D8 (FSTP that never underflows,
 * see stpnce), DF D0 and DF D8 FSTP, DF C0 FFREEP.
 */
static const cc_opfn register_form[8][8] = {
    /* D8 */ {H(add_st0), H(mul_st0), H(com), H(comp), H(sub_st0), H(subr_st0), H(div_st0), H(divr_st0)},
    /* D9 */ {H(ld_st), H(xch), NULL, H(stpnce), NULL, NULL, NULL, NULL},
    /* DA */ {H(cmov), H(cmov), H(cmov), H(cmov), NULL, NULL, NULL, NULL},
    /* DB */ {H(cmov), H(cmov), H(cmov), H(cmov), NULL, H(ucomi), H(comi), NULL},
    /* DC */ {H(add_sti), H(mul_sti), H(com), H(comp), H(subr_sti), H(sub_sti), H(divr_sti), H(div_sti)},
    /* DD */ {H(free), H(xch), H(st_st), H(stp_st), H(ucom), H(ucomp), NULL, NULL},
    /* DE */ {H(add_stip), H(mul_stip), H(comp), NULL, H(subr_stip), H(sub_stip), H(divr_stip), H(div_stip)},
    /* DF */ {H(freep), H(xch), H(stp_st), H(stp_st), NULL, H(ucomip), H(comip), NULL},
};

/* Register forms without an operand, by ModRM.rm. */
static const struct { uint8_t opcode, reg; cc_opfn fn[8]; } register_row[] = {
    {0xd9, 2, {H(nop)}},
    {0xd9, 4, {H(chs), H(abs), NULL, NULL, H(tst), H(xam)}},
    {0xd9, 5, {H(ld1), H(ldl2t), H(ldl2e), H(ldpi), H(ldlg2), H(ldln2), H(ldz)}},
    {0xd9, 6, {H(f2xm1), H(yl2x), H(ptan), H(patan), H(xtract), H(prem1), H(decstp), H(incstp)}},
    {0xd9, 7, {H(prem), H(yl2xp1), H(sqrt), H(sincos), H(rndint), H(scale), H(sin), H(cos)}},
    {0xda, 5, {NULL, H(ucompp)}},
    {0xdb, 4, {H(nop_control), H(nop_control), H(clex), H(init), H(nop_control)}},
    {0xde, 3, {NULL, H(compp)}},
    {0xdf, 4, {H(stsw_ax)}},
};

static cc_opfn select_register(const cc_dec *d)
{
    for (unsigned i = 0; i < sizeof register_row / sizeof register_row[0]; i++)
        if (register_row[i].opcode == d->opcode && register_row[i].reg == d->reg)
            return register_row[i].fn[d->rm];
    return register_form[d->opcode & 7][d->reg];
}

/* A 66 prefix selects the 16-bit image; REX.W overrides it. */
static cc_opfn select_memory(const cc_dec *d)
{
    if (d->opsize && !d->rexw) {
        if (d->opcode == 0xd9 && (d->reg == 4 || d->reg == 6))
            return d->reg == 4 ? H(ldenv_16) : H(stenv_16);
        if (d->opcode == 0xdd && (d->reg == 4 || d->reg == 6))
            return d->reg == 4 ? H(rstor_16) : H(save_16);
    }
    return memory_form[d->opcode & 7][d->reg];
}

cc_opfn cc_x87_select(const cc_dec *d, cc_op *op)
{
    if (d->lock)
        return NULL;
    if (d->map == 0 && d->opcode == 0x9b)
        return H(wait);
    if (d->map == 1 && d->opcode == 0xae) {
        /* 66, F2 and F3 make the encoding another instruction's or nobody's */
        if (!d->mem || d->reg > 1 || d->opsize || d->rep)
            return NULL;
        if (d->reg == 0)
            return d->rexw ? H(fxsave64) : H(fxsave);
        return d->rexw ? H(fxrstor64) : H(fxrstor);
    }
    if (d->map != 0 || d->opcode < 0xd8 || d->opcode > 0xdf)
        return NULL;
    op->imm = (d->opcode & 7) << 8 | d->modrm;
    if (d->mem)
        return select_memory(d);
    op->b = d->rm;      /* REX.B does not reach ST(i) */
    if (d->opcode == 0xda || d->opcode == 0xdb)
        op->x = (uint8_t)((d->reg & 3) | (d->opcode == 0xdb ? 4 : 0));      /* FCMOVcc's condition */
    return select_register(d);
}

CC_OP(cc_x87_pending)
{
    cc_raise(cpu, EXC_MF);
    return cc_op_fault(cpu, op, budget);
}

bool cc_mmx_enter(cc_cpu *cpu)
{
    if (cpu->cr0 & CR0_EM) {
        cc_raise(cpu, EXC_UD);
        return false;
    }
    if (cpu->cr0 & CR0_TS) {
        cc_raise(cpu, EXC_NM);
        return false;
    }
    if (cpu->fpu.fsw & X87_ES) {
        cc_raise(cpu, EXC_MF);
        return false;
    }
    cpu->fpu.top = 0;
    cpu->fpu.empty = 0;
    return true;
}
