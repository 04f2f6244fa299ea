"""The learning curve of one run or several, as a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from endmark.report.picture import check_suffix, plain, save

Curve = Sequence[tuple[float, float]]
"""(environment steps, greedy return) at each evaluation."""


class Panel(NamedTuple):
    """What stands on one pair of axes: see `learning_curve`."""

    y_label: str
    runs: Mapping[str, Sequence[Curve]]
    levels: Mapping[str, float]


COLOURS = ("#2a6f97", "#c1666b", "#5b8e55", "#8d6a9f", "#b08b3e", "#5a5a5a")
LINES = ("-", "--", ":", "-.")  # for more labels than colours
_INSIDE = 4, 30  # more labels, or longer ones, stand below the picture and not in it
_LINE = 90  # letters of a label in one line


def learning_curve(
    runs: Mapping[str, Sequence[Curve]],
    path: Path,
    *,
    title: str,
    levels: Mapping[str, float] | None = None,
    y_label: str = "greedy return, mean of an evaluation",
    below: Sequence[Panel] = (),
) -> None:
    """Draw greedy return over environment steps; the file's suffix says how (.svg, .pdf, .png).

    runs: for each label one curve or several, such as one a seed: each is drawn thin, their mean, where they
        were evaluated at the same points, thick. A curve of one point is a dot.
    levels: horizontal lines, such as what a random policy reaches.
    below: further panels, such as the share of wins, whose labels are among those of `runs`.
    Needs matplotlib, the extra `plot`; ImportError without. ValueError for a suffix that it does not know.
    """
    from matplotlib.figure import Figure

    short = max(map(len, runs), default=0) <= _INSIDE[1]
    inside = short and len(runs) <= _INSIDE[0]
    lines_below = 0 if inside else sum(-(-len(label) // _LINE) for label in runs) / (2 if short else 1)
    height = 4.2 + 2.4 * len(below) + 0.21 * lines_below
    figure = Figure(figsize=(7.2, height), layout="constrained")
    check_suffix(path)
    panels = (Panel(y_label, runs, levels or {}), *below)
    ratios = [4.2, *(2.4 for _ in below)]
    axes = figure.subplots(len(panels), sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
    looks = {
        label: (COLOURS[i % len(COLOURS)], LINES[i // len(COLOURS) % len(LINES)])
        for i, label in enumerate(runs)
    }
    for each, panel in zip(axes, panels, strict=True):
        _draw_panel(each, panel, looks)
    axes[0].set_title(plain(title), wrap=True)
    axes[-1].set(xlabel="environment steps")
    if inside:
        axes[0].legend(frameon=False, loc="best")
    else:
        labels = axes[0].get_legend_handles_labels()
        figure.legend(*labels, frameon=False, loc="outside lower center", ncols=2 if short else 1, fontsize=9)
    save(figure, path)


def _draw_panel(axes: Any, panel: Panel, looks: Mapping[str, tuple[str, str]]) -> None:
    for label, curves in panel.runs.items():
        colour, line = looks[label]
        several = len(curves) > 1
        name = f"{label} ({len(curves)} seeds)" if several else label
        for curve in curves:
            alpha, width = (0.35, 1.0) if several else (1.0, 2.0)
            _draw(axes, curve, color=colour, linestyle=line, alpha=alpha, linewidth=width)
        if several:
            # Evaluations come at the first episode end after each multiple, so points are matched by rank.
            points = list(zip(*curves, strict=False))
            means = [tuple(sum(axis) / len(point) for axis in zip(*point, strict=True)) for point in points]
            _draw(axes, means, color=colour, linestyle=line, linewidth=2.2)
        axes.plot(
            [], [], color=colour, linestyle=line, linewidth=2.2, label=plain(textwrap.fill(name, _LINE))
        )
    for label, level in panel.levels.items():
        axes.axhline(level, color="#777777", linewidth=1.0, linestyle="--")
        axes.annotate(plain(label), (1.0, level), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                      textcoords="offset points", ha="right", color="#555555", fontsize=9)  # fmt: skip
    axes.set(ylabel=plain(panel.y_label))
    axes.xaxis.set_major_formatter(lambda x, _: steps_text(x))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)


def _draw(axes: Any, curve: Sequence[tuple[float, ...]], **how: Any) -> None:
    """A line, or a dot where a line has no length."""
    dot = {"marker": "o", "markersize": 5} if len(curve) == 1 else {}
    axes.plot(*zip(*curve, strict=True), **how, **dot)


def steps_text(x: float) -> str:
    """Environment steps in few characters, such as 250k."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"
