"""What must hold across the nodes of the raft guest, judged from outside by the events they send.

A node sees only itself and what others tell it; here is the observer that sees all of them. It knows nothing of
machines or clocks: feed it events in the order of their moments, and it returns what each one proves wrong. Its state
is plain values, so `copy.deepcopy` is a snapshot of it.

Events, each with `node` and `boot` (how often that node has started, from 1):

    raft_start     term, last, nodes         the node has recovered `last` entries from its disk
    raft_leader    term, last, commit        it leads `term`; its log held `last` entries when it was elected
    raft_stepdown  term                      it no longer leads
    raft_commit    term, index, hash, leader, acked, acked_term
                   it has applied the entries up to `index`, whose hash is `hash`; it follows `leader` (-1: nobody) in
                   `term`; it knows that the write at `acked` was acknowledged to a client while `acked_term` was led
    raft_damaged                             it stays down: its disk lost what had been flushed

Details of a wrong type, or missing, are a finding of their own: a guest may send anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from guest.programs.raft.wire import describe_message as describe_message

NODES_MAX = 7
INDEXES_MAX = 1 << 17
"""Applied prefixes that are remembered; the oldest are forgotten first."""
CONVERGED_WITHIN = 80
"""Entries by which the furthest `raft_commit` of two nodes may differ when all is quiet: they are sent at every 8th
entry, at every 64th by a node that catches up."""

ELECTION_SAFETY = "raft: at most one leader per term, across nodes"
COMPLETENESS = "raft: a leader has every committed entry, across nodes"
STATE_SAFETY = "raft: nodes apply the same entries, across nodes"
MONOTONIC = "raft: the applied index of a node never goes back"
WELL_FORMED = "raft: events are well-formed"

ONE_LEADER = "raft: after healing, one leader"
PROGRESS = "raft: after healing, every node applies new entries"
CONVERGENCE = "raft: after healing, nodes converge"

ALWAYS = (ELECTION_SAFETY, COMPLETENESS, STATE_SAFETY, MONOTONIC, WELL_FORMED)
EVENTUALLY = (ONE_LEADER, PROGRESS, CONVERGENCE)


@dataclass(frozen=True)
class Finding:
    """One violated property: its name, who is involved, and why in one line."""

    message: str
    nodes: tuple[int, ...]
    why: str


@dataclass
class _Node:
    boot: int = 0
    applied: int = 0
    """Highest index of a raft_commit event of this boot."""
    leads: int = 0
    """The term it leads, 0 if none."""
    leader: int = -1
    """Whom it follows."""


@dataclass
class RaftProperties:
    """The observer of one run. Call it with every event; ask `settled()` at the end of a quiet phase."""

    nodes: dict[int, _Node] = field(default_factory=dict[int, _Node])
    leaders: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    """Term: node and boot."""
    prefixes: dict[int, tuple[str, int]] = field(default_factory=dict[int, tuple[str, int]])
    """Applied index: hash, and the node that said so first."""
    committed: dict[int, int] = field(default_factory=dict[int, int])
    """Term: highest index known to be committed while it was the term of the node that said so."""
    marks: dict[int, int] = field(default_factory=dict[int, int])
    """Node: what it had applied when the quiet phase began."""
    expected: int = 0
    """How many nodes there are, as they say."""

    def __call__(self, name: str, details: Mapping[str, Any] | None) -> list[Finding]:
        """What this event proves wrong: usually nothing. Events that are not raft's are ignored."""
        handler = {
            "raft_start": self._start,
            "raft_leader": self._leader,
            "raft_stepdown": self._stepdown,
            "raft_commit": self._commit,
        }.get(name)
        if name == "raft_damaged" or handler is None:
            return []
        try:
            values = _Values(details)
            node = values.number("node", 0, NODES_MAX - 1)
            boot = values.number("boot", 1)
            state = self.nodes.setdefault(node, _Node())
            if boot != state.boot:
                state = self.nodes[node] = _Node(boot=boot)
            return handler(node, state, values)
        except ValueError as error:
            return [Finding(WELL_FORMED, (), f"{name}: {error}")]

    # --- events ------------------------------------------------------------------------------------------------------

    def _start(self, node: int, state: _Node, values: _Values) -> list[Finding]:
        del node, state
        self.expected = values.number("nodes", 1, NODES_MAX)
        return []

    def _stepdown(self, node: int, state: _Node, values: _Values) -> list[Finding]:
        del node, values
        state.leads = 0
        return []

    def _leader(self, node: int, state: _Node, values: _Values) -> list[Finding]:
        term, last = values.number("term", 1), values.number("last")
        state.leads, state.leader = term, node
        findings: list[Finding] = []
        known, _boot = self.leaders.setdefault(term, (node, state.boot))
        if known != node:
            findings.append(Finding(ELECTION_SAFETY, (known, node), f"nodes {known} and {node} both lead term {term}"))
        # What was committed in an older term must be in the log of every later leader (Raft, section 5.4.3).
        before = max((index for then, index in self.committed.items() if then < term), default=0)
        if last < before:
            why = f"node {node} leads term {term} with {last} entries, but entry {before} had been committed"
            findings.append(Finding(COMPLETENESS, (node,), why))
        return findings

    def _commit(self, node: int, state: _Node, values: _Values) -> list[Finding]:
        term, index, digest = values.number("term", 1), values.number("index", 1), values.text("hash")
        state.leader = values.number("leader", -1, NODES_MAX - 1)
        findings: list[Finding] = []
        if index <= state.applied:
            why = f"node {node} applied up to {state.applied} and then up to {index}"
            findings.append(Finding(MONOTONIC, (node,), why))
        state.applied = max(state.applied, index)
        known, by = self.prefixes.setdefault(index, (digest, node))
        if known != digest:
            why = f"nodes {by} and {node} applied different entries up to {index}"
            findings.append(Finding(STATE_SAFETY, (by, node), why))
        while len(self.prefixes) > INDEXES_MAX:
            del self.prefixes[next(iter(self.prefixes))]
        self._note_committed(term, index)
        acked_term = values.number("acked_term")
        if acked_term > 0:
            self._note_committed(acked_term, values.number("acked"))
        return findings

    def _note_committed(self, term: int, index: int) -> None:
        self.committed[term] = max(index, self.committed.get(term, 0))
        if len(self.committed) > 64:
            # Only the highest index below a term is asked for: fold the oldest two into the later one.
            first, second = sorted(self.committed)[:2]
            self.committed[second] = max(self.committed[second], self.committed.pop(first))

    # --- the quiet phase ---------------------------------------------------------------------------------------------

    def healed(self) -> None:
        """All faults have ended: from now on `settled()` may be asked."""
        self.marks = {node: state.applied for node, state in self.nodes.items()}

    def settled(self) -> list[Finding]:
        """What is not yet as it must become after healing. Empty: every liveness property holds."""
        findings: list[Finding] = []
        leading = tuple(sorted(node for node, state in self.nodes.items() if state.leads))
        if len(leading) != 1:
            findings.append(Finding(ONE_LEADER, leading, f"{len(leading)} nodes lead"))
        furthest = max((state.applied for state in self.nodes.values()), default=0)
        for node in range(max(self.expected, len(self.nodes))):
            state = self.nodes.get(node, _Node())
            if state.applied <= self.marks.get(node, 0):
                why = f"node {node} has applied {state.applied} entries, as before"
                findings.append(Finding(PROGRESS, (node,), why))
            if state.applied + CONVERGED_WITHIN < furthest:
                why = f"node {node} has applied {state.applied} entries, another node {furthest}"
                findings.append(Finding(CONVERGENCE, (node,), why))
        return findings


class _Values:
    """Fields of an event's details, checked."""

    def __init__(self, details: Mapping[str, Any] | None) -> None:
        if not isinstance(details, Mapping):
            raise ValueError("no details")
        self._details = details

    def number(self, name: str, least: int = 0, most: int = 0xFFFF_FFFF) -> int:
        value = self._details.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{name} is {value!r}, a number from {least} to {most} is wanted")
        return value

    def text(self, name: str) -> str:
        value = self._details.get(name)
        if not isinstance(value, str) or len(value) != 16:
            raise ValueError(f"{name} is {value!r}, 16 hexadecimal digits are wanted")
        return value
