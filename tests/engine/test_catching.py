"""Stopping at what happens: `catch`, `next WHAT`, places of events and bugs, on recorded Raft whose events are known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_shipped_recordings import TOOL

from cc_tui.commands import CommandError, parse
from chaoscontrol.events import Event, EventKind
from chaoscontrol.protocol import SdkEvent
from chaoscontrol.recording import load_recording, rebuild

ROOT = Path(__file__).resolve().parents[2]
PATH = TOOL.path_of("double_vote")
LINES = [
    "catch packet vm0 vm1", "catch sent vm2", "catch sent vm2 vm0", "catch received vm1", "catch received vm1 vm2",
    'catch console "a b"', "catch console vm1 ready", 'catch console vm1 matches "term [0-9]+"', "catch assertion",
    'catch assertion vm2 failed "one leader"', "catch fault", "catch fault network_partition", "catch power vm1", "catch end",
    "next 3 packet vm0 vm1", "reverse-next assertion failed", "next fault", "next 2", "reverse-next",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_every_command_writes_what_it_reads(line: str) -> None:
    command = parse(line)
    assert command is not None
    assert command.text == line
    assert parse(command.text) == command


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("catch", "something is missing"), ("catch weather", "nothing that happens is called 'weather'; there are packet"),
        ("catch packet", "packet: a machine is missing; write packet FROM TO"), ("catch packet 0 x", "not a machine: 'x'"),
        ("catch packet 0", "a machine is missing"), ("catch sent 1 1", "vm1 sends nothing to itself"),
        ("catch packet 0 1 2", "packet: '2' is too much; write packet FROM TO"), ("catch console", "the text is missing"),
        ("catch console matches [", "not a regular expression: '['"), ("catch console vm0 a b", "console: 'b' is too much"),
        (f"catch console {'x' * 256}", "256 bytes are too many; give at most 255"), ("next 0 fault", "not a count: '0'"),
        ("next assertion a b", "assertion: 'b' is too much"), ("reverse-next 3 never", "nothing that happens is called"),
    ],
)  # fmt: skip
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def script(lines: list[str]) -> list[Any]:
    """What each line answers, or the moment behind it for one that answers nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "--script", "-", "--json", PATH],
        input="\n".join(lines), capture_output=True, text=True, timeout=280, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done  # 1: a property is broken where it ends
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(lines), rows[-1]
    assert not any("error" in row for row in rows), rows[-1]
    return rows


@pytest.fixture(scope="module")
def events() -> list[Event]:
    with load_recording(PATH) as recording:
        return [event for _, event in recording.events(recording.branches[0])]


def met(*answers: Any) -> list[dict[str, Any]]:
    return [cause for answer in answers for cause in answer["answer"]["met"]]


def test_every_event_of_a_sort_is_stopped_at_in_order_and_back(events: list[Event]) -> None:
    faults = [event for event in events if event.kind is EventKind.FAULT]
    failed = [event for event in events if isinstance(event.data, SdkEvent) and event.data.failed]
    for what, wanted in (("fault", faults), ("assertion failed", failed)):
        moments = sorted({event.vns for event in wanted})
        assert len(moments) > 1
        ahead, back = len(moments), len(moments) - 1
        caught = script([f"catch {what}", *["continue"] * ahead, *["reverse-continue"] * back])[1:]
        gone = script([*[f"next {what}"] * ahead, *[f"reverse-next {what}"] * back])
        for stops in (caught, gone):
            assert [(cause["vns"], cause["vm"], cause["text"]) for cause in met(*stops[:ahead])] == [
                (event.vns, event.vm, event.text) for event in wanted
            ]
            assert [met(stop)[0]["vns"] for stop in stops[ahead:]] == moments[-2::-1]
        assert {cause["point"] for cause in met(*caught)} == {1}
        assert {cause["point"] for cause in met(*gone)} == {None}
        assert [stop["at"] for stop in caught] == [stop["at"] for stop in gone]


def test_frames_are_stopped_at_as_often_as_the_link_delivers_them() -> None:
    end_ns = 400_000_000
    with load_recording(PATH) as recording:
        rebuilt = rebuild(recording)
        try:
            rebuilt.cluster.run(end_ns // rebuilt.cluster.quantum_ns)
            delivered = rebuilt.cluster.network.link(0, 1).counters.delivered
        finally:
            rebuilt.close()
    assert delivered > 3
    times = [cause["vns"] for cause in met(*script(["catch packet vm0 vm1", *["continue"] * (delivered + 1)])[1:])]
    assert times == sorted(set(times))
    assert times[-2] < end_ns <= times[-1], "so many, and the next one later"


def test_places_of_events_and_bugs(events: list[Event]) -> None:
    number = next(n for n, event in enumerate(events, 1) if event.kind is EventKind.FAULT)
    line = next(n for n, event in enumerate(events, 1) if event.kind is EventKind.CONSOLE and "leader" in event.text)
    with load_recording(PATH) as recording:
        failure = recording.branches[0].failures[0]
    _, at_line, at_event, listed, at_bug = script(
        [f"goto event#{line}", f"console vm{events[line - 1].vm}", f"goto event#{number}", "events 1000", "goto bug#1"]
    )
    assert at_line["answer"]["lines"][-1]["text"] == events[line - 1].text
    assert at_event["at"]["vns"] == events[number - 1].vns
    assert any(row["number"] == number and row["text"] == events[number - 1].text for row in listed["answer"])
    assert at_bug["at"]["vns"] == failure.at.vns + (failure.at.vm >= 0)


def test_what_is_not_there_is_named() -> None:
    for line, message in (
        ("goto event#99999999", "there is no event 99999999"), ("goto bug#9", "there is no bug 9; they are numbered 1 to"),
        ("catch packet 0 7", "there is no machine 7"), ("next received 9", "there is no machine 9"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "cc_tui", "--script", "-", PATH],
            input=line, capture_output=True, text=True, timeout=100, cwd=ROOT, check=False,
        )  # fmt: skip
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr
