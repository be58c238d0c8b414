"""Driver: moves a cluster along one line of history, exactly, and notices when it does not follow it.

Owns the cluster's position and everything that happens on the way: inputs applied at their positions, console output
collected, keyframes taken, digests compared. Knows nothing of the tree: it is told which branch to follow.

The way is cut into segments, at the end of which all machines are at one virtual time. Where segments end has no
influence on the guests. No clock is consulted: segments are sized by the work that the last one took.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from chaoscontrol.errors import BudgetError
from chaoscontrol.timetravel.aim import Aim
from chaoscontrol.timetravel.branch import BranchRecord, Ending, GivenInput
from chaoscontrol.timetravel.cluster_api import Cluster, ClusterSnapshot, Machine
from chaoscontrol.timetravel.console_log import ConsoleLog
from chaoscontrol.timetravel.errors import CancelledError, DivergenceError, UnreachableError
from chaoscontrol.timetravel.event_log import EVENTS_MAX
from chaoscontrol.timetravel.inputs import Input, PhaseInput, apply, machine_of
from chaoscontrol.timetravel.keyframes import DENSITY_MIN, Keyframe, thin_line, work_of
from chaoscontrol.timetravel.lookout import Lookout, LostError, Spoken
from chaoscontrol.timetravel.moment import (
    DIGEST_PREFIX_DIGITS,
    MachineMark,
    Moment,
    Position,
    format_seconds,
)
from chaoscontrol.timetravel.observer import Observer
from chaoscontrol.timetravel.said import Sent, dated
from chaoscontrol.timetravel.segments import FoundError, PassedError, TornError
from chaoscontrol.timetravel.verify import compare_with_keyframe, compare_with_moment, parts_of
from chaoscontrol.timetravel.witness import BATCH_NS, Seen, Witness

SPAN_NS_MAX = BATCH_NS
"""Longest segment, virtual nanoseconds: bounds what is lost by cancelling when an idle guest becomes busy."""
SPAN_GROWTH_MAX = 4
LOG_LINES_MAX = 10_000
"""Machine log lines kept per branch: a guest must not fill the host's memory with them."""
SENT_BYTES_WANTED = 64 << 10
"""Console output that a segment aims at, well under the megabyte that the engine keeps (native/console.c)."""
MARKS_MAX = 8192
"""Console lines in one segment, well under what the engine keeps (native/console.c)."""
THIN_EVERY = 16
"""Snapshots taken between two rounds of thinning."""


class Driver:
    """Where the cluster is, and how it gets elsewhere. Used by one thread; only `cancel` may come from another."""

    def __init__(
        self,
        cluster: Cluster,
        root: BranchRecord,
        witness: Witness,
        *,
        keyframe_insns: int,
        density: int,
        budget_bytes: int,
    ) -> None:
        self._cluster = cluster
        self._keyframe_insns = keyframe_insns
        self._density = density
        self._budget_bytes = budget_bytes
        self._cancelled = threading.Event()
        self._quantum_ns = cluster.config.quantum_ns
        self._span_ns = self._quantum_ns
        self._dead: set[int] = set()
        self._untaken = 0
        self._keyframe_work = 0
        self._sent = [Sent() for _ in cluster.vms]
        self.watch: Callable[[], None] = lambda: None
        """Called after every segment."""
        self.observer = Observer()
        """Told of everything that becomes known."""
        self.record = root
        """The branch that is being followed."""
        self.position = Position(0)
        self.witness = witness
        """What has been seen up to here."""
        self.events = 0
        """How many of the line's events had happened by the last multiple of BATCH_NS."""
        self._begin_due_faults()
        self.hold(pinned=True)

    # ---- looking ----------------------------------------------------------------------------------------------------

    @property
    def machines(self) -> Sequence[Machine]:
        return self._cluster.vms

    @property
    def instrets(self) -> tuple[int, ...]:
        """Instructions retired, per machine."""
        return tuple(vm.instret for vm in self.machines)

    @property
    def totals(self) -> tuple[int, ...]:
        """Console bytes sent, per machine."""
        return tuple(vm.console_total for vm in self.machines)

    @property
    def network_digest(self) -> str:
        """Digest of what is not in the machines, hexadecimal."""
        return str(self._cluster.network_digest())

    @property
    def work(self) -> int:
        """What it takes to come here from the beginning, in instructions."""
        return work_of(self.instrets, self.position.vns)

    def marks(self) -> tuple[MachineMark, ...]:
        """What a moment says about the machines as they are."""
        return tuple(MachineMark(vm.instret, str(vm.digest())[:DIGEST_PREFIX_DIGITS]) for vm in self.machines)

    @property
    def all_dead(self) -> bool:
        """Is no machine left to run, and nothing to come that could start one?"""
        return len(self._dead) == len(self.machines) and self._cluster.next_fault_ns() is None

    @property
    def dead(self) -> frozenset[int]:
        """Machines that have ended."""
        return frozenset(self._dead)

    # ---- cancelling -------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Make the movement under way raise CancelledError soon; harmless if there is none."""
        self._cancelled.set()
        self._cluster.cancel()

    def clear_cancel(self) -> None:
        """Forget cancels that came before a movement began."""
        self._cancelled.clear()

    def _check_cancel(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("cancelled", where=f"at {format_seconds(self.position.vns)} s")

    # ---- keyframes --------------------------------------------------------------------------------------------------

    def hold(self, *, pinned: bool = False) -> None:
        """Keep a snapshot of here, if the memory budget allows it."""
        owner = self.record.owner(self.position)
        known = owner.keyframes.at(self.position)
        if known is None or known.snapshot is None:
            snapshot = self._cluster_snapshot()
            if snapshot is None:
                return
            keyframe = self._keyframe(snapshot, pinned)
            owner.keyframes.add(keyframe)
            self._untaken += 1
            if known is None:
                self.observer.keyframe_taken(owner.name, keyframe)
        self._keyframe_work = self.work
        if self._untaken >= THIN_EVERY:
            self.thin()

    def hold_near(self, work_max: int) -> None:
        """Keep a snapshot of here unless the last keyframe is that near: then coming back is cheap as it is."""
        if not 0 <= self.work - self._keyframe_work <= work_max:
            self.hold()

    def remember(self) -> None:
        """Compare with here whenever a replay passes; costs no snapshot."""
        owner = self.record.owner(self.position)
        if owner.keyframes.at(self.position) is None:
            keyframe = self._keyframe(None, False)
            owner.keyframes.add(keyframe)
            self.observer.keyframe_taken(owner.name, keyframe)

    def _keyframe(self, snapshot: ClusterSnapshot | None, pinned: bool) -> Keyframe:
        return Keyframe(
            self.position,
            self.instrets,
            self.totals,
            parts_of(self.machines),
            snapshot,
            self.network_digest,
            self.events,
            None if snapshot is None else self.witness.copy(),
            pinned,
        )

    def thin(self) -> None:
        """Drop snapshots that are crowded, and more of them while memory is short."""
        self._untaken = 0
        indexes = [record.keyframes for record in self.record.line()]
        store = self._cluster.store
        thin_line(indexes, self.work, self._density, lambda: store.bytes_held > self._budget_bytes)

    def _cluster_snapshot(self) -> ClusterSnapshot | None:
        try:
            return self._cluster.snapshot_all()
        except BudgetError:
            for record in self.record.line():
                record.keyframes.thin(self.work, DENSITY_MIN)
        try:
            return self._cluster.snapshot_all()
        except BudgetError:
            if self.position == Position(0):
                raise
            return None

    def restore(self, record: BranchRecord, keyframe: Keyframe) -> None:
        """Be at `keyframe`, about to follow `record`, whose line it is on."""
        assert keyframe.snapshot is not None, "a thinned keyframe cannot be restored"
        self._cluster.restore_all(keyframe.snapshot)
        self.record = record
        self.position = keyframe.position
        self._keyframe_work = keyframe.work
        assert keyframe.witness is not None, "it goes with the snapshot"
        self.witness, self.events = keyframe.witness.copy(), keyframe.events
        self._dead = self._ended()
        self._drain()
        compare_with_keyframe(self._cluster, keyframe, self.record.name)

    def verify(self, keyframe: Keyframe) -> None:
        """Raise DivergenceError unless the cluster is as `keyframe` says."""
        compare_with_keyframe(self._cluster, keyframe, self.record.name)

    def verify_moment(self, moment: Moment) -> None:
        """Raise DivergenceError unless the machines are as `moment` says."""
        compare_with_moment(self.marks(), moment)

    # ---- moving -----------------------------------------------------------------------------------------------------

    def give(self, given: Input) -> GivenInput | None:
        """Apply a new input here; None if the machine took nothing of it. The caller records it."""
        at, instret = self.position, self._instret_of(given)
        taken = self._do(given)
        if taken is None:
            return None
        self.position = Position(at.vns, at.ordinal + 1)
        return GivenInput(at, instret, taken)

    def _apply(self, given: GivenInput) -> None:
        instret = self._instret_of(given.input)
        if self._do(given.input) != given.input or instret != given.instret:
            what = f"took another part of an input, or at instruction {instret} instead of {given.instret}"
            raise DivergenceError(machine_of(given.input), "devices", what, where=format_seconds(given.at.vns))
        self.position = given.after
        self._arrived()

    def _instret_of(self, given: Input) -> int:
        machine = machine_of(given)
        return sum(self.instrets) if machine is None else self.machines[machine].instret

    def _do(self, given: Input) -> Input | None:
        taken, known = apply(given, self._cluster), self.position < self.record.end
        # What an input does at once is seen before anything else happens, and before a snapshot is taken.
        self._begin_due_faults()
        self._dead = self._ended()
        self._tell(known, [])
        if isinstance(given, PhaseInput):
            after = Position(self.position.vns, self.position.ordinal + 1)
            self._take_in(self.witness.enter(given.phase, after.vns), known, after)
        return taken

    def _begin_due_faults(self) -> None:
        """At a position the faults due then have begun: what an input meets does not depend on the way here."""
        self._cluster.begin_due_faults()
        self.witness.read()

    def _ended(self) -> set[int]:
        return {machine for machine in range(len(self.machines)) if self._cluster.has_ended(machine)}

    def advance(self, target: Position, aim: Aim | None = None, lookout: Lookout | None = None) -> bool:
        """Go forward to `target`, or to the first instant at which `aim` is reached or `lookout` sees something.

        Inputs of an instant are applied on arrival, at the target's as far as its ordinal says, and where a lookout
        stopped not yet. Returns whether `aim` was reached, or something seen; if the machine aimed at, or the last one,
        stops for good, it never is, and this returns soon after.
        Raises CancelledError at a valid position, TornError at none.
        """
        self._apply_inputs(target, lookout)
        reached = self._reached(aim)
        while not reached and self.position.vns < target.vns and not self._hopeless(aim):
            self._check_cancel()
            origin = self.position
            try:
                reached = self._run_segment(self._segment_end(target.vns), aim, lookout)
            except LostError:
                span_ns = max(self._span_ns // SPAN_GROWTH_MAX, 1)
                self.come_back(self.record, origin)
                self.hold()
                self._span_ns = span_ns
                continue
            except FoundError as found:
                assert aim is not None, "somebody looked for it"
                self._stop_at_first(found, aim.text, origin)
                reached = True
            except PassedError as passed:
                self._stop_at_sighting(passed, origin)
                reached = True
            self._arrived()
            if lookout is None or not reached:
                self._apply_inputs(target, lookout)
            self.watch()
        return reached

    def come_back(self, record: BranchRecord, position: Position) -> None:
        """Go to a position of `record`'s line that was reached before, whatever state the machines are in."""
        # Who watches may cancel whenever it is called, to get at what waits; coming back would never end.
        watch, self.watch, cancelled = self.watch, lambda: None, self._cancelled.is_set()
        try:
            while True:
                self._cancelled.clear()
                self.record = record
                self.restore(record, self._nearest(position))
                try:
                    self.advance(position)
                    return
                except (TornError, CancelledError):
                    continue
        finally:
            self.watch = watch
            if cancelled:
                self._cancelled.set()

    def _nearest(self, position: Position) -> Keyframe:
        return self.record.nearest(position) or self.record.first()

    def _hopeless(self, aim: Aim | None) -> bool:
        restarts = self._cluster.next_fault_ns() is not None or any(self.record.inputs_from(self.position))
        if aim is None or restarts:
            return False
        return aim.machine in self._dead if aim.machine is not None else self.all_dead

    def _apply_inputs(self, target: Position, lookout: Lookout | None) -> None:
        for given in list(self.record.inputs_from(self.position)):
            if given.at.vns != self.position.vns or given.after > target:
                break
            if lookout is not None:
                lookout.begin()
            self._apply(given)
            if lookout is not None:
                lookout.given()

    def _reached(self, aim: Aim | None) -> bool:
        if aim is None or aim.machine is None:
            return False
        vm = self.machines[aim.machine]
        return (aim.instret is not None and vm.instret >= aim.instret) or (
            aim.console_total is not None and vm.console_total >= aim.console_total
        )

    def _segment_end(self, limit_vns: int) -> int:
        quantum_ns, now = self._quantum_ns, self.position.vns
        # Tick boundaries are where a cluster exchanges what its machines sent: prefer to end there.
        boundary = (now + self._span_ns) // quantum_ns * quantum_ns
        stops = [boundary if boundary > now else now + self._span_ns, limit_vns, (now // BATCH_NS + 1) * BATCH_NS]
        if self.position < self.record.end:
            stops.append(self.record.end.vns)
            stops += [record.keyframes.next_vns(now) or limit_vns for record in self.record.line()]
            stops += [record.passed_vns for record in self.record.line() if record.passed_vns is not None]
            given = next((given for given in self.record.inputs_from(self.position) if given.at.vns > now), None)
            stops += [given.at.vns] if given else []
        return min(stop for stop in stops if stop > now)

    def _run_segment(self, end_vns: int, aim: Aim | None, lookout: Lookout | None) -> bool:
        """Run to `end_vns`, or to where `aim` is reached before; returns whether it is, or a lookout saw something."""
        was = self._measure()
        reached = False
        if lookout is not None:
            lookout.begin()
        if aim is not None and aim.machine is not None:
            end_vns, reached = self._run_aiming(aim, end_vns)
            if end_vns == self.position.vns:
                return reached  # at once, before an instruction that is watched: nothing has happened
        endings = self._run_all(end_vns)
        if aim is not None and aim.machine is None:
            self._look_for(aim.text, end_vns)
        if lookout is not None:
            reached = self._look_out(lookout, end_vns) or reached
        self._commit(end_vns, endings, was)
        return reached

    def _look_out(self, lookout: Lookout, end_vns: int) -> bool:
        """Whether something was seen at the end of this segment; raise PassedError if it was before."""
        lost = self.witness.lost
        self.witness.read()
        if self.witness.lost > lost:
            raise LostError
        spoken: list[Spoken] = []
        for vm, sent, log in zip(self.machines, self._sent, self.record.consoles, strict=True):
            sent.take(vm)
            spoken.append(Spoken(vm.console_total - len(sent.data), bytes(sent.data), log))
        sighting = lookout.look(end_vns, self.witness.pending(), spoken)
        if sighting is None:
            return False
        if sighting.said or sighting.vns is None or sighting.vns < end_vns:
            raise PassedError(sighting, end_vns)
        return True

    def _stop_at_sighting(self, passed: PassedError, origin: Position) -> None:
        """Go to the first instant of those that a lookout saw; `origin` is before them all, or at one."""
        sighting, aim = passed.sighting, None
        end_vns = passed.end_vns if sighting.vns is None else sighting.vns
        tried: set[int] = set()
        while True:
            self.come_back(self.record, origin)
            if end_vns <= origin.vns:
                return
            was, reached_vns = self._measure(), end_vns
            if aim is not None:
                reached_vns, _ = self._run_aiming(aim, end_vns)
            endings = self._run_all(reached_vns)
            # Who has sent it by now was first, or at the same instant.
            totals = self.totals
            earlier = [
                at for at, said in enumerate(sighting.said) if at not in tried and totals[said.machine] >= said.total
            ]
            if not earlier:
                self._commit(reached_vns, endings, was)
                return
            tried.add(earlier[0])
            said = sighting.said[earlier[0]]
            aim, end_vns = Aim(said.machine, said.total, said.last), reached_vns

    def _measure(self) -> tuple[int, int, int]:
        return self.work, sum(self.totals), self.position.vns

    def _commit(self, end_vns: int, endings: list[Ending], was: tuple[int, int, int]) -> None:
        """All machines are at `end_vns`: take in what happened since, and be there."""
        known = self.position < self.record.end
        foretold = self._foretold_until(end_vns)
        if not self._collect(known, foretold):
            raise LostError
        if foretold is not None:
            foretold.passed_vns = end_vns if end_vns < foretold.end.vns else None
        self.position = Position(end_vns)
        if end_vns % BATCH_NS == 0:
            self._take_in(self.witness.settle(end_vns), known, self.position, foretold)
        self._begin_due_faults()
        self._dead = self._ended()
        if not known:
            self.record.end = self.position
        self._tell(known, endings)
        work, sent, begin_vns = was
        self._resize_span(self.work - work, sum(self.totals) - sent, end_vns - begin_vns)

    def _tell(self, known: bool, seen: list[Ending]) -> None:
        """What went over the network, and which machines ended: `seen`, where the witness is not told of that."""
        frames, ends = self.witness.take_frames(), self.witness.take_ends()
        if known:
            return
        if frames:
            self.observer.switched(self.record.name, frames)
        endings = seen if ends is None else [Ending.of(e.machine, e.vns, e.kind.name, e.detail) for e in ends]
        self.record.endings += endings
        for ending in endings:
            self.observer.machine_ended(self.record.name, ending)

    def _foretold_until(self, end_vns: int) -> BranchRecord | None:
        """The foretold branch that a segment up to `end_vns` belongs to, if the cursor has not been there yet."""
        owner = self.record.owner(Position(end_vns))
        return owner if owner.passed_vns is not None and owner.passed_vns < end_vns <= owner.end.vns else None

    def _run_aiming(self, aim: Aim, end_vns: int) -> tuple[int, bool]:
        """Run to where the machine of `aim` reaches it, at most to `end_vns`; returns where it is, and if it did."""
        assert aim.machine is not None, "whose aim is it?"
        vm = self.machines[aim.machine]
        if aim.instret is not None:
            self._run_until(aim.machine, end_vns, instret=aim.instret)
            reached = vm.instret >= aim.instret
        elif aim.watch:
            reached = self._run_until(aim.machine, end_vns, watch=True)
        elif aim.console_total is not None:
            last = aim.text[-1:] or self.record.consoles[aim.machine].read(aim.console_total - 1, aim.console_total)
            reached = self._run_to_total(aim.machine, aim.console_total, last, end_vns)
        else:
            reached = self._run_to_text(aim.machine, aim.text, end_vns)
        if not reached or self._cluster.has_ended(aim.machine):
            return end_vns, reached
        # With several nanoseconds per instruction, its boundary may lie past the end that it was run to.
        return min(end_vns, vm.vns), True

    def _run_to_total(self, machine: int, total: int, last: bytes, end_vns: int) -> bool:
        vm = self.machines[machine]
        while vm.console_total < total and self._run_until(machine, end_vns, console=last):
            pass
        return vm.console_total >= total

    def _run_to_text(self, machine: int, text: bytes, end_vns: int) -> bool:
        vm, sent = self.machines[machine], self._sent[machine]
        # One byte at a time: a pattern that began in the segment before would not be seen whole in this one.
        before = self.record.consoles[machine].read(max(vm.console_total - len(text), 0), vm.console_total)
        while self._run_until(machine, end_vns, console=text[-1:]):
            sent.take(vm)
            if (before + sent.data).endswith(text):
                return True
        return False

    def _run_until(self, machine: int, end_vns: int, **aim: Any) -> bool:
        """Run all until one machine gets there; True if it stopped for its console, or what it watches."""
        while True:
            stop = self._cluster.run_until(end_vns, machine=machine, **aim)
            if stop.kind.name != "CANCELLED":
                return stop.kind.name in ("CONSOLE", "WATCH")
            # A cancel that came while nothing ran is still pending in the machine, and means nothing now.
            if self._cancelled.is_set():
                raise TornError(self.position.vns)

    def _look_for(self, text: bytes, end_vns: int) -> None:
        """Raise FoundError if some machine has sent `text` in this segment."""
        totals: dict[int, int] = {}
        for machine, (vm, sent) in enumerate(zip(self.machines, self._sent, strict=True)):
            sent.take(vm)
            start = vm.console_total - len(sent.data)
            before = self.record.consoles[machine].read(max(start - len(text) + 1, 0), start)
            at = (before + sent.data).find(text)
            if at >= 0:
                totals[machine] = start - len(before) + at + len(text)
        if totals:
            raise FoundError(totals, end_vns)

    def _stop_at_first(self, found: FoundError, text: bytes, origin: Position) -> None:
        """Go to the first instant at which one of some machines has sent the byte named; `origin` is before that."""
        machine, tried = min(found.totals), set[int]()
        while True:
            self.come_back(self.record, origin)
            was = self._measure()
            end_vns, reached = self._run_aiming(Aim(machine, found.totals[machine], text), found.end_vns)
            assert reached, "it was sent before"
            tried.add(machine)
            # Who has sent it by now was first, or at the same instant.
            earlier = [m for m, total in found.totals.items() if m not in tried and self.totals[m] >= total]
            if not earlier:
                self._commit(end_vns, self._run_all(end_vns), was)
                return
            machine = earlier[0]

    def _run_all(self, end_vns: int) -> list[Ending]:
        """Bring every machine to `end_vns`; those that end before are returned."""
        while True:
            done = self._cluster.run_to_vns(end_vns)
            dead = self._ended()
            behind = [at for at, vm in enumerate(self.machines) if vm.vns < end_vns and at not in dead]
            if not behind and not done:
                continue  # cancelled when all were there but the cluster's own time was not
            if not behind:
                endings = [self._ending(machine) for machine in sorted(dead - self._dead)]
                self._dead = dead
                return endings
            if self._cancelled.is_set():
                raise TornError(max(self.position.vns, min(self.machines[at].vns for at in behind)))

    def _ending(self, machine: int) -> Ending:
        # A machine that ended stops again at once, and says why.
        stop = self.machines[machine].run(vns=self.machines[machine].vns + 1)
        return Ending.of(machine, self.machines[machine].vns, stop.kind.name, stop.detail)

    def _resize_span(self, work: int, sent: int, span_ns: int) -> None:
        share = max(work / self._keyframe_insns, sent / SENT_BYTES_WANTED, 1 / SPAN_NS_MAX)
        self._span_ns = max(min(int(span_ns / share), self._span_ns * SPAN_GROWTH_MAX, SPAN_NS_MAX), 1)

    def _arrived(self) -> None:
        """Compare with what is known of this position; keep a snapshot if the last one is far."""
        keyframe = self.record.owner(self.position).keyframes.at(self.position)
        if keyframe is not None:
            compare_with_keyframe(self._cluster, keyframe, self.record.name)
            if keyframe.snapshot is not None:
                self._keyframe_work = keyframe.work
                return
        if self.work - self._keyframe_work >= self._keyframe_insns:
            self.hold()

    # ---- what the machines say ------------------------------------------------------------------------------------

    def _drain(self) -> None:
        for vm, sent in zip(self.machines, self._sent, strict=True):
            sent.take(vm)
            sent.clear()
            vm.take_log()
        self.witness.discard()

    def _collect(self, known: bool, foretold: BranchRecord | None) -> bool:
        """Take in what was sent; False, and nothing taken, if some of it was lost."""
        new, record = not known or foretold is not None, foretold or self.record
        for vm, sent, log in zip(self.machines, self._sent, record.consoles, strict=True):
            sent.take(vm)
            if vm.console_total - len(sent.data) > log.total or len(sent.marks) > MARKS_MAX:
                return False
        lost = self.witness.lost
        self.witness.read()
        if self.witness.lost > lost:
            return False
        for machine, (vm, sent) in enumerate(zip(self.machines, self._sent, strict=True)):
            lines, log = vm.take_log(), record.consoles[machine]
            start = vm.console_total - len(sent.data)
            if not new or start < log.total:
                self._compare_console(machine, log, start, bytes(sent.data))
            else:
                log.append(sent.data, sent.marks)
            if sent.data:
                self.witness.console(machine, start, bytes(sent.data), sent.marks)
            sent.clear()
            if new:
                room = max(LOG_LINES_MAX - len(record.log), 0)
                record.log += [dated(vm.vns, machine, line) for line in lines[:room]]
        return True

    def _take_in(self, seen: Seen, known: bool, until: Position, foretold: BranchRecord | None = None) -> None:
        """What happened, in order, as known from `until` on: keep it, or compare it with what is known of it."""
        events, failures = seen
        log, start = self.record.events, self.events
        self.events += len(events)
        if not known:
            log.append(events)
            self.record.failures += failures
            self.observer.happened(self.record.name, start, until, events, failures)
            return
        before = log.read(start, self.events)
        if foretold is not None and len(before) < len(events) and events[: len(before)] == before:
            # Who foretold it was cut off before it could tell all.
            foretold.events.append(events[len(before) :])
            foretold.failures += [failure for failure in failures if failure not in foretold.failures]
            return
        if events[: EVENTS_MAX - start] != before:
            at = next((at for at, (a, b) in enumerate(zip(events, before, strict=False)) if a != b), len(before))
            what = (
                f"event {start + at} is {events[at].text!r}" if at < len(events) else f"event {start + at} is missing"
            )
            raise DivergenceError(None, "events", what, where=f"{self.record.name}@{format_seconds(self.position.vns)}")

    def _compare_console(self, machine: int, log: ConsoleLog, start: int, data: bytes) -> None:
        before = log.read(start, start + len(data))
        if data == before:
            return
        at = next((at for at, (a, b) in enumerate(zip(data, before, strict=False)) if a != b), len(before))
        where = f"{self.record.name}@{format_seconds(self.position.vns)}"
        raise DivergenceError(machine, "console", f"byte {start + at} differs", where=where)

    def unreachable(self, machine: int) -> UnreachableError:
        """Why `machine` did not reach what was asked of it."""
        endings = [ending for ending in self.record.endings_to(self.position) if ending.machine == machine]
        if endings:
            ending = endings[0]
            what = f"machine {machine} stopped ({ending.kind}) at {format_seconds(ending.vns)} s"
            return UnreachableError(what, hint="nothing of it runs after that; go back in time")
        return UnreachableError(
            f"machine {machine} did not get there by {format_seconds(self.position.vns)} s",
            hint="if it is halted, let time pass with `run`, or type at its console",
        )
