"""What is said of branches while recording is in the recording: names, notes, marks, and which ones are gone."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from toys.cluster import ToyCluster
from toys.mutations import run_command_line
from toys.recordings import (
    KEYFRAME_INSNS,
    edit_toy,
    every_kind_header,
    give,
    record_edited,
    record_toy,
    toy_header,
    toy_multiverse,
)

from cc_tui.session import Session
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.recording import (
    Recorder,
    RecordingError,
    Replay,
    foretold_branches,
    foretold_marks,
    load_recording,
    told_branches,
)
from chaoscontrol.recording.fields import pack
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import MAGIC, PACKETS_MAGIC, FrameKind, encode_frame
from chaoscontrol.recording.header import encode_header
from chaoscontrol.timetravel import BranchError, ConsoleInput, Moment, Multiverse, Position

KEPT = ["trunk", "retry", "two"]
GONE = ["b2", "b3", "b4", "b5"]
FORKED_NS = 300_000


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("edited") / "edited.ccrec"
    return path, record_edited(path)


@pytest.fixture(scope="module")
def original() -> Multiverse:
    multiverse = toy_multiverse()
    edit_toy(multiverse)
    return multiverse


def opened(path: Path) -> Multiverse:
    multiverse = toy_multiverse()
    with load_recording(path) as recording:
        multiverse.foretell(foretold_branches(recording), foretold_marks(recording), recording.deleted_names)
    return multiverse


def said(multiverse: Multiverse) -> list[tuple]:
    """What the tree and the marks are, apart from snapshots."""
    branches = multiverse.branches()
    found = [(b.name, b.parent, b.start, b.end, b.inputs, b.endings, b.note, b.former) for b in branches]
    return [*found, *sorted(multiverse.marks.items())]


def test_the_file_says_what_there_is_and_what_is_gone(edited):
    with load_recording(edited[0]) as recording:
        assert [branch.name for branch in recording.kept] == KEPT
        assert [branch.name for branch in recording.branches if branch.deleted] == GONE
        assert [list(branch.former) for branch in recording.kept] == [["main"], ["b1", "first"], []]
        assert [branch.note for branch in recording.kept] == ["", "the second leader wins", ""]
        marks = {name: (mark.branch.name, mark.position.vns, mark.note) for name, mark in recording.marks.items()}
        assert marks == {
            "kept": ("retry", 500_000, "a vote is lost here, né"),
            "inherited": ("trunk", 250_000, "before the split"),
            "here": ("two", 700_000, ""),
        }
        assert recording.branch("first") is recording.branch("retry") is recording.branches[1]
        with pytest.raises(RecordingError, match="branch 'b3' was deleted; branches: trunk, retry, two"):
            recording.branch("b3")
        assert [told.branch for told in told_branches(recording)] == KEPT


def test_opened_again_it_is_the_tree_that_it_was(edited, original):
    path, printed = edited
    multiverse = opened(path)
    assert said(multiverse) == said(original)
    for name in ("b1", "two"):
        multiverse.goto(Moment.parse(printed[name]))
    for name in GONE:
        with pytest.raises(BranchError, match=f"branch '{name}' was deleted"):
            multiverse.goto(Moment.parse(printed[name]))
        with pytest.raises(BranchError, match="was a branch that is deleted"):
            multiverse.fork(name)
    for mark in multiverse.marks.values():
        multiverse.goto(mark.moment)
    assert multiverse.fork().branch == original.fork().branch


def test_a_replay_verifies_what_is_kept_and_leaves_out_what_was_deleted(edited):
    with load_recording(edited[0]) as recording:
        multiverse = toy_multiverse(keyframe_insns=777)
        done = Replay(recording, multiverse).all()
        expected = sum(len(recording.checkpoints(branch)) for branch in recording.kept)
        assert (done.branches, done.checkpoints, done.inputs) == (3, expected, 2)
        assert expected < sum(len(recording.checkpoints(branch)) for branch in recording.branches)
        assert [branch.name for branch in multiverse.branches()] == KEPT


def record_forks_of_an_instant(path: Path) -> None:
    """Three inputs at an instant; `other` begins after the first of them, with one of its own, `later` at its end."""
    multiverse = toy_multiverse()
    with Recorder(path, toy_header(), clock=time.monotonic) as recorder:
        multiverse.observe(recorder)
        multiverse.run_to(FORKED_NS)
        for text in (b"a", b"b", b"c"):
            give(multiverse, ConsoleInput(0, text))
        multiverse.run_to(400_000)
        multiverse.goto_time(FORKED_NS, ordinal=1)
        multiverse.fork("other")
        give(multiverse, ConsoleInput(1, b"x"))
        multiverse.run_to(500_000)
        multiverse.fork("later")
        multiverse.run_to(600_000)
        recorder.finish(multiverse)


def test_a_time_on_a_branch_is_after_the_inputs_that_its_line_has_then(tmp_path):
    path = tmp_path / "forks.ccrec"
    record_forks_of_an_instant(path)
    multiverse = opened(path)
    with load_recording(path) as recording:
        for branch, ordinal in zip(recording.branches, (3, 2, 2), strict=True):
            at = recording.position(branch, FORKED_NS)
            assert at == Position(FORKED_NS, ordinal)
            multiverse.goto_time(FORKED_NS, branch=branch.name)
            assert multiverse.position == at, "that is where `goto` goes"


def test_a_replay_follows_the_line_of_its_branch_from_wherever_it_begins(tmp_path):
    """From before its beginning, too: what a later branch has of its parents is a part of it."""
    path = tmp_path / "forks.ccrec"
    record_forks_of_an_instant(path)
    with load_recording(path) as recording:
        multiverse = toy_multiverse(keyframe_insns=777)
        replay = Replay(recording, multiverse)
        main, other, later = recording.branches
        replay.all()
        starts = (Position(100_000), *(Position(FORKED_NS, ordinal) for ordinal in range(3)), Position(450_000))
        found = []
        for number, start in enumerate((*starts, later.start, later.end)):
            done = replay.along(later, start, later.end, f"again{number}")
            found.append((done.branches, done.inputs))
            expected = [
                checkpoint.position
                for branch, first, last in ((main, start, other.start), (other, max(start, other.start), later.start),
                                            (later, max(start, later.start), later.end))
                for checkpoint in recording.checkpoints(branch)
                if first <= checkpoint.position <= last and (start < last or branch is later)
            ]  # fmt: skip
            assert done.checkpoints == len(expected) > 0
            assert (multiverse.position, multiverse.branch.name) == (later.end, f"again{number}")
        assert found == [(3, 2), (3, 2), (2, 1), (2, 0), (2, 0), (1, 0), (1, 0)]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--checkpoint", ""), "'' is not a time"),
        (("--checkpoint", "other@9"), "other is recorded up to 0.000500000 s; give an earlier checkpoint"),
        (("--checkpoint", "other@0.0001", "--branch", "main"), "is on other; leave out --branch main"),
    ],
)
def test_a_place_to_begin_at_that_cannot_be_is_refused_before_anything_is_run(tmp_path, words, says):
    path = tmp_path / "forks.ccrec"
    record_forks_of_an_instant(path)
    with pytest.raises(ChaosControlError, match=re.escape(says)):
        run_command_line(["replay", str(path), *words])


def test_a_recorder_that_comes_late_is_told_it_all(original, tmp_path):
    path = tmp_path / "late.ccrec"
    with Recorder(path, toy_header()) as recorder:
        original.observe(recorder)
    with load_recording(path) as recording:
        assert not recording.deleted_names
        names = [(branch.name, sorted(branch.former), branch.note) for branch in recording.kept]
        assert names == [(b.name, sorted(b.former), b.note) for b in original.branches()]
        assert recording.marks.keys() == original.marks.keys()
        assert all(mark.note == original.marks[name].note for name, mark in recording.marks.items())
        Replay(recording, toy_multiverse()).all()


def test_every_prefix_is_a_recording_of_what_had_been_said_by_then(edited, tmp_path):
    frames, path = FrameFile(edited[0]), tmp_path / "cut.ccrec"
    data = edited[0].read_bytes()
    gone: list[str] = []
    for frame in range(len(frames)):
        path.write_bytes(data[: frames.begin(frame + 1)])
        with load_recording(path) as recording:
            now = [branch.name for branch in recording.branches if branch.deleted]
            assert set(gone) <= set(now)
            kept = {branch.number for branch in recording.kept}
            assert all(branch.parent in kept for branch in recording.kept if branch.parent is not None)
            assert all(mark.branch.number in kept for mark in recording.marks.values())
            gone = now
    assert gone == GONE


def test_what_happened_on_a_branch_is_written_before_it_is_deleted(tmp_path):
    path = tmp_path / "waiting.ccrec"
    multiverse = toy_multiverse()
    with Recorder(path, toy_header()) as recorder:  # without a clock, so that what happens waits
        multiverse.observe(recorder)
        multiverse.fork("doomed")
        multiverse.run_to(300_000)
        multiverse.moment(remember=True)
        multiverse.goto_end("main")
        multiverse.delete_branch("doomed")
    table = FrameFile(path).table
    kinds, last = list(table.kinds), max(at for at, branch in enumerate(table.branches) if branch == 1)
    assert kinds[last] == FrameKind.CHECKPOINTS
    assert kinds[last + 1 :] == [FrameKind.TREE, FrameKind.END]


@pytest.mark.parametrize("version", [2, 3])
def test_recordings_of_before_are_read(tmp_path, version):
    path = tmp_path / "old.ccrec"
    ends = record_toy(path)
    data = path.read_bytes()
    assert data[:8] == MAGIC != PACKETS_MAGIC
    path.write_bytes(data[:6] + version.to_bytes(2, "little") + data[8:])
    with load_recording(path) as recording:
        assert recording.has_packets == (version == 3)
        assert [branch.name for branch in recording.kept] == ["main", "b1", "last"]
        assert str(foretold_marks(recording)["here"].moment) == ends[1]
        Replay(recording, toy_multiverse()).all()


def test_what_a_hostile_file_calls_things_commands_no_terminal(tmp_path, capsys):
    path, text = tmp_path / "hostile.ccrec", "\x1b]0;owned\x07\x9b31m\nred"
    multiverse = toy_multiverse()
    with Recorder(path, toy_header()) as recorder:
        multiverse.observe(recorder)
        moment = multiverse.moment(remember=True)
        recorder.marked(f"m{text}", moment)
        recorder.annotated("main", f"m{text}", text)
        recorder.annotated("main", None, text)
    again = opened(path)
    assert again.branch.note == "]0;owned  31m red"
    assert {name: mark.note for name, mark in again.marks.items()} == {"m ]0;owned  31m red": "]0;owned  31m red"}
    run_command_line(["info", str(path)])
    assert not set(capsys.readouterr().out) & set("\x1b\x07\x9b")


# ---- what is refused -------------------------------------------------------------------------------------------------

MAIN, B1, B2 = [0, 0, "main", None, 0, 0], [0, 1, "b1", 0, 5, 0], [0, 2, "b2", 1, 7, 0]
HEADER = encode_frame(FrameKind.HEADER, 0, encode_header(every_kind_header()))


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ([MAIN, [6, 0]], "the first branch is deleted"),
        ([MAIN, B1, B2, [6, 1]], "branch 1 is deleted, and others begin on it"),
        ([MAIN, B1, [6, 1], [6, 1]], "a frame speaks of branch 1, which was deleted"),
        ([MAIN, B1, [6, 1], [7, 1, None, "x"]], "a frame speaks of branch 1, which was deleted"),
        ([MAIN, B1, [6, 1], B2], "a frame speaks of branch 1, which was deleted"),
        ([MAIN, [6, 3]], "a frame speaks of branch 3, not known yet"),
        ([MAIN, B1, [5, 1, "main"]], "there are two branches main"),
        ([MAIN, B1, [5, 1, "x"], [0, 2, "b1", 0, 7, 0]], "there are two branches b1"),
        ([MAIN, B1, [6, 1], [5, 0, "b1"]], "there are two branches b1"),
        ([MAIN, [5, 0, "9"]], "'9' instead of a branch's name"),
        ([MAIN, [7, 0, "m1", "x"]], "a note is on a mark that is not there"),
        ([MAIN, [7, 0, 5, "x"]], "mark is 5 instead of text"),
        ([MAIN, [8, 0]], "is of no kind of record that there is"),
        ([MAIN, [6, 0, 0]], "has 3 fields instead of 2"),
    ],
)
def test_what_cannot_be_said_of_a_tree_is_refused(tmp_path, tree, says):
    path = tmp_path / "made.ccrec"
    path.write_bytes(MAGIC + HEADER + encode_frame(FrameKind.TREE, 1, pack(tree)))
    with pytest.raises(RecordingError, match=says) as caught:
        load_recording(path)
    assert caught.value.offset == 8 + len(HEADER)
    assert "\n" not in str(caught.value)


def test_a_chain_of_deletions_takes_no_longer_than_the_file(tmp_path):
    """Sixty thousand branches, each from the one before, all but the first deleted; and as many marks on the last."""
    count = 60_000
    made = [[0, n, f"b{n}", n - 1 if n else None, 0, 0] for n in range(count)]
    marks = [[4, count - 1, n % 2, 0, f"m{n}", True] for n in range(count)]
    gone = [[6, n] for n in range(count - 1, 0, -1)]
    path = tmp_path / "made.ccrec"
    frames = [encode_frame(FrameKind.TREE, at, pack(tree)) for at, tree in enumerate((made, marks, gone), 1)]
    path.write_bytes(b"".join((MAGIC, HEADER, *frames)))
    with load_recording(path) as recording:
        assert len(recording.kept) == 1
        assert len(recording.marks) == count // 2
        assert {(mark.branch.number, mark.position) for mark in recording.marks.values()} == {(0, Position(0))}


# ---- what a person sees ----------------------------------------------------------------------------------------------


def test_info_shows_names_notes_and_marks_and_no_deleted_branch(edited, capsys):
    path = str(edited[0])
    run_command_line(["info", path])
    shown = capsys.readouterr().out
    for line in (
        "  branch     retry from trunk: 0.000200000 to 0.000500000 s, 1 inputs",
        "    was called b1, first",
        "    note: the second leader wins",
        "    0.000500000 mark kept: a vote is lost here, né",
        "    0.000250000 mark inherited: before the split",
        "  deleted    b2, b3, b4, b5",
    ):
        assert line in shown.splitlines()
    assert "nobody will read this" not in shown
    assert "gone" not in shown
    run_command_line(["info", path, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert [branch["name"] for branch in found["branches"]] == KEPT
    assert found["deleted"] == GONE
    retry = found["branches"][1]
    assert (retry["former_names"], retry["note"]) == (["b1", "first"], "the second leader wins")
    assert retry["remarks"] == [{"vns": 500_000, "text": "kept", "mark": True, "note": "a vote is lost here, né"}]


def test_former_names_choose_a_branch_and_deleted_ones_are_refused(edited, capsys):
    path = str(edited[0])
    outputs = []
    for name in ("retry", "b1", "first"):
        run_command_line(["export", path, "--branch", name])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]
    with pytest.raises(RecordingError, match="branch 'b2' was deleted"):
        run_command_line(["export", path, "--branch", "b2"])
    run_command_line(["export", path])
    branches = {json.loads(line).get("branch") for line in capsys.readouterr().out.splitlines()}
    assert branches - {None} == set(KEPT)


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_is_recorded_with_what_is_said_in_it(tmp_path):
    path = tmp_path / "session.ccrec"
    with Session(ToyCluster(2), recorder=Recorder(path, toy_header()), keyframe_insns=KEYFRAME_INSNS) as session:
        for line in (
            "goto 400us", "goto 100us", "branch", "goto 200us", "mark here", "annotate here 'odd, this'", "branch two",
            "goto 300us", "mark there", "rename-branch b1 retry", "annotate retry 'a # note'", "goto main",
            "delete-branch two", "annotate 'of main'", "mark here",
        ):  # fmt: skip
            session.execute(line)
        view = session.view
    assert [(branch.name, branch.note) for branch in view.branches] == [("main", "of main"), ("retry", "a # note")]
    with load_recording(path) as recording:
        assert [(branch.name, branch.note) for branch in recording.kept] == [("main", "of main"), ("retry", "a # note")]
        assert recording.deleted_names == ["two"]
        assert {name: mark.moment for name, mark in foretold_marks(recording).items()} == view.marks
        assert foretold_marks(recording)["here"].note == ""
