"""Breakpoints in programs, by names: set before the program runs, and kept through its death and another boot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from test_shipped_recordings import TOOL

ROOT = Path(__file__).resolve().parents[2]


def script(lines: list[str], *args: str | Path) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "--script", "-", "--json", *args],
        input="\n".join(lines), capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(lines), done.stderr
    assert not any("error" in row for row in rows), rows[-1]
    return rows


def test_a_point_in_a_program_that_does_not_run_yet() -> None:
    """Found by use: at the beginning of a recording nothing runs, so no name of a program was known."""
    path = TOOL.path_of("double_vote")
    set_, met, inside, back, named, other = script(
        ["break vm1 raft:on_message", "continue", "ps vm1", "reverse-continue", "break vm2 main.c:200", "continue"],
        path,
    )
    assert set_["answer"]["what"].endswith("<raft:on_message in /raft> of vm1")
    (cause,) = met["answer"]["met"]
    assert cause["kind"] == "EXECUTE"
    assert met["answer"]["focus"] == 1
    assert [row["name"] for row in inside["answer"] if row["current"]] == ["raft"]
    assert back["answer"]["met"] == [], "there was none before"
    assert back["at"]["vns"] == 0
    assert "guest/programs/raft/main.c:200 in /raft" in named["answer"]["what"]
    (cause,) = other["answer"]["met"]
    assert other["at"]["vns"] == cause["vns"]


def test_a_point_in_a_program_outlives_the_machine(tmp_path: Path) -> None:
    """Its page tables are others after each boot; its code is the same."""
    recording = tmp_path / "killed.ccrec"
    script(
        ["step 1s", "inject process_kill target=1", "step 200ms", "inject process_restart target=1", "step 1s"],
        "--scenario", "raft", "--record", recording,
    )  # fmt: skip
    rows = script(
        ["break vm1 raft:main", "continue", "registers vm1 cr3", "goto 1.1s", "continue", "registers vm1 cr3", "goto end",
         "reverse-continue", "reverse-continue"], recording,
    )[1:]  # fmt: skip
    first, tables, _, second, others, _, again, before = rows
    assert len(first["answer"]["met"]) == len(second["answer"]["met"]) == 1
    assert first["at"]["vns"] < 1_000_000_000 < second["at"]["vns"]
    assert tables["answer"] != others["answer"]
    assert (again["at"]["vns"], before["at"]["vns"]) == (second["at"]["vns"], first["at"]["vns"])


def test_a_property_at_a_programs_code_from_the_beginning_on() -> None:
    path = TOOL.path_of("double_vote")
    checked, stopped = script(
        ["check always register vm1 rsp > 0 at raft:on_message vm1", "where"], path
    )  # fmt: skip
    (one,) = checked["answer"]["branches"]
    assert one["verdict"] == "passed"
    assert one["passes"] > 50
    assert stopped["at"]["vns"] == 0
