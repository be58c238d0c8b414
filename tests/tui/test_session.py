"""Session: commands in, pictures out, a script that repeats it all."""

import contextlib
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys.cluster import ToyCluster

from cc_tui.commands import Answer, CommandError, Notice
from cc_tui.commands.engine import (
    Continue,
    EndTyping,
    Faster,
    Focus,
    Fork,
    Goto,
    Mark,
    Pause,
    Run,
    Toggle,
    Type,
)
from cc_tui.commands.place import Place
from cc_tui.session import Crashed, Finished, Progress, Session, SessionView
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.timetravel import CancelledError, Position


class Log:
    """Everything that a session published, by kind."""

    def __init__(self, session: Session) -> None:
        self.events = []
        session.subscribe(self.events.append)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def notices(self) -> list[str]:
        return [notice.text for notice in self.of(Notice)]


@pytest.fixture
def session():
    with Session(ToyCluster(2), keyframe_insns=1_000) as session:
        yield session


def wait(condition, seconds=10.0):
    """Wait for something that happens on the engine's thread."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def text(session: Session, machine=0) -> str:
    view = session.view
    return view.consoles[machine].read(0, view.console_totals[machine]).decode()


# ---- commands -------------------------------------------------------------------------------------------------------


def test_commands_move_and_the_picture_follows(session):
    session.execute("goto 300us")
    assert session.view.position == Position(300_000)
    assert session.view.moment.position == Position(300_000)
    session.execute("tick")
    session.execute("reverse-tick 3")
    assert session.view.position == Position(280_000)
    assert not session.view.at_end
    session.execute("step 5us")
    assert session.view.position == Position(285_000)
    session.execute("step-size 20us")
    session.execute("reverse-step 2")
    assert session.view.position == Position(245_000)


def test_instructions_are_those_of_the_machine_in_focus(session):
    session.execute("goto 100us")
    session.execute("vm 1")
    before = session.view.instrets
    session.execute("insn 5")
    assert session.view.instrets[1] == before[1] + 5
    assert session.view.focus == session.view.machine.machine == 1


@pytest.mark.parametrize(
    ("place", "vns"),
    [("start", 0), ("250us", 250_000), ("30t", 300_000), ("+10us", 410_000), ("-1t", 390_000), ("main@0.0001", 100_000),
     ("main@50us", 50_000), ("here", 300_000), ("end", 400_000), ("main", 400_000)],
)  # fmt: skip
def test_places(session, place, vns):
    session.execute("goto 300us")
    session.execute("mark here")
    session.execute("goto 400us")
    session.execute(f"goto {place}")
    assert session.view.position.vns == vns


def test_places_by_instruction_line_and_moment(session):
    session.execute("goto 400us")
    moment = session.view.moment
    session.execute("goto 1000i")
    assert session.view.instrets[0] == 1000
    session.execute("goto -1i")
    assert session.view.instrets[0] == 999
    session.execute("goto vm1#2")
    assert text(session, 1).count("\n") == 2
    assert text(session, 1).endswith("\n")
    session.execute(f"goto {moment}")
    assert session.view.moment == moment


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("goto nowhere", "no such place"),
        ("goto b7@1.0", "no branch 'b7'"),
        ("goto vm0#9999", "no console line 9999"),
        ("goto vm9#1", "no machine 9"),
        ("goto main@0.0001+4", "0 inputs at that time"),
        ("goto main@1:2.3", "not a moment"),
        ("type 9 x", "no machine 9"),
        ("vm 9", "no machine 9"),
        ("branch main", "a branch 'main' already"),
        ("mark main", "a branch 'main' already"),
        ("delete-branch main", "'main' is the first one, from which all others come"),
        ("delete-branch nobody", "no branch 'nobody'; branches: main, old, kept"),
        ("delete-branch kept", "'kept' is the one that the cursor is on"),
        ("delete-branch old all", "the cursor is on 'kept', which forks from 'old'"),
        ("delete-branch old", "kept forks from branch 'old'; delete that first, or `delete-branch old all`"),
        ("rename-branch nobody x", "no branch 'nobody'"),
        ("rename-branch kept old", "a branch 'old' already"),
        ("rename-branch kept here", "there is a mark 'here' already"),
        ("rename-branch kept b1", "'b1' was the name of branch 'old', and moments may still speak of it"),
        ("rename-branch kept gone", "'gone' was a branch that is deleted"),
        ("branch gone", "'gone' was a branch that is deleted, and moments may still speak of it; choose another"),
        ("mark gone", "'gone' was a branch that is deleted"),
        ("goto gone", "branch 'gone' was deleted; branches: main, old, kept"),
        ("goto gone@0.0001", "branch 'gone' was deleted"),
        ("goto gone@0.000100000:1.01234567,1.01234567", "branch 'gone' was deleted"),
        ("compare gone", "branch 'gone' was deleted"),
        ("annotate nobody x", "no branch or mark 'nobody'; branches: main, old, kept; marks: here"),
        ("annotate old", "annotate: what about old?; annotate old TEXT"),
        ("annotate " + "x" * 5000, "a note has at most 4096 characters, this one 5000"),
        ("source /nonexistent", "/nonexistent: No such file"),
        ("save /dev/null/x", "/dev/null/x: "),
        (r'save "a\0b"', "null byte"),
        (r'source "a\0b"', "null byte"),
        ("until never 0 10us", "no console has shown 'never'"),
        ("reverse-insn 99999999", "has retired"),
    ],
)
def test_mistakes_are_one_line_and_change_nothing(session, line, message):
    for line_before in (
        "goto 100us", "mark here", "branch", "rename-branch b1 old", "goto 110us", "branch gone", "branch kept",
        "delete-branch gone",
    ):  # fmt: skip
        session.execute(line_before)
    before = session.view.branch
    with pytest.raises(ChaosControlError) as caught:
        session.execute(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert session.view.branch.name == before.name


def test_continue_visits_the_landmarks(session):
    session.execute("goto 200us")
    session.execute("mark a")
    session.execute("goto 300us")
    session.execute(r'type 0 "hi\r"')
    session.execute("goto 500us")
    for vns in (300_000, 200_000, 0):
        session.execute("reverse-continue")
        assert session.view.position.vns == vns
    for vns in (200_000, 300_000, 500_000):
        session.execute("continue")
        assert session.view.position.vns == vns
    assert session.view.at_end


def test_marks_of_another_future_are_no_landmarks(session):
    session.execute("goto 500us")
    session.execute("mark late")
    session.execute("goto 200us")
    session.execute("branch other")
    session.execute("goto 400us")
    session.execute("goto 300us")
    session.execute("continue")
    assert session.view.position == Position(400_000)
    assert session.view.branch.name == "other"


def test_back_to_before_typing_and_another_branch(session):
    session.execute("until beat")
    session.execute(r'type 0 "first\r"')
    session.execute("until 'said first'")
    session.execute("reverse-continue")
    assert "first" not in text(session)
    log = Log(session)
    session.execute(r'type 0 "second\r"')
    assert session.view.branch.name == "b1"
    assert any("branch b1 from main" in notice for notice in log.notices)
    session.execute("until 'said second'")
    assert "first" not in text(session)
    session.execute("goto main")
    assert "said first" in text(session)


def test_long_input_is_fed_as_the_guest_takes_it(session):
    long = "x" * 200
    session.execute(f'type 0 "{long}\\r"')
    session.execute("speed max")
    session.execute("run")
    wait(lambda: f"you said {long}" in text(session))
    session.execute("pause")
    assert sum(len(given.input.data) for given in session.view.inputs) == 201


# ---- running --------------------------------------------------------------------------------------------------------


def test_running_goes_on_until_it_is_paused(session):
    session.execute("speed max")
    session.execute("run")
    wait(lambda: session.view.position.vns > 2_000_000)
    assert session.view.running
    assert session.view.moment is None
    session.execute("pause")
    assert not session.view.running
    vns = session.view.position.vns
    time.sleep(0.05)
    assert session.view.position.vns == vns
    assert session.view.moment is not None


def test_speed_paces_a_run(session):
    session.execute("speed 0.01")
    begun = time.monotonic()
    session.execute("run")
    time.sleep(0.3)
    session.execute("pause")
    took_ns = (time.monotonic() - begun) * 1e9
    assert 0.2 * took_ns * 0.01 < session.view.position.vns < 1.1 * took_ns * 0.01


def test_a_step_ends_a_run(session):
    session.execute("speed max")
    session.execute("run")
    wait(lambda: session.view.position.vns > 100_000)
    session.execute("reverse-tick")
    assert not session.view.running
    assert not session.view.at_end


def test_a_run_stops_where_a_machine_does(session):
    log = Log(session)
    session.execute(r'type 1 "crash\r"')
    session.execute("speed max")
    session.execute("run")
    wait(lambda: not session.view.running and not session.busy)
    assert "vm1 stopped: triple fault" in log.notices
    assert session.view.stopped == {1}
    session.execute(r'type 0 "off\r"')
    session.execute("continue")
    wait(lambda: session.view.stopped == {0, 1} and not session.view.running)
    with pytest.raises(ChaosControlError, match="every machine has stopped"):
        session.execute("run")
    with pytest.raises(ChaosControlError, match="machine 1 has stopped"):
        session.execute("type 1 x")


# ---- progress and cancelling ----------------------------------------------------------------------------------------


def slow_session() -> Session:
    cluster = ToyCluster(1)
    cluster.vms[0].slowness_s = 0.05
    return Session(cluster, keyframe_insns=1_000)


def test_what_takes_long_reports_progress_and_can_be_cancelled():
    with slow_session() as session:
        log = Log(session)
        future = session.submit(Goto(Place("1s")))
        wait(lambda: len(log.of(Progress)) > 2)
        progress = log.of(Progress)[-1]
        assert progress.text == "goto 1s"
        assert 0 <= progress.fraction < 1
        assert progress.rate > 0
        session.cancel()
        with pytest.raises(CancelledError):
            future.result(5)
        assert log.of(Finished)
        assert not session.busy


def test_cancelling_forgets_what_waits():
    with slow_session() as session:
        first, second = session.submit(Goto(Place("1s"))), session.submit(Goto(Place("2s")))
        wait(lambda: session.view.position.vns > 0 or session.busy)
        session.cancel()
        for future in (first, second):
            with pytest.raises(CancelledError):
                future.result(5)


def test_stopping_cancels_what_is_under_way_and_pauses():
    with slow_session() as session:
        future = session.submit(Goto(Place("1s")))
        time.sleep(0.1)
        session.stop().result(5)
        assert isinstance(future.exception(5), CancelledError)
        session.submit(Run()).result(5)
        session.stop().result(5)
        assert not session.view.running


def test_a_pause_comes_after_what_was_asked_for_before_it(session):
    """Found by keys in one burst: leaving a console forgot what had just been typed at it."""
    asked = [session.submit(command) for command in (Run(), Fork("other"), Type(0, b"x"), Mark("here"), Pause())]
    for future in asked:
        future.result(5)
    assert session.view.branch.name == "other"
    assert session.view.marks
    assert len(session.view.inputs) == 1
    assert not session.view.running


def test_running_is_toggled_from_what_it_is_by_then(session):
    for asked, running in (((Toggle(),), True), ((Toggle(), Toggle(), Toggle()), False), ((Run(), Toggle()), False)):
        futures = [session.submit(command) for command in asked]
        futures[-1].result(5)
        assert session.view.running is running


def test_a_run_begun_by_typing_ends_with_it(session):
    session.submit(Type(0, b"x", by_hand=True)).result(5)
    assert session.view.running
    session.submit(EndTyping()).result(5)
    assert not session.view.running
    for before in (Run(), Continue(True)):
        session.submit(before)
        session.submit(Type(0, b"x", by_hand=True))
        session.submit(EndTyping()).result(5)
        assert session.view.running
        session.submit(Pause())
    session.submit(Type(0, b"x")).result(5)
    assert not session.view.running


def test_speeds_follow_each_other(session):
    for by, speed in ((2, 100.0), (1, None), (1, None), (-2, 10.0), (-9, 0.001)):
        session.submit(Faster(by)).result(5)
        assert session.view.speed == speed
    session.execute("speed 0.5x")
    session.submit(Faster(1)).result(5)
    assert session.view.speed == 1.0


def test_what_will_be_when_all_that_was_asked_for_is_done():
    cluster = ToyCluster(2)
    cluster.vms[0].slowness_s = 0.05
    with Session(cluster, keyframe_insns=1_000) as session:
        assert not session.was_at_work(time.monotonic() + 1)
        begun = time.monotonic()
        session.submit(Goto(Place("1s")))
        for command in (Focus(1), Focus(7), Fork(), Type(0, b"x"), Mark()):
            session.submit(command)
        assert session.view.focus == 0
        assert session.focus == 1
        assert session.unsaved_inputs == 2
        assert not session.was_at_work(begun), "nobody sees at once that something is under way"
        assert session.was_at_work(begun + 1)
        session.stop().result(5)
        assert session.asked.done()
        assert session.focus == session.unsaved_inputs == 0
        assert not session.was_at_work(begun + 1)


def test_closing_ends_what_is_under_way():
    session = slow_session()
    session.start()
    session.submit(Goto(Place("1s")))
    session.submit(Run())
    time.sleep(0.1)
    closer = threading.Thread(target=session.close)
    closer.start()
    closer.join(5)
    assert not closer.is_alive()


def test_a_fault_of_the_program_is_published():
    cluster = ToyCluster(1)
    session = Session(cluster)
    log = Log(session)
    with session:
        cluster.vms[0].registers = None
        future = session.submit(Goto(Place("1ms")))
        wait(lambda: log.of(Crashed))
        assert isinstance(log.of(Crashed)[0].error, TypeError)
        assert future.done()


# ---- scripts --------------------------------------------------------------------------------------------------------

lines = st.one_of(
    st.sampled_from(["tick 3", "reverse-tick", "insn 40", "reverse-insn 3", "next", "reverse-next", "continue",
                     "reverse-continue", "goto start", "goto end", "goto 300us", "branch", "mark", "vm 1", "vm 0",
                     "until beat 0 200us", "step 40us", "reverse-step 70us", "goto main", "where",
                     "delete-branch b1", "delete-branch b1 all", "delete-branch b2 all", "rename-branch b1 x",
                     "rename-branch main trunk", "goto b1", "goto x", "annotate 'of # here'", "annotate b1 one",
                     "annotate m1 two", 'annotate b1 ""']),
    st.builds(lambda machine, word: f'type {machine} "{word}"', st.integers(0, 1),
              st.sampled_from(["a", r"hi\r", r"\x1b[A", "x" * 80])),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(lines, max_size=14))
def test_the_script_of_a_session_repeats_it(commands):
    with Session(ToyCluster(2), keyframe_insns=1_000) as session:
        for line in commands:
            if line == "continue" and session.view.at_end:
                continue
            with contextlib.suppress(ChaosControlError):
                session.execute(line)
        script, moment = session.script(), session.view.moment
        tree = tree_of(session.view)
    with Session(ToyCluster(2), keyframe_insns=333) as again:
        again.run_script(script)
        assert again.view.moment == moment
        assert tree_of(again.view) == tree


def tree_of(view: SessionView) -> list[object]:
    """Branches, marks and what is said of them."""
    branches = [(b.name, b.former, b.parent, b.start, b.inputs, b.note) for b in view.branches]
    return [*branches, view.marks, view.mark_notes]


def test_a_session_with_branches_named_noted_and_deleted_is_repeated(session, tmp_path):
    for line in (
        "goto 300us", "goto 100us", "branch", r'type 0 "hi\r"', "goto 250us", "mark here", "branch gone", "step",
        "mark lost", "goto b1", "delete-branch gone", "rename-branch b1 retry", "annotate 'the # one'",
        "annotate here \"\\x41 'quoted'\"", "rename-branch main trunk", "goto trunk@0.0002", "annotate no",
    ):  # fmt: skip
        session.execute(line)
    log = Log(session)
    session.execute("branches")
    session.execute("marks")
    branches, marks = log.of(Answer)
    assert branches.lines == (
        "* trunk to 0.000300000, 0 inputs: no",
        "  retry from trunk at 0.000100000 to 0.000250000, 1 inputs: the # one",
    )
    assert [(row["name"], row["note"], row["former_names"]) for row in branches.data] == [
        ("trunk", "no", ["main"]), ("retry", "the # one", ["b1"]),
    ]  # fmt: skip
    assert marks.data == {"here": {"moment": str(session.view.marks["here"]), "note": "A 'quoted'"}}
    assert marks.lines == (f"here {session.view.marks['here']}: A 'quoted'",)
    assert session.view.unsaved_inputs == 8
    session.execute(f"save {tmp_path / 'x.cc'}")
    with Session(ToyCluster(2), keyframe_insns=333) as again:
        again.execute(f"source {tmp_path / 'x.cc'}")
        assert again.view.moment == session.view.moment
        assert tree_of(again.view) == tree_of(session.view)


def test_a_deletion_says_what_went_and_what_it_freed(session):
    log = Log(session)
    for line in ("goto 300us", "goto 100us", "branch", "goto 250us", "mark a", "mark b", "branch two", "goto main"):
        session.execute(line)
    session.execute("delete-branch b1 all")
    assert log.notices[-1] == "deleted branches b1, two with marks a, b; 12 KiB of snapshots are free"
    session.execute("branch")
    assert session.view.branch.name == "b2"


def test_former_names_lead_to_a_branch_everywhere(session):
    log = Log(session)
    for line in (
        "goto 300us", "goto 100us", "branch", "goto 250us", "rename-branch b1 retry", "assert branch == b1",
        "assert branch == retry", "goto main", "assert not branch == b1", "goto b1", "assert branch == retry",
        "goto b1@0.0002", "compare b1 main", "check never console any contains nothing on b1,main", "annotate b1 x",
    ):  # fmt: skip
        session.execute(line)
    assert session.view.branch.note == "x"
    assert [row["branch"] for row in log.of(Answer)[-1].data["branches"]] == ["retry", "main"]


def test_a_run_by_hand_is_repeated_too():
    with Session(ToyCluster(2)) as session:
        session.execute("speed max")
        session.execute("run")
        wait(lambda: session.view.position.vns > 300_000)
        session.execute(r'type 0 "live\r"')
        wait(lambda: "said live" in text(session))
        session.execute("pause")
        script, moment = session.script(), session.view.moment
    with Session(ToyCluster(2)) as again:
        again.run_script(script)
        assert again.view.moment == moment


def test_a_script_of_another_cluster_does_not_pass():
    with Session(ToyCluster(2)) as session:
        session.execute("goto 1ms")
        script = session.script()
    differs = pytest.raises(ChaosControlError, match=r"script:\d+.* differs in state")
    with Session(ToyCluster(2, seed=2)) as other, differs:
        other.run_script(script)


def test_scripts_stop_at_the_first_error_with_its_line(session):
    with pytest.raises(CommandError, match=r"x\.cc:3: no such place"):
        session.run_script("tick\n\ngoto moon\ntick", name="x.cc")
    assert session.view.tick == 1
    with pytest.raises(CommandError, match="cannot run another script"):
        session.run_script("source y.cc", name="x.cc")


def test_save_and_source(session, tmp_path):
    path = tmp_path / "deep" / "bug.cc"
    session.execute("goto 200us")
    session.execute(r'type 1 "ho\r"')
    assert session.view.unsaved_inputs == 1
    session.execute(f'save "{path}"')
    assert session.view.unsaved_inputs == 0
    assert path.read_text().startswith("# a cc-tui session\ngoto 200us\ntype 1 ")
    with Session(ToyCluster(2)) as again:
        again.execute(f'source "{path}"')
        assert again.view.moment == session.view.moment


def test_pictures_are_frozen(session):
    view = session.view
    assert isinstance(view, SessionView)
    session.execute("tick")
    assert view.position == Position(0)
    assert session.view.position == Position(10_000)
