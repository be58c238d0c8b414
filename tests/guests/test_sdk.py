"""The C SDK, cc-sdk and libvoidstar on the host: what programs say, how it travels, and who holds the page."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from guest.programs.build import SDK, sdk_sources  # noqa: E402
from guest.sdk import build as sdk  # noqa: E402

NATIVE = Path(__file__).resolve().parent / "native"
STRICT = ["-std=gnu11", "-O1", "-g", *sdk.WARNINGS, f"-I{SDK}"]
SANITIZED = [*STRICT, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
OUTPUT = "CHAOSCONTROL_SDK_LOCAL_OUTPUT"


def fnv1a(text: str) -> int:
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFF_FFFF
    return value


def compiled(out: Path, sources: list[Path], *flags: str, cc: str = "gcc") -> Path:
    subprocess.run([cc, *flags, "-o", str(out), *map(str, sources)], check=True, timeout=120)
    return out


def said(program: Path, output: Path, *arguments: str) -> tuple[str, list[dict[str, Any]]]:
    """What a program printed, and the lines of its local output."""
    environment = {OUTPUT: str(output), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    lines = output.read_bytes().decode().splitlines() if output.exists() else []
    return done.stdout, [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdk") / "program"
    # Compiled in its directory, so that __FILE__ is a bare name.
    shutil.copy(NATIVE / "sdk_program.c", out.parent / "sdk_program.c")
    command = ["gcc", *SANITIZED, "-o", str(out), "sdk_program.c", *map(str, sdk_sources())]
    subprocess.run(command, check=True, timeout=120, cwd=out.parent)
    return out


def of(lines: list[dict[str, Any]], message: str, command: str | None = None) -> list[dict[str, Any]]:
    return [line for line in lines if line["message"] == message and command in (None, line["command"])]


def test_every_assertion_is_announced_before_main(program: Path, tmp_path: Path) -> None:
    _, lines = said(program, tmp_path / "out", "do nothing")
    assert {line["command"] for line in lines} == {"catalog"}
    assert len(lines) == 15
    (never,) = of(lines, "never here")
    assert never["details"]["kind"] == "unreachable"
    assert never["details"]["must_hit"] is False
    assert never["details"]["function"] == "main"
    line = never["details"]["line"]
    assert "never here" in (NATIVE / "sdk_program.c").read_text().splitlines()[line - 1]
    assert never["id"] == fnv1a(f"sdk_program.c:{line}:never here")
    assert len({line["id"] for line in lines}) == len(lines)


def test_assertions_carry_condition_and_details(program: Path, tmp_path: Path) -> None:
    printed, lines = said(program, tmp_path / "out")
    assert printed == "0 1 1 0\n"
    small = of(lines, "i stays small", "always")
    assert [line["condition"] for line in small] == [True, True, False]
    assert all(line["details"] == {"why": "a loop"} for line in small)
    assert small[0]["id"] == of(lines, "i stays small", "catalog")[0]["id"]
    assert [line["command"] for line in of(lines, "or not at all")] == ["catalog", "always"]
    assert of(lines, "some time", "sometimes")[0] == {
        "command": "sometimes",
        "id": of(lines, "some time")[0]["id"],
        "condition": False,
        "message": "some time",
    }
    assert of(lines, "here", "reachable")[0]["condition"] is True
    assert of(lines, "never here", "unreachable") == []
    by_name = of(lines, "by name", "always")[0]
    assert by_name["id"] == fnv1a("by name")
    assert by_name["details"] == "not json"  # a caller's mistake does not spoil the file
    assert of(lines, "by name too", "catalog")[0]["details"] == {"kind": "sometimes", "must_hit": True}


def test_comparisons_compare_and_guide_only_when_nearer(program: Path, tmp_path: Path) -> None:
    _, lines = said(program, tmp_path / "out")
    hits = of(lines, "left below ten", "always")
    assert [hit["details"] for hit in hits] == [{"left": n, "right": 10, "mine": True} for n in (1, 3, 5)]
    guidance = of(lines, "left below ten", "guidance")
    assert [line["details"] for line in guidance] == [
        {"type": "numeric", "maximize": True, "data": {"left": n, "right": 10}} for n in (1, 3, 5)
    ]
    assert len(of(lines, "moves away", "always")) == 3
    assert len(of(lines, "moves away", "guidance")) == 1
    (far,) = of(lines, "far apart", "always")
    assert far["condition"] is False
    assert far["details"] == {"left": -(1 << 63), "right": (1 << 63) - 1}
    conditions = {
        line["message"]: (line["condition"], line["details"]["left"], line["details"]["right"])
        for line in lines
        if line["command"] in ("always", "sometimes") and "left" in line.get("details", ())
    }
    assert conditions["floats"] == (True, 2.5, 2.5)
    assert conditions["s less"] == (True, 1, 2)
    assert conditions["s less or equal"] == (False, 3, 2)
    assert conditions["s greater"] == (True, 1.5, 0.25)
    assert conditions["s greater or equal"] == (False, 1, 2)
    directions = {line["message"]: line["details"]["maximize"] for line in lines if line["command"] == "guidance"}
    assert directions["far apart"] is False
    assert directions["s less"] is False
    assert directions["s greater"] is True


def test_groups_tell_every_member(program: Path, tmp_path: Path) -> None:
    _, lines = said(program, tmp_path / "out")
    assert [line["condition"] for line in of(lines, "all of them", "sometimes")] == [False, True, True]
    guidance = of(lines, "all of them", "guidance")
    assert [line["details"]["data"] for line in guidance] == [
        {"one": False, 't"wo': False},
        {"one": True, 't"wo': True},
    ]
    (some,) = of(lines, "one of them", "always")
    assert some["condition"] is False
    assert some["details"] == {"a": False, "b": False, "x": 1}


def test_texts_that_do_not_fit_or_are_not_text_stay_readable(program: Path, tmp_path: Path) -> None:
    _, lines = said(program, tmp_path / "out")
    (setup,) = (line for line in lines if line["command"] == "setup_complete")
    assert setup["details"] == {"nodes": 3}
    long, odd = (line for line in lines if line["command"] == "send_event")
    assert long["message"] == "m" * 1024
    assert long["id"] == fnv1a("m" * 1999)
    assert odd["message"] == 'control \x01 quote " bad \ufffd utf é'
    assert odd["details"] == {"too_long": 4999}


def test_without_machine_and_file_nothing_is_said(program: Path, tmp_path: Path) -> None:
    done = subprocess.run([program], env={}, capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("0 1 1 0\n", "")
    bad = subprocess.run([program], env={OUTPUT: "/nowhere/x"}, capture_output=True, text=True, timeout=60, check=True)
    assert bad.stderr == f"chaoscontrol: {OUTPUT}=/nowhere/x: No such file or directory\n"


# --- the wire format ---------------------------------------------------------------------------------------------


def parse_page(text: str) -> tuple[int, int, int, str, str]:
    """Command, flags, id, message and JSON of a page as far as its payload reaches."""
    page = bytes.fromhex(text)
    command, flags, ident, length, status, transport = struct.unpack_from("<BBxxIH6x8xBB", page)
    assert (status, transport) == (0, 2)
    payload = page[0x20 : 0x20 + length]
    (message_len,) = struct.unpack_from("<H", payload)
    message = payload[2 : 2 + message_len].decode()
    (json_len,) = struct.unpack_from("<H", payload, 2 + message_len)
    assert length == message_len + json_len + 4
    return command, flags, ident, message, payload[4 + message_len :].decode()


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_bytes_in_the_page_are_those_of_the_wire_format(tmp_path: Path, cc: str) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    archive = sdk.build_archive(tmp_path, cc, bare=True)
    flags = [*STRICT, "-DCC_SDK_FREESTANDING"]
    out = compiled(tmp_path / "wire", [NATIVE / "wire_program.c", archive], *flags, cc=cc)
    lines = subprocess.run([out], capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    pages = [parse_page(line.split()[1]) for line in lines if line.startswith("510 ")]
    pages[:2] = sorted(pages[:2], key=lambda page: page[3])  # the linker orders the sites as it likes
    catalog_m, catalog_n, always, sometimes, setup, random_get, random_choice, coverage = pages
    assert catalog_m[0] == catalog_n[0] == 0x05
    assert json.loads(catalog_m[4])["kind"] == "always"
    assert always == (0x01, 1, catalog_m[2], "m", '{"a":1}')
    assert sometimes == (0x02, 0, catalog_n[2], "n", "")
    assert setup == (0x10, 1, 0, "", "")
    assert random_get == (0x20, 0, 0, "", "")
    assert random_choice == (0x21, 0, 40, "", "")
    assert "random 41 1" in lines
    assert coverage == (0x30, 0, 9, "p", '{"edges":9}')
    assert sum(line.startswith("511 ") for line in lines) == 1
    edges = dict(line.split()[1:] for line in lines if line.startswith("edge"))
    # prev ^ cur with prev = cur >> 1: 0 ^ 1234, 91a ^ 1234, 91a ^ 8000, then 4000 ^ 0 and 0 ^ 8000 by turns, saturated.
    assert edges == {"1234": "1", "1b2e": "1", "891a": "1", "4000": "255", "8000": "255"}


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_compiler_hooks_record_edges(tmp_path: Path, cc: str) -> None:
    if shutil.which(cc) is None:
        pytest.skip(f"{cc} is not installed")
    source = tmp_path / "loop.c"
    source.write_text("int loop(int n) { int s = 0; for (int i = 0; i < n; i++) if (i & 1) s += i; return s; }\n")
    main = tmp_path / "main.c"
    main.write_text((NATIVE / "wire_program.c").read_text().replace("cc_record_edge(0x1234);", "loop(4);"))
    main.write_text("int loop(int n);\n" + main.read_text())
    kind = "trace-pc" if cc == "gcc" else "trace-pc-guard"
    loop = tmp_path / "loop.o"
    subprocess.run([cc, "-O1", f"-fsanitize-coverage={kind}", "-c", str(source), "-o", str(loop)], check=True)
    archive = sdk.build_archive(tmp_path, "gcc", bare=True)
    flags = [*STRICT, "-DCC_SDK_FREESTANDING", "-no-pie"]
    out = compiled(tmp_path / "hooks", [main, loop, archive], *flags)
    lines = subprocess.run([out], capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    edges = [line for line in lines if line.startswith("edge")]
    assert len(edges) >= 2 + 4


def test_the_page_is_never_torn_by_threads_processes_signals_or_deaths(tmp_path: Path) -> None:
    others = [path for path in sdk_sources() if path.name != "channel.c"]
    out = compiled(tmp_path / "lock", [NATIVE / "lock_program.c", *others], *STRICT, "-O2", "-pthread")
    done = subprocess.run([out], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [
        "inside 1",
        "after a zombie's 1",
        "after a dead one's 1",
        "torn 0 served as called 1 nested 1 free 1",
    ]


# --- cc-sdk ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cc_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sdk.build_command(tmp_path_factory.mktemp("cc-sdk"), "gcc")


@pytest.mark.parametrize(
    ("arguments", "command", "condition", "details"),
    [
        (["always", "m", "true"], "always", True, None),
        (["always-or-unreachable", "m", "1"], "always", False, None),
        (["sometimes", "m", "0"], "sometimes", True, None),
        (["sometimes", "-d", '{"a": [1, "x"]}', "m", "--", "test", "-d", "/"], "sometimes", True, {"a": [1, "x"]}),
        (["always", "m", "--", "false"], "always", False, None),
        (["reachable", "m"], "reachable", True, None),
        (["unreachable", "-d", "{}", "m"], "unreachable", False, {}),
    ],
)
def test_cc_sdk_asserts(
    cc_sdk: Path, tmp_path: Path, arguments: list[str], command: str, condition: bool, details: Any
) -> None:
    _, (catalog, line) = said(cc_sdk, tmp_path / "out", *arguments)
    assert catalog["command"] == "catalog"
    assert catalog["details"]["kind"] == arguments[0].replace("-", "_")
    assert catalog["id"] == line["id"] == fnv1a("m")
    assert (line["command"], line["condition"], line.get("details")) == (command, condition, details)


def test_cc_sdk_lifecycle_and_random(cc_sdk: Path, tmp_path: Path) -> None:
    said(cc_sdk, tmp_path / "out", "setup-complete", '{"nodes": 3}')
    _, (setup, event) = said(cc_sdk, tmp_path / "out", "send-event", "elected")
    assert (setup["command"], setup["details"]) == ("setup_complete", {"nodes": 3})
    assert (event["command"], event["message"]) == ("send_event", "elected")
    assert 0 <= int(said(cc_sdk, tmp_path / "none", "random")[0]) < 1 << 64
    assert {said(cc_sdk, tmp_path / "none", "random", "2")[0] for _ in range(40)} == {"0\n", "1\n"}
    assert said(cc_sdk, tmp_path / "none", "choose", "a b", "a b")[0] == "a b\n"
    assert subprocess.run([cc_sdk, "inside"], timeout=10, check=False).returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["always"],
        ["always", "m"],
        ["always", "m", "maybe"],
        ["always", "m", "256"],
        ["always", "m", "--"],
        ["always", "-d", "[1]", "m", "true"],
        ["always", "-d"],
        ["reachable", "m", "more"],
        ["setup-complete", "{"],
        ["send-event"],
        ["send-event", "", "{}"],
        ["random", "0"],
        ["random", "-1"],
        ["random", "4294967296"],
        ["choose"],
    ],
)
def test_cc_sdk_refuses_in_one_line(cc_sdk: Path, tmp_path: Path, arguments: list[str]) -> None:
    environment = {OUTPUT: str(tmp_path / "out")}
    done = subprocess.run(
        [cc_sdk, *arguments], env=environment, capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("cc-sdk: ")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "out").read_bytes() == b""
