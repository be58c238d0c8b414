"""Random fault schedules: blind search's only idea, and what smarter searches start from.

A schedule is a function of the stream that it is drawn from. Times lie over the whole span of the branch; durations are
log-uniform, because what matters may be as short as a round trip or longer than several elections.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from chaoscontrol.faults import types as f
from chaoscontrol.faults.schedule import FaultSchedule, Origin, ScheduledFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaoscontrol.random import Stream

MS = 1_000_000
FAULTS_MAX = 12
DURATION_NS_MIN = 2 * MS
"""Shorter ones end before anything notices."""


def log_uniform(stream: Stream, low: int, high: int) -> int:
    """An integer from low to high whose logarithm is uniform. Exact integers in, the same value on every host."""
    if high <= low:
        return low
    # A power of two first, then uniform within it: no floating-point function decides.
    bits = stream.below(math.ceil((high // low).bit_length()) or 1)
    start = min(low << bits, high)
    return start + stream.below(min(start, high - start) + 1)


def draw_schedule(
    stream: Stream, kinds: Sequence[type[f.Fault]], num_vms: int, span_ns: int, *, faults_max: int = FAULTS_MAX
) -> FaultSchedule:
    """A schedule of 1 to faults_max faults of these kinds, all ended within span_ns after the branch's beginning.

    kinds must not be empty. Kinds that a single machine cannot have (partitions) are left out for one.
    """
    usable = [kind for kind in kinds if num_vms > 1 or kind not in f.NETWORK_FAULTS]
    if not usable:
        return FaultSchedule((), Origin.BRANCH)
    count = 1 + stream.below(faults_max)
    # A few kinds per schedule: ten kinds at once drown each other.
    few = _sample(stream, usable, 1 + stream.below(min(4, len(usable))))
    drawn = [_draw(stream, few[stream.below(len(few))], num_vms, span_ns) for _ in range(count)]
    return FaultSchedule(tuple(drawn), Origin.BRANCH)


def _draw(stream: Stream, kind: type[f.Fault], num_vms: int, span_ns: int) -> ScheduledFault:
    at_ns = _whole(stream.below(max(1, span_ns - DURATION_NS_MIN)))
    fault = _MAKERS.get(kind, _target_only(kind))(stream, num_vms)
    if not fault.LASTS:
        return ScheduledFault(at_ns, fault)
    longest = span_ns - at_ns
    return ScheduledFault(at_ns, fault, _whole(log_uniform(stream, min(DURATION_NS_MIN, longest), longest)) or longest)


def _whole(ns: int) -> int:
    """Microseconds are fine enough, and short to read and edit."""
    return ns - ns % 1000


def _sample(stream: Stream, items: Sequence[type[f.Fault]], count: int) -> list[type[f.Fault]]:
    rest = list(items)
    return [rest.pop(stream.below(len(rest))) for _ in range(count)]


def _sides(stream: Stream, num_vms: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One machine against the rest, most of the time; else any two sides."""
    alone = stream.below(num_vms)
    if num_vms <= 3 or stream.below(2):
        side = {alone}
    else:
        side = {vm for vm in range(num_vms) if stream.below(2)} or {alone}
        if len(side) == num_vms:
            side.discard(alone)
    return tuple(sorted(side)), tuple(vm for vm in range(num_vms) if vm not in side)


def _one_way(stream: Stream, num_vms: int) -> f.Fault:
    a, b = _sides(stream, num_vms)
    return f.OneWayPartition(a, b) if stream.below(2) else f.OneWayPartition(b, a)


def _peer(stream: Stream, num_vms: int, target: int) -> int | None:
    """All links of the machine, or one of them."""
    peer = stream.below(num_vms)
    return None if peer == target or stream.below(2) else peer


_DIRECTIONS: tuple[f.Direction, ...] = ("both", "out", "in")


def _link(stream: Stream, num_vms: int) -> tuple[int, int | None, f.Direction]:
    target = stream.below(num_vms)
    return target, _peer(stream, num_vms, target), _DIRECTIONS[stream.below(3)]


def _latency(stream: Stream, num_vms: int) -> f.Fault:
    target, peer, direction = _link(stream, num_vms)
    return f.NetworkLatency(target, log_uniform(stream, MS, 500 * MS), peer, direction)


def _jitter(stream: Stream, num_vms: int) -> f.Fault:
    target, peer, direction = _link(stream, num_vms)
    return f.NetworkJitter(target, log_uniform(stream, MS, 200 * MS), peer, direction)


def _bandwidth(stream: Stream, num_vms: int) -> f.Fault:
    target, peer, direction = _link(stream, num_vms)
    return f.NetworkBandwidth(target, log_uniform(stream, 2_000, 1_000_000), peer, direction)


def _rate(kind: Callable[..., f.Fault], low_ppm: int, high_ppm: int) -> Callable[[Stream, int], f.Fault]:
    def make(stream: Stream, num_vms: int) -> f.Fault:
        target, peer, direction = _link(stream, num_vms)
        return kind(target, log_uniform(stream, low_ppm, high_ppm), peer, direction)

    return make


def _disk_rate(kind: Callable[..., f.Fault]) -> Callable[[Stream, int], f.Fault]:
    return lambda stream, num_vms: kind(stream.below(num_vms), log_uniform(stream, 1_000, f.PPM_MAX))


_LINES = (0, 1, *range(3, 16))
"""Of the interrupt controller; 2 is where its second chip hangs."""
_CRASHES: tuple[f.CrashMode, ...] = ("lose", "some", "torn")


def _kill(stream: Stream, num_vms: int) -> f.Fault:
    return f.ProcessKill(stream.below(num_vms), _CRASHES[stream.below(3)])


def _restart(stream: Stream, num_vms: int) -> f.Fault:
    return f.ProcessRestart(stream.below(num_vms), _CRASHES[stream.below(3)])


def _signed(stream: Stream, value: int) -> int:
    return value if stream.below(2) else -value


def _skew(stream: Stream, num_vms: int) -> f.Fault:
    rate = _signed(stream, log_uniform(stream, 100, 200_000))
    return f.ClockSkew(stream.below(num_vms), rate_ppm=rate)


def _jump(stream: Stream, num_vms: int) -> f.Fault:
    return f.ClockJump(stream.below(num_vms), _signed(stream, log_uniform(stream, MS, 3_600_000 * MS)))


def _target_only(kind: type[f.Fault]) -> Callable[[Stream, int], f.Fault]:
    """For faults that need nothing but a machine."""
    return lambda stream, num_vms: kind(stream.below(num_vms))  # type: ignore[call-arg]


_MAKERS: dict[type[f.Fault], Callable[[Stream, int], f.Fault]] = {
    f.NetworkPartition: lambda stream, n: f.NetworkPartition(*_sides(stream, n)),
    f.OneWayPartition: _one_way,
    f.NetworkLatency: _latency,
    f.NetworkJitter: _jitter,
    f.NetworkBandwidth: _bandwidth,
    f.PacketLoss: _rate(f.PacketLoss, 10_000, 600_000),
    f.PacketCorruption: _rate(f.PacketCorruption, 1_000, 100_000),
    f.PacketReorder: _rate(f.PacketReorder, 10_000, 500_000),
    f.PacketDuplicate: _rate(f.PacketDuplicate, 10_000, 500_000),
    f.NetworkHeal: lambda stream, n: f.NetworkHeal(),
    f.HealAll: lambda stream, n: f.HealAll(),
    f.DiskReadError: _disk_rate(f.DiskReadError),
    f.DiskWriteError: _disk_rate(f.DiskWriteError),
    f.DiskTornWrite: _disk_rate(f.DiskTornWrite),
    f.DiskCorruption: _disk_rate(f.DiskCorruption),
    f.DiskLatencySpike: _disk_rate(f.DiskLatencySpike),
    f.SlowDisk: lambda stream, n: f.SlowDisk(stream.below(n), log_uniform(stream, 2_000, 1_000_000)),
    f.ProcessKill: _kill,
    f.ProcessRestart: _restart,
    f.CpuSlowdown: lambda stream, n: f.CpuSlowdown(stream.below(n), log_uniform(stream, 2, 200)),
    f.ClockSkew: _skew,
    f.ClockJump: _jump,
    f.MemoryPressure: lambda stream, n: f.MemoryPressure(stream.below(n), log_uniform(stream, 1 << 20, 64 << 20)),
    f.TimerJitter: lambda stream, n: f.TimerJitter(stream.below(n), log_uniform(stream, 10_000, 20 * MS)),
    f.InjectInterrupt: lambda stream, n: f.InjectInterrupt(stream.below(n), _LINES[stream.below(15)]),
}
