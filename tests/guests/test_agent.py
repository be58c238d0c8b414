"""The guest agent on this host, spoken to over a pseudo-terminal in place of /dev/hvc0."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from chaoscontrol import agent  # noqa: E402
from guest.programs.build import directory  # noqa: E402

SECONDS_MAX = 30


class Channel:
    """The host's end."""

    def __init__(self, program: Path) -> None:
        # The other end stays open here as well: a terminal that nobody holds reads as an error.
        self.fd, self._other = pty.openpty()
        self.process = subprocess.Popen([program, os.ttyname(self._other)], stdin=subprocess.DEVNULL)
        self._decoder = agent.Decoder()
        self._frames: list[agent.Frame] = []
        self._next_ident = 100
        self.hello = self.receive(0)

    def send(self, request: agent.Request) -> int:
        self._next_ident += 1
        self.write(agent.encode(self._next_ident, request))
        return self._next_ident

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.fd, data[:4096]) :]

    def receive(self, ident: int) -> agent.Answer:
        """The answer to a request, whichever come before it."""
        until = time.monotonic() + SECONDS_MAX
        while True:
            for at, frame in enumerate(self._frames):
                if frame.ident == ident:
                    del self._frames[at]
                    return agent.decode(frame)
            assert select.select([self.fd], [], [], max(until - time.monotonic(), 0))[0], "no answer"
            self._frames += self._decoder.feed(os.read(self.fd, 65536))

    def ask(self, request: agent.Request) -> agent.Answer:
        return self.receive(self.send(request))

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._other)
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("agent") / "cc-agent"
    sources = [str(path) for path in sorted(directory("agent").glob("*.c"))]
    flags = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wshadow"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["gcc", *flags, *sanitizers, "-o", str(out), *sources], check=True, timeout=120)
    return out


@pytest.fixture
def channel(program: Path) -> Iterator[Channel]:
    opened = Channel(program)
    yield opened
    alive = opened.process.poll() is None
    opened.close()
    assert alive, "the agent ended by itself"


def run(channel: Channel, *argv: str, timeout_ms: int = 0, output_max: int = agent.OUTPUT_MAX) -> agent.Ran:
    answer = channel.ask(agent.Run(argv, timeout_ms, output_max))
    assert isinstance(answer, agent.Ran), answer
    return answer


def test_it_says_hello_first(channel: Channel) -> None:
    assert isinstance(channel.hello, agent.Hello)
    assert channel.hello.pid == channel.process.pid
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
    assert channel.hello.boot_id.hex() == boot_id


def test_ping_brings_every_byte_back(channel: Channel) -> None:
    data = bytes(range(256)) * 200
    assert channel.ask(agent.Ping(data)) == agent.Pong(data)
    assert channel.ask(agent.Ping()) == agent.Pong(b"")


def test_processes_are_listed(channel: Channel) -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        answer = channel.ask(agent.ListProcesses())
        assert isinstance(answer, agent.Processes)
        by_pid = {process.pid: process for process in answer.processes}
        found = by_pid[child.pid]
        assert (found.name, found.argv, found.parent) == ("sleep", ("sleep", "60"), os.getpid())
        assert found.state in "SRD"
        assert by_pid[channel.process.pid].name == "cc-agent"
        assert list(by_pid) == sorted(by_pid)
    finally:
        child.kill()
        child.wait()


def test_signals_by_pid_and_by_name(channel: Channel, tmp_path: Path) -> None:
    name = tmp_path / "cc-victim"
    name.symlink_to("/bin/sleep")
    victims = [subprocess.Popen([name, "60"]) for _ in range(3)]
    assert channel.ask(agent.SignalPid(victims[0].pid, signal.SIGTERM)) == agent.Signalled((victims[0].pid,))
    assert victims[0].wait(SECONDS_MAX) == -signal.SIGTERM
    answer = channel.ask(agent.SignalName("cc-victim", signal.SIGKILL))
    assert answer == agent.Signalled(tuple(sorted(victim.pid for victim in victims[1:])))
    assert [victim.wait(SECONDS_MAX) for victim in victims[1:]] == [-signal.SIGKILL] * 2
    failed = channel.ask(agent.SignalName("cc-victim", signal.SIGKILL))
    assert isinstance(failed, agent.Failed)
    assert failed.name == "ESRCH"
    failed = channel.ask(agent.SignalPid(victims[0].pid, signal.SIGTERM))
    assert isinstance(failed, agent.Failed)


def test_the_agent_does_not_signal_itself_by_name(channel: Channel) -> None:
    failed = channel.ask(agent.SignalName("cc-agent", 0))
    assert isinstance(failed, agent.Failed) or (
        isinstance(failed, agent.Signalled) and channel.process.pid not in failed.pids
    )


def test_commands_run_and_their_output_comes_back(channel: Channel) -> None:
    assert run(channel, "sh", "-c", "echo out; echo err >&2; exit 3") == agent.Ran(
        agent.EXITED, 3, False, b"out\nerr\n"
    )
    assert run(channel, "sh", "-c", "kill -9 $$").how == agent.SIGNALLED
    assert run(channel, "cat").output == b""  # no input
    many = run(channel, "sh", "-c", "yes | head -c 100000")
    assert (len(many.output), many.truncated) == (agent.OUTPUT_MAX, True)
    assert run(channel, "echo", "12345", output_max=3) == agent.Ran(agent.EXITED, 0, True, b"123")
    assert run(channel, "true", output_max=0) == agent.Ran(agent.EXITED, 0, False, b"")
    missing = channel.ask(agent.Run(("/no/such/program",)))
    assert isinstance(missing, agent.Failed)
    assert missing.name == "ENOENT"


def test_time_is_limited_for_a_command_and_its_children(channel: Channel) -> None:
    begun = time.monotonic()
    ended = run(channel, "sh", "-c", "echo begun; sleep 60 & sleep 60", timeout_ms=1500)
    assert ended.how == agent.TIMED_OUT
    assert ended.output == b"begun\n"
    assert time.monotonic() - begun < SECONDS_MAX


def test_a_child_that_stays_does_not_hold_the_answer_back(channel: Channel) -> None:
    begun = time.monotonic()
    stays = int(run(channel, "sh", "-c", "sleep 40 & echo $!").output)
    assert time.monotonic() - begun < SECONDS_MAX
    assert channel.ask(agent.SignalPid(stays, signal.SIGKILL)) == agent.Signalled((stays,))


def test_eight_commands_at_a_time_and_others_meanwhile(channel: Channel) -> None:
    idents = [channel.send(agent.Run(("sh", "-c", f"sleep 2; echo {n}"))) for n in range(8)]
    busy = channel.ask(agent.Run(("true",)))
    assert isinstance(busy, agent.Failed)
    assert busy.name == "EBUSY"
    assert channel.ask(agent.Ping(b"!")) == agent.Pong(b"!")
    for n, ident in enumerate(idents):
        assert channel.receive(ident) == agent.Ran(agent.EXITED, 0, False, b"%d\n" % n)
    assert run(channel, "true").value == 0


def raw(op: int, payload: bytes) -> bytes:
    return (5 + len(payload)).to_bytes(4, "little") + (9).to_bytes(4, "little") + bytes([op]) + payload


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (raw(0x55, b""), "ENOSYS"),
        (raw(0x02, b"x"), "EINVAL"),
        (raw(0x03, b"\1\0\0\0"), "EINVAL"),
        (raw(0x03, b"\xff\xff\xff\xff\x09"), "EINVAL"),
        (raw(0x04, b"\x09\0\0"), "EINVAL"),
        (raw(0x04, b"\x09\xff\xffab"), "EINVAL"),
        (raw(0x05, b""), "EINVAL"),
        (raw(0x05, bytes(8) + b"\2\0\1\0a"), "EINVAL"),
        (raw(0x05, bytes(8) + b"\1\0\1\0\0"), "EINVAL"),
        (raw(0x05, bytes(8) + b"\xff\xff"), "EINVAL"),
        (raw(0x06, b"1234567"), "EINVAL"),
    ],
)
def test_requests_that_are_not_whole_are_refused(channel: Channel, data: bytes, error: str) -> None:
    channel.write(data)
    failed = channel.receive(9)
    assert isinstance(failed, agent.Failed)
    assert failed.name == error
    assert channel.ask(agent.Ping(b"still")) == agent.Pong(b"still")


@pytest.mark.parametrize("length", [0, 4, 65537, 0xFFFF_FFFF])
def test_a_lost_place_in_the_stream_is_found_again(channel: Channel, length: int) -> None:
    channel.write(length.to_bytes(4, "little") + b"rubbish")
    failed = channel.receive(0)
    assert isinstance(failed, agent.Failed)
    assert failed.name == "EBADMSG"
    assert isinstance(channel.receive(0), agent.Hello)
    assert channel.ask(agent.Ping(b"again")) == agent.Pong(b"again")


def test_without_its_channel_it_ends(program: Path) -> None:
    done = subprocess.run([program, "/nowhere/hvc0"], capture_output=True, text=True, timeout=SECONDS_MAX, check=False)
    assert done.returncode == 3
    assert done.stderr == "cc-agent: /nowhere/hvc0: No such file or directory\n"
