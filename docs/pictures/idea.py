"""The home page's picture, idea.svg: padded rows, and the same episodes end to end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

STEPS = (4, 9, 2, 6, 3)
COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#e15759")
SIZE, GAP = 14, 2
PITCH = SIZE + GAP
GREY = "#8a8f98"
"""Readable on white and on black."""


def square(x: float, y: float, colour: str, *, final: bool = False, empty: bool = False) -> str:
    """A frame. final: seen and not acted on, a pale one. empty: padding, an outline."""
    if empty:
        look = f'fill="none" stroke="{GREY}" stroke-dasharray="2 3"'
    elif final:
        look = f'fill="{colour}" fill-opacity="0.25" stroke="{colour}" stroke-width="2"'
    else:
        look = f'fill="{colour}"'
    inset = 1 if empty or final else 0
    side = SIZE - 2 * inset
    return f'<rect x="{x + inset}" y="{y + inset}" width="{side}" height="{side}" rx="3" {look}/>'


def text(x: float, y: float, words: str, *, bold: bool = False) -> str:
    """A line of text that starts here."""
    look = f'font-family="sans-serif" font-size="14" font-weight="{600 if bold else 400}" fill="{GREY}"'
    return f'<text x="{x}" y="{y}" {look}>{words}</text>'


def shapes() -> Iterator[str]:
    """Everything in the picture, from the top."""
    frames = max(STEPS) + 1
    above = "Most programs: rows of one length, and a mask"
    yield text(10, 20, above, bold=True)
    for row, (steps, colour) in enumerate(zip(STEPS, COLOURS, strict=True)):
        for t in range(frames):
            yield square(10 + t * PITCH, 32 + row * PITCH, colour, final=t == steps, empty=t > steps)
    real, stored = sum(STEPS) + len(STEPS), frames * len(STEPS)
    side = 10 + frames * PITCH + 14
    yield text(side, 60, f"{stored} frames stored,")
    yield text(side, 80, f"{real} of them real")
    below = 32 + len(STEPS) * PITCH + 34
    yield text(10, below, "endmark: end to end, and nothing to hide", bold=True)
    x = 10
    for steps, colour in zip(STEPS, COLOURS, strict=True):
        for t in range(steps + 1):
            yield square(x, below + 12, colour, final=t == steps)
            x += PITCH
    yield text(10, below + 46, f"{real} frames. Pale: the last one of a game, seen and not acted on.")


if __name__ == "__main__":
    width, height = 10 + (sum(STEPS) + len(STEPS)) * PITCH + 10, 32 + len(STEPS) * PITCH + 34 + 58
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    path = Path(__file__).with_name("idea.svg")
    path.write_text("\n".join([head, *shapes(), "</svg>\n"]), encoding="utf-8")
