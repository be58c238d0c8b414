"""Random fault schedules: blind search's only idea, and what smarter searches start from.

A schedule is a function of the stream that it is drawn from. Nothing is known of the system, so every schedule makes
guesses of its own and sticks to them, and a search tries many:

- a few kinds of faults, since many at once drown each other: one that takes a machine away from the others (a cut, a
  crash, a pause), and some of the rest;
- of these, some are weather: they make the whole cluster slow or lossy for long, so that what happens rarely on a good
  day (messages that cross, two that act at once) happens all the time;
- the others strike at a tempo: the scale of their durations and of the gaps between them, log-uniform, since what
  matters may be as short as a few round trips or as long as several elections. Faults of one tempo end, overlap and
  follow one another, where evenly spread ones mostly meet a system that has recovered from the one before;
- now and then a calm, in which the system does what it does when all is well.

docs/benchmarks.md has what these habits are worth.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from chaoscontrol.faults import types as f
from chaoscontrol.faults.schedule import FaultSchedule, Origin, ScheduledFault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaoscontrol.random import Stream

MS = 1_000_000
FAULTS_MAX = 100
KINDS_MAX = 5
TEMPO_NS_MIN = 40 * MS
TEMPO_NS_MAX = 1_000 * MS
SHORT_PARTS = (20, 4)
"""In a short branch the least and the greatest tempo are these parts of it, if that is less."""
SPREAD = 4
"""Gaps and durations lie between tempo / SPREAD and tempo * SPREAD."""
CALM_ODDS = 12
"""One gap in so many is a calm,"""
CALM_PART = 4
"""at most this part of the branch long."""
WEATHER_BEGINS_PART = 4
"""Weather begins within this part of the branch."""

AWAY: tuple[type[f.Fault], ...] = (
    f.NetworkPartition, f.OneWayPartition, f.ProcessKill, f.ProcessPause, f.ProcessRestart,
)  # fmt: skip
"""Kinds that take a machine away from the others."""
WEATHER: tuple[type[f.Fault], ...] = (
    f.NetworkLatency, f.NetworkJitter, f.NetworkBandwidth, f.PacketLoss, f.PacketCorruption, f.PacketReorder,
    f.PacketDuplicate, f.SlowDisk, f.DiskLatencySpike, f.CpuSlowdown, f.TimerJitter, f.ClockSkew, f.MemoryPressure,
)  # fmt: skip
"""Kinds that a system can live with for long."""
WEATHER_ODDS = (3, 4)
"""How often one of them is used as weather, and how often weather is everywhere."""

WEIGHTS: dict[type[f.Fault], int] = {
    f.NetworkPartition: 4,
    f.OneWayPartition: 2,
    f.ProcessKill: 3,
    f.ProcessPause: 3,
    f.ProcessRestart: 2,
    f.NetworkLatency: 4,
    f.NetworkJitter: 4,
    f.PacketLoss: 3,
    f.CpuSlowdown: 2,
}
"""How often a kind is chosen, relative to the others' 1."""


def log_uniform(stream: Stream, low: int, high: int) -> int:
    """An integer from low to high whose logarithm is uniform. Exact integers in, the same value on every host."""
    if high <= low:
        return low
    # A power of two first, then uniform within it: no floating-point function decides.
    bits = stream.below(math.ceil((high // low).bit_length()) or 1)
    start = min(low << bits, high)
    return start + stream.below(min(start, high - start) + 1)


def draw_schedule(
    stream: Stream, kinds: Sequence[type[f.Fault]], num_vms: int, span_ns: int, *, processes: Sequence[str] = (),
    faults_max: int = FAULTS_MAX,
) -> FaultSchedule:  # fmt: skip
    """A schedule of these kinds of faults, all ended within span_ns after the branch's beginning.

    processes: whom signals may be sent to, by name. About faults_max faults at most: weather may add one per machine
    and kind. Kinds that a single machine cannot have (partitions) are left out for one, signals where no process is
    named; without any kind the schedule is empty.
    """
    usable = [kind for kind in kinds if num_vms > 1 or kind not in f.NETWORK_FAULTS]
    usable = [kind for kind in usable if processes or kind is not f.SignalProcess]
    if not usable:
        return FaultSchedule((), Origin.BRANCH)
    few = _choose(stream, [kind for kind in usable if kind in AWAY], 1)
    few += _choose(stream, [kind for kind in usable if kind not in few], stream.below(KINDS_MAX) + (not few))
    weather = [kind for kind in few if kind in WEATHER and _happens(stream, WEATHER_ODDS)]
    sudden = [kind for kind in few if kind not in weather]
    drawn: list[ScheduledFault] = []
    for kind in weather:
        drawn += _draw_weather(stream, kind, num_vms, span_ns)
    least_ns, greatest_ns = (max(1, span_ns // part) for part in SHORT_PARTS)
    tempo_ns = log_uniform(stream, min(TEMPO_NS_MIN, least_ns), min(TEMPO_NS_MAX, greatest_ns))
    at_ns = _around(stream, tempo_ns) % max(1, span_ns // 2)
    while sudden and at_ns < span_ns and len(drawn) < faults_max:
        kind = sudden[stream.below(len(sudden))]
        fault = _signal(stream, num_vms, processes) if kind is f.SignalProcess else _make(stream, kind, num_vms)
        drawn.append(_place_sudden(stream, fault, _whole(at_ns), span_ns, tempo_ns))
        at_ns += _around(stream, tempo_ns)
        if not stream.below(CALM_ODDS):
            at_ns += log_uniform(stream, tempo_ns, max(tempo_ns, span_ns // CALM_PART))
    return FaultSchedule(tuple(drawn), Origin.BRANCH)


def _draw_weather(stream: Stream, kind: type[f.Fault], num_vms: int, span_ns: int) -> list[ScheduledFault]:
    """On every machine alike, or on one; for at least half of what is left of the branch."""
    at_ns = _whole(stream.below(max(1, span_ns // WEATHER_BEGINS_PART)))
    left = span_ns - at_ns
    duration_ns = _whole(log_uniform(stream, max(1, left // 2), left)) or left
    fault = _make(stream, kind, num_vms)
    if not _happens(stream, WEATHER_ODDS):
        return [ScheduledFault(at_ns, fault, duration_ns)]
    return [ScheduledFault(at_ns, _elsewhere(fault, vm), duration_ns) for vm in range(num_vms)]


def _elsewhere(fault: f.Fault, vm: int) -> f.Fault:
    """The same fault on another machine, of a link on all its links."""
    changes: dict[str, Any] = {"target": vm}
    if isinstance(fault, f.NETWORK_FAULTS):
        changes |= {"peer": None, "direction": "both"}
    return dataclasses.replace(fault, **changes)


def _place_sudden(stream: Stream, fault: f.Fault, at_ns: int, span_ns: int, tempo_ns: int) -> ScheduledFault:
    if not fault.LASTS:
        return ScheduledFault(at_ns, fault)
    longest = span_ns - at_ns
    return ScheduledFault(at_ns, fault, _whole(min(_around(stream, tempo_ns), longest)) or longest)


def _make(stream: Stream, kind: type[f.Fault], num_vms: int) -> f.Fault:
    return _MAKERS.get(kind, _target_only(kind))(stream, num_vms)


def _happens(stream: Stream, odds: tuple[int, int]) -> bool:
    """As often as odds[0] times of odds[1]."""
    return stream.below(odds[1]) < odds[0]


def _around(stream: Stream, tempo_ns: int) -> int:
    return log_uniform(stream, max(1, tempo_ns // SPREAD), tempo_ns * SPREAD)


def _whole(ns: int) -> int:
    """Microseconds are fine enough, and short to read and edit."""
    return ns - ns % 1000


def _choose(stream: Stream, kinds: Sequence[type[f.Fault]], count: int) -> list[type[f.Fault]]:
    """So many different kinds, or all, by their weights."""
    rest = list(kinds)
    chosen: list[type[f.Fault]] = []
    while rest and len(chosen) < count:
        at = stream.below(sum(WEIGHTS.get(kind, 1) for kind in rest))
        for i, kind in enumerate(rest):
            at -= WEIGHTS.get(kind, 1)
            if at < 0:
                chosen.append(rest.pop(i))
                break
    return chosen


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


_SIGNALS = (9, 15, 19, 18)
"""SIGKILL, SIGTERM, SIGSTOP, SIGCONT, as Linux numbers them on x86-64 (signal(7))."""


def _signal(stream: Stream, num_vms: int, processes: Sequence[str]) -> f.Fault:
    target, process = stream.below(num_vms), processes[stream.below(len(processes))]
    return f.SignalProcess(target, process, _SIGNALS[stream.below(len(_SIGNALS))])


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
