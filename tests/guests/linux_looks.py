"""Looks at a pair of Linux machines from inside, at their shells: the network, disk 0, clocks, memory, interrupts."""

from __future__ import annotations

import itertools
import re

from linux_pair import LEAD_NS, SECOND, LinuxPair

from chaoscontrol.faults import ProcessRestart

KIB = 1 << 10
SECTOR = 512
PEER = "10.0.0.2"
RATE_PPM = 300_000
REQUEST_NS = 30_000 + 4096 // 2
"""What the disk takes for 4 KiB; docs/devices.md."""


def ping(pair: LinuxPair, count: int = 10, interval_s: float = 0.01, vm: int = 0) -> tuple[float, list[float]]:
    """(fraction of requests without an answer, round trips in ms, duplicates included)."""
    said = pair.sh(vm, f"ping -c {count} -i {interval_s} -W 1 10.0.0.{2 - vm}")
    lost = re.search(r"(\d+) packets transmitted, (\d+) packets received", said)
    assert lost, said
    return 1 - int(lost[2]) / int(lost[1]), [float(ms) for ms in re.findall(r"time=([0-9.]+) ms", said)]


def healthy(pair: LinuxPair) -> bool:
    """Nothing is lost, late or doubled."""
    lost, times = ping(pair)
    return lost == 0 and len(times) == 10 and max(times) < 0.5  # the first may have to ask for the address


def near(fraction: float, count: int) -> bool:
    """Whether a fraction of `count` drawings fits RATE_PPM."""
    chance = RATE_PPM / 1e6
    return abs(fraction - chance) < 4 * (chance * (1 - chance) / count) ** 0.5


def snmp(pair: LinuxPair, vm: int, protocol: str, counter: str) -> int:
    names, values = pair.sh(vm, f"grep {protocol}: /proc/net/snmp").splitlines()
    return int(values.split()[names.split().index(counter)])


def streamed_bytes_per_sec(pair: LinuxPair, size: int) -> float:
    """What a TCP stream from machine 0 brings machine 1, by machine 1's clock."""
    first_byte = "dd bs=1 count=1 of=/dev/null 2>/dev/null"
    pair.begin(1, f"nc -l -p 9000 | ({first_byte}; cat /proc/uptime; wc -c; cat /proc/uptime)")
    pair.sh(0, f"dd if=/dev/zero bs={size} count=1 2>/dev/null | nc {PEER} 9000")
    first, _, count, last, _ = pair.finish(1).split()
    assert int(count) == size - 1
    return int(count) / max(float(last) - float(first), 0.01)


def overtakers(pair: LinuxPair, count: int) -> int:
    """How many answers come after that of a later request."""
    said = pair.sh(0, f"ping -c {count} -i 0.01 -W 1 {PEER}")
    order = [int(seq) for seq in re.findall(r"seq=(\d+)", said)]
    assert sorted(order) == list(range(count))
    return sum(seq < highest for seq, highest in zip(order, itertools.accumulate(order, max), strict=True))


BLOCK = 8000
"""A block of 4 KiB near the disk's end."""


def repeated(pair: LinuxPair, command: str, count: int) -> int:
    """How often of `count` times a command fails."""
    return int(pair.sh(0, f"n=0; for i in $(seq {count}); do {command} 2>/dev/null || n=$((n+1)); done; echo $n"))


def failing_reads(pair: LinuxPair, count: int) -> int:
    return repeated(pair, f"dd if=/dev/vda bs=4k count=1 skip={BLOCK} iflag=direct of=/dev/null", count)


def failing_writes(pair: LinuxPair, count: int) -> int:
    return repeated(pair, f"dd if=/dev/zero bs=4k count=1 seek={BLOCK} oflag=direct of=/dev/vda", count)


def fill(pair: LinuxPair, byte: str, kib: int) -> str:
    """Writes as many KiB of a byte (octal) in one request; what dd says."""
    source = f"tr '\\000' '\\{byte}' </dev/zero"
    return pair.sh(
        0, f"{source} | dd of=/dev/vda bs={kib}k count=1 seek={BLOCK * 4 // kib} iflag=fullblock oflag=direct 2>&1"
    )


def contents(pair: LinuxPair, kib: int) -> bytes:
    """What the guest reads there."""
    said = pair.sh(0, f"dd if=/dev/vda bs={kib}k count=1 skip={BLOCK * 4 // kib} iflag=direct 2>/dev/null | xxd -p")
    return bytes.fromhex(said)


def reading_s(pair: LinuxPair, count: int) -> float:
    """How long so many reads of 4 KiB take, one after the other, by the guest's clock."""
    return timed_s(pair, f"dd if=/dev/vda bs=4k count={count} iflag=direct of=/dev/null 2>/dev/null")


WALL = "busybox adjtimex | grep -e status -e time.tv"
STA_NANO = 0x2000


def walls_s(said: str) -> list[float]:
    """The wall clock's times that WALL printed. Its fraction is in nanoseconds once somebody has set it in those."""
    found = re.findall(r"status: +(\d+)[^t]*time.tv_sec: +(\d+)\s+time.tv_usec: +(\d+)", said)
    return [int(s) + int(part) / (1e9 if int(status) & STA_NANO else 1e6) for status, s, part in found]


def timed_s(pair: LinuxPair, command: str, vm: int = 0) -> float:
    begin, end = walls_s(pair.sh(vm, f"{WALL}; {command}; {WALL}"))
    return end - begin


def lose_power(pair: LinuxPair) -> None:
    """A power loss of machine 0 that takes what was not flushed, and a boot."""
    pair.schedule((LEAD_NS, ProcessRestart(0, "lose"), None))
    pair.go(2 * LEAD_NS)
    pair.reboot_seen(0)


WRITES = 64


def write_unflushed(pair: LinuxPair) -> None:
    """WRITES blocks of 0xAA, one request each, that no flush follows."""
    source = "tr '\\000' '\\252' </dev/zero"
    pair.sh(0, f"{source} | dd of=/dev/vda bs=4k count={WRITES} seek={BLOCK} iflag=fullblock oflag=direct 2>/dev/null")


def surviving_sectors(pair: LinuxPair) -> list[bool]:
    said = pair.sh(0, f"dd if=/dev/vda bs=4k count={WRITES} skip={BLOCK} iflag=direct 2>/dev/null | xxd -p -c {SECTOR}")
    lines = said.split()
    assert len(lines) == WRITES * 8 and set(lines) <= {"aa" * SECTOR, "00" * SECTOR}
    return [line.startswith("aa") for line in lines]


def clocks_s(pair: LinuxPair, vm: int = 0) -> tuple[float, float]:
    """(wall clock, monotonic clock) as the guest has them, within 10 ms of each other."""
    said = pair.sh(vm, f"{WALL}; cat /proc/uptime")
    (wall,) = walls_s(said)
    return wall, float(said.split()[-2])


def wall_ahead_s(pair: LinuxPair) -> float:
    wall, monotonic = clocks_s(pair)
    return wall - monotonic


def rates(pair: LinuxPair) -> tuple[float, float]:
    """Seconds of the wall clock and of the monotonic one while five go by on machine 1's."""
    before, right_before = clocks_s(pair), clocks_s(pair, vm=1)
    pair.go(5 * SECOND)
    after, right_after = clocks_s(pair), clocks_s(pair, vm=1)
    wall, monotonic = ((after[i] - before[i]) / (right_after[i] - right_before[i]) for i in (0, 1))
    return wall, monotonic


def meminfo(pair: LinuxPair, name: str) -> int:
    """KiB."""
    return int(pair.sh(0, f"grep {name} /proc/meminfo").split()[1])


def interrupts(pair: LinuxPair, name: str) -> int:
    return int(pair.sh(0, f"grep '{name}:' /proc/interrupts").split()[1])
