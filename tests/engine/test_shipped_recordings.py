"""The recordings that come with cc-tui: small, made by one script, and lived through again event by event.

They are facts about the committed images: after a change of those, `make recordings`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from chaoscontrol.events import EventKind
from chaoscontrol.faults import FaultChange
from chaoscontrol.recording import Recording, Replay, load_recording, rebuild
from chaoscontrol.timetravel import Multiverse

ROOT = Path(__file__).resolve().parents[2]
FIRST_FAILURES = {
    "fig8_commit": "raft: nodes apply the same entries, across nodes",
    "skip_truncate": "raft: nodes apply the same entries, across nodes",
    "accept_stale_term": "raft: a committed entry is never overwritten",
    "leader_no_stepdown": "raft: after healing, every node applies new entries",
    "double_vote": "raft: at most one leader per term, across nodes",
    "premature_commit": "raft: nodes apply the same entries in the same order",
}


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_recordings", ROOT / "tools" / "make_recordings.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


TOOL = load_tool()


def replay(recording: Recording) -> None:
    rebuilt = rebuild(recording)
    try:
        done = Replay(recording, Multiverse(rebuilt.cluster, rebuilt.witness)).all()
    finally:
        rebuilt.close()
    main = recording.branches[0]
    assert done.checkpoints == len(recording.checkpoints(main)) > 3
    assert done.events == len(list(recording.events(main))) > 50


def test_there_is_one_for_every_seeded_bug_and_two_of_health() -> None:
    shipped = {path.name for path in TOOL.RECORDINGS.iterdir() if path.suffix == ".ccrec"}
    assert shipped == {TOOL.path_of(name).name for name in ("election", "partition", *FIRST_FAILURES)}


@pytest.mark.parametrize("name", TOOL.NAMES)
def test_it_happens_again_as_recorded(name: str) -> None:
    path = TOOL.path_of(name)
    assert path.stat().st_size < 65_536
    with load_recording(path) as recording:
        assert recording.end is not None
        assert recording.end.complete
        failures = [failure.name for failure in recording.branches[0].failures]
        assert failures[:1] == ([FIRST_FAILURES[name]] if name in FIRST_FAILURES else [])
        replay(recording)


def said(recording: Recording, text: str) -> list[int]:
    """When a console said it."""
    events = recording.events(recording.branches[0], only="console")
    return [event.vns for _, event in events if event.kind is EventKind.CONSOLE and text in event.text]


def test_the_election_has_a_leader() -> None:
    with load_recording(TOOL.path_of("election")) as recording:
        assert len(said(recording, "leader of term")) == 1


def test_the_partition_cuts_off_the_leader_and_heals() -> None:
    with load_recording(TOOL.path_of("partition")) as recording:
        changes = [e.data for _, e in recording.events(recording.branches[0], only="faults")]
        assert [c.begins for c in changes if isinstance(c, FaultChange)] == [True, False]
        first, second = said(recording, "leader of term")
        assert first < 1_000_000_000 < second < 2_000_000_000, "another leader while the partition lasts"


def test_the_script_makes_the_same_bytes_again(tmp_path: Path) -> None:
    assert TOOL.make("election", tmp_path).read_bytes() == TOOL.path_of("election").read_bytes()


def test_a_recording_of_an_older_version_is_replayed(tmp_path: Path) -> None:
    path, now = tmp_path / "older.ccrec", TOOL.path_of("partition").read_bytes()
    path.write_bytes(now[:6] + b"\x02\0" + now[8:])
    with load_recording(path) as recording:
        replay(recording)
