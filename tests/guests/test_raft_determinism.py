"""Three Raft nodes over real TCP run the same to the last bit: again, on any number of threads, with snapshots and
restores at random ticks, in a fresh process, and as `cc-tui --batch`."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from raft_run import SEED, Run, run

from cc_tui.batch.summary import Summary
from chaoscontrol.explore.blind import BlindSearch, plan_branch
from chaoscontrol.random import Stream
from chaoscontrol.scenario import load_scenario

PROGRAM = Path(__file__).with_name("raft_run.py")
LONG_RUNS = 20
LONG_SECONDS = 10
CHAOS_TICKS = 5000
BATCH = ["--batch", "--scenario", "raft", "--seed", str(SEED), "--rounds", "1", "--ticks", str(CHAOS_TICKS), "--json"]


def in_process(*options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def batch(*options: str, hash_seed: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", *BATCH, *options],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reference() -> Run:
    return run()


def test_the_workload_is_committed(reference: Run) -> None:
    assert sorted(reference.committed) == [0, 1, 2]
    assert min(reference.committed.values()) >= 56, "some thirty writes a virtual second"
    assert len(set(reference.digests)) == len(reference.digests)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_matter(reference: Run, threads: int) -> None:
    assert run(threads=threads).digests == reference.digests


def test_going_back_at_random_ticks_does_not_matter(reference: Run) -> None:
    assert run(restores=1, threads=2).digests == reference.digests


def test_a_fresh_process_does_the_same(reference: Run) -> None:
    assert in_process("--threads", "2") == reference.digests


def test_batch_ends_as_the_library_does() -> None:
    found = batch("--branches", "1", "--workers", "1", hash_seed="1")
    scenario = load_scenario("raft")
    scenario = dataclasses.replace(scenario, chaos_ns=CHAOS_TICKS * scenario.quantum_ns)
    search = BlindSearch(scenario, SEED, threads=2)
    plan = plan_branch(scenario, SEED, 0)
    result = search.run(plan)
    search.close()
    assert result is not None
    summary = Summary(scenario, SEED, 1)
    summary.add(plan, result)
    assert (found["branches"], found["digest"]) == (1, summary.digest)
    assert found["properties"] == summary.as_dict()["properties"]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_batch_does_the_same_with_any_number_of_workers() -> None:
    one, two = (batch("--branches", "8", "--workers", str(n), hash_seed=str(n)) for n in (1, 2))
    assert one["branches"] == two["branches"] == 8
    assert one["digest"] == two["digest"]
    assert one["properties"] == two["properties"]
    assert one["failures"] == two["failures"] == []


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_twenty_repetitions() -> None:
    reference = in_process("--seconds", str(LONG_SECONDS))
    assert len(reference) == 2 * LONG_SECONDS + 1
    stream = Stream(SEED, "repetitions")
    for i in range(LONG_RUNS):
        options = ["--seconds", str(LONG_SECONDS), "--threads", str((1, 2, 4)[i % 3])]
        if stream.below(2):
            options += ["--restores", str(i)]
        assert in_process(*options) == reference, options
