/* soft/system.h: what segment.c and system.c share. */
#ifndef CC_SOFT_SYSTEM_H
#define CC_SOFT_SYSTEM_H

#include "exec.h"

cc_opfn cc_segment_select(const cc_dec *d, cc_op *op);
/* Continue at pc after a change of privilege or flags: through the run loop if an interrupt or trap may be due. */
const cc_op *cc_transfer(cc_cpu *cpu, uint64_t pc, int64_t budget);
/* Interrupts are held off for one instruction (STI: 1, MOV SS: 2). */
void cc_begin_shadow(cc_cpu *cpu, const cc_op *op, int64_t budget, unsigned kind);
/* Would the run loop deliver something at the next boundary? */
bool cc_interrupt_due(const cc_cpu *cpu);

#endif
