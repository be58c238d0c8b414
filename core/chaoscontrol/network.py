"""Network: the switched Ethernet between a cluster's machines.

Owns nothing: links live in the native cluster, in its snapshots and digest. What is set here holds for frames sent from
the cluster's present time on. Times are virtual nanoseconds, chances parts per million.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from ._binding import ffi, lib, raise_native
from .errors import UsageError
from .in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId, PacketInFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ._native import CData
    from .in_flight import PacketEdit

CAPTURE_BYTES = 64 << 20
FRAME_BYTES_MAX = lib.CC_FRAME_BYTES_MAX
"""Ethernet header, 1500 bytes, one VLAN tag; no checksum."""
_TAKE_BYTES = 1 << 20
_HEAD_BYTES = ffi.sizeof("cc_tap_record")


@dataclasses.dataclass(frozen=True, slots=True)
class LinkParams:
    """One direction of the link between two machines. Ranges are checked where it is set."""

    latency_ns: int = 50_000
    """From a frame's last bit sent to its arrival. It arrives in a later tick in any case."""
    jitter_ns: int = 0
    """A further random delay of each frame, from 0 to this. Frames do not overtake each other by it."""
    bandwidth_bps: int = 0
    """Bits per second; 0: unlimited."""
    queue_bytes: int = 262_144
    """What may wait for a transmitter of limited bandwidth; a frame that finds no room is lost."""
    reorder_ns: int = 0
    """A frame chosen for reordering comes later by a random 1 to this, and others may overtake it."""
    reorder_ppm: int = 0
    loss_ppm: int = 0
    duplicate_ppm: int = 0
    corrupt_ppm: int = 0
    """Frames in which one bit flips, behind the Ethernet header."""
    down: bool = False
    """Nothing passes."""

    def replace(self, **changes: int) -> LinkParams:
        """A copy with the named fields changed. Raises UsageError for one that does not exist."""
        unknown = changes.keys() - _PARAMS
        if unknown:
            raise UsageError(f"a link has no {min(unknown)}", hint=f"use {', '.join(_PARAMS)}")
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


_PARAMS = tuple(field.name for field in dataclasses.fields(LinkParams))


@dataclasses.dataclass(frozen=True, slots=True)
class LinkCounters:
    """Frames of one direction since the start: sent + duplicated = delivered + all that were lost."""

    sent: int
    sent_bytes: int
    delivered: int
    delivered_bytes: int
    lost_down: int
    lost_random: int
    lost_queue: int
    lost_receiver: int
    """The receiver was off, or had thousands of frames waiting already."""
    duplicated: int
    corrupted: int
    reordered: int

    @property
    def lost(self) -> int:
        """Frames lost for any reason."""
        return self.lost_down + self.lost_random + self.lost_queue + self.lost_receiver


_COUNTERS = tuple(field.name for field in dataclasses.fields(LinkCounters))


class Fate(enum.IntFlag):
    """What became of a copy of a frame on a link."""

    DELIVERED = lib.CC_TAP_DELIVERED
    LOST_DOWN = lib.CC_TAP_LOST_DOWN
    LOST_RANDOM = lib.CC_TAP_LOST_RANDOM
    LOST_QUEUE = lib.CC_TAP_LOST_QUEUE
    LOST_RECEIVER = lib.CC_TAP_LOST_RECEIVER
    CORRUPTED = lib.CC_TAP_CORRUPTED
    REORDERED = lib.CC_TAP_REORDERED
    DUPLICATE = lib.CC_TAP_DUPLICATE
    TAKEN = lib.CC_TAP_TAKEN
    """By an edit, on its way; the record says what it was, and when it would have arrived."""
    EDITED = lib.CC_TAP_EDITED
    """An edit put it there: in the place of one that was taken, or, as a duplicate, beside it."""

    @property
    def text(self) -> str:
        """For a person; empty if it was just delivered."""
        return ", ".join(text for fate, text in _FATES if self & fate)


_FATES = (
    (Fate.LOST_DOWN, "lost: the link was down"),
    (Fate.LOST_RANDOM, "lost: packet loss"),
    (Fate.LOST_QUEUE, "lost: the sender's queue was full"),
    (Fate.LOST_RECEIVER, "lost: the receiver took no more"),
    (Fate.CORRUPTED, "corrupted: a bit flipped"),
    (Fate.REORDERED, "reordered"),
    (Fate.DUPLICATE, "duplicate"),
    (Fate.TAKEN, "lost: an edit took it away"),
    (Fate.EDITED, "edited"),
)
FATES = sum(Fate)
"""All of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A copy of a frame on one link."""

    switched_vns: int
    """When it was decided what becomes of it: the end of the tick in which it was sent, as a rule; or when it was
    edited."""
    sent_vns: int
    """Of an edit: when that was."""
    arrival_vns: int | None
    """None: it was lost on the link."""
    serial: int
    """Of its sender: the copies of one frame have the same."""
    src: int
    dst: int
    fate: Fate
    data: bytes
    """As it arrived: a corrupted one with its flipped bit."""

    def is_copy(self, other: CapturedFrame) -> bool:
        """Is it the same copy of the same frame, whatever became of it?"""
        mine = (self.src, self.serial, self.dst, self.fate & Fate.DUPLICATE)
        return mine == (other.src, other.serial, other.dst, other.fate & Fate.DUPLICATE)

    def __str__(self) -> str:
        what = self.fate.text or "delivered"
        arrival = "" if self.arrival_vns is None else f" to arrive at {self.arrival_vns} ns"
        ends = f"vm{self.src} to vm{self.dst}"
        return f"frame {self.serial} of {ends}, {len(self.data)} bytes, sent at {self.sent_vns} ns{arrival}, {what}"


class Link:
    """One direction between two machines. set() changes any parameter; the commonest are attributes too."""

    __slots__ = ("_network", "dst", "src")

    def __init__(self, network: Network, src: int, dst: int) -> None:
        self._network = network
        self.src = src
        """The machine that sends."""
        self.dst = dst
        """The machine that receives."""

    @property
    def params(self) -> LinkParams:
        """What holds for frames sent from now on."""
        return self._network.read_params(self.src, self.dst)

    @params.setter
    def params(self, params: LinkParams) -> None:
        self._network.write_params(self.src, self.dst, params)

    def set(self, **changes: int) -> None:
        """Changes the named parameters. Raises UsageError for a value out of range, and then changes none."""
        self.params = self.params.replace(**changes)

    def heal(self) -> None:
        """Back to the network's normal parameters."""
        self.params = self._network.normal

    @property
    def counters(self) -> LinkCounters:
        """Of all frames since the start."""
        return self._network.read_counters(self.src, self.dst)

    @property
    def latency_ns(self) -> int:
        """As in LinkParams."""
        return self.params.latency_ns

    @latency_ns.setter
    def latency_ns(self, value: int) -> None:
        self.set(latency_ns=value)

    @property
    def bandwidth_bps(self) -> int:
        """As in LinkParams."""
        return self.params.bandwidth_bps

    @bandwidth_bps.setter
    def bandwidth_bps(self, value: int) -> None:
        self.set(bandwidth_bps=value)

    @property
    def loss_ppm(self) -> int:
        """As in LinkParams."""
        return self.params.loss_ppm

    @loss_ppm.setter
    def loss_ppm(self, value: int) -> None:
        self.set(loss_ppm=value)

    @property
    def down(self) -> bool:
        """As in LinkParams."""
        return self.params.down

    @down.setter
    def down(self, value: bool) -> None:
        self.set(down=value)

    def __repr__(self) -> str:
        return f"<Link {self.src} to {self.dst}>"


class Network:
    """All links of a cluster; there is one between any two machines, each direction by itself."""

    def __init__(self, native: Callable[[], CData], num_vms: int, normal: LinkParams) -> None:
        self._native = native
        self._num_vms = num_vms
        self.normal = normal
        """What heal() goes back to."""
        self._taps: list[FrameTap] = []
        self._own: FrameTap | None = None
        self.set(**dataclasses.asdict(normal))

    def _check(self, native: CData, code: int) -> None:
        if code != lib.CC_OK:
            raise_native(code, ffi.string(lib.cc_cluster_error(native)).decode(errors="replace"))

    # ---- links ----

    def link(self, src: int, dst: int) -> Link:
        """The link on which machine src sends to machine dst. Raises UsageError if there is none."""
        for vm in (src, dst):
            if not 0 <= vm < self._num_vms:
                raise UsageError(f"there is no machine {vm}", hint=f"machines are 0 to {self._num_vms - 1}")
        if src == dst:
            raise UsageError(f"machine {src} has no link to itself", hint="name two machines")
        return Link(self, src, dst)

    def links(self) -> Iterator[Link]:
        """All links, by sender, then by receiver."""
        for src in range(self._num_vms):
            for dst in range(self._num_vms):
                if src != dst:
                    yield Link(self, src, dst)

    def set(self, **changes: int) -> None:
        """Changes the named parameters of every link."""
        for link in self.links():
            link.set(**changes)

    def heal(self) -> None:
        """Every link back to the normal parameters. What is lost stays lost, what is late comes late."""
        for link in self.links():
            link.heal()

    def partition(self, side_a: tuple[int, ...], side_b: tuple[int, ...], *, one_way: bool = False) -> None:
        """Takes the links between two sets of machines down; with one_way only those from side_a to side_b.

        Raises UsageError if a machine is on both sides or does not exist, and then changes nothing.
        """
        both = set(side_a) & set(side_b)
        if both:
            raise UsageError(f"machine {min(both)} is on both sides", hint="give two sets that do not overlap")
        links = [self.link(a, b) for a in side_a for b in side_b]
        if not one_way:
            links += [self.link(b, a) for a in side_a for b in side_b]
        for link in links:
            link.set(down=True)

    @property
    def link_states(self) -> dict[tuple[int, int], LinkParams]:
        """The parameters of every link, by (sender, receiver)."""
        return {(link.src, link.dst): link.params for link in self.links()}

    def read_params(self, src: int, dst: int) -> LinkParams:
        """The parameters of one link."""
        native, raw = self._native(), ffi.new("cc_link_params *")
        self._check(native, lib.cc_link_get(native, src, dst, raw))
        values = {name: getattr(raw, name) for name in _PARAMS}
        return LinkParams(**values | {"down": bool(raw.down)})

    def write_params(self, src: int, dst: int, params: LinkParams) -> None:
        """Sets the parameters of one link. Raises UsageError for a value out of range."""
        native, raw = self._native(), ffi.new("cc_link_params *")
        for name in _PARAMS:
            try:
                setattr(raw, name, getattr(params, name))
            except (OverflowError, TypeError):
                raise UsageError(
                    f"link {src} to {dst}: {name} cannot be {getattr(params, name)!r}", hint="give a number from 0 on"
                ) from None
        self._check(native, lib.cc_link_set(native, src, dst, raw))

    # ---- counters ----

    def read_counters(self, src: int, dst: int) -> LinkCounters:
        """The counters of one link."""
        native, raw = self._native(), ffi.new("cc_link_counters *")
        self._check(native, lib.cc_link_count(native, src, dst, raw))
        return LinkCounters(*(getattr(raw, name) for name in _COUNTERS))

    def unknown_frames(self, vm: int) -> int:
        """Frames that a machine sent to an address that nobody has, or that were no Ethernet frames."""
        native, raw = self._native(), ffi.new("cc_port_counters *")
        self._check(native, lib.cc_port_count(native, vm, raw))
        return raw.unknown + raw.runts

    # ---- packets in flight ----

    def in_flight(self) -> list[PacketInFlight]:
        """All packets on their way, in the order of their arrival; of those sent in this tick, what is foreseen."""
        native, size = self._native(), ffi.new("size_t *")
        self._check(native, lib.cc_flights(native, ffi.NULL, 0, size))
        buffer = ffi.new("uint8_t[]", max(size[0], 1))
        self._check(native, lib.cc_flights(native, buffer, size[0], size))
        found = _parse_flights(ffi.buffer(buffer, size[0])[:])
        return sorted(found, key=lambda p: (p.arrival_vns, p.id.dst, p.id.src, p.id.serial, p.id.copy))

    def find_in_flight(self, packet: PacketId) -> PacketInFlight:
        """The packet of that name. Raises UsageError if it is not in flight."""
        found = next((one for one in self.in_flight() if one.id == packet), None)
        if found is None:
            raise UsageError(f"{packet} is not in flight", hint="it has arrived, was lost, or was not sent yet")
        return found

    def edit(self, packet: PacketId, edit: PacketEdit) -> None:
        """Does something to a packet in flight. Raises UsageError, and does nothing, if it is none or that cannot be.

        In a history only BranchHead.give() may do so: the edit is a PacketInput of the branch.
        """
        found = self.find_in_flight(packet)
        native, name = self._native(), ffi.new("cc_flight *")
        name.src, name.serial, name.dst, name.copy = packet.src, packet.serial, packet.dst, packet.copy
        match edit:
            case Drop():
                code = lib.cc_flight_drop(native, name)
            case ArriveAt(vns):
                code = lib.cc_flight_move(native, name, _time(vns))
            case CopyAt(vns):
                code = lib.cc_flight_copy(native, name, _time(vns))
            case Overwrite():
                data = edit.over(found.data)
                code = lib.cc_flight_write(native, name, ffi.from_buffer(data), len(data))
        self._check(native, code)

    # ---- captures ----

    def tap(self, bytes_max: int = CAPTURE_BYTES) -> FrameTap:
        """A capture of its own of what the links do from now on, until it is closed. Raises UsageError.

        No part of the state: going back in time neither stops it nor takes anything back.
        """
        if bytes_max <= 0:
            raise UsageError(f"a capture of {bytes_max} bytes", hint="give a size above 0")
        self._drain()
        made = FrameTap(bytes_max, self._drain, self._untap)
        self._taps.append(made)
        lib.cc_tap_set(self._native(), max(tap.bytes_max for tap in self._taps))
        return made

    def _untap(self, closed: FrameTap) -> None:
        self._drain()
        self._taps.remove(closed)
        if not self._taps:
            lib.cc_tap_set(self._native(), 0)

    def _drain(self) -> None:
        """What the engine has captured, to all who capture."""
        if not self._taps:
            return
        native = self._native()
        buffer, lost = ffi.new(f"uint8_t[{_TAKE_BYTES}]"), ffi.new("uint64_t *")
        while True:
            size = lib.cc_tap_take(native, buffer, _TAKE_BYTES, lost)
            frames = list(_parse(ffi.buffer(buffer, size)[:]))
            for tap in self._taps:
                tap.give(frames, lost[0])
            if not size:
                return

    def start_capture(self, bytes_max: int = CAPTURE_BYTES) -> None:
        """Keeps what the links do from now on, up to that many bytes until it is taken; forgets what was kept."""
        self.stop_capture()
        self._own = self.tap(bytes_max)

    def stop_capture(self) -> None:
        """Ends the capture and forgets what was not taken."""
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def take_capture(self) -> tuple[list[CapturedFrame], int]:
        """What the links did since the last call, in the order of sending; and how many records found no room."""
        return ([], 0) if self._own is None else self._own.take()


class FrameTap:
    """A capture: every one of a network hears everything. Got from Network.tap(); also a context manager."""

    def __init__(self, bytes_max: int, drain: Callable[[], None], untap: Callable[[FrameTap], None]) -> None:
        self.bytes_max = bytes_max
        """That it keeps until they are taken, headers included."""
        self._drain = drain
        self._untap = untap
        self._frames: list[CapturedFrame] = []
        self._bytes = self._lost = 0
        self._open = True

    def give(self, frames: Sequence[CapturedFrame], lost: int) -> None:
        """For the network: what it captured, and how many records had no room there."""
        self._lost += lost
        for frame in frames:
            size = _HEAD_BYTES + len(frame.data)
            if self._bytes + size > self.bytes_max:
                self._lost += 1
            else:
                self._bytes += size
                self._frames.append(frame)

    def take(self) -> tuple[list[CapturedFrame], int]:
        """What the links did since the last call, in the order of sending; and how many records found no room."""
        self._drain()
        frames, lost = self._frames, self._lost
        self._frames, self._bytes, self._lost = [], 0, 0
        return frames, lost

    def close(self) -> None:
        """Ends it and forgets what was not taken; does nothing the second time."""
        if self._open:
            self._open = False
            self._untap(self)

    def __enter__(self) -> FrameTap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _time(vns: int) -> int:
    if not 0 <= vns < 1 << 64:
        raise UsageError(f"a frame cannot arrive at {vns} ns", hint="give a time from now on")
    return vns


def _parse_flights(records: bytes) -> Iterator[PacketInFlight]:
    header = ffi.sizeof("cc_flight")
    at = 0
    while at < len(records):
        r = ffi.new("cc_flight *")
        ffi.buffer(r)[:] = records[at : at + header]
        at += header
        named, data = PacketId(r.src, r.serial, r.dst, r.copy), records[at : at + r.size]
        yield PacketInFlight(named, r.arrival_vns, data, bool(r.foreseen))
        at += (r.size + 7) & ~7


def _parse(records: bytes) -> Iterator[CapturedFrame]:
    at = 0
    while at < len(records):
        r = ffi.new("cc_tap_record *")
        ffi.buffer(r)[:] = records[at : at + _HEAD_BYTES]
        at += _HEAD_BYTES
        data = records[at : at + r.size]
        fate = Fate(r.fate)
        yield CapturedFrame(r.switched_vns, r.sent_vns, r.arrival_vns or None, r.serial, r.src, r.dst, fate, data)
        at += (r.size + 7) & ~7
