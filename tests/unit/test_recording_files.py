"""Recordings as files: written while things happen, killed, out of room, damaged, saved and repaired."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toys.recordings import (
    FRAMES,
    every_kind_header,
    give,
    keyframe,
    record_toy,
    toy_header,
    toy_multiverse,
    write_every_kind,
)

from chaoscontrol.cluster import VMS_MAX
from chaoscontrol.recording import DifferenceError, RecordedMark, Recorder, RecordingError, Replay, load_recording
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import HEAD, MAGIC, PAYLOAD_BYTES_MAX, FrameKind
from chaoscontrol.recording.records import checkpoint_bytes_max, encode_checkpoints
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
        assert recording.marks == {"here": RecordedMark(last, last.end)}
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


def test_checkpoints_are_in_order_however_they_became_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stretch of time has is read without the rest, frame by frame."""
    path = tmp_path / "checkpoints.ccrec"
    frames = ((100, 400), (200,), (200, 300), (50,), (600, 500), (400, 450), (900,))
    with Recorder(path, every_kind_header()) as recorder:
        recorder.branch_made("main", None, Position(0))
        for number, times in enumerate(frames):
            for vns in times:
                recorder.keyframe_taken("main", dataclasses.replace(keyframe(Position(vns)), events=number))
            recorder.flush()
    reads: list[int] = []
    with load_recording(path) as recording:
        (main,) = recording.branches
        found = [(checkpoint.position.vns, checkpoint.events) for checkpoint in recording.checkpoints(main)]
        assert found == [(50, 3), (100, 0), (200, 1), (300, 2), (400, 0), (450, 5), (500, 4), (600, 4), (900, 6)]
        assert recording.checkpoint_count(main) == len(found)
        payload = FrameFile.payload
        monkeypatch.setattr(FrameFile, "payload", lambda file, number: reads.append(number) or payload(file, number))
        for from_vns, to_vns in ((0, 50), (60, 99), (200, 450), (201, 299), (450, None), (901, None)):
            del reads[:]
            part = [
                (c.position.vns, c.events) for c in recording.each_checkpoint(main, from_vns=from_vns, to_vns=to_vns)
            ]
            inside = [one for one in found if from_vns <= one[0] and (to_vns is None or one[0] <= to_vns)]
            assert part == inside
            last = to_vns or 1000
            assert len(reads) == sum(min(times) <= last and max(times) >= from_vns for times in frames)
        del reads[:]
        next(recording.each_checkpoint(main))
        assert len(reads) == 1, "one after the other"


def test_digests_of_the_largest_cluster_fit_their_frames(tmp_path: Path) -> None:
    path = tmp_path / "large.ccrec"
    most = (1 << 64) - 1
    with Recorder(path, toy_header(VMS_MAX)) as recorder:
        recorder.branch_made("main", None, Position(0))
        for at in range(30):
            one = keyframe(Position(most >> 1, at), VMS_MAX)
            one.instrets = one.totals = (most,) * VMS_MAX
            recorder.keyframe_taken("main", one)
    with load_recording(path) as recording:
        found = recording.checkpoints(recording.branches[0])
    assert [checkpoint.position.ordinal for checkpoint in found] == list(range(30))
    assert len(encode_checkpoints(found[:1])) <= checkpoint_bytes_max(found[0])
    assert checkpoint_bytes_max(found[0]) * 4 < PAYLOAD_BYTES_MAX


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


def test_what_cannot_be_begun_is_not_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "full.ccrec"
    done = run_toy("crashes", "full", 10, path)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(f"{path}: cannot be written: File too large")
    assert not path.exists()
    with pytest.raises(RecordingError, match="/dev/full: cannot be written: No space left on device"):
        Recorder("/dev/full", toy_header())
    assert Path("/dev/full").is_char_device(), "only a file is removed"


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


def test_two_thousand_mutants_are_refused_in_one_line_each() -> None:
    done = run_toy("mutations", 1, 2000)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("2000 mutants")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_mutants() -> None:
    done = run_toy("mutations", 2, 100_000, timeout=3500)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- packets ---------------------------------------------------------------------------------------------------------


def test_packets_are_cut_into_frames_that_fit(tmp_path: Path) -> None:
    path, largest = tmp_path / "many.ccrec", FRAMES[2]
    with Recorder(path, every_kind_header(), packets=True) as recorder:
        recorder.branch_made("main", None, Position(0))
        recorder.switched("main", [largest] * 5001)
    with load_recording(path) as recording:
        main = recording.branch()
        assert len(main.packet_frames) == 3
        assert list(recording.packets(main)) == [largest] * 5001
        assert list(recording.packets(main, from_vns=largest.switched_vns + 1)) == []


def test_packets_are_written_only_where_they_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "none.ccrec"
    with Recorder(path, every_kind_header()) as recorder:
        recorder.branch_made("main", None, Position(0))
        recorder.switched("main", FRAMES)
    assert path.read_bytes()[:8] == MAGIC
    with load_recording(path) as recording:
        assert not recording.has_packets
        assert list(recording.packets(recording.branch())) == []


@pytest.mark.parametrize("version", [2, 4])
def test_packets_in_a_file_without_are_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "some.ccrec"
    write_every_kind(path)
    path.write_bytes(MAGIC[:6] + bytes((version, 0)) + path.read_bytes()[8:])
    with pytest.raises(RecordingError, match="a frame of kind 9 cannot stand here"):
        load_recording(path)


def test_a_file_of_an_older_version_is_read(tmp_path: Path) -> None:
    path, older = tmp_path / "now.ccrec", tmp_path / "older.ccrec"
    write_every_kind(path)
    older.write_bytes(MAGIC[:6] + b"\x03\0" + path.read_bytes()[8:])
    with load_recording(path) as now, load_recording(older) as before:
        assert before.header == now.header
        assert before.has_packets
        assert list(before.packets(before.branch())) == list(now.packets(now.branch()))
