"""Environments with the methods of PyMARL's `MultiAgentEnv`: SMAC, SMACv2, EPyMARL's, and those of forks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from endmark.envs.constructing import adapted, constructed
from endmark.envs.contract import fault, kind
from endmark.envs.errors import EnvError, EnvWarning
from endmark.envs.fitting import FLOAT32, fitted
from endmark.envs.importing import MODULE, environments_in, import_for, near, unknown
from endmark.envs.known import family_of
from endmark.envs.limits import shortest
from endmark.envs.protocol import Environment, Frame, Step
from endmark.envs.pymarl_methods import (
    METHODS,
    env_info,
    game_in,
    is_like_starcraft,
    one_each,
    parts_of_step,
    shape_of,
    starcraft,
    way_to_seed,
)
from endmark.envs.spaces import Team
from endmark.episodes import EpisodeSpec
from endmark.episodes.spec import NO_OUTCOMES
from endmark.wording import shown

FLAGS = ("reward_per_agent", "dead_when_only_noop", "seeded")
WIN = "battle_won"


class PyMARLAdapter:
    """An `Environment` made of an object with PyMARL's methods, in their old form or in EPyMARL's newer one.

    `get_env_info()` gives sizes and the step limit. `get_obs()`, `get_state()` and `get_avail_actions()` are
    asked after every `reset` and `step`, whatever these return. Observations and masks may differ in length
    among the agents: `obs_shape` and `n_actions` are those of the longest, and `Team` fills up the others.

    `step` gives reward, terminated, info or obs, reward, terminated, truncated, info. An end is a cut where
    `truncated` says so without `terminated`, where `info["episode_limit"]` is true, or where StarCraft has
    counted a timeout: SMAC sets the flag only with `continuing_episode=True`. Other ends have terminated.

    A seed goes to `reset(seed=)`, or to `seed(n)` before `reset()`. SMAC and SMACv2 take one in their
    constructor only, so an episode of theirs is no function of its seed, which is an `EnvWarning`.

    Families with an entry in `endmark.envs.known` are corrected as in `GymAdapter`, also inside a wrapper.

    A StarCraft that crashed has started another game: the episode is lost, and that is an `EnvError`.

    episode_limit: truncates longer episodes.
    reward_per_agent: whether `step` gives a reward for each agent. Unless told: where the environment has
        EPyMARL's attribute `common_reward`, and it is False.
    dead_when_only_noop: whether an agent is dead once action 0 alone is legal. Unless told: in StarCraft. A
        dead agent's observation is zeros, its reward 0, and it never comes back.
    seeded: False keeps seeds away from an environment, and no warning is given.
    outcomes: keys of the last info whose numbers are outcomes of the episode. Unless told: "battle_won"
        in StarCraft. It is called `win`; the others keep their names.
    """

    def __init__(
        self,
        env: Any,
        *,
        episode_limit: int | None = None,
        reward_per_agent: bool | None = None,
        dead_when_only_noop: bool | None = None,
        seeded: bool | None = None,
        outcomes: Sequence[str] | None = None,
    ) -> None:
        for name in METHODS:
            if not callable(getattr(env, name, None)):
                raise EnvError(f"given {kind(env)} without {name}(), want PyMARL's {', '.join(METHODS)}")
        self._env = env
        self._is_closed = False
        self._starcraft, self._game = starcraft(env), game_in(env)
        family = family_of(self._game)
        self._mdp_ended = family.mdp_ended if family else None
        self._clear = family.clear if family else None
        info = env_info(env)
        self._limit = shortest(episode_limit, info["episode_limit"])
        if reward_per_agent is None:
            reward_per_agent = not getattr(env, "common_reward", True)
        if dead_when_only_noop is None:
            dead_when_only_noop = is_like_starcraft(env)
        if outcomes is None:
            outcomes = [WIN] if is_like_starcraft(env) else []
        self._per_agent, self._noop_means_dead = reward_per_agent, dead_when_only_noop
        self._outcomes = {"win" if key == WIN else key: key for key in outcomes}
        self._seeding = None if seeded is False else way_to_seed(env)
        if self._seeding is None and seeded is not False:
            warnings.warn(
                f"{type(env).__name__} has no way to seed an episode: a run with it can be neither repeated "
                f"nor resumed exactly (seeded=false accepts that)",
                EnvWarning,
                stacklevel=2,
            )
        n_agents, self._state_shape = info["n_agents"], info["state_shape"]
        # A team of agents like the largest. What each one's sizes are is known after the first reset.
        largest = _team([info["obs_shape"]] * n_agents, [info["n_actions"]] * n_agents)
        self._spec = EpisodeSpec.of(
            n_agents=n_agents,
            n_actions=info["n_actions"],
            episode_limit=self._limit,
            obs_shape=largest.obs.shape[1:],
            state_shape=None if self._state_shape is None else (math.prod(self._state_shape),),
            reward_per_agent=self._per_agent,
            outcomes=self._outcomes,
        )
        self._team: Team | None = None
        self._alive = np.ones(n_agents, np.bool_)
        self._steps = 0
        self._timeouts, self._crashes = self._counts()

    @property
    def spec(self) -> EpisodeSpec:
        """Shapes and dtypes of the fields of a frame and a step, and the longest episode."""
        return self._spec

    def reset(self, seed: int | None = None) -> Frame:
        """Start an episode and return its first frame. Without a seed, the environment chooses it."""
        self._steps = 0
        self._alive[:] = True
        if self._clear is not None:
            self._clear(self._game)
        if seed is None or self._seeding is None:
            self._env.reset()
        elif self._seeding == "reset":
            self._env.reset(seed=seed)
        else:
            self._env.seed(seed)
            self._env.reset()
        self._timeouts, self._crashes = self._counts()
        return self._frame()

    def step(self, actions: npt.NDArray[np.int64]) -> Step:
        """Apply one action per agent, 0 for those that are dead, and return the result."""
        before = self._alive.copy()
        given, end, info = parts_of_step(self._env.step(np.where(before, actions, 0).tolist()))
        self._steps += 1
        timeouts, crashes = self._counts()
        if crashes > self._crashes:
            raise EnvError("StarCraft crashed and was started again: this episode is lost")
        if end is None:
            was_cut = self._steps >= self._limit
        else:
            is_limit = bool(info.get("episode_limit", False)) or timeouts > self._timeouts
            was_cut = is_limit or (self._mdp_ended is not None and not self._mdp_ended(self._game))
        if was_cut:
            end = "truncated"
        reward = fitted(given, before.shape if self._per_agent else (), FLOAT32, "reward")
        if self._per_agent:
            reward = np.where(before, reward, np.float32(0))
        outcomes = NO_OUTCOMES if end is None else self._at_the_end(info)
        return Step(self._frame(), reward, end, outcomes)

    def close(self) -> None:
        """Close the environment, if it can be closed. A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            close = getattr(self._env, "close", None)
            if callable(close):
                close()

    def _at_the_end(self, info: Mapping[str, Any]) -> dict[str, float]:
        """The outcomes of an episode, from its last step's info."""
        for key in self._outcomes.values():
            if key not in info:
                raise fault(f"info['{key}']", "nothing at the end", "a number (outcomes=[] if there is none)")
        return {
            name: float(fitted(info[key], (), FLOAT32, f"info['{key}']"))
            for name, key in self._outcomes.items()
        }

    def _frame(self) -> Frame:
        n_agents = self._spec.n_agents
        observations = one_each(self._env.get_obs(), n_agents, "obs", "observations")
        masks = one_each(self._env.get_avail_actions(), n_agents, "avail_actions", "masks")
        team = self._team = self._team or self._team_of(observations, masks)
        team.observe_all(observations)
        for agent, mask in enumerate(masks):
            team.restrict(agent, mask)
        if self._noop_means_dead:
            self._bury(team)
        return Frame(team.obs, team.avail, self._alive, self._state())

    def _bury(self, team: Team) -> None:
        """Mark agents that have no more than their no-op as dead."""
        can_act = team.avail[:, 1:].any(1) | ~team.avail[:, 0]
        for agent in np.flatnonzero(can_act & ~self._alive):
            want = "action 0 alone, as before: the dead stay dead (or say dead_when_only_noop=false)"
            raise fault(f"avail_actions, agent {agent}", "other legal actions", want)
        self._alive &= can_act
        team.obs[~self._alive] = 0.0

    def _team_of(self, observations: Collection[Any], masks: Collection[Any]) -> Team:
        """The agents' own sizes, which `get_env_info` does not tell."""
        shapes = [shape_of(obs, f"obs, agent {n}") for n, obs in enumerate(observations)]
        counts = [math.prod(shape_of(mask, f"avail_actions, agent {n}")) for n, mask in enumerate(masks)]
        team = _team(shapes, counts)
        for name, given, want in (
            ("obs", team.obs.shape, self._spec.fields["obs"].shape),
            ("avail_actions", team.avail.shape, self._spec.fields["avail_actions"].shape),
        ):
            if given != want:
                raise fault(f"{name}, largest", f"shape {given[1:]}", f"{want[1:]}, as get_env_info() says")
        return team

    def _state(self) -> npt.NDArray[np.float32] | None:
        if self._state_shape is None:
            return None
        return fitted(self._env.get_state(), self._state_shape, FLOAT32, "state").reshape(-1)

    def _counts(self) -> tuple[int, int]:
        """StarCraft's episodes that ran into the limit, and its crashes, so far; zeros for another game."""
        game = self._starcraft
        return (0, 0) if game is None else (game.timeouts, game.force_restarts)


def _team(shapes: Sequence[tuple[int, ...]], n_actions: Sequence[int]) -> Team:
    return Team(
        [spaces.Box(-np.inf, np.inf, shape) for shape in shapes], [spaces.Discrete(n) for n in n_actions]
    )


def make_pymarl(name: str, episode_limit: int | None, kwargs: dict[str, Any]) -> Environment:
    """The environment of `module:Class`. `FLAGS` and `outcomes` go to the adapter, the rest to the class."""
    env_id = f"pymarl:{name}"
    module, _, attribute = name.rpartition(":")
    if not MODULE.fullmatch(module) or not attribute:
        raise EnvError(f"unknown environment '{env_id}': want pymarl:module:Class")
    home = import_for(env_id, module)
    constructor = getattr(home, attribute, None)
    if constructor is None:
        classes = environments_in(home)
        raise unknown(env_id, [f"pymarl:{module}:{other}" for other in near(attribute, classes) or classes])
    if not callable(constructor):
        raise EnvError(
            f"'{env_id}' is {kind(constructor)}: want a class or a function that makes an environment"
        )
    own = {key: value for key, value in kwargs.items() if key in (*FLAGS, "outcomes")}
    rest = {key: value for key, value in kwargs.items() if key not in own}
    for flag in FLAGS:
        if not isinstance(value := own.get(flag, True), bool):
            raise EnvError(f"'{env_id}': {flag}: given {shown(value)}, want true or false")
    if isinstance(outcomes := own.get("outcomes", []), str):
        own["outcomes"] = [outcomes]
    elif not isinstance(outcomes, list) or not all(isinstance(key, str) for key in outcomes):
        raise EnvError(f"'{env_id}': outcomes: given {shown(outcomes)}, want a name or a list of names")
    made = constructed(env_id, constructor, rest, [constructor])
    return adapted(env_id, made, partial(PyMARLAdapter, episode_limit=episode_limit, **own))
