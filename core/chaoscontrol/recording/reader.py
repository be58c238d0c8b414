"""Recording: what a file says, read lazily. Opening reads the indexes and the tree; nothing else.

Every read checks what it reads, and whatever is wrong is a RecordingError that names the file and the offset. Nothing
here runs a machine: see replay.py.
"""

from __future__ import annotations

import dataclasses
import os
from bisect import bisect_right
from itertools import compress
from typing import TYPE_CHECKING, NoReturn

from chaoscontrol.events import Event, EventKind
from chaoscontrol.protocol import Command, SdkEvent
from chaoscontrol.recording import records
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.fields import Fields, Place, unpack
from chaoscontrol.recording.frame_file import FrameFile
from chaoscontrol.recording.frames import PAYLOAD_BYTES_MAX, VNS_MAX, FrameKind, Layout
from chaoscontrol.recording.header import Header, decode_header
from chaoscontrol.timetravel import Ending, Failure, GivenInput, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


@dataclasses.dataclass(slots=True)
class RecordedBranch:
    """One branch, as far as it is recorded."""

    number: int
    name: str
    parent: int | None
    start: Position
    _look: Callable[[], None] = dataclasses.field(repr=False, compare=False)
    """Finds out what a large file is not asked for when it is opened."""
    _end: Position | None = None
    _event_frames: list[int] = dataclasses.field(default_factory=list[int])
    _checkpoint_frames: list[int] = dataclasses.field(default_factory=list[int])
    inputs: list[GivenInput] = dataclasses.field(default_factory=list[GivenInput])
    endings: list[Ending] = dataclasses.field(default_factory=list[Ending])
    failures: list[Failure] = dataclasses.field(default_factory=list[Failure])
    judged: list[Position] = dataclasses.field(default_factory=list[Position])
    """Where each failure was found out."""
    remarks: list[records.Remark] = dataclasses.field(default_factory=list[records.Remark])

    @property
    def end(self) -> Position:
        """The last position that the file speaks of. Raises RecordingError."""
        self._look()
        assert self._end is not None
        return self._end

    @property
    def event_frames(self) -> list[int]:
        """Numbers of the frames with its own events, in order. Raises RecordingError."""
        self._look()
        return self._event_frames

    @property
    def checkpoint_frames(self) -> list[int]:
        """Those with its digests."""
        self._look()
        return self._checkpoint_frames

    def found(self, events: list[int], checkpoints: list[int], end: Position) -> None:
        """What looking has found."""
        self._event_frames, self._checkpoint_frames, self._end = events, checkpoints, end


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
        self.branches: list[RecordedBranch] = []
        """By number; the first one first."""
        self._made: list[int] = []
        """The frame in which each branch is made."""
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
                self.branches, self._made, self._images, self.end, self._looked = [], [], [], None, False

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
                self._add(record, number)
        self._images = list(self._of_kind(FrameKind.IMAGE))
        if not self.branches:
            self._look()
        last = len(kinds) - 1
        if kinds[last] == FrameKind.END:
            self.end = records.decode_end(self._frames.payload(last), self._place(last))

    def _refuse_odd_kinds(self, kinds: bytes) -> None:
        odd = kinds.translate(None, bytes(FrameKind))
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
        for branch in self.branches:
            own = events[branch.number], checkpoints[branch.number]
            branch.found(*own, self._end_of(branch, *own, up_to_damage))
        self._looked = True

    def _sorted(self, kind: FrameKind) -> list[list[int]]:
        """The frames of a kind by branch."""
        table, numbers = self._frames.table, list(self._of_kind(kind))
        if len(self.branches) == 1 and not any(map(table.branches.__getitem__, numbers)):
            if numbers and numbers[0] < self._made[0]:
                self._fail_unknown(0, numbers[0])
            return [numbers]
        found: list[list[int]] = [[] for _ in self.branches]
        for number in numbers:
            branch = table.branches[number]
            if branch >= len(found) or number < self._made[branch]:
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
        raise self._frames.error(f"a frame speaks of branch {number}, not known yet", self._frames.offset(frame))

    def _branch(self, number: int, frame: int) -> RecordedBranch:
        if number >= len(self.branches):
            self._fail_unknown(number, frame)
        return self.branches[number]

    def _add(self, record: records.TreeRecord, frame: int) -> None:
        if isinstance(record, records.BranchMade):
            self._add_branch(record, frame)
            return
        branch = self._branch(record.branch, frame)
        match record:
            case records.InputGiven(_, given):
                if given.at < (branch.inputs[-1].after if branch.inputs else branch.start):
                    raise self._frames.error("an input comes before its predecessor", self._frames.offset(frame))
                branch.inputs.append(given)
            case records.MachineEnded(_, ending):
                branch.endings.append(ending)
            case records.PropertyBroken(_, failure, judged):
                branch.failures.append(failure)
                branch.judged.append(judged)
            case records.Remark():
                branch.remarks.append(record)

    def _add_branch(self, record: records.BranchMade, frame: int) -> None:
        if record.branch != len(self.branches) or (record.parent is None) != (record.branch == 0):
            raise self._frames.error(f"branch {record.branch} stands out of order", self._frames.offset(frame))
        if record.parent is not None:
            parent = self._branch(record.parent, frame)
            if record.start < parent.start:
                raise self._frames.error("a branch begins before its parent", self._frames.offset(frame))
        if any(branch.name == record.name for branch in self.branches):
            raise self._frames.error(f"there are two branches {record.name}", self._frames.offset(frame))
        self._made.append(frame)
        self.branches.append(RecordedBranch(record.branch, record.name, record.parent, record.start, self._look))

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
    def damage(self) -> Damage | None:
        """Where the readable part ends, if not at the end of the file."""
        return self._frames.damage

    @property
    def failures(self) -> list[tuple[RecordedBranch, Failure]]:
        """What was broken, branch by branch."""
        return [(branch, failure) for branch in self.branches for failure in branch.failures]

    def branch(self, name: str) -> RecordedBranch:
        """The branch called `name`. Raises RecordingError."""
        for branch in self.branches:
            if branch.name == name:
                return branch
        known = ", ".join(branch.name for branch in self.branches[:20])
        raise RecordingError(f"there is no branch {name!r}", path=self.path, hint=f"branches: {known}")

    def owner(self, branch: RecordedBranch, position: Position) -> RecordedBranch:
        """The branch of its line that `position` belongs to: the oldest one that reaches it."""
        line = [branch]
        while line[-1].parent is not None:
            line.append(self.branches[line[-1].parent])
        for above, below in zip(line[:0:-1], line[-2::-1], strict=True):
            if position <= below.start:
                return above
        return branch

    def position(self, branch: RecordedBranch, vns: int) -> Position:
        """Virtual time `vns` of a branch's line, after all inputs that were given then."""
        owner = self.owner(branch, Position(vns))
        return Position(vns, sum(given.at.vns == vns for given in owner.inputs))

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

    def checkpoints(self, branch: RecordedBranch) -> list[records.Checkpoint]:
        """The branch's own positions with known digests, in order."""
        found: dict[Position, records.Checkpoint] = {}
        for number in branch.checkpoint_frames:
            for checkpoint in self._checkpoints(number, branch):
                found.setdefault(checkpoint.position, checkpoint)
        return [found[position] for position in sorted(found)]

    def _checkpoints(self, number: int, branch: RecordedBranch) -> list[records.Checkpoint]:
        place = self._place(number)
        found = records.decode_checkpoints(self._frames.payload(number), place)
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
