"""Debian's gdb on a recorded cluster: steps and continues both ways, watches, edits, monitor commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT / "recordings" / "raft-double-vote.ccrec"
Gdb = Callable[..., str]


@pytest.fixture
def gdb(tmp_path: Path) -> Iterator[Gdb]:
    """Runs gdb with commands on vm1 of the recording, at its end; what it printed. One gdb per test."""
    assert shutil.which("gdb"), "gdb is needed: .ci/run installs it"
    servers: list[subprocess.Popen[str]] = []

    def run(*commands: str, at: str | None = None) -> str:
        options = ["--vm", "1", "--port", "0", "--once", *(["--at", at] if at else [])]
        server = subprocess.Popen(
            [sys.executable, "-m", "cc_tui", "gdb", str(RECORDING), *options],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        )  # fmt: skip
        servers.append(server)
        assert server.stderr is not None
        said = server.stderr.readline()
        assert said.startswith("vm1 waits: gdb "), said + server.stderr.read()
        words = shlex.split(said.removeprefix("vm1 waits: "))
        script = [word for command in ("set pagination off", "set confirm off") for word in ("-iex", command)]
        done = subprocess.run(
            [words[0], "-q", "-nx", "-batch", *script, *words[1:], *(w for c in commands for w in ("-ex", c))],
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert server.wait(20) == 0, server.stderr.read()
        return done.stdout + done.stderr

    yield run
    for server in servers:
        server.kill()
        server.wait()
        assert server.stderr is not None
        server.stderr.close()


def rips(printed: str) -> list[int]:
    return [int(found, 16) for found in re.findall(r"^rip +(0x[0-9a-f]+)", printed, re.MULTILINE)]


def moments(printed: str) -> list[str]:
    return re.findall(r"^at (\S+)", printed, re.MULTILINE)


def test_steps_back_and_forward_are_the_same_instructions(gdb: Gdb) -> None:
    show = "info registers rip"
    # The recording ends while the CPU waits; the first step back leaves that span of time.
    printed = gdb(
        "reverse-stepi", "monitor where", *[show, "reverse-stepi"] * 12, *[show, "stepi"] * 12, show, "monitor where"
    )
    there = rips(printed)
    assert len(there) == 25
    assert there[:13] == there[:11:-1], "the way back is the way there"
    assert len(set(there)) > 4
    first, last = moments(printed)
    assert first == last, "the digests as well"
    assert "default_idle" in printed, "named by the symbols of the included kernel"


def test_a_watchpoint_finds_who_wrote_before(gdb: Gdb) -> None:
    printed = gdb(
        "monitor where", "watch *(unsigned long *)&jiffies", "reverse-continue", "backtrace 3", "reverse-continue",
        "continue", "continue",
    )  # fmt: skip
    values = [int(value) for value in re.findall(r"^(?:Old|New) value = (\d+)", printed, re.MULTILINE)]
    assert len(values) == 8
    newest, before, before2, oldest = values[0], values[1], values[2], values[3]
    assert before == before2 and newest > before > oldest
    assert values[4:] == [oldest, before, before, newest], "forward again it is written as it was"
    assert re.search(r"#0 .*tick_do_update_jiffies64", printed)
    assert re.search(r"#1 .*(tick_irq_enter|tick_sched)", printed)


def test_reverse_continue_stops_at_the_last_of_several_breakpoints(gdb: Gdb) -> None:
    names = ("tick_do_update_jiffies64", "irq_enter_rcu", "scheduler_tick", "common_interrupt")
    alone: dict[str, float] = {}
    for name in names:
        found = moments(gdb(f"hbreak *&{name}", "reverse-continue", "monitor where"))
        alone[name] = float(re.match(r"main@([0-9.]+)", found[0])[1])  # type: ignore[index]
    printed = gdb(*(f"break *&{name}" for name in names), "reverse-continue", "monitor where", "bt 1")
    stopped = float(re.match(r"main@([0-9.]+)", moments(printed)[0])[1])  # type: ignore[index]
    assert stopped == max(alone.values())
    last = max(alone, key=lambda name: alone[name])
    assert re.search(rf"#0 .*\b{last} ?\(", printed)


def test_both_ends_of_history(gdb: Gdb) -> None:
    printed = gdb("reverse-continue", "info registers rip", "reverse-stepi", "monitor where", at="500us")
    assert printed.count("No more reverse-execution history") == 2
    assert rips(printed) == [0x1000000]
    assert moments(printed)[0].startswith("main@0.000000000:")


def test_edits_make_a_branch_and_leave_the_history(gdb: Gdb) -> None:
    printed = gdb(
        "monitor where", "set $rax = 0x1234", "print/x $rax", "set {int}$rsp = 77", "print {int}$rsp", "monitor where",
        "monitor goto main@1.5s", "maintenance flush register-cache", "monitor where", "monitor bogus", "monitor quit",
        at="1.5s",
    )  # fmt: skip
    assert "$1 = 0x1234" in printed
    assert "$2 = 77" in printed
    before, edited, *after = moments(printed)
    assert edited.startswith("b1@1.5")
    assert set(after) == {before}, "main is as it was"
    assert "no command 'bogus'" in printed
    assert "is for cc-tui's own interface" in printed


def test_branches_are_named_noted_and_deleted_by_monitor_commands(gdb: Gdb) -> None:
    printed = gdb(
        "set $rax = 1", "monitor annotate \"rax was one\"", "monitor rename-branch b1 edited", "monitor where",
        "monitor delete-branch edited", "monitor goto main@1.5s", "monitor mark before",
        "monitor annotate before the write comes next", "monitor marks", "monitor delete-branch edited",
        "monitor goto b1", "monitor branches", at="1.5s",
    )  # fmt: skip
    assert "* edited, to 1.5" in printed
    assert re.search(r"^\* edited, to 1\.5\d+ s: rax was one$", printed, re.MULTILINE)
    assert "branch 'edited' is the one that the cursor is on; go to another branch first" in printed
    assert re.search(r"^before main@1\.5\S+: the write comes next$", printed, re.MULTILINE)
    assert "deleted branch edited; " in printed
    assert "branch 'b1' was deleted; branches: main" in printed
    assert re.findall(r"^[* ] (\w+)(?:,| from| to)", printed.split("was deleted")[1], re.MULTILINE) == ["main"]


def test_the_state_of_the_cpu(gdb: Gdb) -> None:
    printed = gdb(
        "info registers cr0 cr3 cr4 efer gs_base eflags mxcsr st0 xmm0", "x/2i $rip", "info threads",
        "find &linux_banner, +64, 'L', 'i', 'n', 'u', 'x'", "print (char *)&linux_banner",
    )  # fmt: skip
    assert re.search(r"^cr0 +0x80050033", printed, re.MULTILINE)
    assert re.search(r"^efer +0x[0-9a-f]*d01 +\[ SCE LME LMA NXE \]", printed, re.MULTILINE)
    assert "[ PF ZF IF ]" in printed or re.search(r"^eflags +0x[0-9a-f]+ +\[.*IF", printed, re.MULTILINE)
    assert "1 pattern found" in printed
    assert "Linux version 6.1" in printed


def refused(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "cc_tui", "gdb", *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere.ccrec"], "nowhere.ccrec"),
        (["nowhere"], "nowhere"),
        ([str(RECORDING), "--vm", "9"], "there is no machine 9; 0 to 2"),
        ([str(RECORDING), "--at", "soon"], "soon"),
        ([str(RECORDING), "--port", "99999"], "port 99999 cannot be listened on"),
    ],
)
def test_bad_input_is_one_line(words: list[str], says: str) -> None:
    done = refused(*words)
    assert done.returncode in (2, 3)
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
