"""Whole episodes for given seeds, as an evaluation plays them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from endmark.envs import BatchedEnvironment
from endmark.episodes import EpisodeBatch, EpisodeSpec
from endmark.policies import Policy
from endmark.rollout.batched import Batched
from endmark.rollout.lockstep import Lockstep
from endmark.rollout.rollout import Rollout
from endmark.rollout.vector import VectorEnv


def make_rollout(
    envs: VectorEnv | BatchedEnvironment,
    seeds: Iterable[int],
    spec: EpisodeSpec | None = None,
    *,
    retry: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Rollout:
    """The rollout that plays such environments. The arguments are those of `Lockstep`."""
    if isinstance(envs, VectorEnv):
        return Lockstep(envs, seeds, spec, retry=retry, stop=stop)
    return Batched(envs, seeds, spec, stop=stop)  # which loses no episode


def play(
    envs: VectorEnv | BatchedEnvironment,
    policy: Policy,
    seeds: Iterable[int],
    spec: EpisodeSpec | None = None,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> EpisodeBatch:
    """One whole episode for each seed, in the order of the seeds, whatever their lengths.

    So short episodes are not favoured. spec: as of `Lockstep`. An episode that is lost is played again.
    `Stopped` once `stop` says True.
    """
    seeds = list(seeds)
    rollout = make_rollout(envs, seeds, spec, retry=True, stop=stop)
    episodes: list[EpisodeBatch] = []
    played: list[int] = []
    while rollout.running:
        episodes.append(rollout.collect(policy))
        played += rollout.ended_seeds
    order = np.empty(len(seeds), dtype=np.int64)  # a seed may be there several times
    order[np.argsort(seeds, kind="stable")] = np.argsort(played, kind="stable")
    return EpisodeBatch.cat(episodes).select(order.tolist())
