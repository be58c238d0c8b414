"""Blind search: branches from the ready state, each under a random schedule of its own.

Branch number i of a search is a function of (scenario, seed, i), whatever the number of workers and however long the
others took. A failure is only reported after the branch was run a second time and ended in the same state.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.errors import EngineError
from chaoscontrol.random import Stream
from chaoscontrol.trial import BranchResult, Trial, TrialState

from .random_faults import draw_schedule

if TYPE_CHECKING:
    from chaoscontrol.faults import FaultSchedule
    from chaoscontrol.scenario import Scenario


@dataclasses.dataclass(frozen=True, slots=True)
class BranchPlan:
    """What makes a branch what it is."""

    number: int
    branch_seed: int
    schedule: FaultSchedule


def plan_branch(scenario: Scenario, seed: int, number: int) -> BranchPlan:
    """Branch `number` of the search with this seed."""
    stream = Stream(seed, "search", number)
    schedule = draw_schedule(stream, scenario.faults, scenario.count, scenario.chaos_ns)
    return BranchPlan(number, Stream(seed, "branch", number).u64(), schedule)


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

    def run(self, plan: BranchPlan) -> BranchResult | None:
        """One branch; None if it was cancelled. Raises EngineError if a failure does not repeat."""
        self.prepare()
        assert self._ready is not None
        result = self._trial.run_branch(self._ready, plan.schedule, plan.branch_seed)
        if result is not None and result.failures:
            again = self._trial.run_branch(self._ready, plan.schedule, plan.branch_seed)
            if again is None:
                return None
            if again.digest != result.digest or again.report.as_dicts() != result.report.as_dicts():
                raise EngineError(
                    f"branch {plan.number} ended differently when it was run again",
                    where=self.scenario.name,
                    hint="this is a bug in the engine; please report the scenario, the seed and the branch",
                )
        return result

    def cancel(self) -> None:
        """From any thread: ends the branch in progress."""
        self._trial.cluster.cancel()

    def close(self) -> None:
        """Frees everything."""
        if self._ready is not None:
            self._ready.close()
            self._ready = None
        self._trial.close()
