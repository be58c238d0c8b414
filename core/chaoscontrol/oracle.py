"""The property oracle: what must hold always, what must happen sometimes, and whether it did.

Two sources become one report. Guest properties come from the machines themselves: the engine counts every evaluation,
so the report of a moment is that of the machines' state there, and nothing is lost by going back. Host properties
watch the event stream: the console must or must not say something, no panic, no silence, any Python callable. A host
property is an object with state; copy() it where a history branches.

A failure is dated with the moment of the request or event that broke the property.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import re
from typing import TYPE_CHECKING, Any, Protocol

from .errors import UsageError
from .events import Event, EventKind
from .protocol import Command, SdkEvent, parse_details
from .texts import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .values import PropertyCounts


class PropertyKind(enum.StrEnum):
    """What a property promises."""

    ALWAYS = "always"
    """Evaluated at least once, and true each time."""
    ALWAYS_OR_UNREACHABLE = "always_or_unreachable"
    SOMETIMES = "sometimes"
    """True at least once."""
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"
    EVENTUALLY = "eventually"
    """True at the end of the settle phase."""

    @property
    def is_safety(self) -> bool:
        """Whether a single evaluation can break it."""
        return self in (PropertyKind.ALWAYS, PropertyKind.ALWAYS_OR_UNREACHABLE, PropertyKind.UNREACHABLE)


class Verdict(enum.StrEnum):
    """How a property stands."""

    PASSED = "passed"
    FAILED = "failed"
    UNREACHED = "unreached"
    """It waits for something that has not happened: a finding across runs, not a failure of one."""


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class At:
    """Where in a run an evaluation happened."""

    vns: int
    vm: int
    instret: int

    def __str__(self) -> str:
        where = f"vm{self.vm} " if self.vm >= 0 else ""
        return f"{where}{self.vns / 1e9:.9f} s"


@dataclasses.dataclass(frozen=True, slots=True)
class PropertyResult:
    """One property of one run, or of many."""

    name: str
    kind: PropertyKind
    passes: int = 0
    fails: int = 0
    example: At | None = None
    """The first evaluation that was true."""
    counterexample: At | None = None
    """The first that was false."""
    details: str = ""
    """Of the counterexample: JSON or a line of text."""
    runs: int = 1

    @property
    def hits(self) -> int:
        """Evaluations."""
        return self.passes + self.fails

    @property
    def verdict(self) -> Verdict:
        """How it stands."""
        kind = self.kind
        if kind.is_safety:
            if self.fails:
                return Verdict.FAILED
            wanted = kind is PropertyKind.ALWAYS
            return Verdict.PASSED if self.passes or not wanted else Verdict.UNREACHED
        if kind is PropertyKind.EVENTUALLY:
            return Verdict.FAILED if self.fails else Verdict.PASSED if self.passes else Verdict.UNREACHED
        return Verdict.PASSED if self.passes else Verdict.UNREACHED

    def merged(self, other: PropertyResult) -> PropertyResult:
        """Both together; the examples of the one merged first win."""
        return dataclasses.replace(
            self,
            passes=self.passes + other.passes,
            fails=self.fails + other.fails,
            example=self.example or other.example,
            counterexample=self.counterexample or other.counterexample,
            details=self.details if self.counterexample else other.details,
            runs=self.runs + other.runs,
        )


class OracleReport:
    """All properties of a run, or of many merged, by name and kind."""

    def __init__(self, results: Iterable[PropertyResult] = ()) -> None:
        self._results: dict[tuple[str, PropertyKind], PropertyResult] = {(r.name, r.kind): r for r in results}

    @property
    def results(self) -> Sequence[PropertyResult]:
        """In the order of first mention."""
        return tuple(self._results.values())

    @property
    def failures(self) -> Sequence[PropertyResult]:
        """The broken ones, the earliest first."""
        failed = [r for r in self._results.values() if r.verdict is Verdict.FAILED]
        return sorted(failed, key=lambda r: (r.counterexample is None, r.counterexample or At(0, 0, 0), r.name))

    @property
    def unreached(self) -> Sequence[PropertyResult]:
        """Those that still wait for something to happen."""
        return [r for r in self._results.values() if r.verdict is Verdict.UNREACHED]

    def merge(self, other: OracleReport) -> OracleReport:
        """A report across runs: this one's and then the other's."""
        merged = OracleReport(self.results)
        for key, result in other._results.items():
            known = merged._results.get(key)
            merged._results[key] = known.merged(result) if known else result
        return merged

    @classmethod
    def from_dicts(cls, dicts: Iterable[Mapping[str, Any]]) -> OracleReport:
        """What as_dicts() gave."""
        return cls(
            PropertyResult(
                d["name"],
                PropertyKind(d["kind"]),
                d["passes"],
                d["fails"],
                At(**d["example"]) if d["example"] else None,
                At(**d["counterexample"]) if d["counterexample"] else None,
                d["details"],
                d["runs"],
            )
            for d in dicts
        )

    def as_dicts(self) -> list[dict[str, object]]:
        """For JSON."""
        return [
            {
                "name": r.name,
                "kind": str(r.kind),
                "verdict": str(r.verdict),
                "passes": r.passes,
                "fails": r.fails,
                "runs": r.runs,
                "example": dataclasses.asdict(r.example) if r.example else None,
                "counterexample": dataclasses.asdict(r.counterexample) if r.counterexample else None,
                "details": r.details,
            }
            for r in self._results.values()
        ]


# ---- guest properties ------------------------------------------------------------------------------------------------

_KIND_OF = {
    Command.ALWAYS: PropertyKind.ALWAYS,
    Command.SOMETIMES: PropertyKind.SOMETIMES,
    Command.REACHABLE: PropertyKind.REACHABLE,
    Command.UNREACHABLE: PropertyKind.UNREACHABLE,
}


def announced_kind(details: Mapping[str, object]) -> PropertyKind | None:
    """The kind that a catalog entry names, None if it names none."""
    try:
        return PropertyKind(str(details.get("kind", "")))
    except ValueError:
        return None


ANNOUNCED_MAX = DETAILS_MAX = 65_536
"""What is kept of announcements and failures: guests may make up as many as they like."""


class GuestProperties:
    """Turns the machines' property tables into results.

    The catalog's kinds travel as events, so note() must see the SDK events (of any run: a program's catalog is part of
    the program). Without them an always_or_unreachable counts as an always.
    """

    def __init__(self) -> None:
        self._announced: dict[int, tuple[PropertyKind, str]] = {}
        self._details: dict[tuple[int, int, int], str] = {}

    def note(self, event: SdkEvent, at: At) -> None:
        """Reads one SDK event."""
        if event.command is Command.CATALOG:
            kind = announced_kind(event.details)
            if kind is not None and (event.id in self._announced or len(self._announced) < ANNOUNCED_MAX):
                self._announced[event.id] = (kind, event.message)
        elif event.failed and len(self._details) < DETAILS_MAX:
            self._details.setdefault((event.id, at.vm, at.instret), event.json)

    def copy(self) -> GuestProperties:
        """An independent one in the same state."""
        other = GuestProperties()
        other._announced = dict(self._announced)
        other._details = dict(self._details)
        return other

    def results(self, tables: Sequence[Sequence[PropertyCounts]]) -> list[PropertyResult]:
        """One result per property, over all machines. tables: DeterministicVm.properties() of each."""
        found: dict[tuple[str, PropertyKind], PropertyResult] = {}
        for vm, table in enumerate(tables):
            for counts in table:
                result = self._result(vm, counts)
                if result is None:
                    continue
                key = (result.name, result.kind)
                known = found.get(key)
                found[key] = _earliest(known, result) if known else result
        return list(found.values())

    def _result(self, vm: int, counts: PropertyCounts) -> PropertyResult | None:
        kind_announced, name = self._announced.get(counts.id, (None, counts.message))
        if counts.command == Command.CATALOG:
            return PropertyResult(name, kind_announced) if kind_announced else None
        kind = _KIND_OF.get(Command(counts.command), PropertyKind.ALWAYS)
        if kind is PropertyKind.ALWAYS and kind_announced is PropertyKind.ALWAYS_OR_UNREACHABLE:
            kind = kind_announced
        fail = At(counts.first_fail[0], vm, counts.first_fail[1]) if counts.first_fail else None
        return PropertyResult(
            counts.message or name,
            kind,
            counts.passes,
            counts.fails,
            At(counts.first_pass[0], vm, counts.first_pass[1]) if counts.first_pass else None,
            fail,
            self._details.get((counts.id, vm, fail.instret), "") if fail else "",
        )


def _earliest(a: PropertyResult, b: PropertyResult) -> PropertyResult:
    """Two machines' results of one run."""
    b_fails_first = b.counterexample is not None and (a.counterexample is None or b.counterexample < a.counterexample)
    return dataclasses.replace(
        a,
        passes=a.passes + b.passes,
        fails=a.fails + b.fails,
        example=min((x for x in (a.example, b.example) if x), default=None),
        counterexample=b.counterexample if b_fails_first else a.counterexample,
        details=b.details if b_fails_first else a.details,
    )


# ---- host properties -------------------------------------------------------------------------------------------------


class HostProperty(Protocol):
    """A property that the host checks on the event stream. Deterministic, and copyable with copy.deepcopy."""

    @property
    def name(self) -> str:
        """What names it in reports."""
        ...

    def on_event(self, event: Event) -> None:
        """Sees every event once, in order."""
        ...

    def on_time(self, vns: int) -> None:
        """The cluster has come to this time; every event before it was seen."""
        ...

    def healed(self, vns: int) -> None:
        """Every fault has ended: the quiet phase begins."""
        ...

    def settled(self, vns: int) -> None:
        """The quiet phase is over: what must hold eventually holds now or never."""
        ...

    def results(self) -> Sequence[PropertyResult]:
        """How it stands now; an observer of many properties has many."""
        ...


class _Counting:
    """What the host properties have in common."""

    def __init__(self, name: str, kind: PropertyKind) -> None:
        self._result = PropertyResult(name, kind)

    @property
    def name(self) -> str:
        return self._result.name

    def on_time(self, vns: int) -> None:
        pass

    def healed(self, vns: int) -> None:
        pass

    def settled(self, vns: int) -> None:
        pass

    def results(self) -> Sequence[PropertyResult]:
        return (self._result,)

    def count(self, passed: bool, at: At, details: str = "") -> None:
        """One evaluation."""
        r = self._result
        if passed:
            self._result = dataclasses.replace(r, passes=r.passes + 1, example=r.example or at)
        else:
            self._result = dataclasses.replace(
                r,
                fails=r.fails + 1,
                counterexample=r.counterexample or at,
                details=r.details if r.counterexample else details,
            )


def _at(event: Event) -> At:
    return At(event.vns, event.vm, event.instret)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return compile_pattern(pattern)
    except ValueError as e:
        raise UsageError(f"{pattern!r} is no regular expression: {e}") from None


class ConsoleNever(_Counting):
    """No console line may match a regular expression (of some machines, or all)."""

    def __init__(self, pattern: str, name: str | None = None, vms: Iterable[int] | None = None) -> None:
        super().__init__(name or f"console never says {pattern!r}", PropertyKind.UNREACHABLE)
        self._pattern = _compiled(pattern)
        self._vms = None if vms is None else frozenset(vms)

    def on_event(self, event: Event) -> None:
        if event.kind is EventKind.CONSOLE and (self._vms is None or event.vm in self._vms):
            text = str(event.data)
            if self._pattern.search(text):
                self.count(False, _at(event), text)


class ConsoleSometimes(_Counting):
    """Some console line must match a regular expression."""

    def __init__(self, pattern: str, name: str | None = None, vms: Iterable[int] | None = None) -> None:
        super().__init__(name or f"console says {pattern!r}", PropertyKind.SOMETIMES)
        self._pattern = _compiled(pattern)
        self._vms = None if vms is None else frozenset(vms)

    def on_event(self, event: Event) -> None:
        if event.kind is EventKind.CONSOLE and (self._vms is None or event.vm in self._vms):
            text = str(event.data)
            if self._pattern.search(text):
                self.count(True, _at(event), text)


KERNEL_TROUBLE = (
    ("no kernel panic", r"Kernel panic - not syncing"),
    # Every die() of the kernel ends with its error code and a count: "divide error: 0000 [#1]", "Oops: 0002 [#1]".
    ("no kernel oops", r"(\bBUG: (?!soft lockup)|\bgeneral protection fault|\bkernel BUG at|: [0-9a-f]{4} \[#\d+\])"),
    ("no soft lockup", r"(soft lockup|rcu_\w+ self-detected stall|hung_task|blocked for more than \d+ seconds)"),
)
"""(name, regular expression) of what Linux prints when it is in trouble."""


def kernel_properties() -> list[HostProperty]:
    """No panic, no oops, no soft lockup on any console."""
    return [ConsoleNever(pattern, name) for name, pattern in KERNEL_TROUBLE]


class NoGuestEnds(_Counting):
    """No machine may end by itself: power off, reset, triple fault."""

    def __init__(self) -> None:
        super().__init__("no guest ends by itself", PropertyKind.UNREACHABLE)

    def on_event(self, event: Event) -> None:
        if event.kind is EventKind.END:
            self.count(False, _at(event), str(event.data))


class Progress(_Counting):
    """The cluster must not be silent for too long: some console line or SDK event every `limit_ns`."""

    def __init__(self, limit_ns: int) -> None:
        super().__init__(f"progress every {limit_ns / 1e9:g} virtual seconds", PropertyKind.ALWAYS)
        self._limit_ns = limit_ns
        self._last = 0
        self._told = False

    def on_event(self, event: Event) -> None:
        if event.kind in (EventKind.CONSOLE, EventKind.SDK):
            self._look(event.vns)
            self._last, self._told = max(self._last, event.vns), False
            self.count(True, _at(event))

    def on_time(self, vns: int) -> None:
        self._look(vns)

    def _look(self, vns: int) -> None:
        if not self._told and vns - self._last > self._limit_ns:
            self._told = True
            self.count(False, At(self._last + self._limit_ns, -1, 0), f"nothing since {self._last / 1e9:.3f} s")


class Check(_Counting):
    """Any Python callable over the event stream.

    The callable gets the event and a dictionary of its own to remember things in, and returns None (nothing to say),
    True (held) or a line of text saying how it was broken.
    """

    def __init__(
        self,
        name: str,
        check: Callable[[Event, dict[str, object]], bool | str | None],
        kind: PropertyKind = PropertyKind.ALWAYS_OR_UNREACHABLE,
    ) -> None:
        super().__init__(name, kind)
        self._check = check
        self._memory: dict[str, object] = {}

    def on_event(self, event: Event) -> None:
        said = self._check(event, self._memory)
        if said is None:
            return
        self.count(said is True, _at(event), said if isinstance(said, str) else "")


class Finding(Protocol):
    """What an EventObserver says of an event: a property that it breaks, and why."""

    @property
    def message(self) -> str: ...
    @property
    def why(self) -> str: ...


class EventObserver(Protocol):
    """Judges a system from outside by the events that its guests send. Deterministic, and copyable."""

    def __call__(self, name: str, details: Mapping[str, object] | None) -> Sequence[Finding]:
        """What this event proves wrong: usually nothing."""
        ...

    def healed(self) -> None:
        """The quiet phase begins."""
        ...

    def settled(self) -> Sequence[Finding]:
        """What is not as it must have become by the end of the quiet phase."""
        ...


class Observed:
    """The properties that an EventObserver watches.

    always: names of what it can break while running; eventually: of what settled() judges. So those that were never
    broken appear in reports too.
    """

    def __init__(self, observer: EventObserver, always: Sequence[str] = (), eventually: Sequence[str] = ()) -> None:
        self._observer = observer
        self._always = {name: _Counting(name, PropertyKind.ALWAYS_OR_UNREACHABLE) for name in always}
        self._eventually = {name: _Counting(name, PropertyKind.EVENTUALLY) for name in eventually}

    @property
    def name(self) -> str:
        return type(self._observer).__name__

    def on_event(self, event: Event) -> None:
        if not isinstance(event.data, SdkEvent) or event.data.command is not Command.SEND_EVENT:
            return
        for finding in self._observer(event.data.message, event.data.details):
            kind = PropertyKind.ALWAYS_OR_UNREACHABLE
            known = self._always.setdefault(finding.message, _Counting(finding.message, kind))
            known.count(False, _at(event), finding.why)

    def on_time(self, vns: int) -> None:
        pass

    def healed(self, vns: int) -> None:
        self._observer.healed()

    def settled(self, vns: int) -> None:
        findings = {finding.message: finding.why for finding in self._observer.settled()}
        for name in (*self._eventually, *(name for name in findings if name not in self._eventually)):
            known = self._eventually.setdefault(name, _Counting(name, PropertyKind.EVENTUALLY))
            known.count(name not in findings, At(vns, -1, 0), findings.get(name, ""))

    def results(self) -> Sequence[PropertyResult]:
        return [result for known in (self._always, self._eventually) for c in known.values() for result in c.results()]


# ---- the oracle ------------------------------------------------------------------------------------------------------


class PropertyOracle:
    """Watches one run: feed it the events in order, ask it for a report at any moment."""

    def __init__(self, host: Iterable[HostProperty] = ()) -> None:
        self._guest = GuestProperties()
        self._host: list[HostProperty] = list(host)

    def feed(self, events: Iterable[Event], now_vns: int) -> None:
        """What happened up to now_vns, in order."""
        for event in events:
            if isinstance(event.data, SdkEvent):
                self._guest.note(event.data, _at(event))
            for prop in self._host:
                prop.on_event(event)
        for prop in self._host:
            prop.on_time(now_vns)

    def healed(self, vns: int) -> None:
        """Every fault has ended."""
        for prop in self._host:
            prop.healed(vns)

    def settled(self, vns: int) -> None:
        """The quiet phase is over."""
        for prop in self._host:
            prop.settled(vns)

    def copy(self) -> PropertyOracle:
        """An independent one in the same state, for another branch."""
        other = PropertyOracle()
        other._guest = self._guest.copy()
        other._host = copy.deepcopy(self._host)
        return other

    def host_results(self) -> list[PropertyResult]:
        """How the host's properties stand."""
        return [result for prop in self._host for result in prop.results()]

    @property
    def host_failed(self) -> bool:
        """Whether a host property is broken; cheaper than a report."""
        return any(r.verdict is Verdict.FAILED for prop in self._host for r in prop.results())

    def report(self, tables: Sequence[Sequence[PropertyCounts]]) -> OracleReport:
        """How all properties stand. tables: DeterministicVm.properties() of each machine."""
        return OracleReport([*self._guest.results(tables), *self.host_results()])


__all__ = [
    "At",
    "Check",
    "ConsoleNever",
    "ConsoleSometimes",
    "EventObserver",
    "Finding",
    "GuestProperties",
    "HostProperty",
    "NoGuestEnds",
    "Observed",
    "OracleReport",
    "Progress",
    "PropertyKind",
    "PropertyOracle",
    "PropertyResult",
    "Verdict",
    "announced_kind",
    "kernel_properties",
    "parse_details",
]
