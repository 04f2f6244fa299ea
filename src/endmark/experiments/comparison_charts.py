"""Charts of a comparison as SVG inside a page, whose style has the colours."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from endmark.experiments.comparison_curves import Point
from endmark.report.curve import steps_text

Place = Callable[[float], float]
"""From a number to its place in the picture."""
WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 10, 44
"""Margins, in which the numbers of the axes stand."""


def chart(
    title: str,
    curves: Mapping[str, Sequence[Point]],
    variants: Sequence[str],
    *,
    x_label: str,
    y_label: str,
    in_steps: bool = False,
) -> str:
    """A figure with a curve for each variant that has points, and its interval as a band.

    Each curve carries its numbers as `data-points`: a list of [at, value, low, high], null where not known.
    The arrow keys, or a pointer, read them out.
    """
    points = [point for its in curves.values() for point in its]
    ends = [x for point in points for x in point[1:] if math.isfinite(x)] or [0.0, 1.0]
    x_span = 0.0, max((p.at for p in points), default=0.0) or 1.0
    x_axis = [at for at in ticks(*x_span) if at <= x_span[1] * (1 + 1e-9)]
    y_axis = ticks(min(ends), max(ends))
    y_span = min(y_axis[0], *ends), max(y_axis[-1], *ends)

    def x(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (value - x_span[0]) / (x_span[1] - x_span[0])

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - y_span[0]) / (y_span[1] - y_span[0])

    lines = [
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(at):.1f}" y2="{y(at):.1f}"/>'
        f'<text class="y" x="{LEFT - 6}" y="{y(at) + 4:.1f}">{at:g}</text>'
        for at in y_axis
    ]
    words = {at: steps_text(at) if in_steps else f"{at:g}" for at in x_axis}
    lines += [
        f'<text class="x" x="{x(at):.1f}" y="{HEIGHT - BOTTOM + 18}">{text}</text>'
        for at, text in words.items()
    ]
    for variant, its in curves.items():
        if its:
            lines.append(_curve(variants.index(variant), its, x, y))
    name, below, beside = map(html.escape, (title, x_label, y_label))
    span = json.dumps({"left": LEFT, "right": WIDTH - RIGHT, "low": x_span[0], "high": x_span[1]})
    return (
        f'<figure data-chart="{name}"><h3>{name}</h3><figcaption>{beside}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" tabindex="0" data-span="{html.escape(span)}" '
        f'aria-label="{name}: {beside} over {below}">{"".join(lines)}'
        f'<line class="cursor off" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="x label" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}">{below}</text>'
        f'</svg><p class="readout" role="status"></p></figure>'
    )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At most so many round numbers with even gaps, from at most `low` to at least `high`."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / (most - 2)
    size = 10.0 ** math.floor(math.log10(rough))
    gap = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / gap + 1e-9), math.ceil(high / gap - 1e-9)
    return [float(np.round(i * gap, 12)) for i in range(first, last + 1)]


def look(number: int) -> str:
    """The classes of a variant's colour and line: ten colours, each with three lines."""
    return f"v{number % 10} w{number // 10 % 3}"


def _curve(number: int, points: Sequence[Point], x: Place, y: Place) -> str:
    numbers = json.dumps([[value if math.isfinite(value) else None for value in point] for point in points])
    line = " ".join(f"{x(p.at):.1f},{y(p.value):.1f}" for p in points)
    band = ""
    if len(points) > 1 and all(math.isfinite(p.low) for p in points):
        outline = [*((p.at, p.low) for p in points), *((p.at, p.high) for p in reversed(points))]
        band = f'<polygon points="{" ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in outline)}"/>'
    shape = f'<polyline points="{line}"/>'
    if len(points) == 1:
        shape = f'<circle cx="{x(points[0].at):.1f}" cy="{y(points[0].value):.1f}" r="4"/>'
    return (
        f'<g class="curve {look(number)}" data-variant="{number}" data-points="{numbers}">{band}{shape}</g>'
    )
