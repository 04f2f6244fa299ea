"""The comparison of variants over seeds and over tasks: every figure that `endmark compare` shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np

from endmark.experiments import statistics
from endmark.experiments.comparison_curves import (
    Bounds,
    Estimator,
    Point,
    areas,
    curve_over_tasks,
    normalised,
    steps_to,
    task_curve,
)
from endmark.experiments.comparison_groups import NO_ABSOLUTE, Cells, tasks_of, variants_of
from endmark.experiments.scores import RunScores
from endmark.experiments.statistics import Array, Estimate, Figure, Strata, estimate
from endmark.report.run_curves import GREEDY_RETURN

Score = Literal["final", "best", "absolute"]
THRESHOLDS = np.linspace(0.0, 1.0, 41)
"""Of the performance profile."""
FIGURES = {
    "IQM": statistics.iqm,
    "mean": statistics.mean,
    "median": statistics.median,
    "optimality gap": statistics.optimality_gap,
}
"""Over tasks, of normalised scores."""


@dataclass(frozen=True)
class Settings:
    """What to compare.

    metric: of evaluations, such as `greedy_win`.
    score: of a run: that of its last evaluation, of its highest one, or of further episodes of its best
        checkpoint.
    threshold: a normalised score, to be reached.
    bounds: of tasks, in place of those that are found. samples, seed: of the bootstrap.
    """

    metric: str = GREEDY_RETURN
    score: Score = "final"
    threshold: float = 0.9
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    samples: int = statistics.SAMPLES
    seed: int = 0


@dataclass(frozen=True)
class Cell:
    """A variant on a task: figures in the metric's own units, but for `normalised` and `area`.

    final, best, absolute: the IQM of each kind of score; absolute is None where a run lacks it.
    mean, normalised: the mean of the score that is compared, and the IQM of it when normalised.
    area: the IQM of runs' mean normalised score from step 0 to `Comparison.budgets`.
    reached: runs that reach the threshold. steps: the median steps to it, None where half do not reach it.
    seconds: the median wall clock; None if it is not known. scores: that are compared, a run each.
    """

    runs: Sequence[RunScores]
    scores: Sequence[float]
    final: Estimate
    best: Estimate
    absolute: Estimate | None
    mean: Estimate
    normalised: Estimate
    area: Estimate
    reached: int
    steps: float | None
    seconds: float | None
    curve: Sequence[Point]


@dataclass(frozen=True)
class Overall:
    """A variant over all tasks that every variant has: figures of `FIGURES`, the area, and two curves.

    profile: at each of `THRESHOLDS` the share of runs above it. curve: over shares of each task's budget.
    """

    n_runs: int
    figures: Mapping[str, Estimate]
    profile: Sequence[Point]
    curve: Sequence[Point]


@dataclass(frozen=True)
class Comparison:
    """Everything. tasks, variants: in their order. shared: tasks that figures over tasks are of.

    budgets: of each task the smallest number of steps at which a run was evaluated last.
    improvement: of each pair of variants the probability that the first has the higher score.
    """

    settings: Settings
    tasks: Sequence[str]
    variants: Sequence[str]
    shared: Sequence[str]
    bounds: Mapping[str, Bounds]
    budgets: Mapping[str, float]
    cells: Mapping[tuple[str, str], Cell]
    overall: Mapping[str, Overall]
    improvement: Mapping[tuple[str, str], Estimate]


def compare(cells: Cells, settings: Settings) -> Comparison:
    """Compare the variants; ValueError if there is nothing to compare, or for bounds of no task."""
    tasks, variants = tasks_of(cells), variants_of(cells)
    for task in settings.bounds:
        if task not in tasks:
            raise ValueError(f"bounds: given '{task}', want one of {', '.join(tasks)}")
    by_task = {task: [run for key, runs in cells.items() if key[0] == task for run in runs] for task in tasks}
    bounds = {task: bounds_of(runs, settings, settings.bounds.get(task)) for task, runs in by_task.items()}
    ends = {task: [run.curve(settings.metric)[-1][0] for run in runs] for task, runs in by_task.items()}
    budgets = {task: max(1.0, min(its)) for task, its in ends.items()}
    figures = partial(estimate, samples=settings.samples, seed=settings.seed)
    made = {
        key: _cell(runs, bounds[key[0]], budgets[key[0]], settings, figures) for key, runs in cells.items()
    }
    shared = [
        task
        for task in tasks
        if bounds[task].high > bounds[task].low and all((task, v) in cells for v in variants)
    ]
    overall: dict[str, Overall] = {}
    improvement: dict[tuple[str, str], Estimate] = {}
    if shared:
        strata = {v: [normalised(made[task, v].scores, bounds[task]) for task in shared] for v in variants}
        for v in variants:
            of_variant = {task: cells[task, v] for task in shared}
            overall[v] = _overall(of_variant, strata[v], bounds, budgets, settings, figures)
        for pair in itertools.permutations(variants, 2):
            improvement[pair] = figures(statistics.probability_of_improvement, *(strata[v] for v in pair))
    return Comparison(settings, tasks, variants, shared, bounds, budgets, made, overall, improvement)


def score_of(run: RunScores, settings: Settings) -> float:
    """The score that is compared; ValueError where a run has no absolute one."""
    if settings.score == "absolute":
        if (score := run.absolute(settings.metric)) is None:
            raise ValueError(f"{run.source}: {NO_ABSOLUTE}")
        return score
    return run.final(settings.metric) if settings.score == "final" else run.highest(settings.metric)


def bounds_of(runs: Sequence[RunScores], settings: Settings, given: tuple[float, float] | None) -> Bounds:
    """What counts as 0 and 1 on the task of these runs.

    A share, which is an outcome between 0 and 1, stays as it is. Otherwise 0 is random play where the runs
    have its episodes, and the lowest evaluation of any run where they have not; 1 is the highest evaluation.
    """
    if given is not None:
        return Bounds(*given)
    values = [value for run in runs for _, value in run.curve(settings.metric)]
    values += [value for run in runs if (value := run.absolute(settings.metric)) is not None]
    is_outcome = settings.metric not in (GREEDY_RETURN, "greedy_length")
    if is_outcome and min(values) >= 0 and max(values) <= 1:
        return Bounds(0.0, 1.0, "a share", "a share")
    random = [run.random.mean(settings.metric) for run in runs if run.random is not None]
    known = [value for value in random if value is not None]
    high = max(values), "the highest evaluation of a run"
    if known and float(np.mean(known)) < high[0]:
        return Bounds(float(np.mean(known)), high[0], "random play", high[1])
    return Bounds(min(values), high[0], "the lowest evaluation of a run", high[1])


def _cell(
    runs: Sequence[RunScores],
    bounds: Bounds,
    budget: float,
    settings: Settings,
    figures: Estimator,
) -> Cell:
    metric = settings.metric
    scores = [score_of(run, settings) for run in runs]
    absolute = [value for run in runs if (value := run.absolute(metric)) is not None]
    steps = [steps_to(run.curve(metric), bounds, settings.threshold) for run in runs]
    seconds = [known for run in runs if (known := run.seconds()) is not None]
    typical = float(np.sort(steps)[len(steps) // 2])

    def of(values: Sequence[float] | Array, figure: Figure = statistics.iqm) -> Estimate:
        return figures(figure, [np.asarray(values, np.float64)])

    return Cell(
        runs=runs,
        scores=scores,
        final=of([run.final(metric) for run in runs]),
        best=of([run.highest(metric) for run in runs]),
        absolute=of(absolute) if len(absolute) == len(runs) else None,
        mean=of(scores, statistics.mean),
        normalised=of(normalised(scores, bounds)),
        area=of(areas(runs, bounds, budget, metric)),
        reached=sum(math.isfinite(at) for at in steps),
        steps=typical if math.isfinite(typical) else None,
        seconds=float(np.median(seconds)) if len(seconds) == len(runs) else None,
        curve=task_curve(runs, metric, figures),
    )


def _overall(
    runs: Mapping[str, Sequence[RunScores]],
    strata: Strata,
    bounds: Mapping[str, Bounds],
    budgets: Mapping[str, float],
    settings: Settings,
    figures: Estimator,
) -> Overall:
    """Of one variant, from its runs on each task and their normalised scores."""
    its = {name: figures(figure, strata) for name, figure in FIGURES.items()}
    surfaces = [areas(its, bounds[t], budgets[t], settings.metric) for t, its in runs.items()]
    its["area"] = figures(statistics.iqm, surfaces)
    curve = curve_over_tasks(runs, bounds, budgets, settings.metric, figures)
    return Overall(sum(map(len, strata)), its, _profile(strata, settings), curve)


def _profile(strata: Strata, settings: Settings) -> list[Point]:
    figure = partial(statistics.profile, thresholds=THRESHOLDS)
    values = figure(strata)
    low, high = statistics.interval(figure, strata, samples=settings.samples, seed=settings.seed)
    return [Point(*map(float, point)) for point in zip(THRESHOLDS, values, low, high, strict=True)]
