"""Reads the files of an initramfs: cpio archives in the `newc` format, one behind another, compressed or not.

Layout: Linux Documentation/driver-api/early-userspace/buffer-format.rst. What is damaged ends the reading; what was
read by then is what there is.
"""

from __future__ import annotations

import bz2
import lzma
import stat
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER_BYTES = 110
MAGICS = (b"070701", b"070702")
TRAILER = "TRAILER!!!"
INFLATED_BYTES_MAX = 1 << 30


class Member(NamedTuple):
    """One regular file."""

    path: str
    """From the root: `/bin/sh`."""
    data: bytes


def read_files(archive: bytes) -> Iterator[Member]:
    """The regular files of an initramfs."""
    data, at = inflated(archive, INFLATED_BYTES_MAX), 0
    while at + HEADER_BYTES <= len(data):
        if data[at : at + 1] == b"\0":  # what is between two archives
            at += 4
            continue
        if data[at : at + 6] not in MAGICS:
            return
        try:
            fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        except ValueError:
            return
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        begin = _aligned(at + HEADER_BYTES + name_bytes)
        end = begin + size
        name = data[at + HEADER_BYTES : at + HEADER_BYTES + name_bytes].partition(b"\0")[0].decode(errors="replace")
        if end > len(data) or not name_bytes:
            return
        if stat.S_ISREG(mode) and name != TRAILER:
            yield Member("/" + name.removeprefix("./").removeprefix("/"), data[begin:end])
        at = _aligned(end)


def _aligned(at: int) -> int:
    return at + 3 & ~3


def inflated(data: bytes, most: int) -> bytes:
    """Undoes what init/initramfs.c would, up to `most` bytes; empty where what is compressed is damaged."""
    try:
        if data[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=31).decompress(data, most)
        if data[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(data, most)
        if data[:6] == b"\xfd7zXZ\0" or data[:3] == b"\x5d\0\0":
            return lzma.LZMADecompressor().decompress(data, most)
    except (zlib.error, OSError, lzma.LZMAError, EOFError):
        return b""
    return data
