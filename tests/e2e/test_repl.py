"""The REPL in a real terminal (tmux): prompt, completion, history, more lines, cancelling, leaving."""

import os
import re
import signal

import pytest
from e2e.test_tmux import Screen, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "it is there")


@pytest.fixture
def open_screen(tmp_path):
    screens = []

    def open_one(arguments="", size=(100, 30)):
        screens.append(Screen(tmp_path, size, f"repl {arguments}"))
        return screens[-1]

    yield open_one
    for screen in screens:
        screen.close()


def say(screen, line):
    screen.write(line)
    screen.press("Enter")


def test_a_session_at_the_terminal(open_screen, tmp_path):
    screen = open_screen("--no-record")
    screen.wait(r"help lists the commands[^\n]*\nmain@0\.000000000>")

    # Going forward shows what the consoles say; a long way says how far it is.
    say(screen, 'expect "guest> " vm0 within 5s')
    screen.wait(r"vm0\| guest>")
    screen.wait(r"\nmain@0\.0\d+>")
    say(screen, "mark ready")
    screen.wait(r"mark ready: main@")

    # Completion of a command, a machine, a mark; a line that goes on.
    screen.write("cons")
    screen.press("Tab")
    screen.wait(r"> console")
    screen.write(" v")
    screen.press("Tab")
    screen.wait(r"> console vm0")
    screen.press("Enter")
    screen.wait(r"checks passed")
    say(screen, "type 0 \\")
    screen.wait(r"\n\.\.\.")
    say(screen, r'"echo hi\r"')
    say(screen, "step 20ms")
    screen.wait(r"vm0\| guest> echo hi")

    # A mistake is one line and ends nothing.
    say(screen, "frobnicate")
    screen.wait(r"error: no command 'frobnicate'")
    say(screen, "!ls")
    screen.wait(r"error: no command '!ls'")

    # ctrl+c cancels what is under way and says where that leaves the cursor; at the prompt it gives the line up.
    say(screen, "expect never within 10000s")
    screen.wait(r"expect never within 10000s: +(?:\d+% )?at \d+\.\d+ s, .*ctrl\+c cancels")
    screen.press("C-c")
    screen.wait(r"cancelled on its way, at main@")
    screen.write("half a li")
    screen.press("C-c")
    say(screen, "goto ready")
    screen.wait(r"\nmain@0\.0\d+ past>")
    say(screen, "run")
    screen.wait(r"running at main@.*ctrl\+c pauses")
    screen.press("C-c")
    screen.wait(r"\nmain@\d+\.\d+(?: past)?>\s*$")

    # History comes back with the arrow.
    screen.press("Up", "Up")
    screen.wait(r"> goto ready *\n")
    screen.press("C-c")

    # ctrl+d asks, since something would be lost; a saved session leaves at once.
    screen.press("C-d")
    screen.wait(r"not saved; `save FILE` keeps this session as a script\nleave all the same\? \[y/N\]")
    say(screen, "n")
    say(screen, f"save {tmp_path}/session.cc")
    screen.wait(r"saved to ")
    screen.press("C-d")
    assert screen.left_with() == 0
    assert re.search(r'type 0 "echo hi\\r"', (tmp_path / "session.cc").read_text())
    assert "goto ready" in (tmp_path / "state/cc-tui/repl-history").read_text()


def test_what_is_typed_while_a_command_runs_waits_for_the_prompt(open_screen):
    """Found by use: it was written into the progress line."""
    screen = open_screen("--no-record")
    screen.wait(r"main@0\.000000000>")
    say(screen, "expect 'guest> '")
    say(screen, r'type 0 "spin 1000\r"')  # a guest that never rests, so that the time goes slowly on any host
    screen.wait(r"main@(\d+\.\d+)> type[^\n]*\nmain@\1>\s*$")
    say(screen, "step 3s")
    screen.wait(r"\nstep 3s: +\d+% at")
    screen.write("mark here\rhalf a line\x1b[Dx")
    while (progress := re.search(r"\nstep 3s:[^\n]*\n(.*)", screen.text, re.DOTALL)) is not None:
        assert re.search(r"ctrl\+c cancels *\n", progress[0])
        assert not progress[1].strip()
    screen.wait(r"\nmain@(3\.\d+)> mark here\nmark here: main@\1[^\n]*\nmain@\1> half a linxe\s*$")
    # ctrl+c ends a command, and what was typed behind it with it, as in a shell.
    screen.press("C-c")
    say(screen, "expect never within 10000s")
    screen.wait(r"expect never within 10000s: +(?:\d+% )?at")
    screen.write("tick 7\r")
    screen.press("C-c")
    screen.wait(r"cancelled on its way, at main@[^\n]*\nmain@[^\n]*> *\s*$")
    assert "tick 7" not in screen.text
    os.kill(screen.program, signal.SIGTERM)
    assert screen.left_with() == 130
    assert screen.has_echo


def test_nothing_is_asked_where_nothing_is_lost(open_screen):
    screen = open_screen()
    screen.wait(r"main@0\.000000000>")
    say(screen, "tick")
    screen.wait(r"main@0\.000100000>")
    say(screen, "quit")
    assert screen.left_with() == 0
