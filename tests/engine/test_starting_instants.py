"""Replays that begin in the middle of an instant: of what happened then, some is past and some is to come.

The machines that end at an instant are recorded with its time alone, so what ended before the start and what its inputs
are still to end are told apart by what the replay sees: nothing of the past is seen again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toys.mutations import frames_of, joined

from chaoscontrol.cluster import SimulationController
from chaoscontrol.faults import FaultScheduleBuilder, Origin, PacketLoss, ProcessKill, ProcessRestart
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.recording import (
    DifferenceError,
    Judge,
    Recorder,
    Recording,
    Replay,
    load_recording,
    make_header,
    rebuild,
)
from chaoscontrol.recording.fields import Place, pack, unpack
from chaoscontrol.recording.frames import FrameKind
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, FaultInput, Input, Multiverse, Position, ScheduleInput
from chaoscontrol.trial import simulation_config

MS = 1_000_000
AT_NS = 150 * MS
END_NS = AT_NS + 60 * MS
OFF = "power off"


def schedule(*kills: tuple[int, int]) -> ScheduleInput:
    """Machines by when their power is cut, from now on."""
    builder = FaultScheduleBuilder(Origin.BRANCH)
    for after_ns, machine in kills:
        builder.at_ns(after_ns, ProcessKill(machine))
    return ScheduleInput(builder.build())


MAIN: tuple[Input, ...] = (
    FaultInput(PacketLoss(0, rate_ppm=100_000), 5 * MS),
    FaultInput(ProcessKill(1), 3 * MS),
    FaultInput(ProcessRestart(1)),
    FaultInput(ProcessKill(1)),
    schedule((0, 2), (20 * MS, 2)),
)
"""Given at one instant, at which vm0 ends before them all: vm1 ends, starts and ends again; vm2 ends at once."""
FORK_ORDINAL = 2
OTHER: tuple[Input, ...] = (FaultInput(ProcessRestart(0)), FaultInput(ProcessKill(0)), FaultInput(ProcessKill(2)))
"""On a branch from after the second of those."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("instants") / "raft.ccrec"
    scenario = load_scenario("raft")
    config = simulation_config(scenario, seed=1)
    cluster = SimulationController(config)
    multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(scenario.properties())))

    def give(inputs: tuple[Input, ...]) -> None:
        for given in inputs:
            head = multiverse.head()
            assert head is not None
            assert head.give(given) is not None

    with Recorder(path, make_header(config, judge=Judge.of(scenario)), clock=time.monotonic) as recorder:
        multiverse.observe(recorder)
        multiverse.run_to(AT_NS - 10 * MS)
        give((schedule((10 * MS, 0)),))
        multiverse.run_to(AT_NS)
        give(MAIN)
        multiverse.run_to(END_NS)
        multiverse.goto_time(AT_NS, ordinal=FORK_ORDINAL)
        multiverse.fork("other")
        give(OTHER)
        multiverse.run_to(END_NS)
        recorder.finish(multiverse)
    cluster.close()
    return path


@pytest.fixture
def again(recorded: Path) -> Iterator[tuple[Recording, Multiverse]]:
    """The recording, and a cluster that has lived through it."""
    with load_recording(recorded) as recording:
        rebuilt = rebuild(recording)
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness)
        Replay(recording, multiverse).all()
        yield recording, multiverse
        rebuilt.close()


def ends(recording: Recording) -> list[list[tuple[int, int, str]]]:
    """(after how long, machine, how) of each branch."""
    return [[(e.vns - AT_NS, e.machine, e.kind) for e in branch.endings] for branch in recording.branches]


def test_machines_end_at_an_instant_before_by_and_between_its_inputs(recorded: Path) -> None:
    with load_recording(recorded) as recording:
        assert ends(recording) == [
            [(0, 0, OFF), (0, 1, OFF), (0, 1, OFF), (0, 2, OFF)],
            [(0, 0, OFF), (0, 2, OFF)],
        ]  # fmt: skip
        assert [len(branch.inputs) for branch in recording.branches] == [1 + len(MAIN), len(OTHER)]


def test_a_replay_begins_between_any_two_inputs_of_an_instant(again: tuple[Recording, Multiverse]) -> None:
    recording, multiverse = again
    replay = Replay(recording, multiverse)
    main, other = recording.branches
    places = [(main, at, len(MAIN) - at) for at in range(len(MAIN) + 1)]
    places += [(other, FORK_ORDINAL + at, len(OTHER) - at) for at in range(len(OTHER) + 1)]
    for number, (branch, ordinal, to_come) in enumerate(places):
        done = replay.branch(branch, Position(AT_NS, ordinal), branch.end, f"again{number}")
        assert done.inputs == to_come
        assert done.checkpoints > 0


def without_end_of(machine: int, path: Path, to: Path) -> Path:
    """A copy in which this machine does not end on the first branch."""
    frames: list[tuple[list[int], bytes]] = []
    for fields, payload in frames_of(path.read_bytes()):
        if fields[1] == FrameKind.TREE:
            tree = [record for record in unpack(payload, Place("", 0)) if tuple(record[:3]) != (2, 0, machine)]
            frames.append((fields, pack(tree)))
        else:
            frames.append((fields, payload))
    to.write_bytes(joined(frames))
    return to


@pytest.mark.parametrize(("machine", "ended_by"), [(0, 0), (1, 4), (2, 5)])
def test_an_end_at_the_starting_instant_that_nobody_recorded_is_a_difference(
    again: tuple[Recording, Multiverse], machine: int, ended_by: int, tmp_path: Path
) -> None:
    """Where an input is still to end that machine; where it ended before, nothing says so."""
    recording, multiverse = again
    with load_recording(without_end_of(machine, Path(recording.path), tmp_path / "altered.ccrec")) as altered:
        main, replay = altered.branches[0], Replay(altered, multiverse)
        for ordinal in range(len(MAIN) + 1):
            start, name = Position(AT_NS, ordinal), f"from{ordinal}"
            if ordinal >= ended_by:
                replay.branch(main, start, main.end, name)
                continue
            with pytest.raises(DifferenceError) as caught:
                replay.branch(main, start, main.end, name)
            found = caught.value.difference
            assert (found.machine, found.part, found.vns) == (machine, "endings", AT_NS)
