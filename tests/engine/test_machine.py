"""DeterministicVm on flat guests: starting, stopping, looking and changing."""

from __future__ import annotations

import dataclasses
import gc
import threading
import time

import pytest
from flat_guests import COUNTER, MIB, PRINT, TIMER, assemble, start

from chaoscontrol import (
    AddressError,
    CpuConfig,
    DeterministicVm,
    EngineError,
    GuestError,
    PageStore,
    StopKind,
    UsageError,
    VmConfig,
    image_path,
)

FOREVER = "1: jmp 1b"


# ---- how a run ends ----


def test_a_flat_guest_computes_and_halts() -> None:
    with start("mov eax, 6; imul eax, eax, 7; hlt") as vm:
        stop = vm.run()
        assert (stop.kind, stop.instret) == (StopKind.HALTED, 3)
        assert vm.registers().rax == 42
        assert vm.run().kind is StopKind.HALTED


def test_the_start_state_is_the_documented_one() -> None:
    with start("hlt") as vm:
        r = vm.registers()
        assert (r.rip, r.rsp, r.rflags, r.cr3) == (0x100000, 0x8FF0, 2, 0x9000)
        assert (r.cs.selector, r.ds.selector) == (0x10, 0x18)
        assert r.efer & 0x500 == 0x500
        assert r.cr4 & 0x600 == 0x600
        assert (r.fcw, r.ftw, r.mxcsr) == (0x37F, 0xFFFF, 0x1F80)


def test_entry_stack_and_place_can_be_chosen() -> None:
    with DeterministicVm(VmConfig(memory_bytes=16 * MIB)) as vm:
        vm.load_flat(assemble("nop; push rax; hlt"), gpa=0x400000, entry=0x400001, stack=0x600000)
        vm.run()
        assert vm.registers().rsp == 0x600000 - 8
        with pytest.raises(UsageError, match="covers the page tables"):
            vm.load_flat(bytes(0x20000), gpa=0)
        with pytest.raises(UsageError, match="covers the GDT at 0x500"):
            vm.load_flat(bytes(0x501), gpa=0)
        vm.load_flat(bytes(0x500), gpa=0)
        with pytest.raises(AddressError, match="outside the machine's memory"):
            vm.load_flat(b"\xf4", gpa=16 * MIB)
        with pytest.raises(AddressError, match="not in the machine's memory"):
            vm.load_flat(b"\xf4", gpa=-1)
        for name in ("entry", "stack", "tables"):
            with pytest.raises(UsageError, match=f"{name} cannot be -0x1000; give a 64-bit address"):
                vm.load_flat(b"\xf4", **{name: -0x1000})


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_limits_that_no_run_can_have_are_refused(value: int) -> None:
    with start(FOREVER) as vm:
        for name in ("instret", "vns", "exits"):
            with pytest.raises(UsageError, match=f"a run cannot end at {name} {value}; give 0 to 2"):
                vm.run(**{name: value})
        assert vm.instret == 0
        assert vm.run(instret=5, vns=(1 << 64) - 1).instret == 5


def test_a_run_stops_at_the_asked_instruction_and_time() -> None:
    with start(FOREVER) as vm:
        assert vm.run(instret=12345).instret == vm.instret == 12345
        stop = vm.run(vns=1_000_000)
        assert (stop.kind, stop.vns, vm.vns) == (StopKind.VNS, 1_000_000, 1_000_000)
        assert vm.step().instret == 1_000_001
        assert vm.run(instret=5).instret == 1_000_001  # a limit that has passed


def test_an_instruction_takes_the_configured_time() -> None:
    with start(FOREVER, cpu=CpuConfig(ns_per_insn=7, tsc_khz=2_000_000)) as vm:
        vm.run(instret=1000)
        assert (vm.vns, vm.virtual_tsc()) == (7000, 14000)
        assert vm.run(vns=7001).vns == 7007


def test_a_run_crosses_many_slices() -> None:
    calls: list[int] = []
    with start(FOREVER) as vm:
        stop = vm.run(instret=50_000_000, on_slice=lambda: calls.append(vm.instret))
        assert stop.instret == 50_000_000
        assert calls == [1 << 24, 2 << 24]


def test_console_output_arrives_and_can_be_waited_for() -> None:
    text = PRINT + 'hlt\nmessage: .asciz "one\\ntwo\\nthree\\n"'
    with start(text) as vm:
        assert vm.run_until("two") == "one\ntwo"
        assert vm.console_total == 7
        assert vm.run().kind is StopKind.HALTED
        assert vm.take_console() == (7, b"\nthree\n")
        assert vm.take_serial_output() == ""
        marks = vm.take_console_marks()
        assert [mark.offset for mark in marks] == [0, 4, 8]
        assert [mark.vns for mark in marks] == sorted(mark.vns for mark in marks)


def test_waiting_for_text_that_never_comes_says_what_came_instead() -> None:
    with start("hlt") as vm:
        with pytest.raises(GuestError, match="the guest halted for good at instruction 1, 1 ns before it printed 'x'"):
            vm.run_until("x")
        with pytest.raises(UsageError, match="a console pattern of 0 bytes"):
            vm.run_until("")
        with pytest.raises(UsageError, match="a console pattern of 256 bytes"):
            vm.run(console=b"x" * 256)


def test_bytes_that_are_not_utf8_are_replaced_and_split_characters_are_not() -> None:
    text = PRINT + 'hlt\nmessage: .asciz "caf\\303\\251 \\377"'
    with start(text) as vm:
        vm.run(console=b"\xc3")
        assert vm.take_serial_output() == "caf"
        vm.run()
        assert vm.take_serial_output() == "\u00e9 \ufffd"


def test_hypercalls_and_coverage_stop_only_when_asked() -> None:
    text = "mov dx, 0x510; xor eax, eax; out dx, al; mov dx, 0x511; out dx, al; hlt"
    with start(text) as vm:
        assert vm.run(hypercall=True).kind is StopKind.HYPERCALL
        assert vm.run(coverage=True).kind is StopKind.COVERAGE
        assert vm.run().kind is StopKind.HALTED
    with start(text) as vm:
        assert vm.run().kind is StopKind.HALTED


def test_power_off_reset_and_triple_fault_are_final() -> None:
    for text, kind, detail in (
        ("mov dx, 0x501; mov eax, 77; out dx, eax; hlt", StopKind.SHUTDOWN, 77),
        ("mov al, 0xfe; out 0x64, al; hlt", StopKind.RESET, None),
        ("ud2", StopKind.TRIPLE_FAULT, None),
    ):
        with start(text) as vm:
            stop = vm.run()
            assert stop.kind is kind and kind.is_final
            assert detail is None or stop.detail == detail
            again = vm.run()
            assert (again.kind, again.instret) == (kind, stop.instret)


def test_run_bounded_counts_exits() -> None:
    with start("mov ecx, 10\n1: out 0x80, al\nloop 1b\nhlt") as vm:
        assert vm.run_bounded(4) == (4, False)
        exits, idle = vm.run_bounded(1000)
        assert idle and vm.exit_count() == 4 + exits >= 10


def test_another_thread_can_cancel_and_nothing_else() -> None:
    with start(FOREVER) as vm:
        stops: list[object] = []
        thread = threading.Thread(target=lambda: stops.append(vm.run()))
        thread.start()
        time.sleep(0.05)
        refused = 0
        for _ in range(20):
            try:
                vm.digest()
            except EngineError:
                refused += 1
        assert refused > 10
        with pytest.raises(EngineError, match="running in another thread"):
            vm.close()
        vm.cancel()
        thread.join(10)
        assert not thread.is_alive()
        assert stops[0].kind is StopKind.CANCELLED  # type: ignore[attr-defined]
        assert vm.step().kind is StopKind.INSTRET


def test_the_clock_interrupts_and_halts_end() -> None:
    with start(TIMER) as vm:
        stop = vm.run(vns=100_000_000)
        assert stop.vns == 100_000_000
        assert 99 <= vm.registers().r15 <= 102
        stats = vm.stats()
        assert stats.interrupts == vm.registers().r15
        assert stats.halts >= 45
        assert vm.instret < 60_000_000  # half of the time was spent halted


def test_unknown_opcodes_are_logged() -> None:
    with start("ud2") as vm:
        vm.run()
        assert all("\n" not in line and line for line in vm.take_log())
    with start(".byte 0xc5, 0xf8, 0x77") as vm:  # vzeroupper: AVX is not offered
        assert vm.run().kind is StopKind.TRIPLE_FAULT
        assert vm.stats().undefined_opcodes >= 1
        assert vm.take_log()


# ---- registers and memory ----


def test_every_register_can_be_set_and_read_back() -> None:
    with start("hlt") as vm:
        before = vm.registers()
        changed = before.replace(
            **{name: 0x1111111111111111 * (i + 1) % 2**64 for i, name in enumerate(["rax", "rcx", "rdx", "r15"])},
            rflags=0x8D7 & ~0x100,
            st=tuple(0x3FFF_8000_0000_0000_0000 + i for i in range(8)),
            ftw=0,
            fcw=0x27F,
            xmm=tuple((i + 1) << 100 | i for i in range(16)),
            mxcsr=0x1FA0,
            kernel_gs_base=0x123456789,
            star=0x0013_0008_0000_0000,
            tsc_aux=5,
        )
        vm.set_registers(changed)
        after = vm.registers()
        assert after == changed
        assert after.mm[3] == 0x8000_0000_0000_0003
        assert after.st_stack == after.st
        vm.set_registers(before)
        assert vm.registers() == before


def test_registers_that_do_not_fit_are_refused() -> None:
    with start("hlt") as vm:
        before = vm.registers()
        for change, says in (
            ({"rip": -1}, "rip cannot be -0x1; it has 64 bits"),
            ({"mxcsr": 1 << 32}, "mxcsr cannot be 0x100000000; it has 32 bits"),
            ({"fcw": 1 << 16}, "fcw cannot be 0x10000; it has 16 bits"),
            ({"tsc_offset": 1 << 63}, "tsc_offset cannot be 0x8000000000000000; it has 64 bits"),
            ({"cs": dataclasses.replace(before.cs, selector=1 << 16)}, "cs.selector cannot be 0x10000; it has 16 bits"),
            ({"idtr": dataclasses.replace(before.idtr, limit=-1)}, "idtr.limit cannot be -0x1; it has 16 bits"),
            ({"st": (1 << 80, *before.st[1:])}, "x87.r0 cannot be 0x100000000000000000000; it has 80 bits"),
            ({"xmm": (*before.xmm[1:], -1)}, "xmm15 cannot be -0x1; it has 128 bits"),
            ({"dr": before.dr[1:]}, "7 registers dr; give 8"),
            ({"xmm": (*before.xmm, 0)}, "17 registers xmm; give 16"),
        ):
            with pytest.raises(UsageError) as caught:
                vm.set_registers(before.replace(**change))
            assert str(caught.value) == says
            assert vm.registers() == before
        vm.set_registers(vm.registers().replace(rax=-1))
        assert vm.registers().rax == 2**64 - 1


def test_memory_is_read_and_written_by_both_kinds_of_address() -> None:
    with start("hlt") as vm:
        vm.write_memory(0x200FFE, b"across")
        assert vm.read_memory(0x200FFE, 6) == b"across"
        assert vm.read_memory(0x200FFE, 6, virtual=True) == b"across"
        vm.write_memory(0x201000, b"ROSS", virtual=True)
        assert vm.read_memory(0x200FFE, 6) == b"acROSS"
        assert vm.translate(0x200FFE) == 0x200FFE
        assert vm.read_memory(0x1000, 0) == b""
        for address, size in ((16 * MIB - 1, 2), (1 << 63, 1), (-1, 1), (1 << 70, 1), (0, 17 * MIB)):
            with pytest.raises(AddressError):
                vm.read_memory(address, size)
        with pytest.raises(AddressError, match="not mapped"):
            vm.translate(1 << 40)
        with pytest.raises(AddressError):
            vm.write_memory(16 * MIB, b"x")


def test_code_written_by_the_host_is_executed() -> None:
    with start("1: nop; nop; jmp 1b") as vm:
        vm.run(instret=1000)
        vm.write_memory(0x100000, assemble("hlt"))
        assert vm.run().kind is StopKind.HALTED


# ---- life ----


def test_a_closed_machine_says_so() -> None:
    vm = start("hlt")
    vm.close()
    vm.close()
    with pytest.raises(EngineError, match="the machine is closed"):
        vm.run()


def test_a_machine_takes_one_kernel() -> None:
    with start("hlt") as vm, pytest.raises(UsageError, match="has a guest already"):
        vm.load_kernel(image_path("vmlinux"))


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (VmConfig(cpu=CpuConfig(ns_per_insn=0)), "ns per instruction"),
        (VmConfig(cpu=CpuConfig(tsc_khz=1)), "TSC of 1 kHz"),
        (VmConfig(cpu=CpuConfig(profile=99)), "CPU profile 99"),
        (VmConfig(rtc_epoch_s=-1), "clock start"),
        (VmConfig(tlb_bits=99), "TLB of"),
        (VmConfig(code_cache_kib=1), "code cache"),
        (VmConfig(cpu=CpuConfig(tsc_khz=-1)), "tsc_khz cannot be -1"),
    ],
)
def test_impossible_configurations_are_refused(config: VmConfig, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        DeterministicVm(config)


def test_everything_may_be_collected_in_any_order() -> None:
    """The store outlives its users whatever Python finalises first."""
    for order in range(6):
        store = PageStore()
        vm = start("hlt", store=store)
        snapshot = vm.snapshot()
        parts = [store, vm, snapshot]
        del store, vm, snapshot
        for i in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))[order]:
            parts[i] = None  # type: ignore[call-overload]
            gc.collect()

    class Ring:
        pass

    ring = Ring()
    ring.store = PageStore()  # type: ignore[attr-defined]
    ring.vm = start(COUNTER, store=ring.store)  # type: ignore[attr-defined]
    ring.snapshot = ring.vm.snapshot()  # type: ignore[attr-defined]
    ring.self = ring  # type: ignore[attr-defined]
    del ring
    gc.collect()
