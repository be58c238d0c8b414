"""One step of unwinding: from a frame's registers to its caller's, in one address space.

Known registers are a dict by DWARF's numbers; what is not in it is not known.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.errors import AddressError

from . import orc
from .cfi import How, Row, Rule
from .dwarf_data import MASK64, DwarfError, evaluate
from .frames import FoundBy
from .saved import GENERAL, NUMBERS, RBP, RIP, RSP, Known

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chaoscontrol.registers import Registers

    from .follow import Follower, Return
    from .modules import Modules
    from .space import Memory

RBX = NUMBERS["rbx"]
CALLEE_SAVED = (RBX, RBP, 12, 13, 14, 15)

FRAME_BYTES_MAX = 1 << 20
"""A frame pointer does not lead further than this."""
GUESS_BYTES = 4096
"""So much of the stack is searched for a return address."""
CALL_BYTES_MAX = 8


class Way(NamedTuple):
    """The caller, and how it was found."""

    registers: Known
    found_by: FoundBy


class End(NamedTuple):
    """There is no caller, or none is found."""

    why: str
    is_whole: bool = False
    """This was the outermost frame."""


def known_registers(registers: Registers) -> Known:
    """All general registers and RIP."""
    return {number: getattr(registers, name) for number, name in enumerate(GENERAL)} | {RIP: registers.rip}


class Unwinder:
    """Unwinds in one address space, whose modules are known."""

    def __init__(self, memory: Memory, modules: Modules, *, is_user: bool) -> None:
        self.memory = memory
        self.modules = modules
        self.is_user = is_user

    @functools.cached_property
    def _follower(self) -> Follower:
        from .follow import Follower  # capstone takes long to import, and is often not needed

        return Follower(self.memory)

    def caller(self, known: Known, *, is_call: bool) -> Way | End:
        """The caller of the function that has these registers. is_call: it waits for a call to return."""
        address = known[RIP] - is_call
        module = self.modules.find(address)
        row = None if module is None else module.binary.row(address - module.bias)
        if row is not None:
            return self._by_row(row, known)
        found = self.by_orc(known, is_call=is_call)
        if found is not None:
            return found
        if module is not None and module.is_start(address):
            return End("the program begins here", True)
        found = self._by_code(known) or self._by_frame_pointer(known)
        if found is not None:
            return found
        if known.get(RBP) == 0:
            return End("the stack begins here: its frame pointer is 0", True)
        return self._by_guess(known) or End(f"the caller of {known[RIP]:#x} is not found")

    # ---- call frame information ----

    def _by_row(self, row: Row, known: Known) -> Way | End:
        rule = row.rules.get(row.return_column)
        if rule is not None and rule.how is How.UNDEFINED:
            return End("the stack begins here, by its call frame information", True)
        try:
            if row.cfa_code:
                cfa = evaluate(row.cfa_code, known, self.memory)
            else:
                cfa = known[row.cfa_register] + row.cfa_offset & MASK64
            found = {number: known[number] for number in CALLEE_SAVED if number in known} | {RSP: cfa}
            for number, rule in row.rules.items():
                value = self._ruled(rule, number, cfa, known)
                if value is None:
                    found.pop(number, None)
                else:
                    found[number] = value
            found[RIP] = found[row.return_column]
        except KeyError as e:
            return End(f"register {_name(e.args[0])} of the frame at {known[RIP]:#x} is not known")
        except DwarfError as e:
            return End(f"its call frame information cannot be used: {e}")
        except AddressError as e:
            return End(f"its stack cannot be read: {e.what}")
        if found[RIP] == 0:
            return End("the stack begins here: the return address is 0", True)
        if not (self.is_code(found[RIP]) or self._is_known(found[RIP] - 1)):
            of = "" if self.is_user else " of the kernel"
            return End(f"the return address is {found[RIP]:#x}, where no code{of} is")
        return Way(found, FoundBy.SIGNAL if row.is_signal else FoundBy.CFI)

    def _ruled(self, rule: Rule, number: int, cfa: int, known: Mapping[int, int]) -> int | None:
        if rule.how is How.OFFSET:
            return self.memory.u64(cfa + rule.number & MASK64)
        if rule.how is How.VALUE_OFFSET:
            return cfa + rule.number & MASK64
        if rule.how in (How.EXPRESSION, How.VALUE_EXPRESSION):
            value = evaluate(rule.code, known, self.memory, cfa)
            return value if rule.how is How.VALUE_EXPRESSION else self.memory.u64(value)
        return known.get(rule.number if rule.how is How.REGISTER else number) if rule.how is not How.UNDEFINED else None

    # ---- the kernel's tables ----

    def by_orc(self, known: Known, *, is_call: bool) -> Way | None:
        """By ORC, of kernels that have it."""
        address = known[RIP] - is_call
        module = self.modules.find(address)
        table = None if module is None else module.binary.orc
        entry = None if module is None or table is None else table.find(address - module.bias)
        if entry is None or entry.is_end:
            return None
        try:
            found = orc.caller(entry, known, self.memory)
        except AddressError:
            return None
        if found is None or not (found[1] or self.is_code(found[0][RIP])):
            return None
        return Way(found[0], FoundBy.INTERRUPT if found[1] else FoundBy.ORC)

    # ---- without tables ----

    def _by_code(self, known: Known) -> Way | None:
        found = self._follower.find(known, self._is_plausible)
        if found is None:
            return None
        return Way(found.registers, FoundBy.INTERRUPT if found.is_interrupt else FoundBy.CODE)

    def _is_plausible(self, found: Return) -> bool:
        address = found.registers[RIP]
        return self.is_code(address) if found.is_interrupt else self.is_behind_call(address)

    def _by_frame_pointer(self, known: Known) -> Way | None:
        pointer, sp = known.get(RBP, 0), known[RSP]
        if not 0 <= pointer - sp < FRAME_BYTES_MAX:
            return None
        try:
            before, address = self.memory.u64(pointer), self.memory.u64(pointer + 8)
        except AddressError:
            return None
        if not self.is_behind_call(address):
            return None
        return Way({RBP: before, RIP: address, RSP: pointer + 16 & MASK64}, FoundBy.FRAME_POINTER)

    def _by_guess(self, known: Known) -> Way | None:
        sp = known[RSP]
        data = self.memory.read_up_to(sp, GUESS_BYTES)
        for at in range(0, len(data) - 7, 8):
            address = int.from_bytes(data[at : at + 8], "little")
            if self.is_behind_call(address):
                found = {RIP: address, RSP: sp + at + 8}
                return Way(found | ({RBP: known[RBP]} if RBP in known else {}), FoundBy.GUESS)
        return None

    # ---- code ----

    def is_code(self, address: int) -> bool:
        """Can instructions of this address space be there?"""
        try:
            return self.memory.executable(address)
        except AddressError:
            return False

    def _is_known(self, address: int) -> bool:
        """Is it in a function of a file, though its memory was given up? The kernel's own start is."""
        module = self.modules.find(address)
        place = None if module is None else module.place(address)
        return place is not None and place.symbol.is_code

    def is_behind_call(self, address: int) -> bool:
        """Is there a CALL right before it? (SDM vol. 2, CALL: E8 with a distance, or FF /2.)"""
        if not self.is_code(address):
            return False
        data = self.memory.read_up_to(address - CALL_BYTES_MAX & MASK64, CALL_BYTES_MAX)
        if len(data) < CALL_BYTES_MAX:
            return False
        return data[-5] == 0xE8 or any(data[-n] == 0xFF and data[1 - n] >> 3 & 7 == 2 for n in range(2, CALL_BYTES_MAX))


def _name(register: object) -> str:
    return GENERAL[register] if isinstance(register, int) and register < len(GENERAL) else str(register)
