"""Inputs: everything that can be given to a branch, as values, and how each is applied to a cluster.

Together with images, configuration and seed they are the whole recipe of a history. Each is applied at one position,
by the same function when it is given and when it is repeated.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite
from chaoscontrol.timetravel.moment import format_seconds

if TYPE_CHECKING:
    from chaoscontrol.faults import Fault, FaultSchedule
    from chaoscontrol.in_flight import PacketEdit, PacketId
    from chaoscontrol.timetravel.cluster_api import Cluster


@dataclass(frozen=True, slots=True)
class ConsoleInput:
    """Bytes typed at the serial console of machine `machine`."""

    machine: int
    data: bytes


@dataclass(frozen=True, slots=True)
class AgentInput:
    """Bytes for the guest agent of machine `machine`: frames as chaoscontrol.agent encodes them."""

    machine: int
    data: bytes


@dataclass(frozen=True, slots=True)
class FaultInput:
    """A fault that begins at once."""

    fault: Fault
    duration_ns: int | None = None
    """Virtual nanoseconds; None: until it is healed, or it happens in a moment."""


@dataclass(frozen=True, slots=True)
class ScheduleInput:
    """Faults to come; they take the place of those that have not begun."""

    schedule: FaultSchedule


@dataclass(frozen=True, slots=True)
class SeedInput:
    """All random streams start anew: another future from here on."""

    seed: int
    """64 bits."""


@dataclass(frozen=True, slots=True)
class MemoryInput:
    """Bytes written into the memory of machine `machine`, as nothing in it would: what if they had been others?"""

    machine: int
    address: int
    """Physical."""
    data: bytes


@dataclass(frozen=True, slots=True)
class RegisterInput:
    """A register of machine `machine` is given another value."""

    machine: int
    name: str
    """One of chaoscontrol.registers.EDITABLE."""
    value: int
    """Unsigned, of the register's width."""


@dataclass(frozen=True, slots=True)
class PacketInput:
    """A packet in flight is dropped, arrives at another time, or again, or with other bytes."""

    packet: PacketId
    edit: PacketEdit


class Phase(enum.StrEnum):
    """What a test says of the history from here on; the guests notice nothing."""

    HEALED = "healed"
    """Every fault has ended: the quiet phase begins."""
    SETTLED = "settled"
    """The quiet phase is over: what must hold eventually holds now or never."""
    JUDGED = "judged"
    """What happened up to here is judged now, not at the next multiple of BATCH_NS."""


@dataclass(frozen=True, slots=True)
class PhaseInput:
    """The properties are told of a phase, after everything that happened before it."""

    phase: Phase


MachineInput = ConsoleInput | AgentInput | MemoryInput | RegisterInput
Input = MachineInput | FaultInput | ScheduleInput | SeedInput | PhaseInput | PacketInput


def machine_of(given: Input) -> int | None:
    """The machine that an input is for; None if it is for the cluster."""
    return given.machine if isinstance(given, MachineInput) else None


def apply(given: Input, cluster: Cluster) -> Input | None:
    """Give an input to the cluster as it stands; what was taken of it, None if nothing.

    Only bytes can be taken in part, by a queue that is full. Raises UsageError for a fault, an address, a register's
    value or an edit of a packet that cannot be, and then changes nothing.
    """
    match given:
        case ConsoleInput(machine, data):
            taken = cluster.vms[machine].console_input(data)
            return replace(given, data=data[:taken]) if taken else None
        case AgentInput(machine, data):
            taken = cluster.vms[machine].agent_send(data)
            return replace(given, data=data[:taken]) if taken else None
        case FaultInput(fault, duration_ns):
            cluster.inject(fault, duration_ns=duration_ns)
        case ScheduleInput(schedule):
            cluster.set_schedule(schedule)
        case SeedInput(seed):
            cluster.reseed(seed)
        case MemoryInput(machine, address, data):
            cluster.vms[machine].write_memory(address, data)
        case RegisterInput(machine, name, value):
            vm = cluster.vms[machine]
            vm.set_registers(vm.registers().edit(name, value))
        case PacketInput(packet, edit):
            cluster.edit_packet(packet, edit)
        case PhaseInput():
            pass  # for the witness
    return given


def describe(given: Input) -> str:
    """One line for a person."""
    match given:
        case ConsoleInput(machine, data):
            return f"typed at vm{machine}: {data!r}"
        case AgentInput(machine, data):
            return f"{len(data)} bytes for the agent of vm{machine}"
        case FaultInput(fault, None):
            return f"injected {fault}"
        case FaultInput(fault, duration_ns):
            return f"injected {fault} for {duration_ns} ns"
        case ScheduleInput(schedule):
            return f"a schedule of {len(schedule.faults)} faults"
        case SeedInput(seed):
            return f"new seed {seed}"
        case MemoryInput(machine, address, data):
            return f"wrote {len(data)} bytes into vm{machine} at {address:#x}"
        case RegisterInput(machine, name, value):
            return f"set {name} of vm{machine} to {value:#x}"
        case PacketInput(packet, edit):
            return _describe_edit(packet, edit)
        case PhaseInput(phase):
            return f"the cluster counts as {phase}"


def _describe_edit(packet: PacketId, edit: PacketEdit) -> str:
    match edit:
        case Drop():
            return f"dropped {packet}"
        case ArriveAt(vns):
            return f"{packet} arrives at {format_seconds(vns)} s"
        case CopyAt(vns):
            return f"{packet} arrives once more, at {format_seconds(vns)} s"
        case Overwrite(pieces):
            return f"wrote into {packet}: " + ", ".join(f"{piece.hex()} at {offset}" for offset, piece in pieces)
