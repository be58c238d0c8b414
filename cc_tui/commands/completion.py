"""Completion: what a word of a line may become, by the command that it belongs to. Knows no terminal."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cc_tui.commands.branches import ALL
from cc_tui.commands.catching import WHATS
from cc_tui.commands.condition import OPERATORS
from cc_tui.commands.conditions import SUBJECTS, UNSIGNED
from cc_tui.commands.language import quote
from cc_tui.commands.likelihood import WORDS
from cc_tui.commands.packets import EDITS, packet_word
from cc_tui.commands.registry import BY_NAME, INFO, SPECS
from cc_tui.commands.triage import FORMATS
from cc_tui.fault_fields import DURATION, fields_of
from chaoscontrol.debug.hindsight import KINDS
from chaoscontrol.events import EventKind
from chaoscontrol.faults import FAULTS
from chaoscontrol.oracle import Verdict
from chaoscontrol.packets import read_packet
from chaoscontrol.registers import EDITABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cc_tui.session import SessionView
    from cc_tui.symbols import SymbolTable

PATHS_MAX = 200
SYMBOLS_MAX = 50
"""Symbols offered at once."""
OPTIONS = ("--json",)


class Candidate(NamedTuple):
    """What may stand from column `start` to where the line was cut off."""

    text: str
    start: int
    about: str = ""


def _no_symbols(_prefix: str) -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Names:
    """What there is to name at the moment."""

    vms: int = 1
    branches: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    moments: tuple[str, ...] = ()
    """Of marks, in full."""
    properties: tuple[str, ...] = ()
    panes: tuple[str, ...] = ()
    packets: tuple[tuple[str, str], ...] = ()
    """Those in flight: their words, and what they are."""
    symbols: Callable[[str], list[str]] = field(default=_no_symbols)
    """The symbols that begin so."""


def names_in(view: SessionView, symbols: SymbolTable | None = None, panes: tuple[str, ...] = ()) -> Names:
    """What a session's picture has to name; `symbols` once they are known, `panes` where there are any."""
    return Names(
        vms=len(view.instrets),
        branches=tuple(branch.name for branch in view.branches),
        marks=tuple(view.marks),
        moments=tuple(str(moment) for moment in view.marks.values()),
        properties=tuple(result.name for result in view.cluster.properties),
        panes=panes,
        packets=tuple((packet_word(one.id), read_packet(one.data).summary) for one in view.cluster.in_flight),
        symbols=_no_symbols if symbols is None else lambda prefix: symbols.completions(prefix, SYMBOLS_MAX),
    )


_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "goto": ("place",),
    "until": ("", "vm"),
    "expect": ("", "vm", "within"),
    "type": ("vm",),
    "inject": ("fault",),
    "schedule": ("path",),
    "write": ("vm", "address"),
    "set": ("vm", "register"),
    "packet": ("edit", "packet"),
    "packets": ("vm-or-packet",),
    "agent": ("vm", "request"),
    "probe": ("vm",),
    "assert": (),
    "check": (),
    "likelihood": (),
    "console": ("vm",),
    "events": ("kind", "kind"),
    "registers": ("vm", "register"),
    "x": ("vm", "address"),
    **dict.fromkeys(
        (
            *("break", "watch", "rwatch", "awatch", "run-to", "reverse-run-to", "when-written", "disassemble"),
            *("list", "line"),
        ),
        ("vm-or-address", "address"),
    ),
    "symbol": ("address",),
    "search": ("vm",),
    **dict.fromkeys(
        (
            *("ps", "maps", "backtrace", "frame", "up", "down", "finish", "reverse-finish"),
            *("step-line", "next-line", "reverse-step-line", "reverse-next-line"),
        ),
        ("vm",),
    ),
    "symbol-file": ("path",),
    "info": ("info",),
    "compare": ("branch", "branch"),
    "delete-branch": ("branch", "all"),
    "rename-branch": ("branch",),
    "annotate": ("branch-or-mark",),
    "diff": ("place", "place"),
    "triage": ("", "format", "path"),
    "vm": ("vm",),
    "save": ("path",),
    "source": ("path",),
    "view": ("pane",),
    "theme": ("theme",),
    "help": ("command",),
}
"""What the words after a command are, in order; the last kind goes on where a command takes more."""
_GOES_ON = frozenset(("registers",))


def complete(line: str, names: Names) -> list[Candidate]:
    """What the word at the end of `line` may become, the likeliest first."""
    words, start = _words(line)
    word = line[start:]
    if word.startswith("--") and words:
        return [Candidate(option, start) for option in OPTIONS if option.startswith(word)]
    return [Candidate(text, start, about) for text, about in _candidates(words, word, names) if text.startswith(word)]


def suggest(line: str, names: Names) -> str | None:
    """The line with the likeliest of what its last word may become, if that is anything more."""
    whole = (line[: candidate.start] + candidate.text for candidate in complete(line, names))
    return next((text for text in whole if text != line), None)


def _words(line: str) -> tuple[list[str], int]:
    """The whole words of a line that is not finished, and the column at which the last, unfinished one begins."""
    words: list[str] = []
    start, at, quoted = 0, 0, ""
    while at < len(line):
        character = line[at]
        if quoted:
            at += character == "\\" and quoted == '"'
            quoted = "" if character == quoted else quoted
        elif character.isspace():
            if at > start:
                words.append(line[start:at].strip("\"'"))
            start = at + 1
        elif character in "\"'" and at == start:
            quoted = character
        at += 1
    return words, start


def _candidates(words: list[str], word: str, names: Names) -> Iterator[tuple[str, str]]:
    if not words:
        yield from _commands()
        return
    spec = BY_NAME.get(words[0])
    if spec is None:
        return
    given = words[1:]
    if spec.name == "inject" and given:
        yield from _fault_fields(given, word, names)
    elif spec.name in ("catch", "next", "reverse-next"):
        yield from _happening(given, names)
    elif spec.name == "assert":
        yield from _condition(given, names)
    elif spec.name == "check":
        yield from _property(given, word, names)
    elif spec.name == "likelihood":
        yield from _likelihood(given, word, names)
    else:
        kinds = _ARGUMENTS.get(spec.name, ())
        if len(given) < len(kinds) or (kinds and spec.name in _GOES_ON):
            yield from _of_kind(kinds[min(len(given), len(kinds) - 1)], word, names)


def _commands() -> Iterator[tuple[str, str]]:
    for spec in SPECS:
        yield spec.name, spec.summary
    for spec in SPECS:
        yield from ((alias, f"{spec.name}: {spec.summary}") for alias in spec.aliases)


def _of_kind(kind: str, word: str, names: Names) -> Iterator[tuple[str, str]]:
    match kind:
        case "vm":
            yield from _plain(_vms(names))
        case "branch":
            yield from _plain(names.branches)
        case "branch-or-mark":
            yield from _plain((*names.branches, *names.marks))
        case "all":
            yield from _plain((ALL,))
        case "place":
            yield from _places(names)
        case "address":
            yield from _plain(names.symbols(word) if word else [])
        case "vm-or-address":
            yield from _plain((*_vms(names), *(names.symbols(word) if word else [])))
        case "edit":
            yield from _plain(EDITS)
        case "packet":
            yield from names.packets
        case "vm-or-packet":
            yield from _plain(_vms(names))
            yield from names.packets
        case "info":
            yield from _plain(INFO)
        case "fault":
            yield from ((name, (kind.__doc__ or "").split("\n")[0]) for name, kind in FAULTS.items())
        case "register":
            yield from _plain(EDITABLE)
        case "request":
            yield from _plain(("ps", "signal", "run"))
        case "kind":
            yield from _plain(EventKind)
        case "format":
            yield from _plain(FORMATS)
        case "within":
            yield from _plain(("within",))
        case "pane":
            yield from _plain(names.panes)
        case "theme":
            yield from _plain(("dark", "light"))
        case "command":
            yield from ((spec.name, spec.summary) for spec in SPECS)
        case "path":
            yield from _plain(_paths(word))
        case _:
            pass


def _plain(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((str(text), "") for text in texts)


def _vms(names: Names) -> list[str]:
    return [f"vm{number}" for number in range(names.vms)]


def _places(names: Names) -> Iterator[tuple[str, str]]:
    yield from _plain(("start", "end"))
    yield from ((mark, "mark") for mark in names.marks)
    yield from ((branch, "its end") for branch in names.branches)
    yield from ((f"{branch}@", "a time on it") for branch in names.branches)
    yield from ((moment, "moment") for moment in names.moments)


def _fault_fields(given: list[str], word: str, names: Names) -> Iterator[tuple[str, str]]:
    kind = FAULTS.get(given[0])
    if kind is None:
        return
    taken = {text.partition("=")[0] for text in given[1:]}
    name, equals, _ = word.partition("=")
    for field_ in fields_of(kind):
        if equals and field_.name == name:
            yield from ((f"{name}={choice}", "") for choice in field_.choices(names.vms) if choice)
        elif not equals and field_.name not in taken:
            yield f"{field_.name}=", field_.allowed(names.vms)
    if kind.LASTS and not equals and DURATION not in taken:
        yield f"{DURATION}=", "a time: 250us, 5ms, 1.5s"


def _condition(given: list[str], names: Names) -> Iterator[tuple[str, str]]:
    while given[:1] == ["not"]:
        given = given[1:]
    if not given:
        yield "not", "the opposite"
        yield from ((name, subject.FORM) for name, subject in SUBJECTS.items())
        return
    compared = _plain(OPERATORS)
    match given:
        case ["branch"]:
            yield from _plain(("==", "!="))
        case ["branch", _]:
            yield from _plain(names.branches)
        case ["moment"] | ["time"] | ["tick"] | ["instret", _] | ["register", _, _]:
            yield from compared
        case ["moment", _]:
            yield from _plain((*names.marks, *names.moments))
        case ["property"]:
            yield from _plain(map(quote, names.properties))
        case ["property", _]:
            yield from _plain(Verdict)
        case ["console"]:
            yield from _plain(("any", *_vms(names)))
        case ["console", _] | ["event", _]:
            yield from _plain(("contains", "matches"))
        case ["event"]:
            yield from _plain(EventKind)
        case ["machine", _]:
            yield from _plain(("running", "stopped"))
        case ["future"]:
            yield from _plain(("known", "open"))
        case ["register", _]:
            yield from _plain(EDITABLE)
        case ["machine"] | ["instret"] | ["register"] | ["memory"] | ["digest"]:
            yield from _plain(_vms(names))
        case ["memory", _, _]:
            yield from _plain(("==", "!=", *UNSIGNED))
        case ["memory", _, _, size] if size in UNSIGNED:
            yield from compared
        case _:
            pass


def _happening(given: list[str], names: Names) -> Iterator[tuple[str, str]]:
    if given and given[0].isdecimal():
        given = given[1:]
    match given:
        case []:
            yield from _plain(WHATS)
        case ["console"]:
            yield from _plain((*_vms(names), "matches"))
        case ["console", machine] if machine != "matches":
            yield from _plain(("matches",))
        case ["assertion"]:
            yield from _plain((*_vms(names), "failed", "passed"))
        case ["assertion", machine] if machine.startswith("vm"):
            yield from _plain(("failed", "passed"))
        case ["assertion", *_]:
            yield from _plain(map(quote, names.properties))
        case [_] | ["packet" | "sent" | "received", _]:
            yield from _plain(_vms(names))
        case _:
            pass


def _property(given: list[str], word: str, names: Names) -> Iterator[tuple[str, str]]:
    if not given:
        yield from _plain(KINDS)
        return
    match given[-1]:
        case "at":
            yield from _plain(names.symbols(word) if word else [])
        case "on":
            yield from _plain((*names.branches, "all"))
        case _:
            yield from _condition(given[1:], names) if given[0] in KINDS else ()
            yield from _plain(("at", "on") if len(given) > 3 else ())


def _likelihood(given: list[str], word: str, names: Names) -> Iterator[tuple[str, str]]:
    if "with" in given:
        fault = given[given.index("with") + 1 :]
        yield from _fault_fields(fault, word, names) if fault else _of_kind("fault", word, names)
    elif "when" in given:
        yield from _condition(given[given.index("when") + 1 :], names)
    elif not given or given[-1] not in WORDS:
        yield from _plain(WORDS)
        yield from _plain(map(quote, names.properties if not given else ()))


def _paths(word: str) -> list[str]:
    """Files and directories that begin so, as words."""
    head, tail = os.path.split(word)
    try:
        entries = sorted(os.listdir(Path(head or ".").expanduser()))
    except (OSError, ValueError):
        return []
    found: list[str] = []
    for entry in entries:
        if entry.startswith(tail) and (tail or not entry.startswith(".")):
            path = os.path.join(head, entry)
            found.append(quote(f"{path}/" if Path(path).expanduser().is_dir() else path))
    return found[:PATHS_MAX]


__all__ = ["Candidate", "Names", "complete", "names_in", "suggest"]
