"""Linux machines on one network: ping and TCP between them, what links do to them, and captures that tshark reads."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from chaoscontrol import (
    DEFAULT_CMDLINE,
    Fate,
    LinkParams,
    SimulationConfig,
    SimulationController,
    UsageError,
    VmConfig,
    image_path,
    wire_frames,
    write_pcap,
)

MIB = 1 << 20
MS = 1_000_000
EPOCH_S = VmConfig().rtc_epoch_s
LINES = 20_000
SENT = "".join(f"{i}\n" for i in range(1, LINES + 1)).encode()

STREAM = f"""
if [ $CC_NODE = 0 ]; then nc -l -p 9000 | md5sum; \
else sleep 0.1; ping -c 2 -i 0.1 10.0.0.1; seq 1 {LINES} | nc 10.0.0.1 9000; echo sent; fi; sleep 1000
""".strip()
PING = "if [ $CC_NODE = 1 ]; then ping -i 0.1 -W 1 10.0.0.1; fi; sleep 1000"


def cluster(run: str, *, threads: int = 2, seed: int = 3, link: LinkParams | None = None) -> SimulationController:
    vm = VmConfig(memory_bytes=64 * MIB, network=True, cmdline=f'{DEFAULT_CMDLINE} quiet cc.run="{run}"')
    return SimulationController(
        SimulationConfig(
            num_vms=2,
            vm_config=vm,
            kernel_path=image_path("vmlinux"),
            initrd_path=image_path("tools"),
            seed=seed,
            threads=threads,
            link=link or LinkParams(),
        )
    )


def replies(text: str) -> list[tuple[int, float]]:
    """(sequence number, round-trip time in ms) of ping's lines."""
    return [(int(seq), float(ms)) for seq, ms in re.findall(r"seq=(\d+) ttl=64 time=([0-9.]+) ms", text)]


def test_ping_and_a_tcp_stream_are_the_same_for_any_threads_and_after_a_restore() -> None:
    digests = []
    for threads in (1, 2):
        with cluster(STREAM, threads=threads) as c:
            c.run_to_vns(600 * MS)
            middle = c.snapshot_all()
            rounds = 2 if threads == 2 else 1
            for _ in range(rounds):
                c.run_to_vns(1_500 * MS)
                digests.append(c.digest())
                if len(digests) == 1:
                    received, sent = (vm.take_serial_output() for vm in c.vms)
                    assert hashlib.md5(SENT).hexdigest() in received
                    assert "2 packets received, 0% packet loss" in sent and "sent" in sent
                    assert all(0.1 < ms < 1 for _, ms in replies(sent))
                    assert c.network.link(1, 0).counters.delivered_bytes > len(SENT)
                c.restore_all(middle)
    assert len(set(digests)) == 1


def test_a_tcp_stream_survives_a_bad_network() -> None:
    bad = LinkParams(
        latency_ns=2 * MS, jitter_ns=MS, loss_ppm=30_000, duplicate_ppm=50_000, corrupt_ppm=50_000, reorder_ppm=80_000,
        reorder_ns=5 * MS, bandwidth_bps=10_000_000, queue_bytes=30_000,
    )  # fmt: skip
    with cluster(STREAM, link=bad) as c:
        c.run_until(60_000 * MS, machine=0, console="  -")
        assert hashlib.md5(SENT).hexdigest() in c.vms[0].take_serial_output()
        counters = c.network.link(1, 0).counters
        assert counters.lost_random and counters.duplicated and counters.corrupted and counters.reordered
        assert counters.sent + counters.duplicated == counters.delivered + counters.lost


def test_what_is_done_to_a_link_shows_in_ping_and_goes_away() -> None:
    with cluster(PING) as c:
        out, back = c.network.link(1, 0), c.network.link(0, 1)

        def pings(ns: int) -> list[tuple[int, float]]:
            c.run_to_vns(c.vns + ns)
            return replies(c.vms[1].take_serial_output())

        calm = pings(1_500 * MS)
        assert len(calm) >= 5 and all(ms < 1 for _, ms in calm[1:])
        out.latency_ns = 30 * MS + 50_000
        pings(100 * MS)
        assert all(30 < ms < 31 for _, ms in pings(500 * MS))
        c.network.heal()
        pings(200 * MS)
        assert all(ms < 1 for _, ms in pings(500 * MS))
        back.down = True  # one way: requests arrive, answers do not
        sent = out.counters.delivered
        assert pings(500 * MS) == []
        assert out.counters.delivered >= sent + 4 and back.counters.lost_down >= 4
        c.network.heal()
        pings(100 * MS)
        assert len(pings(1_000 * MS)) >= 9


def test_a_paused_and_a_restarted_peer() -> None:
    with cluster(PING) as c:
        c.run_to_vns(1_500 * MS)
        c.vms[1].take_serial_output()
        c.pause(0)
        c.run_to_vns(1_800 * MS)
        assert replies(c.vms[1].take_serial_output()) == []
        c.resume(0)
        c.run_to_vns(1_900 * MS)
        late = [ms for _, ms in replies(c.vms[1].take_serial_output())]
        assert len(late) >= 3 and max(late) > 100
        c.kill(0)
        c.run_to_vns(2_500 * MS)
        assert len(replies(c.vms[1].take_serial_output())) <= 1
        c.restart(0)
        c.run_to_vns(4_500 * MS)
        assert len(replies(c.vms[1].take_serial_output())) >= 5


def test_tshark_reads_a_capture(tmp_path: Path) -> None:
    with cluster(STREAM) as c:
        c.network.start_capture()
        c.run_to_vns(1_500 * MS)
        frames, missed = c.network.take_capture()
        assert missed == 0 and all(frame.fate == Fate.DELIVERED for frame in frames)
        at_receiver = wire_frames(frames, 0)
        assert len(at_receiver) == len(frames) == len(wire_frames(frames))
        path = tmp_path / "vm0.pcap"
        with path.open("wb") as f:
            write_pcap(f, at_receiver, epoch_s=EPOCH_S)
        fields = ("frame.time_epoch", "ip.src", "tcp.dstport", "tcp.len", "tcp.checksum.status", "icmp.type")
        columns = [part for field in fields for part in ("-e", field)]
        done = subprocess.run(
            ["tshark", "-r", str(path), "-o", "tcp.check_checksum:TRUE", "-T", "fields", *columns],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        assert len(rows) == len(frames)
        times = [round(float(row[0].split(".")[0]) - EPOCH_S) * 10**9 + int(row[0].split(".")[1]) for row in rows]
        assert times == [frame.vns for frame in at_receiver]
        stream = [row for row in rows if row[1] == "10.0.0.2" and row[2] == "9000"]
        assert sum(int(row[3]) for row in stream) == len(SENT)
        assert {row[4] for row in stream} == {"1"}, "a checksum is wrong"
        assert sum(row[5] == "8" for row in rows) == sum(row[5] == "0" for row in rows) == 2


def test_links_that_cannot_be_are_refused() -> None:
    with SimulationController(SimulationConfig(num_vms=3, vm_config=VmConfig(memory_bytes=8 * MIB))) as c:
        for vm in c.vms:
            vm.load_flat(b"\xf4")  # HLT
        network = c.network
        before = network.link_states
        assert len(before) == 6 and set(before.values()) == {LinkParams()}
        for src, dst in ((0, 3), (-1, 0), (1, 1)):
            with pytest.raises(UsageError):
                network.link(src, dst)
        for changes, says in (
            ({"loss_ppm": 1_000_001}, "link 0 to 1: a probability"),
            ({"latency_ns": -1}, "latency_ns cannot be -1"),
            ({"bandwidth_bps": 7}, "the bandwidth must be"),
            ({"reorder_ppm": 5}, "reordering needs a window"),
            ({"lossy": 1}, "a link has no lossy"),
        ):
            with pytest.raises(UsageError, match=says):
                network.link(0, 1).set(**changes)
        with pytest.raises(UsageError, match="machine 1 is on both sides"):
            network.partition((0, 1), (1, 2))
        assert network.link_states == before
        network.partition((0,), (1, 2))
        down = {pair for pair, params in network.link_states.items() if params.down}
        assert down == {(0, 1), (0, 2), (1, 0), (2, 0)}
        snapshot, digest = c.snapshot_all(), c.network_digest()
        network.heal()
        assert network.link_states == before and c.network_digest() != digest
        c.restore_all(snapshot)
        assert c.network_digest() == digest and network.link(0, 1).down
