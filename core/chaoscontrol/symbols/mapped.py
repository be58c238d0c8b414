"""ELF files that only the guest has, read from where a process has mapped them, as far as their pages are there.

What was not touched yet is zeros, and the section headers, which are at the end of a file, are seldom mapped: what the
program headers lead to has to do.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from chaoscontrol.errors import AddressError

from .elf import ElfImage
from .space import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .linux import Mapping
    from .space import Memory

BYTES_MAX = 16 << 20
"""Of one file."""
_PHDR = struct.Struct("<IIQQQQQQ")
_EHDR_BYTES, _PROGRAMS_AT, _SECTIONS_AT, _COUNTS_AT = 64, 0x20, 0x28, 0x36
"""Of an ELF-64 header: its size, e_phoff, e_shoff, and e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx."""
_COUNTS = struct.Struct("<HHHHH")
_PT_LOAD, _PT_DYNAMIC = 1, 2
_ADDRESS_TAGS = (4, 5, 6, 0x6FFF_FEF5)
"""DT_HASH, DT_STRTAB, DT_SYMTAB, DT_GNU_HASH: a dynamic linker replaces what the file says by where it is."""


def image_in_memory(memory: Memory, mappings: Sequence[Mapping], name: str) -> ElfImage | None:
    """The file that `mappings` of a process map; None if it is no ELF file. Raises UsageError if it is damaged."""
    data = bytearray()
    for mapping in mappings:
        size = min(mapping.end - mapping.start, BYTES_MAX - mapping.offset)
        if size <= 0:
            continue
        data += bytes(max(mapping.offset + size - len(data), 0))
        for at in range(0, size, PAGE_BYTES):
            try:
                page = memory.read(mapping.start + at, PAGE_BYTES)
            except AddressError:
                continue
            data[mapping.offset + at : mapping.offset + at + PAGE_BYTES] = page
    if bytes(data[:4]) != b"\x7fELF" or len(data) < _EHDR_BYTES:
        return None
    _forget_sections(data)
    headers = _program_headers(data)
    ends = [offset + size for _, _, offset, _, _, size, *_ in headers]
    data += bytes(max(min(max(ends, default=0), BYTES_MAX) - len(data), 0))
    first = next((header for header in headers if header[0] == _PT_LOAD), None)
    start = next((mapping.start for mapping in mappings if mapping.offset == 0), None)
    if first is not None and start is not None:
        _unrelocate(data, headers, start - (first[3] & -PAGE_BYTES))
    return ElfImage(bytes(data), name)


def _forget_sections(data: bytearray) -> None:
    """As if there were no section headers, unless they are there."""
    at = int.from_bytes(data[_SECTIONS_AT : _SECTIONS_AT + 8], "little")
    program_size, programs, size, count, _ = _COUNTS.unpack_from(data, _COUNTS_AT)
    if at + size * count > len(data):
        data[_SECTIONS_AT : _SECTIONS_AT + 8] = bytes(8)
        _COUNTS.pack_into(data, _COUNTS_AT, program_size, programs, 0, 0, 0)


def _program_headers(data: bytearray) -> list[tuple[int, ...]]:
    at = int.from_bytes(data[_PROGRAMS_AT : _PROGRAMS_AT + 8], "little")
    _, count, *_ = _COUNTS.unpack_from(data, _COUNTS_AT)
    places = range(at, at + count * _PHDR.size, _PHDR.size)
    return [_PHDR.unpack_from(data, place) for place in places if place + _PHDR.size <= len(data)]


def _unrelocate(data: bytearray, headers: list[tuple[int, ...]], bias: int) -> None:
    """Addresses of the dynamic section as the file has them."""
    for kind, _, offset, _, _, size, *_ in headers:
        if kind != _PT_DYNAMIC:
            continue
        for at in range(offset, min(offset + size, len(data)) - 15, 16):
            tag, value = struct.unpack_from("<QQ", data, at)
            if tag in _ADDRESS_TAGS and value >= bias > 0:
                struct.pack_into("<Q", data, at + 8, value - bias)
