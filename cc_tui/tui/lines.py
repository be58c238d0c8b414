"""LineView: a pane of log lines that are rendered when they are seen.

The lines belong to somebody else, who knows how many there are and what each holds; a million of them cost nothing.
The view follows the last line, or is anchored at a line of its own (`_top`), so that what is read stays put while
more comes in. It never asks for the height of lines out of sight.
"""

from abc import abstractmethod
from collections import OrderedDict
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from cc_tui.tui.terminal import Row
from cc_tui.tui.theme import cell_style, is_dark

CACHED_LINES = 2000
WHEEL_ROWS = 3


def wrap_row(row: Row, width: int, *, dark: bool) -> list[Strip]:
    """A row in pieces of at most `width` cells, one at least."""
    strips: list[Strip] = []
    start, end = 0, len(row.texts)
    while True:
        stop = min(start + width, end)
        if start < stop < end and row.texts[stop] == "":
            # A double-width character does not fit the piece's last cell.
            stop = max(stop - 1, start + 1)
        strips.append(row_strip(row, start, stop, dark=dark))
        if stop >= end:
            return strips
        start = stop


def row_strip(row: Row, start: int, end: int, *, dark: bool) -> Strip:
    """Cells [start, end) of a row."""
    segments: list[Segment] = []
    end = min(end, len(row.texts))
    at = start
    while at < end:
        attributes, run = row.attributes[at], at
        while run < end and row.attributes[run] == attributes:
            run += 1
        segments.append(Segment("".join(row.texts[at:run]), cell_style(attributes, dark)))
        at = run
    return Strip(segments)


class LineView(Widget, can_focus=True):
    """See the module. Subclasses say what the lines are."""

    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar = {
        "lines--selected", "lines--selected-elsewhere", "lines--cursor", "lines--cursor-idle", "lines--time",
    }  # fmt: skip

    class Browsed(Message):
        """Another line was selected, or none is any more."""

        def __init__(self, view: "LineView") -> None:
            super().__init__()
            self.view = view

        @property
        def control(self) -> "LineView":
            return self.view

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self._top: tuple[int, int] | None = None
        """The line and its row at the top of the pane; None while following."""
        self._selected: int | None = None
        self._rows: list[tuple[int, Strip]] | None = None
        """What is in sight, with the lines that the rows belong to."""
        self._cache: OrderedDict[object, list[Strip]] = OrderedDict()

    # ---- for subclasses ---------------------------------------------------------------------------------------------

    @abstractmethod
    def line_count(self) -> int:
        """How many lines there are at the cursor."""

    @abstractmethod
    def render_log_line(self, line: int) -> list[Strip]:
        """The rows of a line, wrapped to the pane's width."""

    @abstractmethod
    def line_vns(self, line: int) -> int | None:
        """When a line began, virtual nanoseconds."""

    @abstractmethod
    def search(self, text: str, before: int) -> int | None:
        """The last line before line `before` that holds `text`, ignoring case unless it has capitals."""

    def is_final(self, line: int) -> bool:
        """May the rows of this line be kept?"""
        return line + 1 < self.line_count()

    def line_key(self, line: int) -> object:
        """What a line is known by while its number may change."""
        return line

    def changed(self, *, forget: bool = False) -> None:
        """There are other lines now; `forget`: also what was rendered before is not so any more."""
        if forget:
            self._cache.clear()
        count = self.line_count()
        if count == 0:
            self._selected = self._top = None
        elif self._selected is not None and self._selected >= count:
            self._selected = count - 1
            self._top = None
            self._reveal(self._selected)
        elif self._top is not None and self._top[0] >= count:
            self._top = None
        self._rows = None
        self.refresh()

    # ---- what is in sight -------------------------------------------------------------------------------------------

    @property
    def selected(self) -> int | None:
        """The selected line."""
        return self._selected

    @property
    def following(self) -> bool:
        """Does the view stay at the last line?"""
        return self._top is None

    @property
    def dark(self) -> bool:
        return is_dark(self)

    def _line(self, line: int) -> list[Strip]:
        key = self.line_key(line)
        known = self._cache.get(key)
        if known is not None:
            self._cache.move_to_end(key)
            return known
        rows = self.render_log_line(line)
        if self.is_final(line):
            self._cache[key] = rows
            if len(self._cache) > CACHED_LINES:
                self._cache.popitem(last=False)
        return rows

    def _in_sight(self) -> list[tuple[int, Strip]]:
        if self._rows is None:
            height = self.content_size.height
            self._rows = self._last_rows(height) if self._top is None else self._rows_from(self._top, height)
            if self._top is not None and len(self._rows) < height:
                # Less than a screenful is left below: that is the end, and following it costs nothing to see.
                self._rows = self._last_rows(height)
        return self._rows

    def _last_rows(self, height: int, end: int | None = None) -> list[tuple[int, Strip]]:
        """The last `height` rows of lines before `end`."""
        line = (self.line_count() if end is None else end) - 1
        rows: list[tuple[int, Strip]] = []
        while line >= 0 and len(rows) < height:
            rows[:0] = [(line, strip) for strip in self._line(line)]
            line -= 1
        return rows[-height:] if height else []

    def _rows_from(self, top: tuple[int, int], height: int) -> list[tuple[int, Strip]]:
        line, skip = top
        count = self.line_count()
        rows: list[tuple[int, Strip]] = []
        while line < count and len(rows) < height:
            rows += [(line, strip) for strip in self._line(line)[skip:]]
            line, skip = line + 1, 0
        return rows[:height]

    def render_line(self, y: int) -> Strip:
        base = self.visual_style.rich_style
        rows = self._in_sight()
        width = self.content_size.width
        if not 0 <= y < len(rows):
            return Strip.blank(width, base)
        line, strip = rows[y]
        if line == self._selected:
            base += self._selection_style()
        return strip.adjust_cell_length(width, None).apply_style(base)

    def _selection_style(self) -> Style:
        name = "lines--selected" if self.has_focus else "lines--selected-elsewhere"
        return self.get_component_rich_style(name, partial=True)

    def on_resize(self) -> None:
        self.changed(forget=True)

    # ---- moving about -----------------------------------------------------------------------------------------------

    def _row_top(self, row: int) -> tuple[int, int]:
        """Line and row-of-line of a row in sight."""
        rows = self._in_sight()
        line = rows[row][0]
        first = next(at for at, entry in enumerate(rows) if entry[0] == line)
        skipped = self._top[1] if first == 0 and self._top is not None else 0
        if first == 0 and self._top is None:
            skipped = len(self._line(line)) - sum(1 for entry in rows if entry[0] == line)
        return line, row - first + max(skipped, 0)

    def scroll_rows(self, count: int) -> None:
        """Move the view by `count` rows, up if negative."""
        rows = self._in_sight()
        if not rows:
            return
        line, skip = self._row_top(0)
        while count < 0 and (line, skip) > (0, 0):
            if skip == 0:
                line -= 1
                skip = len(self._line(line))
                continue
            skip -= 1
            count += 1
        while count > 0 and line < self.line_count():
            skip += 1
            count -= 1
            if skip >= len(self._line(line)):
                line, skip = line + 1, 0
        self._top = (line, skip)
        self._rows = None
        if self._at_bottom():
            self._top = None
        if self._selected is not None:
            shown = self._in_sight()
            self._selected = min(max(self._selected, shown[0][0]), shown[-1][0]) if shown else None
        self._after_move()

    def _at_bottom(self) -> bool:
        assert self._top is not None, "asked while anchored only"
        height = self.content_size.height
        return len(self._rows_from(self._top, height + 1)) <= height

    def _reveal(self, line: int) -> None:
        """Bring a line into sight with the least movement."""
        self._rows = None
        shown = self._in_sight()
        lines = [entry[0] for entry in shown]
        whole = len(self._line(line))
        if lines.count(line) >= min(whole, max(self.content_size.height, 1)):
            if self._top is None:
                self._top = self._row_top(0)
            return
        if not lines or line < lines[0] or (line == lines[0] and whole <= self.content_size.height):
            self._top = (line, 0)
        else:
            rows = self._last_rows(self.content_size.height, line + 1)
            first = rows[0][0]
            self._top = (first, len(self._line(first)) - sum(1 for entry in rows if entry[0] == first))
        self._rows = None

    def select(self, line: int) -> None:
        """Select a line and show it."""
        count = self.line_count()
        if count == 0:
            return
        self._selected = min(max(line, 0), count - 1)
        self._reveal(self._selected)
        self._after_move()

    def follow(self) -> None:
        """Select nothing and stay at the last line."""
        self._selected = self._top = None
        self._after_move()

    def find(self, text: str) -> bool:
        """Select the last line above that holds `text`."""
        before = self.line_count() if self._selected is None else self._selected
        found = self.search(text, before)
        if found is not None:
            self.select(found)
        return found is not None

    def _after_move(self) -> None:
        self._rows = None
        self.refresh()
        self.post_message(self.Browsed(self))

    def action_select(self, by: int) -> None:
        if self._selected is None:
            if by < 0 and self.line_count():
                shown = self._in_sight()
                # A pane that has no size yet will follow the last line.
                self.select(shown[-1][0] if shown else self.line_count() - 1)
            return
        if self._selected + by >= self.line_count():
            self.follow()
        else:
            self.select(self._selected + by)

    def action_page(self, pages: int) -> None:
        rows = max(self.content_size.height - 1, 1)
        self.scroll_rows(pages * rows)
        shown = self._in_sight()
        if shown and not self.following:
            self._selected = shown[0 if pages < 0 else -1][0]
        elif self.following:
            self._selected = None
        self._after_move()

    def action_first(self) -> None:
        self.select(0)

    def action_follow(self) -> None:
        self.follow()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.scroll_rows(-WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.scroll_rows(WHEEL_ROWS)

    def on_click(self, event: events.Click) -> None:
        row = event.get_content_offset(self)
        shown = self._in_sight()
        if row is not None and row.y < len(shown) and (not self.following or event.chain > 1):
            self.select(shown[row.y][0])
