"""What a search and its workers tell each other, and what a plan is."""

from __future__ import annotations

import dataclasses
import json
import tomllib

import pytest

from chaoscontrol.errors import UsageError
from chaoscontrol.explore.blind import BranchPlan, check_searchable, plan_branch
from chaoscontrol.explore.wire import (
    plan_from_table,
    plan_to_table,
    result_from_table,
    result_to_table,
    scenario_from_table,
    scenario_to_table,
)
from chaoscontrol.oracle import At, OracleReport, PropertyKind, PropertyResult
from chaoscontrol.scenario import load_scenario, parse_scenario, scenario_names
from chaoscontrol.trial import BranchResult
from chaoscontrol.values import Digest

FIXED = """
name = "fixed"
origin = "{origin}"
[console]
never = ["a", "b"]
sometimes = ["c"]
[faults]
process = {search}
[[fault]]
at = "1 ms"
kind = "process_pause"
target = 0
for = "2 ms"
"""


def fixed(origin="setup", search="true"):
    return parse_scenario(tomllib.loads(FIXED.format(origin=origin, search=search)), where="plan.toml")


def through_json(value):
    return json.loads(json.dumps(value))


def test_scenarios_arrive_as_they_were_sent():
    sent = [load_scenario(name) for name in scenario_names()]
    sent += [scenario.with_variant(name) for scenario in sent for name in scenario.variants] + [fixed()]
    for scenario in sent:
        assert scenario_from_table(through_json(scenario_to_table(scenario))) == scenario


def test_plans_and_results_arrive_as_they_were_sent():
    plan = plan_branch(load_scenario("raft"), (1 << 64) - 1, 7)
    assert plan_from_table(through_json(plan_to_table(plan))) == plan
    report = OracleReport(
        [
            PropertyResult("held", PropertyKind.ALWAYS, 3, 0, At(1, 0, 2)),
            PropertyResult("broken", PropertyKind.UNREACHABLE, 0, 1, None, At(5, -1, 0), 'a "line"\x00'),
            PropertyResult("waits", PropertyKind.SOMETIMES),
        ]
    )
    result = BranchResult(plan.branch_seed, plan.schedule, report, Digest(0xABC), 5, 9, 3, ("no agent",), 2)
    there = result_from_table(through_json(result_to_table(result)))
    assert there.report.as_dicts() == report.as_dicts() and there.failures == result.failures
    assert dataclasses.replace(there, report=report) == result


def test_a_plan_is_a_function_of_seed_and_number():
    scenario = load_scenario("raft")
    plans = [plan_branch(scenario, seed, number) for seed in (1, 2) for number in (0, 1, 2)]
    assert plans == [plan_branch(scenario, seed, number) for seed in (1, 2) for number in (0, 1, 2)]
    assert len({plan.branch_seed for plan in plans}) == len({plan.schedule for plan in plans}) == len(plans)


def test_fixed_faults_are_part_of_every_branch():
    scenario = fixed()
    (always,) = scenario.schedule.faults
    plans = [plan_branch(scenario, 1, number) for number in range(5)]
    assert all(always in plan.schedule.faults and len(plan.schedule.faults) > 1 for plan in plans)
    alone = plan_branch(fixed(search="false"), 1, 0)
    assert alone.schedule.faults == (always,)


def test_what_cannot_be_searched_says_so():
    check_searchable(fixed("branch", "false"))
    with pytest.raises(UsageError, match="origin cannot be 'boot' in a search"):
        check_searchable(fixed("boot"))
    with pytest.raises(UsageError, match="names no faults to search with; add \\[faults\\]"):
        check_searchable(parse_scenario({"name": "calm"}))


def test_a_schedule_up_to_a_time_has_what_began_before():
    schedule = BranchPlan(0, 1, plan_branch(load_scenario("raft"), 1, 0).schedule).schedule
    cut = schedule.faults[len(schedule.faults) // 2].at_ns
    assert schedule.until(cut).faults == tuple(f for f in schedule.faults if f.at_ns <= cut)
    assert schedule.until(schedule.end_ns) == schedule
