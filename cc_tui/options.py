"""Reading what a person writes for sizes, times and numbers, and the options that describe a cluster.

Every refusal is a UsageError with an example of what would do.
"""

from __future__ import annotations

import os

from chaoscontrol.config import DEFAULT_CMDLINE, MIB, VmConfig
from chaoscontrol.errors import UsageError
from chaoscontrol.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from chaoscontrol.cluster import SimulationConfig

_SIZE_UNITS = {"": MIB} | {
    prefix + suffix: 1 << shift
    for prefix, shift in (("k", 10), ("m", 20), ("g", 30), ("t", 40))
    for suffix in ("", "b", "ib")
}
_TIME_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_UNIT_LETTERS = "abcdefghijklmnopqrstuvwxyzµ"
_DIGITS_MAX = 20


def _quantity(text: str, units: dict[str, int]) -> int | None:
    """A decimal number times its unit, exactly; None if it is not one or not whole."""
    text = text.strip().lower()
    number = text.rstrip(_UNIT_LETTERS)
    unit = units.get(text[len(number) :])
    whole, point, fraction = number.rstrip().partition(".")
    if unit is None or not _is_decimal(whole) or (point and not _is_decimal(fraction)):
        return None
    value, rest = divmod(int(whole + fraction) * unit, 10 ** len(fraction))
    return value if rest == 0 else None


def _is_decimal(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX


def parse_size(text: str) -> int:
    """Bytes of "256M", "1GiB", "512k"; a bare number counts MiB."""
    size = _quantity(text, _SIZE_UNITS)
    if size is None:
        raise UsageError(f"{text!r} is not a size", hint="write it as 256M or 1GiB")
    return size


def parse_time_ns(text: str) -> int:
    """Nanoseconds of "5s", "100us", "1.5ms"."""
    ns = _quantity(text, _TIME_UNITS)
    if ns is None or ns >= 1 << 62:
        raise UsageError(f"{text!r} is not a time", hint="write it as 5s, 10ms or 100us")
    return ns


def parse_count(text: str) -> int:
    """A count, of instructions for example: "1000000", "250k", "1.5G" (powers of ten)."""
    count = _quantity(text.replace("_", ""), _COUNT_UNITS)
    if count is None or count >= 1 << 63:
        raise UsageError(f"{text!r} is not a count", hint="write it as 1000000, 250k or 1.5G")
    return count


def parse_seed(text: str) -> int:
    """A 64-bit seed, decimal or 0x-hexadecimal."""
    try:
        seed = int(text, 0)
    except ValueError:
        seed = -1
    if not 0 <= seed < 1 << 64:
        raise UsageError(f"{text!r} is not a seed", hint="write a number from 0 to 2^64 - 1, as 42 or 0x2a")
    return seed


class LaunchOptions(Record):
    """What cluster to start: the options that the interface, the demo and `boot` have in common."""

    vms: int = 1
    kernel: str | None = None
    """A path. None: the kernel that comes with cc-tui."""
    initrd: str | None = None
    """A path. None: the demo program, if the kernel is the one that comes with cc-tui; otherwise none."""
    cmdline: str = DEFAULT_CMDLINE
    memory_bytes: int = 256 * MIB
    seed: int = 0
    quantum_ns: int = 100_000
    vcpu: str = "soft"
    scenario: str | None = None
    """A scenario's name or file, which then says what the machines are. None: the options do."""
    schedule: str | None = None
    """A file of faults to come."""
    record: str | None = None
    """A file to record the session into."""
    self_contained: bool = False
    """Whether the recording holds the images."""
    record_packets: bool = False
    """Whether it holds what the network carries."""
    given: tuple[str, ...] = ()
    """Names of the options that were given; the others are the scenario's to say."""

    def files(self) -> tuple[str, str | None]:
        """Paths of kernel and initramfs, with the defaults filled in."""
        from chaoscontrol.images import image_path

        initrd = None if self.initrd is None else image_or_path(self.initrd)
        if self.kernel is not None:
            return image_or_path(self.kernel), initrd
        return image_path("vmlinux"), initrd or image_path("hello")

    def vm_config(self) -> VmConfig:
        """What all machines have in common. Raises UsageError for values that no machine can have."""
        return VmConfig(memory_bytes=self.memory_bytes, cmdline=self.cmdline, seed=self.seed, vcpu=self.vcpu)

    def simulation(self) -> SimulationConfig:
        """The cluster. Raises UsageError."""
        from chaoscontrol.cluster import SimulationConfig

        kernel, initrd = self.files()
        return SimulationConfig(
            num_vms=self.vms,
            vm_config=self.vm_config(),
            kernel_path=kernel,
            initrd_path=initrd,
            seed=self.seed,
            quantum_ns=self.quantum_ns,
        )


def launch_options(
    *,
    vms: int = 1,
    kernel: str | None = None,
    initrd: str | None = None,
    cmdline: str | None = None,
    append: str = "",
    memory: int = 256 * MIB,
    seed: int = 0,
    quantum: int = 100_000,
    vcpu: str = "soft",
    scenario: str | None = None,
    schedule: str | None = None,
    record: str | None = None,
    self_contained: bool = False,
    record_packets: bool = False,
    given: tuple[str, ...] = (),
) -> LaunchOptions:
    """The options from what the command line gives; cmdline None is the default one, append comes after it."""
    return LaunchOptions(
        vms=vms,
        kernel=kernel,
        initrd=initrd,
        cmdline=f"{DEFAULT_CMDLINE if cmdline is None else cmdline} {append}".strip(),
        memory_bytes=memory,
        seed=seed,
        quantum_ns=quantum,
        vcpu=vcpu,
        scenario=scenario,
        schedule=schedule,
        record=record,
        self_contained=self_contained,
        record_packets=record_packets,
        given=given,
    )


def image_or_path(text: str) -> str:
    """An existing file, else the included image of that name, else the text, for the loader to complain about."""
    if os.sep in text or (os.path.exists(text) and not os.path.isdir(text)):
        return text
    from chaoscontrol.images import image_path

    try:
        return image_path(text)
    except UsageError:
        return text
