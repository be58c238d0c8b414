"""The guest agent's protocol: requests as bytes, and what comes back as values.

Owns the codec of docs/guest-agent.md and nothing else: it moves no bytes and knows no machine. What a guest sends is
hostile until proven otherwise, so every length and value is checked, and whatever is wrong is an AgentError that says
what; an encoder that is given something the protocol cannot say raises UsageError.

    frame = encode(3, Run(("/bin/sync",), timeout_ms=1000))
    for frame in decoder.feed(data):
        answer = decode(frame)
"""

from __future__ import annotations

import dataclasses
import errno
import os
import struct
from typing import ClassVar

from .errors import ChaosControlError, UsageError

PROTOCOL_VERSION = 1
LENGTH_MAX = 65536
"""The largest value of a frame's length field."""
_HEADER = struct.Struct("<IIB")
_LENGTH_BYTES = 4
_HEADER_BYTES = _HEADER.size - _LENGTH_BYTES
PAYLOAD_MAX = LENGTH_MAX - _HEADER_BYTES
OUTPUT_MAX = PAYLOAD_MAX - 16
ARGUMENTS_MAX = 256
SHELL = "/bin/sh"
"""For a command that is a line and not words; an image may lack it."""

_ANSWER = 0x80
_OP_ERROR = 0xFF
EXITED, SIGNALLED, TIMED_OUT = 0, 1, 2


class AgentError(ChaosControlError):
    """Bytes from a guest agent that are not what the protocol says."""


# ---- what the host asks ----


@dataclasses.dataclass(frozen=True, slots=True)
class ListProcesses:
    OP: ClassVar[int] = 0x02


@dataclasses.dataclass(frozen=True, slots=True)
class SignalPid:
    OP: ClassVar[int] = 0x03
    pid: int
    signal: int


@dataclasses.dataclass(frozen=True, slots=True)
class SignalName:
    """To every process whose name, or the last component of whose first argument, is this one."""

    OP: ClassVar[int] = 0x04
    name: str
    signal: int


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    OP: ClassVar[int] = 0x05
    argv: tuple[str, ...]
    timeout_ms: int = 0
    """Of the guest's monotonic clock; 0: none."""
    output_max: int = OUTPUT_MAX
    """Bytes of output to keep."""


@dataclasses.dataclass(frozen=True, slots=True)
class AdjustClock:
    """Step the realtime clock; the monotonic one goes on as it was."""

    OP: ClassVar[int] = 0x06
    delta_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Ping:
    OP: ClassVar[int] = 0x07
    data: bytes = b""


Request = ListProcesses | SignalPid | SignalName | Run | AdjustClock | Ping


# ---- what the guest answers ----


@dataclasses.dataclass(frozen=True, slots=True)
class Hello:
    """The agent has started; it says so unasked, with id 0."""

    version: int
    boot_id: bytes
    """16 bytes that differ between two boots."""
    pid: int


@dataclasses.dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    state: str
    """One letter of proc(5): R running, S sleeping, D waiting for a disk, T stopped, Z zombie, ..."""
    start_ticks: int
    """Since boot, in 1/100 s."""
    name: str
    argv: tuple[str, ...]
    """As far as 255 bytes hold it; empty for a kernel thread."""


@dataclasses.dataclass(frozen=True, slots=True)
class Processes:
    processes: tuple[Process, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Signalled:
    pids: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Ran:
    how: int
    """EXITED, SIGNALLED or TIMED_OUT (and killed)."""
    value: int
    """Exit status or signal number."""
    truncated: bool
    """There was more output than was to be kept."""
    output: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class ClockAdjusted:
    realtime_ns: int
    """What the clock showed afterwards, ns since 1970."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pong:
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """The agent could not do it."""

    errno: int
    text: str

    @property
    def name(self) -> str:
        """ESRCH and the like, or the number."""
        return errno.errorcode.get(self.errno, str(self.errno))

    def __str__(self) -> str:
        return f"{self.name} {self.text}".strip()


Answer = Hello | Processes | Signalled | Ran | ClockAdjusted | Pong | Failed


# ---- encoding ----


def _unsigned(value: int, bits: int, what: str) -> int:
    if not 0 <= value < 1 << bits:
        raise UsageError(f"is {value}", where=what, hint=f"give a number of 0 to {(1 << bits) - 1}")
    return value


def _text(text: str, what: str) -> bytes:
    data = os.fsencode(text)
    if b"\0" in data:
        raise UsageError("has a zero character", where=what, hint="remove it")
    if len(data) > 0xFFFF:
        raise UsageError(f"has {len(data)} bytes", where=what, hint="the agent takes 65535")
    return struct.pack("<H", len(data)) + data


def _payload(request: Request) -> bytes:
    match request:
        case ListProcesses():
            return b""
        case SignalPid(pid, number):
            if not 0 < pid < 1 << 31:
                raise UsageError(f"is {pid}", where="the process id", hint="give a positive 31-bit number")
            return struct.pack("<iB", pid, _unsigned(number, 7, "the signal"))
        case SignalName(name, number):
            if not name:
                raise UsageError("is empty", where="the process name", hint="name a process")
            return struct.pack("<B", _unsigned(number, 7, "the signal")) + _text(name, "the process name")
        case Run(argv, timeout_ms, output_max):
            if not 0 < len(argv) <= ARGUMENTS_MAX:
                raise UsageError(f"has {len(argv)} words", where="the command", hint=f"give 1 to {ARGUMENTS_MAX}")
            limits = _unsigned(timeout_ms, 32, "the time-out"), _unsigned(output_max, 32, "the output limit")
            head = struct.pack("<IIH", *limits, len(argv))
            return head + b"".join(_text(word, "a word of the command") for word in argv)
        case AdjustClock(delta_ns):
            if not -(1 << 63) <= delta_ns < 1 << 63:
                raise UsageError(f"is {delta_ns}", where="the clock's offset", hint="give a signed 64-bit number of ns")
            return struct.pack("<q", delta_ns)
        case Ping(data):
            return data


def encode(ident: int, request: Request) -> bytes:
    """A request as a frame. Raises UsageError for what the protocol cannot say."""
    payload = _payload(request)
    if len(payload) > PAYLOAD_MAX:
        raise UsageError(f"has {len(payload)} bytes", where="the request", hint=f"the agent takes {PAYLOAD_MAX}")
    return _HEADER.pack(_HEADER_BYTES + len(payload), _unsigned(ident, 32, "the request's id"), request.OP) + payload


# ---- decoding ----


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    ident: int
    op: int
    payload: bytes


class Decoder:
    """Cuts a stream into frames. Holds at most one unfinished frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending_bytes(self) -> int:
        """Bytes of a frame whose end has not come yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete.

        Raises AgentError at a length that cannot be; the place in the stream is lost then, so what came is dropped.
        """
        self._buffer += data
        frames: list[Frame] = []
        while len(self._buffer) >= _LENGTH_BYTES:
            (length,) = struct.unpack_from("<I", self._buffer)
            if not _HEADER_BYTES <= length <= LENGTH_MAX:
                self._buffer.clear()
                raise AgentError(f"the guest agent sent a frame of {length} bytes", hint="restart the agent")
            if len(self._buffer) < _LENGTH_BYTES + length:
                break
            _, ident, op = _HEADER.unpack_from(self._buffer)
            frames.append(Frame(ident, op, bytes(self._buffer[_HEADER.size : _LENGTH_BYTES + length])))
            del self._buffer[: _LENGTH_BYTES + length]
        return frames


class _Reader:
    """The fields of a payload, front to back."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, count: int) -> bytes:
        if count > len(self._payload) - self._at:
            raise AgentError(f"the guest agent's answer ends at byte {len(self._payload)}, in the middle of a field")
        data = self._payload[self._at : self._at + count]
        self._at += count
        return data

    def number(self, layout: str) -> int:
        (value,) = struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))
        return int(value)

    def text(self) -> bytes:
        return self.take(self.number("H"))

    def end(self) -> None:
        left = len(self._payload) - self._at
        if left:
            raise AgentError(f"the guest agent's answer has {left} bytes too many")

    def count(self, entry_bytes: int) -> int:
        """A number of entries of at least so many bytes each: more than fit are refused before any is read."""
        count = self.number("I")
        if count * entry_bytes > len(self._payload) - self._at:
            raise AgentError(f"the guest agent speaks of {count} entries, which do not fit its answer")
        return count


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _hello(reader: _Reader) -> Hello:
    version = reader.number("H")
    if version != PROTOCOL_VERSION:
        raise AgentError(
            f"the guest agent speaks version {version} of the protocol, this program {PROTOCOL_VERSION}",
            hint="use the images that came with this version",
        )
    return Hello(version, reader.take(16), reader.number("I"))


def _process(reader: _Reader) -> Process:
    pid, parent = reader.number("i"), reader.number("i")
    state, start_ticks = _shown(reader.take(1)), reader.number("Q")
    name, words = _shown(reader.text()), reader.text()
    argv = tuple(_shown(word) for word in words.removesuffix(b"\0").split(b"\0")) if words else ()
    return Process(pid, parent, state, start_ticks, name, argv)


def _ran(reader: _Reader) -> Ran:
    how, value, truncated = reader.number("B"), reader.number("B"), reader.number("B")
    if how > TIMED_OUT or truncated > 1:
        raise AgentError(f"the guest agent says a command ended in way {how}, truncated {truncated}")
    return Ran(how, value, bool(truncated), reader.take(reader.number("I")))


def _read(frame: Frame, reader: _Reader) -> Answer:
    match frame.op:
        case 0x01:
            return _hello(reader)
        case _ if frame.op == ListProcesses.OP | _ANSWER:
            return Processes(tuple(_process(reader) for _ in range(reader.count(21))))
        case _ if frame.op in (SignalPid.OP | _ANSWER, SignalName.OP | _ANSWER):
            return Signalled(tuple(reader.number("i") for _ in range(reader.count(4))))
        case _ if frame.op == Run.OP | _ANSWER:
            return _ran(reader)
        case _ if frame.op == AdjustClock.OP | _ANSWER:
            return ClockAdjusted(reader.number("q"))
        case _ if frame.op == Ping.OP | _ANSWER:
            return Pong(reader.take(len(frame.payload)))
        case _ if frame.op == _OP_ERROR:
            return Failed(reader.number("H"), _shown(reader.text()))
        case _:
            raise AgentError(f"the guest agent sent a frame of unknown kind {frame.op:#x}")


def describe(data: bytes) -> str:
    """One line for a person: what an agent could not do, where that is all that was sent; otherwise the bytes."""
    try:
        (frame,) = Decoder().feed(data)
        answer = decode(frame)
    except (AgentError, ValueError):
        return repr(data)
    return f"request {frame.ident:#x} failed: {answer}" if isinstance(answer, Failed) else repr(data)


def decode(frame: Frame) -> Answer:
    """What a frame from the guest says. Raises AgentError for one that is not whole or not of the protocol."""
    reader = _Reader(frame.payload)
    answer = _read(frame, reader)
    reader.end()
    return answer
