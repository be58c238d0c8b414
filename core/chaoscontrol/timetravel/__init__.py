"""Time travel: positions that can be written down, histories that can be branched, and the way between them."""

from chaoscontrol.timetravel.ahead import read_ahead
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
from chaoscontrol.timetravel.head import BranchHead
from chaoscontrol.timetravel.inputs import (
    AgentInput,
    ConsoleInput,
    FaultInput,
    Input,
    MemoryInput,
    PacketInput,
    Phase,
    PhaseInput,
    RegisterInput,
    ScheduleInput,
    SeedInput,
    describe,
)
from chaoscontrol.timetravel.moment import Moment, Position, format_seconds
from chaoscontrol.timetravel.multiverse import Multiverse
from chaoscontrol.timetravel.observer import Observer
from chaoscontrol.timetravel.told import Told
from chaoscontrol.timetravel.tree import NOTE_CHARS_MAX, Deleted, Mark
from chaoscontrol.timetravel.witness import ClusterWitness, Failure, Witness

__all__ = [
    "NOTE_CHARS_MAX",
    "AgentInput",
    "Branch",
    "BranchError",
    "BranchHead",
    "CancelledError",
    "ClusterWitness",
    "ConsoleInput",
    "ConsoleLog",
    "Deleted",
    "DivergenceError",
    "Ending",
    "EventLog",
    "Failure",
    "FaultInput",
    "ForetoldBranch",
    "GivenInput",
    "Input",
    "Mark",
    "MemoryInput",
    "MergedLines",
    "MergedView",
    "Moment",
    "MomentError",
    "Multiverse",
    "Observer",
    "PacketInput",
    "PastError",
    "Phase",
    "PhaseInput",
    "Position",
    "RegisterInput",
    "ScheduleInput",
    "SeedInput",
    "Told",
    "UnreachableError",
    "Witness",
    "describe",
    "format_seconds",
    "read_ahead",
    "typed_lines",
]
