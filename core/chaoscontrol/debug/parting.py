"""Where two branches part: both are gone along from where they left each other, and compared on the way.

For counterfactuals: something was changed on one of them, and the question is what came of it, and whether the bug is
still there. Both are brought to the same virtual time. Their events and frames are compared, each machine's digest to
the tick, and how the properties stand in the end. Histories are only repeated, or go on where nobody had been yet; the
cursor comes back to where it was.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.debug.capture import Capture
from chaoscontrol.errors import UsageError
from chaoscontrol.network import Fate
from chaoscontrol.oracle import Verdict
from chaoscontrol.timetravel import Position
from chaoscontrol.timetravel.verify import difference, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.network import CapturedFrame, Network
    from chaoscontrol.timetravel import GivenInput, Moment, Multiverse

SAMPLES = 64
"""Where digests are compared between two instants, before it is looked more closely between the last two."""
CLUSTER = -1
"""What is in no machine, where machines are numbered."""


@dataclasses.dataclass(frozen=True, slots=True)
class MachineParts:
    """When a machine is first not the same on both branches."""

    vm: int
    """CLUSTER: the network."""
    vns: int | None
    """The first tick boundary (or the instant of the fork) at which its digests differ; None: they never do."""
    what: str
    """What differs there, a's and b's; empty for the network."""


@dataclasses.dataclass(frozen=True, slots=True)
class FirstEvent:
    """The first event that is not on both."""

    number: int
    """On the branches' lines, from 0."""
    a: Event | None
    """None: there is no further one by the end."""
    b: Event | None


@dataclasses.dataclass(frozen=True, slots=True)
class FirstFrame:
    """The first frame that is not on both, by the order of sending."""

    a: CapturedFrame | None
    b: CapturedFrame | None


@dataclasses.dataclass(frozen=True, slots=True)
class VerdictPair:
    """How a property stands at the end of each."""

    name: str
    a: Verdict | None
    """None: the property is not known there."""
    b: Verdict | None

    @property
    def remains(self) -> bool:
        """Is it broken on both?"""
        return self.a is Verdict.FAILED and self.b is Verdict.FAILED


@dataclasses.dataclass(frozen=True, slots=True)
class Parting:
    """What became of two branches."""

    a: Moment
    b: Moment
    """Where they were compared in the end."""
    fork: Position
    """Up to here they are one history, the branch `common`'s."""
    common: str
    given_a: tuple[GivenInput, ...]
    """Inputs of the first that the second does not have."""
    given_b: tuple[GivenInput, ...]
    machines: tuple[MachineParts, ...]
    """By machine, the network last."""
    event: FirstEvent | None
    """None: the same events happened."""
    frame: FirstFrame | None
    """None: the same frames were sent, or there is no network."""
    properties: tuple[VerdictPair, ...]
    """Those that are broken on either."""

    @property
    def equal(self) -> bool:
        """Are they in the same state in the end?"""
        return self.a.machines == self.b.machines


class _Sample(NamedTuple):
    """Digests of the machines and the network at a time."""

    vns: int
    digests: tuple[str, ...]


class _Walk(NamedTuple):
    """What was seen on a branch."""

    samples: list[_Sample]
    frames: list[CapturedFrame]


class PartingFinder:
    """Compares branches of `multiverse`. network: of its cluster, None without one."""

    def __init__(
        self, multiverse: Multiverse, *, network: Network | None, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        self._multiverse = multiverse
        self._network = network if any(vm.has_network for vm in multiverse.machines) else None
        self._progress = progress

    def find(self, a: str, b: str, until_vns: int | None = None) -> Parting:
        """Where branches a and b part, both gone to `until_vns`: by default where the longer one ends.

        Raises UsageError, CancelledError.
        """
        multiverse = self._multiverse
        ends = [multiverse.find_branch(name).end.vns for name in (a, b)]
        common, fork = multiverse.fork_of(a, b)
        until_vns = max(ends) if until_vns is None else until_vns
        if until_vns < fork.vns:
            raise UsageError(f"{a} and {b} are one history until later", hint="give a time after they part")
        with multiverse.excursion():
            return self._find(a, b, common, fork, until_vns)

    def _find(self, a: str, b: str, common: str, fork: Position, until_vns: int) -> Parting:
        multiverse = self._multiverse
        times = _between(fork.vns, until_vns, multiverse.quantum_ns)
        walks: list[_Walk] = []
        ends: list[tuple[Moment, list[Event], dict[str, Verdict]]] = []
        for name in (a, b):
            walks.append(self._walk(name, times))
            report = multiverse.witness.report(until_vns)
            verdicts = {result.name: result.verdict for result in report.results}
            ends.append((multiverse.moment(), multiverse.events_so_far(), verdicts))
        (moment_a, events_a, verdicts_a), (moment_b, events_b, verdicts_b) = ends
        pairs = [VerdictPair(n, verdicts_a.get(n), verdicts_b.get(n)) for n in {**verdicts_a, **verdicts_b}]
        return Parting(
            a=moment_a,
            b=moment_b,
            fork=fork,
            common=common,
            given_a=_after(multiverse.inputs(a), fork, until_vns),
            given_b=_after(multiverse.inputs(b), fork, until_vns),
            machines=self._machines(a, b, walks[0].samples, walks[1].samples),
            event=_first_event(events_a, events_b),
            frame=_first_frame(walks[0].frames, walks[1].frames),
            properties=tuple(pair for pair in pairs if Verdict.FAILED in (pair.a, pair.b)),
        )

    # ---- going along ----

    def _walk(self, name: str, times: Sequence[int], *, frames: bool = True) -> _Walk:
        """Goes along a branch, to each of `times`."""
        multiverse = self._multiverse
        multiverse.goto_time(times[0], branch=name)
        if self._network is None or not frames:
            return _Walk([self._sample(name, vns) for vns in times], [])
        with Capture(self._network, self._progress) as capture:
            samples = [self._sample(name, vns, capture) for vns in times]
        return _Walk(samples, capture.frames)

    def _sample(self, name: str, vns: int, capture: Capture | None = None) -> _Sample:
        multiverse = self._multiverse
        if capture is not None and multiverse.position.vns < vns:
            multiverse.scan(capture, vns)
        multiverse.goto_time(vns, branch=name)
        self._progress(vns)
        digests = (*(str(vm.digest()) for vm in multiverse.machines), str(multiverse.network_digest))
        return _Sample(vns, digests)

    # ---- machines ----

    def _machines(self, a: str, b: str, on_a: list[_Sample], on_b: list[_Sample]) -> tuple[MachineParts, ...]:
        count = len(self._multiverse.machines)
        found: list[MachineParts] = []
        for at in range(count + 1):
            vns = self._first_difference(a, b, at, on_a, on_b)
            vm = at if at < count else CLUSTER
            what = "" if vns is None or vm == CLUSTER else self._what(a, b, vm, vns)
            found.append(MachineParts(vm, vns, what))
        return tuple(found)

    def _first_difference(self, a: str, b: str, at: int, on_a: list[_Sample], on_b: list[_Sample]) -> int | None:
        """The first tick boundary at which digest number `at` differs, looked for more and more closely."""
        while True:
            pairs = zip(on_a, on_b, strict=True)
            place = next((n for n, (x, y) in enumerate(pairs) if x.digests[at] != y.digests[at]), None)
            if place is None:
                return None
            after = on_a[place].vns
            times = [] if place == 0 else _between(on_a[place - 1].vns, after, self._multiverse.quantum_ns)
            if len(times) <= 2:
                return after
            on_a, on_b = (self._walk(name, times, frames=False).samples for name in (a, b))

    def _what(self, a: str, b: str, vm: int, vns: int) -> str:
        """What differs in a machine there."""
        multiverse = self._multiverse
        multiverse.goto_time(vns, branch=b)
        instret = multiverse.instrets[vm]
        (parts,) = parts_of([multiverse.machines[vm]])
        multiverse.goto_time(vns, branch=a)
        if multiverse.instrets[vm] != instret:
            return f"{multiverse.instrets[vm]} instructions in a, {instret} in b"
        found = difference(multiverse.machines[vm], parts)
        assert found is not None, "its digests differ"
        return found.describe("in b")


def _between(begin_ns: int, end_ns: int, quantum_ns: int) -> list[int]:
    """At most SAMPLES + 1 instants from `begin_ns` to `end_ns`, all but these at tick boundaries."""
    ticks = -(-(end_ns - begin_ns) // quantum_ns)
    step_ns = max(-(-ticks // SAMPLES), 1) * quantum_ns
    first = begin_ns // quantum_ns * quantum_ns + step_ns
    return [begin_ns, *range(first, end_ns, step_ns), *([end_ns] if end_ns > begin_ns else [])]


def _after(inputs: Sequence[GivenInput], fork: Position, until_vns: int) -> tuple[GivenInput, ...]:
    return tuple(given for given in inputs if given.at >= fork and given.at.vns <= until_vns)


def _first_event(a: Sequence[Event], b: Sequence[Event]) -> FirstEvent | None:
    same = next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    if same == len(a) == len(b):
        return None
    return FirstEvent(same, *(events[same] if same < len(events) else None for events in (a, b)))


def _first_frame(a: Sequence[CapturedFrame], b: Sequence[CapturedFrame]) -> FirstFrame | None:
    in_order = [_sent(frames) for frames in (a, b)]
    for one, other in zip(*in_order, strict=False):
        if one != other:
            # Only the earlier one is missing on the other branch.
            return FirstFrame(
                one if one.sent_vns <= other.sent_vns else None, other if other.sent_vns <= one.sent_vns else None
            )
    rest = min(map(len, in_order))
    if len(in_order[0]) == len(in_order[1]):
        return None
    return FirstFrame(*(frames[rest] if rest < len(frames) else None for frames in in_order))


def _sent(frames: Sequence[CapturedFrame]) -> list[CapturedFrame]:
    """In order; edits on the way are told as inputs."""
    sent = [frame for frame in frames if not frame.fate & (Fate.TAKEN | Fate.EDITED)]
    return sorted(sent, key=lambda f: (f.sent_vns, f.src, f.serial, f.dst))


__all__ = ["CLUSTER", "FirstEvent", "FirstFrame", "MachineParts", "Parting", "PartingFinder", "VerdictPair"]
