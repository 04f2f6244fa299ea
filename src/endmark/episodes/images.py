"""Which arrays are images, by their shape alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Layout = Literal["HWC", "CHW"]
LEAST_SIDE = 8
"""Height and width of an image are at least this. Smaller arrays are read as vectors: a 7 x 7 view is often
one of object numbers, not of colours."""


def image_layout(shape: Sequence[int]) -> Layout | None:
    """Where the channels are: last ("HWC") or first ("CHW"); None if an array of this shape is no image.

    An image has three axes, sides of at least `LEAST_SIDE`, and fewer channels than its shorter side.
    """
    if len(shape) != 3:
        return None
    first, middle, last = shape
    if 1 <= last < min(first, middle) and min(first, middle) >= LEAST_SIDE:
        return "HWC"
    if 1 <= first < min(middle, last) and min(middle, last) >= LEAST_SIDE:
        return "CHW"
    return None
