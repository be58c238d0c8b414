"""Bounds of a rate: values of the beta distribution's quantiles, which Clopper and Pearson's are."""

import pytest

from chaoscontrol.confidence import bounds, upper_bound


@pytest.mark.parametrize(
    ("seen", "tries", "bound"),
    [(0, 1, 0.95), (0, 100, 0.02951), (0, 3000, 0.000998), (1, 10, 0.39416), (3, 20, 0.34366), (5, 5, 1.0)],
)
def test_the_one_sided_bound(seen, tries, bound):
    assert upper_bound(seen, tries) == pytest.approx(bound, abs=5e-5)


@pytest.mark.parametrize(
    ("seen", "tries", "low", "high"),
    [(0, 20, 0.0, 0.16843), (20, 20, 0.83157, 1.0), (5, 10, 0.18709, 0.81291), (1, 10, 0.00253, 0.44502),
     (0, 1, 0.0, 0.975), (37, 50, 0.59659, 0.85366)],
)  # fmt: skip
def test_the_two_sided_bounds(seen, tries, low, high):
    assert bounds(seen, tries) == pytest.approx((low, high), abs=5e-5)


def test_more_confidence_is_wider():
    low, high = bounds(3, 20)
    lower, higher = bounds(3, 20, confidence_ppm=990_000)
    assert lower < low < high < higher
