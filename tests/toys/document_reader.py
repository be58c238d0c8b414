"""A reader of recordings made from docs/recording-format.md alone: it knows nothing of the library."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import msgpack
import zstandard

SEGMENT = 8 << 20
HEADER, IMAGE, TREE, EVENTS, CHECKPOINTS, END, INDEX, PAD = range(1, 9)


class DocumentReader:
    """Opens a file in the three steps of the document."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:8] == b"\x89CCREC\x01\x00"
        self.frames: list[tuple[int, int, int, int, int]] = []
        """(offset, kind, branch, first time, last time) of each."""
        at = 8
        for segment in range(SEGMENT, len(self.data) - 40, SEGMENT):
            if not self._is_whole(segment):
                break
            self.frames += self._index(segment)
            at = segment
        while self._is_whole(at):
            stored, kind, _, branch, sequence, _, first, last = struct.unpack_from("<IBBHIIQQ", self.data, at)
            assert sequence == len(self.frames)
            assert (at % SEGMENT == 0) == (kind == INDEX)
            self.frames.append((at, kind, branch, first, last))
            at += 40 + stored
        self.end = at
        self.tree = [record for at, kind, *_ in self.frames if kind == TREE for record in self.value(at)]

    def _is_whole(self, at: int) -> bool:
        if at + 40 > len(self.data):
            return False
        (stored,) = struct.unpack_from("<I", self.data, at)
        head_crc = struct.unpack_from("<I", self.data, at + 36)[0]
        return crc32(self.data[at : at + 36]) == head_crc and at + 40 + stored <= len(self.data)

    def payload(self, at: int) -> bytes:
        stored, _, flags, _, _, crc = struct.unpack_from("<IBBHII", self.data, at)
        (inflated,) = struct.unpack_from("<I", self.data, at + 32)
        payload = self.data[at + 40 : at + 40 + stored]
        assert crc32(payload) == crc
        if flags & 1:
            payload = zstandard.ZstdDecompressor().decompress(payload)
        assert len(payload) == inflated
        return payload

    def _index(self, at: int) -> list[tuple[int, int, int, int, int]]:
        payload = self.payload(at)
        n = len(payload) // (8 + 1 + 2 + 8 + 8)
        columns = struct.unpack(f"<{n}Q{n}B{n}H{n}Q{n}Q", payload)
        return list(zip(*(columns[n * c : n * (c + 1)] for c in range(5)), strict=True))

    def value(self, at: int) -> list:
        return msgpack.unpackb(self.payload(at), raw=False)

    def header(self) -> list:
        return self.value(self.frames[0][0])

    def branches(self) -> list[tuple[str, int | None, int, int]]:
        return [(name, parent, vns, n) for kind, _, name, parent, vns, n in (r for r in self.tree if r[0] == 0)]

    def events(self, branch: int, from_vns: int = 0, to_vns: int = 1 << 63) -> list[list]:
        found = []
        for at, kind, number, first, last in self.frames:
            if kind == EVENTS and number == branch and first <= to_vns and last >= from_vns:
                found += [e for e in self.value(at)[5] if from_vns <= e[0] <= to_vns]
        return found

    def checkpoints(self, branch: int) -> list[list]:
        return [c for at, kind, n, *_ in self.frames if kind == CHECKPOINTS and n == branch for c in self.value(at)]

    def image(self, number: int) -> bytes:
        pieces = [self.value(at) for at, kind, *_ in self.frames if kind == IMAGE]
        return b"".join(piece for which, _, piece in pieces if which == number)
