"""What time travel needs of a cluster and its machines, as protocols.

`chaoscontrol.cluster.SimulationController` and `chaoscontrol.machine.DeterministicVm` fulfil them; so do the small
machines that the tests use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from chaoscontrol.registers import Registers

if TYPE_CHECKING:
    from chaoscontrol.faults import Fault, FaultSchedule
    from chaoscontrol.in_flight import PacketEdit, PacketId


class ConsoleMark(Protocol):
    """When the first byte of a console line was sent."""

    @property
    def offset(self) -> int:
        """Bytes sent before it since boot."""
        ...

    @property
    def vns(self) -> int:
        """Virtual time, nanoseconds."""
        ...

    @property
    def instret(self) -> int:
        """Instructions retired before the one that sent it."""
        ...


class StopKindLike(Protocol):
    @property
    def name(self) -> str:
        """The C name without its prefix: `VNS`, `INSTRET`, `SHUTDOWN`, ..."""
        ...


class StopLike(Protocol):
    @property
    def kind(self) -> StopKindLike: ...

    @property
    def detail(self) -> int: ...


class MachineConfig(Protocol):
    @property
    def memory_bytes(self) -> int: ...

    @property
    def has_agent_channel(self) -> bool:
        """Whether there is a channel to a guest agent."""
        ...


class Machine(Protocol):
    """One machine. All limits are absolute; a stop has no side effect."""

    @property
    def config(self) -> MachineConfig: ...

    @property
    def instret(self) -> int: ...

    @property
    def vns(self) -> int: ...

    @property
    def console_total(self) -> int:
        """Bytes sent since boot; part of the state, so it goes back when a snapshot is restored."""
        ...

    @property
    def has_network(self) -> bool:
        """Whether others can send it something while it runs."""
        ...

    def run(
        self, *, instret: int | None = None, vns: int | None = None, console: bytes | str | None = None
    ) -> StopLike: ...

    def console_input(self, data: bytes) -> int:
        """Queue bytes for the receiver; returns how many fitted."""
        ...

    def agent_send(self, data: bytes) -> int:
        """Queue bytes for the guest agent; returns how many fitted."""
        ...

    def take_serial_bytes(self) -> bytes: ...

    def take_console_marks(self) -> Sequence[ConsoleMark]: ...

    def take_log(self) -> list[str]: ...

    def digest(self) -> object:
        """128 bits; str() gives lower-case hexadecimal digits."""
        ...

    def cpu_digest(self) -> object: ...

    def device_digest(self) -> object: ...

    def registers_bytes(self) -> bytes:
        """All registers, as chaoscontrol.registers.LAYOUT says."""
        ...

    @property
    def page_count(self) -> int:
        """Pages of memory, and of what devices keep."""
        ...

    def page_area(self, page: int, /) -> tuple[str, int]:
        """What a page is part of, `memory` or what a device keeps, and its number there."""
        ...

    def page_sketch(self) -> bytes:
        """Sums over all pages: see sketch.py."""
        ...

    def registers(self) -> Registers: ...

    def set_registers(self, registers: Registers) -> None: ...

    def read_memory(self, address: int, size: int, *, virtual: bool = False) -> bytes: ...

    def translate(self, address: int) -> int:
        """The physical address of a virtual one."""
        ...

    def write_memory(self, address: int, data: bytes, *, virtual: bool = False) -> None: ...


class ClusterSnapshot(Protocol):
    """Frees what it holds when closed or collected."""

    def close(self) -> None: ...


class ClusterConfig(Protocol):
    @property
    def quantum_ns(self) -> int:
        """Length of a tick, virtual nanoseconds."""
        ...


class Store(Protocol):
    @property
    def bytes_held(self) -> int:
        """Memory held by all snapshots together."""
        ...


class Cluster(Protocol):
    """Machines that share one virtual time, made ready to run from virtual time 0."""

    @property
    def vms(self) -> Sequence[Machine]: ...

    @property
    def config(self) -> ClusterConfig: ...

    @property
    def store(self) -> Store: ...

    def run_to_vns(self, vns: int) -> bool:
        """Run every machine to its first boundary at or after `vns`; those that end stay behind. False: cancelled."""
        ...

    def run_until(
        self,
        vns: int,
        *,
        machine: int | None = None,
        instret: int | None = None,
        console: bytes | str | None = None,
    ) -> StopLike:
        """Run every machine to where one has retired `instret` instructions or sent `console`, at most to `vns`."""
        ...

    def has_ended(self, i: int, /) -> bool:
        """Whether machine i cannot be run on."""
        ...

    def begin_due_faults(self) -> None:
        """Begins and ends the faults whose time has come."""
        ...

    def next_fault_ns(self) -> int | None:
        """When the next fault begins or ends; None: nothing is to come."""
        ...

    @property
    def waits_for_setup(self) -> bool:
        """Whether scheduled faults wait for what the guests say."""
        ...

    def inject(self, fault: Fault, *, duration_ns: int | None = None) -> None:
        """A fault begins now. Raises UsageError, and then changes nothing."""
        ...

    def set_schedule(self, schedule: FaultSchedule) -> None:
        """Replaces the faults that have not begun. Raises UsageError, and then changes nothing."""
        ...

    def edit_packet(self, packet: PacketId, edit: PacketEdit, /) -> None:
        """Does something to a packet on its way. Raises UsageError, and then changes nothing."""
        ...

    def reseed(self, branch_seed: int) -> None:
        """All random streams start anew."""
        ...

    def network_digest(self) -> object:
        """128 bits over what is not in the machines; str() gives lower-case hexadecimal digits."""
        ...

    def snapshot_all(self) -> Any: ...

    def restore_all(self, snapshot: Any, /) -> None: ...

    def cancel(self) -> None:
        """From any thread: the run under way returns soon."""
        ...
