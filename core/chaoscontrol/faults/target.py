"""ClusterFaults: what the fault engine asks for, done to a SimulationController's machines, disks and links.

Owns the translation of effects into the parameters of links, disks and machines. What cannot be done (a guest without
an agent, a machine without a disk) is remembered in `failed` in one line and changes nothing.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol import agent
from chaoscontrol.disk import CrashMode as DiskCrash
from chaoscontrol.disk import DiskFaults
from chaoscontrol.random import derive_seed

from .types import SLOW_PERMILLE_MAX

if TYPE_CHECKING:
    from chaoscontrol.cluster import SimulationController

    from .effects import DiskEffect, LinkEffect
    from .types import CrashMode

BITS_PER_BYTE = 8
LINK_DELAY_NS_MAX = 10**16
DISK_DELAY_NS_MAX = 3_600_000_000_000
SKEW_PPM_MIN, SKEW_PPM_MAX = -900_000, 9_000_000
PAGE_BYTES = 4096
CHANCE = 1_000_000

_CRASHES = {"lose": DiskCrash.LOSE_ALL, "some": DiskCrash.RANDOM, "torn": DiskCrash.TORN}


@dataclasses.dataclass(frozen=True, slots=True)
class TargetState:
    """All that the effects of later faults depend on, for snapshots."""

    branch_seed: int = 0
    """Of the branch: what a power loss leaves on a disk depends on it."""
    requests: int = 0
    """Requests sent to agents. Their numbers are in the guests' memory, so going back takes them back too."""


class ClusterFaults:
    """The FaultTarget of one cluster."""

    def __init__(self, cluster: SimulationController) -> None:
        self._cluster = cluster
        self.state = TargetState()
        self.failed: list[tuple[int, str]] = []
        """When, virtual nanoseconds, and what."""

    def _fail(self, vm: int, what: str) -> None:
        self.failed.append((self._cluster.vns, f"machine {vm}: {what}"))

    def _ended(self, vm: int) -> bool:
        return self._cluster.has_ended(vm)

    # ---- network and disk ----

    def fault_link(self, src: int, dst: int, effect: LinkEffect) -> None:
        normal = self._cluster.config.link
        bandwidth = normal.bandwidth_bps
        if effect.bytes_per_sec is not None:
            limit = effect.bytes_per_sec * BITS_PER_BYTE
            bandwidth = min(bandwidth, limit) if bandwidth else limit
        self._cluster.network.link(src, dst).params = normal.replace(
            down=normal.down or effect.down,
            latency_ns=min(normal.latency_ns + effect.latency_ns, LINK_DELAY_NS_MAX),
            jitter_ns=min(normal.jitter_ns + effect.jitter_ns, LINK_DELAY_NS_MAX),
            bandwidth_bps=bandwidth,
            loss_ppm=max(normal.loss_ppm, effect.loss_ppm),
            corrupt_ppm=max(normal.corrupt_ppm, effect.corrupt_ppm),
            duplicate_ppm=max(normal.duplicate_ppm, effect.duplicate_ppm),
            reorder_ppm=max(normal.reorder_ppm, effect.reorder_ppm),
            reorder_ns=max(normal.reorder_ns, effect.reorder_ns),
        )

    def fault_disk(self, vm: int, effect: DiskEffect) -> None:
        machine = self._cluster.vms[vm]
        if not machine.config.disk_bytes:
            self._fail(vm, "it has no disk")
            return
        machine.disk.set_faults(
            DiskFaults(
                read_error_ppm=effect.read_error_ppm,
                write_error_ppm=effect.write_error_ppm,
                full_sector=0 if effect.full else None,
                torn_ppm=effect.torn_ppm,
                torn_fails=not effect.torn_silent,
                corrupt_read_ppm=effect.corrupt_read_ppm,
                lost_flush_ppm=CHANCE if effect.lost_flush else 0,
                spike_ppm=effect.spike_ppm,
                spike_ns=min(effect.spike_ns, DISK_DELAY_NS_MAX),
                slow_milli=min(effect.slow_permille, SLOW_PERMILLE_MAX),
            )
        )

    # ---- machines ----

    def fault_pause(self, vm: int, paused: bool) -> None:
        # One that is off, too: it may boot while the fault lasts, or have ended paused and boot when that is over.
        (self._cluster.pause if paused else self._cluster.resume)(vm)

    def fault_power_off(self, vm: int, disk: CrashMode) -> None:
        machine = self._cluster.vms[vm]
        if machine.config.disk_bytes:
            seed = derive_seed(self._cluster.config.seed, "crash", self.state.branch_seed, vm, self._cluster.vns)
            machine.disk.crash(_CRASHES[disk], seed)
        if not self._ended(vm):
            self._cluster.kill(vm)

    def fault_boot(self, vm: int) -> None:
        self._cluster.restart(vm)

    def fault_slowdown(self, vm: int, factor: int) -> None:
        self._cluster.slow_down(vm, factor)

    def fault_skew(self, vm: int, ppm: int) -> None:
        self._cluster.skew(vm, min(max(ppm, SKEW_PPM_MIN), SKEW_PPM_MAX))

    def fault_timer_jitter(self, vm: int, max_ns: int) -> None:
        self._cluster.set_timer_jitter(vm, max_ns)

    def fault_irq(self, vm: int, irq: int) -> None:
        if not self._ended(vm):
            self._cluster.inject_irq(vm, irq)

    def fault_nmi(self, vm: int) -> None:
        if not self._ended(vm):
            self._cluster.inject_nmi(vm)

    # ---- through the guest ----

    def fault_balloon(self, vm: int, take_bytes: int) -> None:
        machine = self._cluster.vms[vm]
        if "balloon" not in machine.config.virtio_devices:
            self._fail(vm, "it has no balloon to take memory with")
            return
        machine.set_balloon(min(take_bytes, machine.config.memory_bytes) // PAGE_BYTES)

    def fault_clock(self, vm: int, delta_ns: int) -> None:
        self._cluster.vms[vm].shift_rtc(delta_ns)  # so that it stays after a restart
        self._ask(vm, agent.AdjustClock(delta_ns))

    def fault_signal(self, vm: int, process: str, signal: int) -> None:
        self._ask(vm, agent.SignalName(process, signal))

    def _ask(self, vm: int, request: agent.Request) -> None:
        machine = self._cluster.vms[vm]
        if self._ended(vm):
            return
        if "console" not in machine.config.virtio_devices:
            self._fail(vm, "it has no channel to a guest agent")
            return
        self.state = dataclasses.replace(self.state, requests=self.state.requests + 1)
        frame = agent.encode(self.state.requests & 0xFFFFFFFF, request)
        if machine.agent_send(frame) != len(frame):
            self._fail(vm, "the channel to its guest agent is full")
