"""The commands that look into a guest: its code, its symbols, its processes and their memory. They change nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cc_tui.commands.addresses import Address, OnMachine
from cc_tui.commands.language import CommandError, quote
from cc_tui.symbols import load_layout
from chaoscontrol.errors import GuestError
from chaoscontrol.symbols.space import AddressSpace, PhysicalMemory, search

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.symbols.linux import LinuxGuest
    from chaoscontrol.symbols.space import Memory

INSTRUCTIONS_SHOWN = 10
FOUND_SHOWN = 100


def space(bench: Bench, vm: int) -> Memory:
    """Virtual memory as the machine sees it now; physical while paging is off."""
    machine = bench.multiverse.machines[vm]
    registers = machine.registers()
    physical = PhysicalMemory(machine, machine.config.memory_bytes)
    return AddressSpace(physical, registers.cr3) if registers.cr0 >> 31 else physical


@dataclass(frozen=True, slots=True)
class Disassemble(OnMachine):
    """Instructions from an address on; None: from where the machine is."""

    address: Address | None = None
    count: int = INSTRUCTIONS_SHOWN

    @property
    def text(self) -> str:
        return self.words("disassemble", "rip" if self.address is None else self.address.text, str(self.count))

    def run(self, bench: Bench) -> None:
        from chaoscontrol.symbols.disassembly import Disassembler  # capstone takes long to import

        vm = self.vm(bench)
        rip = bench.multiverse.machines[vm].registers().rip
        address = rip if self.address is None else self.address.find(bench, vm)
        symbols = bench.symbols()
        found = Disassembler(symbols.name).at(space(bench, vm), address, self.count)
        lines = [
            f"{'=>' if one.address == rip else '  '} {one.address:#x} <{symbols.name(one.address)}>  {one.text}"
            for one in found
        ]
        rows = [{"address": hex(one.address), "bytes": one.data.hex(), "text": one.text} for one in found]
        bench.answer(lines or [f"nothing can be read at {address:#x}"], rows)


@dataclass(frozen=True, slots=True)
class ShowSymbol(OnMachine):
    """What is at an address, and where a symbol is."""

    address: Address

    @property
    def text(self) -> str:
        return self.words("symbol", self.address.text)

    def run(self, bench: Bench) -> None:
        address = self.address.find(bench, self.vm(bench))
        name = bench.symbols().name(address)
        bench.answer([f"{address:#x} {name or 'is in no symbol'}"], {"address": hex(address), "symbol": name})


@dataclass(frozen=True, slots=True)
class SearchMemory(OnMachine):
    """Where bytes stand in a machine's physical memory."""

    pattern: bytes
    written: str

    @property
    def text(self) -> str:
        return self.words("search", quote(self.written))

    def run(self, bench: Bench) -> None:
        machine = bench.multiverse.machines[self.vm(bench)]
        found = search(PhysicalMemory(machine, machine.config.memory_bytes), self.pattern, most=FOUND_SHOWN)
        lines = [f"phys:{address:#x}" for address in found.addresses]
        lines += [] if found.complete else [found.note or "and more"]
        bench.answer(lines or ["nowhere"], [hex(address) for address in found.addresses])


def linux_of(bench: Bench, vm: int) -> LinuxGuest:
    """The Linux in a machine, to be read. Raises GuestError, UsageError."""
    from chaoscontrol.symbols.linux import LinuxGuest

    if bench.kernel is None:
        raise GuestError("the kernel's file is not known", hint="processes are read with its symbols")
    machine = bench.multiverse.machines[vm]
    return LinuxGuest(machine, machine.config.memory_bytes, bench.symbols(), load_layout(bench.kernel))


@dataclass(frozen=True, slots=True)
class ShowProcesses(OnMachine):
    """The processes of a Linux guest, read from its memory."""

    @property
    def text(self) -> str:
        return self.words("ps")

    def run(self, bench: Bench) -> None:
        found = linux_of(bench, self.vm(bench)).tasks()
        lines = [
            f"{'*' if task.is_current else ' '} {task.pid:6} {task.parent:6} {task.state:12} {task.name}"
            for task in found.processes
        ]
        rows = [
            {"pid": task.pid, "parent": task.parent, "state": task.state, "name": task.name, "current": task.is_current}
            for task in found.processes
        ]
        bench.answer([*lines, *found.notes] or ["no processes"], rows)


@dataclass(frozen=True, slots=True)
class ShowMaps(OnMachine):
    """The address space of a process of a Linux guest, as in /proc/PID/maps."""

    pid: int

    @property
    def text(self) -> str:
        return self.words("maps", str(self.pid))

    def run(self, bench: Bench) -> None:
        guest = linux_of(bench, self.vm(bench))
        tasks = guest.tasks()
        task = tasks.find(self.pid)
        if task is None:
            why = f" ({'; '.join(tasks.notes)})" if tasks.notes else ""
            raise CommandError(f"there is no process {self.pid}{why}", hint="`ps` lists them")
        maps = guest.maps(task)
        lines = list(map(str, maps.mappings))
        bench.answer([*lines, *maps.notes], lines)


__all__ = ["Disassemble", "SearchMemory", "ShowMaps", "ShowProcesses", "ShowSymbol", "linux_of"]
