"""Frames: how a recording lies in its file. Knows lengths, checksums and compression, nothing of what is in a payload.

    file    magic (8 bytes), then frames
    frame   head (32 bytes), then the payload

Everything that a file says of sizes is checked before memory is asked for. docs/recording-format.md has the layout.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from array import array
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import zstandard

from chaoscontrol.recording.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FORMAT_VERSION = 1
MAGIC = b"\x89CCREC" + FORMAT_VERSION.to_bytes(2, "little")

HEAD = struct.Struct("<IBBHIIQII")
"""Payload's bytes in the file, kind, flags, branch, sequence, CRC-32 of those bytes, virtual time, bytes inflated,
CRC-32 of the head before it."""
_CHECKED = HEAD.size - 4

PAYLOAD_BYTES_MAX = 4 << 20
"""As stored and inflated. Bounds what decoding can cost: the worst msgpack makes 28 bytes of objects per byte."""
FRAMES_MAX = 1 << 24
BRANCHES_MAX = 1 << 16
VNS_MAX = (1 << 64) - 1

COMPRESSED = 1
"""Flag: the payload is one zstd frame that says its inflated size."""
COMPRESS_FROM_BYTES = 256
ZSTD_LEVEL = 3
WINDOW_BYTES_MAX = 8 << 20


class FrameKind(enum.IntEnum):
    """What a payload is about."""

    HEADER = 1
    """What the cluster was made of; the first frame, and only that."""
    IMAGE = 2
    """A piece of an embedded image."""
    TREE = 3
    """Branches, inputs, endings, failures, marks, notes."""
    EVENTS = 4
    """What happened."""
    CHECKPOINTS = 5
    """Positions with their digests."""
    END = 6
    """The recording was closed; the last frame."""


class Head(NamedTuple):
    """The head of a frame."""

    stored_bytes: int
    kind: int
    flags: int
    branch: int
    """Number of the branch that the payload is about, where it is about one; else 0."""
    sequence: int
    """Its place among the frames, counted from 0."""
    payload_crc: int
    vns: int
    """The latest virtual time in the payload; 0 where there is none."""
    inflated_bytes: int
    head_crc: int


class Damage(NamedTuple):
    """Where a file stops being a recording, and why."""

    offset: int
    what: str
    torn: bool
    """The file ends inside a frame, as when the writer was killed: nothing else is lost."""


def encode_frame(kind: FrameKind, sequence: int, payload: bytes, *, branch: int = 0, vns: int = 0) -> bytes:
    """A whole frame."""
    assert len(payload) <= PAYLOAD_BYTES_MAX, "the writer cuts payloads"
    assert sequence < FRAMES_MAX and branch < BRANCHES_MAX
    stored, flags = payload, 0
    if len(payload) >= COMPRESS_FROM_BYTES:
        smaller = zstandard.ZstdCompressor(ZSTD_LEVEL, write_content_size=True).compress(payload)
        if len(smaller) < len(payload):
            stored, flags = smaller, COMPRESSED
    head = HEAD.pack(len(stored), kind, flags, branch, sequence, crc32(stored), vns, len(payload), 0)[:_CHECKED]
    return head + crc32(head).to_bytes(4, "little") + stored


class FrameFile:
    """The frames of a file, mapped and found by their heads; payloads are checked when they are read.

    `up_to_damage`: damage is kept in `damage`; without it, it is an error, unless only the end is torn.
    """

    def __init__(self, path: str | os.PathLike[str], *, up_to_damage: bool = False) -> None:
        self.path = os.fspath(path)
        self._map = self._open()
        self.offsets = array("Q")
        """Where each frame begins."""
        self.damage: Damage | None = None
        self.end = len(MAGIC)
        """Behind the last whole frame."""
        try:
            self._scan()
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
        if magic != MAGIC:
            mapped.close()
            if magic[:6] == MAGIC[:6] and len(magic) == len(MAGIC):
                version = int.from_bytes(magic[6:], "little")
                raise RecordingError(
                    f"has format version {version}", path=self.path, offset=6, hint=f"this is for {FORMAT_VERSION}"
                )
            raise RecordingError("is no recording", path=self.path, offset=0)
        return mapped

    def _scan(self) -> None:
        data, size, unpack, at, count = self._map, len(self._map), HEAD.unpack_from, len(MAGIC), 0
        offsets, head_bytes, checked = self.offsets, HEAD.size, _CHECKED
        while at + head_bytes <= size:
            head = unpack(data, at)
            if crc32(data[at : at + checked]) != head[8]:
                self.damage = Damage(at, "the head of a frame is damaged", torn=False)
                break
            if head[4] != count or head[0] > PAYLOAD_BYTES_MAX or count >= FRAMES_MAX:
                self.damage = Damage(at, self._refuse(Head(*head), count), torn=False)
                break
            following = at + head_bytes + head[0]
            if following > size:
                break
            offsets.append(at)
            count += 1
            at = following
        self.end = at
        if self.damage is None and at < size:
            self.damage = Damage(at, "the last frame is not whole", torn=True)

    @staticmethod
    def _refuse(head: Head, count: int) -> str:
        if count >= FRAMES_MAX:
            return f"there are more than {FRAMES_MAX} frames"
        if head.sequence != count:
            return f"frame {head.sequence} stands where frame {count} should"
        return f"a frame of {head.stored_bytes} bytes, of which {PAYLOAD_BYTES_MAX} are allowed"

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self._map)

    def head(self, frame: int) -> Head:
        """The head of frame number `frame`."""
        return Head(*HEAD.unpack_from(self._map, self.offsets[frame]))

    def heads(self) -> Iterator[tuple[int, int, int]]:
        """(kind, branch, virtual time) of every frame, in order."""
        data, unpack = self._map, struct.Struct("<4xBxH8xQ").unpack_from
        for at in self.offsets:
            yield unpack(data, at)

    def raw(self, frame: int) -> bytes:
        """The whole frame as it stands in the file."""
        at = self.offsets[frame]
        return self._map[at : at + HEAD.size + HEAD.unpack_from(self._map, at)[0]]

    def payload(self, frame: int) -> bytes:
        """The payload of frame number `frame`, inflated. Raises RecordingError."""
        at, head = self.offsets[frame], self.head(frame)
        start = at + HEAD.size
        stored = self._map[start : start + head.stored_bytes]
        if crc32(stored) != head.payload_crc:
            raise self.error("the contents of a frame are damaged", at)
        if head.flags not in (0, COMPRESSED):
            raise self.error(f"a frame has unknown flags {head.flags:#x}", at)
        if head.inflated_bytes > PAYLOAD_BYTES_MAX:
            raise self.error(f"a frame inflates to {head.inflated_bytes} bytes, {PAYLOAD_BYTES_MAX} are allowed", at)
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

    def begin(self, frame: int) -> int:
        """Where frame number `frame` begins; for the one after the last, where the last ends."""
        return self.offsets[frame] if frame < len(self.offsets) else self.end

    def cut(self, frame: int, what: str) -> None:
        """Frame number `frame` turned out to be damaged: it is not there, nor what follows."""
        self.end = self.offsets[frame]
        self.damage = Damage(self.end, what, torn=False)
        del self.offsets[frame:]

    def copy_to(self, write: Callable[[bytes], object], end: int) -> None:
        """Hands the file's bytes [0, end) to `write`, piece by piece."""
        for at in range(0, end, PAYLOAD_BYTES_MAX):
            write(self._map[at : min(at + PAYLOAD_BYTES_MAX, end)])

    def close(self) -> None:
        """Unmaps the file; does nothing the second time."""
        self._map.close()
