"""The search and the replay: feeding workers, keeping what they find, and what the process ends with."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode
from cc_tui.kept_recordings import prune, recordings_dir
from chaoscontrol.errors import ChaosControlError, EngineError, GuestError, UsageError
from chaoscontrol.explore.blind import BlindSearch, plan_branch
from chaoscontrol.explore.workers import WorkerPool
from chaoscontrol.oracle import OracleReport
from chaoscontrol.scenario import load_scenario, names_file

from .failure_file import failure_text, file_name, read_failure, replay_command
from .options import check_runnable
from .progress import PERIOD_S, Progress
from .recorded import PER_BUG_MAX, record_failure, recording_command
from .summary import Failure, Summary, failure_line, scenario_name

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from types import FrameType

    from chaoscontrol.explore.blind import BranchPlan
    from chaoscontrol.trial import BranchResult

    from .options import BatchOptions

AHEAD_MAX = 1024
"""Branches that may have ended while an earlier one has not."""
SUMMARY_FILE = "summary.json"


def run_batch(options: BatchOptions) -> int:
    """The command. Returns the exit code; raises ChaosControlError for what cannot be used or done."""
    with _sigterm_interrupts():
        if options.replay is not None:
            return _replay(options, options.replay)
        return _run_search(options)


@contextlib.contextmanager
def _sigterm_interrupts() -> Generator[None]:
    """Who ends a search by SIGTERM gets what was found as well, as with ctrl+c."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# ---- searching -------------------------------------------------------------------------------------------------------


def _run_search(options: BatchOptions) -> int:
    scenario = options.load()
    seed = scenario.seed if options.seed is None else options.seed
    summary = Summary(scenario, seed, options.worker_count)
    _prepare_places(options)
    progress = Progress(summary, options.total)
    faults = len(scenario.faults)
    progress.say(
        f"{summary.name}: seed {seed}, {scenario.count} machines, {scenario.chaos_ns / 1e9:g} s of {faults} kinds of "
        f"faults and {scenario.settle_ns / 1e9:g} s of quiet a branch, {summary.workers} workers"
    )
    failed: ChaosControlError | None = None
    try:
        _search(options, summary, progress)
    except KeyboardInterrupt:
        summary.ended_by = "interrupted"
    except ChaosControlError as e:
        summary.ended_by = "error"
        failed = e
    progress.clear()
    if failed is not None and not summary.branches:
        return _ended_by_error(failed)
    print(json.dumps(summary.as_dict(), indent=2) if options.as_json else summary.as_text(), flush=True)
    _write_results(options, summary)
    return _ended_by_error(failed) if failed is not None else _exit_code(options, summary)


def _ended_by_error(e: ChaosControlError) -> int:
    """Machines that do not get ready are no broken property: a limit of virtual time has passed."""
    if not isinstance(e, GuestError):
        raise e
    diagnostics.error(str(e))
    return ExitCode.TIME_LIMIT


def _exit_code(options: BatchOptions, summary: Summary) -> int:
    if summary.ended_by == "interrupted":
        return ExitCode.INTERRUPTED
    if summary.failing_count:
        return ExitCode.FAILED
    if summary.ended_by == "time" and (options.rounds is not None or not summary.branches):
        return ExitCode.TIME_LIMIT
    return ExitCode.OK


def _search(options: BatchOptions, summary: Summary, progress: Progress) -> None:
    begun = time.monotonic()
    deadline = None if options.time_s is None else begun + options.time_s
    try:
        for plan, result in _branches(options, summary, progress, deadline):
            summary.wall_s = time.monotonic() - begun
            summary.add(plan, result)
            if result.failures:
                progress.say(failure_line(plan, result))
                _keep_failure(options, summary, plan, result)
            if options.stop_after is not None and summary.failing_count >= options.stop_after:
                summary.ended_by = "failures"
                break
    finally:
        summary.wall_s = time.monotonic() - begun


def _branches(
    options: BatchOptions, summary: Summary, progress: Progress, deadline: float | None
) -> Iterator[tuple[BranchPlan, BranchResult]]:
    """Branches that have ended, in the order of their numbers. A guided search will learn from them here."""
    total, planned, following = options.total, 0, 0
    ended: dict[int, tuple[BranchPlan, BranchResult]] = {}
    with WorkerPool(summary.scenario, summary.seed, summary.workers) as pool:
        while True:
            while pool.idle and planned != total and planned - following < AHEAD_MAX:
                pool.start(plan_branch(summary.scenario, summary.seed, planned))
                planned += 1
            if not pool.busy:
                return
            left = PERIOD_S if deadline is None else deadline - time.monotonic()
            if left <= 0:
                summary.ended_by = "time"  # branches in progress count for nothing
                return
            for plan, result in pool.wait(min(PERIOD_S, left)):
                ended[plan.number] = plan, result
            summary.are_machines_ready = pool.are_machines_ready
            while following in ended:
                yield ended.pop(following)
                following += 1
            progress.show()


# ---- results ---------------------------------------------------------------------------------------------------------


def _prepare_places(options: BatchOptions) -> None:
    """Says before the search what could not be written after it."""
    if options.output is not None:
        try:
            Path(options.output).mkdir(parents=True, exist_ok=True)
        except OSError as e:
            hint = "give --output a directory that can be made"
            raise UsageError(e.strerror or str(e), where=options.output, hint=hint) from None
        _try_writing(os.path.join(options.output, SUMMARY_FILE), "--output")
    if options.junit is not None:
        _try_writing(options.junit, "--junit")


def _try_writing(path: str, option: str) -> None:
    try:
        with Path(path).open("a"):
            pass
    except OSError as e:
        hint = f"give {option} another place"
        raise UsageError(f"cannot be written: {e.strerror or e}", where=path, hint=hint) from None


def _write(path: str, text: str) -> None:
    """All of it, or nothing is left of it. Raises EngineError."""
    file = Path(path)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as e:
        if file.is_file():
            file.unlink()
        raise EngineError(f"cannot be written: {e.strerror or e}", where=path) from None


def _keep_failure(options: BatchOptions, summary: Summary, plan: BranchPlan, result: BranchResult) -> None:
    path = None
    if options.output is not None:
        path = os.path.join(options.output, file_name(summary.name, summary.seed, plan.number))
        assert options.scenario is not None
        name = os.path.abspath(options.scenario) if names_file(options.scenario) else options.scenario
        try:
            _write(path, failure_text(name, summary.scenario, summary.seed, plan, result, path))
        except EngineError as e:
            # What was found stands in the summary all the same.
            diagnostics.error(f"branch {plan.number} cannot be kept: {e}")
            path = None
    recording = None
    try:
        recording = _record(options, summary, plan, result)
    finally:  # interrupted or not, it was found
        again = None if path is None else replay_command(path)
        recorded = None if recording is None else recording_command(recording, summary.scenario)
        name = None if recording is None else str(recording)
        summary.add_failure(Failure(plan, result, path, again, name, recorded))


def _record(options: BatchOptions, summary: Summary, plan: BranchPlan, result: BranchResult) -> Path | None:
    """The recording of a failing branch; None for one more branch of a bug that was recorded often enough."""
    bug = ", ".join(sorted({failure.name for failure in result.failures}))
    if summary.recorded.get(bug, 0) >= PER_BUG_MAX:
        return None
    name = Path(file_name(summary.name, summary.seed, plan.number)).with_suffix(".ccrec").name
    if options.output is not None:
        path = Path(options.output) / name
    else:
        path = recordings_dir() / name
        with contextlib.suppress(OSError):
            prune(path.parent)
    assert options.scenario is not None
    if not record_failure(path, options.scenario, summary.scenario, summary.seed, plan, result):
        return None
    summary.recorded[bug] = summary.recorded.get(bug, 0) + 1
    return path


def _write_results(options: BatchOptions, summary: Summary) -> None:
    if options.output is not None:
        _write(os.path.join(options.output, SUMMARY_FILE), json.dumps(summary.as_dict(), indent=2) + "\n")
    if options.junit is not None:
        _write(options.junit, summary.as_junit())


# ---- again -----------------------------------------------------------------------------------------------------------


def _replay(options: BatchOptions, path: str) -> int:
    """Runs a kept failure. With --scenario on that scenario, whose end may differ: whether a change has mended it."""
    saved = read_failure(path)
    elsewhere = options.scenario is not None and options.scenario != saved.scenario
    scenario = saved.applied_to(load_scenario(options.scenario or saved.scenario))
    check_runnable(scenario)
    search = BlindSearch(scenario, saved.seed)
    try:
        result = search.run_once(saved.plan)
    except GuestError as e:
        return _ended_by_error(e)
    finally:
        search.close()
    if result is None:
        return ExitCode.INTERRUPTED
    digest = str(result.digest)
    same = digest == saved.digest
    if options.as_json:
        found = OracleReport(result.failures).as_dicts()
        table = {"scenario": scenario_name(scenario), "digest": digest, "same": same, "failures": found}
        print(json.dumps(table, indent=2))
    else:
        for failure in result.failures:
            at = f" at {failure.counterexample}" if failure.counterexample is not None else ""
            print(f"FAILED  {failure.name}{at}: {failure.details}")
        print(f"{'nothing failed, ' if not result.failures else ''}digest {digest}{', as recorded' if same else ''}")
    if not same and not elsewhere:
        diagnostics.error(
            f"{path}: the branch ended differently, recorded was {saved.digest} by version {saved.version}; "
            f"have the scenario, its images or the program changed since?"
        )
        return ExitCode.ENGINE
    return ExitCode.FAILED if result.failures else ExitCode.OK
