"""The command language: words, values, and that every command's text parses back to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui.commands import SPECS, CommandError, FrontendCommand, parse, parse_script
from cc_tui.commands import engine as e
from cc_tui.commands.branches import Annotate, DeleteBranch, RenameBranch
from cc_tui.commands.language import (
    bytes_to_text,
    format_duration,
    parse_count,
    parse_duration,
    parse_speed,
    quote,
    split,
    text_to_bytes,
)
from cc_tui.commands.place import Place

COMMANDS = [
    e.Run(), e.Pause(), e.Speed(0.1), e.Speed(None), e.Step(1), e.Step(-3), e.Step(1, 5_000_000), e.Step(-1, 250_000),
    e.StepSize(250_000), e.Tick(1), e.Tick(-20), e.Insn(7), e.Insn(-1), e.Next(2), e.Next(-1), e.Continue(True),
    e.Continue(False), e.Until("guest> "), e.Until("x", 1), e.Until('say "hi"', None, 5_000_000_000),
    e.Until("x", 0, 1_500), e.Goto(Place("main@2.013500000+1")), e.Goto(Place("-5t")), e.Fork(), e.Fork("retry"),
    e.Mark(), e.Mark("before"), e.Type(0, b"ls\r"), e.Type(1, b"\x1b[A\x03"), e.Type(0, "ünï\r".encode()),
    e.Type(0, b"\xff\xfe"), e.Focus(1), e.Where(), e.Save("my file.cc"), e.Source("bug.cc"),
    DeleteBranch("b1"), DeleteBranch("b1", True), RenameBranch("b1", "retry"), Annotate(None, "a # \"note\"\n"),
    Annotate("b1", "né"), Annotate("b1", ""), Annotate(None, ""), Annotate("an old mark", "x"),
    FrontendCommand("view", "machine"), FrontendCommand("find", "panic"), FrontendCommand("quit"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.text)
def test_the_text_of_a_command_is_the_command(command):
    assert parse(command.text) == command


@given(st.text(max_size=40))
def test_a_quoted_text_is_one_word(text):
    (word,) = split(quote(text)) or [None]
    assert word is not None
    assert word.text == text


@given(st.binary(min_size=1, max_size=40))
def test_typed_bytes_survive_a_script(data):
    assert text_to_bytes(bytes_to_text(data)) == data
    assert parse(e.Type(0, data).text) == e.Type(0, data)


@given(st.text(max_size=60))
def test_any_line_is_a_command_or_one_clear_error(line):
    try:
        parse(line)
    except CommandError as error:
        assert "\n" not in str(error)
        assert str(error)


def test_blank_lines_and_comments_are_nothing():
    assert parse("") is None
    assert parse("   # a comment") is None
    assert parse("tick 3 # three") == e.Tick(3)
    assert parse('type 0 "#1"') == e.Type(0, b"#1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frobnicate", "no command 'frobnicate'"),
        ("ti", "did you mean tick"),
        ("processes", "did you mean ps?"),
        ("p jiffies", "did you mean registers or x?"),
        ("run-to 0 schedule", "usage: run-to [VM] ADDRESS, where VM is vm0, vm1, ..."),
        ("tick x", "not a count: 'x'"),
        ("tick 0", "not a count: '0'"),
        ("tick 1 2", "'2' is too much"),
        ("goto", "usage: goto PLACE"),
        ("step 5 parsecs", "'parsecs' is too much"),
        ("step 5parsecs", "write 250us, 5ms, 1.5s or 20t"),
        ("step 0ms", "leads nowhere"),
        ("speed fast", "write 0.1, 1, 100 or max"),
        ("speed 0", "not a speed"),
        ('type 0 "abc', "the quote is not closed"),
        (r'type 0 "\q"', r"no escape \q"),
        (r'type 0 "\xZZ"', "two hexadecimal digits"),
        ('type 0 ""', "nothing to type"),
        ("type eth0 x", "not a machine: 'eth0'"),
        ("mark 1st", "not a name: '1st'"),
        ('until ""', "1 to 255 bytes"),
        ("delete-branch", "usage: delete-branch BRANCH [all]"),
        ("delete-branch b1 b2", "'b2' is too much"),
        ("delete-branch b1 all b2", "'b2' is too much"),
        ("rename-branch b1", "usage: rename-branch BRANCH NEW"),
        ("rename-branch b1 1st", "not a name: '1st'"),
        ("annotate", "usage: annotate [BRANCH|MARK] TEXT"),
    ],
)
def test_mistakes_are_named(line, message):
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)


def test_a_note_may_be_several_words_once_it_says_of_what():
    assert parse("annotate b1 no vote counts") == Annotate("b1", "no vote counts")
    assert parse("annotate 'no vote counts'") == Annotate(None, "no vote counts")


def test_durations():
    assert parse_duration("20t", 100_000) == 2_000_000
    assert parse_duration("1.5s", 1) == 1_500_000_000
    assert parse_duration("250us", 1) == 250_000
    for text in ("1.5ns", "5", "s", "-1s", "1e3s", "0x5s"):
        with pytest.raises(CommandError):
            parse_duration(text, 1)


@given(st.integers(1, 1 << 60))
def test_a_duration_reads_back(ns):
    assert parse_duration(format_duration(ns), 100_000) == ns


def test_counts_and_speeds():
    assert parse_count("1_000") == 1000
    assert parse_speed("0.1x") == 0.1
    assert parse_speed("max") is None


def test_a_script_says_which_line():
    lines = parse_script("tick\n\n# x\nstep 2ms\nbogus\n", name="bug.cc")
    assert next(lines) == (1, e.Tick(1))
    assert next(lines) == (4, e.Step(1, 2_000_000))
    with pytest.raises(CommandError, match=r"bug\.cc:5: no command 'bogus'"):
        next(lines)


def test_names_are_told_apart():
    names = [name for spec in SPECS for name in (spec.name, *spec.aliases)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.example], ids=lambda spec: spec.name)
def test_examples_work(spec):
    command = parse(spec.example)
    assert command is not None
    assert command.text.split()[0] == spec.name
