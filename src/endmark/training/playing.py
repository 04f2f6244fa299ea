"""A run's policy, played to be looked at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from endmark.algorithms import Learner
from endmark.envs import Environment, close_all, make_drawn
from endmark.nets import Actor
from endmark.policies import Policy, SoftmaxPolicy
from endmark.rollout import EpisodeSeeds, Scene, scenes
from endmark.training.config import TrainConfig
from endmark.training.evaluation import FINAL
from endmark.training.partners import load_partners


@contextmanager
def drawn_env(config: TrainConfig[Any]) -> Iterator[Environment]:
    """One of the run's environments, which draws pictures if it can, until the block is left."""
    env = make_drawn(config.env, episode_limit=config.episode_limit, **config.env_args)
    try:
        yield env
    finally:
        close_all([env])


def played(
    config: TrainConfig[Any], learner: Learner, env: Environment, episodes: int, *, seed: int = 0
) -> Iterator[Scene]:
    """Every frame of these episodes, played greedily: the first ones of `evaluate` with the same seed.

    Raises as `scenes` does.
    """
    policy: Policy = learner.greedy_policy(1)
    # Outputs are shown for numbered actions alone.
    actor = learner.actor if isinstance(learner.actor, Actor) and learner.spec.bounds is None else None
    if (partners := load_partners(config, env.spec)) is not None:
        policy = partners.seat(policy, 1, torch.Generator().manual_seed(0))
    for episode_seed in itertools.islice(EpisodeSeeds(FINAL, seed), episodes):
        yield from scenes(env, policy, episode_seed, actor)


def gives_logits(learner: Learner) -> bool:
    """Whether the actor gives the logits of a policy, rather than values of actions."""
    return isinstance(learner.policy(learner.actor, 1, torch.Generator()), SoftmaxPolicy)
