"""cc_tui.console_text: guest output that reaches a person's terminal can do nothing there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cc_tui.console_text import STRING_CHARS_MAX, UNSAFE_CODES, EscapeStripper


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain\r\n", "plain\r\n"),
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07text", "text"),
        (b"\x1b]52;c;Zm9v\x1b\\text", "text"),
        (b"\x1bP+q544e\x1b\\text", "text"),
        (b"\x1b(Btext\x1bM\x1b7", "text"),
        (b"\x1b[?1049h\x1b[2J\x1b[Htext", "text"),
        (b"a\x08b\x07c\x00d\x7f", "abcd"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        ("\u009b31mx".encode(), "31mx"),
        ("a\u202eb".encode(), "ab"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"tab\there", "tab\there"),
    ],
)
def test_sequences_and_controls_are_removed(raw: bytes, shown: str) -> None:
    assert EscapeStripper().feed(raw) == shown


PIECES = st.lists(
    st.one_of(st.binary(max_size=6), st.sampled_from([b"\x1b[", b"1;2m", b"\x1b]0;", b"\x07", b"\x1b\\", b"abc\n"])),
    max_size=12,
)


@given(PIECES)
def test_nothing_unsafe_ever_comes_out(pieces: list[bytes]) -> None:
    stripper = EscapeStripper()
    text = "".join(stripper.feed(piece) for piece in pieces)
    assert not UNSAFE_CODES & set(map(ord, text))


@given(PIECES)
def test_how_output_is_cut_does_not_matter(pieces: list[bytes]) -> None:
    stripper = EscapeStripper()
    end = b"\x07\x1b\\done"  # ends whatever is unfinished
    assert "".join(stripper.feed(piece) for piece in [*pieces, end]) == EscapeStripper().feed(b"".join([*pieces, end]))


def test_an_endless_sequence_does_not_silence_the_console() -> None:
    stripper = EscapeStripper()
    shown = stripper.feed(b"\x1b]" + b"x" * (STRING_CHARS_MAX + 1))
    assert shown.count("x") == STRING_CHARS_MAX + 1
    assert stripper.feed(b"more") == "more"
