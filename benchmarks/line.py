"""A straight line through update times against real steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.results import Row


class Line(NamedTuple):
    """seconds = intercept + slope * steps. r2: coefficient of determination."""

    slope: float
    intercept: float
    r2: float

    def __str__(self) -> str:
        sign = "-" if self.intercept < 0 else "+"
        return f"{self.slope * 1e6:.1f} µs a step {sign} {abs(self.intercept) * 1e3:.1f} ms"


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The least-squares line through (steps, seconds) points with at least two different numbers of steps."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x
    intercept = mean_y - slope * mean_x
    left = sum((y - intercept - slope * x) ** 2 for x, y in points)
    total = sum((y - mean_y) ** 2 for _, y in points)
    return Line(slope, intercept, 1 - left / total if total else 1.0)


def points(rows: Sequence[Row], who: str) -> list[tuple[float, float]]:
    """(real steps, median seconds) of each row; who: "endmark" or "baseline"."""
    return [(float(row.details["n_steps"]), getattr(row, who).median) for row in rows]
