"""Faults, schedules, inputs and events as arrays of simple values, and back.

What is read is checked in full: by type here, by range in the classes themselves.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from chaoscontrol.cluster import VMS_MAX
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import FAULTS, Fault, FaultChange, FaultError, FaultSchedule, Origin, ScheduledFault
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId
from chaoscontrol.network import FRAME_BYTES_MAX
from chaoscontrol.protocol import Command, SdkEvent, Status
from chaoscontrol.recording.fields import U32, U64, Fields, Place, entries
from chaoscontrol.registers import EDITABLE
from chaoscontrol.timetravel import (
    AgentInput,
    ConsoleInput,
    FaultInput,
    GivenInput,
    MemoryInput,
    PacketInput,
    Phase,
    PhaseInput,
    Position,
    RegisterInput,
    ScheduleInput,
    SeedInput,
)

if TYPE_CHECKING:
    from chaoscontrol.in_flight import PacketEdit
    from chaoscontrol.timetravel import Input

VM_MAX = VMS_MAX - 1
NAME_MAX = 256
FAULTS_MAX = 100_000
"""Faults in one schedule."""
VALUE_BYTES_MAX = 16
"""Of a register."""
ORDINAL_MAX = U32
ORIGINS = tuple(Origin)
EVENT_KINDS = (
    EventKind.CONSOLE, EventKind.SDK, EventKind.FAULT, EventKind.DISK, EventKind.NETWORK, EventKind.POWER,
    EventKind.AGENT, EventKind.END,
)  # fmt: skip
"""By their number in the file: new ones come at the end."""
COMMANDS = tuple(Command)
STATUSES = tuple(Status)


# ---- positions -------------------------------------------------------------------------------------------------------


def position_of(fields: Fields, what: str) -> Position:
    """The next two fields as a position."""
    return Position(fields.whole(f"{what}.vns"), fields.whole(f"{what}.ordinal", 0, ORDINAL_MAX))


# ---- faults ----------------------------------------------------------------------------------------------------------


def fault_values(fault: Fault) -> list[object]:
    """[kind, its fields in order]."""
    return [fault.kind(), *(getattr(fault, field.name) for field in dataclasses.fields(fault))]


def read_fault(value: object, what: str, place: Place) -> Fault:
    """A fault from `fault_values`."""
    values = entries(value, what, place)
    kind = values[0] if values else None
    if not isinstance(kind, str) or kind not in FAULTS:
        place.fail(f"{what} is of no kind of fault that there is")
    cls = FAULTS[kind]
    fields = dataclasses.fields(cls)
    if len(values) != len(fields) + 1:
        place.fail(f"{what} has {len(values)} fields instead of {len(fields) + 1}")
    for field, given in zip(fields, values[1:], strict=True):
        # The classes check ranges; what a wrong type could slip past them is refused here.
        wanted: type | tuple[type, ...] = (int, str, tuple, type(None))
        if field.type == "bool":
            wanted = bool
        if not isinstance(given, wanted) or (field.type != "bool" and isinstance(given, bool)):
            place.fail(f"{what}.{field.name} is of the wrong type")
    try:
        return cls(*cast("tuple[Any, ...]", values[1:]))
    except FaultError as e:
        place.fail(f"{what}: {e.what}")


def schedule_values(schedule: FaultSchedule) -> list[object]:
    """[origin, [[at_ns, duration_ns or nil, fault]...]]."""
    faults = [[s.at_ns, s.duration_ns, fault_values(s.fault)] for s in schedule.faults]
    return [ORIGINS.index(schedule.origin), faults]


def read_schedule(value: object, what: str, place: Place) -> FaultSchedule:
    """A schedule from `schedule_values`."""
    fields = Fields(value, 2, what, place)
    origin = ORIGINS[fields.whole("origin", 0, len(ORIGINS) - 1)]
    faults: list[ScheduledFault] = []
    for number, entry in enumerate(fields.array("faults", FAULTS_MAX)):
        here = f"{what}.faults[{number}]"
        scheduled = Fields(entry, 3, here, place)
        at_ns, duration_ns = scheduled.whole("at_ns"), scheduled.whole_or_none("duration_ns")
        fault = read_fault(scheduled.any(), f"{here}.fault", place)
        try:
            faults.append(ScheduledFault(at_ns, fault, duration_ns))
        except FaultError as e:
            place.fail(f"{here}: {e.what}")
    return FaultSchedule(tuple(faults), origin)


# ---- inputs ----------------------------------------------------------------------------------------------------------


def input_values(given: Input) -> list[object]:
    """[number of the kind, its fields]."""
    match given:
        case ConsoleInput(machine, data):
            return [0, machine, data]
        case AgentInput(machine, data):
            return [1, machine, data]
        case FaultInput(fault, duration_ns):
            return [2, fault_values(fault), duration_ns]
        case ScheduleInput(schedule):
            return [3, *schedule_values(schedule)]
        case SeedInput(seed):
            return [4, seed, None]
        case PhaseInput(phase):
            return [5, str(phase), None]
        case MemoryInput(machine, address, data):
            return [6, machine, [address, data]]
        case RegisterInput(machine, name, value):
            return [7, machine, [name, value.to_bytes(VALUE_BYTES_MAX, "little")]]
        case PacketInput(packet, edit):
            return [8, [packet.src, packet.serial, packet.dst, packet.copy], _edit_values(edit)]


def _edit_values(edit: PacketEdit) -> list[object]:
    match edit:
        case Drop():
            return [0, None]
        case ArriveAt(vns):
            return [1, vns]
        case CopyAt(vns):
            return [2, vns]
        case Overwrite(pieces):
            return [3, [[offset, piece] for offset, piece in pieces]]


def read_input(value: object, what: str, place: Place) -> Input:
    """An input from `input_values`."""
    fields = Fields(value, 3, what, place)
    match fields.whole("kind", 0, 8):
        case 0:
            return ConsoleInput(fields.whole("machine", 0, VM_MAX), fields.binary("data"))
        case 1:
            return AgentInput(fields.whole("machine", 0, VM_MAX), fields.binary("data"))
        case 2:
            fault = read_fault(fields.any(), f"{what}.fault", place)
            return FaultInput(fault, fields.whole_or_none("duration_ns"))
        case 3:
            return ScheduleInput(read_schedule(cast("tuple[object, ...]", value)[1:], f"{what}.schedule", place))
        case 4:
            return SeedInput(fields.whole("seed"))
        case 5:
            return PhaseInput(Phase(fields.text("phase", NAME_MAX, tuple(Phase))))
        case 6:
            machine = fields.whole("machine", 0, VM_MAX)
            write = Fields(fields.any(), 2, f"{what}.write", place)
            return MemoryInput(machine, write.whole("address"), write.binary("data"))
        case 7:
            machine = fields.whole("machine", 0, VM_MAX)
            register = Fields(fields.any(), 2, f"{what}.register", place)
            name, value = register.text("name", NAME_MAX, tuple(EDITABLE)), register.binary("value", VALUE_BYTES_MAX)
            return RegisterInput(machine, name, int.from_bytes(value, "little"))
        case _:
            packet = Fields(fields.any(), 4, f"{what}.packet", place)
            src, serial = packet.whole("src", 0, VM_MAX), packet.whole("serial")
            named = PacketId(src, serial, packet.whole("dst", 0, VM_MAX), packet.whole("copy", 0, U32))
            return PacketInput(named, _read_edit(fields.any(), f"{what}.edit", place))


def _read_edit(value: object, what: str, place: Place) -> PacketEdit:
    fields = Fields(value, 2, what, place)
    match fields.whole("kind", 0, 3):
        case 0:
            if not fields.none():
                fields.refuse("nothing", fields.any(), "nil")
            return Drop()
        case 1:
            return ArriveAt(fields.whole("vns"))
        case 2:
            return CopyAt(fields.whole("vns"))
        case _:
            pieces = [
                Fields(piece, 2, f"{what}.pieces[{at}]", place)
                for at, piece in enumerate(fields.array("pieces", FRAME_BYTES_MAX))
            ]
            return Overwrite(
                tuple(
                    (piece.whole("offset", 0, FRAME_BYTES_MAX), piece.binary("bytes", FRAME_BYTES_MAX))
                    for piece in pieces
                )
            )


def given_values(given: GivenInput) -> list[object]:
    """[vns, ordinal, instret, input]."""
    return [given.at.vns, given.at.ordinal, given.instret, input_values(given.input)]


def read_given(value: object, what: str, place: Place) -> GivenInput:
    """A given input from `given_values`."""
    fields = Fields(value, 4, what, place)
    at = position_of(fields, "at")
    return GivenInput(at, fields.whole("instret"), read_input(fields.any(), f"{what}.input", place))


# ---- events ----------------------------------------------------------------------------------------------------------


def event_values(event: Event) -> list[object]:
    """[vns, vm, instret, number of the kind, data]."""
    data = event.data
    if isinstance(data, SdkEvent):
        data = [
            COMMANDS.index(data.command), data.condition, STATUSES.index(data.status), data.id, data.evaluations,
            data.message, data.json,
        ]  # fmt: skip
    elif isinstance(data, FaultChange):
        data = [data.vns, data.begins, data.number, fault_values(data.fault)]
    return [event.vns, event.vm, event.instret, EVENT_KINDS.index(event.kind), data]


def read_event(value: object, what: str, place: Place) -> Event:
    """An event from `event_values`."""
    fields = Fields(value, 5, what, place)
    vns, vm, instret = fields.whole("vns"), fields.whole("vm", -1, VM_MAX), fields.whole("instret")
    kind = EVENT_KINDS[fields.whole("kind", 0, len(EVENT_KINDS) - 1)]
    if kind in (EventKind.CONSOLE, EventKind.END):
        return Event(vns, vm, instret, kind, fields.text("text"))
    if kind is EventKind.SDK:
        return Event(vns, vm, instret, kind, _read_sdk(fields.any(), f"{what}.request", place))
    if kind is EventKind.FAULT:
        data = fields.any()
        if isinstance(data, str):
            return Event(vns, vm, instret, kind, data)
        return Event(vns, vm, instret, kind, _read_change(data, f"{what}.change", place))
    return Event(vns, vm, instret, kind, fields.binary("data"))


def _read_sdk(value: object, what: str, place: Place) -> SdkEvent:
    fields = Fields(value, 7, what, place)
    return SdkEvent(
        COMMANDS[fields.whole("command", 0, len(COMMANDS) - 1)],
        fields.flag("condition"),
        STATUSES[fields.whole("status", 0, len(STATUSES) - 1)],
        fields.whole("id", 0, U32),
        fields.whole("evaluations", 0, U64),
        fields.text("message"),
        fields.text("json"),
    )


def _read_change(value: object, what: str, place: Place) -> FaultChange:
    fields = Fields(value, 4, what, place)
    vns, begins, number = fields.whole("vns"), fields.flag("begins"), fields.whole("number")
    return FaultChange(vns, read_fault(fields.any(), f"{what}.fault", place), begins, number)
