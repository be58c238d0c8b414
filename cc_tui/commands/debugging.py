"""The commands of a debugger: points that `continue` stops at, running to an address, who wrote these bytes.

Points belong to nobody's state: they are no inputs, and a script says where they led, not which they were. Addresses
are written as numbers, symbols, symbols with an offset, or lines of source files; without a machine the one in focus is
meant. Names are the kernel's, and else those of the programs of processes that are there at the moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands import catching
from cc_tui.commands.addresses import Address, OnMachine, Spot, breakpoint_at
from cc_tui.commands.language import CommandError
from cc_tui.commands.reports import Look, event_line, event_row
from chaoscontrol.debug import (
    Breakpoint,
    Cause,
    ConsoleText,
    DebugStop,
    EventPoint,
    Hop,
    PacketReceived,
    PacketSent,
    Watchpoint,
    Who,
)
from chaoscontrol.debug.conditions import vm_of
from chaoscontrol.packets import read_packet
from chaoscontrol.timetravel import format_seconds
from chaoscontrol.watches import ANY_PEER, WatchKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cc_tui.commands.bench import Bench, Point
    from chaoscontrol.watches import WatchHit

SIZE_MAX = 4096
KINDS = {"watch": WatchKind.WRITE, "rwatch": WatchKind.READ, "awatch": WatchKind.ACCESS}
# ---- points ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetBreak(OnMachine):
    """`continue` stops where the instruction at an address is about to be executed."""

    address: Address

    @property
    def text(self) -> str:
        return self.words("break", self.address.text)

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        spots = self.address.code_spots(bench, vm)
        _add(bench, [(breakpoint_at(vm, spot, physical=self.address.physical), spot) for spot in spots])


@dataclass(frozen=True, slots=True)
class SetWatch(OnMachine):
    """`continue` stops where memory is written, read, or either."""

    how: str
    address: Address
    size: int = 8

    @property
    def text(self) -> str:
        return self.words(self.how, self.address.text, str(self.size))

    def run(self, bench: Bench) -> None:
        if not 1 <= self.size <= SIZE_MAX:
            raise CommandError(f"{self.size} bytes cannot be watched", hint=f"give 1 to {SIZE_MAX}")
        vm = self.vm(bench)
        points = [
            (Watchpoint(vm, spot.address, self.size, KINDS[self.how], self.address.physical, spot.cr3), spot)
            for spot in self.address.spots(bench, vm)
        ]
        _add(bench, points)


@dataclass(frozen=True, slots=True)
class Catch(Look):
    """`continue` stops where something of a sort happens."""

    what: catching.What

    @property
    def text(self) -> str:
        return f"catch {self.what.text}"

    def run(self, bench: Bench) -> None:
        self.what.refuse_unknown(bench)
        _add(bench, [(self.what.condition, Spot(0))])


def _add(bench: Bench, points: Sequence[tuple[Point, Spot]]) -> None:
    """A name may be in several places; each has a point of its own."""
    lines: list[str] = []
    rows: list[dict[str, object]] = []
    for point, spot in points:
        if point not in bench.points.values():
            bench.points_made += 1
            bench.points[bench.points_made] = point
        number = next(number for number, known in bench.points.items() if known == point)
        if spot.about:
            bench.point_places[number] = spot.about
        what = _described(bench, number)
        lines.append(f"point {number}: {what}")
        rows.append({"point": number, "what": what})
    bench.answer(lines, rows[0] if len(rows) == 1 else rows)


@dataclass(frozen=True, slots=True)
class Delete(Look):
    """Points are forgotten."""

    number: int | None
    """None: all."""

    @property
    def text(self) -> str:
        return "delete" if self.number is None else f"delete {self.number}"

    def run(self, bench: Bench) -> None:
        if self.number is None:
            bench.points.clear()
        elif bench.points.pop(self.number, None) is None:
            known = ", ".join(map(str, bench.points)) or "none"
            raise CommandError(f"there is no point {self.number}", hint=f"there are {known}")


@dataclass(frozen=True, slots=True)
class ShowPoints(Look):
    """The points that `continue` stops at."""

    @property
    def text(self) -> str:
        return "points"

    def run(self, bench: Bench) -> None:
        lines = {number: _described(bench, number) for number in bench.points}
        rows = [f"{number}: {line}" for number, line in lines.items()]
        bench.answer(rows or ["no points"], [{"point": number, "what": line} for number, line in lines.items()])


def _described(bench: Bench, number: int) -> str:
    point, place = bench.points[number], bench.point_places.get(number)
    if not isinstance(point, Breakpoint | Watchpoint):
        return f"catch {catching.describe(point)}"
    name = _named(bench, point.address) if place is None else f"{point.address:#x} <{place}>"
    where = f"{name} of vm{point.vm}"
    if isinstance(point, Breakpoint):
        return f"break at {where}"
    how = next(name for name, kind in KINDS.items() if kind == point.kind)
    return f"{how} {point.size} bytes at {where}"


def _named(bench: Bench, address: int) -> str:
    name = bench.symbols().name(address)
    return f"{address:#x} <{name}>" if name else f"{address:#x}"


# ---- moving ---------------------------------------------------------------------------------------------------------


def continue_to_point(bench: Bench, *, forward: bool) -> None:
    """To the next place at which a point is met, or the one before. Raises ChaosControlError."""
    debugger = bench.debugger
    points = list(bench.points.values())
    tell(bench, debugger.forward(points) if forward else debugger.backward(points))


def tell(bench: Bench, stop: DebugStop) -> None:
    """Why a movement has ended."""
    if not stop.causes:
        bench.answer(["nothing was met"], {"met": []})
        return
    lines = [_cause_line(bench, cause) for cause in stop.causes]
    vm = next((vm for cause in stop.causes if (vm := _machine_of(cause)) is not None), bench.focus)
    if vm != bench.focus:
        bench.attend_to(vm)
        lines.append(f"vm{vm} is in focus now")
    bench.answer(lines, {"met": [_cause_data(bench, cause) for cause in stop.causes], "focus": vm})


def _machine_of(cause: Cause) -> int | None:
    """Where it was met; None: in no machine, or in any."""
    if cause.event is not None:
        return cause.event.vm if cause.event.vm >= 0 else None
    return cause.condition.vm if isinstance(cause.condition, ConsoleText | EventPoint) else vm_of(cause.condition)


def _cause_line(bench: Bench, cause: Cause) -> str:
    hit, number = cause.hit, _number_of(bench, cause)
    who = "" if number is None else f"point {number}: "
    if cause.event is not None:
        return f"{who}{event_line(cause.event)}"
    if isinstance(cause.condition, ConsoleText):
        return f"{who}{catching.describe(cause.condition)}"
    if hit is None:
        return f"{who}met"
    if isinstance(cause.condition, PacketSent | PacketReceived):
        return f"{who}{_frame_line(bench, cause.condition, hit)}"
    if hit.kind == WatchKind.EXECUTE:
        return f"{who}about to execute {_named(bench, hit.rip)}, instruction {hit.instret}"
    did = "wrote" if hit.kind == WatchKind.WRITE else "read"
    doer = f"the instruction at {_named(bench, hit.rip)}" if hit.who is Who.INSTRUCTION else hit.who.name.lower()
    return f"{who}{doer} {did} {hit.size} bytes at {hit.va:#x}: {hit.value.hex()}"


def _frame_line(bench: Bench, condition: PacketSent | PacketReceived, hit: WatchHit) -> str:
    """Who sent the frame to whom, and what it is as far as it lies in one piece."""
    sent = isinstance(condition, PacketSent)
    vm = condition.source if sent else condition.target
    peer, serial = hit.frame or (ANY_PEER, 0)
    other = "all" if peer == ANY_PEER else f"vm{peer}"
    frame = bench.multiverse.machines[vm].read_memory(hit.gpa, hit.size)
    way = f"vm{vm} to {other}" if sent else f"{other} to vm{vm}"
    return f"frame {serial} of {way} {'sent' if sent else 'received'}: {read_packet(frame)}"


def _cause_data(bench: Bench, cause: Cause) -> dict[str, object]:
    hit = cause.hit
    found: dict[str, object] = {"point": _number_of(bench, cause)}
    if cause.event is not None:
        found |= event_row(cause.event)
    if hit is not None:
        found |= {
            "kind": hit.kind.name, "who": hit.who.name, "rip": hex(hit.rip), "address": hex(hit.va), "size": hit.size,
            "value": hit.value.hex(), "instret": hit.instret, "vns": hit.vns,
        }  # fmt: skip
    return found


def _number_of(bench: Bench, cause: Cause) -> int | None:
    return next((number for number, point in bench.points.items() if point == cause.condition), None)


@dataclass(frozen=True, slots=True)
class RunTo(OnMachine):
    """Forward, or back, to where the instruction at an address is about to be executed."""

    moves: ClassVar[bool] = True
    address: Address
    forward: bool = True

    @property
    def text(self) -> str:
        return self.words("run-to" if self.forward else "reverse-run-to", self.address.text)

    def run(self, bench: Bench) -> None:
        vm, debugger = self.vm(bench), bench.debugger
        points = [breakpoint_at(vm, spot) for spot in self.address.code_spots(bench, vm)]
        tell(bench, debugger.forward(points) if self.forward else debugger.backward(points))


@dataclass(frozen=True, slots=True)
class WhenWritten(OnMachine):
    """Who wrote these bytes last, and where they came from, across copies and packets. The cursor stays."""

    moves: ClassVar[bool] = True
    address: Address
    size: int = 8

    @property
    def text(self) -> str:
        return self.words("when-written", self.address.text, str(self.size))

    def run(self, bench: Bench) -> None:
        if not 1 <= self.size <= SIZE_MAX:
            raise CommandError(f"{self.size} bytes are too many", hint=f"give 1 to {SIZE_MAX}")
        vm, physical = self.vm(bench), self.address.physical
        hops = bench.debugger.when_written(vm, self.address.find(bench, vm), self.size, physical=physical)
        lines = [_hop_line(bench, hop) for hop in hops]
        bench.answer(lines or ["nothing has written them: they are as they were loaded"], list(map(_hop_data, hops)))


def _hop_line(bench: Bench, hop: Hop) -> str:
    where = f"{format_seconds(hop.position.vns)} vm{hop.vm}, instruction {hop.instret}:"
    if hop.sender is not None:
        edited = ", written there by an edit" if hop.edited else ""
        return f"{where} came in frame {hop.serial} of vm{hop.sender}, to {hop.gpa:#x}{edited}"
    if hop.sent:
        return f"{where} sent in frame {hop.serial} from {hop.gpa:#x}"
    doer = f"the instruction at {_named(bench, hop.rip)}" if hop.rip else hop.who.name.lower()
    copied = "" if hop.read is None else ", a copy"
    return f"{where} {doer} wrote {hop.value.hex()} at physical {hop.gpa:#x}{copied}"


def _hop_data(hop: Hop) -> dict[str, object]:
    return {
        "vm": hop.vm, "vns": hop.position.vns, "instret": hop.instret, "gpa": hex(hop.gpa), "size": hop.size,
        "who": hop.who.name, "rip": hex(hop.rip), "value": hop.value.hex(), "sender": hop.sender, "serial": hop.serial,
        "sent": hop.sent, "edited": hop.edited,
    }  # fmt: skip


__all__ = [
    "KINDS", "Delete", "RunTo", "SetBreak", "SetWatch", "ShowPoints", "WhenWritten",
    "continue_to_point",
]  # fmt: skip
