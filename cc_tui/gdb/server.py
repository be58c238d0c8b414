"""The gdb server: answers the packets of one gdb about one machine of a cluster (gdb manual, appendix E).

It keeps what gdb has set, points and little else; everything about the machine is the target's. It never lets an error
end the connection: gdb is told `E01` and, in a console message, why.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from cc_tui.gdb.description import REGISTERS, all_bytes, changes, target_xml
from cc_tui.gdb.packets import INTERRUPT, PACKET_BYTES_MAX, ConnectionClosedError, PacketStream, escape, unescape
from cc_tui.gdb.target import Point, PointKind, Report, Why
from chaoscontrol.errors import ChaosControlError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cc_tui.gdb.target import Target

THREAD = b"1"
"""A machine has one CPU, which gdb sees as its only thread."""
SIGINT, SIGTRAP = 2, 5
_FEATURES = (
    b"PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;ReverseStep+;ReverseContinue+;swbreak+;hwbreak+;"
    b"vContSupported+"
) % PACKET_BYTES_MAX
_POINT_BYTES_MAX = 4096
_SEARCH_STEP = 1 << 20


class _BadPacketError(Exception):
    """A packet that cannot be read."""


def _number(text: bytes) -> int:
    if not text or len(text) > 16 or text.strip(b"0123456789abcdefABCDEF"):
        raise _BadPacketError
    return int(text, 16)


def _pair(text: bytes) -> tuple[int, int]:
    first, comma, second = text.partition(b",")
    if not comma:
        raise _BadPacketError
    return _number(first), _number(second)


class GdbServer:
    """Serves one connection. `target`: the machine that it is about."""

    def __init__(self, target: Target, stream: PacketStream) -> None:
        self._target = target
        self._stream = stream
        self._points: set[Point] = set()
        self._last = b"T%02xthread:%s;" % (SIGTRAP, THREAD)
        self.killed = False
        """Did gdb ask to end the program, rather than leave?"""
        self._commands: dict[int, Callable[[bytes], bytes | None]] = {
            ord("?"): lambda _: self._last,
            ord("g"): lambda _: all_bytes(self._target.registers()).hex().encode(),
            ord("G"): self._write_registers,
            ord("p"): self._read_register,
            ord("P"): self._write_register,
            ord("m"): self._read_memory,
            ord("x"): self._read_binary,
            ord("M"): lambda data: self._write_memory(data, binary=False),
            ord("X"): lambda data: self._write_memory(data, binary=True),
            ord("Z"): lambda data: self._set_point(data, wanted=True),
            ord("z"): lambda data: self._set_point(data, wanted=False),
            ord("s"): lambda data: self._at(data, lambda: self._step(back=False)),
            ord("c"): lambda data: self._at(data, lambda: self._resume(back=False)),
            ord("S"): lambda data: self._at(data.partition(b";")[2], lambda: self._step(back=False)),
            ord("C"): lambda data: self._at(data.partition(b";")[2], lambda: self._resume(back=False)),
            ord("b"): self._backward,
            ord("v"): self._v_packet,
            ord("q"): self._query,
            ord("Q"): self._set,
            ord("H"): lambda _: b"OK",
            ord("T"): lambda data: b"OK" if data == THREAD else b"E01",
            ord("!"): lambda _: b"",
        }

    def serve(self) -> None:
        """Answer until gdb leaves or hangs up."""
        try:
            while True:
                packet = self._stream.read()
                if packet == INTERRUPT:
                    self._stream.send(self._stopped(Report(Why.INTERRUPTED)))
                    continue
                if packet[:1] == b"D" or packet[:5] == b"vKill":
                    self.killed = packet[:1] == b"v"
                    self._stream.send(b"OK")
                    return
                if packet[:1] == b"k":
                    self.killed = True
                    return
                answer = self._answer(packet)
                if answer is not None:
                    self._stream.send(answer)
                if packet == b"QStartNoAckMode":
                    self._stream.acknowledges = False
        except ConnectionClosedError:
            return

    def _answer(self, packet: bytes) -> bytes | None:
        command = self._commands.get(packet[0]) if packet else None
        if command is None:
            return b""  # gdb's way of learning that something is not there
        try:
            return command(packet[1:])
        except _BadPacketError:
            return b"E22"
        except ConnectionClosedError:
            raise
        except ChaosControlError as error:
            self._say(f"{error}\n")
            return b"E01"

    def _say(self, text: str) -> None:
        """On gdb's console. Only while gdb waits for the end of a movement or of a monitor command is it shown."""
        data = text.encode()
        for at in range(0, len(data), PACKET_BYTES_MAX // 2 - 8):
            self._stream.send(b"O" + data[at : at + PACKET_BYTES_MAX // 2 - 8].hex().encode())

    # ---- registers --------------------------------------------------------------------------------------------------

    def _read_register(self, data: bytes) -> bytes:
        number = _number(data)
        if number >= len(REGISTERS):
            return b"E01"
        return REGISTERS[number].bytes_of(self._target.registers()).hex().encode()

    def _write_register(self, data: bytes) -> bytes:
        number, _, value = data.partition(b"=")
        at = _number(number)
        if at >= len(REGISTERS) or not REGISTERS[at].edits:
            return b"E01"
        self._target.set_register(REGISTERS[at].edits, int.from_bytes(_bytes(value), "little"))
        return b"OK"

    def _write_registers(self, data: bytes) -> bytes:
        try:
            wanted = changes(self._target.registers(), _bytes(data))
        except ValueError:
            return b"E22"
        for name, value in wanted:
            self._target.set_register(name, value)
        return b"OK"

    # ---- memory -----------------------------------------------------------------------------------------------------

    def _read_memory(self, data: bytes) -> bytes:
        address, size = _pair(data)
        found = self._target.read_memory(address, min(size, PACKET_BYTES_MAX // 2 - 4))
        return found.hex().encode() if found or not size else b"E14"

    def _read_binary(self, data: bytes) -> bytes:
        address, size = _pair(data)
        found = self._target.read_memory(address, min(size, PACKET_BYTES_MAX // 2 - 4))
        return b"b" + escape(found) if found or not size else b"E14"

    def _write_memory(self, data: bytes, *, binary: bool) -> bytes:
        where, colon, contents = data.partition(b":")
        address, size = _pair(where)
        if not colon:
            raise _BadPacketError
        contents = unescape(contents) if binary else _bytes(contents)
        if len(contents) != size:
            raise _BadPacketError
        if contents:
            self._target.write_memory(address, contents)
        return b"OK"

    def _search(self, data: bytes) -> bytes:
        where, _, rest = data.partition(b";")
        size, _, pattern = rest.partition(b";")
        address, left, wanted = _number(where), _number(size), unescape(pattern)
        if not wanted:
            raise _BadPacketError
        while left >= len(wanted):
            if self._stream.interrupted():
                return b"E04"
            found = self._target.read_memory(address, min(left, _SEARCH_STEP + len(wanted) - 1))
            at = found.find(wanted)
            if at >= 0:
                return b"1,%x" % (address + at)
            step = len(found) - len(wanted) + 1
            if step <= 0:
                return b"E14"
            address, left = address + step, left - step
        return b"0"

    # ---- moving -----------------------------------------------------------------------------------------------------

    def _set_point(self, data: bytes, *, wanted: bool) -> bytes:
        kind, _, rest = data.partition(b",")
        if kind not in (b"0", b"1", b"2", b"3", b"4"):
            return b""
        address, size = _pair(rest.partition(b";")[0])
        point = Point(PointKind(int(kind)), address, size)
        if not point.kind.is_break and not 1 <= size <= _POINT_BYTES_MAX:
            return b"E22"
        if wanted:
            self._points.add(point)
        else:
            self._points.discard(point)
        return b"OK"

    def _at(self, address: bytes, move: Callable[[], bytes]) -> bytes:
        if address:
            self._target.set_register("rip", _number(address))
        return move()

    def _backward(self, data: bytes) -> bytes:
        if data == b"s":
            return self._step(back=True)
        if data == b"c":
            return self._resume(back=True)
        return b""

    def _step(self, *, back: bool) -> bytes:
        return self._stopped(self._target.step(frozenset(self._points), back=back))

    def _resume(self, *, back: bool) -> bytes:
        return self._stopped(self._target.resume(frozenset(self._points), self._stream.interrupted, back=back))

    def _stopped(self, report: Report) -> bytes:
        signal = SIGINT if report.why is Why.INTERRUPTED else SIGTRAP
        extra = b""
        if report.why is Why.BEGIN:
            extra = b"replaylog:begin;"
        elif report.why is Why.END:
            extra = b"replaylog:end;"
        elif report.point is not None and report.point.kind.is_break:
            extra = report.point.kind.reply.encode() + b":;"
        elif report.point is not None:
            extra = b"%s:%x;" % (report.point.kind.reply.encode(), report.address)
        self._last = b"T%02xthread:%s;%s" % (signal, THREAD, extra)
        return self._last

    def _v_packet(self, data: bytes) -> bytes:
        if data == b"Cont?":
            return b"vCont;c;C;s;S;r"
        if not data.startswith(b"Cont;"):
            return b""
        # There is one thread: the first action is its.
        action = data[5:].partition(b";")[0].partition(b":")[0]
        match action[:1]:
            case b"c" | b"C":
                return self._resume(back=False)
            case b"s" | b"S":
                return self._step(back=False)
            case b"r":
                low, high = _pair(action[1:])
                return self._stopped(self._target.step_range(low, high, self._stream.interrupted))
            case _:
                raise _BadPacketError

    # ---- questions --------------------------------------------------------------------------------------------------

    def _query(self, data: bytes) -> bytes:
        name, _, rest = data.partition(b":")
        if name == b"Supported":
            return _FEATURES
        if name == b"Xfer" and rest.startswith(b"features:read:"):
            return self._describe(rest.removeprefix(b"features:read:"))
        if name == b"Search" and rest.startswith(b"memory:"):
            return self._search(rest.removeprefix(b"memory:"))
        if data.startswith(b"Rcmd,"):
            return self._monitor(data[5:])
        if data.startswith(b"ThreadExtraInfo,"):
            return b"the CPU".hex().encode()
        simple = {b"C": b"QC" + THREAD, b"fThreadInfo": b"m" + THREAD, b"sThreadInfo": b"l", b"Attached": b"1"}
        if name in simple:
            return simple[name]
        return b"OK" if name == b"Symbol" else b""

    def _describe(self, rest: bytes) -> bytes:
        annex, _, window = rest.partition(b":")
        if annex != b"target.xml":
            return b"E00"
        offset, size = _pair(window)
        text = target_xml().encode()
        piece = text[offset : offset + min(size, PACKET_BYTES_MAX // 2)]
        return (b"m" if offset + len(piece) < len(text) else b"l") + escape(piece)

    def _monitor(self, data: bytes) -> bytes:
        line = _bytes(data).decode(errors="replace")
        try:
            answer = self._target.monitor(line)
        except ChaosControlError as error:
            answer = f"{error}\n"
        if answer:
            self._say(answer)
        return b"OK"

    def _set(self, data: bytes) -> bytes:
        return b"OK" if data == b"StartNoAckMode" else b""


def _bytes(digits: bytes) -> bytes:
    try:
        return bytes.fromhex(digits.decode("ascii"))
    except ValueError:
        raise _BadPacketError from None


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket that gdb can connect to; port 0: any that is free. Raises UsageError."""
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"port {port} cannot be listened on: {reason}", hint="give another, or 0 for any") from None


__all__ = ["GdbServer", "listen"]
