"""Greedy evaluations: the same episodes for every run and policy."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import Any

import torch

from endmark.algorithms import Learner
from endmark.episodes import Bounds, EpisodeBatch
from endmark.policies import Partners, Policy, RandomPolicy, with_seats
from endmark.rollout import EpisodeSeeds, Summary, play, summarise
from endmark.training.build import Envs, make_envs
from endmark.training.config import TrainConfig
from endmark.training.partners import load_partners

# What episode seeds are drawn from. Evaluations play the same episodes in every run, so that runs compare.
TRAINING, EVALUATION, FINAL = 0, 1, 2


class Evaluation:
    """The evaluations of a run while it trains, on environments of their own.

    partners: who plays with the learner, the same in the same episode of every evaluation; None: nobody.
    stop: asked before every step; once it says True, the evaluation raises `Stopped`.
    last, best: the greedy returns of the last evaluation and of the best one so far; None before the first.
    means: the last evaluation's greedy `return`, and the mean of each outcome; empty before the first.
    """

    def __init__(
        self, config: TrainConfig[Any], envs: Envs, partners: Partners | None, stop: Callable[[], bool]
    ) -> None:
        self.last: float | None = None
        self.best: float | None = None
        self.means: dict[str, float] = {}
        self._envs, self._partners = envs, partners
        self._episodes, self._stop = config.eval_episodes, stop

    def __call__(self, learner: Learner) -> dict[str, float]:
        """`greedy_return`, `greedy_length`, `greedy_terminated` and the outcomes, such as `greedy_win`."""
        seeds = itertools.islice(EpisodeSeeds(EVALUATION), self._episodes)
        policy = learner.greedy_policy(self._envs.n_envs)
        summary = summarise(played_with(self._partners, policy, self._envs, seeds, stop=self._stop))
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
    return summarise(play_unseen(config, policy, episodes, seed=seed))


def play_unseen(config: TrainConfig[Any], policy: Policy, episodes: int, *, seed: int = 0) -> EpisodeBatch:
    """The episodes of `evaluate`."""
    with closing(make_envs(config, config.n_envs)) as envs:
        partners = load_partners(config, envs.spec)
        return played_with(partners, policy, envs, itertools.islice(EpisodeSeeds(FINAL, seed), episodes))


def played_with(
    partners: Partners | None,
    policy: Policy,
    envs: Envs,
    seeds: Iterable[int],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> EpisodeBatch:
    """One whole episode for each seed, by the policy and its partners. Partners that draw do so anew."""
    if partners is None:
        return play(envs, policy, seeds, stop=stop)
    seated = partners.seat(policy, envs.n_envs, torch.Generator().manual_seed(0))
    return play(envs, seated, seeds, with_seats(envs.spec), stop=stop)


def random_policy(bounds: Bounds | None = None) -> Policy:
    """Every legal action, or every vector within these bounds, equally likely; the same in every run."""
    return RandomPolicy(torch.Generator().manual_seed(0), bounds)
