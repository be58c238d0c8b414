"""TriageEngine: lives through the history of a bug again and collects all that is known of it, as a Report.

Looking changes nothing: the cursor comes back to where it was, and digests are compared on the way as with every
movement. What the network carried is in no history, so it is captured while the last stretch is lived through.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from chaoscontrol.debug.capture import Capture
from chaoscontrol.errors import UsageError
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import NETWORK_FAULTS, FaultSpan, NetworkHeal, ProcessPause, add_changes
from chaoscontrol.oracle import KERNEL_TROUBLE, At, NoGuestEnds, PropertyKind, PropertyResult
from chaoscontrol.protocol import SdkEvent
from chaoscontrol.registers import GPR_NAMES
from chaoscontrol.timetravel import Failure, Input, Moment, Position, ScheduleInput, describe
from chaoscontrol.timetravel.inputs import machine_of
from chaoscontrol.timetravel.witness import BATCH_NS
from chaoscontrol.triage import report as r
from chaoscontrol.triage.causality import causality
from chaoscontrol.triage.stacks import running

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoscontrol.machine import DeterministicVm
    from chaoscontrol.network import Network
    from chaoscontrol.symbols.programs import GuestFiles
    from chaoscontrol.timetravel import Multiverse

WINDOW_NS = 2_000_000_000
"""How far before a failure messages are looked at unless told otherwise."""
BEFORE_SHOWN = 12
CONSOLE_SHOWN = 12
EVALUATIONS_SHOWN = 20
INPUTS_SHOWN = 1000
BINS = 160
TEXT_MAX = 500
_SHOWN_REGISTERS = ("rip", "rflags", *GPR_NAMES, "cr0", "cr2", "cr3", "cr4", "efer", "fs_base", "gs_base")
_UNREADABLE = (EventKind.POWER, EventKind.AGENT, EventKind.DISK, EventKind.NETWORK)
"""Kinds of events that are bytes for a device; faults tell the same in words."""


class Bug(NamedTuple):
    """A property that was broken."""

    number: int
    """From 1: by branch, then in the order in which they were found out."""
    branch: str
    failure: Failure


def bugs(multiverse: Multiverse) -> list[Bug]:
    """All that are known; those of a recording have the numbers that `Recording.failures` gives them."""
    found = [(branch.name, failure) for branch in multiverse.branches() for failure in branch.failures]
    return [Bug(number, *each) for number, each in enumerate(found, 1)]


def find_bug(multiverse: Multiverse, number: int) -> Bug:
    """The bug of that number. Raises UsageError."""
    known = bugs(multiverse)
    if not known:
        raise UsageError("no property was broken", hint="`properties` says how they stand")
    if not 1 <= number <= len(known):
        raise UsageError(f"there is no bug {number}", hint=f"they are numbered 1 to {len(known)}")
    return known[number - 1]


def position_of(multiverse: Multiverse, bug: Bug) -> Position:
    """The first position at which it has happened; the cursor is on the bug's line."""
    at = bug.failure.at
    if at.vm >= 0 and not any(ending.vns == at.vns and ending.machine == at.vm for ending in multiverse.endings()):
        return min(Position(at.vns + 1), multiverse.branch.end)
    return Position(at.vns, multiverse.inputs_at(at.vns))


def known_by(multiverse: Multiverse, bug: Bug) -> Position:
    """Where it was found out, at the latest: what host properties say is put in order and judged now and then."""
    branch = multiverse.find_branch(bug.branch)
    batch_vns = (bug.failure.at.vns // BATCH_NS + 1) * BATCH_NS
    return min(Position(batch_vns, 0), branch.end)


class TriageEngine:
    """Makes reports of the bugs of a multiverse.

    files: of the guests, as far as they are known. network: of the multiverse's cluster, None without
    one. meaning_of: what the program under test says by the data of a frame, for a person. origin: where the history
    of a bug comes from, given its moment. progress: called with the virtual time that was reached.
    """

    def __init__(
        self,
        multiverse: Multiverse,
        origin: Callable[[Bug, Moment], r.Origin],
        *,
        files: GuestFiles,
        network: Network | None,
        meaning_of: Callable[[bytes], str] | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._multiverse = multiverse
        self._origin = origin
        self._files = files
        self._network = network
        self._meaning_of = meaning_of
        self._progress = progress

    def triage(self, number: int, *, window_ns: int = WINDOW_NS) -> r.Report:
        """The report of a bug. Raises UsageError, CancelledError, DivergenceError."""
        multiverse = self._multiverse
        bug = find_bug(multiverse, number)
        with multiverse.excursion():
            return self._report(bug, window_ns)

    def _report(self, bug: Bug, window_ns: int) -> r.Report:
        multiverse, at = self._multiverse, bug.failure.at
        from_vns = max(at.vns - window_ns, 0)
        multiverse.goto_time(from_vns, branch=bug.branch)
        position = position_of(multiverse, bug)
        capture = None
        if self._network is not None and any(vm.has_network for vm in multiverse.machines):
            with Capture(self._network, self._progress) as capture:
                multiverse.scan(capture, position.vns)
        multiverse.goto_time(position.vns, ordinal=position.ordinal)
        seen = _Seen(multiverse, bug)
        moment = multiverse.moment()
        messages = None
        if capture is not None:
            messages = causality(
                capture.frames,
                vms=len(multiverse.machines),
                vm=at.vm if seen.judged_inside else None,
                vns=position.vns,
                from_vns=from_vns,
                missed=capture.missed,
                meaning_of=self._meaning_of,
            )
        machines = tuple(self._machine(vm, seen) for vm in range(len(multiverse.machines)))
        # Last, because a host property may be judged only later.
        result = self._result(bug, position)
        severity, why = severity_of(bug.failure.name, result)
        return r.Report(
            bug=_bug_facts(bug),
            severity=severity,
            severity_why=why,
            moment=r.MomentFacts(
                str(moment), moment.brief, position.vns, position.ordinal, position.vns // multiverse.quantum_ns
            ),
            property=_history(result, seen),
            others=tuple(_bug_facts(other) for other in bugs(multiverse) if other.number != bug.number),
            faults=seen.faults,
            timeline=seen.timeline,
            activity=seen.activity(position.vns),
            machines=machines,
            causality=messages,
            schedule=seen.schedule(),
            origin=self._origin(bug, moment),
        )

    def _result(self, bug: Bug, position: Position) -> PropertyResult | None:
        """How the property stood where the failure was known first. Moves the cursor on, at most to that."""
        multiverse = self._multiverse
        for at in (position, known_by(multiverse, bug)):
            if at > multiverse.position:
                multiverse.goto_time(at.vns, ordinal=at.ordinal)
            for result in multiverse.witness.report(multiverse.position.vns).results:
                if result.name == bug.failure.name and result.fails:
                    return result
        return None

    def _machine(self, vm: int, seen: _Seen) -> r.MachineFacts:
        multiverse = self._multiverse
        machine = cast("DeterministicVm", multiverse.machines[vm])
        registers = machine.registers()
        process, stack = running(machine, self._files)
        return r.MachineFacts(
            vm=vm,
            state=self._state(vm, registers.halted, seen),
            instret=machine.instret,
            rip=registers.rip,
            mode="user" if registers.cs.selector & 3 else "kernel",
            process=process,
            stack=stack,
            registers={name: registers.value(name) for name in _SHOWN_REGISTERS},
            before=seen.before[vm],
            console=_console(multiverse, vm),
        )

    def _state(self, vm: int, halted: int, seen: _Seen) -> str:
        multiverse = self._multiverse
        if vm in multiverse.stopped:
            ends = [ending for ending in multiverse.endings() if ending.machine == vm]
            return next((ending.kind for ending in reversed(ends) if ending.vns <= multiverse.position.vns), "off")
        if any(isinstance(span.fault, ProcessPause) and vm in span.fault.vms() for span in seen.active):
            return "paused"
        return "halted" if halted else "running"


class _Seen:
    """What has been seen by the cursor, at the moment of a bug."""

    def __init__(self, multiverse: Multiverse, bug: Bug) -> None:
        self._multiverse = multiverse
        self._bug = bug
        self._here = multiverse.position
        self.events = multiverse.events_so_far()
        spans: dict[int, FaultSpan] = {}
        add_changes(spans, self.events)
        self.active = [span for span in spans.values() if span.active_at(self._here.vns)]
        self.faults = tuple(_fault_facts(span) for span in spans.values())
        self._inputs = tuple(_given(given.at.vns, given.instret, given.input) for given in multiverse.inputs_so_far())
        vms = range(len(multiverse.machines))
        self.before = [
            tuple(
                map(
                    self._happening,
                    [e for e in self.events if e.vm == vm and e.kind not in _UNREADABLE][-BEFORE_SHOWN:],
                )
            )
            for vm in vms
        ]
        self.timeline = self._timeline()

    @property
    def judged_inside(self) -> bool:
        """Did the failing machine itself break the property, by what it alone did?"""
        failure = self._bug.failure
        if failure.at.vm < 0:
            return False
        return (
            any(
                (isinstance(event.data, SdkEvent) and event.data.failed and event.data.message == failure.name)
                or event.kind is EventKind.END
                for event in self.events
                if _at(event) == failure.at
            )
            or self._on_console()
        )

    def _on_console(self) -> bool:
        """Is it about the console line that begins there? At the moment it has not been sent whole."""
        log = self._multiverse.consoles()[self._bug.failure.at.vm]
        total = self._multiverse.console_totals[self._bug.failure.at.vm]
        begun = log.lines_begun(total)
        return begun > 0 and log.line_vns(begun - 1) == self._bug.failure.at.vns

    def _happening(self, event: Event) -> r.Happening:
        failed = isinstance(event.data, SdkEvent) and event.data.failed
        at = self._bug.failure.at
        return r.Happening(_place(_at(event)), str(event.kind), event.text[:TEXT_MAX], failed or _at(event) == at)

    def _timeline(self) -> tuple[r.Happening, ...]:
        name = self._bug.failure.name
        told = [
            self._happening(event)
            for event in self.events
            if event.kind in (EventKind.FAULT, EventKind.END)
            or (isinstance(event.data, SdkEvent) and (event.data.message == name or event.data.failed))
        ]
        known = set(told)
        told += [entry for entries in self.before for entry in entries if entry not in known]
        return tuple(sorted([*told, *self._inputs], key=lambda entry: (entry.at.vns, entry.at.vm)))

    def activity(self, end_vns: int) -> r.Activity:
        """In bins from the beginning to the moment."""
        bin_ns = end_vns // BINS + 1
        counts = [[0] * BINS for _ in self._multiverse.machines]
        for event in self.events:
            if event.vm >= 0 and event.kind in (EventKind.CONSOLE, EventKind.SDK) and event.vns <= end_vns:
                counts[event.vm][event.vns // bin_ns] += 1
        return r.Activity(bin_ns, tuple(map(tuple, counts)))

    def evaluations(self) -> tuple[r.Evaluation, ...]:
        """Those of the property that the guests reported, the last ones."""
        found = [
            r.Evaluation(_place(_at(event)), event.data.condition, event.data.evaluations, event.data.json[:TEXT_MAX])
            for event in self.events
            if isinstance(event.data, SdkEvent)
            and event.data.evaluations
            and event.data.message == self._bug.failure.name
        ]
        return tuple(found[-EVALUATIONS_SHOWN:])

    def schedule(self) -> r.ScheduleFacts:
        """What was given to the cluster."""
        given = [g.input for g in self._multiverse.inputs_so_far()]
        schedules = [one.schedule.to_toml() for one in given if isinstance(one, ScheduleInput)]
        return r.ScheduleFacts(self._inputs[-INPUTS_SHOWN:], tuple(schedules), minimised=False)


def severity_of(name: str, result: PropertyResult | None) -> tuple[r.Severity, str]:
    """How bad it is that a property is broken, and why one says so."""
    if name in {each for each, _ in KERNEL_TROUBLE}:
        return r.Severity.CRITICAL, "a guest's kernel is in trouble"
    if name == NoGuestEnds().name:
        return r.Severity.CRITICAL, "a machine ended by itself"
    if result is not None and (result.kind is PropertyKind.EVENTUALLY or name.startswith("progress every")):
        return r.Severity.MEDIUM, "something that must happen in the end did not"
    return r.Severity.HIGH, "something happened that must never happen"


def _history(result: PropertyResult | None, seen: _Seen) -> r.PropertyHistory:
    evaluations = seen.evaluations()
    if result is None:
        return r.PropertyHistory("unknown", 0, 0, None, None, evaluations)
    first_pass, first_fail = (None if at is None else _place(at) for at in (result.example, result.counterexample))
    return r.PropertyHistory(str(result.kind), result.passes, result.fails, first_pass, first_fail, evaluations)


def _at(event: Event) -> At:
    return At(event.vns, event.vm, event.instret)


def _place(at: At) -> r.Place:
    return r.Place(at.vns, at.vm, at.instret)


def _bug_facts(bug: Bug) -> r.BugFacts:
    failure = bug.failure
    return r.BugFacts(bug.number, bug.branch, failure.name, failure.details, _place(failure.at))


def _fault_facts(span: FaultSpan) -> r.FaultFacts:
    fault = span.fault
    is_network = isinstance(fault, (*NETWORK_FAULTS, NetworkHeal))
    return r.FaultFacts(
        span.number, fault.kind(), str(fault), fault.LETTER, span.begin_ns, span.end_ns, fault.vms(), is_network
    )


def _given(vns: int, instret: int, given: Input) -> r.Happening:
    machine = machine_of(given)
    text = describe(given)[:TEXT_MAX]
    return r.Happening(
        r.Place(vns, -1 if machine is None else machine, instret if machine is not None else 0), "input", text, False
    )


def _console(multiverse: Multiverse, vm: int) -> tuple[r.ConsoleLine, ...]:
    log, total = multiverse.consoles()[vm], multiverse.console_totals[vm]
    begun = log.lines_begun(total)
    return tuple(
        r.ConsoleLine(
            line + 1, log.line_vns(line), log.line_bytes(line, total).decode(errors="replace").rstrip("\r\n")[:TEXT_MAX]
        )
        for line in range(max(begun - CONSOLE_SHOWN, 0), begun)
    )


__all__ = ["WINDOW_NS", "Bug", "TriageEngine", "bugs", "find_bug", "known_by", "position_of", "severity_of"]
