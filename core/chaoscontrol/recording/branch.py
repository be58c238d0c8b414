"""record_branch: a branch of a search lived through again as a recording, from boot to judgement.

The order of the phases is trial.py's: boot to ready, new seed, schedule, chaos, everything heals, quiet, judgement; a
failure ends it at the next look. The guests do the same as in the trial, so the digests at the end are equal.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.cluster import SimulationController
from chaoscontrol.errors import GuestError
from chaoscontrol.events import EventKind
from chaoscontrol.faults import HealAll
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.recording.header import Judge
from chaoscontrol.recording.rebuild import embedded_images, make_header
from chaoscontrol.recording.writer import Recorder
from chaoscontrol.timetravel import (
    ClusterWitness,
    Failure,
    FaultInput,
    Multiverse,
    Phase,
    PhaseInput,
    ScheduleInput,
    SeedInput,
)
from chaoscontrol.trial import SLICE_NS, simulation_config

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from chaoscontrol.faults import FaultSchedule
    from chaoscontrol.scenario import Scenario
    from chaoscontrol.timetravel import Input
    from chaoscontrol.values import Digest

CHECKPOINT_INSNS = 20_000_000
"""Work between two digests, instructions of all machines together."""


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedRun:
    """What became of the branch."""

    digest: Digest
    """Of the cluster at the end: the trial's."""
    begin_ns: int
    """Where the machines were ready."""
    end_ns: int
    failures: tuple[Failure, ...]


def record_branch(
    path: str | os.PathLike[str],
    scenario: Scenario,
    *,
    seed: int,
    branch_seed: int,
    schedule: FaultSchedule,
    stop_at_failure: bool = True,
    heading: str = "",
    self_contained: bool = False,
    threads: int | None = None,
    clock: Callable[[], float] | None = None,
) -> RecordedRun:
    """Records a branch into `path`. Raises ChaosControlError, and GuestError where the machines do not become ready."""
    config = simulation_config(scenario, seed=seed, threads=threads)
    header = make_header(config, heading=heading, judge=Judge.of(scenario), self_contained=self_contained)
    cluster = SimulationController(config)
    try:
        witness = ClusterWitness(cluster, PropertyOracle(scenario.properties()))
        multiverse = Multiverse(cluster, witness, keyframe_insns=CHECKPOINT_INSNS)
        with Recorder(path, header, clock=clock, images=embedded_images(header, config), strict=True) as recorder:
            multiverse.observe(recorder)
            run = _Run(multiverse, cluster, scenario, stop_at_failure)
            run.to_ready()
            begin_ns = multiverse.position.vns
            run.branch(branch_seed, schedule)
            recorder.finish(multiverse)
        return RecordedRun(cluster.digest(), begin_ns, multiverse.position.vns, tuple(multiverse.failures()))
    finally:
        cluster.close()


class _Run:
    def __init__(
        self, multiverse: Multiverse, cluster: SimulationController, scenario: Scenario, stop_at_failure: bool
    ) -> None:
        self._multiverse = multiverse
        self._cluster = cluster
        self._scenario = scenario
        self._stop_at_failure = stop_at_failure

    def to_ready(self) -> None:
        scenario, multiverse = self._scenario, self._multiverse
        if not scenario.wait_for_setup and scenario.wait_for_console is None:
            return
        while not self._is_ready():
            if multiverse.position.vns >= scenario.setup_timeout_ns:
                raise GuestError(f"scenario {scenario.name}: the machines do not become ready any more")
            multiverse.run_to(min(multiverse.position.vns + SLICE_NS, scenario.setup_timeout_ns))

    def _is_ready(self) -> bool:
        if self._multiverse.position.vns == 0:
            return False
        if self._scenario.wait_for_setup:
            return all(vm.setup_vns is not None for vm in self._cluster.vms)
        text, log = self._scenario.wait_for_console or "", self._multiverse.events()
        events = [*log.read(0, log.total), *self._multiverse.witness.pending()]
        return len({e.vm for e in events if e.kind is EventKind.CONSOLE and text in e.text}) == self._scenario.count

    def branch(self, branch_seed: int, schedule: FaultSchedule) -> None:
        self._give(SeedInput(branch_seed))
        self._give(ScheduleInput(schedule))
        if not self._is_over() and self._run(self._scenario.chaos_ns):
            self._give(FaultInput(HealAll()))
            self._give(PhaseInput(Phase.HEALED))
            if self._run(self._scenario.settle_ns):
                self._give(PhaseInput(Phase.SETTLED))
                return
        self._give(PhaseInput(Phase.JUDGED))

    def _give(self, given: Input) -> None:
        head = self._multiverse.head()
        assert head is not None, "it only goes forward"
        head.give(given)

    def _is_over(self) -> bool:
        multiverse = self._multiverse
        return self._stop_at_failure and bool(multiverse.witness.report(multiverse.position.vns).failures)

    def _run(self, span_ns: int) -> bool:
        """Goes on for so long; False if a failure ended it."""
        multiverse = self._multiverse
        end_ns = multiverse.position.vns + span_ns
        while multiverse.position.vns < end_ns:
            multiverse.run_to(min(multiverse.position.vns + SLICE_NS, end_ns))
            if self._is_over():
                return False
        return True


__all__ = ["RecordedRun", "record_branch"]
