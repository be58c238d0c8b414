"""CallFrames: how to get from a frame to its caller, by the call frame information of .eh_frame or .debug_frame.

Formats: DWARF 5, 6.4; .eh_frame: Linux Standard Base core 5.0, 10.6. The index of a kernel's 20 000 entries takes a
tenth of a second and is made once; what an entry says is decoded when it is asked for. pyelftools decodes all of them
at once, which takes a kernel a quarter of a minute. Damaged entries are left out, and what is wrong with one that is
asked for is a DwarfError.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from .dwarf_data import MASK64, Cursor, DwarfError

if TYPE_CHECKING:
    from collections.abc import Iterator

RSP, RETURN_ADDRESS = 7, 16
"""DWARF's numbers of RSP and of the return address (System V ABI for AMD64, figure 3.36)."""

_ABSENT, _INDIRECT, _PC_RELATIVE = 0xFF, 0x80, 0x10
_POINTER_FORMATS = {0x0: (8, False), 0x2: (2, False), 0x3: (4, False), 0x4: (8, False), 0xA: (2, True), 0xB: (4, True),
                    0xC: (8, True)}  # fmt: skip
"""DW_EH_PE_absptr, udata2 to udata8, sdata2 to sdata8: bytes, signed (LSB core, 10.5.1)."""
_PAIR = struct.Struct("<QQ")
_STATES_MAX = 64


class How(enum.Enum):
    """Where the caller's value of a register is (DWARF 5, 6.4.1)."""

    UNDEFINED = enum.auto()
    SAME = enum.auto()
    OFFSET = enum.auto()
    """In memory, so many bytes from the CFA."""
    VALUE_OFFSET = enum.auto()
    """It is the CFA and so many bytes."""
    REGISTER = enum.auto()
    EXPRESSION = enum.auto()
    """In memory, where an expression says."""
    VALUE_EXPRESSION = enum.auto()


class Rule(NamedTuple):
    """How to get the caller's value of one register."""

    how: How
    number: int = 0
    """An offset in bytes, or a register."""
    code: bytes = b""
    """An expression."""


@dataclasses.dataclass(slots=True)
class Row:
    """The rules at one address. The CFA, the value of RSP in the caller, is a register and an offset, or computed."""

    cfa_register: int
    cfa_offset: int
    cfa_code: bytes
    """An expression in place of the two, if it is not empty."""
    rules: dict[int, Rule]
    return_column: int
    is_signal: bool = False
    """The caller was interrupted: its address is that of an instruction, not behind a call."""

    def copy(self) -> Row:
        return dataclasses.replace(self, rules=dict(self.rules))


@dataclasses.dataclass(frozen=True, slots=True)
class _Common:
    """A CIE."""

    code_factor: int
    data_factor: int
    return_column: int
    encoding: int
    is_signal: bool
    has_augmentation: bool
    program: tuple[int, int]


class _Entry(NamedTuple):
    """An FDE of the index."""

    low: int
    high: int
    common: int
    """Where its CIE is."""
    begin: int
    end: int


class CallFrames:
    """The entries of one section, found by address. Addresses are the file's."""

    def __init__(self, data: bytes, *, is_eh: bool, address: int = 0) -> None:
        """`data`: an .eh_frame (is_eh) that is loaded at `address`, or a .debug_frame."""
        self._data = data
        self._is_eh = is_eh
        self._address = address
        self._commons: dict[int, _Common] = {}
        self._entries = sorted(self._index())
        self._lows = [entry.low for entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    def spans(self) -> list[tuple[int, int]]:
        """[low, high) of every entry, by address."""
        return [(entry.low, entry.high) for entry in self._entries]

    def row(self, address: int) -> Row | None:
        """What holds before the instruction at an address; None if nothing is said of it. Raises DwarfError."""
        at = bisect_right(self._lows, address) - 1
        if at < 0 or address >= self._entries[at].high:
            return None
        entry = self._entries[at]
        common = self._commons[entry.common]
        row = Row(RSP, 8, b"", {}, common.return_column, common.is_signal)
        machine = _Machine(common, row, entry.low, None)
        machine.run(Cursor(self._data, *common.program), self._pointer, MASK64)
        machine = _Machine(common, machine.row, entry.low, machine.row.copy())
        cursor = Cursor(self._data, entry.begin, entry.end)
        machine.run(cursor, self._pointer, address)
        return machine.row

    # ---- the index ----

    def _index(self) -> Iterator[_Entry]:
        at, size = 0, len(self._data)
        while at + 4 <= size:
            start, offset_bytes = at + 4, 4
            length = int.from_bytes(self._data[at:start], "little")
            if length == 0xFFFF_FFFF:
                start, offset_bytes = at + 12, 8
                length = int.from_bytes(self._data[at + 4 : start], "little")
            if length == 0 and self._is_eh:
                return
            end = start + length
            if end > size:
                return
            entry = self._entry(at, start, end, offset_bytes) if length >= offset_bytes else None
            if entry is not None:
                yield entry
            at = end

    def _entry(self, at: int, start: int, end: int, offset_bytes: int) -> _Entry | None:
        """The FDE that stands there; None for a CIE, or one that is damaged or of no length."""
        begin = start + offset_bytes
        link = int.from_bytes(self._data[start:begin], "little")
        is_common = link == 0 if self._is_eh else link == (1 << 8 * offset_bytes) - 1
        if is_common:
            return None
        where = start - link if self._is_eh else link
        try:
            common = self._commons.get(where)
            if common is None:
                common = self._commons[where] = self._common(where)
            if common.encoding == 0 and not common.has_augmentation and begin + _PAIR.size <= end:
                low, length = _PAIR.unpack_from(self._data, begin)  # a .debug_frame: a kernel has many entries
                begin += _PAIR.size
            else:
                cursor = Cursor(self._data, begin, end)
                low = self._pointer(cursor, common.encoding)
                length = self._pointer(cursor, common.encoding & 0xF)
                if common.has_augmentation:
                    cursor.take(cursor.uleb())
                begin = cursor.at
        except DwarfError:
            return None
        return _Entry(low, low + length, where, begin, end) if length else None

    def _common(self, at: int) -> _Common:
        if not 0 <= at < len(self._data):
            raise DwarfError(f"there is no common entry at {at:#x}")
        cursor = Cursor(self._data, at)
        length, offset_bytes = cursor.unsigned(4), 4
        if length == 0xFFFF_FFFF:
            length, offset_bytes = cursor.unsigned(8), 8
        cursor.end = min(cursor.at + length, cursor.end)
        cursor.take(offset_bytes)
        version, augmentation = cursor.unsigned(1), cursor.text()
        if version not in (1, 3, 4):
            raise DwarfError(f"a common entry has version {version}")
        if version == 4:
            cursor.take(2)  # the sizes of addresses and of segment selectors
        code_factor, data_factor = cursor.uleb(), cursor.sleb()
        return_column = cursor.unsigned(1) if version == 1 else cursor.uleb()
        encoding, is_signal = 0, b"S" in augmentation
        has_augmentation = augmentation.startswith(b"z")
        if has_augmentation:
            inner = Cursor(self._data, cursor.at)
            size = inner.uleb()
            cursor.take(inner.at - cursor.at + size)
            for letter in augmentation[1:].decode("latin-1"):
                if letter == "R":
                    encoding = inner.unsigned(1)
                elif letter == "L":
                    inner.take(1)
                elif letter == "P":
                    self._pointer(inner, inner.unsigned(1) & ~_INDIRECT)
                elif letter not in "SB":
                    break  # its data cannot be told from what follows
        elif augmentation:
            raise DwarfError(f"a common entry has the augmentation {augmentation!r}")
        return _Common(
            code_factor, data_factor, return_column, encoding, is_signal, has_augmentation, (cursor.at, cursor.end)
        )

    def _pointer(self, cursor: Cursor, encoding: int) -> int:
        """An encoded address (LSB core, 10.5)."""
        kind = _POINTER_FORMATS.get(encoding & 0xF)
        if encoding == _ABSENT or kind is None or encoding & 0xF0 not in (0, _PC_RELATIVE):
            raise DwarfError(f"an address is encoded as {encoding:#x}")
        here = self._address + cursor.at
        value = cursor.signed(kind[0]) if kind[1] else cursor.unsigned(kind[0])
        return (value + here if encoding & _PC_RELATIVE else value) & MASK64


class _Machine:
    """Carries out call frame instructions (DWARF 5, 6.4.2) up to an address."""

    def __init__(self, common: _Common, row: Row, low: int, initial: Row | None) -> None:
        self._common = common
        self.row = row
        self._location = low
        self._initial = initial
        """What DW_CFA_restore restores."""
        self._remembered: list[Row] = []

    def run(self, cursor: Cursor, pointer: _Pointer, address: int) -> None:
        while cursor.more():
            op = cursor.unsigned(1)
            low = op & 0x3F
            if op >> 6 == 1:
                self._location += low * self._common.code_factor
            elif op >> 6 == 2:
                self.row.rules[low] = Rule(How.OFFSET, cursor.uleb() * self._common.data_factor)
            elif op >> 6 == 3:
                self._restore(low)
            elif op == 0x01:
                self._location = pointer(cursor, self._common.encoding)
            elif op in (0x02, 0x03, 0x04):
                self._location += cursor.unsigned(1 << op - 2) * self._common.code_factor
            elif 0x0A <= op <= 0x0F or op in (0x12, 0x13):
                self._frame(op, cursor)
            else:
                self._register(op, cursor)
            if self._location > address:
                return

    def _restore(self, register: int) -> None:
        rule = None if self._initial is None else self._initial.rules.get(register)
        if rule is None:
            self.row.rules.pop(register, None)
        else:
            self.row.rules[register] = rule

    def _frame(self, op: int, cursor: Cursor) -> None:
        """Instructions about the CFA, and about whole rows."""
        row, factor = self.row, self._common.data_factor
        if op == 0x0A:
            if len(self._remembered) >= _STATES_MAX:
                raise DwarfError("too many states are remembered")
            self._remembered.append(row.copy())
        elif op == 0x0B:
            if not self._remembered:
                raise DwarfError("a state is restored that was not remembered")
            self.row = self._remembered.pop()
        elif op == 0x0C:
            row.cfa_register, row.cfa_offset, row.cfa_code = cursor.uleb(), cursor.uleb(), b""
        elif op == 0x0D:
            row.cfa_register = cursor.uleb()
        elif op == 0x0E:
            row.cfa_offset = cursor.uleb()
        elif op == 0x0F:
            row.cfa_code = cursor.take(cursor.uleb())
        elif op == 0x12:
            row.cfa_register, row.cfa_offset, row.cfa_code = cursor.uleb(), cursor.sleb() * factor, b""
        else:
            row.cfa_offset = cursor.sleb() * factor

    def _register(self, op: int, cursor: Cursor) -> None:
        """Instructions about one register."""
        rules, factor = self.row.rules, self._common.data_factor
        if op == 0x00:
            return
        register = cursor.uleb()
        if op == 0x05:
            rules[register] = Rule(How.OFFSET, cursor.uleb() * factor)
        elif op == 0x06:
            self._restore(register)
        elif op == 0x07:
            rules[register] = Rule(How.UNDEFINED)
        elif op == 0x08:
            rules[register] = Rule(How.SAME)
        elif op == 0x09:
            rules[register] = Rule(How.REGISTER, cursor.uleb())
        elif op in (0x10, 0x16):
            how = How.EXPRESSION if op == 0x10 else How.VALUE_EXPRESSION
            rules[register] = Rule(how, code=cursor.take(cursor.uleb()))
        elif op == 0x11:
            rules[register] = Rule(How.OFFSET, cursor.sleb() * factor)
        elif op == 0x14:
            rules[register] = Rule(How.VALUE_OFFSET, cursor.uleb() * factor)
        elif op == 0x15:
            rules[register] = Rule(How.VALUE_OFFSET, cursor.sleb() * factor)
        elif op != 0x2E:  # DW_CFA_GNU_args_size says nothing about registers
            raise DwarfError(f"there is a call frame instruction {op:#x}")


if TYPE_CHECKING:
    from collections.abc import Callable

    _Pointer = Callable[[Cursor, int], int]
