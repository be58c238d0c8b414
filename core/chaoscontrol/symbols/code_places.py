"""Where code is that a person names: a source line or a function, of the kernel or of any process's programs.

A program is where it is in the processes that have it mapped now, so a place says which process it is for: several may
have the same program, and other programs stand at the same addresses. A program that is not relocatable is where its
file says, whether it runs yet, runs again, or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from chaoscontrol.record import Record

from .lines import SourceLine, is_end_of_path
from .modules import Module

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .linux import Task
    from .programs import GuestFiles
    from .stacks import StackReader

    Loaded: TypeAlias = tuple[Module, Task | None]
    """A file, and the process that it is in; None: the kernel, or whatever process runs it."""


class CodePlace(Record):
    """One place."""

    address: int
    module: str
    source: SourceLine | None
    """The line that begins there, if a line was asked for."""
    process: Task | None
    """The process that it is in; None: it is the kernel's, or a program's wherever it runs."""


def places_of_line(modules: Iterable[Loaded], file: str, line: int) -> list[CodePlace]:
    """Where a line's code begins, in the order of the modules.

    file: the end of its path. Of a line without code it is the next one that has some.
    """
    found = [
        CodePlace(address, module.name, source, task)
        for module, task in modules
        for address, source in module.line_addresses(file, line)
    ]
    lowest = min((place.source.line for place in found if place.source is not None), default=0)
    return [place for place in found if place.source is not None and place.source.line == lowest]


def places_of_symbol(modules: Iterable[Loaded], name: str, path: str = "") -> list[CodePlace]:
    """Where a symbol is, in the order of the modules. path: the end of a module's, or `kernel`; nothing: any."""
    found: list[CodePlace] = []
    for module, task in modules:
        address = module.binary.symbols.address(name) if not path or is_end_of_path(path, module.name) else None
        if address is not None:
            found.append(CodePlace(address + module.bias, module.name, None, task))
    return found


def loaded_modules(reader: StackReader) -> Iterator[Loaded]:
    """Every file that is mapped, once per address space: the kernel first, then by process as they were started."""
    for module in reader.kernel.modules.loaded():
        yield module, None
    seen = set[int]()
    for task in reader.linux.tasks().processes if reader.linux is not None else ():
        if task.mm and task.mm not in seen:
            seen.add(task.mm)
            for module in reader.process(task).modules.loaded():
                yield module, task


def fixed_modules(files: GuestFiles) -> Iterator[Loaded]:
    """The programs of the guest's files that are always at the addresses of their files."""
    for path in files.paths():
        binary = files.program(path)
        if binary is not None and not binary.image.is_relocatable:
            yield Module(path, binary, 0), None
