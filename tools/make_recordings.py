"""Makes the recordings that come with cc-tui, in recordings/: facts about the committed images.

    python tools/make_recordings.py [NAME...]

An election, a workload with a partition that heals, and one failure for each seeded bug, shown by the schedules of
tests/guests/schedules. The same images give the same bytes. After a change of images: run it, and look at what changed.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from chaoscontrol.cluster import SimulationController
from chaoscontrol.faults import FaultSchedule, NetworkPartition
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.recording import Judge, Recorder, make_header, record_branch
from chaoscontrol.scenario import Scenario, load_scenario
from chaoscontrol.timetravel import ClusterWitness, FaultInput, Multiverse
from chaoscontrol.trial import simulation_config

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ROOT / "recordings"
SCHEDULES = ROOT / "tests" / "guests" / "schedules"
MS = 1_000_000
SECOND_NS = 1000 * MS
SEED = BRANCH_SEED = 1
KEYFRAME_INSNS = 20_000_000
HEADING = "tools/make_recordings.py"
BUGS = ("fig8_commit", "skip_truncate", "accept_stale_term", "leader_no_stepdown", "double_vote", "premature_commit")
NOTICED_LATER = ("fig8_commit",)
"""The nodes themselves notice only when they meet again: it goes on after the first failure."""
NAMES = ("election", "partition", *BUGS)


def path_of(name: str, directory: Path = RECORDINGS) -> Path:
    """The file of a recording."""
    return directory / f"raft-{name.replace('_', '-')}.ccrec"


def make(name: str, directory: Path = RECORDINGS) -> Path:
    """Makes one of NAMES."""
    path = path_of(name, directory)
    if name in BUGS:
        _make_failure(name, path)
    else:
        _make_healthy(path, partitioned=name == "partition")
    return path


def _make_healthy(path: Path, *, partitioned: bool) -> None:
    """Boot and the first election; partitioned: also commands, while the leader of that time is cut off and healed."""
    scenario = load_scenario("raft")
    config = simulation_config(scenario, seed=SEED, threads=1)
    header = make_header(config, heading=HEADING, judge=Judge.of(scenario))
    cluster = SimulationController(config)
    multiverse = Multiverse(
        cluster, ClusterWitness(cluster, PropertyOracle(scenario.properties())), keyframe_insns=KEYFRAME_INSNS
    )
    with Recorder(path, header, strict=True) as recorder:
        multiverse.observe(recorder)
        multiverse.run_to(SECOND_NS)
        if partitioned:
            head = multiverse.head()
            assert head is not None, "it only goes forward"
            leader = _leader(multiverse)
            others = tuple(node for node in range(scenario.count) if node != leader)
            head.give(FaultInput(NetworkPartition((leader,), others), SECOND_NS))
            multiverse.run_to(3 * SECOND_NS)
        recorder.finish(multiverse)
    cluster.close()


def _leader(multiverse: Multiverse) -> int:
    """Who said last that it is one."""
    log = multiverse.events()
    return next(event.vm for event in reversed(log.read(0, log.total)) if "leader of term" in event.text)


def scenario_for(bug: str, faults: FaultSchedule) -> Scenario:
    """Chaos lasts until something is done last, and a second; then everything heals."""
    last_s = max(fault.at_ns for fault in faults.faults) // SECOND_NS
    return dataclasses.replace(load_scenario(f"raft/{bug}"), chaos_ns=(last_s + 2) * SECOND_NS)


def _make_failure(bug: str, path: Path) -> None:
    source = SCHEDULES / f"{bug}.toml"
    faults = FaultSchedule.from_toml(source.read_text(encoding="utf-8"), where=source.name)
    record_branch(
        path,
        scenario_for(bug, faults),
        seed=SEED,
        branch_seed=BRANCH_SEED,
        schedule=faults,
        stop_at_failure=bug not in NOTICED_LATER,
        heading=HEADING,
        threads=1,
    )


if __name__ == "__main__":
    RECORDINGS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or NAMES:
        made = make(name)
        print(f"{made.relative_to(ROOT)}: {made.stat().st_size} bytes")
