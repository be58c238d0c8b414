"""Frames: how a recording lies in its file. Knows lengths, checksums and compression, nothing of what is in a payload.

    file    magic (8 bytes), then frames
    frame   head (40 bytes), then the payload

At every multiple of SEGMENT_BYTES an INDEX frame begins, which says where the frames of the segment before it are; no
other frame crosses one. So a file of any size is opened by reading one frame per segment and the heads of the last
segment, whether it was closed or its writer was killed. docs/recording-format.md has the layout.
"""

from __future__ import annotations

import enum
import struct
import sys
from array import array
from typing import Literal, NamedTuple
from zlib import crc32

import zstandard

FORMAT_VERSION, PACKETS_VERSION = 4, 5
"""The format's version, and that of a file that may have PACKETS frames besides."""
WITH_PACKETS = (3, PACKETS_VERSION)
VERSIONS = (2, 3, FORMAT_VERSION, PACKETS_VERSION)
"""Those that can be read; 2 and 3 have no branches that were renamed, deleted or annotated, and no edits of packets."""
_SIGNATURE = b"\x89CCREC"
MAGIC, PACKETS_MAGIC = (_SIGNATURE + version.to_bytes(2, "little") for version in (FORMAT_VERSION, PACKETS_VERSION))

HEAD = struct.Struct("<IBBHIIQQII")
"""Payload's bytes in the file, kind, flags, branch, sequence, CRC-32 of those bytes, first and last virtual time, bytes
inflated, CRC-32 of the head before it."""
HEAD_CHECKED = HEAD.size - 4
"""Bytes of a head that its own checksum is over."""

SEGMENT_BYTES = 8 << 20
PAYLOAD_BYTES_MAX = 4 << 20
"""As stored and inflated. Bounds what decoding can cost: the worst msgpack makes 28 bytes of objects per byte."""
FRAMES_MAX = 1 << 23
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
    INDEX = 7
    """Where the frames of the segment before are; at every multiple of SEGMENT_BYTES, and only there."""
    PAD = 8
    """Nothing: zeros up to the next multiple of SEGMENT_BYTES."""
    PACKETS = 9
    """What the network carried."""


STRUCTURE = (FrameKind.INDEX, FrameKind.PAD)
"""Kinds whose payloads are as long as a segment has room."""


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
    first_vns: int
    last_vns: int
    """The earliest and the latest virtual time in a payload of events, checkpoints or packets; 0 in others."""
    inflated_bytes: int
    head_crc: int


def payload_max(kind: int) -> int:
    """Bytes that a payload may have, as stored and inflated."""
    return SEGMENT_BYTES if kind in STRUCTURE else PAYLOAD_BYTES_MAX


def squeeze(payload: bytes) -> tuple[bytes, int]:
    """A payload as it is stored, and the flags that say how."""
    if len(payload) >= COMPRESS_FROM_BYTES:
        smaller = zstandard.ZstdCompressor(ZSTD_LEVEL, write_content_size=True).compress(payload)
        if len(smaller) < len(payload):
            return smaller, COMPRESSED
    return payload, 0


def seal(
    kind: FrameKind,
    sequence: int,
    stored: bytes,
    flags: int,
    inflated_bytes: int,
    *,
    branch: int = 0,
    times: tuple[int, int] = (0, 0),
) -> bytes:
    """A whole frame from its payload as stored."""
    assert max(inflated_bytes, len(stored)) <= payload_max(kind), "the writer cuts payloads"
    assert sequence < FRAMES_MAX and branch < BRANCHES_MAX
    crc = crc32(stored)
    head = HEAD.pack(len(stored), kind, flags, branch, sequence, crc, *times, inflated_bytes, 0)[:HEAD_CHECKED]
    return head + crc32(head).to_bytes(4, "little") + stored


def encode_frame(
    kind: FrameKind, sequence: int, payload: bytes, *, branch: int = 0, times: tuple[int, int] = (0, 0)
) -> bytes:
    """A whole frame, wherever it comes to stand."""
    stored, flags = squeeze(payload)
    return seal(kind, sequence, stored, flags, len(payload), branch=branch, times=times)


class FrameTable:
    """Where every frame begins, and its kind, branch and times: what the heads say, without looking at them again."""

    ENTRY_BYTES = 8 + 1 + 2 + 8 + 8

    def __init__(self) -> None:
        self.offsets = array("Q")
        self.kinds = bytearray()
        self.branches = array("H")
        self.firsts = array("Q")
        self.lasts = array("Q")

    def __len__(self) -> int:
        return len(self.kinds)

    def add(self, offset: int, kind: int, branch: int, first_vns: int, last_vns: int) -> None:
        """The next frame."""
        self.offsets.append(offset)
        self.kinds.append(kind)
        self.branches.append(branch)
        self.firsts.append(first_vns)
        self.lasts.append(last_vns)

    def cut(self, frame: int) -> None:
        """Forgets frame number `frame` and what follows."""
        for column in (self.offsets, self.kinds, self.branches, self.firsts, self.lasts):
            del column[frame:]

    def up_to(self, frame: int) -> FrameTable:
        """A table of the frames before number `frame`."""
        made = FrameTable()
        made.offsets, made.kinds, made.branches = self.offsets[:frame], self.kinds[:frame], self.branches[:frame]
        made.firsts, made.lasts = self.firsts[:frame], self.lasts[:frame]
        return made

    def part(self, begin: int, end: int) -> bytes:
        """The payload of an INDEX frame: frames `begin` to `end`, one column behind the other."""
        rows = slice(begin, end)
        columns = (_little(c[rows]) for c in (self.offsets, self.branches, self.firsts, self.lasts))
        offsets, branches, firsts, lasts = columns
        return b"".join((offsets, bytes(self.kinds[rows]), branches, firsts, lasts))

    def extend(self, payload: bytes, begin: int, end: int) -> bool:
        """Takes in such a part, of frames that begin in [begin, end) of the file; False if it cannot be one."""
        count, rest = divmod(len(payload), self.ENTRY_BYTES)
        if rest or not count or len(self) + count > FRAMES_MAX:
            return False
        offsets = _from_little("Q", payload[: 8 * count])
        if offsets[0] != begin or not begin <= offsets[-1] < end:
            return False
        self.offsets += offsets
        self.kinds += payload[8 * count : 9 * count]
        self.branches += _from_little("H", payload[9 * count : 11 * count])
        self.firsts += _from_little("Q", payload[11 * count : 19 * count])
        self.lasts += _from_little("Q", payload[19 * count :])
        return True


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _from_little(code: Literal["Q", "H"], data: bytes) -> array[int]:
    column = array(code, data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


class Layout:
    """Puts frames behind one another, with padding and an index at every multiple of SEGMENT_BYTES."""

    def __init__(self, table: FrameTable | None = None, end: int = len(MAGIC)) -> None:
        """`table`, `end`: of the frames that are there already, which it goes on from."""
        self.table = FrameTable() if table is None else table
        self.end = end
        """Where the next frame begins."""
        segment = (end - 1) // SEGMENT_BYTES * SEGMENT_BYTES
        self._begun = next((n for n, at in enumerate(self.table.offsets) if at >= segment), 0)
        """Number of the first frame of this segment, as long as no index tells of it."""

    def add(self, kind: FrameKind, payload: bytes, *, branch: int = 0, times: tuple[int, int] = (0, 0)) -> list[bytes]:
        """The frame, and before it those that the layout needs."""
        stored, flags = squeeze(payload)
        made: list[bytes] = []
        while not self._fits(HEAD.size + len(stored)):
            if self.end % SEGMENT_BYTES:
                zeros = SEGMENT_BYTES - self.end % SEGMENT_BYTES - HEAD.size
                made.append(self._put(FrameKind.PAD, bytes(zeros), 0, zeros))
            made.append(self._index())
        made.append(self._put(kind, stored, flags, len(payload), branch, times))
        return made

    def _fits(self, size: int) -> bool:
        """What it leaves of the segment must hold a head, or be nothing; and a segment begins with its index."""
        left = SEGMENT_BYTES - self.end % SEGMENT_BYTES - size
        return self.end % SEGMENT_BYTES != 0 and (left == 0 or left >= HEAD.size)

    def _index(self) -> bytes:
        begun, self._begun = self._begun, len(self.table)
        payload = self.table.part(begun, self._begun)
        stored, flags = squeeze(payload)
        return self._put(FrameKind.INDEX, stored, flags, len(payload))

    def _put(
        self,
        kind: FrameKind,
        stored: bytes,
        flags: int,
        inflated_bytes: int,
        branch: int = 0,
        times: tuple[int, int] = (0, 0),
    ) -> bytes:
        frame = seal(kind, len(self.table), stored, flags, inflated_bytes, branch=branch, times=times)
        self.table.add(self.end, kind, branch, *times)
        self.end += len(frame)
        return frame
