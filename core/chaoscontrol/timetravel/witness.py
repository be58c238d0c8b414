"""Witness: what has been seen of a cluster up to where it stands, and how its properties stand.

It reads everything that the machines and the fault engine report, and feeds it to the oracle. It belongs to a position
as the machines' state does: keyframes hold a copy, so going back takes back what was seen.

Properties that watch the stream depend on its order, and where a run is cut into segments must not show. So events
are kept until virtual time passes a multiple of BATCH_NS, at which every segment ends, and are then put in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.events import ConsoleLines, Event, ReportReader, in_order
from chaoscontrol.oracle import At, OracleReport, PropertyOracle
from chaoscontrol.protocol import SdkEvent
from chaoscontrol.timetravel.inputs import Phase

if TYPE_CHECKING:
    from chaoscontrol.cluster import SimulationController
    from chaoscontrol.events import MachineEnd
    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.timetravel.cluster_api import ConsoleMark

BATCH_NS = 50_000_000


class Failure(NamedTuple):
    """A property that was broken, and where first."""

    at: At
    name: str
    details: str = ""


class Seen(NamedTuple):
    """A batch of events in order, and the properties that they are the first to break."""

    events: list[Event]
    failures: list[Failure]


class Witness:
    """Sees nothing: of clusters that report no events. The base of the one that does."""

    @property
    def lost(self) -> int:
        """Records that the engine dropped because they were not read in time."""
        return 0

    @property
    def captures(self) -> bool:
        """Whether it captures what the network carries."""
        return False

    def read(self) -> None:
        """Take in what the machines and the fault engine have reported."""

    def console(self, machine: int, offset: int, data: bytes, marks: Sequence[ConsoleMark]) -> None:
        """Take in what a console has sent."""

    def take_frames(self) -> list[CapturedFrame]:
        """What the network did with frames since the last call, in its order; nothing where that is not wanted."""
        return []

    def take_ends(self) -> list[MachineEnd] | None:
        """Machines that ended since the last call, in order; None: it is not told of that."""
        return None

    def settle(self, vns: int) -> Seen:
        """Everything up to `vns`, a multiple of BATCH_NS, was taken in: put it in order and judge it."""
        return Seen([], [])

    def enter(self, phase: Phase | None, vns: int) -> Seen:
        """As settle(), at any `vns`; then a phase, if any, begins."""
        return Seen([], [])

    def discard(self) -> None:
        """Forget what the machines have reported and nobody has read, after a restore."""

    def copy(self) -> Witness:
        """An independent one in the same state."""
        return self

    def pending(self) -> list[Event]:
        """Events since the last multiple of BATCH_NS, in order."""
        return []

    def report(self, vns: int) -> OracleReport:
        """How every property stands where the cluster is, at virtual time `vns`."""
        return OracleReport()


class ClusterWitness(Witness):
    """The witness of a SimulationController. `packets`: it captures what the network carries, from now on."""

    def __init__(self, cluster: SimulationController, oracle: PropertyOracle, *, packets: bool = False) -> None:
        self._cluster = cluster
        self._oracle = oracle
        self._lines = [ConsoleLines(machine) for machine in range(len(cluster.vms))]
        self._reports = ReportReader(cluster)
        self._pending: list[Event] = []
        self._broken: frozenset[str] = frozenset()
        self._tap = cluster.network.tap() if packets else None
        self._frames: list[CapturedFrame] = []
        self._frames_lost = 0

    @property
    def lost(self) -> int:
        return self._reports.lost + self._frames_lost

    @property
    def captures(self) -> bool:
        return self._tap is not None

    def read(self) -> None:
        self._pending += self._reports.read()
        if self._tap is not None:
            frames, lost = self._tap.take()
            self._frames += frames
            self._frames_lost += lost

    def take_frames(self) -> list[CapturedFrame]:
        frames, self._frames = self._frames, []
        return frames

    def take_ends(self) -> list[MachineEnd] | None:
        return self._reports.take_ends()

    def console(self, machine: int, offset: int, data: bytes, marks: Sequence[ConsoleMark]) -> None:
        found = [(mark.offset, mark.vns, mark.instret) for mark in marks]
        self._pending += self._lines[machine].feed(offset, data, found)

    def settle(self, vns: int) -> Seen:
        return self.enter(None, vns)

    def enter(self, phase: Phase | None, vns: int) -> Seen:
        events, self._pending = self.pending(), []
        self._oracle.feed(events, vns)
        if phase is Phase.HEALED:
            self._oracle.healed(vns)
        elif phase is Phase.SETTLED:
            self._oracle.settled(vns)
        return Seen(events, self._new_failures(events))

    def _new_failures(self, events: list[Event]) -> list[Failure]:
        found = [
            Failure(At(event.vns, event.vm, event.instret), event.data.message, event.data.json)
            for event in events
            if isinstance(event.data, SdkEvent) and event.data.failed
        ]
        found += [
            Failure(result.counterexample, result.name, result.details)
            for result in self._oracle.host_results()
            if result.fails and result.counterexample is not None
        ]
        new: list[Failure] = []
        for failure in sorted(found):
            if failure.name not in self._broken:
                self._broken |= {failure.name}
                new.append(failure)
        return new

    def discard(self) -> None:
        self._reports.discard()
        if self._tap is not None:
            self._tap.take()

    def copy(self) -> ClusterWitness:
        other = ClusterWitness(self._cluster, self._oracle.copy())
        other._tap, other._frames, other._frames_lost = self._tap, list(self._frames), self._frames_lost
        other._lines = [lines.copy() for lines in self._lines]
        other._pending = list(self._pending)
        other._reports, other._broken = self._reports.copy(), self._broken
        return other

    def pending(self) -> list[Event]:
        return in_order(self._pending)

    def report(self, vns: int) -> OracleReport:
        oracle = self._oracle
        if self._pending:
            oracle = oracle.copy()
            oracle.feed(self.pending(), vns)
        return oracle.report([vm.properties() for vm in self._cluster.vms])


__all__ = ["BATCH_NS", "ClusterWitness", "Failure", "Seen", "Witness"]
