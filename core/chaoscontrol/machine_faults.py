"""MachineFaults: what can be done to one machine from outside; the part of DeterministicVm that faults are made of.

Owns no state: everything here is in the native machine, in its snapshots and digest.
"""

from __future__ import annotations

from ._binding import lib
from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._native import CData
    from .pagestore import Snapshot


class MachineFaults:
    """Pausing, power, pace, clock, interrupts and timer of the machine that inherits this."""

    _loaded: bool

    def _use(self) -> CData:
        """The native machine. Raises EngineError if it cannot be used now."""
        raise NotImplementedError

    def _check(self, code: int) -> None:
        """Raises the exception for a native error code."""
        raise NotImplementedError

    @property
    def has_network(self) -> bool:
        """Whether it has a network device."""
        return lib.cc_has_network(self._use())

    @property
    def paused(self) -> bool:
        """Whether it is paused."""
        return lib.cc_paused(self._use())

    def pause(self) -> None:
        """Stops executing; virtual time goes on, and timers that became due fire when it is resumed."""
        self._check(lib.cc_pause(self._use(), True))

    def resume(self) -> None:
        """Executes again."""
        self._check(lib.cc_pause(self._use(), False))

    def power_off(self) -> None:
        """Power loss: it ends as POWER_OFF, until reboot(). Also for one that has ended by itself."""
        self._check(lib.cc_power_off(self._use()))

    def reboot(self, boot: Snapshot, vns: int) -> None:
        """Starts again at a virtual time, or now if that is later.

        Memory and registers are as in `boot`, taken of an equally configured machine after its guest was loaded;
        devices are reset. Time, disk, clock chip, the guest's properties, all counters and console position go on,
        and what was done to it from outside stays in force: pause, pace, clock, balloon, link.
        """
        self._check(lib.cc_reboot(self._use(), boot.use_native(), vns))
        self._loaded = True

    @property
    def slowdown(self) -> int:
        """How many times as long an instruction takes; 1: normal."""
        return lib.cc_slowdown(self._use())

    def set_slowdown(self, factor: int) -> None:
        """Every instruction takes `factor` times as long, 1 to 1000. Raises UsageError."""
        self._check(lib.cc_set_slowdown(self._use(), _checked(factor, _U32, "a slow-down", "1 to 1000")))

    @property
    def tsc_skew(self) -> int:
        """By how many parts in a million the TSC runs faster than it should; negative: slower."""
        return lib.cc_tsc_skew(self._use())

    def set_tsc_skew(self, ppm: int) -> None:
        """The TSC runs on at another rate, -900000 to 9000000 ppm; it never jumps. Raises UsageError."""
        self._check(lib.cc_set_tsc_skew(self._use(), _checked(ppm, _I64, "a clock skew", "-900000 to 9000000 ppm")))

    def shift_rtc(self, ns: int) -> None:
        """The clock chip shows so many nanoseconds more from now on, or less. Raises UsageError beyond 10^16."""
        self._check(
            lib.cc_shift_rtc(self._use(), _checked(ns, _I64, "a shift of the clock chip", "-10^16 to 10^16 ns"))
        )

    @property
    def timer_jitter(self) -> int:
        """By up to how many nanoseconds timer interrupts are late."""
        return lib.cc_timer_jitter(self._use())

    def set_timer_jitter(self, max_ns: int) -> None:
        """Timer interrupts come late by a random 0 to max_ns, at most a second; 0: off. Raises UsageError."""
        self._check(lib.cc_set_timer_jitter(self._use(), _checked(max_ns, _U64, "a timer jitter", "0 to 10^9 ns")))

    def inject_irq(self, irq: int) -> None:
        """A request on an interrupt line, 0 to 15 without 2, that stays until acknowledged. Raises UsageError."""
        self._check(lib.cc_inject_irq(self._use(), _checked(irq, _U32, "an interrupt line", "0 to 15, and not 2")))

    def inject_nmi(self) -> None:
        """A non-maskable interrupt."""
        self._check(lib.cc_inject_nmi(self._use()))


_U32, _U64, _I64 = range(1 << 32), range(1 << 64), range(-(1 << 63), 1 << 63)


def _checked(value: int, native: range, what: str, allowed: str) -> int:
    """What does not fit the native type; the native library checks the rest."""
    if value not in native:
        raise UsageError(f"{what} of {value}", hint=f"give {allowed}")
    return value
