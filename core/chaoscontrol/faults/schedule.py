"""FaultSchedule: which fault happens when and for how long, as a value; its builder; and its text form, TOML.

Times are virtual nanoseconds after the schedule's origin: the boot, the moment at which the guests have said
setup_complete, or the moment at which a branch began. In text they may have a unit: "1.5 ms".
"""

from __future__ import annotations

import dataclasses
import enum
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from chaoscontrol.texts import read_toml

from .types import FAULTS, NS_MAX, Fault, FaultError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable


class Origin(enum.StrEnum):
    """What a schedule's times are relative to."""

    BOOT = "boot"
    SETUP = "setup"
    BRANCH = "branch"


def _is_time(value: object, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= NS_MAX


def _origin(value: object, where: str = "") -> Origin:
    for origin in Origin:
        if value == origin:
            return origin
    raise FaultError(f"origin cannot be {shown(value)}", where=where, hint=f"use {', '.join(Origin)}")


@dataclasses.dataclass(frozen=True, slots=True)
class ScheduledFault:
    """A fault, its start, and how long it lasts."""

    at_ns: int
    fault: Fault
    duration_ns: int | None = None
    """None: until it is healed."""

    def __post_init__(self) -> None:
        if not isinstance(self.fault, Fault):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise FaultError(f"{shown(self.fault)} is no fault", hint=f"give one of {', '.join(FAULTS)}")
        kind = self.fault.kind()
        if not _is_time(self.at_ns, 0):
            hint = f"give a time from 0 to {NS_MAX} ns"
            raise FaultError(f"{kind}: it cannot start at {shown(self.at_ns)} ns", hint=hint)
        if self.duration_ns is not None:
            if not _is_time(self.duration_ns, 1):
                hint = f"give more than 0 and at most {NS_MAX} ns"
                raise FaultError(f"{kind}: it cannot last {shown(self.duration_ns)} ns", hint=hint)
            if not self.fault.LASTS:
                raise FaultError(f"{kind}: it happens in a moment", hint="leave its duration out")

    @property
    def end_ns(self) -> int | None:
        """When it ends by itself."""
        return None if self.duration_ns is None else self.at_ns + self.duration_ns

    def __str__(self) -> str:
        lasting = f" for {format_ns(self.duration_ns)}" if self.duration_ns is not None else ""
        return f"{format_ns(self.at_ns)} {self.fault}{lasting}"


@dataclasses.dataclass(frozen=True, slots=True)
class FaultSchedule:
    """Faults in the order of their starts; those of the same time in the order given."""

    faults: tuple[ScheduledFault, ...] = ()
    origin: Origin = Origin.SETUP

    def __post_init__(self) -> None:
        object.__setattr__(self, "origin", _origin(self.origin))
        object.__setattr__(self, "faults", tuple(sorted(self.faults, key=lambda f: f.at_ns)))

    def check(self, num_vms: int) -> None:
        """Raises FaultError if a fault names a machine that a cluster of this size does not have."""
        for scheduled in self.faults:
            scheduled.fault.check(num_vms)

    def until(self, ns: int) -> FaultSchedule:
        """Without the faults that begin later than this time."""
        return dataclasses.replace(self, faults=tuple(f for f in self.faults if f.at_ns <= ns))

    @property
    def end_ns(self) -> int:
        """When the last start or end lies."""
        return max((f.at_ns if f.end_ns is None else f.end_ns for f in self.faults), default=0)

    # ---- text ----

    def to_toml(self) -> str:
        """The text form. Reading it gives an equal schedule."""
        lines = [f'origin = "{self.origin}"']
        for scheduled in self.faults:
            lines += ["", "[[fault]]", f'at = "{format_ns(scheduled.at_ns)}"', f'kind = "{scheduled.fault.kind()}"']
            if scheduled.duration_ns is not None:
                lines.append(f'for = "{format_ns(scheduled.duration_ns)}"')
            for field in dataclasses.fields(scheduled.fault):
                value = getattr(scheduled.fault, field.name)
                if value is not None and value != field.default:
                    lines.append(f"{field.name} = {_toml_value(value)}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_toml(cls, text: str, *, where: str = "schedule") -> FaultSchedule:
        """Reads the text form. Raises FaultError naming the field and what is allowed there."""
        try:
            table = read_toml(text)
        except ValueError as e:
            raise FaultError(str(e), where=where) from None
        return cls.from_table(table, where=where)

    @classmethod
    def from_table(cls, table: dict[str, Any], *, where: str = "schedule") -> FaultSchedule:
        """Reads what tomllib made of the text form."""
        _only(table, ("origin", "fault"), where)
        origin = table.get("origin", Origin.SETUP.value)
        origin = _origin(origin, where)
        entries = table.get("fault", [])
        if not isinstance(entries, list):
            raise FaultError("fault is not a list of tables", where=where, hint="write [[fault]]")
        faults: list[ScheduledFault] = []
        for i, entry in enumerate(cast("list[object]", entries)):
            here = f"{where}, fault {i + 1}"
            if not isinstance(entry, dict):
                raise FaultError("fault is not a table", where=here, hint="write [[fault]]")
            try:
                faults.append(_read_fault(cast("dict[str, Any]", entry), here))
            except FaultError as e:
                raise FaultError(e.what, where=e.where or here, hint=e.hint) from None
        return cls(tuple(faults), origin)


def _read_fault(entry: dict[str, Any], where: str) -> ScheduledFault:
    kind = entry.get("kind")
    if not isinstance(kind, str) or kind not in FAULTS:
        what = "it has no kind" if kind is None else f"there is no fault {shown(kind)}"
        raise FaultError(what, where=where, hint=f"kind is one of {', '.join(FAULTS)}")
    cls = FAULTS[kind]
    fields = {f.name: f for f in dataclasses.fields(cls)}
    _only(entry, ("kind", "at", "for", *fields), where)
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in entry:
            value = entry[name]
            values[name] = tuple(cast("list[object]", value)) if isinstance(value, list) else value
            if name.endswith("_ns") and isinstance(value, str):
                values[name] = parse_ns(value, name, signed=True)
        elif field.default is dataclasses.MISSING:
            hint = f"its fields are at, for, {', '.join(fields)}"
            raise FaultError(f"{kind}: {name} is missing", where=where, hint=hint)
    if "at" not in entry:
        raise FaultError(f"{kind}: at is missing", where=where, hint='give a time, as in at = "1.5 ms"')
    duration = parse_ns(entry["for"], "for") if "for" in entry else None
    return ScheduledFault(parse_ns(entry["at"], "at"), cls(**values), duration)


def _only(table: dict[str, Any], known: Iterable[str], where: str) -> None:
    allowed = list(known)
    for name in table:
        if name not in allowed:
            raise FaultError(
                f"there is no field {shown(name)}", where=where, hint=f"the fields are {', '.join(allowed)}"
            )


def _toml_value(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, cast('tuple[object, ...]', value)))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    return str(value)


# ---- times in text ---------------------------------------------------------------------------------------------------

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME = re.compile(r"\s*([+-]?[0-9]{1,18}(?:\.[0-9]{1,9})?)\s*(ns|us|ms|s)?\s*", re.ASCII)
"""18 digits hold the longest time in nanoseconds, 9 the shortest in seconds; Decimal is exact for both together."""
_INT_MAX = 10**18


def parse_ns(value: object, field: str = "time", *, signed: bool = False) -> int:
    """Nanoseconds of a number, or of a text with a unit: "250 us". Raises FaultError unless it is a whole number."""
    hint = 'give nanoseconds, or a text like "1.5 ms" (units: ns, us, ms, s)'
    if isinstance(value, int) and not isinstance(value, bool):
        ns = Decimal(value) if abs(value) < _INT_MAX else None
    else:
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        ns = Decimal(match[1]) * _UNITS[match[2] or "ns"] if match else None
    if ns is None:
        raise FaultError(f"{field} cannot be {shown(value)}", hint=hint)
    if ns != int(ns):
        raise FaultError(f"{field} cannot be {shown(value)}: it is no whole number of nanoseconds", hint=hint)
    if ns < 0 and not signed:
        raise FaultError(f"{field} cannot be negative, as in {shown(value)}", hint=hint)
    return int(ns)


def format_ns(ns: int) -> str:
    """The exact text of a time in the largest unit of which it has one: "1.5 ms", "250 us", "7 ns"."""
    for unit in ("s", "ms", "us"):
        if abs(ns) >= _UNITS[unit]:
            return f"{(Decimal(ns) / _UNITS[unit]).normalize():f} {unit}"
    return f"{ns} ns"


# ---- building --------------------------------------------------------------------------------------------------------


class FaultScheduleBuilder:
    """Builds a schedule step by step: FaultScheduleBuilder().at_ns(5_000_000, ProcessKill(1)).build()."""

    def __init__(self, origin: Origin | str = Origin.SETUP) -> None:
        self._origin = _origin(origin)
        self._faults: list[ScheduledFault] = []

    def at_ns(self, at_ns: int, fault: Fault, *, duration_ns: int | None = None) -> FaultScheduleBuilder:
        """Adds a fault; returns the builder."""
        self._faults.append(ScheduledFault(at_ns, fault, duration_ns))
        return self

    def between_ns(self, at_ns: int, end_ns: int, fault: Fault) -> FaultScheduleBuilder:
        """Adds a fault that lasts until end_ns; returns the builder."""
        return self.at_ns(at_ns, fault, duration_ns=end_ns - at_ns)

    def build(self) -> FaultSchedule:
        """The schedule."""
        return FaultSchedule(tuple(self._faults), self._origin)
