"""Trial: one scenario's cluster from boot to ready, and branches from there: chaos, healing, quiet, judgement.

Owns the order of the phases and what belongs together when going back: the machines, the network, the faults, the
oracle's memory and the readers' place. A branch is a function of (scenario, seed, branch seed, schedule).

Times are virtual nanoseconds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .cluster import ClusterSnapshot, SimulationConfig, SimulationController
from .config import DEFAULT_CMDLINE, VmConfig
from .errors import GuestError, UsageError
from .events import Event, EventKind, EventReader
from .faults import FaultSchedule, HealAll
from .network import LinkParams
from .oracle import OracleReport, PropertyOracle, PropertyResult
from .protocol import SdkEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from .scenario import Scenario
    from .values import Digest

SLICE_NS = 100_000_000
"""Between two looks at the events: what failed ends a branch at the next look."""

CONSOLE_KEPT = 40
"""Last console lines kept to say why a guest did not become ready."""


@dataclasses.dataclass(frozen=True, slots=True)
class BranchResult:
    """What became of one branch."""

    branch_seed: int
    schedule: FaultSchedule
    report: OracleReport
    digest: Digest
    """Of the cluster at the end, after the faults of that instant."""
    begin_ns: int
    end_ns: int
    events: int
    """How many the guests and faults made."""
    faults_failed: tuple[str, ...] = ()
    """Faults that could not be applied, and why."""
    events_lost: int = 0
    """Dropped by the engine because the guests made more than could be read in time: the oracle has not seen them."""

    @property
    def failures(self) -> tuple[PropertyResult, ...]:
        """The broken properties, the earliest first."""
        return tuple(self.report.failures)


class TrialState:
    """A moment of a trial that it can go back to. close() frees it."""

    def __init__(self, cluster: ClusterSnapshot, oracle: PropertyOracle, reader: EventReader) -> None:
        self.cluster = cluster
        self.oracle = oracle
        self.reader = reader

    def close(self) -> None:
        """Frees the snapshot."""
        self.cluster.close()


class Trial:
    """A running scenario."""

    def __init__(self, scenario: Scenario, *, seed: int | None = None, threads: int | None = None) -> None:
        self.scenario = scenario
        self.seed = scenario.seed if seed is None else seed
        self.cluster = SimulationController(simulation_config(scenario, seed=self.seed, threads=threads))
        self._oracle = PropertyOracle(scenario.properties())
        self._reader = EventReader(self.cluster)
        self.on_events: Callable[[list[Event]], None] | None = None
        """Called with the events of each slice, in order."""

    def close(self) -> None:
        """Frees the machines."""
        self.cluster.close()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- running ----

    def run_to(self, vns: int, *, stop: Callable[[list[Event]], bool] | None = None) -> bool:
        """Runs the cluster, reading events as it goes; stop(events of a slice) may end it early.

        Returns False if it was cancelled.
        """
        while self.cluster.vns < vns:
            horizon = min(vns, self.cluster.vns + SLICE_NS)
            if not self.cluster.run_to_vns(horizon):
                return False
            self.cluster.begin_due_faults()
            events = self._read()
            if stop is not None and stop(events):
                break
        return True

    def _read(self) -> list[Event]:
        events = self._reader.read()
        self._oracle.feed(events, self.cluster.vns)
        if self.on_events is not None:
            self.on_events(events)
        return events

    def run_to_ready(self) -> None:
        """Boots until the scenario is ready for faults. Raises GuestError if that takes too long."""
        scenario = self.scenario
        limit = scenario.setup_timeout_ns
        if not scenario.wait_for_setup and scenario.wait_for_console is None:
            return
        said: set[int] = set()
        last: list[str] = []

        def silent() -> list[int]:
            """Machines that have not said it yet."""
            if scenario.wait_for_setup:
                return [i for i, vm in enumerate(self.cluster.vms) if vm.setup_vns is None]
            return [i for i in range(scenario.count) if i not in said]

        def ready(events: list[Event]) -> bool:
            for event in events:
                if event.kind is EventKind.CONSOLE:
                    last.append(f"vm{event.vm}: {event.text}")
                    if scenario.wait_for_console is not None and scenario.wait_for_console in event.text:
                        said.add(event.vm)
            del last[:-CONSOLE_KEPT]
            return not silent()

        if not self.run_to(limit, stop=ready):
            raise KeyboardInterrupt
        if not ready([]):
            wanted = "setup_complete" if scenario.wait_for_setup else f"{scenario.wait_for_console!r} on its console"
            missing = ", ".join(f"vm{i}" for i in silent())
            raise GuestError(
                f"scenario {scenario.name}: {missing} did not say {wanted} within {limit / 1e9:g} virtual seconds",
                hint=f"the last line was: {last[-1]}" if last else "no machine printed anything",
            )

    # ---- going back ----

    def snapshot(self) -> TrialState:
        """This moment."""
        return TrialState(self.cluster.snapshot_all(), self._oracle.copy(), self._reader.copy())

    def restore(self, state: TrialState) -> None:
        """Back to it."""
        self.cluster.restore_all(state.cluster)
        self._oracle = state.oracle.copy()
        self._reader.discard()
        self._reader = state.reader.copy()

    # ---- a branch ----

    def settle(self, *, stop: Callable[[list[Event]], bool] | None = None) -> bool:
        """Everything heals, quiet, judgement; none if stop ended the quiet phase early. False if it was cancelled."""
        self.cluster.inject(HealAll())
        self._oracle.healed(self.cluster.vns)
        end = self.cluster.vns + self.scenario.settle_ns
        if not self.run_to(end, stop=stop):
            return False
        if stop is None or not stop([]):
            self._oracle.settled(self.cluster.vns)
        return True

    def report(self) -> OracleReport:
        """How all properties stand now."""
        return self._oracle.report([vm.properties() for vm in self.cluster.vms])

    def _has_failed(self, events: list[Event]) -> bool:
        """Whether something is broken that was not before these events: a report costs more than most slices."""
        if self._reader.lost:
            return bool(self.report().failures)
        told = any(isinstance(event.data, SdkEvent) and event.data.failed for event in events)
        return told or self._oracle.host_failed

    def run_branch(
        self, state: TrialState, schedule: FaultSchedule, branch_seed: int, *, stop_at_failure: bool = True
    ) -> BranchResult | None:
        """From a state: chaos under the schedule, everything heals, quiet, judgement. None if it was cancelled.

        stop_at_failure: a failed property ends it at the end of the slice, without a quiet phase.
        """
        self.restore(state)
        self.cluster.reseed(branch_seed)
        self.cluster.set_schedule(schedule)
        self.cluster.begin_due_faults()
        begin = self.cluster.vns
        counted, failed = 0, bool(self.report().failures)
        not_done: list[str] = []

        def look(events: list[Event]) -> bool:
            nonlocal counted, failed
            counted += len(events)
            not_done.extend(event.text for event in events if event.is_fault_not_done)
            failed = failed or self._has_failed(events)
            return failed and stop_at_failure

        if not look([]):
            if not self.run_to(begin + self.scenario.chaos_ns, stop=look):
                return None
            if not look([]) and not self.settle(stop=look):
                return None
        return BranchResult(
            branch_seed,
            schedule,
            self.report(),
            self.cluster.digest(),
            begin,
            self.cluster.vns,
            counted,
            tuple(not_done),
            self._reader.lost,
        )


def simulation_config(scenario: Scenario, *, seed: int, threads: int | None = None) -> SimulationConfig:
    """The cluster that a scenario describes. Raises UsageError for images that are missing."""
    from .images import image_path

    def file_of(image: str) -> str:
        import os

        return image if os.path.sep in image or os.path.isfile(image) else image_path(image)

    if scenario.initrd is None:
        raise UsageError(f"scenario {scenario.name} has no initrd", hint="give [machines] initrd")
    vm_config = VmConfig(
        memory_bytes=scenario.memory_bytes,
        cmdline=f"{DEFAULT_CMDLINE} {scenario.cmdline}".strip(),
        disk_bytes=scenario.disk_bytes,
        network=scenario.network,
    )
    return SimulationConfig(
        num_vms=scenario.count,
        vm_config=vm_config,
        kernel_path=file_of(scenario.kernel),
        initrd_path=file_of(scenario.initrd),
        disk_path=None if scenario.disk_image is None else file_of(scenario.disk_image),
        link=LinkParams() if scenario.latency_ns is None else LinkParams(latency_ns=scenario.latency_ns),
        seed=seed,
        quantum_ns=scenario.quantum_ns,
        threads=threads,
    )
