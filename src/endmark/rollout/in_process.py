"""K environments in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from endmark.envs import Environment, Frame, Step
from endmark.episodes import EpisodeBatch
from endmark.policies.policy import Policy
from endmark.rollout.lockstep import Lockstep


class Rollout(Lockstep):
    """Plays in environments of this process, one after the other. The fastest way, unless they are slow."""

    def __init__(self, envs: Sequence[Environment], seeds: Iterable[int]) -> None:
        super().__init__(_Here(envs), len(envs), envs[0].spec, seeds)


class _Here:
    """A `Stage` in this process; nothing is lost here: an environment's error is the caller's."""

    def __init__(self, envs: Sequence[Environment]) -> None:
        self._envs = envs
        self._first_frames: list[tuple[int, Frame]] = []

    def reset(self, seeds: Mapping[int, int]) -> None:
        self._first_frames += [(k, self._envs[k].reset(seed=seed)) for k, seed in seeds.items()]

    def frames(self, running: Sequence[bool]) -> Iterable[tuple[int, Frame]]:  # noqa: ARG002
        first_frames, self._first_frames = self._first_frames, []
        return first_frames

    def step(self, actions: npt.NDArray[np.int64], running: Sequence[bool]) -> Iterable[tuple[int, Step]]:
        return ((k, env.step(actions[k])) for k, env in enumerate(self._envs) if running[k])

    def close(self) -> None:
        for env in self._envs:
            env.close()


def play(envs: Sequence[Environment], policy: Policy, seeds: Iterable[int]) -> EpisodeBatch:
    """One whole episode for each seed, whatever their lengths, so short ones are not favoured."""
    rollout = Rollout(envs, seeds)
    episodes = []
    while finished := rollout.collect(policy):
        episodes += finished
    return EpisodeBatch.cat(episodes)
