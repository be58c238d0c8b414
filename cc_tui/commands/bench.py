"""Bench: what commands work on, and the script of what was done on it.

One bench belongs to one session and is used by its engine thread only. It reads no clock: whether the cluster is
running, and how fast, are wishes that the session fulfils.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from cc_tui.commands.place import exact_place
from cc_tui.symbols import SymbolTable, load_symbols
from chaoscontrol.debug import Breakpoint, ConsoleText, Debugger, EventPoint, PacketReceived, PacketSent, Watchpoint
from chaoscontrol.timetravel import Moment, Multiverse, Position

if TYPE_CHECKING:
    from cc_tui.about import About
    from chaoscontrol.network import Network
    from chaoscontrol.symbols.programs import GuestFiles
    from chaoscontrol.symbols.stacks import StackReader

Point: TypeAlias = Breakpoint | Watchpoint | PacketSent | PacketReceived | ConsoleText | EventPoint
"""What `continue` may stop at."""

STEP_NS = 1_000_000
"""What `step` moves by unless told otherwise, virtual nanoseconds."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for a person. severity: `information`, `warning` or `error`."""

    text: str
    severity: str = "information"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found out: lines for a person, and the same as simple values for a program."""

    lines: tuple[str, ...]
    data: object
    """What JSON can hold."""


class Selected(NamedTuple):
    """A frame of a machine's stack, at one place of history."""

    vm: int
    place: tuple[str, Position]
    level: int


class Script:
    """What was done, as commands that do it again.

    Running and pausing depend on a person's hand, so they are written as the place that was reached.
    """

    def __init__(self, multiverse: Multiverse) -> None:
        self._multiverse = multiverse
        self._lines: list[str] = []
        self._written_at = self._here()
        self._arrival = False
        """Is the last line an arrival, which the next one may replace?"""
        self.unsaved_inputs = 0
        """Inputs, forks, new names and notes since the script was last saved."""

    def _here(self) -> tuple[str, Position]:
        return self._multiverse.branch.name, self._multiverse.position

    def arrive(self) -> None:
        """Write where the cursor is, if the commands so far do not lead there."""
        if self._here() == self._written_at:
            return
        if self._arrival:
            self._lines.pop()
        self._written_at = self._here()
        self._lines.append(f"goto {exact_place(*self._written_at)}")
        self._arrival = True

    def wrote(self, text: str) -> None:
        """Write a command that has just been carried out, from where the script had arrived."""
        self._lines.append(text)
        self._written_at = self._here()
        self._arrival = False

    def text(self, heading: str) -> str:
        """The whole script; its last line verifies that it led to the same state."""
        self.arrive()
        lines = self._lines[:-1] if self._arrival else self._lines
        return "\n".join([f"# {heading}", *lines, f"goto {self._multiverse.moment()}", ""])


def unsaved_text(count: int) -> str:
    """The subject of a sentence about what would be lost."""
    return "an input, branch or note is" if count == 1 else f"{count} inputs, branches and notes are"


@dataclass(slots=True)
class Bench:
    """The state that commands share. `running` and `target_vns` are for the session to act on and to show."""

    multiverse: Multiverse
    quantum_ns: int
    notify: Callable[[Notice | Answer], None]
    heading: str = "a cc-tui session"
    """First line of saved scripts: what cluster they are for."""
    focus: int = 0
    """The machine that instruction steps and `goto 123i` mean."""
    step_ns: int = STEP_NS
    speed: float | None = 1.0
    """Virtual seconds per second while running; None for as fast as possible."""
    running: bool = False
    flat_out: bool = False
    """Ignore `speed` in this run."""
    runs_for_typing: bool = False
    """Was this run begun by typing? Then it ends with it."""
    waiting: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Typed bytes that did not fit a machine's queue yet."""
    attended: bool = True
    """Is somebody there to pause a run? Without, a command that goes on goes to where something stops it."""
    expected_failures: set[str] = field(default_factory=set[str])
    """Properties that were rightly said to fail."""
    kernel: str | None = None
    """The kernel's file: whose symbols name addresses."""
    network: Network | None = None
    """Of the cluster, to capture what it carries."""
    about: About | None = None
    """Where the history comes from."""
    points: dict[int, Point] = field(default_factory=dict[int, Point])
    """What `continue` stops at, by number."""
    points_made: int = 0
    point_places: dict[int, str] = field(default_factory=dict[int, str])
    """What is where points are, if the kernel's symbols do not say it."""
    initrd: str | None = None
    """The initramfs' file: whose programs have symbols and source lines."""
    frame: Selected | None = None
    """The frame that was chosen last."""
    doing: str = ""
    """How far the command under way is, where time alone does not tell."""
    script: Script = field(init=False)
    debugger: Debugger = field(init=False)

    def __post_init__(self) -> None:
        self.script = Script(self.multiverse)
        self.debugger = Debugger(self.multiverse)

    def symbols(self) -> SymbolTable:
        """The kernel's symbols, read when they are first wanted; none if its file is not known or has none."""
        return SymbolTable(()) if self.kernel is None else load_symbols(self.kernel)

    def reader(self, vm: int) -> StackReader:
        """Reads stacks, processes and source lines of a machine where it is now."""
        self.files()
        return self.debugger.reader(vm)

    def files(self) -> GuestFiles:
        """What the host has of the guests' files."""
        if self.debugger.files is None:
            from chaoscontrol.symbols.programs import GuestFiles  # takes long to import

            self.debugger.files = GuestFiles(self.kernel, self.initrd)
        return self.debugger.files

    def frame_level(self, vm: int) -> int:
        """The frame of a machine that was chosen, as long as the cursor stays; else the innermost."""
        chosen = self.frame
        here = self.multiverse.branch.name, self.multiverse.position
        return chosen.level if chosen is not None and (chosen.vm, chosen.place) == (vm, here) else 0

    def choose_frame(self, vm: int, level: int) -> None:
        """From now on this frame is meant, as long as the cursor stays."""
        self.frame = Selected(vm, (self.multiverse.branch.name, self.multiverse.position), level)

    @property
    def marks(self) -> dict[str, Moment]:
        """The moments that have names."""
        return {name: mark.moment for name, mark in self.multiverse.marks.items()}

    @property
    def vms(self) -> int:
        """How many machines there are."""
        return len(self.multiverse.machines)

    def say(self, text: str) -> None:
        self.notify(Notice(text))

    def warn(self, text: str) -> None:
        self.notify(Notice(text, "warning"))

    def answer(self, lines: Iterable[str], data: object) -> None:
        """Give what was asked for."""
        self.notify(Answer(tuple(lines), data))

    def attend_to(self, vm: int) -> None:
        """Another machine is in focus, since something happened there; the script says so, for what comes next."""
        self.focus = vm
        self.script.arrive()
        self.script.wrote(f"vm {vm}")

    def run(self, *, flat_out: bool = False, for_typing: bool = False) -> None:
        """Let time pass from now on."""
        self.running, self.flat_out, self.runs_for_typing = True, flat_out, for_typing

    def pause(self) -> None:
        """Stop running, here."""
        self.running = self.flat_out = self.runs_for_typing = False
        self.script.arrive()
