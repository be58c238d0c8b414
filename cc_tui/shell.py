"""Shell: carries out lines of the command language on a session and prints what comes of them; the REPL and scripts.

What commands answer goes to stdout, as text or as one JSON value per command; what is said to a person goes to stderr.
Text of guests is hostile and is made safe before it is printed.
"""

from __future__ import annotations

import json
from collections import deque
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any

from cc_tui import diagnostics
from cc_tui.commands import Answer, Command, CommandError, EngineCommand, FrontendCommand, Notice, parse
from cc_tui.commands.engine import Pause, Run, Source, place_data
from cc_tui.commands.help import help_lines
from cc_tui.commands.language import logical_lines, split
from cc_tui.console_text import safe_line
from cc_tui.session import Finished, Progress
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.timetravel import CancelledError, format_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cc_tui.session import Event, Session, SessionView

WAIT_S = 0.05
"""How often what a command says is shown while it is under way."""
ECHO_LINES_MAX = 20
"""Console lines shown after a move."""
AS_JSON = "--json"


class Shell:
    """One session, line by line. Used by one thread, which waits for every command."""

    def __init__(self, session: Session, *, interactive: bool = False, as_json: bool = False) -> None:
        """`interactive`: a person reads along, and may let time pass. `as_json`: every command prints JSON."""
        self.session = session
        self.left = False
        """Did somebody say `quit`?"""
        self._interactive = interactive
        self._as_json = as_json
        self._events: deque[Event] = deque()
        self._answers: list[Answer] = []
        self._notices: list[Notice] = []
        session.subscribe(self._events.append)

    # ---- lines ------------------------------------------------------------------------------------------------------

    def run_lines(self, lines: Iterable[str], name: str) -> None:
        """Carry out lines as they come. The first error ends it, and names the line. Raises ChaosControlError."""
        for number, line in logical_lines(lines):
            self.do(line, f"{name}:{number}")
            if self.left:
                return

    def do(self, line: str, where: str = "") -> None:
        """Carry out one line. Raises ChaosControlError, whose place is `where` and the line; KeyboardInterrupt."""
        self._answers, self._notices = [], []
        as_json, text = self._as_json, line.strip()
        try:
            text, asked = _without_option(line)
            as_json |= asked
            command = parse(text, quantum_ns=self.session.quantum_ns)
            if command is not None:
                self._carry_out(command, where)
        except KeyboardInterrupt:
            if self._answers:  # what was known by then
                self._print(text.strip(), where, as_json=as_json)
            raise
        except ChaosControlError as error:
            diagnostics.end_transient()
            if as_json:
                self._print_error(error, text, where)
            if where:
                place = f"{where}: `{text.strip()}`"
                error.where = f"{place}: {error.where}" if error.where else place
            raise
        if command is not None and not isinstance(command, Source):
            self._print(text.strip(), where, as_json=as_json)

    def _carry_out(self, command: Command, where: str) -> None:
        if isinstance(command, FrontendCommand):
            self._frontend(command)
        elif isinstance(command, Source):
            if where:
                raise CommandError("a script cannot run another script")
            self.run_lines(command.read().splitlines(), command.path)
        elif isinstance(command, Run):
            self._let_run(command)
        else:
            before = self.session.view
            self._wait(self.session.submit(command), command)
            if self._interactive and command.moves:
                self._echo(before, self.session.view)

    def _frontend(self, command: FrontendCommand) -> None:
        if command.name == "help":
            lines = help_lines(command.argument)
            self._answers.append(Answer(tuple(lines), lines))
        elif command.name == "quit":
            self.left = True
        elif self._interactive:
            hint = "console, events, branches, properties show the same here"
            raise CommandError(f"{command.name} is for the interface, which has panes", hint=hint)

    # ---- waiting ----------------------------------------------------------------------------------------------------

    def _wait(self, done: Future[None], command: EngineCommand) -> None:
        before = self.session.view
        interrupted = False
        while True:
            try:
                done.result(timeout=WAIT_S)
                break
            except FutureTimeoutError:
                if done.done():
                    raise  # the command's own
                self._drain()
            except KeyboardInterrupt:
                interrupted = True
                self.session.cancel()
            except CancelledError:
                if not interrupted:
                    raise
                break
        self._drain()
        diagnostics.end_transient()
        if interrupted:
            self._tell_what_is_left(command, before)
            raise KeyboardInterrupt

    def _tell_what_is_left(self, command: EngineCommand, before: SessionView) -> None:
        view = self.session.view
        here = _place(view)
        if (view.branch.name, view.position) == (before.branch.name, before.position):
            diagnostics.note(f"{command.text}: cancelled; the cursor is where it was, at {here}")
        else:
            diagnostics.note(f"{command.text}: cancelled on its way, at {here}; it was at {_place(before)}")

    def _let_run(self, command: Run) -> None:
        if not self._interactive:
            hint = "use step, expect, until or continue"
            raise CommandError("how far `run` gets depends on the clock and on a person's hand", hint=hint)
        before = self.session.view
        self._wait(self.session.submit(command), command)
        try:
            while self.session.view.running:
                diagnostics.transient(f"running at {_place(self.session.view)}; ctrl+c pauses")
                self._pause_a_little()
        except KeyboardInterrupt:
            self._wait(self.session.stop(), Pause())
        diagnostics.end_transient()
        self._drain()
        self._echo(before, self.session.view)

    def _pause_a_little(self) -> None:
        try:
            Future[None]().result(timeout=WAIT_S)
        except FutureTimeoutError:
            self._drain()

    def _drain(self) -> None:
        while self._events:
            event = self._events.popleft()
            if isinstance(event, Answer):
                self._answers.append(event)
            elif isinstance(event, Notice):
                self._notices.append(event)
            elif isinstance(event, Progress):
                diagnostics.transient(_progress(event))
            elif isinstance(event, Finished):
                diagnostics.end_transient()

    # ---- printing ---------------------------------------------------------------------------------------------------

    def _print(self, text: str, where: str, *, as_json: bool) -> None:
        if as_json:
            data = [answer.data for answer in self._answers]
            self._print_json({
                **_numbered(where), "command": text, "answer": data[0] if len(data) == 1 else data or None,
                "notices": [notice.text for notice in self._notices], "at": _at(self.session.view),
            })  # fmt: skip
            return
        for answer in self._answers:
            for line in answer.lines:
                print(safe_line(line), flush=True)
        for notice in self._notices:
            diagnostics.note(safe_line(notice.text))

    def _print_error(self, error: ChaosControlError, text: str, where: str) -> None:
        found = {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
        at = _at(self.session.view)
        self._print_json({**_numbered(where), "command": text.strip(), "error": found, "at": at})

    def _print_json(self, value: dict[str, Any]) -> None:
        print(json.dumps(value, ensure_ascii=True), flush=True)

    def _echo(self, before: SessionView, after: SessionView) -> None:
        """What the consoles have said on the way forward, and where that led."""
        if self._as_json or after.branch.name != before.branch.name or after.position <= before.position:
            return
        lines: list[tuple[int, int, str]] = []
        for machine, (log, start, end) in enumerate(
            zip(after.consoles, before.console_totals, after.console_totals, strict=True)
        ):
            first = log.line_of(start) if log.read(start - 1, start) not in (b"", b"\n") else log.lines_begun(start)
            for line in range(max(first, log.lines_begun(end) - ECHO_LINES_MAX), log.lines_begun(end)):
                text = log.line_bytes(line, end).decode(errors="replace").rstrip("\r\n")
                lines.append((log.line_vns(line), machine, text))
        lines.sort()
        for _, machine, text in lines[-ECHO_LINES_MAX:]:
            print(f"vm{machine}| {safe_line(text)}", flush=True)


def _without_option(line: str) -> tuple[str, bool]:
    """The line without `--json` at its end, and whether it was there. Raises CommandError."""
    words = split(line)
    if len(words) > 1 and words[-1].text == AS_JSON and not words[-1].quoted:
        return line[: words[-1].column], True
    return line, False


def _place(view: SessionView) -> str:
    return f"{view.branch.name}@{format_seconds(view.position.vns)}"


def _at(view: SessionView) -> dict[str, object] | None:
    return None if view.moment is None else place_data(view.moment)


def _numbered(where: str) -> dict[str, object]:
    _, _, number = where.rpartition(":")
    return {"line": int(number)} if number.isdecimal() else {}


def _progress(progress: Progress) -> str:
    share = "" if progress.fraction is None else f" {progress.fraction:4.0%}"
    return f"{progress.text}:{share} at {format_seconds(progress.vns)} s, {progress.rate / 1e6:.0f} M/s; ctrl+c cancels"


__all__ = ["Shell"]
