"""How well a set of whole episodes went."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from endmark.episodes import EpisodeBatch


@dataclass(frozen=True)
class Summary:
    """Undiscounted returns of the team (the sum over agents, if each has a reward) and how episodes ended.

    return_low, return_high: 95 % interval of the mean return, by bootstrap over episodes.
    """

    episodes: int
    return_mean: float
    return_low: float
    return_high: float
    length_mean: float
    terminated: float
    truncated: float


def episode_returns(batch: EpisodeBatch) -> list[float]:
    """The team's undiscounted return of each episode."""
    reward = batch.steps("reward")
    team = reward.sum(-1) if batch.spec.reward_per_agent else reward
    return [float(episode.sum()) for episode in torch.split(team.double(), batch.lengths.tolist())]


def summarise(batch: EpisodeBatch) -> Summary:
    """Summary of the batch's episodes."""
    returns = np.asarray(episode_returns(batch))
    # A percentile bootstrap rather than a t-interval: returns are often 0 or 1, and bounded.
    resampled = np.random.default_rng(0).choice(returns, (2000, len(returns))).mean(1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    terminated = float(batch.terminated.double().mean())
    return Summary(
        episodes=batch.n_episodes,
        return_mean=float(returns.mean()),
        return_low=float(low) if len(returns) > 1 else -math.inf,
        return_high=float(high) if len(returns) > 1 else math.inf,
        length_mean=float(batch.lengths.double().mean()),
        terminated=terminated,
        truncated=1 - terminated,
    )
