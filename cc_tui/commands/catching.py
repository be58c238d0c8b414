"""What happens, as a thing to stop at: `catch` makes a point of it, `next` and `reverse-next` go to it at once.

packet FROM TO                   machine TO gets a frame that FROM sent
sent FROM [TO]                   FROM gives a frame to its network device
received TO [FROM]               a frame is put into the memory of TO
console [VM] TEXT                a console has shown TEXT
console [VM] matches REGEX       a console has ended a line that REGEX is found in
assertion [VM] [passed|failed] [TEXT]
fault [TEXT]
KIND [VM] [TEXT]                 any other event
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from cc_tui.commands.engine import EngineCommand, refuse_machine
from cc_tui.commands.language import CommandError, quote, text_to_bytes
from chaoscontrol.debug import ConsoleText, EventPoint, PacketReceived, PacketSent, assertions
from chaoscontrol.debug.conditions import ASSERTIONS
from chaoscontrol.events import EventKind
from chaoscontrol.texts import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cc_tui.commands.bench import Bench
    from chaoscontrol.debug import DebugStop

Happening: TypeAlias = PacketSent | PacketReceived | ConsoleText | EventPoint

FORMS = (
    ("packet FROM TO", "machine TO gets a frame that FROM sent"),
    ("sent FROM [TO]", "FROM gives a frame to its network device"),
    ("received TO [FROM]", "a frame is put into the memory of TO"),
    ("console [VM] TEXT", "a console has shown TEXT"),
    ("console [VM] matches REGEX", "a console has ended a line that REGEX is found in"),
    ("assertion [VM] [passed|failed] [TEXT]", "a guest's assertion is evaluated; TEXT is found in it"),
    ("fault [TEXT]", "a fault begins, happens or ends"),
    ("sdk|power|disk|network|agent|end [VM] [TEXT]", "any other event"),
)
"""Each form, and what it says."""

ASSERTION = "assertion"
PACKETS = ("packet", "sent", "received")
WHATS = (*PACKETS, "console", ASSERTION, *(kind.value for kind in EventKind if kind is not EventKind.CONSOLE))
"""The first words."""
_MACHINE = re.compile(r"(?:vm)?(\d{1,4})", re.ASCII)
_NAMED_MACHINE = re.compile(r"vm(\d{1,4})", re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
"""What re.escape has made."""
TEXT_BYTES_MAX = 255


@dataclass(frozen=True, slots=True)
class What:
    """Something that may happen, as it was written; the words are in the order that `read_what` makes of them."""

    words: tuple[str, ...]
    condition: Happening

    @property
    def text(self) -> str:
        """What `read_what` reads."""
        return " ".join(map(quote, self.words))

    def machines(self) -> list[int]:
        """Those that it names."""
        match self.condition:
            case PacketSent(source=source, target=target):
                named = [source, target]
            case PacketReceived(target=target, source=source):
                named = [target, source]
            case ConsoleText(vm=vm) | EventPoint(vm=vm):
                named = [vm]
        return [machine for machine in named if machine is not None]

    def refuse_unknown(self, bench: Bench) -> None:
        """Raise CommandError for a machine that there is not."""
        for machine in self.machines():
            refuse_machine(bench, machine)


class _Words:
    """What is left to read."""

    def __init__(self, words: Sequence[str]) -> None:
        self.left = list(words)
        self.name = self.left.pop(0)

    def machine(self) -> int:
        """A machine that has to be there."""
        word = self.left.pop(0) if self.left else ""
        match = _MACHINE.fullmatch(word)
        if match is None:
            what = f"not a machine: {word!r}" if word else "a machine is missing"
            raise CommandError(f"{self.name}: {what}", hint=f"write {_usage(self.name)}")
        return int(match[1])

    def named_machine(self) -> int | None:
        """A machine, if the next word is `vm` and its number."""
        match = _NAMED_MACHINE.fullmatch(self.left[0]) if self.left else None
        if match is None:
            return None
        self.left.pop(0)
        return int(match[1])

    def one_of(self, *choices: str) -> str | None:
        """The next word, if it is one of these."""
        return self.left.pop(0) if self.left and self.left[0] in choices else None

    def text(self) -> str | None:
        """A text, if there is one."""
        return self.left.pop(0) if self.left else None

    def done(self) -> None:
        """Raises CommandError if words are left."""
        if self.left:
            raise CommandError(f"{self.name}: {self.left[0]!r} is too much", hint=f"write {_usage(self.name)}")


def read_what(words: Sequence[str]) -> What:
    """Something that may happen, from its words. Raises CommandError."""
    if not words or words[0] not in WHATS:
        given = f"nothing that happens is called {words[0]!r}" if words else "what is to happen is missing"
        raise CommandError(given, hint=f"there are {', '.join(WHATS)}")
    left = _Words(words)
    if left.name in PACKETS:
        what = _packet(left)
    elif left.name == EventKind.CONSOLE.value:
        what = _console(left)
    else:
        what = _event(left)
    left.done()
    return what


def _packet(left: _Words) -> What:
    first = left.machine()
    second = left.machine() if left.name == "packet" or left.left else None
    if first == second:
        raise CommandError(f"{left.name}: vm{first} sends nothing to itself", hint="name two machines")
    words = (left.name, f"vm{first}") if second is None else (left.name, f"vm{first}", f"vm{second}")
    if left.name == "sent":
        return What(words, PacketSent(first, second))
    if left.name == "packet":
        assert second is not None, "it was read"
        return What(words, PacketReceived(second, source=first))
    return What(words, PacketReceived(first, source=second))


def _console(left: _Words) -> What:
    machine, how, text = left.named_machine(), left.one_of("matches"), left.text()
    if not text:
        raise CommandError("console: the text is missing", hint=f"write {_usage('console')}")
    who = () if machine is None else (f"vm{machine}",)
    if how is not None:
        return What(("console", *who, "matches", text), ConsoleText(_pattern(text), machine))
    data = text_to_bytes(text)
    if len(data) > TEXT_BYTES_MAX:
        raise CommandError(f"console: {len(data)} bytes are too many", hint=f"give at most {TEXT_BYTES_MAX}")
    return What(("console", *who, text), ConsoleText(data, machine))


def _event(left: _Words) -> What:
    machine = left.named_machine()
    verdict = left.one_of("passed", "failed") if left.name == ASSERTION else None
    text = left.text()
    words = (left.name, *(() if machine is None else (f"vm{machine}",)), *filter(None, (verdict, text)))
    literal = None if text is None else re.escape(text)
    if left.name == ASSERTION:
        return What(words, assertions(literal, vm=machine, failed=None if verdict is None else verdict == "failed"))
    pattern = None if literal is None else re.compile(literal)
    return What(words, EventPoint(frozenset({EventKind(left.name)}), machine, pattern))


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return compile_pattern(text)
    except ValueError as error:
        raise CommandError(f"console: not a regular expression: {text!r}: {error}") from None


def _usage(name: str) -> str:
    return next((form for form, _ in FORMS if form.split()[0] == name), FORMS[-1][0])


def describe(condition: Happening) -> str:
    """For a list of points."""
    match condition:
        case PacketSent(source=source, target=target):
            return f"vm{source} sends a frame" + ("" if target is None else f" to vm{target}")
        case PacketReceived(target=target, source=source):
            return f"vm{target} receives a frame" + ("" if source is None else f" from vm{source}")
        case ConsoleText(text=text, vm=vm):
            shown = f"shows {text!r}" if isinstance(text, bytes) else f"ends a line with /{text.pattern}/"
            return f"{'a console' if vm is None else f'the console of vm{vm}'} {shown}"
        case EventPoint():
            return _describe_event(condition)


def _describe_event(point: EventPoint) -> str:
    kind = ASSERTION if point.commands == ASSERTIONS else " or ".join(sorted(kind.value for kind in point.kinds))
    verdict = "" if point.failed is None else " that failed" if point.failed else " that passed"
    where = "" if point.vm is None else f" of vm{point.vm}"
    literal = "" if point.text is None else _ESCAPED.sub(r"\1", point.text.pattern)
    text = f" with {literal!r}" if literal else ""
    return f"{kind}{verdict}{where}{text}"


@dataclass(frozen=True, slots=True)
class NextWhat(EngineCommand):
    """By things of one sort: to where the next has just happened, or the one before."""

    moves: ClassVar[bool] = True
    scripted: ClassVar[bool] = False
    count: int
    """Negative: back."""
    what: What

    @property
    def text(self) -> str:
        number = [] if abs(self.count) == 1 else [str(abs(self.count))]
        return " ".join(["next" if self.count > 0 else "reverse-next", *number, self.what.text])

    def run(self, bench: Bench) -> None:
        from cc_tui.commands.debugging import tell  # which builds on this module

        self.what.refuse_unknown(bench)
        stop = self._go(bench)
        for _ in range(abs(self.count) - 1):
            if not stop.causes:
                break
            stop = self._go(bench)
        tell(bench, stop)

    def _go(self, bench: Bench) -> DebugStop:
        debugger, condition = bench.debugger, self.what.condition
        if isinstance(condition, PacketSent | PacketReceived):
            return debugger.forward([condition]) if self.count > 0 else debugger.backward([condition])
        return debugger.next_event(condition) if self.count > 0 else debugger.previous_event(condition)


__all__ = ["FORMS", "WHATS", "Happening", "NextWhat", "What", "describe", "read_what"]
