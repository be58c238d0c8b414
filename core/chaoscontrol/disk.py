"""Disk: a machine's disk as the host sees it: its contents, its faults, and what a power loss leaves of it.

Owns the translation between values and the native library's structures. Offsets and sizes are in bytes, sectors are of
512 bytes. The disk has a volatile cache: what no flush has followed can be lost by crash().
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from ._binding import ffi, lib
from .errors import AddressError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._native import CData

SECTOR_BYTES = 512


class CrashMode(enum.IntEnum):
    """What becomes of writes that no flush has followed when power is lost.

    A block is of 4 KiB, at a multiple of that; what a write has in one is kept or lost as a whole.
    """

    LOSE_ALL = lib.CC_CRASH_LOSE_ALL
    """All are lost."""
    RANDOM = lib.CC_CRASH_RANDOM
    """Each block of each write is kept or lost, by a fair coin of the seed's."""
    TORN = lib.CC_CRASH_TORN
    """A random number of the oldest writes are kept, and the next one up to a random block of it."""
    KEEP_ALL = lib.CC_CRASH_KEEP_ALL
    """None is lost."""


@dataclasses.dataclass(frozen=True, slots=True)
class DiskFaults:
    """How a disk misbehaves; the default is not at all. Chances are per million requests.

    A guest sees every failing request as an I/O error, on a full disk too: virtio has no other.
    """

    read_error_ppm: int = 0
    write_error_ppm: int = 0
    torn_ppm: int = 0
    """Only the first blocks of 4 KiB of a write reach the disk, a random number of them, or none."""
    torn_fails: bool = False
    """Whether a torn write is reported as an error, not as done."""
    corrupt_read_ppm: int = 0
    """One random bit of what is read is flipped on its way; the disk keeps what it had."""
    corrupt_write_ppm: int = 0
    """One random bit of what is written is flipped on its way."""
    lost_flush_ppm: int = 0
    """A flush is reported as done and makes nothing durable."""
    spike_ppm: int = 0
    spike_ns: int = 0
    """How much longer a request takes then; at most an hour."""
    slow_milli: int = 1000
    """Time that a request takes, in thousandths of the usual; 1 to 10^9."""
    first_sector: int = 0
    sectors: int = 0
    """Errors, tearing and flipped bits befall only requests that touch these; 0: any request."""
    full_sector: int | None = None
    """Writes that reach this sector or beyond fail."""
    full_bytes: int | None = None
    """Once so many bytes have been written, all writes fail; counts down."""


@dataclasses.dataclass(frozen=True, slots=True)
class DiskStats:
    """Requests answered since the start, by kind, and what is in the volatile cache now."""

    reads: int
    writes: int
    flushes: int
    discards: int
    errors: int
    """Requests answered with an error, also those that the guest got wrong."""
    faults: int
    """Faults that came into effect."""
    unflushed_writes: int
    unflushed_sectors: int


class Disk:
    """The disk of one machine."""

    def __init__(self, native: Callable[[], CData], check: Callable[[int], None]) -> None:
        self._native = native
        self._check = check

    @property
    def size(self) -> int:
        """Bytes."""
        return lib.cc_disk_size(self._native())

    def read(self, offset: int, size: int) -> bytes:
        """What the guest would read, its newest writes included. Raises AddressError."""
        self._check_range(offset, size)
        buffer = ffi.new(f"uint8_t[{max(size, 1)}]")
        self._check(lib.cc_disk_read(self._native(), offset, buffer, size))
        return ffi.buffer(buffer, size)[:]

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Changes the contents for good, behind the guest's back. Raises AddressError."""
        self._check_range(offset, len(data))
        self._check(lib.cc_disk_write(self._native(), offset, ffi.from_buffer(data), len(data)))

    def _check_range(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > self.size:
            raise AddressError(f"{size} bytes at {offset} are not on the disk of {self.size} bytes")

    @property
    def faults(self) -> DiskFaults:
        """How it misbehaves now."""
        raw = ffi.new("cc_disk_faults *")
        lib.cc_disk_get_faults(self._native(), raw)
        same = {name: getattr(raw, name) for name in _SAME}
        same["slow_milli"] = raw.slow_milli or 1000
        return DiskFaults(
            **same,
            torn_fails=bool(raw.flags & lib.CC_DISK_TORN_FAILS),
            full_sector=raw.full_sector if raw.flags & lib.CC_DISK_FULL_AT else None,
            full_bytes=raw.full_bytes if raw.flags & lib.CC_DISK_FULL_AFTER else None,
        )

    def set_faults(self, faults: DiskFaults) -> None:
        """From now on; DiskFaults() heals it. Raises UsageError or AddressError for values out of range."""
        raw = ffi.new("cc_disk_faults *")
        if faults.slow_milli < 1:
            raise UsageError(
                f"slow_milli cannot be {faults.slow_milli}", hint="give 1 to 10^9; 1000 is the usual speed"
            )
        raw.flags = (
            (lib.CC_DISK_TORN_FAILS if faults.torn_fails else 0)
            | (lib.CC_DISK_FULL_AT if faults.full_sector is not None else 0)
            | (lib.CC_DISK_FULL_AFTER if faults.full_bytes is not None else 0)
        )
        values = {name: getattr(faults, name) for name in _SAME}
        values |= {"full_sector": faults.full_sector or 0, "full_bytes": faults.full_bytes or 0}
        for name, value in values.items():
            try:
                setattr(raw, name, value)
            except OverflowError:
                raise UsageError(f"{name} cannot be {value}: out of range") from None
        self._check(lib.cc_disk_set_faults(self._native(), raw))

    def corrupt(self, sector: int, sectors: int, bits: int = 1) -> None:
        """Flips random bits in a range of sectors now, for good. Raises AddressError or UsageError."""
        if min(sector, sectors) < 0 or (sector + sectors) * SECTOR_BYTES > self.size:
            raise AddressError(f"{sectors} sectors from {sector} on are not on the disk of {self.size} bytes")
        if not 0 <= bits <= 1_000_000:
            raise UsageError(f"{bits} bits cannot be flipped", hint="give 0 to 1000000")
        self._check(lib.cc_disk_corrupt(self._native(), sector, sectors, bits))

    def crash(self, mode: CrashMode = CrashMode.LOSE_ALL, seed: int = 0) -> None:
        """Power loss: requests in flight are forgotten, unflushed writes are kept or lost as the mode says."""
        if not 0 <= seed < 1 << 64:
            raise UsageError(f"the seed {seed} is not a 64-bit number", hint="give one from 0 to 2^64 - 1")
        self._check(lib.cc_disk_crash(self._native(), mode, seed))

    def stats(self) -> DiskStats:
        """All counters."""
        raw = ffi.new("cc_disk_stats *")
        lib.cc_disk_get_stats(self._native(), raw)
        return DiskStats(*(getattr(raw, field.name) for field in dataclasses.fields(DiskStats)))


_SAME = tuple(
    field.name
    for field in dataclasses.fields(DiskFaults)
    if field.name not in ("torn_fails", "full_sector", "full_bytes")
)
"""Fields of DiskFaults that the native structure has under the same name."""
