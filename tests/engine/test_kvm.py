"""The KVM vCPU: the same flat guests end with the same registers and memory as on the soft vCPU.

A host without a usable KVM device runs the tests of what is said there instead: the guests' tests then check that a
machine is refused with the reason that kvm_unavailable() gives. Ring-0 code is emulated on some hosts (kvm-pvm), which
know no x87 and SSE there, so those guests run at CPL 3.
"""

from __future__ import annotations

import dataclasses
import signal
import threading
import time
from pathlib import Path

import pytest
from flat_guests import MIB, PRINT, start

from chaoscontrol import DeterministicVm, EngineError, UsageError, VmConfig
from chaoscontrol._binding import lib
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.machine import StopKind
from chaoscontrol.native_library import kvm_unavailable
from chaoscontrol.registers import Registers, Segment

MEMORY_BYTES = 4 * MIB
EXIT_INSNS: int = lib.CC_KVM_EXIT_INSNS

RING0_GUESTS = {
    "arithmetic": """
        mov rax, 0x123456789abcdef
        mov ecx, 1000
    1:  add rbx, rax
        adc rdx, 3
        rol rax, 7
        imul rsi, rbx, 0x10001
        xor rdi, rsi
        lea r8, [rdi + rsi * 4 + 9]
        dec ecx
        jnz 1b
        mov r9, rdx
        mov rax, r8
        xor edx, edx
        mov r10d, 12345
        div r10
        cmp rax, rdx
        hlt
    """,
    "memory": """
        mov rbx, 0x200000
        mov ecx, 2000
    1:  mov rax, rcx
        imul rax, rcx
        mov [rbx + rcx * 8], rax
        dec ecx
        jnz 1b
        cld
        mov edi, 0x300000
        mov ecx, 9000
        mov eax, 0x5a
        rep stosb
        lea rsi, [rbx + 100]
        mov edi, 0x310000
        mov ecx, 500
        rep movsq
        hlt
    """,
    "calls": """
        mov edi, 15
        call fibonacci
        hlt
    fibonacci:
        cmp edi, 2
        jb 1f
        push rdi
        dec edi
        call fibonacci
        pop rdi
        push rax
        sub edi, 2
        call fibonacci
        pop rcx
        add rax, rcx
        ret
    1:  mov eax, edi
        ret
    """,
    "print": PRINT + 'hlt\nmessage: .asciz "hello from ring 0\\n"',
    "string output": """
        mov dx, 0x3f8
        lea rsi, [rip + message]
        mov ecx, 12
        cld
        rep outsb
        hlt
    message: .ascii "hello, world"
    """,
    "string input": """
        mov dx, 0x3fd
        mov edi, 0x200000
        mov ecx, 7
        cld
        rep insb
        in al, dx
        mov dx, 0x80
        in eax, dx
        hlt
    """,
    "empty addresses": """
        mov rbx, 0xd0000000
        mov rax, [rbx]
        mov [rbx], rax
        mov ecx, [rbx + 8]
        movzx esi, byte ptr [rbx]
        hlt
    """,
    "identification": "mov eax, 0x80000002; cpuid; mov r8, rbx; mov eax, 4; mov ecx, 2; cpuid; hlt",
    "triple fault": "mov ebx, 5; ud2",
}

RING3_GUESTS = {
    "sse": """
        mov rax, 0x3ff8000000000000
        movq xmm0, rax
        mov ecx, 50
    1:  mulsd xmm0, xmm0
        sqrtsd xmm0, xmm0
        addsd xmm1, xmm0
        paddq xmm2, xmm1
        pshufd xmm3, xmm2, 0x1b
        dec ecx
        jnz 1b
        cvtsd2si rdx, xmm1
        movdqu [0x200000], xmm3
        movaps xmm15, xmm3
    """,
    "x87": """
        fninit
        fldpi
        fld1
        fadd st(1), st
        fmul st, st(1)
        fldz
        fld tbyte ptr [rip + denormal]
        mov ebx, 0x200000
        fst qword ptr [rbx]
        fld st(2)
        fstp tbyte ptr [rbx + 16]
        jmp 1f
    denormal: .byte 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
    1:
    """,
    "mmx": "mov eax, 0x01020304; movd mm0, eax; paddb mm0, mm0; movq mm5, mm0",
}
END = "\nmov dx, 0x510; xor eax, eax; out dx, eax; 1: jmp 1b"

TIMER_HALTS = """
    # Twenty timer interrupts at about 1 kHz, each waking a halt, and a line of text for each.
    lea rax, [rip + handler]
    mov rbx, 0x300000             # IDT
    mov ecx, 0x20 * 16
    mov word ptr [rbx + rcx], ax
    mov word ptr [rbx + rcx + 2], 0x10
    mov byte ptr [rbx + rcx + 5], 0x8e
    shr rax, 16
    mov word ptr [rbx + rcx + 6], ax
    sub rsp, 16
    mov word ptr [rsp], 0xfff
    mov [rsp + 2], rbx
    lidt [rsp]
    mov al, 0x11                  # PIC: ICW1..4, vectors from 0x20, only IRQ 0
    out 0x20, al
    mov al, 0x20
    out 0x21, al
    mov al, 4
    out 0x21, al
    mov al, 1
    out 0x21, al
    mov al, 0xfe
    out 0x21, al
    mov al, 0x34                  # PIT channel 0, rate generator, 1193 clocks
    out 0x43, al
    mov al, 0xa9
    out 0x40, al
    mov al, 4
    out 0x40, al
    xor r15d, r15d
1:  sti
    hlt
    cli
    mov dx, 0x3f8
    lea eax, [r15 + 'a' - 1]
    out dx, al
    mov [0x200000 + r15 * 8], r15
    cmp r15, 20
    jne 1b
    hlt
handler:
    push rax
    inc r15
    mov al, 0x20
    out 0x20, al
    pop rax
    iretq
"""


def kvm_or_refusal(text: str) -> DeterministicVm | None:
    """A machine on KVM; without KVM, checks how it is refused and gives None."""
    reason = kvm_unavailable()
    if reason is None:
        return start(text, vcpu="kvm", memory_bytes=MEMORY_BYTES)
    with pytest.raises(ChaosControlError) as refusal:
        start(text, vcpu="kvm", memory_bytes=MEMORY_BYTES)
    assert str(refusal.value).startswith(reason)
    assert "\n" not in reason
    return None


def both(text: str) -> tuple[DeterministicVm, DeterministicVm] | None:
    kvm = kvm_or_refusal(text)
    return None if kvm is None else (start(text, memory_bytes=MEMORY_BYTES), kvm)


def assert_same(soft: DeterministicVm, kvm: DeterministicVm, *, but: tuple[str, ...] = ()) -> None:
    ours, theirs = (dataclasses.asdict(vm.registers()) for vm in (soft, kvm))
    assert {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name] and name not in but} == {}
    assert soft.read_memory(0, MEMORY_BYTES) == kvm.read_memory(0, MEMORY_BYTES)
    assert soft.take_console() == kvm.take_console()
    assert soft.exit_count() == kvm.exit_count()


@pytest.mark.parametrize("name", RING0_GUESTS)
def test_a_guest_ends_as_on_the_soft_vcpu(name: str) -> None:
    machines = both(RING0_GUESTS[name])
    if machines is None:
        return
    soft, kvm = machines
    with soft, kvm:
        stop = kvm.run()
        assert (stop.kind, stop.detail) == (soft.run().kind, 0)
        # What a CPU's registers are after a shutdown is not defined.
        assert_same(soft, kvm, but=("rflags", "rip") if stop.kind is StopKind.TRIPLE_FAULT else ())
        assert stop.instret == EXIT_INSNS * kvm.exit_count()


def ring3(registers: Registers) -> Registers:
    """At CPL 3 with IOPL 3."""
    code, data = Segment(0x13, 0, 0xFFFFFFFF, 0xA0FB), Segment(0x1B, 0, 0xFFFFFFFF, 0xC0F3)
    return registers.replace(cs=code, ss=data, ds=data, es=data, fs=data, gs=data, rflags=0x3002)


@pytest.mark.parametrize("name", RING3_GUESTS)
def test_user_code_ends_as_on_the_soft_vcpu(name: str) -> None:
    machines = both(RING3_GUESTS[name] + END)
    if machines is None:
        return
    soft, kvm = machines
    with soft, kvm:
        for vm in machines:
            vm.set_registers(ring3(vm.registers()))
            assert vm.run(hypercall=True).kind is StopKind.HYPERCALL
        # Makers differ in when they keep the last x87 instruction's addresses, and kvm-pvm does not show IOPL.
        assert_same(soft, kvm, but=("fop", "fip", "fdp", "rflags"))
        assert (soft.registers().rflags ^ kvm.registers().rflags) & ~0x3000 == 0


def test_the_timer_wakes_a_halted_guest() -> None:
    machines = both(TIMER_HALTS)
    if machines is None:
        return
    soft, kvm = machines
    with soft, kvm:
        assert [vm.run().kind for vm in machines] == [StopKind.HALTED] * 2
        assert kvm.registers().r15 == 20
        assert kvm.vns > 20_000_000 - 1_000_000
        assert_same(soft, kvm)


def test_a_run_is_the_same_every_time_however_it_is_divided() -> None:
    vm = kvm_or_refusal(TIMER_HALTS)
    if vm is None:
        return
    with vm:
        blank = vm.snapshot()
        vm.run()
        end = (vm.instret, vm.vns, vm.digest())
        for step in (1, 3 * EXIT_INSNS - 1):
            vm.restore(blank)
            while vm.run(instret=vm.instret + step).kind is StopKind.INSTRET:
                assert vm.instret % EXIT_INSNS == 0
            assert (vm.instret, vm.vns, vm.digest()) == end


def test_a_limit_stops_at_the_first_exit_at_or_past_it() -> None:
    vm = kvm_or_refusal("1: in al, 0x80; inc rbx; jmp 1b")
    if vm is None:
        return
    with vm:
        stop = vm.run(instret=2 * EXIT_INSNS + 1)
        assert (stop.kind, stop.instret, vm.registers().rbx) == (StopKind.INSTRET, 3 * EXIT_INSNS, 2)
        stop = vm.run(exits=5)
        assert (stop.kind, vm.exit_count(), vm.registers().rbx) == (StopKind.EXITS, 5, 4)
        stop = vm.run(vns=stop.vns + 1)
        assert (stop.kind, vm.registers().rip) == (StopKind.VNS, 0x100002)  # IN is complete


def test_a_restored_machine_has_the_same_future() -> None:
    vm = kvm_or_refusal(TIMER_HALTS)
    if vm is None:
        return
    with vm:
        vm.run(exits=40)
        snapshot, here = vm.snapshot(), vm.digest()
        assert vm.dirty_pages == 0
        vm.run()
        there = vm.digest()
        assert 0 < vm.dirty_pages < 20
        assert there != here
        for _ in range(3):
            vm.restore(snapshot)
            assert vm.digest() == here
            vm.run()
            assert vm.digest() == there
        with vm.fork() as other:
            other.restore(snapshot)
            other.run()
            assert other.digest() == there


def test_page_tables_that_the_host_changes_are_noticed() -> None:
    vm = kvm_or_refusal("1: mov rax, [0x200000]; out 0x80, al; jmp 1b")
    if vm is None:
        return
    with vm:
        vm.write_memory(0x200000, b"old page")
        vm.write_memory(0x000000, b"new page")
        vm.run(exits=1)
        snapshot = vm.snapshot()
        assert vm.registers().rax.to_bytes(8, "little") == b"old page"
        entry = vm.read_memory(0xB008, 8)  # of the 2 MiB from 0x200000
        vm.write_memory(0xB008, (int.from_bytes(entry, "little") & 0xFFF).to_bytes(8, "little"))
        assert vm.translate(0x200000) == 0
        vm.run(exits=2)
        assert vm.registers().rax.to_bytes(8, "little") == b"new page"
        vm.restore(snapshot)
        vm.run(exits=2)
        assert vm.registers().rax.to_bytes(8, "little") == b"old page"


def test_registers_are_read_as_they_were_set() -> None:
    vm = kvm_or_refusal("hlt")
    if vm is None:
        return
    with vm:
        numbers = {name: 0x0123456789ABCDEF * (i + 1) for i, name in enumerate(("rax", "rbx", "rsp", "r8", "r15"))}
        wanted = (
            vm.registers()
            .replace(**numbers)
            .replace(
                rflags=0x246,
                cr2=0x1234000,
                lstar=0xFFFFFFFF81000000,
                star=0x0023001000000000,
                sfmask=0x47700,
                kernel_gs_base=0x7FFF00001000,
                dr=(0x1000, 0x2000, 0x3000, 0x4000, 0, 0, 0xFFFF0FF0, 0x400),
                fs=Segment(0x18, 0x7F0000001000, 0xFFFFFFFF, 0xC093),
                st=tuple(0x3FFF_8000_0000_0000_0000 + i for i in range(8)),
                fcw=0x27F,
                fsw=5 << 11,
                ftw=0xC000,
                xmm=tuple(0x0123456789ABCDEF0123456789ABCDEF ^ i for i in range(16)),
                mxcsr=0x1FA0,
                tsc_offset=-5,
                halted=1,
                nmi_blocked=1,
            )
        )
        wanted = wanted.replace(**{name: getattr(wanted, name) & (1 << 64) - 1 for name in numbers})
        vm.set_registers(wanted)
        assert vm.registers() == wanted
        with pytest.raises(UsageError, match="long mode"):
            vm.set_registers(wanted.replace(cr0=0x11))
        with pytest.raises(UsageError, match="refused the control or segment registers"):
            vm.set_registers(wanted.replace(cr4=0x620 | 1 << 40, rax=7))
        assert vm.registers() == wanted


def test_a_guest_that_never_exits_can_be_cancelled_and_run_on() -> None:
    vm = kvm_or_refusal("1: inc rbx; cmp byte ptr [0x200000], 1; jne 1b; hlt")
    if vm is None:
        return
    with vm:
        timer = threading.Timer(0.1, vm.cancel)
        timer.start()
        before = time.monotonic()
        stop = vm.run()
        timer.join()
        assert (stop.kind, stop.instret) == (StopKind.CANCELLED, 0)
        assert time.monotonic() - before < 5
        assert vm.registers().rbx > 0
        vm.write_memory(0x200000, b"\1")
        assert vm.run().kind is StopKind.HALTED


def test_ctrl_c_ends_a_run_that_never_exits() -> None:
    vm = kvm_or_refusal("1: jmp 1b")
    if vm is None:
        return
    with vm:
        for _ in range(2):  # the second run starts where the first was interrupted
            timer = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                vm.run()
            timer.join()


def test_what_this_kvm_cannot_run_is_one_clear_line() -> None:
    vm = kvm_or_refusal("mov rbx, 0x200000; lock cmpxchg16b [rbx]; hlt")
    if vm is None:
        return
    with vm:
        try:
            assert vm.run().kind is StopKind.HALTED
        except EngineError as error:
            line = "this host's KVM cannot run the instruction at 0x100007 (f0 48 0f c7 0b)"
            assert str(error).startswith(line)
            assert "--vcpu soft" in str(error)
            assert "\n" not in str(error)


@pytest.mark.parametrize(("device", "reason"), [("missing", "there is no such device"), ("file", "not a KVM device")])
def test_a_device_that_is_missing_or_another_one_is_named(tmp_path: Path, device: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    message = kvm_unavailable(str(tmp_path / device))
    assert message is not None
    assert message.startswith(str(tmp_path / device) + ": ")
    assert reason in message
    assert message.endswith("use --vcpu soft")


def test_snapshots_of_one_kind_do_not_go_to_the_other() -> None:
    kvm = kvm_or_refusal("hlt")
    if kvm is None:
        return
    with kvm, DeterministicVm(VmConfig(memory_bytes=MEMORY_BYTES), store=kvm.store) as soft:
        snapshot = kvm.snapshot()
        with pytest.raises(UsageError, match="vCPU kind"):
            soft.restore(snapshot)
