"""What is typed while nobody reads is neither echoed nor lost, and the terminal is left as it was."""

import os
import signal
import sys
import termios
from contextlib import contextmanager
from pathlib import Path

import pytest

from cc_tui.type_ahead import kept_type_ahead

LFLAG = 3
TYPED = b"goto re\t\x1b[A\x04half"


class Terminal:
    """The person's and the program's end of a pseudo-terminal."""

    def __init__(self) -> None:
        self.person, self.program = os.openpty()

    @property
    def modes(self):
        return termios.tcgetattr(self.program)

    def type(self, data: bytes) -> None:
        os.write(self.person, data)

    def print(self, data: bytes) -> None:
        os.write(self.program, data)


def read(end: int, count: int) -> bytes:
    """So many bytes, which may arrive in pieces."""
    found = b""
    while len(found) < count:
        found += os.read(end, count - len(found))
    return found


@pytest.fixture
def opened(monkeypatch):
    """Opens a terminal that is stdin and stdout; in the test itself, since pytest sets them anew for that."""

    @contextmanager
    def open_one():
        terminal = Terminal()
        with os.fdopen(os.dup(terminal.program), "r") as stdin, os.fdopen(os.dup(terminal.program), "w") as stdout:
            monkeypatch.setattr(sys, "stdin", stdin)
            monkeypatch.setattr(sys, "stdout", stdout)
            yield terminal
            monkeypatch.undo()
        os.close(terminal.program)
        if terminal.person >= 0:
            os.close(terminal.person)

    return open_one


def test_it_is_not_seen_and_not_lost(opened):
    with opened() as terminal:
        before = terminal.modes
        terminal.type(b"early ")
        assert read(terminal.person, 6) == b"early "
        with kept_type_ahead():
            terminal.type(TYPED)
            assert read(terminal.program, 6 + len(TYPED)) == b"early " + TYPED
            terminal.print(b"progress")
            assert read(terminal.person, 8) == b"progress", "nothing came before it"
        assert terminal.modes == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_the_terminal_is_left_as_it_was_by(opened, error):
    with opened() as terminal:
        before = terminal.modes
        with pytest.raises(error), kept_type_ahead():
            assert not terminal.modes[LFLAG] & (termios.ECHO | termios.ICANON)
            raise error
        assert terminal.modes == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_it_as_it_was(opened, number):
    with opened() as terminal:
        before, handler = terminal.modes, signal.getsignal(number)
        with pytest.raises(SystemExit) as caught, kept_type_ahead():
            assert signal.getsignal(number) is not handler
            signal.raise_signal(number)
        assert caught.value.code == 130
        assert terminal.modes == before
        assert signal.getsignal(number) is handler


def test_a_terminal_that_is_gone_is_no_error(opened):
    with opened() as terminal, kept_type_ahead():
        os.close(terminal.person)
        terminal.person = -1


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
def test_without_a_person_nothing_is_changed(opened, monkeypatch, stream):
    with opened() as terminal, Path(os.devnull).open("r+") as nothing:
        before = terminal.modes
        monkeypatch.setattr(sys, stream, nothing)
        with kept_type_ahead():
            assert terminal.modes == before
