"""A screen that asks a session for things: its commands, their errors, and what the session publishes.

Commands are carried out one after the other on the engine's thread, so a picture may be behind what has been asked
for. Whatever depends on what will be then is a command itself, or waits for its turn.
"""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import ClassVar

from textual import on
from textual.message import Message
from textual.screen import Screen

from cc_tui.commands import EngineCommand, Notice
from cc_tui.commands.engine import Focus, Source
from cc_tui.session import Event, Session
from cc_tui.tui.key_order import KeyOrderApp
from cc_tui.tui.theme import app_of
from chaoscontrol.errors import ChaosControlError


class SessionScreen(Screen[None], inherit_bindings=False):
    """See the module. Subclasses show what comes from the session."""

    AUTO_FOCUS: ClassVar[str | None] = ""

    class FromSession(Message):
        """Something that the session published, on its way from the engine's thread."""

        def __init__(self, event: Event) -> None:
            super().__init__()
            self.event = event

    class Turn(Message):
        """Something whose turn has come, since the engine has done what was asked for before."""

        def __init__(self, act: Callable[[], None]) -> None:
            super().__init__()
            self.act = act

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def published(self, event: Event) -> None:
        """Called on the engine's thread."""
        self.post_message(self.FromSession(event))

    def submit(self, command: EngineCommand) -> None:
        """Ask for a command."""
        self.session.submit(command).add_done_callback(self._done)

    def stop(self) -> None:
        """Stop what is under way, forget what waits, and pause."""
        self.session.stop().add_done_callback(self._done)

    def _done(self, future: "Future[None]") -> None:
        """On the engine's thread, or on this one for commands that were dropped."""
        error = future.exception()
        if isinstance(error, ChaosControlError):
            severity = "information" if type(error).__name__ == "CancelledError" else "error"
            self.published(Notice(str(error), severity))

    @property
    def at_work(self) -> bool:
        """Is there something to stop?"""
        return not self.session.idle or self.session.view.running

    def saw_work(self) -> bool:
        """Could whoever pressed the last key see that commands were under way, which still are?"""
        app = app_of(self)
        return isinstance(app, KeyOrderApp) and self.session.was_at_work(app.pressed_s)

    def in_turn(self, act: Callable[[], None]) -> None:
        """Act on the picture that shows what the commands before this one did, unless they are seen to take long."""
        if self.session.idle or self.saw_work():
            act()
        else:
            self.session.asked.add_done_callback(lambda _: self.post_message(self.Turn(act)))

    @on(Turn)
    def _its_turn(self, message: Turn) -> None:
        message.act()

    def answered(self, act: Callable[[], None]) -> None:
        """Act, and have the next keys wait for the answer if that asks the session for something."""
        before = self.session.asked
        act()
        app = app_of(self)
        if self.session.asked is not before and isinstance(app, KeyOrderApp):
            app.wait_for(self.session.asked)

    def see_work(self) -> None:
        """It is shown that commands are under way: keys wait for them no longer."""
        app = app_of(self)
        if isinstance(app, KeyOrderApp):
            app.stop_waiting()

    def focus_machine(self, machine: int) -> None:
        """Have this machine in focus."""
        if self.session.focus != machine:
            self.submit(Focus(machine))

    def source(self, command: Source) -> None:
        """Carry out a script, on a thread of its own. Raises CommandError."""
        text = command.read()
        self.run_worker(partial(self._run_script, text, command.path), thread=True, name="script", exclusive=True)

    def _run_script(self, text: str, name: str) -> None:
        try:
            self.session.run_script(text, name=name)
        except ChaosControlError as error:
            self.published(Notice(str(error), "error"))
        else:
            self.published(Notice(f"carried out {name}"))


__all__ = ["SessionScreen"]
