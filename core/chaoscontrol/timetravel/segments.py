"""How a segment of the driver's way can end otherwise than at its end; the driver raises these and catches them."""

from chaoscontrol.timetravel.lookout import Sighting


class TornError(Exception):
    """A segment was cancelled: the machines are at different times, the latest common one being `common_vns`."""

    def __init__(self, common_vns: int) -> None:
        super().__init__(common_vns)
        self.common_vns = common_vns


class FoundError(Exception):
    """A segment went past the instant at which a machine had sent a text: byte `totals[machine]` was its last."""

    def __init__(self, totals: dict[int, int], end_vns: int) -> None:
        super().__init__(totals)
        self.totals = totals
        self.end_vns = end_vns
        """Where the segment ended."""


class PassedError(Exception):
    """A segment went past something that a lookout saw."""

    def __init__(self, sighting: Sighting, end_vns: int) -> None:
        super().__init__(sighting)
        self.sighting = sighting
        self.end_vns = end_vns
        """Where the segment ended."""


__all__ = ["FoundError", "PassedError", "TornError"]
