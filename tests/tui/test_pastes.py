"""What a terminal marks as pasted is text: no part of it is a key, wherever the reads from the terminal end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual import events
from textual.drivers import linux_driver

from cc_tui.tui.pastes import BEGIN, END, PasteParser, use_paste_parser


def read(data: str, piece: int = 1 << 20) -> list[str]:
    """What arrives, in pieces of so many characters: keys by name, pastes as `paste:TEXT`."""
    parser = PasteParser()
    found = [event for at in range(0, len(data), piece) for event in parser.feed(data[at : at + piece])]
    assert all(isinstance(event, events.Key | events.Paste) for event in found)
    return [event.key if isinstance(event, events.Key) else f"paste:{event.text}" for event in found]


@pytest.mark.parametrize(
    ("data", "arrives"),
    [
        (f"a{BEGIN}bq\n{END}t", ["a", "paste:bq\n", "t"]),
        (f"{BEGIN}\x1b[31mred\x1b[0m q\x07\x03\r\tm\x9b{END}\x1b[A", ["paste:[31mred[0m q\r\tm", "up"]),
        (f"{BEGIN}x\x1b{END}t", ["paste:x", "t"]),
        (f"{BEGIN}{BEGIN}x{END}{BEGIN}y{END}", ["paste:[200~x", "paste:y"]),
        (f"{BEGIN}{END}t", ["paste:", "t"]),
        (f"{BEGIN}\x1b[20{END}\x1b[5~t", ["paste:[20", "pageup", "t"]),
        ("\x1b[A\x1bOPb", ["up", "f1", "b"]),
    ],
)
@pytest.mark.parametrize("piece", [1, 2, 3, 5, 6, 7, 1 << 20])
def test_pastes_and_keys(data, arrives, piece):
    assert read(data, piece) == arrives


@given(st.text(st.sampled_from("\x1b[20~1qA;m\r\n\x07x")), st.integers(1, 9))
def test_a_paste_is_one_text_whatever_is_in_it(text, piece):
    arrived = read(f"t{BEGIN}{text.replace(END, '')}{END}", piece)
    assert len(arrived) == 2
    assert arrived[1].startswith("paste:")
    assert not {"\x1b", "\x07"} & set(arrived[1])


def test_a_begin_that_did_not_come_in_time_begins_nothing(monkeypatch):
    parser = PasteParser()
    assert list(parser.feed("\x1b[20")) == []
    monkeypatch.setattr("textual._parser.get_time", lambda: float("inf"))
    assert len(list(parser.tick())) == 3
    assert [event.key for event in parser.feed("0~\x1b[A")] == ["0", "tilde", "up"]


def test_terminals_are_read_by_it(monkeypatch):
    monkeypatch.setattr(linux_driver, "XTermParser", linux_driver.XTermParser)
    use_paste_parser()
    assert linux_driver.XTermParser is PasteParser
    assert "XTermParser(" in (linux_driver.__loader__.get_source(linux_driver.__name__) or "")
