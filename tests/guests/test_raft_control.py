"""The control run: Raft without a bug under random faults breaks no property, and recovers every time.

CC_RAFT_BRANCHES is the number of schedules; 200 take half an hour of CPU time. Schedule i is the same whatever the
number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

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


@pytest.mark.long
@pytest.mark.timeout(SECONDS_MAX)
def test_no_schedule_breaks_raft_without_a_bug() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "--batch", "--scenario", "raft/none", "--seed", str(SEED), "--rounds", "1",
         "--branches", str(BRANCHES), "--ticks", str(CHAOS_TICKS), "--workers", str(WORKERS), "--json"],
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    virtual_s, wall_s = found["virtual_seconds"], found["wall_seconds"]
    print(f"\n{found['branches']} branches, {virtual_s:.0f} virtual seconds in {wall_s:.0f} seconds")
    print(f"notes: {found['notes']}")
    assert found["failures"] == []
    assert done.returncode == 0
    assert found["branches"] == BRANCHES
    assert found["virtual_seconds"] >= BRANCHES * CHAOS_S
    settled = {p["name"]: p for p in found["properties"] if p["name"] in EVENTUALLY}
    assert {name: (p["verdict"], p["passes"]) for name, p in settled.items()} == dict.fromkeys(
        EVENTUALLY, ("passed", BRANCHES)
    )
