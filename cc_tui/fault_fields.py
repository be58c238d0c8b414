"""The fields of faults as a person writes them: what a field takes, how its text becomes a value, and back.

`inject` lines are read and written from here, by the form and by the commands. Nothing here knows a widget.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from cc_tui.commands.language import quote
from chaoscontrol.faults import Fault, FaultError, ScheduledFault, format_ns, parse_ns

DURATION = "for"
"""How a command names the time that a fault lasts."""

_UNITS = {
    "_ns": "a time: 250us, 5ms, 1.5s",
    "_ppm": "5%, or parts per million",
    "_bytes": "bytes: 32M, 65536",
    "bytes_per_sec": "bytes per second: 100K",
    "_permille": "permille: 10000 is ten times",
    "factor": "1 to 1000 times slower",
    "irq": "a line, 0 to 15",
    "signal": "a signal, 1 to 64",
    "process": "a process's name",
}
_MULTIPLES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MACHINE = re.compile(r"vm(\d{1,9})", re.ASCII)
_SUGGESTED = {
    "latency_ns": "20ms", "jitter_ns": "10ms", "bytes_per_sec": "100000", "rate_ppm": "50000",
    "take_bytes": "32M", "side_a": "0", "delta_ns": "1s",
}  # fmt: skip
"""What a form begins with where a fault has no default, or one that it does not take."""


@dataclasses.dataclass(frozen=True, slots=True)
class FaultField:
    """One field of a fault."""

    name: str
    type: Any
    """As get_type_hints gives it."""
    default: Any
    """dataclasses.MISSING if it must be given."""

    @property
    def is_machine(self) -> bool:
        """Is it the number of a machine?"""
        return self.name in ("target", "peer")

    @property
    def optional(self) -> bool:
        """May it be left open?"""
        return type(None) in get_args(self.type)

    def choices(self, machines: int) -> tuple[str, ...]:
        """All texts that it takes, if they can be counted."""
        if self.is_machine:
            return (*(("",) if self.optional else ()), *map(str, range(machines)))
        if get_origin(self.type) is Literal:
            return get_args(self.type)
        return ("no", "yes") if self.type is bool else ()

    def allowed(self, machines: int) -> str:
        """What it takes, in a few words."""
        if self.is_machine:
            return f"a machine, 0 to {machines - 1}" + ("; nothing: all" if self.optional else "")
        if self.name.startswith("side_"):
            return f"machines of 0 to {machines - 1}, as in 0,2"
        if choices := self.choices(machines):
            return " or ".join(choices)
        return next((about for end, about in _UNITS.items() if self.name.endswith(end)), "")

    def initial(self, machines: int, focus: int) -> str:
        """What a form begins with."""
        if self.name == "target":
            return str(focus)
        if self.name == "side_b":
            return ",".join(map(str, range(1, machines)))
        if self.default is dataclasses.MISSING or self.name == "delta_ns":
            return _SUGGESTED.get(self.name, "")
        return self.write(self.default)

    def read(self, text: str) -> object:
        """The value of a text. Raises FaultError for what is no such value; the fault itself checks ranges."""
        text = text.strip()
        if not text and self.optional:
            return None
        if self.name.startswith("side_"):
            return tuple(self._machine(part) for part in text.replace(",", " ").split())
        if self.is_machine:
            return self._machine(text)
        if get_origin(self.type) is Literal or self.type is str:
            return text
        if self.type is bool:
            if text not in ("no", "yes", "false", "true"):
                raise FaultError(f"{self.name} cannot be {text!r}", hint="give yes or no")
            return text in ("yes", "true")
        if self.name.endswith("_ns"):
            return parse_ns(text, self.name, signed=True)
        return self._number(text)

    def _machine(self, text: str) -> int:
        named = _MACHINE.fullmatch(text)
        return int(named[1]) if named else self._number(text)

    def _number(self, text: str) -> int:
        digits, scale = text.replace("_", ""), 1
        if self.name.endswith("_ppm") and digits.endswith("%"):
            return self._percent(digits[:-1])
        if "bytes" in self.name and digits[-1:].upper() in _MULTIPLES:
            digits, scale = digits[:-1], _MULTIPLES[digits[-1:].upper()]
        sign, digits = (-1, digits[1:]) if digits.startswith("-") else (1, digits)
        if not digits.isascii() or not digits.isdecimal() or len(digits) > 18:
            raise FaultError(f"{self.name} cannot be {text!r}", hint="give a whole number")
        return sign * int(digits) * scale

    def _percent(self, digits: str) -> int:
        whole, _, part = digits.partition(".")
        if not (whole + part).isascii() or not (whole + part).isdecimal() or len(part) > 4 or len(whole) > 6:
            raise FaultError(f"{self.name} cannot be {digits + '%'!r}", hint="give 5%, 0.5%, or parts per million")
        return int(whole or "0") * 10_000 + int(part.ljust(4, "0"))

    def write(self, value: object) -> str:
        """The text of a value."""
        if value is None:
            return ""
        if isinstance(value, tuple):
            return ",".join(map(str, cast("tuple[int, ...]", value)))
        if isinstance(value, bool):
            return "yes" if value else "no"
        if self.name.endswith("_ns") and isinstance(value, int):
            return time_word(value)
        return str(value)


def time_word(ns: int) -> str:
    """A time as one exact word: `1.5ms`."""
    return format_ns(ns).replace(" ", "")


def fields_of(kind: type[Fault]) -> tuple[FaultField, ...]:
    """The fields of a kind of fault, in their order."""
    types = get_type_hints(kind)
    return tuple(FaultField(field.name, types[field.name], field.default) for field in dataclasses.fields(kind))


def make_fault(kind: type[Fault], texts: Mapping[str, str], machines: int) -> Fault:
    """The fault that the texts of its fields say. Raises FaultError."""
    values: dict[str, Any] = {}
    for field in fields_of(kind):
        text = texts.get(field.name, "")
        if text.strip() or field.default is dataclasses.MISSING:
            if not text.strip() and field.type is not str:
                raise FaultError(f"{field.name} is missing", hint=f"give {field.allowed(machines)}")
            values[field.name] = field.read(text)
    fault = kind(**values)
    fault.check(machines)
    return fault


def read_duration(kind: type[Fault], text: str) -> int | None:
    """How long a fault lasts; None: until it is healed. Raises FaultError."""
    return parse_ns(text.strip(), DURATION) if text.strip() and kind.LASTS else None


def inject_line(fault: Fault, duration_ns: int | None) -> str:
    """The command that injects a fault. Raises FaultError for a duration that it cannot have."""
    ScheduledFault(0, fault, duration_ns)
    words = ["inject", fault.kind()]
    for field in fields_of(type(fault)):
        value = getattr(fault, field.name)
        if value != field.default:
            words.append(quote(f"{field.name}={field.write(value)}"))
    words += [] if duration_ns is None else [f"{DURATION}={time_word(duration_ns)}"]
    return " ".join(words)


__all__ = ["DURATION", "FaultField", "fields_of", "inject_line", "make_fault", "read_duration", "time_word"]
