"""A comparison as tables: in the terminal, as CSV and as LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from endmark.experiments.comparison import Cell, Comparison
from endmark.experiments.statistics import Estimate

OVER_TASKS = {
    "IQM": "interquartile mean of all runs of all tasks; the figure to report",
    "mean": "mean over tasks of the mean over runs",
    "median": "median over tasks of the mean over runs",
    "optimality gap": "how far scores are below 1 on average; lower is better",
    "area": "interquartile mean of the area under the curve: how soon a score is reached",
}
"""Columns of the table over tasks, and what they mean."""
OF_TASK = {
    "final": "interquartile mean of the last evaluations",
    "mean": "mean over runs of the score that is compared",
    "best": "interquartile mean of the highest evaluations; too high by the choice of a maximum",
    "absolute": "interquartile mean of further episodes of the best checkpoints",
    "normalised": "interquartile mean of the normalised score that is compared",
    "area": "area under the normalised curve, up to the smallest budget",
}
"""Columns of a task's table that have intervals, and what they mean."""


class Row(NamedTuple):
    """Of a task's table: estimates by column, and columns without interval, in words."""

    estimates: Mapping[str, Estimate | None]
    words: Mapping[str, str]


def row_of(cell: Cell) -> Row:
    """A variant's row on a task."""
    steps = "-" if cell.steps is None else f"{cell.steps:,.0f}"
    words = {
        "runs": str(len(cell.runs)),
        "reached": f"{cell.reached}/{len(cell.runs)}",
        "steps to it": steps,
        "wall clock": duration(cell.seconds),
    }
    return Row({name: getattr(cell, name) for name in OF_TASK}, words)


def number(value: float) -> str:
    """Three decimals of a small number, fewer of a large one."""
    decimals = 3 if abs(value) < 9.9995 else 2 if abs(value) < 99.995 else 1
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def value_text(estimate: Estimate | None) -> str:
    """The value, or that there is none."""
    return "-" if estimate is None or math.isnan(estimate.value) else number(estimate.value)


def bounds_text(estimate: Estimate | None) -> str:
    """The interval; nothing where it is not known."""
    if estimate is None or not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def duration(seconds: float | None) -> str:
    """A time in few characters, such as 1 h 05 min."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def scale_text(comparison: Comparison, task: str) -> str:
    """What counts as 0 and as 1 on a task, and as reached."""
    low, high, low_is, high_is = comparison.bounds[task]
    ends = f"0 is {number(low)} ({low_is}), 1 is {number(high)} ({high_is})"
    return f"normalised: {ends}; reached: {comparison.settings.threshold:g} of that"


def facts_of(comparison: Comparison) -> str:
    """What was compared, in one sentence."""
    runs = sum(len(cell.runs) for cell in comparison.cells.values())
    score = {
        "final": "of the last evaluation",
        "best": "of the highest evaluation",
        "absolute": "of further episodes of the best checkpoint",
    }[comparison.settings.score]
    many = [f"{runs} runs", f"{len(comparison.variants)} variants", f"{len(comparison.tasks)} tasks"]
    words = ", ".join(word[:-1] if word.startswith("1 ") else word for word in many)
    return f"{words}; score: {comparison.settings.metric} {score}; 95 % intervals over seeds"


def comparison_tables(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    """A table for each task, one over tasks, and the probabilities of improvement; wide ones in parts."""
    yield Text(facts_of(comparison))
    for task in comparison.tasks:
        yield Text(task, "bold")
        yield Text(scale_text(comparison, task), "dim")
        cells = {v: cell for v in comparison.variants if (cell := comparison.cells.get((task, v)))}
        rows = {v: row_of(cell) for v, cell in cells.items()}
        columns = [name for name in OF_TASK if any(row.estimates[name] for row in rows.values())]
        yield from _tables({v: _texts(row, columns) for v, row in rows.items()}, width)
    if comparison.shared:
        of = f"{len(comparison.shared)} tasks" if len(comparison.shared) > 1 else comparison.shared[0]
        yield Text(f"normalised scores over {of}", "bold")
        over = {v: Row(its.figures, {"runs": str(its.n_runs)}) for v, its in comparison.overall.items()}
        yield from _tables({v: _texts(row, list(OVER_TASKS)) for v, row in over.items()}, width)
    if comparison.improvement:
        yield Text("probability that a run of the row has a higher score than one of the column", "bold")
        variants = comparison.variants
        pairs = {a: {b: _cell(comparison.improvement.get((a, b))) for b in variants} for a in variants}
        yield from _tables(pairs, width)


def _texts(row: Row, columns: Sequence[str]) -> dict[str, Text]:
    """The cells of a row: its runs, the estimates, the other words."""
    words = {name: Text(text) for name, text in row.words.items()}
    return {"runs": words.pop("runs"), **{name: _cell(row.estimates[name]) for name in columns}, **words}


def _tables(rows: Mapping[str, Mapping[str, Text]], width: int) -> Iterator[Table]:
    """A row a variant, in one table, or in several of as many columns as fit."""
    parts: list[list[str]] = [[]]
    used = names = max(len("variant"), *map(len, rows)) + 4
    for column in next(iter(rows.values())):
        lines = [line for row in rows.values() for line in row[column].plain.split("\n")]
        its = max(len(column), *map(len, lines)) + 3
        if parts[-1] and used + its > width:
            parts.append([])
            used = names
        parts[-1].append(column)
        used += its
    for part in parts:
        table = Table(box=box.SIMPLE_HEAD)
        table.add_column("variant", overflow="fold")
        for column in part:
            table.add_column(Text(column), justify="right", no_wrap=True)
        for variant, row in rows.items():
            table.add_row(Text(variant), *(row[column] for column in part))
        yield table


def _cell(estimate: Estimate | None) -> Text:
    """A value, and below it its interval."""
    text = Text(value_text(estimate))
    bounds = bounds_text(estimate)
    return text.append(f"\n{bounds}", "dim") if bounds else text


def comparison_csv(comparison: Comparison) -> str:
    """A line for each figure of each variant, on each task and over tasks: its value, low and high."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["task", "variant", "runs", "figure", "value", "low", "high"])
    for (task, variant), cell in comparison.cells.items():
        for name, its in row_of(cell).estimates.items():
            if its is not None:
                writer.writerow([task, variant, len(cell.runs), name, *_known(its)])
        for name, value in (("steps to threshold", cell.steps), ("seconds", cell.seconds)):
            if value is not None:
                writer.writerow([task, variant, len(cell.runs), name, value, "", ""])
        writer.writerow([task, variant, len(cell.runs), "runs that reached it", cell.reached, "", ""])
    for variant, overall in comparison.overall.items():
        for name, its in overall.figures.items():
            writer.writerow(["all", variant, overall.n_runs, name, *_known(its)])
    for (first, second), its in comparison.improvement.items():
        name = f"probability of improvement over {second}"
        writer.writerow(["all", first, comparison.overall[first].n_runs, name, *_known(its)])
    return out.getvalue()


def _known(estimate: Estimate) -> list[float | str]:
    return [value if math.isfinite(value) else "" for value in estimate]


def comparison_latex(comparison: Comparison, command: str) -> str:
    """A table for `booktabs`: the IQM of each variant on each task and over tasks, with its interval."""
    tasks = list(comparison.tasks)
    heads = [*map(_latex, tasks), *(["all, normalised"] if comparison.overall else [])]
    lines = [
        f"% {' '.join(command.split())}",
        f"% IQM of {comparison.settings.score} {comparison.settings.metric} and its 95 % interval over seeds",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
    ]
    for variant in comparison.variants:
        cells = [comparison.cells.get((task, variant)) for task in tasks]
        score = comparison.settings.score
        texts = [_latex_cell(None if cell is None else getattr(cell, score)) for cell in cells]
        if comparison.overall:
            texts.append(_latex_cell(comparison.overall[variant].figures["IQM"]))
        lines.append(" & ".join([_latex(variant), *texts]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_cell(estimate: Estimate | None) -> str:
    if estimate is None:
        return "--"
    bounds = bounds_text(estimate)
    shown = f"${value_text(estimate)}$"
    if not bounds:
        return shown
    return rf"{shown} {{\small $[{number(estimate.low)}, {number(estimate.high)}]$}}"


def _latex(text: str) -> str:
    """The text, with what LaTeX would read as commands written as letters."""
    marks = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    marks |= {c: f"\\{c}" for c in "&%$#_{}"}
    return "".join(marks.get(c, c if c.isprintable() else " ") for c in text)
