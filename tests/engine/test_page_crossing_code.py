"""Instructions that continue on the next page: executed from a cached form, as if they were fetched every time.

The code pages are 0x80_0000_0000 (first) and the one behind it (second), each mapped to physical pages of its own, so that
a test can write to either and map another second page.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
import system_guest
from flat_guests import assemble
from system_guest import DATA, EFER, EFER_NXE, NX, PAGES, RESUME, A, Guest, Outcome, P, PageTables, W

from chaoscontrol.machine import StopKind

Run = Callable[[Guest], Outcome]
PF = 14
FIRST, SECOND = 0x8000000000, 0x8000001000
ONE, TWO, OTHER = PAGES, PAGES + 0x1000, PAGES + 0x2000
"""Physical pages: the first one, the second one, and another second one."""


def place(code: bytes, before: int, pages: tuple[int, int] = (ONE, TWO)) -> dict[int, bytes]:
    """Memory for code that starts `before` bytes in front of the second page."""
    return {pages[0] + 0x1000 - before: code[:before], pages[1]: code[before:]}


def tables(second: int = TWO | P | W | A) -> tuple[PageTables, int]:
    """Both pages mapped; and where the second one's entry is."""
    made = PageTables()
    made.map(FIRST, ONE | P | W | A)
    return made, made.map(SECOND, second)


@pytest.mark.parametrize("before", range(1, 10))
def test_self_modifying_code_on_either_page(machine: Run, before: int) -> None:
    """A MOV of ten bytes, split everywhere; each byte of its immediate is changed in turn, and each time it is executed."""
    code = assemble("movabs rax, 0x1122334455667788\n ret")
    kernel = f"mov edi, DATA\n mov rbx, {SECOND - before}\n call rbx\n stosq\n"
    kernel += "".join(f"mov byte ptr [rbx + {2 + i}], {0xA0 + i}\n call rbx\n stosq\n" for i in range(8))
    # and the opcode: MOV to RDX, with REX.WB to R10, back
    kernel += "mov byte ptr [rbx + 1], 0xba\n xor edx, edx\n call rbx\n mov rax, rdx\n stosq\n"
    kernel += "mov byte ptr [rbx], 0x49\n xor r10d, r10d\n call rbx\n mov rax, r10\n stosq\n FINISH"
    made, _ = tables()
    outcome = machine(Guest(kernel, tables=made, memory=place(code, before)))
    value = bytearray(struct.pack("<Q", 0x1122334455667788))
    wanted = [bytes(value)]
    for i in range(8):
        value[i] = 0xA0 + i
        wanted.append(bytes(value))
    wanted += [wanted[-1]] * 2
    assert outcome.memory[DATA][: 8 * len(wanted)] == b"".join(wanted)


def test_code_written_through_another_mapping(machine: Run) -> None:
    """The physical page counts: writes come by the identity map; a whole page is cleared and written again."""
    code = assemble("mov eax, 0x11223344\n ret")
    kernel = f"""
        mov rbx, {SECOND - 3}
        call rbx
        mov r8d, eax
        mov word ptr [{TWO}], 0x5566
        call rbx
        mov r9d, eax
        mov edi, {TWO}
        mov ecx, 512
        xor eax, eax
        rep stosq
        mov dword ptr [{TWO}], 0xc37788
        call rbx
        mov r10d, eax
        mov byte ptr [{ONE + 0xFFE}], 0x99
        call rbx
        FINISH
    """
    made, _ = tables()
    gpr = machine(Guest(kernel, tables=made, memory=place(code, 3))).gpr
    assert [gpr[r] for r in ("r8", "r9", "r10", "rax")] == [0x11223344, 0x55663344, 0x77883344, 0x77883399]


def remap(entry: int, value: int) -> str:
    return f"mov rax, {value}\n mov qword ptr [{entry}], rax\n mov rax, {SECOND}\n invlpg [rax]\n"


def test_another_second_page(machine: Run) -> None:
    """Mapped behind the first one; reached by a branch within the first page, which no translation guards."""
    made, entry = tables()
    start = assemble(".org 0xf00\n mov ecx, 100\nloop:\n jmp tail\n .org 0xffd\ntail:\n mov eax, 0x11223344")
    memory = {
        ONE: start[:0x1000],
        TWO: start[0x1000:] + b"\xc3",
        OTHER: b"\x66\x55\xc3",
        PAGES + 0x3000: b"\x88\x77\xc3",
    }
    kernel = f"mov rbx, {FIRST + 0xF00}\n mov edi, DATA\n call rbx\n stosq\n"
    for page in (OTHER, TWO, PAGES + 0x3000, OTHER):
        kernel += remap(entry, page | P | W) + "call rbx\n stosq\n call rbx\n stosq\n"
    outcome = machine(Guest(kernel + "FINISH", tables=made, memory=memory))
    found = struct.unpack_from("<9Q", outcome.memory[DATA])
    assert found == (0x11223344, *[0x55663344] * 2, *[0x11223344] * 2, *[0x77883344] * 2, *[0x55663344] * 2)


@pytest.mark.parametrize(("value", "error"), [(0, 0x10), (TWO | P | W | NX, 0x11)])
def test_a_second_page_that_cannot_be_fetched(machine: Run, value: int, error: int) -> None:
    """#PF at the instruction, with the second page's address; mapped again, it goes on."""
    made, entry = tables()
    kernel = f"""
        mov rbx, {SECOND - 2}
        call rbx
        {remap(entry, value)}
        RESUME_AT faulted
        call rbx
    faulted:
        {remap(entry, OTHER | P | W)}
        call rbx
        FINISH
    """
    memory = place(assemble("mov eax, 0x11223344\n ret"), 2) | {OTHER: b"\x77\x88\x99\xc3"}
    outcome = machine(Guest(kernel, tables=made, memory=memory, policies={PF: RESUME}, efer=EFER | EFER_NXE))
    (trap,) = outcome.traps
    assert (trap.vector, trap.error, trap.rip, trap.cr2) == (PF, error, SECOND - 2, SECOND)
    assert outcome.gpr["rax"] == 0x99887744


def test_the_accessed_bit_of_the_second_page(machine: Run) -> None:
    """Cleared by the guest, it is set again by the next execution."""
    made, entry = tables()
    kernel = f"mov rbx, {SECOND - 2}\n call rbx\n call rbx\n {remap(entry, TWO | P | W)} mov rsi, [{entry}]\n call rbx\n mov rdx, [{entry}]\n FINISH"
    gpr = machine(Guest(kernel, tables=made, memory=place(assemble("mov eax, 0x11223344\n ret"), 2))).gpr
    assert gpr["rsi"] == TWO | P | W
    assert gpr["rdx"] == TWO | P | W | A


def test_another_root(machine: Run) -> None:
    """CR3 leads to tables with another second page."""
    made, _ = tables()
    made.slot(0, 1)  # the identity map's tables
    root, top, middle, leaf = (made.new_table() for _ in range(4))
    for table, index, entry in (
        (root, 0, made.entry(made.base, 0)), (root, FIRST >> 39 & 511, top | P | W), (top, FIRST >> 30 & 511, middle | P | W),
        (middle, 0, leaf | P | W), (leaf, 0, ONE | P | W), (leaf, 1, OTHER | P | W),
    ):  # fmt: skip
        made.set_entry(table, index, entry)
    kernel = f"""
        mov rbx, {SECOND - 2}
        mov edi, DATA
        mov ecx, 3
    again:
        call rbx
        stosq
        mov eax, {root}
        mov cr3, rax
        call rbx
        stosq
        mov eax, {made.base}
        mov cr3, rax
        loop again
        FINISH
    """
    memory = place(assemble("mov eax, 0x11223344\n ret"), 2) | {OTHER: b"\x77\x88\x99\xc3"}
    outcome = machine(Guest(kernel, tables=made, memory=memory))
    assert struct.unpack_from("<6Q", outcome.memory[DATA]) == (0x11223344, 0x99887744) * 3


def test_both_pages_are_the_same_memory(machine: Run) -> None:
    """The instruction's end is at the start of the page that it begins in."""
    made, _ = tables(ONE | P | W)
    memory = place(assemble("mov eax, 0x11223344\n ret"), 3, (ONE, ONE))
    kernel = f"mov rbx, {SECOND - 3}\n call rbx\n mov r8d, eax\n mov byte ptr [{ONE}], 0x77\n call rbx\n mov r9d, eax\n mov byte ptr [rbx + 1], 0x88\n call rbx\n FINISH"
    gpr = machine(Guest(kernel, tables=made, memory=memory)).gpr
    assert (gpr["r8"], gpr["r9"], gpr["rax"]) == (0x11223344, 0x11773344, 0x11773388)


def test_an_instruction_that_overwrites_itself(machine: Run) -> None:
    """A store into its own bytes: it ends as it began, the next execution is of the new bytes."""
    code = assemble("mov dword ptr [rip + value], 0x55667788\n.equ value, . - 4\n inc ecx\n ret")
    made, _ = tables()
    for before in (3, 7, 9):
        # the immediate's first store writes itself; then it is changed from outside and stored again
        kernel = f"""
            mov rbx, {SECOND - before}
            call rbx
            mov r8, [rbx + 6]
            mov byte ptr [rbx + 9], 0x11
            call rbx
            mov r9, [rbx + 6]
            mov byte ptr [rbx + 10], 0x90
            mov byte ptr [rbx + 11], 0x90
            call rbx
            FINISH
        """
        gpr = machine(Guest(kernel, tables=made, memory=place(code, before))).gpr
        assert (gpr["r8"] & 0xFFFFFFFF, gpr["r9"] & 0xFFFFFFFF, gpr["rcx"]) == (0x55667788, 0x11667788, 2)


LOOP = """
    .org 0xf00
    mov ecx, 40
    mov edi, 0x180000
again:
    add rax, rcx
    .org 0xf40, 0x90
    jmp tail
    .org 0xffd - {back}
tail:
    {instruction}
    dec ecx
    .byte 0x0f, 0x85
    .long again - . - 4
    ret
"""


@pytest.mark.parametrize(
    "instruction",
    [
        "add rdx, 0x11223344",
        "cmp qword ptr [rdi], 0x11",
        "push rcx\n mov ecx, 5\n rep stosb\n pop rcx",
        "push qword ptr [rip]\n pop rbx",
        "call next\nnext: pop rbx",
    ],
)
@pytest.mark.parametrize("back", range(8))
def test_every_cut_of_a_run_is_exact(instruction: str, back: int) -> None:
    """In one go, one by one and with the smallest caches: the same states. Each instruction of the loop crosses once."""
    code = assemble(LOOP.format(instruction=instruction, back=back))
    made, _ = tables()
    guest = Guest(
        f"mov rbx, {FIRST + 0xF00}\n call rbx\n FINISH", tables=made, memory={ONE: code[:0x1000], TWO: code[0x1000:]}
    )
    whole = system_guest.start(guest)
    assert whole.run().kind is StopKind.HALTED
    end = whole.instret
    assert whole.registers().rip == system_guest.FINISH + 2
    for config in ({}, {"tlb_bits": 4, "code_cache_kib": 64}):
        vm = system_guest.start(guest, **config)
        step = 1
        while vm.instret < end:
            vm.run(instret=min(end, vm.instret + step))
            step = step % 5 + 1
        assert (vm.digest(), vm.registers()) == (whole.digest(), whole.registers())


def test_host_writes_and_restores_reach_it() -> None:
    made, _ = tables()
    kernel = f"mov rbx, {SECOND - 2}\nagain:\n call rbx\n mov edx, eax\n jmp again"
    guest = Guest(kernel, tables=made, memory=place(assemble("mov eax, 0x11223344\n ret"), 2))
    vm = system_guest.start(guest)
    vm.run(instret=1000)
    before = vm.snapshot()
    assert vm.registers().rdx == 0x11223344
    vm.write_memory(TWO + 1, b"\x55\x66")
    vm.run(instret=2000)
    assert vm.registers().rdx == 0x66553344
    vm.restore(before)
    vm.run(instret=2000)
    assert vm.registers().rdx == 0x11223344
