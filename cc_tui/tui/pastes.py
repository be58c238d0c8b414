"""Pastes are text: what a terminal marks as pasted (xterm's mode 2004) holds no keys, whatever is in it.

Textual's parser takes an escape sequence within a paste for keys. This one leaves the control characters of pastes
out, as xterm does, except tabs and ends of lines.
"""

from collections.abc import Iterable

from textual._xterm_parser import XTermParser
from textual.drivers import linux_driver
from textual.message import Message

BEGIN, END = "\x1b[200~", "\x1b[201~"
_CONTROLS = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r"}


class PasteParser(XTermParser):
    """See the module."""

    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._pasting = False
        self._before = ""
        """What came last, if a BEGIN may have begun in it."""
        self._kept = ""
        """What came last of a paste and may be the beginning of its END."""

    def feed(self, data: str) -> Iterable[Message]:
        text = self._without_controls(data)
        # Nothing stands for the end of all input.
        return super().feed(text) if text or not data else ()

    def tick(self) -> Iterable[Message]:
        messages = list(super().tick())
        if messages:
            self._before = ""  # an escape was waited for in vain, so no BEGIN goes on
        return messages

    def _without_controls(self, data: str) -> str:
        out: list[str] = []
        while data:
            if self._pasting:
                text, end, data = (self._kept + data).partition(END)
                self._kept = "" if end else text[len(text) - _overlap(text) :]
                self._pasting = not end
                out += [text.removesuffix(self._kept).translate(_CONTROLS), end]
            else:
                known = len(self._before)
                text, begin, data = (self._before + data).partition(BEGIN)
                self._before = "" if begin else text[-len(BEGIN) + 1 :]
                self._pasting = bool(begin)
                out.append((text + begin)[known:])
        return "".join(out)


def _overlap(text: str) -> int:
    """How many characters at the end of a text could begin an END."""
    return next((size for size in range(len(END) - 1, 0, -1) if text.endswith(END[:size])), 0)


def use_paste_parser() -> None:
    """Have terminals read by it: the driver does not ask which parser to use."""
    linux_driver.XTermParser = PasteParser  # pyright: ignore[reportPrivateImportUsage]


__all__ = ["PasteParser", "use_paste_parser"]
