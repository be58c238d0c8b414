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
from chaoscontrol.debug.origins import Hop, Read
from chaoscontrol.debug.probe import ProbeResult, probe
from chaoscontrol.watches import Device, WatchHit, WatchKind, Who

__all__ = [
    "Breakpoint",
    "Cause",
    "Condition",
    "ConsoleText",
    "DebugStop",
    "Debugger",
    "Device",
    "EventPoint",
    "Hop",
    "PacketReceived",
    "PacketSent",
    "ProbeResult",
    "Read",
    "WatchHit",
    "WatchKind",
    "Watchpoint",
    "Who",
    "assertions",
    "faults",
    "probe",
]
