"""Greedy evaluations: the same episodes for every run and policy."""

from __future__ import annotations

import itertools
from contextlib import closing
from typing import Any

import torch

from endmark.algorithms import Learner
from endmark.policies import Policy, RandomPolicy
from endmark.rollout import EpisodeSeeds, Summary, VectorEnv, play, summarise
from endmark.training.build import make_envs
from endmark.training.config import TrainConfig

# What episode seeds are drawn from. Evaluations play the same episodes in every run, so that runs compare.
TRAINING, EVALUATION, FINAL = 0, 1, 2


class Evaluation:
    """The evaluations of a run while it trains, on environments of their own."""

    def __init__(self, config: TrainConfig[Any], envs: VectorEnv) -> None:
        self._envs, self._episodes = envs, config.eval_episodes

    def __call__(self, learner: Learner) -> dict[str, float]:
        """`greedy_return`, `greedy_length` and `greedy_terminated`, the share of episodes that terminated."""
        seeds = itertools.islice(EpisodeSeeds(EVALUATION), self._episodes)
        summary = summarise(play(self._envs, learner.greedy_policy(self._envs.n_envs), seeds))
        return {
            "greedy_return": summary.return_mean,
            "greedy_length": summary.length_mean,
            "greedy_terminated": summary.terminated,
        }


def evaluate(config: TrainConfig[Any], policy: Policy, episodes: int) -> Summary:
    """How the policy does on the run's environments, on episode seeds that training never used.

    policy: for `config.n_envs` environments side by side.
    """
    with closing(make_envs(config, config.n_envs)) as envs:
        return summarise(play(envs, policy, itertools.islice(EpisodeSeeds(FINAL), episodes)))


def random_policy() -> Policy:
    """Every legal action equally likely; the same in every run."""
    return RandomPolicy(torch.Generator().manual_seed(0))
