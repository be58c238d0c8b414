"""Type-ahead: what is typed while nobody reads it waits in the terminal, unseen, for the next prompt."""

from __future__ import annotations

import signal
import sys
import termios
import tty
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode

if TYPE_CHECKING:
    from collections.abc import Generator

ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def kept_type_ahead() -> Generator[None]:
    """Do not echo what is typed, and keep it byte by byte. Without a person at a terminal it does nothing.

    Signals that end the process raise SystemExit meanwhile, so that the terminal is left as it was; so it is for the
    main thread.
    """
    if not diagnostics.has_terminal():
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    handlers = {number: signal.signal(number, _leave) for number in ENDS}
    try:
        # TCSANOW: what has been typed so far is kept too.
        tty.setcbreak(terminal, termios.TCSANOW)
        yield
    finally:
        with suppress(termios.error):  # a terminal that is gone
            termios.tcsetattr(terminal, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: object) -> None:
    raise SystemExit(ExitCode.INTERRUPTED)


__all__ = ["kept_type_ahead"]
