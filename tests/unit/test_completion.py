"""What a line may become, by the command that it belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui.commands import BY_NAME
from cc_tui.commands.completion import _ARGUMENTS, Names, complete, suggest
from cc_tui.commands.conditions import SUBJECTS
from cc_tui.commands.help import help_lines
from cc_tui.commands.language import CommandError
from cc_tui.symbols import SymbolTable
from chaoscontrol.symbols.table import Symbol

TABLE = SymbolTable([Symbol("schedule", 0x1000, 16), Symbol("sched_init", 0x1010, 16), Symbol("panic", 0x1020, 0)])
NAMES = Names(
    vms=3, branches=("main", "b1"), marks=("before",), moments=("main@1.000000000:5.01234567",),
    packets=(("0#57>1", "TCP"), ("2#9>0", "ARP")),
    properties=("one leader",), panes=("0", "machine"), symbols=lambda prefix: TABLE.completions(prefix, 5),
)  # fmt: skip


def texts(line):
    return [candidate.text for candidate in complete(line, NAMES)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("reverse-t", ["reverse-tick"]),
        ("goto be", ["before"]),
        ("goto b", ["before", "b1", "b1@"]),
        ("goto main@1", ["main@1.000000000:5.01234567"]),
        ("vm ", ["vm0", "vm1", "vm2"]),
        ("type vm1", ["vm1"]),
        ("type vm1 x", []),
        ("expect text vm2", ["vm2"]),
        ("expect text vm2 ", ["within"]),
        ("inject network_par", ["network_partition"]),
        ("inject network_partition si", ["side_a=", "side_b="]),
        ("inject network_partition side_a=0 si", ["side_b="]),
        ("inject process_kill target=", ["target=0", "target=1", "target=2"]),
        ("inject network_partition f", ["for="]),
        ("assert br", ["branch"]),
        ("assert not branch == ma", ["main"]),
        ("assert property ", ['"one leader"']),
        ('assert property "one leader" f', ["failed"]),
        ("assert console any m", ["matches"]),
        ("assert register vm0 ra", ["rax"]),
        ("assert moment > be", ["before"]),
        ("check n", ["never"]),
        ("check never con", ["console"]),
        ("check never console any m", ["matches"]),
        ("check always register vm0 rax == 1 a", ["at"]),
        ("check always register vm0 rax == 1 at sched", ["sched_init", "schedule"]),
        ("check always console any contains x on ", ["main", "b1", "all"]),
        ("assert memory vm0 0 u", ["u8", "u16", "u32", "u64"]),
        ("likelihood sa", ["samples"]),
        ("likelihood ", ["samples", "back", "resolution", "margin", "seed", "when", "with", '"one leader"']),
        ("likelihood samples ", []),
        ("likelihood samples 3 wh", ["when"]),
        ("likelihood when fut", ["future"]),
        ("likelihood with timer_j", ["timer_jitter"]),
        ("likelihood with timer_jitter ta", ["target="]),
        ("packet d", ["drop", "delay"]),
        ("packet drop ", ["0#57>1", "2#9>0"]),
        ("packet delay 2", ["2#9>0"]),
        ("packet drop 0#57>1 ", []),
        ("packets ", ["vm0", "vm1", "vm2", "0#57>1", "2#9>0"]),
        ("info pa", ["packets"]),
        ("registers vm0 rip rs", ["rsp", "rsi"]),
        ("x vm0 sched", ["sched_init", "schedule"]),
        ("x vm0 ", []),
        ("events fa", ["fault"]),
        ("view m", ["machine"]),
        ("help exp", ["expect"]),
        ("where --j", ["--json"]),
        ("delete-branch ", ["main", "b1"]),
        ("delete-branch b1 ", ["all"]),
        ("delete-branch b1 all ", []),
        ("rename-branch b", ["b1"]),
        ("rename-branch b1 ", []),
        ("annotate b", ["b1", "before"]),
        ("annotate b1 b", []),
        ("nothing v", []),
        ('until "a b', []),
    ],
)  # fmt: skip
def test_completion(line, found):
    assert texts(line) == found


def test_paths(tmp_path, monkeypatch):
    (tmp_path / "a dir").mkdir()
    (tmp_path / "bug.cc").touch()
    monkeypatch.chdir(tmp_path)
    assert texts("source b") == ["bug.cc"]
    assert texts("source ") == ['"a dir/"', "bug.cc"]


def test_what_is_replaced_begins_at_the_word():
    (candidate,) = complete("goto  bef", NAMES)
    assert candidate.start == 6


@pytest.mark.parametrize(
    ("line", "whole"),
    [
        ("reverse-", "reverse-step"),
        ("goto be", "goto before"),
        ("inject process_kill tar", "inject process_kill target="),
        ("view machine", None),
        ("type vm1 x", None),
    ],
)
def test_the_likeliest_is_suggested(line, whole):
    assert suggest(line, NAMES) == whole


@given(st.text(max_size=30))
def test_any_line_can_be_completed(line):
    for candidate in complete(line, NAMES):
        assert 0 <= candidate.start <= len(line)


def test_only_commands_have_arguments():
    assert set(_ARGUMENTS) <= set(BY_NAME)


def test_help_is_about_everything_and_each():
    text = "\n".join(help_lines())
    for spec in BY_NAME.values():
        assert spec.usage in text
        assert help_lines(spec.name)[0] == spec.usage
    assert "  also: save-script" in help_lines("save")
    assert any("example: goto 2.5s" in line for line in help_lines("g"))
    assert "an error unless a condition holds here" in text
    about_assert = "\n".join(help_lines("assert"))
    assert all(f"\n  {subject.FORM}" in about_assert for subject in SUBJECTS.values())
    with pytest.raises(CommandError):
        help_lines("frobnicate")


def test_symbols_by_name():
    assert TABLE.address("panic") == 0x1020
    assert TABLE.address("none") is None
    assert TABLE.completions("s", 1) == ["sched_init"]
