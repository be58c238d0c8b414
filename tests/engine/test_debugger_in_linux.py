"""The debugger on three Linux machines that run Raft: packets, and bytes followed from one machine into another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chaoscontrol.cluster import SimulationController
from chaoscontrol.debug import (
    Breakpoint,
    ConsoleText,
    Debugger,
    Device,
    PacketReceived,
    PacketSent,
    Watchpoint,
    Who,
    assertions,
)
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness, Multiverse
from chaoscontrol.trial import simulation_config

MS = 1_000_000
END_NS = 700 * MS


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimulationController]:
    with SimulationController(simulation_config(load_scenario("raft"), seed=1)) as made:
        made.network.start_capture()
        yield made


@pytest.fixture(scope="module")
def debugger(cluster: SimulationController) -> Debugger:
    multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle(())))
    multiverse.run_to(END_NS)
    return Debugger(multiverse)


@pytest.fixture(scope="module")
def frames(cluster: SimulationController, debugger: Debugger):
    """What the links did, as the capture of the network has it."""
    captured, lost = cluster.network.take_capture()
    assert not lost
    cluster.network.stop_capture()
    return captured


def test_a_packet_is_followed_into_the_machine_that_sent_it(debugger: Debugger, frames) -> None:
    known = next(frame for frame in reversed(frames) if len(frame.data) > 100 and frame.arrival_vns < END_NS - 10 * MS)
    debugger.multiverse.goto_end()
    stop = debugger.backward([PacketReceived(known.dst, source=known.src, serial=known.serial)])
    assert stop.position.vns == known.arrival_vns + 1
    assert stop.hit is not None
    receiver = debugger.vms[known.dst]
    assert receiver.read_memory(stop.hit.gpa, stop.hit.size) == known.data
    offset = len(known.data) - 8
    hops = debugger.when_written(known.dst, stop.hit.gpa + offset, 8, physical=True)
    arrived, sent, *before = hops
    assert (arrived.vm, arrived.who, arrived.device) == (known.dst, Who.DEVICE, Device.NET)
    assert (arrived.sender, arrived.serial, arrived.frame_offset) == (known.src, known.serial, offset)
    assert arrived.position == stop.position
    assert (sent.vm, sent.sent, sent.value) == (known.src, True, known.data[offset:])
    assert sent.position.vns in (known.sent_vns, known.sent_vns + 1)
    assert before, "somebody wrote the sender's buffer"
    assert before[0].vm == known.src
    assert before[0].position < sent.position
    assert debugger.position == stop.position
    debugger.goto_position(sent.position)
    assert debugger.vms[known.src].read_memory(sent.gpa, 8) == known.data[offset:]


def test_packets_are_met_where_the_capture_says(debugger: Debugger, frames) -> None:
    expected = [frame.arrival_vns + 1 for frame in frames if frame.dst == 2 and 450 * MS < frame.arrival_vns < END_NS]
    debugger.goto_time(450 * MS)
    ahead = [debugger.forward([PacketReceived(2)], limit_vns=END_NS).position.vns for _ in range(6)]
    assert ahead == sorted(set(expected))[:6]
    assert [debugger.backward([PacketReceived(2)]).position.vns for _ in range(5)] == ahead[::-1][1:]
    debugger.goto_time(450 * MS)
    sent = debugger.forward([PacketSent(2)], limit_vns=END_NS).position.vns
    first = min(frame.sent_vns for frame in frames if frame.src == 2 and frame.sent_vns > 450 * MS)
    assert sent in (first, first + 1)


def test_console_text_and_assertions_either_way(debugger: Debugger) -> None:
    multiverse = debugger.multiverse
    multiverse.goto_end()
    text = ConsoleText(b"raft: node", 1)
    last = debugger.previous_event(text).position
    assert bytes(multiverse.consoles()[1].read(0, multiverse.console_totals[1])).endswith(b"raft: node")
    debugger.goto_time(0)
    first = debugger.next_event(text).position
    assert first <= last
    assert multiverse.consoles()[1].read(0, multiverse.console_totals[1]).count(b"raft: node") == 1
    multiverse.goto_end()
    back = [debugger.previous_event(assertions()) for _ in range(3)]
    assert all(stop.causes for stop in back)
    ahead = [debugger.next_event(assertions()).position for _ in range(2)]
    assert ahead == [stop.position for stop in back[:2]][::-1]


def test_a_write_of_a_user_process_is_found_again_whatever_way(debugger: Debugger) -> None:
    """The stack of whoever is in user code is watched; the same writes are met in both directions."""
    debugger.goto_time(600 * MS)
    stop = debugger.forward([Breakpoint(0, 0, 1 << 47, user=True)], limit_vns=END_NS)
    assert stop.hit is not None
    assert stop.hit.cpl == 3
    rsp, cr3 = stop.hit.rsp, stop.hit.cr3
    watch = Watchpoint(0, rsp - 128, 128, cr3=cr3)
    found = [debugger.forward([watch], limit_vns=END_NS).position for _ in range(4)]
    assert len(set(found)) == 4
    assert [debugger.backward([watch]).position for _ in range(3)] == found[:3][::-1]


def test_nothing_of_it_changed_the_history(debugger: Debugger) -> None:
    with SimulationController(simulation_config(load_scenario("raft"), seed=1)) as plain:
        other = Multiverse(plain, ClusterWitness(plain, PropertyOracle(())))
        other.run_to(END_NS)
        debugger.multiverse.goto_end()
        assert debugger.multiverse.moment() == other.moment()
