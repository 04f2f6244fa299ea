"""From an id to an `Environment`."""

from __future__ import annotations

import inspect
from functools import partial
from types import ModuleType
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from endmark.envs.batched import Alone, BatchedEnvironment
from endmark.envs.constructing import adapted, constructed, refused
from endmark.envs.errors import EnvError
from endmark.envs.guarded import close_all
from endmark.envs.gym_adapter import GymAdapter
from endmark.envs.importing import MODULE, environments_in, import_for, is_module, near, unknown
from endmark.envs.known import FAMILIES, Family, family_of_scheme
from endmark.envs.limits import Shortened, shortest
from endmark.envs.pettingzoo_adapter import PettingZooAdapter
from endmark.envs.protocol import Environment
from endmark.episodes import EpisodeSpec
from endmark.wording import joined

FORMS = "a Gymnasium id, module:GymnasiumId, module:Class, or a module with a PettingZoo parallel_env()"
# Arguments of gym.make itself, which do not go to the environment's constructor.
GYM_ARGUMENTS = inspect.signature(gym.make).parameters.keys() - {"id", "kwargs"}


def make(env_id: str, *, episode_limit: int | None = None, **kwargs: object) -> Environment:
    """Make the environment of this id, inside the adapter that it needs.

    env_id: one of five forms.
        `matrix:climbing`: the scheme of a family in `endmark.envs.known`, and a name in that family. A scheme
        comes before a module of the same name.
        `CartPole-v1`: an id that Gymnasium knows.
        `lbforaging:Foraging-5x5-2p-1f-v3`: an id that Gymnasium knows once the module is imported.
        `mpe2.simple_spread_v3`: a module with a PettingZoo `parallel_env()`.
        `my_package.my_file:MyEnv`: a module and a class or function in it, which makes an endmark
        `Environment`, a `gymnasium.Env` or a PettingZoo `ParallelEnv`. It comes before a Gymnasium id of
        the same name.
    episode_limit: truncates longer episodes. Required if the environment has no step limit of its own.
    kwargs: arguments for the environment's constructor.

    `EnvError` says in one line what is wrong.
    """
    scheme, colon, name = env_id.partition(":")
    if colon and (family := family_of_scheme(scheme)):
        return _from_scheme(env_id, family, name, episode_limit, kwargs)
    module, colon, name = env_id.rpartition(":")
    if colon:
        if not MODULE.fullmatch(module) or not name:
            raise EnvError(f"unknown environment '{env_id}': want {FORMS}")
        if module.endswith(".py"):
            raise unknown(env_id, [f"{module.removesuffix('.py')}:{name}"])
        home = import_for(env_id, module)
        if hasattr(home, name):
            return _from_attribute(env_id, getattr(home, name), episode_limit, kwargs)
        return _from_gymnasium(env_id, name, home, episode_limit, kwargs)
    if name not in gym.registry and MODULE.fullmatch(name) and ("." in name or is_module(name)):
        return _from_module(env_id, import_for(env_id, name), episode_limit, kwargs)
    return _from_gymnasium(env_id, name, None, episode_limit, kwargs)


def make_batched(
    env_id: str, n_envs: int, *, episode_limit: int | None = None, **kwargs: object
) -> BatchedEnvironment | None:
    """So many environments of this id as one program; None for an id whose environments are made one by one.

    The other arguments and errors are those of `make`.
    """
    scheme, _, name = env_id.partition(":")
    if (family := family_of_scheme(scheme)) is None or not family.batched:
        return None
    envs: BatchedEnvironment = _maker(env_id, family)(name, n_envs, episode_limit, kwargs)
    return envs


def _from_scheme(
    env_id: str, family: Family, name: str, episode_limit: int | None, kwargs: dict[str, Any]
) -> Environment:
    if family.batched:
        return Alone(_maker(env_id, family)(name, 1, episode_limit, kwargs))
    made = _maker(env_id, family)(name, episode_limit, kwargs)
    return _adapted(env_id, made, episode_limit)


def _maker(env_id: str, family: Family) -> Any:
    module, _, function = family.maker.partition(":")
    return getattr(import_for(env_id, module), function)


def make_drawn(env_id: str, *, episode_limit: int | None = None, **kwargs: object) -> Environment:
    """The environment that `make` makes, so that it has a `render` where it draws pictures at all.

    Those of Gymnasium and PettingZoo do so only where they are asked when they are made. Whether an
    environment can draw shows at its first picture: see `endmark.envs.picture_of`.
    """
    env = make(env_id, episode_limit=episode_limit, **kwargs)
    if not (isinstance(env, GymAdapter | PettingZooAdapter) and env.draws_if_asked):
        return env
    close_all([env])
    return make(env_id, episode_limit=episode_limit, **(kwargs | {"render_mode": "rgb_array"}))


def _from_attribute(
    env_id: str, constructor: object, episode_limit: int | None, kwargs: dict[str, Any]
) -> Environment:
    if not callable(constructor):
        given = f"a {type(constructor).__name__}"
        raise EnvError(f"'{env_id}' is {given}: want a class or a function that makes an environment")
    made = constructed(env_id, constructor, kwargs, [constructor])
    return _adapted(env_id, made, episode_limit)


def _from_module(
    env_id: str, module: ModuleType, episode_limit: int | None, kwargs: dict[str, Any]
) -> Environment:
    constructor = getattr(module, "parallel_env", None)
    if not callable(constructor):
        classes = [f"{env_id}:{name}" for name in environments_in(module)]
        hint = f"did you mean {' or '.join(classes)}?" if classes else f"want {FORMS}"
        raise EnvError(f"'{env_id}' has no parallel_env(): {hint}")
    # By custom, parallel_env(**kwargs) gives its arguments to raw_env.
    signatures = [constructor, getattr(module, "raw_env", None)]
    made = constructed(env_id, constructor, kwargs, signatures)
    return _adapted(env_id, made, episode_limit)


def _from_gymnasium(
    env_id: str, name: str, home: ModuleType | None, episode_limit: int | None, kwargs: dict[str, Any]
) -> Environment:
    limit = kwargs.get("max_episode_steps")
    if limit is not None and not (isinstance(limit, int) and (limit > 0 or limit == -1)):
        # gym.make would notice only after it had made the environment, and not close it.
        raise EnvError(f"'{env_id}': max_episode_steps: given {limit!r}, want at least 1, or -1 for no limit")
    try:
        # Gymnasium's own checker warns about rewards that are lists; `check` is stricter where it matters.
        env = gym.make(name, disable_env_checker=True, **kwargs)
    except gym.error.UnregisteredEnv as error:
        raise _unregistered(env_id, name, home) from error
    except gym.error.Error as error:
        raise EnvError(f"'{env_id}' cannot be made: {joined(error)}") from error
    except (Exception, SystemExit) as error:  # whatever a constructor raises about its arguments
        signatures, given = _of_gymnasium(name, kwargs) if isinstance(error, TypeError) else ([], {})
        raise EnvError(refused(env_id, error, signatures, given)) from error
    return _adapted(env_id, env, episode_limit)


def _unregistered(env_id: str, name: str, home: ModuleType | None) -> EnvError:
    """The error for an id that Gymnasium does not know."""
    if home is None:
        for family in FAMILIES:
            if family.bare_prefix and name.startswith(family.bare_prefix):
                return unknown(env_id, [family.home + name])
        return unknown(env_id, near(name, gym.registry))
    prefix = env_id.removesuffix(name)
    alike = near(name, [*environments_in(home), *gym.registry])
    if alike or not name.isidentifier():
        return unknown(env_id, [prefix + other for other in alike])
    has = ", ".join(environments_in(home)) or "no environment class"
    return EnvError(f"'{env_id}': the module '{home.__name__}' has no '{name}'; it has {has}")


def _adapted(env_id: str, made: Any, episode_limit: int | None) -> Environment:
    return adapted(env_id, made, partial(_adapter, episode_limit=episode_limit))


def _adapter(made: Any, *, episode_limit: int | None) -> Environment:
    """What a constructor made, as an `Environment`."""
    spec = getattr(made, "spec", None)
    if isinstance(spec, EpisodeSpec) and isinstance(made, Environment):
        limit = shortest(episode_limit, spec.episode_limit)
        return made if limit == spec.episode_limit else Shortened(made, limit)
    if isinstance(made, gym.Env):
        return GymAdapter(made, episode_limit=episode_limit)
    if hasattr(made, "agent_iter"):
        raise EnvError("given a PettingZoo AEC environment, want a ParallelEnv (aec_to_parallel makes one)")
    if hasattr(made, "possible_agents"):
        return PettingZooAdapter(made, episode_limit=episode_limit)
    if hasattr(made, "get_env_info"):
        raise EnvError("given an environment with PyMARL's methods: want `pymarl:` before its id")
    raise EnvError(
        f"given a {type(made).__name__}, want an endmark Environment with an EpisodeSpec as its spec, a "
        f"gymnasium.Env or a PettingZoo ParallelEnv"
    )


def _of_gymnasium(name: str, kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The constructor of an id that Gymnasium knows, and the arguments that it was called with."""
    spec = gym.spec(name)
    point = spec.entry_point
    constructor = load_env_creator(point) if isinstance(point, str) else point
    given = {key: value for key, value in kwargs.items() if key not in GYM_ARGUMENTS}
    return [constructor], {**spec.kwargs, **given}
