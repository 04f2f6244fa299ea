"""What the scores of several runs on several tasks say together, each figure with a 95 % interval.

The figures are those of Agarwal et al. (2021, arXiv:2108.13264). The scores of one variant are `Strata`: an
array [..., R] for each task, where R, the number of runs, may differ between tasks. Axes before the last are
samples of the bootstrap, so one function gives the figure and all its samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Strata = Sequence[Array]
"""Scores of one variant: for each task an array [..., R] of R runs."""
Figure = Callable[..., Array]
"""From the strata of one variant, or of two, to a figure [...] for each leading index."""

SAMPLES = 2000
"""Of the bootstrap."""


class Estimate(NamedTuple):
    """A figure and its 95 % interval; from minus infinity to infinity where nothing is known of it."""

    value: float
    low: float
    high: float


def iqm(strata: Strata) -> Array:
    """The interquartile mean: of all runs of all tasks together, without the lowest and highest quarter.

    Of n runs, n // 4 are left out at each end.
    """
    scores = np.sort(np.concatenate(list(strata), axis=-1), axis=-1)
    cut = scores.shape[-1] // 4
    return np.asarray(scores[..., cut : scores.shape[-1] - cut].mean(-1))


def mean(strata: Strata) -> Array:
    """The mean over tasks of the mean over runs."""
    return np.asarray(np.mean([scores.mean(-1) for scores in strata], axis=0))


def median(strata: Strata) -> Array:
    """The median over tasks of the mean over runs. Of one task it is the mean."""
    return np.asarray(np.median([scores.mean(-1) for scores in strata], axis=0))


def optimality_gap(strata: Strata) -> Array:
    """How far scores are below 1 on average, where a score above 1 counts as 1."""
    return mean([1.0 - np.minimum(scores, 1.0) for scores in strata])


def profile(strata: Strata, thresholds: Array) -> Array:
    """The share of runs whose score is above each of K thresholds: [..., K]. Tasks count alike."""
    return np.asarray(np.mean([(s[..., None, :] > thresholds[:, None]).mean(-1) for s in strata], axis=0))


def probability_of_improvement(first: Strata, second: Strata) -> Array:
    """The probability that a run of the first has a higher score than one of the second on the same task.

    Of equal scores half counts: it is Mann and Whitney's U over the number of pairs. Tasks count alike.
    """
    shares = []
    for a, b in zip(first, second, strict=True):
        over, level = a[..., :, None] > b[..., None, :], a[..., :, None] == b[..., None, :]
        shares.append((over + 0.5 * level).mean((-1, -2)))
    return np.asarray(np.mean(shares, axis=0))


def estimate(figure: Figure, *variants: Strata, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """The figure of these variants, one or two, with its interval; strata of [R] each."""
    low, high = interval(figure, *variants, samples=samples, seed=seed)
    return Estimate(float(figure(*variants)), float(low), float(high))


def interval(figure: Figure, *variants: Strata, samples: int = SAMPLES, seed: int = 0) -> tuple[Array, Array]:
    """The 95 % interval of a figure, by a bootstrap over runs within each task, at expanded percentiles.

    variants: strata of [R] each. The same seed draws the same runs of equally many, so points of curves
        that are asked for one by one have the samples of whole curves.
    Where each task has one run alone, nothing is known, and the interval is infinite.
    """
    at = figure(*variants)
    tail = tail_of(*variants)
    if tail is None:
        return np.full_like(at, -math.inf), np.full_like(at, math.inf)
    rng = np.random.default_rng(seed)
    drawn = figure(*(resampled(strata, samples, rng) for strata in variants))
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def resampled(strata: Strata, samples: int, rng: np.random.Generator) -> list[Array]:
    """Runs of each task, drawn with replacement as many as there are: [samples, R] for [R]."""
    return [scores[rng.integers(len(scores), size=(samples, len(scores)))] for scores in strata]


def tail_of(*variants: Strata) -> float | None:
    """The share of samples beyond each end of a 95 % interval; None where no task has two runs.

    A percentile interval is too narrow for few runs: the spread of R runs about their own mean is too small
    by sqrt((R - 1) / R), and a normal distribution has thinner tails than t. Hesterberg's expanded percentile
    interval (2015, arXiv:1411.5279) mends both by percentiles further out. With many runs the share is 0.025.
    """
    runs = [scores.shape[-1] for strata in variants for scores in strata]
    free = sum(runs) - len(runs)
    if free < 1:
        return None
    return 0.5 * math.erfc(_t_quantile(free) * math.sqrt(sum(runs) / free) / math.sqrt(2))


@cache
def _t_quantile(free: int) -> float:
    """Where Student's t with so many degrees of freedom has 2.5 % above it.

    With t = sqrt(free) tan(angle), the density of the angle is proportional to cos(angle) ** (free - 1).
    """
    angle = np.linspace(0.0, math.pi / 2, 200_001)
    density = np.cos(angle) ** (free - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(free) * math.tan(float(np.interp(0.95, mass / mass[-1], angle)))
