"""The grid: cells of a terminal, the cursor, and everything that programs can do to them.

Owns the screen's state; the bytes that ask for it are read by terminal.py. Operations take any numbers and clamp them.
"""

import re
import unicodedata
from typing import NamedTuple, Self

from rich.cells import cell_len

DEFAULT_COLOUR = -1
RGB = 1 << 24
"""Colours: DEFAULT_COLOUR, 0 to 255 of the xterm palette, or RGB | 0xRRGGBB."""

BOLD, DIM, ITALIC, UNDERLINE, BLINK, REVERSE, CONCEAL, STRIKE = (1 << at for at in range(8))

COMBINING_MAX = 4
"""Combining characters kept per cell."""
TAB_COLUMNS = 8

_ASCII = re.compile(r"[ -~]+")
_LINE_DRAWING = dict(
    zip(map(ord, "`afgjklmnopqrstuvwxyz{|}~"), "◆▒°±┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·", strict=True)
)  # DEC special graphics, VT100 user guide table 3-9


class Attributes(NamedTuple):
    """How a cell looks."""

    foreground: int = DEFAULT_COLOUR
    background: int = DEFAULT_COLOUR
    flags: int = 0


PLAIN = Attributes()


class Row:
    """One row: a text and attributes per cell, as far as something was written; the rest is blank.

    A double-width character fills its first cell; the second holds the empty string.
    """

    __slots__ = ("attributes", "line", "texts")

    def __init__(self, line: int) -> None:
        self.texts: list[str] = []
        self.attributes: list[Attributes] = []
        self.line = line
        """The line of the log, counted in newlines, that its content began on."""

    def copy(self) -> "Row":
        row = Row(self.line)
        row.texts, row.attributes = self.texts[:], self.attributes[:]
        return row

    def fill_to(self, column: int) -> None:
        """Have at least `column` cells."""
        missing = column - len(self.texts)
        if missing > 0:
            self.texts += [" "] * missing
            self.attributes += [PLAIN] * missing

    def put(self, column: int, texts: list[str] | str, attributes: Attributes) -> None:
        """Overwrite cells from `column` on."""
        self.fill_to(column)
        end = column + len(texts)
        if column > 0 and column < len(self.texts) and self.texts[column] == "":
            self.texts[column - 1] = " "
        if end < len(self.texts) and self.texts[end] == "":
            self.texts[end] = " "
        self.texts[column:end] = texts
        self.attributes[column:end] = [attributes] * len(texts)

    def erase(self, start: int, end: int, attributes: Attributes) -> None:
        """Blank cells [start, end) with the background of `attributes`."""
        blank = PLAIN if attributes.background == DEFAULT_COLOUR else Attributes(background=attributes.background)
        if blank is PLAIN and end >= len(self.texts):
            del self.texts[start:], self.attributes[start:]
            if self.texts and start > 0 and cell_len(self.texts[-1]) == 2:
                self.texts[-1] = " "
            return
        self.put(start, [" "] * max(end - start, 0), blank)

    @property
    def text(self) -> str:
        """The characters, without trailing blanks."""
        return "".join(self.texts).rstrip()


def shown_character(character: str) -> str:
    """What stands for a character: itself if it is one to look at.

    Controls of writing direction and other invisible ones could rearrange what surrounds them; fonts' private
    characters have no known width.
    """
    if character.isprintable():
        return character
    category = unicodedata.category(character)
    return " " if category == "Zs" else "" if category == "Cf" else "\ufffd"


class Grid:
    """A screen of `columns` x `height` cells."""

    def __init__(self, columns: int = 80, height: int = 24, *, line: int = 0) -> None:
        """`line`: number of the log's line that the first byte fed belongs to."""
        self.columns, self.height = columns, height
        self.line: int = line
        """Newlines fed, plus the number at the start: the log's line that is being written."""
        self.reset()

    def reset(self) -> None:
        """RIS: everything as it was made, but for the lines counted."""
        self.rows = [Row(self.line) for _ in range(self.height)]
        self.x = self.y = 0
        self.cursor_visible = True
        self.pen = PLAIN
        self.top, self.bottom = 0, self.height - 1
        self.wrap, self.origin, self.insert = True, False, False
        self._pending_wrap = False
        self.line_drawing = [False, False]
        self.shift = 0
        self._saved = (0, 0, PLAIN)
        self._main: list[Row] | None = None
        """The main screen while the alternate one is shown."""

    def copy(self) -> Self:
        """An independent one in the same state."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.rows = [row.copy() for row in self.rows]
        other.line_drawing = self.line_drawing[:]
        other._main = None if self._main is None else [row.copy() for row in self._main]
        return other

    @property
    def first_line(self) -> int:
        """The log's line that the first row shows; all before it have left the screen."""
        return self.rows[0].line

    @property
    def last_row(self) -> int:
        """The last row that holds anything, or the cursor."""
        last = self.height - 1
        while last > self.y and not self.rows[last].text:
            last -= 1
        return last

    # ---- writing ----------------------------------------------------------------------------------------------------

    def draw(self, text: str) -> None:
        """Write characters at the cursor."""
        if self.line_drawing[self.shift]:
            text = text.translate(_LINE_DRAWING)
        if self.insert or not _ASCII.fullmatch(text):
            for character in text:
                self._draw_one(shown_character(character))
            return
        at = 0
        while at < len(text):
            self._wrap_if_pending()
            room = self.columns - self.x
            if not self.wrap and len(text) - at > room:
                # The last column is overwritten again and again.
                text = text[: at + room - 1] + text[-1]
            piece = text[at : at + room]
            self.rows[self.y].put(self.x, list(piece), self.pen)
            self._advance(len(piece))
            at += len(piece)

    def _draw_one(self, character: str) -> None:
        width = cell_len(character)
        if width == 0:
            self._combine(character)
            return
        width = min(width, 2)
        self._wrap_if_pending()
        if self.x + width > self.columns:
            if not self.wrap or width > self.columns:
                return
            self._pending_wrap = True
            self._wrap_if_pending()
        row = self.rows[self.y]
        if self.insert:
            row.fill_to(self.x)
            row.texts[self.x : self.x] = [" "] * width
            row.attributes[self.x : self.x] = [PLAIN] * width
            del row.texts[self.columns :], row.attributes[self.columns :]
        row.put(self.x, [character, ""][:width], self.pen)
        self._advance(width)

    def _combine(self, character: str) -> None:
        row, at = self.rows[self.y], self.x if self._pending_wrap else self.x - 1
        while 0 < at < len(row.texts) and row.texts[at] == "":
            at -= 1
        if 0 <= at < len(row.texts) and len(row.texts[at]) <= COMBINING_MAX:
            combined = row.texts[at] + character
            if cell_len(combined) == cell_len(row.texts[at]):
                row.texts[at] = combined

    def set_wrap(self, on: bool) -> None:
        """DECAWM: does writing past the last column go on in the next row?"""
        self.wrap, self._pending_wrap = on, False

    def _advance(self, width: int) -> None:
        self.x += width
        if self.x >= self.columns:
            self.x = self.columns - 1
            self._pending_wrap = self.wrap

    def _wrap_if_pending(self) -> None:
        if self._pending_wrap:
            self.x, self._pending_wrap = 0, False
            self.index()

    # ---- scrolling --------------------------------------------------------------------------------------------------

    def index(self) -> None:
        """A row down, scrolling at the bottom margin."""
        self._pending_wrap = False
        if self.y == self.bottom:
            self.scroll_up(1, self.top)
        elif self.y < self.height - 1:
            self.y += 1
            row = self.rows[self.y]
            if not row.texts:
                row.line = self.line

    def reverse_index(self) -> None:
        """A row up, scrolling at the top margin."""
        self._pending_wrap = False
        if self.y == self.top:
            self.scroll_down(1, self.top)
        elif self.y > 0:
            self.y -= 1

    def scroll_up(self, count: int, top: int) -> None:
        """Move rows from `top` to the bottom margin up; blank ones come from below."""
        count = min(count, self.bottom - top + 1)
        del self.rows[top : top + count]
        self.rows[self.bottom - count + 1 : self.bottom - count + 1] = [Row(self.line) for _ in range(count)]

    def scroll_down(self, count: int, top: int) -> None:
        """Move rows from `top` to the bottom margin down; blank ones come from above."""
        count = min(count, self.bottom - top + 1)
        del self.rows[self.bottom - count + 1 : self.bottom + 1]
        line = self.rows[top].line if top < len(self.rows) else self.line
        self.rows[top:top] = [Row(line) for _ in range(count)]

    def soft_reset(self) -> None:
        """DECSTR: the modes, not the cells."""
        self.pen = PLAIN
        self.top, self.bottom = 0, self.height - 1
        self.origin, self.insert, self._pending_wrap = False, False, False
        self.cursor_visible = True

    def fill_with_e(self) -> None:
        """DECALN: a screenful of E."""
        for row in self.rows:
            row.put(0, ["E"] * self.columns, PLAIN)
        self.x = self.y = 0

    def alternate(self, on: bool, *, keep_cursor: bool) -> None:
        """Show the alternate screen, or the main one again."""
        if on == (self._main is not None):
            return
        if on:
            if keep_cursor:
                self.save()
            self._main = self.rows
            self.rows = [Row(self._main[0].line) for _ in range(self.height)]
        else:
            assert self._main is not None, "checked above"
            self.rows, self._main = self._main, None
            if keep_cursor:
                self.restore()
        self._pending_wrap = False

    def save(self) -> None:
        """DECSC: remember cursor and pen."""
        self._saved = (self.x, self.y, self.pen)

    def restore(self) -> None:
        """DECRC: back to what `save` remembered."""
        self.x, self.y, self.pen = self._saved
        self._pending_wrap = False

    def move_to(self, x: int, y: int) -> None:
        """The cursor to a column and row, counted from 0; from the top margin in origin mode."""
        top, bottom = (self.top, self.bottom) if self.origin else (0, self.height - 1)
        self.y = min(max(y + (top if self.origin else 0), top), bottom)
        self.x = min(max(x, 0), self.columns - 1)
        self._pending_wrap = False

    def move_by(self, dx: int, dy: int) -> None:
        """The cursor relative to where it is."""
        # Vertical moves stop at the margins if they begin within them (ECMA-48 8.3.22, VT510 CUU).
        top = self.top if self.y >= self.top else 0
        bottom = self.bottom if self.y <= self.bottom else self.height - 1
        self.y = min(max(self.y + dy, top), bottom)
        self.x = min(max(self.x + dx, 0), self.columns - 1)
        self._pending_wrap = False

    def erase_display(self, how: int) -> None:
        """ED: 0 to the end, 1 to the cursor, 2 and 3 everything."""
        if how == 0:
            first, last = self.y + 1, self.height
        elif how == 1:
            first, last = 0, self.y
        elif how in (2, 3):
            first, last = 0, self.height
        else:
            return
        for row in self.rows[first:last]:
            row.erase(0, self.columns, self.pen)
        if how >= 2 and self._main is None:
            # What the screen showed stays in the log above it.
            for row in self.rows:
                row.line = self.line
        elif how < 2:
            self.erase_line(how)

    def erase_line(self, how: int) -> None:
        """EL: 0 to the end, 1 to the cursor, 2 everything."""
        row = self.rows[self.y]
        if how == 0:
            row.erase(self.x, self.columns, self.pen)
        elif how == 1:
            row.erase(0, self.x + 1, self.pen)
        elif how == 2:
            row.erase(0, self.columns, self.pen)
        self._pending_wrap = False

    def insert_cells(self, count: int) -> None:
        """ICH: blanks at the cursor."""
        row = self.rows[self.y]
        row.fill_to(self.x)
        count = min(count, self.columns - self.x)
        row.texts[self.x : self.x] = [" "] * count
        row.attributes[self.x : self.x] = [PLAIN] * count
        del row.texts[self.columns :], row.attributes[self.columns :]

    def delete_cells(self, count: int) -> None:
        """DCH: cells from the cursor on."""
        row = self.rows[self.y]
        del row.texts[self.x : self.x + count], row.attributes[self.x : self.x + count]

    def insert_rows(self, count: int) -> None:
        """IL: blank rows at the cursor."""
        if self.top <= self.y <= self.bottom:
            self.scroll_down(count, self.y)
            self.x, self._pending_wrap = 0, False

    def delete_rows(self, count: int) -> None:
        """DL: rows from the cursor on."""
        if self.top <= self.y <= self.bottom:
            self.scroll_up(count, self.y)
            self.x, self._pending_wrap = 0, False

    def set_margins(self, top: int, bottom: int) -> None:
        """DECSTBM: rows counted from 1; 0 for the last one."""
        top = max(top, 1) - 1
        bottom = min(bottom or self.height, self.height) - 1
        if top < bottom:
            self.top, self.bottom = top, bottom
            self.move_to(0, 0)

    def tabulate(self, count: int) -> None:
        """To the tab stop `count` further on."""
        column = self.x // TAB_COLUMNS + count
        self.move_to_column(column * TAB_COLUMNS)

    def tabulate_back(self, count: int) -> None:
        """To the tab stop `count` back."""
        column = -(-self.x // TAB_COLUMNS) - count
        self.move_to_column(column * TAB_COLUMNS)

    def move_to_column(self, x: int) -> None:
        """The cursor within its row."""
        self.x = min(max(x, 0), self.columns - 1)
        self._pending_wrap = False

    def move_to_row(self, y: int) -> None:
        """The cursor to a row, as `move_to` counts it."""
        self.move_to(self.x, y)
