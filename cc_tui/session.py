"""Session: a cluster being worked on. Owns the multiverse, the engine's thread and the script of what was done.

Commands are posted to it from any thread and carried out one after the other; it publishes events to subscribers,
from its own thread. What a subscriber may read at any time is `view`, a frozen picture, and the console logs, which
only grow. It knows no widgets.

It is the only place above the engine that reads a clock: to pace a run and to report rates. Neither reaches a guest,
whose inputs are recorded with the virtual time at which they were given.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cc_tui import diagnostics
from cc_tui.commands import Answer, Bench, Command, CommandError, EngineCommand, Notice, carry_out, parse, parse_script
from cc_tui.commands.engine import Focus, Pause, Source, Type
from cc_tui.looker import Looker
from cc_tui.pictures import CODE_BYTES, MachineView, SessionView
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.oracle import At
from chaoscontrol.registers import Registers
from chaoscontrol.timetravel import CancelledError, Failure, Multiverse, Position, Witness, read_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cc_tui.about import About
    from chaoscontrol.recording import Recorder
    from chaoscontrol.timetravel import ForetoldBranch, Mark

PUBLISH_S = 0.05
"""Least time between two pictures while something is under way."""
PROGRESS_AFTER_S = 0.2
SLICE_S = 0.03
"""What one slice of a run should take, so that keys are answered soon."""
SLICE_NS_MIN = 100_000
CLOSE_LOOK_S = 0.5
"""Least time between two looks at properties and coverage while something is under way."""
READ_AHEAD_AFTER_S = 0.3
"""How long nobody asks for anything before what a recording tells is lived through."""
READ_AHEAD_S_MAX = 300.0
"""What that may take altogether: a laptop is not to be kept warm for a recording of days."""
POWER_CUT = "power off"


@dataclass(frozen=True, slots=True)
class Progress:
    """A command that takes long. `fraction` is None where its end is not known."""

    text: str
    fraction: float | None
    vns: int
    rate: float
    """Instructions a second, of all machines."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that took long enough to report progress has ended."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The session cannot go on; a fault of the program, not of the person."""

    error: BaseException


Event = SessionView | Notice | Answer | Progress | Finished | Crashed


class _Rest(NamedTuple):
    """Where the cursor rested, and the registers of the machine in focus there."""

    machine: int
    branch: str
    position: Position
    registers: Registers


@dataclass(slots=True)
class _Job:
    command: EngineCommand
    done: "Future[None]"


class Session:
    """Start it with `start`, end it with `close`; or use it as a context manager."""

    def __init__(
        self,
        cluster: Any,
        witness: Witness | None = None,
        *,
        heading: str = "a cc-tui session",
        recorder: "Recorder | None" = None,
        attended: bool = True,
        kernel: str | None = None,
        initrd: str | None = None,
        about: "About | None" = None,
        reads_ahead: bool = False,
        **multiverse: int,
    ) -> None:
        """`recorder` is closed with the session. `attended`: is somebody there to pause a run?

        `kernel`: the file whose symbols name addresses; `initrd`: the one whose programs have symbols and source lines.
        `about`: where the cluster comes from. `reads_ahead`: while nobody asks for anything, live through what was
        foretold, so that jumps there are short. `multiverse`: what Multiverse takes besides these.

        Raises ChaosControlError.
        """
        self._cluster = cluster
        self._recorder = recorder
        self._multiverse = Multiverse(cluster, witness, **multiverse)
        self._looker = Looker(cluster)
        self._bench = Bench(
            self._multiverse,
            cluster.config.quantum_ns,
            self._notify,
            heading,
            attended=attended,
            kernel=kernel,
            network=getattr(cluster, "network", None),
            about=about,
            initrd=initrd,
        )
        self._subscribers: list[Callable[[Event], None]] = []
        self._jobs: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._busy: EngineCommand | None = None
        self._cancelling = False
        self._resting = False
        self._reading_left_s = READ_AHEAD_S_MAX if reads_ahead else 0.0
        self._may_read = reads_ahead
        """May something be left to read ahead?"""
        self._unanswered = deque[EngineCommand]()
        """Commands whose outcome has not been published: the one under way and those that wait."""
        self._at_work_since_s = 0.0
        self._crash: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._watch = _Watch()
        self._base_s = self._base_vns = 0.0
        self._rests: tuple[_Rest | None, _Rest | None] = (None, None)
        self._slice_ns = SLICE_NS_MIN
        self.view = self._picture(at_rest=True)
        """The latest picture."""
        self.asked = Future[None]()
        """Of the command that was posted last: when it is done, all are."""
        self.asked.set_result(None)
        self._multiverse.watch(self._moved)
        self._known_broken = set[str]()
        """Properties that were broken before this session began."""
        self._unjudged = set[At]()
        """Where something had happened before it began that was not judged: what that breaks was broken then."""
        if recorder is not None:
            recorder.on_error = self._warn
            self._multiverse.observe(recorder)

    def __enter__(self) -> "Session":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- from any thread --------------------------------------------------------------------------------------------

    @property
    def quantum_ns(self) -> int:
        """Length of a tick."""
        return self._bench.quantum_ns

    def subscribe(self, callback: Callable[[Event], None]) -> None:
        """Have `callback` called with every event, from the engine's thread; it must return soon."""
        self._subscribers.append(callback)

    def foretell(
        self, branches: "Sequence[ForetoldBranch]", marks: "Mapping[str, Mark]", deleted: "Iterable[str]" = ()
    ) -> None:
        """Take over a history for the known future, and marks in it; before start(). Raises ChaosControlError.

        deleted: names of branches that are gone.
        """
        self._multiverse.foretell(branches, marks, deleted)
        self._known_broken = {failure.name for branch in branches for failure in branch.failures}
        self._unjudged = {At(e.vns, e.vm, e.instret) for branch in branches for e in branch.unjudged}
        self.view = self._picture(at_rest=True)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def close(self) -> None:
        """Cancel what is under way, end the thread and free the machines."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._multiverse.cancel()
            self._thread.join()
        try:
            self._end_recording()
        finally:
            self._cluster.close()

    @property
    def recording_failed(self) -> bool:
        """Is what was to be recorded not recorded to the end?"""
        return self._recorder is not None and self._recorder.failed is not None

    def _end_recording(self) -> None:
        if self._recorder is None:
            return
        # Nobody looks at notices any more.
        self._recorder.on_error = diagnostics.error
        try:
            if self._crash is None:
                self._recorder.finish(self._multiverse)
        finally:
            self._recorder.close()

    def submit(self, command: EngineCommand) -> "Future[None]":
        """Post a command, to be carried out after those before it; the future has its ChaosControlError."""
        job = _Job(command, Future())
        with self._wake:
            if self._crash is None:
                if not self._unanswered:
                    self._at_work_since_s = time.monotonic()
                self._jobs.append(job)
                self._resting = False
                self._unanswered.append(command)
                self.asked = job.done
                self._wake.notify()
        if self._crash is not None and not job.done.done():
            job.done.set_exception(self._crash)
        return job.done

    def cancel(self) -> None:
        """Stop the command under way and forget those that wait; the cursor stays at a valid position."""
        with self._wake:
            dropped, self._jobs = self._jobs, deque()
            self._cancelling = self._busy is not None
            for _ in dropped:
                self._unanswered.pop()
        for job in dropped:
            job.done.set_exception(CancelledError("cancelled"))
        if self._cancelling:
            self._multiverse.cancel()

    def stop(self) -> "Future[None]":
        """Stop the command under way, forget those that wait, and stop running."""
        self.cancel()
        return self.submit(Pause())

    @property
    def busy(self) -> bool:
        """Is a command under way or waiting?"""
        with self._wake:
            return self._busy is not None or bool(self._jobs)

    def was_at_work(self, time_s: float) -> bool:
        """Could somebody see, at a time of the monotonic clock, that commands are under way that still are?"""
        with self._wake:
            return bool(self._unanswered) and time_s - self._at_work_since_s >= PROGRESS_AFTER_S

    @property
    def focus(self) -> int:
        """The machine in focus when every command is carried out."""
        with self._wake:
            asked = [command.machine for command in self._unanswered if isinstance(command, Focus)]
        return next((vm for vm in reversed(asked) if vm < len(self.view.instrets)), self.view.focus)

    @property
    def unsaved_inputs(self) -> int:
        """Inputs and branches that no saved script has, with those that are asked for and not yet made."""
        with self._wake:
            return self.view.unsaved_inputs + sum(command.acts for command in self._unanswered)

    @property
    def idle(self) -> bool:
        """Has every command been carried out, published and answered? Then nothing but a run can change the view."""
        with self._wake:
            return self._resting or (self._bench.running and not self._unanswered)

    @property
    def has_read_ahead(self) -> bool:
        """Is nothing left to read ahead, as far as that is known?"""
        return not self._may_read

    def execute(self, line: str) -> None:
        """Carry out a line of the command language and wait for it. Raises ChaosControlError."""
        command = parse(line, quantum_ns=self.quantum_ns)
        if command is not None:
            self._execute(command)

    def _execute(self, command: Command) -> None:
        if isinstance(command, Source):
            self.run_script(command.read(), name=command.path)
        elif isinstance(command, EngineCommand):
            self.submit(command).result()

    def run_script(self, text: str, *, name: str = "script") -> None:
        """Carry out a script and wait; stops at the first error, which then names the line.

        Commands for an interface are passed over. Raises ChaosControlError.
        """
        for number, command in parse_script(text, name=name, quantum_ns=self.quantum_ns):
            if isinstance(command, Source):
                raise CommandError("a script cannot run another script", where=f"{name}:{number}")
            try:
                self._execute(command)
            except ChaosControlError as error:
                error.where = f"{name}:{number}: {error.where}" if error.where else f"{name}:{number}"
                raise

    def script(self) -> str:
        """The session's script so far; only while nothing is under way."""
        return self._bench.script.text(self._bench.heading)

    def broken(self) -> set[str]:
        """Properties broken on any branch that the script did not say would be; only while nothing is under way."""
        multiverse = self._multiverse
        failures = [failure for branch in multiverse.branches() for failure in multiverse.failures(branch.name)]
        names = {
            failure.name for failure in (*failures, *self.view.cluster.failures) if failure.at not in self._unjudged
        }
        return names - self._bench.expected_failures - self._known_broken

    # ---- the engine's thread ----------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        for callback in self._subscribers:
            callback(event)

    def _warn(self, message: str) -> None:
        self._notify(Notice(message, "error"))

    def _notify(self, notice: Notice | Answer) -> None:
        self._emit(notice)

    def _work(self) -> None:
        try:
            self._publish()
            while (job := self._next_job()) is not None:
                if isinstance(job, _Job):
                    self._do(job)
                elif not self._bench.running:
                    self._read_ahead()
                else:
                    self._run_slice()
        except BaseException as error:
            # Nobody else sees what this thread raises: the interface ends, and raises it again in the main thread.
            with self._wake:
                self._crash = error
                left, self._jobs = self._jobs, deque[_Job]()
            for job in left:
                job.done.set_exception(error)
            self._emit(Crashed(error))

    def _next_job(self) -> "_Job | bool | None":
        """A command, or True: run on, or read ahead, or None: the end. Waits while there is nothing to do."""
        with self._wake:
            while not self._closing:
                if self._jobs:
                    job = self._jobs.popleft()
                    self._busy, self._cancelling = job.command, False
                    return job
                if not self._bench.running:
                    # Reading ahead changes nothing that can be seen: it is rest as well.
                    self._resting = True
                    if not self._wake.wait(READ_AHEAD_AFTER_S if self._may_read else None):
                        return True
                    self._resting = False
                elif (delay_s := self._ahead_s()) > 0:
                    self._wake.wait(delay_s)
                else:
                    return True
            return None

    def _do(self, job: _Job) -> None:
        was_running = self._bench.running
        self._may_read = self._reading_left_s > 0
        self._watch.begin(self._multiverse)
        self._bench.doing = ""
        error: ChaosControlError | None = None
        try:
            try:
                carry_out(job.command, self._bench)
            except ChaosControlError as caught:
                error = caught
            with self._wake:
                self._busy = None
            if self._bench.running and (not was_running or job.command.moves):
                self._start_pacing()
            if self._recorder is not None:
                self._recorder.flush()
            if self._watch.reported:
                self._emit(Finished())
            self._publish()
        except BaseException as crash:
            job.done.set_exception(crash)
            raise
        # Whoever waits for the command finds the picture of after it.
        if error is None:
            job.done.set_result(None)
        else:
            job.done.set_exception(error)
        with self._wake:
            self._unanswered.popleft()

    def _moved(self) -> None:
        """Called by the multiverse after every segment."""
        now = time.monotonic()
        if self._recorder is not None:
            self._recorder.flush_if_due()
        if self._busy is None:
            if self._jobs or self._closing:
                self._multiverse.cancel()
        elif self._cancelling or self._closing:
            # The cancel came before the command had begun to move.
            self._multiverse.cancel()
        elif now - self._watch.begun_s >= PROGRESS_AFTER_S and now - self._watch.reported_s >= PUBLISH_S:
            self._emit(self._watch.progress(self._busy.text, self._bench.doing, self._multiverse, now))
            if self._multiverse.at_end and not self._multiverse.in_throwaway:
                # Going where nobody has been: what the consoles say is worth seeing on the way.
                self._publish(at_rest=False)

    def _read_ahead(self) -> None:
        """Until there is a command, or nothing is left to read."""
        end_s = time.monotonic() + self._reading_left_s
        try:
            self._may_read = read_ahead(
                self._multiverse, lambda: bool(self._jobs) or self._closing or time.monotonic() >= end_s
            )
        except ChaosControlError as error:
            # Whoever goes there is told again; until then the histories can be walked in.
            end_s = 0.0
            if self._bench.attended:
                self._notify(Notice(f"what was recorded does not repeat itself: {error}", "warning"))
        self._reading_left_s = end_s - time.monotonic()
        self._may_read = self._may_read and self._reading_left_s > 0

    # ---- running ----------------------------------------------------------------------------------------------------

    def _start_pacing(self) -> None:
        self._base_s, self._base_vns = time.monotonic(), float(self._multiverse.position.vns)
        self._watch.begin(self._multiverse)
        self._slice_ns = SLICE_NS_MIN

    def _speed(self) -> float | None:
        return None if self._bench.flat_out else self._bench.speed

    def _due_vns(self) -> float:
        """Virtual time that a paced run should have reached by now."""
        speed = self._speed()
        if speed is None:
            return float("inf")
        return self._base_vns + (time.monotonic() - self._base_s) * 1e9 * speed

    def _ahead_s(self) -> float:
        """How long to wait before the next slice."""
        speed = self._speed()
        if speed is None:
            return 0.0
        return max(0.0, (self._multiverse.position.vns + SLICE_NS_MIN * speed - self._due_vns()) / 1e9 / speed)

    def _run_slice(self) -> None:
        multiverse, begun_s = self._multiverse, time.monotonic()
        begin_vns = multiverse.position.vns
        endings, failures = len(multiverse.endings()), len(multiverse.failures())
        target_vns = int(min(begin_vns + self._slice_ns, max(self._due_vns(), begin_vns + 1)))
        try:
            multiverse.run_to(target_vns)
        except CancelledError:
            pass
        except ChaosControlError as error:
            self._bench.pause()
            self._notify(Notice(str(error), "error"))
        took_s = max(time.monotonic() - begun_s, 1e-6)
        span_ns = multiverse.position.vns - begin_vns
        wanted_ns = int(max(span_ns, 1) * min(SLICE_S / took_s, 4.0))
        self._slice_ns = max(SLICE_NS_MIN, wanted_ns if wanted_ns < span_ns else max(wanted_ns, self._slice_ns))
        if self._due_vns() - multiverse.position.vns > 4 * SLICE_S * 1e9 * (self._speed() or 1.0):
            # The guest is slower than the wished speed: do not catch up in a rush when it has less to do.
            self._base_s, self._base_vns = time.monotonic(), float(multiverse.position.vns)
        self._feed()
        for ending in multiverse.endings()[endings:]:
            if ending.kind != POWER_CUT:  # that is a fault's doing
                self._bench.pause()
                self._notify(Notice(f"vm{ending.machine} stopped: {ending.kind}", "warning"))
        self._tell_failures(multiverse.failures()[failures:])
        if not self._bench.running:
            if self._recorder is not None:
                self._recorder.flush()
            self._publish()
        elif self._watch.due():
            self._publish(at_rest=False)

    def _tell_failures(self, failures: list[Failure]) -> None:
        """A property was broken: whoever watches wants to look at it now."""
        for failure in failures[:1]:
            self._bench.pause()
            more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
            self._notify(Notice(f"FAILED at {failure.at}: {failure.name}{more}", "error"))

    def _feed(self) -> None:
        """Type what did not fit the machines' queues before."""
        for machine in list(self._bench.waiting):
            data = self._bench.waiting.pop(machine)
            if self._multiverse.at_end:
                Type(machine, data).run(self._bench)

    # ---- pictures ---------------------------------------------------------------------------------------------------

    def _publish(self, *, at_rest: bool | None = None) -> None:
        self.view = self._picture(at_rest=not self._bench.running if at_rest is None else at_rest)
        self._emit(self.view)

    def _picture(self, *, at_rest: bool) -> SessionView:
        bench, multiverse = self._bench, self._multiverse
        return SessionView(
            branch=multiverse.branch,
            position=multiverse.position,
            tick=multiverse.tick,
            at_end=multiverse.at_end,
            instrets=multiverse.instrets,
            console_totals=multiverse.console_totals,
            consoles=multiverse.consoles(),
            branches=multiverse.branches(),
            line=multiverse.line(),
            inputs=tuple(multiverse.inputs()),
            endings=tuple(multiverse.endings()),
            log=tuple(multiverse.machine_log()),
            marks=bench.marks,
            mark_notes={name: mark.note for name, mark in multiverse.marks.items() if mark.note},
            quantum_ns=bench.quantum_ns,
            focus=bench.focus,
            step_ns=bench.step_ns,
            speed=bench.speed,
            running=bench.running,
            flat_out=bench.flat_out,
            moment=multiverse.moment() if at_rest else None,
            machine=self._machine_view(at_rest=at_rest),
            rate=0.0 if at_rest else self._watch.rate(multiverse),
            unsaved_inputs=bench.script.unsaved_inputs,
            stopped=multiverse.stopped,
            cluster=self._looker.look(multiverse, closely=at_rest or self._watch.due_closely()),
        )

    def _machine_view(self, *, at_rest: bool) -> MachineView:
        focus, multiverse = self._bench.focus, self._multiverse
        machine = multiverse.machines[focus]
        registers = machine.registers()
        # Pictures come while something is under way too, as many as time allows: what they show must not count.
        before, last = self._rests
        if at_rest:
            rest = _Rest(focus, multiverse.branch.name, multiverse.position, registers)
            if last is None or rest[:3] != last[:3]:
                before, last = self._rests = last, rest
        else:
            before = last
        known = before.registers if before is not None and before.machine == focus else None
        return MachineView(focus, registers, _read_code(machine, registers.rip), known)


def _read_code(machine: Any, rip: int) -> bytes:
    """Up to CODE_BYTES at RIP, as far as they are mapped."""
    to_page_end = 4096 - rip % 4096
    code = b""
    for size in (min(to_page_end, CODE_BYTES), max(CODE_BYTES - to_page_end, 0)):
        try:
            code += machine.read_memory((rip + len(code)) % (1 << 64), size, virtual=True)
        except ChaosControlError:
            break
    return code


class _Watch:
    """How long the command or run under way has taken, and how fast it is."""

    def __init__(self) -> None:
        self.begun_s = self.reported_s = 0.0
        self.reported = False
        self._from_vns = 0
        self._close_s = 0.0
        self._work = 0
        self._work_s = 0.0
        self._rate = 0.0

    def begin(self, multiverse: Multiverse) -> None:
        self.begun_s = self._work_s = time.monotonic()
        self.reported_s, self.reported, self._rate = 0.0, False, 0.0
        self._from_vns = multiverse.position.vns
        self._work = sum(multiverse.instrets)

    def due(self) -> bool:
        """Is it time for another picture?"""
        now = time.monotonic()
        if now - self.reported_s < PUBLISH_S:
            return False
        self.reported_s = now
        return True

    def due_closely(self) -> bool:
        """Is it time for another close look?"""
        now = time.monotonic()
        if now - self._close_s < CLOSE_LOOK_S:
            return False
        self._close_s = now
        return True

    def rate(self, multiverse: Multiverse) -> float:
        """Instructions a second since the last half second or so."""
        now, work = time.monotonic(), sum(multiverse.instrets)
        if now - self._work_s >= (0.25 if self._rate else 0.1):
            self._rate = max(work - self._work, 0) / (now - self._work_s)
            self._work, self._work_s = work, now
        return self._rate

    def progress(self, text: str, doing: str, multiverse: Multiverse, now: float) -> Progress:
        self.reported_s, self.reported = now, True
        vns, target_vns = multiverse.position.vns, multiverse.target_vns
        if vns < self._from_vns:
            # It went back to a keyframe: what remains counts from there.
            self._from_vns = vns
        span_ns = 0 if target_vns is None or doing else target_vns - self._from_vns
        fraction = min(max((vns - self._from_vns) / span_ns, 0.0), 1.0) if span_ns > 0 else None
        return Progress(f"{text}: {doing}" if doing else text, fraction, vns, self.rate(multiverse))


__all__ = ["Crashed", "Event", "Finished", "MachineView", "Progress", "Session", "SessionView"]
