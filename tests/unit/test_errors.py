"""chaoscontrol.errors and cc_tui.diagnostics: one line each, and the right exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode, ExitError
from chaoscontrol.errors import AddressError, BudgetError, ChaosControlError, EngineError, GuestError, UsageError


def test_an_error_says_where_what_and_what_to_do_in_one_line() -> None:
    e = UsageError("is a\n bzImage", where="boot/vmlinuz", hint="give a vmlinux")
    assert str(e) == "boot/vmlinuz: is a bzImage; give a vmlinux"
    assert (e.where, e.hint) == ("boot/vmlinuz", "give a vmlinux")
    assert str(ChaosControlError("just this")) == "just this"


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (UsageError("x"), ExitCode.USAGE),
        (AddressError("x"), ExitCode.USAGE),
        (GuestError("x"), ExitCode.FAILED),
        (EngineError("x"), ExitCode.ENGINE),
        (BudgetError("x"), ExitCode.ENGINE),
        (MemoryError(), ExitCode.ENGINE),
        (PermissionError(13, "Permission denied", "/x"), ExitCode.ENGINE),
        (ZeroDivisionError("division by zero"), ExitCode.ENGINE),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (ExitError(ExitCode.TIME_LIMIT), ExitCode.TIME_LIMIT),
    ],
)
def test_every_way_of_ending_has_its_code_and_at_most_one_line(
    raised: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise raised

    assert diagnostics.run(main) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == (0 if isinstance(raised, ExitError) else 1)
    assert "Traceback" not in captured.err


def test_debug_shows_the_traceback_before_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(diagnostics._state, "debug", True)

    def main() -> None:
        raise UsageError("x")

    assert diagnostics.run(main) == ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert (lines[0], lines[-1]) == ("Traceback (most recent call last):", "cc-tui: error: x")


def test_a_reader_that_stops_reading_is_no_error() -> None:
    program = (
        "from cc_tui import diagnostics\n"
        "def main():\n"
        "    for _ in range(100000):\n"
        "        print('x' * 100)\n"
        "raise SystemExit(diagnostics.run(main))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(30) == 0
