"""The curves of runs: on common steps, normalised, and as figures over runs and tasks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from endmark.experiments import statistics
from endmark.experiments.scores import RunScores
from endmark.experiments.statistics import Array, Estimate
from endmark.report.curve import Curve

Estimator = Callable[..., Estimate]
"""`statistics.estimate` with its samples and seed."""
POINTS = 60
"""At most so many of a curve."""


class Bounds(NamedTuple):
    """What counts as 0 and as 1 on a task, each with where it comes from."""

    low: float
    high: float
    low_is: str = "given"
    high_is: str = "given"


class Point(NamedTuple):
    """Of a curve: environment steps, or a share of them, and the IQM there with its 95 % interval."""

    at: float
    value: float
    low: float
    high: float


def normalised(scores: Sequence[float] | Array, bounds: Bounds) -> Array:
    """Normalised scores; NaN where the bounds are one point."""
    width = bounds.high - bounds.low
    return (np.asarray(scores, np.float64) - bounds.low) / (width if width > 0 else math.nan)


def steps_to(curve: Curve, bounds: Bounds, threshold: float) -> float:
    """Steps at the first evaluation whose normalised score is at least the threshold; infinity if none is."""
    scaled = normalised([value for _, value in curve], bounds)
    return next((at for (at, _), value in zip(curve, scaled, strict=True) if value >= threshold), math.inf)


def areas(runs: Sequence[RunScores], bounds: Bounds, budget: float, metric: str) -> Array:
    """Of each run [R] the mean normalised score from step 0 to the budget.

    The first evaluation stands for the steps before it.
    """
    at = np.linspace(0.0, budget, 201)
    values = on_grid(runs, at, metric)
    return normalised(((values[:, 1:] + values[:, :-1]) / 2).mean(1), bounds)


def on_grid(runs: Sequence[RunScores], at: Array, metric: str) -> Array:
    """Each run's metric [R, P] at steps [P]: straight lines between evaluations, level outside them."""
    curves = [np.asarray(run.curve(metric), np.float64) for run in runs]
    return np.stack([np.interp(at, curve[:, 0], curve[:, 1]) for curve in curves])


def task_curve(runs: Sequence[RunScores], metric: str, figures: Estimator) -> list[Point]:
    """The IQM over runs where all of them have been evaluated, at evenly spaced steps."""
    curves = [run.curve(metric) for run in runs]
    first, last = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    if last < first:
        return []
    n = 1 if last == first else max(2, min(POINTS, int(np.median([len(curve) for curve in curves]))))
    at = np.linspace(first, last, n)
    values = on_grid(runs, at, metric)
    return [Point(float(x), *figures(statistics.iqm, [v])) for x, v in zip(at, values.T, strict=True)]


def curve_over_tasks(
    runs: Mapping[str, Sequence[RunScores]],
    bounds: Mapping[str, Bounds],
    budgets: Mapping[str, float],
    metric: str,
    figures: Estimator,
) -> list[Point]:
    """The IQM of one variant's normalised scores over tasks and runs, over shares of each task's budget."""
    first = max(run.curve(metric)[0][0] / budgets[task] for task, its in runs.items() for run in its)
    at = np.linspace(min(1.0, first), 1.0, POINTS if first < 1 else 1)
    scaled = [
        normalised(on_grid(its, at * budgets[task], metric), bounds[task]) for task, its in runs.items()
    ]
    return [
        Point(float(x), *figures(statistics.iqm, [scores[:, i] for scores in scaled]))
        for i, x in enumerate(at)
    ]
