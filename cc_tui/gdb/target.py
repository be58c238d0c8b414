"""What a gdb server needs of the machine that it shows: reading, writing, moving both ways."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from chaoscontrol.registers import Registers


class PointKind(enum.IntEnum):
    """What is waited for, by its number in a `Z` packet."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4

    @property
    def is_break(self) -> bool:
        """Is it met by executing an instruction?"""
        return self in (PointKind.SOFTWARE, PointKind.HARDWARE)

    @property
    def reply(self) -> str:
        """How a stop reply calls it."""
        return ("swbreak", "hwbreak", "watch", "rwatch", "awatch")[self]


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A breakpoint, or a watchpoint over `size` bytes from a virtual address on."""

    kind: PointKind
    address: int
    size: int


class Why(enum.Enum):
    """Why a movement ended."""

    STEPPED = "stepped"
    POINT = "point"
    """At a point: going back, before what met it; forward, at a breakpoint, or after the access to a watchpoint."""
    INTERRUPTED = "interrupted"
    BEGIN = "begin"
    """There is no earlier moment."""
    END = "end"
    """There is no later one: nothing can run on."""


class Report(NamedTuple):
    """How a movement ended."""

    why: Why
    point: Point | None = None
    address: int = 0
    """The first watched byte that was touched."""


class Target(Protocol):
    """One machine of a cluster, at the cursor; the cluster moves with it. Everything may raise ChaosControlError."""

    def registers(self) -> Registers: ...

    def set_register(self, name: str, value: int) -> None:
        """Names are those of chaoscontrol.registers.EDITABLE. In the past this branches."""
        ...

    def read_memory(self, address: int, size: int) -> bytes:
        """By virtual address; as many bytes as are mapped in a row."""
        ...

    def write_memory(self, address: int, data: bytes) -> None:
        """By virtual address. In the past this branches."""
        ...

    def step(self, points: Collection[Point], *, back: bool) -> Report:
        """One instruction. Of the points, it may meet watchpoints."""
        ...

    def step_range(self, low: int, high: int, interrupted: Callable[[], bool]) -> Report:
        """Instructions until the next one is not in [low, high), at least one."""
        ...

    def resume(self, points: Collection[Point], interrupted: Callable[[], bool], *, back: bool) -> Report:
        """On, or back, to the next point that is met. `interrupted` is asked now and then."""
        ...

    def monitor(self, line: str) -> str:
        """What a person typed after `monitor`; its answer, lines."""
        ...


__all__ = ["Point", "PointKind", "Report", "Target", "Why"]
