/*
 * script_guest.h: a guest that carries out a script of reads, writes, port accesses and wilder things, as real guest code
 * on the real CPU.  A test writes the script; the guest goes on with the next step after any exception or interrupt, so
 * one bad step is not the end of it.
 */
#ifndef CC_SCRIPT_GUEST_H
#define CC_SCRIPT_GUEST_H

#include "device_machine.h"
#include "../devices/virtio.h"

/* Where things are in the guest's 16 MiB. */
#define RAM_BYTES (16u << 20)
#define TABLES_GPA 0x9000u
#define CODE_GPA 0x100000u
#define STATE_GPA 0x110000u            /* u64 next step, u64 sum */
#define STACK_GPA 0x120000u
#define IDT_GPA 0x121000u
#define IDTR_GPA 0x122000u
#define SCRIPT_GPA 0x200000u
#define SCRIPT_BYTES 0x200000u
#define RINGS_GPA 0x400000u
#define BUFFERS_GPA 0x800000u          /* free for data from here on */

/* What a step does. */
enum {
    ST_END,            /* halt for good */
    ST_WRITE,          /* `size` bytes of value to addr */
    ST_READ,
    ST_OUT,            /* `size` bytes of value to the port */
    ST_IN,
    ST_COPY,           /* count bytes from value to addr */
    ST_OUTS,           /* count times `size` bytes from value to the port */
    ST_INS,            /* count times from the port to addr */
    ST_SPIN,           /* count instructions, nearly */
    ST_EXEC,           /* jump to addr */
    ST_WRMSR,          /* MSR count */
    ST_RDMSR,
    ST_SUM,            /* add count bytes at addr to the sum */
    ST_STI, ST_CLI,
    ST_GOTO,           /* to the step at addr */
    ST_ADD,            /* value to the `size` bytes at addr */
    ST_FOLLOW,         /* u16 at addr = u16 at value + count */
    ST_COUNT
};

struct step { uint8_t op, size; uint16_t port; uint32_t count; uint64_t addr, value, unused; };

extern const uint8_t script_guest_begin[], script_guest_trap[], script_guest_end[];

__asm__(
    ".pushsection .rodata\n"
    ".globl script_guest_begin, script_guest_trap, script_guest_end\n"
    "script_guest_begin:\n"
    "    lidt 0x122000\n"
    "0:  movq $0x120000, %rsp\n"
    "    cld\n"
    "    movq 0x110000, %rbx\n"
    "    addq $32, 0x110000\n"
    "    movzbl 1(%rbx), %r8d\n"
    "    movzwl 2(%rbx), %edx\n"
    "    movl 4(%rbx), %ecx\n"
    "    movq 8(%rbx), %rdi\n"
    "    movq 16(%rbx), %rsi\n"
    "    movzbl (%rbx), %ebp\n"
    "    leaq 9f(%rip), %r9\n"
    "    movslq (%r9, %rbp, 4), %rbp\n"
    "    addq %r9, %rbp\n"
    "    jmp *%rbp\n"
    "    .balign 4\n"
    "9:  .long 10f - 9b, 11f - 9b, 12f - 9b, 13f - 9b, 14f - 9b, 15f - 9b, 16f - 9b, 17f - 9b, 18f - 9b\n"
    "    .long 19f - 9b, 20f - 9b, 21f - 9b, 22f - 9b, 23f - 9b, 24f - 9b, 25f - 9b, 26f - 9b, 27f - 9b\n"
    "10: cli\n    hlt\n    jmp 10b\n"
    "11: cmpb $2, %r8b\n    jb 1f\n    je 2f\n    cmpb $4, %r8b\n    je 4f\n"
    "    movq %rsi, (%rdi)\n    jmp 0b\n"
    "1:  movb %sil, (%rdi)\n    jmp 0b\n"
    "2:  movw %si, (%rdi)\n    jmp 0b\n"
    "4:  movl %esi, (%rdi)\n    jmp 0b\n"
    "12: cmpb $2, %r8b\n    jb 1f\n    je 2f\n    cmpb $4, %r8b\n    je 4f\n"
    "    movq (%rdi), %rax\n    jmp 0b\n"
    "1:  movb (%rdi), %al\n    jmp 0b\n"
    "2:  movw (%rdi), %ax\n    jmp 0b\n"
    "4:  movl (%rdi), %eax\n    jmp 0b\n"
    "13: movq %rsi, %rax\n    cmpb $2, %r8b\n    jb 1f\n    je 2f\n    outl %eax, %dx\n    jmp 0b\n"
    "1:  outb %al, %dx\n    jmp 0b\n"
    "2:  outw %ax, %dx\n    jmp 0b\n"
    "14: cmpb $2, %r8b\n    jb 1f\n    je 2f\n    inl %dx, %eax\n    jmp 0b\n"
    "1:  inb %dx, %al\n    jmp 0b\n"
    "2:  inw %dx, %ax\n    jmp 0b\n"
    "15: rep movsb\n    jmp 0b\n"
    "16: cmpb $2, %r8b\n    jb 1f\n    je 2f\n    rep outsl\n    jmp 0b\n"
    "1:  rep outsb\n    jmp 0b\n"
    "2:  rep outsw\n    jmp 0b\n"
    "17: cmpb $2, %r8b\n    jb 1f\n    je 2f\n    rep insl\n    jmp 0b\n"
    "1:  rep insb\n    jmp 0b\n"
    "2:  rep insw\n    jmp 0b\n"
    "18: decl %ecx\n    jg 18b\n    jmp 0b\n"
    "19: jmp *%rdi\n"
    "20: movq %rsi, %rax\n    movq %rsi, %rdx\n    shrq $32, %rdx\n    wrmsr\n    jmp 0b\n"
    "21: rdmsr\n    jmp 0b\n"
    "22: movzbl (%rdi), %eax\n    addq %rax, 0x110008\n    rolq $7, 0x110008\n    incq %rdi\n    decl %ecx\n"
    "    jg 22b\n    jmp 0b\n"
    "23: sti\n    jmp 0b\n"
    "24: cli\n    jmp 0b\n"
    "25: movq %rdi, 0x110000\n    jmp 0b\n"
    "26: cmpb $2, %r8b\n    je 2f\n    addl %esi, (%rdi)\n    jmp 0b\n"
    "2:  addw %si, (%rdi)\n    jmp 0b\n"
    "27: movw (%rsi), %ax\n    addw %cx, %ax\n    movw %ax, (%rdi)\n    jmp 0b\n"
    "script_guest_trap:\n"
    "    movb $0x20, %al\n    outb %al, $0x20\n    outb %al, $0xA0\n    jmp 0b\n"
    "script_guest_end:\n"
    ".popsection\n");

_Static_assert(ST_COUNT == 18 && sizeof(struct step) == 32, "the table of steps above");

/* ---- writing a script --------------------------------------------------------------------------------------------- */
struct script {
    uint8_t bytes[SCRIPT_BYTES];
    uint32_t steps, data;              /* steps grow from the front, data from the back (bytes of it) */
};

static inline bool script_room(const struct script *s, uint32_t bytes)
{
    return (s->steps + 8) * sizeof(struct step) + s->data + bytes <= SCRIPT_BYTES;
}

static inline void script_step(struct script *s, struct step step)
{
    CHECK(script_room(s, 0));
    memcpy(s->bytes + s->steps++ * sizeof step, &step, sizeof step);
}

/* Where the next step will be. */
static inline uint64_t script_here(const struct script *s)
{
    return SCRIPT_GPA + s->steps * sizeof(struct step);
}

static inline void script_write(struct script *s, uint64_t addr, uint8_t size, uint64_t value)
{
    script_step(s, (struct step){.op = ST_WRITE, .size = size, .addr = addr, .value = value});
}

/* Bytes that the guest puts somewhere. */
static inline void script_poke(struct script *s, uint64_t addr, const void *src, uint32_t size)
{
    CHECK(script_room(s, size));
    s->data += size;
    memcpy(s->bytes + SCRIPT_BYTES - s->data, src, size);
    script_step(s, (struct step){.op = ST_COPY, .count = size, .addr = addr,
                                 .value = SCRIPT_GPA + SCRIPT_BYTES - s->data});
}

static inline void script_out(struct script *s, uint16_t port, uint8_t size, uint32_t value)
{
    script_step(s, (struct step){.op = ST_OUT, .size = size, .port = port, .value = value});
}

static inline void script_spin(struct script *s, uint32_t count)
{
    script_step(s, (struct step){.op = ST_SPIN, .count = count});
}

/* ---- running it ----------------------------------------------------------------------------------------------------- */
static inline void put_handlers(cc_machine *m)
{
    const uint64_t trap = CODE_GPA + (uint64_t)(script_guest_trap - script_guest_begin);
    uint8_t idt[256 * 16] = {0};
    for (unsigned i = 0; i < 256; i++) {
        const uint64_t gate[2] = {
            (trap & 0xFFFF) | UINT64_C(0x10) << 16 | UINT64_C(0x8E00) << 32 | (trap >> 16 & 0xFFFF) << 48, trap >> 32,
        };
        memcpy(idt + 16 * i, gate, 16);
    }
    uint8_t idtr[10] = {0xFF, 0x0F};
    const uint64_t base = IDT_GPA;
    memcpy(idtr + 2, &base, 8);
    CHECK_EQ(cc_write_phys(m, IDT_GPA, idt, sizeof idt), 0);
    CHECK_EQ(cc_write_phys(m, IDTR_GPA, idtr, sizeof idtr), 0);
}

/* Make a machine carry the script out from its beginning. */
static inline void script_start(cc_machine *m, struct script *s)
{
    const uint64_t state[2] = {SCRIPT_GPA, 0};
    script_step(s, (struct step){.op = ST_END});
    put_handlers(m);
    CHECK_EQ(cc_write_phys(m, CODE_GPA, script_guest_begin, (size_t)(script_guest_end - script_guest_begin)), 0);
    CHECK_EQ(cc_write_phys(m, SCRIPT_GPA, s->bytes, s->steps * sizeof(struct step)), 0);
    CHECK_EQ(cc_write_phys(m, SCRIPT_GPA + SCRIPT_BYTES - s->data, s->bytes + SCRIPT_BYTES - s->data, s->data), 0);
    CHECK_EQ(cc_write_phys(m, STATE_GPA, state, sizeof state), 0);
    CHECK_EQ(cc_enter_long_mode(m, CODE_GPA, 0, STACK_GPA, TABLES_GPA), 0);
}

/* ---- virtio, from the inside ---------------------------------------------------------------------------------------- */
struct vdesc { uint64_t addr; uint32_t len; uint16_t flags, next; };
enum { V_NEXT = 1, V_WRITE = 2, V_INDIRECT = 4 };

static inline uint64_t ring_desc(unsigned d, unsigned q) { return RINGS_GPA + d * 0x20000u + q * 0x10000u; }
static inline uint64_t ring_avail(unsigned d, unsigned q) { return ring_desc(d, q) + 0x4000; }
static inline uint64_t ring_used(unsigned d, unsigned q) { return ring_desc(d, q) + 0x8000; }

static inline void script_reg(struct script *s, unsigned d, uint32_t reg, uint32_t value)
{
    script_write(s, CC_VIRTIO_GPA + d * CC_VIRTIO_WINDOW + reg, 4, value);
}

static inline void script_desc(struct script *s, unsigned d, unsigned q, uint16_t i, struct vdesc v)
{
    script_poke(s, ring_desc(d, q) + 16u * i, &v, sizeof v);
}

/* Reset a device and start it with queues of `num` entries. */
static inline void script_device(struct script *s, unsigned d, uint64_t features, unsigned queues, uint16_t num)
{
    static const uint8_t zeros[4096];
    for (uint32_t status = 0; status < 4; status = status * 2 + 1)
        script_reg(s, d, 0x070, status);
    for (unsigned i = 0; i < 2; i++) {
        script_reg(s, d, 0x024, i);
        script_reg(s, d, 0x020, (uint32_t)(features >> 32 * i));
    }
    script_reg(s, d, 0x070, 11);
    for (unsigned q = 0; q < queues; q++) {
        script_reg(s, d, 0x030, q);
        script_reg(s, d, 0x038, num);
        const uint64_t at[3] = {ring_desc(d, q), ring_avail(d, q), ring_used(d, q)};
        for (unsigned i = 0; i < 3; i++) {
            script_poke(s, at[i], zeros, sizeof zeros);
            script_reg(s, d, 0x080 + 0x10 * i, (uint32_t)at[i]);
            script_reg(s, d, 0x084 + 0x10 * i, 0);
        }
        script_reg(s, d, 0x044, 1);
    }
    script_reg(s, d, 0x070, 15);
}

#endif
