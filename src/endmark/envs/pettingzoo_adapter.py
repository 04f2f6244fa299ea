"""PettingZoo environments in which all agents act at once, with discrete actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from endmark.envs.errors import EnvError
from endmark.envs.limits import shortest
from endmark.envs.protocol import End, Frame, Step
from endmark.envs.spaces import Team
from endmark.episodes import EpisodeSpec

# Where PettingZoo environments keep their step limit. There is no rule, only custom.
LIMIT_NAMES = ("max_cycles", "max_steps", "max_episode_steps", "episode_limit")


class PettingZooAdapter:
    """A PettingZoo `ParallelEnv` as an `Environment`; agents are numbered as in `possible_agents`.

    Every agent has a reward of its own. The global state is what `env.state()` gives, flat, where it is
    implemented. Legal actions come from an observation `{"observation": ..., "action_mask": ...}` or from
    `infos[agent]["action_mask"]`, where one is given.

    An agent that leaves while others go on is not `alive` from the next frame on: it sees zeros, can do only
    action 0, gets no reward, and is not heard. That holds for a truncation of one agent too.

    The episode ends when nobody goes on, and is truncated if anybody alive at the last step was truncated
    there. The agents that were are alive at the final frame, since what follows has a value for them; those
    that terminated at the last step of a truncated episode are not. On a terminated end nothing follows for
    anybody, so `alive` is left as it was. An agent whose final observation the environment does not give
    sees zeros.

    episode_limit: cuts episodes that are longer; needed only if the environment has no limit that can be
        found under one of `LIMIT_NAMES`.
    """

    def __init__(self, env: Any, *, episode_limit: int | None = None) -> None:
        self._env = env
        self._name = str(getattr(env, "metadata", {}).get("name", type(env).__name__))
        self._agents: list[Any] = list(getattr(env, "possible_agents", ()))
        if not self._agents:
            raise EnvError(
                f"{self._name}: given no possible_agents, want a PettingZoo ParallelEnv that names them"
            )
        seen = [env.observation_space(agent) for agent in self._agents]
        acted = [env.action_space(agent) for agent in self._agents]
        self._team = Team([_observed(space) for space in seen], acted)
        self._alive = np.ones(self._team.n_agents, np.bool_)
        self._reward = np.zeros(self._team.n_agents, np.float32)
        self._limit = shortest(episode_limit, _limit(env))
        self._steps = 0
        # Many environments can tell their state only once they have been reset.
        env.reset()
        try:
            state_shape = self._look_at_state().shape
            self._has_state = True
        except (NotImplementedError, AttributeError):
            state_shape = None
            self._has_state = False
        self._spec = EpisodeSpec.of(
            n_agents=self._team.n_agents,
            n_actions=self._team.n_actions,
            episode_limit=self._limit,
            obs_shape=self._team.obs.shape[1:],
            state_shape=state_shape,
            reward_per_agent=True,
        )

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of what this environment gives."""
        return self._spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame."""
        seen, infos = self._env.reset(seed=seed)
        self._steps = 0
        present = set(self._env.agents)
        self._alive[:] = [agent in present for agent in self._agents]
        return self._frame(seen, infos)

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Act, and return what came of it."""
        alive, agents = self._alive.tolist(), self._agents
        chosen = {
            agent: action + start
            for agent, action, start, here in zip(
                agents, actions.tolist(), self._team.starts, alive, strict=True
            )
            if here
        }
        seen, rewards, ended, cut, infos = self._env.step(chosen)
        self._steps += 1
        present = set(self._env.agents)
        goes_on = [False] * len(agents)
        was_cut = [False] * len(agents)
        for n, agent in enumerate(agents):
            flagged = ended.get(agent, False), cut.get(agent, False)
            stays = agent in present and not any(flagged)
            if alive[n]:
                self._reward[n] = rewards.get(agent, 0.0)
                goes_on[n] = stays
                was_cut[n] = flagged == (False, True)
            else:
                self._reward[n] = 0.0
                if stays:
                    raise EnvError(
                        f"{self._name}: agent '{agent}' joined at step {self._steps - 1}, want agents that "
                        f"are there from the start, and that stay away once they have left"
                    )
        over = not any(goes_on)
        truncated = any(was_cut) if over else self._steps >= self._limit
        if over and truncated:
            self._alive[:] = was_cut
        elif not over:
            self._alive[:] = goes_on
        end: End | None = "truncated" if truncated else "terminated" if over else None
        return Step(self._frame(seen, infos), self._reward, end)

    def close(self) -> None:
        """Free what the environment holds."""
        self._env.close()

    def _frame(self, seen: Mapping[Any, Any], infos: Mapping[Any, Any]) -> Frame:
        team = self._team
        avail = team.avail
        avail[:] = team.legal
        for n, (agent, alive) in enumerate(zip(self._agents, self._alive.tolist(), strict=True)):
            of_agent = seen.get(agent) if alive else None
            if of_agent is None:
                team.obs[n] = 0.0
            else:
                mask = infos.get(agent, {}).get("action_mask")
                if isinstance(of_agent, Mapping) and "observation" in of_agent:
                    mask = of_agent.get("action_mask", mask)
                    of_agent = of_agent["observation"]
                team.see(n, of_agent)
                if mask is not None:
                    team.restrict(n, mask)
            if not alive:
                avail[n] = False
                avail[n, 0] = True
        return Frame(team.obs, avail, self._alive, self._look_at_state() if self._has_state else None)

    def _look_at_state(self) -> npt.NDArray[np.float32]:
        return np.asarray(self._env.state(), np.float32).reshape(-1)


def _observed(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of the observation proper, without the mask that may come with it."""
    if isinstance(space, spaces.Dict) and "observation" in space.spaces:
        return space["observation"]
    return space


def _limit(env: object) -> int | None:
    """The step limit on the environment or on what it wraps (an AEC environment, for many), if it has one."""
    for holder in (env, getattr(env, "unwrapped", env)):
        for name in LIMIT_NAMES:
            limit = getattr(holder, name, None)
            if isinstance(limit, int | np.integer) and not isinstance(limit, bool) and limit > 0:
                return int(limit)
    return None
