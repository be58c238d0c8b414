"""A program that lives through a random history in a session, as a person would, and records it.

    python live_history.py live raft|hello NUMBER PATH [LOG]
    python live_history.py again raft|hello NUMBER SCRIPT

What is done is drawn from NUMBER: typing, faults, schedules, edits of packets, memory and seeds, going back, branches, which
are renamed, annotated and deleted again.
When it is done depends on the host's clock wherever the session runs by itself, so no two runs are the same history. The
last line of output is what it came to, as JSON; the session's script is beside PATH. With LOG it goes on until somebody
kills it, and says there what the recorder was told and since when, after it was told. `again` carries out such a script on
a new cluster of NUMBER.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeGuard

from cc_tui.commands import Notice, parse
from cc_tui.commands.bench import Bench
from cc_tui.commands.engine import EngineCommand
from cc_tui.commands.language import quote
from cc_tui.commands.packets import packet_word
from cc_tui.session import Session
from chaoscontrol import ChaosControlError, SimulationConfig, SimulationController, VmConfig, image_path
from chaoscontrol.explore.blind import plan_branch
from chaoscontrol.faults import Origin
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.random import Stream
from chaoscontrol.recording import Judge, Recorder, make_header
from chaoscontrol.scenario import load_scenario
from chaoscontrol.timetravel import ClusterWitness
from chaoscontrol.trial import simulation_config

MS = 1_000_000
RAFT = dataclasses.replace(load_scenario("raft"), chaos_ns=300 * MS)
HELLO_WORDS = (
    "uptime\r",
    "ls /\r",
    "echo some words\r",
    "random\r",
    "spin 1\r",
    "ps\r",
    "mem\r",
    "\x03",
    "nothing",
    "panic\r",
)
HELLO_FAULTS = (
    "process_pause target=0 for=20ms",
    "clock_jump target=0 delta_ns=1000000",
    "cpu_slowdown target=0 factor=3 for=9ms",
    "timer_jitter target=0 max_ns=100000 for=30ms",
    "inject_nmi target=0",
    "inject_interrupt target=0 irq=4",
    "process_restart target=0 disk=lose",
    "clock_skew target=0 offset_ns=500 rate_ppm=70 for=40ms",
)
RAFT_FAULTS = (
    *HELLO_FAULTS,
    "network_partition side_a=0 side_b=1,2 for=40ms",
    "packet_duplicate target=1 rate_ppm=300000",
    "packet_corruption target=2 rate_ppm=200000",
    "network_jitter target=0 jitter_ns=800000",
    "process_kill target=2 disk=some for=30ms",
    "heal_all",
)
NOTES = ("nobody votes here", "a 'quoted' \"note\" # that is no comment", "n\u00e9, \u4e09\tand a tab", "x" * 300, "")
"""The last one takes the one before away."""
TICKS_MAX = 800
"""That are gone through to find a packet in flight."""


@dataclasses.dataclass(frozen=True, slots=True)
class EditSomePacket(EngineCommand):
    """Goes on until a packet is in flight, and does something to one."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    random: Stream

    @property
    def text(self) -> str:
        return "packet"

    def run(self, bench: Bench) -> None:
        assert bench.network is not None
        for _ in range(TICKS_MAX):
            if bench.network.in_flight():
                break
            bench.multiverse.step_ticks(1)
        packets = bench.network.in_flight()
        if not packets:
            return
        packet = packets[self.random.below(len(packets))]
        word, size = packet_word(packet.id), len(packet.data)
        what = (
            f"drop {word}",
            f"delay {word} {self.random.below(5_000_000)}ns",
            f"copy {word} {self.random.below(5_000_000)}ns",
            f"write {word} {14 + self.random.below(size - 14)} {self.random.below(256):02x} fix",
            f"write {word} {14 + self.random.below(size - 14)} {self.random.below(256):02x}",
        )[self.random.below(5)]
        command = parse(f"packet {what}")
        assert isinstance(command, EngineCommand)
        command.run(bench)


class LoggedRecorder(Recorder):
    """A recorder that says what it was told, and when that began."""

    log: int | None = None

    def _tell(self, what: str, count: int, tell: Callable[[], None]) -> None:
        begun_ns = time.monotonic_ns()
        tell()
        if self.log is not None:
            os.write(self.log, b"%d %s %d\n" % (begun_ns, what.encode(), count))

    def branch_made(self, *args: Any) -> None:
        self._tell("branches", 1, lambda: super(LoggedRecorder, self).branch_made(*args))

    def input_given(self, *args: Any) -> None:
        self._tell("inputs", 1, lambda: super(LoggedRecorder, self).input_given(*args))

    def happened(self, branch: str, first: int, until: Any, events: Any, failures: Any) -> None:
        happened = super().happened
        self._tell("events", len(events), lambda: happened(branch, first, until, events, failures))

    def switched(self, branch: str, frames: Any) -> None:
        count = len(frames) if self._with_packets else 0
        self._tell("packets", count, lambda: super(LoggedRecorder, self).switched(branch, frames))

    def branch_renamed(self, *args: Any) -> None:
        self._tell("remarks", 1, lambda: super(LoggedRecorder, self).branch_renamed(*args))

    def branch_deleted(self, *args: Any) -> None:
        self._tell("remarks", 1, lambda: super(LoggedRecorder, self).branch_deleted(*args))

    def annotated(self, *args: Any) -> None:
        self._tell("remarks", 1, lambda: super(LoggedRecorder, self).annotated(*args))

    def marked(self, *args: Any) -> None:
        self._tell("remarks", 1, lambda: super(LoggedRecorder, self).marked(*args))

    def keyframe_taken(self, *args: Any) -> None:
        self._tell("checkpoints", 1, lambda: super(LoggedRecorder, self).keyframe_taken(*args))

    def moved(self) -> None:
        self._tell("nothing", 0, super().moved)


class Setting(NamedTuple):
    """What a number stands for."""

    config: SimulationConfig
    judge: Judge
    packets: bool
    """They are recorded, too."""


def setting_of(image: str, random: Stream) -> Setting:
    packets, threads, vms, seed = random.below(2) == 0, 1 + random.below(2), 1 + random.below(2), random.u64()
    if image == "raft":
        return Setting(simulation_config(RAFT, seed=seed, threads=threads), Judge.of(RAFT), packets)
    config = SimulationConfig(
        num_vms=vms, vm_config=VmConfig(memory_bytes=64 << 20), threads=threads, seed=seed,
        kernel_path=image_path("vmlinux"), initrd_path=image_path("hello"),
    )  # fmt: skip
    return Setting(config, Judge(), False)


def open_session(setting: Setting, recorder: Recorder | None = None) -> Session:
    cluster = SimulationController(setting.config)
    packets = recorder is not None and setting.packets
    witness = ClusterWitness(cluster, PropertyOracle(setting.judge.properties()), packets=packets)
    session = Session(cluster, witness, recorder=recorder)
    session.subscribe(lambda event: print(event.text, file=sys.stderr) if _says_stopped(event) else None)
    return session


def _says_stopped(event: object) -> TypeGuard[Notice]:
    return isinstance(event, Notice) and "recording has stopped" in event.text


class Live:
    """The session, and the dice."""

    def __init__(self, image: str, number: int, path: Path, log: Path | None) -> None:
        self.random = Stream(number, f"live {image}")
        self.raft = image == "raft"
        setting = setting_of(image, self.random)
        header = make_header(setting.config, judge=setting.judge)
        recorder = LoggedRecorder(path, header, clock=time.monotonic, packets=setting.packets)
        if log is not None:
            recorder.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.vms, self.path = setting.config.num_vms, path
        self.session = open_session(setting, recorder)
        self.done = collections.Counter[str]()

    def say(self, line: str) -> None:
        """A command, as a person would give it: it may be refused."""
        try:
            self.session.execute(line)
            self.done[line.split()[0]] += 1
        except ChaosControlError:
            self.done["refused"] += 1

    def wait(self) -> None:
        time.sleep(self.random.below(30) / 1000)

    def type(self) -> None:
        text = f"line {self.random.below(9)}\r" if self.raft else HELLO_WORDS[self.random.below(len(HELLO_WORDS))]
        self.say(f"type {self.random.below(self.vms)} {quote(text)}")

    def run_and_type(self) -> None:
        self.say(f"speed {('1', '3', 'max' if self.raft else '8')[self.random.below(3)]}")
        self.say("run")
        for _ in range(1 + self.random.below(3)):
            self.wait()
            self.type()
        self.wait()
        self.say("pause")

    def step(self) -> None:
        self.say(f"step {self.random.below(60 * MS) + 1}ns")

    def fault(self) -> None:
        faults = RAFT_FAULTS if self.raft else HELLO_FAULTS
        self.say(f"inject {faults[self.random.below(len(faults))]}")

    def schedule(self) -> None:
        if self.raft:
            plan = plan_branch(RAFT, self.random.below(1000), self.random.below(1000))
            schedule = self.path.with_suffix(f".{self.done['schedule']}.toml")
            schedule.write_text(dataclasses.replace(plan.schedule, origin=Origin.BRANCH).to_toml())
            self.say(f"schedule {schedule}")
        else:
            self.fault()

    def packet(self) -> None:
        if not self.raft:
            self.type()
            return
        try:
            self.session.submit(EditSomePacket(self.random)).result()
            self.done["packet"] += 1
        except ChaosControlError:
            self.done["refused"] += 1

    def poke(self) -> None:
        what = self.random.below(3)
        if what == 0:
            self.say(f"reseed {self.random.below(1 << 32)}")
        elif what == 1:
            self.say(f"write {self.random.below(self.vms)} phys:{0x1000000 + self.random.below(1 << 25):#x} 5a")
        else:
            self.say(f"set {self.random.below(self.vms)} xmm{self.random.below(16)} {self.random.below(1 << 60):#x}")

    def back(self) -> None:
        self.say(f"goto {self.random.below(self.session.view.position.vns + 1)}ns")
        if self.random.below(2):
            self.say("branch")
        elif self.random.below(2):
            self.say("mark")

    def some_name(self) -> str:
        """Of a branch: what it is called, or was."""
        branches = self.session.view.branches
        branch = branches[self.random.below(len(branches))]
        names = (branch.name, *branch.former)
        return names[self.random.below(len(names))]

    def rename(self) -> None:
        """Anew, or as some branch was called before, which only that one may be again."""
        new = f"name{self.random.below(1000)}" if self.random.below(2) else self.some_name()
        self.say(f"rename-branch {self.some_name()} {new}")

    def annotate(self) -> None:
        marks = list(self.session.view.marks)
        whom = (self.some_name(), marks[self.random.below(len(marks))] if marks else "", "")[self.random.below(3)]
        self.say(f"annotate {quote(whom) if whom else ''} {quote(NOTES[self.random.below(len(NOTES))])}")

    def delete(self) -> None:
        """One that the cursor's history does without; if there is none yet, more likely the next time."""
        view = self.session.view
        others = [branch.name for branch in view.branches if branch.name not in view.line]
        if not others:
            self.say(f"goto {view.branches[0].name}@0.05")
            self.say("branch")
        name = others[self.random.below(len(others))] if others else self.some_name()
        self.say(f"delete-branch {name}{' all' if self.random.below(2) else ''}")

    def branches(self) -> None:
        """Something that is said of branches; there is another one more often than not."""
        (self.back, self.back, self.rename, self.annotate, self.delete, self.delete)[self.random.below(6)]()

    def act(self) -> None:
        actions = (
            *(self.run_and_type, self.run_and_type, self.step, self.type, self.fault, self.schedule),
            *(self.packet, self.packet, self.packet, self.poke, self.back, self.branches, self.branches, self.branches),
        )
        actions[self.random.below(len(actions))]()

    def end(self) -> dict[str, Any]:
        """At the end of the branch that was made last."""
        last = self.session.view.branches[-1].name
        self.session.execute(f"goto {last}")
        self.path.with_suffix(".cc").write_text(self.session.script())
        machines = self.session._multiverse.machines
        digest = ",".join(str(vm.digest()) for vm in machines)
        return {
            "moment": str(self.session.view.moment), "branch": last, "digest": digest, "done": dict(self.done),
            **told_of_branches(self.session),
        }  # fmt: skip


def told_of_branches(session: Session) -> dict[str, Any]:
    """What the branches are called, and were; the notes; where the marks are."""
    view = session.view
    marks = {name: [*moment.position, view.mark_notes.get(name, "")] for name, moment in view.marks.items()}
    return {"branches": [[b.name, list(b.former), b.note] for b in view.branches], "marks": marks}


def live(image: str, number: int, path: Path, log: Path | None) -> dict[str, Any]:
    history = Live(image, number, path, log)
    with history.session:
        history.say(f"step {(100 + history.random.below(300)) * MS + history.random.below(MS)}ns")
        actions = 0
        while log is not None or actions < 5 + history.random.below(6):
            history.act()
            actions += 1
        return history.end()


def again(image: str, number: int, script: Path) -> dict[str, Any]:
    with open_session(setting_of(image, Stream(number, f"live {image}"))) as session:
        session.run_script(script.read_text(), name=script.name)
        return {"moment": str(session.view.moment), **told_of_branches(session)}


if __name__ == "__main__":
    how, kind, drawn, file, *rest = sys.argv[1:]
    if how == "live":
        print(json.dumps(live(kind, int(drawn), Path(file), Path(rest[0]) if rest else None)))
    else:
        print(json.dumps(again(kind, int(drawn), Path(file))))
