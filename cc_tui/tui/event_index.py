"""What the guests' SDKs and the faults wrote to an event log that is worth a line in the events pane.

A log may hold a million events, most of them console lines that the consoles show. Each is looked at once; what is
worth showing is found again by its place in the log, so going back in time costs a binary search.
"""

from bisect import bisect_right
from collections.abc import Callable

from chaoscontrol.events import Event, EventKind
from chaoscontrol.protocol import Command, SdkEvent
from chaoscontrol.timetravel import EventLog

NOT_DONE = "not done"
"""How the text of a fault begins that could not be applied."""
AT_ONCE = 5_000
"""Events looked at before the interface may do something else."""
_TOLD = frozenset({Command.SETUP_COMPLETE, Command.SEND_EVENT})


def letter_of(event: Event) -> str:
    """The letter of an event that is worth a line; empty for one that is not.

    Assertions that hold are counted by the properties, not listed; faults are known to the picture, past and future.
    """
    if isinstance(event.data, SdkEvent):
        if event.data.failed:
            return "!"
        return "e" if event.data.command in _TOLD else ""
    return (
        "?" if event.kind is EventKind.FAULT and isinstance(event.data, str) and event.data.startswith(NOT_DONE) else ""
    )


class EventIndex:
    """Events of one log that are worth a line and pass a filter."""

    def __init__(self, log: EventLog, wanted: Callable[[Event], bool]) -> None:
        self.log = log
        self._wanted = wanted
        self._seen = 0
        """Events of the log that were looked at."""
        self._places: list[int] = []
        self.events: list[Event] = []
        """Those found, in order."""
        self.times: list[int] = []
        """Their virtual times."""

    def knows(self, total: int) -> bool:
        """Has the log been looked at up to `total`?"""
        return self._seen >= total

    def update(self, total: int) -> int:
        """Look at the log up to `total`, or at the next AT_ONCE events; returns how many found lie before `total`."""
        end = min(total, self._seen + AT_ONCE)
        if end > self._seen:
            for at, event in enumerate(self.log.read(self._seen, end), self._seen):
                if letter_of(event) and self._wanted(event):
                    self._places.append(at)
                    self.events.append(event)
                    self.times.append(event.vns)
            self._seen = end
        return bisect_right(self._places, total - 1)
