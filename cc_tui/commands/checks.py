"""The commands that make a script a test: `assert` looks at the cursor, `expect` goes on until a console answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.conditions import PropertyStands
from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.language import format_duration, quote
from chaoscontrol.errors import GuestError
from chaoscontrol.oracle import Verdict
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from cc_tui.commands.conditions import Condition

EXPECT_NS = 10_000_000_000
"""How long `expect` goes on unless told otherwise, virtual nanoseconds."""


class CheckError(GuestError):
    """An `assert` or `expect` that did not come true. (Exit code 1.)"""


@dataclass(frozen=True, slots=True)
class Assert(EngineCommand):
    """The condition holds here."""

    condition: Condition

    @property
    def text(self) -> str:
        return f"assert {self.condition.text}"

    def run(self, bench: Bench) -> None:
        holds, what = self.condition.check(bench)
        if not holds:
            position = bench.multiverse.position
            where = f"at {bench.multiverse.branch.name}@{format_seconds(position.vns)}"
            raise CheckError(f"not so: {self.condition.text}: {what}", where=where)
        if isinstance(self.condition, PropertyStands) and self.condition.verdict == Verdict.FAILED:
            bench.expected_failures.add(self.condition.name)


@dataclass(frozen=True, slots=True)
class Expect(EngineCommand):
    """Forward until a console shows a text; it is an error if none does in time."""

    moves: ClassVar[bool] = True
    pattern: str
    machine: int | None = None
    limit_ns: int = EXPECT_NS

    @property
    def text(self) -> str:
        words = ["expect", quote(self.pattern)]
        words += [] if self.machine is None else [f"vm{self.machine}"]
        words += [] if self.limit_ns == EXPECT_NS else ["within", format_duration(self.limit_ns)]
        return " ".join(words)

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        multiverse = bench.multiverse
        limit_vns = multiverse.position.vns + self.limit_ns
        if not multiverse.until(self.pattern.encode(), self.machine, limit_vns=limit_vns):
            who = "no console" if self.machine is None else f"vm{self.machine}"
            who = f"{who} has not" if self.machine is not None else f"{who} has"
            why = "; no machine is left to run" if multiverse.all_stopped else ""
            where = f"at {multiverse.branch.name}@{format_seconds(multiverse.position.vns)}"
            raise CheckError(f"{who} shown {self.pattern!r} within {format_duration(self.limit_ns)}{why}", where=where)


__all__ = ["EXPECT_NS", "Assert", "CheckError", "Expect"]
