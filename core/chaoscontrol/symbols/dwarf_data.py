"""Numbers as DWARF writes them, and expressions that compute an address from registers and memory.

Format: DWARF 5, 7.6 (variable length data) and 2.5 (expressions). Everything read is bounded: data that ends early
raises DwarfError, and so does an expression that does not end, or that needs what is not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.errors import AddressError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .space import Memory

MASK64 = (1 << 64) - 1
LEB_BYTES_MAX = 10
"""So many hold 64 bits."""
STEPS_MAX = 1000
STACK_MAX = 64


class DwarfError(Exception):
    """Data that cannot be what it should be."""


class Cursor:
    """Reads on from a place in some bytes. Raises DwarfError at their end."""

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = len(data) if end is None else min(end, len(data))

    def more(self) -> bool:
        return self.at < self.end

    def take(self, size: int) -> bytes:
        if size < 0 or self.at + size > self.end:
            raise DwarfError(f"it ends at {self.end:#x}, where {size} bytes more are wanted")
        self.at += size
        return self.data[self.at - size : self.at]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def signed(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)

    def uleb(self) -> int:
        value = 0
        for i in range(LEB_BYTES_MAX):
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value & MASK64
        raise DwarfError("a number does not end")

    def sleb(self) -> int:
        value = 0
        for i in range(LEB_BYTES_MAX):
            byte = self.unsigned(1)
            value |= (byte & 0x7F) << 7 * i
            if byte < 0x80:
                return value - (1 << 7 * i + 7) if byte & 0x40 else value
        raise DwarfError("a number does not end")

    def text(self) -> bytes:
        """Up to a zero byte."""
        stop = self.data.find(b"\0", self.at, self.end)
        if stop < 0:
            raise DwarfError("a text does not end")
        found = self.data[self.at : stop]
        self.at = stop + 1
        return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _quotient(a: int, b: int) -> int:
    size = abs(_signed(a)) // abs(_signed(b))
    return size if (_signed(a) < 0) == (_signed(b) < 0) else -size


_BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,  # DW_OP_and
    0x1B: _quotient,  # DW_OP_div
    0x1C: lambda a, b: a - b,  # DW_OP_minus
    0x1D: lambda a, b: a % b,  # DW_OP_mod
    0x1E: lambda a, b: a * b,  # DW_OP_mul
    0x21: lambda a, b: a | b,  # DW_OP_or
    0x22: lambda a, b: a + b,  # DW_OP_plus
    0x24: lambda a, b: a << b if b < 64 else 0,  # DW_OP_shl
    0x25: lambda a, b: a >> b if b < 64 else 0,  # DW_OP_shr
    0x26: lambda a, b: _signed(a) >> min(b, 63),  # DW_OP_shra
    0x27: lambda a, b: a ^ b,  # DW_OP_xor
    0x29: lambda a, b: a == b,  # DW_OP_eq
    0x2A: lambda a, b: _signed(a) >= _signed(b),  # DW_OP_ge
    0x2B: lambda a, b: _signed(a) > _signed(b),  # DW_OP_gt
    0x2C: lambda a, b: _signed(a) <= _signed(b),  # DW_OP_le
    0x2D: lambda a, b: _signed(a) < _signed(b),  # DW_OP_lt
    0x2E: lambda a, b: a != b,  # DW_OP_ne
}
_UNARY: dict[int, Callable[[int], int]] = {
    0x19: lambda a: abs(_signed(a)),  # DW_OP_abs
    0x1F: lambda a: -a,  # DW_OP_neg
    0x20: lambda a: ~a,  # DW_OP_not
}
_CONSTANTS = {
    **dict.fromkeys((0x03, 0x0E), (8, False)),  # DW_OP_addr, const8u
    0x08: (1, False), 0x09: (1, True), 0x0A: (2, False), 0x0B: (2, True), 0x0C: (4, False), 0x0D: (4, True),
    0x0F: (8, True),
}  # fmt: skip
"""DW_OP_const1u to const8s: bytes, signed."""
_DEREF, _DUP, _DROP, _OVER, _PICK, _SWAP, _ROT = 0x06, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17
_CONSTU, _CONSTS, _PLUS_UCONST, _SKIP, _BRA = 0x10, 0x11, 0x23, 0x2F, 0x28
_LIT0, _REG0, _BREG0, _BREGX, _DEREF_SIZE, _NOP = 0x30, 0x50, 0x70, 0x92, 0x94, 0x96


def evaluate(code: bytes, registers: Mapping[int, int], memory: Memory, *initial: int) -> int:
    """What an expression leaves on top of its stack. registers: by their DWARF numbers. Raises DwarfError."""
    stack, cursor = list(initial), Cursor(code)
    try:
        for _ in range(STEPS_MAX):
            if not cursor.more():
                return stack[-1] & MASK64
            _step(cursor, stack, registers, memory)
            if len(stack) > STACK_MAX:
                break
    except (IndexError, ZeroDivisionError, KeyError) as e:
        raise DwarfError(f"an expression cannot be computed ({type(e).__name__}: {e})") from None
    except AddressError as e:
        raise DwarfError(f"an expression reads what is not there: {e.what}") from None
    raise DwarfError("an expression does not end")


def _step(cursor: Cursor, stack: list[int], registers: Mapping[int, int], memory: Memory) -> None:
    op = cursor.unsigned(1)
    if op in _BINARY:
        b, a = stack.pop(), stack.pop()
        stack.append(int(_BINARY[op](a, b)) & MASK64)
    elif op in _UNARY:
        stack.append(_UNARY[op](stack.pop()) & MASK64)
    elif op in _CONSTANTS:
        size, signed = _CONSTANTS[op]
        stack.append((cursor.signed(size) if signed else cursor.unsigned(size)) & MASK64)
    elif _LIT0 <= op < _REG0:
        stack.append(op - _LIT0)
    elif _BREG0 <= op < _BREG0 + 32:
        stack.append(registers[op - _BREG0] + cursor.sleb() & MASK64)
    elif op == _BREGX:
        number = cursor.uleb()
        stack.append(registers[number] + cursor.sleb() & MASK64)
    elif op in (_CONSTU, _CONSTS):
        stack.append((cursor.uleb() if op == _CONSTU else cursor.sleb()) & MASK64)
    elif op == _PLUS_UCONST:
        stack.append(stack.pop() + cursor.uleb() & MASK64)
    elif op in (_DEREF, _DEREF_SIZE):
        size = 8 if op == _DEREF else cursor.unsigned(1)
        stack.append(int.from_bytes(memory.read(stack.pop(), size), "little"))
    elif op in (_SKIP, _BRA):
        way = cursor.signed(2)
        if op == _SKIP or stack.pop():
            cursor.at = max(cursor.at + way, 0)
    elif op != _NOP:
        _shuffle(op, cursor, stack)


def _shuffle(op: int, cursor: Cursor, stack: list[int]) -> None:
    if op == _DUP:
        stack.append(stack[-1])
    elif op == _DROP:
        stack.pop()
    elif op == _OVER:
        stack.append(stack[-2])
    elif op == _PICK:
        stack.append(stack[-1 - cursor.unsigned(1)])
    elif op == _SWAP:
        stack[-1], stack[-2] = stack[-2], stack[-1]
    elif op == _ROT:
        stack[-1], stack[-2], stack[-3] = stack[-2], stack[-3], stack[-1]
    else:
        raise DwarfError(f"an expression has an operation {op:#x}")
