"""Packets of recordings: read where they were recorded, had by living through the history again where they were not."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from toys.mutations import frames_of, joined

from chaoscontrol.cluster import SimulationController
from chaoscontrol.faults import NetworkPartition, PacketCorruption, PacketDuplicate, PacketLoss
from chaoscontrol.network import Fate
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.recording import (
    DifferenceError,
    Judge,
    Recorder,
    Replay,
    load_recording,
    make_header,
    read_packets,
    rebuild,
    records,
    replay_packets,
)
from chaoscontrol.recording.fields import Place
from chaoscontrol.recording.frames import PACKETS_MAGIC, FrameKind
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, FaultInput, Input, Multiverse, SeedInput
from chaoscontrol.trial import simulation_config

MS = 1_000_000
READY_NS = 350 * MS
FORK_NS = READY_NS + 41 * MS + 57_001
END_NS = READY_NS + 300 * MS


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Raft over links that lose, double and corrupt; a branch begins in the middle of a tick."""
    path = tmp_path_factory.mktemp("packets") / "raft.ccrec"
    scenario = load_scenario("raft")
    config = simulation_config(scenario, seed=4)
    cluster = SimulationController(config)
    multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(scenario.properties()), packets=True))
    header = make_header(config, judge=Judge.of(scenario))

    def give(given: Input) -> None:
        head = multiverse.head()
        assert head is not None
        head.give(given)

    with Recorder(path, header, clock=time.monotonic, packets=True) as recorder:
        multiverse.observe(recorder)
        multiverse.run_to(READY_NS)
        for fault in (PacketLoss(1, 300_000), PacketDuplicate(2, 300_000), PacketCorruption(0, 200_000)):
            give(FaultInput(fault))
        give(FaultInput(NetworkPartition((0,), (1, 2)), 30 * MS))
        multiverse.run_to(END_NS)
        multiverse.goto_time(FORK_NS)
        multiverse.fork("other")
        give(SeedInput(7))
        multiverse.run_to(END_NS)
        recorder.finish(multiverse)
    cluster.close()
    yield path


@pytest.fixture(scope="module")
def bare(recorded: Path) -> Path:
    """The same recording, as if nobody had asked for packets."""
    frames = [entry for entry in frames_of(recorded.read_bytes()) if entry[0][1] != FrameKind.PACKETS]
    path = recorded.with_suffix(".bare.ccrec")
    path.write_bytes(joined([([*f[:4], number, *f[5:]], payload) for number, (f, payload) in enumerate(frames)]))
    return path


def run(*words: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "cc_tui", *map(str, words)]
    return subprocess.run(command, capture_output=True, timeout=250, check=False)


def tshark(path: Path, *fields: str, only: str = "frame") -> list[list[str]]:
    columns = [part for field in fields for part in ("-e", field)]
    command = ["tshark", "-r", str(path), "-Y", only, "-T", "fields", *columns]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ["main", "other"])
def test_living_through_it_again_gives_what_was_recorded(recorded: Path, bare: Path, name: str) -> None:
    with load_recording(recorded) as with_them, load_recording(bare) as without:
        assert (with_them.has_packets, without.has_packets) == (True, False)
        assert list(without.packets(without.branch("main"))) == []
        read = read_packets(with_them, with_them.branch(name))
        frames, compared = replay_packets(without, without.branch(name))
        assert frames == read
        assert len(frames) > 150
        assert compared.checkpoints > 5
        to_ns = FORK_NS - 33 * MS
        some, _ = replay_packets(without, without.branch(name), to_vns=to_ns)
        assert some == [frame for frame in frames if frame.sent_vns <= to_ns]


def test_no_frame_is_told_twice_or_not_at_all(recorded: Path) -> None:
    with load_recording(recorded) as recording:
        for name in ("main", "other"):
            frames = read_packets(recording, recording.branch(name))
            copies = [(f.src, f.serial, f.dst, f.fate & Fate.DUPLICATE) for f in frames]
            assert len(set(copies)) == len(copies)
            for vm in range(3):
                serials = {f.serial for f in frames if f.src == vm}
                assert serials == set(range(max(serials) + 1))
        parts = [list(recording.packets(branch)) for branch in recording.branches]
        assert parts[0][-1] != parts[1][-1], "they went different ways"


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--branch", "other"),
        ("--vm", "1", "--from", "360ms", "--to", "520ms"),
        ("--link", "0:2", "--link", "vm2:0"),
    ],
)
def test_the_two_exports_are_the_same_bytes(recorded: Path, bare: Path, tmp_path: Path, options) -> None:
    again = run("export", bare, "--format", "pcap", *options)
    read = run("export", recorded, "--format", "pcap", "--output", tmp_path / "read.pcapng", *options)
    assert again.returncode == read.returncode == 0
    assert again.stdout == (tmp_path / "read.pcapng").read_bytes()
    assert b"was lived through again" in again.stderr
    assert b"lived through" not in read.stderr


def test_tshark_reads_times_interfaces_and_what_became_of_each(recorded: Path, tmp_path: Path) -> None:
    with load_recording(recorded) as recording:
        frames = read_packets(recording, recording.branch("main"))
        epoch_ns = recording.header.config.vm_config.rtc_epoch_s * 10**9
    path = tmp_path / "all.pcapng"
    assert run("export", recorded, "--format", "pcap", "--output", path).returncode == 0
    rows = tshark(path, "frame.time_epoch", "frame.interface_name", "frame.packet_flags_direction")
    sent = {(f.src, f.serial): f for f in frames}
    assert sorted((int(row[0].replace(".", "")) - epoch_ns, row[1]) for row in rows) == sorted(
        (f.sent_vns, f"vm{f.src}") for f in sent.values()
    )
    assert {int(row[2], 16) for row in rows} == {2}, "outbound"
    for fate in (Fate.LOST_DOWN, Fate.LOST_RANDOM, Fate.CORRUPTED, Fate.DUPLICATE):
        wanted = {(f.src, f.serial) for f in frames if f.fate & fate}
        assert len(tshark(path, "frame.number", only=f'frame.comment contains "{fate.text}"')) == len(wanted) > 0

    assert run("export", recorded, "--format", "pcap", "--vm", "1", "--output", path).returncode == 0
    seen = tshark(path, "frame.time_epoch", "frame.packet_flags_direction", only='frame.interface_name == "vm1"')
    arrived = [f.arrival_vns for f in frames if f.dst == 1 and f.arrival_vns is not None]
    inbound = [int(row[0].replace(".", "")) - epoch_ns for row in seen if int(row[1], 16) == 1]
    assert inbound == sorted(arrived)
    assert len(seen) == len(arrived) + len({f.serial for f in frames if f.src == 1})


def test_events_list_them(recorded: Path) -> None:
    done = run("events", recorded, "--filter", "network", "--branch", "main", "--to", "380ms", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    with load_recording(recorded) as recording:
        expected = [f for f in recording.packets(recording.branch("main")) if f.sent_vns <= 380 * MS]
    assert [(e["vns"], e["vm"], e["to"], e["serial"], e["arrival_vns"], bytes.fromhex(e["hex"])) for e in lines] == [
        (f.sent_vns, f.src, f.dst, f.serial, f.arrival_vns, f.data) for f in expected
    ]
    assert {e["kind"] for e in lines} == {"network"}
    texts = [e["text"] for e in lines]
    assert any(text.startswith("to vm1 ARP who has 10.0.0.2") for text in texts)
    assert any(" TCP 10.0.0." in text and "[SYN] seq " in text for text in texts)
    assert any(text.endswith("(lost: packet loss)") for text in texts)
    everything = run("events", recorded, "--json").stdout.splitlines()
    assert {"network", "console", "fault", "sdk"} <= {json.loads(line)["kind"] for line in everything}
    exported = [json.loads(line) for line in run("export", recorded, "--to", "380ms").stdout.splitlines()]
    assert [line["serial"] for line in exported if line["type"] == "packet" and line["branch"] == "main"] == [
        f.serial for f in expected
    ]


# ---- verified --------------------------------------------------------------------------------------------------------


def test_a_replay_compares_packets_from_anywhere(recorded: Path) -> None:
    assert run("replay", recorded).returncode == 0
    for place in (f"main@{(READY_NS + 13 * MS + 51) / 1e9:.9f}", f"other@{(FORK_NS + 31 * MS + 777) / 1e9:.9f}"):
        assert run("replay", recorded, "--checkpoint", place, "--repeat", "2").returncode == 0


def difference(path: Path):
    with load_recording(path) as recording:
        rebuilt = rebuild(recording, packets=True)
        try:
            with pytest.raises(DifferenceError) as caught:
                Replay(recording, Multiverse(rebuilt.cluster, rebuilt.witness)).all()
        finally:
            rebuilt.close()
    return caught.value.difference


def altered(recorded: Path, to: Path, change) -> Path:
    frames = [
        (fields, change(payload) if fields[1] == FrameKind.PACKETS else payload)
        for fields, payload in frames_of(recorded.read_bytes())
    ]
    to.write_bytes(joined(frames, PACKETS_MAGIC))
    return to


def test_a_packet_that_differs_is_named(recorded: Path, tmp_path: Path) -> None:
    def change(payload: bytes) -> bytes:
        batch = records.decode_packets(payload, Place("", 0))
        frames = tuple(
            dataclasses.replace(f, data=bytes(len(f.data))) if (f.src, f.serial) == (1, 30) else f for f in batch.frames
        )
        return records.encode_packets(dataclasses.replace(batch, frames=frames))

    found = difference(altered(recorded, tmp_path / "changed.ccrec", change))
    assert (found.branch, found.machine, found.part) == ("main", 1, "packets")
    assert found.what.startswith("frame 30 of vm1 to vm")


def test_a_packet_that_did_not_go_is_named(recorded: Path, tmp_path: Path) -> None:
    def change(payload: bytes) -> bytes:
        batch = records.decode_packets(payload, Place("", 0))
        frames = tuple(f for f in batch.frames if (f.src, f.serial) != (2, 20))
        return records.encode_packets(dataclasses.replace(batch, frames=frames))

    found = difference(altered(recorded, tmp_path / "fewer.ccrec", change))
    assert (found.branch, found.machine, found.part) == ("main", 2, "packets")
    assert "frame 20 of vm2 to vm" in found.what


# ---- asked for -------------------------------------------------------------------------------------------------------


def test_a_session_records_packets_if_asked(tmp_path: Path) -> None:
    script = tmp_path / "session.txt"
    script.write_text("goto 360ms\n")
    counts = []
    for words in ((), ("--record-packets",)):
        path = tmp_path / f"session{len(words)}.ccrec"
        done = run("--scenario", "raft", "--script", script, "--record", path, *words)
        assert done.returncode == 0, done.stderr
        with load_recording(path) as recording:
            assert recording.has_packets == bool(words)
            counts.append(len(list(recording.packets(recording.branch()))))
    assert counts[0] == 0
    assert counts[1] > 50


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--vm", "1"), "--vm and --link are about packets"),
        (("--format", "pcap", "--vm", "3"), "there is no machine 3"),
        (("--format", "pcap", "--link", "0:9"), "there is no machine 9"),
        (("--format", "pcap", "--link", "all"), "'all' is no direction"),
        (("--format", "pcap", "--branch", "nowhere"), "there is no branch 'nowhere'"),
    ],
)
def test_what_cannot_be_exported_is_one_line(recorded: Path, words, says: str) -> None:
    done = run("export", recorded, *words)
    assert done.returncode in (2, 3)
    assert says in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
