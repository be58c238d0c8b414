"""The commands about stacks and source lines, on a real guest whose source says what is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stack_guest import SOURCE, StackGuest, boot, line_of, strip_program

from cc_tui.commands import Answer, CommandError, parse
from cc_tui.session import Session
from chaoscontrol import SimulationConfig, SimulationController, VmConfig, image_path
from chaoscontrol.errors import ChaosControlError

LINES = [
    "backtrace", "backtrace vm0", "backtrace vm0 12", "frame", "frame 0", "frame vm1 3", "up", "up 2", "down vm0",
    "down 3", "finish", "finish vm0", "reverse-finish", "step-line", "step-line vm0 3", "next-line",
    "reverse-step-line 2", "reverse-next-line vm1", "list", "list main.c:20", "list vm0 main 30", "list 30",
    "line main.c:20", "line vm0 0x401000",
    "break vm0 raft/main.c:20", "break raft:main", "break *init:main+0x10", "symbol-file build/server.debug",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_every_command_writes_what_it_reads(line: str) -> None:
    command = parse(line)
    assert command is not None
    assert parse(command.text) == command


def test_gdb_has_other_names_for_them() -> None:
    assert parse("bt") == parse("info stack") == parse("backtrace")
    assert parse("info frame") == parse("frame")
    assert parse("info line main.c:20") == parse("line main.c:20")
    assert parse("fin") == parse("finish")
    assert (parse("sl 2"), parse("nl"), parse("rsl"), parse("rnl")) == (
        parse("step-line 2"), parse("next-line"), parse("reverse-step-line"), parse("reverse-next-line"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frame x", "not a count"), ("up 0", "not a count"), ("finish 3", "'3' is too much"),
        ("line", "something is missing"), ("break main.c:0", "not a number"),
        ("symbol-file", "something is missing"), ("backtrace vm0 init", "not a count"),
    ],
)  # fmt: skip
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)


class Talk:
    """A session and what it answers."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.answers: list[Answer] = []
        session.subscribe(lambda event: self.answers.append(event) if isinstance(event, Answer) else None)

    def ask(self, line: str) -> list[str]:
        self.answers.clear()
        self.session.execute(line)
        return [text for answer in self.answers for text in answer.lines]

    def data(self, line: str) -> Any:
        self.ask(line)
        return self.answers[-1].data


def start(image: Path) -> Session:
    config = SimulationConfig(
        num_vms=1, vm_config=VmConfig(memory_bytes=64 << 20), kernel_path=image_path("vmlinux"), initrd_path=str(image),
        threads=1,
    )  # fmt: skip
    return Session(SimulationController(config), attended=False, kernel=image_path("vmlinux"), initrd=str(image))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> StackGuest:
    made = boot("musl-O0", tmp_path_factory.mktemp("commands"))
    made.cluster.close()
    return made


@pytest.fixture
def talk(built: StackGuest) -> Iterator[Talk]:
    with start(built.image) as session:
        session.execute('expect "round" within 5s')
        yield Talk(session)


def at(comment: str) -> str:
    return f"stack_program.c:{line_of(comment)}"


def text_of(comment: str) -> str:
    return f"{line_of(comment):6} {SOURCE.read_text().splitlines()[line_of(comment) - 1]}"


def test_a_breakpoint_at_a_line_and_the_stack_there(talk: Talk) -> None:
    (said,) = talk.ask(f"break {at('in leaf')}")
    assert said.startswith("point 1: break at 0x")
    assert f"{at('in leaf')} in /init> of vm0" in said
    assert talk.ask("points") == [said.removeprefix("point ")]
    (met,) = talk.ask("continue")
    assert met.startswith("point 1: about to execute 0x")
    lines = talk.ask("backtrace")
    assert lines[0].startswith("* #0  0x")
    assert " leaf+0x" in lines[0]
    assert lines[0].endswith(f"(/init, registers) tests/guests/native/{at('in leaf')}")
    found = talk.data("backtrace")
    assert [frame["symbol"] for frame in found["frames"]][:5] == ["leaf", "inner", "outer", "round_of_calls", "main"]
    assert [frame["line"] for frame in found["frames"]][:3] == [
        line_of("in leaf"), line_of("inner calls leaf"), line_of("outer calls inner"),
    ]  # fmt: skip
    assert found["whole"]
    here = talk.session.view.moment
    talk.ask("continue")
    assert [frame["symbol"] for frame in talk.data("bt")["frames"]][:2] == ["leaf", "recurse"]
    talk.ask("reverse-continue")
    assert talk.session.view.moment == here


def test_frames_are_chosen_and_finished(talk: Talk) -> None:
    talk.ask("break leaf")
    talk.ask("continue")
    here = talk.session.view.moment
    assert " inner+0x" in talk.ask("up")[0]
    assert talk.ask("up")[1] == text_of("outer calls inner")
    assert " inner+0x" in talk.ask("down")[0]
    assert " outer+0x" in talk.ask("frame 2")[0]
    assert [line[0] for line in talk.ask("backtrace")][:4] == [" ", " ", "*", " "]
    listed = talk.ask("list")
    assert f"=> {line_of('outer calls inner'):6} " in "\n".join(listed)
    assert len(listed) == 10
    assert " round_of_calls+0x" in talk.ask("finish")[0]
    assert talk.data("frame")["level"] == 0, "the cursor is elsewhere: the innermost is meant again"
    talk.session.execute(f"goto {here}")
    assert " inner+0x" in talk.ask("finish")[0]
    talk.session.execute(f"goto {here}")
    assert talk.data("frame")["level"] == 0, "also where one was chosen before"
    talk.ask("frame 1")
    called = talk.data("reverse-finish")
    assert (called["symbol"], called["line"]) == ("outer", line_of("outer calls inner"))
    with pytest.raises(CommandError, match="there is no frame 99; the stack has 0 to"):
        talk.ask("frame 99")
    with pytest.raises(CommandError, match="there is no frame -1"):
        talk.ask("down")


def test_steps_by_line_both_ways(talk: Talk) -> None:
    talk.ask("break outer")
    talk.ask("continue")
    talk.ask("delete")
    into = [talk.data("step-line") for _ in range(5)]
    assert [(step["symbol"], step["line"]) for step in into] == [
        ("outer", line_of("outer calls inner") - 1), ("outer", line_of("outer calls inner")),
        ("inner", line_of("inner calls leaf") - 1), ("inner", line_of("inner calls leaf")),
        ("leaf", line_of("in leaf") - 1),
    ]  # fmt: skip
    back = [talk.data("reverse-step-line") for _ in range(4)]
    assert [(step["symbol"], step["line"]) for step in back] == [(s["symbol"], s["line"]) for s in into[:4]][::-1]
    assert talk.data("next-line 2")["line"] == line_of("after inner")
    assert talk.data("reverse-next-line")["line"] == line_of("outer calls inner")
    assert talk.ask("next-line")[1] == text_of("after inner")


def test_lines_and_addresses(talk: Talk) -> None:
    (row,) = talk.data(f"line {at('calls qsort')}")
    assert row["line"] == line_of("calls qsort")
    (same,) = talk.data(f"line {row['address']}")
    assert (same["line"], same["file"]) == (row["line"], row["file"])
    assert talk.ask("line schedule")[0].endswith("is of no source line that is known")
    assert talk.ask(f"info line {at('calls qsort')}") == talk.ask(f"line {at('calls qsort')}")
    talk.ask(f"run-to {at('calls qsort')}")
    assert talk.data("frame")["line"] == line_of("calls qsort")
    talk.ask(f"reverse-run-to {at('goes deeper')}")
    assert talk.data("frame")["symbol"] == "recurse"
    with pytest.raises(CommandError, match=r"a process of vm0 has the source line 'nothing\.c:3'"):
        talk.ask("break nothing.c:3")
    with pytest.raises(CommandError, match="has the symbol 'no_such'"):
        talk.ask("break no_such")
    talk.ask("break vfs_write")
    talk.ask("continue")
    with pytest.raises(CommandError, match="no source line is known of #0"):
        talk.ask("list")


def test_the_stack_of_another_thread(talk: Talk) -> None:
    talk.ask("run-to default_idle_call")
    found = talk.data("backtrace 1")
    names = [frame["symbol"] for frame in found["frames"]]
    assert names[:2] == ["__schedule", "schedule"]
    assert "sleep_a_little" in names
    with pytest.raises(ChaosControlError, match="there is no thread 4711"):
        talk.ask("backtrace 4711")


def test_symbols_of_a_stripped_program(built: StackGuest, tmp_path: Path) -> None:
    image = strip_program("musl-O0", built.image.parent / "init", tmp_path)
    with start(image) as session:
        session.execute('expect "round" within 5s')
        talk = Talk(session)
        with pytest.raises(CommandError, match="has the symbol 'leaf'"):
            talk.ask("break leaf")
        (said,) = talk.ask(f"symbol-file {built.image.parent / 'init'}")
        assert said.startswith(f"{talk.answers[-1].data['symbols']} symbols from ")  # type: ignore[index]
        talk.ask("break leaf")
        talk.ask("continue")
        assert [frame["symbol"] for frame in talk.data("backtrace")["frames"]][:3] == ["leaf", "inner", "outer"]
