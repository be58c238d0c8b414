"""Spans: the faults of a history, from the changes that its events tell of."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .engine import FaultChange

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chaoscontrol.events import Event

    from .types import Fault


@dataclasses.dataclass(frozen=True, slots=True)
class FaultSpan:
    """One fault of a line of history. Times are virtual nanoseconds."""

    number: int
    """Its place among all faults that began, counted from 0."""
    fault: Fault
    begin_ns: int
    end_ns: int | None
    """None: it is not known to end. Equal to the beginning for one that happens in a moment."""

    def active_at(self, vns: int) -> bool:
        """Is it in effect at virtual time `vns`?"""
        return self.begin_ns <= vns and (self.end_ns is None or vns < self.end_ns)


def add_changes(spans: dict[int, FaultSpan], events: Iterable[Event]) -> None:
    """Take in what events tell of faults; `spans`: by number, in the order of their beginnings."""
    for event in events:
        change = event.data
        if not isinstance(change, FaultChange):
            continue
        if change.begins:
            end_ns = None if change.fault.LASTS else change.vns
            spans[change.number] = FaultSpan(change.number, change.fault, change.vns, end_ns)
        elif change.number in spans:
            spans[change.number] = dataclasses.replace(spans[change.number], end_ns=change.vns)


__all__ = ["FaultSpan", "add_changes"]
