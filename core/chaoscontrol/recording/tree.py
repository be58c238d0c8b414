"""RecordedTree: the branches of a recording with what was said of them, put together from its TREE frames in order.

What is appended later counts: names, notes, marks, and that a branch is gone. Whatever cannot follow from what came
before is refused, with the frame that says it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.recording import records
from chaoscontrol.timetravel import Ending, Failure, GivenInput, Position

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Never


@dataclasses.dataclass(slots=True)
class RecordedBranch:
    """One branch, as far as it is recorded."""

    number: int
    name: str
    """What it is called at the end."""
    parent: int | None
    start: Position
    _look: Callable[[], None] = dataclasses.field(repr=False, compare=False)
    """Finds out what a large file is not asked for when it is opened."""
    _end: Position | None = None
    _event_frames: list[int] = dataclasses.field(default_factory=list[int])
    _checkpoint_frames: list[int] = dataclasses.field(default_factory=list[int])
    _packet_frames: list[int] = dataclasses.field(default_factory=list[int])
    inputs: list[GivenInput] = dataclasses.field(default_factory=list[GivenInput])
    endings: list[Ending] = dataclasses.field(default_factory=list[Ending])
    failures: list[Failure] = dataclasses.field(default_factory=list[Failure])
    judged: list[Position] = dataclasses.field(default_factory=list[Position])
    """Where each failure was found out."""
    notes: list[records.Remark] = dataclasses.field(default_factory=list[records.Remark])
    """Those on positions; marks are the tree's."""
    note: str = ""
    """The one on the branch itself."""
    former: dict[str, None] = dataclasses.field(default_factory=dict[str, None])
    """Names that it had before, the latest last."""
    deleted: bool = False

    @property
    def end(self) -> Position:
        """The last position that the file speaks of. Raises RecordingError."""
        self._look()
        assert self._end is not None
        return self._end

    @property
    def event_frames(self) -> list[int]:
        """Numbers of the frames with its own events, in order. Raises RecordingError."""
        self._look()
        return self._event_frames

    @property
    def checkpoint_frames(self) -> list[int]:
        """Those with its digests."""
        self._look()
        return self._checkpoint_frames

    @property
    def packet_frames(self) -> list[int]:
        """Those with what the network carried."""
        self._look()
        return self._packet_frames

    def found(self, events: list[int], checkpoints: list[int], packets: list[int], end: Position) -> None:
        """What looking has found."""
        self._event_frames, self._checkpoint_frames, self._packet_frames = events, checkpoints, packets
        self._end = end


@dataclasses.dataclass(frozen=True, slots=True)
class RecordedMark:
    """A position that has a name."""

    branch: RecordedBranch
    """Whose line the position is on; it may belong to one that this one comes from."""
    position: Position
    note: str = ""


class RecordedTree:
    """Takes the records of TREE frames, one after the other."""

    def __init__(self, fail: Callable[[str, int], Never], look: Callable[[], None]) -> None:
        """`fail` raises what is wrong with a frame; `look`: see RecordedBranch."""
        self._fail = fail
        self._look = look
        self.branches: list[RecordedBranch] = []
        """By number, deleted ones included."""
        self._marks: dict[str, RecordedMark] = {}
        """As they were set, on branches that may be gone by now."""
        self._forks: list[int] = []
        """How many branches begin on each that were not deleted."""
        self.made: list[int] = []
        """The frame in which each branch is made."""
        self._names: dict[str, RecordedBranch] = {}
        """Every name that was ever given."""

    def find(self, name: str) -> RecordedBranch | None:
        """The branch that is or was called so."""
        return self._names.get(name)

    def take(self, record: records.TreeRecord, frame: int) -> None:
        """What frame number `frame` says."""
        if isinstance(record, records.BranchMade):
            self._add_branch(record, frame)
            return
        branch = self._branch(record.branch, frame)
        match record:
            case records.InputGiven(_, given):
                if given.at < (branch.inputs[-1].after if branch.inputs else branch.start):
                    self._fail("an input comes before its predecessor", frame)
                branch.inputs.append(given)
            case records.MachineEnded(_, ending):
                branch.endings.append(ending)
            case records.PropertyBroken(_, failure, judged):
                branch.failures.append(failure)
                branch.judged.append(judged)
            case records.Remark(_, position, text, True):
                self._marks[text] = RecordedMark(branch, position)
            case records.Remark():
                branch.notes.append(record)
            case records.BranchRenamed(_, name):
                self._rename(branch, name, frame)
            case records.BranchDeleted():
                self._delete(branch, frame)
            case records.Annotated(_, None, text):
                branch.note = text
            case records.Annotated(_, mark, text):
                if mark is None or mark not in self._marks:
                    self._fail("a note is on a mark that is not there", frame)
                self._marks[mark] = dataclasses.replace(self._marks[mark], note=text)

    def _branch(self, number: int, frame: int) -> RecordedBranch:
        if number >= len(self.branches):
            self._fail(f"a frame speaks of branch {number}, not known yet", frame)
        if self.branches[number].deleted:
            self._fail(f"a frame speaks of branch {number}, which was deleted", frame)
        return self.branches[number]

    def _add_branch(self, record: records.BranchMade, frame: int) -> None:
        if record.branch != len(self.branches) or (record.parent is None) != (record.branch == 0):
            self._fail(f"branch {record.branch} stands out of order", frame)
        if record.parent is not None and record.start < self._branch(record.parent, frame).start:
            self._fail("a branch begins before its parent", frame)
        if record.name in self._names:
            self._fail(f"there are two branches {record.name}", frame)
        self.made.append(frame)
        branch = RecordedBranch(record.branch, record.name, record.parent, record.start, self._look)
        self.branches.append(branch)
        self._names[branch.name] = branch
        self._forks.append(0)
        if record.parent is not None:
            self._forks[record.parent] += 1

    def _rename(self, branch: RecordedBranch, name: str, frame: int) -> None:
        if self._names.setdefault(name, branch) is not branch:
            self._fail(f"there are two branches {name}", frame)
        branch.former[branch.name] = None
        branch.former.pop(name, None)
        branch.name = name

    def _delete(self, branch: RecordedBranch, frame: int) -> None:
        if branch.parent is None:
            self._fail("the first branch is deleted", frame)
        if self._forks[branch.number]:
            self._fail(f"branch {branch.number} is deleted, and others begin on it", frame)
        branch.deleted = True
        self._forks[branch.parent] -= 1

    def marks(self) -> dict[str, RecordedMark]:
        """By name, in the order in which they were set first.

        Those on deleted branches are gone, but where the position is in a past that was inherited from a kept one.
        """
        homes: list[tuple[RecordedBranch, Position | None]] = []
        for branch in self.branches:
            if branch.deleted and branch.parent is not None:
                home, last = homes[branch.parent]
                homes.append((home, branch.start if last is None else min(last, branch.start)))
            else:
                homes.append((branch, None))
        found: dict[str, RecordedMark] = {}
        for name, mark in self._marks.items():
            home, last = homes[mark.branch.number]
            if last is None or mark.position <= last:
                found[name] = dataclasses.replace(mark, branch=home)
        return found

    def owner(self, branch: RecordedBranch, position: Position) -> RecordedBranch:
        """The branch of its line that `position` belongs to: the oldest one that reaches it."""
        line = [branch]
        while line[-1].parent is not None:
            line.append(self.branches[line[-1].parent])
        for above, below in zip(line[:0:-1], line[-2::-1], strict=True):
            if position <= below.start:
                return above
        return branch


__all__ = ["RecordedBranch", "RecordedMark", "RecordedTree"]
