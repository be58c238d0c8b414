"""The format of recordings: every value comes back as it was, and what is no recording is refused in one line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from zlib import crc32

import msgpack
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.recordings import EVENTS, INPUTS, every_kind_header, keyframe, write_every_kind

from chaoscontrol.cluster import SimulationConfig
from chaoscontrol.config import DEVICES, CpuConfig, VmConfig
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FAULTS, FaultChange, FaultError, FaultSchedule, Origin, ScheduledFault
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId
from chaoscontrol.network import LinkParams
from chaoscontrol.oracle import At
from chaoscontrol.protocol import Command, SdkEvent, Status
from chaoscontrol.recording import (
    Header,
    Image,
    Judge,
    RecordedMark,
    Recorder,
    RecordingError,
    load_recording,
    records,
    values,
)
from chaoscontrol.recording.fields import Place, pack, unpack
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import HEAD, MAGIC, PAYLOAD_BYTES_MAX, FrameKind, encode_frame
from chaoscontrol.recording.header import decode_header, encode_header
from chaoscontrol.registers import EDITABLE
from chaoscontrol.timetravel import (
    AgentInput,
    ConsoleInput,
    Ending,
    Failure,
    FaultInput,
    GivenInput,
    Input,
    MemoryInput,
    PacketInput,
    Phase,
    PhaseInput,
    Position,
    RegisterInput,
    ScheduleInput,
    SeedInput,
)
from chaoscontrol.timetravel.keyframes import Parts

PLACE = Place("toy.ccrec", 40)

u64 = st.integers(0, (1 << 64) - 1)
u32 = st.integers(0, (1 << 32) - 1)
vm = st.integers(0, 255)
text = st.text(max_size=40)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,31}", fullmatch=True)
positions = st.builds(Position, u64, u32)
hex128 = st.binary(min_size=16, max_size=16).map(bytes.hex)


@st.composite
def faults(draw: st.DrawFn) -> Any:
    cls = draw(st.sampled_from(list(FAULTS.values())))
    choices = {
        "int": st.integers(-(10**9), 10**9) | st.integers(0, 1000),
        "int | None": st.none() | st.integers(0, 9),
        "bool": st.booleans(),
        "str": st.text(min_size=1, max_size=9),
        "Direction": st.sampled_from(["both", "in", "out"]),
        "CrashMode": st.sampled_from(["lose", "some", "torn"]),
    }
    for _ in range(100):
        made: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            if field.name.startswith("side_"):
                made[field.name] = (0, 2) if field.name == "side_a" else (1, draw(st.integers(3, 9)))
            else:
                made[field.name] = draw(choices[str(field.type)])
        try:
            return cls(**made)
        except FaultError:
            continue
    return FAULTS["heal_all"]()


@st.composite
def schedules(draw: st.DrawFn) -> FaultSchedule:
    made: list[ScheduledFault] = []
    for fault in draw(st.lists(faults(), max_size=4)):
        duration = draw(st.none() | st.integers(1, 10**12)) if fault.LASTS else None
        made.append(ScheduledFault(draw(st.integers(0, 10**12)), fault, duration))
    return FaultSchedule(tuple(made), draw(st.sampled_from(Origin)))


pieces = st.lists(st.tuples(st.integers(0, 1518), st.binary(max_size=99)), max_size=4).map(tuple)
packet_edits = st.just(Drop()) | st.builds(ArriveAt, u64) | st.builds(CopyAt, u64) | st.builds(Overwrite, pieces)
inputs = (
    st.builds(ConsoleInput, vm, st.binary(max_size=99))
    | st.builds(AgentInput, vm, st.binary(max_size=99))
    | st.builds(FaultInput, faults(), st.none() | u64)
    | st.builds(ScheduleInput, schedules())
    | st.builds(SeedInput, u64)
    | st.builds(PhaseInput, st.sampled_from(Phase))
    | st.builds(MemoryInput, vm, u64, st.binary(max_size=99))
    | st.builds(RegisterInput, vm, st.sampled_from(sorted(EDITABLE)), st.integers(0, (1 << 128) - 1))
    | st.builds(PacketInput, st.builds(PacketId, vm, u64, vm, u32), packet_edits)
)
givens = st.builds(GivenInput, positions, u64, inputs)
requests = st.builds(SdkEvent, st.sampled_from(Command), st.booleans(), st.sampled_from(Status), u32, u64, text, text)
changes = st.builds(FaultChange, u64, faults(), st.booleans(), u64)
events = st.one_of(
    st.builds(Event, u64, st.integers(-1, 255), u64, st.just(kind), data)
    for kind, data in {
        EventKind.CONSOLE: text,
        EventKind.SDK: requests,
        EventKind.FAULT: changes | text,
        EventKind.DISK: st.binary(max_size=40),
        EventKind.NETWORK: st.binary(max_size=40),
        EventKind.POWER: st.binary(max_size=40),
        EventKind.AGENT: st.binary(max_size=40),
        EventKind.END: text,
    }.items()
)
numbers = st.integers(0, 65535)
tree = st.one_of(
    st.builds(records.BranchMade, numbers, names, st.none() | numbers, positions),
    st.builds(records.InputGiven, numbers, givens),
    st.builds(records.MachineEnded, numbers, st.builds(Ending, vm, u64, text, u64)),
    st.builds(
        records.PropertyBroken,
        numbers,
        st.builds(Failure, st.builds(At, u64, st.integers(-1, 255), u64), text, text),
        positions,
    ),
    st.builds(records.Remark, numbers, positions, text, st.booleans()),
)


@st.composite
def checkpoints(draw: st.DrawFn) -> records.Checkpoint:
    machines = draw(st.integers(1, 5))
    registers, sketch = (st.binary(min_size=8, max_size=8).map(lambda b, n=n: b * (n // 8)) for n in (992, 288))
    parts = tuple(draw(st.builds(Parts, hex128, hex128, hex128, registers, sketch)) for _ in range(machines))
    counts = st.tuples(*[u64] * machines)
    network = draw(hex128 | st.just(""))
    return records.Checkpoint(draw(numbers), draw(positions), draw(counts), draw(counts), parts, network, draw(u64))


@st.composite
def headers(draw: st.DrawFn) -> Header:
    vm_config = VmConfig(
        memory_bytes=draw(st.integers(256, 1000)) * 4096,
        cmdline=draw(text),
        cpu=CpuConfig(draw(st.integers(1, 10**7)), draw(st.integers(1, 9)), draw(st.integers(0, 5))),
        rtc_epoch_s=draw(u32),
        vcpu=draw(st.sampled_from(["soft", "kvm"])),
        disk_bytes=draw(st.integers(0, 100)) * 4096,
        network=draw(st.booleans()),
        devices=draw(st.none() | st.just(DEVICES[2:]) | st.just(())),
    )
    link = LinkParams(*(draw(u32) for _ in range(9)), draw(st.booleans()))
    config = SimulationConfig(
        draw(st.integers(1, 9)), vm_config, seed=draw(u64), quantum_ns=draw(st.integers(1000, 10**9)), link=link
    )
    sha256, size = st.binary(min_size=32, max_size=32), st.integers(1, 1 << 30)
    roles = draw(st.lists(st.sampled_from(["kernel", "disk"]), unique=True))
    images = tuple(Image(role, draw(text), draw(sha256), draw(size), draw(st.booleans())) for role in roles)
    texts = st.lists(text, max_size=3).map(tuple)
    flags, progress = st.booleans(), st.none() | st.integers(1, 10**12)
    judge = st.builds(Judge, text, st.none() | text, flags, flags, progress, texts, texts)
    return Header(draw(text), draw(text), config, images, draw(judge), draw(schedules()))


# ---- round trips -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(headers())
def test_a_header_comes_back_as_it_was(header: Header) -> None:
    assert decode_header(encode_header(header), PLACE) == header


@settings(max_examples=60)
@given(st.lists(tree, max_size=5))
def test_records_of_the_tree_come_back_as_they_were(found: list[records.TreeRecord]) -> None:
    assert records.decode_tree(records.encode_tree(found), PLACE) == found


@settings(max_examples=60)
@given(st.builds(records.EventBatch, numbers, u32, positions, st.booleans(), st.lists(events, max_size=5).map(tuple)))
def test_events_come_back_as_they_were(batch: records.EventBatch) -> None:
    assert records.decode_events(records.encode_events(batch), PLACE) == batch


@given(st.lists(checkpoints(), max_size=3))
def test_checkpoints_come_back_as_they_were(found: list[records.Checkpoint]) -> None:
    assert records.decode_checkpoints(records.encode_checkpoints(found), PLACE) == found


@given(st.builds(records.End, u64, st.booleans()))
def test_an_end_comes_back_as_it_was(end: records.End) -> None:
    assert records.decode_end(records.encode_end(end), PLACE) == end


def test_the_samples_have_every_kind_of_input_and_event() -> None:
    assert {type(given) for given in INPUTS} == set(Input.__args__)
    assert {event.kind for event in EVENTS} == set(EventKind) == set(values.EVENT_KINDS)


def test_a_file_with_every_kind_of_record_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "all.ccrec"
    write_every_kind(path)
    with load_recording(path) as recording:
        image = bytes(range(256)) * 16
        assert recording.header == every_kind_header(image)
        assert b"".join(recording.image_pieces(0)) == image
        main, b1, b2 = recording.branches
        assert [given.input for given in main.inputs] == list(INPUTS)
        assert [event for _, event in recording.events(main)] == list(EVENTS)
        assert [number for number, _ in recording.events(b1)] == list(range(9, 9 + 54))
        assert main.failures == [Failure(At(11, 1, 8), "one leader", "two")]
        assert b1.endings == [Ending(2, 17, "shutdown", 7)]
        assert [note.text for note in b1.notes] == ["and there"]
        assert recording.marks == {"look here": RecordedMark(b1, Position(99), "why")}
        assert (b1.name, list(b1.former), b1.note, b1.deleted) == ("retry", ["b1"], "a note", False)
        assert (b2.name, b2.parent, b2.deleted) == ("b2", 1, True)
        assert recording.kept == [main, b1]
        assert recording.checkpoints(main) == [records.Checkpoint.of(0, keyframe(Position(0)))]
        assert [c.position.vns for c in recording.checkpoints(b1)] == list(range(61, 71))
        assert recording.end == records.End(9 + 54 + 9, True)


@pytest.mark.parametrize("name", ["console", "faults", "assertions", "bugs", "network"])
def test_filters_choose_by_what_an_event_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "all.ccrec"
    write_every_kind(path)
    wanted = {"console": [10], "faults": [12, 12], "assertions": [11], "bugs": [11], "network": [14]}
    with load_recording(path) as recording:
        main = recording.branches[0]
        assert [event.vns for _, event in recording.events(main, only=name)] == wanted[name]
        assert [event.vns for _, event in recording.events(main, from_vns=12, to_vns=14)] == [12, 12, 13, 14]


# ---- what is refused -------------------------------------------------------------------------------------------------


def file_of(tmp_path: Path, *frames: bytes, magic: bytes = MAGIC) -> Path:
    path = tmp_path / "made.ccrec"
    path.write_bytes(magic + b"".join(frames))
    return path


HEADER = encode_frame(FrameKind.HEADER, 0, encode_header(every_kind_header()))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "byte 0: is no recording"),
        (b"\x7fELF" + bytes(100), "byte 0: is no recording"),
        (MAGIC[:6] + b"\x09\x00" + HEADER, "byte 6: has format version 9"),
        (MAGIC, "byte 8: there is no whole frame in it"),
        (MAGIC + HEADER[:-1], "byte 8: there is no whole frame in it"),
        (MAGIC + bytes(64), "byte 8: the head of a frame is damaged"),
        (MAGIC + encode_frame(FrameKind.END, 0, pack([0, True])), "byte 8: the first frame is no header"),
        (MAGIC + HEADER + HEADER, "frame 0 stands where frame 1 should"),
        (MAGIC + HEADER + encode_frame(FrameKind.EVENTS, 1, pack([])), "speaks of branch 0, not known yet"),
        (MAGIC + encode_frame(FrameKind.HEADER, 0, pack([1, 2])), "byte 8: header has 2 fields instead of 6"),
    ],
)
def test_what_is_no_recording_is_refused_with_its_offset(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.ccrec"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        load_recording(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("path", ["/nowhere/x.ccrec", "/", "/dev/null", "a\0b"])
def test_a_file_that_cannot_be_opened_is_an_error_with_its_name(path: str) -> None:
    with pytest.raises(RecordingError) as caught:
        load_recording(path)
    assert caught.value.path == path


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80",  # a map
        b"\xc7\x08\x01" + bytes(8),  # an extension type
        b"\xcb" + bytes(8),  # a double
        b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
        b"\xc6\xff\xff\xff\xff",  # so many bytes
        b"\x91" * 100_000,  # nested
        b"\xa1\xff",  # not UTF-8
        b"\x01\x02",  # two values
        b"",
    ],
)
def test_msgpack_that_is_not_of_the_format_is_refused(payload: bytes) -> None:
    with pytest.raises(RecordingError, match="byte 40"):
        records.decode_tree(payload, PLACE)


def test_a_bomb_is_refused_before_it_inflates(tmp_path: Path) -> None:
    bomb = zstandard.ZstdCompressor(3).compress(bytes(256 << 20))
    honest = HEAD.pack(len(bomb), FrameKind.TREE, 1, 0, 1, 0, 0, 0, 5 << 20, 0)
    lying = HEAD.pack(len(bomb), FrameKind.TREE, 1, 0, 1, 0, 0, 0, 4096, 0)
    for head, says in ((honest, "are allowed"), (lying, "does not inflate to what its head says")):
        fields = list(HEAD.unpack(head))
        fields[5] = crc32(bomb)
        signed = HEAD.pack(*fields)[:-4]
        path = file_of(tmp_path, HEADER, signed + crc32(signed).to_bytes(4, "little") + bomb)
        with pytest.raises(RecordingError, match=says):
            load_recording(path)


def test_a_refused_field_is_named(tmp_path: Path) -> None:
    fine = records.tree_values(records.InputGiven(0, GivenInput(Position(1), 2, INPUTS[4])))
    assert isinstance(fine[2], list)
    fine[2][3][2][0][2][1] = ["oops"]  # type: ignore[index]
    with pytest.raises(RecordingError, match=r"tree\[0\]\.given\.input\.schedule\.faults\[0\]\.fault") as caught:
        records.decode_tree(pack([fine]), PLACE)
    assert caught.value.offset == 40


def test_frames_are_never_larger_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "big.ccrec"
    lines = [Event(n, 0, n, EventKind.CONSOLE, f"{n} " * 500) for n in range(5000)]
    with Recorder(path, every_kind_header()) as recorder:
        recorder.branch_made("main", None, Position(0))
        recorder.happened("main", 0, Position(9), lines, [])
    frames = FrameFile(path)
    assert max(frames.head(n).inflated_bytes for n in range(len(frames))) <= PAYLOAD_BYTES_MAX
    with load_recording(path) as recording:
        assert [event for _, event in recording.events(recording.branches[0])] == lines


def test_unpacking_makes_only_what_the_format_has() -> None:
    assert unpack(msgpack.packb([None, True, 1, "a", b"b", [2]]), PLACE) == (None, True, 1, "a", b"b", (2,))
