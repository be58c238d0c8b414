"""The consoles: one machine's serial console as a terminal with its log above it, and all consoles by virtual time.

What is shown is the console at the cursor: bytes are fed to a terminal emulator as far as the cursor has come. Going
back restores a copy of the terminal from before and feeds from there. Lines that have left the emulated screen are
rendered from the log when they come into sight.
"""

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.message import Message
from textual.strip import Strip

from cc_tui.session import SessionView
from cc_tui.tui.keymap import CONSOLE_KEYS, MERGED_KEYS, pane_bindings
from cc_tui.tui.lines import LineView, row_strip, wrap_row
from cc_tui.tui.terminal import Terminal, read_line
from cc_tui.tui.theme import machine_colour
from chaoscontrol.timetravel import ConsoleLog, MergedLines
from chaoscontrol.timetravel.console_log import Entry

SCREEN_ROWS = 24
"""What programs on a serial line assume, since nothing tells them."""
COLUMNS_MIN = 20
LINE_CELLS_MAX = 4000
LINE_BYTES_MAX = 16 * 1024
"""A longer line is cut where it is rendered from the log."""
REFEED_BYTES = 64 * 1024
"""How far back the emulator starts where no copy of it is near; what a guest drew before that is not seen."""
COPY_EVERY_BYTES = 16 * 1024
COPIES_MAX = 64
SEARCH_BYTES = 1 << 20

DETACH_KEYS = ("ctrl+right_square_bracket", "escape")

_SEQUENCES = {
    "enter": b"\r", "tab": b"\t", "backspace": b"\x7f", "delete": b"\x1b[3~", "insert": b"\x1b[2~",
    "up": b"\x1b[A", "down": b"\x1b[B", "right": b"\x1b[C", "left": b"\x1b[D", "home": b"\x1b[H", "end": b"\x1b[F",
    "pageup": b"\x1b[5~", "pagedown": b"\x1b[6~", "shift+tab": b"\x1b[Z", "ctrl+backslash": b"\x1c",
    "ctrl+circumflex_accent": b"\x1e", "ctrl+underscore": b"\x1f", "ctrl+at": b"\0",
    "f1": b"\x1bOP", "f2": b"\x1bOQ", "f3": b"\x1bOR", "f4": b"\x1bOS", "f5": b"\x1b[15~", "f6": b"\x1b[17~",
    "f7": b"\x1b[18~", "f8": b"\x1b[19~", "f9": b"\x1b[20~", "f10": b"\x1b[21~", "f11": b"\x1b[23~",
    "f12": b"\x1b[24~",
}  # fmt: skip
"""What a terminal sends for keys that are no characters (xterm's defaults; VT220 for the function keys)."""


def key_bytes(key: str, character: str | None) -> bytes:
    """What a key types at a serial console; nothing if it has no meaning there."""
    if key in _SEQUENCES:
        return _SEQUENCES[key]
    if key.startswith("ctrl+") and len(key) == 6 and key[5].isalpha():
        return bytes([ord(key[5].lower()) & 0x1F])
    if character is not None and character.isprintable():
        return character.encode()
    return b""


def search_log(log: ConsoleLog, text: str, end: int) -> int | None:
    """The last line, of those before offset `end`, that holds `text`; ignores ASCII case unless `text` has capitals."""
    pattern = text.encode()
    fold = text == text.lower()
    while end > 0 and pattern:
        start = max(end - SEARCH_BYTES, 0)
        piece = log.read(start, end)
        found = (piece.lower() if fold else piece).rfind(pattern)
        if found >= 0:
            return log.line_of(start + found)
        end = 0 if start == 0 else start + len(pattern) - 1
    return None


class SerialConsole(LineView):
    """The serial console of one machine."""

    BINDINGS = pane_bindings(CONSOLE_KEYS)

    class Typed(Message):
        """Keys for the guest."""

        def __init__(self, machine: int, data: bytes) -> None:
            super().__init__()
            self.machine = machine
            self.data = data

    class Attached(Message):
        """The console has begun or ceased to take keys."""

        def __init__(self, console: "SerialConsole") -> None:
            super().__init__()
            self.console = console

    class Visit(Message):
        """Somebody wants to be where a line had just been printed."""

        def __init__(self, machine: int, line: int) -> None:
            super().__init__()
            self.machine = machine
            self.line = line

    def __init__(self, machine: int) -> None:
        super().__init__(id=f"console-{machine}")
        self.machine = machine
        self.attached = False
        self._log: ConsoleLog | None = None
        self._total = 0
        self._terminal = Terminal()
        self._copies: list[tuple[int, Terminal]] = []
        self._view: SessionView | None = None

    # ---- following the cursor ---------------------------------------------------------------------------------------

    def show(self, view: SessionView) -> None:
        """Show the console as it is in this picture."""
        self._view = view
        log, total = view.consoles[self.machine], view.console_totals[self.machine]
        if log is self._log and total == self._total:
            return
        shared = 0 if self._log is None else log.shared_with(self._log)
        forget = shared < min(self._total, total)
        if min(shared, total) < self._total:
            self._go_back(min(shared, total))
        self._log = log
        self._feed_to(total)
        self.changed(forget=forget)

    def _go_back(self, limit: int) -> None:
        """Take the emulator back to at most `limit` bytes."""
        while self._copies and self._copies[-1][0] > limit:
            self._copies.pop()
        self._total, terminal = self._copies[-1] if self._copies else (0, Terminal(self._columns, SCREEN_ROWS))
        self._terminal = terminal.copy()

    @property
    def _columns(self) -> int:
        return max(self.content_size.width, COLUMNS_MIN)

    def _feed_to(self, total: int) -> None:
        assert self._log is not None, "there is a log to feed from"
        if total - self._total > REFEED_BYTES:
            self._start_near(total - REFEED_BYTES)
        while self._total < total:
            piece = self._log.read(self._total, min(total, self._total + COPY_EVERY_BYTES))
            self._terminal.feed(piece)
            self._total += len(piece)
            if self._total - (self._copies[-1][0] if self._copies else 0) >= COPY_EVERY_BYTES:
                self._copies.append((self._total, self._terminal.copy()))
                if len(self._copies) > COPIES_MAX:
                    del self._copies[::2]

    def _start_near(self, offset: int) -> None:
        """Start a fresh emulator at the first line that begins at or after `offset`, or within a long line."""
        assert self._log is not None, "there is a log to start in"
        line = self._log.lines_begun(offset)
        start = self._log.line_start(line)
        if start >= self._log.total:
            line, start = self._log.line_of(offset), offset
        self._terminal, self._total = Terminal(self._columns, SCREEN_ROWS, line=line), start

    def on_resize(self) -> None:
        if self._log is not None and self._terminal.columns != self._columns:
            total = self._total
            self._copies.clear()
            self._terminal, self._total = Terminal(self._columns, SCREEN_ROWS), 0
            self._feed_to(total)
        self.changed(forget=True)

    # ---- lines ------------------------------------------------------------------------------------------------------

    def line_count(self) -> int:
        return self._terminal.line + 1

    def is_final(self, line: int) -> bool:
        return line < self._terminal.first_line

    def render_log_line(self, line: int) -> list[Strip]:
        if line < self._terminal.first_line and self._log is not None:
            start = self._log.line_start(line)
            data = self._log.line_bytes(line, min(self._total, start + LINE_BYTES_MAX))
            return wrap_row(read_line(data, LINE_CELLS_MAX), self._columns, dark=self.dark)
        return [self._screen_row(row) for row in self._screen_rows().get(line, [])]

    def _screen_rows(self) -> dict[int, list[int]]:
        """Rows of the emulated screen by the line that they show; rows never go back in the log."""
        rows: dict[int, list[int]] = {}
        line = 0
        for at in range(self._terminal.last_row + 1):
            line = max(line, min(self._terminal.rows[at].line, self._terminal.line))
            rows.setdefault(line, []).append(at)
        return rows

    def _screen_row(self, at: int) -> Strip:
        row = self._terminal.rows[at]
        shown = at == self._terminal.y and self._terminal.cursor_visible and self.following
        if not shown:
            return row_strip(row, 0, self._columns, dark=self.dark)
        x = min(self._terminal.x, self._columns - 1)
        with_cursor = row.copy()
        with_cursor.fill_to(x + 1)
        strip = row_strip(with_cursor, 0, self._columns, dark=self.dark)
        before, under, after = strip.crop(0, x), strip.crop(x, x + 1), strip.crop(x + 1)
        return Strip.join([before, Strip([Segment(under.text or " ", self._cursor_style())]), after])

    def _cursor_style(self) -> Style:
        name = "lines--cursor" if self.attached else "lines--cursor-idle"
        return self.get_component_rich_style(name, partial=True)

    def line_vns(self, line: int) -> int | None:
        if self._log is None or line >= self._log.lines_begun(self._total):
            return None
        return self._log.line_date(line, self._total)

    def search(self, text: str, before: int) -> int | None:
        if self._log is None:
            return None
        return search_log(self._log, text, min(self._log.line_start(before), self._total))

    # ---- typing -----------------------------------------------------------------------------------------------------

    def action_enter(self) -> None:
        if self.selected is None or self.line_vns(self.selected) is None:
            self.action_attach()
        else:
            self.post_message(self.Visit(self.machine, self.selected))

    def action_attach(self) -> None:
        if not self.attached:
            self.follow()
            self._set_attached(True)

    def detach(self) -> None:
        """Take no more keys."""
        if self.attached:
            self._set_attached(False)

    def _set_attached(self, attached: bool) -> None:
        self.attached = attached
        self.set_class(attached, "-attached")
        self.changed()
        self.post_message(self.Attached(self))

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return self.attached and key not in DETACH_KEYS

    def on_key(self, event: events.Key) -> None:
        if not self.attached:
            return
        event.stop()
        event.prevent_default()
        if event.key in DETACH_KEYS:
            self.detach()
        elif data := key_bytes(event.key, event.character):
            self.post_message(self.Typed(self.machine, data))

    def on_paste(self, event: events.Paste) -> None:
        if self.attached:
            event.stop()
            self.post_message(self.Typed(self.machine, event.text.replace("\r\n", "\r").replace("\n", "\r").encode()))

    def on_blur(self) -> None:
        # The focus may be back since.
        if self.screen.focused is not self:
            self.detach()


class MergedConsole(LineView):
    """The lines of all consoles by the time at which they were written."""

    BINDINGS = pane_bindings(MERGED_KEYS)
    Visit = SerialConsole.Visit

    def __init__(self) -> None:
        super().__init__(id="console-all")
        self._logs: tuple[ConsoleLog, ...] = ()
        self._totals: tuple[int, ...] = ()
        self._merged = MergedLines(())
        self._lines = self._merged.at(0, ())

    def show(self, view: SessionView) -> None:
        """Show the consoles as they are in this picture."""
        forget = view.consoles != self._logs
        if forget:
            self._merged, self._logs = MergedLines(view.consoles), view.consoles
        elif view.console_totals == self._totals:
            return
        self._totals = view.console_totals
        self._merged.update(self._totals)
        self._lines = self._merged.at(view.position.vns, self._totals)
        self.changed(forget=forget)

    def line_count(self) -> int:
        return len(self._lines)

    def is_final(self, line: int) -> bool:
        return line < self._lines.ended

    def line_key(self, line: int) -> object:
        return self._lines[line][1:]

    def render_log_line(self, line: int) -> list[Strip]:
        vns, machine, own = self._lines[line]
        log = self._logs[machine]
        data = log.line_bytes(own, min(self._totals[machine], log.line_start(own) + LINE_BYTES_MAX))
        quiet = self.get_component_rich_style("lines--time", partial=True)
        colour = Style(color=machine_colour(machine, dark=self.dark))
        time = Segment(f"{vns // 1_000_000_000:4}.{vns % 1_000_000_000 // 1000:06} ", quiet)
        tag = f"vm{machine}"
        indent = len(time.text) + len(tag) + 3
        rows = wrap_row(read_line(data, LINE_CELLS_MAX), max(self.content_size.width - indent, 10), dark=self.dark)
        head = [time, Segment(f"{tag} ", colour), Segment("│ ", colour)]
        rest = [Segment(" " * (indent - 2)), Segment("│ ", colour)]
        return [Strip([*(head if at == 0 else rest), *row]) for at, row in enumerate(rows)]

    def line_vns(self, line: int) -> int | None:
        return self._lines[line].vns if line < len(self._lines) else None

    def search(self, text: str, before: int) -> int | None:
        found = [
            (index, machine)
            for machine, log in enumerate(self._logs)
            if (index := self._search_one(machine, log, text, before)) is not None
        ]
        return max(found)[0] if found else None

    def _search_one(self, machine: int, log: ConsoleLog, text: str, before: int) -> int | None:
        """Where the last line of one machine with `text` is, of those before the line at `before`."""
        end = self._totals[machine]
        while (line := search_log(log, text, end)) is not None:
            date = log.line_date(line, self._totals[machine])
            index = self._lines.index(Entry(date, machine, line))
            if index < before:
                return index
            if before < self._lines.ended:
                # Nothing dated later than the line at `before` can come before it.
                line = min(line, log.lines_before(self._lines[before].vns + 1, self._totals[machine]))
            end = log.line_start(line)
        return None

    def action_enter(self) -> None:
        if self.selected is not None:
            _, machine, line = self._lines[self.selected]
            self.post_message(self.Visit(machine, line))


__all__ = ["MergedConsole", "SerialConsole", "key_bytes", "search_log"]
