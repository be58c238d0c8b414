"""Instructions as text, with the names of what they lead to.

Capstone decodes; the engine's own decoder is not asked, so what is shown is a second opinion. Bytes that are no
instruction, or cannot be read, become one line each, and decoding goes on behind them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import capstone
from capstone import x86_const

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .space import Memory
    from .table import SymbolTable

INSTRUCTION_BYTES_MAX = 15
BACK_BYTES_MAX = 4096
"""How far before an address the start of its function may be, to decode from there."""
COUNT_MAX = 10_000


@dataclasses.dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, or a byte that is none (mnemonic `(bad)`)."""

    address: int
    data: bytes
    mnemonic: str
    operands: str
    target: int | None
    """Where a direct branch leads, or the address that a RIP-relative operand has."""
    target_name: str

    @property
    def text(self) -> str:
        """`call 0xffffffff810001f0 <schedule>`, `mov rax, qword ptr [rip + 0x10]  # 0x401020 <counter>`."""
        line = f"{self.mnemonic} {self.operands}".rstrip()
        if self.target is None:
            return line
        name = f"<{self.target_name}>" if self.target_name else ""
        if "rip" in self.operands:
            return f"{line}  # {self.target:#x} {name}".rstrip()
        return f"{line} {name}".rstrip()

    @property
    def end(self) -> int:
        return self.address + len(self.data)


def _no_name(_address: int) -> str:
    return ""


class Disassembler:
    """Decodes 64-bit code. `name` gives the name of an address or the empty string, as SymbolTable.name does."""

    def __init__(self, name: Callable[[int], str] | None = None, *, att: bool = False) -> None:
        self._name = name or _no_name
        self._engine: Any = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True
        if att:
            self._engine.syntax = capstone.CS_OPT_SYNTAX_ATT

    def decode(self, data: bytes, address: int) -> Iterator[Instruction]:
        """The instructions in `data`, which stands at `address`; an incomplete last one is `(bad)`."""
        at = 0
        while at < len(data):
            for raw in self._engine.disasm(data[at:], address + at):
                yield self._instruction(raw)
                at += raw.size
            if at < len(data):
                yield Instruction(address + at, data[at : at + 1], "(bad)", "", None, "")
                at += 1

    def at(self, memory: Memory, address: int, count: int = 16) -> list[Instruction]:
        """`count` instructions from an address on; fewer where memory ends."""
        count = min(count, COUNT_MAX)
        data = memory.read_up_to(address, count * INSTRUCTION_BYTES_MAX)
        found: list[Instruction] = []
        for instruction in self.decode(data, address):
            if len(found) == count:
                break
            found.append(instruction)
        return found

    def before(self, memory: Memory, address: int, count: int, symbols: SymbolTable | None = None) -> list[Instruction]:
        """Up to `count` instructions that end right before an address.

        x86 cannot be decoded backwards: it is decoded from the start of the function if that is known and near, else
        from the first place further up from which the instructions meet the address.
        """
        place = symbols.find(address) if symbols is not None else None
        if place is not None and 0 < place.offset <= BACK_BYTES_MAX:
            found = self._up_to(memory, address - place.offset, address)
            if found:
                return found[-count:]
        for back in range(count * INSTRUCTION_BYTES_MAX, 0, -1):
            found = self._up_to(memory, address - back, address) if back <= address else []
            if found and all(i.mnemonic != "(bad)" for i in found):
                return found[-count:]
        return []

    def _up_to(self, memory: Memory, start: int, end: int) -> list[Instruction]:
        """Decoded from `start`, if an instruction ends at `end`; else nothing."""
        data = memory.read_up_to(start, end - start)
        found = list(self.decode(data, start)) if len(data) == end - start else []
        return found if found and found[-1].mnemonic != "(bad)" else []

    def _instruction(self, raw: Any) -> Instruction:
        target = self._target(raw)
        name = self._name(target) if target is not None else ""
        return Instruction(raw.address, bytes(raw.bytes), raw.mnemonic, raw.op_str, target, name)

    def _target(self, raw: Any) -> int | None:
        branches = raw.group(capstone.CS_GRP_JUMP) or raw.group(capstone.CS_GRP_CALL)
        for operand in raw.operands:
            if operand.type == x86_const.X86_OP_MEM and operand.mem.base == x86_const.X86_REG_RIP:
                return (raw.address + raw.size + operand.mem.disp) % (1 << 64)
            if branches and operand.type == x86_const.X86_OP_IMM:
                return operand.imm % (1 << 64)
        return None
