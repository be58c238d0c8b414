"""Keyframes of a recording are read where somebody comes to need them, and are then as if they had been there."""

import dataclasses
import time
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.recordings import keyframe, record_toy, toy_header, toy_multiverse

from chaoscontrol.recording import Recorder, RecordingError, foretold_branches, load_recording, records
from chaoscontrol.timetravel import Position
from chaoscontrol.timetravel.keyframes import KeyframeIndex, Unread

TIMES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=6)


def piece(at, reads, times) -> Unread:
    found = [keyframe(Position(*time)) for time in times]

    def read():
        assert at not in reads, "it is read once"
        reads.append(at)
        return found

    return Unread(min(times)[0], max(times)[0], read)


@given(pieces=st.lists(TIMES, max_size=8), dice=st.randoms(use_true_random=False))
def test_they_are_as_if_they_had_been_there(pieces, dice):
    reads: list[int] = []
    index, eager = KeyframeIndex(), KeyframeIndex()
    index.foretell([piece(at, reads, times) for at, times in enumerate(pieces)])
    for at in chain.from_iterable(pieces):
        eager.add(keyframe(Position(*at)))
    for _ in range(20):
        vns = dice.randrange(42)
        if dice.random() < 0.5:
            assert index.next_vns(vns) == eager.next_vns(vns)
        else:
            position = Position(vns, dice.randrange(3))
            found, expected = index.at(position), eager.at(position)
            assert (found and found.position) == (expected and expected.position)
        assert len(index) == len(eager) == 0
    assert [one.position for one in index] == [one.position for one in eager]
    assert sorted(reads) == list(range(len(pieces)))


@given(pieces=st.lists(TIMES, max_size=8), vns=st.integers(0, 42))
def test_no_more_is_read_than_could_be_there(pieces, vns):
    reads: list[int] = []
    index = KeyframeIndex()
    index.foretell([piece(at, reads, times) for at, times in enumerate(pieces)])
    index.at(Position(vns))
    assert sorted(reads) == [n for n, times in enumerate(pieces) if min(times)[0] <= vns <= max(times)[0]]


@pytest.fixture
def recorded(tmp_path):
    path = tmp_path / "toy.ccrec"
    record_toy(path)
    return path


def test_opening_a_recording_decodes_those_of_its_beginning_only(tmp_path, monkeypatch):
    path = tmp_path / "long.ccrec"
    with Recorder(path, toy_header(), clock=time.monotonic) as recorder:
        lived = toy_multiverse(keyframe_insns=500)
        lived.observe(recorder)
        for at in range(1, 21):
            lived.run_to(at * 100_000)
            recorder.flush()
        recorder.finish(lived)
    decoded = []
    decode = records.decode_checkpoints
    monkeypatch.setattr(records, "decode_checkpoints", lambda *a: decoded.append(a[1].offset) or decode(*a))
    with load_recording(path) as recording:
        (main,) = recording.kept
        assert len(main.checkpoint_frames) == 20
        assert len(recording.checkpoints(main)) > 20
        assert len(set(decoded)) == 20
        decoded.clear()
        branches = foretold_branches(recording)
    multiverse = toy_multiverse()
    multiverse.foretell(branches)
    assert len(decoded) <= 1
    multiverse.goto_time(1_050_000)
    assert len(set(decoded)) == 11
    assert multiverse.moment() == (lived.goto_time(1_050_000), lived.moment())[1]


def test_what_turns_out_to_be_damaged_ends_the_way_there_and_nothing_else(recorded):
    with load_recording(recorded) as recording:
        branches = foretold_branches(recording)

    def damaged():
        raise RecordingError("the contents of a frame are damaged", path="toy.ccrec", offset=7)

    pieces = tuple(one._replace(read=damaged) if one.first_vns > 0 else one for one in branches[-1].keyframes)
    assert pieces != branches[-1].keyframes
    multiverse = toy_multiverse()
    multiverse.foretell([*branches[:-1], dataclasses.replace(branches[-1], keyframes=pieces)])
    multiverse.goto_time(900_000)
    before = multiverse.moment()
    for _ in range(2):
        with pytest.raises(RecordingError, match="damaged"):
            multiverse.goto_end("last")
        assert multiverse.moment() == before
    multiverse.goto_end("main")
    multiverse.goto_time(1_600_000, branch="last")
