"""Messages of the Debug Adapter Protocol: JSON objects, each after a header with its length.

Format: `Content-Length: N`, CR LF, an empty line, N bytes of UTF-8 (Debug Adapter Protocol, overview, base protocol).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from chaoscontrol.errors import ChaosControlError

if TYPE_CHECKING:
    from typing import BinaryIO

HEADER_BYTES_MAX = 4096
CONTENT_BYTES_MAX = 64 << 20
_LENGTH = b"content-length:"


class ProtocolError(ChaosControlError):
    """What came is no message of the protocol; where the next one begins is not known any more."""


class MessageStream:
    """One connection: one thread may read while another writes."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source = source
        self._sink = sink

    def read(self) -> dict[str, Any] | None:
        """The next message; None if the other side has hung up. Raises ProtocolError."""
        length = self._length()
        if length is None:
            return None
        content = self._source.read(length)
        if len(content) < length:
            return None
        try:
            message = json.loads(content)
        except ValueError:
            raise ProtocolError("a message is no JSON", hint="the Debug Adapter Protocol is spoken here") from None
        if not isinstance(message, dict):
            raise ProtocolError("a message is no JSON object", hint="the Debug Adapter Protocol is spoken here")
        return cast("dict[str, Any]", message)

    def _length(self) -> int | None:
        """From the next header; None at the end."""
        length, seen = None, 0
        while True:
            line = self._source.readline(HEADER_BYTES_MAX)
            seen += len(line)
            if not line:
                return None
            if seen >= HEADER_BYTES_MAX:
                raise ProtocolError("a header does not end", hint="the Debug Adapter Protocol is spoken here")
            if line.strip():
                if line.lower().startswith(_LENGTH):
                    length = _number(line[len(_LENGTH) :])
            elif length is None:
                raise ProtocolError("a header has no Content-Length", hint="the Debug Adapter Protocol is spoken here")
            else:
                return length

    def write(self, message: dict[str, Any]) -> None:
        """Send a message."""
        content = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
        self._sink.write(b"Content-Length: %d\r\n\r\n%b" % (len(content), content))
        self._sink.flush()


def _number(text: bytes) -> int:
    digits = text.strip()
    if not digits.isdigit() or len(digits) > len(str(CONTENT_BYTES_MAX)) or int(digits) > CONTENT_BYTES_MAX:
        raise ProtocolError(f"Content-Length is {digits[:20]!r}", hint=f"0 to {CONTENT_BYTES_MAX}")
    return int(digits)


__all__ = ["MessageStream", "ProtocolError"]
