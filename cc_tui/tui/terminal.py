"""A terminal emulator for guest consoles: bytes in, rows of cells out.

Guest output is hostile, so everything is bounded: sequences, parameters, cells, combining characters. What is not
understood is swallowed; nothing is ever answered, and nothing raises. It covers what programs on a Linux serial
console use: ECMA-48 and the VT100 subset of xterm, colours, scroll regions, the alternate screen, line drawing.

pyte would do the same; it manages 0.3 MB/s where this does several, raises on sequences that any guest can print
(`ESC [ ? 6 n`, `ESC [ ? 3 m`, ...), and cannot say which line of the log a row came from. It serves as the reference
in the tests.
"""

import codecs
import re
from collections.abc import Callable

from cc_tui.tui.grid import (
    BLINK,
    BOLD,
    CONCEAL,
    DEFAULT_COLOUR,
    DIM,
    ITALIC,
    PLAIN,
    REVERSE,
    RGB,
    STRIKE,
    UNDERLINE,
    Attributes,
    Grid,
    Row,
)

SEQUENCE_MAX = 4096
"""Longest escape sequence, characters; beyond it the rest is shown as text, so that no guest silences its console."""
PARAMETERS_MAX = 32
PARAMETER_MAX = 9999


# Parameters and intermediates as in ECMA-48 5.4; a string ends with BEL or ST, or is given up at a line end.
_SEQUENCE = re.compile(
    r"\x1b(?:"
    r"\[(?P<private>[<-?]?)(?P<parameters>[0-9;:]*)(?P<between>[<-?]*[ -/]*)(?P<final>[@-~])"
    r"|(?P<string>[\]PX^_])[^\x07\x1b\n]*(?:\x07|\x1b\\)"
    r"|(?P<charset>[()])(?P<set>[0-~])"
    r"|(?P<wide>[ -'*-/]+[0-~])"
    r"|(?P<single>[0-OQ-WYZ`-~\\])"
    r")"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)")
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f]+")


class Terminal(Grid):
    """A grid that bytes are fed to."""

    def __init__(self, columns: int = 80, height: int = 24, *, line: int = 0) -> None:
        """`line`: number of the log's line that the first byte fed belongs to."""
        super().__init__(columns, height, line=line)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def copy(self) -> "Terminal":
        """An independent terminal in the same state."""
        other = super().copy()
        assert isinstance(other, Terminal), "a copy is of the same class"
        other._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        other._decoder.setstate(self._decoder.getstate())
        return other

    # ---- input ------------------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Interpret the next bytes; an unfinished sequence or character waits for the rest."""
        text = self._held + self._decoder.decode(data)
        self._held = ""
        at, end = 0, len(text)
        while at < end:
            character = text[at]
            if character >= " " and (match := _TEXT.match(text, at)) is not None:
                self.draw(match[0])
                at = match.end()
            elif character != "\x1b":
                self._control(character)
                at += 1
            elif (match := _SEQUENCE.match(text, at)) is not None:
                self._sequence(match)
                at = match.end()
            elif end - at < SEQUENCE_MAX and _UNFINISHED.fullmatch(text, at) is not None:
                self._held = text[at:]
                return
            else:
                at += 1

    def _control(self, character: str) -> None:
        if character == "\n":
            self.line += 1
            self.index()
        elif character in "\v\f":
            self.index()
        elif character == "\r":
            self.move_to_column(0)
        elif character == "\b":
            self.move_to_column(self.x - 1)
        elif character == "\t":
            self.tabulate(1)
        elif character in "\x0e\x0f":
            self.shift = int(character == "\x0e")

    # ---- sequences --------------------------------------------------------------------------------------------------

    def _sequence(self, match: re.Match[str]) -> None:
        if match["final"] is not None:
            if not match["between"]:
                self._control_sequence(match["private"], match["parameters"], match["final"])
            elif match["between"] == "!" and match["final"] == "p":
                self.soft_reset()
        elif match["charset"] is not None:
            self.line_drawing[match["charset"] == ")"] = match["set"] == "0"
        elif match["wide"] == "#8":
            self.fill_with_e()
        elif match["single"] is not None:
            self._escape(match["single"])

    def _escape(self, final: str) -> None:
        if final == "7":
            self.save()
        elif final == "8":
            self.restore()
        elif final == "D":
            self.index()
        elif final == "E":
            self.x = 0
            self.index()
        elif final == "M":
            self.reverse_index()
        elif final == "c":
            self.reset()

    def _control_sequence(self, private: str, parameters: str, final: str) -> None:
        if final == "m" and not private:
            self._select_graphics(parameters)
            return
        numbers = [
            min(int(number), PARAMETER_MAX) if number and len(number) < 10 else (PARAMETER_MAX if number else 0)
            for number in parameters.replace(":", ";").split(";")[:PARAMETERS_MAX]
        ]
        if private == "?" and final in "hl":
            self._set_private_modes(numbers, final == "h")
        elif private and final not in "JK":
            return
        elif final in "hl":
            if 4 in numbers:
                self.insert = final == "h"
        else:
            action = _ACTIONS.get(final)
            if action is not None:
                action(self, [*numbers, 0])

    def _set_private_modes(self, modes: list[int], on: bool) -> None:
        for mode in modes:
            if mode == 6:
                self.origin = on
                self.move_to(0, 0)
            elif mode == 7:
                self.set_wrap(on)
            elif mode == 25:
                self.cursor_visible = on
            elif mode in (47, 1047, 1049):
                self.alternate(on, keep_cursor=mode == 1049)

    # ---- attributes -------------------------------------------------------------------------------------------------

    def _select_graphics(self, parameters: str) -> None:
        numbers = [int(number) if number and len(number) < 10 else 0 for number in re.split("[;:]", parameters)]
        foreground, background, flags = self.pen
        at = 0
        while at < min(len(numbers), PARAMETERS_MAX):
            number = numbers[at]
            at += 1
            if number == 0:
                foreground, background, flags = PLAIN
            elif number in _FLAGS_ON:
                flags |= _FLAGS_ON[number]
            elif number in _FLAGS_OFF:
                flags &= ~_FLAGS_OFF[number]
            elif 30 <= number <= 37:
                foreground = number - 30
            elif 90 <= number <= 97:
                foreground = number - 82
            elif 40 <= number <= 47:
                background = number - 40
            elif 100 <= number <= 107:
                background = number - 92
            elif number == 39:
                foreground = DEFAULT_COLOUR
            elif number == 49:
                background = DEFAULT_COLOUR
            elif number in (38, 48):
                colour, at = _extended_colour(numbers, at)
                if colour is not None and number == 38:
                    foreground = colour
                elif colour is not None:
                    background = colour
        self.pen = Attributes(foreground, background, flags)


_FLAGS_ON = {1: BOLD, 2: DIM, 3: ITALIC, 4: UNDERLINE, 5: BLINK, 6: BLINK, 7: REVERSE, 8: CONCEAL, 9: STRIKE,
             21: UNDERLINE}  # fmt: skip
_FLAGS_OFF = {22: BOLD | DIM, 23: ITALIC, 24: UNDERLINE, 25: BLINK, 27: REVERSE, 28: CONCEAL, 29: STRIKE}


def _extended_colour(numbers: list[int], at: int) -> tuple[int | None, int]:
    """The colour of `38;5;N` or `38;2;R;G;B` from after the 38, and where it ends (ISO 8613-6, as xterm has it)."""
    kind = numbers[at] if at < len(numbers) else 0
    if kind == 5 and at + 1 < len(numbers):
        return min(numbers[at + 1], 255), at + 2
    if kind == 2 and at + 3 < len(numbers):
        red, green, blue = (min(number, 255) for number in numbers[at + 1 : at + 4])
        return RGB | red << 16 | green << 8 | blue, at + 4
    return None, at + 1


_Action = Callable[[Grid, list[int]], None]
_ACTIONS: dict[str, _Action] = {
    # Cursor movement, ECMA-48 8.3.14 to 8.3.22; a parameter of 0 means 1.
    "A": lambda t, n: t.move_by(0, -max(n[0], 1)),
    "B": lambda t, n: t.move_by(0, max(n[0], 1)),
    "C": lambda t, n: t.move_by(max(n[0], 1), 0),
    "D": lambda t, n: t.move_by(-max(n[0], 1), 0),
    "E": lambda t, n: t.move_by(-t.columns, max(n[0], 1)),
    "F": lambda t, n: t.move_by(-t.columns, -max(n[0], 1)),
    "G": lambda t, n: t.move_to_column(max(n[0], 1) - 1),
    "`": lambda t, n: t.move_to_column(max(n[0], 1) - 1),
    "a": lambda t, n: t.move_by(max(n[0], 1), 0),
    "e": lambda t, n: t.move_by(0, max(n[0], 1)),
    "d": lambda t, n: t.move_to_row(max(n[0], 1) - 1),
    "H": lambda t, n: t.move_to(max(n[1], 1) - 1, max(n[0], 1) - 1),
    "f": lambda t, n: t.move_to(max(n[1], 1) - 1, max(n[0], 1) - 1),
    "I": lambda t, n: t.tabulate(max(n[0], 1)),
    "Z": lambda t, n: t.tabulate_back(max(n[0], 1)),
    # Erasing and editing.
    "J": lambda t, n: t.erase_display(n[0]),
    "K": lambda t, n: t.erase_line(n[0]),
    "X": lambda t, n: t.rows[t.y].erase(t.x, min(t.x + max(n[0], 1), t.columns), t.pen),
    "@": lambda t, n: t.insert_cells(max(n[0], 1)),
    "P": lambda t, n: t.delete_cells(max(n[0], 1)),
    "L": lambda t, n: t.insert_rows(max(n[0], 1)),
    "M": lambda t, n: t.delete_rows(max(n[0], 1)),
    "S": lambda t, n: t.scroll_up(max(n[0], 1), t.top),
    "T": lambda t, n: t.scroll_down(max(n[0], 1), t.top),
    "r": lambda t, n: t.set_margins(n[0], n[1]),
    "s": lambda t, _: t.save(),
    "u": lambda t, _: t.restore(),
}


def read_line(data: bytes, columns: int) -> Row:
    """One line of a log, without its line ending, as a row by itself; wider ones are cut at `columns`."""
    terminal = Terminal(columns, 1)
    terminal.set_wrap(False)
    terminal.feed(data.rstrip(b"\r\n"))
    return terminal.rows[0]
