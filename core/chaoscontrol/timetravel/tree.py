"""Tree: the branches of a multiverse by name, and what people say of them: names, notes, marks.

Knows nothing of machines, or of where the cursor is.

A name means one branch for good. Moments begin with it, and people keep them in scripts and reports: after a branch
was renamed its former names still lead to it, and after it was deleted its names lead nowhere, so that no moment comes
to mean another history than the one that it was taken from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.timetravel.errors import BranchError
from chaoscontrol.timetravel.moment import BRANCH_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chaoscontrol.timetravel.branch import BranchRecord
    from chaoscontrol.timetravel.moment import Moment

NOTE_CHARS_MAX = 4096
"""Of a note on a branch or a mark."""
NAMES_SHOWN = 20
"""In an error message."""
_TO_BLANKS = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F), *range(0x2066, 0x206A)), " ")
"""Controls of terminals, of lines, and of the direction of writing."""


def note_text(text: str) -> str:
    """A text as one line that can be shown anywhere, whoever wrote it."""
    return text.encode(errors="replace").decode().translate(_TO_BLANKS).strip()


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment that was given a name."""

    moment: Moment
    note: str = ""


class Deleted(NamedTuple):
    """What a deletion took away."""

    branches: tuple[str, ...]
    """The one that was named first."""
    marks: tuple[str, ...]
    """Those that were on them."""


class Tree:
    """The branches in the order in which they were made, and the marks in them."""

    def __init__(self, root: BranchRecord) -> None:
        self._records = [root]
        self._names: dict[str, BranchRecord | None] = {root.name: root}
        """Every name that was ever given; None: of a branch that was deleted."""
        self.marks: dict[str, Mark] = {}

    def __iter__(self) -> Iterator[BranchRecord]:
        return iter(self._records)

    # ---- names ------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> BranchRecord:
        """The branch that is or was called `name`; raises BranchError."""
        record = self._names.get(name)
        if record is None:
            what = f"branch {name!r} was deleted" if name in self._names else f"no branch {name!r}"
            raise BranchError(what, hint=f"branches: {_listed([record.name for record in self._records])}")
        return record

    def knows(self, name: str) -> bool:
        """Was a branch ever called so?"""
        return name in self._names

    def free_name(self) -> str:
        """A name for a branch of which nobody says how it is called."""
        number = len(self._records)
        while f"b{number}" in self._names or f"b{number}" in self.marks:
            number += 1
        return f"b{number}"

    def refuse_taken(self, name: str, renamed: BranchRecord | None = None) -> None:
        """Raise BranchError unless a branch can be called `name`; `renamed`, if given, may have a former one again."""
        if BRANCH_NAME.fullmatch(name) is None:
            raise BranchError(f"a branch cannot be called {name!r}", hint="use a letter, then letters, digits, - or _")
        if name in self.marks:
            raise BranchError(f"there is a mark {name!r} already", hint="choose another name")
        if renamed is None or name not in renamed.former:
            self._refuse_branch_name(name)

    def refuse_mark(self, name: str) -> None:
        """Raise BranchError if a moment cannot be called `name`, because a branch is or was."""
        self._refuse_branch_name(name)

    def _refuse_branch_name(self, name: str) -> None:
        if name not in self._names:
            return
        owner = self._names[name]
        if owner is None:
            what = f"{name!r} was a branch that is deleted, and moments may still speak of it"
        elif owner.name == name:
            what = f"there is a branch {name!r} already"
        else:
            what = f"{name!r} was the name of branch {owner.name!r}, and moments may still speak of it"
        raise BranchError(what, hint="choose another name")

    def add(self, record: BranchRecord) -> None:
        """A new branch with its names, which are free."""
        self._records.append(record)
        self._names |= dict.fromkeys((*record.former, record.name), record)

    def take_names(self, record: BranchRecord, name: str, former: Iterable[str]) -> None:
        """The first branch, while it is alone, is called as it was elsewhere."""
        record.name, record.former = name, [*former]
        self._names = dict.fromkeys((*record.former, name), record)

    def take_said(self, marks: Mapping[str, Mark], deleted: Iterable[str]) -> None:
        """Marks that were set elsewhere, and names of branches that were deleted there."""
        self.marks.update((note_text(name), replace(mark, note=note_text(mark.note))) for name, mark in marks.items())
        self._names |= dict.fromkeys(deleted)

    def rename(self, record: BranchRecord, new: str) -> None:
        """Raises BranchError if the name is taken."""
        self.refuse_taken(new, record)
        record.former = [name for name in (*record.former, record.name) if name != new]
        record.name = new
        self._names[new] = record
        for child in self._children(record):
            assert child.parent_moment is not None, "it has a parent"
            child.parent_moment = replace(child.parent_moment, branch=new)
        for name, mark in self.marks.items():
            if self._names.get(mark.moment.branch) is record:
                self.marks[name] = replace(mark, moment=replace(mark.moment, branch=new))

    # ---- deleting ---------------------------------------------------------------------------------------------------

    def _children(self, record: BranchRecord) -> list[BranchRecord]:
        return [child for child in self._records if child.parent is record]

    def doomed(self, record: BranchRecord, standing: Sequence[BranchRecord], *, recursive: bool) -> list[BranchRecord]:
        """What goes with a branch, parents first. Raises BranchError if it cannot be deleted.

        standing: branches that are stood on. recursive: those that fork from it may go, too.
        """
        if record.parent is None:
            raise BranchError(
                f"branch {record.name!r} is the first one, from which all others come", hint="delete those instead"
            )
        doomed = [record]
        for later in self._records:
            if any(later.parent is one for one in doomed):
                doomed.append(later)
        go = "go to another branch first"
        if any(one is record for one in standing):
            raise BranchError(f"branch {record.name!r} is the one that the cursor is on", hint=go)
        if len(doomed) > 1 and not recursive:
            names = _listed([one.name for one in doomed[1:]])
            fork, those = ("forks", "that") if len(doomed) == 2 else ("fork", "those")
            hint = f"delete {those} first, or `delete-branch {record.name} all` (recursive=True)"
            raise BranchError(f"{names} {fork} from branch {record.name!r}", hint=hint)
        for one in doomed[1:]:
            if any(one is other for other in standing):
                raise BranchError(f"the cursor is on {one.name!r}, which forks from {record.name!r}", hint=go)
        return doomed

    def delete(self, doomed: Sequence[BranchRecord]) -> Deleted:
        """Forget branches, free their snapshots, and drop what marks are on them."""
        marks = [name for name, mark in self.marks.items() if not self._keep(name, mark, doomed)]
        for name in marks:
            del self.marks[name]
        for record in doomed:
            record.deleted = True
            record.keyframes.clear()
            self._names |= dict.fromkeys((*record.former, record.name))
        self._records = [record for record in self._records if not record.deleted]
        return Deleted(tuple(record.name for record in doomed), tuple(marks))

    def _keep(self, name: str, mark: Mark, doomed: Sequence[BranchRecord]) -> bool:
        """Whether a mark outlives some branches; one in their inherited past does, as a mark of what is inherited."""
        record = self.find(mark.moment.branch)
        while any(record is one for one in doomed):
            if record.parent is None or mark.moment.position > record.start:
                return False
            record = record.parent
        self.marks[name] = replace(mark, moment=replace(mark.moment, branch=record.name))
        return True

    # ---- notes --------------------------------------------------------------------------------------------------

    def annotate(self, name: str, text: str) -> tuple[BranchRecord, str | None, str]:
        """Put a note on the mark or branch called `name`, in place of the one before. Raises BranchError.

        Returns the branch, the mark's name if it is one, and the note as it is kept.
        """
        note = note_text(text)
        if len(note) > NOTE_CHARS_MAX:
            raise BranchError(
                f"a note has at most {NOTE_CHARS_MAX} characters, this one {len(note)}", hint="shorten it"
            )
        mark = self.marks.get(name)
        if mark is not None:
            self.marks[name] = replace(mark, note=note)
            return self.find(mark.moment.branch), name, note
        if name not in self._names:
            names = f"branches: {_listed([record.name for record in self._records])}"
            names += f"; marks: {_listed(list(self.marks))}" if self.marks else ""
            raise BranchError(f"no branch or mark {name!r}", hint=names)
        record = self.find(name)
        record.note = note
        return record, None, note


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


__all__ = ["NOTE_CHARS_MAX", "Deleted", "Mark", "Tree"]
