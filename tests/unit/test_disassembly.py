"""chaoscontrol.symbols.disassembly: text, names, bytes that are no instruction, and looking back."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from chaoscontrol import Symbol, SymbolTable
from chaoscontrol.symbols.disassembly import Disassembler
from chaoscontrol.symbols.space import PhysicalMemory

CODE = bytes.fromhex("55 4889e5 e8f7000000 488b05f1000000 7402 c9 c3 c3".replace(" ", ""))
"""push; mov; call +0xf7; mov rax, [rip + 0xf1]; je +2; leave; ret; ret."""
TABLE = SymbolTable([Symbol("f", 0x1000, len(CODE)), Symbol("g", 0x1100, 4), Symbol("counter", 0x1104, 8, False)])


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_memory(self, address: int, size: int) -> bytes:
        return self.data[address : address + size]


def memory(code: bytes, at: int = 0x1000) -> PhysicalMemory:
    pages = at + 4096
    return PhysicalMemory(Bytes((bytes(at) + code).ljust(pages, b"\0")), pages)


def test_branches_and_rip_relative_operands_have_names() -> None:
    assert [i.text for i in Disassembler(TABLE.name).at(memory(CODE), 0x1000, 6)] == [
        "push rbp",
        "mov rbp, rsp",
        "call 0x1100 <g>",
        "mov rax, qword ptr [rip + 0xf1]  # 0x1101 <g+0x1>",
        "je 0x1014 <f+0x14>",
        "leave",
    ]


def test_att_syntax() -> None:
    assert [i.text for i in Disassembler(TABLE.name, att=True).at(memory(CODE), 0x1000, 3)] == [
        "pushq %rbp",
        "movq %rsp, %rbp",
        "callq 0x1100 <g>",
    ]


def test_bytes_that_are_no_instruction_take_a_line_each() -> None:
    found = list(Disassembler().decode(b"\x90\x06\x90\xe8\x00", 0))
    assert [(i.address, i.mnemonic) for i in found] == [
        (0, "nop"),
        (1, "(bad)"),
        (2, "nop"),
        (3, "(bad)"),
        (4, "(bad)"),
    ]


def test_instructions_before_an_address_start_at_the_function() -> None:
    shown = Disassembler().before(memory(CODE), 0x1009, 2, TABLE)
    assert [i.mnemonic for i in shown] == ["mov", "call"]
    assert [i.address for i in Disassembler().before(memory(b"\x90" * 64), 0x1020, 3)] == [0x101D, 0x101E, 0x101F]
    assert Disassembler().before(memory(CODE), 0, 3) == []


@given(st.binary(max_size=64))
def test_every_byte_is_in_one_instruction(data: bytes) -> None:
    found = list(Disassembler().decode(data, 0x2000))
    assert b"".join(i.data for i in found) == data
    assert all(a.end == b.address for a, b in itertools.pairwise(found))
