"""FrameFile: the frames of a file, mapped, found by its indexes and checked when they are read.

Everything that a file says of sizes is checked before memory is asked for.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import zstandard

from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.frames import (
    COMPRESSED,
    FRAMES_MAX,
    HEAD,
    HEAD_CHECKED,
    MAGIC,
    PAYLOAD_BYTES_MAX,
    SEGMENT_BYTES,
    VERSIONS,
    WINDOW_BYTES_MAX,
    FrameKind,
    FrameTable,
    Head,
    payload_max,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Damage(NamedTuple):
    """Where a file stops being a recording, and why."""

    offset: int
    what: str
    torn: bool
    """The file ends inside a frame, as when the writer was killed: nothing else is lost."""


class FrameFile:
    """The frames of a file.

    `up_to_damage`: damage is kept in `damage`; without it, it is an error, unless only the end is torn.
    """

    def __init__(self, path: str | os.PathLike[str], *, up_to_damage: bool = False) -> None:
        self.path = os.fspath(path)
        self._map = self._open()
        self.table = FrameTable()
        self.damage: Damage | None = None
        self.end = len(MAGIC)
        """Behind the last whole frame."""
        try:
            self._scan(len(MAGIC) if up_to_damage else self._read_indexes())
            if self.damage is not None and not self.damage.torn and not up_to_damage:
                raise self.error(self.damage.what, self.damage.offset)
        except BaseException:
            self.close()
            raise

    def error(self, what: str, offset: int) -> RecordingError:
        """What is wrong with a frame of this file, and what can be done."""
        return RecordingError(what, path=self.path, offset=offset, hint="`cc-tui repair` keeps what comes before it")

    def _open(self) -> mmap.mmap:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except (OSError, ValueError) as e:
            what = e.strerror or str(e) if isinstance(e, OSError) else str(e)
            raise RecordingError(what, path=self.path, hint="give a recording, FILE.ccrec") from None
        try:
            mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # empty, a directory, a device
            raise RecordingError("is no recording", path=self.path, offset=0) from None
        finally:
            os.close(fd)
        magic = mapped[: len(MAGIC)]
        if len(magic) < len(MAGIC) or magic[:6] != MAGIC[:6]:
            mapped.close()
            raise RecordingError("is no recording", path=self.path, offset=0)
        self.version = int.from_bytes(magic[6:], "little")
        """Of the format."""
        if self.version not in VERSIONS:
            mapped.close()
            hint = f"this is for {', '.join(map(str, VERSIONS))}"
            raise RecordingError(f"has format version {self.version}", path=self.path, offset=6, hint=hint)
        return mapped

    # ---- finding frames ---------------------------------------------------------------------------------------------

    def _read_indexes(self) -> int:
        """Takes in every index up to the first that is not there or odd; returns where to go on head by head."""
        begin, table = len(MAGIC), self.table
        for at in range(SEGMENT_BYTES, len(self._map), SEGMENT_BYTES):
            head = self._head_at(at)
            if head is None or head.kind != FrameKind.INDEX:
                break
            known = len(table)
            try:
                whole = table.extend(self._payload_at(at, head), begin, at) and len(table) == head.sequence
            except RecordingError:
                whole = False
            if not whole:
                table.cut(known)
                break
            begin = at
        return begin

    def _scan(self, at: int) -> None:
        data, size, unpack, add = self._map, len(self._map), HEAD.unpack_from, self.table.add
        head_bytes, checked = HEAD.size, HEAD_CHECKED
        count = len(self.table)
        while at + head_bytes <= size:
            head = unpack(data, at)
            if crc32(data[at : at + checked]) != head[9]:
                self.damage = Damage(at, "the head of a frame is damaged", torn=False)
                break
            following = at + head_bytes + head[0]
            boundary = at % SEGMENT_BYTES == 0
            if (
                head[4] != count
                or head[0] > PAYLOAD_BYTES_MAX
                or count >= FRAMES_MAX
                or boundary is not (head[1] == FrameKind.INDEX)
                or (following - 1) // SEGMENT_BYTES != at // SEGMENT_BYTES
            ):
                why = self._refuse(Head(*head), count, at)
                if why is not None:
                    self.damage = Damage(at, why, torn=False)
                    break
            if following > size:
                break
            add(at, head[1], head[3], head[6], head[7])
            count += 1
            at = following
        self.end = at
        if self.damage is None and at < size:
            self.damage = Damage(at, "the last frame is not whole", torn=True)

    @staticmethod
    def _refuse(head: Head, count: int, at: int) -> str | None:
        most = payload_max(head.kind)
        if count >= FRAMES_MAX:
            return f"there are more than {FRAMES_MAX} frames"
        if head.sequence != count:
            return f"frame {head.sequence} stands where frame {count} should"
        if head.stored_bytes > most:
            return f"a frame of {head.stored_bytes} bytes, of which {most} are allowed"
        if (at % SEGMENT_BYTES == 0) is not (head.kind == FrameKind.INDEX):
            return f"a frame of kind {head.kind} cannot stand here"
        if (at + HEAD.size + head.stored_bytes - 1) // SEGMENT_BYTES != at // SEGMENT_BYTES:
            return f"a frame of {head.stored_bytes} bytes goes over the end of its segment"
        return None

    def _head_at(self, at: int) -> Head | None:
        """The head that begins at a byte; None if none does, or its payload is not whole."""
        if not len(MAGIC) <= at <= len(self._map) - HEAD.size:
            return None
        head = Head(*HEAD.unpack_from(self._map, at))
        whole = head.stored_bytes <= min(payload_max(head.kind), len(self._map) - at - HEAD.size)
        return head if whole and crc32(self._map[at : at + HEAD_CHECKED]) == head.head_crc else None

    # ---- reading them -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.table)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._map)

    def offset(self, frame: int) -> int:
        """Where frame number `frame` begins."""
        return self.table.offsets[frame]

    def begin(self, frame: int) -> int:
        """Where frame number `frame` begins; for the one after the last, where the last ends."""
        return self.table.offsets[frame] if frame < len(self.table) else self.end

    def head(self, frame: int) -> Head:
        """The head of frame number `frame`. Raises RecordingError."""
        at, table = self.table.offsets[frame], self.table
        head = self._head_at(at)
        if head is None or head.sequence != frame:
            raise self.error("the head of a frame is damaged", at)
        listed = (table.kinds[frame], table.branches[frame], table.firsts[frame], table.lasts[frame])
        if (head.kind, head.branch, head.first_vns, head.last_vns) != listed:
            raise self.error("a frame is not what the index says", at)
        return head

    def payload(self, frame: int) -> bytes:
        """The payload of frame number `frame`, inflated. Raises RecordingError."""
        return self._payload_at(self.table.offsets[frame], self.head(frame))

    def stored(self, frame: int) -> Callable[[], bytes]:
        """What gives the payload of frame number `frame`, also when the file is closed. Raises RecordingError."""
        at, head = self.table.offsets[frame], self.head(frame)
        stored = self._stored_at(at, head)
        return lambda: self._inflated(stored, head, at)

    def _payload_at(self, at: int, head: Head) -> bytes:
        return self._inflated(self._stored_at(at, head), head, at)

    def _stored_at(self, at: int, head: Head) -> bytes:
        start = at + HEAD.size
        stored = self._map[start : start + head.stored_bytes]
        if crc32(stored) != head.payload_crc:
            raise self.error("the contents of a frame are damaged", at)
        return stored

    def _inflated(self, stored: bytes, head: Head, at: int) -> bytes:
        if head.flags not in (0, COMPRESSED):
            raise self.error(f"a frame has unknown flags {head.flags:#x}", at)
        most = payload_max(head.kind)
        if head.inflated_bytes > most:
            raise self.error(f"a frame inflates to {head.inflated_bytes} bytes, {most} are allowed", at)
        if head.flags & COMPRESSED:
            stored = self._inflate(stored, head, at)
        if len(stored) != head.inflated_bytes:
            raise self.error(f"a frame holds {len(stored)} bytes, its head says {head.inflated_bytes}", at)
        return stored

    def _inflate(self, stored: bytes, head: Head, at: int) -> bytes:
        # The decompressor believes the size in the zstd frame, so that one is compared first.
        try:
            parameters = zstandard.get_frame_parameters(stored)
            if parameters.content_size != head.inflated_bytes or parameters.window_size > WINDOW_BYTES_MAX:
                raise self.error("a frame does not inflate to what its head says", at)
            return zstandard.ZstdDecompressor().decompress(stored, allow_extra_data=False)
        except zstandard.ZstdError as e:
            raise self.error(f"a frame cannot be inflated: {e}", at) from None

    def check_index(self, frame: int) -> None:
        """Whether an INDEX frame says what the heads do. Raises RecordingError."""
        begin = frame
        while begin > 0 and self.table.offsets[begin - 1] >= self.table.offsets[frame] - SEGMENT_BYTES:
            begin -= 1
        if self.payload(frame) != self.table.part(begin, frame):
            raise self.error("an index is not of the frames before it", self.table.offsets[frame])

    def cut(self, frame: int, what: str) -> None:
        """Frame number `frame` turned out to be damaged: it is not there, nor what follows."""
        self.end = self.table.offsets[frame]
        self.damage = Damage(self.end, what, torn=False)
        self.table.cut(frame)

    def copy_to(self, write: Callable[[bytes], object], end: int) -> None:
        """Hands the file's bytes [0, end) to `write`, piece by piece."""
        for at in range(0, end, PAYLOAD_BYTES_MAX):
            write(self._map[at : min(at + PAYLOAD_BYTES_MAX, end)])

    def close(self) -> None:
        """Unmaps the file; does nothing the second time."""
        self._map.close()


__all__ = ["Damage", "FrameFile"]
