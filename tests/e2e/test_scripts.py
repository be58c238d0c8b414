"""Scripts and the REPL without a terminal, as processes: what they print, where they stop, how they end."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys.crashes import with_small_files

from chaoscontrol.recording import load_recording

ROOT = Path(__file__).parents[2]
RECORDINGS = ROOT / "recordings"


def cc_tui(*words, stdin="", directory=None, **environment):
    env = {**os.environ, "NO_COLOR": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "cc_tui", *map(str, words)],
        input=stdin, capture_output=True, text=True, timeout=120, env=env, cwd=directory or ROOT, check=False,
    )  # fmt: skip


TYPED = r"""
# boots, answers, and is taken back
expect "guest> " vm0 within 5s
mark ready
type 0 \
  "echo \x48i\r"
expect "guest> " within 1s
assert console vm0 matches "^guest> echo Hi"
assert branch == main and
"""


def test_a_script_stops_at_the_first_error_with_its_line_and_text():
    done = cc_tui("--script", "-", stdin=TYPED)
    assert done.returncode == 2
    assert "standard input:9: `assert branch == main and`: assert: 'and' is too much" in done.stderr
    assert done.stderr.count("error") == 1


LONG = """
expect "guest> " vm0 within 5s
step 30s
type 0 "echo hi\\r"
step 30s
where
"""


def test_a_full_disk_ends_the_recording_and_not_the_script(tmp_path):
    path = tmp_path / "full.ccrec"
    script = [sys.executable, "-m", "cc_tui", "--script", "-", "--record", str(path)]
    done = subprocess.run(
        with_small_files(12_000, script),
        input=LONG, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 3, "what was asked for is not whole"
    assert done.stdout.startswith("main@60.08"), "the script was carried out to its end"
    stopped = f"{path}: recording has stopped: File too large; what is in the file so far is whole\n"
    assert done.stderr == stopped
    info = cc_tui("info", path)
    assert "not closed: what wrote it was killed, or could write no more" in info.stdout
    with load_recording(path) as recording:
        assert recording.damage is None and 0 < recording.branches[0].end.vns < 60 * 10**9
    assert cc_tui("replay", path).returncode == 0


def test_a_recording_that_cannot_be_begun_is_said_at_once(tmp_path):
    done = cc_tui("--script", "-", "--record", "/dev/full", stdin="tick")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "cc-tui: error: /dev/full: cannot be written: No space left on device\n"


def test_a_guest_without_a_shell_is_said_in_one_line():
    lines = 'goto 1s\nagent 0 run "ls /"\nagent 0 run /raft --what\nstep 100ms\nevents agent 9\nprobe vm0 "ls /"\n'
    done = cc_tui("repl", RECORDINGS / "raft-election.ccrec", stdin=lines)
    assert done.returncode == 1
    asked, program, error = done.stderr.splitlines()
    assert asked == "asked the agent of vm0 to run /bin/sh, request 0x80000000; its answer is an event"
    assert program == "asked the agent of vm0 to run /raft, request 0x80000001; its answer is an event"
    *_, failed, ran = done.stdout.splitlines()
    assert failed.endswith("vm0   agent    request 0x80000000 failed: ENOENT No such file or directory")
    assert "raft" in ran and "0x80000001 failed" not in ran
    assert error == (
        'cc-tui: error: standard input:6: `probe vm0 "ls /"`: machine 0: the agent cannot run /bin/sh: ENOENT No such '
        "file or directory; a guest without a shell takes a program and its arguments, as words of their own"
    )


def test_a_recording_has_the_names_of_its_kernel():
    lines = "goto 1s\nsymbol schedule\nps vm0\nbreak vm1 schedule\nreverse-continue\n"
    done = cc_tui("repl", RECORDINGS / "raft-election.ccrec", stdin=lines)
    assert (done.returncode, done.stderr) == (0, "")
    named, *processes, point, met, focus = done.stdout.splitlines()
    assert focus == "vm1 is in focus now"
    assert named.endswith(" schedule")
    assert [line.split()[-1] for line in processes[:3]] == ["swapper", "init", "kthreadd"]
    assert "raft" in [line.split()[-1] for line in processes]
    assert point.startswith("point 1: break at ")
    assert met.startswith("point 1: about to execute ") and "<schedule>" in met


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("assert branch == main", 0), ("assert time == 1s", 1), ('expect "never" within 1ms', 1), ("bogus", 2),
        ("goto nowhere", 2), ("type 7 x", 2), ("run", 2), ("goto main@0.500000000:1.00000000", 3), ("quit", 0),
        ("help", 0),
    ],
)  # fmt: skip
def test_exit_codes(tmp_path, line, code):
    script = tmp_path / "a script.cc"
    script.write_text(f"# one\n\ntick\n{line}\n")
    done = cc_tui("--script", script)
    assert done.returncode == code, done
    assert (f"{script}:4: `{line}`: " in done.stderr) == (code != 0)
    assert "Traceback" not in done.stderr


def test_what_is_no_script(tmp_path):
    done = cc_tui("--script", tmp_path / "none.cc")
    assert done.returncode == 2
    assert "No such file" in done.stderr
    (tmp_path / "bytes.cc").write_bytes(b"tick\n\xff\xfe\n")
    done = cc_tui("--script", tmp_path / "bytes.cc")
    assert done.returncode == 2
    assert "not UTF-8" in done.stderr
    (tmp_path / "self.cc").write_text("source self.cc\n")
    done = cc_tui("--script", "self.cc", directory=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 2
    assert "a script cannot run another script" in done.stderr
    assert cc_tui("--script", "x", "--batch", "--scenario", "raft").returncode == 2
    assert cc_tui("--script", "x", "doctor").returncode == 2


def test_json_is_one_value_per_command():
    lines = "tick 3\nwhere\nbranches\nconsole vm0\nassert tick == 4\n"
    done = cc_tui("--script", "-", "--json", stdin=lines)
    assert done.returncode == 1
    values = [json.loads(line) for line in done.stdout.splitlines()]
    assert [value["line"] for value in values] == [1, 2, 3, 4, 5]
    assert [value["command"] for value in values] == lines.splitlines()
    assert values[0]["at"]["vns"] == 300_000
    assert values[1]["answer"]["moment"] == values[1]["at"]["moment"]
    assert values[2]["answer"] == [
        {
            "name": "main", "parent": None, "start_ns": 0, "end_ns": 300_000, "inputs": 0, "here": True, "note": "",
            "former_names": [],
        }
    ]  # fmt: skip
    assert values[4]["error"]["kind"] == "CheckError"
    one = cc_tui("--script", "-", stdin="tick\nwhere --json\nwhere\n")
    assert json.loads(one.stdout.splitlines()[0])["command"] == "where"
    assert one.stdout.splitlines()[1].startswith("main@0.000100000:")


def test_piped_standard_input_is_carried_out_line_by_line():
    """No prompt, no colour; an answer comes before the next line is written."""
    program = subprocess.Popen(
        [sys.executable, "-m", "cc_tui", "repl"], cwd=ROOT, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdin.write("tick\nwhere\n")
    assert program.stdout.readline().startswith("main@0.000100000:")
    program.stdin.write("step 1ms\nwhere\nnonsense\nwhere\n")
    assert program.stdout.readline().startswith("main@0.001100000:")
    rest, errors = program.communicate(timeout=60)
    assert rest == ""
    assert errors == "cc-tui: error: standard input:5: `nonsense`: no command 'nonsense'; `help` lists them\n"
    assert program.returncode == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("step 1000s", "step 1000s: cancelled; the cursor is where it was, at main@"),
        ("expect never within 1000s", "expect never within 1000s: cancelled on its way, at main@"),
    ],
)
def test_an_interrupt_says_what_was_left_where(line, says):
    program = subprocess.Popen(
        [sys.executable, "-m", "cc_tui", "repl"], cwd=ROOT, text=True, bufsize=1,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write('expect "guest> " within 5s\ntype 0 "spin 4000\\r"\nwhere\n' + f"{line}\n")
    program.stdout.readline()
    time.sleep(0.7)
    program.send_signal(signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == 130
    assert says in errors


def test_guests_cannot_command_the_terminal(tmp_path):
    script = r"""
        expect "guest> " within 5s
        type 0 "echo \e]0;title\x07\e[31mred\x9b2J\r"
        step 100ms
        console vm0
    """
    done = cc_tui("--script", "-", stdin=script)
    assert done.returncode == 0, done
    assert "red" in done.stdout
    assert not set(done.stdout) & {chr(code) for code in (*range(0x09), 0x0B, *range(0x0D, 0x20), *range(0x7F, 0xA0))}


# ---- recordings -----------------------------------------------------------------------------------------------------


def test_a_recording_is_known_walked_and_branched_from():
    script = """
        assert future known
        assert time < 1ns
        goto main@1.6
        branch what-if
        step 50ms
        assert branch == what-if
        assert future open
        goto main
        where
        assert property "raft: at most one leader per term" failed
    """
    path = RECORDINGS / "raft-double-vote.ccrec"
    done = cc_tui("--script", "-", path, stdin=script)
    assert done.returncode == 0, done
    with load_recording(path) as recording:
        last = recording.checkpoints(recording.branches[0])[-1]
    digests = [part.whole[:8] for part in last.parts]
    moment = done.stdout.split()[0]
    assert [part.split(".")[-1] for part in moment.split(":")[1].split(",")] == digests


def test_a_recording_in_the_repl_and_what_is_none(tmp_path):
    path = RECORDINGS / "raft-election.ccrec"
    done = cc_tui("repl", path, stdin="goto end\nbranches\n")
    assert done.returncode == 0, done
    assert done.stdout.startswith("* main to ")
    assert cc_tui("repl", path, "--vms", "2", stdin="").returncode == 2
    (tmp_path / "no.ccrec").write_bytes(b"no recording")
    done = cc_tui("--script", "-", tmp_path / "no.ccrec", stdin="tick\n")
    assert done.returncode == 3
    assert "no.ccrec" in done.stderr
    done = cc_tui(path)
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr


# ---- saved sessions -------------------------------------------------------------------------------------------------

SESSIONS = {
    "typing and branches": r"""
        expect "guest> " vm0 within 5s
        mark ready
        type 0 "uptime\r"
        step 20ms
        goto ready
        type 0 "spin 1\r"
        step 30ms
        reverse-insn 5
        branch retry
        type 0 "echo x\r"
        step 10ms
        goto b1
        goto retry
    """,
    "branches named, noted and deleted": r"""
        expect "guest> " vm0 within 5s
        mark ready
        annotate ready "it asks for a # command"
        type 0 "uptime\r"
        step 20ms
        goto ready
        type 0 "spin 1\r"
        step 30ms
        branch deeper
        rename-branch b1 spun
        goto main
        annotate "the \"first\" one"
        branch other
        delete-branch spun all
        rename-branch main trunk
        rename-branch other b7
        branch
        step 5ms
    """,
    "faults and rewinds": r"""
        expect "leader of term" within 5s
        mark led
        inject network_partition side_a=0 side_b=1,2 for=200ms
        step 300ms
        goto led
        reseed 7
        inject packet_loss target=1 rate_ppm=500000 for=50ms
        step 100ms
        heal
        step 100ms
        reverse-tick 30
        inject process_kill target=2 for=20ms
        write 0 phys:0x8000 90cc
        step 150ms
    """,
}


@pytest.mark.parametrize("name", SESSIONS)
def test_a_saved_session_ends_at_the_same_digest(tmp_path, name):
    options = ["--scenario", "raft"] if "faults" in name else []
    saved, again = tmp_path / "saved.cc", tmp_path / "again.cc"
    looks = "where\nbranches\nmarks"
    first = cc_tui("repl", *options, stdin=f"{SESSIONS[name]}\n{looks}\nsave-script {saved}\n")
    assert first.returncode in (0, 1), first
    second = cc_tui("--script", "-", *options, stdin=f"{saved.read_text()}\n{looks}\nsave-script {again}\n")
    assert second.returncode == first.returncode, second
    assert second.stdout == first.stdout
    assert again.read_text().startswith(saved.read_text())
