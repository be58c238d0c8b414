"""Addresses as a person writes them, and commands that are about a machine, named or in focus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.language import PHYSICAL, CommandError, parse_number
from chaoscontrol.debug import Breakpoint
from chaoscontrol.watches import CODE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cc_tui.commands.bench import Bench
    from chaoscontrol.symbols.code_places import CodePlace, Loaded
    from chaoscontrol.symbols.programs import Binary

_SYMBOL = re.compile(
    r"\*?(?:(?P<module>[^:\s*]+):)?(?P<name>[A-Za-z_.$][\w.$@]*)(?:\+(?P<offset>0x[0-9a-fA-F]{1,16}|\d{1,19}))?",
    re.ASCII,
)
_LINE = re.compile(r"(?P<file>[^:\s]+):(?P<line>[1-9]\d{0,8})", re.ASCII)


class Spot(NamedTuple):
    """An address in a machine."""

    address: int
    cr3: int | None = None
    """Of the process that it is in; None: the kernel's, or a number."""
    about: str = ""
    """What is there, where the kernel's symbols do not say it."""
    line: int | None = None
    """Of the source, if a line was asked for: it may be a later one that has code."""
    code: bytes = b""
    """Of a program, which any process may run: what stands there if it is this program."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it was written; it means something only with the symbols of a kernel and of programs."""

    text: str

    @classmethod
    def read(cls, text: str) -> Address:
        """Raises CommandError for what can be no address."""
        is_number = text.startswith(PHYSICAL) or not (_SYMBOL.fullmatch(text) or _LINE.fullmatch(text))
        if is_number:
            parse_number(text.removeprefix(PHYSICAL).removeprefix("*"))
        return cls(text)

    @property
    def physical(self) -> bool:
        """Is it one of the machine's memory?"""
        return self.text.startswith(PHYSICAL)

    def find(self, bench: Bench, vm: int) -> int:
        """The number; of a program's, in the process that runs. Raises CommandError for a name that is not there."""
        spots = self.spots(bench, vm)
        if spots[0].cr3 is None:
            return spots[0].address
        running = bench.debugger.cr3(vm)
        here = next((spot for spot in spots if spot.cr3 == running), None)
        if here is None:
            raise CommandError(f"{spots[0].about} is not what runs here", hint="go to where it runs")
        return here.address

    def spots(self, bench: Bench, vm: int) -> list[Spot]:
        """All places that it means, at least one: programs are in several processes. Raises CommandError."""
        number = self._number()
        return [Spot(number)] if number is not None else self._named(bench, vm, ())

    def code_spots(self, bench: Bench, vm: int) -> list[Spot]:
        """As `spots`, of code: programs at fixed addresses are where they are, running or not. Raises CommandError."""
        number = self._number()
        if number is not None:
            return [Spot(number)]
        from chaoscontrol.symbols.code_places import fixed_modules  # not needed for numbers

        return self._named(bench, vm, list(fixed_modules(bench.files())))

    def _number(self) -> int | None:
        if self.physical or not (_LINE.fullmatch(self.text) or _SYMBOL.fullmatch(self.text)):
            return parse_number(self.text.removeprefix(PHYSICAL).removeprefix("*"))
        return None

    def _named(self, bench: Bench, vm: int, fixed: Sequence[Loaded]) -> list[Spot]:
        """The places of a name, those in `fixed` for any process. Raises CommandError."""
        from chaoscontrol.symbols.code_places import loaded_modules, places_of_line, places_of_symbol

        line, symbol = _LINE.fullmatch(self.text), _SYMBOL.fullmatch(self.text)
        if symbol is not None and not symbol["module"]:
            known = bench.symbols().address(symbol["name"])
            if known is not None:
                return [Spot(known + parse_number(symbol["offset"] or "0"))]
        binaries = {module.name: module.binary for module, _ in fixed}
        loaded = (entry for entry in loaded_modules(bench.reader(vm)) if entry[0].name not in binaries)
        modules = chain(fixed, loaded)
        if line is not None:
            found, offset = places_of_line(modules, line["file"], int(line["line"])), 0
        else:
            assert symbol is not None, "it is one or the other"
            found = places_of_symbol(modules, symbol["name"], symbol["module"] or "")
            offset = parse_number(symbol["offset"] or "0")
        if not found:
            what = "source line" if line is not None else "symbol"
            raise CommandError(
                f"neither the kernel nor a process of vm{vm} has the {what} {self.text!r}",
                hint="an address is written 0x1f; go to where the program runs",
            )
        return [_spot(place, offset, self.text, binaries.get(place.module)) for place in found]


def _spot(place: CodePlace, offset: int, text: str, fixed: Binary | None) -> Spot:
    what = text if place.source is None else str(place.source)
    line = None if place.source is None else place.source.line
    address = place.address + offset
    if fixed is not None:
        return Spot(address, None, f"{what} in {place.module}", line, fixed.code(address, CODE_BYTES_MAX))
    if place.process is None:
        return Spot(address, None, what if place.source is not None else "", line)
    return Spot(
        address, place.process.cr3, f"{what} in {place.module} of {place.process.name} {place.process.pid}", line
    )


@dataclass(frozen=True, slots=True)
class OnMachine(EngineCommand):
    """A command about a machine; None: the one in focus."""

    scripted: ClassVar[bool] = False
    machine: int | None

    def vm(self, bench: Bench) -> int:
        """Its number. Raises CommandError."""
        refuse_machine(bench, self.machine)
        return bench.focus if self.machine is None else self.machine

    def words(self, name: str, *rest: str) -> str:
        """The line."""
        return " ".join([name, *([] if self.machine is None else [f"vm{self.machine}"]), *rest])


def breakpoint_at(vm: int, spot: Spot, *, physical: bool = False) -> Breakpoint:
    """Where the instruction at a spot is about to be executed."""
    return Breakpoint(vm, spot.address, physical=physical, cr3=spot.cr3, user=bool(spot.code), code=spot.code)


__all__ = ["Address", "OnMachine", "Spot", "breakpoint_at"]
