"""Completion: what a word of a line may become, by the command that it belongs to. Knows no terminal."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cc_tui.commands.conditions import OPERATORS, SUBJECTS
from cc_tui.commands.language import quote
from cc_tui.commands.registry import BY_NAME, SPECS
from cc_tui.fault_fields import DURATION, fields_of
from chaoscontrol.events import EventKind
from chaoscontrol.faults import FAULTS
from chaoscontrol.oracle import Verdict
from chaoscontrol.registers import EDITABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PATHS_MAX = 200
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
    symbols: Callable[[str], list[str]] = field(default=_no_symbols)
    """The symbols that begin so."""


_ARGUMENTS: dict[str, tuple[str, ...]] = {
    "goto": ("place",),
    "until": ("", "vm"),
    "expect": ("", "vm", "within"),
    "type": ("vm",),
    "inject": ("fault",),
    "schedule": ("path",),
    "write": ("vm", "address"),
    "set": ("vm", "register"),
    "agent": ("vm", "request"),
    "probe": ("vm",),
    "assert": (),
    "console": ("vm",),
    "events": ("kind", "kind"),
    "registers": ("vm", "register"),
    "x": ("vm", "address"),
    **dict.fromkeys(
        ("break", "watch", "rwatch", "awatch", "run-to", "reverse-run-to", "when-written", "disassemble"),
        ("vm-or-address", "address"),
    ),
    "symbol": ("address",),
    "search": ("vm",),
    "ps": ("vm",),
    "maps": ("vm",),
    "info": ("info",),
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
    elif spec.name == "assert":
        yield from _condition(given, names)
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
        case "place":
            yield from _places(names)
        case "address":
            yield from _plain(names.symbols(word) if word else [])
        case "vm-or-address":
            yield from _plain((*_vms(names), *(names.symbols(word) if word else [])))
        case "info":
            yield from _plain(("registers", "points", "ps", "maps", "symbol"))
        case "fault":
            yield from ((name, (kind.__doc__ or "").split("\n")[0]) for name, kind in FAULTS.items())
        case "register":
            yield from _plain(EDITABLE)
        case "request":
            yield from _plain(("ps", "signal", "run"))
        case "kind":
            yield from _plain(EventKind)
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
        case ["console", _]:
            yield from _plain(("contains", "matches"))
        case ["event"]:
            yield from _plain(EventKind)
        case ["event", _]:
            yield from _plain(("contains",))
        case ["machine", _]:
            yield from _plain(("running", "stopped"))
        case ["future"]:
            yield from _plain(("known", "open"))
        case ["register", _]:
            yield from _plain(EDITABLE)
        case ["machine"] | ["instret"] | ["register"] | ["memory"] | ["digest"]:
            yield from _plain(_vms(names))
        case ["memory", _, _]:
            yield from _plain(("==", "!="))
        case _:
            pass


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


__all__ = ["Candidate", "Names", "complete"]
