"""A comparison as a self-contained HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from endmark.experiments.comparison import Comparison
from endmark.experiments.comparison_charts import chart, look
from endmark.experiments.comparison_text import (
    OF_TASK,
    OVER_TASKS,
    bounds_text,
    facts_of,
    row_of,
    scale_text,
    value_text,
)
from endmark.experiments.statistics import Estimate
from endmark.report.pages import made_page

NAMES = {"task", "run", "made again by"}
"""Columns of words in the table of runs."""
_e = html.escape


def comparison_page(
    comparison: Comparison, warnings: Sequence[str], left_out: Sequence[str], command: str
) -> str:
    """The page as text: curves, tables and runs. ASCII.

    Each figure carries its number in full as `data-value`, `data-low` and `data-high`.
    command: the one that made it. Names are untrusted, and reach the page as text only.
    """
    tasks = ", ".join(comparison.tasks) if len(comparison.tasks) < 3 else f"{len(comparison.tasks)} tasks"
    notes = [*(f"{line}." for line in warnings), *(f"Left out: {line}." for line in left_out)]
    parts = {
        "heading": _e(tasks),
        "facts": _e(f"{facts_of(comparison)}."),
        "notes": "".join(f"<li>{_e(note[0].upper() + note[1:])}</li>" for note in notes),
        "legend": "".join(_legend(comparison.variants)),
        "charts": "".join(_charts(comparison)),
        "overall": _overall(comparison, command),
        "tasks": "".join(_task(comparison, task, command) for task in comparison.tasks),
        "improvement": _improvement(comparison, command),
        "runs": _runs(comparison),
        "command": _e(command),
    }
    return made_page(
        _asset("compare.html"),
        title=f"{tasks} - endmark",
        style=_asset("compare.css"),
        script=_script(),
        parts=parts,
    )


def _asset(name: str) -> str:
    return files("endmark.experiments").joinpath("page", name).read_text(encoding="utf-8")


def _script() -> str:
    shared = files("endmark.report").joinpath("page", "theme.js").read_text(encoding="utf-8")
    return f"{shared}\n{_asset('compare.js')}"


def _legend(variants: Sequence[str]) -> Iterator[str]:
    for i, variant in enumerate(variants):
        yield (
            f'<button type="button" class="{look(i)}" data-variant="{i}" aria-pressed="true">'
            f"<i></i>{_e(variant)}</button>"
        )


def _charts(comparison: Comparison) -> Iterator[str]:
    metric, variants = comparison.settings.metric, comparison.variants
    for task in comparison.tasks:
        curves = {v: cell.curve for v in variants if (cell := comparison.cells.get((task, v)))}
        y_label = f"{metric}, interquartile mean over runs"
        yield chart(task, curves, variants, x_label="environment steps", y_label=y_label, in_steps=True)
    over = comparison.overall
    if len(comparison.shared) > 1:
        curves = {v: its.curve for v, its in over.items()}
        title, x_label = f"over {len(comparison.shared)} tasks", "share of a task's steps"
        yield chart(title, curves, variants, x_label=x_label, y_label="normalised score, interquartile mean")
    if over:
        curves = {v: its.profile for v, its in over.items()}
        y_label = "share of runs above it"
        yield chart("performance profile", curves, variants, x_label="normalised score", y_label=y_label)


def _overall(comparison: Comparison, command: str) -> str:
    if not comparison.overall:
        return '<p class="hint">No task has runs of every variant and a scale, so there are none.</p>'
    rows = {v: overall.figures for v, overall in comparison.overall.items()}
    runs = {v: {"runs": str(overall.n_runs)} for v, overall in comparison.overall.items()}
    return _table("overall", comparison, rows, OVER_TASKS, runs, "over tasks", command)


def _task(comparison: Comparison, task: str, command: str) -> str:
    rows = {v: row_of(cell) for v in comparison.variants if (cell := comparison.cells.get((task, v)))}
    columns = {name: said for name, said in OF_TASK.items() if any(r.estimates[name] for r in rows.values())}
    table = _table(
        f"task {task}",
        comparison,
        {v: row.estimates for v, row in rows.items()},
        columns,
        {v: row.words for v, row in rows.items()},
        f"on {task}",
        command,
    )
    return f'<h3>{_e(task)}</h3><p class="hint">{_e(scale_text(comparison, task))}.</p>{table}'


def _improvement(comparison: Comparison, command: str) -> str:
    if not comparison.improvement:
        return '<p class="hint">It takes two variants and a task that both have.</p>'
    variants = comparison.variants
    rows = {a: {b: comparison.improvement.get((a, b)) for b in variants} for a in variants}
    said = {b: f"probability of a higher score than {b}" for b in variants}
    return _table("improvement", comparison, rows, said, {}, "over tasks", command)


def _table(
    name: str,
    comparison: Comparison,
    rows: Mapping[str, Mapping[str, Estimate | None]],
    columns: Mapping[str, str],
    words: Mapping[str, Mapping[str, str]],
    where: str,
    command: str,
) -> str:
    """A table that a click on a column's head sorts. columns: what each means."""
    plain = list(next(iter(words.values()), {}))
    first, last = plain[:1], plain[1:]
    heads = [*first, *columns, *last]
    head = "".join(
        f'<th scope="col" aria-sort="none" title="{_e(columns.get(column, column))}">'
        f'<button type="button">{_e(column)}</button></th>'
        for column in ("variant", *heads)
    )
    body = []
    for variant, row in rows.items():
        number = comparison.variants.index(variant)
        cells = []
        for column in heads:
            if column in columns:
                said = f"{variant} {where}: {columns[column]}"
                cells.append(_cell(row.get(column), said, command))
            else:
                cells.append(_words(words[variant][column]))
        body.append(
            f'<tr data-variant="{number}"><th scope="row" class="{look(number)}"><i></i>{_e(variant)}</th>'
            f"{''.join(cells)}</tr>"
        )
    return _sortable(name, head, body)


def _cell(estimate: Estimate | None, said: str, command: str) -> str:
    if estimate is None or math.isnan(estimate.value):
        return '<td class="none">-</td>'
    known = {name: value for name, value in estimate._asdict().items() if math.isfinite(value)}
    data = "".join(f' data-{name}="{value!r}"' for name, value in known.items())
    bounds = bounds_text(estimate)
    interval = f", 95 % interval {estimate.low:.6g} to {estimate.high:.6g}" if bounds else ""
    title = _e(f"{said}: {estimate.value:.6g}{interval}. Made by: {command}")
    return f'<td title="{title}"{data}><b>{value_text(estimate)}</b><span>{bounds}</span></td>'


def _words(text: str) -> str:
    return f'<td class="words">{_e(text)}</td>'


def _runs(comparison: Comparison) -> str:
    rows = []
    for (task, variant), cell in comparison.cells.items():
        number = comparison.variants.index(variant)
        for run, score in zip(cell.runs, cell.scores, strict=True):
            rows.append(
                f'<tr><th scope="row" class="{look(number)}"><i></i>{_e(variant)}</th>'
                f'<td class="name">{_e(task)}</td><td data-value="{_e(run.seed)}">{_e(run.seed)}</td>'
                f'<td data-value="{score!r}">{value_text(Estimate(score, score, score))}</td>'
                f'<td data-value="{run.last_step!r}">{run.last_step:,.0f}</td>'
                f'<td class="name"><code>{_e(run.source)}</code></td>'
                f'<td class="name"><code>{_e(run.made_by)}</code></td></tr>'
            )
    names = ("variant", "task", "seed", "score", "steps", "run", "made again by")
    head = "".join(
        f'<th scope="col" class="{"name" if name in NAMES else "number"}" aria-sort="none">'
        f'<button type="button">{name}</button></th>'
        for name in names
    )
    return _sortable("runs", head, rows)


def _sortable(name: str, head: str, rows: Sequence[str]) -> str:
    return (
        f'<div class="wide" tabindex="0"><table class="sortable" data-table="{_e(name)}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
