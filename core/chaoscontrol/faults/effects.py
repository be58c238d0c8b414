"""What a set of active faults amounts to: for every link, disk and machine one value, computed anew from the whole set.

Faults may overlap in any way, and each may end at any time; so nothing is ever "switched back": what holds after an end
is what the remaining faults amount to. Delays add, chances combine as independent ones, of limits the smallest holds.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from . import types as f

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PPM = f.PPM_MAX


@dataclasses.dataclass(frozen=True, slots=True)
class LinkEffect:
    """On one direction of a link, beside what the network does by itself."""

    down: bool = False
    latency_ns: int = 0
    jitter_ns: int = 0
    bytes_per_sec: int | None = None
    loss_ppm: int = 0
    corrupt_ppm: int = 0
    duplicate_ppm: int = 0
    reorder_ppm: int = 0
    reorder_ns: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class DiskEffect:
    """On one disk."""

    read_error_ppm: int = 0
    write_error_ppm: int = 0
    torn_ppm: int = 0
    torn_silent: bool = False
    corrupt_read_ppm: int = 0
    full: bool = False
    lost_flush: bool = False
    slow_permille: int = 1000
    spike_ppm: int = 0
    spike_ns: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class MachineEffect:
    """On one machine."""

    paused: bool = False
    off: bool = False
    slowdown: int = 1
    skew_ppm: int = 0
    timer_jitter_ns: int = 0
    balloon_bytes: int = 0
    clock_offset_ns: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Effects:
    """On the whole cluster; links by (sender, receiver), all of them."""

    links: dict[tuple[int, int], LinkEffect]
    disks: tuple[DiskEffect, ...]
    machines: tuple[MachineEffect, ...]


def either(a_ppm: int, b_ppm: int) -> int:
    """The chance that at least one of two independent things happens, rounded up."""
    return PPM - (PPM - a_ppm) * (PPM - b_ppm) // PPM


def links_of(fault: f.Fault, num_vms: int) -> Iterator[tuple[int, int]]:
    """The link directions that a network fault is about."""
    if isinstance(fault, (f.NetworkPartition, f.OneWayPartition)):
        for a in fault.side_a:
            for b in fault.side_b:
                yield a, b
                if isinstance(fault, f.NetworkPartition):
                    yield b, a
        return
    target: int = getattr(fault, "target")  # noqa: B009  a field of all others
    peer: int | None = getattr(fault, "peer")  # noqa: B009
    direction: f.Direction = getattr(fault, "direction")  # noqa: B009
    for other in range(num_vms) if peer is None else (peer,):
        if other == target:
            continue
        if direction != "in":
            yield target, other
        if direction != "out":
            yield other, target


def _on_link(old: LinkEffect, fault: f.Fault) -> LinkEffect:
    match fault:
        case f.NetworkPartition() | f.OneWayPartition():
            return dataclasses.replace(old, down=True)
        case f.NetworkLatency():
            return dataclasses.replace(old, latency_ns=old.latency_ns + fault.latency_ns)
        case f.NetworkJitter():
            return dataclasses.replace(old, jitter_ns=old.jitter_ns + fault.jitter_ns)
        case f.NetworkBandwidth():
            limits = (old.bytes_per_sec, fault.bytes_per_sec)
            return dataclasses.replace(old, bytes_per_sec=min(x for x in limits if x is not None))
        case f.PacketLoss():
            return dataclasses.replace(old, loss_ppm=either(old.loss_ppm, fault.rate_ppm))
        case f.PacketCorruption():
            return dataclasses.replace(old, corrupt_ppm=either(old.corrupt_ppm, fault.rate_ppm))
        case f.PacketDuplicate():
            return dataclasses.replace(old, duplicate_ppm=either(old.duplicate_ppm, fault.rate_ppm))
        case f.PacketReorder():
            return dataclasses.replace(
                old,
                reorder_ppm=either(old.reorder_ppm, fault.rate_ppm),
                reorder_ns=max(old.reorder_ns, fault.window_ns),
            )
        case _:
            return old


def _on_disk(old: DiskEffect, fault: f.Fault) -> DiskEffect:
    match fault:
        case f.DiskReadError():
            return dataclasses.replace(old, read_error_ppm=either(old.read_error_ppm, fault.rate_ppm))
        case f.DiskWriteError():
            return dataclasses.replace(old, write_error_ppm=either(old.write_error_ppm, fault.rate_ppm))
        case f.DiskTornWrite():
            torn = either(old.torn_ppm, fault.rate_ppm)
            return dataclasses.replace(old, torn_ppm=torn, torn_silent=old.torn_silent or fault.silent)
        case f.DiskCorruption():
            return dataclasses.replace(old, corrupt_read_ppm=either(old.corrupt_read_ppm, fault.rate_ppm))
        case f.DiskFull():
            return dataclasses.replace(old, full=True)
        case f.LostFlush():
            return dataclasses.replace(old, lost_flush=True)
        case f.SlowDisk():
            return dataclasses.replace(old, slow_permille=max(1, old.slow_permille * fault.factor_permille // 1000))
        case f.DiskLatencySpike():
            return dataclasses.replace(
                old, spike_ppm=either(old.spike_ppm, fault.rate_ppm), spike_ns=max(old.spike_ns, fault.spike_ns)
            )
        case _:
            return old


def _on_machine(old: MachineEffect, fault: f.Fault) -> MachineEffect:
    match fault:
        case f.ProcessPause():
            return dataclasses.replace(old, paused=True)
        case f.ProcessKill():
            return dataclasses.replace(old, off=True)
        case f.CpuSlowdown():
            return dataclasses.replace(old, slowdown=min(1000, old.slowdown * fault.factor))
        case f.ClockSkew():
            return dataclasses.replace(
                old,
                skew_ppm=old.skew_ppm + fault.rate_ppm,
                clock_offset_ns=old.clock_offset_ns + fault.offset_ns,
            )
        case f.TimerJitter():
            return dataclasses.replace(old, timer_jitter_ns=max(old.timer_jitter_ns, fault.max_ns))
        case f.MemoryPressure():
            return dataclasses.replace(old, balloon_bytes=old.balloon_bytes + fault.take_bytes)
        case _:
            return old


def effects_of(active: Iterable[f.Fault], num_vms: int) -> Effects:
    """What the active faults amount to. The order does not matter."""
    links = {(a, b): LinkEffect() for a in range(num_vms) for b in range(num_vms) if a != b}
    disks = [DiskEffect()] * num_vms
    machines = [MachineEffect()] * num_vms
    for fault in active:
        if isinstance(fault, f.NETWORK_FAULTS):
            for link in links_of(fault, num_vms):
                links[link] = _on_link(links[link], fault)
        elif isinstance(fault, f.DISK_FAULTS):
            disks[fault.target] = _on_disk(disks[fault.target], fault)
        else:
            for vm in fault.vms():
                machines[vm] = _on_machine(machines[vm], fault)
    return Effects(links, tuple(disks), tuple(machines))
