"""The control run: Raft without a bug under random faults breaks no property, and recovers every time.

CC_RAFT_BRANCHES is the number of schedules; 200 take half an hour of CPU time. Schedule i is the same whatever the
number. A fifth as many more have nothing but power losses and disks that fail in every way that a node can live with:
what is on a disk after any number of those must open again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaoscontrol.explore.blind import BlindSearch, plan_branch
from chaoscontrol.scenario import load_scenario

BRANCHES = int(os.environ.get("CC_RAFT_BRANCHES", "200"))
SEED = 2
WORKERS = 2
CHAOS_S = 30
CHAOS_TICKS = CHAOS_S * 10_000
SECONDS_MAX = 4 * 3600
EVENTUALLY = {
    "raft: after healing, one leader",
    "raft: after healing, every node applies new entries",
    "raft: after healing, nodes converge",
}


DISK_ONLY = """[faults]
process_kill = true
process_restart = true
disk = ["torn_write", "slow", "read_error", "write_error", "full"]
"""
SCENARIO = Path(__file__).resolve().parents[2] / "guest" / "scenarios" / "raft.toml"


@pytest.mark.parametrize(
    ("seed", "branch"), [pytest.param(3, 79, id="slow-disks-at-once"), pytest.param(4, 465, id="and-kills")]
)
def test_branches_that_broke_it_once_do_no_more(seed: int, branch: int) -> None:
    """Disks that were slowed down twice at once took minutes for what was under way when they were healed."""
    scenario = load_scenario("raft/none")
    search = BlindSearch(scenario, seed)
    try:
        search.prepare()
        result = search.run_once(plan_branch(scenario, seed, branch))
    finally:
        search.close()
    assert result is not None
    assert [failure.name for failure in result.failures] == []


@pytest.mark.long
@pytest.mark.timeout(SECONDS_MAX)
def test_no_schedule_breaks_raft_without_a_bug() -> None:
    nothing_is_broken("raft/none", BRANCHES)


@pytest.mark.long
@pytest.mark.timeout(SECONDS_MAX)
def test_no_failing_disk_breaks_raft_without_a_bug(tmp_path: Path) -> None:
    before, _, after = SCENARIO.read_text().partition("[faults]")
    path = tmp_path / "failing_disks.toml"
    path.write_text(before + DISK_ONLY + after[after.index("\n[variants]") :])
    nothing_is_broken(str(path), max(1, BRANCHES // 5))


def nothing_is_broken(scenario: str, branches: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "--batch", "--scenario", scenario, "--seed", str(SEED), "--rounds", "1",
         "--branches", str(branches), "--ticks", str(CHAOS_TICKS), "--workers", str(WORKERS), "--json"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    virtual_s, wall_s = found["virtual_seconds"], found["wall_seconds"]
    print(f"\n{found['branches']} branches, {virtual_s:.0f} virtual seconds in {wall_s:.0f} seconds")
    print(f"notes: {found['notes']}")
    assert found["failures"] == []
    assert done.returncode == 0
    assert found["branches"] == branches
    assert found["virtual_seconds"] >= branches * CHAOS_S
    settled = {p["name"]: p for p in found["properties"] if p["name"] in EVENTUALLY}
    assert {name: (p["verdict"], p["passes"]) for name, p in settled.items()} == dict.fromkeys(
        EVENTUALLY, ("passed", branches)
    )
