"""Server: requests of a client are answered one after the other; what ends movements is heard while they go on.

Names are the Debug Adapter Protocol's (microsoft.github.io/debug-adapter-protocol, 1.65). A thread reads messages; what
`pause`, `cancel`, `disconnect` and `terminate` ask for, it notes at once: while one of them waits, nothing moves on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from cc_tui.commands.language import parse_number
from cc_tui.dap.debuggee import Stopped
from cc_tui.dap.points import FILTERS, DataPlace
from cc_tui.dap.stream import ProtocolError
from chaoscontrol.errors import ChaosControlError, UsageError
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from cc_tui.dap.debuggee import Debuggee
    from cc_tui.dap.points import Point
    from cc_tui.dap.stream import MessageStream
    from chaoscontrol.timetravel import Multiverse

Table = dict[str, Any]
CAPABILITIES: Table = {
    "supportsConfigurationDoneRequest": True,
    "supportsStepBack": True,
    "supportsFunctionBreakpoints": True,
    "supportsInstructionBreakpoints": True,
    "supportsDataBreakpoints": True,
    "supportsDataBreakpointBytes": True,
    "supportsSteppingGranularity": True,
    "supportsDisassembleRequest": True,
    "supportsReadMemoryRequest": True,
    "supportsWriteMemoryRequest": True,
    "supportsSetVariable": True,
    "supportsEvaluateForHovers": True,
    "supportsExceptionInfoRequest": True,
    "supportsDelayedStackTraceLoading": True,
    "supportsTerminateRequest": True,
    "supportsCancelRequest": True,
    "exceptionBreakpointFilters": [
        {"filter": name, "label": label, "default": name == "assertions"} for name, (label, _) in FILTERS.items()
    ],
}
_INTERRUPTING = frozenset({"pause", "cancel", "disconnect", "terminate"})
PROGRESS_AFTER_S = 0.5
PROGRESS_EVERY_S = 0.25
_ID = "movement"


class Opener(Protocol):
    """Opens what the arguments of `launch` or `attach` name; the callback is for movements to call on their way."""

    def __call__(self, arguments: Table, watch: Callable[[Multiverse], None]) -> Debuggee: ...


@dataclass(slots=True)
class _Progress:
    """A movement under way, as the client sees it."""

    begun_s: float
    told_s: float = 0.0
    is_told: bool = False


class DapServer:
    """Serves one client over a stream. `clock`: seconds, for progress only."""

    def __init__(self, stream: MessageStream, opener: Opener, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._opener = opener
        self._clock = clock
        self._inbox: queue.SimpleQueue[Table | ProtocolError | None] = queue.SimpleQueue()
        self._interrupts = _Counter()
        """How many requests wait that end movements."""
        self._sequence = 0
        self._client: Table = {}
        self._debuggee: Debuggee | None = None
        self._thread = 1
        """The one that stopped last."""
        self._last: Stopped | None = None
        self._after: Callable[[], None] | None = None
        """What is done once the request under way has been answered."""
        self._progress: _Progress | None = None
        self._ended = False

    def serve(self) -> None:
        """Until the client leaves. Raises ProtocolError if it speaks something else."""
        threading.Thread(target=self._read, name="dap", daemon=True).start()
        while not self._ended:
            message = self._inbox.get()
            if message is None:
                return
            if isinstance(message, ProtocolError):
                raise message
            if message.get("type") == "request":
                self._answer(message)

    def _read(self) -> None:
        try:
            while (message := self._stream.read()) is not None:
                if message.get("command") in _INTERRUPTING:
                    self._interrupts.add(1)
                self._inbox.put(message)
        except ProtocolError as error:
            self._inbox.put(error)
        except (OSError, ValueError):  # the connection broke, or was closed by our side
            pass
        self._interrupts.add(1)
        self._inbox.put(None)

    # ---- sending ----------------------------------------------------------------------------------------------------

    def _send(self, message: Table) -> None:
        self._sequence += 1
        try:
            self._stream.write({"seq": self._sequence, **message})
        except (BrokenPipeError, ConnectionError):
            self._ended = True
            self._interrupts.add(1)

    def _event(self, name: str, body: Table | None = None) -> None:
        self._send({"type": "event", "event": name, **({} if body is None else {"body": body})})

    def _say(self, text: str, category: str = "console") -> None:
        self._event("output", {"category": category, "output": f"{text}\n"})

    # ---- requests ---------------------------------------------------------------------------------------------------

    def _answer(self, request: Table) -> None:
        command, arguments = request.get("command"), request.get("arguments")
        table = cast("Table", arguments) if isinstance(arguments, dict) else {}
        reply: Table = {"type": "response", "request_seq": request.get("seq", 0), "command": command}
        handler = HANDLERS.get(command) if isinstance(command, str) else None
        if command in _INTERRUPTING:
            self._interrupts.add(-1)  # what was under way has ended by now
        try:
            if handler is None:
                raise UsageError(f"there is no request {command!r} here")
            body = handler(self, table)
            self._send({**reply, "success": True, **({} if body is None else {"body": body})})
        except ChaosControlError as error:
            text = str(error)
            shown = {"id": 1, "format": text.replace("{", "{{").replace("}", "}}"), "showUser": True}
            self._send({**reply, "success": False, "message": text, "body": {"error": shown}})
        after, self._after = self._after, None
        if after is not None:
            after()

    @property
    def _opened(self) -> Debuggee:
        if self._debuggee is None:
            raise UsageError("nothing is opened yet", hint="launch comes first")
        return self._debuggee

    def _initialize(self, arguments: Table) -> Table:
        self._client = arguments
        return CAPABILITIES

    def _launch(self, arguments: Table) -> None:
        if self._debuggee is not None:
            raise UsageError("something is opened already", hint="disconnect, and start again")
        with self._telling():
            self._debuggee = self._opener(arguments, self._moved)
        self._after = lambda: self._event("initialized")

    def _configuration_done(self, _arguments: Table) -> None:
        if self._debuggee is None:
            raise UsageError("nothing is opened yet", hint="launch comes first")
        self._after = self._tell_entry

    def _tell_entry(self) -> None:
        self._event("stopped", {"reason": "entry", "threadId": self._thread, "allThreadsStopped": True})

    def _threads(self, _arguments: Table) -> Table:
        return {"threads": [{"id": vm + 1, "name": f"vm{vm}"} for vm in range(self._opened.bench.vms)]}

    def _vm(self, arguments: Table) -> int:
        return self._opened.vm_of(_integer(arguments, "threadId"))

    def _stack_trace(self, arguments: Table) -> Table:
        frames = self._opened.stack(self._vm(arguments))
        first, count = _integer(arguments, "startFrame", 0), _integer(arguments, "levels", 0)
        shown = frames[first : first + count] if count > 0 else frames[first:]
        return {"stackFrames": shown, "totalFrames": len(frames)}

    def _scopes(self, arguments: Table) -> Table:
        return {"scopes": self._opened.scopes(_integer(arguments, "frameId"))}

    def _variables(self, arguments: Table) -> Table:
        return {"variables": self._opened.variables(_integer(arguments, "variablesReference"))}

    def _set_variable(self, arguments: Table) -> Table:
        reference, name = _integer(arguments, "variablesReference"), _text(arguments, "name")
        before = self._opened.multiverse.branch.name
        value = self._opened.set_variable(reference, name, _text(arguments, "value"))
        self._say_if_branched(before)
        return {"value": value}

    def _say_if_branched(self, before: str) -> None:
        now = self._opened.multiverse.branch
        if before not in (now.name, *now.former):
            self._say(f"this is branch {now.name} now; {before} is as it was")

    # ---- breakpoints ------------------------------------------------------------------------------------------------

    def _set_breakpoints(self, arguments: Table) -> Table:
        source = _table(arguments, "source")
        path = source.get("path") or source.get("name")
        if not isinstance(path, str) or not path:
            raise UsageError("source has no path")
        lines = [_integer(wanted, "line") for wanted in _tables(arguments, "breakpoints")]
        return _points(self._opened.points.set_source(path, lines))

    def _set_function_breakpoints(self, arguments: Table) -> Table:
        names = [_text(wanted, "name") for wanted in _tables(arguments, "breakpoints")]
        return _points(self._opened.points.set_code("functions", names))

    def _set_instruction_breakpoints(self, arguments: Table) -> Table:
        texts = [
            hex((parse_number(_text(wanted, "instructionReference")) + _integer(wanted, "offset", 0)) % (1 << 64))
            for wanted in _tables(arguments, "breakpoints")
        ]
        return _points(self._opened.points.set_code("instructions", texts))

    def _data_breakpoint_info(self, arguments: Table) -> Table:
        name = _text(arguments, "name")
        frame = _integer(arguments, "frameId") if "frameId" in arguments else None
        try:
            place = self._opened.data_place(name, frame, _integer(arguments, "bytes", 8))
        except ChaosControlError as error:
            return {"dataId": None, "description": str(error)}
        access = ["read", "write", "readWrite"]
        return {"dataId": str(place), "description": f"{place.size} bytes at {name}", "accessTypes": access}

    def _set_data_breakpoints(self, arguments: Table) -> Table:
        wanted = [
            (DataPlace.read(_text(one, "dataId")), str(one.get("accessType") or "write"))
            for one in _tables(arguments, "breakpoints")
        ]
        return _points(self._opened.points.set_data(wanted))

    def _set_exception_breakpoints(self, arguments: Table) -> None:
        filters = arguments.get("filters")
        names = cast("list[object]", filters) if isinstance(filters, list) else []
        self._opened.points.set_filters([name for name in names if isinstance(name, str)])

    def _exception_info(self, _arguments: Table) -> Table:
        if self._last is None or self._last.reason != "exception":
            raise UsageError("nothing was stopped at that has more to say")
        return {"exceptionId": self._last.text, "description": self._last.text, "breakMode": "always"}

    # ---- moving -----------------------------------------------------------------------------------------------------

    def _continue(self, arguments: Table) -> Table:
        return self._resume(arguments, back=False)

    def _reverse_continue(self, arguments: Table) -> None:
        self._resume(arguments, back=True)

    def _resume(self, arguments: Table, *, back: bool) -> Table:
        debuggee, vm = self._opened, self._vm(arguments)
        self._go(vm, lambda: debuggee.resume(back=back))
        return {"allThreadsContinued": True}

    def _next(self, arguments: Table) -> None:
        self._step(arguments, over=True, back=False)

    def _step_in(self, arguments: Table) -> None:
        self._step(arguments, over=False, back=False)

    def _step_back(self, arguments: Table) -> None:
        self._step(arguments, over=True, back=True)

    def _step(self, arguments: Table, *, over: bool, back: bool) -> None:
        debuggee, vm = self._opened, self._vm(arguments)
        by_instruction = arguments.get("granularity") == "instruction"
        self._go(vm, lambda: debuggee.step(vm, over=over, back=back, by_instruction=by_instruction))

    def _step_out(self, arguments: Table) -> None:
        debuggee, vm = self._opened, self._vm(arguments)
        self._go(vm, lambda: debuggee.step_out(vm))

    def _go(self, vm: int, move: Callable[[], Stopped]) -> None:
        """Move once the request has been answered, and tell where that ended."""

        def go() -> None:
            debuggee, before = self._opened, self._opened.multiverse.branch.name
            for point in debuggee.points.look_again():
                self._event("breakpoint", {"reason": "changed", "breakpoint": point.as_body()})
            try:
                with self._telling():
                    self._last = move()
            except ChaosControlError as error:
                self._say(str(error), "stderr")
                self._last = Stopped("pause", str(error))
            self._say_if_branched(before)
            self._thread = (vm if self._last.vm is None else self._last.vm) + 1
            self._event("stopped", self._last.as_body(self._thread))

        self._after = go

    def _pause(self, _arguments: Table) -> None:
        """That it came has ended what was under way."""

    def _moved(self, multiverse: Multiverse) -> None:
        """On the way of a movement."""
        if self._interrupts.value > 0:
            multiverse.cancel()
        progress = self._progress
        if progress is None or not self._client.get("supportsProgressReporting"):
            return
        now = self._clock()
        if not progress.is_told and now - progress.begun_s >= PROGRESS_AFTER_S:
            progress.is_told, progress.told_s = True, now
            self._event("progressStart", {"progressId": _ID, "title": "cc-tui", "cancellable": True})
        if progress.is_told and now - progress.told_s >= PROGRESS_EVERY_S:
            progress.told_s = now
            self._event(
                "progressUpdate", {"progressId": _ID, "message": f"at {format_seconds(multiverse.position.vns)} s"}
            )

    @contextmanager
    def _telling(self) -> Generator[None]:
        """While it is entered, the client hears of a movement that takes long."""
        self._progress = progress = _Progress(self._clock())
        try:
            yield
        finally:
            self._progress = None
            if progress.is_told:
                self._event("progressEnd", {"progressId": _ID})

    # ---- expressions, memory, code ----------------------------------------------------------------------------------

    def _evaluate(self, arguments: Table) -> Table:
        text = _text(arguments, "expression")
        frame = _integer(arguments, "frameId") if "frameId" in arguments else None
        if arguments.get("context") != "repl":
            value, address = self._opened.value(text, frame)
            reference = {} if address is None else {"memoryReference": hex(address)}
            return {"result": value, "variablesReference": 0, **reference}
        before = self._opened.multiverse.branch.name
        with self._telling():
            answer, moved = self._opened.command(text)
        self._say_if_branched(before)
        if moved:
            body = {"reason": "goto", "threadId": self._thread, "allThreadsStopped": True}
            self._after = lambda: self._event("stopped", body)
        return {"result": answer, "variablesReference": 0}

    def _read_memory(self, arguments: Table) -> Table:
        reference, offset = _text(arguments, "memoryReference"), _integer(arguments, "offset", 0)
        return self._opened.read_memory(reference, offset, _integer(arguments, "count"))

    def _write_memory(self, arguments: Table) -> Table:
        reference, offset = _text(arguments, "memoryReference"), _integer(arguments, "offset", 0)
        before = self._opened.multiverse.branch.name
        written = self._opened.write_memory(reference, offset, _text(arguments, "data"))
        self._say_if_branched(before)
        return {"bytesWritten": written}

    def _disassemble(self, arguments: Table) -> Table:
        rows = self._opened.disassemble(
            _text(arguments, "memoryReference"),
            _integer(arguments, "offset", 0),
            _integer(arguments, "instructionOffset", 0),
            _integer(arguments, "instructionCount"),
        )
        return {"instructions": rows}

    # ---- leaving ----------------------------------------------------------------------------------------------------

    def _cancel(self, _arguments: Table) -> None:
        """That it came has ended what was under way."""

    def _terminate(self, _arguments: Table) -> None:
        self._after = lambda: self._event("terminated")

    def _disconnect(self, _arguments: Table) -> None:
        self._ended = True


class _Counter:
    """A number that several threads change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self, by: int) -> None:
        with self._lock:
            self.value += by


def _points(points: Sequence[Point]) -> Table:
    return {"breakpoints": [point.as_body() for point in points]}


# ---- arguments -------------------------------------------------------------------------------------------------------


def _integer(arguments: Table, name: str, default: int | None = None) -> int:
    value = arguments.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} is {value!r}", hint="it is a number")
    return value


def _text(arguments: Table, name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{name} is {value!r}", hint="it is a text")
    return value


def _table(arguments: Table, name: str) -> Table:
    value = arguments.get(name)
    if not isinstance(value, dict):
        raise UsageError(f"{name} is {value!r}", hint="it is an object")
    return cast("Table", value)


def _tables(arguments: Table, name: str) -> list[Table]:
    value = arguments.get(name)
    rows = cast("list[object]", value) if isinstance(value, list) else []
    if not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{name} holds something else than objects")
    return cast("list[Table]", rows)


HANDLERS: dict[str, Callable[[DapServer, Table], Table | None]] = {
    name: getattr(DapServer, f"_{method}")
    for name, method in {
        "initialize": "initialize", "launch": "launch", "attach": "launch", "configurationDone": "configuration_done",
        "threads": "threads", "stackTrace": "stack_trace", "scopes": "scopes", "variables": "variables",
        "setVariable": "set_variable", "setBreakpoints": "set_breakpoints",
        "setFunctionBreakpoints": "set_function_breakpoints",
        "setInstructionBreakpoints": "set_instruction_breakpoints", "dataBreakpointInfo": "data_breakpoint_info",
        "setDataBreakpoints": "set_data_breakpoints", "setExceptionBreakpoints": "set_exception_breakpoints",
        "exceptionInfo": "exception_info", "continue": "continue", "reverseContinue": "reverse_continue",
        "next": "next", "stepIn": "step_in", "stepOut": "step_out", "stepBack": "step_back", "pause": "pause",
        "evaluate": "evaluate", "readMemory": "read_memory", "writeMemory": "write_memory",
        "disassemble": "disassemble", "cancel": "cancel", "terminate": "terminate", "disconnect": "disconnect",
    }.items()
}  # fmt: skip
"""By the protocol's name."""


__all__ = ["CAPABILITIES", "HANDLERS", "DapServer"]
