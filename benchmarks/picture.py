"""The benchmark's picture: update time against real steps, and three length distributions side by side."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks.line import fit, points
from benchmarks.results import Results, Row

OURS, USUAL, QUIET, INK = "#2a6f97", "#c1666b", "#5a5a5a", "#333333"
MARKERS = ("s", "o", "^")


def check_picture(sections: Collection[str]) -> None:
    """Raise ValueError, before anything is measured, if no picture can be drawn from these sections."""
    if missing := {"update", "steps"} - set(sections):
        raise ValueError(f"picture: needs the section {min(missing)}, too; name it in --only")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError('picture: needs matplotlib: pip install "endmark[plot]"')


def picture(results: Results, path: Path) -> None:
    """Draw the picture to a .svg or .png file. The sections must have passed `check_picture`."""
    steps, mixes = results.of("steps"), [row for row in results.of("update") if row.device == "cpu"]
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(10.4, 4.5), layout=ConstrainedLayoutEngine(w_pad=0.1, wspace=0.06))
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_steps(left, steps)
    _draw_mixes(right, mixes)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    at = results.environment
    machine = f"{at['cpu']}, {at['threads']} thread{'s' if at['threads'] != 1 else ''}, torch {at['torch']}"
    where = f"recurrent QMIX at the shape of StarCraft's 8m, float32, same results; {machine}"
    figure.supxlabel(where, fontsize=8.5, color=QUIET)
    figure.savefig(path, dpi=160)


def _draw_steps(axes: Any, rows: Sequence[Row]) -> None:
    """Update times of both against real steps, with the line through endmark's."""
    mixes = dict.fromkeys(str(row.details["mix"]) for row in rows)
    for mix, marker in zip(mixes, MARKERS, strict=True):
        of_mix = [row for row in rows if row.details["mix"] == mix]
        for who, colour in (("baseline", USUAL), ("endmark", OURS)):
            steps, seconds = zip(*points(of_mix, who), strict=True)
            milliseconds = [1e3 * value for value in seconds]
            axes.plot(steps, milliseconds, marker, color=colour, markersize=7, alpha=0.9, zorder=3)
            if who == "baseline":
                axes.plot(steps, milliseconds, color=colour, linewidth=1, linestyle=":")
        axes.plot([], [], marker, color=QUIET, label=_words(mix))
    line, most = fit(points(rows, "endmark")), max(float(row.details["n_steps"]) for row in rows)
    ends = [0.0, most]
    axes.plot(ends, [1e3 * (line.intercept + line.slope * x) for x in ends], color=OURS, linewidth=1.6)
    axes.plot([], [], color=OURS, linewidth=1.6, marker="o", label=f"endmark: {line}")
    axes.plot(
        [], [], color=USUAL, linewidth=1, linestyle=":", marker="o", label="baseline: padded to the longest"
    )
    axes.set(xlabel="real steps in the batch", ylabel="update, ms", title="Time against real steps")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    axes.grid(alpha=0.25)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.25)  # room for the legend
    axes.legend(frameon=False, loc="upper left", ncols=2, fontsize=9, columnspacing=1.0)


def _draw_mixes(axes: Any, rows: Sequence[Row]) -> None:
    """Bars of both update times for each length distribution, with the ratio above each pair."""
    top = 0.0
    for i, row in enumerate(rows):
        if row.baseline is None or row.ratio is None:
            continue
        for shift, spread, colour in ((-0.2, row.baseline, USUAL), (0.2, row.endmark, OURS)):
            low, middle, high = (1e3 * value for value in (spread.low, spread.median, spread.high))
            error = [[middle - low], [high - middle]]
            axes.bar(i + shift, middle, 0.38, color=colour, yerr=error, ecolor=INK, error_kw={"linewidth": 1})
            _note(axes, f"{middle:.0f}", (i + shift, high), 3, color=colour, fontsize=9.5)
            top = max(top, high)
        above = 1e3 * max(row.endmark.high, row.baseline.high)
        _note(
            axes, f"{row.ratio.median:.1f}x", (float(i), above), 17, color=INK, fontsize=15, fontweight="bold"
        )
    axes.bar([0], [0], color=USUAL, label="baseline")
    axes.bar([0], [0], color=OURS, label="endmark")
    axes.set_xticks(range(len(rows)), [_words(row.what).replace(", ", ",\n") for row in rows])
    n_episodes = rows[0].details["n_episodes"]
    axes.set(title=f"An update of {n_episodes} episodes", ylabel="update, ms")
    axes.set_ylim(0, top * 1.38)  # room for the ratios and the legend
    axes.tick_params(axis="x", length=0)
    axes.legend(frameon=False, loc="upper right", ncols=2, fontsize=9)


def _note(axes: Any, text: str, at: tuple[float, float], up: int, **style: Any) -> None:
    axes.annotate(text, at, xytext=(0, up), textcoords="offset points", ha="center", **style)


def _words(mix: str) -> str:
    return mix.replace("..", " to ")
