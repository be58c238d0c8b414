"""ElfImage: an ELF file as a debugger sees it: sections, loadable segments, symbols, and where it was loaded.

Promises that a file which is no ELF, or a damaged one, raises UsageError naming it, whatever pyelftools makes of it.
Everything is read on demand and once; a kernel's 23 000 symbols take 0.1 s.
"""

from __future__ import annotations

import io
import struct
from functools import cached_property
from typing import TYPE_CHECKING, Any

from elftools.common.exceptions import DWARFError, ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from chaoscontrol.errors import UsageError
from chaoscontrol.loader import KERNEL_VADDR_MIN, Source, read_source
from chaoscontrol.record import Record

from .kallsyms import read_kallsyms
from .table import Symbol, SymbolTable

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_FAULTS = (
    *(ELFError, DWARFError, ConstructError, struct.error, NotImplementedError),
    *(ValueError, LookupError, AttributeError, TypeError, AssertionError, ArithmeticError, MemoryError, RecursionError),
)
"""What reading a damaged file through pyelftools can raise."""

_SYM = struct.Struct("<IBBHQQ")
_OBJECT, _FUNC, _IFUNC = 1, 2, 10
_NAMED_TYPES = (0, _OBJECT, _FUNC, _IFUNC)
_SHN_ABS = 0xFFF1
_PT_LOAD = "PT_LOAD"


class LoadSegment(Record):
    """One PT_LOAD program header."""

    file_offset: int
    file_bytes: int
    vaddr: int
    memory_bytes: int
    executable: bool


class ElfImage:
    """A program, shared library, kernel, or a file with their symbols alone."""

    def __init__(self, source: Source, what: str = "program") -> None:
        """`source`: a path or bytes, plain or zstd-compressed; `what`: what to call bytes. Raises UsageError."""
        self.name, data = read_source(source, what)
        self.data = bytes(data)
        try:
            self.elf: Any = ELFFile(io.BytesIO(self.data))
            self._machine: str = self.elf.header["e_machine"]
            self._type: str = self.elf.header["e_type"]
        except FILE_FAULTS as e:
            raise self.damaged(e) from None
        if self._machine != "EM_X86_64":
            raise UsageError(f"is for another processor ({self._machine})", where=self.name, hint="give an x86-64 file")

    def damaged(self, fault: BaseException) -> UsageError:
        """The exception to raise for one of FILE_FAULTS."""
        return UsageError(
            f"is not a readable ELF file ({type(fault).__name__}: {fault})",
            where=self.name,
            hint="give a vmlinux, a program, or a file with their symbols",
        )

    @property
    def is_relocatable(self) -> bool:
        """Loaded at any address: a shared library, or a program that was linked as PIE."""
        return self._type == "ET_DYN"

    def section(self, name: str) -> bytes | None:
        """A section's bytes, decompressed; None where there are none. Raises UsageError."""
        try:
            found = self.elf.get_section_by_name(name)
            return None if found is None or found["sh_type"] == "SHT_NOBITS" else bytes(found.data())
        except FILE_FAULTS as e:
            raise self.damaged(e) from None

    def section_address(self, name: str) -> int | None:
        """Where a section is loaded, by the file."""
        try:
            found = self.elf.get_section_by_name(name)
            return None if found is None else int(found["sh_addr"])
        except FILE_FAULTS as e:
            raise self.damaged(e) from None

    @cached_property
    def segments(self) -> list[LoadSegment]:
        """What is loaded, by address."""
        try:
            found = [
                LoadSegment(
                    int(s["p_offset"]), int(s["p_filesz"]), int(s["p_vaddr"]), int(s["p_memsz"]), bool(s["p_flags"] & 1)
                )
                for s in self.elf.iter_segments(_PT_LOAD)
            ]
        except FILE_FAULTS as e:
            raise self.damaged(e) from None
        return sorted(found, key=lambda s: s.vaddr)

    def bias_of_mapping(self, start: int, file_offset: int) -> int | None:
        """What is to be added to the file's addresses, by where the kernel mapped a piece of it.

        start, file_offset: a mapping as /proc/PID/maps prints it. None if no segment of this file has that offset.
        """
        for segment in self.segments:
            into = file_offset - (segment.file_offset & ~0xFFF)
            if 0 <= into < max(segment.file_bytes + (segment.file_offset & 0xFFF), 1):
                return start - into - (segment.vaddr & ~0xFFF)
        return None

    @cached_property
    def symbols(self) -> SymbolTable:
        """The functions, objects and labels of .symtab, or of .dynsym in a stripped file. Raises UsageError.

        Of a stripped kernel those that it carries for itself.
        """
        try:
            for name in (".symtab", ".dynsym"):
                table = self.elf.get_section_by_name(name)
                if table is not None and table["sh_type"] != "SHT_NOBITS":
                    return SymbolTable(_read_symbols(bytes(table.data()), bytes(table.stringtable.data())))
        except FILE_FAULTS as e:
            raise self.damaged(e) from None
        is_kernel = any(segment.vaddr >= KERNEL_VADDR_MIN for segment in self.segments)
        return SymbolTable(read_kallsyms(self.data) if is_kernel else ())


def _read_symbols(entries: bytes, names: bytes) -> Iterator[Symbol]:
    """By struct: pyelftools' own iteration takes 4 s for a kernel's symbols."""
    for at, info, _, section, address, size in _SYM.iter_unpack(entries):
        kind = info & 0xF
        if at and section and kind in _NAMED_TYPES and not (section == _SHN_ABS and kind == 0):
            name = names[at : names.index(b"\0", at)].decode(errors="replace")
            yield Symbol(name, address, size, kind != _OBJECT)


def read_symbols(source: Source, what: str = "kernel") -> SymbolTable:
    """The symbols of an ELF file, empty if it was stripped. Raises UsageError for files that are not ELF."""
    return ElfImage(source, what).symbols
