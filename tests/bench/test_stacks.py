"""How long a backtrace takes: with nothing parsed, and with the files' tables at hand, at moments of a Raft cluster."""

from __future__ import annotations

import pytest
from figures import clocked, median, ms, percentile, show_table

from chaoscontrol import image_path
from chaoscontrol.cluster import SimulationController
from chaoscontrol.debug import Debugger
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.random import Stream
from chaoscontrol.scenario import load_scenario
from chaoscontrol.symbols import programs
from chaoscontrol.symbols.programs import GuestFiles
from chaoscontrol.symbols.stacks import stack_of
from chaoscontrol.timetravel import ClusterWitness, Multiverse
from chaoscontrol.trial import simulation_config

SECOND = 1_000_000_000
END_NS = 5 * SECOND
PLACES = 100
COLD = 20

pytestmark = pytest.mark.bench


def fresh() -> GuestFiles:
    return GuestFiles(image_path("vmlinux"), image_path("raft"))


def test_backtraces_of_raft() -> None:
    with SimulationController(simulation_config(load_scenario("raft"), seed=1)) as cluster:
        multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(())))
        multiverse.run_to(END_NS)
        debugger = Debugger(multiverse)
        draw = Stream(1, "places")
        cold: list[tuple[float, float]] = []
        warm: list[tuple[float, float]] = []
        depths: list[int] = []
        files = fresh()
        for at in range(PLACES):
            debugger.goto_time(int.from_bytes(draw.read(8), "little") % END_NS)
            vm = debugger.vms[at % len(debugger.vms)]
            if at < COLD:
                programs.forget()
                files = fresh()
                cold.append(clocked(lambda vm=vm, files=files: stack_of(vm, files)))
            warm.append(clocked(lambda vm=vm, files=files: depths.append(len(stack_of(vm, files)))))
        rows: list[tuple[str, ...]] = []
        for what, times in (("nothing parsed", cold), ("tables at hand", warm)):
            for of, values in zip(("CPU", "wall"), zip(*times, strict=True), strict=True):
                figures = median(values), percentile(values, 0.95), max(values)
                rows.append((f"backtrace, {what}, {of}", *map(ms, figures)))
        show_table(f"Stacks of {median(depths):.0f} frames (median)", ("what", "median", "p95", "max"), rows)
        assert percentile([cpu for cpu, _ in warm], 0.95) < 0.100
        assert percentile([cpu for cpu, _ in cold], 0.95) < 1.0
