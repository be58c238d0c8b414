"""Debuggee: what a client asks for, done on a cluster's histories with the debugger and our own commands.

Used by one thread. Nearly everything may raise ChaosControlError.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cc_tui.commands import CommandError, EngineCommand, parse
from cc_tui.commands.addresses import Address
from cc_tui.commands.bench import Answer, Bench, Notice
from cc_tui.commands.edits import SetRegister, WriteMemory
from cc_tui.commands.engine import carry_out
from cc_tui.commands.frames import source_path
from cc_tui.commands.guests import space
from cc_tui.dap.points import ACCESSES, DataPlace, Points
from cc_tui.dap.variables import SCOPES, register_text, variables_of
from chaoscontrol.debug.conditions import Breakpoint, ConsoleText, EventPoint, vm_of
from chaoscontrol.errors import AddressError, UsageError
from chaoscontrol.registers import EDITABLE
from chaoscontrol.timetravel import CancelledError, UnreachableError

if TYPE_CHECKING:
    from cc_tui.opening import History
    from chaoscontrol.debug import DebugStop
    from chaoscontrol.symbols.frames import Frame
    from chaoscontrol.symbols.lines import SourceLine

PAGE_BYTES = 4096
READ_BYTES_MAX = 1 << 20
INSTRUCTIONS_MAX = 10_000
_REFERENCE = re.compile(r"(?:vm(\d{1,4}):)?(0x[0-9a-fA-F]{1,16}|\d{1,20})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a movement ended, by the protocol's names."""

    reason: str
    text: str = ""
    points: tuple[int, ...] = ()
    vm: int | None = None
    """Where it happened; None: in no machine."""

    def as_body(self, thread: int) -> dict[str, Any]:
        """As the body of the event `stopped`."""
        body: dict[str, Any] = {"reason": self.reason, "threadId": thread, "allThreadsStopped": True}
        body |= {"description": self.text, "text": self.text} if self.text else {}
        return body | ({"hitBreakpointIds": list(self.points)} if self.points else {})


@dataclass(slots=True)
class Shown:
    """The frames that the client knows, by number; good until the next movement."""

    frames: list[tuple[int, Frame]] = field(default_factory=list[tuple[int, "Frame"]])

    def add(self, vm: int, frame: Frame) -> int:
        """Its number, from 1."""
        self.frames.append((vm, frame))
        return len(self.frames)

    def find(self, number: int) -> tuple[int, Frame]:
        """Raises UsageError."""
        if not 1 <= number <= len(self.frames):
            raise UsageError(f"there is no frame {number} any more", hint="ask for the stack again")
        return self.frames[number - 1]


class Debuggee:
    """A cluster's histories and the cursor in them."""

    def __init__(self, history: History) -> None:
        self.multiverse = history.multiverse
        self._said: list[str] = []
        self.bench = Bench(
            history.multiverse, history.quantum_ns, self._hear, attended=False, kernel=history.kernel or None,
            initrd=history.initrd,
        )  # fmt: skip
        self.points = Points(self.bench)
        self._debugger = self.bench.debugger
        self._shown = Shown()

    def _hear(self, notice: Notice | Answer) -> None:
        self._said += notice.lines if isinstance(notice, Answer) else [notice.text]

    # ---- machines and frames ----------------------------------------------------------------------------------------

    def vm_of(self, thread: int) -> int:
        """The machine of a thread. Raises UsageError."""
        if not 1 <= thread <= self.bench.vms:
            raise UsageError(f"there is no thread {thread}", hint=f"1 to {self.bench.vms}")
        return thread - 1

    def stack(self, vm: int) -> list[dict[str, Any]]:
        """The call stack of a machine, as the protocol's StackFrames."""
        self.bench.focus = vm
        return [self._frame_body(vm, frame) for frame in self.bench.reader(vm).running()]

    def _frame_body(self, vm: int, frame: Frame) -> dict[str, Any]:
        source = frame.source
        body: dict[str, Any] = {
            "id": self._shown.add(vm, frame),
            "name": frame.name or hex(frame.address),
            "line": 0 if source is None else source.line,
            "column": 0 if source is None else 1,
            "instructionPointerReference": hex(frame.address),
        }
        body |= {"moduleId": frame.module} if frame.module else {}
        return body | ({"presentationHint": "subtle"} if source is None else {"source": _source_body(source)})

    def scopes(self, number: int) -> list[dict[str, Any]]:
        """Of a frame."""
        _, frame = self._shown.find(number)
        names = SCOPES if frame.level == 0 else SCOPES[:1]
        return [
            {
                "name": name, "variablesReference": number * len(SCOPES) + index, "expensive": index > 0,
                **({"presentationHint": "registers"} if "egisters" in name else {}),
            }
            for index, name in enumerate(names)
        ]  # fmt: skip

    def variables(self, reference: int) -> list[dict[str, Any]]:
        """What is in a scope."""
        vm, frame = self._shown.find(reference // len(SCOPES))
        return variables_of(self.bench, vm, frame, reference % len(SCOPES))

    def set_variable(self, reference: int, name: str, text: str) -> str:
        """Change a register of the innermost frame: its new value. In the past this branches."""
        vm, frame = self._shown.find(reference // len(SCOPES))
        if frame.level > 0:
            raise UsageError("only the innermost frame's registers can be changed")
        carry_out(SetRegister.read(vm, name, text), self.bench)
        return register_text(name, self._debugger.vms[vm].registers().value(name))

    # ---- moving -----------------------------------------------------------------------------------------------------

    def resume(self, *, back: bool) -> Stopped:
        """On, or back, to the next breakpoint."""
        return self._move(lambda: self._resume(back=back))

    def _resume(self, *, back: bool) -> Stopped:
        wanted = self.points.conditions()
        stop = self._debugger.backward(wanted) if back else self._debugger.forward(wanted)
        if stop.causes:
            return self._met(stop)
        return Stopped("pause", "the beginning of history" if back else "no machine can run on")

    def step(self, vm: int, *, over: bool, back: bool, by_instruction: bool) -> Stopped:
        """By a source line, or by an instruction where none is known; breakpoints on the way are stopped at."""

        def line() -> None:
            steps = self._debugger.line_steps(vm)
            try:
                (steps.backward if back else steps.forward)(over=over)
            except UsageError:  # no source lines here
                instruction()

        def instruction() -> None:
            self._debugger.reverse_step(vm) if back else self._debugger.step(vm)

        self.bench.reader(vm)
        return self._move(lambda: self._step(vm, instruction if by_instruction else line, back=back))

    def step_out(self, vm: int) -> Stopped:
        """To where the function that a machine is in returns."""
        self.bench.reader(vm)
        return self._move(lambda: self._step(vm, lambda: self._debugger.calls(vm).finish(), back=False))

    def _step(self, vm: int, step: Callable[[], object], *, back: bool) -> Stopped:
        origin = self._debugger.position
        step()
        there = self._debugger.position
        wanted = self.points.conditions()
        if wanted and there != origin:
            self._debugger.goto_position(origin)
            if back:
                stop = self._debugger.backward(wanted, floor=there)
            else:
                stop = self._debugger.forward(wanted, limit_vns=there.vns)
            if stop.causes:
                return self._met(stop)
            self._debugger.goto_position(there)
        return Stopped("step", vm=vm)

    def _move(self, move: Callable[[], Stopped]) -> Stopped:
        """A movement; it may be cancelled, and the cursor is at a valid position afterwards."""
        self._shown = Shown()
        try:
            return move()
        except CancelledError:
            return Stopped("pause")
        except UnreachableError as error:
            return Stopped("pause", str(error))

    def _met(self, stop: DebugStop) -> Stopped:
        points = tuple(self.points.numbers([cause.condition for cause in stop.causes]))
        first = stop.causes[0]
        match first.condition:
            case EventPoint():
                assert first.event is not None, "an event was met"
                return Stopped("exception", first.event.text, points, first.event.vm if first.event.vm >= 0 else None)
            case ConsoleText(vm=vm):
                return Stopped("exception", "kernel trouble on a console", points, vm)
            case Breakpoint(vm=vm):
                return Stopped("breakpoint", "", points, vm)
            case condition:
                return Stopped("data breakpoint", "", points, vm_of(condition))

    # ---- commands and expressions -----------------------------------------------------------------------------------

    def command(self, line: str) -> tuple[str, bool]:
        """Carry out a line of the command language: its answer, and whether the cursor moved."""
        command = parse(line, quantum_ns=self.bench.quantum_ns)
        if command is None:
            return "", False
        if not isinstance(command, EngineCommand):
            raise CommandError(f"{line.split()[0]} is for cc-tui's own interface", hint="`help` is in docs/scripts.md")
        self._said = []
        before = self.multiverse.branch.name, self.multiverse.position
        try:
            carry_out(command, self.bench)
        finally:
            moved = (self.multiverse.branch.name, self.multiverse.position) != before
            if moved:
                self._shown = Shown()
        return "\n".join(self._said), moved

    def value(self, text: str, frame: int | None) -> tuple[str, int | None]:
        """A register or an address by name, as text, and the address that it may be. Raises ChaosControlError."""
        vm = self.bench.focus if frame is None else self._shown.find(frame)[0]
        name = text.strip().removeprefix("$")
        if name in EDITABLE:
            value = self._debugger.vms[vm].registers().value(name)
            return register_text(name, value), value
        address = Address.read(text.strip()).find(self.bench, vm)
        return f"{address:#x}", address

    def data_place(self, name: str, frame: int | None, size: int) -> DataPlace:
        """What a data breakpoint may be set on: an address or a symbol. Raises ChaosControlError."""
        vm = self.bench.focus if frame is None else self._shown.find(frame)[0]
        if name.strip().removeprefix("$") in EDITABLE:
            raise UsageError(f"{name} is a register", hint="only memory can be watched")
        return DataPlace(vm, Address.read(name.strip()).find(self.bench, vm), size)

    # ---- memory and code --------------------------------------------------------------------------------------------

    def _referred(self, reference: str, offset: int) -> tuple[int, int]:
        """Machine and address of a memory reference; without a machine it is the one looked at last."""
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise UsageError(f"{reference!r} is no memory reference", hint="write 0x1f, or vm1:0x1f")
        vm = self.bench.focus if match[1] is None else int(match[1])
        if not 0 <= vm < self.bench.vms:
            raise UsageError(f"there is no machine {vm}", hint=f"0 to {self.bench.vms - 1}")
        return vm, (int(match[2], 0) + offset) % (1 << 64)

    def read_memory(self, reference: str, offset: int, count: int) -> dict[str, Any]:
        """Bytes by virtual address, as many as are mapped in a row."""
        vm, address = self._referred(reference, offset)
        if not 0 <= count <= READ_BYTES_MAX:
            raise UsageError(f"{count} bytes cannot be read at once", hint=f"0 to {READ_BYTES_MAX}")
        data = self._read(vm, address, count)
        body: dict[str, Any] = {"address": hex(address), "data": base64.b64encode(data).decode()}
        return body | ({"unreadableBytes": count - len(data)} if len(data) < count else {})

    def _read(self, vm: int, address: int, size: int) -> bytes:
        machine, data = self._debugger.vms[vm], b""
        while len(data) < size:
            at = (address + len(data)) % (1 << 64)
            try:
                data += machine.read_memory(at, min(size - len(data), PAGE_BYTES - at % PAGE_BYTES), virtual=True)
            except AddressError:
                break
        return data

    def write_memory(self, reference: str, offset: int, text: str) -> int:
        """How many bytes were written. In the past this branches. Raises ChaosControlError."""
        vm, address = self._referred(reference, offset)
        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error:
            raise UsageError("the data is no base64") from None
        if data:
            carry_out(WriteMemory(vm, address, False, data), self.bench)
        return len(data)

    def disassemble(self, reference: str, offset: int, first: int, count: int) -> list[dict[str, Any]]:
        """`count` instructions, from `first` instructions after an address on (before it if negative)."""
        from chaoscontrol.symbols.disassembly import Disassembler  # capstone takes long to import

        vm, address = self._referred(reference, offset)
        if not 0 <= count <= INSTRUCTIONS_MAX or abs(first) > INSTRUCTIONS_MAX:
            raise UsageError(f"{count} instructions from {first} on are too many", hint=f"up to {INSTRUCTIONS_MAX}")
        reader, symbols = self.bench.reader(vm), self.bench.symbols()
        code = Disassembler(symbols.name)
        memory = space(self.bench, vm)
        before = code.before(memory, address, -first, symbols) if first < 0 else []
        after = code.at(memory, address, max(first + count, 0))
        missing = max(-first - len(before), 0)
        known = [*before, *after] if first < 0 else after[first:]
        rows = [_no_instruction(before[0].address if before else address, missing - at) for at in range(missing)]
        end = known[-1].end if known else address
        for instruction in known[: count - len(rows)]:
            span = reader.line_at(instruction.address)
            name = symbols.name(instruction.address)
            row: dict[str, Any] = {
                "address": hex(instruction.address), "instructionBytes": instruction.data.hex(" "),
                "instruction": instruction.text,
            }  # fmt: skip
            row |= {"symbol": name} if name else {}
            row |= {} if span is None else {"location": _source_body(span.source), "line": span.source.line}
            rows.append(row)
        rows += [_no_instruction(end + at + 1, 1) for at in range(count - len(rows))]
        return rows[:count]


def _no_instruction(address: int, before: int) -> dict[str, Any]:
    """What stands where there is nothing to be decoded."""
    return {
        "address": hex((address - before) % (1 << 64)),
        "instruction": "(unreadable)",
        "presentationHint": "invalid",
    }


def _source_body(source: SourceLine) -> dict[str, Any]:
    path = source_path(source.file)
    name = source.file.rsplit("/", 1)[-1]
    if path is None:
        return {"name": name, "path": source.file, "presentationHint": "deemphasize", "origin": "not on this host"}
    return {"name": name, "path": str(path.resolve())}


__all__ = ["ACCESSES", "Debuggee", "Stopped"]
