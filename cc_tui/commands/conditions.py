"""Conditions: what `assert` says about the cursor, as values that can be read, written and checked.

    [not] SUBJECT

Every subject has one form, which its class names in FORM. Words are separate: `branch == main`, not `branch==main`.
Checking changes nothing. `check` takes the same conditions, to judge whole branches by them.
"""

from __future__ import annotations

import inspect
import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.addresses import Address
from cc_tui.commands.condition import MACHINE, OPERATORS, Condition, Found, Not, Subject, Words
from cc_tui.commands.engine import refuse_machine
from cc_tui.commands.language import (
    CommandError,
    format_duration,
    parse_bytes,
    parse_duration,
    parse_number,
    quote,
)
from cc_tui.options import parse_count
from chaoscontrol.events import EventKind
from chaoscontrol.oracle import Verdict
from chaoscontrol.registers import check_register
from chaoscontrol.texts import compile_pattern
from chaoscontrol.timetravel import Moment, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cc_tui.commands.bench import Bench
    from cc_tui.commands.hindsight import Check
    from chaoscontrol.events import Event

SHOWN_CHARS = 60
"""How much of a console's last line an error shows."""
UNSIGNED = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}
"""Bytes of a number in memory, little-endian."""


class OfEvents(Subject):
    """A condition that single events can meet as well."""

    @abstractmethod
    def met_by(self, event: Event) -> bool | None:
        """Does the event meet it? None: it is of another sort."""


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
        here = bench.multiverse.branch
        named = self.name in (here.name, *here.former)
        return Found(named == (self.equality == "=="), f"it is {here.name}")


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
            Moment.parse(place)
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
            there = Moment.parse(self.place)
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
        return cls(words.operator(), parse_count(words.next("a number")))

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
        return cls(words.machine(), words.operator(), parse_count(words.next("a number")))

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
            raise words.error(f"not a digest: {word!r}", "write its first hexadecimal digits, as 14dad143")
        prefixes = tuple(word.split(","))
        if machine is not None and len(prefixes) > 1:
            raise words.error("a machine has one digest")
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
class ConsoleShows(OfEvents):
    """What a console has shown since boot, up to the cursor."""

    FORM: ClassVar[str] = "console VM|any contains TEXT | console VM|any matches REGEX"
    machine: int | None
    how: str
    pattern: str

    @classmethod
    def read(cls, words: Words) -> ConsoleShows:
        word = words.next("a machine")
        match = MACHINE.fullmatch(word)
        if match is None and word != "any":
            raise words.error(f"not a machine: {word!r}")
        how, pattern = _text(words)
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

    def met_by(self, event: Event) -> bool | None:
        if event.kind is not EventKind.CONSOLE or self.machine not in (None, event.vm):
            return None
        return _reads(self.how, self.pattern, event.text)

    def _line_in(self, bench: Bench, machine: int) -> str | None:
        """The first line with it."""
        log, total = bench.multiverse.consoles()[machine], bench.multiverse.console_totals[machine]
        if self.how == "contains":
            at = log.find(self.pattern.encode(), 0, total)
        else:
            data = log.read(0, total)
            text = data.decode(errors="replace").replace("\r\n", "\n")
            match = compile_pattern(self.pattern, re.MULTILINE).search(text)
            at = -1 if match is None else _line_start(data, text.count("\n", 0, match.start()))
        if at < 0:
            return None
        return log.line_bytes(log.line_of(at), total).decode(errors="replace").strip()


@dataclass(frozen=True, slots=True)
class EventHappened(OfEvents):
    """Something that happened up to the cursor."""

    FORM: ClassVar[str] = "event KIND contains TEXT | event KIND matches REGEX"
    kind: str
    how: str
    pattern: str

    @classmethod
    def read(cls, words: Words) -> EventHappened:
        return cls(words.one_of("kind of event", tuple(EventKind)), *_text(words))

    @property
    def text(self) -> str:
        return f"event {self.kind} {self.how} {quote(self.pattern)}"

    def check(self, bench: Bench) -> Found:
        multiverse, count = bench.multiverse, 0
        for event in multiverse.events_so_far():
            count += event.kind == self.kind
            if self.met_by(event):
                return Found(True, f"{event.text[:SHOWN_CHARS]!r} happened at {format_seconds(event.vns)} s")
        return Found(False, f"none of {count} {self.kind} events says so")

    def met_by(self, event: Event) -> bool | None:
        return None if event.kind != self.kind else _reads(self.how, self.pattern, event.text)


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
        check_register(name)
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
    """Bytes of a machine's memory, or a number there."""

    FORM: ClassVar[str] = "memory VM [phys:]ADDRESS ==|!= HEX | memory VM ADDRESS u8|u16|u32|u64 OP VALUE"
    machine: int
    address: Address
    equality: str
    data: bytes

    @classmethod
    def read(cls, words: Words) -> MemoryHolds | NumberHolds:
        machine, address = words.machine(), Address.read(words.next("an address"))
        how = words.one_of("comparison or size", ("==", "!=", *UNSIGNED))
        if how in UNSIGNED:
            return NumberHolds(machine, address, how, words.operator(), parse_number(words.next("a value")))
        return cls(machine, address, how, _bytes(words))

    @property
    def text(self) -> str:
        return f"memory vm{self.machine} {self.address.text} {self.equality} {self.data.hex()}"

    def check(self, bench: Bench) -> Found:
        found = _memory(bench, self.machine, self.address, len(self.data))
        return Found((found == self.data) == (self.equality == "=="), f"it is {found.hex()}")


@dataclass(frozen=True, slots=True)
class NumberHolds(Condition):
    """An unsigned little-endian number in a machine's memory."""

    machine: int
    address: Address
    size: str
    """One of UNSIGNED."""
    operator: str
    value: int

    @property
    def text(self) -> str:
        return f"memory vm{self.machine} {self.address.text} {self.size} {self.operator} {self.value:#x}"

    def check(self, bench: Bench) -> Found:
        found = int.from_bytes(_memory(bench, self.machine, self.address, UNSIGNED[self.size]), "little")
        return _compared(found, self.operator, self.value, f"{found:#x}")


def _memory(bench: Bench, vm: int, address: Address, size: int) -> bytes:
    refuse_machine(bench, vm)
    return bench.multiverse.machines[vm].read_memory(address.find(bench, vm), size, virtual=not address.physical)


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


@dataclass(frozen=True, slots=True)
class CheckPasses(Subject):
    """A property holds on whole branches, as `check` judges them."""

    FORM: ClassVar[str] = "check PROPERTY"
    judged: Check

    @classmethod
    def read(cls, words: Words) -> CheckPasses:
        # Only here: it builds on this module.
        from cc_tui.commands.hindsight import read_check

        return cls(read_check(words.rest(), words.quantum_ns))

    @property
    def text(self) -> str:
        return self.judged.text

    def check(self, bench: Bench) -> Found:
        return self.judged.stands(bench)


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
    "check": CheckPasses,
}
"""By their first word."""


def read_condition(texts: list[str], quantum_ns: int) -> Condition:
    """The condition that words say. Raises CommandError with the form that was meant."""
    words = Words(texts, quantum_ns, lead="assert", form="[not] " + " | ".join(SUBJECTS))
    condition = take_condition(words)
    words.done()
    return condition


def take_condition(words: Words) -> Condition:
    """The condition that the next words say; those after it are left. Raises CommandError."""
    negations, name = 0, words.next("a condition")
    while name == "not":
        negations, name = negations + 1, words.next("a condition")
    subject = SUBJECTS.get(name)
    if subject is None:
        raise words.error(f"{name!r} is no condition", f"there are {', '.join(SUBJECTS)}")
    words.form = subject.FORM
    condition = subject.read(words)
    for _ in range(negations):
        condition = Not(condition)
    return condition


def _compared(found: int, sign: str, wanted: int, shown: str = "") -> Found:
    """Is what was found so to what is wanted?"""
    return Found(OPERATORS[sign](found, wanted), f"it is {shown or found}")


def forms() -> Iterator[tuple[str, str]]:
    """For help: what conditions there are, and what each is about."""
    yield from ((subject.FORM, inspect.getdoc(subject) or "") for subject in SUBJECTS.values())


def _text(words: Words) -> tuple[str, str]:
    """How to look for a text, and the text."""
    how, pattern = words.one_of("way to look", ("contains", "matches")), words.next("a text")
    if not pattern:
        raise words.error("an empty text is everywhere")
    if how == "matches":
        try:
            compile_pattern(pattern)
        except ValueError as error:
            raise words.error(f"not a regular expression: {error}") from None
    return how, pattern


def _line_start(data: bytes, line: int) -> int:
    """Where line `line` of a text begins, counted from 0."""
    at = 0
    for _ in range(line):
        at = data.index(b"\n", at) + 1
    return at


def _reads(how: str, pattern: str, text: str) -> bool:
    return pattern in text if how == "contains" else compile_pattern(pattern).search(text) is not None


def _bytes(words: Words) -> bytes:
    try:
        return parse_bytes(words.next("bytes"))
    except CommandError as error:
        raise words.error(error.what, error.hint) from None


def _last_line(bench: Bench, machine: int) -> str:
    log, total = bench.multiverse.consoles()[machine], bench.multiverse.console_totals[machine]
    last = log.lines_begun(total) - 1
    text = log.line_bytes(last, total).decode(errors="replace").strip() if last >= 0 else ""
    return text[:SHOWN_CHARS]


__all__ = [
    "SUBJECTS",
    "UNSIGNED",
    "CheckPasses",
    "Condition",
    "Found",
    "Not",
    "OfEvents",
    "PropertyStands",
    "forms",
    "read_condition",
    "take_condition",
]
