"""The part of the command line that is about recordings: its words and options. recordings.py does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cc_tui.cli_shell import with_recording
from cc_tui.diagnostics import ExitError
from chaoscontrol.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

FILTERS = ("console", "faults", "assertions", "bugs", "network")
_FILE = click.argument("file", metavar="FILE")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def add_commands(group: click.Group, debug: Callable[[Any], Any], time: click.ParamType[Any]) -> None:
    """Adds the commands. `debug`: the option that shows tracebacks; `time`: what reads a time."""
    for make in (_info, _events, _export, _repair, _replay, _check, _triage):
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


class _Link(click.ParamType[Any]):
    name = "link"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """`0:1` as (0, 1)."""
        ends = [end.removeprefix("vm") for end in str(value).split(":")]
        if len(ends) != 2 or not all(end.isdecimal() and len(end) < 5 for end in ends):
            self.fail(f"{value!r} is no direction; write the sender and the receiver, as 0:1", param, ctx)
        return int(ends[0]), int(ends[1])


def _export(debug: Callable[[Any], Any], time: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @click.option("--format", "form", type=click.Choice(["jsonl", "pcap"]), default="jsonl", show_default=True,
                  help="What to make of it.")  # fmt: skip
    @click.option("--output", metavar="FILE", help="Where to. Default: stdout.")
    @click.option("--from", "from_ns", type=time, default="0s", metavar="TIME", help="From this virtual time on.")
    @click.option("--to", "to_ns", type=time, metavar="TIME", help="Up to this virtual time.")
    @click.option("--branch", metavar="NAME", help="Only this branch. Default: all; of packets, the first.")
    @click.option("--vm", type=click.IntRange(min=0), metavar="N",
                  help="Packets: what this machine's interface saw. Default: what all have sent.")  # fmt: skip
    @click.option("--link", "links", type=_Link(), multiple=True, metavar="FROM:TO",
                  help="Packets: only of this direction.")  # fmt: skip
    @with_recording
    @debug
    def export(file: str, **options: Any) -> None:
        """Write a recording as JSON Lines, or what its network carried for Wireshark.

        JSON Lines are header, inputs, events, packets, failures, checkpoints. Packets that were not recorded are had
        by living through the history again, which is verified. They are written as pcapng: times to the nanosecond,
        an interface for each machine, and a comment on what was lost, corrupted, reordered or duplicated.

        \b
        Examples:
          cc-tui export bug.ccrec > bug.jsonl
          cc-tui export bug.ccrec --format pcap --output bug.pcapng
          tshark -r bug.pcapng -Y 'frame.comment contains "lost"'
        """
        from cc_tui.exports import ExportOptions, export

        export(file, ExportOptions(**options))

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
    @click.option("--bug", type=click.IntRange(min=1), metavar="N",
                  help="Only up to where bug N is found out, and say that it is back.")  # fmt: skip
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
          cc-tui replay bug.ccrec --bug 1
        """
        from cc_tui.recordings import ReplayOptions, replay

        if options["bug"] is not None:
            others = [name for name in ("checkpoint", "ticks", "branch") if options[name] is not None]
            if others:
                raise click.UsageError(f"--{others[0]} cannot be given with --bug, which says where it ends")
        code = replay(file, ReplayOptions(**options))
        if code:
            raise ExitError(code)

    return replay


class _WithProperty(click.Command):
    """A command whose words after `--` are not click's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keeps them as the parameter `words`."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        ctx.params["words"] = args[at + 1 :]
        return rest


def _check(debug: Callable[[Any], Any], _: click.ParamType[Any]) -> click.Command:
    @click.command(cls=_WithProperty, options_metavar="[OPTIONS]")
    @click.argument("files", metavar="FILE... -- PROPERTY", nargs=-1, required=True)
    @with_recording
    @_JSON
    @debug
    def check(files: tuple[str, ...], words: list[str], **options: Any) -> None:
        """Judge a property, written now, over recordings: all their branches, unless it ends with `on BRANCH,...`.

        PROPERTY is what `check` takes in the command language; see docs/scripts.md. Ends with 0 if it has passed over
        all of them together, with 1 if not.

        \b
        Examples:
          cc-tui check *.ccrec -- never console any matches 'panic|Oops'
          cc-tui check bug.ccrec -- always memory vm0 jiffies_64 u64 '>' 0 at tcp_sendmsg
          cc-tui check bug.ccrec --json -- rules.py:one_leader
        """
        if not words:
            raise click.UsageError("what to check is missing; write it after --")
        from cc_tui.check import check

        code = check(files, words, **options)
        if code:
            raise ExitError(code)

    return check


def _triage(debug: Callable[[Any], Any], time: click.ParamType[Any]) -> click.Command:
    @click.command()
    @_FILE
    @click.option("--bug", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                  help="Which one, as `info` numbers them.")  # fmt: skip
    @click.option("--format", "form", type=click.Choice(["markdown", "json", "html"]),
                  help="Default: by the name of the output, else markdown.")  # fmt: skip
    @click.option("-o", "--output", metavar="FILE", help="Where to. Default: stdout.")
    @click.option("--window", "window_ns", type=time, default="2s", show_default=True, metavar="TIME",
                  help="How far before the failure messages are looked at.")  # fmt: skip
    @with_recording
    @debug
    def triage(file: str, images: tuple[str, ...], observers: tuple[str, ...], **options: Any) -> None:
        """Report a bug of a recording: what failed, the exact moment, what led to it, and how to see it again.

        The history is lived through again, verified, to capture the messages that led to the failure. Markdown is for
        an issue, JSON for programs (docs/triage.md), HTML is one file to open in a browser.

        \b
        Examples:
          cc-tui triage bug.ccrec
          cc-tui triage bug.ccrec --bug 2 -o bug.html
        """
        from cc_tui.cli_shell import triage_recording

        if options["window_ns"] <= 0:
            raise UsageError("--window of 0 holds no messages", hint="give a time, as 2s")
        triage_recording(file, images, observers, **options)

    return triage
