"""What a search has found: failing branches, and how every property fared over all branches. As text, JSON, JUnit."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from chaoscontrol.faults import format_ns
from chaoscontrol.oracle import Verdict

if TYPE_CHECKING:
    from chaoscontrol.explore.blind import BranchPlan
    from chaoscontrol.faults import FaultSchedule
    from chaoscontrol.oracle import At, OracleReport, PropertyResult
    from chaoscontrol.scenario import Scenario
    from chaoscontrol.trial import BranchResult

FAILURES_KEPT = 1000
"""Failing branches that are described one by one; further ones are only counted."""
FAULTS_SHOWN = 6
DETAILS_SHOWN = 200
_ORDER = {Verdict.FAILED: 0, Verdict.UNREACHED: 1, Verdict.PASSED: 2}


def scenario_name(scenario: Scenario) -> str:
    """With its variant: raft/double_vote."""
    return scenario.name + (f"/{scenario.variant}" if scenario.variant else "")


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A branch in which something failed."""

    plan: BranchPlan
    result: BranchResult
    file: str | None
    """What replays it."""
    replay: str | None
    """The command that does."""
    recording: str | None = None
    """Its recording."""
    replay_recording: str | None = None
    """The command that replays that."""


@dataclasses.dataclass(slots=True)
class PropertyAcross:
    """One property over all branches."""

    result: PropertyResult
    """All branches' counts; the examples are the first branch's that has one."""
    example_branch: int | None = None
    counterexample_branch: int | None = None
    failed_branches: int = 0

    def add(self, number: int, result: PropertyResult) -> None:
        """How it fared in a branch more."""
        if self.example_branch is None and result.example is not None:
            self.example_branch = number
        if self.counterexample_branch is None and result.counterexample is not None:
            self.counterexample_branch = number
        self.failed_branches += result.verdict is Verdict.FAILED

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        r = self.result
        return {
            "name": r.name,
            "kind": str(r.kind),
            "verdict": str(r.verdict),
            "hits": r.hits,
            "passes": r.passes,
            "fails": r.fails,
            "branches": r.runs,
            "failed_branches": self.failed_branches,
            "example": _at_dict(r.example, self.example_branch),
            "counterexample": _at_dict(r.counterexample, self.counterexample_branch),
            "details": r.details,
        }


def _at_dict(at: At | None, branch: int | None) -> dict[str, Any] | None:
    return None if at is None else {"branch": branch, **dataclasses.asdict(at)}


class Summary:
    """Grows by a branch at a time, in the order of their numbers."""

    def __init__(self, scenario: Scenario, seed: int, workers: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.workers = workers
        self.branches = 0
        self.failures: list[Failure] = []
        self.failing_count = 0
        self.virtual_ns = 0
        self.digest = ""
        """Over the digests of the branches, in order: searches equal here ran the same branches to the same ends."""
        self.wall_s = 0.0
        self.are_machines_ready = False
        self.notes: dict[str, int] = {}
        """What the search could not do: the reason and how often."""
        self.ended_by = "done"
        """done, time, failures, interrupted or error."""
        self.recorded: dict[str, int] = {}
        """How many branches were recorded, by what failed in them."""
        self._properties: dict[tuple[str, str], PropertyAcross] = {}

    @property
    def name(self) -> str:
        """Of the scenario, with its variant."""
        return scenario_name(self.scenario)

    @property
    def properties(self) -> list[PropertyAcross]:
        """The failed ones first, then those never reached; otherwise in the order of their first mention."""
        return sorted(self._properties.values(), key=lambda p: _ORDER[p.result.verdict])

    @property
    def speed(self) -> str:
        """Branches per second, or seconds per branch where that is the larger number."""
        if not self.branches or not self.wall_s:
            return "no branch yet" if self.are_machines_ready else "the machines are not ready yet"
        per_second = self.branches / self.wall_s
        return f"{per_second:.1f} branches/s" if per_second >= 1 else f"{1 / per_second:.1f} s/branch"

    def add(self, plan: BranchPlan, result: BranchResult) -> None:
        """One branch more."""
        self.branches += 1
        self.digest = hashlib.blake2b(f"{self.digest} {result.digest}".encode(), digest_size=16).hexdigest()
        self.virtual_ns += result.end_ns - result.begin_ns
        for why in result.faults_failed:
            self._note(f"a fault could not be applied: {why}")
        if result.events_lost:
            self._note("events were lost, because the guests made more of them than can be read in time")
        self._add_report(plan.number, result.report)

    def _note(self, text: str) -> None:
        self.notes[text] = self.notes.get(text, 0) + 1

    def _add_report(self, number: int, report: OracleReport) -> None:
        for result in report.results:
            key = (result.name, str(result.kind))
            known = self._properties.get(key)
            if known is None:
                known = self._properties[key] = PropertyAcross(result)
            else:
                known.result = known.result.merged(result)
            known.add(number, result)

    def add_failure(self, failure: Failure) -> None:
        """A branch that was added has failed."""
        self.failing_count += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(failure)

    # ---- forms ----

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Everything but workers, ended_by and the host's times is the same whatever the host."""
        s = self.scenario
        return {
            "scenario": self.name,
            "seed": self.seed,
            "vms": s.count,
            "quantum_ns": s.quantum_ns,
            "chaos_ns": s.chaos_ns,
            "settle_ns": s.settle_ns,
            "branches": self.branches,
            "failing_branches": self.failing_count,
            "virtual_seconds": self.virtual_ns / 1e9,
            "digest": self.digest,
            "workers": self.workers,
            "wall_seconds": round(self.wall_s, 3),
            "branches_per_second": round(self.branches / self.wall_s, 3) if self.wall_s else 0.0,
            "ended_by": self.ended_by,
            "failures": [_failure_dict(failure) for failure in self.failures],
            "never_reached": [p.result.name for p in self.properties if p.result.verdict is Verdict.UNREACHED],
            "properties": [p.as_dict() for p in self.properties],
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """For a person."""
        machines = f"{self.scenario.count} machine" + ("s" if self.scenario.count > 1 else "")
        lines = [
            f"{self.name}: {self.branches} branches of {machines}, seed {self.seed}: "
            f"{self.virtual_ns / 1e9:.1f} virtual seconds in {self.wall_s:.1f} s ({self.speed})"
        ]
        for p in self.properties:
            lines += self._property_lines(p)
        lines += [f"note    {text} ({count} times)" for text, count in self.notes.items()]
        lines.append(f"digest  {self.digest}")
        lines.append(self._last_line())
        return "\n".join(lines)

    def _property_lines(self, p: PropertyAcross) -> list[str]:
        r = p.result
        match r.verdict:
            case Verdict.UNREACHED:
                return [f"never   {r.name} ({r.kind}): {_WAITS_FOR.get(str(r.kind), 'it was never evaluated')}"]
            case Verdict.PASSED:
                first = f", first {r.example} of branch {p.example_branch}" if r.example is not None else ""
                return [f"passed  {r.name} ({r.kind}): {r.hits} hits{first}"]
            case Verdict.FAILED:
                lines = [
                    f"FAILED  {r.name} ({r.kind}): in {p.failed_branches} of {r.runs} branches, "
                    f"first {r.counterexample} of branch {p.counterexample_branch}"
                ]
                if r.details:
                    lines.append(f"        {r.details[:DETAILS_SHOWN]}")
                for failure in self.failures:
                    if failure.plan.number == p.counterexample_branch:
                        lines.append(f"        faults: {shown_schedule(failure.result.schedule)}")
                        for command in (failure.replay, failure.replay_recording):
                            lines += [f"        again: {command}"] if command is not None else []
                return lines

    def _last_line(self) -> str:
        held = sum(p.result.verdict is Verdict.PASSED for p in self.properties)
        found = f"{self.failing_count} failing branches" if self.failing_count else f"nothing failed, {held} held"
        how = {
            "done": "",
            "time": "; ended by the time limit",
            "failures": "; ended by --stop-after",
            "interrupted": "; interrupted",
            "error": "; ended by an error",
        }
        return found + how[self.ended_by]

    def as_junit(self) -> str:
        """One test case per property."""
        suite = ElementTree.Element("testsuite", name=self.name, tests=str(len(self.properties)))
        failed = never = 0
        for p in self.properties:
            r = p.result
            case = ElementTree.SubElement(suite, "testcase", classname=self.name, name=r.name)
            if r.verdict is Verdict.FAILED:
                failed += 1
                message = f"in {p.failed_branches} of {r.runs} branches, first {r.counterexample}"
                message += f" of branch {p.counterexample_branch}"
                ElementTree.SubElement(case, "failure", message=_xml_text(message)).text = _xml_text(r.details)
            elif r.verdict is Verdict.UNREACHED:
                never += 1
                ElementTree.SubElement(case, "skipped", message="never reached")
        suite.set("failures", str(failed))
        suite.set("errors", "0")
        suite.set("skipped", str(never))
        suite.set("time", f"{self.wall_s:.3f}")
        for element in suite.iter():
            if "name" in element.attrib:
                element.set("name", _xml_text(element.attrib["name"]))
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


_WAITS_FOR = {
    "sometimes": "it was never true",
    "reachable": "it was never reached",
    "eventually": "no branch came to its judgement",
}


def _xml_text(text: str) -> str:
    """Guests may say anything; XML 1.0 has no characters for some of it."""
    return "".join(c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _failure_dict(failure: Failure) -> dict[str, Any]:
    result = failure.result
    return {
        "branch": failure.plan.number,
        "branch_seed": failure.plan.branch_seed,
        "begin_ns": result.begin_ns,
        "end_ns": result.end_ns,
        "digest": str(result.digest),
        "schedule": result.schedule.to_toml(),
        "file": failure.file,
        "recording": failure.recording,
        "properties": [
            {
                "name": r.name,
                "kind": str(r.kind),
                "counterexample": dataclasses.asdict(r.counterexample) if r.counterexample else None,
                "details": r.details,
            }
            for r in result.failures
        ],
    }


def shown_schedule(schedule: FaultSchedule) -> str:
    """The faults just before the end, which are the likeliest to matter."""
    shown = [f"{format_ns(s.at_ns)} {s.fault.kind()}" for s in schedule.faults[-FAULTS_SHOWN:]]
    hidden = len(schedule.faults) - len(shown)
    return (f"{hidden} and then " if hidden > 0 else "") + (", ".join(shown) or "none")


def failure_line(plan: BranchPlan, result: BranchResult) -> str:
    """What is said when a branch fails."""
    first = result.failures[0]
    at = f" at {first.counterexample}" if first.counterexample is not None else ""
    return f"branch {plan.number}: {first.name}{at}"
