"""What a branch of a search costs, and where: guests, going back, reading and judging events, planning.

One process, one thread, branches of 1000 ticks of 100 us and no quiet phase, each under a schedule of its own. The
hello guests are idle, so what is measured there is everything but guests; the raft guests work. (What Raft must become
when all is well it cannot become in no time, so some of its properties fail here.)
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from time import process_time
from typing import Any

import pytest
from figures import ms, show_table

import chaoscontrol.cluster
import chaoscontrol.machine
from chaoscontrol.explore.blind import BlindSearch, plan_branch
from chaoscontrol.scenario import Scenario, load_scenario, parse_scenario

BRANCHES = int(os.environ.get("CC_BENCH_BRANCHES", "200"))
CHAOS_NS = 1000 * 100_000
BRANCHES_PER_SECOND_MIN = 60
BOOT_INSNS_MIN = 2_000_000
"""Tells them apart: of the first 60 branches those without a restart do 0.9 million at most, the others 14 or more."""
PYTHON_MAX = 0.10
"""The Python layer's share of a branch of the scenario's own length."""
RUNNING = ("cc_cluster_run",)


class TimedLibrary:
    """The native library; what is spent in running machines, and in everything else of it, is summed up."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.running_s = self.other_s = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._library, name)
        if not callable(found):
            return found

        def timed(*arguments: Any) -> Any:
            begun = process_time()
            try:
                return found(*arguments)
            finally:
                spent = process_time() - begun
                if name in RUNNING:
                    self.running_s += spent
                else:
                    self.other_s += spent

        return timed


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> TimedLibrary:
    """Times what the cluster and its machines call while a test measures."""
    timed = TimedLibrary(chaoscontrol.cluster.lib)
    monkeypatch.setattr(chaoscontrol.cluster, "lib", timed)
    monkeypatch.setattr(chaoscontrol.machine, "lib", timed)
    return timed


def hello() -> Scenario:
    table = {
        "name": "hello",
        "machines": {"count": 3, "memory_mib": 64, "initrd": "hello"},
        "network": {"enabled": True},
        "setup": {"console": "all 14 checks passed"},
        "faults": {"network": True, "process_pause": True, "cpu": True},
    }
    return parse_scenario(table)


def run(scenario: Scenario, branches: int) -> tuple[float, float]:
    """CPU seconds of all branches, and of planning them."""
    search = BlindSearch(scenario, 1)
    try:
        search.prepare()
        begun = process_time()
        plans = [plan_branch(scenario, 1, number) for number in range(branches)]
        planning = process_time() - begun
        begun = process_time()
        for plan in plans:
            result = search.run_once(plan)
            assert result is not None and result.end_ns - result.begin_ns == CHAOS_NS
        return process_time() - begun, planning
    finally:
        search.close()


@pytest.mark.bench
@pytest.mark.parametrize(
    ("make", "least"),
    [(hello, BRANCHES_PER_SECOND_MIN), (lambda: load_scenario("raft/none"), 0)],
    ids=["hello", "raft"],
)
def test_short_branches(make: Callable[[], Scenario], least: int) -> None:
    scenario = dataclasses.replace(make(), chaos_ns=CHAOS_NS, settle_ns=0)
    cpu, planning = run(scenario, BRANCHES)
    show_table(
        f"{scenario.name}: {scenario.count} machines, {BRANCHES} branches of 1000 ticks of 100 us",
        ("branches / CPU second", "a branch", "of it planning"),
        [(f"{BRANCHES / (cpu + planning):.0f}", ms((cpu + planning) / BRANCHES), ms(planning / BRANCHES))],
    )
    assert BRANCHES / (cpu + planning) >= least


@pytest.mark.bench
def test_branches_that_boot() -> None:
    """Short raft branches apart: those in which a restarted machine boots, and those in which none does."""
    scenario = dataclasses.replace(load_scenario("raft/none"), chaos_ns=CHAOS_NS, settle_ns=0)
    search = BlindSearch(scenario, 1)
    spent: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    try:
        search.prepare()
        vms = search.trial.cluster.vms
        ready = sum(vm.instret for vm in vms)
        for number in range(BRANCHES):
            plan = plan_branch(scenario, 1, number)
            begun = process_time()
            assert search.run_once(plan) is not None
            cpu = process_time() - begun
            insns = sum(vm.instret for vm in vms) - ready
            spent[insns >= BOOT_INSNS_MIN].append((cpu, insns))
    finally:
        search.close()
    rows: list[tuple[str, ...]] = []
    for boots, name in ((True, "a machine boots"), (False, "none boots")):
        branches = len(spent[boots])
        assert branches, f"of {BRANCHES} branches there is none of this kind: {name}"
        cpu, insns = sum(s for s, _ in spent[boots]), sum(n for _, n in spent[boots])
        per_s = insns / cpu / 1e6
        rows.append((name, str(branches), ms(cpu / branches), f"{insns / branches / 1e6:.2f}", f"{per_s:.0f}"))
    show_table(
        f"raft: {BRANCHES} branches of 1000 ticks of 100 us, without planning",
        ("", "branches", "CPU of one", "million instructions of one", "million instructions / CPU second"),
        rows,
    )


@pytest.mark.bench
def test_share_of_python(library: TimedLibrary) -> None:
    """Of raft branches as a search runs them; the clock's own cost counts as Python's."""
    scenario = load_scenario("raft/none")
    branches = max(2, BRANCHES // 40)
    search = BlindSearch(scenario, 1)
    try:
        search.prepare()
        library.running_s = library.other_s = 0.0
        begun = process_time()
        for number in range(branches):
            result = search.run_once(plan_branch(scenario, 1, number))
            assert result is not None and not result.failures
        cpu = process_time() - begun
    finally:
        search.close()
    python = cpu - library.running_s - library.other_s
    show_table(
        f"raft: a branch of {(scenario.chaos_ns + scenario.settle_ns) / 1e9:g} virtual seconds, mean of {branches}",
        ("CPU", "machines run", "the library else (restore, reboot, digest)", "Python", "its share"),
        [
            (
                ms(cpu / branches),
                ms(library.running_s / branches),
                ms(library.other_s / branches),
                ms(python / branches),
                f"{python / cpu:.1%}",
            )
        ],
    )
    assert python / cpu < PYTHON_MAX
