"""bzImage: takes the vmlinux out of what distributions install as /boot/vmlinuz-*.

Its layout is that of the kernel's Documentation/arch/x86/boot.rst: a setup part of real-mode code, whose header says
where in the rest the compressed vmlinux lies. The machines start that at the address for which it is linked.
"""

from __future__ import annotations

import importlib
import struct
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

_SECTOR = 512
_SETUP_SECTORS_AT = 0x1F1
_SETUP_SECTORS_DEFAULT = 4
"""What 0 means."""
_VERSION_AT, _VERSION_MIN = 0x206, 0x0208
"""Of the boot protocol: the first one that tells where the payload is, that of Linux 2.6.26."""
_PAYLOAD_AT = 0x248
"""Offset after the setup part, and length."""
_HEADER_END = 0x250
_LZ4_MAGIC = b"\x02\x21\x4c\x18"
_LZ4_BLOCK_BYTES = 8 << 20
"""Of a block, uncompressed, at most."""


def unpack_bzimage(data: bytes | memoryview, name: str, most: int) -> bytes:
    """The vmlinux of a bzImage, of `most` bytes at most. Raises UsageError."""
    if len(data) < _HEADER_END:
        raise UsageError("is a truncated bzImage", where=name, hint="build or fetch it again")
    (version,) = struct.unpack_from("<H", data, _VERSION_AT)
    if version < _VERSION_MIN:
        raise UsageError("is the bzImage of a kernel before 2.6.26", where=name, hint="give a newer one")
    offset, length = struct.unpack_from("<II", data, _PAYLOAD_AT)
    begin = ((data[_SETUP_SECTORS_AT] or _SETUP_SECTORS_DEFAULT) + 1) * _SECTOR + offset
    payload = bytes(data[begin : begin + length])
    if not payload or len(payload) < length:
        raise UsageError("is a truncated bzImage", where=name, hint="build or fetch it again")
    inflate = _inflater(payload, name)
    try:
        found = inflate(payload, most + 1)
    except _damages() as error:
        raise UsageError(f"is a damaged bzImage ({error})", where=name, hint="build or fetch it again") from None
    if not found:
        raise UsageError("is a damaged bzImage", where=name, hint="build or fetch it again")
    if len(found) > most:
        raise UsageError(f"holds a kernel of more than {most >> 20} MiB", where=name, hint="give another one")
    return found


def _inflater(payload: bytes, name: str) -> Callable[[bytes, int], bytes]:
    """What undoes the compression, up to a number of bytes; the last four bytes may be the size."""
    if payload.startswith(b"\x28\xb5\x2f\xfd"):
        import zstandard

        return lambda data, most: zstandard.ZstdDecompressor().stream_reader(data).read(most)
    if payload.startswith(_LZ4_MAGIC):
        return _inflate_lz4
    if payload.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x5d\0\0")):
        from .symbols.cpio import inflated

        return inflated
    kind = "with LZO" if payload.startswith(b"\x89LZO") else "in an unknown way"
    raise UsageError(
        f"is a bzImage compressed {kind}, which is not read here",
        where=name,
        hint="give the vmlinux of the same build (scripts/extract-vmlinux of the kernel source unpacks one)",
    )


def _lz4_block() -> Any:
    return importlib.import_module("lz4.block")  # it has no types


def _inflate_lz4(data: bytes, most: int) -> bytes:
    """Of the legacy frame format (LZ4's lz4_Frame_format.md), as Linux uses it: blocks, each after its size."""
    block = _lz4_block()
    out = bytearray()
    at = len(_LZ4_MAGIC)
    while at + 4 <= len(data) and len(out) < most:
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if data[at - 4 : at] == _LZ4_MAGIC:
            continue
        if at + size > len(data):
            break  # no block: the size of all
        out += block.decompress(data[at : at + size], uncompressed_size=_LZ4_BLOCK_BYTES)
        at += size
    return bytes(out)


def _damages() -> tuple[type[Exception], ...]:
    import zstandard

    return (ValueError, _lz4_block().LZ4BlockError, zstandard.ZstdError)


__all__ = ["unpack_bzimage"]
