"""What changes while a run trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from endmark.algorithms import Learner
from endmark.episodes import SampleBuffer, Store
from endmark.policies import Policy
from endmark.rollout import Actors, ByActors, EpisodeSeeds, Rollout, make_rollout
from endmark.training.build import Envs, generator, make_learner
from endmark.training.config import TrainConfig
from endmark.training.evaluation import TRAINING, Evaluation
from endmark.training.meters import Every, Meters
from endmark.training.partners import load_partners
from endmark.training.updates import InTurn, Overlapped


class Parts(NamedTuple):
    """All that a run's future depends on, but for torch's generator. Each has a `state_dict`."""

    learner: Learner
    updates: InTurn | Overlapped
    store: Store
    rollout: Rollout
    policy: Policy
    evaluation: Evaluation
    meters: Meters
    logs: Every
    evaluations: Every


def make_parts(
    config: TrainConfig[Any],
    envs: Envs | Actors,
    evaluation_envs: Envs,
    stop: Callable[[], bool] = lambda: False,
) -> Parts:
    """The parts of a new run. stop: ends a collection or an evaluation with `Stopped` once it says True."""
    partners = load_partners(config, envs.spec)  # before the learner, as it sets torch's seed
    learner = make_learner(config, envs.spec)
    updates = Overlapped(learner, config.threads) if config.overlap else InTurn(learner)
    # Updates that wait in a queue keep their batches, each of which needs memory of its own.
    buffer = None if config.overlap else SampleBuffer(updates.device)
    policy = learner.policy(updates.actor, config.n_envs, generator(config, 1))
    if partners is not None:
        policy = partners.seat(policy, config.n_envs, generator(config, 2))
    rollout: Rollout
    if isinstance(envs, Actors):
        weights, every = updates.actor.state_dict, config.weights_every
        rollout = ByActors(envs, learner.spec, weights, lambda: updates.begun, every=every, stop=stop)
    else:
        rollout = make_rollout(envs, EpisodeSeeds(TRAINING, config.seed), learner.spec, stop=stop)
    return Parts(
        learner,
        updates,
        store=config.algorithm.store(learner.spec, generator(config, 0), buffer),
        rollout=rollout,
        policy=policy,
        evaluation=Evaluation(config, evaluation_envs, partners, stop),
        meters=Meters(),
        logs=Every(config.log_every),
        evaluations=Every(config.eval_every),
    )
