"""The commands that act on the cluster: values that know how to be carried out on a bench, and how to be written.

`text` is the command's line; a script of such lines repeats a session.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from cc_tui.commands.bench import Bench
from cc_tui.commands.language import (
    CommandError,
    bytes_to_text,
    format_duration,
    format_speed,
    quote,
)
from cc_tui.commands.place import Place
from chaoscontrol.errors import GuestError
from chaoscontrol.timetravel import BranchHead, ConsoleInput, Moment, Position, format_seconds
from chaoscontrol.timetravel.witness import BATCH_NS


class EngineCommand(ABC):
    """A command for the engine's thread."""

    moves: ClassVar[bool] = False
    """Does it move the cursor? Then a run in progress ends first, and it may take long."""
    scripted: ClassVar[bool] = True
    """Is it part of the session's script?"""
    acts: ClassVar[bool] = False
    """Does it give an input, or make, name or annotate a branch, which leaving would lose?"""

    @property
    @abstractmethod
    def text(self) -> str:
        """The line that parses to this command."""

    @abstractmethod
    def run(self, bench: Bench) -> None:
        """Carry it out. Raises ChaosControlError."""


def carry_out(command: EngineCommand, bench: Bench) -> None:
    """Run a command and write the session's script; whatever happens, the script leads to where the cursor is."""
    if command.moves and bench.running:
        bench.pause()
    if command.scripted:
        bench.script.arrive()
    try:
        command.run(bench)
    except BaseException:
        bench.script.arrive()
        raise
    if command.moves:
        bench.frame = None  # it was chosen where the cursor was
    if command.scripted:
        bench.script.wrote(command.text)
    elif command.moves and not bench.running:
        bench.script.arrive()


def _count(name: str, count: int) -> str:
    name = name if count > 0 else f"reverse-{name}"
    return name if abs(count) == 1 else f"{name} {abs(count)}"


# ---- moving ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Step(EngineCommand):
    """By the step size, or by a span of virtual time."""

    moves: ClassVar[bool] = True
    count: int
    """Negative: back."""
    span_ns: int | None = None

    @property
    def text(self) -> str:
        if self.span_ns is None:
            return _count("step", self.count)
        return f"{'step' if self.count > 0 else 'reverse-step'} {format_duration(abs(self.count) * self.span_ns)}"

    def run(self, bench: Bench) -> None:
        span_ns = bench.step_ns if self.span_ns is None else self.span_ns
        bench.multiverse.step_to(bench.multiverse.position.vns + self.count * span_ns)


@dataclass(frozen=True, slots=True)
class Tick(EngineCommand):
    """By whole ticks."""

    moves: ClassVar[bool] = True
    count: int

    @property
    def text(self) -> str:
        return _count("tick", self.count)

    def run(self, bench: Bench) -> None:
        bench.multiverse.step_ticks(self.count)


@dataclass(frozen=True, slots=True)
class Insn(EngineCommand):
    """By instructions of the machine in focus."""

    moves: ClassVar[bool] = True
    count: int

    @property
    def text(self) -> str:
        return _count("insn", self.count)

    def run(self, bench: Bench) -> None:
        bench.multiverse.step_insns(bench.focus, self.count)


@dataclass(frozen=True, slots=True)
class Next(EngineCommand):
    """By events: the end of a console line, an input, a machine that stops."""

    moves: ClassVar[bool] = True
    count: int

    @property
    def text(self) -> str:
        return _count("next", self.count)

    def run(self, bench: Bench) -> None:
        for _ in range(abs(self.count)):
            if self.count < 0:
                bench.multiverse.previous_event()
            else:
                bench.multiverse.next_event()


@dataclass(frozen=True, slots=True)
class Continue(EngineCommand):
    """To the next point that is met, if there are points; else to the next landmark.

    Those are marks, inputs, forks, machines that stop, the end of what is known.

    Forward from the end of the branch it runs on, as fast as possible, until something stops it; so the script says
    where it led, not how.
    """

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    forward: bool

    @property
    def text(self) -> str:
        return "continue" if self.forward else "reverse-continue"

    def run(self, bench: Bench) -> None:
        multiverse = bench.multiverse
        if bench.points:
            # Only here: whoever sets a point has the module already, and it builds on this one.
            from cc_tui.commands.debugging import continue_to_point

            continue_to_point(bench, forward=self.forward)
            return
        here = multiverse.position
        if self.forward and multiverse.at_end:
            _refuse_if_all_stopped(bench)
            if bench.attended:
                bench.run(flat_out=True)
            else:
                _go_on(bench)
            return
        name = multiverse.branch.name
        if self.forward:
            at = min([at for at in landmarks(bench) if at > here], default=multiverse.branch.end)
            at = min(at, multiverse.branch.end)
        else:
            at = max([at for at in landmarks(bench) if at < here], default=Position(0))
        multiverse.goto_time(at.vns, branch=name, ordinal=at.ordinal)


def _go_on(bench: Bench) -> None:
    """Forward until a machine stops or a property is broken; where that is depends on the guests alone."""
    multiverse = bench.multiverse
    endings, failures = len(multiverse.endings()), len(multiverse.failures())
    while len(multiverse.endings()) == endings and len(multiverse.failures()) == failures:
        multiverse.run_to((multiverse.position.vns // BATCH_NS + 1) * BATCH_NS)
    for ending in multiverse.endings()[endings:]:
        bench.warn(f"vm{ending.machine} stopped: {ending.kind}")
    for failure in multiverse.failures()[failures:]:
        bench.warn(f"FAILED at {failure.at}: {failure.name}")


def landmarks(bench: Bench) -> list[Position]:
    """Positions on the cursor's line of history that a person may want to come back to."""
    multiverse = bench.multiverse
    line = multiverse.line()
    marks = [mark for mark in bench.marks.values() if mark.branch in line and mark.position <= line[mark.branch]]
    forks = [branch.start for branch in multiverse.branches() if branch.name in line]
    return [*multiverse.landmarks(), *(mark.position for mark in marks), *forks]


@dataclass(frozen=True, slots=True)
class Until(EngineCommand):
    """Forward until a console has just shown a text."""

    moves: ClassVar[bool] = True
    pattern: str
    machine: int | None = None
    limit_ns: int | None = None

    @property
    def text(self) -> str:
        words = ["until", quote(self.pattern)]
        words += [] if self.machine is None else [str(self.machine)]
        words += [] if self.limit_ns is None else [format_duration(self.limit_ns)]
        return " ".join(words)

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        multiverse = bench.multiverse
        limit_vns = None if self.limit_ns is None else multiverse.position.vns + self.limit_ns
        if not multiverse.until(self.pattern.encode(), self.machine, limit_vns=limit_vns):
            where = f"at {format_seconds(multiverse.position.vns)} s"
            raise GuestError(f"no console has shown {self.pattern!r}", where=where)


@dataclass(frozen=True, slots=True)
class Goto(EngineCommand):
    """To a place."""

    moves: ClassVar[bool] = True
    place: Place

    @property
    def text(self) -> str:
        return f"goto {self.place.text}"

    def run(self, bench: Bench) -> None:
        self.place.goto(bench.multiverse, bench.focus, bench.marks, bench.quantum_ns)


# ---- running --------------------------------------------------------------------------------------------------------


def _refuse_if_all_stopped(bench: Bench) -> None:
    if bench.multiverse.all_stopped and bench.multiverse.at_end:
        raise GuestError("every machine has stopped", hint="go back in time, or branch before the end")


@dataclass(frozen=True, slots=True)
class Run(EngineCommand):
    """Let time pass at the chosen speed until `pause`."""

    scripted: ClassVar[bool] = False

    @property
    def text(self) -> str:
        return "run"

    def run(self, bench: Bench) -> None:
        _refuse_if_all_stopped(bench)
        bench.run()


@dataclass(frozen=True, slots=True)
class Pause(EngineCommand):
    """Stop running, here."""

    scripted: ClassVar[bool] = False

    @property
    def text(self) -> str:
        return "pause"

    def run(self, bench: Bench) -> None:
        bench.pause()


@dataclass(frozen=True, slots=True)
class Toggle(EngineCommand):
    """Run, or stop running: what it is when its turn comes, which nobody knows before."""

    scripted: ClassVar[bool] = False

    @property
    def text(self) -> str:
        return "run or pause"

    def run(self, bench: Bench) -> None:
        command = Pause() if bench.running else Run()
        command.run(bench)


@dataclass(frozen=True, slots=True)
class EndTyping(EngineCommand):
    """Nobody types any more: stop the run that typing began, if it still goes on."""

    scripted: ClassVar[bool] = False

    @property
    def text(self) -> str:
        return "end of typing"

    def run(self, bench: Bench) -> None:
        if bench.runs_for_typing:
            bench.pause()


@dataclass(frozen=True, slots=True)
class Speed(EngineCommand):
    """How fast `run` lets time pass."""

    scripted: ClassVar[bool] = False
    speed: float | None

    @property
    def text(self) -> str:
        return f"speed {format_speed(self.speed)}"

    def run(self, bench: Bench) -> None:
        bench.speed, bench.flat_out = self.speed, False


SPEEDS: tuple[float | None, ...] = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, None)


@dataclass(frozen=True, slots=True)
class Faster(EngineCommand):
    """As many of the usual speeds faster than now; negative: slower."""

    scripted: ClassVar[bool] = False
    by: int

    @property
    def text(self) -> str:
        return f"{abs(self.by)} {'faster' if self.by > 0 else 'slower'}"

    def run(self, bench: Bench) -> None:
        places = [float("inf") if known is None else known for known in SPEEDS]
        now = float("inf") if bench.speed is None else bench.speed
        at = len(places) - 1 if bench.speed is None else min(range(len(places)), key=lambda at: abs(places[at] - now))
        command = Speed(SPEEDS[min(max(at + self.by, 0), len(SPEEDS) - 1)])
        command.run(bench)
        bench.say(command.text)


# ---- acting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fork(EngineCommand):
    """A new branch from the cursor."""

    acts: ClassVar[bool] = True
    name: str | None = None

    @property
    def text(self) -> str:
        return "branch" if self.name is None else f"branch {self.name}"

    def run(self, bench: Bench) -> None:
        fork(bench, self.name)


def fork(bench: Bench, name: str | None) -> None:
    """Make a branch at the cursor and follow it; says so."""
    parent = bench.multiverse.branch.name
    head = bench.multiverse.fork(name)
    bench.script.unsaved_inputs += 1
    bench.say(f"branch {head.branch} from {parent} at {format_seconds(bench.multiverse.position.vns)} s")


def own_future(bench: Bench) -> BranchHead:
    """The right to give inputs here; in the past it forks first. The script leads here."""
    bench.script.arrive()
    head = bench.multiverse.head()
    if head is None:
        fork(bench, None)
        bench.script.wrote(f"branch {bench.multiverse.branch.name}")
        head = bench.multiverse.head()
    assert head is not None, "a new branch owns its future"
    return head


@dataclass(frozen=True, slots=True)
class Type(EngineCommand):
    """Bytes for a machine's serial console. In the past it forks first. It writes its own part of the script."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    machine: int
    data: bytes
    by_hand: bool = False
    """Does somebody type? Nobody types to see nothing happen: it lets time run."""

    @property
    def text(self) -> str:
        return f"type {self.machine} {quote(bytes_to_text(self.data))}"

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        if self.machine in bench.multiverse.stopped:
            raise GuestError(f"machine {self.machine} has stopped", hint="go back in time and branch")
        head = own_future(bench)
        data = bench.waiting.pop(self.machine, b"") + self.data
        taken = head.give(ConsoleInput(self.machine, data))
        count = len(taken.input.data) if taken is not None and isinstance(taken.input, ConsoleInput) else 0
        if count:
            bench.script.unsaved_inputs += 1
            bench.script.wrote(replace(self, data=data[:count]).text)
        if count < len(data):
            bench.waiting[self.machine] = data[count:]
        if self.by_hand and not bench.running:
            bench.run(for_typing=True)


@dataclass(frozen=True, slots=True)
class Mark(EngineCommand):
    """Give the cursor a name."""

    name: str | None = None

    @property
    def text(self) -> str:
        return "mark" if self.name is None else f"mark {self.name}"

    def run(self, bench: Bench) -> None:
        name = self.name or _free_mark(bench)
        bench.say(f"mark {name}: {bench.multiverse.mark(name)}")


def _free_mark(bench: Bench) -> str:
    multiverse = bench.multiverse
    number = len(multiverse.marks) + 1
    while f"m{number}" in multiverse.marks or multiverse.knows_branch(f"m{number}"):
        number += 1
    return f"m{number}"


@dataclass(frozen=True, slots=True)
class Focus(EngineCommand):
    """The machine that instruction steps mean."""

    machine: int

    @property
    def text(self) -> str:
        return f"vm {self.machine}"

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        bench.focus = self.machine


@dataclass(frozen=True, slots=True)
class StepSize(EngineCommand):
    """What `step` moves by."""

    step_ns: int

    @property
    def text(self) -> str:
        return f"step-size {format_duration(self.step_ns)}"

    def run(self, bench: Bench) -> None:
        bench.step_ns = self.step_ns
        bench.say(f"a step is {format_duration(self.step_ns)}")


@dataclass(frozen=True, slots=True)
class Where(EngineCommand):
    """Print the current moment."""

    scripted: ClassVar[bool] = False

    @property
    def text(self) -> str:
        return "where"

    def run(self, bench: Bench) -> None:
        moment = bench.multiverse.moment(remember=True)
        bench.answer([str(moment)], place_data(moment))


def place_data(moment: Moment) -> dict[str, object]:
    """A moment for a program."""
    position = moment.position
    return {"moment": str(moment), "branch": moment.branch, "vns": position.vns, "ordinal": position.ordinal}


@dataclass(frozen=True, slots=True)
class Save(EngineCommand):
    """Write the session's script to a file."""

    scripted: ClassVar[bool] = False
    path: str

    @property
    def text(self) -> str:
        return f"save {quote(self.path)}"

    def run(self, bench: Bench) -> None:
        path = Path(self.path).expanduser()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(bench.script.text(bench.heading), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CommandError(reason(error), where=quote(self.path), hint="choose another file") from None
        bench.script.unsaved_inputs = 0
        bench.say(f"saved to {path}; `source {quote(str(path))}` repeats it in a fresh session")


@dataclass(frozen=True, slots=True)
class Source(EngineCommand):
    """Carry out the commands of a file; the session reads it, so that each is a command of its own."""

    scripted: ClassVar[bool] = False
    path: str

    @property
    def text(self) -> str:
        return f"source {quote(self.path)}"

    def run(self, bench: Bench) -> None:
        raise CommandError("a script cannot run another script")

    def read(self) -> str:
        """The script's text; raises CommandError."""
        path = Path(self.path).expanduser()
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CommandError(reason(error), where=quote(self.path)) from None


def reason(error: OSError | ValueError) -> str:
    """Why a file could not be read or written, for a person."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def refuse_machine(bench: Bench, machine: int | None) -> None:
    """Raise CommandError for a machine that is not there."""
    if machine is not None and not 0 <= machine < bench.vms:
        raise CommandError(f"there is no machine {machine}", hint=f"they are numbered 0 to {bench.vms - 1}")
