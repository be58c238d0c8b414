"""Points: the breakpoints of a client, by what it calls them, as the debugger's conditions.

A client gives all breakpoints of a source file, all on functions, and so on, and each time replaces those before. A
line or a function may be in several machines and processes, or in none yet: then it is looked for again before each
movement.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cc_tui.commands import CommandError
from cc_tui.commands.addresses import Address, breakpoint_at
from chaoscontrol.debug import Breakpoint, Condition, ConsoleText, Watchpoint, assertions, faults
from chaoscontrol.watches import WatchKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cc_tui.commands.bench import Bench

ACCESSES = {"read": WatchKind.READ, "write": WatchKind.WRITE, "readWrite": WatchKind.ACCESS}
TROUBLE = re.compile(r"Kernel panic|Oops|BUG:|general protection fault")
FILTERS: dict[str, tuple[str, Callable[[], Condition]]] = {
    "assertions": ("Failed assertions of the guests", lambda: assertions(failed=True)),
    "faults": ("Faults that begin or end", faults),
    "trouble": ("Kernel panic or oops on a console", lambda: ConsoleText(TROUBLE)),
}
"""What a client may ask to stop at besides breakpoints: by filter, its label and the condition."""


@dataclass(slots=True)
class Point:
    """One breakpoint of the client."""

    number: int
    ways: tuple[str, ...]
    """To write its address, the first one that is somewhere counts: `main.c:12`, `vfs_read`, `0x401000`."""
    conditions: list[Condition] = field(default_factory=list[Condition])
    message: str = ""
    """Why it is nowhere."""
    line: int | None = None
    """Of a source file: where it really is."""

    def as_body(self) -> dict[str, Any]:
        """As the protocol's Breakpoint."""
        body: dict[str, Any] = {"id": self.number, "verified": bool(self.conditions)}
        first = next((c for c in self.conditions if isinstance(c, Breakpoint)), None)
        return body | {
            key: value
            for key, value in {
                "message": self.message,
                "line": self.line,
                "instructionReference": None if first is None else hex(first.address),
            }.items()
            if value
        }


class DataPlace(NamedTuple):
    """What a data breakpoint is set on; its text is the protocol's dataId."""

    vm: int
    address: int
    size: int

    def __str__(self) -> str:
        return f"vm{self.vm}:{self.address:#x}:{self.size}"

    @classmethod
    def read(cls, text: str) -> DataPlace:
        """Raises CommandError."""
        match = re.fullmatch(r"vm(\d{1,4}):0x([0-9a-f]{1,16}):(\d{1,4})", text, re.ASCII)
        if match is None:
            raise CommandError(f"{text!r} names no data", hint="ask dataBreakpointInfo for a dataId")
        return cls(int(match[1]), int(match[2], 16), int(match[3]))


class Points:
    """All breakpoints of a client."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._groups: dict[str, list[Point]] = {}
        self._made = 0
        self._filters: list[Condition] = []

    def set_code(self, group: str, texts: Sequence[str]) -> list[Point]:
        """The breakpoints of a group: addresses as they are written."""
        return self._set_code(group, [(text,) for text in texts])

    def set_source(self, path: str, lines: Sequence[int]) -> list[Point]:
        """The breakpoints of a source file, whose path is the client's; the compiler's has an end in common with it."""
        parts = [part for part in path.replace("\\", "/").split("/") if part]
        ends = ["/".join(parts[at:]) for at in range(len(parts))]
        return self._set_code(path, [tuple(f"{end}:{line}" for end in ends) for line in lines])

    def _set_code(self, group: str, wanted: Sequence[tuple[str, ...]]) -> list[Point]:
        points = [self._make(*ways) for ways in wanted]
        self._groups[group] = points
        for point in points:
            self._place(point)
        return points

    def set_data(self, wanted: Sequence[tuple[DataPlace, str]]) -> list[Point]:
        """The data breakpoints, each with its kind of access. Raises CommandError."""
        points: list[Point] = []
        for place, access in wanted:
            if access not in ACCESSES:
                raise CommandError(f"{access!r} is no kind of access", hint=f"there are {', '.join(ACCESSES)}")
            if not 0 <= place.vm < self._bench.vms:
                raise CommandError(f"there is no machine {place.vm}", hint=f"0 to {self._bench.vms - 1}")
            point = self._make(str(place))
            point.conditions.append(Watchpoint(place.vm, place.address, place.size, ACCESSES[access]))
            points.append(point)
        self._groups["data"] = points
        return points

    def set_filters(self, names: Sequence[str]) -> None:
        """What to stop at besides. Raises CommandError."""
        unknown = next((name for name in names if name not in FILTERS), None)
        if unknown is not None:
            raise CommandError(f"no filter {unknown!r}", hint=f"there are {', '.join(FILTERS)}")
        self._filters = [FILTERS[name][1]() for name in names]

    def _make(self, *ways: str) -> Point:
        self._made += 1
        return Point(self._made, ways)

    def _place(self, point: Point) -> None:
        """Look for where it is."""
        for way in point.ways:
            self._place_at(point, way)
            if point.conditions:
                point.message = ""
                return

    def _place_at(self, point: Point, text: str) -> None:
        bench = self._bench
        try:
            address = Address.read(text)
        except CommandError as error:
            point.message = str(error)
            return
        for vm in range(bench.vms):
            try:
                spots = address.code_spots(bench, vm)
            except CommandError as error:
                point.message = str(error)
                continue
            point.conditions += [breakpoint_at(vm, spot) for spot in spots]
            point.line = point.line or spots[0].line

    def look_again(self) -> Iterator[Point]:
        """Those that were nowhere and are somewhere now."""
        for points in self._groups.values():
            for point in points:
                if not point.conditions:
                    self._place(point)
                    if point.conditions:
                        yield point

    def conditions(self) -> list[Condition]:
        """What movements stop at."""
        own = [condition for points in self._groups.values() for point in points for condition in point.conditions]
        return list(dict.fromkeys([*own, *self._filters]))

    def numbers(self, met: Sequence[Condition]) -> list[int]:
        """Of the breakpoints that were met."""
        return [
            point.number
            for points in self._groups.values()
            for point in points
            if any(condition in met for condition in point.conditions)
        ]


__all__ = ["ACCESSES", "FILTERS", "DataPlace", "Point", "Points"]
