"""The bars: tabs above; below the panes the timeline, the status with the current moment, and hints or a message."""

from abc import abstractmethod
from bisect import bisect_right
from dataclasses import dataclass

from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from cc_tui.commands import Notice
from cc_tui.commands.language import format_speed
from cc_tui.session import Progress, SessionView
from cc_tui.tui.guest_text import plain
from cc_tui.tui.panes.events import landmarks
from cc_tui.tui.rows import Line
from cc_tui.tui.theme import is_dark, machine_colour, variable_style
from cc_tui.tui.timeline import FAILURE, SPAN, Window, draw
from chaoscontrol.timetravel import format_seconds

BAR_CELLS = 16
_PRIORITY = "bim!"
"""Letters of events on the timeline; the later ones win a shared cell. Faults win over all but the last."""


def short_count(count: float) -> str:
    """`152 M`, `3.2 G`, `870`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:.0f} "


def short_time(ns: int) -> str:
    """`440 us`, `83.6 ms`, `12.345 s`."""
    if ns < 1_000_000:
        return f"{ns / 1e3:.0f} us"
    return f"{ns / 1e6:.1f} ms" if ns < 1_000_000_000 else f"{ns / 1e9:.3f} s"


@dataclass(frozen=True, slots=True)
class Tab:
    """A tab: the pane's name as `view` takes it, its label, and the machine whose colour it has."""

    name: str
    label: str
    machine: int | None = None


class Bar(Widget):
    """One row that draws itself from colours of the theme."""

    ALLOW_SELECT = False

    @abstractmethod
    def draw(self, width: int) -> Line:
        """The row, for so many cells."""

    def render_line(self, y: int) -> Strip:
        width, base = self.content_size.width, self.visual_style.rich_style
        return self.draw(width).strip(width, base)

    def colour(self, name: str, *, background: str | None = None, bold: bool = False) -> Style:
        """A style from names of theme variables."""
        return variable_style(self, name, background=background, bold=bold)


class TabBar(Bar):
    """Which panes there are, and which is in view."""

    class Chosen(Message):
        """A tab was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, tabs: list[Tab]) -> None:
        super().__init__(id="tabs")
        self.tabs = tabs
        self._current = ""
        self._stopped: frozenset[int] = frozenset()
        self._first = 0
        """The first tab in sight."""
        self._begin = 0
        """Where it begins, in cells."""
        self._ends: list[int] = []
        """Where each tab in sight ends."""

    def show(self, current: str, view: SessionView) -> None:
        """Mark the current tab, and the machines that have stopped."""
        if (current, view.stopped) != (self._current, self._stopped):
            self._current, self._stopped = current, view.stopped
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        at = self._first + bisect_right(self._ends, event.x)
        if event.x < self._begin:
            at = self._first - 1
        if at < len(self.tabs):
            self.post_message(self.Chosen(self.tabs[at].name))

    def draw(self, width: int) -> Line:
        text = Line()
        tight = sum(len(tab.label) + 5 for tab in self.tabs) > width
        drawn = [self._tab(at, tab, tight=tight) for at, tab in enumerate(self.tabs, 1)]
        self._first = self._first_in_sight([tab.cells for tab in drawn], width)
        if self._first:
            text.append("‹", self.colour("quiet"))
        self._begin, self._ends = text.cells, []
        for at, tab in enumerate(drawn[self._first :], self._first + 1):
            last = at == len(drawn)
            if text.cells + tab.cells > width - (0 if last else 1):
                text.pad_to(width - 1)
                text.append("›", self.colour("quiet"))
                break
            text.extend(tab)
            self._ends.append(text.cells)
        name = "cc-tui "
        if width - text.cells > len(name) + 2:
            text.append(name.rjust(width - text.cells), self.colour("faint"))
        return text

    def _tab(self, at: int, tab: Tab, *, tight: bool) -> Line:
        line, here = Line(), tab.name == self._current
        ground = "panel" if here else None
        label = self.colour("foreground" if here else "quiet", background=ground, bold=here)
        line.append(" ", label)
        if at <= 10 and not tight:
            line.append(f"{at % 10} ", self.colour("quiet" if here else "faint", background=ground))
        if tab.machine is not None:
            mark = "!" if tab.machine in self._stopped else "●" if here else "○"
            line.append(f"{mark} ", Style(color=machine_colour(tab.machine, dark=is_dark(self)), bgcolor=label.bgcolor))
        line.append(f"{tab.label} ", label)
        return line

    def _first_in_sight(self, widths: list[int], width: int) -> int:
        """The first tab to draw so that the current one is in sight; 0 if all fit."""
        names = [tab.name for tab in self.tabs]
        current = names.index(self._current) if self._current in names else 0
        first = 0
        while first < current:
            # One cell at the left for what is before, one at the right for what is behind.
            marks = (1 if first else 0) + (1 if current + 1 < len(widths) else 0)
            if sum(widths[first : current + 1]) + marks <= width:
                break
            first += 1
        return first


class Timeline(Bar):
    """The cursor's line of history from its beginning to its end, with what happened on it."""

    def __init__(self) -> None:
        super().__init__(id="timeline")
        self._view: SessionView | None = None

    def show(self, view: SessionView) -> None:
        self._view = view
        self.refresh()

    def draw(self, width: int) -> Line:
        text = Line()
        view = self._view
        if view is None:
            return text
        end_vns = max(view.known_end.vns, view.position.vns, 1)
        label = f" {short_time(end_vns)} "
        cells = width - len(label) - 3
        if cells < 10:
            return text
        window = Window(0, end_vns, cells)
        cursor = min(window.cell(view.position.vns), cells - 1)
        glyphs = self._glyphs(view, window)
        text.append(" 0 ", self.colour("quiet"))
        at = 0
        for stop in sorted({*glyphs, cursor, cells}):
            self._span(text, at, min(stop, cursor), cells)
            self._span(text, max(at, cursor + 1), stop, cells, passed=False)
            if stop == cursor:
                text.append("◆" if view.at_end else "◇", self.colour("primary" if view.at_end else "past", bold=True))
            elif stop < cells:
                character, name = glyphs[stop]
                passed = stop <= cursor
                text.append(character, self.colour(name if passed or character == "!" else "quiet", bold=passed))
            at = stop + 1
        text.append(label, self.colour("quiet"))
        return text

    def _glyphs(self, view: SessionView, window: Window) -> dict[int, tuple[str, str]]:
        """What stands in which cell, with its colour while the cursor has passed it."""
        letters: dict[int, str] = {}
        for entry in landmarks(view):
            at = min(window.cell(entry.at.vns), window.cells - 1)
            if _PRIORITY.index(entry.letter) >= _PRIORITY.index(letters.get(at, "b")):
                letters[at] = entry.letter
        glyphs = {at: (letter, "warning" if letter == "!" else "foreground") for at, letter in letters.items()}
        for at, glyph in draw(view.cluster.faults, view.cluster.failures, window).items():
            known = letters.get(at, "")
            if glyph.rank == FAILURE or not known or (glyph.rank > SPAN and known != "!"):
                glyphs[at] = (glyph.character, "warning")
        return glyphs

    def _span(self, text: Line, start: int, stop: int, cells: int, *, passed: bool = True) -> None:
        if start < stop <= cells:
            text.append(("━" if passed else "─") * (stop - start), self.colour("primary" if passed else "faint"))


class StatusBar(Bar):
    """What the session is doing, and the current moment, always."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self._view: SessionView | None = None
        self._progress: Progress | None = None
        self._attached: int | None = None

    def show(self, view: SessionView) -> None:
        self._view = view
        self.refresh()

    def show_progress(self, progress: Progress | None) -> None:
        self._progress = progress
        self.refresh()

    def show_attached(self, machine: int | None) -> None:
        """The machine that keys go to, if any."""
        self._attached = machine
        self.refresh()

    def draw(self, width: int) -> Line:
        text = Line()
        view = self._view
        if view is None:
            return text
        if self._progress is not None:
            return self._render_progress(text, self._progress, width)
        state, foreground, background = self._state(view)
        text.append(f" {state} ", self.colour(foreground, background=background, bold=True))
        position = view.position
        ordinal = f"+{position.ordinal}" if position.ordinal else ""
        text.append(f"  {view.branch.name}", self.colour("foreground", bold=True))
        text.append(f"@{format_seconds(position.vns)}{ordinal}", self.colour("foreground"))
        pieces = [
            ("tick ", f"{view.tick:,}"),
            (f"vm{view.focus} ", f"{view.instrets[view.focus]:,}"),
            ("#", view.moment.machines[view.focus].digest if view.moment else "········"),
        ]
        for label, value in pieces:
            if text.cells + len(label) + len(value) + 2 <= width:
                text.append(f"  {label}", self.colour("quiet"))
                text.append(value, self.colour("foreground"))
        self._right(text, view, width)
        return text

    def _state(self, view: SessionView) -> tuple[str, str, str]:
        if self._attached is not None:
            return f"KEYS → vm{self._attached}", "background", "accent"
        if view.running:
            speed = "max" if view.flat_out else format_speed(view.speed)
            return f"RUN {speed}", "background", "primary"
        if len(view.stopped) == len(view.instrets) and view.at_end:
            return "STOPPED", "background", "warning"
        return ("PAUSED", "foreground", "panel") if view.at_end else ("PAST", "background", "past")

    def _right(self, text: Line, view: SessionView, width: int) -> None:
        right = f"{short_count(view.rate)}insn/s " if view.running and view.rate else ""
        if not right and not view.at_end:
            right = f"{short_time(view.known_end.vns - view.position.vns)} before the end "
        room = width - text.cells - len(right)
        if right and room >= 2:
            text.append(" " * room + right, self.colour("quiet"))

    def _render_progress(self, text: Line, progress: Progress, width: int) -> Line:
        doing = progress.text[: max(width - 52, 12)]
        text.append(f" {doing} ", self.colour("background", background="accent", bold=True))
        if progress.fraction is not None:
            done = round(progress.fraction * BAR_CELLS)
            text.append("  " + "━" * done, self.colour("accent"))
            text.append("─" * (BAR_CELLS - done), self.colour("faint"))
            text.append(f" {progress.fraction:4.0%}", self.colour("foreground"))
        text.append(f"  {format_seconds(progress.vns)[:-3]} s", self.colour("foreground"))
        if progress.rate:
            text.append(f"  {short_count(progress.rate)}insn/s", self.colour("quiet"))
        text.append("  esc stops it", self.colour("quiet"))
        return text


class HintBar(Bar):
    """What the next keys could be, or the last message, until the next key."""

    def __init__(self) -> None:
        super().__init__(id="hints")
        self._hints: list[tuple[str, str]] = []
        self._pinned: list[tuple[str, str]] = []
        self._notice: Notice | None = None

    def show_hints(self, hints: list[tuple[str, str]], pinned: list[tuple[str, str]] | None = None) -> None:
        """(keys, what they do) of the most useful keys now; those `pinned` stand at the right and always fit."""
        if (hints, pinned or []) != (self._hints, self._pinned):
            self._hints, self._pinned = hints, pinned or []
            self.refresh()

    def show_notice(self, notice: Notice | None) -> None:
        if notice != self._notice:
            self._notice = notice
            self.refresh()

    @property
    def notice(self) -> Notice | None:
        """The message that is shown."""
        return self._notice

    def draw(self, width: int) -> Line:
        text = Line()
        if self._notice is not None:
            name, mark = {"error": ("error", "✗ "), "warning": ("warning", "! ")}.get(
                self._notice.severity, ("foreground", "· ")
            )
            text.append(f" {mark}", self.colour(name, bold=True))
            text.append(plain(self._notice.text, max(width - 4, 1)), self.colour(name))
            return text
        pinned = Line()
        for keys, meaning in self._pinned:
            pinned.extend(self._hint(keys, meaning))
        for keys, meaning in self._hints:
            hint = self._hint(keys, meaning)
            if text.cells + hint.cells + pinned.cells > width:
                break
            text.extend(hint)
        if pinned.cells:
            text.pad_to(width - pinned.cells)
            text.extend(pinned)
        return text

    def _hint(self, keys: str, meaning: str) -> Line:
        line = Line()
        line.append(f" {keys}", self.colour("primary", bold=True))
        line.append(f" {meaning} ", self.colour("quiet"))
        return line
