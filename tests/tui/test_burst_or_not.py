"""Keys that arrive together do what they do one at a time: any keys, told by where the interface is afterwards.

The engine answers at once here: what a key means may hang on what the screen shows, and keys do not wait for that.
"""

import asyncio
from concurrent.futures import wait

import pytest
from interface import interface
from test_bursts import BACKSPACE, CTRL_P, DOWN, ENTER, HOME, KEYS_BACK, RIGHT, TAB, paste
from textual.widgets import Input, OptionList

from cc_tui.session import Session
from cc_tui.tui.lines import LineView
from cc_tui.tui.panes.console import SerialConsole
from cc_tui.tui.pastes import PasteParser
from chaoscontrol.random import Stream

LEFT, UP, END, SHIFT_TAB = "\x1b[D", "\x1b[A", "\x1b[F", "\x1b[Z"
KEYS = (
    *"sStTiInNcCgbfmyx/z:?q1234567890<>kjwhM+-aldr", UP, DOWN, LEFT, RIGHT, HOME, END, BACKSPACE, TAB, SHIFT_TAB, ENTER,
    CTRL_P, KEYS_BACK, "disk", "250us", f"10us{ENTER}", f"gstart{ENTER}", f"fkill{ENTER}", f"/beat{ENTER}", f"/{ENTER}",
    f"{CTRL_P}tick{ENTER}", paste("tick"), *(f":{line}{ENTER}" for line in (
        "goto 200us", "branch", "view events", "mark x", "tick 3", "help goto", "vm 1", "reverse-tick 5", "find x",
        "theme", "maximise", "attach",
    )),
)  # fmt: skip


def where(shown) -> object:
    """What a person could tell apart."""
    app, view, main = shown.app, shown.view, shown.main
    if app._exit:
        return "left"
    return {
        "history": (view.branch.name, view.position, [branch.name for branch in view.branches], list(view.marks)),
        "choices": (view.focus, view.speed, app.theme, main._current, main._console_view, main._side_view),
        "screens": [type(screen).__name__ for screen in app.screen_stack],
        "focus": str(app.focused),
        "texts": [box.value for box in app.screen.query(Input)],
        "lists": [box.highlighted for box in app.screen.query(OptionList)],
        "attached": [console.attached for console in main.query(SerialConsole)],
        "lines": [lines.selected for lines in main.query(LineView)],
        "filters": [pane.pattern for pane in main._side_panes],
        "picture": shown.rows,
    }


async def one_at_a_time(shown, keys: list[str]) -> bool:
    """False: time runs, and how far it comes is the clock's affair."""
    parser = PasteParser()
    for event in (event for key in keys for event in parser.feed(key)):
        if shown.app._exit:
            break
        shown.app._driver.process_message(event)
        await asyncio.sleep(0)
        await shown.settle()
        if shown.view.running:
            return False
    return True


@pytest.fixture
def _answers_at_once(monkeypatch):
    submit = Session.submit

    def submit_and_wait(session, command):
        future = submit(session, command)
        wait([future], 30)
        return future

    monkeypatch.setattr(Session, "submit", submit_and_wait)


@pytest.mark.usefixtures("_answers_at_once")
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(6, 60))])
async def test_a_burst_is_its_keys_one_after_the_other(seed):
    draws = Stream(seed, "keys")
    keys = [KEYS[draws.below(len(KEYS))] for _ in range(4 + draws.below(10))]
    size, count = ((80, 24), (160, 50))[draws.below(2)], 1 + draws.below(3)
    async with interface(count, size) as shown:
        await shown.run("goto 300us")
        if not await one_at_a_time(shown, keys):
            return
        expected = where(shown)
    async with interface(count, size) as shown:
        await shown.run("goto 300us")
        await shown.burst("".join(keys))
        assert where(shown) == expected, f"keys: {keys}"
