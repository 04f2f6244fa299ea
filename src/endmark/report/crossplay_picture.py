"""A cross-play matrix as a picture: a heat map with numbers for the return and each outcome."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from endmark.report.crossplay import WORDS, Column, columns_of, mean_text
from endmark.report.picture import check_suffix, plain, save
from endmark.training.matrix import Matrix
from endmark.training.sheets import Sheet

CELL = 0.52, 0.36
"""Inches of a cell."""
LETTER = 0.075
"""Inches of a name's letter."""
GAP = 0.3
"""Between groups, in cells."""


def draw_crossplay(matrix: Matrix, sheets: Sequence[Sheet], path: Path) -> None:
    """Draw the first of the sheets, the team's return and the outcomes.

    path: its suffix says how (.svg, .pdf, .png).
    Needs matplotlib, the extra `plot`; ImportError without. ValueError for a suffix that it does not know.
    """
    from matplotlib.figure import Figure

    check_suffix(path)
    further = {"team return", *matrix.outcomes}
    drawn = [sheets[0], *(sheet for sheet in sheets if sheet.name in further)]
    columns = columns_of(matrix)
    x, y = (
        _places([(c.group, c.partner is None) for c in columns]),
        _places([p.group for p in matrix.learners]),
    )
    left = 0.3 + LETTER * max(len(learner.name) for learner in matrix.learners)
    top = 0.6 + LETTER * max(len(column.name) for column in columns)
    size = CELL[0] * (x[-1] + 1), CELL[1] * (y[-1] + 1)
    width, height = max(left + size[0] + 0.3, 6.4), len(drawn) * (top + size[1] + 0.35)
    figure = Figure(figsize=(width, height))
    for i, sheet in enumerate(drawn):
        below = height - (i + 1) * (top + size[1] + 0.35) + 0.3
        place = left / width, below / height, size[0] / width, size[1] / height
        axes = figure.add_axes(place)
        _draw(axes, matrix, sheet, columns, x, y)
        at = (below + size[1] + top - 0.15) / height
        title = f"{WORDS.get(sheet.name, sheet.name)}\n{' '.join([matrix.env, *matrix.env_arg])}"
        figure.text(0.1 / width, at, plain(title), fontsize=9, va="top")
    save(figure, path)


def _places(groups: Sequence[Any]) -> list[float]:
    """Where each row or column begins, in cells, with a gap between groups."""
    places = [0.0]
    for before, now in itertools.pairwise(groups):
        places.append(places[-1] + 1 + (GAP if before != now else 0))
    return places


def _draw(
    axes: Any,
    matrix: Matrix,
    sheet: Sheet,
    columns: Sequence[Column],
    x: Sequence[float],
    y: Sequence[float],
) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    colours = LinearSegmentedColormap.from_list("endmark", ["#f4f6f8", "#9dbdd6", "#2a6f97", "#123a57"])
    means = [cell.mean for row in sheet.cells for cell in row if cell is not None]
    low, high = (min(means), max(means)) if means else (0.0, 1.0)
    same = matrix.self_play
    for row in range(len(matrix.learners)):
        for column, at in zip(columns, x, strict=True):
            interval = column.of(sheet, row)
            share = 0.0 if interval is None or high == low else (interval.mean - low) / (high - low)
            look: dict[str, Any] = {"facecolor": colours(share), "edgecolor": "white", "linewidth": 0.8}
            if interval is None:
                look = {"facecolor": "white", "edgecolor": "#bbbbbb", "hatch": "////", "linewidth": 0.0}
            axes.add_patch(Rectangle((at, y[row]), 1, 1, **look))
            if column.partner is not None and same[row, column.partner]:
                frame: dict[str, Any] = {"fill": False, "edgecolor": "#c1666b", "linewidth": 1.8}
                axes.add_patch(Rectangle((at + 0.05, y[row] + 0.06), 0.9, 0.88, **frame))
            text = "" if interval is None else mean_text(interval)
            ink = "white" if share > 0.55 else "#1f2730"
            weight = "bold" if column.partner is None else "normal"
            axes.text(
                at + 0.5, y[row] + 0.5, text, ha="center", va="center", color=ink, fontsize=8, weight=weight
            )
    axes.set(xlim=(0, x[-1] + 1), ylim=(y[-1] + 1, 0))
    axes.set_xticks([at + 0.5 for at in x], [plain(c.name) for c in columns], rotation=90, fontsize=8)
    axes.set_yticks([at + 0.5 for at in y], [plain(p.name) for p in matrix.learners], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    below: dict[str, Any] = {"textcoords": "offset points", "va": "top", "annotation_clip": False}
    for group in dict.fromkeys(column.group for column in columns):
        its = [at for column, at in zip(columns, x, strict=True) if column.group == group]
        middle = (its[0] + its[-1] + 1) / 2
        where = axes.get_xaxis_transform()
        axes.annotate(
            f"partners: {group}",
            (middle, 0),
            (0, -4),
            xycoords=where,
            ha="center",
            color="#4e5863",
            fontsize=9,
            **below,
        )
    if same.any():
        text, where = "framed: self-play", "axes fraction"
        axes.annotate(text, (0, 0), (0, -4), xycoords=where, ha="right", color="#c1666b", fontsize=8, **below)
