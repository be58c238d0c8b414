"""Causality: which messages, and which part of every machine's history, happened before a failure.

From the frames that the network carried while a stretch of history was lived through again. A frame links its sending
to its arrival; walking back from the failure over the arrivals, latest first, gives for every machine the last
instant that can have had an effect (its reach). One pass is enough: a frame that arrived earlier was also sent
earlier, so it never moves a reach to where it would let in one that was passed over.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from chaoscontrol.captures import merge_edits
from chaoscontrol.network import Fate
from chaoscontrol.packets import read_packet
from chaoscontrol.triage.report import Causality, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaoscontrol.network import CapturedFrame

MESSAGES_MAX = 200
CHAIN_MAX = 12
PAYLOAD_SHOWN = 64
"""Bytes of a payload that a report carries."""

_LOSSES = (
    (Fate.LOST_DOWN, "lost: the link was down"),
    (Fate.LOST_RANDOM, "lost: packet loss"),
    (Fate.LOST_QUEUE, "lost: the sender's queue was full"),
    (Fate.LOST_RECEIVER, "lost: the receiver took no more"),
    (Fate.TAKEN, "lost: an edit took it away"),
)


def arrived_by(frame: CapturedFrame, vns: int) -> bool:
    """Had its receiver got it?"""
    return bool(frame.fate & Fate.DELIVERED) and frame.arrival_vns is not None and frame.arrival_vns <= vns


def reaches(frames: Sequence[CapturedFrame], vms: int, vm: int | None, vns: int) -> tuple[list[int | None], set[int]]:
    """Per machine the last instant that happened before `vns` in machine `vm` (None: in all of them), and the places
    of the frames that did."""
    found: list[int | None] = [vns if vm in (None, machine) else None for machine in range(vms)]
    past: set[int] = set()
    arrived = [(frame.arrival_vns or 0, at) for at, frame in enumerate(frames) if arrived_by(frame, vns)]
    for arrival_vns, at in sorted(arrived, reverse=True):
        frame = frames[at]
        reach = found[frame.dst]
        if reach is not None and arrival_vns <= reach:
            past.add(at)
            found[frame.src] = max(found[frame.src] or 0, frame.sent_vns)
    return found, past


def chain(frames: Sequence[CapturedFrame], vm: int, vns: int) -> list[int]:
    """Places of the frames with data that lead to `vm` at `vns`, the last first."""
    arrivals = sorted(
        ((frame.arrival_vns or 0, at) for at, frame in enumerate(frames) if arrived_by(frame, vns)), reverse=True
    )
    found: list[int] = []
    for arrival_vns, at in arrivals:
        frame = frames[at]
        if arrival_vns <= vns and frame.dst == vm and read_packet(frame.data).payload:
            found.append(at)
            vm, vns = frame.src, frame.sent_vns
            if len(found) == CHAIN_MAX:
                break
    return found


def causality(
    frames: Sequence[CapturedFrame],
    *,
    vms: int,
    vm: int | None,
    vns: int,
    from_vns: int,
    missed: int = 0,
    meaning_of: Callable[[bytes], str] | None = None,
) -> Causality:
    """What led to `vns` in machine `vm` (None: in all of them), by the frames sent from `from_vns` on."""
    # Those that the rest of the last tick sent are of no interest.
    frames = [frame for frame in merge_edits(frames) if frame.sent_vns <= vns]
    found, past = reaches(frames, vms, vm, vns)
    chains = [chain(frames, machine, vns) for machine in range(vms)]
    listed = [at for at, frame in enumerate(frames) if read_packet(frame.data).payload]
    kept = sorted({*listed[-MESSAGES_MAX:], *itertools.chain(*chains)}, key=lambda at: (frames[at].sent_vns, at))
    places = {at: place for place, at in enumerate(kept)}
    return Causality(
        from_vns=from_vns,
        judged_outside=vm is None,
        messages=tuple(_message(frames[at], vns, at in past, meaning_of) for at in kept),
        chains=tuple(tuple(places[at] for at in links) for links in chains),
        reaches=tuple(found),
        in_past=len(past),
        lost=sum(not frame.fate & Fate.DELIVERED for frame in frames),
        missed=missed,
    )


def _message(frame: CapturedFrame, vns: int, in_past: bool, meaning_of: Callable[[bytes], str] | None) -> Message:
    summary, payload = read_packet(frame.data)
    return Message(
        src=frame.src,
        dst=frame.dst,
        sent_vns=frame.sent_vns,
        arrival_vns=frame.arrival_vns if frame.fate & Fate.DELIVERED else None,
        fate=_fate(frame, vns),
        summary=summary,
        meaning="" if meaning_of is None else meaning_of(payload),
        payload_bytes=len(payload),
        payload=payload[:PAYLOAD_SHOWN].hex(),
        in_past=in_past,
    )


def _fate(frame: CapturedFrame, vns: int) -> str:
    if not frame.fate & Fate.DELIVERED:
        return next((text for bit, text in _LOSSES if frame.fate & bit), "lost")
    more = ((Fate.CORRUPTED, "a bit flipped"), (Fate.DUPLICATE, "a copy"), (Fate.EDITED, "edited"))
    extra = [text for bit, text in more if frame.fate & bit]
    return ", ".join(["delivered" if arrived_by(frame, vns) else "in flight", *extra])


__all__ = ["causality", "chain", "reaches"]
