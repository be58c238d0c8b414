"""Positions in time: `Position` inside one history, `Moment` as what a person copies and pastes.

Owns the text form of a moment. Knows nothing of machines or branches beyond their names.

A cluster has one time for all its machines. At position (vns, ordinal) every machine stands at its first instruction
boundary at or after virtual time `vns`, and of the inputs given at exactly `vns` the first `ordinal` have been
applied. Machines run independently of each other up to the same virtual time, so each position is one state of the
whole cluster, and positions of one history are totally ordered.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple, Self

from chaoscontrol.timetravel.errors import MomentError

NS_PER_S = 1_000_000_000
DIGEST_PREFIX_DIGITS = 8
"""Hexadecimal digits of each machine's state digest that a moment carries."""

BRANCH_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
"""What a branch may be called; the text of a moment starts with such a name."""

_TEXT = re.compile(
    rf"(?P<branch>{BRANCH_NAME.pattern})@(?P<s>\d{{1,10}})\.(?P<ns>\d{{9}})(?:\+(?P<ordinal>\d{{1,9}}))?"
    rf":(?P<machines>\d{{1,20}}\.[0-9a-f]{{{DIGEST_PREFIX_DIGITS}}}(?:,\d{{1,20}}\.[0-9a-f]{{{DIGEST_PREFIX_DIGITS}}})*)",
    re.ASCII,
)


class Position(NamedTuple):
    """A place in one history; compares by time, then by how many of the inputs of that instant were applied."""

    vns: int
    """Virtual time of the cluster, nanoseconds."""
    ordinal: int = 0
    """Inputs of exactly `vns` that have been applied."""


class MachineMark(NamedTuple):
    """How a moment recognises the state of one machine."""

    instret: int
    """Instructions retired since the machine was made."""
    digest: str
    """The first digits of its state digest, lower-case hexadecimal."""


def mark_of(instret: int, digest: str) -> MachineMark:
    """How a moment recognises a machine that has this state digest."""
    return MachineMark(instret, digest[:DIGEST_PREFIX_DIGITS])


def format_seconds(vns: int) -> str:
    """Virtual nanoseconds as seconds with all nine decimals, `2.013500000`."""
    return f"{vns // NS_PER_S}.{vns % NS_PER_S:09d}"


@dataclass(frozen=True, slots=True)
class Moment:
    """An opaque, ordered, printable and self-verifying position.

    Two moments of one branch compare by time. Moments of different branches have no order of their own:
    `Multiverse.compare` knows their common history.
    """

    branch: str
    position: Position
    machines: tuple[MachineMark, ...]

    def __str__(self) -> str:
        """The text that `parse` reads: `main@2.013500000:81234567.9f3ac210,79911822.77e1f0aa`."""
        states = ",".join(f"{mark.instret}.{mark.digest}" for mark in self.machines)
        return f"{self.brief}:{states}"

    @property
    def brief(self) -> str:
        """Branch and time only, for people: `main@2.013500000`."""
        ordinal = f"+{self.position.ordinal}" if self.position.ordinal else ""
        return f"{self.branch}@{format_seconds(self.position.vns)}{ordinal}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form; raises MomentError naming what is wrong with it."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise MomentError(
                f"not a moment: {text.strip()!r}",
                hint="a moment reads BRANCH@SECONDS:INSTRUCTIONS.DIGEST, as `mark` and `copy` print it",
            )
        machines = tuple(
            MachineMark(int(instret), digest)
            for instret, digest in (state.split(".") for state in match["machines"].split(","))
        )
        vns = int(match["s"]) * NS_PER_S + int(match["ns"])
        return cls(match["branch"], Position(vns, int(match["ordinal"] or 0)), machines)

    def _same_history(self, other: "Moment") -> tuple[Position, Position]:
        if self.branch != other.branch:
            raise MomentError(
                f"{self.brief} and {other.brief} are on different branches",
                hint="Multiverse.compare() orders moments that share a history",
            )
        return self.position, other.position

    def __lt__(self, other: "Moment") -> bool:
        mine, others = self._same_history(other)
        return mine < others

    def __le__(self, other: "Moment") -> bool:
        mine, others = self._same_history(other)
        return mine <= others

    def __gt__(self, other: "Moment") -> bool:
        mine, others = self._same_history(other)
        return mine > others

    def __ge__(self, other: "Moment") -> bool:
        mine, others = self._same_history(other)
        return mine >= others
