"""When did it become inevitable? On a guest that tosses two coins at known instants, and fails later if both say so."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from flat_guests import MIB, assemble

from cc_tui.commands import Answer
from cc_tui.opening import open_history
from cc_tui.session import Progress, Session
from chaoscontrol import SimulationConfig, SimulationController, VmConfig
from chaoscontrol.confidence import bounds
from chaoscontrol.debug import Debugger
from chaoscontrol.debug.likelihood import Outcome, likelihood, of_condition, of_property
from chaoscontrol.errors import ChaosControlError, UsageError
from chaoscontrol.oracle import PropertyOracle
from chaoscontrol.protocol import HYPERCALL_GPA, Command, Request, fnv1a
from chaoscontrol.recording import load_recording
from chaoscontrol.timetravel import ClusterWitness, ConsoleInput, Multiverse, Position, SeedInput

US, MS = 1_000, 1_000_000
COIN, CLAIM, FIRST, SECOND = 0x200000, 0x201000, 0x300000, 0x300008
NAME = "two coins"


def wait(insns: int) -> str:
    return f"mov ecx, {insns // 2}\n3: dec ecx\njnz 3b\n"


def ask(page: int) -> str:
    return (
        f"mov esi, {page}\nmov edi, {HYPERCALL_GPA}\nmov ecx, 512\nrep movsq\nmov dx, 0x510\nxor eax, eax\nout dx, al\n"
    )


def toss(at: int) -> str:
    return f"{ask(COIN)}mov rax, [{HYPERCALL_GPA + 0x10}]\nand eax, 1\nmov [{at}], rax\n"


GUEST = f"""
{wait(MS)}{toss(FIRST)}{wait(MS)}{toss(SECOND)}{wait(MS)}
    mov rax, [{FIRST}]
    and rax, [{SECOND}]
    jz 9f
{ask(CLAIM)}
9:  jmp 9b
"""
END_NS = 4 * MS
QUANTUM_NS = 100 * US


def request(command: Command, message: str = "") -> bytes:
    return Request(command, id=fnv1a(message), message=message.encode()).encode()


def make_cluster(seed: int) -> SimulationController:
    cluster = SimulationController(
        SimulationConfig(
            num_vms=1, vm_config=VmConfig(memory_bytes=8 * MIB), quantum_ns=QUANTUM_NS, seed=seed, threads=1
        )
    )
    vm = cluster.vms[0]
    vm.load_flat(assemble(GUEST))
    vm.write_memory(COIN, request(Command.RANDOM_GET))
    vm.write_memory(CLAIM, request(Command.UNREACHABLE, NAME))
    return cluster


def live(seed: int, *, until_vns: int = END_NS) -> Debugger:
    cluster = make_cluster(seed)
    multiverse = Multiverse(cluster, ClusterWitness(cluster, PropertyOracle([])))
    multiverse.run_to(until_vns)
    return Debugger(multiverse)


def close(debugger: Debugger) -> None:
    debugger.multiverse._driver._cluster.close()  # pyright: ignore[reportPrivateUsage]


def failed(debugger: Debugger) -> bool:
    return bool(debugger.multiverse.witness.report(debugger.position.vns).failures)


@pytest.fixture(scope="module")
def seed() -> int:
    """The first of those with which both coins say so."""
    for seed in range(40):
        debugger = live(seed)
        bad = failed(debugger)
        close(debugger)
        if bad:
            return seed
    raise AssertionError("one in four is bad")


@pytest.fixture
def debugger(seed: int) -> Iterator[Debugger]:
    made = live(seed)
    made.multiverse.run_to(50 * MS)  # where it is judged
    yield made
    close(made)


def state_of(multiverse: Multiverse) -> tuple[object, ...]:
    branches = tuple(dataclasses.replace(branch, keyframes=0) for branch in multiverse.branches())
    return (
        str(multiverse.moment()),
        branches,
        multiverse.network_digest,
        multiverse.events_total,
        multiverse.in_throwaway,
    )


def tosses(debugger: Debugger) -> list[int]:
    """When the SDK port has just answered, by single-stepping over the instruction."""
    found: list[int] = []
    for at in (FIRST, SECOND):
        hop, *_ = debugger.when_written(0, at, 8, follow=False)
        # `mov rax, [...]`, `and eax, 1`, `mov [...], rax`: the answer was there three instructions before.
        found.append(hop.position.vns - 3)
    return found


def test_the_turn_is_the_second_toss(debugger: Debugger) -> None:
    multiverse = debugger.multiverse
    multiverse.goto_time(3 * MS + 50 * US)
    before = state_of(multiverse)
    first, second = tosses(debugger)
    found = likelihood(debugger, of_property(multiverse, margin_ns=100 * US), samples=40, back_ns=4 * MS)
    assert state_of(multiverse) == before
    assert found.complete
    assert (found.branch, found.outcome) == ("main", NAME)
    by_time = {one.position.vns: one for one in found.estimates}
    assert len(by_time) == len(found.estimates) > 6
    for vns, one in by_time.items():
        share = 0.25 if vns < first else 0.5 if vns < second else 1.0
        low, high = one.bounds
        assert low <= share <= high, (vns, one)
        assert (one.survivor is None) == (vns >= second)
        assert one.samples == 40
        assert (low, high) == bounds(one.failed, 40)
    assert found.avoidable is not None
    assert found.inevitable is not None
    assert second - QUANTUM_NS <= found.avoidable.position.vns < second
    assert found.inevitable.position == Position(second)
    (between,) = found.between
    assert (between.position, between.vm, between.kind) == (Position(second), 0, "answer")
    # Whoever avoided it has not failed: that is the first difference that events show.
    survivor = found.avoidable.survivor
    assert survivor is not None
    assert survivor.known is not None
    assert NAME in survivor.known.text
    assert survivor.instead is None


def test_a_nanosecond_is_an_instruction(debugger: Debugger) -> None:
    found = likelihood(debugger, of_property(debugger.multiverse, NAME, margin_ns=0), samples=8, resolution_ns=1)
    _, second = tosses(debugger)
    assert found.avoidable is not None
    assert found.inevitable is not None
    assert (found.avoidable.position, found.inevitable.position) == (Position(second - 1), Position(second))
    assert min(one.position for one in found.estimates) > Position(MS), "it goes no further back than it has to"


def test_equal_seeds_give_equal_results_and_others_others(debugger: Debugger) -> None:
    def search(seed: int) -> object:
        return likelihood(
            debugger, of_property(debugger.multiverse, margin_ns=0), samples=10, seed=seed, back_ns=3 * MS
        )

    first = search(1)
    debugger.goto_time(2 * MS)
    assert search(1) == first
    assert search(2) != first


def test_from_the_beginning_where_nothing_is_left_to_chance(debugger: Debugger) -> None:
    multiverse = debugger.multiverse
    multiverse.goto_time(2_500 * US)
    multiverse.fork("decided")
    multiverse.run_to(50 * MS)
    found = likelihood(debugger, of_property(multiverse), samples=3)
    assert found.complete
    assert found.avoidable is None
    assert found.inevitable is not None
    assert found.inevitable.position == found.floor == Position(2_500 * US), "the branch's beginning"
    assert found.between == ()
    earlier = likelihood(debugger, of_property(multiverse, margin_ns=0), samples=8, back_ns=2 * MS)
    assert earlier.avoidable is not None, "into the past that it shares with others"


def test_not_inevitable_even_right_before(debugger: Debugger) -> None:
    multiverse = debugger.multiverse
    digest = multiverse.network_digest  # which a new seed changes at once
    outcome = Outcome("as it was", Position(3 * MS), 3 * MS, lambda: multiverse.network_digest == digest, lasts=False)
    found = likelihood(debugger, outcome, samples=2)
    assert found.complete
    assert found.inevitable is None
    assert found.avoidable is not None
    assert found.avoidable.position == Position(3 * MS - QUANTUM_NS)
    assert found.avoidable.failed == 0


def test_inputs_of_the_history_are_repeated_and_its_seeds_are_not(seed: int) -> None:
    debugger, text = live(seed, until_vns=500 * US), ConsoleInput(0, b"typed")
    multiverse = debugger.multiverse
    head = multiverse.head()
    assert head is not None
    head.give(SeedInput(7))
    head.give(text)
    multiverse.run_to(4 * MS)
    typed = of_condition(
        multiverse, "typed", lambda: [g.at.vns for g in multiverse.inputs() if g.input == text] == [500 * US]
    )
    assert typed.at == multiverse.branch.end
    found = likelihood(debugger, typed, samples=2, back_ns=4 * MS)
    assert [one.failed for one in found.estimates] == [2] * len(found.estimates)

    def second() -> int:
        return multiverse.machines[0].read_memory(SECOND, 8)[0]

    mine = second()
    tossed = likelihood(
        debugger, of_condition(multiverse, "coin", lambda: second() == mine), samples=12, back_ns=4 * MS
    )
    earliest = tossed.estimates[0]
    assert earliest.position == Position(0)
    assert 0 < earliest.failed < 12, "the new seed at 500 us is another one for each sample"
    close(debugger)


def test_a_cancel_leaves_what_is_known_and_nothing_else(debugger: Debugger) -> None:
    multiverse, seen = debugger.multiverse, list[tuple[int, int]]()
    before = state_of(multiverse)

    def enough() -> None:
        if len(seen) == 7:
            multiverse.cancel()

    multiverse.watch(enough)
    found = likelihood(
        debugger, of_property(multiverse, margin_ns=0), samples=4,
        progress=lambda at: seen.append((at.position.vns, at.sample)),
    )  # fmt: skip
    assert not found.complete
    assert [(one.samples, one.failed) for one in found.estimates] == [(3, 3), (4, 4)], (
        "the third was over when the cancel came"
    )
    assert [sample for _, sample in seen] == [1, 2, 3, 4, 1, 2, 3, 4]
    assert state_of(multiverse) == before


def test_what_cannot_be_asked(debugger: Debugger) -> None:
    multiverse = debugger.multiverse
    with pytest.raises(UsageError, match="the property 'weather' is not broken on main; broken are: 'two coins'"):
        of_property(multiverse, "weather")
    with pytest.raises(UsageError, match="it is not so at the end of main: sun"):
        of_condition(multiverse, "sun", lambda: False)
    with pytest.raises(UsageError, match="it takes a sample"):
        likelihood(debugger, of_property(multiverse), samples=0)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def session(seed: int) -> Iterator[Session]:
    cluster = make_cluster(seed)
    with Session(cluster, ClusterWitness(cluster, PropertyOracle([])), attended=False) as session:
        session.execute("step 50ms")
        yield session


def test_the_command_says_when_and_what_differs(session: Session) -> None:
    answers: list[Answer] = []
    session.subscribe(lambda event: answers.append(event) if isinstance(event, Answer) else None)
    session.execute("goto 1500us")
    before = session.view.moment
    session.execute(f'likelihood "{NAME}" samples 6 margin 100us')
    assert session.view.moment == before
    assert [branch.name for branch in session.view.branches] == ["main"]
    (answer,) = answers
    data, lines = answer.data, answer.lines
    assert isinstance(data, dict)
    assert data["complete"]
    assert lines[0] == f"{NAME}: at {data['at']}"
    assert lines[1].startswith("6 samples a moment, to 0.00310")
    rows = data["estimates"]
    assert len(rows) + 3 == lines.index(next(line for line in lines if line.startswith("inevitable from ")))
    assert data["inevitable"] in next(line for line in lines if line.startswith("inevitable from "))
    last_bad = next(row for row in rows if row["place"] == data["avoidable"])
    survived = last_bad["samples"] - last_bad["same"]
    assert f"before: {survived} of 6 samples from {data['avoidable']} avoided it" in lines
    (between,) = data["between"]
    assert between["text"].startswith("the SDK port answers 0x")
    # Its first survivor can be lived.
    session.execute(f"goto {data['avoidable']}")
    session.execute(f"reseed {last_bad['survivor']['seed']}")
    session.execute("goto 4ms")
    session.execute(f'assert not property "{NAME}" failed')
    # And the moment after it, for comparison: whatever happens, it fails.
    session.execute(f"goto {data['inevitable']}")


def test_it_ends_with_what_is_known_and_says_how_far_it_is(session: Session) -> None:
    said: list[Progress] = []
    answers: list[Answer] = []

    def listen(event: object) -> None:
        if isinstance(event, Answer):
            answers.append(event)
        elif isinstance(event, Progress):
            said.append(event)
            if len(said) == 3:
                session.cancel()

    session.subscribe(listen)
    session.execute("goto 50ms")
    before = session.view.moment
    session.execute("likelihood samples 500 seed 3 back 4ms")
    assert session.view.moment == before
    (answer,) = answers
    assert isinstance(answer.data, dict)
    assert not answer.data["complete"]
    assert "cancelled: this is what was known by then" in answer.lines
    assert "sample " in said[0].text
    assert " of 500 from main@" in said[0].text


def test_conditions_and_faults(session: Session) -> None:
    answers: list[Answer] = []
    session.subscribe(lambda event: answers.append(event) if isinstance(event, Answer) else None)
    session.execute("goto 3ms")
    session.execute("branch short")
    session.execute("step 100us")
    session.execute(f"likelihood when memory vm0 phys:{SECOND:#x} u8 == 1 samples 8 back 3ms")
    (answer,) = answers
    assert isinstance(answer.data, dict)
    shares = [row["same"] for row in answer.data["estimates"]]
    assert 0 < shares[0] < 8
    assert shares[-1] == 8
    # Where the machine stands still, the second toss never comes.
    session.execute(
        f"likelihood when memory vm0 phys:{SECOND:#x} u8 == 1 samples 2 back 2ms with process_pause target=0"
    )
    assert isinstance(answers[1].data, dict)
    assert answers[1].data["estimates"][0]["same"] == 0
    assert any("`inject process_pause target=0`" in line for line in answers[1].lines)
    with pytest.raises(UsageError, match="it is not so at the end of short"):
        session.execute(f"likelihood when memory vm0 phys:{SECOND:#x} u8 == 0")
    with pytest.raises(ChaosControlError, match="machine 7"):
        session.execute("likelihood with process_pause target=7")


# ---- a recording -----------------------------------------------------------------------------------------------------


def test_a_recorded_bug_of_the_raft_guest_with_few_samples() -> None:
    path = Path(__file__).resolve().parents[2] / "recordings" / "raft-double-vote.ccrec"
    with load_recording(path) as recording:
        failure = min(recording.branches[0].failures)
    with open_history(str(path)) as history:
        multiverse = history.multiverse
        before = state_of(multiverse)
        found = likelihood(
            Debugger(multiverse), of_property(multiverse, failure.name, margin_ns=50 * MS), samples=2, back_ns=20 * MS
        )
        assert state_of(multiverse) == before
    assert found.complete
    assert found.at == Position(failure.at.vns + 1)
    assert found.estimates[0].position == Position(found.at.vns - 20 * MS) == found.floor
    assert not found.back_to_start
    assert [one.samples for one in found.estimates] == [2] * len(found.estimates)
    # A node draws its numbers when it starts: what is left to chance here is nothing.
    assert found.avoidable is None
    assert found.inevitable == found.estimates[0]
