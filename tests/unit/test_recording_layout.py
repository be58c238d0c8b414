"""Where frames lie in a file: segments with an index each, found whatever became of the writer; damage is found too."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.mutations import frames_of, signed
from toys.recordings import every_kind_header, keyframe

from chaoscontrol.events import Event, EventKind
from chaoscontrol.recording import Recorder, RecordingError, load_recording
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import HEAD, MAGIC, PAYLOAD_BYTES_MAX, SEGMENT_BYTES, FrameKind, FrameTable, Layout
from chaoscontrol.timetravel import Position

SECOND_NS = 1_000_000_000


def columns(table: FrameTable) -> tuple[list[int], ...]:
    return tuple(list(c) for c in (table.offsets, table.kinds, table.branches, table.firsts, table.lasts))


def noise(size: int, seed: int) -> bytes:
    return hashlib.shake_256(bytes([seed])).digest(size)


@given(st.lists(st.integers(0, PAYLOAD_BYTES_MAX), min_size=2, max_size=9), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_no_frame_crosses_a_segment_and_each_segment_begins_with_an_index(sizes: list[int], seed: int) -> None:
    layout, block = Layout(), noise(PAYLOAD_BYTES_MAX, seed)
    written = b"".join(frame for size in sizes for frame in layout.add(FrameKind.TREE, block[:size]))
    assert layout.end == len(MAGIC) + len(written)
    for number, at in enumerate(layout.table.offsets):
        head = HEAD.unpack_from(written, at - len(MAGIC))
        assert head[4] == number
        assert (at % SEGMENT_BYTES == 0) == (head[1] == FrameKind.INDEX)
        assert (at + HEAD.size + head[0] - 1) // SEGMENT_BYTES == at // SEGMENT_BYTES


@pytest.mark.parametrize("left", [0, 1, HEAD.size - 1, HEAD.size, HEAD.size + 1])
def test_what_is_left_of_a_segment_is_nothing_or_holds_a_head(left: int) -> None:
    layout = Layout()
    while SEGMENT_BYTES - layout.end > PAYLOAD_BYTES_MAX:
        layout.add(FrameKind.TREE, noise(PAYLOAD_BYTES_MAX // 2, 1))
    layout.add(FrameKind.TREE, noise(SEGMENT_BYTES - layout.end - HEAD.size - left, 2))
    layout.add(FrameKind.TREE, b"x" * 100)
    layout.add(FrameKind.TREE, b"x" * 100)
    kinds = [FrameKind(kind) for kind in layout.table.kinds]
    assert kinds.count(FrameKind.PAD) == (left != 0)
    assert kinds.count(FrameKind.INDEX) == 1
    assert list(layout.table.offsets).count(SEGMENT_BYTES) == 1


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments and a bit: a branch of 400 virtual seconds with 100 lines each, and another one at its end."""
    path = tmp_path_factory.mktemp("large") / "large.ccrec"
    with Recorder(path, every_kind_header()) as recorder:
        recorder.branch_made("main", None, Position(0))
        for second in range(400):
            at = second * SECOND_NS
            text = noise(100 * 500, second % 256).hex()
            lines = [Event(at + n, 0, n, EventKind.CONSOLE, text[1000 * n : 1000 * (n + 1)]) for n in range(100)]
            recorder.happened("main", second * 100, Position(at + SECOND_NS), lines, [])
            recorder.keyframe_taken("main", keyframe(Position(at)))
            recorder.flush()
        recorder.branch_made("b1", "main", Position(7))
        recorder.remark("b1", Position(8), "note")
    assert path.stat().st_size > 2 * SEGMENT_BYTES
    return path


def test_the_indexes_say_what_the_heads_say(large: Path) -> None:
    by_index, by_heads = FrameFile(large), FrameFile(large, up_to_damage=True)
    assert columns(by_index.table) == columns(by_heads.table)
    assert by_index.table.kinds.count(FrameKind.INDEX) == large.stat().st_size // SEGMENT_BYTES == 2


@pytest.mark.parametrize("segments", [0.5, 1.0, 1.000001, 1.5, 2.0, 2.3])
def test_a_killed_writers_file_is_read_to_its_last_whole_frame(large: Path, tmp_path: Path, segments: float) -> None:
    path, size = tmp_path / "killed.ccrec", int(segments * SEGMENT_BYTES)
    path.write_bytes(large.read_bytes()[:size])
    whole, cut = FrameFile(large), FrameFile(path)
    assert columns(cut.table) == tuple(column[: len(cut)] for column in columns(whole.table))
    assert whole.begin(len(cut) + 1) > size, "no whole frame is missing"
    with load_recording(path) as recording:
        recording.save(tmp_path / "saved.ccrec")
        lines = sum(len(batch.events) for batch in recording.batches(recording.branches[0]))
    with load_recording(tmp_path / "saved.ccrec") as saved:
        assert saved.end is not None
        assert (saved.end.events, saved.end.complete) == (lines, False)
        assert saved.frames >= len(cut) + 1
    assert columns(FrameFile(tmp_path / "saved.ccrec", up_to_damage=True).table)[0][: len(cut)] == list(
        cut.table.offsets
    )


def test_events_of_a_time_are_read_without_the_others(large: Path) -> None:
    with load_recording(large) as recording:
        main, read = recording.branches[0], []
        assert main.end.vns == 400 * SECOND_NS
        payload = recording._frames.payload
        recording._frames.payload = lambda frame: read.append(frame) or payload(frame)  # type: ignore[method-assign]
        at = 217 * SECOND_NS
        found = list(recording.events(main, from_vns=at + 10, to_vns=at + 19))
        assert [number for number, _ in found] == list(range(21_710, 21_720))
        assert len(read) == 1
        read.clear()
        assert next(recording.batches(main, first=39_950)).first == 39_900
        assert len(read) < 12


def test_opening_reads_little(large: Path) -> None:
    frames = FrameFile(large)
    read: list[int] = []
    heads, payload = FrameFile._head_at, FrameFile._payload_at
    try:
        FrameFile._head_at = lambda self, at: read.append(at) or heads(self, at)  # type: ignore[method-assign]
        with load_recording(large) as recording:
            assert recording.branches[0].end == Position(400 * SECOND_NS)
    finally:
        FrameFile._head_at, FrameFile._payload_at = heads, payload
    assert len(read) < 20 < len(frames)


# ---- indexes that lie ------------------------------------------------------------------------------------------------


def with_index(large: Path, to: Path, change) -> Path:
    """A copy whose second index is another one, with its checksums made right; the room of its frame stays the same."""
    data = bytearray(large.read_bytes())
    frames = FrameFile(large)
    number = list(frames.table.offsets).index(SEGMENT_BYTES)
    at, end = SEGMENT_BYTES, frames.offset(number + 1)
    fields, payload = list(HEAD.unpack_from(data, at)), frames.payload(number)
    changed = signed([0, fields[1], 0, 0, fields[4], 0, 0, 0, len(payload), 0], change(bytearray(payload)))
    data[at:end] = changed
    to.write_bytes(data)
    return to


@pytest.mark.parametrize("column", ["offset", "kind", "time"])
def test_an_index_that_lies_is_found_when_the_frame_is_read(large: Path, tmp_path: Path, column: str) -> None:
    entries = list(FrameFile(large).table.offsets).index(SEGMENT_BYTES)

    def change(payload: bytearray) -> bytes:
        at = {"offset": 8 * 5, "kind": 8 * entries + 5, "time": 11 * entries + 8 * 5}[column]
        payload[at] ^= 1
        return bytes(payload)

    path = with_index(large, tmp_path / "lies.ccrec", change)
    with pytest.raises(RecordingError, match=r"byte \d+"), load_recording(path) as recording:
        for branch in recording.branches:
            recording.checkpoints(branch)
            list(recording.events(branch))
    with load_recording(path, up_to_damage=True) as recording:
        repaired = recording.repair(tmp_path / "repaired.ccrec")
    assert repaired.why is not None
    assert "an index is not of the frames before it" in repaired.why
    assert repaired.offset == SEGMENT_BYTES
    with load_recording(tmp_path / "repaired.ccrec") as recording:
        assert len(list(recording.events(recording.branches[0]))) % 100 == 0


def test_a_damaged_index_is_passed_by_and_named_when_everything_is_read(large: Path, tmp_path: Path) -> None:
    data, path = bytearray(large.read_bytes()), tmp_path / "damaged.ccrec"
    data[SEGMENT_BYTES + HEAD.size + 9] ^= 1
    path.write_bytes(data)
    assert columns(FrameFile(path).table) == columns(FrameFile(large).table)
    with load_recording(path, up_to_damage=True) as recording:
        repaired = recording.repair(tmp_path / "repaired.ccrec")
    assert (repaired.offset, repaired.why) == (SEGMENT_BYTES, "the contents of a frame are damaged")


def test_the_independent_walk_of_the_mutator_agrees(large: Path) -> None:
    assert len(frames_of(large.read_bytes())) == len(FrameFile(large))
