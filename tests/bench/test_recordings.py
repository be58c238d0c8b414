"""Recordings: opening a large one, and what recording costs."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

from figures import median, ms, percentile, show_table
from toys.recordings import INPUTS, every_kind_header, keyframe

from chaoscontrol.cluster import SimulationController
from chaoscontrol.config import format_bytes
from chaoscontrol.events import Event, EventKind
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.protocol import Command, SdkEvent, Status
from chaoscontrol.recording import Judge, Recorder, load_recording, make_header
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, GivenInput, Multiverse, Observer, Position
from chaoscontrol.trial import simulation_config

MS = 1_000_000
LARGE_BYTES = 1 << 30
FLUSH_NS = 10 * MS
"""Virtual time between two flushes of the large recording."""
OPEN_MAX_S = 0.300
OVERHEAD_MAX = 0.05
RUN_NS = 3_000 * MS
PAIRS = 9


def write_large(path: Path) -> None:
    """What a Recorder writes: frames of lines and assertions, as many with digests, an input now and then."""
    noise = hashlib.shake_256(b"lines").digest(1 << 20).hex()
    number = flush = 0
    with Recorder(path, every_kind_header()) as recorder:
        recorder.branch_made("main", None, Position(0))
        while path.stat().st_size < LARGE_BYTES:
            events: list[Event] = []
            for n in range(16):
                vns, at = flush * FLUSH_NS + n * 1000, (number + n) * 317 % (len(noise) - 1000)
                if n % 4:
                    events.append(Event(vns, n % 3, vns, EventKind.CONSOLE, noise[at : at + 500]))
                else:
                    details = f'{{"x":"{noise[at : at + 300]}"}}'
                    request = SdkEvent(Command.ALWAYS, True, Status.OK, n, number, "as it should be", details)
                    events.append(Event(vns, n % 3, vns, EventKind.SDK, request))
            position = Position((flush + 1) * FLUSH_NS - 1)
            recorder.happened("main", number, position, events, [])
            recorder.keyframe_taken("main", keyframe(position))
            if flush % 500 == 499:
                given = GivenInput(Position((flush + 1) * FLUSH_NS), 1, INPUTS[0])
                recorder.input_given("main", given)
            recorder.flush()
            number, flush = number + len(events), flush + 1


def timed_opens(path: Path) -> tuple[list[float], list[float], int]:
    """Seconds to open it, and to read the events of one of its seconds from there; how many frames there are."""
    opens: list[float] = []
    reads: list[float] = []
    frames = 0
    for at in range(20):
        begin = perf_counter()
        with load_recording(path) as recording:
            opened = perf_counter()
            (main,) = recording.branches
            from_ns = main.end.vns * at // 20
            events = list(recording.events(main, from_vns=from_ns, to_vns=from_ns + 1000 * MS))
            reads.append(perf_counter() - opened)
            opens.append(opened - begin)
            assert len(events) >= 16 * 99
            frames = recording.frames
    return opens, reads, frames


def test_opening_a_gigabyte(tmp_path: Path) -> None:
    path, rows = tmp_path / "large.ccrec", list[list[str]]()
    write_large(path)
    p95 = 0.0
    for name in ("closed", "killed"):
        if name == "killed":
            os.truncate(path, path.stat().st_size - 1001)
        opens, reads, frames = timed_opens(path)
        size = format_bytes(path.stat().st_size)
        rows.append([name, size, f"{frames:,}", ms(median(opens)), ms(percentile(opens, 0.95)), ms(median(reads))])
        p95 = max(p95, percentile(opens, 0.95))
    heads = ["", "size", "frames", "open, median", "p95", "events of a second"]
    show_table("Opening a recording", heads, rows)
    assert p95 <= OPEN_MAX_S


def test_what_recording_costs(tmp_path: Path) -> None:
    """By the least CPU time of many runs each, taken in turns; and by what is spent inside the recorder."""
    scenario = load_scenario("raft")
    config = simulation_config(scenario, seed=1, threads=1)
    header = make_header(config, judge=Judge.of(scenario))
    path = tmp_path / "raft.ccrec"
    inside: list[float] = []

    def run(recording: bool) -> float:
        cluster = SimulationController(config)
        multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(scenario.properties())))
        begin = process_time()
        if recording:
            with Recorder(path, header, clock=time.monotonic) as recorder:
                clocked = Clocked(recorder)
                multiverse.observe(clocked)
                multiverse.run_to(RUN_NS)
                recorder.finish(multiverse)
            took = process_time() - begin
            inside.append(clocked.spent_s / took)
        else:
            multiverse.run_to(RUN_NS)
            took = process_time() - begin
        cluster.close()
        return took

    run(True)
    took: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * PAIRS):
        recording = number % 4 in (0, 3)  # which one is first alternates: the second finds warmer caches
        took[recording].append(run(recording))
    cost = min(took[True]) / min(took[False]) - 1
    rows = [[f"{cost:+.1%}", f"{median(inside):.1%}", format_bytes(path.stat().st_size)]]
    title = f"Recording three Raft nodes for {RUN_NS / 1e9:g} virtual seconds: CPU time against not recording"
    show_table(title, ["least against least", "inside the recorder, median", "file"], rows)
    assert cost < OVERHEAD_MAX
    assert median(inside) < OVERHEAD_MAX


class Clocked(Observer):
    """Hands everything on, and counts the CPU time that it takes."""

    def __init__(self, recorder: Recorder) -> None:
        self.spent_s = 0.0
        for name in ("branch_made", "input_given", "happened", "machine_ended", "keyframe_taken", "moved"):
            setattr(self, name, self._clocked(getattr(recorder, name)))

    def _clocked(self, tell: Callable[..., None]) -> Callable[..., None]:
        def told(*what: object) -> None:
            begin = process_time()
            tell(*what)
            self.spent_s += process_time() - begin

        return told
