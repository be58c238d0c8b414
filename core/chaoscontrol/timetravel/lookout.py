"""Lookout: sees what a segment of the way brought, before it becomes part of what is known.

The driver asks it after each segment, with all machines at its end. What it has seen makes the driver come back and
stop at that instant. Who looks is the debugger's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.timetravel.moment import Position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.timetravel.console_log import ConsoleLog


class LostError(Exception):
    """More happened in one segment than is kept of it: it has to be run in smaller ones."""


class Spoken(NamedTuple):
    """What one console has sent in the segment."""

    start: int
    """Bytes sent before."""
    data: bytes
    log: ConsoleLog
    """Holds what was sent before."""


class Said(NamedTuple):
    """Something whose instant is when a console's byte number `total`, which is `last`, was sent."""

    machine: int
    total: int
    last: bytes


class Sighting(NamedTuple):
    """The first instant to stop at is `vns` (None: no such), or when one of `said` was, whichever comes first."""

    vns: int | None
    said: tuple[Said, ...] = ()


class Lookout:
    """Sees nothing; the base of those that do."""

    def begin(self) -> None:
        """A segment begins, or an input is about to be given: forget what happened before."""

    def given(self) -> None:
        """An input was given again."""

    def look(self, end_vns: int, pending: Sequence[Event], spoken: Sequence[Spoken]) -> Sighting | None:
        """All machines are at `end_vns`. None: go on. Raises LostError to have it run again in smaller pieces.

        pending: events not taken into the log yet, in order; older ones than the segment's may be among them.
        """
        return None


class Collector(Lookout):
    """A lookout for going back: never stops, and remembers the last thing that it saw."""

    def reset(self) -> None:
        """Another stretch of history begins, an earlier one."""

    def latest(self, before: Position) -> Position | None:
        """Where the last thing before `before` was seen in this stretch."""
        return None
