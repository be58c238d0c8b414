"""Call stacks of a stopped guest: of the kernel, on through a system call or an interrupt into the user program.

    stack_of(vm, files)               of what runs now
    StackReader(vm, files).of(task)   of any thread, as the kernel keeps it

Per frame, the first of these that leads somewhere: what the kernel saved (an interrupt, a system call, a signal), call
frame information, the kernel's ORC tables, the code up to its return, the frame pointer, and at last a guess. Where
that ends is said. A guest without Linux is one program, the file given as its kernel.

The guest does not help and nothing of it is changed. Its memory may hold anything: the number of frames, changes of the
stack and all searches are bounded, and what cannot be read ends the walk with a reason. One StackReader is for one
moment.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Protocol

from chaoscontrol.errors import AddressError

from .bases import KERNEL_HALF
from .frames import FoundBy, Frame, Stack
from .linux import LinuxGuest
from .modules import KERNEL_NAME, Module, OneModule, ProcessModules
from .saved import (
    GENERAL,
    RCX,
    RIP,
    RSP,
    EntryCode,
    Known,
    before_signal,
    interrupted,
    nothing_interrupted,
    returns_from_signal,
    search_interrupted,
    switched,
)
from .space import AddressSpace, CachedMemory, PhysicalMemory
from .unwind import End, Unwinder, Way

if TYPE_CHECKING:
    from chaoscontrol.config import VmConfig
    from chaoscontrol.registers import Registers

    from .lines import LineSpan
    from .linux import Task
    from .programs import GuestFiles
    from .space import Memory

    class Machine(Protocol):
        """What is needed of a DeterministicVm."""

        @property
        def config(self) -> VmConfig: ...
        def read_memory(self, address: int, size: int) -> bytes: ...
        def registers(self) -> Registers: ...


FRAMES_MAX = 256
JUMPS_MAX = 16
"""So many times a stack may go on elsewhere: the kernel's stacks for interrupts, signal handlers on their own."""
NEAR_BYTES = 1 << 20
"""A caller's frame is no further up than this, if it is on the same stack."""


def stack_of(vm: Machine, files: GuestFiles) -> Stack:
    """The stack of what a machine executes now, from its registers on. Never raises for what the guest holds."""
    return StackReader(vm, files).running()


class StackReader:
    """Reads stacks of one machine at one moment."""

    def __init__(self, vm: Machine, files: GuestFiles) -> None:
        self.registers = vm.registers()
        self.files = files
        self.linux = self._find_linux(vm)
        """None where no Linux kernel is up, or its structures are not known."""
        self._physical = PhysicalMemory(vm, vm.config.memory_bytes)
        self._notes: list[str] = []
        self._processes: dict[int, Unwinder] = {}
        """By address of their mm_struct."""

    def _find_linux(self, vm: Machine) -> LinuxGuest | None:
        kernel = self.files.kernel
        if kernel is None or kernel.symbols.address("init_task") is None or self.files.layout is None:
            return None
        linux = LinuxGuest(vm, vm.config.memory_bytes, kernel.symbols, self.files.layout)
        return None if linux.notes else linux

    # ---- which stack ----

    def running(self) -> Stack:
        """Of what is executed now."""
        registers = self.registers
        known = {number: getattr(registers, name) for number, name in enumerate(GENERAL)} | {RIP: registers.rip}
        return self._walk(known, self._running)

    def of(self, task: Task) -> Stack:
        """Of a thread; of one that does not run, from where it gave up the CPU."""
        if task.is_current:
            return self.running()
        try:
            return self._walk(switched(self.kernel.memory, task.kernel_sp), task)
        except AddressError as e:
            return Stack((), f"its kernel stack cannot be read: {e.what}", False)

    # ---- address spaces ----

    @functools.cached_property
    def kernel(self) -> Unwinder:
        """Of the kernel, or of the only program that there is."""
        binary, bias = self.files.kernel, 0 if self.linux is None else self.linux.bias
        module = None if binary is None else Module(KERNEL_NAME, binary, bias)
        return Unwinder(CachedMemory(self._space()), OneModule(module), is_user=False)

    def _space(self) -> Memory:
        if self.linux is not None:
            return self.linux.kernel
        registers = self.registers
        return AddressSpace(self._physical, registers.cr3) if registers.cr0 >> 31 else self._physical

    @functools.cached_property
    def _entry_code(self) -> EntryCode:
        assert self.linux is not None
        return EntryCode(self.linux.symbols)

    def process(self, task: Task | None) -> Unwinder:
        """Of a thread's process: the memory that it sees, and the files that it has mapped."""
        if self.linux is None or task is None or not task.cr3:
            return Unwinder(CachedMemory(self._space()), OneModule(None), is_user=True)
        if task.mm not in self._processes:
            memory, maps = CachedMemory(self.linux.space(task)), self.linux.maps(task)
            self._notes += maps.notes
            self._processes[task.mm] = Unwinder(memory, ProcessModules(maps, memory, self.files), is_user=True)
        return self._processes[task.mm]

    def side(self, address: int) -> Unwinder:
        """The address space that an address of running code is in."""
        is_kernel = self.linux is None or address >= KERNEL_HALF
        return self.kernel if is_kernel else self.process(self._running)

    def line_at(self, address: int) -> LineSpan | None:
        """The source line of an address of the kernel or of the running process, and its code around."""
        module = self.side(address).modules.find(address)
        return None if module is None else module.span(address)

    @functools.cached_property
    def _running(self) -> Task | None:
        return None if self.linux is None else self.linux.current()

    # ---- walking ----

    def _walk(self, known: Known, task: Task | None) -> Stack:
        frames: list[Frame] = []
        found_by, jumps = FoundBy.REGISTERS, JUMPS_MAX
        while True:
            is_kernel = self.linux is None or known[RIP] >= KERNEL_HALF
            side = self.kernel if is_kernel else self.process(task)
            frames.append(_frame(len(frames), known, found_by, side))
            step = self._caller(frames[-1], known, side, task)
            if isinstance(step, End):
                break
            if len(frames) == FRAMES_MAX:
                step = End(f"there are more than {FRAMES_MAX} frames")
                break
            sp = step.registers[RSP]
            if not 0 < sp - known[RSP] < NEAR_BYTES:
                jumps -= 1
                if jumps < 0 or (side.is_user and step.found_by is not FoundBy.SIGNAL):
                    step = End(f"the caller's frame at {sp:#x} is not further up the stack")
                    break
            known, found_by = step.registers, step.found_by
        modules = [process.modules for process in self._processes.values()]
        notes = dict.fromkeys([*self.files.notes, *self._notes, *(note for of in modules for note in of.notes)])
        return Stack(tuple(frames), step.why, step.is_whole, tuple(notes))

    def _caller(self, frame: Frame, known: Known, side: Unwinder, task: Task | None) -> Way | End:
        try:
            if side.is_user and returns_from_signal(side.memory, frame.address):
                return Way(before_signal(side.memory, frame.sp), FoundBy.SIGNAL)
            if side.is_user and task is not None and not task.mm:
                return End("its process has given up its memory")
            if not side.is_user and self.linux is not None:
                way = self._out_of_kernel(frame, known)
                if way is not None:
                    return way
        except AddressError as e:
            return End(f"the registers that were saved cannot be read: {e.what}")
        return side.caller(known, is_call=frame.is_call)

    def _out_of_kernel(self, frame: Frame, known: Known) -> Way | End | None:
        """What an interrupt, an exception or a system call came from, if the frame is the kernel's entry code."""
        memory = self.kernel.memory
        if frame.sp < KERNEL_HALF:
            # The first or last instructions of a system call, on the user's stack: SYSCALL keeps the address in RCX.
            if RCX not in known:
                return End("the address in the user program is not known")
            kept = {number: value for number, value in known.items() if number != RCX}
            return Way(kept | {RIP: known[RCX]}, FoundBy.INTERRUPT)
        if frame.address - frame.is_call not in self._entry_code:
            return None
        if not frame.is_call:
            way = self.kernel.by_orc(known, is_call=False)
            if way is not None:
                return way
            found = search_interrupted(memory, frame.sp)
            return End("what was interrupted is not saved yet") if found is None else Way(found, FoundBy.GUESS)
        found = interrupted(memory, frame.sp)
        if found is not None:
            return Way(found, FoundBy.INTERRUPT)
        if nothing_interrupted(memory, frame.sp):
            return End("the kernel thread begins here", True)
        return End(f"no registers are saved at {frame.sp:#x}")


def _frame(level: int, known: Known, found_by: FoundBy, side: Unwinder) -> Frame:
    """The frame that stands at these registers, with its names."""
    address = known[RIP]
    frame = Frame(level, address, known[RSP], found_by, is_user=side.is_user, registers=known)
    behind_call = frame.is_call and not (side.is_user and returns_from_signal(side.memory, address))
    inside = address - behind_call
    module = side.modules.find(inside)
    if module is None:
        return frame
    frame = dataclasses.replace(frame, module=module.name, source=module.binary.lines.find(inside - module.bias))
    place = module.place(inside)
    if place is None:
        return frame
    offset = address - module.bias - place.symbol.address
    return dataclasses.replace(frame, symbol=place.symbol.name, offset=offset)


__all__ = ["FRAMES_MAX", "StackReader", "stack_of"]
