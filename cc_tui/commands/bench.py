"""Bench: what commands work on, and the script of what was done on it.

One bench belongs to one session and is used by its engine thread only. It reads no clock: whether the cluster is
running, and how fast, are wishes that the session fulfils.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from cc_tui.commands.place import exact_place
from cc_tui.symbols import SymbolTable, load_symbols
from chaoscontrol.debug import Breakpoint, Debugger, Watchpoint
from chaoscontrol.timetravel import Moment, Multiverse, Position

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
        """Inputs and forks since the script was last saved."""

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
    waiting: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Typed bytes that did not fit a machine's queue yet."""
    marks: dict[str, Moment] = field(default_factory=dict[str, Moment])
    attended: bool = True
    """Is somebody there to pause a run? Without, a command that goes on goes to where something stops it."""
    expected_failures: set[str] = field(default_factory=set[str])
    """Properties that were rightly said to fail."""
    kernel: str | None = None
    """The kernel's file: whose symbols name addresses."""
    points: dict[int, Breakpoint | Watchpoint] = field(default_factory=dict[int, Breakpoint | Watchpoint])
    """What `continue` stops at, by number."""
    points_made: int = 0
    script: Script = field(init=False)
    debugger: Debugger = field(init=False)

    def __post_init__(self) -> None:
        self.script = Script(self.multiverse)
        self.debugger = Debugger(self.multiverse)

    def symbols(self) -> SymbolTable:
        """The kernel's symbols, read when they are first wanted; none if its file is not known or has none."""
        return SymbolTable(()) if self.kernel is None else load_symbols(self.kernel)

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

    def pause(self) -> None:
        """Stop running, here."""
        self.running = self.flat_out = False
        self.script.arrive()
