"""Triage of the recordings that come with cc-tui. What is expected comes from them, and from other ways to know it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_shipped_recordings import FIRST_FAILURES, TOOL

from cc_tui.commands import parse
from cc_tui.opening import open_recorded
from cc_tui.session import Session
from cc_tui.triage.make import report_of
from chaoscontrol.debug import PacketReceived
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.faults import FaultSchedule
from chaoscontrol.recording import load_recording
from chaoscontrol.timetravel import Position
from chaoscontrol.triage import WINDOW_NS, Report, Severity

ROOT = Path(__file__).resolve().parents[2]


def cc_tui(*words: object, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cc_tui", *map(str, words)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, cwd=directory, check=False,
    )  # fmt: skip


def in_shell(command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """What a person gets who pastes a command into a shell."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, cwd=directory,
        env={**os.environ, "PATH": path}, check=False,
    )  # fmt: skip


def first_report(session: Session) -> Report:
    """Of its first bug, made while the engine's thread rests."""
    session.execute("where")
    return report_of(session._bench, 1, WINDOW_NS)


@pytest.fixture(scope="module", params=FIRST_FAILURES)
def triaged(request: pytest.FixtureRequest) -> Iterator[tuple[str, Session, Report]]:
    """The report of the first bug of a recording, and a session on it."""
    path = str(TOOL.path_of(request.param))
    with open_recorded(path, attended=False).session as session:
        yield request.param, session, first_report(session)


def test_it_says_what_the_recording_says(triaged: tuple[str, Session, Report]) -> None:
    name, _, report = triaged
    with load_recording(TOOL.path_of(name)) as recording:
        (branch, failure), *others = recording.failures
        assert (report.bug.name, report.bug.details) == (failure.name, failure.details)
        assert (report.bug.at.vns, report.bug.at.vm, report.bug.at.instret) == (
            failure.at.vns, failure.at.vm, failure.at.instret,
        )  # fmt: skip
        assert report.bug.branch == branch.name
        assert [other.name for other in report.others] == [other.name for _, other in others]
        assert report.origin.recipe.scenario == f"raft/{name}"
        assert report.schedule.minimised is False
        begun = [e.data for _, e in recording.events(branch, only="faults") if e.vns <= failure.at.vns]
    assert len(report.faults) == sum(change.begins for change in begun)  # type: ignore[union-attr]
    (toml,) = report.schedule.schedules
    source = FaultSchedule.from_toml((ROOT / "tests/guests/schedules" / f"{name}.toml").read_text())
    assert FaultSchedule.from_toml(toml) == source
    assert report.property.fails >= 1
    assert report.property.first_fail == report.bug.at
    late = name == "leader_no_stepdown"
    assert report.severity is (Severity.MEDIUM if late else Severity.HIGH)


def test_the_moment_is_the_first_at_which_it_has_happened(triaged: tuple[str, Session, Report]) -> None:
    """Going there compares its digests; the machines are there as the report says."""
    _, session, report = triaged
    session.execute(f"goto {report.moment.text}")
    machines = session._multiverse.machines
    for machine in report.machines:
        registers = machines[machine.vm].registers()
        assert machine.rip == registers.rip == machine.stack[0].address
        assert machine.registers["rsp"] == registers.rsp
        assert machine.instret == machines[machine.vm].instret
        log, total = session.view.consoles[machine.vm], session.view.console_totals[machine.vm]
        assert [line.number for line in machine.console][-1:] == [log.lines_begun(total)]
        assert all(line.vns <= report.moment.vns for line in machine.console)
    if report.bug.at.vm >= 0:
        assert machines[report.bug.at.vm].instret == report.bug.at.instret + 1
        assert report.machines[report.bug.at.vm].process == "raft"
        stack = report.machines[report.bug.at.vm].stack
        assert any(" at guest/programs/raft/" in frame.name.replace("./", "") for frame in stack), stack
        assert report.timeline[-1].at == report.bug.at
        assert report.timeline[-1].failed
    assert report.timeline == tuple(sorted(report.timeline, key=lambda h: (h.at.vns, h.at.vm)))


def test_frames_arrive_where_the_debugger_sees_them_arrive(triaged: tuple[str, Session, Report]) -> None:
    """The captured frames of a machine, and those that its device put into its memory: two ways to the same."""
    _, session, report = triaged
    causality = report.causality
    assert causality is not None
    assert causality.missed == 0
    vm = max(report.bug.at.vm, 0)
    last = causality.messages[causality.chains[vm][0]]
    assert last.dst == vm
    session.execute(f"goto {report.moment.text}")
    debugger, arrivals = session._bench.debugger, []
    assert last.arrival_vns is not None
    while (hit := debugger.backward([PacketReceived(vm)], floor=Position(last.arrival_vns)).hit) is not None:
        arrivals.append(hit)
    # It stands in memory at the first boundary after its arrival.
    assert arrivals[-1].frame is not None
    assert arrivals[-1].frame[0] == last.src
    assert 0 <= arrivals[-1].vns - last.arrival_vns < 1000


def test_the_cursor_stays_where_it_is(triaged: tuple[str, Session, Report]) -> None:
    _, session, report = triaged
    session.execute("goto 250ms")
    before, script = session.view.moment, session.script()
    again = first_report(session)
    session.execute("where")
    assert (session.view.moment, session.script()) == (before, script)
    assert again == report, "the same history, the same report"


def test_two_votes_of_one_term_are_among_the_messages() -> None:
    """The seeded bug of double_vote is there to be seen."""
    with open_recorded(str(TOOL.path_of("double_vote")), attended=False).session as session:
        causality = first_report(session).causality
    assert causality is not None
    assert causality.judged_outside
    votes = {
        (m.src, m.dst, m.meaning) for m in causality.messages if m.meaning.startswith("vote granted") and m.in_past
    }
    terms = {meaning for _, _, meaning in votes}
    assert any(len({dst for src, dst, meaning in votes if (src, meaning) == (voter, term)}) > 1
               for voter in range(3) for term in terms)  # fmt: skip
    assert not [m for m in causality.messages if "kind" in m.meaning or "damaged" in m.meaning]


def test_a_failure_of_one_machine_has_reaches() -> None:
    """The first failure that a node has found by itself: what others did just before cannot have had an effect."""
    with open_recorded(str(TOOL.path_of("premature_commit")), attended=False).session as session:
        report = first_report(session)
    causality = report.causality
    assert causality is not None
    assert not causality.judged_outside
    for vm, reach in enumerate(causality.reaches):
        assert reach is not None
        if vm == report.bug.at.vm:
            assert reach == report.moment.vns
        else:
            # A frame takes half a millisecond.
            assert reach <= report.moment.vns - 500_000
            assert max(m.sent_vns for m in causality.messages if m.in_past and m.src == vm) <= reach


# ---- as commands ----------------------------------------------------------------------------------------------------


def test_the_command_that_reproduces_it_does(tmp_path: Path) -> None:
    path = tmp_path / "a bug.ccrec"
    path.write_bytes(TOOL.path_of("double_vote").read_bytes())
    done = cc_tui("triage", path.name, "--bug", 2, "--format", "json", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    again = in_shell(report["origin"]["reproduction"]["command"], tmp_path)
    assert again.returncode == 0, again
    assert f"bug 2 is back, at {report['moment']['text']}: {report['bug']['name']}" in again.stdout
    look = report["origin"]["reproduction"]["look"]
    assert look.startswith("cc-tui open ")
    there = in_shell(f"echo where | {look.replace('cc-tui open', 'cc-tui --script - open')}", tmp_path)
    assert (there.returncode, there.stdout) == (0, report["moment"]["text"] + "\n")
    there = in_shell(f"echo where | {look.replace('cc-tui open', 'cc-tui repl')}", tmp_path)
    assert (there.returncode, there.stdout) == (0, report["moment"]["text"] + "\n")
    named = cc_tui("info", path.name, directory=tmp_path).stdout
    assert f": bug 2: {report['bug']['name']}" in named
    assert json.loads(cc_tui("replay", path, "--bug", 2, "--json").stdout)["bug"]["moment"] == report["moment"]["text"]


def test_a_bug_of_a_session_is_reproduced_by_its_script(tmp_path: Path) -> None:
    """On a branch that no recording has: what was done comes with the report, as a script."""
    path = TOOL.path_of("double_vote")
    with load_recording(path) as recording:
        failure = recording.branches[0].failures[0]
    script = tmp_path / "look.cc"
    number = len(recording.failures) + 1
    script.write_text(
        f"goto {failure.at.vns - 1000}ns\nbranch again\nwrite 0 phys:0x8000 90\ncontinue\n"
        f"triage {number} {tmp_path}/bug.json\ngoto start\ntriage {number}\n"
    )
    done = cc_tui("--script", script, path)
    assert done.returncode == 0, done
    report = json.loads((tmp_path / "bug.json").read_text())
    assert (report["bug"]["branch"], report["bug"]["name"]) == ("again", failure.name)
    assert "write 0 phys:0x8000 90" in report["origin"]["reproduction"]["command"]
    assert f"# `{failure.name}`" in done.stdout
    again = in_shell(report["origin"]["reproduction"]["command"], ROOT)
    assert again.returncode == 0, again
    there = in_shell(report["origin"]["reproduction"]["look"], ROOT)
    assert there.stdout.splitlines()[-1] == report["moment"]["text"]


def test_a_recorded_bug_is_reproduced_by_the_names_of_the_recording(tmp_path: Path) -> None:
    path = TOOL.path_of("double_vote")
    script = tmp_path / "look.cc"
    script.write_text(f"rename-branch main trunk\ntriage 1 {tmp_path}/bug.json\n")
    done = cc_tui("--script", script, path)
    assert done.returncode == 0, done
    report = json.loads((tmp_path / "bug.json").read_text())
    assert (report["bug"]["branch"], report["moment"]["text"][:6]) == ("trunk", "trunk@")
    assert report["origin"]["reproduction"]["command"].endswith(" --bug 1")
    look = report["origin"]["reproduction"]["look"]
    there = in_shell(f"echo where | {look.replace('cc-tui open', 'cc-tui --script - open')}", ROOT)
    assert (there.returncode, there.stdout) == (0, report["moment"]["text"].replace("trunk@", "main@") + "\n")


def test_formats_go_by_the_name(tmp_path: Path) -> None:
    path = TOOL.path_of("premature_commit")
    for name, begins in (("a.html", "<!doctype html>"), ("a.md", "# `raft: "), ("a.json", "{"), ("a", "# `raft: ")):
        done = cc_tui("triage", path, "-o", tmp_path / name)
        assert (done.returncode, done.stdout) == (0, ""), done
        assert (tmp_path / name).read_text().startswith(begins)
        assert f"{name}: high: raft: " in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["double_vote", "--bug", "99"], "there is no bug 99; they are numbered 1 to 3"),
        (["election"], "no property was broken"),
        (["double_vote", "-o", "/nowhere/x.html"], "No such file"),
    ],
)
def test_mistakes_are_one_line(words: list[str], says: str) -> None:
    done = cc_tui("triage", TOOL.path_of(words[0]), *words[1:])
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert cc_tui("replay", TOOL.path_of("double_vote"), "--bug", "99").returncode == 2
    assert cc_tui("replay", TOOL.path_of("double_vote"), "--bug", "1", "--ticks", "2").returncode == 2


@pytest.mark.parametrize(
    "line", ["triage", "triage 2 json", "triage 1 html bug.html", "triage 3 'a b.md' within 500ms"]
)
def test_the_command_writes_what_it_reads(line: str) -> None:
    command = parse(line)
    assert command is not None
    assert parse(command.text) == command


def test_a_session_of_unknown_origin_cannot_be_repeated() -> None:
    from toys.cluster import ToyCluster

    with Session(ToyCluster(2), attended=False) as session, pytest.raises(ChaosControlError, match="not known"):
        session.execute("triage")
