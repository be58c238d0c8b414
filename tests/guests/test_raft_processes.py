"""Three nodes as processes of this host: real TCP, real files, `kill -9`. Their events go through the observer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import raft_build  # noqa: F401  (makes guest/ importable)
from raft_build import program

from guest.programs.raft.properties import Finding, RaftProperties

NODES = 3
DISK_BYTES = 32 << 20
PATIENCE_S = 40
"""On a busy machine; what is waited for takes a second or two."""


def free_ports() -> int:
    """The first of NODES neighbouring ports that are free now."""
    for first in range(20_000 + os.getpid() % 997 * 10, 60_000, 10):
        taken: list[socket.socket] = []
        try:
            for node in range(NODES):
                taken.append(socket.create_server(("127.0.0.1", first + node)))
        except OSError:
            continue
        finally:
            for sock in taken:
                sock.close()
        return first
    raise AssertionError("no free ports")


def blank(disk: Path) -> None:
    """A file that stands for a disk of zeros."""
    with disk.open("wb") as file:
        file.truncate(DISK_BYTES)


class Cluster:
    """The processes, and everything they have said so far."""

    def __init__(self, place: Path, *settings: str) -> None:
        self.place = place
        self.settings = settings
        self.port = free_ports()
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.read: dict[int, int] = dict.fromkeys(range(NODES), 0)
        self.lines: list[dict[str, Any]] = []
        self.properties = RaftProperties()
        self.findings: list[Finding] = []
        for node in range(NODES):
            self.start(node)

    def start(self, node: int) -> None:
        disk = self.place / f"{node}.disk"
        if not disk.exists():
            blank(disk)
        words = [
            f"cc.node={node}",
            f"cc.nodes={NODES}",
            f"raft.data={disk}",
            f"raft.local_port={self.port}",
            "raft.seed=11",
            *self.settings,
        ]
        said = {"CHAOSCONTROL_SDK_LOCAL_OUTPUT": str(self.place / f"{node}.jsonl")}
        with (self.place / f"{node}.txt").open("ab") as console:
            self.processes[node] = subprocess.Popen(
                [str(program("raft", "asan")), *words], env={**os.environ, **said}, stdout=console, stderr=console
            )

    def kill(self, node: int) -> None:
        process = self.processes.pop(node)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE_S)

    def listen(self) -> None:
        """Take in what was said since the last time."""
        for node in range(NODES):
            path = self.place / f"{node}.jsonl"
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(self.read[node])
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self.read[node] += len(whole)
            for text in whole.splitlines():
                line = json.loads(text)
                self.lines.append(line)
                if line["command"] == "send_event":
                    self.findings += self.properties(line["message"], line["details"])

    def wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.console()}"
            assert all(process.poll() is None for process in self.processes.values()), self.console()
            time.sleep(0.05)
            self.listen()

    def applied(self, node: int) -> int:
        state = self.properties.nodes.get(node)
        return 0 if state is None else state.applied

    def leader(self) -> int:
        (leader,) = (node for node, state in self.properties.nodes.items() if state.leads)
        return leader

    def console(self) -> str:
        return "".join((self.place / f"{node}.txt").read_text() for node in range(NODES))

    def failed(self) -> list[str]:
        """Properties of the nodes themselves that failed."""
        return [line["message"] for line in self.lines if line["command"] == "always" and not line["condition"]]

    def stop(self) -> None:
        for node in list(self.processes):
            self.kill(node)
        self.listen()


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    clusters: list[Cluster] = []

    def start(*settings: str) -> Cluster:
        clusters.append(Cluster(tmp_path, *settings))
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.stop()


def test_a_killed_leader_is_replaced_and_comes_back(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster()
    cluster.wait("all nodes apply", lambda: all(cluster.applied(node) >= 48 for node in range(NODES)))
    first = cluster.leader()
    before = cluster.applied(first)
    cluster.kill(first)
    cluster.properties.nodes[first].leads = 0  # the dead do not step down

    others = [node for node in range(NODES) if node != first]
    cluster.wait("another leads", lambda: any(cluster.properties.nodes[node].leads for node in others))
    furthest = max(cluster.applied(node) for node in others)
    cluster.wait("the others go on", lambda: all(cluster.applied(node) >= furthest + 32 for node in others))

    # A stranger who sends garbage is shown the door, and nothing else happens.
    with socket.create_connection(("127.0.0.1", cluster.port + others[0]), timeout=PATIENCE_S) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 8)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""

    cluster.start(first)
    cluster.properties.healed()
    target = max(cluster.applied(node) for node in others) + 48
    cluster.wait("all converge", lambda: all(cluster.applied(node) >= target for node in range(NODES)))
    assert cluster.properties.settled() == []
    cluster.stop()
    assert cluster.findings == []
    assert cluster.failed() == []
    assert cluster.properties.nodes[first].boot == 2
    # It came back from its disk, not from nothing.
    (recovered,) = (
        line["details"]["last"]
        for line in cluster.lines
        if line["message"] == "raft_start" and line["details"]["node"] == first and line["details"]["boot"] == 2
    )
    assert recovered >= before
    assert sum(line["command"] == "setup_complete" for line in cluster.lines) == NODES + 1
    assert f"raft: node {first}: leader of term" in cluster.console()


def test_all_killed_at_once_forget_nothing(start_cluster: Callable[..., Cluster]) -> None:
    cluster = start_cluster("raft.op_ms=5")
    cluster.wait("all nodes apply", lambda: all(cluster.applied(node) >= 64 for node in range(NODES)))
    for node in range(NODES):
        cluster.kill(node)
        cluster.properties.nodes[node].leads = 0
    cluster.listen()
    before = max(cluster.applied(node) for node in range(NODES))
    for node in range(NODES):
        cluster.start(node)
    cluster.wait("all go on", lambda: all(cluster.applied(node) >= before + 32 for node in range(NODES)))
    cluster.stop()
    # The same prefixes as before the crash are the same again: the observer compares their hashes.
    assert cluster.findings == []
    assert cluster.failed() == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["raft.bug=typo"], "raft: raft.bug=typo: one of none fig8_commit"),
        (["cc.node=3", "cc.nodes=3"], "raft: cc.node=3: less than cc.nodes=3 is wanted"),
        (["raft.heartbeat_ms=0"], "raft: raft.heartbeat_ms=0: a number from 1 to 10000 is wanted"),
        (["whatever"], "raft: whatever: NAME=VALUE is wanted"),
    ],
)
def test_bad_settings_are_one_line(words: list[str], says: str) -> None:
    done = subprocess.run(
        [str(program("raft", "asan")), *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert done.stderr.startswith(says)
    assert done.stderr.count("\n") == 1


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        blank(tmp_path / "disk")
        words = [f"raft.local_port={port}", f"raft.data={tmp_path / 'disk'}", "cc.nodes=1"]
        done = subprocess.run(
            [str(program("raft", "asan")), *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    assert done.returncode == 1
    assert f"listening on 127.0.0.1 port {port}: Address already in use" in done.stdout
