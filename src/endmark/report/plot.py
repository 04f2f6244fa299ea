"""What `endmark plot` shows: a picture of runs, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from endmark.report.curve import learning_curve
from endmark.report.run_curves import GREEDY_RETURN, RunCurve, best_of, grouped


def draw_runs(
    runs: Sequence[RunCurve],
    path: Path,
    *,
    metric: str = GREEDY_RETURN,
    title: str | None = None,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Draw the curves of runs, at least one of which has a point; those without are left out.

    title: by default the environment, where all runs have the same.
    Raises as `learning_curve` does.
    """
    groups = grouped([run for run in runs if run.curve])
    if title is None:
        envs = {str(run.options["env"]) for group in groups.values() for run in group}
        title = envs.pop() if len(envs) == 1 else ""
    curves = {label: [run.curve for run in group] for label, group in groups.items()}
    how = {} if metric == GREEDY_RETURN else {"y_label": metric}
    learning_curve(curves, path, title=title, levels=levels, **how)


def points_table(runs: Sequence[RunCurve]) -> Table:
    """The last point of every run and the highest one, a row a run."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    for column in ("points", "last", "at step", "highest", "at step"):
        table.add_column(column, justify="right", no_wrap=True)
    for run in runs:
        points = [run.curve[-1], best_of(run.curve)] if run.curve else []
        cells = [cell for steps, value in points for cell in (f"{value:.4g}", f"{steps:,.0f}")]
        table.add_row(Text(str(run.directory)), str(len(run.curve)), *(cells or ["-"] * 4))
    return table
