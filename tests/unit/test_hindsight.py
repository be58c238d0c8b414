"""Properties written after the fact: what they may say, how answers are counted, what a branch's log tells."""

import textwrap

import pytest
from toys.cluster import ToyCluster

from cc_tui.commands import CommandError, parse
from cc_tui.commands.hindsight import read_check
from cc_tui.session import Session
from chaoscontrol.debug.hindsight import KINDS, Answer, ask_of_events, judge, tell_all, verdict_over
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FaultChange, PacketLoss
from chaoscontrol.oracle import At, Progress, PropertyKind, PropertyResult, Verdict
from chaoscontrol.timetravel import BranchError, FaultInput, GivenInput, Phase, PhaseInput, Position, Told

MS = 1_000_000
FORMS = [
    'check never console any matches "a b|c"', "check always not console vm1 contains x on main,b1",
    "check sometimes event sdk matches ^send on all", "check always register vm1 rax <= 0x10 at 0x1000",
    "check never memory vm0 jiffies_64 u64 > 0x5 at schedule vm2", "check always console any contains up at do_exit",
    "check rules.py:one_leader", "check sometimes a/rules.py:Rule on b1", "check never rules.py:bad at phys:0x1000 vm0",
    "assert check never console any contains panic", "assert not check always rules.py:rule on all",
    "assert memory vm0 jiffies_64 u32 != 0x1",
]  # fmt: skip


@pytest.mark.parametrize("line", FORMS)
def test_every_form_writes_what_it_reads(line):
    command = parse(line)
    assert command is not None
    assert parse(command.text) == command


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("check", "check: how often it must be so is missing; write check always|never|sometimes CONDITION"),
        ("check console any contains x", "how often it must be so is missing"),
        ("check never", "check: a condition is missing; write check never CONDITION [at ADDRESS [VM]]"),
        ("check never weather", "check: 'weather' is no condition"),
        ("check never console any says x", "write check never console VM|any contains TEXT"),
        (
            "check never register vm0 rax == 1",
            "where to look is missing; write check never register vm0 rax == 0x1 [at",
        ),
        ("check never check never console any contains x", "a property about properties"),
        ("check never console any contains x at", "an address is missing"),
        ("check never console any contains x on", "a branch is missing"),
        ("check never console any contains x at 0x1 vm0 now", "'now' is too much"),
        ("assert check sometimes", "check: a condition is missing"),
    ],
)
def test_mistakes_are_named(line, message):
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)


def line(vns: int, text: str, vm: int = 0) -> Event:
    return Event(vns, vm, vns, EventKind.CONSOLE, text)


LOSS = FaultChange(3 * MS, PacketLoss(0, 1), True, 0)
INPUTS = [GivenInput(Position(3 * MS), 0, FaultInput(PacketLoss(0, 1)))]
EVENTS = [
    line(MS, "up"),
    line(2 * MS, "bad one", 1),
    Event(3 * MS, -1, 0, EventKind.FAULT, LOSS),
    line(4 * MS, "bad two"),
]
TOLD = Told("main", Position(5 * MS), EVENTS, INPUTS)


def judged(words: str, told: Told = TOLD):
    (one,) = read_check(words.split(), 1000).judge_told(told)
    return one


@pytest.mark.parametrize(
    ("words", "verdict", "passes", "fails"),
    [
        ("always console any contains bad", "failed", 2, 1),
        ("always console vm1 contains bad", "passed", 1, 0),
        ("always not console vm0 matches ^bad", "failed", 1, 1),
        ("always console vm7 contains bad", "unreached", 0, 0),
        ("never console any contains bad", "failed", 1, 2),
        ("never console any contains worse", "passed", 3, 0),
        ("never console vm7 contains bad", "passed", 0, 0),
        ("sometimes console any matches two$", "passed", 1, 2),
        ("sometimes console any matches three$", "unreached", 0, 3),
        ("sometimes event fault contains loss", "passed", 1, 0),
    ],
)
def test_what_the_kinds_want(words, verdict, passes, fails):
    one = judged(words)
    assert (one.result.verdict, one.result.passes, one.result.fails) == (verdict, passes, fails)


def test_the_first_of_each_is_a_position_at_which_it_has_happened():
    one = judged("never console any contains bad")
    assert (one.result.example, one.example) == (At(MS, 0, MS), Position(MS + 1))
    assert (one.result.counterexample, one.counterexample) == (At(2 * MS, 1, 2 * MS), Position(2 * MS + 1))
    assert one.result.details == "bad one"
    fault = judged("sometimes event fault contains loss")
    assert fault.example == Position(3 * MS, 1), "after its input"
    assert fault.counterexample is None


def test_over_several_branches_always_means_each_and_sometimes_one():
    def one(kind, *answers):
        events = [line(at, "x") for at in range(len(answers))]
        told, replies = Told("main", Position(9), events, []), iter(answers)
        return judge("p", KINDS[kind], "main", ask_of_events(told, lambda _: Answer(next(replies))))

    assert verdict_over([one("always", True), one("always", True, False)]) is Verdict.FAILED
    assert verdict_over([one("always", True), one("always")]) is Verdict.PASSED
    assert verdict_over([one("always")]) is Verdict.UNREACHED
    assert verdict_over([one("sometimes", False), one("sometimes", True)]) is Verdict.PASSED
    assert verdict_over([one("sometimes", False)]) is Verdict.UNREACHED
    assert verdict_over([one("never", False), one("never", True)]) is Verdict.FAILED


class Listening:
    """Writes down what a property is told."""

    name = "listening"

    def __init__(self):
        self.heard = []

    def on_event(self, event):
        self.heard.append(event.text)

    def on_time(self, vns):
        self.heard.append(vns // MS)

    def healed(self, vns):
        self.heard.append("healed")

    def settled(self, vns):
        self.heard.append("settled")

    def results(self):
        return [PropertyResult("p", PropertyKind.ALWAYS, 1, 1, At(20 * MS, 0, 20 * MS), At(70 * MS, -1, 0))]


def test_a_property_is_told_events_phases_and_the_time_as_when_it_was_lived():
    inputs = [
        GivenInput(Position(60 * MS), 0, PhaseInput(Phase.HEALED)),
        GivenInput(Position(120 * MS), 0, PhaseInput(Phase.SETTLED)),
    ]
    told = Told("b1", Position(120 * MS, 1), [line(20 * MS, "a"), line(60 * MS - 1, "b"), line(60 * MS, "c")], inputs)
    prop = Listening()
    (one,) = tell_all(told, prop)
    assert prop.heard == ["a", 50, "b", 60, "healed", "c", 100, 120, "settled", 120]
    assert (one.branch, one.example, one.counterexample) == ("b1", Position(20 * MS + 1), Position(70 * MS))
    (silent,) = tell_all(Told("main", Position(9_000 * MS), [line(MS, "up")], []), Progress(5_000 * MS))
    assert silent.counterexample == Position(5_001 * MS)


PYTHON = """
    from __future__ import annotations
    from dataclasses import dataclass, field
    from chaoscontrol.oracle import NoGuestEnds

    def counted(event, memory):
        memory["n"] = memory.get("n", 0) + 1
        return None if event.kind != "console" else memory["n"] < 3 or f"event {memory['n']}"

    def wrong(event, memory):
        return 3

    def broken(event, memory):
        x = 0
        return 1 / x > 0

    class Ends(NoGuestEnds):
        pass

    @dataclass
    class Observer:
        seen: list[str] = field(default_factory=list)
        def __call__(self, name, details): return []
        def healed(self): pass
        def settled(self): return []

    ALWAYS = ("observed",)
    value = 3
"""


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.py"
    path.write_text(textwrap.dedent(PYTHON))
    return path


def test_a_function_remembers_and_says_why(rules):
    one = judged(f"{rules}:counted")
    assert (one.result.passes, one.result.fails, one.result.details) == (2, 1, "event 4")
    assert one.result.verdict is Verdict.FAILED
    assert judged(f"{rules}:counted") == one, "each time it begins anew"
    assert judged(f"sometimes {rules}:counted").result.verdict is Verdict.PASSED


def test_classes_are_properties_or_observers(rules):
    assert judged(f"{rules}:Ends").result.name == "no guest ends by itself"
    assert judged(f"{rules}:Observer").result.name == "observed"
    with pytest.raises(CommandError, match="says itself what must hold"):
        judged(f"never {rules}:Ends")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", "answers 3; True, False, a line of text, or None"),
        ("broken", r"rules.py:15: ZeroDivisionError: division by zero"),
        ("missing", "there is no function or class 'missing'"),
        ("value", "there is no function or class 'value'"),
    ],
)
def test_what_python_gets_wrong_is_one_line(rules, name, message):
    with pytest.raises(CommandError, match=message):
        judged(f"{rules}:{name}")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CommandError, match="No such file"):
        judged(f"{tmp_path}/none.py:x")
    (tmp_path / "odd.py").write_text("a = \n")
    with pytest.raises(CommandError, match=r"odd.py:1: invalid syntax"):
        judged(f"{tmp_path}/odd.py:x")


def test_branches_are_named(tmp_path):
    with Session(ToyCluster(2), keyframe_insns=1_000, attended=False) as session:
        session.execute("goto 300us")
        session.execute("branch other")
        with pytest.raises(BranchError, match="no branch 'nobody'; branches: main, other"):
            session.execute("check never console any contains x on nobody")
        session.execute("assert check never console any contains x on all")
