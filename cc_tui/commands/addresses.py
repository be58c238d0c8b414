"""Addresses as a person writes them, and commands that are about a machine, named or in focus."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.language import PHYSICAL, CommandError, parse_number

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench

_SYMBOL = re.compile(r"\*?(?P<name>[A-Za-z_.$][\w.$@]*)(?:\+(?P<offset>0x[0-9a-fA-F]{1,16}|\d{1,19}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it was written; it means something only with a kernel's symbols."""

    text: str

    @classmethod
    def read(cls, text: str) -> Address:
        """Raises CommandError for what can be no address."""
        if _SYMBOL.fullmatch(text) is None:
            parse_number(text.removeprefix(PHYSICAL).removeprefix("*"))
        return cls(text)

    @property
    def physical(self) -> bool:
        """Is it one of the machine's memory?"""
        return self.text.startswith(PHYSICAL)

    def find(self, bench: Bench) -> int:
        """The number. Raises CommandError for a symbol that is not there."""
        match = _SYMBOL.fullmatch(self.text)
        if match is None or self.physical:
            return parse_number(self.text.removeprefix(PHYSICAL).removeprefix("*"))
        found = bench.symbols().address(match["name"])
        if found is None:
            raise CommandError(f"the kernel has no symbol {match['name']!r}", hint="an address is written 0x1f")
        return found + parse_number(match["offset"] or "0")


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


__all__ = ["Address", "OnMachine"]
