"""Moving by what the source says: to the end of a frame and back to its call, by source lines forward and back.

    Calls       finish, reverse_finish: of any frame of the stack
    LineSteps   forward, backward: to another line, into calls or over them

Frames and lines are read from the guest's memory and the files that the host has of it; the moves are the debugger's.
A step forward stops where the code of another line begins, or where its function has returned to; a step back stops
where the code of a line begins. Code without source lines is passed: calls of it are stepped over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.debug.conditions import Breakpoint, DebugStop, MemoryCondition, Watchpoint
from chaoscontrol.debug.stepping import in_user_code, word
from chaoscontrol.errors import UsageError
from chaoscontrol.symbols.bases import KERNEL_HALF
from chaoscontrol.symbols.frames import FoundBy
from chaoscontrol.timetravel import UnreachableError

if TYPE_CHECKING:
    from chaoscontrol.debug.debugger import Debugger, Progress
    from chaoscontrol.symbols.frames import Frame, Stack
    from chaoscontrol.symbols.lines import LineSpan
    from chaoscontrol.watches import WatchHit

STEPS_MAX = 10_000
"""So many ranges of code without an end of the line are gone through."""
USER_BYTES = 1 << 47
_SAVED_RIP = 16 * 8
"""Of RIP in struct pt_regs."""


class Calls:
    """Moves out of frames, of one machine."""

    def __init__(self, debugger: Debugger, vm: int, limit_vns: int | None, progress: Progress | None) -> None:
        self.debugger = debugger
        self.vm = vm
        self.limit_vns = limit_vns
        self.progress = progress

    def stack(self) -> Stack:
        """The stack where the machine is now."""
        return self.debugger.stack(self.vm)

    def finish(self, level: int = 0) -> DebugStop:
        """Forward to where the frame has just returned to its caller. Raises UsageError where no caller is known."""
        return self._run_to(self._frames_from(level)[1])

    def _frames_from(self, level: int) -> list[Frame]:
        """A frame and those above it, at least one. Raises UsageError where its caller is not known."""
        stack = self.stack()
        if level >= len(stack):
            raise UsageError(f"there is no frame {level}", hint=f"0 to {len(stack) - 1}")
        if level + 1 >= len(stack):
            raise UsageError(f"frame {level} returns to nothing that is known", hint=stack.end)
        return list(stack.frames[level:])

    def _run_to(self, frame: Frame) -> DebugStop:
        """Forward to where a frame goes on: at its address, on its stack; deeper calls of a function do not count."""
        point = Breakpoint(self.vm, frame.address, cr3=self._tables(frame), rsp_min=frame.sp, user=frame.is_user)

        def goes_on(_condition: MemoryCondition, hit: WatchHit) -> bool:
            return hit.rsp == frame.sp or frame.found_by is FoundBy.GUESS

        return self.debugger.forward([point], limit_vns=self.limit_vns, wanted=goes_on, progress=self.progress)

    def _tables(self, frame: Frame) -> int | None:
        """A kernel stack is one thread's under whatever page tables; a user's is one process's."""
        return self.debugger.cr3(self.vm) if frame.address < KERNEL_HALF else None

    def reverse_finish(self, level: int = 0) -> DebugStop:
        """Back to the call that made the frame; to what was interrupted, if that is what it came from.

        Raises UsageError where its caller is not known, UnreachableError where the call is before the beginning.
        """
        frame, above, *others = self._frames_from(level)
        if above.found_by is FoundBy.SIGNAL:
            return self._back_before_signal(frame)
        if others and others[0].found_by is FoundBy.SIGNAL:
            return self._back_before_signal(above)
        if above.is_call:
            return self._back_to_call(above)
        return self._back_to_user() if above.is_user else self._back_to_interrupted(frame, above)

    def _back_to_call(self, above: Frame) -> DebugStop:
        return self.debugger.reverse_finish(self.vm, above.address, above.return_slot, progress=self.progress)

    def _back_before_signal(self, trampoline: Frame) -> DebugStop:
        """Back to the user code that a signal interrupted; the kernel put the address that its handler returns to."""
        self._back_to_call(trampoline)
        return self._back_to_user()

    def _back_to_user(self) -> DebugStop:
        """Back out of the kernel: to the system call, or to where an interrupt or an exception was taken."""
        debugger, vm = self.debugger, self.vm
        point = Breakpoint(vm, 0, USER_BYTES, cr3=debugger.cr3(vm), user=True)
        stop = debugger.backward([point], progress=self.progress)
        if stop.hit is None:
            raise UnreachableError("no user code was executed before")
        return stop

    def _back_to_interrupted(self, entry: Frame, above: Frame) -> DebugStop:
        """Back to where the CPU saved the address of what was interrupted, on the stack of the kernel's entry code."""
        debugger, vm = self.debugger, self.vm
        data = above.address.to_bytes(8, "little")

        def saves(_condition: MemoryCondition, hit: WatchHit) -> bool:
            return hit.value.startswith(data)

        put = Watchpoint(vm, entry.sp + _SAVED_RIP, 8)
        stop = debugger.backward([put], wanted=saves, here=True, progress=self.progress)
        if stop.hit is None:
            raise UnreachableError(f"what interrupted {above.address:#x} is before the beginning")
        debugger.goto_instret(vm, stop.hit.instret - 1)
        return DebugStop(debugger.position, stop.causes)


class LineSteps(Calls):
    """Steps by source lines."""

    def _span(self) -> LineSpan | None:
        """The line that the machine is at."""
        reader = self.debugger.reader(self.vm)
        return reader.line_at(reader.registers.rip)

    def _rsp(self) -> int:
        return self.debugger.vms[self.vm].registers().rsp

    def _frame_with_line(self) -> Frame:
        """The innermost frame with a source line. Raises UsageError."""
        found = next((frame for frame in self.stack() if frame.source is not None), None)
        if found is None:
            rip = self.debugger.rip(self.vm)
            raise UsageError(f"no source lines are known of {rip:#x}, nor of what called it", hint="step by `insn`")
        return found

    # ---- forward ----

    def forward(self, *, over: bool) -> DebugStop:
        """To the beginning of another line, or to where the function returns. over: calls count as one step."""
        debugger, vm = self.debugger, self.vm
        here = self._span()
        if here is None:
            return self._run_to(self._frame_with_line())
        begin, span = here, here
        top, stop = self._caller_sp(), DebugStop(debugger.position, ())
        for _ in range(STEPS_MAX):
            stop = debugger.step_range(
                vm, span.low, span.high, over=over, limit_vns=self.limit_vns, progress=self.progress
            )
            if stop.hit is None:
                return stop
            called = self._called_from(span)
            at = self._span()
            if at is None:
                if not called:
                    return stop
                stop = self.finish()
                at = self._span()
                if stop.hit is None or at is None:
                    return stop
            if called and at.low == debugger.rip(vm):
                return stop
            if self._rsp() > top or (at.source != begin.source and at.is_statement and at.low == debugger.rip(vm)):
                return stop
            span = at
        return stop

    def _caller_sp(self) -> int:
        """Where the stack pointer is below as long as the function has not returned."""
        stack = self.stack()
        return stack.frames[1].sp - 1 if len(stack) > 1 and stack.frames[1].is_call else 1 << 64

    def _called_from(self, span: LineSpan) -> bool:
        """Was the function that begins here called by code of this span just now?"""
        back, rip = word(self.debugger, self.vm, self._rsp()), self.debugger.rip(self.vm)
        return back is not None and span.low < back <= span.high and not span.low <= rip < span.high

    # ---- back ----

    def backward(self, *, over: bool) -> DebugStop:
        """To where the code of this line begins; from there, to the beginning of the line before."""
        debugger, vm = self.debugger, self.vm
        span = self._span()
        if span is None:
            span = self._back_to_line()
        elif debugger.rip(vm) == span.low:
            stop = debugger.reverse_step_range(vm, span.low, span.high, over=over, progress=self.progress)
            span = None if stop.hit is None else self._line_before(span)
            if span is None:
                return stop
        return self._to_beginning(span)

    def _back_to_line(self) -> LineSpan:
        """Back out of code without lines, to what the innermost frame with a line executed last."""
        debugger, vm = self.debugger, self.vm
        frame = self._frame_with_line()
        span = debugger.reader(vm).line_at(frame.address - frame.is_call)
        assert span is not None, "the frame has a line"
        point = Breakpoint(
            vm, span.low, span.high - span.low, cr3=self._tables(frame), rsp_min=frame.sp, user=frame.is_user
        )
        if debugger.backward([point], progress=self.progress).hit is None:
            raise UnreachableError(f"{span.source} was not executed before")
        return span

    def _line_before(self, left: LineSpan) -> LineSpan | None:
        """The line that was gone back to; out of a function without lines that the line `left` was returned to from."""
        span = self._span()
        if span is not None:
            return span
        debugger, vm = self.debugger, self.vm
        stack = self.stack()
        if len(stack) > 1 and stack.frames[1].is_call and left.low <= stack.frames[1].address <= left.high:
            debugger.reverse_finish(vm, stack.frames[1].address, stack.frames[1].return_slot, progress=self.progress)
            return self._span()
        return None

    def _to_beginning(self, span: LineSpan) -> DebugStop:
        """Back to where the code of the line begins; if it was jumped into, of the line from where."""
        debugger, vm = self.debugger, self.vm
        for _ in range(STEPS_MAX):
            if debugger.rip(vm) == span.low and span.is_statement:
                break
            user, cr3 = in_user_code(debugger, vm), debugger.cr3(vm)
            before = debugger.reverse_step_range(vm, span.low, span.high, progress=self.progress)
            if before.hit is None:
                break
            outside = self._span()
            inside = Breakpoint(vm, span.low, span.high - span.low, cr3=cr3, user=user)
            stop = debugger.forward([inside], progress=self.progress)
            if outside is None or (debugger.rip(vm) == span.low and span.is_statement):
                return stop
            debugger.goto_position(before.position)
            span = outside
        return DebugStop(debugger.position, ())


__all__ = ["Calls", "LineSteps"]
