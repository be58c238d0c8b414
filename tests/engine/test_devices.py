"""Virtio devices of a machine: configuration, the disk as the host sees it, and a guest's driver on the soft CPU."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from flat_guests import MIB, ROOT, start
from test_native_programs import SANITIZER_OPTIONS, builder

from chaoscontrol import DeterministicVm, PageStore, VmConfig
from chaoscontrol.disk import SECTOR_BYTES, CrashMode, Disk, DiskFaults
from chaoscontrol.errors import AddressError, UsageError
from chaoscontrol.loader import device_words
from chaoscontrol.random import Stream

DISK_BYTES = 2 * MIB
ALL = ("rng", "balloon", "console")

DRIVER = """
    # A virtio-blk driver: features VERSION_1 and FLUSH, a queue of 8 at 0x200000, then for ever writes of 4 KiB to
    # successive places, each waited for with interrupts off, and a flush after every fourth.
    mov rbx, 0xd0000000
    mov dword ptr [rbx + 0x70], 0
    mov dword ptr [rbx + 0x70], 3
    mov dword ptr [rbx + 0x24], 0
    mov dword ptr [rbx + 0x20], 0x200
    mov dword ptr [rbx + 0x24], 1
    mov dword ptr [rbx + 0x20], 1
    mov dword ptr [rbx + 0x70], 11
    mov dword ptr [rbx + 0x30], 0
    mov dword ptr [rbx + 0x38], 8
    mov dword ptr [rbx + 0x80], 0x200000
    mov dword ptr [rbx + 0x90], 0x201000
    mov dword ptr [rbx + 0xa0], 0x202000
    mov dword ptr [rbx + 0x44], 1
    mov dword ptr [rbx + 0x70], 15
    # descriptors: header, data, status; the flush leaves out the data
    mov rdi, 0x200000
    mov qword ptr [rdi], 0x203000
    mov dword ptr [rdi + 8], 16
    mov dword ptr [rdi + 12], 0x10001
    mov qword ptr [rdi + 16], 0x204000
    mov dword ptr [rdi + 24], 4096
    mov dword ptr [rdi + 28], 0x20001
    mov qword ptr [rdi + 32], 0x203010
    mov dword ptr [rdi + 40], 1
    mov dword ptr [rdi + 44], 2
    xor r8d, r8d                    # requests
    xor r9d, r9d                    # writes
again:
    mov dword ptr [0x203000], 1
    mov word ptr [0x20000e], 1
    mov rax, r9
    shl rax, 3
    and rax, 0xfff
    mov [0x203008], rax
    mov rdi, 0x204000
    mov rax, r9
    inc rax
    mov ecx, 512
    rep stosq
    inc r9
    call submit
    test r9, 3
    jnz again
    mov dword ptr [0x203000], 4
    mov word ptr [0x20000e], 2
    call submit
    jmp again
submit:
    inc r8
    mov [0x201002], r8w
    mov dword ptr [rbx + 0x50], 0
1:  cmp [0x202002], r8w
    jne 1b
    mov eax, [rbx + 0x60]
    mov [rbx + 0x64], eax
    cmp byte ptr [0x203010], 0
    je 2f
    inc qword ptr [0x205000]        # requests that failed
2:  ret
"""


def driver(store: PageStore | None = None, **config: object) -> DeterministicVm:
    return start(DRIVER, store=store, disk_bytes=DISK_BYTES, **config)


def blocks(vm: DeterministicVm, count: int = 40) -> list[int]:
    """The number that each 4 KiB of the disk is full of."""
    found: list[int] = []
    for i in range(count):
        data = vm.disk.read(4096 * i, 4096)
        assert data == data[:8] * 512
        found.append(int.from_bytes(data[:8], "little"))
    return found


def test_a_driver_on_the_soft_cpu_writes_the_disk() -> None:
    with driver() as vm:
        vm.run(vns=1_000_000)
        stats = vm.disk.stats()
        assert stats.writes > 15 and stats.flushes == stats.writes // 4 and stats.errors == 0
        assert blocks(vm, stats.writes + 1) == [*range(1, stats.writes + 1), 0]
        assert stats.unflushed_writes == stats.writes % 4


def test_runs_with_requests_in_flight_are_equal_wherever_they_are_interrupted() -> None:
    stream = Stream(0, "devices")
    faults = DiskFaults(torn_ppm=200_000, corrupt_write_ppm=200_000, spike_ppm=300_000, spike_ns=12_345)
    with driver() as straight, driver(straight.store) as other:
        for vm in (straight, other):
            vm.disk.set_faults(faults)
        straight.run(instret=900_000)
        expected = straight.digest()
        while other.instret < 900_000:
            other.run(instret=min(900_000, other.instret + 1 + stream.below(40_000)))
            snapshot = other.snapshot()
            other.run(instret=other.instret + stream.below(50_000))
            other.restore(snapshot)
            snapshot.close()
        assert other.digest() == expected


def test_a_crash_loses_what_was_not_flushed() -> None:
    with driver() as vm:
        while vm.disk.stats().unflushed_writes != 3:
            vm.run(vns=vm.vns + 1000)
        snapshot = vm.snapshot()
        writes = vm.disk.stats().writes
        vm.disk.crash(CrashMode.LOSE_ALL)
        assert blocks(vm, writes + 1) == [*range(1, writes - 2), 0, 0, 0, 0]
        outcomes: set[tuple[int, ...]] = set()
        for seed in range(60):
            vm.restore(snapshot)
            vm.disk.crash(CrashMode.TORN, seed)
            tail = vm.disk.read(4096 * (writes - 3), 3 * 4096)
            sectors = [any(tail[i : i + SECTOR_BYTES]) for i in range(0, len(tail), SECTOR_BYTES)]
            kept = sectors[::8]
            assert sectors == [block for block in kept for _ in range(8)], "a block of 4 KiB is whole or not there"
            assert kept == sorted(kept, reverse=True)
            outcomes.add(tuple(kept))
        assert len(outcomes) == 4, "each number of blocks from none to all three"


@pytest.mark.parametrize(
    "faults", [DiskFaults(write_error_ppm=1_000_000), DiskFaults(full_bytes=0), DiskFaults(full_sector=0)], ids=str
)
def test_a_driver_sees_errors_and_healing(faults: DiskFaults) -> None:
    with driver() as vm:
        vm.run(vns=500_000)
        writes = vm.disk.stats().writes
        vm.disk.set_faults(faults)
        assert vm.disk.faults == faults
        vm.run(vns=1_000_000)
        failed = int.from_bytes(vm.read_memory(0x205000, 8), "little")
        assert failed > 5
        vm.disk.set_faults(DiskFaults())
        vm.run(vns=2_000_000)
        assert int.from_bytes(vm.read_memory(0x205000, 8), "little") - failed <= 1
        assert blocks(vm)[writes + 1] == 0


def test_a_slow_disk_takes_longer() -> None:
    def writes(faults: DiskFaults) -> int:
        with driver() as vm:
            vm.disk.set_faults(faults)
            vm.run(vns=3_000_000)
            return vm.disk.stats().writes

    usual = writes(DiskFaults())
    assert writes(DiskFaults(slow_milli=4000)) < usual / 2
    assert writes(DiskFaults(spike_ppm=1_000_000, spike_ns=200_000)) < usual / 2


def test_reseeding_changes_the_faults_and_nothing_else() -> None:
    faults = DiskFaults(corrupt_write_ppm=500_000)
    contents: dict[int, bytes] = {}
    with driver() as vm:
        snapshot = vm.snapshot()
        for seed in (1, 2, 1):
            vm.restore(snapshot)
            vm.reseed(seed)
            vm.disk.set_faults(faults)
            vm.run(vns=1_000_000)
            data = vm.disk.read(0, 65536)
            assert contents.setdefault(seed, data) == data
    assert contents[1] != contents[2]


# ---- configuration ----


@pytest.mark.parametrize(
    ("config", "devices"),
    [
        (VmConfig(), ()),
        (VmConfig(disk_bytes=MIB), ("blk", *ALL)),
        (VmConfig(network=True), ("net", *ALL)),
        (VmConfig(disk_bytes=MIB, network=True, devices=()), ("blk", "net")),
        (VmConfig(devices=("console", "rng")), ("rng", "console")),
    ],
)
def test_devices_of_a_configuration(config: VmConfig, devices: tuple[str, ...]) -> None:
    assert config.virtio_devices == devices
    with DeterministicVm(config.replace(memory_bytes=MIB)) as vm:
        assert vm.config.virtio_devices == devices


def test_the_kernel_is_told_where_devices_are() -> None:
    assert device_words(("blk", "console")) == [
        "virtio_mmio.device=4K@0xd0000000:5",
        "virtio_mmio.device=4K@0xd0004000:10",
    ]
    assert device_words(()) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"disk_bytes": 4095}, "disk of 4 KiB|disk of 4095 bytes"),
        ({"disk_bytes": -4096}, "disk of"),
        ({"disk_bytes": 65 << 30}, "disk of 65 GiB"),
        ({"devices": ("sound",)}, "no device 'sound'"),
        ({"devices": ("blk",)}, "no device 'blk'"),
    ],
)
def test_impossible_devices_are_refused(config: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        VmConfig(**config)  # type: ignore[arg-type]


def test_a_snapshot_belongs_to_its_devices() -> None:
    with (
        DeterministicVm(VmConfig(memory_bytes=MIB, disk_bytes=MIB)) as vm,
        DeterministicVm(VmConfig(memory_bytes=MIB, network=True), store=vm.store) as other,
        DeterministicVm(VmConfig(memory_bytes=MIB, disk_bytes=2 * MIB), store=vm.store) as larger,
    ):
        snapshot = vm.snapshot()
        with pytest.raises(UsageError, match="set of devices"):
            other.restore(snapshot)
        with pytest.raises(UsageError, match="disk size"):
            larger.restore(snapshot)


# ---- the host's side ----


def disk_machine() -> DeterministicVm:
    return start("hlt", disk_bytes=DISK_BYTES)


def test_the_host_reads_and_writes_the_disk() -> None:
    with disk_machine() as vm:
        assert vm.disk.size == DISK_BYTES
        vm.disk.write(1000, b"abc" * 3000)
        assert vm.disk.read(999, 5) == b"\0abca"
        assert vm.disk.read(1000, 9000) == b"abc" * 3000
        digest = vm.digest()
        vm.disk.write(DISK_BYTES - 1, b"x")
        assert vm.digest() != digest
        vm.disk.write(DISK_BYTES - 1, b"\0")
        assert vm.digest() == digest


@pytest.mark.parametrize(("offset", "size"), [(-1, 1), (DISK_BYTES, 1), (0, DISK_BYTES + 1), (1 << 64, 0)])
def test_access_outside_the_disk_is_refused(offset: int, size: int) -> None:
    with disk_machine() as vm:
        with pytest.raises(AddressError, match="disk"):
            vm.disk.read(offset, size)
        with pytest.raises(AddressError, match="disk"):
            vm.disk.write(offset, bytes(size))


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (DiskFaults(read_error_ppm=1_000_001), "read_error_ppm of 1000001"),
        (DiskFaults(torn_ppm=-1), "torn_ppm cannot be -1"),
        (DiskFaults(spike_ns=1 << 64), "spike_ns cannot be"),
        (DiskFaults(spike_ns=10**13), "an hour"),
        (DiskFaults(slow_milli=0), "slow_milli cannot be 0"),
        (DiskFaults(first_sector=1, sectors=DISK_BYTES // 512), "the disk has 4096"),
    ],
)
def test_impossible_faults_are_refused(faults: DiskFaults, said: str) -> None:
    with disk_machine() as vm:
        with pytest.raises((UsageError, AddressError), match=said):
            vm.disk.set_faults(faults)
        assert vm.disk.faults == DiskFaults()


def test_faults_are_state() -> None:
    faults = DiskFaults(
        read_error_ppm=5, torn_ppm=7, torn_fails=True, first_sector=8, sectors=9, full_sector=77, slow_milli=2000
    )
    with disk_machine() as vm:
        before, healthy = vm.digest(), vm.snapshot()
        vm.disk.set_faults(faults)
        assert vm.digest() != before
        sick = vm.snapshot()
        vm.restore(healthy)
        assert vm.disk.faults == DiskFaults()
        vm.restore(sick)
        assert vm.disk.faults == faults


def test_bits_are_flipped_on_request() -> None:
    with disk_machine() as vm:
        vm.disk.corrupt(10, 2, bits=1)
        assert sum(byte.bit_count() for byte in vm.disk.read(5120, 1024)) == 1
        with pytest.raises(AddressError):
            vm.disk.corrupt(DISK_BYTES // 512, 1)
        with pytest.raises(UsageError):
            vm.disk.corrupt(0, 1, bits=-1)


@pytest.mark.parametrize(
    "call",
    [
        lambda vm: vm.disk,
        lambda vm: vm.set_link(False),
        lambda vm: vm.set_balloon(1),
        lambda vm: vm.set_balloon(-1),
        lambda vm: vm.reseed(-1),
    ],
)
def test_what_is_not_there_is_named(call: object) -> None:
    with DeterministicVm(VmConfig(memory_bytes=MIB)) as vm:
        with pytest.raises(UsageError):
            call(vm)  # type: ignore[operator]
        assert vm.agent_send(b"hello") == 0


def test_a_wrong_crash_is_refused() -> None:
    with disk_machine() as vm:
        assert isinstance(vm.disk, Disk)
        with pytest.raises(UsageError, match="seed"):
            vm.disk.crash(CrashMode.RANDOM, 1 << 64)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_minutes_of_hostile_drivers() -> None:
    """The fuzzer of native/tests with the sanitizers on; its short run is among the native programs."""
    program = builder("asan").test_program(ROOT / "native" / "tests" / "test_virtio_hostile.c")
    env = {**os.environ, **SANITIZER_OPTIONS, "CC_FUZZ_SECONDS": "600", "CC_FUZZ_SEED": "1000000"}
    done = subprocess.run([str(program)], env=env, stdout=sys.stdout, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr[-8000:]
