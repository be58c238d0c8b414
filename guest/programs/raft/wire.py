"""What the nodes of the raft guest say to each other, for a person: the messages of codec.h as one line each.

A frame is u32 length of the payload, u32 checksum of the payload, payload. What does not fit the format is called so.
"""

from __future__ import annotations

import struct

HEADER = struct.Struct("<II")
PAYLOAD_BYTES_MAX = 1024
NOBODY = 0xFF
HELLO, RAFT, REQUEST, REPLY = range(1, 5)
VOTE_REQUEST, VOTE_REPLY, APPEND, APPEND_REPLY = range(1, 5)
_HELLO = struct.Struct("<xB?")
_RAFT = struct.Struct("<xBBBBIIIQIII25xI")
"""kind, from, to, yes, term, index, index_term, index_hash, commit, last, round; facts; count."""
_REQUEST = struct.Struct("<xIIHHQQ")
_REPLY = struct.Struct("<xIIBBIIIQ")
_OPS = ("noop", "put", "compare-and-set", "get")
_STATUSES = ("ok", "mismatch", "redirect", "retry", "log full")


def checksum32(data: bytes) -> int:
    """As codec.c has it."""
    state = len(data)
    for at in range(0, len(data) // 8 * 8 + 8, 8):
        state = (state ^ int.from_bytes(data[at : at + 8], "little")) * 0x9E3779B97F4A7C15 % (1 << 64)
        state ^= state >> 32
    return state & 0xFFFF_FFFF


def describe_message(data: bytes) -> str:
    """The messages in the data of one TCP segment."""
    found: list[str] = []
    at = 0
    while at < len(data):
        if len(data) - at < HEADER.size:
            found.append("part of a message")
            break
        size, checksum = HEADER.unpack_from(data, at)
        at += HEADER.size
        payload = data[at : at + size]
        if not 0 < size <= PAYLOAD_BYTES_MAX or len(payload) < size:
            found.append("part of a message")
            break
        found.append(_payload(payload) if checksum32(payload) == checksum else "a damaged message")
        at += size
    return "; ".join(found)


def _payload(payload: bytes) -> str:
    try:
        match payload[0]:
            case 1:
                node, is_client = _HELLO.unpack(payload)
                return f"hello from {'the client of ' if is_client else ''}node {node}"
            case 2:
                return _raft(*_RAFT.unpack_from(payload))
            case 3:
                client, seq, op, key, value, expect = _REQUEST.unpack(payload)
                what = f" = {value}" + (f" if {expect}" if op == 2 else "") if op in (1, 2) else ""
                return f"client {client}, request {seq}: {_named(_OPS, op)} key {key}{what}"
            case 4:
                client, seq, status, leader, term, index, _, value = _REPLY.unpack(payload)
                who = "" if leader == NOBODY else f", node {leader} leads term {term}"
                return (
                    f"to client {client}, request {seq}: {_named(_STATUSES, status)}, value {value}, entry {index}{who}"
                )
            case kind:
                return f"a message of kind {kind}"
    except struct.error:
        return "a message that is cut off"


def _raft(kind: int, sender: int, to: int, yes: int, term: int, index: int, index_term: int, _hash: int, commit: int,
          last: int, _round: int, count: int) -> str:  # fmt: skip
    match kind:
        case 1:
            return f"vote request, term {term}, last entry {index} of term {index_term}"
        case 2:
            return f"vote {'granted' if yes else 'refused'}, term {term}"
        case 3:
            entries = f"{count} {'entry' if count == 1 else 'entries'}" if count else "heartbeat"
            return f"append, term {term}: {entries} after {index} of term {index_term}, committed {commit}"
        case 4:
            return f"append {'accepted' if yes else 'refused'}, term {term}: up to {index}"
        case _:
            return f"a raft message of kind {kind}"


def _named(names: tuple[str, ...], at: int) -> str:
    return names[at] if at < len(names) else f"number {at}"


__all__ = ["describe_message"]
