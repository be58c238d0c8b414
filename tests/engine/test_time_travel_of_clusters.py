"""Time travel of a real cluster: three Raft nodes under faults, walked back and forth; nothing may differ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sessions import refused

from cc_tui.opening import open_cluster
from cc_tui.options import launch_options
from cc_tui.session import Session
from chaoscontrol.cluster import SimulationConfig, SimulationController
from chaoscontrol.errors import UsageError
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import (
    ClockJump,
    FaultScheduleBuilder,
    NetworkPartition,
    Origin,
    PacketLoss,
    ProcessKill,
    ProcessRestart,
)
from chaoscontrol.images import image_path
from chaoscontrol.oracle import ConsoleNever, PropertyOracle
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, ConsoleInput, FaultInput, Multiverse, ScheduleInput, SeedInput
from chaoscontrol.trial import simulation_config

MS = 1_000_000
READY_NS = 350 * MS
SPLIT = NetworkPartition((0,), (1, 2))


def make(*, keyframe_insns: int = 2_000_000, properties: tuple[ConsoleNever, ...] = ()) -> Multiverse:
    cluster = SimulationController(simulation_config(load_scenario("raft"), seed=1))
    return Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(properties)), keyframe_insns=keyframe_insns)


def close(multiverse: Multiverse) -> None:
    multiverse._driver._cluster.close()


def give_all(multiverse: Multiverse) -> None:
    """A history with an input of every kind that concerns the cluster."""
    head = multiverse.head()
    assert head is not None
    assert head.give(FaultInput(SPLIT, 60 * MS)) is not None
    multiverse.run_to(READY_NS + 21 * MS + 12_345)
    kill = FaultScheduleBuilder(Origin.BRANCH).at_ns(0, PacketLoss(1, rate_ppm=300_000), duration_ns=33 * MS)
    kill.at_ns(17 * MS + 1, ProcessKill(2), duration_ns=20 * MS)
    assert multiverse.head().give(ScheduleInput(kill.build())) is not None
    multiverse.run_to(READY_NS + 70 * MS)
    assert multiverse.head().give(SeedInput(99)) is not None
    multiverse.run_to(READY_NS + 120 * MS)


@pytest.fixture(scope="module")
def history() -> Iterator[Multiverse]:
    multiverse = make()
    multiverse.run_to(READY_NS)
    give_all(multiverse)
    yield multiverse
    close(multiverse)


def test_a_history_with_faults_is_repeated_digest_by_digest_from_anywhere(history: Multiverse) -> None:
    end = history.moment()
    for vns in (READY_NS + 5 * MS, 17 * MS, READY_NS + 38 * MS + 999, READY_NS + 58 * MS, READY_NS + 100 * MS):
        history.goto_time(vns, branch="main")
        there = history.moment()
        history.goto(end)
        history.goto(there)
    history.goto(end)


def test_how_it_is_walked_changes_neither_state_nor_events(history: Multiverse) -> None:
    history.goto_end("main")
    other = make(keyframe_insns=300_000)
    try:
        other.run_to(READY_NS - 1)
        while other.position.vns < READY_NS:
            other.step_insns(1, 1000)
        other.goto_time(READY_NS)
        other.fork("same")
        give_all(other)
        assert other.moment().machines == history.moment().machines
        mine, others = history.events(), other.events()
        assert mine.read(0, mine.total) == others.read(0, others.total)
        assert str(other._driver._cluster.network_digest()) == str(history._driver._cluster.network_digest())
    finally:
        close(other)


def test_the_machine_that_was_killed_is_stopped_only_until_it_starts_again(history: Multiverse) -> None:
    killed = READY_NS + 38 * MS + 12_346
    history.goto_time(killed - 1, branch="main")
    assert history.stopped == frozenset()
    history.goto_time(killed)
    assert history.stopped == {2}
    history.goto_time(killed + 20 * MS)
    assert history.stopped == frozenset()


def test_a_deleted_branch_frees_its_snapshots_at_once_and_leaves_the_others_as_they_were(history: Multiverse) -> None:
    history.goto_end("main")
    end = history.moment()
    left: list[int] = []
    for attempt in range(4):
        history.goto_time(READY_NS, branch="main")
        history.fork(f"doomed{attempt}").give(SeedInput(7))
        for step in range(1, 6):
            history.run_to(READY_NS + 4 * step * MS)
            history.fork(f"doomed{attempt}-{step}").give(SeedInput(step))
            history.run_to(READY_NS + (4 * step + 2) * MS)
            history.goto_end(f"doomed{attempt}")
        history.goto(end)
        held = history.snapshot_bytes
        deleted = history.delete_branch(f"doomed{attempt}", recursive=True)
        assert len(deleted.branches) == 6
        left.append(history.snapshot_bytes)
        assert held - left[-1] > 256 << 10
        history.goto_time(READY_NS, branch="main")
        history.goto(end)
    # The first attempt left a snapshot on main where the others began; nothing else has stayed.
    assert len(set(left)) == 1


def test_faults_are_events_with_their_exact_times(history: Multiverse) -> None:
    log = history.events()
    faults = [(event.vns - READY_NS, event.text) for event in log.read(0, log.total) if event.kind is EventKind.FAULT]
    given = 21 * MS + 12_345
    assert faults == [
        (0, "begins: network_partition side_a=0 side_b=1,2"),
        (given, "begins: packet_loss target=1 rate_ppm=300000"),
        (given + 17 * MS + 1, "begins: process_kill target=2"),
        (given + 33 * MS, "ends: packet_loss target=1 rate_ppm=300000"),
        (given + 37 * MS + 1, "ends: process_kill target=2"),
        (60 * MS, "ends: network_partition side_a=0 side_b=1,2"),
    ]


def test_a_fault_that_cannot_be_changes_nothing(history: Multiverse) -> None:
    history.goto_end("main")
    before, inputs = history.moment(), len(history.inputs())
    with pytest.raises(UsageError, match="there is no machine 7"):
        history.head().give(FaultInput(ProcessKill(7)))
    assert history.moment() == before
    assert len(history.inputs()) == inputs


def test_a_broken_property_is_known_with_its_first_moment_and_forgotten_before_it() -> None:
    multiverse = make(properties=(ConsoleNever("raft: node", "no word of raft"),))
    try:
        multiverse.run_to(READY_NS)
        (failure,) = multiverse.failures()
        assert failure.name == "no word of raft"
        log = multiverse.events()
        console = [event for event in log.read(0, log.total) if event.kind is EventKind.CONSOLE]
        said = [event for event in console if "raft: node" in event.text]
        assert (failure.at.vns, failure.at.vm, failure.at.instret) == (said[0].vns, said[0].vm, said[0].instret)
        multiverse.goto_time(failure.at.vns - 1)
        assert not multiverse.witness.report(multiverse.position.vns).failures
        multiverse.goto_end()
        assert [result.name for result in multiverse.witness.report(READY_NS).failures] == ["no word of raft"]
    finally:
        close(multiverse)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    opened = open_cluster(launch_options(scenario="raft", seed=1, given=("seed",)))
    with Session(opened.cluster, opened.witness, heading=opened.heading) as session:
        session.execute("goto 350ms")
        yield session


def test_commands_inject_and_heal_and_the_script_repeats_them(session: Session) -> None:
    session.execute("inject network_partition side_a=vm0 side_b=1,2 for=2s")
    session.execute("goto 360ms")
    assert [link.normal for link in session.view.cluster.links] == [False, False, False, True, False, True]
    session.execute("goto 355ms")
    session.execute("heal")
    assert session.view.branch.name == "b1", "in the past it branches"
    assert all(link.normal for link in session.view.cluster.links)
    session.execute("agent 1 ps")
    session.execute("goto 380ms")
    answers = [event for event in session.view.cluster.events.read(0, 10**6) + list(session.view.cluster.pending)
               if event.kind is EventKind.AGENT and event.vns > 355 * MS]  # fmt: skip
    assert [event.vm for event in answers] == [1]
    script, moment = session.script(), session.view.moment
    again = open_cluster(launch_options(scenario="raft", seed=1, given=("seed",)))
    with Session(again.cluster, again.witness) as other:
        other.run_script(script)
        assert other.view.moment == moment


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("inject network_split side_a=0 side_b=1", "there is no fault 'network_split'"),
        ("inject network_partition side_a=0,1 side_b=1,2", "machine 1 is on both sides"),
        ("inject packet_loss target=0 rate_ppm=2000000", "rate_ppm cannot be 2000000"),
        ("inject packet_loss target=9 rate_ppm=2", "there is no machine 9"),
        ("inject packet_loss target=0 rate=2", "packet_loss has no field 'rate'"),
        ("inject network_latency target=0 latency_ns=-5ms", "latency_ns cannot be -5000000"),
        ("inject process_kill", "target is missing"),
        ("inject inject_nmi target=0 for=2s", "happens in a moment"),
        ("inject packet_loss target=0 rate_ppm=1 for=0s", "cannot last 0 ns"),
        ("schedule /nowhere.toml", "No such file"),
        ("reseed -1", "not a seed"),
        ("agent 0 dance", "not a request"),
        ("agent 9 ps", "there is no machine 9"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(session: Session, line: str, says: str) -> None:
    assert says in refused(session, line)


# ---- where a run is cut ----------------------------------------------------------------------------------------------


def make_hello() -> Multiverse:
    cluster = SimulationController(SimulationConfig(kernel_path=image_path("vmlinux"), initrd_path=image_path("hello")))
    return Multiverse(cluster, ClusterWitness(cluster, PropertyOracle()))


def told(multiverse: Multiverse, end_ns: int, step_ns: int) -> tuple[list[tuple[int, int, str]], list[Event]]:
    """(when, machine, how) of the ends, and the events, of going to `end_ns` in steps."""
    for vns in (*range(multiverse.position.vns, end_ns, step_ns), end_ns):
        multiverse.run_to(vns)
    ends = [(ending.vns, ending.machine, ending.kind) for ending in multiverse.branch.endings]
    return ends, multiverse.events_so_far()


def test_a_machine_that_was_off_for_a_while_has_ended_whatever_is_seen_of_it() -> None:
    """Found by recording live sessions: a replay in longer segments saw it run before and after."""
    start_ns, end_ns = 150 * MS, 200 * MS
    found = []
    for step_ns in (100_000_000, 400_000):
        multiverse = make()
        multiverse.run_to(start_ns)
        builder = FaultScheduleBuilder(Origin.BRANCH).at_ns(7 * MS + 1, ProcessKill(2), duration_ns=3 * MS)
        builder.at_ns(9 * MS, ProcessKill(1)).at_ns(30 * MS, ProcessRestart(0)).at_ns(31 * MS, ProcessRestart(1))
        multiverse.head().give(ScheduleInput(builder.build()))
        found.append(told(multiverse, end_ns, step_ns))
        close(multiverse)
    assert found[0] == found[1]
    assert found[0][0] == [
        (start_ns + 7 * MS + 1, 2, "power off"), (start_ns + 9 * MS, 1, "power off")
    ], "one that starts again at once never ended"  # fmt: skip


def test_a_machine_that_ended_by_itself_and_was_started_again_has_ended() -> None:
    def rebooting() -> Multiverse:
        multiverse = make_hello()
        assert multiverse.until(b"guest> ", 0)
        multiverse.run_to((multiverse.position.vns // (50 * MS) + 1) * 50 * MS)
        multiverse.head().give(ConsoleInput(0, b"reboot\r"))
        return multiverse

    multiverse = rebooting()
    start_ns = multiverse.position.vns
    multiverse.run_to(start_ns + 100 * MS)
    (alone,) = multiverse.branch.endings
    close(multiverse)
    assert alone.vns < start_ns + 45 * MS, "in one segment with what follows"
    found = []
    for step_ns in (100 * MS, 300_000):
        multiverse = rebooting()
        restart = FaultScheduleBuilder(Origin.BRANCH).at_ns(alone.vns - start_ns + 1_000, ProcessRestart(0)).build()
        multiverse.head().give(ScheduleInput(restart))
        found.append(told(multiverse, start_ns + 100 * MS, step_ns))
        close(multiverse)
    assert found[0] == found[1]
    assert found[0][0] == [(alone.vns, 0, "reset")]
    assert [event.vns for event in found[0][1] if event.kind is EventKind.END] == [alone.vns]


def test_a_fault_that_cannot_be_is_told_where_it_should_have_been() -> None:
    found = []
    for step_ns in (100 * MS, 300_000):
        multiverse = make_hello()
        jump = FaultScheduleBuilder(Origin.BRANCH).at_ns(7 * MS + 5, ClockJump(0, 1)).build()
        multiverse.head().give(ScheduleInput(jump))
        found.append(told(multiverse, 60 * MS, step_ns))
        close(multiverse)
    assert found[0] == found[1]
    assert [event.vns for event in found[0][1] if event.is_fault_not_done] == [7 * MS + 5]
