"""Greedy evaluations: the same episodes for every run and policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

import torch

from endmark.algorithms import Learner
from endmark.policies import Policy, RandomPolicy
from endmark.rollout import EpisodeSeeds, Summary, play, summarise
from endmark.training.build import Envs, make_envs
from endmark.training.config import TrainConfig

# What episode seeds are drawn from. Evaluations play the same episodes in every run, so that runs compare.
TRAINING, EVALUATION, FINAL = 0, 1, 2


class Evaluation:
    """The evaluations of a run while it trains, on environments of their own.

    stop: asked before every step; once it says True, the evaluation raises `Stopped`.
    last, best: the greedy returns of the last evaluation and of the best one so far; None before the first.
    means: the last evaluation's greedy `return`, and the mean of each outcome; empty before the first.
    """

    def __init__(self, config: TrainConfig[Any], envs: Envs, stop: Callable[[], bool]) -> None:
        self.last: float | None = None
        self.best: float | None = None
        self.means: dict[str, float] = {}
        self._envs, self._episodes, self._stop = envs, config.eval_episodes, stop

    def __call__(self, learner: Learner) -> dict[str, float]:
        """`greedy_return`, `greedy_length`, `greedy_terminated` and the outcomes, such as `greedy_win`."""
        seeds = itertools.islice(EpisodeSeeds(EVALUATION), self._episodes)
        policy = learner.greedy_policy(self._envs.n_envs)
        summary = summarise(play(self._envs, policy, seeds, stop=self._stop))
        self.last = summary.return_mean
        self.best = self.last if self.best is None else max(self.best, self.last)
        outcomes = {name: outcome.mean for name, outcome in summary.outcomes.items()}
        self.means = {"return": self.last, **outcomes}
        return {
            "greedy_return": summary.return_mean,
            "greedy_length": summary.length_mean,
            "greedy_terminated": summary.terminated,
            **{f"greedy_{name}": mean for name, mean in outcomes.items()},
        }

    @property
    def last_is_best(self) -> bool:
        """Whether no evaluation so far was better than the last one."""
        return self.last == self.best

    def state_dict(self) -> dict[str, Any]:
        """The last return and the best, and the last means."""
        return {"last": self.last, "best": self.best, "means": self.means}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        last, best = state["last"], state["best"]
        self.last, self.best = (None if value is None else float(value) for value in (last, best))
        self.means = {name: float(mean) for name, mean in state.get("means", {}).items()}


def evaluate(config: TrainConfig[Any], policy: Policy, episodes: int, *, seed: int = 0) -> Summary:
    """How the policy does on the run's environments, on episode seeds that training never used.

    policy: for `config.n_envs` environments side by side. seed: another one means other episodes.
    """
    with closing(make_envs(config, config.n_envs)) as envs:
        return summarise(play(envs, policy, itertools.islice(EpisodeSeeds(FINAL, seed), episodes)))


def random_policy() -> Policy:
    """Every legal action equally likely; the same in every run."""
    return RandomPolicy(torch.Generator().manual_seed(0))
