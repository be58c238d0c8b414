"""Places: where `goto` can go, as a person writes it, and what it means at the cursor."""

import re
from dataclasses import dataclass

from cc_tui.commands.language import CommandError, parse_duration
from chaoscontrol.timetravel import Moment, Multiverse, Position
from chaoscontrol.timetravel.moment import BRANCH_NAME, NS_PER_S, format_seconds

_BARE = re.compile(r"(?P<sign>[+-])?(?P<time>\d+(?:\.\d+)?(?:ns|us|ms|s|m|h|t))", re.ASCII)
_INSTRET = re.compile(r"(?P<sign>[+-])?(?P<count>\d{1,20})i", re.ASCII)
_LINE = re.compile(r"vm(?P<machine>\d{1,4})#(?P<line>\d{1,12})", re.ASCII)
_BUG = re.compile(r"bug#(?P<number>\d{1,9})", re.ASCII)
_EVENT = re.compile(r"event#(?P<number>\d{1,9})", re.ASCII)
_ON_BRANCH = re.compile(
    rf"(?P<branch>{BRANCH_NAME.pattern})@(?P<time>[\d.]+(?:ns|us|ms|s|m|h|t)?)(?:\+(?P<ordinal>\d{{1,9}}))?", re.ASCII
)
_SECONDS = re.compile(r"(\d{1,10})(?:\.(\d{1,9}))?", re.ASCII)

PLACES = (
    "start",
    "end",
    "2.5s, 300ms, 20135t: a time",
    "+5ms, -1t: from here",
    "81234567i: an instruction count",
    "vm0#12: the end of a console line",
    "event#12: an event of this line of history, as `events` numbers them",
    "bug#1: where a property was broken, as `triage` numbers them",
    "b1@2.5: a time on a branch",
    "a mark, a branch, or a moment",
)
"""The forms of a place, for help and errors."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place as it was written; it means something only at a cursor."""

    text: str

    def goto(self, multiverse: Multiverse, machine: int, marks: dict[str, Moment], quantum_ns: int) -> None:
        """Move the cursor there; instruction counts are those of `machine`. Raises CommandError."""
        text = self.text
        if text == "start":
            multiverse.goto_time(0, ordinal=0)
        elif text == "end":
            multiverse.goto_end()
        elif text in marks:
            multiverse.goto(marks[text])
        elif ":" in text:
            multiverse.goto(Moment.parse(text))
        elif (match := _BARE.fullmatch(text)) is not None:
            here_ns = multiverse.position.vns if match["sign"] else 0
            time_ns = parse_duration(match["time"], quantum_ns)
            multiverse.step_to(here_ns + (-time_ns if match["sign"] == "-" else time_ns))
        elif (match := _INSTRET.fullmatch(text)) is not None:
            here = multiverse.instrets[machine] if match["sign"] else 0
            count = int(match["count"])
            multiverse.goto_instret(machine, here + (-count if match["sign"] == "-" else count))
        elif (match := _LINE.fullmatch(text)) is not None:
            goto_line(multiverse, int(match["machine"]), int(match["line"]))
        elif (match := _EVENT.fullmatch(text)) is not None:
            goto_event(multiverse, int(match["number"]))
        elif (match := _BUG.fullmatch(text)) is not None:
            goto_bug(multiverse, int(match["number"]))
        elif (match := _ON_BRANCH.fullmatch(text)) is not None:
            ordinal = None if match["ordinal"] is None else int(match["ordinal"])
            vns = _branch_time(match["time"], quantum_ns)
            known = sum(1 for given in multiverse.inputs(match["branch"]) if given.at.vns == vns)
            if ordinal is not None and ordinal > known:
                raise CommandError(f"{match['branch']} has {known} inputs at that time, not {ordinal}")
            multiverse.goto_time(vns, branch=match["branch"], ordinal=ordinal)
        elif multiverse.knows_branch(text):
            multiverse.goto_end(text)
        else:
            raise CommandError(f"no such place: {text!r}", hint="; ".join(PLACES))


def goto_line(multiverse: Multiverse, machine: int, number: int) -> None:
    """Go to where a console line, counted from 1, has just ended, or as far as it is known. Raises CommandError."""
    logs = multiverse.consoles()
    if machine >= len(logs):
        raise CommandError(f"there is no machine {machine}", hint=f"they are numbered 0 to {len(logs) - 1}")
    known = logs[machine].lines_begun(logs[machine].total)
    if not 1 <= number <= known:
        raise CommandError(f"vm{machine} has no console line {number}", hint=f"it has {known} on this branch")
    multiverse.goto_console(machine, logs[machine].line_start(number))


def goto_event(multiverse: Multiverse, number: int) -> None:
    """Go to where the event of that number, from 1, has just happened. Raises CommandError."""
    from chaoscontrol.debug.conditions import position_of_event  # not needed to read a place
    from chaoscontrol.events import EventKind

    log = multiverse.events()
    found = log.read(number - 1, number)
    if not found:
        raise CommandError(f"there is no event {number}", hint=f"{log.total} are known on this branch")
    event = found[0]
    at = position_of_event(event, multiverse.inputs_at)
    multiverse.goto_time(at.vns, ordinal=at.ordinal)
    if event.kind is EventKind.CONSOLE and event.text:
        # It is dated by the line's first byte, and there once the last one is.
        multiverse.until(b"\n", event.vm)


def goto_bug(multiverse: Multiverse, number: int) -> None:
    """Go to where a property was broken, on the branch where it was. Raises UsageError."""
    from chaoscontrol.triage.collect import find_bug, position_of  # not needed to read a place

    bug = find_bug(multiverse, number)
    multiverse.goto_time(bug.failure.at.vns, branch=bug.branch)
    at = position_of(multiverse, bug)
    multiverse.goto_time(at.vns, ordinal=at.ordinal)


def _branch_time(text: str, quantum_ns: int) -> int:
    """A time after `BRANCH@`: seconds, unless it has a unit."""
    match = _SECONDS.fullmatch(text)
    if match is None:
        return parse_duration(text, quantum_ns)
    return int(match[1]) * NS_PER_S + int((match[2] or "").ljust(9, "0"))


def exact_place(branch: str, position: Position) -> str:
    """The text of a place that `goto` finds again; with the ordinal, so that inputs of the instant are told apart."""
    return f"{branch}@{format_seconds(position.vns)}+{position.ordinal}"
