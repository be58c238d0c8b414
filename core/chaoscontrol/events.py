"""What happens in a cluster, as one stream of values: console lines, SDK requests, faults, power, agent output.

Owns the order of the stream (time, then machine, then the order in the machine) and the assembly of console lines.
Reading it changes nothing: the stream of a stretch is the same however often the stretch is run.
"""

from __future__ import annotations

import dataclasses
import enum
import struct
from typing import TYPE_CHECKING, NamedTuple

from . import agent
from ._binding import lib
from .protocol import ProtocolError, SdkEvent
from .values import StopKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .cluster import SimulationController
    from .faults.engine import FaultChange
    from .machine import DeterministicVm, RawEvent

LINE_BYTES_MAX = 4096
"""A console line longer than this is reported in pieces."""


class EventKind(enum.StrEnum):
    """What an event is about; in what follows the type of its `data`."""

    CONSOLE = "console"
    """A line that the guest printed: str."""
    SDK = "sdk"
    """SdkEvent."""
    FAULT = "fault"
    """A fault began, ended or happened: FaultChange; it could not be applied: str."""
    DISK = "disk"
    """bytes, as the device reports it."""
    NETWORK = "network"
    """bytes."""
    POWER = "power"
    """bytes."""
    AGENT = "agent"
    """Bytes from the guest agent."""
    END = "end"
    """The machine ended by itself: str, why."""


_ORDER_OF_KINDS = {kind: order for order, kind in enumerate(EventKind)}
_KINDS = {
    lib.CC_EVENT_DISK: EventKind.DISK,
    lib.CC_EVENT_NET: EventKind.NETWORK,
    lib.CC_EVENT_POWER: EventKind.POWER,
    lib.CC_EVENT_AGENT: EventKind.AGENT,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, and when."""

    vns: int
    vm: int
    """The machine's index; -1 for what concerns the cluster."""
    instret: int
    kind: EventKind
    data: str | bytes | SdkEvent | FaultChange

    @property
    def is_fault_not_done(self) -> bool:
        """Is it about a fault that could not be applied?"""
        return self.kind is EventKind.FAULT and isinstance(self.data, str)

    @property
    def text(self) -> str:
        """One line for a person."""
        if isinstance(self.data, SdkEvent):
            return f"{self.data.command.name.lower()} {self.data.message} {self.data.json}".strip()
        if self.kind is EventKind.AGENT and isinstance(self.data, bytes):
            return agent.describe(self.data)
        return repr(self.data) if isinstance(self.data, bytes) else str(self.data)


class ConsoleLines:
    """Assembles one machine's console output into lines, each dated with the moment its first byte was sent."""

    def __init__(self, vm: int) -> None:
        self._vm = vm
        self._rest = b""
        self._began = (0, 0)

    def copy(self) -> ConsoleLines:
        """An independent one in the same state."""
        other = ConsoleLines(self._vm)
        other._rest, other._began = self._rest, self._began
        return other

    def feed(self, offset: int, data: bytes, marks: Sequence[tuple[int, int, int]]) -> list[Event]:
        """The lines completed by the bytes at `offset`. marks: (offset, vns, instret) of lines that begin in them."""
        found: list[Event] = []
        moments = {at - offset: (vns, instret) for at, vns, instret in marks}
        start = 0
        while start < len(data):
            if not self._rest:
                self._began = moments.get(start, self._began)
            end = data.find(b"\n", start)
            stop = len(data) if end < 0 else end
            room = LINE_BYTES_MAX - len(self._rest)
            piece = data[start : min(stop, start + room)]
            self._rest += piece
            start += len(piece)
            if (start == stop and end >= 0) or len(self._rest) >= LINE_BYTES_MAX:
                text = self._rest.decode(errors="replace").rstrip("\r")
                found.append(Event(self._began[0], self._vm, self._began[1], EventKind.CONSOLE, text))
                self._rest = b""
                if start == stop and end >= 0:
                    start += 1
        return found


class MachineEnd(NamedTuple):
    """A machine ended: by itself, or its power was cut. A fault may start it again."""

    vns: int
    machine: int
    kind: StopKind
    detail: int


_U32 = struct.Struct("<I")
_END = struct.Struct("<II")


def _events_of(i: int, raw: Sequence[RawEvent]) -> list[Event]:
    """What machine i has reported besides console output."""
    found: list[Event] = []
    for record in raw:
        if record.kind == lib.CC_EVENT_END:
            kind, _ = _END.unpack_from(record.payload)
            found.append(Event(record.vns, i, record.instret, EventKind.END, StopKind(kind).text))
        elif record.kind == lib.CC_EVENT_SDK:
            try:
                event = SdkEvent.decode(record.payload)
            except ProtocolError:
                continue
            found.append(Event(record.vns, i, record.instret, EventKind.SDK, event))
        else:
            found.append(Event(record.vns, i, record.instret, _KINDS[record.kind], record.payload))
    return found


class ReportReader:
    """Reads what happens in a cluster besides console output: its machines' reports, their ends, its faults.

    A cluster has one reader. Not part of the state: after going back, a copy() made at that moment goes on reading.
    """

    def __init__(self, cluster: SimulationController) -> None:
        self._cluster = cluster
        self._down: frozenset[int] = frozenset()
        self._ends: tuple[MachineEnd, ...] = ()
        self.lost = 0
        """Records that the engine dropped because they were not read for too long."""

    def copy(self) -> ReportReader:
        """A reader of the same cluster in the same state."""
        other = ReportReader(self._cluster)
        other._down, other._ends, other.lost = self._down, self._ends, self.lost
        return other

    def discard(self) -> None:
        """Forgets what has been reported and nobody has read, after a restore."""
        for vm in self._cluster.vms:
            vm.take_raw_events()
        self._cluster.take_fault_log()
        self._cluster.take_failed_faults()

    def read(self) -> list[Event]:
        """What was reported since the last call; not in order of time."""
        found: list[Event] = []
        for machine, vm in enumerate(self._cluster.vms):
            raw, lost = vm.take_raw_events()
            found += _events_of(machine, raw)
            self._note_ends(machine, raw)
            self.lost += lost
        found += [Event(change.vns, -1, 0, EventKind.FAULT, change) for change in self._cluster.take_fault_log()]
        for vns, why in self._cluster.take_failed_faults():
            found.append(Event(vns, -1, 0, EventKind.FAULT, f"not done: {why}"))
        return found

    def _note_ends(self, machine: int, raw: Sequence[RawEvent]) -> None:
        for record in raw:
            if record.kind == lib.CC_EVENT_END:
                kind, detail = _END.unpack_from(record.payload)
                self._ends += (MachineEnd(record.vns, machine, StopKind(kind), detail),)
                self._down |= {machine}
            elif record.kind == lib.CC_EVENT_POWER:
                (what,) = _U32.unpack_from(record.payload)
                if what == lib.CC_POWER_OFF and machine not in self._down:
                    self._ends += (MachineEnd(record.vns, machine, StopKind.POWER_OFF, 0),)
                    self._down |= {machine}
                elif what == lib.CC_POWER_RESTARTED:
                    at_once = MachineEnd(record.vns, machine, StopKind.POWER_OFF, 0)
                    self._ends = tuple(end for end in self._ends if end != at_once)
                    self._down -= {machine}

    def take_ends(self) -> list[MachineEnd]:
        """The ends of machines that were read since the last call, in order.

        A power cut of one that runs is an end, unless it starts again at that instant.
        """
        ends, self._ends = self._ends, ()
        return sorted(ends)


class EventReader:
    """Reads everything that happens in a cluster, console lines included, each once and in order.

    Takes the machines' console output, so a cluster has one reader, as with ReportReader.
    """

    def __init__(self, cluster: SimulationController) -> None:
        self._cluster = cluster
        self._reports = ReportReader(cluster)
        self._lines = [ConsoleLines(i) for i in range(len(cluster.vms))]

    @property
    def lost(self) -> int:
        """Records that the engine dropped because they were not read for too long."""
        return self._reports.lost

    def copy(self) -> EventReader:
        """A reader of the same cluster in the same state."""
        other = EventReader(self._cluster)
        other._reports = self._reports.copy()
        other._lines = [lines.copy() for lines in self._lines]
        return other

    def discard(self) -> None:
        """Forgets what has happened and nobody has read, after a restore."""
        self._reports.discard()
        for vm in self._cluster.vms:
            vm.take_console()
            vm.take_console_marks()

    def read(self) -> list[Event]:
        """What happened since the last call, in order."""
        found = self._reports.read()
        for i, vm in enumerate(self._cluster.vms):
            found += self._read_console(i, vm)
        return in_order(found)

    def _read_console(self, i: int, vm: DeterministicVm) -> list[Event]:
        marks = [(mark.offset, mark.vns, mark.instret) for mark in vm.take_console_marks()]
        offset, data = vm.take_console()
        return self._lines[i].feed(offset, data, marks)


def in_order(events: Iterable[Event]) -> list[Event]:
    """Events by time, then machine, then kind; those of one machine, kind and time stay as they are."""
    return sorted(events, key=lambda event: (event.vns, event.vm, _ORDER_OF_KINDS[event.kind]))
