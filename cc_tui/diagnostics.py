"""The only owner of stderr and of the process's exit codes.

stdout carries data; whatever is said to a person goes through here. A user's mistake is one line that says what is
wrong, where, and what to try; tracebacks are for --debug.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

PROGRAM = "cc-tui"


class ExitCode:
    """What the process ends with: integers by name."""

    OK: Final = 0
    """Nothing failed."""
    FAILED: Final = 1
    """A property failed, or the guest did not do what was asked of it."""
    USAGE: Final = 2
    """Something on the command line cannot be used."""
    ENGINE: Final = 3
    """The engine or a recording is at fault."""
    TIME_LIMIT: Final = 4
    """A time limit passed before what was asked for."""
    INTERRUPTED: Final = 130
    """Interrupted by ctrl+c."""


class ExitError(Exception):
    """Ends the program with a code after everything has been said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


_state = {"debug": False, "transient": False}


def set_debug(on: bool) -> None:
    """Whether errors show their traceback."""
    _state["debug"] = on


def note(text: str) -> None:
    """One line for the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def error(text: str) -> None:
    """The line that says what went wrong."""
    note(f"{PROGRAM}: error: {' '.join(text.split())}")


def has_terminal() -> bool:
    """Is there a person to show something to, and to answer?"""
    return sys.stdin.isatty() and sys.stdout.isatty()


def transient(text: str) -> None:
    """A line that the next one replaces; only where stderr is a terminal."""
    if sys.stderr.isatty():
        _state["transient"] = True
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
        sys.stderr.write(f"\r\x1b[K{text[: max(columns - 1, 20)]}")
        sys.stderr.flush()


def end_transient() -> None:
    """Take such a line away again."""
    if _state["transient"]:
        _state["transient"] = False
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def run(main: Callable[[], None]) -> int:
    """Runs the program; turns every way of ending into an exit code and at most one line."""
    _open_missing_streams()
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None and sys.stdout.errors == "strict":
        reconfigure(errors="backslashreplace")  # what this locale has no character for ends nothing
    try:
        main()
        sys.stdout.flush()
        return ExitCode.OK
    except ExitError as e:
        return _flush(e.code)
    except KeyboardInterrupt:
        note(f"{PROGRAM}: interrupted")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        _give_up_stdout()  # the reader of our output has seen enough
        return ExitCode.OK
    except Exception as e:
        if _state["debug"]:
            import traceback

            traceback.print_exc()
        return _explain(e)


def _open_missing_streams() -> None:
    """A process may be started without stdin, stdout or stderr: then no file that it opens may take their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115  it stays open


def _flush(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()
    except OSError as e:
        return _explain(e)
    return code


def _give_up_stdout() -> None:
    """Keep the interpreter's own flush at exit from failing again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _has_stdout_failed() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        _give_up_stdout()
        return True
    return False


def _explain(e: Exception) -> int:
    from chaoscontrol.errors import AddressError, ChaosControlError, GuestError, UsageError

    if isinstance(e, ChaosControlError):
        error(str(e))
        if isinstance(e, UsageError | AddressError):
            return ExitCode.USAGE
        return ExitCode.FAILED if isinstance(e, GuestError) else ExitCode.ENGINE
    if isinstance(e, MemoryError):
        error("the host has no memory left; use fewer machines, or less memory for each")
        return ExitCode.ENGINE
    if isinstance(e, OSError) and e.strerror:
        name = e.filename or ("standard output" if _has_stdout_failed() else "")
        error(f"{name}: {e.strerror}" if name else e.strerror)
        return ExitCode.ENGINE
    error(f"internal error: {type(e).__name__}: {e}; run again with --debug for the traceback")
    return ExitCode.ENGINE
