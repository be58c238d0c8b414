"""Recordings as files: written while things happen, killed, out of room, damaged, saved and repaired."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from toys.recordings import give, record_toy, toy_header, toy_multiverse, write_every_kind

from chaoscontrol.recording import DifferenceError, Recorder, RecordingError, Replay, load_recording, upper_bound
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import HEAD, FrameKind
from chaoscontrol.recording.writer import FLUSH_S
from chaoscontrol.timetravel import ConsoleInput, Moment, Position

TESTS = Path(__file__).resolve().parents[1]


def run_toy(module: str, *words: object, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", f"toys.{module}", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=env, check=False)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "toy.ccrec"
    record_toy(path)
    return path


# ---- writing and replaying -------------------------------------------------------------------------------------------


def test_a_recording_has_the_branches_inputs_and_marks_of_the_session(toy: Path) -> None:
    with load_recording(toy) as recording:
        main, b1, last = recording.branches
        assert (main.name, b1.name, last.name) == ("main", "b1", "last")
        assert (b1.parent, b1.start, last.parent, last.start) == (0, Position(800_000), 1, Position(1_700_000))
        assert [branch.end.vns for branch in recording.branches] == [2_000_000, 1_700_000, 2_500_000]
        assert [given.input for given in main.inputs] == [ConsoleInput(0, b"hello\r")]
        assert [ending.machine for ending in last.endings] == [1]
        assert [remark.text for remark in last.remarks] == ["here"]
        assert recording.end is not None
        assert recording.end.complete


def test_a_replay_reaches_every_recorded_digest(toy: Path) -> None:
    with load_recording(toy) as recording:
        done = Replay(recording, toy_multiverse(keyframe_insns=777)).all()
        expected = sum(len(recording.checkpoints(branch)) for branch in recording.branches)
        assert (done.branches, done.checkpoints, done.inputs) == (3, expected, 3)
        assert expected >= 20


def test_moments_of_the_session_are_those_of_the_replay(tmp_path: Path) -> None:
    path = tmp_path / "again.ccrec"
    ends = record_toy(path)
    multiverse = toy_multiverse()
    with load_recording(path) as recording:
        Replay(recording, multiverse).all()
    for end in ends:
        multiverse.goto(Moment.parse(end))


def test_another_cluster_differs_at_once_and_the_part_is_named(toy: Path) -> None:
    with load_recording(toy) as recording, pytest.raises(DifferenceError) as caught:
        Replay(recording, toy_multiverse(seed=2)).all()
    difference = caught.value.difference
    assert (difference.branch, difference.vns, difference.machine, difference.part) == ("main", 0, 0, "devices")


def test_a_change_in_the_middle_is_found_between_two_checkpoints(toy: Path) -> None:
    multiverse = toy_multiverse()
    cluster, mark = multiverse._driver._cluster, 900_000

    def meddle(vns: int, run=cluster.run_to_vns) -> bool:
        if vns > mark and cluster.vms[1].vns <= mark:
            cluster.vms[1].state.mix ^= 1
        return run(vns)

    cluster.run_to_vns = meddle
    with load_recording(toy) as recording, pytest.raises(DifferenceError) as caught:
        Replay(recording, multiverse).all()
    difference = caught.value.difference
    assert difference.after_vns < mark + 100_000
    assert difference.after_vns < difference.vns < mark + 200_000
    assert (difference.branch, difference.machine) == ("main", 1)
    assert difference.tick == difference.vns // 10_000
    assert "main@0.00" in str(caught.value)


def test_what_is_known_already_can_be_recorded_afterwards(toy: Path, tmp_path: Path) -> None:
    multiverse = toy_multiverse()
    with load_recording(toy) as recording:
        Replay(recording, multiverse).all()
        late = tmp_path / "late.ccrec"
        with Recorder(late, toy_header()) as recorder:
            multiverse.observe(recorder)
            recorder.finish(multiverse)
        with load_recording(late) as again:
            assert [branch.inputs for branch in again.branches] == [branch.inputs for branch in recording.branches]
            assert [branch.end for branch in again.branches] == [branch.end for branch in recording.branches]
            Replay(again, toy_multiverse()).all()


def test_inputs_are_in_the_file_at_once_and_the_rest_when_it_is_due(tmp_path: Path) -> None:
    path, now = tmp_path / "slow.ccrec", [0.0]
    multiverse = toy_multiverse()
    with Recorder(path, toy_header(), clock=lambda: now[0]) as recorder:
        multiverse.observe(recorder)
        size = path.stat().st_size
        multiverse.run_to(500_000)
        assert path.stat().st_size == size, "not due yet"
        give(multiverse, ConsoleInput(0, b"a"))
        assert path.stat().st_size > size
        size = path.stat().st_size
        multiverse.run_to(800_000)
        assert path.stat().st_size == size
        now[0] = FLUSH_S
        multiverse.run_to(800_001)
        assert path.stat().st_size > size


def test_a_recording_that_cannot_begin_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "such.ccrec", tmp_path, "a\0b"):
        with pytest.raises(RecordingError, match="cannot be written"):
            Recorder(path, toy_header())


# ---- bad ends --------------------------------------------------------------------------------------------------------


def test_a_killed_recorder_loses_a_tenth_of_a_second_and_its_digests_are_replayed(tmp_path: Path) -> None:
    done = run_toy("crashes", "kill", 1, 20, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("20 kills")


@pytest.mark.long
def test_two_hundred_kills(tmp_path: Path) -> None:
    done = run_toy("crashes", "kill", 2, 200, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_full_disk_is_one_message_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "full.ccrec"
    done = run_toy("crashes", "full", 3000, path)
    assert done.returncode == 0, done.stderr
    vns, count, message = done.stdout.strip().split(" ", 2)
    assert (vns, count) == ("2950000", "1")
    assert message.startswith(f"{path}: recording has stopped: File too large")
    assert path.stat().st_size <= 3000
    with load_recording(path) as recording:
        assert recording.damage is None, "the file ends with its last whole frame"
        assert recording.end is None
        assert Replay(recording, toy_multiverse()).all().inputs == len(recording.branches[0].inputs) > 5


def test_a_full_disk_stops_the_run_if_that_is_asked_for(tmp_path: Path) -> None:
    done = run_toy("crashes", "full", 3000, tmp_path / "full.ccrec", "strict")
    assert done.returncode == 1
    assert "RecordingError" in done.stderr
    assert "recording has stopped: File too large" in done.stderr


@pytest.mark.parametrize("frame", [0, 1, 5])
def test_every_cut_leaves_a_recording_of_what_comes_before(toy: Path, tmp_path: Path, frame: int) -> None:
    frames, path = FrameFile(toy), tmp_path / "cut.ccrec"
    data = toy.read_bytes()
    for end in (frames.begin(frame + 1), frames.begin(frame + 1) + 1, frames.begin(frame + 2) - 1):
        path.write_bytes(data[:end])
        with load_recording(path) as recording:
            assert recording.frames == frame + 1
            assert (recording.damage is not None) == (end != frames.begin(frame + 1))
            assert recording.end is None


# ---- saving and repairing --------------------------------------------------------------------------------------------


def test_a_saved_recording_is_the_same(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "saved.ccrec"
    with load_recording(toy) as recording:
        recording.save(path)
    assert path.read_bytes() == toy.read_bytes()


def test_a_torn_recording_is_saved_as_closed_but_not_as_complete(toy: Path, tmp_path: Path) -> None:
    torn, path = tmp_path / "torn.ccrec", tmp_path / "saved.ccrec"
    torn.write_bytes(toy.read_bytes()[:-60])
    with load_recording(torn) as recording:
        recording.save(path)
    with load_recording(path) as saved:
        assert saved.damage is None
        assert saved.end is not None
        assert not saved.end.complete
        Replay(saved, toy_multiverse()).all()


def test_saving_where_nothing_can_be_written_leaves_nothing_behind(toy: Path, tmp_path: Path) -> None:
    with load_recording(toy) as recording, pytest.raises(RecordingError, match="cannot be written"):
        recording.save(tmp_path / "no" / "such.ccrec")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["head", "contents"])
def test_damage_is_named_with_its_offset_and_repair_keeps_what_comes_before(
    toy: Path, tmp_path: Path, what: str
) -> None:
    frames, data = FrameFile(toy), bytearray(toy.read_bytes())
    number = next(n for n in range(len(frames)) if frames.head(n).kind == FrameKind.TREE and n > 5)
    at = frames.offset(number)
    data[at + (7 if what == "head" else HEAD.size + 3)] ^= 0x10
    path = tmp_path / "damaged.ccrec"
    path.write_bytes(data)
    with pytest.raises(RecordingError) as caught:
        load_recording(path)
    assert caught.value.offset == at
    assert f"{path}, byte {at}: the {what} of a frame" in str(caught.value)
    with load_recording(path, up_to_damage=True) as recording:
        repaired = recording.repair(path)
    assert (repaired.frames, repaired.offset, repaired.lost_bytes) == (number, at, len(data) - at)
    with load_recording(path) as whole:
        assert whole.frames == number + 1
        Replay(whole, toy_multiverse()).all()


def test_repairing_what_is_whole_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "whole.ccrec"
    write_every_kind(path)
    before = path.read_bytes()
    with load_recording(path, up_to_damage=True) as recording:
        repaired = recording.repair(path)
    assert (repaired.why, repaired.lost_bytes) == (None, 0)
    assert path.read_bytes() == before


# ---- hostile files ---------------------------------------------------------------------------------------------------


def test_five_thousand_mutants_are_refused_in_one_line_each() -> None:
    done = run_toy("mutations", 1, 5000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("5000 mutants")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_mutants() -> None:
    done = run_toy("mutations", 2, 100_000, timeout=3500)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- confidence ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "tries", "bound"),
    [(0, 1, 0.95), (0, 100, 0.02951), (0, 3000, 0.000998), (1, 10, 0.39416), (3, 20, 0.34366), (5, 5, 1.0)],
)
def test_the_bound_is_that_of_clopper_and_pearson(seen: int, tries: int, bound: float) -> None:
    """Values of the beta distribution's 95 % quantile, beta(seen + 1, tries - seen)."""
    assert upper_bound(seen, tries) == pytest.approx(bound, abs=5e-5)
