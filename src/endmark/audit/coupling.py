"""Whether the loss of a batch is a mean of the losses of its halves.

A loss that is a mean over steps, episodes or frames is the weighted mean of its halves' losses, and so are
its gradients. Where no such mean fits, the episodes of a batch share something, such as a statistic.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from endmark.audit import regions
from endmark.audit.compare import Numbers, floors, is_additive, relative_change
from endmark.audit.view import View

COUPLED = 1e-3
"""A mean fits if its relative gap is at most this."""


def gaps(evaluate: Callable[[View], Numbers], view: View, whole: Numbers) -> dict[str, float]:
    """For each mean that the loss may be: the gap between the batch and the mean of its halves, relatively.

    whole: the numbers of the batch. Keys: what the mean divides by; "nothing" is a sum.
    """
    n = view.n_episodes
    halves = [view.select(half) for half in (range(n // 2), range(n // 2, n)) if len(half)]
    parts = [evaluate(half) for half in halves]
    found = {"nothing": _gap(whole, parts, [1.0] * len(parts), 1.0)}
    for name, count in _denominators(view).items():
        weights = [count(half) for half in halves]
        found[name] = _gap(whole, parts, weights, sum(weights))
    return found


def _denominators(view: View) -> dict[str, Callable[[View], float]]:
    """The counts that a mean over the batch may divide by."""
    counts: dict[str, Callable[[View], float]] = {
        "steps": lambda part: float(part.steps.sum()),
        "episodes": lambda part: float(part.n_episodes),
        "frames": lambda part: float(part.frames.sum()),
        "steps but the first": lambda part: float(part.steps.sum() - part.n_episodes),
    }
    if regions.phantom(view).any():
        counts["steps and phantom steps"] = lambda part: float((part.steps | regions.phantom(part)).sum())
    if view.alive is not None:
        counts["steps and agents"] = _pairs
    return counts


def _pairs(view: View) -> float:
    """(step, agent) pairs of living agents."""
    assert view.alive is not None
    return float((view.alive & view.steps[..., None]).sum())


def _gap(whole: Numbers, parts: list[Numbers], weights: list[float], total: float) -> float:
    """The largest change of the loss or a gradient from the whole to the parts' weighted sum over `total`."""
    gap, floor = 0.0, floors(whole)
    for name, value in whole.items():
        if is_additive(name):
            zero: Tensor = torch.zeros_like(value)
            added = sum((part.get(name, zero) * w for part, w in zip(parts, weights, strict=True)), zero)
            gap = max(gap, relative_change(value, added / max(total, 1.0), floor(name)))
    return gap
