"""Fields: takes decoded msgpack apart, checking every value before it is used.

Payloads are arrays of fixed lengths, made of nil, booleans, integers, text, bytes and arrays; no maps, no floating
point and no extension types. Whatever else stands there is a RecordingError that names the file's offset and the field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from chaoscontrol.recording.errors import RecordingError
from chaoscontrol.recording.frames import PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

U32 = (1 << 32) - 1
U64 = (1 << 64) - 1
TEXT_BYTES_MAX = 1 << 20
ARRAY_MAX = 1 << 20

_packb = cast("Callable[..., bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpackb = cast("Callable[..., object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]

Value = None | bool | int | str | bytes | tuple["Value", ...]


class Place:
    """Where in a file something stands."""

    __slots__ = ("offset", "path")

    def __init__(self, path: str, offset: int) -> None:
        self.path = path
        self.offset = offset

    def fail(self, what: str) -> NoReturn:
        """Raises RecordingError."""
        raise RecordingError(
            what, path=self.path, offset=self.offset, hint="`cc-tui repair` keeps what comes before it"
        )


def pack(value: object) -> bytes:
    """The msgpack of nested lists, tuples and simple values."""
    return _packb(value, unicode_errors="replace")


def _no_map(_: object) -> NoReturn:
    raise ValueError("a map")


def unpack(payload: bytes, place: Place) -> Value:
    """The value in a payload. Raises RecordingError."""
    try:
        return cast(
            "Value",
            _unpackb(
                payload,
                use_list=False,
                raw=False,
                strict_map_key=True,
                object_pairs_hook=_no_map,
                max_str_len=TEXT_BYTES_MAX,
                max_bin_len=PAYLOAD_BYTES_MAX,
                max_array_len=ARRAY_MAX,
                max_map_len=0,
                max_ext_len=0,
            ),
        )
    except (ValueError, msgpack.UnpackException, RecursionError, TypeError, OverflowError) as e:
        reason = " ".join(str(e).split())[:80] or type(e).__name__
        place.fail(f"the contents of a frame cannot be decoded: {reason}")


def shown(value: object) -> str:
    """A value in an error message, however large it is."""
    if isinstance(value, tuple):
        return f"an array of {len(cast('tuple[object, ...]', value))}"
    if isinstance(value, str | bytes) and len(value) > 40:
        return f"{value[:40]!r}..."
    return repr(value)


class Fields:
    """The values of one array, taken one after the other."""

    __slots__ = ("_next", "_values", "_what", "place")

    def __init__(self, value: object, count: int, what: str, place: Place) -> None:
        """`count`: how many there must be; `what` names the array in errors."""
        if not isinstance(value, tuple):
            place.fail(f"{what} is {shown(value)} instead of an array of {count}")
        values = cast("tuple[object, ...]", value)
        if len(values) != count:
            place.fail(f"{what} has {len(values)} fields instead of {count}")
        self._values, self._next, self._what, self.place = values, 0, what, place

    def _take(self) -> object:
        value = self._values[self._next]
        self._next += 1
        return value

    def refuse(self, name: str, value: object, allowed: str) -> NoReturn:
        """Raises RecordingError: the field `name` cannot be `value`."""
        self.place.fail(f"{self._what}.{name} is {shown(value)} instead of {allowed}")

    def none(self) -> bool:
        """Whether the next field is nil, which is then taken."""
        if self._values[self._next] is not None:
            return False
        self._next += 1
        return True

    def any(self) -> object:
        """The next field, unchecked."""
        return self._take()

    def whole(self, name: str, low: int = 0, high: int = U64) -> int:
        """A whole number from `low` to `high`."""
        value = self._take()
        if type(value) is not int or not low <= value <= high:
            self.refuse(name, value, f"a number from {low} to {high}")
        return value

    def whole_or_none(self, name: str, low: int = 0, high: int = U64) -> int | None:
        """The same, or nil."""
        return None if self.none() else self.whole(name, low, high)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._take()
        if type(value) is not bool:
            self.refuse(name, value, "true or false")
        return value

    def text(self, name: str, longest: int = TEXT_BYTES_MAX, one_of: Sequence[str] | None = None) -> str:
        """Text of at most `longest` characters; `one_of`: all that it can be."""
        value = self._take()
        if type(value) is not str or len(value) > longest:
            self.refuse(name, value, f"text of at most {longest} characters")
        if one_of is not None and value not in one_of:
            self.refuse(name, value, f"one of {', '.join(one_of)}")
        return value

    def text_or_none(self, name: str, longest: int = TEXT_BYTES_MAX) -> str | None:
        """The same, or nil."""
        return None if self.none() else self.text(name, longest)

    def binary(self, name: str, longest: int = PAYLOAD_BYTES_MAX) -> bytes:
        """At most `longest` bytes."""
        value = self._take()
        if type(value) is not bytes or len(value) > longest:
            self.refuse(name, value, f"at most {longest} bytes")
        return value

    def array(self, name: str, most: int = ARRAY_MAX) -> tuple[object, ...]:
        """An array of at most `most`."""
        value = self._take()
        if not isinstance(value, tuple):
            self.refuse(name, value, "an array")
        values = cast("tuple[object, ...]", value)
        if len(values) > most:
            self.refuse(name, values, f"an array of at most {most}")
        return values

    def texts(self, name: str, most: int, longest: int) -> tuple[str, ...]:
        """An array of texts."""
        values = self.array(name, most)
        for value in values:
            if type(value) is not str or len(value) > longest:
                self.refuse(name, value, f"text of at most {longest} characters")
        return cast("tuple[str, ...]", values)

    def wholes(self, name: str, most: int, high: int = U64) -> tuple[int, ...]:
        """An array of whole numbers from 0 on."""
        values = self.array(name, most)
        for value in values:
            if type(value) is not int or not 0 <= value <= high:
                self.refuse(name, value, f"a number from 0 to {high}")
        return cast("tuple[int, ...]", values)


def entries(value: object, what: str, place: Place) -> tuple[object, ...]:
    """The elements of an array of any length."""
    if not isinstance(value, tuple):
        place.fail(f"{what} is {shown(value)} instead of an array")
    return cast("tuple[object, ...]", value)
