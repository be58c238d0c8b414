"""`cc-tui dap`: speaks the Debug Adapter Protocol with one client, on standard input and output or a local TCP port."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from cc_tui.dap.debuggee import Debuggee
from cc_tui.dap.server import DapServer
from cc_tui.dap.stream import MessageStream
from cc_tui.diagnostics import note
from cc_tui.opening import open_history
from cc_tui.options import launch_options
from chaoscontrol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cc_tui.opening import History
    from cc_tui.options import LaunchOptions
    from chaoscontrol.timetravel import Multiverse


def serve(program: str | None, *, port: int | None, clock: Callable[[], float]) -> None:
    """Serve one client; `program`: what is opened if the client names nothing. Raises ChaosControlError."""
    with _Opener(program) as opener:
        if port is None:
            # A source of its own: the interpreter ends while a thread still waits for it.
            source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
            os.dup2(2, 1)  # what anything prints goes where messages go
            DapServer(MessageStream(source, sink), opener, clock).serve()
            return
        from cc_tui.gdb.server import listen

        with listen(port) as listener:
            note(f"a client may connect to 127.0.0.1:{listener.getsockname()[1]}")
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as source, connection.makefile("wb") as sink:
                DapServer(MessageStream(cast("Any", source), cast("Any", sink)), opener, clock).serve()


class _Opener:
    """Opens what a client's `launch` names, and frees it at the end."""

    def __init__(self, program: str | None) -> None:
        self._program = program
        self._history: History | None = None

    def __enter__(self) -> _Opener:
        return self

    def __exit__(self, *_: object) -> None:
        if self._history is not None:
            self._history.cluster.close()

    def __call__(self, arguments: dict[str, Any], watch: Callable[[Multiverse], None]) -> Debuggee:
        """Of the arguments: `program`, a recording or scenario; `seed`; `at`; of recordings `images`, `observers`."""
        history = open_history(
            _what(arguments, self._program),
            images=_texts(arguments, "images"),
            observers=_texts(arguments, "observers"),
            watch=watch,
        )
        self._history = history
        debuggee = Debuggee(history)
        place = arguments.get("at")
        if place is not None:
            debuggee.command(f"goto {place}")
        return debuggee


def _what(arguments: dict[str, Any], default: str | None) -> str | LaunchOptions:
    program = arguments.get("program", default)
    if not isinstance(program, str) or not program:
        raise UsageError("nothing to open", hint='"program" is a .ccrec file, or the name of a scenario')
    if program.endswith(".ccrec"):
        return program
    seed = arguments.get("seed")
    if seed is None:
        return launch_options(scenario=program)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise UsageError(f"seed is {seed!r}", hint="it is a number, 0 to 2^64 - 1")
    return launch_options(scenario=program, seed=seed, given=("seed",))


def _texts(arguments: dict[str, Any], name: str) -> tuple[str, ...]:
    value = arguments.get(name, [])
    rows = cast("list[object]", value) if isinstance(value, list) else [value]
    if not all(isinstance(row, str) for row in rows):
        raise UsageError(f"{name} is {value!r}", hint="it is a list of texts")
    return tuple(cast("list[str]", rows))


__all__ = ["serve"]
