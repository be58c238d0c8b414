"""`cc-tui boot`: one machine without the interface.

The console goes to stdout as it comes, raw where stdout is a file or a pipe, without escape sequences where it is a
terminal; statistics go to stderr. With --json the statistics are all that stdout gets.
"""

from __future__ import annotations

import sys
import time

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode
from cc_tui.options import LaunchOptions, launch_options
from chaoscontrol.config import check_quantum
from chaoscontrol.machine import DeterministicVm, Stop, StopKind
from chaoscontrol.random import machine_seed
from chaoscontrol.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LOG_LINES_MAX = 20


class BootLimits(Record):
    """What a boot stops at, besides the guest's own end."""

    until: str | None = None
    """A text on the console."""
    max_vns: int | None = None
    max_instret: int | None = None


def boot(
    kernel: str,
    initrd: str | None = None,
    *,
    until: str | None = None,
    max_vtime: int | None = None,
    max_instructions: int | None = None,
    as_json: bool = False,
    **guest: Any,
) -> int:
    """The command; its parameters are named as its options, guest's are launch_options()'s."""
    options = launch_options(kernel=kernel, initrd=initrd, **guest)
    return run_boot(options, BootLimits(until, max_vtime, max_instructions), as_json=as_json)


def run_boot(options: LaunchOptions, limits: BootLimits, *, as_json: bool) -> int:
    """Boots, runs, reports. Raises ChaosControlError for files and values that cannot be used."""
    wall, cpu = time.perf_counter(), time.process_time()
    # The machine is that of a cluster of one: the same digests as in the interface.
    check_quantum(options.quantum_ns)
    config = options.vm_config().replace(seed=machine_seed(options.seed, 0))
    kernel, initrd = options.files()
    with DeterministicVm(config) as vm:
        vm.load_kernel(kernel, initrd)
        show = _discard(vm) if as_json else _console_writer(vm)
        try:
            stop = vm.run(instret=limits.max_instret, vns=limits.max_vns, console=limits.until, on_slice=show)
        finally:
            show()
        code = exit_code(stop, limits)
        report = {
            **_outcome(vm, stop, code),
            "wall_s": round(time.perf_counter() - wall, 6),
            "cpu_s": round(time.process_time() - cpu, 6),
            "kernel": kernel,
            "initrd": initrd,
            "seed": options.seed,
            "memory_bytes": config.memory_bytes,
            "vcpu": config.vcpu,
            "cmdline": config.cmdline,
        }
        log = vm.take_log()
    if as_json:
        import json

        print(json.dumps({**report, "log": log}, indent=2))
    else:
        _report_to_person(report, log)
    return code


def exit_code(stop: Stop, limits: BootLimits) -> int:
    """What the process ends with: whether the guest did what was asked of it."""
    if stop.kind is StopKind.TRIPLE_FAULT or (stop.kind is StopKind.SHUTDOWN and stop.detail != 0):
        return ExitCode.FAILED
    if limits.until is not None and stop.kind is not StopKind.CONSOLE:
        limit = stop.kind in (StopKind.VNS, StopKind.INSTRET)
        return ExitCode.TIME_LIMIT if limit else ExitCode.FAILED
    return ExitCode.OK


def _discard(vm: DeterministicVm) -> Callable[[], None]:
    def take() -> None:
        vm.take_console()

    return take


def _console_writer(vm: DeterministicVm) -> Callable[[], None]:
    """Writes what the console has shown since the last call."""
    if not sys.stdout.isatty():

        def write_raw() -> None:
            sys.stdout.buffer.write(vm.take_serial_bytes())
            sys.stdout.buffer.flush()

        return write_raw

    from cc_tui.console_text import EscapeStripper

    stripper = EscapeStripper()

    def write_safe() -> None:
        sys.stdout.write(stripper.feed(vm.take_serial_bytes()))
        sys.stdout.flush()

    return write_safe


def _outcome(vm: DeterministicVm, stop: Stop, code: int) -> dict[str, Any]:
    stats = vm.stats()
    return {
        "stop": stop.kind.name.lower(),
        "detail": stop.detail,
        "exit_code": code,
        "instructions": stop.instret,
        "virtual_ns": stop.vns,
        "digest": str(vm.digest()),
        "console_bytes": vm.console_total,
        "stats": stats.as_dict(),
    }


def _report_to_person(report: dict[str, Any], log: list[str]) -> None:
    for line in log[:LOG_LINES_MAX]:
        diagnostics.note(f"log: {line}")
    if len(log) > LOG_LINES_MAX:
        diagnostics.note(f"log: and {len(log) - LOG_LINES_MAX} more lines; --json gives all")
    speed = report["instructions"] / max(report["wall_s"], 1e-9) / 1e6
    diagnostics.note(
        f"{StopKind[report['stop'].upper()].text} after {report['instructions']:,} instructions, "
        f"{report['virtual_ns'] / 1e9:.6f} s virtual, {report['wall_s']:.3f} s real ({speed:.0f} M/s), "
        f"{report['stats']['exits']:,} exits; digest {report['digest']}"
    )
