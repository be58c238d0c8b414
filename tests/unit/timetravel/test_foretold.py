"""A recorded history as the known future: walked like any other, checked on the way, branched from, gone past."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.cluster import ToyCluster
from toys.recordings import KEYFRAME_INSNS, give, record_toy, toy_multiverse

from cc_tui.session import Session
from chaoscontrol.recording import foretold_branches, foretold_marks, load_recording
from chaoscontrol.timetravel import ConsoleInput, DivergenceError, Moment, Multiverse, Position, SeedInput


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "toy.ccrec"
    ends = record_toy(path)
    return path, ends


def opened(path, seed=1, **options) -> Multiverse:
    multiverse = toy_multiverse(seed, **options)
    with load_recording(path) as recording:
        multiverse.foretell(foretold_branches(recording))
    return multiverse


def lived_through() -> Multiverse:
    """The history of record_toy."""
    multiverse = toy_multiverse()
    multiverse.run_to(1_000_000)
    give(multiverse, ConsoleInput(0, b"hello\r"))
    multiverse.run_to(2_000_000)
    multiverse.goto_time(800_000)
    multiverse.fork()
    give(multiverse, SeedInput(5))
    multiverse.run_to(1_700_000)
    multiverse.fork("last")
    give(multiverse, ConsoleInput(1, b"off\r"))
    multiverse.run_to(2_500_000)
    return multiverse


def texts(multiverse: Multiverse) -> list[bytes]:
    totals = multiverse.console_totals
    return [log.read(0, total) for log, total in zip(multiverse.consoles(), totals, strict=True)]


def test_nothing_is_run_and_all_is_known(recorded):
    multiverse = opened(recorded[0])
    original = lived_through()
    assert multiverse.position == Position(0)
    assert sum(multiverse.instrets) == 0
    assert not multiverse.at_end
    for branch in original.branches():
        known = multiverse.find_branch(branch.name)
        assert (known.parent, known.start, known.end) == (branch.parent, branch.start, branch.end)
        assert (known.inputs, known.endings) == (branch.inputs, branch.endings)


def test_the_ends_are_the_recorded_moments(recorded):
    multiverse = opened(recorded[0])
    for end in recorded[1]:
        multiverse.goto(Moment.parse(end))
        assert multiverse.at_end
        assert str(multiverse.moment()) == end


@settings(max_examples=8)
@given(dice=st.randoms(use_true_random=False), keyframe_insns=st.sampled_from([500, KEYFRAME_INSNS, 10**9]))
def test_walking_about_shows_what_was_there(recorded, dice, keyframe_insns):
    """Consoles are not recorded: they become known on the way, in whatever order branches are visited."""
    multiverse, original = opened(recorded[0], keyframe_insns=keyframe_insns), lived_through()
    for _ in range(30):
        branch = dice.choice(original.branches())
        vns = dice.randrange(branch.end.vns + 1)
        for history in (multiverse, original):
            history.goto_time(vns, branch=branch.name)
        assert multiverse.moment() == original.moment()
        assert texts(multiverse) == texts(original)
        if dice.random() < 0.3:
            machine, count = dice.randrange(2), dice.randrange(1, 3000)
            for history in (multiverse, original):
                history.goto_instret(machine, min(count, history.instrets[machine]))
            assert multiverse.moment() == original.moment()
    for branch in original.branches():
        for history in (multiverse, original):
            history.goto_end(branch.name)
        assert texts(multiverse) == texts(original)
        assert multiverse.endings() == original.endings()


def test_events_and_lines_lead_the_same_ways(recorded):
    multiverse, original = opened(recorded[0]), lived_through()
    original.goto_time(0, branch="main", ordinal=0)
    for _ in range(12):
        for history in (multiverse, original):
            history.next_event()
        assert multiverse.moment() == original.moment()
    for _ in range(4):
        for history in (multiverse, original):
            history.previous_event()
        assert multiverse.moment() == original.moment()
    for history in (multiverse, original):
        assert history.until(b"hello", 0)
    assert multiverse.moment() == original.moment()


def test_branching_from_it_and_going_past_its_end(recorded):
    multiverse, original = opened(recorded[0]), lived_through()
    for history in (multiverse, original):
        history.goto_time(1_234_567, branch="main")
        history.fork("what-if")
        give(history, ConsoleInput(1, b"?\r"))
        history.run_to(3_000_000)
        history.goto_end("main")
        history.run_to(4_000_000)
        history.goto_time(1_900_000)
        history.goto_time(3_900_000)
        give_at_end = history.head()
        assert give_at_end is None
        history.goto_end()
        give(history, ConsoleInput(0, b"more\r"))
        history.run_to(4_200_000)
    assert multiverse.moment() == original.moment()
    assert texts(multiverse) == texts(original)
    for history in (multiverse, original):
        history.goto_time(3_500_000, branch="main")
        history.goto_end("what-if")
    assert multiverse.moment() == original.moment()
    assert texts(multiverse) == texts(original)


def test_cancelling_on_the_way_spoils_nothing(recorded):
    multiverse, original = opened(recorded[0], keyframe_insns=500), lived_through()
    count = 0

    def watch() -> None:
        nonlocal count
        count += 1
        if count in (3, 9, 20):
            multiverse.cancel()

    multiverse.watch(watch)
    for _ in range(6):
        try:
            multiverse.goto_end("last")
        except Exception as error:
            assert type(error).__name__ == "CancelledError"
    original.goto_end("last")
    assert multiverse.moment() == original.moment()
    assert texts(multiverse) == texts(original)


def test_a_cluster_that_is_another_is_noticed(recorded):
    with pytest.raises(DivergenceError):
        opened(recorded[0], seed=2)


def test_a_session_has_its_marks_and_blames_nobody_for_the_past(recorded):
    path, ends = recorded
    with load_recording(path) as recording:
        session = Session(ToyCluster(2, seed=1), keyframe_insns=KEYFRAME_INSNS, attended=False)
        session.foretell(foretold_branches(recording), foretold_marks(recording))
    with session:
        session.execute("goto here")
        assert str(session.view.moment) == ends[1]
        session.execute("assert moment == here")
        session.execute("assert branch == last")
        session.execute("goto main@0.9ms")
        session.execute(r'type 0 "x\r"')
        session.execute("assert not branch == main")
        assert session.broken() == set()
