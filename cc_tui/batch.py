"""`cc-tui --batch`: searches for the schedule of faults that breaks a system, without the interface.

stdout gets the summary (text, or --json), stderr the progress. Every failure is kept in --output as a small TOML file
that replays it. Branch i is the same whatever the number of workers; only how many branches fit into --time depends
on the host.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import time
import tomllib
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode
from chaoscontrol.errors import UsageError
from chaoscontrol.explore.blind import BlindSearch, BranchPlan, plan_branch
from chaoscontrol.faults import FaultSchedule, format_ns
from chaoscontrol.oracle import OracleReport, Verdict
from chaoscontrol.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chaoscontrol.oracle import PropertyResult
    from chaoscontrol.trial import BranchResult

ROUNDS = 10
BRANCHES = 50
PROGRESS_S = 0.5
QUIET_PROGRESS_S = 15.0
"""Where stderr is no terminal."""
FAILURES_KEPT = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class BatchOptions:
    """What was asked for; None is the scenario's own value."""

    scenario: str
    vms: int | None = None
    rounds: int | None = None
    branches: int = BRANCHES
    ticks: int | None = None
    quantum_ns: int | None = None
    seed: int | None = None
    output: str | None = None
    time_s: float | None = None
    workers: int | None = None
    stop_after: int | None = None
    """End after so many failing branches."""
    as_json: bool = False
    junit: str | None = None
    replay: str | None = None

    def load(self) -> Scenario:
        """The scenario with what the options change. Raises UsageError."""
        scenario = load_scenario(self.scenario)
        changes: dict[str, Any] = {}
        if self.vms is not None:
            changes["count"] = self.vms
        if self.quantum_ns is not None:
            changes["quantum_ns"] = self.quantum_ns
        if self.ticks is not None:
            changes["chaos_ns"] = self.ticks * (self.quantum_ns or scenario.quantum_ns)
        if not scenario.faults and self.replay is None:
            hint = "add [faults] to the scenario, as network = true"
            raise UsageError(f"scenario {scenario.name} names no faults to search with", hint=hint)
        return dataclasses.replace(scenario, **changes)


@dataclasses.dataclass(slots=True)
class Summary:
    """What a search has found so far."""

    scenario: Scenario
    seed: int
    workers: int
    branches: int = 0
    failing: list[tuple[BranchPlan, BranchResult]] = dataclasses.field(
        default_factory=list["tuple[BranchPlan, BranchResult]"]
    )
    report: OracleReport = dataclasses.field(default_factory=OracleReport)
    virtual_ns: int = 0
    wall_s: float = 0.0
    unapplied: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """Faults that could not be applied: the reason and how often."""
    digest: str = ""
    """Over the branches' digests, in order: two searches that are equal here ran the same branches to the same ends."""
    ended_by: str = "done"
    """done, time, failures or interrupted."""

    def add(self, plan: BranchPlan, result: BranchResult) -> None:
        """One branch more."""
        self.branches += 1
        self.digest = hashlib.blake2b(f"{self.digest} {result.digest}".encode(), digest_size=16).hexdigest()
        self.virtual_ns += result.end_ns - result.begin_ns
        self.report = self.report.merge(result.report)
        for why in result.faults_failed:
            self.unapplied[why] = self.unapplied.get(why, 0) + 1
        if result.failures:
            self.failing.append((plan, result))

    @property
    def per_second(self) -> float:
        """Branches per second of wall time."""
        return self.branches / self.wall_s if self.wall_s else 0.0

    @property
    def name(self) -> str:
        """The scenario's name with its variant."""
        return self.scenario.name + (f"/{self.scenario.variant}" if self.scenario.variant else "")


def run_batch(options: BatchOptions) -> int:
    """The command. Returns the exit code; raises ChaosControlError for what cannot be used or done."""
    scenario = options.load()
    seed = scenario.seed if options.seed is None else options.seed
    if options.output is not None:
        _make_directory(options.output)
    if options.replay is not None:
        return _replay(options, scenario)
    workers = options.workers or os.cpu_count() or 1
    summary = Summary(scenario, seed, workers)
    try:
        _search(options, summary)
    except KeyboardInterrupt:
        summary.ended_by = "interrupted"
    _write_results(options, summary)
    print(json.dumps(_summary_dict(summary, options), indent=2) if options.as_json else _summary_text(summary, options))
    if summary.ended_by == "interrupted":
        return ExitCode.INTERRUPTED
    if summary.failing:
        return ExitCode.FAILED
    if summary.ended_by == "time" and options.rounds is not None:
        return ExitCode.TIME_LIMIT
    return ExitCode.OK


# ---- the search ------------------------------------------------------------------------------------------------------


def _search(options: BatchOptions, summary: Summary) -> None:
    begun = time.monotonic()
    # Without --rounds a time limit alone ends the search.
    unlimited = options.rounds is None and options.time_s is not None
    total = None if unlimited else (options.rounds or ROUNDS) * options.branches
    progress = _Progress(summary, total, begun)
    deadline = None if options.time_s is None else begun + options.time_s
    source = _in_process if summary.workers == 1 else _in_workers
    for plan, result in source(summary, total, deadline):
        summary.wall_s = time.monotonic() - begun
        summary.add(plan, result)
        if result.failures:
            progress.say(_failure_line(plan, result))
            _write_failure(options, summary, plan, result)
        progress.show()
        if options.stop_after is not None and len(summary.failing) >= options.stop_after:
            summary.ended_by = "failures"
            break
    summary.wall_s = time.monotonic() - begun
    progress.end()


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline


def _numbers(total: int | None) -> Iterator[int]:
    number = 0
    while total is None or number < total:
        yield number
        number += 1


def _in_process(
    summary: Summary, total: int | None, deadline: float | None
) -> Iterator[tuple[BranchPlan, BranchResult]]:
    search = BlindSearch(summary.scenario, summary.seed)
    try:
        for number in _numbers(total):
            if _passed(deadline):
                summary.ended_by = "time"
                return
            plan = plan_branch(summary.scenario, summary.seed, number)
            result = search.run(plan)
            if result is None:
                raise KeyboardInterrupt
            yield plan, result
    finally:
        search.close()


_worker_search: list[BlindSearch] = []
"""The search of a worker process; empty in the parent."""


def _start_worker(scenario: Scenario, seed: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl+c reaches the parent, which ends the workers
    _worker_search.append(BlindSearch(scenario, seed))


def _run_in_worker(number: int) -> tuple[BranchPlan, BranchResult | None]:
    (search,) = _worker_search
    plan = plan_branch(search.scenario, search.seed, number)
    return plan, search.run(plan)


def _in_workers(
    summary: Summary, total: int | None, deadline: float | None
) -> Iterator[tuple[BranchPlan, BranchResult]]:
    """Results in the order of the branches' numbers."""
    pool = ProcessPoolExecutor(
        summary.workers, get_context("spawn"), initializer=_start_worker, initargs=(summary.scenario, summary.seed)
    )
    numbers = _numbers(total)
    running: dict[Future[tuple[BranchPlan, BranchResult | None]], int] = {}
    done: dict[int, tuple[BranchPlan, BranchResult | None]] = {}
    following = 0
    try:
        while True:
            while len(running) < summary.workers and not _passed(deadline):
                number = next(numbers, None)
                if number is None:
                    break
                running[pool.submit(_run_in_worker, number)] = number
            if not running:
                break
            finished, _ = wait(running, timeout=PROGRESS_S, return_when=FIRST_COMPLETED)
            for future in finished:
                done[running.pop(future)] = future.result()
            while following in done:
                plan, result = done.pop(following)
                following += 1
                assert result is not None
                yield plan, result
        if _passed(deadline):
            summary.ended_by = "time"
    finally:
        # Whatever ended this, no process of ours may stay.
        for process in list((pool._processes or {}).values()):  # no public way before 3.14
            if running:
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


# ---- progress --------------------------------------------------------------------------------------------------------


class _Progress:
    """One line on a terminal, rewritten; a line now and then elsewhere."""

    def __init__(self, summary: Summary, total: int | None, begun: float) -> None:
        self._summary = summary
        self._total = total
        self._begun = begun
        self._terminal = sys.stderr.isatty()
        self._shown = 0.0
        self._width = 0

    def show(self) -> None:
        now = time.monotonic()
        if now - self._shown < (PROGRESS_S if self._terminal else QUIET_PROGRESS_S):
            return
        self._shown = now
        s = self._summary
        of = f"/{self._total}" if self._total is not None else ""
        text = (
            f"{s.name}: branch {s.branches}{of}, {s.per_second:.1f}/s, "
            f"{len(s.failing)} failing, {now - self._begun:.0f} s"
        )
        if self._terminal:
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)
        else:
            diagnostics.note(text)

    def say(self, text: str) -> None:
        self._clear()
        diagnostics.note(text)

    def end(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0


def _where(failure: PropertyResult) -> str:
    at = failure.counterexample
    return f" at {at}" if at is not None else ""


def _failure_line(plan: BranchPlan, result: BranchResult) -> str:
    first = result.failures[0]
    return f"branch {plan.number}: {first.name}{_where(first)}"


# ---- results ---------------------------------------------------------------------------------------------------------


def _make_directory(path: str) -> None:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UsageError(e.strerror or str(e), where=path, hint="give --output a directory that can be made") from None


def _failure_file(options: BatchOptions, plan: BranchPlan) -> str | None:
    return None if options.output is None else os.path.join(options.output, f"failure-{plan.number:06d}.toml")


def _write_failure(options: BatchOptions, summary: Summary, plan: BranchPlan, result: BranchResult) -> None:
    path = _failure_file(options, plan)
    if path is None or len(summary.failing) > FAILURES_KEPT:
        return
    lines = [f"# {failure.name}{_where(failure)}: {failure.details}"[:500] for failure in result.failures]
    scenario = summary.scenario
    lines += [
        f"# Again: {_replay_command(summary, path)}",
        "",
        "[branch]",
        f"scenario = {json.dumps(summary.name if not options.scenario.endswith('.toml') else options.scenario)}",
        f"vms = {scenario.count}",
        f"quantum_ns = {scenario.quantum_ns}",
        f"chaos_ns = {scenario.chaos_ns}",
        f'seed = "{summary.seed}"',
        f"number = {plan.number}",
        f'branch_seed = "{plan.branch_seed}"',
        f'digest = "{result.digest}"',
        "",
    ]
    text = "\n".join(lines)
    head, _, faults = result.schedule.to_toml().partition("\n")
    _write(path, text + f"[schedule]\n{head}\n" + faults.replace("[[fault]]", "[[schedule.fault]]"))


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot write: {e.strerror}", where=path, hint="give another place") from None


def _replay_command(summary: Summary, path: str) -> str:
    return f"cc-tui --batch --scenario {summary.name} --replay {path}"


def _summary_dict(summary: Summary, options: BatchOptions) -> dict[str, object]:
    return {
        "scenario": summary.name,
        "seed": summary.seed,
        "vms": summary.scenario.count,
        "workers": summary.workers,
        "branches": summary.branches,
        "branches_per_second": round(summary.per_second, 2),
        "virtual_seconds": round(summary.virtual_ns / 1e9, 3),
        "wall_seconds": round(summary.wall_s, 3),
        "digest": summary.digest,
        "ended_by": summary.ended_by,
        "failures": [
            {
                "branch": plan.number,
                "branch_seed": plan.branch_seed,
                "digest": str(result.digest),
                "schedule": result.schedule.to_toml(),
                "file": _failure_file(options, plan),
                "properties": OracleReport(result.failures).as_dicts(),
            }
            for plan, result in summary.failing
        ],
        "properties": summary.report.as_dicts(),
        "faults_not_applied": summary.unapplied,
    }


def _summary_text(summary: Summary, options: BatchOptions) -> str:
    lines = [
        f"{summary.name}: {summary.branches} branches of {summary.scenario.count} machines in {summary.wall_s:.1f} s "
        f"({summary.per_second:.1f}/s), {summary.virtual_ns / 1e9:.0f} virtual seconds, seed {summary.seed}",
    ]
    firsts: dict[str, tuple[BranchPlan, BranchResult, PropertyResult, int]] = {}
    for plan, result in summary.failing:
        for failure in result.failures:
            known = firsts.get(failure.name)
            firsts[failure.name] = (plan, result, failure, 1) if known is None else (*known[:3], known[3] + 1)
    for name, (plan, result, failure, count) in firsts.items():
        lines.append(f"FAILED  {name}: in {count} branches, first in branch {plan.number}{_where(failure)}")
        if failure.details:
            lines.append(f"        {failure.details[:200]}")
        lines.append(f"        after {len(result.schedule.faults)} faults: {_shown_schedule(result.schedule)}")
        path = _failure_file(options, plan)
        if path is not None:
            lines.append(f"        again: {_replay_command(summary, path)}")
    lines += [f"never   {r.name} ({r.kind})" for r in summary.report.results if r.verdict is Verdict.UNREACHED]
    lines += [f"note    {why}: {count} times" for why, count in summary.unapplied.items()]
    if not summary.failing:
        held = sum(r.verdict is Verdict.PASSED for r in summary.report.results)
        lines.append(f"nothing failed; {held} properties held")
    lines.append(f"digest {summary.digest}")
    if summary.ended_by in ("time", "interrupted"):
        lines.append("ended by the time limit" if summary.ended_by == "time" else "interrupted")
    return "\n".join(lines)


def _shown_schedule(schedule: FaultSchedule) -> str:
    shown = [f"{format_ns(s.at_ns)} {s.fault.kind()}" for s in schedule.faults[:4]]
    return ", ".join(shown) + (", ..." if len(schedule.faults) > 4 else "")


def _write_results(options: BatchOptions, summary: Summary) -> None:
    if options.output is not None:
        text = json.dumps(_summary_dict(summary, options), indent=2)
        _write(os.path.join(options.output, "summary.json"), text + "\n")
    if options.junit is not None:
        suite = ElementTree.Element("testsuite", name=summary.name, tests=str(len(summary.report.results)))
        failed = 0
        for result in summary.report.results:
            case = ElementTree.SubElement(suite, "testcase", classname=summary.name, name=result.name)
            if result.verdict is Verdict.FAILED:
                failed += 1
                message = f"{result.name}{_where(result)}"
                ElementTree.SubElement(case, "failure", message=message).text = result.details
            elif result.verdict is Verdict.UNREACHED:
                ElementTree.SubElement(case, "skipped", message="never reached")
        suite.set("failures", str(failed))
        _write(options.junit, ElementTree.tostring(suite, encoding="unicode", xml_declaration=True))


# ---- again -----------------------------------------------------------------------------------------------------------


def _replay(options: BatchOptions, scenario: Scenario) -> int:
    assert options.replay is not None
    where = options.replay
    try:
        table = tomllib.loads(Path(where).read_text(encoding="utf-8"))
    except OSError as e:
        hint = "give a failure file that --output wrote"
        raise UsageError(e.strerror or str(e), where=where, hint=hint) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"not TOML: {e}", where=where) from None
    try:
        branch = table["branch"]
        scenario = dataclasses.replace(
            scenario,
            count=int(branch["vms"]),
            quantum_ns=int(branch["quantum_ns"]),
            chaos_ns=int(branch["chaos_ns"]),
        )
        seed, number, branch_seed = int(branch["seed"]), int(branch["number"]), int(branch["branch_seed"])
        digest = str(branch["digest"])
        schedule = FaultSchedule.from_table(table["schedule"], where=where)
    except (KeyError, TypeError, ValueError) as e:
        raise UsageError(f"no failure file: {e!r}", where=where, hint="give one that --output wrote") from None
    search = BlindSearch(scenario, seed)
    try:
        result = search.run(BranchPlan(number, branch_seed, schedule))
    finally:
        search.close()
    if result is None:
        return ExitCode.INTERRUPTED
    same = str(result.digest) == digest
    if options.as_json:
        found = OracleReport(result.failures).as_dicts()
        print(json.dumps({"digest": str(result.digest), "same": same, "failures": found}, indent=2))
    else:
        for failure in result.failures:
            print(f"FAILED  {failure.name}{_where(failure)}: {failure.details}")
        print(f"digest {result.digest}" + ("" if same else f", recorded {digest}"))
    if not same:
        diagnostics.error(f"{where}: the branch ended differently; was it made with other images or another version?")
        return ExitCode.ENGINE
    return ExitCode.FAILED if result.failures else ExitCode.OK
