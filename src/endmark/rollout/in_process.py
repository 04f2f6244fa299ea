"""K environments in this process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from endmark.envs import Environment, Frame, Step, close_all
from endmark.rollout.checked import Checked


class InProcess:
    """Steps environments of this process one after the other. The fastest way, unless they are slow.

    An error in an environment is raised to the caller, as an `EnvError` that says where it happened; so is a
    `sys.exit()`. A `VectorEnv`.
    """

    def __init__(self, envs: Sequence[Environment]) -> None:
        self._envs = [Checked(env, k) for k, env in enumerate(envs)]
        self.spec, self.n_envs = envs[0].spec, len(envs)
        self._first_frames: list[tuple[int, Frame]] = []

    def reset(self, seeds: Mapping[int, int]) -> None:
        """Begin an episode in each of these environments."""
        self._first_frames += [(k, self._envs[k].reset(seed=seed)) for k, seed in seeds.items()]

    def first_frames(self, running: Sequence[bool]) -> Iterable[tuple[int, Frame]]:  # noqa: ARG002
        """The first frames since the last call."""
        first_frames, self._first_frames = self._first_frames, []
        return first_frames

    def step(self, actions: npt.NDArray[Any], running: Sequence[bool]) -> Iterable[tuple[int, Step]]:
        """Act where an episode is running."""
        return ((k, env.step(actions[k])) for k, env in enumerate(self._envs) if running[k])

    def close(self) -> None:
        """Close the environments. A second call does nothing. An `EnvWarning` if one cannot be closed."""
        envs, self._envs = self._envs, []
        close_all(envs)
