"""What a machine tells about itself, as values: stops, digests, marks, counters."""

from __future__ import annotations

from ._binding import lib
from .choice import Choice
from .record import Record


class StopKind(Choice):
    """Why a run stopped."""

    INSTRET = lib.CC_STOP_INSTRET
    """The asked instruction count was reached, exactly."""
    VNS = lib.CC_STOP_VNS
    """The asked virtual time was reached: the first instruction boundary at or after it."""
    CONSOLE = lib.CC_STOP_CONSOLE
    """The last retired instruction completed the console pattern."""
    HYPERCALL = lib.CC_STOP_HYPERCALL
    """The guest wrote the SDK port; the hypercall page is in its memory."""
    HALTED = lib.CC_STOP_HALTED
    """Halted, and nothing can ever wake it."""
    SHUTDOWN = lib.CC_STOP_SHUTDOWN
    """Powered off; detail is the value written to the debug-exit port."""
    TRIPLE_FAULT = lib.CC_STOP_TRIPLE_FAULT
    RESET = lib.CC_STOP_RESET
    """The guest asked for a reset."""
    CANCELLED = lib.CC_STOP_CANCELLED
    """cancel() was called; the machine can be run on."""
    COVERAGE = lib.CC_STOP_COVERAGE
    """The guest wrote the coverage port."""
    EXITS = lib.CC_STOP_EXITS
    """The asked number of exits was reached."""
    POWER_OFF = lib.CC_STOP_POWER_OFF
    """Its power was cut."""
    WATCH = lib.CC_STOP_WATCH
    """Something watched was met; detail is its place in the list."""

    @property
    def is_final(self) -> bool:
        """Whether the guest ended by itself and cannot be run on."""
        return self in _FINAL_KINDS

    @property
    def text(self) -> str:
        """What happened, for a person: "the guest halted for good"."""
        return _STOP_TEXT[self]


_FINAL_KINDS = frozenset((StopKind.SHUTDOWN, StopKind.TRIPLE_FAULT, StopKind.RESET, StopKind.POWER_OFF))

_STOP_TEXT = {
    StopKind.INSTRET: "the instruction limit was reached",
    StopKind.VNS: "the virtual time limit was reached",
    StopKind.CONSOLE: "the awaited text was printed",
    StopKind.HYPERCALL: "the guest made a hypercall",
    StopKind.HALTED: "the guest halted for good",
    StopKind.SHUTDOWN: "the guest powered off",
    StopKind.TRIPLE_FAULT: "the guest crashed with a triple fault",
    StopKind.RESET: "the guest asked for a reset",
    StopKind.CANCELLED: "the run was cancelled",
    StopKind.COVERAGE: "the guest wrote the coverage port",
    StopKind.EXITS: "the exit limit was reached",
    StopKind.POWER_OFF: "its power was cut",
    StopKind.WATCH: "something watched was met",
}


class Stop(Record):
    """Where and why a run stopped."""

    kind: StopKind
    instret: int
    vns: int
    detail: int = 0
    """For SHUTDOWN the value that the guest wrote, else 0 or a port's value."""

    def __str__(self) -> str:
        return f"{self.kind.text} at instruction {self.instret}, {self.vns} ns"


class Digest(int):
    """A 128-bit state digest; str() gives 32 hexadecimal digits."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"{int(self):032x}"

    def __repr__(self) -> str:
        return f"Digest({self})"


class ConsoleMark(Record):
    """The moment at which the console byte at `offset`, the first one of a line, was sent."""

    offset: int
    vns: int
    instret: int


class RawEvent(Record):
    """A record of the engine's event queue: its moment, its CC_EVENT_* kind and its bytes."""

    vns: int
    instret: int
    kind: int
    payload: bytes


class PropertyCounts(Record):
    """One property of one guest: how often it was evaluated, and where first with which outcome."""

    id: int
    command: int
    """The protocol's: 1 always, 2 sometimes, 3 reachable, 4 unreachable, 5 announced in the catalog."""
    message: str
    passes: int
    fails: int
    first_pass: tuple[int, int] | None
    """(vns, instret) of the first evaluation that passed; None: there was none."""
    first_fail: tuple[int, int] | None


class Stats(Record):
    """Counters of a machine since its start.

    Down to `exceptions` they are part of the run, equal in every repetition; the rest is about this host's caches.
    """

    instret: int
    vns: int
    exits: int
    """Port and MMIO accesses, halts and interrupts delivered."""
    io_reads: int
    io_writes: int
    mmio_accesses: int
    halts: int
    interrupts: int
    exceptions: int
    blocks_decoded: int
    insns_decoded: int
    code_flushes: int
    tlb_misses: int
    tlb_flushes: int
    smc_hits: int
    undefined_opcodes: int
