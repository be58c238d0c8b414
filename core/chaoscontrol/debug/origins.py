"""Who wrote these bytes last, and where they came from: through copies, and across the network into the sender.

Physical memory is what is followed, so that every mapping of a page and every device counts. A write that is the bytes
of a received packet leads to the buffer that the sender's driver gave to its device. A write by an instruction leads to
the last read of the same bytes just before it, if there was one: that is how a copy looks, whatever instructions it is
made of. What was computed has no such read, and ends the chain. (A value that happened to be read just before is taken
for a copy: the chain says which read it was.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chaoscontrol.debug.conditions import Condition, MemoryCondition, PacketSent, Watchpoint
from chaoscontrol.debug.lookouts import Watching, every_hit
from chaoscontrol.in_flight import Overwrite
from chaoscontrol.timetravel import CancelledError, PacketInput, Position
from chaoscontrol.timetravel.lookout import Lookout, Sighting, Spoken
from chaoscontrol.watches import Device, WatchHit, WatchKind, Who

if TYPE_CHECKING:
    from chaoscontrol.debug.debugger import Debugger, Progress
    from chaoscontrol.events import Event

PAGE_BYTES = 4096
HOPS_MAX = 32
COPY_INSNS_MAX = 32
"""How far before a write the read that it copies may be, instructions."""
SURE_BYTES = 4
"""A read of more than was written counts as its source only if so many bytes, not all zero, agree."""


@dataclass(frozen=True, slots=True)
class Read:
    """Where an instruction that copied took its bytes from."""

    gpa: int
    address: int
    """Virtual."""
    rip: int
    instret: int
    """Before the instruction."""


@dataclass(frozen=True, slots=True)
class Hop:
    """One station of some bytes on their way, the latest first."""

    vm: int
    position: Position
    """The first one at which they were there."""
    instret: int
    """Instructions that the machine had retired by then."""
    gpa: int
    """Where they were, physical."""
    size: int
    who: Who
    rip: int
    """Of the instruction that wrote them, or that gave them to the device; 0 where there is none."""
    cr3: int
    cpl: int
    value: bytes
    """What was written, at most 16 bytes."""
    device: Device | None = None
    sender: int | None = None
    """They came in a frame from this machine,"""
    serial: int | None = None
    """which that machine counts so,"""
    frame_offset: int | None = None
    """and lay there in it."""
    edited: bool = False
    """They were written into the frame on its way, by an edit; nothing else is known of them."""
    sent: bool = False
    """The machine gave them to its network device, here; all others are writes."""
    read: Read | None = None
    """A copy of what was read here."""


class Origins:
    """Follows bytes back. Leaves the cursor where it was."""

    def __init__(self, debugger: Debugger, progress: Progress | None) -> None:
        self._debugger = debugger
        self._progress = progress

    def find(self, vm: int, address: int, size: int, *, physical: bool, follow: bool) -> list[Hop]:
        """The hops of [address, address + size), the last write first; empty if they are as they were loaded."""
        debugger, origin = self._debugger, self._debugger.position
        pieces = [(address, size)] if physical else self._pieces(vm, address, size)
        hops: list[Hop] = []
        try:
            while len(hops) < (HOPS_MAX if follow else 1):
                hit = self._last_write(vm, pieces)
                if hit is None:
                    break
                hop = self._written(vm, hit, sum(length for _, length in pieces))
                hops.append(hop)
                if hop.edited:
                    break
                if hop.sender is not None and hop.frame_offset is not None and follow:
                    sent = self._sent(hop.sender, hop)
                    if sent is None:
                        break
                    hops.append(sent)
                    vm, pieces = sent.vm, [(sent.gpa, sent.size)]
                elif hop.who is Who.INSTRUCTION and follow:
                    read = self._read(vm, hit)
                    if read is None:
                        break
                    hops[-1] = replace(hop, read=read)
                    debugger.goto_instret(vm, read.instret)
                    pieces = [(read.gpa, min(hop.size, PAGE_BYTES - read.gpa % PAGE_BYTES))]
                else:
                    break
        except CancelledError:
            debugger.goto_position(origin)
            raise
        debugger.goto_position(origin)
        return hops

    def _pieces(self, vm: int, address: int, size: int) -> list[tuple[int, int]]:
        """The range in physical memory, page by page."""
        pieces: list[tuple[int, int]] = []
        while size:
            length = min(size, PAGE_BYTES - address % PAGE_BYTES)
            pieces.append((self._debugger.vms[vm].translate(address), length))
            address, size = address + length, size - length
        return pieces

    def _last_write(self, vm: int, pieces: Sequence[tuple[int, int]]) -> WatchHit | None:
        conditions: list[Condition] = [Watchpoint(vm, gpa, size, physical=True) for gpa, size in pieces]
        stop = self._debugger.backward(conditions, here=True, progress=self._progress)
        hits = [cause.hit for cause in stop.causes if cause.hit is not None]
        return hits[-1] if hits else None

    def _written(self, vm: int, hit: WatchHit, size: int) -> Hop:
        in_access = hit.size - (hit.address - hit.va if hit.who is Who.DEVICE else (hit.gpa - hit.va) % PAGE_BYTES)
        hop = Hop(
            vm=vm,
            position=self._debugger.position,
            instret=hit.instret,
            gpa=hit.gpa,
            size=max(min(size, in_access), 1),
            who=hit.who,
            rip=hit.rip,
            cr3=hit.cr3,
            cpl=hit.cpl,
            value=hit.value,
            device=hit.device,
        )
        if hit.frame is None:
            return hop
        sender, serial = hit.frame
        edited = hit.frame_offset is not None and self._is_edited(sender, serial, vm, hit.frame_offset, hop.size)
        return replace(hop, sender=sender, serial=serial, frame_offset=hit.frame_offset, edited=edited)

    def _is_edited(self, src: int, serial: int, dst: int, offset: int, size: int) -> bool:
        """Whether bytes of a frame that has arrived here were written by an edit."""
        return any(
            at < offset + size and offset < at + len(piece)
            for given in self._debugger.multiverse.inputs_so_far()
            if isinstance(given.input, PacketInput)
            and isinstance(given.input.edit, Overwrite)
            and (given.input.packet.src, given.input.packet.serial, given.input.packet.dst) == (src, serial, dst)
            for at, piece in given.input.edit.pieces
        )

    def _sent(self, vm: int, received: Hop) -> Hop | None:
        """The sending of the frame that brought some bytes; the cursor goes to just before it."""
        debugger = self._debugger
        assert received.frame_offset is not None and received.serial is not None, "they came in a frame"
        condition = PacketSent(vm, serial=received.serial, offset=received.frame_offset)
        hit = debugger.backward([condition], progress=self._progress).hit
        if hit is None:
            return None
        position = debugger.position
        debugger.goto_instret(vm, hit.instret - 1)
        registers = debugger.vms[vm].registers()
        return Hop(
            vm=vm,
            position=position,
            instret=hit.instret,
            gpa=hit.gpa,
            size=received.size,
            who=Who.DEVICE,
            rip=registers.rip,
            cr3=registers.cr3,
            cpl=registers.cs.selector & 3,
            value=debugger.vms[vm].read_memory(hit.gpa, min(received.size, 16)),
            device=Device.NET,
            serial=received.serial,
            frame_offset=received.frame_offset,
            sent=True,
        )

    # ---- copies ----

    def _read(self, vm: int, write: WatchHit) -> Read | None:
        """The read that a write copied, if it is one; the cursor goes there."""
        for before, hit in reversed(self._reads_before(vm, write)):
            at = _source_offset(hit, write, same_instruction=before == write.instret)
            if at is not None:
                within = (write.gpa - write.va) % PAGE_BYTES
                gpa = hit.gpa + at + within
                if gpa // PAGE_BYTES != hit.gpa // PAGE_BYTES:
                    gpa = self._debugger.vms[vm].translate(hit.va + at + within)
                return Read(gpa, hit.va + at + within, hit.rip, hit.instret - 1)
        return None

    def _reads_before(self, vm: int, write: WatchHit) -> list[tuple[int, WatchHit]]:
        """Reads of the last instructions up to the one that wrote, in order, each with the count after it."""
        debugger = self._debugger
        debugger.goto_instret(vm, max(write.instret - COPY_INSNS_MAX, 0))
        everything = Watchpoint(vm, 0, (1 << 64) - 1, WatchKind.READ)
        found: list[WatchHit] = []
        with Watching(debugger.vms, [everything], every_hit) as watching:
            debugger.multiverse.scan(_Gather(watching, found), write.vns)
        return [(hit.instret, hit) for hit in found if hit.who is Who.INSTRUCTION and hit.instret <= write.instret]


class _Gather(Lookout):
    """Keeps everything that is met on the way."""

    def __init__(self, watching: Watching, found: list[WatchHit]) -> None:
        self._watching = watching
        self._found = found

    def begin(self) -> None:
        self._watching.discard()

    def look(self, end_vns: int, pending: Sequence[Event], spoken: Sequence[Spoken]) -> Sighting | None:
        self._found += [cause.hit for _, cause in self._watching.take() if cause.hit is not None]
        return None


def _source_offset(read: WatchHit, write: WatchHit, *, same_instruction: bool) -> int | None:
    """Where in a read the bytes of the write are, if that is where they came from."""
    written = write.value
    if read.size == write.size and read.value == written:
        # A string instruction copies whatever the value is; zeros elsewhere are too common to say anything.
        return 0 if same_instruction or any(written) else None
    if len(written) < SURE_BYTES or not any(written):
        return None
    at = read.value.find(written)
    return None if at < 0 else at


__all__ = ["HOPS_MAX", "Hop", "MemoryCondition", "Origins", "Read"]
