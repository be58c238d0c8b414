"""Blind search: branches from the ready state, each under a random schedule of its own.

Branch number i of a search is a function of (scenario, seed, i), whatever the number of workers and however long the
others took. A failure is only reported after the branch was run a second time and ended in the same state.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.errors import EngineError, UsageError
from chaoscontrol.faults import FaultSchedule, Origin
from chaoscontrol.random import Stream
from chaoscontrol.trial import BranchResult, Trial, TrialState

from .random_faults import draw_schedule

if TYPE_CHECKING:
    from chaoscontrol.scenario import Scenario


@dataclasses.dataclass(frozen=True, slots=True)
class BranchPlan:
    """What makes a branch what it is."""

    number: int
    branch_seed: int
    schedule: FaultSchedule


def plan_branch(scenario: Scenario, seed: int, number: int) -> BranchPlan:
    """Branch `number` of the search with this seed: random faults, beside those that the scenario always has."""
    stream = Stream(seed, "search", number)
    drawn = draw_schedule(stream, scenario.faults, scenario.count, scenario.chaos_ns, processes=scenario.processes)
    schedule = FaultSchedule((*scenario.schedule.faults, *drawn.faults), Origin.BRANCH)
    return BranchPlan(number, Stream(seed, "branch", number).u64(), schedule)


def check_searchable(scenario: Scenario) -> None:
    """Raises UsageError for a scenario that there is nothing to search in."""
    fixed = scenario.schedule
    if not scenario.faults and not fixed.faults:
        hint = "add [faults] to it, as network = true"
        raise UsageError(f"scenario {scenario.name} names no faults to search with", hint=hint)
    if fixed.faults and fixed.origin is Origin.BOOT:
        hint = 'a search branches where the machines are ready: use origin = "setup" or "branch"'
        raise UsageError(f"scenario {scenario.name}: origin cannot be 'boot' in a search", hint=hint)


class BlindSearch:
    """Runs planned branches of one scenario; one process's share of a search."""

    def __init__(self, scenario: Scenario, seed: int, *, threads: int | None = 1) -> None:
        self.scenario = scenario
        self.seed = seed
        self._trial = Trial(scenario, seed=seed, threads=threads)
        self._ready: TrialState | None = None

    @property
    def trial(self) -> Trial:
        """The cluster and its oracle."""
        return self._trial

    def prepare(self) -> None:
        """Boots to the ready state. Raises GuestError if the guests do not get there."""
        if self._ready is None:
            self._trial.run_to_ready()
            self._ready = self._trial.snapshot()

    def run_once(self, plan: BranchPlan) -> BranchResult | None:
        """One branch; None if it was cancelled."""
        self.prepare()
        assert self._ready is not None
        return self._trial.run_branch(self._ready, plan.schedule, plan.branch_seed)

    def run(self, plan: BranchPlan) -> BranchResult | None:
        """One branch, and again if something failed, now without the faults that were not reached.

        None if it was cancelled. Raises EngineError if the failure does not repeat.
        """
        result = self.run_once(plan)
        if result is None or not result.failures:
            return result
        reached = plan.schedule.until(result.end_ns - result.begin_ns)
        again = self.run_once(dataclasses.replace(plan, schedule=reached))
        if again is not None and (again.digest != result.digest or again.report.as_dicts() != result.report.as_dicts()):
            raise EngineError(
                f"branch {plan.number} ended differently when it was run again",
                where=self.scenario.name,
                hint="this is a bug in the engine; please report the scenario, the seed and the branch",
            )
        return again

    def cancel(self) -> None:
        """From any thread: ends the branch in progress."""
        self._trial.cluster.cancel()

    def close(self) -> None:
        """Frees everything."""
        if self._ready is not None:
            self._ready.close()
            self._ready = None
        self._trial.close()
