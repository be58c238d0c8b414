"""Stepping through a range of addresses, as a source line is: until the instruction pointer leaves it, either way.

Calls out of the range are stepped over, and so are interrupts and faults that a kernel's range meets. In user code the
kernel is not seen at all. Whether a call was made is read from what it leaves: a return address just behind the
instruction before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaoscontrol.debug.conditions import Breakpoint, DebugStop
from chaoscontrol.errors import AddressError

if TYPE_CHECKING:
    from chaoscontrol.debug.debugger import Debugger, Progress

INSTRUCTION_BYTES_MAX = 15
IRET_FRAME_BYTES = 40


def in_user_code(debugger: Debugger, vm: int) -> bool:
    """Is the machine at privilege level 3?"""
    return debugger.vms[vm].registers().cs.selector & 3 == 3


def word(debugger: Debugger, vm: int, address: int) -> int | None:
    """The 64-bit word at a virtual address; None where nothing is mapped."""
    try:
        return int.from_bytes(debugger.vms[vm].read_memory(address, 8, virtual=True), "little")
    except AddressError:
        return None


class RangeStep:
    """One machine, one range [low, high), in the address space that is in use at the start."""

    def __init__(
        self, debugger: Debugger, vm: int, low: int, high: int, limit_vns: int | None, progress: Progress | None
    ) -> None:
        self._debugger = debugger
        self._vm = vm
        self._low, self._high = low, high
        self._limit_vns = limit_vns
        self._progress = progress
        self._user = in_user_code(debugger, vm)
        self._cr3 = debugger.cr3(vm)

    def _outside(self) -> Breakpoint:
        size = self._high - self._low
        return Breakpoint(self._vm, self._low, size, cr3=self._cr3, user=self._user, outside=True)

    def _inside(self, rsp_min: int) -> Breakpoint:
        size = self._high - self._low
        return Breakpoint(self._vm, self._low, size, cr3=self._cr3, user=self._user, rsp_min=rsp_min)

    def _holds(self, address: int) -> bool:
        return self._low <= address < self._high

    def _forward(self, to: Breakpoint) -> DebugStop:
        return self._debugger.forward([to], limit_vns=self._limit_vns, progress=self._progress)

    # ---- forward ----

    def forward(self, *, over: bool) -> DebugStop:
        """Go on until an instruction outside of the range is about to be executed."""
        while True:
            stop = self._forward(self._outside())
            if stop.hit is None or not over:
                return stop
            back = self._way_back(stop)
            if back is None:
                return stop
            stop = self._forward(back)
            if stop.hit is None or not self._holds(self._debugger.rip(self._vm)):
                return stop

    def _way_back(self, stop: DebugStop) -> Breakpoint | None:
        """Where the range is come back to, if it was left for a call, or by an interrupt or a fault."""
        debugger, vm, hit = self._debugger, self._vm, stop.hit
        assert hit is not None, "it was left"
        if hit.after_interrupt:
            # The position is the one before the interrupt.
            return None if self._user else self._inside(debugger.vms[vm].registers().rsp)
        to = word(debugger, vm, hit.rsp)
        to_with_code = word(debugger, vm, hit.rsp + 8)
        debugger.goto_instret(vm, hit.instret - 1)
        before = debugger.vms[vm].registers()
        debugger.goto_position(stop.position)
        if not self._holds(before.rip) or to is None:
            return None
        if hit.rsp == before.rsp - 8 and 0 < to - before.rip <= INSTRUCTION_BYTES_MAX:
            return Breakpoint(vm, to, cr3=self._cr3, rsp_min=before.rsp, user=self._user)
        if not self._user and hit.rsp <= before.rsp - IRET_FRAME_BYTES and before.rip in (to, to_with_code):
            return self._inside(before.rsp)
        return None

    # ---- back ----

    def backward(self, *, over: bool) -> DebugStop:
        """Go back to where an instruction outside of the range was about to be executed, the last one before."""
        debugger, vm = self._debugger, self._vm
        while True:
            stop = debugger.backward([self._outside()], progress=self._progress)
            if stop.hit is None or not over:
                return stop
            debugger.goto_instret(vm, stop.hit.instret + 1)
            entered = debugger.vms[vm].registers()
            debugger.goto_position(stop.position)
            rsp = stop.hit.rsp
            if not self._holds(entered.rip) or word(debugger, vm, rsp) != entered.rip:
                return stop
            if entered.rsp == rsp + 8:
                stop = debugger.reverse_finish(vm, entered.rip, rsp, progress=self._progress)
                if not self._holds(debugger.rip(vm)):
                    return stop
            elif word(debugger, vm, rsp + 24) == entered.rsp:
                stop = debugger.backward([self._inside(entered.rsp)], progress=self._progress)
                if stop.hit is None:
                    return stop
            else:
                return stop
