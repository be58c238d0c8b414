"""The part of the command line that opens a session without panes, or a recording: scripts, `repl`, `open`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from cc_tui import diagnostics
from cc_tui.diagnostics import ExitCode, ExitError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cc_tui.opening import OpenedSession
    from cc_tui.options import LaunchOptions

SCRIPT = click.option("--script", metavar="FILE", help="Carry out a script, without the interface; - for stdin.")
AT = click.option("--at", metavar="PLACE", help="Recording: begin here, as `goto` has it. Default: the beginning.")
_RECORDING = (
    click.option("--image", "images", multiple=True, metavar="FILE", help="Recording: a file that may be its image."),
    click.option("--trust-observer", "observers", multiple=True, metavar="MODULE:CLASS",
                 help="Recording: let this judge its properties, though no included scenario uses it."),
)  # fmt: skip


class FileGroup(click.Group):
    """A group whose first word may be a recording's file instead of a command: `cc-tui bug.ccrec` opens it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the words name; `open` for a file."""
        if self.get_command(ctx, args[0]) is None and args[0].endswith(".ccrec"):
            return "open", self.get_command(ctx, "open"), args
        return super().resolve_command(ctx, args)


def with_recording(command: Any) -> Any:
    """Adds the options about a recording's images and judge."""
    for option in reversed(_RECORDING):
        command = option(command)
    return command


def run_script(options: LaunchOptions, script: str, *, as_json: bool) -> None:
    """Carry out a script on a new cluster. Raises ExitError, ChaosControlError."""
    from cc_tui.opening import open_session

    _script(open_session(options, clock=time.monotonic, attended=False), script, as_json=as_json)


def _script(opened: OpenedSession, script: str, *, as_json: bool, at: str | None = None) -> None:
    from cc_tui.scripts import run_script

    code = run_script(opened.session, script, as_json=as_json, at=at)
    if code:
        raise ExitError(code)


def run_repl(options: LaunchOptions) -> None:
    """Talk about a new cluster, or carry out standard input on it. Raises ExitError, ChaosControlError."""
    from cc_tui.opening import open_session
    from cc_tui.type_ahead import kept_type_ahead

    with kept_type_ahead():
        _repl(open_session(options, clock=time.monotonic, attended=False), is_recorded=options.record is not None)


def _repl(opened: OpenedSession, *, is_recorded: bool, at: str | None = None) -> None:
    from cc_tui.repl import run_repl

    if diagnostics.has_terminal():
        code = run_repl(opened.session, kernel=opened.kernel, is_recorded=is_recorded, at=at)
        if code:
            raise ExitError(code)
    else:
        _script(opened, "-", as_json=False, at=at)


def repl_recording(file: str, images: tuple[str, ...], observers: tuple[str, ...], at: str | None) -> None:
    """Talk about a recording, from the place `at` on. Raises ExitError, ChaosControlError."""
    from cc_tui.opening import open_recorded
    from cc_tui.type_ahead import kept_type_ahead

    with kept_type_ahead():
        reads_ahead = diagnostics.has_terminal()
        opened = open_recorded(file, images=images, observers=observers, attended=False, reads_ahead=reads_ahead)
        _repl(opened, is_recorded=False, at=at)


def triage_recording(
    file: str,
    images: tuple[str, ...],
    observers: tuple[str, ...],
    *,
    bug: int,
    form: str | None,
    output: str | None,
    window_ns: int,
) -> None:
    """Report a bug of a recording. Raises ChaosControlError."""
    from cc_tui.commands.triage import Triage, format_of
    from cc_tui.opening import open_recorded
    from cc_tui.shell import Shell

    form = form or (output and format_of(output)) or "markdown"
    with open_recorded(file, images=images, observers=observers, attended=False).session as session:
        Shell(session).do(Triage(bug, form, output, window_ns).text)


def add_open(group: click.Group, debug: Callable[[Any], Any]) -> None:
    """Adds the command `open`."""

    @group.command("open")
    @click.argument("file", metavar="RECORDING")
    @AT
    @with_recording
    @debug
    @click.pass_context
    def open_(
        ctx: click.Context, file: str, at: str | None, images: tuple[str, ...], observers: tuple[str, ...]
    ) -> None:
        """Open a recording in the interface: walk in what is recorded, and branch from it.

        With --script before it, a script is carried out on it instead.

        \b
        Examples:
          cc-tui open bug.ccrec
          cc-tui bug.ccrec --at main@2.5       the same, from there on
          cc-tui --script look.cc bug.ccrec
        """
        from cc_tui.opening import open_recorded

        above: dict[str, Any] = ctx.parent.params if ctx.parent is not None else {}
        script = above.get("script")
        if script is not None:
            opened = open_recorded(file, images=images, observers=observers, attended=False)
            _script(opened, script, as_json=bool(above.get("as_json")), at=at)
            return
        if not diagnostics.has_terminal():
            diagnostics.error("the interface needs a terminal; without one use --script, or `cc-tui info`")
            raise ExitError(ExitCode.USAGE)
        from cc_tui.tui.app import run_session

        opened = open_recorded(file, images=images, observers=observers, attended=True, reads_ahead=True)
        code = run_session(opened, run=False, at=at)
        if code:
            raise ExitError(code)


__all__ = ["SCRIPT", "FileGroup", "add_open", "repl_recording", "run_repl", "run_script", "with_recording"]
