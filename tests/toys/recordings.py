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
from chaoscontrol.in_flight import ArriveAt, CopyAt, Drop, Overwrite, PacketId
from chaoscontrol.network import CapturedFrame, Fate
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
    PacketInput,
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
        multiverse.mark("here")
        recorder.finish(multiverse)
    return ends


def edit_toy(multiverse: Multiverse) -> dict[str, str]:
    """A history whose branches and marks are named anew, annotated and deleted; moments printed on the way.

    What is left: main, called trunk; retry, which was b1 and first; two from it. Gone are b2 with three from it.
    """
    printed: dict[str, str] = {}

    def branch(parent: str, at: int, name: str, text: bytes) -> None:
        multiverse.goto_time(at, branch=parent)
        multiverse.fork(name)
        give(multiverse, ConsoleInput(0, text))
        multiverse.run_to(at + 300_000)
        printed[name] = str(multiverse.moment(remember=True))

    multiverse.run_to(600_000)
    branch("main", 200_000, "b1", b"one\r")
    multiverse.annotate("b1", "not yet")
    multiverse.mark("kept")
    multiverse.rename_branch("b1", "first")
    branch("main", 300_000, "b2", b"gone\r")
    multiverse.mark("gone")
    multiverse.goto_time(250_000)
    multiverse.mark("inherited")
    branch("b2", 400_000, "b3", b"gone, too\r")
    branch("b3", 500_000, "b4", b"gone as well\r")
    branch("first", 300_000, "two", b"off\r")
    branch("b2", 450_000, "b5", b"x")
    multiverse.annotate("b5", "nobody will read this")
    multiverse.rename_branch("b1", "retry")
    multiverse.annotate("retry", "the second leader wins")
    multiverse.annotate("kept", "a vote is lost here, n\u00e9")
    multiverse.annotate("inherited", "before the split")
    multiverse.rename_branch("main", "trunk")
    multiverse.goto_end("two")
    multiverse.delete_branch("b2", recursive=True)
    multiverse.mark("here")
    multiverse.run_to(700_000)
    multiverse.mark("here")
    return printed


def record_edited(path: Path) -> dict[str, str]:
    """The history of edit_toy, recorded while it happens."""
    multiverse = toy_multiverse()
    with Recorder(path, toy_header(), clock=time.monotonic) as recorder:
        multiverse.observe(recorder)
        printed = edit_toy(multiverse)
        recorder.finish(multiverse)
    return printed


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
    PacketInput(PacketId(2, (1 << 64) - 1, 0, 1), Drop()),
    PacketInput(PacketId(0, 57, 1), ArriveAt(400_000_000)),
    PacketInput(PacketId(0, 57, 1), CopyAt((1 << 62) - 1)),
    PacketInput(PacketId(0, 57, 1), Overwrite(((66, b"\xff"), (50, b"\x12\x34")))),
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


FRAMES: tuple[CapturedFrame, ...] = (
    CapturedFrame(100, 40, 100, 0, 0, 1, Fate.DELIVERED, bytes(range(60))),
    CapturedFrame(100, 40, None, 0, 0, 2, Fate.LOST_DOWN, bytes(range(60))),
    CapturedFrame(200, 150, 250, 7, 2, 1, Fate.DELIVERED | Fate.CORRUPTED | Fate.REORDERED, b"\xff" * 1518),
    CapturedFrame(200, 150, 250, 7, 2, 1, Fate.DELIVERED | Fate.DUPLICATE, b""),
    CapturedFrame(210, 210, 250, 7, 2, 1, Fate.TAKEN, b""),
    CapturedFrame(210, 210, 290, 7, 2, 1, Fate.DELIVERED | Fate.EDITED, b"other"),
)


def keyframe(position: Position, machines: int = 3) -> Keyframe:
    part = Parts("00" * 15 + "ff", "11" * 16, "22" * 16, bytes(range(248)) * 4, bytes(range(144)) * 2)
    return Keyframe(position, (1,) * machines, (2,) * machines, (part,) * machines, None, "33" * 16, 9)


def every_kind_header(image: bytes = b"") -> Header:
    images = (Image("kernel", "vmlinux", bytes(range(32)), len(image), True),) if image else ()
    judge = Judge("raft/x", "a:B", False, False, 5, ("never",), ("some", "times"))
    return Header("0.1.0", "cc-tui", SimulationConfig(num_vms=3, seed=7), images, judge, SCHEDULE)


def write_every_kind(path: Path) -> None:
    """No history that a cluster could have, but every record of the format."""
    image = bytes(range(256)) * 16
    with Recorder(path, every_kind_header(image), images=[(0, image)], packets=True) as recorder:
        recorder.branch_made("main", None, Position(0))
        recorder.keyframe_taken("main", keyframe(Position(0)))
        for number, given in enumerate(INPUTS):
            recorder.input_given("main", GivenInput(Position(100 + number), 3, given))
        failure = Failure(At(11, 1, 8), "one leader", "two")
        recorder.happened("main", 0, Position(50), EVENTS, [failure])
        recorder.switched("main", FRAMES)
        recorder.branch_made("b1", "main", Position(60))
        recorder.switched("b1", FRAMES[:1] * 30)
        recorder.happened("b1", len(EVENTS), Position(120), EVENTS * 6, [])
        recorder.machine_ended("b1", Ending(2, 17, "shutdown", 7))
        for number in range(10):
            recorder.keyframe_taken("b1", keyframe(Position(61 + number, number % 2)))
        recorder.flush()
        recorder.remark("b1", Position(99), "look here", is_mark=True)
        recorder.remark("b1", Position(99), "and there")
        recorder.annotated("b1", None, "a note")
        recorder.annotated("b1", "look here", "why")
        recorder.branch_made("b2", "b1", Position(70))
        recorder.happened("b2", len(EVENTS), Position(120), EVENTS, [])
        recorder.branch_renamed("b1", "retry")
        recorder.branch_deleted("b2")
