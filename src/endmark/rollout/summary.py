"""How well a set of whole episodes went."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from endmark.episodes import EpisodeBatch


class Interval(NamedTuple):
    """A mean over episodes and its 95 % interval; from minus infinity to infinity where nothing is known."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Undiscounted returns of the team (the sum over agents, if each has a reward) and how episodes ended.

    With partners, the team is the learner's agents.

    return_low, return_high: 95 % interval of the mean return, by bootstrap over episodes.
    outcomes: the mean of each outcome that the environment names, with a `share`'s interval where all of them
        are 0 or 1, and a bootstrap's otherwise.
    """

    episodes: int
    return_mean: float
    return_low: float
    return_high: float
    length_mean: float
    terminated: float
    truncated: float
    outcomes: Mapping[str, Interval] = field(default_factory=dict)


def episode_returns(batch: EpisodeBatch, *, of_all: bool = False) -> list[float]:
    """The team's undiscounted return of each episode; with partners, that of the learner's agents.

    of_all: that of all agents, also of partners.
    """
    reward = batch.steps("reward")
    if batch.spec.reward_per_agent:
        if "learns" in batch.fields and not of_all:
            reward = torch.where(batch.steps("learns"), reward, 0.0)
        reward = reward.sum(-1)
    return [float(episode.sum()) for episode in torch.split(reward.double(), batch.lengths.tolist())]


def summarise(batch: EpisodeBatch) -> Summary:
    """Summary of the batch's episodes."""
    returns = bootstrapped(np.asarray(episode_returns(batch)))
    terminated = float(batch.terminated.double().mean())
    return Summary(
        episodes=batch.n_episodes,
        return_mean=returns.mean,
        return_low=returns.low,
        return_high=returns.high,
        length_mean=float(batch.lengths.double().mean()),
        terminated=terminated,
        truncated=1 - terminated,
        outcomes={
            name: outcome_interval(batch.outcome(name).double().cpu().numpy()) for name in batch.spec.outcomes
        },
    )


def bootstrapped(values: npt.NDArray[np.float64]) -> Interval:
    """The mean of these values [E], with a percentile bootstrap over them.

    Rather than a t-interval: returns are often 0 or 1, and bounded.
    """
    if len(values) == 1:
        return Interval(float(values[0]), -math.inf, math.inf)
    resampled = np.random.default_rng(0).choice(values, (2000, len(values))).mean(1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def share(successes: int, n: int) -> Interval:
    """The share of successes among n, with the score interval of Wilson (1927, JASA 22, eq. 4).

    A bootstrap of 100 wins in 100 would give an interval without width; this one is 0.963 to 1.
    """
    p, zz = successes / n, 1.959964**2
    middle, half = p + zz / (2 * n), math.sqrt(zz * (p * (1 - p) / n + zz / (4 * n * n)))
    return Interval(p, max(0.0, (middle - half) / (1 + zz / n)), min(1.0, (middle + half) / (1 + zz / n)))


def outcome_interval(values: npt.NDArray[np.float64]) -> Interval:
    """The mean of an outcome's values [E]: a `share` where all are 0 or 1, and else `bootstrapped`."""
    if ((values == 0) | (values == 1)).all():
        return share(int(values.sum()), len(values))
    return bootstrapped(values)
