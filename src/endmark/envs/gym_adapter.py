"""Gymnasium environments: tuples over agents, or a single agent, with discrete actions."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from endmark.envs.errors import EnvError
from endmark.envs.limits import own_limit, shortest
from endmark.envs.protocol import End, Frame, Step
from endmark.envs.spaces import Team
from endmark.episodes import EpisodeSpec


class GymAdapter:
    """A Gymnasium environment as an `Environment`.

    If observations and actions are Tuples over agents, so must be the reward: one number an agent. Otherwise
    there is one agent, whose reward is the team's. Legal actions come from `info["action_mask"]` where it is
    given (with Tuples: one mask an agent). There is no global state.

    An environment known to report its own step limit as an end (see `limits`) is put right: its cut is a
    truncation, unless the MDP ended at that very step.

    episode_limit: cuts episodes that are longer; needed only if the environment has no limit of its own.
    """

    def __init__(self, env: gym.Env[Any, Any], *, episode_limit: int | None = None) -> None:
        self._env = env
        self._unwrapped: Any = env.unwrapped
        self._single = not isinstance(env.action_space, spaces.Tuple)
        self._team = team = Team(*_spaces(env))
        self._acts_from_zero = not any(team.starts)
        self._alive = np.ones(team.n_agents, np.bool_)
        known = own_limit(self._unwrapped)
        self._ended = known.ended if known else None
        self._clear = known.clear if known else None
        self._limit = shortest(
            episode_limit,
            env.spec.max_episode_steps if env.spec else None,
            known.limit(self._unwrapped) if known else None,
        )
        self._reward_shape = () if self._single else (team.n_agents,)
        self._steps = 0
        self._spec = EpisodeSpec.of(
            n_agents=team.n_agents,
            n_actions=team.n_actions,
            episode_limit=self._limit,
            obs_shape=team.obs.shape[1:],
            reward_per_agent=not self._single,
        )

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of what this environment gives."""
        return self._spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame."""
        self._steps = 0
        if self._clear is not None:
            self._clear(self._unwrapped)
        seen, info = self._env.reset(seed=seed)
        return self._frame(seen, info)

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Act, and return what came of it."""
        chosen = (actions if self._acts_from_zero else actions + self._team.starts).tolist()
        seen, given, terminated, truncated, info = self._env.step(
            chosen[0] if self._single else tuple(chosen)
        )
        self._steps += 1
        reward = np.asarray(given, np.float32)
        if reward.shape != self._reward_shape:
            want = "one number" if self._single else f"{self._team.n_agents} numbers, one an agent"
            raise EnvError(f"reward at step {self._steps - 1}: given {given!r}, want {want}")
        if terminated and self._ended is not None and not self._ended(self._unwrapped):
            terminated, truncated = False, True
        cut = truncated or self._steps >= self._limit
        end: End | None = "terminated" if terminated else "truncated" if cut else None
        return Step(self._frame(seen, info), reward, end)

    def close(self) -> None:
        """Free what the environment holds."""
        self._env.close()

    def _frame(self, seen: Any, info: dict[str, Any]) -> Frame:
        team, single = self._team, self._single
        for agent, of_agent in enumerate((seen,) if single else seen):
            team.see(agent, of_agent)
        masks = info.get("action_mask")
        if masks is None:
            return Frame(team.obs, team.legal, self._alive)
        if not single and len(masks) != team.n_agents:
            raise EnvError(f"action_mask: given {len(masks)} masks, want {team.n_agents}, one an agent")
        for agent, mask in enumerate((masks,) if single else masks):
            team.restrict(agent, mask)
        return Frame(team.obs, team.avail, self._alive)


def _spaces(env: gym.Env[Any, Any]) -> tuple[list[spaces.Space[Any]], list[spaces.Space[Any]]]:
    """The agents' observation spaces and action spaces."""
    seen, acted = env.observation_space, env.action_space
    if not isinstance(acted, spaces.Tuple):
        return [seen], [acted]
    if not isinstance(seen, spaces.Tuple) or len(seen) != len(acted) or len(acted) == 0:
        raise EnvError(
            f"observation space: given {seen}, want a Tuple of {len(acted)}, as many as the action space"
        )
    return list(seen), list(acted)
