"""One machine of a multiverse as gdb sees it: what it asks for, done with the debugger and with our own commands.

Going forward, a watchpoint is met after the access, as CPUs do it; going back, before it: then gdb finds the old value
in place of the new one. So of two things met at one position the breakpoint is the later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cc_tui.commands import CommandError, EngineCommand, parse
from cc_tui.commands.bench import Answer, Bench, Notice
from cc_tui.commands.edits import SetRegister, WriteMemory
from cc_tui.commands.engine import carry_out
from cc_tui.gdb.target import Point, PointKind, Report, Why
from chaoscontrol.debug import Breakpoint, Watchpoint
from chaoscontrol.debug.conditions import position_of_hit
from chaoscontrol.errors import AddressError
from chaoscontrol.timetravel import CancelledError, Position, UnreachableError
from chaoscontrol.watches import WatchKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from chaoscontrol.debug import DebugStop, WatchHit
    from chaoscontrol.debug.conditions import MemoryCondition
    from chaoscontrol.registers import Registers
    from chaoscontrol.timetravel import Multiverse

PAGE_BYTES = 4096
_KINDS = {PointKind.WRITE: WatchKind.WRITE, PointKind.READ: WatchKind.READ, PointKind.ACCESS: WatchKind.ACCESS}
_HELP = """\
where       this moment, and the branches
Any command of cc-tui's command line works as well: goto PLACE, next, reverse-next, tick, branch, branches,
delete-branch, rename-branch, annotate, mark, inject, type, ...
After a command that moves, say `maintenance flush register-cache`.
"""


class MachineTarget:
    """Machine `vm` of `multiverse`; used by one thread."""

    def __init__(self, multiverse: Multiverse, vm: int, quantum_ns: int) -> None:
        self._multiverse = multiverse
        self._vm = vm
        self._said: list[str] = []
        self._bench = Bench(multiverse, quantum_ns, self._hear, focus=vm, attended=False)
        self._debugger = self._bench.debugger

    def _hear(self, notice: Notice | Answer) -> None:
        self._said += notice.lines if isinstance(notice, Answer) else [notice.text]

    # ---- looking and editing ----------------------------------------------------------------------------------------

    def registers(self) -> Registers:
        return self._debugger.vms[self._vm].registers()

    def set_register(self, name: str, value: int) -> None:
        carry_out(SetRegister(self._vm, name, value), self._bench)

    def read_memory(self, address: int, size: int) -> bytes:
        vm, data = self._debugger.vms[self._vm], b""
        while len(data) < size:
            at = (address + len(data)) % (1 << 64)
            try:
                data += vm.read_memory(at, min(size - len(data), PAGE_BYTES - at % PAGE_BYTES), virtual=True)
            except AddressError:
                break
        return data

    def write_memory(self, address: int, data: bytes) -> None:
        carry_out(WriteMemory(self._vm, address, False, data), self._bench)

    # ---- moving -----------------------------------------------------------------------------------------------------

    def step(self, points: Collection[Point], *, back: bool) -> Report:
        watches = self._watches(points)
        origin = self._debugger.position
        try:
            if back:
                self._debugger.reverse_step(self._vm)
            else:
                self._debugger.step(self._vm)
        except UnreachableError:
            return Report(Why.BEGIN if back else Why.END)
        here = self._debugger.position
        if not watches:
            return Report(Why.STEPPED)
        # Was something watched on the way between the two?
        met = self._accessed(watches, *((here, origin) if back else (origin, here)))
        self._debugger.goto_position(here)
        return met or Report(Why.STEPPED)

    def step_range(self, low: int, high: int, interrupted: Callable[[], bool]) -> Report:
        try:
            self._debugger.step(self._vm)
            if low <= self.registers().rip < high:
                self._debugger.step_range(self._vm, low, high, over=False, progress=self._asking(interrupted))
        except CancelledError:
            return Report(Why.INTERRUPTED)
        except UnreachableError:
            return Report(Why.END)
        return Report(Why.STEPPED)

    def resume(self, points: Collection[Point], interrupted: Callable[[], bool], *, back: bool) -> Report:
        try:
            return self._back(points, interrupted) if back else self._forward(points, interrupted)
        except CancelledError:
            return Report(Why.INTERRUPTED)

    def _forward(self, points: Collection[Point], interrupted: Callable[[], bool]) -> Report:
        known = self._conditions(points)
        stop = self._debugger.forward(list(known), progress=self._asking(interrupted))
        return self._report(stop, known) or Report(Why.END)

    def _back(self, points: Collection[Point], interrupted: Callable[[], bool]) -> Report:
        known, origin = self._conditions(points), self._debugger.position

        def undone(condition: MemoryCondition, hit: WatchHit) -> bool:
            """Is it before here that this is met? An access that ended here is; what executes next is not."""
            return not isinstance(condition, Breakpoint) or position_of_hit(hit) < origin

        stop = self._debugger.backward(list(known), wanted=undone, here=True, progress=self._asking(interrupted))
        report = self._report(stop, known)
        if report is None:
            return Report(Why.BEGIN)
        if report.point is not None and not report.point.kind.is_break:
            assert stop.hit is not None, "a watchpoint was met by an access"
            self._debugger.goto_instret(self._vm, max(stop.hit.instret - 1, 0))
        return report

    def _accessed(self, watches: dict[Watchpoint, Point], before: Position, after: Position) -> Report | None:
        """What was watched and accessed last in (before, after], if anything; the cursor is anywhere then."""
        self._debugger.goto_position(before)
        last: Report | None = None
        while self._debugger.position < after:
            stop = self._debugger.forward(list(watches), limit_vns=after.vns)
            met = self._report(stop, watches)
            if met is None:
                break
            last = met
        return last

    def _conditions(self, points: Collection[Point]) -> dict[Breakpoint | Watchpoint, Point]:
        breaks = {Breakpoint(self._vm, point.address): point for point in sorted(points) if point.kind.is_break}
        return {**breaks, **self._watches(points)}

    def _watches(self, points: Collection[Point]) -> dict[Watchpoint, Point]:
        return {
            Watchpoint(self._vm, point.address, point.size, _KINDS[point.kind]): point
            for point in sorted(points)
            if not point.kind.is_break
        }

    def _report(self, stop: DebugStop, known: Mapping[Any, Point]) -> Report | None:
        """The breakpoint that was met, or else the watchpoint. `known`: the points by their conditions."""
        met = [(known[cause.condition], cause.hit) for cause in stop.causes if cause.condition in known]
        met.sort(key=lambda one: one[0])
        if not met:
            return None
        point, hit = met[0]
        return Report(Why.POINT, point, point.address if hit is None else hit.address)

    def _asking(self, interrupted: Callable[[], bool]) -> Callable[[int], None]:
        def ask(_vns: int) -> None:
            if interrupted():
                self._multiverse.cancel()

        return ask

    # ---- monitor ----------------------------------------------------------------------------------------------------

    def monitor(self, line: str) -> str:
        words = line.split()
        if not words or words == ["help"]:
            return _HELP
        if words == ["where"]:
            return self._where()
        command = parse(line, quantum_ns=self._bench.quantum_ns)
        if not isinstance(command, EngineCommand):
            raise CommandError(f"{words[0]} is for cc-tui's own interface", hint="`monitor help` says what works here")
        self._said = []
        carry_out(command, self._bench)
        return "".join(f"{text}\n" for text in self._said) + self._here()

    def _here(self) -> str:
        return f"at {self._multiverse.moment()}\n"

    def _where(self) -> str:
        current = self._multiverse.branch.name
        lines = [
            f"{'*' if branch.name == current else ' '} {branch.name}, to {branch.end.vns / 1e9:.9f} s"
            f"{f': {branch.note}' if branch.note else ''}\n"
            for branch in self._multiverse.branches()
        ]
        return self._here() + "".join(lines)


__all__ = ["MachineTarget"]
