"""The REPL: the command language line by line, at a terminal. Without one, standard input is a script.

Owns the prompt, its history and its completion; carrying out is the shell's. There is no way to the host's shell.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, InMemoryHistory

from cc_tui import diagnostics
from cc_tui.commands.bench import unsaved_text
from cc_tui.commands.completion import complete, names_in
from cc_tui.commands.language import goes_on, logical_lines, quote
from cc_tui.console_text import safe_line
from cc_tui.diagnostics import ExitCode
from cc_tui.places import state_dir
from cc_tui.shell import Shell
from cc_tui.symbols import SymbolTable, load_symbols
from chaoscontrol.errors import ChaosControlError
from chaoscontrol.timetravel import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import History

    from cc_tui.commands.completion import Names
    from cc_tui.session import Session

HISTORY_FILE = "repl-history"
BANNER = "help lists the commands, help COMMAND explains one; ctrl+c cancels, ctrl+d leaves"


def run_repl(session: Session, *, kernel: str | None, is_recorded: bool, at: str | None = None) -> int:
    """Read lines at the terminal until somebody leaves. `is_recorded`: nothing is lost by leaving. `at`: from where."""
    with session:
        if at is not None:
            session.execute(f"goto {quote(at)}")
        repl = Repl(session, is_recorded=is_recorded)
        if kernel is not None:
            threading.Thread(target=repl.load_symbols, args=(kernel,), name="symbols", daemon=True).start()
        repl.run()
    return ExitCode.OK


class Repl:
    """One conversation."""

    def __init__(self, session: Session, *, is_recorded: bool) -> None:
        self._session = session
        self._is_recorded = is_recorded
        self._shell = Shell(session, interactive=True)
        self._symbols: SymbolTable | None = None
        self._prompt: PromptSession[str] = PromptSession(
            history=_history(),
            completer=_Completer(self.names),
            complete_while_typing=False,
            multiline=Condition(self._goes_on),
            prompt_continuation="... ",
        )

    def load_symbols(self, kernel: str) -> None:
        """Read the names of addresses, on any thread; until then none is offered."""
        self._symbols = load_symbols(kernel)

    def names(self) -> Names:
        """What can be named now."""
        return names_in(self._session.view, self._symbols)

    def run(self) -> None:
        """Until somebody leaves."""
        diagnostics.note(BANNER)
        while not self._shell.left or not self._may_leave():
            self._shell.left = False
            try:
                text = self._prompt.prompt(self._message())
            except KeyboardInterrupt:
                continue  # the line is given up
            except EOFError:
                self._shell.left = True
                continue
            self._do(text)

    def _do(self, text: str) -> None:
        """One line, or the lines of what was pasted; the first error ends them."""
        try:
            for _, line in logical_lines(text.split("\n")):
                self._shell.do(line)
                if self._shell.left:
                    return
        except KeyboardInterrupt:
            pass  # said already
        except ChaosControlError as error:
            diagnostics.note(f"error: {safe_line(str(error))}")

    def _message(self) -> str:
        view = self._session.view
        past = "" if view.at_end else " past"
        return f"{view.branch.name}@{format_seconds(view.position.vns)}{past}> "

    def _goes_on(self) -> bool:
        return goes_on(self._prompt.default_buffer.text)

    def _may_leave(self) -> bool:
        unsaved = self._session.view.unsaved_inputs
        if not unsaved or self._is_recorded:
            return True
        diagnostics.note(f"{unsaved_text(unsaved)} not saved; `save FILE` keeps this session as a script")
        try:
            answer = PromptSession[str]().prompt("leave all the same? [y/N] ")
        except (KeyboardInterrupt, EOFError):
            return False
        return answer.strip().lower() in ("y", "yes")


class _Completer(Completer):
    def __init__(self, names: Callable[[], Names]) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor.replace("\\\n", "")
        for text, start, about in complete(line, self._names()):
            yield Completion(text, start - len(line), display_meta=safe_line(about))


class _KeptHistory(FileHistory):
    """A full disk costs lines of the history, not the conversation."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(string)


def _history() -> History:
    """Kept in the state directory, or in memory where that cannot be written."""
    directory = Path(state_dir())
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / HISTORY_FILE
        path.touch(mode=0o600)
    except OSError:
        return InMemoryHistory()
    return _KeptHistory(str(path)) if os.access(path, os.W_OK) else InMemoryHistory()


__all__ = ["Repl", "run_repl"]
