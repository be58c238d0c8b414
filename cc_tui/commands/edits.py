"""The commands that change what a machine holds: its memory and registers. Nothing in the machine would do that.

Each is an input of the branch that it is given on; in the past they branch first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.faults import give
from cc_tui.commands.language import format_address, parse_address, parse_bytes, parse_number
from chaoscontrol.errors import AddressError
from chaoscontrol.registers import check_register
from chaoscontrol.timetravel import MemoryInput, RegisterInput

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.timetravel.cluster_api import Machine

PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class WriteMemory(EngineCommand):
    """Bytes of a machine's memory become others here."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    machine: int
    address: int
    physical: bool
    data: bytes

    @classmethod
    def read(cls, machine: int, address: str, data: str) -> WriteMemory:
        """From the words of a line. Raises CommandError."""
        return cls(machine, *parse_address(address), parse_bytes(data))

    @property
    def text(self) -> str:
        return f"write {self.machine} {format_address(self.address, physical=self.physical)} {self.data.hex()}"

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        pieces = self._pieces(bench.multiverse.machines[self.machine])
        for address, data in pieces:
            give(bench, MemoryInput(self.machine, address, data), write_line(self.machine, address, data))
        bench.say(self.text)

    def _pieces(self, machine: Machine) -> list[tuple[int, bytes]]:
        """What goes where in the machine's memory; all of it is there. Raises AddressError."""
        pieces: list[tuple[int, bytes]] = []
        at = 0
        while at < len(self.data):
            address = self.address + at
            size = min(PAGE_BYTES - address % PAGE_BYTES, len(self.data) - at)
            found = address if self.physical else machine.translate(address % (1 << 64))
            if not 0 <= found <= machine.config.memory_bytes - size:
                raise AddressError(f"{found:#x} is outside of the memory of vm{self.machine}")
            pieces.append((found, self.data[at : at + size]))
            at += size
        return pieces


def write_line(machine: int, address: int, data: bytes) -> str:
    """The command that writes at a physical address."""
    return WriteMemory(machine, address, True, data).text


@dataclass(frozen=True, slots=True)
class SetRegister(EngineCommand):
    """A register has another value here."""

    scripted: ClassVar[bool] = False
    acts: ClassVar[bool] = True
    machine: int
    name: str
    value: int

    @classmethod
    def read(cls, machine: int, name: str, value: str) -> SetRegister:
        """From the words of a line. Raises UsageError."""
        number = parse_number(value)
        check_register(name, number)
        return cls(machine, name, number)

    @property
    def text(self) -> str:
        return f"set {self.machine} {self.name} {self.value:#x}"

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        give(bench, RegisterInput(self.machine, self.name, self.value), self.text)
        bench.say(self.text)


__all__ = ["SetRegister", "WriteMemory", "write_line"]
