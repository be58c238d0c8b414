"""Privileged instructions, I/O permission, segments and descriptor tables (SDM vol. 3, chapters 5, 7.3; vol. 2)."""

from __future__ import annotations

from collections.abc import Callable

import attempts
import pytest
from attempts import Deviates, Expectation
from system_guest import (
    CR4,
    CR4_FSGSBASE,
    CR4_TSD,
    CR4_UMIP,
    DATA,
    EFER,
    GDT,
    IO_BITMAP,
    SPARE_SEL,
    TSS,
    TSS_SEL,
    UDATA,
    Guest,
    Outcome,
    descriptor,
    gate,
)  # fmt: skip

Run = Callable[[Guest], Outcome]
GP, UD, NP, SS, PF, BP, OF = 13, 6, 11, 12, 14, 3, 4

PRIVILEGED = (
    "cli", "sti", "hlt", "clts", "invd", "wbinvd", "lgdt [rsp]", "lidt [rsp]", "lldt ax", "ltr ax", "lmsw ax",
    "invlpg [rax]", "rdmsr", "wrmsr", "swapgs", "mov rax, cr0", "mov rax, cr2", "mov rax, cr3", "mov rax, cr4",
    "mov rax, cr8", "mov cr0, rax", "mov cr2, rax", "mov cr3, rax", "mov cr4, rax", "mov cr8, rax", "mov rax, dr0",
    "mov dr7, rax", "sysretq", "rdpmc", "in al, 0x80", "in eax, dx", "out 0x80, al", "out dx, ax", "insb", "outsd",
)  # fmt: skip


def test_privileged_at_cpl3(machine: Run) -> None:
    attempts.expect([(text, (GP, 0)) for text in PRIVILEGED], machine, user=True)


def test_unprivileged_system_instructions(machine: Run) -> None:
    """Without UMIP, CR4.TSD and friends these work at CPL 3."""
    texts = ("sgdt [rsp - 16]", "sidt [rsp - 16]", "sldt eax", "str eax", "smsw eax", "rdtsc", "cpuid", "lar eax, eax",
             "lsl eax, eax", "verr ax", "verw ax", "rdfsbase rax", "wrgsbase rax", "pushfq\n popfq", "xor eax, eax || mov ds, eax")  # fmt: skip
    attempts.expect([(text, None) for text in texts], machine, user=True, cr4=CR4 | CR4_FSGSBASE)


def test_umip_tsd_fsgsbase(machine: Run) -> None:
    tried = [
        (text, (GP, 0))
        for text in ("sgdt [rsp - 16]", "sidt [rsp - 16]", "sldt eax", "str eax", "smsw eax", "str [rsp - 8]", "rdtsc")
    ]
    tried += [("rdfsbase rax", UD), ("wrgsbase eax", UD)]
    attempts.expect(tried, machine, user=True, cr4=CR4 | CR4_UMIP | CR4_TSD)


def test_umip_does_not_bind_the_kernel(machine: Run) -> None:
    texts = ("sgdt [rsp - 16]", "sidt [rsp - 16]", "sldt eax", "str eax", "smsw eax", "rdtsc")
    attempts.expect([(text, None) for text in texts], machine, cr4=CR4 | CR4_UMIP | CR4_TSD)


def test_table_registers_are_stored(machine: Run) -> None:
    outcome = machine(
        Guest(f"""
        sgdt [DATA]
        sidt [DATA + 0x10]
        str rax
        mov [DATA + 0x20], rax
        sldt rax
        mov [DATA + 0x28], rax
        smsw rax
        mov [DATA + 0x30], rax
        mov rax, cr0
        mov [DATA + 0x38], rax
        mov qword ptr [DATA + 0x40], -1
        str [DATA + 0x40]
        mov qword ptr [DATA + 0x48], -1
        smsw [DATA + 0x48]
        mov word ptr [DATA + 0x100], 0x7f
        mov qword ptr [DATA + 0x102], {GDT}
        lgdt [DATA + 0x100]
        sgdt [DATA + 0x110]
        FINISH
    """)
    )
    assert outcome.u64(DATA) & 0xFFFF == 0xFF
    assert outcome.u64(DATA + 2) == GDT
    assert outcome.u64(DATA + 0x10) & 0xFFFF == 0xFFF
    assert outcome.u64(DATA + 0x12) == 0x5000
    assert outcome.u64(DATA + 0x20) == TSS_SEL
    assert outcome.u64(DATA + 0x28) == 0
    assert outcome.u64(DATA + 0x30) == outcome.u64(DATA + 0x38)
    assert outcome.u64(DATA + 0x40) == 0xFFFFFFFFFFFF0000 | TSS_SEL
    assert outcome.u64(DATA + 0x48) & 0xFFFFFFFF == 0xFFFF0000 | outcome.u64(DATA + 0x38) & 0xFFFF
    assert outcome.u64(DATA + 0x110) & 0xFFFF == 0x7F


def test_ltr_and_lldt(machine: Run) -> None:
    """LTR marks the TSS busy and refuses a busy one; LLDT takes null; wrong types, limits and non-present ones fault."""
    spare = SPARE_SEL
    gdt = {
        spare: descriptor(0x89, 0, TSS, 0x67),            # available TSS
        spare + 0x10: descriptor(0x09, 0, TSS, 0x67),     # not present
        spare + 0x20: descriptor(0x82, 0, DATA, 0xFFF),   # LDT
        spare + 0x30: descriptor(0x02, 0, DATA, 0xFFF),   # not present
        spare + 0x40: descriptor(0x93, 0xC),              # data
    }  # fmt: skip
    tried: list[tuple[str, Expectation]] = [
        (f"mov eax, {TSS_SEL} || ltr ax", (GP, TSS_SEL)),
        (f"mov eax, {spare} || ltr ax", None),
        (f"mov eax, {spare} || ltr ax", (GP, spare)),
        (f"mov eax, {spare + 0x10} || ltr ax", (NP, spare + 0x10)),
        (f"mov eax, {spare + 0x40} || ltr ax", (GP, spare + 0x40)),
        ("mov eax, 0x1ff8 || ltr ax", (GP, 0x1FF8)),
        (f"mov eax, {TSS_SEL + 4} || ltr ax", (GP, TSS_SEL + 4)),
        ("xor eax, eax || lldt ax", None),
        ("mov eax, 3 || lldt ax", None),
        (f"mov eax, {spare + 0x20} || lldt ax", None),
        (f"mov eax, {spare + 0x30} || lldt ax", (NP, spare + 0x30)),
        (f"mov eax, {spare + 0x40} || lldt ax", (GP, spare + 0x40)),
        (f"mov eax, {spare} || lldt ax", (GP, spare)),
        (f"mov eax, {spare + 0x24} || lldt ax", (GP, spare + 0x24)),
        ("mov rdi, 0x800000000000 || lgdt [rdi]", (GP, 0)),
        (f"mov rax, 0x800000000000\n mov [{DATA + 2}], rax || lidt [{DATA}]", Deviates((GP, 0), "loads it")),
    ]
    attempts.expect(tried, machine, gdt=gdt)


def test_ltr_refuses_null(machine: Run) -> None:
    """On its own: QEMU accepts a null TSS, and can deliver no exception afterwards."""
    attempts.expect([("xor eax, eax || ltr ax", Deviates((GP, 0), "accepts a null TSS"))], machine)


def test_segment_loads(machine: Run) -> None:
    """MOV to segment registers in 64-bit mode: null selectors, types, privilege, #NP, #SS, limits."""
    s = SPARE_SEL
    gdt = {
        s: descriptor(0x13, 0xC),          # data, not present
        s + 8: descriptor(0x91, 0xC),      # read-only data, DPL 0
        s + 0x10: descriptor(0x99),        # execute-only code
        s + 0x18: descriptor(0x9E),        # conforming readable code, DPL 0
        s + 0x20: descriptor(0xF3, 0xC),   # data, DPL 3
        s + 0x28: descriptor(0x92, 0xC),   # data, not accessed yet
        s + 0x30: descriptor(0x89, 0, TSS, 0x67),
    }  # fmt: skip
    tried: list[tuple[str, Expectation]] = [
        ("xor eax, eax || mov ds, eax", None),
        ("mov eax, 3 || mov es, eax", None),
        ("xor eax, eax || mov ss, eax", None),
        ("mov eax, 3 || mov ss, eax", Deviates((GP, 0), "ignores the RPL of a null SS")),
        (f"mov eax, {s} || mov ds, eax", (NP, s)),
        (f"mov eax, {s} || mov ss, eax", (SS, s)),
        (f"mov eax, {s + 8} || mov fs, eax", None),
        (f"mov eax, {s + 8} || mov ss, eax", (GP, s + 8)),
        (f"mov eax, {s + 8 + 3} || mov ds, eax", (GP, s + 8)),
        (f"mov eax, {s + 0x10} || mov ds, eax", (GP, s + 0x10)),
        (f"mov eax, {s + 0x18} || mov ds, eax", None),
        (f"mov eax, {s + 0x18 + 3} || mov ds, eax", None),
        (f"mov eax, {s + 0x20 + 3} || mov gs, eax", None),
        (f"mov eax, {s + 0x20 + 3} || mov ss, eax", (GP, s + 0x20)),
        (f"mov eax, {s + 0x28} || mov es, eax", None),
        (f"mov eax, {s + 0x30} || mov ds, eax", (GP, s + 0x30)),
        ("mov eax, 0x1ff8 || mov ds, eax", (GP, 0x1FF8)),
        ("mov eax, 0x1c || mov ds, eax", (GP, 0x1C)),
        ("mov eax, 0x18 || .byte 0x8e, 0xc8", UD),
        (".byte 0x8e, 0xf0", UD),
        (".byte 0x8e, 0xf8", UD),
        (".byte 0x8c, 0xf0", UD),
        (f"mov word ptr [{DATA + 4}], {s} || lss eax, [{DATA}]", (SS, s)),
        (f"mov word ptr [{DATA + 4}], {s} || lfs eax, [{DATA}]", (NP, s)),
        (f"mov word ptr [{DATA + 8}], {s} || .byte 0x48, 0x0f, 0xb5, 0x04, 0x25\n .long {DATA}", (NP, s)),
        (f"push {s} || pop fs", (NP, s)),
        (f"push {s + 0x30} || pop gs", (GP, s + 0x30)),
        ("push 0 || pop gs", None),
    ]
    outcome_guest = attempts.guest([t for t, _ in tried], gdt=gdt)
    attempts.expect(tried, machine, gdt=gdt)
    # the accessed bit was set by the load
    outcome_guest.kernel = outcome_guest.kernel.replace(
        "FINISH", f"mov rax, [{GDT + s + 0x28}]\n mov [DATA], rax\n FINISH"
    )
    assert machine(outcome_guest).u64(DATA) == descriptor(0x93, 0xC)


def test_segment_loads_at_cpl3(machine: Run) -> None:
    s = SPARE_SEL
    gdt = {
        s: descriptor(0x93, 0xC),
        s + 8: descriptor(0xF3, 0xC),
        s + 0x10: descriptor(0xFE),
        s + 0x18: descriptor(0x9E),
    }
    tried: list[tuple[str, Expectation]] = [
        ("mov eax, 0x18 || mov ds, eax", (GP, 0x18)),
        ("mov eax, 0x1b || mov ds, eax", (GP, 0x18)),
        (f"mov eax, {s + 8} || mov ds, eax", None),
        (f"mov eax, {s + 11} || mov ds, eax", None),
        (f"mov eax, {s + 8} || mov ss, eax", (GP, s + 8)),
        (f"mov eax, {s + 11} || mov ss, eax", None),
        ("xor eax, eax || mov ss, eax", (GP, 0)),
        ("mov eax, 3 || mov ss, eax", (GP, 0)),
        (f"mov eax, {s + 0x10} || mov fs, eax", None),
        (f"mov eax, {s + 0x18} || mov fs, eax", None),
    ]
    attempts.expect(tried, machine, user=True, gdt=gdt)


def test_null_selector_clears_the_base(machine: Run) -> None:
    """Loading FS or GS takes the descriptor's 32-bit base; null gives base 0 (SDM vol. 3, 3.4.4)."""
    outcome = machine(Guest(f"""
        mov rax, 0x123456789000
        wrfsbase rax
        wrgsbase rax
        xor eax, eax
        mov fs, eax
        rdfsbase rbx
        mov [DATA], rbx
        mov eax, {SPARE_SEL}
        mov gs, eax
        rdgsbase rbx
        mov [DATA + 8], rbx
        FINISH
    """, gdt={SPARE_SEL: descriptor(0x93, 0xC, 0x87654321)}, cr4=CR4 | CR4_FSGSBASE))  # fmt: skip
    assert outcome.u64(DATA) == 0
    assert outcome.u64(DATA + 8) == 0x87654321


def test_lar_lsl_verr_verw(machine: Run) -> None:
    s = SPARE_SEL
    gdt = {
        s: descriptor(0x93, 0xC, 0, 0x12345), s + 8: descriptor(0x91, 0x4, 0, 0x12345), s + 0x10: descriptor(0x99),
        s + 0x18: descriptor(0x9F), s + 0x20: descriptor(0x13, 0xC), s + 0x28: descriptor(0x82, 0, 0x1000, 0xFF),
        s + 0x38: descriptor(0x89, 0, TSS, 0x67), s + 0x48: descriptor(0x8E, 0), s + 0x58: descriptor(0x8C, 0),
    }  # fmt: skip
    # selector: LAR valid, LSL limit or None, VERR, VERW at CPL 0
    cases = {
        0: (False, None, False, False), 3: (False, None, False, False),
        s: (True, 0x12345FFF, True, True), s + 3: (False, None, False, False),
        s + 8: (True, 0x12345, True, False), s + 0x10: (True, 0xFFFFFFFF, False, False),
        s + 0x18 + 3: (True, 0xFFFFFFFF, True, False), s + 0x20: (True, 0x12345FFF if False else 0xFFFFFFFF, True, True),
        s + 0x28: (True, 0xFF, False, False), s + 0x38: (True, 0x67, False, False), s + 0x48: (False, None, False, False),
        s + 0x58: (True, None, False, False), 0x1FF8: (False, None, False, False), 0x1C: (False, None, False, False),
    }  # fmt: skip
    text = ""
    for i, selector in enumerate(cases):
        for k, instruction in enumerate(("lar ebx, eax", "lsl ebx, eax", "verr ax", "verw ax")):
            text += f"""
                mov eax, {selector}
                mov rbx, 0x5555555555555555
                {instruction}
                setz cl
                mov [{DATA + i * 64 + k * 16}], rbx
                mov [{DATA + i * 64 + k * 16 + 8}], cl
            """
    outcome = machine(Guest(text + "FINISH", gdt=gdt))
    for i, (selector, (lar, lsl, verr, verw)) in enumerate(cases.items()):
        at = DATA + i * 64
        zf = [outcome.u64(at + k * 16 + 8) & 1 for k in range(4)]
        assert zf == [lar, lsl is not None, verr, verw], f"selector {selector:#x}: ZF after LAR LSL VERR VERW is {zf}"
        if lar:
            high = gdt[selector & ~7] >> 32 & 0xF0FF00
            assert outcome.u64(at) & 0xFFFFFFFFFFF0FF00 == high
        else:
            assert outcome.u64(at) == 0x5555555555555555
        assert outcome.u64(at + 16) == (0x5555555555555555 if lsl is None else lsl)


def test_iopl(machine: Run) -> None:
    """CPL <= IOPL: ports, CLI and STI work at CPL 3."""
    texts = ("in al, 0x80", "out 0x80, al", "mov edx, 0xed || in eax, dx", "cli", "sti")
    attempts.expect([(text, None) for text in texts], machine, user=True, flags=0x3202)
    attempts.expect([(text, (GP, 0)) for text in texts], machine, user=True, flags=0x2202)


def test_io_bitmap(machine: Run) -> None:
    """The TSS bitmap: a set bit forbids; every byte of an access is checked; beyond the limit all is forbidden."""
    bitmap = bytearray(b"\xff" * 40)
    for port in (0x80, 0x81, 0x82, 0x83, 0xED, 0xF0, 0xF1):
        bitmap[port >> 3] &= ~(1 << (port & 7)) & 0xFF
    allowed: tuple[str, ...] = (
        "in al, 0x80", "out 0x81, al", "in eax, 0x80", "mov edx, 0xed || out dx, al", "in ax, 0x82", "mov edx, 0xf0 || in ax, dx",
    )  # fmt: skip
    refused = ("in al, 0x84", "in eax, 0x81", "in ax, 0x83", "mov edx, 0xec || in ax, dx", "mov edx, 0xed || in ax, dx",
               "mov edx, 0x138 || in al, dx", "mov edx, 0x400 || in al, dx", "mov edx, 0xffff || in ax, dx", "mov edx, 0xf1 || in eax, dx")  # fmt: skip
    attempts.expect(
        [(t, None) for t in allowed] + [(t, (GP, 0)) for t in refused],
        machine, user=True, memory={IO_BITMAP: bytes(bitmap)}, tss_limit=0x68 + 39,
    )  # fmt: skip


def test_io_bitmap_beyond_the_limit(machine: Run) -> None:
    """The byte after the last port's must lie within the limit as well (SDM vol. 1, 19.5.2)."""
    attempts.expect(
        [("mov edx, 7 || in al, dx", None), ("mov edx, 8 || in al, dx", (GP, 0)), ("mov edx, 0x10 || in al, dx", (GP, 0))],
        machine, user=True, memory={IO_BITMAP: bytes(16)}, tss_limit=0x68 + 1,
    )  # fmt: skip


def test_far_transfers(machine: Run) -> None:
    """JMP and CALL far, RETF in 64-bit mode, conforming code, and what they refuse."""
    s = SPARE_SEL
    gdt = {
        s: descriptor(0x9A), s + 8: descriptor(0x9E), s + 0x10: descriptor(0x1A), s + 0x18: descriptor(0xFA),
        s + 0x20: descriptor(0x93, 0xC), s + 0x28: descriptor(0x9A, 0xE),
    }  # fmt: skip

    def far(instruction: str, selector: int, target: str = "1f") -> str:
        return f"lea rbx, [rip + {target}]\n mov [{DATA}], ebx\n mov word ptr [{DATA + 4}], {selector} || {instruction} fword ptr [{DATA}]\n1: nop"

    tried: list[tuple[str, Expectation]] = []
    for instruction in ("jmp", "call"):
        tried += [
            (far(instruction, s), None),
            (far(instruction, s + 8), None),
            (far(instruction, s + 8 + 3), None),
            (far(instruction, s + 3), (GP, s)),
            (far(instruction, s + 0x10), (NP, s + 0x10)),
            (far(instruction, s + 0x18), (GP, s + 0x18)),
            (far(instruction, s + 0x20), (GP, s + 0x20)),
            (far(instruction, s + 0x28), Deviates((GP, s + 0x28), "accepts L and D/B together")),
            (far(instruction, 0), (GP, 0)),
            (far(instruction, 0x1FF8), (GP, 0x1FF8)),
        ]
    back = "lea rbx, [rip + 1f]\n push {0}\n push rbx"
    tried += [
        (back.format(s) + " || .byte 0x48, 0xcb\n1: nop", None),
        (back.format(s) + " || .byte 0x48, 0xca, 8, 0\n1: nop", None),
        (back.format(0) + " || .byte 0x48, 0xcb\n1: nop", (GP, 0)),
        (back.format(s + 0x10) + " || .byte 0x48, 0xcb\n1: nop", (NP, s + 0x10)),
        (back.format(s + 0x20) + " || .byte 0x48, 0xcb\n1: nop", (GP, s + 0x20)),
        (back.format(s + 0x18) + " || .byte 0x48, 0xcb\n1: nop", (GP, s + 0x18)),
        (
            f"mov rbx, 0x800000000000\n push {s}\n push rbx || .byte 0x48, 0xcb",
            Deviates((GP, 0), "faults after the transfer"),
        ),
    ]
    attempts.expect(tried, machine, gdt=gdt)


def test_call_gate(machine: Run) -> None:
    """A 64-bit call gate from CPL 3 to CPL 0: stack from the TSS, SS null, old SS:RSP and CS:RIP pushed."""
    s = SPARE_SEL
    target = 0x7F00
    outcome = machine(
        Guest(
            "TO_USER",
            f"""
            mov dword ptr [{UDATA}], 0
            mov word ptr [{UDATA + 4}], {s + 3}
            call fword ptr [{UDATA}]
            after:
            int 0x81
            """,
            gdt={s: int.from_bytes(gate(target, kind=0xC, dpl=3), "little")},
            memory={target: bytes.fromhex("488924250000180048892425080018008cd0488904251000180048cb")},
            policies={0x81: 0},
        )
    )  # fmt: skip
    # the target: mov [DATA], rsp; mov [DATA+8], rsp; mov eax, ss; mov [DATA+16], rax; retfq
    rsp = outcome.u64(DATA)
    assert rsp == 0x68000 - 32
    assert outcome.u64(DATA + 16) == 0
    assert [t.vector for t in outcome.traps] == [0x81]
    assert outcome.traps[0].cs == 0x33
    assert outcome.traps[0].ss == 0x2B


@pytest.mark.parametrize("dpl", [0, 2])
def test_call_gate_refused(machine: Run, dpl: int) -> None:
    s = SPARE_SEL
    attempts.expect(
        [(f"mov dword ptr [{UDATA}], 0\n mov word ptr [{UDATA + 4}], {s + 3} || call fword ptr [{UDATA}]", (GP, s))],
        machine, user=True, gdt={s: int.from_bytes(gate(0x7F00, kind=0xC, dpl=dpl), "little")},
    )  # fmt: skip


def test_efer_nxe_is_on_by_default() -> None:
    assert EFER & 0x500 == 0x500
