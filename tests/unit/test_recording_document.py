"""docs/recording-format.md is what the files are: a reader made from it finds what the library finds."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from pathlib import Path

import pytest
from toys.document_reader import END, INDEX, DocumentReader, pages_alone, registers
from toys.recordings import every_kind_header, keyframe, record_edited, record_toy, write_every_kind

from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FAULTS
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite
from chaoscontrol.network import Fate, LinkParams
from chaoscontrol.recording import Recorder, load_recording, values
from chaoscontrol.recording.fields import pack
from chaoscontrol.recording.frames import SEGMENT_BYTES, FrameKind
from chaoscontrol.registers import unpack
from chaoscontrol.timetravel import PacketInput, Position
from chaoscontrol.timetravel.sketch import differing

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "recording-format.md").read_text()


def write_segments(path: Path) -> None:
    text = hashlib.shake_256(b"text").digest(1 << 20).hex()
    with Recorder(path, every_kind_header()) as recorder:
        recorder.branch_made("main", None, Position(0))
        for n in range(40):
            events = [Event(n * 1000 + k, 0, k, EventKind.CONSOLE, text[k * 9000 :][:999_000]) for k in range(1, 2)]
            recorder.happened("main", n, Position(n * 1000 + 999), events, [])
            recorder.keyframe_taken("main", keyframe(Position(n * 1000 + 999)))
            recorder.flush()
        recorder.remark("main", Position(5), "after the first segment")


def edit_of_the_document(given: PacketInput) -> tuple:
    match given.edit:
        case Drop():
            edit = "never", None
        case ArriveAt(vns):
            edit = "then", vns
        case CopyAt(vns):
            edit = "then as well", vns
        case Overwrite(pieces):
            edit = "bytes", list(map(list, pieces))
    return (*dataclasses.astuple(given.packet), *edit)


@pytest.mark.parametrize("write", [record_toy, record_edited, write_every_kind, write_segments])
def test_a_reader_made_from_the_document_finds_what_the_library_finds(tmp_path: Path, write) -> None:
    path = tmp_path / "some.ccrec"
    write(path)
    found = DocumentReader(path)
    with load_recording(path) as recording:
        assert found.end == recording.size
        assert len(found.frames) == recording.frames
        assert found.frames[-1][1] == END
        assert [kind for at, kind, *_ in found.frames if at % SEGMENT_BYTES == 0] == [INDEX] * (
            recording.size // SEGMENT_BYTES
        )
        header, config = found.header(), recording.header.config
        assert header[0] == recording.header.engine
        assert header[2][:3] == [config.num_vms, config.seed, config.quantum_ns]
        assert header[2][4] == list(dataclasses.astuple(config.link))
        assert found.branches() == [(b.name, b.parent, b.start.vns, b.start.ordinal) for b in recording.branches]
        assert found.deleted() == [b.number for b in recording.branches[::-1] if b.deleted]
        assert found.notes() == {b.number: b.note for b in recording.branches if b.note}
        assert found.marks() == {
            name: (mark.branch.number, mark.position.vns, mark.position.ordinal, mark.note)
            for name, mark in recording.marks.items()
        }
        for branch in recording.branches:
            inputs = [r[2] for r in found.tree if r[0] == 1 and r[1] == branch.number]
            assert [i[:3] for i in inputs] == [[g.at.vns, g.at.ordinal, g.instret] for g in branch.inputs]
            edits = [given.input for given in branch.inputs if isinstance(given.input, PacketInput)]
            assert found.edits(branch.number) == list(map(edit_of_the_document, edits))
            assert sum(r[0] == 3 and r[1] == branch.number for r in found.tree) == len(branch.failures)
            events = [event for _, event in recording.events(branch)]
            assert list(map(pack, found.events(branch.number))) == [pack(values.event_values(e)) for e in events]
            some = [event for event in events if 12 <= event.vns <= 15_000]
            assert [e[0] for e in found.events(branch.number, 12, 15_000)] == [event.vns for event in some]
            in_order = sorted(found.checkpoints(branch.number), key=lambda c: c[1:3])
            digests = [[machine[0][:16].hex() for machine in c[5]] for c in in_order]
            checkpoints = recording.checkpoints(branch)
            assert digests == [[part.whole for part in c.parts] for c in checkpoints]
            for theirs, ours in zip(in_order, checkpoints, strict=True):
                for (_, packed, _), part in zip(theirs[5], ours.parts, strict=True):
                    known = unpack(part.registers)
                    assert registers(packed) == {name: known[name] for name in registers(packed)}
            for a, b in itertools.pairwise(in_order):
                for (_, _, before), (_, _, after) in zip(a[5], b[5], strict=True):
                    assert set(differing(before, after, 4).pages) >= pages_alone(before, after, 4)
            packets = [dataclasses.astuple(frame) for frame in recording.packets(branch)]
            assert list(map(tuple, found.packets(branch.number))) == packets
        for number, image in enumerate(recording.header.images):
            assert found.image(number) == b"".join(recording.image_pieces(number))
            assert len(found.image(number)) == image.size


@pytest.mark.parametrize("part", [0.3, 0.7, 0.95])
def test_it_reads_what_a_killed_writer_left(tmp_path: Path, part: float) -> None:
    path = tmp_path / "killed.ccrec"
    write_segments(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    found = DocumentReader(path)
    with load_recording(path) as recording:
        assert (found.end, len(found.frames)) == (
            path.stat().st_size if recording.damage is None else recording.damage.offset,
            recording.frames,
        )


def test_the_document_lists_every_kind_of_frame_and_fault_and_number() -> None:
    rows = dict(re.findall(r"^\| ([a-z_]+) \| (.+) \|$", DOCUMENT, re.MULTILINE))
    for kind, cls in FAULTS.items():
        assert rows[kind] == (", ".join(field.name for field in dataclasses.fields(cls)) or "(none)")
    for kind in FrameKind:
        assert f"| {kind.value} | {kind.name} |" in DOCUMENT
    for number, kind in enumerate(values.EVENT_KINDS):
        assert f"| {number} | {kind} |" in DOCUMENT
    for number, command in enumerate(values.COMMANDS):
        assert f"{number} {command.name.lower()}" in DOCUMENT
    for fate in Fate:
        assert f"| {fate.value} | {fate.text or 'delivered'} |" in DOCUMENT
    link = re.search(r"link +\[([^]]*)\]", DOCUMENT)
    assert link is not None
    assert re.split(r",\s+", link[1]) == [field.name for field in dataclasses.fields(LinkParams)]
