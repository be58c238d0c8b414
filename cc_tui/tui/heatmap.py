"""A coverage map of 65536 counters folded to the tiles of a heatmap; no widgets.

A tile's level is the highest class of count (coverage.CLASSES) of any of its cells, 0 where nothing was counted.
"""

from collections.abc import Iterable
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

from chaoscontrol.coverage import CELLS, CLASSES, CoverageMap, Source

RAMP = " .:-=+*#@"
"""A character per level, darker to brighter."""
assert len(RAMP) == len(CLASSES) + 1, "every class has its character"

_WHERE_EMPTY = bytes([0xFF]) + bytes(255)


class Tile(NamedTuple):
    """One cell of the picture."""

    level: int
    new: bool
    """Does it hold an edge that the map compared with has not?"""

    @property
    def character(self) -> str:
        """The ramp's; for a tile with something new its level as a digit."""
        return str(self.level) if self.new else RAMP[self.level]


def classes(counters: bytes) -> bytes:
    """The class of every counter, one bit each. Raises UsageError for another size than 65536."""
    found = CoverageMap()
    found.add_counters(Source.SDK, "", counters)
    return found.bits(Source.SDK)


def merged(maps: Iterable[bytes]) -> bytes:
    """Maps of classes in one; the highest class of a cell is that of the machine that counted most."""
    either = reduce(lambda one, other: one | int.from_bytes(other, "little"), maps, 0)
    return either.to_bytes(CELLS, "little")


def edges(bits: bytes) -> int:
    """Cells that were ever counted."""
    return CELLS - bits.count(0)


def new_cells(bits: bytes, before: bytes) -> bytes:
    """What is set in cells that were empty in `before`, zero elsewhere."""
    empty = int.from_bytes(before.translate(_WHERE_EMPTY), "little")
    return (int.from_bytes(bits, "little") & empty).to_bytes(CELLS, "little")


def fold(bits: bytes, new: bytes, rows: int, columns: int) -> list[list[Tile]]:
    """Rows of tiles; cells follow each other row by row. There are no more tiles than cells."""
    count = rows * columns
    assert 1 <= count <= CELLS, "a tile has a cell at least"
    bounds = [at * CELLS // count for at in range(count + 1)]
    tiles = [
        Tile(max(bits[start:end]).bit_length(), new.count(0, start, end) < end - start)
        for start, end in pairwise(bounds)
    ]
    return [tiles[at : at + columns] for at in range(0, count, columns)]
