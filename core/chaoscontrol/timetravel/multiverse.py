"""Multiverse: the tree of branches of one cluster, and the cursor in it.

Owns the branches and their names; the way from one position to another is the driver's. Everything that is asked of
it leaves the cursor at a valid position, also when it fails or is cancelled. Used by one thread at a time, except for
`cancel` and for reading console logs.
"""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

from chaoscontrol.errors import ChaosControlError
from chaoscontrol.events import Event
from chaoscontrol.timetravel.aim import Aim
from chaoscontrol.timetravel.branch import Branch, BranchRecord, Ending, GivenInput, typed_lines
from chaoscontrol.timetravel.cluster_api import Cluster, Machine
from chaoscontrol.timetravel.console_log import ConsoleLog
from chaoscontrol.timetravel.driver import Driver
from chaoscontrol.timetravel.errors import (
    BranchError,
    CancelledError,
    DivergenceError,
    MomentError,
    UnreachableError,
)
from chaoscontrol.timetravel.event_log import EventLog
from chaoscontrol.timetravel.foretold import ForetoldBranch, take_over
from chaoscontrol.timetravel.head import BranchHead
from chaoscontrol.timetravel.keyframes import Keyframe
from chaoscontrol.timetravel.lookout import Collector, Lookout
from chaoscontrol.timetravel.moment import Moment, Position, format_seconds
from chaoscontrol.timetravel.observer import Observer, tell_all
from chaoscontrol.timetravel.segments import TornError
from chaoscontrol.timetravel.told import Told
from chaoscontrol.timetravel.tree import Deleted, Mark, Tree
from chaoscontrol.timetravel.witness import Failure, Witness

ROOT_NAME = "main"
THROWAWAY_NAME = "throwaway"
"""What messages call a branch that is in no tree."""

KEYFRAME_INSNS = 2_000_000
"""Work between keyframes at their densest, instructions of all machines together: what a rewind has to repeat."""
DENSITY = 32
"""Snapshots kept per distance: at distance d from the cursor they are at most d / 32 apart."""
BUDGET_BYTES = 2 << 30
"""Memory for snapshots, beyond which they are thinned harder."""
EVENT_SPAN_NS = 1_000_000_000
"""How often a search for the next event looks for machines that stopped, virtual nanoseconds."""
END_OF_TIME_NS = 1 << 62
"""The engine's own limit (native/run.c), 146 years."""
ALL_INPUTS = 1 << 62
"""As the ordinal of a target: after all inputs of that instant."""
NEAR_INSNS = 50_000
"""How far before an instruction that was stepped back to a snapshot is kept."""
BEGINNING = Position(0)
IDLE_NS_MAX = 60_000_000_000
"""How long an instruction step lets an idle machine wait for its next instruction, virtual nanoseconds."""


class Multiverse:
    """All histories of `cluster`, which stands at virtual time 0, loaded and never run.

    `witness` sees what happens in it; without one there are no events and no properties.
    """

    def __init__(
        self,
        cluster: Cluster,
        witness: Witness | None = None,
        *,
        keyframe_insns: int = KEYFRAME_INSNS,
        density: int = DENSITY,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        consoles = [ConsoleLog() for _ in cluster.vms]
        root = BranchRecord(ROOT_NAME, None, None, Position(0), Position(0), consoles)
        self._tree = Tree(root)
        self._quantum_ns = cluster.config.quantum_ns
        self._store = cluster.store
        self._driver = Driver(
            cluster,
            root,
            witness or Witness(),
            keyframe_insns=keyframe_insns,
            density=density,
            budget_bytes=budget_bytes,
        )

        self._origins: list[BranchRecord] = []
        """Of the excursions that it is on: where it comes back to."""
        self.target_vns: int | None = None
        """Where the movement under way goes, if that is known beforehand; a watcher may say how far it got."""

    # ---- the cursor -------------------------------------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """Where the cursor is on `branch`."""
        return self._driver.position

    @property
    def branch(self) -> Branch:
        """The branch that the cursor follows; before its start, the cursor is in its inherited past."""
        return self._driver.record.picture()

    @property
    def at_end(self) -> bool:
        """Is the future of the cursor unwritten?"""
        return self._driver.position == self._driver.record.end

    @property
    def all_stopped(self) -> bool:
        """Is no machine left to run?"""
        return self._driver.all_dead

    @property
    def tick(self) -> int:
        """Whole ticks since boot."""
        return self.position.vns // self._quantum_ns

    @property
    def quantum_ns(self) -> int:
        """Length of a tick."""
        return self._quantum_ns

    def inputs_at(self, vns: int) -> int:
        """How many inputs the cursor's line of history has at exactly `vns`."""
        return self._driver.record.inputs_at(vns)

    @property
    def instrets(self) -> tuple[int, ...]:
        """Instructions retired, per machine."""
        return self._driver.instrets

    @property
    def console_totals(self) -> tuple[int, ...]:
        """Console bytes sent, per machine."""
        return self._driver.totals

    @property
    def machines(self) -> Sequence[Machine]:
        """For looking at; only this object may run them or write to them."""
        return self._driver.machines

    @property
    def network_digest(self) -> str:
        """Digest of what is not in the machines, hexadecimal."""
        return self._driver.network_digest

    def moment(self, *, remember: bool = False) -> Moment:
        """The cursor as a value. `remember`: name the part that differs should a replay ever not come back to it."""
        if remember:
            self._driver.remember()
        return Moment(self._driver.record.name, self.position, self._driver.marks())

    # ---- the tree ---------------------------------------------------------------------------------------------------

    def branches(self) -> tuple[Branch, ...]:
        """All branches in the order in which they were made."""
        return tuple(record.picture() for record in self._tree)

    def line(self) -> dict[str, Position]:
        """The branches of the cursor's line of history, the first one first, each with its last position on it."""
        return {record.name: last for record, last in self._driver.record.spans()}

    def find_branch(self, name: str) -> Branch:
        """The branch that is or was called `name`; raises BranchError."""
        return self._record(name).picture()

    def knows_branch(self, name: str) -> bool:
        """Is or was there a branch called `name`?"""
        return self._tree.knows(name)

    def _record(self, name: str) -> BranchRecord:
        return self._tree.find(name)

    def consoles(self, branch: str | None = None) -> tuple[ConsoleLog, ...]:
        """Console logs of a branch (the cursor's), per machine; safe to read from other threads."""
        record = self._driver.record if branch is None else self._record(branch)
        return tuple(record.consoles)

    def machine_log(self) -> list[tuple[int, int, str]]:
        """(virtual time, machine, line) of what the machines logged up to the cursor on its line of history."""
        lines: list[tuple[int, int, str]] = []
        for record, last in self._driver.record.spans():
            lines += [entry for entry in record.log if entry[0] <= min(last.vns, self.position.vns)]
        return lines

    def inputs(self, branch: str | None = None) -> list[GivenInput]:
        """All inputs of a branch's (the cursor's) line of history, in order, those after the cursor included."""
        record = self._driver.record if branch is None else self._record(branch)
        return list(record.inputs_from(Position(0)))

    def inputs_so_far(self) -> list[GivenInput]:
        """Those of the cursor's line that were given by the cursor."""
        return [given for given in self.inputs() if given.after <= self.position]

    def endings(self) -> list[Ending]:
        """Machines that stop for good on the cursor's line of history, those after the cursor included."""
        return self._driver.record.endings_to(self._driver.record.end)

    def failures(self, branch: str | None = None) -> list[Failure]:
        """Properties broken on a branch's (the cursor's) line of history, those after the cursor included."""
        record = self._driver.record if branch is None else self._record(branch)
        return record.failures_to(record.end)

    @property
    def stopped(self) -> frozenset[int]:
        """Machines that have ended by the cursor."""
        return self._driver.dead

    @property
    def witness(self) -> Witness:
        """What has been seen by the cursor; for looking at."""
        return self._driver.witness

    @property
    def events_total(self) -> int:
        """How many events of the branch's log had happened by the cursor, besides the witness's pending ones."""
        return self._driver.events

    def events(self) -> EventLog:
        """Of the cursor's branch; safe to read from other threads."""
        return self._driver.record.events

    def events_so_far(self) -> list[Event]:
        """Those of the cursor's line that had happened by the cursor."""
        return [*self.events().read(0, self.events_total), *self.witness.pending()]

    def told(self, branch: str | None = None) -> Told:
        """All that is known of a branch's (the cursor's) line of history, what comes after the cursor included.

        What has not been judged yet is known at its end: unless it was foretold, the cursor goes there and comes back.
        """
        record = self._driver.record if branch is None else self._record(branch)
        end, unjudged = record.unjudged or (None, ())
        if record is self._driver.record and self.at_end:
            unjudged = self.witness.pending()
        elif end != record.end:
            with self.excursion():
                self.goto_end(record.name)
                unjudged = self.witness.pending()
        events = [*record.events.read(0, record.events.total), *unjudged]
        return Told(record.name, record.end, events, list(record.inputs_from(BEGINNING)))

    def compare(self, a: Moment, b: Moment) -> int:
        """-1, 0 or 1 as `a` is before, at or after `b`; raises MomentError if neither is in the other's history."""
        first, second = self._record(a.branch), self._record(b.branch)
        if second.holds(first.owner(a.position), a.position) or first.holds(second.owner(b.position), b.position):
            return (a.position > b.position) - (a.position < b.position)
        raise MomentError(f"{a.brief} and {b.brief} have parted", hint="neither is in the other's history")

    def fork_of(self, a: str, b: str) -> tuple[str, Position]:
        """Up to where two branches are one history: the branch that the position belongs to, and it."""
        return self._record(a).fork_from(self._record(b))

    def head(self) -> BranchHead | None:
        """The right to give inputs here, or None where the future is written already."""
        return BranchHead(self, self._driver.record, self._driver) if self.at_end else None

    def fork(self, name: str | None = None) -> BranchHead:
        """A new branch from the cursor, followed from now on; it owns its future. Raises BranchError for the name."""
        name = self._tree.free_name() if name is None else name
        self._tree.refuse_taken(name)
        driver = self._driver
        record = self._child(name)
        self._tree.add(record)
        driver.record = record
        assert record.parent is not None, "it has just been given one"
        driver.observer.branch_made(name, record.parent.name, driver.position)
        return BranchHead(self, record, driver)

    def _child(self, name: str) -> BranchRecord:
        """A branch from the cursor, not followed yet."""
        driver = self._driver
        parent = driver.record.owner(driver.position)
        moment = Moment(parent.name, driver.position, driver.marks())
        driver.hold()
        consoles = [ConsoleLog(log, total) for log, total in zip(parent.consoles, driver.totals, strict=True)]
        events = EventLog(parent.events, driver.events)
        return BranchRecord(name, parent, moment, driver.position, driver.position, consoles, events)

    def delete_branch(self, name: str, *, recursive: bool = False) -> Deleted:
        """Forget a branch and free its snapshots; `recursive`: and those that fork from it. What is gone is returned.

        Its marks go with it, and its name is not given again. Raises BranchError for the first branch, for one that
        the cursor is on, and for one from which others fork.
        """
        driver = self._driver
        doomed = self._tree.doomed(self._record(name), [driver.record, *self._origins], recursive=recursive)
        deleted = self._tree.delete(doomed)
        for gone in deleted.branches[::-1]:
            driver.observer.branch_deleted(gone)
        return deleted

    def rename_branch(self, name: str, new: str) -> None:
        """Call a branch otherwise; moments that say `name` still mean it. Raises BranchError."""
        record = self._record(name)
        before = record.name
        self._tree.rename(record, new)
        self._driver.observer.branch_renamed(before, new)

    def mark(self, name: str) -> Moment:
        """Give the cursor a name, which no branch has or had; another mark of that name is gone. Raises BranchError."""
        self._tree.refuse_mark(name)
        if self.in_throwaway:
            raise BranchError("a throwaway branch takes no marks", hint="fork, and mark a moment of that branch")
        moment = self.moment(remember=True)
        self._tree.marks[name] = Mark(moment)
        self._driver.observer.marked(name, moment)
        return moment

    @property
    def marks(self) -> dict[str, Mark]:
        """By name, in the order in which they were set first."""
        return dict(self._tree.marks)

    def annotate(self, name: str, text: str) -> None:
        """Put a line of text on a branch or mark, in place of the one before; empty: none. Raises BranchError."""
        record, mark, note = self._tree.annotate(name, text)
        self._driver.observer.annotated(record.name, mark, note)

    @property
    def snapshot_bytes(self) -> int:
        """Memory that all snapshots take together."""
        return self._store.bytes_held

    @contextmanager
    def excursion(self) -> Generator[None]:
        """Afterwards the cursor is where it is now, whatever happens meanwhile; coming back cannot be cancelled.

        Its digests are compared with those of before. A cancel ends all movements on the way, not just one.
        """
        driver = self._driver
        record, origin = driver.record, driver.position
        driver.hold()
        if not self._origins:
            driver.clear_cancel()
        self._origins.append(record)
        try:
            yield
        finally:
            self._origins.pop()
            driver.come_back(record, origin)

    @contextmanager
    def throwaway(self) -> Generator[BranchHead]:
        """A branch from the cursor that owns its future, and that nobody hears of; afterwards all is as it was."""
        driver, observer = self._driver, self._driver.observer
        branch = self._child(THROWAWAY_NAME)
        try:
            with self.excursion():
                driver.record, driver.observer = branch, Observer()
                yield BranchHead(self, branch, driver)
        finally:
            driver.observer = observer
            branch.keyframes.clear()

    @property
    def in_throwaway(self) -> bool:
        """Is the cursor on a branch that is in no tree, for a while?"""
        return not any(record is self._driver.record for record in self._tree)

    def foretell(
        self, branches: Sequence[ForetoldBranch], marks: Mapping[str, Mark] | None = None, deleted: Iterable[str] = ()
    ) -> None:
        """Take over a history that was lived through elsewhere, the first branch first, while nothing is known yet.

        deleted: names of branches that were deleted there. Raises DivergenceError if it did not begin as this cluster
        does, BranchError if its tree cannot be.
        """
        take_over(self._tree, self._driver, branches)
        self._tree.take_said(marks or {}, deleted)

    # ---- moving -----------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """From any thread: the movement under way raises CancelledError soon, with the cursor at a valid position."""
        self._driver.cancel()

    def watch(self, callback: Callable[[], None]) -> None:
        """Call `callback` now and then while moving, from the moving thread; `position` says how far it got."""
        self._driver.watch = callback

    def observe(self, observer: Observer, *, told: bool = False) -> None:
        """Tell `observer` what becomes known; it replaces the one before. `told`: it needs not hear what is known."""
        if not told:
            tell_all(self._tree, observer)
        self._driver.observer = observer

    def run_to(self, vns: int) -> None:
        """Go forward to virtual time `vns`, nanoseconds, after the inputs of that instant."""
        self._move(lambda: self._driver.advance(Position(vns, ALL_INPUTS)), target_vns=vns)

    def goto(self, moment: Moment) -> None:
        """Go to a moment and verify it. Raises DivergenceError if the cluster is not as the moment says."""
        record = self._record(moment.branch)
        if len(moment.machines) != len(self.machines):
            raise MomentError(
                f"{moment.brief} is of a cluster of {len(moment.machines)}", hint=f"this one has {len(self.machines)}"
            )
        if moment.position.ordinal > record.inputs_at(moment.position.vns):
            raise MomentError(f"{moment.brief} comes after inputs that were never given here")
        self._travel(record, moment.position)
        self._driver.verify_moment(moment)

    def goto_time(self, vns: int, *, branch: str | None = None, ordinal: int | None = None) -> None:
        """Go to virtual time `vns` of a branch (the cursor's), after `ordinal` of the inputs of that instant (all)."""
        record = self._driver.record if branch is None else self._record(branch)
        self._travel(record, Position(vns, record.inputs_at(vns) if ordinal is None else ordinal))

    def goto_end(self, branch: str | None = None) -> None:
        """Go to the end of a branch (the cursor's), where it owns its future."""
        record = self._driver.record if branch is None else self._record(branch)
        self._travel(record, record.end)

    def goto_instret(self, machine: int, instret: int) -> None:
        """Go to the instant at which `machine` has just retired `instret` instructions."""
        if instret < 0:
            raise UnreachableError(f"machine {machine} has retired {self.instrets[machine]} instructions only")
        self._seek(Aim(machine, instret=instret), lambda keyframe: keyframe.instrets[machine] < instret)

    def goto_console(self, machine: int, total: int) -> None:
        """Go to the instant at which `machine` has just sent byte number `total` of what its console log holds."""
        self._seek(Aim(machine, console_total=total), lambda keyframe: keyframe.totals[machine] < total)

    def step_ticks(self, count: int) -> None:
        """Go `count` tick boundaries forward, or back if negative; from within a tick the first is its own end."""
        vns, quantum_ns = self.position.vns, self._quantum_ns
        tick = vns // quantum_ns if count >= 0 else -(-vns // quantum_ns)
        self.step_to(max(tick + count, 0) * quantum_ns)

    def step_insns(self, machine: int, count: int) -> None:
        """Go `count` instructions of `machine` forward, or back if negative."""
        instret = self.instrets[machine] + count
        if instret < 0:
            raise UnreachableError(f"machine {machine} has retired {self.instrets[machine]} instructions only")
        self.goto_instret(machine, instret)

    def step_to(self, vns: int) -> None:
        """Go to virtual time `vns` of the cursor's branch, forward or back; never before 0."""
        self.goto_time(max(vns, 0))

    def until(self, text: bytes, machine: int | None = None, *, limit_vns: int | None = None) -> bool:
        """Go forward until `text` has just been sent by `machine`'s console (None: by any).

        False if it was not by virtual time `limit_vns`, or by the time when none is left to run.
        """
        return self._until(Aim(machine, text=text), limit_vns)

    def until_watched(self, machine: int, *, limit_vns: int | None = None) -> bool:
        """Go forward to the next instant before `limit_vns` at which something is met that `machine` watches.

        An instruction about to be executed here counts, unless this has just stopped for it. False if nothing is met
        by then, or by the time when the machine stops.
        """
        return self._until(Aim(machine, watch=True), limit_vns, target_vns=limit_vns)

    def _until(self, aim: Aim, limit_vns: int | None, *, target_vns: int | None = None) -> bool:
        reached = False

        def go() -> None:
            nonlocal reached
            end = Position(END_OF_TIME_NS if limit_vns is None else limit_vns, ALL_INPUTS)
            reached = self._driver.advance(end, aim)

        self._move(go, target_vns=target_vns)
        return reached

    def next_event(self) -> None:
        """Go forward to where a console line has just ended, an input is about to be given, or a machine has stopped.

        Where nothing is known to come, runs until something does or no machine is left to run.
        """

        def go() -> None:
            driver = self._driver
            ahead = [at for at in self.landmarks() if at.vns > driver.position.vns]
            if not ahead:
                self._next_unknown()
            elif not driver.advance(min(ahead), Aim(None, text=b"\n")):
                driver.advance(min(ahead))

        self._move(go)

    def _next_unknown(self) -> None:
        driver = self._driver
        endings = len(driver.record.endings)
        while not driver.advance(Position(driver.position.vns + EVENT_SPAN_NS, ALL_INPUTS), Aim(None, text=b"\n")):
            if len(driver.record.endings) > endings or driver.all_dead:
                return

    def previous_event(self) -> None:
        """Go back to the latest such event before the cursor; to the beginning if there is none."""

        def go() -> None:
            driver = self._driver
            origin = driver.position
            behind = [at for at in self.landmarks() if at < origin]
            line_end = self._line_end_before(origin.vns)
            behind += [] if line_end is None else [Position(line_end, driver.record.inputs_at(line_end))]
            self._go(driver.record, max(behind, default=Position(0)))

        self._move(go)

    def landmarks(self) -> list[Position]:
        """Where inputs are about to be given and machines have stopped, on the cursor's line of history."""
        record = self._driver.record
        inputs = [group[0].at for group in typed_lines(record.inputs_from(Position(0)))]
        endings = [Position(ending.vns, record.inputs_at(ending.vns)) for ending in self.endings()]
        return [*inputs, *endings]

    def _line_end_before(self, vns: int) -> int | None:
        """Virtual time of the last end of a console line before `vns`. Moves the cursor about."""
        driver, best = self._driver, None
        for machine, (log, total) in enumerate(zip(driver.record.consoles, driver.totals, strict=True)):
            at = log.rfind(b"\n", 0, total)
            while at >= 0:
                # The line's first byte came before its end, the next line's after it.
                following = log.lines_begun(at + 1)
                latest = log.line_vns(following) if following < log.lines_begun(total) else vns
                if best is not None and latest <= best:
                    break
                self._find(Aim(machine, console_total=at + 1), lambda frame, m=machine, n=at: frame.totals[m] <= n)
                if driver.position.vns < vns:
                    best = max(best or 0, driver.position.vns)
                    break
                at = log.rfind(b"\n", 0, at)
        return best

    def scan(self, lookout: Lookout, limit_vns: int | None = None) -> bool:
        """Go forward to the first instant at which `lookout` sees something, before the inputs of that instant.

        False if it saw nothing by virtual time `limit_vns`, or by the time when no machine is left to run.
        """
        seen = False

        def go() -> None:
            nonlocal seen
            driver = self._driver
            driver.hold()
            end = END_OF_TIME_NS if limit_vns is None else limit_vns
            while not seen and driver.position.vns < end and not driver.all_dead:
                span_ns = min(end - driver.position.vns, EVENT_SPAN_NS)
                target = Position(driver.position.vns + span_ns, ALL_INPUTS)
                seen = driver.advance(target, lookout=lookout)

        self._move(go, target_vns=limit_vns)
        return seen

    def scan_back(self, collector: Collector, floor: Position = BEGINNING) -> bool:
        """Go back to the last instant before here, and not before `floor`, at which `collector` sees something.

        History is repeated keyframe by keyframe, backwards. False if there is no such instant; the cursor is then where
        it was, as it is if this is cancelled.
        """
        found: Position | None = None

        def go() -> None:
            nonlocal found
            driver, record = self._driver, self._driver.record
            origin = end = driver.position
            driver.hold()
            while found is None and end > floor:
                start = record.nearest(end, lambda keyframe, end=end: keyframe.position < end) or record.first()
                at = start.position
                driver.restore(record, start)
                collector.reset()
                driver.advance(end, lookout=collector)
                found = collector.latest(origin)
                end = at
            self._go(record, origin if found is None or found < floor else found)

        self._move(go, returning=True)
        return found is not None and found >= floor

    def _seek(self, aim: Aim, before: Callable[[Keyframe], bool]) -> None:
        self._move(lambda: self._find(aim, before))

    def _find(self, aim: Aim, before: Callable[[Keyframe], bool]) -> None:
        """Go to where the machine of `aim` reaches it; `before`: is the keyframe before that?"""
        driver = self._driver
        assert aim.machine is not None, "only `until` asks for any machine"
        back = not self._is_before(aim)
        if back:
            driver.hold_near(NEAR_INSNS)
            driver.restore(driver.record, driver.record.nearest(driver.position, before) or driver.record.first())
            if driver.position == Position(0) and not self._is_before(aim):
                return
        limit_vns = max(driver.record.end.vns, driver.position.vns) + IDLE_NS_MAX
        if back and aim.instret is not None and aim.instret - self.instrets[aim.machine] > 2 * NEAR_INSNS:
            # Whoever steps back once will do so again: let the next step begin near here.
            near = Aim(aim.machine, instret=aim.instret - NEAR_INSNS)
            driver.advance(Position(limit_vns, ALL_INPUTS), near)
            driver.hold()
        if not driver.advance(Position(limit_vns, ALL_INPUTS), aim):
            raise driver.unreachable(aim.machine)

    def _is_before(self, aim: Aim) -> bool:
        assert aim.machine is not None, "only `until` asks for any machine"
        if aim.instret is not None:
            return self.instrets[aim.machine] < aim.instret
        assert aim.console_total is not None, "an aim has one of the three"
        return self.console_totals[aim.machine] < aim.console_total

    def _travel(self, record: BranchRecord, target: Position) -> None:
        self._move(lambda: self._go(record, target), returning=True, target_vns=target.vns)

    def _go(self, record: BranchRecord, target: Position) -> None:
        driver = self._driver
        here = record.holds(driver.record.owner(driver.position), driver.position)
        nearest = record.nearest(target) or record.first()
        if not here or not nearest.position <= driver.position <= target:
            # Holding may thin keyframes, so the nearest one is looked up again.
            driver.hold()
            driver.restore(record, record.nearest(target) or record.first())
        driver.record = record
        driver.advance(target)

    def _move(self, go: Callable[[], object], *, returning: bool = False, target_vns: int | None = None) -> None:
        """Do `go`; whatever happens, end at a valid position. `returning`: where it began if it is cancelled."""
        driver = self._driver
        origin, record = driver.position, driver.record
        if not self._origins:
            driver.clear_cancel()
        self.target_vns = target_vns
        try:
            go()
        except (TornError, CancelledError) as stopped:
            if returning:
                driver.come_back(record, origin)
            elif isinstance(stopped, TornError):
                driver.come_back(driver.record, Position(stopped.common_vns))
            raise CancelledError("cancelled", where=f"at {format_seconds(self.position.vns)} s") from None
        except UnreachableError:
            # It went as far as it could, which shows why.
            raise
        except DivergenceError:
            driver.restore(record, record.first())
            raise
        except ChaosControlError:
            driver.come_back(record, origin)
            raise
        finally:
            driver.observer.moved()
