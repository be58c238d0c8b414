"""Builds small ELF files for the loader's tests."""

from __future__ import annotations

import dataclasses
import struct

KERNEL_BASE = 0xFFFF_FFFF_8000_0000


@dataclasses.dataclass
class Elf:
    """An ELF file with PT_LOAD segments of (physical address, bytes, memory size)."""

    segments: list[tuple[int, bytes, int]] = dataclasses.field(
        default_factory=lambda: [(0x1000000, b"\xf4" * 64, 64), (0x1200000, b"data", 0x3000)]
    )
    entry: int = 0x1000000
    elf_class: int = 2
    data: int = 1
    elf_type: int = 2
    machine: int = 62
    virtual_base: int = KERNEL_BASE

    def build(self) -> bytes:
        header_size = 64 + 56 * len(self.segments)
        headers, contents = b"", b""
        for gpa, blob, memory in self.segments:
            offset = header_size + len(contents)
            vaddr = (gpa + self.virtual_base) % 2**64
            headers += struct.pack("<IIQQQQQQ", 1, 7, offset, vaddr, gpa, len(blob), memory, 0x1000)
            contents += blob
        ident = b"\x7fELF" + bytes((self.elf_class, self.data, 1)) + bytes(9)
        numbers = (self.elf_type, self.machine, 1, self.entry, 64, 0, 0, 64, 56, len(self.segments), 64, 0, 0)
        return struct.pack("<16sHHIQQQIHHHHHH", ident, *numbers) + headers + contents


def cpio(size: int = 512) -> bytes:
    """Something that begins as a newc archive does."""
    return b"070701".ljust(size, b"0")


def bzimage(payload: bytes = b"", *, sectors: int = 4, version: int = 0x020F, more: int = 0) -> bytes:
    """A bzImage: boot sector, setup part and what holds the payload; `more`: bytes that its header promises besides."""
    image = bytearray(((sectors or 4) + 1) * 512)
    image[0x1F1] = sectors
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = version.to_bytes(2, "little")
    decompressor = b"\x90" * 100
    image[0x248:0x250] = struct.pack("<II", len(decompressor), len(payload) + more)
    return bytes(image) + decompressor + payload
