"""Virtio devices as Linux's own drivers use them: ext4, power loss, disk faults, memory, entropy, carrier, agent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from chaoscontrol import DeterministicVm, PageStore, Snapshot, VmConfig, image_path
from chaoscontrol._binding import lib
from chaoscontrol.agent import Answer, Decoder, Ping, Pong, Ran, Run, decode, encode
from chaoscontrol.disk import CrashMode, DiskFaults
from chaoscontrol.loader import read_source
from chaoscontrol.random import Stream

PROMPT = "/ # "
VNS_MAX = 5_000_000_000
SEED = 11


def boot(store: PageStore, disk: bytes) -> DeterministicVm:
    vm = DeterministicVm(VmConfig(memory_bytes=128 << 20, seed=SEED, disk_bytes=len(disk), network=True), store=store)
    vm.disk.write(0, disk)
    vm.load_kernel(image_path("vmlinux"), image_path("tools"))
    vm.run_until(PROMPT, max_vns=VNS_MAX)
    vm.run(vns=vm.vns + 300_000_000)  # the agent has made its channel raw
    return vm


@pytest.fixture(scope="module")
def booted() -> Iterator[tuple[DeterministicVm, Snapshot]]:
    with boot(PageStore(), bytes(read_source(image_path("disk"), "disk")[1])) as vm:
        yield vm, vm.snapshot()


@pytest.fixture
def linux(booted: tuple[DeterministicVm, Snapshot]) -> DeterministicVm:
    vm, snapshot = booted
    vm.restore(snapshot)
    vm.take_serial_output()
    vm.take_raw_events()
    return vm


def sh(vm: DeterministicVm, command: str) -> str:
    """What a command prints."""
    vm.console_input(f"echo be''gin; {command}; echo do''ne\r")
    text = vm.run_until("done\r\n", max_vns=vm.vns + VNS_MAX)
    vm.run_until(PROMPT, max_vns=vm.vns + VNS_MAX)
    return text.split("begin\r\n", 1)[1].removesuffix("done\r\n")


def test_a_file_survives_on_the_disk(linux: DeterministicVm) -> None:
    flushes = linux.disk.stats().flushes
    said = sh(linux, "dd if=/dev/urandom of=/data/f bs=64k count=32 2>/dev/null; sync; md5sum /data/f")
    assert linux.disk.stats().flushes > flushes
    assert sh(linux, "echo 3 > /proc/sys/vm/drop_caches; md5sum /data/f").split()[-2] == said.split()[0]
    assert linux.disk.stats().errors == 0


def test_two_runs_of_disk_work_are_equal(linux: DeterministicVm) -> None:
    digests: set[int] = set()
    start = linux.snapshot()
    for _ in range(2):
        linux.restore(start)
        sh(linux, "for i in 1 2 3 4; do dd if=/dev/urandom of=/data/$i bs=8k count=20 conv=fsync; done 2>/dev/null")
        digests.add(int(linux.digest()))
    assert len(digests) == 1


@pytest.mark.parametrize("mode", [CrashMode.LOSE_ALL, CrashMode.TORN, CrashMode.RANDOM])
def test_ext4_recovers_from_a_power_loss_and_keeps_what_was_synced(linux: DeterministicVm, mode: CrashMode) -> None:
    sh(linux, "echo kept > /data/kept; sync; dd if=/dev/zero of=/data/more bs=4k count=99 2>/dev/null")
    sh(linux, "echo flushed > /data/flushed; fsync /data/flushed 2>/dev/null || sync; echo late > /data/late")
    linux.disk.crash(mode, seed=3)
    with boot(PageStore(), linux.disk.read(0, linux.disk.size)) as again:
        assert "kept" in sh(again, "cat /data/kept")
        assert "flushed" in sh(again, "cat /data/flushed")
        assert "late" not in sh(again, "cat /data/late 2>&1 | sed s/.data.late//")
        assert "mounted filesystem" in sh(again, "dmesg | grep EXT4")


@pytest.mark.parametrize("branch", range(6))
def test_ext4_mounts_whatever_tore_in_its_superblock(linux: DeterministicVm, branch: int) -> None:
    """Torn at sectors, half a superblock fails its checksum: nothing but e2fsck could mount it again."""
    sh(linux, "echo kept > /data/kept; sync")
    linux.reseed(branch)
    linux.disk.set_faults(DiskFaults(torn_ppm=500_000, torn_fails=True, sectors=8))
    for _ in range(3):
        sh(linux, "echo x > /data/x; sync; umount /data; mount -t ext4 /dev/vda /data")
    sh(linux, "umount /data")
    assert linux.disk.stats().faults > 0
    linux.disk.set_faults(DiskFaults())
    assert "kept" in sh(linux, "mount -t ext4 /dev/vda /data && cat /data/kept")


def test_a_lying_disk_loses_what_was_synced(linux: DeterministicVm) -> None:
    linux.disk.set_faults(DiskFaults(lost_flush_ppm=1_000_000))
    before = hashlib.sha256(linux.disk.read(0, linux.disk.size)).digest()
    sh(linux, "echo kept > /data/kept; sync")
    assert linux.disk.stats().unflushed_writes > 0
    linux.disk.crash()
    assert hashlib.sha256(linux.disk.read(0, linux.disk.size)).digest() == before


def test_programs_see_disk_errors_until_they_end(linux: DeterministicVm) -> None:
    sh(linux, "echo hello > /data/f; sync; echo 3 > /proc/sys/vm/drop_caches")
    linux.disk.set_faults(DiskFaults(read_error_ppm=1_000_000))
    assert "Input/output error" in sh(linux, "cat /data/f")
    linux.disk.set_faults(DiskFaults())
    assert "hello" in sh(linux, "cat /data/f")
    linux.disk.set_faults(DiskFaults(full_bytes=0))
    assert "Input/output error" in sh(linux, "dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=8000 conv=fsync")
    linux.disk.set_faults(DiskFaults())
    assert "error" not in sh(linux, "dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=8000 conv=fsync 2>&1")


def free_kib(vm: DeterministicVm) -> int:
    return int(sh(vm, "grep MemTotal /proc/meminfo").split()[-2])


def test_the_balloon_takes_memory_and_gives_it_back(linux: DeterministicVm) -> None:
    whole = free_kib(linux)
    linux.set_balloon(10_000)
    linux.run(vns=linux.vns + 500_000_000)
    assert linux.balloon_pages == 10_000
    assert free_kib(linux) == whole - 40_000
    linux.set_balloon(0)
    linux.run(vns=linux.vns + 500_000_000)
    assert linux.balloon_pages == 0
    assert free_kib(linux) == whole


def test_entropy_is_the_machines_stream(linux: DeterministicVm) -> None:
    said = sh(linux, "cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=16 count=1 2>/dev/null | xxd -p")
    assert "virtio_rng" in said
    assert said.split()[-1] in Stream(SEED, "rng").read(4096).hex()


def test_carrier_and_address(linux: DeterministicVm) -> None:
    sh(linux, "ifconfig eth0 10.0.0.1 up")
    assert sh(linux, "cd /sys/class/net/eth0; cat carrier address mtu; cd /").split()[-3:] == [
        "1",
        "52:54:00:12:34:00",
        "1500",
    ]
    linux.set_link(False)
    assert sh(linux, "cat /sys/class/net/eth0/carrier").split()[-1] == "0"
    linux.set_link(True)
    assert sh(linux, "cat /sys/class/net/eth0/carrier").split()[-1] == "1"


def answers(vm: DeterministicVm) -> list[Answer]:
    """What the agent has said since the last call."""
    events, lost = vm.take_raw_events()
    assert lost == 0
    said = b"".join(event.payload for event in events if event.kind == lib.CC_EVENT_AGENT)
    return [decode(frame) for frame in Decoder().feed(said)]


def test_the_agent_answers(linux: DeterministicVm) -> None:
    data = bytes(range(256)) * 40
    frame = encode(1, Ping(data)) + encode(2, Run(("/bin/cat", "/proc/sys/kernel/ostype"), timeout_ms=1000))
    assert linux.agent_send(frame) == len(frame)
    linux.run(vns=linux.vns + 100_000_000)
    pong, ran = answers(linux)
    assert isinstance(pong, Pong) and pong.data == data
    assert isinstance(ran, Ran) and ran.output == b"Linux\n"


def test_no_interrupt_is_spurious(linux: DeterministicVm) -> None:
    sh(
        linux,
        "dd if=/dev/urandom of=/data/f bs=64k count=32 conv=fsync 2>/dev/null; dd if=/dev/hwrng of=/dev/null count=4",
    )
    said = sh(linux, "grep -E 'SPU|ERR|virtio0' /proc/interrupts").split()
    counts = {name: int(said[i + 1]) for i, name in enumerate(said) if name in ("5:", "SPU:", "ERR:")}
    assert counts["5:"] > 10 and counts["SPU:"] == counts["ERR:"] == 0
