"""Which panes are in view at which size."""

import pytest

from cc_tui.tui.layout import Shape, grid_fits, share_rows
from cc_tui.tui.panes.side import SIDE_PANES

SHAPES = (Shape("a", 18, 2), Shape("b", 5, 1), Shape("c", 6, 2))


@pytest.mark.parametrize("rows", [0, 1, 5, 17, 18, 22, 23, 24, 28, 29, 46, 200])
@pytest.mark.parametrize("chosen", ["a", "b", "c", "none"])
def test_rows_are_all_given_and_the_chosen_pane_is_in_view(rows, chosen):
    given = share_rows(SHAPES, rows, chosen)
    assert sum(given.values()) == rows
    assert chosen in given or chosen == "none"
    if len(given) > 1:
        assert all(given[shape.name] >= shape.rows_min for shape in SHAPES if shape.name in given)


def test_a_pane_without_room_leaves_it_to_the_others():
    assert list(share_rows(SHAPES, 20, "a")) == ["a"]
    assert list(share_rows(SHAPES, 20, "c")) == ["b", "c"]
    assert list(share_rows(SHAPES, 29, "b")) == ["a", "b", "c"]
    assert share_rows(SHAPES, 34, "a") == {"a": 20, "b": 6, "c": 8}


def test_the_grid_needs_room_for_every_console():
    assert grid_fits(160, 50, 4)
    assert not grid_fits(160, 43, 4)
    assert not grid_fits(160, 50, 1)
    assert not grid_fits(160, 200, 5)
    assert not grid_fits(119, 50, 2)


def test_every_side_pane_says_what_it_is():
    names = [pane.NAME for pane in SIDE_PANES]
    assert len(set(names)) == len(names)
    for pane in SIDE_PANES:
        assert pane.ABOUT.endswith(".")
        assert pane.PANE_KEYS
        assert pane.ROWS_MIN >= 3
        assert pane.WEIGHT >= 1
