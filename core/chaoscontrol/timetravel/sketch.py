"""Sketches: which pages differ between two states of a machine, from a few sums that were kept of each.

The engine adds up what pages contribute in the cells of three tables (native/digest.c); docs/recording-format.md has
the layout. Of the differences of two sketches, a cell in which one page differs tells which one, by a division; that
page is taken out of its cells in the other tables, which may leave one page alone in those. This is an invertible Bloom
lookup table (Goodrich and Mitzenmacher 2011) whose cells have geometric sizes: of few pages that differ all are found,
of many some, and how many there are is told by how far up the cells differ.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TABLES, LEVELS = 3, 12
SKETCH_BYTES = TABLES * LEVELS * 2 * 4
_SUMS = struct.Struct(f"<{TABLES * LEVELS * 2}I")
_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1


class Differing(NamedTuple):
    """Pages that differ."""

    pages: tuple[int, ...]
    """Their numbers, in order."""
    about: int
    """How many there are, about; exactly that many if all were found."""
    complete: bool
    """Whether `pages` are all of them."""


def level_of(page: int, table: int) -> int:
    """The cell of a page in a table."""
    x = (page * TABLES + table + 1) * 0x9E3779B97F4A7C15 & _MASK64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK64
    x = (x ^ x >> 31) | 1 << (LEVELS - 1)
    return (x & -x).bit_length() - 1


def differing(before: bytes, after: bytes, page_count: int) -> Differing:
    """What differs between two sketches of a machine with so many pages."""
    sums = [(now - was) & _MASK32 for was, now in zip(_SUMS.unpack(before), _SUMS.unpack(after), strict=True)]
    cells = [[[sums[2 * (t * LEVELS + level)], sums[2 * (t * LEVELS + level) + 1]] for level in range(LEVELS)]
             for t in range(TABLES)]  # fmt: skip
    about = _count(cells)
    found: dict[int, None] = {}
    waiting = [(table, level) for table in range(TABLES) for level in range(LEVELS)]
    while waiting:
        table, level = waiting.pop()
        plain, weighted = cells[table][level]
        page = _page(plain, weighted, page_count)
        if page is None or page in found or level_of(page, table) != level:
            continue
        found[page] = None
        for other in range(TABLES):
            at = level_of(page, other)
            cell = cells[other][at]
            cell[0] = (cell[0] - plain) & _MASK32
            cell[1] = (cell[1] - plain * (page + 1)) & _MASK32
            waiting.append((other, at))
    complete = not any(map(any, (cell for table in cells for cell in table)))
    return Differing(tuple(sorted(found)), len(found) if complete else max(about, len(found) + 1), complete)


def _page(plain: int, weighted: int, page_count: int) -> int | None:
    """The only page that differs in a cell, if its sums can be of one: plain * (page + 1) == weighted mod 2^32."""
    if not plain:
        return None
    zeros = (plain & -plain).bit_length() - 1
    if weighted & (1 << zeros) - 1:
        return None
    modulus = 1 << (32 - zeros)
    number = (weighted >> zeros) * pow(plain >> zeros, -1, modulus) % modulus
    # Of several that it could be, none is known.
    return number - 1 if 1 <= number <= page_count < number + modulus else None


def _count(cells: list[list[list[int]]]) -> int:
    """About how many pages differ, by the lowest level in which none does (Flajolet and Martin 1985)."""
    empty = [next((level for level in range(LEVELS) if not any(table[level])), LEVELS) for table in cells]
    return round(2 ** (sum(empty) / TABLES) / 0.77351)


__all__ = ["SKETCH_BYTES", "Differing", "differing", "level_of"]
