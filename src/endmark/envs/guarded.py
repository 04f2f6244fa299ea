"""Environments whose errors say where they happened."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from endmark.envs.errors import EnvError, EnvWarning, located
from endmark.envs.protocol import Environment
from endmark.episodes import EpisodeSpec


class Guarded:
    """An `Environment` whose errors are raised as an `EnvError` that names the seed and the step.

    `sys.exit()` in an environment is an error like any other: it would end the program as if all were well.

    name: what the error begins with, such as "environment 3".
    """

    def __init__(self, env: Any, name: str = "") -> None:
        self._env = env
        self._before = f"{name}, " if name else ""
        self._seed: int | None = None
        self._steps = 0

    @property
    def spec(self) -> EpisodeSpec:
        """The environment's spec."""
        spec: EpisodeSpec = self._env.spec
        return spec

    def is_of(self, env: object) -> bool:
        """Whether it guards this very environment."""
        return self._env is env

    @property
    def episode(self) -> str:
        """The episode that is running, in words."""
        return f"{self._before}{'no seed' if self._seed is None else f'seed {self._seed}'}"

    def reset(self, seed: int | None = None) -> Any:
        """Start an episode and return what should be its first frame."""
        self._seed, self._steps = seed, 0
        try:
            return self._env.reset(seed=seed)
        except (Exception, SystemExit) as error:
            raise located(error, f"{self.episode}, reset") from error

    def step(self, actions: npt.NDArray[Any]) -> Any:
        """Apply one action per agent and return what should be a `Step`."""
        try:
            step = self._env.step(actions)
        except (Exception, SystemExit) as error:
            raise located(error, f"{self.episode}, step {self._steps}") from error
        self._steps += 1
        return step

    def close(self) -> None:
        """Close the environment."""
        try:
            self._env.close()
        except (Exception, SystemExit) as error:
            raise located(error, f"{self._before}close()") from error


def close_all(envs: Iterable[Environment]) -> None:
    """Close each of these environments, whatever the others do. One that cannot be closed is an `EnvWarning`.

    It is no error, since what was played is sound, and an error on the way here is the one to tell.
    """
    for problem in problems_of_closing(envs):
        warnings.warn(problem, EnvWarning, stacklevel=2)


def problems_of_closing(envs: Iterable[Environment]) -> list[str]:
    """Close each of these environments; what those that cannot be closed say, one line each."""
    return [problem for problem in map(_problem_of_closing, envs) if problem is not None]


def _problem_of_closing(env: Environment) -> str | None:
    try:
        (env if isinstance(env, Guarded) else Guarded(env)).close()
    except EnvError as error:
        return str(error)
    return None
