"""Recordings for tests: one of toy machines, and one with a record of every kind there is."""

from __future__ import annotations

import time
from pathlib import Path

from chaoscontrol.cluster import SimulationConfig
from chaoscontrol.events import Event, EventKind
from chaoscontrol.faults import (
    DiskTornWrite,
    FaultChange,
    FaultScheduleBuilder,
    NetworkPartition,
    Origin,
    PacketLoss,
    ProcessKill,
    SignalProcess,
)
from chaoscontrol.oracle import At
from chaoscontrol.protocol import Command, SdkEvent, Status
from chaoscontrol.recording import Header, Image, Judge, Recorder
from chaoscontrol.timetravel import (
    AgentInput,
    ConsoleInput,
    Ending,
    Failure,
    FaultInput,
    GivenInput,
    Input,
    MemoryInput,
    Multiverse,
    Phase,
    PhaseInput,
    Position,
    RegisterInput,
    ScheduleInput,
    SeedInput,
)
from chaoscontrol.timetravel.keyframes import Keyframe, Parts
from toys.cluster import ToyCluster

QUANTUM_NS = 10_000
KEYFRAME_INSNS = 3000


def toy_header(machines: int = 2) -> Header:
    return Header("0.1.0", "a toy", SimulationConfig(num_vms=machines, quantum_ns=QUANTUM_NS))


def toy_multiverse(seed: int = 1, **options: int) -> Multiverse:
    return Multiverse(ToyCluster(2, seed=seed), keyframe_insns=options.pop("keyframe_insns", KEYFRAME_INSNS), **options)


def record_toy(path: Path, *, seed: int = 1) -> list[str]:
    """A history of three branches; the moments at which they end."""
    multiverse = toy_multiverse(seed)
    ends: list[str] = []
    with Recorder(path, toy_header(), clock=time.monotonic) as recorder:
        multiverse.observe(recorder)
        multiverse.run_to(1_000_000)
        give(multiverse, ConsoleInput(0, b"hello\r"))
        multiverse.run_to(2_000_000)
        ends.append(str(multiverse.moment(remember=True)))
        multiverse.goto_time(800_000)
        multiverse.fork()
        give(multiverse, SeedInput(5))
        multiverse.run_to(1_700_000)
        multiverse.fork("last")
        give(multiverse, ConsoleInput(1, b"off\r"))
        multiverse.run_to(2_500_000)
        ends.append(str(multiverse.moment(remember=True)))
        recorder.remark("last", multiverse.position, "here", is_mark=True)
        recorder.finish(multiverse)
    return ends


def give(multiverse: Multiverse, given: Input) -> None:
    head = multiverse.head()
    assert head is not None
    assert head.give(given) is not None


SCHEDULE = (
    FaultScheduleBuilder(Origin.BRANCH)
    .at_ns(5, NetworkPartition((0,), (1, 2)), duration_ns=7)
    .at_ns(6, ProcessKill(1, "torn"))
    .build()
)
INPUTS: tuple[Input, ...] = (
    ConsoleInput(0, b"ls\r"),
    AgentInput(1, bytes(range(256))),
    FaultInput(DiskTornWrite(2, silent=True), 1000),
    FaultInput(SignalProcess(0, "init", 9)),
    ScheduleInput(SCHEDULE),
    SeedInput((1 << 64) - 1),
    PhaseInput(Phase.HEALED),
    MemoryInput(1, 0x1234, b"\xcc"),
    RegisterInput(0, "xmm3", (1 << 128) - 1),
)
FAILED_REQUEST = SdkEvent(Command.ALWAYS, False, Status.ALWAYS_FAILED, 7, 3, "one leader", '{"t": 1}')
EVENTS: tuple[Event, ...] = (
    Event(10, 0, 9, EventKind.CONSOLE, "Linux says hé"),
    Event(11, 1, 8, EventKind.SDK, FAILED_REQUEST),
    Event(12, -1, 0, EventKind.FAULT, FaultChange(12, PacketLoss(1, 5, peer=2, direction="in"), True, 4)),
    Event(12, -1, 0, EventKind.FAULT, "not done: no agent"),
    Event(13, 2, 7, EventKind.DISK, b"\0\1"),
    Event(14, 2, 7, EventKind.NETWORK, b"frame"),
    Event(15, 2, 7, EventKind.POWER, b"off"),
    Event(16, 2, 7, EventKind.AGENT, b"answer"),
    Event(17, 2, 7, EventKind.END, "the guest powered off"),
)  # fmt: skip


def keyframe(position: Position, machines: int = 3) -> Keyframe:
    part = Parts("00" * 15 + "ff", "11" * 16, "22" * 16)
    return Keyframe(position, (1,) * machines, (2,) * machines, (part,) * machines, None, "33" * 16, 9)


def every_kind_header(image: bytes = b"") -> Header:
    images = (Image("kernel", "vmlinux", bytes(range(32)), len(image), True),) if image else ()
    judge = Judge("raft/x", "a:B", False, False, 5, ("never",), ("some", "times"))
    return Header("0.1.0", "cc-tui", SimulationConfig(num_vms=3, seed=7), images, judge, SCHEDULE)


def write_every_kind(path: Path) -> None:
    """No history that a cluster could have, but every record of the format."""
    image = bytes(range(256)) * 16
    with Recorder(path, every_kind_header(image), images=[(0, image)]) as recorder:
        recorder.branch_made("main", None, Position(0))
        recorder.keyframe_taken("main", keyframe(Position(0)))
        for number, given in enumerate(INPUTS):
            recorder.input_given("main", GivenInput(Position(100 + number), 3, given))
        failure = Failure(At(11, 1, 8), "one leader", "two")
        recorder.happened("main", 0, Position(50), EVENTS, [failure])
        recorder.branch_made("b1", "main", Position(60))
        recorder.happened("b1", len(EVENTS), Position(120), EVENTS * 6, [])
        recorder.machine_ended("b1", Ending(2, 17, "shutdown", 7))
        for number in range(10):
            recorder.keyframe_taken("b1", keyframe(Position(61 + number, number % 2)))
        recorder.flush()
        recorder.remark("b1", Position(99), "look here", is_mark=True)
        recorder.remark("b1", Position(99), "and there")
