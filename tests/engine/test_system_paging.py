"""Paging: permissions and error codes, reserved bits, page sizes, accessed and dirty bits (SDM vol. 3, chapter 4)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import qemu
import system_guest
from system_guest import (
    CODE,
    CR0,
    CR4,
    CR4_PGE,
    CR4_SMAP,
    CR4_SMEP,
    DATA,
    EFER,
    EFER_NXE,
    NX,
    PAGES,
    PS,
    RESUME,
    TABLES,
    UCODE,
    A,
    D,
    G,
    Guest,
    Outcome,
    P,
    PageTables,
    U,
    W,
)  # fmt: skip

Run = Callable[[Guest], Outcome]
PF, GP = 14, 13
READ, WRITE, EXEC = range(3)
AC = 0x40000
CR0_WP = 0x10000

PROBES = 0xA00000
"""Physical address of the probe table and, in place, of its results."""
PROBE = struct.Struct("<QQQQQQQQ")  # kind, va, cr0, cr4, efer, rflags, vector (or -1), error

_RUNNER = f"""
    mov r12, {PROBES}
next_probe:
    mov rax, [r12]
    cmp rax, -1
    je done
    mov rcx, 0xc0000080
    mov rax, [r12 + 32]
    xor edx, edx
    wrmsr
    mov rax, [r12 + 24]
    mov cr4, rax
    mov rax, [r12 + 16]
    mov cr0, rax
    mov rbx, [r12 + 8]
    mov qword ptr [r12 + 48], -1
    RESUME_AT trapped
    mov rax, {system_guest.LOG}
    mov qword ptr [log_next], rax
    # stale TLB entries are the guest's own fault: there must be none
    mov rax, cr3
    mov cr3, rax
    mov rax, [r12]
    test al, 0x10
    jnz user
    push [r12 + 40]
    popfq
    cmp al, {WRITE}
    je kernel_write
    ja kernel_exec
    mov al, [rbx]
    jmp kernel_done
kernel_write:
    mov byte ptr [rbx], 0xc3
    jmp kernel_done
kernel_exec:
    call rbx
kernel_done:
    push 2
    popfq
    jmp no_trap
user:
    and eax, 15
    shl eax, 5
    add eax, UCODE
    push 0x2b
    push USTACK
    push [r12 + 40]
    push 0x33
    push rax
    iretq
trapped:
    mov rax, qword ptr [log_next]
    cmp qword ptr [rax - 96], 0x81
    je no_trap
    mov rcx, [rax - 96]
    mov [r12 + 48], rcx
    mov rcx, [rax - 88]
    mov [r12 + 56], rcx
    mov rcx, [rax - 40]
    mov [r12 + 40], rcx
    jmp advance
no_trap:
    mov qword ptr [r12 + 48], -1
advance:
    add r12, 64
    jmp next_probe
done:
    mov rcx, 0xc0000080
    mov eax, {EFER | EFER_NXE}
    xor edx, edx
    wrmsr
    mov eax, {CR4}
    mov cr4, rax
    mov eax, {CR0}
    mov cr0, rax
    FINISH
"""
_USER = """
    mov al, [rbx]
    int 0x81
    .org 32
    mov byte ptr [rbx], 0xc3
    int 0x81
    .org 64
    call rbx
    int 0x81
"""


@dataclass(frozen=True)
class Probe:
    """One access: READ, WRITE or EXEC, at CPL 0 or 3, with what governs it."""

    kind: int
    va: int
    user: bool
    wp: bool = True
    smep: bool = False
    smap: bool = False
    ac: bool = False
    nxe: bool = True

    def record(self) -> bytes:
        return PROBE.pack(
            self.kind | (0x10 if self.user else 0), self.va, CR0 if self.wp else CR0 & ~CR0_WP,
            CR4 | (CR4_SMEP if self.smep else 0) | (CR4_SMAP if self.smap else 0), EFER | (EFER_NXE if self.nxe else 0),
            2 | (AC if self.ac else 0), 0, 0,
        )  # fmt: skip


def expected(probe: Probe, entries: list[int], reserved: bool = False) -> tuple[int, int] | None:
    """Section 4.6 and 4.7 of SDM volume 3: None, or the vector and error code. `entries`: PML4E first."""
    error = (2 if probe.kind == WRITE else 0) | (4 if probe.user else 0)
    if probe.kind == EXEC and (probe.nxe or probe.smep):
        error |= 16
    for entry in entries:
        if not entry & P:
            return PF, error
        if reserved and entry is entries[-1]:
            return PF, error | 9
        if entry & NX and not probe.nxe:
            return PF, error | 9
    writable = all(entry & W for entry in entries)
    user_page = all(entry & U for entry in entries)
    executable = not any(entry & NX for entry in entries)
    if probe.user:
        allowed = user_page and (probe.kind != WRITE or writable) and (probe.kind != EXEC or executable)
    elif probe.kind == EXEC:
        allowed = executable and not (user_page and probe.smep)
    else:
        allowed = (probe.kind != WRITE or writable or not probe.wp) and not (user_page and probe.smap and not probe.ac)
    return None if allowed else (PF, error | 1)


def run_probes(
    run: Run, probes: list[Probe], tables: PageTables, memory: dict[int, bytes]
) -> list[tuple[int, int, int] | None]:
    """Vector, error code and CR2 of each, or None."""
    table = b"".join(probe.record() for probe in probes) + b"\xff" * 64
    guest = Guest(
        _RUNNER, _USER, policies=dict.fromkeys(range(256), RESUME), tables=tables, memory=memory | {PROBES: table}
    )
    kept = system_guest.KEPT
    system_guest.KEPT = (*kept, (PROBES, len(table)))
    qemu.KEPT = system_guest.KEPT
    try:
        outcome = run(guest)
    finally:
        system_guest.KEPT = qemu.KEPT = kept
    data = outcome.memory[PROBES]
    found: list[tuple[int, int, int] | None] = []
    for i in range(len(probes)):
        fields = PROBE.unpack_from(data, i * 64)
        found.append(None if fields[6] == 2**64 - 1 else (fields[6], fields[7], fields[5]))
    return found


def compare(
    run: Run, probes: list[Probe], wanted: list[tuple[int, int] | None], tables: PageTables, memory: dict[int, bytes]
) -> None:
    found = run_probes(run, probes, tables, memory)
    wrong: list[str] = []
    for probe, got, want in zip(probes, found, wanted, strict=True):
        if run is qemu.run and want is not None and want[1] & 8:
            want = want[0], want[1] & ~1  # QEMU 7.2 leaves P out; SDM vol. 3, 4.7: RSVD is set only if P is
        if (got[:2] if got else None) != want or (got is not None and got[0] == PF and got[2] != probe.va):
            wrong.append(f"{probe}: {got}, expected {want}")
    assert not wrong, f"{len(wrong)} of {len(probes)} differ:\n" + "\n".join(wrong[:20])


BITS = [sum(bits) for bits in itertools.product((0, P), (0, W), (0, U), (0, NX))]
ALL = P | W | U


def variants(levels: int) -> Iterator[list[int]]:
    """Flags of the upper entries: all permissive, and each with each single bit changed."""
    yield [ALL] * levels
    for level, bit in itertools.product(range(levels), (P, W, U, NX)):
        flags = [ALL] * levels
        flags[level] ^= bit
        yield flags


def governed() -> Iterator[dict[str, bool]]:
    """Every combination that makes a difference of CPL, WP, SMEP, SMAP and AC."""
    for user, wp, smep, smap, ac in itertools.product((False, True), repeat=5):
        if (ac and not smap) or (user and (smep or smap or not wp)):
            continue
        yield {"user": user, "wp": wp, "smep": smep, "smap": smap, "ac": ac}


@pytest.mark.parametrize(("level", "size"), [(0, 1 << 12), (1, 1 << 21), (2, 1 << 30)], ids=["4K", "2M", "1G"])
def test_permissions(machine: Run, level: int, size: int) -> None:
    """All combinations of P, W, U, NX in the leaf, single changes above it, and everything that governs access."""
    tables = PageTables()
    pages: list[tuple[int, list[int]]] = []
    memory = {PAGES: b"\xc3" * 64}
    base = 0 if level == 2 else PAGES
    for i, upper in enumerate(variants(3 - level)):
        for k, bits in enumerate(BITS):
            va = (16 + i) << 39 | k << (12 + 9 * level) | (PAGES if level == 2 else 0)
            leaf = base | bits | A | D | (PS if level else 0)
            # build the path by hand: each entry has its own flags
            for at, flags in zip(range(3, level, -1), upper, strict=True):
                slot = tables.slot(va, at)
                index = (slot & 0xFFF) // 8
                table = slot & ~0xFFF
                entry = tables.entry(table, index)
                address = entry & 0xFFFFFFFFFF000 or tables.new_table()
                tables.set_entry(table, index, address | flags | A)
            tables.map(va, leaf, level)
            if not va >> 47 & 1:
                pages.append((va, [*upper, leaf]))
    probes: list[Probe] = []
    wanted: list[tuple[int, int] | None] = []
    for (va, entries), kind, how in itertools.product(pages, (READ, WRITE, EXEC), governed()):
        probe = Probe(kind, va + (8 if kind != EXEC else 0), **how)
        probes.append(probe)
        wanted.append(expected(probe, entries))
    compare(machine, probes, wanted, tables, memory)


def test_no_nxe(machine: Run) -> None:
    """With EFER.NXE = 0 bit 63 is reserved, and fetches have no I/D bit in the error code unless SMEP is on."""
    tables = PageTables()
    pages: list[tuple[int, list[int]]] = []
    for k, (bits, in_pde) in enumerate(itertools.product(BITS, (False, True))):
        va = 16 << 39 | k << 21
        pde = ALL | A | (NX if in_pde else 0)
        slot = tables.slot(va, 1)
        tables.set_entry(slot & ~0xFFF, (slot & 0xFFF) // 8, tables.new_table() | pde)
        tables.map(va, PAGES | bits | A | D)
        pages.append((va, [ALL, ALL, pde, PAGES | bits]))
    probes = [
        Probe(kind, va, user, smep=smep, nxe=False)
        for (va, _), kind, user, smep in itertools.product(pages, (READ, WRITE, EXEC), (False, True), (False, True))
        if not (user and smep)
    ]
    by_va = dict(pages)
    wanted = [expected(probe, by_va[probe.va]) for probe in probes]
    compare(machine, probes, wanted, tables, {PAGES: b"\xc3"})


def test_reserved_bits(machine: Run) -> None:
    """Address bits beyond MAXPHYADDR (40), PS where there is no page of that size, low address bits of large pages."""
    tables = PageTables()
    cases: list[tuple[int, list[int]]] = []
    number = 0

    def add(level: int, entry: int) -> None:
        nonlocal number
        va = (16 + level) << 39 | number << (12 + 9 * min(level, 2)) if level < 3 else (64 + number) << 39
        number += 1
        tables.map(va, entry, level)
        cases.append((va, [ALL] * (3 - level) + [entry]))

    leaf = ALL | A | D
    for bit in range(40, 52):
        add(0, PAGES | leaf | 1 << bit)
        add(1, PAGES | leaf | PS | 1 << bit)
        add(2, leaf | PS | 1 << bit)
        add(3, TABLES + 0x1000 | leaf | 1 << bit)
        add(1, TABLES + 0x1000 | leaf | 1 << bit)
    for bit in range(13, 21):
        add(1, PAGES | leaf | PS | 1 << bit)
    for bit in range(13, 30):
        add(2, leaf | PS | 1 << bit)
    add(3, TABLES + 0x1000 | leaf | PS)
    probes = [
        Probe(kind, va, user) for (va, _), kind, user in itertools.product(cases, (READ, WRITE, EXEC), (False, True))
    ]
    by_va = dict(cases)
    wanted = [expected(probe, by_va[probe.va], reserved=True) for probe in probes]
    compare(machine, probes, wanted, tables, {PAGES: b"\xc3"})


def test_reserved_bits_of_non_present_entries_are_free(machine: Run) -> None:
    tables = PageTables()
    tables.map(16 << 39, 0x7FFF_FFFF_FFFF_FFFE)
    probes = [Probe(READ, 16 << 39, False), Probe(WRITE, 16 << 39, True)]
    compare(machine, probes, [(PF, 0), (PF, 6)], tables, {})


def test_non_canonical(machine: Run) -> None:
    probes = [
        Probe(kind, va, user)
        for kind in (READ, WRITE)
        for va in (1 << 47, (1 << 64) - (1 << 47) - 1)
        for user in (False, True)
    ]
    compare(machine, probes, [(GP, 0)] * len(probes), PageTables(), {})


@pytest.mark.parametrize(("level", "size"), [(0, 1 << 12), (1, 1 << 21), (2, 1 << 30)], ids=["4K", "2M", "1G"])
def test_accessed_and_dirty(machine: Run, level: int, size: int) -> None:
    """A in every entry used, by any access; D in the leaf only, by writes only; nothing else changes."""
    accesses = {
        "mov al, [rbx]": A, "mov [rbx], al": A | D, "add [rbx], al": A | D, "cmp [rbx], al": A, "call rbx": A,
        "xchg [rbx], al": A | D, "lock cmpxchg [rbx], cl": A | D, "cmpxchg16b [rbx]": A | D, "prefetcht0 [rbx]": 0, "lea rax, [rbx]": 0,
        "mov rdi, rbx\n stosb": A | D, "mov rsi, rbx\n lodsb": A, "mov rsi, rbx\n mov rdi, rbx\n cmpsb": A, "mov rdi, rbx\n xor ecx, ecx\n rep stosb": 0,
        "fld qword ptr [rbx]": A, "fst qword ptr [rbx]": A | D, "movaps xmm0, [rbx]": A, "movups [rbx], xmm0": A | D, "invlpg [rbx]": 0,
        "bt dword ptr [rbx], 1": A, "bts dword ptr [rbx], 1": A | D, "xadd [rbx], al": A | D,
    }  # fmt: skip
    tables = PageTables()
    text = "fninit\n fld1\n"
    slots: list[list[int]] = []
    offset = PAGES if level == 2 else 0
    for i, access in enumerate(accesses):
        va = (16 + i) << 39 | offset
        tables.map(va, (0 if level == 2 else PAGES) | ALL | (PS if level else 0), level, ALL)
        slots.append([tables.slot(va, at) for at in range(3, level - 1, -1)])
        text += f"mov rbx, {va}\n {access}\n"
    for i, path in enumerate(slots):
        for k, slot in enumerate(path):
            text += f"mov rax, [{slot}]\n mov [DATA + {i * 32 + k * 8}], rax\n"
    outcome = machine(Guest(text + "FINISH", tables=tables, memory={PAGES: b"\xc3" * 64}))
    wrong: list[str] = []
    for i, (access, bits) in enumerate(accesses.items()):
        for k, slot in enumerate(slots[i]):
            leaf = k == len(slots[i]) - 1
            before = struct.unpack_from("<Q", tables.memory, slot - TABLES)[0]
            wanted = before | (bits if leaf else bits & A)
            got = outcome.u64(DATA + i * 32 + k * 8)
            if got != wanted:
                wrong.append(f"{access!r} level {3 - k}: {got:#x}, expected {wanted:#x}")
    assert not wrong, "\n".join(wrong)


def test_faults_set_no_dirty_bit(machine: Run) -> None:
    tables = PageTables()
    tables.map(16 << 39, PAGES | P | U)
    slot = tables.slot(16 << 39, 0)
    outcome = machine(
        Guest(
            f"mov rbx, {16 << 39}\n RESUME_AT one\n mov [rbx], al\n one: RESUME_AT two\n add [rbx], al\n two: mov rax, [{slot}]\n mov [DATA], rax\n FINISH",
            tables=tables, policies={PF: RESUME},
        )
    )  # fmt: skip
    assert [(t.vector, t.error) for t in outcome.traps] == [(PF, 3)] * 2 or machine is qemu.run
    assert not outcome.u64(DATA) & D


def test_write_without_wp_sets_dirty(machine: Run) -> None:
    """CR0.WP = 0: a supervisor writes a read-only page, and D is set."""
    tables = PageTables()
    tables.map(16 << 39, PAGES | P)
    slot = tables.slot(16 << 39, 0)
    outcome = machine(
        Guest(
            f"mov rbx, {16 << 39}\n mov [rbx], al\n mov rax, [{slot}]\n mov [DATA], rax\n FINISH",
            tables=tables,
            cr0=CR0 & ~CR0_WP,
        )
    )
    assert outcome.u64(DATA) == PAGES | P | A | D


def test_clearing_dirty_and_invlpg(machine: Run) -> None:
    """After A and D are cleared and the page invalidated, they are set again by the next access."""
    tables = PageTables()
    tables.map(16 << 39, PAGES | ALL)
    slot = tables.slot(16 << 39, 0)
    text = f"mov rbx, {16 << 39}\n"
    for i, access in enumerate(("mov [rbx], al", "mov al, [rbx]", "mov [rbx], al")):
        text += f"and qword ptr [{slot}], {~(A | D)}\n invlpg [rbx]\n {access}\n mov rax, [{slot}]\n mov [DATA + {8 * i}], rax\n"
    outcome = machine(Guest(text + "FINISH", tables=tables))
    assert [outcome.u64(DATA + 8 * i) & (A | D) for i in range(3)] == [A | D, A, A | D]


def test_remapping(machine: Run) -> None:
    """A changed mapping takes effect after INVLPG, a CR3 load, or for a global page a toggle of CR4.PGE."""
    va = 16 << 39
    pages = {PAGES + i * 0x1000: bytes([0x10 + i]) * 8 for i in range(4)}
    tables = PageTables()
    tables.map(va, PAGES | ALL | A | D | G)
    slot = tables.slot(va, 0)

    def read(i: int) -> str:
        return f"movzx eax, byte ptr [rbx]\n mov [DATA + {8 * i}], rax\n"

    def remap(i: int) -> str:
        return f"mov rax, {PAGES + i * 0x1000 | ALL | A | D | G}\n mov [{slot}], rax\n"

    text = f"mov rbx, {va}\n" + read(0)
    text += remap(1) + "invlpg [rbx]\n" + read(1)
    text += (
        remap(2) + f"mov rax, cr4\n xor rax, {CR4_PGE}\n mov cr4, rax\n xor rax, {CR4_PGE}\n mov cr4, rax\n" + read(2)
    )
    text += (
        f"mov rax, cr4\n and rax, {~CR4_PGE}\n mov cr4, rax\n" + remap(3) + "mov rax, cr3\n mov cr3, rax\n" + read(3)
    )
    outcome = machine(Guest(text + "FINISH", tables=tables, memory=pages, cr4=CR4 | CR4_PGE))
    assert [outcome.u64(DATA + 8 * i) for i in range(4)] == [0x10, 0x11, 0x12, 0x13]


def test_switching_address_spaces(machine: Run) -> None:
    """Two roots map one address to different pages; writes go where the current one says."""
    va = 16 << 39
    tables = PageTables()
    tables.map(va, PAGES | ALL)
    second = tables.new_table()
    other = tables.new_table()
    # the second root shares the kernel's part (PML4E 0) and has a path of its own for va
    pdpt, pd = tables.new_table(), tables.new_table()
    tables.set_entry(second, 16, pdpt | ALL)
    tables.set_entry(pdpt, 0, pd | ALL)
    tables.set_entry(pd, 0, other | ALL)
    tables.set_entry(other, 0, PAGES + 0x1000 | ALL)
    text = f"""
        mov rax, [{TABLES}]
        mov [{second}], rax
        mov rbx, {va}
        mov rcx, {TABLES}
        mov rdx, {second}
        mov byte ptr [rbx], 1
        mov cr3, rdx
        mov byte ptr [rbx + 1], 2
        mov cr3, rcx
        mov byte ptr [rbx + 2], 3
        mov cr3, rdx
        mov byte ptr [rbx + 3], 4
        mov eax, [{PAGES}]
        mov [DATA], rax
        mov eax, [{PAGES + 0x1000}]
        mov [DATA + 8], rax
        mov rax, cr3
        mov [DATA + 16], rax
        FINISH
    """
    outcome = machine(Guest(text, tables=tables))
    assert (outcome.u64(DATA), outcome.u64(DATA + 8)) == (0x00030001, 0x04000200)
    assert outcome.u64(DATA + 16) == second


def test_self_mapped_tables(machine: Run) -> None:
    """Writing page tables through the mapping that they define (a recursive PML4 entry)."""
    tables = PageTables()
    tables.map(16 << 39, PAGES | ALL)
    tables.set_entry(TABLES, 256, TABLES | P | W)
    # the PTE of va through PML4 slot 256: indices 256, 16, 0, 0
    pte = 0xFFFF << 48 | 256 << 39 | 16 << 30
    text = f"""
        mov rbx, {16 << 39}
        mov byte ptr [rbx], 7
        mov rdi, {pte}
        add qword ptr [rdi], 0x1000
        invlpg [rbx]
        mov byte ptr [rbx], 9
        movzx eax, byte ptr [{PAGES}]
        mov [DATA], rax
        movzx eax, byte ptr [{PAGES + 0x1000}]
        mov [DATA + 8], rax
        mov rax, [rdi]
        mov [DATA + 16], rax
        FINISH
    """
    outcome = machine(Guest(text, tables=tables))
    assert (outcome.u64(DATA), outcome.u64(DATA + 8)) == (7, 9)
    assert outcome.u64(DATA + 16) == PAGES + 0x1000 | ALL | A | D


# ---- accesses that cross a page -------------------------------------------------------------------------------------------


def crossing_tables(second: int) -> tuple[PageTables, int]:
    """Two pages at 16 << 39; the first writable at PAGES, the second with entry `second`."""
    tables = PageTables()
    va = 16 << 39
    tables.map(va, PAGES | ALL | A | D)
    tables.map(va + 0x1000, second)
    return tables, va


CROSSING = {
    "mov [rbx], rax": 2, "add [rbx], rax": 2, "xchg [rbx], rax": 2, "lock xadd [rbx], rax": 2, "cmpxchg [rbx], rcx": 2, "inc qword ptr [rbx]": 2,
    "not dword ptr [rbx + 3]": 2, "shl qword ptr [rbx], 3": 2, "rcr word ptr [rbx + 5], 1": 2, "shld [rbx], rax, 5": 2, "bts qword ptr [rbx], 3": 2,
    "movups [rbx - 4], xmm0": 2, "movlps [rbx], xmm0": 2, "movq [rbx], mm0": 2, "movbe [rbx], rax": 2, "movnti [rbx], rax": 2,
    "fstp tbyte ptr [rbx]": 2, "fst qword ptr [rbx]": 2, "fistp qword ptr [rbx]": 2, "fbstp [rbx]": 2, "fnsave [rbx - 0x20]": 2,
    "fnstenv [rbx - 8]": 2, "fnstcw [rbx + 5]": 2, "sgdt [rbx]": 2, "pextrd dword ptr [rbx + 3], xmm0, 1": 2, "cmpxchg8b [rbx]": 2,
    "lea rsp, [rbx + 8]\n push rax": 2, "lea rsp, [rbx + 8]\n call .": 2, "lea rsp, [rbx + 8]\n pushfq": 2, "lea rsp, [rbx + 8]\n enter 8, 0": 2,
    "mov rdi, rbx\n stosq": 2, "lea rsi, [DATA]\n mov rdi, rbx\n movsq": 2, "lea rsp, [DATA + 64]\n pop [rbx]": 2,
    "mov rax, [rbx]": 0, "add rax, [rbx]": 0, "movups xmm1, [rbx - 4]": 0, "fld tbyte ptr [rbx]": 0, "fild qword ptr [rbx]": 0, "fldenv [rbx - 8]": 0,
    "frstor [rbx - 0x20]": 0, "mov rsp, rbx\n pop rax": 0, "mov rsp, rbx\n ret": 0, "mov rsp, rbx\n popfq": 0, "mov rbp, rbx\n leave": 0,
    "mov rsi, rbx\n lodsq": 0, "mov rsi, rbx\n mov rdi, rbx\n cmpsq": 0, "mov rdi, rbx\n scasq": 0, "lgdt [rbx]": 0, "lidt [rbx]": 0,
    "jmp [rbx]": 0, "lss eax, [rbx + 1]": 0, "mul qword ptr [rbx]": 0, "div qword ptr [rbx]": 0, "cmova rax, [rbx]": 0, "xlatb": None,
    "bt qword ptr [rbx], 3": 0, "cvtpi2pd xmm1, [rbx]": 0, "cvtsd2si rax, [rbx]": 0, "pshufw mm1, [rbx], 1": 0, "ldmxcsr [rbx + 3]": 0,
    "mov rsp, rbx\n iretq": 0, "mov rsp, rbx\n .byte 0x48, 0xcb": 0, "push [rbx]": 0, "outsd": None,
}  # fmt: skip


@pytest.mark.parametrize("second", [0, PAGES + 0x1000 | P | U], ids=["not present", "read-only"])
def test_fault_on_the_second_page_commits_nothing(second: int) -> None:
    """Registers, flags, x87, XMM and the first page stay as they were; CR2 is the first byte of the second page."""
    wrong: list[str] = []
    for text, direction in CROSSING.items():
        if direction is None or (second and not direction):
            continue
        tables, va = crossing_tables(second)
        *setup, instruction = text.split("\n")
        guest = Guest(
            f"""
            fninit
            fld1
            fldpi
            mov rbx, {va + 0xFFA}
            mov rax, 0x1122334455667788
            mov rcx, 0x5544332211
            movq xmm0, rax
            pinsrq xmm0, rcx, 1
            {"movq mm0, rax" if "mm0" in text and "xmm0" not in text else ""}
            stc
            {"; ".join(setup)}
            {instruction}
            hlt
            """,
            tables=tables,
            memory={PAGES: bytes(range(256)) * 32},
            gates={PF: system_guest.gate(system_guest.stub(PF), ist=1)},
        )
        vm = system_guest.start(guest)
        # up to the instruction under test
        before = vm.registers()
        for _ in range(40):
            before = vm.registers()
            snapshot = vm.snapshot()
            vm.step()
            if (
                vm.read_memory(system_guest.VARS + 24, 8) != struct.pack("<Q", system_guest.LOG)
                or vm.registers().rip < CODE
            ):
                break
        vm.restore(snapshot)
        memory = vm.read_memory(PAGES, 0x2000)
        vm.run(instret=vm.instret + 1)
        after = vm.registers()
        if after.rip >= CODE:
            wrong.append(f"{text!r}: no fault")
            continue
        trap_frame = struct.unpack("<6Q", vm.read_memory(after.rsp, 48))
        same = {
            name: (getattr(before, name), getattr(after, name))
            for name in ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "st", "fsw", "fcw", "ftw", "xmm", "mxcsr", "gdtr", "idtr", "cs", "ds")
        }  # fmt: skip
        changed = [name for name, (a, b) in same.items() if a != b]
        error = direction | (1 if second else 0)
        if (
            after.cr2 != va + 0x1000
            or trap_frame[0] != error
            or trap_frame[1] != before.rip
            or trap_frame[4] != before.rsp
        ):
            changed.append(f"fault: cr2 {after.cr2:#x}, frame {[hex(v) for v in trap_frame]}")
        if (trap_frame[3] ^ before.rflags) & ~0x10000:
            changed.append(f"flags {before.rflags:#x} -> {trap_frame[3]:#x}")
        if vm.read_memory(PAGES, 0x2000) != memory:
            changed.append("memory")
        if changed:
            wrong.append(f"{text!r}: {', '.join(changed)}")
    assert not wrong, "\n".join(wrong)


def test_fetch_crossing_into_a_missing_page(machine: Run) -> None:
    """An instruction half in a missing page: CR2 is the second page, RIP the instruction."""
    tables, va = crossing_tables(0)
    code = bytes.fromhex("48b88877665544332211")  # mov rax, imm64
    outcome = machine(
        Guest(
            f"RESUME_AT last\n mov eax, 5\n mov rbx, {va + 0xFFC}\n jmp rbx\n last: FINISH",
            tables=tables, memory={PAGES + 0xFFC: code[:4]}, policies={PF: RESUME},
        )
    )  # fmt: skip
    (trap,) = outcome.traps
    assert (trap.vector, trap.error, trap.cr2, trap.rip) == (PF, 0x10, va + 0x1000, va + 0xFFC)
    assert outcome.gpr["rax"] == 5


@pytest.mark.parametrize(
    "instruction", ["rep stosb", "rep movsb", "rep stosq", "rep movsd", "repe cmpsb", "repne scasw", "rep lodsd"]
)
def test_rep_stops_at_the_fault(machine: Run, instruction: str) -> None:
    """Iterations before the fault are done and counted in RCX, RSI and RDI; the frame points at the instruction."""
    tables, va = crossing_tables(0)
    size = {"b": 1, "w": 2, "d": 4, "q": 8}[instruction[-1]]
    done = 24 // size
    outcome = machine(
        Guest(
            f"""
            RESUME_AT last
            mov rdi, {va + 0x1000 - 24}
            mov rsi, {va + 0x1000 - 24}
            mov ecx, 100
            mov eax, 0x61616161
            cld
            {instruction}
            last: FINISH
            """,
            tables=tables, memory={PAGES + 0xFE8: b"\x11" * 24}, policies={PF: RESUME},
        )
    )  # fmt: skip
    (trap,) = outcome.traps
    assert (trap.vector, trap.cr2) == (PF, va + 0x1000)
    assert outcome.gpr["rcx"] == 100 - done
    if "lods" not in instruction:
        assert outcome.gpr["rdi"] == va + 0x1000
    if "stos" not in instruction and "scas" not in instruction:
        assert outcome.gpr["rsi"] == va + 0x1000


def test_rep_is_restarted_by_the_handler(machine: Run) -> None:
    """A handler that maps the page and returns: the instruction completes as if nothing had happened."""
    tables, va = crossing_tables(0)
    slot = tables.slot(va + 0x1000, 0)
    outcome = machine(
        Guest(
            f"""
            mov rdi, {va + 0xF00}
            mov ecx, 0x200
            mov al, 0x77
            rep stosb
            mov [DATA], rcx
            mov [DATA + 8], rdi
            mov al, [{PAGES + 0x10FF}]
            mov [DATA + 16], al
            mov al, [{PAGES + 0x1100}]
            mov [DATA + 17], al
            FINISH
            .org 0x800
            push rax
            mov rax, {PAGES + 0x1000 | ALL}
            mov [{slot}], rax
            pop rax
            add rsp, 8
            iretq
            """,
            tables=tables, gates={PF: system_guest.gate(CODE + 0x800)},
        )
    )  # fmt: skip
    assert (outcome.u64(DATA), outcome.u64(DATA + 8)) == (0, va + 0x1100)
    assert outcome.u64(DATA + 16) & 0xFFFF == 0x0077


def test_user_code_of_the_runner_is_where_it_should_be() -> None:
    assert UCODE & 0x1F == 0
