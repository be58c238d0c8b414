"""Captured frames as a file for Wireshark and tshark: what became of each is a comment on it.

The format is pcapng (draft-ietf-opsawg-pcapng): a section header, a description of each machine's interface with times
in nanoseconds, then the frames. Comments are what `frame.comment` finds, as in `frame.comment contains "lost"`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from .captures import merge_edits
from .network import Fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .network import CapturedFrame

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _MAJOR, _MINOR, _SECTION_BYTES_UNKNOWN = 0x1A2B3C4D, 1, 0, -1
_ETHERNET, _SNAP_BYTES = 1, 65535
_END, _COMMENT, _NAME, _FLAGS, _RESOLUTION = 0, 1, 2, 2, 9
_NANOSECONDS = b"\x09"
_INBOUND, _OUTBOUND = 1, 2
_NS_PER_S = 1_000_000_000


class WireFrame(NamedTuple):
    """A frame as it passed a machine's interface."""

    vns: int
    """Virtual time, nanoseconds."""
    vm: int
    """The machine."""
    sent: bool
    """It was sent there; else it was received."""
    data: bytes
    comment: str = ""
    """What became of it, where that is not just that it was delivered."""


def wire_frames(frames: Iterable[CapturedFrame], vm: int | None = None) -> list[WireFrame]:
    """Frames in order of time: as seen at one machine's interface, or by all senders together.

    At a machine: what it sent, once each, at the time of sending, and what arrived, at its arrival. vm None: every
    frame sent by anybody, once, whatever became of it.
    """
    found: list[WireFrame] = []
    sent: dict[tuple[int, int], list[CapturedFrame]] = {}
    whole: dict[tuple[int, int], bytes] = {}
    frames = list(frames)
    for frame in frames:
        if not frame.fate & (Fate.CORRUPTED | Fate.TAKEN | Fate.EDITED):
            whole.setdefault((frame.src, frame.serial), frame.data)
    for frame in merge_edits(frames):
        if vm is not None and frame.dst == vm and frame.arrival_vns is not None:
            found.append(WireFrame(frame.arrival_vns, vm, False, frame.data, frame.fate.text))
        if vm in (None, frame.src):
            # A broadcast has one record per receiver, a doubled frame one per copy.
            sent.setdefault((frame.src, frame.serial), []).append(frame)
    for (src, serial), copies in sent.items():
        told = [f"to vm{copy.dst}: {copy.fate.text}" for copy in copies if copy.fate.text]
        data = whole.get((src, serial), copies[0].data)
        found.append(WireFrame(copies[0].sent_vns, src, True, data, "; ".join(told)))
    found.sort(key=lambda entry: entry.vns)
    return found


def write_pcap(file: BinaryIO, frames: Sequence[WireFrame], *, epoch_s: int = 0) -> None:
    """Writes frames in their order, each at its machine's interface; epoch_s: the Unix time at virtual time 0."""
    file.write(_block(_SECTION, struct.pack("<IHHq", _BYTE_ORDER, _MAJOR, _MINOR, _SECTION_BYTES_UNKNOWN)))
    for vm in range(1 + max((frame.vm for frame in frames), default=0)):
        options = _options((_NAME, f"vm{vm}".encode()), (_RESOLUTION, _NANOSECONDS))
        file.write(_block(_INTERFACE, struct.pack("<HHI", _ETHERNET, 0, _SNAP_BYTES) + options))
    for frame in frames:
        high, low = divmod(epoch_s * _NS_PER_S + frame.vns, 1 << 32)
        size = len(frame.data)
        head = struct.pack("<IIIII", frame.vm, high, low, size, size)
        direction = struct.pack("<I", _OUTBOUND if frame.sent else _INBOUND)
        options = _options((_FLAGS, direction), *[(_COMMENT, frame.comment.encode())] * bool(frame.comment))
        file.write(_block(_PACKET, head + _padded(frame.data) + options))


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _options(*options: tuple[int, bytes]) -> bytes:
    parts = [struct.pack("<HH", code, len(value)) + _padded(value) for code, value in (*options, (_END, b""))]
    return b"".join(parts)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


__all__ = ["WireFrame", "wire_frames", "write_pcap"]
