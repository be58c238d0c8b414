"""Replay: lives through a recording again, from its recipe alone, and compares everything with what was recorded.

Compared are every event, every failure, every machine's end, every packet if they were recorded and are captured, and
at every checkpoint the instruction counts, console totals and digests. The first difference ends the replay and is
named; nothing is ever tried again. The engine is deterministic, so a replay that differs is a bug, or was made by
another engine.

A follower walks one branch: inputs are given at the positions at which they were given, checkpoints are stopped at.
Where else a run is cut has no influence on it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.errors import ChaosControlError
from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.records import Checkpoint
from chaoscontrol.timetravel import CancelledError, GivenInput, Multiverse, Observer, Position, format_seconds
from chaoscontrol.timetravel.verify import difference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.network import CapturedFrame
    from chaoscontrol.recording.reader import RecordedBranch, Recording
    from chaoscontrol.timetravel import Ending, Failure
    from chaoscontrol.timetravel.verify import MachineDifference

    Progress = Callable[[str, int, int], None]
    """Called with a branch, where its replay is, and where it ends, virtual nanoseconds."""
    OnFrames = Callable[[Sequence[CapturedFrame]], object]


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that was not as recorded."""

    branch: str
    vns: int
    """Where it was noticed: the difference came about by then, and after `after_vns`."""
    after_vns: int
    """The last position of the branch at which everything was as recorded."""
    tick: int
    machine: int | None
    """None: the cluster as a whole."""
    part: str
    """What differs: instructions, registers, devices, memory or a page, console, network, packets, events, failures,
    endings, inputs."""
    what: str
    event: int
    """Events of the branch's line that had happened as recorded: the number of the first that may not have."""
    registers: tuple[str, ...] = ()
    """Those that differ, by name."""
    pages: tuple[str, ...] = ()
    """Those that differ and could be named."""

    def __str__(self) -> str:
        who = "the cluster" if self.machine is None else f"vm{self.machine}"
        since = f", after {format_seconds(self.after_vns)} s and event {self.event}"
        where = f"{self.branch}@{format_seconds(self.vns)} (tick {self.tick}{since})"
        return f"{where}: {who} differs in {self.part}: {self.what}"


class DifferenceError(RecordingError):
    """A replay is not what was recorded."""

    def __init__(self, difference: Difference, path: str) -> None:
        super().__init__(str(difference), path=path)
        self.difference = difference


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """How much was compared, and found equal."""

    branches: int = 0
    checkpoints: int = 0
    events: int = 0
    inputs: int = 0
    vns: int = 0
    """Virtual nanoseconds lived through again."""
    digest: str = ""
    """Digests of the last checkpoint, one machine after the other: what to compare two replays by."""

    def plus(self, other: Compared) -> Compared:
        """Both together."""
        return Compared(
            self.branches + other.branches,
            self.checkpoints + other.checkpoints,
            self.events + other.events,
            self.inputs + other.inputs,
            self.vns + other.vns,
            other.digest or self.digest,
        )


class Replay:
    """Replays of one recording on one cluster, which stands at virtual time 0.

    The cluster's branches get the recorded names. `on_frames`: is told of all that the witness captures of the network.
    """

    def __init__(
        self,
        recording: Recording,
        multiverse: Multiverse,
        *,
        progress: Progress | None = None,
        on_frames: OnFrames | None = None,
    ) -> None:
        self._recording = recording
        self._multiverse = multiverse
        self._progress = progress
        self._on_frames = on_frames
        config = recording.header.config
        if len(multiverse.machines) != config.num_vms:
            raise RecordingError(
                f"it is of {config.num_vms} machines, the cluster has {len(multiverse.machines)}", path=recording.path
            )
        self._quantum_ns = config.quantum_ns
        first = recording.branches[0].name if recording.branches else multiverse.branch.name
        if not multiverse.knows_branch(first):
            multiverse.rename_branch(multiverse.branch.name, first)

    def all(self) -> Compared:
        """Every branch that was not deleted, to its end. Raises DifferenceError."""
        done = Compared()
        for branch in self._recording.kept:
            done = done.plus(self.branch(branch, branch.start, branch.end))
        return done

    def branch(self, branch: RecordedBranch, start: Position, end: Position, name: str | None = None) -> Compared:
        """A branch from `start` to `end`, as a new branch called `name`. Its parents were replayed before."""
        multiverse = self._multiverse
        if branch.parent is not None or name is not None:
            parent = branch if branch.parent is None or start > branch.start else self._above(branch)
            multiverse.goto_time(start.vns, branch=parent.name, ordinal=start.ordinal)
            multiverse.fork(name or branch.name)
        return self._follow(branch, start, end)

    def along(self, branch: RecordedBranch, start: Position, end: Position, name: str) -> Compared:
        """The line of `branch` from `start` to `end`, as a new branch called `name`. What leads to `start` was replayed
        before. Raises DifferenceError."""
        assert start <= end
        owner, done = self._recording.owner(branch, end), None
        for record, last in self._recording.line(owner, end):
            if done is not None:
                done = done.plus(self._follow(record, record.start, last))
            elif start < last or record is owner:
                done = self.branch(record, start, last, name)
        assert done is not None, "the last of its line was there"
        return done

    def _follow(self, branch: RecordedBranch, start: Position, end: Position) -> Compared:
        """From `start` of a branch, where the cluster is, to `end`."""
        multiverse = self._multiverse
        follower = _Follower(self._recording, multiverse, branch, self._quantum_ns, self._progress, self._on_frames)
        return follower.run(start, end)

    def _above(self, branch: RecordedBranch) -> RecordedBranch:
        """The branch that the start of this one belongs to."""
        assert branch.parent is not None
        return self._recording.branches[branch.parent]

    def to(self, branch: RecordedBranch, position: Position) -> Compared:
        """To a position of `branch` itself, along its line, comparing all the way. Raises DifferenceError."""
        done = Compared()
        for record, last in self._recording.line(branch, position):
            done = done.plus(self.branch(record, record.start, last))
        return done


class _Follower(Observer):
    """Walks one recorded branch on the multiverse's present branch, and compares as it goes."""

    def __init__(
        self,
        recording: Recording,
        multiverse: Multiverse,
        branch: RecordedBranch,
        quantum_ns: int,
        progress: Progress | None,
        on_frames: OnFrames | None,
    ) -> None:
        self._recording = recording
        self._multiverse = multiverse
        self._branch = branch
        self._quantum_ns = quantum_ns
        self._progress = progress
        self._on_frames = on_frames
        self._here = multiverse.branch.name
        self._events = _Expected(recording, branch, multiverse.events_total)
        self._ending = self._failure = 0
        self._maybe_past: list[Ending] = []
        self._good_vns = 0
        self._compared = 0
        self._difference: Difference | None = None

    def run(self, start: Position, end: Position) -> Compared:
        """From `start`, where the cluster is, to `end`."""
        multiverse, branch = self._multiverse, self._branch
        assert multiverse.position == start and multiverse.at_end, "it follows what nobody has seen yet"
        self._good_vns = start.vns
        self._frames = _ExpectedFrames(self._recording, branch, start)
        # Of the start's own instant some may be to come: its inputs can end machines.
        past = [ending for ending in branch.endings if ending.vns <= start.vns and start != branch.start]
        self._ending, self._maybe_past = len(past), [ending for ending in past if ending.vns == start.vns]
        self._failure = sum(judged <= start for judged in branch.judged)
        inputs = [given for given in branch.inputs if start <= given.at and given.after <= end]
        checkpoints = [c for c in self._recording.checkpoints(branch) if start <= c.position <= end]
        if self._progress is not None:
            multiverse.watch(self._watch(end, self._progress))
        multiverse.observe(self, told=True)
        last = ""
        try:
            stops: list[tuple[Position, int, GivenInput | Checkpoint]] = [(c.position, 0, c) for c in checkpoints]
            stops += [(given.at, 1, given) for given in inputs]
            for position, _, stop in sorted(stops, key=lambda s: s[:2]):
                self._go(position)
                if isinstance(stop, Checkpoint):
                    self._check(stop)
                    last = ",".join(part.whole for part in stop.parts)
                else:
                    self._give(stop)
            self._go(end)
            self._check_pending(end)
        finally:
            multiverse.observe(Observer(), told=True)
            multiverse.watch(lambda: None)
        return Compared(1, len(checkpoints), self._compared, len(inputs), end.vns - start.vns, last)

    def _watch(self, end: Position, progress: Progress) -> Callable[[], None]:
        return lambda: progress(self._branch.name, self._multiverse.position.vns, end.vns)

    # ---- moving -----------------------------------------------------------------------------------------------------

    def _go(self, position: Position) -> None:
        multiverse = self._multiverse
        if multiverse.position.vns < position.vns:
            try:
                multiverse.run_to(position.vns)
            except CancelledError:
                self._raise()
                raise
            self._raise()
        if multiverse.position != position:
            here = multiverse.position
            if here.vns == position.vns and here.ordinal < position.ordinal:
                what = f"only {here.ordinal} of {position.ordinal} inputs of this instant are known"
            else:
                what = f"it is at {format_seconds(here.vns)} s and cannot stop at {format_seconds(position.vns)} s"
            self._differs(None, "inputs", what)
            self._raise()

    def _give(self, recorded: GivenInput) -> None:
        head = self._multiverse.head()
        assert head is not None, "a follower is at the end of its branch"
        try:
            given = head.give(recorded.input)
        except ChaosControlError as e:
            raise RecordingError(f"an input cannot be given again: {e}", path=self._recording.path) from None
        if given != recorded:
            at = "not at all" if given is None else f"at instruction {given.instret} instead of {recorded.instret}"
            if given is not None and given.input != recorded.input:
                at = "in part"
            machine = getattr(recorded.input, "machine", None)
            self._differs(machine, "inputs", f"it was taken {at}")
        self._raise()

    # ---- comparing --------------------------------------------------------------------------------------------------

    def _differs(
        self,
        machine: int | None,
        part: str,
        what: str,
        vns: int | None = None,
        *,
        event: int | None = None,
        found: MachineDifference | None = None,
    ) -> None:
        """Notes the first difference. It is raised when the cluster has come to rest, for a run cannot be left."""
        if self._difference is None:
            vns = self._multiverse.position.vns if vns is None else vns
            self._difference = Difference(
                branch=self._branch.name,
                vns=vns,
                after_vns=self._good_vns,
                tick=vns // self._quantum_ns,
                machine=machine,
                part=part,
                what=what,
                event=self._multiverse.events_total if event is None else event,
                registers=() if found is None else tuple(name for name, _, _ in found.registers),
                pages=() if found is None else found.pages,
            )

    def _raise(self) -> None:
        if self._difference is not None:
            raise DifferenceError(self._difference, self._recording.path)

    def _stop(self) -> None:
        if self._difference is not None:
            self._multiverse.cancel()

    def _check(self, expected: Checkpoint) -> None:
        multiverse = self._multiverse
        for machine, vm in enumerate(multiverse.machines):
            if vm.instret != expected.instrets[machine]:
                what = f"{vm.instret} retired, {expected.instrets[machine]} recorded"
                self._differs(machine, "instructions", what)
            if vm.console_total != expected.totals[machine]:
                what = f"{vm.console_total} bytes sent, {expected.totals[machine]} recorded"
                self._differs(machine, "console", what)
            found = difference(vm, expected.parts[machine])
            if found is not None:
                self._differs(machine, found.part, found.describe("recorded"), found=found)
        network = str(multiverse.network_digest)
        if expected.network and network != expected.network:
            self._differs(None, "network", f"digest {network[:16]}, {expected.network[:16]} recorded")
        if multiverse.events_total != expected.events:
            self._differs(None, "events", f"{multiverse.events_total} have happened, {expected.events} recorded")
        self._raise()
        self._good_vns = expected.position.vns

    def happened(
        self, branch: str, first: int, until: Position, events: Sequence[Event], failures: Sequence[Failure]
    ) -> None:
        if branch != self._here:
            return
        for number, event in enumerate(events, first):
            self._compare_event(number, event)
        for failure in failures:
            self._compare_failure(failure)
        self._stop()

    def _compare_event(self, number: int, event: Event) -> None:
        try:
            expected = self._events.take(number)
        except RecordingError as error:
            self._differs(None, "events", f"the recorded ones cannot be read: {error}", event.vns)
            return
        if expected is None:
            return
        self._compared += 1
        if event != expected:
            machine = event.vm if event.vm >= 0 else None
            what = f"event {number} is {_described(event)}, recorded is {_described(expected)}"
            self._differs(machine, "events", what, min(event.vns, expected.vns), event=number)

    def _compare_failure(self, failure: Failure) -> None:
        recorded = self._branch.failures
        expected = recorded[self._failure] if self._failure < len(recorded) else None
        self._failure += 1
        if expected is None:
            if failure.at.vns <= self._branch.end.vns and self._recording.end is not None:
                self._differs(None, "failures", f"{failure.name!r} was not broken when recorded", failure.at.vns)
        elif failure != expected:
            what = f"{failure.name!r} at {failure.at} is broken, recorded is {expected.name!r} at {expected.at}"
            self._differs(None, "failures", what, failure.at.vns)

    def switched(self, branch: str, frames: Sequence[CapturedFrame]) -> None:
        if branch != self._here:
            return
        if self._on_frames is not None:
            self._on_frames(frames)
        for frame in frames if self._recording.has_packets else ():
            try:
                expected = self._frames.take(frame)
            except RecordingError as error:
                self._differs(None, "packets", f"the recorded ones cannot be read: {error}", frame.sent_vns)
                break
            if expected is not None and frame != expected:
                self._differs(frame.src, "packets", f"{frame} went, recorded is {expected}", frame.sent_vns)
        self._stop()

    def machine_ended(self, branch: str, ending: Ending) -> None:
        if branch != self._here or ending in self._maybe_past:
            return
        recorded = self._branch.endings
        expected = recorded[self._ending] if self._ending < len(recorded) else None
        self._ending += 1
        if expected is None:
            if self._recording.end is not None:
                self._differs(ending.machine, "endings", f"it ended ({ending.kind})", ending.vns)
        elif ending != expected:
            what = f"{ending.kind} at {ending.vns} ns, recorded is {expected.kind} at {expected.vns} ns"
            self._differs(ending.machine, "endings", what, min(ending.vns, expected.vns))
        self._stop()

    def _check_pending(self, end: Position) -> None:
        """What had happened by the recording's end and was judged nowhere; and that nothing recorded is missing."""
        recorded = self._events.pending(end)
        if recorded is not None:
            now = self._multiverse.witness.pending()
            for number, (event, expected) in enumerate(zip(now, recorded, strict=False)):
                self._compared += 1
                if event != expected:
                    what = f"pending event {number} is {_described(event)}, recorded is {_described(expected)}"
                    self._differs(None, "events", what, min(event.vns, expected.vns))
            if len(now) != len(recorded):
                self._differs(None, "events", f"{len(now)} are pending, {len(recorded)} recorded")
        missing = self._events.next_before(end)
        if missing is not None:
            self._differs(None, "events", f"recorded is {_described(missing)}, which has not happened")
        frame = self._frames.next_before(end)
        if frame is not None and self._multiverse.witness.captures:
            self._differs(frame.src, "packets", f"recorded is {frame}, which did not go", frame.sent_vns)
        if self._failure < len(self._branch.failures) and self._branch.judged[self._failure] <= end:
            name = self._branch.failures[self._failure].name
            self._differs(None, "failures", f"{name!r} was broken when recorded, and is not")
        if self._ending < len(self._branch.endings) and self._branch.endings[self._ending].vns < end.vns:
            ending = self._branch.endings[self._ending]
            self._differs(ending.machine, "endings", f"recorded is that it ended ({ending.kind}); it has not")
        self._raise()


def _described(event: Event) -> str:
    where = f"vm{event.vm} " if event.vm >= 0 else ""
    return f"{event.kind} {event.text[:80]!r} ({where}{format_seconds(event.vns)} s, instruction {event.instret})"


class _Expected:
    """The recorded events of a branch from number `first` on, taken one after the other."""

    def __init__(self, recording: Recording, branch: RecordedBranch, first: int) -> None:
        self._source = _numbered(recording, branch, first)
        self._next: tuple[int, Event, bool, Position] | None = None
        self._done = False

    def _peek(self) -> tuple[int, Event, bool, Position] | None:
        if self._next is None and not self._done:
            self._next = next(self._source, None)
            self._done = self._next is None
        return self._next

    def take(self, number: int) -> Event | None:
        """Event `number`, judged when recorded; None if the file ends before it."""
        found = self._peek()
        if found is None or found[2]:
            return None
        if found[0] != number:
            raise RecordingError(f"event {number} has happened, {found[0]} is the next one recorded")
        self._next = None
        return found[1]

    def next_before(self, end: Position) -> Event | None:
        """The next one that was judged when recorded by `end`, and has not been taken."""
        found = self._peek()
        return found[1] if found is not None and not found[2] and found[3] <= end else None

    def pending(self, end: Position) -> list[Event] | None:
        """Those pending at `end`, if the recording ended there; None if it says nothing of that."""
        found = self._peek()
        if found is None or not found[2] or found[3] != end:
            return None
        events: list[Event] = []
        while (found := self._peek()) is not None and found[2] and found[3] == end:
            events.append(found[1])
            self._next = None
        return events


class _ExpectedFrames:
    """The recorded frames of a branch from `start` on, taken one after the other."""

    def __init__(self, recording: Recording, branch: RecordedBranch, start: Position) -> None:
        self._source = recording.packets_after(branch, start)
        self._next: CapturedFrame | None = None
        self._start_vns = start.vns
        self._met = False

    def _peek(self) -> CapturedFrame | None:
        if self._next is None:
            self._next = next(self._source, None)
        return self._next

    def _may_precede(self, recorded: CapturedFrame) -> bool:
        """Of the start's own instant, some were switched before its inputs, and some by them."""
        return not self._met and recorded.switched_vns == self._start_vns

    def take(self, frame: CapturedFrame) -> CapturedFrame | None:
        """The recorded one that `frame` should be; None if the file ends before it."""
        while (recorded := self._peek()) is not None:
            self._next = None
            if recorded.is_copy(frame) or not self._may_precede(recorded):
                self._met = True
                return recorded
        return None

    def next_before(self, end: Position) -> CapturedFrame | None:
        """The next one that went by `end`, and has not been taken."""
        recorded = self._peek()
        if recorded is None or self._may_precede(recorded):
            return None
        return recorded if recorded.switched_vns < end.vns else None


def _numbered(recording: Recording, branch: RecordedBranch, first: int) -> Iterator[tuple[int, Event, bool, Position]]:
    for batch in recording.batches(branch, first):
        for number, event in enumerate(batch.events, batch.first):
            if number >= first:
                yield number, event, batch.pending, batch.until


__all__ = ["Compared", "Difference", "DifferenceError", "Replay"]
