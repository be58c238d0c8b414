/* kvm/kvm.h: what the files of the KVM vCPU share.  Interface: Linux, Documentation/virt/kvm/api.rst. */
#ifndef CC_KVM_KVM_H
#define CC_KVM_KVM_H

#include "../machine.h"

#include <linux/kvm.h>
#include <sys/types.h>
#include <time.h>

#define CC_KVM_MSRS 11u

struct cc_kvm {
    int vm_fd, fd;                 /* -1: not open */
    struct kvm_run *run;           /* shared with the kernel */
    size_t run_size;

    /* memory: kvm.c */
    uint64_t *dirty_log;           /* one bit per page */
    bool slot_live;                /* KVM knows the RAM */
    bool slot_stale;               /* the host wrote RAM that KVM may have cached translations of */
    bool ran;                      /* since the dirty log was last read */

    /* The part of cc_regs that KVM does not hold. */
    uint8_t halted;
    uint8_t nmi_pending;           /* set by the host, not yet handed to KVM */
    int64_t tsc_offset;
    uint64_t msr[CC_KVM_MSRS];     /* values of those that this KVM does not have */
    bool msr_missing[CC_KVM_MSRS];

    /* KVM_RUN has to be entered before the registers are complete and kvm_run's flags say what is the case. */
    bool incomplete;
    bool failed;                   /* registers could not be read; cc_error() says why */

    timer_t timer;                 /* kvm_run.c: interrupts KVM_RUN to look for a cancel */
    pid_t timer_tid;               /* the thread it interrupts; 0: there is none */
};

/* kvm.c: make the RAM known to KVM as it is now. */
int cc_kvm_prepare_memory(cc_machine *m);

/* kvm_regs.c */
int cc_kvm_regs_init(cc_machine *m);
void cc_kvm_get_regs(cc_machine *m, cc_regs *r);
int cc_kvm_set_regs(cc_machine *m, const cc_regs *r);

/* kvm_run.c */
int cc_kvm_run(cc_machine *m, uint64_t horizon);
void cc_kvm_timer_free(struct cc_kvm *v);

#endif
