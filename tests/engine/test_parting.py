"""Where two branches part, and what became of the bug: edits whose effects are known to the instruction, and Raft."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sessions import refused
from test_diff import ask, session  # noqa: F401  a fixture
from test_edits import STEP
from test_shipped_recordings import TOOL

from cc_tui.commands import parse
from cc_tui.session import Session
from chaoscontrol.faults import FaultChange
from chaoscontrol.recording import load_recording
from chaoscontrol.timetravel import Multiverse

ROOT = Path(__file__).resolve().parents[2]
TICK_NS = 100_000


def compared(session: Session, line: str) -> Any:  # noqa: F811
    before = session.view.moment
    lines, data = ask(session, line)
    assert session.view.moment == before, "the cursor comes back"
    assert lines
    return data


def test_an_edit_parts_its_machine_and_no_other(session: Session) -> None:  # noqa: F811
    session.execute("step 5ms")
    session.execute("goto 1ms")
    session.execute("branch edited")
    session.execute("step 1234567ns")
    session.execute(f"write 1 {STEP:#x} 02")
    session.execute("goto main")
    data = compared(session, "compare main edited")
    assert (data["a"]["vns"], data["b"]["vns"]) == (5_000_000, 5_000_000), "the shorter one has gone on"
    assert data["fork"] == {"branch": "main", "vns": 1_000_000, "ordinal": 0}
    assert data["given"] == [[], [{"vns": 2_234_567, "text": f"wrote 1 bytes into vm1 at {STEP:#x}"}]]
    assert [machine["vns"] for machine in data["machines"]] == [None, 2_300_000, None], "to the tick"
    assert data["machines"][1]["what"].startswith("rbx 0x")
    assert f"page {STEP >> 12:#x}" in data["machines"][1]["what"]
    assert (data["equal"], data["event"], data["frames"], data["bugs"]) == (False, None, None, [])
    assert compared(session, "compare edited main")["machines"][1]["vns"] == 2_300_000
    assert [m["vns"] for m in compared(session, "compare main edited until 2ms")["machines"]] == [None] * 3
    same = compared(session, "compare edited edited")
    assert (same["equal"], same["given"]) == (True, [[], []])


def test_a_fault_is_the_first_event(session: Session) -> None:  # noqa: F811
    session.execute("step 3ms")
    session.execute("branch faulty")
    session.execute("step 1ms")
    session.execute("inject process_pause target=0 for=1ms")
    session.execute("step 3ms")
    data = compared(session, "compare main")
    (a, b) = data["event"]["events"]
    assert a is None
    assert (b["vns"], b["kind"]) == (4_000_000, "fault")
    assert data["machines"][0]["vns"] == 4_000_000, "at once"
    assert data["machines"][1]["vns"] is None


def test_mistakes_are_one_line(session: Session) -> None:  # noqa: F811
    session.execute("step 1ms")
    session.execute("branch other")
    session.execute("step 1ms")
    assert "no branch 'none'" in refused(session, "compare main none")
    assert "one history until later" in refused(session, "compare main other until 500us")
    assert "it takes two branches" in refused(session, "compare main other third")
    command = parse("compare a b until 5ms")
    assert command is not None
    assert parse(command.text) == command


def script(lines: str, path: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "--script", "-", "--json", path],
        input=lines, capture_output=True, text=True, timeout=280, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["double_vote", "premature_commit"])
def test_without_its_faults_the_bug_is_gone_and_with_another_byte_it_remains(name: str, tmp_path: Path) -> None:
    path = TOOL.path_of(name)
    with load_recording(path) as recording:
        main = recording.branches[0]
        changes = [e.data for _, e in recording.events(main, only="faults")]
        first = min(change.vns for change in changes if isinstance(change, FaultChange))
        failure = main.failures[0]
        end_ns = main.end.vns
    (tmp_path / "none.toml").write_text('origin = "branch"\n')
    before = first - 2_000_000
    *_, gone, _, _, _, remains = script(
        f"goto {before}ns\nbranch healed\nschedule {tmp_path}/none.toml\ncompare main healed until {end_ns}ns\n"
        f"goto main@{before}ns\nbranch poked\nwrite 0 phys:0x8000 90\ncompare main poked until {end_ns}ns\n",
        path,
    )
    bugs = {bug["name"]: bug for bug in gone["answer"]["bugs"]}
    assert (bugs[failure.name]["a"], bugs[failure.name]["b"], bugs[failure.name]["remains"]) == (
        "failed", bugs[failure.name]["b"], False,
    )  # fmt: skip
    assert gone["answer"]["event"]["events"][0]["vns"] == first, "the first fault is what is missing"
    parted = [machine["vns"] for machine in gone["answer"]["machines"] if machine["vns"] is not None]
    assert min(parted) >= first // TICK_NS * TICK_NS
    bugs = {bug["name"]: bug for bug in remains["answer"]["bugs"]}
    assert bugs[failure.name]["remains"]
    assert [machine["vns"] for machine in remains["answer"]["machines"]] == [before, None, None, None]
    assert remains["answer"]["machines"][0]["what"] == "page 0x8"


def test_the_fork_of_branches() -> None:
    from toys.cluster import ToyCluster

    multiverse = Multiverse(ToyCluster(1))
    multiverse.run_to(500_000)
    for name, at_ns, parent in (("x", 200_000, "main"), ("y", 300_000, "main"), ("z", 400_000, "x")):
        multiverse.goto_time(at_ns, branch=parent)
        multiverse.fork(name)
        multiverse.run_to(600_000)
    forks = {(a, b): multiverse.fork_of(a, b) for a in "xyz" for b in "xyz"}
    assert forks["x", "y"] == forks["y", "x"] == forks["z", "y"] == ("main", (200_000, 0))
    assert forks["x", "z"] == forks["z", "x"] == ("x", (400_000, 0))
    assert multiverse.fork_of("main", "y") == ("main", (300_000, 0))
