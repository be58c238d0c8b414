"""Looker: makes the picture of what concerns a cluster rather than one of its machines.

It remembers what it has read of the event log, so that a picture costs what is new. Looking changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cc_tui.pictures import ClusterView, LinkView
from chaoscontrol.faults import FaultSpan, add_changes
from chaoscontrol.network import Network
from chaoscontrol.oracle import Verdict
from chaoscontrol.timetravel import EventLog, Failure

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaoscontrol.events import Event
    from chaoscontrol.in_flight import PacketInFlight
    from chaoscontrol.oracle import PropertyResult
    from chaoscontrol.timetravel import Multiverse


PACKETS_MAX = 1000
"""Packets in flight that a picture has."""


class FaultSpans:
    """The faults of an event log, read once each."""

    def __init__(self) -> None:
        self._log: EventLog | None = None
        self._read = 0
        self._spans: dict[int, FaultSpan] = {}

    def of(self, log: EventLog, pending: Iterable[Event]) -> tuple[FaultSpan, ...]:
        """All faults of the log and of what comes after it."""
        if log is not self._log:
            self._log, self._read, self._spans = log, 0, {}
        total = log.total
        add_changes(self._spans, log.read(self._read, total))
        self._read = total
        spans = dict(self._spans)
        add_changes(spans, pending)
        return tuple(spans.values())


class Looker:
    """Looks at one cluster and its histories."""

    def __init__(self, cluster: Any) -> None:
        """`cluster`: a SimulationController, or a toy without network and faults."""
        self._network: Network | None = getattr(cluster, "network", None)
        self._vms = cluster.vms
        self._spans = FaultSpans()
        self._properties: tuple[PropertyResult, ...] = ()
        self._coverage: tuple[bytes | None, ...] = ()
        self._in_flight: tuple[PacketInFlight, ...] = ()

    def look(self, multiverse: Multiverse, *, closely: bool) -> ClusterView:
        """The picture at the cursor.

        `closely`: properties, coverage and packets in flight too, which take longer; else as last seen.
        """
        log, total = multiverse.events(), multiverse.events_total
        pending = tuple(multiverse.witness.pending())
        if closely:
            report = multiverse.witness.report(multiverse.position.vns)
            self._properties = tuple(report.results)
            self._coverage = tuple(_coverage(vm) for vm in self._vms)
            self._in_flight = tuple(self._network.in_flight()[:PACKETS_MAX]) if self._network is not None else ()
        return ClusterView(
            faults=self._spans.of(log, pending if total == log.total else ()),
            failures=self._failures(multiverse),
            properties=self._properties,
            links=self._links(),
            in_flight=self._in_flight,
            coverage=self._coverage,
            events=log,
            events_total=total,
            pending=pending,
        )

    def _failures(self, multiverse: Multiverse) -> tuple[Failure, ...]:
        known = multiverse.failures()
        names = {failure.name for failure in known}
        # What was broken since the witness last put things in order is among the properties already.
        new = [
            Failure(result.counterexample, result.name, result.details)
            for result in self._properties
            if result.verdict is Verdict.FAILED and result.counterexample is not None and result.name not in names
        ]
        return tuple(sorted([*known, *new]))

    def _links(self) -> tuple[LinkView, ...]:
        network = self._network
        if network is None or len(self._vms) < 2 or not any(vm.has_network for vm in self._vms):
            return ()
        return tuple(
            LinkView(link.src, link.dst, params, params == network.normal, link.counters)
            for link in network.links()
            for params in (link.params,)
        )


def _coverage(vm: Any) -> bytes | None:
    return vm.read_coverage_bitmap() if getattr(vm, "coverage_active", False) else None


__all__ = ["FaultSpans", "Looker"]
