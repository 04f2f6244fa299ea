"""A comparison as JSON has it: every figure that tables, pictures and the page show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from endmark import __version__
from endmark.experiments.comparison import Cell, Comparison
from endmark.experiments.comparison_curves import Point
from endmark.experiments.comparison_text import OF_TASK
from endmark.experiments.statistics import Estimate


def comparison_json(
    comparison: Comparison, warnings: Sequence[str], left_out: Sequence[str], command: str
) -> dict[str, Any]:
    """Everything. A bound that is not known, and a figure that does not exist, are null.

    command: the one that made it.
    """
    return {
        "command": command,
        "endmark": __version__,
        "settings": asdict(comparison.settings),
        "variants": list(comparison.variants),
        "tasks": [
            {
                "task": task,
                "bounds": comparison.bounds[task]._asdict(),
                "budget": comparison.budgets[task],
                "over tasks": task in comparison.shared,
                "variants": {
                    variant: _cell(comparison, cell)
                    for (its, variant), cell in comparison.cells.items()
                    if its == task
                },
            }
            for task in comparison.tasks
        ],
        "over tasks": {
            variant: {
                "runs": overall.n_runs,
                "figures": {name: _estimate(its) for name, its in overall.figures.items()},
                "profile": _points(overall.profile),
                "curve": _points(overall.curve),
            }
            for variant, overall in comparison.overall.items()
        },
        "probability of improvement": [
            {"variant": first, "over": second, **(_estimate(its) or {})}
            for (first, second), its in comparison.improvement.items()
        ],
        "warnings": list(warnings),
        "left out": list(left_out),
    }


def _cell(comparison: Comparison, cell: Cell) -> dict[str, Any]:
    metric = comparison.settings.metric
    return {
        "figures": {name: _estimate(getattr(cell, name)) for name in OF_TASK},
        "reached": cell.reached,
        "steps to threshold": cell.steps,
        "seconds": cell.seconds,
        "curve": _points(cell.curve),
        "runs": [
            {
                "source": run.source,
                "seed": run.seed,
                "score": score,
                "final": run.final(metric),
                "best": run.highest(metric),
                "absolute": run.absolute(metric),
                "env_steps": run.last_step,
                "seconds": run.seconds(),
                "made_by": run.made_by,
            }
            for run, score in zip(cell.runs, cell.scores, strict=True)
        ],
    }


def _estimate(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None or math.isnan(estimate.value):
        return None
    return {name: value if math.isfinite(value) else None for name, value in estimate._asdict().items()}


def _points(points: Sequence[Point]) -> list[list[float | None]]:
    """[at, value, low, high] of each point."""
    return [[value if math.isfinite(value) else None for value in point] for point in points]
