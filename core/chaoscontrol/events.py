"""What happens in a cluster, as one stream of values: console lines, SDK requests, faults, power, agent output.

Owns the order of the stream (time, then machine, then the order in the machine) and the assembly of console lines.
Reading it changes nothing: the stream of a stretch is the same however often the stretch is run.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from ._binding import lib
from .protocol import ProtocolError, SdkEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .cluster import SimulationController
    from .faults.engine import FaultChange
    from .machine import DeterministicVm

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


def machine_events(i: int, vm: DeterministicVm) -> tuple[list[Event], int]:
    """What machine i has queued besides console output, and how many records were dropped because nobody read them."""
    found: list[Event] = []
    raw, lost = vm.take_raw_events()
    for record in raw:
        if record.kind == lib.CC_EVENT_SDK:
            try:
                event = SdkEvent.decode(record.payload)
            except ProtocolError:
                continue
            found.append(Event(record.vns, i, record.instret, EventKind.SDK, event))
        else:
            found.append(Event(record.vns, i, record.instret, _KINDS[record.kind], record.payload))
    return found, lost


class ReportReader:
    """Reads what happens in a cluster besides console output: its machines' reports, their ends, its faults.

    A cluster has one reader. Not part of the state: after going back, a copy() made at that moment goes on reading.
    """

    def __init__(self, cluster: SimulationController) -> None:
        self._cluster = cluster
        self._ended: frozenset[int] = frozenset()
        self.lost = 0
        """Records that the engine dropped because they were not read for too long."""

    def copy(self) -> ReportReader:
        """A reader of the same cluster in the same state."""
        other = ReportReader(self._cluster)
        other._ended, other.lost = self._ended, self.lost
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
            events, lost = machine_events(machine, vm)
            found += events
            self.lost += lost
        found += [Event(change.vns, -1, 0, EventKind.FAULT, change) for change in self._cluster.take_fault_log()]
        for why in self._cluster.take_failed_faults():
            found.append(Event(self._cluster.vns, -1, 0, EventKind.FAULT, f"not done: {why}"))
        return found + self._ends()

    def _ends(self) -> list[Event]:
        ended = frozenset(i for i in range(len(self._cluster.vms)) if self._cluster.has_ended(i))
        new = [(machine, self._cluster.end_of(machine)) for machine in sorted(ended - self._ended)]
        self._ended = ended
        return [
            Event(stop.vns, machine, stop.instret, EventKind.END, stop.kind.text)
            for machine, stop in new
            if not stop.kind.is_power_cut  # that is a fault's doing, and among the faults
        ]


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
