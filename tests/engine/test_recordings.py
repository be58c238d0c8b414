"""Recordings of real clusters: three Raft nodes under faults, replayed in new processes; nothing may differ."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toys.mutations import frames_of, joined

from cc_tui.opening import open_cluster, open_recorder
from cc_tui.options import launch_options
from cc_tui.session import Session
from chaoscontrol.cluster import SimulationConfig, SimulationController
from chaoscontrol.explore.blind import plan_branch
from chaoscontrol.faults import FaultScheduleBuilder, HealAll, NetworkPartition, Origin, PacketLoss, ProcessKill
from chaoscontrol.images import image_path
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.random import Stream
from chaoscontrol.recording import (
    DifferenceError,
    Judge,
    Recorder,
    RecordingError,
    Replay,
    embedded_images,
    load_recording,
    make_header,
    rebuild,
    record_branch,
    records,
)
from chaoscontrol.recording.fields import Place
from chaoscontrol.recording.frames import FrameKind
from chaoscontrol.recording.header import decode_header, encode_header
from chaoscontrol.scenario import Scenario, load_scenario
from chaoscontrol.timetravel import (
    AgentInput,
    ClusterWitness,
    ConsoleInput,
    FaultInput,
    Input,
    Multiverse,
    ScheduleInput,
    SeedInput,
)
from chaoscontrol.trial import Trial, simulation_config

MS = 1_000_000
READY_NS = 350 * MS
PLACE = Place("", 0)


class Recorded:
    """A recorded history with what belongs to it."""

    def __init__(self, scenario: Scenario, seed: int, path: Path) -> None:
        config = simulation_config(scenario, seed=seed)
        self.path = path
        self.cluster = SimulationController(config)
        witness = ClusterWitness(self.cluster, PropertyOracle(scenario.properties()))
        self.multiverse = Multiverse(self.cluster, witness)
        self.recorder = Recorder(path, make_header(config, judge=Judge.of(scenario)), clock=time.monotonic)
        self.multiverse.observe(self.recorder)

    def give(self, given: Input) -> None:
        head = self.multiverse.head()
        assert head is not None
        head.give(given)

    def close(self) -> None:
        self.recorder.finish(self.multiverse)
        self.recorder.close()
        self.cluster.close()


def replayed(path: Path, *words: str) -> tuple[int, dict]:
    """`cc-tui replay` in a new process: its exit code and what it found."""
    command = [sys.executable, "-m", "cc_tui", "replay", str(path), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def raft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A history of two branches with inputs of every kind; and the digests of its end."""
    path = tmp_path_factory.mktemp("raft") / "raft.ccrec"
    run = Recorded(load_scenario("raft"), 1, path)
    run.multiverse.run_to(READY_NS)
    run.give(FaultInput(NetworkPartition((0,), (1, 2)), 60 * MS))
    run.give(ConsoleInput(1, b"typed live\r"))
    run.multiverse.run_to(READY_NS + 21 * MS + 12_345)
    builder = FaultScheduleBuilder(Origin.BRANCH).at_ns(0, PacketLoss(1, rate_ppm=300_000), duration_ns=33 * MS)
    run.give(ScheduleInput(builder.at_ns(17 * MS + 1, ProcessKill(2), duration_ns=20 * MS).build()))
    run.multiverse.run_to(READY_NS + 70 * MS)
    run.give(SeedInput(99))
    run.multiverse.run_to(READY_NS + 120 * MS)
    run.multiverse.goto_time(READY_NS + 47 * MS + 3)
    run.multiverse.fork("healed")
    run.give(FaultInput(HealAll()))
    run.give(AgentInput(0, b"\0"))
    run.multiverse.run_to(READY_NS + 101 * MS + 7)
    digests = ",".join(str(vm.digest()) for vm in run.cluster.vms)
    run.close()
    yield path, digests


def test_a_new_process_lives_through_the_same_history(raft: tuple[Path, str]) -> None:
    path, digests = raft
    code, found = replayed(path)
    assert (code, found["equal"], found["differences"]) == (0, 1, [])
    assert found["compared"]["digest"] == digests
    with load_recording(path) as recording:
        assert found["compared"]["checkpoints"] == sum(len(recording.checkpoints(b)) for b in recording.branches) > 20
        assert found["compared"]["events"] == sum(len(list(recording.events(b))) for b in recording.branches) > 300
        assert found["compared"]["inputs"] == sum(len(b.inputs) for b in recording.branches) == 6


def test_from_checkpoints_in_the_middle_again_and_again(raft: tuple[Path, str]) -> None:
    path, _ = raft
    with load_recording(path) as recording:
        replay_on(recording, "main", READY_NS + 33 * MS + 77, "healed", READY_NS + 48 * MS)
    code, found = replayed(path, "--checkpoint", "healed@0.401", "--ticks", "300", "--repeat", "4")
    assert (code, found["replays"], found["equal"]) == (0, 4, 4)
    assert found["compared"]["vns"] == 30 * MS
    assert found["differing_rate_below"] == pytest.approx(1 - 0.05**0.25)


def replay_on(recording, *places) -> None:
    """From each (branch, virtual time) to the branch's end, on one cluster."""
    rebuilt = rebuild(recording)
    try:
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness)
        replay = Replay(recording, multiverse)
        replay.all()
        for number, (name, vns) in enumerate(zip(places[::2], places[1::2], strict=True)):
            branch = recording.branch(name)
            start = recording.position(branch, vns)
            done = replay.branch(recording.owner(branch, start), start, branch.end, f"again{number}")
            assert done.checkpoints > 0
            assert done.events > 0
    finally:
        rebuilt.close()


def test_a_saved_copy_is_replayed_to_the_same_end(raft: tuple[Path, str], tmp_path: Path) -> None:
    path, digests = raft
    with load_recording(path) as recording:
        recording.save(tmp_path / "copy.ccrec")
    assert replayed(tmp_path / "copy.ccrec")[1]["compared"]["digest"] == digests


# ---- differences -----------------------------------------------------------------------------------------------------


def altered(path: Path, to: Path, kind: FrameKind, change) -> Path:
    """A copy in which `change` has rewritten the payload of every frame of a kind."""
    frames = [
        (fields, change(payload) if fields[1] == kind else payload) for fields, payload in frames_of(path.read_bytes())
    ]
    to.write_bytes(joined(frames))
    return to


def difference(path: Path):
    with load_recording(path) as recording:
        rebuilt = rebuild(recording)
        try:
            with pytest.raises(DifferenceError) as caught:
                Replay(recording, Multiverse(rebuilt.cluster, rebuilt.witness)).all()
        finally:
            rebuilt.close()
    return caught.value.difference


def test_an_event_that_differs_is_named_with_machine_and_tick(raft: tuple[Path, str], tmp_path: Path) -> None:
    def change(payload: bytes) -> bytes:
        batch = records.decode_events(payload, PLACE)
        events = tuple(
            dataclasses.replace(e, data=e.data.replace("Linux version 6", "Linux version 5")) if e.vm == 1 and
            isinstance(e.data, str) else e for e in batch.events
        )  # fmt: skip
        return records.encode_events(dataclasses.replace(batch, events=events))

    found = difference(altered(raft[0], tmp_path / "event.ccrec", FrameKind.EVENTS, change))
    assert (found.branch, found.machine, found.part) == ("main", 1, "events")
    assert "Linux version 6" in found.what
    assert "recorded is console" in found.what
    assert found.tick == found.vns // 100_000


def test_a_digest_that_differs_is_named_with_machine_and_part(raft: tuple[Path, str], tmp_path: Path) -> None:
    def change(payload: bytes) -> bytes:
        def one(c: records.Checkpoint) -> records.Checkpoint:
            if c.position.vns < 200 * MS:
                return c
            part = c.parts[2]._replace(whole="ab" * 16)
            return dataclasses.replace(c, parts=(*c.parts[:2], part))

        return records.encode_checkpoints([one(c) for c in records.decode_checkpoints(payload, PLACE)])

    found = difference(altered(raft[0], tmp_path / "digest.ccrec", FrameKind.CHECKPOINTS, change))
    assert (found.branch, found.machine, found.part) == ("main", 2, "memory")
    assert found.after_vns < 200 * MS <= found.vns


def test_a_replay_that_differs_ends_with_3_and_one_line(raft: tuple[Path, str], tmp_path: Path) -> None:
    def change(payload: bytes) -> bytes:
        header = decode_header(payload, PLACE)
        return encode_header(dataclasses.replace(header, config=dataclasses.replace(header.config, seed=2)))

    path = altered(raft[0], tmp_path / "seed.ccrec", FrameKind.HEADER, change)
    command = [sys.executable, "-m", "cc_tui", "replay", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(f"cc-tui: error: {path}: the replay differs: main@0.0")
    assert done.stderr.count("\n") == 1


# ---- the recipe ------------------------------------------------------------------------------------------------------


def refused(path: Path, **options) -> str:
    with load_recording(path) as recording, pytest.raises(RecordingError) as caught:
        rebuild(recording, **options)
    return str(caught.value)


def with_header(raft: tuple[Path, str], to: Path, change) -> Path:
    return altered(raft[0], to, FrameKind.HEADER, lambda payload: encode_header(change(decode_header(payload, PLACE))))


def test_an_image_that_is_not_here_is_one_clear_line(raft: tuple[Path, str], tmp_path: Path) -> None:
    def change(header):
        kernel = dataclasses.replace(header.images[0], sha256=bytes(32), name="/nowhere/vmlinux")
        return dataclasses.replace(header, images=(kernel, *header.images[1:]))

    says = refused(with_header(raft, tmp_path / "a.ccrec", change), images=[image_path("hello")])
    assert "its kernel /nowhere/vmlinux (SHA-256 0000000000000000..., " in says
    assert "is not here; give the file with --image" in says

    own = tmp_path / "vmlinux"
    own.write_bytes(b"another one")

    def other(header):
        changed = change(header)
        kernel = dataclasses.replace(changed.images[0], name=str(own))
        return dataclasses.replace(changed, images=(kernel, *changed.images[1:]))

    assert "is not what it was when this was recorded" in refused(with_header(raft, tmp_path / "b.ccrec", other))


def test_a_recording_cannot_have_any_module_imported(raft: tuple[Path, str], tmp_path: Path) -> None:
    def change(header):
        return dataclasses.replace(header, judge=dataclasses.replace(header.judge, observer="antigravity:fly"))

    path = with_header(raft, tmp_path / "observer.ccrec", change)
    assert "judged by 'antigravity:fly', which no included scenario uses" in refused(path)
    assert "antigravity" not in sys.modules


def test_a_self_contained_recording_needs_no_image(tmp_path: Path) -> None:
    path = tmp_path / "alone.ccrec"
    config = SimulationConfig(kernel_path=image_path("vmlinux"), initrd_path=image_path("hello"))
    header = make_header(config, self_contained=True)
    cluster = SimulationController(config)
    with Recorder(path, header, images=embedded_images(header, config)) as recorder:
        multiverse = Multiverse(cluster)
        multiverse.observe(recorder)
        multiverse.run_to(20 * MS)
        recorder.finish(multiverse)
    cluster.close()

    def forget_names(payload: bytes) -> bytes:
        header = decode_header(payload, PLACE)
        images = tuple(dataclasses.replace(image, name="/nowhere") for image in header.images)
        return encode_header(dataclasses.replace(header, images=images))

    with load_recording(altered(path, tmp_path / "moved.ccrec", FrameKind.HEADER, forget_names)) as recording:
        rebuilt = rebuild(recording)
        assert Replay(recording, Multiverse(rebuilt.cluster)).all().checkpoints > 3
        rebuilt.close()


# ---- searches and sessions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "settle_ms", "pattern"), [(0, 130, None), (2, 100, "raft: ")])
def test_a_recorded_branch_ends_as_the_trial_does(
    tmp_path: Path, number: int, settle_ms: int, pattern: str | None
) -> None:
    """Also where it fails: in the quiet phase that is too short, or by what the console says."""
    never = () if pattern is None else (pattern,)
    scenario = dataclasses.replace(
        load_scenario("raft"), chaos_ns=230 * MS, settle_ns=settle_ms * MS, console_never=never
    )
    plan = plan_branch(scenario, 3, number)
    with Trial(scenario, seed=3) as trial:
        trial.run_to_ready()
        state = trial.snapshot()
        result = trial.run_branch(state, plan.schedule, plan.branch_seed)
        state.close()
    assert result is not None
    path = tmp_path / "branch.ccrec"
    run = record_branch(path, scenario, seed=3, branch_seed=plan.branch_seed, schedule=plan.schedule)
    assert (run.begin_ns, run.end_ns, run.digest) == (result.begin_ns, result.end_ns, result.digest)
    assert {failure.name for failure in run.failures} == {failure.name for failure in result.failures}
    assert bool(run.failures) == (pattern is not None or bool(result.failures))
    with load_recording(path) as recording:
        assert tuple(recording.branches[0].failures) == run.failures
        rebuilt = rebuild(recording)
        Replay(recording, Multiverse(rebuilt.cluster, rebuilt.witness)).all()
        assert rebuilt.cluster.digest() == result.digest
        rebuilt.close()


def test_a_session_records_what_is_done_in_it(tmp_path: Path) -> None:
    options = launch_options(vms=2, record=str(tmp_path / "session.ccrec"))
    opened = open_cluster(options)
    recorder = open_recorder(options, time.monotonic)
    with Session(opened.cluster, opened.witness, heading=opened.heading, recorder=recorder) as session:
        session.execute("goto 60ms")
        session.execute("type 0 hello")
        session.execute("mark typed")
        session.execute("goto 80ms")
        session.execute("goto 50ms")
        session.execute("branch other")
        session.execute("goto 70ms")
        end = session.view.moment
    with load_recording(options.record or "") as recording:
        main, other = recording.branches
        assert b"".join(given.input.data for given in main.inputs) == b"hello"
        assert [(remark.text, remark.is_mark) for remark in main.remarks] == [("typed", True)]
        assert (other.name, other.start.vns, other.end) == ("other", 50 * MS, end.position)
        rebuilt = rebuild(recording)
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness)
        Replay(recording, multiverse).all()
        multiverse.goto(end)
        rebuilt.close()


# ---- random histories ------------------------------------------------------------------------------------------------


def record_random(number: int, path: Path) -> None:
    """Seeds x schedules x console inputs typed live x forks."""
    stream = Stream(number, "random recordings")
    scenario = dataclasses.replace(load_scenario("raft"), chaos_ns=300 * MS)
    plan = plan_branch(scenario, number, stream.below(1000))
    run = Recorded(scenario, plan.branch_seed, path)
    run.multiverse.run_to((50 + stream.below(350)) * MS + stream.below(MS))
    run.give(ScheduleInput(dataclasses.replace(plan.schedule, origin=Origin.BRANCH)))
    for step in range(2 + stream.below(4)):
        run.multiverse.run_to(run.multiverse.position.vns + stream.below(60 * MS))
        run.give(ConsoleInput(stream.below(3), b"line %d\r" % step))
        if stream.below(3) == 0:
            run.multiverse.goto_time(stream.below(run.multiverse.position.vns))
            run.multiverse.fork()
            run.give(SeedInput(stream.u64()))
    run.multiverse.run_to(run.multiverse.position.vns + stream.below(80 * MS))
    run.close()


def round_trip(number: int, directory: Path) -> None:
    path, copy = directory / f"{number}.ccrec", directory / f"{number}.copy.ccrec"
    record_random(number, path)
    with load_recording(path) as recording:
        recording.save(copy)
        branch = recording.branches[-1]
        middle = branch.start.vns + Stream(number, "checkpoint").below(max(branch.end.vns - branch.start.vns, 1))
    code, whole = replayed(path)
    assert (code, whole["differences"]) == (0, []), f"history {number}"
    code, again = replayed(copy, "--checkpoint", f"{branch.name}@{middle / 1e9:.9f}", "--ticks", "400")
    assert (code, again["differences"]) == (0, []), f"history {number} from {middle} ns"


def test_a_random_history_is_repeated_in_new_processes(tmp_path: Path) -> None:
    round_trip(0, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_hundred_random_histories(tmp_path: Path) -> None:
    for number in range(1, 101):
        round_trip(number, tmp_path)
