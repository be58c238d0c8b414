"""SimulationController: many machines that advance together, in ticks of virtual time, and the network between them.

Owns the machines and the native cluster, which runs them: a call runs every machine to the asked horizon on native
threads, and Python is not entered per tick. Promises that the result does not depend on the number of threads: within a
tick machines are independent, and what one sends reaches another in a later tick.

Times are virtual nanoseconds, absolute unless said otherwise.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import TYPE_CHECKING

from . import loader, random
from ._binding import ffi, lib, raise_native
from .config import QUANTUM_NS_DEFAULT, VmConfig, check_quantum
from .errors import EngineError, UsageError
from .faults.engine import EngineState, FaultEngine
from .faults.target import ClusterFaults, TargetState
from .machine import NO_LIMIT, DeterministicVm, Digest, PageStore, Snapshot, Stop, StopKind, run_limit
from .network import LinkParams, Network

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from ._native import CData
    from .faults.engine import FaultChange
    from .faults.schedule import FaultSchedule
    from .faults.types import Fault
    from .in_flight import PacketEdit, PacketId
    from .loader import BootFiles

VMS_MAX = 256
THREADS_MAX = 256
DISK_CHUNK_BYTES = 4096
ZEROS = bytes(DISK_CHUNK_BYTES)
SETUP_COMPLETE = 0x10


@dataclasses.dataclass(frozen=True, slots=True)
class SimulationConfig:
    """A cluster. Raises UsageError for values that no cluster can have."""

    num_vms: int = 1
    vm_config: VmConfig = dataclasses.field(default_factory=VmConfig)
    """What all machines have in common; seed and machine_id are replaced by each machine's own."""
    kernel_path: str | os.PathLike[str] | None = None
    """An ELF vmlinux, loaded into every machine. None: the machines start empty, for load_flat()."""
    initrd_path: str | os.PathLike[str] | None = None
    seed: int = 0
    """64 bits; the seeds of every machine and of the network are derived from it."""
    quantum_ns: int = QUANTUM_NS_DEFAULT
    """The length of a tick."""
    threads: int | None = None
    """How many threads run machines. None: one per machine, at most one per processor. No effect on the result."""
    disk_path: str | os.PathLike[str] | None = None
    """What every machine's disk holds at first, may be zstd-compressed. None: zeros."""
    link: LinkParams = dataclasses.field(default_factory=LinkParams)
    """What every link of the network is when nothing is wrong with it."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_vms <= VMS_MAX:
            raise UsageError(f"a cluster of {self.num_vms} machines", hint=f"give 1 to {VMS_MAX}")
        check_quantum(self.quantum_ns)
        if self.threads is not None and not 1 <= self.threads <= THREADS_MAX:
            raise UsageError(f"{self.threads} threads", hint=f"give 1 to {THREADS_MAX}")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"the seed {self.seed} is not a 64-bit number", hint="give one from 0 to 2^64 - 1")


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterStop:
    """Why a cluster's run ended."""

    kind: StopKind
    """VNS: the horizon was reached; CANCELLED; or what happened in a machine."""
    machine: int | None
    """Where it happened."""
    instret: int
    """Of that machine at that moment."""
    vns: int
    """The moment at which it happened."""
    detail: int = 0


class ClusterSnapshot:
    """The state of all machines, of the network, and the cluster's time.

    Frees what it holds when collected, or by close().
    """

    def __init__(
        self, machines: Sequence[Snapshot], vns: int, network: bytes, faults: EngineState, target: TargetState
    ) -> None:
        self.machines = tuple(machines)
        self.vns = vns
        """The cluster's virtual time."""
        self.network = network
        """The native cluster's state besides the machines'."""
        self.faults = faults
        self.target = target

    @property
    def exclusive_bytes(self) -> int:
        """Bytes of the page store that only these machines' snapshots use, each by itself, and the network's state."""
        return sum(snapshot.exclusive_bytes for snapshot in self.machines) + len(self.network)

    def close(self) -> None:
        """Frees the snapshots; does nothing the second time."""
        for snapshot in self.machines:
            snapshot.close()


class SimulationController:
    """A cluster of machines and the network between those that have a network device.

    Used by one thread at a time; cancel() may be called from any.
    """

    def __init__(self, config: SimulationConfig, *, store: PageStore | None = None) -> None:
        self.config = config
        self.store = store or PageStore()
        self._cancelled = threading.Event()
        self._native: CData = None
        self._until = ffi.new("cc_cluster_until *")
        self._stop = ffi.new("cc_cluster_stop *")
        self.vms: list[DeterministicVm] = []
        """The machines, by index."""
        self._boot_files: BootFiles | None = None
        self._boots: dict[int, Snapshot] = {}
        self._stops: list[Stop | None] = [None] * config.num_vms
        self._faults = FaultEngine(config.num_vms)
        self._fault_target = ClusterFaults(self)
        try:
            if config.kernel_path is not None:
                self._boot_files = loader.read_boot_files(config.kernel_path, config.initrd_path)
            for i in range(config.num_vms):
                self.vms.append(self._new_vm(i))
                if self._boot_files is not None:
                    self.vms[i].load_boot_files(self._boot_files)
            if config.disk_path is not None:
                self._load_disks(config.disk_path)
            self._native = self._new_native()
            self.network = Network(self._use, config.num_vms, config.link)
            """The links between the machines."""
        except BaseException:
            self.close()
            raise

    def _new_vm(self, i: int) -> DeterministicVm:
        seed = random.machine_seed(self.config.seed, i)
        config = self.config.vm_config
        cmdline = config.cmdline
        if config.network:
            # What tells a guest who it is; docs/guest-programs.md.
            address = f"ip=10.0.0.{i + 1}:::255.255.255.0:vm{i}:eth0:off"
            cmdline = f"{cmdline} {address} cc.node={i} cc.nodes={self.config.num_vms}"
        return DeterministicVm(config.replace(seed=seed, machine_id=i, cmdline=cmdline), store=self.store)

    def _load_disks(self, path: str | os.PathLike[str]) -> None:
        """Copies an image into every machine's disk; pages of zeros are there already."""
        name, image = loader.read_source(path, "disk")
        for vm in self.vms:
            if len(image) > vm.config.disk_bytes:
                raise UsageError(
                    f"the image has {len(image)} bytes, the disk {vm.config.disk_bytes}",
                    where=name,
                    hint="give a larger disk",
                )
            disk = vm.disk
            for at in range(0, len(image), DISK_CHUNK_BYTES):
                chunk = image[at : at + DISK_CHUNK_BYTES]
                if chunk != ZEROS[: len(chunk)]:
                    disk.write(at, chunk)

    def _new_native(self) -> CData:
        config, error, out = self.config, ffi.new("char[512]"), ffi.new("cc_cluster **")
        machines = ffi.new("cc_machine *[]", [vm.use_native() for vm in self.vms])
        threads = config.threads or min(config.num_vms, os.cpu_count() or 1)
        code = lib.cc_cluster_new(
            machines, config.num_vms, config.quantum_ns, config.seed, threads, out, error, len(error)
        )
        if code != lib.CC_OK:
            raise_native(code, ffi.string(error).decode())
        return out[0]

    def _use(self) -> CData:
        if self._native is None:
            raise EngineError("the cluster is closed")
        return self._native

    def _check(self, code: int) -> None:
        if code != lib.CC_OK:
            raise_native(code, ffi.string(lib.cc_cluster_error(self._use())).decode(errors="replace"))

    def _vm(self, i: int) -> DeterministicVm:
        if not 0 <= i < len(self.vms):
            raise UsageError(f"there is no machine {i}", hint=f"machines are 0 to {len(self.vms) - 1}")
        return self.vms[i]

    # ---- time ----

    @property
    def quantum_ns(self) -> int:
        """The length of a tick."""
        return self.config.quantum_ns

    @property
    def vns(self) -> int:
        """The cluster's virtual time: the last horizon that all machines were run to."""
        return lib.cc_cluster_vns(self._use())

    @property
    def tick(self) -> int:
        """Whole ticks that have passed."""
        return self.vns // self.config.quantum_ns

    @property
    def stops(self) -> Sequence[Stop | None]:
        """Why each machine stopped last; None before its first run. Final for one that ended by itself."""
        return tuple(self._stops)

    @property
    def running(self) -> bool:
        """Whether some machine can be run on."""
        return any(not self._stop_of(i).kind.is_final for i in range(len(self.vms)))

    def _stop_of(self, i: int) -> Stop:
        raw = ffi.new("cc_stop *")
        lib.cc_cluster_stop_of(self._use(), i, raw)
        return Stop(StopKind(raw.kind), raw.instret, raw.vns, raw.detail)

    # ---- running ----

    def run(self, ticks: int) -> bool:
        """Runs all machines for that many ticks; relative, unlike everything else.

        Returns False if it was cancelled: the machines are then at different times, and running again to the same
        horizon completes it.
        """
        return self.run_to_vns((self.tick + ticks) * self.config.quantum_ns)

    def step_round(self) -> bool:
        """Runs all machines to the end of the current tick."""
        return self.run(1)

    def run_to_vns(self, vns: int) -> bool:
        """Runs all machines to a virtual time; those that are past it, or have ended, stay where they are.

        Returns False if it was cancelled. Raises EngineError if a machine's engine cannot go on.
        """
        return self.run_until(vns).kind is StopKind.VNS

    def run_until(
        self,
        vns: int | None,
        *,
        machine: int | None = None,
        instret: int | None = None,
        console: bytes | str | None = None,
        hypercall: bool = False,
        coverage: bool = False,
        setup_complete: bool = False,
        failure: bool = False,
        ended: bool = False,
        watch: bool = False,
        on_slice: Callable[[], None] | None = None,
    ) -> ClusterStop:
        """Runs all machines to a virtual time, or to the first of the asked events.

        Without `machine` an event in any machine counts, and all machines are run to the end of the tick in which it
        happened. With it only that machine's count, and the cluster stops at that very moment. instret: absolute, of
        `machine`. console: a literal text, looked for in what is sent from now on. watch: what the machines'
        set_watches() name; an instruction that the run begins at counts unless the last run stopped for it. vns None:
        no limit; then a cluster in which nothing can happen any more stops as HALTED. on_slice is called several times
        a second.
        """
        if vns is not None and vns < self.vns:
            raise UsageError(
                f"the cluster is at {self.vns} ns, which is past {vns} ns", hint="restore a snapshot to go back"
            )
        if instret is not None and machine is None:
            raise UsageError("an instruction limit needs a machine", hint="say of which one")
        aimed = self.vms if machine is None else [self._vm(machine)]
        if console is not None:
            for vm in aimed:
                vm.set_console_pattern(console)
        until = self._until
        until.instret = run_limit("instret", instret)
        run_limit("vns", vns)
        until.machine = -1 if machine is None else machine
        until.stop_at = (
            (lib.CC_AT_CONSOLE if console is not None else 0)
            | (lib.CC_AT_HYPERCALL if hypercall else 0)
            | (lib.CC_AT_COVERAGE if coverage else 0)
            | (lib.CC_AT_FAILURE if failure else 0)
            | (lib.CC_AT_END if ended else 0)
            | (lib.CC_AT_WATCH if watch else 0)
        )
        self._cancelled.clear()
        while True:
            stop = self._run_to_next_fault(vns, machine, wants_setup=setup_complete)
            if stop is not None:
                self._stops = [self._stop_of(i) for i in range(len(self.vms))]
                return stop
            if on_slice is not None:
                on_slice()

    def _run_to_next_fault(self, vns: int | None, machine: int | None, *, wants_setup: bool) -> ClusterStop | None:
        """One native call, to the limit or the next start or end of a fault; None: go on."""
        faults, until = self._faults, self._until
        faults.apply_due(self.vns, self._fault_target)
        limits = [limit for limit in (vns, faults.next_ns()) if limit is not None]
        waits = faults.waits_for_setup
        asked = until.stop_at
        if wants_setup or (waits and machine is None):
            until.stop_at = asked | lib.CC_AT_SETUP
        elif waits:
            # Only this machine's events count, so every tick is looked at.
            limits.append((self.tick + 1) * self.config.quantum_ns)
        horizon = min(limits, default=None)
        until.vns = NO_LIMIT if horizon is None else horizon
        stop = self._run_native()
        until.stop_at = asked
        if waits:
            self._look_for_setup()
        if stop is None or (stop.kind is StopKind.VNS and horizon != vns):
            return None
        said_setup = stop.kind is StopKind.HYPERCALL and stop.detail == SETUP_COMPLETE
        if said_setup and not wants_setup and not asked & lib.CC_AT_HYPERCALL:
            return None
        return stop

    def _look_for_setup(self) -> None:
        """Sets the schedule's origin once every machine has said setup_complete: the end of that tick."""
        said = [vm.setup_vns for vm in self.vms]
        last = max((vns for vns in said if vns is not None), default=0)
        if None not in said:
            quantum = self.config.quantum_ns
            self._faults.setup_complete(-(-last // quantum) * quantum)

    def _run_native(self) -> ClusterStop | None:
        """One native call; None if it came back only for Python to look around."""
        lent: list[DeterministicVm] = []
        try:
            for vm in self.vms:
                vm.lend_native()
                lent.append(vm)
            code = lib.cc_cluster_run(self._use(), self._until, self._stop)
        finally:
            for vm in lent:
                vm.take_back_native()
        self._check(code)
        raw = self._stop
        # A cancel that came when nothing ran is none.
        if raw.kind == lib.CC_STOP_NONE or (raw.kind == lib.CC_STOP_CANCELLED and not self._cancelled.is_set()):
            return None
        machine = None if raw.machine < 0 else raw.machine
        return ClusterStop(StopKind(raw.kind), machine, raw.instret, raw.vns, raw.detail)

    def run_machine(
        self, i: int, *, instret: int | None = None, vns: int | None = None, console: bytes | str | None = None
    ) -> Stop:
        """Runs one machine to an absolute limit or a console text, for exact stepping.

        Without a network it runs alone: the cluster's time stays, and the next run brings all machines to one time
        again. With one, the others come along, because what they send may reach it.
        """
        vm = self._vm(i)
        if vm.has_network and len(self.vms) > 1:
            found = self.run_until(vns, machine=i, instret=instret, console=console)
            return self._stop_at(i, found)
        stop = vm.run(instret=instret, vns=vns, console=console)
        self._stops[i] = stop
        return stop

    def _stop_at(self, i: int, found: ClusterStop) -> Stop:
        vm = self.vms[i]
        stop = self._stop_of(i)
        if found.machine == i or not stop.kind.is_final:
            stop = Stop(found.kind, vm.instret, vm.vns, found.detail)
        self._stops[i] = stop
        return stop

    def cancel(self) -> None:
        """From any thread: the run in progress returns within about a millisecond. A later one is not affected."""
        self._cancelled.set()
        native = self._native
        if native is not None:
            lib.cc_cluster_cancel(native)
        for vm in self.vms:
            vm.cancel()

    # ---- faults ----

    @property
    def faults(self) -> FaultEngine:
        """What is broken now, and what will be."""
        return self._faults

    def set_schedule(self, schedule: FaultSchedule) -> None:
        """Replaces the faults that have not begun yet; those in effect stay. Raises FaultError (a UsageError)."""
        self._faults.set_schedule(schedule, now_ns=self.vns)
        if self._faults.waits_for_setup:
            self._look_for_setup()

    def inject(self, fault: Fault, *, duration_ns: int | None = None) -> None:
        """A fault begins now. Raises FaultError (a UsageError)."""
        self._faults.inject(fault, self.vns, self._fault_target, duration_ns=duration_ns)

    def edit_packet(self, packet: PacketId, edit: PacketEdit) -> None:
        """Does something to a packet on its way. Raises UsageError, and then changes nothing: see Network.edit()."""
        self.network.edit(packet, edit)

    def force_setup_complete(self) -> None:
        """Says setup_complete in the place of guests without an SDK: scheduled faults count their time from now."""
        for vm in self.vms:
            vm.force_setup_complete()
        self._faults.setup_complete(self.vns)

    def take_fault_log(self) -> list[FaultChange]:
        """Which faults began, happened and ended since the last call, in order."""
        return self._faults.take_log()

    def take_failed_faults(self) -> list[tuple[int, str]]:
        """When faults could not be applied, and why, since the last call."""
        failed, self._fault_target.failed = self._fault_target.failed, []
        return failed

    def begin_due_faults(self) -> None:
        """At a time that was reached, faults that are due then have begun or ended: what is done or seen there does not
        depend on the way to it.
        """
        due = self._faults.next_ns()
        if due is not None and due <= self.vns:
            self.run_to_vns(self.vns)

    def next_fault_ns(self) -> int | None:
        """When the next fault begins or ends, virtual nanoseconds; None: nothing is to come."""
        return self._faults.next_ns()

    @property
    def waits_for_setup(self) -> bool:
        """Whether scheduled faults wait for the guests to say setup_complete."""
        return self._faults.waits_for_setup

    def end_of(self, i: int) -> Stop:
        """Why machine i stopped last; final if it cannot be run on."""
        return self._stop_of(i)

    def has_ended(self, i: int) -> bool:
        """Whether machine i cannot be run on: it ended by itself, or its power was cut."""
        return self._stop_of(i).kind.is_final

    # ---- faults of single machines ----

    def pause(self, i: int) -> None:
        """Stops machine i executing; its virtual time goes on, and timers fire late when it is resumed."""
        self._vm(i).pause()

    def resume(self, i: int) -> None:
        """Lets machine i execute again; does nothing if it does."""
        self._vm(i).resume()

    def kill(self, i: int) -> None:
        """Cuts machine i's power: it ends as POWER_OFF. What is on its way to it is lost, what it has sent is not."""
        self._vm(i).power_off()

    def restart(self, i: int) -> None:
        """Starts machine i again now, whatever state it is in, from its own disk. Time goes on.

        Raises UsageError if it is not known how it starts: see set_boot().
        """
        vm = self._vm(i)
        vm.reboot(self._boot_of(i), self.vns)
        self._stops[i] = None

    def set_boot(self, i: int) -> None:
        """Machine i's memory and registers, as they are now, are what restart() starts it with.

        Only for machines that were not given a kernel by the configuration.
        """
        self._boots[i] = self._vm(i).snapshot()

    def _boot_of(self, i: int) -> Snapshot:
        boot = self._boots.get(i)
        if boot is not None:
            return boot
        if self._boot_files is None:
            raise UsageError(f"it is not known how machine {i} starts", hint="load it and call set_boot()")
        with self._new_vm(i) as fresh:
            fresh.load_boot_files(self._boot_files)
            boot = self._boots[i] = fresh.snapshot()
        return boot

    def slow_down(self, i: int, factor: int) -> None:
        """Every instruction of machine i takes `factor` times as long, 1 to 1000; 1: normal."""
        self._vm(i).set_slowdown(factor)

    def skew(self, i: int, ppm: int) -> None:
        """Machine i's TSC runs faster (or, if negative, slower) by that many parts in a million; 0: normal."""
        self._vm(i).set_tsc_skew(ppm)

    def set_timer_jitter(self, i: int, max_ns: int) -> None:
        """Machine i's timer interrupts come late by a random 0 to max_ns; 0: off."""
        self._vm(i).set_timer_jitter(max_ns)

    def inject_irq(self, i: int, irq: int) -> None:
        """Raises an interrupt line of machine i, 0 to 15, until it is acknowledged."""
        self._vm(i).inject_irq(irq)

    def inject_nmi(self, i: int) -> None:
        """Sends machine i a non-maskable interrupt."""
        self._vm(i).inject_nmi()

    def reseed(self, branch_seed: int) -> None:
        """Another future from here on: all random streams start anew, by this 64-bit number."""
        self._fault_target.state = dataclasses.replace(self._fault_target.state, branch_seed=branch_seed)
        for vm in self.vms:
            vm.reseed(branch_seed)
        lib.cc_cluster_reseed(self._use(), branch_seed)

    # ---- state ----

    @property
    def snapshot_bytes(self) -> int:
        """Memory held by all snapshots together."""
        return self.store.bytes_held

    def snapshot_all(self) -> ClusterSnapshot:
        """The state of all machines and the network now. Raises BudgetError, and then keeps none."""
        native = self._use()
        size = lib.cc_cluster_state_size(native)
        network = ffi.new(f"uint8_t[{size}]")
        lib.cc_cluster_state_save(native, network)
        taken: list[Snapshot] = []
        try:
            for vm in self.vms:
                taken.append(vm.snapshot())
        except BaseException:
            for snapshot in taken:
                snapshot.close()
            raise
        return ClusterSnapshot(taken, self.vns, ffi.buffer(network)[:], self._faults.state(), self._fault_target.state)

    def restore_all(self, snapshot: ClusterSnapshot) -> None:
        """Makes the cluster what it was at the snapshot."""
        if len(snapshot.machines) != len(self.vms):
            raise UsageError(
                f"the snapshot is of {len(snapshot.machines)} machines, the cluster has {len(self.vms)}",
                hint="restore it on the cluster that it was taken of",
            )
        native = self._use()
        self._check(lib.cc_cluster_state_load(native, ffi.from_buffer(snapshot.network), len(snapshot.network)))
        self._faults.restore(snapshot.faults)
        self._fault_target.state = snapshot.target
        self._fault_target.failed.clear()
        for vm, machine in zip(self.vms, snapshot.machines, strict=True):
            vm.restore(machine)
        self._stops = [None] * len(self.vms)

    def digest(self) -> Digest:
        """128 bits over all machines' digests, the network's state and the cluster's time."""
        out = ffi.new("cc_digest *")
        lib.cc_cluster_digest(self._use(), out)
        return Digest(out.hi << 64 | out.lo)

    def network_digest(self) -> Digest:
        """128 bits over what is not in the machines: the network's state and the cluster's time."""
        out = ffi.new("cc_digest *")
        lib.cc_cluster_digest_network(self._use(), out)
        return Digest(out.hi << 64 | out.lo)

    # ---- life ----

    def close(self) -> None:
        """Ends the threads and frees the machines; does nothing the second time."""
        native, self._native = self._native, None
        if native is not None:
            lib.cc_cluster_free(native)
        boots, self._boots = self._boots, {}
        for boot in boots.values():
            boot.close()
        vms, self.vms = self.vms, []
        for vm in vms:
            vm.close()

    def __del__(self) -> None:
        # Its threads refer to the machines, so it goes before they do.
        if getattr(self, "_native", None) is not None:
            self.close()

    def __enter__(self) -> SimulationController:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
