"""VmConfig and CpuConfig: everything that a machine is built from, as values.

A run is a pure function of (images, configuration, seed, inputs): what is here is the configuration. Ranges are the
native library's (native/machine.c checks them); the ones checked here as well give a better message to a person.
"""

from __future__ import annotations

from .errors import UsageError
from .record import Record

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

MEMORY_BYTES_MIN = MIB
MEMORY_BYTES_MAX = 3 * GIB
"""The virtio-mmio windows start at 0xD000_0000."""

DEFAULT_CMDLINE = (
    # one time source, calibrated in advance; one CPU; nothing randomised
    "clocksource=tsc tsc=reliable lpj=6000000 nokaslr noapic nosmp randomize_kstack_offset=off norandmaps "
    "kfence.sample_interval=0 "
    # hardware that is not there, and defences that cost instructions
    "mitigations=off nopti 8250.nr_uarts=1 i8042.noprobe pci=off "
    # a panic ends the run (a reset) instead of hanging it
    "panic=-1 console=ttyS0"
)
"""The kernel command line of a machine, unless its configuration says otherwise."""

VCPU_KINDS = ("soft", "kvm")

DISK_BYTES_MAX = 64 * GIB

QUANTUM_NS_DEFAULT = 100_000
QUANTUM_NS_MIN = 1_000
QUANTUM_NS_MAX = 10**12
"""The length of a tick."""
DEVICES = ("blk", "net", "rng", "balloon", "console")
"""The virtio devices, in the order of their windows."""
OPTIONAL_DEVICES = DEVICES[2:]


class CpuConfig(Record):
    """What the guest sees of its processor and its speed."""

    tsc_khz: int = 3_000_000
    """TSC ticks per virtual millisecond."""
    ns_per_insn: int = 1
    """Virtual nanoseconds that one retired instruction takes."""
    profile: int = 1
    """Version of the CPUID profile."""


class VmConfig(Record):
    """One machine. Raises UsageError for values that no machine can have."""

    memory_bytes: int = 256 * MIB
    """A multiple of 4 KiB, from 1 MiB to 3 GiB."""
    seed: int = 0
    """64-bit seed of the machine's random streams."""
    cmdline: str = DEFAULT_CMDLINE
    """Kernel command line of load_kernel(), at most 2047 printable ASCII characters."""
    cpu: CpuConfig = CpuConfig()
    rtc_epoch_s: int = 1_735_689_600
    """What the clock chip shows at virtual time 0: Unix seconds, UTC. The default is 2025-01-01 00:00:00."""
    vcpu: str = "soft"
    """The vCPU kind, "soft" or "kvm". A recording of one kind is never replayed on the other.

    KVM cannot count instructions: there every exit (a port or MMIO access, a halt) counts as 1000 and nothing else
    does, limits stop at the first exit at or past them, and a guest that waits for time without exits waits for ever.
    """
    machine_id: int = 0
    """Index in its cluster."""
    disk_bytes: int = 0
    """Size of its disk (/dev/vda), a multiple of 4 KiB up to 64 GiB; 0: it has none."""
    network: bool = False
    """Whether it has a network device (eth0)."""
    devices: tuple[str, ...] | None = None
    """Its other virtio devices, of OPTIONAL_DEVICES. None: all of them with a disk or a network, otherwise none."""
    tlb_bits: int | None = None
    """log2 of the software TLB's entries per mode; host-side only. None: the library's choice."""
    code_cache_kib: int | None = None
    """Decoded-code cache, KiB; host-side only. None: the library's choice."""

    def __post_init__(self) -> None:
        memory = self.memory_bytes
        if not MEMORY_BYTES_MIN <= memory <= MEMORY_BYTES_MAX or memory % (4 * KIB):
            raise UsageError(
                f"a machine cannot have {format_bytes(memory)} of memory",
                hint="give a multiple of 4 KiB from 1 MiB to 3 GiB",
            )
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"the seed {self.seed} is not a 64-bit number", hint="give one from 0 to 2^64 - 1")
        if self.vcpu not in VCPU_KINDS:
            raise UsageError(f"there is no vCPU kind {self.vcpu!r}", hint="use soft or kvm")
        if not 0 <= self.disk_bytes <= DISK_BYTES_MAX or self.disk_bytes % (4 * KIB):
            raise UsageError(
                f"a machine cannot have a disk of {format_bytes(self.disk_bytes)}",
                hint="give a multiple of 4 KiB up to 64 GiB",
            )
        for name in self.devices or ():
            if name not in OPTIONAL_DEVICES:
                raise UsageError(f"there is no device {name!r} to add", hint=f"use {', '.join(OPTIONAL_DEVICES)}")

    @property
    def has_agent_channel(self) -> bool:
        """Whether it has the console device through which a guest agent is asked."""
        return "console" in self.virtio_devices

    @property
    def virtio_devices(self) -> tuple[str, ...]:
        """The virtio devices that it has, of DEVICES."""
        main = [name for name, there in (("blk", self.disk_bytes), ("net", self.network)) if there]
        others = self.devices if self.devices is not None else OPTIONAL_DEVICES if main else ()
        return tuple(name for name in DEVICES if name in main or name in others)


def check_quantum(quantum_ns: int) -> None:
    """Raises UsageError unless a tick can be so long."""
    if not QUANTUM_NS_MIN <= quantum_ns <= QUANTUM_NS_MAX:
        raise UsageError(f"a tick of {quantum_ns} ns", hint="give 1us to 1000s")


def format_bytes(size: int) -> str:
    """A size for people: "256 MiB", "13.4 MiB", "17 bytes"."""
    for unit, name in ((1 << 40, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size) >= unit:
            return f"{size / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{size} bytes"
