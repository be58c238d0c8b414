"""What a recording tells is lived through while nobody asks for anything, and nobody can see that but by its speed."""

import dataclasses
import time
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys.cluster import ToyCluster
from toys.recordings import KEYFRAME_INSNS, give, record_toy, toy_multiverse

from cc_tui import session as session_module
from cc_tui.commands import Notice
from cc_tui.session import Session
from chaoscontrol.recording import foretold_branches, load_recording
from chaoscontrol.timetravel import CancelledError, ConsoleInput, DivergenceError, Multiverse, ahead, read_ahead

STRIDE_NS = 30_000


@pytest.fixture(autouse=True)
def in_small_strides(monkeypatch):
    monkeypatch.setattr(ahead, "STRIDE_NS", STRIDE_NS)


@pytest.fixture(scope="module")
def branches(tmp_path_factory):
    path = tmp_path_factory.mktemp("recording") / "toy.ccrec"
    record_toy(path)
    with load_recording(path) as recording:
        return foretold_branches(recording)


@pytest.fixture(scope="module")
def lived(branches):
    """The same, lived through to all its ends."""
    multiverse = opened(branches)
    for branch in branches:
        multiverse.goto_end(branch.name)
    return multiverse


def opened(branches) -> Multiverse:
    multiverse = toy_multiverse()
    multiverse.foretell(branches)
    return multiverse


def logs(multiverse: Multiverse) -> list[bytes]:
    """All that is known of what the consoles say on the cursor's line."""
    return [log.read(0, log.total) for log in multiverse.consoles()]


def texts(multiverse: Multiverse) -> list[bytes]:
    totals = multiverse.console_totals
    return [log.read(0, total) for log, total in zip(multiverse.consoles(), totals, strict=True)]


def spoiled(branches):
    """A history in which the last keyframe of `last` says another digest than its replay will."""
    last = branches[-1]
    *before, piece = last.keyframes

    def read():
        *first, keyframe = piece.read()
        parts = keyframe.parts[0]
        digest = "".join(f"{15 - int(digit, 16):x}" for digit in parts.whole)
        wrong = (parts._replace(whole=digest, cpu=digest), *keyframe.parts[1:])
        return [*first, dataclasses.replace(keyframe, parts=wrong)]

    return [*branches[:-1], dataclasses.replace(last, keyframes=(*before, piece._replace(read=read)))]


@settings(max_examples=30)
@given(dice=st.randoms(use_true_random=False))
def test_the_cursor_stays_and_what_comes_is_known(branches, lived, dice):
    multiverse = opened(branches)
    for _ in range(6):
        branch = dice.choice(branches)
        vns = dice.randrange(branch.end.vns + 1)
        for history in (multiverse, lived):
            history.goto_time(vns, branch=branch.name)
        asked, cancels = dice.randrange(1, 30), dice.randrange(40)
        strides, segments = count(1), count(1)
        multiverse.watch(lambda at=cancels, segments=segments: multiverse.cancel() if next(segments) == at else None)
        left = read_ahead(multiverse, lambda at=asked, strides=strides: next(strides) == at)
        multiverse.watch(lambda: None)
        assert multiverse.moment() == lived.moment()
        assert texts(multiverse) == texts(lived)
        if not left:
            assert logs(multiverse) == logs(lived)
    assert not read_ahead(multiverse, lambda: False)
    assert multiverse.moment() == lived.moment()
    assert logs(multiverse) == logs(lived)
    assert multiverse.events().total == lived.events().total
    for branch in branches:
        for history in (multiverse, lived):
            history.goto_end(branch.name)
        assert multiverse.moment() == lived.moment()
        assert texts(multiverse) == texts(lived)


def test_a_branch_of_no_length_is_read_too(branches):
    multiverse = opened(branches)
    multiverse.goto_time(900_000)
    multiverse.fork("nothing")
    multiverse.goto_time(900_000, branch="b1")
    multiverse.fork("inputs-only")
    give(multiverse, ConsoleInput(0, b"x"))
    for branch in ("nothing", "inputs-only", "main"):
        multiverse.goto_time(0, branch=branch)
        assert not read_ahead(multiverse, lambda: False)
    assert logs(multiverse)[0]


def test_where_nothing_is_foretold_nothing_is_read():
    multiverse = toy_multiverse()
    multiverse.run_to(500_000)
    multiverse.goto_time(100_000)
    multiverse.watch(lambda: pytest.fail("it moved"))
    assert not read_ahead(multiverse, lambda: False)


def test_what_does_not_repeat_itself_is_told_and_the_cursor_stays(branches):
    multiverse = opened(spoiled(branches))
    multiverse.goto_time(900_000, branch="last")
    before = multiverse.moment()
    with pytest.raises(DivergenceError):
        read_ahead(multiverse, lambda: False)
    assert multiverse.moment() == before


# ---- a session -------------------------------------------------------------------------------------------------------


@pytest.fixture
def open_session(monkeypatch):
    monkeypatch.setattr(session_module, "READ_AHEAD_AFTER_S", 0.01)
    opened_ones = []

    def open_one(branches, **options):
        session = Session(ToyCluster(2, seed=1), keyframe_insns=KEYFRAME_INSNS, reads_ahead=True, **options)
        session.foretell(branches, {})
        session.start()
        opened_ones.append(session)
        return session

    yield open_one
    for session in opened_ones:
        session.close()


def wait(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_a_session_reads_the_line_that_it_is_on_while_it_rests(open_session, branches, lived):
    session = open_session(branches)
    lived.goto_end("main")
    totals = [log.total for log in lived.consoles()]
    wait(lambda: [log.total for log in session.view.consoles] == totals)
    assert session.idle
    assert session.view.position.vns == 0
    session.execute("goto last@0.9ms")
    lived.goto_end("last")
    totals = [log.total for log in lived.consoles()]
    wait(lambda: [log.total for log in session.view.consoles] == totals)
    session.execute("assert time == 0.9ms")
    session.execute("goto end")
    assert session.view.moment == lived.moment()


def test_commands_are_answered_while_it_reads(open_session, branches, lived, monkeypatch):
    """The reading never ends by itself: it would be read again and again."""

    def read_again(multiverse, enough):
        with multiverse.excursion():
            try:
                while not enough():
                    multiverse.goto_time(0, branch="last")
                    multiverse.goto_end("last")
            except CancelledError:
                pass
        return True

    monkeypatch.setattr(session_module, "read_ahead", read_again)
    session = open_session(branches)
    for at in (1_100_000, 300_000, 2_200_000):
        time.sleep(0.1)
        session.execute(f"goto last@{at}ns")
        lived.goto_time(at, branch="last")
        assert session.view.moment == lived.moment()
    time.sleep(0.1)
    begun_s = time.monotonic()
    session.close()
    assert time.monotonic() - begun_s < 5


@pytest.mark.parametrize("attended", [True, False])
def test_a_history_that_does_not_repeat_itself_is_said_once(open_session, branches, attended):
    session = open_session(spoiled(branches), attended=attended)
    notices = []
    session.subscribe(lambda event: notices.append(event.text) if isinstance(event, Notice) else None)
    session.execute("goto last@0.9ms")
    if attended:
        wait(lambda: notices)
    time.sleep(0.2)
    assert ["does not repeat itself" in text for text in notices] == [True] * attended
    session.execute("assert time == 0.9ms")
    with pytest.raises(DivergenceError):
        session.execute("goto end")
