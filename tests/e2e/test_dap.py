"""A scripted client of the Debug Adapter Protocol on a recorded cluster: `cc-tui dap` on standard input and output."""

from __future__ import annotations

import base64
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDING = ROOT / "recordings" / "raft-double-vote.ccrec"
WAIT_S = 120
Table = dict[str, Any]


class Client:
    """Sends requests, and keeps what comes in order."""

    def __init__(self, environment: dict[str, str], *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cc_tui", "dap", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        )  # fmt: skip
        self._inbox: queue.Queue[Table | None] = queue.Queue()
        self._events: list[Table] = []
        self._sequence = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        source = self.process.stdout
        assert source is not None
        while (line := source.readline()) and line.startswith(b"Content-Length: "):
            assert source.readline() == b"\r\n"
            self._inbox.put(json.loads(source.read(int(line.removeprefix(b"Content-Length: ")))))
        self._inbox.put(None)

    def send(self, command: str, **arguments: Any) -> int:
        self._sequence += 1
        content = json.dumps({"seq": self._sequence, "type": "request", "command": command, "arguments": arguments})
        assert self.process.stdin is not None
        self.process.stdin.write(f"Content-Length: {len(content)}\r\n\r\n{content}".encode())
        self.process.stdin.flush()
        return self._sequence

    def _next(self) -> Table:
        message = self._inbox.get(timeout=WAIT_S)
        if message is None:
            assert self.process.stderr is not None
            raise AssertionError(f"it has hung up: {self.process.stderr.read().decode()}")
        return message

    def response(self, sequence: int) -> Table:
        """The response to a request; events on the way are kept."""
        while (message := self._next())["type"] == "event" or message["request_seq"] != sequence:
            if message["type"] == "event":
                self._events.append(message)
        return message

    def ask(self, command: str, **arguments: Any) -> Table:
        """The body of a successful response."""
        answer = self.response(self.send(command, **arguments))
        assert answer["success"], answer
        return answer.get("body", {})

    def refused(self, command: str, **arguments: Any) -> str:
        """Why a request failed: one line."""
        answer = self.response(self.send(command, **arguments))
        assert not answer["success"]
        assert "\n" not in answer["message"] and answer["body"]["error"]["showUser"]
        return answer["message"]

    def event(self, name: str) -> Table:
        """The next event of a name; others on the way are dropped."""
        while True:
            message = self._events.pop(0) if self._events else self._next()
            if message["type"] == "event" and message["event"] == name:
                return message.get("body", {})

    def move(self, command: str, thread: int = 1, **arguments: Any) -> Table:
        """Carry out a movement; where it stopped."""
        self._events.clear()
        self.ask(command, threadId=thread, **arguments)
        return self.event("stopped")

    def top(self, thread: int = 1) -> Table:
        """The innermost frame."""
        return self.ask("stackTrace", threadId=thread, startFrame=0, levels=1)["stackFrames"][0]

    def scope(self, name: str, thread: int = 1) -> tuple[int, dict[str, str]]:
        """Of the innermost frame: the reference of a scope, and its variables."""
        scopes = self.ask("scopes", frameId=self.top(thread)["id"])["scopes"]
        reference = next(scope["variablesReference"] for scope in scopes if scope["name"] == name)
        found = self.ask("variables", variablesReference=reference)["variables"]
        return reference, {variable["name"]: variable["value"] for variable in found}

    def moment(self) -> str:
        return self.scope("Moment")[1]["moment"]

    def repl(self, line: str) -> str:
        return self.ask("evaluate", expression=line, context="repl")["result"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}


@pytest.fixture
def client(environment: dict[str, str]) -> Iterator[Client]:
    """One that has launched the recording and stands at its end."""
    with_it = Client(environment)
    capabilities = with_it.ask("initialize", adapterID="cc-tui", supportsProgressReporting=True)
    assert capabilities["supportsStepBack"] and capabilities["supportsDataBreakpoints"]
    with_it.ask("launch", program=str(RECORDING))
    with_it.event("initialized")
    with_it.ask("configurationDone")
    assert with_it.event("stopped")["reason"] == "entry"
    yield with_it
    with_it.ask("disconnect")
    assert with_it.process.wait(20) == 0
    assert with_it.process.stderr is not None
    assert with_it.process.stderr.read() == b""


def test_machines_are_threads_with_stacks_scopes_and_code(client: Client) -> None:
    threads = client.ask("threads")["threads"]
    assert [thread["name"] for thread in threads] == ["vm0", "vm1", "vm2"]
    for thread in (1, 2, 3):
        stack = client.ask("stackTrace", threadId=thread)
        assert stack["totalFrames"] == len(stack["stackFrames"]) >= 3
    frame = client.top(2)
    rip = client.scope("Registers", 2)[1]["rip"]
    assert frame["instructionPointerReference"] == rip
    code = client.ask("disassemble", memoryReference=rip, instructionOffset=-3, instructionCount=8)["instructions"]
    assert len(code) == 8 and code[3]["address"] == rip
    data = base64.b64decode(client.ask("readMemory", memoryReference=rip, count=4)["data"])
    assert code[3]["instructionBytes"].startswith(data.hex(" ")[:2])


def test_steps_and_continues_both_ways_come_back_to_the_same_moment(client: Client) -> None:
    end = client.moment()
    assert client.move("stepBack", granularity="instruction")["reason"] == "step"
    before = client.moment()
    assert before != end
    client.move("stepBack", granularity="instruction")
    assert client.move("next", granularity="instruction")["reason"] == "step"
    assert client.moment() == before

    (point,) = client.ask("setFunctionBreakpoints", breakpoints=[{"name": "tcp_v4_rcv"}])["breakpoints"]
    assert point["verified"]
    met = client.move("reverseContinue")
    assert (met["reason"], met["hitBreakpointIds"]) == ("breakpoint", [point["id"]])
    where, thread = client.moment(), met["threadId"]
    assert client.top(thread)["name"] == "tcp_v4_rcv"
    client.move("reverseContinue")
    assert client.moment() != where
    assert client.move("continue")["threadId"] == thread
    assert client.moment() == where

    # Out of it: the caller's frame is the innermost one.
    caller = client.ask("stackTrace", threadId=thread)["stackFrames"][1]
    client.ask("setFunctionBreakpoints", breakpoints=[])
    assert client.move("stepOut", thread)["reason"] == "step"
    assert client.top(thread)["instructionPointerReference"] == caller["instructionPointerReference"]


def test_a_source_line_is_stopped_at_and_stepped_from(client: Client) -> None:
    text = (ROOT / "guest" / "programs" / "raft" / "main.c").read_text().splitlines()
    line = next(number for number, content in enumerate(text, 1) if "storage_meta(" in content)
    source = {"path": "/elsewhere/checkout/guest/programs/raft/main.c"}
    (point,) = client.ask("setBreakpoints", source=source, breakpoints=[{"line": line}])["breakpoints"]
    assert point["verified"], point
    met = client.move("reverseContinue")
    assert met["hitBreakpointIds"] == [point["id"]]
    thread = met["threadId"]
    top = client.top(thread)
    assert top["line"] == point["line"] and top["source"]["name"] == "main.c"
    assert Path(top["source"]["path"]).samefile(ROOT / "guest" / "programs" / "raft" / "main.c")
    client.ask("setBreakpoints", source=source, breakpoints=[])
    client.move("stepIn", thread)
    assert client.top(thread)["name"].startswith("storage_meta")
    client.move("stepBack", thread)
    assert client.top(thread)["source"]["name"] == "main.c"


def test_who_wrote_this_last(client: Client) -> None:
    info = client.ask("dataBreakpointInfo", name="jiffies", bytes=8)
    assert info["dataId"] is not None
    (point,) = client.ask("setDataBreakpoints", breakpoints=[{"dataId": info["dataId"], "accessType": "write"}])[
        "breakpoints"
    ]
    address = info["dataId"].split(":")[1]
    after = client.ask("readMemory", memoryReference=address, count=8)["data"]
    met = client.move("reverseContinue")
    assert (met["reason"], met["hitBreakpointIds"]) == ("data breakpoint", [point["id"]])
    assert client.ask("readMemory", memoryReference=address, count=8)["data"] == after
    client.move("stepBack", met["threadId"], granularity="instruction")
    value = int.from_bytes(
        base64.b64decode(client.ask("readMemory", memoryReference=address, count=8)["data"]), "little"
    )
    assert value == int.from_bytes(base64.b64decode(after), "little") - 1


def test_a_failed_assertion_is_what_time_goes_back_to(client: Client) -> None:
    client.ask("setExceptionBreakpoints", filters=["assertions"])
    met = client.move("reverseContinue")
    assert met["reason"] == "exception"
    assert client.ask("exceptionInfo")["exceptionId"] == met["text"] != ""


def test_edits_branch_and_the_console_takes_commands(client: Client) -> None:
    assert client.move("stepBack", granularity="instruction")["reason"] == "step"
    reference, registers = client.scope("Registers")
    value = client.ask("setVariable", variablesReference=reference, name="r15", value="0x1234")["value"]
    assert value == "0x1234" != registers["r15"]
    assert "is as it was" in client.event("output")["output"]
    assert client.scope("Registers")[1]["r15"] == "0x1234"
    assert client.scope("Moment")[1]["branch"] != "main"
    assert client.ask("evaluate", expression="$r15", context="watch")["result"] == "0x1234"
    rsp = client.scope("Registers")[1]["rsp"]
    data = base64.b64encode(b"\x01\x02").decode()
    assert client.ask("writeMemory", memoryReference=rsp, data=data) == {"bytesWritten": 2}
    assert client.ask("readMemory", memoryReference=rsp, count=2)["data"] == data
    client.repl("goto 1s")
    assert client.event("stopped")["reason"] == "goto"
    assert client.scope("Moment")[1]["time"].startswith("1.0")
    assert "tcp_v4_rcv" in client.repl("symbol tcp_v4_rcv")


def test_branches_are_named_noted_and_deleted_in_the_console(client: Client) -> None:
    assert client.move("stepBack", granularity="instruction")["reason"] == "step"
    before = client.scope("Moment")[1]["branch"]
    assert "branch try from " in client.repl("branch try")
    assert "is as it was" in client.event("output")["output"]
    assert "a # note" in client.repl("annotate 'a # note'")
    assert "branch try is retry now" in client.repl("rename-branch try retry")
    assert client.scope("Moment")[1]["branch"] == "retry"
    assert "* retry from " in client.repl("branches")
    refused = client.refused("evaluate", expression="delete-branch retry", context="repl")
    assert "'retry' is the one that the cursor is on" in refused
    client.repl(f"goto {before}")
    assert "deleted branch retry" in client.repl("delete-branch try")
    assert "branch 'try' was deleted" in client.refused("evaluate", expression="goto try", context="repl")


def test_a_movement_can_be_paused(client: Client) -> None:
    """Nothing is ever written there, so it goes on until somebody asks it to stop."""
    client.ask("setDataBreakpoints", breakpoints=[{"dataId": "vm0:0x1:1"}])
    going = client.send("continue", threadId=1)
    assert client.response(going)["success"]
    client.event("progressStart")
    client.send("pause", threadId=1)
    assert client.event("stopped")["reason"] == "pause"


def test_what_is_wrong_is_said_and_nothing_is_lost(client: Client) -> None:
    before = client.moment()
    assert "no request" in client.refused("gotoTargets")
    assert "there is no thread 9" in client.refused("stackTrace", threadId=9)
    assert "threadId is 'x'" in client.refused("continue", threadId="x")
    assert "no frame 99" in client.refused("scopes", frameId=99)
    assert "no command" in client.refused("evaluate", expression="frobnicate", context="repl")
    assert "no memory reference" in client.refused("readMemory", memoryReference="here", count=1)
    assert "opened already" in client.refused("launch", program=str(RECORDING))
    assert not client.ask("setFunctionBreakpoints", breakpoints=[{"name": "no_such"}])["breakpoints"][0]["verified"]
    body = client.ask("readMemory", memoryReference="0x10", count=8)
    assert body["unreadableBytes"] == 8
    assert client.moment() == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "nothing to open"),
        ({"program": "none.ccrec"}, "none.ccrec"),
        ({"program": "raft", "seed": "x"}, "seed is 'x'"),
        ({"program": "no-such-scenario"}, "no-such-scenario"),
    ],
)
def test_a_launch_that_cannot_be(environment: dict[str, str], arguments: Table, why: str) -> None:
    client = Client(environment)
    client.ask("initialize")
    assert why in client.refused("launch", **arguments)
    assert "nothing is opened" in client.refused("threads")
    client.ask("disconnect")
    assert client.process.wait(20) == 0


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\n\r\n", b"Content-Length: x\r\n\r\n", b"Content-Length: 4\r\n\r\n[1]]", b"x" * 10000]
)
def test_another_protocol_ends_it_with_one_line(environment: dict[str, str], sent: bytes) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cc_tui", "dap"],
        input=sent,
        capture_output=True,
        env=environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3 and done.stdout == b""
    assert done.stderr.count(b"\n") == 1 and done.stderr.startswith(b"cc-tui: error: ")
