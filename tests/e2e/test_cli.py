"""The command line as a process: exit codes, one line for every mistake, data on stdout only."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import shlex
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENTRY = 0x1000000


def cc_tui(*args: str, timeout: float = 60, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cc_tui", *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **(env or {})},
        check=False,
    )


def kernel_of(code: bytes) -> bytes:
    """An ELF file that the loader takes for a kernel, with this code at its entry point."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, ENTRY, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    vaddr = ENTRY + 0xFFFF_FFFF_8000_0000
    return header + struct.pack("<IIQQQQQQ", 1, 7, 120, vaddr, ENTRY, len(code), len(code), 4096) + code


GUESTS = {
    "halts": "f4",
    # mov eax, 3; mov dx, 0x501; out dx, eax
    "fails": "b803000000 66ba0105 ef",
    "powers-off": "31c0 66ba0105 ef",
    "crashes": "0f0b",
    "resets": "b0fe e664 f4",
    "spins": "ebfe",
    # mov dx, 0x3f8; mov al, 'h'; out dx, al; mov al, 'i'; out dx, al; mov al, 27; out dx, al; hlt
    "speaks": "66baf803 b068 ee b069 ee b01b ee f4",
    # every port, written and read in all sizes: xor edx, edx; 1: out dx,al; out dx,ax; out dx,eax; in al,dx; in ax,dx;
    # in eax,dx; add edi, 0x9e3779b9; mov eax, edi; inc dx; jnz 1b; hlt
    "scribbles": "31d2 ee 66ef ef ec 66ed ed 81c7b979379e 89f8 66ffc2 75ec f4",
}


@pytest.fixture(scope="module")
def guests(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("guests")
    for name, code in GUESTS.items():
        (directory / name).write_bytes(kernel_of(bytes.fromhex(code)))
    return {name: str(directory / name) for name in GUESTS}


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, says: str) -> None:
    assert done.returncode == code, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("cc-tui: error: "), done.stderr
    assert says in done.stderr


# ---- mistakes ----


def test_files_that_are_no_kernel(tmp_path: Path, guests: dict[str, str]) -> None:
    bzimage = bytearray(4096)
    bzimage[0x1FE:0x206] = b"\x55\xaa\0\0HdrS"
    elf = Path(guests["halts"]).read_bytes()
    cases = {
        "bzImage": (bytes(bzimage), "is the bzImage of a kernel before 2.6.26"),
        "truncated": (elf[:-1], "is truncated"),
        "elf32": (elf[:4] + b"\1" + elf[5:], "is a 32-bit ELF file"),
        "arm": (elf[:18] + b"\xb7\0" + elf[20:], "is for another processor"),
        "text": (b"hello\n", "is not an ELF file"),
        "empty": (b"", "is empty"),
    }
    for name, (data, says) in cases.items():
        (tmp_path / name).write_bytes(data)
        assert_one_line(cc_tui("boot", str(tmp_path / name)), 2, f"{tmp_path / name}: {says}")
    assert_one_line(cc_tui("boot", str(tmp_path)), 2, "is a directory")
    assert_one_line(cc_tui("boot", str(tmp_path / "missing")), 2, "cannot be opened: no such file or directory")
    assert_one_line(cc_tui("boot", "no-such-image"), 2, "no-such-image: cannot be opened")


def test_an_initramfs_that_cannot_be(tmp_path: Path, guests: dict[str, str]) -> None:
    large = tmp_path / "large.cpio"
    with large.open("wb") as f:
        f.write(b"070701")
        f.truncate(300 << 20)
    assert_one_line(cc_tui("boot", guests["halts"], str(large)), 2, "does not fit: 256 MiB of memory")
    assert_one_line(cc_tui("boot", guests["halts"], guests["halts"]), 2, "is an ELF file, so not an initramfs")
    assert_one_line(cc_tui("boot", guests["halts"], "/nonexistent"), 2, "/nonexistent: cannot be opened")
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / "packed").write_bytes(compress(b"no archive" * 1000))
        says = "packed: compresses something that is no cpio archive, so not an initramfs"
        assert_one_line(cc_tui("boot", guests["halts"], str(tmp_path / "packed")), 2, says)
        (tmp_path / "packed").write_bytes(compress(b"070701" + b"0" * 1000))
        assert cc_tui("boot", guests["halts"], str(tmp_path / "packed")).returncode == 0
    (tmp_path / "packed").write_bytes(b"\x02\x21\x4c\x18 lz4, which nothing here unpacks")
    assert cc_tui("boot", guests["halts"], str(tmp_path / "packed")).returncode == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--memory", "0"], "a machine cannot have 0 bytes of memory"),
        (["--memory", "1T"], "a machine cannot have 1 TiB of memory"),
        (["--memory", "lots"], "'lots' is not a size; write it as 256M or 1GiB"),
        (["--memory", "2M"], "the kernel needs memory up to 16"),
        (["--seed", "-1"], "'-1' is not a seed"),
        (["--max-vtime", "5"], "'5' is not a time; write it as 5s"),
        (["--max-instructions", "few"], "'few' is not a count"),
        (["--cmdline", "x" * 3000], "has 3000 characters, the kernel reads 2047"),
        (["--until", "x" * 300], "a console pattern of 300 bytes"),
        (["--until", ""], "a console pattern of 0 bytes; give 1 to 255 bytes"),
        (["--quantum", "999ns"], "a tick of 999 ns; give 1us to 1000s"),
        (["--quantum", "1001s"], "a tick of 1001000000000 ns; give 1us to 1000s"),
        (["--vcpu", "quantum"], "'quantum' is not one of 'soft', 'kvm'"),
        (["--nonsense"], "No such option"),
    ],
)
def test_options_that_cannot_be(guests: dict[str, str], options: list[str], says: str) -> None:
    assert_one_line(cc_tui("boot", guests["halts"], *options), 2, says)


def test_other_usage() -> None:
    assert_one_line(cc_tui("boot"), 2, "Missing argument 'KERNEL'; see cc-tui boot --help")
    assert_one_line(cc_tui("frobnicate"), 2, "No such command 'frobnicate'")
    assert_one_line(cc_tui(), 2, "the interface needs a terminal; without one use `cc-tui boot`")
    assert_one_line(cc_tui("demo", "--scenario", "raf"), 2, "raf")
    assert_one_line(cc_tui("demo", "--seed", "-1"), 2, "seed")


def test_debug_shows_where_an_error_came_from() -> None:
    done = cc_tui("boot", "/nonexistent", "--debug")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


# ---- guests that end in their own way ----


@pytest.mark.parametrize(
    ("guest", "options", "code", "says"),
    [
        ("halts", [], 0, "the guest halted for good after 1 instructions"),
        ("powers-off", [], 0, "the guest powered off"),
        ("fails", [], 1, "the guest powered off"),
        ("crashes", [], 1, "the guest crashed with a triple fault"),
        ("resets", [], 0, "the guest asked for a reset"),
        ("spins", ["--max-vtime", "1ms"], 0, "the virtual time limit was reached after 1,000,000 instructions"),
        ("spins", ["--max-instructions", "12345"], 0, "the instruction limit was reached after 12,345 instructions"),
        ("spins", ["--until", "x", "--max-vtime", "1ms"], 4, "the virtual time limit was reached"),
        ("spins", ["--until", "x", "--max-instructions", "10k"], 4, "the instruction limit was reached"),
        ("halts", ["--until", "x"], 1, "the guest halted for good"),
        ("speaks", ["--until", "hi"], 0, "the awaited text was printed"),
        ("scribbles", [], 0, "the guest"),
    ],
)
def test_how_a_boot_ends(guests: dict[str, str], guest: str, options: list[str], code: int, says: str) -> None:
    done = cc_tui("boot", guests[guest], *options)
    assert done.returncode == code, done
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "digest " in last


def test_console_output_is_raw_in_a_pipe(guests: dict[str, str]) -> None:
    assert cc_tui("boot", guests["speaks"]).stdout == "hi\x1b"


def test_json_is_all_that_stdout_gets(guests: dict[str, str]) -> None:
    done = cc_tui("boot", guests["speaks"], "--json", "--seed", "0x2a", "--memory", "64M")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["stop"], report["exit_code"], report["instructions"], report["virtual_ns"]) == ("halted", 0, 8, 8)
    assert (report["console_bytes"], report["stats"]["io_writes"], report["stats"]["exits"]) == (3, 3, 4)
    assert (report["seed"], report["memory_bytes"], report["vcpu"]) == (42, 64 << 20, "soft")
    assert len(report["digest"]) == 32
    assert report["wall_s"] > 0 and report["cpu_s"] > 0
    again = json.loads(cc_tui("boot", guests["speaks"], "--json", "--seed", "42", "--memory", "64M").stdout)
    assert again["digest"] == report["digest"]
    other = json.loads(cc_tui("boot", guests["speaks"], "--json", "--seed", "43", "--memory", "64M").stdout)
    assert other["digest"] != report["digest"]


def test_ctrl_c_ends_a_boot_with_its_own_code(guests: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "cc_tui", "boot", guests["spins"]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr == "cc-tui: interrupted\n"


# ---- the other commands ----


def test_locate_follows_xdg() -> None:
    done = cc_tui("locate", "--json", env={"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "relative", "HOME": "/h"})
    places = json.loads(done.stdout)
    assert (places["config"], places["state"]) == ("/c/cc-tui", "/h/.local/state/cc-tui")
    assert Path(places["images"]) == ROOT / "guest" / "images"


def test_doctor_says_what_works() -> None:
    done = cc_tui("doctor")
    assert done.returncode == 0
    assert "ok  vcpu soft  runs a flat guest" in done.stdout
    findings = {finding["name"]: finding for finding in json.loads(cc_tui("doctor", "--json").stdout)}
    assert findings["vcpu soft"]["works"]
    assert findings["vcpu kvm"]["detail"]


def test_help_has_examples_and_the_exit_codes() -> None:
    done = cc_tui("--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout and "Exit codes:" in done.stdout
    assert cc_tui("--version").stdout.startswith("cc-tui 0.")


@pytest.mark.parametrize(
    ("closed", "said"), [("<&-", b"closed"), (">&-", b""), ("2>&-", b"closed"), (">&- 2>&- <&-", b"")]
)
def test_streams_that_are_closed_from_the_start_are_empty(closed: str, said: bytes) -> None:
    recording = ROOT / "recordings" / "raft-election.ccrec"
    for command in ("info", "repl"):
        line = f"exec {shlex.quote(sys.executable)} -m cc_tui {command} {shlex.quote(str(recording))} {closed}"
        done = subprocess.run(
            ["sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert (said in done.stdout) if command == "info" else (done.stdout == b"")


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"\\xe9\\udcff.ccrec"), ("utf-8:strict", b"\xc3\xa9\\udcff.ccrec")]
)
def test_what_a_locale_has_no_character_for_is_escaped(tmp_path: Path, encoding: str, shown: bytes) -> None:
    path = tmp_path / os.fsdecode(b"\xc3\xa9\xff.ccrec")
    path.write_bytes((ROOT / "recordings" / "raft-election.ccrec").read_bytes())
    command = [sys.executable, "-X", "utf8=1", "-m", "cc_tui", "info", path]
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout


ELECTION = str(ROOT / "recordings" / "raft-election.ccrec")


@pytest.mark.parametrize("command", ["events", "export"])
def test_a_span_that_ends_before_it_begins_is_a_mistake(command: str) -> None:
    done = cc_tui(command, ELECTION, "--from", "2s", "--to", "1.5s")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cc-tui: error: --from 2.000000000 s is after --to 1.500000000 s; exchange them\n"


def test_a_window_of_no_time_is_a_mistake() -> None:
    done = cc_tui("triage", ELECTION, "--window", "0s")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cc-tui: error: --window of 0 holds no messages; give a time, as 2s\n"


def test_a_moment_that_is_none_of_the_recording_is_not_blamed_on_the_replay(tmp_path: Path) -> None:
    (tmp_path / "mark.cc").write_text("goto 0.5s\nmark x\n")
    said = cc_tui("--script", str(tmp_path / "mark.cc"), ELECTION).stderr.strip()
    moment = said.removeprefix("mark x: ")
    assert cc_tui("replay", ELECTION, "--checkpoint", moment).returncode == 0
    wrong = moment[:-1] + ("1" if moment[-1] == "0" else "0")
    done = cc_tui("replay", ELECTION, "--checkpoint", wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"cc-tui: error: no moment of this recording: {wrong}; it has {moment}\n"


def test_a_path_of_several_lines_is_shown_in_one(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[1m.ccrec"
    path.write_bytes(Path(ELECTION).read_bytes())
    for command in ("info", "replay"):
        done = cc_tui(command, str(path))
        assert done.returncode == 0
        assert f"{tmp_path}/a\\nb\\x1b[1m.ccrec: " in done.stdout.splitlines()[0]


@pytest.mark.parametrize(("ends", "code"), [("", 3), ("raise diagnostics.ExitError(1)", 3)])
def test_a_full_disk_behind_stdout_is_named(ends: str, code: int) -> None:
    program = f"from cc_tui import diagnostics\ndef main():\n    print('x')\n    {ends or 'pass'}\n"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", f"{program}raise SystemExit(diagnostics.run(main))"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=env, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "cc-tui: error: standard output: No space left on device\n")
