"""The observer of the raft guest's events: each property has a run that violates it and one that does not."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:  # guest/ is a tool of the repository, not an installed package
    sys.path.insert(0, str(ROOT))

from guest.programs.raft import properties  # noqa: E402
from guest.programs.raft.properties import Finding, RaftProperties  # noqa: E402


def start(node: int, boot: int = 1) -> tuple[str, dict[str, Any]]:
    return "raft_start", {"node": node, "boot": boot, "term": 0, "last": 0, "nodes": 3}


def leader(node: int, term: int, last: int = 0) -> tuple[str, dict[str, Any]]:
    return "raft_leader", {"node": node, "boot": 1, "term": term, "last": last, "commit": 0}


def stepdown(node: int, term: int) -> tuple[str, dict[str, Any]]:
    return "raft_stepdown", {"node": node, "boot": 1, "term": term}


def commit(
    node: int, term: int, index: int, *, digest: str = "", boot: int = 1, acked: tuple[int, int] = (0, 0)
) -> tuple[str, dict[str, Any]]:
    details = {"node": node, "boot": boot, "term": term, "index": index, "hash": digest or f"{index:016x}", "leader": 0}
    return "raft_commit", {**details, "acked": acked[0], "acked_term": acked[1]}


def findings(*events: tuple[str, dict[str, Any] | None]) -> list[Finding]:
    observer = RaftProperties()
    return [finding for event in events for finding in observer(*event)]


HEALTHY = [
    *(start(node) for node in range(3)),
    leader(0, 1),
    *(commit(node, 1, index, acked=(index, 1)) for index in (16, 32) for node in range(3)),
    leader(2, 3, last=40),
    stepdown(0, 3),
    *(commit(node, 3, 48) for node in range(3)),
]


def test_a_healthy_run_has_no_findings() -> None:
    assert findings(*HEALTHY) == []


def test_two_leaders_of_one_term() -> None:
    (found,) = findings(leader(0, 4), leader(1, 5), leader(2, 4))
    assert (found.message, found.nodes) == (properties.ELECTION_SAFETY, (0, 2))
    assert found.why == "nodes 0 and 2 both lead term 4"


def test_leader_without_a_committed_entry() -> None:
    assert [f.message for f in findings(commit(1, 2, 32), leader(0, 3, last=31))] == [properties.COMPLETENESS]
    assert findings(commit(1, 2, 32), leader(0, 3, last=32)) == []
    # A leader of the term in which the entry was committed need not have had it when it was elected.
    assert findings(commit(1, 3, 32), leader(0, 3, last=10)) == []


def test_leader_without_an_acknowledged_entry() -> None:
    (found,) = findings(commit(1, 5, 16, acked=(40, 2)), leader(0, 3, last=39))
    assert found.message == properties.COMPLETENESS
    assert "entry 40 had been committed" in found.why


def test_different_prefixes() -> None:
    (found,) = findings(commit(0, 1, 16), commit(1, 1, 16, digest="f" * 16), commit(2, 1, 16))
    assert (found.message, found.nodes) == (properties.STATE_SAFETY, (0, 1))


def test_going_back_is_only_for_those_that_start_again() -> None:
    assert [f.message for f in findings(commit(0, 1, 32), commit(0, 1, 16))] == [properties.MONOTONIC]
    assert findings(commit(0, 1, 32), commit(0, 1, 16, boot=2)) == []


@pytest.mark.parametrize(
    "event",
    [
        ("raft_commit", None),
        ("raft_commit", {}),
        ("raft_leader", {"node": "0", "boot": 1, "term": 1, "last": 0}),
        ("raft_leader", {"node": 0, "boot": 1, "term": -1, "last": 0}),
        ("raft_leader", {"node": 99, "boot": 1, "term": 1, "last": 0}),
        ("raft_start", {"node": 0, "boot": True, "nodes": 3}),
        ("raft_commit", {**commit(0, 1, 16)[1], "hash": 5}),
    ],
)
def test_malformed_events_are_findings(event: tuple[str, dict[str, Any] | None]) -> None:
    (found,) = findings(event)
    assert found.message == properties.WELL_FORMED


def test_other_events_are_ignored() -> None:
    assert findings(("someone_else", None), ("raft_damaged", None)) == []


def healed(*after: tuple[str, dict[str, Any]]) -> list[str]:
    observer = RaftProperties()
    for event in HEALTHY:
        observer(*event)
    observer.healed()
    for event in after:
        observer(*event)
    return [finding.message for finding in observer.settled()]


def test_settled() -> None:
    assert healed(*(commit(node, 3, 64) for node in range(3))) == []


def test_a_stuck_node_is_not_settled() -> None:
    assert healed(commit(1, 3, 64), commit(2, 3, 64)) == [properties.PROGRESS]
    assert healed(commit(0, 3, 64), commit(1, 3, 640), commit(2, 3, 640)) == [properties.CONVERGENCE]


def test_leaders_after_healing() -> None:
    progress = [commit(node, 3, 64) for node in range(3)]
    assert healed(*progress, leader(1, 4, last=64)) == [properties.ONE_LEADER]
    assert healed(*progress, stepdown(2, 4)) == [properties.ONE_LEADER]
    assert healed(*progress, leader(1, 4, last=64), stepdown(2, 4)) == []


def test_a_node_that_never_spoke_is_not_settled() -> None:
    observer = RaftProperties()
    for event in (start(0), leader(0, 1)):
        observer(*event)
    observer.healed()
    assert {f.nodes for f in observer.settled() if f.message == properties.PROGRESS} == {(0,), (1,), (2,)}


def test_a_copy_is_a_snapshot() -> None:
    observer = RaftProperties()
    for event in HEALTHY:
        observer(*event)
    before = copy.deepcopy(observer)
    observer(*commit(0, 3, 64))
    assert before(*commit(0, 3, 64)) == []
    assert before == observer


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(properties, "INDEXES_MAX", 10)
    observer = RaftProperties()
    for term in range(1, 300):
        assert observer(*commit(0, term, 16 * term)) == []
    assert len(observer.prefixes) == 10
    assert len(observer.committed) <= 64
    assert [f.message for f in observer(*leader(1, 400, last=16 * 299 - 1))] == [properties.COMPLETENESS]
