"""The learning curve of one run or several, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Curve = Sequence[tuple[float, float]]
"""(environment steps, greedy return) at each evaluation."""

_COLOURS = ("#2a6f97", "#c1666b", "#5b8e55", "#8d6a9f", "#b08b3e", "#5a5a5a")


def learning_curve(
    runs: Mapping[str, Sequence[Curve]],
    path: Path,
    *,
    title: str,
    levels: Mapping[str, float] | None = None,
) -> None:
    """Draw greedy return over environment steps; the file's suffix says how (.svg, .png).

    runs: for each label one curve or several, such as one a seed: each is drawn thin, their mean, where they
        were evaluated at the same points, thick.
    levels: horizontal lines, such as what a random policy reaches.
    Needs matplotlib, the extra `plot`; ImportError without.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (label, curves), colour in zip(runs.items(), _COLOURS * len(runs), strict=False):
        several = len(curves) > 1
        for curve in curves:
            steps, returns = zip(*curve, strict=True)
            axes.plot(
                steps,
                returns,
                color=colour,
                alpha=0.35 if several else 1.0,
                linewidth=1.0 if several else 2.0,
            )
        if several:
            # Evaluations come at the first episode end after each multiple, so points are matched by rank.
            points = list(zip(*curves, strict=False))
            means = [tuple(sum(axis) / len(point) for axis in zip(*point, strict=True)) for point in points]
            axes.plot(*zip(*means, strict=True), color=colour, linewidth=2.2)
        axes.plot(
            [], [], color=colour, linewidth=2.2, label=f"{label} ({len(curves)} seeds)" if several else label
        )
    for label, level in (levels or {}).items():
        axes.axhline(level, color="#777777", linewidth=1.0, linestyle="--")
        axes.annotate(label, (1.0, level), xycoords=("axes fraction", "data"), xytext=(-4, 3),
                      textcoords="offset points", ha="right", color="#555555", fontsize=9)  # fmt: skip
    axes.set(title=title, xlabel="environment steps", ylabel="greedy return, mean of an evaluation")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x else "0")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="best")
    figure.savefig(path, dpi=160)
