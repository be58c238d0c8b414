"""A long run of Raft under random faults: memory stays flat, nothing breaks, and stretches replay to the same digests.

All host memory that the guests' RAM and disks can ever take is taken before they boot, so that what a guest uses of it
makes no difference. What is resident besides is what snapshots hold, which is counted, and the rest: both stay flat.

CC_RAFT_SOAK_MINUTES virtual minutes, 60 unless said otherwise: about an hour of CPU time with the replays.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import pytest

from chaoscontrol.events import Event
from chaoscontrol.explore.random_faults import draw_schedule
from chaoscontrol.faults import FaultSchedule
from chaoscontrol.faults.schedule import Origin, ScheduledFault
from chaoscontrol.oracle import Verdict
from chaoscontrol.random import Stream
from chaoscontrol.scenario import Scenario, load_scenario
from chaoscontrol.trial import Trial, TrialState

MINUTES = int(os.environ.get("CC_RAFT_SOAK_MINUTES", "60"))
SECONDS_MAX = 6 * 3600
SEED = 3
MINUTE_NS = 60_000_000_000
WINDOW_NS = 30_000_000_000
CHAOS_NS = 25_000_000_000
"""Of every window; the rest is quiet."""
REPLAY_EVERY = 5
"""Minutes; the two before are run again."""
REPLAYED = 2
WARM_UP = 5
"""Minutes after which memory is flat."""
GROWTH_MAX = 1.05
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20
INVERTED = bytes(range(255, -1, -1))


class Memory(NamedTuple):
    """Resident memory of this process, in bytes."""

    all: int
    snapshots: int
    """What the page store keeps."""
    rest: int
    """Neither that nor guest memory."""


def touch(size: int, read: Callable[[int, int], bytes], write: Callable[[int, bytes], None]) -> int:
    """Changes every page and changes it back: the host has to give memory for it. Returns how many bytes there are."""
    for at in range(0, size, MIB):
        there = read(at, min(MIB, size - at))
        write(at, there.translate(INVERTED))
        write(at, there)
    return size


def touch_guests(trial: Trial) -> int:
    touched = 0
    for vm in trial.cluster.vms:
        touched += touch(vm.config.memory_bytes, vm.read_memory, vm.write_memory)
        touched += touch(vm.disk.size, vm.disk.read, vm.disk.write)
    return touched


def memory_of(trial: Trial, guests: int) -> Memory:
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    store = trial.cluster.store
    snapshots = store.bytes_held - store.bytes_lent
    return Memory(resident, snapshots, resident - guests - snapshots)


def assert_flat(name: str, sizes: list[int]) -> None:
    """None of them is more than a twentieth larger than the first, which is of when everything was warm."""
    warm, most = sizes[0], max(sizes)
    print(f"{name} after minute {WARM_UP}: {warm / MIB:.1f} MiB, at most {most / MIB:.1f} MiB later")
    assert most <= warm * GROWTH_MAX, f"{name}: {[round(size / MIB, 1) for size in sizes]} MiB"


def faults_of(scenario: Scenario) -> FaultSchedule:
    """Random faults of their own for every window."""
    faults: list[ScheduledFault] = []
    for window in range(MINUTES * MINUTE_NS // WINDOW_NS):
        drawn = draw_schedule(Stream(SEED, "soak", window), scenario.faults, scenario.count, CHAOS_NS)
        faults += [dataclasses.replace(one, at_ns=one.at_ns + window * WINDOW_NS) for one in drawn.faults]
    return FaultSchedule(tuple(faults), Origin.BRANCH)


def replay(trial: Trial, state: TrialState, begin_ns: int, minute: int, digests: list[str]) -> None:
    """From a snapshot to `minute` again, in pieces of random lengths with a snapshot and a restore after each."""
    trial.restore(state)
    stream = Stream(SEED, "pieces", minute)
    for then in range(minute - REPLAYED + 1, minute + 1):
        end_ns = begin_ns + then * MINUTE_NS
        while trial.cluster.vns < end_ns:
            trial.run_to(min(end_ns, trial.cluster.vns + (1 + stream.below(200_000)) * trial.cluster.quantum_ns))
            piece = trial.snapshot()
            trial.restore(piece)
            piece.close()
        assert str(trial.cluster.digest()) == digests[then], f"minute {then} ended differently when it was run again"


@pytest.mark.long
@pytest.mark.timeout(SECONDS_MAX)
def test_soak() -> None:
    begun = monotonic()
    rest: list[int] = []
    snapshots: list[int] = []
    with Trial(load_scenario("raft/none"), seed=SEED, threads=2) as trial:
        counted = 0

        def count(events: list[Event]) -> None:
            nonlocal counted
            counted += len(events)

        trial.on_events = count
        guests = touch_guests(trial)
        trial.run_to_ready()
        trial.cluster.set_schedule(faults_of(trial.scenario))
        begin_ns = trial.cluster.vns
        digests = [str(trial.cluster.digest())]
        state: TrialState | None = None
        print(f"\nguests' memory: {guests / MIB:.1f} MiB")
        print("minute  resident MiB  snapshots MiB  rest MiB  million instructions  events  seconds")
        for minute in range(1, MINUTES + 1):
            if minute % REPLAY_EVERY == REPLAY_EVERY - REPLAYED + 1:
                state = trial.snapshot()
            assert trial.run_to(begin_ns + minute * MINUTE_NS)
            digests.append(str(trial.cluster.digest()))
            if minute % REPLAY_EVERY == 0 and state is not None:
                replay(trial, state, begin_ns, minute, digests)
                state.close()
                state = None
                # What was copied for a snapshot goes when its machine runs on.
                assert trial.run_to(trial.cluster.vns + trial.cluster.quantum_ns)
            now = memory_of(trial, guests)
            if minute >= WARM_UP:
                rest.append(now.rest)
                if state is None:
                    snapshots.append(now.snapshots)
            instructions = sum(vm.instret for vm in trial.cluster.vms)
            print(
                f"{minute:6} {now.all / MIB:13.1f} {now.snapshots / MIB:14.1f} {now.rest / MIB:9.1f} "
                f"{instructions / 1e6:21.0f} {counted:7} {monotonic() - begun:8.0f}"
            )
            assert not trial.report().failures, [(f.name, str(f.counterexample)) for f in trial.report().failures]
        if state is not None:
            state.close()
        assert trial.settle()
        report = trial.report()
        assert report.failures == []
        after = [r for r in report.results if "after healing" in r.name]
        assert [r.verdict for r in after] == [Verdict.PASSED] * 3
    if MINUTES > WARM_UP:
        assert_flat("snapshots, none held", snapshots)
        assert_flat("the rest", rest)
