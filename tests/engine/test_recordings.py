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

from cc_tui.opening import open_cluster, open_recorded, open_recorder
from cc_tui.options import launch_options
from cc_tui.session import Session
from chaoscontrol.cluster import SimulationConfig, SimulationController
from chaoscontrol.explore.blind import plan_branch
from chaoscontrol.faults import (
    FaultSchedule,
    FaultScheduleBuilder,
    HealAll,
    NetworkLatency,
    NetworkPartition,
    Origin,
    PacketLoss,
    ProcessKill,
    ProcessPause,
    ScheduledFault,
)
from chaoscontrol.images import image_path
from chaoscontrol.oracle import PropertyOracle
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
    BranchError,
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
    scenario = load_scenario("raft")
    # With the kernel's messages: more to compare.
    run = Recorded(dataclasses.replace(scenario, cmdline=f"{scenario.cmdline} loglevel=7"), 1, path)
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
    # Nothing that was kept of it differs, so it is none of what is kept in parts.
    assert (found.branch, found.machine, found.part, found.pages, found.registers) == ("main", 2, "state", (), ())
    assert found.after_vns < 200 * MS <= found.vns


@dataclasses.dataclass
class Spoiler:
    """Reaches into a machine while a replay is under way, once, as a fault of the host's memory would."""

    cluster: SimulationController
    at_ns: int
    done_ns: int | None = None

    def __call__(self, _branch: str, vns: int, _end_vns: int) -> None:
        if self.done_ns is not None or vns < self.at_ns:
            return
        self.done_ns = vns
        vm = self.cluster.vms[1]
        vm.write_memory(0x3001234, b"\x01")
        # Linux leaves it alone while nobody debugs.
        vm.set_registers(vm.registers().replace(dr=(*vm.registers().dr[:3], 0x7000, *vm.registers().dr[4:])))
        vm.disk.write(7 * 4096, b"spoiled")


def test_a_byte_and_a_register_that_differ_are_named(raft: tuple[Path, str]) -> None:
    with load_recording(raft[0]) as recording:
        main = recording.branches[0]
        times = [checkpoint.position.vns for checkpoint in recording.checkpoints(main)]
        rebuilt = rebuild(recording)
        spoiler = Spoiler(rebuilt.cluster, times[len(times) // 2])
        try:
            with pytest.raises(DifferenceError) as caught:
                Replay(recording, Multiverse(rebuilt.cluster, rebuilt.witness), progress=spoiler).all()
        finally:
            rebuilt.close()
    found = caught.value.difference
    assert (found.branch, found.machine, found.part) == ("main", 1, "registers")
    assert found.registers == ("dr3",)
    assert found.pages == ("page 0x3001", "disk page 0x7")
    assert spoiler.done_ns is not None
    assert found.after_vns <= spoiler.done_ns <= found.vns
    assert found.vns == min(vns for vns in times if vns >= spoiler.done_ns)
    assert found.tick == found.vns // 100_000
    assert f"vm1 differs in registers: dr3 0x7000, {0:#x} recorded; page 0x3001; disk page 0x7" in str(found)
    assert f" and event {found.event})" in str(found)


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


def test_faults_of_the_last_instant_are_in_the_last_state(tmp_path: Path) -> None:
    """Also of the last of chaos: they have begun when everything heals, and so are healed."""
    scenario = dataclasses.replace(load_scenario("raft"), chaos_ns=100 * MS, settle_ns=100 * MS)
    ended = ScheduledFault(50 * MS, ProcessPause(1), 50 * MS)
    healed = ScheduledFault(100 * MS, ProcessPause(2))
    left = ScheduledFault(150 * MS, NetworkLatency(0, MS), 50 * MS)
    last = ScheduledFault(200 * MS, ProcessKill(0))
    digests = []
    with Trial(scenario, seed=3) as trial:
        trial.run_to_ready()
        state = trial.snapshot()
        for faults in ((ended, healed, left, last), (ended, healed, left)):
            schedule = FaultSchedule(faults, Origin.BRANCH)
            result = trial.run_branch(state, schedule, 5)
            assert result is not None
            assert list(trial.cluster.faults.active) == [last.fault] * (last in faults)
            path = tmp_path / f"{len(faults)}.ccrec"
            run = record_branch(path, scenario, seed=3, branch_seed=5, schedule=schedule)
            assert (run.end_ns, run.digest) == (result.end_ns, result.digest)
            digests.append(result.digest)
        state.close()
    assert digests[0] != digests[1]


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
        session.execute("branch gone")
        session.execute("type 1 lost")
        session.execute("goto 75ms")
        session.execute("goto typed")
        session.execute("annotate typed 'before \"hello\" is read'")
        session.execute("rename-branch other retry")
        session.execute("annotate retry 'nothing typed'")
        session.execute("delete-branch gone")
        session.execute("goto other")
        end = session.view.moment
        branches = session.view.branches
    with load_recording(options.record or "") as recording:
        main, other, gone = recording.branches
        assert (gone.name, gone.deleted, recording.kept) == ("gone", True, [main, other])
        assert b"".join(given.input.data for given in main.inputs) == b"hello"
        assert [(name, mark.branch.name, mark.position.vns) for name, mark in recording.marks.items()] == [
            ("typed", "main", 60 * MS)
        ]
        assert (other.name, other.start.vns, other.end) == ("retry", 50 * MS, end.position)
        rebuilt = rebuild(recording)
        multiverse = Multiverse(rebuilt.cluster, rebuilt.witness)
        Replay(recording, multiverse).all()
        multiverse.goto(end)
        rebuilt.close()
    again = open_recorded(options.record or "", attended=False)
    with again.session as session:
        told = session.view.branches
        assert [(b.name, b.former, b.note, b.inputs) for b in told] == [
            (b.name, b.former, b.note, b.inputs) for b in branches
        ]
        session.execute("goto typed")
        assert session.view.mark_notes == {"typed": 'before "hello" is read'}
        session.execute(f"goto {end}".replace("retry@", "other@"))
        assert session.view.moment == end
        with pytest.raises(BranchError, match="branch 'gone' was deleted"):
            session.execute("goto gone")
    code, found = replayed(Path(options.record or ""))
    assert (code, found["equal"], found["compared"]["branches"], found["deleted"]) == (0, 1, 2, ["gone"])


def test_a_replay_of_a_branch_begins_before_it_and_at_its_fork(tmp_path: Path) -> None:
    """And whatever the recorded branches are called."""
    options = launch_options(record=str(tmp_path / "forked.ccrec"))
    opened = open_cluster(options)
    with Session(opened.cluster, opened.witness, recorder=open_recorder(options, time.monotonic)) as session:
        for line in ("goto 30ms", "rename-branch main repeat-1", "type 0 ab", "goto 40ms", "goto repeat-1@0.03+0"):
            session.execute(line)
        for line in ("branch other", "type 0 z", "goto 45ms"):
            session.execute(line)
        assert session.view.branch.parent is not None
        assert session.view.branch.parent.branch == "repeat-1"
    path = Path(options.record or "")
    for words, branches, inputs, virtual_ms in (
        (("--checkpoint", "other@0.02"), 2, 1, 25),
        (("--checkpoint", "other@0.03"), 1, 0, 15),
        (("--checkpoint", "other@0.02", "--ticks", "50"), 1, 0, 5),
        (("--checkpoint", "other@0.02", "--ticks", "150", "--repeat", "2"), 2, 1, 15),
        (("--checkpoint", "10ms", "--branch", "other"), 2, 1, 35),
        (("--branch", "other"), 1, 1, 15),
        (("--checkpoint", "main@0.03"), 1, 0, 10),
    ):
        code, found = replayed(path, *words)
        compared = found["compared"]
        assert (code, found["equal"]) == (0, found["replays"]), words
        assert (compared["branches"], compared["inputs"], compared["vns"]) == (branches, inputs, virtual_ms * MS), words


def test_what_a_recording_ends_with_was_broken_before_a_session_opens_it(tmp_path: Path) -> None:
    """Also where it had just happened, and was judged nowhere; found by recording live sessions."""
    options = launch_options(record=str(tmp_path / "panic.ccrec"))
    opened = open_cluster(options)
    with Session(opened.cluster, opened.witness, recorder=open_recorder(options, time.monotonic)) as session:
        for line in ('expect "guest> "', 'type 0 "panic\\r"', 'expect "Kernel panic"', "+100us"):
            session.execute(line if line[0] != "+" else f"goto {line}")
        assert session.broken() == {"no kernel panic"}
    with load_recording(options.record or "") as recording:
        assert recording.failures == []
    for further_ms in (0, 100):
        again = open_recorded(options.record or "", attended=False)
        with again.session as session:
            session.execute("goto main")
            session.execute(f"goto +{further_ms}ms")
            assert [failure.name for failure in session.view.cluster.failures] == ["no kernel panic"]
            assert session.broken() == set()
