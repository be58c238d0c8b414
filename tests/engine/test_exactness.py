"""`run` stops at exactly the asked instruction, wherever that is: within REP, across interrupts, in faults."""

from __future__ import annotations

import threading

import pytest
from flat_guests import COUNTER, PATCHER, TIMER, start

from chaoscontrol import DeterministicVm, image_path
from chaoscontrol.random import Stream

SPAN = 3_000_000


def random_points(name: str, count: int, limit: int) -> list[int]:
    stream = Stream(0, "exactness", name)
    return sorted({stream.below(limit) for _ in range(count)})


@pytest.mark.parametrize("guest", [COUNTER, TIMER, PATCHER], ids=["rep", "interrupts", "self-modifying"])
def test_thousands_of_random_stops_are_exact_and_change_nothing(guest: str) -> None:
    with start(guest) as stopped, start(guest) as straight:
        for n in random_points("stops", 3000, SPAN):
            stop = stopped.run(instret=n)
            assert stop.instret == stopped.instret == n
        stopped.run(instret=SPAN)
        straight.run(instret=SPAN)
        assert stopped.digest() == straight.digest()


@pytest.mark.parametrize("guest", [COUNTER, TIMER, PATCHER], ids=["rep", "interrupts", "self-modifying"])
def test_stepping_one_by_one_visits_the_same_states(guest: str) -> None:
    count, first = 4000, 400_000 if guest is TIMER else 1000
    with start(guest) as stepped:
        stepped.run(instret=first)
        with stepped.fork() as jumped:
            base = jumped.snapshot()
            digests: list[int] = []
            for i in range(1, count + 1):
                assert stepped.step().instret == first + i
                digests.append(stepped.digest())
            assert len(set(digests)) > count // 2
            for i in random_points("jumps", 300, count):
                jumped.restore(base)
                jumped.run(instret=first + i + 1)
                assert jumped.digest() == digests[i]


def test_random_times_are_reached_at_the_first_boundary() -> None:
    with start(TIMER) as stopped, start(TIMER) as straight:
        for vns in random_points("times", 2000, 20_000_000):
            assert stopped.run(vns=vns).vns == max(vns, stopped.vns)
        for vm in (stopped, straight):
            vm.run(vns=20_000_000)
        assert stopped.digest() == straight.digest()


def run_in_pieces(vm: DeterministicVm, n: int, pieces: int) -> None:
    for i in range(1, pieces + 1):
        vm.run(instret=n * i // pieces)


@pytest.mark.parametrize("every", range(1, 14))
def test_code_that_writes_to_itself_is_cut_anywhere(every: int) -> None:
    """Found by random sequences: a block that had been dropped was executed in part, and what it wrote not noticed."""
    with start(PATCHER) as vm, start(PATCHER) as whole:
        while vm.instret < 3000:
            vm.run(instret=min(vm.instret + every, 3000))
        whole.run(instret=3000)
        assert vm.digest() == whole.digest()


@pytest.mark.parametrize("pieces", [1, 2, 3, 7, 1000])
def test_how_a_run_is_cut_does_not_matter(pieces: int) -> None:
    with start(TIMER) as vm, start(TIMER) as whole:
        run_in_pieces(vm, 1_000_003, pieces)
        whole.run(instret=1_000_003)
        assert vm.digest() == whole.digest()


# ---- the same on Linux ----

LINUX_SPAN = 24_000_000


def linux() -> DeterministicVm:
    vm = DeterministicVm()
    vm.load_kernel(image_path("vmlinux"), image_path("hello"))
    return vm


def test_thousands_of_random_stops_in_a_linux_boot_are_exact_and_change_nothing() -> None:
    with linux() as stopped, linux() as straight:
        for n in random_points("linux", 3000, LINUX_SPAN):
            assert stopped.run(instret=n).instret == n
        for vm in (stopped, straight):
            vm.run(instret=LINUX_SPAN)
        assert stopped.digest() == straight.digest()


def test_stepping_through_a_linux_boot_visits_the_same_states() -> None:
    with linux() as stepped, linux() as jumped:
        for start_at in random_points("linux windows", 40, LINUX_SPAN):
            stepped.run(instret=start_at)
            jumped.run(instret=start_at)
            for _ in range(500):
                stepped.step()
            jumped.run(instret=start_at + 500)
            assert stepped.digest() == jumped.digest()


def test_a_machine_needs_no_stack_of_its_thread() -> None:
    """Handlers dispatch by tail calls: a compiler that makes real calls of some would overflow here."""
    found: list[object] = []

    def boot() -> None:
        with linux() as vm:
            vm.run(instret=LINUX_SPAN)
            found.append(vm.digest())

    before = threading.stack_size(192 * 1024)
    try:
        thread = threading.Thread(target=boot)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(120)
    boot()
    assert len(found) == 2 and found[0] == found[1]
