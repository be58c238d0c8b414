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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ._native import CData

CAPTURE_BYTES = 64 << 20
_TAKE_BYTES = 1 << 20


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


@dataclasses.dataclass(frozen=True, slots=True)
class CapturedFrame:
    """A copy of a frame on one link."""

    sent_vns: int
    arrival_vns: int | None
    """None: it was lost."""
    serial: int
    """Of its sender: the copies of one frame have the same."""
    src: int
    dst: int
    fate: Fate
    data: bytes
    """As it arrived: a corrupted one with its flipped bit."""


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

    # ---- capture ----

    def start_capture(self, bytes_max: int = CAPTURE_BYTES) -> None:
        """Keeps what the links do from now on, up to that many bytes until it is taken; forgets what was kept.

        No part of the state: going back in time neither stops it nor takes anything back.
        """
        if bytes_max <= 0:
            raise UsageError(f"a capture of {bytes_max} bytes", hint="give a size above 0")
        lib.cc_tap_set(self._native(), bytes_max)

    def stop_capture(self) -> None:
        """Ends the capture and forgets what was not taken."""
        lib.cc_tap_set(self._native(), 0)

    def take_capture(self) -> tuple[list[CapturedFrame], int]:
        """What the links did since the last call, in the order of sending; and how many records found no room."""
        native = self._native()
        buffer, lost = ffi.new(f"uint8_t[{_TAKE_BYTES}]"), ffi.new("uint64_t *")
        frames: list[CapturedFrame] = []
        missed = 0
        while True:
            size = lib.cc_tap_take(native, buffer, _TAKE_BYTES, lost)
            missed += lost[0]
            if not size:
                return frames, missed
            frames += _parse(ffi.buffer(buffer, size)[:])


def _parse(records: bytes) -> Iterator[CapturedFrame]:
    header = ffi.sizeof("cc_tap_record")
    at = 0
    while at < len(records):
        r = ffi.new("cc_tap_record *")
        ffi.buffer(r)[:] = records[at : at + header]
        at += header
        data = records[at : at + r.size]
        yield CapturedFrame(r.sent_vns, r.arrival_vns or None, r.serial, r.src, r.dst, Fate(r.fate), data)
        at += (r.size + 7) & ~7
