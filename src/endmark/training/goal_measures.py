"""How right inferred subgoals are: against the frames that really came, and against "all stay as they are".

An inferred subgoal is decoded to a frame at each step. S steps, F frames, C numbers that are compared.

    error by k   mean square of decoded(t) - frame(t + k), for those k = 1 .. H that are in t's window
    hit ratio    of an episode: distinct decoded places that the other has at t or later, by its steps
                 (Yu et al. 2024, appendix E, on places; repeated hits count once, so 1 is out of reach)
    later        share of steps whose decoded place the other has at any frame after t
    within       the same for the H frames after t

A window never goes beyond the final frame, nor beyond what the learner is there to see.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from endmark.episodes import ragged
from endmark.rollout import Interval
from endmark.rollout.summary import bootstrapped

RESAMPLES = 2000


class Compared(NamedTuple):
    """A measure of inferred subgoals, of frames that stay as they are, and of the first minus the second.

    Each with a 95 % interval, by bootstrap over episodes. The difference is paired: of the same steps.
    """

    inferred: Interval
    stay: Interval
    difference: Interval


class Windows(NamedTuple):
    """The frames after each step. frames, real: as of `ragged.windows`, as far as the longest episode goes.

    steps: [S] the frames of the steps. counts: [S] whether the learner takes part. episode: [S] its number.
    """

    frames: Int[Tensor, "S T"]
    real: Bool[Tensor, "S T"]
    steps: Int[Tensor, " S"]
    counts: Bool[Tensor, " S"]
    episode: Int[Tensor, " S"]
    n_episodes: int


def windows_of(lengths: Int[Tensor, " E"], alive: Bool[Tensor, " F"], *, until_absent: bool) -> Windows:
    """The windows of episodes, on the CPU.

    alive: whether the learner takes part. until_absent: a window stops where it does not.
    """
    frames, real = ragged.windows(lengths, int(lengths.max()), alive if until_absent else None)
    steps = ragged.step_frames(lengths)
    episode = torch.arange(len(lengths)).repeat_interleave(lengths)
    return Windows(frames, real, steps, alive[steps], episode, len(lengths))


def by_horizon(
    decoded: Float[Tensor, "F C"], seen: Float[Tensor, "F C"], windows: Windows, horizon: int
) -> list[Compared]:
    """The error by k = 1 .. horizon, fewer where no episode is so long."""
    errors = []
    for k in range(min(horizon, windows.frames.shape[1])):
        which = windows.counts & windows.real[:, k]
        if not which.any():
            break
        now, then = windows.steps[which], windows.frames[which, k]
        inferred = (decoded[now] - seen[then]).square().mean(1)
        stay = (seen[now] - seen[then]).square().mean(1)
        errors.append(_compared(inferred, stay, windows, which))
    return errors


def own_error(decoded: Float[Tensor, "F C"], seen: Float[Tensor, "F C"], windows: Windows) -> Interval:
    """Mean square of decoded - seen at each step's own frame."""
    now = windows.steps[windows.counts]
    return pooled((decoded[now] - seen[now]).square().mean(1), windows, windows.counts)


def distance_by_horizon(
    decoded: Float[Tensor, "S M 2"], seen: Float[Tensor, "F M 2"], windows: Windows, horizon: int
) -> list[Compared]:
    """Euclidean distance of the others' decoded places from those k frames later, the mean over M others."""
    distances = []
    for k in range(min(horizon, windows.frames.shape[1])):
        which = windows.counts & windows.real[:, k]
        if not which.any():
            break
        then, now = seen[windows.frames[which, k]], seen[windows.steps[which]]
        inferred = (decoded[which] - then).square().sum(-1).sqrt().mean(1)
        stay = (now - then).square().sum(-1).sqrt().mean(1)
        distances.append(_compared(inferred, stay, windows, which))
    return distances


def cells(places: Float[Tensor, "*R 2"], size: float) -> Int[Tensor, "*R 2"]:
    """The cell of this size in whose middle, or nearest to it, a place is."""
    return (places / size + 0.5).floor().long()


class Hits(NamedTuple):
    """How often decoded places of the others come true; each the mean over the others."""

    ratio: Compared
    later: Compared
    within: Compared


def hits(decoded: Int[Tensor, "S M 2"], seen: Int[Tensor, "F M 2"], windows: Windows, horizon: int) -> Hits:
    """Hit ratio, `later` and `within`, for M others. decoded: their cells at each step."""
    inferred = _come_true(decoded, seen, windows, horizon)
    stay = _come_true(seen[windows.steps], seen, windows, horizon)
    counts = windows.counts
    ratio, stay_ratio = inferred.ratio, stay.ratio
    return Hits(
        Compared(bootstrapped(ratio), bootstrapped(stay_ratio), bootstrapped(ratio - stay_ratio)),
        _compared(inferred.later[counts], stay.later[counts], windows, counts),
        _compared(inferred.within[counts], stay.within[counts], windows, counts),
    )


class _True(NamedTuple):
    """How often places come true. ratio: of each episode. later, within: at each step."""

    ratio: npt.NDArray[np.float64]
    later: Float[Tensor, " S"]
    within: Float[Tensor, " S"]


def _come_true(
    places: Int[Tensor, "S M 2"], seen: Int[Tensor, "F M 2"], windows: Windows, horizon: int
) -> _True:
    comes = within = torch.zeros(places.shape[:2], dtype=torch.bool)
    for k in range(windows.frames.shape[1]):
        there = (places == seen[windows.frames[:, k]]).all(-1)
        comes = comes | (there & windows.real[:, k, None])
        within = comes if k < horizon else within
    now = (places == seen[windows.steps]).all(-1)
    ratio = _ratio(places, (comes | now) & windows.counts[:, None], windows)
    return _True(ratio, comes.double().mean(1), within.double().mean(1))


def _ratio(
    places: Int[Tensor, "S M 2"], hit: Bool[Tensor, "S M"], windows: Windows
) -> npt.NDArray[np.float64]:
    """[E]: distinct places among the hits of each episode, the mean over others, by its steps."""
    step, other = hit.nonzero(as_tuple=True)
    found = torch.cat([windows.episode[step, None], other[:, None], places[step, other]], 1)
    distinct = torch.bincount(torch.unique(found, dim=0)[:, 0], minlength=windows.n_episodes)
    steps = torch.bincount(windows.episode[windows.counts], minlength=windows.n_episodes).clamp(min=1)
    ratio: npt.NDArray[np.float64] = (distinct.double() / places.shape[1] / steps).numpy()
    return ratio


def _compared(inferred: Tensor, stay: Tensor, windows: Windows, which: Bool[Tensor, " S"]) -> Compared:
    return Compared(*(pooled(of, windows, which) for of in (inferred, stay, inferred - stay)))


def pooled(values: Float[Tensor, " R"], windows: Windows, which: Bool[Tensor, " S"]) -> Interval:
    """The mean over R steps, those of `which`, with a percentile bootstrap over their episodes."""
    episode = windows.episode[which]
    counts = torch.bincount(episode, minlength=windows.n_episodes).double().numpy()
    sums = torch.bincount(episode, values.double(), minlength=windows.n_episodes).numpy()
    sums, counts = sums[counts > 0], counts[counts > 0]
    mean, n = float(sums.sum() / counts.sum()), len(counts)
    if n == 1:
        return Interval(mean, -math.inf, math.inf)
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    low, high = np.quantile(drawn @ sums / (drawn @ counts), [0.025, 0.975])
    return Interval(mean, float(low), float(high))
