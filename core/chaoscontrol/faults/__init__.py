"""Faults: the types, the schedule and its text form, what they amount to, and the engine that applies them."""

from .effects import DiskEffect, Effects, LinkEffect, MachineEffect, effects_of
from .engine import EngineState, FaultChange, FaultEngine, FaultTarget
from .schedule import FaultSchedule, FaultScheduleBuilder, Origin, ScheduledFault, format_ns, parse_ns
from .spans import FaultSpan, add_changes
from .types import (
    DISK_FAULTS,
    FAULTS,
    NETWORK_FAULTS,
    ClockJump,
    ClockSkew,
    CpuSlowdown,
    DiskCorruption,
    DiskFull,
    DiskLatencySpike,
    DiskReadError,
    DiskTornWrite,
    DiskWriteError,
    Fault,
    FaultError,
    HealAll,
    InjectInterrupt,
    InjectNmi,
    LostFlush,
    MemoryPressure,
    NetworkBandwidth,
    NetworkHeal,
    NetworkJitter,
    NetworkLatency,
    NetworkPartition,
    OneWayPartition,
    PacketCorruption,
    PacketDuplicate,
    PacketLoss,
    PacketReorder,
    ProcessKill,
    ProcessPause,
    ProcessRestart,
    SignalProcess,
    SlowDisk,
    TimerJitter,
)

__all__ = [
    "DISK_FAULTS", "FAULTS", "NETWORK_FAULTS", "ClockJump", "ClockSkew", "CpuSlowdown", "DiskCorruption", "DiskEffect",
    "DiskFull", "DiskLatencySpike", "DiskReadError", "DiskTornWrite", "DiskWriteError", "Effects", "EngineState",
    "Fault", "FaultChange", "FaultEngine", "FaultError", "FaultSchedule", "FaultScheduleBuilder", "FaultSpan",
    "FaultTarget", "HealAll", "InjectInterrupt", "InjectNmi", "LinkEffect", "LostFlush", "MachineEffect",
    "MemoryPressure", "NetworkBandwidth", "NetworkHeal", "NetworkJitter", "NetworkLatency", "NetworkPartition",
    "OneWayPartition", "Origin", "PacketCorruption", "PacketDuplicate", "PacketLoss", "PacketReorder", "ProcessKill",
    "ProcessPause", "ProcessRestart", "ScheduledFault", "SignalProcess", "SlowDisk", "TimerJitter", "add_changes",
    "effects_of", "format_ns", "parse_ns",
]  # fmt: skip
