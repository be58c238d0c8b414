"""Tiny guests for tests of system behaviour: assembler text at CPL 0 and CPL 3 under a small kernel, with a trap log.

A `Guest` is a memory image and a start state; `run` executes it on the soft CPU, `qemu.run` under QEMU. The kernel (a
few hundred bytes, below) delivers every exception and interrupt to one handler, which appends a record to a log and
goes on by the vector's policy. Memory map (physical; the first 16 MiB are identity-mapped):

    0x001000 GDT   0x002000 TSS, I/O bitmap   0x005000 IDT   0x006000 stubs   0x007000 handler, variables
    0x020000 trap log   0x060000 stacks   0x100000 kernel code   0x180000 kernel data      (2 MiB page, supervisor)
    0x200000 user code  0x300000 user data  0x3ff000 top of the user stack                 (2 MiB page, user)
    0x400000 page tables   0x800000 pages to map for tests                                 (2 MiB pages, supervisor)
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field

from flat_guests import assemble

from chaoscontrol import DeterministicVm, VmConfig
from chaoscontrol.machine import StopKind
from chaoscontrol.registers import DescriptorTable, Registers, Segment

GDT, TSS, IDT, STUBS, HANDLER = 0x1000, 0x2000, 0x5000, 0x6000, 0x7000
VARS = 0x7800
LOG, LOG_END = 0x20000, 0x60000
STACK, RSP0, IST1, IST2, IST3 = 0x66000, 0x68000, 0x6A000, 0x6C000, 0x6E000
CODE, DATA = 0x100000, 0x180000
UCODE, UDATA, USTACK = 0x200000, 0x300000, 0x3FF000
TABLES, PAGES = 0x400000, 0x800000
IO_BITMAP = TSS + 0x68

KERNEL_CS, KERNEL_DS, USER_DS, USER_CS, TSS_SEL, SPARE_SEL = 0x10, 0x18, 0x2B, 0x33, 0x40, 0x50
"""Selectors, in Linux's order; from SPARE_SEL to 0xF8 entries are free for tests."""

MEMORY_BYTES = 16 << 20
INSTRUCTIONS_MAX = 200_000_000

STOP, RETURN, RESUME, SKIP, RETURN_RF = range(5)
"""Policies: end the guest; IRETQ; jump to the address in resume_rip with the stack of resume_rsp; IRETQ behind
`skip` bytes; IRETQ with RF = 1."""

P, W, U, PWT, PCD, A, D, PS, G = (1 << i for i in range(9))
NX = 1 << 63

CR0 = 0x80010033  # PG WP NE ET MP PE
CR4 = 0x620  # OSXMMEXCPT OSFXSR PAE
CR4_TSD, CR4_DE, CR4_PGE, CR4_UMIP, CR4_FSGSBASE, CR4_SMEP, CR4_SMAP = 4, 8, 0x80, 0x800, 0x10000, 0x100000, 0x200000
EFER = 0x501  # LMA LME SCE
EFER_NXE = 0x800

EQUATES = f"""
    .equ resume_rip, {VARS}
    .equ resume_rsp, {VARS + 8}
    .equ skip, {VARS + 16}
    .equ log_next, {VARS + 24}
    .equ finish, {VARS + 32}
    .equ policy, {VARS + 0x100}
    .equ DATA, {DATA}
    .equ UCODE, {UCODE}
    .equ UDATA, {UDATA}
    .equ USTACK, {USTACK}
    .equ RSP0, {RSP0}
    .equ TSS, {TSS}
    .equ GDT, {GDT}
    .equ IDT, {IDT}
    .equ PAGES, {PAGES}
    .macro RESUME_AT label
        push rax
        lea rax, [rip + \\label]
        mov qword ptr [resume_rip], rax
        pop rax
        mov qword ptr [resume_rsp], rsp
    .endm
    .macro FINISH
        jmp qword ptr [finish]
    .endm
    # To CPL 3 at `target` (an address) with these RFLAGS.
    .macro TO_USER target=UCODE, flags=0x202
        push 0x2b
        push USTACK
        push \\flags
        push 0x33
        push \\target
        iretq
    .endm
"""

_HANDLER = f"""
    .equ resume_rip, {VARS}
    .equ resume_rsp, {VARS + 8}
    .equ skip, {VARS + 16}
    .equ log_next, {VARS + 24}
    .equ policy, {VARS + 0x100}
    # stack: vector, error code or 0, RIP, CS, RFLAGS, RSP, SS
    push rax
    push rbx
    mov rbx, qword ptr [log_next]
    mov rax, [rsp + 16]
    mov [rbx], rax
    mov rax, [rsp + 24]
    mov [rbx + 8], rax
    mov rax, [rsp + 32]
    mov [rbx + 16], rax
    mov rax, [rsp + 40]
    mov [rbx + 24], rax
    mov rax, [rsp + 48]
    mov [rbx + 32], rax
    mov rax, [rsp + 56]
    mov [rbx + 40], rax
    mov rax, [rsp + 64]
    mov [rbx + 48], rax
    mov rax, cr2
    mov [rbx + 56], rax
    lea rax, [rsp + 32]
    mov [rbx + 64], rax
    mov rax, dr6
    mov [rbx + 72], rax
    pushfq
    pop rax
    mov [rbx + 80], rax
    mov eax, ss
    mov [rbx + 88], rax
    add rbx, 96
    mov qword ptr [log_next], rbx
    cmp rbx, {LOG_END}
    jae stop
    movzx eax, byte ptr [rsp + 16]
    movzx eax, byte ptr [policy + rax]
    cmp al, {RETURN}
    je return
    cmp al, {RESUME}
    je resume
    cmp al, {RETURN_RF}
    je return_rf
    cmp al, {SKIP}
    jne stop
    mov rax, qword ptr [skip]
    add [rsp + 32], rax
return:
    pop rbx
    pop rax
    add rsp, 16
    iretq
return_rf:
    or dword ptr [rsp + 48], 0x10000
    jmp return
resume:
    pop rbx
    pop rax
    mov rsp, qword ptr [resume_rsp]
    jmp qword ptr [resume_rip]
stop:
    pop rbx
    pop rax
    .org 0x1f0
finished:
    cli
    hlt
    jmp finished
"""
FINISH = HANDLER + 0x1F0
"""Every guest ends here, in HLT with interrupts off."""


@dataclass(frozen=True)
class Trap:
    """One record of the log. `frame`: address of the pushed RIP; `inside`: RFLAGS in the handler, and its SS."""

    vector: int
    error: int
    rip: int
    cs: int
    rflags: int
    rsp: int
    ss: int
    cr2: int
    frame: int
    dr6: int
    inside: int
    inside_ss: int

    def brief(self) -> tuple[int, int, int]:
        return self.vector, self.error, self.rip


ERROR_CODE_VECTORS = (8, 10, 11, 12, 13, 14, 17, 21)


class PageTables:
    """4-level page tables under construction; entries are given whole, so that any bit can be tried."""

    def __init__(self, base: int = TABLES) -> None:
        self.base = base
        self.memory = bytearray(4096)

    def entry(self, table: int, index: int) -> int:
        return struct.unpack_from("<Q", self.memory, table - self.base + index * 8)[0]

    def set_entry(self, table: int, index: int, value: int) -> None:
        struct.pack_into("<Q", self.memory, table - self.base + index * 8, value)

    def new_table(self) -> int:
        self.memory += bytes(4096)
        return self.base + len(self.memory) - 4096

    def slot(self, va: int, level: int, flags: int = P | W | U) -> int:
        """Address of the entry for `va` at `level` (3: PML4E .. 0: PTE); missing tables get entries with `flags`."""
        table = self.base
        for at in range(3, level, -1):
            index = va >> (12 + 9 * at) & 511
            entry = self.entry(table, index)
            if not entry:
                entry = self.new_table() | flags
                self.set_entry(table, index, entry)
            table = entry & 0xFFFFFFFFFF000
        return table + (va >> (12 + 9 * level) & 511) * 8

    def map(self, va: int, entry: int, level: int = 0, flags: int = P | W | U) -> int:
        """Put `entry` into the slot for `va` at `level`; returns the slot's address."""
        at = self.slot(va, level, flags)
        self.set_entry(at & ~0xFFF, (at & 0xFFF) // 8, entry)
        return at


def descriptor(access: int, flags: int = 0xA, base: int = 0, limit: int = 0xFFFFF) -> int:
    """A segment descriptor (SDM vol. 3, figure 3-8): access byte, and the nibble G, D/B, L, AVL."""
    return (
        (limit & 0xFFFF) | (base & 0xFFFFFF) << 16 | access << 40
        | (limit >> 16 & 0xF) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56
    )  # fmt: skip


def gate(
    handler: int, selector: int = KERNEL_CS, kind: int = 0xE, dpl: int = 0, ist: int = 0, present: int = 1
) -> bytes:
    """A 16-byte gate (SDM vol. 3, figure 6-8). kind: 0xE interrupt gate, 0xF trap gate, 0xC call gate."""
    low = (handler & 0xFFFF) | selector << 16 | ist << 32 | (kind | dpl << 5 | present << 7) << 40
    return struct.pack("<QQ", low | (handler >> 16 & 0xFFFF) << 48, handler >> 32)


def stub(vector: int) -> int:
    """Address of the entry point that logs `vector`."""
    return STUBS + vector * 16


@functools.cache
def _kernel() -> tuple[tuple[int, bytes], ...]:
    """GDT, TSS, IDT, stubs, handler and variables."""
    gdt = [0] * 32
    gdt[1] = descriptor(0x9B, 0xC)
    gdt[2] = descriptor(0x9B)
    gdt[3] = descriptor(0x93, 0xC)
    gdt[4] = descriptor(0xFB, 0xC)
    gdt[5] = descriptor(0xF3, 0xC)
    gdt[6] = descriptor(0xFB)
    gdt[8] = descriptor(0x89, 0, TSS, 0x67)
    tss = bytearray(0x68)
    struct.pack_into("<Q", tss, 4, RSP0)
    for i, top in enumerate((IST1, IST2, IST3)):
        struct.pack_into("<Q", tss, 36 + 8 * i, top)
    struct.pack_into("<H", tss, 0x66, 0x68)
    idt = b"".join(gate(stub(v), dpl=3 if v in (3, 4, 0x81) else 0) for v in range(256))
    stubs = b""
    for vector in range(256):
        code = b"" if vector in ERROR_CODE_VECTORS else b"\x6a\x00"
        code += b"\x68" + struct.pack("<I", vector)
        code += b"\xe9" + struct.pack("<i", HANDLER - (stub(vector) + len(code) + 5))
        stubs += code.ljust(16, b"\xcc")
    variables = struct.pack("<QQQQQ", 0, 0, 0, LOG, FINISH)
    handler = assemble(_HANDLER)
    assert len(handler) <= 0x200
    return (
        (GDT, struct.pack("<32Q", *gdt)), (TSS, bytes(tss)), (IDT, idt), (STUBS, stubs), (HANDLER, handler),
        (VARS, variables.ljust(0x200, b"\x00")),
    )  # fmt: skip


@dataclass
class Guest:
    """What to load and how to start. Text is GNU assembler, Intel syntax, position-independent."""

    kernel: str
    user: str = ""
    policies: dict[int, int] = field(default_factory=dict)
    """By vector; the others end the guest."""
    memory: dict[int, bytes] = field(default_factory=dict)
    gdt: dict[int, int] = field(default_factory=dict)
    """Further descriptors by selector; 16-byte ones as 128-bit numbers."""
    gates: dict[int, bytes] = field(default_factory=dict)
    tss_limit: int = 0x67
    registers: dict[str, int] = field(default_factory=dict)
    """Initial general registers."""
    cr0: int = CR0
    cr4: int = CR4
    efer: int = EFER | EFER_NXE
    tables: PageTables | None = None
    """Further mappings; the identity ones are added."""

    def image(self) -> list[tuple[int, bytes]]:
        """(address, bytes) to write, in order."""
        tables = self.tables or PageTables()
        for i in range(8):
            user = U if i == 1 else 0
            tables.map(i << 21, i << 21 | P | W | user | A | D | PS, 1)
        parts = [*_kernel(), (tables.base, bytes(tables.memory))]
        assert len(tables.memory) <= PAGES - TABLES
        parts.append((CODE, assemble(EQUATES + self.kernel)))
        if self.user:
            parts.append((UCODE, assemble(EQUATES + self.user)))
        limit_low = struct.pack("<H", self.tss_limit)
        parts.append((GDT + TSS_SEL, limit_low))
        for selector, value in self.gdt.items():
            size = 16 if value >> 64 else 8
            parts.append((GDT + (selector & ~7), value.to_bytes(size, "little")))
        parts += [(IDT + vector * 16, value) for vector, value in self.gates.items()]
        parts += [(VARS + 0x100 + vector, bytes([policy])) for vector, policy in self.policies.items()]
        parts += list(self.memory.items())
        return parts


@dataclass
class Outcome:
    """How a guest ended."""

    traps: list[Trap]
    gpr: dict[str, int]
    memory: dict[int, bytes]
    vm: DeterministicVm | None = None

    def u64(self, address: int) -> int:
        """A word of kernel or user data (0x180000-0x1fffff, 0x300000-0x30ffff), or of what `memory` has."""
        for start, data in self.memory.items():
            if start <= address < start + len(data):
                return struct.unpack_from("<Q", data, address - start)[0]
        raise KeyError(hex(address))


KEPT = ((DATA, 0x10000), (UDATA, 0x10000), (USTACK - 0x1000, 0x1000))
"""Memory that outcomes carry."""


def parse_log(log: bytes, end: int) -> list[Trap]:
    count = (end - LOG) // 96
    assert 0 <= count <= (LOG_END - LOG) // 96, f"the trap log's pointer is {end:#x}"
    return [Trap(*struct.unpack_from("<12Q", log, i * 96)) for i in range(count)]


def start(guest: Guest, **config: object) -> DeterministicVm:
    """A machine about to execute the guest's first instruction."""
    vm = DeterministicVm(VmConfig(memory_bytes=MEMORY_BYTES, **config))  # type: ignore[arg-type]
    vm.load_flat(b"\xf4")
    for address, data in guest.image():
        vm.write_memory(address, data)
    vm.write_memory(GDT + TSS_SEL + 5, b"\x8b")  # busy, as LTR would leave it
    vm.set_registers(initial(guest, vm.registers()))
    return vm


def initial(guest: Guest, base: Registers) -> Registers:
    def segment(selector: int, attr: int) -> Segment:
        return Segment(selector, 0, 0xFFFFFFFF, attr)

    data = segment(KERNEL_DS, 0xC093)
    base = base.replace(
        **dict.fromkeys(("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{i}" for i in range(8, 16))), 0),
        rip=CODE, rsp=STACK, rflags=2,
        cr0=guest.cr0, cr3=TABLES, cr4=guest.cr4, efer=guest.efer,
        cs=segment(KERNEL_CS, 0xA09B), ss=data, ds=data, es=data, fs=data, gs=data,
        gdtr=DescriptorTable(GDT, 0xFF), idtr=DescriptorTable(IDT, 0xFFF),
        tr=Segment(TSS_SEL, TSS, guest.tss_limit, 0x8B),
    )  # fmt: skip
    return base.replace(**guest.registers)


def outcome(vm: DeterministicVm) -> Outcome:
    end = struct.unpack("<Q", vm.read_memory(VARS + 24, 8))[0]
    registers = vm.registers()
    gpr = {name: getattr(registers, name) for name in ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")}
    gpr |= {name: getattr(registers, name) for name in (f"r{i}" for i in range(8, 16))}
    gpr["rip"] = registers.rip
    kept = {address: vm.read_memory(address, size) for address, size in KEPT}
    return Outcome(parse_log(vm.read_memory(LOG, LOG_END - LOG), end), gpr, kept, vm)


def run(guest: Guest, **config: object) -> Outcome:
    """Run to the end on the soft CPU; the guest must end by its own HLT."""
    vm = start(guest, **config)
    stop = vm.run(instret=INSTRUCTIONS_MAX)
    assert stop.kind is StopKind.HALTED, f"{stop} at rip {vm.registers().rip:#x}; {vm.take_log()}"
    return outcome(vm)
