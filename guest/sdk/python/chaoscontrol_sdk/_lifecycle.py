"""Lifecycle, randomness and coverage."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from . import _wire
from ._channel import Machine, channel
from ._wire import Call

T = TypeVar("T")

_map: Any = None
_previous = 0


def inside_machine() -> bool:
    """Whether the program runs inside a machine and reaches its hypercall page."""
    return isinstance(channel(), Machine)


def setup_complete(details: Mapping[str, Any] | None = None) -> None:
    """The system and its workload are ready: faults may begin."""
    channel().call(Call(_wire.SETUP_COMPLETE, details=details, condition=True, ident=0))


def send_event(name: str, details: Mapping[str, Any] | None = None) -> None:
    """Something worth a line in the event log happened."""
    channel().call(Call(_wire.SEND_EVENT, name, details, True))


def random() -> int:
    """A number of 0..2**64-1; inside a machine a function of its seed and branch."""
    machine = channel()
    if isinstance(machine, Machine):
        return machine.call(Call(_wire.RANDOM_GET, ident=0))
    (value,) = struct.unpack("<Q", os.getrandom(8))
    return int(value)


def choice(values: Sequence[T]) -> T:
    """One of the values. Raises IndexError if there are none."""
    if not values:
        raise IndexError("chaoscontrol_sdk.choice: nothing to choose from")
    machine = channel()
    if isinstance(machine, Machine):
        return values[machine.call(Call(_wire.RANDOM_CHOICE, ident=len(values))) % len(values)]
    return values[random() % len(values)]


def coverage_init(name: str, edge_count: int = 0) -> bool:
    """Say that this program will record edges. False where there is nobody to record for."""
    global _map
    machine = channel()
    if not isinstance(machine, Machine):
        return False
    _map = _map if _map is not None else machine.coverage()
    machine.call(Call(_wire.COVERAGE_INIT, name, {"edges": edge_count}, ident=edge_count))
    return True


def record_edge(location: int) -> None:
    """Count the way from the location before to this one."""
    global _previous
    if _map is None:
        return
    at = (_previous ^ location) % _wire.COVERAGE_BYTES
    _map[at] = min(_map[at] + 1, 255)
    _previous = location % _wire.COVERAGE_BYTES >> 1
