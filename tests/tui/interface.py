"""Driving the interface in tests: a session on toy machines, keys, and what the screen shows."""

import asyncio
from contextlib import asynccontextmanager
from unittest import mock

from idle import rest
from textual._compositor import CompositorUpdate
from textual._context import visible_screen_stack
from toys.cluster import ToyCluster

from cc_tui.session import Session
from cc_tui.settings import Settings
from cc_tui.tui.app import CcApp
from cc_tui.tui.panes.bars import HintBar
from cc_tui.tui.pastes import PasteParser
from cc_tui.tui.screen import MainScreen
from cc_tui.tui.terminal import Terminal

KEY_NAMES = {" ": "space", "-": "minus", ".": "full_stop", "/": "slash", ":": "colon", '"': "quotation_mark",
             "\\": "backslash", "_": "underscore", "@": "at", "+": "plus", ">": "greater_than_sign",
             "<": "less_than_sign", "?": "question_mark", "#": "number_sign", "'": "apostrophe"}  # fmt: skip


class Interface:
    """A running application and the pilot that drives it."""

    def __init__(self, app: CcApp, pilot, terminal: Terminal) -> None:
        self.app, self.pilot, self.session, self.terminal = app, pilot, app.session, terminal

    async def settle(self) -> None:
        """Wait until commands are carried out and the screen shows it."""
        await rest(self.app, self.session)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def write(self, text: str) -> None:
        """Press the keys of a text."""
        await self.pilot.press(*(KEY_NAMES.get(character, character) for character in text))
        await self.settle()

    async def burst(self, text: str) -> None:
        """Let the terminal send `text` in one go, as it does for a paste or for a program that types."""
        for event in PasteParser().feed(text):
            self.app._driver.process_message(event)
        await asyncio.sleep(0)
        await self.settle()

    async def enter(self, line: str) -> None:
        """Write a command line, key by key."""
        await self.press("colon")
        await self.write(line)
        await self.press("enter")

    async def run(self, line: str) -> None:
        """Carry out a command line."""
        self.main.run_line(line)
        await self.settle()

    async def until(self, condition, seconds: float = 10.0) -> None:
        for _ in range(int(seconds / 0.01)):
            if condition():
                await self.settle()
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it did not happen")

    @property
    def view(self):
        return self.session.view

    @property
    def vns(self) -> int:
        return self.view.position.vns

    @property
    def main(self) -> MainScreen:
        return next(screen for screen in self.app.screen_stack if isinstance(screen, MainScreen))

    @property
    def message(self) -> str:
        """The message in the last row."""
        notice = self.main.query_one(HintBar).notice
        return "" if notice is None else notice.text

    @property
    def rows(self) -> list[str]:
        """The screen as text, drawn anew."""
        visible_screen_stack.set(self.app._background_screens)
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def picture(self) -> list[str]:
        """What a terminal shows that was sent what the interface has written so far."""
        return [row.text for row in self.terminal.rows]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)


async def _soon(*_: object) -> None:
    """Textual's own waits for an idle process, which one that runs machines never is."""
    await asyncio.sleep(0.001)


def _display(app: CcApp, update, terminal: Terminal) -> None:
    """What Textual writes to a terminal; without one it would not even render it."""
    if isinstance(update, CompositorUpdate) and not app._batch_count:
        terminal.feed(update.render_segments(app.console).encode())
    app.post_display_hook()


@asynccontextmanager
async def interface(
    count: int = 2, size: tuple[int, int] = (80, 24), *, settings: Settings | None = None, cluster=None, run=False,
    first: str = "",
):  # fmt: skip
    """The application on `count` toy machines, paused at the beginning unless `run`, after the line `first`."""
    session = Session(cluster or ToyCluster(count), keyframe_insns=1_000)
    # The toys manage about a hundredth of real time.
    app = CcApp(session, settings or Settings(speed=0.01), run=run, first=first)
    terminal = Terminal(*size)
    patches = [
        mock.patch("textual.app.wait_for_idle", _soon),
        mock.patch("textual.pilot.wait_for_idle", _soon),
        mock.patch.object(CcApp, "_display", lambda app, _, update: _display(app, update, terminal)),
    ]
    try:
        with patches[0], patches[1], patches[2]:
            async with app.run_test(size=size) as pilot:
                shown = Interface(app, pilot, terminal)
                await shown.settle()
                yield shown
    finally:
        session.close()
