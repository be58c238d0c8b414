"""A reader of recordings made from docs/recording-format.md alone: it knows nothing of the library."""

from __future__ import annotations

import struct
from pathlib import Path
from zlib import crc32

import msgpack
import zstandard

SEGMENT = 8 << 20
HEADER, IMAGE, TREE, EVENTS, CHECKPOINTS, END, INDEX, PAD, PACKETS = range(1, 10)


class DocumentReader:
    """Opens a file in the three steps of the document."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        assert self.data[:6] == b"\x89CCREC"
        assert 2 <= int.from_bytes(self.data[6:8], "little") <= 5
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
        names: dict[int, str] = {}
        for record in self.tree:
            if record[0] in (0, 5):
                names[record[1]] = record[2]
        return [(names[n], parent, vns, at) for _, n, _, parent, vns, at in (r for r in self.tree if r[0] == 0)]

    def deleted(self) -> list[int]:
        return [record[1] for record in self.tree if record[0] == 6]

    def notes(self) -> dict[int, str]:
        last = {record[1]: record[3] for record in self.tree if record[0] == 7 and record[2] is None}
        return {branch: text for branch, text in last.items() if text}

    def marks(self) -> dict[str, tuple[int, int, int, str]]:
        """Branch, position and note of each by its name."""
        found: dict[str, tuple[int, int, int, str]] = {}
        for record in self.tree:
            if record[0] == 4 and record[5]:
                found[record[4]] = (*record[1:4], "")
            elif record[0] == 7 and record[2] is not None:
                found[record[2]] = (*found[record[2]][:3], record[3])
        made = {record[1]: record for record in self.tree if record[0] == 0}
        for name, (branch, vns, at, note) in list(found.items()):
            while branch in self.deleted() and (vns, at) <= tuple(made[branch][4:6]):
                branch = made[branch][3]
            found[name] = branch, vns, at, note
        return {name: mark for name, mark in found.items() if mark[0] not in self.deleted()}

    def edits(self, branch: int) -> list[tuple]:
        """(src, serial, dst, copy, what is done, its value) of the edits of packets."""
        inputs = [r[2][3] for r in self.tree if r[0] == 1 and r[1] == branch]
        return [
            (*packet, ("never", "then", "then as well", "bytes")[edit], value)
            for kind, packet, (edit, value) in (given for given in inputs if given[0] == 8)
        ]

    def events(self, branch: int, from_vns: int = 0, to_vns: int = 1 << 63) -> list[list]:
        found = []
        for at, kind, number, first, last in self.frames:
            if kind == EVENTS and number == branch and first <= to_vns and last >= from_vns:
                found += [e for e in self.value(at)[5] if from_vns <= e[0] <= to_vns]
        return found

    def checkpoints(self, branch: int) -> list[list]:
        return [c for at, kind, n, *_ in self.frames if kind == CHECKPOINTS and n == branch for c in self.value(at)]

    def packets(self, branch: int) -> list[list]:
        return [f for at, kind, n, *_ in self.frames if kind == PACKETS and n == branch for f in self.value(at)[1]]

    def image(self, number: int) -> bytes:
        pieces = [self.value(at) for at, kind, *_ in self.frames if kind == IMAGE]
        return b"".join(piece for which, _, piece in pieces if which == number)


def registers(packed: bytes) -> dict[str, int]:
    """A few registers of a machine in a checkpoint, by the table of the document."""
    assert len(packed) == 992
    at = {"rax": (0, 8), "rip": (16 * 8, 8), "cs.base": (18 * 8 + 24, 8), "cs.selector": (18 * 8 + 24 + 16, 2)}
    at |= {"cr3": (144 + 192 + 32 + 16, 8), "xmm15": (992 - 8 - 16, 16), "mxcsr": (992 - 8, 4), "halted": (992 - 4, 1)}
    return {name: int.from_bytes(packed[start : start + size], "little") for name, (start, size) in at.items()}


def cell(page: int, table: int) -> int:
    """The cell of a page in a table of a sketch."""
    x = (3 * page + table + 1) * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    x = x ^ x >> 31
    return next(bit for bit in range(12) if x >> bit & 1 or bit == 11)


def pages_alone(before: bytes, after: bytes, pages: int) -> set[int]:
    """Pages that differ between two sketches and are alone in some cell, tried one by one."""
    sums = [(b - a) % 2**32 for a, b in zip(*(struct.unpack("<72I", s) for s in (before, after)), strict=True)]
    return {
        page
        for page in range(pages)
        for table in range(3)
        for plain, weighted in (sums[2 * (12 * table + cell(page, table)) :][:2],)
        if plain and plain * (page + 1) % 2**32 == weighted
    }
