"""FaultEngine: applies a schedule to a cluster, each start and end at its exact virtual time.

The engine is a plain value beside the cluster's state: which faults are active, how far the schedule is done, what was
injected by hand. A cluster snapshot carries state(), so going back takes the faults back as well. It calls the cluster
through FaultTarget, and knows nothing of links, disks and machines but what faults do to them.

Faults of a schedule that is relative to setup_complete wait until every machine has said it (or until
force_setup_complete()).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

from . import types as f
from .effects import DiskEffect, Effects, LinkEffect, effects_of
from .schedule import FaultSchedule, Origin, ScheduledFault, format_ns

if TYPE_CHECKING:
    from collections.abc import Sequence


class FaultTarget(Protocol):
    """What a cluster offers to the engine. Every call takes effect at the machine's present moment."""

    def fault_link(self, src: int, dst: int, effect: LinkEffect) -> None:
        """Frames sent from now on from src to dst meet this."""
        ...

    def fault_disk(self, vm: int, effect: DiskEffect) -> None:
        """Requests completed from now on meet this."""
        ...

    def fault_pause(self, vm: int, paused: bool) -> None: ...
    def fault_power_off(self, vm: int, disk: f.CrashMode) -> None: ...
    def fault_boot(self, vm: int) -> None:
        """Boots a machine that is off from its own disk."""
        ...

    def fault_slowdown(self, vm: int, factor: int) -> None: ...
    def fault_skew(self, vm: int, ppm: int) -> None: ...
    def fault_timer_jitter(self, vm: int, max_ns: int) -> None: ...
    def fault_balloon(self, vm: int, take_bytes: int) -> None: ...
    def fault_irq(self, vm: int, irq: int) -> None: ...
    def fault_nmi(self, vm: int) -> None: ...
    def fault_clock(self, vm: int, delta_ns: int) -> None:
        """Moves the wall clock, through the agent."""
        ...

    def fault_signal(self, vm: int, process: str, signal: int) -> None:
        """Signals processes by name, through the agent."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class FaultChange:
    """A fault began, ended, or happened, at a moment."""

    vns: int
    fault: f.Fault
    begins: bool
    number: int
    """Of the fault in this run: its place among all that began, counted from 0."""

    def __str__(self) -> str:
        if not self.fault.LASTS:
            return str(self.fault)
        return f"{'begins' if self.begins else 'ends'}: {self.fault}"


@dataclasses.dataclass(frozen=True, slots=True)
class EngineState:
    """All that a FaultEngine's future depends on, as a value."""

    schedule: FaultSchedule
    origin_ns: int | None
    """The cluster's time at which the schedule's time 0 lies; None: not known yet."""
    started: int = 0
    """How many of the schedule's faults have begun."""
    count: int = 0
    """How many faults have begun in all."""
    active: tuple[tuple[int, f.Fault, int | None], ...] = ()
    """(number, fault, absolute end) in the order of their beginning."""


class FaultEngine:
    """Applies faults to a cluster of `num_vms` machines."""

    def __init__(self, num_vms: int, schedule: FaultSchedule | None = None, *, now_ns: int = 0) -> None:
        self._num_vms = num_vms
        self._state = EngineState(FaultSchedule(), 0)
        self._log: list[FaultChange] = []
        self.set_schedule(schedule or FaultSchedule(), now_ns=now_ns)

    # ---- the schedule ----

    @property
    def schedule(self) -> FaultSchedule:
        """The schedule in force."""
        return self._state.schedule

    @property
    def active(self) -> Sequence[f.Fault]:
        """The faults in effect now, in the order of their beginning."""
        return tuple(fault for _, fault, _ in self._state.active)

    def set_schedule(self, schedule: FaultSchedule, *, now_ns: int, setup_ns: int | None = None) -> None:
        """Replaces what has not begun yet. Raises FaultError if it names machines that are not there.

        now_ns: the cluster's time, which is the branch's beginning. setup_ns: when setup was complete, if it is.
        """
        schedule.check(self._num_vms)
        origin = {Origin.BOOT: 0, Origin.BRANCH: now_ns, Origin.SETUP: setup_ns}[schedule.origin]
        self._state = dataclasses.replace(self._state, schedule=schedule, origin_ns=origin, started=0)

    @property
    def waits_for_setup(self) -> bool:
        """Whether the schedule waits for the guests to say setup_complete."""
        return self._state.origin_ns is None and bool(self._state.schedule.faults)

    def setup_complete(self, vns: int) -> None:
        """The guests are set up since vns; does nothing if that was known."""
        if self._state.origin_ns is None:
            self._state = dataclasses.replace(self._state, origin_ns=vns)

    # ---- state ----

    def state(self) -> EngineState:
        """For a snapshot."""
        return self._state

    def restore(self, state: EngineState) -> None:
        """Back to a snapshot's state. The machines' own state, which holds the faults' effects, is restored beside."""
        self._state = state
        self._log.clear()

    def take_log(self) -> list[FaultChange]:
        """What was applied since the last call, in order."""
        log, self._log = self._log, []
        return log

    # ---- time ----

    def next_ns(self) -> int | None:
        """When the next start or end lies, in the cluster's time; None: nothing is to come."""
        times = [end for _, _, end in self._state.active if end is not None]
        upcoming = self._upcoming()
        if upcoming is not None:
            times.append(upcoming[0])
        return min(times, default=None)

    def _upcoming(self) -> tuple[int, ScheduledFault] | None:
        s = self._state
        if s.origin_ns is None or s.started == len(s.schedule.faults):
            return None
        scheduled = s.schedule.faults[s.started]
        return s.origin_ns + scheduled.at_ns, scheduled

    def apply_due(self, now_ns: int, cluster: FaultTarget) -> None:
        """Applies everything whose time has come: ends before starts of the same time."""
        while (due := self.next_ns()) is not None and due <= now_ns:
            ended = [entry for entry in self._state.active if entry[2] is not None and entry[2] <= due]
            if ended:
                self._end(ended, due, cluster)
                continue
            upcoming = self._upcoming()
            assert upcoming is not None
            self._state = dataclasses.replace(self._state, started=self._state.started + 1)
            self._begin(upcoming[1].fault, due, upcoming[1].duration_ns, cluster)

    def inject(self, fault: f.Fault, now_ns: int, cluster: FaultTarget, *, duration_ns: int | None = None) -> None:
        """A fault begins now. Raises FaultError if it names a machine that is not there."""
        fault.check(self._num_vms)
        ScheduledFault(now_ns, fault, duration_ns)
        self._begin(fault, now_ns, duration_ns, cluster)

    # ---- effects ----

    def _begin(self, fault: f.Fault, now_ns: int, duration_ns: int | None, cluster: FaultTarget) -> None:
        s = self._state
        number = s.count
        self._state = dataclasses.replace(s, count=number + 1)
        self._log.append(FaultChange(now_ns, fault, True, number))
        if fault.LASTS:
            end = None if duration_ns is None else now_ns + duration_ns
            self._change((*s.active, (number, fault, end)), cluster, began=fault)
        else:
            self._happen(fault, now_ns, cluster)

    def _happen(self, fault: f.Fault, now_ns: int, cluster: FaultTarget) -> None:
        match fault:
            case f.NetworkHeal():
                self._end([e for e in self._state.active if isinstance(e[1], f.NETWORK_FAULTS)], now_ns, cluster)
            case f.HealAll():
                self._end(list(self._state.active), now_ns, cluster)
            case f.ProcessRestart():
                kills = [e for e in self._state.active if isinstance(e[1], f.ProcessKill)]
                killed = [e for e in kills if e[1].vms() == (fault.target,)]
                if killed:
                    self._end(killed, now_ns, cluster)
                else:
                    cluster.fault_power_off(fault.target, fault.disk)
                    paused = effects_of(self.active, self._num_vms).machines[fault.target].paused
                    self._boot(fault.target, cluster, paused=paused)
            case f.InjectInterrupt():
                cluster.fault_irq(fault.target, fault.irq)
            case f.InjectNmi():
                cluster.fault_nmi(fault.target)
            case f.ClockJump():
                cluster.fault_clock(fault.target, fault.delta_ns)
            case f.SignalProcess():
                cluster.fault_signal(fault.target, fault.process, fault.signal)
            case _:
                raise AssertionError(f"{fault.kind()} does not happen in a moment")

    def _boot(self, vm: int, cluster: FaultTarget, *, paused: bool) -> None:
        cluster.fault_boot(vm)
        if paused:  # a power loss ended it, the fault goes on
            cluster.fault_pause(vm, True)

    def _end(self, entries: list[tuple[int, f.Fault, int | None]], now_ns: int, cluster: FaultTarget) -> None:
        if not entries:
            return
        self._log += [FaultChange(now_ns, fault, False, number) for number, fault, _ in entries]
        gone = {number for number, _, _ in entries}
        self._change(tuple(e for e in self._state.active if e[0] not in gone), cluster)

    def _change(
        self,
        active: tuple[tuple[int, f.Fault, int | None], ...],
        cluster: FaultTarget,
        began: f.Fault | None = None,
    ) -> None:
        """Makes these faults the active ones and tells the cluster what differs."""
        was = effects_of(self.active, self._num_vms)
        self._state = dataclasses.replace(self._state, active=active)
        now = effects_of(self.active, self._num_vms)
        for link, effect in now.links.items():
            if effect != was.links[link]:
                cluster.fault_link(*link, effect)
        for vm in range(self._num_vms):
            if now.disks[vm] != was.disks[vm]:
                cluster.fault_disk(vm, now.disks[vm])
            self._change_machine(vm, was, now, cluster, began)

    def _change_machine(self, vm: int, was: Effects, now: Effects, cluster: FaultTarget, began: f.Fault | None) -> None:
        a, b = was.machines[vm], now.machines[vm]
        if b.off and not a.off:
            assert isinstance(began, f.ProcessKill)
            cluster.fault_power_off(vm, began.disk)
        if b.slowdown != a.slowdown:
            cluster.fault_slowdown(vm, b.slowdown)
        if b.skew_ppm != a.skew_ppm:
            cluster.fault_skew(vm, b.skew_ppm)
        if b.timer_jitter_ns != a.timer_jitter_ns:
            cluster.fault_timer_jitter(vm, b.timer_jitter_ns)
        if b.paused != a.paused:
            cluster.fault_pause(vm, b.paused)
        if a.off and not b.off:
            self._boot(vm, cluster, paused=b.paused)
        if b.balloon_bytes != a.balloon_bytes:
            cluster.fault_balloon(vm, b.balloon_bytes)
        if b.clock_offset_ns != a.clock_offset_ns:
            cluster.fault_clock(vm, b.clock_offset_ns - a.clock_offset_ns)


def describe(change: FaultChange) -> str:
    """One line for a log: "1.5 s begins: packet_loss target=0 rate_ppm=50000"."""
    return f"{format_ns(change.vns)} {change}"
