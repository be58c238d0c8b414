"""`cc-tui demo` without a terminal: shows on stdout what the interface would let a person do.

A scenario's cluster boots and works, is snapshot, loses a machine and its network, heals, goes back, and lives through
the same again: the same state, digest for digest.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import TYPE_CHECKING

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode
from cc_tui.opening import scenario_of
from chaoscontrol.errors import UsageError
from chaoscontrol.faults import (
    FaultSchedule,
    FaultScheduleBuilder,
    NetworkPartition,
    Origin,
    ProcessKill,
    ProcessRestart,
    format_ns,
)
from chaoscontrol.oracle import Verdict
from chaoscontrol.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cc_tui.options import LaunchOptions
    from chaoscontrol.oracle import PropertyResult
    from chaoscontrol.trial import BranchResult, TrialState

CHAOS_NS = 3_000_000_000
SHOWN_MAX = 8


def demo_schedule(machines: int) -> FaultSchedule:
    """One machine is cut off, another loses its power and starts again."""
    builder = FaultScheduleBuilder(Origin.BRANCH)
    if machines > 1:
        others = tuple(range(1, machines))
        builder.at_ns(300_000_000, NetworkPartition((0,), others), duration_ns=900_000_000)
    last = machines - 1
    builder.at_ns(1_500_000_000, ProcessKill(last)).at_ns(1_900_000_000, ProcessRestart(last))
    return builder.build()


def run_demo(options: LaunchOptions) -> int:
    """Runs the demo and prints its summary; FAILED if a property failed, ENGINE if the repetition differed."""
    scenario = scenario_of(options)
    if scenario is None:
        raise UsageError("the demo needs a scenario", hint="give --scenario raft")
    scenario = dataclasses.replace(scenario, chaos_ns=CHAOS_NS)
    started = time.perf_counter()
    with Trial(scenario) as trial:
        tick = f"tick {scenario.quantum_ns // 1000} us"
        print(f"cc-tui demo: scenario {scenario.name}, {scenario.count} machines, seed {scenario.seed}, {tick}")
        trial.run_to_ready()
        seconds = time.perf_counter() - started
        instructions = sum(vm.instret for vm in trial.cluster.vms)
        speed = instructions / seconds / 1e6
        print(f"  ready: {instructions:,} instructions in {seconds:.2f} s ({speed:.0f} M/s)", flush=True)
        state = trial.snapshot()
        try:
            return _twice(trial, state)
        finally:
            state.close()


def _twice(trial: Trial, state: TrialState) -> int:
    cluster = trial.cluster
    before = cluster.digest()
    print(f"  snapshot at {cluster.vns / 1e9:.4f} s virtual:   {before}")
    first = _branch(trial, state)
    if first is None:
        return ExitCode.INTERRUPTED
    for change in first.schedule.faults:
        print(f"  | {format_ns(change.at_ns):>6} {change.fault}")
    print(f"  {_end(first)}", flush=True)
    trial.restore(state)
    print(f"  back at {cluster.vns / 1e9:.4f} s:              {cluster.digest()}")
    back = cluster.digest() == before
    second = _branch(trial, state)
    if second is None:
        return ExitCode.INTERRUPTED
    print(f"  {_end(second)}")
    if first.digest != second.digest or not back:
        sys.stdout.flush()
        diagnostics.error("the repetition differs: this is a bug of the engine, please report it")
        return ExitCode.ENGINE
    _print_properties(first.report.results)
    print("  the same future twice; in a terminal, `make run` opens the interface on this cluster")
    return ExitCode.FAILED if first.failures else ExitCode.OK


def _branch(trial: Trial, state: TrialState) -> BranchResult | None:
    schedule = demo_schedule(trial.scenario.count)
    return trial.run_branch(state, schedule, 1)


def _end(result: BranchResult) -> str:
    return f"faults, then quiet, to {result.end_ns / 1e9:.4f} s:  {result.digest}"


def _print_properties(results: Sequence[PropertyResult]) -> None:
    failed = [r for r in results if r.verdict is Verdict.FAILED]
    held = sum(r.verdict is Verdict.PASSED for r in results)
    waiting = sum(r.verdict is Verdict.UNREACHED for r in results)
    print(f"  properties: {held} held, {len(failed)} failed, {waiting} not reached")
    for result in failed[:SHOWN_MAX]:
        print(f"  | FAILED {result.name} at {result.counterexample}: {result.details}")


__all__ = ["demo_schedule", "run_demo"]
