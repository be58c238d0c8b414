"""The debugger: breakpoints, watchpoints and stepping through the history of a cluster, forward and back."""

from chaoscontrol.debug.conditions import (
    Breakpoint,
    Cause,
    Condition,
    ConsoleText,
    DebugStop,
    EventPoint,
    PacketReceived,
    PacketSent,
    Watchpoint,
    assertions,
    faults,
)
from chaoscontrol.debug.debugger import Debugger
from chaoscontrol.debug.diff import Comparer, Diff
from chaoscontrol.debug.origins import Hop, Read
from chaoscontrol.debug.parting import Parting, PartingFinder
from chaoscontrol.debug.probe import ProbeResult, probe
from chaoscontrol.watches import Device, WatchHit, WatchKind, Who

__all__ = [
    "Breakpoint",
    "Cause",
    "Comparer",
    "Condition",
    "ConsoleText",
    "DebugStop",
    "Debugger",
    "Device",
    "Diff",
    "EventPoint",
    "Hop",
    "PacketReceived",
    "PacketSent",
    "Parting",
    "PartingFinder",
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
