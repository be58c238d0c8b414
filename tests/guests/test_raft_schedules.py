"""Each seeded bug on the real cluster: a schedule of faults written by hand shows it, at the same moment in every run.

The schedules are in schedules/, one per bug. Without a bug the same six break nothing, and all becomes well after them.
What is expected here are facts about the committed images: after another build of the raft guest the moments are
others, and a failing test prints them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FaultSchedule
from chaoscontrol.oracle import PropertyKind, Verdict
from chaoscontrol.scenario import Scenario, load_scenario
from chaoscontrol.trial import BranchResult, Trial, TrialState

ROOT = Path(__file__).resolve().parents[2]
SCHEDULES = Path(__file__).with_name("schedules")
SECOND_NS = 1_000_000_000
SEED = 1
BRANCH_SEED = 1

ELECTION = "raft: at most one leader per term, across nodes"
STATE = "raft: nodes apply the same entries, across nodes"
COMMITTED = "raft: a committed entry is never overwritten"
COMPLETENESS = "raft: a leader has every committed entry"
ONE_LEADER = "raft: after healing, one leader"


@dataclasses.dataclass(frozen=True)
class Shown:
    """The first failure of a property: where, what the property says, and the line on a console that goes with it."""

    name: str
    vns: int
    vm: int
    instret: int
    details: str
    line: str
    line_vns: int


SHOWN: dict[str, Shown] = {
    "fig8_commit": Shown(
        "raft: a leader has every committed entry, across nodes", 8_835_113_230, 1, 41_052_486,
        "node 1 leads term 35 with 44 entries, but entry 48 had been committed",
        "vm1 raft: node 1: not so: raft: nodes apply the same entries in the same order (at 51, with 2)",
        9_386_246_540,
    ),
    "skip_truncate": Shown(
        STATE, 3_533_915_184, 2, 33_699_802,
        "nodes 1 and 2 applied different entries up to 48",
        "vm2 raft: node 2: not so: raft: logs that agree on an entry agree on all before it (at 51, with 1)",
        3_535_154_202,
    ),
    "accept_stale_term": Shown(
        COMMITTED, 3_748_297_787, 0, 36_262_268,
        '{"node":0,"term":2,"at":44,"with":95}',
        "vm0 raft: node 0: not so: raft: a committed entry is never overwritten (at 44, with 95)",
        3_748_305_167,
    ),
    "leader_no_stepdown": Shown(
        "raft: after healing, every node applies new entries", 8_300_000_000, -1, 0,
        "node 2 has applied 40 entries, as before",
        "vm0 raft: node 0: follows node 1 in term 2",
        1_430_728_092,
    ),
    "double_vote": Shown(
        ELECTION, 1_604_430_930, 0, 30_377_456,
        "nodes 1 and 0 both lead term 2",
        "vm2 raft: node 2: not so: raft: at most one leader per term (at 2, with 0)",
        1_605_130_668,
    ),
    "premature_commit": Shown(
        COMPLETENESS, 1_479_973_469, 2, 33_001_921,
        '{"node":2,"term":2,"at":46,"with":1}',
        "vm2 raft: node 2: not so: raft: a leader has every committed entry (at 46, with 1)",
        1_479_980_551,
    ),
}  # fmt: skip
NOTICED_LATER = ("fig8_commit",)
"""The nodes themselves notice when they meet again, after the failure is known from outside."""


def schedule(name: str) -> FaultSchedule:
    path = SCHEDULES / f"{name}.toml"
    return FaultSchedule.from_toml(path.read_text(), where=path.name)


def scenario_for(faults: FaultSchedule) -> Scenario:
    """Chaos lasts until something is done last, and a second; then everything heals."""
    last_s = max(fault.at_ns for fault in faults.faults) // SECOND_NS
    scenario = load_scenario(ROOT / "guest" / "scenarios" / "raft.toml")
    return dataclasses.replace(scenario, chaos_ns=(last_s + 2) * SECOND_NS)


def run(
    trial: Trial, ready: TrialState, faults: FaultSchedule, *, stop_at_failure: bool = True
) -> tuple[BranchResult, list[Event]]:
    """A branch, and what the consoles showed."""
    lines: list[Event] = []
    trial.on_events = lambda events: lines.extend(event for event in events if event.kind is EventKind.CONSOLE)
    trial.scenario = dataclasses.replace(trial.scenario, chaos_ns=scenario_for(faults).chaos_ns)
    result = trial.run_branch(ready, faults, BRANCH_SEED, stop_at_failure=stop_at_failure)
    assert result is not None
    assert result.faults_failed == ()
    return result, lines


@pytest.mark.parametrize("bug", SHOWN)
def test_the_schedule_shows_its_bug(bug: str) -> None:
    faults = schedule(bug)
    with Trial(scenario_for(faults).with_variant(bug), seed=SEED, threads=1) as trial:
        trial.run_to_ready()
        ready = trial.snapshot()
        result, lines = run(trial, ready, faults, stop_at_failure=bug not in NOTICED_LATER)
        ready.close()
    first = result.failures[0]
    at = first.counterexample
    assert at is not None
    line = next((event for event in lines if event.vns >= at.vns and "not so" in event.text), lines[-1])
    shown = Shown(first.name, at.vns, at.vm, at.instret, first.details, f"vm{line.vm} {line.text}", line.vns)
    assert shown == SHOWN[bug]


@pytest.fixture(scope="module")
def without_a_bug() -> Iterator[tuple[Trial, TrialState]]:
    scenario = load_scenario(ROOT / "guest" / "scenarios" / "raft.toml").with_variant("none")
    with Trial(scenario, seed=SEED, threads=1) as trial:
        trial.run_to_ready()
        ready = trial.snapshot()
        yield trial, ready
        ready.close()


@pytest.mark.parametrize("name", SHOWN)
def test_the_schedule_breaks_nothing_without_a_bug(without_a_bug: tuple[Trial, TrialState], name: str) -> None:
    faults = schedule(name)
    result, lines = run(*without_a_bug, faults)
    assert result.failures == ()
    assert result.end_ns - result.begin_ns == scenario_for(faults).chaos_ns + scenario_for(faults).settle_ns
    assert [line.text for line in lines if "leader of term" in line.text], "the faults made no difference"
    verdicts = {found.name: found.verdict for found in result.report.results if found.kind is PropertyKind.EVENTUALLY}
    assert ONE_LEADER in verdicts
    assert len(verdicts) == 3
    assert set(verdicts.values()) == {Verdict.PASSED}
