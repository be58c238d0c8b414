"""Foretold: a history that was lived through elsewhere, as a multiverse takes it over for its known future.

What is foretold is checked like everything that is known: when the cursor passes, digests, events and inputs are
compared. Console output is not part of it, and becomes known on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaoscontrol.timetravel.branch import BranchRecord
from chaoscontrol.timetravel.console_log import ConsoleLog
from chaoscontrol.timetravel.errors import BranchError
from chaoscontrol.timetravel.event_log import EventLog
from chaoscontrol.timetravel.moment import Moment, Position, mark_of
from chaoscontrol.timetravel.tree import note_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.timetravel.branch import Ending, GivenInput
    from chaoscontrol.timetravel.driver import Driver
    from chaoscontrol.timetravel.keyframes import Unread
    from chaoscontrol.timetravel.tree import Tree
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
    keyframes: tuple[Unread, ...]
    """Its own, without snapshots."""
    unjudged: tuple[Event, ...] = ()
    """Its own that had happened by its end and were not judged, as far as they are known."""
    former: tuple[str, ...] = ()
    """Names that it had before."""
    note: str = ""


def take_over(tree: Tree, driver: Driver, branches: Sequence[ForetoldBranch]) -> None:
    """Put foretold branches into a tree of which nothing is known yet. Raises BranchError, DivergenceError."""
    assert len(list(tree)) == 1 and driver.record.end == Position(0), "it comes before everything else"
    for branch in branches:
        if branch.parent is None:
            record = driver.record
            tree.take_names(record, branch.name, branch.former)
        else:
            record = _child(branch, tree)
            tree.add(record)
        record.note = note_text(branch.note)
        record.end, record.passed_vns = branch.end, branch.start.vns
        record.inputs += branch.inputs
        record.endings += branch.endings
        record.failures += branch.failures
        record.events.append(branch.events)
        record.unjudged = branch.end, branch.unjudged
        record.keyframes.foretell(branch.keyframes)
        for keyframe in (one for unread in branch.keyframes if unread.first_vns == 0 for one in unread.read()):
            if keyframe.position == Position(0):
                driver.verify(keyframe)


def _child(branch: ForetoldBranch, tree: Tree) -> BranchRecord:
    assert branch.parent is not None, "the first one is there"
    parent = tree.find(branch.parent)
    keyframe = parent.keyframes.at(branch.start)
    if any(map(tree.knows, (branch.name, *branch.former))) or keyframe is None:
        raise BranchError(f"branch {branch.name!r} cannot begin there", where=f"{branch.parent} {branch.start.vns}")
    marks = zip(keyframe.instrets, keyframe.parts, strict=True)
    moment = Moment(parent.name, branch.start, tuple(mark_of(instret, parts.whole) for instret, parts in marks))
    consoles = [ConsoleLog(log, total) for log, total in zip(parent.consoles, keyframe.totals, strict=True)]
    events = EventLog(parent.events, keyframe.events)
    record = BranchRecord(branch.name, parent, moment, branch.start, branch.end, consoles, events)
    record.former += branch.former
    return record


__all__ = ["ForetoldBranch", "take_over"]
