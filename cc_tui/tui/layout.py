"""Which panes are in view, from the terminal's size and what the person chose; no widgets, no state.

Narrow terminals show one pane at a time, chosen by tabs. From WIDE_COLUMNS on, consoles stand at the left and as many
side panes as have room at the right, the chosen one always among them.
"""

from collections.abc import Sequence
from typing import NamedTuple

WIDE_COLUMNS = 120
BAR_ROWS = 4
"""Tabs, timeline, status and hints."""
GRID_ROWS_MIN = 10
"""A console in the grid has at least this many rows."""
GRID_MACHINES_MAX = 4
SIDE_PANES_MAX = 4
"""More than this one above the other are a sea of small ones."""


class Shape(NamedTuple):
    """A side pane's wishes, as SidePane has them."""

    name: str
    rows_min: int
    weight: int


def is_wide(columns: int) -> bool:
    """Is there room for panes side by side?"""
    return columns >= WIDE_COLUMNS


def grid_fits(columns: int, rows: int, machines: int) -> bool:
    """Is there room for the consoles of all machines, one above the other?"""
    return is_wide(columns) and 2 <= machines <= GRID_MACHINES_MAX and (rows - BAR_ROWS) // machines >= GRID_ROWS_MIN


def share_rows(shapes: Sequence[Shape], rows: int, chosen: str) -> dict[str, int]:
    """The side panes that fit into `rows` with the rows each gets: the chosen one, then the others in their order."""
    order = sorted(shapes, key=lambda shape: shape.name != chosen)
    kept: list[Shape] = []
    left = rows
    for shape in order:
        if not kept or (shape.rows_min <= left and len(kept) < SIDE_PANES_MAX):
            kept.append(shape)
            left -= min(shape.rows_min, left)
    total = sum(shape.weight for shape in kept)
    given: dict[str, int] = {}
    spare = left
    for shape in shapes:
        if shape in kept:
            extra = spare * shape.weight // total
            spare, total = spare - extra, total - shape.weight
            given[shape.name] = min(shape.rows_min, rows) + extra
    return given
