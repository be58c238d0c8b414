/*
 * machine.c: a machine's life, its memory as the host sees it, and accessors.  Owns the RAM mapping and the page
 * flags; snapshots and digests are in pages.c, the run loop in run.c, the start state in boot.c.
 */
#include "console.h"
#include "devices/devices.h"
#include "watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define MIB (UINT64_C(1) << 20)
#define RAM_BYTES_MIN MIB
#define RAM_BYTES_MAX (3072 * MIB)             /* the devices' MMIO windows start at 0xD0000000 */
#define NS_PER_INSN_MAX UINT64_C(1000000)
#define TSC_KHZ_MIN UINT64_C(1000)
#define TSC_KHZ_MAX UINT64_C(10000000)
#define RTC_EPOCH_S_MAX INT64_C(4102444799)    /* 2099-12-31 23:59:59: the clock chip's year has two digits */
#define TLB_BITS_MIN 4u
#define TLB_BITS_MAX 12u
#define CODE_CACHE_KIB_MIN 64u
#define CODE_CACHE_KIB_MAX (1u << 20)
#define CPU_PROFILE_NEWEST 1u
#define DISK_BYTES_MAX (UINT64_C(64) << 30)

const char *cc_version(void)
{
    return "0.1.0";
}

/* ---- diagnostics --------------------------------------------------------------------------------------------- */
int cc_fail(cc_machine *m, int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->error, sizeof m->error, fmt, ap);
    va_end(ap);
    return code;
}

const char *cc_error(const cc_machine *m)
{
    return m->error;
}

/* ---- configuration ------------------------------------------------------------------------------------------- */
void cc_config_default(cc_config *c)
{
    memset(c, 0, sizeof *c);
    c->ram_bytes = 256 * MIB;
    c->ns_per_insn = 1;
    c->tsc_khz = 1000000;
    c->rtc_epoch_s = 1735689600;    /* 2025-01-01 00:00:00 UTC */
    c->cpu_profile = CPU_PROFILE_NEWEST;
    c->vcpu = CC_VCPU_SOFT;
    c->tlb_bits = 10;
    c->code_cache_kib = 16384;
}

__attribute__((format(printf, 3, 4)))
static int reject(char *err, size_t err_size, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (err_size)
        vsnprintf(err, err_size, fmt, ap);
    va_end(ap);
    return CC_EINVAL;
}

static int check_config(const cc_config *c, char *err, size_t n)
{
    if (c->ram_bytes % CC_PAGE_SIZE || c->ram_bytes < RAM_BYTES_MIN || c->ram_bytes > RAM_BYTES_MAX)
        return reject(err, n, "memory of %llu bytes: must be a multiple of 4 KiB from 1 MiB to 3 GiB",
                      (unsigned long long)c->ram_bytes);
    if (c->ns_per_insn < 1 || c->ns_per_insn > NS_PER_INSN_MAX)
        return reject(err, n, "%llu ns per instruction: must be 1 to %llu",
                      (unsigned long long)c->ns_per_insn, (unsigned long long)NS_PER_INSN_MAX);
    if (c->tsc_khz < TSC_KHZ_MIN || c->tsc_khz > TSC_KHZ_MAX)
        return reject(err, n, "TSC of %llu kHz: must be %llu to %llu", (unsigned long long)c->tsc_khz,
                      (unsigned long long)TSC_KHZ_MIN, (unsigned long long)TSC_KHZ_MAX);
    if (c->rtc_epoch_s < 0 || c->rtc_epoch_s > RTC_EPOCH_S_MAX)
        return reject(err, n, "clock start of %lld s: must be within 1970 to 2099, as Unix seconds",
                      (long long)c->rtc_epoch_s);
    if (c->cpu_profile < 1 || c->cpu_profile > CPU_PROFILE_NEWEST)
        return reject(err, n, "CPU profile %u: this build knows 1 to %u", c->cpu_profile, CPU_PROFILE_NEWEST);
    if (c->vcpu != CC_VCPU_SOFT && c->vcpu != CC_VCPU_KVM)
        return reject(err, n, "vCPU kind %u: must be %d (soft) or %d (kvm)", c->vcpu, CC_VCPU_SOFT, CC_VCPU_KVM);
    if (c->tlb_bits < TLB_BITS_MIN || c->tlb_bits > TLB_BITS_MAX)
        return reject(err, n, "TLB of 2^%u entries: the exponent must be %u to %u", c->tlb_bits, TLB_BITS_MIN,
                      TLB_BITS_MAX);
    if (c->code_cache_kib < CODE_CACHE_KIB_MIN || c->code_cache_kib > CODE_CACHE_KIB_MAX)
        return reject(err, n, "code cache of %u KiB: must be %u to %u", c->code_cache_kib, CODE_CACHE_KIB_MIN,
                      CODE_CACHE_KIB_MAX);
    if (c->devices & ~(uint32_t)CC_DEV_ALL)
        return reject(err, n, "devices 0x%x: only 0x%x are known", c->devices, CC_DEV_ALL);
    if (c->disk_bytes % CC_PAGE_SIZE || c->disk_bytes > DISK_BYTES_MAX)
        return reject(err, n, "a disk of %llu bytes: must be a multiple of 4 KiB up to %llu GiB",
                      (unsigned long long)c->disk_bytes, (unsigned long long)(DISK_BYTES_MAX >> 30));
    if (!c->disk_bytes != !(c->devices & CC_DEV_BLK))
        return reject(err, n, "a disk needs both a size and the block device, or neither");
    if (c->flags & ~(uint32_t)CC_CFG_NO_FUSE)
        return reject(err, n, "configuration flags 0x%x: only 0x%x is known", c->flags, CC_CFG_NO_FUSE);
    return CC_OK;
}

/* ---- life ------------------------------------------------------------------------------------------------------ */
/* RAM, then the aux areas; returns the size of all. */
static uint64_t lay_out(cc_machine *m)
{
    const uint64_t size[CC_AUX_COUNT] = {
        [CC_AUX_PROPS] = CC_AUX_PROPS_BYTES,
        [CC_AUX_NET] = m->cfg.devices & CC_DEV_NET ? CC_AUX_NET_BYTES : 0,
        [CC_AUX_DISK_LOG] = m->cfg.devices & CC_DEV_BLK ? CC_AUX_DISK_LOG_BYTES : 0,
        [CC_AUX_DISK] = m->cfg.disk_bytes,
    };
    uint64_t at = m->cfg.ram_bytes;
    for (unsigned i = 0; i < CC_AUX_COUNT; i++) {
        m->aux[i] = (struct cc_aux){.at = at, .size = size[i]};
        at += size[i];
    }
    return at;
}

static int map_ram(cc_machine *m)
{
    const uint64_t bytes = lay_out(m);
    m->npages = bytes >> CC_PAGE_SHIFT;
    /* Without reserve: a large machine costs only the pages that its guest touches. */
    void *ram = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram == MAP_FAILED)
        return cc_fail(m, CC_ENOMEM, "the host refused %llu MiB of address space for the machine's memory",
                       (unsigned long long)(bytes / MIB));
    /* Only a hint: fewer host page faults while a kernel boots, and fewer host TLB misses later. */
    (void)madvise(ram, m->cfg.ram_bytes, MADV_HUGEPAGE);
    m->ram = ram;
    m->page_flags = calloc(m->npages, 1);
    m->dirty_snap.page = calloc(m->npages, sizeof(uint32_t));
    m->dirty_digest.page = calloc(m->npages, sizeof(uint32_t));
    if (!m->page_flags || !m->dirty_snap.page || !m->dirty_digest.page)
        return cc_fail(m, CC_ENOMEM, "the host refused memory for the page lists of %llu pages",
                       (unsigned long long)m->npages);
    return CC_OK;
}

static int build(cc_machine *m)
{
    int rc = map_ram(m);
    if (!rc)
        rc = cc_console_new(m);
    if (!rc)
        rc = cc_log_new(m);
    if (!rc)
        rc = cc_eventlog_new(m);
    if (!rc)
        rc = cc_pagemap_new(m);
    if (rc)
        return rc;
    cc_streams_reset(m);
    cc_devices_reset(m);
    return m->ops->create(m);
}

int cc_machine_new(const cc_config *cfg, cc_store *store, cc_machine **out, char *err, size_t err_size)
{
    *out = NULL;
    int rc = check_config(cfg, err, err_size);
    if (rc)
        return rc;
    if (!store)
        return reject(err, err_size, "a machine needs a page store");
    cc_machine *m = calloc(1, sizeof *m);
    if (!m) {
        reject(err, err_size, "the host refused memory for a machine");
        return CC_ENOMEM;
    }
    m->cfg = *cfg;
    m->ops = cfg->vcpu == CC_VCPU_KVM ? &cc_kvm_vcpu : &cc_soft_vcpu;
    m->store = store;
    m->exits_max = CC_NEVER;
    rc = build(m);
    if (rc) {
        reject(err, err_size, "%s", m->error);
        cc_machine_free(m);
        return rc;
    }
    *out = m;
    return CC_OK;
}

void cc_machine_free(cc_machine *m)
{
    if (!m)
        return;
    if (m->vcpu)
        m->ops->destroy(m);
    if (m->pagemap)
        cc_pagemap_free(m);
    cc_watches_free(m);
    cc_eventlog_free(m);
    cc_log_free(m);
    cc_console_free(m);
    free(m->dirty_digest.page);
    free(m->dirty_snap.page);
    free(m->page_flags);
    if (m->ram)
        munmap(m->ram, m->npages << CC_PAGE_SHIFT);
    free(m);
}

int cc_set_cache_sizes(cc_machine *m, uint32_t tlb_bits, uint32_t code_cache_kib)
{
    cc_config c = m->cfg;
    c.tlb_bits = tlb_bits;
    c.code_cache_kib = code_cache_kib;
    int rc = check_config(&c, m->error, sizeof m->error);
    if (!rc)
        rc = m->ops->set_cache_sizes(m, tlb_bits, code_cache_kib);
    if (!rc)
        m->cfg = c;
    return rc;
}

/* ---- accessors ------------------------------------------------------------------------------------------------- */
uint64_t cc_instret(const cc_machine *m)
{
    return m->instret;
}

uint64_t cc_vns(const cc_machine *m)
{
    return cc_now(m);
}

uint64_t cc_tsc(const cc_machine *m)
{
    cc_regs r;
    m->ops->get_regs((cc_machine *)m, &r);    /* reading leaves the machine as it is */
    return cc_tsc_of_vns(m, cc_now(m)) + (uint64_t)r.tsc_offset;
}

void cc_get_stats(const cc_machine *m, cc_stats *s)
{
    *s = m->stats;
    s->instret = m->instret;
    s->vns = cc_now(m);
}

void cc_get_regs(cc_machine *m, cc_regs *r)
{
    m->ops->get_regs(m, r);
}

int cc_set_regs(cc_machine *m, const cc_regs *r)
{
    return m->ops->set_regs(m, r);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */
void cc_ram_will_change(cc_machine *m, uint64_t gpa, uint64_t size)
{
    if (!size)
        return;
    uint64_t last = (gpa + size - 1) >> CC_PAGE_SHIFT;
    for (uint64_t page = gpa >> CC_PAGE_SHIFT; page <= last; page++) {
        cc_page_dirty(m, page);
        if (m->page_flags[page] & CC_PF_WATCHED)
            m->ops->page_changed(m, page);
    }
}

void *cc_aux_will_change(cc_machine *m, unsigned area, uint64_t offset, uint64_t size)
{
    const uint64_t at = m->aux[area].at + offset;
    for (uint64_t page = at >> CC_PAGE_SHIFT; size && page <= (at + size - 1) >> CC_PAGE_SHIFT; page++)
        cc_page_dirty(m, page);
    return m->ram + at;
}

static int check_phys(cc_machine *m, uint64_t gpa, size_t size)
{
    if (size == 0 || cc_in_ram(m, gpa, size))
        return CC_OK;
    return cc_fail(m, CC_EFAULT, "physical 0x%llx, %zu bytes: outside the machine's memory of 0x%llx bytes",
                   (unsigned long long)gpa, size, (unsigned long long)m->cfg.ram_bytes);
}

int cc_read_phys(cc_machine *m, uint64_t gpa, void *dst, size_t size)
{
    int rc = check_phys(m, gpa, size);
    if (!rc && size)
        memcpy(dst, m->ram + gpa, size);
    return rc;
}

int cc_write_phys(cc_machine *m, uint64_t gpa, const void *src, size_t size)
{
    int rc = check_phys(m, gpa, size);
    if (rc || !size)
        return rc;
    cc_ram_will_change(m, gpa, size);
    memcpy(m->ram + gpa, src, size);
    return CC_OK;
}

int cc_translate(cc_machine *m, uint64_t va, uint64_t *gpa)
{
    int rc = m->ops->translate(m, va, gpa);
    if (rc)
        return cc_fail(m, CC_EFAULT, "virtual 0x%llx: not mapped by the current page tables",
                       (unsigned long long)va);
    return CC_OK;
}

/* The part of [va, va+size) in va's page, translated into RAM. */
static int translate_chunk(cc_machine *m, uint64_t va, size_t size, uint64_t *gpa, size_t *chunk)
{
    size_t in_page = CC_PAGE_SIZE - (size_t)(va & (CC_PAGE_SIZE - 1));
    *chunk = size < in_page ? size : in_page;
    int rc = cc_translate(m, va, gpa);
    if (rc)
        return rc;
    if (!cc_in_ram(m, *gpa, *chunk))
        return cc_fail(m, CC_EFAULT, "virtual 0x%llx: mapped to physical 0x%llx, which is not memory",
                       (unsigned long long)va, (unsigned long long)*gpa);
    return CC_OK;
}

/* All or nothing: every page is looked up before the first byte moves. */
static int check_virt(cc_machine *m, uint64_t va, size_t size)
{
    if (size && va + (size - 1) < va)
        return cc_fail(m, CC_EFAULT, "virtual 0x%llx, %zu bytes: passes the end of the address space",
                       (unsigned long long)va, size);
    while (size) {
        uint64_t gpa;
        size_t chunk;
        int rc = translate_chunk(m, va, size, &gpa, &chunk);
        if (rc)
            return rc;
        va += chunk;
        size -= chunk;
    }
    return CC_OK;
}

int cc_read_virt(cc_machine *m, uint64_t va, void *dst, size_t size)
{
    int rc = check_virt(m, va, size);
    uint8_t *d = dst;
    while (!rc && size) {
        uint64_t gpa;
        size_t chunk;
        rc = translate_chunk(m, va, size, &gpa, &chunk);
        if (rc)
            break;
        memcpy(d, m->ram + gpa, chunk);
        d += chunk;
        va += chunk;
        size -= chunk;
    }
    return rc;
}

/* What is written may be the page tables in use, so the second look-up of a page may differ from the first: then
 * the rest is refused, which is the one case where a part has been written. */
int cc_write_virt(cc_machine *m, uint64_t va, const void *src, size_t size)
{
    int rc = check_virt(m, va, size);
    const uint8_t *s = src;
    while (!rc && size) {
        uint64_t gpa;
        size_t chunk;
        rc = translate_chunk(m, va, size, &gpa, &chunk);
        if (rc)
            break;
        cc_ram_will_change(m, gpa, chunk);
        memcpy(m->ram + gpa, s, chunk);
        s += chunk;
        va += chunk;
        size -= chunk;
    }
    return rc;
}
