"""Figures of the debugger on a Raft cluster that has run for a virtual minute."""

from __future__ import annotations

from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING

import pytest
from figures import median, ms, percentile, show_table

from cc_tui.opening import open_recorded, open_session
from cc_tui.options import LaunchOptions
from chaoscontrol.cluster import SimulationController
from chaoscontrol.debug import Breakpoint, Debugger, Watchpoint
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.random import Stream
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, Multiverse, Position
from chaoscontrol.trial import simulation_config

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 1_000_000_000
END_NS = 60 * SECOND
PLACES = 100
STEPS = 100
LONG_NS = 300 * SECOND
BUDGETS_MIB = (2048, 192, 128)

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


def test_seeks_in_a_recording_just_opened(tmp_path: Path) -> None:
    """Nothing of it has been lived through: the first jumps are as long as the way there, unless it has been read."""
    path = str(tmp_path / "raft.ccrec")
    options = LaunchOptions(scenario="raft", seed=1, record=path, given=("seed", "record"))
    with open_session(options, clock=monotonic, attended=False).session as session:
        session.execute("step 60s")
    rows: list[tuple[str, ...]] = []
    for reads in (False, True):
        with open_recorded(path, attended=True, reads_ahead=reads).session as session:
            begun = perf_counter()
            while not session.has_read_ahead:
                sleep(0.1)
            read_s = perf_counter() - begun
            draw = Stream(3, "places")
            times: list[float] = []
            for _ in range(PLACES):
                at = int.from_bytes(draw.read(8), "little") % END_NS
                begun = perf_counter()
                session.execute(f"goto {at}ns")
                times.append(perf_counter() - begun)
            figures = (ms(median(times)), ms(percentile(times, 0.95)), ms(max(times)))
            rows.append((f"after {read_s:.1f} s of rest", *figures))
    show_table("Random moments of a recording of 60 virtual seconds", ("what", "median", "p95", "max"), rows)
    assert percentile(times, 0.95) < 0.250


def test_seeks_in_a_long_history_with_little_memory() -> None:
    """Thinning answers for memory: what it leaves is a longer way forward, not a jump that fails."""
    rows: list[tuple[str, ...]] = []
    for mib in BUDGETS_MIB:
        with SimulationController(simulation_config(load_scenario("raft"), seed=1)) as cluster:
            witness = ClusterWitness(cluster, PropertyOracle(()))
            multiverse = Multiverse(cluster, witness, budget_bytes=mib << 20)
            multiverse.run_to(LONG_NS)
            held = cluster.store.bytes_held
            draw = Stream(2, "places")
            times: list[float] = []
            for _ in range(PLACES):
                at = int.from_bytes(draw.read(8), "little") % LONG_NS
                begun = perf_counter()
                multiverse.goto_time(at)
                times.append(perf_counter() - begun)
            figures = (ms(median(times)), ms(percentile(times, 0.95)), ms(max(times)))
            rows.append((f"{mib} MiB", f"{held >> 20} MiB", *figures))
            assert held <= (mib << 20) * 1.01, "pages that are lent are counted when they are written to"
    show_table("Random moments of 300 virtual seconds of Raft", ("budget", "held", "median", "p95", "max"), rows)
