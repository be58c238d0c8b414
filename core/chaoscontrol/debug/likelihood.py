"""Likelihood: when did it become inevitable? Samples from earlier moments, each the same history with other chances.

A sample is a throwaway fork of a moment: all random streams start anew there, everything else stays, the faults and
inputs to come included. From how many of them end the same way comes an estimate for the moment, with bounds. Moments
are tried further and further back until a sample avoids it; then the turn is bisected: first in time, down to the
resolution, then among what happened in between, so that two positions are left between which as little as possible
happened. Chances are the machines' random devices and SDK, network and disks: a guest that drew its numbers at boot
has none left later.

Equal arguments give equal results. Nothing is left in the tree, and the cursor comes back.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaoscontrol import confidence
from chaoscontrol.debug.happenings import Happening, happenings
from chaoscontrol.debug.hindsight import position_of
from chaoscontrol.errors import UsageError
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FaultChange
from chaoscontrol.random import derive_seed
from chaoscontrol.timetravel import CancelledError, FaultInput, PacketInput, Position, SeedInput
from chaoscontrol.timetravel.witness import BATCH_NS

if TYPE_CHECKING:
    from chaoscontrol.debug.debugger import Debugger
    from chaoscontrol.timetravel import BranchHead, GivenInput, Multiverse, Told

SAMPLES = 20
MARGIN_NS = 500_000_000
"""How much longer than the history itself a sample is given, virtual nanoseconds: it may come to it later."""
GROWTH = 4
"""How much further back each moment of the search is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sample is asked for."""

    name: str
    at: Position
    """The first position of the history at which it is so."""
    horizon_vns: int
    """When the samples end."""
    is_so: Callable[[], bool]
    """Of the cursor's history up to the cursor."""
    lasts: bool
    """Once it is so, it is so for ever: a sample may end there."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A sample that avoided it, and where it parted from the history: None where one of the two has no event."""

    seed: int
    """What its streams began with."""
    known: Event | None
    instead: Event | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the samples from a position say."""

    position: Position
    samples: int
    failed: int
    survivor: Survivor | None
    """The first one; None: none avoided it."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Of the share that fails: two-sided, for this moment by itself."""
        return confidence.bounds(self.failed, self.samples)


@dataclass(slots=True)
class Likelihood:
    """What is known."""

    branch: str
    outcome: str
    at: Position
    """Where it had happened in the history."""
    horizon_vns: int
    floor: Position
    """The earliest moment that would be tried."""
    back_to_start: bool = True
    """Is that the branch's beginning?"""
    estimates: list[Estimate] = field(default_factory=list[Estimate])
    """By position."""
    between: tuple[Happening, ...] = ()
    """What happened after `avoidable` up to `inevitable`."""
    complete: bool = False
    """False: it was cancelled, and what is here is what was known by then."""

    @property
    def avoidable(self) -> Estimate | None:
        """The last moment from which a sample avoided it."""
        return next((one for one in reversed(self.estimates) if one.failed < one.samples), None)

    @property
    def inevitable(self) -> Estimate | None:
        """The first one after that from which none did; None: not even right before it had happened."""
        turn = self.avoidable
        return next((one for one in self.estimates if turn is None or one.position > turn.position), None)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    position: Position
    sample: int
    """From 1."""
    samples: int


# ---- outcomes --------------------------------------------------------------------------------------------------------


def of_property(multiverse: Multiverse, name: str | None = None, *, margin_ns: int = MARGIN_NS) -> Outcome:
    """That a property is broken: the first one of the cursor's branch, unless it is named. Raises UsageError."""
    failures = sorted(multiverse.failures())
    known = next((failure for failure in failures if name in (None, failure.name)), None)
    if known is None:
        what = "no property is broken" if name is None else f"the property {name!r} is not broken"
        names = ", ".join(repr(failure.name) for failure in failures) or "none"
        raise UsageError(f"{what} on {multiverse.branch.name}", hint=f"broken are: {names}")

    def is_so() -> bool:
        if any(failure.name == known.name for failure in multiverse.failures()):
            return True
        if multiverse.position.vns < horizon_vns:
            return False  # what is not judged yet will be
        report = multiverse.witness.report(multiverse.position.vns)
        return any(result.name == known.name for result in report.failures)

    at = position_of(multiverse.told(), known.at)
    horizon_vns = at.vns + margin_ns
    return Outcome(known.name, at, horizon_vns, is_so, lasts=True)


def of_condition(multiverse: Multiverse, name: str, is_so: Callable[[], bool]) -> Outcome:
    """That something is so at the end of the cursor's branch. Raises UsageError where it is not."""
    end = multiverse.branch.end
    with multiverse.excursion():
        multiverse.goto_end()
        if not is_so():
            raise UsageError(f"it is not so at the end of {multiverse.branch.name}: {name}")
    return Outcome(name, end, end.vns, is_so, lasts=False)


# ---- the search ------------------------------------------------------------------------------------------------------


def likelihood(
    debugger: Debugger,
    outcome: Outcome,
    *,
    samples: int = SAMPLES,
    back_ns: int | None = None,
    resolution_ns: int | None = None,
    seed: int = 0,
    extra: Sequence[FaultInput] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> Likelihood:
    """When it became inevitable on the cursor's branch. A cancel ends it with what is known by then.

    back_ns: try moments this far back, also when later ones avoided it; otherwise the search goes back until one does,
    at most to the branch's beginning. resolution_ns: a tick unless given. seed: of the samples' seeds. extra: faults
    that begin with each sample besides. Raises ChaosControlError.
    """
    if samples < 1 or (resolution_ns is not None and resolution_ns < 1):
        raise UsageError("it takes a sample, and a nanosecond, at least")
    search = _Search(debugger, outcome, samples, resolution_ns or debugger.multiverse.quantum_ns, seed, extra, progress)
    search.found.floor = search.floor(back_ns)
    search.found.back_to_start = search.found.floor == debugger.multiverse.branch.start
    with debugger.multiverse.excursion():
        try:
            search.go_back(to_the_floor=back_ns is not None)
            search.bisect()
            search.refine()
        except CancelledError:
            return search.found
    search.found.complete = True
    return search.found


class _Search:
    def __init__(
        self,
        debugger: Debugger,
        outcome: Outcome,
        samples: int,
        resolution_ns: int,
        seed: int,
        extra: Sequence[FaultInput],
        progress: Callable[[Progress], None],
    ) -> None:
        self._debugger = debugger
        self._multiverse = debugger.multiverse
        self._outcome = outcome
        self._samples = samples
        self._resolution_ns = resolution_ns
        self._seed = seed
        self._extra = extra
        self._progress = progress
        self._told = self._multiverse.told()
        self.found = Likelihood(
            self._told.branch, outcome.name, outcome.at, outcome.horizon_vns, self._multiverse.branch.start
        )

    def floor(self, back_ns: int | None) -> Position:
        """The earliest moment to try."""
        start, at = self._multiverse.branch.start, self._outcome.at
        if back_ns is not None:
            return self._after_inputs(max(at.vns - back_ns, 0))
        return start if start < at else Position(0)

    def _after_inputs(self, vns: int) -> Position:
        return Position(vns, self._told.inputs_at(vns))

    # ---- which moments ----

    def go_back(self, *, to_the_floor: bool) -> None:
        """Samples further and further back; on until the floor, or until one of them avoids it."""
        for position in self._grid():
            if self._estimate(position).survivor is not None and not to_the_floor:
                return

    def _grid(self) -> Iterator[Position]:
        at_vns, floor, distance_ns = self._outcome.at.vns, self.found.floor, self._resolution_ns
        while True:
            # Multiples of the resolution, the first one before it had happened.
            vns = (at_vns - distance_ns + self._resolution_ns - 1) // self._resolution_ns * self._resolution_ns
            if vns <= floor.vns:
                yield floor
                return
            yield self._after_inputs(vns)
            distance_ns *= GROWTH

    def bisect(self) -> None:
        """Narrows the turn in time."""
        while (turn := self._turn()) is not None:
            low, high = turn[0].vns, turn[1].vns
            middle = (low + high) // 2 // self._resolution_ns * self._resolution_ns
            middle = middle if middle > low else (low // self._resolution_ns + 1) * self._resolution_ns
            if high - low <= self._resolution_ns or middle >= high:
                return
            self._estimate(self._after_inputs(middle))

    def _turn(self) -> tuple[Position, Position] | None:
        """The last moment that is known to be avoidable and the first one after it that is not."""
        low, high = self.found.avoidable, self.found.inevitable
        return None if low is None else (low.position, self._outcome.at if high is None else high.position)

    def refine(self) -> None:
        """Narrows the turn among what happened in it, and keeps what is left."""
        turn = self._turn()
        if turn is None:
            return
        self.found.between = happenings(self._debugger, self._told, *turn)
        while (turn := self._turn()) is not None:
            inside = sorted({one.position for one in self.found.between if turn[0] < one.position < turn[1]})
            if not inside:
                break
            self._estimate(inside[len(inside) // 2])
        assert turn is not None, "samples only narrow it"
        self.found.between = tuple(one for one in self.found.between if turn[0] < one.position <= turn[1])

    # ---- one moment ----

    def _estimate(self, position: Position) -> Estimate:
        """Samples a moment; one that is cancelled keeps the samples that it has."""
        multiverse, done, failed, survivor = self._multiverse, 0, 0, None
        multiverse.goto_time(position.vns, ordinal=position.ordinal)
        try:
            while done < self._samples:
                self._progress(Progress(position, done + 1, self._samples))
                seed = derive_seed(self._seed, "likelihood", position.vns, position.ordinal, done)
                with multiverse.throwaway() as head:
                    same = self._live(head, position, seed)
                    if not same and survivor is None:
                        survivor = Survivor(seed, *self._parting(position))
                done, failed = done + 1, failed + same
        finally:
            estimate = Estimate(position, done, failed, survivor)
            if done:
                insort(self.found.estimates, estimate, key=lambda one: one.position)
        return estimate

    def _live(self, head: BranchHead, position: Position, seed: int) -> bool:
        """Lives a sample, whose fork is followed; whether it ends the same way."""
        head.give(SeedInput(seed))
        for fault in self._extra:
            head.give(fault)
        for given in self._told.inputs:
            if given.at < position or given.at.vns > self._outcome.horizon_vns:
                continue
            if self._run_to(given.at.vns):
                return True
            self._repeat(head, given, seed)
        return self._run_to(self._outcome.horizon_vns) or self._outcome.is_so()

    def _repeat(self, head: BranchHead, given: GivenInput, seed: int) -> None:
        """An input of the history once more; where that drew other chances, so does the sample."""
        if isinstance(given.input, SeedInput):
            head.give(SeedInput(derive_seed(seed, "reseeded", given.at.vns, given.at.ordinal)))
        elif isinstance(given.input, PacketInput):
            with suppress(UsageError):  # here that packet is not in flight
                head.give(given.input)
        else:
            head.give(given.input)

    def _run_to(self, vns: int) -> bool:
        """Goes on; True, and no further, where it is clear already how this ends."""
        multiverse = self._multiverse
        while multiverse.position.vns < vns:
            multiverse.run_to(min(vns, (multiverse.position.vns // BATCH_NS + 1) * BATCH_NS))
            if self._outcome.lasts and self._outcome.is_so():
                return True
        return False

    def _parting(self, position: Position) -> tuple[Event | None, Event | None]:
        """The first event in which the history and the sample at the cursor differ, as each has it."""
        known, instead = self._told, self._multiverse.told()
        until_vns = min(known.end.vns, instead.end.vns)
        first = _from(known, position, until_vns)
        second = [event for event in _from(instead, position, until_vns) if not self._is_extra(event)]
        for one, other in zip(first, second, strict=False):
            if one is not other and _seen(one) != _seen(other):
                return one, other
        both = min(len(first), len(second))
        return next(iter(first[both:]), None), next(iter(second[both:]), None)

    def _is_extra(self, event: Event) -> bool:
        return isinstance(event.data, FaultChange) and any(event.data.fault == given.fault for given in self._extra)


def _from(told: Told, position: Position, until_vns: int) -> list[Event]:
    return [event for event in told.events if position.vns <= event.vns < until_vns]


def _seen(event: Event) -> tuple[int, int, int, EventKind, str]:
    """An event without the number that a fault has among all."""
    return event.vns, event.vm, event.instret, event.kind, event.text


__all__ = [
    "MARGIN_NS",
    "SAMPLES",
    "Estimate",
    "Likelihood",
    "Outcome",
    "Progress",
    "Survivor",
    "likelihood",
    "of_condition",
    "of_property",
]
