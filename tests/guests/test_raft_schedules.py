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
from chaoscontrol.explore.blind import plan_branch
from chaoscontrol.faults import FaultSchedule, SignalProcess
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
SAME_ORDER = "raft: nodes apply the same entries in the same order"
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
        STATE, 8_889_605_212, 1, 21_378_742,
        "nodes 2 and 1 applied different entries up to 56",
        "vm0 raft: node 0: not so: raft: nodes apply the same entries in the same order (at 56, with 2)",
        10_407_483_868,
    ),
    "skip_truncate": Shown(
        STATE, 3_489_953_327, 2, 19_597_412,
        "nodes 0 and 2 applied different entries up to 48",
        "vm2 raft: node 2: not so: raft: logs that agree on an entry agree on all before it (at 50, with 0)",
        3_491_183_120,
    ),
    "accept_stale_term": Shown(
        COMMITTED, 3_925_970_589, 0, 21_968_981,
        '{"node":0,"term":2,"at":49,"with":99}',
        "vm0 raft: node 0: not so: raft: a committed entry is never overwritten (at 49, with 99)",
        3_925_977_969,
    ),
    "leader_no_stepdown": Shown(
        "raft: after healing, every node applies new entries", 8_300_000_000, -1, 0,
        "node 2 has applied 40 entries, as before",
        "vm1 raft: node 1: follows node 0 in term 2",
        1_388_534_631,
    ),
    "double_vote": Shown(
        ELECTION, 1_681_020_501, 0, 16_695_828,
        "nodes 1 and 0 both lead term 2",
        "vm2 raft: node 2: not so: raft: at most one leader per term (at 2, with 0)",
        1_681_710_664,
    ),
    "premature_commit": Shown(
        SAME_ORDER, 2_437_027_295, 1, 18_749_237,
        '{"node":1,"term":2,"at":47,"with":2}',
        "vm1 raft: node 1: not so: raft: nodes apply the same entries in the same order (at 47, with 2)",
        2_437_034_759,
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


def test_signals_that_a_search_draws_reach_the_processes() -> None:
    scenario = dataclasses.replace(
        load_scenario("raft"), faults=(SignalProcess,), processes=("raft",), chaos_ns=SECOND_NS, settle_ns=0
    )
    plan = plan_branch(scenario, 1, 0)
    kills = sum(isinstance(s.fault, SignalProcess) and s.fault.signal == 9 for s in plan.schedule.faults)
    with Trial(scenario, seed=SEED, threads=1) as trial:
        trial.run_to_ready()
        ready = trial.snapshot()
        lines: list[Event] = []
        trial.on_events = lambda events: lines.extend(event for event in events if event.kind is EventKind.CONSOLE)
        result = trial.run_branch(ready, plan.schedule, plan.branch_seed, stop_at_failure=False)
        ready.close()
    assert result is not None and result.faults_failed == ()
    assert sum("init: /raft: killed by signal 9" in line.text for line in lines) == kills > 1


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
