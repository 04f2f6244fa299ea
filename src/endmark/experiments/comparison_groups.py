"""Runs in cells: one for each task and variant, with its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from endmark.experiments.scores import Found, RunScores

Cells = Mapping[tuple[str, str], Sequence[RunScores]]
"""The runs of each task and variant; none is empty."""
ABSENT = object()
NO_ABSOLUTE = (
    "no absolute score: want episodes of its best checkpoint, as `endmark train` plays them at the end"
)


def in_cells(
    found: Found, absolute: str | None = None
) -> tuple[dict[tuple[str, str], list[RunScores]], list[str]]:
    """The cells in the order of their first runs, and a line on each run that is left out.

    absolute: a metric; runs without their absolute score of it are left out.

    A variant is an algorithm and the values of those settings in which its runs differ on any one task. So
    settings that were chosen anew for each task make no variant. Of runs of one cell with the same seed the
    first counts.
    """
    cells: dict[tuple[str, str], list[RunScores]] = {}
    left_out = list(found.left_out)
    runs = [run for run in found.runs if absolute is None or run.absolute(absolute) is not None]
    left_out += [f"{run.source}: {NO_ABSOLUTE}" for run in found.runs if run not in runs]
    differing = {run.algorithm: _differing(runs, run.algorithm) for run in runs}
    for run in runs:
        words = [f"{name}={_short(run.settings.get(name))}" for name in differing[run.algorithm]]
        cell = cells.setdefault((run.task, " ".join([run.algorithm, *words])), [])
        twin = next((other for other in cell if other.seed == run.seed), None)
        if twin is None:
            cell.append(run)
        else:
            left_out.append(f"{run.source}: seed {run.seed} once more, as in {twin.source}")
    return cells, left_out


def renamed(runs: Sequence[RunScores], names: Mapping[str, str]) -> list[RunScores]:
    """The runs with tasks called by other names, so that runs from elsewhere stand beside others.

    ValueError for a name that no run has.
    """
    known = sorted({run.task for run in runs})
    for name in names:
        if name not in known:
            raise ValueError(f"rename: given '{name}', want one of {', '.join(known)}")
    return [replace(run, task=names.get(run.task, run.task)) for run in runs]


def tasks_of(cells: Cells) -> list[str]:
    """The tasks in their order."""
    return list(dict.fromkeys(task for task, _ in cells))


def variants_of(cells: Cells) -> list[str]:
    """The variants in their order."""
    return list(dict.fromkeys(variant for _, variant in cells))


def _differing(runs: Sequence[RunScores], algorithm: str) -> list[str]:
    """The settings in which this algorithm's runs differ on one of the tasks."""
    its = [run for run in runs if run.algorithm == algorithm]
    names = dict.fromkeys(name for run in its for name in run.settings)
    found = []
    for name in names:
        values: dict[str, list[Any]] = {}
        for run in its:
            values.setdefault(run.task, []).append(run.settings.get(name, ABSENT))
        if any(value != of_task[0] for of_task in values.values() for value in of_task):
            found.append(name)
    return found


def _short(value: Any) -> str:
    """A setting in few characters: 0.0005 as it is, a list by its items."""
    if isinstance(value, list):
        return ",".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
