"""Keyframes: positions whose state is known by digest, some of them with a snapshot to restart from.

Snapshots are dense near the cursor and thinner with distance: one is kept when the work from the last one kept is at
least its distance from the cursor divided by the density, or as much as a jump to anywhere may cost. What is thinned
away leaves its digests behind, so every replay is checked there all the same. Work is what a replay costs:
instructions retired by all machines together, and something for the time that they idle.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from chaoscontrol.timetravel.cluster_api import ClusterSnapshot
from chaoscontrol.timetravel.moment import Position
from chaoscontrol.timetravel.witness import Witness

NS_PER_WORK = 100
"""Letting idle time pass costs something too: a virtual second about as much as ten million instructions."""
DENSITY_MIN = 2
GAP_WORK_MAX = 8_000_000
"""While there is memory, thinning leaves no more work than this between two snapshots: a jump to anywhere is short."""


def work_of(instrets: tuple[int, ...], vns: int) -> int:
    """What a replay costs, in instructions: those of all machines together, and the time that they idle."""
    return sum(instrets) + vns // NS_PER_WORK


class Parts(NamedTuple):
    """What is kept of one machine to compare it with later: digests, hexadecimal, and what names the differences."""

    whole: str
    cpu: str
    devices: str
    registers: bytes
    """As chaoscontrol.registers.LAYOUT says."""
    sketch: bytes
    """Of its pages: see sketch.py."""


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


class Unread(NamedTuple):
    """Keyframes of a foretold history, without snapshots, that are read when somebody comes there."""

    first_vns: int
    """Virtual time of the first one, nanoseconds."""
    last_vns: int
    read: Callable[[], Sequence[Keyframe]]
    """Raises ChaosControlError: what is there is damaged."""


class KeyframeIndex:
    """The keyframes of one branch, in order."""

    def __init__(self) -> None:
        self._all: list[Keyframe] = []
        self._held: list[Keyframe] = []
        self._unread: list[Unread] = []
        """By their first times."""
        self._reach: list[int] = []
        """No last time of those in `_unread` up to this one is later."""

    def __len__(self) -> int:
        """How many of them hold a snapshot."""
        return len(self._held)

    def __iter__(self) -> Iterator[Keyframe]:
        if self._unread:
            self._read(self._unread[-1].first_vns, 0)
        return iter(self._all)

    def foretell(self, unread: Sequence[Unread]) -> None:
        """There are these, too."""
        self._unread = sorted([*self._unread, *unread], key=_first_vns)
        self._reach = list(accumulate((piece.last_vns for piece in self._unread), max))

    def _read(self, first_vns: int, last_vns: int) -> None:
        """Take in what is foretold in pieces that begin by `first_vns` and do not end before `last_vns`."""
        at = bisect_right(self._unread, first_vns, key=_first_vns) - 1
        while at >= 0 and self._reach[at] >= last_vns:
            if self._unread[at].last_vns >= last_vns:
                for keyframe in self._unread[at].read():
                    self.add(keyframe)
                del self._unread[at], self._reach[at]
            at -= 1

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
        self._all, self._held, self._unread, self._reach = [], [], [], []

    def at(self, position: Position) -> Keyframe | None:
        """The keyframe at exactly `position`, with or without its snapshot."""
        self._read(position.vns, position.vns)
        at = bisect_left(self._all, position, key=_position)
        return self._all[at] if at < len(self._all) and self._all[at].position == position else None

    def next_vns(self, after: int) -> int | None:
        """Virtual time of the first keyframe after virtual time `after`."""
        self._read(after, after + 1)
        at, unread = bisect_right(self._all, after, key=_vns), bisect_right(self._unread, after, key=_first_vns)
        found = [keyframe.position.vns for keyframe in self._all[at : at + 1]]
        found += [piece.first_vns for piece in self._unread[unread : unread + 1]]
        return min(found, default=None)

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


def thin_line(indexes: Sequence[KeyframeIndex], work: int, density: int, memory_is_short: Callable[[], bool]) -> None:
    """Thin the branches of a line about `work`, and more and more while memory is short."""
    gap_max = GAP_WORK_MAX
    while True:
        last = density <= DENSITY_MIN
        for index in indexes:
            index.thin(work, density, None if last else gap_max)
        if last or not memory_is_short():
            return
        density //= 2
        gap_max *= 4


def _position(keyframe: Keyframe) -> Position:
    return keyframe.position


def _first_vns(unread: Unread) -> int:
    return unread.first_vns


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
