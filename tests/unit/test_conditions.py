"""What `assert` can say: every form reads and writes itself, and says what is there when it does not hold."""

import warnings
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.cluster import ToyCluster

from cc_tui.commands import CommandError, parse
from cc_tui.commands.checks import Assert, CheckError, Expect
from cc_tui.commands.conditions import SUBJECTS
from cc_tui.commands.language import goes_on, logical_lines
from cc_tui.session import Session
from chaoscontrol.timetravel.console_log import ConsoleLog
from chaoscontrol.values import ConsoleMark

FORMS = [
    "assert branch == main", "assert not branch != b1", "assert moment == main@0.083595275:23586096.14dad143",
    "assert moment < before", "assert time >= 5ms", "assert tick == 20", "assert instret vm1 > 1000",
    "assert digest 14dad143", "assert digest vm1 14da", "assert digest 1,2", 'assert property "one leader" failed',
    'assert console vm0 contains "guest> "', "assert console any matches ^toy", "assert event fault contains loss",
    "assert machine vm1 stopped", "assert register vm0 rax <= 0x10", "assert memory vm0 phys:0x1000 == 90cc",
    "assert memory vm0 jiffies_64+0x8 u32 >= 0x3", 'assert event sdk matches "^send_event raft_l"',
    "assert check never console any contains panic",
    "assert future open", "assert not not future known", 'expect "guest> "', 'expect x vm1 within 250us',
]  # fmt: skip


@pytest.fixture(scope="module")
def session():
    with Session(ToyCluster(2), keyframe_insns=1_000, attended=False) as session:
        session.execute("goto 300us")
        yield session


@pytest.mark.parametrize("line", FORMS)
def test_every_form_writes_what_it_reads(line):
    command = parse(line)
    assert isinstance(command, Assert | Expect)
    assert parse(command.text) == command


def test_every_subject_has_an_example():
    assert {line.removeprefix("assert ").removeprefix("not ").split()[0] for line in FORMS} >= set(SUBJECTS)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("assert", "something is missing"),
        ("assert weather", "'weather' is no condition; there are branch"),
        ("assert branch = main", "'=' is no comparison; write assert branch == NAME"),
        ("assert branch ==", "a branch is missing"),
        ("assert branch == main now", "'now' is too much"),
        ("assert digest xyz", "not a digest: 'xyz'"),
        ("assert digest vm0 1,2", "a machine has one digest"),
        ("assert property p broken", "'broken' is no verdict"),
        ('assert console vm0 contains ""', "an empty text is everywhere"),
        ("assert console vm0 matches (", "not a regular expression"),
        ("assert time > soon", "write 250us"),
        ("assert tick > many", "'many' is not a count"),
        ("assert register vm0 foo == 1", "no register 'foo'"),
        ("assert memory vm0 0 == 1", "not bytes: '1'"),
        ("assert memory vm0 0 u24 == 1", "'u24' is no comparison or size"),
        ("assert event sdk matches (", "not a regular expression"),
        ("assert moment == a:b", "not a moment"),
        ("assert not", "a condition is missing"),
        ("expect x vm0 vm1", "'vm1' is too much"),
        ("expect x within", "something is missing"),
    ],
)
def test_mistakes_are_named(line, message):
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)


HOLD = [
    "branch == main", "not branch == b1", "time == 300us", "time < 1ms", "tick >= 1", "instret vm0 > 100",
    'console vm0 contains "toy machine 0"', "console any contains toy", 'console vm1 matches "^toy machine 1"',
    "machine vm0 running", "future open", "register vm0 rax >= 0", "not event fault contains loss",
]  # fmt: skip


@pytest.mark.parametrize("condition", HOLD)
def test_what_holds_and_its_opposite(session, condition):
    session.execute(f"assert {condition}")
    with pytest.raises(CheckError):
        session.execute(f"assert not {condition}")


def test_moments_digests_and_memory(session):
    moment = session.view.moment
    digests = ",".join(mark.digest for mark in moment.machines)
    session.execute(f"assert moment {moment}")
    session.execute(f"assert digest {digests}")
    session.execute(f"assert digest vm1 {moment.machines[1].digest[:3]}")
    session.execute("mark here")
    session.execute("step 10us")
    session.execute("assert moment > here")
    session.execute("assert not digest " + digests)
    session.execute("goto here")
    session.execute("assert moment == here")
    session.execute("assert future known")
    with pytest.raises(CommandError, match="there are 2 machines, not 1"):
        session.execute("assert digest 12")
    with pytest.raises(CommandError, match="no mark 'there'"):
        session.execute("assert moment == there")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("assert branch == b1", "at main@0.000300000: not so: branch == b1: it is main"),
        ("assert time > 1s", "it is 0.000300000s"),
        ("assert console vm0 contains panic", "the last lines are vm0 "),
        ("assert property p failed", "there is no such property"),
        ('expect "never said" within 50us', "no console has shown 'never said' within 50us"),
    ],
)
def test_what_does_not_hold_says_what_is_there(session, line, message):
    session.execute("goto 300us")
    with pytest.raises(CheckError) as caught:
        session.execute(line)
    assert message in str(caught.value)


def test_expect_goes_to_where_the_console_has_just_shown_it(session):
    session.execute("goto 300us")
    session.execute("expect beat vm1 within 5ms")
    session.execute("assert console vm1 contains beat")
    session.execute("assert time > 300us")


def test_lines_go_on_after_a_backslash():
    text = 'step \\\n 5ms\n# comment \\\ntick\ntype 0 "a\\\nb"\ntype 0 "a\\\\"\nmark x\\'
    assert list(logical_lines(text.split("\n"))) == [
        (1, "step  5ms"), (3, "# comment \\"), (4, "tick"), (5, 'type 0 "ab"'), (7, 'type 0 "a\\\\"'), (8, "mark x"),
    ]  # fmt: skip


@given(st.text(max_size=40))
def test_any_line_goes_on_or_not(line):
    assert goes_on(line) in (True, False)
    assert not goes_on(line + " ")


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        ("caf.$", "un café"), ("caf[éè]", "un café"), ("é{2}", "µéé"), ("(?P<é>z)", "\ufffdz"), ("^..z", None),
        ("[[c]af", "un café"),
    ],
)  # fmt: skip
def test_a_pattern_is_looked_for_in_characters_not_bytes(pattern, line):
    log = ConsoleLog()
    data = "un café\r\nµéé\n".encode() + b"\xffz\n"
    starts = [0, *(at + 1 for at, byte in enumerate(data[:-1]) if byte == 0x0A)]
    log.append(data, [ConsoleMark(at, 0, 0) for at in starts])
    multiverse = SimpleNamespace(consoles=lambda: [log], console_totals=[len(data)])
    condition = parse(f'assert console vm0 matches "{pattern}"').condition
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = condition.check(SimpleNamespace(multiverse=multiverse, vms=1))
    assert found.holds is (line is not None)
    assert line is None or found.what == f"vm0 has shown {line!r}"
