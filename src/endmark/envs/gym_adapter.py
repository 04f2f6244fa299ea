"""Gymnasium environments: one agent, or a team whose spaces are Tuples over agents."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from endmark.envs.contract import LARGEST, fault
from endmark.envs.errors import EnvError
from endmark.envs.fitting import FLOAT32, fitted
from endmark.envs.known import family_of
from endmark.envs.limits import shortest
from endmark.envs.pictures import Drawing
from endmark.envs.protocol import End, Frame, Picture, Step
from endmark.envs.spaces import Team
from endmark.episodes import EpisodeSpec
from endmark.wording import shown


class GymAdapter:
    """An `Environment` made of a Gymnasium environment.

    A team has Tuples over agents as observation and action space, and one reward per agent. Any other
    environment has one agent, and its reward is the team's. Legal actions are `info["action_mask"]` (for a
    team: one mask per agent) where the environment gives it; otherwise all actions are legal. There is no
    global state.

    Gymnasium may raise both ends at once. An episode that has ended has terminated, whether or not it was
    also at its limit; so `truncated` counts only without `terminated`.

    Families with an entry in `endmark.envs.known` are corrected: a step limit that they report as a
    termination becomes a truncation, and a reset starts from a clean environment.

    episode_limit: truncates longer episodes. Required if the environment has no step limit of its own.
    """

    def __init__(self, env: gym.Env[Any, Any], *, episode_limit: int | None = None) -> None:
        self._env = env
        self._is_closed = False
        self._unwrapped: Any = env.unwrapped
        self._single = not isinstance(env.action_space, spaces.Tuple)
        self._team = team = Team(*_spaces(env))
        alive = np.ones(team.n_agents, np.bool_)
        # Frames of the same arrays, which are filled anew at every step.
        self._unmasked = Frame(team.obs, None if team.bounds else team.legal, alive)
        self._masked = Frame(team.obs, team.avail, alive)
        family = family_of(self._unwrapped)
        self._mdp_ended = family.mdp_ended if family else None
        self._clear = family.clear if family else None
        self._drawing = Drawing(env, family.picture if family else None)
        self.render_fps = self._drawing.fps
        self.action_names = family.action_names if family else ()
        self.layout = family.layout(self._unwrapped) if family and family.layout else None
        self._limit = shortest(
            episode_limit,
            env.spec.max_episode_steps if env.spec else None,
            family.step_limit(self._unwrapped) if family and family.step_limit else None,
        )
        self._reward_shape = () if self._single else (team.n_agents,)
        self._steps = 0
        self._spec = EpisodeSpec.of(
            n_agents=team.n_agents,
            n_actions=team.n_actions,
            bounds=team.bounds,
            episode_limit=self._limit,
            obs_shape=team.obs.shape[1:],
            obs_dtype=torch.from_numpy(team.obs).dtype,
            reward_per_agent=not self._single,
            kinds=team.sizes,
        )

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of the fields of a frame and a step, and the longest episode."""
        return self._spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame. Without a seed, Gymnasium's generator goes on."""
        self._steps = 0
        if self._clear is not None:
            self._clear(self._unwrapped)
        obs, info = self._env.reset(seed=seed)
        return self._frame(obs, info)

    def step(self, actions: npt.NDArray[Any]) -> Step:
        """Apply one action per agent and return the result."""
        chosen = self._team.actions(actions)
        action = chosen[0] if self._single else tuple(chosen)
        obs, given, terminated, truncated, info = self._env.step(action)
        self._steps += 1
        reward = self._reward(given)
        if terminated and self._mdp_ended is not None and not self._mdp_ended(self._unwrapped):
            terminated, truncated = False, True
        cut = truncated or self._steps >= self._limit
        end: End | None = "terminated" if terminated else "truncated" if cut else None
        return Step(self._frame(obs, info), reward, end)

    @property
    def draws_if_asked(self) -> bool:
        """Whether it draws pictures, but only where it was made with `render_mode="rgb_array"`."""
        return self._drawing.if_asked

    def render(self) -> Picture:
        """The present frame, drawn by the environment or for its family; `EnvError` if neither can."""
        return self._drawing.picture()

    def close(self) -> None:
        """Close the Gymnasium environment. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._env.close()

    def _reward(self, given: Any) -> npt.NDArray[np.float32]:
        numbers = (given,) if self._single else given
        try:
            # Most rewards are lists of a few numbers, in which numpy would take longer to find large ones.
            is_small = max(map(abs, numbers)) <= LARGEST
        except (TypeError, ValueError):
            is_small = False
        if is_small and (reward := np.asarray(given, np.float32)).shape == self._reward_shape:
            return reward
        return fitted(given, self._reward_shape, FLOAT32, "reward")

    def _frame(self, obs: Any, info: dict[str, Any]) -> Frame:
        team, single = self._team, self._single
        if single:
            team.observe(0, obs)
        else:
            if type(obs) is not tuple or len(obs) != team.n_agents:
                self._count(obs, "obs", "observations")
            team.observe_all(obs)
        masks = info.get("action_mask")
        if masks is None:
            return self._unmasked
        if not single:
            self._count(masks, "action_mask", "masks")
        for agent, mask in enumerate((masks,) if single else masks):
            team.restrict(agent, mask)
        return self._masked

    def _count(self, given: Any, field: str, things: str) -> None:
        """Test that there is one for each agent."""
        n_agents = self._team.n_agents
        if not isinstance(given, Collection):
            raise fault(field, shown(given), f"{n_agents} {things}, one per agent")
        if len(given) != n_agents:
            raise fault(field, f"{len(given)} {things}", f"{n_agents}, one per agent")


def _spaces(env: gym.Env[Any, Any]) -> tuple[list[spaces.Space[Any]], list[spaces.Space[Any]]]:
    """The agents' observation spaces and action spaces."""
    observed, acted = env.observation_space, env.action_space
    if not isinstance(acted, spaces.Tuple):
        return [observed], [acted]
    if not isinstance(observed, spaces.Tuple) or len(observed) != len(acted) or len(acted) == 0:
        raise EnvError(
            f"observation space: given {observed}, want a Tuple of {len(acted)}, as many as the action space"
        )
    return list(observed), list(acted)
