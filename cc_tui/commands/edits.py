"""The commands that change what a machine holds: its memory and registers. Nothing in the machine would do that.

Each is an input of the branch that it is given on; in the past they branch first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.faults import give
from cc_tui.commands.language import CommandError
from chaoscontrol.errors import AddressError
from chaoscontrol.registers import EDITABLE
from chaoscontrol.timetravel import MemoryInput, RegisterInput

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.timetravel.cluster_api import Machine

PHYSICAL = "phys:"
"""Before an address: it is one of the machine's memory, not of what runs."""
PAGE_BYTES = 4096

_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,32}|\d{1,39}")


def read_number(text: str) -> int:
    """`0x1f` or `31`. Raises CommandError."""
    if _NUMBER.fullmatch(text) is None:
        raise CommandError(f"not a number: {text!r}", hint="write 31 or 0x1f")
    return int(text, 0) if text.startswith("0x") else int(text)


@dataclass(frozen=True, slots=True)
class WriteMemory(EngineCommand):
    """Bytes of a machine's memory become others here."""

    scripted: ClassVar[bool] = False
    machine: int
    address: int
    physical: bool
    data: bytes

    @classmethod
    def read(cls, machine: int, address: str, data: str) -> WriteMemory:
        """From the words of a line. Raises CommandError."""
        physical = address.startswith(PHYSICAL)
        if _HEX.fullmatch(data) is None:
            raise CommandError(f"not bytes: {data!r}", hint="write pairs of hexadecimal digits, as in 90cc")
        return cls(machine, read_number(address.removeprefix(PHYSICAL)), physical, bytes.fromhex(data))

    @property
    def text(self) -> str:
        prefix = PHYSICAL if self.physical else ""
        return f"write {self.machine} {prefix}{self.address:#x} {self.data.hex()}"

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
    machine: int
    name: str
    value: int

    @classmethod
    def read(cls, machine: int, name: str, value: str) -> SetRegister:
        """From the words of a line. Raises CommandError."""
        if name not in EDITABLE:
            raise CommandError(f"no register {name!r} can be set", hint=f"those can: {', '.join(EDITABLE)}")
        number = read_number(value)
        if number >> EDITABLE[name]:
            raise CommandError(f"{name} cannot be {value}", hint=f"it has {EDITABLE[name]} bits")
        return cls(machine, name, number)

    @property
    def text(self) -> str:
        return f"set {self.machine} {self.name} {self.value:#x}"

    def run(self, bench: Bench) -> None:
        refuse_machine(bench, self.machine)
        give(bench, RegisterInput(self.machine, self.name, self.value), self.text)
        bench.say(self.text)


__all__ = ["PHYSICAL", "SetRegister", "WriteMemory", "read_number", "write_line"]
