"""The command language's words: quoting, durations, speeds.

A line is words separated by blanks. "..." may hold blanks and the
escapes \\n \\r \\t \\e \\\\ \\" \\xNN; '...' is literal.
A word that begins with # begins a comment.
A backslash at the end of a line joins the next one to it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cc_tui.options import parse_time_ns
from chaoscontrol.errors import UsageError

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "e": "\x1b", "\\": "\\", '"': '"', "0": "\0"}
_ESCAPES_OUT = {value: "\\" + name for name, value in _ESCAPES.items() if name != "0"}
_TICKS = re.compile(r"([0-9]{1,15})t")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,32}|\d{1,39}")
PHYSICAL = "phys:"
"""Before an address: it is one of the machine's memory, not of what runs."""
_SPEED = re.compile(r"(\d+(?:\.\d+)?)x?")


class CommandError(UsageError):
    """A command line that cannot be carried out as it is written."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a line and the column at which it begins, counted from 0."""

    text: str
    column: int
    quoted: bool = False


def split(line: str) -> list[Word]:
    """The words of a line. Raises CommandError for a quote that is not closed or an unknown escape."""
    words: list[Word] = []
    at = 0
    while at < len(line):
        if line[at].isspace():
            at += 1
        elif line[at] == "#":
            break
        elif line[at] in "\"'":
            text, end = _quoted(line, at)
            words.append(Word(text, at, quoted=True))
            at = end
        else:
            end = at
            while end < len(line) and not line[end].isspace():
                end += 1
            words.append(Word(line[at:end], at))
            at = end
    return words


def _quoted(line: str, start: int) -> tuple[str, int]:
    quote, out, at = line[start], "", start + 1
    while at < len(line):
        if line[at] == quote:
            return out, at + 1
        if line[at] != "\\" or quote == "'":
            out += line[at]
            at += 1
        elif line[at + 1 : at + 2] == "x":
            digits = line[at + 2 : at + 4]
            if re.fullmatch(r"[0-9A-Fa-f]{2}", digits) is None:
                raise CommandError(f"\\x needs two hexadecimal digits, not {digits!r}", where=f"column {at + 1}")
            out += chr(int(digits, 16))
            at += 4
        else:
            escape = _ESCAPES.get(line[at + 1 : at + 2])
            if escape is None:
                hint = 'the escapes are \\n \\r \\t \\e \\0 \\\\ \\" \\xNN'
                raise CommandError(f"no escape {line[at : at + 2]}", where=f"column {at + 1}", hint=hint)
            out += escape
            at += 2
    raise CommandError("the quote is not closed", where=f"column {start + 1}")


def goes_on(line: str) -> bool:
    """Does the next line belong to this one? It ends with a backslash that nothing escapes, outside of a comment."""
    if (len(line) - len(line.rstrip("\\"))) % 2 == 0:
        return False
    return not _ends_in_comment(line)


def _ends_in_comment(line: str) -> bool:
    quoted, at, word = "", 0, True
    while at < len(line):
        character = line[at]
        if quoted:
            at += character == "\\" and quoted == '"'
            quoted = "" if character == quoted else quoted
        elif character == "#" and word:
            return True
        elif character in "\"'" and word:
            quoted = character
        word = character.isspace() or (character in "\"'" and not quoted)
        at += 1
    return False


def logical_lines(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """(number of its first line, line) with continued lines joined; read one by one, as they come."""
    begin, parts = 0, list[str]()
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        begin = begin if parts else number
        if goes_on(line):
            parts.append(line[:-1])
            continue
        yield begin, "".join([*parts, line])
        parts = []
    if parts:
        yield begin, "".join(parts)


def quote(text: str) -> str:
    """`text` as one word that `split` reads back; characters outside ASCII stay as they are."""
    if text and re.fullmatch(r"[^\s\"'\\#\x00-\x1f\x7f-\x9f]+", text):
        return text
    out = ""
    for character in text:
        if character in _ESCAPES_OUT:
            out += _ESCAPES_OUT[character]
        elif ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0:
            out += f"\\x{ord(character):02x}"
        else:
            out += character
    return f'"{out}"'


def bytes_to_text(data: bytes) -> str:
    """Console input for a script: UTF-8 where it is, else one character per byte (see `text_to_bytes`)."""
    try:
        text = data.decode()
        return text if text_to_bytes(text) == data else data.decode("latin-1")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def text_to_bytes(text: str) -> bytes:
    """What a text types: characters up to U+00FF that came from \\xNN are bytes, others are UTF-8.

    A text with any character beyond U+00FF, or none in U+0080 to U+00FF, is UTF-8 as a whole.
    """
    if any(ord(character) > 0xFF for character in text):
        return text.encode()
    return text.encode("latin-1")


def parse_duration(text: str, quantum_ns: int) -> int:
    """Nanoseconds of `5ms`, `1.5s`, `20t` (ticks); raises CommandError."""
    ticks = _TICKS.fullmatch(text)
    if ticks is not None:
        return int(ticks[1]) * quantum_ns
    try:
        return parse_time_ns(text)
    except UsageError as error:
        raise CommandError(error.what, hint="write 250us, 5ms, 1.5s or 20t (ticks)") from None


def format_duration(ns: int) -> str:
    """The shortest exact form: `5ms`, `1500us`."""
    for unit, unit_ns in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if ns and ns % unit_ns == 0:
            return f"{ns // unit_ns}{unit}"
    return f"{ns}ns"


def format_about(ns: int) -> str:
    """A time in at most six cells, to look at: `50us`, `1.5ms`."""
    for unit_ns, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if ns >= unit_ns:
            return f"{ns / unit_ns:.3g}{unit}"
    return f"{ns}ns" if ns else "0"


def parse_count(text: str) -> int:
    """A positive whole number; underscores are allowed. Raises CommandError."""
    if re.fullmatch(r"\d[\d_]{0,19}", text) is None or int(text) == 0:
        raise CommandError(f"not a count: {text!r}", hint="write a whole number from 1 up")
    return int(text)


def parse_level(text: str) -> int:
    """A whole number from 0 up. Raises CommandError."""
    return 0 if text == "0" else parse_count(text)


def parse_number(text: str) -> int:
    """`0x1f` or `31`. Raises CommandError."""
    if _NUMBER.fullmatch(text) is None:
        raise CommandError(f"not a number: {text!r}", hint="write 31 or 0x1f")
    return int(text, 0) if text.startswith("0x") else int(text)


def parse_address(text: str) -> tuple[int, bool]:
    """`0x1f` or `phys:0x1f`: the address, and whether it is a physical one. Raises CommandError."""
    return parse_number(text.removeprefix(PHYSICAL)), text.startswith(PHYSICAL)


def format_address(address: int, *, physical: bool) -> str:
    """What `parse_address` reads."""
    return f"{PHYSICAL if physical else ''}{address:#x}"


def parse_bytes(text: str) -> bytes:
    """`90cc`. Raises CommandError."""
    if _HEX.fullmatch(text) is None:
        raise CommandError(f"not bytes: {text!r}", hint="write pairs of hexadecimal digits, as in 90cc")
    return bytes.fromhex(text)


def parse_speed(text: str) -> float | None:
    """Virtual seconds per second, `1`, `0.1x`, `100x`; None for `max`. Raises CommandError."""
    if text == "max":
        return None
    match = _SPEED.fullmatch(text)
    speed = float(match[1]) if match else 0.0
    if not 0.0001 <= speed <= 1_000_000:
        raise CommandError(f"not a speed: {text!r}", hint="write 0.1, 1, 100 or max")
    return speed


def format_speed(speed: float | None) -> str:
    """`1x`, `0.1x`, `max`."""
    return "max" if speed is None else f"{speed:g}x"
