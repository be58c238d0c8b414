"""What a client shows as variables: the registers of a frame, and the moment.

A frame's outer registers are those that unwinding knows. Only the innermost frame's can be changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chaoscontrol.flags import BITS, flag_names
from chaoscontrol.registers import EDITABLE, GPR_NAMES, SEGMENT_NAMES
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.registers import Registers
    from chaoscontrol.symbols.frames import Frame

_DWARF_GENERAL = ("rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", *(f"r{i}" for i in range(8, 16)), "rip")
"""By DWARF's numbers (System V ABI, AMD64, figure 3.36)."""
_GENERAL = (*GPR_NAMES, "rip", "rflags")
_X87 = ("fcw", "fsw", "ftw", "fop", "fip", "fdp")
_FLOATING = tuple(name for name in EDITABLE if name in _X87 or name.startswith(("st", "xmm", "mxcsr")))
_SYSTEM = tuple(name for name in EDITABLE if name not in _GENERAL and name not in _FLOATING)
SCOPES = ("Registers", "System registers", "x87 and SSE registers", "Moment")
"""Of the innermost frame; others have the first only."""


def register_text(name: str, value: int) -> str:
    """A register's value, with the flags that it holds."""
    flags = f" [{flag_names(name, value)}]" if name in BITS else ""
    return f"{value:#x}{flags}"


def _variable(name: str, value: int) -> dict[str, Any]:
    return {
        "name": name, "value": register_text(name, value), "variablesReference": 0, "memoryReference": hex(value),
        "evaluateName": f"${name}",
    }  # fmt: skip


def _segments(registers: Registers) -> list[dict[str, Any]]:
    return [
        {"name": name, "value": f"{getattr(registers, name).selector:#x}", "variablesReference": 0}
        for name in SEGMENT_NAMES
    ]


def _moment(bench: Bench, vm: int) -> list[dict[str, Any]]:
    multiverse = bench.multiverse
    rows = {
        "machine": f"vm{vm}",
        "branch": multiverse.branch.name,
        "time": f"{format_seconds(multiverse.position.vns)} s",
        "tick": str(multiverse.tick),
        "instructions": str(multiverse.instrets[vm]),
        "moment": str(multiverse.moment()),
        "future": "open" if multiverse.at_end else "known",
    }
    return [{"name": name, "value": value, "variablesReference": 0} for name, value in rows.items()]


def variables_of(bench: Bench, vm: int, frame: Frame, scope: int) -> list[dict[str, Any]]:
    """What is in a scope of a frame, as the protocol's Variables."""
    if frame.level > 0:
        known = [(name, frame.registers.get(number)) for number, name in enumerate(_DWARF_GENERAL)]
        return [_variable(name, value) for name, value in known if value is not None]
    if SCOPES[scope] == "Moment":
        return _moment(bench, vm)
    registers = bench.debugger.vms[vm].registers()
    names = (_GENERAL, _SYSTEM, _FLOATING)[scope]
    found = [_variable(name, registers.value(name)) for name in names]
    return [*found, *_segments(registers)] if names is _SYSTEM else found


__all__ = ["SCOPES", "register_text", "variables_of"]
