"""Header: what a recorded cluster was made of. With the inputs of its branches it is the whole recipe of what happened.

Owns the translation from and to the cluster's configuration and properties. Images are named by the hash of what they
hold inflated; where they are is rebuild.py's business.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from chaoscontrol.cluster import VMS_MAX, SimulationConfig
from chaoscontrol.config import DEVICES, VCPU_KINDS, CpuConfig, VmConfig
from chaoscontrol.errors import UsageError
from chaoscontrol.faults import FaultSchedule
from chaoscontrol.network import LinkParams
from chaoscontrol.recording import values
from chaoscontrol.recording.fields import TEXT_BYTES_MAX, U32, U64, Fields, Place, pack, unpack
from chaoscontrol.recording.values import NAME_MAX
from chaoscontrol.scenario import Scenario

if TYPE_CHECKING:
    from chaoscontrol.oracle import HostProperty

HASH_BYTES = 32
IMAGE_BYTES_MAX = 1 << 30
ROLES = ("kernel", "initrd", "disk")
HEADING_MAX = 65_536
CMDLINE_MAX = 4096
PATTERNS_MAX = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A guest image."""

    role: str
    """Of ROLES."""
    name: str
    """The file or included image that it was read from, for a person."""
    sha256: bytes
    """Of the inflated image."""
    size: int
    """Bytes inflated."""
    embedded: bool = False
    """Whether it is in the recording."""


@dataclasses.dataclass(frozen=True, slots=True)
class Judge:
    """What the host's properties were made from."""

    scenario: str = ""
    """The scenario's name with its variant; empty without one."""
    observer: str | None = None
    """ "module:Class"."""
    kernel_properties: bool = True
    guests_may_end: bool = True
    progress_ns: int | None = None
    console_never: tuple[str, ...] = ()
    console_sometimes: tuple[str, ...] = ()

    @classmethod
    def of(cls, scenario: Scenario) -> Judge:
        """That of a scenario."""
        name = scenario.name + (f"/{scenario.variant}" if scenario.variant else "")
        return cls(
            name,
            scenario.observer,
            scenario.kernel_properties,
            scenario.guests_may_end,
            scenario.progress_ns,
            scenario.console_never,
            scenario.console_sometimes,
        )

    def properties(self) -> list[HostProperty]:
        """New host properties for one run. Raises UsageError."""
        return Scenario(
            self.scenario,
            observer=self.observer,
            kernel_properties=self.kernel_properties,
            guests_may_end=self.guests_may_end,
            progress_ns=self.progress_ns,
            console_never=self.console_never,
            console_sometimes=self.console_sometimes,
        ).properties()


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """The recipe of a cluster at virtual time 0."""

    engine: str
    """Version of the library."""
    heading: str
    """The command line, or whatever made it."""
    config: SimulationConfig
    """Without the files, which are images."""
    images: tuple[Image, ...] = ()
    judge: Judge = dataclasses.field(default_factory=Judge)
    schedule: FaultSchedule = dataclasses.field(default_factory=FaultSchedule)
    """In force at virtual time 0."""

    @property
    def vcpu(self) -> str:
        """The vCPU kind."""
        return self.config.vm_config.vcpu


def encode_header(header: Header) -> bytes:
    """The payload of the HEADER frame."""
    config, judge = header.config, header.judge
    vm, link = config.vm_config, config.link
    return pack(
        [
            header.engine,
            header.heading,
            [
                config.num_vms,
                config.seed,
                config.quantum_ns,
                [
                    vm.memory_bytes,
                    vm.cmdline,
                    [vm.cpu.tsc_khz, vm.cpu.ns_per_insn, vm.cpu.profile],
                    vm.rtc_epoch_s,
                    vm.vcpu,
                    vm.disk_bytes,
                    vm.network,
                    vm.devices,
                ],
                list(dataclasses.astuple(link)),
            ],
            [[image.role, image.name, image.sha256, image.size, image.embedded] for image in header.images],
            list(dataclasses.astuple(judge)),
            values.schedule_values(header.schedule),
        ]
    )


def decode_header(payload: bytes, place: Place) -> Header:
    """The HEADER frame. Raises RecordingError."""
    fields = Fields(unpack(payload, place), 6, "header", place)
    engine, heading = fields.text("engine", NAME_MAX), fields.text("heading", HEADING_MAX)
    config = _read_config(fields.any(), place)
    images = tuple(
        _read_image(value, f"header.images[{at}]", place) for at, value in enumerate(fields.array("images", len(ROLES)))
    )
    if len({image.role for image in images}) != len(images):
        place.fail("header.images has a role twice")
    judge = _read_judge(fields.any(), place)
    schedule = values.read_schedule(fields.any(), "header.schedule", place)
    return Header(engine, heading, config, images, judge, schedule)


def _read_config(value: object, place: Place) -> SimulationConfig:
    fields = Fields(value, 5, "header.config", place)
    num_vms, seed = fields.whole("num_vms", 1, VMS_MAX), fields.whole("seed")
    quantum_ns = fields.whole("quantum_ns")
    vm = _read_vm(fields.any(), place)
    link = _read_link(fields.any(), place)
    try:
        return SimulationConfig(num_vms=num_vms, vm_config=vm, seed=seed, quantum_ns=quantum_ns, link=link)
    except UsageError as e:
        place.fail(f"header.config: {e.what}")


def _read_vm(value: object, place: Place) -> VmConfig:
    fields = Fields(value, 8, "header.config.vm", place)
    memory_bytes, cmdline = fields.whole("memory_bytes"), fields.text("cmdline", CMDLINE_MAX)
    cpu = Fields(fields.any(), 3, "header.config.vm.cpu", place)
    tsc_khz, ns_per_insn = cpu.whole("tsc_khz", 1, U32), cpu.whole("ns_per_insn", 1, U32)
    profile = cpu.whole("profile", 0, U32)
    rtc_epoch_s, vcpu = fields.whole("rtc_epoch_s", 0, 1 << 40), fields.text("vcpu", NAME_MAX, VCPU_KINDS)
    disk_bytes, network = fields.whole("disk_bytes"), fields.flag("network")
    devices = None if fields.none() else fields.texts("devices", len(DEVICES), NAME_MAX)
    try:
        return VmConfig(
            memory_bytes=memory_bytes,
            cmdline=cmdline,
            cpu=CpuConfig(tsc_khz, ns_per_insn, profile),
            rtc_epoch_s=rtc_epoch_s,
            vcpu=vcpu,
            disk_bytes=disk_bytes,
            network=network,
            devices=devices,
        )
    except UsageError as e:
        place.fail(f"header.config.vm: {e.what}")


def _read_link(value: object, place: Place) -> LinkParams:
    names = dataclasses.fields(LinkParams)
    fields = Fields(value, len(names), "header.config.link", place)
    numbers = {field.name: fields.whole(field.name, 0, U64) for field in names if field.name != "down"}
    return LinkParams(**numbers, down=fields.flag("down"))


def _read_image(value: object, what: str, place: Place) -> Image:
    fields = Fields(value, 5, what, place)
    role, name = fields.text("role", NAME_MAX, ROLES), fields.text("name", CMDLINE_MAX)
    sha256 = fields.binary("sha256", HASH_BYTES)
    if len(sha256) != HASH_BYTES:
        fields.refuse("sha256", sha256, f"{HASH_BYTES} bytes")
    return Image(role, name, sha256, fields.whole("size", 1, IMAGE_BYTES_MAX), fields.flag("embedded"))


def _read_judge(value: object, place: Place) -> Judge:
    fields = Fields(value, 7, "header.judge", place)
    return Judge(
        fields.text("scenario", CMDLINE_MAX),
        fields.text_or_none("observer", CMDLINE_MAX),
        fields.flag("kernel_properties"),
        fields.flag("guests_may_end"),
        fields.whole_or_none("progress_ns", 1, U64),
        fields.texts("console_never", PATTERNS_MAX, TEXT_BYTES_MAX),
        fields.texts("console_sometimes", PATTERNS_MAX, TEXT_BYTES_MAX),
    )
