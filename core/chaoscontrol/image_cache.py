"""Decompressed guest images, kept between runs in the user's cache directory.

Inflating the included kernel and bringing in the decompressor takes as long as half its boot. An entry is a file named
by hash and size of the compressed bytes, which holds the decompressed ones and their own hash; an entry that is not
whole is as good as none. Entries appear by rename, so any number of processes may write at once. Where nothing can be
kept (no home, read-only, disk full) images are inflated each time, and nobody is told. Entries beyond ENTRIES_MAX are
deleted, the oldest first; `rm -r` of the directory is always safe.

The hash is the engine's, fast and not cryptographic: it is there against damage, not against the directory's owner.
"""

from __future__ import annotations

import mmap
import os
import struct

from ._binding import ffi, lib
from .images import cache_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

ENTRIES_MAX = 8
_TRAILER = struct.Struct("<8sQQQ")
"""Magic with the format's version, size of the decompressed bytes, low and high half of their hash."""
_MAGIC = b"ccimage1"

Buffer = bytes | memoryview


def _digest(data: Buffer) -> tuple[int, int]:
    out = ffi.new("cc_digest *")
    lib.cc_hash(ffi.from_buffer(data), len(data), out)
    return out.lo, out.hi


def _trailer(data: Buffer) -> bytes:
    return _TRAILER.pack(_MAGIC, len(data), *_digest(data))


class Entry:
    """The place of one compressed image's decompressed bytes."""

    def __init__(self, compressed: Buffer) -> None:
        low, high = _digest(compressed)
        self._directory = cache_dir()
        self.path = os.path.join(self._directory, f"{high:016x}{low:016x}-{len(compressed)}")

    def load(self) -> Buffer | None:
        """The decompressed bytes, mapped, or None."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                mapped = memoryview(mmap.mmap(fd, 0, access=mmap.ACCESS_READ))
            finally:
                os.close(fd)
        except (OSError, ValueError):  # not there, not ours to read, empty
            return None
        data = mapped[: -_TRAILER.size]
        return data if len(data) and bytes(mapped[-_TRAILER.size :]) == _trailer(data) else None

    def store(self, data: Buffer) -> None:
        """Keeps the decompressed bytes, if that is possible."""
        partial = f"{self.path}.{os.getpid()}"
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, (data, _trailer(data)))
                os.rename(partial, self.path)
            except OSError:
                os.unlink(partial)
                raise
            finally:
                os.close(fd)
            _delete_oldest(self._directory)
        except OSError:
            return


def _write_all(fd: int, parts: Sequence[Buffer]) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(fd, rest) :]


def _delete_oldest(directory: str) -> None:
    """Keeps the newest entries, also of what interrupted processes have left."""
    with os.scandir(directory) as found:
        by_age = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in found)
    for _, path in by_age[:-ENTRIES_MAX]:
        os.unlink(path)
