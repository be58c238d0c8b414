"""A stopped machine's memory: physical, or virtual through any page tables; and search in both.

A Memory reads bytes or raises AddressError; it never writes and, CachedMemory excepted, keeps nothing, so it is right
at every moment the machine stands at. Page tables are those of long mode with 4 levels, or 5 if asked (SDM vol. 3,
4.5); a table may be anything, since the guest wrote it: walks are bounded by the levels, listing by the number of
entries looked at.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from chaoscontrol.errors import AddressError, UsageError
from chaoscontrol.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE_BYTES = 4096
PRESENT, WRITABLE, USER, LARGE, NO_EXECUTE = 1, 2, 4, 0x80, 1 << 63
FRAME_MASK = 0x000F_FFFF_FFFF_F000
SEARCH_CHUNK_BYTES = 1 << 20
PATTERN_BYTES_MAX = 1 << 16
FOUND_MAX = 1000
SMALL_BYTES = 1024
"""A read of so much is small."""
TABLES_MAX = 1 << 14
"""Page tables looked at when an address space is listed: so many map 32 GiB by small pages."""


class Reader(Protocol):
    """A machine, as far as this module knows it."""

    def read_memory(self, address: int, size: int) -> bytes: ...


class Region(Record):
    """Mapped virtual addresses that follow each other with the same rights."""

    start: int
    end: int
    writable: bool
    user: bool
    executable: bool


class Translation(Record):
    """Where a virtual address leads."""

    physical: int
    page_bytes: int
    writable: bool
    user: bool
    executable: bool


class Found(Record):
    """What a search found."""

    addresses: tuple[int, ...]
    complete: bool
    note: str = ""
    """Why it is not complete."""


class Memory:
    """Bytes at addresses. read() gives all or raises AddressError."""

    size: int
    cut_short: bool = False
    """The last listing of regions ended early: more tables than TABLES_MAX."""

    def read(self, address: int, size: int) -> bytes:
        raise NotImplementedError

    def regions(self, start: int, end: int) -> Iterator[Region]:
        """What can be read from `start` to `end`."""
        raise NotImplementedError

    def executable(self, address: int) -> bool:
        """May code be there? Raises AddressError."""
        raise NotImplementedError

    def read_up_to(self, address: int, size: int) -> bytes:
        """As many of the bytes as can be read from there on without a gap."""
        pieces: list[bytes] = []
        while size > 0:
            part = min(size, PAGE_BYTES - address % PAGE_BYTES)
            try:
                pieces.append(self.read(address, part))
            except AddressError:
                break
            address, size = address + part, size - part
        return b"".join(pieces)

    def u64(self, address: int) -> int:
        return int.from_bytes(self.read(address, 8), "little")

    def u32(self, address: int) -> int:
        return int.from_bytes(self.read(address, 4), "little")

    def text(self, address: int, most: int = 4096) -> str:
        """A text that ends with a zero byte, or after `most` bytes."""
        return self.read_up_to(address, most).partition(b"\0")[0].decode(errors="replace")


class PhysicalMemory(Memory):
    """The RAM of a machine."""

    def __init__(self, machine: Reader, size: int) -> None:
        self._machine = machine
        self.size = size

    def read(self, address: int, size: int) -> bytes:
        if address < 0 or size < 0 or address + size > self.size:
            raise AddressError(f"{size} bytes at {address:#x} are not in the machine's memory")
        return self._machine.read_memory(address, size)

    def regions(self, start: int, end: int) -> Iterator[Region]:
        if max(start, 0) < min(end, self.size):
            yield Region(max(start, 0), min(end, self.size), True, False, True)

    def executable(self, address: int) -> bool:
        return 0 <= address < self.size


class AddressSpace(Memory):
    """Virtual memory as the page tables at a CR3 say, of the current process or any other."""

    def __init__(self, physical: Memory, cr3: int, *, levels: int = 4) -> None:
        self.physical = physical
        self.cr3 = cr3
        self.size = 1 << 64
        self._levels = levels

    def translate(self, address: int) -> Translation:
        """Raises AddressError where nothing is mapped."""
        top = 12 + 9 * self._levels
        if address >> top - 1 not in (0, (1 << 65 - top) - 1):
            raise AddressError(f"{address:#x} is no canonical address")
        table = self.cr3 & FRAME_MASK
        rights, barred = WRITABLE | USER, 0
        for level in range(self._levels - 1, -1, -1):
            shift = 12 + 9 * level
            try:
                entry = self.physical.u64(table + (address >> shift & 511) * 8)
            except AddressError:
                raise AddressError(f"the page tables of {address:#x} lead out of the machine's memory") from None
            if not entry & PRESENT:
                raise AddressError(f"{address:#x} is not mapped")
            rights &= entry
            barred |= entry & NO_EXECUTE
            if level == 0 or (level < 3 and entry & LARGE):
                inside = (1 << shift) - 1
                physical = entry & FRAME_MASK & ~inside | address & inside
                return Translation(physical, 1 << shift, bool(rights & WRITABLE), bool(rights & USER), not barred)
            table = entry & FRAME_MASK
        raise AssertionError("the last level returns")

    def read(self, address: int, size: int) -> bytes:
        pieces: list[bytes] = []
        while size > 0:
            found = self.translate(address)
            part = min(size, found.page_bytes - found.physical % found.page_bytes)
            pieces.append(self.physical.read(found.physical, part))
            address, size = address + part, size - part
        return b"".join(pieces)

    def executable(self, address: int) -> bool:
        return self.translate(address).executable

    def regions(self, start: int, end: int) -> Iterator[Region]:
        """What is mapped, neighbours of equal rights as one. Stops after TABLES_MAX tables."""
        pending: Region | None = None
        self.cut_short = False
        for leaf in self._leaves(self.cr3 & FRAME_MASK, self._levels - 1, 0, start, end, WRITABLE | USER, 0, [0]):
            if pending is not None and pending.end == leaf.start and _rights(pending) == _rights(leaf):
                pending = pending.replace(end=leaf.end)
                continue
            if pending is not None:
                yield pending
            pending = leaf
        if pending is not None:
            yield pending

    def _leaves(
        self, table: int, level: int, base: int, start: int, end: int, rights: int, barred: int, count: list[int]
    ) -> Iterator[Region]:
        count[0] += 1
        if count[0] > TABLES_MAX:
            self.cut_short = True
            return
        try:
            entries = struct.unpack("<512Q", self.physical.read(table, PAGE_BYTES))
        except AddressError:
            return
        shift = 12 + 9 * level
        for i, entry in enumerate(entries):
            first = base + (i << shift)
            if level == self._levels - 1 and i >= 256:
                first += (1 << 64) - (1 << 12 + 9 * self._levels)
            last = first + (1 << shift)
            if not entry & PRESENT or last <= start or first >= end:
                continue
            now, no_code = rights & entry, barred | entry & NO_EXECUTE
            if level == 0 or (level < 3 and entry & LARGE):
                physical = entry & FRAME_MASK & ~((1 << shift) - 1)
                if physical < self.physical.size:
                    last = min(last, first + self.physical.size - physical)
                    if last > start:
                        yield Region(
                            max(first, start), min(last, end), bool(now & WRITABLE), bool(now & USER), not no_code
                        )
            else:
                yield from self._leaves(entry & FRAME_MASK, level - 1, first, start, end, now, no_code, count)


class CachedMemory(Memory):
    """Another memory, of which pages are read once: for many small reads at one moment. Large ones are not kept."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.size = memory.size
        self._pages: dict[int, bytes] = {}
        self._executable: dict[int, bool] = {}

    def _page(self, number: int) -> bytes:
        found = self._pages.get(number)
        if found is None:
            start = number * PAGE_BYTES
            found = self._pages[number] = self._memory.read(start, min(PAGE_BYTES, self.size - start))
        return found

    def read(self, address: int, size: int) -> bytes:
        number, at = divmod(address, PAGE_BYTES)
        if size <= SMALL_BYTES and at + size <= PAGE_BYTES and 0 <= address <= self.size - size:
            return self._page(number)[at : at + size]
        return self._memory.read(address, size)

    def executable(self, address: int) -> bool:
        number = address // PAGE_BYTES
        if number not in self._executable:
            self._executable[number] = self._memory.executable(address)
        return self._executable[number]

    def regions(self, start: int, end: int) -> Iterator[Region]:
        return self._memory.regions(start, end)


def _rights(region: Region) -> tuple[bool, bool, bool]:
    return region.writable, region.user, region.executable


def search(
    memory: Memory,
    pattern: bytes,
    start: int = 0,
    end: int | None = None,
    *,
    most: int = FOUND_MAX,
    on_progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Found:
    """Where `pattern` stands from `start` up to `end`, also across pages and overlapping itself; at most `most` places.

    on_progress(done, total): bytes looked at and to look at, once per MiB. Raises UsageError for an empty pattern or
    one over 64 KiB.
    """
    if not 1 <= len(pattern) <= PATTERN_BYTES_MAX:
        raise UsageError(f"a search for {len(pattern)} bytes", hint=f"give 1 to {PATTERN_BYTES_MAX} bytes")
    regions = list(memory.regions(start, memory.size if end is None else end))
    total = sum(r.end - r.start for r in regions)
    addresses: list[int] = []
    done, carry, carry_end = 0, b"", -1
    for region in regions:
        at = region.start
        while at < region.end:
            if cancelled is not None and cancelled():
                return Found(tuple(addresses), False, f"cancelled at {at:#x}")
            size = min(SEARCH_CHUNK_BYTES, region.end - at)
            data = memory.read_up_to(at, size)
            window = carry + data if carry_end == at else data
            first = at + len(data) - len(window)
            place = window.find(pattern)
            while place >= 0:
                if len(addresses) == most:
                    return Found(
                        tuple(addresses), False, f"there are more than {most}; search on from {first + place:#x}"
                    )
                addresses.append(first + place)
                place = window.find(pattern, place + 1)
            carry = window[max(len(window) - len(pattern) + 1, 0) :] if len(data) == size else b""
            at += size
            carry_end = at
            done += size
            if on_progress is not None:
                on_progress(done, total)
    return Found(tuple(addresses), not memory.cut_short, "too many page tables to list" if memory.cut_short else "")
