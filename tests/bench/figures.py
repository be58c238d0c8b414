"""What the benchmarks share: order statistics and tables.

The machine is usually shared and noisy, so figures are medians and percentiles, and comparisons are ratios of pairs
measured one right after the other.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter, process_time


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values do not pass."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def clocked(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds of this process for a piece of work."""
    cpu, wall = process_time(), perf_counter()
    work()
    return process_time() - cpu, perf_counter() - wall


def show_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    print(f"\n{title}")
    for row in (heads, *rows):
        cells = [cell.ljust(widths[i]) if i == 0 else cell.rjust(widths[i]) for i, cell in enumerate(row)]
        print("  " + "  ".join(cells).rstrip())


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.3f} ms"
