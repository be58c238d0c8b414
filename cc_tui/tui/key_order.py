"""Keys in order: one is passed on when the one before has done all that it does to where keys go.

Textual passes a key to the widget that has the focus then, and the widget deals with it later, in a task of its own. Of
keys that arrive together, all would go where the first one goes, though it opens the command line for the others.

So the application holds keys and pastes back and passes them on one at a time. Behind each, something goes the way
that the key goes: to the widget that has the focus, to what that stands in, up to the screen and the application.
Queues keep their order, so when it is back, whoever is on the way has dealt with the key, and with what it was told
before. A second round, the same way, comes behind what they have told each other about it: a binding's action is
carried out at the end of the first, and may have asked the screen for something. Where that opened a dialog, or moved
the focus, another round goes the way that leads there now: a dialog answers when it is mounted, and may choose only
then what it focuses.

Rounds are bounded by what stands in the queues when they come to them. They wait for no silence, so pictures may come
without end, and nothing waits for the rounds of the last key. Characters need not wait for each other while they are
written into a line or typed at a console: they move no focus, so only what comes behind the last one waits.

Nor do keys wait for the engine, with one exception, `wait_for`: what a command line asks for may be answered by a
dialog, so what came with the line is for after it. That ends when the line is carried out, or is seen to take long:
when progress is shown, or a key comes that was pressed when it could be seen.

What the rest of the interface owes to this: a key moves the focus with `Screen.set_focus`, not with `Widget.focus`,
which does it later; what a widget makes of a message, not of a key, it tells the screen and not itself, so that the
next key does not overtake it; and what depends on what the engine will have done is the engine's to decide.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

from textual import events
from textual.app import App
from textual.dom import DOMNode

from cc_tui.session import PROGRESS_AFTER_S


class KeyOrderApp(App[None], inherit_bindings=False):
    """An application whose keys are passed on in order. See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.pressed_s = 0.0
        """When the key was pressed that was passed on last, by the monotonic clock."""
        self._held: deque[events.Key | events.Paste] = deque()
        self._writing = False
        """Was the key that was passed on last a character for a text?"""
        self._target: DOMNode | None = None
        """Where the round under way began; None: every key that was passed on has been dealt with."""
        self._way: Iterator[DOMNode] = iter(())
        """Whom that round has yet to come to."""
        self._second = False
        """Is it a second round, or a later one?"""
        self._again = False
        """Was a key passed on since the first round began?"""
        self._awaited: Future[None] | None = None
        """What the next key waits for, when the round is over."""

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key | events.Paste) and not event.is_forwarded:
            self._held.append(event)
            await self._pass_on()
        else:
            await super().on_event(event)

    def wait_for(self, done: "Future[None]") -> None:
        """Hold back what comes behind the key that is being dealt with until the engine has done this."""
        self._awaited = done
        done.add_done_callback(lambda _: self.call_later(self._is_done, done))

    def stop_waiting(self) -> None:
        """It takes long, and can be seen to."""
        if self._awaited is not None:
            self._is_done(self._awaited)

    def _is_done(self, done: "Future[None]") -> None:
        if self._awaited is done:
            self._awaited = None
            if self._target is None:
                # What was published before is on its way to the screen.
                self._go_rounds()

    async def _pass_on(self) -> None:
        """Pass on the keys whose turn it is."""
        while self._held:
            event = self._held[0]
            writing = self._is_written(event)
            if self._target is not None and not (writing and self._writing):
                return
            if self._awaited is not None and self._held[-1].time - self.pressed_s < PROGRESS_AFTER_S:
                return
            self._awaited = None
            self._held.popleft()
            self._writing, self.pressed_s = writing, event.time
            await super().on_event(event)
            if self._target is None:
                self._go_rounds()
            else:
                self._again = True

    def _is_written(self, event: events.Key | events.Paste) -> bool:
        focused = self.focused
        return (
            isinstance(event, events.Key)
            and focused is not None
            and focused.check_consume_key(event.key, event.character)
        )

    @property
    def _where_keys_go(self) -> DOMNode:
        return self.focused or self.screen

    def _go_rounds(self) -> None:
        self._again = self._second = False
        self._go_round(self._where_keys_go)

    def _go_round(self, target: DOMNode) -> None:
        self._target = target
        self._way = iter(target.ancestors_with_self)
        self._go_on()

    def _go_on(self) -> None:
        """To the next on the way that is not about to end; the application is the last."""
        for node in self._way:
            if node is not self and node.call_later(self._go_on):
                return
        self.call_later(self._came_round)

    async def _came_round(self) -> None:
        assert self._target is not None, "a round has come to its end"
        if self._again:
            self._go_rounds()
        elif not self._second:
            self._second = True
            self._go_round(self._target)
        elif self._target is not self._where_keys_go:
            self._go_round(self._where_keys_go)
        else:
            self._target = None
        await self._pass_on()


__all__ = ["KeyOrderApp"]
