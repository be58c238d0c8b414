"""The debugger's commands, on a guest whose every access is known, and on Linux with names."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import debug_guest as guest
import pytest

from cc_tui.commands import Answer, CommandError, parse
from cc_tui.session import Session
from chaoscontrol import SimulationConfig, SimulationController, VmConfig, image_path
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.images import DEFAULT_KERNEL
from chaoscontrol.symbols.elf import ElfImage

LINES = [
    "break vm0 schedule", "break 0x1000", "break *schedule+0x10", "break phys:0x1000", "watch vm1 jiffies_64 8",
    "rwatch 0x10 4", "awatch 0x10 1", "points", "delete", "delete 3", "run-to do_exit", "reverse-run-to vm0 0x10",
    "when-written vm0 phys:0x10 16", "disassemble vm0 rip 3", "disassemble schedule 10", "symbol schedule",
    'search vm0 "a b"', "search 0x7f45", "ps", "maps vm0 1", "registers vm0 rip", "x vm0 phys:0x1000 16", "x stack 8",
]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_every_command_writes_what_it_reads(line: str) -> None:
    command = parse(line)
    assert command is not None
    assert parse(command.text) == command


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("break", "something is missing"), ("break vm0", "something is missing"), ("break 12q", "not a number"),
        ("watch x y", "not a count"), ("info weather", "nothing about 'weather'"), ("delete x", "not a count"),
        ("run-to a b", "'b' is too much"), ("maps vm0 init", "not a count"),
    ],
)  # fmt: skip
def test_mistakes_are_named(line: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(line)
    assert message in str(caught.value)


def test_gdb_has_other_names_for_them() -> None:
    assert parse("info registers vm0 rip") == parse("registers vm0 rip")
    assert parse("info breakpoints") == parse("points")
    assert parse("br schedule") == parse("break schedule")
    assert parse("disas") == parse("disassemble")
    assert parse("si 3") == parse("insn 3")
    assert parse("rsi") == parse("reverse-insn")


class Talk:
    """A session and what it answers."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._answers: list[Answer] = []
        session.subscribe(lambda event: self._answers.append(event) if isinstance(event, Answer) else None)

    def ask(self, line: str) -> list[str]:
        self._answers.clear()
        self.session.execute(line)
        return [text for answer in self._answers for text in answer.lines]

    @property
    def rip(self) -> int:
        machine = self.session.view.machine
        assert machine is not None
        return machine.registers.rip


@pytest.fixture
def talk() -> Iterator[Talk]:
    config = SimulationConfig(num_vms=1, vm_config=guest.CONFIG)
    cluster = SimulationController(config)
    cluster.vms[0].load_flat(guest.assemble(guest.GUEST))
    with Session(cluster, attended=False) as session:
        yield Talk(session)


def test_continue_stops_at_points_both_ways(talk: Talk) -> None:
    talk.ask("step 10us")
    assert talk.ask(f"break {guest.FUNCTION:#x}") == [f"point 1: break at {guest.FUNCTION:#x} of vm0"]
    (met,) = talk.ask("continue")
    assert talk.rip == guest.FUNCTION
    assert met.startswith(f"point 1: about to execute {guest.FUNCTION:#x}, instruction ")
    first = talk.session.view.moment
    talk.ask("continue")
    second = talk.session.view.moment
    assert first is not None
    assert second is not None
    assert second > first
    talk.ask("reverse-continue")
    assert talk.session.view.moment == first
    # The last of several is the one at which going back stops.
    talk.ask(f"break {guest.RETURN:#x}")
    talk.ask("goto end")
    talk.ask("rc")
    assert talk.rip == guest.RETURN
    assert talk.ask("points") == [f"1: break at {guest.FUNCTION:#x} of vm0", f"2: break at {guest.RETURN:#x} of vm0"]
    talk.ask("delete 2")
    talk.ask("rc")
    assert talk.session.view.moment == first
    with pytest.raises(CommandError, match="there is no point 2; there are 1"):
        talk.ask("delete 2")
    talk.ask("delete")
    assert talk.ask("points") == ["no points"]


def test_watchpoints_say_who_did_what(talk: Talk) -> None:
    talk.ask(f"watch {guest.ARGUMENT:#x}")
    (met,) = talk.ask("continue")
    assert f"the instruction at {guest.SAVE:#x} wrote 8 bytes at {guest.ARGUMENT:#x}: " in met
    talk.ask("delete")
    talk.ask(f"rwatch {guest.VARIABLE:#x}")
    (met,) = talk.ask("continue")
    assert f"read 8 bytes at {guest.VARIABLE:#x}" in met
    with pytest.raises(CommandError, match="5000 bytes cannot be watched"):
        talk.ask("watch 0x10 5000")


def test_running_to_an_address_and_who_wrote(talk: Talk) -> None:
    talk.ask(f"run-to {guest.MOVE:#x}")
    assert talk.rip == guest.MOVE
    here = talk.session.view.moment
    talk.ask(f"run-to {guest.MOVE:#x}")
    talk.ask(f"reverse-run-to {guest.MOVE:#x}")
    assert talk.session.view.moment == here
    (hop,) = talk.ask(f"when-written {guest.ARGUMENT:#x}")[:1]
    assert f"the instruction at {guest.SAVE:#x} wrote " in hop
    assert talk.session.view.moment == here
    assert talk.ask("when-written 0x300000") == ["nothing has written them: they are as they were loaded"]
    assert talk.ask("disassemble rip 2")[0].startswith(f"=> {guest.MOVE:#x} <>")


def test_a_script_says_where_points_led(talk: Talk) -> None:
    talk.ask(f"break {guest.FUNCTION:#x}")
    talk.ask("continue")
    where = str(talk.session.view.moment)
    script = talk.session.script()
    assert "break" not in script
    assert script.rstrip().endswith(f"goto {where}")


def test_names_of_a_linux_kernel() -> None:
    config = SimulationConfig(
        num_vms=1, vm_config=VmConfig(memory_bytes=64 << 20), kernel_path=image_path("vmlinux"),
        initrd_path=image_path("hello"),
    )  # fmt: skip
    with Session(SimulationController(config), attended=False, kernel=image_path(DEFAULT_KERNEL)) as session:
        talk = Talk(session)
        session.execute('expect "guest> " within 5s')
        assert any("init" in line and line.startswith("*") for line in talk.ask("ps"))
        assert any("[stack]" in line for line in talk.ask("maps 1"))
        assert talk.ask("symbol do_exit")[0].endswith(" do_exit")
        assert " <do_exit>  push rbp" in talk.ask("disassemble do_exit 1")[0]
        talk.ask("break schedule")
        assert "<schedule>" in talk.ask("continue")[0]
        session.execute(f"assert register vm0 rip == {talk.rip:#x}")
        with pytest.raises(CommandError, match="has the symbol 'no_such'"):
            talk.ask("break no_such")
        with pytest.raises(ChaosControlError, match="there is no process 4711"):
            talk.ask("maps 4711")
        assert talk.ask('search "guest> "')[0].startswith("phys:0x")


BARE = """
volatile long counter;
static long add(long a, long b) {
    counter++;
    return a + b;
}
static long sum(long n) {
    long below = n ? sum(n - 1) : 0;
    return add(below, n);
}
void begin(void) {
    for (;;) {
        counter = sum(3);
        counter++;
    }
}
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A program without an operating system: its ELF file with lines, and what is loaded at 1 MiB."""
    directory = tmp_path_factory.mktemp("bare")
    (directory / "bare.c").write_text(BARE)
    flags = ["-O0", "-g", "-ffreestanding", "-fno-pic", "-fcf-protection=none", "-nostdlib", "-static"]
    link = ["-Wl,--build-id=none", f"-Wl,-Ttext={guest.CODE:#x}", "-Wl,-Tbss=0x110000", "-e", "begin"]
    subprocess.run(["gcc", *flags, *link, "-o", "bare", "bare.c"], cwd=directory, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "bare", "bare.bin"], cwd=directory, check=True)
    return directory / "bare", (directory / "bare.bin").read_bytes()


def bare_line(text: str) -> int:
    return next(number for number, line in enumerate(BARE.splitlines(), 1) if text in line)


def test_a_program_without_an_operating_system_by_its_source(bare: tuple[Path, bytes]) -> None:
    program, code = bare
    cluster = SimulationController(SimulationConfig(num_vms=1, vm_config=guest.CONFIG))
    cluster.vms[0].load_flat(code, entry=ElfImage(program).symbols.address("begin"))
    with Session(cluster, attended=False, kernel=str(program)) as session:
        talk = Talk(session)

        def where(line: str) -> list[str]:
            """Functions and lines of the frames that an answer shows."""
            return re.findall(
                r" (\w+)(?:\+0x[0-9a-f]+)? \(kernel, [a-z ]+\) \S*bare\.c:(\d+)", "\n".join(talk.ask(line))
            )

        talk.ask(f"break bare.c:{bare_line('return a + b')}")
        talk.ask("continue")
        adds, sums, begins = (str(bare_line(text)) for text in ("return a + b", "return add", "counter = sum"))
        goes_deeper = str(bare_line("sum(n - 1)"))
        stack = [("add", adds), ("sum", sums), *[("sum", goes_deeper)] * 3, ("begin", begins)]
        assert where("backtrace") == stack
        talk.ask("delete")
        assert where("finish") == [("sum", str(int(sums) + 1))], "nothing of the line is left to do"
        assert where("next-line 2")[0][0] == "sum"
        talk.ask("frame 2")
        assert where("finish")[0][0] in ("sum", "begin")
        talk.ask(f"run-to bare.c:{begins}")
        assert where("step-line")[0][0] == "sum"
        assert where("reverse-step-line") == [("begin", begins)]
        assert where("next-line") == [("begin", str(int(begins) + 1))]


def test_a_stack_without_any_file(talk: Talk) -> None:
    """Bare code: what is known of it is followed."""
    talk.ask(f"run-to {guest.SAVE:#x}")
    lines = talk.ask("backtrace")
    assert f"{guest.CALL + 5:#018x}" in lines[1]
    assert "(code)" in lines[1]
    talk.ask("finish")
    assert talk.rip == guest.CALL + 5
