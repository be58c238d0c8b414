"""Figures of the debugger on a Raft cluster that has run for a virtual minute."""

from __future__ import annotations

from time import perf_counter

import pytest
from figures import median, ms, percentile, show_table

from chaoscontrol.cluster import SimulationController
from chaoscontrol.debug import Breakpoint, Debugger, Watchpoint
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.random import Stream
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, Multiverse, Position
from chaoscontrol.trial import simulation_config

SECOND = 1_000_000_000
END_NS = 60 * SECOND
PLACES = 100
STEPS = 100

pytestmark = pytest.mark.bench


def timed(rows: list[tuple[str, ...]], what: str, limit: str, times: list[float]) -> float:
    worst = percentile(times, 0.95)
    rows.append((what, ms(median(times)), ms(worst), ms(max(times)), limit))
    return worst


def test_moves_on_a_virtual_minute_of_raft() -> None:
    with SimulationController(simulation_config(load_scenario("raft"), seed=1)) as cluster:
        multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(())))
        multiverse.run_to(END_NS)
        debugger = Debugger(multiverse)
        draw = Stream(1, "places")
        rows: list[tuple[str, ...]] = []

        def place() -> int:
            return int.from_bytes(draw.read(8), "little") % END_NS

        def measure(go: object, count: int) -> list[float]:
            times: list[float] = []
            for _ in range(count):
                begun = perf_counter()
                go()  # type: ignore[operator]
                times.append(perf_counter() - begun)
            return times

        seek = timed(rows, "go to a random moment", "250 ms", measure(lambda: debugger.goto_time(place()), PLACES))
        steps: list[float] = []
        for at in (END_NS, END_NS // 2, SECOND // 2, 7 * SECOND):
            debugger.goto_time(at)
            steps += measure(lambda: debugger.reverse_step(0), STEPS // 4)
        step = timed(rows, "one instruction back", "100 ms", steps)
        back: list[float] = []
        for at in (END_NS, 41 * SECOND, 20 * SECOND, 2 * SECOND):
            # User code is not written to: the whole second is searched, with progress as somebody would watch it.
            debugger.goto_time(at - SECOND)
            hit = debugger.forward([Breakpoint(0, 0, 1 << 47, user=True)]).hit
            assert hit is not None
            watch = Watchpoint(0, hit.gpa, 8, physical=True)
            debugger.goto_time(at)
            begun = perf_counter()
            stop = debugger.backward([watch], floor=Position(at - SECOND), progress=lambda _: None)
            back.append(perf_counter() - begun)
            assert stop.position == Position(at - SECOND)
        search = timed(rows, "back over a virtual second, watching", "3000 ms", back)
        show_table("Debugger, 60 virtual seconds of Raft", ("what", "median", "p95", "max", "limit"), rows)
        assert seek < 0.250
        assert step < 0.100
        assert search < 3.0
