"""What plays while a run trains: environments of this process or its workers, or actors on a Ray cluster."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from endmark.rollout import Actors, EpisodeSeeds, Player, make_rollout
from endmark.training.build import Envs, env_spec, generator, make_envs, make_learner
from endmark.training.config import TrainConfig
from endmark.training.evaluation import TRAINING
from endmark.training.partners import load_partners


def make_players(config: TrainConfig[Any]) -> Envs | Actors:
    """The run's environments, or its actors. To be closed by the caller."""
    if config.ray_actors == 0:
        return make_envs(config, config.n_envs)
    return Actors(
        partial(make_player, config),
        env_spec(config),
        actors=config.ray_actors,
        n_envs=config.n_envs,
        address=config.ray_address,
    )


def make_player(config: TrainConfig[Any], number: int) -> Player:
    """In an actor: its share of the environments, and a policy that draws by numbers of its own.

    Its networks wait for the learner's weights.
    """
    n_envs = config.n_envs // config.ray_actors
    config = replace(config, n_envs=n_envs, ray_actors=0, ray_address=None, weights_every=1, device="cpu")
    envs = make_envs(config, n_envs)
    partners = load_partners(config, envs.spec)
    learner = make_learner(config, envs.spec)
    policy = learner.policy(learner.actor, n_envs, generator(config, 1, number))
    if partners is not None:
        policy = partners.seat(policy, n_envs, generator(config, 2, number))
    seeds = EpisodeSeeds(TRAINING, config.seed, number)
    return Player(make_rollout(envs, seeds, learner.spec), policy, learner.actor, n_envs, envs.close)
