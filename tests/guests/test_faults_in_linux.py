"""Every fault, scheduled as a user would, seen from inside a real Linux: its effect, and that it is gone afterwards.

Each test says which faults it shows, and must have scheduled them; the last one checks that none is missing. Random
effects are compared with their chance within four standard deviations or more; the seed is fixed, so no test is luckier
on one day than on another.
"""

from __future__ import annotations

import functools
import itertools
import re
import statistics
from collections.abc import Callable, Iterator

import pytest
from linux_looks import (
    BLOCK,
    KIB,
    RATE_PPM,
    REQUEST_NS,
    WRITES,
    clocks_s,
    contents,
    failing_reads,
    failing_writes,
    fill,
    healthy,
    interrupts,
    lose_power,
    meminfo,
    near,
    overtakers,
    ping,
    rates,
    reading_s,
    repeated,
    snmp,
    streamed_bytes_per_sec,
    surviving_sectors,
    timed_s,
    wall_ahead_s,
    write_unflushed,
)
from linux_pair import LEAD_NS, MS, PROMPT, SECOND, LinuxPair

from chaoscontrol.faults import (
    FAULTS,
    ClockJump,
    ClockSkew,
    CpuSlowdown,
    DiskCorruption,
    DiskFull,
    DiskLatencySpike,
    DiskReadError,
    DiskTornWrite,
    DiskWriteError,
    Fault,
    HealAll,
    InjectInterrupt,
    InjectNmi,
    LostFlush,
    MemoryPressure,
    NetworkBandwidth,
    NetworkHeal,
    NetworkJitter,
    NetworkLatency,
    NetworkPartition,
    OneWayPartition,
    PacketCorruption,
    PacketDuplicate,
    PacketLoss,
    PacketReorder,
    ProcessKill,
    ProcessPause,
    ProcessRestart,
    SignalProcess,
    SlowDisk,
    TimerJitter,
)

SHOWN: set[type[Fault]] = set()


def shows(*kinds: type[Fault]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Says which faults a test is about, and holds it to that."""
    SHOWN.update(kinds)

    def hold(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def held(pair: LinuxPair, **others: object) -> None:
            pair.scheduled.clear()
            test(pair=pair, **others)
            assert set(kinds) <= pair.scheduled

        return held

    return hold


@pytest.fixture(scope="module")
def booted() -> Iterator[LinuxPair]:
    pair = LinuxPair.boot()
    yield pair
    pair.cluster.close()


@pytest.fixture
def pair(booted: LinuxPair) -> LinuxPair:
    return booted.reset()


# ---- network: machine 0 pings machine 1 ------------------------------------------------------------------------------


@shows(NetworkPartition)
def test_a_partition_cuts_both_ways(pair: LinuxPair) -> None:
    assert healthy(pair)
    end = pair.during(NetworkPartition((0,), (1,)), duration_ns=10 * SECOND)
    arrived = snmp(pair, 1, "Icmp", "InEchos")
    assert ping(pair, 3, vm=0) == ping(pair, 3, vm=1) == (1, [])
    assert snmp(pair, 1, "Icmp", "InEchos") == arrived
    pair.over(end)
    assert healthy(pair)


@shows(OneWayPartition)
def test_a_one_way_partition_lets_requests_through_and_no_answers(pair: LinuxPair) -> None:
    end = pair.during(OneWayPartition((1,), (0,)), duration_ns=10 * SECOND)
    arrived = snmp(pair, 1, "Icmp", "InEchos")
    assert ping(pair, 5) == (1, [])
    assert snmp(pair, 1, "Icmp", "InEchos") == arrived + 5
    pair.over(end)
    assert healthy(pair)


@shows(NetworkLatency)
@pytest.mark.parametrize(("direction", "trip_ms"), [("out", 30), ("in", 30), ("both", 60)])
def test_latency_is_in_nanoseconds_and_by_direction(pair: LinuxPair, direction: str, trip_ms: int) -> None:
    _, before = ping(pair)
    end = pair.during(NetworkLatency(0, 30 * MS, peer=1, direction=direction), duration_ns=10 * SECOND)  # type: ignore[arg-type]
    lost, late = ping(pair)
    assert lost == 0
    assert abs(statistics.mean(late) - statistics.mean(before) - trip_ms) < 0.1
    pair.over(end)
    assert healthy(pair)


@shows(NetworkJitter)
def test_jitter_is_uniform_up_to_its_nanoseconds(pair: LinuxPair) -> None:
    _, before = ping(pair)
    end = pair.during(NetworkJitter(0, 20 * MS, direction="out"), duration_ns=60 * SECOND)
    lost, late = ping(pair, 100, 0.05)
    extra = [ms - statistics.mean(before) for ms in late]
    assert lost == 0
    assert -0.1 < min(extra) < 2 and 18 < max(extra) < 20.1
    assert abs(statistics.mean(extra) - 10) < 4 * 20 / 12**0.5 / 10
    pair.over(end)
    assert healthy(pair)


@shows(NetworkBandwidth)
def test_bandwidth_is_in_bytes_per_second(pair: LinuxPair) -> None:
    assert streamed_bytes_per_sec(pair, 400_000) > 4_000_000
    end = pair.during(NetworkBandwidth(0, 200_000), duration_ns=60 * SECOND)
    # Of every 1514 bytes on the wire 1448 are the stream's.
    assert 0.93 * 200_000 < streamed_bytes_per_sec(pair, 400_000) < 200_000
    pair.over(end)
    assert streamed_bytes_per_sec(pair, 400_000) > 4_000_000


@shows(PacketLoss)
def test_loss_is_a_rate(pair: LinuxPair) -> None:
    end = pair.during(PacketLoss(0, RATE_PPM, direction="out"), duration_ns=60 * SECOND)
    lost, times = ping(pair, 300)
    assert near(lost, 300) and max(times) < 0.3
    pair.over(end)
    assert ping(pair, 100)[0] == 0


@shows(PacketCorruption)
def test_corruption_is_a_rate_and_checksums_see_it(pair: LinuxPair) -> None:
    def refused() -> int:
        return snmp(pair, 1, "Ip", "InHdrErrors") + snmp(pair, 1, "Icmp", "InCsumErrors")

    assert refused() == 0
    end = pair.during(PacketCorruption(0, RATE_PPM, direction="out"), duration_ns=60 * SECOND)
    lost, _ = ping(pair, 300)
    assert near(lost, 300)
    bad = refused()
    assert bad == round(300 * lost)
    pair.over(end)
    assert ping(pair, 100)[0] == 0 and refused() == bad


@shows(PacketReorder)
def test_reordering_holds_some_packets_back(pair: LinuxPair) -> None:
    assert overtakers(pair, 100) == 0
    end = pair.during(PacketReorder(0, RATE_PPM, direction="out", window_ns=50 * MS), duration_ns=60 * SECOND)
    _, times = ping(pair, 300)
    held = [ms for ms in times if ms > 0.3]
    assert near(len(held) / 300, 300)
    assert 40 < max(held) < 50.3
    assert overtakers(pair, 100) > 10
    pair.over(end)
    assert overtakers(pair, 100) == 0


@shows(PacketDuplicate)
def test_duplication_is_a_rate(pair: LinuxPair) -> None:
    end = pair.during(PacketDuplicate(0, RATE_PPM, direction="out"), duration_ns=60 * SECOND)
    lost, times = ping(pair, 300)
    assert lost == 0 and near(len(times) / 300 - 1, 300)
    pair.over(end)
    assert healthy(pair)


@shows(NetworkHeal)
def test_a_network_heal_ends_every_network_fault_and_no_other(pair: LinuxPair) -> None:
    pair.schedule(
        (LEAD_NS, PacketLoss(0, 1_000_000), None),
        (LEAD_NS, NetworkLatency(1, 5 * MS), None),
        (LEAD_NS, NetworkPartition((0,), (1,)), None),
        (LEAD_NS, DiskReadError(0), None),
        (20 * SECOND, NetworkHeal(), None),
    )
    heal = pair.vns + 20 * SECOND
    pair.go(2 * LEAD_NS)
    assert ping(pair, 3) == (1, [])
    pair.go_to(heal + LEAD_NS)
    assert healthy(pair)
    assert failing_reads(pair, 3) == 3


# ---- disk: the block device below the file system --------------------------------------------------------------------


@shows(DiskReadError)
def test_read_errors_are_a_rate(pair: LinuxPair) -> None:
    end = pair.during(DiskReadError(0), duration_ns=20 * SECOND)
    said = pair.sh(0, f"dd if=/dev/vda bs=4k count=1 skip={BLOCK} iflag=direct of=/dev/null 2>&1")
    assert "Input/output error" in said
    assert "I/O error, dev vda, sector 64000 op 0x0:(READ)" in pair.sh(0, "dmesg | tail -n 3")
    assert failing_writes(pair, 5) == 0
    pair.over(end)
    end = pair.during(DiskReadError(0, RATE_PPM), duration_ns=20 * SECOND)
    assert near(failing_reads(pair, 100) / 100, 100)
    pair.over(end)
    assert failing_reads(pair, 20) == 0


@shows(DiskWriteError)
def test_write_errors_are_a_rate_and_change_nothing(pair: LinuxPair) -> None:
    end = pair.during(DiskWriteError(0), duration_ns=20 * SECOND)
    assert "Input/output error" in fill(pair, "252", 4)
    assert contents(pair, 4) == bytes(4 * KIB)
    pair.over(end)
    end = pair.during(DiskWriteError(0, RATE_PPM), duration_ns=20 * SECOND)
    assert near(failing_writes(pair, 100) / 100, 100)
    assert failing_reads(pair, 5) == 0
    pair.over(end)
    assert failing_writes(pair, 20) == 0


@shows(DiskTornWrite)
@pytest.mark.parametrize("silent", [False, True])
def test_a_torn_write_leaves_its_first_blocks(pair: LinuxPair, silent: bool) -> None:
    end = pair.during(DiskTornWrite(0, silent=silent), duration_ns=20 * SECOND)
    assert ("Input/output error" in fill(pair, "252", 64)) is not silent
    data = contents(pair, 64)
    written = len(data.rstrip(b"\0"))
    assert 0 < written < 64 * KIB and written % (4 * KIB) == 0
    assert data == b"\xaa" * written + bytes(64 * KIB - written)
    pair.over(end)
    assert "error" not in fill(pair, "125", 64)
    assert contents(pair, 64) == b"\x55" * 64 * KIB


@shows(DiskCorruption)
def test_corruption_flips_one_bit_of_what_is_read(pair: LinuxPair) -> None:
    fill(pair, "252", 4)
    end = pair.during(DiskCorruption(0), duration_ns=20 * SECOND)
    for _ in range(3):
        wrong = int.from_bytes(contents(pair, 4), "big") ^ int.from_bytes(b"\xaa" * 4 * KIB, "big")
        assert wrong.bit_count() == 1
    pair.over(end)
    assert contents(pair, 4) == b"\xaa" * 4 * KIB
    end = pair.during(DiskCorruption(0, RATE_PPM), duration_ns=20 * SECOND)
    same = f"dd if=/dev/vda bs=4k count=1 skip={BLOCK} iflag=direct 2>/dev/null | tr -d '\\252' | cmp -s - /dev/null"
    assert near(repeated(pair, same, 100) / 100, 100)
    pair.over(end)
    assert repeated(pair, same, 20) == 0


@shows(DiskFull)
def test_a_full_disk_refuses_every_write_and_still_reads(pair: LinuxPair) -> None:
    end = pair.during(DiskFull(0), duration_ns=20 * SECOND)
    assert "Input/output error" in fill(pair, "252", 4)  # virtio has no other error
    assert failing_writes(pair, 5) == 5 and failing_reads(pair, 5) == 0
    assert contents(pair, 4) == bytes(4 * KIB)
    pair.over(end)
    assert failing_writes(pair, 20) == 0
    assert "error" not in fill(pair, "252", 4)
    assert contents(pair, 4) == b"\xaa" * 4 * KIB


@shows(SlowDisk)
def test_a_slow_disk_takes_its_factor_of_the_time(pair: LinuxPair) -> None:
    before = reading_s(pair, 256)
    end = pair.during(SlowDisk(0, 50_000), duration_ns=20 * SECOND)
    extra = 256 * REQUEST_NS * 49 / 1e9
    assert abs(reading_s(pair, 256) - before - extra) < 0.02 * extra
    pair.over(end)
    assert abs(reading_s(pair, 256) - before) < 0.1 * before


@shows(DiskLatencySpike)
def test_latency_spikes_are_a_rate_and_nanoseconds(pair: LinuxPair) -> None:
    before = reading_s(pair, 200)
    end = pair.during(DiskLatencySpike(0, RATE_PPM, 20 * MS), duration_ns=20 * SECOND)
    spikes = (reading_s(pair, 200) - before) / 0.020
    assert abs(spikes - round(spikes)) < 0.3 and near(spikes / 200, 200)
    pair.over(end)
    assert abs(reading_s(pair, 200) - before) < 0.1 * before


@shows(LostFlush)
def test_a_lying_disk_loses_what_was_synced(pair: LinuxPair) -> None:
    end = pair.during(LostFlush(0), duration_ns=2 * SECOND)
    assert pair.sh(0, "echo one > /data/one; sync; cat /data/one") == "one"
    lose_power(pair)
    assert "No such file" in pair.sh(0, "cat /data/one")
    pair.over(end)
    pair.sh(0, "echo two > /data/two; sync")
    lose_power(pair)
    assert pair.sh(0, "cat /data/two") == "two"


# ---- machines --------------------------------------------------------------------------------------------------------


@shows(ProcessKill)
@pytest.mark.parametrize("disk", ["lose", "some", "torn"])
def test_a_kill_is_a_power_loss_and_its_end_a_boot(pair: LinuxPair, disk: str) -> None:
    pair.sh(0, "echo kept > /data/kept; sync; echo gone > /tmp/gone")
    write_unflushed(pair)
    end = pair.during(ProcessKill(0, disk), duration_ns=5 * SECOND)  # type: ignore[arg-type]
    assert ping(pair, 3, vm=1) == (1, [])
    pair.over(end)
    pair.reboot_seen(0)
    assert float(pair.sh(0, "cat /proc/uptime").split()[0]) < 2
    assert pair.sh(0, "cat /data/kept") == "kept"
    assert "No such file" in pair.sh(0, "cat /tmp/gone")
    survived = surviving_sectors(pair)
    match disk:
        case "lose":
            assert not any(survived)
        case "some":
            blocks = [survived[i : i + 8] for i in range(0, len(survived), 8)]
            assert all(len(set(block)) == 1 for block in blocks), "a block of 4 KiB is whole"
            assert 0.25 < sum(block[0] for block in blocks) / WRITES < 0.75
        case _:
            assert 0 < sum(survived) < len(survived) and survived == sorted(survived, reverse=True)
    assert ping(pair, 3, vm=1)[0] == 0


@shows(ProcessRestart)
def test_a_restart_boots_at_once_from_its_own_disk(pair: LinuxPair) -> None:
    pair.sh(0, "echo kept > /data/kept; sync; echo gone > /tmp/gone")
    pair.schedule((LEAD_NS, ProcessRestart(0), None))
    pair.go(2 * LEAD_NS)
    pair.reboot_seen(0)
    assert float(pair.sh(0, "cat /proc/uptime").split()[0]) < 2
    assert pair.sh(0, "cat /data/kept; ls /tmp") == "kept"
    assert healthy(pair)


@shows(ProcessPause)
def test_a_paused_machine_stands_still_while_time_goes_on(pair: LinuxPair) -> None:
    pair.begin(0, "for i in $(seq 60); do cat /proc/uptime; sleep 0.1; done")
    pair.go(SECOND)
    end = pair.during(ProcessPause(0), duration_ns=3 * SECOND)
    assert ping(pair, 3, vm=1) == (1, [])
    pair.over(end)
    times = [float(line.split()[0]) for line in pair.finish(0).splitlines()]
    steps = sorted(b - a for a, b in itertools.pairwise(times))
    assert len(times) == 60 and 2.9 < steps[-1] < 3.2 and steps[0] > 0.09 and steps[-2] < 0.13
    assert healthy(pair)


@shows(CpuSlowdown)
def test_a_slow_cpu_takes_its_factor_of_the_time(pair: LinuxPair) -> None:
    work = "i=0; while [ $i -lt 500 ]; do i=$((i+1)); done"
    before = timed_s(pair, work)
    end = pair.during(CpuSlowdown(0, 10), duration_ns=20 * SECOND)
    assert abs(timed_s(pair, work) / before - 10) < 0.5
    assert abs(timed_s(pair, work, vm=1) / before - 1) < 0.1
    pair.over(end)
    assert abs(timed_s(pair, work) / before - 1) < 0.1


@shows(ClockSkew)
@pytest.mark.parametrize("rate_ppm", [100_000, -200_000])
def test_a_skewed_clock_runs_at_another_rate(pair: LinuxPair, rate_ppm: int) -> None:
    assert all(abs(rate - 1) < 0.005 for rate in rates(pair))
    end = pair.during(ClockSkew(0, rate_ppm=rate_ppm), duration_ns=10 * SECOND)
    assert all(abs(rate - 1 - rate_ppm / 1e6) < 0.005 for rate in rates(pair))
    pair.over(end)
    assert all(abs(rate - 1) < 0.005 for rate in rates(pair))


@shows(ClockSkew)
@pytest.mark.parametrize("offset_s", [90, -3600])
def test_a_clock_offset_lasts_as_long_as_the_fault(pair: LinuxPair, offset_s: int) -> None:
    before = wall_ahead_s(pair)
    end = pair.during(ClockSkew(0, offset_ns=offset_s * SECOND), duration_ns=5 * SECOND)
    assert abs(wall_ahead_s(pair) - before - offset_s) < 0.02
    pair.over(end)
    assert abs(wall_ahead_s(pair) - before) < 0.02


@shows(ClockJump)
@pytest.mark.parametrize("delta_s", [7200, -86_400])
def test_a_jump_moves_the_wall_clock_and_monotonic_time_goes_on(pair: LinuxPair, delta_s: int) -> None:
    pair.begin(0, "for i in $(seq 100); do cat /proc/uptime; sleep 0.01; done")
    pair.schedule((300 * MS, ClockJump(0, delta_s * SECOND), None))
    times = [float(line.split()[0]) for line in pair.finish(0).splitlines()]
    assert len(times) == 100 and all(0 < b - a < 0.05 for a, b in itertools.pairwise(times))
    wall, monotonic = clocks_s(pair)
    assert abs(wall - monotonic - wall_ahead_s(pair.reset()) - delta_s) < 0.02


@shows(ClockSkew)
def test_monotonic_time_never_goes_back(pair: LinuxPair) -> None:
    pair.schedule(
        (200 * MS, ClockSkew(0, rate_ppm=-500_000, offset_ns=-5 * SECOND), 300 * MS),
        (400 * MS, ClockSkew(0, rate_ppm=900_000), 300 * MS),
        (600 * MS, ClockJump(0, -100 * SECOND), None),
    )
    said = pair.sh(0, "for i in $(seq 100); do echo '<7>mark' >/dev/kmsg; usleep 10000; done; dmesg | grep mark")
    stamps = [float(stamp) for stamp in re.findall(r"\[ *([\d.]+)\] mark", said)]
    assert len(stamps) == 100 and all(a < b for a, b in itertools.pairwise(stamps))


@shows(MemoryPressure)
def test_memory_pressure_takes_pages(pair: LinuxPair) -> None:
    total, free = meminfo(pair, "MemTotal"), meminfo(pair, "MemFree")
    end = pair.during(MemoryPressure(0, 24 << 20), duration_ns=10 * SECOND)
    pair.go(SECOND)
    assert meminfo(pair, "MemTotal") == total - 24 * KIB
    assert abs(meminfo(pair, "MemFree") - (free - 24 * KIB)) < KIB
    pair.over(end)
    pair.go(SECOND)
    assert meminfo(pair, "MemTotal") == total


@shows(InjectInterrupt)
def test_an_injected_interrupt_is_counted_once(pair: LinuxPair) -> None:
    before = interrupts(pair, "9")
    pair.schedule((LEAD_NS, InjectInterrupt(0, 9), None), (2 * SECOND, InjectInterrupt(0, 9), None))
    pair.go(SECOND)
    assert interrupts(pair, "9") == before + 1
    pair.go(2 * SECOND)
    assert interrupts(pair, "9") == before + 2
    assert "disabling" not in pair.sh(0, "dmesg")


@shows(InjectNmi)
def test_an_injected_nmi_is_counted_once_and_noticed(pair: LinuxPair) -> None:
    assert interrupts(pair, "NMI") == 0
    pair.schedule((LEAD_NS, InjectNmi(0), None))
    pair.go(SECOND)
    assert interrupts(pair, "NMI") == 1
    assert "NMI received for unknown reason" in pair.sh(0, "dmesg | tail -n 3")
    assert healthy(pair)


@shows(TimerJitter)
def test_timer_jitter_makes_wake_ups_late(pair: LinuxPair) -> None:
    def lateness_ms() -> list[float]:
        said = pair.sh(
            0, "dmesg -c >/dev/null; for i in $(seq 60); do echo '<7>mark' >/dev/kmsg; usleep 10000; done; dmesg"
        )
        stamps = [float(stamp) * 1000 for stamp in re.findall(r"\[ *([\d.]+)\] mark", said)]
        assert len(stamps) == 60
        return [b - a - 10 for a, b in itertools.pairwise(stamps)]

    usual = statistics.mean(lateness_ms())
    end = pair.during(TimerJitter(0, 4 * MS), duration_ns=20 * SECOND)
    late = [ms - usual for ms in lateness_ms()]
    assert -0.2 < min(late) < 1 and 3 < max(late) < 4.2
    pair.over(end)
    assert all(abs(ms - usual) < 0.2 for ms in lateness_ms())


@shows(SignalProcess)
@pytest.mark.parametrize("signal", [9, 15])
def test_a_signal_reaches_processes_by_name(pair: LinuxPair, signal: int) -> None:
    pair.sh(0, "sleep 1000 & sleep 2000 & victim=$!; nc -l -p 7000 & true")
    pair.schedule((SECOND, SignalProcess(0, "sleep", signal), None))
    assert pair.sh(0, "pidof sleep | wc -w; wait $victim; echo $?").split()[::2] == ["2", str(128 + signal)]
    assert pair.sh(0, "pidof sleep | wc -w; pidof nc | wc -w").split() == ["0", "1"]
    pair.sh(0, "sleep 1000 & true")
    pair.go(SECOND)
    assert pair.sh(0, "pidof sleep | wc -w") == "1"


@shows(HealAll)
def test_healing_all_ends_every_fault(pair: LinuxPair) -> None:
    total, ahead = meminfo(pair, "MemTotal"), wall_ahead_s(pair)
    faults: list[Fault] = [
        NetworkPartition((0,), (1,)),
        PacketLoss(0, 500_000),
        DiskReadError(0),
        SlowDisk(0),
        CpuSlowdown(0, 3),
        ClockSkew(0, offset_ns=40 * SECOND, rate_ppm=1000),
        TimerJitter(0),
        MemoryPressure(0, 8 << 20),
        ProcessPause(0),
        ProcessKill(1),
    ]
    pair.schedule(*((LEAD_NS * (i + 1), fault, None) for i, fault in enumerate(faults)), (2 * SECOND, HealAll(), None))
    heal = pair.vns + 2 * SECOND
    pair.go_to(heal - LEAD_NS)
    assert list(pair.cluster.faults.active) == faults
    pair.go_to(heal + LEAD_NS)
    assert not pair.cluster.faults.active
    pair.reboot_seen(1)
    assert healthy(pair)
    assert failing_reads(pair, 5) == 0
    assert meminfo(pair, "MemTotal") == total
    assert abs(wall_ahead_s(pair) - ahead) < 0.03
    assert reading_s(pair, 256) < 0.03
    assert all(abs(rate - 1) < 0.005 for rate in rates(pair))


# ---- faults that meet ------------------------------------------------------------------------------------------------


def test_a_pause_that_ends_while_the_power_is_off_is_over(pair: LinuxPair) -> None:
    pair.schedule(
        (LEAD_NS, ProcessPause(0), SECOND),
        (2 * LEAD_NS, ProcessKill(0), 2 * SECOND),
    )
    pair.go(3 * SECOND)
    pair.reboot_seen(0)
    assert healthy(pair)


def test_a_pause_that_begins_while_the_power_is_off_holds_the_boot_back(pair: LinuxPair) -> None:
    pair.schedule(
        (LEAD_NS, ProcessKill(0), SECOND),
        (2 * LEAD_NS, ProcessPause(0), 3 * SECOND),
    )
    pair.go(2 * SECOND)
    assert PROMPT not in pair.listen(0)
    pair.go(2 * SECOND)
    pair.reboot_seen(0)
    assert healthy(pair)


def test_memory_pressure_outlasts_a_restart(pair: LinuxPair) -> None:
    total = meminfo(pair, "MemTotal")
    end = pair.during(MemoryPressure(0, 24 << 20), duration_ns=10 * SECOND)
    pair.cluster.inject(ProcessRestart(0))
    pair.reboot_seen(0)
    assert meminfo(pair, "MemTotal") == total - 24 * KIB
    pair.over(end)
    pair.go(SECOND)
    assert meminfo(pair, "MemTotal") == total


def test_a_clock_offset_outlasts_a_restart_and_ends_after_it(pair: LinuxPair) -> None:
    right = wall_ahead_s(pair)
    end = pair.during(ClockSkew(0, offset_ns=-3600 * SECOND), duration_ns=10 * SECOND)
    restarted = pair.vns
    pair.cluster.inject(ProcessRestart(0))
    pair.reboot_seen(0)
    # Uptime began anew, and the clock chip, which Linux reads when it boots, counts whole seconds.
    right += restarted / SECOND
    assert abs(wall_ahead_s(pair) - right + 3600) < 1.1
    pair.over(end)
    assert abs(wall_ahead_s(pair) - right) < 1.1


def test_going_back_takes_requests_to_the_agent_back(pair: LinuxPair) -> None:
    """The number of a request is in the guest's memory."""
    digests = []
    for _ in range(2):
        pair.reset()
        pair.schedule((LEAD_NS, ClockJump(0, SECOND), None), (2 * LEAD_NS, SignalProcess(0, "nobody"), None))
        pair.go(SECOND)
        digests.append(pair.cluster.digest())
    assert digests[0] == digests[1]


def test_every_fault_is_shown() -> None:
    assert set(FAULTS.values()) == SHOWN
