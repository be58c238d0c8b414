"""The command `check`: a property written after the fact, judged over whole branches.

    check always|never|sometimes CONDITION at ADDRESS [VM] [on BRANCH,...|all]
    check always|never|sometimes console VM|any contains|matches TEXT [on BRANCH,...|all]
    check always|never|sometimes event KIND contains|matches TEXT [on BRANCH,...|all]
    check [always|never|sometimes] FILE.py:NAME [at ADDRESS [VM]] [on BRANCH,...|all]

Conditions are those of `assert`. At an address they are looked at wherever the instruction there is about to be
executed; without one, the condition is one that single events meet, and the logs know the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.addresses import Address, breakpoint_at
from cc_tui.commands.condition import Condition, Found, Not, Words
from cc_tui.commands.conditions import CheckPasses, OfEvents, take_condition
from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.place import exact_place
from cc_tui.commands.python_properties import PythonProperty
from chaoscontrol.debug.hindsight import KINDS, Answer, ask_at_hits, ask_of_events, judge, verdict_over
from chaoscontrol.oracle import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cc_tui.commands.bench import Bench
    from chaoscontrol.debug.hindsight import Judged
    from chaoscontrol.events import Event
    from chaoscontrol.oracle import At
    from chaoscontrol.timetravel import Position, Told

ALL = "all"
"""In place of branches."""
_PLACES = "[at ADDRESS [VM]] [on BRANCH,...|all]"


@dataclass(frozen=True, slots=True)
class Check(EngineCommand):
    """How a property stands on branches. The cursor stays."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    kind: str | None
    """One of KINDS; None: none was given, as Python's may."""
    subject: Condition | PythonProperty
    address: Address | None = None
    """Look wherever the instruction there is about to be executed; None: at events."""
    machine: int | None = None
    """Whose instruction; None: the condition's, or the one in focus."""
    branches: tuple[str, ...] = ()
    """None named: the one that the cursor follows."""

    @property
    def name(self) -> str:
        """The property itself."""
        words = [] if self.kind is None else [self.kind]
        words.append(self.subject.text)
        words += [] if self.address is None else ["at", self.address.text]
        words += [] if self.machine is None else [f"vm{self.machine}"]
        return " ".join(words)

    @property
    def text(self) -> str:
        on = ["on", ",".join(self.branches)] if self.branches else []
        return " ".join(["check", self.name, *on])

    def run(self, bench: Bench) -> None:
        judged = self.judge(bench)
        lines = [line for one in judged for line in lines_of(self, one)]
        bench.answer([self.name, *lines], {"property": self.name, **data_of(judged)})

    def stands(self, bench: Bench) -> Found:
        """Does it hold? As a condition."""
        judged = self.judge(bench)
        verdict = verdict_over(judged)
        worst = next((one for one in judged if one.result.verdict == verdict), judged[0])
        return Found(verdict is Verdict.PASSED, f"on {worst.branch} {worst.result.verdict}: {_counted(worst)}")

    def judge(self, bench: Bench) -> list[Judged]:
        """How it stands on each branch, for which it lives through them again if it is about an address."""
        multiverse, names = bench.multiverse, self.branches or (bench.multiverse.branch.name,)
        if names == (ALL,):
            names = tuple(branch.name for branch in multiverse.branches())
        names = tuple(multiverse.find_branch(name).name for name in names)
        if self.address is None:
            return [one for name in names for one in self.judge_told(multiverse.told(name))]
        about = (self.machine, _machine_of(self.subject), bench.focus)
        vm = next(machine for machine in about if machine is not None)
        refuse_machine(bench, vm)
        spots = self.address.code_spots(bench, vm)
        points = [breakpoint_at(vm, spot, physical=self.address.physical) for spot in spots]
        found = ask_at_hits(bench.debugger, names, points, self._at_hits(bench, vm))
        return [judge(self.name, KINDS[self.kind or "always"], name, asked) for name, asked in found.items()]

    def on(self, branches: tuple[str, ...]) -> Check:
        """The same on other branches."""
        return replace(self, branches=branches)

    def judge_told(self, told: Told) -> list[Judged]:
        """How it stands on a branch by what is known of that, if it is about events. Raises CommandError."""
        if isinstance(self.subject, PythonProperty):
            return self.subject.judge(told, self.kind, self.name)
        asked = ask_of_events(told, _of_events(self.subject))
        return [judge(self.name, KINDS[self.kind or "always"], told.branch, asked)]

    def _at_hits(self, bench: Bench, vm: int) -> Callable[[], Answer | None]:
        subject = self.subject
        if isinstance(subject, PythonProperty):
            return subject.at_hits(bench.debugger.vms[vm])
        return lambda: Answer(*subject.check(bench))


def _of_events(subject: Condition) -> Callable[[Event], Answer | None]:
    condition, opposite = _plain(subject)
    assert isinstance(condition, OfEvents), "others were read with an address"

    def question(event: Event) -> Answer | None:
        met = condition.met_by(event)
        return None if met is None else Answer(met is not opposite, event.text)

    return question


def _plain(condition: Condition) -> tuple[Condition, bool]:
    """A condition without its negations, and whether they make it the opposite."""
    opposite = False
    while isinstance(condition, Not):
        condition, opposite = condition.condition, not opposite
    return condition, opposite


def _machine_of(subject: Condition | PythonProperty) -> int | None:
    """The machine that a condition is about."""
    return None if isinstance(subject, PythonProperty) else getattr(_plain(subject)[0], "machine", None)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_check(texts: list[str], quantum_ns: int) -> Check:
    """The words after `check`. Raises CommandError."""
    kind = texts[0] if texts and texts[0] in KINDS else None
    lead, form = ("check", f"{'|'.join(KINDS)} ") if kind is None else (f"check {kind}", "")
    words = Words(texts[0 if kind is None else 1 :], quantum_ns, lead=lead, form=f"{form}CONDITION {_PLACES}")
    subject = PythonProperty.read(words)
    if subject is None:
        if kind is None:
            raise words.error("how often it must be so is missing")
        subject = take_condition(words)
        words.form = f"{subject.text} {_PLACES}"
    address, machine = None, None
    if words.next_of("at"):
        address, machine = Address.read(words.next("an address")), words.machine_if_named()
    branches = tuple(words.next("a branch").split(",")) if words.next_of("on") else ()
    words.done()
    if isinstance(subject, Condition):
        condition, _ = _plain(subject)
        if isinstance(condition, CheckPasses):
            raise words.error("a property about properties")
        if address is None and not isinstance(condition, OfEvents):
            raise words.error("no event can say that; where to look is missing")
    return Check(kind, subject, address, machine, branches)


# ---- answers ---------------------------------------------------------------------------------------------------------


def lines_of(check: Check, judged: Judged) -> list[str]:
    """How it stands on a branch, for a person; with the name of what is judged where a class brings its own."""
    result = judged.result
    name = "" if result.name == check.name else f" {result.kind} {result.name}:"
    lines = [f"  {result.verdict:9} {judged.branch}:{name} {_counted(judged)}"]
    for what, at, position, details in (
        ("for", result.example, judged.example, ""),
        ("against", result.counterexample, judged.counterexample, result.details),
    ):
        if at is not None and position is not None:
            who = f" vm{at.vm}" if at.vm >= 0 else ""
            lines.append(f"    first {what}: {exact_place(judged.branch, position)}{who} {details}".rstrip())
    return lines


def _counted(judged: Judged) -> str:
    result = judged.result
    return f"{result.passes} for, {result.fails} against" if result.hits else "there was nothing to look at"


def data_of(judged: Sequence[Judged]) -> dict[str, object]:
    """The same for a program."""
    return {"verdict": str(verdict_over(judged)), "branches": [_row(one) for one in judged]}


def _row(judged: Judged) -> dict[str, object]:
    result = judged.result
    return {
        "branch": judged.branch, "name": result.name, "kind": str(result.kind), "verdict": str(result.verdict),
        "passes": result.passes, "fails": result.fails, "details": result.details,
        "example": _place(judged.branch, result.example, judged.example),
        "counterexample": _place(judged.branch, result.counterexample, judged.counterexample),
    }  # fmt: skip


def _place(branch: str, at: At | None, position: Position | None) -> dict[str, object] | None:
    if at is None or position is None:
        return None
    return {
        "place": exact_place(branch, position), "vns": position.vns, "ordinal": position.ordinal,
        "vm": at.vm, "instret": at.instret,
    }  # fmt: skip


__all__ = ["ALL", "Check", "data_of", "lines_of", "read_check"]
