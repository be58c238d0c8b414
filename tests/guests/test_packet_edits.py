"""What if a packet had been lost, late, doubled or another one: Linux machines that ping and talk over TCP."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sessions import refused
from test_diff import ask

from cc_tui.session import Session
from chaoscontrol import DEFAULT_CMDLINE, SimulationConfig, SimulationController, UsageError, VmConfig, image_path
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId
from chaoscontrol.network import CapturedFrame, LinkParams
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.packets import read_packet
from chaoscontrol.recording import Recorder, make_header
from chaoscontrol.timetravel import ClusterWitness, Multiverse, Observer, PacketInput, PastError

MIB, MS, TICK_NS = 1 << 20, 1_000_000, 100_000
LATENCY_NS = 370_000
END_NS = 1_700 * MS
RUN = (
    "case $CC_NODE in 0) while true; do nc -l -p 9000; done;; "
    "1) sleep 0.3; ping -c 3 -i 0.1 -W 1 10.0.0.1; echo hello over there | nc 10.0.0.1 9000; echo over;; esac; "
    "sleep 1000"
)


def config() -> SimulationConfig:
    vm = VmConfig(memory_bytes=64 * MIB, network=True, cmdline=f'{DEFAULT_CMDLINE} quiet cc.run="{RUN}"')
    return SimulationConfig(
        num_vms=3, vm_config=vm, kernel_path=image_path("vmlinux"), initrd_path=image_path("tools"), seed=3,
        link=LinkParams(latency_ns=LATENCY_NS),
    )  # fmt: skip


class Frames(Observer):
    """What went, by branch."""

    def __init__(self) -> None:
        self.of: dict[str, list[CapturedFrame]] = {}

    def switched(self, branch: str, frames) -> None:
        self.of.setdefault(branch, []).extend(frames)

    def find(self, text: str, branch: str = "main") -> list[CapturedFrame]:
        return [frame for frame in self.of[branch] if text in str(read_packet(frame.data))]


class Wire:
    """A session at the end of its first branch, and what went on that."""

    def __init__(self, session: Session, frames: Frames) -> None:
        self.session = session
        self.frames = frames

    def say(self, line: str) -> Any:
        return ask(self.session, line)[1]

    def before_arrival(self, text: str) -> CapturedFrame:
        """Goes to a microsecond before the first frame of that kind arrives."""
        frame = self.frames.find(text)[0]
        assert frame.arrival_vns is not None
        self.session.execute(f"goto main@{frame.arrival_vns - 1000}ns")
        return frame

    def on(self) -> str:
        """To the end; the branch that it is of."""
        name = self.session.view.branch.name
        self.session.execute(f"goto {name}@{END_NS}ns")
        return name

    def console(self, vm: int) -> str:
        return self.session.view.consoles[vm].read(0, self.session.view.console_totals[vm]).decode()


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    cluster = SimulationController(config())
    frames = Frames()
    with Session(cluster, ClusterWitness(cluster, PropertyOracle(), packets=True), attended=False) as session:
        session._multiverse.observe(frames)
        session.execute(f"step {END_NS}ns")
        made = Wire(session, frames)
        assert "over there" in made.console(0)
        assert "0% packet loss" in made.console(1)
        yield made


# ---- what there is ---------------------------------------------------------------------------------------------------


def test_all_that_goes_is_seen_on_its_way(wire: Wire) -> None:
    """From the middle of the tick in which it is sent, when its arrival is foreseen, to its arrival."""
    for frame in wire.frames.of["main"]:
        assert frame.arrival_vns is not None
        wire.session.execute(f"goto {frame.sent_vns + 1}ns")
        named = f"{frame.src}#{frame.serial}>{frame.dst}"
        for at_ns in (frame.sent_vns + 1, (frame.sent_vns // TICK_NS + 1) * TICK_NS, frame.arrival_vns - 1):
            wire.session.execute(f"goto {at_ns}ns")
            rows = {row["packet"]: row for row in wire.say("packets")}
            assert rows[named]["arrival_vns"] == frame.arrival_vns
            assert rows[named]["hex"] == frame.data.hex()
            assert rows[named]["text"] == str(read_packet(frame.data))
        wire.session.execute(f"goto {frame.arrival_vns + 1}ns")
        assert named not in [row["packet"] for row in wire.say("packets")]
        wire.session.execute(f"goto {max(frame.sent_vns - 1, 0)}ns")
        assert named not in [row["packet"] for row in wire.say("packets")]


def test_a_list_is_of_a_machine_or_of_one_packet(wire: Wire) -> None:
    frame = wire.frames.find("ARP who has")[0]
    wire.session.execute(f"goto {frame.sent_vns + 1}ns")
    assert [row["to"] for row in wire.say("packets")] == [0, 2], "a broadcast"
    assert [row["to"] for row in wire.say("packets vm2")] == [2]
    frame = wire.before_arrival("hello over")
    lines, row = ask(wire.session, "packets 1#6")
    assert row["packet"] == "1#6>0"
    assert frame.data[row["payload_at"] :] == b"hello over there\n"
    assert lines[1] == f"{len(frame.data)} bytes, the payload begins at {row['payload_at']}"
    assert "68 65 6c 6c 6f" in "\n".join(lines)
    assert wire.session.view.cluster.in_flight[0].id == PacketId(1, 6, 0), "for the interface, too"


# ---- what if ---------------------------------------------------------------------------------------------------------


def test_a_segment_that_is_lost_is_sent_again(wire: Wire) -> None:
    frame = wire.before_arrival("hello over")
    assert wire.session.view.branch.name == "main"
    wire.session.execute("packet drop 1#6")
    name = wire.on()
    assert name != "main", "in the past it branches"
    assert "hello over there" in wire.console(0)
    (seq,) = re.findall(r"seq (\d+)", str(read_packet(frame.data)))
    again = [
        f for f in wire.frames.find(f"seq {seq} ", name) if f.serial != frame.serial and read_packet(f.data).payload
    ]
    assert [f.src for f in again] == [1]
    assert again[0].sent_vns > frame.sent_vns + 5 * MS, "when its timer said so"
    wire.session.execute(f"goto {again[0].sent_vns}ns")
    assert "hello" not in wire.console(0)
    wire.session.execute("goto main")
    assert len(wire.frames.find(f"seq {seq} ")) == 2, "once with the data, once with FIN"


@pytest.mark.parametrize("how", ["packet delay 0#2 30ms", "packet delay 0#2 to {}ns"])
def test_a_reply_that_is_late_took_longer(wire: Wire, how: str) -> None:
    frame = wire.before_arrival("echo reply seq 1")
    assert frame.arrival_vns is not None
    wire.session.execute(how.format(frame.arrival_vns + 30 * MS))
    wire.on()
    times = dict(re.findall(r"seq=(\d) ttl=64 time=([0-9.]+) ms", wire.console(1)))
    assert 30 < float(times["1"]) < 31.5
    assert float(times["0"]) < 2


def test_a_reply_can_come_early(wire: Wire) -> None:
    """As soon as the tick in which it was sent is over, which this link would not do."""
    frame = wire.frames.find("echo reply seq 1")[0]
    wire.session.execute(f"goto main@{frame.switched_vns}ns")
    wire.session.execute(f"packet delay 0#2 to {frame.switched_vns}ns")
    wire.on()
    times = dict(re.findall(r"seq=(\d) ttl=64 time=([0-9.]+) ms", wire.console(1)))
    assert float(times["1"]) < float(times["2"]) - 0.2


def test_a_reply_that_comes_twice_is_a_duplicate(wire: Wire) -> None:
    wire.before_arrival("echo reply seq 1")
    wire.session.execute("packet copy 0#2 5ms")
    wire.on()
    assert wire.console(1).count("seq=1 ttl=64") == 2
    assert "(DUP!)" in wire.console(1)


def test_another_byte_with_the_right_checksum_is_read_by_the_program(wire: Wire) -> None:
    frame = wire.before_arrival("hello over")
    wire.session.execute("packet write 1#6 data 4a fix")
    name = wire.on()
    assert "Jello over there" in wire.console(0)
    assert "hello" not in wire.console(0)
    assert [f.serial for f in wire.frames.find("Jello", name)] == [frame.serial]
    (at,) = wire.say('search vm0 "Jello over there"')[:1]
    hops = wire.say(f"when-written vm0 phys:{at} 1")
    assert hops[-1]["edited"], "and not the sender's doing"
    assert (hops[-1]["sender"], hops[-1]["serial"]) == (1, 6)


def test_another_byte_with_the_wrong_checksum_is_not(wire: Wire) -> None:
    frame = wire.before_arrival("hello over")
    wire.session.execute("packet write 1#6 data 4a")
    name = wire.on()
    assert "hello over there" in wire.console(0), "the kernel drops the segment, and it is sent again"
    assert "Jello" not in wire.console(0)
    later = [f for f in wire.frames.find("hello over", name) if f.sent_vns > frame.sent_vns + 5 * MS]
    assert len(later) == 1


def test_a_packet_of_the_tick_under_way_is_edited_when_it_ends(wire: Wire) -> None:
    frame = wire.frames.find("echo reply seq 1")[0]
    wire.session.execute(f"goto main@{frame.sent_vns + 1}ns")
    (row,) = [row for row in wire.say("packets") if row["packet"] == "0#2>1"]
    assert row["foreseen"]
    assert "it cannot arrive at" in refused(wire.session, "packet delay 0#2 to 1ms")
    wire.session.execute("packet drop 0#2")
    at = wire.session.view.position
    assert (at.vns, at.ordinal) == (frame.switched_vns, 1)
    assert wire.session.view.branch.start.vns == frame.switched_vns
    wire.on()
    assert "33% packet loss" in wire.console(1)


def test_where_the_branches_part(wire: Wire) -> None:
    """Also in a session that records packets, which goes on doing so."""
    frame = wire.before_arrival("hello over")
    wire.session.execute("branch lost")
    wire.session.execute("packet drop 1#6")
    data = wire.say(f"compare main lost until {END_NS}ns")
    (given,) = data["given"][1]
    assert given == {"vns": frame.arrival_vns - 1000, "text": "dropped frame 6 of vm1 to vm0"}
    parted = [machine["vns"] for machine in data["machines"]]
    assert parted[0] == frame.arrival_vns - 1000, "its queue is another one at once"
    assert parted[2] is None
    (acknowledged, none) = data["frames"]
    assert (acknowledged["src"], none) == (0, None), "what was not received is not acknowledged"
    assert acknowledged["sent_vns"] > frame.arrival_vns
    wire.session.execute("goto main@500ms")
    wire.session.execute("branch recorded")
    wire.session.execute("step 200ms")
    assert wire.frames.find("hello over", "recorded") == wire.frames.find("hello over")


def test_a_sample_in_which_the_packet_does_not_go_is_one_without_the_edit(wire: Wire) -> None:
    wire.before_arrival("echo reply seq 1")
    wire.session.execute("packet drop 0#2")
    wire.on()
    found = wire.say(
        'likelihood samples 2 back 1300ms resolution 1s when console vm1 contains "33% packet loss"'
        " with network_partition side_a=0 side_b=1"
    )
    assert found["estimates"][0]["vns"] < 450 * MS, "from before the edit"
    assert found["estimates"][0]["same"] == 0, "all answers are lost"


# ---- exact -----------------------------------------------------------------------------------------------------------


def test_rewinding_takes_an_edit_back(wire: Wire) -> None:
    session = wire.session
    wire.before_arrival("hello over")
    before = session.view.moment
    session.execute("packet drop 1#6")
    session.execute("packet delay 1#7 1ms")
    after = session.view.moment
    assert wire.say("inputs")[-2]["text"] == "dropped frame 6 of vm1 to vm0"
    session.execute(f"goto {before}")
    assert "1#6>0" in [row["packet"] for row in wire.say("packets")]
    session.execute(f"goto {after}")
    assert [row["packet"] for row in wire.say("packets vm1")] == ["1#7>0"]
    assert after is not None and before is not None
    session.execute(f"goto {after.branch}@{after.position.vns}ns")
    session.execute("goto main")
    session.execute(f"goto {before}")


def test_what_cannot_be_done_changes_nothing(wire: Wire) -> None:
    session = wire.session
    frame = wire.before_arrival("hello over")
    begin = len(frame.data) - len(b"hello over there\n")
    branches = len(session.view.branches)
    for line, says in (
        ("packet drop 1#5", "no packet 1#5 is in flight; `packets` lists those that are"),
        ("packet drop 1#99>0", "no packet 1#99>0 is in flight"),
        ("packet drop 1#6>2", "no packet 1#6>2 is in flight"),
        ("packet drop 1#6>0.1", "no packet 1#6>0.1 is in flight"),
        ("packet drop 7#6>0", "there is no machine 7"),
        ("packets 1#5", "no packet 1#5 is in flight"),
        ("packets vm7", "there is no machine 7"),
        ("packet delay 1#6 to 1ms", "it cannot arrive at 0.001000000 s: here it is 0.5"),
        ("packet copy 1#6 4611686018s", "it cannot arrive at 4611686018.55"),
        (f"packet write 1#6 {len(frame.data)} 00", "are not in a frame of 83 bytes"),
        ("packet write 1#6 data+16 0000", f"bytes {begin + 16} to {begin + 17} are not in a frame"),
        ("packet write 1#7 data 00", "1#7>0 has no payload"),
    ):
        assert says in refused(session, line)
    arp = wire.frames.find("ARP who has")[0]
    session.execute(f"goto main@{arp.switched_vns}ns")
    assert "is on its way to several machines; write 1#0>0 or 1#0>2" in refused(session, "packet drop 1#0")
    assert len(session.view.branches) == branches, "none was made in vain"


def test_the_library_gives_edits_to_heads_only() -> None:
    with SimulationController(config()) as cluster:
        multiverse = Multiverse(cluster)
        while not any(packet.id.src == 1 for packet in cluster.network.in_flight()):
            multiverse.step_ticks(1)
        multiverse.step_to(cluster.network.in_flight()[0].arrival_vns - LATENCY_NS + 1)
        head = multiverse.fork()
        (to_0, to_2) = cluster.network.in_flight()
        assert to_0.foreseen and to_2.foreseen
        end_ns = (multiverse.position.vns // TICK_NS + 1) * TICK_NS
        with pytest.raises(UsageError, match=f"is still with its sender: go to {end_ns} ns"):
            head.give(PacketInput(to_0.id, Drop()))
        multiverse.run_to(end_ns)
        here = multiverse.moment()
        (to_0, to_2) = cluster.network.in_flight()
        assert not to_0.foreseen
        for edit, says in (
            (ArriveAt(multiverse.position.vns - 1), "cannot arrive"),
            (ArriveAt(-1), "cannot arrive at -1 ns"),
            (CopyAt(1 << 64), "cannot arrive"),
            (Overwrite(((len(to_0.data), b"x"),)), "not in a frame of"),
        ):
            with pytest.raises(UsageError, match=says):
                head.give(PacketInput(to_0.id, edit))
        for named in (PacketId(1, 5, 0), PacketId(1, -1, 0), PacketId(9, 0, 0), PacketId(1, 0, 0, 1)):
            with pytest.raises(UsageError, match="is not in flight"):
                head.give(PacketInput(named, Drop()))
        assert multiverse.moment() == here
        assert multiverse.inputs() == []
        given = head.give(PacketInput(to_2.id, Drop()))
        assert given is not None
        assert [packet.id for packet in cluster.network.in_flight()] == [to_0.id]
        multiverse.step_to(end_ns - 1)
        with pytest.raises(PastError, match="is not at its end any more; fork, or go back"):
            head.give(PacketInput(to_0.id, Drop()))
        multiverse.goto(here)
        assert cluster.network.in_flight() == [to_0, to_2]


# ---- kept ------------------------------------------------------------------------------------------------------------


def cc_tui(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cc_tui", *map(str, words)]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("packets", [True, False])
def test_a_recording_and_a_script_repeat_every_edit(wire: Wire, tmp_path: Path, packets: bool) -> None:
    path = tmp_path / "edits.ccrec"
    reply, hello = (wire.frames.find(text)[0] for text in ("echo reply seq 1", "hello over"))
    cluster = SimulationController(config())
    recorder = Recorder(path, make_header(config()), clock=time.monotonic, packets=packets)
    witness = ClusterWitness(cluster, PropertyOracle(), packets=packets)
    with Session(cluster, witness, recorder=recorder, attended=False) as session:
        # On main itself; then again from before, in another way.
        for line in (
            f"step {reply.arrival_vns - 7}ns", "mark sent", "packet delay 0#2 9ms", "packet copy 0#2 1ms",
            f"goto main@{hello.arrival_vns - 1000}ns", "packet write 1#6 data 4a fix", "packet drop 1#7",
            f"goto main@{END_NS}ns", "goto sent", "branch other", "packet drop 0#2", f"goto other@{END_NS}ns",
        ):  # fmt: skip
            session.execute(line)
        script, end = session.script(), session.view.moment
        consoles = [log.read(0, 1 << 20) for log in session._multiverse.consoles("main")]
        assert b"Jello over there" in consoles[0]
        assert b"DUP!" in consoles[1]
    found = json.loads(cc_tui("replay", path, "--json").stdout)
    assert (found["equal"], found["differences"], found["compared"]["inputs"]) == (1, [], 5)
    assert reply.arrival_vns is not None and hello.arrival_vns is not None
    between = f"main@{(reply.arrival_vns - 7) / 1e9:.9f}"
    for place in (between, f"main@{hello.arrival_vns / 1e9:.9f}", "other@0.600000000"):
        cc_tui("replay", path, "--checkpoint", place)
    kinds = [json.loads(line) for line in cc_tui("export", path).stdout.splitlines()]
    assert [line["kind"] for line in kinds if line["type"] == "input"] == ["PacketInput"] * 5
    pcap = tmp_path / "vm1.pcapng"
    for branch, comments in (("main", ["edited", "duplicate, edited"]), ("other", [])):
        cc_tui("export", path, "--format", "pcap", "--vm", "1", "--branch", branch, "--output", pcap)
        seen = tshark(pcap, "icmp.type == 0 && icmp.seq == 1")
        assert seen == [*comments], "what vm1 saw of the reply"

    again = SimulationController(config())
    with Session(again, ClusterWitness(again, PropertyOracle()), attended=False) as session:
        session.run_script(script)
        assert session.view.moment == end


def tshark(path: Path, only: str) -> list[str]:
    command = ["tshark", "-r", str(path), "-Y", only, "-T", "fields", "-e", "frame.comment"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()
