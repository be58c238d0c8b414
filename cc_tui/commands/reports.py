"""The commands that only look: what a pane shows in the interface, as lines and as values. They change nothing."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.addresses import OnMachine
from cc_tui.commands.edits import PAGE_BYTES
from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.language import CommandError
from chaoscontrol.events import EventKind
from chaoscontrol.flags import BITS, flag_names
from chaoscontrol.registers import GPR_NAMES, check_register
from chaoscontrol.timetravel import describe, format_seconds

if TYPE_CHECKING:
    from cc_tui.commands.addresses import Address
    from cc_tui.commands.bench import Bench
    from chaoscontrol.events import Event
    from chaoscontrol.oracle import PropertyResult

LINES_SHOWN = 20
EXAMINED_MAX = 1 << 16
"""Bytes that one command shows."""
_ROW_BYTES = 16


class Look(EngineCommand):
    """A command that only looks."""

    scripted: ClassVar[bool] = False

    @abstractmethod
    def run(self, bench: Bench) -> None:
        """Answer."""


@dataclass(frozen=True, slots=True)
class ShowConsole(Look):
    """The last lines of a machine's console."""

    machine: int
    count: int = LINES_SHOWN

    @property
    def text(self) -> str:
        return f"console vm{self.machine}" + ("" if self.count == LINES_SHOWN else f" {self.count}")

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        log, total = bench.multiverse.consoles()[self.machine], bench.multiverse.console_totals[self.machine]
        begun = log.lines_begun(total)
        shown = range(max(begun - self.count, 0), begun)
        texts = [log.line_bytes(line, total).decode(errors="replace").rstrip("\r\n") for line in shown]
        rows = [
            {"line": line + 1, "vns": log.line_vns(line), "text": text} for line, text in zip(shown, texts, strict=True)
        ]
        bench.answer(texts, {"machine": self.machine, "lines": rows})


@dataclass(frozen=True, slots=True)
class ShowInputs(Look):
    """The inputs of the cursor's line of history."""

    @property
    def text(self) -> str:
        return "inputs"

    def run(self, bench: Bench) -> None:
        given = bench.multiverse.inputs()
        lines = [f"{format_seconds(one.at.vns)} {describe(one.input)}" for one in given]
        rows = [{"vns": one.at.vns, "ordinal": one.at.ordinal, "text": describe(one.input)} for one in given]
        bench.answer(lines or ["no inputs"], rows)


@dataclass(frozen=True, slots=True)
class ShowEvents(Look):
    """The last events by the cursor."""

    count: int = LINES_SHOWN
    kind: str | None = None

    @property
    def text(self) -> str:
        words = ["events"]
        words += [] if self.count == LINES_SHOWN else [str(self.count)]
        words += [] if self.kind is None else [self.kind]
        return " ".join(words)

    def run(self, bench: Bench) -> None:
        numbered = enumerate(bench.multiverse.events_so_far(), 1)
        chosen = [(number, event) for number, event in numbered if self.kind is None or event.kind == self.kind]
        chosen = chosen[-self.count :]
        width = len(str(chosen[-1][0])) if chosen else 0
        lines = [f"#{number:<{width}} {event_line(event)}" for number, event in chosen]
        rows = [{"number": number} | event_row(event) for number, event in chosen]
        bench.answer(lines or ["nothing has happened"], rows)


def event_row(event: Event) -> dict[str, object]:
    """An event for a program."""
    return {"vns": event.vns, "vm": event.vm, "instret": event.instret, "kind": event.kind.value, "text": event.text}


def event_line(event: Event) -> str:
    """An event for a person."""
    who = f"vm{event.vm}" if event.vm >= 0 else "-"
    return f"{format_seconds(event.vns)} {who:5} {event.kind:8} {event.text}"


def read_events(words: list[str]) -> ShowEvents:
    """`[N] [KIND]`, in any order. Raises CommandError."""
    count, kind = LINES_SHOWN, None
    for word in words:
        if word.isdecimal() and int(word) and len(word) < 10:
            count = int(word)
        elif word in tuple(EventKind):
            kind = word
        else:
            raise CommandError(f"events: no kind {word!r}", hint=f"there are {', '.join(EventKind)}")
    return ShowEvents(count, kind)


@dataclass(frozen=True, slots=True)
class ShowProperties(Look):
    """How the properties stand at the cursor."""

    @property
    def text(self) -> str:
        return "properties"

    def run(self, bench: Bench) -> None:
        results = bench.multiverse.witness.report(bench.multiverse.position.vns).results
        rows = [
            {
                "name": result.name, "kind": result.kind.value, "verdict": result.verdict.value,
                "passes": result.passes, "fails": result.fails, "details": result.details,
            }
            for result in results
        ]  # fmt: skip
        bench.answer([_property_line(result) for result in results] or ["no properties"], rows)


def _property_line(result: PropertyResult) -> str:
    where = f" at {result.counterexample}" if result.counterexample is not None else ""
    return f"{result.verdict:9} {result.kind:12} {result.name}{where}"


@dataclass(frozen=True, slots=True)
class ShowRegisters(OnMachine):
    """The registers of a machine."""

    names: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.words("registers", *self.names)

    def run(self, bench: Bench) -> None:
        registers = bench.multiverse.machines[self.vm(bench)].registers()
        names = self.names or ("rip", "rflags", *GPR_NAMES, "cr0", "cr2", "cr3", "cr4", "efer", "fs_base", "gs_base")
        values = {name: registers.value(name) for name in names}
        lines = [
            f"{name:8} {value:#x}  {flag_names(name, value)}" if name in BITS else f"{name:8} {value:#x}"
            for name, value in values.items()
        ]
        bench.answer([line.rstrip() for line in lines], {name: hex(value) for name, value in values.items()})


def read_registers(machine: int | None, names: list[str]) -> ShowRegisters:
    """Raises UsageError for a register that is not there."""
    for name in names:
        check_register(name)
    return ShowRegisters(machine, tuple(names))


@dataclass(frozen=True, slots=True)
class Examine(OnMachine):
    """Bytes of a machine's memory."""

    address: Address
    size: int = 64

    @property
    def text(self) -> str:
        return self.words("x", self.address.text, str(self.size))

    def run(self, bench: Bench) -> None:
        if self.size > EXAMINED_MAX:
            raise CommandError(f"{self.size} bytes are too many", hint=f"give {EXAMINED_MAX} at most")
        vm = self.vm(bench)
        machine, address = bench.multiverse.machines[vm], self.address.find(bench, vm)
        data, at = b"", address
        while len(data) < self.size:
            size = min(PAGE_BYTES - at % PAGE_BYTES, self.size - len(data))
            data += machine.read_memory(at % (1 << 64), size, virtual=not self.address.physical)
            at += size
        rows = hex_rows(data, address, 18)
        bench.answer(rows, {"address": hex(address), "physical": self.address.physical, "hex": data.hex()})


def hex_rows(data: bytes, address: int = 0, digits: int = 6) -> list[str]:
    """Bytes for a person, 16 a row, each with the address of its first in so many characters."""
    return [
        f"{address + at:#0{digits}x}  {row.hex(' '):{_ROW_BYTES * 3}} {_printable(row)}"
        for at in range(0, len(data), _ROW_BYTES)
        for row in (data[at : at + _ROW_BYTES],)
    ]


def _printable(data: bytes) -> str:
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)


__all__ = [
    "Examine", "Look", "ShowConsole", "ShowEvents", "ShowInputs", "ShowProperties", "ShowRegisters", "event_line",
    "event_row", "hex_rows", "read_events", "read_registers",
]  # fmt: skip
