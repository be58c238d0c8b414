"""The faults, as values. Each says what breaks; when and for how long is the schedule's (schedule.py).

Units are in the names: ns, ppm (parts per million), bytes per second, permille. Machines are numbered from 0.
Fields are checked when a fault is made, machine numbers when it meets a cluster (`check`).
"""

from __future__ import annotations

import dataclasses
import re
from typing import ClassVar, Literal, get_args

from chaoscontrol.errors import UsageError

Direction = Literal["both", "out", "in"]
CrashMode = Literal["lose", "some", "torn"]

PPM_MAX = 1_000_000
VM_MAX = 255
"""The last machine of the largest cluster."""
SIGNAL_MAX = 64


class FaultError(UsageError):
    """A fault that cannot be: a wrong field, an unknown name, a machine that is not there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Base of all faults."""

    NEEDS_AGENT: ClassVar[bool] = False
    """Whether it works only in guests that run the guest agent."""
    LASTS: ClassVar[bool] = True
    """Whether it has an end that undoes it; False: it happens in a moment."""
    LETTER: ClassVar[str] = "?"
    """Its glyph in timelines."""

    @classmethod
    def kind(cls) -> str:
        """Its name in text: network_partition for NetworkPartition."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def vms(self) -> tuple[int, ...]:
        """The machines that it names."""
        target = getattr(self, "target", None)
        peer = getattr(self, "peer", None)
        return tuple(vm for vm in (target, peer) if vm is not None)

    def check(self, num_vms: int) -> None:
        """Raises FaultError if it names a machine that a cluster of this size does not have."""
        for vm in self.vms():
            if not 0 <= vm < num_vms:
                raise FaultError(f"{self.kind()}: there is no machine {vm}", hint=f"machines are 0 to {num_vms - 1}")

    def __str__(self) -> str:
        fields = ((f.name, getattr(self, f.name), f.default) for f in dataclasses.fields(self))
        shown = [f"{name}={_shown(value)}" for name, value, default in fields if value != default]
        return " ".join([self.kind(), *shown])


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)  # type: ignore[arg-type]


def shown(value: object) -> str:
    """Anything on one short line, for a message."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, a list in a list in a list
        return "such a number" if isinstance(value, int) else "such a thing"
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."


_SHOWN_MAX = 80


def _need(ok: bool, fault: Fault, field: str, allowed: str) -> None:
    if not ok:
        raise FaultError(f"{fault.kind()}: {field} cannot be {shown(getattr(fault, field))}", hint=f"give {allowed}")


def _need_int(fault: Fault, field: str, low: int, high: int, what: str) -> None:
    value = getattr(fault, field)
    ok = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _need(ok, fault, field, f"{what} from {low} to {high}")


def _is_vm(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= VM_MAX


def _need_vm(fault: Fault, field: str, optional: bool = False) -> None:
    value = getattr(fault, field)
    if optional and value is None:
        return
    _need(_is_vm(value), fault, field, f"a machine's number, from 0 to {VM_MAX}")


NS_MAX = 10**15
"""Eleven days: the longest time that a fault's field can hold."""
SPIKE_NS_MAX = 3_600_000_000_000
"""An hour: the longest that a disk can hold a request back."""
SLOW_PERMILLE_MAX = 10_000_000
"""Of one slow disk, and of several at once, which multiply. A request keeps the time that it was given when it began,
so this bounds for how long a disk may still seem slow after it was healed."""


# ---- network ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Sides(Fault):
    side_a: tuple[int, ...]
    side_b: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in ("side_a", "side_b"):
            side: object = getattr(self, field)
            ok = isinstance(side, (tuple, list)) and len(side) > 0  # type: ignore[arg-type]
            ok = ok and all(_is_vm(vm) for vm in side)  # type: ignore[union-attr]
            _need(ok, self, field, f"a list of machines' numbers, from 0 to {VM_MAX}")
            object.__setattr__(self, field, tuple(sorted(set(side))))  # type: ignore[arg-type]
        both = set(self.side_a) & set(self.side_b)
        if both:
            raise FaultError(
                f"{self.kind()}: machine {min(both)} is on both sides", hint="side_a and side_b must not overlap"
            )

    def vms(self) -> tuple[int, ...]:
        return (*self.side_a, *self.side_b)


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkPartition(_Sides):
    """No frame passes between the two sides."""

    LETTER = "P"


@dataclasses.dataclass(frozen=True, slots=True)
class OneWayPartition(_Sides):
    """No frame passes from side_a to side_b; the other way is open."""

    LETTER = "O"


@dataclasses.dataclass(frozen=True, slots=True)
class _Link(Fault):
    target: int
    """The machine whose links are affected."""

    def _check_link(self) -> None:
        _need_vm(self, "target")
        _need_vm(self, "peer", optional=True)
        direction = getattr(self, "direction")  # noqa: B009  a field of the subclasses
        _need(direction in get_args(Direction), self, "direction", "both, out or in")
        if self.target == getattr(self, "peer", None):
            raise FaultError(f"{self.kind()}: machine {self.target} has no link to itself", hint="give another peer")


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkLatency(_Link):
    """Frames take this much longer."""

    LETTER = "L"
    latency_ns: int
    peer: int | None = None
    """Only the link with this machine; None: with all."""
    direction: Direction = "both"
    """"out" of the target, "in" to it, or "both"."""

    def __post_init__(self) -> None:
        self._check_link()
        _need_int(self, "latency_ns", 0, NS_MAX, "nanoseconds")


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkJitter(_Link):
    """Frames take a random time longer, uniform from 0 to jitter_ns."""

    LETTER = "J"
    jitter_ns: int
    peer: int | None = None
    direction: Direction = "both"

    def __post_init__(self) -> None:
        self._check_link()
        _need_int(self, "jitter_ns", 0, NS_MAX, "nanoseconds")


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkBandwidth(_Link):
    """Each link carries at most this many bytes a second; what does not fit a queue is dropped."""

    LETTER = "B"
    bytes_per_sec: int
    peer: int | None = None
    direction: Direction = "both"

    def __post_init__(self) -> None:
        self._check_link()
        _need_int(self, "bytes_per_sec", 1, 10**12, "bytes per second")


@dataclasses.dataclass(frozen=True, slots=True)
class _Rate(_Link):
    rate_ppm: int
    """Of a million frames, how many."""
    peer: int | None = None
    direction: Direction = "both"

    def __post_init__(self) -> None:
        self._check_link()
        _need_int(self, "rate_ppm", 0, PPM_MAX, "parts per million")


@dataclasses.dataclass(frozen=True, slots=True)
class PacketLoss(_Rate):
    """Frames vanish."""

    LETTER = "X"


@dataclasses.dataclass(frozen=True, slots=True)
class PacketCorruption(_Rate):
    """One bit of a frame flips, behind its Ethernet header."""

    LETTER = "C"


@dataclasses.dataclass(frozen=True, slots=True)
class PacketReorder(_Rate):
    """Frames are held back by up to window_ns, so that later ones overtake them."""

    LETTER = "R"
    window_ns: int = 5_000_000

    def __post_init__(self) -> None:
        _Rate.__post_init__(self)
        _need_int(self, "window_ns", 1, NS_MAX, "nanoseconds")


@dataclasses.dataclass(frozen=True, slots=True)
class PacketDuplicate(_Rate):
    """Frames arrive twice."""

    LETTER = "D"


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkHeal(Fault):
    """Ends every network fault."""

    LASTS = False
    LETTER = "h"


# ---- disk ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Disk(Fault):
    target: int

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        for field in dataclasses.fields(self):
            if field.name == "rate_ppm":
                _need_int(self, "rate_ppm", 0, PPM_MAX, "parts per million")


@dataclasses.dataclass(frozen=True, slots=True)
class DiskReadError(_Disk):
    """Reads fail with an I/O error."""

    LETTER = "r"
    rate_ppm: int = PPM_MAX


@dataclasses.dataclass(frozen=True, slots=True)
class DiskWriteError(_Disk):
    """Writes fail with an I/O error and change nothing."""

    LETTER = "w"
    rate_ppm: int = PPM_MAX


@dataclasses.dataclass(frozen=True, slots=True)
class DiskTornWrite(_Disk):
    """Of a write only the first of its blocks of 4 KiB, or none, reach the disk, and it fails with an I/O error.

    `silent`: the guest is told that all is well, as by a broken disk. (What a power loss tears is ProcessKill's.)
    """

    LETTER = "t"
    rate_ppm: int = PPM_MAX
    silent: bool = False

    def __post_init__(self) -> None:
        _Disk.__post_init__(self)
        _need(self.silent is True or self.silent is False, self, "silent", "true or false")


@dataclasses.dataclass(frozen=True, slots=True)
class DiskCorruption(_Disk):
    """One bit of what is read flips."""

    LETTER = "c"
    rate_ppm: int = PPM_MAX


@dataclasses.dataclass(frozen=True, slots=True)
class DiskFull(_Disk):
    """Writes fail with an I/O error and reads go on, as on a thinly provisioned disk whose space has run out."""

    LETTER = "f"


@dataclasses.dataclass(frozen=True, slots=True)
class SlowDisk(_Disk):
    """Every request takes factor_permille / 1000 of its time."""

    LETTER = "s"
    factor_permille: int = 10_000

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "factor_permille", 1, SLOW_PERMILLE_MAX, "a factor in permille")


@dataclasses.dataclass(frozen=True, slots=True)
class DiskLatencySpike(_Disk):
    """Some requests take spike_ns longer."""

    LETTER = "l"
    rate_ppm: int = 100_000
    spike_ns: int = 50_000_000

    def __post_init__(self) -> None:
        _Disk.__post_init__(self)
        _need_int(self, "spike_ns", 0, SPIKE_NS_MAX, "nanoseconds")


@dataclasses.dataclass(frozen=True, slots=True)
class LostFlush(_Disk):
    """A lying disk: flushes report success and make nothing durable."""

    LETTER = "F"


# ---- machines --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessKill(Fault):
    """Power loss. The disk keeps what was flushed, and of the rest what `disk` says. At its end it boots again."""

    LETTER = "K"
    target: int
    disk: CrashMode = "some"
    """Unflushed writes: "lose" all, keep "some" of them at random, or keep some and tear one ("torn")."""

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need(self.disk in get_args(CrashMode), self, "disk", "lose, some or torn")


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessRestart(Fault):
    """Power loss, if it runs, and boot from its own disk."""

    LASTS = False
    LETTER = "U"
    target: int
    disk: CrashMode = "some"

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need(self.disk in get_args(CrashMode), self, "disk", "lose, some or torn")


@dataclasses.dataclass(frozen=True, slots=True)
class ProcessPause(Fault):
    """The machine stands still while time goes on."""

    LETTER = "Z"
    target: int

    def __post_init__(self) -> None:
        _need_vm(self, "target")


@dataclasses.dataclass(frozen=True, slots=True)
class CpuSlowdown(Fault):
    """Every instruction takes `factor` times as long."""

    LETTER = "S"
    target: int
    factor: int = 10

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "factor", 1, 1000, "a factor")


@dataclasses.dataclass(frozen=True, slots=True)
class ClockSkew(Fault):
    """The machine's clock goes wrong: at another rate, or (through the guest agent) by an offset while it lasts."""

    LETTER = "k"
    target: int
    offset_ns: int = 0
    """Added to the wall clock (which needs the agent) and to the clock chip."""
    rate_ppm: int = 0
    """Added to the rate of the TSC, which Linux makes both its wall clock and its monotonic one from."""

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "offset_ns", -NS_MAX, NS_MAX, "nanoseconds")
        _need_int(self, "rate_ppm", -500_000, PPM_MAX, "parts per million")
        if not self.offset_ns and not self.rate_ppm:
            raise FaultError(f"{self.kind()}: neither offset_ns nor rate_ppm is given", hint="give one of them")


@dataclasses.dataclass(frozen=True, slots=True)
class ClockJump(Fault):
    """The wall clock jumps, and the clock chip with it; the monotonic clock goes on."""

    NEEDS_AGENT = True
    LASTS = False
    LETTER = "j"
    target: int
    delta_ns: int = 0

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "delta_ns", -NS_MAX, NS_MAX, "nanoseconds")
        _need(self.delta_ns != 0, self, "delta_ns", "nanoseconds other than 0")


@dataclasses.dataclass(frozen=True, slots=True)
class MemoryPressure(Fault):
    """A balloon takes memory from the guest."""

    LETTER = "M"
    target: int
    take_bytes: int

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "take_bytes", 4096, 3 << 30, "bytes")


@dataclasses.dataclass(frozen=True, slots=True)
class InjectInterrupt(Fault):
    """A spurious interrupt on a line of the interrupt controller."""

    LASTS = False
    LETTER = "I"
    target: int
    irq: int = 7

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "irq", 0, 15, "a line")
        _need(self.irq != 2, self, "irq", "a line other than 2, which is the second chip's")


@dataclasses.dataclass(frozen=True, slots=True)
class InjectNmi(Fault):
    """A non-maskable interrupt."""

    LASTS = False
    LETTER = "N"
    target: int

    def __post_init__(self) -> None:
        _need_vm(self, "target")


@dataclasses.dataclass(frozen=True, slots=True)
class TimerJitter(Fault):
    """Timer interrupts come up to max_ns late, at random: points of pre-emption move, races between threads show."""

    LETTER = "T"
    target: int
    max_ns: int = 500_000

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need_int(self, "max_ns", 1, 10**9, "nanoseconds")


NAME_BYTES_MAX = 255


def is_process_name(value: object) -> bool:
    """Whether a process can be called so."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        return 0 < len(value.encode()) <= NAME_BYTES_MAX
    except UnicodeEncodeError:
        return False


@dataclasses.dataclass(frozen=True, slots=True)
class SignalProcess(Fault):
    """Sends a signal to every process of that name, through the guest agent."""

    NEEDS_AGENT = True
    LASTS = False
    LETTER = "g"
    target: int
    process: str
    signal: int = 9

    def __post_init__(self) -> None:
        _need_vm(self, "target")
        _need(is_process_name(self.process), self, "process", f"a process's name of 1 to {NAME_BYTES_MAX} bytes")
        _need_int(self, "signal", 1, SIGNAL_MAX, "a signal's number")


@dataclasses.dataclass(frozen=True, slots=True)
class HealAll(Fault):
    """Ends every fault: networks heal, disks work, paused machines go on, dead ones boot."""

    LASTS = False
    LETTER = "H"


FAULTS: dict[str, type[Fault]] = {
    cls.kind(): cls
    for cls in (
        NetworkPartition, OneWayPartition, NetworkLatency, NetworkJitter, NetworkBandwidth, PacketLoss,
        PacketCorruption, PacketReorder, PacketDuplicate, NetworkHeal,
        DiskReadError, DiskWriteError, DiskTornWrite, DiskCorruption, DiskFull, SlowDisk, DiskLatencySpike, LostFlush,
        ProcessKill, ProcessRestart, ProcessPause, CpuSlowdown, ClockSkew, ClockJump, MemoryPressure,
        InjectInterrupt, InjectNmi, TimerJitter, SignalProcess, HealAll,
    )
}  # fmt: skip
"""Every fault by its name in text."""

NETWORK_FAULTS = (
    NetworkPartition, OneWayPartition, NetworkLatency, NetworkJitter, NetworkBandwidth, PacketLoss, PacketCorruption,
    PacketReorder, PacketDuplicate,
)  # fmt: skip
DISK_FAULTS = (
    DiskReadError, DiskWriteError, DiskTornWrite, DiskCorruption, DiskFull, SlowDisk, DiskLatencySpike, LostFlush,
)  # fmt: skip
