"""The drawings of a report, as SVG: the whole history on a line of time, and the last messages as a sequence diagram.

Colours are CSS classes of report.css, so the drawings follow the reader's theme; no meaning hangs on colour alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from cc_tui.triage import words
from cc_tui.triage.elements import Element, el
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaoscontrol.triage.report import Causality, FaultFacts, Happening, Report

WIDTH = 1000
GUTTER = 96
"""At the left, for names."""
MARGIN = 28
FAULT_H, LANE_H, AXIS_H = 22, 46, 26
ROW_H = 21
COLUMN_MIN = 250
MESSAGES_SHOWN = 24
NOTES_SHOWN = 14
"""Events beside the messages."""
LABEL_CHARS = 74
LABEL_CHAR_W = 6.2
"""About the width of a letter of a label."""
PARTITIONS = ("network_partition", "one_way_partition")
STOPS = {"process_pause": "paused", "process_kill": "off", "process_restart": "off"}
"""Faults during which a machine does nothing."""


def _text(x: float, y: float, text: str, class_: str, anchor: str = "start") -> Element:
    return el("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Element:
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _svg(width: float, height: float, title: str, children: Iterable[Element]) -> Element:
    return el("svg", el("title", title), *children, viewBox=f"0 0 {width:g} {height:g}", role="img", class_="drawing",
              width=width, height=height)  # fmt: skip


def _clip(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# ---- the whole history -----------------------------------------------------------------------------------------------


class _Scale(NamedTuple):
    """Time on the width of a drawing."""

    end_ns: int

    def x(self, vns: int) -> float:
        return GUTTER + (WIDTH - GUTTER - MARGIN) * min(vns, self.end_ns) / max(self.end_ns, 1)


def overview(report: Report) -> Element:
    """From the beginning to the failure: faults, and how much each machine said."""
    moment_vns = report.moment.vns
    scale = _Scale(moment_vns)
    faults_h = len(report.faults) * FAULT_H + (10 if report.faults else 0)
    lanes_h = len(report.machines) * LANE_H
    height = 20 + faults_h + lanes_h + AXIS_H
    x = scale.x(moment_vns)
    children = [
        _line(x, 14, x, 20 + faults_h + lanes_h, "failure"),
        _text(x, 10, "! failure", "failure-text", "end"),
        *(_fault_row(fault, scale, 20 + at * FAULT_H) for at, fault in enumerate(report.faults)),
    ]
    for at in range(len(report.machines)):
        children += _lane(report, at, scale, 20 + faults_h + at * LANE_H)
    children += _axis(scale, 20 + faults_h + lanes_h)
    return _svg(WIDTH, height, "The history up to the failure", children)


def _fault_row(fault: FaultFacts, scale: _Scale, y: float) -> Element:
    begin = scale.x(fault.begin_ns)
    end = scale.x(scale.end_ns if fault.end_ns is None else fault.end_ns)
    middle, kind = y + FAULT_H / 2, "net" if fault.is_network else "vm"
    parts = [el("title", f"{fault.text}: {format_seconds(fault.begin_ns)} s to {words.until(fault.end_ns)}")]
    if end - begin < 3:
        parts.append(el("circle", cx=begin, cy=middle, r=5, class_=f"fault-dot {kind}"))
    else:
        parts.append(el("rect", x=begin, y=y + 4, width=end - begin, height=FAULT_H - 8, rx=3, class_=f"fault {kind}"))
    if fault.kind in PARTITIONS and end - begin >= 3:
        # Brackets, as the interface draws partitions; one that is still in effect stays open.
        parts.append(el("path", d=f"M{begin + 5:.1f} {y + 4} h-5 v{FAULT_H - 8} h5", class_=f"bracket {kind}"))
        if fault.end_ns is not None:
            parts.append(el("path", d=f"M{end - 5:.1f} {y + 4} h5 v{FAULT_H - 8} h-5", class_=f"bracket {kind}"))
    label = f"{fault.letter}  {_clip(fault.text, 60)}"
    at, anchor = _room_for(len(label) * LABEL_CHAR_W, begin, end)
    parts.append(_text(at, middle + 4, label, "label", anchor))
    return el("g", *parts)


def _room_for(width: float, begin: float, end: float) -> tuple[float, str]:
    """Where a label of a bar stands, and its anchor: behind it, before it, or in it."""
    if end + 10 + width < WIDTH:
        return end + 10, "start"
    if begin - 8 - width > 0:
        return begin - 8, "end"
    return begin + 10, "start"


def _lane(report: Report, vm: int, scale: _Scale, y: float) -> list[Element]:
    base, top = y + LANE_H - 8, y + 8
    counts, bin_ns = report.activity.counts[vm], report.activity.bin_ns
    most = max((max(each, default=0) for each in report.activity.counts), default=0)
    parts = [_text(GUTTER - 12, base - 6, f"vm{vm}", f"lane-name vm{vm % 6}", "end")]
    for fault in report.faults:
        if fault.kind in STOPS and (not fault.vms or vm in fault.vms):
            begin, end = scale.x(fault.begin_ns), scale.x(scale.end_ns if fault.end_ns is None else fault.end_ns)
            area = el("rect", el("title", f"vm{vm} {STOPS[fault.kind]}"), x=begin, y=top, width=max(end - begin, 1),
                      height=base - top, class_="stopped")  # fmt: skip
            parts.append(area)
            if end - begin > 44:
                parts.append(_text((begin + end) / 2, top + 20, STOPS[fault.kind], "faint", "middle"))
    width = (WIDTH - GUTTER - MARGIN) * bin_ns / max(scale.end_ns, 1)
    for at, count in enumerate(counts):
        if count:
            # The logarithm: a boot prints a hundred lines, and one line later matters as much.
            height = (base - top) * math.log1p(count) / math.log1p(most)
            title = el("title", f"vm{vm} from {format_seconds(at * bin_ns)} s: {count} lines and reports")
            parts.append(el("rect", title, x=scale.x(at * bin_ns), y=base - height, width=max(width - 0.8, 0.8),
                            height=height, class_=f"bar vm{vm % 6}"))  # fmt: skip
    parts.append(_line(GUTTER, base, WIDTH - MARGIN, base, "rule"))
    if vm == report.bug.at.vm:
        x = scale.x(report.moment.vns)
        parts.append(el("circle", cx=x, cy=base, r=9, class_="failure-dot"))
        parts.append(_text(x, base + 5, "!", "failure-mark", "middle"))
    return parts


def _axis(scale: _Scale, y: float) -> list[Element]:
    steps = (digit * 10**power for power in range(19) for digit in (1, 2, 5))
    step = next(step for step in steps if scale.end_ns <= 10 * step)
    parts: list[Element] = []
    for vns in range(0, scale.end_ns + 1, step):
        x = scale.x(vns)
        parts += [_line(x, y, x, y + 5, "rule"), _text(x, y + 18, f"{vns / 1e9:g} s", "faint", "middle")]
    return parts


# ---- the last messages -----------------------------------------------------------------------------------------------


class _Point(NamedTuple):
    """Something with a row of its own in the sequence diagram."""

    vns: int
    order: int
    """Of the same instant: arrivals, then events, then sendings."""
    key: int
    """Of a message: its place in the causality; of an event: its place among the notes."""


ARRIVES, NOTE, SENDS = range(3)


def sequence(report: Report, causality: Causality) -> Element | None:
    """The last messages before the failure, downwards in time; every sending, arrival and event has its row."""
    shown = _shown_messages(causality)
    if not shown:
        return None
    moment_vns = report.moment.vns
    notes = _notes(report, causality.messages[shown[0]].sent_vns)
    points = [_Point(causality.messages[at].sent_vns, SENDS, at) for at in shown]
    points += [
        _Point(arrival, ARRIVES, at)
        for at in shown
        if (arrival := causality.messages[at].arrival_vns) is not None and arrival <= moment_vns
    ]
    points += [_Point(note.at.vns, NOTE, at) for at, note in enumerate(notes)]
    points.sort()
    rows = {(point.order, point.key): at for at, point in enumerate(points)}
    vms = len(report.machines)
    column = max((WIDTH - GUTTER - MARGIN) / vms, COLUMN_MIN)
    width, height = GUTTER + MARGIN + column * vms, 88 + ROW_H * len(points)
    grid = _Grid(column, 34)
    children = _lifelines(report, grid, height - 24)
    children += _times(points, grid, moment_vns)
    bold = set(causality.chains[report.bug.at.vm]) if report.bug.at.vm >= 0 else set[int]()
    for at, note in enumerate(notes):
        children += _note(note, grid, rows[NOTE, at], width)
    for at in shown:
        children += _arrow(causality, at, grid, rows, bold=at in bold)
    children += _failure(report, grid, len(points), width)
    # Text above lines, wherever they cross.
    children.sort(key=lambda element: element.tag == "text")
    return _svg(width, height, "The last messages before the failure", children)


class _Grid(NamedTuple):
    """Columns are machines, rows are points in time."""

    column: float
    top: float

    def x(self, vm: int) -> float:
        return GUTTER + self.column * (vm + 0.5)

    def y(self, row: int) -> float:
        return self.top + ROW_H * (row + 0.8)


def _shown_messages(causality: Causality) -> list[int]:
    """The last ones that can have had an effect, or were lost."""
    wanted = [at for at, message in enumerate(causality.messages) if message.in_past or message.arrival_vns is None]
    return wanted[-MESSAGES_SHOWN:]


def _notes(report: Report, from_vns: int) -> list[Happening]:
    """Events between those messages: faults, failures, what was printed; the failure itself has its own row."""
    found = [h for h in report.timeline if from_vns <= h.at.vns < report.moment.vns and h.kind != "input"]
    at = report.bug.at
    return [h for h in found if h.at != at][-NOTES_SHOWN:]


def _lifelines(report: Report, grid: _Grid, height: float) -> list[Element]:
    parts: list[Element] = []
    for machine in report.machines:
        x = grid.x(machine.vm)
        parts += [
            _line(x, 26, x, height - 12, f"life vm{machine.vm % 6}"),
            _text(x, 18, f"vm{machine.vm}", f"lane-name vm{machine.vm % 6}", "middle"),
        ]
    return parts


def _times(points: list[_Point], grid: _Grid, moment_vns: int) -> list[Element]:
    parts: list[Element] = []
    said = ""
    for row, point in enumerate(points):
        text = words.before(point.vns, moment_vns)
        if text != said:
            parts.append(_text(GUTTER - 12, grid.y(row) + 4, text, "faint", "end"))
        said = text
    return parts


def _note(note: Happening, grid: _Grid, row: int, width: float) -> list[Element]:
    y = grid.y(row)
    text = ("! " if note.failed else "") + _clip(note.text, LABEL_CHARS)
    class_ = "note failed" if note.failed else "note"
    if note.at.vm < 0:
        return [_line(GUTTER, y, width - MARGIN, y, "wide"), _text(width - MARGIN, y - 4, text, class_, "end")]
    return [
        el("circle", cx=grid.x(note.at.vm), cy=y, r=3.5, class_=f"dot vm{note.at.vm % 6}"),
        *_beside(note.at.vm, text, grid, y, width, class_),
    ]


def _beside(vm: int, text: str, grid: _Grid, y: float, width: float, class_: str) -> list[Element]:
    """Text beside a lifeline, on the side where there is more room."""
    x = grid.x(vm)
    if x - GUTTER > width - x:
        return [_text(x - 10, y + 4, text, class_, "end")]
    return [_text(x + 10, y + 4, text, class_)]


def _arrow(
    causality: Causality, at: int, grid: _Grid, rows: dict[tuple[int, int], int], *, bold: bool
) -> list[Element]:
    message = causality.messages[at]
    x1, y1 = grid.x(message.src), grid.y(rows[SENDS, at])
    sign = 1 if message.dst > message.src else -1
    arrives = rows.get((ARRIVES, at))
    weight = " chain" if bold else ""
    label = _clip(words.message_text(message), LABEL_CHARS)
    parts = [el("circle", cx=x1, cy=y1, r=2.5, class_=f"dot vm{message.src % 6}")]
    if arrives is None:
        x2 = x1 + sign * grid.column * 0.45
        parts += [_line(x1, y1, x2, y1, "lost"), _text(x2, y1 + 5, "×", "lost-mark", "middle")]
        label = f"{label} ({message.fate})"
    else:
        x2, y2 = grid.x(message.dst), grid.y(arrives)
        parts.append(_line(x1, y1, x2 - sign * 7, y2, f"arrow{weight}"))
        parts.append(el("path", d=_head(x2, y2, x1, y1), class_=f"head{weight}"))
    way = f"vm{message.src} to vm{message.dst}, sent {format_seconds(message.sent_vns)} s"
    text = _text(x1 + sign * 10, y1 - 5, label, f"message{weight}", "start" if sign > 0 else "end")
    text.append(el("title", f"{way}, {message.fate}: {message.summary}"))
    return [*parts, text]


def _head(x: float, y: float, from_x: float, from_y: float) -> str:
    """An arrow's head at (x, y)."""
    angle = math.atan2(y - from_y, x - from_x)
    corners = [(x - 9 * math.cos(angle + turn), y - 9 * math.sin(angle + turn)) for turn in (0.38, -0.38)]
    return f"M{x:.1f} {y:.1f} " + " ".join(f"L{a:.1f} {b:.1f}" for a, b in corners) + " Z"


def _failure(report: Report, grid: _Grid, row: int, width: float) -> list[Element]:
    y = grid.y(row) + 4
    at = report.bug.at
    x = width / 2 if at.vm < 0 else grid.x(at.vm)
    name = _clip(report.bug.name, LABEL_CHARS)
    label = [_text(x, y + 24, name, "note failed", "middle")]
    if at.vm >= 0:
        label = _beside(at.vm, name, grid, y + 14, width, "note failed")
    return [
        _line(GUTTER, y, width - MARGIN, y, "failure"),
        el("circle", cx=x, cy=y, r=9, class_="failure-dot"),
        _text(x, y + 5, "!", "failure-mark", "middle"),
        *label,
    ]


__all__ = ["overview", "sequence"]
