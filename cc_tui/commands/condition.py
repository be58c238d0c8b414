"""Condition: what one is, and how the words of one are read."""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cc_tui.commands.language import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cc_tui.commands.bench import Bench

MACHINE = re.compile(r"(?:vm)?(\d{1,4})", re.ASCII)
OPERATORS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Found(NamedTuple):
    """How a condition stands."""

    holds: bool
    what: str
    """What is there instead, or there after all: `it is b1`."""


class Condition(ABC):
    """Something that is so or not at the cursor."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The words that read to it."""

    @abstractmethod
    def check(self, bench: Bench) -> Found:
        """How it stands. Raises ChaosControlError for what cannot be looked at."""


class Subject(Condition):
    """A condition that begins with a word of its own."""

    FORM: ClassVar[str]

    @classmethod
    @abstractmethod
    def read(cls, words: Words) -> Condition:
        """From the words after the first. Raises CommandError."""


class Words:
    """The words of a condition, taken one by one. Errors show the form."""

    def __init__(self, words: list[str], quantum_ns: int, *, lead: str, form: str) -> None:
        """`lead`: the words before them, the first of them a command's name. `form`: what may stand here."""
        self.quantum_ns = quantum_ns
        self.form = form
        self._lead = lead
        self._words = list(words)

    def error(self, what: str, hint: str | None = None) -> CommandError:
        """What is wrong, with the form unless there is a better hint."""
        return CommandError(f"{self._lead.split()[0]}: {what}", hint=hint or f"write {self._lead} {self.form}")

    def next(self, what: str) -> str:
        """The next word, which is `what`."""
        if not self._words:
            raise self.error(f"{what} is missing")
        return self._words.pop(0)

    def next_of(self, *known: str) -> str | None:
        """Take the next word if it is one of these."""
        return self._words.pop(0) if self._words and self._words[0] in known else None

    def next_if(self, form: re.Pattern[str]) -> re.Match[str] | None:
        """Take the next word if it is of a form."""
        match = form.fullmatch(self._words[0]) if self._words else None
        if match is not None:
            del self._words[0]
        return match

    def rest(self) -> list[str]:
        """All that are left."""
        taken, self._words = self._words, []
        return taken

    def done(self) -> None:
        if self._words:
            raise self.error(f"{self._words[0]!r} is too much")

    def one_of(self, what: str, known: tuple[str, ...]) -> str:
        word = self.next(what)
        if word not in known:
            raise self.error(f"{word!r} is no {what}")
        return word

    def operator(self) -> str:
        return self.one_of("comparison", tuple(OPERATORS))

    def equality(self) -> str:
        return self.one_of("comparison", ("==", "!="))

    def machine(self) -> int:
        word = self.next("a machine")
        match = MACHINE.fullmatch(word)
        if match is None:
            raise self.error(f"not a machine: {word!r}", "write its number, 0 or vm0")
        return int(match[1])

    def machine_if_named(self) -> int | None:
        """A machine if the next word is `vm` and its number."""
        return self.machine() if self._words and re.fullmatch(r"vm\d{1,4}", self._words[0], re.ASCII) else None


@dataclass(frozen=True, slots=True)
class Not(Condition):
    """The opposite of another condition."""

    condition: Condition

    @property
    def text(self) -> str:
        return f"not {self.condition.text}"

    def check(self, bench: Bench) -> Found:
        holds, what = self.condition.check(bench)
        return Found(not holds, what)


__all__ = ["MACHINE", "OPERATORS", "Condition", "Found", "Not", "Subject", "Words"]
