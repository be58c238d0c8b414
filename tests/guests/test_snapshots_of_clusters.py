"""Going back takes back everything that the future depends on: random histories of a real cluster, walked two ways.

A history is a schedule of random faults of every kind, requests to guest agents among them. One cluster lives through
it in one go. Another leaves it at random moments, does things of its own there, and is taken back by snapshot and
restore. Whatever can be observed must be the same at every moment at which both are looked at. What a snapshot forgets
is found here if a fault or a request makes use of it later; test_state_of_clusters.py has a list of all fields.

A search once found that a branch ended differently when it was run again: the numbers of agent requests went on
counting over a restore, and they are in the guests' memory. The last test makes the cluster forget them again.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from chaoscontrol.cluster import ClusterSnapshot, SimulationController
from chaoscontrol.events import Event
from chaoscontrol.explore.random_faults import draw_schedule
from chaoscontrol.faults import (
    FAULTS,
    ClockJump,
    FaultSchedule,
    HealAll,
    InjectNmi,
    Origin,
    PacketLoss,
    ProcessRestart,
    ScheduledFault,
    SignalProcess,
)
from chaoscontrol.random import Stream
from chaoscontrol.scenario import load_scenario
from chaoscontrol.trial import Trial, TrialState

MS = 1_000_000
SPAN_NS = 600 * MS
LOOKS = 5
"""Moments at which a history is looked at, and left for a while."""
DETOUR_NS_MAX = 80 * MS
REQUESTS = 4
KINDS = tuple(kind for kind in FAULTS.values() if kind is not SignalProcess)
"""What is drawn; a signal needs a process's name, so signals are added by hand."""
SEEDS = range(3)
SEEDS_LONG = range(3, 40)


@dataclasses.dataclass(frozen=True)
class History:
    """What happens to the cluster, and when it is looked at."""

    seed: int
    schedule: FaultSchedule
    looks_ns: tuple[int, ...]
    """After its beginning, in order; not at the ends of ticks."""


def draw(seed: int) -> History:
    """Faults of all kinds, and in any case some that are requests to agents."""
    stream = Stream(seed, "history")
    faults = list(draw_schedule(stream, KINDS, 3, SPAN_NS).faults)
    for _ in range(REQUESTS):
        target, at_ns = stream.below(3), stream.below(SPAN_NS)
        jump = ClockJump(target, (1 + stream.below(10_000)) * MS)
        faults.append(ScheduledFault(at_ns, jump if stream.below(2) else SignalProcess(target, "raft", 9)))
    faults.sort(key=lambda scheduled: scheduled.at_ns)
    looks = sorted({1 + stream.below(SPAN_NS) for _ in range(LOOKS)} | {SPAN_NS})
    return History(seed, FaultSchedule(tuple(faults), Origin.BRANCH), tuple(looks))


@dataclasses.dataclass
class Look:
    """Everything that can be observed of a trial at a moment."""

    cluster: str
    network: str
    machines: list[str]
    faults: object
    """The fault engine's state, and when its next change is due."""
    properties: list[dict[str, object]]
    said: int
    """Events up to here."""


def look_at(trial: Trial, said: int) -> Look:
    cluster = trial.cluster
    return Look(
        str(cluster.digest()),
        str(cluster.network_digest()),
        [str(vm.digest()) for vm in cluster.vms],
        (cluster.faults.state(), cluster.next_fault_ns(), [cluster.end_of(i) for i in range(len(cluster.vms))]),
        trial.report().as_dicts(),
        said,
    )


def wander(trial: Trial, stream: Stream) -> None:
    """Another future for a while: whatever can be done to a cluster, and requests to agents in any case."""
    cluster = trial.cluster
    cluster.reseed(stream.u64())
    cluster.set_schedule(draw(stream.below(1 << 32)).schedule)
    for fault in (
        SignalProcess(stream.below(3), "raft", 9), ClockJump(stream.below(3), -5 * MS), InjectNmi(stream.below(3)),
        PacketLoss(stream.below(3), 500_000), ProcessRestart(stream.below(3), "some"), HealAll(),
    ):  # fmt: skip
        cluster.inject(fault)
        trial.run_to(cluster.vns + 1 + stream.below(DETOUR_NS_MAX // 6))
    cluster.force_setup_complete()


def live(trial: Trial, ready: TrialState, history: History, *, wanders: bool) -> tuple[list[Look], list[Event]]:
    """The history from the ready state on: how it looked, and what happened."""
    looks: list[Look] = []
    events: list[Event] = []
    stream = Stream(history.seed, "wandering")
    trial.restore(ready)
    trial.cluster.reseed(history.seed)
    trial.cluster.set_schedule(history.schedule)
    begin_ns = trial.cluster.vns
    for at_ns in history.looks_ns:
        trial.on_events = events.extend
        trial.run_to(begin_ns + at_ns)
        trial.on_events = None
        if wanders:
            state = trial.snapshot()
            wander(trial, stream)
            trial.restore(state)
            state.close()
        looks.append(look_at(trial, len(events)))
    return looks, events


Ready = tuple[Trial, TrialState]


@contextlib.contextmanager
def booted(threads: int) -> Iterator[Ready]:
    with Trial(load_scenario("raft"), seed=1, threads=threads) as trial:
        trial.run_to_ready()
        ready = trial.snapshot()
        yield trial, ready
        ready.close()


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Ready, Ready]]:
    """Two of the same scenario: one lives straight on, the other wanders."""
    with booted(threads=1) as straight, booted(threads=2) as wandering:
        yield straight, wandering


def compare(clusters: tuple[Ready, Ready], seed: int) -> None:
    history = draw(seed)
    straight, wandering = clusters
    looks, events = live(*straight, history, wanders=False)
    others, other_events = live(*wandering, history, wanders=True)
    for at_ns, look, other in zip(history.looks_ns, looks, others, strict=True):
        assert look == other, f"at {at_ns} ns"
    assert events == other_events
    assert len({look.cluster for look in looks}) == len(looks)


@pytest.mark.parametrize("seed", SEEDS)
def test_leaving_a_history_and_going_back_changes_nothing(clusters: tuple[Ready, Ready], seed: int) -> None:
    compare(clusters, seed)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS_LONG)
def test_leaving_many_histories_and_going_back_changes_nothing(clusters: tuple[Ready, Ready], seed: int) -> None:
    compare(clusters, seed)


def test_a_fresh_cluster_lives_the_same_history(clusters: tuple[Ready, Ready]) -> None:
    history = draw(SEEDS[0])
    used = live(*clusters[1], history, wanders=True)
    with booted(threads=1) as fresh:
        assert live(*fresh, history, wanders=False) == used


def test_requests_that_a_snapshot_forgets_are_noticed(
    clusters: tuple[Ready, Ready], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_all = SimulationController.restore_all

    def forgetful(self: SimulationController, snapshot: ClusterSnapshot) -> None:
        target = self._fault_target
        requests = target.state.requests
        restore_all(self, snapshot)
        target.state = dataclasses.replace(target.state, requests=requests)

    monkeypatch.setattr(SimulationController, "restore_all", forgetful)
    with pytest.raises(AssertionError, match=r"at \d+ ns"):
        compare(clusters, SEEDS[0])
