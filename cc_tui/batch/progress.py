"""What a search says on stderr while it runs: one line on a terminal, rewritten; a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

from cc_tui import diagnostics

if TYPE_CHECKING:
    from .summary import Summary

PERIOD_S = 0.5
QUIET_PERIOD_S = 15.0
"""Where stderr is no terminal."""


class Progress:
    """The progress of one search."""

    def __init__(self, summary: Summary, total: int | None) -> None:
        self._summary = summary
        self._total = total
        self._terminal = sys.stderr.isatty()
        self._begun = self._shown = time.monotonic()
        self._width = 0

    def show(self) -> None:
        """Says how far the search is, if it is time to."""
        now = time.monotonic()
        if now - self._shown < (PERIOD_S if self._terminal else QUIET_PERIOD_S):
            return
        self._shown = now
        s = self._summary
        seconds = now - self._begun
        of = f" of {self._total}" if self._total is not None else ""
        text = f"{s.name}: {s.branches}{of} branches, {s.failing_count} failing, {seconds:.0f} s, {s.speed}"
        if not self._terminal:
            diagnostics.note(text)
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        diagnostics.note(text)

    def clear(self) -> None:
        """Takes the rewritten line away."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
