"""A Raft node on its raw disk in a machine: it outlives every fault of the disk, and says when the disk forgot.

What holds of its storage request by request is in guest/programs/raft/tests/storage.c; here are Linux and virtio below.
"""

from __future__ import annotations

import re

import pytest

from chaoscontrol import DeterministicVm, VmConfig, image_path
from chaoscontrol.config import DEFAULT_CMDLINE
from chaoscontrol.disk import CrashMode, DiskFaults

SECOND_NS = 1_000_000_000
PATIENCE_NS = 3 * SECOND_NS
CMDLINE = f"{DEFAULT_CMDLINE} quiet cc.node=0 cc.nodes=1 raft.local_port=7000 raft.op_ms=20"
LOG_AT = 16 << 10
RECORD_BYTES = 64
ALL = 1_000_000
HALF = 500_000

FAULTS = {
    "write errors": DiskFaults(write_error_ppm=ALL),
    "some write errors": DiskFaults(write_error_ppm=HALF),
    "torn writes": DiskFaults(torn_ppm=ALL, torn_fails=True),
    "some torn writes": DiskFaults(torn_ppm=HALF, torn_fails=True),
    "write and read errors": DiskFaults(write_error_ppm=ALL, read_error_ppm=ALL),
    "some of all errors": DiskFaults(write_error_ppm=HALF, read_error_ppm=HALF, torn_ppm=HALF, torn_fails=True),
    "a full disk": DiskFaults(full_bytes=4096),
}


def boot(disk: bytes | None = None) -> DeterministicVm:
    vm = DeterministicVm(VmConfig(memory_bytes=64 << 20, seed=3, disk_bytes=32 << 20, cmdline=CMDLINE))
    vm.load_kernel(image_path("vmlinux"), image_path("raft"))
    if disk is not None:
        vm.disk.write(0, disk)
    return vm


def serving() -> DeterministicVm:
    """A node that has led for a second."""
    vm = boot()
    vm.run_until("raft: node 0: leader of term 1", max_vns=PATIENCE_NS)
    vm.run(vns=vm.vns + SECOND_NS)
    return vm


def records(vm: DeterministicVm) -> int:
    """How long the log on the disk is; it has never been cut."""
    log = vm.disk.read(LOG_AT, vm.disk.size - LOG_AT)
    return next(i for i in range(len(log)) if not any(log[i * RECORD_BYTES : (i + 1) * RECORD_BYTES]))


def last_start(said: str) -> tuple[int, int]:
    """Boot count and recovered entries, as the node says when it starts."""
    boots, entries = re.findall(r"raft: node 0: start (\d+), term \d+, (\d+) entries", said)[-1]
    return int(boots), int(entries)


@pytest.mark.parametrize("name", FAULTS)
def test_a_node_comes_back_when_its_disk_works_again(name: str) -> None:
    with serving() as vm:
        before = records(vm)
        assert before > 20
        vm.take_serial_output()
        vm.disk.set_faults(FAULTS[name])
        vm.run(vns=vm.vns + 4 * SECOND_NS)
        assert vm.disk.stats().errors > 0
        vm.disk.set_faults(DiskFaults())
        vm.run(vns=vm.vns + SECOND_NS)
        said = vm.take_serial_output()
        assert "I/O error; starting over" in said
        assert "stays down" not in said
        boots, entries = last_start(said)
        assert boots >= 2
        assert entries >= before
        assert records(vm) > entries, "it serves again"


@pytest.mark.parametrize("mode", CrashMode)
def test_power_loss_forgets_nothing(mode: CrashMode) -> None:
    applied = 0
    with serving() as vm:
        for seed in range(3):
            # Until the moment between a write and its flush.
            while vm.disk.stats().unflushed_writes == 0:
                vm.step(1000)
            applied = max([applied, *commits(vm)])
            with vm.fork() as lost:
                lost.disk.crash(mode, seed)
                disk = lost.disk.read(0, lost.disk.size)
            with boot(disk) as again:
                _, entries = last_start(again.run_until("leader of term", max_vns=PATIENCE_NS))
                assert applied <= entries < applied + 20
            vm.run(vns=vm.vns + SECOND_NS // 7)


def commits(vm: DeterministicVm) -> list[int]:
    """Indexes that the node has said to have applied since the last time."""
    events, dropped = vm.take_raw_events()
    assert dropped == 0
    return [int(index) for event in events for index in re.findall(rb'raft_commit{.*"index":(\d+)', event.payload)]


def test_a_lying_disk_is_harmless_while_the_power_lasts() -> None:
    with boot() as vm:
        vm.disk.set_faults(DiskFaults(lost_flush_ppm=ALL))
        vm.run_until("raft: node 0: leader of term 1", max_vns=PATIENCE_NS)
        vm.run(vns=vm.vns + SECOND_NS)
        assert "starting over" not in vm.take_serial_output()
        assert records(vm) > 20


def test_a_node_whose_disk_forgot_what_was_flushed_stays_down() -> None:
    with serving() as vm:
        disk = bytearray(vm.disk.read(0, vm.disk.size))
    disk[LOG_AT + 10 * RECORD_BYTES + 44] ^= 1
    with boot(bytes(disk)) as vm:
        said = vm.run_until("stays down", max_vns=PATIENCE_NS)
        assert "raft: node 0: log record 11 is damaged, and it had been flushed; this node" in said
        vm.run(vns=vm.vns + 2 * SECOND_NS)
        events, _ = vm.take_raw_events()
        assert [event for event in events if b"raft_damaged" in event.payload]
        assert vm.disk.read(0, vm.disk.size) == bytes(disk), "nothing is written to it any more"


def test_a_disk_of_somebody_else_is_left_alone() -> None:
    disk = bytearray(32 << 20)
    disk[1080:1082] = b"\x53\xef"  # as ext4 begins
    with boot(bytes(disk)) as vm:
        vm.run_until("is not blank and has not this program's format mark; this node stays down", max_vns=PATIENCE_NS)
        assert vm.disk.stats().writes == 0
