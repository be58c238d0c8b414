"""What happened in the cluster on one branch: events in their one order, continuing the parent's.

Like console logs it only grows, by whoever drives the cluster, and other threads may read it at any time: a reader at
some moment passes the number of events that had happened by then.
"""

from collections.abc import Sequence

from chaoscontrol.events import Event

EVENTS_MAX = 1_000_000
"""Events kept per line of history. Later ones are judged all the same, but not kept: a guest must not fill memory."""


class EventLog:
    """Events [0, total) of a branch's line of history."""

    def __init__(self, parent: "EventLog | None" = None, base: int = 0) -> None:
        self._parent = parent
        self.base = base
        """Events before this one belong to the parent."""
        self._events: list[Event] = []

    @property
    def total(self) -> int:
        """Events known so far."""
        return self.base + len(self._events)

    def append(self, events: Sequence[Event]) -> None:
        """Add what happened next."""
        self._events += events[: max(EVENTS_MAX - self.total, 0)]

    def read(self, start: int, end: int) -> list[Event]:
        """Events [start, end), clipped to what is known."""
        end = min(end, self.total)
        if start < 0 or start >= end:
            return []
        own = self._events[max(start - self.base, 0) : max(end - self.base, 0)]
        if self._parent is None or start >= self.base:
            return own
        return self._parent.read(start, min(end, self.base)) + own
