"""Packets of gdb's remote serial protocol, over a stream: framing, checksums, acknowledgements, the interrupt byte.

Format: "$" data "#" two hexadecimal digits, the sum of data's bytes mod 256; in data `}` begins an escape, the byte
that follows is XORed with 0x20 (gdb manual, appendix E.1). A byte 0x03 outside of a packet asks to stop what runs.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from chaoscontrol.errors import ChaosControlError

if TYPE_CHECKING:
    import socket

PACKET_BYTES_MAX = 0x4000
"""What a packet may hold, in both directions; told to gdb."""
INTERRUPT = b"\x03"
"""What `read` gives for the interrupt byte."""
_ESCAPED = frozenset(b"#$}*")
_READ_BYTES = 65536


class ConnectionClosedError(ChaosControlError):
    """The other side has hung up."""


def checksum(data: bytes) -> bytes:
    """The two digits after the `#`."""
    return b"%02x" % (sum(data) & 0xFF)


def escape(data: bytes) -> bytes:
    """Binary data as it stands in a packet."""
    out = bytearray()
    for byte in data:
        out += bytes((0x7D, byte ^ 0x20)) if byte in _ESCAPED else bytes((byte,))
    return bytes(out)


def unescape(data: bytes) -> bytes:
    """What `escape` was given."""
    if b"}" not in data:
        return data
    out, at = bytearray(), 0
    while at < len(data):
        if data[at] == 0x7D and at + 1 < len(data):
            out.append(data[at + 1] ^ 0x20)
            at += 2
        else:
            out.append(data[at])
            at += 1
    return bytes(out)


class PacketStream:
    """One connection. Used by one thread."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._buffer = bytearray()
        self._sent = b""
        self.acknowledges = True
        """Are packets acknowledged with `+`? Until QStartNoAckMode."""

    def read(self) -> bytes:
        """The data of the next packet, or INTERRUPT. Raises ConnectionClosedError."""
        while True:
            taken = self._take()
            if taken is not None:
                return taken
            self._fill()

    def interrupted(self) -> bool:
        """Has the interrupt byte come, or the other side hung up? Takes the byte; never waits."""
        while select.select([self._socket], [], [], 0)[0]:
            try:
                self._fill()
            except ConnectionClosedError:
                return True
        at = self._buffer.find(INTERRUPT)
        if at < 0 or b"$" in self._buffer[:at]:
            return False
        del self._buffer[: at + 1]
        return True

    def send(self, data: bytes) -> None:
        """Send a packet; binary data in it is escaped already. Raises ConnectionClosedError."""
        self._sent = b"$" + data + b"#" + checksum(data)
        self._write(self._sent)

    def _take(self) -> bytes | None:
        while self._buffer:
            first = self._buffer[0]
            if first == 0x03:
                del self._buffer[0]
                return INTERRUPT
            if first != 0x24:
                del self._buffer[0]
                if first == 0x2D and self._sent:  # "-": it did not arrive whole
                    self._write(self._sent)
                continue
            end = self._buffer.find(b"#")
            if end < 0 or len(self._buffer) < end + 3:
                if len(self._buffer) > 2 * PACKET_BYTES_MAX + 4:
                    raise ConnectionClosedError("a packet has no end", where="gdb's connection")
                return None
            data, given = bytes(self._buffer[1:end]), bytes(self._buffer[end + 1 : end + 3])
            del self._buffer[: end + 3]
            good = given.lower() == checksum(data)
            if self.acknowledges:
                self._write(b"+" if good else b"-")
            if good:
                return data
        return None

    def _fill(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise ConnectionClosedError("gdb has hung up")
        self._buffer += data

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError:
            raise ConnectionClosedError("gdb has hung up") from None


__all__ = ["INTERRUPT", "PACKET_BYTES_MAX", "ConnectionClosedError", "PacketStream", "checksum", "escape", "unescape"]
