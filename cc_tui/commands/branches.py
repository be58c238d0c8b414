"""The commands about branches as such: to look at them and the marks, to delete, rename and annotate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand
from cc_tui.commands.language import CommandError, quote
from cc_tui.commands.reports import Look
from chaoscontrol.config import format_bytes
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench

ALL = "all"
"""After a branch to delete: those that fork from it, too."""


@dataclass(frozen=True, slots=True)
class ShowBranches(Look):
    """The tree of branches."""

    @property
    def text(self) -> str:
        return "branches"

    def run(self, bench: Bench) -> None:
        multiverse = bench.multiverse
        here = multiverse.branch.name
        lines: list[str] = []
        rows: list[dict[str, object]] = []
        for branch in multiverse.branches():
            parent = None if branch.parent is None else branch.parent.branch
            above = "" if parent is None else f" from {parent} at {format_seconds(branch.start.vns)}"
            mark = "*" if branch.name == here else " "
            lines.append(
                f"{mark} {branch.name}{above} to {format_seconds(branch.end.vns)}, {len(branch.inputs)} inputs"
                f"{_note(branch.note)}"
            )
            rows.append({
                "name": branch.name, "parent": parent, "start_ns": branch.start.vns, "end_ns": branch.end.vns,
                "inputs": len(branch.inputs), "here": branch.name == here, "note": branch.note,
                "former_names": list(branch.former),
            })  # fmt: skip
        bench.answer(lines, rows)


@dataclass(frozen=True, slots=True)
class ShowMarks(Look):
    """The marks."""

    @property
    def text(self) -> str:
        return "marks"

    def run(self, bench: Bench) -> None:
        marks = bench.multiverse.marks
        lines = [f"{name} {mark.moment}{_note(mark.note)}" for name, mark in marks.items()]
        rows = {name: {"moment": str(mark.moment), "note": mark.note} for name, mark in marks.items()}
        bench.answer(lines or ["no marks"], rows)


def _note(text: str) -> str:
    return f": {text}" if text else ""


@dataclass(frozen=True, slots=True)
class DeleteBranch(EngineCommand):
    """A branch is forgotten, and its snapshots are freed; the cursor is on none that goes."""

    name: str
    recursive: bool = False

    @property
    def text(self) -> str:
        return f"delete-branch {self.name}" + (f" {ALL}" if self.recursive else "")

    def run(self, bench: Bench) -> None:
        held = bench.multiverse.snapshot_bytes
        deleted = bench.multiverse.delete_branch(self.name, recursive=self.recursive)
        freed = held - bench.multiverse.snapshot_bytes
        marks = f" with mark{'s' if len(deleted.marks) > 1 else ''} {', '.join(deleted.marks)}" if deleted.marks else ""
        branches = f"branch{'es' if len(deleted.branches) > 1 else ''} {', '.join(deleted.branches)}"
        bench.say(f"deleted {branches}{marks}" + (f"; {format_bytes(freed)} of snapshots are free" if freed else ""))


@dataclass(frozen=True, slots=True)
class RenameBranch(EngineCommand):
    """A branch is called otherwise; places and moments with its former name still mean it."""

    acts: ClassVar[bool] = True
    name: str
    new: str

    @property
    def text(self) -> str:
        return f"rename-branch {self.name} {self.new}"

    def run(self, bench: Bench) -> None:
        before = bench.multiverse.find_branch(self.name).name
        bench.multiverse.rename_branch(self.name, self.new)
        bench.script.unsaved_inputs += 1
        bench.say(f"branch {before} is {self.new} now; moments that say {before} still mean it")


@dataclass(frozen=True, slots=True)
class Annotate(EngineCommand):
    """A note on a branch or mark, in place of the one before; an empty one takes it away."""

    acts: ClassVar[bool] = True
    name: str | None
    """None: the cursor's branch."""
    note: str

    @property
    def text(self) -> str:
        return " ".join(["annotate", *([] if self.name is None else [quote(self.name)]), quote(self.note)])

    def run(self, bench: Bench) -> None:
        multiverse = bench.multiverse
        if self.name is None and (multiverse.knows_branch(self.note) or self.note in multiverse.marks):
            raise CommandError(f"annotate: what about {self.note}?", hint=f"annotate {self.note} TEXT")
        name = multiverse.branch.name if self.name is None else self.name
        multiverse.annotate(name, self.note)
        bench.script.unsaved_inputs += 1
        kept = multiverse.marks[name].note if name in multiverse.marks else multiverse.find_branch(name).note
        bench.say(f"{name}: {kept or 'no note any more'}")


__all__ = ["ALL", "Annotate", "DeleteBranch", "RenameBranch", "ShowBranches", "ShowMarks"]
