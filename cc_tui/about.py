"""About: where a session's history comes from, for reports by which others repeat it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaoscontrol.timetravel import Failure
    from chaoscontrol.triage import Recipe


@dataclass(frozen=True, slots=True)
class About:
    """What a session does not keep of what it was opened from."""

    recipe: Callable[[], Recipe]
    """What the cluster was made from. Asked for when it is wanted: images have to be read for it."""
    observer: str | None = None
    """ "module:Class" of what judges it."""
    path: str | None = None
    """The recording that it was opened from."""
    recorded: tuple[tuple[str, Failure], ...] = ()
    """Branch and failure of every bug in that, in the order of their numbers."""


__all__ = ["About"]
