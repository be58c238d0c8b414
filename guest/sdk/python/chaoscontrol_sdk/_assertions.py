"""Assertions: named by their message, announced at their first evaluation (or by announce(), before)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from . import _wire
from ._channel import channel
from ._wire import Call

Number = int | float
Details = Mapping[str, Any] | None

_KINDS = {
    "always": (_wire.ALWAYS, True),
    "always_or_unreachable": (_wire.ALWAYS, False),
    "sometimes": (_wire.SOMETIMES, True),
    "reachable": (_wire.REACHABLE, True),
    "unreachable": (_wire.UNREACHABLE, False),
}
"""The command of each kind, and whether never being evaluated is a finding."""

_announced: set[tuple[str, str]] = set()
_best: dict[str, float] = {}
"""The gap, or the number of true values, that guidance has reached for each message."""


def announce(kind: str, message: str) -> None:
    """Put a property into the catalog before, or without, its first evaluation.

    kind: always, always_or_unreachable, sometimes, reachable or unreachable. Raises ValueError for another one.
    """
    if kind not in _KINDS:
        raise ValueError(f"chaoscontrol_sdk.announce: kind {kind!r} is none of {', '.join(_KINDS)}")
    _announce(kind, message, {})


def _announce(kind: str, message: str, place: Mapping[str, Any]) -> None:
    if (kind, message) in _announced:
        return
    _announced.add((kind, message))
    channel().call(Call(_wire.CATALOG, message, {"kind": kind, "must_hit": _KINDS[kind][1], **place}))


def _assert(kind: str, condition: bool, message: str, details: Details, depth: int = 2) -> None:
    if (kind, message) not in _announced:
        frame = sys._getframe(depth)
        code = frame.f_code
        _announce(kind, message, {"file": code.co_filename, "line": frame.f_lineno, "function": code.co_name})
    channel().call(Call(_KINDS[kind][0], message, details, condition))


def always(condition: object, message: str, details: Details = None) -> None:
    """True whenever it is evaluated, and evaluated at least once."""
    _assert("always", bool(condition), message, details)


def always_or_unreachable(condition: object, message: str, details: Details = None) -> None:
    """True whenever it is evaluated."""
    _assert("always_or_unreachable", bool(condition), message, details)


def sometimes(condition: object, message: str, details: Details = None) -> None:
    """True at least once."""
    _assert("sometimes", bool(condition), message, details)


def reachable(message: str, details: Details = None) -> None:
    """Reached at least once."""
    _assert("reachable", True, message, details)


def unreachable(message: str, details: Details = None) -> None:
    """Never reached."""
    _assert("unreachable", False, message, details)


def _guided(
    kind: str, guidance: str, condition: bool, value: float, maximize: bool, data: Mapping[str, Any], message: str,
    details: Details,
) -> None:  # fmt: skip
    """The assertion, and guidance if this value is nearer the edge than any before it in this process."""
    _assert(kind, condition, message, {**data, **(details or {})}, depth=4)
    best = _best.get(message)
    if value != value or (best is not None and not (value > best if maximize else value < best)):
        return
    _best[message] = value
    told = {"type": guidance, "maximize": maximize, "data": dict(data)}
    channel().call(Call(_wire.GUIDANCE, message, told, condition))


def _numeric(
    kind: str, condition: bool, seeks_larger: bool, left: Number, right: Number, message: str, details: Details
) -> None:
    data = {"left": left, "right": right}
    _guided(kind, "numeric", condition, left - right, seeks_larger, data, message, details)


# An always is searched for its violation, a sometimes for its fulfilment: that is the way left - right should go.


def always_less_than(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("always", left < right, True, left, right, message, details)


def always_less_than_or_equal_to(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("always", left <= right, True, left, right, message, details)


def always_greater_than(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("always", left > right, False, left, right, message, details)


def always_greater_than_or_equal_to(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("always", left >= right, False, left, right, message, details)


def sometimes_less_than(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("sometimes", left < right, False, left, right, message, details)


def sometimes_less_than_or_equal_to(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("sometimes", left <= right, False, left, right, message, details)


def sometimes_greater_than(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("sometimes", left > right, True, left, right, message, details)


def sometimes_greater_than_or_equal_to(left: Number, right: Number, message: str, details: Details = None) -> None:
    _numeric("sometimes", left >= right, True, left, right, message, details)


def _group(kind: str, condition: bool, values: Mapping[str, object], message: str, details: Details) -> None:
    data = {name: bool(value) for name, value in values.items()}
    _guided(kind, "boolean", condition, sum(data.values()), kind == "sometimes", data, message, details)


def always_some(values: Mapping[str, object], message: str, details: Details = None) -> None:
    """At least one of the named values is true, always."""
    _group("always", any(values.values()), values, message, details)


def sometimes_all(values: Mapping[str, object], message: str, details: Details = None) -> None:
    """All of the named values are true, sometimes."""
    _group("sometimes", all(values.values()), values, message, details)
