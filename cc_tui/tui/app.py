"""The application: opens a session in the terminal.

Owns the session's life and the main screen. The engine's thread posts messages; what is shown is always the session's
latest picture.
"""

import asyncio
import os
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.app import App
from textual.screen import Screen

from cc_tui.commands.language import quote
from cc_tui.diagnostics import ExitCode
from cc_tui.opening import open_session
from cc_tui.session import Session
from cc_tui.settings import Settings, load_settings
from cc_tui.symbols import SymbolTable, load_symbols
from cc_tui.tui.key_order import KeyOrderApp
from cc_tui.tui.keymap import check_remapping
from cc_tui.tui.pastes import use_paste_parser
from cc_tui.tui.screen import MainScreen
from cc_tui.tui.theme import THEMES

if TYPE_CHECKING:
    from textual.signal import Signal

    from cc_tui.opening import OpenedSession
    from cc_tui.options import LaunchOptions


LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
LEAVE_S = 5.0
"""How long leaving may take when a signal asked for it."""


class CcApp(KeyOrderApp, inherit_bindings=False):
    """One session in one terminal."""

    CSS_PATH = "app.tcss"
    TITLE = "cc-tui"
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, session: Session, settings: Settings | None = None, *, kernel: str | None = None,
                 run: bool = True, first: str = "") -> None:  # fmt: skip
        """`kernel`: for the names of addresses. `run`: let time pass from the start. `first`: a line to begin with.

        Raises UsageError for keys.
        """
        super().__init__()
        self.session = session
        self.settings = settings or Settings()
        self.remapped = check_remapping(self.settings.keys, self.settings.where)
        self.crash: BaseException | None = None
        """What made the session end, if something did."""
        self._kernel = kernel
        self._run, self._first = run, first
        for theme in THEMES.values():
            self.register_theme(theme)
        self.theme = self.settings.theme
        self.set_keymap(self.remapped)

    def get_default_screen(self) -> Screen[Any]:
        return MainScreen(self.session, self.settings, run=self._run, first=self._first)

    def on_mount(self) -> None:
        if threading.current_thread() is threading.main_thread():
            # Left to the system, they would leave the terminal in raw mode with the pointer's reports switched on.
            for number in LEAVE_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, self._told_to_leave)
        resumed = cast("Signal[App[Any]]", self.app_resume_signal)  # pyright: ignore[reportUnknownMemberType]
        resumed.subscribe(self, self._redraw)
        if self._kernel is not None:
            self.run_worker(partial(self._load_symbols, self._kernel), thread=True, name="symbols", exit_on_error=False)

    def _redraw(self, _: "App[Any]") -> None:
        # Back from the shell the terminal is empty, but of the same size: Textual would draw what changes, no more.
        for screen in self.screen_stack:
            screen.refresh()

    def _told_to_leave(self) -> None:
        # A terminal that is gone takes no more output, and Textual would wait for it for ever.
        last = threading.Timer(LEAVE_S, os._exit, (ExitCode.INTERRUPTED,))
        last.daemon = True
        last.start()
        self.exit(return_code=ExitCode.INTERRUPTED)

    def _load_symbols(self, kernel: str) -> None:
        self.call_from_thread(self._use_symbols, load_symbols(kernel))

    def _use_symbols(self, table: SymbolTable) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, MainScreen):
                screen.use_symbols(table)

    def leave(self, crash: BaseException | None = None) -> None:
        """End the application."""
        self.crash = crash
        self.exit(return_code=0 if crash is None else 3)


def run_app(options: "LaunchOptions") -> int:
    """Open the interface on a new cluster; returns the process's exit code. Raises ChaosControlError first."""
    return run_session(open_session(options, clock=time.monotonic, attended=True))


def run_session(opened: "OpenedSession", *, run: bool | None = None, at: str | None = None) -> int:
    """Open the interface on a session; returns the process's exit code. `run`: let time pass from the start?

    `at`: the place to begin at.
    """
    session = opened.session
    try:
        settings = load_settings(quantum_ns=session.quantum_ns)
        run = settings.running if run is None else run
        use_paste_parser()
        app = CcApp(session, settings, kernel=opened.kernel, run=run, first="" if at is None else f"goto {quote(at)}")
        app.run()
    finally:
        session.close()
    if app.crash is not None:
        raise app.crash
    return app.return_code or 0
