"""How long an episode can get, and which ends are only cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from endmark.envs.errors import EnvError


class OwnLimit(NamedTuple):
    """What is known of an environment that reports its own step limit as an end of the MDP.

    limit: the environment's step limit, or None where it has none.
    ended: whether the MDP is truly over. Every other end that the environment reports is a cut.
    clear: removes what the last episode left behind and the next one would depend on.
    """

    limit: Callable[[Any], int | None]
    ended: Callable[[Any], bool]
    clear: Callable[[Any], None] = lambda _: None


def _clear_players(env: Any) -> None:
    """Free the cells of the last episode's players: a reset draws free cells while they still stand there."""
    for player in env.players:
        player.position = None


# By class, since nothing in the environments' interface tells. Both say `terminated` and never `truncated`.
OWN_LIMITS = {
    # Over once no food is left.
    "lbforaging.foraging.environment.ForagingEnv": OwnLimit(
        limit=lambda env: env._max_episode_steps,
        ended=lambda env: not env.field.any(),
        clear=_clear_players,
    ),
    # The warehouse never closes: both its step limit and its limit on idle steps cut it off. 0 means none.
    "rware.warehouse.Warehouse": OwnLimit(limit=lambda env: env.max_steps or None, ended=lambda _: False),
}


def own_limit(unwrapped: object) -> OwnLimit | None:
    """The entry for this environment's class or one of its bases."""
    for base in type(unwrapped).__mro__:
        if known := OWN_LIMITS.get(f"{base.__module__}.{base.__qualname__}"):
            return known
    return None


def shortest(given: int | None, *own: int | None) -> int:
    """The limit that counts: the lowest of the one asked for and the environment's own ones."""
    if given is not None and given < 1:
        raise EnvError(f"episode limit: given {given}, want at least 1")
    known = [limit for limit in (given, *own) if limit is not None]
    if not known:
        raise EnvError(
            "the environment has no step limit of its own: set one with --episode-limit N (episode_limit=N)"
        )
    return min(known)
