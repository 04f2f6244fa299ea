"""The step limit of an episode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from endmark.envs.errors import EnvError
from endmark.envs.pictures import picture_of
from endmark.envs.protocol import Environment, Frame, Picture, Step
from endmark.episodes import EpisodeSpec


def shortest(given: int | None, *own: int | None) -> int:
    """The lowest of the requested limit and the environment's own limits; None stands for no limit."""
    if given is not None and given < 1:
        raise EnvError(f"episode limit: given {given}, want at least 1")
    limits = [limit for limit in (given, *own) if limit is not None]
    if not limits:
        raise EnvError(
            "the environment has no step limit of its own: set one with --episode-limit N (episode_limit=N)"
        )
    return min(limits)


class Shortened:
    """An `Environment` whose episodes are truncated at a lower step limit than its own.

    Every outcome of an episode that is truncated here is 0: a win that did not happen.
    """

    def __init__(self, env: Environment, episode_limit: int) -> None:
        self._env = env
        self._limit = shortest(episode_limit, env.spec.episode_limit)
        self._steps = 0
        self._spec = replace(env.spec, episode_limit=self._limit)
        self._undecided = dict.fromkeys(self._spec.outcomes, 0.0)
        self.render_fps = getattr(env, "render_fps", None)
        self.action_names = getattr(env, "action_names", ())

    @property
    def spec(self) -> EpisodeSpec:
        """The environment's spec, with the lower limit."""
        return self._spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame."""
        self._steps = 0
        return self._env.reset(seed=seed)

    def step(self, actions: npt.NDArray[Any]) -> Step:
        """Apply one action per agent and return the result."""
        step = self._env.step(actions)
        self._steps += 1
        if step.end is None and self._steps >= self._limit:
            return step._replace(end="truncated", outcomes=self._undecided)
        return step

    def render(self) -> Picture:
        """The environment's picture; `EnvError` if it draws none."""
        return picture_of(self._env)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
