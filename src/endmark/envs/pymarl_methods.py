"""What an object with the methods of PyMARL's `MultiAgentEnv` tells, in their old form and in EPyMARL's."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from endmark.envs.contract import fault, kind
from endmark.envs.errors import EnvError
from endmark.envs.protocol import End
from endmark.wording import shown

METHODS = ("reset", "step", "get_obs", "get_avail_actions", "get_env_info")
INFO = ("n_agents", "n_actions", "obs_shape", "episode_limit")


def env_info(env: Any) -> dict[str, Any]:
    """`get_env_info()`: numbers as int, shapes as tuples; `state_shape` is None where there is no state."""
    given = env.get_env_info()
    for name in INFO:
        if name not in given:
            raise EnvError(f"get_env_info(): no '{name}', want {', '.join(INFO)}")
    state = given.get("state_shape")
    return {
        "n_agents": _count(given["n_agents"], "n_agents"),
        "n_actions": _count(given["n_actions"], "n_actions"),
        "episode_limit": _count(given["episode_limit"], "episode_limit"),
        "obs_shape": _shape(given["obs_shape"], "obs_shape"),
        "state_shape": None if state is None or state == 0 else _shape(state, "state_shape"),
    }


def _count(given: Any, name: str) -> int:
    try:
        number = operator.index(given)
    except TypeError:
        number = 0
    if number < 1:
        raise EnvError(f"get_env_info(), {name}: given {shown(given)}, want a whole number, at least 1")
    return number


def _shape(given: Any, name: str) -> tuple[int, ...]:
    return tuple(_count(n, name) for n in (given if isinstance(given, tuple | list) else (given,)))


def parts_of_step(given: Any) -> tuple[Any, End | None, Mapping[str, Any]]:
    """Reward, end and info of either form of a step. Flags may be lists over agents: all of them must end."""
    length = len(given) if isinstance(given, tuple | list) else 0
    if length == 3:
        reward, terminated, info = given
        truncated: Any = False
    elif length == 5:
        _, reward, terminated, truncated, info = given
    else:
        want = "reward, terminated, info or obs, reward, terminated, truncated, info"
        raise fault("step", f"{length} values" if length else kind(given), want)
    ended, cut = np.asarray(terminated, np.bool_), np.asarray(truncated, np.bool_)
    is_over, was_cut = (ended | cut).all(), (cut & ~ended).any()
    return reward, None if not is_over else "truncated" if was_cut else "terminated", info or {}


def one_each(given: Any, n_agents: int, field: str, things: str) -> Collection[Any]:
    """The observations or masks of all agents, one each."""
    if not isinstance(given, Collection):
        raise fault(field, shown(given), f"{n_agents} {things}, one per agent")
    if len(given) != n_agents:
        raise fault(field, f"{len(given)} {things}", f"{n_agents}, one per agent")
    return given


def shape_of(obs: Any, where: str) -> tuple[int, ...]:
    """The shape of an observation."""
    try:
        return np.shape(obs)
    except ValueError as error:  # sequences of different lengths
        raise fault(where, shown(obs), "numbers, as an array or a list") from error


def game_in(env: Any) -> Any:
    """The game itself, without the wrappers of EPyMARL (`env`, `_env`) and Gymnasium around it."""
    inner = getattr(env, "env", None) or getattr(env, "_env", None) or env
    return getattr(inner, "unwrapped", inner)


def starcraft(env: Any) -> Any:
    """The game, if it has StarCraft's counters; None in another game."""
    game = game_in(env)
    return game if hasattr(game, "timeouts") and hasattr(game, "force_restarts") else None


def is_like_starcraft(env: Any) -> bool:
    """Whether it is SMAC or SMACv2, which have these counters, or SMAClite, known by its name."""
    return starcraft(env) is not None or "smac" in type(env).__name__.lower()


def way_to_seed(env: Any) -> str | None:
    """How an episode gets its seed: by `reset(seed=)`, by `seed(n)`, or not at all."""
    if "seed" in inspect.signature(env.reset).parameters:
        return "reset"
    try:
        inspect.signature(env.seed).bind(0)
    except (AttributeError, TypeError):  # SMAC's seed() tells the seed, and takes none
        return None
    return "seed"
