"""SymbolTable: names of addresses and addresses of names, by binary search.

A table is parsed once and then only read; shifted() gives the same table for a program loaded elsewhere, without copy.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from chaoscontrol.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

GAP_MAX = 1 << 20
"""An address further than this behind a symbol of no size is not part of it."""
LOOK_BACK_MAX = 32
"""Labels inside a function stand between its start and an address; so many symbols back its start is looked for."""


class Symbol(Record):
    """A named address of a kernel or program; size 0 where the file does not say."""

    name: str
    address: int
    size: int
    is_code: bool = True
    """A function, or a label of assembly code: not an object."""


class Place(Record):
    """Where an address is: so many bytes into a symbol."""

    symbol: Symbol
    offset: int

    def __str__(self) -> str:
        return f"{self.symbol.name}+{self.offset:#x}" if self.offset else self.symbol.name


class SymbolTable:
    """Symbols by address and by name; addresses are the file's plus a bias."""

    def __init__(self, found: Iterable[Symbol], bias: int = 0) -> None:
        self._symbols = sorted(found, key=_order)
        self._addresses = [symbol.address for symbol in self._symbols]
        self._names: dict[str, list[Symbol]] | None = None
        self._sorted_names: list[str] = []
        self._bias = bias

    def __len__(self) -> int:
        return len(self._symbols)

    @property
    def symbols(self) -> list[Symbol]:
        """All, by address."""
        return [self._placed(symbol) for symbol in self._symbols]

    def shifted(self, bias: int) -> SymbolTable:
        """The same symbols `bias` bytes further up than the file says."""
        self._index()
        other = SymbolTable((), bias)
        other._symbols, other._addresses = self._symbols, self._addresses
        other._names, other._sorted_names = self._names, self._sorted_names
        return other

    # ---- by name ----

    def lookup(self, name: str) -> list[Symbol]:
        """The symbols of this name, by address: static functions of different files may share one."""
        return [self._placed(symbol) for symbol in self._index().get(name, ())]

    def address(self, name: str) -> int | None:
        """The lowest address of this name."""
        found = self.lookup(name)
        return found[0].address if found else None

    def completions(self, prefix: str, most: int = 50) -> list[str]:
        """Up to `most` names that begin so, in order."""
        self._index()
        at = bisect_left(self._sorted_names, prefix)
        names: list[str] = []
        for name in self._sorted_names[at : at + most]:
            if not name.startswith(prefix):
                break
            names.append(name)
        return names

    def search(self, pattern: str, most: int = 1000) -> list[Symbol]:
        """Up to `most` symbols whose name has a match for a regular expression, by name. Raises re.error."""
        compiled = re.compile(pattern)
        names = self._index()
        found: list[Symbol] = []
        for name in self._sorted_names:
            if compiled.search(name):
                found += [self._placed(symbol) for symbol in names[name]]
            if len(found) >= most:
                break
        return found[:most]

    # ---- by address ----

    def find(self, address: int) -> Place | None:
        """The innermost symbol that an address is in."""
        address -= self._bias
        last = bisect_right(self._addresses, address) - 1
        open_ended: Symbol | None = None
        behind_an_end = False
        for at in range(last, max(last - LOOK_BACK_MAX, -1), -1):
            symbol = self._symbols[at]
            if symbol.size > address - symbol.address:
                return Place(self._placed(self._best_alias(at)), address - symbol.address)
            if symbol.size:
                behind_an_end = True  # labels further back ended there too
            elif open_ended is None and not behind_an_end:
                open_ended = symbol
        if open_ended is None or address - open_ended.address >= GAP_MAX:
            return None
        return Place(self._placed(open_ended), address - open_ended.address)

    def name(self, address: int) -> str:
        """`schedule+0x1a`, or the empty string."""
        place = self.find(address)
        return "" if place is None else str(place)

    # ---- inside ----

    def _best_alias(self, at: int) -> Symbol:
        """Of the symbols with this address and size, the one whose name a person would use: see _order."""
        symbol = self._symbols[at]
        while at and self._symbols[at - 1].address == symbol.address and self._symbols[at - 1].size == symbol.size:
            at -= 1
        return self._symbols[at]

    def _placed(self, symbol: Symbol) -> Symbol:
        return symbol.replace(address=symbol.address + self._bias) if self._bias else symbol

    def _index(self) -> dict[str, list[Symbol]]:
        if self._names is None:
            names: dict[str, list[Symbol]] = {}
            for symbol in self._symbols:
                names.setdefault(symbol.name, []).append(symbol)
            self._names, self._sorted_names = names, sorted(names)
        return self._names


def _order(symbol: Symbol) -> tuple[int, int, int, str]:
    """By address; of aliases, those without a size first, then those with few leading underscores first."""
    name = symbol.name
    return symbol.address, symbol.size, len(name) - len(name.lstrip("_")), name
