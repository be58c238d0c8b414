"""The part of the command line that is about recordings: its words and options. recordings.py does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cc_tui.cli_shell import with_recording
from cc_tui.diagnostics import ExitError

if TYPE_CHECKING:
    from collections.abc import Callable

FILTERS = ("console", "faults", "assertions", "bugs", "network")
_FILE = click.argument("file", metavar="FILE")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def add_commands(group: click.Group, debug: Callable[[Any], Any], time: click.ParamType[Any]) -> None:
    """Adds the commands. `debug`: the option that shows tracebacks; `time`: what reads a time."""
    for make in (_info, _events, _export, _repair, _replay):
        group.add_command(make(debug, time))


def _info(debug: Callable[[Any], Any], _: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @_JSON
    @debug
    def info(file: str, as_json: bool) -> None:
        """Say what a recording is of: machines, images, branches, inputs, failures."""
        from cc_tui.recordings import print_info

        print_info(file, as_json=as_json)

    return info


def _events(debug: Callable[[Any], Any], time: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @click.option("--filter", "only", type=click.Choice(FILTERS), help="Only these. Default: all.")
    @click.option("--from", "from_ns", type=time, default="0s", metavar="TIME", help="From this virtual time on.")
    @click.option("--to", "to_ns", type=time, metavar="TIME", help="Up to this virtual time.")
    @click.option("--branch", metavar="NAME", help="Only this branch. Default: all.")
    @_JSON
    @debug
    def events(**options: Any) -> None:
        """Print what happened in a recording, one line or JSON object each.

        \b
        Examples:
          cc-tui events bug.ccrec --filter faults
          cc-tui events bug.ccrec --filter console --from 2s --to 2.5s --json
        """
        from cc_tui.recordings import print_events

        print_events(options.pop("file"), **options)

    return events


def _export(debug: Callable[[Any], Any], _: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @click.option("--format", "form", type=click.Choice(["jsonl", "pcap"]), default="jsonl", show_default=True,
                  help="What to make of it.")  # fmt: skip
    @click.option("--output", metavar="FILE", help="Where to. Default: stdout.")
    @debug
    def export(file: str, form: str, output: str | None) -> None:
        """Write a recording as JSON Lines: header, inputs, events, failures, checkpoints."""
        from cc_tui.recordings import export

        export(file, form=form, output=output)

    return export


def _repair(debug: Callable[[Any], Any], _: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @click.option("--output", metavar="FILE", help="Where to. Default: in place of the damaged one.")
    @debug
    def repair(file: str, output: str | None) -> None:
        """Keep what is whole of a damaged recording, and say what was lost."""
        from cc_tui.recordings import repair

        repair(file, output=output)

    return repair


def _replay(debug: Callable[[Any], Any], _: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @click.option("--checkpoint", metavar="M", help="Begin here: a moment, BRANCH@SECONDS, or a time. Default: all.")
    @click.option("--ticks", type=click.IntRange(min=1), metavar="N", help="Go on for N ticks. Default: to the end.")
    @click.option("--repeat", type=click.IntRange(1, 100_000), default=1, show_default=True, metavar="N",
                  help="Do it N times, and say what that proves.")  # fmt: skip
    @click.option("--branch", metavar="NAME", help="Only this branch. Default: all.")
    @with_recording
    @_JSON
    @debug
    def replay(file: str, **options: Any) -> None:
        """Live through a recording again, from its recipe alone, and compare every digest and every event.

        Ends with 0 if everything is as recorded, with 3 and the first difference if not. Nothing is tried again.

        \b
        Examples:
          cc-tui replay bug.ccrec
          cc-tui replay bug.ccrec --checkpoint main@2.5 --ticks 1000 --repeat 20
        """
        from cc_tui.recordings import ReplayOptions, replay

        code = replay(file, ReplayOptions(**options))
        if code:
            raise ExitError(code)

    return replay
