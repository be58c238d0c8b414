"""SimulationController: machines that share virtual time, and nothing else yet."""

from __future__ import annotations

import threading
import time

import pytest
from flat_guests import COUNTER, MIB, TIMER, assemble

from chaoscontrol import Digest, SimulationConfig, SimulationController, StopKind, UsageError, VmConfig
from chaoscontrol.faults import HealAll, SlowDisk

SMALL = VmConfig(memory_bytes=8 * MIB)


def cluster(num_vms: int = 3, guest: str = TIMER, **config: object) -> SimulationController:
    controller = SimulationController(SimulationConfig(num_vms=num_vms, vm_config=SMALL, **config))  # type: ignore[arg-type]
    for i, vm in enumerate(controller.vms):
        vm.load_flat(assemble(guest))
        vm.write_memory(0x700000, bytes([i]))
    return controller


def digests_of(controller: SimulationController, ticks: int) -> list[Digest]:
    found: list[Digest] = []
    for _ in range(ticks):
        controller.run(1)
        found.append(controller.digest())
    return found


def test_all_machines_run_to_the_same_horizon() -> None:
    with cluster(quantum_ns=50_000) as controller:
        assert controller.tick == 0
        assert controller.run(10)
        assert (controller.tick, controller.vns) == (10, 500_000)
        assert [vm.vns for vm in controller.vms] == [500_000] * 3
        controller.step_round()
        assert controller.tick == 11


def test_the_number_of_threads_has_no_effect() -> None:
    found = []
    for threads in (1, 2, 3, 8):
        with cluster(num_vms=4, threads=threads) as controller:
            found.append(digests_of(controller, 30))
    assert found[0] == found[1] == found[2] == found[3]
    assert len(set(found[0])) == 30


def test_how_ticks_are_grouped_has_no_effect() -> None:
    with cluster() as one, cluster() as other:
        digests_of(one, 25)
        other.run(25)
        assert one.digest() == other.digest()


def test_every_machine_has_its_own_seed_from_the_clusters() -> None:
    with cluster(num_vms=3, seed=7) as controller:
        seeds = [vm.config.seed for vm in controller.vms]
        assert len(set(seeds)) == 3
        assert [vm.config.machine_id for vm in controller.vms] == [0, 1, 2]
    with cluster(num_vms=5, seed=7) as larger:
        assert [vm.config.seed for vm in larger.vms][:3] == seeds
    with cluster(num_vms=3, seed=8) as other:
        assert not set(seeds) & {vm.config.seed for vm in other.vms}


def test_a_restored_cluster_has_the_same_future() -> None:
    with cluster() as controller:
        controller.run(20)
        before = controller.digest()
        snapshot = controller.snapshot_all()
        future = digests_of(controller, 10)
        controller.restore_all(snapshot)
        assert (controller.digest(), controller.tick) == (before, 20)
        assert digests_of(controller, 10) == future
        assert controller.snapshot_bytes > 0
        snapshot.close()


def test_one_machine_can_be_stepped_and_the_next_run_realigns() -> None:
    with cluster() as controller, cluster() as straight:
        controller.run(5)
        stop = controller.run_machine(1, instret=controller.vms[1].instret + 17)
        assert stop.kind is StopKind.INSTRET
        assert (controller.tick, controller.vms[0].vns) == (5, 500_000)
        # Seventeen instructions may have taken a halted machine past the next ticks.
        controller.run(15)
        straight.run(20)
        assert controller.digest() == straight.digest()
        with pytest.raises(UsageError, match="there is no machine 3"):
            controller.run_machine(3)


def test_a_machine_that_ended_stays_where_it_is() -> None:
    with cluster(guest="mov dx, 0x501; out dx, eax") as controller:
        controller.vms[0].load_flat(assemble(TIMER))
        controller.run(10)
        assert [stop.kind for stop in controller.stops if stop] == [StopKind.VNS, *[StopKind.SHUTDOWN] * 2]
        assert controller.running
        assert [vm.instret for vm in controller.vms[1:]] == [2, 2]


def test_a_halted_machine_keeps_the_clusters_time() -> None:
    with cluster(guest="hlt") as controller:
        controller.run(10)
        assert [vm.vns for vm in controller.vms] == [1_000_000] * 3


def test_a_run_can_be_cancelled_and_completed() -> None:
    with cluster(guest=COUNTER, threads=2) as controller, cluster(guest=COUNTER) as straight:
        horizon = 60_000_000
        timer = threading.Timer(0.05, controller.cancel)
        timer.start()
        started = time.perf_counter()
        finished = controller.run_to_vns(10**13)
        assert not finished and time.perf_counter() - started < 5
        reached = max(vm.vns for vm in controller.vms)
        horizon = max(horizon, reached)
        controller.cancel()  # nothing runs: no effect on what follows
        assert controller.run_to_vns(horizon)
        assert straight.run_to_vns(horizon)
        assert controller.digest() == straight.digest()


def test_going_back_without_a_snapshot_is_refused() -> None:
    with cluster() as controller:
        controller.run(5)
        with pytest.raises(UsageError, match="restore a snapshot to go back"):
            controller.run_to_vns(1)


def test_a_time_that_cannot_be_reached_is_refused() -> None:
    with cluster() as controller:
        with pytest.raises(UsageError, match=f"a run cannot end at vns {1 << 64}; give 0 to 2"):
            controller.run_to_vns(1 << 64)
        with pytest.raises(UsageError, match="a run cannot end at instret -1"):
            controller.run_until(None, machine=0, instret=-1)
        assert controller.vns == 0


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"num_vms": 0}, "a cluster of 0 machines"),
        ({"num_vms": 1000}, "a cluster of 1000 machines"),
        ({"quantum_ns": 1}, "a tick of 1 ns"),
        ({"quantum_ns": 10**12 + 1}, "a tick of 1000000000001 ns; give 1us to 1000s"),
        ({"threads": 0}, "0 threads"),
        ({"seed": -1}, "not a 64-bit number"),
        ({"kernel_path": "/nonexistent"}, "/nonexistent: cannot be opened"),
    ],
)
def test_impossible_clusters_are_refused(config: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        SimulationController(SimulationConfig(**config))  # type: ignore[arg-type]


def test_disks_slowed_down_several_times_are_as_slow_as_one_fault_can_make_them() -> None:
    """What is under way keeps its time: a product without a bound would outlast any healing."""
    disk = VmConfig(memory_bytes=8 * MIB, disk_bytes=MIB)
    with SimulationController(SimulationConfig(num_vms=1, vm_config=disk)) as controller:
        controller.vms[0].load_flat(assemble(TIMER))
        slow = [controller.vms[0].disk.faults.slow_milli]
        for factor_permille in (400_000, 20_000, 900_000):
            controller.inject(SlowDisk(0, factor_permille))
            slow.append(controller.vms[0].disk.faults.slow_milli)
        controller.inject(HealAll())
        slow.append(controller.vms[0].disk.faults.slow_milli)
    assert slow == [1000, 400_000, 8_000_000, 10_000_000, 1000]
