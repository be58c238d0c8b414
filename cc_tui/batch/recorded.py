"""A failing branch as a recording: lived through once more from boot, in this process."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from cc_tui import diagnostics
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.recording import record_branch
from chaoscontrol.scenario import load_scenario, scenario_names

if TYPE_CHECKING:
    from pathlib import Path

    from chaoscontrol.explore.blind import BranchPlan
    from chaoscontrol.recording import RecordedRun
    from chaoscontrol.scenario import Scenario
    from chaoscontrol.trial import BranchResult

PER_BUG_MAX = 5
"""Branches that are recorded of those in which the same properties failed: each is lived through once more."""


def recording_command(path: Path, scenario: Scenario) -> str:
    """What a person types to replay it."""
    words = f"cc-tui replay {shlex.quote(str(path))}"
    observer = scenario.observer
    if observer is not None and observer not in {load_scenario(name).observer for name in scenario_names()}:
        words += f" --trust-observer {shlex.quote(observer)}"
    return words


def record_failure(
    path: Path, asked: str, scenario: Scenario, seed: int, plan: BranchPlan, result: BranchResult
) -> bool:
    """Records it as of a scenario `asked` for by that name.

    Says why if that cannot be done, or if it does not end as it did, which is a bug of the engine.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        run = record_branch(
            path,
            scenario,
            seed=seed,
            branch_seed=plan.branch_seed,
            schedule=result.schedule,
            heading=f"cc-tui --batch --scenario {shlex.quote(asked)} --seed {seed}, branch {plan.number}",
            threads=1,
        )
    except (ChaosControlError, OSError) as e:
        diagnostics.error(f"branch {plan.number} cannot be recorded: {e}")
        return False
    if not _ended_alike(run, result):
        diagnostics.error(f"branch {plan.number} ended differently when it was recorded into {path}")
        return False
    return True


def _ended_alike(run: RecordedRun, result: BranchResult) -> bool:
    """Same end, same failures, same digest."""
    if {failure.name for failure in run.failures} != {failure.name for failure in result.failures}:
        return False
    return (run.begin_ns, run.end_ns, run.digest) == (result.begin_ns, result.end_ns, result.digest)


__all__ = ["PER_BUG_MAX", "record_failure", "recording_command"]
