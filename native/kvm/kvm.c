/*
 * kvm/kvm.c: the KVM vCPU: the device, its construction, and the guest's RAM with KVM's dirty log.
 *
 * KVM runs the guest's instructions and nothing else: no interrupt controller or timer in the kernel, so that every
 * device access comes to the same models as the soft vCPU's.  Virtual time passes at exits (CC_KVM_EXIT_INSNS), so a
 * run is the same every time at its exits.  The TSC cannot be trapped: CPUID does not offer it.
 */
#include "kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define KVM_DEVICE "/dev/kvm"
#define USE_SOFT "; use --vcpu soft"

static const struct { int cap; const char *name; } caps_needed[] = {
    {KVM_CAP_USER_MEMORY, "user memory"},       {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    {KVM_CAP_VCPU_EVENTS, "vCPU events"},       {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_XSAVE, "XSAVE"},                   {KVM_CAP_EXT_CPUID, "CPUID"},
};

/* ---- the device --------------------------------------------------------------------------------------------------- */
static const char *open_hint(int err)
{
    switch (err) {
    case ENOENT: return "there is no such device: load the kvm module or turn on (nested) virtualisation" USE_SOFT;
    case EACCES:
    case EPERM: return "no permission: join the group that owns it" USE_SOFT;
    default: return NULL;
    }
}

/* The device's descriptor, or -1 with one line in msg. */
static int open_device(const char *device, char *msg, size_t size)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        const char *hint = open_hint(errno);
        snprintf(msg, size, "%s: %s%s", device, hint ? hint : strerror(errno), hint ? "" : USE_SOFT);
        return -1;
    }
    int version = ioctl(fd, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) {
        snprintf(msg, size, "%s: it is not a KVM device of API version %d" USE_SOFT, device, KVM_API_VERSION);
        close(fd);
        return -1;
    }
    for (size_t i = 0; i < sizeof caps_needed / sizeof *caps_needed; i++) {
        if (ioctl(fd, KVM_CHECK_EXTENSION, caps_needed[i].cap) > 0)
            continue;
        snprintf(msg, size, "%s: this host's KVM lacks %s (capability %d)" USE_SOFT, device, caps_needed[i].name,
                 caps_needed[i].cap);
        close(fd);
        return -1;
    }
    return fd;
}

/* A virtual machine's descriptor, or -1 with one line in msg. */
static int open_vm(int device, char *msg, size_t size)
{
    int fd;
    do
        fd = ioctl(device, KVM_CREATE_VM, 0);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        snprintf(msg, size, KVM_DEVICE ": the host refused a virtual machine: %s" USE_SOFT, strerror(errno));
    return fd;
}

int cc_kvm_probe(const char *device, char *msg, size_t msg_size)
{
    if (msg_size)
        *msg = 0;
    int fd = open_device(device ? device : KVM_DEVICE, msg, msg_size);
    if (fd < 0)
        return CC_ENOTSUP;
    int vm = open_vm(fd, msg, msg_size);
    close(fd);
    if (vm < 0)
        return CC_ENOTSUP;
    close(vm);
    return CC_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */
static int set_slot(cc_machine *m, uint64_t bytes)
{
    struct cc_kvm *v = m->vcpu;
    struct kvm_userspace_memory_region region = {
        .slot = 0,
        .flags = bytes ? KVM_MEM_LOG_DIRTY_PAGES : 0,
        .guest_phys_addr = 0,
        .memory_size = bytes,
        .userspace_addr = (uint64_t)(uintptr_t)m->ram,
    };
    if (ioctl(v->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return cc_fail(m, CC_EHOST, "this host's KVM refused the machine's memory: %s", strerror(errno));
    v->slot_live = bytes != 0;
    return CC_OK;
}

/* Reading the log clears it and protects the pages again, so protect_writes has nothing to add. */
static void kvm_sync_dirty(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    if (!v->ran || !v->slot_live)
        return;
    const uint64_t pages = m->cfg.ram_bytes >> CC_PAGE_SHIFT, words = (pages + 63) / 64;
    struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = v->dirty_log};
    if (ioctl(v->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0)
        memset(v->dirty_log, 0xFF, words * 8);          /* unknown: too many is right, too few is not */
    for (uint64_t w = 0; w < words; w++) {
        for (uint64_t bits = v->dirty_log[w]; bits; bits &= bits - 1) {
            uint64_t page = w * 64 + (unsigned)__builtin_ctzll(bits);
            if (page < pages)
                cc_page_dirty(m, page);
        }
    }
    v->ran = false;
}

static void kvm_protect_writes(cc_machine *m)
{
    (void)m;
}

/* Every page counts as watched (kvm_create).  A KVM with shadow paging does not notice that the host writes a page
 * table of the guest, and with nested paging the processor's TLB may hold translations of before. */
static void kvm_page_changed(cc_machine *m, uint64_t page)
{
    (void)page;
    ((struct cc_kvm *)m->vcpu)->slot_stale = true;
}

/* Removing the slot makes KVM forget every translation. */
int cc_kvm_prepare_memory(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    if (v->slot_live && v->slot_stale) {
        kvm_sync_dirty(m);                              /* the log goes with the slot */
        int rc = set_slot(m, 0);
        if (rc)
            return rc;
    }
    v->slot_stale = false;
    return v->slot_live ? CC_OK : set_slot(m, m->cfg.ram_bytes);
}

/* Page tables: SDM volume 3, section 4.5. */
#define PTE_P 1u
#define PTE_PS 0x80u
#define PTE_ADDR UINT64_C(0x000FFFFFFFFFF000)

/* KVM_TRANSLATE would set accessed bits. */
static int kvm_translate(cc_machine *m, uint64_t va, uint64_t *gpa)
{
    const struct cc_kvm *v = m->vcpu;
    struct kvm_sregs s;
    if ((uint64_t)((int64_t)(va << 16) >> 16) != va || ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
        return CC_EFAULT;
    uint64_t table = s.cr3 & PTE_ADDR;
    for (unsigned level = 3;; level--) {
        uint64_t at = table + (va >> (12 + 9 * level) & 511) * 8, entry;
        if (!cc_in_ram(m, at, 8))
            return CC_EFAULT;
        memcpy(&entry, m->ram + at, 8);
        if (!(entry & PTE_P))
            return CC_EFAULT;
        if (level == 0 || (level < 3 && (entry & PTE_PS))) {
            uint64_t span = UINT64_C(1) << (12 + 9 * level);
            *gpa = (entry & PTE_ADDR & ~(span - 1)) | (va & (span - 1));
            return CC_OK;
        }
        table = entry & PTE_ADDR;
    }
}

/* ---- the CPU that the guest sees ---------------------------------------------------------------------------------- */
#define CPUID_1_EDX_TSC (1u << 4)

/* The profile, less the time stamp counter, which no guest may read since it is the host's. */
static void cpuid_entry(const cc_machine *m, struct kvm_cpuid_entry2 *e, uint32_t leaf, uint32_t subleaf, bool indexed)
{
    uint32_t o[4];
    cc_cpuid(m->cfg.tsc_khz, leaf, subleaf, o);
    if (leaf == 1)
        o[3] &= ~CPUID_1_EDX_TSC;
    if (leaf == 0x15 || leaf == 0x16 || leaf == 0x80000007)
        memset(o, 0, sizeof o);
    e->function = leaf;
    e->index = subleaf;
    e->flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    e->eax = o[0], e->ebx = o[1], e->ecx = o[2], e->edx = o[3];
}

static int set_cpuid(cc_machine *m)
{
    static const struct { uint32_t leaf, subleaf; bool indexed; } leaves[] = {
        {0, 0, false},          {1, 0, false},          {2, 0, false},          {4, 0, true},
        {4, 1, true},           {4, 2, true},           {4, 3, true},           {7, 0, true},
        {0x15, 0, false},       {0x16, 0, false},       {0x80000000, 0, false}, {0x80000001, 0, false},
        {0x80000002, 0, false}, {0x80000003, 0, false}, {0x80000004, 0, false}, {0x80000005, 0, false},
        {0x80000006, 0, false}, {0x80000007, 0, false}, {0x80000008, 0, false},
    };
    enum { COUNT = sizeof leaves / sizeof *leaves };
    union {
        struct kvm_cpuid2 list;
        uint8_t room[sizeof(struct kvm_cpuid2) + COUNT * sizeof(struct kvm_cpuid_entry2)];
    } c;
    memset(&c, 0, sizeof c);
    c.list.nent = COUNT;
    for (unsigned i = 0; i < COUNT; i++)
        cpuid_entry(m, &c.list.entries[i], leaves[i].leaf, leaves[i].subleaf, leaves[i].indexed);
    const struct cc_kvm *v = m->vcpu;
    if (ioctl(v->fd, KVM_SET_CPUID2, &c.list) < 0)
        return cc_fail(m, CC_ENOTSUP, "this host's KVM refused CPU profile %u: %s" USE_SOFT, m->cfg.cpu_profile,
                       strerror(errno));
    return CC_OK;
}

/* ---- construction ------------------------------------------------------------------------------------------------- */
static void kvm_destroy(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    if (!v)
        return;
    cc_kvm_timer_free(v);
    if (v->run)
        munmap(v->run, v->run_size);
    if (v->fd >= 0)
        close(v->fd);
    if (v->vm_fd >= 0)
        close(v->vm_fd);
    free(v->dirty_log);
    free(v);
    m->vcpu = NULL;
}

static int open_vcpu(cc_machine *m, int device)
{
    struct cc_kvm *v = m->vcpu;
    int size = ioctl(device, KVM_GET_VCPU_MMAP_SIZE, 0);
    v->fd = ioctl(v->vm_fd, KVM_CREATE_VCPU, 0);
    if (v->fd < 0 || size < (int)sizeof *v->run)
        return cc_fail(m, CC_ENOTSUP, KVM_DEVICE ": the host refused a vCPU: %s" USE_SOFT, strerror(errno));
    void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (run == MAP_FAILED)
        return cc_fail(m, CC_EHOST, KVM_DEVICE ": the host refused to map a vCPU: %s", strerror(errno));
    v->run = run;
    v->run_size = (size_t)size;
    int rc = set_cpuid(m);
    return rc ? rc : cc_kvm_regs_init(m);
}

static int build(cc_machine *m)
{
    struct cc_kvm *v = m->vcpu;
    v->dirty_log = calloc((m->npages + 63) / 64, sizeof *v->dirty_log);
    if (!v->dirty_log)
        return cc_fail(m, CC_ENOMEM, "no memory for the dirty log");
    int device = open_device(KVM_DEVICE, m->error, sizeof m->error);
    if (device < 0)
        return CC_ENOTSUP;
    v->vm_fd = open_vm(device, m->error, sizeof m->error);
    int rc = v->vm_fd < 0 ? CC_ENOTSUP : open_vcpu(m, device);
    close(device);
    return rc;
}

static int kvm_create(cc_machine *m)
{
    struct cc_kvm *v = calloc(1, sizeof *v);
    if (!v)
        return cc_fail(m, CC_ENOMEM, "no memory for the kvm vCPU");
    v->fd = v->vm_fd = -1;
    m->vcpu = v;
    int rc = build(m);
    if (rc) {
        kvm_destroy(m);
        return rc;
    }
    for (uint64_t page = 0; page < m->cfg.ram_bytes >> CC_PAGE_SHIFT; page++)
        m->page_flags[page] |= CC_PF_TABLE;             /* for kvm_page_changed() */
    return CC_OK;
}

static bool kvm_halted(cc_machine *m)
{
    return ((struct cc_kvm *)m->vcpu)->halted;
}

static bool kvm_interruptible(cc_machine *m)
{
    struct kvm_regs r;
    return ioctl(((struct cc_kvm *)m->vcpu)->fd, KVM_GET_REGS, &r) == 0 && (r.rflags & 0x200u);
}

/* It has neither a software TLB nor decoded code. */
static int kvm_set_cache_sizes(cc_machine *m, uint32_t tlb_bits, uint32_t code_cache_kib)
{
    (void)m;
    (void)tlb_bits;
    (void)code_cache_kib;
    return CC_OK;
}

const struct cc_vcpu_ops cc_kvm_vcpu = {
    .name = "kvm",
    .create = kvm_create,
    .destroy = kvm_destroy,
    .run = cc_kvm_run,
    .get_regs = cc_kvm_get_regs,
    .set_regs = cc_kvm_set_regs,
    .halted = kvm_halted,
    .interruptible = kvm_interruptible,
    .protect_writes = kvm_protect_writes,
    .sync_dirty = kvm_sync_dirty,
    .page_changed = kvm_page_changed,
    .set_cache_sizes = kvm_set_cache_sizes,
    .translate = kvm_translate,
};
