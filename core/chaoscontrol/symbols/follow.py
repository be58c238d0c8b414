"""Finding a caller without any tables: follow the code from where it stands to where it returns.

What a function does to its stack between here and its return is written in its instructions: pops, additions to RSP,
LEAVE, and at last RET, whose operand is the caller's address. Calls in between return with the same stack. Of a
conditional branch both ways are tried, the near one first. Functions of assembly, and libraries that were compiled
without call frame information (musl), are left in no other exact way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import capstone
from capstone import x86_const as x86

from chaoscontrol.errors import AddressError

from .dwarf_data import MASK64
from .saved import NUMBERS, RBP, RCX, RIP, RSP

if TYPE_CHECKING:
    from collections.abc import Callable

    from .space import Memory

INSTRUCTIONS_MAX = 1000
WAYS_MAX = 64
INSTRUCTION_BYTES_MAX = 15

CALL_KEEPS = (NUMBERS["rbx"], RBP, RSP, 12, 13, 14, 15)
"""What a function gives back as it was."""
_ENDS = ("hlt", "ud2", "int3", "(bad)")


class Return(NamedTuple):
    """The registers after a return, by DWARF's numbers; those that are not known are left out."""

    registers: dict[int, int]
    is_interrupt: bool
    """By IRET: into what was interrupted, not behind a call."""


class _Way(NamedTuple):
    """A place to go on from, and what is known there."""

    address: int
    registers: dict[int, int]
    written: dict[int, int | None]
    """Words that were pushed on the way."""


class Follower:
    """Follows code in one address space."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._engine: Any = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True
        self._names: dict[int, int | None] = {}

    def find(self, registers: dict[int, int], plausible: Callable[[Return], bool]) -> Return | None:
        """The first way that returns to something plausible, from registers that include RIP and RSP."""
        ways = [_Way(registers[RIP], dict(registers), {})]
        seen = set[int]()
        budget = INSTRUCTIONS_MAX
        while ways and budget > 0:
            way = ways.pop()
            budget, found = self._walk(way, ways, seen, budget)
            if found is not None and plausible(found):
                return found
        return None

    def _walk(self, way: _Way, ways: list[_Way], seen: set[int], budget: int) -> tuple[int, Return | None]:
        """One way to its end; others that begin on it are added to `ways`."""
        address, registers, written = way
        while budget > 0 and address not in seen:
            seen.add(address)
            budget -= 1
            instruction = self._decode(address)
            if instruction is None or instruction.mnemonic in _ENDS:
                break
            address += instruction.size
            name = instruction.mnemonic
            if name in ("ret", "retq"):
                extra = instruction.operands[0].imm if instruction.operands else 0
                return budget, self._returned(registers, written, extra)
            if name in ("iretq", "iret"):
                return budget, self._interrupted(registers)
            if name in ("sysretq", "sysret"):
                return budget, _after_sysret(registers)
            if name == "jmp":
                target = _direct(instruction)
                if target is None:  # a call in tail position: its own return is ours
                    return budget, self._returned(registers, written, 0)
                address = target
            elif instruction.group(capstone.CS_GRP_JUMP):
                target = _direct(instruction)
                if target is not None and len(ways) < WAYS_MAX:
                    ways.append(_Way(target, dict(registers), dict(written)))
            elif instruction.group(capstone.CS_GRP_CALL):
                for number in [number for number in registers if number not in CALL_KEEPS]:
                    del registers[number]
            elif not self._carry_out(instruction, registers, written):
                break
        return budget, None

    def _decode(self, address: int) -> Any:
        data = self._memory.read_up_to(address, INSTRUCTION_BYTES_MAX)
        return next(iter(self._engine.disasm(data, address, 1)), None)

    # ---- ends ----

    def _returned(self, registers: dict[int, int], written: dict[int, int | None], extra: int) -> Return | None:
        address = self._word(registers.get(RSP), written)
        if address is None:
            return None
        kept = {number: registers[number] for number in CALL_KEEPS if number in registers}
        return Return({**kept, RIP: address, RSP: registers[RSP] + 8 + extra & MASK64}, False)

    def _interrupted(self, registers: dict[int, int]) -> Return | None:
        """IRET takes RIP, CS, RFLAGS, RSP and SS from the stack (SDM vol. 3, 6.14.3)."""
        sp = registers.get(RSP)
        address, stack = (self._word(None if sp is None else sp + at, {}) for at in (0, 24))
        if address is None or stack is None:
            return None
        return Return({**registers, RIP: address, RSP: stack}, True)

    # ---- instructions ----

    def _carry_out(self, instruction: Any, registers: dict[int, int], written: dict[int, int | None]) -> bool:
        """What an instruction does to registers that are followed. False: nothing is known of the stack any more."""
        name, operands = instruction.mnemonic, instruction.operands
        sp = registers[RSP]
        if name in ("push", "pushfq"):
            sp = sp - 8 & MASK64
            written[sp] = self._value(operands[0], registers, written) if operands else None
            registers[RSP] = sp
        elif name in ("pop", "popfq"):
            value = self._word(sp, written)
            registers[RSP] = sp + 8 & MASK64
            if operands:
                self._set(operands[0], value, registers, written)
        elif name == "leave":
            if RBP not in registers:
                return False
            value = self._word(registers[RBP], written)
            registers[RSP] = registers[RBP] + 8 & MASK64
            _assign(registers, RBP, value)
        elif name in ("mov", "movabs", "lea"):
            value = self._value(operands[1], registers, written, is_address=name == "lea")
            self._set(operands[0], value, registers, written)
        elif name in ("add", "sub", "and") and self._number(operands[0]) == RSP:
            value = self._value(operands[1], registers, written)
            if value is None:
                return False
            after = {"add": sp + value, "sub": sp - value, "and": sp & value}[name]
            registers[RSP] = after & MASK64
        else:
            self._forget(instruction, registers)
        return RSP in registers

    def _forget(self, instruction: Any, registers: dict[int, int]) -> None:
        """Registers that an instruction changes in a way that is not followed."""
        _, changed = instruction.regs_access()
        for register in changed:
            number = self._whole(register)
            if number is not None:
                registers.pop(number, None)

    def _whole(self, register: int) -> int | None:
        """DWARF's number of the 64-bit register that a register is part of."""
        if register not in self._names:
            text: str = self._engine.reg_name(register) or ""
            text = text.removesuffix("d").removesuffix("w").removesuffix("b") if text[:2] in _EXTENDED else text
            self._names[register] = NUMBERS.get(_WIDER.get(text, text))
        return self._names[register]

    def _number(self, operand: Any) -> int | None:
        return self._whole(operand.reg) if operand.type == x86.X86_OP_REG and operand.size == 8 else None

    def _value(
        self, operand: Any, registers: dict[int, int], written: dict[int, int | None], *, is_address: bool = False
    ) -> int | None:
        if operand.type == x86.X86_OP_IMM:
            return operand.imm & MASK64
        if operand.type == x86.X86_OP_REG:
            number = self._number(operand)
            return None if number is None else registers.get(number)
        address = self._address(operand, registers)
        if is_address or address is None:
            return address
        return self._word(address, written) if operand.size == 8 else None

    def _address(self, operand: Any, registers: dict[int, int]) -> int | None:
        """Of an operand in memory that is a register and a distance."""
        memory = operand.mem
        number = self._whole(memory.base) if memory.base else None
        if memory.index or memory.segment or number is None or number not in registers:
            return None
        return registers[number] + memory.disp & MASK64

    def _set(self, operand: Any, value: int | None, registers: dict[int, int], written: dict[int, int | None]) -> None:
        if operand.type == x86.X86_OP_REG:
            number = self._whole(operand.reg)
            if number is not None:
                _assign(registers, number, value if operand.size == 8 else None)
        elif (address := self._address(operand, registers)) is not None:
            written[address] = value if operand.size == 8 else None

    def _word(self, address: int | None, written: dict[int, int | None]) -> int | None:
        if address is None:
            return None
        if address in written:
            return written[address]
        try:
            return self._memory.u64(address & MASK64)
        except AddressError:
            return None


_EXTENDED = ("r8", "r9", "r1")
_WIDER = {
    **{f"e{name}": f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")},
    **{name: f"r{name}" for name in ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")},
    **{f"{name}{half}": f"r{name}x" for name in "abcd" for half in "lh"},
    **{f"{name}l": f"r{name}" for name in ("si", "di", "bp", "sp")},
}
"""Names of parts of registers, and of the whole."""


def _direct(instruction: Any) -> int | None:
    operand = instruction.operands[0]
    return operand.imm & MASK64 if operand.type == x86.X86_OP_IMM else None


def _after_sysret(registers: dict[int, int]) -> Return | None:
    """SYSRET goes to RCX, on the stack that is loaded already."""
    rcx = registers.get(RCX)
    return None if rcx is None else Return({**registers, RIP: rcx}, True)


def _assign(registers: dict[int, int], number: int, value: int | None) -> None:
    if value is None:
        registers.pop(number, None)
    else:
        registers[number] = value
