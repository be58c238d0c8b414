"""Known: what a recording tells, as the known future of a multiverse. Nothing is run for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.timetravel import ForetoldBranch, Mark, Moment, Told
from chaoscontrol.timetravel.keyframes import Keyframe, Unread
from chaoscontrol.timetravel.moment import mark_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoscontrol.events import Event
    from chaoscontrol.recording.reader import RecordedBranch, Recording
    from chaoscontrol.recording.records import Checkpoint
    from chaoscontrol.timetravel import GivenInput, Position


def foretold_branches(recording: Recording) -> list[ForetoldBranch]:
    """All branches that were not deleted, in order.

    Raises RecordingError where it does not say in what state one begins.
    """
    return [_foretold(recording, branch) for branch in recording.kept]


def foretold_marks(recording: Recording) -> dict[str, Mark]:
    """The marks where the digests of their positions are known. Raises RecordingError."""
    found: dict[str, Mark] = {}
    for name, mark in recording.marks.items():
        checkpoint = _checkpoint(recording, recording.owner(mark.branch, mark.position), mark.position)
        if checkpoint is not None:
            machines = zip(checkpoint.instrets, checkpoint.parts, strict=True)
            states = tuple(mark_of(instret, parts.whole) for instret, parts in machines)
            found[name] = Mark(Moment(mark.branch.name, mark.position, states), mark.note)
    return found


def _checkpoint(recording: Recording, branch: RecordedBranch, position: Position) -> Checkpoint | None:
    """The branch's own at `position`, if it has one."""
    near = recording.each_checkpoint(branch, from_vns=position.vns, to_vns=position.vns)
    return next((checkpoint for checkpoint in near if checkpoint.position == position), None)


def _foretold(recording: Recording, branch: RecordedBranch) -> ForetoldBranch:
    parent = None
    if branch.parent is not None:
        parent = recording.owner(recording.branches[branch.parent], branch.start)
        if _checkpoint(recording, parent, branch.start) is None:
            raise RecordingError(
                f"it has no digest where branch {branch.name} begins",
                path=recording.path,
                hint="`cc-tui replay` can live through it all the same",
            )
    batches = list(recording.batches(branch))
    return ForetoldBranch(
        branch.name,
        None if parent is None else parent.name,
        branch.start,
        branch.end,
        tuple(branch.inputs),
        tuple(branch.endings),
        tuple(branch.failures),
        tuple(event for batch in batches if not batch.pending for event in batch.events),
        tuple(_unread(*piece) for piece in recording.later_checkpoints(branch)),
        tuple(event for batch in batches if batch.pending for event in batch.events),
        tuple(branch.former),
        branch.note,
    )


def _unread(first_vns: int, last_vns: int, read: Callable[[], list[Checkpoint]]) -> Unread:
    return Unread(first_vns, last_vns, lambda: list(map(_keyframe, read())))


def _keyframe(checkpoint: Checkpoint) -> Keyframe:
    c = checkpoint
    return Keyframe(c.position, c.instrets, c.totals, c.parts, None, c.network, c.events)


def told_branches(recording: Recording) -> list[Told]:
    """What it tells of each branch that was not deleted, in order; needs no images. Raises RecordingError.

    What happened in the last BATCH_NS of a branch that was left before that was judged is in no recording.
    """
    lines: dict[int, Told] = {}
    for branch in recording.kept:
        inherited, events = _past(recording, branch, lines)
        for batch in recording.batches(branch):
            # The first of its own may have happened before it began, unjudged by then.
            del events[batch.first :]
            events += batch.events
        lines[branch.number] = Told(branch.name, branch.end, events, [*inherited, *branch.inputs])
    return list(lines.values())


def _past(recording: Recording, branch: RecordedBranch, lines: dict[int, Told]) -> tuple[list[GivenInput], list[Event]]:
    """Inputs and events of what it inherits, those unjudged at its beginning by their date."""
    if branch.parent is None:
        return [], []
    parent = lines[recording.owner(recording.branches[branch.parent], branch.start).number]
    inputs = [given for given in parent.inputs if given.after <= branch.start]
    return inputs, [event for event in parent.events if event.vns < branch.start.vns]


__all__ = ["foretold_branches", "foretold_marks", "told_branches"]
