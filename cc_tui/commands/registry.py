"""The commands by name: what a person may write, and what it parses to.

One table serves the `:` line, keys, scripts, help and completion.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cc_tui.commands import (
    branches,
    catching,
    checks,
    debugging,
    differences,
    edits,
    engine,
    faults,
    frames,
    guests,
    packets,
    reports,
    triage,
)
from cc_tui.commands.addresses import Address
from cc_tui.commands.conditions import forms, read_condition
from cc_tui.commands.hindsight import read_check
from cc_tui.commands.language import (
    CommandError,
    Word,
    logical_lines,
    parse_count,
    parse_duration,
    parse_level,
    parse_speed,
    split,
    text_to_bytes,
)
from cc_tui.commands.likelihood import read_likelihood
from cc_tui.commands.place import PLACES, Place
from cc_tui.commands.probe import Probe
from cc_tui.options import parse_seed
from chaoscontrol.errors import UsageError

QUANTUM_NS_UNKNOWN = 100_000
INFO = ("registers", "points", "ps", "maps", "symbol", "backtrace", "frame", "line", "packets")
"""Commands that `info` knows."""
INFO_AS_GDB_HAS_IT = {"breakpoints": "points", "watchpoints": "points", "threads": "ps", "stack": "backtrace"}


_OPTIONAL = re.compile(r"\[[^]]*\]\s*")

SAID_ELSEWHERE = {
    "processes": ("ps",),
    "tasks": ("ps",),
    "threads": ("ps",),
    "position": ("where",),
    "moment": ("where",),
    "print": ("registers", "x"),
    "p": ("registers", "x"),
    "examine": ("x",),
    "memory": ("x", "write"),
    "checkpoint": ("mark",),
    "snapshot": ("mark",),
    "tbreak": ("run-to",),
    "rewind": ("reverse-step", "goto"),
    "back": ("reverse-step", "goto"),
    "kill": ("inject process_kill",),
    "exit": ("quit",),
    "fault": ("inject",),
    "log": ("events", "console"),
    "wait": ("expect", "until"),
}
"""What other tools call what is called something else here: for who tries that."""


@dataclass(frozen=True, slots=True)
class FrontendCommand:
    """A command for whatever shows the session: the interface, or nothing in a script."""

    name: str
    argument: str = ""

    @property
    def text(self) -> str:
        return f"{self.name} {self.argument}".strip()


Command = engine.EngineCommand | FrontendCommand


@dataclass(frozen=True, slots=True)
class Arguments:
    """The words after a command's name, taken one by one."""

    spec: "Spec"
    words: list[Word]
    quantum_ns: int

    def next(self) -> str:
        """The next word; raises CommandError with the usage if there is none."""
        if not self.words:
            raise CommandError(f"{self.spec.name}: something is missing", hint=f"usage: {self.spec.usage}")
        return self.words.pop(0).text

    def more(self) -> bool:
        return bool(self.words)

    def rest(self) -> list[str]:
        """All that are left."""
        taken = [word.text for word in self.words]
        self.words.clear()
        return taken

    def done(self) -> None:
        """Raise CommandError if words are left."""
        if self.words:
            word = self.words[0]
            machine = ", where VM is vm0, vm1, ..." if "[VM]" in self.spec.arguments else ""
            raise CommandError(
                f"{self.spec.name}: {word.text!r} is too much", where=f"column {word.column + 1}",
                hint=f"usage: {self.spec.usage}{machine}",
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spec:
    """One command as help shows it."""

    name: str
    aliases: tuple[str, ...]
    arguments: str
    summary: str
    parse: Callable[[Arguments], Command]
    example: str = ""
    forms: tuple[tuple[str, str], ...] = ()
    """What the arguments may be, and what each says, where that takes more than the summary."""

    @property
    def usage(self) -> str:
        return f"{self.name} {self.arguments}".strip()

    @property
    def needs_arguments(self) -> bool:
        """Is there something that cannot be left out?"""
        return bool(_OPTIONAL.sub("", self.arguments))


def _direction(make: Callable[[int], Command], sign: int) -> Callable[[Arguments], Command]:
    return lambda words: make(sign * (parse_count(words.next()) if words.more() else 1))


def _next(sign: int) -> Callable[[Arguments], Command]:
    def parse(words: Arguments) -> Command:
        counted = words.more() and words.words[0].text[0:1].isdecimal()
        count = sign * (parse_count(words.next()) if counted else 1)
        return catching.NextWhat(count, catching.read_what(words.rest())) if words.more() else engine.Next(count)

    return parse


def _step(sign: int) -> Callable[[Arguments], Command]:
    def parse(words: Arguments) -> Command:
        if not words.more():
            return engine.Step(sign)
        word = words.next()
        if word.replace("_", "").isdecimal():
            return engine.Step(sign * parse_count(word))
        return engine.Step(sign, _positive(parse_duration(word, words.quantum_ns)))

    return parse


def _positive(ns: int) -> int:
    if ns <= 0:
        raise CommandError("a time of 0 leads nowhere")
    return ns


def _machine(text: str) -> int:
    digits = text.removeprefix("vm")
    if not digits.isdecimal() or len(digits) > 4:
        raise CommandError(f"not a machine: {text!r}", hint="write its number, 0 or vm0")
    return int(digits)


def _pattern(words: Arguments) -> str:
    pattern = words.next()
    if not 1 <= len(pattern.encode()) <= 255:
        raise CommandError("a text to wait for has 1 to 255 bytes")
    return pattern


def _until(words: Arguments) -> Command:
    pattern = _pattern(words)
    machine = limit_ns = None
    while words.more():
        word = words.next()
        if word.removeprefix("vm").isdecimal() and machine is None:
            machine = _machine(word)
        else:
            limit_ns = _positive(parse_duration(word, words.quantum_ns))
    return engine.Until(pattern, machine, limit_ns)


def _optional_count(words: Arguments) -> list[int]:
    return [parse_count(words.next())] if words.more() else []


def _type(words: Arguments) -> Command:
    machine, data = _machine(words.next()), text_to_bytes(words.next())
    if not data:
        raise CommandError("type: nothing to type")
    return engine.Type(machine, data)


def _expect(words: Arguments) -> Command:
    pattern = _pattern(words)
    machine, limit_ns = None, checks.EXPECT_NS
    while words.more():
        word = words.next()
        if word == "within":
            limit_ns = _positive(parse_duration(words.next(), words.quantum_ns))
        elif machine is None:
            machine = _machine(word)
        else:
            raise CommandError(f"expect: {word!r} is too much", hint=f"usage: {words.spec.usage}")
    return checks.Expect(pattern, machine, limit_ns)


def _likelihood(words: Arguments) -> Command:
    named = words.more() and words.words[0].quoted
    return read_likelihood(words.rest(), words.quantum_ns, named=named)


def _focused(words: Arguments) -> int | None:
    """A machine, if the next word is `vm` and its number; None: the one in focus."""
    named = words.more() and words.words[0].text.startswith("vm") and words.words[0].text[2:].isdecimal()
    return _machine(words.next()) if named else None


def _only_machine(words: Arguments) -> int | None:
    """A machine where no other number could stand, so `vm` may be left out; None: the one in focus."""
    bare = words.more() and words.words[0].text.isdecimal()
    return _machine(words.next()) if bare else _focused(words)


def _address(words: Arguments) -> Address:
    return Address.read(words.next())


def _size(words: Arguments, default: int) -> int:
    return parse_count(words.next()) if words.more() else default


def _watch(how: str) -> Callable[[Arguments], Command]:
    return lambda words: debugging.SetWatch(_focused(words), how, _address(words), _size(words, 8))


def _disassemble(words: Arguments) -> Command:
    machine, address = _focused(words), None
    if words.more():
        address = _address(words)
    address = None if address is not None and address.text in ("rip", "$rip", "$pc") else address
    return guests.Disassemble(machine, address, _size(words, guests.INSTRUCTIONS_SHOWN))


def _search(words: Arguments) -> Command:
    machine, written = _focused(words), words.next()
    if re.fullmatch(r"0x(?:[0-9a-fA-F]{2})+", written):
        return guests.SearchMemory(machine, bytes.fromhex(written[2:]), written)
    if not written:
        raise CommandError("search: nothing to search for")
    return guests.SearchMemory(machine, text_to_bytes(written), written)


def _info(words: Arguments) -> Command:
    what = words.next()
    name = INFO_AS_GDB_HAS_IT.get(what, what)
    if name not in INFO:
        raise CommandError(f"info: nothing about {what!r}", hint=f"info {', '.join(INFO)}")
    return BY_NAME[name].parse(words)


def _count_of(words: Arguments) -> int:
    return parse_count(words.next()) if words.more() else 1


def _frame(words: Arguments) -> Command:
    machine = _focused(words)
    return frames.ChooseFrame(machine, parse_level(words.next()) if words.more() else None)


def _other_frame(sign: int) -> Callable[[Arguments], Command]:
    return lambda words: frames.ChooseFrame(_focused(words), None, sign * _count_of(words))


def _step_line(sign: int, *, over: bool) -> Callable[[Arguments], Command]:
    return lambda words: frames.StepLine(_focused(words), sign * _count_of(words), over)


def _list(words: Arguments) -> Command:
    machine = _focused(words)
    address = _address(words) if words.more() and not words.words[0].text.isdecimal() else None
    return frames.ListSource(machine, address, _size(words, frames.LISTED_LINES))


def _backtrace(words: Arguments) -> Command:
    return frames.ShowStack(_focused(words), *_optional_count(words))


def _inject(words: Arguments) -> Command:
    taken = [words.next(), *words.rest()]
    try:
        return faults.read_inject(taken, words.quantum_ns)
    except UsageError as error:
        raise CommandError(f"inject: {error.what}", hint=error.hint) from None


def _agent(words: Arguments) -> Command:
    machine, taken = _machine(words.next()), [words.next(), *words.rest()]
    command = faults.AskAgent(machine, tuple(taken))
    command.request()
    return command


def _compare(words: Arguments) -> Command:
    a, b, until_ns = words.next(), None, None
    if words.more() and words.words[0].text != "until":
        b = words.next()
    if words.more():
        if words.next() != "until":
            raise CommandError("compare: it takes two branches", hint=f"usage: {words.spec.usage}")
        until_ns = _positive(parse_duration(words.next(), words.quantum_ns))
    return differences.Compare(a, b, until_ns)


def _triage(words: Arguments) -> Command:
    number, form, path, window_ns = 1, None, None, triage.WINDOW_NS
    if words.more() and words.words[0].text.isdecimal():
        number = parse_count(words.next())
    while words.more():
        word = words.next()
        if word == "within":
            window_ns = _positive(parse_duration(words.next(), words.quantum_ns))
        elif word in triage.FORMATS and form is None:
            form = word
        elif path is None:
            path = word
        else:
            raise CommandError(f"triage: {word!r} is too much", hint=f"usage: {words.spec.usage}")
    form = form or (path and triage.format_of(path)) or "markdown"
    return triage.Triage(number, form, path, window_ns)


def _delete_branch(words: Arguments) -> Command:
    name, recursive = words.next(), words.more()
    if recursive and (word := words.next()) != branches.ALL:
        raise CommandError(f"delete-branch: {word!r} is too much", hint=f"usage: {words.spec.usage}")
    return branches.DeleteBranch(name, recursive)


def _annotate(words: Arguments) -> Command:
    first = words.next()
    return branches.Annotate(first, " ".join(words.rest())) if words.more() else branches.Annotate(None, first)


def _name(words: Arguments) -> str | None:
    return _named(words) if words.more() else None


def _named(words: Arguments) -> str:
    name = words.next()
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or not name[0].isalpha():
        raise CommandError(f"not a name: {name!r}", hint="use a letter, then letters, digits, - or _")
    return name


def _frontend(name: str, *, needs: bool = False, takes: bool = False) -> Callable[[Arguments], Command]:
    def parse(words: Arguments) -> Command:
        if not takes:
            return FrontendCommand(name)
        argument = words.next() if needs or words.more() else ""
        return FrontendCommand(name, argument)

    return parse


SPECS: tuple[Spec, ...] = (
    Spec("run", (), "", "let time pass at the chosen speed", lambda _: engine.Run()),
    Spec("pause", (), "", "stop running", lambda _: engine.Pause()),
    Spec("speed", (), "SPEED", "virtual seconds per second while running",
         lambda words: engine.Speed(parse_speed(words.next())), "speed max"),
    Spec("step", ("s",), "[N|TIME]", "forward by steps (see step-size), or by a time", _step(1), "step 20ms"),
    Spec("reverse-step", ("rs",), "[N|TIME]", "back by steps, or by a time", _step(-1)),
    Spec("step-size", (), "TIME", "what one step is",
         lambda words: engine.StepSize(_positive(parse_duration(words.next(), words.quantum_ns))), "step-size 250us"),
    Spec("tick", ("t",), "[N]", "forward by ticks", _direction(engine.Tick, 1)),
    Spec("reverse-tick", ("rt",), "[N]", "back by ticks", _direction(engine.Tick, -1)),
    Spec("insn", ("i", "stepi", "si"), "[N]", "forward by instructions of the machine in focus",
         _direction(engine.Insn, 1)),
    Spec("reverse-insn", ("ri", "reverse-stepi", "rsi"), "[N]", "back by instructions", _direction(engine.Insn, -1)),
    Spec("next", ("n",), "[N] [WHAT...]", "forward to the end of a console line, an input, a stop, or what is named",
         _next(1), "next packet vm0 vm1", catching.FORMS),
    Spec("reverse-next", ("rn",), "[N] [WHAT...]", "back to the event before, or to the one named", _next(-1),
         "reverse-next assertion failed", catching.FORMS),
    Spec("continue", ("c",), "", "on to the next landmark, or as fast as possible until something stops it",
         lambda _: engine.Continue(True)),
    Spec("reverse-continue", ("rc",), "", "back to the landmark before: a mark, an input, a fork, the start",
         lambda _: engine.Continue(False)),
    Spec("until", (), "TEXT [VM] [TIME]", "forward until a console has shown TEXT, at most for TIME", _until,
         'until "guest>" 0 5s'),
    Spec("goto", ("g",), "PLACE", "to a place: " + "; ".join(PLACES),
         lambda words: engine.Goto(Place(words.next())), "goto 2.5s"),
    Spec("branch", ("b",), "[NAME]", "a new branch from here", lambda words: engine.Fork(_name(words)), "branch retry"),
    Spec("delete-branch", (), f"BRANCH [{branches.ALL}]", "forget a branch and free its snapshots; all: and those that "
         "fork from it. Its marks go with it", _delete_branch, "delete-branch retry"),
    Spec("rename-branch", (), "BRANCH NEW", "call a branch otherwise; moments with its former name still mean it",
         lambda words: branches.RenameBranch(words.next(), _named(words)), "rename-branch b1 retry"),
    Spec("annotate", (), "[BRANCH|MARK] TEXT", "a note on a branch, this one if none is named, or on a mark; "
         "an empty one takes it away", _annotate, 'annotate retry "the second leader wins"'),
    Spec("mark", ("m",), "[NAME]", "give this moment a name", lambda words: engine.Mark(_name(words)), "mark before"),
    Spec("type", (), "VM TEXT", "type at a console; in the past this branches", _type, r'type 0 "ls\r"'),
    Spec("inject", (), "FAULT [FIELD=VALUE ...] [for=TIME]", "a fault begins here; in the past this branches", _inject,
         "inject network_partition side_a=0 side_b=1,2 for=2s"),
    Spec("heal", (), "", "every fault ends here; in the past this branches", lambda _: faults.Heal()),
    Spec("schedule", (), "FILE", "the faults of a TOML file are those to come",
         lambda words: faults.UseSchedule(words.next()), "schedule split.toml"),
    Spec("reseed", (), "SEED", "another future from here on: random numbers start anew",
         lambda words: faults.Reseed(parse_seed(words.next())), "reseed 7"),
    Spec("write", (), "VM [phys:]ADDRESS HEX", "bytes of a machine's memory become others; in the past this branches",
         lambda words: edits.WriteMemory.read(_machine(words.next()), words.next(), words.next()),
         "write 0 phys:0x1000 90cc"),
    Spec("set", (), "VM REGISTER VALUE", "a register has another value; in the past this branches",
         lambda words: edits.SetRegister.read(_machine(words.next()), words.next(), words.next()), "set 0 rax 0x10"),
    Spec("packet", (), "|".join(packets.EDITS) + " PACKET ...",
         "a packet in flight is lost, late, doubled or another; in the past this branches",
         lambda words: packets.read_packet_command([words.next(), *words.rest()], words.quantum_ns),
         "packet write 0#57>1 data+4 ff fix", packets.FORMS),
    Spec("agent", (), "VM ps|signal|run ...", "ask a machine's guest agent; its answer is an event", _agent,
         'agent 0 run "ls /data"'),
    Spec("probe", (), "VM COMMAND...", "run a program in a guest, or \"a | b\" in its shell, in no history",
         lambda words: Probe(_machine(words.next()), (words.next(), *words.rest())), "probe vm0 cat /proc/uptime"),
    Spec("assert", (), "[not] CONDITION", "an error unless a condition holds here",
         lambda words: checks.Assert(read_condition([words.next(), *words.rest()], words.quantum_ns)),
         'assert console vm0 contains "guest>"', tuple(forms())),
    Spec("expect", (), "TEXT [VM] [within TIME]", "forward until a console shows TEXT; an error if none does in time",
         _expect, 'expect "guest>" vm0 within 5s'),
    Spec("check", (), "always|never|sometimes CONDITION [at ADDRESS [VM]] [on BRANCH,...|all]",
         "a property over whole branches: of a console's lines, of events, or wherever an instruction is executed; "
         "FILE.py:NAME is a condition as well", lambda words: read_check(words.rest(), words.quantum_ns),
         "check never console any matches panic on all"),
    Spec("likelihood", (), "[PROPERTY] [samples N] [back TIME] [resolution TIME] [margin TIME] [seed N] "
         "[when CONDITION] [with FAULT ...]", "when a failure became inevitable: samples with other random numbers "
         "from earlier moments, how many of them fail, and between which two moments it was decided", _likelihood,
         "likelihood samples 10 back 500ms"),
    Spec("packets", (), "[VM|PACKET]", "the packets in flight, those of a machine, or the bytes of one, as 0#57>1: "
         "frame 57 of vm0 to vm1",
         lambda words: packets.read_packets_command([words.next()] if words.more() else []), "packets 0#57>1"),
    Spec("console", (), "VM [N]", "the last lines of a console",
         lambda words: reports.ShowConsole(_machine(words.next()), *_optional_count(words)), "console vm0 50"),
    Spec("branches", (), "", "the branches, and where they left each other", lambda _: branches.ShowBranches()),
    Spec("marks", (), "", "the marks and their moments", lambda _: branches.ShowMarks()),
    Spec("inputs", (), "", "what was given to the guests on this line of history", lambda _: reports.ShowInputs()),
    Spec("events", (), "[N] [KIND]", "the last events up to here", lambda words: reports.read_events(words.rest()),
         "events 50 fault"),
    Spec("properties", (), "", "how the properties stand here", lambda _: reports.ShowProperties()),
    Spec("registers", (), "[VM] [NAME...]", "registers of a machine",
         lambda words: reports.read_registers(_only_machine(words), words.rest()), "registers vm0 rip rsp"),
    Spec("x", (), "[VM] [phys:]ADDRESS [BYTES]", "bytes of a machine's memory",
         lambda words: reports.Examine(_focused(words), _address(words), _size(words, 64)), "x vm0 phys:0x100000 32"),
    Spec("break", ("br",), "[VM] [phys:]ADDRESS|FILE:LINE",
         "continue stops where this instruction is about to be executed",
         lambda words: debugging.SetBreak(_focused(words), _address(words)), "break vm0 schedule"),
    Spec("watch", (), "[VM] [phys:]ADDRESS [BYTES]", "continue stops where this memory is written", _watch("watch"),
         "watch jiffies_64 8"),
    Spec("rwatch", (), "[VM] [phys:]ADDRESS [BYTES]", "continue stops where this memory is read", _watch("rwatch")),
    Spec("awatch", (), "[VM] [phys:]ADDRESS [BYTES]", "continue stops where it is read or written", _watch("awatch")),
    Spec("catch", (), "WHAT...", "continue stops where something happens: packets, console texts, assertions, faults",
         lambda words: debugging.Catch(catching.read_what([words.next(), *words.rest()])), "catch packet vm0 vm1",
         catching.FORMS),
    Spec("points", (), "", "the points that continue stops at", lambda _: debugging.ShowPoints()),
    Spec("delete", ("d",), "[N]", "forget a point, or all",
         lambda words: debugging.Delete(parse_count(words.next()) if words.more() else None), "delete 1"),
    Spec("run-to", ("advance",), "[VM] ADDRESS", "forward to where this instruction is about to be executed",
         lambda words: debugging.RunTo(_focused(words), _address(words)), "run-to vm0 do_exit"),
    Spec("reverse-run-to", ("reverse-advance",), "[VM] ADDRESS", "back to where it was about to be executed",
         lambda words: debugging.RunTo(_focused(words), _address(words), False)),
    Spec("when-written", (), "[VM] [phys:]ADDRESS [BYTES]", "who wrote these bytes last, and where they came from",
         lambda words: debugging.WhenWritten(_focused(words), _address(words), _size(words, 8)),
         "when-written vm0 jiffies_64"),
    Spec("backtrace", ("bt",), "[VM] [PID]", "the calls that have not returned, of what runs or of a thread",
         _backtrace, "backtrace vm0 1"),
    Spec("frame", (), "[VM] [N]", "choose a frame of the stack; it is meant while the cursor stays", _frame, "frame 3"),
    Spec("up", (), "[VM] [N]", "the frame that called the chosen one", _other_frame(1)),
    Spec("down", (), "[VM] [N]", "the frame that it called", _other_frame(-1)),
    Spec("finish", ("fin",), "[VM]", "forward to where the chosen frame returns",
         lambda words: frames.Finish(_focused(words))),
    Spec("reverse-finish", (), "[VM]", "back to where the chosen frame was called",
         lambda words: frames.Finish(_focused(words), False)),
    Spec("step-line", ("sl",), "[VM] [N]", "forward to another source line, into calls", _step_line(1, over=False)),
    Spec("next-line", ("nl",), "[VM] [N]", "forward to another source line, over calls", _step_line(1, over=True)),
    Spec("reverse-step-line", ("rsl",), "[VM] [N]", "back to the beginning of a source line, into calls",
         _step_line(-1, over=False)),
    Spec("reverse-next-line", ("rnl",), "[VM] [N]", "back to the beginning of a source line, over calls",
         _step_line(-1, over=True)),
    Spec("list", ("l",), "[VM] [FILE:LINE|NAME] [N]", "source around the chosen frame, a line or a function", _list,
         "list main.c:20"),
    Spec("line", (), "[VM] FILE:LINE|ADDRESS", "where a source line's code is, and which line an address is of",
         lambda words: frames.ShowLine(_focused(words), _address(words)), "line main.c:20"),
    Spec("symbol-file", (), "FILE", "symbols and source lines of a program that the guest has without",
         lambda words: frames.UseSymbols(None, words.next()), "symbol-file build/server.debug"),
    Spec("disassemble", ("disas",), "[VM] [ADDRESS [N]]", "instructions; from where the machine is, unless told",
         _disassemble, "disassemble vm0 schedule 20"),
    Spec("symbol", (), "ADDRESS|NAME", "what is at an address, and where a symbol is",
         lambda words: guests.ShowSymbol(_focused(words), _address(words)), "symbol schedule"),
    Spec("search", (), "[VM] TEXT|0xHEX", "where bytes stand in a machine's memory", _search, "search vm0 0x7f454c46"),
    Spec("ps", (), "[VM]", "processes of a Linux guest, read from its memory",
         lambda words: guests.ShowProcesses(_only_machine(words)), "ps vm0"),
    Spec("maps", (), "[VM] PID", "the address space of a process of a Linux guest",
         lambda words: guests.ShowMaps(_focused(words), parse_count(words.next())), "maps vm0 1"),
    Spec("info", (), f"{'|'.join(INFO)} ...", "as gdb has it: the command of that name", _info),
    Spec("compare", (), "BRANCH [BRANCH] [until TIME]", "where two branches part, gone to the same time: first event, "
         "frame and tick; and which bugs are on which", _compare, "compare main what-if until 5s"),
    Spec("diff", (), "PLACE [PLACE]", "what differs between two places, or one and here: registers, pages, processes, "
         "consoles, network",
         lambda words: differences.ShowDiff(Place(words.next()), Place(words.next()) if words.more() else None),
         "diff main@1.5 b1@1.5"),
    Spec("triage", (), "[BUG] [markdown|json|html] [FILE] [within TIME]",
         "a report of a bug: moment, faults, machines, the messages within TIME that led to it", _triage,
         "triage 1 html bug.html"),
    Spec("vm", (), "VM", "the machine that instruction steps mean",
         lambda words: engine.Focus(_machine(words.next())), "vm 1"),
    Spec("where", (), "", "print this moment", lambda _: engine.Where()),
    Spec("save", ("save-script",), "FILE", "write this session as a script",
         lambda words: engine.Save(words.next()), "save bug.cc"),
    Spec("source", (), "FILE", "carry out a script", lambda words: engine.Source(words.next()), "source bug.cc"),
    Spec("view", (), "PANE", "show a pane: a console (0, 1, ...), all, grid, faults, properties, events, branches, "
         "network, coverage, machine", _frontend("view", needs=True, takes=True), "view machine"),
    Spec("attach", (), "", "type at the console in view; ctrl+] ends it", _frontend("attach")),
    Spec("detach", (), "", "stop typing at the console", _frontend("detach")),
    Spec("find", (), "[TEXT]", "search the console in view, upwards; again without TEXT",
         _frontend("find", takes=True), "find panic"),
    Spec("maximise", ("z",), "", "the pane in view on the whole screen, and back", _frontend("maximise")),
    Spec("copy", ("y",), "[FILE]", "copy this moment to the clipboard, or to a file", _frontend("copy", takes=True)),
    Spec("theme", (), "[NAME]", "dark or light", _frontend("theme", takes=True)),
    Spec("help", (), "[COMMAND]", "keys and commands", _frontend("help", takes=True), "help goto"),
    Spec("quit", ("q",), "", "leave", _frontend("quit")),
)  # fmt: skip
"""Every command there is."""

BY_NAME = {name: spec for spec in SPECS for name in (spec.name, *spec.aliases)}


def parse(line: str, *, quantum_ns: int = QUANTUM_NS_UNKNOWN) -> Command | None:
    """The command that a line holds, or None for a blank line or comment. Raises CommandError.

    `quantum_ns`: what a tick is in times such as `20t`.
    """
    words = split(line)
    if not words:
        return None
    spec = BY_NAME.get(words[0].text)
    if spec is None:
        raise CommandError(f"no command {words[0].text!r}", hint=_suggestion(words[0].text))
    arguments = Arguments(spec, words[1:], quantum_ns)
    try:
        command = spec.parse(arguments)
    except CommandError:
        raise
    except UsageError as error:
        raise CommandError(error.what, where=error.where, hint=error.hint) from None
    arguments.done()
    return command


def _suggestion(name: str) -> str:
    close = [spec.name for spec in SPECS if spec.name.startswith(name[:2])] if name else []
    close = list(SAID_ELSEWHERE.get(name, close))
    return f"did you mean {' or '.join(close)}?" if close else "`help` lists them"


def parse_script(text: str, *, name: str, quantum_ns: int = QUANTUM_NS_UNKNOWN) -> Iterator[tuple[int, Command]]:
    """(line number, command) of each line; CommandError names script and line. Nothing is parsed ahead of its turn."""
    for number, line in logical_lines(text.splitlines()):
        try:
            command = parse(line, quantum_ns=quantum_ns)
        except CommandError as error:
            raise CommandError(error.what, where=f"{name}:{number}", hint=error.hint) from None
        if command is not None:
            yield number, command
