"""Conditions: what `assert` says about the cursor, as values that can be read, written and checked.

    [not] SUBJECT

Every subject has one form, which its class names in FORM. Words are separate: `branch == main`, not `branch==main`.
Checking changes nothing.
"""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cc_tui.commands.engine import refuse_machine
from cc_tui.commands.language import (
    CommandError,
    format_address,
    format_duration,
    parse_address,
    parse_bytes,
    parse_duration,
    parse_number,
    quote,
)
from cc_tui.options import parse_count
from chaoscontrol.errors import UsageError
from chaoscontrol.events import EventKind
from chaoscontrol.oracle import Verdict
from chaoscontrol.registers import EDITABLE
from chaoscontrol.timetravel import Moment, format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cc_tui.commands.bench import Bench

OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
SHOWN_CHARS = 60
"""How much of a console's last line an error shows."""
_MACHINE = re.compile(r"(?:vm)?(\d{1,4})", re.ASCII)


class Found(NamedTuple):
    """How a condition stands."""

    holds: bool
    what: str
    """What is there instead, or there after all: `it is b1`."""


class Condition(ABC):
    """Something that is so or not at the cursor."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The words that read to it."""

    @abstractmethod
    def check(self, bench: Bench) -> Found:
        """How it stands. Raises ChaosControlError for what cannot be looked at."""


class Subject(Condition):
    """A condition that begins with a word of its own."""

    FORM: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, words: Words) -> Subject:
        """From the words after the first. Raises CommandError."""


class Words:
    """The words of a condition, taken one by one. Errors show the form."""

    def __init__(self, words: list[str], quantum_ns: int) -> None:
        self.quantum_ns = quantum_ns
        self.form = "[not] " + " | ".join(SUBJECTS)
        self._words = list(words)

    def next(self, what: str) -> str:
        """The next word, which is `what`."""
        if not self._words:
            raise CommandError(f"assert: {what} is missing", hint=f"write assert {self.form}")
        return self._words.pop(0)

    def more(self) -> bool:
        return bool(self._words)

    def done(self) -> None:
        if self._words:
            raise CommandError(f"assert: {self._words[0]!r} is too much", hint=f"write assert {self.form}")

    def one_of(self, what: str, known: tuple[str, ...]) -> str:
        word = self.next(what)
        if word not in known:
            raise CommandError(f"assert: {word!r} is no {what}", hint=f"write assert {self.form}")
        return word

    def operator(self) -> str:
        return self.one_of("comparison", tuple(OPERATORS))

    def equality(self) -> str:
        return self.one_of("comparison", ("==", "!="))

    def machine(self) -> int:
        word = self.next("a machine")
        match = _MACHINE.fullmatch(word)
        if match is None:
            raise CommandError(f"assert: not a machine: {word!r}", hint="write its number, 0 or vm0")
        return int(match[1])

    def machine_if_named(self) -> int | None:
        """A machine if the next word is `vm` and its number."""
        return self.machine() if self._words and re.fullmatch(r"vm\d{1,4}", self._words[0], re.ASCII) else None


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite of another condition."""

    condition: Condition

    @property
    def text(self) -> str:
        return f"not {self.condition.text}"

    def check(self, bench: Bench) -> Found:
        holds, what = self.condition.check(bench)
        return Found(not holds, what)


@dataclass(frozen=True, slots=True)
class OnBranch(Subject):
    """The cursor follows a branch."""

    FORM: ClassVar[str] = "branch == NAME"
    equality: str
    name: str

    @classmethod
    def read(cls, words: Words) -> OnBranch:
        return cls(words.equality(), words.next("a branch"))

    @property
    def text(self) -> str:
        return f"branch {self.equality} {quote(self.name)}"

    def check(self, bench: Bench) -> Found:
        here = bench.multiverse.branch.name
        return Found((here == self.name) == (self.equality == "=="), f"it is {here}")


@dataclass(frozen=True, slots=True)
class AtMoment(Subject):
    """The cursor stands at, before or after a moment or mark of its own line of history."""

    FORM: ClassVar[str] = "moment ==|!=|<|<=|>|>= MOMENT|MARK"
    operator: str
    place: str

    @classmethod
    def read(cls, words: Words) -> AtMoment:
        first = words.next("a comparison")
        sign = first if first in OPERATORS else "=="
        place = first if sign != first else words.next("a moment or mark")
        if ":" in place:
            _moment(place)
        return cls(sign, place)

    @property
    def text(self) -> str:
        return f"moment {self.operator} {quote(self.place)}"

    def check(self, bench: Bench) -> Found:
        here = bench.multiverse.moment()
        there = bench.marks.get(self.place)
        if there is None:
            if ":" not in self.place:
                raise CommandError(f"no mark {self.place!r}", hint=f"there are {', '.join(bench.marks) or 'none'}")
            there = _moment(self.place)
        if self.operator in ("==", "!="):
            # The digests say whether it is the same state; a mark's own branch may have another name.
            same = (here.position, here.machines) == (there.position, there.machines)
            same = same and (here.branch == there.branch or bench.multiverse.compare(here, there) == 0)
            return Found(same == (self.operator == "=="), f"it is {here}")
        return Found(OPERATORS[self.operator](bench.multiverse.compare(here, there), 0), f"it is {here.brief}")


@dataclass(frozen=True, slots=True)
class AtTime(Subject):
    """Virtual time."""

    FORM: ClassVar[str] = "time ==|!=|<|<=|>|>= TIME"
    operator: str
    vns: int

    @classmethod
    def read(cls, words: Words) -> AtTime:
        return cls(words.operator(), parse_duration(words.next("a time"), words.quantum_ns))

    @property
    def text(self) -> str:
        return f"time {self.operator} {format_duration(self.vns)}"

    def check(self, bench: Bench) -> Found:
        vns = bench.multiverse.position.vns
        return _compared(vns, self.operator, self.vns, f"{format_seconds(vns)}s")


@dataclass(frozen=True, slots=True)
class AtTick(Subject):
    """Whole ticks since the beginning."""

    FORM: ClassVar[str] = "tick ==|!=|<|<=|>|>= N"
    operator: str
    tick: int

    @classmethod
    def read(cls, words: Words) -> AtTick:
        return cls(words.operator(), _count(words))

    @property
    def text(self) -> str:
        return f"tick {self.operator} {self.tick}"

    def check(self, bench: Bench) -> Found:
        return _compared(bench.multiverse.tick, self.operator, self.tick)


@dataclass(frozen=True, slots=True)
class Instret(Subject):
    """Instructions that a machine has retired."""

    FORM: ClassVar[str] = "instret VM ==|!=|<|<=|>|>= N"
    machine: int
    operator: str
    count: int

    @classmethod
    def read(cls, words: Words) -> Instret:
        return cls(words.machine(), words.operator(), _count(words))

    @property
    def text(self) -> str:
        return f"instret vm{self.machine} {self.operator} {self.count}"

    def check(self, bench: Bench) -> Found:
        refuse_machine(bench, self.machine)
        return _compared(bench.multiverse.instrets[self.machine], self.operator, self.count)


@dataclass(frozen=True, slots=True)
class HasDigest(Subject):
    """The state of a machine, or of all: their digests, separated by commas, each as far as it is written."""

    FORM: ClassVar[str] = "digest [VM] PREFIX[,PREFIX...]"
    machine: int | None
    prefixes: tuple[str, ...]

    @classmethod
    def read(cls, words: Words) -> HasDigest:
        machine = words.machine_if_named()
        word = words.next("a digest")
        if re.fullmatch(r"[0-9a-f]{1,32}(?:,[0-9a-f]{1,32})*", word) is None:
            raise CommandError(
                f"assert: not a digest: {word!r}", hint="write its first hexadecimal digits, as 14dad143"
            )
        prefixes = tuple(word.split(","))
        if machine is not None and len(prefixes) > 1:
            raise CommandError("assert: a machine has one digest", hint=f"write assert {words.form}")
        return cls(machine, prefixes)

    @property
    def text(self) -> str:
        who = "" if self.machine is None else f"vm{self.machine} "
        return f"digest {who}{','.join(self.prefixes)}"

    def check(self, bench: Bench) -> Found:
        refuse_machine(bench, self.machine)
        machines = bench.multiverse.machines
        chosen = machines if self.machine is None else [machines[self.machine]]
        if len(chosen) != len(self.prefixes):
            hint = "write one after another, with commas, or name a machine"
            raise CommandError(f"there are {len(chosen)} machines, not {len(self.prefixes)}", hint=hint)
        digests = [str(machine.digest()) for machine in chosen]
        holds = all(digest.startswith(prefix) for digest, prefix in zip(digests, self.prefixes, strict=True))
        return Found(holds, f"it is {','.join(digests)}")


@dataclass(frozen=True, slots=True)
class PropertyStands(Subject):
    """What the oracle says of a property at the cursor."""

    FORM: ClassVar[str] = "property NAME passed|failed|unreached"
    name: str
    verdict: str

    @classmethod
    def read(cls, words: Words) -> PropertyStands:
        return cls(words.next("a property"), words.one_of("verdict", tuple(Verdict)))

    @property
    def text(self) -> str:
        return f"property {quote(self.name)} {self.verdict}"

    def check(self, bench: Bench) -> Found:
        results = bench.multiverse.witness.report(bench.multiverse.position.vns).results
        for result in results:
            if result.name == self.name:
                more = f" at {result.counterexample}" if result.counterexample is not None else ""
                return Found(result.verdict == self.verdict, f"it has {result.verdict}{more}")
        known = ", ".join(quote(result.name) for result in results) or "none"
        return Found(False, f"there is no such property; there are {known}")


@dataclass(frozen=True, slots=True)
class ConsoleShows(Subject):
    """What a console has shown since boot, up to the cursor."""

    FORM: ClassVar[str] = "console VM|any contains TEXT | console VM|any matches REGEX"
    machine: int | None
    how: str
    pattern: str

    @classmethod
    def read(cls, words: Words) -> ConsoleShows:
        word = words.next("a machine")
        match = _MACHINE.fullmatch(word)
        if match is None and word != "any":
            raise CommandError(f"assert: not a machine: {word!r}", hint=f"write assert {words.form}")
        how, pattern = words.one_of("way to look", ("contains", "matches")), words.next("a text")
        if not pattern:
            raise CommandError("assert: an empty text is everywhere")
        if how == "matches":
            try:
                re.compile(pattern)
            except re.error as error:
                raise CommandError(f"assert: not a regular expression: {error}") from None
        return cls(None if match is None else int(match[1]), how, pattern)

    @property
    def text(self) -> str:
        who = "any" if self.machine is None else f"vm{self.machine}"
        return f"console {who} {self.how} {quote(self.pattern)}"

    def check(self, bench: Bench) -> Found:
        refuse_machine(bench, self.machine)
        machines = range(bench.vms) if self.machine is None else [self.machine]
        for machine in machines:
            line = self._line_in(bench, machine)
            if line is not None:
                return Found(True, f"vm{machine} has shown {line[:SHOWN_CHARS]!r}")
        shown = [f"vm{machine} {_last_line(bench, machine)!r}" for machine in machines]
        return Found(False, f"the last lines are {', '.join(shown)}")

    def _line_in(self, bench: Bench, machine: int) -> str | None:
        """The first line with it."""
        log, total = bench.multiverse.consoles()[machine], bench.multiverse.console_totals[machine]
        if self.how == "contains":
            at = log.find(self.pattern.encode(), 0, total)
        else:
            text = log.read(0, total).decode("latin-1")
            match = re.search(self.pattern.encode().decode("latin-1"), text, re.MULTILINE)
            at = -1 if match is None else match.start()
        if at < 0:
            return None
        return log.line_bytes(log.line_of(at), total).decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class EventHappened(Subject):
    """Something that happened up to the cursor."""

    FORM: ClassVar[str] = "event KIND contains TEXT"
    kind: str
    pattern: str

    @classmethod
    def read(cls, words: Words) -> EventHappened:
        kind = words.one_of("kind of event", tuple(EventKind))
        words.one_of("way to look", ("contains",))
        return cls(kind, words.next("a text"))

    @property
    def text(self) -> str:
        return f"event {self.kind} contains {quote(self.pattern)}"

    def check(self, bench: Bench) -> Found:
        multiverse, count = bench.multiverse, 0
        for event in multiverse.events_so_far():
            count += event.kind == self.kind
            if event.kind == self.kind and self.pattern in event.text:
                return Found(True, f"{event.text[:SHOWN_CHARS]!r} happened at {format_seconds(event.vns)} s")
        return Found(False, f"none of {count} {self.kind} events says so")


@dataclass(frozen=True, slots=True)
class MachineState(Subject):
    """Does a machine run, or has it ended?"""

    FORM: ClassVar[str] = "machine VM running|stopped"
    machine: int
    state: str

    @classmethod
    def read(cls, words: Words) -> MachineState:
        return cls(words.machine(), words.one_of("state", ("running", "stopped")))

    @property
    def text(self) -> str:
        return f"machine vm{self.machine} {self.state}"

    def check(self, bench: Bench) -> Found:
        refuse_machine(bench, self.machine)
        state = "stopped" if self.machine in bench.multiverse.stopped else "running"
        return Found(state == self.state, f"it is {state}")


@dataclass(frozen=True, slots=True)
class RegisterHolds(Subject):
    """A machine's register."""

    FORM: ClassVar[str] = "register VM NAME ==|!=|<|<=|>|>= VALUE"
    machine: int
    name: str
    operator: str
    value: int

    @classmethod
    def read(cls, words: Words) -> RegisterHolds:
        machine, name = words.machine(), words.next("a register")
        if name not in EDITABLE:
            raise CommandError(f"assert: no register {name!r}", hint=f"there are {', '.join(EDITABLE)}")
        return cls(machine, name, words.operator(), parse_number(words.next("a value")))

    @property
    def text(self) -> str:
        return f"register vm{self.machine} {self.name} {self.operator} {self.value:#x}"

    def check(self, bench: Bench) -> Found:
        refuse_machine(bench, self.machine)
        value = bench.multiverse.machines[self.machine].registers().value(self.name)
        return _compared(value, self.operator, self.value, f"{value:#x}")


@dataclass(frozen=True, slots=True)
class MemoryHolds(Subject):
    """Bytes of a machine's memory."""

    FORM: ClassVar[str] = "memory VM [phys:]ADDRESS == HEX"
    machine: int
    address: int
    physical: bool
    equality: str
    data: bytes

    @classmethod
    def read(cls, words: Words) -> MemoryHolds:
        machine, (address, physical) = words.machine(), parse_address(words.next("an address"))
        return cls(machine, address, physical, words.equality(), _bytes(words))

    @property
    def text(self) -> str:
        where = format_address(self.address, physical=self.physical)
        return f"memory vm{self.machine} {where} {self.equality} {self.data.hex()}"

    def check(self, bench: Bench) -> Found:
        refuse_machine(bench, self.machine)
        machine = bench.multiverse.machines[self.machine]
        found = machine.read_memory(self.address, len(self.data), virtual=not self.physical)
        return Found((found == self.data) == (self.equality == "=="), f"it is {found.hex()}")


@dataclass(frozen=True, slots=True)
class FutureIs(Subject):
    """Is what comes after the cursor written already?"""

    FORM: ClassVar[str] = "future known|open"
    state: str

    @classmethod
    def read(cls, words: Words) -> FutureIs:
        return cls(words.one_of("state", ("known", "open")))

    @property
    def text(self) -> str:
        return f"future {self.state}"

    def check(self, bench: Bench) -> Found:
        state = "open" if bench.multiverse.at_end else "known"
        return Found(state == self.state, f"it is {state}")


SUBJECTS: dict[str, type[Subject]] = {
    "branch": OnBranch,
    "moment": AtMoment,
    "time": AtTime,
    "tick": AtTick,
    "instret": Instret,
    "digest": HasDigest,
    "property": PropertyStands,
    "console": ConsoleShows,
    "event": EventHappened,
    "machine": MachineState,
    "register": RegisterHolds,
    "memory": MemoryHolds,
    "future": FutureIs,
}
"""By their first word."""


def read_condition(texts: list[str], quantum_ns: int) -> Condition:
    """The condition that words say. Raises CommandError with the form that was meant."""
    words = Words(texts, quantum_ns)
    negations, name = 0, words.next("a condition")
    while name == "not":
        negations, name = negations + 1, words.next("a condition")
    subject = SUBJECTS.get(name)
    if subject is None:
        raise CommandError(f"assert: {name!r} is nothing to assert", hint=f"there are {', '.join(SUBJECTS)}")
    words.form = subject.FORM
    condition: Condition = subject.read(words)
    words.done()
    for _ in range(negations):
        condition = Not(condition)
    return condition


def _compared(found: int, sign: str, wanted: int, shown: str = "") -> Found:
    """Is what was found so to what is wanted?"""
    return Found(OPERATORS[sign](found, wanted), f"it is {shown or found}")


def forms() -> Iterator[str]:
    """All forms, for help."""
    yield from (subject.FORM for subject in SUBJECTS.values())


def _moment(text: str) -> Moment:
    try:
        return Moment.parse(text)
    except UsageError as error:
        raise CommandError(error.what, hint=error.hint) from None


def _count(words: Words) -> int:
    try:
        return parse_count(words.next("a number"))
    except UsageError as error:
        raise CommandError(error.what, hint=error.hint) from None


def _bytes(words: Words) -> bytes:
    try:
        return parse_bytes(words.next("bytes"))
    except CommandError as error:
        raise CommandError(f"assert: {error.what}", hint=error.hint) from None


def _last_line(bench: Bench, machine: int) -> str:
    log, total = bench.multiverse.consoles()[machine], bench.multiverse.console_totals[machine]
    last = log.lines_begun(total) - 1
    text = log.line_bytes(last, total).decode(errors="replace").strip() if last >= 0 else ""
    return text[:SHOWN_CHARS]


__all__ = ["OPERATORS", "SUBJECTS", "Condition", "Found", "Not", "PropertyStands", "forms", "read_condition"]
