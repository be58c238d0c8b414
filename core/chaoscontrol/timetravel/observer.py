"""Observer: is told of a history as it becomes known, each thing once and in the order in which it came about.

The base does nothing. All calls come from the thread that moves the cluster, when nothing of it is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.timetravel.branch import Ending, GivenInput
    from chaoscontrol.timetravel.keyframes import Keyframe
    from chaoscontrol.timetravel.moment import Position
    from chaoscontrol.timetravel.witness import Failure


class Observer:
    """Sees a multiverse grow. What is walked again, known already, is not told again."""

    def branch_made(self, name: str, parent: str | None, start: Position) -> None:
        """A branch begins at `start` of its parent; None: the first one."""

    def input_given(self, branch: str, given: GivenInput) -> None:
        """It was applied just now; nothing has run since."""

    def happened(
        self, branch: str, first: int, until: Position, events: Sequence[Event], failures: Sequence[Failure]
    ) -> None:
        """Events from number `first` of the branch's line, in order, all up to `until`; and what they broke."""

    def machine_ended(self, branch: str, ending: Ending) -> None:
        """A machine stopped."""

    def keyframe_taken(self, branch: str, keyframe: Keyframe) -> None:
        """The digests of a position are known; `branch` is the one that it belongs to."""

    def moved(self) -> None:
        """The cursor has come to rest somewhere."""
