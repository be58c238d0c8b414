"""What was asked of a batch search, and the scenario that comes of it: every mistake is said before anything runs."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from chaoscontrol.errors import UsageError
from chaoscontrol.explore.blind import check_searchable
from chaoscontrol.explore.workers import WORKERS_MAX
from chaoscontrol.faults.types import NS_MAX
from chaoscontrol.scenario import Scenario, load_scenario
from chaoscontrol.trial import simulation_config

ROUNDS = 10
BRANCHES = 50


@dataclasses.dataclass(frozen=True, slots=True)
class BatchOptions:
    """What was asked for; None is the scenario's own value, or the default. Raises UsageError."""

    scenario: str | None = None
    """None only for a replay: the file says it."""
    vms: int | None = None
    rounds: int | None = None
    branches: int = BRANCHES
    ticks: int | None = None
    quantum_ns: int | None = None
    seed: int | None = None
    output: str | None = None
    time_s: float | None = None
    workers: int | None = None
    stop_after: int | None = None
    """End after so many failing branches."""
    as_json: bool = False
    junit: str | None = None
    replay: str | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", "branches", "ticks", "workers", "stop_after"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} cannot be {value}", hint="give 1 or more")
        if self.workers is not None and self.workers > WORKERS_MAX:
            raise UsageError(f"--workers cannot be {self.workers}", hint=f"give 1 to {WORKERS_MAX}")
        if self.time_s is not None and self.time_s <= 0:
            raise UsageError("--time cannot be 0", hint="give more, as 600s")

    @property
    def total(self) -> int | None:
        """How many branches; None: as many as --time allows."""
        if self.rounds is None and self.time_s is not None:
            return None
        return (self.rounds or ROUNDS) * self.branches

    @property
    def worker_count(self) -> int:
        """How many processes."""
        count = self.workers or len(os.sched_getaffinity(0))
        return min(count, WORKERS_MAX, self.total or count)

    def load(self) -> Scenario:
        """The scenario with what the options change."""
        assert self.scenario is not None
        scenario = load_scenario(self.scenario)
        changes: dict[str, Any] = {}
        if self.vms is not None:
            changes["count"] = self.vms
        if self.quantum_ns is not None:
            changes["quantum_ns"] = self.quantum_ns
        if self.ticks is not None:
            changes["chaos_ns"] = self.ticks * (self.quantum_ns or scenario.quantum_ns)
            if changes["chaos_ns"] > NS_MAX:
                raise UsageError(f"--ticks cannot be {self.ticks}", hint="give at most eleven days of virtual time")
        scenario = dataclasses.replace(scenario, **changes)
        check_searchable(scenario)
        check_runnable(scenario)
        return scenario


def check_runnable(scenario: Scenario) -> None:
    """Raises UsageError for what can be known without starting a machine."""
    simulation_config(scenario, seed=0)
    scenario.schedule.check(scenario.count)
    scenario.properties()
