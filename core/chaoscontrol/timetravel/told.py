"""Told: what is known of a branch's whole line of history, as values: for whoever looks at it without walking in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.timetravel.branch import GivenInput
    from chaoscontrol.timetravel.moment import Position


@dataclass(frozen=True, slots=True)
class Told:
    """One branch, from the beginning of everything to its end."""

    branch: str
    end: Position
    events: Sequence[Event]
    """In the order in which they were judged, then those that were not judged yet."""
    inputs: Sequence[GivenInput]
    """In order."""

    def inputs_at(self, vns: int) -> int:
        """How many inputs there are at exactly `vns`."""
        return sum(given.at.vns == vns for given in self.inputs)


__all__ = ["Told"]
