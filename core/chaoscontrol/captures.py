"""Captures: what was captured of a network, put together. Edits of packets have records of their own there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from .network import CapturedFrame, Fate

if TYPE_CHECKING:
    from collections.abc import Iterable


def merge_edits(frames: Iterable[CapturedFrame]) -> list[CapturedFrame]:
    """Captured frames with one record for each copy: what became of it in the end.

    A copy that an edit changed is as the edit left it; one that an edit dropped is lost. Edits of frames whose sending
    was not captured are left out.
    """
    merged: list[CapturedFrame] = []
    places: dict[tuple[int, int, int], list[int]] = {}
    taken: int | None = None
    for frame in frames:
        copies = places.setdefault((frame.src, frame.serial, frame.dst), [])
        if frame.fate & Fate.TAKEN:
            was = frame.arrival_vns, frame.data
            taken = next((at for at in copies if (merged[at].arrival_vns, merged[at].data) == was), None)
            if taken is not None:
                fate = merged[taken].fate & ~(Fate.DELIVERED | Fate.EDITED) | Fate.TAKEN
                merged[taken] = dataclasses.replace(merged[taken], arrival_vns=None, fate=fate)
            continue
        if not frame.fate & Fate.EDITED:
            copies.append(len(merged))
            merged.append(frame)
        elif frame.fate & Fate.DUPLICATE and copies:
            first = merged[copies[0]]
            copies.append(len(merged))
            merged.append(dataclasses.replace(frame, switched_vns=first.switched_vns, sent_vns=first.sent_vns))
        elif taken is not None:
            fate = merged[taken].fate & ~Fate.TAKEN | Fate.DELIVERED | Fate.EDITED
            merged[taken] = dataclasses.replace(
                merged[taken], arrival_vns=frame.arrival_vns, data=frame.data, fate=fate
            )
        taken = None
    return merged


__all__ = ["merge_edits"]
