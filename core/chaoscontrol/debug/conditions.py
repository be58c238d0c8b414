"""What a debugger stops at, as values: breakpoints, watchpoints, packets, console text, events.

A condition is met at a position, the same one whether time runs forward or back: of a breakpoint it is the one before
the instruction, of everything else the first one after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from chaoscontrol.events import Event, EventKind
from chaoscontrol.protocol import Command, SdkEvent
from chaoscontrol.timetravel import Position
from chaoscontrol.watches import Watch, WatchHit, WatchKind


@dataclass(frozen=True, slots=True)
class Breakpoint:
    """An instruction of machine `vm` that begins in [address, address + size) is about to be executed."""

    vm: int
    address: int
    size: int = 1
    physical: bool = False
    cr3: int | None = None
    """Only in the process with these page tables; None: in any."""
    rsp_min: int = 0
    """Only while the stack pointer is at least this: not in calls made by the frame that it is of."""
    user: bool = False
    """Only in user code."""
    outside: bool = False
    """Everywhere but in the range."""
    code: bytes = b""
    """Only where the instruction and what follows it are these: in a program, whatever process it runs in and when."""


@dataclass(frozen=True, slots=True)
class Watchpoint:
    """Memory of machine `vm` is accessed, by an instruction, the CPU, or a device."""

    vm: int
    address: int
    size: int = 8
    kind: WatchKind = WatchKind.WRITE
    physical: bool = False
    cr3: int | None = None


@dataclass(frozen=True, slots=True)
class PacketSent:
    """Machine `source` gives a frame to its network device, for `target` (or all); None: for any machine."""

    source: int
    target: int | None = None
    serial: int | None = None
    """Only the frame that this machine counts so."""
    offset: int = 0
    """The byte of the frame that the hit's `gpa` tells the address of."""


@dataclass(frozen=True, slots=True)
class PacketReceived:
    """A frame from `source` (None: any) is put into the memory of machine `target`."""

    target: int
    source: int | None = None
    serial: int | None = None


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """A console has just sent `text`, or the end of a line that the pattern `text` is found in."""

    text: bytes | re.Pattern[str]
    vm: int | None = None


@dataclass(frozen=True, slots=True)
class EventPoint:
    """An event happens; not console lines, which ConsoleText is for."""

    kinds: frozenset[EventKind]
    vm: int | None = None
    text: re.Pattern[str] | None = None
    """Found in the event's line."""
    commands: frozenset[Command] | None = None
    """Of SDK events."""
    failed: bool | None = None
    """Of SDK events: assertions that were broken, or that were not."""

    def matches(self, event: Event) -> bool:
        """Is it one of these?"""
        if event.kind not in self.kinds or (self.vm is not None and event.vm != self.vm):
            return False
        if self.commands is not None or self.failed is not None:
            if not isinstance(event.data, SdkEvent):
                return False
            if self.commands is not None and event.data.command not in self.commands:
                return False
            if self.failed is not None and event.data.failed != self.failed:
                return False
        return self.text is None or self.text.search(event.text) is not None


MemoryCondition: TypeAlias = Breakpoint | Watchpoint | PacketSent | PacketReceived
Condition: TypeAlias = MemoryCondition | ConsoleText | EventPoint

ASSERTIONS = frozenset({Command.ALWAYS, Command.SOMETIMES, Command.REACHABLE, Command.UNREACHABLE})


def faults(text: str | None = None) -> EventPoint:
    """Faults that begin, happen or end."""
    return EventPoint(frozenset({EventKind.FAULT}), text=None if text is None else re.compile(text))


def assertions(text: str | None = None, *, vm: int | None = None, failed: bool | None = None) -> EventPoint:
    """Assertions of the guests that are evaluated; failed: only those that were broken (or were not)."""
    pattern = None if text is None else re.compile(text)
    return EventPoint(frozenset({EventKind.SDK}), vm, pattern, ASSERTIONS, failed)


@dataclass(frozen=True, slots=True)
class Cause:
    """A condition that was met, and by what."""

    condition: Condition
    hit: WatchHit | None = None
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class DebugStop:
    """Where a movement ended."""

    position: Position
    causes: tuple[Cause, ...]
    """The conditions met there, several if they were at one instant; empty: none, it was a limit or an end."""

    @property
    def hit(self) -> WatchHit | None:
        """The first access or arrival among the causes."""
        return next((cause.hit for cause in self.causes if cause.hit is not None), None)


def vm_of(condition: MemoryCondition) -> int:
    """The machine in which it is met."""
    match condition:
        case PacketSent(source=vm) | PacketReceived(target=vm) | Breakpoint(vm=vm) | Watchpoint(vm=vm):
            return vm


def watch_of(condition: MemoryCondition) -> Watch:
    """What the machine has to watch for it."""
    match condition:
        case Breakpoint():
            return Watch(
                WatchKind.EXECUTE,
                condition.address,
                condition.size,
                condition.physical,
                condition.cr3,
                condition.outside,
                condition.rsp_min,
                condition.user,
                code=condition.code,
            )
        case Watchpoint():
            return Watch(condition.kind, condition.address, condition.size, condition.physical, condition.cr3)
        case PacketSent():
            serial = ANY_FRAME if condition.serial is None else condition.serial
            return Watch(WatchKind.SENT, serial, condition.offset, peer=condition.target)
        case PacketReceived():
            serial = ANY_FRAME if condition.serial is None else condition.serial
            return Watch(WatchKind.RECEIVED, serial, 0, peer=condition.source)


def position_of_hit(hit: WatchHit) -> Position:
    """Where a run stops for it: before the inputs of that instant."""
    return Position(hit.vns)


def position_of_event(event: Event, inputs_at: Callable[[int], int]) -> Position:
    """The first position at which it has happened; a fault has begun at its own instant, after its input."""
    if event.kind in (EventKind.FAULT, EventKind.END):
        return Position(event.vns, inputs_at(event.vns))
    return Position(event.vns + 1)


def by_machine(conditions: Iterable[Condition]) -> dict[int, list[MemoryCondition]]:
    """Those that are watched for natively, by machine and in order."""
    found: dict[int, list[MemoryCondition]] = {}
    for condition in conditions:
        if not isinstance(condition, ConsoleText | EventPoint):
            found.setdefault(vm_of(condition), []).append(condition)
    return found


ANY_FRAME = (1 << 64) - 1
