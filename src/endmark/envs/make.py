"""From an id to an environment."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from difflib import get_close_matches
from types import ModuleType
from typing import Any

import gymnasium as gym

from endmark.envs.errors import EnvError
from endmark.envs.gym_adapter import GymAdapter
from endmark.envs.known import FAMILIES, how_to_install
from endmark.envs.pettingzoo_adapter import PettingZooAdapter
from endmark.envs.protocol import Environment

MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def make(env_id: str, *, episode_limit: int | None = None, **kwargs: object) -> Environment:
    """The environment of this id, behind the adapter that suits it.

    env_id: `CartPole-v1`, an id that Gymnasium knows; `lbforaging:Foraging-5x5-2p-1f-v3`, one that it knows
        once the module before the colon is imported; `mpe2.simple_spread_v3`, a module with a PettingZoo
        `parallel_env()`.
    episode_limit: cuts episodes that are longer; needed only if the environment has no limit of its own.
    kwargs: go to the environment.
    """
    module, colon, name = env_id.rpartition(":")
    if colon:
        if not MODULE.fullmatch(module) or not name:
            raise EnvError(f"unknown environment '{env_id}': want 'module:GymnasiumId'")
        _import(module, env_id)
        return _gymnasium(name, env_id, episode_limit, kwargs)
    if "." in name and name not in gym.registry and MODULE.fullmatch(name):
        return _pettingzoo(name, episode_limit, kwargs)
    return _gymnasium(name, env_id, episode_limit, kwargs)


def _gymnasium(name: str, env_id: str, episode_limit: int | None, kwargs: dict[str, Any]) -> GymAdapter:
    try:
        # Gymnasium's own checker warns about rewards that are lists; `check` is stricter where it matters.
        env = gym.make(name, disable_env_checker=True, **kwargs)
    except gym.error.UnregisteredEnv as error:
        raise _unknown(env_id, _near_gym(name, env_id)) from error
    except Exception as error:  # whatever a constructor says to its arguments
        raise EnvError(f"'{env_id}' cannot be made: {_line(error)}") from error
    try:
        return GymAdapter(env, episode_limit=episode_limit)
    except EnvError as error:
        env.close()
        raise EnvError(f"'{env_id}': {error}") from error


def _pettingzoo(env_id: str, episode_limit: int | None, kwargs: dict[str, Any]) -> PettingZooAdapter:
    module = _import(env_id, env_id)
    if not callable(constructor := getattr(module, "parallel_env", None)):
        raise EnvError(f"'{env_id}' has no parallel_env(): want a module of a PettingZoo ParallelEnv")
    try:
        env = constructor(**kwargs)
    except Exception as error:  # whatever a constructor says to its arguments
        raise EnvError(f"'{env_id}' cannot be made: {_line(error)}") from error
    try:
        return PettingZooAdapter(env, episode_limit=episode_limit)
    except EnvError as error:
        env.close()
        raise EnvError(f"'{env_id}': {error}") from error


def _import(module: str, env_id: str) -> ModuleType:
    """The module; or an error that tells a package that is missing from a name that is wrong."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        package = missing.partition(".")[0]
        is_part = f"{module}.".startswith(f"{missing}.")  # or else something that the module imports
        if is_part and (parent := missing.rpartition(".")[0]):  # a package that is there, without this module
            raise _unknown(env_id, _near(missing, _modules(parent))) from error
        known = [family.package for family in FAMILIES]
        if is_part and package not in known and (near := _near(package, known)):
            raise _unknown(env_id, [env_id.replace(package, other, 1) for other in near]) from error
        raise EnvError(
            f"'{env_id}' needs the package '{package}', which is not installed: {how_to_install(package)}"
        ) from error
    except ImportError as error:
        raise EnvError(f"'{env_id}' cannot be imported: {_line(error)}") from error


def _near_gym(name: str, env_id: str) -> list[str]:
    """Ids that might have been meant, as `make` wants them."""
    if env_id == name:
        for family in FAMILIES:
            if family.bare_prefix and name.startswith(family.bare_prefix):
                return [family.home + name]
    prefix = env_id.removesuffix(name)
    return [prefix + near for near in _near(name, gym.registry)]


def _near(name: str, known: Iterable[str]) -> list[str]:
    return get_close_matches(name, list(known), n=3, cutoff=0.7)


def _modules(package: str) -> list[str]:
    """The modules in a package; none, if it is a plain module."""
    path = getattr(importlib.import_module(package), "__path__", [])
    return [module.name for module in pkgutil.iter_modules(path, f"{package}.")]


def _unknown(env_id: str, near: list[str]) -> EnvError:
    hint = f"did you mean {' or '.join(near)}?" if near else "`endmark envs` shows what is installed"
    return EnvError(f"unknown environment '{env_id}': {hint}")


def _line(error: Exception) -> str:
    """The error on one line, with its type if it says nothing else."""
    return " ".join(str(error).split()) or type(error).__name__
