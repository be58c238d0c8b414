"""What a number of tries says: bounds for how often something happens, from how often it was seen."""

from __future__ import annotations

from math import comb

CONFIDENCE_PPM = 950_000


def upper_bound(seen: int, tries: int, *, confidence_ppm: int = CONFIDENCE_PPM) -> float:
    """The one-sided Clopper-Pearson bound: a rate above it would have shown itself more than `seen` times in `tries`.

    With none seen it is 1 - (1 - confidence) ** (1 / tries), about 3 / tries at 95 %: the rule of three.
    """
    return _upper(seen, tries, 1 - confidence_ppm / 1e6)


def bounds(seen: int, tries: int, *, confidence_ppm: int = CONFIDENCE_PPM) -> tuple[float, float]:
    """The two-sided Clopper-Pearson bounds: half of what is left to doubt lies below them, half above."""
    unlikely = (1 - confidence_ppm / 1e6) / 2
    return 1 - _upper(tries - seen, tries, unlikely), _upper(seen, tries, unlikely)


def _upper(seen: int, tries: int, unlikely: float) -> float:
    """The rate at which seeing so few, or fewer, has the probability `unlikely`."""
    assert 0 <= seen <= tries and tries > 0
    if seen == tries:
        return 1.0
    if seen == 0:
        return 1 - unlikely ** (1 / tries)
    low, high = seen / tries, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        at_most = sum(comb(tries, k) * middle**k * (1 - middle) ** (tries - k) for k in range(seen + 1))
        low, high = (middle, high) if at_most > unlikely else (low, middle)
    return high


__all__ = ["CONFIDENCE_PPM", "bounds", "upper_bound"]
