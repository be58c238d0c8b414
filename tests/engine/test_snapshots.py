"""Snapshots through Python: complete, shared, counted, and within a budget."""

from __future__ import annotations

import pytest
from flat_guests import COUNTER, MIB, TIMER, start
from hypothesis import given, settings
from hypothesis import strategies as st

from chaoscontrol import BudgetError, DeterministicVm, PageStore, UsageError, VmConfig

SPAN = 200_000


@pytest.mark.parametrize("guest", [COUNTER, TIMER])
def test_a_restored_machine_has_the_same_future(guest: str) -> None:
    with start(guest) as vm:
        vm.run(instret=SPAN)
        snapshot = vm.snapshot()
        here = vm.digest()
        assert (snapshot.instret, snapshot.vns, snapshot.digest) == (vm.instret, vm.vns, here)
        vm.run(instret=3 * SPAN)
        there = vm.digest()
        assert there != here
        vm.restore(snapshot)
        assert (vm.digest(), vm.instret) == (here, SPAN)
        vm.run(instret=3 * SPAN)
        assert vm.digest() == there


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=12), st.data())
def test_any_walk_over_snapshots_meets_the_same_states(steps: list[int], data: st.DataObject) -> None:
    """A model: the digest is a function of the instruction count, whatever was restored before."""
    with start(TIMER, memory_bytes=4 * MIB) as vm:
        known = {0: vm.digest()}
        snapshots = [vm.snapshot()]
        for step in steps:
            if data.draw(st.booleans()):
                vm.restore(data.draw(st.sampled_from(snapshots)))
                assert vm.digest() == known[vm.instret]
            vm.run(instret=vm.instret + step)
            assert known.setdefault(vm.instret, vm.digest()) == vm.digest()
            snapshots.append(vm.snapshot())
        for snapshot in snapshots:
            assert snapshot.digest == known[snapshot.instret]


def test_a_fork_is_independent() -> None:
    with start(COUNTER) as vm:
        vm.run(instret=SPAN)
        with vm.fork() as other:
            assert other.digest() == vm.digest()
            other.write_memory(0x200000, b"changed")
            assert other.digest() != vm.digest()
            vm.run(instret=2 * SPAN)
            assert other.instret == SPAN


def test_console_output_follows_a_restore() -> None:
    with start("1: mov dx, 0x3f8; mov al, 'x'; out dx, al; jmp 1b") as vm:
        vm.run(instret=400)
        snapshot = vm.snapshot()
        assert vm.take_console() == (0, b"x" * 100)
        vm.run(instret=800)
        vm.restore(snapshot)
        assert vm.console_total == 100
        vm.run(instret=408)
        assert vm.take_console() == (100, b"xx")  # what another future printed is gone


def test_dirty_pages_are_counted_from_the_last_snapshot() -> None:
    with start("1: jmp 1b") as vm:
        vm.snapshot()
        assert vm.dirty_pages == 0
        for page in (1000, 1001, 1001, 2000):
            vm.write_memory(page * 4096, b"x")
        assert vm.dirty_pages == 3
        vm.snapshot()
        assert vm.dirty_pages == 0


def test_a_machine_keeps_no_copies_for_a_snapshot_that_is_closed() -> None:
    pages = 500
    with start(COUNTER) as vm:

        def fill(word: bytes) -> None:
            vm.write_memory(0x200000, word * (pages * 512))

        def copied() -> int:
            return vm.store.bytes_held - vm.store.bytes_lent

        fill(b"at first")
        snapshot = vm.snapshot()
        assert vm.store.bytes_lent >= pages * 4096 > copied()
        fill(b"and then")
        assert copied() > pages * 4096 > vm.store.bytes_lent
        vm.restore(snapshot)
        snapshot.close()
        vm.run(instret=vm.instret + 1)
        assert vm.store.bytes_lent >= pages * 4096 > 10 * copied()
        fill(b"and then")  # which no snapshot will ever ask for
        assert max(vm.store.bytes_lent, copied()) < pages * 4096 // 10


def test_snapshots_share_what_did_not_change() -> None:
    with start(COUNTER, memory_bytes=64 * MIB) as vm:
        vm.write_memory(16 * MIB, bytes(range(256)) * 4096)
        snapshots = [vm.snapshot()]
        base = vm.store.bytes_held
        assert base > MIB
        for i in range(50):
            vm.write_memory(40 * MIB + i * 4096, b"page")
            snapshots.append(vm.snapshot())
        assert vm.store.bytes_held - base < 50 * 20_000
        exclusive = snapshots[20].exclusive_bytes
        assert 0 < exclusive < 20_000
        before = vm.store.bytes_held
        snapshots[20].close()
        assert before - vm.store.bytes_held <= exclusive


def test_a_budget_that_would_be_passed_is_a_clear_error_and_nothing_is_lost() -> None:
    store = PageStore(budget_bytes=2 * MIB)
    with start(COUNTER, store=store, memory_bytes=32 * MIB) as vm:
        vm.run(instret=SPAN)
        snapshot = vm.snapshot()
        before = vm.digest()
        noise = bytes((i * 7919 >> 3) & 0xFF for i in range(4096))
        for page in range(2048, 4096):
            vm.write_memory(page * 4096, page.to_bytes(4, "little") + noise[4:])
        with pytest.raises(BudgetError, match="free snapshots or raise the budget"):
            vm.snapshot()
        vm.restore(snapshot)
        assert vm.digest() == before
        store.budget_bytes = None
        assert store.budget_bytes is None
        assert vm.snapshot()
    with pytest.raises(UsageError, match="budget of 0 bytes"):
        PageStore(0)


def test_snapshots_go_to_equal_machines_only() -> None:
    with start("hlt") as vm:
        snapshot = vm.snapshot()
        with (
            DeterministicVm(VmConfig(memory_bytes=8 * MIB), store=vm.store) as smaller,
            pytest.raises(UsageError, match="memory"),
        ):
            smaller.restore(snapshot)
        with (
            DeterministicVm(VmConfig(memory_bytes=16 * MIB)) as stranger,
            pytest.raises(UsageError, match="another page store"),
        ):
            stranger.restore(snapshot)


def test_a_closed_snapshot_says_so() -> None:
    with start("hlt") as vm:
        snapshot = vm.snapshot()
        snapshot.close()
        snapshot.close()
        assert repr(snapshot) == "<Snapshot closed>"
        with pytest.raises(Exception, match="the snapshot is closed"):
            vm.restore(snapshot)


def test_part_digests_name_what_differs() -> None:
    with start("1: jmp 1b") as vm:
        pages, cpu, devices = [vm.page_digest(p) for p in range(4096)], vm.cpu_digest(), vm.device_digest()
        vm.write_memory(0x200000, b"x")
        changed = [p for p in range(4096) if vm.page_digest(p) != pages[p]]
        assert (changed, vm.cpu_digest(), vm.device_digest()) == ([0x200], cpu, devices)
        vm.set_registers(vm.registers().replace(rbx=1))
        assert vm.cpu_digest() != cpu
        with pytest.raises(Exception, match="there is no page 4096"):
            vm.page_digest(4096)
