"""Captured frames as a pcap file with nanoseconds, which tshark and Wireshark read.

The format is libpcap's (pcap-savefile(5)): magic 0xA1B23C4D, version 2.4, link type 1 (Ethernet).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from .network import Fate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .network import CapturedFrame

_MAGIC_NS = 0xA1B23C4D
_SNAP_BYTES = 65535
_ETHERNET = 1
_NS_PER_S = 1_000_000_000


def wire_frames(frames: Iterable[CapturedFrame], vm: int | None = None) -> list[tuple[int, bytes]]:
    """(virtual time, frame) in order of time: as seen at one machine's interface, or by all senders together.

    At a machine: what it sent, once each, at the time of sending, and what arrived, at its arrival. vm None: every
    frame sent by anybody, once, whatever became of it.
    """
    found: list[tuple[int, bytes]] = []
    sent: dict[tuple[int, int], CapturedFrame] = {}
    for frame in frames:
        if vm is not None and frame.dst == vm and frame.arrival_vns is not None:
            found.append((frame.arrival_vns, frame.data))
        if vm in (None, frame.src):
            # A broadcast has one record per receiver, a doubled frame one per copy.
            known = sent.get((frame.src, frame.serial))
            if known is None or known.fate & Fate.CORRUPTED:
                sent[frame.src, frame.serial] = frame
    found += [(frame.sent_vns, frame.data) for frame in sent.values()]
    found.sort(key=lambda entry: entry[0])
    return found


def write_pcap(file: BinaryIO, frames: Iterable[tuple[int, bytes]], *, epoch_s: int = 0) -> int:
    """Writes (virtual time, frame) pairs; epoch_s: the Unix time at virtual time 0. Returns how many there were."""
    file.write(struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, _SNAP_BYTES, _ETHERNET))
    count = 0
    for vns, data in frames:
        seconds, ns = divmod(vns, _NS_PER_S)
        file.write(struct.pack("<IIII", epoch_s + seconds, ns, len(data), len(data)) + data)
        count += 1
    return count
