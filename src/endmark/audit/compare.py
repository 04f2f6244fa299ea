"""Compare the numbers of two evaluations, up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

Numbers = dict[str, Tensor]
"""What a loss gives for a batch, by name: `loss`, `metric NAME`, `gradient of NAME`, `buffer NAME`,
`attribute NAME`, `per_step`.
"""

SMALL = 1e-2
"""The least floor: smaller numbers are compared as if they were this large."""


@dataclass(frozen=True)
class Change:
    """A number that changed. `by` is relative to its largest value; infinite if NaN or inf came or went."""

    what: str
    by: float

    def __str__(self) -> str:
        return f"{self.what} (by {self.by:.2g})" if np.isfinite(self.by) else f"{self.what} (NaN or inf)"


def compare(before: Numbers, after: Numbers) -> list[Change]:
    """The numbers that differ by more than rounding: the loss first, then the largest changes.

    A change is relative to the number's largest value, or to its floor (see `floors`) if that is larger.
    The tolerance is that of the coarsest number in `before`: a float64 statistic of float32 values is only
    as exact as those. A missing gradient counts as zeros. Other numbers are compared if both sides have them;
    `per_step` is not compared.
    """
    floor, coarsest = floors(before), max(map(tolerance, before.values()))
    changes = []
    for name in (*before, *(after.keys() - before.keys())):
        if name == "per_step" or ((name not in before or name not in after) and not is_gradient(name)):
            continue
        like = before[name] if name in before else after[name]
        a, b = (numbers.get(name, torch.zeros_like(like)) for numbers in (before, after))
        change = relative_change(a, b, floor(name))
        if change > coarsest:
            changes.append(Change(name, change))
    return sorted(
        changes, key=lambda change: (change.what != "loss", change.what == "gradient norm", -change.by)
    )


def floors(numbers: Numbers) -> Callable[[str], float]:
    """The floor of a number, by its name: the least size that its change is measured against.

    A number may be the rounding error of a sum that cancels out, and a change of it then means nothing. The
    floor of a gradient is a tenth of the largest gradient. The floor of the loss grows with the gradients: a
    policy loss whose advantages cancel out is 0, and its gradient is not.
    """
    gradients = [value for name, value in numbers.items() if is_gradient(name)]
    largest = max((float(value.abs().max()) for value in gradients if value.numel()), default=0.0)
    return partial(_floor, largest)


def _floor(largest_gradient: float, name: str) -> float:
    if is_gradient(name):
        return 0.1 * largest_gradient
    return max(SMALL, min(1.0, largest_gradient)) if name == "loss" else SMALL


def is_additive(name: str) -> bool:
    """Whether the number is the loss or a gradient: a sum or a mean over the batch's steps."""
    return name == "loss" or is_gradient(name)


def is_gradient(name: str) -> bool:
    """Whether the number is a parameter's gradient."""
    return name.startswith("gradient of")


def relative_change(before: Tensor, after: Tensor, floor: float = 0.0) -> float:
    """The largest difference, relative to the largest value, or to `floor` if that is larger.

    Infinite where NaN or inf came or went, and where the shapes differ.
    """
    if before.shape != after.shape:
        return float("inf")
    if torch.equal(before, after):
        return 0.0
    a, b = before.double(), after.double()
    finite = a.isfinite() & b.isfinite()
    if (~finite & ~((a == b) | (a.isnan() & b.isnan()))).any():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(a[finite].abs().max()), float(b[finite].abs().max()), floor, 1e-12)
    return float((a[finite] - b[finite]).abs().max()) / scale


def tolerance(tensor: Tensor) -> float:
    """The relative change that rounding may cause: 1e-10 for float64, 1e-5 for float32, 0 for integers."""
    if not tensor.is_floating_point():
        return 0.0
    return {torch.float64: 1e-10, torch.float16: 1e-2, torch.bfloat16: 5e-2}.get(tensor.dtype, 1e-5)


def same(a: Tensor, b: Tensor | None) -> bool:
    """Whether two tensors are equal bit for bit; NaN equals NaN."""
    if b is None or a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a, b) or bool(((a == b) | ((a != a) & (b != b))).all())
