"""The wire format between a guest's SDK and the host: the hypercall page, and what the engine reports of it.

Owns the layout and its validation: nothing a guest can put in the page raises anything but ProtocolError. The
requests are answered in native/sdk.c; this module reads what that queued, and writes pages for tests. The numbers are
listed in docs/guest-programs.md.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import struct
from typing import Any, cast

from .errors import ChaosControlError

HYPERCALL_GPA = 0xFE000
COVERAGE_GPA = 0xE0000
COVERAGE_BYTES = 0x10000
PAGE_BYTES = 4096
PAYLOAD_AT = 0x20
PAYLOAD_BYTES = PAGE_BYTES - PAYLOAD_AT
CONDITION = 1
"""Bit of the flags: the condition was true."""

_HEAD = struct.Struct("<BBxxIH6xQBB")
_EVENT = struct.Struct("<BBBBIQHHI")
_FNV_BASIS, _FNV_PRIME = 0x811C9DC5, 0x01000193


class ProtocolError(ChaosControlError):
    """A guest's request contradicts the format."""


class Command(enum.IntEnum):
    """What a request asks for."""

    ALWAYS = 0x01
    SOMETIMES = 0x02
    REACHABLE = 0x03
    UNREACHABLE = 0x04
    CATALOG = 0x05
    GUIDANCE = 0x07
    SETUP_COMPLETE = 0x10
    SEND_EVENT = 0x11
    RANDOM_GET = 0x20
    RANDOM_CHOICE = 0x21
    COVERAGE_INIT = 0x30


class Status(enum.IntEnum):
    """How it was answered."""

    OK = 0
    ERROR = 1
    ALWAYS_FAILED = 2
    UNREACHABLE_REACHED = 3


def fnv1a(text: str | bytes) -> int:
    """The 32-bit FNV-1a hash by which properties are named."""
    value = _FNV_BASIS
    for byte in text.encode() if isinstance(text, str) else text:
        value = (value ^ byte) * _FNV_PRIME & 0xFFFFFFFF
    return value


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """The hypercall page, as the guest filled it and the host answered it."""

    command: int
    """A Command, or a number that is none."""
    condition: bool = False
    id: int = 0
    """Of the property; for RANDOM_CHOICE the number of choices."""
    message: bytes = b""
    json: bytes = b""
    transport: int = 2
    """1 vmcall, 2 port."""
    result: int = 0
    status: int = 0

    def encode(self) -> bytes:
        """The page of 4096 bytes. Raises ProtocolError if message and JSON do not fit."""
        payload = b""
        if self.message or self.json:
            payload = b"".join(struct.pack("<H", len(part)) + part for part in (self.message, self.json))
        if len(payload) > PAYLOAD_BYTES:
            raise ProtocolError(f"a payload of {len(payload)} bytes", hint=f"at most {PAYLOAD_BYTES} fit")
        flags = CONDITION if self.condition else 0
        head = _HEAD.pack(self.command, flags, self.id, len(payload), self.result, self.status, self.transport)
        return (head.ljust(PAYLOAD_AT, b"\0") + payload).ljust(PAGE_BYTES, b"\0")

    @classmethod
    def decode(cls, page: bytes) -> Request:
        """Reads a page. Raises ProtocolError where its lengths contradict each other, as the engine does."""
        if len(page) != PAGE_BYTES:
            raise ProtocolError(f"a hypercall page of {len(page)} bytes", hint=f"it has {PAGE_BYTES}")
        command, flags, id_, size, result, status, transport = _HEAD.unpack_from(page)
        if size > PAYLOAD_BYTES:
            raise ProtocolError(f"a payload length of {size}", hint=f"at most {PAYLOAD_BYTES}")
        rest = page[PAYLOAD_AT : PAYLOAD_AT + size]
        message, rest = _take(rest, "message")
        json_text, _ = _take(rest, "JSON")
        return cls(command, bool(flags & CONDITION), id_, message, json_text, transport, result, status)


def _take(data: bytes, what: str) -> tuple[bytes, bytes]:
    if not data:
        return b"", b""
    if len(data) < 2:
        raise ProtocolError(f"the payload ends inside the length of the {what}")
    size = int.from_bytes(data[:2], "little")
    if size > len(data) - 2:
        raise ProtocolError(f"the {what} of {size} bytes passes the end of the payload")
    return data[2 : 2 + size], data[2 + size :]


@dataclasses.dataclass(frozen=True, slots=True)
class SdkEvent:
    """One request worth reading, as the engine reports it."""

    command: Command
    condition: bool
    status: Status
    id: int
    evaluations: int
    """Of this property, this one included; 0 for what is no assertion."""
    message: str
    json: str
    """The details as the guest wrote them."""

    @property
    def failed(self) -> bool:
        """Whether this evaluation breaks a property: an always that was false, an unreachable that was reached."""
        return self.status in (Status.ALWAYS_FAILED, Status.UNREACHABLE_REACHED)

    @property
    def details(self) -> dict[str, Any]:
        """The details as a dictionary; empty if they are no JSON object."""
        return parse_details(self.json)

    @classmethod
    def decode(cls, payload: bytes) -> SdkEvent:
        """Reads the payload of a CC_EVENT_SDK record. Raises ProtocolError for what the engine never writes."""
        try:
            command, flags, status, _, id_, evaluations, message, text, _ = _EVENT.unpack_from(payload)
            body = payload[_EVENT.size :]
            if len(body) < message + text:
                raise ProtocolError("an SDK event is shorter than it says")
            return cls(
                Command(command),
                bool(flags & CONDITION),
                Status(status),
                id_,
                evaluations,
                body[:message].decode(errors="replace"),
                body[message : message + text].decode(errors="replace"),
            )
        except (struct.error, ValueError) as e:
            raise ProtocolError(f"an SDK event that cannot be read: {e}") from None


def _finite(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text


def parse_details(text: str) -> dict[str, Any]:
    """A guest's JSON object as a dictionary; empty for anything else, however malformed or deep.

    What is in it can be printed and written as JSON: halves of surrogate pairs are replaced; NaN and the infinities,
    which Python's SDKs write and JSON does not have, become their names, as do numbers too large for a float.
    """
    try:
        value: object = json.loads(text, parse_constant=str, parse_float=_finite)
        if "\\u" in text:
            whole = json.dumps(value, ensure_ascii=False).encode(errors="replace")
            value = json.loads(whole)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
