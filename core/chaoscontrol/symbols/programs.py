"""The ELF files of a guest, and what is parsed of them: symbols, call frames, source lines.

    Binary       one file, with the file of its symbols if there is one; parsed on demand and once per contents
    GuestFiles   the files that the host has of a guest: its kernel, the programs of its initramfs, symbols beside them

Damaged files are told in notes, never raised: a debugger shows what it can.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import TYPE_CHECKING

from chaoscontrol.errors import UsageError
from chaoscontrol.images import kernel_symbols_path
from chaoscontrol.loader import read_source

from .cfi import CallFrames, Row
from .cpio import read_files
from .dwarf_data import DwarfError
from .elf import FILE_FAULTS, ElfImage
from .layout import Layout, layout_of
from .lines import LineTable
from .orc import OrcTable, orc_table
from .table import Symbol, SymbolTable

if TYPE_CHECKING:
    from chaoscontrol.loader import Source

BINARIES_KEPT = 64
ROWS_KEPT = 1 << 14
SYMBOL_SUFFIXES = (".sym", ".sym.zst", ".debug")
"""Of files with symbols, which lie beside an initramfs."""


class Binary:
    """One ELF file. Addresses are the file's."""

    def __init__(self, image: ElfImage, debug: ElfImage | None = None) -> None:
        """`debug`: the same file's symbols, if it was stripped."""
        self.image = image
        self._debug = debug
        self._rows: dict[int, Row | None] = {}
        self.notes: list[str] = []
        """What could not be read."""

    @functools.cached_property
    def _sources(self) -> list[ElfImage]:
        return [self.image] if self._debug is None else [self._debug, self.image]

    @functools.cached_property
    def symbols(self) -> SymbolTable:
        """From the file of symbols, else its own, else those that its dynamic linker needs."""
        for image in self._sources:
            try:
                found = image.symbols
            except UsageError as e:
                self.notes.append(str(e))
                continue
            if len(found):
                return found
        return SymbolTable(_dynamic_symbols(self.image))

    @functools.cached_property
    def call_frames(self) -> list[CallFrames]:
        """Of .eh_frame and of .debug_frame."""
        found: list[CallFrames] = []
        for image in self._sources:
            for name in (".eh_frame", ".debug_frame"):
                try:
                    section = image.section(name)
                    if section:
                        is_eh = name == ".eh_frame"
                        found.append(CallFrames(section, is_eh=is_eh, address=image.section_address(name) or 0))
                except UsageError as e:
                    self.notes.append(str(e))
        if not any(found):
            found += _mapped_frames(self.image)
        return [frames for frames in found if len(frames)]

    def row(self, address: int) -> Row | None:
        """The rules for the caller of an address, which are not to be changed; None where nothing is known."""
        if address not in self._rows:
            if len(self._rows) >= ROWS_KEPT:
                self._rows.clear()
            self._rows[address] = self._find_row(address)
        return self._rows[address]

    def _find_row(self, address: int) -> Row | None:
        for frames in self.call_frames:
            try:
                row = frames.row(address)
            except DwarfError as e:
                self.notes.append(f"{self.image.name}: its call frame information of {address:#x} is damaged: {e}")
                continue
            if row is not None:
                return row
        return None

    @functools.cached_property
    def orc(self) -> OrcTable | None:
        """A kernel's own tables."""
        try:
            return orc_table(self.image)
        except UsageError as e:
            self.notes.append(str(e))
            return None

    @functools.cached_property
    def lines(self) -> LineTable:
        """Its source lines; empty if it was compiled without."""
        return next((LineTable(image) for image in self._sources if _has_lines(image)), LineTable(self.image))

    @functools.cached_property
    def entry(self) -> int:
        """Where it begins."""
        return int(self.image.elf.header["e_entry"])

    def code(self, address: int, size: int) -> bytes:
        """The file's bytes that are loaded at an address, as far as they go."""
        for s in self.image.segments:
            into = address - s.vaddr
            if 0 <= into < s.file_bytes:
                return self.image.data[s.file_offset + into :][: min(size, s.file_bytes - into)]
        return b""

    def holds(self, address: int) -> bool:
        """Is the address in what is loaded of it?"""
        return any(s.vaddr <= address < s.vaddr + s.memory_bytes for s in self.image.segments)


def _has_lines(image: ElfImage) -> bool:
    try:
        return image.section(".debug_line") is not None
    except UsageError:
        return False


def _dynamic_symbols(image: ElfImage) -> list[Symbol]:
    """The symbols that the dynamic section leads to: of files without section headers."""
    try:
        for segment in image.elf.iter_segments("PT_DYNAMIC"):
            return [
                Symbol(symbol.name, symbol["st_value"], symbol["st_size"], symbol["st_info"]["type"] != "STT_OBJECT")
                for symbol in segment.iter_symbols()
                if symbol["st_value"] and symbol["st_shndx"] != "SHN_UNDEF"
            ]
    except FILE_FAULTS:
        pass
    return []


def _mapped_frames(image: ElfImage) -> list[CallFrames]:
    """The .eh_frame that PT_GNU_EH_FRAME leads to: of files without section headers."""
    try:
        for segment in image.elf.iter_segments("PT_GNU_EH_FRAME"):
            header, at = segment.data(), int(segment["p_vaddr"])
            if header[:2] != b"\x01\x1b":  # version 1, the address is pcrel | sdata4, as every linker writes it
                return []
            address = at + 4 + int.from_bytes(header[4:8], "little", signed=True)
            for load in image.segments:
                if load.vaddr <= address < load.vaddr + load.file_bytes:
                    begin = load.file_offset + address - load.vaddr
                    data = image.data[begin : load.file_offset + load.file_bytes]
                    return [CallFrames(data, is_eh=True, address=address)]
    except FILE_FAULTS:
        pass
    return []


# ---- one parse per contents -----------------------------------------------------------------------------------------

_kept: dict[tuple[bytes, bytes], Binary] = {}


def binary_of(image: ElfImage, debug: ElfImage | None = None) -> Binary:
    """The binary of these contents, made once; the ones used last are kept."""
    key = _digest(image), b"" if debug is None else _digest(debug)
    found = _kept.pop(key, None)
    if found is None:
        found = Binary(image, debug)
        while len(_kept) >= BINARIES_KEPT:
            del _kept[next(iter(_kept))]
    _kept[key] = found
    return found


def forget() -> None:
    """Parse everything anew."""
    _kept.clear()


def _digest(image: ElfImage) -> bytes:
    return hashlib.sha256(image.data).digest()


# ---- the host's files -----------------------------------------------------------------------------------------------


class GuestFiles:
    """What the host has of a guest's files. Read when first wanted; the same for every machine that runs them."""

    def __init__(self, kernel: Source | None = None, initramfs: Source | None = None) -> None:
        """Never raises: files that cannot be read are in notes, once they were wanted."""
        self.kernel_source = kernel
        self._initramfs = initramfs
        self._added: list[ElfImage] = []
        self._programs: dict[str, Binary | None] = {}
        self.notes: list[str] = []

    def add_symbols(self, source: Source) -> ElfImage:
        """A file with symbols of some program, or the program itself with them. Raises UsageError."""
        image = ElfImage(source)
        self._added.append(image)
        self._programs.clear()
        return image

    @functools.cached_property
    def kernel(self) -> Binary | None:
        """The kernel; of the included one what stands beside it, which has symbols and call frames."""
        source = self.kernel_source
        if source is None:
            return None
        try:
            file = source if isinstance(source, bytes) else kernel_symbols_path(os.fsdecode(source))
            return binary_of(ElfImage(file, "kernel"))
        except UsageError as e:
            self.notes.append(str(e))
            return None

    @functools.cached_property
    def layout(self) -> Layout | None:
        """Where the kernel's structures have what; None where that is not known."""
        if self.kernel_source is None:
            return None
        try:
            return layout_of(ElfImage(self.kernel_source, "kernel"))
        except UsageError as e:
            self.notes.append(str(e))
            return None

    @functools.cached_property
    def _files(self) -> dict[str, bytes]:
        """The ELF files of the initramfs, by path; a later one replaces an earlier one."""
        if self._initramfs is None:
            return {}
        try:
            _, data = read_source(self._initramfs, "initramfs")
        except UsageError as e:
            self.notes.append(str(e))
            return {}
        return {path: content for path, content in read_files(bytes(data)) if content[:4] == b"\x7fELF"}

    @functools.cached_property
    def _symbol_files(self) -> list[ElfImage]:
        """What lies beside the initramfs: NAME.sym of NAME.cpio."""
        if self._initramfs is None or isinstance(self._initramfs, bytes):
            return []
        base = os.fsdecode(self._initramfs).removesuffix(".zst").removesuffix(".gz").removesuffix(".cpio")
        found: list[ElfImage] = []
        for path in (base + suffix for suffix in SYMBOL_SUFFIXES):
            if os.path.isfile(path):
                try:
                    found.append(ElfImage(path))
                except UsageError as e:
                    self.notes.append(str(e))
        return found

    def paths(self) -> list[str]:
        """The programs that it has, by their paths in the guest."""
        return sorted(self._files)

    def program(self, path: str) -> Binary | None:
        """The program or library of a path in the guest; None if the host has not got it."""
        if path not in self._programs:
            self._programs[path] = self._open(path)
        return self._programs[path]

    def _open(self, path: str) -> Binary | None:
        data = self._files.get(path)
        if data is None:
            return None
        try:
            image = ElfImage(data, path)
        except UsageError as e:
            self.notes.append(str(e))
            return None
        return binary_of(image, self.symbols_of(image))

    def symbols_of(self, image: ElfImage) -> ElfImage | None:
        """The file that has a program's symbols."""
        candidates = [*self._added, *self._symbol_files]
        return next((debug for debug in candidates if is_same_program(image, debug)), None)


def is_same_program(one: ElfImage, other: ElfImage) -> bool:
    """Are two files of one link: by build ID, else by the addresses and sizes of what they load?"""
    ids = [image.section(".note.gnu.build-id") for image in (one, other)]
    if all(ids):
        return ids[0] == ids[1]
    try:
        shapes = [
            [(s.name, s["sh_addr"], s["sh_size"]) for s in image.elf.iter_sections() if s["sh_flags"] & 2]
            for image in (one, other)
        ]
    except FILE_FAULTS:
        return False
    return bool(shapes[0]) and shapes[0] == shapes[1]
