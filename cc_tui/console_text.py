"""Makes guest output safe for a person's terminal.

Guest output is hostile: what it sends may move the cursor, change the title, or make the terminal type. Here escape
sequences and control characters are removed; a terminal emulator interprets them in the interface.
"""

from __future__ import annotations

import codecs
import re

# ECMA-48: control sequences (5.4), control strings (5.6); ECMA-35: other escape sequences (13.1). Lengths are bounded:
# what is longer is shown as text, so that a guest cannot silence its console with a sequence that never ends.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]"
    r"|[\]PX^_][^\x07\x1b]{0,1024}(?:\x07|\x1b\\)"
    r"|[ -/]{1,8}[0-~]"
    r"|[0-OQ-WYZ\\`-~])"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}|[\]PX^_][^\x07\x1b]{0,1024}\x1b?|[ -/]{0,8})")
_BIDI_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""They reorder what surrounds them."""
UNSAFE_CODES = frozenset((*range(0x20), 0x7F, *range(0x80, 0xA0), *_BIDI_CONTROLS)) - set(map(ord, "\t\n\r"))
"""Code points that never appear in the output."""
_REMOVE_UNSAFE = dict.fromkeys(UNSAFE_CODES)

STRING_CHARS_MAX = 1024
"""Longest control string that is recognised as one."""


def safe_line(text: str) -> str:
    """One line that cannot command a terminal."""
    return EscapeStripper().feed(text.encode("utf-8", "replace")).replace("\n", " ").replace("\r", " ")


class EscapeStripper:
    """Decodes console bytes piece by piece, without escape sequences and control characters but tab, CR and LF.

    How the bytes are cut into pieces has no influence on the text.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, data: bytes) -> str:
        """The safe text of the next bytes; an unfinished sequence at the end waits for the rest."""
        text = self._held + self._decoder.decode(data)
        self._held = ""
        shown: list[str] = []
        at = 0
        while (start := text.find("\x1b", at)) >= 0:
            shown.append(text[at:start])
            if sequence := _SEQUENCE.match(text, start):
                at = sequence.end()
            elif _UNFINISHED.fullmatch(text, start):
                self._held = text[start:]
                at = len(text)
            else:
                at = start + 1
        shown.append(text[at:])
        return "".join(shown).translate(_REMOVE_UNSAFE)
