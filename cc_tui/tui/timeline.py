"""Faults and failures as characters on a line of time; no widgets, no state.

Meaning never hangs on colour: each fault begins with its letter and goes on as `~`, a partition is drawn as brackets
`[===]`, a one-way partition as `[>>>]`, a failed property is `!`.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from cc_tui.pictures import Failure
from chaoscontrol.faults import NETWORK_FAULTS, FaultSpan, HealAll, NetworkHeal, NetworkPartition, OneWayPartition

SPAN, LETTER, FAILURE = range(3)
"""Ranks of what is drawn; of two things in one cell the higher stays."""

_Put = Callable[[int, str, int], None]

NETWORK_ROW = -1
"""The row of faults of the network, beside those of the machines."""


class Glyph(NamedTuple):
    """What one cell shows, and its rank."""

    character: str
    rank: int


class Window(NamedTuple):
    """A span of virtual time, both ends included, on so many cells."""

    begin_ns: int
    end_ns: int
    cells: int

    def cell(self, vns: int) -> int:
        """The cell of a time; outside 0 to cells - 1 if the time is outside."""
        return (vns - self.begin_ns) * (self.cells - 1) // max(self.end_ns - self.begin_ns, 1)


def window_around(cursor_ns: int, end_ns: int, zoom: int, cells: int) -> Window:
    """The whole of [0, end_ns], halved `zoom` times around the cursor."""
    span_ns = max(end_ns >> zoom, 1)
    begin_ns = min(max(cursor_ns - span_ns // 2, 0), max(end_ns - span_ns, 0))
    return Window(begin_ns, begin_ns + span_ns, cells)


def rows_of(span: FaultSpan, machines: int) -> tuple[int, ...]:
    """The rows that a fault is drawn in: the machine it is about, the network, or all."""
    fault = span.fault
    if isinstance(fault, HealAll):
        return (*range(machines), NETWORK_ROW)
    if isinstance(fault, (*NETWORK_FAULTS, NetworkHeal)):
        return (NETWORK_ROW,)
    return fault.vms()


def draw(spans: Iterable[FaultSpan], failures: Iterable[Failure], window: Window) -> dict[int, Glyph]:
    """The cells in which something is drawn."""
    cells: dict[int, Glyph] = {}

    def put(at: int, character: str, rank: int) -> None:
        if 0 <= at < window.cells and rank >= cells.get(at, Glyph("", SPAN)).rank:
            cells[at] = Glyph(character, rank)

    for span in sorted(spans, key=lambda span: (span.begin_ns, span.number)):
        _draw_one(span, window, put)
    for failure in failures:
        put(window.cell(failure.at.vns), "!", FAILURE)
    return cells


def _draw_one(span: FaultSpan, window: Window, put: _Put) -> None:
    begin = window.cell(span.begin_ns)
    end = window.cells if span.end_ns is None else window.cell(span.end_ns)
    if end < 0 or begin >= window.cells:
        return
    partition = isinstance(span.fault, (NetworkPartition, OneWayPartition))
    inside = "=" if isinstance(span.fault, NetworkPartition) else ">" if partition else "~"
    for at in range(max(begin, 0) + 1, min(end, window.cells)):
        put(at, inside, SPAN)
    if begin < 0:
        # It began before: its letter tells at the edge what goes on.
        put(0, inside if partition else span.fault.LETTER, LETTER)
    else:
        put(begin, "[" if partition and end > begin else span.fault.LETTER, LETTER)
    if partition and end > max(begin, 0):
        put(end, "]", LETTER)
    elif end > begin and end < window.cells and span.end_ns is not None:
        put(end, inside, SPAN)
