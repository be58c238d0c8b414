"""What coverage costs: the run with branch edges recorded against the same run without, and work on maps.

Runs are paired and their order alternates, since the machine is shared; the figure is the median of the pairs' ratios.
Where valgrind is installed, callgrind's counts of host instructions are shown too: the host's mood does not
change them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest
from engine.flat_guests import start
from figures import median, percentile, show_table
from test_speed import ALU, CALLS, LINE, MIXED

from chaoscontrol import DeterministicVm, Symbol, image_path, read_symbols
from chaoscontrol.coverage import CELLS, CoverageMap, Source, collect
from chaoscontrol.edges import find_tasks

ROUNDS = int(os.environ.get("CC_BENCH_ROUNDS", "7"))
LOOP_INSNS = 50_000_000
BOUND = 1.15
"""What recording may cost."""


def boot(on: bool, names: list[Symbol]) -> float:
    """CPU seconds of a kernel boot to the first line of user code."""
    with DeterministicVm() as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        if on:
            vm.edges.record(kernel=True, user=True, tasks=find_tasks(vm, names))
        begun = process_time()
        vm.run(console=LINE)
        return process_time() - begun


def loop(text: str, on: bool) -> float:
    with start(text) as vm:
        if on:
            vm.edges.record(kernel=True)
        vm.step(1_000_000)
        begun = process_time()
        vm.step(LOOP_INSNS)
        return process_time() - begun


def spin(vm: DeterministicVm, on: bool, names: list[Symbol]) -> float:
    """A loop in C under Linux."""
    if on:
        vm.edges.record(kernel=True, user=True, tasks=find_tasks(vm, names))
    else:
        vm.edges.stop()
    vm.console_input("spin 10\r")
    begun = process_time()
    vm.run(console="million rounds")
    return process_time() - begun


def pairs(work: Callable[[bool], float]) -> list[float]:
    """Time with recording / time without, one right after the other."""
    ratios: list[float] = []
    for i in range(ROUNDS):
        times = {on: work(on) for on in ((True, False) if i % 2 else (False, True))}
        ratios.append(times[True] / times[False])
    return ratios


def test_cost_of_recording() -> None:
    names = read_symbols(image_path("vmlinux-6.1.sym")).symbols
    found = {"kernel boot to the first line": pairs(lambda on: boot(on, names))}
    with DeterministicVm() as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        vm.run_until("guest> ")
        found["hello: spin 10 under Linux"] = pairs(lambda on: spin(vm, on, names))
    for name, text in (("mixed", MIXED), ("ALU", ALU), ("calls and returns", CALLS)):
        found[f"loop: {name}"] = pairs(lambda on, text=text: loop(text, on))
    rows = [(name, *(f"{(f(r) - 1) * 100:+.1f} %" for f in (median, min, max))) for name, r in found.items()]
    show_table(f"Cost of recording edges, CPU time, {ROUNDS} pairs", ("", "median", "least", "most"), rows)
    assert median([median(r) for r in found.values()]) < BOUND


COUNTED = """
import sys
from chaoscontrol import DeterministicVm, image_path
with DeterministicVm() as vm:
    vm.load_kernel(image_path("vmlinux"), image_path("hello"))
    if sys.argv[1] == "on":
        vm.edges.record(kernel=True, user=True)
    vm.run(instret=int(sys.argv[2]))
"""


def test_host_instructions_of_a_boot(tmp_path: Path) -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind (Debian: apt install valgrind)")
    counts: dict[str, int] = {}
    for mode in ("off", "on"):
        out = f"--callgrind-out-file={tmp_path / mode}"
        options = ["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=cc_run", out]
        command = ["valgrind", *options, sys.executable, "-c", COUNTED, mode, "16000000"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
        match = re.search(r"Collected : (\d+)", done.stderr)
        assert match, done.stderr[-500:]
        counts[mode] = int(match[1])
    ratio = counts["on"] / counts["off"]
    print(
        f"\nHost instructions of 16 million guest instructions of a boot: {counts}, {(ratio - 1) * 100:+.1f} % when on"
    )
    assert ratio < BOUND


def test_cost_of_maps() -> None:
    with DeterministicVm() as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        vm.edges.record(kernel=True)
        vm.run(console=LINE)
        counters = vm.edges.maps()[0][1]
        boot_map = collect([vm])
    dense = bytes(1 + i * 7 % 255 for i in range(CELLS))
    full = CoverageMap()
    full.add_counters(Source.KERNEL, "", dense)

    def fresh(add: CoverageMap) -> None:
        CoverageMap().merge(add)

    known = boot_map.copy()
    work: dict[str, Callable[[], object]] = {
        "merge what is known": lambda: known.merge(boot_map),
        "merge a boot into nothing": lambda: fresh(boot_map),
        "merge a full map into nothing": lambda: fresh(full),
        "compare": lambda: known.new_edges(boot_map),
        "classify and merge a boot's counters": lambda: known.add_counters(Source.KERNEL, "", counters),
        "digest": boot_map.digest,
        "serialise": boot_map.to_bytes,
        "grid of 20 x 80": lambda: boot_map.grid(20, 80),
    }
    rows: list[tuple[str, str, str]] = []
    times: dict[str, float] = {}
    for name, act in work.items():
        taken: list[float] = []
        for _ in range(200):
            begun = process_time()
            act()
            taken.append(process_time() - begun)
        times[name] = median(taken)
        rows.append((name, f"{times[name] * 1e6:.0f} us", f"{percentile(taken, 0.9) * 1e6:.0f} us"))
    print(f"\n{boot_map.edges} edges in a boot, {len(boot_map.to_bytes())} bytes serialised")
    show_table("Work on maps of 64 KiB, CPU time", ("", "median", "90 %"), rows)
    assert max(time for name, time in times.items() if name.startswith("merge")) < 100e-6
