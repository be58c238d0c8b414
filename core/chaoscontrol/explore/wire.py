"""Scenarios, plans and results as plain JSON values: what goes through the pipe between a search and its workers.

Reading back what was written gives an equal value. Nothing here is a file format: both ends are one version.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from chaoscontrol.faults import FAULTS, FaultSchedule
from chaoscontrol.oracle import OracleReport
from chaoscontrol.scenario import Scenario
from chaoscontrol.trial import BranchResult
from chaoscontrol.values import Digest

from .blind import BranchPlan

if TYPE_CHECKING:
    Table = dict[str, Any]


def scenario_to_table(scenario: Scenario) -> Table:
    """A scenario."""
    table = {field.name: getattr(scenario, field.name) for field in dataclasses.fields(scenario)}
    table["faults"] = [kind.kind() for kind in scenario.faults]
    table["schedule"] = scenario.schedule.to_toml()
    return table


def scenario_from_table(table: Table) -> Scenario:
    """What scenario_to_table() was given."""
    values = dict(table)
    values["faults"] = tuple(FAULTS[name] for name in table["faults"])
    for name in ("console_never", "console_sometimes", "processes"):
        values[name] = tuple(table[name])
    values["schedule"] = FaultSchedule.from_toml(table["schedule"])
    return Scenario(**values)


def plan_to_table(plan: BranchPlan) -> Table:
    """A branch that is to be run."""
    return {"number": plan.number, "branch_seed": plan.branch_seed, "schedule": plan.schedule.to_toml()}


def plan_from_table(table: Table) -> BranchPlan:
    """What plan_to_table() was given."""
    return BranchPlan(table["number"], table["branch_seed"], FaultSchedule.from_toml(table["schedule"]))


def result_to_table(result: BranchResult) -> Table:
    """What became of a branch."""
    table = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    table["schedule"] = result.schedule.to_toml()
    table["report"] = result.report.as_dicts()
    table["digest"] = str(result.digest)
    return table


def result_from_table(table: Table) -> BranchResult:
    """What result_to_table() was given."""
    values = dict(table)
    values["schedule"] = FaultSchedule.from_toml(table["schedule"])
    values["report"] = OracleReport.from_dicts(table["report"])
    values["digest"] = Digest(int(table["digest"], 16))
    values["faults_failed"] = tuple(table["faults_failed"])
    return BranchResult(**values)
