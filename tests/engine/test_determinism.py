"""Linux is the same in every process: boot, typed commands and five virtual seconds, digest for digest.

Every run of determinism_run.py is a process of its own with other threads, keyframes, cache sizes and rewinds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaoscontrol.random import Stream

PROGRAM = Path(__file__).with_name("determinism_run.py")
DIGESTS_MIN = 8


def run(*options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *options], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    return run()


def random_options(i: int) -> list[str]:
    stream = Stream(1, "determinism", i)
    options = ["--threads", str(1 + stream.below(3)), "--tlb-bits", str(4 + stream.below(9))]
    options += ["--code-cache-kib", str(64 << stream.below(9))]
    options += ["--keyframe-insns", str(200_000 + stream.below(3_000_000))]
    return [*options, *(["--rewind"] if stream.below(2) else [])]


OPTIONS = [
    [],
    ["--threads", "2", "--tlb-bits", "4", "--code-cache-kib", "64"],
    ["--threads", "3", "--tlb-bits", "12", "--keyframe-insns", "1000003", "--rewind"],
]
LONG_RUNS = 50


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_every_process_sees_the_same_states(reference: dict[str, Any], options: list[str]) -> None:
    assert run(*options) == reference


@pytest.mark.long
@pytest.mark.parametrize("i", range(LONG_RUNS))
def test_fifty_processes_see_the_same_states(reference: dict[str, Any], i: int) -> None:
    options = random_options(i)
    assert run(*options) == reference, options


def test_the_reference_is_worth_comparing_with(reference: dict[str, Any]) -> None:
    for digests in reference["machines"]:
        assert len(set(digests)) >= DIGESTS_MIN
        assert "all 14 checks passed" not in digests[-1]  # printed before the input
        assert "rounds" in digests[-1]
    one, other = reference["machines"]
    assert one[0] != other[0], "machines of different seeds differ"


def test_another_seed_is_another_run(reference: dict[str, Any]) -> None:
    assert run("--seed", "12")["cluster"] != reference["cluster"]
