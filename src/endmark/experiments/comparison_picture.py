"""A comparison as a picture: curves of each task and over tasks, the performance profile, and the IQM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from endmark.experiments.comparison import Comparison
from endmark.experiments.comparison_curves import Point
from endmark.report.curve import COLOURS, LINES, steps_text
from endmark.report.picture import check_suffix, plain, save

COLUMNS = 3
PANEL = 4.3, 3.1
"""Inches."""


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw it; the file's suffix says how (.svg, .pdf, .png).

    Bands are 95 % intervals at each point by itself. Over tasks, scores are normalised.
    Needs matplotlib, the extra `plot`; ImportError without. ValueError for a suffix that it does not know.
    """
    from matplotlib.figure import Figure

    check_suffix(path)
    looks: dict[str, dict[str, Any]] = {
        variant: {"color": COLOURS[i % len(COLOURS)], "linestyle": LINES[i // len(COLOURS) % len(LINES)]}
        for i, variant in enumerate(comparison.variants)
    }
    several = len(comparison.shared) > 1
    n = len(comparison.tasks) + several + 2 * bool(comparison.shared)
    columns = min(COLUMNS, n)
    rows = -(-n // columns)
    longest = max(map(len, looks))
    in_a_row = max(1, min(len(looks), int(PANEL[0] * columns / (0.08 * longest + 0.7))))
    legend = 0.25 * -(-len(looks) // in_a_row) + 0.2
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows + legend), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for left_over in panels[n:]:
        left_over.remove()
    panels = panels[:n]
    for task in comparison.tasks:
        curves = {v: cell.curve for v in looks if (cell := comparison.cells.get((task, v)))}
        axes = panels.pop(0)
        _draw(axes, curves, looks, task, "environment steps", comparison.settings.metric)
        axes.xaxis.set_major_formatter(lambda x, _: steps_text(x))
    over = comparison.overall
    if several:
        curves = {v: its.curve for v, its in over.items()}
        title = f"over {len(comparison.shared)} tasks"
        _draw(panels.pop(0), curves, looks, title, "share of the steps", "normalised score")
    if over:
        profiles = {v: its.profile for v, its in over.items()}
        _draw(
            panels.pop(0), profiles, looks, "performance profile", "normalised score", "share of runs above"
        )
        _draw_iqm(panels.pop(0), comparison, looks)
    handles = [
        figure.axes[0].plot([], [], linewidth=2.2, label=plain(v), **look)[0] for v, look in looks.items()
    ]
    figure.legend(handles=handles, frameon=False, loc="outside lower center", ncols=in_a_row, fontsize=9)
    save(figure, path)


def _draw(
    axes: Any,
    curves: Mapping[str, Sequence[Point]],
    looks: Mapping[str, Mapping[str, Any]],
    title: str,
    x_label: str,
    y_label: str,
) -> None:
    for variant, points in curves.items():
        if not points:
            continue
        at, values, lows, highs = zip(*points, strict=True)
        dot = {"marker": "o", "markersize": 5} if len(points) == 1 else {}
        axes.plot(at, values, linewidth=2.0, **looks[variant], **dot)
        if all(math.isfinite(low) for low in lows):
            axes.fill_between(at, lows, highs, color=looks[variant]["color"], alpha=0.15, linewidth=0)
    axes.set_title(plain(title), fontsize=10, wrap=True)
    axes.set(xlabel=plain(x_label), ylabel=plain(y_label), xlim=(0, None))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_iqm(axes: Any, comparison: Comparison, looks: Mapping[str, Mapping[str, Any]]) -> None:
    """The IQM over tasks of each variant, a dot on its interval."""
    for i, (variant, overall) in enumerate(comparison.overall.items()):
        value, low, high = overall.figures["IQM"]
        colour = looks[variant]["color"]
        if math.isfinite(low):
            axes.plot([low, high], [i, i], color=colour, linewidth=7, alpha=0.3, solid_capstyle="butt")
        axes.plot([value], [i], color=colour, marker="o", markersize=6)
    names = [plain(variant if len(variant) <= 24 else f"{variant[:22]}...") for variant in comparison.overall]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title("interquartile mean", fontsize=10)
    axes.set(xlabel="normalised score")
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right", "left"]].set_visible(False)
