"""`cc-tui demo` without a terminal: shows on stdout what the interface would let a person do.

A small cluster boots, is snapshot, runs on, goes back, and runs on again: the same state, digest for digest.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from cc_tui import diagnostics
from cc_tui.console_text import EscapeStripper
from cc_tui.diagnostics import ExitCode
from chaoscontrol.cluster import SimulationController
from chaoscontrol.errors import GuestError
from chaoscontrol.machine import StopKind

if TYPE_CHECKING:
    from cc_tui.options import LaunchOptions

READY_TEXT = "guest> "
BOOT_NS_MAX = 60 * 10**9
RUN_TICKS = 10_000
LINES_MAX = 6


def run_demo(options: LaunchOptions) -> int:
    """Runs the demo and prints its summary; FAILED if the repetition differed."""
    started = time.perf_counter()
    with SimulationController(options.simulation()) as cluster:
        print(f"cc-tui demo: {options.vms} machines, seed {options.seed}, tick {options.quantum_ns // 1000} us")
        _boot(cluster)
        booted = time.perf_counter()
        instructions = sum(vm.instret for vm in cluster.vms)
        speed = instructions / (booted - started) / 1e6
        print(f"  booted to the prompt: {instructions:,} instructions in {booted - started:.2f} s ({speed:.0f} M/s)")
        for line in _last_lines(cluster.vms[0].take_serial_bytes()):
            print(f"  | {line}")
        snapshot = cluster.snapshot_all()
        before = cluster.digest()
        print(f"  snapshot at {cluster.vns / 1e9:.4f} s virtual: {before}")
        first = _run_on(cluster)
        cluster.restore_all(snapshot)
        print(f"  back at {cluster.vns / 1e9:.4f} s:              {cluster.digest()}")
        back = cluster.digest() == before
        second = _run_on(cluster)
    if first != second or not back:
        diagnostics.error("the repetition differs: this is a bug of the engine, please report it")
        return ExitCode.FAILED
    print("  the same future twice; in a terminal, `make run` opens the interface on this cluster")
    return ExitCode.OK


def _boot(cluster: SimulationController) -> None:
    """Runs every machine to its prompt, then all to one tick."""
    for i in range(len(cluster.vms)):
        stop = cluster.run_machine(i, console=READY_TEXT, vns=BOOT_NS_MAX)
        if stop.kind is not StopKind.CONSOLE:
            sys.stdout.flush()
            raise GuestError(f"{stop} before the prompt", where=f"machine {i}", hint="try: cc-tui boot vmlinux hello")
    latest = max(vm.vns for vm in cluster.vms)
    cluster.run(latest // cluster.quantum_ns + 1)


def _run_on(cluster: SimulationController) -> int:
    for vm in cluster.vms:
        vm.console_input("spin 1\r")
    cluster.run(RUN_TICKS)
    digest = cluster.digest()
    print(f"  {RUN_TICKS} ticks on, {cluster.vns / 1e9:.4f} s:     {digest}")
    return digest


def _last_lines(output: bytes) -> list[str]:
    text = EscapeStripper().feed(output).replace("\r", "")
    return [line for line in text.split("\n") if line.strip()][-LINES_MAX:]
