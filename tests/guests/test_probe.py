"""Probes of a Linux machine: what a command says, and that nothing of it has happened."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from cc_tui.commands import Answer
from cc_tui.session import Session
from chaoscontrol import DEFAULT_CMDLINE, SimulationConfig, SimulationController, VmConfig, image_path
from chaoscontrol.debug import probe
from chaoscontrol.errors import GuestError
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.timetravel import CancelledError, ClusterWitness, ConsoleInput, Multiverse, Observer

MIB, MS = 1 << 20, 1_000_000
PROMPT = b"/ # "


def config(vms: int = 1, *, devices: tuple[str, ...] = ("console",)) -> SimulationConfig:
    vm = VmConfig(memory_bytes=64 * MIB, devices=devices, cmdline=f"{DEFAULT_CMDLINE} quiet")
    return SimulationConfig(
        num_vms=vms, vm_config=vm, kernel_path=image_path("vmlinux"), initrd_path=image_path("tools"), seed=3
    )


class Told(Observer):
    """Counts what an observer is told besides digests."""

    def __init__(self) -> None:
        self.things: list[object] = []

    def branch_made(self, name: str, parent: object, start: object) -> None:
        self.things.append(("branch", name))

    def input_given(self, branch: str, given: object) -> None:
        self.things.append(("input", given))

    def happened(self, branch: str, *_: object) -> None:
        self.things.append(("events", branch))


@pytest.fixture(scope="module")
def multiverse() -> Iterator[Multiverse]:
    with SimulationController(config()) as cluster:
        multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle([])))
        assert multiverse.until(PROMPT, 0, limit_vns=3_000 * MS)
        multiverse.run_to(multiverse.position.vns + 200 * MS)
        yield multiverse


def seen(multiverse: Multiverse) -> tuple[object, ...]:
    """Everything about it but how many snapshots it keeps."""
    branches = tuple(dataclasses.replace(branch, keyframes=0) for branch in multiverse.branches())
    return str(multiverse.moment()), branches, multiverse.network_digest, multiverse.events_total


def test_a_probe_says_what_the_command_says_and_leaves_no_trace(multiverse: Multiverse) -> None:
    told = Told()
    multiverse.observe(told, told=True)
    before = seen(multiverse)
    result = probe(multiverse, 0, ("sh", "-c", "echo out; echo err >&2; touch /tmp/probed; exit 3"))
    assert (result.exited, result.status, result.output) == (True, 3, b"out\nerr\n")
    assert 0 < result.took_ns < 1_000 * MS
    again = probe(multiverse, 0, ("sh", "-c", "ls /tmp; kill -9 $$"))
    assert (again.exited, again.status) == (False, 9)
    assert b"probed" not in again.output
    assert seen(multiverse) == before
    assert told.things == []
    multiverse.observe(Observer(), told=True)


def test_the_future_is_as_if_nobody_had_asked(multiverse: Multiverse) -> None:
    here = multiverse.moment()
    head = multiverse.head()
    assert head is not None
    probe(multiverse, 0, ("echo", "hello"))
    multiverse.fork("asked")
    multiverse.run_to(here.position.vns + 150 * MS)
    asked = multiverse.moment()
    multiverse.goto(here)
    multiverse.fork("unasked")
    multiverse.run_to(here.position.vns + 150 * MS)
    assert (asked.position, asked.machines) == (multiverse.moment().position, multiverse.moment().machines)


def test_the_past_can_be_asked_too(multiverse: Multiverse) -> None:
    head = multiverse.fork("typed")
    here = multiverse.moment()
    head.give(ConsoleInput(0, b"echo x > /tmp/file\r"))
    multiverse.run_to(here.position.vns + 100 * MS)
    assert probe(multiverse, 0, ("cat", "/tmp/file")).output == b"x\n"
    multiverse.goto(here)
    assert not multiverse.at_end
    assert probe(multiverse, 0, ("cat", "/tmp/file")).status == 1
    assert multiverse.moment() == here
    multiverse.goto_end()
    assert probe(multiverse, 0, ("cat", "/tmp/file")).output == b"x\n"


def test_what_cannot_be_asked(multiverse: Multiverse) -> None:
    here = multiverse.moment()
    with pytest.raises(GuestError, match="ENOENT"):
        probe(multiverse, 0, ("/no/such/program",))
    result = probe(multiverse, 0, ("sleep", "100"), limit_ns=300 * MS)
    assert result.timed_out
    multiverse.watch(multiverse.cancel)
    with pytest.raises(CancelledError):
        probe(multiverse, 0, ("sleep", "100"))
    multiverse.watch(lambda: None)
    assert multiverse.moment() == here
    multiverse.goto_time(1 * MS)
    early = multiverse.moment()
    with pytest.raises(GuestError, match="is it up already"):
        probe(multiverse, 0, ("true",), limit_ns=2 * MS)
    assert multiverse.moment() == early


def test_the_command_shows_output_status_time_and_an_unchanged_moment() -> None:
    cluster = SimulationController(config())
    answers: list[Answer] = []
    with Session(cluster, ClusterWitness(cluster, PropertyOracle([])), attended=False) as session:
        session.subscribe(lambda event: answers.append(event) if isinstance(event, Answer) else None)
        session.execute('expect "/ # " vm0 within 3s')
        session.execute("step 200ms")
        before = str(session.view.moment)
        session.execute("probe vm0 echo hello")
        (answer,) = answers
        assert answer.lines[0] == "hello"
        assert answer.lines[1].startswith("exit status 0 after ")
        assert answer.lines[1].endswith(f"; still at {before}")
        assert str(session.view.moment) == before
        assert session.view.unsaved_inputs == 0
        assert "probe" not in session.script()
        answers.clear()
        session.execute('probe vm0 "echo a | tr a b"')
        assert answers[0].lines[0] == "b"


def test_a_machine_without_the_channel_is_refused() -> None:
    with SimulationController(config(devices=())) as cluster, pytest.raises(GuestError, match="no channel"):
        probe(Multiverse(cluster), 0, ("true",))
