"""Time travel: positions that can be written down, histories that can be branched, and the way between them."""

from chaoscontrol.timetravel.branch import Branch, Ending, GivenInput, typed_lines
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
from chaoscontrol.timetravel.foretold import ForetoldBranch
from chaoscontrol.timetravel.inputs import (
    AgentInput,
    ConsoleInput,
    FaultInput,
    Input,
    MemoryInput,
    Phase,
    PhaseInput,
    RegisterInput,
    ScheduleInput,
    SeedInput,
    describe,
)
from chaoscontrol.timetravel.moment import Moment, Position, format_seconds
from chaoscontrol.timetravel.multiverse import BranchHead, Multiverse
from chaoscontrol.timetravel.observer import Observer
from chaoscontrol.timetravel.witness import ClusterWitness, Failure, Witness

__all__ = [
    "AgentInput",
    "Branch",
    "BranchError",
    "BranchHead",
    "CancelledError",
    "ClusterWitness",
    "ConsoleInput",
    "ConsoleLog",
    "DivergenceError",
    "Ending",
    "EventLog",
    "Failure",
    "FaultInput",
    "ForetoldBranch",
    "GivenInput",
    "Input",
    "MemoryInput",
    "MergedLines",
    "MergedView",
    "Moment",
    "MomentError",
    "Multiverse",
    "Observer",
    "PastError",
    "Phase",
    "PhaseInput",
    "Position",
    "RegisterInput",
    "ScheduleInput",
    "SeedInput",
    "UnreachableError",
    "Witness",
    "describe",
    "format_seconds",
    "typed_lines",
]
