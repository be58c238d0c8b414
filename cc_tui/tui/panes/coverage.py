"""The coverage pane: which edges the guests' programs have taken by the cursor, as a heatmap, and what is new.

It shows the SDK's map of one machine, or of all merged. New is what was not there where the cursor rested before, or
when the person pressed the key that says so.
"""

from typing import NamedTuple

from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from cc_tui.session import SessionView
from cc_tui.tui.heatmap import RAMP, classes, edges, fold, merged, new_cells
from cc_tui.tui.keymap import COVERAGE_KEYS, pane_bindings
from cc_tui.tui.panes.branches import seconds
from cc_tui.tui.panes.pane import SidePane
from cc_tui.tui.rows import Line
from cc_tui.tui.theme import is_dark, machine_colour, variable_style
from chaoscontrol.coverage import CELLS, CLASSES
from chaoscontrol.timetravel import Position

MAP_ROWS_MIN = 2
_NOTHING = bytes(CELLS)
_SHADES = ("faint", "dim", "dim", "quiet", "quiet", "secondary", "foreground", "foreground")
"""Luminance by level, from 1 on."""


class Reading(NamedTuple):
    """The maps of all machines at one position, as classes."""

    branch: str
    position: Position
    maps: tuple[bytes | None, ...]

    def of(self, machine: int | None) -> bytes | None:
        """One machine's map, or all merged; None if there is none."""
        if machine is not None:
            return self.maps[machine] if machine < len(self.maps) else None
        known = [bits for bits in self.maps if bits is not None]
        return merged(known) if known else None


class CoveragePane(SidePane, Widget, can_focus=True):
    """See the module."""

    NAME = "coverage"
    ABOUT = (
        "The guests' coverage maps at the cursor, folded to the pane: the brighter, the more often the busiest edge of "
        "a tile was taken, in AFL's classes; a digit is the same scale where an edge is new. New is what was not there "
        "where the cursor rested before; M compares with this moment from now on, M again with the last rest."
    )
    PANE_KEYS = COVERAGE_KEYS
    BINDINGS = pane_bindings(COVERAGE_KEYS)
    ROWS_MIN = 9
    WEIGHT = 3
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__(id=self.NAME, classes="side-pane")
        self._view: SessionView | None = None
        self._counters: tuple[bytes | None, ...] = ()
        self._now: Reading | None = None
        self._rests: tuple[Reading | None, Reading | None] = (None, None)
        """Where the cursor rested before, and last."""
        self._marked: Reading | None = None
        self._machine: int | None = None
        """The machine whose map is shown; None: all merged."""
        self._lines: list[Line] | None = None
        self._drawn_for: object = None
        self._drawn: list[Line] = []
        """The map as it was drawn last, and for what."""

    def show(self, view: SessionView) -> None:
        """Show the maps as they are in this picture; one without maps leaves the last ones."""
        self._view = view
        counters = view.cluster.coverage
        if counters and counters is not self._counters:
            known = self._now
            if known is None or counters != self._counters:
                maps = tuple(None if found is None else classes(found) for found in counters)
            else:
                maps = known.maps
            self._counters = counters
            self._now = Reading(view.branch.name, view.position, maps)
        if self._now is not None and counters:
            self._now = self._now._replace(branch=view.branch.name, position=view.position)
            if view.moment is not None:
                last = self._rests[1]
                if last is None or last[:2] != self._now[:2]:
                    self._rests = (last, self._now)
        self._lines = None
        self.refresh()

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        return [("← →", "machine"), ("M", "since last rest" if self._marked is not None else "new from here")]

    def action_machine(self, by: int) -> None:
        if self._view is not None:
            choices: list[int | None] = [None, *range(len(self._view.instrets))]
            self._machine = choices[(choices.index(self._machine) + by) % len(choices)]
            self._lines = None
            self.refresh()

    def action_baseline(self) -> None:
        self._marked = self._now if self._marked is None else None
        self._lines = None
        self.refresh()

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self._lines = None
        self.refresh()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._lines = None

    def render_line(self, y: int) -> Strip:
        width, base = self.content_size.width, self.visual_style.rich_style
        if self._lines is None:
            self._lines = self._draw(width, self.content_size.height)
        return (self._lines[y] if y < len(self._lines) else Line()).strip(width, base)

    def _colour(self, name: str, *, bold: bool = False) -> Style:
        return variable_style(self, name, bold=bold)

    def _draw(self, width: int, height: int) -> list[Line]:
        view, now = self._view, self._now
        if view is None or width <= 0:
            return []
        if now is None:
            return [self._text("none yet: coverage is read where the cursor rests", width)]
        bits = now.of(self._machine)
        before = (self._marked or self._rests[0] or now).of(self._machine) or _NOTHING
        new = _NOTHING if bits is None else new_cells(bits, before)
        lines = [self._head(view, now, bits, new), self._machines(now)]
        if bits is None:
            whose = "no guest has" if self._machine is None else f"vm{self._machine} has"
            about = "none: " + whose + (" a coverage map" if self._machine is None else " no coverage map")
            lines.append(self._text(f"{about}; programs built with the SDK's coverage have one", width))
        else:
            legend = self._legend(width)
            rows = height - len(lines) - len(legend)
            if rows < MAP_ROWS_MIN:
                rows, legend = height - len(lines), []
            lines += [] if rows < 1 else self._map(bits, new, rows, width)
            lines += legend
        for line in lines:
            line.truncate(width)
        return lines

    def _text(self, text: str, width: int) -> Line:
        line = Line()
        line.append(text, self._colour("quiet"))
        line.truncate(width)
        return line

    def _head(self, view: SessionView, now: Reading, bits: bytes | None, new: bytes) -> Line:
        line = Line()
        if self._machine is None:
            line.append("all", self._colour("foreground", bold=True))
        else:
            line.append(f"vm{self._machine}", Style(color=machine_colour(self._machine, dark=is_dark(self))))
        if bits is not None:
            line.append(f"  {edges(bits):,} edges", self._colour("foreground"))
            since = self._marked or self._rests[0]
            if since is not None:
                count = edges(new)
                line.append(f"  {count:,} new", self._colour("accent" if count else "quiet", bold=count > 0))
                kind = "M at " if self._marked is not None else ""
                branch = f"{since.branch}@" if since.branch != now.branch else ""
                line.append(f" since {kind}{branch}{seconds(since.position.vns)}", self._colour("quiet"))
        if (now.branch, now.position) != (view.branch.name, view.position):
            line.append(f"  as of {seconds(now.position.vns)}", self._colour("past"))
        return line

    def _machines(self, now: Reading) -> Line:
        line = Line()
        for machine, bits in enumerate(now.maps):
            line.append(f"vm{machine} ", Style(color=machine_colour(machine, dark=is_dark(self))))
            line.append("none  " if bits is None else f"{edges(bits):,}  ", self._colour("quiet"))
        return line

    def _map(self, bits: bytes, new: bytes, rows: int, width: int) -> list[Line]:
        # Pictures come while the cursor moves, mostly with the same maps.
        key = (bits, new, rows, width, is_dark(self))
        if key != self._drawn_for:
            self._drawn_for, self._drawn = key, self._draw_map(bits, new, rows, width)
        return self._drawn

    def _draw_map(self, bits: bytes, new: bytes, rows: int, width: int) -> list[Line]:
        shades = [self._colour(name) for name in (_SHADES[0], *_SHADES)]
        accent = self._colour("accent", bold=True)
        lines: list[Line] = []
        for tiles in fold(bits, new, min(rows, CELLS // width), width):
            line = Line()
            for tile in tiles:
                line.append(tile.character, accent if tile.new else shades[tile.level])
            lines.append(line)
        return lines

    def _legend(self, width: int) -> list[Line]:
        pieces = [(RAMP[at + 1], name) for at, name in enumerate(CLASSES)]
        line = Line()
        for character, name in pieces:
            line.append(f"{character}", self._colour("foreground", bold=True))
            line.append(f" {name}  " if width >= 64 else f"{name} ", self._colour("quiet"))
        line.append("1…8", self._colour("accent", bold=True))
        line.append(" new", self._colour("quiet"))
        return [line]
