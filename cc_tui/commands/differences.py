"""The commands that compare: `diff` two moments part by part, `compare` what became of two branches."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cc_tui.commands.engine import EngineCommand, place_data
from cc_tui.commands.guests import linux_of
from cc_tui.commands.language import CommandError, format_duration
from cc_tui.commands.place import Place
from cc_tui.commands.reports import event_line, event_row
from chaoscontrol.debug.diff import Comparer, Diff, MachineDiff, PageDiff, PageRange, ValueDiff
from chaoscontrol.debug.parting import CLUSTER, Parting, PartingFinder
from chaoscontrol.errors import GuestError, UsageError
from chaoscontrol.oracle import Verdict
from chaoscontrol.packets import read_packet
from chaoscontrol.timetravel import describe, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cc_tui.commands.bench import Bench
    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.symbols.linux import LinuxGuest

SHOWN = 8
"""Of registers, ranges, pages and numbers; JSON has all."""
OTHER_PAGES_SHOWN = 2
"""Of what devices keep."""


@dataclass(frozen=True, slots=True)
class ShowDiff(EngineCommand):
    """What differs between two places; without the second, between the first and here."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    a: Place
    b: Place | None = None

    @property
    def text(self) -> str:
        return f"diff {self.a.text}" + ("" if self.b is None else f" {self.b.text}")

    def run(self, bench: Bench) -> None:
        comparer = Comparer(bench.multiverse, network=bench.network, guest_of=_guests(bench))
        found = comparer.diff(_going(bench, self.a), _going(bench, self.b))
        bench.answer(_lines(found), diff_data(found))


def _going(bench: Bench, place: Place | None) -> Callable[[], None]:
    """Goes to a place as it is meant from where the cursor is now."""
    multiverse = bench.multiverse
    here = multiverse.branch.name, multiverse.position

    def go() -> None:
        multiverse.goto_time(here[1].vns, branch=here[0], ordinal=here[1].ordinal)
        if place is not None:
            place.goto(multiverse, bench.focus, bench.marks, bench.quantum_ns)

    return go


def _guests(bench: Bench) -> Callable[[int], LinuxGuest | None]:
    def guest_of(vm: int) -> LinuxGuest | None:
        try:
            return linux_of(bench, vm)
        except (GuestError, UsageError, CommandError):
            return None

    return guest_of


@dataclass(frozen=True, slots=True)
class Compare(EngineCommand):
    """Where two branches part, and which bugs are on which; both are gone to the same time."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    a: str
    b: str | None = None
    """None: the cursor's."""
    until_ns: int | None = None

    @property
    def text(self) -> str:
        words = ["compare", self.a, *([] if self.b is None else [self.b])]
        return " ".join(words + ([] if self.until_ns is None else ["until", format_duration(self.until_ns)]))

    def run(self, bench: Bench) -> None:
        b = bench.multiverse.branch.name if self.b is None else self.b
        found = PartingFinder(bench.multiverse, network=bench.network).find(self.a, b, self.until_ns)
        bench.answer(_parting_lines(found), _parting_data(found))


# ---- for a person ----------------------------------------------------------------------------------------------------


def _lines(diff: Diff) -> list[str]:
    lines = [f"a {diff.a.brief}, b {diff.b.brief}"]
    if diff.equal:
        return [*lines, "nothing differs"]
    for machine in diff.machines:
        lines += _machine_lines(machine)
    if diff.network:
        lines.append("network: differs" if diff.links else "network: differs, in no link's numbers")
    for link in diff.links:
        lines.append(f"  vm{link.src} to vm{link.dst}: {_values(link.values, hexadecimal=False)}")
    return lines


def _machine_lines(m: MachineDiff) -> list[str]:
    if m.equal:
        return [f"vm{m.vm}: equal"]
    more = m.instret[1] - m.instret[0]
    lines = [f"vm{m.vm}: instruction {m.instret[0]} at a, {m.instret[1]} at b ({more:+})"]
    if m.stopped[0] != m.stopped[1]:
        lines.append(f"  stopped at {'a' if m.stopped[0] else 'b'} only")
    if m.registers:
        lines.append(f"  registers: {_values(m.registers)}")
    if m.devices:
        lines.append("  devices: differ")
    for area in dict.fromkeys(piece.area for piece in m.ranges):
        lines += _area_lines(area, [r for r in m.ranges if r.area == area], [p for p in m.pages if p.area == area])
    for process in m.processes:
        states = [state or "not there" for state in (process.a, process.b)]
        lines.append(f"  process {process.pid} {process.name}: {states[0]} at a, {states[1]} at b")
    if m.console is not None:
        c = m.console
        lines.append(f"  console: {c.a_more} and {c.b_more} bytes more than the common {c.common}; line {c.line}:")
        lines += [f"    {name} {text}" for name, text in (("a", c.a), ("b", c.b))]
    return lines


def _values(values: Sequence[ValueDiff], *, hexadecimal: bool = True) -> str:
    form = hex if hexadecimal else str
    shown = [f"{value.name} {form(value.a)} \N{RIGHTWARDS ARROW} {form(value.b)}" for value in values[:SHOWN]]
    return ", ".join(shown) + _more(len(values))


def _more(count: int) -> str:
    return f" and {count - SHOWN} more" if count > SHOWN else ""


def _area_lines(area: str, ranges: Sequence[PageRange], pages: Sequence[PageDiff]) -> list[str]:
    count = sum(piece.count for piece in ranges)
    shown = ", ".join(_range(piece) for piece in ranges[:SHOWN]) + _more(len(ranges))
    lines = [f"  {area}: {count} {'page' if count == 1 else 'pages'} of 4096 bytes: {shown}"]
    for page in pages[: SHOWN if area == "memory" else OTHER_PAGES_SHOWN]:
        where = f" <{page.where}>" if page.where else ""
        what = f"{page.a.hex(' ')} \N{RIGHTWARDS ARROW} {page.b.hex(' ')}"
        lines.append(f"    {page.page * 4096 + page.offset:#x}{where}: {what}")
    return lines


def _range(piece: PageRange) -> str:
    return f"{piece.first:#x}" if piece.count == 1 else f"{piece.first:#x}-{piece.first + piece.count - 1:#x}"


def _parting_lines(p: Parting) -> list[str]:
    common = f"{p.common}@{format_seconds(p.fork.vns)}"
    lines = [f"a {p.a.brief}, b {p.b.brief}: one history up to {common}"]
    for name, given in (("a", p.given_a), ("b", p.given_b)):
        lines += [f"  only {name} was given, at {format_seconds(one.at.vns)}: {describe(one.input)}" for one in given]
    for machine in p.machines:
        who = "network" if machine.vm == CLUSTER else f"vm{machine.vm}"
        if machine.vns is None:
            lines.append(f"{who} stays the same")
        else:
            lines.append(
                f"{who} parts by {format_seconds(machine.vns)}" + (f": {machine.what}" if machine.what else "")
            )
    if p.event is None:
        lines.append("the same events have happened")
    else:
        lines.append(f"the first event that differs is number {p.event.number}")
        lines += [f"  {n} {'none' if e is None else event_line(e)}" for n, e in (("a", p.event.a), ("b", p.event.b))]
    if p.frame is not None:
        lines.append("the first frame that differs")
        lines += [f"  {name} {_frame_line(frame)}" for name, frame in (("a", p.frame.a), ("b", p.frame.b))]
    for pair in p.properties:
        outcome = "remains" if pair.remains else "only in a" if pair.a is Verdict.FAILED else "only in b"
        lines.append(f"bug {outcome}: {pair.name}")
    return [*lines, *([] if p.properties else ["no property is broken on either"])]


def _frame_line(frame: CapturedFrame | None) -> str:
    if frame is None:
        return "none then"
    return f"{format_seconds(frame.sent_vns)} vm{frame.src} to vm{frame.dst}: {read_packet(frame.data).summary}"


# ---- for a program ---------------------------------------------------------------------------------------------------


def diff_data(diff: Diff) -> dict[str, Any]:
    """What JSON can hold; registers and bytes in hexadecimal."""
    return {
        "a": place_data(diff.a),
        "b": place_data(diff.b),
        "equal": diff.equal,
        "machines": [_machine_data(machine) for machine in diff.machines],
        "network": diff.network,
        "links": [asdict(link) for link in diff.links],
    }


def _machine_data(m: MachineDiff) -> dict[str, Any]:
    return {
        "vm": m.vm,
        "equal": m.equal,
        "instret": m.instret,
        "stopped": m.stopped,
        "registers": {value.name: [hex(value.a), hex(value.b)] for value in m.registers},
        "devices": m.devices,
        "pages": sum(piece.count for piece in m.ranges),
        "ranges": list(map(asdict, m.ranges)),
        "first": [{**asdict(page), "a": page.a.hex(), "b": page.b.hex()} for page in m.pages],
        "processes": list(map(asdict, m.processes)),
        "console": None if m.console is None else asdict(m.console),
    }


def _frame_data(frame: CapturedFrame) -> dict[str, Any]:
    found: dict[str, Any] = {"sent_vns": frame.sent_vns, "src": frame.src, "dst": frame.dst}
    return {**found, "summary": read_packet(frame.data).summary, "hex": frame.data.hex()}


def _parting_data(p: Parting) -> dict[str, Any]:
    frames = None if p.frame is None else (p.frame.a, p.frame.b)
    return {
        "a": place_data(p.a),
        "b": place_data(p.b),
        "equal": p.equal,
        "fork": {"branch": p.common, "vns": p.fork.vns, "ordinal": p.fork.ordinal},
        "given": [[{"vns": g.at.vns, "text": describe(g.input)} for g in given] for given in (p.given_a, p.given_b)],
        "machines": list(map(asdict, p.machines)),
        "event": None if p.event is None else {
            "number": p.event.number,
            "events": [None if event is None else event_row(event) for event in (p.event.a, p.event.b)],
        },
        "frames": frames and [None if frame is None else _frame_data(frame) for frame in frames],
        "bugs": [{"name": pair.name, "a": pair.a, "b": pair.b, "remains": pair.remains} for pair in p.properties],
    }  # fmt: skip


__all__ = ["Compare", "ShowDiff", "diff_data"]
