"""Reading ahead: living through what was foretold while nobody asks for anything, so that jumps there are short."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from chaoscontrol.timetravel.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoscontrol.timetravel.multiverse import Multiverse

STRIDE_NS = 100_000_000
"""How often it is asked whether that is enough, virtual nanoseconds."""


def unread_vns(multiverse: Multiverse) -> int | None:
    """Up to where the cursor has been on the foretold part of its line; None if nothing is foretold after that."""
    for name, last in multiverse.line().items():
        passed_vns = multiverse.find_branch(name).passed_vns
        if passed_vns is not None and passed_vns < last.vns:
            return passed_vns
    return None


def read_ahead(multiverse: Multiverse, enough: Callable[[], bool]) -> bool:
    """Live through more of what was foretold on the cursor's line, until that is `enough`, or it is cancelled.

    The cursor is afterwards where it was; what it leaves are snapshots, consoles, and digests compared. Returns whether
    something is left. Raises ChaosControlError: history did not repeat itself.
    """
    if unread_vns(multiverse) is None:
        return False
    with multiverse.excursion(), suppress(CancelledError):
        _read(multiverse, enough)
    return unread_vns(multiverse) is not None


def _read(multiverse: Multiverse, enough: Callable[[], bool]) -> None:
    while (vns := unread_vns(multiverse)) is not None:
        if multiverse.position.vns != vns:
            multiverse.goto_time(vns)
        last = max(at.vns for at in multiverse.line().values())
        multiverse.run_to(min(vns + STRIDE_NS, last))
        if enough():
            return


__all__ = ["read_ahead", "unread_vns"]
