"""Stacks: what a stopped machine is executing, by name, as a report has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chaoscontrol.symbols.stacks import StackReader
from chaoscontrol.triage.report import StackFrame

if TYPE_CHECKING:
    from chaoscontrol.machine import DeterministicVm
    from chaoscontrol.symbols.frames import Frame
    from chaoscontrol.symbols.programs import GuestFiles


class Running(NamedTuple):
    """What a machine does."""

    process: str
    """As ps calls it; empty if that is not known."""
    stack: tuple[StackFrame, ...]
    """The innermost frame first."""


def running(machine: DeterministicVm, files: GuestFiles) -> Running:
    """What is executed now."""
    reader = StackReader(machine, files)
    process = "" if reader.linux is None else reader.linux.current_name()
    return Running(process, tuple(StackFrame(frame.address, _named(frame)) for frame in reader.running()))


def _named(frame: Frame) -> str:
    """`raft_core+0x1a at guest/programs/raft/raft_core.c:17`; a file's name where it has no symbol."""
    name = frame.name or frame.module.rpartition("/")[2]
    return f"{name} at {frame.source}" if frame.source is not None else name


__all__ = ["Running", "running"]
