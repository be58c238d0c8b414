"""Branches and the inputs that make them.

A branch is a history: where it left its parent, and the inputs given since. `Branch` is a frozen picture for callers;
`BranchRecord` is the tree's own, mutable, and owned by `Multiverse`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from chaoscontrol.events import Event
from chaoscontrol.timetravel.console_log import ConsoleLog
from chaoscontrol.timetravel.event_log import EventLog
from chaoscontrol.timetravel.inputs import ConsoleInput, Input
from chaoscontrol.timetravel.keyframes import Keyframe, KeyframeIndex
from chaoscontrol.timetravel.moment import Moment, Position
from chaoscontrol.timetravel.witness import Failure


@dataclass(frozen=True, slots=True)
class GivenInput:
    """An input with the position before which nothing of it was there; it is the `at.ordinal`-th of its instant."""

    at: Position
    instret: int
    """Instruction count of the machine that got it, or of all together: a second way to say when."""
    input: Input

    @property
    def after(self) -> Position:
        """The position at which it has just been applied."""
        return Position(self.at.vns, self.at.ordinal + 1)


def typed_lines(inputs: Iterable[GivenInput]) -> list[list[GivenInput]]:
    """Inputs in groups that a person would call one: a line typed at one machine, or one of another kind."""
    groups: list[list[GivenInput]] = []
    for given in inputs:
        last = groups[-1][-1].input if groups else None
        if _continues(last, given.input):
            groups[-1].append(given)
        else:
            groups.append([given])
    return groups


def _continues(last: Input | None, given: Input) -> bool:
    """Is it more of the line that was being typed?"""
    return (
        isinstance(last, ConsoleInput)
        and isinstance(given, ConsoleInput)
        and last.machine == given.machine
        and last.data[-1:] not in b"\r\n"
    )


@dataclass(frozen=True, slots=True)
class Ending:
    """A machine that ended, and does not run again unless a fault restarts it."""

    machine: int
    vns: int
    kind: str
    """Lower-case name of the stop: `shutdown`, `triple fault`, `reset`, `power off` for a power that was cut."""
    detail: int

    @classmethod
    def of(cls, machine: int, vns: int, stop: str, detail: int) -> "Ending":
        """`stop`: the kind's C name."""
        return cls(machine, vns, stop.lower().replace("_", " "), detail)


@dataclass(frozen=True, slots=True)
class Branch:
    """A picture of one branch."""

    name: str
    parent: Moment | None
    """Where it left its parent; None for the first branch."""
    start: Position
    end: Position
    """The furthest position reached; only here can inputs be given."""
    inputs: tuple[GivenInput, ...]
    """Those given on this branch itself, in order."""
    endings: tuple[Ending, ...]
    failures: tuple[Failure, ...]
    """Properties broken on this branch itself, in the order in which they were found out."""
    keyframes: int
    """Snapshots held between start and end."""
    note: str = ""
    """What a person says of it."""
    former: tuple[str, ...] = ()
    """Names that it had before; they still lead to it."""
    passed_vns: int | None = None
    """Of a foretold branch: how far the cursor has been on it. None: to the end, as on any other."""


@dataclass(slots=True)
class BranchRecord:
    """The tree's own account of a branch; a position belongs to the oldest branch of the line that reaches it."""

    name: str
    parent: "BranchRecord | None"
    parent_moment: Moment | None
    start: Position
    end: Position
    consoles: list[ConsoleLog]
    events: EventLog = field(default_factory=EventLog)
    failures: list[Failure] = field(default_factory=list[Failure])
    """Properties broken on this branch itself, each the first time on its line."""
    inputs: list[GivenInput] = field(default_factory=list[GivenInput])
    endings: list[Ending] = field(default_factory=list[Ending])
    log: list[tuple[int, int, str]] = field(default_factory=list[tuple[int, int, str]])
    """(virtual time, machine, line) of what the machines logged."""
    keyframes: KeyframeIndex = field(default_factory=KeyframeIndex)
    unjudged: tuple[Position, tuple[Event, ...]] | None = None
    """Of a foretold branch: its end, and what had happened by then that is not among its events."""
    passed_vns: int | None = None
    """Of a foretold branch: how far the cursor has been on it, whence its consoles are known. None: to the end."""
    note: str = ""
    former: list[str] = field(default_factory=list[str])
    """Names that it had before, the latest last."""
    deleted: bool = False

    def picture(self) -> Branch:
        return Branch(
            self.name,
            self.parent_moment,
            self.start,
            self.end,
            tuple(self.inputs),
            tuple(self.endings),
            tuple(self.failures),
            len(self.keyframes),
            self.note,
            tuple(self.former),
            self.passed_vns,
        )

    def line(self) -> list["BranchRecord"]:
        """This branch and its ancestors, the first branch first."""
        records: list[BranchRecord] = []
        record: BranchRecord | None = self
        while record is not None:
            records.append(record)
            record = record.parent
        return records[::-1]

    def spans(self) -> Iterator[tuple["BranchRecord", Position]]:
        """Each branch of the line with the last position that belongs to it, the first branch first."""
        line = self.line()
        for record, child in pairwise(line):
            yield record, child.start
        yield self, self.end

    def owner(self, position: Position) -> "BranchRecord":
        """The branch of the line that `position` belongs to."""
        for record, last in self.spans():
            if position <= last:
                return record
        return self

    def inputs_from(self, start: Position) -> Iterator[GivenInput]:
        """Inputs of the whole line that are applied after `start`, in order."""
        for record, last in self.spans():
            for at in range(bisect_left(record.inputs, start, key=_at), len(record.inputs)):
                if record.inputs[at].after > last:
                    break
                yield record.inputs[at]

    def inputs_at(self, vns: int) -> int:
        """How many inputs the line has at exactly `vns`."""
        count = 0
        for given in self.inputs_from(Position(vns)):
            if given.at.vns != vns:
                break
            count += 1
        return count

    def holds(self, owner: "BranchRecord", position: Position) -> bool:
        """Is `position` of the branch `owner` on this line?"""
        return owner is self or any(record is owner and position <= last for record, last in self.spans())

    def fork_from(self, other: "BranchRecord") -> tuple[str, Position]:
        """Up to where both lines are the same: the branch that the position belongs to, and it."""
        known = {record.name: last for record, last in self.spans()}
        shared = [
            (record.name, min(last, known[record.name])) for record, last in other.spans() if record.name in known
        ]
        return shared[-1]

    def endings_to(self, position: Position) -> list[Ending]:
        """Machines that stop for good on this line, at or before `position`."""
        return [
            ending
            for record, last in self.spans()
            for ending in record.endings
            if ending.vns <= min(last, position).vns
        ]

    def failures_to(self, position: Position) -> list[Failure]:
        """Properties broken on this line at or before `position`."""
        return [
            failure
            for record, last in self.spans()
            for failure in record.failures
            if failure.at.vns <= min(last, position).vns
        ]

    def nearest(self, last: Position, wanted: Callable[[Keyframe], bool] = lambda _: True) -> Keyframe | None:
        """The latest keyframe of the line with a snapshot, at or before `last`, that is `wanted`."""
        for owner, end in list(self.spans())[::-1]:
            keyframe = owner.keyframes.latest(min(last, end), wanted)
            if keyframe is not None:
                return keyframe
        return None

    def first(self) -> Keyframe:
        """The beginning of everything, whose snapshot is never dropped."""
        keyframe = self.line()[0].keyframes.at(Position(0))
        assert keyframe is not None, "the driver holds the beginning before anything else"
        return keyframe


def _at(given: GivenInput) -> Position:
    return given.at
