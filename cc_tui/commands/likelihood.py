"""The command `likelihood`: when did it become inevitable?

    likelihood [PROPERTY] [samples N] [back TIME] [resolution TIME] [margin TIME] [seed N]
               [when CONDITION] [with FAULT [FIELD=VALUE ...]]

PROPERTY is one that is broken on the cursor's branch, the first unless it is named; with `when`, a condition that holds
at the branch's end is asked for instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.condition import Condition, Words
from cc_tui.commands.conditions import take_condition
from cc_tui.commands.engine import EngineCommand
from cc_tui.commands.faults import Inject, read_inject
from cc_tui.commands.language import CommandError, format_duration, parse_count, parse_duration, quote
from cc_tui.commands.place import exact_place
from cc_tui.options import parse_seed
from chaoscontrol.confidence import CONFIDENCE_PPM
from chaoscontrol.debug.likelihood import (
    MARGIN_NS,
    SAMPLES,
    Likelihood,
    Progress,
    likelihood,
    of_condition,
    of_property,
)
from chaoscontrol.errors import UsageError
from chaoscontrol.timetravel import FaultInput, format_seconds

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.debug.happenings import Happening
    from chaoscontrol.debug.likelihood import Estimate, Outcome, Survivor
    from chaoscontrol.events import Event

SAMPLES_MAX = 10_000
BETWEEN_SHOWN = 30
TEXT_CHARS = 160
"""Of an event's text, for a person."""
_FORM = "[PROPERTY] [samples N] [back TIME] [resolution TIME] [margin TIME] [seed N] [when CONDITION] [with FAULT ...]"
_TIMES = ("back", "resolution", "margin")
WORDS = ("samples", *_TIMES, "seed", "when", "with")
"""What stands before its arguments."""


@dataclass(frozen=True, slots=True)
class FindLikelihood(EngineCommand):
    """Samples from earlier moments, to find the last one at which it could be avoided. The cursor stays."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    name: str | None = None
    """Of a broken property; None: the first one."""
    samples: int = SAMPLES
    back_ns: int | None = None
    resolution_ns: int | None = None
    margin_ns: int = MARGIN_NS
    seed: int = 0
    condition: Condition | None = None
    """Asked at the branch's end, in place of a property."""
    fault: Inject | None = None
    """Begins with each sample."""

    @property
    def text(self) -> str:
        words = ["likelihood"]
        words += [] if self.name is None else [_named(self.name)]
        words += [] if self.samples == SAMPLES else ["samples", str(self.samples)]
        words += [] if self.back_ns is None else ["back", format_duration(self.back_ns)]
        words += [] if self.resolution_ns is None else ["resolution", format_duration(self.resolution_ns)]
        words += [] if self.margin_ns == MARGIN_NS else ["margin", format_duration(self.margin_ns)]
        words += [] if self.seed == 0 else ["seed", str(self.seed)]
        words += [] if self.condition is None else ["when", self.condition.text]
        words += [] if self.fault is None else ["with", self.fault.text.removeprefix("inject ")]
        return " ".join(words)

    def run(self, bench: Bench) -> None:
        if self.fault is not None:
            self.fault.fault.check(bench.vms)
        branch = bench.multiverse.branch.name

        def tell(at: Progress) -> None:
            bench.doing = f"sample {at.sample} of {at.samples} from {exact_place(branch, at.position)}"

        found = likelihood(
            bench.debugger,
            self._outcome(bench),
            samples=self.samples,
            back_ns=self.back_ns,
            resolution_ns=self.resolution_ns,
            seed=self.seed,
            extra=[] if self.fault is None else [FaultInput(self.fault.fault, self.fault.duration_ns)],
            progress=tell,
        )
        bench.answer(_lines(self, found), _data(self, found))

    def _outcome(self, bench: Bench) -> Outcome:
        condition = self.condition
        if condition is None:
            return of_property(bench.multiverse, self.name, margin_ns=self.margin_ns)
        return of_condition(bench.multiverse, condition.text, lambda: condition.check(bench).holds)


def _named(name: str) -> str:
    """A property's name, that no word of the command is taken for."""
    return f'"{name}"' if name in WORDS else quote(name)


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_likelihood(texts: list[str], quantum_ns: int, *, named: bool = False) -> FindLikelihood:
    """The words after `likelihood`. named: the first one is in quotes, so it is a property. Raises CommandError."""
    words = Words(texts, quantum_ns, lead="likelihood", form=_FORM)
    name = words.next("a property") if named or (texts and texts[0] not in WORDS) else None
    numbers, times = {"samples": SAMPLES, "seed": 0}, dict[str, int]()
    condition, fault = None, None
    while (word := words.next_of(*WORDS)) is not None:
        if word in _TIMES:
            times[word] = parse_duration(words.next("a time"), quantum_ns)
        elif word == "when":
            condition = take_condition(words)
            words.form = _FORM
        elif word == "with":
            fault = read_inject([words.next("a fault"), *words.rest()], quantum_ns)
        else:
            numbers[word] = _number(words, word)
    words.done()
    if name is not None and condition is not None:
        raise words.error("a property and a condition are too much")
    if 0 in (times.get("back"), times.get("resolution")):
        raise CommandError("likelihood: a time of 0 leads nowhere")
    return FindLikelihood(
        name,
        numbers["samples"],
        times.get("back"),
        times.get("resolution"),
        times.get("margin", MARGIN_NS),
        numbers["seed"],
        condition,
        fault,
    )


def _number(words: Words, what: str) -> int:
    text = words.next("a number")
    if what == "samples":
        count = parse_count(text)
        if count > SAMPLES_MAX:
            raise words.error(f"{count} samples of a moment", f"give 1 to {SAMPLES_MAX}")
        return count
    try:
        return parse_seed(text)
    except UsageError as error:
        raise words.error(error.what, error.hint) from None


# ---- answers ---------------------------------------------------------------------------------------------------------


def _lines(asked: FindLikelihood, found: Likelihood) -> list[str]:
    lines = [
        f"{found.outcome}: at {exact_place(found.branch, found.at)}",
        f"{asked.samples} samples a moment, to {format_seconds(found.horizon_vns)} s, seed {asked.seed}; bounds with"
        f" {CONFIDENCE_PPM / 10_000:g} % confidence, of each moment by itself",
        f"  {'moment':32} {'seconds before':>16} {'the same':>12} {'bounds':>16}",
    ]
    for one in found.estimates:
        place, before = exact_place(found.branch, one.position), format_seconds(found.at.vns - one.position.vns)
        low, high = one.bounds
        lines.append(f"  {place:32} {before:>16} {f'{one.failed} of {one.samples}':>12} {low:7.1%} {high:8.1%}")
    lines += [] if found.complete else ["cancelled: this is what was known by then"]
    return [*lines, *_turn(asked, found)]


def _turn(asked: FindLikelihood, found: Likelihood) -> list[str]:
    """When it was decided, and what differs."""
    low, high, branch = found.avoidable, found.inevitable, found.branch
    if low is None:
        if high is None:
            return ["nothing is known yet"]
        where = "the beginning" if found.back_to_start else "as far back as was tried"
        return [f"inevitable from {where}, {exact_place(branch, high.position)}: {_none_avoided(high)}"]
    avoided = f"{low.samples - low.failed} of {low.samples} samples from {exact_place(branch, low.position)} avoided it"
    if high is None:
        lines = [f"not inevitable before it happened: {avoided}"]
    else:
        lines = [f"inevitable from {exact_place(branch, high.position)}: {_none_avoided(high)}", f"before: {avoided}"]
    if found.between:
        lines.append("what happened in between:")
        lines += [_happening(one) for one in found.between[:BETWEEN_SHOWN]]
        left = len(found.between) - BETWEEN_SHOWN
        lines += [f"  and {left} more"] if left > 0 else []
    return [*lines, *(_parting(asked, low.survivor) if low.survivor is not None else [])]


def _none_avoided(estimate: Estimate) -> str:
    return f"none of {estimate.samples} samples avoided it, so at least {estimate.bounds[0]:.1%} of its futures end so"


def _happening(one: Happening) -> str:
    who = f"vm{one.vm}" if one.vm >= 0 else "-"
    return f"  {format_seconds(one.position.vns)} {who:5} {one.kind:8} {one.text[:TEXT_CHARS]}"


def _parting(asked: FindLikelihood, survivor: Survivor) -> list[str]:
    again = f"`reseed {survivor.seed}`" + ("" if asked.fault is None else f", `{asked.fault.text}`")
    return [
        f"the first of them ({again} there) differs first in:",
        f"  known:   {_event(survivor.known)}",
        f"  instead: {_event(survivor.instead)}",
    ]


def _event(event: Event | None) -> str:
    if event is None:
        return "nothing"
    who = f"vm{event.vm}" if event.vm >= 0 else "-"
    return f"{format_seconds(event.vns)} {who} {event.kind} {event.text[:TEXT_CHARS]}"


def _data(asked: FindLikelihood, found: Likelihood) -> dict[str, object]:
    low, high = found.avoidable, found.inevitable
    return {
        "outcome": found.outcome, "at": exact_place(found.branch, found.at), "horizon_ns": found.horizon_vns,
        "samples": asked.samples, "seed": asked.seed, "confidence": CONFIDENCE_PPM / 1e6, "complete": found.complete,
        "estimates": [_estimate(found.branch, one) for one in found.estimates],
        "avoidable": None if low is None else exact_place(found.branch, low.position),
        "inevitable": None if high is None else exact_place(found.branch, high.position),
        "between": [
            {"vns": one.position.vns, "vm": one.vm, "kind": one.kind, "text": one.text} for one in found.between
        ],
    }  # fmt: skip


def _estimate(branch: str, one: Estimate) -> dict[str, object]:
    low, high = one.bounds
    survivor = None
    if one.survivor is not None:
        known, instead = map(_event_data, (one.survivor.known, one.survivor.instead))
        survivor = {"seed": one.survivor.seed, "known": known, "instead": instead}
    return {
        "place": exact_place(branch, one.position), "vns": one.position.vns, "samples": one.samples,
        "same": one.failed, "low": low, "high": high, "survivor": survivor,
    }  # fmt: skip


def _event_data(event: Event | None) -> dict[str, object] | None:
    if event is None:
        return None
    return {"vns": event.vns, "vm": event.vm, "instret": event.instret, "kind": str(event.kind), "text": event.text}


__all__ = ["WORDS", "FindLikelihood", "read_likelihood"]
