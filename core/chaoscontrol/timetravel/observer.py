"""Observer: is told of a history as it becomes known, each thing once and in the order in which it came about.

The base does nothing. All calls come from the thread that moves the cluster, when nothing of it is under way.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.timetravel.branch import BranchRecord, Ending, GivenInput
    from chaoscontrol.timetravel.keyframes import Keyframe
    from chaoscontrol.timetravel.moment import Moment, Position
    from chaoscontrol.timetravel.tree import Tree
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

    def switched(self, branch: str, frames: Sequence[CapturedFrame]) -> None:
        """What the network did with frames, in its order; only if the witness captures them."""

    def machine_ended(self, branch: str, ending: Ending) -> None:
        """A machine stopped."""

    def keyframe_taken(self, branch: str, keyframe: Keyframe) -> None:
        """The digests of a position are known; `branch` is the one that it belongs to."""

    def branch_renamed(self, name: str, new: str) -> None:
        """The branch `name` is called `new` from now on."""

    def branch_deleted(self, name: str) -> None:
        """It is gone; those that forked from it went before."""

    def marked(self, name: str, moment: Moment) -> None:
        """A moment has a name, which no other one has any more."""

    def annotated(self, branch: str, mark: str | None, text: str) -> None:
        """A branch, or a mark on it, has this note in place of the one before; empty: none."""

    def moved(self) -> None:
        """The cursor has come to rest somewhere."""


def tell_all(tree: Tree, observer: Observer) -> None:
    """What is known of all branches."""
    for record in tree:
        _tell(record, observer)
    for name, mark in tree.marks.items():
        observer.marked(name, mark.moment)
        if mark.note:
            observer.annotated(mark.moment.branch, name, mark.note)


def _tell(record: BranchRecord, observer: Observer) -> None:
    parent = record.parent_moment.branch if record.parent_moment is not None else None
    names = [*record.former, record.name]
    observer.branch_made(names[0], parent, record.start)
    for name, new in pairwise(names):
        observer.branch_renamed(name, new)
    if record.note:
        observer.annotated(record.name, None, record.note)
    for given in record.inputs:
        observer.input_given(record.name, given)
    for ending in record.endings:
        observer.machine_ended(record.name, ending)
    events = record.events.read(record.events.base, record.events.total)
    if events or record.failures:
        observer.happened(record.name, record.events.base, record.end, events, record.failures)
    for keyframe in record.keyframes:
        observer.keyframe_taken(record.name, keyframe)
