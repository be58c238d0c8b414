"""Recording: what a file says, read lazily. Opening reads the indexes and the tree; nothing else.

Every read checks what it reads, and whatever is wrong is a RecordingError that names the file and the offset. Nothing
here runs a machine: see replay.py.
"""

from __future__ import annotations

import dataclasses
import os
from bisect import bisect_right
from heapq import heappop, heappush
from itertools import compress, zip_longest
from typing import TYPE_CHECKING, NoReturn

from chaoscontrol.events import Event, EventKind
from chaoscontrol.in_flight import captured_records
from chaoscontrol.network import Fate
from chaoscontrol.protocol import Command, SdkEvent
from chaoscontrol.recording import records
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.fields import Fields, Place, unpack
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import PAYLOAD_BYTES_MAX, VNS_MAX, WITH_PACKETS, FrameKind, Layout
from chaoscontrol.recording.header import Header, decode_header
from chaoscontrol.recording.tree import RecordedBranch, RecordedMark, RecordedTree
from chaoscontrol.timetravel import Failure, PacketInput, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.recording.frame_file import Damage

ENDS_LOOKED_AT = 16
"""Frames with a branch's last digests, of which several may be of one instant."""
TREE_BYTES_MAX = 64 << 20
"""Of all tree frames together, inflated: what is kept in memory of a recording."""

_ASSERTIONS = (Command.ALWAYS, Command.SOMETIMES, Command.REACHABLE, Command.UNREACHABLE)
FILTERS: dict[str, Callable[[Event], bool]] = {
    "console": lambda event: event.kind is EventKind.CONSOLE,
    "faults": lambda event: event.kind is EventKind.FAULT,
    "assertions": lambda event: isinstance(event.data, SdkEvent) and event.data.command in _ASSERTIONS,
    "bugs": lambda event: isinstance(event.data, SdkEvent) and event.data.failed,
    "network": lambda event: event.kind is EventKind.NETWORK,
}
"""Words for which events are wanted. Failures of host properties are no events: see RecordedBranch.failures."""


@dataclasses.dataclass(frozen=True, slots=True)
class Repair:
    """What a repair kept and lost."""

    frames: int
    offset: int
    """The damage begins at this byte."""
    lost_bytes: int
    why: str | None
    """None: the file was whole."""


class Recording:
    """An open recording; close() it, or use it as a context manager.

    `up_to_damage`: be content with what comes before the first damage. A torn end, as a killed writer leaves it, is no
    damage. Raises RecordingError.
    """

    def __init__(self, path: str | os.PathLike[str], *, up_to_damage: bool = False) -> None:
        self._frames = FrameFile(path, up_to_damage=up_to_damage)
        self.path = self._frames.path
        self.end: records.End | None = None
        """None: the recording was not closed; the program that wrote it was killed, or could not write on."""
        self._tree = self._no_tree()
        self._images: list[int] = []
        self._looked = False
        try:
            self.header = self._read_header()
            self._read_up_to_damage() if up_to_damage else self._read_tree()
        except BaseException:
            self._frames.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps the file."""
        self._frames.close()

    # ---- opening ----------------------------------------------------------------------------------------------------

    def _no_tree(self) -> RecordedTree:
        return RecordedTree(self._fail, self._look)

    def _place(self, frame: int) -> Place:
        return Place(self.path, self._frames.offset(frame))

    def _read_header(self) -> Header:
        if not len(self._frames):
            raise self._frames.error("there is no whole frame in it", self._frames.end)
        if self._frames.head(0).kind != FrameKind.HEADER:
            raise self._frames.error("the first frame is no header", self._frames.offset(0))
        return decode_header(self._frames.payload(0), self._place(0))

    def _read_up_to_damage(self) -> None:
        """As _read_tree(); a frame that is at fault is taken for the first damage."""
        while True:
            try:
                self._read_tree()
                self._look(up_to_damage=True)
                return
            except RecordingError as error:
                number = bisect_right(self._frames.table.offsets, error.offset or 0) - 1
                if number <= 0:
                    raise
                self._frames.cut(number, error.what)
                self._tree, self._images, self.end, self._looked = self._no_tree(), [], None, False

    def _read_tree(self) -> None:
        kinds = bytes(self._frames.table.kinds)
        self._refuse_odd_kinds(kinds)
        tree_bytes = 0
        for number in self._of_kind(FrameKind.TREE):
            payload = self._frames.payload(number)
            tree_bytes += len(payload)
            if tree_bytes > TREE_BYTES_MAX:
                raise self._frames.error(f"its tree has more than {TREE_BYTES_MAX} bytes", self._frames.offset(number))
            for record in records.decode_tree(payload, self._place(number)):
                self._tree.take(record, number)
        self._images = list(self._of_kind(FrameKind.IMAGE))
        if not self.branches:
            self._look()
        last = len(kinds) - 1
        if kinds[last] == FrameKind.END:
            self.end = records.decode_end(self._frames.payload(last), self._place(last))

    def _refuse_odd_kinds(self, kinds: bytes) -> None:
        known = [kind for kind in FrameKind if kind is not FrameKind.PACKETS or self.has_packets]
        odd = kinds.translate(None, bytes(known))
        places = [
            kinds.find(odd[:1]) if odd else -1,
            kinds.find(FrameKind.HEADER, 1),
            kinds.find(FrameKind.END, 0, len(kinds) - 1),
        ]
        found = [place for place in places if place >= 0]
        if found:
            number = min(found)
            what = f"a frame of kind {kinds[number]} cannot stand here"
            raise self._frames.error(what, self._frames.offset(number))

    def _of_kind(self, kind: FrameKind) -> Iterator[int]:
        """Numbers of the frames of a kind, in order."""
        kinds = self._frames.table.kinds
        return compress(range(len(kinds)), kinds.translate(bytes(k == kind for k in range(256))))

    def _look(self, *, up_to_damage: bool = False) -> None:
        """Which frames are whose, and how far each branch is known: not asked for when a file is only opened."""
        if self._looked:
            return
        events, checkpoints = self._sorted(FrameKind.EVENTS), self._sorted(FrameKind.CHECKPOINTS)
        packets = self._sorted(FrameKind.PACKETS)
        for branch in self.branches:
            own = events[branch.number], checkpoints[branch.number]
            branch.found(*own, packets[branch.number], self._end_of(branch, *own, up_to_damage))
        self._looked = True

    def _sorted(self, kind: FrameKind) -> list[list[int]]:
        """The frames of a kind by branch."""
        table, numbers = self._frames.table, list(self._of_kind(kind))
        if len(self.branches) == 1 and not any(map(table.branches.__getitem__, numbers)):
            if numbers and numbers[0] < self._tree.made[0]:
                self._fail_unknown(0, numbers[0])
            return [numbers]
        found: list[list[int]] = [[] for _ in self.branches]
        for number in numbers:
            branch = table.branches[number]
            if branch >= len(found) or number < self._tree.made[branch]:
                self._fail_unknown(branch, number)
            found[branch].append(number)
        return found

    def _end_of(
        self, branch: RecordedBranch, events: list[int], checkpoints: list[int], up_to_damage: bool
    ) -> Position:
        """The last digest, input or batch of events."""
        lasts, end = self._frames.table.lasts, branch.inputs[-1].after if branch.inputs else branch.start
        latest = max(map(lasts.__getitem__, checkpoints), default=0)
        last = [number for number in checkpoints if lasts[number] == latest]
        for number in [*last[-ENDS_LOOKED_AT:], *events[-1:]]:
            try:
                end = max(end, self._latest(number, branch))
            except RecordingError:
                if not up_to_damage:
                    raise
        return end

    def _fail_unknown(self, number: int, frame: int) -> NoReturn:
        self._fail(f"a frame speaks of branch {number}, not known yet", frame)

    def _fail(self, what: str, frame: int) -> NoReturn:
        raise self._frames.error(what, self._frames.offset(frame))

    def _latest(self, number: int, branch: RecordedBranch) -> Position:
        """The last position that a frame of events or checkpoints speaks of."""
        if self._frames.head(number).kind == FrameKind.EVENTS:
            return self._batch(number, branch).until
        return max((c.position for c in self._checkpoints(number, branch)), default=branch.start)

    # ---- reading ----------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._frames.size

    @property
    def frames(self) -> int:
        """How many whole frames there are."""
        return len(self._frames)

    @property
    def has_packets(self) -> bool:
        """Whether what the network carried was recorded, too."""
        return self._frames.version in WITH_PACKETS

    @property
    def damage(self) -> Damage | None:
        """Where the readable part ends, if not at the end of the file."""
        return self._frames.damage

    @property
    def branches(self) -> list[RecordedBranch]:
        """By number, the first one first; deleted ones included."""
        return self._tree.branches

    @property
    def kept(self) -> list[RecordedBranch]:
        """The branches that were not deleted, in order."""
        return [branch for branch in self._tree.branches if not branch.deleted]

    @property
    def deleted_names(self) -> list[str]:
        """All names that the deleted ones had."""
        return [name for gone in self._tree.branches if gone.deleted for name in (*gone.former, gone.name)]

    @property
    def marks(self) -> dict[str, RecordedMark]:
        """By name, in the order in which they were set first."""
        return self._tree.marks()

    @property
    def failures(self) -> list[tuple[RecordedBranch, Failure]]:
        """What was broken, branch by branch."""
        return [(branch, failure) for branch in self.kept for failure in branch.failures]

    def branch(self, name: str | None = None) -> RecordedBranch:
        """The branch that is or was called `name`, or the first one. Raises RecordingError."""
        if name is None:
            if not self.branches:
                raise RecordingError("nothing had happened yet when it ended", path=self.path)
            return self.branches[0]
        branch = self._tree.find(name)
        if branch is None or branch.deleted:
            what = f"there is no branch {name!r}" if branch is None else f"branch {name!r} was deleted"
            known = ", ".join(kept.name for kept in self.kept[:20])
            raise RecordingError(what, path=self.path, hint=f"branches: {known}")
        return branch

    def owner(self, branch: RecordedBranch, position: Position) -> RecordedBranch:
        """The branch of its line that `position` belongs to: the oldest one that reaches it."""
        return self._tree.owner(branch, position)

    def line(self, branch: RecordedBranch, last: Position) -> list[tuple[RecordedBranch, Position]]:
        """The branches that lead to a position of `branch`, the first one first, each with its last position."""
        line = [(branch, last)]
        while (parent := line[-1][0].parent) is not None:
            line.append((self.branches[parent], line[-1][0].start))
        return line[::-1]

    def position(self, branch: RecordedBranch, vns: int) -> Position:
        """Virtual time `vns` of a branch's line, after all inputs that the line has then."""
        line = self.line(branch, branch.end)
        return Position(vns, sum(g.at.vns == vns and g.after <= last for record, last in line for g in record.inputs))

    def _batch(self, number: int, branch: RecordedBranch) -> records.EventBatch:
        batch = records.decode_events(self._frames.payload(number), self._place(number))
        if batch.branch != branch.number:
            self._place(number).fail(f"its events are of branch {batch.branch}, its head says {branch.number}")
        table, times = self._frames.table, [event.vns for event in batch.events]
        if not times or (min(times), max(times)) != (table.firsts[number], table.lasts[number]):
            self._place(number).fail("its events are not of the times that its head says")
        return batch

    def batches(
        self, branch: RecordedBranch, first: int = 0, *, from_vns: int = 0, to_vns: int | None = None
    ) -> Iterator[records.EventBatch]:
        """The branch's own events, batch by batch, from the one with event number `first` on.

        With times, only batches that have events in [from_vns, to_vns]; nothing else is read.
        """
        frames, table = branch.event_frames, self._frames.table
        start = 0
        if first:
            start = max(bisect_right(frames, first, key=lambda number: self._batch(number, branch).first) - 1, 0)
        wanted = range(start, len(frames))
        if from_vns or to_vns is not None:
            last_vns = VNS_MAX if to_vns is None else to_vns
            wanted = [
                at for at in wanted if table.firsts[frames[at]] <= last_vns and table.lasts[frames[at]] >= from_vns
            ]
        expected, before = 0, None
        for at in wanted:
            batch = self._batch(frames[at], branch)
            self._follows(frames[at], batch, expected if before is not None and at == before + 1 else None)
            before, expected = at, batch.first + len(batch.events)
            if expected > first:
                yield batch

    def _follows(self, number: int, batch: records.EventBatch, expected: int | None) -> None:
        if expected is not None and batch.first != expected:
            self._place(number).fail(f"event {expected} should come, {batch.first} stands here")

    def events(
        self, branch: RecordedBranch, *, only: str | None = None, from_vns: int = 0, to_vns: int | None = None
    ) -> Iterator[tuple[int, Event]]:
        """(number, event) of the branch's own events; `only`: one of FILTERS."""
        wanted = None if only is None else FILTERS[only]
        for batch in self.batches(branch, from_vns=from_vns, to_vns=to_vns):
            for number, event in enumerate(batch.events, batch.first):
                inside = event.vns >= from_vns and (to_vns is None or event.vns <= to_vns)
                if inside and (wanted is None or wanted(event)):
                    yield number, event

    def packets(
        self, branch: RecordedBranch, *, from_vns: int = 0, to_vns: int | None = None
    ) -> Iterator[CapturedFrame]:
        """What the network did with frames on the branch itself in [from_vns, to_vns], in its order."""
        last_vns, table = VNS_MAX if to_vns is None else to_vns, self._frames.table
        for number in branch.packet_frames:
            if table.firsts[number] <= last_vns and table.lasts[number] >= from_vns:
                for frame in self._packets(number, branch):
                    if from_vns <= frame.switched_vns <= last_vns:
                        yield frame

    def packets_to(self, branch: RecordedBranch, last: Position) -> Iterator[CapturedFrame]:
        """What the network did on the branch itself up to a position that another branch may leave it at."""
        if last.vns:
            yield from self.packets(branch, to_vns=last.vns - 1)
        frames, count = self._packets_at(branch, last)
        yield from frames if count is None else frames[:count]

    def packets_after(self, branch: RecordedBranch, start: Position) -> Iterator[CapturedFrame]:
        """What it did from a position on; of that instant, all that is not known to have come before."""
        frames, count = self._packets_at(branch, start)
        yield from frames[count or 0 :]
        yield from self.packets(branch, from_vns=start.vns + 1)

    def _packets_at(self, branch: RecordedBranch, position: Position) -> tuple[list[CapturedFrame], int | None]:
        """What was told at a position's instant, and how much of it by then; None: that cannot be known.

        First comes what a tick's end brought, then the records of each edit, in the order of the inputs.
        """
        frames = list(self.packets(branch, from_vns=position.vns, to_vns=position.vns))
        edits = [at for at, frame in enumerate(frames) if frame.fate & (Fate.TAKEN | Fate.EDITED)]
        if not edits:
            return frames, None
        given = [g.input for g in branch.inputs if g.at.vns == position.vns and g.after <= position]
        count = sum(captured_records(one.edit) for one in given if isinstance(one, PacketInput))
        return frames, edits[min(count, len(edits)) - 1] + 1 if count else edits[0]

    def _packets(self, number: int, branch: RecordedBranch) -> tuple[CapturedFrame, ...]:
        batch = records.decode_packets(self._frames.payload(number), self._place(number))
        if batch.branch != branch.number:
            self._place(number).fail(f"its packets are of branch {batch.branch}, its head says {branch.number}")
        vms, table = self.header.config.num_vms, self._frames.table
        if any(frame.src >= vms or frame.dst >= vms for frame in batch.frames):
            self._place(number).fail(f"its packets are of more than {vms} machines")
        times = [frame.switched_vns for frame in batch.frames]
        if times != sorted(times):
            self._place(number).fail("its packets are not in order")
        if not times or (times[0], times[-1]) != (table.firsts[number], table.lasts[number]):
            self._place(number).fail("its packets are not of the times that its head says")
        return batch.frames

    def checkpoints(self, branch: RecordedBranch) -> list[records.Checkpoint]:
        """The branch's own positions with known digests, in order."""
        return list(self.each_checkpoint(branch))

    def each_checkpoint(
        self, branch: RecordedBranch, *, from_vns: int = 0, to_vns: int | None = None
    ) -> Iterator[records.Checkpoint]:
        """The same, of [from_vns, to_vns], one after the other; nothing else is read, and few of them are kept."""
        last_vns, table = VNS_MAX if to_vns is None else to_vns, self._frames.table
        frames = [at for at in branch.checkpoint_frames if table.firsts[at] <= last_vns and table.lasts[at] >= from_vns]
        frames.sort(key=lambda number: table.firsts[number])
        # They stand in the order in which they became known, so frames may tell of overlapping times.
        told: Position | None = None
        known: list[tuple[Position, int, int, records.Checkpoint]] = []
        for frame, following in zip_longest(frames, frames[1:]):
            until_vns = VNS_MAX + 1 if following is None else table.firsts[following]
            for at, checkpoint in enumerate(self._checkpoints(frame, branch)):
                heappush(known, (checkpoint.position, frame, at, checkpoint))
            while known and known[0][0].vns < until_vns:
                position, _, _, checkpoint = heappop(known)
                if position != told and from_vns <= position.vns <= last_vns:
                    told = position
                    yield checkpoint

    def later_checkpoints(
        self, branch: RecordedBranch
    ) -> list[tuple[int, int, Callable[[], list[records.Checkpoint]]]]:
        """The same in pieces: virtual times of the first and the last one of each, and what reads it.

        A piece is read, and its contents checked, when that is called, also after the recording was closed.
        """
        table = self._frames.table

        def later(number: int) -> Callable[[], list[records.Checkpoint]]:
            payload = self._frames.stored(number)
            return lambda: self._decode_checkpoints(payload(), number, branch)

        return [(table.firsts[number], table.lasts[number], later(number)) for number in branch.checkpoint_frames]

    def checkpoint_count(self, branch: RecordedBranch) -> int:
        """How many there are; what they say is not looked at."""
        frames = branch.checkpoint_frames
        found = (records.checkpoint_positions(self._frames.payload(number), self._place(number)) for number in frames)
        return len({position for positions in found for position in positions})

    def _checkpoints(self, number: int, branch: RecordedBranch) -> list[records.Checkpoint]:
        return self._decode_checkpoints(self._frames.payload(number), number, branch)

    def _decode_checkpoints(self, payload: bytes, number: int, branch: RecordedBranch) -> list[records.Checkpoint]:
        place = self._place(number)
        found = records.decode_checkpoints(payload, place)
        for checkpoint in found:
            if checkpoint.branch != branch.number or len(checkpoint.parts) != self.header.config.num_vms:
                place.fail(f"a checkpoint is not of branch {branch.number} of this cluster")
            if checkpoint.position < branch.start:
                place.fail("a checkpoint comes before its branch")
        table, times = self._frames.table, [checkpoint.position.vns for checkpoint in found]
        if not times or (min(times), max(times)) != (table.firsts[number], table.lasts[number]):
            place.fail("its checkpoints are not of the times that its head says")
        return found

    def image_pieces(self, image: int) -> Iterator[bytes]:
        """An embedded image, inflated, piece by piece; `image` is its place in the header."""
        expected, size = 0, self.header.images[image].size
        for number in self._images:
            place = self._place(number)
            fields = Fields(unpack(self._frames.payload(number), place), 3, "image", place)
            which, at, piece = fields.whole("image"), fields.whole("at"), fields.binary("piece", PAYLOAD_BYTES_MAX)
            if which != image:
                continue
            if at != expected or at + len(piece) > size:
                place.fail(f"bytes {expected} on of an image should come, {at} on stand here")
            expected += len(piece)
            yield piece
        if expected != size:
            what = f"its {self.header.images[image].role} image has {expected} of {size} bytes"
            raise self._frames.error(what, self._frames.end)

    # ---- keeping ----------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes what is readable to another file, closed. Raises RecordingError; `path` is then as it was."""
        self._save(os.fspath(path), len(self._frames))

    def _save(self, path: str, keep: int) -> None:
        """The first `keep` frames and an end."""
        whole = self.end is not None and keep == len(self._frames)
        body = keep - 1 if whole else keep
        end = self.end if whole and self.end is not None else records.End(self._count_events(body), False)
        layout = Layout(self._frames.table.up_to(body), self._frames.begin(body))
        partial = f"{path}.partial"
        try:
            with open(partial, "wb") as out:  # noqa: PTH123  written in pieces
                self._frames.copy_to(out.write, self._frames.begin(body))
                for frame in layout.add(FrameKind.END, records.encode_end(end)):
                    out.write(frame)
            os.replace(partial, path)
        except OSError as e:
            raise RecordingError(f"cannot be written: {e.strerror or e}", path=path) from None
        finally:
            if os.path.exists(partial):
                os.unlink(partial)

    def _count_events(self, frames: int) -> int:
        count = 0
        for branch in self.branches:
            own = [number for number in branch.event_frames if number < frames]
            if own:
                first, last = self._batch(own[0], branch), self._batch(own[-1], branch)
                count += last.first + len(last.events) - first.first
        return count

    def repair(self, path: str | os.PathLike[str]) -> Repair:
        """Reads everything and writes what comes before the first damage to `path`, closed. Raises RecordingError."""
        keep, why = len(self._frames), None if self.damage is None else self.damage.what
        expected: dict[int, int] = {}
        for number in range(keep):
            try:
                self._check(number, expected)
            except RecordingError as error:
                keep, why = number, error.what
                break
        kept_bytes = self._frames.begin(keep)
        self._save(os.fspath(path), keep)
        return Repair(keep, kept_bytes, self.size - kept_bytes, why)

    def _check(self, number: int, expected: dict[int, int]) -> None:
        """Reads a frame; `expected`: the number of the event that comes next, by branch."""
        head = self._frames.head(number)
        match head.kind:
            case FrameKind.EVENTS:
                batch = self._batch(number, self.branches[head.branch])
                self._follows(number, batch, expected.get(head.branch))
                expected[head.branch] = batch.first + len(batch.events)
            case FrameKind.CHECKPOINTS:
                self._checkpoints(number, self.branches[head.branch])
            case FrameKind.PACKETS:
                self._packets(number, self.branches[head.branch])
            case FrameKind.IMAGE:
                unpack(self._frames.payload(number), self._place(number))
            case FrameKind.INDEX:
                self._frames.check_index(number)
            case FrameKind.PAD:
                if any(self._frames.payload(number)):
                    self._place(number).fail("there is something in the padding")
            case _:
                pass  # was decoded when the file was opened


def load_recording(path: str | os.PathLike[str], *, up_to_damage: bool = False) -> Recording:
    """Opens a recording. Raises RecordingError."""
    return Recording(path, up_to_damage=up_to_damage)


__all__ = ["FILTERS", "RecordedBranch", "Recording", "Repair", "load_recording"]
