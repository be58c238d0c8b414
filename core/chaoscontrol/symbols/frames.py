"""Frames of a call stack, as values: where a guest is, who called that, and how each was found."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .lines import SourceLine


class FoundBy(enum.StrEnum):
    """How a frame was found, the surest first."""

    REGISTERS = "registers"
    """It is where the machine, or the thread, stands."""
    INTERRUPT = "interrupt"
    """The kernel saved its registers: an interrupt, an exception or a system call came there."""
    SIGNAL = "signal"
    """The kernel saved its registers for a signal handler."""
    CFI = "cfi"
    """By call frame information of the file."""
    ORC = "orc"
    """By the kernel's own unwinding tables."""
    CODE = "code"
    """By following the code to where it returns."""
    FRAME_POINTER = "frame pointer"
    GUESS = "guess"
    """The nearest word of the stack that may be a return address; frames may be missing in between."""


@dataclasses.dataclass(frozen=True, slots=True)
class Frame:
    """One function that has not returned."""

    level: int
    """0 for the innermost."""
    address: int
    """Of the next instruction that it executes."""
    sp: int
    """Its stack pointer there."""
    found_by: FoundBy
    symbol: str = ""
    offset: int = 0
    """Of the address in the symbol, bytes."""
    module: str = ""
    """`kernel`, the path of a program or library in the guest, `[vdso]`, or nothing."""
    is_user: bool = False
    source: SourceLine | None = None
    registers: Mapping[int, int] = dataclasses.field(default_factory=dict[int, int], compare=False, repr=False)
    """What is known of its registers, by DWARF's numbers."""

    @property
    def is_call(self) -> bool:
        """It waits for a call to return: its address is behind the call. Else it was interrupted, or runs."""
        return self.found_by not in (FoundBy.REGISTERS, FoundBy.INTERRUPT, FoundBy.SIGNAL)

    @property
    def return_slot(self) -> int:
        """Where its address was put by the call, if it waits for one to return."""
        return self.sp - 8

    @property
    def name(self) -> str:
        """`vfs_read+0x90`, or nothing."""
        return f"{self.symbol}+{self.offset:#x}" if self.symbol and self.offset else self.symbol

    def __str__(self) -> str:
        """`#2  0xffffffff811a2b30 vfs_read+0x90 (kernel, cfi) fs/read_write.c:463`."""
        where = f"({self.module}, {self.found_by})" if self.module else f"({self.found_by})"
        parts = [f"#{self.level:<3}{self.address:#018x}", self.name, where, str(self.source or "")]
        return " ".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True, slots=True)
class Stack:
    """Frames from the innermost on, and why there are no more."""

    frames: tuple[Frame, ...]
    end: str
    """For a person: `the program begins here`, or what could not be read."""
    is_whole: bool
    """The last frame is the outermost one."""
    notes: tuple[str, ...] = ()
    """What could not be used on the way: files that are missing or damaged."""

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def lines(self) -> list[str]:
        """As text, for a person."""
        return [*map(str, self.frames), *([] if self.is_whole else [f"    {self.end}"]), *self.notes]
