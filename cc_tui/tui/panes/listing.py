"""Listing: a side pane of entries of which one is selected, with lines of its own above and below them.

Only what is in sight is drawn, so a hundred thousand entries cost what a screenful does. Panes say how many entries
there are and draw one at a time; moving about, filtering and the selection are here.
"""

from abc import abstractmethod
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.strip import Strip
from textual.widget import Widget

from cc_tui.session import SessionView
from cc_tui.tui.guest_text import plain
from cc_tui.tui.keymap import LIST_KEYS
from cc_tui.tui.panes.pane import Ask, SidePane
from cc_tui.tui.rows import Line
from cc_tui.tui.theme import variable_style

WHEEL_ROWS = 3
ENTRIES_IN_SIGHT_MIN = 3
"""Lines above the entries give way before there are fewer of them than this."""
ENTRIES_BEFORE_FOOT = 6
"""So many entries, if there are so many, have their rows before there are lines below them."""


class Listing(SidePane, Widget, can_focus=True):
    """See the module. Subclasses bind LIST_KEYS, or some of them."""

    PANE_KEYS = LIST_KEYS
    ALLOW_SELECT = False
    ABSENT: ClassVar[str] = "nothing yet"
    """What stands there while there are no entries."""

    def __init__(self) -> None:
        super().__init__(id=self.NAME, classes="side-pane")
        self.view: SessionView | None = None
        self._selected = 0
        self._top = 0
        self._frame: list[tuple[Line, int | None]] | None = None
        """The rows in sight, each with the entry that it shows."""
        self._styles_known: dict[tuple[str, str | None, bool], Style] = {}

    # ---- for subclasses ---------------------------------------------------------------------------------------------

    @abstractmethod
    def entry_count(self) -> int:
        """How many entries there are."""

    @abstractmethod
    def draw_entry(self, index: int, width: int) -> Line:
        """One entry as a row."""

    def draw_head(self, width: int, rows: int) -> list[Line]:
        """At most `rows` lines above the entries."""
        return []

    def draw_foot(self, width: int, rows: int) -> list[Line]:
        """At most `rows` lines below the entries, about the selected one for instance."""
        return []

    def way_to(self, index: int) -> list[str]:
        """The command lines that lead to an entry's moment; nothing if it has none."""
        return []

    def changed(self, selected: int | None = None) -> None:
        """There is something else to draw; `selected`: the entry to select now."""
        if selected is not None:
            self._selected = selected
        self._selected = min(max(self._selected, 0), max(self.entry_count() - 1, 0))
        self._frame = None
        self.refresh()

    def colour(self, name: str, *, background: str | None = None, bold: bool = False) -> Style:
        """A style from names of the theme's variables."""
        style = self._styles_known.get((name, background, bold))
        if style is None:
            style = self._styles_known[name, background, bold] = variable_style(
                self, name, background=background, bold=bold
            )
        return style

    def line(self, *pieces: tuple[str, str] | str) -> Line:
        """A row of texts, each with the name of its colour."""
        row = Line()
        for piece in pieces:
            text, name = (piece, "foreground") if isinstance(piece, str) else piece
            row.append(text, self.colour(name))
        return row

    # ---- the pane ---------------------------------------------------------------------------------------------------

    @property
    def selected(self) -> int | None:
        """The selected entry."""
        return self._selected if self.entry_count() else None

    def hints(self, view: SessionView) -> list[tuple[str, str]]:
        going = self.selected is not None and self.way_to(self.selected)
        return [("enter", "go there")] if going else []

    def filter(self, text: str) -> None:
        self.pattern = text
        self.filtered()
        self.changed()

    def filtered(self) -> None:
        """The filter is another one: find the entries that match it."""

    def matches(self, text: str) -> bool:
        """Does a text pass the filter? Ignores case unless the filter has capitals."""
        if not self.pattern:
            return True
        return self.pattern in (text.lower() if self.pattern == self.pattern.lower() else text)

    # ---- drawing ----------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        self.changed()

    def notify_style_update(self) -> None:
        super().notify_style_update()
        self._styles_known.clear()
        self._frame = None

    def render_line(self, y: int) -> Strip:
        width, base = self.content_size.width, self.visual_style.rich_style
        frame = self._in_sight()
        line, entry = frame[y] if y < len(frame) else (Line(), None)
        if entry is not None and entry == self._selected:
            colours = "selection" if self.has_focus else "panel"
            base += Style(bgcolor=variable_style(self, colours).color)
        return line.strip(width, base)

    def _in_sight(self) -> list[tuple[Line, int | None]]:
        if self._frame is None:
            self._frame = self._draw(self.content_size.width, self.content_size.height)
        return self._frame

    def _draw(self, width: int, height: int) -> list[tuple[Line, int | None]]:
        if self.view is None or width <= 0:
            return []
        count = self.entry_count()
        spare = max(height - ENTRIES_IN_SIGHT_MIN, 0)
        head = self.draw_head(width, spare)[:spare]
        if self.pattern:
            head = [*head, self._filter_line(count)]
        spare = max(height - len(head) - min(max(count, ENTRIES_IN_SIGHT_MIN), ENTRIES_BEFORE_FOOT), 0)
        foot = self.draw_foot(width, spare)[:spare]
        rows = max(height - len(head) - len(foot), 0)
        self._top = min(max(self._top, self._selected - rows + 1, 0), self._selected, max(count - rows, 0))
        out: list[tuple[Line, int | None]] = [(line, None) for line in head]
        if not count:
            out.append((self.line((self.ABSENT if not self.pattern else "no entry matches", "quiet")), None))
        for index in range(self._top, min(self._top + rows, count)):
            out.append((self.draw_entry(index, width), index))
        out += [(Line(), None)] * (height - len(foot) - len(out))
        out += [(line, None) for line in foot]
        for line, _ in out:
            line.truncate(width)
        return out[:height]

    def _filter_line(self, count: int) -> Line:
        return self.line((f"/{plain(self.pattern)}", "accent"), (f"  {count} match; esc shows all", "quiet"))

    # ---- moving about -----------------------------------------------------------------------------------------------

    def action_cursor_up(self) -> None:
        self.changed(self._selected - 1)

    def action_cursor_down(self) -> None:
        self.changed(self._selected + 1)

    def action_page_up(self) -> None:
        self.changed(self._selected - self._page())

    def action_page_down(self) -> None:
        self.changed(self._selected + self._page())

    def action_first(self) -> None:
        self.changed(0)

    def action_last(self) -> None:
        self.changed(self.entry_count() - 1)

    def _page(self) -> int:
        return max(sum(1 for _, entry in self._in_sight() if entry is not None) - 1, 1)

    def action_select(self) -> None:
        if self.selected is not None:
            for line in self.way_to(self.selected):
                self.post_message(Ask(line))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.changed(self._selected - WHEEL_ROWS)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.changed(self._selected + WHEEL_ROWS)

    def on_click(self, event: events.Click) -> None:
        at, frame = event.get_content_offset(self), self._in_sight()
        entry = frame[at.y][1] if at is not None and at.y < len(frame) else None
        if entry is not None:
            self.changed(entry)
            if event.chain > 1:
                self.action_select()


__all__ = ["Listing"]
