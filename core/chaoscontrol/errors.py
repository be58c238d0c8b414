"""The library's exceptions. Each says what is wrong, where, and what to do next, and prints as one line."""

from __future__ import annotations


class ChaosControlError(Exception):
    """Base of everything this library raises on purpose.

    `what` is the fact, `where` the file, option, machine or address it is about (may be empty), `hint` the next thing
    to try (may be empty). str() joins them into one line.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where, hint)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.where}: {self.what}" if self.where else self.what
        if self.hint:
            line += f"; {self.hint}"
        return " ".join(line.split())


class UsageError(ChaosControlError):
    """A person gave something that cannot be used: a wrong file, a value out of range. (Exit code 2.)"""


class EngineError(ChaosControlError):
    """The engine or the host cannot go on. (Exit code 3.)"""


class BudgetError(EngineError):
    """The page store's memory budget would be passed."""


class AddressError(ChaosControlError):
    """A guest address is not mapped, or outside the machine's memory. (Exit code 2.)"""


class GuestError(ChaosControlError):
    """The guest ended in another way than the caller waited for: halted, crashed, or out of virtual time."""
