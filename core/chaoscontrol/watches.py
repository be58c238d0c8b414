"""Breakpoints and watchpoints of one machine: what is watched, and what was met.

Owns the translation between values and the native library's structures (native/watch.c meets them; native/include/cc.h
says exactly when). The guest cannot tell, and no snapshot or digest holds any of it.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import TYPE_CHECKING

from ._binding import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._native import CData

ANY_CR3 = lib.CC_ANY_CR3
ANY_FRAME = lib.CC_ANY_FRAME
ANY_PEER = lib.CC_ANY_PEER
CODE_BYTES_MAX = lib.CC_WATCH_CODE_MAX


class WatchKind(enum.IntFlag):
    """What is met; EXECUTE, WRITE and READ may be watched together."""

    EXECUTE = lib.CC_WATCH_EXECUTE
    """An instruction that begins in the range is about to be executed."""
    WRITE = lib.CC_WATCH_WRITE
    READ = lib.CC_WATCH_READ
    ACCESS = WRITE | READ
    SENT = lib.CC_WATCH_SENT
    """A frame was given to the network device."""
    RECEIVED = lib.CC_WATCH_RECEIVED
    """A frame was put into the guest's memory."""


class Who(enum.IntEnum):
    """Whose doing an access was."""

    INSTRUCTION = lib.CC_BY_INSTRUCTION
    CPU = lib.CC_BY_CPU
    """The CPU's own: the stack frame of an interrupt, a descriptor table."""
    WALK = lib.CC_BY_WALK
    """An accessed or dirty bit in a page table."""
    DEVICE = lib.CC_BY_DEVICE


class Device(enum.IntEnum):
    """Which device it was."""

    BLK = 0
    NET = 1
    RNG = 2
    BALLOON = 3
    CONSOLE = 4
    SDK = lib.CC_DEVICE_SDK
    """The answer to an SDK request."""
    RESTART = lib.CC_DEVICE_RESTART
    """The machine started again, with the memory that it was loaded with."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """Something to be met. For frames `address` is a serial number, and `size` the offset in the frame that the hit
    tells the physical address of."""

    kind: WatchKind
    address: int
    size: int = 1
    physical: bool = False
    cr3: int | None = None
    """Only under these page tables; None: under any."""
    outside: bool = False
    """Execution everywhere but in the range."""
    rsp_min: int = 0
    """Only while RSP is at least this."""
    user: bool = False
    """Only at privilege level 3."""
    peer: int | None = None
    """Frames: the other machine; None: any."""
    code: bytes = b""
    """Execution: only where the instruction and what follows it in its page are these, at most CODE_BYTES_MAX."""


@dataclasses.dataclass(frozen=True, slots=True)
class WatchHit:
    """Something that was met. The moment is the one before the execution, and the first one after anything else."""

    vns: int
    instret: int
    watch: int
    """Its place in the list."""
    kind: WatchKind
    who: Who
    rip: int
    """Of the instruction; Who.CPU: of the one interrupted, or 0; Who.DEVICE: 0."""
    address: int
    """The first watched byte touched, as the watch names it."""
    gpa: int
    """Its physical address; of a frame sent: of the byte asked for."""
    va: int
    """Where the access begins; physical for devices."""
    size: int
    """Of the access, or of the frame."""
    value: bytes
    """The first bytes of what was read or written, at most 16."""
    cr3: int
    rsp: int
    cpl: int
    after_interrupt: bool
    """Execution: an interrupt led there at this very moment; a run to the moment ends just before it is taken."""
    device: Device | None = None
    frame: tuple[int, int] | None = None
    """The frame's sender and serial number, where the access was a frame's arrival. Of frames sent and received: the
    other machine (ANY_PEER: all) and the serial number."""
    frame_offset: int | None = None
    """Where in the frame the byte at `gpa` is; None: in no frame, or in the header before it."""


def set_watches(native: CData, watches: Sequence[Watch]) -> int:
    """Replaces what is watched; an error code of the library."""
    raw = ffi.new("cc_watch[]", len(watches))
    for to, watch in zip(raw, watches, strict=True):
        to.address, to.size, to.kinds = watch.address, watch.size, int(watch.kind)
        to.cr3 = ANY_CR3 if watch.cr3 is None else watch.cr3
        to.peer = ANY_PEER if watch.peer is None else watch.peer
        to.rsp_min = watch.rsp_min
        to.code_bytes = len(watch.code)
        ffi.memmove(to.code, watch.code, len(watch.code))
        to.flags = (
            (lib.CC_WATCH_PHYSICAL if watch.physical else 0)
            | (lib.CC_WATCH_OUTSIDE if watch.outside else 0)
            | (lib.CC_WATCH_USER if watch.user else 0)
        )
    return lib.cc_watches_set(native, raw, len(watches))


@functools.cache
def _buffer() -> CData:
    return ffi.new("cc_watch_hit[]", lib.CC_WATCH_LOG_MAX)


def take_hits(native: CData) -> tuple[list[WatchHit], int]:
    """What was met since the last call, and how many hits in the middle are missing."""
    raw, lost = _buffer(), ffi.new("uint64_t *")
    count = lib.cc_watch_take(native, raw, lost)
    return [_hit(raw[i]) for i in range(count)], lost[0]


def last_hit(native: CData) -> WatchHit | None:
    """What the last stop with StopKind.WATCH was for."""
    raw = ffi.new("cc_watch_hit *")
    return _hit(raw) if lib.cc_watch_hit_get(native, raw) == lib.CC_OK else None


def _hit(raw: CData) -> WatchHit:
    who = Who(raw.who)
    return WatchHit(
        vns=raw.vns,
        instret=raw.instret,
        watch=raw.watch,
        kind=WatchKind(raw.kind),
        who=who,
        rip=raw.rip,
        address=raw.address,
        gpa=raw.gpa,
        va=raw.va,
        size=raw.size,
        value=ffi.buffer(raw.value, 16)[: min(raw.size, 16)],
        cr3=raw.cr3,
        rsp=raw.rsp,
        cpl=raw.cpl,
        after_interrupt=bool(raw.flags & lib.CC_HIT_AFTER_INTERRUPT),
        device=Device(raw.device) if who is Who.DEVICE else None,
        frame=(raw.peer, raw.serial) if raw.flags & lib.CC_HIT_FRAME else None,
        frame_offset=None if raw.frame_offset == lib.CC_NO_OFFSET else raw.frame_offset,
    )
