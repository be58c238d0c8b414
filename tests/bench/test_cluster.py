"""What a cluster costs: virtual seconds per second, idle and under load; ticks; instructions; the Python layer's share.

One thread, so CPU time is what the wall would show on a quiet machine; both are printed. Under load means the raft
scenario with its clients and no faults, from the ready state on.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

import pytest
from figures import clocked, median, show_table

import chaoscontrol.cluster
from chaoscontrol import DEFAULT_CMDLINE, SimulationConfig, SimulationController, VmConfig, image_path
from chaoscontrol.scenario import load_scenario
from chaoscontrol.trial import Trial

ROUNDS = int(os.environ.get("CC_BENCH_ROUNDS", "7"))
SECOND_NS = 1_000_000_000
IDLE_S, LOAD_S = 20, 5
IDLE_MIN = 100
"""Virtual seconds per second of an idle cluster."""
PYTHON_MAX = 0.10
"""The Python layer's share."""
INSNS_MAX = 6e6
"""Of a Raft node, per virtual second: it is idle most of the time."""
HEADS = ("", "virtual s / s, wall", "virtual s / s, CPU", "ticks / s, CPU", "M instructions / virtual s and node")


class _TimedLibrary:
    """The native library; what is spent in cc_cluster_run is summed up."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.seconds = 0.0
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def cc_cluster_run(self, *arguments: Any) -> int:
        begun = process_time()
        try:
            return self._library.cc_cluster_run(*arguments)
        finally:
            self.seconds += process_time() - begun
            self.calls += 1


def idle_linux() -> SimulationController:
    """Three machines at the shell's prompt, on one network, with a disk."""
    vm = VmConfig(memory_bytes=64 << 20, network=True, disk_bytes=32 << 20, cmdline=f"{DEFAULT_CMDLINE} quiet")
    config = SimulationConfig(
        num_vms=3, vm_config=vm, threads=1, kernel_path=image_path("vmlinux"), initrd_path=image_path("tools"),
        disk_path=image_path("disk"),
    )  # fmt: skip
    cluster = SimulationController(config)
    cluster.run_to_vns(3 * SECOND_NS)
    return cluster


@contextmanager
def raft(words: str = "") -> Iterator[Trial]:
    scenario = load_scenario("raft/none")
    scenario = dataclasses.replace(scenario, cmdline=f"{scenario.cmdline} {words}".strip())
    with Trial(scenario, seed=1, threads=1) as trial:
        if "raft.op_ms=0" in words:  # it never acknowledges a write, which is what ready means
            trial.run_to(SECOND_NS)
        else:
            trial.run_to_ready()
        yield trial


def measure(cluster: SimulationController, go: Callable[[int], object], seconds: int) -> tuple[float, ...]:
    """Medians over ROUNDS: virtual per wall and per CPU second, ticks per CPU second, instructions."""
    walls: list[float] = []
    cpus: list[float] = []
    insns: list[float] = []
    for _ in range(ROUNDS):
        before = [vm.instret for vm in cluster.vms]
        end = cluster.vns + seconds * SECOND_NS
        cpu, wall = clocked(lambda end=end: go(end))
        walls.append(seconds / wall)
        cpus.append(seconds / cpu)
        insns += [(vm.instret - was) / seconds for vm, was in zip(cluster.vms, before, strict=True)]
    ticks = median(cpus) * SECOND_NS / cluster.quantum_ns
    return median(walls), median(cpus), ticks, sum(insns) / len(insns), max(insns)


def row(name: str, found: tuple[float, ...]) -> tuple[str, ...]:
    wall, cpu, ticks, insns, most = found
    return name, f"{wall:.0f}", f"{cpu:.0f}", f"{ticks:,.0f}", f"{insns / 1e6:.2f} (at most {most / 1e6:.2f})"


def test_virtual_seconds_per_second() -> None:
    with idle_linux() as cluster:
        idle = measure(cluster, cluster.run_to_vns, IDLE_S)
    rows = [row("three idle Linux machines", idle)]
    with raft("raft.op_ms=0") as trial:
        rows.append(row("Raft, no clients: heartbeats", measure(trial.cluster, trial.run_to, LOAD_S)))
    with raft() as trial:
        load = measure(trial.cluster, trial.run_to, LOAD_S)
    rows.append(row("Raft under load", load))
    show_table(f"A cluster of three, medians of {ROUNDS} rounds, one thread", HEADS, rows)
    assert idle[1] >= IDLE_MIN
    assert load[4] <= INSNS_MAX


def test_share_of_the_python_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a trial's whole loop, the events read and judged included, at the default quantum."""
    timed = _TimedLibrary(chaoscontrol.cluster.lib)
    monkeypatch.setattr(chaoscontrol.cluster, "lib", timed)
    rows: list[tuple[str, ...]] = []
    shares: dict[str, float] = {}

    def share(name: str, cluster: SimulationController, go: Callable[[int], object], seconds: int) -> None:
        found: list[float] = []
        for _ in range(ROUNDS):
            timed.seconds, timed.calls = 0.0, 0
            end = cluster.vns + seconds * SECOND_NS
            cpu, _wall = clocked(lambda end=end: go(end))
            found.append(1 - timed.seconds / cpu)
        shares[name] = median(found)
        rows.append((name, f"{median(found) * 100:.2f} %", f"{timed.calls / seconds:.0f}"))

    with raft() as trial:
        share("Raft under load, as branches run", trial.cluster, trial.run_to, LOAD_S)
        share("Raft under load, the cluster alone", trial.cluster, trial.cluster.run_to_vns, LOAD_S)
    with idle_linux() as cluster:
        share("idle Linux, the cluster alone", cluster, cluster.run_to_vns, IDLE_S)
    show_table("The Python layer's share of CPU time", ("", "share", "native calls / virtual s"), rows)
    assert max(shares.values()) < PYTHON_MAX


def test_a_tick_at_a_time() -> None:
    """What it costs to ask for every tick by itself, as a person stepping does; searches never do."""
    with raft() as trial:
        cluster, ticks = trial.cluster, 10_000
        begun = perf_counter()
        for _ in range(ticks):
            cluster.step_round()
        each = (perf_counter() - begun) / ticks
        begun = perf_counter()
        cluster.run(ticks)
        at_once = (perf_counter() - begun) / ticks
    print(f"\nRaft under load: {at_once * 1e6:.1f} us a tick, {each * 1e6:.1f} us when every tick is a call of its own")
