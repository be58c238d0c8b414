"""What panes are drawn from: faults on a line of time, folded coverage maps, text that guests made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cc_tui.pictures import Failure
from cc_tui.tui.guest_text import plain, wrap_plain
from cc_tui.tui.heatmap import RAMP, classes, edges, fold, merged, new_cells
from cc_tui.tui.timeline import NETWORK_ROW, Window, draw, rows_of, window_around
from chaoscontrol import faults as f
from chaoscontrol.coverage import CELLS
from chaoscontrol.faults import FaultSpan
from chaoscontrol.oracle import At

# ---- time -----------------------------------------------------------------------------------------------------------


def drawn(spans, failures=(), begin=0, end=19, cells=20) -> str:
    glyphs = draw(spans, failures, Window(begin, end, cells))
    return "".join(glyphs[at].character if at in glyphs else "." for at in range(cells))


PARTITION = f.NetworkPartition((0,), (1,))
LOSS = f.PacketLoss(0, 1)


@pytest.mark.parametrize(
    ("spans", "row"),
    [
        ([(PARTITION, 2, 7)], "..[====]............"),
        ([(f.OneWayPartition((0,), (1,)), 2, 7)], "..[>>>>]............"),
        ([(PARTITION, 2, 3)], "..[]................"),
        ([(PARTITION, 2, 2)], "..P................."),
        ([(PARTITION, 15, None)], "...............[===="),
        ([(LOSS, 2, 7)], "..X~~~~~............"),
        ([(LOSS, 15, None)], "...............X~~~~"),
        ([(f.InjectNmi(0), 4, 4)], "....N..............."),
        ([(PARTITION, 2, 12), (LOSS, 5, 8)], "..[==X~~~===]......."),
        ([(LOSS, 2, 12), (PARTITION, 5, 8)], "..X~~[==]~~~~......."),
        ([(LOSS, 4, 9), (f.ProcessPause(1), 4, 9)], "....Z~~~~~.........."),
        ([(LOSS, 25, 30)], "...................."),
    ],
)
def test_faults_over_time(spans, row):
    assert drawn([FaultSpan(at, *span) for at, span in enumerate(spans)]) == row


def test_a_failure_wins_every_cell():
    failures = [Failure(At(at, 0, 0), "x") for at in (2, 5, 7, 12, 40)]
    assert drawn([FaultSpan(0, PARTITION, 2, 7)], failures) == "..!==!=!....!......."


def test_what_began_before_the_window_is_told_at_its_edge():
    assert drawn([FaultSpan(0, LOSS, 0, 25)], begin=10, end=29) == "X~~~~~~~~~~~~~~~...."
    assert drawn([FaultSpan(0, PARTITION, 0, 25)], begin=10, end=29) == "===============]...."
    assert drawn([FaultSpan(0, PARTITION, 0, 9)], begin=10, end=29) == "." * 20


def test_the_window_is_halved_around_the_cursor():
    assert window_around(500, 1000, 0, 10) == Window(0, 1000, 10)
    assert window_around(500, 1000, 1, 10) == Window(250, 750, 10)
    assert window_around(10, 1000, 2, 10) == Window(0, 250, 10)
    assert window_around(1000, 1000, 2, 10) == Window(750, 1000, 10)


def test_rows_are_the_machines_or_the_networks():
    span = lambda fault: FaultSpan(0, fault, 0, None)  # noqa: E731
    assert rows_of(span(LOSS), 3) == (NETWORK_ROW,)
    assert rows_of(span(f.NetworkHeal()), 3) == (NETWORK_ROW,)
    assert rows_of(span(f.DiskFull(2)), 3) == (2,)
    assert rows_of(span(f.HealAll()), 2) == (0, 1, NETWORK_ROW)


spans = st.builds(
    lambda fault, begin, length: FaultSpan(0, fault, begin, None if length is None else begin + length),
    st.sampled_from([PARTITION, LOSS, f.InjectNmi(0)]),
    st.integers(0, 10**12),
    st.none() | st.integers(0, 10**12),
)


@given(st.lists(spans), st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 200))
def test_nothing_is_drawn_outside(found, begin, length, cells):
    glyphs = draw(found, [], Window(begin, begin + length, cells))
    assert all(0 <= at < cells and len(glyph.character) == 1 for at, glyph in glyphs.items())


# ---- coverage -------------------------------------------------------------------------------------------------------


def counters(**cells: int) -> bytes:
    data = bytearray(CELLS)
    for name, count in cells.items():
        data[int(name[1:])] = count
    return bytes(data)


def test_levels_are_afls_classes():
    for level, count in enumerate((0, 1, 2, 3, 7, 15, 31, 127, 255)):
        tile = fold(classes(counters(_0=count)), bytes(CELLS), 4, 4)[0][0]
        assert tile.level == level
        assert tile.character == RAMP[level]


def test_machines_are_merged_by_who_counted_most():
    both = merged([classes(counters(_0=1, _9=200)), classes(counters(_0=5))])
    tiles = fold(both, bytes(CELLS), CELLS // 8, 8)
    assert [tile.level for tile in tiles[0] + tiles[1]] == [4, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0]
    assert edges(both) == 2


def test_new_is_what_was_empty_before():
    before, now = classes(counters(_0=1, _1=1)), classes(counters(_0=200, _2=1))
    fresh = new_cells(now, before)
    assert edges(fresh) == 1
    tiles = fold(now, fresh, CELLS // 4, 4)[0]
    assert [tile.character for tile in tiles] == ["@", " ", "1", " "]


@given(st.integers(1, 60), st.integers(1, 200))
def test_every_cell_is_in_one_tile(rows, columns):
    bits = classes(bytes([1]) * CELLS)
    tiles = fold(bits, bytes(CELLS), rows, columns)
    assert [len(row) for row in tiles] == [columns] * rows
    assert all(tile.level == 1 for row in tiles for tile in row)


# ---- guests' text ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m \x1b]0;title\x07!", "red !"),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("[bold]markup[/]", "[bold]markup[/]"),
        ("a\u202eb\u200bc\x9b5nd", "abc5nd"),
        ("e\u0301\u0301\u0301", "e"),
        ("日本", "日本"),
        ("\ud800x", "?x"),
        ("\x1b[999999999999999999999999", ""),
    ],
)
def test_guests_text_is_made_safe(text, shown):
    assert plain(text).replace("\ufffd", "") == shown


@given(st.text(st.characters(codec=None)), st.integers(0, 40))
def test_guests_text_is_one_printable_row_of_its_width(text, cells):
    shown = plain(text, cells)
    assert shown.isprintable()
    assert cell_len(shown) <= cells
    assert all(cell_len(character) > 0 for character in shown)


@given(st.text(), st.integers(2, 30), st.integers(0, 5))
def test_wrapped_text_fits(text, cells, rows):
    wrapped = wrap_plain(text, cells, rows)
    assert len(wrapped) <= rows
    assert all(cell_len(row) <= cells for row in wrapped)
    if len(wrapped) < rows:
        assert "".join(wrapped) == plain(text)
