"""The commands that break things: faults, schedules, new seeds, requests to guest agents.

Each is an input of the branch that it is given on; in the past they branch first.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand, own_future, reason, refuse_machine
from cc_tui.commands.language import CommandError, parse_duration, quote
from cc_tui.fault_fields import DURATION, fields_of, inject_line, make_fault
from chaoscontrol import agent
from chaoscontrol.cluster import VMS_MAX
from chaoscontrol.errors import GuestError
from chaoscontrol.faults import FAULTS, Fault, FaultSchedule, HealAll, ScheduledFault
from chaoscontrol.timetravel import AgentInput, FaultInput, Input, ScheduleInput, SeedInput

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench

AGENT_ID_FIRST = 1 << 31
"""Numbers of requests from here on are a person's; the fault engine's are below."""
AGENT_TIMEOUT_MS = 60_000
SIGKILL = 9


def read_kind(text: str) -> type[Fault]:
    """The kind of fault that a word names. Raises CommandError."""
    if text not in FAULTS:
        close = [name for name in FAULTS if text[:4] in name]
        raise CommandError(f"there is no fault {text!r}", hint=f"there are {', '.join(close or FAULTS)}")
    return FAULTS[text]


def read_inject(words: list[str], quantum_ns: int) -> Inject:
    """`KIND [field=value ...] [for=TIME]`. Raises CommandError or FaultError, which name the field."""
    kind, texts, duration_ns = read_kind(words[0]), dict[str, str](), None
    known = [field.name for field in fields_of(kind)]
    for word in words[1:]:
        name, equals, text = word.partition("=")
        if not equals or not text:
            raise CommandError(f"not a field: {word!r}", hint="write field=value, as in target=1")
        if name == DURATION:
            duration_ns = parse_duration(text, quantum_ns)
        elif name not in known:
            hint = f"its fields are: {', '.join(known) or 'none'}"
            raise CommandError(f"{words[0]} has no field {name!r}", hint=hint)
        elif name in texts:
            raise CommandError(f"{name} is given twice")
        else:
            texts[name] = text
    fault = make_fault(kind, texts, VMS_MAX)
    ScheduledFault(0, fault, duration_ns)
    return Inject(fault, duration_ns)


def give(bench: Bench, given: Input, text: str) -> None:
    """Give an input on a branch that owns its future, and write it into the script."""
    head = own_future(bench)
    if head.give(given) is None:
        raise GuestError("the machine took nothing of it", hint="let time pass, then try again")
    bench.script.unsaved_inputs += 1
    bench.script.wrote(text)


@dataclass(frozen=True, slots=True)
class Inject(EngineCommand):
    """A fault begins here."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    fault: Fault
    duration_ns: int | None = None

    @property
    def text(self) -> str:
        return inject_line(self.fault, self.duration_ns)

    def run(self, bench: Bench) -> None:
        self.fault.check(bench.vms)
        give(bench, FaultInput(self.fault, self.duration_ns), self.text)
        bench.say(self.text)


@dataclass(frozen=True, slots=True)
class Heal(EngineCommand):
    """Every fault ends here."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True

    @property
    def text(self) -> str:
        return "heal"

    def run(self, bench: Bench) -> None:
        give(bench, FaultInput(HealAll()), self.text)
        bench.say("every fault has ended")


@dataclass(frozen=True, slots=True)
class UseSchedule(EngineCommand):
    """The faults of a file are those to come."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    path: str

    @property
    def text(self) -> str:
        return f"schedule {quote(self.path)}"

    def run(self, bench: Bench) -> None:
        schedule = read_schedule(self.path)
        schedule.check(bench.vms)
        give(bench, ScheduleInput(schedule), self.text)
        bench.say(f"{len(schedule.faults)} faults to come, from {schedule.origin}")


def read_schedule(path: str) -> FaultSchedule:
    """A schedule's TOML file. Raises CommandError or FaultError."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CommandError(reason(error), where=quote(path), hint="give a schedule's TOML file") from None
    return FaultSchedule.from_toml(text, where=path)


@dataclass(frozen=True, slots=True)
class Reseed(EngineCommand):
    """Another future from here on: all random streams start anew."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    seed: int

    @property
    def text(self) -> str:
        return f"reseed {self.seed}"

    def run(self, bench: Bench) -> None:
        give(bench, SeedInput(self.seed), self.text)
        bench.say(f"random numbers go on from seed {self.seed}")


@dataclass(frozen=True, slots=True)
class AskAgent(EngineCommand):
    """A request to a machine's guest agent; its answer is an event."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    machine: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        return " ".join(["agent", str(self.machine), *map(quote, self.words)])

    def request(self) -> agent.Request:
        """What the words ask for. Raises CommandError."""
        match self.words:
            case ("ps",):
                return agent.ListProcesses()
            case ("signal", target) | ("signal", target, _):
                signal = self.words[2] if len(self.words) == 3 else str(SIGKILL)
                if not signal.isdecimal() or not 1 <= int(signal) <= 64:
                    raise CommandError(f"not a signal: {signal!r}", hint="write its number, 1 to 64")
                if target.isdecimal():
                    return agent.SignalPid(int(target), int(signal))
                return agent.SignalName(target, int(signal))
            case ("run", command):
                return agent.Run((agent.SHELL, "-c", command), AGENT_TIMEOUT_MS)
            case ("run", program, *arguments):
                return agent.Run((program, *arguments), AGENT_TIMEOUT_MS)
            case _:
                hint = 'write agent VM ps, agent VM signal NAME|PID [N], agent VM run "COMMAND"|PROGRAM WORD...'
                raise CommandError("agent: not a request", hint=hint)

    def run(self, bench: Bench) -> None:
        request = self.request()
        refuse_machine(bench, self.machine)
        if not bench.multiverse.machines[self.machine].config.has_agent_channel:
            raise GuestError(f"machine {self.machine} has no channel to a guest agent", hint="use a scenario that has")
        asked = sum(isinstance(given.input, AgentInput) for given in bench.multiverse.inputs_so_far())
        frame = agent.encode(AGENT_ID_FIRST + asked, request)
        give(bench, AgentInput(self.machine, frame), self.text)
        what = f" to run {request.argv[0]}" if isinstance(request, agent.Run) else ""
        number = AGENT_ID_FIRST + asked
        bench.say(f"asked the agent of vm{self.machine}{what}, request {number:#x}; its answer is an event")


__all__ = ["AskAgent", "Heal", "Inject", "Reseed", "UseSchedule", "read_inject", "read_schedule"]
