"""Happenings: everything that is known to have happened between two positions of a history, in one list.

Events and inputs are what the logs say; packets and answers to SDK requests, in no log, are seen by living through the
stretch again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chaoscontrol.debug.conditions import (
    Condition,
    PacketReceived,
    PacketSent,
    Watchpoint,
    position_of_event,
)
from chaoscontrol.debug.lookouts import Seen, Watching, every_hit
from chaoscontrol.events import EventKind
from chaoscontrol.protocol import HYPERCALL_GPA
from chaoscontrol.timetravel import Position, describe
from chaoscontrol.timetravel.lookout import Lookout, Sighting, Spoken
from chaoscontrol.watches import ANY_PEER, Device, WatchHit

if TYPE_CHECKING:
    from chaoscontrol.debug.debugger import Debugger
    from chaoscontrol.events import Event
    from chaoscontrol.timetravel import Told

ANSWER_AT, ANSWER_BYTES = HYPERCALL_GPA + 0x10, 9
"""Where the SDK port writes its answer: a number of 64 bits, and a status."""


@dataclass(frozen=True, slots=True, order=True)
class Happening:
    """One thing."""

    position: Position
    """The first one at which it has happened."""
    vm: int
    """-1: it concerns the cluster."""
    kind: str
    """An EventKind, `input`, `packet`, or `answer` of the SDK port."""
    text: str


def happenings(debugger: Debugger, told: Told, after: Position, until: Position) -> tuple[Happening, ...]:
    """What happened after one position of the cursor's branch and up to another; the cursor goes there."""
    found = [
        Happening(position, event.vm, str(event.kind), event.text)
        for event in told.events
        if after < (position := position_of_event(event, told.inputs_at)) <= until
    ]
    said = {(one.position.vns, one.vm) for one in found if one.kind == EventKind.SDK}
    found += [
        Happening(given.after, -1, "input", describe(given.input))
        for given in told.inputs
        if after < given.after <= until
    ]
    for position, hit, condition in _seen(debugger, after, until):
        if isinstance(condition, Watchpoint):
            # Requests that are events have been said.
            if hit.device is Device.SDK and (position.vns, condition.vm) not in said:
                number = int.from_bytes(hit.value[:8], "little")
                found.append(Happening(position, condition.vm, "answer", f"the SDK port answers {number:#x}"))
        elif isinstance(condition, PacketSent | PacketReceived):
            vm = condition.source if isinstance(condition, PacketSent) else condition.target
            found.append(Happening(position, vm, "packet", _packet(condition, hit)))
    return tuple(sorted(found))


def _packet(condition: PacketSent | PacketReceived, hit: WatchHit) -> str:
    assert hit.frame is not None, "that is what was watched for"
    peer, serial = hit.frame
    who = "all" if peer == ANY_PEER else f"vm{peer}"
    if isinstance(condition, PacketSent):
        return f"sends frame {serial} of {hit.size} bytes to {who}"
    return f"receives frame {serial} of {hit.size} bytes from {who}"


def _seen(debugger: Debugger, after: Position, until: Position) -> list[tuple[Position, WatchHit, Condition]]:
    """Packets and writes into the SDK's pages."""
    conditions: list[Condition] = []
    for vm in range(len(debugger.vms)):
        conditions += [PacketSent(vm), PacketReceived(vm), Watchpoint(vm, ANSWER_AT, ANSWER_BYTES, physical=True)]
    debugger.goto_position(after)
    with Watching(debugger.vms, conditions, every_hit) as watching:
        everything = _Everything(watching)
        debugger.multiverse.scan(everything, until.vns)
    return [
        (position, cause.hit, cause.condition)
        for position, cause in everything.seen
        if cause.hit is not None and after < position <= until
    ]


class _Everything(Lookout):
    """Sees all, and never stops."""

    def __init__(self, watching: Watching) -> None:
        self._watching = watching
        self.seen: list[Seen] = []

    def begin(self) -> None:
        self._watching.discard()

    def look(self, end_vns: int, pending: Sequence[Event], spoken: Sequence[Spoken]) -> Sighting | None:
        self.seen += self._watching.take()
        return None


__all__ = ["Happening", "happenings"]
