"""Lookouts of the debugger: for the first instant at which one of some conditions is met, and for the last one.

Both see the same things at the same positions; that is what makes going back stop where going forward does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from chaoscontrol.debug.conditions import (
    Cause,
    Condition,
    ConsoleText,
    EventPoint,
    MemoryCondition,
    by_machine,
    position_of_event,
    position_of_hit,
    watch_of,
)
from chaoscontrol.events import Event
from chaoscontrol.machine import DeterministicVm
from chaoscontrol.timetravel import Position
from chaoscontrol.timetravel.console_log import ConsoleLog
from chaoscontrol.timetravel.lookout import Collector, Lookout, LostError, Said, Sighting, Spoken
from chaoscontrol.watches import WatchHit

Wanted: TypeAlias = Callable[[MemoryCondition, WatchHit], bool]
"""Whether a hit counts."""
Seen: TypeAlias = tuple[Position, Cause]


def every_hit(_condition: MemoryCondition, _hit: WatchHit) -> bool:
    """All count."""
    return True


class Watching:
    """Sets the machines' watches while it is entered, and says what they met."""

    def __init__(self, vms: Sequence[DeterministicVm], conditions: Sequence[Condition], wanted: Wanted) -> None:
        self._vms = vms
        self._by_machine = by_machine(conditions)
        self._wanted = wanted

    @property
    def any(self) -> bool:
        """Is there anything to watch for?"""
        return bool(self._by_machine)

    def __enter__(self) -> Watching:
        try:
            for vm, conditions in self._by_machine.items():
                self._vms[vm].set_watches([watch_of(condition) for condition in conditions])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for vm in self._by_machine:
            self._vms[vm].set_watches([])

    def discard(self) -> None:
        """Forget what was met so far."""
        for vm in self._by_machine:
            self._vms[vm].take_watch_hits()

    def take(self) -> list[Seen]:
        """What was met since the last call and is wanted, by time, then by machine. Raises LostError."""
        seen: list[Seen] = []
        for vm, conditions in self._by_machine.items():
            hits, lost = self._vms[vm].take_watch_hits()
            wanted = [
                (position_of_hit(hit), Cause(conditions[hit.watch], hit))
                for hit in hits
                if self._wanted(conditions[hit.watch], hit)
            ]
            # Of those that are missing in the middle, none can be the first or the last if all are wanted.
            if lost and (len(wanted) < len(hits)):
                raise LostError
            seen += wanted
        return sorted(seen, key=lambda entry: entry[0])


def events_that_match(
    events: Sequence[Event], conditions: Sequence[Condition], inputs_at: Callable[[int], int]
) -> list[Seen]:
    """The events that some condition means, each with the first position at which it has happened."""
    points = [condition for condition in conditions if isinstance(condition, EventPoint)]
    return [
        (position_of_event(event, inputs_at), Cause(point, event=event))
        for event in events
        for point in points
        if point.matches(event)
    ]


class Ahead(Lookout):
    """Sees the first instant after `start` at which a condition is met."""

    def __init__(
        self,
        watching: Watching,
        conditions: Sequence[Condition],
        start: Position,
        inputs_at: Callable[[int], int],
        progress: Callable[[int], None],
    ) -> None:
        self._watching = watching
        self._conditions = conditions
        self._texts = [condition for condition in conditions if isinstance(condition, ConsoleText)]
        self._start = start
        self._inputs_at = inputs_at
        self._progress = progress
        self.seen: list[Seen] = []
        """Of the last segment, with positions."""
        self.said: list[tuple[Said, ConsoleText]] = []
        """Of the last segment, with the byte that each console has to have sent."""

    def begin(self) -> None:
        self._watching.discard()

    def look(self, end_vns: int, pending: Sequence[Event], spoken: Sequence[Spoken]) -> Sighting | None:
        self._progress(end_vns)
        seen = self._watching.take() + events_that_match(pending, self._conditions, self._inputs_at)
        self.seen = sorted((entry for entry in seen if self._start < entry[0]), key=lambda entry: entry[0])
        self.said = [
            (Said(vm, total, last), condition)
            for vm, what in enumerate(spoken)
            for condition in self._texts
            if condition.vm in (None, vm)
            for total, last in first_spoken(condition, what)
        ]
        first = self.seen[0][0].vns if self.seen and self.seen[0][0].vns <= end_vns else None
        if first is None and not self.said:
            return None
        return Sighting(first, tuple(said for said, _ in self.said))

    def causes(self, at: Position, totals: Sequence[int]) -> list[Cause]:
        """What was met at the position that the search stopped at, where consoles have sent `totals`."""
        causes = [cause for position, cause in self.seen if position.vns == at.vns]
        return causes + [Cause(condition) for said, condition in self.said if totals[said.machine] >= said.total]


class Behind(Collector):
    """Sees the last instant at which a condition is met that is watched for natively."""

    def __init__(self, watching: Watching, progress: Callable[[int], None], *, here: bool = False) -> None:
        self._watching = watching
        self._progress = progress
        self._here = here
        """What was met at the position itself counts as well."""
        self._seen: list[Seen] = []

    def begin(self) -> None:
        self._watching.discard()

    def look(self, end_vns: int, pending: Sequence[Event], spoken: Sequence[Spoken]) -> Sighting | None:
        self._progress(end_vns)
        self._seen += self._watching.take()
        return None

    def reset(self) -> None:
        self._seen.clear()

    def latest(self, before: Position) -> Position | None:
        met = (position for position, _ in self._seen if position < before or (self._here and position == before))
        return max(met, default=None)

    def causes(self, at: Position) -> list[Cause]:
        """What was met there."""
        return [cause for position, cause in self._seen if position == at]


# ---- consoles ----


def first_spoken(condition: ConsoleText, what: Spoken) -> list[tuple[int, bytes]]:
    """Where in the segment the condition was met first: the bytes sent by then, and the last of them; or nothing."""
    if isinstance(condition.text, re.Pattern):
        return _first_line(condition.text, what)
    text = condition.text
    before = what.log.read(max(what.start - len(text) + 1, 0), what.start)
    at = (before + what.data).find(text)
    return [] if at < 0 else [(what.start - len(before) + at + len(text), text[-1:])]


def _first_line(pattern: re.Pattern[str], what: Spoken) -> list[tuple[int, bytes]]:
    start = what.log.line_start(what.log.line_of(max(what.start - 1, 0))) if what.start else 0
    text = what.log.read(start, what.start) + what.data
    at = 0
    while (end := text.find(b"\n", at)) >= 0:
        if start + end + 1 > what.start and pattern.search(text[at:end].decode(errors="replace").rstrip("\r")):
            return [(start + end + 1, b"\n")]
        at = end + 1
    return []


def last_spoken(condition: ConsoleText, log: ConsoleLog, total: int) -> int | None:
    """How many bytes had been sent when the condition was met last, of the first `total`; None: it never was."""
    if not isinstance(condition.text, re.Pattern):
        at = log.rfind(condition.text, 0, total)
        return None if at < 0 else at + len(condition.text)
    for line in range(log.lines_ended(total) - 1, -1, -1):
        data = log.line_bytes(line, total)
        if condition.text.search(data.decode(errors="replace").rstrip("\r\n")):
            return log.line_start(line) + len(data)
    return None
