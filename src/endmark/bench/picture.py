"""The benchmark as a picture: update time against real steps, and what padding costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from endmark.bench.results import Results, Row

OURS, USUAL = "#2a6f97", "#c1666b"
_QUIET = "#555555"


class Line(NamedTuple):
    """seconds = intercept + slope * steps; r2 is the share of variance that it explains."""

    slope: float
    intercept: float
    r2: float


def fit(points: Sequence[tuple[float, float]]) -> Line:
    """The line of least squares; at least two different steps."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread_x
    intercept = mean_y - slope * mean_x
    left = sum((y - intercept - slope * x) ** 2 for x, y in points)
    total = sum((y - mean_y) ** 2 for _, y in points)
    return Line(slope, intercept, 1 - left / total if total else 1.0)


def points(rows: Sequence[Row], who: str) -> list[tuple[float, float]]:
    """(real steps, seconds) of an update, on the CPU; `who` is endmark or baseline."""
    seen = []
    for row in rows:
        spread = getattr(row, who)
        if row.device == "cpu" and spread is not None and "n_steps" in row.details:
            seen.append((float(row.details["n_steps"]), spread.median))
    return sorted(seen)


def picture(results: Results, path: Path) -> None:
    """Draw it; the file's suffix says how (.svg, .png).

    Needs matplotlib, the extra `plot`, and the sections update and batch-size; ValueError without those.
    """
    rows = [*results.of("update"), *results.of("batch-size")]
    if not results.of("update") or not results.of("batch-size"):
        raise ValueError("picture: needs the sections update and batch-size; leave out --only, or name them")
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, wspace=0.06)
    figure = Figure(figsize=(10.4, 4.3), layout=layout)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    _draw_steps(left, rows)
    _draw_mixes(right, [row for row in results.of("update") if row.device == "cpu"])
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    at = results.environment
    threads = f"{at['threads']} thread{'s' if at['threads'] != 1 else ''}"
    figure.supxlabel(
        f"recurrent QMIX at the shape of StarCraft's 8m, float32; {at['cpu']}, {threads}, torch {at['torch']}",
        fontsize=8.5,
        color=_QUIET,
    )
    figure.savefig(path, dpi=160)


def _draw_steps(axes: Any, rows: Sequence[Row]) -> None:
    """Both against the steps that the episodes really have."""
    for who, colour, marker in (("baseline", USUAL, "s"), ("endmark", OURS, "o")):
        seen = points(rows, who)
        steps, seconds = zip(*seen, strict=True)
        milliseconds = [value * 1e3 for value in seconds]
        axes.plot(
            steps, milliseconds, marker, color=colour, markersize=6, alpha=0.9, label=_label(who), zorder=3
        )
        line = fit(seen)
        ends = [0.0, steps[-1] * 1.03]
        axes.plot(ends, [1e3 * (line.intercept + line.slope * x) for x in ends], color=colour, linewidth=1.4)
        axes.annotate(
            f"{line.slope * 1e6:.1f} µs a step"
            + (f" + {line.intercept * 1e3:.1f} ms" if who == "endmark" else ""),
            (steps[-1], milliseconds[-1]),
            xytext=(-10, 4),
            textcoords="offset points",
            ha="right",
            color=colour,
            fontsize=9.5,
        )
    axes.set(xlabel="real steps in the batch", ylabel="update, ms", title="An update costs its real steps")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    axes.grid(alpha=0.25)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, loc="upper left")


def _draw_mixes(axes: Any, rows: Sequence[Row]) -> None:
    """Times side by side, with the ratio above each pair."""
    highest = max(spread.high for row in rows for spread in (row.endmark, row.baseline) if spread) * 1e3
    for i, row in enumerate(rows):
        for shift, spread, colour in ((-0.19, row.baseline, USUAL), (0.19, row.endmark, OURS)):
            if spread is None:
                continue
            middle = spread.median * 1e3
            error = [[middle - spread.low * 1e3], [spread.high * 1e3 - middle]]
            axes.bar(
                i + shift, middle, 0.36, color=colour, yerr=error, ecolor=_QUIET, error_kw={"linewidth": 1}
            )
            axes.annotate(f"{middle:.0f}", (i + shift, 0), xytext=(0, 4), textcoords="offset points",
                          ha="center", color="white", fontsize=9)  # fmt: skip
        if row.ratio is not None and row.baseline is not None:
            top = max(row.endmark.high, row.baseline.high) * 1e3
            axes.annotate(f"{row.ratio.median:.1f} times", (i, top), xytext=(0, 6), textcoords="offset points",
                          ha="center", fontsize=13, fontweight="bold", color="#333333")  # fmt: skip
    axes.set_xticks(range(len(rows)), [row.what.replace(", ", ",\n").replace("..", " to ") for row in rows])
    axes.set(title="32 episodes of an update", ylabel="update, ms")
    axes.set_ylim(0, highest * 1.16)
    axes.tick_params(axis="x", length=0)


def _label(who: str) -> str:
    return "endmark, ragged" if who == "endmark" else "baseline, padded to the longest"
