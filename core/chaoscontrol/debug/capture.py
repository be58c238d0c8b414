"""Capture: the frames that the network carries while history is lived through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.timetravel.lookout import Lookout, Sighting, Spoken

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chaoscontrol.events import Event
    from chaoscontrol.network import CapturedFrame, FrameTap, Network

FRAMES_MAX = 100_000
"""Frames kept of a stretch, the last ones: a guest must not fill the host's memory."""


class Capture(Lookout):
    """Keeps the frames of the segments that history is lived through in. Use it with Multiverse.scan()."""

    def __init__(self, network: Network, progress: Callable[[int], None]) -> None:
        self._network = network
        self._tap: FrameTap | None = None
        self._progress = progress
        self.frames: list[CapturedFrame] = []
        """In the order of sending within each segment."""
        self.missed = 0

    def __enter__(self) -> Capture:
        self._tap = self._network.tap()
        return self

    def __exit__(self, *_: object) -> None:
        if self._tap is not None:
            self._tap.close()

    def begin(self) -> None:
        # What a segment brought that is lived through anew comes again.
        self._take()

    def given(self) -> None:
        self._keep()

    def look(self, end_vns: int, pending: Sequence[Event], spoken: Sequence[Spoken]) -> Sighting | None:
        self._progress(end_vns)
        self._keep()
        return None

    def _take(self) -> tuple[list[CapturedFrame], int]:
        assert self._tap is not None, "it is a context manager"
        return self._tap.take()

    def _keep(self) -> None:
        frames, missed = self._take()
        self.frames += frames
        self.missed += missed
        if len(self.frames) > FRAMES_MAX:
            self.missed += len(self.frames) - FRAMES_MAX
            del self.frames[:-FRAMES_MAX]


__all__ = ["FRAMES_MAX", "Capture"]
