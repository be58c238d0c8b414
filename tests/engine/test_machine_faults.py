"""What can be done to one machine from outside, as a guest sees it: pause, power, pace, clock, interrupts, timer."""

from __future__ import annotations

import itertools

import pytest
from flat_guests import COUNTER, MIB, TIMER, assemble, start

from chaoscontrol import DeterministicVm, SimulationConfig, SimulationController, StopKind, UsageError, VmConfig

MS = 1_000_000

IDT = """
    mov rbx, 0x300000
    lea rax, [rip + handler]
    .irp vector, 2, 0x20, 0x25
    mov word ptr [rbx + \\vector * 16], ax
    mov word ptr [rbx + \\vector * 16 + 2], 0x10
    mov word ptr [rbx + \\vector * 16 + 4], 0x8e00
    mov rcx, rax
    shr rcx, 16
    mov word ptr [rbx + \\vector * 16 + 6], cx
    mov dword ptr [rbx + \\vector * 16 + 8], 0
    .endr
    sub rsp, 16
    mov word ptr [rsp], 0xfff
    mov [rsp + 2], rbx
    lidt [rsp]
    .irp value, 0x11
    mov al, \\value
    out 0x20, al
    .endr
    .irp value, 0x20, 4, 1
    mov al, \\value
    out 0x21, al
    .endr
"""
"""One handler for the NMI and the lines 0 and 5; PIC initialised, masks still to be set."""

LISTENER = f"""
    {IDT}
    mov al, 0xdf                  # only line 5
    out 0x21, al
    sti
1:  hlt
    jmp 1b
handler:
    inc r15
    push rax
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq
"""

STAMPS = f"""
    # Writes the TSC of every timer interrupt, at about 1 kHz, to an array at 0x200000.
    {IDT}
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 4
    out 0x40, al
    mov r14, 0x200000
    sti
1:  inc r13
    jmp 1b
handler:
    push rax
    push rdx
    rdtsc
    mov [r14], eax
    mov [r14 + 4], edx
    add r14, 8
    mov al, 0x20
    out 0x20, al
    pop rdx
    pop rax
    iretq
"""

CLOCK = """
    mov r14, 0x200000
    mov r13d, 1000
1:  rdtsc
    shl rdx, 32
    or rax, rdx
    cmp rax, r12                  # r12: the last one
    jb 2f
    mov r12, rax
    jmp 1b
2:  inc r15                       # it went back
    jmp 1b
"""


def stamps(vm: DeterministicVm) -> list[int]:
    """TSC values at the timer interrupts so far."""
    raw = vm.read_memory(0x200000, 8 * 4096)
    values = (int.from_bytes(raw[at : at + 8], "little") for at in range(0, len(raw), 8))
    return list(itertools.takewhile(bool, values))


def test_a_paused_machine_executes_nothing_while_its_time_goes_on() -> None:
    with start(TIMER) as vm, start(TIMER) as other:
        vm.run(vns=5 * MS)
        instret, ticks = vm.instret, vm.registers().r15
        vm.pause()
        assert vm.paused
        stop = vm.run(vns=25 * MS)
        assert (stop.kind, stop.vns, vm.instret, vm.registers().r15) == (StopKind.VNS, 25 * MS, instret, ticks)
        assert vm.run().kind is StopKind.HALTED  # without a limit nothing would ever happen
        vm.resume()
        vm.run(vns=26 * MS)
        # What became due in the meantime is one late interrupt, not twenty.
        assert ticks + 1 <= vm.registers().r15 <= ticks + 3
        other.run(vns=26 * MS)
        assert other.registers().r15 >= 25


def test_pausing_is_state() -> None:
    with start(COUNTER) as vm:
        vm.run(vns=MS)
        before = vm.digest()
        vm.pause()
        assert vm.digest() != before
        paused = vm.snapshot()
        vm.resume()
        assert vm.digest() == before
        vm.restore(paused)
        assert vm.paused


def test_power_loss_ends_a_machine_and_a_reboot_starts_it_again() -> None:
    with start(TIMER) as vm:
        boot = vm.snapshot()
        vm.run(vns=5 * MS)
        vm.write_memory(0x500000, b"volatile")
        vm.power_off()
        vm.power_off()
        stop = vm.run(vns=50 * MS)
        assert (stop.kind, stop.vns) == (StopKind.POWER_OFF, vm.vns)
        assert vm.vns < 6 * MS
        instret = vm.instret
        vm.reboot(boot, 30 * MS)
        assert (vm.vns, vm.instret) == (30 * MS, instret)
        assert vm.read_memory(0x500000, 8) == bytes(8)
        assert vm.run(vns=40 * MS).kind is StopKind.VNS
        with start(TIMER) as fresh:
            fresh.run(vns=10 * MS)
            assert vm.registers().r15 == fresh.registers().r15 >= 10
        assert vm.read_memory(0x100000, 64) == assemble(TIMER)[:64]


def test_a_reboot_after_a_crash_by_itself() -> None:
    with start("ud2") as vm:
        boot = vm.snapshot()
        assert vm.run().kind is StopKind.TRIPLE_FAULT
        vm.reboot(boot, 0)
        assert vm.run().kind is StopKind.TRIPLE_FAULT
        assert vm.instret == 2


def test_console_and_clock_chip_go_on_through_a_reboot() -> None:
    guest = "mov dx, 0x3f8; mov al, 65; out dx, al; xor eax, eax; out 0x70, al; in al, 0x71; hlt"
    with start(guest) as vm:
        boot = vm.snapshot()
        vm.run(vns=MS)
        vm.reboot(boot, 7_500 * MS)
        vm.run(vns=7_501 * MS)
        assert vm.take_console() == (0, b"AA")
        assert vm.registers().rax & 0xFF == 7  # seconds since midnight


def test_the_clock_chip_can_be_shifted_either_way_and_stays_so_through_a_reboot() -> None:
    with start("xor eax, eax; out 0x70, al; in al, 0x71; hlt") as vm:
        boot = vm.snapshot()

        def seconds_at(ms: int) -> int:
            vm.reboot(boot, ms * MS)
            vm.run(vns=(ms + 1) * MS)
            return int(f"{vm.registers().rax & 0xFF:x}")  # BCD

        assert seconds_at(10_100) == 10
        before = vm.digest()
        vm.shift_rtc(25_500 * MS)
        assert vm.digest() != before
        assert [seconds_at(ms) for ms in (10_300, 10_600)] == [35, 36]
        vm.shift_rtc(-30_500 * MS)
        assert [seconds_at(ms) for ms in (10_900, 11_100)] == [5, 6]
        vm.shift_rtc(5_000 * MS)
        assert seconds_at(12_100) == 12
        vm.shift_rtc(-13_000 * MS)
        assert seconds_at(12_200) == 59  # the minute before
        with pytest.raises(UsageError, match="clock chip"):
            vm.shift_rtc(10**16 + 1)


def test_a_reboot_needs_a_snapshot_of_an_equal_machine() -> None:
    with (
        start(COUNTER) as vm,
        start(COUNTER, store=vm.store, memory_bytes=32 * MIB) as other,
        pytest.raises(UsageError, match="another memory size"),
    ):
        vm.reboot(other.snapshot(), 0)


def test_a_reboot_is_deterministic_and_incremental() -> None:
    digests = []
    for split in (False, True):
        with start(COUNTER) as vm:
            boot = vm.snapshot()
            vm.run(vns=2 * MS)
            if split:
                vm.snapshot().close()
                vm.digest()
                vm.run(vns=3 * MS)
                vm.restore(vm.snapshot())
            vm.run(vns=4 * MS)
            vm.reboot(boot, 5 * MS)
            vm.run(vns=6 * MS)
            digests.append(vm.digest())
    assert digests[0] == digests[1]


def test_a_slowed_cpu_retires_fewer_instructions_in_the_same_time() -> None:
    with start(COUNTER) as vm:
        vm.run(vns=1 * MS)
        vm.set_slowdown(10)
        assert (vm.instret, vm.vns) == (1_000_000, 1 * MS)
        vm.run(vns=2 * MS)
        assert vm.instret == 1_100_000
        snapshot = vm.snapshot()
        vm.set_slowdown(1)
        vm.run(vns=3 * MS)
        assert vm.instret == 2_100_000
        vm.restore(snapshot)
        assert vm.slowdown == 10
        vm.run(instret=1_100_003)
        assert vm.vns == 2 * MS + 30
        for factor in (0, 1001, -1):
            with pytest.raises(UsageError, match=r"slow-down.* 1 to 1000$"):
                vm.set_slowdown(factor)


def test_a_skewed_tsc_runs_at_another_rate_and_never_jumps() -> None:
    with start(CLOCK) as vm:
        vm.run(vns=1 * MS)
        at = vm.virtual_tsc()
        for ppm in (100_000, -100_000, -900_000, 9_000_000, 0):
            vm.set_tsc_skew(ppm)
            assert vm.virtual_tsc() == at
            vm.run(vns=vm.vns + MS)
            gained = vm.virtual_tsc() - at
            assert abs(gained - 3 * (MS + MS * ppm // 1_000_000)) <= 1
            at = vm.virtual_tsc()
        assert vm.registers().r15 == 0
        assert vm.registers().r12 > 0
        for ppm in (-900_001, 9_000_001):
            with pytest.raises(UsageError, match="clock skew"):
                vm.set_tsc_skew(ppm)


def test_a_slow_clock_never_goes_back_where_its_steps_are_coarse() -> None:
    with start(CLOCK) as vm:
        vm.set_tsc_skew(-899_999)
        vm.run(instret=2_000_000)
        assert vm.registers().r15 == 0


def test_an_injected_interrupt_arrives_once() -> None:
    with start(LISTENER) as vm:
        vm.run(vns=MS)
        vm.inject_irq(5)
        waiting = vm.snapshot()
        vm.run(vns=2 * MS)
        assert vm.registers().r15 == 1
        vm.restore(waiting)
        vm.run(vns=3 * MS)
        assert vm.registers().r15 == 1
        vm.inject_irq(6)  # masked
        vm.run(vns=4 * MS)
        assert vm.registers().r15 == 1
        for irq in (2, 16, -1):
            with pytest.raises(UsageError, match=r"interrupt line.* 0 to 15, and not 2"):
                vm.inject_irq(irq)


def test_an_nmi_arrives_whatever_is_masked() -> None:
    with start(LISTENER.replace("sti", "cli")) as vm:
        vm.run(vns=MS)
        vm.inject_irq(5)
        vm.run(vns=2 * MS)
        assert vm.registers().r15 == 0
        vm.inject_nmi()
        vm.run(vns=3 * MS)
        assert vm.registers().r15 == 1


def test_timer_jitter_delays_interrupts_by_up_to_its_maximum() -> None:
    period_tsc = 3 * 999_847
    with start(STAMPS) as calm, start(STAMPS) as vm:
        vm.set_timer_jitter(400_000)
        calm.run(vns=300 * MS)
        vm.run(vns=300 * MS)
        punctual, late = stamps(calm), stamps(vm)
        assert abs(len(punctual) - len(late)) <= 1
        gaps = [b - a for a, b in itertools.pairwise(punctual)]
        assert max(gaps) - min(gaps) < 9_000  # some microseconds, a clock of the PIT
        delays = [b - a for a, b in zip(punctual, late, strict=False)]
        assert -100 <= min(delays) < 200_000
        assert 1_000_000 < max(delays) <= 3 * 400_000 + 9_000
        assert len(set(delays)) > 250
        vm.set_timer_jitter(0)
        vm.run(vns=310 * MS)
        settled = stamps(vm)[-5:]
        assert all(abs(b - a - period_tsc) < 9_000 for a, b in itertools.pairwise(settled))


def test_timer_jitter_is_the_seeds_and_the_branchs() -> None:
    def run(seed: int, branch: int | None = None) -> list[int]:
        with start(STAMPS, seed=seed) as vm:
            vm.set_timer_jitter(400_000)
            vm.run(vns=10 * MS)
            if branch is not None:
                vm.reseed(branch)
            vm.run(vns=30 * MS)
            return stamps(vm)

    assert run(1) == run(1)
    assert run(1) != run(2)
    branched = run(1, 5)
    assert branched == run(1, 5) != run(1, 6)
    assert branched[:9] == run(1)[:9]


def test_faults_in_a_cluster_do_not_depend_on_threads_or_on_how_a_run_is_divided() -> None:
    found = []
    for threads, step in ((1, 100), (2, 7), (4, 1)):
        config = SimulationConfig(num_vms=4, vm_config=VmConfig(memory_bytes=8 * MIB), threads=threads)
        with SimulationController(config) as cluster:
            for i, vm in enumerate(cluster.vms):
                vm.load_flat(assemble((TIMER, COUNTER)[i % 2]))
                cluster.set_boot(i)
            script = {
                10: lambda c: (c.pause(0), c.slow_down(1, 3), c.set_timer_jitter(2, 50_000)),
                20: lambda c: (c.kill(3), c.inject_irq(2, 0), c.skew(1, -500)),
                35: lambda c: (c.resume(0), c.restart(3), c.inject_nmi(1)),
                50: lambda c: (c.slow_down(1, 1), c.restart(2)),
            }
            while cluster.tick < 100:
                if cluster.tick in script:
                    script[cluster.tick](cluster)
                until = min([t for t in (*script, 100) if t > cluster.tick])
                while cluster.tick < until:
                    cluster.run(min(step, until - cluster.tick))
            assert cluster.running
            found.append(cluster.digest())
    assert found[0] == found[1] == found[2]


def test_a_killed_machine_of_a_cluster_stays_and_starts_again() -> None:
    config = SimulationConfig(num_vms=2, vm_config=VmConfig(memory_bytes=8 * MIB))
    with SimulationController(config) as cluster:
        for i, vm in enumerate(cluster.vms):
            vm.load_flat(assemble(COUNTER))
            cluster.set_boot(i)
        cluster.run(5)
        cluster.kill(1)
        assert cluster.run_until(10 * MS, ended=True).kind is StopKind.POWER_OFF
        cluster.run_to_vns(10 * MS)
        assert [stop.kind for stop in cluster.stops if stop] == [StopKind.VNS, StopKind.POWER_OFF]
        cluster.restart(1)
        assert cluster.vms[1].vns == 10 * MS
        cluster.run(10)
        assert [stop.kind for stop in cluster.stops if stop] == [StopKind.VNS, StopKind.VNS]
        with pytest.raises(UsageError, match="there is no machine 2"):
            cluster.kill(2)
    with SimulationController(config) as cluster, pytest.raises(UsageError, match="call set_boot"):
        cluster.restart(0)
