"""Packets in flight: copies of frames on their way to a machine, what names one, and what can be done to it.

Values only: Network looks at them and edits them, PacketInput is an edit as part of a history. Times are virtual
nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import UsageError


@dataclass(frozen=True, slots=True)
class PacketId:
    """What names a packet in flight, at one position of a history."""

    src: int
    """The machine that sent it."""
    serial: int
    """Which of the frames of that machine it is, counted from 0; as in captures."""
    dst: int
    """The machine that it is on its way to: a broadcast is on its way to several."""
    copy: int = 0
    """Which of the copies of that frame on their way to that machine, from 0, in the order in which they came about."""

    def __str__(self) -> str:
        copy = f" (copy {self.copy})" if self.copy else ""
        return f"frame {self.serial} of vm{self.src} to vm{self.dst}{copy}"


@dataclass(frozen=True, slots=True)
class PacketInFlight:
    """A packet as it is now. It was sent, and has not arrived."""

    id: PacketId
    arrival_vns: int
    data: bytes
    """The Ethernet frame, without checksum."""
    foreseen: bool = False
    """It was sent in the tick under way, and cannot be edited before that ends; this is what will become of it then."""


# ---- edits -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Drop:
    """It never arrives."""


@dataclass(frozen=True, slots=True)
class ArriveAt:
    """It arrives then, which may be sooner or later than it would have; others may overtake it."""

    vns: int


@dataclass(frozen=True, slots=True)
class CopyAt:
    """It arrives once more."""

    vns: int


@dataclass(frozen=True, slots=True)
class Overwrite:
    """Bytes of it become others; its length stays, and its checksums are what these bytes make of them."""

    pieces: tuple[tuple[int, bytes], ...]
    """Offset in the frame, and what stands there from now on."""

    def over(self, data: bytes) -> bytes:
        """What becomes of a frame. Raises UsageError for a piece that is not inside it."""
        made = bytearray(data)
        for offset, piece in self.pieces:
            if not 0 <= offset <= len(data) - len(piece):
                raise UsageError(
                    f"bytes {offset} to {offset + len(piece) - 1} are not in a frame of {len(data)} bytes",
                    hint="offsets count from the Ethernet header on",
                )
            made[offset : offset + len(piece)] = piece
        return bytes(made)


PacketEdit = Drop | ArriveAt | CopyAt | Overwrite


def captured_records(edit: PacketEdit) -> int:
    """How many records a capture has of it."""
    return 1 if isinstance(edit, Drop | CopyAt) else 2


__all__ = [
    "ArriveAt",
    "CopyAt",
    "Drop",
    "Overwrite",
    "PacketEdit",
    "PacketId",
    "PacketInFlight",
    "captured_records",
]
