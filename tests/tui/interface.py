"""Driving the interface in tests: a session on toy machines, keys, and what the screen shows."""

from contextlib import asynccontextmanager

from toys.cluster import ToyCluster

from cc_tui.session import Session
from cc_tui.settings import Settings
from cc_tui.tui.app import CcApp
from cc_tui.tui.panes.bars import HintBar
from cc_tui.tui.screen import MainScreen

KEY_NAMES = {" ": "space", "-": "minus", ".": "full_stop", "/": "slash", ":": "colon", '"': "quotation_mark",
             "\\": "backslash", "_": "underscore", "@": "at", "+": "plus", ">": "greater_than_sign",
             "<": "less_than_sign", "?": "question_mark", "#": "number_sign", "'": "apostrophe"}  # fmt: skip


class Interface:
    """A running application and the pilot that drives it."""

    def __init__(self, app: CcApp, pilot) -> None:
        self.app, self.pilot, self.session = app, pilot, app.session

    async def settle(self) -> None:
        """Wait until commands are carried out and the screen shows it."""
        for _ in range(500):
            await self.pilot.pause()
            if not self.session.busy:
                break
            await self.pilot.pause(0.005)
        await self.pilot.pause()
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def write(self, text: str) -> None:
        """Press the keys of a text."""
        await self.pilot.press(*(KEY_NAMES.get(character, character) for character in text))
        await self.settle()

    async def run(self, line: str) -> None:
        """Write a command line."""
        await self.press("colon")
        await self.write(line)
        await self.press("enter")

    async def until(self, condition, seconds: float = 10.0) -> None:
        for _ in range(int(seconds / 0.01)):
            if condition():
                await self.settle()
                return
            await self.pilot.pause(0.01)
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
        """The screen as text."""
        return [strip.text.rstrip() for strip in self.app.screen._compositor.render_strips()]

    @property
    def text(self) -> str:
        return "\n".join(self.rows)


@asynccontextmanager
async def interface(
    count: int = 2, size: tuple[int, int] = (80, 24), *, settings: Settings | None = None, cluster=None, run=False
):
    """The application on `count` toy machines, paused at the beginning unless `run`."""
    session = Session(cluster or ToyCluster(count), keyframe_insns=1_000)
    app = CcApp(session, settings, run=run)
    try:
        async with app.run_test(size=size) as pilot:
            shown = Interface(app, pilot)
            await shown.settle()
            yield shown
    finally:
        session.close()
