"""What snapshots cost: taking, restoring, keeping a thousand, and rewinding a tick with the time travel library."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, thread_time

from figures import median, ms, percentile, show_table

from chaoscontrol import DeterministicVm, PageStore, SimulationConfig, SimulationController, image_path
from chaoscontrol.random import Stream
from chaoscontrol.timetravel import ConsoleInput, Multiverse

ROUNDS = int(os.environ.get("CC_BENCH_SNAPSHOTS", "300"))
REWINDS = 100
MIB = 1 << 20
PROMPT = "guest> "
HEADS = ("", "p50", "p95", "most", "limit")


@contextmanager
def at_prompt() -> Iterator[DeterministicVm]:
    """A 256 MiB machine with Linux idle at its prompt. No garbage collection disturbs what is measured."""
    with DeterministicVm(store=PageStore()) as vm:
        vm.load_kernel(image_path("vmlinux"), image_path("hello"))
        vm.run_until(PROMPT)
        gc.disable()
        try:
            yield vm
        finally:
            gc.enable()


def timed(work: Callable[[], object]) -> float:
    begun = perf_counter()
    work()
    return perf_counter() - begun


def timed_both(work: Callable[[], object]) -> tuple[float, float]:
    """CPU seconds of this thread, on which other work on the host shows less, and wall seconds."""
    begun = thread_time()
    wall_s = timed(work)
    return thread_time() - begun, wall_s


def row(name: str, times: list[float], limit: str) -> tuple[str, str, str, str, str]:
    return name, ms(median(times)), ms(percentile(times, 0.95)), ms(max(times)), limit


def pages_of(vm: DeterministicVm, count: int, stream: Stream) -> list[int]:
    """Different pages, all over the memory above 64 MiB."""
    pages: dict[int, None] = {}
    while len(pages) < count:
        pages[(64 * MIB >> 12) + stream.below((vm.config.memory_bytes - 64 * MIB) >> 12)] = None
    return list(pages)


def dirty(vm: DeterministicVm, pages: list[int], fill: Callable[[], bytes]) -> None:
    for page in pages:
        vm.write_memory(page << 12, fill())


def take_times(*, same: bool, whole: bool) -> list[tuple[float, float]]:
    """Taking with 1000 dirty pages, the same every time or others; the last 8 snapshots are kept, as a user would."""
    stream, kept, times = Stream(1, "bench", "take"), [], []
    with at_prompt() as vm:
        vm.snapshot().close()
        pages = pages_of(vm, 1000, stream)
        for i in range(ROUNDS):
            word = i.to_bytes(8, "little")
            dirty(vm, pages if same else pages_of(vm, 1000, stream), lambda data=word * 512 if whole else word: data)
            assert vm.dirty_pages == 1000
            times.append(timed_both(lambda: kept.append(vm.snapshot())))
            if len(kept) > 8:
                kept.pop(0).close()
    return times


def restore_times() -> list[tuple[float, float]]:
    stream, times = Stream(1, "bench", "restore"), []
    with at_prompt() as vm:
        base = vm.snapshot()
        for _ in range(ROUNDS):
            dirty(vm, pages_of(vm, 16, stream), lambda: stream.read(4096))
            times.append(timed_both(lambda: vm.restore(base)))
            assert vm.digest() == base.digest
    return times


def test_take_and_restore() -> None:
    cases = {
        "take, 1000 dirty pages, the same each time, 8 bytes in each": take_times(same=True, whole=False),
        "take, 1000 dirty pages anywhere, 8 bytes in each": take_times(same=False, whole=False),
        "take, 1000 dirty pages, the same each time, all bytes": take_times(same=True, whole=True),
        "take, 1000 dirty pages anywhere, all bytes": take_times(same=False, whole=True),
        "restore, 16 differing pages": restore_times(),
    }
    rows = []
    for name, times in cases.items():
        cpu, wall = [pair[0] for pair in times], [pair[1] for pair in times]
        limit = "0.05 ms" if name.startswith("restore") else "1 ms"
        rows.append((name, ms(median(cpu)), ms(median(wall)), ms(percentile(wall, 0.95)), limit))
    heads = ("", "p50, CPU", "p50, wall", "p95, wall", "limit of p50")
    show_table(f"Snapshots of a 256 MiB machine, {ROUNDS} rounds", heads, rows)


def test_a_thousand_snapshots() -> None:
    rows = []
    for name, typed in (("idle at the prompt", None), ("spin, typed every 100 snapshots", "spin 1\r")):
        with at_prompt() as vm:
            first = vm.snapshot()
            begun, kept = vm.store.bytes_held, []
            for i in range(1000):
                if typed and i % 100 == 0:
                    vm.console_input(typed)
                vm.run(vns=vm.vns + 10_000_000)
                kept.append(vm.snapshot())
            held = vm.store.bytes_held - begun
            rows.append((name, f"{held / MIB:.1f} MiB", f"{held / 1000 / 1024:.1f} KiB", f"{begun / MIB:.1f} MiB"))
            assert first.instret <= kept[-1].instret
    heads = ("1000 snapshots, 10 ms of virtual time apart", "all", "each", "the first, whole")
    show_table("Memory in the page store (limit: 100 MiB for an idle-ish machine)", heads, rows)
    assert float(rows[0][1].split()[0]) < 100


def test_rewind_of_one_tick() -> None:
    """As `T` in the interface does it, with the library's default keyframes, from different places."""
    rows = []
    for vms in (1, 3):
        config = SimulationConfig(num_vms=vms, kernel_path=image_path("vmlinux"), initrd_path=image_path("hello"))
        with SimulationController(config) as cluster:
            multiverse = Multiverse(cluster)
            for name, begin_ns, typed in (("idle", 1_000_000_000, ""), ("busy", 2_000_000_000, "spin 20\r")):
                multiverse.goto_end()
                multiverse.run_to(begin_ns)
                if typed:
                    for vm in range(vms):
                        give(multiverse, vm, typed)
                multiverse.run_to(begin_ns + 200_000_000)
                times = rewind_times(multiverse)
                rows.append(row(f"{vms} machines, {name}", times, "100 ms"))
    show_table(f"Rewind of one tick, {REWINDS} in a row, wall time (limit is for p95)", HEADS, rows)


def rewind_times(multiverse: Multiverse) -> list[float]:
    return [timed(lambda: multiverse.step_ticks(-1)) for _ in range(REWINDS)]


def give(multiverse: Multiverse, vm: int, text: str) -> None:
    head = multiverse.head()
    assert head is not None
    assert head.give(ConsoleInput(vm, text.encode())) is not None
