"""Modules: which file is where in an address space."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.errors import UsageError
from chaoscontrol.record import Record

from .mapped import image_in_memory
from .programs import Binary, binary_of

if TYPE_CHECKING:
    from .lines import LineSpan, SourceLine
    from .linux import Maps
    from .programs import GuestFiles
    from .space import Memory
    from .table import Place

KERNEL_NAME = "kernel"
NO_FILES = ("[heap]", "[stack]", "[vvar]")
START_BYTES_MAX = 64
"""The code at a program's entry point, which was called by nobody, is no longer than this."""


class Module(Record):
    """A file that is loaded."""

    name: str
    """`kernel`, a path in the guest, or `[vdso]`."""
    binary: Binary
    bias: int
    """What its addresses in memory are more than those in the file."""

    def place(self, address: int) -> Place | None:
        """The symbol that an address in memory is in; its own address is the file's."""
        return self.binary.symbols.find(address - self.bias)

    def span(self, address: int) -> LineSpan | None:
        """The source line of an address in memory, with the code around it, at addresses in memory."""
        span = self.binary.lines.span(address - self.bias)
        return None if span is None else span.replace(low=span.low + self.bias, high=span.high + self.bias)

    def line_addresses(self, file: str, line: int) -> list[tuple[int, SourceLine]]:
        """Where a line begins, at addresses in memory: of several places in a function, the first."""
        found: dict[str, tuple[int, SourceLine]] = {}
        for address, source in self.binary.lines.statements(file, line):
            place = self.binary.symbols.find(address)
            found.setdefault(place.symbol.name if place is not None else "", (address + self.bias, source))
        return list(found.values())

    def is_start(self, address: int) -> bool:
        """Is this the code that the program begins with?"""
        place = self.place(address)
        if place is not None:
            return place.symbol.name in ("_start", "_dlstart", "startup_64", "secondary_startup_64")
        return 0 <= address - self.bias - self.binary.entry < START_BYTES_MAX


class Modules:
    """The files of an address space, by address."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """Files that cannot be read."""

    def find(self, address: int) -> Module | None:
        raise NotImplementedError

    def loaded(self) -> list[Module]:
        """All of them."""
        raise NotImplementedError


class OneModule(Modules):
    """One file is all: a kernel, or a program without one."""

    def __init__(self, module: Module | None) -> None:
        super().__init__()
        self._module = module

    def find(self, address: int) -> Module | None:
        module = self._module
        return module if module is not None and module.binary.holds(address - module.bias) else None

    def loaded(self) -> list[Module]:
        return [] if self._module is None else [self._module]


class ProcessModules(Modules):
    """What a process has mapped: from the host's files, or from its memory where the host has none."""

    def __init__(self, maps: Maps, memory: Memory, files: GuestFiles) -> None:
        super().__init__()
        self._maps = maps
        self._memory = memory
        self._files = files
        self._found: dict[str, Module | None] = {}

    def find(self, address: int) -> Module | None:
        mapping = self._maps.find(address)
        return None if mapping is None else self._module(mapping.name)

    def loaded(self) -> list[Module]:
        names = dict.fromkeys(mapping.name for mapping in self._maps.mappings if "x" in mapping.rights)
        return [module for module in map(self._module, names) if module is not None]

    def _module(self, name: str) -> Module | None:
        if name not in self._found:
            self._found[name] = self._open(name)
        return self._found[name]

    def _open(self, name: str) -> Module | None:
        if not name or name in NO_FILES:
            return None
        pieces = [mapping for mapping in self._maps.mappings if mapping.name == name]
        binary = self._files.program(name)
        try:
            if binary is None:
                image = image_in_memory(self._memory, pieces, name)
                binary = None if image is None else binary_of(image, self._files.symbols_of(image))
            biases = [] if binary is None else [binary.image.bias_of_mapping(p.start, p.offset) for p in pieces]
        except UsageError as e:
            self.notes.append(str(e))
            return None
        bias = next((bias for bias in biases if bias is not None), None)
        return None if binary is None or bias is None else Module(name, binary, bias)
