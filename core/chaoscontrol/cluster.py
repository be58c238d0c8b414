"""SimulationController: many machines that advance together, in ticks of virtual time.

Owns the machines, the cluster's time and the threads that run them. Promises that the result does not depend on the
number of threads: within a tick machines are independent, and nothing of one reaches another but at a tick's end. A
call runs every machine to the asked horizon in native code; Python is not entered per tick.

Times are virtual nanoseconds, absolute unless said otherwise.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from typing import TYPE_CHECKING

from . import loader, random
from .config import VmConfig
from .errors import UsageError
from .machine import DeterministicVm, Digest, PageStore, Snapshot, Stop, StopKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import ThreadPoolExecutor
    from types import TracebackType

QUANTUM_NS_DEFAULT = 100_000
QUANTUM_NS_MIN = 1_000
VMS_MAX = 256


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
    """64 bits; every machine's seed is derived from it."""
    quantum_ns: int = QUANTUM_NS_DEFAULT
    """The length of a tick."""
    threads: int | None = None
    """How many threads run machines. None: one per machine, at most one per processor. No effect on the result."""

    def __post_init__(self) -> None:
        if not 1 <= self.num_vms <= VMS_MAX:
            raise UsageError(f"a cluster of {self.num_vms} machines", hint=f"give 1 to {VMS_MAX}")
        if self.quantum_ns < QUANTUM_NS_MIN:
            raise UsageError(f"a tick of {self.quantum_ns} ns", hint=f"give at least {QUANTUM_NS_MIN} ns")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"{self.threads} threads", hint="give 1 or more")
        if not 0 <= self.seed < 1 << 64:
            raise UsageError(f"the seed {self.seed} is not a 64-bit number", hint="give one from 0 to 2^64 - 1")


class ClusterSnapshot:
    """The state of all machines and the cluster's time. Frees what it holds when collected, or by close()."""

    def __init__(self, machines: Sequence[Snapshot], vns: int) -> None:
        self.machines = tuple(machines)
        self.vns = vns
        """The cluster's virtual time."""

    @property
    def exclusive_bytes(self) -> int:
        """Bytes of the page store that only these machines' snapshots use, each by itself."""
        return sum(snapshot.exclusive_bytes for snapshot in self.machines)

    def close(self) -> None:
        """Frees the snapshots; does nothing the second time."""
        for snapshot in self.machines:
            snapshot.close()


class SimulationController:
    """A cluster of independent machines.

    Used by one thread at a time; cancel() may be called from any.
    """

    def __init__(self, config: SimulationConfig, *, store: PageStore | None = None) -> None:
        self.config = config
        self.store = store or PageStore()
        self._vns = 0
        self._cancelled = threading.Event()
        self._pool: ThreadPoolExecutor | None = None
        self._threads = config.threads or min(config.num_vms, os.cpu_count() or 1)
        self.vms: list[DeterministicVm] = []
        """The machines, by index."""
        self._stops: list[Stop | None] = [None] * config.num_vms
        try:
            boot = None
            if config.kernel_path is not None:
                boot = loader.read_boot_files(config.kernel_path, config.initrd_path)
            for i in range(config.num_vms):
                self.vms.append(self._new_vm(i))
                if boot is not None:
                    self.vms[i].load_boot_files(boot)
        except BaseException:
            self.close()
            raise

    def _new_vm(self, i: int) -> DeterministicVm:
        seed = random.machine_seed(self.config.seed, i)
        return DeterministicVm(self.config.vm_config.replace(seed=seed, machine_id=i), store=self.store)

    # ---- time ----

    @property
    def quantum_ns(self) -> int:
        """The length of a tick."""
        return self.config.quantum_ns

    @property
    def vns(self) -> int:
        """The cluster's virtual time: the last horizon that all machines were run to."""
        return self._vns

    @property
    def tick(self) -> int:
        """Whole ticks that have passed."""
        return self._vns // self.config.quantum_ns

    @property
    def stops(self) -> Sequence[Stop | None]:
        """Why each machine stopped last; None before its first run. Final for one that ended by itself."""
        return tuple(self._stops)

    @property
    def running(self) -> bool:
        """Whether some machine can be run on."""
        return any(stop is None or not stop.kind.is_final for stop in self._stops)

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
        if vns < self._vns:
            raise UsageError(
                f"the cluster is at {self._vns} ns, which is past {vns} ns", hint="restore a snapshot to go back"
            )
        self._cancelled.clear()
        self._for_each(lambda i: self._run_one(i, vns))
        if self._cancelled.is_set():
            return False
        self._vns = vns
        return True

    def _run_one(self, i: int, vns: int) -> None:
        # A machine that did not run when an earlier cancel() came still has it pending: then it is run again.
        while not self._cancelled.is_set():
            stop = self.vms[i].run(vns=vns)
            self._stops[i] = stop
            if stop.kind is not StopKind.CANCELLED:
                return

    def run_machine(
        self, i: int, *, instret: int | None = None, vns: int | None = None, console: bytes | str | None = None
    ) -> Stop:
        """Runs one machine alone to an absolute limit or a console text, for exact stepping.

        The cluster's time stays; the next run brings all machines to one time again.
        """
        if not 0 <= i < len(self.vms):
            raise UsageError(f"there is no machine {i}", hint=f"machines are 0 to {len(self.vms) - 1}")
        stop = self.vms[i].run(instret=instret, vns=vns, console=console)
        self._stops[i] = stop
        return stop

    def cancel(self) -> None:
        """From any thread: the run in progress returns within about a millisecond. A later one is not affected."""
        self._cancelled.set()
        for vm in self.vms:
            vm.cancel()

    def _for_each(self, work: Callable[[int], None]) -> None:
        """Does something with every machine, on the threads. Raises the exception of the lowest index."""
        count = len(self.vms)
        if self._threads == 1 or count == 1:
            for i in range(count):
                work(i)
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="vm")
        futures = [self._pool.submit(work, i) for i in range(count)]
        try:
            errors = [future.exception() for future in futures]
        except BaseException:
            # ctrl+c while waiting: no machine may be running when the caller gets control back.
            self.cancel()
            for future in futures:
                future.exception()
            raise
        for error in errors:
            if error is not None:
                raise error

    # ---- state ----

    @property
    def snapshot_bytes(self) -> int:
        """Memory held by all snapshots together."""
        return self.store.bytes_held

    def snapshot_all(self) -> ClusterSnapshot:
        """The state of all machines now. Raises BudgetError, and then keeps none."""
        taken: list[Snapshot] = []
        try:
            for vm in self.vms:
                taken.append(vm.snapshot())
        except BaseException:
            for snapshot in taken:
                snapshot.close()
            raise
        return ClusterSnapshot(taken, self._vns)

    def restore_all(self, snapshot: ClusterSnapshot) -> None:
        """Makes the cluster what it was at the snapshot."""
        if len(snapshot.machines) != len(self.vms):
            raise UsageError(
                f"the snapshot is of {len(snapshot.machines)} machines, the cluster has {len(self.vms)}",
                hint="restore it on the cluster that it was taken of",
            )
        for vm, machine in zip(self.vms, snapshot.machines, strict=True):
            vm.restore(machine)
        self._vns = snapshot.vns
        self._stops = [None] * len(self.vms)

    def digest(self) -> Digest:
        """128 bits over all machines' digests and the cluster's time."""
        state = random.derive_key(0, "cluster", self._vns, *(str(vm.digest()) for vm in self.vms))
        return Digest.from_bytes(state[:16], "little")

    # ---- life ----

    def close(self) -> None:
        """Ends the threads and frees the machines; does nothing the second time."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
        vms, self.vms = self.vms, []
        for vm in vms:
            vm.close()

    def __enter__(self) -> SimulationController:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
