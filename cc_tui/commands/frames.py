"""The commands about call stacks and source lines: what called what, out of a call and back to it, line by line.

A frame is chosen with `frame`, `up` and `down`; it is meant as long as the cursor stays where it is. What a step leads
to is shown as a frame, with the text of its source line where the host has the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cc_tui.commands.addresses import Address, OnMachine
from cc_tui.commands.language import CommandError, quote
from chaoscontrol.images import images_dir

if TYPE_CHECKING:
    from cc_tui.commands.bench import Bench
    from chaoscontrol.debug import DebugStop
    from chaoscontrol.symbols.frames import Frame, Stack
    from chaoscontrol.symbols.lines import SourceLine

LISTED_LINES = 10
SOURCE_BYTES_MAX = 16 << 20


# ---- showing --------------------------------------------------------------------------------------------------------


def frame_data(frame: Frame) -> dict[str, object]:
    """A frame for a program."""
    source = frame.source
    return {
        "level": frame.level, "address": hex(frame.address), "sp": hex(frame.sp), "symbol": frame.symbol,
        "offset": frame.offset, "module": frame.module, "user": frame.is_user, "found_by": str(frame.found_by),
        "file": None if source is None else source.file, "line": None if source is None else source.line,
    }  # fmt: skip


def _with_text(frame: Frame) -> list[str]:
    """A frame, and its source line where the host has it."""
    text = None if frame.source is None else _source_text(frame.source)
    return [str(frame), *([] if text is None else [f"{frame.source.line if frame.source else 0:6} {text}"])]


def source_path(file: str) -> Path | None:
    """A source file on the host: as the compiler named it, from here, or from this program's checkout."""
    roots = (Path(), Path(images_dir()).parents[1])
    return next((root / file for root in roots if (root / file).is_file()), None)


def source_lines(file: str) -> list[str] | None:
    """The lines of a source file; None if the host has not got it."""
    path = source_path(file)
    try:
        if path is None or path.stat().st_size > SOURCE_BYTES_MAX:
            return None
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None


def _source_text(source: SourceLine) -> str | None:
    lines = source_lines(source.file)
    return lines[source.line - 1] if lines is not None and 0 < source.line <= len(lines) else None


def _stack(bench: Bench, vm: int) -> Stack:
    return bench.reader(vm).running()


def _chosen(bench: Bench, vm: int) -> Frame:
    """The frame that is meant. Raises CommandError if the stack is another one by now."""
    stack, level = _stack(bench, vm), bench.frame_level(vm)
    if level >= len(stack):
        raise CommandError(f"there is no frame {level}", hint=f"0 to {len(stack) - 1}")
    return stack.frames[level]


def _arrived(bench: Bench, vm: int, stop: DebugStop) -> None:
    """Where a movement led."""
    if stop.hit is None and not stop.causes:
        bench.answer(["nothing was met"], {"met": []})
        return
    frame = _stack(bench, vm).frames[0]
    bench.answer(_with_text(frame), frame_data(frame))


@dataclass(frozen=True, slots=True)
class ShowStack(OnMachine):
    """The calls that have not returned, of what runs or of a thread."""

    pid: int | None = None

    @property
    def text(self) -> str:
        return self.words("backtrace", *([] if self.pid is None else [str(self.pid)]))

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        reader = bench.reader(vm)
        if self.pid is None:
            stack, chosen = reader.running(), bench.frame_level(vm)
        else:
            task = None if reader.linux is None else reader.linux.tasks().find(self.pid)
            if task is None:
                raise CommandError(f"there is no thread {self.pid}", hint="`ps` lists processes")
            stack, chosen = reader.of(task), 0
        lines = [f"{'*' if frame.level == chosen else ' '} {frame}" for frame in stack]
        lines += [] if stack.is_whole else [f"  {stack.end}"]
        data = {"frames": [frame_data(frame) for frame in stack], "end": stack.end, "whole": stack.is_whole}
        bench.answer([*lines, *stack.notes], data)


@dataclass(frozen=True, slots=True)
class ChooseFrame(OnMachine):
    """A frame to be meant by `finish`, `reverse-finish` and `list`."""

    level: int | None = None
    """None: the one that is chosen; shown only."""
    by: int = 0
    """So many further out, or in, from there."""

    @property
    def text(self) -> str:
        if self.by:
            name = "up" if self.by > 0 else "down"
            return self.words(name, *([] if abs(self.by) == 1 else [str(abs(self.by))]))
        return self.words("frame", *([] if self.level is None else [str(self.level)]))

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        stack, level = _stack(bench, vm), bench.frame_level(vm)
        wanted = (level if self.level is None else self.level) + self.by
        if not 0 <= wanted < len(stack):
            raise CommandError(f"there is no frame {wanted}", hint=f"the stack has 0 to {len(stack) - 1}")
        bench.choose_frame(vm, wanted)
        bench.answer(_with_text(stack.frames[wanted]), frame_data(stack.frames[wanted]))


# ---- moving ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finish(OnMachine):
    """Forward to where the chosen frame returns, or back to where it was called."""

    moves: ClassVar[bool] = True
    forward: bool = True

    @property
    def text(self) -> str:
        return self.words("finish" if self.forward else "reverse-finish")

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        frame = _chosen(bench, vm)
        calls = bench.debugger.calls(vm)
        _arrived(bench, vm, calls.finish(frame.level) if self.forward else calls.reverse_finish(frame.level))


@dataclass(frozen=True, slots=True)
class StepLine(OnMachine):
    """To another source line, into calls or over them, or to lines before."""

    moves: ClassVar[bool] = True
    count: int = 1
    """Negative: back."""
    over: bool = False

    @property
    def text(self) -> str:
        name = f"{'' if self.count > 0 else 'reverse-'}{'next' if self.over else 'step'}-line"
        return self.words(name, *([] if abs(self.count) == 1 else [str(abs(self.count))]))

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        bench.reader(vm)
        steps = bench.debugger.line_steps(vm)
        step = steps.forward if self.count > 0 else steps.backward
        for _ in range(abs(self.count)):
            step(over=self.over)
        frame = _stack(bench, vm).frames[0]
        bench.answer(_with_text(frame), frame_data(frame))


# ---- source ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ShowLine(OnMachine):
    """Where the code of a source line is, or which line an address is of."""

    address: Address

    @property
    def text(self) -> str:
        return self.words("line", self.address.text)

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        spots = self.address.spots(bench, vm)
        reader = bench.reader(vm)
        lines: list[str] = []
        rows: list[dict[str, object]] = []
        for spot in spots:
            span = reader.line_at(spot.address)
            code = "" if span is None else f" is {span.source}, code from {span.low:#x} to {span.high:#x}"
            about = f" <{spot.about}>" if spot.about else ""
            lines.append(f"{spot.address:#x}{about}{code or ' is of no source line that is known'}")
            source = None if span is None else span.source
            rows.append({
                "address": hex(spot.address), "file": None if source is None else source.file,
                "line": None if source is None else source.line,
            })  # fmt: skip
        bench.answer(lines, rows)


@dataclass(frozen=True, slots=True)
class ListSource(OnMachine):
    """The source around the chosen frame, or around a line or a function."""

    address: Address | None = None
    count: int = LISTED_LINES

    @property
    def text(self) -> str:
        words = [] if self.address is None else [self.address.text]
        return self.words("list", *words, *([] if self.count == LISTED_LINES else [str(self.count)]))

    def run(self, bench: Bench) -> None:
        vm = self.vm(bench)
        if self.address is None:
            frame = _chosen(bench, vm)
            here, what = frame.source, str(frame)
        else:
            span = bench.reader(vm).line_at(self.address.find(bench, vm))
            here, what = None if span is None else span.source, self.address.text
        if here is None:
            raise CommandError(f"no source line is known of {what}", hint="`backtrace` shows frames that have one")
        text = source_lines(here.file)
        if text is None:
            raise CommandError(f"the source file {quote(here.file)} is not here", hint="start where it can be found")
        first = max(here.line - self.count // 2, 1)
        shown = list(enumerate(text[first - 1 : first - 1 + self.count], first))
        lines = [f"{'=>' if number == here.line else '  '} {number:6} {line}".rstrip() for number, line in shown]
        bench.answer(lines, {"file": here.file, "line": here.line, "first": first, "text": [line for _, line in shown]})


@dataclass(frozen=True, slots=True)
class UseSymbols(OnMachine):
    """A file with the symbols and source lines of a program, which the guest runs without them."""

    path: str = ""

    @property
    def text(self) -> str:
        return self.words("symbol-file", quote(self.path))

    def run(self, bench: Bench) -> None:
        files = bench.reader(self.vm(bench)).files
        image = files.add_symbols(str(Path(self.path).expanduser()))
        count = len(image.symbols)
        bench.answer([f"{count} symbols from {self.path}"], {"path": self.path, "symbols": count})


__all__ = [
    "ChooseFrame", "Finish", "ListSource", "ShowLine", "ShowStack", "StepLine", "UseSymbols", "frame_data",
    "source_lines", "source_path",
]  # fmt: skip
