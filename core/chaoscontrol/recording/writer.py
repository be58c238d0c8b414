"""Recorder: writes a history into a file while it happens. An observer of a multiverse.

Owns the file. What it is told is kept until it is flushed: at every input at once, otherwise when FLUSH_S have passed
on the caller's clock or FLUSH_ITEMS are waiting. A flush is one write of whole frames, in an order in which every
prefix is a recording: branches and inputs, then events, then digests. So a killed process loses what was not flushed,
and leaves at most one torn frame.

The first write that fails ends the recording: the file is cut behind its last whole frame, `on_error` is told once,
and everything after that is dropped; or, `strict`, a RecordingError is raised.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from typing import TYPE_CHECKING

from chaoscontrol.recording import records
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.fields import pack
from chaoscontrol.recording.frames import (
    BRANCHES_MAX,
    FRAMES_MAX,
    MAGIC,
    PACKETS_MAGIC,
    PAYLOAD_BYTES_MAX,
    FrameKind,
    Layout,
)
from chaoscontrol.recording.header import encode_header
from chaoscontrol.timetravel import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.recording.header import Header
    from chaoscontrol.timetravel import Ending, Failure, GivenInput, Moment, Multiverse
    from chaoscontrol.timetravel.keyframes import Keyframe

FLUSH_S = 0.05
"""On the caller's clock. A killed process loses that much, and what its last segment took: 0.1 s in all."""
FLUSH_ITEMS = 4096
"""Events and digests that wait at most, so that frames stay small and a caller without a clock loses little."""
EVENTS_PER_FRAME = 1000
PACKETS_PER_FRAME = 2000
"""At most 1518 bytes each, so that they fit."""
IMAGE_PIECE_BYTES = 512 << 10


class Recorder(Observer):
    """Records into `path`, which it replaces. Raises RecordingError if it cannot be begun.

    `clock`: seconds, of any epoch; without it only FLUSH_ITEMS and flush() decide. `images`: (number, inflated bytes)
    of those that the header calls embedded. `packets`: the frames that the witness captures are written as well.
    `bytes_max`: the recording stops before the file becomes larger.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        header: Header,
        *,
        clock: Callable[[], float] | None = None,
        images: Iterable[tuple[int, bytes | memoryview]] = (),
        on_error: Callable[[str], None] | None = None,
        strict: bool = False,
        packets: bool = False,
        bytes_max: int | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.failed: str | None = None
        """Why nothing is written any more."""
        self._clock = clock
        self.on_error = on_error
        """Told once, in one line, when nothing can be written any more."""
        self._strict = strict
        self._bytes_max = bytes_max
        self._numbers: dict[str, int] = {}
        """Of branches that were not deleted, by what they are called now."""
        self._branches = 0
        """How many there ever were."""
        self._tree: list[records.TreeRecord] = []
        self._events: list[records.EventBatch] = []
        self._packets: list[records.PacketBatch] = []
        self._with_packets = packets
        self._checkpoints: list[records.Checkpoint] = []
        self._waiting = 0
        self._flushed_s = clock() if clock is not None else 0.0
        self._layout = Layout()
        self._bytes = 0
        self._events_total = 0
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as e:
            reason = e.strerror or str(e) if isinstance(e, OSError) else str(e)
            raise RecordingError(f"cannot be written: {reason}", path=self.path) from None
        self._begun = False
        try:
            magic = PACKETS_MAGIC if packets else MAGIC
            self._write([magic, *self._layout.add(FrameKind.HEADER, encode_header(header))])
            for number, image in images:
                self._embed(number, image)
        except BaseException:
            self._remove()
            raise
        self._begun = True

    # ---- what is told -----------------------------------------------------------------------------------------------

    def branch_made(self, name: str, parent: str | None, start: Position) -> None:
        number = self._numbers[name] = self._branches
        self._branches += 1
        above = None if parent is None else self._numbers[parent]
        if number >= BRANCHES_MAX:
            self._fail(f"there are more than {BRANCHES_MAX} branches")
            return
        self._add_tree(records.BranchMade(number, name, above, start))
        self.flush()

    def input_given(self, branch: str, given: GivenInput) -> None:
        self._add_tree(records.InputGiven(self._numbers[branch], given))
        self.flush()

    def happened(
        self, branch: str, first: int, until: Position, events: Sequence[Event], failures: Sequence[Failure]
    ) -> None:
        number = self._numbers[branch]
        self._add_events(number, first, until, events, pending=False)
        for failure in failures:
            self._add_tree(records.PropertyBroken(number, failure, until))
        if failures:
            self.flush()
        else:
            self.flush_if_due()

    def switched(self, branch: str, frames: Sequence[CapturedFrame]) -> None:
        if self._with_packets:
            self._packets.append(records.PacketBatch(self._numbers[branch], tuple(frames)))
            self._waiting += len(frames)
            self.flush_if_due()

    def machine_ended(self, branch: str, ending: Ending) -> None:
        self._add_tree(records.MachineEnded(self._numbers[branch], ending))

    def keyframe_taken(self, branch: str, keyframe: Keyframe) -> None:
        self._checkpoints.append(records.Checkpoint.of(self._numbers[branch], keyframe))
        self._waiting += 1
        self.flush_if_due()

    def branch_renamed(self, name: str, new: str) -> None:
        number = self._numbers[new] = self._numbers.pop(name)
        self._add_tree(records.BranchRenamed(number, new))
        self.flush()

    def branch_deleted(self, name: str) -> None:
        self.flush()  # what happened on it comes before
        self._add_tree(records.BranchDeleted(self._numbers.pop(name)))
        self.flush()

    def marked(self, name: str, moment: Moment) -> None:
        self.remark(moment.branch, moment.position, name, is_mark=True)

    def annotated(self, branch: str, mark: str | None, text: str) -> None:
        self._add_tree(records.Annotated(self._numbers[branch], mark, text))
        self.flush()

    def moved(self) -> None:
        self.flush_if_due()

    def remark(self, branch: str, position: Position, text: str, *, is_mark: bool = False) -> None:
        """A person's note on a position, or its name."""
        self._add_tree(records.Remark(self._numbers[branch], position, text[: records.NOTE_MAX], is_mark))
        self.flush()

    def _add_tree(self, record: records.TreeRecord) -> None:
        self._tree.append(record)
        self._waiting += 1

    def _add_events(self, branch: int, first: int, until: Position, events: Sequence[Event], *, pending: bool) -> None:
        if not events:
            return
        last = self._events[-1] if self._events else None
        follows = last is not None and last.branch == branch and last.first + len(last.events) == first
        if last is not None and follows and not pending and len(last.events) < EVENTS_PER_FRAME:
            self._events[-1] = records.EventBatch(branch, last.first, until, False, (*last.events, *events))
        else:
            self._events.append(records.EventBatch(branch, first, until, pending, tuple(events)))
        self._waiting += len(events)
        self._events_total += len(events)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def flush_if_due(self) -> None:
        """Write what waits if the clock says so; to be called now and then by whoever works long."""
        late = self._clock is not None and self._clock() - self._flushed_s >= FLUSH_S
        if self._waiting and (late or self._waiting >= FLUSH_ITEMS):
            self.flush()

    def flush(self) -> None:
        """Write what waits; the system has it then."""
        tree, self._tree = self._tree, []
        events, self._events = self._events, []
        packets, self._packets = self._packets, []
        checkpoints, self._checkpoints = self._checkpoints, []
        self._waiting = 0
        if self._clock is not None:
            self._flushed_s = self._clock()
        if self.failed is None and (tree or events or packets or checkpoints):
            frames = [*self._tree_frames(tree), *self._event_frames(events), *self._packet_frames(packets)]
            self._write([*frames, *self._checkpoint_frames(checkpoints)])

    def _tree_frames(self, tree: list[records.TreeRecord]) -> list[bytes]:
        if not tree:
            return []
        payload = records.encode_tree(tree)
        if len(payload) <= PAYLOAD_BYTES_MAX:
            return self._layout.add(FrameKind.TREE, payload)
        if len(tree) == 1:
            raise RecordingError(f"a single record of {len(payload)} bytes does not fit a frame", path=self.path)
        middle = len(tree) // 2
        return [*self._tree_frames(tree[:middle]), *self._tree_frames(tree[middle:])]

    def _event_frames(self, batches: list[records.EventBatch]) -> list[bytes]:
        frames: list[bytes] = []
        for batch in batches:
            for at in range(0, len(batch.events), EVENTS_PER_FRAME):
                piece = batch.events[at : at + EVENTS_PER_FRAME]
                part = records.EventBatch(batch.branch, batch.first + at, batch.until, batch.pending, piece)
                frames += self._event_frame(part)
        return frames

    def _event_frame(self, batch: records.EventBatch) -> list[bytes]:
        payload = records.encode_events(batch)
        if len(payload) <= PAYLOAD_BYTES_MAX:
            found = [event.vns for event in batch.events]
            return self._layout.add(FrameKind.EVENTS, payload, branch=batch.branch, times=(min(found), max(found)))
        half = len(batch.events) // 2
        assert half, "an event has at most some thousand bytes"
        parts = ((batch.first, batch.events[:half]), (batch.first + half, batch.events[half:]))
        return [
            frame
            for first, events in parts
            for frame in self._event_frame(records.EventBatch(batch.branch, first, batch.until, batch.pending, events))
        ]

    def _packet_frames(self, batches: list[records.PacketBatch]) -> list[bytes]:
        frames: list[bytes] = []
        for branch, group in itertools.groupby(batches, key=lambda batch: batch.branch):
            found = [frame for batch in group for frame in batch.frames]
            for at in range(0, len(found), PACKETS_PER_FRAME):
                piece = tuple(found[at : at + PACKETS_PER_FRAME])
                payload = records.encode_packets(records.PacketBatch(branch, piece))
                times = piece[0].switched_vns, piece[-1].switched_vns
                frames += self._layout.add(FrameKind.PACKETS, payload, branch=branch, times=times)
        return frames

    def _checkpoint_frames(self, checkpoints: list[records.Checkpoint]) -> list[bytes]:
        frames: list[bytes] = []
        while checkpoints:
            branch = checkpoints[0].branch
            count = next((at for at, c in enumerate(checkpoints) if c.branch != branch), len(checkpoints))
            count = min(count, max(PAYLOAD_BYTES_MAX // records.checkpoint_bytes_max(checkpoints[0]), 1))
            piece, checkpoints = checkpoints[:count], checkpoints[count:]
            found = [c.position.vns for c in piece]
            payload = records.encode_checkpoints(piece)
            frames += self._layout.add(FrameKind.CHECKPOINTS, payload, branch=branch, times=(min(found), max(found)))
        return frames

    def _embed(self, number: int, image: bytes | memoryview) -> None:
        for at in range(0, len(image), IMAGE_PIECE_BYTES):
            piece = bytes(image[at : at + IMAGE_PIECE_BYTES])
            self._write(self._layout.add(FrameKind.IMAGE, pack([number, at, piece])))

    def _write(self, frames: list[bytes]) -> None:
        """All of `frames`, or none of what follows the last whole one."""
        if len(self._layout.table) > FRAMES_MAX - 4:
            self._fail(f"there are more than {FRAMES_MAX} frames")
            return
        rest = memoryview(b"".join(frames))
        if self._bytes_max is not None and self._bytes + len(rest) > self._bytes_max:
            self._fail(f"it would have more than {self._bytes_max} bytes")
            return
        written = 0
        try:
            while written < len(rest):
                written += os.write(self._fd, rest[written:])
        except OSError as e:
            self._cut(frames, written)
            self._fail(e.strerror or str(e))
            return
        self._bytes += written

    def _cut(self, frames: list[bytes], written: int) -> None:
        """Leaves the file with whole frames only."""
        for frame in frames:
            if len(frame) > written:
                break
            self._bytes += len(frame)
            written -= len(frame)
        with contextlib.suppress(OSError):  # then its end is torn, which readers know
            os.ftruncate(self._fd, self._bytes)

    def _remove(self) -> None:
        """Leaves nothing of a recording that could not be begun."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        os.close(self._fd)
        self._fd = -1

    def _fail(self, why: str) -> None:
        self.failed = why
        if not self._begun:
            raise RecordingError(f"cannot be written: {why}", path=self.path)
        message = RecordingError(
            f"recording has stopped: {why}", path=self.path, hint="what is in the file so far is whole"
        )
        if self._strict:
            raise message
        if self.on_error is not None:
            self.on_error(str(message))

    # ---- the end ----------------------------------------------------------------------------------------------------

    def finish(self, multiverse: Multiverse) -> None:
        """Digests of where the cursor is, at the end of a branch, and what happened since the last judgement."""
        if self.failed is not None or not multiverse.at_end:
            return
        multiverse.moment(remember=True)
        pending = multiverse.witness.pending()
        if pending:
            branch = self._numbers[multiverse.branch.name]
            self._add_events(branch, multiverse.events_total, multiverse.position, pending, pending=True)

    def close(self) -> None:
        """Write what waits and the end; does nothing the second time."""
        if self._fd < 0:
            return
        try:
            self.flush()
            if self.failed is None:
                end = records.End(self._events_total, True)
                self._write(self._layout.add(FrameKind.END, records.encode_end(end)))
        finally:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["FLUSH_S", "Recorder"]
