"""What `endmark plot` shows: a picture of runs, and the same as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rich import box
from rich.table import Table
from rich.text import Text

from endmark.report.curve import Panel, learning_curve
from endmark.report.run_curves import GREEDY_RETURN, RunCurve, best_of, grouped
from endmark.rollout import Summary


def draw_runs(
    runs: Sequence[RunCurve],
    path: Path,
    *,
    metric: str = GREEDY_RETURN,
    title: str | None = None,
    levels: Mapping[str, Summary] = MappingProxyType({}),
) -> None:
    """Draw the curves of runs, at least one of which has a point; those without are left out.

    Below the greedy return stands a panel for each outcome of the runs, such as `win`.
    title: by default the environment, where all runs have the same.
    levels: what other policies reach, such as a random one, for horizontal lines.
    Raises as `learning_curve` does.
    """
    groups = grouped([run for run in runs if run.curve])
    if title is None:
        envs = {str(run.options["env"]) for group in groups.values() for run in group}
        title = envs.pop() if len(envs) == 1 else ""
    curves = {label: [run.curve for run in group] for label, group in groups.items()}
    if metric != GREEDY_RETURN:
        learning_curve(curves, path, title=title, y_label=metric)
        return
    names = dict.fromkeys(name for run in runs if run.curve for name in run.outcomes)
    below = [_panel(name, groups, levels) for name in names]
    returns = {label: summary.return_mean for label, summary in levels.items()}
    learning_curve(curves, path, title=title, levels=returns, below=below)


def _panel(name: str, groups: Mapping[str, Sequence[RunCurve]], levels: Mapping[str, Summary]) -> Panel:
    """The panel of an outcome, for the runs that have it."""
    having = {label: [run for run in group if name in run.outcomes] for label, group in groups.items()}
    curves = {label: [run.outcomes[name] for run in runs] for label, runs in having.items() if runs}
    means = {label: s.outcomes[name].mean for label, s in levels.items() if name in s.outcomes}
    return Panel(f"greedy {name}", curves, means)


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
