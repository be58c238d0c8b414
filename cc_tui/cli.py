"""The command line: what the options mean, and which module does the work.

Imports little: each command imports what it needs when it runs. Not asked for a plain headless boot: see plain.py.
"""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING, Any

import click

from cc_tui import cli_recordings, cli_shell, diagnostics
from cc_tui.diagnostics import ExitCode, ExitError
from chaoscontrol import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from cc_tui.options import LaunchOptions

EXAMPLES = """\b
Examples:
  cc-tui                                     the interface, on the images that come with cc-tui
  cc-tui --vms 3 --seed 7                    the same with three machines
  cc-tui --scenario raft                     three Raft nodes; inject faults with f
  cc-tui --kernel vmlinux --initrd my.cpio   your own guest
  cc-tui bug.ccrec                           a recording: walk in it, branch from it
  cc-tui repl --scenario raft                the same language line by line
  cc-tui --scenario raft --script test.cc    the same from a file; `assert` makes it a test
  cc-tui boot vmlinux my.cpio --until ready  without the interface
  cc-tui --scenario raft --record my.ccrec   record the session; look at it with info, events, replay
  cc-tui --batch --scenario raft --time 600s search for faults that break the raft guest

\b
Exit codes: 0 nothing failed, 1 the guest failed, 2 usage, 3 engine error, 4 time limit, 130 interrupted.
"""


class _Parsed(click.ParamType[Any]):
    """A parameter read by a function of cc_tui.options."""

    def __init__(self, name: str, function: str) -> None:
        self.name = name
        self._function = function

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        from cc_tui import options
        from chaoscontrol.errors import UsageError

        try:
            return getattr(options, self._function)(value)
        except UsageError as e:
            self.fail(str(e), param, ctx)


SIZE = _Parsed("size", "parse_size")
TIME = _Parsed("time", "parse_time_ns")
COUNT = _Parsed("count", "parse_count")
SEED = _Parsed("seed", "parse_seed")


def _set_debug(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        diagnostics.set_debug(True)


_DEBUG = click.option("--debug", is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks.")
_GUEST = (
    click.option("--cmdline", metavar="TEXT", help="Kernel command line, instead of the default one."),
    click.option("--append", metavar="TEXT", default="", help="Added to the kernel command line."),
    click.option("--memory", type=SIZE, default="256M", show_default=True, help="Memory of a machine."),
    click.option("--seed", type=SEED, default="0", show_default=True, help="Seed of everything random."),
    click.option("--quantum", type=TIME, default="100us", show_default=True, help="Virtual length of a tick."),
    click.option("--vcpu", type=click.Choice(["soft", "kvm"]), default="soft", show_default=True, help="vCPU kind."),
    _DEBUG,
)
_FILES = (
    click.option("--kernel", metavar="FILE", help="A vmlinux, a bzImage, or an included one. Default: vmlinux."),
    click.option(
        "--initrd",
        metavar="FILE",
        help="Initramfs, or an included one: hello, raft, tools. Default: hello, with the included kernel.",
    ),
)


_SCENARIO = click.option(
    "--scenario", metavar="NAME", help="What to run: a name or a .toml file, perhaps with /VARIANT."
)
_RECORD = (
    click.option(
        "--record",
        metavar="FILE",
        help="Record the session into FILE, as .ccrec, while it goes on. Default: a file in the state directory.",
    ),
    click.option("--no-record", is_flag=True, help="Record nothing."),
    click.option("--self-contained", is_flag=True, help="Recording: put the guest images into it."),
    click.option("--record-packets", is_flag=True, help="Recording: put what the network carries into it."),
)
_SCHEDULE = click.option("--schedule", metavar="FILE", help="Faults to come, a TOML file.")
_BATCH = (
    click.option("--batch", is_flag=True, help="Search for faults that break a scenario, without the interface."),
    click.option(
        "--rounds", type=int, metavar="N", help="Batch: rounds of branches. Default: 10, or what --time allows."
    ),
    click.option("--branches", type=int, default=50, show_default=True, metavar="N", help="Batch: branches per round."),
    click.option("--ticks", type=int, metavar="N", help="Batch: ticks of chaos per branch. Default: the scenario's."),
    click.option("--time", "time_limit", type=TIME, metavar="TIME", help="Batch: wall-clock limit, as 600s."),
    click.option("--workers", type=int, metavar="N", help="Batch: processes. Default: one per processor."),
    click.option("--stop-after", type=int, metavar="N", help="Batch: end after N failing branches."),
    click.option("--output", metavar="DIR", help="Batch: where failures and the summary are kept."),
    click.option("--json", "as_json", is_flag=True, help="Batch: the summary as JSON. Script: JSON for each command."),
    click.option("--junit", metavar="FILE", help="Batch: write the properties as JUnit XML."),
    click.option("--replay", metavar="FILE", help="Batch: run a failure again that --output kept."),
)
_BATCH_NAMES = (
    "batch", "scenario", "rounds", "branches", "ticks", "time_limit", "workers", "stop_after", "output", "as_json",
    "junit", "replay",
)  # fmt: skip


def _vms_option(default: int) -> Callable[[Any], Any]:
    help_text = "Number of machines."
    return click.option("--vms", type=int, default=default, show_default=True, metavar="N", help=help_text)


def _with(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Applies click decorators in the order in which --help shows them."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _open_interface(options: LaunchOptions, *, record: bool = True) -> None:
    from cc_tui.opening import configure

    configure(options)  # a mistake on the command line is said before the screen is taken
    if options.record is None and record:
        options = _recorded_by_default(options)
    from cc_tui.tui.app import run_app

    code = run_app(options)
    if options.record is not None and os.path.exists(options.record):
        diagnostics.note(f"recorded; to live through it again: cc-tui replay {shlex.quote(options.record)}")
    if code:
        raise ExitError(code)


def _refuse_no_record(no_record: bool, options: dict[str, Any]) -> None:
    for name in ("record", "record_packets"):
        if no_record and options[name]:
            raise click.UsageError(f"--no-record cannot be given with --{name.replace('_', '-')}")


def _recorded_by_default(options: LaunchOptions) -> LaunchOptions:
    """With a file in the state directory to record into; without one where that cannot be had, which is said."""
    from cc_tui.kept_recordings import new_session_path

    try:
        path = new_session_path(time.strftime("%Y%m%d-%H%M%S"))
        path.touch()
    except OSError as e:
        diagnostics.note(f"{diagnostics.PROGRAM}: the session is not recorded: {e}")
        return options
    return options.replace(record=str(path))


def _given(ctx: click.Context) -> tuple[str, ...]:
    """Names of the options that stand on the command line."""
    return tuple(
        name
        for name in ctx.params
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE and ctx.params[name] is not None
    )


def _refuse_what_the_scenario_says(ctx: click.Context) -> None:
    for name in ("kernel", "initrd", "cmdline", "append", "memory", "vcpu"):
        if name in _given(ctx):
            raise click.UsageError(f"--{name} cannot be given with a scenario, which says it")


def _run_batch(ctx: click.Context, batch: dict[str, Any], others: dict[str, Any]) -> int:
    from cc_tui.batch import BatchOptions, run_batch

    def given(name: str) -> Any:
        """What stands on the command line; None for a default, which is the scenario's to say."""
        return others[name] if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE else None

    _refuse_what_the_scenario_says(ctx)
    if batch["scenario"] is None and batch["replay"] is None:
        from chaoscontrol.scenario import scenario_names

        raise click.UsageError(f"--batch needs --scenario: a .toml file, or one of {', '.join(scenario_names())}")
    limit_ns = batch.pop("time_limit")
    return run_batch(
        BatchOptions(
            **batch,
            vms=given("vms"),
            seed=given("seed"),
            quantum_ns=given("quantum"),
            time_s=None if limit_ns is None else limit_ns / 1e9,
        )
    )


@click.group(
    cls=cli_shell.FileGroup,
    invoke_without_command=True,
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@_with(_vms_option(1), *_FILES, *_GUEST, _SCENARIO, _SCHEDULE, cli_shell.SCRIPT, *_RECORD, *_BATCH)
@click.version_option(__version__, message="cc-tui %(version)s")
@click.pass_context
def cli(ctx: click.Context, **options: Any) -> None:
    """Watch, rewind and branch a deterministic cluster of Linux machines.

    Without a command it opens the interface.
    """
    if ctx.invoked_subcommand is not None:
        if options["script"] is not None and ctx.invoked_subcommand != "open":
            raise click.UsageError(f"--script cannot be given with {ctx.invoked_subcommand}")
        return
    script = options.pop("script")
    batch = {name: options.pop(name) for name in _BATCH_NAMES}
    schedule = options.pop("schedule")
    record = {name: options.pop(name) for name in ("record", "self_contained", "record_packets")}
    no_record = options.pop("no_record")
    _refuse_no_record(no_record, record)
    if record["self_contained"] and record["record"] is None:
        raise click.UsageError("--self-contained needs --record")
    if batch.pop("batch"):
        if record["record"] is not None or record["record_packets"]:
            raise click.UsageError("--record is for the interface; --batch keeps what fails by itself")
        if script is not None:
            raise click.UsageError("--script cannot be given with --batch")
        if schedule is not None:
            raise click.UsageError("--schedule cannot be given with --batch, which draws its own")
        raise ExitError(_run_batch(ctx, batch, options))
    for name in batch:
        if name != "scenario" and name in _given(ctx) and not (name == "as_json" and script is not None):
            raise click.UsageError(f"--{name.replace('_', '-')} needs --batch")
    if batch["scenario"] is not None:
        _refuse_what_the_scenario_says(ctx)
    from cc_tui.options import launch_options

    launch = launch_options(**options, **record, scenario=batch["scenario"], schedule=schedule, given=_given(ctx))
    if script is not None:
        cli_shell.run_script(launch, script, as_json=batch["as_json"])
        return
    if not diagnostics.has_terminal():
        diagnostics.error("the interface needs a terminal; without one use `cc-tui boot`, `cc-tui demo` or --script")
        raise ExitError(ExitCode.USAGE)
    _open_interface(launch, record=not no_record)


@cli.command()
@click.argument("kernel", metavar="KERNEL")
@click.argument("initrd", metavar="[INITRD]", required=False)
@_with(*_GUEST)
@click.option("--until", metavar="TEXT", help="Stop when the console has shown this text.")
@click.option("--max-vtime", type=TIME, metavar="TIME", help="Stop after this much virtual time, as 5s.")
@click.option("--max-instructions", type=COUNT, metavar="N", help="Stop after exactly N instructions, as 250M.")
@click.option("--json", "as_json", is_flag=True, help="Print statistics as JSON instead of the console.")
def boot(**parameters: Any) -> None:
    """Run one machine without the interface, its console on stdout.

    KERNEL is an ELF vmlinux or a bzImage, INITRD an initramfs, each a file or the name of an included image (vmlinux,
    hello, raft, tools). Without a limit it runs until the guest powers off, resets, crashes or halts for good.

    \b
    Examples:
      cc-tui boot vmlinux hello --max-vtime 5s
      cc-tui boot build/vmlinux my.cpio --until 'login:' --json
    """
    from cc_tui import boot

    code = boot.boot(**parameters)
    if code:
        raise ExitError(code)


@cli.command()
@click.argument("out", metavar="OUT")
@click.option("--program", "programs", multiple=True, metavar="PROGRAM", help="With all it needs: a path, or a name.")
@click.option("--file", "files", multiple=True, metavar="GUEST=HOST", help="A file, under another path.")
@click.option("--tree", "trees", multiple=True, metavar="GUEST=DIR", help="Everything below a directory.")
@click.option("--root", metavar="DIR", default="/", help="Where programs are, as a container. Default: this system.")
@click.option("--run", metavar="COMMAND", help="What the machine runs, by /bin/sh, once it is up. Default: a shell.")
@click.option("--init", metavar="FILE", help="A program that is process 1 itself; nothing else comes with it.")
@_DEBUG
def pack(**options: Any) -> None:
    """Make an initramfs of programs of this system, or of a container's files.

    OUT holds the `tools` image (init, busybox, cc-sdk, the guest agent), the programs and files named, and the
    interpreters and shared libraries that they need. What a program opens by itself while it runs, as plug-ins and
    data, is for --file and --tree. OUT is compressed if its name ends with .zst. PROGRAM, FILE, GUEST=HOST and
    GUEST=DIR may be given more than once.

    \b
    Examples:
      cc-tui pack redis.cpio --program redis-server --program redis-cli
      cc-tui pack app.cpio.zst --tree /opt/app=build --run '/opt/app/bin/serve --port 80'
      cc-tui pack pg.cpio --root my-container --program /usr/lib/postgresql/15/bin/postgres
    """
    from cc_tui.packing import PackOptions
    from cc_tui.packing import pack as make

    make(PackOptions(**options))


@cli.command()
@click.option("--scenario", metavar="NAME", default="raft", show_default=True, help="What to run.")
@click.option("--seed", type=SEED, default="0", show_default=True, help="Seed of everything random.")
@_DEBUG
@click.pass_context
def demo(ctx: click.Context, scenario: str, seed: int) -> None:
    """Open the interface on a small cluster; without a terminal run it headless and print a summary."""
    from cc_tui.options import launch_options

    launch = launch_options(scenario=scenario, seed=seed, given=_given(ctx))
    if diagnostics.has_terminal():
        _open_interface(launch)
        return
    from cc_tui.demo import run_demo

    code = run_demo(launch)
    if code:
        raise ExitError(code)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@_DEBUG
def locate(as_json: bool) -> None:
    """Print where cc-tui keeps its files: configuration, state, caches, guest images."""
    from cc_tui.places import print_places

    print_places(as_json=as_json)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@_DEBUG
def doctor(as_json: bool) -> None:
    """Say what works on this host: the vCPU kinds, and why one does not."""
    from cc_tui.doctor import print_findings

    code = print_findings(as_json=as_json)
    if code:
        raise ExitError(code)


@cli.command()
@click.argument("what", metavar="RECORDING|SCENARIO")
@click.option("--vm", type=int, default=0, show_default=True, metavar="N", help="The machine that gdb sees.")
@click.option("--port", type=int, default=1234, show_default=True, metavar="P", help="Local TCP port; 0: any free one.")
@click.option("--at", metavar="PLACE", help="Begin here: a moment, a time. Default: a recording's end.")
@click.option("--seed", type=SEED, help="Scenario: seed of everything random.")
@click.option("--once", is_flag=True, help="End with the first connection.")
@cli_shell.with_recording
@_DEBUG
def gdb(what: str, seed: int | None, images: tuple[str, ...], observers: tuple[str, ...], **options: Any) -> None:
    """Serve one machine to gdb, with reverse execution; the whole cluster moves with it.

    WHAT is a .ccrec file, or a scenario as for --scenario. `monitor` in gdb takes cc-tui's own commands.

    \b
    Examples:
      cc-tui gdb recordings/raft-double-vote.ccrec --vm 1
      gdb vmlinux -ex 'target remote :1234' -ex 'watch jiffies' -ex reverse-continue
    """
    from cc_tui.gdb.serve import serve
    from cc_tui.options import launch_options

    if what.endswith(".ccrec"):
        serve(what, **options, images=images, observers=observers)
        return
    launch = (
        launch_options(scenario=what) if seed is None else launch_options(scenario=what, seed=seed, given=("seed",))
    )
    serve(launch, **options)


@cli.command()
@click.argument("program", metavar="[RECORDING|SCENARIO]", required=False)
@click.option(
    "--port", type=int, metavar="P", help="Local TCP port instead of standard input and output; 0: any free one."
)
@_DEBUG
def dap(program: str | None, port: int | None) -> None:
    """Serve an editor by the Debug Adapter Protocol, with steps and continues both ways.

    The client's `launch` names what is opened: {"program": "bug.ccrec", "at": "1.5s"}. docs/editors.md has settings
    for some editors. Threads are machines; the whole cluster moves together.

    \b
    Examples:
      cc-tui dap                                      what an editor starts
      cc-tui dap recordings/raft-double-vote.ccrec --port 4711
    """
    from cc_tui.dap.serve import serve

    serve(program, port=port, clock=time.monotonic)


@cli.command()
@click.argument("recording", metavar="[RECORDING]", required=False)
@_with(_vms_option(1), *_FILES, *_GUEST, _SCENARIO, _SCHEDULE, *_RECORD)
@cli_shell.AT
@cli_shell.with_recording
@click.pass_context
def repl(ctx: click.Context, recording: str | None, **options: Any) -> None:
    """The command language line by line, with history and completion; `help` explains it.

    Without a terminal, standard input is a script.

    \b
    Examples:
      cc-tui repl --scenario raft
      cc-tui repl bug.ccrec
      echo 'expect "guest> "' | cc-tui repl
    """
    from cc_tui.options import launch_options

    about = {name: options.pop(name) for name in ("images", "observers", "at")}
    if recording is not None:
        others = [name for name in _given(ctx) if name not in (*about, "recording")]
        if others:
            raise click.UsageError(f"--{others[0].replace('_', '-')} cannot be given with a recording, which says it")
        cli_shell.repl_recording(recording, **about)
        return
    if any(about.values()):
        raise click.UsageError("--image, --trust-observer and --at are about a recording")
    no_record = options.pop("no_record")
    _refuse_no_record(no_record, options)
    if options["scenario"] is not None:
        _refuse_what_the_scenario_says(ctx)
    launch = launch_options(**options, given=_given(ctx))
    if launch.record is None and not no_record and diagnostics.has_terminal():
        launch = _recorded_by_default(launch)
    cli_shell.run_repl(launch)


cli_shell.add_open(cli, _DEBUG)
cli_recordings.add_commands(cli, _DEBUG, TIME)


def run_command_line(words: list[str]) -> None:
    """Does what the words after the program's name say. Raises ExitError, or what diagnostics.run() explains."""
    if "_CC_TUI_COMPLETE" in os.environ:
        cli.main(prog_name=diagnostics.PROGRAM)  # a shell asks for completions
        return
    try:
        # Not cli.main(): it writes to stderr by itself when interrupted.
        with cli.make_context(diagnostics.PROGRAM, words) as context:
            cli.invoke(context)
    except click.exceptions.Exit as e:
        if e.exit_code:
            raise ExitError(e.exit_code) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as e:
        context = getattr(e, "ctx", None)
        hint = f"; see {context.command_path} --help" if context is not None else ""
        diagnostics.error(e.format_message().rstrip(".") + hint)
        raise ExitError(ExitCode.USAGE) from None
