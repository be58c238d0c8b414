"""Time travel: positions that can be written down, histories that can be branched, and the way between them."""

from chaoscontrol.timetravel.branch import Branch, ConsoleInput, Ending, GivenInput, Input, typed_lines
from chaoscontrol.timetravel.console_log import ConsoleLog, MergedLines, MergedView
from chaoscontrol.timetravel.errors import (
    BranchError,
    CancelledError,
    DivergenceError,
    MomentError,
    PastError,
    UnreachableError,
)
from chaoscontrol.timetravel.event_log import EventLog
from chaoscontrol.timetravel.moment import Moment, Position, format_seconds
from chaoscontrol.timetravel.multiverse import BranchHead, Multiverse

__all__ = [
    "Branch",
    "BranchError",
    "BranchHead",
    "CancelledError",
    "ConsoleInput",
    "ConsoleLog",
    "DivergenceError",
    "Ending",
    "EventLog",
    "GivenInput",
    "Input",
    "MergedLines",
    "MergedView",
    "Moment",
    "MomentError",
    "Multiverse",
    "PastError",
    "Position",
    "UnreachableError",
    "format_seconds",
    "typed_lines",
]
