"""JaxMARL's environments, SMAX among them, K at once in one compiled program."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from endmark.envs import battle
from endmark.envs.agent_kinds import by_name
from endmark.envs.batched import BatchedStep, Frames
from endmark.envs.constructing import constructed
from endmark.envs.errors import EnvError
from endmark.envs.importing import near, unknown
from endmark.envs.limits import shortest
from endmark.envs.protocol import Picture
from endmark.episodes import EpisodeSpec


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings and output. JaxMARL says what else could be installed, and resets the streams."""
    streams = sys.stdout, sys.stderr, sys.__stdout__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.stdout = sys.__stdout__ = io.TextIOWrapper(io.BytesIO())  # type: ignore[misc]
        try:
            yield
        finally:
            sys.stdout, sys.stderr, sys.__stdout__ = streams  # type: ignore[misc]


os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory of the GPU, too
with _quietly():
    import jax
    import jax.numpy as jnp
    import jaxmarl
    from jaxmarl.environments.overcooked import overcooked_layouts
    from jaxmarl.environments.overcooked_v2 import overcooked_v2_layouts
    from jaxmarl.environments.smax import HeuristicEnemySMAX
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO, SMAX

if jax.config.jax_compilation_cache_dir is None:  # 25 s become 3 s from the second run on
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    jax.config.update("jax_compilation_cache_dir", str(cache / "endmark" / "jax"))

Key = Any  # two uint32 of an episode
State = Any  # a tree of JAX's arrays


class Rules(NamedTuple):
    """What JaxMARL's interface does not say about a kind of environment. The functions are traced by JAX.

    limit: returns the most steps of an episode; None if the environment has no limit.
    terminated: (environment, state, whether it is over) -> whether the MDP ended, rather than was cut off.
    shared: whether all agents get the team's reward, so that it is counted once.
    leaves: whether the agents' own ends mean that they have left.
    legal: the name of the method for legal actions; None if all are.
    world: whether the observations have the global state beside them.
    picture, action_names: (environment, state of one) -> its picture; and environment -> a word an action.
    outcomes: by name, (environment, state) -> a number at the end.
    kinds: environment -> the kind of each agent; none: as names and sizes tell them apart.
    """

    limit: Callable[[Any], int | None]
    terminated: Callable[[Any, State, Any], Any] = lambda _env, _state, _over: False
    shared: bool = False
    leaves: bool = False
    legal: str | None = None
    world: bool = False
    picture: Callable[[Any, State], Picture] | None = None
    action_names: Callable[[Any], tuple[str, ...]] = lambda _env: ()
    outcomes: Mapping[str, Callable[[Any, State], Any]] = {}
    kinds: Callable[[Any], tuple[int, ...]] = lambda _env: ()


def _teams(env: Any, state: State) -> tuple[Any, Any]:
    """Whether any ally lives, and whether any enemy does."""
    alive = state.state.unit_alive
    return alive[: env.num_allies].any(), alive[env.num_allies :].any()


def _battle_is_over(env: Any, state: State, _: Any) -> Any:
    allies, enemies = _teams(env, state)
    return ~(allies & enemies)


def _win(env: Any, state: State) -> Any:
    allies, enemies = _teams(env, state)
    return allies & ~enemies


def _unit_types(env: Any) -> tuple[int, ...]:
    """Of the allies; one kind where each episode draws them."""
    if env.smacv2_unit_type_generation:
        return (0,) * int(env.num_allies)
    return tuple(np.asarray(env.scenario)[: env.num_allies].tolist())


# SMAX tests its limit before it counts the step, and so plays one more.
SMAX_RULES = Rules(
    limit=lambda env: int(env.max_steps) + 1,
    terminated=_battle_is_over,
    shared=True,
    leaves=True,
    legal="get_avail_actions",
    world=True,
    picture=lambda env, state: battle.picture(env, state.state),
    action_names=battle.action_names,
    outcomes={"win": _win},
    kinds=_unit_types,
)
MPE = Rules(limit=lambda env: int(env.max_steps) + 1)  # likewise
OVERCOOKED = Rules(limit=lambda env: int(env.max_steps), shared=True)
GAMES = {
    "overcooked": OVERCOOKED,
    "overcooked_v2": OVERCOOKED,
    # A turn takes a card of the deck (40 are left, then one turn each) or a hint (8, and one more a card).
    "hanabi": Rules(lambda _: 100, lambda _env, _state, over: over, shared=True, legal="get_legal_moves"),
    "coin_game": Rules(lambda env: int(env.num_inner_steps * env.num_outer_steps)),
    # The others of this kind have continuous actions.
    **{name: MPE for name in jaxmarl.registered_envs if name.startswith("MPE_") and "facmac" not in name},
}

LAYOUTS: Mapping[str, Mapping[str, Any]] = {
    "overcooked": overcooked_layouts,
    "overcooked_v2": overcooked_v2_layouts,
}


def smax(name: str, n_envs: int, episode_limit: int | None, kwargs: Mapping[str, Any]) -> JaxMARL:
    """K battles of this scenario, such as 8m, against JaxMARL's scripted enemy."""
    _check_name("smax", name, MAP_NAME_TO_SCENARIO)
    return _batched(f"smax:{name}", n_envs, episode_limit, kwargs)


def jaxmarl_env(name: str, n_envs: int, episode_limit: int | None, kwargs: Mapping[str, Any]) -> JaxMARL:
    """K environments of JaxMARL's own name, such as overcooked."""
    _check_name("jaxmarl", name, GAMES)
    return _batched(f"jaxmarl:{name}", n_envs, episode_limit, kwargs)


def _check_name(scheme: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        alike = near(name, names) or names  # a scenario's name is short, and all of them are few
        raise unknown(f"{scheme}:{name}", [f"{scheme}:{other}" for other in alike])


def _batched(env_id: str, n_envs: int, episode_limit: int | None, kwargs: Mapping[str, Any]) -> JaxMARL:
    try:
        arguments = json.dumps(kwargs, sort_keys=True)
    except TypeError as error:
        raise EnvError(f"'{env_id}': {error}: want arguments that JSON has") from None
    return JaxMARL(_program(env_id, n_envs, episode_limit, arguments))


@lru_cache(maxsize=8)  # a run has two sets of environments, and compiling takes seconds
def _program(env_id: str, n_envs: int, episode_limit: int | None, arguments: str) -> Program:
    scheme, _, name = env_id.partition(":")
    rules = SMAX_RULES if scheme == "smax" else GAMES[name]
    env = game(env_id, json.loads(arguments))
    how = {"env_id": env_id, "env": env, "rules": rules, "n_envs": n_envs, "episode_limit": episode_limit}
    program: Program = constructed(env_id, Program, how, [])
    return program


def game(env_id: str, kwargs: dict[str, Any]) -> Any:
    """JaxMARL's own environment. `EnvError` for arguments that it does not take."""
    scheme, _, name = env_id.partition(":")
    if not isinstance(limit := kwargs.get("max_steps", 1), int) or limit < 1:
        raise EnvError(f"'{env_id}': max_steps: given {limit!r}, want a whole number of at least 1")
    with _quietly():
        if scheme == "smax":
            if "scenario" in kwargs:
                given = f"{kwargs['scenario']!r}"
                raise EnvError(f"'{env_id}': scenario: given {given}, want none: the id names it")
            kwargs = {**kwargs, "scenario": MAP_NAME_TO_SCENARIO[name]}
            return constructed(env_id, HeuristicEnemySMAX, kwargs, [HeuristicEnemySMAX, SMAX])
        if "layout" in kwargs and name in LAYOUTS:
            kwargs = {**kwargs, "layout": _layout(env_id, kwargs["layout"], LAYOUTS[name])}
        kind = type(jaxmarl.make(name))
        return constructed(env_id, kind, kwargs, [kind])


class Program:
    """What K environments of one kind do, compiled: `begin` and `step`.

    `state`: JaxMARL's state, the key of each episode and its steps so far, [K, ...] each.
    """

    def __init__(self, env_id: str, env: Any, rules: Rules, n_envs: int, episode_limit: int | None) -> None:
        self.env_id, self.n_envs = env_id, n_envs
        self._env, self._rules, self._agents = env, rules, list(env.agents)
        self._limit = shortest(episode_limit, rules.limit(env))
        self.action_names = rules.action_names(env)
        self._n_actions = [_n_actions(agent, env.action_space(agent)) for agent in self._agents]
        self.begin, self.step = jax.jit(self._begin), jax.jit(jax.vmap(self._step))
        self._keys = jnp.zeros((n_envs, 2), jnp.uint32)
        self._shapes = jax.eval_shape(jax.vmap(self._first), self._keys)
        self.spec = self._spec(self._shapes[1])

    @cached_property
    def empty(self) -> Any:
        """State and frames before the first `begin`, of zeros. Compiles both functions: seconds.

        `EnvError` for an argument of the environment that shows to be wrong only now.
        """
        return constructed(self.env_id, self._compiled, {}, [])

    def _compiled(self) -> Any:
        state, frames = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._shapes)
        self.begin(self._keys, jnp.zeros(self.n_envs, jnp.bool_), state, frames)
        self.step(state, jnp.zeros((self.n_envs, len(self._agents)), jnp.int32))
        return state, frames

    def _spec(self, frames: Mapping[str, Any]) -> EpisodeSpec:
        return EpisodeSpec.of(
            n_agents=len(self._agents),
            n_actions=max(self._n_actions),
            episode_limit=self._limit,
            obs_shape=frames["obs"].shape[2:],
            state_shape=frames["state"].shape[1:] if "state" in frames else None,
            reward_per_agent=not self._rules.shared,
            outcomes=tuple(self._rules.outcomes),
            kinds=self._rules.kinds(self._env) or self._by_name(),
        )

    def _by_name(self) -> tuple[Any, ...]:
        obs, _ = jax.eval_shape(self._env.reset, self._keys[0])
        return by_name(self._agents, [obs[agent].shape for agent in self._agents], self._n_actions)

    def picture(self, state: State) -> Picture:
        """The first environment, drawn; `EnvError` where there is no picture."""
        if self._rules.picture is None:
            raise EnvError("draws no pictures")
        return self._rules.picture(self._env, jax.tree.map(lambda x: np.asarray(x[0]), state[0]))

    def _begin(self, keys: Key, where: Any, state: State, frames: Any) -> Any:
        """First states and frames from these keys in some of the environments, [K]."""
        fresh = jax.vmap(self._first)(keys)

        def chosen(new: Any, old: Any) -> Any:
            return jnp.where(where.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

        return jax.tree.map(chosen, fresh, (state, frames))

    def _first(self, key: Key) -> Any:
        """The first state and frame of one episode."""
        obs, state = self._env.reset(key)
        alive = jnp.ones(len(self._agents), jnp.bool_)
        return _strong(((state, key, jnp.int32(0)), self._frame(obs, state, alive)))

    def _step(self, state: State, actions: Any) -> Any:
        """One step of one episode, with random numbers of its own."""
        state, key, steps = state
        acts = {agent: actions[n] for n, agent in enumerate(self._agents)}
        obs, state, rewards, ends, _ = self._env.step_env(jax.random.fold_in(key, steps), state, acts)
        steps = steps + 1
        terminated = jnp.asarray(self._rules.terminated(self._env, state, ends["__all__"]), jnp.bool_)
        truncated = (ends["__all__"] | (steps >= self._limit)) & ~terminated
        alive = jnp.stack([~ends[agent] for agent in self._agents])
        if not self._rules.leaves:
            alive = jnp.ones_like(alive)
        reward = jnp.stack([jnp.asarray(rewards[agent], jnp.float32) for agent in self._agents])
        outcomes = {name: jnp.float32(of(self._env, state)) for name, of in self._rules.outcomes.items()}
        frame = self._frame(obs, state, alive)
        reward = reward[0] if self._rules.shared else reward
        return _strong(((state, key, steps), BatchedStep(frame, reward, terminated, truncated, outcomes)))

    def _frame(self, obs: Mapping[str, Any], state: State, alive: Any) -> dict[str, Any]:
        """The frame fields of one environment."""
        rows = [jnp.ravel(obs[agent]).astype(jnp.float32) for agent in self._agents]
        size = max(len(row) for row in rows)
        rows = [jnp.pad(row, (0, size - len(row))) for row in rows]
        count = max(self._n_actions)
        legal = [jnp.arange(count) < n for n in self._n_actions]
        if self._rules.legal is not None:
            given = getattr(self._env, self._rules.legal)(state)
            legal = [
                has.at[: len(given[agent])].set(given[agent] > 0)
                for has, agent in zip(legal, self._agents, strict=True)
            ]
        only_first = jnp.arange(count) == 0  # for an agent that has left
        frame = {
            "obs": jnp.where(alive[:, None], jnp.stack(rows), 0.0),
            "avail_actions": jnp.where(alive[:, None], jnp.stack(legal), only_first),
            "alive": alive,
        }
        if self._rules.world:
            frame["state"] = jnp.ravel(obs["world_state"]).astype(jnp.float32)
        return frame


class JaxMARL:
    """K environments of one kind. A `BatchedEnvironment`, where JAX computes.

    Agents are numbered as in JaxMARL. Shorter observations end in zeros, and actions that an agent does not
    have are never legal. Random numbers of a step come from the episode's seed and the step's number.
    """

    def __init__(self, program: Program) -> None:
        self._program, self.spec, self.n_envs = program, program.spec, program.n_envs
        self.action_names = program.action_names
        self.device = from_dlpack(jnp.zeros(1)).device
        self._state: State = None  # and no frames, before the first reset
        self._frames: Any = None

    def reset(self, seeds: Tensor, where: Tensor) -> Frames:
        """Start an episode from its seed in some of the environments; the current frames of all of them."""
        if self._state is None:
            self._state, self._frames = self._program.empty
        numbers = seeds.numpy().astype(np.uint64)
        keys = np.stack([numbers >> np.uint64(32), numbers & np.uint64(0xFFFFFFFF)], -1).astype(np.uint32)
        self._state, self._frames = self._program.begin(keys, where.numpy(), self._state, self._frames)
        return _tensors(self._frames)

    def step(self, actions: Tensor) -> BatchedStep:
        """Act in all environments."""
        self._state, step = self._program.step(self._state, actions.int().cpu().numpy())
        self._frames = step.frames
        ends = from_dlpack(step.terminated), from_dlpack(step.truncated)
        return BatchedStep(_tensors(step.frames), from_dlpack(step.reward), *ends, _tensors(step.outcomes))

    def render(self) -> Picture:
        """The first environment's picture; `EnvError` where there is none."""
        return self._program.picture(self._state)

    def close(self) -> None:
        """Nothing is held."""


def _tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: from_dlpack(array) for name, array in arrays.items()}


def _strong(tree: Any) -> Any:
    """The tree with types of its own, so that one program fits what a reset and a step give."""
    return jax.tree.map(lambda x: jax.lax.convert_element_type(x, jnp.asarray(x).dtype), tree)


def _n_actions(agent: str, space: Any) -> int:
    if (n := getattr(space, "n", None)) is None:
        given = f"agent {agent}: given action space {type(space).__name__}"
        raise EnvError(f"{given}, want Discrete: endmark chooses one of A numbered actions")
    return int(n)


def _layout(env_id: str, layout: object, layouts: Mapping[str, Any]) -> Any:
    if layout not in layouts:
        raise EnvError(f"'{env_id}': layout: given {layout!r}, want one of {', '.join(layouts)}")
    return layouts[str(layout)]
