"""Hindsight: properties written after the fact, judged over whole branches.

A property asks a question of everything of one sort that happened: of events, which the logs know, so nothing is run
again; or of the machines as they were wherever a breakpoint is met, for which the branches are lived through once more.
A property of the oracle's own kind (HostProperty) can be told a whole branch as well.

What is found has positions that the cursor can go to; of an event it is the first one at which it has happened. A
console line is dated with its first byte, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.debug.conditions import Breakpoint, position_of_event
from chaoscontrol.debug.lookouts import Watching, every_hit
from chaoscontrol.oracle import At, HostProperty, PropertyKind, PropertyOracle, PropertyResult, Verdict
from chaoscontrol.timetravel import Phase, PhaseInput, Position
from chaoscontrol.timetravel.witness import BATCH_NS

if TYPE_CHECKING:
    from chaoscontrol.debug.debugger import Debugger
    from chaoscontrol.events import Event
    from chaoscontrol.timetravel import Multiverse, Told

KINDS = {
    "always": PropertyKind.ALWAYS,
    "never": PropertyKind.UNREACHABLE,
    "sometimes": PropertyKind.SOMETIMES,
}
"""What the answers to a question have to be: yes each time, not once, or at least once."""


class Answer(NamedTuple):
    """To a question."""

    holds: bool
    details: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A question, asked once."""

    position: Position
    at: At
    answer: Answer


@dataclass(frozen=True, slots=True)
class Judged:
    """How a property stands at the end of a branch, and where to look."""

    branch: str
    result: PropertyResult
    example: Position | None
    """Of the result's: where on the branch's line."""
    counterexample: Position | None


# ---- questions -------------------------------------------------------------------------------------------------------


def ask_of_events(told: Told, question: Callable[[Event], Answer | None]) -> list[Evaluation]:
    """Asks a question of every event of a branch, in their order; None: it does not arise."""
    answers = ((event, question(event)) for event in told.events)
    return [
        Evaluation(position_of_event(event, told.inputs_at), At(event.vns, event.vm, event.instret), answer)
        for event, answer in answers
        if answer is not None
    ]


def ask_at_hits(
    debugger: Debugger, branches: Sequence[str], points: Sequence[Breakpoint], question: Callable[[], Answer | None]
) -> dict[str, list[Evaluation]]:
    """Asks a question wherever one of a machine's breakpoints is met, with the cursor there; by branch.

    What branches have in common is lived through once; an instruction that a branch ends before has not been met. The
    cursor comes back, also when this is cancelled. Where an interrupt leads to the instruction, the machine is seen as
    it is just before.
    """
    multiverse, number = debugger.multiverse, points[0].vm
    vm = debugger.vms[number]
    lines = {name: _line(multiverse, name) for name in branches}
    needed: dict[str, Position] = {}
    for name, last in (part for line in lines.values() for part in line):
        needed[name] = max(last, needed.get(name, last))
    own: dict[str, list[Evaluation]] = {name: [] for name in needed}
    with multiverse.excursion():
        for name, last in needed.items():
            start = multiverse.find_branch(name).start
            multiverse.goto_time(start.vns, branch=name, ordinal=start.ordinal)
            with Watching(debugger.vms, points, every_hit):
                while multiverse.until_watched(number, limit_vns=last.vns):
                    here = multiverse.position
                    answer = question()
                    if answer is not None:
                        own[name].append(Evaluation(here, At(here.vns, number, vm.instret), answer))
    return {
        name: [one for part, last in line for one in own[part] if one.position.vns < last.vns]
        for name, line in lines.items()
    }


def _line(multiverse: Multiverse, name: str) -> list[tuple[str, Position]]:
    """The branches of a branch's line, the first one first, each with its last position on it."""
    branch = multiverse.find_branch(name)
    line = [(name, branch.end)]
    while branch.parent is not None:
        line.append((branch.parent.branch, branch.start))
        branch = multiverse.find_branch(branch.parent.branch)
    return line[::-1]


def judge(name: str, kind: PropertyKind, branch: str, evaluations: Sequence[Evaluation]) -> Judged:
    """How a property of one of KINDS stands, by all answers to its question in order."""
    passes = [one for one in evaluations if one.answer.holds is not (kind is PropertyKind.UNREACHABLE)]
    fails = [one for one in evaluations if one.answer.holds is (kind is PropertyKind.UNREACHABLE)]
    example, counterexample = (passes or [None])[0], (fails or [None])[0]
    result = PropertyResult(
        name,
        kind,
        len(passes),
        len(fails),
        None if example is None else example.at,
        None if counterexample is None else counterexample.at,
        "" if counterexample is None else counterexample.answer.details,
    )
    return Judged(
        branch,
        result,
        None if example is None else example.position,
        None if counterexample is None else counterexample.position,
    )


# ---- properties of the oracle's kind ---------------------------------------------------------------------------------


def tell_all(told: Told, prop: HostProperty) -> list[Judged]:
    """Tells a fresh property a whole branch: its events, its phases, the time; what it says at the end."""
    oracle = PropertyOracle([prop])
    events = iter(told.events)
    event = next(events, None)
    for stop, phase in _stops(told):
        batch: list[Event] = []
        while event is not None and position_of_event(event, told.inputs_at) <= stop:
            batch.append(event)
            event = next(events, None)
        oracle.feed(batch, stop.vns)
        if phase is Phase.HEALED:
            oracle.healed(stop.vns)
        elif phase is Phase.SETTLED:
            oracle.settled(stop.vns)
    oracle.feed([] if event is None else [event, *events], told.end.vns)
    return [
        Judged(
            told.branch,
            result,
            None if result.example is None else position_of(told, result.example),
            None if result.counterexample is None else position_of(told, result.counterexample),
        )
        for result in oracle.host_results()
    ]


def _stops(told: Told) -> Iterator[tuple[Position, Phase | None]]:
    """Where a property hears of the time, and of phases: as it would have while the branch was lived."""
    phases = [(given.after, given.input.phase) for given in told.inputs if isinstance(given.input, PhaseInput)]
    times = [(Position(vns), None) for vns in range(BATCH_NS, told.end.vns + 1, BATCH_NS)]
    yield from sorted([*phases, *times], key=lambda stop: stop[0])


def position_of(told: Told, at: At) -> Position:
    """The first position of a branch at which something that is dated so has happened."""
    for event in told.events:
        if (event.vns, event.vm, event.instret) == (at.vns, at.vm, at.instret):
            return position_of_event(event, told.inputs_at)
    return Position(at.vns, told.inputs_at(at.vns))


# ---- several branches ------------------------------------------------------------------------------------------------


def verdict_over(judged: Sequence[Judged]) -> Verdict:
    """Of all properties over all branches together: what always holds on each, and sometimes on one of them."""
    merged: dict[tuple[str, PropertyKind], PropertyResult] = {}
    for result in (one.result for one in judged):
        key = result.name, result.kind
        merged[key] = merged[key].merged(result) if key in merged else result
    verdicts = {result.verdict for result in merged.values()}
    return next((verdict for verdict in (Verdict.FAILED, Verdict.UNREACHED) if verdict in verdicts), Verdict.PASSED)


__all__ = [
    "KINDS",
    "Answer",
    "Evaluation",
    "Judged",
    "ask_at_hits",
    "ask_of_events",
    "judge",
    "position_of",
    "tell_all",
    "verdict_over",
]
