"""Foretold: a history that was lived through elsewhere, as a multiverse takes it over for its known future.

What is foretold is checked like everything that is known: when the cursor passes, digests, events and inputs are
compared. Console output is not part of it, and becomes known on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaoscontrol.events import Event
    from chaoscontrol.timetravel.branch import Ending, GivenInput
    from chaoscontrol.timetravel.keyframes import Keyframe
    from chaoscontrol.timetravel.moment import Position
    from chaoscontrol.timetravel.witness import Failure


@dataclass(frozen=True, slots=True)
class ForetoldBranch:
    """One branch. All but the first one begin where their parent has a keyframe."""

    name: str
    parent: str | None
    """None: the first branch."""
    start: Position
    end: Position
    inputs: tuple[GivenInput, ...]
    endings: tuple[Ending, ...]
    failures: tuple[Failure, ...]
    events: tuple[Event, ...]
    """Its own, those not judged by its end excepted."""
    keyframes: tuple[Keyframe, ...]
    """Its own, without snapshots, in order."""


__all__ = ["ForetoldBranch"]
