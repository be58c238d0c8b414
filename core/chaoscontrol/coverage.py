"""Coverage: which edges ran, from the guest SDK and from the engine, in one model.

A CoverageMap holds one map of 65536 cells per (source, program). A cell keeps the classes of the counts seen, as AFL
does: 1, 2, 3, 4-7, 8-15, 16-31, 32-127, 128 and more, one bit each. Maps of any number of machines and runs merge into
one by OR, so the order of merging does not matter. Maps of different sources never mix: their cells mean different
things. Nothing here knows of time; docs/coverage.md says what each source counts and what it leaves out.
"""

from __future__ import annotations

import itertools
import re

from ._binding import ffi, lib
from .choice import Choice
from .errors import UsageError
from .record import Record
from .values import Digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .machine import DeterministicVm

CELLS = lib.CC_EDGES_BYTES
CLASSES = ("1", "2", "3", "4-7", "8-15", "16-31", "32-127", "128+")
"""What the bits of a cell mean, the lowest first."""

_MAGIC = b"cccov\x01"
_ZEROS = bytes(CELLS)
_NONZERO = re.compile(rb"[^\0]+")


class Source(Choice):
    """Who counted."""

    SDK = 1
    """The guest's own bitmap: programs built with the guest SDK."""
    USER = 2
    """The engine, in user programs."""
    KERNEL = 3
    """The engine, in the guest kernel. Depends on interrupts, and so on time: for eyes, not for feedback."""

    @property
    def text(self) -> str:
        """Its name, for a person."""
        return self.name.lower()


class MapStats(Record):
    """What a map contains."""

    edges: int
    """Cells that were ever counted."""
    bits: int
    """Pairs of cell and class: what feedback looks at."""
    classes: tuple[int, ...]
    """Cells that were seen in each of CLASSES."""


class Growth(Record):
    """What a merge brought, or would bring."""

    edges: int
    """Cells that were empty before."""
    bits: int
    """Pairs of cell and class not seen before; at least as many as edges."""

    def __bool__(self) -> bool:
        return self.bits > 0


Key = tuple[Source, str]
"""Source and program; the program is "" where the source does not tell them apart."""


class CoverageMap:
    """Classes of counts by source and program; mutable, grows only."""

    def __init__(self) -> None:
        self._maps: dict[Key, bytearray] = {}

    # ---- filling ----

    def add_counters(self, source: Source, program: str, counters: bytes) -> Growth:
        """Classifies a map of 65536 saturating 8-bit counters and merges it. Raises UsageError for another size."""
        if len(counters) != CELLS:
            raise UsageError(f"a coverage map of {len(counters)} bytes", hint=f"maps have {CELLS} counters")
        bits = bytearray(CELLS)
        lib.cc_coverage_classify(ffi.from_buffer(counters), ffi.from_buffer(bits), CELLS)
        return self._merge((source, program), bits)

    def add_machine(self, vm: DeterministicVm) -> Growth:
        """Everything that a machine counted: the SDK's bitmap, if the guest uses it, and the engine's maps."""
        edges = bits = 0
        found: list[tuple[Source, str, bytes]] = []
        if vm.coverage_active:
            found.append((Source.SDK, "", vm.read_coverage_bitmap()))
        for program, counters in vm.edges.maps():
            found.append((Source.KERNEL, "", counters) if program is None else (Source.USER, program, counters))
        for source, program, counters in found:
            growth = self.add_counters(source, program, counters)
            edges += growth.edges
            bits += growth.bits
        return Growth(edges, bits)

    def merge(self, other: CoverageMap) -> Growth:
        """Adds all that the other map has."""
        edges = bits = 0
        for key in other:
            growth = self._merge(key, other._maps[key])
            edges += growth.edges
            bits += growth.bits
        return Growth(edges, bits)

    def _merge(self, key: Key, bits: bytes | bytearray) -> Growth:
        known = self._maps.get(key)
        if known is None:
            if bits == _ZEROS:
                return Growth(0, 0)  # a map without edges is none: equal coverage has equal digests
            known = self._maps[key] = bytearray(CELLS)
        cells = ffi.new("uint64_t *")
        found = lib.cc_coverage_merge(ffi.from_buffer(known), ffi.from_buffer(bits), CELLS, cells)
        return Growth(cells[0], found)

    # ---- comparing ----

    def new_edges(self, other: CoverageMap) -> Growth:
        """What merging the other map would bring."""
        edges = bits = 0
        cells = ffi.new("uint64_t *")
        for key in other:
            known = self._maps.get(key, _ZEROS)
            bits += lib.cc_coverage_new(ffi.from_buffer(known), ffi.from_buffer(other._maps[key]), CELLS, cells)
            edges += cells[0]
        return Growth(edges, bits)

    def has_new(self, other: CoverageMap) -> bool:
        """Whether the other map has a cell, or a class of count, that this one has not."""
        return bool(self.new_edges(other))

    def only(self, *sources: Source) -> CoverageMap:
        """A copy with the maps of these sources."""
        copy = CoverageMap()
        copy._maps = {key: bytearray(bits) for key, bits in self._maps.items() if key[0] in sources}
        return copy

    def copy(self) -> CoverageMap:
        """An independent copy."""
        return self.only(*Source)

    def __iter__(self) -> Iterator[Key]:
        """Keys of the maps that have edges, by source, then by program."""
        return iter(sorted(self._maps, key=_order))

    def __len__(self) -> int:
        return len(self._maps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CoverageMap) and self._maps == other._maps

    __hash__ = None  # type: ignore[assignment]  # mutable

    def digest(self) -> Digest:
        """128 bits over all maps: equal for equal coverage, whatever order it was merged in."""
        out = ffi.new("cc_digest *")
        data = b"".join(_name(key) + self._maps[key] for key in self)
        lib.cc_hash(ffi.from_buffer(data), len(data), out)
        return Digest(out.hi << 64 | out.lo)

    # ---- looking ----

    def bits(self, source: Source, program: str = "") -> bytes:
        """The 65536 cells of a map; zeros if there is none."""
        return bytes(self._maps.get((source, program), _ZEROS))

    @property
    def edges(self) -> int:
        """Cells that were ever counted, over all maps."""
        return sum(CELLS - bits.count(0) for bits in self._maps.values())

    def stats(self, source: Source, program: str = "") -> MapStats:
        """What one map contains."""
        cells = self._maps.get((source, program), _ZEROS)
        counts = [0] * len(CLASSES)
        for value in range(1, 256):
            if n := cells.count(value):
                for i in range(len(CLASSES)):
                    counts[i] += n * (value >> i & 1)
        return MapStats(CELLS - cells.count(0), sum(counts), tuple(counts))

    def grid(self, rows: int, columns: int, *keys: Key) -> list[list[float]]:
        """A summary for a heatmap: the share of cells (0 to 1) with edges in each of rows x columns tiles.

        keys: the maps to sum up, a cell counting if it is set in any of them; none: all maps. Tiles follow the cells in
        order, row by row. Raises UsageError for less than one tile, and for more tiles than cells.
        """
        if rows < 1 or columns < 1 or rows * columns > CELLS:
            raise UsageError(f"a grid of {rows} x {columns} tiles", hint=f"give 1 to {CELLS} tiles")
        union = bytearray(CELLS)
        cells = ffi.new("uint64_t *")
        for key in keys or self:
            lib.cc_coverage_merge(ffi.from_buffer(union), ffi.from_buffer(self._maps.get(key, _ZEROS)), CELLS, cells)
        tiles = rows * columns
        edges = [i * CELLS // tiles for i in range(tiles + 1)]
        share = [1 - union.count(0, a, b) / (b - a) for a, b in itertools.pairwise(edges)]
        return [share[at : at + columns] for at in range(0, tiles, columns)]

    # ---- keeping ----

    def to_bytes(self) -> bytes:
        """A compact form: per map its key, then runs of cells that are set. Equal coverage gives equal bytes."""
        out = bytearray(_MAGIC)
        _put(out, len(self._maps))
        for key in self:
            out += _name(key)
            runs = list(_NONZERO.finditer(self._maps[key]))
            _put(out, len(runs))
            at = 0
            for run in runs:
                _put(out, run.start() - at)
                _put(out, run.end() - run.start())
                out += run[0]
                at = run.end()
        return bytes(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> CoverageMap:
        """What to_bytes() wrote. Raises UsageError for anything else."""
        reader = _Reader(data)
        if reader.take(len(_MAGIC)) != _MAGIC:
            raise UsageError("is not a coverage map of this version", where="coverage")
        made = cls()
        for _ in range(reader.number()):
            key = reader.key()
            if key in made._maps:
                raise _damaged()
            bits, at = bytearray(CELLS), 0
            for _ in range(reader.number()):
                at += reader.number()
                run = reader.take(reader.number())
                if at + len(run) > CELLS:
                    raise _damaged()
                bits[at : at + len(run)] = run
                at += len(run)
            if bits.count(0) == CELLS:
                raise _damaged()
            made._maps[key] = bits
        if not reader.at_end or made.to_bytes() != data:
            raise _damaged()
        return made


def collect(machines: Iterable[DeterministicVm]) -> CoverageMap:
    """The coverage of all these machines in one map."""
    found = CoverageMap()
    for vm in machines:
        found.add_machine(vm)
    return found


def _order(key: Key) -> tuple[int, str]:
    return key[0].value, key[1]


def _name(key: Key) -> bytes:
    program = key[1].encode()
    out = bytearray((key[0].value,))
    _put(out, len(program))
    return bytes(out) + program


def _put(out: bytearray, value: int) -> None:
    """LEB128: seven bits a byte, the lowest first."""
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _damaged() -> UsageError:
    return UsageError("is damaged", where="coverage", hint="record it again")


class _Reader:
    """Takes a serialised map apart; everything that does not fit is a UsageError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise _damaged()
        self._at += size
        return data

    def number(self) -> int:
        value = 0
        for shift in range(0, 28, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise _damaged()

    def key(self) -> Key:
        try:
            return Source(self.take(1)[0]), self.take(self.number()).decode()
        except ValueError:
            raise _damaged() from None
