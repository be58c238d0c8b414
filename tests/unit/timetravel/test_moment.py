"""Moments: their text, their order, and what cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaoscontrol.timetravel import Moment, MomentError, Position
from chaoscontrol.timetravel.moment import MachineMark

marks = st.builds(MachineMark, st.integers(0, (1 << 64) - 1), st.text("0123456789abcdef", min_size=8, max_size=8))
positions = st.builds(Position, st.integers(0, (1 << 62) - 1), st.integers(0, 1_000))
branches = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,31}", fullmatch=True)
moments = st.builds(Moment, branches, positions, st.lists(marks, min_size=1, max_size=5).map(tuple))


@given(moments)
def test_text_reads_back(moment):
    assert Moment.parse(str(moment)) == moment
    assert Moment.parse(f"  {moment}\n") == moment


def test_text_is_what_the_documentation_shows():
    moment = Moment("main", Position(2_013_500_000), (MachineMark(81234567, "9f3ac210"), MachineMark(7, "77e1f0aa")))
    assert str(moment) == "main@2.013500000:81234567.9f3ac210,7.77e1f0aa"
    assert moment.brief == "main@2.013500000"
    assert Moment("b1", Position(5, 2), ()).brief == "b1@0.000000005+2"


@given(moments, moments)
def test_order_within_a_branch_is_by_time_then_inputs(a, b):
    b = Moment(a.branch, b.position, b.machines)
    assert (a < b, a <= b, a > b, a >= b) == (
        a.position < b.position,
        a.position <= b.position,
        a.position > b.position,
        a.position >= b.position,
    )


def test_moments_of_different_branches_have_no_order():
    with pytest.raises(MomentError, match="different branches"):
        assert Moment("a", Position(1), ()) < Moment("b", Position(2), ())


@given(st.text(max_size=60))
def test_anything_else_is_one_clear_error(text):
    with pytest.raises(MomentError) as caught:
        Moment.parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "main@2.0135:1.9f3ac210",
        "main@2.013500000",
        "main@2.013500000:1.9f3ac21",
        "main@2.013500000:1.9F3AC210",
        "main@2.013500000:1.9f3ac210,",
        "1b@2.013500000:1.9f3ac210",
        "main@-2.013500000:1.9f3ac210",
    ],
)
def test_nearly_right_is_wrong(text):
    with pytest.raises(MomentError):
        Moment.parse(text)
