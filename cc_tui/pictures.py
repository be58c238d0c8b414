"""Pictures: what a session shows of its cluster at one moment, as frozen values.

The interface draws them and keeps none of its own state about the cluster; nothing here knows a widget or the engine's
thread.
"""

from dataclasses import dataclass, field

from chaoscontrol.events import Event
from chaoscontrol.faults import FaultSpan
from chaoscontrol.in_flight import PacketInFlight
from chaoscontrol.network import LinkCounters, LinkParams
from chaoscontrol.oracle import PropertyResult
from chaoscontrol.registers import Registers
from chaoscontrol.timetravel import (
    Branch,
    ConsoleLog,
    Ending,
    EventLog,
    Failure,
    GivenInput,
    Moment,
    Position,
)

CODE_BYTES = 192
"""Bytes at RIP that a picture carries, for a disassembly of a screenful."""


@dataclass(frozen=True, slots=True)
class LinkView:
    """One direction between two machines at the cursor."""

    src: int
    dst: int
    params: LinkParams
    normal: bool
    """Is it as it is when nothing is wrong?"""
    counters: LinkCounters


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What concerns the cluster rather than a machine."""

    faults: tuple[FaultSpan, ...] = ()
    """All faults of the cursor's line of history in the order of their beginnings, those after the cursor included."""
    failures: tuple[Failure, ...] = ()
    """Properties broken on that line, the earliest first, those after the cursor included."""
    properties: tuple[PropertyResult, ...] = ()
    """How every property stands at the cursor."""
    links: tuple[LinkView, ...] = ()
    """Every direction between machines with a network device, by sender, then by receiver; empty without a network."""
    in_flight: tuple[PacketInFlight, ...] = ()
    """The packets on their way, the next to arrive first, as far as a picture has room for them."""
    coverage: tuple[bytes | None, ...] = ()
    """The 65536 counters of each machine's SDK coverage map; None for one that uses none. Empty: not asked for."""
    events: EventLog = field(default_factory=EventLog)
    """Of the cursor's branch, to be read up to `events_total`."""
    events_total: int = 0
    pending: tuple[Event, ...] = ()
    """What happened after those, up to the cursor."""


@dataclass(frozen=True, slots=True)
class MachineView:
    """The machine in focus at the cursor."""

    machine: int
    registers: Registers
    code: bytes
    """Bytes from RIP on; fewer than CODE_BYTES where they are not mapped."""
    before: Registers | None
    """The registers where the cursor last rested, if that was elsewhere and the same machine was in focus."""


@dataclass(frozen=True, slots=True)
class SessionView:
    """A picture of the session. Times are virtual nanoseconds."""

    branch: Branch
    position: Position
    tick: int
    at_end: bool
    instrets: tuple[int, ...]
    console_totals: tuple[int, ...]
    """Bytes that each console has sent by the cursor."""
    consoles: tuple[ConsoleLog, ...]
    """The logs of the cursor's branch, to be read up to `console_totals`."""
    branches: tuple[Branch, ...]
    line: dict[str, Position]
    """The cursor's branch and its ancestors, each with its last position on this line of history."""
    inputs: tuple[GivenInput, ...]
    """All of the cursor's line of history."""
    endings: tuple[Ending, ...]
    log: tuple[tuple[int, int, str], ...]
    """(time, machine, line) of what the machines logged up to the cursor."""
    marks: dict[str, Moment]
    mark_notes: dict[str, str]
    """Of those marks that have one."""
    quantum_ns: int
    focus: int
    step_ns: int
    speed: float | None
    running: bool
    flat_out: bool
    moment: Moment | None
    """The verified position; None while something is under way."""
    machine: MachineView | None
    rate: float
    """Instructions a second, of all machines, while something is under way; else 0."""
    unsaved_inputs: int
    stopped: frozenset[int] = frozenset()
    """Machines that have ended by the cursor, and were not started again."""
    cluster: ClusterView = ClusterView()
    """Faults, properties, links and coverage at the cursor."""

    @property
    def known_end(self) -> Position:
        """The end of the cursor's branch."""
        return self.branch.end

    def on_line(self, branch: str, position: Position) -> bool:
        """Is a position of a branch on the cursor's line of history?"""
        return branch in self.line and position <= self.line[branch]


__all__ = ["CODE_BYTES", "ClusterView", "Failure", "LinkView", "MachineView", "SessionView"]
