"""The hypercall page: where its fields are, and how a call becomes bytes. The same numbers as guest/sdk/c/wire.h."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

HYPERCALL_GPA = 0xFE000
COVERAGE_GPA = 0xE0000
COVERAGE_BYTES = 0x10000
SDK_PORT = 0x510
COVERAGE_PORT = 0x511
PAGE_BYTES = 4096
HEADER_BYTES = 0x20
PAYLOAD_BYTES = PAGE_BYTES - HEADER_BYTES
MESSAGE_BYTES_MAX = 1024
TRANSPORT_PORT = 2
RESULT_AT = 0x10
OWNER_AT = 0x1C

ALWAYS, SOMETIMES, REACHABLE, UNREACHABLE = 0x01, 0x02, 0x03, 0x04
CATALOG, GUIDANCE = 0x05, 0x07
SETUP_COMPLETE, SEND_EVENT = 0x10, 0x11
RANDOM_GET, RANDOM_CHOICE = 0x20, 0x21
COVERAGE_INIT = 0x30
NAMES = {
    ALWAYS: "always",
    SOMETIMES: "sometimes",
    REACHABLE: "reachable",
    UNREACHABLE: "unreachable",
    CATALOG: "catalog",
    GUIDANCE: "guidance",
    SETUP_COMPLETE: "setup_complete",
    SEND_EVENT: "send_event",
    COVERAGE_INIT: "coverage_init",
}
WITH_CONDITION = (ALWAYS, SOMETIMES, REACHABLE, UNREACHABLE, GUIDANCE)

_HEADER = struct.Struct("<BBxxIH6xQBB")
"""Command, flags, id, payload length, result, status, transport; the lock follows and is not ours to write."""


class Call(NamedTuple):
    command: int
    message: str = ""
    details: Mapping[str, Any] | None = None
    condition: bool = False
    ident: int | None = None
    """None: the hash of the message."""


def fnv1a(data: bytes) -> int:
    """FNV-1a, 32 bits."""
    value = 0x811C9DC5
    for byte in data:
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def ident(call: Call) -> int:
    return fnv1a(call.message.encode("utf-8", "replace")) if call.ident is None else call.ident


def fitted(call: Call) -> tuple[bytes, bytes]:
    """Message and JSON as far as they fit: a long message is cut, a JSON text that is too long becomes a note of its
    length. What JSON cannot say (NaN, other objects) is said as text."""
    message = call.message.encode("utf-8", "replace")[:MESSAGE_BYTES_MAX].decode("utf-8", "ignore").encode()
    text = b""
    if call.details is not None:
        text = _json(call.details).encode("utf-8", "replace")
    if len(message) + len(text) + 4 > PAYLOAD_BYTES:
        text = b'{"too_long":%d}' % len(text)
    return message, text


def _json(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=str)
    except (TypeError, ValueError):  # keys that are no text, a NaN, a circle
        return json.dumps({"not_json": repr(value)[:1000]}, ensure_ascii=False)


def header(call: Call, payload_bytes: int) -> bytes:
    return _HEADER.pack(call.command, int(call.condition), ident(call), payload_bytes, 0, 0, TRANSPORT_PORT)


def payload(call: Call) -> bytes:
    message, text = fitted(call)
    return struct.pack("<H", len(message)) + message + struct.pack("<H", len(text)) + text


def line(call: Call) -> bytes:
    """The call as the local fallback writes it."""
    message, text = fitted(call)
    fields = [f'"command":"{NAMES[call.command]}","id":{ident(call)}']
    if call.command in WITH_CONDITION:
        fields.append(f'"condition":{"true" if call.condition else "false"}')
    fields.append(f'"message":{json.dumps(message.decode(), ensure_ascii=False)}')
    if text:
        fields.append(f'"details":{text.decode()}')
    return ("{" + ",".join(fields) + "}\n").encode()
