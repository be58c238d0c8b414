"""The debugger: breakpoints, watchpoints and stepping through the history of a cluster, forward and back."""

from chaoscontrol.debug.conditions import (
    Breakpoint,
    Cause,
    Condition,
    ConsoleText,
    EventPoint,
    PacketReceived,
    PacketSent,
    Watchpoint,
    assertions,
    faults,
)
from chaoscontrol.debug.debugger import Debugger, DebugStop

__all__ = [
    "Breakpoint",
    "Cause",
    "Condition",
    "ConsoleText",
    "DebugStop",
    "Debugger",
    "EventPoint",
    "PacketReceived",
    "PacketSent",
    "Watchpoint",
    "assertions",
    "faults",
]
