"""The Python SDK says what the C SDK says; libvoidstar says it for programs built with the Antithesis SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "guest" / "sdk" / "python"
for place in (ROOT, SDK):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))

from chaoscontrol_sdk import _channel, _wire  # noqa: E402

from guest.sdk import build as sdk  # noqa: E402

OUTPUT = "CHAOSCONTROL_SDK_LOCAL_OUTPUT"


def said(script: str, tmp_path: Path, **environment: str) -> tuple[str, list[dict[str, Any]]]:
    """What a script printed, and the lines of its local output."""
    output = tmp_path / "out"
    file = tmp_path / "script.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, str(file)],
        env={"PYTHONPATH": str(SDK), "PATH": os.environ["PATH"], OUTPUT: str(output), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = output.read_text().splitlines() if output.exists() else []
    return done.stdout, [json.loads(line) for line in lines]


SCRIPT = """
import chaoscontrol_sdk as cc
def place():
    for i in range(3):
        cc.always(i < 2, "small", {"i": i})
place()
cc.always_or_unreachable(1, "fine")
cc.sometimes([], "empty is false")
cc.reachable("here")
cc.unreachable("not here", {"nan": float("nan")})
for left in (1, 3, 2):
    cc.always_less_than(left, 10, "below", {"mine": True})
    cc.sometimes_greater_than(left, 10, "above")
for n in range(3):
    cc.sometimes_all({"a": n > 0, "b": n > 1}, "all")
cc.always_some({"a": 0, "b": 0}, "some")
cc.announce("sometimes", "later")
cc.setup_complete()
cc.send_event("é" * 600, {"long": "x" * 5000})
print(cc.inside_machine(), cc.coverage_init("p", 3), {cc.choice("ab") for _ in range(50)} == {"a", "b"})
print(0 <= cc.random() < 2**64)
cc.record_edge(1)
"""


def test_the_python_sdk_says_what_the_c_sdk_says(tmp_path: Path) -> None:
    printed, lines = said(SCRIPT, tmp_path)
    assert printed == "False False True\nTrue\n"

    def of(message: str, command: str) -> list[dict[str, Any]]:
        return [line for line in lines if line["message"] == message and line["command"] == command]

    assert [line["condition"] for line in of("small", "always")] == [True, True, False]
    assert of("small", "always")[2]["details"] == {"i": 2}
    (catalog,) = of("small", "catalog")
    assert catalog["id"] == of("small", "always")[0]["id"] == _wire.fnv1a(b"small")
    assert catalog["details"]["function"] == "place"
    assert catalog["details"]["line"] == 5
    assert Path(catalog["details"]["file"]).name == "script.py"
    (below,) = of("below", "catalog")
    assert (Path(below["details"]["file"]).name, below["details"]["line"]) == ("script.py", 12)
    assert [line["details"] for line in of("below", "always")] == [
        {"left": n, "right": 10, "mine": True} for n in (1, 3, 2)
    ]
    assert [line["details"]["data"]["left"] for line in of("below", "guidance")] == [1, 3]
    assert [line["condition"] for line in of("above", "sometimes")] == [False] * 3
    assert [line["condition"] for line in of("all", "sometimes")] == [False, False, True]
    assert len(of("all", "guidance")) == 3
    assert of("some", "always")[0]["condition"] is False
    assert of("some", "guidance")[0]["details"] == {
        "type": "boolean",
        "maximize": False,
        "data": {"a": False, "b": False},
    }
    assert of("empty is false", "sometimes")[0]["condition"] is False
    assert of("fine", "catalog")[0]["details"]["kind"] == "always_or_unreachable"
    assert of("not here", "unreachable")[0]["details"] == {"not_json": "{'nan': nan}"}
    assert of("later", "catalog")[0]["details"] == {"kind": "sometimes", "must_hit": True}
    assert [line["id"] for line in lines if line["command"] == "setup_complete"] == [0]
    (event,) = (line for line in lines if line["command"] == "send_event")
    assert event["message"] == "é" * 512
    assert event["details"] == {"too_long": 5011}


def test_unknown_kinds_and_empty_choices_are_refused(tmp_path: Path) -> None:
    script = """
import chaoscontrol_sdk as cc
for call in (lambda: cc.announce("never", "m"), lambda: cc.choice([])):
    try:
        call()
    except (ValueError, IndexError) as error:
        print(error)
"""
    printed, lines = said(script, tmp_path)
    assert "kind 'never' is none of always, " in printed
    assert "nothing to choose from" in printed
    assert lines == []


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    script = "import sys; sys.stderr = sys.stdout; import chaoscontrol_sdk as cc; cc.always(True, 'm')"
    printed, _ = said(script, tmp_path, **{OUTPUT: "/nowhere/x"})
    assert printed == f"chaoscontrol_sdk: {OUTPUT}=/nowhere/x: No such file or directory\n"


def test_bytes_in_the_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page and the port replaced by files: what is written, and that the lock is taken and given back."""
    (tmp_path / "mem").write_bytes(bytes(_wire.PAGE_BYTES))
    (tmp_path / "port").write_bytes(b"")
    real_open, real_map, real_write = os.open, _channel.mmap.mmap, os.pwrite
    pages: list[bytes] = []

    def fake_open(path: str, flags: int) -> int:
        return real_open(str(path).replace("/dev", str(tmp_path)), flags)

    def fake_map(fd: int, size: int, *args: int, offset: int = 0, **kwargs: int) -> object:
        assert fd == -1 or offset == 0xFE000
        return real_map(fd, size, *args, **kwargs)

    def fake_write(fd: int, data: bytes, at: int) -> int:
        assert at == 0x510
        page = (tmp_path / "mem").read_bytes()
        pages.append(page)
        machine._page[0x10:0x18] = (42).to_bytes(8, "little")
        if len(pages) == 1:  # a signal handler of this very thread
            assert machine.call(_wire.Call(_wire.RANDOM_GET, ident=0)) == 42
        return len(data)

    monkeypatch.setattr(os, "open", fake_open)
    monkeypatch.setattr(_channel.mmap, "mmap", fake_map)
    monkeypatch.setattr(os, "pwrite", fake_write)
    machine = _channel.Machine()
    assert machine.call(_wire.Call(_wire.ALWAYS, "msg", {"a": 1}, True)) == 42
    always, nested = pages
    assert always[:10].hex() == "01010000" + _wire.fnv1a(b"msg").to_bytes(4, "little").hex() + "0e00"
    assert always[0x19] == 2
    assert always[0x20 : 0x20 + 14] == b"\x03\0msg\x07\0" + b'{"a":1}'
    assert nested[:8].hex() == "2000000000000000"
    assert int.from_bytes(always[0x1C:0x20], "little") == int.from_bytes(nested[0x1C:0x20], "little") != 0
    after = (tmp_path / "mem").read_bytes()
    assert after[0x1C:0x20] == bytes(4)
    assert after[0x20 : 0x20 + 14] == always[0x20 : 0x20 + 14]
    # Somebody who is dead holds it.
    gone = subprocess.Popen(["true"])
    gone.wait()
    machine._owner.value = gone.pid
    assert machine.call(_wire.Call(_wire.SEND_EVENT, "after")) == 42
    assert machine._owner.value == 0
    monkeypatch.setattr(os, "pwrite", real_write)


# --- libvoidstar -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the path that the Antithesis SDK asks for is our library.

    The dynamic linker takes a library that is loaded already when its soname is the name asked for, so nothing has to
    be installed in /usr/lib.
    """
    library = sdk.build_voidstar(tmp_path_factory.mktemp("voidstar"), "gcc", soname="/usr/lib/libvoidstar.so")
    return {"LD_PRELOAD": str(library)}


ANTITHESIS = """
from antithesis.assertions import *
from antithesis.lifecycle import setup_complete, send_event
from antithesis.random import get_random, random_choice
setup_complete({"nodes": 3})
send_event("elected", {"leader": [1, {"é": "\\u20ac\\n\\""}]})
for i in range(3):
    always(i < 2, "small \\u20ac \\U0001F600 \\"q\\"", {"i": i})
always_or_unreachable(True, "or not", {})
sometimes(False, "some", None)
reachable("here", {})
unreachable("not here", {"why": "}{][\\\\"})
for left in (1, 3, 2):
    always_less_than(left, 10, "below", {})
sometimes_all({"a": True, "b": False}, "all", {})
print(get_random() != get_random(), random_choice([5]))
"""


def test_the_unmodified_antithesis_package_speaks_through_libvoidstar(
    tmp_path: Path, preloaded: dict[str, str]
) -> None:
    printed, lines = said(ANTITHESIS, tmp_path, **preloaded)
    assert printed == "True 5\n"
    assert lines[0]["message"] == "antithesis_sdk"

    def of(message: str) -> list[tuple[str, Any, Any]]:
        return [
            (line["command"], line.get("condition"), line.get("details"))
            for line in lines
            if line["message"] == message
        ]

    assert ("setup_complete", None, {"nodes": 3}) in of("")
    assert of("elected") == [("send_event", None, {"leader": [1, {"é": '€\n"'}]})]
    small = 'small € \U0001f600 "q"'
    assert [(command, condition) for command, condition, _ in of(small)] == [
        ("catalog", None),
        ("always", True),
        ("catalog", None),
        ("always", False),
    ]
    assert of(small)[3][2] == {"i": 2}
    assert of(small)[0][2]["kind"] == "always"
    assert of(small)[0][2]["file"].endswith("script.py")
    assert {line["id"] for line in lines if line["message"] == small} == {_wire.fnv1a(small.encode())}
    kinds = {
        line["message"]: (line["details"]["kind"], line["details"]["must_hit"])
        for line in lines
        if line["command"] == "catalog"
    }
    assert kinds["or not"] == ("always_or_unreachable", False)
    assert kinds["some"] == ("sometimes", True)
    assert kinds["here"] == ("reachable", True)
    assert kinds["not here"] == ("unreachable", False)
    assert of("not here")[1] == ("unreachable", False, {"why": "}{][\\"})
    guidance = [details for command, _, details in of("below") if command == "guidance"]
    assert [told["data"]["left"] for told in guidance] == [1, 3]
    assert guidance[0]["type"] == "numeric"
    assert guidance[0]["maximize"] is True
    (group,) = (details for command, _, details in of("all") if command == "guidance")
    assert group["data"] == {"a": True, "b": False}


MALFORMED = """
import ctypes
lib = ctypes.CDLL("/usr/lib/libvoidstar.so")
lib.init_coverage_module.restype = ctypes.c_size_t
lib.notify_coverage.restype = ctypes.c_bool
texts = [b"", b"{", b"[1]", b'{"antithesis_assert":7}', b'{"antithesis_assert":{"message":5}}', b'{"a":}',
         b'{"antithesis_setup":{"status":"no"}}', b'{"a":1,"b":[],"\\\\ud800":"\\\\u12"}',
         b'{"x":"' + b"y" * 9000 + b'"}',
         b'{"a":' * 100, b'{"a":' + b"[" * 60 + b"]" * 60 + b"}", b'{"antithesis_guidance":{"message":"g","hit":true}}',
         b'{"antithesis_assert":{"message":"m","hit":true,"assert_type":"reachability","condition":false}}']
for text in texts:
    lib.fuzz_json_data(text, ctypes.c_size_t(len(text)))
lib.fuzz_json_data(None, ctypes.c_size_t(0))
lib.fuzz_flush()
print(lib.init_coverage_module(ctypes.c_size_t(10), b"one"), lib.init_coverage_module(ctypes.c_size_t(5), None))
print(lib.notify_coverage(ctypes.c_size_t(3)))
"""


def test_malformed_messages_are_harmless(tmp_path: Path, preloaded: dict[str, str]) -> None:
    printed, lines = said(MALFORMED, tmp_path, **preloaded)
    assert printed == "0 10\nTrue\n"
    messages = [(line["command"], line["message"]) for line in lines]
    assert messages.count(("send_event", "voidstar: not a JSON object")) == 6
    assert ("unreachable", "m") in messages
    (long,) = (line for line in lines if line["message"] == "x")
    assert long["details"] == {"too_long": 9002}
