"""Call stacks of a real guest: what is found is what the program's source and the kernel's own call chain say."""

from __future__ import annotations

from collections.abc import Iterator

import capstone
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stack_guest import VARIANTS, StackGuest, boot, line_of

from chaoscontrol import DeterministicVm, Registers
from chaoscontrol.errors import AddressError
from chaoscontrol.symbols.frames import FoundBy, Frame, Stack
from chaoscontrol.symbols.programs import GuestFiles
from chaoscontrol.symbols.stacks import FRAMES_MAX, stack_of

SYSTEM_CALL = ("x64_sys_call", "do_syscall_64", "entry_SYSCALL_64")
STEPS_CHECKED = 5
"""Every so many instructions."""


@pytest.fixture(scope="module", params=list(VARIANTS))
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackGuest]:
    made = boot(request.param, tmp_path_factory.mktemp(request.param))
    with made.cluster:
        yield made


@pytest.fixture(scope="module")
def one_guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackGuest]:
    made = boot("glibc-O2-pie", tmp_path_factory.mktemp("one"))
    with made.cluster:
        yield made


def own(stack: Stack) -> list[Frame]:
    """Frames of the program's own source, not of the C library nor the kernel."""
    return [frame for frame in stack if frame.source is not None]


def lines(stack: Stack) -> list[int]:
    return [frame.source.line for frame in own(stack) if frame.source is not None]


def names(frames: list[Frame] | tuple[Frame, ...]) -> list[str]:
    return [frame.symbol for frame in frames]


ROUND = ("goes round",)


def test_nested_calls_with_their_lines(guest: StackGuest) -> None:
    stack = guest.run_to("leaf")
    assert names(stack.frames)[:5] == ["leaf", "inner", "outer", "round_of_calls", "main"]
    called = [line_of(c) for c in ("inner calls leaf", "outer calls inner", "calls outer", *ROUND)]
    assert lines(stack)[1:] == called
    assert {frame.found_by for frame in stack.frames[1:5]} == {FoundBy.CFI}
    assert {frame.module for frame in stack.frames[:5]} == {"/init"}
    assert all(frame.is_user for frame in stack)
    assert stack.frames[-1].symbol == "_start"
    assert stack.is_whole, stack.end
    assert stack.notes == ()


def test_recursion(guest: StackGuest) -> None:
    stack = guest.run_to("recurse", "leaf")
    assert names(own(stack)) == ["leaf", *["recurse"] * 6, "round_of_calls", "main"]
    sps = [frame.sp for frame in stack]
    assert sps == sorted(set(sps)), "each frame is further up the stack"
    assert lines(stack)[2:7] == [line_of("goes deeper")] * 5


def test_through_the_c_library(guest: StackGuest) -> None:
    """musl's qsort has no call frame information: its code is followed."""
    stack = guest.run_to("compare", "leaf")
    assert names(own(stack)) == ["leaf", "compare", "round_of_calls", "main"]
    assert lines(stack)[1:] == [line_of("compare calls leaf"), line_of("calls qsort"), line_of("goes round")]
    assert FoundBy.GUESS not in {frame.found_by for frame in stack.frames[: len(stack) - 2]}


def test_a_signal_handler_on_its_own_stack(guest: StackGuest) -> None:
    stack = guest.run_to("handler", "leaf")
    assert names(own(stack)) == ["leaf", "handler", "round_of_calls", "main"]
    assert lines(stack)[1:] == [line_of("handler calls leaf"), line_of("raises"), line_of("goes round")]
    (interrupted,) = [frame for frame in stack if frame.found_by is FoundBy.SIGNAL]
    assert not interrupted.is_call
    assert abs(interrupted.sp - stack.frames[0].sp) > 1 << 20, "the handler has a stack of its own"


def test_a_system_call_from_the_kernel_into_the_program(guest: StackGuest) -> None:
    stack = guest.run_to("say")
    stack = guest.go_on_to("vfs_write@kernel")
    kernel = [frame for frame in stack if not frame.is_user]
    assert names(kernel) == ["vfs_write", "ksys_write", "__x64_sys_write", *SYSTEM_CALL]
    assert {frame.found_by for frame in kernel[1:]} == {FoundBy.CFI}
    assert {frame.module for frame in kernel} == {"kernel"}
    first = stack.frames[len(kernel)]
    assert first.found_by is FoundBy.INTERRUPT
    assert guest.debugger.vms[0].read_memory(first.address - 2, 2, virtual=True) == b"\x0f\x05", "SYSCALL"
    assert names(own(stack)) == ["say", "round_of_calls", "main"]
    assert lines(stack) == [line_of("says"), line_of("calls say"), line_of("goes round")]


def test_an_interrupt_in_the_middle(guest: StackGuest) -> None:
    stack = guest.run_to("irq_enter_rcu@kernel")
    outer = next(at for at, frame in enumerate(stack.frames) if frame.found_by is FoundBy.INTERRUPT)
    assert names(stack.frames[:outer])[:3] == ["irq_enter_rcu", "common_interrupt", "asm_common_interrupt"]
    interrupted = stack.frames[outer]
    for _ in range(400):
        guest.debugger.reverse_step(0)
        registers = guest.debugger.vms[0].registers()
        if (registers.rip, registers.rsp) == (interrupted.address, interrupted.sp):
            break
    else:
        raise AssertionError(f"it was not at {interrupted}")
    before = stack_of(guest.debugger.vms[0], guest.files)
    assert [frame.address for frame in before] == [frame.address for frame in stack.frames[outer:]]


def test_a_thread_that_waits(guest: StackGuest) -> None:
    guest.run_to("sleep_a_little")
    guest.go_on_to("default_idle_call@kernel")
    reader = guest.reader()
    assert reader.linux is not None
    tasks = {task.name: task for task in reader.linux.tasks().tasks}
    stack = reader.of(tasks["init"])
    assert [name.partition(".")[0] for name in names(stack.frames)][:3] == ["__schedule", "schedule", "do_nanosleep"]
    assert names(own(stack)) == ["sleep_a_little", "round_of_calls", "main"]
    assert names(reader.of(tasks["kthreadd"]).frames) == ["__schedule", "schedule", "kthreadd", "ret_from_fork"]
    assert reader.of(tasks["kthreadd"]).is_whole
    idle = reader.running()
    assert names(idle.frames)[-4:] == [
        "start_kernel",
        "x86_64_start_reservations",
        "x86_64_start_kernel",
        "secondary_startup_64",
    ]
    assert idle.is_whole


class Shadow:
    """Return addresses as single-stepping sees them put and taken, and what signals interrupted."""

    def __init__(self, vm: DeterministicVm) -> None:
        self._vm = vm
        self._engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._left = (0, 0)
        """RIP and RSP to which the kernel, where it is now, goes back."""
        self.calls: list[tuple[int, int]] = []
        """(where it lies, address)."""

    def step(self) -> None:
        before = self._vm.registers()
        mnemonic, size = self._instruction(before)
        self._vm.step()
        after = self._vm.registers()
        was_user, is_user = (registers.cs.selector & 3 == 3 for registers in (before, after))
        if was_user and not is_user:
            self._left = before.rip + (size if mnemonic == "syscall" else 0), before.rsp
        if not is_user:
            return
        while self.calls and after.rsp > self.calls[-1][0]:
            self.calls.pop()
        returns = int.from_bytes(self._vm.read_memory(after.rsp, 8, virtual=True), "little")
        if was_user and mnemonic == "call" and after.rsp == before.rsp - 8:
            self.calls.append((after.rsp, returns))
        if not was_user and after.rsp < self._left[1]:  # a signal
            self.calls += [(after.rsp + 8, self._left[0]), (after.rsp, returns)]

    def _instruction(self, registers: Registers) -> tuple[str, int]:
        try:
            data = self._vm.read_memory(registers.rip, 15, virtual=True)
        except AddressError:
            return "", 0
        _, size, mnemonic, _ = next(self._engine.disasm_lite(data, registers.rip, 1))
        return mnemonic, size


def test_at_every_instruction_it_is_what_calls_and_returns_left(guest: StackGuest) -> None:
    """Prologues, epilogues, the C library's code, signal delivery and return included."""
    base = [frame.address for frame in guest.run_to("round_of_calls")][1:]
    vm = guest.debugger.vms[0]
    saved = guest.cluster.snapshot_all()
    try:
        shadow, checked, deepest = Shadow(vm), 0, 0
        sleep = guest.address("sleep_a_little")
        while vm.registers().rip != sleep:
            shadow.step()
            if vm.registers().cs.selector & 3 != 3 or vm.instret % STEPS_CHECKED:
                continue
            stack = stack_of(vm, guest.files)
            expected = [address for _, address in reversed(shadow.calls)]
            assert [frame.address for frame in stack][1:] == expected + base, hex(vm.registers().rip)
            checked, deepest = checked + 1, max(deepest, len(expected))
        assert checked > 100
        assert deepest >= 6
    finally:
        guest.cluster.restore_all(saved)


def test_files_that_only_the_guest_has(guest: StackGuest) -> None:
    """The same frames without the host's files, by what of them is in the guest's memory."""
    known = guest.run_to("compare", "leaf")
    without = stack_of(guest.debugger.vms[0], GuestFiles(guest.files.kernel_source))
    assert [frame.address for frame in without] == [frame.address for frame in known]
    assert {frame.module for frame in without} == {frame.module for frame in known}
    if any("libc.so" in frame.module for frame in known):
        assert "qsort_r" in names(without.frames)


class Damaged:
    """A machine as it stands, with other registers, and some words of its memory overwritten."""

    def __init__(self, vm: DeterministicVm, registers: Registers, words: dict[int, int]) -> None:
        self._vm = vm
        self._registers = registers
        self._words = words
        self.config = vm.config

    def registers(self) -> Registers:
        return self._registers

    def read_memory(self, address: int, size: int) -> bytes:
        data = bytearray(self._vm.read_memory(address, size))
        for at, value in self._words.items():
            for i in range(8):
                if 0 <= at + i - address < size:
                    data[at + i - address] = value >> 8 * i & 0xFF
        return bytes(data)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_garbage_ends_with_a_reason(one_guest: StackGuest, data: st.DataObject) -> None:
    vm = one_guest.debugger.vms[0]
    one_guest.debugger.goto_position(one_guest.begin)
    stack = stack_of(vm, one_guest.files)
    interesting = [value for frame in stack for value in (frame.address, frame.sp, frame.return_slot)]
    values = st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from(interesting), st.sampled_from([0, 1 << 47]))
    registers = vm.registers()
    for name in data.draw(st.sets(st.sampled_from(("rip", "rsp", "rbp", "rcx")))):
        registers = registers.replace(**{name: data.draw(values)})
    words: dict[int, int] = {}
    for _ in range(data.draw(st.integers(0, 8))):
        slot = data.draw(st.sampled_from(interesting)) + 8 * data.draw(st.integers(-4, 4))
        try:
            words[vm.translate(slot % (1 << 64))] = data.draw(values)
        except AddressError:
            continue
    found = stack_of(Damaged(vm, registers, words), one_guest.files)
    assert 1 <= len(found) <= FRAMES_MAX
    assert found.end
    assert found.lines
    again = stack_of(Damaged(vm, registers, words), one_guest.files)
    assert again.lines == found.lines


def test_a_stack_that_turns_in_a_circle_ends(one_guest: StackGuest) -> None:
    """By frame pointers that lead to themselves, where there is no other information."""
    vm = one_guest.debugger.vms[0]
    stack = one_guest.run_to("compare", "leaf")
    slots = [frame.return_slot for frame in stack.frames[1:]]
    words = {vm.translate(slot): stack.frames[2].address for slot in slots}
    found = stack_of(Damaged(vm, vm.registers(), words), one_guest.files)
    assert len(found) <= FRAMES_MAX
    assert not found.is_whole
