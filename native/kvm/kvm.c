/* kvm/kvm.c: the KVM vCPU (being written). */
#include "../machine.h"

static int kvm_create(cc_machine *m) { return cc_fail(m, CC_ENOTSUP, "the kvm vCPU is not available in this build; use --vcpu soft"); }
static void kvm_destroy(cc_machine *m) { (void)m; }

const struct cc_vcpu_ops cc_kvm_vcpu = {.name = "kvm", .create = kvm_create, .destroy = kvm_destroy};

int cc_kvm_probe(char *msg, size_t msg_size)
{
    static const char text[] = "the kvm vCPU is not available in this build";
    size_t n = sizeof text < msg_size ? sizeof text : msg_size;
    if (n) {
        memcpy(msg, text, n);
        msg[n - 1] = 0;
    }
    return CC_ENOTSUP;
}
