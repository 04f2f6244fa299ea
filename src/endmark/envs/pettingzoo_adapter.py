"""PettingZoo parallel environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces

from endmark.envs.agent_kinds import by_name
from endmark.envs.contract import fault
from endmark.envs.errors import EnvError
from endmark.envs.fitting import fill
from endmark.envs.known import family_of
from endmark.envs.limits import shortest
from endmark.envs.pictures import Drawing
from endmark.envs.protocol import End, Frame, Picture, Step
from endmark.envs.spaces import Team, stored_as
from endmark.episodes import EpisodeSpec

# Attributes that hold the step limit of a PettingZoo environment, by custom: its interface has none.
LIMIT_NAMES = ("max_cycles", "max_steps", "max_episode_steps", "episode_limit")


class PettingZooAdapter:
    """An `Environment` made of a PettingZoo `ParallelEnv`. Agents are numbered as in `possible_agents`.

    Every agent has its own reward. The global state is `env.state()` where it is implemented, flat unless it
    is an image. Legal actions are the "action_mask" beside the "observation" in an agent's observation, or
    `infos[agent]["action_mask"]`; without either, all actions are legal.

    An agent leaves when it is terminated, truncated or no longer in `env.agents`, while others go on. From
    the next frame on it is not alive: its observation is zero, its one legal action is 0 and is not passed
    on, and its reward is 0.

    The episode ends when every agent has left. It is truncated if an agent was truncated at the last step;
    otherwise it is terminated. An agent whose two flags are both raised has terminated. At the final frame
    of a truncated episode the agents truncated at the last step are alive, because that frame has a value
    for them; agents that terminated there are not. At the final frame of a terminated episode `alive` is
    that of the frame before.

    Boxes with finite bounds as action spaces make actions that are vectors.

    Agents are of one kind if their names differ in the number alone, as `adversary_0` and `adversary_1`, and
    their observations and actions are of the same sizes.

    A final observation that the environment does not give is zero. Any other observation of an agent that is
    alive is refused if it is missing, and so is the reward of an agent that acted.

    Families with an entry in `endmark.envs.known` are corrected as in `GymAdapter`.

    episode_limit: truncates longer episodes. Required if the environment has no step limit under one of
        `LIMIT_NAMES`.
    shared_reward: for environments that give each agent the team's reward. It is stored once.
    """

    def __init__(self, env: Any, *, episode_limit: int | None = None, shared_reward: bool = False) -> None:
        self._env = env
        self._is_closed = False
        self._unwrapped: Any = getattr(env, "unwrapped", env)
        self._name = str(getattr(env, "metadata", {}).get("name", type(env).__name__))
        self._agents: list[Any] = list(getattr(env, "possible_agents", ()))
        if not self._agents:
            raise EnvError(
                f"{self._name}: given no possible_agents, want a PettingZoo ParallelEnv that names them"
            )
        observed = [env.observation_space(agent) for agent in self._agents]
        acted = [env.action_space(agent) for agent in self._agents]
        self._team = Team([_observation(space) for space in observed], acted)
        self._alive = np.ones(self._team.n_agents, np.bool_)
        self._reward = np.zeros(self._team.n_agents, np.float32)
        self._shares_reward = shared_reward
        family = family_of(self._unwrapped)
        self._mdp_ended = family.mdp_ended if family else None
        self._clear = family.clear if family else None
        self._drawing = Drawing(env, family.picture if family else None)
        self.render_fps = self._drawing.fps
        self.action_names = family.action_names if family else ()
        self._limit = shortest(
            episode_limit,
            _limit(env),
            family.step_limit(self._unwrapped) if family and family.step_limit else None,
        )
        self._steps = 0
        # Many environments have a state only after their first reset.
        env.reset()
        try:
            state = np.asarray(env.state())
        except (NotImplementedError, AttributeError):
            self._state_row: npt.NDArray[Any] | None = None
        else:
            self._state_shape = state.shape
            self._state_row = np.zeros(*stored_as(state.shape, state.dtype))
        self._spec = EpisodeSpec.of(
            n_agents=self._team.n_agents,
            n_actions=self._team.n_actions,
            bounds=self._team.bounds,
            episode_limit=self._limit,
            obs_shape=self._team.obs.shape[1:],
            obs_dtype=torch.from_numpy(self._team.obs).dtype,
            state_shape=None if self._state_row is None else self._state_row.shape,
            state_dtype=torch.float32 if self._state_row is None else torch.from_numpy(self._state_row).dtype,
            reward_per_agent=not shared_reward,
            kinds=by_name(self._agents, self._team.sizes),
        )

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of the fields of a frame and a step, and the longest episode."""
        return self._spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame. Without a seed, the environment chooses it."""
        self._steps = 0
        if self._clear is not None:
            self._clear(self._unwrapped)
        observations, infos = self._env.reset(seed=seed)
        present = set(self._env.agents)
        self._alive[:] = [agent in present for agent in self._agents]
        return self._frame(observations, infos, is_final=False)

    def step(self, actions: npt.NDArray[Any]) -> Step:
        """Apply one action per agent and return the result."""
        alive, agents = self._alive.tolist(), self._agents
        acted = zip(agents, self._team.actions(actions), alive, strict=True)
        chosen = {agent: action for agent, action, here in acted if here}
        observations, rewards, ended, cut, infos = self._env.step(chosen)
        self._steps += 1
        if self._mdp_ended is not None and any(ended.values()) and not self._mdp_ended(self._unwrapped):
            # The environment calls its own step limit a termination.
            cut = {**cut, **{agent: True for agent, flag in ended.items() if flag}}
            ended = {}
        present = set(self._env.agents)
        goes_on = [False] * len(agents)
        was_cut = [False] * len(agents)
        given: list[Any] = []  # rewards
        for n, agent in enumerate(agents):
            flagged = ended.get(agent, False), cut.get(agent, False)
            stays = agent in present and not any(flagged)
            if alive[n]:
                given.append(rewards.get(agent))
                goes_on[n] = stays
                was_cut[n] = flagged == (False, True)
            else:
                given.append(0.0)
                if stays:
                    want = "agents that are there from the start, and never come back once they have left"
                    raise fault(f"alive, agent {n}", f"'{agent}', which joined", want)
        over = not any(goes_on)
        truncated = any(was_cut) if over else self._steps >= self._limit
        if over and truncated:
            self._alive[:] = was_cut
        elif not over:
            self._alive[:] = goes_on
        end: End | None = "truncated" if truncated else "terminated" if over else None
        fill(self._reward, given, self._reward.shape, "reward")
        reward = self._reward[alive.index(True)] if self._shares_reward else self._reward
        return Step(self._frame(observations, infos, is_final=end is not None), reward, end)

    @property
    def draws_if_asked(self) -> bool:
        """Whether it draws pictures, but only where it was made with `render_mode="rgb_array"`."""
        return self._drawing.if_asked

    def render(self) -> Picture:
        """The present frame, drawn by the environment or for its family; `EnvError` if neither can."""
        return self._drawing.picture()

    def close(self) -> None:
        """Close the PettingZoo environment. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._env.close()

    def _frame(self, observations: Mapping[Any, Any], infos: Mapping[Any, Any], *, is_final: bool) -> Frame:
        team = self._team
        avail = team.avail
        avail[:] = team.legal
        for n, (agent, alive) in enumerate(zip(self._agents, self._alive.tolist(), strict=True)):
            obs = observations.get(agent) if alive else None
            if obs is None:
                if alive and not is_final:
                    raise fault(f"obs, agent {n}", f"nothing for '{agent}'", "an observation: it is alive")
                team.obs[n] = 0.0
            else:
                mask = infos.get(agent, {}).get("action_mask")
                if isinstance(obs, Mapping) and "observation" in obs:
                    mask = obs.get("action_mask", mask)
                    obs = obs["observation"]
                team.observe(n, obs)
                if mask is not None:
                    team.restrict(n, mask)
            if not alive and team.bounds is None:
                avail[n] = False
                avail[n, 0] = True
        return Frame(team.obs, None if team.bounds else avail, self._alive, self._state())

    def _state(self) -> npt.NDArray[Any] | None:
        if self._state_row is not None:
            fill(self._state_row, self._env.state(), self._state_shape, "state")
        return self._state_row


def _observation(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of the observation alone, without an action mask beside it."""
    if isinstance(space, spaces.Dict) and "observation" in space.spaces:
        return space["observation"]
    return space


def _limit(env: object) -> int | None:
    """The step limit of the environment, or of the (often AEC) environment in it; None if it has none."""
    for holder in (env, getattr(env, "unwrapped", env)):
        for name in LIMIT_NAMES:
            limit = getattr(holder, name, None)
            if isinstance(limit, int | np.integer) and not isinstance(limit, bool) and limit > 0:
                return int(limit)
    return None
