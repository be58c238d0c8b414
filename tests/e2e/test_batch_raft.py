"""Blind search with its default settings finds seeded Raft bugs within ten minutes on two cores, whatever the seed.

And nothing where there is none; tests/guests/test_raft_control.py looks longer for that. The figures are those of
docs/benchmarks.md; on a busy machine CC_BATCH_TIME gives the searches longer.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("cc-tui")
SEEDS = (1, 2, 3, 4, 5)
TIME_S = int(os.environ.get("CC_BATCH_TIME", "600"))
STARTING_S = 60
"""And ending: beyond the search's own time."""


def search(variant: str, seed: int, *args: str) -> tuple[int, dict]:
    done = subprocess.run(
        [str(SCRIPT), "--batch", "--scenario", f"raft/{variant}", "--seed", str(seed), "--time", f"{TIME_S}s", "--json",
         *args],
        stdout=subprocess.PIPE, text=True, timeout=TIME_S + STARTING_S, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    print(f"\n{found['scenario']} seed {seed}: {found['branches']} branches, {found['wall_seconds']} s")
    return done.returncode, found


@pytest.mark.long
@pytest.mark.timeout(TIME_S + 2 * STARTING_S)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bug", ["skip_truncate", "double_vote", "premature_commit"])
def test_a_bug_is_found(bug: str, seed: int) -> None:
    code, found = search(bug, seed, "--stop-after", "1")
    assert (code, found["ended_by"], found["failing_branches"]) == (1, "failures", 1)
    (failure,) = found["failures"]
    assert all(p["name"].startswith(("raft: ", "console never says 'raft: node")) for p in failure["properties"])


@pytest.mark.long
@pytest.mark.timeout(TIME_S + 2 * STARTING_S)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_found_where_nothing_is(seed: int) -> None:
    code, found = search("none", seed)
    assert (code, found["ended_by"], found["failures"]) == (0, "time", [])
    assert found["branches"] > 0
