"""Debugger: walks the histories of a Multiverse by instructions, breakpoints and watchpoints, forward and back.

Every move is a replay along the cursor's history: nothing that a debugger does changes it, and keyframes' digests are
compared on the way. A stop is a position, so all machines stand at one virtual time; between two instructions of a
machine it is the time at which it retired the first of them. One thread at a time; only `cancel` may come from others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from chaoscontrol.debug.conditions import (
    Breakpoint,
    Cause,
    Condition,
    ConsoleText,
    DebugStop,
    EventPoint,
    MemoryCondition,
    Watchpoint,
)
from chaoscontrol.debug.lookouts import (
    Ahead,
    Behind,
    Seen,
    Wanted,
    Watching,
    events_that_match,
    every_hit,
    last_spoken,
)
from chaoscontrol.debug.origins import Hop, Origins
from chaoscontrol.debug.source_steps import Calls, LineSteps
from chaoscontrol.debug.stepping import RangeStep
from chaoscontrol.symbols.bases import KERNEL_HALF
from chaoscontrol.timetravel import CancelledError, Moment, Multiverse, Position, UnreachableError
from chaoscontrol.timetravel.witness import BATCH_NS
from chaoscontrol.watches import WatchHit

if TYPE_CHECKING:
    from chaoscontrol.machine import DeterministicVm
    from chaoscontrol.symbols.frames import Stack
    from chaoscontrol.symbols.programs import GuestFiles
    from chaoscontrol.symbols.stacks import StackReader

Progress = Callable[[int], None]
"""Called now and then with the virtual time that a search has reached; it may call `cancel`."""


class Debugger:
    """Moves the cursor of `multiverse`, whose machines are of the soft vCPU.

    `conditions` are what continuing stops at; they belong to nobody's state.
    """

    def __init__(self, multiverse: Multiverse, files: GuestFiles | None = None) -> None:
        """`files`: what the host has of the guests' programs; without, stacks and lines are what memory shows."""
        self.multiverse = multiverse
        self.files = files
        self.conditions: list[Condition] = []

    # ---- looking ----

    @property
    def vms(self) -> Sequence[DeterministicVm]:
        """The machines, for looking at."""
        return cast("Sequence[DeterministicVm]", self.multiverse.machines)

    @property
    def position(self) -> Position:
        """Where the cursor is."""
        return self.multiverse.position

    def rip(self, vm: int) -> int:
        """The address of the next instruction."""
        return self.vms[vm].registers().rip

    def cr3(self, vm: int) -> int:
        """The page tables in use: which process runs."""
        return self.vms[vm].registers().cr3

    def cancel(self) -> None:
        """From any thread: the movement under way raises CancelledError."""
        self.multiverse.cancel()

    # ---- going somewhere ----

    def goto(self, moment: Moment) -> None:
        """Go to a moment, and verify it."""
        self.multiverse.goto(moment)

    def goto_position(self, position: Position) -> None:
        """Go to a position of the cursor's line of history."""
        self.multiverse.goto_time(position.vns, ordinal=position.ordinal)

    def goto_time(self, vns: int) -> None:
        """Go to virtual time `vns`, nanoseconds, after the inputs of that instant."""
        self.multiverse.goto_time(vns)

    def goto_tick(self, tick: int) -> None:
        """Go to where so many whole ticks have passed."""
        self.multiverse.goto_time(tick * self.multiverse.quantum_ns)

    def goto_instret(self, vm: int, instret: int) -> None:
        """Go to where machine `vm` has just retired so many instructions."""
        self.multiverse.goto_instret(vm, instret)

    def step(self, vm: int, count: int = 1) -> None:
        """So many instructions of machine `vm` forward; an iteration of REP is one. Raises UnreachableError."""
        self.multiverse.step_insns(vm, count)

    def reverse_step(self, vm: int, count: int = 1) -> None:
        """So many instructions of machine `vm` back. Raises UnreachableError."""
        self.multiverse.step_insns(vm, -count)

    def step_tick(self, count: int = 1) -> None:
        """So many tick boundaries forward, or back if negative."""
        self.multiverse.step_ticks(count)

    # ---- continuing ----

    def continue_(self, *, limit_vns: int | None = None, progress: Progress | None = None) -> DebugStop:
        """Go forward to the first position after here at which one of `conditions` is met, at most to `limit_vns`."""
        return self.forward(self.conditions, limit_vns=limit_vns, progress=progress)

    def reverse_continue(self, *, floor: Position | None = None, progress: Progress | None = None) -> DebugStop:
        """Go back to the last position before here at which one of `conditions` is met; to `floor` if none is.

        floor: the beginning unless given.
        """
        return self.backward(self.conditions, floor=floor, progress=progress)

    def forward(
        self,
        conditions: Sequence[Condition],
        *,
        limit_vns: int | None = None,
        wanted: Wanted = every_hit,
        progress: Progress | None = None,
    ) -> DebugStop:
        """As continue_(), with conditions of one's own."""
        multiverse = self.multiverse
        with Watching(self.vms, conditions, wanted) as watching:
            ahead = Ahead(watching, conditions, self.position, multiverse.inputs_at, progress or _nobody)
            if not multiverse.scan(ahead, limit_vns):
                return DebugStop(self.position, ())
        # Several things of one instant may be before and after inputs of that instant.
        exact = min((at for at, _ in ahead.seen if at.vns == self.position.vns), default=self.position)
        if exact != self.position:
            self.goto_position(exact)
        return DebugStop(self.position, tuple(ahead.causes(self.position, multiverse.console_totals)))

    def backward(
        self,
        conditions: Sequence[Condition],
        *,
        floor: Position | None = None,
        wanted: Wanted = every_hit,
        here: bool = False,
        progress: Progress | None = None,
    ) -> DebugStop:
        """As reverse_continue(), with conditions of one's own. here: accesses met at the cursor itself count too."""
        multiverse, origin = self.multiverse, self.position
        lowest = Position(0) if floor is None else floor
        try:
            known = self._known_before(conditions, origin, lowest)
            # What is known from logs bounds the search for what is not.
            bound = max([lowest, *(position for position, _ in known)])
            with Watching(self.vms, conditions, wanted) as watching:
                behind = Behind(watching, progress or _nobody, here=here)
                found = watching.any and multiverse.scan_back(behind, bound)
        except CancelledError:
            self.goto_position(origin)
            raise
        if not found:
            self.goto_position(bound)
        causes = behind.causes(self.position) if found else []
        return DebugStop(self.position, (*causes, *(cause for at, cause in known if at == self.position)))

    def _known_before(self, conditions: Sequence[Condition], origin: Position, floor: Position) -> list[Seen]:
        """The last events and console texts before `origin`, which the logs know; the cursor ends at `origin`."""
        multiverse = self.multiverse
        seen = events_that_match(multiverse.events_so_far(), conditions, multiverse.inputs_at)
        known = [entry for entry in seen if floor <= entry[0] < origin]
        known += self._texts_before(conditions, origin, floor)
        last = max((position for position, _ in known), default=None)
        return [entry for entry in known if entry[0] == last]

    def _texts_before(self, conditions: Sequence[Condition], origin: Position, floor: Position) -> list[Seen]:
        multiverse, found = self.multiverse, list[Seen]()
        totals = multiverse.console_totals
        for condition in conditions:
            if not isinstance(condition, ConsoleText):
                continue
            for vm, log in enumerate(multiverse.consoles()):
                total = last_spoken(condition, log, totals[vm]) if condition.vm in (None, vm) else None
                while total is not None:
                    multiverse.goto_console(vm, total)
                    at = self.position
                    if at < origin:
                        found += [(at, Cause(condition))] if at >= floor else []
                        break
                    total = last_spoken(condition, log, total - 1)
        if self.position != origin:
            self.goto_position(origin)
        return found

    def run_to(self, vm: int, address: int, *, cr3: int | None = None, limit_vns: int | None = None) -> DebugStop:
        """Go forward to where machine `vm` is about to execute the instruction at `address`."""
        return self.forward([Breakpoint(vm, address, cr3=cr3)], limit_vns=limit_vns)

    def reverse_run_to(self, vm: int, address: int, *, cr3: int | None = None) -> DebugStop:
        """Go back to where machine `vm` was about to execute the instruction at `address`."""
        return self.backward([Breakpoint(vm, address, cr3=cr3)])

    # ---- calls ----

    def finish(
        self,
        vm: int,
        return_address: int,
        frame: int,
        *,
        limit_vns: int | None = None,
        progress: Progress | None = None,
    ) -> DebugStop:
        """Go forward to where the function that machine `vm` is in has just returned.

        frame: the address at which its return address lies. Deeper calls of the same function do not count.
        """
        back = Breakpoint(vm, return_address, cr3=self.cr3(vm), rsp_min=frame + 1)
        return self.forward([back], limit_vns=limit_vns, progress=progress)

    def reverse_finish(
        self, vm: int, return_address: int, frame: int, *, progress: Progress | None = None
    ) -> DebugStop:
        """Go back to the call instruction that the function was called by: where its return address was written."""
        put = Watchpoint(vm, frame, 8, cr3=self.cr3(vm) if frame < KERNEL_HALF else None)
        data = return_address.to_bytes(8, "little")

        def calls(_condition: MemoryCondition, hit: WatchHit) -> bool:
            return hit.va == frame and hit.value == data

        stop = self.backward([put], wanted=calls, here=True, progress=progress)
        if stop.hit is None:
            raise UnreachableError(f"nothing has put the return address {return_address:#x} at {frame:#x} before")
        self.goto_instret(vm, stop.hit.instret - 1)
        return DebugStop(self.position, stop.causes)

    # ---- frames and source lines, by the guest's memory and files ----

    def reader(self, vm: int) -> StackReader:
        """Reads stacks, processes and source lines of machine `vm` where it is now."""
        from chaoscontrol.symbols.programs import GuestFiles  # readers of ELF files take long to import
        from chaoscontrol.symbols.stacks import StackReader

        self.files = self.files or GuestFiles()
        return StackReader(self.vms[vm], self.files)

    def stack(self, vm: int) -> Stack:
        """The call stack of machine `vm`."""
        return self.reader(vm).running()

    def calls(self, vm: int, *, limit_vns: int | None = None, progress: Progress | None = None) -> Calls:
        """Moves of machine `vm` out of frames: finish() and reverse_finish()."""
        return Calls(self, vm, limit_vns, progress)

    def line_steps(self, vm: int, *, limit_vns: int | None = None, progress: Progress | None = None) -> LineSteps:
        """Moves of machine `vm` by source lines: forward() and backward()."""
        return LineSteps(self, vm, limit_vns, progress)

    # ---- ranges, as source lines are ----

    def step_range(
        self,
        vm: int,
        low: int,
        high: int,
        *,
        over: bool = True,
        limit_vns: int | None = None,
        progress: Progress | None = None,
    ) -> DebugStop:
        """Go forward until machine `vm` is about to execute an instruction outside of [low, high).

        over: calls made in the range are stepped over. Only the process that runs now counts; in user code the kernel
        does not, and threads that share their page tables are not told apart.
        """
        return RangeStep(self, vm, low, high, limit_vns, progress).forward(over=over)

    def reverse_step_range(
        self, vm: int, low: int, high: int, *, over: bool = True, progress: Progress | None = None
    ) -> DebugStop:
        """Go back until machine `vm` was about to execute an instruction outside of [low, high)."""
        return RangeStep(self, vm, low, high, None, progress).backward(over=over)

    # ---- events ----

    def next_event(
        self, which: EventPoint | ConsoleText, *, limit_vns: int | None = None, progress: Progress | None = None
    ) -> DebugStop:
        """Go forward to where the next such event has just happened."""
        multiverse = self.multiverse
        if isinstance(which, EventPoint):
            log = multiverse.events()
            known = events_that_match(log.read(multiverse.events_total, log.total), [which], multiverse.inputs_at)
            known += events_that_match(multiverse.witness.pending(), [which], multiverse.inputs_at)
            ahead = sorted((entry for entry in known if entry[0] > self.position), key=lambda entry: entry[0])
            if ahead:
                first = ahead[0][0]
                if limit_vns is not None and first.vns > limit_vns:
                    self.goto_time(limit_vns)
                    return DebugStop(self.position, ())
                self.goto_position(first)
                return DebugStop(self.position, tuple(cause for at, cause in ahead if at == first))
            # What the log has not yet is after its last whole batch.
            batch = multiverse.branch.end.vns // BATCH_NS * BATCH_NS
            if batch > self.position.vns and (limit_vns is None or batch <= limit_vns):
                self.goto_time(batch)
        return self.forward([which], limit_vns=limit_vns, progress=progress)

    def previous_event(self, which: EventPoint | ConsoleText, *, progress: Progress | None = None) -> DebugStop:
        """Go back to where the last such event before here has just happened; to the beginning if there is none."""
        return self.backward([which], progress=progress)

    # ---- origins ----

    def when_written(
        self,
        vm: int,
        address: int,
        size: int,
        *,
        physical: bool = False,
        follow: bool = True,
        progress: Progress | None = None,
    ) -> list[Hop]:
        """Who wrote these bytes of machine `vm` last before here, and where they came from: the latest write first.

        Empty if they are as they were loaded. follow: on through copies and packets. The cursor stays where it is.
        """
        return Origins(self, progress).find(vm, address, size, physical=physical, follow=follow)


def _nobody(_vns: int) -> None:
    """Nobody wants to know how far it got."""


__all__ = ["DebugStop", "Debugger", "Progress"]
