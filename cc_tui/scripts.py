"""Running a script without a person: from a file or standard input, on a session, to an exit code."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from cc_tui import diagnostics
from cc_tui.commands.engine import reason
from cc_tui.commands.language import CommandError, quote
from cc_tui.console_text import safe_line
from cc_tui.diagnostics import ExitCode
from cc_tui.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from cc_tui.session import Session

STANDARD_INPUT = "-"


def run_script(session: Session, script: str, *, as_json: bool = False, at: str | None = None) -> int:
    """Carry out a script's lines as they come; FAILED if a property was broken that it did not say would be, ENGINE if
    it is not recorded to the end.

    at: the place from which on.

    Raises ChaosControlError for the first line that fails, KeyboardInterrupt.
    """
    name = "standard input" if script == STANDARD_INPUT else script
    with _opened(script) as lines, session:
        if at is not None:
            session.execute(f"goto {quote(at)}")
        shell = Shell(session, as_json=as_json)
        shell.run_lines(_read(lines, name), name)
        broken = sorted(session.broken())
    for property_name in broken:
        diagnostics.error(f"{name}: a property was broken: {safe_line(property_name)}")
    if broken:
        return ExitCode.FAILED
    return ExitCode.ENGINE if session.recording_failed else ExitCode.OK


@contextmanager
def _opened(script: str) -> Generator[TextIO]:
    if script == STANDARD_INPUT:
        yield sys.stdin
        return
    try:
        lines = Path(script).expanduser().open(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(reason(error), where=script, hint="give a script's file, or - for standard input") from None
    with lines:
        yield lines


def _read(lines: TextIO, name: str) -> Iterator[str]:
    try:
        yield from lines
    except UnicodeDecodeError as error:
        raise CommandError(reason(error), where=name) from None
    except OSError as error:
        raise CommandError(reason(error), where=name) from None


__all__ = ["STANDARD_INPUT", "run_script"]
