"""Known: what a recording tells, as the known future of a multiverse. Nothing is run for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.timetravel import ForetoldBranch
from chaoscontrol.timetravel.keyframes import Keyframe

if TYPE_CHECKING:
    from chaoscontrol.recording.reader import RecordedBranch, Recording
    from chaoscontrol.recording.records import Checkpoint


def foretold_branches(recording: Recording) -> list[ForetoldBranch]:
    """All branches, in their order. Raises RecordingError where it does not say in what state one begins."""
    keyframes = {branch.number: list(map(_keyframe, recording.checkpoints(branch))) for branch in recording.branches}
    return [_foretold(recording, branch, keyframes) for branch in recording.branches]


def _foretold(recording: Recording, branch: RecordedBranch, keyframes: dict[int, list[Keyframe]]) -> ForetoldBranch:
    parent = None
    if branch.parent is not None:
        parent = recording.owner(recording.branches[branch.parent], branch.start)
        if not any(keyframe.position == branch.start for keyframe in keyframes[parent.number]):
            raise RecordingError(
                f"it has no digest where branch {branch.name} begins",
                path=recording.path,
                hint="`cc-tui replay` can live through it all the same",
            )
    events = [event for batch in recording.batches(branch) if not batch.pending for event in batch.events]
    return ForetoldBranch(
        branch.name,
        None if parent is None else parent.name,
        branch.start,
        branch.end,
        tuple(branch.inputs),
        tuple(branch.endings),
        tuple(branch.failures),
        tuple(events),
        tuple(keyframes[branch.number]),
    )


def _keyframe(checkpoint: Checkpoint) -> Keyframe:
    c = checkpoint
    return Keyframe(c.position, c.instrets, c.totals, c.parts, None, c.network, c.events)


__all__ = ["foretold_branches"]
