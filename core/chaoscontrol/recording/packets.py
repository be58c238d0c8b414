"""Packets: what the network carried on a recorded line of history.

Where it was recorded it is read; otherwise the history is lived through again, verified, and captured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.errors import UsageError
from chaoscontrol.recording.rebuild import rebuild
from chaoscontrol.recording.replay import Compared, Replay
from chaoscontrol.timetravel import Multiverse, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.recording.reader import RecordedBranch, Recording
    from chaoscontrol.recording.rebuild import ImagePath
    from chaoscontrol.recording.replay import Progress

FRAMES_MAX = 4_000_000
"""Kept at once: a guest must not fill the host's memory."""
KEYFRAME_INSNS = 20_000_000
"""Nobody goes back: keyframes are for what a segment brought in vain."""


def read_packets(recording: Recording, branch: RecordedBranch, *, to_vns: int | None = None) -> list[CapturedFrame]:
    """What was recorded of a branch's line, in the network's order: of frames sent by `to_vns`."""
    found: list[CapturedFrame] = []
    for record, last in recording.line(branch, branch.end):
        whole = record is branch and last == branch.end
        _keep(found, recording.packets(record) if whole else recording.packets_to(record, last), to_vns)
    return found


def replay_packets(
    recording: Recording,
    branch: RecordedBranch,
    *,
    to_vns: int | None = None,
    images: Sequence[ImagePath] = (),
    trusted_observers: Sequence[str] = (),
    progress: Progress | None = None,
) -> tuple[list[CapturedFrame], Compared]:
    """The same, by living through it again; and what was compared on the way. Raises DifferenceError."""
    quantum_ns, end = recording.header.config.quantum_ns, branch.end
    if to_vns is not None:
        # Frames are switched when the tick in which they were sent has ended.
        end = min(end, Position((to_vns // quantum_ns + 1) * quantum_ns))
        branch = recording.owner(branch, end)
    found: list[CapturedFrame] = []
    rebuilt = rebuild(recording, images=images, trusted_observers=trusted_observers, packets=True)
    try:
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness, keyframe_insns=KEYFRAME_INSNS)
        replay = Replay(recording, multiverse, progress=progress, on_frames=lambda frames: _keep(found, frames, to_vns))
        return found, replay.to(branch, end)
    finally:
        rebuilt.close()


def _keep(found: list[CapturedFrame], frames: Iterable[CapturedFrame], to_vns: int | None) -> None:
    found += [frame for frame in frames if to_vns is None or frame.sent_vns <= to_vns]
    if len(found) > FRAMES_MAX:
        raise UsageError(f"there are more than {FRAMES_MAX} packets", hint="ask for a shorter stretch with --to")


__all__ = ["read_packets", "replay_packets"]
