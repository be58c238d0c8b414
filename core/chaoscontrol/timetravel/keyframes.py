"""Keyframes: positions whose state is known by digest, some of them with a snapshot to restart from.

Snapshots are dense near the cursor and thinner with distance: one is kept when the work from the last one kept is at
least its distance from the cursor divided by the density, or as much as a jump to anywhere may cost. What is thinned
away leaves its digests behind, so every replay is checked there all the same. Work is what a replay costs:
instructions retired by all machines together, and something for the time that they idle.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from chaoscontrol.timetravel.cluster_api import ClusterSnapshot
from chaoscontrol.timetravel.moment import Position
from chaoscontrol.timetravel.witness import Witness

NS_PER_WORK = 100
"""Letting idle time pass costs something too: a virtual second about as much as ten million instructions."""


def work_of(instrets: tuple[int, ...], vns: int) -> int:
    """What a replay costs, in instructions: those of all machines together, and the time that they idle."""
    return sum(instrets) + vns // NS_PER_WORK


class Parts(NamedTuple):
    """Digests of one machine, whole and in part, hexadecimal."""

    whole: str
    cpu: str
    devices: str


@dataclass(slots=True)
class Keyframe:
    """A checked position; `snapshot` is None once it was thinned away."""

    position: Position
    instrets: tuple[int, ...]
    """Instructions retired, per machine."""
    totals: tuple[int, ...]
    """Console bytes sent, per machine."""
    parts: tuple[Parts, ...]
    snapshot: ClusterSnapshot | None
    network: str = ""
    """Digest of what is not in the machines, hexadecimal."""
    events: int = 0
    """Events of the line's log by then."""
    witness: Witness | None = None
    """What had been seen; None without a snapshot."""
    pinned: bool = False
    """Never thinned: the beginning of everything."""

    @property
    def work(self) -> int:
        """What it takes to come here from the beginning, in instructions."""
        return work_of(self.instrets, self.position.vns)


class KeyframeIndex:
    """The keyframes of one branch, in order."""

    def __init__(self) -> None:
        self._all: list[Keyframe] = []
        self._held: list[Keyframe] = []

    def __len__(self) -> int:
        """How many of them hold a snapshot."""
        return len(self._held)

    def __iter__(self) -> Iterator[Keyframe]:
        return iter(self._all)

    def add(self, keyframe: Keyframe) -> None:
        """Put it in its place; one without a snapshot at this position is replaced by one that has it."""
        at = bisect_left(self._all, keyframe.position, key=_position)
        if at < len(self._all) and self._all[at].position == keyframe.position:
            if self._all[at].snapshot is not None or keyframe.snapshot is None:
                return
            self._all[at] = keyframe
        else:
            self._all.insert(at, keyframe)
        if keyframe.snapshot is not None:
            self._held.insert(bisect_left(self._held, keyframe.position, key=_position), keyframe)

    def clear(self) -> None:
        """Forget all of them, and free their snapshots."""
        for keyframe in self._held:
            if keyframe.snapshot is not None:
                keyframe.snapshot.close()
                keyframe.snapshot = keyframe.witness = None
        self._all, self._held = [], []

    def at(self, position: Position) -> Keyframe | None:
        """The keyframe at exactly `position`, with or without its snapshot."""
        at = bisect_left(self._all, position, key=_position)
        return self._all[at] if at < len(self._all) and self._all[at].position == position else None

    def next_vns(self, after: int) -> int | None:
        """Virtual time of the first keyframe after virtual time `after`."""
        at = bisect_right(self._all, after, key=_vns)
        return self._all[at].position.vns if at < len(self._all) else None

    def latest(self, last: Position, wanted: Callable[[Keyframe], bool]) -> Keyframe | None:
        """The latest keyframe with a snapshot, at or before `last`, that is `wanted`."""
        for at in range(bisect_right(self._held, last, key=_position) - 1, -1, -1):
            if wanted(self._held[at]):
                return self._held[at]
        return None

    def thin(self, work: int, density: int, gap_max: int | None = None) -> None:
        """Drop snapshots that are closer together than their distance from `work` divided by `density`.

        gap_max: the work between two that is never made larger by this; None: any.
        """
        middle = bisect_right(self._held, work, key=lambda keyframe: keyframe.work)
        before = _spaced(self._held[:middle][::-1], work, density, gap_max)[::-1]
        after = _spaced(self._held[middle:], work, density, gap_max)
        self._held = before + after


def _position(keyframe: Keyframe) -> Position:
    return keyframe.position


def _vns(keyframe: Keyframe) -> int:
    return keyframe.position.vns


def _spaced(outwards: list[Keyframe], work: int, density: int, gap_max: int | None) -> list[Keyframe]:
    """Those to keep of keyframes ordered by their distance from `work`; the others lose their snapshots."""
    kept: list[Keyframe] = []
    for at, keyframe in enumerate(outwards):
        distance = abs(work - keyframe.work)
        crowded = bool(kept) and abs(keyframe.work - kept[-1].work) * density < distance
        if crowded and gap_max is not None and at + 1 < len(outwards):
            crowded = abs(outwards[at + 1].work - kept[-1].work) <= gap_max
        if crowded and not keyframe.pinned and keyframe.snapshot is not None:
            keyframe.snapshot.close()
            keyframe.snapshot = keyframe.witness = None
        else:
            kept.append(keyframe)
    return kept
