"""The registers as gdb knows them: their order, widths and types, the target description, and values as bytes.

Names and features are those that gdb gives x86-64 (gdb manual, G.5.5: i386.core, .sse, .segments). The control
registers have a feature of their own, which gdb shows as it finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaoscontrol.flags import BITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoscontrol.registers import Registers

_MASK32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class GdbRegister:
    """One register, and how it is found among the machine's."""

    name: str
    bits: int
    type: str
    get: Callable[[Registers], int]
    edits: str = ""
    """What `Registers.edit` calls it; empty: it cannot be set."""

    def bytes_of(self, registers: Registers) -> bytes:
        """Its value, little-endian."""
        return (self.get(registers) & ((1 << self.bits) - 1)).to_bytes(self.bits // 8, "little")


def _plain(name: str, bits: int, kind: str, field: str = "", *, edits: bool = True) -> GdbRegister:
    field = field or name
    return GdbRegister(name, bits, kind, lambda r: getattr(r, field), field if edits else "")


def _selector(name: str) -> GdbRegister:
    return GdbRegister(name, 32, "int32", lambda r: getattr(r, name).selector)


def _stack(i: int) -> GdbRegister:
    return GdbRegister(f"st{i}", 80, "i387_ext", lambda r: r.st_stack[i], f"st{i}")


def _xmm(i: int) -> GdbRegister:
    return GdbRegister(f"xmm{i}", 128, "vec128", lambda r: r.xmm[i], f"xmm{i}")


def _base(name: str) -> GdbRegister:
    return GdbRegister(f"{name}_base", 64, "int", lambda r: getattr(r, name).base, f"{name}_base")


_INTEGERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)))
_POINTERS = {"rbp": "data_ptr", "rsp": "data_ptr"}
_CORE = (
    *(_plain(name, 64, _POINTERS.get(name, "int64")) for name in _INTEGERS),
    _plain("rip", 64, "code_ptr"),
    _plain("eflags", 32, "i386_eflags", "rflags"),
    *(_selector(name) for name in ("cs", "ss", "ds", "es", "fs", "gs")),
    *(_stack(i) for i in range(8)),
    _plain("fctrl", 32, "int", "fcw"),
    _plain("fstat", 32, "int", "fsw"),
    _plain("ftag", 32, "int", "ftw"),
    GdbRegister("fiseg", 32, "int", lambda r: r.fip >> 32 & 0xFFFF),
    GdbRegister("fioff", 32, "int", lambda r: r.fip & _MASK32),
    GdbRegister("foseg", 32, "int", lambda r: r.fdp >> 32 & 0xFFFF),
    GdbRegister("fooff", 32, "int", lambda r: r.fdp & _MASK32),
    _plain("fop", 32, "int"),
)
_SSE = (*(_xmm(i) for i in range(16)), _plain("mxcsr", 32, "i386_mxcsr"))
_SEGMENTS = (_base("fs"), _base("gs"))
_NAMED = ("cr0", "cr4", "efer")
"""Control registers whose bits have names."""
_CONTROL = (
    _plain("k_gs_base", 64, "int64", "kernel_gs_base"),
    *(
        _plain(name, 64, f"x64_{name}" if name in _NAMED else "int64")
        for name in ("cr0", "cr2", "cr3", "cr4", "cr8", "efer")
    ),
)
REGISTERS: tuple[GdbRegister, ...] = (*_CORE, *_SSE, *_SEGMENTS, *_CONTROL)
"""In the order of gdb's numbers, which is that of the `g` packet."""


def _flags(name: str, register: str, size: int) -> str:
    """A type whose bits have names; `size` in bytes."""
    bits = BITS[register] | ({"": 1} if register == "rflags" else {})  # gdb has a place for the bit that is always set
    places = sorted((bit, field) for field, bit in bits.items())
    fields = "".join(f'<field name="{field}" start="{bit}" end="{bit}"/>' for bit, field in places)
    return f'<flags id="{name}" size="{size}">{fields}</flags>'


def _vector() -> str:
    parts = {
        "v4f": ("ieee_single", 4), "v2d": ("ieee_double", 2), "v16i8": ("int8", 16), "v8i16": ("int16", 8),
        "v4i32": ("int32", 4), "v2i64": ("int64", 2),
    }  # fmt: skip
    vectors = "".join(f'<vector id="{name}" type="{kind}" count="{n}"/>' for name, (kind, n) in parts.items())
    names = {
        "v4_float": "v4f", "v2_double": "v2d", "v16_int8": "v16i8", "v8_int16": "v8i16", "v4_int32": "v4i32",
        "v2_int64": "v2i64", "uint128": "uint128",
    }  # fmt: skip
    fields = "".join(f'<field name="{name}" type="{kind}"/>' for name, kind in names.items())
    return f'{vectors}<union id="vec128">{fields}</union>'


def _feature(name: str, types: str, registers: tuple[GdbRegister, ...]) -> str:
    lines = "".join(f'<reg name="{r.name}" bitsize="{r.bits}" type="{r.type}"/>' for r in registers)
    return f'<feature name="{name}">{types}{lines}</feature>'


def target_xml() -> str:
    """The target description (gdb manual, appendix G)."""
    return (
        '<?xml version="1.0"?><!DOCTYPE target SYSTEM "gdb-target.dtd"><target version="1.0">'
        "<architecture>i386:x86-64</architecture>"
        + _feature("org.gnu.gdb.i386.core", _flags("i386_eflags", "rflags", 4), _CORE)
        + _feature("org.gnu.gdb.i386.sse", _vector() + _flags("i386_mxcsr", "mxcsr", 4), _SSE)
        + _feature("org.gnu.gdb.i386.segments", "", _SEGMENTS)
        + _feature("org.cc-tui.control", "".join(_flags(f"x64_{name}", name, 8) for name in _NAMED), _CONTROL)
        + "</target>"
    )


def all_bytes(registers: Registers) -> bytes:
    """The contents of a `g` packet."""
    return b"".join(register.bytes_of(registers) for register in REGISTERS)


def changes(registers: Registers, data: bytes) -> list[tuple[str, int]]:
    """What a `G` packet with `data` sets: names for `Registers.edit`, and values. Raises ValueError for its length."""
    if len(data) != sum(register.bits for register in REGISTERS) // 8:
        raise ValueError("registers of another size")
    found: list[tuple[str, int]] = []
    at = 0
    for register in REGISTERS:
        value = data[at : at + register.bits // 8]
        at += len(value)
        if register.edits and value != register.bytes_of(registers):
            found.append((register.edits, int.from_bytes(value, "little")))
    return found


__all__ = ["REGISTERS", "GdbRegister", "all_bytes", "changes", "target_xml"]
